/* The log: each line as it reaches stderr, in both formats, whatever the message holds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <cjson/cJSON.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"

/* -- stderr into a file -- */

static int saved_stderr;
static FILE *sink;
static char written[1 << 20];

static int setup(void **state)
{
	(void)state;
	unsetenv("JOURNAL_STREAM");
	sink = tmpfile();
	assert_non_null(sink);
	saved_stderr = dup(STDERR_FILENO);
	dup2(fileno(sink), STDERR_FILENO);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	log_open(LOG_LEVEL_INFO, LOG_FORMAT_TEXT, LOG_TO_STDERR); /* while stderr is the file */
	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
	fclose(sink);
	return 0;
}

/* What was written since the last call. */
static const char *lines(void)
{
	rewind(sink);
	size_t n = fread(written, 1, sizeof(written) - 1, sink);
	written[n] = '\0';
	assert_int_equal(ftruncate(fileno(sink), 0), 0);
	rewind(sink);
	return written;
}

/* The one line without its time. */
static const char *line(void)
{
	char *text = (char *)(uintptr_t)lines();
	size_t n = strlen(text);
	assert_true(n > 25 && text[n - 1] == '\n');
	text[n - 1] = '\0';
	assert_null(strchr(text, '\n'));
	assert_int_equal(text[4], '-');
	assert_int_equal(text[10], 'T');
	assert_int_equal(text[19], '.');
	assert_memory_equal(text + 23, "Z ", 2);
	return text + 25;
}

static const char *member(const char *text, const char *name)
{
	static char value[65536];
	cJSON *json = cJSON_Parse(text);
	if (!json)
		fail_msg("no JSON: %s", text);
	const cJSON *item = cJSON_GetObjectItem(json, name);
	snprintf(value, sizeof(value), "%s", item ? item->valuestring : "(none)");
	cJSON_Delete(json);
	return value;
}

/* -- text -- */

static void writes_text(void **state)
{
	(void)state;
	log_info("answer is %d", 42);
	assert_string_equal(line(), "info answer is 42");
	log_error("x");
	assert_string_equal(line(), "error x");
	log_warn("%s", "");
	assert_string_equal(line(), "warn ");
}

static void changes_while_it_is_open(void **state)
{
	(void)state;
	log_change(LOG_LEVEL_WARN, LOG_FORMAT_JSON, LOG_TO_STDERR);
	log_info("not seen");
	log_warn("seen");
	assert_string_equal(member(lines(), "msg"), "seen");
	log_change(LOG_LEVEL_INFO, LOG_FORMAT_TEXT, LOG_TO_STDERR);
	log_info("seen");
	assert_string_equal(line(), "info seen");
}

static void keeps_levels(void **state)
{
	(void)state;
	log_debug("not seen");
	assert_string_equal(lines(), "");
	log_open(LOG_LEVEL_DEBUG, LOG_FORMAT_TEXT, LOG_TO_STDERR);
	log_debug("seen");
	assert_string_equal(line(), "debug seen");
	assert_true(log_wants(LOG_LEVEL_DEBUG));
	log_open(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT, LOG_TO_STDERR);
	assert_false(log_wants(LOG_LEVEL_WARN));
	log_warn("not seen");
	log_event(LOG_LEVEL_WARN, "not seen", NULL, 0);
	assert_string_equal(lines(), "");
	assert_true(log_wants(LOG_LEVEL_ERROR));
}

static void a_line_is_a_line(void **state)
{
	static const char *const cases[][2] = {
		{"a\nb\r\tc", "a\\nb\\r\\tc"}, {"\x01\x7f\x1b[0m", "\\x01\\x7f\\x1b[0m"},
		{"say \"hi\" \\o/", "say \"hi\" \\o/"},
		{"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x93\xa7",
			"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x93\xa7"},
		{"\xff\xc3", "\\xff\\xc3"},                   /* no UTF-8 */
		{"\xc0\x80", "\\xc0\\x80"},                   /* overlong */
		{"\xed\xa0\x80", "\\xed\\xa0\\x80"},          /* a surrogate */
		{"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"}, /* beyond Unicode */
		{"\xc2\x9b", "\\xc2\\x9b"},                   /* C1: terminals obey it */
		{"\xe2\x80\xa8", "\\xe2\\x80\\xa8"},          /* a line separator */
	};
	char want[128];
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		log_info("%s", cases[i][0]);
		snprintf(want, sizeof(want), "info %s", cases[i][1]);
		assert_string_equal(line(), want);
	}
}

static void writes_events(void **state)
{
	const struct pair fields[] = {
		{STR("table"), STR("alias")},
		{STR("why"), STR("no \"such\" host\n")},
		{STR("empty"), STR("")},
		{STR("eq"), STR("a=b")},
		{STR("nul"), STR("a\0b")},
		{STR("utf8"), STR("\xc3\xa9")},
	};
	(void)state;
	log_event(LOG_LEVEL_WARN, "failed", fields, 6);
	assert_string_equal(line(), "warn failed table=alias why=\"no \\\"such\\\" host\\n\" "
				    "empty=\"\" eq=\"a=b\" nul=\"a\\x00b\" utf8=\xc3\xa9");
	log_event(LOG_LEVEL_INFO, "ready", NULL, 0);
	assert_string_equal(line(), "info ready");
}

/* -- JSON -- */

static void writes_json(void **state)
{
	const struct pair fields[] = {
		{STR("table"), STR("a\"b\\c")}, {STR("why"), STR("x\n\x01\x7f\xff\xc3\xa9")}};
	(void)state;
	log_open(LOG_LEVEL_INFO, LOG_FORMAT_JSON, LOG_TO_STDERR);
	log_event(LOG_LEVEL_ERROR, "failed", fields, 2);
	const char *text = lines();
	assert_string_equal(strchr(text, '\n'), "\n");
	assert_string_equal(member(text, "level"), "error");
	assert_string_equal(member(text, "msg"), "failed");
	assert_string_equal(member(text, "table"), "a\"b\\c");
	assert_string_equal(member(text, "why"), "x\n\x01\\x7f\\xff\xc3\xa9");
	assert_int_equal(strlen(member(text, "time")), 24);
	log_info("say \"hi\" %s", "\n");
	assert_string_equal(member(lines(), "msg"), "say \"hi\" \n");
}

/* -- what is too long -- */

static void cuts_what_is_too_long(void **state)
{
	static char huge[20000];
	(void)state;
	for (int format = LOG_FORMAT_TEXT; format <= LOG_FORMAT_JSON; format++) {
		for (int c = 0; c < 2; c++) { /* as it is, and as an escape of many bytes */
			memset(huge, c ? '\x01' : 'x', sizeof(huge) - 1);
			const struct pair fields[] = {
				{STR("first"), STR("1")},
				{STR("huge"), str_of(huge)},
				{STR("late"), STR("2")},
			};
			log_open(LOG_LEVEL_INFO, format, LOG_TO_STDERR);
			log_info("%s", huge);
			const char *text = lines();
			assert_true(strlen(text) <= 8192);
			assert_non_null(strstr(text, "..."));
			assert_string_equal(strchr(text, '\n'), "\n");
			if (format == LOG_FORMAT_JSON)
				assert_memory_equal(member(text, "msg"), c ? "\x01" : "x", 1);
			log_event(LOG_LEVEL_INFO, "event", fields, 3);
			text = lines();
			assert_true(strlen(text) <= 8192);
			assert_non_null(strstr(text, "first"));
			assert_non_null(strstr(text, "..."));
			assert_null(strstr(text, "late"));
			if (format == LOG_FORMAT_JSON)
				assert_memory_equal(member(text, "huge"), c ? "\x01" : "x", 1);
		}
	}
}

/* Every length around the cut: the endings always have their place. */
static void cuts_anywhere(void **state)
{
	static char value[8300];
	(void)state;
	log_open(LOG_LEVEL_INFO, LOG_FORMAT_JSON, LOG_TO_STDERR);
	for (size_t n = 8000; n < 8200; n++) {
		memset(value, 'x', n);
		const struct pair fields[] = {
			{STR("value"), {value, n}}, {STR("second"), STR("2")}};
		log_event(LOG_LEVEL_INFO, "event", fields, 2);
		const char *text = lines();
		assert_true(strlen(text) <= 8192);
		assert_string_equal(member(text, "msg"), "event");
	}
}

/* -- the journal -- */

static void speaks_to_the_journal(void **state)
{
	const struct pair field = {STR("a"), STR("b")};
	(void)state;
	setenv("JOURNAL_STREAM", "8:1", 1);
	log_open(LOG_LEVEL_DEBUG, LOG_FORMAT_TEXT, LOG_TO_STDERR);
	log_error("one");
	log_warn("two");
	log_info("three");
	log_debug("four");
	log_event(LOG_LEVEL_INFO, "five", &field, 1);
	assert_string_equal(lines(), "<3>one\n<4>two\n<6>three\n<7>four\n<6>five a=b\n");
	log_open(LOG_LEVEL_INFO, LOG_FORMAT_JSON, LOG_TO_STDERR);
	log_info("six");
	assert_string_equal(member(lines(), "msg"), "six");
	setenv("JOURNAL_STREAM", "", 1);
	log_open(LOG_LEVEL_INFO, LOG_FORMAT_TEXT, LOG_TO_STDERR);
	log_info("seven");
	assert_string_equal(line(), "info seven");
}

static void syslog_leaves_stderr_alone(void **state)
{
	(void)state;
	log_open(LOG_LEVEL_INFO, LOG_FORMAT_TEXT, LOG_TO_SYSLOG);
	log_info("100%% %s", "%s%n");
	assert_string_equal(lines(), "");
}

/* -- threads -- */

enum { THREADS = 4, EACH = 500 };

static void *say_many(void *arg)
{
	for (int i = 0; i < EACH; i++)
		log_info("thread %d says its line", (int)(intptr_t)arg);
	return NULL;
}

static void threads_do_not_mix_lines(void **state)
{
	pthread_t threads[THREADS];
	int n = 0;
	(void)state;
	for (intptr_t i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, say_many, (void *)i);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	struct str rest = str_of(lines()), one;
	while (str_cut(&rest, '\n', &one)) {
		assert_int_equal(
			one.len, strlen("2026-11-21T10:00:00.123Z info thread 0 says its line"));
		assert_memory_equal(one.ptr + 25, "info thread ", 12);
		n++;
	}
	assert_int_equal(n, THREADS * EACH);
}

static struct log_limit limit;
static _Atomic unsigned allowed, counted;

static void *ask_many(void *arg)
{
	unsigned held;
	(void)arg;
	for (int i = 0; i < EACH; i++)
		if (log_allowed(&limit, 3600000, &held)) {
			allowed++;
			counted += held;
		}
	return NULL;
}

static void limits_events(void **state)
{
	struct log_limit own = {0};
	pthread_t threads[THREADS];
	unsigned held = 99;
	(void)state;
	assert_true(log_allowed(&own, 30, &held));
	assert_int_equal(held, 0);
	assert_false(log_allowed(&own, 30, &held));
	assert_false(log_allowed(&own, 30, &held));
	usleep(40000);
	assert_true(log_allowed(&own, 3600000, &held));
	assert_int_equal(held, 2);
	assert_false(log_allowed(&own, 0, &held));
	for (int i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, ask_many, NULL);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(allowed, 1);
	assert_int_equal(counted + limit.held, THREADS * EACH - 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(writes_text),
		TEST(changes_while_it_is_open),
		TEST(keeps_levels),
		TEST(a_line_is_a_line),
		TEST(writes_events),
		TEST(writes_json),
		TEST(cuts_what_is_too_long),
		TEST(cuts_anywhere),
		TEST(speaks_to_the_journal),
		TEST(syslog_leaves_stderr_alone),
		TEST(threads_do_not_mix_lines),
		TEST(limits_events),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
