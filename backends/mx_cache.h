/* What is known of mail domains: ours or not, for as long as DNS lets it be kept. */
#ifndef MAPMUX_MX_CACHE_H
#define MAPMUX_MX_CACHE_H

#include "base/str.h"

struct mx_cache;

/* So many domains; of more, those asked for longest ago go. One thread. */
struct mx_cache *mx_cache_new(size_t max);
void mx_cache_free(struct mx_cache *cache);
size_t mx_cache_count(const struct mx_cache *cache);

/* False when nothing (fresh) is known; *ttl are the seconds left, at least one. */
bool mx_cache_find(
	struct mx_cache *cache, struct str domain, uint64_t now_ms, bool *ours, unsigned *ttl);

/* Instead of what was known; a ttl of 0 and a domain that is too long for DNS are not kept. */
void mx_cache_put(
	struct mx_cache *cache, struct str domain, bool ours, unsigned ttl, uint64_t now_ms);

#endif
