/* Byte slices: every function at its edges. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/str.h"

static void assert_str(struct str s, const char *want)
{
	assert_int_equal(s.len, strlen(want));
	assert_memory_equal(s.ptr, want, s.len);
}

static void makes_views(void **state)
{
	(void)state;
	assert_str(str_of("abc"), "abc");
	assert_int_equal(str_of(NULL).len, 0);
	assert_str(STR("ab"), "ab");
	assert_str(str_skip(STR("abc"), 2), "c");
	assert_int_equal(str_skip((struct str){0}, 0).len, 0);
}

static void compares(void **state)
{
	(void)state;
	assert_true(str_eq(STR("ab"), str_of("ab")));
	assert_false(str_eq(STR("ab"), STR("abc")));
	assert_true(str_eq((struct str){0}, STR("")));
	assert_true(str_starts(STR("abc"), STR("ab")));
	assert_true(str_starts(STR("abc"), (struct str){0}));
	assert_false(str_starts(STR("a"), STR("ab")));
	assert_true(str_has(STR("a\0b"), '\0'));
	assert_false(str_has((struct str){0}, 'a'));
	assert_true(str_cmp(STR("a"), STR("b")) < 0);
	assert_true(str_cmp(STR("b"), STR("a")) > 0);
	assert_true(str_cmp(STR("a"), STR("ab")) < 0);
	assert_true(str_cmp(STR("ab"), STR("a")) > 0);
	assert_int_equal(str_cmp((struct str){0}, STR("")), 0);
	assert_true(str_cmp(STR("\xff"), STR("a")) > 0); /* as unsigned bytes */
}

static void cuts(void **state)
{
	struct str rest = STR("a=b=c"), head;
	(void)state;
	assert_true(str_cut(&rest, '=', &head));
	assert_str(head, "a");
	assert_str(rest, "b=c");
	assert_true(str_cut(&rest, '=', &head));
	assert_false(str_cut(&rest, '=', &head));
	assert_str(head, "c");
	assert_int_equal(rest.len, 0);
	rest = (struct str){0};
	assert_false(str_cut(&rest, '=', &head));
	assert_int_equal(head.len, 0);
	rest = STR("=");
	assert_true(str_cut(&rest, '=', &head));
	assert_int_equal(head.len + rest.len, 0);
}

static void finds_words(void **state)
{
	struct str rest = STR(" \tone two\r\n"), word;
	(void)state;
	assert_true(str_word(&rest, &word));
	assert_str(word, "one");
	assert_true(str_word(&rest, &word));
	assert_str(word, "two");
	assert_false(str_word(&rest, &word));
	rest = (struct str){0};
	assert_false(str_word(&rest, &word));
	assert_str(str_trim(STR(" \r\n\ta b \n")), "a b");
	assert_int_equal(str_trim(STR(" \t ")).len, 0);
	assert_int_equal(str_trim((struct str){0}).len, 0);
}

static void reads_numbers(void **state)
{
	uint64_t u = 7;
	int64_t i = 7;
	(void)state;
	assert_true(str_u64(STR("0"), &u) && u == 0);
	assert_true(str_u64(STR("0018446744073709551615"), &u) && u == UINT64_MAX);
	assert_false(str_u64(STR("18446744073709551616"), &u));
	assert_false(str_u64(STR("99999999999999999999"), &u));
	const char *wrong[] = {"", " 1", "1 ", "+1", "-1", "1a", "0x1", "\xd9\xa1"};
	for (size_t n = 0; n < sizeof(wrong) / sizeof(wrong[0]); n++)
		assert_false(str_u64(str_of(wrong[n]), &u));
	assert_true(str_i64(STR("-9223372036854775808"), &i) && i == INT64_MIN);
	assert_true(str_i64(STR("9223372036854775807"), &i) && i == INT64_MAX);
	assert_true(str_i64(STR("-0"), &i) && i == 0);
	assert_false(str_i64(STR("9223372036854775808"), &i));
	assert_false(str_i64(STR("-9223372036854775809"), &i));
	assert_false(str_i64(STR("--1"), &i));
	assert_false(str_i64(STR("-"), &i));
}

static void hashes(void **state)
{
	(void)state;
	assert_int_equal(str_hash((struct str){0}), 2166136261u); /* FNV-1a's published values */
	assert_int_equal(str_hash(STR("a")), 0xe40c292cu);
	assert_int_equal(str_hash(STR("foobar")), 0xbf9cf968u);
}

static void is_a_line(void **state)
{
	char text[200];
	(void)state;
	assert_true(str_is_line(STR("")));
	assert_true(str_is_line(STR("a\tb \v\x7f\xff")));
	memset(text, 'x', sizeof(text));
	for (size_t len = 1; len <= sizeof(text); len += 9)
		for (size_t at = 0; at < len; at++)
			for (int bad = 0; bad < 3; bad++) {
				text[at] = "\n\r\0"[bad];
				assert_false(str_is_line((struct str){text, len}));
				text[at] = 'x';
				assert_true(str_is_line((struct str){text, len}));
			}
}

static void assert_decoded(const char *coded, const char *expected, size_t len)
{
	char to[32];
	struct str text;
	assert_true(str_percent_decode(str_of(coded), to, &text));
	assert_int_equal(text.len, len);
	assert_memory_equal(text.ptr, expected, len);
}

static void decodes_percents(void **state)
{
	char in_place[] = "%61%62c";
	struct str text;
	(void)state;
	assert_decoded("", "", 0);
	assert_decoded("plain", "plain", 5);
	assert_decoded("a%20b%2Bc%2bd", "a b+c+d", 7);
	assert_decoded("%25%00%fF", "%\0\xff", 3);
	assert_true(str_percent_decode(str_of(in_place), in_place, &text));
	assert_true(str_eq(text, STR("abc")));
	for (int i = 0; i < 7; i++) {
		static const char *const bad[] = {"%", "%4", "a%", "%g1", "%1g", "% 1", "%%41"};
		char to[8];
		assert_false(str_percent_decode(str_of(bad[i]), to, &text));
	}
}

static void test_pairs(void **state)
{
	static const struct pair pairs[] = {
		{STR("a"), STR("1")}, {STR("b"), STR("2")}, {STR("a"), STR("3")}};
	(void)state;
	assert_ptr_equal(pair_find(pairs, 3, STR("a")), &pairs[0]);
	assert_ptr_equal(pair_find(pairs, 3, STR("b")), &pairs[1]);
	assert_null(pair_find(pairs, 1, STR("b")));
	assert_null(pair_find(NULL, 0, STR("")));
}

static void test_control(void **state)
{
	static const char *const with[] = {"\t", "a\n", "\x7f", "x\x1fy"};
	(void)state;
	for (size_t i = 0; i < sizeof(with) / sizeof(*with); i++)
		assert_true(str_has_control(str_of(with[i])));
	assert_true(str_has_control((struct str){"\0", 1}));
	assert_false(str_has_control(STR("")));
	assert_false(str_has_control(STR(" a~\xc3\xbc")));
}

static void test_secrets(void **state)
{
	(void)state;
	assert_true(str_eq_secret(STR("abc"), STR("abc")));
	assert_true(str_eq_secret(STR(""), STR("")));
	assert_false(str_eq_secret(STR("abc"), STR("abd")));
	assert_false(str_eq_secret(STR("abc"), STR("xbc")));
	assert_false(str_eq_secret(STR("abc"), STR("ab")));
	assert_false(str_eq_secret(STR("abc"), STR("abcabc")));
	assert_false(str_eq_secret(STR("abc"), STR("")));
	assert_false(str_eq_secret(STR(""), STR("abc")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(makes_views),
		cmocka_unit_test(compares),
		cmocka_unit_test(cuts),
		cmocka_unit_test(is_a_line),
		cmocka_unit_test(decodes_percents),
		cmocka_unit_test(finds_words),
		cmocka_unit_test(reads_numbers),
		cmocka_unit_test(hashes),
		cmocka_unit_test(test_pairs),
		cmocka_unit_test(test_control),
		cmocka_unit_test(test_secrets),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
