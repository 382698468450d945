/* `mapmux query`: reads its arguments, asks, prints. The protocols are in client_wire.c. */
#include "client/client.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/client_wire.h"
#include "text/json.h"

enum { EXIT_FOUND, EXIT_NOTFOUND, EXIT_ERROR };

static const char usage[] =
	"usage: mapmux query [OPTIONS] ENDPOINT KEY...\n"
	"       mapmux query [OPTIONS] dict:... --iterate PREFIX\n"
	"       mapmux query [OPTIONS] dict:... --set KEY VALUE | --unset KEY | --inc KEY N ...\n"
	"ENDPOINT   socketmap:unix:PATH:TABLE  socketmap:inet:HOST:PORT:TABLE\n"
	"           dict:unix:PATH:TABLE       dict:inet:HOST:PORT:TABLE\n"
	"           http:unix:PATH:TABLE       http:inet:HOST:PORT:TABLE\n"
	"           tcp:HOST:PORT\n"
	"KEY        - reads keys from standard input, one a line\n"
	"  --json            one JSON object a line\n"
	"  --timeout 10s     the longest wait for one answer\n"
	"dict and http:\n"
	"  --user U          on whose behalf; needed by priv/ keys\n"
	"http only:\n"
	"  --trace           tell the way of the answer: each part, cache, request, and when\n"
	"  --form text|json  the value as Postfix or as Dovecot (the default) would get it\n"
	"  --scope shared|priv  whose the key is\n"
	"  --token-file FILE what the listener wants as a Bearer\n"
	"dict only; a KEY or PREFIX without priv/ or shared/ gets shared/:\n"
	"  --dict-version N  2, 3 (as Dovecot 2.3.17 and later) or 4 (as Dovecot 2.4)\n"
	"  --iterate PREFIX  list what is under it: --recurse, --no-value, --exact, --max N\n"
	"  --set, --unset, --inc  all that are given form one transaction, in order\n"
	"exit code: 0 found, 1 not found, 2 error\n";

/* What an option is good for. */
enum use { FOR_ANY, FOR_DICT, FOR_HTTP, FOR_DICT_OR_HTTP, FOR_ITERATE, FOR_COUNT };

struct options {
	struct arena mem;
	struct endpoint endpoint;
	const char *endpoint_text;
	struct str user, prefix, first_key; /* of the changes, as it was given */
	bool help, json, iterate, priv, text, trace;
	struct str token;
	const char *given[FOR_COUNT]; /* an option for that use; NULL: there is none */
	int64_t timeout;
	int version;
	unsigned flags;
	uint64_t max_rows;
	struct change *changes;
	struct str *keys;
	size_t nchanges, nkeys; /* each array has room for all arguments */
};

/* One option: what follows it is in argv[0], argv[1]. `flag` is the reader's own. */
struct option {
	const char *name, *takes;
	int n; /* arguments */
	enum use use;
	bool (*read)(struct options *options, const struct option *option, char **argv,
		struct error *error);
	unsigned flag;
};

/* `flag` is the place of a bool. */
static bool read_switch(
	struct options *options, const struct option *option, char **argv, struct error *error)
{
	(void)argv;
	(void)error;
	*(bool *)(void *)((char *)options + option->flag) = true;
	return true;
}

static bool read_timeout(
	struct options *options, const struct option *option, char **argv, struct error *error)
{
	(void)option;
	if (setting_msec(str_of(argv[0]), &options->timeout) && options->timeout > 0)
		return true;
	return error_set(error, "--timeout: '%s' is no time; allowed: 500ms 5s 2m 1h", argv[0]);
}

static bool read_user(
	struct options *options, const struct option *option, char **argv, struct error *error)
{
	(void)option;
	(void)error;
	options->user = str_of(argv[0]);
	return true;
}

/* One of two words; `flag` is the place of a bool, which the second sets. */
static bool read_choice(
	struct options *options, const struct option *option, char **argv, struct error *error)
{
	struct str rest = str_of(option->takes), first, word = str_of(argv[0]);
	str_cut(&rest, '|', &first);
	bool second = str_eq(word, rest);
	*(bool *)(void *)((char *)options + option->flag) = second;
	return second || str_eq(word, first) ||
	       error_set(error, "%s: '%s'; allowed: %s", option->name, argv[0], option->takes);
}

static bool read_token(
	struct options *options, const struct option *option, char **argv, struct error *error)
{
	(void)option;
	return setting_read_secret(argv[0], &options->mem, &options->token, error);
}

static bool read_version(
	struct options *options, const struct option *option, char **argv, struct error *error)
{
	(void)option;
	uint64_t n;
	if (!str_u64(str_of(argv[0]), &n) || n < 2 || n > 4)
		return error_set(error, "--dict-version: '%s'; allowed: 2 3 4", argv[0]);
	options->version = (int)n;
	return true;
}

static bool read_iterate(
	struct options *options, const struct option *option, char **argv, struct error *error)
{
	(void)option;
	if (options->iterate)
		return error_set(error, "--iterate is given twice; allowed: once");
	options->iterate = true;
	options->prefix = str_of(argv[0]);
	return true;
}

static bool read_flag(
	struct options *options, const struct option *option, char **argv, struct error *error)
{
	(void)argv;
	(void)error;
	options->flags |= option->flag;
	return true;
}

static bool read_max(
	struct options *options, const struct option *option, char **argv, struct error *error)
{
	(void)option;
	return str_u64(str_of(argv[0]), &options->max_rows) ||
	       error_set(error, "--max: '%s' is no number of rows; 0 is all", argv[0]);
}

static bool read_change(
	struct options *options, const struct option *option, char **argv, struct error *error)
{
	struct change *change = &options->changes[options->nchanges++];
	*change = (struct change){.kind = option->flag, .key = str_of(argv[0])};
	options->first_key = options->changes[0].key;
	if (change->kind == CH_SET)
		change->value = str_of(argv[1]);
	if (change->kind == CH_ADD && !str_i64(str_of(argv[1]), &change->diff))
		return error_set(error,
			"--inc: '%s' is no number; allowed: 1 -1 and the like, "
			"64 bits",
			argv[1]);
	return true;
}

static const struct option known[] = {
	{"--help", "", 0, FOR_ANY, read_switch, offsetof(struct options, help)},
	{"--json", "", 0, FOR_ANY, read_switch, offsetof(struct options, json)},
	{"--timeout", "TIME", 1, FOR_ANY, read_timeout, 0},
	{"--user", "U", 1, FOR_DICT_OR_HTTP, read_user, 0},
	{"--trace", "", 0, FOR_HTTP, read_switch, offsetof(struct options, trace)},
	{"--form", "json|text", 1, FOR_HTTP, read_choice, offsetof(struct options, text)},
	{"--scope", "shared|priv", 1, FOR_HTTP, read_choice, offsetof(struct options, priv)},
	{"--token-file", "FILE", 1, FOR_HTTP, read_token, 0},
	{"--dict-version", "2|3|4", 1, FOR_DICT, read_version, 0},
	{"--iterate", "PREFIX", 1, FOR_DICT, read_iterate, 0},
	{"--recurse", "", 0, FOR_ITERATE, read_flag, ITER_RECURSE},
	{"--no-value", "", 0, FOR_ITERATE, read_flag, ITER_NO_VALUE},
	{"--exact", "", 0, FOR_ITERATE, read_flag, ITER_EXACT_KEY},
	{"--max", "N", 1, FOR_ITERATE, read_max, 0},
	{"--set", "KEY VALUE", 2, FOR_DICT, read_change, CH_SET},
	{"--unset", "KEY", 1, FOR_DICT, read_change, CH_UNSET},
	{"--inc", "KEY N", 2, FOR_DICT, read_change, CH_ADD},
};

static const struct option *find_option(const char *name)
{
	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (strcmp(known[i].name, name) == 0)
			return &known[i];
	return NULL;
}

static bool read_option(
	struct options *options, int *at, int argc, char **argv, struct error *error)
{
	const struct option *option = find_option(argv[*at]);
	if (!option)
		return error_set(error, "%s is no option; see mapmux query --help", argv[*at]);
	if (argc - *at - 1 < option->n)
		return error_set(error, "%s must be followed by %s", option->name, option->takes);
	options->given[option->use] = option->name;
	char **taken = argv + *at + 1;
	*at += option->n;
	return option->read(options, option, taken, error);
}

static bool read_arguments(struct options *options, int argc, char **argv, struct error *error)
{
	bool only_keys = false;
	for (int i = 0; i < argc; i++) {
		bool option = !only_keys && argv[i][0] == '-' && argv[i][1] != '\0';
		if (option && strcmp(argv[i], "--") == 0)
			only_keys = true;
		else if (option && !read_option(options, &i, argc, argv, error))
			return false;
		else if (!option && !options->endpoint_text)
			options->endpoint_text = argv[i];
		else if (!option)
			options->keys[options->nkeys++] = str_of(argv[i]);
	}
	return true;
}

/* A dict's keys are in one of two spaces. */
static bool complete_key(
	const struct options *options, struct str *key, struct arena *mem, struct error *error)
{
	if (str_starts(*key, STR("priv/")))
		return options->user.len > 0 ||
		       error_set(error, "'%s' belongs to a user; give --user U", key->ptr);
	if (!str_starts(*key, STR("shared/")))
		*key = arena_printf(mem, "shared/%s", key->ptr);
	return true;
}

/* Does the endpoint's protocol have what the options want? */
static bool check_use(const struct options *options, struct error *error)
{
	bool dict = options->endpoint.protocol == ASK_DICT;
	bool http = options->endpoint.protocol == ASK_HTTP;
	const struct {
		enum use use;
		bool fits;
		const char *needs;
	} uses[] = {
		{FOR_DICT, dict, "dict:..."},
		{FOR_ITERATE, dict, "dict:..."},
		{FOR_HTTP, http, "http:..."},
		{FOR_DICT_OR_HTTP, dict || http, "dict:... or http:..."},
	};
	for (size_t i = 0; i < sizeof(uses) / sizeof(*uses); i++)
		if (options->given[uses[i].use] && !uses[i].fits)
			return error_set(error, "%s needs an endpoint %s",
				options->given[uses[i].use], uses[i].needs);
	return true;
}

static bool check_dict(struct options *options, struct error *error)
{
	if (options->given[FOR_ITERATE] && !options->iterate)
		return error_set(error, "%s needs --iterate PREFIX", options->given[FOR_ITERATE]);
	if (options->iterate && !complete_key(options, &options->prefix, &options->mem, error))
		return false;
	for (size_t i = 0; i < options->nchanges; i++)
		if (!complete_key(options, &options->changes[i].key, &options->mem, error))
			return false;
	return true;
}

static bool read_options(struct options *options, int argc, char **argv, struct error *error)
{
	size_t room = (size_t)argc + 1;
	options->timeout = 10000;
	options->version = 3;
	options->changes = arena_alloc(&options->mem, room * sizeof(*options->changes));
	options->keys = arena_alloc(&options->mem, room * sizeof(*options->keys));
	if (!read_arguments(options, argc, argv, error))
		return false;
	if (options->help)
		return true;
	if (!options->endpoint_text)
		return error_set(error, "an ENDPOINT is missing; see mapmux query --help");
	if (!endpoint_parse(options->endpoint_text, &options->mem, &options->endpoint, error) ||
		!check_use(options, error) || !check_dict(options, error))
		return false;
	int kinds = (options->iterate ? 1 : 0) + (options->nchanges > 0) + (options->nkeys > 0);
	if (kinds != 1)
		return error_set(error,
			"%s; allowed: KEY..., or --iterate, or --set, --unset "
			"and --inc",
			kinds == 0 ? "nothing is asked for" : "too much is asked for at once");
	return true;
}

/* Asking and printing. */

struct run {
	struct options *options;
	struct peer peer;
	bool several; /* lines name the key */
	bool found, failed;
};

static const char *outcome_name(enum outcome outcome)
{
	static const char *const names[] = {"ok", "notfound", "temp", "perm", "uncertain"};
	return names[outcome];
}

static void print_text(struct str s)
{
	fwrite(s.ptr, 1, s.len, stdout);
}

/* JSON cannot carry what is no UTF-8: null then, and false. */
static bool print_quoted(const char *name, struct str text, struct arena *mem)
{
	struct str quoted;
	bool ok = json_quote(text, mem, &quoted);
	printf("%s", name);
	print_text(ok ? quoted : STR("null"));
	return ok;
}

static void print_json(struct run *run, const struct str *key, const struct reply *reply)
{
	struct arena mem = {0};
	struct str why = reply->why;
	bool ok = true;
	printf("{");
	if (key)
		ok = print_quoted("\"key\":", *key, &mem);
	printf("%s\"status\":\"%s\"", key ? "," : "", outcome_name(reply->outcome));
	if (reply->nvalues > 0)
		ok = print_quoted(",\"value\":", reply->values[0], &mem) && ok;
	for (size_t i = 0; i < reply->nvalues && reply->nvalues > 1; i++)
		ok = print_quoted(i == 0 ? ",\"values\":[" : ",", reply->values[i], &mem) && ok;
	if (reply->nvalues > 1)
		printf("]");
	if (!ok) {
		run->failed = true;
		why = STR("not UTF-8: it cannot be shown as JSON");
		fprintf(stderr, "mapmux query: %s\n", why.ptr);
	}
	if (why.len > 0 && !print_quoted(",\"reason\":", why, &mem))
		run->failed = true;
	if (reply->trace.len > 0) {
		printf(",\"trace\":");
		print_text(reply->trace);
	}
	printf("}\n");
	arena_clear(&mem);
}

static void count(struct run *run, const struct reply *reply)
{
	run->found = run->found || reply->outcome == GOT_OK;
	run->failed = run->failed || reply->outcome > GOT_NOTFOUND;
}

static void complain(const struct str *key, const struct reply *reply)
{
	fflush(stdout);
	fprintf(stderr, "mapmux query: %.*s%s%s%s%.*s\n", key ? (int)key->len : 0,
		key ? key->ptr : "", key ? ": " : "", outcome_name(reply->outcome),
		reply->why.len > 0 ? ": " : "", (int)reply->why.len,
		reply->why.ptr ? reply->why.ptr : "");
}

static void print_reply(struct run *run, const struct str *key, const struct reply *reply)
{
	count(run, reply);
	if (reply->outcome > GOT_NOTFOUND)
		complain(key, reply);
	if (run->options->json) {
		print_json(run, key, reply);
		return;
	}
	client_print_trace(reply->trace);
	for (size_t i = 0; i < reply->nvalues; i++) {
		if (run->several && key) {
			print_text(*key);
			putchar('\t');
		}
		print_text(reply->values[i]);
		putchar('\n');
	}
}

/* False: no further question can be asked. */
static bool look_up(struct run *run, struct str key)
{
	struct reply reply = {.outcome = GOT_PERM};
	struct arena mem = {0};
	struct error error;
	struct str whole = key;
	if (strlen(key.ptr) != key.len) {
		reply.why = STR("a key cannot hold a NUL byte");
	} else if (run->options->endpoint.protocol == ASK_DICT &&
		   !complete_key(run->options, &whole, &mem, &error)) {
		reply.why = str_of(error.text);
	} else {
		peer_lookup(&run->peer, whole, &mem, &reply);
	}
	print_reply(run, &key, &reply);
	arena_clear(&mem);
	return !reply.broken;
}

static bool look_up_lines(struct run *run)
{
	char *line = NULL;
	size_t size = 0;
	ssize_t len;
	bool going = true;
	setvbuf(stdout, NULL, _IOLBF, 0); /* for who asks and waits for the answer */
	while (going && (len = getline(&line, &size, stdin)) >= 0) {
		if (len > 0 && line[len - 1] == '\n')
			line[--len] = '\0';
		going = look_up(run, (struct str){line, (size_t)len});
	}
	free(line);
	if (going && ferror(stdin)) {
		fprintf(stderr, "mapmux query: standard input: %s\n", strerror(errno));
		run->failed = true;
	}
	return going;
}

static void look_up_all(struct run *run)
{
	const struct options *options = run->options;
	bool going = true;
	run->several = options->nkeys > 1 || str_eq(options->keys[0], STR("-"));
	for (size_t i = 0; i < options->nkeys && going; i++) {
		if (str_eq(options->keys[i], STR("-")))
			going = look_up_lines(run);
		else
			going = look_up(run, options->keys[i]);
	}
}

static void on_row(void *arg, struct str name, struct str value)
{
	struct run *run = arg;
	bool has_value = !(run->options->flags & ITER_NO_VALUE);
	if (run->options->json) {
		struct reply reply = {.values = &value, .nvalues = has_value};
		print_json(run, &name, &reply);
		return;
	}
	print_text(name);
	if (has_value) {
		putchar('\t');
		print_text(value);
	}
	putchar('\n');
}

static void iterate(struct run *run)
{
	const struct options *options = run->options;
	struct arena mem = {0};
	struct reply reply;
	peer_iterate(&run->peer, options->prefix, options->flags, options->max_rows, on_row, run,
		&mem, &reply);
	if (reply.outcome > GOT_NOTFOUND)
		print_reply(run, &options->prefix, &reply);
	count(run, &reply);
	arena_clear(&mem);
}

static void commit(struct run *run)
{
	const struct options *options = run->options;
	struct arena mem = {0};
	struct reply reply;
	peer_commit(&run->peer, options->changes, options->nchanges, &mem, &reply);
	print_reply(run, options->nchanges == 1 ? &options->first_key : NULL, &reply);
	arena_clear(&mem);
}

static int ask(struct options *options)
{
	struct run run = {.options = options};
	run.peer = (struct peer){.endpoint = &options->endpoint,
		.timeout_ms = options->timeout,
		.user = options->user,
		.version = options->version,
		.priv = options->priv,
		.text = options->text,
		.trace = options->trace,
		.token = options->token};
	if (options->iterate)
		iterate(&run);
	else if (options->nchanges > 0)
		commit(&run);
	else
		look_up_all(&run);
	peer_close(&run.peer);
	if (fflush(stdout) != 0 || ferror(stdout)) {
		fprintf(stderr, "mapmux query: standard output: %s\n", strerror(errno));
		run.failed = true;
	}
	return run.failed ? EXIT_ERROR : run.found ? EXIT_FOUND : EXIT_NOTFOUND;
}

int client_main(int argc, char **argv)
{
	struct options options = {0};
	struct error error;
	int code = EXIT_ERROR;
	if (!read_options(&options, argc, argv, &error))
		fprintf(stderr, "mapmux query: %s\n", error.text);
	else if (options.help)
		code = fputs(usage, stdout) < 0 ? EXIT_ERROR : EXIT_FOUND;
	else
		code = ask(&options);
	arena_clear(&options.mem);
	return code;
}
