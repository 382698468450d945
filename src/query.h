/* A question, its answer, and the query that carries both to a table and back.
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

#include <sys/queue.h>

#include "arena.h"

struct table;

enum op { OP_LOOKUP, OP_ITERATE, OP_CHANGE, OP_POLICY, OP_AUTH, OP_COUNT };

enum status { ST_OK, ST_NOTFOUND, ST_TEMP, ST_PERM, ST_COUNT };

/* How the asker's protocol shows values that are not plain strings (product contract, Values). */
enum form {
	FORM_TEXT, /* socketmap, tcp_table, policy: lists joined, true is 1, objects refused */
	FORM_JSON, /* dict: JSON text */
};

enum scope {
	SCOPE_NONE,   /* the protocol has no scopes */
	SCOPE_SHARED, /* dict shared/KEY */
	SCOPE_PRIV,   /* dict priv/KEY: belongs to `user` */
};

/* Flags of an iteration; values as on Dovecot's wire. */
enum {
	ITER_RECURSE = 0x01,
	ITER_SORT_KEY = 0x02,
	ITER_SORT_VALUE = 0x04,
	ITER_NO_VALUE = 0x08,
	ITER_EXACT_KEY = 0x10,
};

/* One step of a transaction. */
struct change {
	enum { CH_SET, CH_UNSET, CH_ADD } kind;
	enum scope scope;
	struct str key;   /* without its scope's prefix */
	struct str value; /* CH_SET */
	int64_t diff;     /* CH_ADD */
};

struct question {
	enum op op;
	enum form form;
	enum scope scope;
	struct str
	        key; /* without the scope's prefix, never with a NUL; iterate: the prefix; change: empty */
	struct str user; /* on whose behalf; of priv keys a part of the name */
	size_t nattrs, nchanges;
	const struct pair *attrs;     /* policy: the whole request */
	const struct change *changes; /* the whole transaction, in order */
	unsigned flags;               /* iterate: ITER_... */
	uint64_t max_rows;            /* iterate; 0: no limit */
	uint64_t expire_secs;         /* change: what is set lives so long; 0: for ever */
};

struct answer {
	enum status status;
	struct str why; /* ST_TEMP, ST_PERM: for people; never holds secrets or values */
	size_t nrows;   /* ST_OK to a lookup: at least one */
	const struct pair
	        *rows;  /* lookup: values, unnamed; iterate: names (without scope) and values */
	unsigned ttl;   /* seconds the source lets it be kept; 0: it did not say */
	bool uncertain; /* change, ST_TEMP: it may have happened */
};

/* Embedded in whoever asks; zeroed memory is idle. */
struct query {
	struct table *table;
	const struct question *ask;
	struct arena *mem; /* the asker's: where the answer's bytes go */
	uint64_t deadline; /* ms on the turn's clock; set by the outermost asker, handed down */
	void (*done)(struct query *); /* once; the query is idle again when it is called */
	struct answer answer;
	void *work; /* the backend's, while the query runs */
	enum { Q_IDLE, Q_RUNNING, Q_FINISHED } phase;
	TAILQ_ENTRY(query) link;
};

/* Asks `table`. The caller has set mem and deadline. An operation the table does not offer ends as
 * ST_PERM. */
void query_start(struct query *query, struct table *table, const struct question *ask,
        void (*done)(struct query *));

/* Idle, running or finished: done() will not be called. */
void query_cancel(struct query *query);

/* For backends: the one way back. Strings in the answer live in query->mem or longer. */
void query_finish(struct query *query, const struct answer *answer);
void query_ok(struct query *query, struct str value); /* value is not copied */
void query_notfound(struct query *query);
void query_temp(struct query *query, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void query_perm(struct query *query, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A deep copy of the question into `mem`. */
void question_copy(struct question *to, const struct question *from, struct arena *mem);

/* A deep copy of the answer into `mem`. */
void answer_copy(struct answer *to, const struct answer *from, struct arena *mem);

const char *op_name(enum op op);
const char *status_name(enum status status);

#endif
