/* Timers on a turn's clock. A heap: setting and clearing cost no allocation and few comparisons, and
 * the loop is only told of the earliest. */
#include "model/timer.h"

#include <assert.h>
#include <stdlib.h>

#include "base/arena.h"

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

static void arm(struct timers *timers)
{
	if (timers->n == 0)
		return;
	uint64_t due = timers->heap[0]->due_ms, now = timers->turn->now_ms;
	if (timers->armed_ms != 0 && timers->armed_ms <= due)
		return;
	timers->armed_ms = due > 0 ? due : 1;
	timers->arm(timers, due > now ? due - now : 0);
}

void timers_run(struct timers *timers)
{
	uint64_t now = timers->turn->now_ms;
	timers->armed_ms = 0;
	for (size_t most = timers->n; most > 0 && timers->n > 0; most--) {
		struct timer *timer = timers->heap[0];
		if (timer->due_ms > now)
			break;
		timer_clear(timer);
		timer->fired(timer);
	}
	arm(timers);
}

void timers_init(
	struct timers *timers, struct turn *turn, void (*arm_loop)(struct timers *, uint64_t in_ms))
{
	*timers = (struct timers){.turn = turn, .arm = arm_loop};
	turn->timers = timers;
}

void timers_free(struct timers *timers)
{
	assert(timers->n == 0);
	free(timers->heap);
	*timers = (struct timers){0};
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
