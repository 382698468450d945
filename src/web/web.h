/* An http listener: metrics, health, and questions over HTTP. It lives on one worker's loop, where
 * libevent's evhttp accepts, reads and writes for it. */
#ifndef MAPMUX_WEB_H
#define MAPMUX_WEB_H

#include "config/config.h"
#include "engine/crew.h"

struct web;

/* On the thread of its home, a worker of the crew, in a turn. `name` and `failures` (of authentications) are
 * used as long as it lives; the listening descriptor stays the caller's. */
struct web *web_open(struct crew *crew, struct worker *home, const struct listen_conf *conf,
	const char *name, struct windows *failures);
void web_listen(struct web *web, int fd);

/* The same thread: new settings, and the worker's current tables. */
void web_reload(struct web *web, const struct listen_conf *conf);

/* The same thread: no more connections. Their descriptors can be closed. */
void web_deafen(struct web *web);

/* The same thread: idle connections end; the others after their answer. */
void web_drain(struct web *web);

/* The same thread, or when no worker runs any more: whoever is left is cut off. */
void web_close(struct web *web);

/* Any thread. */
unsigned web_connections(const struct web *web);
struct str web_summary(const struct web *web, struct arena *mem);

#endif
