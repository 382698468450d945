/* The answers that one worker keeps of one table: found by question, the least recently used goes first. */
#ifndef MAPMUX_CACHE_STORE_H
#define MAPMUX_CACHE_STORE_H

#include <sys/queue.h>

#include "cache_common.h"
#include "cache_pack.h"

/* One answer, in one piece of memory. */
struct cache_entry {
	struct cache_entry *next; /* of its bucket */
	TAILQ_ENTRY(cache_entry) age;
	uint64_t until_ms; /* fresh so long; on the turn's clock */
	uint64_t stamp;    /* of its slot, from before the source was asked */
	uint32_t hash, name_len, answer_len;
	uint32_t moved; /* store->moves, when it was last put first in the line */
	uint16_t slot;
	char bytes[]; /* the packed question, then the packed answer */
};

struct cache_limits {
	size_t max_entries, max_bytes; /* of all workers together */
	int64_t stale_ms;              /* so long behind its end an answer is worth keeping */
};

/* Counted, because the same table of the next configuration may go on with it; one thread. */
struct cache_store {
	unsigned refs;
	struct cache_common *common;
	struct cache_limits limits;
	struct siphash_key key; /* of the hashes of names */
	size_t n, bytes;        /* entries, and their memory */
	uint64_t evicted, forgotten;
	/* The most recently used first, nearly: an entry that is in the first eighth of the line for sure
	 * stays where it is, so that what is asked for often does not touch its neighbours each time. */
	TAILQ_HEAD(cache_ages, cache_entry) ages;
	uint32_t moves; /* of entries to the head of the line; may wrap around */

	/* A table that grows bucket by bucket: of `old`, those from `moved` on are still in use. */
	struct cache_entry **buckets, **old;
	size_t mask, old_mask, moved;
};

struct cache_store *cache_store_new(struct cache_common *common, const struct cache_limits *limits);
struct cache_store *cache_store_keep(struct cache_store *store);
void cache_store_release(struct cache_store *store);

static inline uint64_t cache_store_hash(const struct cache_store *store, struct str name)
{
	return siphash(&store->key, name);
}

/* What is kept under that name, be it fresh or stale; NULL: nothing that still counts. Makes it the most
 * recently used. */
struct cache_entry *cache_store_find(
	struct cache_store *store, struct str name, uint64_t hash, uint64_t now_ms);

/* Keeps the answer in place of what is there. One that would take an eighth of the room for itself is
 * not kept, nor one whose stamp has moved meanwhile. */
struct cache_place {
	struct str name, key; /* the packed question, and its bare key */
	uint64_t hash, stamp, until_ms;
	unsigned slot;
};
void cache_store_put(struct cache_store *store, const struct cache_place *place,
	const struct answer *answer, uint64_t now_ms);

/* Drops what is kept under that name. */
void cache_store_drop(struct cache_store *store, struct str name, uint64_t hash);

static inline struct str cache_entry_answer(const struct cache_entry *entry)
{
	return (struct str){entry->bytes + entry->name_len, entry->answer_len};
}

#endif
