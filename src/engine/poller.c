/* Many descriptors of a worker as one event of its loop: an epoll within the loop's. */
#include "engine/poller.h"

#include <event2/event.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/arena.h"

enum {
	BATCH = 256,
	AGAIN = 64, /* so many served, and the loop has its turn */
};

struct poller {
	int fd;
	struct event *event;
	struct turn *turn;
	struct epoll_event ready[BATCH];
	int at, n; /* those of `ready` from `at` on are still to be told */
};

static unsigned from_epoll(uint32_t events)
{
	if (events & (EPOLLERR | EPOLLHUP))
		return WATCH_READ | WATCH_WRITE;
	return (events & EPOLLIN ? WATCH_READ : 0) | (events & EPOLLOUT ? WATCH_WRITE : 0);
}

static uint32_t to_epoll(unsigned what)
{
	return (what & WATCH_READ ? (uint32_t)EPOLLIN : 0) |
	       (what & WATCH_WRITE ? (uint32_t)EPOLLOUT : 0);
}

/* Tells who is ready; what does not fit into one batch is still ready the next time. */
static void serve(struct poller *poller)
{
	for (poller->at = 0; poller->at < poller->n;) {
		struct epoll_event *event = &poller->ready[poller->at++];
		struct watch *watch = event->data.ptr;
		if (watch)
			watch->ready(watch, from_epoll(event->events));
	}
}

/* Clients who were answered ask again while others are served: to look once more is cheaper than to go
 * round the loop, and to sleep. Not for long, as the loop has others to serve. */
static void on_ready(evutil_socket_t fd, short what, void *arg)
{
	struct poller *poller = arg;
	int served = 0;
	(void)what;
	do {
		turn_enter(poller->turn);
		poller->n = epoll_wait(fd, poller->ready, BATCH, 0);
		serve(poller);
		turn_leave(poller->turn);
		served += poller->n;
	} while (poller->n > 0 && served < AGAIN);
}

struct poller *poller_new(struct event_base *base, struct turn *turn)
{
	int fd = epoll_create1(EPOLL_CLOEXEC);
	if (fd < 0)
		return NULL;
	struct poller *poller = memory_new(sizeof(*poller));
	poller->fd = fd;
	poller->turn = turn;
	poller->event = event_new(base, fd, EV_READ | EV_PERSIST, on_ready, poller);
	event_add(poller->event, NULL);
	return poller;
}

void poller_free(struct poller *poller)
{
	event_free(poller->event);
	close(poller->fd);
	free(poller);
}

/* Its owner may go at once: it is not told of what was ready before. */
static void forget(struct poller *poller, const struct watch *watch)
{
	for (int i = poller->at; i < poller->n; i++)
		if (poller->ready[i].data.ptr == watch)
			poller->ready[i].data.ptr = NULL;
}

void poller_watch(struct poller *poller, struct watch *watch, unsigned what)
{
	if (watch->what == what)
		return;
	struct epoll_event event = {.events = to_epoll(what), .data.ptr = watch};
	int how = watch->what == 0 ? EPOLL_CTL_ADD : what == 0 ? EPOLL_CTL_DEL : EPOLL_CTL_MOD;
	epoll_ctl(poller->fd, how, watch->fd, &event);
	watch->what = what;
	if (what == 0)
		forget(poller, watch);
}

void poller_close(struct poller *poller, struct watch *watch)
{
	close(watch->fd); /* nobody else holds it: epoll forgets it too */
	watch->fd = -1;
	watch->what = 0;
	forget(poller, watch);
}
