/* What the workers share of one cached table: who has forgotten what. */
#include "cache_common.h"

#include <stdlib.h>

#include "base/arena.h"

struct cache_common *cache_common_new(void)
{
	struct cache_common *common = memory_new(sizeof(*common));
	common->refs = 1;
	pthread_mutex_init(&common->lock, NULL);
	common->key = siphash_key_new();
	return common;
}

struct cache_common *cache_common_keep(struct cache_common *common)
{
	atomic_fetch_add(&common->refs, 1);
	return common;
}

void cache_common_release(struct cache_common *common)
{
	if (atomic_fetch_sub(&common->refs, 1) > 1)
		return;
	pthread_mutex_destroy(&common->lock);
	free(common);
}

unsigned cache_slot(struct str key)
{
	uint32_t hash = str_hash(key);
	return (hash ^ hash >> 16) % CACHE_SLOTS;
}

void cache_common_forget(struct cache_common *common, struct str key)
{
	atomic_fetch_add(&common->stamps[cache_slot(key)], 1);
	atomic_fetch_add(&common->stamps[CACHE_ITERATIONS], 1);
}

void cache_common_forget_all(struct cache_common *common)
{
	atomic_fetch_add(&common->all, 1);
}
