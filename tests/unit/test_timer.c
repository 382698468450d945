/* Tests of timer.c: order, clearing at any time, timers set and cleared by those that fire. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "model/timer.h"

enum { MANY = 500 };

static uint64_t now_ms;

static uint64_t test_clock(void)
{
	return now_ms;
}

static void wake(struct turn *turn)
{
	(void)turn;
}

struct fixture {
	struct turn turn;
	struct timers timers;
	uint64_t alarm_ms; /* when timers_run() was asked for; 0: it was not */
};

static void arm(struct timers *timers, uint64_t in_ms)
{
	struct fixture *fixture =
		(struct fixture *)(void *)((char *)timers - offsetof(struct fixture, timers));
	fixture->alarm_ms = now_ms + in_ms;
}

struct counted {
	struct timer timer;
	struct fixture *fixture;
	unsigned fired;
	uint64_t at_ms;
	struct counted *victim; /* cleared when this one fires */
	struct counted *heir;   /* set when this one fires, and due at once */
};

static int set_up(void **state)
{
	static struct fixture fixture;
	now_ms = 1000;
	fixture = (struct fixture){0};
	turn_init(&fixture.turn, wake);
	fixture.turn.clock = test_clock;
	fixture.turn.now_ms = now_ms;
	timers_init(&fixture.timers, &fixture.turn, arm);
	*state = &fixture;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;
	timers_free(&fixture->timers);
	return 0;
}

static void set(struct fixture *fixture, struct counted *counted, uint64_t due_ms);

static void on_fired(struct timer *timer)
{
	struct counted *counted = (struct counted *)(void *)timer;
	assert_true(counted->fixture->turn.entered);
	assert_null(timer->timers);
	assert_true(timer->due_ms <= now_ms);
	counted->fired++;
	counted->at_ms = now_ms;
	if (counted->victim)
		timer_clear(&counted->victim->timer);
	if (counted->heir)
		set(counted->fixture, counted->heir, now_ms);
}

static void set(struct fixture *fixture, struct counted *counted, uint64_t due_ms)
{
	counted->fixture = fixture;
	timer_set(&fixture->timers, &counted->timer, due_ms, on_fired);
}

/* Lets so much time pass; timers run when they have asked for it, and only then. */
static void pass(struct fixture *fixture, unsigned ms)
{
	for (; ms > 0; ms--) {
		now_ms++;
		if (fixture->alarm_ms == 0 || fixture->alarm_ms > now_ms)
			continue;
		fixture->alarm_ms = 0;
		turn_enter(&fixture->turn);
		timers_run(&fixture->timers);
		turn_leave(&fixture->turn);
	}
}

static void each_fires_once_and_in_order(void **state)
{
	struct fixture *fixture = *state;
	struct counted first = {0}, second = {0}, past = {0};
	set(fixture, &second, now_ms + 20);
	set(fixture, &first, now_ms + 5);
	set(fixture, &past, now_ms - 5);
	assert_int_equal(past.fired, 0); /* not at once */
	pass(fixture, 10);
	assert_int_equal(past.fired, 1);
	assert_int_equal(first.fired, 1);
	assert_int_equal(second.fired, 0);
	pass(fixture, 40);
	assert_int_equal(first.fired + second.fired + past.fired, 3);
}

static void cleared_ones_do_not_fire(void **state)
{
	struct fixture *fixture = *state;
	struct counted a = {0}, b = {0};
	timer_clear(&a.timer);
	set(fixture, &a, now_ms + 5);
	set(fixture, &b, now_ms + 5);
	timer_clear(&a.timer);
	timer_clear(&a.timer);
	pass(fixture, 20);
	assert_int_equal(a.fired, 0);
	assert_int_equal(b.fired, 1);
	set(fixture, &a, now_ms + 5);
	pass(fixture, 20);
	assert_int_equal(a.fired, 1);
}

/* Two are due together: the first clears the second. */
static void one_that_fires_may_clear_another(void **state)
{
	struct fixture *fixture = *state;
	struct counted victim = {0}, killer = {.victim = &victim};
	set(fixture, &killer, now_ms + 1);
	set(fixture, &victim, now_ms + 2);
	now_ms += 5;
	pass(fixture, 20);
	assert_int_equal(killer.fired, 1);
	assert_int_equal(victim.fired, 0);
}

/* Or one that sets itself again would never let go. */
static void one_that_is_set_meanwhile_waits(void **state)
{
	struct fixture *fixture = *state;
	struct counted heir = {0}, first = {.heir = &heir};
	set(fixture, &first, now_ms);
	turn_enter(&fixture->turn);
	timers_run(&fixture->timers);
	turn_leave(&fixture->turn);
	assert_int_equal(first.fired, 1);
	assert_int_equal(heir.fired, 0);
	pass(fixture, 1);
	assert_int_equal(heir.fired, 1);
}

static void many_in_any_order(void **state)
{
	struct fixture *fixture = *state;
	struct counted *all = calloc(MANY, sizeof(*all));
	unsigned seed = 1, cleared = 0;
	uint64_t start = now_ms;
	assert_non_null(all);
	for (unsigned i = 0; i < MANY; i++) {
		seed = seed * 1103515245 + 12345;
		set(fixture, &all[i], start + seed / 65536 % 50);
	}
	for (unsigned i = 0; i < MANY; i += 3, cleared++)
		timer_clear(&all[i].timer);
	pass(fixture, 200);
	for (unsigned i = 0; i < MANY; i++) {
		assert_int_equal(all[i].fired, i % 3 != 0);
		uint64_t due = all[i].timer.due_ms > start ? all[i].timer.due_ms : start + 1;
		assert_true(i % 3 == 0 || all[i].at_ms == due);
	}
	free(all);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(each_fires_once_and_in_order),
		TEST(cleared_ones_do_not_fire),
		TEST(one_that_fires_may_clear_another),
		TEST(one_that_is_set_meanwhile_waits),
		TEST(many_in_any_order),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
