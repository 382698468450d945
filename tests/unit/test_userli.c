/* The userli backend's authentication: what is sent, and which answers accept, reject or fail. */
#include "tables.h"
#include "web.h"

#include <event2/event.h>

#include "config/config.h"
#include "engine/worker.h"

struct bench {
	struct web *web;
	struct config config;
	struct worker *worker;
};

static const char *next_reply; /* set before a question is asked */

static const char *answer(const char *request, unsigned nth)
{
	(void)request;
	(void)nth;
	return next_reply;
}

static void bench_open(struct bench *bench, const char *endpoint)
{
	char param[64], option[64], token[] = "token=tok"; /* is overwritten: it is a secret */
	struct error error;
	*bench = (struct bench){.web = web_new(answer)};
	snprintf(param, sizeof(param), "http://127.0.0.1:%u", bench->web->port);
	snprintf(option, sizeof(option), "endpoint=%s", endpoint);
	const char *args[] = {"--name", "t", "--type", "userli", "--param", param, "--option",
		option, "--option", token, "--option", "recipient_delimiter=+", "--listen",
		"socketmap:127.0.0.1:1"};
	if (!config_load(&bench->config, sizeof(args) / sizeof(*args), (char **)args, &error))
		fail_msg("%s", error.text);
	bench->worker = worker_new(&bench->config, &error);
	assert_non_null(bench->worker);
}

static void bench_close(struct bench *bench)
{
	worker_free(bench->worker);
	config_free(&bench->config);
	web_free(bench->web);
}

/* An authentication, run to its end; NULL: without a password at all. */
static struct asked *authenticate(
	struct bench *bench, const char *user, struct str password, const char *reply)
{
	struct asked *asked = memory_new(sizeof(*asked));
	struct pair *attrs = arena_alloc(&asked->mem, 2 * sizeof(*attrs));
	attrs[0] = (struct pair){STR("service"), STR("smtp")};
	attrs[1] = (struct pair){STR("password"), password};
	asked->ask = (struct question){
		.op = OP_AUTH, .key = str_of(user), .attrs = attrs, .nattrs = password.ptr ? 2 : 1};
	asked->query.mem = &asked->mem;
	next_reply = reply;
	turn_enter(worker_turn(bench->worker));
	query_start(&asked->query, table_set_find(worker_tables(bench->worker), STR("t")),
		&asked->ask, on_asked);
	assert_int_equal(asked->dones, 0);
	turn_leave(worker_turn(bench->worker));
	while (asked->dones == 0)
		event_base_loop(worker_base(bench->worker), EVLOOP_ONCE);
	assert_int_equal(asked->dones, 1);
	return asked;
}

static void expect(struct bench *bench, const char *user, const char *password, const char *reply,
	enum status status, const char *text)
{
	struct asked *asked = authenticate(bench, user, str_of(password), reply);
	const struct answer *got = &asked->query.answer;
	assert_string_equal(status_name(got->status), status_name(status));
	struct str words = status == ST_OK ? got->rows[0].value : got->why;
	if (!words.len || !strstr(words.ptr, text))
		fail_msg("\"%.*s\" holds no \"%s\"", (int)words.len, words.len ? words.ptr : "",
			text);
	ask_free(asked);
}

#define SUCCESS WEB_REPLY("200", "21", "{\"message\":\"success\"}")
#define FAILED WEB_REPLY("401", "35", "{\"message\":\"authentication failed\"}")
#define SPAM WEB_REPLY("403", "44", "{\"message\":\"user disabled due to spam role\"}")
#define BAD_TOKEN WEB_REPLY("401", "29", "{\"error\":\"Invalid API token\"}")
#define NO_TOKEN WEB_REPLY("401", "33", "{\"error\":\"No API token provided\"}")
#define NO_SCOPE                                                                                   \
	WEB_REPLY("403", "76",                                                                     \
		"{\"error\":{\"message\":\"Token does not have required scope: "                   \
		"postfix\",\"code\":0}}")

static void test_verdicts(void **state)
{
	struct bench bench;
	(void)state;
	bench_open(&bench, "auth");
	expect(&bench, "alice@example.org", "secret", SUCCESS, ST_OK, "alice@example.org");
	expect(&bench, " Alice+x@Example.ORG", "secret", SUCCESS, ST_OK, "alice@example.org");
	expect(&bench, "alice@example.org", "secret", FAILED, ST_NOTFOUND, "authentication failed");
	expect(&bench, "alice@example.org", "secret", SPAM, ST_NOTFOUND, "spam role");
	bench_close(&bench);
}

/* The statuses of a wrong password, but not its meaning. */
static void test_wrong_token(void **state)
{
	struct bench bench;
	(void)state;
	bench_open(&bench, "auth");
	expect(&bench, "alice@example.org", "secret", BAD_TOKEN, ST_TEMP, "token is refused");
	expect(&bench, "alice@example.org", "secret", NO_TOKEN, ST_TEMP, "token is refused");
	expect(&bench, "alice@example.org", "secret", NO_SCOPE, ST_TEMP, "token is refused");
	bench_close(&bench);
}

static void test_outages(void **state)
{
	static const char *const replies[] = {
		WEB_REPLY("200", "6", "<html>"),
		WEB_REPLY("200", "2", "{}"),
		WEB_REPLY("200", "4", "true"),
		WEB_REPLY("200", "21", "{\"message\":\"failure\"}"),
		WEB_REPLY("401", "6", "<html>"),
		WEB_REPLY("403", "2", "{}"),
		WEB_REPLY("401", "34", "{\"message\":\"no\",\"error\":\"a token\"}"),
		WEB_REPLY("404", "21", "{\"message\":\"nowhere\"}"),
		WEB_REPLY("401", "26", "{\"message\":\"Unauthorized\"}"),
		WEB_REPLY("403", "29", "{\"message\":\"invalid API key\"}"),
		WEB_REPLY("400", "18", "{\"message\":\"what\"}"),
		WEB_REPLY("422", "18", "{\"message\":\"what\"}"),
		WEB_REPLY("500", "18", "{\"message\":\"what\"}"),
		WEB_REPLY("502", "6", "<html>"),
		WEB_REPLY("302", "0", ""),
		"",
	};
	struct bench bench;
	(void)state;
	bench_open(&bench, "auth");
	for (size_t i = 0; i < sizeof(replies) / sizeof(*replies); i++)
		expect(&bench, "alice@example.org", "secret", replies[i], ST_TEMP, "userli at ");
	bench_close(&bench);
}

static void test_request(void **state)
{
	struct bench bench;
	(void)state;
	bench_open(&bench, "auth");
	ask_free(authenticate(&bench, "Alice@example.org", STR("pa\"ss\n\xc3\xbc"), SUCCESS));
	assert_int_equal(atomic_load(&bench.web->nlog), 1);
	const char *request = bench.web->log[0];
	assert_int_equal(strncmp(request, "POST /api/postfix/auth HTTP/1.1\r\n", 33), 0);
	assert_non_null(strstr(request, "\r\nAuthorization: Bearer tok\r\n"));
	assert_non_null(strstr(request, "\r\nContent-Type: application/json\r\n"));
	const char *body = strstr(request, "\r\n\r\n") + 4;
	assert_string_equal(
		body, "{\"email\":\"alice@example.org\",\"password\":\"pa\\\"ss\\n\xc3\xbc\"}");
	bench_close(&bench);
}

/* What cannot be right is rejected without a request. */
static void test_not_sent(void **state)
{
	static const char *const users[] = {"", "alice", "@example.org", "al ice@example.org",
		"a@b@example.org", "alice@[192.0.2.1]", "alice/../x@example.org"};
	struct bench bench;
	(void)state;
	bench_open(&bench, "auth");
	for (size_t i = 0; i < sizeof(users) / sizeof(*users); i++)
		expect(&bench, users[i], "secret", SUCCESS, ST_NOTFOUND, "authentication failed");
	expect(&bench, "alice@example.org", "", SUCCESS, ST_NOTFOUND, "authentication failed");
	expect(&bench, "alice@example.org", "\xff", SUCCESS, ST_NOTFOUND, "authentication failed");
	struct asked *asked =
		authenticate(&bench, "alice@example.org", (struct str){NULL, 0}, SUCCESS);
	assert_int_equal(asked->query.answer.status, ST_PERM);
	ask_free(asked);
	assert_int_equal(atomic_load(&bench.web->nlog), 0);
	bench_close(&bench);
}

#define PLAIN                                                                                      \
	WEB_REPLY("200", "93",                                                                     \
		"{\"message\":\"success\",\"body\":{\"mailCrypt\":0,\"mailCryptPrivateKey\":\"\"," \
		"\"mailCryptPublicKey\":\"\"}}")
#define CRYPT                                                                                      \
	WEB_REPLY("200", "99",                                                                     \
		"{\"message\":\"success\",\"body\":{\"mailCrypt\":2,\"mailCryptPrivateKey\":"      \
		"\"PRI\","                                                                         \
		"\"mailCryptPublicKey\":\"PUB\"}}")
#define UNKNOWN WEB_REPLY("404", "28", "{\"message\":\"user not found\"}")
#define UNKNOWN_TOO                                                                                \
	WEB_REPLY("404", "48", "{\"error\":{\"message\":\"User not found.\",\"code\":0}}")

static void test_dovecot(void **state)
{
	struct bench bench;
	(void)state;
	bench_open(&bench, "dovecot");
	expect(&bench, "alice@example.org", "secret", PLAIN, ST_OK, "alice@example.org");
	expect(&bench, "alice@example.org", "secret", FAILED, ST_NOTFOUND, "authentication failed");
	expect(&bench, "alice@example.org", "secret", SPAM, ST_NOTFOUND, "spam role");
	expect(&bench, "alice@example.org", "secret", UNKNOWN, ST_NOTFOUND, "user not found");
	expect(&bench, "alice@example.org", "secret", UNKNOWN_TOO, ST_NOTFOUND, "user not found");
	expect(&bench, "alice@example.org", "secret",
		WEB_REPLY("404", "30", "{\"message\":\"no Route matched\"}"), ST_TEMP, "404");
	expect(&bench, "alice@example.org", "secret", BAD_TOKEN, ST_TEMP, "token is refused");
	expect(&bench, "alice@example.org", "secret", SUCCESS, ST_TEMP, "nothing of keys");
	expect(&bench, "alice@example.org", "secret",
		WEB_REPLY("500", "24", "{\"error\":\"no key today\"}"), ST_TEMP, "500");
	assert_non_null(
		strstr(bench.web->log[0], "POST /api/dovecot/alice%40example.org HTTP/1.1"));
	assert_string_equal(strstr(bench.web->log[0], "\r\n\r\n") + 4, "{\"password\":\"secret\"}");
	struct asked *asked = authenticate(&bench, "alice@example.org", STR("secret"), CRYPT);
	const struct answer *got = &asked->query.answer;
	assert_int_equal(got->nrows, 4);
	assert_str(got->rows[3].name, "mail_crypt_global_private_key");
	assert_str(got->rows[3].value, "PRI");
	ask_free(asked);
	bench_close(&bench);
}

static void test_cancel(void **state)
{
	struct bench bench;
	struct asked asked = {.ask = {.op = OP_AUTH,
				      .key = STR("alice@example.org"),
				      .attrs = &(struct pair){STR("password"), STR("secret")},
				      .nattrs = 1}};
	(void)state;
	bench_open(&bench, "auth");
	next_reply = NULL;
	asked.query.mem = &asked.mem;
	query_start(&asked.query, table_set_find(worker_tables(bench.worker), STR("t")), &asked.ask,
		on_asked);
	for (unsigned i = 0; atomic_load(&bench.web->nlog) == 0 && i < 1000; i++) {
		event_base_loop(worker_base(bench.worker), EVLOOP_NONBLOCK);
		usleep(1000);
	}
	query_cancel(&asked.query);
	assert_int_equal(asked.dones, 0);
	arena_clear(&asked.mem);
	bench_close(&bench);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_verdicts),
		cmocka_unit_test(test_wrong_token),
		cmocka_unit_test(test_outages),
		cmocka_unit_test(test_request),
		cmocka_unit_test(test_not_sent),
		cmocka_unit_test(test_dovecot),
		cmocka_unit_test(test_cancel),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
