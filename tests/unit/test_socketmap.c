/* Tests of the socketmap codec: netstrings of requests and replies, malformed ones, limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "stream_check.h"

static int set_up(void **state)
{
	(void)state;
	return check_set_up(&codec_socketmap);
}

/* Is `text` one whole netstring that starts so? */
static bool is_reply(const char *text, const char *prefix)
{
	char *colon;
	size_t n = strtoul(text, &colon, 10);
	return *colon == ':' && strlen(colon + 1) == n + 1 && colon[1 + n] == ',' &&
	       starts(colon + 1, prefix);
}

/* The last event is "refused ..." or "broken ...", the only reply starts with `prefix`. */
static void check_bad(struct str in, const char *event, const char *prefix)
{
	struct stream stream;
	struct stream_run run;
	check_play(in, 0, &stream, &run);
	if (!starts(run.events.ptr, event))
		fail_msg("%.*s: %s", (int)in.len, in.ptr, run.events.ptr);
	if (!is_reply(run.out.ptr, prefix))
		fail_msg("%.*s: %s", (int)in.len, in.ptr, run.out.ptr);
	assert_int_equal(run.messages, 0);
	assert_true(stream_same_cut_anywhere(&stream, &run));
	stream_run_free(&run);
}

#define check_broken(in) check_bad(STR(in), "broken ", "PERM ")
#define check_refused(in) check_bad(STR(in), "refused ", "PERM ")

static void requests(void **state)
{
	(void)state;
	check("9:alias a@b,", "lookup table=alias key =a@b in_order\n", "6:OK a@b,");
	check("7:alias x,7:alias y,",
		"lookup table=alias key =x in_order\nlookup table=alias key =y in_order\n",
		"4:OK x,4:OK y,");
	/* a name may be empty, a key may hold blanks, commas, colons, or nothing */
	check("2: x,", "lookup table= key =x in_order\n", "4:OK x,");
	check("2:a ,", "lookup table=a key = in_order\n", "3:OK ,");
	check("1: ,", "lookup table= key = in_order\n", "3:OK ,");
	check("10:a  b c,1:d,", "lookup table=a key = b c,1:d in_order\n", "11:OK  b c,1:d,");
	check("8:a \303\244\377\r\n\t,", "lookup table=a key =\\c3\\a4\\ff\\0d\\0a\\09 in_order\n",
		NULL);
	check("", "", "");
}

static void lengths_may_have_leading_zeros(void **state)
{
	(void)state;
	check("003:a b,", "lookup table=a key =b in_order\n", "4:OK b,");
	check("000000003:a b,", "lookup table=a key =b in_order\n", "4:OK b,");
}

static void unfinished_requests_wait(void **state)
{
	(void)state;
	check("3", "", "");
	check("3:", "", "");
	check("3:a b", "", "");
	check("3:a b,3", "lookup table=a key =b in_order\n", "4:OK b,");
}

static void replies(void **state)
{
	(void)state;
	check("6:a none,", NULL, "9:NOTFOUND ,");
	check("16:a temp try later,", NULL, "14:TEMP try later,");
	check("12:a perm wrong,", NULL, "10:PERM wrong,");
	check("7:a empty,", NULL, "3:OK ,");
	check("6:a temp,", NULL, "5:TEMP ,");
	check("13:a temp l1\r\nl2,", NULL, "11:TEMP l1  l2,");
}

static void check_reply(struct str in, const char *prefix)
{
	struct stream stream;
	struct stream_run run;
	check_play(in, 0, &stream, &run);
	assert_int_equal(run.messages, 1);
	if (!is_reply(run.out.ptr, prefix))
		fail_msg("%.*s: %.100s", (int)in.len, in.ptr, run.out.ptr);
	stream_run_free(&run);
}

/* A value that Postfix would cut or take for something else is an error, never cut. */
static void values_that_cannot_be_carried(void **state)
{
	(void)state;
	check_reply(STR("5:a nul,"), "TEMP ");
	check_reply(STR("6:a x\ny\n,"), "TEMP ");
	check_reply(STR("5:a x\ry,"), "TEMP ");
	check_reply(STR("14:a repeat 99997,"), "OK x");
	check_reply(STR("14:a repeat 99998,"), "TEMP ");
	check_reply(STR("15:a repeat 100000,"), "TEMP ");
	check_reply(STR("16:a repeat 2000000,"), "TEMP ");
}

static void long_reasons_are_cut(void **state)
{
	(void)state;
	struct buf in = {.max = 4000};
	struct stream stream;
	struct stream_run run;
	buf_printf(&in, "3007:a temp %03000d,", 0);
	check_play(buf_str(&in), 0, &stream, &run);
	assert_true(is_reply(run.out.ptr, "TEMP 000"));
	assert_true(run.out.len < 1000);
	stream_run_free(&run);
	buf_free(&in);
}

static void requests_without_a_key_are_refused(void **state)
{
	(void)state;
	check_refused("5:alias,");
	check_refused("0:,");
	check_refused("00:,");
	check("5:alias,3:a b,", NULL, NULL);
	struct stream stream;
	struct stream_run run;
	check_play(STR("5:alias,3:a b,"), 0, &stream, &run);
	assert_int_equal(run.messages, 1);
	assert_int_equal(run.refused, 1);
	assert_non_null(strstr(run.out.ptr, ",4:OK b,"));
	stream_run_free(&run);
}

static void keys_with_a_nul_are_refused(void **state)
{
	(void)state;
	check_refused("5:a b\0c,");
	check_refused("4:a \0c,");
	check_refused("5:a\0 bc,");
}

static void malformed_netstrings_break(void **state)
{
	(void)state;
	check_broken("x");
	check_broken(" 3:a b,");
	check_broken("-3:a b,");
	check_broken("+3:a b,");
	check_broken("3 :a b,");
	check_broken("3x");
	check_broken("3a b,");
	check_broken(":a b,");
	check_broken(",");
	check_broken("\n");
	check_broken("3,a b,");
	check_broken("3:a bc");
	check_broken("3:a b\n3:a b,");
	check_broken("get key\n");
	check_broken("GET / HTTP/1.1\r\n\r\n");
	check_broken("H3\t2\t0\t\tname\n");
	check_broken("0000000003:a b,");
	check_broken("1234567890");
	check_broken("100001:");
	check_broken("999999999:");
}

/* What came before is answered, in its place: not after the complaint. */
static void bad_requests_keep_the_order(void **state)
{
	(void)state;
	static const struct str streams[] = {
		{"3:a 1,3:a 2,5:alias,3:a 3,", 26},
		{"3:a 1,3:a 2,x", 13},
	};
	for (size_t i = 0; i < 2; i++) {
		struct stream stream;
		struct stream_run run;
		check_play(streams[i], 10, &stream, &run);
		assert_true(starts(run.out.ptr, "4:OK 1,4:OK 2,"));
		assert_non_null(strstr(run.out.ptr, ":PERM "));
		assert_true(i == 1 || strstr(run.out.ptr, ",4:OK 3,"));
		assert_true(stream_same_cut_anywhere(&stream, &run));
		stream_run_free(&run);
	}
}

static void requests_may_be_as_long_as_configured(void **state)
{
	(void)state;
	for (int over = 0; over <= 1; over++) {
		static const size_t sizes[] = {4093, 65536};
		struct buf in = {.max = 200000};
		struct stream stream;
		struct stream_run run;
		buf_printf(&in, "%d:a %0*d,", 100000 + over, 100000 + over - 2, 0);
		check_play(buf_str(&in), 0, &stream, &run);
		assert_int_equal(run.broken, over);
		assert_int_equal(run.messages, 1 - over);
		for (size_t i = 0; i < 2; i++)
			assert_true(stream_same(&stream, &run, &sizes[i], 1));
		stream_run_free(&run);
		buf_free(&in);
	}
}

static void deep_pipelines(void **state)
{
	(void)state;
	struct buf in = {.max = 1 << 20}, want = {.max = 1 << 20};
	struct stream stream;
	struct stream_run run;
	for (unsigned i = 0; i < 2000; i++) {
		buf_printf(&in, "6:a %04u,", i);
		buf_printf(&want, "7:OK %04u,", i);
	}
	check_play(buf_str(&in), codec_socketmap.max_inflight - 1, &stream, &run);
	assert_int_equal(run.messages, 2000);
	assert_true(str_eq(buf_str(&run.out), buf_str(&want)));
	for (size_t i = 1; i < 40; i++)
		assert_true(stream_same(&stream, &run, &i, 1));
	stream_run_free(&run);
	buf_free(&in);
	buf_free(&want);
}

static void codec_says_what_it_wants(void **state)
{
	(void)state;
	assert_string_equal(codec_socketmap.name, "socketmap");
	assert_true(codec_socketmap.ordered);
	assert_false(codec_socketmap.closes_on_unknown_table);
	assert_int_equal(codec_socketmap.idle_timeout, 3 * 60 * 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests),
		cmocka_unit_test(lengths_may_have_leading_zeros),
		cmocka_unit_test(unfinished_requests_wait),
		cmocka_unit_test(replies),
		cmocka_unit_test(values_that_cannot_be_carried),
		cmocka_unit_test(long_reasons_are_cut),
		cmocka_unit_test(requests_without_a_key_are_refused),
		cmocka_unit_test(keys_with_a_nul_are_refused),
		cmocka_unit_test(malformed_netstrings_break),
		cmocka_unit_test(bad_requests_keep_the_order),
		cmocka_unit_test(requests_may_be_as_long_as_configured),
		cmocka_unit_test(deep_pipelines),
		cmocka_unit_test(codec_says_what_it_wants),
	};
	return cmocka_run_group_tests(tests, set_up, check_tear_down);
}
