/* The answers that one worker keeps of one table. */
#include "cache_store.h"

#include <assert.h>
#include <stdlib.h>

enum {
	BUCKETS_FIRST = 64,
	MOVES = 4,     /* old buckets that an entry more empties: the new ones never fill before */
	CHORES = 2,    /* dead entries at the end of the line that an entry more clears away */
	OVERHEAD = 16, /* what malloc() needs for itself */
	LARGEST_PART = 8,
	NEAR_HEAD = 8, /* so few moves ago, as a part of all entries: not moved again */
};

static size_t entry_bytes(const struct cache_entry *entry)
{
	return sizeof(*entry) + entry->name_len + entry->answer_len + OVERHEAD;
}

struct cache_store *cache_store_new(struct cache_common *common, const struct cache_limits *limits)
{
	struct cache_store *store = memory_new(sizeof(*store));
	store->refs = 1;
	store->common = cache_common_keep(common);
	store->limits = *limits;
	store->key = common->key;
	store->mask = BUCKETS_FIRST - 1;
	store->buckets = memory_new(BUCKETS_FIRST * sizeof(struct cache_entry *));
	TAILQ_INIT(&store->ages);
	atomic_fetch_add(&common->nstores, 1);
	return store;
}

struct cache_store *cache_store_keep(struct cache_store *store)
{
	store->refs++;
	return store;
}

void cache_store_release(struct cache_store *store)
{
	struct cache_entry *entry;
	if (--store->refs > 0)
		return;
	while ((entry = TAILQ_FIRST(&store->ages))) {
		TAILQ_REMOVE(&store->ages, entry, age);
		free(entry);
	}
	free(store->buckets);
	free(store->old);
	atomic_fetch_sub(&store->common->nstores, 1);
	cache_common_release(store->common);
	free(store);
}

/* ---- buckets ---- */

static struct cache_entry **bucket_of(const struct cache_store *store, uint32_t hash)
{
	if (store->old && (hash & store->old_mask) >= store->moved)
		return &store->old[hash & store->old_mask];
	return &store->buckets[hash & store->mask];
}

/* Empties some of the old buckets, so that no question pays for all of them. */
static void move_some(struct cache_store *store)
{
	for (unsigned i = 0; i < MOVES && store->old; i++) {
		struct cache_entry *entry = store->old[store->moved++], *next;
		for (; entry; entry = next) {
			struct cache_entry **bucket = &store->buckets[entry->hash & store->mask];
			next = entry->next;
			entry->next = *bucket;
			*bucket = entry;
		}
		if (store->moved > store->old_mask) {
			free(store->old);
			store->old = NULL;
		}
	}
}

static void grow(struct cache_store *store)
{
	move_some(store);
	if (store->old || store->n <= store->mask)
		return;
	store->old = store->buckets;
	store->old_mask = store->mask;
	store->moved = 0;
	store->mask = 2 * store->mask + 1;
	store->buckets = memory_new((store->mask + 1) * sizeof(struct cache_entry *));
}

/* The link that leads to the entry of that name, or to nothing. */
static struct cache_entry **find_link(struct cache_store *store, struct str name, uint32_t hash)
{
	struct cache_entry **link = bucket_of(store, hash);
	for (struct cache_entry *entry; (entry = *link); link = &entry->next)
		if (entry->hash == hash && entry->name_len == name.len &&
			memcmp(entry->bytes, name.ptr, name.len) == 0)
			break;
	return link;
}

/* ---- entries ---- */

static void remove_at(struct cache_store *store, struct cache_entry **link)
{
	struct cache_entry *entry = *link;
	*link = entry->next;
	TAILQ_REMOVE(&store->ages, entry, age);
	store->n--;
	store->bytes -= entry_bytes(entry);
	free(entry);
}

static void remove_entry(struct cache_store *store, const struct cache_entry *entry)
{
	struct cache_entry **link = bucket_of(store, entry->hash);
	while (*link != entry) {
		assert(*link); /* it is in its bucket */
		link = &(*link)->next;
	}
	remove_at(store, link);
}

static bool is_forgotten(const struct cache_store *store, const struct cache_entry *entry)
{
	return entry->stamp != cache_stamp(store->common, entry->slot);
}

static bool is_over(
	const struct cache_store *store, const struct cache_entry *entry, uint64_t now_ms)
{
	return entry->until_ms + (uint64_t)store->limits.stale_ms <= now_ms;
}

static void put_first(struct cache_store *store, struct cache_entry *entry)
{
	entry->moved = ++store->moves;
	TAILQ_INSERT_HEAD(&store->ages, entry, age);
}

struct cache_entry *cache_store_find(
	struct cache_store *store, struct str name, uint64_t hash, uint64_t now_ms)
{
	struct cache_entry **link = find_link(store, name, (uint32_t)hash), *entry = *link;
	if (!entry)
		return NULL;
	bool forgotten = is_forgotten(store, entry);
	if (forgotten || is_over(store, entry, now_ms)) {
		store->forgotten += forgotten;
		remove_at(store, link);
		return NULL;
	}
	if (store->moves - entry->moved > store->n / NEAR_HEAD) {
		TAILQ_REMOVE(&store->ages, entry, age);
		put_first(store, entry);
	}
	return entry;
}

void cache_store_drop(struct cache_store *store, struct str name, uint64_t hash)
{
	struct cache_entry **link = find_link(store, name, (uint32_t)hash);
	if (*link)
		remove_at(store, link);
}

/* ---- bounds ---- */

/* This worker's part of what all may hold. Each has an equal one: connections are spread evenly. */
static size_t part_of(const struct cache_store *store, size_t all)
{
	unsigned n = atomic_load_explicit(&store->common->nstores, memory_order_relaxed);
	size_t part = n > 1 ? all / n : all;
	return part > 0 ? part : 1;
}

/* What nobody will ask for again goes without being counted as evicted. */
static void clear_dead(struct cache_store *store, uint64_t now_ms)
{
	for (unsigned i = 0; i < CHORES; i++) {
		struct cache_entry *entry = TAILQ_LAST(&store->ages, cache_ages);
		if (!entry)
			return;
		bool forgotten = is_forgotten(store, entry);
		if (!forgotten && !is_over(store, entry, now_ms))
			return;
		store->forgotten += forgotten;
		remove_entry(store, entry);
	}
}

static void make_room(struct cache_store *store, size_t bytes, uint64_t now_ms)
{
	size_t max_entries = part_of(store, store->limits.max_entries);
	size_t max_bytes = part_of(store, store->limits.max_bytes);
	clear_dead(store, now_ms);
	struct cache_entry *oldest;
	while ((oldest = TAILQ_LAST(&store->ages, cache_ages)) &&
		(store->n >= max_entries || store->bytes + bytes > max_bytes)) {
		remove_entry(store, oldest);
		store->evicted++;
	}
}

void cache_store_put(struct cache_store *store, const struct cache_place *place,
	const struct answer *answer, uint64_t now_ms)
{
	size_t len = answer_packed_size(answer);
	size_t bytes = sizeof(struct cache_entry) + place->name.len + len + OVERHEAD;
	cache_store_drop(store, place->name, place->hash);
	if (bytes > part_of(store, store->limits.max_bytes) / LARGEST_PART || len > UINT32_MAX ||
		place->name.len > UINT32_MAX ||
		place->stamp != cache_stamp(store->common, place->slot))
		return;
	make_room(store, bytes, now_ms);
	grow(store);
	struct cache_entry *entry = memory_grow(NULL, bytes - OVERHEAD);
	*entry = (struct cache_entry){
		.until_ms = place->until_ms,
		.stamp = place->stamp,
		.hash = (uint32_t)place->hash,
		.name_len = (uint32_t)place->name.len,
		.answer_len = (uint32_t)len,
		.slot = (uint16_t)place->slot,
	};
	memcpy(entry->bytes, place->name.ptr, place->name.len);
	answer_pack(answer, entry->bytes + place->name.len);
	struct cache_entry **bucket = bucket_of(store, entry->hash);
	entry->next = *bucket;
	*bucket = entry;
	put_first(store, entry);
	store->n++;
	store->bytes += bytes;
}
