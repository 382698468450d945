/* What the parts of the ratelimit table share. Private to ratelimit*.c. */
#ifndef MAPMUX_BACKENDS_RATELIMIT_H
#define MAPMUX_BACKENDS_RATELIMIT_H

#include "engine/redis.h"
#include "model/query.h"
#include "model/table.h"
#include "model/timer.h"
#include "model/windows.h"

struct ratelimit_conf {
	const char *param, *recipient_delimiter, *on_exceed, *on_error, *store, *password,
		*key_prefix;
	struct setting_list identity, states;
	struct table_list tables; /* param, if it names one */
	int weight;
	bool count_rejected;
	int64_t max_identities;
};

enum ratelimit_counter {
	RATELIMIT_ALLOWED,
	RATELIMIT_EXCEEDED,
	RATELIMIT_ERRORS,     /* answered by on_error */
	RATELIMIT_IDENTITIES, /* now, in memory: of all workers */
};

/* table_conf.shared */
struct ratelimit_shared {
	struct arena mem;
	struct window_rules rules; /* of everybody; none where a table has them */
	struct windows *windows;   /* NULL: in Redis */
	struct redis_options redis;
	const char *where; /* Redis, for people */
};

/* One question; lives in its asker's arena. */
struct count {
	struct query *parent;
	struct query child; /* to the table that has the limits */
	struct question child_ask;
	struct timer late; /* the child's time is over */
	struct redis_ask redis;
	struct redis_command command;
	struct str words[8 + 2 * WINDOW_LIMITS];
	void (*done)(struct count *);

	struct str identity;
	struct window_rules rules;
	uint64_t n; /* to be counted; 0: only to be looked at */

	int passed; /* number of the limit; -1: none */
	struct window_use uses[WINDOW_LIMITS];
	struct str failed; /* why there is no verdict; empty: there is one */
};

/* ratelimit_redis.c. The URL becomes one without its password. */
bool ratelimit_redis_check(struct table_conf *table, struct error *error);

/* Counts or looks, as windows_count() and windows_look(); leads to done(). In a turn. */
void ratelimit_redis_count(struct count *count, void (*done)(struct count *));

/* Forgets the identity. */
void ratelimit_redis_reset(struct count *count, void (*done)(struct count *));

#endif
