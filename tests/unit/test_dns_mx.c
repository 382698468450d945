/* The dns-mx backend's pure parts: its memory, its settings. */
#include "tables.h"

#include "../../backends/list.h"
#include "../../backends/mx_cache.h"

static void put(struct mx_cache *cache, const char *domain, bool ours, unsigned ttl)
{
	mx_cache_put(cache, str_of(domain), ours, ttl, stand_now);
}

/* "ours 5", "not 5", "unknown". */
#define assert_known(cache, domain, expected)                                                      \
	do {                                                                                       \
		char text[32] = "unknown";                                                         \
		bool ours;                                                                         \
		unsigned ttl;                                                                      \
		if (mx_cache_find((cache), str_of(domain), stand_now, &ours, &ttl))                \
			snprintf(text, sizeof(text), "%s %u", ours ? "ours" : "not", ttl);         \
		assert_string_equal(text, (expected));                                             \
	} while (0)

static void test_kept_until_it_expires(void **state)
{
	struct mx_cache *cache = mx_cache_new(10);
	(void)state;
	put(cache, "a.test", true, 5);
	put(cache, "b.test", false, 2);
	put(cache, "c.test", true, 0);
	assert_known(cache, "a.test", "ours 5");
	assert_known(cache, "b.test", "not 2");
	assert_known(cache, "c.test", "unknown");
	assert_known(cache, "", "unknown");
	stand_now += 1999;
	assert_known(cache, "b.test", "not 1");
	stand_now += 1;
	assert_known(cache, "b.test", "unknown");
	assert_known(cache, "a.test", "ours 3");
	assert_int_equal(mx_cache_count(cache), 1);
	put(cache, "a.test", false, 9);
	assert_known(cache, "a.test", "not 9");
	put(cache, "a.test", false, 0);
	assert_known(cache, "a.test", "unknown");
	assert_int_equal(mx_cache_count(cache), 0);
	mx_cache_free(cache);
}

static void test_oldest_goes_first(void **state)
{
	struct mx_cache *cache = mx_cache_new(2);
	(void)state;
	put(cache, "a.test", true, 5);
	put(cache, "b.test", true, 5);
	assert_known(cache, "a.test", "ours 5");
	put(cache, "c.test", true, 5);
	assert_known(cache, "a.test", "ours 5");
	assert_known(cache, "b.test", "unknown");
	assert_known(cache, "c.test", "ours 5");
	mx_cache_free(cache);
}

static void test_bounds(void **state)
{
	struct mx_cache *none = mx_cache_new(0), *cache = mx_cache_new(1000);
	char name[400];
	(void)state;
	put(none, "a.test", true, 5);
	assert_known(none, "a.test", "unknown");
	for (unsigned i = 0; i < 5000; i++) {
		snprintf(name, sizeof(name), "d%u.test", i);
		put(cache, name, i % 2, 5);
	}
	assert_int_equal(mx_cache_count(cache), 1000);
	assert_known(cache, "d3999.test", "unknown");
	assert_known(cache, "d4000.test", "not 5");
	assert_known(cache, "d4999.test", "ours 5");
	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	put(cache, name, true, 5);
	assert_known(cache, name, "unknown");
	mx_cache_free(cache);
	mx_cache_free(none);
}

static void test_settings(void **state)
{
	static const char *const bad[][2] = {{"", "needed"}, {"192.0.2.300", "192.0.2.300"},
		{"mx.example.org a/b", "\"a/b\""}, {"-x", "\"-x\""}, {"[192.0.2.1]", "[192.0.2.1]"},
		{"1", "\"1\""}};
	struct stand stand;
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		stand_init(&stand);
		assert_false(stand_add(&stand, "mx", &backend_dns_mx, "param", bad[i][0], NULL));
		assert_non_null(strstr(stand.error.text, bad[i][1]));
		stand_close(&stand);
	}
	stand_init(&stand);
	assert_false(stand_add(
		&stand, "mx", &backend_dns_mx, "param", "a.test", "servers", "dns.test", NULL));
	assert_non_null(strstr(stand.error.text, "servers: "));
	assert_true(stand_add(&stand, "mx", &backend_dns_mx, "param",
		"MX.test. m\xc3\xbcller.test 192.0.2.1 2001:db8::1 a1.test", "servers", "::1",
		NULL));
	stand_close(&stand);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kept_until_it_expires),
		cmocka_unit_test(test_oldest_goes_first),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_settings),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
