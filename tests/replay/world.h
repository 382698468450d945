/* The daemon without threads, sockets and a real clock: the tables of one configuration, in one or several
 * workers; time that passes when it is told to; and what happened at the tables whose answers a script
 * gives. */
#ifndef TESTS_REPLAY_WORLD_H
#define TESTS_REPLAY_WORLD_H

#include "config/config.h"
#include "conn/dialog.h"
#include "engine/worker.h"
#include "model/query.h"
#include "model/timer.h"
#include "script.h"

/* What the daemon knows by this name, without a thread and a loop. */
struct worker {
	struct world *world;
	unsigned number; /* from 1 */
	struct turn turn;
	struct timers timers;
	STAILQ_HEAD(, letter) mail;
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
	struct worker *worker;
	struct str what; /* as the event says it */
	TAILQ_ENTRY(asked) link;
};

struct world {
	struct config config;
	struct worker crew[MAX_WORKERS];
	unsigned workers;
	struct windows **failures;   /* of authentications, by listener */
	STAILQ_HEAD(, event) events; /* that no step has expected yet */
	TAILQ_HEAD(, asked) waiting; /* of all tables and workers, the oldest first */
	struct arena mem;            /* lives as long as the world */
};

/* Loads the configuration with the real loader and opens its tables. A YAML without listeners gets one
 * of socketmap and one of dict, called as they are. On false nothing is left. */
bool world_open(
	struct world *world, const struct yaml *yaml, unsigned workers, struct error *error);
void world_close(struct world *world); /* its clients are gone */

/* Everything that is to happen happens in a worker's turn; at its end all workers go on until there is
 * nothing left to do for any. */
void worker_enter(struct worker *worker);
void worker_leave(struct worker *worker);

/* Time, with all that timers and deadlines bring. */
void world_pass(struct world *world, uint64_t ms);

void world_tell(struct world *world, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
