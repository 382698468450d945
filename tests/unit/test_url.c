/* Tests of the url table: what check() refuses, the status rules, and a walk through every operation
 * against a scripted server. The rest of the contract is tested from outside, in tests/e2e. */
#include "tables.h"
#include "web.h"

#include <event2/event.h>

#include "../../backends/list.h"
#include "config/config.h"
#include "engine/worker.h"

/* ---- settings ---- */

static void test_refused(void **state)
{
	static const char *const table[][4] = {
		/* option, value, what the error names */
		{"param", "", "template"},
		{"param", "ftp://h/{}", "http://"},
		{"param", "http://h/{x}", "{x}"},
		{"param", "http://a/{} http://b{}", "before the path"},
		{"status", "401=maybe", "notfound"},
		{"status", "abc=temp", "4xx"},
		{"status", "99=temp", "4xx"},
		{"status", "600=temp", "4xx"},
		{"status", "6xx=temp", "4xx"},
		{"status.4xx", "", "temp"},
		{"headers.a b", "x", "name"},
		{"headers.X", "a\r\nY: b", "control"},
		{"headers.Content-Length", "5", "mapmux"},
		{"auth_token", "a\nb", "control"},
		{"auth_header", "", "NULL"},
		{"basic_auth", "nobody", "user:password"},
		{"user_agent", "a\nb", "control"},
		{"ca_file", "/nonexistent/ca.pem", "/nonexistent/ca.pem"},
		{"client_cert", "/nonexistent/c.pem", "client_cert"},
		{"client_key", "/nonexistent/k.pem", "client_key"},
		{"priv_suffix", "/{}", "priv_suffix"},
		{"value", "data", "JSON pointer"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		struct stand stand;
		stand_init(&stand);
		bool param = strcmp(table[i][0], "param") == 0;
		if (strcmp(table[i][2], "NULL") == 0) { /* fine without a token */
			assert_true(stand_add(&stand, "t", &backend_url, "param", "http://h/{}",
				table[i][0], table[i][1], NULL));
		} else if (stand_add(&stand, "t", &backend_url, "param",
				   param ? table[i][1] : "http://h/{}", param ? NULL : table[i][0],
				   table[i][1], NULL)) {
			fail_msg("%s=%s is accepted", table[i][0], table[i][1]);
		} else if (!strstr(stand.error.text, table[i][2])) {
			fail_msg("%s=%s: %s", table[i][0], table[i][1], stand.error.text);
		}
		stand_close(&stand);
	}
}

static void test_two_kinds_of_auth(void **state)
{
	struct stand stand;
	(void)state;
	stand_init(&stand);
	assert_false(stand_add(&stand, "t", &backend_url, "param", "http://h/", "auth_token", "t",
		"basic_auth", "u:p", NULL));
	assert_false(stand_add(&stand, "t", &backend_url, "param", "http://h/", "auth_token", "t",
		"headers.authorization", "x", NULL));
	assert_false(stand_add(&stand, "t", &backend_url, "param", "http://h/", "auth_token", "t",
		"auth_header", "", NULL));
	stand_close(&stand);
}

static void test_operations(void **state)
{
	struct stand stand;
	(void)state;
	stand_init(&stand);
	assert_true(stand_add(&stand, "get", &backend_url, "param", "http://h/{}", NULL));
	assert_true(stand_add(
		&stand, "post", &backend_url, "param", "http://h/", "method", "POST", NULL));
	assert_false(stand.confs[0].ops & CAN(OP_POLICY));
	assert_true(stand.confs[1].ops & CAN(OP_POLICY));
	assert_true(stand.confs[0].ops & CAN(OP_CHANGE));
	stand_close(&stand);
}

/* ---- questions ---- */

struct fixture {
	struct stand stand;
	struct config config;
	struct worker *worker;
	struct table_set set;
	struct web *web;
	struct arena mem;
	char param[256];
};

static int set_up(void **state)
{
	static struct fixture fixture;
	struct error error;
	fixture = (struct fixture){0};
	stand_init(&fixture.stand);
	fixture.worker = worker_new(&fixture.config, &error);
	*state = &fixture;
	return fixture.worker ? 0 : -1;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;
	table_set_close(&fixture->set);
	worker_free(fixture->worker);
	stand_close(&fixture->stand);
	if (fixture->web)
		web_free(fixture->web);
	arena_clear(&fixture->mem);
	return 0;
}

static void open_tables(struct fixture *fixture)
{
	struct stand *stand = &fixture->stand;
	if (!table_set_open(&fixture->set, stand->confs, stand->n, fixture->worker,
		    worker_turn(fixture->worker), NULL, &stand->error))
		fail_msg("%s", stand->error.text);
}

static const char *at_web(struct fixture *fixture, const char *path)
{
	snprintf(fixture->param, sizeof(fixture->param), "http://127.0.0.1:%u%s",
		fixture->web->port, path);
	return fixture->param;
}

static void on_done(struct query *query)
{
	(void)query;
}

/* Asks and waits. */
static struct query run_query(
	struct fixture *fixture, const char *table, const struct question *question)
{
	static struct query query;
	struct turn *turn = worker_turn(fixture->worker);
	struct timeval tick = {0, 100000};
	query = (struct query){.mem = &fixture->mem, .deadline = turn->clock() + 10000};
	turn_enter(turn);
	query_start(&query, table_set_find(&fixture->set, str_of(table)), question, on_done);
	turn_leave(turn);
	while (query.phase != Q_IDLE && turn->clock() < query.deadline) {
		event_base_loopexit(worker_base(fixture->worker), &tick);
		event_base_loop(worker_base(fixture->worker), EVLOOP_ONCE);
	}
	assert_int_equal(query.phase, Q_IDLE);
	return query;
}

static struct query look_up(struct fixture *fixture, const char *table, const char *key)
{
	struct question question = {.op = OP_LOOKUP, .key = str_of(key)};
	return run_query(fixture, table, &question);
}

static void assert_found(const struct query *query, const char *value)
{
	if (query->answer.status != ST_OK)
		fail_msg("status %d: %.*s", (int)query->answer.status, (int)query->answer.why.len,
			query->answer.why.ptr ? query->answer.why.ptr : "");
	assert_int_equal(query->answer.nrows, 1);
	if (!str_eq(query->answer.rows[0].value, str_of(value)))
		fail_msg("\"%.*s\" is not \"%s\"", (int)query->answer.rows[0].value.len,
			query->answer.rows[0].value.ptr, value);
}

static void assert_request(
	struct fixture *fixture, unsigned nth, const char *start, const char *end)
{
	struct str request = str_of(fixture->web->log[nth]), tail = str_of(end);
	if (!str_starts(request, str_of(start)) ||
		!str_eq(str_skip(request, request.len - tail.len), tail))
		fail_msg("%s is not %s...%s", request.ptr, start, end);
}

/* The last part of the path is the status. */
static const char *answer_status(const char *request, unsigned nth)
{
	static char reply[128];
	const char *end = strstr(request, " HTTP/");
	(void)nth;
	snprintf(reply, sizeof(reply), "HTTP/1.1 %.3s x\r\n%s\r\n%s", end - 3,
		strncmp(end - 3, "204", 3) == 0 ? "" : "Content-Length: 3\r\n",
		strncmp(end - 3, "204", 3) == 0 ? "" : "\"v\"");
	return reply;
}

static void test_status_rules(void **state)
{
	static const struct {
		const char *code;
		enum status plain, strict, all;
	} table[] = {
		{"200", ST_OK, ST_OK, ST_OK},
		{"404", ST_NOTFOUND, ST_NOTFOUND, ST_NOTFOUND},
		{"410", ST_NOTFOUND, ST_NOTFOUND, ST_NOTFOUND},
		{"408", ST_TEMP, ST_TEMP, ST_TEMP},
		{"425", ST_TEMP, ST_TEMP, ST_TEMP},
		{"429", ST_TEMP, ST_TEMP, ST_TEMP},
		{"400", ST_NOTFOUND, ST_PERM, ST_NOTFOUND},
		{"401", ST_NOTFOUND, ST_TEMP, ST_NOTFOUND},
		{"451", ST_NOTFOUND, ST_PERM, ST_NOTFOUND},
		{"500", ST_TEMP, ST_TEMP, ST_TEMP},
		{"503", ST_TEMP, ST_NOTFOUND, ST_TEMP},
		{"204", ST_TEMP, ST_TEMP, ST_PERM},
		{"201", ST_TEMP, ST_OK, ST_PERM},
		{"302", ST_TEMP, ST_TEMP, ST_PERM},
	};
	struct fixture *fixture = *state;
	fixture->web = web_new(answer_status);
	assert_true(stand_add(
		&fixture->stand, "plain", &backend_url, "param", at_web(fixture, "/{}"), NULL));
	assert_true(
		stand_add(&fixture->stand, "strict", &backend_url, "param", at_web(fixture, "/{}"),
			"status", "401=temp 403=temp 4xx=perm 503=notfound 201=ok", NULL));
	assert_true(stand_add(&fixture->stand, "all", &backend_url, "param", at_web(fixture, "/{}"),
		"status.default", "perm", NULL));
	open_tables(fixture);
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		const enum status want[] = {table[i].plain, table[i].strict, table[i].all};
		for (size_t at = 0; at < 3; at++) {
			struct query query =
				look_up(fixture, fixture->stand.confs[at].name, table[i].code);
			if (query.answer.status != want[at])
				fail_msg("%s of %s: %d", table[i].code,
					fixture->stand.confs[at].name, (int)query.answer.status);
			assert_true(want[at] < ST_TEMP || query.answer.why.len > 0);
		}
	}
}

static const char *answer_key(const char *request, unsigned nth)
{
	(void)nth;
	if (strncmp(request, "GET /list/ ", 11) == 0)
		return WEB_REPLY("200", "19", "[\"a\",\"gone\",\"s/b\"] ");
	if (strncmp(request, "GET /list/gone ", 15) == 0)
		return WEB_REPLY("404", "0", "");
	if (strncmp(request, "GET /bad/ ", 10) == 0)
		return WEB_REPLY("200", "11", "[\"a\",\"down\"]");
	if (strstr(request, "down HTTP") || strstr(request, "down/u HTTP"))
		return WEB_REPLY("503", "0", "");
	if (strncmp(request, "POST /policy ", 13) == 0)
		return WEB_REPLY("200", "12", "DEFER later\n");
	if (strncmp(request, "POST /hangup ", 13) == 0)
		return "";
	if (strncmp(request, "POST /none ", 11) == 0 || strncmp(request, "DELETE /none ", 13) == 0)
		return WEB_REPLY("404", "0", "");
	return WEB_REPLY("200", "3", "\"v\"");
}

static void test_lookup(void **state)
{
	struct fixture *fixture = *state;
	fixture->web = web_new(answer_key);
	assert_true(stand_add(&fixture->stand, "t", &backend_url, "param", at_web(fixture, "/{}"),
		"auth_token", "secret", NULL));
	open_tables(fixture);
	struct query query = look_up(fixture, "t", "a b");
	assert_found(&query, "v");
	assert_request(fixture, 0, "GET /a%20b HTTP/1.1\r\n", "\r\n\r\n");
	assert_non_null(strstr(fixture->web->log[0], "\r\nAuthorization: Bearer secret\r\n"));
	query = look_up(fixture, "t", "../a");
	assert_int_equal(query.answer.status, ST_NOTFOUND);
	struct question priv = {
		.op = OP_LOOKUP, .key = STR("k"), .user = STR("u@x"), .scope = SCOPE_PRIV};
	query = run_query(fixture, "t", &priv);
	assert_found(&query, "v");
	assert_request(fixture, 1, "GET /k/u%40x HTTP/1.1\r\n", "");
	priv.user = STR("");
	query = run_query(fixture, "t", &priv);
	assert_int_equal(query.answer.status, ST_PERM);
	assert_int_equal(fixture->web->nlog, 2);
}

static void test_fail_over(void **state)
{
	struct fixture *fixture = *state;
	char param[128];
	fixture->web = web_new(answer_key);
	snprintf(param, sizeof(param), "http://127.0.0.1:%u/a/{} http://127.0.0.1:%u/b/{}",
		web_dead_port(), fixture->web->port);
	assert_true(stand_add(&fixture->stand, "t", &backend_url, "param", param, NULL));
	open_tables(fixture);
	for (int i = 0; i < 3; i++) {
		struct query query = look_up(fixture, "t", "k");
		assert_found(&query, "v");
	}
	assert_request(fixture, 2, "GET /b/k ", "");
	struct change set = {.kind = CH_SET, .key = STR("k"), .value = STR("x")};
	struct question change = {.op = OP_CHANGE, .nchanges = 1, .changes = &set};
	assert_int_equal(run_query(fixture, "t", &change).answer.status, ST_OK);
	assert_request(fixture, 3, "POST /b/k ", "\r\n\r\n\"x\"");
}

static void test_iterate(void **state)
{
	struct fixture *fixture = *state;
	fixture->web = web_new(answer_key);
	assert_true(stand_add(
		&fixture->stand, "t", &backend_url, "param", at_web(fixture, "/{}"), NULL));
	open_tables(fixture);
	struct question question = {
		.op = OP_ITERATE, .form = FORM_JSON, .key = STR("list/"), .flags = ITER_RECURSE};
	struct query query = run_query(fixture, "t", &question);
	assert_int_equal(query.answer.status, ST_OK);
	assert_int_equal(query.answer.nrows, 2);
	assert_true(str_eq(query.answer.rows[0].name, STR("list/a")));
	assert_true(str_eq(query.answer.rows[0].value, STR("v")));
	assert_true(str_eq(query.answer.rows[1].name, STR("list/s/b")));
	assert_int_equal(fixture->web->nlog, 4);

	question.flags = ITER_NO_VALUE;
	query = run_query(fixture, "t", &question);
	assert_int_equal(query.answer.nrows, 2); /* a, gone */
	assert_int_equal(fixture->web->nlog, 5);

	question.flags = ITER_RECURSE | ITER_SORT_KEY;
	question.max_rows = 1;
	query = run_query(fixture, "t", &question);
	assert_int_equal(query.answer.nrows, 1);
	assert_true(str_eq(query.answer.rows[0].name, STR("list/a")));

	question.key = STR("bad/");
	question.max_rows = 0;
	query = run_query(fixture, "t", &question);
	assert_int_equal(query.answer.status, ST_TEMP);
	question.key = STR("x");
	question.flags = ITER_EXACT_KEY;
	query = run_query(fixture, "t", &question);
	assert_int_equal(query.answer.nrows, 1);
	assert_true(str_eq(query.answer.rows[0].name, STR("x")));
}

static const char *answer_object(const char *request, unsigned nth)
{
	(void)request;
	(void)nth;
	return WEB_REPLY(
		"200", "41", "{\"d\":\"1\",\"b\":\"2\",\"c\":\"1\",\"a\":\"2\",\"e\":\"0\"}");
}

/* The order of rows is that of every other table: by value, then by name; without values by name. */
static void test_order(void **state)
{
	static const struct {
		unsigned flags;
		uint64_t max_rows;
		const char *names;
	} cases[] = {{0, 0, "dbcae"}, {ITER_SORT_KEY, 0, "abcde"}, {ITER_SORT_VALUE, 0, "ecdab"},
		{ITER_SORT_VALUE | ITER_SORT_KEY, 0, "ecdab"}, {ITER_SORT_VALUE, 2, "ec"},
		{ITER_SORT_VALUE | ITER_NO_VALUE, 0, "abcde"},
		{ITER_SORT_VALUE | ITER_NO_VALUE, 3, "abc"}, {ITER_SORT_KEY, 2, "ab"}};
	struct fixture *fixture = *state;
	fixture->web = web_new(answer_object);
	assert_true(stand_add(
		&fixture->stand, "t", &backend_url, "param", at_web(fixture, "/{}"), NULL));
	open_tables(fixture);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct question question = {.op = OP_ITERATE,
			.form = FORM_JSON,
			.key = STR("x/"),
			.flags = cases[i].flags,
			.max_rows = cases[i].max_rows};
		struct query query = run_query(fixture, "t", &question);
		assert_int_equal(query.answer.nrows, strlen(cases[i].names));
		for (size_t row = 0; row < query.answer.nrows; row++)
			assert_int_equal(query.answer.rows[row].name.ptr[2], cases[i].names[row]);
	}
}

static struct query change(struct fixture *fixture, const struct change *changes, size_t n)
{
	struct question question = {.op = OP_CHANGE, .nchanges = n, .changes = changes};
	return run_query(fixture, "t", &question);
}

static void test_change(void **state)
{
	static const struct change set = {.kind = CH_SET, .key = {"a", 1}, .value = {"1.0", 3}},
				   unset = {.kind = CH_UNSET, .key = {"none", 4}},
				   add = {.kind = CH_ADD, .key = {"n", 1}, .diff = -3},
				   missing = {.kind = CH_ADD, .key = {"none", 4}, .diff = 1},
				   down = {.kind = CH_SET, .key = {"down", 4}, .value = {"1", 1}},
				   hangup = {.kind = CH_SET,
					   .key = {"hangup", 6},
					   .value = {"1", 1}},
				   bad = {.kind = CH_UNSET, .key = {"../a", 4}},
				   bytes = {.kind = CH_SET, .key = {"b", 1}, .value = {"\xff", 1}};
	struct fixture *fixture = *state;
	fixture->web = web_new(answer_key);
	assert_true(stand_add(
		&fixture->stand, "t", &backend_url, "param", at_web(fixture, "/{}"), NULL));
	open_tables(fixture);
	struct query query = change(fixture, (struct change[]){set, unset, add}, 3);
	assert_int_equal(query.answer.status, ST_OK);
	assert_request(fixture, 0, "POST /a ", "\r\n\r\n1.0");
	assert_request(fixture, 1, "DELETE /none ", "\r\n\r\n");
	assert_request(fixture, 2, "POST /n ", "\r\n\r\n{\"increment\": -3}");

	query = change(fixture, (struct change[]){missing}, 1);
	assert_int_equal(query.answer.status, ST_NOTFOUND);
	query = change(fixture, (struct change[]){set, missing}, 2);
	assert_true(query.answer.status == ST_TEMP && query.answer.uncertain);
	query = change(fixture, (struct change[]){down, set}, 2);
	assert_true(query.answer.status == ST_TEMP && !query.answer.uncertain);
	query = change(fixture, (struct change[]){set, down}, 2);
	assert_true(query.answer.status == ST_TEMP && query.answer.uncertain);
	query = change(fixture, (struct change[]){hangup}, 1);
	assert_true(query.answer.status == ST_TEMP && query.answer.uncertain);
	unsigned before = fixture->web->nlog;
	query = change(fixture, (struct change[]){set, bad}, 2);
	assert_true(query.answer.status == ST_PERM && !query.answer.uncertain);
	query = change(fixture, (struct change[]){set, bytes}, 2);
	assert_true(query.answer.status == ST_PERM && !query.answer.uncertain);
	query = change(fixture, NULL, 0);
	assert_int_equal(query.answer.status, ST_OK);
	assert_int_equal(fixture->web->nlog, before);
}

static void test_policy(void **state)
{
	static const struct pair attrs[] = {
		{{"sender", 6}, {"a b@c", 5}}, {{"empty", 5}, {"", 0}}, {{"x&y", 3}, {"=", 1}}};
	struct fixture *fixture = *state;
	fixture->web = web_new(answer_key);
	const char *param = at_web(fixture, "/policy");
	assert_true(stand_add(
		&fixture->stand, "form", &backend_url, "param", param, "method", "POST", NULL));
	assert_true(stand_add(&fixture->stand, "json", &backend_url, "param", param, "method",
		"POST", "body", "json", NULL));
	open_tables(fixture);
	struct question question = {.op = OP_POLICY, .attrs = attrs, .nattrs = 3};
	struct query query = run_query(fixture, "form", &question);
	assert_found(&query, "DEFER later");
	assert_request(fixture, 0, "POST /policy ", "\r\n\r\nsender=a%20b%40c&empty=&x%26y=%3D");
	query = run_query(fixture, "json", &question);
	assert_found(&query, "DEFER later");
	assert_request(fixture, 1, "POST /policy ",
		"\r\n\r\n{\"sender\":\"a b@c\",\"empty\":\"\",\"x&y\":\"=\"}");
}

static const char *answer_by_number(const char *request, unsigned nth)
{
	(void)nth;
	static const char *const replies[] = {WEB_REPLY("404", "0", ""), WEB_REPLY("403", "0", ""),
		WEB_REPLY("500", "0", ""), WEB_REPLY("429", "0", ""), WEB_REPLY("204", "0", ""),
		WEB_REPLY("200", "0", ""), WEB_REPLY("200", "2", "[]"),
		WEB_REPLY("200", "11", " REJECT no\n"), WEB_REPLY("200", "4", "null"),
		WEB_REPLY("200", "6", "<html>"), ""};
	const char *number = strstr(request, "n=");
	return replies[number ? atoi(number + 2) : 10];
}

/* There is no key that a 404 could be about: the service is not where it should be. */
static void test_policy_statuses(void **state)
{
	static const enum status expected[] = {ST_PERM, ST_PERM, ST_TEMP, ST_TEMP, ST_TEMP, ST_TEMP,
		ST_NOTFOUND, ST_OK, ST_NOTFOUND, ST_TEMP, ST_TEMP};
	struct fixture *fixture = *state;
	fixture->web = web_new(answer_by_number);
	const char *param = at_web(fixture, "/policy");
	assert_true(stand_add(
		&fixture->stand, "t", &backend_url, "param", param, "method", "POST", NULL));
	assert_true(stand_add(&fixture->stand, "own", &backend_url, "param", param, "method",
		"POST", "status.404", "notfound", "status.4xx", "temp", NULL));
	open_tables(fixture);
	for (size_t i = 0; i < sizeof(expected) / sizeof(*expected); i++) {
		char number[8];
		snprintf(number, sizeof(number), "%zu", i);
		const struct pair attr = {{"n", 1}, str_of(number)};
		struct question question = {.op = OP_POLICY, .attrs = &attr, .nattrs = 1};
		struct query query = run_query(fixture, "t", &question);
		if (query.answer.status != expected[i])
			fail_msg("reply %zu is %s", i, status_name(query.answer.status));
		if (i == 7)
			assert_found(&query, "REJECT no");
		query = run_query(fixture, "own", &question);
		if (i < 2)
			assert_int_equal(query.answer.status, i == 0 ? ST_NOTFOUND : ST_TEMP);
	}
}

/* It may count what it sees: once asked, it is not asked again, nor is another. */
static void test_policy_is_asked_once(void **state)
{
	struct fixture *fixture = *state;
	fixture->web = web_new(answer_by_number);
	char one[256], param[520];
	snprintf(one, sizeof(one), "%s", at_web(fixture, "/one"));
	snprintf(param, sizeof(param), "%s %s", one, at_web(fixture, "/two"));
	assert_true(stand_add(
		&fixture->stand, "t", &backend_url, "param", param, "method", "POST", NULL));
	open_tables(fixture);
	const struct pair attr = {{"hang", 4}, {"up", 2}};
	struct question question = {.op = OP_POLICY, .attrs = &attr, .nattrs = 1};
	struct query query = run_query(fixture, "t", &question);
	assert_int_equal(query.answer.status, ST_TEMP);
	assert_int_equal(fixture->web->nlog, 1);
}

/* The same for a lookup that changes something: without the option the other upstream is asked. */
static void test_side_effects_are_asked_once(void **state)
{
	struct fixture *fixture = *state;
	fixture->web = web_new(answer_by_number); /* hangs up */
	char one[256], param[520];
	snprintf(one, sizeof(one), "%s", at_web(fixture, "/one/{}"));
	snprintf(param, sizeof(param), "%s %s", one, at_web(fixture, "/two/{}"));
	assert_true(stand_add(&fixture->stand, "once", &backend_url, "param", param, "side_effects",
		"yes", NULL));
	assert_true(stand_add(&fixture->stand, "often", &backend_url, "param", param, NULL));
	open_tables(fixture);
	struct question question = lookup_of("k");
	struct query query = run_query(fixture, "once", &question);
	assert_int_equal(query.answer.status, ST_TEMP);
	assert_int_equal(fixture->web->nlog, 1);
	query = run_query(fixture, "often", &question);
	assert_int_equal(query.answer.status, ST_TEMP);
	assert_int_equal(fixture->web->nlog, 3);
}

static const char *answer_and_break(const char *request, unsigned nth)
{
	(void)nth;
	if (strstr(request, "/503"))
		return WEB_REPLY("503", "0", "");
	return strstr(request, "/cut") ? WEB_REPLY("200", "9", "\"half") : "";
}

/* What may be asked again: whatever found nobody, and reads that were lost. */
static void test_broken(void **state)
{
	static const struct {
		const char *table, *key;
		enum op op;
		bool broken;
	} cases[] = {
		{"dead", "x", OP_LOOKUP, true},
		{"dead", "x/", OP_ITERATE, true},
		{"dead", "", OP_POLICY, true},
		{"t", "hangup", OP_LOOKUP, true},
		{"t", "hangup/", OP_ITERATE, true},
		{"t", "503", OP_LOOKUP, false},
		{"t", "", OP_POLICY, false},
	};
	struct fixture *fixture = *state;
	char dead[64];
	fixture->web = web_new(answer_and_break);
	snprintf(dead, sizeof(dead), "http://127.0.0.1:%u/{}", web_dead_port());
	assert_true(stand_add(&fixture->stand, "dead", &backend_url, "param", dead, NULL));
	assert_true(stand_add(
		&fixture->stand, "t", &backend_url, "param", at_web(fixture, "/{}"), NULL));
	fixture->stand.confs[0].ops |= CAN(OP_POLICY);
	fixture->stand.confs[1].ops |= CAN(OP_POLICY);
	open_tables(fixture);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct question question = {.op = cases[i].op, .key = str_of(cases[i].key)};
		struct query query = run_query(fixture, cases[i].table, &question);
		assert_int_equal(query.answer.status, ST_TEMP);
		if (query.answer.broken != cases[i].broken)
			fail_msg("%s %s %s", cases[i].table, op_name(cases[i].op), cases[i].key);
	}
	struct change set = {.kind = CH_SET, .key = STR("hangup"), .value = STR("v")};
	assert_false(change(fixture, &set, 1).answer.broken);
}

static const char *answer_never(const char *request, unsigned nth)
{
	(void)request;
	(void)nth;
	return NULL;
}

/* Lets time pass. */
static void idle(struct fixture *fixture)
{
	struct timeval in = {0, 50000};
	event_base_loopexit(worker_base(fixture->worker), &in);
	event_base_dispatch(worker_base(fixture->worker));
}

static void test_cancel(void **state)
{
	struct fixture *fixture = *state;
	struct turn *turn = worker_turn(fixture->worker);
	fixture->web = web_new(answer_never);
	assert_true(stand_add(
		&fixture->stand, "t", &backend_url, "param", at_web(fixture, "/{}"), NULL));
	open_tables(fixture);
	const struct change set = {.kind = CH_SET, .key = STR("k"), .value = STR("v")};
	const struct question questions[] = {
		{.op = OP_LOOKUP, .key = STR("k")},
		{.op = OP_ITERATE, .key = STR("k/")},
		{.op = OP_CHANGE, .nchanges = 1, .changes = &set},
	};
	for (int wait = 0; wait < 2; wait++) {
		struct query queries[3];
		turn_enter(turn);
		for (int i = 0; i < 3; i++) {
			queries[i] = (struct query){.mem = &fixture->mem};
			query_start(&queries[i], &fixture->set.tables[0], &questions[i], on_done);
		}
		turn_leave(turn);
		if (wait)
			idle(fixture);
		for (int i = 0; i < 3; i++) {
			assert_int_equal(queries[i].phase, Q_RUNNING);
			query_cancel(&queries[i]);
		}
		idle(fixture);
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_two_kinds_of_auth),
		cmocka_unit_test(test_operations),
		TEST(test_status_rules),
		TEST(test_lookup),
		TEST(test_fail_over),
		TEST(test_iterate),
		TEST(test_order),
		TEST(test_change),
		TEST(test_policy),
		TEST(test_policy_statuses),
		TEST(test_policy_is_asked_once),
		TEST(test_side_effects_are_asked_once),
		TEST(test_broken),
		TEST(test_cancel),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
