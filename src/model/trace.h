/* Each step of a question on its way through the tables, for who wants to know why it was answered so. */
#ifndef MAPMUX_TRACE_H
#define MAPMUX_TRACE_H

#include <sys/queue.h>

#include "base/arena.h"

struct trace_step {
	STAILQ_ENTRY(trace_step) link;
	uint64_t us;    /* since the trace began */
	unsigned depth; /* 0: the table that was asked; 1: the one that it asked itself, ... */
	const char *table, *part; /* part: the type of the table, or of its layer */
	const char *event;        /* "asked", "hit", "request", ..., at last a status */
	struct str detail;        /* for people, without secrets; may be empty */
};

STAILQ_HEAD(trace_steps, trace_step);

/* Counted, because a question that others share may outlive its asker; one thread. It is bounded. */
struct trace {
	unsigned refs;
	size_t nsteps, nlost; /* lost: those beyond the bound */
	uint64_t began_us;
	struct trace_steps steps;
	struct arena mem;
};

/* The caller holds it. */
struct trace *trace_new(void);
struct trace *trace_keep(struct trace *trace);
void trace_leave(struct trace *trace);

/* Adds a step; the names and the event are not copied: they outlive the trace or are constants. */
void trace_add(struct trace *trace, const struct trace_step *step, const char *fmt, va_list ap)
	__attribute__((format(printf, 3, 0)));

#endif
