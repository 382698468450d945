/* One request for all workers: those who fly for the same answer meet here. */
#ifndef MAPMUX_CACHE_MEET_H
#define MAPMUX_CACHE_MEET_H

#include "cache_store.h"
#include "engine/worker.h"

struct cache;

/* Where a worker's cache is told; counted, because a letter may outlive the cache. */
struct meet_door {
	_Atomic unsigned refs;
	struct worker *worker;
	struct cache *cache; /* NULL: closed; touched by the worker's thread alone */
};

struct meet_door *meet_door_new(struct worker *worker, struct cache *cache);
void meet_door_close(struct meet_door *door);

/* What the one who asked says to those who waited for him. */
struct meet_news {
	bool lost;      /* he has given up: ask yourself */
	bool alone;     /* to one who leads: nobody follows him any more */
	bool in_vain;   /* with it: the last one's time was over */
	bool timed_out; /* the answer is TEMP because the source had no time left */
	bool found;     /* in the second level, where it lives left_ms longer */
	int64_t left_ms;
	struct answer answer;
};

/* Embedded in a flight; zeroed memory is idle. */
struct meet {
	const struct cache_place *place; /* the flight's */
	struct cache_common *common;
	struct meet_door *door;
	uint64_t digest; /* of the table: another configuration's may ask elsewhere */
	uint64_t id;     /* by which the worker finds the flight again */

	enum { MEET_IDLE, MEET_LEADS, MEET_FOLLOWS } role; /* from here on: under the lock */
	struct meet *leader;                               /* of one who follows */
	LIST_ENTRY(meet) link; /* of those who lead, or of those who follow one */
	LIST_HEAD(, meet) followers;
};

/* True: this one leads, and will say how it ends. False: another leads already, whose news will come to
 * cache_told(). What stands above `role` is set. */
bool meet_begin(struct meet *meet);

bool meet_is_followed(struct meet *meet);

/* At any time. The news of one who led go to those who followed; when the last of these leaves, the leader is
 * told. */
void meet_end(struct meet *meet, const struct meet_news *news);

/* cache_flight.c: the news for a flight, which may be gone; in a turn. */
void cache_told(struct cache *cache, uint64_t hash, uint64_t id, const struct meet_news *news);

#endif
