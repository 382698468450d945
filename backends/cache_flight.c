/* Questions on their way to the source: equal ones share one request, and those that know an old answer
 * do not wait for ever. */
#include <stdlib.h>

#include "cache.h"

enum {
	TROUBLE_MS =
		5000, /* so long a source that failed is not waited for by those who can do without */
	MAX_BEHIND = 64, /* flights that nobody waits for, in a worker */
};

/* ---- finding ---- */

static struct flight_chain *chain_of(struct cache *cache, uint64_t hash)
{
	return &cache->flights[hash % FLIGHT_CHAINS];
}

/* The flight that answers that question: not one that began before a change. */
static struct flight *flight_find(struct cache *cache, const struct cache_place *place)
{
	struct flight *flight;
	LIST_FOREACH (flight, chain_of(cache, place->hash), link)
		if (!flight->over && flight->place.hash == place->hash &&
			flight->place.stamp == place->stamp &&
			str_eq(flight->place.name, place->name))
			return flight;
	return NULL;
}

/* ---- waiting ---- */

/* One who wants to know of each step; NULL: none of those who wait does. */
static const struct query *find_traced(const struct flight *flight)
{
	const struct waiter *waiter;
	TAILQ_FOREACH (waiter, &flight->waiters, link)
		if (waiter->query->trace)
			return waiter->query;
	return NULL;
}

#define flight_note(flight, ...)                                                                   \
	do {                                                                                       \
		const struct query *traced = find_traced(flight);                                  \
		if (traced)                                                                        \
			query_tell(traced, __VA_ARGS__);                                           \
	} while (0)

/* A change that came meanwhile makes the old answer a wrong one. */
static bool has_stale(const struct waiter *waiter)
{
	const struct flight *flight = waiter->flight;
	return waiter->has_stale &&
	       waiter->stale_stamp == cache_stamp(flight->cache->store->common, flight->place.slot);
}

/* Of the waiter nothing is left in the flight. */
static void part(struct waiter *waiter)
{
	timer_clear(&waiter->slow);
	TAILQ_REMOVE(&waiter->flight->waiters, waiter, link);
}

static void give_stale(struct waiter *waiter)
{
	table_count(waiter->flight->cache->table, CACHE_STALE);
	query_note(waiter->query, "stale", "the table failed, or takes its time");
	query_finish(waiter->query, &waiter->stale);
}

static void give(struct waiter *waiter, const struct answer *answer)
{
	struct answer copy;
	answer_copy(&copy, answer, waiter->query->mem);
	query_finish(waiter->query, &copy);
}

/* Rows in their tens of thousands are not copied for whoever is the only one, or the last, to get them. */
static void give_memory(struct waiter *waiter, const struct answer *answer)
{
	query_finish(waiter->query, answer);
	arena_join(waiter->query->mem, &waiter->flight->mem);
}

static void set_behind(struct flight *flight)
{
	struct cache *cache = flight->cache;
	if (flight->behind || cache->nbehind >= MAX_BEHIND)
		return;
	flight->behind = true;
	cache->nbehind++;
}

static void flight_free(struct flight *flight)
{
	LIST_REMOVE(flight, link);
	flight->cache->nflights--;
	if (flight->behind)
		flight->cache->nbehind--;
	arena_clear(&flight->mem);
	free(flight);
}

/* In vain: the last one who waited did so to the end of his time. That is a failure of the source, though it
 * might have had more; of one who leaves before, nobody knows. */
static void flight_cancel(struct flight *flight, bool in_vain)
{
	meet_end(&flight->meet, &(struct meet_news){.lost = true, .in_vain = in_vain});
	level_read_cancel(&flight->read);
	if (in_vain)
		flight->child.deadline = cache_now(flight->cache);
	query_cancel(&flight->child);
	flight_free(flight);
}

/* When nobody needs it any more, the source need not answer either. */
static void drop_if_unwanted(struct flight *flight, bool in_vain)
{
	if (!TAILQ_EMPTY(&flight->waiters) || flight->behind || meet_is_followed(&flight->meet))
		return;
	flight_cancel(flight, in_vain);
}

static void leave(struct cache_work *work)
{
	struct waiter *waiter = (struct waiter *)(void *)work;
	part(waiter);
	drop_if_unwanted(
		waiter->flight, waiter->query->deadline <= cache_now(waiter->flight->cache));
}

static void on_slow(struct timer *timer)
{
	struct waiter *waiter =
		(struct waiter *)(void *)((char *)timer - offsetof(struct waiter, slow));
	struct flight *flight = waiter->flight;
	flight->cache->trouble_until_ms = cache_now(flight->cache) + TROUBLE_MS;
	if (!has_stale(waiter))
		return;
	set_behind(flight);
	part(waiter);
	give_stale(waiter);
	drop_if_unwanted(flight, false);
}

/* Within the asker's own time, whatever the option says. */
static uint64_t slow_at(const struct cache *cache, const struct query *query)
{
	uint64_t now = cache_now(cache), wait = (uint64_t)cache->conf->stale_timeout;
	uint64_t left = query->deadline > now ? query->deadline - now : 0;
	uint64_t most = left - left / 8;
	return now + (wait < most ? wait : most);
}

static struct waiter *waiter_new(struct query *query, const struct cache_place *place)
{
	struct waiter *waiter = arena_alloc(query->mem, sizeof(*waiter));
	waiter->work.leave = leave;
	waiter->query = query;
	waiter->stale_stamp = place->stamp;
	query->work = &waiter->work;
	return waiter;
}

static void join(struct flight *flight, struct waiter *waiter)
{
	waiter->flight = flight;
	TAILQ_INSERT_TAIL(&flight->waiters, waiter, link);
	if (waiter->has_stale)
		timer_set(flight->cache->table->turn->timers, &waiter->slow,
			slow_at(flight->cache, waiter->query), on_slow);
}

/* ---- flying ---- */

static struct flight *flight_new(
	struct cache *cache, const struct cache_place *place, const struct question *ask)
{
	struct flight *flight = memory_grow(NULL, sizeof(*flight));
	memset(flight, 0, offsetof(struct flight, first));
	if (ask->op != OP_ITERATE) /* else its memory can be given away */
		arena_init(&flight->mem, flight->first, sizeof(flight->first));
	flight->child.mem = &flight->mem;
	flight->cache = cache;
	question_copy(&flight->ask, ask, &flight->mem);
	flight->place = *place;
	flight->place.name = arena_str(&flight->mem, place->name);
	flight->place.key = flight->ask.key;
	flight->began_ms = cache_now(cache);
	flight->meet = (struct meet){.place = &flight->place, .door = cache->door};
	flight->meet.digest = cache->table->conf->digest;
	flight->meet.id = ++cache->last_id;
	if (cache->door)
		flight->meet.common = cache->store->common;
	TAILQ_INIT(&flight->waiters);
	LIST_INSERT_HEAD(chain_of(cache, place->hash), flight, link);
	cache->nflights++;
	return flight;
}

static void on_answer(struct query *child);

static void ask_source(struct flight *flight)
{
	const struct query *traced = find_traced(flight);
	flight->child.trace = traced ? traced->trace : NULL;
	flight->child.depth = traced ? traced->depth + 1 : 0;
	if (query_begin(&flight->child, table_inner(flight->cache->table), &flight->ask, on_answer))
		on_answer(&flight->child);
}

static void land(struct flight *flight, const struct answer *answer, bool timed_out);

static void on_read(struct level_read *read)
{
	struct flight *flight =
		(struct flight *)(void *)((char *)read - offsetof(struct flight, read));
	flight_note(flight, "second level", "%s", read->found ? "hit" : "miss");
	if (read->found)
		land(flight, &read->answer, false);
	else
		ask_source(flight);
}

/* Another worker's request, the second level, the source: the first that there is. It may be over when
 * this returns. */
static void take_off(struct flight *flight)
{
	struct cache *cache = flight->cache;
	if (cache->door && !meet_begin(&flight->meet)) {
		flight_note(flight, "joined", "another worker asks the same already");
		return;
	}
	if (!cache->level || !level_read_start(cache->level, &flight->read, &flight->place,
				     &flight->mem, on_read))
		ask_source(flight);
}

static void fly(struct cache *cache, const struct cache_place *place, const struct question *ask,
	struct waiter *waiter)
{
	struct flight *flight = flight_new(cache, place, ask);
	join(flight, waiter);
	take_off(flight);
}

static void fly_behind(
	struct cache *cache, const struct cache_place *place, const struct question *ask)
{
	struct flight *flight = flight_new(cache, place, ask);
	set_behind(flight);
	take_off(flight);
}

/* Is the source well? A late answer does not say so. */
static void learn(const struct flight *flight, const struct answer *answer)
{
	struct cache *cache = flight->cache;
	uint64_t now = cache_now(cache);
	if (answer->status == ST_TEMP)
		cache->trouble_until_ms = now + TROUBLE_MS;
	else if (now - flight->began_ms <= (uint64_t)cache->conf->stale_timeout)
		cache->trouble_until_ms = 0;
}

/* A definite answer takes the place of what was known, also where it is not to be kept itself. */
static void keep(struct flight *flight, const struct answer *answer)
{
	struct cache *cache = flight->cache;
	if (!cache->conf->keeps || (answer->status != ST_OK && answer->status != ST_NOTFOUND))
		return;
	int64_t ttl = cache_lifetime(cache->conf, answer);
	if (flight->read.found && ttl > flight->read.left_ms)
		ttl = flight->read.left_ms;
	flight->place.until_ms = cache_now(cache) + (uint64_t)ttl;
	flight_note(flight, ttl > 0 ? "kept" : "not kept", "for %lld ms", (long long)ttl);
	if (ttl > 0)
		cache_store_put(cache->store, &flight->place, answer, cache_now(cache));
	else
		cache_store_drop(cache->store, flight->place.name, flight->place.hash);
	cache_publish(cache);
	if (ttl > 0 && flight->read.may_fill && !flight->read.found &&
		flight->place.stamp == cache_stamp(cache->store->common, flight->place.slot))
		level_fill(cache->level, &flight->place, answer, ttl);
}

/* The flight ran out of its time, but who joined it late has most of his own. */
static bool has_time(const struct waiter *waiter)
{
	const struct table *table = waiter->flight->cache->table;
	uint64_t timeout = (uint64_t)table->conf->options.timeout;
	return waiter->query->deadline > table->turn->now_ms + timeout / 4;
}

static void go_on(struct waiter *waiter)
{
	struct flight *flight = waiter->flight;
	struct cache *cache = flight->cache;
	struct cache_place place = flight->place;
	place.stamp = cache_stamp(cache->store->common, place.slot);
	struct flight *next = flight_find(cache, &place);
	part(waiter);
	if (next)
		join(next, waiter);
	else
		fly(cache, &place, &flight->ask, waiter);
}

/* Nothing of the flight's memory is needed but this answer, which stands in it, by one waiter. */
static bool can_give_memory(const struct flight *flight, const struct answer *answer)
{
	bool own = answer == &flight->child.answer || answer == &flight->read.answer;
	return own && answer->status == ST_OK && flight->ask.op == OP_ITERATE &&
	       TAILQ_EMPTY(&flight->waiters);
}

/* To all who wait, each his own copy. */
static void land(struct flight *flight, const struct answer *answer, bool timed_out)
{
	bool failed = answer->status == ST_TEMP;
	struct waiter *waiter;
	meet_end(&flight->meet, &(struct meet_news){.timed_out = timed_out,
					.found = flight->read.found,
					.left_ms = flight->read.left_ms,
					.answer = *answer});
	flight->over = true;
	if (!flight->read.found)
		learn(flight, answer);
	keep(flight, answer);
	while ((waiter = TAILQ_FIRST(&flight->waiters))) {
		if (timed_out && !has_stale(waiter) && has_time(waiter)) {
			go_on(waiter);
			continue;
		}
		part(waiter);
		if (failed && has_stale(waiter))
			give_stale(waiter);
		else if (can_give_memory(flight, answer))
			give_memory(waiter, answer);
		else
			give(waiter, answer);
	}
	flight_free(flight);
}

static void on_answer(struct query *child)
{
	struct flight *flight =
		(struct flight *)(void *)((char *)child - offsetof(struct flight, child));
	bool failed = child->answer.status == ST_TEMP;
	land(flight, &child->answer, failed && cache_now(flight->cache) >= child->deadline);
}

void cache_told(struct cache *cache, uint64_t hash, uint64_t id, const struct meet_news *news)
{
	struct flight *flight;
	LIST_FOREACH (flight, chain_of(cache, hash), link)
		if (flight->meet.id == id)
			break;
	if (!flight)
		return; /* nobody wanted it any more */
	if (news->alone) {
		drop_if_unwanted(flight, news->in_vain);
		return;
	}
	if (news->lost) {
		take_off(flight);
		return;
	}
	flight->read.found = news->found;
	flight->read.left_ms = news->left_ms;
	land(flight, &news->answer, news->timed_out);
}

/* ---- asking ---- */

/* Nobody is asked: the old answer, if there is one, else the refusal. */
static bool refuse(struct cache *cache, struct waiter *waiter)
{
	if (!cache_refuse(cache, waiter->has_stale ? NULL : waiter->query))
		return false;
	table_count(cache->table, waiter->has_stale ? CACHE_STALE : CACHE_MISS);
	if (!waiter->has_stale)
		return true;
	query_note(waiter->query, "stale", "the table is not asked: breaker open");
	query_finish(waiter->query, &waiter->stale);
	return true;
}

void flight_wait(struct cache *cache, struct query *query, const struct cache_place *place,
	const struct cache_entry *stale)
{
	struct flight *flight = flight_find(cache, place);
	struct waiter *waiter = waiter_new(query, place);
	if (stale)
		waiter->has_stale =
			answer_unpack(cache_entry_answer(stale), &waiter->stale, query->mem);
	if (waiter->has_stale)
		waiter->stale.ttl = 1; /* nobody above shall keep it longer */
	if (!flight && refuse(cache, waiter))
		return;
	if (waiter->has_stale && cache->trouble_until_ms > cache_now(cache)) {
		table_count(cache->table, CACHE_STALE);
		query_note(query, "stale", "the table has failed a moment ago");
		query_finish(query, &waiter->stale);
		if (!flight && cache->nbehind < MAX_BEHIND)
			fly_behind(cache, place, query->ask);
		return;
	}
	table_count(cache->table, flight ? CACHE_JOINED : CACHE_MISS);
	query_note(query, flight ? "joined" : "miss", "%s",
		flight  ? "the same is asked already"
		: stale ? "what is kept has expired"
			: "");
	if (flight)
		join(flight, waiter);
	else
		fly(cache, place, query->ask, waiter);
}

void flight_close_all(struct cache *cache)
{
	struct flight *flight, *next;
	for (unsigned i = 0; i < FLIGHT_CHAINS; i++)
		for (flight = LIST_FIRST(&cache->flights[i]); flight; flight = next) {
			next = LIST_NEXT(flight, link);
			flight_cancel(flight, false);
		}
}
