/* The url table: iterations, of names (a lookup for each) or of names and values. */
#include "url.h"

#include "rows.h"

/* One of the lookups under way. */
struct row_ask {
	struct url_ask ask; /* first */
	struct arena reply; /* what came, until the value has been copied out */
	size_t row;
};

struct iteration {
	struct url_ask list;    /* for the names; first, so that query->work points to it */
	struct arena reply;     /* to it, until its names have been copied out */
	struct url_fresh fresh; /* of all replies together */
	struct pair *rows;
	bool *found;
	size_t nrows, next, nfound, bytes;
	unsigned running;
	struct row_ask *lookups; /* PARALLEL of them; NULL: the list has not come, or has all */
};

static struct iteration *iteration_of(const struct query *query)
{
	return query->work;
}

void url_drop_iteration(struct query *query)
{
	struct iteration *iteration = iteration_of(query);
	arena_clear(&iteration->reply);
	for (unsigned i = 0; iteration->lookups && i < PARALLEL; i++)
		arena_clear(&iteration->lookups[i].reply);
}

/* `why` may stand in a reply. */
static void fail(const struct url_ask *ask, enum status status, const char *why)
{
	struct query *query = ask->query;
	url_finish(ask, status, STR(""), arena_str(query->mem, str_of(why)).ptr);
	url_drop_iteration(query);
}

/* Else they come as the service lists them. */
static bool is_sorted(const struct question *ask)
{
	return ask->flags & (ITER_SORT_KEY | ITER_SORT_VALUE);
}

static void finish_rows(struct iteration *iteration, struct pair *rows, size_t n)
{
	struct query *query = iteration->list.query;
	const struct question *question = query->ask;
	const struct url_fresh *fresh = &iteration->fresh;
	if (is_sorted(question))
		rows_sort(question, rows, n);
	if (question->max_rows > 0 && n > question->max_rows)
		n = (size_t)question->max_rows;
	query_finish(query, &(struct answer){
				    .status = n > 0 ? ST_OK : ST_NOTFOUND,
				    .nrows = n,
				    .rows = n > 0 ? rows : NULL,
				    .ttl = fresh->ttl,
				    .no_store = fresh->no_store,
			    });
	url_drop_iteration(query);
}

static void finish_iteration(struct iteration *iteration)
{
	size_t n = 0;
	for (size_t i = 0; i < iteration->next; i++)
		if (iteration->found[i])
			iteration->rows[n++] = iteration->rows[i];
	finish_rows(iteration, iteration->rows, n);
}

/* How many rows are needed at all; by value, all have to be seen first. */
static size_t wanted_rows(const struct iteration *iteration)
{
	const struct question *question = iteration->list.query->ask;
	if (question->max_rows == 0 || question->max_rows > iteration->nrows ||
		rows_by_value(question))
		return iteration->nrows;
	return (size_t)question->max_rows;
}

/* Starts lookups with the asks that are free. */
static void look_up_rows(struct iteration *iteration)
{
	size_t wanted = wanted_rows(iteration);
	for (unsigned i = 0; i < PARALLEL; i++) {
		struct row_ask *lookup = &iteration->lookups[i];
		while (!lookup->ask.fetch.pool && iteration->next < iteration->nrows &&
			iteration->nfound + iteration->running < wanted) {
			lookup->row = iteration->next++;
			lookup->ask.key = iteration->rows[lookup->row].name;
			if (url_ask_start(&lookup->ask))
				iteration->running++;
			else
				url_refuse(&lookup->ask);
		}
	}
	if (iteration->running == 0)
		finish_iteration(iteration);
}

static void on_row(struct url_ask *ask)
{
	struct iteration *iteration = iteration_of(ask->query);
	struct row_ask *lookup = (struct row_ask *)(void *)ask;
	struct str value;
	const char *why;
	iteration->running--;
	enum status status = url_read_value(ask, &value, &why);
	iteration->bytes += status == ST_OK ? value.len : 0;
	iteration->fresh = url_fresh_both(iteration->fresh, url_fresh_of(ask));
	if (iteration->bytes > ROWS_MAX) {
		status = ST_TEMP;
		why = "the values of the iteration are too large together";
	}
	if (status == ST_TEMP || status == ST_PERM) {
		for (unsigned i = 0; i < PARALLEL; i++)
			url_ask_cancel(&iteration->lookups[i].ask);
		fail(ask, ST_TEMP, why);
		return;
	}
	if (status == ST_OK) {
		iteration->rows[lookup->row].value = arena_str(ask->query->mem, value);
		iteration->found[lookup->row] = true;
		iteration->nfound++;
	}
	arena_clear(&lookup->reply);
	look_up_rows(iteration);
}

static void start_rows(struct iteration *iteration)
{
	struct query *query = iteration->list.query;
	iteration->found = arena_alloc(query->mem, iteration->nrows + 1);
	iteration->lookups = arena_alloc(query->mem, PARALLEL * sizeof(*iteration->lookups));
	struct url_ask **tail = &iteration->list.next;
	for (unsigned i = 0; i < PARALLEL; i++) {
		struct row_ask *lookup = &iteration->lookups[i];
		url_ask_init(&lookup->ask, query, on_row);
		lookup->ask.fetch.mem = &lookup->reply;
		*tail = &lookup->ask;
		tail = &lookup->ask.next;
	}
	arena_clear(&iteration->reply);
	if (is_sorted(query->ask) && !rows_by_value(query->ask))
		rows_sort(query->ask, iteration->rows, iteration->nrows);
	look_up_rows(iteration);
}

/* Unless it is recursive, names of deeper levels are left out. */
static void pick_rows(struct iteration *iteration)
{
	const struct question *question = iteration->list.query->ask;
	size_t n = 0;
	for (size_t i = 0; i < iteration->nrows; i++)
		if (rows_want(question, iteration->rows[i].name))
			iteration->rows[n++] = iteration->rows[i];
	iteration->nrows = n;
}

static void on_list(struct url_ask *ask)
{
	struct iteration *iteration = (struct iteration *)(void *)ask;
	struct query *query = ask->query;
	struct json_rules rules = url_rules(query);
	const char *why;
	bool only_names;
	enum status status = url_judge(ask, &why);
	rules.prefix = query->ask->key;
	iteration->fresh = url_fresh_of(ask);
	if (status == ST_NOTFOUND) {
		finish_rows(iteration, NULL, 0);
		return;
	}
	if (status == ST_OK && !json_rows(ask->fetch.body, &rules, query->mem, &iteration->rows,
				       &iteration->nrows, &only_names, &why)) {
		why = arena_printf(query->mem, "%s: %s", url_origin_of(ask), why).ptr;
		status = ST_TEMP;
	}
	if (status != ST_OK) {
		fail(ask, status, why);
		return;
	}
	pick_rows(iteration);
	if (!only_names || query->ask->key.len == 0)
		arena_join(query->mem, &iteration->reply); /* the rows are pieces of it */
	if (only_names && !(query->ask->flags & ITER_NO_VALUE))
		start_rows(iteration);
	else
		finish_rows(iteration, iteration->rows, iteration->nrows);
}

/* An iteration over one key itself. */
static void on_exact(struct url_ask *ask)
{
	struct iteration *iteration = (struct iteration *)(void *)ask;
	struct pair *row = arena_alloc(ask->query->mem, sizeof(*row));
	const char *why;
	enum status status = url_read_value(ask, &row->value, &why);
	row->name = ask->key;
	iteration->fresh = url_fresh_of(ask);
	if (status == ST_OK || status == ST_NOTFOUND)
		finish_rows(iteration, row, status == ST_OK);
	else
		fail(ask, status, why);
}

void url_start_iterate(struct query *query)
{
	struct iteration *iteration = arena_alloc(query->mem, sizeof(*iteration));
	bool exact = query->ask->flags & ITER_EXACT_KEY;
	url_ask_init(&iteration->list, query, exact ? on_exact : on_list);
	iteration->list.is_prefix = !exact;
	if (!exact)
		iteration->list.fetch.mem = &iteration->reply;
	query->work = &iteration->list;
	if (!url_ask_start(&iteration->list))
		url_refuse_query(&iteration->list);
}
