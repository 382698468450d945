/* Tests of windows.c: limits that slide, names that are forgotten, many threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "model/windows.h"

static const struct window_rules two = {{{3, 1000}, {5, 10000}}, 2};

static int count(struct windows *windows, const char *name, uint64_t n, uint64_t now)
{
	return windows_count(windows, str_of(name), &two, n, false, now);
}

static void test_limits(void **state)
{
	struct windows *windows = windows_new(100);
	(void)state;
	for (int i = 0; i < 3; i++)
		assert_int_equal(count(windows, "bob", 1, 5000), -1);
	assert_int_equal(count(windows, "bob", 1, 5000), 0);
	assert_int_equal(count(windows, "eve", 1, 5000), -1);
	/* Each counts for a second, and a hundredth more at most; then the other limit is in the way. */
	assert_int_equal(count(windows, "bob", 1, 5999), 0);
	assert_int_equal(count(windows, "bob", 2, 6011), -1);
	assert_int_equal(count(windows, "bob", 1, 7100), 1);
	assert_int_equal(count(windows, "bob", 1, 14999), 1);
	assert_int_equal(count(windows, "bob", 3, 15011), -1);
	assert_int_equal(count(windows, "bob", 1, 15011), 0);
	windows_release(windows);
}

/* It slides: at no time are there more within a window than may be. */
static void test_sliding(void **state)
{
	struct windows *windows = windows_new(100);
	uint64_t times[1000];
	size_t n = 0;
	(void)state;
	for (uint64_t now = 1; now < 200000 && n < 1000; now += 37)
		if (count(windows, "bob", 1, now) < 0)
			times[n++] = now;
	assert_true(n > 90 && n <= 105);
	for (size_t i = 3; i < n; i++)
		assert_true(times[i] - times[i - 3] >= 1000);
	for (size_t i = 5; i < n; i++)
		assert_true(times[i] - times[i - 5] >= 10000);
	windows_release(windows);
}

static void test_weights_and_looks(void **state)
{
	struct windows *windows = windows_new(100);
	struct window_use uses[2];
	(void)state;
	assert_int_equal(count(windows, "bob", 4, 1000), 0);
	assert_int_equal(windows_size(windows), 0);
	assert_int_equal(count(windows, "bob", 0, 1000), -1);
	assert_int_equal(windows_size(windows), 0);
	assert_int_equal(count(windows, "bob", 2, 1000), -1);
	windows_look(windows, STR("bob"), &two, 1500, uses);
	assert_int_equal(uses[0].used, 2);
	assert_int_equal(uses[1].used, 2);
	assert_in_range(uses[0].free_ms, 2000, 2010);
	windows_look(windows, STR("bob"), &two, 2011, uses);
	assert_int_equal(uses[0].used, 0);
	assert_int_equal(uses[0].free_ms, 0);
	assert_int_equal(uses[1].used, 2);
	windows_look(windows, STR("nobody"), &two, 2011, uses);
	assert_int_equal(uses[1].used, 0);
	assert_true(windows_forget(windows, STR("bob")));
	assert_false(windows_forget(windows, STR("bob")));
	assert_int_equal(count(windows, "bob", 3, 2011), -1);
	windows_release(windows);
}

/* Who goes on although he is told no stays out, and costs no more memory for it. */
static void test_always(void **state)
{
	struct windows *windows = windows_new(100);
	struct window_use uses[2];
	uint64_t now;
	(void)state;
	for (now = 1000; now < 60000; now += 100)
		assert_int_equal(windows_count(windows, STR("bob"), &two, 1, true, now),
			now < 1300 ? -1 : 0);
	windows_look(windows, STR("bob"), &two, now, uses);
	assert_in_range(uses[1].used, 6, 20);
	assert_int_equal(count(windows, "bob", 1, now + 11000), -1);
	windows_release(windows);
}

static void test_names_are_bounded(void **state)
{
	struct windows *windows = windows_new(1000);
	char name[32];
	(void)state;
	for (int i = 0; i < 5000; i++) {
		snprintf(name, sizeof(name), "name%d", i);
		assert_int_equal(count(windows, name, 3, 1000), -1);
	}
	assert_int_equal(windows_size(windows), 1000);
	assert_int_equal(count(windows, "name4999", 1, 1000), 0);
	assert_int_equal(count(windows, "name0", 1, 1000), -1);
	/* What has nothing left goes by itself. */
	for (int i = 0; i < 1000; i++)
		count(windows, "bob", 0, 20000);
	assert_int_equal(windows_size(windows), 0);
	windows_release(windows);
}

/* A limit of millions does not take millions of marks, and still holds. */
static void test_large_limits(void **state)
{
	static const struct window_rules large = {{{1000, 100}, {1000000, 100000000}}, 2};
	struct windows *windows = windows_new(10);
	struct window_use uses[2];
	uint64_t now = 1000;
	(void)state;
	for (int i = 0; i < 100000; i++, now += 10)
		assert_int_equal(windows_count(windows, STR("bob"), &large, 1, false, now), -1);
	windows_look(windows, STR("bob"), &large, now, uses);
	assert_int_equal(uses[1].used, 100000);
	assert_int_equal(windows_count(windows, STR("bob"), &large, 900001, false, now), 0);
	windows_release(windows);
}

static void *hammer(void *arg)
{
	struct windows *windows = arg;
	size_t allowed = 0;
	for (int i = 0; i < 20000; i++) {
		char name[16];
		snprintf(name, sizeof(name), "%d", i % 100);
		allowed += count(windows, name, 1, 1000) < 0;
	}
	windows_release(windows);
	return (void *)allowed;
}

static void test_threads(void **state)
{
	struct windows *windows = windows_new(1000);
	pthread_t threads[4];
	size_t allowed = 0;
	void *part;
	(void)state;
	for (int i = 0; i < 4; i++)
		assert_int_equal(
			pthread_create(&threads[i], NULL, hammer, windows_keep(windows)), 0);
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], &part);
		allowed += (size_t)part;
	}
	assert_int_equal(allowed, 300);
	windows_release(windows);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_sliding),
		cmocka_unit_test(test_weights_and_looks),
		cmocka_unit_test(test_always),
		cmocka_unit_test(test_names_are_bounded),
		cmocka_unit_test(test_large_limits),
		cmocka_unit_test(test_threads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
