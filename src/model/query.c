/* Carries one question to one table, and brings one answer back. */
#include "model/query.h"

#include <assert.h>
#include <inttypes.h>

#include "model/table.h"

static bool is_offered(const struct table *table, const struct question *ask)
{
	if (!(table->conf->ops & CAN(ask->op)))
		return false;
	return !(ask->op == OP_CHANGE && ask->expire_secs > 0 && !table->conf->backend->can_expire);
}

static void set_deadline(struct query *query)
{
	const struct table *table = query->table;
	uint64_t end = table->turn->now_ms + (uint64_t)table->conf->options.timeout;
	if (query->deadline == 0 || query->deadline > end)
		query->deadline = end;
}

/* So many run in this worker; the worker looks at deadlines while there are any. */
static void run(struct query *query)
{
	query->phase = Q_RUNNING;
	query->began_us = turn_now_us(query->table->turn);
	TAILQ_INSERT_TAIL(&query->table->running, query, link);
	query->table->turn->running++;
	query->table->inflight++;
	table_set_keep(query->table->set);
}

static void end(struct query *query)
{
	TAILQ_REMOVE(&query->table->running, query, link);
	query->table->turn->running--;
	query->table->inflight--;
}

void query_follow(struct query *child, const struct query *parent)
{
	child->mem = parent->mem;
	child->deadline = parent->deadline;
	child->trace = parent->trace;
	child->depth = parent->depth + 1;
}

void query_tell(const struct query *query, const char *event, const char *fmt, ...)
{
	const struct table_conf *conf = query->table->conf;
	va_list ap;
	va_start(ap, fmt);
	trace_add(query->trace,
		&(struct trace_step){.depth = query->depth,
			.table = conf->name,
			.part = conf->backend->name,
			.event = event},
		fmt, ap);
	va_end(ap);
}

static void tell_begin(const struct query *query)
{
	const struct question *ask = query->ask;
	trace_keep(query->trace);
	query_tell(query, "asked", "%s%s%.*s%s%.*s", op_name(ask->op), ask->key.len > 0 ? " " : "",
		(int)ask->key.len, ask->key.len > 0 ? ask->key.ptr : "",
		ask->user.len > 0 ? " for " : "", (int)ask->user.len,
		ask->user.len > 0 ? ask->user.ptr : "");
}

static void tell_end(const struct query *query)
{
	const struct answer *answer = &query->answer;
	query_tell(query, status_name(answer->status), "%.*s", (int)answer->why.len,
		answer->why.len > 0 ? answer->why.ptr : "");
}

/* From here on nothing is known of the query. */
static void become_idle(struct query *query)
{
	query->phase = Q_IDLE;
	if (query->trace)
		trace_leave(query->trace);
}

/* True: the answer is there, and the query finished. */
static bool begin(struct query *query, struct table *table, const struct question *ask,
	void (*done)(struct query *))
{
	assert(query->phase == Q_IDLE && query->mem);
	query->table = table;
	query->ask = ask;
	query->done = done;
	query->work = NULL;
	query->phase = Q_STARTING;
	query->began_us = 0;
	set_deadline(query);
	if (query->trace)
		tell_begin(query);
	if (is_offered(table, ask))
		table->conf->backend->start(query);
	else
		query_perm(query, "table %s (type %s) does not offer %s%s", table->conf->name,
			table_core(table->conf)->backend->name, op_name(ask->op),
			ask->expire_secs > 0 ? " with an expiry" : "");
	if (query->phase == Q_STARTING) {
		run(query);
		return false;
	}
	return true;
}

bool query_begin(struct query *query, struct table *table, const struct question *ask,
	void (*done)(struct query *))
{
	if (!begin(query, table, ask, done))
		return false;
	become_idle(query);
	return true;
}

static void deliver(struct job *job)
{
	struct query *query =
		(struct query *)(void *)((char *)job - offsetof(struct query, delivery));
	struct table_set *set = query->table->set; /* done() may free or start the query */
	become_idle(query);
	query->done(query);
	table_set_leave(set);
}

void query_start(struct query *query, struct table *table, const struct question *ask,
	void (*done)(struct query *))
{
	if (!begin(query, table, ask, done))
		return;
	table_set_keep(table->set);
	turn_add_answer(table->turn, &query->delivery, deliver);
}

static void cancel_work(struct query *query)
{
	assert(query->table->conf->backend->cancel);
	query->table->conf->backend->cancel(query);
}

void query_cancel(struct query *query)
{
	if (query->phase == Q_IDLE)
		return;
	if (query->phase == Q_FINISHED) {
		turn_drop_job(&query->delivery);
	} else {
		assert(query->phase == Q_RUNNING);
		cancel_work(query);
		query_note(query, "cancelled", "nobody waits for it any more");
		end(query);
	}
	become_idle(query);
	table_set_leave(query->table->set);
}

void query_cancel_child(struct query *child, const struct query *parent)
{
	if (child->deadline > parent->deadline)
		child->deadline = parent->deadline;
	query_cancel(child);
}

/* All have the same timeout, so the first to begin is the first to end; one whose asker allows less is
 * cancelled by that asker, whose own deadline has passed. */
void query_expire(struct table *table)
{
	struct query *query;
	while ((query = TAILQ_FIRST(&table->running)) && query->deadline <= table->turn->now_ms) {
		cancel_work(query);
		query_finish(query,
			&(struct answer){
				.status = ST_TEMP,
				.why = arena_printf(query->mem, "no answer within %" PRIi64 " ms",
					table->conf->options.timeout),
				.uncertain = query->ask->op == OP_CHANGE,
			});
	}
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

/* Only an increment can miss what it is to change. What was to be unset and is not there is gone; a set that
 * found nothing was not made, and Dovecot's plugins would take "not found" for success. */
static struct answer nothing_to_change(const struct question *ask)
{
	bool adds = false, sets = false;
	for (size_t i = 0; i < ask->nchanges; i++) {
		adds |= ask->changes[i].kind == CH_ADD;
		sets |= ask->changes[i].kind == CH_SET;
	}
	if (adds)
		return (struct answer){.status = ST_NOTFOUND};
	if (sets)
		return (struct answer){.status = ST_PERM,
			.why = STR("the table says \"not found\" to what was to be set")};
	return (struct answer){.status = ST_OK};
}

/* Whether the table fails, and how long it took. */
static void take_note(struct query *query, bool at_once)
{
	struct table *table = query->table;
	if (query->answer.status == ST_TEMP) {
		table->failures++;
		table->failed_ms = table->turn->now_ms;
	} else {
		table->failures = 0;
	}
	if (!at_once)
		histogram_add(&table->took, turn_now_us(table->turn) - query->began_us);
}

void query_finish(struct query *query, const struct answer *answer)
{
	bool at_once = query->phase == Q_STARTING;
	assert(at_once || query->phase == Q_RUNNING);
	query->answer = *answer;
	if (means_not_found(query, answer))
		query->answer = (struct answer){
			.status = ST_NOTFOUND, .ttl = answer->ttl, .no_store = answer->no_store};
	if (query->ask->op == OP_CHANGE && answer->status == ST_NOTFOUND)
		query->answer = nothing_to_change(query->ask);
	stats_count(&query->table->stats.results[query->answer.status]);
	take_note(query, at_once);
	if (query->trace)
		tell_end(query);
	query->phase = Q_FINISHED;
	if (at_once)
		return;
	end(query);
	turn_add_answer(query->table->turn, &query->delivery, deliver);
}

void query_count(const struct query *query, unsigned protocol)
{
	struct traffic *traffic = table_traffic(query->table, protocol);
	traffic->results[result_of(&query->answer)]++;
	if (query->began_us > 0)
		histogram_add(&traffic->took, turn_now_us(query->table->turn) - query->began_us);
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

__attribute__((format(printf, 3, 0))) static void fail(
	struct query *query, enum status status, const char *fmt, va_list ap)
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
