/* The rows of an iteration over keys at hand: which are wanted, in which order, how many. */
#ifndef MAPMUX_ROWS_H
#define MAPMUX_ROWS_H

#include "model/query.h"

/* Is the order of values asked for? Without values there is nothing else to sort by than the name. */
bool rows_by_value(const struct question *ask);

/* By value, and by name where these are equal; or by name alone. */
void rows_sort(const struct question *ask, struct pair *rows, size_t n);

/* Zeroed with `ask` it is ready for use. */
struct rows {
	const struct question *ask;
	bool unordered; /* rows_add() is not called in the order of the names */
	bool lasting;   /* names and values are in the asker's memory already: no copies are made */
	struct pair *found; /* borrowed from the source; freed by rows_keep() or rows_drop() */
	size_t n, room;
	struct pair *kept; /* the asker's own */
	size_t bytes;      /* of those found */
	bool too_large;
};

/* Is `name` under the prefix (or, with ITER_EXACT_KEY, the key itself)? Without ITER_RECURSE only
 * direct children are. */
bool rows_want(const struct question *ask, struct str name);

/* Is the name that goes on so where the prefix ends? */
bool rows_want_rest(const struct question *ask, struct str rest);

/* Adds a row that is only borrowed. False when there are enough, or too many that are lasting: stop. */
bool rows_add(struct rows *rows, struct str name, struct str value);

/* Sorts, cuts to max_rows and copies what is left to `mem`, the asker's: the source may go afterwards. */
void rows_keep(struct rows *rows, struct arena *mem);

/* Answers with what was kept: no row at all is ST_NOTFOUND, too many bytes are ST_TEMP. */
void rows_finish(const struct rows *rows, struct query *query);

/* Instead of rows_keep(): nothing is to be answered from them. */
void rows_drop(struct rows *rows);

#endif
