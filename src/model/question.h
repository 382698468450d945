/* What is asked of a table, and what it answers. */
#ifndef MAPMUX_QUESTION_H
#define MAPMUX_QUESTION_H

#include "base/arena.h"

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

/* More bytes of rows than these, with a struct pair for each, no answer has. */
enum { ROWS_MAX = 64 << 20 };

struct answer {
	enum status status; /* ST_NOTFOUND to a change: what was to be incremented is not there */
	/* ST_TEMP, ST_PERM: for people; never holds secrets or values. ST_NOTFOUND of OP_AUTH: what the
	 * user may be told, or empty. */
	struct str why;
	size_t nrows; /* ST_OK to a lookup: at least one */
	const struct pair
		*rows;  /* lookup: values, unnamed; iterate: names (without scope) and values */
	unsigned ttl;   /* seconds the source lets it be kept; 0: it did not say */
	bool no_store;  /* the source forbids to keep it */
	bool uncertain; /* change, ST_TEMP: it may have happened */
	bool broken;    /* ST_TEMP: no way to the source, or it was lost: asking again may help */
};

/* A deep copy of the question into `mem`. */
void question_copy(struct question *to, const struct question *from, struct arena *mem);

/* A deep copy of the answer into `mem`. */
void answer_copy(struct answer *to, const struct answer *from, struct arena *mem);

/* `answer` rests on `other` as well: it is kept for as long as both may be. */
void answer_rest_on(struct answer *answer, const struct answer *other);

const char *op_name(enum op op);
const char *status_name(enum status status);

#endif
