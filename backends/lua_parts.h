/* What the rooms of the lua backend share: lua*.c alone include it.
 *
 * Lua reports errors by jumping. So all work on a state is done inside lua_resume() or lua_pcall();
 * what stands outside of them uses only calls that cannot fail (raw reads, pushes of numbers and
 * light C functions), and nothing that has to be given back is held across a call that can. What a
 * script waits for is begun after its coroutine has yielded, never from inside Lua. */
#ifndef MAPMUX_LUA_PARTS_H
#define MAPMUX_LUA_PARTS_H

#include "base/buf.h"
#include "base/log.h"
#include "engine/http.h"
#include "engine/redis.h"
#include "engine/resolver.h"
#include "model/query.h"
#include "model/table.h"
#include "model/timer.h"

struct lua_State;

/* What a script may define, as C asks for it: set, unset, increment and commit are one. */
enum lua_entry { ENTRY_LOOKUP, ENTRY_ITERATE, ENTRY_CHANGE, ENTRY_POLICY, ENTRY_AUTH, ENTRY_COUNT };

struct lua_conf {
	const char *param;
	struct setting_list functions;
	struct table_list uses;
	struct setting_map config;
	bool unsafe;
	int64_t memory, instructions, cpu_time;
	const char *redis, *servers;
	const char *user_agent, *ca_file, *client_cert, *client_key, *unix_socket, *proxy;
	int64_t connect_timeout, max_connections, max_body;
	bool tls_verify, http2, follow_redirects;
};

/* What check() has prepared for all workers. */
struct lua_shared {
	struct arena mem;
	const char *path; /* where `require` looks: package.path */
	struct http_options http;
	struct redis_options redis;
	bool has_redis;
	struct log_limit failures; /* tracebacks */
};

/* ---- a state: lua_vm.c ---- */

enum vm_stop { STOP_NOT, STOP_STEPS, STOP_TIME };

/* One lua_State with the script loaded. It lives until its last run is over. */
struct vm {
	struct lua_State *L;
	struct lua_table *home;
	size_t used, limit; /* bytes */
	int64_t steps;      /* instructions of this resume */
	uint64_t until_ns;  /* of the thread's CPU time; 0: not looked at yet */
	unsigned grown;     /* allocations of this resume */
	enum vm_stop stop;
	struct run *current; /* inside lua_resume(); NULL: the script is being loaded */
	unsigned running;
	SLIST_HEAD(, run) spare;
	unsigned nspare;
	int entries[ENTRY_COUNT]; /* registry references */
	bool brief[ENTRY_COUNT];  /* takes no `request` */
	bool expires;             /* the script says that it honours request.expire */
	const void *status_mark;  /* metatables, by address */
	const void *object_mark;
	struct buf scratch; /* text on its way into the state */
	struct arena mem;   /* the same; cleared by the next user */
	SLIST_ENTRY(vm) link;
};

/* A table in a worker. */
struct lua_table {
	struct table *table;
	struct vm *vm; /* for new questions; NULL: it could not be renewed */
	SLIST_HEAD(, vm) old;
	uint64_t retry_ms; /* when it is tried again */
	struct http_pool *pool;
	struct redis *redis;
	struct resolver *resolver;
	bool own_resolver;
};

const struct lua_conf *lua_conf_of(const struct vm *vm);
struct lua_shared *lua_shared_of(const struct vm *vm);

/* Compiles the script and calls nothing. */
bool vm_check(const struct lua_conf *conf, struct error *error);

/* A state with the script loaded and its main chunk run. */
struct vm *vm_new(struct lua_table *home, struct error *error);
void vm_free(struct vm *vm);                            /* nothing runs */
bool vm_has(const struct vm *vm, enum lua_entry entry); /* does the script define it? */

/* Its memory was not enough: new questions get another state; those under way end in this one. */
void vm_retire(struct vm *vm);

/* Frees a retired state when its last run is over. */
void vm_reap(struct vm *vm);

/* Of the state that a C function was called from. */
struct vm *vm_of(struct lua_State *L);

/* Before Lua is entered: the limits begin anew. */
void vm_begin(struct vm *vm);

/* For loops in C that may be long: so many steps count as instructions. Raises an error. */
void vm_charge(struct lua_State *L, unsigned steps);

/* Sets the limits' hook on a coroutine that is to be used again. */
void vm_hook(struct lua_State *L);

/* Calls function(L) in protected mode with `arg` as a light userdata; LUA_OK or an error's code, whose
 * message is at the top of the stack. */
int vm_protect(struct vm *vm, int (*function)(struct lua_State *), void *arg);

/* ---- the sandbox: lua_sandbox.c ---- */

/* In protected mode: the libraries, without what a script may not have. */
void sandbox_open(struct lua_State *L, const char *path, bool unsafe);

/* ---- patterns that can be stopped: lua_pattern.c ---- */

/* In protected mode; the table `string` is at the top. */
void pattern_open(struct lua_State *L);

/* ---- a question on its way through a script: lua_run.c ---- */

struct run {
	struct vm *vm;
	struct lua_State *L; /* its coroutine */
	int ref;             /* by which the registry holds it */
	struct query *query;
	enum lua_entry entry;
	bool wrote;   /* something outside may have changed */
	bool stopped; /* by a limit: the coroutine is of no use any more */

	/* What it waits for, while it waits. */
	void (*begin)(struct run *); /* called when the coroutine has yielded */
	void (*stop)(struct run *);  /* to let go of it; NULL: it does not wait */
	bool late;                   /* the call's own timeout has passed */
	struct timer timer;
	struct http_fetch fetch;
	struct question ask;
	struct query child;
	struct dns_query dns;
	struct redis_ask redis;
	struct arena mem; /* of the call under way */
	char first[1024]; /* of mem */
	SLIST_ENTRY(run) link;
};

/* Answers the query: now, or when the script has waited long enough. */
void run_start(struct vm *vm, struct query *query, enum lua_entry entry);
void run_cancel(struct run *run);

/* Gives the coroutines kept for use again back; before the state is closed. */
void run_drop_spare(struct vm *vm);

/* For C functions that wait. The run that called; raises an error outside of a question, and inside of
 * coroutines of the script's own. Its `mem` is empty. */
struct run *run_of(struct lua_State *L);

/* Yields: begin() starts what is waited for, stop() ends it early, and run_resume() goes on with
 * finish(), inside Lua. */
int run_wait(struct lua_State *L, struct run *run, void (*begin)(struct run *),
	void (*stop)(struct run *), int (*finish)(struct lua_State *, int, intptr_t));
void run_resume(struct run *run);

struct lua_table *run_home(const struct run *run);
struct timers *run_timers(const struct run *run);

/* ---- values: lua_value.c ---- */

/* The value as JSON in vm->scratch; false with *why. Raises no error. */
bool value_encode(struct vm *vm, struct lua_State *L, int index, const char **why);

/* The value as the asker's protocol shows it, in `mem`: ST_OK, ST_NOTFOUND, or ST_TEMP with *why.
 * Raises no error. */
enum status value_text(struct vm *vm, struct lua_State *L, int index, const struct query *query,
	struct str *text, const char **why);

/* Rows out of what iterate() has returned; false with *why. Raises no error. */
bool value_rows(
	struct vm *vm, struct lua_State *L, int index, struct query *query, const char **why);

/* In protected mode: mapmux.json, mapmux.null. The table `mapmux` is at the top. */
void value_open(struct lua_State *L, struct vm *vm);

/* ---- what a script may call: lua_api.c, lua_http.c, lua_net.c ---- */

/* In protected mode: makes the global table `mapmux` and leaves it at the top. */
void api_open(struct lua_State *L, struct vm *vm);
void api_open_http(struct lua_State *L);
void api_open_net(struct lua_State *L, struct vm *vm); /* dns, redis */

/* What mapmux.temp(), perm() and uncertain() return, and what failures raise. */
bool status_read(
	struct vm *vm, struct lua_State *L, int index, struct arena *mem, struct answer *answer);

/* Raises ST_TEMP or ST_PERM with that reason. */
int status_raise(struct lua_State *L, enum status status, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* ---- the prelude: lua/prelude.lua, put into the program by CMake ---- */

extern const char lua_prelude[];
extern const size_t lua_prelude_size;

#endif
