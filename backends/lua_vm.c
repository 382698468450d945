/* A Lua state: its memory, its limits, the script in it. Knows no questions. */
#include <assert.h>
#include <lauxlib.h>
#include <lua.h>
#include <stdlib.h>
#include <time.h>

#include "lua_parts.h"

enum {
	HOOK_STEPS = 1000, /* instructions between two looks at the limits */
	LOOK_GROWN = 256,  /* allocations between two looks at the clock, */
	LARGE = 64 << 10,  /* or one of so many bytes: the library fills it in one go */
	SCRATCH_MAX = 16 << 20,
};

const struct lua_conf *lua_conf_of(const struct vm *vm)
{
	return vm->home->table->conf->conf;
}

struct lua_shared *lua_shared_of(const struct vm *vm)
{
	return vm->home->table->conf->shared;
}

/* Every coroutine inherits the main one's extra space. */
struct vm *vm_of(struct lua_State *L)
{
	return *(struct vm **)lua_getextraspace(L);
}

/* ---- limits ---- */

/* Of this thread, so that a script is not charged for what else the machine does. */
static uint64_t cpu_now(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* The clock costs a system call: short runs, which are nearly all, never look at it. */
static bool is_over_time(struct vm *vm, unsigned times)
{
	uint64_t now = cpu_now(), budget = (uint64_t)lua_conf_of(vm)->cpu_time * 1000000;
	if (vm->until_ns == 0)
		vm->until_ns = now + budget;
	return now > vm->until_ns + (times - 1) * budget;
}

void vm_begin(struct vm *vm)
{
	vm->steps = 0;
	vm->until_ns = 0;
	vm->grown = 0;
	vm->stop = STOP_NOT;
}

static bool is_over(struct vm *vm, unsigned steps)
{
	vm->steps += steps;
	if (vm->stop == STOP_NOT && vm->steps > lua_conf_of(vm)->instructions)
		vm->stop = STOP_STEPS;
	else if (vm->stop == STOP_NOT && is_over_time(vm, 1))
		vm->stop = STOP_TIME;
	return vm->stop != STOP_NOT;
}

static int raise_stop(lua_State *L, int level)
{
	const struct vm *vm = vm_of(L);
	const struct lua_conf *conf = lua_conf_of(vm);
	luaL_where(L, level);
	if (vm->stop == STOP_STEPS)
		lua_pushfstring(
			L, "stopped after %I instructions", (LUAI_UACINT)conf->instructions);
	else
		lua_pushfstring(L, "stopped after %I ms", (LUAI_UACINT)conf->cpu_time);
	lua_concat(L, 2);
	return lua_error(L);
}

/* Once a limit is passed, the hook is called, and fails, at each instruction: a script that catches the
 * error gets no further. */
static void on_steps(lua_State *L, lua_Debug *ar)
{
	(void)ar;
	if (!is_over(vm_of(L), HOOK_STEPS))
		return;
	lua_sethook(L, on_steps, LUA_MASKCOUNT, 1);
	raise_stop(L, 0);
}

void vm_charge(struct lua_State *L, unsigned steps)
{
	if (!is_over(vm_of(L), steps))
		return;
	lua_sethook(L, on_steps, LUA_MASKCOUNT,
		1); /* nor does it get further when it catches this one */
	raise_stop(L, 1);
}

void vm_hook(struct lua_State *L)
{
	lua_sethook(L, on_steps, LUA_MASKCOUNT, HOOK_STEPS);
}

/* Lua takes NULL for "not enough memory": it collects all garbage, tries once more, then raises an
 * error. What allocates without end in places where the hook is not called, ends by that too. */
static void *allocate(void *arg, void *old, size_t old_size, size_t size)
{
	struct vm *vm = arg;
	if (!old)
		old_size = 0; /* it was the kind of object */
	if (size == 0) {
		vm->used -= old_size;
		free(old);
		return NULL;
	}
	if (size > old_size) {
		if (size - old_size > vm->limit - (vm->used < vm->limit ? vm->used : vm->limit))
			return NULL;
		bool looks = ++vm->grown % LOOK_GROWN == 0 || size - old_size >= LARGE;
		if (looks && is_over_time(vm, 2)) {
			vm->stop = STOP_TIME;
			return NULL;
		}
	}
	void *p = realloc(old, size);
	if (!p && size <= old_size)
		p = old; /* Lua counts on shrinking */
	if (p)
		vm->used = vm->used - old_size + size;
	return p;
}

/* All work is protected, so this is a mistake of ours. */
static int on_panic(lua_State *L)
{
	log_error("lua: error outside of any protection: %s", lua_tostring(L, -1));
	return 0; /* Lua aborts */
}

int vm_protect(struct vm *vm, int (*function)(struct lua_State *), void *arg)
{
	vm_begin(vm);
	vm_hook(vm->L);
	lua_pushcfunction(vm->L, function);
	lua_pushlightuserdata(vm->L, arg);
	return lua_pcall(vm->L, 1, 0, 0);
}

/* ---- loading ---- */

static int open_libraries(lua_State *L)
{
	struct vm *vm = lua_touserdata(L, 1);
	sandbox_open(L, lua_shared_of(vm)->path, lua_conf_of(vm)->unsafe);
	api_open(L, vm);
	return 0;
}

static int run_script(lua_State *L)
{
	struct vm *vm = lua_touserdata(L, 1);
	const struct lua_conf *conf = lua_conf_of(vm);
	if (luaL_loadfilex(L, conf->param, conf->unsafe ? "bt" : "t") != LUA_OK)
		return lua_error(L);
	lua_call(L, 0, 0);
	return 0;
}

/* A function that names no second parameter gets no `request`, which is not made then. */
static void keep_entry(lua_State *L, struct vm *vm, enum lua_entry entry)
{
	lua_Debug info;
	lua_pushvalue(L, -1);
	lua_getinfo(L, ">u", &info);
	vm->brief[entry] =
		!info.isvararg && info.nparams < (entry == ENTRY_AUTH ? 3 : 2) && info.nparams > 0;
	vm->entries[entry] = luaL_ref(L, LUA_REGISTRYINDEX);
}

static const char *const entry_names[] = {"lookup", "policy", "authenticate"};
static const enum lua_entry entries[] = {ENTRY_LOOKUP, ENTRY_POLICY, ENTRY_AUTH};

/* The prelude makes iterate() and one function for all changes out of those of the script. */
static int find_entries(lua_State *L)
{
	struct vm *vm = lua_touserdata(L, 1);
	for (int i = 0; i < 3; i++) {
		if (lua_getglobal(L, entry_names[i]) == LUA_TFUNCTION)
			keep_entry(L, vm, entries[i]);
		else
			lua_pop(L, 1);
	}
	lua_getfield(L, LUA_REGISTRYINDEX, "mapmux.bind");
	lua_pushglobaltable(L);
	lua_call(L, 1, 2);
	if (lua_isfunction(L, -1))
		vm->entries[ENTRY_CHANGE] = luaL_ref(L, LUA_REGISTRYINDEX);
	else
		lua_pop(L, 1);
	if (lua_isfunction(L, -1))
		vm->entries[ENTRY_ITERATE] = luaL_ref(L, LUA_REGISTRYINDEX);
	lua_getglobal(L, "expires");
	vm->expires = lua_toboolean(L, -1);
	return 0;
}

/* What stands on the stack is a message, or whatever a script has raised. */
static void take_message(struct vm *vm, const char *path, struct error *error)
{
	struct answer raised;
	if (lua_type(vm->L, -1) == LUA_TSTRING)
		error_set(error, "%s", lua_tostring(vm->L, -1));
	else if (status_read(vm, vm->L, -1, &vm->mem, &raised))
		error_set(error, "%s: %s", path, raised.why.ptr);
	else
		error_set(error, "%s: the script raised an error that is no text", path);
	lua_pop(vm->L, 1);
}

bool vm_has(const struct vm *vm, enum lua_entry entry)
{
	return vm->entries[entry] != LUA_NOREF;
}

static bool has_any(const struct vm *vm)
{
	for (int i = 0; i < ENTRY_COUNT; i++)
		if (vm_has(vm, (enum lua_entry)i))
			return true;
	return false;
}

/* Each function the administrator counts on; and one at least. */
static bool check_entries(struct vm *vm, struct error *error)
{
	const struct lua_conf *conf = lua_conf_of(vm);
	for (size_t i = 0; i < conf->functions.n; i++) {
		const char *name = conf->functions.items[i].ptr;
		lua_pushglobaltable(vm->L);
		lua_pushnil(vm->L);
		bool found = false;
		while (lua_next(vm->L, -2)) { /* reads without making strings: cannot fail */
			found = found || (lua_type(vm->L, -2) == LUA_TSTRING &&
						 strcmp(lua_tostring(vm->L, -2), name) == 0 &&
						 lua_isfunction(vm->L, -1));
			lua_pop(vm->L, 1);
		}
		lua_pop(vm->L, 1);
		if (!found)
			return error_set(error,
				"%s: defines no function %s, which `functions` names", conf->param,
				name);
	}
	return has_any(vm) ||
	       error_set(error,
		       "%s: defines none of lookup, iterate, set, unset, increment, commit, "
		       "policy, authenticate",
		       conf->param);
}

static bool load(struct vm *vm, struct error *error)
{
	static int (*const steps[])(lua_State *) = {open_libraries, run_script, find_entries};
	for (int i = 0; i < 3; i++) {
		if (vm_protect(vm, steps[i], vm) == LUA_OK)
			continue;
		take_message(vm, lua_conf_of(vm)->param, error);
		return false;
	}
	return check_entries(vm, error);
}

struct vm *vm_new(struct lua_table *home, struct error *error)
{
	struct vm *vm = memory_new(sizeof(*vm));
	vm->home = home;
	vm->limit = (size_t)lua_conf_of(vm)->memory;
	vm->scratch.max = SCRATCH_MAX;
	SLIST_INIT(&vm->spare);
	for (int i = 0; i < ENTRY_COUNT; i++)
		vm->entries[i] = LUA_NOREF;
	vm->L = lua_newstate(allocate, vm);
	if (!vm->L) {
		vm_free(vm);
		error_set(error, "memory: too little for Lua itself");
		return NULL;
	}
	*(struct vm **)lua_getextraspace(vm->L) = vm;
	lua_atpanic(vm->L, on_panic);
	if (!load(vm, error)) {
		vm_free(vm);
		return NULL;
	}
	return vm;
}

void vm_free(struct vm *vm)
{
	assert(vm->running == 0);
	run_drop_spare(vm);
	if (vm->L)
		lua_close(vm->L);
	buf_free(&vm->scratch);
	arena_clear(&vm->mem);
	free(vm);
}

/* Those under way get something to end with. */
void vm_retire(struct vm *vm)
{
	struct lua_table *home = vm->home;
	if (home->vm != vm)
		return;
	home->vm = NULL;
	home->retry_ms = 0;
	vm->limit += vm->limit / 2;
	SLIST_INSERT_HEAD(&home->old, vm, link);
}

void vm_reap(struct vm *vm)
{
	if (vm->home->vm == vm || vm->running > 0)
		return;
	SLIST_REMOVE(&vm->home->old, vm, vm, link);
	vm_free(vm);
}

/* ---- checking ---- */

bool vm_check(const struct lua_conf *conf, struct error *error)
{
	lua_State *L = luaL_newstate();
	if (!L)
		return error_set(error, "no memory for a Lua state");
	bool good = luaL_loadfilex(L, conf->param, conf->unsafe ? "bt" : "t") == LUA_OK;
	if (!good)
		error_set(error, "param: %s", lua_tostring(L, -1));
	lua_close(L);
	return good;
}
