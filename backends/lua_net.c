/* mapmux.dns and mapmux.redis of scripts. */
#include <arpa/inet.h>
#include <inttypes.h>
#include <lauxlib.h>
#include <lua.h>
#include <stdio.h>
#include <strings.h>

#include "engine/worker.h"
#include "lua_parts.h"

static struct str check_text(lua_State *L, int index)
{
	struct str text;
	text.ptr = luaL_checklstring(L, index, &text.len);
	return text;
}

static void push_str(lua_State *L, struct str s)
{
	lua_pushlstring(L, s.len > 0 ? s.ptr : "", s.len);
}

/* ---- DNS ---- */

static void on_resolved(struct dns_query *query)
{
	run_resume((struct run *)(void *)((char *)query - offsetof(struct run, dns)));
}

static struct resolver *resolver_of(const struct run *run)
{
	struct lua_table *home = run_home(run);
	if (!home->resolver)
		home->resolver = worker_resolver(home->table->worker);
	return home->resolver;
}

static void begin_dns(struct run *run)
{
	resolver_start(resolver_of(run), &run->dns, run->ask.key, (enum dns_type)run->ask.flags);
}

static void stop_dns(struct run *run)
{
	resolver_cancel(&run->dns);
}

static void set_number(lua_State *L, const char *name, unsigned value)
{
	lua_pushinteger(L, value);
	lua_setfield(L, -2, name);
}

static void push_record(lua_State *L, enum dns_type type, const struct dns_record *record)
{
	char text[INET6_ADDRSTRLEN];
	switch (type) {
	case DNS_A:
	case DNS_AAAA:
		inet_ntop(type == DNS_A ? AF_INET : AF_INET6, record->data.ptr, text, sizeof(text));
		lua_pushstring(L, text);
		break;
	case DNS_MX:
		lua_createtable(L, 0, 2);
		set_number(L, "preference", record->preference);
		push_str(L, record->data);
		lua_setfield(L, -2, "host");
		break;
	case DNS_TLSA:
		lua_createtable(L, 0, 4);
		set_number(L, "usage", record->usage);
		set_number(L, "selector", record->selector);
		set_number(L, "matching", record->matching);
		push_str(L, record->data);
		lua_setfield(L, -2, "data");
		break;
	default:
		push_str(L, record->data);
		break;
	}
}

/* A list of records and their ttl; nil when there are none. */
static int finish_dns(lua_State *L, int status, lua_KContext context)
{
	const struct run *run = vm_of(L)->current;
	const struct dns_query *dns = &run->dns;
	(void)status;
	(void)context;
	if (dns->result == DNS_FAILED)
		return status_raise(L, ST_TEMP, "DNS: %.*s", (int)dns->why.len, dns->why.ptr);
	if (dns->result == DNS_NONE) {
		lua_pushnil(L);
	} else {
		lua_createtable(L, (int)dns->n, 0);
		for (size_t i = 0; i < dns->n; i++) {
			push_record(L, (enum dns_type)run->ask.flags, &dns->records[i]);
			lua_rawseti(L, -2, (lua_Integer)i + 1);
		}
	}
	lua_pushinteger(L, dns->ttl);
	return 2;
}

/* The type is the function's upvalue. Addresses are turned round for PTR. */
static int api_dns(lua_State *L)
{
	enum dns_type type = (enum dns_type)lua_tointeger(L, lua_upvalueindex(1));
	struct str name = check_text(L, 1);
	struct run *run = run_of(L);
	if (!resolver_of(run))
		return status_raise(L, ST_TEMP, "DNS: there is no resolver");
	run->ask = (struct question){.key = name, .flags = type};
	if (type == DNS_PTR)
		resolver_reverse(name, &run->mem, &run->ask.key);
	run->dns = (struct dns_query){.mem = &run->mem, .done = on_resolved, .asker = run->query};
	return run_wait(L, run, begin_dns, stop_dns, finish_dns);
}

/* The name that an address has in in-addr.arpa or ip6.arpa; nil when it is none. */
static int api_reverse(lua_State *L)
{
	struct vm *vm = vm_of(L);
	struct str address = check_text(L, 1), name;
	arena_clear(&vm->mem);
	if (resolver_reverse(address, &vm->mem, &name))
		push_str(L, name);
	else
		lua_pushnil(L);
	return 1;
}

/* The table at the top gets a function by the type's name, in small letters. */
static void open_type(lua_State *L, enum dns_type type)
{
	const char *name = dns_type_name(type);
	char small[8] = "";
	for (size_t i = 0; name[i]; i++)
		small[i] = (char)(name[i] - 'A' + 'a');
	lua_pushinteger(L, type);
	lua_pushcclosure(L, api_dns, 1);
	lua_setfield(L, -2, small);
}

static void open_dns(lua_State *L)
{
	lua_newtable(L);
	for (int type = DNS_A; type <= DNS_TLSA; type++)
		open_type(L, (enum dns_type)type);
	lua_pushcfunction(L, api_reverse);
	lua_setfield(L, -2, "reverse");
	lua_setfield(L, -2, "dns");
}

/* ---- Redis ---- */

/* What turns the connection into something else for those behind, or stops it. */
static const char *const refused[] = {"AUTH", "BLMOVE", "BLMPOP", "BLPOP", "BRPOP", "BRPOPLPUSH",
	"BZMPOP", "BZPOPMAX", "BZPOPMIN", "CLIENT", "DISCARD", "EXEC", "HELLO", "MONITOR", "MULTI",
	"PSUBSCRIBE", "PSYNC", "QUIT", "RESET", "SELECT", "SHUTDOWN", "SSUBSCRIBE", "SUBSCRIBE",
	"SYNC", "UNWATCH", "WAIT", "WAITAOF", "WATCH", NULL};
static const char *const may_block[] = {"XREAD", "XREADGROUP", NULL};

/* What changes nothing; all others leave a failed transaction of the asker's uncertain. */
static const char *const readers[] = {"EXISTS", "GET", "GETRANGE", "HEXISTS", "HGET", "HGETALL",
	"HKEYS", "HLEN", "HMGET", "HVALS", "KEYS", "LINDEX", "LLEN", "LRANGE", "MGET", "PING",
	"PTTL", "SCAN", "SCARD", "SISMEMBER", "SMEMBERS", "SMISMEMBER", "STRLEN", "TTL", "TYPE",
	"ZCARD", "ZCOUNT", "ZRANGE", "ZRANK", "ZSCORE", NULL};

static bool is_one_of(const char *const *names, struct str name)
{
	for (size_t i = 0; names[i]; i++)
		if (strlen(names[i]) == name.len && strncasecmp(names[i], name.ptr, name.len) == 0)
			return true;
	return false;
}

static struct run *run_of_redis(struct redis_ask *redis)
{
	return (struct run *)(void *)((char *)redis - offsetof(struct run, redis));
}

static bool writes(const struct redis_ask *redis)
{
	return redis->ncommands > 1 || !is_one_of(readers, redis->commands[0].argv[0]);
}

static void on_replied(struct redis_ask *redis)
{
	struct run *run = run_of_redis(redis);
	if (writes(redis) && redis->result != REDIS_UNREACHABLE)
		run->wrote = true;
	run_resume(run);
}

static void begin_redis(struct run *run)
{
	redis_start(run_home(run)->redis, &run->redis);
}

static void stop_redis(struct run *run)
{
	redis_cancel(&run->redis);
}

/* Nil, texts, integers, lists of these, where nil is mapmux.null. */
static void push_reply(lua_State *L, const struct redis_reply *reply, bool inside)
{
	luaL_checkstack(L, 4, "Redis");
	switch (reply->kind) {
	case REPLY_TEXT:
		push_str(L, reply->text);
		break;
	case REPLY_NUMBER:
		lua_pushinteger(L, reply->number);
		break;
	case REPLY_LIST:
		lua_createtable(L, reply->n < INT32_MAX ? (int)reply->n : 0, 0);
		for (size_t i = 0; i < reply->n; i++) {
			push_reply(L, &reply->items[i], true);
			lua_rawseti(L, -2, (lua_Integer)i + 1);
		}
		break;
	case REPLY_ERROR: {
		struct str code = redis_error_code(reply);
		status_raise(L, ST_TEMP, "Redis: %.*s", (int)code.len, code.ptr);
		break;
	}
	default:
		if (inside)
			lua_pushlightuserdata(L, NULL);
		else
			lua_pushnil(L);
		break;
	}
}

static int finish_redis(lua_State *L, int status, lua_KContext context)
{
	const struct run *run = vm_of(L)->current;
	const struct redis_ask *redis = &run->redis;
	(void)status;
	(void)context;
	if (redis->result != REDIS_REPLY)
		return status_raise(L, ST_TEMP, "Redis: %.*s", (int)redis->why.len, redis->why.ptr);
	push_reply(L, &redis->replies[redis->ncommands - 1], false);
	return 1;
}

/* An argument as Redis gets it: numbers as Lua prints them. */
static struct str check_word(lua_State *L, int index)
{
	if (lua_type(L, index) != LUA_TSTRING && lua_type(L, index) != LUA_TNUMBER)
		luaL_error(L, "redis: words of commands are texts or numbers");
	struct str word;
	word.ptr = lua_tolstring(L, index, &word.len);
	return word;
}

static bool is_refused(const struct str *words, size_t n)
{
	static const char *const block[] = {"BLOCK", NULL};
	bool blocks = false;
	for (size_t i = 1; i < n && is_one_of(may_block, words[0]); i++)
		blocks = blocks || is_one_of(block, words[i]);
	return blocks || is_one_of(refused, words[0]);
}

static struct redis_command make_command(
	lua_State *L, struct run *run, const struct str *words, size_t n)
{
	struct str *argv = arena_alloc(&run->mem, n * sizeof(*argv));
	memcpy(argv, words, n * sizeof(*argv));
	if (n == 0 || argv[0].len == 0)
		luaL_error(L, "redis: a command without a name");
	if (is_refused(argv, n))
		luaL_error(L, "redis: the command %s is not for shared connections", argv[0].ptr);
	return (struct redis_command){.argc = n, .argv = argv};
}

/* The words of the table at the top; copied, since numbers become texts on the way. */
static struct redis_command read_command(lua_State *L, struct run *run)
{
	luaL_checktype(L, -1, LUA_TTABLE);
	size_t n = lua_rawlen(L, -1);
	struct str *words = arena_alloc(&run->mem, n * sizeof(*words));
	for (size_t i = 0; i < n; i++) {
		lua_rawgeti(L, -1, (lua_Integer)i + 1);
		words[i] = arena_str(&run->mem, check_word(L, -1));
		lua_pop(L, 1);
	}
	return make_command(L, run, words, n);
}

/* redis{{"SET", key, value}, {"INCR", other}}: one transaction; all replies as a list. */
static void read_transaction(lua_State *L, struct run *run)
{
	static const struct str multi[] = {{"MULTI", 5}}, exec[] = {{"EXEC", 4}};
	size_t n = lua_rawlen(L, 1);
	luaL_argcheck(L, n > 0, 1, "a transaction without commands");
	struct redis_command *commands = arena_alloc(&run->mem, (n + 2) * sizeof(*commands));
	commands[0] = (struct redis_command){.argc = 1, .argv = multi};
	for (size_t i = 0; i < n; i++) {
		lua_rawgeti(L, 1, (lua_Integer)i + 1);
		commands[i + 1] = read_command(L, run);
		lua_pop(L, 1);
	}
	commands[n + 1] = (struct redis_command){.argc = 1, .argv = exec};
	run->redis.commands = commands;
	run->redis.ncommands = n + 2;
}

/* redis("GET", key) */
static void read_words(lua_State *L, struct run *run)
{
	int n = lua_gettop(L);
	struct redis_command *command = arena_alloc(&run->mem, sizeof(*command));
	struct str *words = arena_alloc(&run->mem, (size_t)n * sizeof(*words));
	for (int i = 0; i < n; i++)
		words[i] = check_word(L, i + 1);
	*command = make_command(L, run, words, (size_t)n);
	run->redis.commands = command;
	run->redis.ncommands = 1;
}

static int api_redis(lua_State *L)
{
	struct run *run = run_of(L);
	if (!run_home(run)->redis)
		return luaL_error(L, "redis: the table's option `redis` names no server");
	run->redis = (struct redis_ask){.mem = &run->mem, .done = on_replied, .asker = run->query};
	if (lua_istable(L, 1))
		read_transaction(L, run);
	else
		read_words(L, run);
	return run_wait(L, run, begin_redis, stop_redis, finish_redis);
}

void api_open_net(struct lua_State *L, struct vm *vm)
{
	(void)vm;
	open_dns(L);
	lua_pushcfunction(L, api_redis);
	lua_setfield(L, -2, "redis");
}
