/* Tests of the tcp_table codec: lines, their coding both ways, limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "model/table.h"
#include "stream_check.h"

static int set_up(void **state)
{
	(void)state;
	return check_set_up(&codec_tcp);
}

static void requests(void **state)
{
	(void)state;
	check("get a@b\n", "lookup table= key =a@b in_order\n", "200 a@b\n");
	check("get x\nget y\r\n", "lookup table= key =x in_order\nlookup table= key =y in_order\n",
		"200 x\n200 y\n");
	check("get \n", "lookup table= key = in_order\n", "200 \n");
	check("get a+b c\n", "lookup table= key =a+b c in_order\n", "200 a+b%20c\n");
	check("get  x\n", "lookup table= key = x in_order\n", "200 %20x\n");
	check("get x", "", "");
	check("get", "", "");
	check("", "", "");
}

static void keys_are_decoded(void **state)
{
	(void)state;
	check("get found%20with%20space\n", "lookup table= key =found with space in_order\n",
		"200 found%20with%20space\n");
	check("get m%C3%bC%25%0a%0D\n", "lookup table= key =m\\c3\\bc%\\0a\\0d in_order\n",
		"200 m%C3%BC%25%0A%0D\n");
	check("get %41%2B\nget %2541\n",
		"lookup table= key =A+ in_order\nlookup table= key =%41 in_order\n",
		"200 A+\n200 %2541\n");
	/* as Postfix may not send it, but unambiguous */
	check("get \303\274\t\r\n", "lookup table= key =\\c3\\bc\\09 in_order\n",
		"200 %C3%BC%09\n");
}

static void replies(void **state)
{
	(void)state;
	check("get none\n", NULL, "500 not found\n");
	check("get temp%20try%20100%25%20later\n", NULL, "400 try%20100%25%20later\n");
	check("get perm%20wrong\n", NULL, "400 wrong\n");
	check("get temp\n", NULL, "400 \n");
	check("get temp%20a%0D%0Ab\n", NULL, "400 a%0D%0Ab\n");
	check("get empty\n", NULL, "200 \n");
	check("get lines\n", NULL, "200 a%0Ab\n");
	check("get x%7F%7E%00\n", "refused nul\n", NULL);
	check("get x%7F%7E\n", NULL, "200 x%7F~\n");
}

static void refused(const char *line, const char *why, const char *code)
{
	struct buf in = {.max = 8000}, event = {.max = 100};
	struct stream stream;
	struct stream_run run;
	buf_printf(&in, "get x\n%s\nget y\n", line);
	buf_printf(&event, "in_order\nrefused %s\nlookup%c", why, 0);
	check_play(buf_str(&in), 5, &stream, &run);
	assert_non_null(strstr(run.events.ptr, event.ptr));
	assert_int_equal(run.messages, 2);
	assert_int_equal(run.refused, 1);
	/* in its place, and coded */
	assert_true(starts(run.out.ptr, "200 x\n"));
	assert_true(starts(run.out.ptr + 6, code));
	const char *end = strchr(run.out.ptr + 6, '\n');
	assert_string_equal(end, "\n200 y\n");
	for (const char *at = run.out.ptr + 6 + 4; at < end; at++)
		assert_true(*at > ' ' && *at < 0x7f);
	assert_true(stream_same_cut_anywhere(&stream, &run));
	stream_run_free(&run);
	buf_free(&in);
	buf_free(&event);
}

static void bad_requests_are_refused(void **state)
{
	(void)state;
	refused("", "bad_request", "400 ");
	refused("get", "bad_request", "400 ");
	refused("GET x", "bad_request", "400 ");
	refused(" get x", "bad_request", "400 ");
	refused("get\tx", "bad_request", "400 ");
	refused("gets x", "bad_request", "400 ");
	refused("5:t key,", "bad_request", "400 ");
	refused("GET / HTTP/1.1\r", "bad_request", "400 ");
	refused("get %", "bad_code", "400 ");
	refused("get %4", "bad_code", "400 ");
	refused("get 100%25%", "bad_code", "400 ");
	refused("get %zz", "bad_code", "400 ");
	refused("get %4g", "bad_code", "400 ");
	refused("get % 1", "bad_code", "400 ");
	refused("get a%00b", "nul", "400 ");
	/* an update that the table rejects */
	refused("put key value", "put", "500 ");
	refused("put key", "put", "500 ");
	refused("put", "put", "500 ");
}

static void raw_nul_is_refused(void **state)
{
	(void)state;
	check("get a\0b\n", "refused nul\n", NULL);
	check("\0\n", "refused bad_request\n", NULL);
}

/* With its LF a line has 4,096 bytes. */
static void lines_have_an_end(void **state)
{
	(void)state;
	for (int over = 0; over <= 1; over++) {
		struct buf in = {.max = 9000};
		struct stream stream;
		struct stream_run run;
		buf_printf(&in, "get temp%%20%0*d\nget x\n", 4096 - 12 + over, 0);
		check_play(buf_str(&in), 0, &stream, &run);
		assert_int_equal(run.broken, over);
		assert_int_equal(run.messages, over ? 0 : 2);
		assert_true(
			starts(run.out.ptr, over ? "400 the%20request%20is%20longer" : "400 000"));
		assert_true(run.out.len < 400);
		assert_true(stream_same_cut_anywhere(&stream, &run));
		stream_run_free(&run);
		buf_free(&in);
	}
}

static void check_length(const char *key, size_t length, const char *reply)
{
	struct stream stream;
	struct stream_run run;
	check_play(str_of(key), 0, &stream, &run);
	assert_true(starts(run.out.ptr, reply));
	assert_int_equal(run.out.ptr[run.out.len - 1], '\n');
	if (length > 0)
		assert_int_equal(run.out.len, length);
	stream_run_free(&run);
}

/* Never cut: Postfix would take the rest for the whole. */
static void values_that_do_not_fit(void **state)
{
	(void)state;
	check_length("get repeat%204091\n", 4096, "200 xxx");
	check_length("get repeat%204092\n", 0, "400 the%20value%20does%20not%20fit");
	check_length("get repeat%20200000\n", 0, "400 the%20value%20does%20not%20fit");
	check_length("get nul\n", 0, "400 tcp_table%20cannot%20carry");
	/* a coded byte is three */
	struct buf in = {.max = 8000};
	for (int over = 0; over <= 1; over++) {
		buf_reset(&in);
		buf_add(&in, STR("get "));
		for (int i = 0; i < 1350; i++)
			buf_add_char(&in, '\304');
		for (int i = 0; i < 4091 - 4050 + over; i++)
			buf_add_char(&in, 'x');
		buf_add(&in, STR("\n\0"));
		check_length(in.ptr, over ? 0 : 4096, over ? "400 " : "200 %C4%C4");
	}
	buf_free(&in);
}

static void long_reasons_are_cut(void **state)
{
	(void)state;
	struct buf in = {.max = 5000};
	buf_printf(&in, "get temp%%20%03000d\n%c", 0, 0);
	check_length(in.ptr, 205, "400 000");
	buf_free(&in);
}

static void order_is_kept(void **state)
{
	(void)state;
	struct buf in = {.max = 1 << 20}, want = {.max = 1 << 20};
	for (unsigned i = 0; i < 300; i++) {
		buf_printf(&in, i % 7 ? "get %04u\n" : "put %04u v\n", i);
		if (i % 7)
			buf_printf(&want, "200 %04u\n", i);
		else
			buf_add(&want, STR("500 the%20table%20is%20read%20only\n"));
	}
	buf_add_char(&want, '\0');
	check_late(buf_str(&in), codec_tcp.max_inflight - 1, NULL, want.ptr);
	buf_free(&in);
	buf_free(&want);
}

static void codec_says_what_it_wants(void **state)
{
	(void)state;
	struct error error;
	assert_string_equal(codec_tcp.name, "tcp");
	assert_true(codec_tcp.ordered);
	assert_int_equal(codec_tcp.idle_timeout, 0);
	struct table_conf table = {.name = "t", .ops = CAN(OP_LOOKUP)};
	assert_true((codec_tcp.check)(NULL, &table, &error));
	table.ops = CAN(OP_POLICY);
	assert_false((codec_tcp.check)(NULL, &table, &error));
	assert_string_equal(error.text, "table: \"t\" answers no lookups");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests),
		cmocka_unit_test(keys_are_decoded),
		cmocka_unit_test(replies),
		cmocka_unit_test(bad_requests_are_refused),
		cmocka_unit_test(raw_nul_is_refused),
		cmocka_unit_test(lines_have_an_end),
		cmocka_unit_test(values_that_do_not_fit),
		cmocka_unit_test(long_reasons_are_cut),
		cmocka_unit_test(order_is_kept),
		cmocka_unit_test(codec_says_what_it_wants),
	};
	return cmocka_run_group_tests(tests, set_up, check_tear_down);
}
