/* The rows of an iteration over keys at hand. Knows no table: static and memory bring the keys. */
#include "rows.h"

#include <stdlib.h>

/* What one answer may weigh, so that one client cannot take the machine's memory. A listing of half
 * a million users passes. */
bool rows_want(const struct question *ask, struct str name)
{
	return str_starts(name, ask->key) && rows_want_rest(ask, str_skip(name, ask->key.len));
}

bool rows_want_rest(const struct question *ask, struct str rest)
{
	if (ask->flags & ITER_EXACT_KEY)
		return rest.len == 0;
	return (ask->flags & ITER_RECURSE) || !str_has(rest, '/');
}

bool rows_by_value(const struct question *ask)
{
	return (ask->flags & ITER_SORT_VALUE) && !(ask->flags & ITER_NO_VALUE);
}

bool rows_add(struct rows *rows, struct str name, struct str value)
{
	const struct question *ask = rows->ask;
	if (rows->n == rows->room) {
		rows->room = rows->room ? rows->room * 2 : 16;
		rows->found = memory_grow(rows->found, rows->room * sizeof(*rows->found));
	}
	if (ask->flags & ITER_NO_VALUE)
		value = (struct str){NULL, 0};
	rows->found[rows->n++] = (struct pair){name, value};
	rows->bytes += name.len + value.len + sizeof(*rows->found);
	rows->too_large = rows->lasting && rows->bytes > ROWS_MAX;
	if (rows->too_large)
		return false;
	/* Only rows that come in the order asked for can be cut before all are seen. */
	return rows->unordered || rows_by_value(ask) || ask->max_rows == 0 ||
	       rows->n < ask->max_rows;
}

static int by_name(const void *a, const void *b)
{
	const struct pair *left = a, *right = b;
	return str_cmp(left->name, right->name);
}

static int by_value(const void *a, const void *b)
{
	const struct pair *left = a, *right = b;
	int order = str_cmp(left->value, right->value);
	return order ? order : str_cmp(left->name, right->name);
}

void rows_sort(const struct question *ask, struct pair *rows, size_t n)
{
	if (n > 1)
		qsort(rows, n, sizeof(*rows), rows_by_value(ask) ? by_value : by_name);
}

static struct str copy_to(char **at, struct str s)
{
	char *to = *at;
	if (s.len > 0)
		memcpy(to, s.ptr, s.len);
	*at += s.len;
	return (struct str){to, s.len};
}

/* One piece of memory for all rows, however many they are. */
static struct pair *copy_rows(const struct rows *rows, size_t text, struct arena *mem)
{
	size_t size = rows->n * sizeof(*rows->found);
	struct pair *to = arena_alloc(mem, size + (rows->lasting ? 0 : text));
	char *at = (char *)(to + rows->n);
	if (rows->n > 0)
		memcpy(to, rows->found, size);
	for (size_t i = 0; !rows->lasting && i < rows->n; i++) {
		to[i].name = copy_to(&at, to[i].name);
		to[i].value = copy_to(&at, to[i].value);
	}
	return to;
}

void rows_keep(struct rows *rows, struct arena *mem)
{
	const struct question *ask = rows->ask;
	if (rows->too_large) {
		rows_drop(rows);
		return;
	}
	if (rows->unordered || rows_by_value(ask))
		rows_sort(ask, rows->found, rows->n);
	if (ask->max_rows > 0 && rows->n > ask->max_rows)
		rows->n = (size_t)ask->max_rows;
	size_t text = 0;
	for (size_t i = 0; i < rows->n; i++)
		text += rows->found[i].name.len + rows->found[i].value.len;
	rows->too_large = text + rows->n * sizeof(*rows->kept) > ROWS_MAX;
	if (!rows->too_large)
		rows->kept = copy_rows(rows, text, mem);
	rows_drop(rows);
}

void rows_finish(const struct rows *rows, struct query *query)
{
	struct answer answer = {.status = ST_OK, .nrows = rows->n, .rows = rows->kept};
	if (rows->too_large)
		query_temp(query, "the answer is larger than %d MiB", ROWS_MAX >> 20);
	else if (rows->n == 0)
		query_notfound(query);
	else
		query_finish(query, &answer);
}

void rows_drop(struct rows *rows)
{
	free(rows->found);
	rows->found = NULL;
}
