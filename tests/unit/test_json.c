/* Tests of json.c: what becomes of each kind of document, and what is no document. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "text/json.h"

#define ASSERT_TEXT(is, want)                                                                      \
	do {                                                                                       \
		struct str is_ = (is);                                                             \
		const char *want_ = (want);                                                        \
		if (!str_eq(is_, str_of(want_)))                                                   \
			fail_msg("\"%.*s\" is not \"%s\"", (int)is_.len, is_.ptr, want_);          \
	} while (0)

/* A copy without a byte behind it, so that a sanitizer sees who reads on. */
static char *exact(const char *text, size_t len)
{
	char *copy = malloc(len ? len : 1);
	assert_non_null(copy);
	memcpy(copy, text, len);
	return copy;
}

struct result {
	enum status status;
	char text[512];
};

static struct result value_of(
	struct str text, enum form form, const char *separator, const char *pointer)
{
	struct json_rules rules = {form, str_of(separator), pointer, STR("")};
	struct arena mem = {0};
	struct result result;
	struct str value;
	const char *why = "";
	char *copy = exact(text.ptr, text.len);
	result.status = json_value((struct str){copy, text.len}, &rules, &mem, &value, &why);
	struct str show = result.status == ST_TEMP ? str_of(why)
			  : result.status == ST_OK ? value
						   : STR("");
	snprintf(result.text, sizeof(result.text), "%.*s", (int)show.len, show.ptr);
	arena_clear(&mem);
	free(copy);
	return result;
}

/* NULL: not found; "!": an error. */
static void check_value(const char *json, enum form form, const char *separator,
	const char *pointer, const char *want)
{
	struct result is = value_of(str_of(json), form, separator, pointer);
	enum status status = !want ? ST_NOTFOUND : strcmp(want, "!") == 0 ? ST_TEMP : ST_OK;
	if (is.status != status || (status == ST_OK && strcmp(is.text, want) != 0))
		fail_msg("%s as form %d at \"%s\": status %d, \"%s\"", json, (int)form, pointer,
			(int)is.status, is.text);
}

/* ---- values ---- */

static void test_kinds(void **state)
{
	static const struct {
		const char *json, *text, *dict;
	} table[] = {
		{"\"a b\"", "a b", "a b"},
		{" \t\r\n\"x\" \n", "x", "x"},
		{"\"\"", "", ""},
		{"\"a\\\"\\\\\\/\\b\\f\\n\\r\\tz\"", "a\"\\/\b\f\n\r\tz", "a\"\\/\b\f\n\r\tz"},
		{"\"\\u00fc\\u65e5\\ud83d\\ude00\"", "\u00fc\u65e5\U0001f600",
			"\u00fc\u65e5\U0001f600"},
		{"\"\xc3\xbc\xf0\x9f\x98\x80\"", "\u00fc\U0001f600", "\u00fc\U0001f600"},
		{"\"a\\u0000b\"", "!", "!"},
		{"\"\\ud800\"", "!", "!"},
		{"\"\\ud800x\"", "!", "!"},
		{"\"\\udc00\\ud800\"", "!", "!"},
		{"\"\\ud800\\u0041\"", "!", "!"},
		{"true", "1", "true"},
		{"false", NULL, "false"},
		{"null", NULL, NULL},
		{"[]", NULL, "[]"},
		{"[ ]", NULL, "[]"},
		{"[\"a\", \"b c\"]", "a,b c", "[\"a\",\"b c\"]"},
		{"[\"a\"]", "a", "[\"a\"]"},
		{"[\"\"]", "", "[\"\"]"},
		{"[\"\",\"\"]", ",", "[\"\",\"\"]"},
		{"[ 1 , 2.50 , true ]", "1,2.5,1", "[1,2.50,true]"},
		{"[null,\"a\",false]", "a", "[null,\"a\",false]"},
		{"[null]", NULL, "[null]"},
		{"[\"a\",\"\\u0000\"]", "!", "[\"a\",\"\\u0000\"]"},
		{"[\"a\",[\"b\"]]", "!", "[\"a\",[\"b\"]]"},
		{"[{}]", "!", "[{}]"},
		{"{}", "!", "{}"},
		{"[ \"x\\\\\" , \"\\\"b c\" ]", "x\\,\"b c", "[\"x\\\\\",\"\\\"b c\"]"},
		{"{ \"b\" : [ 1.50 , null ] , \"a\" : \" x y \" }", "!",
			"{\"b\":[1.50,null],\"a\":\" x y \"}"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		check_value(table[i].json, FORM_TEXT, ",", "", table[i].text);
		check_value(table[i].json, FORM_JSON, ",", "", table[i].dict);
	}
	check_value("[\"a\",\"b\"]", FORM_TEXT, " | ", "", "a | b");
	check_value("[\"a\",\"b\"]", FORM_TEXT, "", "", "ab");
}

static void test_reasons(void **state)
{
	(void)state;
	assert_non_null(strstr(value_of(STR("{}"), FORM_TEXT, ",", "").text, "`value`"));
	assert_non_null(strstr(value_of(STR("[[]]"), FORM_TEXT, ",", "").text, "`value`"));
	assert_non_null(strstr(value_of(STR("nonsense"), FORM_TEXT, ",", "").text, "JSON"));
}

static void test_numbers(void **state)
{
	static const char *const table[][2] = {
		{"0", "0"},
		{"-0", "0"},
		{"7", "7"},
		{"-3", "-3"},
		{"100", "100"},
		{"12345678901234567890123456789012345678901234567890",
			"12345678901234567890123456789012345678901234567890"},
		{"9007199254740993", "9007199254740993"},
		{"1.5", "1.5"},
		{"1.50", "1.5"},
		{"1.0", "1"},
		{"-1.0", "-1"},
		{"0.1", "0.1"},
		{"0.10", "0.1"},
		{"-0.0", "0"},
		{"10.010", "10.01"},
		{"0.0001", "0.0001"},
		{"0.000001", "1e-06"},
		{"0.1e1", "1"},
		{"1e2", "100"},
		{"1E+2", "100"},
		{"12e-1", "1.2"},
		{"1200e-2", "12"},
		{"1.5e3", "1500"},
		{"1e15", "1000000000000000"},
		{"9007199254740991.0", "9007199254740991"},
		{"-9007199254740991.0", "-9007199254740991"},
		{"9007199254740992.0", "!"},
		{"9007199254740993.5", "!"},
		{"-1e16", "!"},
		{"1e400", "!"},
		{"1e99999999999999999999", "!"},
		{"0e999999999", "0"},
		{"1.25e-300", "1.25e-300"},
		{"0.30000000000000004", "0.30000000000000004"},
		{"0.30000000000000000000000000000004", "0.3"},
		{"123456789.123456789", "123456789.12345679"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		check_value(table[i][0], FORM_TEXT, ",", "", table[i][1]);
		check_value(table[i][0], FORM_JSON, ",", "", table[i][1]);
	}
}

/* Never the neighbour of the number that was written. */
static void test_large_numbers(void **state)
{
	(void)state;
	check_value("[9007199254740991,-9007199254740991]", FORM_TEXT, ",", "",
		"9007199254740991,-9007199254740991");
	check_value("[1,9007199254740993]", FORM_TEXT, ",", "", "!");
	check_value("[1, 9007199254740993]", FORM_JSON, ",", "", "[1,9007199254740993]");
	check_value("{\"a\":9007199254740993}", FORM_TEXT, ",", "/a", "!");
	check_value("{\"a\":9007199254740993}", FORM_JSON, ",", "/a", "!");
	check_value("{\"a\":{\"b\":[-9007199254740993]}}", FORM_JSON, ",", "/a", "!");
	check_value("{\"a\":9007199254740993,\"b\":1}", FORM_TEXT, ",", "/b", "1");
	check_value("{\"a\":[9007199254740991,0.30000000000000004,1e15,-0,1.50]}", FORM_JSON, ",",
		"/a", "[9007199254740991,0.30000000000000004,1000000000000000,0,1.5]");
	struct result is = value_of(STR("[1e300]"), FORM_TEXT, ",", "");
	assert_non_null(strstr(is.text, "2^53"));
}

/* What would end a string too early is found wherever it stands, and nothing else is taken for it. */
static void test_nul(void **state)
{
	(void)state;
	check_value("\"a\\\\u0000b\"", FORM_TEXT, ",", "", "a\\u0000b");
	check_value("\"\\\\\\u0000\"", FORM_TEXT, ",", "", "!");
	check_value("{\"a\":\"x\",\"b\\u0000\":1}", FORM_TEXT, ",", "/a", "!");
	check_value("{\"a\":\"x\",\"b\\u0000\":1}", FORM_JSON, ",", "/a", "!");
	check_value("{\"b\\u0000\" : 1}", FORM_JSON, ",", "", "{\"b\\u0000\":1}");
	assert_true(json_valid(STR("\"\\u0000\"")));
	assert_non_null(strstr(value_of(STR("[\"\\u0000\"]"), FORM_TEXT, ",", "").text, "NUL"));
}

static void test_garbage(void **state)
{
	static const char *const table[] = {"", " ", "\"", "\"a", "\"a\\\"", "\"a\nb\"", "\"a\tb\"",
		"\"\\x\"", "\"\\u12\"", "\"\\u12g4\"", "\"\xff\"", "\"\xc3\"", "\"\xc0\x80\"",
		"\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"", "\"\xe0\x80\x80\"", "'a'", "a", "True",
		"nul", "nullx", "truefalse", "NaN", "Infinity", "+1", "01", "-", "1.", ".5", "1e",
		"1e+", "0x10", "1 2", "\"a\" \"b\"", "\"a\"x", "[", "[1", "[1,", "[1,]", "[,1]",
		"[1 2]", "]", "{", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":1,}", "{a:1}", "{1:1}",
		"{\"a\" 1}", "{\"a\":1 \"b\":2}", "[01]", "[-01]", "[-.5]", "[1.]", "[1.e5]", "[-]",
		"[1 2]", "[1 -2]", "[1 .5]", "[1e 5]", "[- 1]", "[tru e]", "[true false]", "[\x01]",
		"[1\x0b]", "[\"\\uzzzz\"]", "[\"\\u 000\"]", "[-true]", "[1true]", "\"\\ud800\"",
		"[inf]", "[nan]", "/**/1", "\"a\\", "\"\\u", "\"\\u0000", "\xef\xbb\xbf\"a\"",
		"[1}", "{\"a\":1]", "// c\n1", "\"a\" // c"};
	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		check_value(table[i], FORM_TEXT, ",", "", "!");
		check_value(table[i], FORM_JSON, ",", "", "!");
		assert_false(json_valid(str_of(table[i])));
	}
	assert_int_equal(value_of(STR("\"a\0b\""), FORM_TEXT, ",", "").status, ST_TEMP);
	assert_int_equal(value_of(STR("1\0"), FORM_TEXT, ",", "").status, ST_TEMP);
}

static void test_depth(void **state)
{
	static const size_t depths[] = {1, 2, 128, 1000, 1001, 100000};
	static char text[200000];
	(void)state;
	for (size_t i = 0; i < sizeof(depths) / sizeof(*depths); i++) {
		size_t depth = depths[i];
		memset(text, '[', depth);
		memset(text + depth, ']', depth);
		assert_int_equal(json_valid((struct str){text, depth * 2}), depth <= 1000);
		assert_false(json_valid((struct str){text, depth * 2 - 1}));
	}
}

/* ---- pointers ---- */

static void test_pointers(void **state)
{
	static const char document[] =
		"{\"a\":[\"x\",{\"b/c\":\"y\"}], \"m~n\":\"z\", \"\":\"empty\", \"n\":null, "
		"\"\\u00fc\":\"u\", \"d\":1, \"d\":2, \"01\":\"name\", \"o\":{\"\":5}}";
	static const char *const table[][2] = {
		{"/a/0", "x"},
		{"/a/1/b~1c", "y"},
		{"/m~0n", "z"},
		{"/", "empty"},
		{"/\u00fc", "u"},
		{"/d", "2"},
		{"/01", "name"},
		{"/o/", "5"},
		{"/n", NULL},
		{"/n/x", NULL},
		{"/nothing", NULL},
		{"/a/2", NULL},
		{"/a/-", NULL},
		{"/a/00", NULL},
		{"/a/01", NULL},
		{"/a/x", NULL},
		{"/a/0/x", "!"},
		{"/d/x", "!"},
		{"/o", "!"},
		{"", "!"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++)
		check_value(document, FORM_TEXT, ",", table[i][0], table[i][1]);
	check_value("[]", FORM_TEXT, ",", "/0", NULL);
	check_value("[1]", FORM_TEXT, ",", "/99999999999", NULL);
	check_value("{\"A\":1}", FORM_TEXT, ",", "/a", NULL);
	check_value("\"text\"", FORM_TEXT, ",", "/a", "!");
	check_value(document, FORM_JSON, ",", "/a/1", "{\"b/c\":\"y\"}");
	assert_true(json_pointer_valid(STR("")));
	assert_true(json_pointer_valid(STR("/a~0~1/")));
	assert_false(json_pointer_valid(STR("a")));
	assert_false(json_pointer_valid(STR("/a~")));
	assert_false(json_pointer_valid(STR("/a~2")));
}

/* ---- rows ---- */

static void check_prefixed(
	const char *json, const char *pointer, const char *prefix, const char *want)
{
	struct json_rules rules = {
		FORM_JSON, STR(","), .pointer = pointer, .prefix = {prefix, strlen(prefix)}};
	struct arena mem = {0};
	struct pair *rows;
	size_t n;
	bool only_names;
	const char *why;
	char text[256] = "!";
	size_t at = 0;
	char *copy = exact(json, strlen(json) + 1);
	if (json_rows(
		    (struct str){copy, strlen(json)}, &rules, &mem, &rows, &n, &only_names, &why)) {
		at += (size_t)snprintf(text, sizeof(text), "%s", only_names ? "names" : "rows");
		for (size_t i = 0; i < n; i++)
			at += (size_t)snprintf(text + at, sizeof(text) - at, " %.*s=%.*s",
				(int)rows[i].name.len, rows[i].name.ptr, (int)rows[i].value.len,
				rows[i].value.len ? rows[i].value.ptr : "");
	} else {
		assert_true(strlen(why) > 0);
	}
	assert_string_equal(text, want);
	arena_clear(&mem);
	free(copy);
}

static void check_rows(const char *json, const char *pointer, const char *want)
{
	check_prefixed(json, pointer, "", want);
}

static void test_rows(void **state)
{
	(void)state;
	check_rows("[\"a\",\"b\\u0063\"]", "", "names a= bc=");
	check_rows("[]", "", "names");
	check_rows("{}", "", "rows");
	check_rows(
		"{\"a\":\"1\",\"b\":{\"x\": [1, 2]},\"c\":true,\"d\":false,\"e\":null,\"f\":2.0}",
		"", "rows a=1 b={\"x\":[1,2]} c=true d=false f=2");
	check_rows("[\"a\",1]", "", "!");
	check_rows("[null]", "", "!");
	check_rows("[\"a\\u0000\"]", "", "!");
	check_rows("{\"a\":\"\\u0000\"}", "", "!");
	check_rows("{\"\\ud800\":1}", "", "!");
	check_rows("\"a\"", "", "!");
	check_rows("5", "", "!");
	check_rows("null", "", "!");
	check_rows("[\"a\"", "", "!");
	check_rows("{\"data\":[\"a\"]}", "/data", "names a=");
	check_rows("{\"data\":{\"a\":1}}", "/data", "rows a=1");
	check_rows("[\"a\"]", "/data", "names a=");
	check_rows("{\"a\":1}", "/data", "!");
	check_rows("{\"data\":null}", "/data", "!");
	check_rows("{\"a\":9007199254740993}", "", "!");
	check_rows("{\"a\":[9007199254740993]}", "", "!");
	check_prefixed("[\"a\",\"\"]", "", "u/", "names u/a= u/=");
	check_prefixed("{\"\\u0061\":1}", "", "u/", "rows u/a=1");
}

/* A row is read for itself: what holds the rows together is judged here. */
static void test_rows_that_are_no_json(void **state)
{
	static const char *const bad[] = {"", " ", "[", "{", "]", "[]]", "[],", "{}{}", "[]\"\"",
		"[\"a\"", "[\"a\",", "[\"a\",]", "[,\"a\"]", "[\"a\"\"b\"]", "[\"a\":\"b\"]",
		"[\"a\"}", "{\"a\"}", "{\"a\":}", "{\"a\":1", "{\"a\":1,", "{\"a\":1,}",
		"{,\"a\":1}", "{\"a\":1]", "{\"a\"::1}", "{\"a\",1}", "{1:1}", "{a:1}",
		"{\"a\":1 2}", "{\"a\":1 \"b\":2}", "{\"a\":[1}}", "{\"a\":[1}]}",
		"{\"a\":{\"b\"}}", "{\"a\":01}", "{\"a\":tru}", "{\"a\":\"\\q\"}", "{\"\\q\":1}",
		"{\"a\":[1,]}", "{\"a\":\"\n\"}", "{\"a\":\v1}", "{\"a\":1}x", "\xef\xbb\xbf{}"};
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		check_rows(bad[i], "", "!");
	check_rows(" { \"a\" : 1 , \"b\" : [ 1 , { } ] } \r\n", "", "rows a=1 b=[1,{}]");
	check_rows("\t[ ]\n", "", "names");
	check_rows("{\"a\":\"\\\\\",\"b\":\"]\"}", "", "rows a=\\ b=]");
}

/* As deep as json_valid() takes a text, and no deeper. */
static void test_deep_rows(void **state)
{
	char text[3000];
	(void)state;
	for (size_t depth = 999; depth <= 1001; depth++) {
		size_t at = (size_t)snprintf(text, sizeof(text), "{\"a\":");
		memset(text + at, '[', depth - 1);
		memset(text + at + depth - 1, ']', depth - 1);
		strcpy(text + at + 2 * (depth - 1), "}");
		struct json_rules rules = {FORM_JSON, STR(","), .pointer = ""};
		struct arena mem = {0};
		struct pair *rows;
		size_t n;
		bool only_names;
		const char *why;
		assert_int_equal(
			json_rows(str_of(text), &rules, &mem, &rows, &n, &only_names, &why),
			json_valid(str_of(text)));
		arena_clear(&mem);
	}
}

/* A service that lists many names below whatever it is asked for would make a long prefix take
 * more memory than there is. */
static void test_rows_with_a_long_prefix(void **state)
{
	struct buf text = {.max = 1 << 20}, prefix = {.max = 1 << 20};
	struct arena mem = {0};
	struct pair *rows;
	size_t n;
	bool only_names;
	const char *why;
	(void)state;
	memset(buf_reserve(&prefix, 200000), 'x', 200000);
	prefix.len = 200000;
	buf_add_char(&text, '[');
	for (size_t i = 0; i < 400; i++)
		buf_printf(&text, "%s\"name%zu\"", i > 0 ? "," : "", i);
	buf_add(&text, STR("]\0"));
	text.len--;
	struct json_rules rules = {FORM_JSON, STR(","), "", buf_str(&prefix)};
	assert_false(json_rows(buf_str(&text), &rules, &mem, &rows, &n, &only_names, &why));
	assert_string_equal(why, "the rows are too large together");
	prefix.len = 1000;
	rules.prefix = buf_str(&prefix);
	assert_true(json_rows(buf_str(&text), &rules, &mem, &rows, &n, &only_names, &why));
	assert_int_equal(n, 400);
	buf_free(&text);
	buf_free(&prefix);
	arena_clear(&mem);
}

/* ---- writing ---- */

static void test_quote(void **state)
{
	struct arena mem = {0};
	struct str quoted;
	(void)state;
	assert_true(json_quote(STR(""), &mem, &quoted));
	ASSERT_TEXT(quoted, "\"\"");
	assert_true(json_quote(STR("a\"b\\c/d\b\f\n\r\t\x01\x7f\0\u00fc"), &mem, &quoted));
	ASSERT_TEXT(quoted, "\"a\\\"b\\\\c/d\\b\\f\\n\\r\\t\\u0001\\u007f\\u0000\u00fc\"");
	assert_true(json_valid(quoted));
	assert_false(json_quote(STR("a\xff\xc3"), &mem, &quoted));
	ASSERT_TEXT(quoted, "\"a\ufffd\ufffd\"");
	assert_true(json_valid(quoted));
	arena_clear(&mem);
}

static void test_parts(void **state)
{
	struct arena mem = {0};
	struct buf joined = {.max = 1000};
	struct str rest, part, text;
	(void)state;
	assert_true(json_tighten(
		STR(" { \"a\\u00fc\" : [ 1, -2.5e3 , true ], \"\" : null } "), &mem, &rest));
	while (json_part(&rest, &part)) {
		buf_add(&joined, part);
		buf_add_char(&joined, ' ');
	}
	ASSERT_TEXT(buf_str(&joined), "{ \"a\\u00fc\" [ 1 -2.5e3 true ] \"\" null } ");
	buf_reset(&joined);
	rest = STR(" {\r\n\"a b\"\t: [ 1,\n2 ] }\n");
	while (json_part(&rest, &part)) {
		buf_add(&joined, part);
		buf_add_char(&joined, ' ');
	}
	ASSERT_TEXT(buf_str(&joined), "{ \"a b\" [ 1 2 ] } ");
	buf_free(&joined);
	assert_true(json_text(STR("\"plain\""), &mem, &text));
	ASSERT_TEXT(text, "plain");
	assert_true(json_text(STR("\"a\\u00fc\\n\\\"\""), &mem, &text));
	ASSERT_TEXT(text, "a\u00fc\n\"");
	assert_false(json_text(STR("\"a\\u0000b\""), &mem, &text));
	assert_false(json_tighten(STR("[1"), &mem, &rest));
	assert_false(json_tighten(STR("[01]"), &mem, &rest));
	assert_false(json_tighten(STR(""), &mem, &rest));
	arena_clear(&mem);
}

static void check_line(const char *pointer, size_t wanted)
{
	size_t line =
		json_line(STR("\n{\"a\": [1, {\"x\": []},\n{\"b\": \"}\\\"\",\n\"c\"\n:\n[[\n],"
			      "7]}],\n\"d\": {},\n\"\": 1}\n"),
			pointer);
	if (line != wanted)
		fail_msg("%s: line %zu, wanted %zu", pointer, line, wanted);
}

static void test_lines(void **state)
{
	(void)state;
	check_line("", 2);
	check_line("/a", 2);
	check_line("/a/0", 2);
	check_line("/a/1/x", 2);
	check_line("/a/2", 3);
	check_line("/a/2/b", 3);
	check_line("/a/2/c", 4); /* where its name stands */
	check_line("/a/2/c/0", 6);
	check_line("/a/2/c/1", 7);
	check_line("/d", 8);
	/* what is not there */
	check_line("/e", 2);
	check_line("/a/3", 2);
	check_line("/a/2/e", 3);
	check_line("/a/2/c/2", 4);
	check_line("/a/2/b/x", 3);
	check_line("/a/x", 2);
	check_line("/d/x", 8);
}

static void test_object(void **state)
{
	const struct pair pairs[] = {{STR("a"), STR("1")}, {STR("b\n"), STR("x\"\xff")}};
	struct arena mem = {0};
	(void)state;
	ASSERT_TEXT(json_object(pairs, 0, &mem), "{}");
	ASSERT_TEXT(json_object(pairs, 2, &mem), "{\"a\":\"1\",\"b\\n\":\"x\\\"\ufffd\"}");
	arena_clear(&mem);
}

/* A value that is quoted comes back as it was. */
static void test_round_trip(void **state)
{
	struct arena mem = {0};
	char text[2] = "";
	(void)state;
	for (int c = 1; c < 128; c++) {
		struct str quoted;
		text[0] = (char)c;
		assert_true(json_quote(str_of(text), &mem, &quoted));
		struct result back = value_of(quoted, FORM_TEXT, ",", "");
		assert_int_equal(back.status, ST_OK);
		assert_string_equal(back.text, text);
	}
	arena_clear(&mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_reasons),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_large_numbers),
		cmocka_unit_test(test_nul),
		cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_depth),
		cmocka_unit_test(test_pointers),
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_rows_that_are_no_json),
		cmocka_unit_test(test_deep_rows),
		cmocka_unit_test(test_rows_with_a_long_prefix),
		cmocka_unit_test(test_quote),
		cmocka_unit_test(test_parts),
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_object),
		cmocka_unit_test(test_round_trip),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
