/* What of Lua's own libraries a script gets. All of it runs in protected mode. */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <unistd.h>

#include "lua_parts.h"

/* Loops in C that no hook interrupts may not take longer than this many steps. */
enum {
	MAX_MOVE = 1000000,
	MANY = 100, /* from here on elements are counted as instructions */
};

/* load() of text alone: bytecode can break out of any sandbox. */
static int safe_load(lua_State *L)
{
	if (lua_gettop(L) < 3)
		lua_settop(L, 3);
	lua_pushliteral(L, "t");
	lua_replace(L, 3);
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_insert(L, 1);
	lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
	return lua_gettop(L);
}

/* A finalizer would run where no hook stops it. */
static int safe_setmetatable(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	if (lua_istable(L, 2)) {
		lua_pushliteral(L, "__gc");
		if (lua_rawget(L, 2) != LUA_TNIL)
			return luaL_error(L, "__gc is not allowed (unsafe: no)");
		lua_pop(L, 1);
	}
	lua_settop(L, 2);
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_insert(L, 1);
	lua_call(L, 2, 1);
	return 1;
}

/* Nothing, however often, is nothing; the library counts it out. */
static int safe_rep(lua_State *L)
{
	size_t text, separator = 0;
	luaL_checklstring(L, 1, &text);
	luaL_checkinteger(L, 2);
	luaL_optlstring(L, 3, "", &separator);
	if (text + separator == 0) {
		lua_pushliteral(L, "");
		return 1;
	}
	lua_settop(L, 3);
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_insert(L, 1);
	lua_call(L, 3, 1);
	return 1;
}

static int safe_move(lua_State *L)
{
	lua_Integer from = luaL_checkinteger(L, 2), to = luaL_checkinteger(L, 3);
	luaL_checkinteger(L, 4);
	if (to >= from && (lua_Unsigned)to - (lua_Unsigned)from >= MAX_MOVE)
		return luaL_argerror(L, 3, "too many elements to move");
	lua_settop(L, lua_isnoneornil(L, 5) ? 4 : 5);
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_insert(L, 1);
	lua_call(L, lua_gettop(L) - 1, 1);
	return 1;
}

/* What the library does with a table from `from` to its end, it does in C. The end is where a script wants it: by
 * __len, or by a few keys far apart. */
static void check_length(lua_State *L, lua_Integer from)
{
	if (luaL_getmetafield(L, 1, "__len") != LUA_TNIL)
		luaL_argerror(L, 1, "a table with __len");
	lua_Unsigned length = lua_rawlen(L, 1);
	lua_Unsigned n = from >= 0 && (lua_Unsigned)from < length ? length - (lua_Unsigned)from : 0;
	if (n >= MAX_MOVE)
		luaL_argerror(L, 1, "too many elements");
	if (n >= MANY)
		vm_charge(L, (unsigned)n);
}

static int call_guarded(lua_State *L)
{
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_insert(L, 1);
	lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
	return lua_gettop(L);
}

/* Without a place it adds at the end. */
static int safe_insert(lua_State *L)
{
	if (lua_gettop(L) > 2)
		check_length(L, luaL_checkinteger(L, 2));
	return call_guarded(L);
}

static int safe_remove(lua_State *L)
{
	if (!lua_isnoneornil(L, 2))
		check_length(L, luaL_checkinteger(L, 2));
	return call_guarded(L);
}

static int safe_sort(lua_State *L)
{
	check_length(L, 0);
	return call_guarded(L);
}

/* Each coroutine begins with a count of its own: a tree of them would be a way around the limits. */
static int counted_create(lua_State *L)
{
	vm_charge(L, 100);
	lua_settop(L, 1);
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_insert(L, 1);
	lua_call(L, 1, 1);
	return 1;
}

/* The limits count on the collector; "count" is what harms nobody. */
static int safe_collectgarbage(lua_State *L)
{
	const char *what = luaL_optstring(L, 1, "collect");
	if (strcmp(what, "count") == 0)
		lua_pushnumber(L, (lua_Number)vm_of(L)->used / 1024);
	else
		lua_pushinteger(L, 0);
	return 1;
}

/* Replaces a function of the library whose table is at `table` by a guard around it. */
static void guard(lua_State *L, int table, const char *name, lua_CFunction function)
{
	table = lua_absindex(L, table);
	lua_getfield(L, table, name);
	lua_pushcclosure(L, function, 1);
	lua_setfield(L, table, name);
}

static void remove_field(lua_State *L, int table, const char *name)
{
	table = lua_absindex(L, table);
	lua_pushnil(L);
	lua_setfield(L, table, name);
}

/* ---- require ---- */

/* The first file of package.path that there is, opened as Lua text; else nothing, with the names that
 * were tried at the top. */
static int find_module(lua_State *L)
{
	const char *name = luaL_checkstring(L, 1), *path = luaL_checkstring(L, 2);
	name = luaL_gsub(L, name, ".", "/");
	struct str rest = str_of(path), template;
	bool more = rest.len > 0;
	lua_pushliteral(L, "");
	while (more) {
		more = str_cut(&rest, ';', &template);
		lua_pushlstring(L, template.ptr, template.len);
		const char *file = luaL_gsub(L, lua_tostring(L, -1), "?", name);
		if (access(file, R_OK) == 0) {
			if (luaL_loadfilex(L, file, "t") != LUA_OK)
				return lua_error(L);
			lua_pushstring(L, file);
			return 2;
		}
		lua_pushfstring(L, "%s\n\tno file '%s'", lua_tostring(L, -3), file);
		lua_replace(L, -4);
		lua_pop(L, 2);
	}
	lua_pushnil(L);
	lua_pushvalue(L, -2);
	return 2;
}

/* A module is run once; what it returns is kept in package.loaded. */
static int safe_require(lua_State *L)
{
	const char *name = luaL_checkstring(L, 1);
	int package = lua_upvalueindex(1);
	lua_settop(L, 1);
	lua_getfield(L, package, "loaded");
	if (lua_getfield(L, 2, name) != LUA_TNIL)
		return 1;
	lua_pop(L, 1);
	lua_getfield(L, package, "preload");
	if (lua_getfield(L, -1, name) != LUA_TNIL) {
		lua_pushliteral(L, ":preload:");
	} else {
		lua_pushcfunction(L, find_module);
		lua_pushvalue(L, 1);
		lua_getfield(L, package, "path");
		lua_call(L, 2, 2);
		if (lua_isnil(L, -2))
			return luaL_error(L, "module '%s' not found:%s", name, lua_tostring(L, -1));
	}
	lua_pushvalue(L, 1);
	lua_pushvalue(L, -2);
	lua_remove(L, -3);
	lua_call(L, 2, 1);
	if (lua_isnil(L, -1)) {
		lua_pop(L, 1);
		if (lua_getfield(L, 2, name) == LUA_TNIL)
			lua_pushboolean(L, 1);
	}
	lua_pushvalue(L, -1);
	lua_setfield(L, 2, name);
	return 1;
}

static void open_package(lua_State *L, const char *path)
{
	lua_newtable(L);
	lua_pushstring(L, path);
	lua_setfield(L, -2, "path");
	luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
	lua_setfield(L, -2, "loaded");
	lua_newtable(L);
	lua_setfield(L, -2, "preload");
	lua_pushvalue(L, -1);
	lua_setglobal(L, "package");
	lua_pushcclosure(L, safe_require, 1);
	lua_setglobal(L, "require");
}

/* ---- all of it ---- */

static void close_library(lua_State *L)
{
	lua_pushglobaltable(L);
	remove_field(L, -1, "dofile");
	remove_field(L, -1, "loadfile");
	guard(L, -1, "load", safe_load);
	guard(L, -1, "setmetatable", safe_setmetatable);
	guard(L, -1, "collectgarbage", safe_collectgarbage);
	lua_getfield(L, -1, "string");
	remove_field(L, -1, "dump");
	lua_pop(L, 2);
}

/* What could go on for ever without a look at the limits; also where all is open. */
static void count_library(lua_State *L)
{
	lua_getglobal(L, "string");
	pattern_open(L);
	guard(L, -1, "rep", safe_rep);
	lua_getglobal(L, "table");
	guard(L, -1, "move", safe_move);
	guard(L, -1, "insert", safe_insert);
	guard(L, -1, "remove", safe_remove);
	guard(L, -1, "sort", safe_sort);
	lua_getglobal(L, "coroutine");
	guard(L, -1, "create", counted_create);
	guard(L, -1, "wrap", counted_create);
	lua_pop(L, 3);
}

void sandbox_open(struct lua_State *L, const char *path, bool unsafe)
{
	static const luaL_Reg safe[] = {{LUA_GNAME, luaopen_base},
		{LUA_COLIBNAME, luaopen_coroutine}, {LUA_TABLIBNAME, luaopen_table},
		{LUA_STRLIBNAME, luaopen_string}, {LUA_MATHLIBNAME, luaopen_math},
		{LUA_UTF8LIBNAME, luaopen_utf8}};
	if (unsafe) {
		luaL_openlibs(L);
		count_library(L);
		lua_getglobal(L, "package");
		lua_pushstring(L, path);
		lua_setfield(L, -2, "path");
		lua_pop(L, 1);
		return;
	}
	for (size_t i = 0; i < sizeof(safe) / sizeof(*safe); i++) {
		luaL_requiref(L, safe[i].name, safe[i].func, 1);
		lua_pop(L, 1);
	}
	count_library(L);
	close_library(L);
	open_package(L, path);
}
