/* Tests of digests: the same configuration gives the same one; whatever answers may depend on gives
 * another. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "config/config.h"
#include "model/digest.h"

#define LISTEN "listeners: [{protocol: socketmap, address: \"127.0.0.1:1\"}]\n"
#define URL "tables: [{name: t, type: url, param: \"http://h/{}\""

static char directory[] = "/tmp/mapmux-digest-XXXXXX";

static int enter_directory(void **state)
{
	(void)state;
	return !mkdtemp(directory) || chdir(directory) != 0;
}

static int leave_directory(void **state)
{
	static const char *const files[] = {"x.yaml", "token", "ca", "script.lua", "map"};
	(void)state;
	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++)
		unlink(files[i]);
	return chdir("/") != 0 || rmdir(directory) != 0;
}

static void write_file(const char *name, const char *text)
{
	FILE *file = fopen(name, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

/* Of the last table with that name: the outermost. */
static uint64_t digest(const char *name, const char *yaml)
{
	struct config config;
	struct error error;
	char *argv[] = {(char *)"-c", (char *)"x.yaml"};
	char text[2048];
	uint64_t found = 0;
	snprintf(text, sizeof(text), LISTEN "%s\n", yaml);
	write_file("x.yaml", text);
	if (!config_load(&config, 2, argv, &error))
		fail_msg("%s", error.text);
	for (size_t i = 0; i < config.ntables; i++)
		if (strcmp(config.tables[i].name, name) == 0)
			found = config.tables[i].digest;
	config_free(&config);
	assert_int_not_equal(found, 0);
	return found;
}

static void is_the_same(void **state)
{
	(void)state;
	uint64_t one = digest("t", URL ", headers: {A: b, C: d}}]");
	assert_int_equal(one, digest("t", URL ", headers: {A: b, C: d}}]"));
	assert_int_equal(
		one, digest("t", "tables: [{name: a, type: static, param: a=1},\n"
				 "  {type: url, name: t, timeout: 10000ms, headers: {A: b, C: d},\n"
				 "   param: \"http://h/{}\"}]"));
}

static void every_setting_counts(void **state)
{
	static const char *const variants[] = {
		URL "}]",
		"tables: [{name: t, type: url, param: \"http://i/{}\"}]",
		"tables: [{name: t, type: userli, param: \"http://h\", token: x, endpoint: alias}]",
		URL ", timeout: 9s}]",
		URL ", empty: ok}]",
		URL ", list_separator: \";\"}]",
		URL ", auth_token: a}]",
		URL ", auth_token: b}]",
		URL ", tls_verify: no}]",
		URL ", max_body: 2m}]",
		URL ", headers: {A: bc}}]",
		URL ", headers: {AB: c}}]",
		URL ", headers: {A: b, C: d}}]",
		URL ", status: {404: temp}}]",
	};
	enum { N = sizeof(variants) / sizeof(*variants) };
	uint64_t seen[N];
	(void)state;
	for (size_t i = 0; i < N; i++) {
		seen[i] = digest("t", variants[i]);
		for (size_t j = 0; j < i; j++)
			if (seen[i] == seen[j])
				fail_msg("%s\n%s", variants[i], variants[j]);
	}
}

static void names_count(void **state)
{
	(void)state;
	assert_int_not_equal(digest("t", "tables: [{name: t, type: static, param: a=1}]"),
		digest("u", "tables: [{name: u, type: static, param: a=1}]"));
}

/* Before and after the file is written anew. */
static void file_counts(const char *yaml, const char *file, const char *one, const char *two)
{
	write_file(file, one);
	uint64_t before = digest("t", yaml);
	assert_int_equal(digest("t", yaml), before);
	write_file(file, two);
	assert_int_not_equal(digest("t", yaml), before);
}

static void files_count(void **state)
{
	(void)state;
	file_counts(URL ", auth_token_file: token}]", "token", "one", "two");
	file_counts(URL ", ca_file: ca}]", "ca", "one", "two");
	file_counts(
		"tables: [{name: t, type: static, param: \"file:map\"}]", "map", "a 1\n", "a 12\n");
	file_counts("tables: [{name: t, type: lua, param: script.lua}]", "script.lua",
		"function lookup() return 1 end", "function lookup() return 2 end");
}

static void members_count(void **state)
{
	(void)state;
	assert_int_not_equal(digest("t", "tables: [{name: a, type: static, param: a=1},\n"
					 "  {name: t, type: chain, param: a}]"),
		digest("t", "tables: [{name: a, type: static, param: a=2},\n"
			    "  {name: t, type: chain, param: a}]"));
	assert_int_not_equal(digest("t", "tables: [{name: a, type: static, param: a=1},\n"
					 "  {name: b, type: static, param: a=1}, {name: t, type: "
					 "chain, param: a b}]"),
		digest("t", "tables: [{name: a, type: static, param: a=1},\n"
			    "  {name: b, type: static, param: a=1}, {name: t, type: chain, param: "
			    "b a}]"));
}

static void what_is_inside_counts(void **state)
{
	const struct backend backend = {.name = "composite"};
	struct table_conf inner = {.digest = 1};
	struct table_conf table = {.name = "t", .backend = &backend, .inner = &inner};
	struct arena mem = {0};
	(void)state;
	setting_fill(table_settings, &table.options, &mem);
	uint64_t before = digest_of(&table);
	inner.digest = 2;
	assert_int_not_equal(digest_of(&table), before);
	arena_clear(&mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(is_the_same),
		cmocka_unit_test(every_setting_counts),
		cmocka_unit_test(names_count),
		cmocka_unit_test(files_count),
		cmocka_unit_test(members_count),
		cmocka_unit_test(what_is_inside_counts),
	};
	return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
