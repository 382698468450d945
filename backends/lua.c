/* The lua backend: its settings, its states in the workers, and questions handed to scripts. */
#include <stdlib.h>

#include "engine/worker.h"
#include "http_settings.h"
#include "list.h"
#include "lua_parts.h"
#include "model/digest.h"
#include "text/json.h"

enum { RETRY_MS = 1000 }; /* a script that fails to load again is tried so often */

#define AT(member) .offset = offsetof(struct lua_conf, member)

static const struct setting settings[] = {
	{.name = "param", .kind = SET_STR, AT(param), .help = "the script, a file of Lua 5.4"},
	{.name = "functions",
		.kind = SET_LIST,
		AT(functions),
		.fallback = "",
		.help = "what the script defines; empty: whatever it does. With names, they must "
			"be "
			"there, and other operations are not offered"},
	{.name = "uses",
		.kind = SET_TABLES,
		AT(uses),
		.fallback = "",
		.help = "tables that the script may ask by mapmux.lookup()"},
	{.name = "config",
		.kind = SET_MAP,
		AT(config),
		.fallback = "",
		.help = "texts for the script: mapmux.config.NAME"},
	{.name = "redis",
		.kind = SET_SECRET,
		AT(redis),
		.fallback = "",
		.help = "the server for mapmux.redis(): redis://[:password@]host:port/db, "
			"redis+unix:PATH"},
	{.name = "servers",
		.kind = SET_STR,
		AT(servers),
		.fallback = "",
		.help = "DNS servers for mapmux.dns; empty: the system's"},
	{.name = "memory",
		.kind = SET_BYTES,
		AT(memory),
		.fallback = "32m",
		.min = 1 << 20,
		.max = INT64_C(1) << 36,
		.help = "the most the script may hold, in each worker"},
	{.name = "instructions",
		.kind = SET_INT,
		AT(instructions),
		.fallback = "1000000",
		.min = 10000,
		.help = "the most the script may do between two waits"},
	{.name = "cpu_time",
		.kind = SET_MSEC,
		AT(cpu_time),
		.fallback = "50ms",
		.min = 1,
		.max = 60000,
		.help = "the longest the script may run between two waits"},
	{.name = "unsafe",
		.kind = SET_BOOL,
		AT(unsafe),
		.fallback = "no",
		.help = "opens os, io, debug, C modules and bytecode to the script"},
	{.name = "user_agent",
		.kind = SET_STR,
		AT(user_agent),
		.fallback = "mapmux/" MAPMUX_VERSION,
		.help = "the User-Agent header of HTTP requests"},
	{.name = "connect_timeout",
		.kind = SET_MSEC,
		AT(connect_timeout),
		.fallback = "2s",
		.min = 1,
		.max = 600000,
		.help = "for name, connection and TLS of an HTTP or Redis server"},
	{.name = "max_connections",
		.kind = SET_INT,
		AT(max_connections),
		.fallback = "100",
		.min = 1,
		.max = 65535,
		.help = "to HTTP servers, in each worker; what is more waits"},
	{.name = "max_body",
		.kind = SET_BYTES,
		AT(max_body),
		.fallback = "1m",
		.min = 1,
		.max = 1 << 30,
		.help = "the longest HTTP answer"},
	HTTP_SETTINGS,
	HTTP_URL_SETTINGS,
	{.name = NULL},
};

/* ---- checking ---- */

/* Operations by the functions that serve them. */
static const struct {
	const char *name;
	unsigned ops;
} functions[] = {
	{"lookup", CAN(OP_LOOKUP)},
	{"iterate", CAN(OP_ITERATE)},
	{"set", CAN(OP_CHANGE)},
	{"unset", CAN(OP_CHANGE)},
	{"increment", CAN(OP_CHANGE)},
	{"commit", CAN(OP_CHANGE)},
	{"policy", CAN(OP_POLICY)},
	{"authenticate", CAN(OP_AUTH)},
};

/* Without a list all is offered: what a script defines is known when it has run, which checking does
 * not do. */
static bool narrow(struct table_conf *table, struct error *error)
{
	const struct lua_conf *conf = table->conf;
	unsigned ops = 0;
	for (size_t i = 0; i < conf->functions.n; i++) {
		unsigned one = 0;
		for (size_t j = 0; j < sizeof(functions) / sizeof(*functions); j++)
			if (str_eq(conf->functions.items[i], str_of(functions[j].name)))
				one = functions[j].ops;
		if (one == 0)
			return error_set(error,
				"functions: there is no \"%.*s\"; allowed: lookup, iterate, set, "
				"unset, increment, commit, policy, authenticate",
				(int)conf->functions.items[i].len, conf->functions.items[i].ptr);
		ops |= one;
	}
	if (conf->functions.n > 0)
		table->ops &= ops;
	return true;
}

/* Modules stand beside the script. */
static void make_path(const struct lua_conf *conf, struct lua_shared *shared)
{
	const char *slash = strrchr(conf->param, '/');
	int n = slash ? (int)(slash - conf->param) : 1;
	const char *directory = slash ? conf->param : ".";
	shared->path =
		arena_printf(&shared->mem, "%.*s/?.lua;%.*s/?/init.lua", n, directory, n, directory)
			.ptr;
}

static bool make_http(const struct lua_conf *conf, struct lua_shared *shared, struct error *error)
{
	shared->http = (struct http_options){
		.user_agent = setting_or_null(conf->user_agent),
		.ca_file = setting_or_null(conf->ca_file),
		.client_cert = setting_or_null(conf->client_cert),
		.client_key = setting_or_null(conf->client_key),
		.unix_socket = setting_or_null(conf->unix_socket),
		.proxy = setting_or_null(conf->proxy),
		.skip_tls_verify = !conf->tls_verify,
		.http2 = conf->http2,
		.follow_redirects = conf->follow_redirects,
		.connect_timeout_ms = (long)conf->connect_timeout,
		.max_connections = (long)conf->max_connections,
		.max_body = (size_t)conf->max_body,
	};
	return setting_check_file("ca_file", conf->ca_file, error) &&
	       setting_check_file("client_cert", conf->client_cert, error) &&
	       setting_check_file("client_key", conf->client_key, error);
}

static bool make_redis(const struct lua_conf *conf, struct lua_shared *shared, struct error *error)
{
	struct setting_map rest = {0};
	shared->has_redis = conf->redis[0];
	if (!shared->has_redis)
		return true;
	if (!redis_parse_url(conf->redis, &shared->mem, &shared->redis, &rest, error))
		return error_prefix(error, "redis");
	if (rest.n > 0)
		return error_set(error, "redis: there is no parameter \"%.*s\"; allowed: db",
			(int)rest.pairs[0].name.len, rest.pairs[0].name.ptr);
	shared->redis.connect_timeout_ms = conf->connect_timeout;
	shared->redis.silence_ms = 5000;
	shared->redis.max_reply = (size_t)conf->max_body;
	return true;
}

static bool make_dns(const struct lua_conf *conf, struct error *error)
{
	return !conf->servers[0] || resolver_check(conf->servers, error) ||
	       error_prefix(error, "servers");
}

static void drop(struct table_conf *table)
{
	struct lua_shared *shared = table->shared;
	if (shared)
		arena_clear(&shared->mem);
	free(shared);
	table->shared = NULL;
}

/* Modules that the script loads are not known before it runs. */
static void digest_files(struct table_conf *table)
{
	const struct lua_conf *conf = table->conf;
	digest_add_file(&table->digest, conf->param);
	digest_add_file(&table->digest, conf->ca_file);
	digest_add_file(&table->digest, conf->client_cert);
	digest_add_file(&table->digest, conf->client_key);
}

static bool check(struct table_conf *table, struct error *error)
{
	const struct lua_conf *conf = table->conf;
	struct lua_shared *shared = memory_new(sizeof(*shared));
	table->shared = shared;
	make_path(conf, shared);
	if (!json_pointer_valid(str_of(table->options.value)))
		error_set(error, "value: a JSON pointer begins with '/', and ~ is written ~0");
	else if (narrow(table, error) && make_http(conf, shared, error) &&
		 make_redis(conf, shared, error) && make_dns(conf, error) &&
		 vm_check(conf, error)) {
		digest_files(table);
		return true;
	}
	drop(table);
	return false;
}

/* ---- in a worker ---- */

static void close_table(struct table *table)
{
	struct lua_table *home = table->state;
	struct vm *vm;
	while ((vm = SLIST_FIRST(&home->old))) {
		SLIST_REMOVE_HEAD(&home->old, link);
		vm_free(vm);
	}
	if (home->vm)
		vm_free(home->vm);
	if (home->pool)
		http_pool_free(home->pool);
	if (home->redis)
		redis_free(home->redis);
	if (home->own_resolver)
		resolver_free(home->resolver);
	free(home);
}

static bool open_engines(struct lua_table *home, struct error *error)
{
	struct worker *worker = home->table->worker;
	const struct lua_shared *shared = home->table->conf->shared;
	const struct lua_conf *conf = home->table->conf->conf;
	home->pool = http_pool_new(worker_http(worker), &shared->http);
	if (shared->has_redis)
		home->redis = redis_new(worker_base(worker), worker_turn(worker), &shared->redis);
	if (!conf->servers[0])
		return true;
	home->resolver =
		resolver_new(worker_base(worker), worker_turn(worker), conf->servers, error);
	home->own_resolver = home->resolver != NULL;
	return home->own_resolver;
}

static bool open_table(struct table *table, struct error *error)
{
	struct lua_table *home = memory_new(sizeof(*home));
	home->table = table;
	SLIST_INIT(&home->old);
	table->state = home;
	if (open_engines(home, error) && (home->vm = vm_new(home, error)))
		return true;
	close_table(table);
	return false;
}

/* The state for a new question; one that was retired is replaced when the next question comes. */
static struct vm *vm_for(struct lua_table *home)
{
	struct error error;
	uint64_t now = home->table->turn->now_ms;
	if (home->vm || now < home->retry_ms)
		return home->vm;
	home->vm = vm_new(home, &error);
	if (home->vm)
		return home->vm;
	home->retry_ms = now + RETRY_MS;
	log_error("table %s: the script cannot be loaded again: %s", home->table->conf->name,
		error.text);
	return NULL;
}

/* ---- questions ---- */

static enum lua_entry entry_of(enum op op)
{
	switch (op) {
	case OP_ITERATE:
		return ENTRY_ITERATE;
	case OP_CHANGE:
		return ENTRY_CHANGE;
	case OP_POLICY:
		return ENTRY_POLICY;
	case OP_AUTH:
		return ENTRY_AUTH;
	default:
		return ENTRY_LOOKUP;
	}
}

static const char *function_of(enum op op)
{
	static const char *const names[] = {[OP_LOOKUP] = "lookup()",
		[OP_ITERATE] = "iterate()",
		[OP_CHANGE] = "set(), unset(), increment() or commit()",
		[OP_POLICY] = "policy()",
		[OP_AUTH] = "authenticate()"};
	return names[op];
}

static void start(struct query *query)
{
	const struct question *ask = query->ask;
	enum lua_entry entry = entry_of(ask->op);
	struct vm *vm = vm_for(query->table->state);
	if (!vm)
		query_temp(query, "the script cannot be loaded");
	else if (!vm_has(vm, entry))
		query_perm(query, "the script defines no %s", function_of(ask->op));
	else if (ask->op == OP_CHANGE && ask->expire_secs > 0 && !vm->expires)
		query_perm(query, "the script does not set expires = true");
	else
		run_start(vm, query, entry);
}

static void cancel(struct query *query)
{
	run_cancel(query->work);
}

const struct backend backend_lua = {
	.name = "lua",
	.help = "a script in Lua answers, by whatever functions it defines",
	.ops = CAN(OP_LOOKUP) | CAN(OP_ITERATE) | CAN(OP_CHANGE) | CAN(OP_POLICY) | CAN(OP_AUTH),
	.can_expire = true, /* if the script says so */
	.settings = settings,
	.conf_size = sizeof(struct lua_conf),
	.check = check,
	.drop = drop,
	.open = open_table,
	.close = close_table,
	.start = start,
	.cancel = cancel,
};
