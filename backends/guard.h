/* What a guard counts, for metrics. */
#ifndef MAPMUX_BACKENDS_GUARD_H
#define MAPMUX_BACKENDS_GUARD_H

#include <stdatomic.h>
#include <stdint.h>

#include "table.h"

/* Of one worker; written by its thread, read by any. */
struct guard_stats {
	_Atomic uint64_t refused; /* too many in flight */
	_Atomic uint64_t shunned; /* not asked, because the breaker was open */
	_Atomic uint64_t retries;
	_Atomic uint64_t opened; /* how often the breaker did */
	_Atomic bool open;       /* the breaker is, now */
};

/* NULL when the table is none of type guard. Lives as long as the table is open. */
const struct guard_stats *guard_stats(const struct table *table);

/* Questions in flight over all workers; 0 when there is no limit to count them for. */
uint64_t guard_inflight(const struct table_conf *table);

#endif
