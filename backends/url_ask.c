/* The url table: one request, its way through the upstreams, and what the reply means. */
#include "url.h"

#include <inttypes.h>

static const struct breaker_rules upstream_rules = {.failures = 1, .cooldown_ms = DOWN_MS};

/* The first that is not avoided, else the one whose turn comes first. */
static unsigned pick_upstream(
	const struct url_state *state, unsigned n, unsigned tried, uint64_t now)
{
	unsigned best = n;
	for (unsigned i = 0; i < n; i++) {
		unsigned at = (state->next + i) % n;
		if (tried & 1u << at)
			continue;
		if (!breaker_refuses(&state->breakers[at], now))
			return at;
		if (best == n || state->breakers[at].until_ms < state->breakers[best].until_ms)
			best = at;
	}
	return best;
}

/* Where there is no other upstream, there is nothing to avoid. */
static struct breaker *breaker_of(const struct url_ask *ask)
{
	struct url_state *state = ask->query->table->state;
	return url_shared_of(ask->query)->nupstreams > 1 ? &state->breakers[ask->upstream] : NULL;
}

static void upstream_failed(const struct url_ask *ask, const char *why)
{
	const struct table *table = ask->query->table;
	struct breaker *breaker = breaker_of(ask);
	if (breaker && breaker_failed(breaker, &upstream_rules, ask->pass, table->turn->now_ms))
		log_warn("table %s: upstream %s is avoided: %s", table->conf->name,
			url_origin_of(ask), why);
}

static void upstream_answered(const struct url_ask *ask)
{
	struct breaker *breaker = breaker_of(ask);
	if (breaker && breaker_succeeded(breaker))
		log_info("table %s: upstream %s answers again", ask->query->table->conf->name,
			url_origin_of(ask));
}

static struct template_values values_of(const struct url_ask *ask)
{
	const struct query *query = ask->query;
	bool priv = ask->scope == SCOPE_PRIV;
	return (struct template_values){
		.key = ask->key,
		.user = query->ask->user,
		.table = str_of(query->table->conf->name),
		.scope = priv ? STR("priv") : STR("shared"),
		.suffix = priv ? url_shared_of(query)->suffix : NULL,
		.is_prefix = ask->is_prefix,
	};
}

/* The URL for a trace: the template may hold tokens. */
static const char *show(const struct url_ask *ask)
{
	const struct template_values values = values_of(ask);
	struct buf url = {.max = MAX_URL};
	template_show(url_shared_of(ask->query)->upstreams[ask->upstream], &values, &url);
	const char *shown = arena_str(ask->fetch.mem, buf_str(&url)).ptr;
	buf_free(&url);
	return shown;
}

bool url_fill(const struct url_ask *ask, struct buf *url)
{
	const struct query *query = ask->query;
	const struct url_shared *shared = url_shared_of(query);
	const struct template_values values = values_of(ask);
	bool priv = ask->scope == SCOPE_PRIV;
	buf_reset(url);
	if (priv && query->ask->user.len == 0)
		return false;
	if (template_fill(shared->upstreams[ask->upstream], &values, url) != TEMPLATE_OK)
		return false;
	buf_add_char(url, '\0');
	return !url->overflow;
}

static void on_fetched(struct http_fetch *fetch);

/* To the next upstream. False when the key cannot go out. */
static bool ask_next(struct url_ask *ask)
{
	const struct query *query = ask->query;
	struct table *table = query->table;
	struct url_state *state = table->state;
	unsigned n = url_shared_of(ask->query)->nupstreams;
	ask->upstream = pick_upstream(state, n, ask->tried, table->turn->now_ms);
	ask->tried |= 1u << ask->upstream;
	if (!url_fill(ask, &state->url))
		return false;
	if (n > 1)
		ask->pass = breaker_enter(&state->breakers[ask->upstream], table->turn->now_ms);
	ask->fetch.url = state->url.ptr;
	ask->fetch.shown = query->trace ? show(ask) : NULL;
	http_start(state->pool, &ask->fetch);
	return true;
}

bool url_ask_start(struct url_ask *ask)
{
	const struct url_conf *conf = ask->query->table->conf->conf;
	struct url_state *state = ask->query->table->state;
	if (conf->balance == BALANCE_ROUND_ROBIN)
		state->next++;
	ask->tried = 0;
	return ask_next(ask);
}

void url_ask_init(struct url_ask *ask, struct query *query, void (*answered)(struct url_ask *))
{
	ask->fetch.mem = query->mem;
	ask->fetch.done = on_fetched;
	ask->fetch.asker = query;
	ask->fetch.method = "GET";
	ask->fetch.want_head = query->table->conf->wants_ttl;
	ask->fetch.once = query->table->conf->options.side_effects;
	ask->query = query;
	ask->answered = answered;
	ask->key = query->ask->key;
	ask->scope = query->ask->scope;
}

static void on_fetched(struct http_fetch *fetch)
{
	struct url_ask *ask =
		(struct url_ask *)(void *)((char *)fetch - offsetof(struct url_ask, fetch));
	unsigned n = url_shared_of(ask->query)->nupstreams;
	if (fetch->result == HTTP_REPLY || fetch->result == HTTP_TOO_LARGE) {
		upstream_answered(ask);
		ask->answered(ask);
		return;
	}
	upstream_failed(ask, fetch->why.ptr);
	bool again = fetch->result == HTTP_UNREACHABLE || !fetch->once;
	if (again && ask->tried != (unsigned)((UINT64_C(1) << n) - 1) && ask_next(ask))
		return;
	ask->answered(ask);
}

void url_ask_cancel(struct url_ask *ask)
{
	const struct query *query = ask->query;
	struct breaker *breaker = breaker_of(ask);
	if (!ask->fetch.pool)
		return;
	if (query->table->turn->now_ms >= query->deadline)
		upstream_failed(ask, "no answer in time");
	else if (breaker)
		breaker_left(breaker, ask->pass);
	http_cancel(&ask->fetch);
}

void url_cancel(struct query *query)
{
	for (struct url_ask *ask = query->work; ask; ask = ask->next)
		url_ask_cancel(ask);
	if (query->ask->op == OP_ITERATE)
		url_drop_iteration(query);
}

/* A rejected token makes all mail bounce, when that reads as not found. */
static void warn_refused(const struct url_ask *ask)
{
	unsigned held;
	if (log_allowed(&url_shared_of(ask->query)->refused, WARN_MS, &held))
		log_warn(
			"table %s: HTTP status %d of %s is taken as not found; is the token valid? "
			"The option status: {%d: temp} would keep the mail",
			ask->query->table->conf->name, ask->fetch.status, url_origin_of(ask),
			ask->fetch.status);
}

/* What the status says of the key. On ST_OK there is a body to read; otherwise *why. */
enum status url_judge(const struct url_ask *ask, const char **why)
{
	const struct http_fetch *fetch = &ask->fetch;
	const struct url_shared *shared = url_shared_of(ask->query);
	enum op op = ask->query->ask->op;
	const unsigned char *verdicts = op == OP_POLICY ? shared->policy_verdicts
					: op == OP_AUTH ? shared->auth_verdicts
							: shared->verdicts;
	bool known = fetch->status >= 0 && fetch->status < STATUS_MAX;
	*why = NULL;
	if (fetch->result != HTTP_REPLY) {
		*why = arena_printf(fetch->mem, "%s: %s", url_origin_of(ask), fetch->why.ptr).ptr;
		return ST_TEMP;
	}
	unsigned verdict = known ? verdicts[fetch->status] : VERDICT_TEMP;
	if (verdict == VERDICT_OK)
		return ST_OK;
	if (verdict == VERDICT_NOTFOUND) {
		if (op != OP_AUTH && (fetch->status == 401 || fetch->status == 403))
			warn_refused(ask);
		return ST_NOTFOUND;
	}
	*why = arena_printf(fetch->mem, "%s: HTTP status %d", url_origin_of(ask), fetch->status)
		       .ptr;
	return verdict == VERDICT_PERM ? ST_PERM : ST_TEMP;
}

struct json_rules url_rules(const struct query *query)
{
	const struct table_options *options = &query->table->conf->options;
	return (struct json_rules){
		.form = query->ask->form,
		.list_separator = str_of(options->list_separator),
		.pointer = options->value,
	};
}

/* What only the administrator can mend is told apart from the failures of the day. */
static void advise(const struct url_ask *ask, const char *why)
{
	unsigned held;
	if (log_allowed(&url_shared_of(ask->query)->advice, WARN_MS, &held))
		log_warn(
			"table %s: %s: %s", ask->query->table->conf->name, url_origin_of(ask), why);
}

/* The value in the reply to a lookup. */
enum status url_read_value(const struct url_ask *ask, struct str *value, const char **why)
{
	enum status status = url_judge(ask, why);
	if (status != ST_OK)
		return status;
	struct json_rules rules = url_rules(ask->query);
	status = json_value(ask->fetch.body, &rules, ask->fetch.mem, value, why);
	if (status == ST_TEMP && strstr(*why, "`value`"))
		advise(ask, *why);
	if (status == ST_TEMP)
		*why = arena_printf(ask->fetch.mem, "%s: %s", url_origin_of(ask), *why).ptr;
	return status;
}

/* Asking again may help, where nothing arrived or what arrived changes nothing. */
static bool is_broken(const struct url_ask *ask)
{
	return ask->fetch.result == HTTP_UNREACHABLE ||
	       (ask->fetch.result == HTTP_BROKEN && ask->query->ask->op != OP_POLICY);
}

void url_finish(const struct url_ask *ask, enum status status, struct str value, const char *why)
{
	struct url_fresh fresh = url_fresh_of(ask);
	struct answer answer = {.status = status, .ttl = fresh.ttl, .no_store = fresh.no_store};
	if (status == ST_OK) {
		struct pair *row = arena_alloc(ask->fetch.mem, sizeof(*row));
		row->value = value;
		answer.nrows = 1;
		answer.rows = row;
	} else if (status != ST_NOTFOUND) {
		answer.why = str_of(why);
		answer.broken = status == ST_TEMP && is_broken(ask);
	}
	query_finish(ask->query, &answer);
}

/* A key that does not go out: a reader is told that there is no such key, a writer that it is wrong.
 * Without a user there is no private key to speak of. The key itself is shown at debug only. */
void url_refuse(const struct url_ask *ask)
{
	struct query *query = ask->query;
	const struct table_conf *conf = query->table->conf;
	unsigned held;
	if (log_wants(LOG_LEVEL_DEBUG))
		log_event(LOG_LEVEL_DEBUG, "bad key",
			(struct pair[]){{STR("table"), str_of(conf->name)}, {STR("key"), ask->key}},
			2);
	else if (log_allowed(&url_shared_of(query)->bad_keys, WARN_MS, &held))
		log_info("table %s: a key that cannot stand in its URL was not asked for (%u lines "
			 "like this held back)",
			conf->name, held);
}

void url_refuse_query(const struct url_ask *ask)
{
	url_refuse(ask);
	if (ask->scope == SCOPE_PRIV && ask->query->ask->user.len == 0)
		query_perm(ask->query, "a private key without a user");
	else if (ask->query->ask->op == OP_CHANGE)
		query_perm(ask->query, "a key that cannot stand in its URL");
	else
		query_notfound(ask->query);
}
