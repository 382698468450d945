/* The second level of a cache: a Redis server that several processes share. It only ever saves time: when
 * it is down, slow or wrong, that is a miss. */
#ifndef MAPMUX_CACHE_LEVEL_H
#define MAPMUX_CACHE_LEVEL_H

#include "cache_store.h"
#include "engine/redis.h"
#include "model/table.h"
#include "model/timer.h"

struct level_options {
	struct redis_options redis;
	const char *prefix; /* of all names there: of the option and the table's */
};

/* The value of the option `cache.shared`. The error shows no part of it. */
bool level_parse(const char *url, const char *table, struct arena *mem,
	struct level_options *options, struct error *error);

struct level; /* one for each table and worker */

/* No answer is fresh longer than longest_ms; what is asked of the table ends within its timeout. */
struct level *level_new(struct table *table, const struct level_options *options,
	struct cache_common *common, int64_t longest_ms);
void level_free(struct level *level); /* no read and no mark is under way */

/* What the level says of a question. Embedded; zeroed memory is idle. */
struct level_read {
	void (*done)(struct level_read *); /* in a turn, once; within a moment */
	bool found;
	struct answer answer; /* if found: in `mem`, its ttl what is left of it */
	int64_t left_ms;      /* the same, exactly */
	bool may_fill;        /* no change is known that was just made, or is being made */

	struct level *level; /* the level's own, from here on; NULL: idle */
	const struct cache_place *place;
	struct arena *mem;
	struct redis_ask ask;
	struct redis_command commands[2];
	struct str words[5];
	struct timer slow;
};

/* False: the level is not to be asked now, nor filled with the answer. `place` and `mem` live until
 * done(). */
bool level_read_start(struct level *level, struct level_read *read, const struct cache_place *place,
	struct arena *mem, void (*done)(struct level_read *));
void level_read_cancel(struct level_read *read);

/* Puts an answer there for ttl_ms; nobody waits for it. */
void level_fill(struct level *level, const struct cache_place *place, const struct answer *answer,
	int64_t ttl_ms);

/* What a change does before it begins: the keys are marked, and nobody uses or fills what the level has
 * of them until whatever was read before it is gone. Embedded; zeroed memory is idle. */
struct level_mark {
	void (*done)(struct level_mark *); /* in a turn, once; within a moment, marked or not */

	struct level *level; /* the level's own, from here on; NULL: idle */
	const struct question *change;
	struct redis_ask ask;
	struct timer slow;
};

/* False: there is nothing to wait for. `change` and `mem` live until done(). */
bool level_mark_start(struct level *level, struct level_mark *mark, const struct question *change,
	struct arena *mem, void (*done)(struct level_mark *));
void level_mark_cancel(struct level_mark *mark);

/* Any thread: this process does not use what the level may have of the key (NULL: of any). */
void level_distrust(const struct level *level, const struct str *key);

#endif
