/* A question on its way through a script: a coroutine, what it waits for, what comes of it. */
#include <inttypes.h>
#include <lauxlib.h>
#include <lua.h>
#include <stdlib.h>

#include "engine/worker.h"
#include "lua_parts.h"

enum {
	KEEP_SPARE = 256, /* idle coroutines of a state */
	WARN_MS = 1000,
};

struct lua_table *run_home(const struct run *run)
{
	return run->vm->home;
}

struct timers *run_timers(const struct run *run)
{
	return run->vm->home->table->turn->timers;
}

/* ---- coroutines ---- */

static int make_coroutine(lua_State *L)
{
	struct run *run = lua_touserdata(L, 1);
	run->L = lua_newthread(L);
	run->ref = luaL_ref(L, LUA_REGISTRYINDEX);
	return 0;
}

/* NULL: the state has no memory left for it. */
static struct run *run_new(struct vm *vm)
{
	struct run *run = SLIST_FIRST(&vm->spare);
	if (run) {
		SLIST_REMOVE_HEAD(&vm->spare, link);
		vm->nspare--;
		vm_hook(run->L);
		return run;
	}
	run = memory_new(sizeof(*run));
	arena_init(&run->mem, run->first, sizeof(run->first));
	run->vm = vm;
	run->ref = LUA_NOREF;
	if (vm_protect(vm, make_coroutine, run) == LUA_OK)
		return run;
	lua_pop(vm->L, 1);
	luaL_unref(vm->L, LUA_REGISTRYINDEX, run->ref);
	free(run);
	return NULL;
}

static void run_free(struct run *run)
{
	luaL_unref(run->vm->L, LUA_REGISTRYINDEX, run->ref);
	free(run);
}

/* The coroutine is finished, failed, or is not to go on. One that the hook has ended is lost: its hooks
 * stay off for ever, so not even what it wanted closed may run. */
static void run_release(struct run *run)
{
	struct vm *vm = run->vm;
	if (lua_status(run->L) != LUA_OK && !run->stopped) {
		vm_begin(vm);
		lua_resetthread(run->L); /* closes variables; what that raises is lost */
		run->stopped = vm->stop != STOP_NOT;
	}
	arena_clear(&run->mem);
	vm->running--;
	if (!run->stopped && vm->nspare < KEEP_SPARE) {
		lua_settop(run->L, 0);
		run->query = NULL;
		run->begin = run->stop = NULL;
		run->wrote = false;
		SLIST_INSERT_HEAD(&vm->spare, run, link);
		vm->nspare++;
	} else {
		run_free(run);
	}
	vm_reap(vm);
}

void run_drop_spare(struct vm *vm)
{
	struct run *run;
	while ((run = SLIST_FIRST(&vm->spare))) {
		SLIST_REMOVE_HEAD(&vm->spare, link);
		run_free(run);
	}
	vm->nspare = 0;
}

/* ---- arguments: in protected mode ---- */

static void push_str(lua_State *L, struct str s)
{
	lua_pushlstring(L, s.len > 0 ? s.ptr : "", s.len);
}

static void set_str(lua_State *L, const char *name, struct str value)
{
	push_str(L, value);
	lua_setfield(L, -2, name);
}

static void set_integer(lua_State *L, const char *name, uint64_t value)
{
	lua_pushinteger(L, value > INT64_MAX ? INT64_MAX : (lua_Integer)value);
	lua_setfield(L, -2, name);
}

static void set_flag(lua_State *L, const char *name, bool value)
{
	lua_pushboolean(L, value);
	lua_setfield(L, -2, name);
}

static void set_scope(lua_State *L, enum scope scope)
{
	if (scope != SCOPE_NONE)
		set_str(L, "scope", scope == SCOPE_PRIV ? STR("priv") : STR("shared"));
}

static void push_request(lua_State *L, const struct query *query)
{
	const struct question *ask = query->ask;
	uint64_t now = query->table->turn->now_ms;
	lua_createtable(L, 0, 8);
	set_str(L, "table", str_of(query->table->conf->name));
	set_str(L, "form", ask->form == FORM_JSON ? STR("json") : STR("text"));
	if (ask->user.len > 0)
		set_str(L, "user", ask->user);
	set_scope(L, ask->scope);
	set_integer(L, "deadline_ms", query->deadline > now ? query->deadline - now : 0);
	if (ask->op == OP_CHANGE && ask->expire_secs > 0)
		set_integer(L, "expire", ask->expire_secs);
	if (ask->op != OP_ITERATE)
		return;
	set_flag(L, "recurse", ask->flags & ITER_RECURSE);
	set_flag(L, "values", !(ask->flags & ITER_NO_VALUE));
	set_flag(L, "exact", ask->flags & ITER_EXACT_KEY);
	if (ask->max_rows > 0)
		set_integer(L, "max_rows", ask->max_rows);
}

static void push_change(lua_State *L, const struct change *change)
{
	static const char *const names[] = {
		[CH_SET] = "set", [CH_UNSET] = "unset", [CH_ADD] = "increment"};
	lua_createtable(L, 0, 4);
	set_str(L, "op", str_of(names[change->kind]));
	set_str(L, "key", change->key);
	set_scope(L, change->scope);
	if (change->kind == CH_SET)
		set_str(L, "value", change->value);
	if (change->kind == CH_ADD) {
		lua_pushinteger(L, change->diff);
		lua_setfield(L, -2, "diff");
	}
}

static void push_changes(lua_State *L, const struct question *ask)
{
	lua_createtable(L, (int)(ask->nchanges < INT32_MAX ? ask->nchanges : 0), 0);
	for (size_t i = 0; i < ask->nchanges; i++) {
		push_change(L, &ask->changes[i]);
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
}

static void push_attributes(lua_State *L, const struct question *ask)
{
	lua_createtable(L, 0, (int)(ask->nattrs < INT32_MAX ? ask->nattrs : 0));
	for (size_t i = 0; i < ask->nattrs; i++) {
		push_str(L, ask->attrs[i].name);
		push_str(L, ask->attrs[i].value);
		lua_rawset(L, -3);
	}
}

static void push_password(lua_State *L, const struct question *ask)
{
	const struct pair *password = pair_find(ask->attrs, ask->nattrs, STR("password"));
	if (password)
		push_str(L, password->value);
	else
		lua_pushnil(L);
}

/* For authenticate(): the other attributes are in the request. */
static void add_attributes(lua_State *L, const struct question *ask)
{
	for (size_t i = 0; i < ask->nattrs; i++) {
		if (str_eq(ask->attrs[i].name, STR("password")))
			continue;
		push_str(L, ask->attrs[i].name);
		push_str(L, ask->attrs[i].value);
		lua_rawset(L, -3);
	}
}

static int leave(lua_State *L, int status, lua_KContext context)
{
	(void)status;
	(void)context;
	return lua_gettop(L);
}

/* The first function of the coroutine: calls the script's with its arguments. */
static int enter(lua_State *L)
{
	const struct run *run = vm_of(L)->current;
	const struct question *ask = run->query->ask;
	int n = 2;
	lua_rawgeti(L, LUA_REGISTRYINDEX, run->vm->entries[run->entry]);
	switch (run->entry) {
	case ENTRY_CHANGE:
		push_changes(L, ask);
		break;
	case ENTRY_POLICY:
		push_attributes(L, ask);
		break;
	case ENTRY_AUTH:
		push_str(L, ask->key);
		push_password(L, ask);
		n = 3;
		break;
	default:
		push_str(L, ask->key);
		break;
	}
	if (run->vm->brief[run->entry]) {
		n--;
	} else {
		push_request(L, run->query);
		if (run->entry == ENTRY_AUTH)
			add_attributes(L, ask);
	}
	lua_callk(L, n, LUA_MULTRET, 0, leave);
	return lua_gettop(L);
}

/* ---- answers ---- */

/* `return value, {ttl = 60}`: how long it may be kept. */
static unsigned read_ttl(lua_State *L, int index)
{
	unsigned ttl = 0;
	if (!lua_istable(L, index) || !lua_checkstack(L, 3))
		return 0;
	lua_pushnil(L);
	while (lua_next(L, index)) { /* reads without making strings: cannot fail */
		if (lua_type(L, -2) == LUA_TSTRING && strcmp(lua_tostring(L, -2), "ttl") == 0 &&
			lua_isinteger(L, -1)) {
			lua_Integer n = lua_tointeger(L, -1);
			ttl = n < 0 ? 0 : n > INT32_MAX ? INT32_MAX : (unsigned)n;
		}
		lua_pop(L, 1);
	}
	return ttl;
}

static void finish_value(struct run *run, int n)
{
	struct query *query = run->query;
	const char *why = NULL;
	struct pair *row = arena_alloc(query->mem, sizeof(*row));
	struct answer answer = {.status = ST_NOTFOUND};
	bool refused = run->entry == ENTRY_AUTH && !lua_toboolean(run->L, 1);
	bool yes = run->entry == ENTRY_AUTH && query->ask->form == FORM_TEXT;
	if (n > 0 && yes && lua_isboolean(run->L, 1) && !refused) {
		answer.status = ST_OK; /* a plain yes gives him no other name */
		row->value = query->ask->key;
	} else if (n > 0 && !refused) {
		answer.status = value_text(run->vm, run->L, 1, query, &row->value, &why);
	}
	if (n > 1)
		answer.ttl = read_ttl(run->L, 2);
	answer.why = str_of(why);
	if (answer.status == ST_OK) {
		answer.nrows = 1;
		answer.rows = row;
	}
	query_finish(query, &answer);
}

static void finish_rows(struct run *run, int n)
{
	struct query *query = run->query;
	const char *why = NULL;
	if (n == 0 || lua_isnil(run->L, 1))
		query_notfound(query);
	else if (!value_rows(run->vm, run->L, 1, query, &why))
		query_temp(query, "%s", why);
}

/* A function that returns nothing has done what it was asked for; one that returns nil has found
 * nothing to change. */
static void finish_change(struct run *run, int n)
{
	struct query *query = run->query;
	struct answer answer = {.status = ST_OK};
	if (n > 0 && lua_isnil(run->L, 1))
		answer.status = ST_NOTFOUND;
	if (n > 0 && lua_isboolean(run->L, 1) && !lua_toboolean(run->L, 1))
		answer = (struct answer){
			.status = ST_TEMP, .why = STR("the script says that it failed")};
	query_finish(query, &answer);
}

/* What the coroutine has returned is on its stack. */
static void finish_returned(struct run *run, int n)
{
	struct query *query = run->query;
	struct answer answer;
	if (n > 0 && status_read(run->vm, run->L, 1, query->mem, &answer)) {
		answer.uncertain = answer.uncertain && run->entry == ENTRY_CHANGE;
		query_finish(query, &answer);
	} else if (run->entry == ENTRY_ITERATE) {
		finish_rows(run, n);
	} else if (run->entry == ENTRY_CHANGE) {
		finish_change(run, n);
	} else {
		finish_value(run, n);
	}
}

/* ---- failures ---- */

/* FILE:LINE at the start of a message: what follows may hold anything. */
static struct str place_of(struct str message)
{
	const char *colon = message.len > 0 ? memchr(message.ptr, ':', message.len) : NULL;
	size_t n = colon ? (size_t)(colon - message.ptr) + 1 : message.len;
	size_t digits = n;
	while (digits < message.len && message.ptr[digits] >= '0' && message.ptr[digits] <= '9')
		digits++;
	if (digits == n || digits == message.len || message.ptr[digits] != ':')
		return (struct str){"", 0};
	message.len = digits;
	return message;
}

/* Logs the error at the top of the failed coroutine with its traceback, in one line. */
static int explain(lua_State *L)
{
	struct run *run = lua_touserdata(L, 1);
	struct lua_shared *shared = lua_shared_of(run->vm);
	struct query *query = run->query;
	struct str message;
	unsigned held;
	lua_pushvalue(run->L, -1);
	lua_xmove(run->L, L, 1);
	message.ptr = luaL_tolstring(L, -1, &message.len);
	struct str place = place_of(message);
	query->answer.why = arena_printf(query->mem, "error in the script%s%.*s",
		place.len > 0 ? " at " : "", (int)place.len, place.ptr);
	if (!log_allowed(&shared->failures, WARN_MS, &held))
		return 0;
	luaL_traceback(L, run->L, message.ptr, 0);
	const char *text = luaL_gsub(L, lua_tostring(L, -1), "\n\t", " | ");
	text = luaL_gsub(L, text, "\n", " | ");
	if (held > 0)
		log_error(
			"table %s: %s (and %u more errors)", query->table->conf->name, text, held);
	else
		log_error("table %s: %s", query->table->conf->name, text);
	return 0;
}

/* Without Lua's help: there may be no memory for it. */
static void explain_memory(struct run *run)
{
	struct query *query = run->query;
	unsigned held;
	query->answer.why =
		arena_printf(query->mem, "the script needs more memory than %" PRIi64 " bytes",
			lua_conf_of(run->vm)->memory);
	if (log_allowed(&lua_shared_of(run->vm)->failures, WARN_MS, &held))
		log_error("table %s: %s; its state is made anew", query->table->conf->name,
			query->answer.why.ptr);
}

static void finish_failed(struct run *run, int status)
{
	struct query *query = run->query;
	struct answer answer = {.status = ST_TEMP};
	run->stopped = run->vm->stop != STOP_NOT;
	if (status == LUA_ERRMEM && !run->stopped) {
		vm_retire(run->vm);
		explain_memory(run);
		answer.why = query->answer.why;
	} else if (!status_read(run->vm, run->L, -1, query->mem, &answer)) {
		query->answer.why = (struct str){0};
		if (vm_protect(run->vm, explain, run) != LUA_OK)
			lua_pop(run->vm->L, 1);
		answer.why = query->answer.why;
		if (run->stopped)
			answer.why = STR("the script was stopped: it takes too long");
		else if (answer.why.len == 0)
			answer.why = STR("error in the script");
	}
	answer.uncertain = run->entry == ENTRY_CHANGE && (answer.uncertain || run->wrote);
	if (answer.uncertain)
		answer.status = ST_TEMP;
	query_finish(query, &answer);
}

/* coroutine.yield() of the script's own, from the function itself: nobody would resume it. */
static void finish_yielded(struct run *run)
{
	unsigned held;
	if (log_allowed(&lua_shared_of(run->vm)->failures, WARN_MS, &held))
		log_error("table %s: the script yields outside of a coroutine of its own",
			run->query->table->conf->name);
	query_finish(run->query, &(struct answer){.status = ST_TEMP,
					 .uncertain = run->entry == ENTRY_CHANGE && run->wrote,
					 .why = STR("the script yields")});
}

/* ---- the way ---- */

void run_resume(struct run *run)
{
	struct vm *vm = run->vm;
	int n;
	run->stop = NULL;
	vm_begin(vm);
	vm->current = run;
	int status = lua_resume(run->L, NULL, 0, &n);
	vm->current = NULL;
	void (*begin)(struct run *) = run->begin;
	run->begin = NULL;
	if (status == LUA_YIELD && begin) {
		begin(run);
		return;
	}
	if (status == LUA_OK)
		finish_returned(run, n);
	else if (status == LUA_YIELD)
		finish_yielded(run);
	else
		finish_failed(run, status);
	run_release(run);
}

void run_start(struct vm *vm, struct query *query, enum lua_entry entry)
{
	struct run *run = run_new(vm);
	if (!run) {
		vm_retire(vm);
		vm_reap(vm);
		query_temp(query, "no memory left for the script");
		return;
	}
	run->query = query;
	run->entry = entry;
	query->work = run;
	vm->running++;
	lua_pushcfunction(run->L, enter);
	run_resume(run);
}

void run_cancel(struct run *run)
{
	if (run->stop)
		run->stop(run);
	run_release(run);
}

struct run *run_of(struct lua_State *L)
{
	struct run *run = vm_of(L)->current;
	if (!run)
		luaL_error(L, "this can be called only while a question is answered");
	else if (run->L != L || !lua_isyieldable(L))
		luaL_error(L, "this waits, which cannot be done inside of a coroutine or callback");
	arena_clear(&run->mem);
	return run;
}

int run_wait(struct lua_State *L, struct run *run, void (*begin)(struct run *),
	void (*stop)(struct run *), int (*finish)(struct lua_State *, int, intptr_t))
{
	run->begin = begin;
	run->stop = stop;
	run->late = false;
	return lua_yieldk(L, 0, 0, finish);
}
