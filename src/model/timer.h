/* Timers on a turn's clock. Pure: whoever owns the turn wakes it in time. */
#ifndef MAPMUX_TIMER_H
#define MAPMUX_TIMER_H

#include <stddef.h>

#include "model/turn.h"

/* Embedded in its owner; zeroed memory is idle. */
struct timer {
	void (*fired)(struct timer *); /* in a turn, once; the timer is idle again */
	uint64_t due_ms;               /* on the turn's clock */

	struct timers *timers; /* timer.c's, from here on; NULL: idle */
	size_t place;
};

/* One for each turn: turn->timers. */
struct timers {
	struct turn *turn;
	/* Asks for timers_run() in so many ms. Only ever asked to come earlier than before: a call that
	 * finds nothing due does no harm. */
	void (*arm)(struct timers *timers, uint64_t in_ms);

	uint64_t armed_ms; /* timer.c's, from here on: when timers_run() is expected; 0: never */
	struct timer **heap;
	size_t n, room;
};

void timers_init(
	struct timers *timers, struct turn *turn, void (*arm)(struct timers *, uint64_t in_ms));
void timers_free(struct timers *timers); /* none is set */

/* In a turn: fires those that are due. What they set waits for the next call. */
void timers_run(struct timers *timers);

/* Of an idle timer. It fires in another turn, even when it is due already. */
void timer_set(
	struct timers *timers, struct timer *timer, uint64_t due_ms, void (*fired)(struct timer *));

/* At any time: idle or set. */
void timer_clear(struct timer *timer);

#endif
