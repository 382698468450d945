/* Sliding windows: what happened to each name, oldest first, in one list for all of its windows. */
#include "model/windows.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "base/arena.h"
#include "base/siphash.h"

enum {
	FINE = 100,       /* parts of the shortest window that are told apart */
	FIRST_ROOM = 2,   /* marks of a name: most have few, */
	MAX_MARKS = 4096, /* and none has more */
	CHORES = 2,       /* names looked at, with each count, for whether they can be forgotten */
	MIN_BUCKETS = 64,
};

/* So much at that time. */
struct mark {
	uint64_t ms, n;
};

struct record {
	LIST_ENTRY(record) chain;
	TAILQ_ENTRY(record) age;
	uint64_t hash;
	uint64_t until_ms;  /* nothing of it counts any more */
	struct mark *marks; /* oldest first */
	size_t n, room;
	size_t len;
	char name[];
};

LIST_HEAD(record_chain, record);

struct windows {
	pthread_mutex_t lock;
	unsigned holders;
	size_t max;
	_Atomic size_t n;       /* written under the lock */
	struct siphash_key key; /* clients choose the names */
	struct record_chain *buckets;
	size_t nbuckets;
	TAILQ_HEAD(record_ages, record) ages; /* the one that was counted last is the last */
};

struct windows *windows_new(size_t max)
{
	struct windows *windows = memory_new(sizeof(*windows));
	pthread_mutex_init(&windows->lock, NULL);
	windows->holders = 1;
	windows->max = max;
	windows->nbuckets = MIN_BUCKETS;
	windows->buckets = memory_new(windows->nbuckets * sizeof(*windows->buckets));
	windows->key = siphash_key_new();
	TAILQ_INIT(&windows->ages);
	return windows;
}

struct windows *windows_keep(struct windows *windows)
{
	pthread_mutex_lock(&windows->lock);
	windows->holders++;
	pthread_mutex_unlock(&windows->lock);
	return windows;
}

static void record_free(struct windows *windows, struct record *record)
{
	LIST_REMOVE(record, chain);
	TAILQ_REMOVE(&windows->ages, record, age);
	windows->n--;
	free(record->marks);
	free(record);
}

void windows_release(struct windows *windows)
{
	struct record *record;
	if (!windows)
		return;
	pthread_mutex_lock(&windows->lock);
	bool last = --windows->holders == 0;
	pthread_mutex_unlock(&windows->lock);
	if (!last)
		return;
	while ((record = TAILQ_FIRST(&windows->ages)))
		record_free(windows, record);
	free(windows->buckets);
	pthread_mutex_destroy(&windows->lock);
	free(windows);
}

/* ---- names ---- */

static struct record *find(struct windows *windows, struct str name, uint64_t hash)
{
	struct record *record;
	LIST_FOREACH (record, &windows->buckets[hash % windows->nbuckets], chain)
		if (record->hash == hash && record->len == name.len &&
			memcmp(record->name, name.ptr, name.len) == 0)
			return record;
	return NULL;
}

static void grow(struct windows *windows)
{
	struct record *record;
	windows->nbuckets *= 2;
	assert(windows->nbuckets > 0); /* far below what memory can hold */
	windows->buckets =
		memory_grow(windows->buckets, windows->nbuckets * sizeof(*windows->buckets));
	for (size_t i = 0; i < windows->nbuckets; i++)
		LIST_INIT(&windows->buckets[i]);
	TAILQ_FOREACH (record, &windows->ages, age)
		LIST_INSERT_HEAD(
			&windows->buckets[record->hash % windows->nbuckets], record, chain);
}

/* Its caller gives it its age. */
static struct record *record_new(struct windows *windows, struct str name, uint64_t hash)
{
	if (windows->n >= windows->max)
		record_free(windows, TAILQ_FIRST(&windows->ages));
	if (windows->n >= windows->nbuckets)
		grow(windows);
	struct record *record = memory_new(sizeof(*record) + name.len);
	record->hash = hash;
	record->len = name.len;
	memcpy(record->name, name.ptr, name.len);
	LIST_INSERT_HEAD(&windows->buckets[hash % windows->nbuckets], record, chain);
	windows->n++;
	return record;
}

/* Those that have nothing left go, before others have to. */
static void do_chores(struct windows *windows, uint64_t now_ms)
{
	struct record *record;
	for (int i = 0; i < CHORES && (record = TAILQ_FIRST(&windows->ages)); i++)
		if (record->until_ms <= now_ms)
			record_free(windows, record);
}

/* ---- what happened ---- */

struct window_span window_rules_span(const struct window_rules *rules)
{
	struct window_span span = {.shortest_ms = UINT64_MAX};
	for (size_t i = 0; i < rules->n; i++) {
		const struct window_limit *limit = &rules->limits[i];
		span.shortest_ms = limit->ms < span.shortest_ms ? limit->ms : span.shortest_ms;
		span.longest_ms = limit->ms > span.longest_ms ? limit->ms : span.longest_ms;
		span.most = limit->most > span.most ? limit->most : span.most;
	}
	return span;
}

static struct window_use use_of(
	const struct record *record, const struct window_limit *limit, uint64_t now_ms)
{
	struct window_use use = {0};
	for (size_t i = record->n; i > 0 && record->marks[i - 1].ms + limit->ms > now_ms; i--) {
		use.used += record->marks[i - 1].n;
		use.free_ms = record->marks[i - 1].ms + limit->ms;
	}
	return use;
}

static void drop_oldest(struct record *record, size_t n)
{
	record->n -= n;
	memmove(record->marks, record->marks + n, record->n * sizeof(*record->marks));
}

/* What is too old for each window, or more than any of them needs to know to say no. */
static void forget_old(struct record *record, const struct window_span *span, uint64_t now_ms)
{
	uint64_t sum = 0;
	size_t i = record->n;
	while (i > 0 && record->marks[i - 1].ms + span->longest_ms > now_ms && sum <= span->most)
		sum += record->marks[--i].n;
	if (i > 0)
		drop_oldest(record, i);
}

/* Of the older half of the marks each two become one, at the later one's time. */
static void make_coarser(struct record *record)
{
	size_t half = record->n / 2, to = 0;
	for (size_t from = 0; from + 1 < half; from += 2, to++) {
		uint64_t n = record->marks[from].n + record->marks[from + 1].n;
		record->marks[to] = (struct mark){record->marks[from + 1].ms, n};
	}
	size_t kept = 2 * to;
	memmove(record->marks + to, record->marks + kept,
		(record->n - kept) * sizeof(*record->marks));
	record->n -= kept - to;
}

static void make_room(struct record *record)
{
	if (record->n == MAX_MARKS)
		make_coarser(record);
	if (record->n < record->room)
		return;
	record->room = record->room ? record->room * 2 : FIRST_ROOM;
	record->marks = memory_grow(record->marks, record->room * sizeof(*record->marks));
}

/* Times are rounded up to parts of the shortest window; what falls together is one mark. */
static void add(struct record *record, const struct window_span *span, uint64_t n, uint64_t now_ms)
{
	uint64_t part = span->shortest_ms / FINE + 1;
	uint64_t ms = (now_ms + part - 1) / part * part;
	record->until_ms = ms + span->longest_ms;
	if (record->n > 0 && record->marks[record->n - 1].ms >= ms) {
		record->marks[record->n - 1].n += n;
		return;
	}
	make_room(record);
	record->marks[record->n++] = (struct mark){ms, n};
}

static int first_passed(
	const struct record *record, const struct window_rules *rules, uint64_t n, uint64_t now_ms)
{
	for (size_t i = 0; i < rules->n; i++) {
		uint64_t used = record ? use_of(record, &rules->limits[i], now_ms).used : 0;
		if (used + n > rules->limits[i].most)
			return (int)i;
	}
	return -1;
}

/* ---- asking ---- */

int windows_count(struct windows *windows, struct str name, const struct window_rules *rules,
	uint64_t n, bool always, uint64_t now_ms)
{
	struct window_span span = window_rules_span(rules);
	uint64_t hash = siphash(&windows->key, name);
	pthread_mutex_lock(&windows->lock);
	struct record *record = find(windows, name, hash);
	int passed = first_passed(record, rules, n, now_ms);
	if (n > 0 && rules->n > 0 && (passed < 0 || always)) {
		if (record)
			TAILQ_REMOVE(&windows->ages, record, age);
		else
			record = record_new(windows, name, hash);
		TAILQ_INSERT_TAIL(&windows->ages, record, age);
		forget_old(record, &span, now_ms);
		add(record, &span, n, now_ms);
	}
	do_chores(windows, now_ms);
	pthread_mutex_unlock(&windows->lock);
	return passed;
}

void windows_look(struct windows *windows, struct str name, const struct window_rules *rules,
	uint64_t now_ms, struct window_use *uses)
{
	pthread_mutex_lock(&windows->lock);
	const struct record *record = find(windows, name, siphash(&windows->key, name));
	for (size_t i = 0; i < rules->n; i++)
		uses[i] =
			record ? use_of(record, &rules->limits[i], now_ms) : (struct window_use){0};
	pthread_mutex_unlock(&windows->lock);
}

bool windows_forget(struct windows *windows, struct str name)
{
	pthread_mutex_lock(&windows->lock);
	struct record *record = find(windows, name, siphash(&windows->key, name));
	if (record)
		record_free(windows, record);
	pthread_mutex_unlock(&windows->lock);
	return record != NULL;
}

size_t windows_size(const struct windows *windows)
{
	return atomic_load_explicit(&windows->n, memory_order_relaxed);
}
