/* What the workers share of one cached table: who has forgotten what, and who asks for what. */
#ifndef MAPMUX_CACHE_COMMON_H
#define MAPMUX_CACHE_COMMON_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "base/siphash.h"

/* Keys fall into so many slots; a further one is for all iterations. A change of one key makes the cache
 * forget all keys of its slot. */
enum { CACHE_SLOTS = 1024, CACHE_ITERATIONS = CACHE_SLOTS };

/* Questions that a worker asks of the source are found by hash; so many chains. */
enum { MEET_CHAINS = 256 };

LIST_HEAD(meet_chain, meet);

/* Counted: after a reload the table of that name goes on with it, whatever else has become of it, because
 * changes and reads of before may still be under way. Every function may be called by any thread.
 *
 * A stamp only grows. What is asked of the source carries the stamp of its slot from before it was asked,
 * and what is kept carries it on: it counts only while the stamp has not moved. So a change needs to tell
 * nobody: it moves the stamp before it begins and when it has ended, and no worker can answer with what
 * was before, nor can a read that was under way put it back. */
struct cache_common {
	_Atomic unsigned refs, nstores;

	struct siphash_key key; /* of the hashes of names */
	_Atomic uint64_t all;   /* the stamp of the table: moved by cache_common_forget_all() */
	_Atomic uint64_t stamps[CACHE_SLOTS + 1];
	/* ms: until then another process may know of a slot what was before a change (cache_level.c) */
	_Atomic uint64_t distrusted[CACHE_SLOTS + 1];

	pthread_mutex_t lock; /* of what follows: cache_meet.c's */
	struct meet_chain leaders[MEET_CHAINS];
};

struct cache_common *cache_common_new(void);
struct cache_common *cache_common_keep(struct cache_common *common);
void cache_common_release(struct cache_common *common);

/* By the bare key, for all users and scopes. */
unsigned cache_slot(struct str key);

/* What is kept of this key, and every iteration, counts no more. */
void cache_common_forget(struct cache_common *common, struct str key);
void cache_common_forget_all(struct cache_common *common);

/* The sum of both stamps: as each only grows, it stays the same just when both do. */
static inline uint64_t cache_stamp(const struct cache_common *common, unsigned slot)
{
	return atomic_load_explicit(&common->stamps[slot], memory_order_acquire) +
	       atomic_load_explicit(&common->all, memory_order_acquire);
}

#endif
