/* The memory backend: a writable table that all workers share and that dies with the process. */
#include <pthread.h>
#include <stdlib.h>

#include "list.h"
#include "model/query.h"
#include "rows.h"
#include "store.h"

struct memory_conf {
	const char *param;
};

static const struct setting settings[] = {
	{.name = "param",
		.kind = SET_STR,
		.offset = offsetof(struct memory_conf, param),
		.fallback = "",
		.help = "the most it may hold, 10m say; empty: 64m"},
	{.name = NULL},
};

/* Expired items that one question clears away; those that come later find the rest. */
enum { LOOKUP_CHORES = 8, CHANGE_CHORES = 256 };

/* What the workers share, and what a reload hands on. Its lock is held for memory accesses only. */
struct memory {
	unsigned holders; /* configured tables: the control thread's */
	pthread_mutex_t lock;
	struct store store;
};

/* table_conf.shared */
struct shared {
	struct memory *memory;
	size_t max; /* bytes: of this configuration, not of the data */
};

static struct memory *memory_open(void)
{
	struct memory *memory = memory_new(sizeof(*memory));
	memory->holders = 1;
	pthread_mutex_init(&memory->lock, NULL);
	store_init(&memory->store);
	return memory;
}

static void memory_release(struct memory *memory)
{
	if (--memory->holders > 0)
		return;
	store_clear(&memory->store);
	pthread_mutex_destroy(&memory->lock);
	free(memory);
}

static bool check(struct table_conf *table, struct error *error)
{
	const struct memory_conf *conf = table->conf;
	const char *text = conf->param[0] ? conf->param : "64m";
	int64_t max;
	if (!setting_bytes(str_of(text), &max) || max <= 0)
		return error_set(error,
			"param: '%s' is no size; allowed: empty, or a size such as 64k 10m 1g",
			text);
	struct shared *shared = memory_new(sizeof(*shared));
	*shared = (struct shared){.memory = memory_open(), .max = (size_t)max};
	table->shared = shared;
	return true;
}

static void drop(struct table_conf *table)
{
	struct shared *shared = table->shared;
	if (!shared)
		return;
	memory_release(shared->memory);
	free(shared);
	table->shared = NULL;
}

/* The data go on, whatever the settings have become; both tables may write them for a while. */
static void inherit(struct table_conf *now, const struct table_conf *before)
{
	const struct shared *from = before->shared;
	struct shared *to = now->shared;
	memory_release(to->memory);
	to->memory = from->memory;
	to->memory->holders++;
}

/* How the store names a key: 's' KEY, or 'p' USER NUL KEY. What stands before KEY is *space long. */
static struct str full_name(
	const struct query *query, enum scope scope, struct str key, size_t *space)
{
	struct str user = query->ask->user;
	bool priv = scope == SCOPE_PRIV;
	*space = priv ? user.len + 2 : 1;
	char *name = arena_alloc(query->mem, *space + key.len);
	name[0] = priv ? 'p' : 's';
	if (priv)
		memcpy(name + 1, user.ptr, user.len);
	if (key.len > 0)
		memcpy(name + *space, key.ptr, key.len);
	return (struct str){name, *space + key.len};
}

static void look_up(struct query *query, struct memory *memory, uint64_t now)
{
	size_t space;
	struct str name = full_name(query, query->ask->scope, query->ask->key, &space), value;
	pthread_mutex_lock(&memory->lock);
	store_expire(&memory->store, now, LOOKUP_CHORES);
	const struct item *item = store_find(&memory->store, name, now);
	if (item)
		value = arena_str(query->mem, item_value(item));
	pthread_mutex_unlock(&memory->lock);
	if (item)
		query_ok(query, value);
	else
		query_notfound(query);
}

static void iterate(struct query *query, struct memory *memory, uint64_t now)
{
	const struct question *ask = query->ask;
	struct rows rows = {.ask = ask};
	size_t space;
	struct str prefix = full_name(query, ask->scope, ask->key, &space);
	pthread_mutex_lock(&memory->lock);
	const struct item *item = store_seek(&memory->store, prefix);
	for (; item && str_starts(item_name(item), prefix); item = item_next(item)) {
		struct str name = str_skip(item_name(item), space);
		if (item_lives(item, now) && rows_want(ask, name) &&
			!rows_add(&rows, name, item_value(item)))
			break;
	}
	rows_keep(&rows, query->mem);
	pthread_mutex_unlock(&memory->lock);
	rows_finish(&rows, query);
}

static void change(struct query *query, const struct shared *shared, uint64_t now)
{
	const struct question *ask = query->ask;
	struct memory *memory = shared->memory;
	struct commit commit = {.now = now, .max = shared->max, .n = ask->nchanges};
	struct answer answer = {.status = ST_OK};
	size_t space;
	if (ask->expire_secs > 0 && ask->expire_secs < (UINT64_MAX - now) / 1000)
		commit.expires = now + ask->expire_secs * 1000;
	commit.steps = arena_alloc(query->mem, ask->nchanges * sizeof(*commit.steps));
	for (size_t i = 0; i < ask->nchanges; i++) {
		commit.steps[i].change = &ask->changes[i];
		commit.steps[i].name =
			full_name(query, ask->changes[i].scope, ask->changes[i].key, &space);
	}
	commit_prepare(&commit, &memory->store);
	pthread_mutex_lock(&memory->lock);
	store_expire(&memory->store, now, CHANGE_CHORES);
	answer.status = commit_apply(&commit, &memory->store);
	pthread_mutex_unlock(&memory->lock);
	commit_free(&commit);
	answer.why = str_of(commit.why);
	query_finish(query, &answer);
}

static bool names_priv(const struct question *ask)
{
	bool priv = ask->op != OP_CHANGE && ask->scope == SCOPE_PRIV;
	for (size_t i = 0; i < ask->nchanges; i++)
		priv = priv || ask->changes[i].scope == SCOPE_PRIV;
	return priv;
}

static void start(struct query *query)
{
	const struct question *ask = query->ask;
	const struct shared *shared = query->table->conf->shared;
	uint64_t now = query->table->turn->now_ms;
	if (names_priv(ask) && (ask->user.len == 0 || str_has(ask->user, '\0')))
		query_perm(query, "a priv/ key needs a user");
	else if (ask->op == OP_LOOKUP)
		look_up(query, shared->memory, now);
	else if (ask->op == OP_ITERATE)
		iterate(query, shared->memory, now);
	else
		change(query, shared, now);
}

const struct backend backend_memory = {
	.name = "memory",
	.help = "a writable dict in the process; gone when it ends",
	.ops = CAN(OP_LOOKUP) | CAN(OP_ITERATE) | CAN(OP_CHANGE),
	.can_expire = true,
	.settings = settings,
	.conf_size = sizeof(struct memory_conf),
	.check = check,
	.drop = drop,
	.inherit = inherit,
	.start = start,
};
