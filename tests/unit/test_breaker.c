/* Tests of breaker.c: when it opens, the one probe, when it closes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "model/breaker.h"

static const struct breaker_rules rules = {.failures = 3, .cooldown_ms = 100};

/* Opened at 1000. */
static struct breaker opened(void)
{
	struct breaker breaker = {0};
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(breaker_enter(&breaker, 1000), BREAKER_FREE);
		assert_int_equal(breaker_failed(&breaker, &rules, BREAKER_FREE, 1000), i == 2);
	}
	assert_true(breaker_is_open(&breaker));
	return breaker;
}

static void failures_in_a_row_open_it(void **state)
{
	struct breaker breaker = {0};
	(void)state;
	for (unsigned i = 0; i < 20; i++) { /* never three in a row */
		assert_false(breaker_failed(&breaker, &rules, BREAKER_FREE, 1000));
		assert_false(breaker_failed(&breaker, &rules, BREAKER_FREE, 1000));
		assert_int_equal(breaker_enter(&breaker, 1000), BREAKER_FREE);
		assert_false(breaker_succeeded(&breaker));
	}
	opened();
}

static void open_refuses_until_the_cooldown_is_over(void **state)
{
	struct breaker breaker = opened();
	(void)state;
	for (uint64_t now = 1000; now < 1100; now++) {
		assert_true(breaker_refuses(&breaker, now));
		assert_int_equal(breaker_enter(&breaker, now), BREAKER_REFUSED);
	}
	assert_false(breaker_refuses(&breaker, 1100));
}

static void one_probe_at_a_time(void **state)
{
	struct breaker breaker = opened();
	(void)state;
	assert_int_equal(breaker_enter(&breaker, 1100), BREAKER_PROBE);
	assert_true(breaker_is_open(&breaker));
	assert_int_equal(breaker_enter(&breaker, 1100), BREAKER_REFUSED);
	assert_int_equal(breaker_enter(&breaker, 999999), BREAKER_REFUSED);
	breaker_left(&breaker, BREAKER_REFUSED); /* somebody else's leaving is nothing to it */
	assert_int_equal(breaker_enter(&breaker, 1100), BREAKER_REFUSED);
	breaker_left(&breaker, BREAKER_PROBE);
	assert_int_equal(breaker_enter(&breaker, 1101), BREAKER_PROBE);
}

static void a_probe_decides(void **state)
{
	struct breaker breaker = opened();
	(void)state;
	assert_int_equal(breaker_enter(&breaker, 1150), BREAKER_PROBE);
	assert_false(breaker_failed(&breaker, &rules, BREAKER_PROBE, 1200)); /* it was open */
	assert_int_equal(breaker_enter(&breaker, 1299), BREAKER_REFUSED);
	assert_int_equal(breaker_enter(&breaker, 1300), BREAKER_PROBE);
	assert_true(breaker_succeeded(&breaker));
	assert_false(breaker_is_open(&breaker));
	assert_int_equal(breaker_enter(&breaker, 1301), BREAKER_FREE);
	assert_false(breaker_failed(&breaker, &rules, BREAKER_FREE, 1302)); /* counts anew */
	assert_false(breaker_failed(&breaker, &rules, BREAKER_FREE, 1302));
	assert_true(breaker_failed(&breaker, &rules, BREAKER_FREE, 1302));
}

/* They were asked before it opened, or in spite of it. */
static void others_do_not_prolong_it(void **state)
{
	struct breaker breaker = opened();
	(void)state;
	assert_false(breaker_failed(&breaker, &rules, BREAKER_FREE, 1090));
	assert_false(breaker_failed(&breaker, &rules, BREAKER_REFUSED, 1090));
	assert_int_equal(breaker_enter(&breaker, 1100), BREAKER_PROBE);
	assert_false(breaker_failed(&breaker, &rules, BREAKER_FREE, 1110));
	assert_int_equal(breaker_enter(&breaker, 1120), BREAKER_REFUSED); /* the probe runs */
	assert_true(breaker_succeeded(&breaker)); /* but who gets an answer, got one */
	assert_int_equal(breaker_enter(&breaker, 1130), BREAKER_FREE);
}

static void one_failure_may_be_enough(void **state)
{
	const struct breaker_rules strict = {.failures = 1, .cooldown_ms = 5};
	struct breaker breaker = {0};
	(void)state;
	assert_true(breaker_failed(&breaker, &strict, BREAKER_FREE, 0));
	assert_int_equal(breaker_enter(&breaker, 4), BREAKER_REFUSED);
	assert_int_equal(breaker_enter(&breaker, 5), BREAKER_PROBE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(failures_in_a_row_open_it),
		cmocka_unit_test(open_refuses_until_the_cooldown_is_over),
		cmocka_unit_test(one_probe_at_a_time),
		cmocka_unit_test(a_probe_decides),
		cmocka_unit_test(others_do_not_prolong_it),
		cmocka_unit_test(one_failure_may_be_enough),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
