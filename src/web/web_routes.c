/* What an http listener answers: which path, which method; and its figures. */
#include "web/web_routes.h"

#include <stddef.h>

#include "front/front_http.h"
#include "web/web_origin.h"
#include "web/web_text.h"

#define TEXT "text/plain; charset=utf-8"
#define PROMETHEUS "text/plain; version=0.0.4; charset=utf-8"

enum { SURVEY_MS = 1000 }; /* a worker that takes longer does not turn */

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
	web_answer_buf(request, 200, PROMETHEUS, &out);
}

static void on_stats(struct web_request *request, const struct survey *survey)
{
	struct buf out = {.max = PAGE_MAX};
	if (!survey) {
		say_late(request);
		return;
	}
	web_stats(survey, &out);
	web_answer_buf(request, 200, JSON, &out);
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
	web_tables_list(web_tables(request), web_conf(request), &out);
	web_answer_buf(request, 200, JSON, &out);
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
		    "GET    /v1/lookup/TABLE?key=K[&user=U]   ask; with &trace=1 the way of the "
		    "answer too\n"
		    "PUT    /v1/lookup/TABLE?key=K[&user=U]   write the body\n"
		    "DELETE /v1/lookup/TABLE?key=K[&user=U]   remove\n"
		    "GET    /v1/iterate/TABLE?prefix=P        list\n"
		    "POST   /v1/auth/TABLE                    verify a password: user and password "
		    "as JSON\n"
		    "GET    /v1/ratelimit/TABLE?identity=I    show a counter\n"
		    "DELETE /v1/ratelimit/TABLE?identity=I    reset it\n"
		    "POST   /v1/cache/purge[?table=T[&key=K]] forget what is kept\n"));
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
	{LOOKUP, WEB_GET, "GET", web_get_lookup},
	{LOOKUP, WEB_PUT, "PUT", web_put_lookup},
	{LOOKUP, WEB_DELETE, "DELETE", web_delete_lookup},
	{ITERATE, WEB_GET, "GET", web_get_iterate},
	{AUTH, WEB_POST, "POST", web_post_auth},
	{RATELIMIT, WEB_GET, "GET", web_get_ratelimit},
	{RATELIMIT, WEB_DELETE, "DELETE", web_delete_ratelimit},
	{"/v1/cache/purge", WEB_POST, "POST", web_post_purge},
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

/* Nobody has to show a token at a socket that browsers can connect to. */
static bool is_open_to_browsers(const struct web_request *request)
{
	const struct listen_conf *listen = web_conf(request);
	const struct http_conf *conf = listen->conf;
	return conf->token[0] == '\0' && listen->address.kind == ADDRESS_INET;
}

void web_route(struct web_request *request)
{
	struct str allow = {"", 0};
	if (!knows_token(request)) {
		web_refuse(request, 401, "bad_token", "this needs Authorization: Bearer TOKEN");
		return;
	}
	if (is_open_to_browsers(request) && !web_is_own_host(request->host)) {
		web_refuse(request, 403, "foreign_host",
			"without a token the Host has to be an address, or a name without a dot");
		return;
	}
	if (is_open_to_browsers(request) && !web_is_own_page(request->origin, request->host)) {
		web_refuse(request, 403, "foreign_page",
			"without a token pages of another Origin are not answered");
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
		web_refuse(request, 405, "bad_method", "the path does not take this method");
	else
		web_refuse(request, 404, "bad_path", "there is no such path");
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
