/* The configuration as a whole: reads, fills the structure, checks the listeners. */
#include "config/config_parts.h"

#include <grp.h>
#include <pwd.h>
#include <sched.h>

static const char *const log_levels[] = {"error", "warn", "info", "debug", NULL};
static const char *const log_formats[] = {"text", "json", NULL};
static const char *const log_targets[] = {"stderr", "syslog", NULL};

const struct setting global_settings[] = {
	{.name = "threads",
		.kind = SET_INT,
		.offset = offsetof(struct config, threads),
		.fallback = "0",
		.max = 256,
		.help = "worker threads; 0: as many as there are CPUs"},
	{.name = "shutdown_timeout",
		.kind = SET_MSEC,
		.offset = offsetof(struct config, shutdown_timeout),
		.fallback = "10s",
		.help = "how long to finish what is under way"},
	{.name = "user",
		.kind = SET_STR,
		.offset = offsetof(struct config, user),
		.fallback = "",
		.help = "run as this user once the sockets are bound"},
	{.name = "group",
		.kind = SET_STR,
		.offset = offsetof(struct config, group),
		.fallback = "",
		.help = "run with this group"},
	{.name = "log.level",
		.kind = SET_CHOICE,
		.offset = offsetof(struct config, log_level),
		.fallback = "info",
		.choices = log_levels,
		.help = "the least important events that are written"},
	{.name = "log.format",
		.kind = SET_CHOICE,
		.offset = offsetof(struct config, log_format),
		.fallback = "text",
		.choices = log_formats,
		.help = "how a line of the log looks"},
	{.name = "log.to",
		.kind = SET_CHOICE,
		.offset = offsetof(struct config, log_to),
		.fallback = "stderr",
		.choices = log_targets,
		.help = "where the log goes"},
	{0},
};

const struct setting listen_settings[] = {
	{.name = "table",
		.kind = SET_STR,
		.offset = offsetof(struct listen_options, table),
		.fallback = "",
		.help = "the table that is asked when a request names none"},
	{.name = "tables",
		.kind = SET_LIST,
		.offset = offsetof(struct listen_options, tables),
		.fallback = "",
		.help = "the only tables that its clients may ask; none given: all"},
	{.name = "mode",
		.kind = SET_STR,
		.offset = offsetof(struct listen_options, mode),
		.fallback = "0660",
		.help = "unix socket: its mode, four octal digits"},
	{.name = "user",
		.kind = SET_STR,
		.offset = offsetof(struct listen_options, user),
		.fallback = "",
		.help = "unix socket: its owner"},
	{.name = "group",
		.kind = SET_STR,
		.offset = offsetof(struct listen_options, group),
		.fallback = "",
		.help = "unix socket: its group"},
	{.name = "max_connections",
		.kind = SET_INT,
		.offset = offsetof(struct listen_options, max_connections),
		.fallback = "0",
		.help = "clients at a time; 0: as many as the process may have"},
	{.name = "idle_timeout",
		.kind = SET_MSEC,
		.offset = offsetof(struct listen_options, idle_timeout),
		.fallback = "",
		.help = "close a connection that is silent so long; 0: never"},
	{0},
};

/* What makes a listener. */
struct listen_head {
	const char *protocol, *address;
};

static const struct setting listen_head_settings[] = {
	{.name = "protocol",
		.offset = offsetof(struct listen_head, protocol),
		.help = "what is spoken there"},
	{.name = "address",
		.offset = offsetof(struct listen_head, address),
		.help = "unix:PATH, HOST:PORT, [V6]:PORT, :PORT or systemd:NAME"},
	{0},
};

/* -- who we are -- */

static bool check_user(const char *place, const char *name, struct error *error)
{
	return *name == '\0' || getpwnam(name) ||
	       fail_at(error, place,
		       "there is no user \"%s\" on this system; allowed: a name that "
		       "getent passwd knows",
		       name);
}

static bool check_group(const char *place, const char *name, struct error *error)
{
	return *name == '\0' || getgrnam(name) ||
	       fail_at(error, place,
		       "there is no group \"%s\" on this system; allowed: a name that "
		       "getent group knows",
		       name);
}

static int64_t count_cpus(void)
{
	cpu_set_t cpus;
	return sched_getaffinity(0, sizeof(cpus), &cpus) == 0 ? CPU_COUNT(&cpus) : 1;
}

static bool load_globals(struct config *config, struct draft *draft, struct error *error)
{
	struct target target = {global_settings, config};
	const char *user = "user", *group = "group";
	struct section *section;
	setting_fill(global_settings, config, &config->mem);
	STAILQ_FOREACH (section, &draft->globals, link) {
		if (!section_apply(
			    draft, section, &target, 1, "listeners tables", &config->mem, error))
			return false;
		/* The last one to say it is the one to blame. */
		if (section_find(section, "user"))
			user = section_place(draft, section, "user");
		if (section_find(section, "group"))
			group = section_place(draft, section, "group");
	}
	if (config->threads == 0)
		config->threads = count_cpus();
	return check_user(user, config->user, error) && check_group(group, config->group, error);
}

/* -- listeners -- */

int64_t listen_idle_timeout(const struct listen_conf *listen)
{
	return listen->options.idle_timeout >= 0 ? listen->options.idle_timeout
						 : listen->codec->idle_timeout;
}

static bool find_codec(struct draft *draft, struct section *section, const struct codec **codec,
	struct error *error)
{
	struct str name;
	struct choices choices = {.mem = &draft->mem};
	bool given = section_find(section, "protocol");
	if (given && !section_text(draft, section, "protocol", &name, error))
		return false;
	*codec = given ? codec_find(name) : NULL;
	if (*codec)
		return true;
	choices.wanted = given ? name : (struct str){0};
	for (const struct codec *const *c = codecs; *c; c++)
		choices_add(&choices, (*c)->name);
	const char *place = section_place(draft, section, "protocol");
	if (!given)
		return fail_at(error, place, "is missing; %s", choices_print(&choices));
	return fail_at(
		error, place, "there is no protocol \"%s\"; %s", name.ptr, choices_print(&choices));
}

/* Of a socket file. */
static bool read_mode(struct draft *draft, struct section *section, struct listen_conf *listen,
	struct error *error)
{
	const char *text = listen->options.mode;
	if (strlen(text) != 4 || strspn(text, "01234567") != 4 || text[0] != '0')
		return fail_at(error, section_place(draft, section, "mode"),
			"\"%s\" is no mode; allowed: four octal digits from 0000 to 0777, like "
			"0660",
			text);
	for (int i = 0; i < 4; i++)
		listen->mode = listen->mode * 8 + (unsigned)(text[i] - '0');
	return true;
}

static bool check_socket_keys(struct draft *draft, struct section *section,
	struct listen_conf *listen, struct error *error)
{
	static const char *const keys[] = {"mode", "user", "group"};
	for (int i = 0; i < 3; i++)
		if (listen->address.kind != ADDRESS_UNIX && section_find(section, keys[i]))
			return fail_at(error, section_place(draft, section, keys[i]),
				"is for unix sockets, and this listener is %s; leave it out%s",
				listen->address_text,
				listen->address.kind == ADDRESS_SYSTEMD
					? " (the socket unit says it)"
					: "");
	return read_mode(draft, section, listen, error) &&
	       check_user(section_place(draft, section, "user"), listen->options.user, error) &&
	       check_group(section_place(draft, section, "group"), listen->options.group, error);
}

/* NULL when there is none of that name; `choices` gets the names of all. */
static const struct table_conf *table_named(
	const struct config *config, struct str name, struct choices *choices)
{
	const struct table_conf *found = NULL;
	for (size_t i = 0; i < config->ntables; i++) {
		if (config->tables[i].hidden)
			continue;
		choices_add(choices, config->tables[i].name);
		if (str_eq(str_of(config->tables[i].name), name))
			found = &config->tables[i];
	}
	return found;
}

static bool find_table(struct config *config, struct draft *draft, struct section *section,
	struct listen_conf *listen, struct error *error)
{
	const char *name = listen->options.table;
	struct choices choices = {.mem = &draft->mem, .wanted = str_of(name)};
	listen->table = table_named(config, str_of(name), &choices);
	const char *place = section_place(draft, section, "table");
	if (*name == '\0' && listen->codec->needs_table)
		return fail_at(error, place,
			"is missing: requests of %s name no table, so the listener must; %s",
			listen->codec->name, choices_print(&choices));
	if (*name != '\0' && !listen->table)
		return fail_at(error, place, "there is no table \"%s\"; %s", name,
			choices_print(&choices));
	return true;
}

static bool find_tables(struct config *config, struct draft *draft, struct section *section,
	struct listen_conf *listen, struct error *error)
{
	const struct setting_list *names = &listen->options.tables;
	const char *place = section_place(draft, section, "tables");
	if (names->n == 0)
		return true;
	if (listen->codec->needs_table)
		return fail_at(error, place, "is not for %s: it asks one table; allowed: table",
			listen->codec->name);
	bool *serves = arena_alloc(&config->mem, config->ntables * sizeof(*serves));
	for (size_t i = 0; i < names->n; i++) {
		struct choices choices = {.mem = &draft->mem, .wanted = names->items[i]};
		const struct table_conf *table = table_named(config, names->items[i], &choices);
		if (!table)
			return fail_at(error, place, "there is no table \"%.*s\"; %s",
				(int)names->items[i].len, names->items[i].ptr,
				choices_print(&choices));
		serves[table->index] = true;
	}
	listen->serves = serves;
	return !listen->table || listen_serves(listen, listen->table) ||
	       fail_at(error, place, "lacks \"%s\", which is the listener's table",
		       listen->table->name);
}

static bool check_duplicate(struct config *config, struct draft *draft, struct section *section,
	const struct listen_conf *listen, struct error *error)
{
	for (const struct listen_conf *other = config->listens; other < listen; other++)
		if (strcmp(other->address_text, listen->address_text) == 0)
			return fail_at(error, section_place(draft, section, "address"),
				"%s is listened on already (%s); allowed: once",
				listen->address_text, other->where);
	return true;
}

/* The codec's own rules. What it says begins with the name of a setting, which has a place. */
static bool check_codec(struct draft *draft, struct section *section,
	const struct listen_conf *listen, struct error *error)
{
	const struct codec *codec = listen->codec;
	if (!codec->check || codec->check(listen->conf, listen->table, error))
		return true;
	struct error plain = *error;
	struct str rest = str_of(plain.text), key;
	str_cut(&rest, ':', &key);
	return fail_at(error, section_place(draft, section, arena_str(&draft->mem, key).ptr), "%s",
		str_trim(rest).ptr);
}

/* Whoever comes sees all tables, and may write: on any other address than our own he needs the token. */
static bool check_exposure(struct draft *draft, struct section *section,
	const struct listen_conf *listen, struct error *error)
{
	const struct codec *codec = listen->codec;
	if (!codec->asks_proof || codec->asks_proof(listen->conf) ||
		address_is_local(&listen->address))
		return true;
	return fail_at(error, section_place(draft, section, "token"),
		"is missing: %s can be reached from elsewhere; allowed: token_file (or token) with "
		"at least one byte, or a unix socket, 127.0.0.1, [::1] or localhost",
		listen->address_text);
}

static bool load_listener(struct config *config, struct draft *draft, struct section *section,
	struct listen_conf *listen, struct error *error)
{
	struct listen_head head;
	struct target targets[3] = {
		{listen_head_settings, &head}, {listen_settings, &listen->options}};
	if (!find_codec(draft, section, &listen->codec, error))
		return false;
	listen->where = arena_str(&config->mem, str_of(section->where)).ptr;
	listen->conf = arena_alloc(&config->mem, listen->codec->conf_size);
	targets[2] = (struct target){listen->codec->settings, listen->conf};
	for (int i = 0; i < 3; i++)
		if (targets[i].settings)
			setting_fill(targets[i].settings, targets[i].conf, &config->mem);
	if (!section_apply(draft, section, targets, 3, NULL, &config->mem, error))
		return false;
	if (!address_parse(head.address, &config->mem, &listen->address, error))
		return error_prefix(error, "%s", section_place(draft, section, "address"));
	listen->address_text = address_print(&listen->address, &config->mem).ptr;
	return check_duplicate(config, draft, section, listen, error) &&
	       check_socket_keys(draft, section, listen, error) &&
	       check_exposure(draft, section, listen, error) &&
	       find_table(config, draft, section, listen, error) &&
	       find_tables(config, draft, section, listen, error) &&
	       check_codec(draft, section, listen, error);
}

static bool load_listeners(struct config *config, struct draft *draft, struct error *error)
{
	struct section *section;
	size_t n = 0;
	STAILQ_FOREACH (section, &draft->listeners, link)
		n++;
	if (n == 0)
		return error_set(error,
			"nothing to do: there is no listener; give one with --listen "
			"PROTOCOL:ADDRESS, or under \"listeners\" in a file and that with "
			"--config");
	config->listens = arena_alloc(&config->mem, n * sizeof(*config->listens));
	STAILQ_FOREACH (section, &draft->listeners, link)
		if (!load_listener(
			    config, draft, section, &config->listens[config->nlistens++], error))
			return false;
	return true;
}

/* -- all -- */

bool config_load(struct config *config, int argc, char **argv, struct error *error)
{
	struct draft draft;
	draft_init(&draft);
	*config = (struct config){0};
	bool good = config_read_args(&draft, argc, argv, error) &&
		    load_globals(config, &draft, error) && tables_load(config, &draft, error) &&
		    load_listeners(config, &draft, error);
	if (!good)
		config_free(config);
	arena_clear(&draft.mem);
	return good;
}

void config_free(struct config *config)
{
	for (size_t i = config->ntables; i-- > 0;)
		if (config->tables[i].backend->drop)
			config->tables[i].backend->drop(&config->tables[i]);
	arena_clear(&config->mem);
	*config = (struct config){0};
}
