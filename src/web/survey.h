/* The figures of all workers, added up. A survey is a letter that goes from worker to worker and comes
 * home: each adds its own, so that nobody ever looks into another's memory, and nobody waits. */
#ifndef MAPMUX_SURVEY_H
#define MAPMUX_SURVEY_H

#include "engine/crew.h"
#include "model/stats.h"

/* A table, or a layer of one: by table_conf.index, as in the configuration. */
struct table_sum {
	const struct table_conf *conf;
	struct traffic *traffic[MAX_PROTOCOLS]; /* by codec_index(); NULL: nobody asked */
	uint64_t results[ST_COUNT];             /* whoever asked */
	uint64_t counters[MAX_COUNTERS];
	struct histogram took;
	uint64_t inflight;
	unsigned failures; /* ST_TEMP in a row, of the worker that saw most of them lately */
};

struct listener_sum {
	const char *protocol, *address;
	uint64_t open;
	STAILQ_ENTRY(listener_sum) link;
};

struct survey {
	struct letter letter;
	struct crew *crew;
	struct worker *home;
	size_t next;           /* worker to be visited */
	struct table_set *set; /* the home worker's, which is kept */
	struct arena mem;
	size_t ntables;
	struct table_sum *tables;
	STAILQ_HEAD(, listener_sum) listeners;
	struct error_counts errors;

	void (*done)(struct survey *); /* NULL: nobody wants to know any more */
	void *arg;
};

enum {
	FAILING_AFTER = 5,      /* ST_TEMP in a row */
	FAILING_FOR_MS = 60000, /* so long after the last one */
};

/* On the home worker's thread, in a turn: sets out. `done` is called there, in a turn, and the survey
 * is gone when it returns. */
struct survey *survey_start(
	struct crew *crew, struct worker *home, void (*done)(struct survey *), void *arg);

/* On the home worker's thread, before done(): it is not called. */
void survey_forget(struct survey *survey);

/* How long all answers of this layer took, whoever asked. */
void table_sum_durations(const struct table_sum *sum, struct histogram *all);

/* Has the table failed again and again, or is its breaker open? */
bool survey_fails(const struct survey *survey, const struct table_conf *table);

/* Is the table's breaker open in any worker? */
bool survey_breaker_open(const struct survey *survey, const struct table_conf *table);

#endif
