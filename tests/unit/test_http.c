/* Tests of http.c: real sockets, a scripted server, and every way a request can end. */
#include "web.h"

#include <event2/event.h>

#include "engine/http.h"

struct fixture {
	struct event_base *base;
	struct event *wake;
	struct turn turn;
	struct http *http;
	struct http_options options;
	struct http_pool *pool;
	struct web *web;
	struct arena mem;
	char url[64];
	unsigned ndone;
};

/* A fetch that counts. */
struct counted {
	struct http_fetch fetch;
	struct fixture *fixture;
	bool done;
	void (*then)(struct counted *);
};

static const char *answer_simple(const char *request, unsigned nth)
{
	(void)nth;
	if (strstr(request, " /big "))
		return WEB_REPLY("200", "1001", "x");
	if (strstr(request, " /chunks "))
		return "HTTP/1.1 200 x\r\nTransfer-Encoding: "
		       "chunked\r\n\r\n3\r\n\"va\r\n4\r\nlue\"\r\n0\r\n\r\n";
	if (strstr(request, " /404 "))
		return WEB_REPLY("404", "0", "");
	if (strstr(request, " /silent "))
		return NULL;
	if (strstr(request, " /hangup "))
		return "";
	if (strstr(request, " /half "))
		return "HTTP/1.1 200 x\r\nContent-Length: 9\r\nConnection: close\r\n\r\n\"va";
	return WEB_REPLY("200", "7", "\"value\"");
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
	struct fixture *fixture = arg;
	(void)fd;
	(void)what;
	turn_enter(&fixture->turn);
	turn_leave(&fixture->turn);
}

static void wake(struct turn *turn)
{
	struct timeval now = {0, 0};
	event_add(((struct fixture *)(void *)((char *)turn - offsetof(struct fixture, turn)))->wake,
		&now);
}

static void start_web(struct fixture *fixture, const char *(*answer)(const char *, unsigned))
{
	fixture->web = web_new(answer);
	snprintf(fixture->url, sizeof(fixture->url), "http://127.0.0.1:%u", fixture->web->port);
}

static void open_pool(struct fixture *fixture)
{
	fixture->pool = http_pool_new(fixture->http, &fixture->options);
}

static int set_up(void **state)
{
	static struct fixture fixture;
	fixture = (struct fixture){.options = {.connect_timeout_ms = 2000, .max_body = 1000}};
	fixture.base = event_base_new();
	fixture.wake = evtimer_new(fixture.base, on_wake, &fixture);
	turn_init(&fixture.turn, wake);
	fixture.http = http_new(fixture.base, &fixture.turn);
	*state = &fixture;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;
	if (fixture->pool)
		http_pool_free(fixture->pool);
	http_free(fixture->http);
	event_free(fixture->wake);
	event_base_free(fixture->base);
	if (fixture->web)
		web_free(fixture->web);
	arena_clear(&fixture->mem);
	return 0;
}

static void on_done(struct http_fetch *fetch)
{
	struct counted *counted = (struct counted *)(void *)fetch;
	assert_true(counted->fixture->turn.entered);
	assert_false(counted->done);
	assert_null(fetch->pool);
	counted->done = true;
	counted->fixture->ndone++;
	if (counted->then)
		counted->then(counted);
}

static struct counted prepare(struct fixture *fixture, const char *method)
{
	return (struct counted){.fixture = fixture,
		.fetch = {.mem = &fixture->mem, .done = on_done, .method = method}};
}

static void start(struct counted *counted, const char *path)
{
	struct fixture *fixture = counted->fixture;
	unsigned before = fixture->ndone;
	char url[256];
	snprintf(url, sizeof(url), "%s%s", fixture->url, path);
	counted->fetch.url = url;
	bool entered = fixture->turn.entered;
	if (!entered)
		turn_enter(&fixture->turn);
	http_start(fixture->pool, &counted->fetch);
	assert_int_equal(fixture->ndone, before);
	if (!entered)
		turn_leave(&fixture->turn);
}

/* Runs the loop until so many are done. */
static void run(struct fixture *fixture, unsigned ndone)
{
	uint64_t give_up = fixture->turn.clock() + 10000;
	struct timeval tick = {0, 100000};
	while (fixture->ndone < ndone) {
		if (fixture->turn.clock() > give_up)
			fail_msg("only %u of %u fetches are done", fixture->ndone, ndone);
		event_base_loopexit(fixture->base, &tick);
		event_base_loop(fixture->base, EVLOOP_ONCE);
	}
}

/* From the start to the end; it may be done before start() returns. */
static void fetch(struct counted *counted, const char *path)
{
	unsigned ndone = counted->fixture->ndone;
	counted->done = false;
	start(counted, path);
	run(counted->fixture, ndone + 1);
	assert_true(counted->done);
}

/* Lets time pass. */
static void idle(struct fixture *fixture, long ms)
{
	struct timeval in = {ms / 1000, ms % 1000 * 1000};
	event_base_loopexit(fixture->base, &in);
	event_base_dispatch(fixture->base);
}

static struct counted get(struct fixture *fixture, const char *path)
{
	struct counted counted = prepare(fixture, "GET");
	fetch(&counted, path);
	return counted;
}

static void assert_body(const struct counted *counted, int status, const char *body)
{
	assert_int_equal(counted->fetch.result, HTTP_REPLY);
	assert_int_equal(counted->fetch.status, status);
	assert_true(str_eq(counted->fetch.body, str_of(body)));
}

static void test_replies(void **state)
{
	struct fixture *fixture = *state;
	start_web(fixture, answer_simple);
	open_pool(fixture);
	for (int i = 0; i < 100; i++) {
		struct counted counted = get(fixture, "/x");
		assert_body(&counted, 200, "\"value\"");
	}
	struct counted chunks = get(fixture, "/chunks"), none = get(fixture, "/404");
	assert_body(&chunks, 200, "\"value\"");
	assert_body(&none, 404, "");
	assert_int_equal(fixture->web->connections, 1);
	assert_int_equal(fixture->web->nlog, 102);
}

/* Byte for byte, whatever the URL before it was. */
static void test_urls(void **state)
{
	static const char *const paths[] = {"/a", "/b%40c", "/%2B%2b", "/b", "/a?k=%40",
		"/a?k=%2F&l=", "/a", "/", "/?", "/a/../b//c/.", "/c?x?y=/", "/d", "?q", "/d;e=f",
		"/%ff", "/%FF%"};
	struct fixture *fixture = *state;
	start_web(fixture, answer_simple);
	open_pool(fixture);
	for (unsigned i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		char line[64];
		const char *slash = paths[i][0] == '/' ? "" : "/";
		struct counted counted = get(fixture, paths[i]);
		assert_body(&counted, 200, "\"value\"");
		int n = snprintf(
			line, sizeof(line), "GET %s%s HTTP/1.1\r\nHost: 127.", slash, paths[i]);
		if (strncmp(fixture->web->log[i], line, (size_t)n) != 0)
			fail_msg("%s became %.40s", paths[i], fixture->web->log[i]);
	}
	struct counted part = get(fixture, "/a#b");
	assert_body(&part, 200, "\"value\"");
	assert_non_null(strstr(fixture->web->log[fixture->web->nlog - 1], "GET /a HTTP/1.1\r\n"));
	assert_int_equal(fixture->web->connections, 1);

	char here[64];
	snprintf(here, sizeof(here), "http://bob:secret@127.0.0.1:%u", fixture->web->port);
	snprintf(fixture->url, sizeof(fixture->url), "%s", here);
	struct counted known = get(fixture, "/with");
	assert_body(&known, 200, "\"value\"");
	assert_non_null(
		strstr(fixture->web->log[fixture->web->nlog - 1], "\r\nAuthorization: Basic "));
	snprintf(fixture->url, sizeof(fixture->url), "http://127.0.0.1:%u", fixture->web->port);
	struct counted unknown = get(fixture, "/with");
	assert_body(&unknown, 200, "\"value\"");
	assert_null(strstr(fixture->web->log[fixture->web->nlog - 1], "Authorization"));
}

static const char *const bad_urls[] = {"http://127.0.0.1:99999/", "http:///x", "x", "http://a b/"};

/* None is asked, and none is in the way of those that follow. */
static void test_bad_urls(void **state)
{
	struct fixture *fixture = *state;
	start_web(fixture, answer_simple);
	open_pool(fixture);
	for (unsigned i = 0; i < sizeof(bad_urls) / sizeof(bad_urls[0]); i++) {
		char good[64];
		snprintf(good, sizeof(good), "%s", fixture->url);
		snprintf(fixture->url, sizeof(fixture->url), "%s", bad_urls[i]);
		struct counted bad = get(fixture, "");
		assert_int_equal(bad.fetch.result, HTTP_UNREACHABLE);
		snprintf(fixture->url, sizeof(fixture->url), "%s", good);
		struct counted counted = get(fixture, "/x");
		assert_body(&counted, 200, "\"value\"");
	}
	assert_int_equal(fixture->web->nlog, sizeof(bad_urls) / sizeof(bad_urls[0]));
}

/* Headers of one request are not those of the next, and go before the pool's of their name. */
static void test_own_headers(void **state)
{
	static const char *const pool[] = {"X-One: pool", "X-Two: pool", NULL};
	static const char *const own[] = {"x-one: own", "Content-Type: text/x", "X-Empty;", NULL};
	struct fixture *fixture = *state;
	fixture->options.headers = pool;
	start_web(fixture, answer_simple);
	open_pool(fixture);
	struct counted first = get(fixture, "/a");
	assert_int_equal(first.fetch.head.len, 0);
	struct counted second = prepare(fixture, "GET");
	second.fetch.headers = own;
	second.fetch.want_head = true;
	fetch(&second, "/b");
	assert_body(&second, 200, "\"value\"");
	assert_true(str_eq(
		second.fetch.head, STR("Content-Type: application/json\r\nContent-Length: 7\r\n")));
	struct counted third = prepare(fixture, "POST");
	third.fetch.headers = own;
	third.fetch.content_type = "application/json";
	third.fetch.send = STR("{}");
	fetch(&third, "/c");
	struct counted fourth = get(fixture, "/d");
	assert_int_equal(fourth.fetch.head.len, 0);
	const char *a = fixture->web->log[0], *b = fixture->web->log[1], *c = fixture->web->log[2],
		   *d = fixture->web->log[3];
	assert_non_null(strstr(a, "\r\nX-One: pool\r\nX-Two: pool\r\n"));
	assert_null(strstr(b, "X-One: pool"));
	assert_non_null(
		strstr(b, "\r\nX-Two: pool\r\nx-one: own\r\nContent-Type: text/x\r\nX-Empty:\r\n"));
	assert_non_null(strstr(c, "\r\nContent-Type: text/x\r\n"));
	assert_null(strstr(c, "application/json"));
	assert_null(strstr(c, "Expect"));
	assert_string_equal(strchr(d, '\r'), strchr(a, '\r'));
	assert_int_equal(fixture->web->connections, 1);
}

static void test_request(void **state)
{
	static const char *const headers[] = {"X-One: 1", "Accept: a/b", NULL};
	struct fixture *fixture = *state;
	fixture->options.headers = headers;
	fixture->options.user_agent = "test/1";
	fixture->options.basic_auth = "user:pass";
	start_web(fixture, answer_simple);
	open_pool(fixture);
	get(fixture, "/a%2Fb/%2e./c?d=e");
	const char *request = fixture->web->log[0];
	assert_true(str_starts(str_of(request), STR("GET /a%2Fb/%2e./c?d=e HTTP/1.1\r\n")));
	assert_non_null(strstr(request, "\r\nX-One: 1\r\n"));
	assert_non_null(strstr(request, "\r\nAccept: a/b\r\n"));
	assert_non_null(strstr(request, "\r\nUser-Agent: test/1\r\n"));
	assert_non_null(strstr(request, "\r\nAuthorization: Basic dXNlcjpwYXNz\r\n"));
	assert_null(strstr(request, "Accept-Encoding"));
	assert_null(strstr(request, "Cookie"));
}

/* Methods and bodies; nothing of one request is left in the next of the same handle. */
static void test_methods(void **state)
{
	struct fixture *fixture = *state;
	start_web(fixture, answer_simple);
	open_pool(fixture);
	for (int once = 0; once < 2; once++) {
		struct counted post = prepare(fixture, "POST"), delete = prepare(fixture, "DELETE");
		unsigned at = fixture->web->nlog;
		post.fetch.content_type = once ? "application/json" : "text/x";
		post.fetch.send = STR("{\"a\": 1}");
		post.fetch.once = delete.fetch.once = once;
		fetch(&post, "/p");
		fetch(&delete, "/d");
		struct counted last = get(fixture, "/g");
		assert_body(&post, 200, "\"value\"");
		assert_body(&delete, 200, "\"value\"");
		assert_body(&last, 200, "\"value\"");
		char(*log)[WEB_REQUEST] = fixture->web->log + at;
		assert_true(str_starts(str_of(log[0]), STR("POST /p HTTP/1.1\r\n")));
		assert_non_null(strstr(log[0], once ? "\r\nContent-Type: application/json\r\n"
						    : "\r\nContent-Type: text/x\r\n"));
		assert_non_null(strstr(log[0], "\r\nContent-Length: 8\r\n"));
		assert_non_null(strstr(log[0], "\r\n\r\n{\"a\": 1}"));
		assert_null(strstr(log[0], "Expect"));
		assert_true(str_starts(str_of(log[1]), STR("DELETE /d HTTP/1.1\r\n")));
		assert_null(strstr(log[1], "Content-"));
		assert_true(str_starts(str_of(log[2]), STR("GET /g HTTP/1.1\r\n")));
		assert_null(strstr(log[2], "Content-"));
	}
}

static void test_unreachable(void **state)
{
	struct fixture *fixture = *state;
	snprintf(fixture->url, sizeof(fixture->url), "http://127.0.0.1:%u", web_dead_port());
	open_pool(fixture);
	struct counted counted = get(fixture, "/x");
	assert_int_equal(counted.fetch.result, HTTP_UNREACHABLE);
	assert_true(counted.fetch.why.len > 0);
	snprintf(fixture->url, sizeof(fixture->url), "https://127.0.0.1:%u", web_dead_port());
	counted = get(fixture, "/x");
	assert_int_equal(counted.fetch.result, HTTP_UNREACHABLE);
}

/* A server that does not speak TLS: nothing of the request has left. */
static void test_no_tls(void **state)
{
	struct fixture *fixture = *state;
	start_web(fixture, answer_simple);
	snprintf(fixture->url, sizeof(fixture->url), "https://127.0.0.1:%u", fixture->web->port);
	open_pool(fixture);
	fixture->web->answer = answer_simple;
	fixture->options.connect_timeout_ms = 300;
	http_pool_free(fixture->pool);
	open_pool(fixture);
	struct counted counted = get(fixture, "/x");
	assert_int_equal(counted.fetch.result, HTTP_UNREACHABLE);
}

static void test_schemes(void **state)
{
	struct fixture *fixture = *state;
	open_pool(fixture);
	snprintf(fixture->url, sizeof(fixture->url), "file://");
	struct counted counted = get(fixture, "/etc/hostname");
	assert_int_equal(counted.fetch.result, HTTP_UNREACHABLE);
}

static void test_broken(void **state)
{
	struct fixture *fixture = *state;
	start_web(fixture, answer_simple);
	open_pool(fixture);
	struct counted counted = get(fixture, "/hangup");
	assert_int_equal(counted.fetch.result, HTTP_BROKEN);
	counted = prepare(fixture, "GET");
	start(&counted, "/half");
	idle(fixture, 100);
	assert_false(counted.done); /* five bytes are still to come */
	http_cancel(&counted.fetch);
	counted = get(fixture, "/x");
	assert_body(&counted, 200, "\"value\"");
}

/* What stands behind "/length?" is the reply's Content-Length, ';' begins another one. */
static const char *answer_length(const char *request, unsigned nth)
{
	static char reply[256];
	char lengths[64];
	(void)nth;
	assert_int_equal(sscanf(request, "GET /length?%63s ", lengths), 1);
	snprintf(reply, sizeof(reply), "HTTP/1.1 200 x\r\nConnection: close\r\n");
	for (char *rest = lengths, *each; (each = strsep(&rest, ";"));)
		snprintf(reply + strlen(reply), sizeof(reply) - strlen(reply),
			"content-length:%s\r\n", each);
	strcat(reply, "\r\n123");
	return reply;
}

/* A value is not cut because a reply says two things of its length. */
static void test_unclear_length(void **state)
{
	static const char *const wrong[] = {"3;1", "1;3", "1,3", "1x", "3;x"};
	static const char *const right[] = {"3", "3;3", "3,3", "03"};
	struct fixture *fixture = *state;
	start_web(fixture, answer_length);
	open_pool(fixture);
	char path[64];
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		snprintf(path, sizeof(path), "/length?%s", wrong[i]);
		struct counted counted = get(fixture, path);
		assert_int_equal(counted.fetch.result, HTTP_BROKEN);
	}
	for (size_t i = 0; i < sizeof(right) / sizeof(*right); i++) {
		snprintf(path, sizeof(path), "/length?%s", right[i]);
		struct counted counted = get(fixture, path);
		assert_body(&counted, 200, "123");
	}
}

/* Dies in the second request of each connection, before a byte of an answer. */
static const char *answer_first(const char *request, unsigned nth)
{
	return nth == 0 ? answer_simple(request, nth) : "";
}

static void test_kept_connection_dies(void **state)
{
	struct fixture *fixture = *state;
	start_web(fixture, answer_first);
	open_pool(fixture);
	get(fixture, "/x");
	struct counted counted = get(fixture, "/again");
	assert_body(&counted, 200, "\"value\"");
	assert_int_equal(fixture->web->nlog, 3);
	assert_int_equal(fixture->web->connections, 2);

	counted = prepare(fixture, "POST"); /* may be sent again */
	counted.fetch.content_type = "a/b";
	counted.fetch.send = STR("body");
	fetch(&counted, "/post");
	assert_body(&counted, 200, "\"value\"");
	assert_int_equal(fixture->web->nlog, 5);
	assert_non_null(strstr(fixture->web->log[4], "\r\n\r\nbody"));

	counted = prepare(fixture, "POST"); /* may not */
	counted.fetch.content_type = "a/b";
	counted.fetch.send = STR("body");
	counted.fetch.once = true;
	fetch(&counted, "/once");
	assert_int_equal(counted.fetch.result, HTTP_BROKEN);
	assert_int_equal(fixture->web->nlog, 6);

	get(fixture, "/x");
	counted = prepare(fixture, "DELETE"); /* goes alone, and so only once */
	counted.fetch.once = true;
	fetch(&counted, "/delete");
	assert_body(&counted, 200, "\"value\"");
	assert_int_equal(fixture->web->nlog, 8);

	counted = prepare(
		fixture, "POST"); /* so does an empty body, which curl need not read again */
	counted.fetch.content_type = "a/b";
	counted.fetch.once = true;
	fetch(&counted, "/empty");
	assert_body(&counted, 200, "\"value\"");
	assert_int_equal(fixture->web->nlog, 9);
}

static void test_too_large(void **state)
{
	struct fixture *fixture = *state;
	start_web(fixture, answer_simple);
	open_pool(fixture);
	struct counted counted = get(fixture, "/big");
	assert_int_equal(counted.fetch.result, HTTP_TOO_LARGE);
	assert_int_equal(counted.fetch.status, 200);
	http_pool_free(fixture->pool);
	fixture->options.max_body = 6;
	open_pool(fixture);
	counted = get(fixture, "/chunks");
	assert_int_equal(counted.fetch.result, HTTP_TOO_LARGE);
	counted = prepare(fixture, "GET");
	counted.fetch.no_body = true;
	fetch(&counted, "/x");
	assert_body(&counted, 200, "");
}

static void cancel_and_start(struct counted *counted)
{
	struct counted *other = counted + 1;
	http_cancel(&other->fetch);
	start(other, "/x");
}

static void test_cancel(void **state)
{
	struct fixture *fixture = *state;
	start_web(fixture, answer_simple);
	fixture->options.max_connections = 2;
	open_pool(fixture);
	struct counted idle_one = prepare(fixture, "GET");
	http_cancel(&idle_one.fetch);
	struct counted three[3];
	for (int i = 0; i < 3; i++) {
		three[i] = prepare(fixture, "GET");
		start(&three[i], "/silent"); /* the third waits */
	}
	http_cancel(&three[2].fetch);
	idle(fixture, 50);
	http_cancel(&three[0].fetch);
	http_cancel(&three[0].fetch);
	http_cancel(&three[1].fetch);
	turn_enter(&fixture->turn); /* cancelled before it was sent */
	start(&three[0], "/x");
	http_cancel(&three[0].fetch);
	turn_leave(&fixture->turn);
	idle(fixture, 50);
	assert_int_equal(fixture->ndone, 0);

	struct counted pair[2] = {prepare(fixture, "GET"), prepare(fixture, "GET")};
	pair[0].then = cancel_and_start;
	start(&pair[1], "/silent");
	start(&pair[0], "/x");
	run(fixture, 2);
	assert_body(&pair[1], 200, "\"value\"");
	http_cancel(&pair[1].fetch);
}

static void test_waiting(void **state)
{
	struct fixture *fixture = *state;
	struct counted many[40];
	start_web(fixture, answer_simple);
	fixture->options.max_connections = 3;
	open_pool(fixture);
	for (int i = 0; i < 40; i++) {
		many[i] = prepare(fixture, "GET");
		start(&many[i], "/x");
	}
	run(fixture, 40);
	assert_int_equal(fixture->web->connections, 3);
	for (int i = 0; i < 40; i++)
		assert_body(&many[i], 200, "\"value\"");
}

/* The peer closes connections that are kept: the next request finds out at once. */
static void test_idle_close(void **state)
{
	struct fixture *fixture = *state;
	start_web(fixture, answer_simple);
	open_pool(fixture);
	for (int i = 0; i < 3; i++) {
		struct counted counted = get(fixture, "/x");
		assert_body(&counted, 200, "\"value\"");
		unsigned port = fixture->web->port;
		web_free(fixture->web);
		idle(fixture, 20);
		start_web(fixture, answer_simple);
		assert_int_not_equal(port, 0);
	}
}

static char redirect_away[128];

static const char *answer_redirect(const char *request, unsigned nth)
{
	(void)nth;
	if (strstr(request, " /here "))
		return "HTTP/1.1 302 x\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n";
	if (strstr(request, " /loop "))
		return "HTTP/1.1 301 x\r\nLocation: /loop\r\nContent-Length: 0\r\n\r\n";
	if (strstr(request, " /keep "))
		return "HTTP/1.1 307 x\r\nLocation: there\r\nContent-Length: 0\r\n\r\n";
	if (strstr(request, " /away "))
		return redirect_away;
	return WEB_REPLY("200", "7", "\"there\"");
}

static void test_redirects(void **state)
{
	struct fixture *fixture = *state;
	start_web(fixture, answer_redirect);
	open_pool(fixture);
	struct counted counted = get(fixture, "/here");
	assert_body(&counted, 302, "");
	http_pool_free(fixture->pool);
	fixture->options.follow_redirects = true;
	open_pool(fixture);
	counted = get(fixture, "/here");
	assert_body(&counted, 200, "\"there\"");
	counted = get(fixture, "/loop");
	assert_body(&counted, 301, "");
	snprintf(redirect_away, sizeof(redirect_away),
		"HTTP/1.1 302 x\r\nLocation: http://localhost:%u/there\r\nContent-Length: "
		"0\r\n\r\n",
		fixture->web->port);
	counted = get(fixture, "/away");
	assert_body(&counted, 302, "");

	counted = prepare(fixture, "POST");
	counted.fetch.content_type = "a/b";
	counted.fetch.send = STR("body");
	counted.fetch.once = true;
	fetch(&counted, "/keep");
	assert_body(&counted, 200, "\"there\"");
	assert_non_null(
		strstr(fixture->web->log[fixture->web->nlog - 1], "POST /there HTTP/1.1\r\n"));
	assert_non_null(strstr(fixture->web->log[fixture->web->nlog - 1], "\r\n\r\nbody"));
	fetch(&counted, "/here");
	assert_body(&counted, 302, "");
}

/* A name that is being resolved when nobody wants the answer any more. */
static void test_cancel_resolving(void **state)
{
	struct fixture *fixture = *state;
	snprintf(fixture->url, sizeof(fixture->url), "http://nowhere.invalid");
	open_pool(fixture);
	struct counted counted = prepare(fixture, "GET");
	uint64_t from = fixture->turn.clock();
	start(&counted, "/x");
	http_cancel(&counted.fetch);
	assert_true(fixture->turn.clock() - from < 1000);
	assert_false(counted.done);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_replies),
		TEST(test_urls),
		TEST(test_bad_urls),
		TEST(test_own_headers),
		TEST(test_request),
		TEST(test_methods),
		TEST(test_unreachable),
		TEST(test_no_tls),
		TEST(test_schemes),
		TEST(test_broken),
		TEST(test_unclear_length),
		TEST(test_kept_connection_dies),
		TEST(test_too_large),
		TEST(test_cancel),
		TEST(test_waiting),
		TEST(test_idle_close),
		TEST(test_redirects),
		TEST(test_cancel_resolving),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
