/* SipHash-1-3: one round a word and three at the end. */
#include "base/siphash.h"

#include <sys/random.h>

struct siphash_key siphash_key_new(void)
{
	struct siphash_key key;
	if (getrandom(&key, sizeof(key), GRND_NONBLOCK) == (ssize_t)sizeof(key))
		return key;
	/* Early at boot: addresses have to do. */
	return (struct siphash_key){(uintptr_t)&key, (uintptr_t)siphash};
}

struct sip {
	uint64_t v0, v1, v2, v3;
};

static inline uint64_t turned(uint64_t x, unsigned bits)
{
	return x << bits | x >> (64 - bits);
}

static inline void sip_round(struct sip *s)
{
	s->v0 += s->v1;
	s->v2 += s->v3;
	s->v1 = turned(s->v1, 13) ^ s->v0;
	s->v3 = turned(s->v3, 16) ^ s->v2;
	s->v0 = turned(s->v0, 32);
	s->v2 += s->v1;
	s->v0 += s->v3;
	s->v1 = turned(s->v1, 17) ^ s->v2;
	s->v3 = turned(s->v3, 21) ^ s->v0;
	s->v2 = turned(s->v2, 32);
}

static inline void sip_word(struct sip *s, uint64_t word)
{
	s->v3 ^= word;
	sip_round(s);
	s->v0 ^= word;
}

/* The bytes of a word in the order of the machine, but for the last: hashes that leave the process are
 * compared between machines of one kind only. */
uint64_t siphash(const struct siphash_key *key, struct str text)
{
	struct sip s = {key->a ^ 0x736f6d6570736575u, key->b ^ 0x646f72616e646f6du,
		key->a ^ 0x6c7967656e657261u, key->b ^ 0x7465646279746573u};
	uint64_t word, last = (uint64_t)text.len << 56;
	size_t at = 0;
	for (; text.len - at >= sizeof(word); at += sizeof(word)) {
		memcpy(&word, text.ptr + at, sizeof(word));
		sip_word(&s, word);
	}
	for (unsigned shift = 0; at < text.len; at++, shift += 8)
		last |= (uint64_t)(unsigned char)text.ptr[at] << shift;
	sip_word(&s, last);
	s.v2 ^= 0xFF;
	sip_round(&s);
	sip_round(&s);
	sip_round(&s);
	return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}
