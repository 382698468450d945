/* The options of `serve` and `check` into a draft. Reads the files they name on the way. */
#include "config/config_parts.h"

#include <stdlib.h>

#include "config/config_convert.h"

#define PLACE "command line"
#define LISTEN_FORM                                                                                \
	"PROTOCOL:ADDRESS[,key=value]..., like socketmap:unix:/run/mapmux/socketmap,mode=0660"

const struct arg_option arg_options[] = {
	{.name = "--config",
		.short_name = "-c, ",
		.value = "FILE",
		.help = "read this YAML file; later ones add to earlier ones",
		.action = ARG_CONFIG},
	{.name = "--listen",
		.value = "PROTOCOL:ADDRESS[,key=value]...",
		.help = "serve this protocol at unix:PATH, HOST:PORT, [V6]:PORT, :PORT or "
			"systemd:NAME",
		.action = ARG_LISTEN},
	{.name = "--name",
		.value = "NAME",
		.help = "declare a table of this name, with --type and --param in any order",
		.action = ARG_PART},
	{.name = "--type", .value = "TYPE", .help = "what serves the table", .action = ARG_PART},
	{.name = "--param", .value = "TEXT", .help = "its main setting", .action = ARG_PART},
	{.name = "--option",
		.value = "KEY=VALUE",
		.help = "a further setting of the table that was begun last",
		.action = ARG_OPTION},
	{.name = "--socket",
		.value = "PATH",
		.help = "as podop: one listener at this path, with --mode",
		.action = ARG_SOCKET},
	{.name = "--mode",
		.value = "postfix|dovecot",
		.help = "what it speaks: socketmap or dict",
		.action = ARG_MODE},
	{.name = "--as",
		.value = "userli|rest-connector FILE",
		.help = "run as that program did, with its environment or its JSON file; mapmux "
			"convert prints what that is",
		.action = ARG_AS},
	{.name = "--threads",
		.value = "N",
		.help = "worker threads; 0: as many as there are CPUs",
		.key = "threads"},
	{.name = "--user",
		.value = "USER",
		.help = "run as this user once the sockets are bound",
		.key = "user"},
	{.name = "--group", .value = "GROUP", .help = "run with this group", .key = "group"},
	{.name = "--shutdown-timeout",
		.value = "TIME",
		.help = "how long SIGTERM lets what is under way go on (10s)",
		.key = "shutdown_timeout"},
	{.name = "--log-level",
		.value = "LEVEL",
		.help = "error, warn, info or debug",
		.key = "log.level"},
	{.name = "--log-format",
		.value = "text|json",
		.help = "how a line of the log looks",
		.key = "log.format"},
	{.name = "--log-to",
		.value = "stderr|syslog",
		.help = "where the log goes",
		.key = "log.to"},
	{.name = "--verbose",
		.short_name = "-v, ",
		.help = "the same as --log-level debug; may be repeated",
		.action = ARG_VERBOSE},
	{.name = NULL},
};

struct args {
	struct draft *draft;
	struct section *globals, *table; /* table: the one declared last, or NULL */
	const char *socket, *mode;
	int argc, at;
	char **argv;
	bool podop; /* no other options than podop's */
	struct error *error;
};

/* -- words -- */

static const struct arg_option *option_find(struct str name)
{
	for (const struct arg_option *option = arg_options; option->name; option++)
		if (str_eq(name, str_of(option->name)))
			return option;
	return NULL;
}

static bool is_verbose(const char *arg)
{
	return arg[0] == '-' && arg[1] == 'v' && arg[1 + strspn(arg + 1, "v")] == '\0';
}

static bool unknown_option(struct args *args, struct str name)
{
	struct choices choices = {.mem = &args->draft->mem, .wanted = name};
	for (const struct arg_option *option = arg_options; option->name; option++)
		choices_add(&choices, option->name);
	const char *place = arena_printf(choices.mem, PLACE ": %.*s", (int)name.len, name.ptr).ptr;
	if (name.len == 0 || name.ptr[0] != '-')
		return fail_at(args->error, place, "is no option; %s", choices_print(&choices));
	return fail_at(args->error, place, "unknown option; %s", choices_print(&choices));
}

/* The next argument as an option and its value: "--name=value", "--name value", "-c value",
 * "-cvalue", "-v", "-vvv". */
static const struct arg_option *next_option(struct args *args, struct str *value)
{
	const char *arg = args->argv[args->at++];
	struct str rest = str_of(arg), name;
	bool has_value = false;
	if (is_verbose(arg))
		return option_find(STR("--verbose"));
	if (str_starts(rest, STR("-c"))) {
		name = STR("--config");
		*value = str_skip(rest, 2);
		has_value = value->len > 0;
	} else {
		has_value = str_cut(&rest, '=', &name);
		*value = rest;
	}
	const struct arg_option *option = option_find(name);
	if (!option) {
		unknown_option(args, name);
		return NULL;
	}
	if (!option->value && has_value) {
		error_set(args->error, PLACE ": %s: takes no value", option->name);
		return NULL;
	}
	if (!option->value || has_value)
		return option;
	struct str after = args->at < args->argc ? str_of(args->argv[args->at]) : (struct str){0};
	struct str head = after;
	str_cut(&after, '=', &head);
	if (args->at == args->argc || option_find(head)) {
		error_set(args->error, PLACE ": %s: has no value; write %s %s", option->name,
			option->name, option->value);
		return NULL;
	}
	*value = str_of(args->argv[args->at++]);
	return option;
}

/* -- secrets -- */

static bool has_secret(const struct setting *settings, struct str key)
{
	for (const struct setting *s = settings; s && s->name; s++)
		if (s->kind == SET_SECRET && str_eq(key, str_of(s->name)))
			return true;
	return false;
}

static bool is_secret(struct str key)
{
	for (size_t i = 0; backends[i]; i++)
		if (has_secret(backends[i]->settings, key))
			return true;
	for (size_t i = 0; codecs[i]; i++)
		if (has_secret(codecs[i]->settings, key))
			return true;
	return false;
}

/* What ps(1) shows of us. `value` was copied, and stands in the argument that was read last. */
static void hide_secret(struct args *args, struct str value)
{
	char *word = args->argv[args->at - 1];
	memset(word + (value.ptr - word), 'x', value.len);
}

/* -- listeners -- */

/* Cuts *rest at its first comma; "\," is a comma in the text. The commas are plain in *part. */
static void cut_comma(struct args *args, struct str *rest, struct str *part)
{
	char *to = arena_alloc(&args->draft->mem, rest->len + 1);
	size_t n = 0, i = 0;
	for (; i < rest->len && rest->ptr[i] != ','; i++) {
		if (rest->ptr[i] == '\\' && i + 1 < rest->len && rest->ptr[i + 1] == ',')
			i++;
		to[n++] = rest->ptr[i];
	}
	*part = (struct str){to, n};
	*rest = str_skip(*rest, i < rest->len ? i + 1 : i);
}

static bool listen_set(struct args *args, struct section *section, struct str key, struct str text)
{
	const char *place =
		arena_printf(&args->draft->mem, PLACE ": --listen: %.*s", (int)key.len, key.ptr)
			.ptr;
	return draft_set(args->draft, section, key, text, place, args->error);
}

static bool read_listen(struct args *args, struct str rest)
{
	struct section *section =
		draft_section(args->draft, &args->draft->listeners, PLACE, "--listen");
	struct str protocol, part, key;
	if (!str_cut(&rest, ':', &protocol) || protocol.len == 0)
		return error_set(args->error,
			PLACE ": --listen: \"%.*s\" is no listener; write " LISTEN_FORM,
			(int)protocol.len, protocol.ptr);
	cut_comma(args, &rest, &part);
	if (!listen_set(args, section, STR("protocol"), protocol) ||
		!listen_set(args, section, STR("address"), part))
		return false;
	while (rest.len > 0) {
		struct str raw = rest;
		cut_comma(args, &rest, &part);
		if (!str_cut(&part, '=', &key) || key.len == 0)
			return error_set(args->error,
				PLACE ": --listen: \"%.*s\" is no key=value; write " LISTEN_FORM
				      " (a comma in a value as \\,)",
				(int)key.len, key.ptr);
		if (!listen_set(args, section, key, part))
			return false;
		raw.len -= rest.len;
		if (is_secret(key))
			hide_secret(args, str_skip(raw, key.len + 1));
	}
	return true;
}

/* podop's --socket and --mode. */
static bool finish_socket(struct args *args)
{
	if (!args->socket && !args->mode)
		return true;
	if (!args->socket)
		return error_set(args->error, PLACE ": --mode: needs --socket PATH");
	if (!args->mode)
		return error_set(
			args->error, PLACE ": --socket: needs --mode postfix or --mode dovecot");
	bool postfix = strcmp(args->mode, "postfix") == 0;
	if (!postfix && strcmp(args->mode, "dovecot") != 0)
		return error_set(args->error,
			PLACE ": --mode: \"%s\" is not known; allowed: postfix, dovecot",
			args->mode);
	struct section *section =
		draft_section(args->draft, &args->draft->listeners, PLACE, "--socket");
	struct str address = arena_printf(&args->draft->mem, "unix:%s", args->socket);
	return draft_set(args->draft, section, STR("protocol"),
		       postfix ? STR("socketmap") : STR("dict"), PLACE ": --mode", args->error) &&
	       draft_set(args->draft, section, STR("address"), address, PLACE ": --socket",
		       args->error);
}

static bool set_once(struct args *args, const char **to, const char *name, struct str value)
{
	if (*to)
		return error_set(args->error,
			PLACE ": %s: is given twice; allowed: once (--listen takes any number)",
			name);
	*to = arena_str(&args->draft->mem, value).ptr;
	return true;
}

/* -- tables -- */

/* A part that the current table has already begins the next one. */
static bool read_part(struct args *args, const char *option, struct str value)
{
	const char *key = option + 2;
	if (!args->table || section_find(args->table, key))
		args->table = draft_section(args->draft, &args->draft->tables, PLACE, "--option");
	const char *place = arena_printf(&args->draft->mem, PLACE ": %s", option).ptr;
	return draft_set(args->draft, args->table, str_of(key), value, place, args->error);
}

static bool read_table_option(struct args *args, struct str value)
{
	struct str key;
	if (!str_cut(&value, '=', &key) || key.len == 0)
		return error_set(args->error, PLACE ": --option: \"%.*s\" is no KEY=VALUE",
			(int)key.len, key.ptr);
	const char *place =
		arena_printf(&args->draft->mem, PLACE ": --option: %.*s", (int)key.len, key.ptr)
			.ptr;
	if (!args->table)
		return fail_at(args->error, place,
			"no table stands before it; write it behind --name, --type and --param");
	bool set = draft_set(args->draft, args->table, key, value, place, args->error);
	if (is_secret(key))
		hide_secret(args, value);
	return set;
}

/* -- other programs' configurations -- */

/* The YAML that `mapmux convert` prints, read at once. */
static bool read_converted(struct args *args, const char *file)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	if (!out)
		return error_set(args->error, PLACE ": --as: out of memory");
	bool good =
		file ? convert_connector(file, out, args->error) : convert_userli(out, args->error);
	if (!good && !file) /* a file is a place itself */
		error_prefix(args->error, PLACE ": --as");
	if (fclose(out) != 0 && good)
		good = error_set(args->error, PLACE ": --as: out of memory");
	good = good && config_read_text(args->draft, file ? "--as rest-connector" : "--as userli",
			       (struct str){text, len}, args->error);
	free(text);
	return good;
}

static bool read_as(struct args *args, struct str peer)
{
	if (str_eq(peer, STR("userli")))
		return read_converted(args, NULL);
	if (!str_eq(peer, STR("rest-connector")))
		return error_set(args->error,
			PLACE ": --as: \"%.*s\" is not known; allowed: userli, rest-connector FILE "
			      "(podop's own options are understood as they are)",
			(int)peer.len, peer.ptr);
	if (args->at == args->argc)
		return error_set(args->error, PLACE ": --as rest-connector: needs its JSON FILE");
	return read_converted(args, args->argv[args->at++]);
}

/* -- all -- */

static bool read_global(struct args *args, const char *key, const char *name, struct str value)
{
	const char *place = arena_printf(&args->draft->mem, PLACE ": %s", name).ptr;
	return draft_set(args->draft, args->globals, str_of(key), value, place, args->error);
}

static bool is_podops(const struct arg_option *option)
{
	return option->action == ARG_SOCKET || option->action == ARG_MODE ||
	       option->action == ARG_PART || option->action == ARG_VERBOSE;
}

static bool read_option(struct args *args)
{
	struct str value = {0};
	const struct arg_option *option = next_option(args, &value);
	if (!option)
		return false;
	if (args->podop && !is_podops(option))
		return error_set(args->error,
			PLACE ": %s: is no option of podop's; allowed: --socket, --mode, --name, "
			      "--type, --param, -v",
			option->name);
	switch (option->action) {
	case ARG_GLOBAL:
		return read_global(args, option->key, option->name, value);
	case ARG_VERBOSE:
		return read_global(args, "log.level", option->name, STR("debug"));
	case ARG_CONFIG:
		return config_read_yaml(
			args->draft, arena_str(&args->draft->mem, value).ptr, args->error);
	case ARG_LISTEN:
		return read_listen(args, value);
	case ARG_PART:
		return read_part(args, option->name, value);
	case ARG_OPTION:
		return read_table_option(args, value);
	case ARG_SOCKET:
		return set_once(args, &args->socket, option->name, value);
	case ARG_MODE:
		return set_once(args, &args->mode, option->name, value);
	case ARG_AS:
		return read_as(args, value);
	}
	return false;
}

static bool read_args(struct args args)
{
	struct draft *draft = args.draft;
	struct section_list own = STAILQ_HEAD_INITIALIZER(own);
	args.globals = draft_section(draft, &own, PLACE, "");
	args.globals->last_wins = true;
	while (args.at < args.argc)
		if (!read_option(&args))
			return false;
	/* The command line goes before files, wherever --config stands. */
	STAILQ_CONCAT(&draft->globals, &own);
	return finish_socket(&args);
}

bool config_read_args(struct draft *draft, int argc, char **argv, struct error *error)
{
	return read_args((struct args){.draft = draft, .argc = argc, .argv = argv, .error = error});
}

bool config_read_podop(struct draft *draft, int argc, char **argv, struct error *error)
{
	return read_args((struct args){
		.draft = draft, .argc = argc, .argv = argv, .podop = true, .error = error});
}
