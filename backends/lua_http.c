/* mapmux.http of scripts: requests on the table's own pool of connections. */
#include <lauxlib.h>
#include <lua.h>
#include <math.h>
#include <strings.h>

#include "lua_parts.h"

enum { MAX_HEADERS = 100, MAX_URL = 256 * 1024 };

static struct run *run_of_fetch(struct http_fetch *fetch)
{
	return (struct run *)(void *)((char *)fetch - offsetof(struct run, fetch));
}

static bool writes(const struct http_fetch *fetch)
{
	return strcmp(fetch->method, "GET") != 0;
}

/* ---- waiting ---- */

static void on_fetched(struct http_fetch *fetch)
{
	struct run *run = run_of_fetch(fetch);
	timer_clear(&run->timer);
	if (writes(fetch) && fetch->result != HTTP_UNREACHABLE)
		run->wrote = true;
	run_resume(run);
}

static void on_late(struct timer *timer)
{
	struct run *run = (struct run *)(void *)((char *)timer - offsetof(struct run, timer));
	http_cancel(&run->fetch);
	run->late = true;
	run->wrote = run->wrote || writes(&run->fetch);
	run_resume(run);
}

static void begin(struct run *run)
{
	if (run->timer.due_ms > 0)
		timer_set(run_timers(run), &run->timer, run->timer.due_ms, on_late);
	http_start(run_home(run)->pool, &run->fetch);
}

static void stop(struct run *run)
{
	timer_clear(&run->timer);
	http_cancel(&run->fetch);
}

/* ---- the reply ---- */

/* The prelude gives it `headers`, read from `head` when somebody asks for them. */
static const char REPLY[] = "mapmux.reply";

static int finish(lua_State *L, int status, lua_KContext context)
{
	struct run *run = vm_of(L)->current;
	const struct http_fetch *fetch = &run->fetch;
	(void)status;
	(void)context;
	if (run->late)
		return status_raise(L, ST_TEMP, "no HTTP reply within the request's timeout");
	if (fetch->result != HTTP_REPLY)
		return status_raise(L, ST_TEMP, "HTTP: %.*s", (int)fetch->why.len, fetch->why.ptr);
	lua_createtable(L, 0, 3);
	lua_pushinteger(L, fetch->status);
	lua_setfield(L, -2, "status");
	lua_pushlstring(L, fetch->body.len > 0 ? fetch->body.ptr : "", fetch->body.len);
	lua_setfield(L, -2, "body");
	lua_pushlstring(L, fetch->head.len > 0 ? fetch->head.ptr : "", fetch->head.len);
	lua_setfield(L, -2, "head");
	luaL_setmetatable(L, REPLY);
	return 1;
}

/* ---- the request ---- */

static bool is_token(struct str name)
{
	for (size_t i = 0; i < name.len; i++) {
		char c = name.ptr[i];
		if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') &&
			!(c && strchr("!#$%&'*+-.^_`|~", c)))
			return false;
	}
	return name.len > 0;
}

/* No key may end a line of the request. */
static bool is_one_line(struct str text)
{
	for (size_t i = 0; i < text.len; i++)
		if (((unsigned char)text.ptr[i] < 0x20 && text.ptr[i] != '\t') ||
			text.ptr[i] == 0x7f)
			return false;
	return true;
}

static struct str text_at(lua_State *L, int index)
{
	struct str text;
	text.ptr = lua_tolstring(L, index, &text.len);
	return text;
}

/* The name is at -2, the value at -1. */
static const char *read_header(lua_State *L, struct run *run)
{
	if (lua_type(L, -2) != LUA_TSTRING || lua_type(L, -1) != LUA_TSTRING)
		luaL_error(L, "headers: names and values are texts");
	struct str name = text_at(L, -2), value = text_at(L, -1);
	if (!is_token(name) || !is_one_line(value))
		luaL_error(L, "headers: a name or value that cannot stand in a request");
	if (strcasecmp(name.ptr, "Content-Length") == 0 ||
		strcasecmp(name.ptr, "Transfer-Encoding") == 0)
		luaL_error(L, "headers: %s is set by mapmux alone", name.ptr);
	if (value.len == 0)
		return arena_printf(&run->mem, "%s;", name.ptr).ptr;
	return arena_printf(&run->mem, "%s: %s", name.ptr, value.ptr).ptr;
}

static void read_headers(lua_State *L, int options, struct run *run)
{
	size_t n = 0;
	const char **lines = arena_alloc(&run->mem, (MAX_HEADERS + 1) * sizeof(*lines));
	if (lua_getfield(L, options, "headers") == LUA_TNIL) {
		lua_pop(L, 1);
		return;
	}
	luaL_checktype(L, -1, LUA_TTABLE);
	lua_pushnil(L);
	while (lua_next(L, -2)) {
		if (n == MAX_HEADERS)
			luaL_error(L, "headers: more than %d", MAX_HEADERS);
		lines[n++] = read_header(L, run);
		lua_pop(L, 1);
	}
	lua_pop(L, 1);
	if (n > 0)
		run->fetch.headers = lines;
}

/* A text is sent as it is, anything else as JSON; the request's own Content-Type goes before ours. It stays on the stack while it is sent. */
static void read_body(lua_State *L, int options, struct run *run)
{
	const char *why;
	if (lua_getfield(L, options, "body") == LUA_TNIL)
		return;
	run->fetch.content_type = "application/octet-stream";
	if (lua_type(L, -1) != LUA_TSTRING) {
		struct vm *vm = run->vm;
		if (!value_encode(vm, L, -1, &why))
			luaL_error(L, "body: %s", why);
		lua_pushlstring(L, vm->scratch.ptr, vm->scratch.len);
		run->fetch.content_type = "application/json";
	}
	run->fetch.send = text_at(L, -1);
}

static void read_timeout(lua_State *L, int options, struct run *run)
{
	run->timer.due_ms = 0;
	if (lua_getfield(L, options, "timeout") != LUA_TNIL) {
		lua_Number seconds = luaL_checknumber(L, -1);
		if (!(seconds > 0 && seconds <= 86400))
			luaL_error(L, "timeout: more than 0, up to 86400 seconds");
		run->timer.due_ms =
			run_home(run)->table->turn->now_ms + (uint64_t)ceil(seconds * 1000);
	}
	lua_pop(L, 1);
}

static const char *check_method(lua_State *L, int index)
{
	static const char *const methods[] = {"GET", "POST", "PUT", "PATCH", "DELETE", NULL};
	return methods[luaL_checkoption(L, index, NULL, methods)];
}

static const char *check_url(lua_State *L, int index)
{
	struct str url;
	url.ptr = luaL_checklstring(L, index, &url.len);
	for (size_t i = 0; i < url.len; i++)
		if ((unsigned char)url.ptr[i] <= 0x20 || url.ptr[i] == 0x7f)
			luaL_argerror(
				L, index, "a blank or control character; mapmux.urlencode() helps");
	luaL_argcheck(L, url.len < MAX_URL, index, "a URL too long");
	luaL_argcheck(L,
		strncasecmp(url.ptr, "http://", 7) == 0 || strncasecmp(url.ptr, "https://", 8) == 0,
		index, "http:// or https:// is missing");
	return url.ptr;
}

/* request(method, url, options): headers, body, timeout. */
static int api_request(lua_State *L)
{
	const char *method = check_method(L, 1), *url = check_url(L, 2);
	struct run *run = run_of(L);
	lua_settop(L, 3);
	run->fetch = (struct http_fetch){
		.mem = &run->mem,
		.done = on_fetched,
		.asker = run->query,
		.method = method,
		.url = url,
		.want_head = true,
	};
	run->fetch.once = writes(&run->fetch);
	run->timer.due_ms = 0;
	if (!lua_isnil(L, 3)) {
		luaL_checktype(L, 3, LUA_TTABLE);
		read_headers(L, 3, run);
		read_timeout(L, 3, run);
		read_body(L, 3, run);
	}
	return run_wait(L, run, begin, stop, finish);
}

void api_open_http(struct lua_State *L)
{
	static const luaL_Reg functions[] = {{"request", api_request}, {NULL, NULL}};
	luaL_newlib(L, functions);
	luaL_newmetatable(L, REPLY);
	lua_setfield(L, -2, "reply");
	lua_setfield(L, -2, "http");
}
