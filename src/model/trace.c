/* Each step of a question on its way through the tables, for who wants to know why it was answered so. */
#include "model/trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
	MAX_STEPS = 1000,
	MAX_DETAIL = 1000, /* bytes; what is longer is cut: it is only shown */
};

/* Not the turn's clock: steps of one turn are told apart. */
static uint64_t clock_us(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

struct trace *trace_new(void)
{
	struct trace *trace = memory_new(sizeof(*trace));
	trace->refs = 1;
	trace->began_us = clock_us();
	STAILQ_INIT(&trace->steps);
	return trace;
}

struct trace *trace_keep(struct trace *trace)
{
	trace->refs++;
	return trace;
}

void trace_leave(struct trace *trace)
{
	if (--trace->refs > 0)
		return;
	arena_clear(&trace->mem);
	free(trace);
}

/* Cut between characters: the last one must not become something else. */
static size_t shorten(const char *text, size_t len)
{
	while (len > 0 && ((unsigned char)text[len] & 0xc0) == 0x80)
		len--;
	return len;
}

void trace_add(struct trace *trace, const struct trace_step *like, const char *fmt, va_list ap)
{
	if (trace->nsteps == MAX_STEPS) {
		trace->nlost++;
		return;
	}
	char text[MAX_DETAIL + 1];
	int whole = vsnprintf(text, sizeof(text), fmt, ap);
	size_t len = whole < 0 ? 0 : (size_t)whole;
	if (len > MAX_DETAIL - 1)
		len = shorten(text, MAX_DETAIL - 1);
	struct trace_step *step = arena_alloc(&trace->mem, sizeof(*step));
	*step = *like;
	step->us = clock_us() - trace->began_us;
	step->detail = arena_str(&trace->mem, (struct str){text, len});
	STAILQ_INSERT_TAIL(&trace->steps, step, link);
	trace->nsteps++;
}
