/* The pure parts of the redis table: its URL, the names of keys, patterns; what check() refuses. */
#include "tables.h"

#include "../../backends/list.h"
#include "../../backends/redis_key.h"
#include "engine/redis.h"

static struct arena mem;

static const char *or_dash(const char *text)
{
	return text ? text : "-";
}

/* "path host port user password db | name=value ..." or "error". */
static void assert_url(const char *url, const char *expected)
{
	struct redis_options options = {0};
	struct setting_map rest;
	struct error error = {""};
	struct str got = STR("error");
	if (redis_parse_url(url, &mem, &options, &rest, &error)) {
		got = arena_printf(&mem, "%s %s %s '%s' '%s' %u", or_dash(options.path),
			or_dash(options.host), or_dash(options.port), options.user,
			options.password, options.db);
		for (size_t i = 0; i < rest.n; i++)
			got = arena_printf(&mem, "%s %s=%s", got.ptr, rest.pairs[i].name.ptr,
				rest.pairs[i].value.ptr);
	} else {
		assert_true(error.text[0]);
	}
	assert_str(got, expected);
}

static void test_urls(void **state)
{
	(void)state;
	assert_url("redis://h", "- h 6379 '' '' 0");
	assert_url("redis://h:1/2", "- h 1 '' '' 2");
	assert_url("redis://:p@h:1/2?prefix=a/b", "- h 1 '' 'p' 2 prefix=a/b");
	assert_url("redis://u:p%40%2f%3A@h", "- h 6379 'u' 'p@/:' 0");
	assert_url("redis://u:p@q/r@h/1", "- h 6379 'u' 'p@q/r' 1");
	assert_url("redis://[::1]:7/1", "- ::1 7 '' '' 1");
	assert_url("redis://[fe80::1%25eth0]", "- fe80::1%25eth0 6379 '' '' 0");
	assert_url("redis://h?db=5&prefix=%26%25&x=", "- h 6379 '' '' 5 prefix=&% x=");
	assert_url("redis://h?", "- h 6379 '' '' 0");
	assert_url("redis+unix:/run/r", "/run/r - - '' '' 0");
	assert_url("redis+unix:/run/r%3f?db=2", "/run/r? - - '' '' 2");
	assert_url("redis+unix:///run/r", "/run/r - - '' '' 0");
	assert_url("redis+unix://:p@/run/r?prefix=x", "/run/r - - '' 'p' 0 prefix=x");
	assert_url("redis+unix://u:p@/run/r@s", "/run/r@s - - 'u' 'p' 0");
	const char *const wrong[] = {"", "h", "redis:", "redis://", "redis://:p@", "redis://h:0",
		"redis://h:65536", "redis://h:x", "redis://h/x", "redis://h/65536", "redis://h/1/2",
		"redis://a:b:c", "redis://[::1", "redis://[::1]x", "redis://h h", "redis://h?db=x",
		"redis://h?prefix=%", "redis://h?prefix=%0", "redis://h?prefix=%0g",
		"redis://h?prefix=%00", "redis://:%00@h", "redis+unix:", "redis+unix://h/run/r",
		"redis+unix:?db=1", "rediss://h", "http://h"};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		assert_url(wrong[i], "error");
	arena_clear(&mem);
}

static void test_public_urls(void **state)
{
	(void)state;
	const char *const pairs[][2] = {
		{"redis://h:1/2?prefix=x@y", "redis://h:1/2?prefix=x@y"},
		{"redis://:p@h:1/2?prefix=x:y@z", "redis://:(secret)@h:1/2?prefix=x:y@z"},
		{"redis://u:p@q/r:s@h", "redis://u:(secret)@h"},
		{"redis+unix:/run/a:b@c", "redis+unix:/run/a:b@c"},
		{"redis+unix:///run/a:b@c", "redis+unix:///run/a:b@c"},
		{"redis+unix://u:p@/run/a:b@c", "redis+unix://u:(secret)@/run/a:b@c"},
	};
	for (size_t i = 0; i < sizeof(pairs) / sizeof(*pairs); i++)
		assert_str(redis_url_public(pairs[i][0], &mem), pairs[i][1]);
	arena_clear(&mem);
}

static struct key_prefix prefix_of(const char *text)
{
	struct key_prefix prefix;
	struct error error;
	if (!key_prefix_parse(text, "tab", &prefix, &error))
		fail_msg("%s: %s", text, error.text);
	return prefix;
}

static void assert_name(const char *text, enum scope scope, const char *user, const char *expected)
{
	struct key_prefix prefix = prefix_of(text);
	struct str name;
	size_t space;
	assert_int_equal(
		key_name(&prefix, scope, str_of(user), STR("k/*"), &mem, &name, &space), KEY_OK);
	assert_str(name, expected);
	assert_str(str_skip(name, space), "k/*");
}

static void test_names(void **state)
{
	(void)state;
	assert_name("", SCOPE_NONE, "", "k/*");
	assert_name("", SCOPE_SHARED, "alice", "k/*");
	assert_name("", SCOPE_PRIV, "alice", "priv/alice/k/*");
	assert_name("p:", SCOPE_PRIV, "a@b.c", "p:priv/a@b.c/k/*");
	assert_name("{scope}/", SCOPE_SHARED, "alice", "shared/k/*");
	assert_name("{scope}/", SCOPE_PRIV, "alice", "priv/alice/k/*");
	assert_name("{user}:", SCOPE_SHARED, "alice", ":k/*");
	assert_name("{user}:", SCOPE_PRIV, "a:b/%\n", "a%3Ab%2F%25%0A:k/*");
	assert_name("{table}/{scope}/{user}/", SCOPE_PRIV, "alice", "tab/priv/alice/k/*");
	assert_name("{{x}}{{{table}}}", SCOPE_NONE, "", "{x}{tab}k/*");
	arena_clear(&mem);
}

static void test_refused_names(void **state)
{
	(void)state;
	struct key_prefix prefix = prefix_of("p:");
	struct str name;
	size_t space;
	assert_int_equal(
		key_name(&prefix, SCOPE_PRIV, STR(""), STR("k"), &mem, &name, &space), KEY_NO_USER);
	assert_int_equal(
		key_name(&prefix, SCOPE_SHARED, STR("u"), STR("priv/u/k"), &mem, &name, &space),
		KEY_RESERVED);
	assert_int_equal(key_name(&prefix, SCOPE_NONE, STR(""), STR("priv/"), &mem, &name, &space),
		KEY_RESERVED);
	assert_int_equal(
		key_name(&prefix, SCOPE_SHARED, STR("u"), STR("priv"), &mem, &name, &space),
		KEY_OK);
	prefix = prefix_of("{scope}/");
	assert_int_equal(
		key_name(&prefix, SCOPE_SHARED, STR("u"), STR("priv/u/k"), &mem, &name, &space),
		KEY_OK);
	const char *const wrong[] = {"{user}", "{user}x", "{user}{scope}", "{user}{{", "{x}", "{",
		"}", "a}b", "{user", "{}"};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		struct error error = {""};
		bool separated =
			strcmp(wrong[i], "{user}{{") == 0; /* a brace cannot be of a user */
		assert_int_equal(key_prefix_parse(wrong[i], "t", &prefix, &error), separated);
	}
	arena_clear(&mem);
}

static void test_patterns(void **state)
{
	(void)state;
	assert_str(key_pattern(STR(""), &mem), "*");
	assert_str(key_pattern(STR("a/b"), &mem), "a/b*");
	assert_str(key_pattern(STR("*?[a-z]\\^"), &mem), "\\*\\?\\[a-z\\]\\\\^*");
	arena_clear(&mem);
}

static void test_error_codes(void **state)
{
	(void)state;
	const char *const pairs[][2] = {{"WRONGTYPE Operation", "WRONGTYPE"}, {"ERR x", "ERR"},
		{"", "ERR"}, {"secret value", "ERR"}, {"LOADING", "LOADING"}};
	for (size_t i = 0; i < sizeof(pairs) / sizeof(*pairs); i++) {
		struct redis_reply reply = {.kind = REPLY_ERROR, .text = str_of(pairs[i][0])};
		assert_str(redis_error_code(&reply), pairs[i][1]);
	}
	assert_str(
		redis_error_code(&(struct redis_reply){.kind = REPLY_TEXT, .text = STR("OK")}), "");
}

static void test_check(void **state)
{
	struct stand stand;
	(void)state;
	stand_init(&stand);
	assert_true(stand_add(&stand, "a", &backend_redis, "param", "redis://:p@h", NULL));
	assert_str(str_of(*(const char *const *)stand.confs[0].conf), "redis://:(secret)@h");
	assert_true(stand_add(
		&stand, "b", &backend_redis, "param", "redis://h", "password", "p", NULL));
	assert_false(stand_add(
		&stand, "c", &backend_redis, "param", "redis://:q@h", "password", "p", NULL));
	assert_false(stand_add(&stand, "c", &backend_redis, "param", "redis://u@h", NULL));
	assert_false(stand_add(&stand, "c", &backend_redis, "param", "redis://h?color=x", NULL));
	assert_false(
		stand_add(&stand, "c", &backend_redis, "param", "redis://h?prefix={user}", NULL));
	stand_close(&stand);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_urls),
		cmocka_unit_test(test_public_urls),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_refused_names),
		cmocka_unit_test(test_patterns),
		cmocka_unit_test(test_error_codes),
		cmocka_unit_test(test_check),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
