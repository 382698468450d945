/* What a guard counts: table_stats.counters of a table of type guard. */
#ifndef MAPMUX_BACKENDS_GUARD_H
#define MAPMUX_BACKENDS_GUARD_H

#include "model/table.h"

enum guard_counter {
	GUARD_REFUSED, /* too many were in flight */
	GUARD_SHUNNED, /* not asked, because the breaker was open */
	GUARD_RETRIES,
	GUARD_OPENED, /* how often the breaker did */
	GUARD_OPEN,   /* 1: the breaker is open now */
};

/* Questions in flight over all workers; counted only where max_inflight limits them. Any thread. */
uint64_t guard_inflight(const struct table_conf *table);

#endif
