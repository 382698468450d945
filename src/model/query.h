/* Carries one question to one table, and brings one answer back.
 *
 * Five rules, everywhere:
 * 1. Each started query ends exactly once: by query_finish() from its table or by query_cancel()
 *    from its asker.
 * 2. done() is never called from inside query_start() nor from a library's callback: only at the
 *    end of a turn of the worker's loop (turn.h).
 * 3. After query_cancel() nobody knows the query; its memory may go at once.
 * 4. A question never changes; an answer is written once; both live in the asker's arena.
 * 5. An error is never an absence: no layer turns TEMP or PERM into NOTFOUND. */
#ifndef MAPMUX_QUERY_H
#define MAPMUX_QUERY_H

#include "model/question.h"
#include "model/trace.h"
#include "model/turn.h"

struct table;

/* Embedded in whoever asks; zeroed memory is idle. */
struct query {
	struct table *table;
	const struct question *ask;
	struct arena *mem; /* the asker's: where the answer's bytes go */
	uint64_t
		deadline; /* ms on the turn's clock: what the asker allows (0: all the time), or the
			    * end of the table's timeout where that comes first */
	uint64_t began_us;            /* turn_now_us(), for measuring; 0: the answer came at once */
	void (*done)(struct query *); /* once; the query is idle again when it is called */
	struct answer answer;
	void *work;          /* the backend's, while the query runs */
	struct trace *trace; /* who wants to know of each step; NULL: nobody, as nearly always */
	unsigned depth;      /* how many tables were asked before this one, to ask it */
	enum { Q_IDLE, Q_STARTING, Q_RUNNING, Q_FINISHED } phase;
	struct job delivery;
	TAILQ_ENTRY(query) link; /* of the table's queries that run */
};

/* Asks `table`. The caller has set mem, and deadline when he has one. An operation the table does not
 * offer ends as ST_PERM. */
void query_start(struct query *query, struct table *table, const struct question *ask,
	void (*done)(struct query *));

/* The same for an asker who takes an answer at once: true when it is there already. The query is idle
 * again then, and done() is not called. */
bool query_begin(struct query *query, struct table *table, const struct question *ask,
	void (*done)(struct query *));

/* What a child needs before each of its starts: it asks on the parent's behalf, with his memory, his
 * deadline and his trace. */
void query_follow(struct query *child, const struct query *parent);

/* A step for the trace, if there is one; what is printed holds no secrets. */
#define query_note(query, event, ...)                                                              \
	((query)->trace ? query_tell((query), (event), __VA_ARGS__) : (void)0)
void query_tell(const struct query *query, const char *event, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Counts the answer among those that askers of this protocol (codec_index()) got of the table. In a turn. */
void query_count(const struct query *query, unsigned protocol);

/* Idle, running or finished: done() will not be called. */
void query_cancel(struct query *query);

/* The same for a child that follows this parent, whose deadline may have been brought forward meanwhile: a
 * table whose time has run out has failed, and one whose asker leaves has not. */
void query_cancel_child(struct query *child, const struct query *parent);

/* Ends the table's queries whose deadline has passed, as ST_TEMP (a change may have happened), and
 * cancels what they had started. No backend has a timer of its own. In a turn. */
void query_expire(struct table *table);

/* For backends: the one way back. Strings in the answer live in query->mem or longer. */
void query_finish(struct query *query, const struct answer *answer);
void query_ok(struct query *query, struct str value); /* value is not copied */
void query_notfound(struct query *query);
void query_temp(struct query *query, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void query_perm(struct query *query, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
