/* One client: reads, its codec, its questions under way, writes. */
#ifndef MAPMUX_CONN_H
#define MAPMUX_CONN_H

#include <stdatomic.h>
#include <sys/queue.h>

#include "config.h"
#include "worker.h"

struct conn;
struct event;
struct slot;

/* The connections of one listener in one worker, and what they share. Used by the worker's thread;
 * the counters are read by any. */
struct conn_group {
	struct worker *worker;
	const struct listen_conf *conf;
	struct table_set *tables; /* of the same configuration */
	const char *name;         /* protocol and address, for the log */
	TAILQ_HEAD(, conn) conns; /* the longest idle first */
	SLIST_HEAD(, slot) spare; /* question slots to use again */
	unsigned nspare;
	struct buf spare_out; /* output memory to use again */
	struct event *idle;   /* closes who is idle too long */
	int64_t idle_timeout; /* ms; 0: never */
	bool draining;
	_Atomic uint64_t accepted; /* connections ever */
	_Atomic uint64_t refused;  /* requests that were answered with the protocol's error */
	_Atomic uint64_t broken;   /* connections closed for what they sent */
	_Atomic unsigned open;     /* connections now */
	struct log_limit complaints;
};

/* On the worker's thread, or while it does not run. */
void conn_group_open(
	struct conn_group *group, struct worker *worker, const struct listen_conf *conf);
void conn_group_close(struct conn_group *group); /* frees the connections that are left */

/* On the worker's thread, in a turn: from now on requests meet these settings and the worker's current
 * tables. Those under way go on with the tables they have. */
void conn_group_reload(struct conn_group *group, const struct listen_conf *conf);

/* On the worker's thread, in a turn: takes the connected descriptor, which is non-blocking and
 * close-on-exec, and was counted by worker_count(). */
void conn_new(struct conn_group *group, int fd);

/* On the worker's thread: no further questions. Who has none under way is closed; the others after
 * their last answer. */
void conn_group_drain(struct conn_group *group);

#endif
