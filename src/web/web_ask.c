/* Questions to tables over HTTP: lookups, listings, changes, counters, and what is to be forgotten. */
#include "web/web_routes.h"

#include "text/json.h"
#include "web/web_params.h"

/* Objects and lists as they are; everything else is a string, so that its type never hangs on what it
 * happens to look like. */
static void add_value(struct buf *out, struct str value)
{
	bool container = value.len > 0 && (value.ptr[0] == '{' || value.ptr[0] == '[');
	if (container && json_valid(value))
		buf_add(out, value);
	else
		json_add(out, value);
}

static int code_of(unsigned result)
{
	static const int codes[RESULT_COUNT] = {
		[ST_OK] = 200,
		[ST_NOTFOUND] = 404,
		[ST_TEMP] = 503,
		[ST_PERM] = 500,
		[RESULT_UNCERTAIN] = 500,
	};
	return codes[result];
}

/* The first row is who he is, as the table writes it; the others have names. */
static void add_login(struct buf *out, const struct answer *answer)
{
	bool first = true;
	for (size_t i = 0; i < answer->nrows; i++) {
		const struct pair *row = &answer->rows[i];
		if (row->name.len == 0) {
			buf_add(out, STR(",\"value\":"));
			add_value(out, row->value);
		}
	}
	buf_add(out, STR(",\"fields\":{"));
	for (size_t i = 0; i < answer->nrows; i++) {
		const struct pair *row = &answer->rows[i];
		if (row->name.len == 0)
			continue;
		if (!first)
			buf_add_char(out, ',');
		first = false;
		json_add(out, row->name);
		buf_add_char(out, ':');
		json_add(out, row->value);
	}
	buf_add_char(out, '}');
}

static void add_rows(struct buf *out, const struct answer *answer, bool values)
{
	buf_add(out, STR(",\"rows\":["));
	for (size_t i = 0; i < answer->nrows; i++) {
		buf_add(out, i > 0 ? STR(",{\"key\":") : STR("{\"key\":"));
		json_add(out, answer->rows[i].name);
		if (values) {
			buf_add(out, STR(",\"value\":"));
			add_value(out, answer->rows[i].value);
		}
		buf_add_char(out, '}');
	}
	buf_add_char(out, ']');
}

static void add_found(struct buf *out, const struct question *ask, const struct answer *answer)
{
	if (ask->op == OP_LOOKUP) {
		buf_add(out, STR(",\"value\":"));
		add_value(out, answer->rows[0].value);
	} else if (ask->op == OP_AUTH) {
		add_login(out, answer);
	} else if (ask->op == OP_ITERATE) {
		add_rows(out, answer, !(ask->flags & ITER_NO_VALUE));
	}
}

void web_say(struct web_request *request)
{
	const struct answer *answer = &request->query.answer;
	unsigned result = result_of(answer);
	struct buf out = {.max = PAGE_MAX};
	buf_printf(&out, "{\"status\":\"%s\"", result_name(result));
	if (result == ST_OK)
		add_found(&out, &request->ask, answer);
	if (result > ST_NOTFOUND || answer->why.len > 0) {
		buf_add(&out, STR(",\"reason\":"));
		json_add(&out, answer->why);
	}
	if (request->trace)
		web_trace(request->trace, &out);
	buf_add(&out, STR("}\n"));
	if (out.overflow) {
		buf_free(&out);
		web_answer(request, 503, JSON,
			STR("{\"status\":\"temp\",\"reason\":\"the answer is too long\"}\n"));
		return;
	}
	web_answer_buf(request, code_of(result), JSON, &out);
}

static void answered(struct web_request *request)
{
	query_count(&request->query, web_protocol(request));
	if (request->ask.op == OP_AUTH)
		web_judge(request);
	web_say(request);
}

static void on_answer(struct query *query)
{
	answered((
		struct web_request *)(void *)((char *)query - offsetof(struct web_request, query)));
}

void web_ask(struct web_request *request, struct table *table)
{
	request->query.mem = &request->mem;
	request->query.trace = request->trace;
	if (query_begin(&request->query, table, &request->ask, on_answer))
		answered(request);
}

/* A parameter of two words: false is the first, and what is meant without it. */
static bool choice(struct web_request *request, const char *name, const char *first,
	const char *second, bool *is_second)
{
	struct str word = str_of(first);
	if (!web_take_param(request, name, false, &word))
		return false;
	*is_second = str_eq(word, str_of(second));
	if (*is_second || str_eq(word, str_of(first)))
		return true;
	web_refuse(request, 400, "bad_parameter",
		arena_printf(
			&request->mem, "the parameter %s is neither %s nor %s", name, first, second)
			.ptr);
	return false;
}

struct table *web_read_table(struct web_request *request, const char *prefix)
{
	struct str raw = str_skip(request->path, strlen(prefix)), name;
	if (web_decode(raw, false, &request->mem, &name))
		return web_find_table(request, name);
	web_refuse(request, 400, "bad_path", "the path is malformed: a bad %XX, or a NUL");
	return NULL;
}

static struct table *read_question(struct web_request *request)
{
	struct question *ask = &request->ask;
	bool priv, text, trace;
	*ask = (struct question){.op = OP_LOOKUP};
	struct table *table = web_read_table(request, LOOKUP);
	if (!table || !web_take_param(request, "key", true, &ask->key) ||
		!web_take_param(request, "user", false, &ask->user) ||
		!choice(request, "scope", "shared", "priv", &priv) ||
		!choice(request, "form", "json", "text", &text) ||
		!choice(request, "trace", "0", "1", &trace))
		return NULL;
	if (trace)
		request->trace = trace_new();
	ask->scope = priv ? SCOPE_PRIV : SCOPE_SHARED;
	ask->form = text ? FORM_TEXT : FORM_JSON;
	return table;
}

static void ask_change(struct web_request *request, struct table *table, int kind, struct str value)
{
	struct question *question = &request->ask;
	request->change = (struct change){
		.kind = kind, .scope = question->scope, .key = question->key, .value = value};
	question->op = OP_CHANGE;
	question->key = STR("");
	question->changes = &request->change;
	question->nchanges = 1;
	web_ask(request, table);
}

static void write_one(struct web_request *request, int kind)
{
	struct table *table = read_question(request);
	if (table && str_has(request->body, '\0'))
		web_refuse(request, 400, "bad_body", "the value holds a NUL");
	else if (table)
		ask_change(request, table, kind, request->body);
}

void web_get_lookup(struct web_request *request)
{
	struct table *table = read_question(request);
	if (table)
		web_ask(request, table);
}

void web_put_lookup(struct web_request *request)
{
	write_one(request, CH_SET);
}

void web_delete_lookup(struct web_request *request)
{
	write_one(request, CH_UNSET);
}

/* Of a number; nothing is 0. */
static bool number(struct web_request *request, const char *name, uint64_t *n)
{
	struct str word = STR("0");
	if (!web_take_param(request, name, false, &word))
		return false;
	if (str_u64(word, n))
		return true;
	web_refuse(request, 400, "bad_parameter",
		arena_printf(&request->mem, "the parameter %s is no number", name).ptr);
	return false;
}

void web_get_iterate(struct web_request *request)
{
	struct question *question = &request->ask;
	bool priv, recurse, values, sorted;
	*question = (struct question){.op = OP_ITERATE, .form = FORM_JSON};
	struct table *table = web_read_table(request, ITERATE);
	if (!table || !web_take_param(request, "prefix", false, &question->key) ||
		!web_take_param(request, "user", false, &question->user) ||
		!choice(request, "scope", "shared", "priv", &priv) ||
		!choice(request, "recurse", "no", "yes", &recurse) ||
		!choice(request, "values", "no", "yes", &values) ||
		!choice(request, "sort", "no", "yes", &sorted) ||
		!number(request, "max_rows", &question->max_rows))
		return;
	question->scope = priv ? SCOPE_PRIV : SCOPE_SHARED;
	question->flags = (recurse ? ITER_RECURSE : 0) | (values ? 0 : ITER_NO_VALUE) |
			  (sorted ? ITER_SORT_KEY : 0);
	web_ask(request, table);
}

/* The counter of a ratelimit table. */
static struct table *read_counter(struct web_request *request)
{
	struct table *table = web_read_table(request, RATELIMIT);
	if (!table)
		return NULL; /* the request is gone */
	request->ask = (struct question){.op = OP_LOOKUP, .form = FORM_JSON};
	if (!web_take_param(request, "identity", true, &request->ask.key))
		return NULL;
	if (strcmp(table_core(table->conf)->backend->name, "ratelimit") == 0)
		return table;
	web_refuse(request, 404, "unknown_table",
		"the table has no counters; allowed: of type ratelimit");
	return NULL;
}

void web_get_ratelimit(struct web_request *request)
{
	struct table *table = read_counter(request);
	if (table)
		web_ask(request, table);
}

void web_delete_ratelimit(struct web_request *request)
{
	struct table *table = read_counter(request);
	if (table)
		ask_change(request, table, CH_UNSET, STR(""));
}

static void forget_all(const struct web_request *request)
{
	const struct table_set *set = web_tables(request);
	for (size_t i = 0; i < set->nnames; i++)
		if (listen_serves(web_conf(request), set->by_name[i]->conf))
			table_forget(set->by_name[i], NULL);
}

/* A key, a table, or with no parameter everything. */
void web_post_purge(struct web_request *request)
{
	struct str name = {0}, key = {0};
	if (!web_take_param(request, "key", false, &key) ||
		!web_take_param(request, "table", key.ptr != NULL, &name))
		return;
	const struct table *table = name.ptr ? web_find_table(request, name) : NULL;
	if (table)
		table_forget(table, key.ptr ? &key : NULL);
	else if (!name.ptr)
		forget_all(request);
	if (table || !name.ptr)
		web_answer(request, 200, JSON, STR("{\"status\":\"ok\"}\n"));
}
