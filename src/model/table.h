/* Backends, the tables configured with them, and the same tables as one worker lives them. */
#ifndef MAPMUX_TABLE_H
#define MAPMUX_TABLE_H

#include <stdatomic.h>

#include "base/log.h"
#include "model/question.h"
#include "model/setting.h"
#include "model/stats.h"
#include "model/turn.h"

struct query;
struct table;
struct worker;

#define CAN(op) (1u << (op))

struct table_conf;

struct table_list {
	const struct table_conf **tables;
	size_t n;
};

/* const, one for each type; absent functions are NULL. */
struct backend {
	const char *name;
	const char *help;     /* one line for `mapmux help` */
	unsigned ops;         /* CAN(OP_LOOKUP) | ... */
	bool can_expire;      /* honours question.expire_secs */
	bool asks_tables;     /* and nobody else: they share requests themselves */
	bool has_effects;     /* side_effects, whatever the option says */
	bool copies_question; /* needs it no longer than start() runs */
	bool asks_nobody;     /* though it can be cancelled: nothing to spare, nothing to share */
	bool can_break;       /* its answers may be `broken`: it asks somebody itself */
	const struct setting *settings; /* the one named "param" is the type's main one */
	size_t conf_size;

	/* Of a composite, which stands around a table of any type by options that every table takes
	 * (`settings`): do they want one around `inner`? NULL: a type of table of its own. */
	bool (*wanted)(const struct table_conf *inner, const void *conf);

	/* Once, by the loader: rules between settings, what can be prepared for all workers. May narrow
	 * table->ops. May read files. */
	bool (*check)(struct table_conf *table, struct error *error);
	void (*drop)(struct table_conf *table);

	/* On the control thread, while a reload prepares: `before` is the table of the same name and type
	 * that workers still use, and may go on to use. What it holds may be shared, not taken. */
	void (*inherit)(struct table_conf *now, const struct table_conf *before);

	/* Each second on the control thread: look for changed files and such. May block. */
	void (*refresh)(struct table_conf *table);

	/* In each worker, on its thread. */
	bool (*open)(struct table *table, struct error *error);
	void (*close)(struct table *table);

	void (*start)(struct query *query);  /* leads to one query_finish(), now or later */
	void (*cancel)(struct query *query); /* lets go of it; NULL: start() always finishes */

	/* Would start() answer TEMP at once, without asking anybody? If so, that is the end of `query`, which
	 * a composite around it has been asked; NULL: it only says. A backend without it never would. */
	bool (*refuse)(struct table *table, struct query *query);

	/* Does it know the answer without asking anybody? If so, that is the end of `query`, which a
	 * composite around it has been asked. A backend without it never does. */
	bool (*recall)(struct table *table, struct query *query);

	/* Any thread: what it keeps of that key (NULL: of all) is not to be used again, by any worker. */
	void (*forget)(const struct table *table, const struct str *key);

	const char *const *counters; /* names of table_stats.counters; NULL ends them */
	unsigned gauges; /* bits of those that say how it is now, not how often it was */
	/* Any thread: a gauge of what all workers share; NULL: it is the sum of theirs. */
	uint64_t (*measure)(const struct table_conf *table, unsigned gauge);
	unsigned alarms; /* bits of gauges: not 0 is a breaker that is open */
};

/* Every backend, in the order `mapmux help` shows them; NULL ends it. Defined in backends/list.c. */
extern const struct backend *const backends[];

/* Every composite, the innermost first; NULL ends it. Defined in backends/composites.c. */
extern const struct backend *const composites[];
enum { MAX_COMPOSITES = 4 };

enum empty_rule { EMPTY_AUTO, EMPTY_NOTFOUND, EMPTY_OK };

/* What every table can be told. */
struct table_options {
	int64_t timeout; /* ms, the whole request */
	int empty; /* enum empty_rule: what an empty value means; AUTO: not found for FORM_TEXT */
	const char *list_separator;
	const char *value; /* JSON pointer (RFC 6901) into the answer; "" is all of it */
	bool side_effects; /* asking changes something: each question is asked once, and by itself */
};

extern const struct setting table_settings[]; /* for struct table_options */

/* A configured table: shared by the workers, const after loading. */
struct table_conf {
	const char *name;
	const struct backend *backend;
	unsigned ops;   /* backend->ops, perhaps narrowed by check() */
	unsigned index; /* in dependency order: what it uses stands before it */
	struct table_options options;
	void *conf;        /* backend->conf_size bytes, filled from the settings */
	void *shared;      /* the backend's: what check() prepared for all workers */
	const char *where; /* FILE:LINE or "command line", for messages */
	uint64_t digest;   /* digest.h; check() adds what it read beyond the settings */

	/* A table with composites is several of one name, stacked: what clients and other tables see
	 * is the outermost. */
	struct table_conf *inner; /* of a composite: the one it stands around; else NULL */
	bool hidden;              /* a composite stands around it */
	const char *delimiters;   /* begin an extension that makes nobody else of a user; or NULL */
	bool wants_ttl; /* a composite around it keeps answers as long as the source says */
	void *composite_confs[MAX_COMPOSITES]; /* the settings of all, by composites[] */
};

/* The one that composites stand around; itself, if there are none. */
static inline const struct table_conf *table_core(const struct table_conf *table)
{
	while (table->inner)
		table = table->inner;
	return table;
}

enum { MAX_COUNTERS = 10 };

/* This worker's counters of a table; written by its thread, read by any. */
struct table_stats {
	_Atomic uint64_t results[ST_COUNT];
	_Atomic uint64_t counters[MAX_COUNTERS]; /* the backend's own */
};

/* The same table as one worker lives it: private to its thread. */
struct table {
	const struct table_conf *conf;
	struct worker *worker;
	struct turn *turn;
	struct table_set *set; /* where the tables it uses are found */
	const struct table
		*before; /* during open(): the same table, of the same digest, in the set that
				      * this one replaces; or NULL */
	void *state;     /* the backend's */
	TAILQ_HEAD(, query) running; /* query.c's: the longest first */
	struct table_stats stats;
	struct traffic *traffic[MAX_PROTOCOLS]; /* by codec_index(); NULL: it never asked */
	struct histogram took;                  /* answers to anybody that did not come at once */
	unsigned inflight;                      /* how many run */
	unsigned failures;                      /* ST_TEMP in a row, ... */
	uint64_t failed_ms;                     /* the last one then; 0: never */
	struct log_limit complaints;            /* one log line a second for failed questions */
};

/* All tables of one worker, of one configuration. Queries that are not idle use it, and who may still
 * ask: worker, connections. After a reload it goes when they have. */
struct table_set {
	size_t n;
	struct table *tables;   /* by table_conf.index */
	struct table **by_name; /* sorted, without those that are hidden */
	size_t nnames;
	unsigned users;
	void (*unused)(
		struct table_set *); /* the last user has left; it is not closed yet. Or NULL */
};

/* Opens each table in dependency order; on failure those opened are closed again. `before` is the set
 * that it is to replace, or NULL. */
bool table_set_open(struct table_set *set, const struct table_conf *confs, size_t n,
	struct worker *worker, struct turn *turn, const struct table_set *before,
	struct error *error);
void table_set_close(struct table_set *set);

static inline void table_set_keep(struct table_set *set)
{
	set->users++;
}

static inline void table_set_leave(struct table_set *set)
{
	if (--set->users == 0 && set->unused)
		set->unused(set);
}

/* Moves the counters of `from` to the tables of the same name and type; gauges stay. */
void table_set_take_stats(struct table_set *to, struct table_set *from);

/* The table of the same name and type in another set, or NULL. */
struct table *table_set_find_same(const struct table_set *set, const struct table_conf *conf);

/* NULL when there is none of that name. */
struct table *table_set_find(const struct table_set *set, struct str name);

/* The worker's own of a configured table. */
static inline struct table *table_of(const struct table *user, const struct table_conf *conf)
{
	return &user->set->tables[conf->index];
}

/* Of a composite: the worker's own of the table it stands around. */
static inline struct table *table_inner(const struct table *composite)
{
	return table_of(composite, composite->conf->inner);
}

/* Any thread: the table and those it stands around forget what they keep of that key (NULL: of all). */
void table_forget(const struct table *table, const struct str *key);

/* Its own thread: where questions of that protocol are counted. */
static inline struct traffic *table_traffic(struct table *table, unsigned protocol)
{
	if (!table->traffic[protocol])
		table->traffic[protocol] = memory_new(sizeof(struct traffic));
	return table->traffic[protocol];
}

/* Its own thread: sets or adds to one of the backend's counters. */
static inline void table_set_counter(struct table *table, unsigned which, uint64_t n)
{
	atomic_store_explicit(&table->stats.counters[which], n, memory_order_relaxed);
}

static inline void table_count(struct table *table, unsigned which)
{
	table_set_counter(table, which,
		atomic_load_explicit(&table->stats.counters[which], memory_order_relaxed) + 1);
}

/* Any thread: `counters` are the sums of all workers'; what they share is as it is now. */
void table_measure(const struct table_conf *table, uint64_t *counters);

/* NULL when there is none of that name. */
const struct backend *backend_find(struct str name);

#endif
