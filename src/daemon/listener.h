/* Listening sockets: unix, TCP and inherited; accept, and hand over to the least loaded worker. */
#ifndef MAPMUX_LISTENER_H
#define MAPMUX_LISTENER_H

#include "config/config.h"
#include "engine/crew.h"

struct listener;

/* Binds and listens. A unix socket's file is taken over only when nobody answers on it. NULL with
 * an error that names the address. Control thread. */
struct listener *listener_open(const struct listen_conf *conf, struct error *error);

/* Another protocol for the sockets of `old`, which goes on until it is drained; the file stays its own
 * until listener_take_file(). */
struct listener *listener_succeed(const struct listener *old, const struct listen_conf *conf);
void listener_take_file(struct listener *listener, struct listener *old);

/* What it listens by: the newest of a reload. */
const struct listen_conf *listener_conf(const struct listener *listener);

/* The name of its unix socket's file is gone, or leads to another's: nobody can connect any more. */
bool listener_is_lost(const struct listener *listener);

/* Gives a unix socket's file the owner and the mode that `to` says, where they differ from those of
 * `from`. On false they are as before. */
bool listener_change_file(const struct listener *listener, const struct listen_conf *from,
	const struct listen_conf *to, struct error *error);

/* Control thread, workers running: connections are accepted by the worker `home` of the crew and
 * belong to whichever has the fewest. */
void listener_start(struct listener *listener, struct crew *crew, size_t home);

/* In the worker of that index, in a turn: new settings of the same protocol and address. */
void listener_reload(struct listener *listener, size_t index, const struct listen_conf *conf);

/* Control thread, workers running: no more connections, and those that are idle are closed. When this
 * returns, all that were accepted are known to listener_connections(). */
void listener_drain(struct listener *listener);

/* The same, for one that is not to come back: its file goes at once. */
void listener_retire(struct listener *listener);

/* Control thread, workers running, drained: whoever is left is cut off. Then it can be closed. */
void listener_stop(struct listener *listener);

/* Any thread: connections now, and the counters as one line of text. */
unsigned listener_connections(const struct listener *listener);
struct str listener_summary(const struct listener *listener, struct arena *mem);

/* Never started, stopped, or no worker runs any more: closes what is left and removes the socket's
 * file. */
void listener_close(struct listener *listener);

#endif
