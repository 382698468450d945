/* Listening sockets: unix, TCP and inherited; accept, and hand over to the least loaded worker. */
#ifndef MAPMUX_LISTENER_H
#define MAPMUX_LISTENER_H

#include "config.h"
#include "worker.h"

struct listener;

/* Binds and listens. A unix socket's file is taken over only when nobody answers on it. NULL with
 * an error that names the address. Control thread. */
struct listener *listener_open(const struct listen_conf *conf, struct error *error);

/* Before the workers run: connections are accepted by workers[home] and belong to whichever has the
 * fewest. */
void listener_start(struct listener *listener, struct worker **workers, size_t n, size_t home);

/* Control thread, workers running: no more connections, and those that are idle are closed. */
void listener_drain(struct listener *listener);

/* Any thread: connections now, and the counters as one line of text. */
unsigned listener_connections(const struct listener *listener);
struct str listener_summary(const struct listener *listener, struct arena *mem);

/* Workers stopped: closes what is left and removes the socket's file. */
void listener_close(struct listener *listener);

#endif
