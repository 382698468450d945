/* A keyed hash: whoever does not know the key cannot choose texts that collide (SipHash-1-3). For hash tables
 * whose names clients choose. */
#ifndef MAPMUX_SIPHASH_H
#define MAPMUX_SIPHASH_H

#include "base/str.h"

struct siphash_key {
	uint64_t a, b;
};

/* One that nobody knows. */
struct siphash_key siphash_key_new(void);

uint64_t siphash(const struct siphash_key *key, struct str text);

#endif
