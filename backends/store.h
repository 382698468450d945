/* Names and values in order, with expiry and a bound; transactions that happen whole or not at all.
 * One user at a time: the caller locks. */
#ifndef MAPMUX_STORE_H
#define MAPMUX_STORE_H

#include "model/question.h"

enum { STORE_HEIGHT = 12 }; /* with a quarter going on to each level: 16 million items */

/* A name and its value, in one piece of memory. */
struct item {
	uint64_t expires; /* ms; 0: never */
	size_t heap_at;   /* its place in store.heap, if it expires */
	uint32_t name_len, value_len;
	unsigned height;     /* how many of `next` there are */
	struct item *next[]; /* by level; name and value follow */
};

/* A skip list by name, and a heap by expiry. */
struct store {
	size_t used;           /* bytes, with what an item itself takes */
	_Atomic uint64_t dice; /* for heights; the one member that needs no lock */
	struct item *first[STORE_HEIGHT];
	struct item **heap; /* those that expire, the soonest first */
	size_t nheap, heap_room;
};

void store_init(struct store *store);
void store_clear(struct store *store);

/* Frees items whose time is over, at most `chores` of them. */
void store_expire(struct store *store, uint64_t now, size_t chores);

/* NULL when there is none, or its time is over. */
const struct item *store_find(const struct store *store, struct str name, uint64_t now);

/* The first item, dead or alive, whose name does not stand before `name`. */
const struct item *store_seek(const struct store *store, struct str name);

static inline const struct item *item_next(const struct item *item)
{
	return item->next[0];
}

static inline bool item_lives(const struct item *item, uint64_t now)
{
	return item->expires == 0 || item->expires > now;
}

static inline struct str item_name(const struct item *item)
{
	return (struct str){(const char *)(item->next + item->height), item->name_len};
}

static inline struct str item_value(const struct item *item)
{
	return (struct str){item_name(item).ptr + item->name_len, item->value_len};
}

/* One change of a transaction. */
struct step {
	const struct change *change;
	struct str name;        /* the store's name of the change's key */
	struct item *old, *now; /* what stood there, what stands there now */
	bool done;
};

/* A transaction. The caller fills what comes first, then prepares (without the lock), applies (under
 * it) and frees (without it), so that memory is mostly handled outside. */
struct commit {
	uint64_t now, expires; /* ms; expires 0: for ever */
	size_t max;            /* bytes that the store may hold; it may hold more already */
	struct step *steps;
	size_t n;

	const char *why; /* when it was refused: for people */
	bool applied;
};

void commit_prepare(struct commit *commit, struct store *store);

/* ST_OK; else nothing has changed: ST_NOTFOUND (increment of a missing key), ST_PERM (increment of
 * what is no number, or past 64 bits), ST_TEMP (full). */
enum status commit_apply(struct commit *commit, struct store *store);

void commit_free(struct commit *commit);

#endif
