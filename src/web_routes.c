/* What an http listener answers: which path, which method, which of mapmux's words. */
#include <stddef.h>

#include "front_http.h"
#include "json.h"
#include "web_params.h"
#include "web_request.h"
#include "web_text.h"

#define JSON "application/json"
#define TEXT "text/plain; charset=utf-8"
#define PROMETHEUS "text/plain; version=0.0.4; charset=utf-8"
#define LOOKUP "/v1/lookup/"
#define RATELIMIT "/v1/ratelimit/"
#define AUTH "/v1/auth/"
#define ITERATE "/v1/iterate/"

enum {
	SURVEY_MS = 1000,     /* a worker that takes longer does not turn */
	PAGE_MAX = 256 << 20, /* bytes: beyond all tables that one may have */
};

/* ---- words ---- */

/* {"status":STATUS,"reason":WHY}; it was the client's mistake. */
static void refuse(struct web_request *request, int code, const char *counted, const char *why)
{
	struct str quoted;
	json_quote(str_of(why), &request->mem, &quoted);
	errors_add(&worker_stats(web_worker(request))->errors, "http", counted, 1);
	web_answer(request, code, JSON,
		arena_printf(&request->mem, "{\"status\":\"error\",\"reason\":%s}\n", quoted.ptr));
}

static void answer_buf(struct web_request *request, int code, const char *type, struct buf *out)
{
	struct str text = arena_str(&request->mem, buf_str(out));
	buf_free(out);
	web_answer(request, code, type, text);
}

/* A parameter of the request; false: it is not as it has to be, and that was answered. */
static bool param(struct web_request *request, const char *name, bool needed, struct str *value)
{
	enum web_found found = web_param(request->params, name, &request->mem, value);
	if (found == WEB_FOUND || (found == WEB_ABSENT && !needed))
		return true;
	const char *what = found == WEB_ABSENT ? "is missing"
					       : "is malformed: a bad %XX, a NUL, or given twice";
	refuse(request, 400, "bad_parameter",
		arena_printf(&request->mem, "the parameter %s %s", name, what).ptr);
	return false;
}

static struct table *find_table(struct web_request *request, struct str name)
{
	struct table *table = table_set_find(web_tables(request), name);
	if (!table)
		refuse(request, 404, "unknown_table", "unknown table");
	return table;
}

/* ---- figures ---- */

static void end_survey(struct web_request *request)
{
	timer_clear(&request->timer);
	if (request->survey)
		survey_forget(request->survey);
	request->survey = NULL;
}

static void on_survey(struct survey *survey)
{
	struct web_request *request = survey->arg;
	request->survey = NULL;
	end_survey(request);
	request->surveyed(request, survey);
}

static void on_late(struct timer *timer)
{
	struct web_request *request =
		(struct web_request *)(void *)((char *)timer - offsetof(struct web_request, timer));
	end_survey(request);
	request->surveyed(request, NULL);
}

static void survey(
	struct web_request *request, void (*surveyed)(struct web_request *, const struct survey *))
{
	struct turn *turn = worker_turn(web_worker(request));
	request->surveyed = surveyed;
	request->survey = survey_start(web_crew(request), web_worker(request), on_survey, request);
	timer_set(turn->timers, &request->timer, turn->now_ms + SURVEY_MS, on_late);
}

static void say_late(struct web_request *request)
{
	web_answer(request, 503, JSON,
		STR("{\"status\":\"error\",\"reason\":\"a worker does not turn\"}\n"));
}

static void on_metrics(struct web_request *request, const struct survey *survey)
{
	struct buf out = {.max = PAGE_MAX};
	if (!survey) {
		say_late(request);
		return;
	}
	web_metrics(survey, &out);
	answer_buf(request, 200, PROMETHEUS, &out);
}

static void on_stats(struct web_request *request, const struct survey *survey)
{
	struct buf out = {.max = PAGE_MAX};
	if (!survey) {
		say_late(request);
		return;
	}
	web_stats(survey, &out);
	answer_buf(request, 200, JSON, &out);
}

static void on_health(struct web_request *request, const struct survey *survey)
{
	if (survey)
		web_answer(request, 200, JSON, STR("{\"status\":\"ok\"}\n"));
	else
		say_late(request);
}

static void on_ready(struct web_request *request, const struct survey *survey)
{
	struct buf out = {.max = PAGE_MAX};
	if (!survey) {
		say_late(request);
		return;
	}
	bool failing = web_failing(survey, &out);
	struct str tables = arena_str(&request->mem, buf_str(&out));
	buf_free(&out);
	web_answer(request, failing ? 503 : 200, JSON,
		arena_printf(&request->mem, "{\"status\":\"%s\",%s}\n", failing ? "failing" : "ok",
			tables.ptr));
}

static void get_metrics(struct web_request *request)
{
	survey(request, on_metrics);
}

static void get_stats(struct web_request *request)
{
	survey(request, on_stats);
}

static void get_health(struct web_request *request)
{
	survey(request, on_health);
}

static void get_ready(struct web_request *request)
{
	survey(request, on_ready);
}

static void get_tables(struct web_request *request)
{
	struct buf out = {.max = PAGE_MAX};
	web_tables_list(web_tables(request), &out);
	answer_buf(request, 200, JSON, &out);
}

static void get_index(struct web_request *request)
{
	web_answer(request, 200, TEXT,
		STR("mapmux " MAPMUX_VERSION "\n\n"
		    "GET    /metrics                          for Prometheus\n"
		    "GET    /health                           200 while all loops turn\n"
		    "GET    /ready                            503 with the tables that fail\n"
		    "GET    /v1/tables                        what can be asked\n"
		    "GET    /v1/stats                         the figures, as JSON\n"
		    "GET    /v1/lookup/TABLE?key=K[&user=U]   ask\n"
		    "PUT    /v1/lookup/TABLE?key=K[&user=U]   write the body\n"
		    "DELETE /v1/lookup/TABLE?key=K[&user=U]   remove\n"
		    "GET    /v1/iterate/TABLE?prefix=P        list\n"
		    "POST   /v1/auth/TABLE                    verify a password: user and password "
		    "as JSON\n"
		    "GET    /v1/ratelimit/TABLE?identity=I    show a counter\n"
		    "DELETE /v1/ratelimit/TABLE?identity=I    reset it\n"
		    "POST   /v1/cache/purge[?table=T[&key=K]] forget what is kept\n"));
}

/* ---- questions ---- */

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

static void answered(struct web_request *request)
{
	const struct answer *answer = &request->query.answer;
	unsigned result = result_of(answer);
	struct buf out = {.max = PAGE_MAX};
	query_count(&request->query, web_protocol(request));
	buf_printf(&out, "{\"status\":\"%s\"", result_name(result));
	if (result == ST_OK)
		add_found(&out, &request->ask, answer);
	if (result > ST_NOTFOUND || answer->why.len > 0) {
		buf_add(&out, STR(",\"reason\":"));
		json_add(&out, answer->why);
	}
	buf_add(&out, STR("}\n"));
	if (out.overflow) {
		buf_free(&out);
		web_answer(request, 503, JSON,
			STR("{\"status\":\"temp\",\"reason\":\"the answer is too long\"}\n"));
		return;
	}
	answer_buf(request, code_of(result), JSON, &out);
}

static void on_answer(struct query *query)
{
	answered((
		struct web_request *)(void *)((char *)query - offsetof(struct web_request, query)));
}

static void ask(struct web_request *request, struct table *table)
{
	request->query.mem = &request->mem;
	if (query_begin(&request->query, table, &request->ask, on_answer))
		answered(request);
}

/* A parameter of two words: false is the first, and what is meant without it. */
static bool choice(struct web_request *request, const char *name, const char *first,
	const char *second, bool *is_second)
{
	struct str word = str_of(first);
	if (!param(request, name, false, &word))
		return false;
	*is_second = str_eq(word, str_of(second));
	if (*is_second || str_eq(word, str_of(first)))
		return true;
	refuse(request, 400, "bad_parameter",
		arena_printf(
			&request->mem, "the parameter %s is neither %s nor %s", name, first, second)
			.ptr);
	return false;
}

/* The table's name is all that stands behind the prefix; NULL: it has been answered. */
static struct table *read_table(struct web_request *request, const char *prefix)
{
	struct str raw = str_skip(request->path, strlen(prefix)), name;
	if (web_decode(raw, false, &request->mem, &name))
		return find_table(request, name);
	refuse(request, 400, "bad_path", "the path is malformed: a bad %XX, or a NUL");
	return NULL;
}

static struct table *read_question(struct web_request *request)
{
	struct question *ask = &request->ask;
	bool priv, text;
	*ask = (struct question){.op = OP_LOOKUP};
	struct table *table = read_table(request, LOOKUP);
	if (!table || !param(request, "key", true, &ask->key) ||
		!param(request, "user", false, &ask->user) ||
		!choice(request, "scope", "shared", "priv", &priv) ||
		!choice(request, "form", "json", "text", &text))
		return NULL;
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
	ask(request, table);
}

static void write_one(struct web_request *request, int kind)
{
	struct table *table = read_question(request);
	if (table && str_has(request->body, '\0'))
		refuse(request, 400, "bad_body", "the value holds a NUL");
	else if (table)
		ask_change(request, table, kind, request->body);
}

static void get_lookup(struct web_request *request)
{
	struct table *table = read_question(request);
	if (table)
		ask(request, table);
}

static void put_lookup(struct web_request *request)
{
	write_one(request, CH_SET);
}

static void delete_lookup(struct web_request *request)
{
	write_one(request, CH_UNSET);
}

/* Of a number; nothing is 0. */
static bool number(struct web_request *request, const char *name, uint64_t *n)
{
	struct str word = STR("0");
	if (!param(request, name, false, &word))
		return false;
	if (str_u64(word, n))
		return true;
	refuse(request, 400, "bad_parameter",
		arena_printf(&request->mem, "the parameter %s is no number", name).ptr);
	return false;
}

static void get_iterate(struct web_request *request)
{
	struct question *question = &request->ask;
	bool priv, recurse, values, sorted;
	*question = (struct question){.op = OP_ITERATE, .form = FORM_JSON};
	struct table *table = read_table(request, ITERATE);
	if (!table || !param(request, "prefix", false, &question->key) ||
		!param(request, "user", false, &question->user) ||
		!choice(request, "scope", "shared", "priv", &priv) ||
		!choice(request, "recurse", "no", "yes", &recurse) ||
		!choice(request, "values", "no", "yes", &values) ||
		!choice(request, "sort", "no", "yes", &sorted) ||
		!number(request, "max_rows", &question->max_rows))
		return;
	question->scope = priv ? SCOPE_PRIV : SCOPE_SHARED;
	question->flags = (recurse ? ITER_RECURSE : 0) | (values ? 0 : ITER_NO_VALUE) |
			  (sorted ? ITER_SORT_KEY : 0);
	ask(request, table);
}

/* The members of the body are attributes of the request; without `user` and `password` it is none. */
static bool read_login(struct web_request *request)
{
	static const struct json_rules rules = {
		.form = FORM_JSON, .list_separator = {",", 1}, .pointer = ""};
	struct pair *attrs;
	size_t n;
	bool only_names;
	const char *why;
	if (!json_rows(request->body, &rules, &request->mem, &attrs, &n, &only_names, &why) ||
		only_names)
		return false;
	const struct pair *user = pair_find(attrs, n, STR("user"));
	request->ask.key = user ? user->value : STR("");
	request->ask.attrs = attrs;
	request->ask.nattrs = n;
	return request->ask.key.len > 0 && pair_find(attrs, n, STR("password"));
}

static void post_auth(struct web_request *request)
{
	request->ask = (struct question){.op = OP_AUTH, .form = FORM_JSON};
	request->mem.wipe = true;
	struct table *table = read_table(request, AUTH);
	if (table && read_login(request))
		ask(request, table);
	else if (table)
		refuse(request, 400, "bad_body",
			"the body is no JSON object with a user and a password");
}

/* The counter of a ratelimit table. */
static struct table *read_counter(struct web_request *request)
{
	struct table *table = read_table(request, RATELIMIT);
	if (!table)
		return NULL; /* the request is gone */
	request->ask = (struct question){.op = OP_LOOKUP, .form = FORM_JSON};
	if (!param(request, "identity", true, &request->ask.key))
		return NULL;
	if (strcmp(table_core(table->conf)->backend->name, "ratelimit") == 0)
		return table;
	refuse(request, 404, "unknown_table",
		"the table has no counters; allowed: of type ratelimit");
	return NULL;
}

static void get_ratelimit(struct web_request *request)
{
	struct table *table = read_counter(request);
	if (table)
		ask(request, table);
}

static void delete_ratelimit(struct web_request *request)
{
	struct table *table = read_counter(request);
	if (table)
		ask_change(request, table, CH_UNSET, STR(""));
}

static void forget_all(const struct table_set *set)
{
	for (size_t i = 0; i < set->nnames; i++)
		table_forget(set->by_name[i], NULL);
}

/* A key, a table, or with no parameter everything. */
static void post_purge(struct web_request *request)
{
	struct str name = {0}, key = {0};
	if (!param(request, "key", false, &key) || !param(request, "table", key.ptr != NULL, &name))
		return;
	const struct table *table = name.ptr ? find_table(request, name) : NULL;
	if (table)
		table_forget(table, key.ptr ? &key : NULL);
	else if (!name.ptr)
		forget_all(web_tables(request));
	if (table || !name.ptr)
		web_answer(request, 200, JSON, STR("{\"status\":\"ok\"}\n"));
}

/* ---- routes ---- */

static const struct route {
	const char *path; /* one that ends in '/' stands for all that begin with it, but "/" */
	enum web_method method;
	const char *name;
	void (*serve)(struct web_request *);
} routes[] = {
	{"/", WEB_GET, "GET", get_index},
	{"/metrics", WEB_GET, "GET", get_metrics},
	{"/health", WEB_GET, "GET", get_health},
	{"/ready", WEB_GET, "GET", get_ready},
	{"/v1/tables", WEB_GET, "GET", get_tables},
	{"/v1/stats", WEB_GET, "GET", get_stats},
	{LOOKUP, WEB_GET, "GET", get_lookup},
	{LOOKUP, WEB_PUT, "PUT", put_lookup},
	{LOOKUP, WEB_DELETE, "DELETE", delete_lookup},
	{ITERATE, WEB_GET, "GET", get_iterate},
	{AUTH, WEB_POST, "POST", post_auth},
	{RATELIMIT, WEB_GET, "GET", get_ratelimit},
	{RATELIMIT, WEB_DELETE, "DELETE", delete_ratelimit},
	{"/v1/cache/purge", WEB_POST, "POST", post_purge},
};

static bool matches(const struct route *route, struct str path)
{
	struct str prefix = str_of(route->path);
	if (prefix.len > 1 && prefix.ptr[prefix.len - 1] == '/')
		return path.len > prefix.len && str_starts(path, prefix);
	return str_eq(path, prefix);
}

static bool knows_token(const struct web_request *request)
{
	const struct http_conf *conf = web_conf(request)->conf;
	return conf->token[0] == '\0' || str_eq_secret(str_of(conf->token), request->token);
}

void web_route(struct web_request *request)
{
	struct str allow = {"", 0};
	if (!knows_token(request)) {
		refuse(request, 401, "bad_token", "this needs Authorization: Bearer TOKEN");
		return;
	}
	for (size_t i = 0; i < sizeof(routes) / sizeof(*routes); i++) {
		if (!matches(&routes[i], request->path))
			continue;
		if (routes[i].method == request->method) {
			routes[i].serve(request);
			return;
		}
		allow = arena_printf(
			&request->mem, "%s%s%s", allow.ptr, allow.len ? ", " : "", routes[i].name);
	}
	request->allow = allow.len > 0 ? allow.ptr : NULL;
	if (request->allow)
		refuse(request, 405, "bad_method", "the path does not take this method");
	else
		refuse(request, 404, "bad_path", "there is no such path");
}

/* ---- the end of a client ---- */

bool web_abandon(struct web_request *request)
{
	if (request->query.phase != Q_IDLE && request->ask.op == OP_CHANGE)
		return true;
	web_cancel(request);
	return false;
}

void web_cancel(struct web_request *request)
{
	end_survey(request);
	query_cancel(&request->query);
}
