/* Tests of template.c: what compiles, what a key becomes, and what never goes out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

#include "text/template.h"

struct fixture {
	struct arena mem;
	struct error error;
	struct template *suffix;
};

static int set_up(void **state)
{
	static struct fixture fixture;
	fixture = (struct fixture){0};
	*state = &fixture;
	return template_compile_suffix("/{user}", &fixture.mem, &fixture.suffix, &fixture.error)
		       ? 0
		       : -1;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;
	arena_clear(&fixture->mem);
	return 0;
}

/* "!": refused. */
static void check_fill(struct fixture *fixture, const char *text,
	const struct template_values *values, const char *want)
{
	struct template *template;
	struct buf url = {.max = 4096};
	if (!template_compile(text, &fixture->mem, &template, &fixture->error))
		fail_msg("%s: %s", text, fixture->error.text);
	buf_add(&url, STR("before "));
	bool ok = template_fill(template, values, &url) == TEMPLATE_OK;
	buf_add_char(&url, '\0');
	assert_string_equal(ok ? url.ptr + 7 : "!", want);
	buf_free(&url);
}

static void check_key(struct fixture *fixture, const char *text, struct str key, const char *want)
{
	const struct template_values values = {
		.key = key, .user = STR("u"), .table = STR("t"), .scope = STR("shared")};
	check_fill(fixture, text, &values, want);
}

static void test_compile_errors(void **state)
{
	static const char *const table[][2] = {
		{"", "http://"},
		{"ftp://h/{}", "http://"},
		{"h/{}", "http://"},
		{"HTTP://h/{}", "http://"},
		{"http://", "host"},
		{"http:///{}", "host"},
		{"http://:80/{}", "host"},
		{"http://user@/{}", "host"},
		{"http://user@:80/{}", "host"},
		{"http://h:0/{}", "port"},
		{"http://h:65536/{}", "port"},
		{"http://h:8x/{}", "port"},
		{"http://[::1/{}", "IPv6"},
		{"http://[::1]x/{}", "IPv6"},
		{"http://{domain}/x", "before the path"},
		{"http://h{}", "before the path"},
		{"http://{user}:x@h/", "before the path"},
		{"http://h\xc2\xa7/", "before the path"},
		{"http://h/{nothing}", "{nothing}"},
		{"http://h/{KEY}", "{KEY}"},
		{"http://h/{", "brace"},
		{"http://h/}", "brace"},
		{"http://h/{}}", "brace"},
		{"http://h/{{}", "brace"},
		{"http://h/{key", "brace"},
		{"http://h/{}#x", "fragment"},
		{"http://h/a b", "blank"},
		{"http://h/a\nb", "blank"},
		{"http://h/%", "hexadecimal"},
		{"http://h/%2", "hexadecimal"},
		{"http://h/%zz", "hexadecimal"},
		{"http://h/../{}", "segment"},
		{"http://h/{}/.", "segment"},
		{"http://h/%2E%2e/{}", "segment"},
	};
	struct fixture *fixture = *state;
	struct template *template;
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		if (template_compile(table[i][0], &fixture->mem, &template, &fixture->error))
			fail_msg("%s compiles", table[i][0]);
		if (!strstr(fixture->error.text, table[i][1]))
			fail_msg("%s: %s", table[i][0], fixture->error.text);
	}
	assert_false(template_compile_suffix("/{}", &fixture->mem, &template, &fixture->error));
	assert_false(
		template_compile_suffix("?u={user}", &fixture->mem, &template, &fixture->error));
	assert_false(template_compile_suffix("/../x", &fixture->mem, &template, &fixture->error));
	assert_true(template_compile_suffix("", &fixture->mem, &template, &fixture->error));
}

static void test_origin(void **state)
{
	static const char *const table[][2] = {
		{"http://h/{}", "http://h"},
		{"https://user:secret@h:8443/x/{}?k={}", "https://h:8443"},
		{"http://[::1]:80", "http://[::1]:80"},
		{"http://a@b@c?x={}", "http://c"},
	};
	struct fixture *fixture = *state;
	struct template *template;
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		assert_true(
			template_compile(table[i][0], &fixture->mem, &template, &fixture->error));
		assert_string_equal(template_origin(template), table[i][1]);
	}
}

static void test_literals(void **state)
{
	struct fixture *fixture = *state;
	check_key(fixture, "http://h", STR("k"), "http://h/");
	check_key(fixture, "http://h?k={}", STR("k"), "http://h/?k=k");
	check_key(fixture, "http://h/{{x}}/{}", STR("k"), "http://h/%7Bx%7D/k");
	check_key(fixture, "http://h/{{{}}}", STR("k"), "http://h/%7Bk%7D");
	check_key(fixture, "http://h/\xc3\xbc%20\"/{}", STR("k"), "http://h/%C3%BC%20%22/k");
	check_key(fixture, "http://u:p@h:1/a;b=c,d/{}?x=/y&z=?", STR("k"),
		"http://u:p@h:1/a;b=c,d/k?x=/y&z=?");
}

static void test_places(void **state)
{
	struct fixture *fixture = *state;
	check_key(fixture, "http://h/\xc2\xa7/{}/{key}?a={}&b=\xc2\xa7&c={key}", STR("a/b"),
		"http://h/a/b/a/b/a/b?a=a%2Fb&b=a%2Fb&c=a%2Fb");
	check_key(fixture, "http://h/{table}/{scope}/{user}/{localpart}/{domain}?u={user}",
		STR("x@y@z.org"), "http://h/t/shared/u/x%40y/z.org?u=u");
	check_key(fixture, "http://h/{localpart}", STR("plain"), "http://h/plain");
	check_key(fixture, "http://h/{localpart}", STR("a/b@c"), "http://h/a%2Fb");
}

static void test_encoding(void **state)
{
	struct fixture *fixture = *state;
	char key[4] = "k?k", want[64];
	for (int c = 0x20; c < 0x100; c++) {
		bool keep = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			    (c >= '0' && c <= '9') || (c < 0x7f && strchr("-._~", c));
		if (c == 0x7f)
			continue;
		key[1] = (char)c;
		if (keep || c == '/')
			snprintf(want, sizeof(want), "http://h/k%ck", c);
		else
			snprintf(want, sizeof(want), "http://h/k%%%02Xk", (unsigned)c);
		check_key(fixture, "http://h/{}", str_of(key), want);
		if (keep)
			snprintf(want, sizeof(want), "http://h/?q=k%ck", c);
		else
			snprintf(want, sizeof(want), "http://h/?q=k%%%02Xk", (unsigned)c);
		check_key(fixture, "http://h/?q={}", str_of(key), want);
	}
}

static void test_bad_keys(void **state)
{
	static const char *const table[] = {"", "/", "/a", "//h/x", ".", "..", "../a", "a/..",
		"a/../b", "a/./b", "./a", "a/.", "a\nb", "a\rb", "\x01", "\x7f", "a\tb"};
	struct fixture *fixture = *state;
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		check_key(fixture, "http://h/{}", str_of(table[i]), "!");
		check_key(fixture, "http://h/x?k={}", str_of(table[i]), "!");
		check_key(fixture, "http://h/fixed", str_of(table[i]), "!");
	}
	check_key(fixture, "http://h/{}", STR("a\0b"), "!");
	check_key(fixture, "http://h/{}", STR("..."), "http://h/...");
	check_key(fixture, "http://h/{}", STR("a//b/"), "http://h/a//b/");
	check_key(fixture, "http://h/{}", STR("%2e%2e/x"), "http://h/%252e%252e/x");
}

/* Pieces that are harmless alone. */
static void test_made_segments(void **state)
{
	struct fixture *fixture = *state;
	check_key(fixture, "http://h/{localpart}{domain}", STR(".@."), "!");
	check_key(fixture, "http://h/.{localpart}", STR(".@x"), "!");
	check_key(fixture, "http://h/{domain}/x", STR("a@.."), "!");
	check_key(fixture, "http://h/?x={localpart}", STR("..@x"), "!");
	check_key(fixture, "http://h/{domain}/x", STR("no-domain"), "!");
	check_key(fixture, "http://h/{domain}/{localpart}", STR("@d"), "!");
	check_key(fixture, "http://h/x?d={domain}", STR("no-domain"), "http://h/x?d=");
}

static void check_user(struct fixture *fixture, const char *text, const char *key, const char *user,
	const char *want)
{
	const struct template_values values = {.key = str_of(key),
		.user = str_of(user),
		.table = STR("t"),
		.scope = STR("priv"),
		.suffix = fixture->suffix};
	check_fill(fixture, text, &values, want);
}

static void test_users(void **state)
{
	struct fixture *fixture = *state;
	check_user(fixture, "http://h/{}", "a/b", "u@x", "http://h/a/b/u%40x");
	check_user(fixture, "http://h/{}?k={}", "a", "u/v", "http://h/a/u%2Fv?k=a%2Fu%2Fv");
	check_user(fixture, "http://h/{user}/{}", "a", "u", "http://h/u/a/u");
	check_user(fixture, "http://h/{}", "a", "..", "!");
	check_user(fixture, "http://h/{}", "a", "../b", "!");
	check_user(fixture, "http://h/{}", "a", "", "!");
	check_user(fixture, "http://h/{}", "a", "x\ny", "!");
	check_user(fixture, "http://h/{}", "a@b", "..", "!");
	check_user(fixture, "http://h/{domain}", "a@b", "u", "http://h/b");
}

static void test_prefixes(void **state)
{
	static const char *const table[][3] = {
		/* prefix, shared, private */
		{"", "http://h/d/", "http://h/d/u"},
		{"a/", "http://h/d/a/", "http://h/d/a/u"},
		{"a", "http://h/d/a", "http://h/d/a/u"},
		{"/", "!", "!"},
		{"../", "!", "!"},
	};
	struct fixture *fixture = *state;
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		struct template_values values = {
			.key = str_of(table[i][0]), .user = STR("u"), .is_prefix = true};
		check_fill(fixture, "http://h/d/{}", &values, table[i][1]);
		values.suffix = fixture->suffix;
		check_fill(fixture, "http://h/d/{}", &values, table[i][2]);
	}
}

static void test_overflow(void **state)
{
	struct fixture *fixture = *state;
	struct template *template;
	char key[3000];
	struct buf url = {.max = 4096};
	const struct template_values values = {.key = {key, sizeof(key)}};
	memset(key, '@', sizeof(key));
	assert_true(template_compile("http://h/{}", &fixture->mem, &template, &fixture->error));
	assert_int_equal(template_fill(template, &values, &url), TEMPLATE_BAD_KEY);
	buf_free(&url);
}

/* What people see of it: no secret, and the key where it stands. */
static void test_show(void **state)
{
	static const char *const table[][2] = {
		{"http://h/a/{}", "http://h/a/k%20y"},
		{"https://me:pw@h:81/{key}/x", "https://h:81/k%20y/x"},
		{"http://h", "http://h/"},
		{"http://h/a?token=abc&key={}", "http://h/a?token=...&key=k%20y"},
		{"http://h/{}?key=x{}y&token=z&last={user}",
			"http://h/k%20y?key=...k%20y...&token=...&last=u"},
		{"http://h/{}?secret", "http://h/k%20y?..."},
		{"http://h/{}?a=1&secret&b=2", "http://h/k%20y?a=...&...&b=..."},
		{"http://h/{}?{key}&t=1", "http://h/k%20y?k%20y&t=..."},
	};
	struct fixture *fixture = *state;
	const struct template_values values = {
		.key = STR("k y"), .user = STR("u"), .table = STR("t"), .scope = STR("shared")};
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		struct template *template;
		struct buf url = {.max = 4096};
		assert_true(
			template_compile(table[i][0], &fixture->mem, &template, &fixture->error));
		template_show(template, &values, &url);
		buf_add_char(&url, '\0');
		assert_string_equal(url.ptr, table[i][1]);
		buf_free(&url);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_compile_errors, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_origin, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_literals, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_places, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_encoding, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_bad_keys, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_made_segments, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_users, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_prefixes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_overflow, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_show, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
