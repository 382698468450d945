/* Engine: host names to addresses by the system's resolver, which blocks a thread of its own. */
#include "engine/names.h"

#include <event2/event.h>
#include <event2/event_struct.h>
#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/arena.h"

/* Shared with the thread; the last one frees it: nobody can hurry getaddrinfo(). */
struct names_ask {
	_Atomic unsigned refs;
	int bell; /* eventfd: the thread has written what follows */
	int code;
	struct addrinfo *found;
	struct arena mem;
	const char *host, *port;

	struct event rung; /* the loop's, like the rest */
	void (*done)(void *, struct addrinfo *, const char *);
	void *arg;
};

static void release(struct names_ask *ask)
{
	if (atomic_fetch_sub(&ask->refs, 1) > 1)
		return;
	if (ask->found)
		freeaddrinfo(ask->found);
	if (ask->bell >= 0)
		close(ask->bell);
	arena_clear(&ask->mem);
	free(ask);
}

static void *run(void *arg)
{
	struct names_ask *ask = arg;
	uint64_t one = 1;
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
	ask->code = getaddrinfo(ask->host, ask->port, &hints, &ask->found);
	if (ask->code == EAI_BADFLAGS || ask->code == EAI_NONAME || ask->code == EAI_ADDRFAMILY) {
		/* Loopback addresses alone are no configured ones to AI_ADDRCONFIG. */
		const struct addrinfo any = {.ai_socktype = SOCK_STREAM};
		ask->code = getaddrinfo(ask->host, ask->port, &any, &ask->found);
	}
	if (ask->code != 0)
		ask->found = NULL;
	if (write(ask->bell, &one, sizeof(one)) < 0) {
		/* Impossible: the counter is 0. */
	}
	release(ask);
	return NULL;
}

static void on_rung(evutil_socket_t fd, short what, void *arg)
{
	struct names_ask *ask = arg;
	uint64_t rings;
	(void)what;
	if (fd >= 0 && read(fd, &rings, sizeof(rings)) < 0)
		return;
	struct addrinfo *found = ask->found;
	ask->found = NULL;
	event_del(&ask->rung);
	ask->done(ask->arg, found, ask->code ? gai_strerror(ask->code) : "it has no address");
	release(ask);
}

/* False when the system has no thread or no descriptor. */
static bool start_thread(struct names_ask *ask)
{
	pthread_t thread;
	pthread_attr_t attr;
	if (ask->bell < 0)
		return false;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	bool ok = pthread_create(&thread, &attr, run, ask) == 0;
	pthread_attr_destroy(&attr);
	return ok;
}

struct names_ask *names_start(struct event_base *base, const char *host, const char *port,
	void (*done)(void *arg, struct addrinfo *found, const char *why), void *arg)
{
	struct names_ask *ask = memory_new(sizeof(*ask));
	ask->refs = 2;
	ask->bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	ask->host = arena_str(&ask->mem, str_of(host)).ptr;
	ask->port = arena_str(&ask->mem, str_of(port)).ptr;
	ask->done = done;
	ask->arg = arg;
	event_assign(&ask->rung, base, ask->bell, EV_READ, on_rung, ask);
	if (start_thread(ask)) {
		event_add(&ask->rung, NULL);
		return ask;
	}
	struct timeval now = {0, 0};
	ask->refs = 1;
	ask->code = EAI_AGAIN;
	event_assign(&ask->rung, base, -1, 0, on_rung, ask);
	event_add(&ask->rung, &now);
	return ask;
}

void names_cancel(struct names_ask *ask)
{
	event_del(&ask->rung);
	release(ask);
}
