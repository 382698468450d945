/* The daemon without threads, sockets and a real clock: the tables of one configuration, in one or several
 * workers; time that passes when it is told to; and what happened at the tables whose answers a script
 * gives. */
#ifndef TESTS_REPLAY_WORLD_H
#define TESTS_REPLAY_WORLD_H

#include "config.h"
#include "dialog.h"
#include "query.h"
#include "script.h"
#include "timer.h"

/* One worker's share of the world. */
struct stage {
	struct world *world;
	unsigned number; /* from 1 */
	struct turn turn;
	struct timers timers;
	bool woken;
	struct table_set tables;
	struct dialog_home *homes; /* by listener */
};

/* Something that happened, in the words of the step that expects it: "alias asked alice". */
struct event {
	struct str text;
	STAILQ_ENTRY(event) link;
};

/* A question that a scripted table was asked and has not answered; lives in its asker's arena. */
struct asked {
	struct query *query;
	struct stage *stage;
	struct str what; /* as the event says it */
	TAILQ_ENTRY(asked) link;
};

struct world {
	struct config config;
	struct stage stages[MAX_WORKERS];
	unsigned workers;
	STAILQ_HEAD(, event) events; /* that no step has expected yet */
	TAILQ_HEAD(, asked) waiting; /* of all tables and workers, the oldest first */
	struct arena mem;            /* lives as long as the world */
};

/* Loads the configuration with the real loader and opens its tables. A YAML without listeners gets one
 * of each protocol, called as it is. On false nothing is left. */
bool world_open(
	struct world *world, const struct yaml *yaml, unsigned workers, struct error *error);
void world_close(struct world *world); /* its clients are gone */

/* The worker that a table lives in. */
struct stage *stage_of(const struct table *table);

/* Everything that is to happen happens in a worker's turn. */
void stage_enter(struct stage *stage);
void stage_leave(struct stage *stage); /* goes on until nothing is left to do */

/* Time, with all that timers and deadlines bring. */
void world_pass(struct world *world, uint64_t ms);

void world_tell(struct world *world, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
