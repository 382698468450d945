/* What is known of mail domains: ours or not, for as long as DNS lets it be kept. */
#include "mx_cache.h"

#include <stdlib.h>
#include <sys/queue.h>

#include "base/arena.h"
#include "base/siphash.h"

enum { MAX_DOMAIN = 253, BUCKETS_MAX = 1 << 20 };

struct entry {
	SLIST_ENTRY(entry) chain;
	TAILQ_ENTRY(entry) age;
	uint64_t until_ms;
	uint32_t hash;
	bool ours;
	unsigned char len;
	char domain[];
};

SLIST_HEAD(bucket, entry);

struct mx_cache {
	size_t n, max, mask;
	struct siphash_key key;
	struct bucket *buckets;
	TAILQ_HEAD(ages, entry) ages; /* the one asked for last comes first */
};

struct mx_cache *mx_cache_new(size_t max)
{
	struct mx_cache *cache = memory_new(sizeof(*cache));
	size_t nbuckets = 16;
	while (nbuckets < max && nbuckets < BUCKETS_MAX)
		nbuckets *= 2;
	cache->max = max;
	cache->mask = nbuckets - 1;
	cache->buckets = memory_new(nbuckets * sizeof(*cache->buckets));
	TAILQ_INIT(&cache->ages);
	cache->key = siphash_key_new();
	return cache;
}

static uint32_t hash_of(const struct mx_cache *cache, struct str domain)
{
	return (uint32_t)siphash(&cache->key, domain);
}

static void remove_entry(struct mx_cache *cache, struct entry *entry)
{
	SLIST_REMOVE(&cache->buckets[entry->hash & cache->mask], entry, entry, chain);
	TAILQ_REMOVE(&cache->ages, entry, age);
	cache->n--;
	free(entry);
}

void mx_cache_free(struct mx_cache *cache)
{
	struct entry *entry;
	while ((entry = TAILQ_FIRST(&cache->ages)))
		remove_entry(cache, entry);
	free(cache->buckets);
	free(cache);
}

size_t mx_cache_count(const struct mx_cache *cache)
{
	return cache->n;
}

static struct entry *find(struct mx_cache *cache, struct str domain, uint32_t hash)
{
	struct entry *entry;
	SLIST_FOREACH (entry, &cache->buckets[hash & cache->mask], chain)
		if (entry->hash == hash && str_eq((struct str){entry->domain, entry->len}, domain))
			break;
	return entry;
}

bool mx_cache_find(
	struct mx_cache *cache, struct str domain, uint64_t now_ms, bool *ours, unsigned *ttl)
{
	struct entry *entry = find(cache, domain, hash_of(cache, domain));
	if (!entry)
		return false;
	if (entry->until_ms <= now_ms) {
		remove_entry(cache, entry);
		return false;
	}
	if (entry != TAILQ_FIRST(&cache->ages)) {
		TAILQ_REMOVE(&cache->ages, entry, age);
		TAILQ_INSERT_HEAD(&cache->ages, entry, age);
	}
	*ours = entry->ours;
	*ttl = (unsigned)((entry->until_ms - now_ms + 999) / 1000);
	return true;
}

void mx_cache_put(
	struct mx_cache *cache, struct str domain, bool ours, unsigned ttl, uint64_t now_ms)
{
	uint32_t hash = hash_of(cache, domain);
	struct entry *entry = find(cache, domain, hash);
	if (entry)
		remove_entry(cache, entry);
	if (cache->max == 0 || ttl == 0 || domain.len > MAX_DOMAIN)
		return;
	if (cache->n == cache->max)
		remove_entry(cache, TAILQ_LAST(&cache->ages, ages));
	entry = memory_new(sizeof(*entry) + domain.len);
	entry->until_ms = now_ms + (uint64_t)ttl * 1000;
	entry->hash = hash;
	entry->ours = ours;
	entry->len = (unsigned char)domain.len;
	if (domain.len > 0)
		memcpy(entry->domain, domain.ptr, domain.len);
	SLIST_INSERT_HEAD(&cache->buckets[hash & cache->mask], entry, chain);
	TAILQ_INSERT_HEAD(&cache->ages, entry, age);
	cache->n++;
}
