/* One client's connection: a descriptor and its events around a dialog. */
#ifndef MAPMUX_CONN_H
#define MAPMUX_CONN_H

#include "conn/dialog.h"
#include "engine/worker.h"

struct conn;
struct event;

TAILQ_HEAD(conn_list, conn);

/* The connections of one listener in one worker, and what they share. Used by the worker's thread;
 * the counters are read by any. */
struct conn_group {
	struct dialog_home home;
	struct worker *worker;
	struct conn_list conns;   /* the longest idle first */
	struct conn_list crowded; /* clients too many, the longest here first */
	struct listener_stats stats;
	struct event *idle;   /* closes who is idle too long */
	int64_t idle_timeout; /* ms; 0: never */
	bool draining;
	_Atomic uint64_t accepted; /* connections ever */
	_Atomic unsigned open;     /* connections now, ... */
	_Atomic unsigned too_many; /* and among them clients too many */
};

/* On the worker's thread, or while it does not run. `name` is kept. */
void conn_group_open(struct conn_group *group, struct worker *worker,
	const struct listen_conf *conf, const char *name);
void conn_group_close(struct conn_group *group); /* frees the connections that are left */

/* On the worker's thread, in a turn: from now on requests meet these settings and the worker's current
 * tables. Those under way go on with the tables they have. */
void conn_group_reload(struct conn_group *group, const struct listen_conf *conf);

/* On the worker's thread, in a turn: takes the connected descriptor, which is non-blocking and
 * close-on-exec, and was counted by worker_count(). A client too many (`crowded`) is told TEMP when he
 * asks, and leaves. */
void conn_new(struct conn_group *group, int fd, bool crowded);

/* On the worker's thread: no further questions. Who has none under way is closed; the others after
 * their last answer. */
void conn_group_drain(struct conn_group *group);

#endif
