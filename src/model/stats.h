/* What a worker did, in figures for /metrics: how long answers took, how many there were of each result,
 * what clients sent that made no sense, who is connected. Its thread alone touches them; survey.h
 * gathers those of all workers. */
#ifndef MAPMUX_STATS_H
#define MAPMUX_STATS_H

#include <stdatomic.h>
#include <sys/queue.h>

#include "model/question.h"

enum { HISTOGRAM_BUCKETS = 17 }; /* with an end; one more is open */

/* The last microsecond of each bucket: 100 us to 30 s. */
extern const uint32_t bucket_ends_us[HISTOGRAM_BUCKETS];

/* Of its own thread alone, which need not lock for it; others may read. */
static inline void stats_count(_Atomic uint64_t *counter)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1,
		memory_order_relaxed);
}

/* Zeroed memory is empty. Each answer is in one bucket; who prints them adds them up. */
struct histogram {
	uint64_t buckets[HISTOGRAM_BUCKETS + 1];
	uint64_t sum_us;
};

void histogram_add(struct histogram *histogram, uint64_t us);
void histogram_merge(struct histogram *to, const struct histogram *from);
uint64_t histogram_count(const struct histogram *histogram);

/* The results of a question: its status, or that a change may have happened. */
enum { RESULT_UNCERTAIN = ST_COUNT, RESULT_COUNT };

/* As a label: "ok", "notfound", ... */
const char *result_name(unsigned result);

static inline unsigned result_of(const struct answer *answer)
{
	return answer->uncertain && answer->status != ST_OK ? (unsigned)RESULT_UNCERTAIN
							    : (unsigned)answer->status;
}

/* Questions of one protocol to one table. */
struct traffic {
	uint64_t results[RESULT_COUNT];
	struct histogram took; /* of the answers that did not come at once */
};

void traffic_merge(struct traffic *to, const struct traffic *from);

/* How long they all took. An answer that came at once took no time that is worth a look at the
 * clock. */
void traffic_durations(const struct traffic *traffic, struct histogram *all);

enum {
	MAX_PROTOCOLS = 8,
	MAX_ERRORS = 64, /* each a word in the source of a codec */
};

/* One kind of error of a protocol; both words are literals. */
struct error_count {
	const char *protocol, *reason;
	uint64_t n;
};

struct error_counts {
	struct error_count errors[MAX_ERRORS];
	size_t n;
};

void errors_add(struct error_counts *counts, const char *protocol, const char *reason, uint64_t n);

/* A listener's connections in this worker. */
struct listener_stats {
	const char *protocol, *address;
	const _Atomic unsigned *open;
	LIST_ENTRY(listener_stats) link;
};

/* A worker's, besides those of its tables. Zeroed memory is ready. */
struct stats {
	struct error_counts errors;
	LIST_HEAD(, listener_stats) listeners;
};

#endif
