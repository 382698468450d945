/* Rate limits for policy requests: so many messages, or recipients, of an identity within so long. */
#include "ratelimit.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/buf.h"
#include "engine/worker.h"
#include "limits.h"
#include "list.h"
#include "model/mail.h"
#include "model/policy_action.h"
#include "text/json.h"

enum {
	MAX_IDENTITY = 512, /* bytes; of a longer one only these count */
	MAX_WEIGHT = 10000, /* recipients of one message */
	COMPLAINT_MS = 1000,
	MAX_COUNTER = 1 << 16, /* bytes of a counter as JSON */
};

enum { WEIGHT_MESSAGES, WEIGHT_RECIPIENTS };

static const char *const weight_choices[] = {"messages", "recipients", NULL};

static bool names_table(struct str text)
{
	return !limits_are(text);
}

#define AT(member) .offset = offsetof(struct ratelimit_conf, member)

static const struct setting settings[] = {
	{.name = "param",
		.kind = SET_STR,
		AT(param),
		.names_table = names_table,
		.tables_offset = offsetof(struct ratelimit_conf, tables),
		.help = "limits, as in 100/h 1000/d 10/5m, or the name of a table that answers "
			"them for each identity"},
	{.name = "identity",
		.kind = SET_LIST,
		AT(identity),
		.fallback = "",
		.help = "attributes of the request: the first that is not empty says who it is; "
			"also sender_domain; default: sasl_username sender"},
	{.name = "recipient_delimiter",
		.kind = SET_STR,
		AT(recipient_delimiter),
		.fallback = "",
		.help = "characters that begin an extension, which does not make another identity"},
	{.name = "weight",
		.kind = SET_CHOICE,
		AT(weight),
		.fallback = "messages",
		.choices = weight_choices,
		.help = "what is counted"},
	{.name = "states",
		.kind = SET_LIST,
		AT(states),
		.fallback = "",
		.help = "protocol states in which it counts, and in others it has no opinion; "
			"default: END-OF-MESSAGE"},
	{.name = "on_exceed",
		.kind = SET_STR,
		AT(on_exceed),
		.fallback = "REJECT Rate limit exceeded, please try again later",
		.help = "the action beyond a limit"},
	{.name = "on_error",
		.kind = SET_STR,
		AT(on_error),
		.fallback = "DUNNO",
		.help = "the action when limits or counters cannot be had"},
	{.name = "count_rejected",
		.kind = SET_BOOL,
		AT(count_rejected),
		.fallback = "no",
		.help = "whether what was rejected counts as well, so that who goes on stays out"},
	{.name = "store",
		.kind = SET_STR,
		AT(store),
		.fallback = "",
		.help = "redis://... or redis+unix:...: counters that last and are shared; "
			"default: in memory"},
	{.name = "password",
		.kind = SET_SECRET,
		AT(password),
		.fallback = "",
		.help = "of the store, instead of one in its URL"},
	{.name = "key_prefix",
		.kind = SET_STR,
		AT(key_prefix),
		.fallback = "userli:ratelimit:sender:",
		.help = "what stands before the identity in the store's keys"},
	{.name = "max_identities",
		.kind = SET_INT,
		AT(max_identities),
		.fallback = "100000",
		.min = 100,
		.max = 100000000,
		.help = "how many are remembered in memory"},
	{.name = NULL},
};

/* ---- checking ---- */

static void drop(struct table_conf *table)
{
	struct ratelimit_shared *shared = table->shared;
	if (!shared)
		return;
	windows_release(shared->windows);
	arena_clear(&shared->mem);
	free(shared);
	table->shared = NULL;
}

static bool check_limits(struct table_conf *table, struct error *error)
{
	const struct ratelimit_conf *conf = table->conf;
	struct ratelimit_shared *shared = table->shared;
	if (conf->tables.n > 1)
		return error_set(error, "param: names more than one table");
	if (conf->tables.n == 1)
		return (conf->tables.tables[0]->ops & CAN(OP_LOOKUP)) ||
		       error_set(error, "param: the table \"%s\" answers no lookups",
			       conf->tables.tables[0]->name);
	if (!limits_parse(str_of(conf->param), &shared->rules, error))
		return error_prefix(error, "param");
	return shared->rules.n > 0 ||
	       error_set(error,
		       "param: holds no limit; allowed: such as 100/h 1000/d, or the name of "
		       "a table");
}

static struct setting_list list_of(struct arena *mem, const char *words)
{
	struct setting_list list = {.items = arena_alloc(mem, 3 * sizeof(*list.items))};
	struct str rest = str_of(words);
	while (str_word(&rest, &list.items[list.n]))
		list.n++;
	return list;
}

/* A misspelt state would be one in which nothing is ever counted. */
static bool check_states(const struct setting_list *states, struct error *error)
{
	static const char all[] = "CONNECT HELO EHLO MAIL RCPT DATA END-OF-MESSAGE VRFY ETRN";
	for (size_t i = 0; i < states->n; i++)
		if (!str_is_among(states->items[i], STR(all)))
			return error_set(error,
				"states: \"%.*s\" is no protocol state of Postfix; allowed: %s",
				(int)states->items[i].len, states->items[i].ptr, all);
	return true;
}

static void warn_of_identity(const struct table_conf *table, const struct setting_list *identity)
{
	for (size_t i = 0; i < identity->n; i++)
		if (!policy_sends(identity->items[i]) &&
			!str_eq(identity->items[i], STR("sender_domain")))
			log_warn("%s: identity: Postfix sends no attribute \"%.*s\"; without it "
				 "the next one counts, or nothing",
				table->where, (int)identity->items[i].len, identity->items[i].ptr);
}

static bool check_all(struct table_conf *table, struct error *error)
{
	struct ratelimit_conf *conf = table->conf;
	struct ratelimit_shared *shared = table->shared;
	if (conf->identity.n == 0)
		conf->identity = list_of(&shared->mem, "sasl_username sender");
	if (conf->states.n == 0)
		conf->states = list_of(&shared->mem, "END-OF-MESSAGE");
	warn_of_identity(table, &conf->identity);
	if (!check_states(&conf->states, error) ||
		!policy_action_check("on_exceed", conf->on_exceed, error) ||
		!policy_action_check("on_error", conf->on_error, error) ||
		!check_limits(table, error))
		return false;
	if (conf->store[0])
		return ratelimit_redis_check(table, error);
	shared->windows = windows_new((size_t)conf->max_identities);
	return true;
}

static bool check(struct table_conf *table, struct error *error)
{
	table->shared = memory_new(sizeof(struct ratelimit_shared));
	if (check_all(table, error))
		return true;
	drop(table);
	return false;
}

/* The counters go on, whatever the limits have become. */
static void inherit(struct table_conf *now, const struct table_conf *before)
{
	const struct ratelimit_shared *from = before->shared;
	struct ratelimit_shared *to = now->shared;
	if (!from->windows || !to->windows)
		return;
	windows_release(to->windows);
	to->windows = windows_keep(from->windows);
}

static bool open_table(struct table *table, struct error *error)
{
	const struct ratelimit_shared *shared = table->conf->shared;
	(void)error;
	if (!shared->windows)
		table->state = redis_new(worker_base(table->worker), table->turn, &shared->redis);
	return true;
}

static void close_table(struct table *table)
{
	if (table->state)
		redis_free(table->state);
}

/* ---- who, and how much ---- */

static const struct ratelimit_conf *conf_of(const struct query *query)
{
	return query->table->conf->conf;
}

static const struct ratelimit_shared *shared_of(const struct query *query)
{
	return query->table->conf->shared;
}

/* Empty when the request has none of that name. */
static struct str attribute(const struct question *ask, struct str name)
{
	const struct pair *attr = pair_find(ask->attrs, ask->nattrs, name);
	return attr ? attr->value : STR("");
}

/* So that neither small letters nor extensions make somebody else of him. */
static struct str normalise(const struct query *query, struct str who)
{
	who = mail_identity(who, conf_of(query)->recipient_delimiter, query->mem);
	if (who.len > MAX_IDENTITY)
		who.len = MAX_IDENTITY;
	return who;
}

static struct str identity_of(const struct query *query)
{
	const struct setting_list *names = &conf_of(query)->identity;
	struct str who = STR(""), local, domain;
	for (size_t i = 0; i < names->n && who.len == 0; i++) {
		if (!str_eq(names->items[i], STR("sender_domain")))
			who = attribute(query->ask, names->items[i]);
		else if (mail_split(attribute(query->ask, STR("sender")), &local, &domain))
			who = domain;
	}
	return normalise(query, who);
}

static bool is_state(const struct query *query)
{
	const struct setting_list *states = &conf_of(query)->states;
	struct str state = attribute(query->ask, STR("protocol_state"));
	for (size_t i = 0; i < states->n; i++)
		if (str_eq(states->items[i], state))
			return true;
	return false;
}

/* Before the end of the message Postfix asks once for each recipient, and tells no number. */
static uint64_t weight_of(const struct query *query)
{
	uint64_t n;
	if (conf_of(query)->weight == WEIGHT_MESSAGES ||
		!str_u64(attribute(query->ask, STR("recipient_count")), &n) || n == 0)
		return 1;
	return n < MAX_WEIGHT ? n : MAX_WEIGHT;
}

/* ---- answers ---- */

static void complain(const struct query *query, struct str why)
{
	unsigned held;
	if (log_allowed(&query->table->complaints, COMPLAINT_MS, &held))
		log_event(LOG_LEVEL_WARN, "rate limit unknown",
			(struct pair[]){{STR("table"), str_of(query->table->conf->name)},
				{STR("why"), why}},
			2);
}

static void act(struct query *query, const char *action)
{
	if (strcmp(action, "DUNNO") == 0)
		query_notfound(query);
	else
		query_ok(query, str_of(action));
}

static void answer_policy(struct count *count)
{
	struct query *query = count->parent;
	if (count->failed.len > 0) {
		table_count(query->table, RATELIMIT_ERRORS);
		complain(query, count->failed);
		act(query, conf_of(query)->on_error);
	} else if (count->passed >= 0) {
		table_count(query->table, RATELIMIT_EXCEEDED);
		act(query, conf_of(query)->on_exceed);
	} else {
		table_count(query->table, RATELIMIT_ALLOWED);
		query_notfound(query);
	}
}

static void print_use(struct buf *out, const struct window_limit *limit,
	const struct window_use *use, uint64_t now)
{
	uint64_t left = use->used < limit->most ? limit->most - use->used : 0;
	uint64_t wait = use->used > 0 && use->free_ms > now ? use->free_ms - now : 0;
	buf_printf(out,
		"{\"most\":%" PRIu64 ",\"seconds\":%" PRIu64 ",\"used\":%" PRIu64
		",\"left\":%" PRIu64 ",\"next_free\":%" PRIu64 "}",
		limit->most, limit->ms / 1000, use->used, left, (wait + 999) / 1000);
}

/* The counter of an identity, as JSON. */
static void answer_look(struct count *count)
{
	struct query *query = count->parent;
	struct buf out = {.max = MAX_COUNTER};
	if (count->failed.len > 0) {
		query_temp(query, "%s", count->failed.ptr);
		return;
	}
	buf_add(&out, STR("{\"identity\":"));
	json_add(&out, count->identity);
	buf_add(&out, STR(",\"limits\":["));
	for (size_t i = 0; i < count->rules.n; i++) {
		if (i > 0)
			buf_add_char(&out, ',');
		print_use(
			&out, &count->rules.limits[i], &count->uses[i], query->table->turn->now_ms);
	}
	buf_add(&out, STR("]}"));
	query_ok(query, arena_str(query->mem, buf_str(&out)));
	buf_free(&out);
}

static void answer(struct count *count)
{
	if (count->parent->ask->op == OP_POLICY)
		answer_policy(count);
	else
		answer_look(count);
}

/* ---- limits, then counters ---- */

static void count_in_memory(struct count *count)
{
	struct query *query = count->parent;
	struct windows *windows = shared_of(query)->windows;
	uint64_t now = query->table->turn->now_ms;
	if (count->n > 0)
		count->passed = windows_count(windows, count->identity, &count->rules, count->n,
			conf_of(query)->count_rejected, now);
	else
		windows_look(windows, count->identity, &count->rules, now, count->uses);
	answer(count);
}

/* The limits are known. */
static void go_on(struct count *count)
{
	if (count->failed.len > 0 || (count->rules.n == 0 && count->n > 0))
		answer(count);
	else if (shared_of(count->parent)->windows)
		count_in_memory(count);
	else
		ratelimit_redis_count(count, answer);
}

/* Whom the table does not know has no limits of his own. */
static void take_limits(struct count *count)
{
	const struct answer *limits = &count->child.answer;
	struct arena *mem = count->parent->mem;
	struct error error;
	if (limits->status == ST_TEMP || limits->status == ST_PERM)
		count->failed = arena_printf(mem, "limits: %.*s", (int)limits->why.len,
			limits->why.ptr ? limits->why.ptr : "");
	else if (limits->status == ST_OK &&
		 !limits_read(limits->rows[0].value, &count->rules, mem, &error))
		count->failed = arena_printf(mem, "limits: %s", error.text);
	go_on(count);
}

static void on_limits(struct query *child)
{
	struct count *count =
		(struct count *)(void *)((char *)child - offsetof(struct count, child));
	timer_clear(&count->late);
	take_limits(count);
}

/* An asker who allows less than the table's timeout cancels by himself (query_expire()). */
static void on_late(struct timer *timer)
{
	struct count *count =
		(struct count *)(void *)((char *)timer - offsetof(struct count, late));
	query_cancel(&count->child);
	count->child.answer =
		(struct answer){.status = ST_TEMP, .why = STR("no answer in half of the time")};
	take_limits(count);
}

/* The limits get half of the time that there is: who fails to answer in it leads to on_error, while who uses
 * up all of it would make this question fail as a whole. */
static uint64_t deadline_of_limits(const struct query *query)
{
	uint64_t now = query->table->turn->now_ms;
	return query->deadline > now ? now + (query->deadline - now) / 2 : query->deadline;
}

static void ask_limits(struct count *count)
{
	struct query *query = count->parent;
	const struct table_list *tables = &conf_of(query)->tables;
	count->child_ask =
		(struct question){.op = OP_LOOKUP, .form = FORM_JSON, .key = count->identity};
	query_follow(&count->child, query);
	count->child.deadline = deadline_of_limits(query);
	if (query_begin(&count->child, table_of(query->table, tables->tables[0]), &count->child_ask,
		    on_limits))
		take_limits(count);
	else
		timer_set(query->table->turn->timers, &count->late, count->child.deadline, on_late);
}

static void begin(struct query *query, struct str identity, uint64_t n)
{
	struct count *count = arena_alloc(query->mem, sizeof(*count));
	count->parent = query;
	count->identity = identity;
	count->n = n;
	count->passed = -1;
	query->work = count;
	if (conf_of(query)->tables.n > 0) {
		ask_limits(count);
		return;
	}
	count->rules = shared_of(query)->rules;
	go_on(count);
}

static void start_policy(struct query *query)
{
	struct str identity = is_state(query) ? identity_of(query) : STR("");
	if (identity.len == 0)
		query_notfound(query);
	else
		begin(query, identity, weight_of(query));
}

/* ---- reset ---- */

static void on_reset(struct count *count)
{
	if (count->failed.len > 0)
		query_temp(count->parent, "%s", count->failed.ptr);
	else
		query_finish(count->parent, &(struct answer){.status = ST_OK});
}

static void start_change(struct query *query)
{
	const struct question *ask = query->ask;
	struct windows *windows = shared_of(query)->windows;
	if (ask->nchanges != 1 || ask->changes[0].kind != CH_UNSET) {
		query_perm(query, "a counter can only be reset: one unset");
		return;
	}
	struct str identity = normalise(query, ask->changes[0].key);
	if (windows) {
		windows_forget(windows, identity);
		query_finish(query, &(struct answer){.status = ST_OK});
		return;
	}
	struct count *count = arena_alloc(query->mem, sizeof(*count));
	count->parent = query;
	count->identity = identity;
	query->work = count;
	ratelimit_redis_reset(count, on_reset);
}

static void start(struct query *query)
{
	if (query->ask->op == OP_POLICY)
		start_policy(query);
	else if (query->ask->op == OP_LOOKUP)
		begin(query, normalise(query, query->ask->key), 0);
	else
		start_change(query);
}

static void cancel(struct query *query)
{
	struct count *count = query->work;
	timer_clear(&count->late);
	query_cancel_child(&count->child, query);
	redis_cancel(&count->redis);
}

static uint64_t measure(const struct table_conf *table, unsigned gauge)
{
	const struct ratelimit_shared *shared = table->shared;
	assert(gauge == RATELIMIT_IDENTITIES);
	return shared->windows ? windows_size(shared->windows) : 0;
}

static const char *const counters[] = {
	[RATELIMIT_ALLOWED] = "allowed",
	[RATELIMIT_EXCEEDED] = "exceeded",
	[RATELIMIT_ERRORS] = "errors",
	[RATELIMIT_IDENTITIES] = "identities",
	NULL,
};

const struct backend backend_ratelimit = {
	.name = "ratelimit",
	.help = "policy: so many messages or recipients of an identity, and no more",
	.ops = CAN(OP_POLICY) | CAN(OP_LOOKUP) | CAN(OP_CHANGE),
	.has_effects = true,
	.settings = settings,
	.conf_size = sizeof(struct ratelimit_conf),
	.check = check,
	.drop = drop,
	.inherit = inherit,
	.open = open_table,
	.close = close_table,
	.start = start,
	.cancel = cancel,
	.counters = counters,
	.gauges = 1u << RATELIMIT_IDENTITIES,
	.measure = measure,
};
