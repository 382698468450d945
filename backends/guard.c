/* The guard composite: spares a table that fails, and those who wait for it. Not more questions at a
 * time than it bears, a second try where the first found nobody, and none at all for a while when it
 * has failed again and again. */
#include "guard.h"

#include <stddef.h>
#include <stdlib.h>

#include "list.h"
#include "model/breaker.h"
#include "model/query.h"
#include "model/timer.h"

enum {
	MAX_RETRIES = 5,
	RETRY_MS = 50, /* about so long before the first retry; twice as long before each further */
};

struct guard_conf {
	int64_t max_inflight, retries, failures, cooldown;
};

/* For all workers. Counted by the configurations that have it: what a reload leaves under way counts on. */
struct guard_shared {
	unsigned refs;             /* the control thread's */
	_Atomic uint64_t inflight; /* counted only when there is a limit */
};

/* In one worker. */
struct guard_state {
	struct breaker breaker;
	struct breaker_rules rules;
	uint64_t dice; /* never 0 */
};

/* One question; lives in the asker's arena. */
struct guarded {
	struct query child;
	struct query *parent;
	struct timer timer; /* of the next try */
	unsigned retries;   /* so far */
	enum breaker_pass pass;
};

#define AT(member) .offset = offsetof(struct guard_conf, member)

static const struct setting settings[] = {
	{.name = "max_inflight",
		.kind = SET_INT,
		AT(max_inflight),
		.fallback = "0",
		.max = 1000000,
		.help = "questions at a time, of all workers; what is more is TEMP at once; 0: no "
			"limit"},
	{.name = "retries",
		.kind = SET_INT,
		AT(retries),
		.fallback = "",
		.max = MAX_RETRIES,
		.help = "a read that found no connection, or lost it, is asked again so often; "
			"default: 1, with side_effects 0"},
	{.name = "breaker.failures",
		.kind = SET_INT,
		AT(failures),
		.fallback = "0",
		.max = 1000000,
		.help = "after so many failures in a row the table is not asked for a while; 0: "
			"it is always asked"},
	{.name = "breaker.cooldown",
		.kind = SET_MSEC,
		AT(cooldown),
		.fallback = "5s",
		.min = 100,
		.max = 3600000,
		.help = "so long: TEMP at once; then one question tries"},
	{.name = NULL},
};

/* ---- whether and how ---- */

static unsigned retries_of(const struct table_conf *guard)
{
	const struct guard_conf *conf = guard->conf;
	if (guard->options.side_effects || !table_core(guard)->backend->can_break)
		return 0;
	return conf->retries < 0 ? 1 : (unsigned)conf->retries;
}

/* What answers at once, or is made of tables that have guards of their own, is retried by nobody. */
static bool wanted(const struct table_conf *inner, const void *conf_of_table)
{
	const struct guard_conf *conf = conf_of_table;
	bool retried =
		inner->backend->can_break && conf->retries != 0 && !inner->options.side_effects;
	return inner->backend->cancel && !inner->backend->asks_nobody &&
	       (retried || conf->max_inflight > 0 || conf->failures > 0);
}

static bool check(struct table_conf *table, struct error *error)
{
	const struct guard_conf *conf = table->conf;
	(void)error;
	if (table->options.side_effects && conf->retries > 0)
		log_warn("%s: table %s: retries: side_effects switches them off", table->where,
			table->name);
	struct guard_shared *shared = memory_new(sizeof(*shared));
	shared->refs = 1;
	table->shared = shared;
	return true;
}

static void drop(struct table_conf *table)
{
	struct guard_shared *shared = table->shared;
	if (shared && --shared->refs == 0)
		free(shared);
	table->shared = NULL;
}

static void inherit(struct table_conf *now, const struct table_conf *before)
{
	struct guard_shared *shared = before->shared;
	drop(now);
	shared->refs++;
	now->shared = shared;
}

static bool open_table(struct table *table, struct error *error)
{
	const struct guard_conf *conf = table->conf->conf;
	struct guard_state *state = memory_new(sizeof(*state));
	(void)error;
	state->rules = (struct breaker_rules){
		.failures = (unsigned)conf->failures,
		.cooldown_ms = (uint64_t)conf->cooldown,
	};
	state->dice = (uint64_t)(uintptr_t)state | 1; /* workers must only differ */
	if (table->before)
		state->breaker = breaker_succeed(
			&((const struct guard_state *)table->before->state)->breaker);
	table->state = state;
	table_set_counter(table, GUARD_OPEN, breaker_is_open(&state->breaker));
	return true;
}

static void close_table(struct table *table)
{
	free(table->state);
}

/* ---- counting ---- */

static const char *const counters[] = {[GUARD_REFUSED] = "refused",
	[GUARD_SHUNNED] = "shunned",
	[GUARD_RETRIES] = "retries",
	[GUARD_OPENED] = "breaker opened",
	[GUARD_OPEN] = "breaker open",
	NULL};

uint64_t guard_inflight(const struct table_conf *table)
{
	const struct guard_shared *shared = table->shared;
	return atomic_load_explicit(&shared->inflight, memory_order_relaxed);
}

/* One more in flight; false when that is one too many. */
static bool enter(const struct table *table)
{
	const struct guard_conf *conf = table->conf->conf;
	struct guard_shared *shared = table->conf->shared;
	if (conf->max_inflight == 0)
		return true;
	uint64_t before = atomic_fetch_add_explicit(&shared->inflight, 1, memory_order_relaxed);
	if (before < (uint64_t)conf->max_inflight)
		return true;
	atomic_fetch_sub_explicit(&shared->inflight, 1, memory_order_relaxed);
	return false;
}

static void leave(const struct table *table)
{
	const struct guard_conf *conf = table->conf->conf;
	struct guard_shared *shared = table->conf->shared;
	if (conf->max_inflight > 0)
		atomic_fetch_sub_explicit(&shared->inflight, 1, memory_order_relaxed);
}

/* ---- the breaker ---- */

static void failed(const struct guarded *guarded, struct str why)
{
	struct table *table = guarded->parent->table;
	struct guard_state *state = table->state;
	if (state->rules.failures == 0)
		return;
	if (!breaker_failed(&state->breaker, &state->rules, guarded->pass, table->turn->now_ms))
		return;
	table_count(table, GUARD_OPENED);
	table_set_counter(table, GUARD_OPEN, 1);
	log_warn("table %s: breaker open: failed %u times in a row, the last time: %.*s",
		table->conf->name, state->rules.failures, (int)why.len, why.len ? why.ptr : "");
}

static void answered(const struct guarded *guarded)
{
	struct table *table = guarded->parent->table;
	struct guard_state *state = table->state;
	if (!breaker_succeeded(&state->breaker))
		return;
	table_set_counter(table, GUARD_OPEN, 0);
	log_info("table %s: breaker closed: it answers again", table->conf->name);
}

/* What a try tells of the table. */
static void judge(const struct guarded *guarded)
{
	if (guarded->child.answer.status == ST_TEMP)
		failed(guarded, guarded->child.answer.why);
	else
		answered(guarded);
}

/* ---- a question ---- */

/* The end, by an answer that nobody has to ask for again. */
static void finish(struct guarded *guarded, const struct answer *answer)
{
	struct answer last = *answer;
	last.broken = false;
	leave(guarded->parent->table);
	query_finish(guarded->parent, &last);
}

/* xorshift: enough to keep those apart that failed together. */
static uint64_t throw_dice(struct guard_state *state)
{
	state->dice ^= state->dice << 13;
	state->dice ^= state->dice >> 7;
	state->dice ^= state->dice << 17;
	return state->dice;
}

static void on_timer(struct timer *timer);

/* Puts another try on the clock, if the answer allows one and there is time for it. */
static bool retry(struct guarded *guarded)
{
	struct query *parent = guarded->parent;
	struct table *table = parent->table;
	struct guard_state *state = table->state;
	bool reads = parent->ask->op == OP_LOOKUP || parent->ask->op == OP_ITERATE;
	if (!guarded->child.answer.broken || !reads ||
		guarded->retries >= retries_of(table->conf) || breaker_is_open(&state->breaker))
		return false;
	uint64_t about = (uint64_t)RETRY_MS << guarded->retries;
	uint64_t due = table->turn->now_ms + about / 2 + throw_dice(state) % about;
	if (due >= parent->deadline)
		return false;
	guarded->retries++;
	table_count(table, GUARD_RETRIES);
	query_note(parent, "retry", "in %llu ms", (unsigned long long)(due - table->turn->now_ms));
	timer_set(table->turn->timers, &guarded->timer, due, on_timer);
	return true;
}

static void on_child(struct query *child)
{
	struct guarded *guarded =
		(struct guarded *)(void *)((char *)child - offsetof(struct guarded, child));
	judge(guarded);
	if (!retry(guarded))
		finish(guarded, &child->answer);
}

/* `query` may be of a composite around the table. */
static void turn_away(
	struct table *table, struct query *query, enum guard_counter which, struct str why)
{
	table_count(table, which);
	query_finish(query, &(struct answer){.status = ST_TEMP, .why = why});
}

static void shun(struct table *table, struct query *query)
{
	turn_away(table, query, GUARD_SHUNNED, STR("breaker open"));
}

static bool refuse(struct table *table, struct query *query)
{
	const struct guard_state *state = table->state;
	if (!breaker_refuses(&state->breaker, table->turn->now_ms))
		return false;
	if (query)
		shun(table, query);
	return true;
}

static void ask(struct guarded *guarded)
{
	struct query *parent = guarded->parent;
	struct guard_state *state = parent->table->state;
	guarded->pass = breaker_enter(&state->breaker, parent->table->turn->now_ms);
	if (guarded->pass == BREAKER_REFUSED) {
		leave(parent->table);
		shun(parent->table, parent);
		return;
	}
	query_follow(&guarded->child, parent);
	if (!query_begin(&guarded->child, table_inner(parent->table), parent->ask, on_child))
		return;
	/* Answered at once: nobody was asked, so nothing is learnt. */
	breaker_left(&state->breaker, guarded->pass);
	finish(guarded, &guarded->child.answer);
}

static void on_timer(struct timer *timer)
{
	ask((struct guarded *)(void *)((char *)timer - offsetof(struct guarded, timer)));
}

static void start(struct query *query)
{
	struct table *table = query->table;
	if (refuse(table, query))
		return;
	if (!enter(table)) {
		turn_away(table, query, GUARD_REFUSED, STR("too many questions in flight"));
		return;
	}
	struct guarded *guarded = arena_alloc(query->mem, sizeof(*guarded));
	guarded->parent = query;
	query->work = guarded;
	ask(guarded);
}

/* A deadline that passed is the table's failure; an asker who left says nothing of it. */
static void cancel(struct query *query)
{
	struct guarded *guarded = query->work;
	struct guard_state *state = query->table->state;
	timer_clear(&guarded->timer);
	if (guarded->child.phase == Q_FINISHED)
		judge(guarded);
	else if (guarded->child.phase == Q_RUNNING) {
		if (query->table->turn->now_ms >= query->deadline)
			failed(guarded, STR("no answer in time"));
		else
			breaker_left(&state->breaker, guarded->pass);
	}
	query_cancel_child(&guarded->child, query);
	leave(query->table);
}

const struct backend backend_guard = {
	.name = "guard",
	.help = "spares a table that fails",
	.ops = CAN(OP_LOOKUP) | CAN(OP_ITERATE) | CAN(OP_CHANGE) | CAN(OP_POLICY) | CAN(OP_AUTH),
	.can_expire = true, /* if the table within can */
	.settings = settings,
	.conf_size = sizeof(struct guard_conf),
	.counters = counters,
	.gauges = 1u << GUARD_OPEN,
	.alarms = 1u << GUARD_OPEN,
	.wanted = wanted,
	.check = check,
	.drop = drop,
	.inherit = inherit,
	.open = open_table,
	.close = close_table,
	.start = start,
	.cancel = cancel,
	.refuse = refuse,
};
