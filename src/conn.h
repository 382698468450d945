/* One client: reads, its codec, its questions under way, their deadlines, writes. */
#ifndef MAPMUX_CONN_H
#define MAPMUX_CONN_H

#include <sys/queue.h>

#include "config.h"
#include "worker.h"

struct conn;

/* What the connections of one listener share in one worker. */
struct conn_group {
	struct worker *worker;
	const struct listen_conf *conf;
	int64_t idle_timeout; /* ms; 0: never */
	TAILQ_HEAD(, conn) conns;
	struct slot_list *slots; /* spare question slots of the worker */
	_Atomic uint64_t accepted, open, refused, broken;
	struct log_limit complaints;
};

/* Takes the connected descriptor; it is non-blocking and close-on-exec. In a turn. */
void conn_new(struct conn_group *group, int fd);

/* No more questions: closes at once when nothing is under way, else after the last answer. */
void conn_drain(struct conn *conn);

/* At once; lookups under way are cancelled. */
void conn_free(struct conn *conn);

#endif
