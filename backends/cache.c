/* The cache composite: answers that are kept, requests that are shared, changes that make forget. What it
 * does for a question that it cannot answer itself is cache_flight.c's. */
#include "cache.h"

#include <assert.h>
#include <stdlib.h>

#include "list.h"

enum { MAX_NAME = 256 << 10 }; /* bytes; a longer question is asked by itself */

/* ---- what is neither kept nor shared ---- */

/* A question on its way to the table inside; lives in its asker's arena. */
struct passage {
	struct cache_work work;
	struct query child, *parent;
	struct question ask;    /* a copy */
	struct level_mark mark; /* comes before a change, where there is a second level */
};

static struct cache *cache_of(const struct query *query)
{
	return query->table->state;
}

/* Before it begins, so that no read of before is kept; and when it has ended, however, so that none of
 * while it was under way is. */
static void forget_changes(struct cache *cache, const struct question *ask)
{
	for (size_t i = 0; i < ask->nchanges; i++)
		cache_common_forget(cache->store->common, ask->changes[i].key);
}

static void end_passage(struct passage *passage)
{
	forget_changes(cache_of(passage->parent), &passage->ask);
}

static void on_passed(struct query *child)
{
	struct passage *passage =
		(struct passage *)(void *)((char *)child - offsetof(struct passage, child));
	end_passage(passage);
	query_finish(passage->parent, &child->answer);
}

static void leave_passage(struct cache_work *work)
{
	struct passage *passage = (struct passage *)(void *)work;
	level_mark_cancel(&passage->mark);
	query_cancel_child(&passage->child, passage->parent);
	end_passage(passage);
}

static void go_through(struct passage *passage)
{
	struct query *query = passage->parent;
	if (query_begin(&passage->child, table_inner(query->table), &passage->ask, on_passed))
		on_passed(&passage->child);
}

static void on_marked(struct level_mark *mark)
{
	go_through((struct passage *)(void *)((char *)mark - offsetof(struct passage, mark)));
}

static void pass(struct query *query)
{
	struct level *level = cache_of(query)->level;
	struct passage *passage = arena_alloc(query->mem, sizeof(*passage));
	passage->work.leave = leave_passage;
	passage->parent = query;
	query_follow(&passage->child, query);
	query->work = &passage->work;
	question_copy(&passage->ask, query->ask, query->mem);
	forget_changes(cache_of(query), &passage->ask);
	if (passage->ask.op != OP_CHANGE || !level ||
		!level_mark_start(level, &passage->mark, &passage->ask, query->mem, on_marked))
		go_through(passage);
}

/* ---- what is ---- */

bool cache_refuse(const struct cache *cache, struct query *query)
{
	struct table *inner = table_inner(cache->table);
	return inner->conf->backend->refuse && inner->conf->backend->refuse(inner, query);
}

/* The table at the heart knows by itself, as one does that keeps answers of its own. */
static bool recall(const struct cache *cache, struct query *query)
{
	struct table *core = table_of(cache->table, table_core(cache->table->conf));
	return core->conf->backend->recall && core->conf->backend->recall(core, query);
}

static bool is_shared(const struct cache_conf *conf, enum op op)
{
	return op == OP_LOOKUP || op == OP_ITERATE || (op == OP_POLICY && conf->policy);
}

static void answer_from(struct query *query, const struct cache_entry *entry)
{
	struct cache *cache = cache_of(query);
	struct answer answer;
	bool whole = answer_unpack(cache_entry_answer(entry), &answer, query->mem);
	assert(whole); /* nobody but us has written it */
	answer.ttl = cache_seconds((int64_t)(entry->until_ms - cache_now(cache)));
	query_note(query, "hit", "fresh for %u s more", answer.ttl);
	table_count(cache->table, CACHE_HIT);
	query_finish(query, &answer);
}

/* What may still be used, if only as stale. */
static const struct cache_entry *find(struct cache *cache, const struct cache_place *place)
{
	uint64_t before = cache->store->n;
	const struct cache_entry *entry =
		cache_store_find(cache->store, place->name, place->hash, cache_now(cache));
	if (cache->store->n != before)
		cache_publish(cache);
	return entry;
}

static void ask_shared(struct query *query)
{
	struct cache *cache = cache_of(query);
	const struct question *ask = query->ask;
	struct cache_place place = {.name = buf_str(&cache->name), .key = ask->key};
	place.hash = cache_store_hash(cache->store, place.name);
	place.slot = ask->op == OP_ITERATE ? CACHE_ITERATIONS : cache_slot(ask->key);
	place.stamp = cache_stamp(cache->store->common, place.slot);
	const struct cache_entry *entry = cache->conf->keeps ? find(cache, &place) : NULL;
	if (entry && entry->until_ms > cache_now(cache))
		answer_from(query, entry);
	else
		flight_wait(cache, query, &place, entry);
}

static void start(struct query *query)
{
	struct cache *cache = cache_of(query);
	bool shared = is_shared(cache->conf, query->ask->op);
	if (!cache->conf->keeps && recall(cache, query))
		return;
	/* Nothing to find, nobody to join, nobody to ask: an open breaker costs next to nothing. */
	if (!cache->conf->keeps && cache->nflights == 0 && cache_refuse(cache, query))
		return;
	buf_reset(&cache->name);
	if (shared)
		question_pack(query->ask, &cache->conf->vary, &cache->name);
	if (shared && !cache->name.overflow)
		ask_shared(query);
	else
		pass(query);
}

static void cancel(struct query *query)
{
	struct cache_work *work = query->work;
	work->leave(work);
}

/* ---- the table ---- */

static const char *const counters[] = {
	[CACHE_HIT] = "hit",
	[CACHE_MISS] = "miss",
	[CACHE_STALE] = "stale",
	[CACHE_JOINED] = "joined",
	[CACHE_FORGOTTEN] = "forgotten",
	[CACHE_EVICTED] = "evicted",
	[CACHE_ENTRIES] = "entries",
	[CACHE_BYTES] = "bytes",
	NULL,
};

/* An unchanged table goes on with what it knows. */
static void open_store(struct cache *cache, struct cache_common *common)
{
	const struct cache_conf *conf = cache->conf;
	const struct table *before = cache->table->before;
	const struct cache_limits limits = {
		.max_entries = (size_t)conf->max_entries,
		.max_bytes = (size_t)conf->max_bytes,
		.stale_ms = conf->stale,
	};
	if (!before) {
		cache->store = cache_store_new(common, &limits);
		return;
	}
	cache->store = cache_store_keep(((const struct cache *)before->state)->store);
	table_set_counter(cache->table, CACHE_ENTRIES, cache->store->n);
	table_set_counter(cache->table, CACHE_BYTES, cache->store->bytes);
}

static bool open_table(struct table *table, struct error *error)
{
	struct cache_prepared *prepared = table->conf->shared;
	struct cache *cache = memory_new(sizeof(*cache));
	(void)error;
	cache->table = table;
	cache->conf = table->conf->conf;
	cache->name.max = MAX_NAME;
	open_store(cache, prepared->common);
	if (table->worker)
		cache->door = meet_door_new(table->worker, cache);
	if (prepared->level)
		cache->level = level_new(
			table, prepared->level, cache->store->common, cache->conf->longest);
	table->state = cache;
	return true;
}

static void close_table(struct table *table)
{
	struct cache *cache = table->state;
	flight_close_all(cache);
	if (cache->door)
		meet_door_close(cache->door);
	if (cache->level)
		level_free(cache->level);
	cache_store_release(cache->store);
	buf_free(&cache->name);
	free(cache);
}

static void forget(const struct table *table, const struct str *key)
{
	const struct cache *cache = table->state;
	if (cache->level)
		level_distrust(cache->level, key);
	if (key)
		cache_common_forget(cache->store->common, *key);
	else
		cache_common_forget_all(cache->store->common);
}

void cache_publish(struct cache *cache)
{
	const struct cache_store *store = cache->store;
	table_set_counter(cache->table, CACHE_FORGOTTEN, store->forgotten);
	table_set_counter(cache->table, CACHE_EVICTED, store->evicted);
	table_set_counter(cache->table, CACHE_ENTRIES, store->n);
	table_set_counter(cache->table, CACHE_BYTES, store->bytes);
}

const struct backend backend_cache = {
	.name = "cache",
	.help = "keeps answers, and asks once for all who ask the same",
	.can_expire = true, /* if the table inside can */
	.copies_question = true,
	.settings = cache_settings,
	.conf_size = sizeof(struct cache_conf),
	.wanted = cache_wanted,
	.check = cache_check,
	.drop = cache_drop,
	.inherit = cache_inherit,
	.open = open_table,
	.close = close_table,
	.start = start,
	.cancel = cancel,
	.forget = forget,
	.counters = counters,
	.gauges = 1u << CACHE_ENTRIES | 1u << CACHE_BYTES,
};
