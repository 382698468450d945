/* Tests of siphash.c: what clients choose cannot be steered into one bucket without the key. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/siphash.h"

static const struct siphash_key key = {0x0706050403020100u, 0x0f0e0d0c0b0a0908u};

/* The published hash of nothing under the key of the bytes 0 to 15. */
static void test_vector(void **state)
{
	(void)state;
	assert_true(siphash(&key, STR("")) == UINT64_C(0xabac0158050fc4dc));
}

static void test_all_of_it_counts(void **state)
{
	static const char zeros[16];
	const struct siphash_key other = {1, 2};
	(void)state;
	assert_true(siphash(&key, (struct str){zeros, 8}) != siphash(&key, (struct str){zeros, 9}));
	assert_true(siphash(&key, STR("abcdefgh")) != siphash(&other, STR("abcdefgh")));
	assert_true(siphash(&key, STR("abcdefgh1")) != siphash(&key, STR("abcdefgh2")));
}

static void test_keys(void **state)
{
	struct siphash_key a = siphash_key_new(), b = siphash_key_new();
	(void)state;
	assert_true(a.a != b.a || a.b != b.b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vector),
		cmocka_unit_test(test_all_of_it_counts),
		cmocka_unit_test(test_keys),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
