/* The table `mapmux` of scripts: results, other tables, sleep, texts. All of it runs in protected
 * mode; what waits is begun outside, after the coroutine has yielded. */
#include <lauxlib.h>
#include <lua.h>
#include <math.h>
#include <time.h>

#include "base/base64.h"
#include "lua_parts.h"
#include "text/template.h"

/* ---- results ---- */

static const char *const kinds[] = {"temp", "perm", "uncertain", NULL};

static void push_status(lua_State *L, const char *kind, int reason)
{
	lua_createtable(L, 0, 2);
	lua_pushstring(L, kind);
	lua_setfield(L, -2, "status");
	lua_pushvalue(L, reason);
	lua_setfield(L, -2, "reason");
	lua_rawgetp(L, LUA_REGISTRYINDEX, vm_of(L)->status_mark);
	lua_setmetatable(L, -2);
}

static int make_status(lua_State *L)
{
	lua_settop(L, 1);
	luaL_optstring(L, 1, NULL);
	push_status(L, lua_tostring(L, lua_upvalueindex(1)), 1);
	return 1;
}

static int status_text(lua_State *L)
{
	lua_getfield(L, 1, "status");
	lua_getfield(L, 1, "reason");
	lua_pushfstring(L, "%s: %s", luaL_tolstring(L, 2, NULL),
		lua_isnil(L, 3) ? "no reason given" : luaL_tolstring(L, 3, NULL));
	return 1;
}

int status_raise(struct lua_State *L, enum status status, const char *fmt, ...)
{
	struct vm *vm = vm_of(L);
	va_list ap;
	va_start(ap, fmt);
	arena_clear(&vm->mem);
	struct str reason = arena_vprintf(&vm->mem, fmt, ap);
	va_end(ap);
	lua_pushlstring(L, reason.ptr, reason.len);
	push_status(L, status == ST_PERM ? "perm" : "temp", lua_gettop(L));
	return lua_error(L);
}

/* A reason becomes part of one line of a protocol. */
static struct str one_line(struct str text, struct arena *mem)
{
	struct str line = arena_str(mem, text);
	for (char *p = (char *)line.ptr; p < line.ptr + line.len; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = ' ';
	return line;
}

bool status_read(
	struct vm *vm, struct lua_State *L, int index, struct arena *mem, struct answer *answer)
{
	index = lua_absindex(L, index);
	if (!lua_istable(L, index) || !lua_checkstack(L, 3) || !lua_getmetatable(L, index))
		return false;
	bool ours = lua_topointer(L, -1) == vm->status_mark;
	lua_pop(L, 1);
	if (!ours)
		return false;
	*answer = (struct answer){.status = ST_TEMP, .why = STR("the script gives no reason")};
	lua_pushnil(L);
	while (lua_next(L, index)) { /* reads without making strings: cannot fail */
		struct str name = {"", 0}, value = {"", 0};
		if (lua_type(L, -2) == LUA_TSTRING && lua_type(L, -1) == LUA_TSTRING) {
			name.ptr = lua_tolstring(L, -2, &name.len);
			value.ptr = lua_tolstring(L, -1, &value.len);
		}
		if (str_eq(name, STR("reason")) && value.len > 0)
			answer->why = one_line(value, mem);
		if (str_eq(name, STR("status")) && str_eq(value, STR("perm")))
			answer->status = ST_PERM;
		if (str_eq(name, STR("status")) && str_eq(value, STR("uncertain")))
			answer->uncertain = true;
		lua_pop(L, 1);
	}
	return true;
}

static void open_results(lua_State *L, struct vm *vm)
{
	lua_newtable(L);
	lua_pushcfunction(L, status_text);
	lua_setfield(L, -2, "__tostring");
	vm->status_mark = lua_topointer(L, -1);
	lua_rawsetp(L, LUA_REGISTRYINDEX, vm->status_mark);
	for (int i = 0; kinds[i]; i++) {
		lua_pushstring(L, kinds[i]);
		lua_pushcclosure(L, make_status, 1);
		lua_setfield(L, -2, kinds[i]);
	}
}

/* ---- sleep ---- */

static void on_slept(struct timer *timer)
{
	run_resume((struct run *)(void *)((char *)timer - offsetof(struct run, timer)));
}

static void begin_sleep(struct run *run)
{
	timer_set(run_timers(run), &run->timer, run->timer.due_ms, on_slept);
}

static void stop_sleep(struct run *run)
{
	timer_clear(&run->timer);
}

static int finish_sleep(lua_State *L, int status, lua_KContext context)
{
	(void)L;
	(void)status;
	(void)context;
	return 0;
}

static int api_sleep(lua_State *L)
{
	lua_Number seconds = luaL_checknumber(L, 1);
	struct run *run = run_of(L);
	luaL_argcheck(L, seconds >= 0 && seconds <= 86400, 1, "0 to 86400 seconds");
	run->timer.due_ms = run_home(run)->table->turn->now_ms + (uint64_t)ceil(seconds * 1000);
	return run_wait(L, run, begin_sleep, stop_sleep, finish_sleep);
}

/* ---- other tables ---- */

static void on_found(struct query *query)
{
	run_resume((struct run *)(void *)((char *)query - offsetof(struct run, child)));
}

static void begin_lookup(struct run *run)
{
	query_start(&run->child, run->child.table, &run->ask, on_found);
}

static void stop_lookup(struct run *run)
{
	query_cancel_child(&run->child, run->query);
}

static int finish_lookup(lua_State *L, int status, lua_KContext context)
{
	struct run *run = vm_of(L)->current;
	const struct answer *answer = &run->child.answer;
	(void)status;
	(void)context;
	if (answer->status == ST_NOTFOUND)
		lua_pushnil(L);
	else if (answer->status == ST_OK)
		lua_pushlstring(L, answer->rows[0].value.len > 0 ? answer->rows[0].value.ptr : "",
			answer->rows[0].value.len);
	else
		return status_raise(L, answer->status, "table %s: %.*s",
			run->child.table->conf->name, (int)answer->why.len, answer->why.ptr);
	return 1;
}

static struct table *find_table(lua_State *L, const struct run *run, const char *name)
{
	const struct table *mine = run_home(run)->table;
	const struct table_list *uses = &lua_conf_of(run->vm)->uses;
	for (size_t i = 0; i < uses->n; i++)
		if (strcmp(uses->tables[i]->name, name) == 0)
			return table_of(mine, uses->tables[i]);
	luaL_error(L, "table \"%s\" is not in `uses` of the table %s", name, mine->conf->name);
	return NULL;
}

static struct str check_text(lua_State *L, int index)
{
	struct str text;
	text.ptr = luaL_checklstring(L, index, &text.len);
	return text;
}

/* options.user, options.scope, options.form instead of the request's own. */
static void read_options(lua_State *L, struct question *ask)
{
	static const char *const scopes[] = {"none", "shared", "priv", NULL};
	static const char *const forms[] = {"text", "json", NULL};
	if (lua_isnoneornil(L, 3))
		return;
	luaL_checktype(L, 3, LUA_TTABLE);
	if (lua_getfield(L, 3, "user") != LUA_TNIL)
		ask->user = check_text(L, -1);
	if (lua_getfield(L, 3, "scope") != LUA_TNIL)
		ask->scope = (enum scope)luaL_checkoption(L, -1, NULL, scopes);
	if (lua_getfield(L, 3, "form") != LUA_TNIL)
		ask->form = (enum form)luaL_checkoption(L, -1, NULL, forms);
}

/* Protocols carry no NUL in a key, and tables count on it. */
static int api_lookup(lua_State *L)
{
	const char *name = luaL_checkstring(L, 1);
	struct str key = check_text(L, 2);
	struct run *run = run_of(L);
	const struct question *whole = run->query->ask;
	run->ask = (struct question){.op = OP_LOOKUP,
		.form = whole->form,
		.scope = whole->scope,
		.user = whole->user,
		.key = key};
	read_options(L, &run->ask);
	luaL_argcheck(L, !str_has(key, '\0'), 2, "a key with a NUL");
	luaL_argcheck(L, !str_has(run->ask.user, '\0'), 3, "a user with a NUL");
	run->child = (struct query){.table = find_table(L, run, name)};
	query_follow(&run->child, run->query);
	run->child.mem = &run->mem;
	return run_wait(L, run, begin_lookup, stop_lookup, finish_lookup);
}

/* ---- texts ---- */

/* The text of the first argument as `encode` writes it. */
static int encoded(lua_State *L, void (*encode)(struct str, struct buf *))
{
	struct str text = check_text(L, 1);
	struct buf *out = &vm_of(L)->scratch;
	buf_reset(out);
	encode(text, out);
	if (out->overflow)
		return luaL_error(L, "the text is too long");
	lua_pushlstring(L, out->len > 0 ? out->ptr : "", out->len);
	return 1;
}

static int api_urlencode(lua_State *L)
{
	return encoded(L, template_encode);
}

static int api_base64_encode(lua_State *L)
{
	return encoded(L, base64_encode);
}

/* Padding may be left out; both alphabets are read. */
static int api_base64_decode(lua_State *L)
{
	struct str text = check_text(L, 1);
	luaL_Buffer out;
	size_t len;
	char *to = luaL_buffinitsize(L, &out, base64_room(text.len));
	if (!base64_decode_any(text, to, &len))
		return luaL_error(L, "the text is not base64");
	luaL_pushresultsize(&out, len);
	return 1;
}

/* ---- the rest ---- */

static void write_log(lua_State *L, enum log_level level, const char *text)
{
	log_say(level, "table %s: %s", vm_of(L)->home->table->conf->name, text);
}

/* log(text), log(level, text) */
static int api_log(lua_State *L)
{
	static const char *const levels[] = {"error", "warn", "info", "debug", NULL};
	bool has_level = lua_gettop(L) > 1;
	int level = has_level ? luaL_checkoption(L, 1, NULL, levels) : LOG_LEVEL_INFO;
	write_log(L, (enum log_level)level, luaL_tolstring(L, has_level ? 2 : 1, NULL));
	return 0;
}

/* print() of a daemon. */
static int api_print(lua_State *L)
{
	int n = lua_gettop(L);
	luaL_Buffer line;
	luaL_buffinit(L, &line);
	for (int i = 1; i <= n; i++) {
		if (i > 1)
			luaL_addchar(&line, '\t');
		luaL_tolstring(L, i, NULL);
		luaL_addvalue(&line);
	}
	luaL_pushresult(&line);
	write_log(L, LOG_LEVEL_INFO, lua_tostring(L, -1));
	return 0;
}

static int api_time(lua_State *L)
{
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	lua_pushnumber(L, (lua_Number)ts.tv_sec + (lua_Number)ts.tv_nsec / 1e9);
	return 1;
}

/* For the prelude: something was changed, what fails now is uncertain. */
static int api_wrote(lua_State *L)
{
	struct run *run = vm_of(L)->current;
	if (run)
		run->wrote = true;
	return 0;
}

static void open_config(lua_State *L, const struct vm *vm)
{
	const struct setting_map *map = &lua_conf_of(vm)->config;
	lua_newtable(L);
	for (size_t i = 0; i < map->n; i++) {
		lua_pushlstring(L, map->pairs[i].name.ptr, map->pairs[i].name.len);
		lua_pushlstring(L, map->pairs[i].value.ptr, map->pairs[i].value.len);
		lua_rawset(L, -3);
	}
	lua_setfield(L, -2, "config");
	lua_pushstring(L, vm->home->table->conf->name);
	lua_setfield(L, -2, "table");
}

/* Gives the table `mapmux` what is written in Lua, and keeps what makes functions of the script into
 * one. */
static void run_prelude(lua_State *L)
{
	if (luaL_loadbufferx(L, lua_prelude, lua_prelude_size, "=prelude", "t") != LUA_OK)
		lua_error(L);
	lua_pushvalue(L, -2);
	lua_pushcfunction(L, api_wrote);
	lua_call(L, 2, 1);
	lua_setfield(L, LUA_REGISTRYINDEX, "mapmux.bind");
}

void api_open(struct lua_State *L, struct vm *vm)
{
	static const luaL_Reg functions[] = {{"sleep", api_sleep}, {"lookup", api_lookup},
		{"log", api_log}, {"time", api_time}, {"urlencode", api_urlencode}, {NULL, NULL}};
	static const luaL_Reg base64[] = {
		{"encode", api_base64_encode}, {"decode", api_base64_decode}, {NULL, NULL}};
	lua_register(L, "print", api_print);
	luaL_newlib(L, functions);
	lua_pushvalue(L, -1);
	lua_setglobal(L, "mapmux");
	luaL_newlib(L, base64);
	lua_setfield(L, -2, "base64");
	open_results(L, vm);
	open_config(L, vm);
	value_open(L, vm);
	api_open_http(L);
	api_open_net(L, vm);
	run_prelude(L);
}
