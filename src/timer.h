/* Engine: many timers on one of a worker's loop. */
#ifndef MAPMUX_TIMER_H
#define MAPMUX_TIMER_H

#include <stddef.h>

#include "turn.h"

struct event_base;
struct timers; /* one for each worker */

/* Embedded in its owner; zeroed memory is idle. */
struct timer {
	void (*fired)(struct timer *); /* in a turn, once; the timer is idle again */
	uint64_t due_ms;               /* on the turn's clock */

	struct timers *timers; /* the engine's own, from here on; NULL: idle */
	size_t place;
};

struct timers *timers_new(struct event_base *base, struct turn *turn);
void timers_free(struct timers *timers); /* none is set */

/* Of an idle timer. It fires in another turn, even when it is due already. */
void timer_set(
	struct timers *timers, struct timer *timer, uint64_t due_ms, void (*fired)(struct timer *));

/* At any time: idle or set. */
void timer_clear(struct timer *timer);

#endif
