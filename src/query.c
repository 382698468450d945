/* A question, its answer, and the query that carries both to a table and back. */
#include "query.h"

#include <assert.h>

#include "table.h"
#include "turn.h"

static bool is_offered(const struct table *table, const struct question *ask)
{
	if (!(table->conf->ops & CAN(ask->op)))
		return false;
	return !(ask->op == OP_CHANGE && ask->expire_secs > 0 && !table->conf->backend->can_expire);
}

void query_start(struct query *query, struct table *table, const struct question *ask,
        void (*done)(struct query *))
{
	assert(query->phase == Q_IDLE && query->mem);
	query->table = table;
	query->ask = ask;
	query->done = done;
	query->work = NULL;
	query->phase = Q_RUNNING;
	if (is_offered(table, ask))
		table->conf->backend->start(query);
	else
		query_perm(query, "table %s (type %s) does not offer %s%s", table->conf->name,
		        table->conf->backend->name, op_name(ask->op),
		        ask->expire_secs > 0 ? " with an expiry" : "");
}

void query_cancel(struct query *query)
{
	if (query->phase == Q_FINISHED) {
		turn_drop_finished(query->table->turn, query);
	} else if (query->phase == Q_RUNNING) {
		assert(query->table->conf->backend->cancel);
		query->table->conf->backend->cancel(query);
	}
	query->phase = Q_IDLE;
}

/* An empty value is a configuration error to Postfix, and data to Dovecot. */
static bool means_not_found(const struct query *query, const struct answer *answer)
{
	const struct table_options *options = &query->table->conf->options;
	if (answer->status != ST_OK || query->ask->op != OP_LOOKUP || answer->rows[0].value.len > 0)
		return false;
	if (options->empty == EMPTY_AUTO)
		return query->ask->form == FORM_TEXT;
	return options->empty == EMPTY_NOTFOUND;
}

void query_finish(struct query *query, const struct answer *answer)
{
	assert(query->phase == Q_RUNNING);
	query->answer = *answer;
	if (means_not_found(query, answer))
		query->answer = (struct answer){.status = ST_NOTFOUND, .ttl = answer->ttl};
	query->phase = Q_FINISHED;
	struct table_stats *stats = &query->table->stats;
	atomic_store_explicit(&stats->results[query->answer.status],
	        atomic_load_explicit(&stats->results[query->answer.status], memory_order_relaxed) +
	                1,
	        memory_order_relaxed);
	turn_add_finished(query->table->turn, query);
}

void query_ok(struct query *query, struct str value)
{
	struct pair *row = arena_alloc(query->mem, sizeof(*row));
	row->value = value;
	query_finish(query, &(struct answer){.status = ST_OK, .nrows = 1, .rows = row});
}

void query_notfound(struct query *query)
{
	query_finish(query, &(struct answer){.status = ST_NOTFOUND});
}

static void fail(struct query *query, enum status status, const char *fmt, va_list ap)
{
	struct answer answer = {.status = status, .why = arena_vprintf(query->mem, fmt, ap)};
	query_finish(query, &answer);
}

void query_temp(struct query *query, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	fail(query, ST_TEMP, fmt, ap);
	va_end(ap);
}

void query_perm(struct query *query, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	fail(query, ST_PERM, fmt, ap);
	va_end(ap);
}

static const struct pair *pairs_copy(const struct pair *from, size_t n, struct arena *mem)
{
	struct pair *to = n ? arena_alloc(mem, n * sizeof(*to)) : NULL;
	for (size_t i = 0; i < n; i++)
		to[i] = (struct pair){arena_str(mem, from[i].name), arena_str(mem, from[i].value)};
	return to;
}

void question_copy(struct question *to, const struct question *from, struct arena *mem)
{
	*to = *from;
	to->key = arena_str(mem, from->key);
	to->user = arena_str(mem, from->user);
	to->attrs = pairs_copy(from->attrs, from->nattrs, mem);
	struct change *changes = NULL;
	if (from->nchanges > 0)
		changes = arena_alloc(mem, from->nchanges * sizeof(*changes));
	for (size_t i = 0; i < from->nchanges; i++) {
		changes[i] = from->changes[i];
		changes[i].key = arena_str(mem, from->changes[i].key);
		changes[i].value = arena_str(mem, from->changes[i].value);
	}
	to->changes = changes;
}

void answer_copy(struct answer *to, const struct answer *from, struct arena *mem)
{
	*to = *from;
	to->why = arena_str(mem, from->why);
	to->rows = pairs_copy(from->rows, from->nrows, mem);
}

const char *op_name(enum op op)
{
	static const char *const names[OP_COUNT] = {
	        [OP_LOOKUP] = "lookup",
	        [OP_ITERATE] = "iterate",
	        [OP_CHANGE] = "change",
	        [OP_POLICY] = "policy",
	        [OP_AUTH] = "authentication",
	};
	return names[op];
}

const char *status_name(enum status status)
{
	static const char *const names[ST_COUNT] = {
	        [ST_OK] = "ok",
	        [ST_NOTFOUND] = "notfound",
	        [ST_TEMP] = "temp",
	        [ST_PERM] = "perm",
	};
	return names[status];
}
