/* Many descriptors of a worker as one event of its loop. The loop's own way to a callback costs more
 * instructions than a lookup; this one costs a few, and one turn serves all that is ready. */
#ifndef MAPMUX_POLLER_H
#define MAPMUX_POLLER_H

#include <stdint.h>

#include "model/turn.h"

struct event_base;
struct poller; /* one for each worker */

enum { WATCH_READ = 1, WATCH_WRITE = 2 };

/* Embedded in the descriptor's owner; `fd` and `ready` are his to set, the rest is zero. */
struct watch {
	int fd;
	unsigned what; /* WATCH_..., what is waited for */
	/* In a turn; may end this watch and any other. A broken connection is both. */
	void (*ready)(struct watch *watch, unsigned what);
};

/* NULL when the system has no descriptor left. */
struct poller *poller_new(struct event_base *base, struct turn *turn);
void poller_free(struct poller *poller); /* nothing is watched */

/* Waits for WATCH_READ, WATCH_WRITE or both, again and again; 0: for nothing. No system call when
 * nothing changes. */
void poller_watch(struct poller *poller, struct watch *watch, unsigned what);

/* Closes the descriptor, which ends the watch. */
void poller_close(struct poller *poller, struct watch *watch);

#endif
