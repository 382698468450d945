/* Engine: many timers on one of a worker's loop. A heap: setting and clearing cost no allocation and
 * few comparisons, and the loop is only told of the earliest. */
#include "timer.h"

#include <assert.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdlib.h>

#include "arena.h"

struct timers {
	struct event_base *base;
	struct turn *turn;
	struct event event;
	uint64_t armed_ms; /* when the event fires; 0: it does not */
	struct timer **heap;
	size_t n, room;
};

static void put(struct timers *timers, size_t place, struct timer *timer)
{
	timers->heap[place] = timer;
	timer->place = place;
}

static void move_up(struct timers *timers, struct timer *timer)
{
	size_t place = timer->place;
	while (place > 0 && timers->heap[(place - 1) / 2]->due_ms > timer->due_ms) {
		put(timers, place, timers->heap[(place - 1) / 2]);
		place = (place - 1) / 2;
	}
	put(timers, place, timer);
}

static void move_down(struct timers *timers, struct timer *timer)
{
	size_t place = timer->place, child;
	while ((child = 2 * place + 1) < timers->n) {
		if (child + 1 < timers->n &&
			timers->heap[child + 1]->due_ms < timers->heap[child]->due_ms)
			child++;
		if (timers->heap[child]->due_ms >= timer->due_ms)
			break;
		put(timers, place, timers->heap[child]);
		place = child;
	}
	put(timers, place, timer);
}

/* An event that fires too early finds nothing due; so it is only ever set forward. */
static void arm(struct timers *timers)
{
	if (timers->n == 0)
		return;
	uint64_t due = timers->heap[0]->due_ms, now = timers->turn->now_ms;
	if (timers->armed_ms != 0 && timers->armed_ms <= due)
		return;
	uint64_t left = due > now ? due - now : 0;
	struct timeval in = {(time_t)(left / 1000), (suseconds_t)(left % 1000 * 1000)};
	timers->armed_ms = due > 0 ? due : 1;
	evtimer_add(&timers->event, &in);
}

/* Those that are set meanwhile wait for the next time. */
static void on_event(evutil_socket_t fd, short what, void *arg)
{
	struct timers *timers = arg;
	(void)fd;
	(void)what;
	turn_enter(timers->turn);
	timers->armed_ms = 0;
	uint64_t now = timers->turn->now_ms;
	for (size_t most = timers->n; most > 0 && timers->n > 0; most--) {
		struct timer *timer = timers->heap[0];
		if (timer->due_ms > now)
			break;
		timer_clear(timer);
		timer->fired(timer);
	}
	arm(timers);
	turn_leave(timers->turn);
}

struct timers *timers_new(struct event_base *base, struct turn *turn)
{
	struct timers *timers = memory_new(sizeof(*timers));
	timers->base = base;
	timers->turn = turn;
	evtimer_assign(&timers->event, base, on_event, timers);
	return timers;
}

void timers_free(struct timers *timers)
{
	assert(timers->n == 0);
	evtimer_del(&timers->event);
	free(timers->heap);
	free(timers);
}

void timer_set(
	struct timers *timers, struct timer *timer, uint64_t due_ms, void (*fired)(struct timer *))
{
	assert(!timer->timers);
	if (timers->n == timers->room) {
		timers->room = timers->room > 0 ? timers->room * 2 : 16;
		timers->heap = memory_grow(timers->heap, timers->room * sizeof(struct timer *));
	}
	timer->timers = timers;
	timer->due_ms = due_ms;
	timer->fired = fired;
	timer->place = timers->n++;
	move_up(timers, timer);
	arm(timers);
}

void timer_clear(struct timer *timer)
{
	struct timers *timers = timer->timers;
	if (!timers)
		return;
	timer->timers = NULL;
	struct timer *last = timers->heap[--timers->n];
	if (last == timer)
		return;
	put(timers, timer->place, last);
	move_up(timers, last);
	move_down(timers, last);
}
