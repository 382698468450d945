/* Tests of `mapmux query`: endpoints, replies taken apart, conversations with a server that follows
 * a script, what is printed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "client/client.h"
#include "client/client_wire.h"

static char dir[] = "/tmp/mapmux-client-XXXXXX";
static char sock_path[64], out_path[64], in_path[64];

static int set_up(void **state)
{
	(void)state;
	if (!mkdtemp(dir))
		return -1;
	snprintf(sock_path, sizeof(sock_path), "%s/sock", dir);
	snprintf(out_path, sizeof(out_path), "%s/out", dir);
	snprintf(in_path, sizeof(in_path), "%s/in", dir);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	unlink(sock_path);
	unlink(out_path);
	unlink(in_path);
	return rmdir(dir);
}

static void assert_str(struct str s, const char *expected)
{
	if (!str_eq(s, str_of(expected)))
		fail_msg("\"%.*s\" instead of \"%s\"", (int)s.len, s.len ? s.ptr : "", expected);
}

/* A server that expects some bytes and sends others, step by step. */
struct step {
	const char *expect, *send; /* NULL as `expect`: wait for the next connection */
	size_t cut;                /* sends so many bytes at a time; 0: all at once */
};

struct server {
	const struct step *steps; /* the last one has neither expect nor send */
	pthread_t thread;
	int listener;
	bool wrong; /* the client sent something else */
};

/* Reads just what is expected. */
static bool hear(int fd, const char *expect)
{
	char got[4096];
	size_t len = strlen(expect), have = 0;
	while (have < len) {
		ssize_t n = read(fd, got + have, len - have);
		if (n <= 0)
			return false;
		have += (size_t)n;
	}
	if (memcmp(got, expect, len) != 0)
		print_error("got %.*s\n", (int)have, got);
	return memcmp(got, expect, len) == 0;
}

static void say(int fd, const char *text, size_t cut)
{
	size_t len = strlen(text);
	for (size_t n; len > 0; text += n, len -= n) {
		n = cut && cut < len ? cut : len;
		if (send(fd, text, n, MSG_NOSIGNAL) != (ssize_t)n)
			return;
		if (cut)
			usleep(200);
	}
}

static void *serve(void *arg)
{
	struct server *server = arg;
	int fd = accept(server->listener, NULL, NULL);
	for (const struct step *step = server->steps; step->expect || step->send; step++) {
		if (!step->expect) {
			close(fd);
			fd = accept(server->listener, NULL, NULL);
			continue;
		}
		server->wrong = server->wrong || !hear(fd, step->expect);
		say(fd, step->send, step->cut);
	}
	close(fd);
	return NULL;
}

static void server_start(struct server *server, const struct step *steps)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	strcpy(address.sun_path, sock_path);
	unlink(sock_path);
	*server = (struct server){.steps = steps};
	server->listener = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(server->listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(server->listener, 5), 0);
	assert_int_equal(pthread_create(&server->thread, NULL, serve, server), 0);
}

static void server_end(struct server *server)
{
	pthread_join(server->thread, NULL);
	close(server->listener);
	assert_false(server->wrong);
}

/* A client of it. */
static void peer_init(struct peer *peer, struct endpoint *endpoint, int protocol, int version)
{
	*endpoint = (struct endpoint){.protocol = protocol, .table = STR("t")};
	endpoint->address = (struct address){.kind = ADDRESS_UNIX, .path = sock_path};
	*peer = (struct peer){.endpoint = endpoint,
		.timeout_ms = 5000,
		.version = version,
		.user = protocol == ASK_DICT ? STR("al\tice") : STR("")};
}

static void endpoints_are_parsed(void **state)
{
	(void)state;
	struct arena mem = {0};
	struct endpoint endpoint;
	struct error error;
	assert_true(endpoint_parse("socketmap:unix:/run/x:y:alias", &mem, &endpoint, &error));
	assert_int_equal(endpoint.protocol, ASK_SOCKETMAP);
	assert_int_equal(endpoint.address.kind, ADDRESS_UNIX);
	assert_string_equal(endpoint.address.path, "/run/x:y");
	assert_str(endpoint.table, "alias");
	assert_true(endpoint_parse("dict:unix:rel/path:", &mem, &endpoint, &error));
	assert_int_equal(endpoint.protocol, ASK_DICT);
	assert_string_equal(endpoint.address.path, "rel/path");
	assert_str(endpoint.table, "");
	assert_true(endpoint_parse("socketmap:inet:[::1]:10001:a b", &mem, &endpoint, &error));
	assert_int_equal(endpoint.address.kind, ADDRESS_INET);
	assert_string_equal(endpoint.address.host, "::1");
	assert_string_equal(endpoint.address.port, "10001");
	assert_str(endpoint.table, "a b");
	assert_true(endpoint_parse("tcp:[::1]:10003", &mem, &endpoint, &error));
	assert_int_equal(endpoint.protocol, ASK_TCP);
	assert_string_equal(endpoint.address.host, "::1");
	assert_string_equal(endpoint.address.port, "10003");
	assert_str(endpoint.table, "");
	assert_true(endpoint_parse("dict:inet::10001:t", &mem, &endpoint, &error));
	assert_string_equal(endpoint.address.host, "");
	static const char *const bad[] = {"", "socketmap", "socketmap:", "tcp:unix:/run/x",
		"tcp:127.0.0.1", "tcp:systemd:x", "tcp:", "socketmap:unix:/run/x",
		"socketmap:udp:h:1:t", "dict:inet:host:t", "dict:inet:h:0:t", "dict:inet:h:99999:t",
		"dict:inet:systemd:x:t", "dict:unix::t", "socketmap:127.0.0.1:10001:t",
		"foo:unix:/x:t"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		if (endpoint_parse(bad[i], &mem, &endpoint, &error))
			fail_msg("%s was taken", bad[i]);
		assert_non_null(strstr(error.text, "allowed: socketmap:unix:PATH:TABLE"));
	}
	arena_clear(&mem);
}

/* "ok value", "notfound", "temp reason", or "bad" */
static void assert_reply(bool (*parse)(struct str, struct arena *, struct reply *),
	const char *text, const char *expected)
{
	static const char *const names[] = {"ok", "notfound", "temp", "perm", "uncertain"};
	struct arena mem = {0};
	struct reply reply;
	struct str got = STR("bad");
	if (parse(str_of(text), &mem, &reply)) {
		got = arena_printf(&mem, "%s", names[reply.outcome]);
		for (size_t i = 0; i < reply.nvalues; i++)
			got = arena_printf(&mem, "%s %.*s", got.ptr, (int)reply.values[i].len,
				reply.values[i].ptr);
		if (reply.why.len > 0)
			got = arena_printf(
				&mem, "%s %.*s", got.ptr, (int)reply.why.len, reply.why.ptr);
	}
	assert_str(got, expected);
	arena_clear(&mem);
}

static void socketmap_replies(void **state)
{
	(void)state;
	assert_reply(socketmap_reply, "OK value", "ok value");
	assert_reply(socketmap_reply, "OK  two  words ", "ok  two  words ");
	assert_reply(socketmap_reply, "OK ", "ok ");
	assert_reply(socketmap_reply, "OK", "ok ");
	assert_reply(socketmap_reply, "NOTFOUND ", "notfound");
	assert_reply(socketmap_reply, "NOTFOUND", "notfound");
	assert_reply(socketmap_reply, "NOTFOUND text", "notfound");
	assert_reply(socketmap_reply, "TEMP down now", "temp down now");
	assert_reply(socketmap_reply, "TIMEOUT late", "temp late");
	assert_reply(socketmap_reply, "PERM wrong", "perm wrong");
	assert_reply(socketmap_reply, "ok value", "bad");
	assert_reply(socketmap_reply, "OK\tvalue", "bad");
	assert_reply(socketmap_reply, "", "bad");
	assert_reply(socketmap_reply, "O", "bad");
}

static void tcp_replies(void **state)
{
	(void)state;
	assert_reply(tcp_reply, "200 value", "ok value");
	assert_reply(tcp_reply, "200 ", "ok ");
	assert_reply(tcp_reply, "200  a+b%20%c3%BC%25", "ok  a+b \303\274%");
	assert_reply(tcp_reply, "500 not found", "notfound");
	assert_reply(tcp_reply, "400 try%20later", "temp try later");
	assert_reply(tcp_reply, "200", "bad");
	assert_reply(tcp_reply, "2000 x", "bad");
	assert_reply(tcp_reply, "2x0 x", "bad");
	assert_reply(tcp_reply, "300 x", "bad");
	assert_reply(tcp_reply, "200 %", "bad");
	assert_reply(tcp_reply, "200 %4", "bad");
	assert_reply(tcp_reply, "400 %4g", "bad");
	assert_reply(tcp_reply, "", "bad");
}

static void tcp_conversation(void **state)
{
	(void)state;
	const struct step steps[] = {{"get a%20b%25%C3%BC\n", "200 v%0A\n", 1},
		{"get \n", "500 not found\n", 0}, {"get x\n", "400 down\r\n", 2}, {0}};
	struct server server;
	struct endpoint endpoint;
	struct peer peer;
	struct reply reply;
	struct arena mem = {0};
	server_start(&server, steps);
	peer_init(&peer, &endpoint, ASK_TCP, 3);
	peer_lookup(&peer, STR("a b%\303\274"), &mem, &reply);
	assert_int_equal(reply.outcome, GOT_OK);
	assert_str(reply.values[0], "v\n");
	peer_lookup(&peer, STR(""), &mem, &reply);
	assert_int_equal(reply.outcome, GOT_NOTFOUND);
	peer_lookup(&peer, STR("x"), &mem, &reply);
	assert_int_equal(reply.outcome, GOT_TEMP);
	assert_str(reply.why, "down");
	peer_close(&peer);
	server_end(&server);
	arena_clear(&mem);
}

static void dict_lookup_replies(void **state)
{
	(void)state;
	assert_reply(dict_lookup_reply, "Ovalue", "ok value");
	assert_reply(dict_lookup_reply, "O", "ok ");
	assert_reply(dict_lookup_reply, "Oa\001tb\001nc\0011d\001re\001xf", "ok a\tb\nc\001d\rexf");
	assert_reply(dict_lookup_reply, "Ov\001", "ok v");
	assert_reply(dict_lookup_reply, "Ov\t1\t2\t3\t4", "ok v");
	assert_reply(dict_lookup_reply, "Mone\001ttw\0011to\001tthree", "ok one tw\to three");
	assert_reply(dict_lookup_reply, "Mone\ttwo", "ok one");
	assert_reply(dict_lookup_reply, "M", "bad");
	assert_reply(dict_lookup_reply, "N", "notfound");
	assert_reply(dict_lookup_reply, "N\t1\t2\t3\t4", "notfound");
	assert_reply(dict_lookup_reply, "Fdown\001tnow", "temp down\tnow");
	assert_reply(dict_lookup_reply, "F\t1\t2\t3\t4", "temp");
	assert_reply(dict_lookup_reply, "", "bad");
	assert_reply(dict_lookup_reply, "W", "bad");
	assert_reply(dict_lookup_reply, "Xvalue", "bad");
}

static void dict_commit_replies(void **state)
{
	(void)state;
	assert_reply(dict_commit_reply, "O", "ok");
	assert_reply(dict_commit_reply, "O1", "ok");
	assert_reply(dict_commit_reply, "O1\t1\t2\t3\t4", "ok");
	assert_reply(dict_commit_reply, "N1", "notfound");
	assert_reply(dict_commit_reply, "F1\tdisk full", "temp disk full");
	assert_reply(dict_commit_reply, "F1\tdisk full\t1\t2\t3\t4", "temp disk full");
	assert_reply(dict_commit_reply, "F1\t1\t2\t3\t4", "temp");
	assert_reply(dict_commit_reply, "Flost", "temp");
	assert_reply(dict_commit_reply, "W1\tlost", "uncertain lost");
	assert_reply(dict_commit_reply, "", "bad");
	assert_reply(dict_commit_reply, "Mx", "bad");
	assert_reply(dict_commit_reply, "AO1", "bad");
}

static void socketmap_conversation(void **state)
{
	(void)state;
	for (size_t cut = 0; cut < 4; cut++) {
		const struct step steps[] = {{"5:t key,", "8:OK value,", cut},
			{"5:t two,", "9:NOTFOUND ,", cut}, {"2:t ,", "09:TEMP down,", cut}, {0}};
		struct server server;
		struct endpoint endpoint;
		struct peer peer;
		struct reply reply;
		struct arena mem = {0};
		server_start(&server, steps);
		peer_init(&peer, &endpoint, ASK_SOCKETMAP, 3);
		peer_lookup(&peer, STR("key"), &mem, &reply);
		assert_int_equal(reply.outcome, GOT_OK);
		assert_str(reply.values[0], "value");
		peer_lookup(&peer, STR("two"), &mem, &reply);
		assert_int_equal(reply.outcome, GOT_NOTFOUND);
		peer_lookup(&peer, STR(""), &mem, &reply);
		assert_int_equal(reply.outcome, GOT_TEMP);
		assert_str(reply.why, "down");
		assert_false(reply.broken);
		peer_close(&peer);
		server_end(&server);
		arena_clear(&mem);
	}
}

/* Whatever is no reply ends the conversation, as a failure. */
static void assert_broken(int protocol, const char *request, const char *bad, const char *why)
{
	const struct step steps[] = {{request, bad, 0}, {0}};
	struct server server;
	struct endpoint endpoint;
	struct peer peer;
	struct reply reply;
	struct arena mem = {0};
	server_start(&server, steps);
	peer_init(&peer, &endpoint, protocol, 3);
	peer_lookup(&peer, STR("k"), &mem, &reply);
	assert_int_equal(reply.outcome, GOT_TEMP);
	assert_true(reply.broken);
	if (!strstr(reply.why.ptr, why))
		fail_msg("%s: %s", bad, reply.why.ptr);
	peer_close(&peer);
	server_end(&server);
	arena_clear(&mem);
}

static void bad_replies_are_failures(void **state)
{
	(void)state;
	static const char map[] = "3:t k,", dict[] = "H3\t2\t0\t\tt\nLk\tal\001tice\n";
	assert_broken(ASK_SOCKETMAP, map, "x", "bad reply");
	assert_broken(ASK_SOCKETMAP, map, ":", "bad reply");
	assert_broken(ASK_SOCKETMAP, map, "4:OK xy", "bad reply");
	assert_broken(ASK_SOCKETMAP, map, "999999999:", "bad reply");
	assert_broken(ASK_SOCKETMAP, map, "99999999999999999999999", "bad reply");
	assert_broken(ASK_SOCKETMAP, map, "4:what,", "bad reply");
	assert_broken(ASK_SOCKETMAP, map, "8:OK val", "closed");
	assert_broken(ASK_SOCKETMAP, map, "", "closed");
	assert_broken(ASK_DICT, dict, "\n", "bad reply");
	assert_broken(ASK_DICT, dict, "*0\n", "bad reply");
	assert_broken(ASK_DICT, dict, "*1\n*2\n", "bad reply");
	assert_broken(ASK_DICT, dict, "+1\tOx\n", "bad reply");
	assert_broken(ASK_DICT, dict, "*1\n+2\tOx\n", "bad reply");
	assert_broken(ASK_DICT, dict, "Ovalue", "closed");
	assert_broken(ASK_TCP, "get k\n", "\n", "bad reply");
	assert_broken(ASK_TCP, "get k\n", "300 x\n", "bad reply");
	assert_broken(ASK_TCP, "get k\n", "500 100% sure\n", "bad reply");
	assert_broken(ASK_TCP, "get k\n", "200 val", "closed");
}

static void dict_conversations(void **state)
{
	(void)state;
	static const struct {
		int version;
		const char *hello, *second, *reply;
	} cases[] = {
		{2, "H2\t2\t0\tal\tice\tt\nLshared/k\n", "Lshared/k\n", "Oa\001tb\n"},
		{3, "H3\t2\t0\t\tt\nLshared/k\tal\001tice\n", "Lshared/k\tal\001tice\n",
			"*7\n+7\tOa\001tb\n"},
		{3, "H3\t2\t0\t\tt\nLshared/k\tal\001tice\n", "Lshared/k\tal\001tice\n",
			"*7\r\n+7\tOa\001tb\t1\t2\t3\t4\r\n"},
		{4, "H4\t0\t0\t\tt\nLshared/k\tal\001tice\n", "Lshared/k\tal\001tice\n",
			"*1\nOa\001tb\n"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const struct step steps[] = {{cases[i].hello, cases[i].reply, i % 3},
			{cases[i].second, cases[i].reply, 1}, {0}};
		struct server server;
		struct endpoint endpoint;
		struct peer peer;
		struct reply reply;
		struct arena mem = {0};
		server_start(&server, steps);
		peer_init(&peer, &endpoint, ASK_DICT, cases[i].version);
		for (int n = 0; n < 2; n++) {
			peer_lookup(&peer, STR("shared/k"), &mem, &reply);
			assert_int_equal(reply.outcome, GOT_OK);
			assert_str(reply.values[0], "a\tb");
		}
		peer_close(&peer);
		server_end(&server);
		arena_clear(&mem);
	}
}

static void add_row(void *arg, struct str name, struct str value)
{
	struct buf *buf = arg;
	buf_add(buf, name);
	buf_add_char(buf, '=');
	buf_add(buf, value);
	buf_add_char(buf, ';');
}

static void assert_iteration(const char *sent, size_t cut, enum outcome outcome, const char *rows)
{
	const struct step steps[] = {
		{"H3\t2\t0\t\tt\nI9\t5\tshared/p/\tal\001tice\n", sent, cut}, {0}};
	struct server server;
	struct endpoint endpoint;
	struct peer peer;
	struct reply reply;
	struct arena mem = {0};
	struct buf got = {.max = 10000};
	server_start(&server, steps);
	peer_init(&peer, &endpoint, ASK_DICT, 3);
	peer_iterate(&peer, STR("shared/p/"), ITER_RECURSE | ITER_NO_VALUE, 5, add_row, &got, &mem,
		&reply);
	assert_int_equal(reply.outcome, outcome);
	assert_str(buf_str(&got), rows);
	peer_close(&peer);
	server_end(&server);
	arena_clear(&mem);
	buf_free(&got);
}

static void iterations(void **state)
{
	(void)state;
	for (size_t cut = 0; cut < 3; cut++) {
		assert_iteration("\n", cut, GOT_NOTFOUND, "");
		assert_iteration("Oa\t1\nOb\001tc\t2\t22\n\n", cut, GOT_OK, "a=1;b\tc=2;");
		assert_iteration(
			"*3\n+3\tOa\t\n+3\tOb\t\n+3\t\t1\t2\t3\t4\n", cut, GOT_OK, "a=;b=;");
		assert_iteration("Oa\t1\nFdown\n", cut, GOT_TEMP, "a=1;");
		assert_iteration("Oa\t1\nOb\n\n", cut, GOT_TEMP, "a=1;"); /* a row without TAB */
		assert_iteration("N\n", cut, GOT_TEMP, "");
		assert_iteration("Oa\t1\n", cut, GOT_TEMP, "a=1;"); /* no end */
	}
}

static void assert_commit(int version, const char *expect, const char *sent, enum outcome outcome)
{
	const struct step steps[] = {{expect, sent, 0}, {0}};
	const struct change changes[] = {
		{.kind = CH_SET, .key = STR("shared/a"), .value = STR("x\ny")},
		{.kind = CH_UNSET, .key = STR("priv/b")},
		{.kind = CH_ADD, .key = STR("shared/c"), .diff = -3}};
	struct server server;
	struct endpoint endpoint;
	struct peer peer;
	struct reply reply;
	struct arena mem = {0};
	server_start(&server, steps);
	peer_init(&peer, &endpoint, ASK_DICT, version);
	peer_commit(&peer, changes, 3, &mem, &reply);
	assert_int_equal(reply.outcome, outcome);
	peer_close(&peer);
	server_end(&server);
	arena_clear(&mem);
}

static void transactions(void **state)
{
	(void)state;
#define BODY "S1\tshared/a\tx\001ny\nU1\tpriv/b\nA1\tshared/c\t-3\nC1\n"
	static const char two[] = "H2\t2\t0\tal\tice\tt\nB1\n" BODY,
			  three[] = "H3\t2\t0\t\tt\nB1\tal\001tice\n" BODY,
			  four[] = "H4\t0\t0\t\tt\nB1\tal\001tice\t0\n" BODY;
#undef BODY
	assert_commit(2, two, "O1\n", GOT_OK);
	assert_commit(3, three, "*1\n+1\tO1\t1\t2\t3\t4\n", GOT_OK);
	assert_commit(4, four, "N1\n", GOT_NOTFOUND);
	assert_commit(3, three, "F1\twhy\n", GOT_TEMP);
	assert_commit(3, three, "W1\twhy\n", GOT_UNCERTAIN);
	assert_commit(3, three, "", GOT_UNCERTAIN); /* it was sent */
	assert_commit(3, three, "what\n", GOT_UNCERTAIN);
}

static void a_silent_server_times_out(void **state)
{
	(void)state;
	const struct step steps[] = {{"3:t k,", "4:OK", 0}, {NULL, "", 0}, {0}};
	struct server server;
	struct endpoint endpoint;
	struct peer peer;
	struct reply reply;
	struct arena mem = {0};
	server_start(&server, steps);
	/* Instead of closing, the server waits for a second connection. */
	peer_init(&peer, &endpoint, ASK_SOCKETMAP, 3);
	peer.timeout_ms = 60;
	int silent = socket(AF_UNIX, SOCK_STREAM, 0);
	struct endpoint other = endpoint;
	char path[96];
	snprintf(path, sizeof(path), "%s/silent", dir);
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	strcpy(address.sun_path, path);
	assert_int_equal(bind(silent, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(silent, 5), 0);
	other.address.path = path;
	peer.endpoint = &other;
	peer_lookup(&peer, STR("k"), &mem, &reply);
	assert_int_equal(reply.outcome, GOT_TEMP);
	assert_non_null(strstr(reply.why.ptr, "60 ms"));
	close(silent);
	unlink(path);

	peer.endpoint = &endpoint;
	peer.timeout_ms = 5000;
	peer_lookup(&peer, STR("k"), &mem, &reply); /* half a reply, then the end */
	assert_true(reply.broken);
	shutdown(server.listener, SHUT_RDWR);
	server_end(&server);
	arena_clear(&mem);
}

/* As Postfix does, once, when nothing of the reply has come. */
static void a_closed_idle_connection_is_opened_again(void **state)
{
	(void)state;
	const struct step steps[] = {{"3:t k,", "4:OK a,", 0}, {NULL, "", 0},
		{"3:t k,", "4:OK b,", 0}, {"3:t k,", "4:", 0}, {0}};
	struct server server;
	struct endpoint endpoint;
	struct peer peer;
	struct reply reply;
	struct arena mem = {0};
	server_start(&server, steps);
	peer_init(&peer, &endpoint, ASK_SOCKETMAP, 3);
	peer_lookup(&peer, STR("k"), &mem, &reply);
	assert_str(reply.values[0], "a");
	peer_lookup(&peer, STR("k"), &mem, &reply);
	assert_int_equal(reply.outcome, GOT_OK);
	assert_str(reply.values[0], "b");
	peer_lookup(&peer, STR("k"), &mem, &reply);
	assert_int_equal(reply.outcome, GOT_TEMP);
	assert_true(reply.broken);
	peer_close(&peer);
	server_end(&server);
	arena_clear(&mem);
}

/* Runs the whole client; what it prints must be `printed`. */
static void assert_run(int code, const char *printed, const char *in, const char *const *args)
{
	char *argv[16], got[1024];
	int argc = 0;
	for (; args[argc]; argc++)
		argv[argc] = strdup(args[argc]);
	FILE *file = fopen(in_path, "w");
	assert_non_null(file);
	fputs(in, file);
	fclose(file);
	assert_non_null(freopen(in_path, "r", stdin));
	fflush(stdout);
	int old = dup(STDOUT_FILENO);
	assert_non_null(freopen(out_path, "w", stdout));
	int result = client_main(argc, argv);
	fflush(stdout);
	dup2(old, STDOUT_FILENO);
	close(old);
	while (argc > 0)
		free(argv[--argc]);
	file = fopen(out_path, "r");
	assert_non_null(file);
	size_t n = fread(got, 1, sizeof(got) - 1, file);
	got[n] = '\0';
	fclose(file);
	assert_string_equal(got, printed);
	assert_int_equal(result, code);
}

#define RUN(code, printed, in, ...)                                                                \
	assert_run((code), (printed), (in), (const char *const[]){__VA_ARGS__, NULL})

static void what_is_printed(void **state)
{
	(void)state;
	char map[96], dict[96];
	struct server server;
	snprintf(map, sizeof(map), "socketmap:unix:%s:t", sock_path);
	snprintf(dict, sizeof(dict), "dict:unix:%s:t", sock_path);

	const struct step one[] = {{"3:t k,", "8:OK value,", 0}, {0}};
	server_start(&server, one);
	RUN(0, "value\n", "", map, "k");
	server_end(&server);

	const struct step several[] = {{"3:t a,", "4:OK 1,", 0}, {"3:t b,", "9:NOTFOUND ,", 0},
		{"2:t ,", "4:OK 3,", 0}, {"4:t -c,", "4:OK 4,", 0}, {0}};
	server_start(&server, several);
	RUN(0, "a\t1\n\t3\n-c\t4\n", "b\n\n", map, "a", "-", "--", "-c");
	server_end(&server);

	const struct step failing[] = {
		{"3:t a,", "4:OK 1,", 0}, {"3:t b,", "9:TEMP down,", 0}, {0}};
	server_start(&server, failing);
	RUN(2,
		"{\"key\":\"a\",\"status\":\"ok\",\"value\":\"1\"}\n"
		"{\"key\":\"b\",\"status\":\"temp\",\"reason\":\"down\"}\n",
		"", "--json", map, "a", "b");
	server_end(&server);

	const struct step none[] = {{"H3\t2\t0\t\tt\nLshared/k\t\n", "N\n", 0}, {0}};
	server_start(&server, none);
	RUN(1, "{\"key\":\"k\",\"status\":\"notfound\"}\n", "", dict, "k", "--json");
	server_end(&server);

	const struct step many[] = {{"H3\t2\t0\t\tt\nLpriv/k\tu\n", "Mone\001ttwo\n", 0}, {0}};
	server_start(&server, many);
	RUN(0, "one\ntwo\n", "", dict, "--user", "u", "priv/k");
	server_end(&server);

	const struct step rows[] = {
		{"H4\t0\t0\t\tt\nI17\t3\tshared/p/\t\n", "Oshared/p/a\t1\nOshared/p/b\t\n\n", 0},
		{0}};
	server_start(&server, rows);
	RUN(0, "shared/p/a\t1\nshared/p/b\t\n", "", dict, "--dict-version", "4", "--iterate", "p/",
		"--exact", "--max", "3", "--recurse");
	server_end(&server);

	const struct step lost[] = {
		{"H3\t2\t0\t\tt\nB1\t\nA1\tshared/n\t5\nC1\n", "W1\tlost\n", 0}, {0}};
	server_start(&server, lost);
	RUN(2, "{\"key\":\"n\",\"status\":\"uncertain\",\"reason\":\"lost\"}\n", "", dict, "--json",
		"--inc", "n", "5");
	server_end(&server);

	const struct step latin[] = {{"3:t k,", "4:OK \xfc,", 0}, {0}};
	server_start(&server, latin);
	RUN(2,
		"{\"key\":\"k\",\"status\":\"ok\",\"value\":null,"
		"\"reason\":\"not UTF-8: it cannot be shown as JSON\"}\n",
		"", "--json", map, "k");
	server_end(&server);
	unlink(sock_path);
	RUN(2,
		"{\"key\":\"k\",\"status\":\"temp\","
		"\"reason\":\"connect: No such file or directory\"}\n",
		"", "--json", map, "k");
}

static void http_replies(void **state)
{
	static const struct {
		const char *body;
		bool ok;
		enum outcome outcome;
		const char *value, *why, *trace;
	} table[] = {
		{"{\"status\":\"ok\",\"value\":\"v\"}\n", true, GOT_OK, "v", "", ""},
		{"{\"status\":\"ok\",\"value\":[\"a\", \"b\"]}", true, GOT_OK, "[\"a\",\"b\"]", "",
			""},
		{"{\"status\":\"ok\",\"value\":\"\"}", true, GOT_OK, "", "", ""},
		{"{\"status\":\"notfound\",\"trace\":[{\"us\":1}]}", true, GOT_NOTFOUND, NULL, "",
			"[{\"us\":1}]"},
		{"{\"status\":\"temp\",\"reason\":\"down\"}", true, GOT_TEMP, NULL, "down", ""},
		{"{\"status\":\"uncertain\",\"reason\":\"lost\"}", true, GOT_UNCERTAIN, NULL,
			"lost", ""},
		{"{\"status\":\"error\",\"reason\":\"unknown table\"}", true, GOT_PERM, NULL,
			"unknown table", ""},
		{"{\"status\":\"fine\"}", false, 0, NULL, "", ""},
		{"{}", false, 0, NULL, "", ""},
		{"<html>", false, 0, NULL, "", ""},
		{"", false, 0, NULL, "", ""},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		struct arena mem = {0};
		struct reply reply;
		assert_int_equal(http_reply(str_of(table[i].body), &mem, &reply), table[i].ok);
		if (table[i].ok) {
			assert_int_equal(reply.outcome, table[i].outcome);
			assert_int_equal(reply.nvalues, table[i].value != NULL);
			if (table[i].value)
				assert_str(reply.values[0], table[i].value);
			assert_str(reply.why, table[i].why);
			assert_str(reply.trace, table[i].trace);
		}
		arena_clear(&mem);
	}
}

static void wrong_use_is_an_error(void **state)
{
	(void)state;
	static const char map[] = "socketmap:unix:/nowhere:t", dict[] = "dict:unix:/nowhere:t",
			  http[] = "http:unix:/nowhere:t";
	RUN(2, "", "", map);
	RUN(2, "", "", dict);
	RUN(2, "", "", "k");
	RUN(2, "", "", "--nonsense", map, "k");
	RUN(2, "", "", map, "k", "--timeout");
	RUN(2, "", "", map, "k", "--timeout", "0");
	RUN(2, "", "", map, "--iterate", "p");
	RUN(2, "", "", map, "k", "--user", "u");
	RUN(2, "", "", map, "k", "--trace");
	RUN(2, "", "", dict, "k", "--trace");
	RUN(2, "", "", http, "k", "--form", "xml");
	RUN(2, "", "", http, "k", "--scope", "mine");
	RUN(2, "", "", http, "k", "--token-file", "/nowhere/token");
	RUN(2, "", "", http, "--set", "k", "v");
	RUN(2, "", "", http, "k", "--dict-version", "3");
	RUN(2, "", "", dict, "k", "--iterate", "p");
	RUN(2, "", "", dict, "--iterate", "p", "--iterate", "q");
	RUN(2, "", "", dict, "--iterate", "priv/p");
	RUN(2, "", "", dict, "k", "--recurse");
	RUN(2, "", "", dict, "--set", "k");
	RUN(2, "", "", dict, "--set", "k", "v", "--iterate", "p");
	RUN(2, "", "", dict, "--inc", "k", "many");
	RUN(2, "", "", dict, "--unset", "priv/k");
	RUN(2, "", "", dict, "--dict-version", "5", "k");
	RUN(2, "", "", dict, "--max", "-1", "--iterate", "p");
	RUN(2, "", "", dict, "priv/k");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(endpoints_are_parsed),
		cmocka_unit_test(socketmap_replies),
		cmocka_unit_test(tcp_replies),
		cmocka_unit_test(tcp_conversation),
		cmocka_unit_test(dict_lookup_replies),
		cmocka_unit_test(dict_commit_replies),
		cmocka_unit_test(socketmap_conversation),
		cmocka_unit_test(bad_replies_are_failures),
		cmocka_unit_test(dict_conversations),
		cmocka_unit_test(iterations),
		cmocka_unit_test(transactions),
		cmocka_unit_test(a_silent_server_times_out),
		cmocka_unit_test(a_closed_idle_connection_is_opened_again),
		cmocka_unit_test(what_is_printed),
		cmocka_unit_test(http_replies),
		cmocka_unit_test(wrong_use_is_an_error),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
