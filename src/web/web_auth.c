/* Passwords over HTTP, and who guesses at them. A refusal is not held back: it would hold up the caller, Dovecot's
 * auth worker say, which has other users to serve and holds them back itself. */
#include "web/web_routes.h"

#include "front/front_http.h"
#include "text/json.h"

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
	const struct pair *rip = pair_find(attrs, n, STR("rip"));
	request->attempt.user = request->ask.key;
	request->attempt.address = rip ? rip->value : STR("");
	return request->ask.key.len > 0 && pair_find(attrs, n, STR("password"));
}

/* ---- guessing ---- */

static const struct attempt_rules *rules_of(const struct web_request *request)
{
	const struct http_conf *conf = web_conf(request)->conf;
	return &conf->attempts;
}

static uint64_t now_ms(const struct web_request *request)
{
	return worker_turn(web_worker(request))->now_ms;
}

static bool is_guessing(const struct web_request *request)
{
	return attempts_exceeded(
		web_failures(request), rules_of(request), &request->attempt, now_ms(request));
}

static void refuse_guess(struct web_request *request)
{
	request->query.answer =
		(struct answer){.status = ST_NOTFOUND, .why = STR(ATTEMPTS_EXCEEDED)};
	errors_add(&worker_stats(web_worker(request))->errors, "http", "too_many_failures", 1);
	attempt_log(&request->attempt, true, web_name(request));
}

/* Whoever asks a hundred times at once learns no more than one who waits for each answer. */
void web_judge(struct web_request *request)
{
	enum status status = request->query.answer.status;
	if (status > ST_NOTFOUND)
		return;
	if (is_guessing(request)) {
		refuse_guess(request);
		return;
	}
	if (status == ST_OK)
		return;
	attempt_log(&request->attempt, false, web_name(request));
	attempts_failed(
		web_failures(request), rules_of(request), &request->attempt, now_ms(request));
}

void web_post_auth(struct web_request *request)
{
	request->ask = (struct question){.op = OP_AUTH, .form = FORM_JSON};
	request->mem.wipe = true;
	struct table *table = web_read_table(request, AUTH);
	if (!table)
		return; /* the request is gone */
	if (!read_login(request)) {
		web_refuse(request, 400, "bad_body",
			"the body is no JSON object with a user and a password");
		return;
	}
	request->attempt.delimiters = table->conf->delimiters;
	if (is_guessing(request)) {
		refuse_guess(request);
		web_say(request);
	} else {
		web_ask(request, table);
	}
}
