/* A table for tests that answers late: when the test says so, or never. */
#ifndef TESTS_LATE_H
#define TESTS_LATE_H

#include "tables.h"

/* What the table knows of a question; lives in its asker's arena. */
struct wait {
	struct query *query;
	TAILQ_ENTRY(wait) link;
};

/* table.state */
struct late {
	TAILQ_HEAD(, wait) waiting;
	unsigned started, cancelled;
};

static inline struct late *late_of(struct stand *stand, const char *name)
{
	return stand_table(stand, name)->state;
}

static inline bool late_open(struct table *table, struct error *error)
{
	(void)error;
	struct late *late = memory_new(sizeof(*late));
	TAILQ_INIT(&late->waiting);
	table->state = late;
	return true;
}

static inline void late_close(struct table *table)
{
	assert_true(TAILQ_EMPTY(&((struct late *)table->state)->waiting));
	free(table->state);
}

static inline void late_start(struct query *query)
{
	struct late *late = query->table->state;
	struct wait *wait = arena_alloc(query->mem, sizeof(*wait));
	wait->query = query;
	query->work = wait;
	late->started++;
	TAILQ_INSERT_TAIL(&late->waiting, wait, link);
}

static inline void late_cancel(struct query *query)
{
	struct late *late = query->table->state;
	late->cancelled++;
	TAILQ_REMOVE(&late->waiting, (struct wait *)query->work, link);
}

/* The question that has waited longest, for the test to finish; NULL: none waits. */
static inline struct query *late_take(struct stand *stand, const char *name)
{
	struct late *late = late_of(stand, name);
	struct wait *wait = TAILQ_FIRST(&late->waiting);
	if (!wait)
		return NULL;
	TAILQ_REMOVE(&late->waiting, wait, link);
	return wait->query;
}

static inline bool late_waits(struct stand *stand, const char *name)
{
	return !TAILQ_EMPTY(&late_of(stand, name)->waiting);
}

static const struct setting late_settings[] = {{.name = NULL}};

static const struct backend backend_late = {
	.name = "late",
	.ops = CAN(OP_LOOKUP) | CAN(OP_ITERATE) | CAN(OP_CHANGE),
	.settings = late_settings,
	.conf_size = 1,
	.open = late_open,
	.close = late_close,
	.start = late_start,
	.cancel = late_cancel,
};

#endif
