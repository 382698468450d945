/* All workers together: started, told, ended by the control thread. */
#ifndef MAPMUX_CREW_H
#define MAPMUX_CREW_H

#include "engine/worker.h"

struct crew {
	struct worker **workers;
	size_t n;       /* made */
	size_t running; /* the first so many have their thread */
};

/* Makes `n` workers, none of which runs yet. On false crew_close() ends those that were made. */
bool crew_open(struct crew *crew, size_t n, const struct config *config, struct error *error);
bool crew_run(struct crew *crew, struct error *error);

/* Runs `task` in each worker, on its thread and in a turn, and waits until all have: workers never
 * block. `index` is the worker's in the crew. All run. */
void crew_do(struct crew *crew, void (*task)(struct worker *, size_t index, void *), void *arg);

/* Any thread: connections that the workers have or are about to get. */
unsigned crew_load(const struct crew *crew);

/* Ends the threads; what was posted to them is opened. Then connections can be closed, and then the
 * workers. */
void crew_stop(struct crew *crew);
void crew_close(struct crew *crew);

#endif
