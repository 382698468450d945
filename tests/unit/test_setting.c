/* Settings: every kind from text to member and back, and what each refuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "model/setting.h"

struct conf {
	const char *text, *secret;
	int64_t number, time, size, maybe;
	bool yes;
	int choice;
	struct setting_map map;
	struct setting_list list;
};

static const char *const colours[] = {"red", "green", NULL};

#define AT(member) .offset = offsetof(struct conf, member)

static const struct setting settings[] = {
	{.name = "text", .kind = SET_STR, AT(text), .fallback = ""},
	{.name = "secret", .kind = SET_SECRET, AT(secret), .fallback = ""},
	{.name = "number", .kind = SET_INT, AT(number), .fallback = "3", .min = -5, .max = 10},
	{.name = "time", .kind = SET_MSEC, AT(time), .fallback = "5s", .min = 10, .max = 3600000},
	{.name = "size", .kind = SET_BYTES, AT(size), .fallback = "64k"},
	{.name = "maybe", .kind = SET_MSEC, AT(maybe), .fallback = ""},
	{.name = "yes", .kind = SET_BOOL, AT(yes), .fallback = "yes"},
	{.name = "choice", .kind = SET_CHOICE, AT(choice), .fallback = "green", .choices = colours},
	{.name = "map", .kind = SET_MAP, AT(map), .fallback = ""},
	{.name = "map.exact", .kind = SET_STR, AT(text), .fallback = ""},
	{.name = "list", .kind = SET_LIST, AT(list), .fallback = "one two"},
	{.name = NULL},
};

static struct arena mem;
static struct conf conf;
static struct error error;

static int setup(void **state)
{
	(void)state;
	conf = (struct conf){0};
	setting_fill(settings, &conf, &mem);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	arena_clear(&mem);
	return 0;
}

static bool put(const char *key, const char *text)
{
	struct str sub;
	bool from_file;
	const struct setting *setting = setting_find(settings, str_of(key), &sub, &from_file);
	assert_non_null(setting);
	return setting_put(setting, &conf, &mem, sub, str_of(text), &error);
}

static const char *printed(const char *key)
{
	struct str sub, text;
	bool from_file;
	setting_print(setting_find(settings, str_of(key), &sub, &from_file), &conf, &mem, &text);
	return text.ptr;
}

static void finds(void **state)
{
	struct str sub;
	bool from_file;
	(void)state;
	assert_string_equal(setting_find(settings, STR("time"), &sub, &from_file)->name, "time");
	assert_false(from_file);
	assert_string_equal(
		setting_find(settings, STR("secret_file"), &sub, &from_file)->name, "secret");
	assert_true(from_file);
	assert_string_equal(setting_find(settings, STR("map.a.b"), &sub, &from_file)->name, "map");
	assert_true(str_eq(sub, STR("a.b")));
	assert_false(from_file);
	assert_string_equal(
		setting_find(settings, STR("map.exact"), &sub, &from_file)->name, "map.exact");
	static const char *const none[] = {
		"", "tim", "timer", "text_file", "text.a", "map.", "maps", "secret_files", ".a"};
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
		assert_null(setting_find(settings, str_of(none[i]), &sub, &from_file));
}

static void fills_fallbacks(void **state)
{
	(void)state;
	assert_string_equal(conf.text, "");
	assert_string_equal(conf.secret, "");
	assert_int_equal(conf.number, 3);
	assert_int_equal(conf.time, 5000);
	assert_int_equal(conf.size, 65536);
	assert_int_equal(conf.maybe, -1);
	assert_true(conf.yes);
	assert_int_equal(conf.choice, 1);
	assert_int_equal(conf.map.n, 0);
	assert_int_equal(conf.list.n, 2);
}

static void takes(void **state)
{
	static const char *const cases[][3] = {
		{"text", "a b", "a b"},
		{"text", "", ""},
		{"secret", "hunter2", "(secret)"},
		{"number", "-5", "-5"},
		{"number", "10", "10"},
		{"time", "10ms", "10ms"},
		{"time", "90s", "90s"},
		{"time", "120s", "2m"},
		{"time", "1h", "1h"},
		{"time", "1500MS", "1500ms"},
		{"maybe", "0", "0"},
		{"size", "512", "512"},
		{"size", "0", "0"},
		{"size", "64k", "64k"},
		{"size", "10M", "10m"},
		{"size", "1g", "1g"},
		{"size", "1025", "1025"},
		{"yes", "off", "no"},
		{"yes", "TRUE", "yes"},
		{"choice", "red", "red"},
		{"map", "a=1 b=\"two words\"", "\"a\"=\"1\" \"b\"=\"two words\""},
		{"list", "", "one two"},
		{"list", "three", "one two three"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		setup(NULL);
		if (!put(cases[i][0], cases[i][1]))
			fail_msg("%s: %s", cases[i][0], error.text);
		assert_string_equal(printed(cases[i][0]), cases[i][2]);
	}
}

static void refuses(void **state)
{
	static const char *const cases[][3] = {
		{"secret", "", "empty"},
		{"number", "11", "out of range; allowed: -5 to 10"},
		{"number", "-6", "out of range; allowed: -5 to 10"},
		{"number", "x", "no whole number; allowed: -5 to 10"},
		{"number", "", "no whole number"},
		{"number", "99999999999999999999", "no whole number"},
		{"time", "5", "500ms, 5s, 2m or 1h"},
		{"time", "5d", "500ms, 5s, 2m or 1h"},
		{"time", "s", "500ms, 5s, 2m or 1h"},
		{"time", "1.5s", "500ms, 5s, 2m or 1h"},
		{"time", "-5s", "500ms, 5s, 2m or 1h"},
		{"time", "5 s", "500ms, 5s, 2m or 1h"},
		{"time", "", "500ms, 5s, 2m or 1h"},
		{"time", "9ms", "out of range; allowed: 10ms to 1h"},
		{"time", "3601s", "out of range; allowed: 10ms to 1h"},
		{"time", "9223372036854775807h", "no duration"},
		{"maybe", "", "500ms, 5s, 2m or 1h"},
		{"size", "1t", "512, 64k, 10m or 1g"},
		{"size", "-1", "512, 64k, 10m or 1g"},
		{"size", "9223372036854775807k", "no size"},
		{"yes", "1", "allowed: yes, no, true, false, on, off"},
		{"yes", "", "allowed: yes"},
		{"choice", "blue", "allowed: red, green"},
		{"choice", "Red", "allowed: red, green"},
		{"map", "a", "write key=value"},
		{"map", "a=1 a=2", "given twice"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (put(cases[i][0], cases[i][1]))
			fail_msg("%s: %s was taken", cases[i][0], cases[i][1]);
		if (!strstr(error.text, cases[i][2]))
			fail_msg("%s: %s: %s", cases[i][0], cases[i][1], error.text);
	}
}

static void maps_keep_their_order(void **state)
{
	(void)state;
	assert_true(put("map.z", "1"));
	assert_true(put("map.a b", "2 3"));
	assert_true(put("map", "m=3"));
	assert_false(put("map.z", "4"));
	assert_int_equal(conf.map.n, 3);
	assert_true(str_eq(conf.map.pairs[0].name, STR("z")));
	assert_true(str_eq(conf.map.pairs[1].name, STR("a b")));
	assert_true(str_eq(conf.map.pairs[1].value, STR("2 3")));
	assert_true(str_eq(conf.map.pairs[2].name, STR("m")));
}

static void lists_grow(void **state)
{
	const struct setting *list = NULL;
	(void)state;
	for (const struct setting *s = settings; s->name; s++)
		list = s->kind == SET_LIST ? s : list;
	for (int i = 0; i < 100; i++)
		setting_add(list, &conf, &mem, STR("an item"));
	assert_int_equal(conf.list.n, 102);
	for (size_t i = 2; i < 102; i++)
		assert_true(str_eq(conf.list.items[i], STR("an item")));
}

/* What was printed reads back to the same. */
static void pairs_print_and_read_back(void **state)
{
	(void)state;
	assert_true(put("map.a\"b\\c", "d\ne\tf , g=h"));
	assert_true(put("map.x", ""));
	struct str text = arena_str(&mem, str_of(printed("map")));
	struct setting_map again;
	assert_true(setting_pairs(text, &mem, &again, &error));
	assert_int_equal(again.n, 2);
	for (size_t i = 0; i < 2; i++) {
		assert_true(str_eq(again.pairs[i].name, conf.map.pairs[i].name));
		assert_true(str_eq(again.pairs[i].value, conf.map.pairs[i].value));
	}
}

/* Pairs as "name|value" lines. */
static const char *pairs_text(const char *text)
{
	struct setting_map map;
	struct str all = {"", 0};
	if (!setting_pairs(str_of(text), &mem, &map, &error))
		return NULL;
	for (size_t i = 0; i < map.n; i++)
		all = arena_printf(
			&mem, "%s%s|%s;", all.ptr, map.pairs[i].name.ptr, map.pairs[i].value.ptr);
	return all.ptr;
}

static void splits_pairs(void **state)
{
	static const char *const cases[][2] = {
		{"", ""},
		{" \n\t ", ""},
		{"a=1", "a|1;"},
		{"a=", "a|;"},
		{"a=b=c", "a|b=c;"},
		{"a=1 b=2\nc=3\t d=4", "a|1;b|2;c|3;d|4;"},
		{"a=1,b=2", "a|1;b|2;"},
		{"a=1, b=2", "a|1;b|2;"},
		{"a=1 ,b=2", "a|1;b|2;"},
		{"a=1 , b=2", "a|1;b|2;"},
		{"a=x,y", "a|x,y;"},
		{"a=x,y,b=2", "a|x,y;b|2;"},
		{"a=x, b", NULL},
		{"a=x,", "a|x,;"},
		{"a=x,y z=1", "a|x,y;z|1;"},
		{"a=,b=1", "a|;b|1;"},
		{"a=\"two words\" b=1", "a|two words;b|1;"},
		{"a=\"x,y=z\",b=1", "a|x,y=z;b|1;"},
		{"a=\"q\\\"u\\\\o\\nt\\te\\x\"", "a|q\"u\\o\nt\tex;"},
		{"a=\"\"", "a|;"},
		{"\"a key\"=1", "a key|1;"},
		{"a=1,\"k,=\"=2", "a|1;k,=|2;"},
		{"a=1,\"not a key\"", NULL},
		{"a=b\"c", "a|b\"c;"},
		{"a@x.org=b@y.org,c@z.org", "a@x.org|b@y.org,c@z.org;"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *text = pairs_text(cases[i][0]);
		if (!cases[i][1]) {
			if (text)
				fail_msg("%s was taken: %s", cases[i][0], text);
			continue;
		}
		if (!text)
			fail_msg("%s: %s", cases[i][0], error.text);
		if (strcmp(text, cases[i][1]) != 0)
			fail_msg("%s: %s", cases[i][0], text);
	}
}

static void refuses_pairs(void **state)
{
	static const char *const cases[][2] = {
		{"a", "write key=value"},
		{"=1", "empty"},
		{"\"\"=1", "empty"},
		{"a=1 b", "write key=value"},
		{"a=\"x", "not closed"},
		{"a=\"x\\\"", "not closed"},
		{"\"a", "not closed"},
		{"a=\"x\"y", "must follow a closing quote"},
		{"\"a\"1", "write key=value"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (pairs_text(cases[i][0]))
			fail_msg("%s was taken", cases[i][0]);
		if (!strstr(error.text, cases[i][1]))
			fail_msg("%s: %s", cases[i][0], error.text);
	}
}

/* -- secrets -- */

static bool read_secret(const void *content, size_t len, struct str *secret)
{
	char path[] = "/tmp/mapmux-secret-XXXXXX";
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, content, len), len);
	close(fd);
	bool good = setting_read_secret(path, &mem, secret, &error);
	unlink(path);
	if (!good)
		assert_non_null(strstr(error.text, path));
	return good;
}

static void reads_secrets(void **state)
{
	char large[65537];
	struct str secret;
	(void)state;
	assert_true(read_secret("abc\n", 4, &secret));
	assert_true(str_eq(secret, STR("abc")));
	assert_true(read_secret(" abc \r\n\n", 8, &secret));
	assert_true(str_eq(secret, STR(" abc ")));
	assert_true(read_secret("x", 1, &secret));
	assert_int_equal(secret.ptr[1], '\0');
	assert_false(read_secret("", 0, &secret));
	assert_false(read_secret("\n", 1, &secret));
	assert_false(read_secret("a\0b", 3, &secret));
	memset(large, 'x', sizeof(large));
	assert_true(read_secret(large, 65536, &secret));
	assert_int_equal(secret.len, 65536);
	assert_false(read_secret(large, 65537, &secret));
	assert_false(setting_read_secret("/nonexistent/secret", &mem, &secret, &error));
	assert_non_null(strstr(error.text, "/nonexistent/secret: No such file"));
	assert_false(setting_read_secret("/tmp", &mem, &secret, &error));
}

/* -- errors -- */

static void errors_stay_one_line(void **state)
{
	(void)state;
	assert_false(error_set(&error, "a\nb\x1b[0m"));
	assert_string_equal(error.text, "a?b?[0m");
	assert_false(error_prefix(&error, "%s:%d", "file", 3));
	assert_string_equal(error.text, "file:3: a?b?[0m");
	assert_false(error_set(&error, "%5000d", 1));
	assert_int_equal(strlen(error.text), sizeof(error.text) - 1);
	assert_false(error_prefix(&error, "x"));
	assert_int_equal(strlen(error.text), sizeof(error.text) - 1);
}

static void long_values_are_shown_in_part(void **state)
{
	char value[300];
	(void)state;
	memset(value, 'x', sizeof(value) - 1);
	value[sizeof(value) - 1] = '\0';
	assert_false(put("number", value));
	assert_true(strlen(error.text) < 150);
	for (size_t i = 0; i + 2 < sizeof(value); i += 2)
		memcpy(value + i, "\xc3\xa9", 2);
	value[298] = '\0';
	memmove(value + 1, value, 298); /* the cut would fall into a character */
	value[0] = 'x';
	value[299] = '\0';
	assert_false(put("number", value));
	assert_non_null(strstr(error.text, "\xc3\xa9\" is"));
}

/* A text takes the memory that it needs, not that of all texts it was before it was whole. */
static void long_maps_are_printed_once(void **state)
{
	enum { MANY = 4000 };
	static struct pair pairs[MANY];
	static struct str words[MANY];
	(void)state;
	for (size_t i = 0; i < MANY; i++) {
		pairs[i] = (struct pair){STR("user@example.org"), STR("mailbox@example.org")};
		words[i] = STR("user@example.org");
	}
	conf.map = (struct setting_map){pairs, MANY};
	conf.list = (struct setting_list){words, MANY};
	size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
	assert_int_equal(strlen(printed("map")), MANY * 41 - 1);
	assert_int_equal(strlen(printed("list")), MANY * 17 - 1);
	assert_true(mallinfo2().uordblks + mallinfo2().hblkhd - before < 4 << 20);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(finds),
		TEST(fills_fallbacks),
		TEST(takes),
		TEST(refuses),
		TEST(maps_keep_their_order),
		TEST(lists_grow),
		TEST(pairs_print_and_read_back),
		TEST(long_maps_are_printed_once),
		TEST(splits_pairs),
		TEST(refuses_pairs),
		TEST(reads_secrets),
		TEST(errors_stay_one_line),
		TEST(long_values_are_shown_in_part),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
