/* Engine: host names to addresses by the system's resolver, which blocks a thread of its own. */
#ifndef MAPMUX_NAMES_H
#define MAPMUX_NAMES_H

struct addrinfo;
struct event_base;
struct names_ask;

/* done() is called once from the loop, never from here; `found` is its own then, for
 * freeaddrinfo(). NULL with `why` when there is none. The ask is gone when it is called. */
struct names_ask *names_start(struct event_base *base, const char *host, const char *port,
	void (*done)(void *arg, struct addrinfo *found, const char *why), void *arg);

/* done() will not be called. */
void names_cancel(struct names_ask *ask);

#endif
