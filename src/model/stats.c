/* Figures of a worker: histograms, results, errors. */
#include "model/stats.h"

#include <assert.h>

const uint32_t bucket_ends_us[HISTOGRAM_BUCKETS] = {
	100,
	250,
	500,
	1000,
	2500,
	5000,
	10000,
	25000,
	50000,
	100000,
	250000,
	500000,
	1000000,
	2500000,
	5000000,
	10000000,
	30000000,
};

void histogram_add(struct histogram *histogram, uint64_t us)
{
	unsigned bucket = 0;
	while (bucket < HISTOGRAM_BUCKETS && us > bucket_ends_us[bucket])
		bucket++;
	histogram->buckets[bucket]++;
	histogram->sum_us += us;
}

void histogram_merge(struct histogram *to, const struct histogram *from)
{
	for (unsigned i = 0; i <= HISTOGRAM_BUCKETS; i++)
		to->buckets[i] += from->buckets[i];
	to->sum_us += from->sum_us;
}

uint64_t histogram_count(const struct histogram *histogram)
{
	uint64_t n = 0;
	for (unsigned i = 0; i <= HISTOGRAM_BUCKETS; i++)
		n += histogram->buckets[i];
	return n;
}

const char *result_name(unsigned result)
{
	static const char *const names[RESULT_COUNT] = {
		[ST_OK] = "ok",
		[ST_NOTFOUND] = "notfound",
		[ST_TEMP] = "temp",
		[ST_PERM] = "perm",
		[RESULT_UNCERTAIN] = "uncertain",
	};
	assert(result < RESULT_COUNT);
	return names[result];
}

void traffic_merge(struct traffic *to, const struct traffic *from)
{
	for (unsigned i = 0; i < RESULT_COUNT; i++)
		to->results[i] += from->results[i];
	histogram_merge(&to->took, &from->took);
}

void traffic_durations(const struct traffic *traffic, struct histogram *all)
{
	uint64_t n = 0;
	*all = traffic->took;
	for (unsigned i = 0; i < RESULT_COUNT; i++)
		n += traffic->results[i];
	all->buckets[0] += n - histogram_count(&traffic->took);
}

void errors_add(struct error_counts *counts, const char *protocol, const char *reason, uint64_t n)
{
	for (size_t i = 0; i < counts->n; i++) {
		struct error_count *error = &counts->errors[i];
		if (strcmp(error->reason, reason) == 0 && strcmp(error->protocol, protocol) == 0) {
			error->n += n;
			return;
		}
	}
	assert(counts->n < MAX_ERRORS);
	counts->errors[counts->n++] =
		(struct error_count){.protocol = protocol, .reason = reason, .n = n};
}
