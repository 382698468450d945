/* Names for DNS: which are valid, and what is asked for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "model/domain.h"

#define X63 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

static void test_valid(void **state)
{
	static const char *const good[] = {"a", "a.b", "example.org.", "_dmarc.example.org", "1.2",
		"a-b.c--d", "A.B", "xn--mller-kva.test", X63,
		X63 "." X63 "." X63 "." X63 /* 255 */};
	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(*good) - 1; i++)
		assert_true(domain_valid(str_of(good[i])));
	assert_false(domain_valid(str_of(good[sizeof(good) / sizeof(*good) - 1])));
	assert_true(domain_valid(
		(struct str){X63 "." X63 "." X63 "." X63, 253})); /* the last one is cut */
}

static void test_invalid(void **state)
{
	static const char *const bad[] = {"", ".", "..", ".a", "a..b", "a..", "a b", "a\tb", "-a",
		"a-", "a.-b", "a.b-.c", "a/b", "a@b", "*.a", "[1]", "a:b", "\xc3\xbc", "a,b",
		X63 "x", "a\\.b", "a%b"};
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		if (domain_valid(str_of(bad[i])))
			fail_msg("\"%s\" is taken for a name", bad[i]);
	assert_false(domain_valid((struct str){"a\0b", 3}));
	assert_false(domain_valid((struct str){NULL, 0}));
}

static void test_ascii(void **state)
{
	static const char *const names[][2] = {
		{"Example.ORG.", "example.org"},
		{"_SRV._tcp.a", "_srv._tcp.a"},
		{"m\xc3\xbcller.example", "xn--mller-kva.example"},
		{"M\xc3\x9cLLER.Example.", "xn--mller-kva.example"},
		{"mu\xcc\x88ller.example", "xn--mller-kva.example"},
		{"stra\xc3\x9f"
		 "e.example",
			"xn--strae-oqa.example"},
		{"\xe6\x97\xa5\xe6\x9c\xac\xe3\x80\x82\x6a\x70", "xn--wgv71a.jp"},
		{"\xc3\xbc b.example", NULL},
		{"\xff\xfe.example", NULL},
		{"\xe2\x80\xa8.example", NULL},
		{"a..b", NULL},
	};
	struct arena mem = {0};
	struct str ascii;
	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		bool valid = domain_ascii(str_of(names[i][0]), &mem, &ascii);
		assert_int_equal(valid, names[i][1] != NULL);
		if (valid)
			assert_string_equal(ascii.ptr, names[i][1]);
	}
	assert_false(domain_ascii((struct str){"\xc3\xbc\0.a", 5}, &mem, &ascii));
	arena_clear(&mem);
}

static void test_small(void **state)
{
	static const char *const names[][2] = {
		{"Example.ORG", "example.org"},
		{"Example.ORG.", "example.org."},
		{"XN--Mller-KVA.example", "xn--mller-kva.example"},
		{"M\xc3\x9cLLER.Example", "m\xc3\xbcller.example"},
		{"m\xc3\xbcller.example", "m\xc3\xbcller.example"},
		{"mu\xcc\x88ller.example", "m\xc3\xbcller.example"},
		{"\xd0\x9c\xd0\x9e.example", "\xd0\xbc\xd0\xbe.example"},
		{"stra\xc3\x9f"
		 "e.example",
			"stra\xc3\x9f"
			"e.example"},
		{"\xc3\xbc b.example", NULL},
		{"\xff\xfe.example", NULL},
		{"a..b", NULL},
		{"", NULL},
	};
	struct arena mem = {0};
	struct str name;
	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		bool valid = domain_small(str_of(names[i][0]), &mem, &name);
		assert_int_equal(valid, names[i][1] != NULL);
		if (valid)
			assert_string_equal(arena_str(&mem, name).ptr, names[i][1]);
	}
	arena_clear(&mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_valid),
		cmocka_unit_test(test_invalid),
		cmocka_unit_test(test_ascii),
		cmocka_unit_test(test_small),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
