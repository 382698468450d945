/* What the parts of the cache share. Private to cache*.c. */
#ifndef MAPMUX_BACKENDS_CACHE_H
#define MAPMUX_BACKENDS_CACHE_H

#include "cache_level.h"
#include "cache_meet.h"
#include "cache_store.h"
#include "model/query.h"
#include "model/table.h"
#include "model/timer.h"

struct cache_conf {
	const char *ttl_text, *shared;
	int64_t negative_ttl, stale, stale_timeout, max_ttl, max_entries, max_bytes;
	struct setting_list vary_list;

	/* What check() makes of it. */
	bool by_source;  /* ttl: source */
	bool keeps;      /* anything at all; else equal questions only share their answer */
	bool policy;     /* vary says on what the answer to a policy question depends */
	int64_t ttl;     /* ms; 0: none */
	int64_t longest; /* ms: no answer is kept longer, fresh */
	struct vary vary;
};

/* table_conf.shared */
struct cache_prepared {
	struct arena mem;
	struct level_options *level; /* NULL: there is none */
	struct cache_common *common;
};

enum cache_counter {
	CACHE_HIT,
	CACHE_MISS,
	CACHE_STALE,  /* answered by what was expired */
	CACHE_JOINED, /* shared the request of an equal question */
	CACHE_FORGOTTEN,
	CACHE_EVICTED,
	CACHE_ENTRIES, /* now */
	CACHE_BYTES,   /* now */
};

/* Questions under way are found by hash; so many chains. */
enum { FLIGHT_CHAINS = 1024 };

LIST_HEAD(flight_chain, flight);

/* A table in a worker: table.state. */
struct cache {
	struct table *table;
	const struct cache_conf *conf;
	struct cache_store *store;
	struct level *level;       /* NULL: there is none */
	struct meet_door *door;    /* NULL: there are no other workers */
	uint64_t last_id;          /* of a flight */
	struct buf name;           /* to pack questions in */
	uint64_t trouble_until_ms; /* the source failed or was slow a moment ago */
	unsigned nflights;         /* under way, ... */
	unsigned nbehind;          /* and among them those that nobody waits for */
	struct flight_chain flights[FLIGHT_CHAINS];
};

/* What hangs on query->work. */
struct cache_work {
	void (*leave)(struct cache_work *);
};

/* A question that waits for a flight; lives in its asker's arena. */
struct waiter {
	struct cache_work work;
	struct query *query;
	struct flight *flight;
	TAILQ_ENTRY(waiter) link;
	bool has_stale;
	struct answer stale; /* what it gets when the source fails or takes its time */
	uint64_t stale_stamp;
	struct timer slow;
};

/* One request to the source, for all who ask the same. It owns its memory and its copy of the question;
 * its time is the table's timeout from its own start. */
struct flight {
	struct query child;
	struct cache *cache;
	struct question ask;
	struct cache_place place;
	struct meet meet;       /* with the flights of other workers */
	struct level_read read; /* comes before the child, where there is a second level */
	uint64_t began_ms;
	TAILQ_HEAD(, waiter) waiters;
	bool over;   /* answered: nobody joins it */
	bool behind; /* goes on when nobody waits for it: refreshes what is stale */
	LIST_ENTRY(flight) link;
	struct arena mem;
	_Alignas(16) char first[1024]; /* of mem */
};

/* cache_conf.c */
extern const struct setting cache_settings[];
bool cache_wanted(const struct table_conf *inner, const void *conf);
bool cache_check(struct table_conf *table, struct error *error);
void cache_drop(struct table_conf *table);
void cache_inherit(struct table_conf *now, const struct table_conf *before);

/* So long the answer may be kept, in ms; 0: not at all. */
int64_t cache_lifetime(const struct cache_conf *conf, const struct answer *answer);

/* cache_flight.c. An answer that is expired may stand in for the source's: NULL when there is none. */
void flight_wait(struct cache *cache, struct query *query, const struct cache_place *place,
	const struct cache_entry *stale);
void flight_close_all(struct cache *cache);

/* cache.c */
/* backend.refuse of the table inside. */
bool cache_refuse(const struct cache *cache, struct query *query);
void cache_publish(struct cache *cache); /* the store's figures as counters */

static inline uint64_t cache_now(const struct cache *cache)
{
	return cache->table->turn->now_ms;
}

/* ms as whole seconds, at least one. */
static inline unsigned cache_seconds(int64_t ms)
{
	return ms > 1000 ? (unsigned)((ms + 999) / 1000) : 1;
}

#endif
