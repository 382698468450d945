/* Lua's values as JSON, as answers and as rows; JSON as Lua's values. */
#include <inttypes.h>
#include <lauxlib.h>
#include <lua.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "lua_parts.h"
#include "rows.h"
#include "text/json.h"

enum {
	MAX_DEPTH = 100,
	SCRATCH_KEPT = 64 << 10, /* bytes that stay between two uses */
	BYTES_COUNTED = 4096,    /* shorter texts cost nothing */
};

/* ---- writing JSON: raises no error ---- */

struct writer {
	struct vm *vm;
	lua_State *L;
	struct buf *out;
	const char *why;
	unsigned depth;
};

static bool write_value(struct writer *writer, int index);

static bool fail(struct writer *writer, const char *why)
{
	writer->why = why;
	return false;
}

/* The shortest text that reads back to the same number. */
static void print_float(double n, char *text, size_t size)
{
	for (int digits = 15; digits <= 17; digits++) {
		snprintf(text, size, "%.*g", digits, n);
		if (strtod(text, NULL) == n)
			break;
	}
}

/* An error's text when it is no number that can be written. */
static const char *print_number(lua_State *L, int index, char *text, size_t size)
{
	if (lua_isinteger(L, index)) {
		snprintf(text, size, "%" PRId64, (int64_t)lua_tointeger(L, index));
		return NULL;
	}
	double n = lua_tonumber(L, index);
	if (!isfinite(n))
		return "a number is infinite or none (NaN)";
	print_float(n, text, size);
	return NULL;
}

static bool write_number(struct writer *writer, int index)
{
	char text[40];
	const char *why = print_number(writer->L, index, text, sizeof(text));
	if (why)
		return fail(writer, why);
	buf_add(writer->out, str_of(text));
	return true;
}

static struct str str_at(lua_State *L, int index)
{
	struct str s;
	s.ptr = lua_tolstring(L, index, &s.len);
	return s;
}

static bool write_list(struct writer *writer, int table, size_t n)
{
	buf_add_char(writer->out, '[');
	for (size_t i = 1; i <= n; i++) {
		if (i > 1)
			buf_add_char(writer->out, ',');
		lua_rawgeti(writer->L, table, (lua_Integer)i);
		bool good = write_value(writer, lua_gettop(writer->L));
		lua_pop(writer->L, 1);
		if (!good)
			return false;
	}
	buf_add_char(writer->out, ']');
	return true;
}

/* One member of an object, where its text stands in the output. */
struct member {
	struct str name;
	size_t at, len;
};

static int by_name(const void *a, const void *b)
{
	return str_cmp(((const struct member *)a)->name, ((const struct member *)b)->name);
}

/* Lua's order is another one in each state; answers should not change with it. */
static void sort_members(struct buf *out, struct member *members, size_t n)
{
	size_t from = members[0].at, len = out->len - from, at = 0;
	char *sorted = memory_new(len);
	qsort(members, n, sizeof(*members), by_name);
	for (size_t i = 0; i < n; i++) {
		if (i > 0)
			sorted[at++] = ',';
		memcpy(sorted + at, out->ptr + members[i].at, members[i].len);
		at += members[i].len;
	}
	memcpy(out->ptr + from, sorted, len);
	free(sorted);
}

static bool write_members(struct writer *writer, int table, struct member *members)
{
	lua_State *L = writer->L;
	size_t n = 0;
	lua_pushnil(L);
	while (lua_next(L, table)) {
		char number[32];
		struct member *member = &members[n++];
		if (n > 1)
			buf_add_char(writer->out, ',');
		member->at = writer->out->len;
		if (lua_type(L, -2) == LUA_TSTRING) {
			member->name = str_at(L, -2);
			json_add(writer->out, member->name);
		} else { /* of a table marked as an object */
			snprintf(number, sizeof(number), "\"%" PRId64 "\"",
				(int64_t)lua_tointeger(L, -2));
			buf_add(writer->out, str_of(number));
		}
		buf_add_char(writer->out, ':');
		bool good = write_value(writer, lua_gettop(L));
		lua_pop(L, good ? 1 : 2);
		if (!good)
			return false;
		member->len = writer->out->len - member->at;
	}
	if (n > 1 && !writer->out->overflow)
		sort_members(writer->out, members, n);
	return true;
}

static bool write_object(struct writer *writer, int table, size_t n)
{
	struct member *members = memory_new(n * sizeof(*members));
	buf_add_char(writer->out, '{');
	bool good = write_members(writer, table, members);
	buf_add_char(writer->out, '}');
	free(members);
	return good;
}

static bool has_mark(lua_State *L, int table, const void *mark)
{
	if (!lua_getmetatable(L, table))
		return false;
	bool has = lua_topointer(L, -1) == mark;
	lua_pop(L, 1);
	return has;
}

/* How many keys, and how many of them are strings, or the integers of a list. */
static void count_keys(lua_State *L, int table, size_t *all, size_t *names, size_t *items)
{
	size_t length = lua_rawlen(L, table);
	*all = *names = *items = 0;
	lua_pushnil(L);
	while (lua_next(L, table)) {
		++*all;
		if (lua_type(L, -2) == LUA_TSTRING)
			++*names;
		else if (lua_isinteger(L, -2) && lua_tointeger(L, -2) >= 1 &&
			 (lua_Unsigned)lua_tointeger(L, -2) <= length)
			++*items;
		lua_pop(L, 1);
	}
}

static bool is_object(struct vm *vm, lua_State *L, int table, size_t *n, const char **why)
{
	size_t all, names, items;
	bool marked = has_mark(L, table, vm->object_mark);
	count_keys(L, table, &all, &names, &items);
	*n = all;
	*why = NULL;
	if (marked ? names + items == all : names == all && all > 0)
		return true;
	if (marked || items != all || items != lua_rawlen(L, table))
		*why = "a table is neither a list without holes nor an object with names";
	return false;
}

static bool write_table(struct writer *writer, int table)
{
	size_t n;
	const char *why;
	if (writer->depth >= MAX_DEPTH || !lua_checkstack(writer->L, 6))
		return fail(writer, "tables are nested too deeply");
	writer->depth++;
	bool object = is_object(writer->vm, writer->L, table, &n, &why);
	bool good = why      ? fail(writer, why)
		    : object ? write_object(writer, table, n)
			     : write_list(writer, table, n);
	writer->depth--;
	return good;
}

/* A table may stand in many places: of some that are small the text has no end. */
static bool write_value(struct writer *writer, int index)
{
	if (writer->out->overflow)
		return fail(writer, "the JSON text is too long");
	switch (lua_type(writer->L, index)) {
	case LUA_TNIL:
		buf_add(writer->out, STR("null"));
		return true;
	case LUA_TLIGHTUSERDATA:
		buf_add(writer->out, STR("null"));
		return lua_touserdata(writer->L, index) == NULL ||
		       fail(writer, "a pointer is no value");
	case LUA_TBOOLEAN:
		buf_add(writer->out, lua_toboolean(writer->L, index) ? STR("true") : STR("false"));
		return true;
	case LUA_TNUMBER:
		return write_number(writer, index);
	case LUA_TSTRING:
		return json_add(writer->out, str_at(writer->L, index)) ||
		       fail(writer, "a text that is no UTF-8 cannot stand in JSON");
	case LUA_TTABLE:
		return write_table(writer, index);
	default:
		return fail(writer, "a function, coroutine or the like is no value");
	}
}

bool value_encode(struct vm *vm, struct lua_State *L, int index, const char **why)
{
	struct writer writer = {.vm = vm, .L = L, .out = &vm->scratch};
	if (vm->scratch.size > SCRATCH_KEPT)
		buf_free(&vm->scratch);
	buf_reset(&vm->scratch);
	bool good = lua_checkstack(L, 6) && write_value(&writer, lua_absindex(L, index));
	if (good && vm->scratch.overflow)
		good = fail(&writer, "the JSON text is too long");
	*why = writer.why;
	return good;
}

/* ---- answers: raise no error ---- */

static enum status table_text(struct vm *vm, struct lua_State *L, int index,
	const struct query *query, struct str *text, const char **why)
{
	const struct table_options *options = &query->table->conf->options;
	const struct json_rules rules = {
		.form = query->ask->form,
		.list_separator = str_of(options->list_separator),
		.pointer = lua_istable(L, index) ? options->value : "",
	};
	if (!value_encode(vm, L, index, why))
		return ST_TEMP;
	struct str json = arena_str(query->mem, buf_str(&vm->scratch));
	return json_value(json, &rules, query->mem, text, why);
}

static enum status number_text(
	lua_State *L, int index, struct arena *mem, struct str *text, const char **why)
{
	char printed[40];
	*why = print_number(L, index, printed, sizeof(printed));
	*text = arena_str(mem, str_of(*why ? "" : printed));
	return *why ? ST_TEMP : ST_OK;
}

enum status value_text(struct vm *vm, struct lua_State *L, int index, const struct query *query,
	struct str *text, const char **why)
{
	bool json = query->ask->form == FORM_JSON;
	*text = (struct str){"", 0};
	*why = NULL;
	switch (lua_type(L, index)) {
	case LUA_TNIL:
		return ST_NOTFOUND;
	case LUA_TSTRING:
		*text = arena_str(query->mem, str_at(L, index));
		return ST_OK;
	case LUA_TBOOLEAN:
		if (lua_toboolean(L, index))
			*text = json ? STR("true") : STR("1");
		else
			*text = STR("false");
		return lua_toboolean(L, index) || json ? ST_OK : ST_NOTFOUND;
	case LUA_TNUMBER:
		return number_text(L, index, query->mem, text, why);
	default:
		break;
	}
	return table_text(vm, L, index, query, text, why);
}

/* One row: the name is at -2 or, of a list, the value itself at -1. */
static bool add_row(struct vm *vm, lua_State *L, bool named, const struct query *query,
	struct rows *rows, const char **why)
{
	int name_at = named ? -2 : -1;
	struct str value = {"", 0};
	*why = "iterate() has returned a name that is no text";
	if (lua_type(L, name_at) != LUA_TSTRING)
		return false;
	struct str name = str_at(L, name_at), prefix = query->ask->key;
	if (memchr(name.ptr, '\0', name.len)) {
		*why = "iterate() has returned a name with a NUL";
		return false;
	}
	if (!rows_want_rest(query->ask, name))
		return true;
	name = arena_concat(query->mem, prefix, name);
	enum status status = ST_OK;
	if (named && !(query->ask->flags & ITER_NO_VALUE))
		status = value_text(vm, L, lua_gettop(L), query, &value, why);
	if (status == ST_OK)
		rows_add(rows, name, value);
	return status != ST_TEMP;
}

bool value_rows(
	struct vm *vm, struct lua_State *L, int index, struct query *query, const char **why)
{
	struct rows rows = {.ask = query->ask, .unordered = true, .lasting = true};
	size_t n;
	*why = "iterate() has returned neither a list of names nor a table of names and values";
	if (!lua_istable(L, index) || !lua_checkstack(L, 6))
		return false;
	bool named = is_object(vm, L, index, &n, why);
	if (*why)
		return false;
	lua_pushnil(L);
	while (!rows.too_large && lua_next(L, index)) {
		if (!add_row(vm, L, named, query, &rows, why)) {
			rows_drop(&rows);
			return false;
		}
		lua_pop(L, 1);
	}
	rows_keep(&rows, query->mem);
	rows_finish(&rows, query);
	return true;
}

/* ---- reading JSON: in protected mode ---- */

static void read_value(lua_State *L, struct vm *vm, struct str *rest, struct str part);

static void read_text(lua_State *L, struct vm *vm, struct str part)
{
	struct str text;
	if (!json_text(part, &vm->mem, &text))
		luaL_error(L, "a string in the JSON text holds a NUL or half a surrogate pair");
	lua_pushlstring(L, text.ptr, text.len);
}

/* Integers stay integers, as far as Lua's reach. */
static void read_number(lua_State *L, struct str part)
{
	int64_t n;
	if (!str_has(part, '.') && !str_has(part, 'e') && !str_has(part, 'E') && str_i64(part, &n))
		lua_pushinteger(L, n);
	else
		lua_pushnumber(L, strtod(part.ptr, NULL)); /* ends where the part does */
}

static void read_object(lua_State *L, struct vm *vm, struct str *rest)
{
	struct str part;
	lua_newtable(L);
	lua_rawgetp(L, LUA_REGISTRYINDEX, vm->object_mark);
	lua_setmetatable(L, -2);
	while (json_part(rest, &part) && part.ptr[0] != '}') {
		read_text(L, vm, part);
		json_part(rest, &part);
		read_value(L, vm, rest, part);
		lua_rawset(L, -3);
	}
}

static void read_list(lua_State *L, struct vm *vm, struct str *rest)
{
	struct str part;
	lua_newtable(L);
	for (lua_Integer i = 1; json_part(rest, &part) && part.ptr[0] != ']'; i++) {
		read_value(L, vm, rest, part);
		lua_rawseti(L, -2, i);
	}
}

static void read_value(lua_State *L, struct vm *vm, struct str *rest, struct str part)
{
	luaL_checkstack(L, 8, "JSON");
	switch (part.ptr[0]) {
	case '{':
		read_object(L, vm, rest);
		break;
	case '[':
		read_list(L, vm, rest);
		break;
	case '"':
		read_text(L, vm, part);
		break;
	case 't':
	case 'f':
		lua_pushboolean(L, part.ptr[0] == 't');
		break;
	case 'n':
		lua_pushlightuserdata(L, NULL);
		break;
	default:
		read_number(L, part);
		break;
	}
}

/* So that many long texts, each of them read or written in one go, are not more than the script may do. */
static void charge_bytes(lua_State *L, size_t n)
{
	if (n >= BYTES_COUNTED)
		vm_charge(L, (unsigned)(n / 16));
}

static int decode(lua_State *L)
{
	struct vm *vm = vm_of(L);
	struct str text, part;
	text.ptr = luaL_checklstring(L, 1, &text.len);
	lua_settop(L, 1);
	charge_bytes(L, text.len);
	arena_clear(&vm->mem);
	if (!json_tighten(text, &vm->mem, &text))
		return luaL_error(L, "the text is not JSON");
	json_part(&text, &part);
	read_value(L, vm, &text, part);
	arena_clear(&vm->mem);
	return 1;
}

static int encode(lua_State *L)
{
	struct vm *vm = vm_of(L);
	const char *why;
	luaL_checkany(L, 1);
	bool good = value_encode(vm, L, 1, &why);
	charge_bytes(L, vm->scratch.len);
	if (!good)
		return luaL_error(L, "%s", why);
	lua_pushlstring(L, vm->scratch.ptr, vm->scratch.len);
	return 1;
}

/* Marks a table as an object, also when it is empty. */
static int object(lua_State *L)
{
	lua_settop(L, 1);
	if (lua_isnil(L, 1)) {
		lua_newtable(L);
		lua_replace(L, 1);
	}
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_rawgetp(L, LUA_REGISTRYINDEX, vm_of(L)->object_mark);
	lua_setmetatable(L, 1);
	return 1;
}

void value_open(struct lua_State *L, struct vm *vm)
{
	static const luaL_Reg functions[] = {
		{"encode", encode}, {"decode", decode}, {"object", object}, {NULL, NULL}};
	lua_newtable(L);
	vm->object_mark = lua_topointer(L, -1);
	lua_rawsetp(L, LUA_REGISTRYINDEX, vm->object_mark);
	luaL_newlib(L, functions);
	lua_setfield(L, -2, "json");
	lua_pushlightuserdata(L, NULL);
	lua_setfield(L, -2, "null");
}
