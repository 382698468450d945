/* The configuration: both ways in, every refusal with its place, the print that loads again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/config_parts.h"

#define LISTEN "listeners: [{protocol: socketmap, address: \"127.0.0.1:1\"}]\n"
#define TABLES LISTEN "tables:\n" /* what follows begins in line 3 */

static char directory[] = "/tmp/mapmux-config-XXXXXX";
static struct config config;
static struct error error;

static int enter_directory(void **state)
{
	(void)state;
	unsetenv("MAPMUX_UNSET");
	return !mkdtemp(directory) || chdir(directory) != 0;
}

static int leave_directory(void **state)
{
	(void)state;
	static const char *const files[] = {
		"x.yaml", "y.yaml", "secret", "empty", "print.yaml", "closed"};
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		unlink(files[i]);
	return chdir("/") != 0 || rmdir(directory) != 0;
}

static void write_file(const char *name, const void *content, size_t len)
{
	FILE *file = fopen(name, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(content, 1, len, file), len);
	fclose(file);
}

/* Loads by these words, NULL at the end. */
static bool load(const char *const *words)
{
	char *argv[64];
	int argc = 0;
	for (; words[argc]; argc++)
		argv[argc] = strdup(words[argc]);
	error.text[0] = '\0';
	bool good = config_load(&config, argc, argv, &error);
	while (argc > 0)
		free(argv[--argc]);
	return good;
}

#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void must_load(const char *const *words)
{
	if (!load(words))
		fail_msg("%s", error.text);
}

static bool load_yaml(const char *text)
{
	write_file("x.yaml", text, strlen(text));
	return load(ARGS("-c", "x.yaml"));
}

static const struct table_conf *table(const char *name)
{
	for (size_t i = 0; i < config.ntables; i++)
		if (strcmp(config.tables[i].name, name) == 0)
			return &config.tables[i];
	fail_msg("no table %s", name);
	return NULL;
}

/* A setting of a table as text. */
static const char *shown(const char *name, const char *key)
{
	static char text[256];
	struct arena mem = {0};
	struct str sub, value;
	bool from_file;
	const struct table_conf *conf = table(name);
	const struct setting *own =
		setting_find(conf->backend->settings, str_of(key), &sub, &from_file);
	const struct setting *common = setting_find(table_settings, str_of(key), &sub, &from_file);
	assert_true(own || common);
	setting_print(
		own ? own : common, own ? conf->conf : (const void *)&conf->options, &mem, &value);
	snprintf(text, sizeof(text), "%s", value.ptr);
	arena_clear(&mem);
	return text;
}

/* -- what is taken -- */

static void loads_yaml(void **state)
{
	(void)state;
	if (!load_yaml("threads: 3\n"
		       "shutdown_timeout: 5s\n"
		       "user: root\n"
		       "log: {level: warn, format: json, to: syslog}\n"
		       "listeners:\n"
		       "  - {protocol: dict, address: \"unix:/x\", mode: \"0600\", group: root,\n"
		       "     table: a, max_connections: 7, idle_timeout: 0, max_line: 2m}\n"
		       "  - {address: \":1\", protocol: socketmap}\n"
		       "tables:\n"
		       "  - {name: a, type: static, param: x=1, timeout: 1s, empty: ok}\n"))
		fail_msg("%s", error.text);
	assert_int_equal(config.threads, 3);
	assert_int_equal(config.shutdown_timeout, 5000);
	assert_string_equal(config.user, "root");
	assert_string_equal(config.group, "");
	assert_int_equal(config.log_level, LOG_LEVEL_WARN);
	assert_int_equal(config.log_format, LOG_FORMAT_JSON);
	assert_int_equal(config.log_to, LOG_TO_SYSLOG);
	assert_int_equal(config.nlistens, 2);
	const struct listen_conf *first = &config.listens[0];
	assert_string_equal(first->codec->name, "dict");
	assert_int_equal(first->address.kind, ADDRESS_UNIX);
	assert_string_equal(first->address_text, "unix:/x");
	assert_int_equal(first->mode, 0600);
	assert_string_equal(first->options.group, "root");
	assert_ptr_equal(first->table, table("a"));
	assert_int_equal(first->options.max_connections, 7);
	assert_int_equal(first->options.idle_timeout, 0);
	assert_string_equal(first->where, "x.yaml:6");
	const struct listen_conf *second = &config.listens[1];
	assert_int_equal(second->mode, 0660);
	assert_int_equal(second->options.idle_timeout, -1);
	assert_int_equal(listen_idle_timeout(second), second->codec->idle_timeout);
	assert_null(second->table);
	assert_string_equal(second->where, "x.yaml:8");
	assert_int_equal(config.ntables, 1);
	assert_string_equal(table("a")->where, "x.yaml:10");
	assert_int_equal(table("a")->options.timeout, 1000);
	assert_int_equal(table("a")->options.empty, EMPTY_OK);
	config_free(&config);
	config_free(&config);
}

static void has_defaults(void **state)
{
	(void)state;
	must_load(ARGS("--listen", "dict:unix:/x"));
	assert_true(config.threads > 0);
	assert_int_equal(config.shutdown_timeout, 10000);
	assert_int_equal(config.log_level, LOG_LEVEL_INFO);
	assert_int_equal(config.log_format, LOG_FORMAT_TEXT);
	assert_int_equal(config.log_to, LOG_TO_STDERR);
	assert_int_equal(config.listens[0].mode, 0660);
	assert_int_equal(config.ntables, 0);
	config_free(&config);
}

static void loads_podops_line(void **state)
{
	(void)state;
	must_load(ARGS("--socket", "/tmp/podop.socket", "--mode", "dovecot", "--name", "quota",
		"--type", "url", "--param", "http://admin/internal/dovecot/\xc2\xa7"));
	assert_int_equal(config.nlistens, 1);
	assert_string_equal(config.listens[0].codec->name, "dict");
	assert_string_equal(config.listens[0].address.path, "/tmp/podop.socket");
	assert_string_equal(config.listens[0].where, "command line");
	assert_string_equal(table("quota")->backend->name, "url");
	assert_string_equal(shown("quota", "param"), "http://admin/internal/dovecot/\xc2\xa7");
	config_free(&config);
	must_load(ARGS("--socket=/s", "--mode=postfix", "-vvv"));
	assert_string_equal(config.listens[0].codec->name, "socketmap");
	assert_int_equal(config.log_level, LOG_LEVEL_DEBUG);
	config_free(&config);
}

static void loads_a_command_line(void **state)
{
	(void)state;
	must_load(ARGS("--listen",
		"socketmap:unix:/a\\,b,mode=0600,user=root,table=m,idle_timeout=1s",
		"--listen=dict:[::1]:10001,max_line=64k", "--param", "a=1", "--name=s", "--type",
		"static", "--option", "timeout=2s", "--option=list_separator=, ", "--name", "m",
		"--type", "memory", "--type", "static", "--option", "entries.k=v", "--option",
		"entries.l=v=w", "--name", "e", "--threads", "2", "--log-level", "error",
		"--log-format=json", "--log-to", "syslog", "--shutdown-timeout", "0", "--user",
		"root", "--group", "root"));
	assert_int_equal(config.nlistens, 2);
	assert_string_equal(config.listens[0].address.path, "/a,b");
	assert_int_equal(config.listens[0].mode, 0600);
	assert_string_equal(config.listens[0].options.user, "root");
	assert_ptr_equal(config.listens[0].table, table("m"));
	assert_int_equal(config.listens[0].options.idle_timeout, 1000);
	assert_string_equal(config.listens[1].address.host, "::1");
	assert_int_equal(config.ntables, 3);
	assert_int_equal(table("s")->options.timeout, 2000);
	assert_string_equal(table("s")->options.list_separator, ", ");
	assert_string_equal(table("m")->backend->name, "memory");
	assert_string_equal(shown("e", "entries"), "\"k\"=\"v\" \"l\"=\"v=w\"");
	assert_string_equal(table("s")->where, "command line");
	assert_int_equal(config.threads, 2);
	assert_int_equal(config.log_level, LOG_LEVEL_ERROR);
	assert_int_equal(config.log_format, LOG_FORMAT_JSON);
	assert_int_equal(config.log_to, LOG_TO_SYSLOG);
	assert_int_equal(config.shutdown_timeout, 0);
	assert_string_equal(config.user, "root");
	assert_string_equal(config.group, "root");
	config_free(&config);
}

/* Listeners and tables add up; of the rest the last file counts, and the command line more. */
static void adds_files(void **state)
{
	static const char first[] = "threads: 2\nlog: {level: error, format: json}\n" LISTEN;
	static const char second[] = "threads: 4\nlog: {format: text}\n"
				     "tables: [{name: a, type: memory}]\n"
				     "listeners: [{protocol: dict, address: \":2\"}]\n";
	(void)state;
	write_file("x.yaml", first, sizeof(first) - 1);
	write_file("y.yaml", second, sizeof(second) - 1);
	must_load(ARGS("--threads", "8", "-cx.yaml", "--config=y.yaml", "--name", "b", "--type",
		"memory"));
	assert_int_equal(config.threads, 8);
	assert_int_equal(config.log_level, LOG_LEVEL_ERROR);
	assert_int_equal(config.log_format, LOG_FORMAT_TEXT);
	assert_int_equal(config.nlistens, 2);
	assert_int_equal(config.ntables, 2);
	assert_string_equal(table("a")->where, "y.yaml:3");
	config_free(&config);
	assert_false(load(ARGS("-c", "x.yaml", "-c", "y.yaml", "--name", "a", "--type", "memory")));
	assert_string_equal(error.text,
		"command line: --name: there is a table \"a\" already (y.yaml:3); allowed: once");
}

static void takes_every_kind_of_value(void **state)
{
	(void)state;
	assert_true(load_yaml(TABLES
		"- name: s\n"
		"  type: static\n"
		"  entries:\n"
		"    a.b: c\n"
		"    \"key with blanks\": 'it''s'\n"
		"    plain: two words # and a comment\n"
		"- {name: t, type: static, entries: {}, param: 'a=1'}\n"
		"- {name: c, type: chain, param: [s, t]}\n"
		"- {name: d, type: chain, param: s t}\n"
		"- {name: u, type: url, param: [\"http://a/{}\", \"http://b/{}\"], headers: ,\n"
		"   status: {401: temp, 4xx: perm}, status.500: perm}\n"
		"- name: folded\n"
		"  type: static\n"
		"  param: |\n"
		"    a=1\n"
		"    b=2\n"));
	assert_string_equal(shown("s", "entries"),
		"\"a.b\"=\"c\" \"key with blanks\"=\"it's\" \"plain\"=\"two words\"");
	assert_string_equal(shown("u", "param"), "http://a/{} http://b/{}");
	assert_string_equal(shown("u", "headers"), "");
	assert_string_equal(
		shown("u", "status"), "\"401\"=\"temp\" \"4xx\"=\"perm\" \"500\"=\"perm\"");
	for (const char *name = "cd"; *name; name++) {
		const struct table_list *list = table((char[]){*name, '\0'})->conf;
		assert_int_equal(list->n, 2);
		assert_ptr_equal(list->tables[0], table("s"));
		assert_ptr_equal(list->tables[1], table("t"));
	}
	config_free(&config);
	assert_true(load_yaml("log:\ntables:\nuser: ''\n---\n") == false);
	assert_true(load_yaml("---\nlog:\ntables:\nuser: ''\n" LISTEN "...\n"));
	config_free(&config);
}

/* Each table stands behind those it asks, whatever order the file has. */
static void orders_tables(void **state)
{
	(void)state;
	assert_true(load_yaml(TABLES "- {name: top, type: chain, param: [middle, leaf, other]}\n"
				     "- {name: middle, type: chain, param: [leaf, leaf]}\n"
				     "- {name: other, type: memory}\n"
				     "- {name: leaf, type: memory}\n"));
	static const char *const order[] = {"leaf", "middle", "other", "top"};
	for (unsigned i = 0; i < 4; i++) {
		assert_string_equal(config.tables[i].name, order[i]);
		assert_int_equal(config.tables[i].index, i);
		assert_non_null(config.tables[i].backend);
	}
	config_free(&config);
}

/* What clients and other tables see under that name. */
static const struct table_conf *outermost(const char *name)
{
	const struct table_conf *found = table(name);
	while (found->hidden)
		found++;
	return found;
}

/* The options of every table put composites around it, under its name; side_effects keeps them away. */
static void stacks_composites(void **state)
{
	(void)state;
	assert_true(load_yaml(TABLES "- {name: plain, type: memory}\n"
				     "- {name: kept, type: memory, cache: {ttl: 1s}}\n"
				     "- {name: slow, type: url, param: \"http://a/{}\"}\n"
				     "- {name: each, type: url, param: \"http://a/{}\", "
				     "side_effects: yes, cache: {ttl: 1s}}\n"));
	assert_null(outermost("plain")->inner);
	assert_string_equal(outermost("kept")->backend->name, "cache");
	assert_string_equal(outermost("kept")->inner->backend->name, "memory");
	assert_true(outermost("kept")->inner->hidden);
	assert_string_equal(outermost("slow")->backend->name, "cache");
	assert_string_equal(outermost("each")->backend->name, "url");
	config_free(&config);
}

static void replaces_variables(void **state)
{
	static const char *const cases[][2] = {
		{"${MAPMUX_A}", "alpha"},
		{"x${MAPMUX_A}y${MAPMUX_A}", "xalphayalpha"},
		{"${MAPMUX_EMPTY}", ""},
		{"${MAPMUX_NESTED}", "${MAPMUX_A} $${"},
		{"$${MAPMUX_A}", "${MAPMUX_A}"},
		{"$$${MAPMUX_A}", "$alpha"},
		{"$$$${MAPMUX_A}", "$${MAPMUX_A}"},
		{"$MAPMUX_A $ $$ a$", "$MAPMUX_A $ $$ a$"},
		{"{x} $", "{x} $"},
	};
	char yaml[256], listen[256];
	(void)state;
	setenv("MAPMUX_A", "alpha", 1);
	setenv("MAPMUX_EMPTY", "", 1);
	setenv("MAPMUX_NESTED", "${MAPMUX_A} $${", 1);
	setenv("MAPMUX_COMMA", "/a,b", 1);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		snprintf(yaml, sizeof(yaml),
			TABLES "- {name: m, type: memory, list_separator: \"%s\"}\n", cases[i][0]);
		if (!load_yaml(yaml))
			fail_msg("%s", error.text);
		assert_string_equal(table("m")->options.list_separator, cases[i][1]);
		config_free(&config);
		snprintf(listen, sizeof(listen), "list_separator=%s", cases[i][0]);
		must_load(ARGS("--socket", "x", "--mode", "postfix", "--name", "m", "--type",
			"memory", "--option", listen));
		assert_string_equal(table("m")->options.list_separator, cases[i][1]);
		config_free(&config);
	}
	must_load(ARGS("--listen", "dict:unix:${MAPMUX_COMMA},mode=0600"));
	assert_string_equal(config.listens[0].address.path, "/a,b");
	config_free(&config);
	assert_true(load_yaml(TABLES "- {name: c, type: chain, param: [\"${MAPMUX_A}\"]}\n"
				     "- {name: alpha, type: memory}\n"));
	config_free(&config);
}

static void reads_secret_files(void **state)
{
#define URL "- {name: u, type: url, param: \"http://a/{}\", "
	(void)state;
	write_file("secret", "hunter2\n", 8);
	write_file("empty", "\n", 1);
	assert_true(load_yaml(TABLES URL "auth_token_file: secret}\n"));
	assert_string_equal(shown("u", "auth_token"), "(secret)");
	config_free(&config);
	assert_false(load_yaml(TABLES URL "auth_token: x, auth_token_file: secret}\n"));
	assert_string_equal(error.text,
		"x.yaml:3: auth_token_file: cannot go with auth_token, which "
		"is given at x.yaml:3: auth_token; allowed: one of the two");
	assert_false(load_yaml(TABLES URL "auth_token_file: nowhere}\n"));
	assert_string_equal(error.text,
		"x.yaml:3: auth_token_file: cannot read nowhere: No such file or directory");
	assert_false(load_yaml(TABLES URL "auth_token_file: empty}\n"));
	assert_string_equal(
		error.text, "x.yaml:3: auth_token_file: empty is empty; it must hold the secret");
	assert_false(load_yaml(TABLES URL "auth_token_file: ''}\n"));
	assert_false(load_yaml(TABLES URL "auth_token_file: [secret]}\n"));
	assert_false(load_yaml(TABLES URL "auth_token: ''}\n"));
#undef URL
}

/* -- what is refused -- */

struct refusal {
	const char *given, *error;
};

static void refuses_yaml(void **state)
{
	static const struct refusal cases[] = {
		/* keys */
		{LISTEN "thread: 2\n",
			"x.yaml:2: thread: unknown key; did you mean threads? allowed: "
			"threads, shutdown_timeout, user, group, log.level, log.format, "
			"log.to, listeners, tables"},
		{LISTEN "threads: 2\nthreads: 3\n",
			"x.yaml:3: threads: is given twice, first at x.yaml:2"},
		{LISTEN "log: {level: info, level: info}\n", "x.yaml:2: log.level: is given twice"},
		{LISTEN LISTEN, "x.yaml:2: listeners: is given twice, first in line 1"},
		{LISTEN "log: {lvel: x}\n",
			"x.yaml:2: log.lvel: unknown key; allowed in \"log\": level"},
		{LISTEN "'': x\n", "x.yaml:2: YAML: a key is empty"},
		{TABLES "- {name: a, type: static, entries: {'': x}}\n",
			"x.yaml:3: YAML: a key is empty"},
		{LISTEN "[a]: x\n", "x.yaml:2: YAML: a key is a list"},
		{"listeners:\n- {protocol: dict, address: x, max_lin: 5}\n",
			"x.yaml:2: max_lin: unknown key; did you mean max_line? allowed: protocol, "
			"address, table,"},
		{TABLES "- {name: a, type: memory, cahce: {ttl: 60s}}\n",
			"x.yaml:3: cahce: unknown key; allowed: name, type, param, timeout"},
		{TABLES "- {name: a, type: memory, cache: {tll: 60s}}\n",
			"x.yaml:3: cache.tll: unknown key; allowed in \"cache\": ttl,"},
		{TABLES "- name: a\n  type: memory\n  cache:\n    ttl: 60s\n    max_bytes: 1k\n",
			"x.yaml:7: cache.max_bytes: \"1k\" is out of range; allowed: 64k to"},
		{TABLES "- name: a\n  type: memory\n  cache:\n    stale: 60s\n",
			"x.yaml:6: cache.stale: nothing is kept that could be stale; allowed: "
			"together"},
		{TABLES "- name: a\n  type: memory\n  cache: {ttl: never}\n",
			"x.yaml:5: cache.ttl: \"never\" is no duration; write it like"},
		{TABLES "- name: a\n  type: memory\n\n  tiemout: 3s\n",
			"x.yaml:6: tiemout: unknown key; did you mean timeout? allowed"},
		/* values */
		{LISTEN "threads: x\n",
			"x.yaml:2: threads: \"x\" is no whole number; allowed: 0 to 256"},
		{LISTEN "threads: 257\n",
			"x.yaml:2: threads: \"257\" is out of range; allowed: 0 to 256"},
		{LISTEN "shutdown_timeout: 5\n",
			"x.yaml:2: shutdown_timeout: \"5\" is no duration; write it "
			"like 500ms, 5s, 2m or 1h"},
		{LISTEN "log: {level: loud}\n", "x.yaml:2: log.level: \"loud\" is not known; "
						"allowed: error, warn, info, debug"},
		{LISTEN "user: nosuchuser\n", "x.yaml:2: user: there is no user \"nosuchuser\""},
		{LISTEN "group: nosuchgroup\n",
			"x.yaml:2: group: there is no group \"nosuchgroup\""},
		{LISTEN "user: \"a\\0b\"\n", "x.yaml:2: user: holds a NUL byte"},
		{LISTEN "user: ${MAPMUX_UNSET}\n",
			"x.yaml:2: user: the environment variable MAPMUX_UNSET is not set"},
		{LISTEN "user: ${9}\n", "x.yaml:2: user: \"${\" must be followed by the name"},
		{LISTEN "user: ${HOME\n", "x.yaml:2: user: \"${\" must be followed by the name"},
		/* kinds */
		{LISTEN "threads: {a: b}\n",
			"x.yaml:2: threads: is a map; allowed: a single value"},
		{LISTEN "threads: [1]\n", "x.yaml:2: threads: is a list; allowed: a single value"},
		{LISTEN "log: debug\n",
			"x.yaml:2: log: is no map; allowed: a map with any of level, "
			"format, to"},
		{LISTEN "log: [debug]\n", "x.yaml:2: log: is no map"},
		{"listeners: x\n",
			"x.yaml:1: listeners: is a single value; allowed: a list of maps"},
		{"listeners: {a: b}\n", "x.yaml:1: listeners: is a map; allowed: a list of maps"},
		{"listeners:\n- x\n", "x.yaml:2: listeners: an item of the list is a single value"},
		{LISTEN "tables: [[]]\n", "x.yaml:2: tables: an item of the list is a list"},
		{"- a\n", "x.yaml:1: YAML: the file is a list; allowed: a map"},
		{"x\n", "x.yaml:1: YAML: the file is a single value"},
		{TABLES "- {name: a, type: static, entries: {x: {y: z}}}\n",
			"x.yaml:3: entries.x: is a map; allowed: a single value"},
		{TABLES "- {name: a, type: static, entries: {x: [y]}}\n",
			"x.yaml:3: entries.x: is a list; allowed: a single value"},
		{TABLES "- {name: a, type: static, entries: [x]}\n",
			"x.yaml:3: entries: is a list; allowed: a single value or a map"},
		{TABLES "- {name: a, type: chain, param: {x: y}}\n",
			"x.yaml:3: param: is a map; allowed: a single value or a list"},
		{TABLES "- {name: a, type: chain, param: [{x: y}]}\n",
			"x.yaml:3: param: an item of the list is a map; allowed: words"},
		{TABLES "- {name: a, type: [x]}\n", "x.yaml:3: type: is a list or a map; allowed"},
		{TABLES "- {name: [x], type: memory}\n", "x.yaml:3: name: is a list"},
		/* YAML itself */
		{LISTEN "a: [b\n",
			"x.yaml:3: YAML: did not find expected ',' or ']' (while parsing a flow "
			"sequence that begins in line 2)"},
		{LISTEN "\tb: 1\n",
			"x.yaml:2: YAML: the line is indented with a tab; allowed: blanks"},
		{LISTEN "b: \xff\n", "x.yaml:2: YAML: invalid leading UTF-8 octet"},
		{LISTEN "a: &x b\n", "x.yaml:2: YAML: anchors (&name) are not supported"},
		{LISTEN "a: *x\n", "x.yaml:2: YAML: aliases (*name) are not supported"},
		{LISTEN "a: !!int 1\n", "x.yaml:2: YAML: tags (!name) are not supported"},
		{LISTEN "a: &x {}\n", "x.yaml:2: YAML: anchors"},
		{LISTEN "a: !x []\n", "x.yaml:2: YAML: tags"},
		{LISTEN "---\n" LISTEN, "x.yaml:2: YAML: a second document begins; allowed: one"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (load_yaml(cases[i].given))
			fail_msg("was taken: %s", cases[i].given);
		if (strncmp(error.text, cases[i].error, strlen(cases[i].error)) != 0)
			fail_msg("%s\nwanted: %s", error.text, cases[i].error);
	}
}

static void refuses_listeners(void **state)
{
	static const struct refusal cases[] = {
		{"protocol: sockmap, address: x",
			"protocol: there is no protocol \"sockmap\"; did you "
			"mean socketmap? allowed: socketmap, dict"},
		{"address: \":1\"", "protocol: is missing; allowed: socketmap, dict"},
		{"protocol: dict", "address: is missing; it must be given: unix:PATH, HOST:PORT"},
		{"protocol: dict, address: /run/x",
			"address: \"/run/x\" looks like a path; write unix:"},
		{"protocol: dict, address: \":1\", mode: 0600",
			"mode: is for unix sockets, and this listener is :1; leave it out"},
		{"protocol: dict, address: \":1\", user: root", "user: is for unix sockets"},
		{"protocol: dict, address: \"systemd:x\", group: root",
			"group: is for unix sockets, and this listener is systemd:x; leave it out "
			"(the "
			"socket unit says it)"},
		{"protocol: dict, address: \"unix:x\", mode: 660",
			"mode: \"660\" is no mode; allowed: "
			"four octal digits"},
		{"protocol: dict, address: \"unix:x\", mode: 0888", "mode: \"0888\" is no mode"},
		{"protocol: dict, address: \"unix:x\", mode: 1777", "mode: \"1777\" is no mode"},
		{"protocol: dict, address: \"unix:x\", user: nosuchuser", "user: there is no user"},
		{"protocol: dict, address: \"unix:x\", group: nosuchgroup",
			"group: there is no group"},
		{"protocol: dict, address: \"unix:x\", table: tab",
			"table: there is no table \"tab\"; did you mean tabl? allowed: tabl"},
		{"protocol: dict, address: \"unix:x\", tables: [tabl, tab]",
			"tables: there is no table \"tab\"; did you mean tabl? allowed: tabl"},
		{"protocol: tcp, address: \":1\", table: tabl, tables: [tabl]",
			"tables: is not for tcp: it asks one table; allowed: table"},
		{"protocol: dict, address: \"unix:x\", idle_timeout: -1",
			"idle_timeout: \"-1\" is no "
			"duration"},
		{"protocol: dict, address: \"unix:x\", max_connections: -1",
			"max_connections: \"-1\" is out of range; allowed: 0 or more"},
	};
	char yaml[512], want[512];
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		snprintf(yaml, sizeof(yaml),
			"tables: [{name: tabl, type: memory}]\nlisteners:\n- {%s}\n",
			cases[i].given);
		snprintf(want, sizeof(want), "x.yaml:3: %s", cases[i].error);
		if (load_yaml(yaml))
			fail_msg("was taken: %s", yaml);
		if (strncmp(error.text, want, strlen(want)) != 0)
			fail_msg("%s\nwanted: %s", error.text, want);
	}
	assert_false(load_yaml("listeners:\n- {protocol: dict, address: \"[::1]:010\"}\n"
			       "- {protocol: socketmap, address: \"[::1]:10\"}\n"));
	assert_string_equal(error.text,
		"x.yaml:3: address: [::1]:10 is listened on already (x.yaml:2); allowed: once");
}

static void refuses_tables(void **state)
{
	static const struct refusal cases[] = {
		{"- {name: a, type: memory}\n- {name: a, type: memory}\n",
			"x.yaml:4: name: there is a table \"a\" already (x.yaml:3); allowed: once"},
		{"- {name: a, type: memori}\n", "x.yaml:3: type: there is no type \"memori\"; did "
						"you mean memory? allowed: "},
		{"- {name: a}\n", "x.yaml:3: type: is missing for the table \"a\"; allowed: "},
		{"- {}\n", "x.yaml:3: type: is missing for a table without a name"},
		{"- {type: memory}\n", "x.yaml:3: name: is missing; it must be given"},
		{"- {name: \"\", type: memory}\n", "x.yaml:3: name: is empty"},
		{"- {name: \"a b\", type: memory}\n", "x.yaml:3: name: \"a b\" holds white space"},
		{"- {name: \"a\\tb\", type: memory}\n",
			"x.yaml:3: name: \"a?b\" holds white space"},
		{"- {name: a, type: url}\n", "x.yaml:3: param: is missing; it must be given: URL"},
		/* references */
		{"- {name: a, type: chain, param: b}\n",
			"x.yaml:3: param: there is no table \"b\"; allowed: a"},
		{"- {name: alias, type: chain, param: [b]}\n",
			"x.yaml:3: param: there is no table \"b\"; allowed: alias"},
		{"- {name: a, type: chain}\n", "x.yaml:3: param: is missing"},
		{"- {name: a, type: chain, param: \"\"}\n", "x.yaml:3: param: names no table"},
		{"- {name: a, type: chain, param: a}\n",
			"x.yaml:3: param: tables ask one another in a circle: a -> a; allowed"},
		{"- {name: x, type: chain, param: a}\n- {name: a, type: chain, param: b}\n"
		 "- {name: b, type: chain, param: [m, c]}\n- {name: c, type: chain, param: a}\n"
		 "- {name: m, type: memory}\n",
			"x.yaml:6: param: tables ask one another in a circle: a -> b -> c -> a; "
			"allowed"},
		/* the backends' own */
		{"- name: m\n  type: memory\n  param: lots\n", "x.yaml:5: param: "},
		{"- {name: s, type: static}\n", "x.yaml:3: param: "},
		{"- {name: s, type: static, param: foo}\n",
			"x.yaml:3: param: \"foo\" has no value; write key=value"},
	};
	char yaml[1024];
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		snprintf(yaml, sizeof(yaml), TABLES "%s", cases[i].given);
		if (load_yaml(yaml))
			fail_msg("was taken: %s", yaml);
		if (strncmp(error.text, cases[i].error, strlen(cases[i].error)) != 0)
			fail_msg("%s\nwanted: %s", error.text, cases[i].error);
	}
}

static void refuses_arguments(void **state)
{
	static const struct {
		const char *words[12], *error;
	} cases[] = {
		{{NULL}, "nothing to do: "},
		{{"--name", "a", "--type", "memory"}, "nothing to do: "},
		{{"--listn", "x"},
			"command line: --listn: unknown option; did you mean --listen? allowed: "},
		{{"--loglevel=x"},
			"command line: --loglevel: unknown option; did you mean --log-level?"},
		{{"-x"}, "command line: -x: unknown option"},
		{{"--like", "userli"}, "command line: --like: unknown option"},
		{{"--as", "podop"}, "command line: --as: \"podop\" is not known; allowed: userli"},
		{{"--as", "rest-connector"}, "command line: --as rest-connector: needs its JSON"},
		{{"--as", "rest-connector", "/nowhere"}, "cannot read /nowhere"},
		{{"word"}, "command line: word: is no option"},
		{{""}, "command line: : is no option"},
		{{"--listen"},
			"command line: --listen: has no value; write --listen PROTOCOL:ADDRESS"},
		{{"--name", "--type", "url"}, "command line: --name: has no value"},
		{{"-c"}, "command line: --config: has no value"},
		{{"--verbose=2"}, "command line: --verbose: takes no value"},
		{{"--threads", "many"}, "command line: --threads: \"many\" is no whole number"},
		{{"--log-level", "loud"},
			"command line: --log-level: \"loud\" is not known; allowed: error"},
		{{"--user", "nosuchuser", "--socket", "x", "--mode", "postfix"},
			"command line: --user: there is no user \"nosuchuser\""},
		{{"-c", "nowhere.yaml"}, "command line: --config: cannot read nowhere.yaml: No "
					 "such file or directory"},
		{{"-c", "/tmp"}, "command line: --config: cannot read /tmp: Is a directory"},
		{{"--listen", "socketmap"},
			"command line: --listen: \"socketmap\" is no listener; write "},
		{{"--listen", ":1"}, "command line: --listen: \"\" is no listener"},
		{{"--listen", "dict:"}, "command line: --listen: address: \"\" is no address"},
		{{"--listen", "dict::1,foo"}, "command line: --listen: \"foo\" is no key=value"},
		{{"--listen", "dict::1,=x"}, "command line: --listen: \"\" is no key=value"},
		{{"--listen", "dict::1,foo=1"},
			"command line: --listen: foo: unknown key; allowed: "},
		{{"--listen", "dict:unix:x,mode=0600,mode=0600"},
			"command line: --listen: mode: is given twice"},
		{{"--listen", "dict:unix:x", "--listen", "socketmap:unix:x"},
			"command line: --listen: address: unix:x is listened on already (command "
			"line)"},
		{{"--listen", "exim:unix:x"},
			"command line: --listen: protocol: there is no protocol"},
		{{"--socket", "x"}, "command line: --socket: needs --mode"},
		{{"--mode", "postfix"}, "command line: --mode: needs --socket"},
		{{"--socket", "x", "--mode", "exim"},
			"command line: --mode: \"exim\" is not known; allowed: postfix, dovecot"},
		{{"--socket", "x", "--socket", "y"}, "command line: --socket: is given twice"},
		/* a group that lacks a part */
		{{"--name", "a"}, "command line: --type: is missing for the table \"a\""},
		{{"--name", "a", "--name", "b", "--type", "memory", "--type", "memory"},
			"command line: --type: is missing for the table \"a\""},
		{{"--type", "memory", "--param", "1m"}, "command line: --name: is missing"},
		{{"--name", "a", "--type", "url"},
			"command line: --param: is missing; it must be given"},
		{{"--name", "a", "--type", "static"}, "command line: --param: "},
		{{"--name", "a", "--type", "memory", "--param", "1m", "--param", "2m"},
			"command line: --type: is missing for the table that begins with param "
			"\"2m\""},
		{{"--option", "a=b"}, "command line: --option: a: no table stands before it"},
		{{"--name", "a", "--option", "ab"},
			"command line: --option: \"ab\" is no KEY=VALUE"},
		{{"--name", "a", "--type", "memory", "--option", "tiemout=1s"},
			"command line: --option: tiemout: unknown key; did you mean timeout?"},
		{{"--name", "a", "--type", "memory", "--option", "timeout=1"},
			"command line: --option: timeout: \"1\" is no duration"},
		{{"--name", "a", "--type", "memory", "--option", "timeout=1s", "--option",
			 "timeout=1s"},
			"command line: --option: timeout: is given twice"},
		{{"--name", "a", "--type", "memory", "--option", "value=${MAPMUX_UNSET}"},
			"command line: --option: value: the environment variable MAPMUX_UNSET is "
			"not"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (load(cases[i].words))
			fail_msg("case %zu was taken", i);
		if (strncmp(error.text, cases[i].error, strlen(cases[i].error)) != 0)
			fail_msg("%s\nwanted: %s", error.text, cases[i].error);
	}
}

static void refuses_what_it_may_not_read(void **state)
{
	bool root = geteuid() == 0; /* who may read everything */
	(void)state;
	write_file("closed", LISTEN, sizeof(LISTEN) - 1);
	chmod("closed", 0);
	assert_true(!root || seteuid(65534) == 0);
	bool good = load(ARGS("-c", "closed"));
	assert_true(!root || seteuid(0) == 0);
	assert_false(good);
	assert_string_equal(
		error.text, "command line: --config: cannot read closed: Permission denied");
}

/* Whatever stands in a file, loading ends in a yes or an error that names the file. */
static void survives_any_cut_and_any_byte(void **state)
{
	static const char whole[] =
		"threads: 2\nlog: {level: info}\nlisteners:\n- {protocol: dict, address: \":1\"}\n"
		"tables:\n- name: a\n  type: static\n  entries: {x: y, \"z\": \"$${\"}\n"
		"- {name: c, type: chain, param: [a, a]}\n";
	char text[sizeof(whole)];
	(void)state;
	for (size_t n = 0; n < sizeof(whole) - 1; n++) {
		write_file("x.yaml", whole, n);
		if (load(ARGS("-c", "x.yaml")))
			config_free(&config);
		else
			assert_true(strncmp(error.text, "x.yaml:", 7) == 0 ||
				    strncmp(error.text, "nothing to do", 13) == 0);
		static const char bytes[] = {'\0', '\xff', '"', '[', '}', '\n', '$', '&', '-', ':'};
		for (size_t i = 0; i < sizeof(bytes); i++) {
			memcpy(text, whole, sizeof(whole));
			text[n] = bytes[i];
			write_file("x.yaml", text, sizeof(whole) - 1);
			if (load(ARGS("-c", "x.yaml")))
				config_free(&config);
			else
				assert_true(error.text[0] != '\0');
		}
	}
}

/* -- printing -- */

/* config_write() without the comments that say where things stood; to be freed. */
static char *print_loaded(void)
{
	char *text = NULL, *line = NULL, *kept;
	size_t size = 0, room = 0, n = 0;
	FILE *out = open_memstream(&text, &size);
	config_write(&config, out);
	fclose(out);
	write_file("print.yaml", text, size);
	kept = calloc(1, size + 1);
	FILE *in = fmemopen(text, size, "r");
	for (ssize_t len; (len = getline(&line, &room, in)) > 0;)
		if (strncmp(line, "  # ", 4) != 0) {
			memcpy(kept + n, line, (size_t)len);
			n += (size_t)len;
		}
	fclose(in);
	free(line);
	free(text);
	config_free(&config);
	return kept;
}

static void print_is_stable(void)
{
	char *first = print_loaded();
	if (!load(ARGS("-c", "print.yaml")))
		fail_msg("%s\n%s", error.text, first);
	char *second = print_loaded();
	assert_string_equal(first, second);
	free(first);
	free(second);
}

/* The guard within, the cache around it, the keys without, and only these are seen. */
static void composites_stand_around_tables(void **state)
{
	(void)state;
	assert_true(
		load_yaml(TABLES "- {name: t, type: url, param: 'http://h/{}', lowercase: yes,\n"
				 "   breaker: {failures: 3, cooldown: 1s}}\n"
				 "- {name: c, type: chain, param: t}\n"
				 "- {name: s, type: static, param: k=v, max_inflight: 3}\n"));
	assert_int_equal(config.ntables, 6);
	const struct table_conf *core = table("t"), *guard = core + 1, *cache = core + 2,
				*keys = core + 3;
	assert_string_equal(core->backend->name, "url");
	assert_string_equal(guard->backend->name, "guard");
	assert_string_equal(keys->backend->name, "keys");
	assert_string_equal(cache->backend->name, "cache");
	assert_ptr_equal(keys->inner, cache);
	assert_ptr_equal(cache->inner, guard);
	assert_ptr_equal(guard->inner, core);
	assert_ptr_equal(table_core(keys), core);
	assert_true(core->hidden && guard->hidden && cache->hidden && !keys->hidden);
	assert_string_equal(keys->name, "t");
	assert_int_equal(keys->ops, core->ops);
	const struct table_list *members = table("c")->conf;
	assert_ptr_equal(members->tables[0], keys);
	assert_false(table("s")->hidden); /* answers at once: there is nothing to guard */
	print_is_stable();
	config_free(&config);
}

/* What begins an extension of a user's name is known of a table through whatever stands around it. */
static void delimiters_are_known_from_without(void **state)
{
	(void)state;
	assert_true(load_yaml(TABLES
		"- {name: login, type: userli, param: 'http://h', token: t, endpoint: auth,\n"
		"   recipient_delimiter: '+', cache: {ttl: 1s}}\n"
		"- {name: file, type: static, param: k=v, recipient_delimiter: '-+'}\n"
		"- {name: plain, type: static, param: k=v}\n"
		"- {name: both, type: chain, param: [plain, login, file]}\n"
		"- {name: kept, type: chain, param: [both, plain], lowercase: yes}\n"));
	assert_string_equal(outermost("login")->delimiters, "+");
	assert_string_equal(outermost("file")->delimiters, "-+");
	assert_null(outermost("plain")->delimiters);
	assert_string_equal(outermost("both")->delimiters, "+-");
	assert_string_equal(outermost("kept")->delimiters, "+-");
	config_free(&config);
}

/* Whatever a value holds. */
static void print_loads_again(void **state)
{
	(void)state;
	setenv("MAPMUX_ODD",
		"\x01 \xc2\x85\xe2\x80\xa8 \x7f \xef\xbb\xbf \xf0\x9f\x93\xa7 ${X} $${", 1);
	assert_true(load_yaml(
		"threads: 3\nlog: {level: debug}\nuser: root\n"
		"listeners:\n"
		"- {protocol: dict, address: \"unix:/a b\", mode: '0600', idle_timeout: 90s}\n"
		"- {protocol: socketmap, address: \":1\", table: \"x:y\", max_request: 2k}\n"
		"tables:\n"
		"- {name: \"x:y\", type: chain, param: ['#', '0-']}\n"
		"- {name: '#', type: static, entries: {\"a: b\": \"c\\n\\td\\\"\\\\\", '~': '~',\n"
		"   \"${q\": \"${MAPMUX_ODD}\", '- x': \"$${MAPMUX_ODD}\", 'true': ' lead'}}\n"
		"- {name: '0-', type: url, param: [\"http://a/{}?x={user}\", "
		"'http://b/\xc2\xa7'],\n"
		"   status: {4xx: temp}, headers: {X-A: \"b, c\"}, timeout: 1500ms, value: /a~1b,\n"
		"   list_separator: \"\\t\", http2: yes, max_body: 3k, balance: round-robin}\n"));
	print_is_stable();
	must_load(ARGS("-c", "print.yaml"));
	const struct setting_map *entries = NULL;
	for (const struct setting *s = table("#")->backend->settings; s->name; s++)
		if (strcmp(s->name, "entries") == 0)
			entries = (const struct setting_map *)((const char *)table("#")->conf +
							       s->offset);
	assert_non_null(entries);
	assert_true(str_eq(entries->pairs[0].value, STR("c\n\td\"\\")));
	assert_true(str_eq(entries->pairs[2].name, STR("${q")));
	assert_true(str_eq(entries->pairs[2].value, str_of(getenv("MAPMUX_ODD"))));
	assert_true(str_eq(entries->pairs[3].value, STR("${MAPMUX_ODD}")));
	config_free(&config);
}

static void print_hides_secrets(void **state)
{
	char *text = NULL;
	size_t size = 0;
	(void)state;
	write_file("secret", "hunter2\n", 8);
	must_load(ARGS("--socket", "x", "--mode", "postfix", "--name", "u", "--type", "url",
		"--param", "http://me:hunter2@a/{} https://me@b/x:hunter http://:hunter2@c/@",
		"--option", "auth_token_file=secret", "--option", "headers.X-Api-Key=hunter2",
		"--option", "headers.X-Auth=hunter2", "--option", "headers.X-Realm=mail",
		"--option", "proxy=http://me:hunter2@proxy", "--name", "v", "--type", "url",
		"--param", "http://a/{}", "--option", "proxy=me:hunter2@proxy:3128"));
	FILE *out = open_memstream(&text, &size);
	config_write(&config, out);
	fclose(out);
	config_free(&config);
	assert_null(strstr(text, "hunter2"));
	assert_non_null(
		strstr(text, "http://me:(secret)@a/{} https://me@b/x:hunter http://:(secret)@c/@"));
	assert_non_null(strstr(text, "auth_token: (secret)"));
	assert_non_null(strstr(text, "X-Api-Key: \"(secret)\""));
	assert_non_null(strstr(text, "X-Realm: mail"));
	assert_non_null(strstr(text, "proxy: \"me:(secret)@proxy:3128\""));
	free(text);
}

/* -- the example and the help -- */

static char *read_whole(const char *path)
{
	static char text[1 << 16];
	FILE *file = fopen(path, "r");
	assert_non_null(file);
	size_t n = fread(text, 1, sizeof(text) - 1, file);
	text[n] = '\0';
	fclose(file);
	return text;
}

static void shows(const char *text, const struct setting *settings)
{
	char key[64];
	for (const struct setting *s = settings; s && s->name; s++) {
		const char *dot = strchr(s->name, '.');
		snprintf(key, sizeof(key), "%s:", dot ? dot + 1 : s->name);
		if (!strstr(text, key))
			fail_msg("conf/mapmux.yaml does not show %s", s->name);
		snprintf(key, sizeof(key), "%s_file:", dot ? dot + 1 : s->name);
		if (s->kind == SET_SECRET && !strstr(text, key))
			fail_msg("conf/mapmux.yaml does not show %s", key);
	}
}

static void the_example_loads_and_is_complete(void **state)
{
	static const char example[] = SOURCE_DIR "/conf/mapmux.yaml";
	(void)state;
	must_load(ARGS("-c", example));
	print_is_stable();
	const char *text = read_whole(example);
	shows(text, global_settings);
	shows(text, listen_settings);
	shows(text, table_settings);
	for (const struct backend *const *composite = composites; *composite; composite++)
		shows(text, (*composite)->settings);
	for (const struct codec *const *codec = codecs; *codec; codec++)
		shows(text, (*codec)->settings);
	for (const struct backend *const *backend = backends; *backend; backend++) {
		char type[64];
		snprintf(type, sizeof(type), "type: %s\n", (*backend)->name);
		assert_non_null(strstr(text, type));
		shows(text, (*backend)->settings);
	}
}

/* config_help() into print.yaml, as text. */
static const char *help(const char *type)
{
	fflush(stdout);
	int saved = dup(STDOUT_FILENO);
	int file = open("print.yaml", O_WRONLY | O_CREAT | O_TRUNC, 0600);
	dup2(file, STDOUT_FILENO);
	assert_true(config_help(type));
	fflush(stdout);
	dup2(saved, STDOUT_FILENO);
	close(saved);
	close(file);
	struct str rest = str_of(read_whole("print.yaml")), one;
	const char *text = rest.ptr;
	while (str_cut(&rest, '\n', &one))
		if (one.len > 82) /* section signs are two bytes */
			fail_msg("a line is longer than 80: %.*s", (int)one.len, one.ptr);
	return text;
}

static void helps(void **state)
{
	(void)state;
	const char *text = help(NULL);
	for (const struct arg_option *option = arg_options; option->name; option++)
		assert_non_null(strstr(text, option->name));
	for (const struct backend *const *backend = backends; *backend; backend++)
		assert_non_null(strstr(text, (*backend)->help));
	text = help("url");
	assert_non_null(strstr(text, "param: TEXT (must be given)"));
	assert_non_null(strstr(text, "auth_token: SECRET, or auth_token_file: FILE"));
	assert_non_null(strstr(text, "timeout: TIME (default 10s)"));
	text = help("socketmap");
	assert_non_null(strstr(text, "mode: TEXT (default 0660)"));
	assert_false(config_help("nonsense"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(loads_yaml),
		cmocka_unit_test(has_defaults),
		cmocka_unit_test(loads_podops_line),
		cmocka_unit_test(loads_a_command_line),
		cmocka_unit_test(adds_files),
		cmocka_unit_test(takes_every_kind_of_value),
		cmocka_unit_test(orders_tables),
		cmocka_unit_test(stacks_composites),
		cmocka_unit_test(replaces_variables),
		cmocka_unit_test(reads_secret_files),
		cmocka_unit_test(refuses_yaml),
		cmocka_unit_test(refuses_listeners),
		cmocka_unit_test(refuses_tables),
		cmocka_unit_test(refuses_arguments),
		cmocka_unit_test(refuses_what_it_may_not_read),
		cmocka_unit_test(survives_any_cut_and_any_byte),
		cmocka_unit_test(composites_stand_around_tables),
		cmocka_unit_test(delimiters_are_known_from_without),
		cmocka_unit_test(print_loads_again),
		cmocka_unit_test(print_hides_secrets),
		cmocka_unit_test(the_example_loads_and_is_complete),
		cmocka_unit_test(helps),
	};
	return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
