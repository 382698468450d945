/* Tables over HTTP: templates for GET, POST and DELETE; status and JSON to answers. */
#include "url.h"

#include <stdlib.h>

#include "engine/worker.h"
#include "list.h"

static bool open_table(struct table *table, struct error *error)
{
	struct url_shared *shared = table->conf->shared;
	struct url_state *state = memory_new(sizeof(*state));
	(void)error;
	state->pool = http_pool_new(worker_http(table->worker), &shared->http);
	state->url.max = MAX_URL;
	table->state = state;
	if (table->before) /* unchanged, and so are its upstreams */
		for (size_t i = 0; i < shared->nupstreams; i++)
			state->breakers[i] = breaker_succeed(
				&((const struct url_state *)table->before->state)->breakers[i]);
	return true;
}

static void close_table(struct table *table)
{
	struct url_state *state = table->state;
	http_pool_free(state->pool);
	buf_free(&state->url);
	free(state);
}

/* ---- lookup ---- */

static void on_lookup(struct url_ask *ask)
{
	struct str value;
	const char *why;
	enum status status = url_read_value(ask, &value, &why);
	url_finish(ask, status, value, why);
}

static void start_lookup(struct query *query)
{
	struct url_ask *ask = arena_alloc(query->mem, sizeof(*ask));
	url_ask_init(ask, query, on_lookup);
	query->work = ask;
	if (!url_ask_start(ask))
		url_refuse_query(ask);
}

/* ---- policy ---- */

static struct str form_body(const struct pair *pairs, size_t n, struct arena *mem)
{
	struct buf form = {.max = SIZE_MAX / 2};
	for (size_t i = 0; i < n; i++) {
		if (i > 0)
			buf_add_char(&form, '&');
		template_encode(pairs[i].name, &form);
		buf_add_char(&form, '=');
		template_encode(pairs[i].value, &form);
	}
	struct str body = arena_str(mem, buf_str(&form));
	buf_free(&form);
	return body;
}

/* A text that is no JSON is the action itself, unless it looks like a page or like broken JSON. */
static enum status read_action(const struct url_ask *ask, struct str *action, const char **why)
{
	struct str text = str_trim(ask->fetch.body);
	if (ask->query->table->conf->options.value[0] || json_valid(text))
		return url_read_value(ask, action, why);
	enum status status = url_judge(ask, why);
	if (status != ST_OK)
		return status;
	*action = text;
	if (text.len > 0 && !strchr("{[\"<", text.ptr[0]) && url_is_one_line(text))
		return ST_OK;
	*why = arena_printf(ask->fetch.mem, "%s: the answer is no action", url_origin_of(ask)).ptr;
	return ST_TEMP;
}

static void on_action(struct url_ask *ask)
{
	struct str action = STR("");
	const char *why = NULL;
	enum status status = read_action(ask, &action, &why);
	url_finish(ask, status, action, why);
}

static void start_policy(struct query *query)
{
	const struct url_conf *conf = query->table->conf->conf;
	const struct question *question = query->ask;
	struct url_ask *ask = arena_alloc(query->mem, sizeof(*ask));
	bool json = conf->body == BODY_JSON;
	url_ask_init(ask, query, on_action);
	ask->is_prefix = true; /* there is no key */
	ask->fetch.method = "POST";
	ask->fetch.once = true; /* it may count what it sees */
	ask->fetch.content_type = json ? "application/json" : "application/x-www-form-urlencoded";
	ask->fetch.send = json ? json_object(question->attrs, question->nattrs, query->mem)
			       : form_body(question->attrs, question->nattrs, query->mem);
	query->work = ask;
	if (!url_ask_start(ask))
		query_perm(query, "the URL template needs a key");
}

static void start(struct query *query)
{
	switch (query->ask->op) {
	case OP_LOOKUP:
		start_lookup(query);
		break;
	case OP_ITERATE:
		url_start_iterate(query);
		break;
	case OP_CHANGE:
		url_start_change(query);
		break;
	case OP_AUTH:
		url_start_auth(query);
		break;
	default:
		start_policy(query);
		break;
	}
}

const struct backend backend_url = {
	.name = "url",
	.help = "asks an HTTP service: GET to read, POST and DELETE to write",
	.ops = CAN(OP_LOOKUP) | CAN(OP_ITERATE) | CAN(OP_CHANGE) | CAN(OP_POLICY) | CAN(OP_AUTH),
	.can_break = true,
	.settings = url_settings,
	.conf_size = sizeof(struct url_conf),
	.check = url_check,
	.drop = url_drop,
	.open = open_table,
	.close = close_table,
	.start = start,
	.cancel = url_cancel,
};
