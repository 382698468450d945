/* Engine: pipelines of commands to a Redis server, by hiredis's reader on a worker's loop.
 *
 * Of hiredis 0.14 it is the parser alone: its asynchronous part ends the process by an assertion
 * when a server talks unasked, resolves names in the loop's thread, and has no limit to connecting.
 *
 * What is asked while the loop goes through its events is written together behind them; one read
 * brings many replies, and whom they belong to is told by their order. */
#include "engine/redis.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <hiredis/hiredis.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/buf.h"
#include "engine/names.h"

enum {
	MAX_OUT = 64 << 20,    /* bytes that wait to be sent */
	MAX_FLIGHTS = 65536,   /* asks whose replies have not come, somebody waiting or not */
	MAX_WAITING = 65536,   /* asks that wait for a connection */
	KEEP_FLIGHTS = 256,    /* spare ones */
	KEEP_OUT = 256 * 1024, /* bytes of buffer that an idle connection may keep */
	READ_SIZE = 64 * 1024,
	SCRATCH = 4096,
	BACKOFF_MIN_MS = 100,
	BACKOFF_MAX_MS = 2000,
	RENEW_MS = 1000, /* between connections given up because of what the server says */
};

/* Commands of one ask on their way, and their replies. It outlives an asker that has left. */
struct redis_flight {
	struct redis_ask *ask; /* NULL: nobody waits any more */
	size_t left;           /* replies to come */
	uint64_t begins;       /* where its first byte stands in all that was ever sent */
	TAILQ_ENTRY(redis_flight) link;
};

TAILQ_HEAD(flight_list, redis_flight);
TAILQ_HEAD(ask_list, redis_ask);

struct redis {
	struct event_base *base;
	struct turn *turn;
	const struct redis_options *options;
	enum { STATE_IDLE, STATE_NAMING, STATE_CONNECTING, STATE_GREETING, STATE_READY } state;

	struct names_ask *names;
	struct addrinfo *found, *next; /* addresses, and that to be tried next */
	unsigned backoff_ms;
	uint64_t not_before_ms; /* the next connection */
	char why[160];          /* the last one failed */

	int fd;
	struct event readable, writable, timer;
	struct event flush; /* behind the events that are active now */
	struct event soon;  /* asks failed in redis_start() */
	bool timed, writing;
	uint64_t heard_ms; /* last input, or when the first of the flights went out */
	uint64_t renewed_ms;
	bool stale;         /* let the flights land, then make another connection */
	unsigned greetings; /* replies to come before it is ready */

	struct buf out;
	size_t out_at;    /* what stands before it is written */
	uint64_t written; /* bytes in all its life, over connections */
	redisReader *reader;
	redisReplyObjectFunctions functions; /* the reader's */
	struct arena scratch;                /* the reply being read */
	size_t scratch_used;
	char *scratch_first;

	struct flight_list flights, spare;
	size_t nflights, nspare;
	struct ask_list waiting;  /* for a connection */
	struct ask_list finished; /* for done() */
	size_t nwaiting, nfinished;
	struct job deliver;
};

static void connect_now(struct redis *redis);
static void connect_next(struct redis *redis);
static void set_flush(struct redis *redis);

/* ---- asks that are over ---- */

/* A start in done() that fails at once waits for the loop: nobody can keep a turn from ending. */
static void on_deliver(struct job *job)
{
	struct redis *redis =
		(struct redis *)(void *)((char *)job - offsetof(struct redis, deliver));
	struct redis_ask *ask;
	for (size_t n = redis->nfinished; n > 0 && (ask = TAILQ_FIRST(&redis->finished)); n--) {
		TAILQ_REMOVE(&redis->finished, ask, link);
		redis->nfinished--;
		ask->redis = NULL;
		ask->done(ask);
	}
}

static void on_soon(evutil_socket_t fd, short what, void *arg)
{
	struct redis *redis = arg;
	(void)fd;
	(void)what;
	turn_enter(redis->turn);
	on_deliver(&redis->deliver);
	turn_leave(redis->turn);
}

static void tell_reply(const struct redis_ask *ask)
{
	static const char *const kinds[] = {"nothing", "a text", "a number", "a list", "an error"};
	if (ask->result != REDIS_REPLY)
		query_note(ask->asker, "no reply", "%.*s", (int)ask->why.len, ask->why.ptr);
	else
		query_note(ask->asker, "reply", "%s", kinds[ask->replies[ask->ncommands - 1].kind]);
}

static void finish(struct redis *redis, struct redis_ask *ask, enum redis_result result)
{
	ask->flight = NULL;
	ask->result = result;
	if (ask->asker)
		tell_reply(ask);
	TAILQ_INSERT_TAIL(&redis->finished, ask, link);
	redis->nfinished++;
}

static void finish_why(
	struct redis *redis, struct redis_ask *ask, enum redis_result result, const char *why)
{
	struct arena mem = {0};
	ask->why = arena_printf(ask->mem, "%s: %s", redis_where(redis->options, &mem).ptr, why);
	arena_clear(&mem);
	finish(redis, ask, result);
}

/* In a turn. */
static void deliver(struct redis *redis)
{
	if (redis->nfinished > 0)
		turn_add_job(redis->turn, &redis->deliver, on_deliver);
}

static void stop_waiting(struct redis *redis, struct redis_ask *ask)
{
	TAILQ_REMOVE(&redis->waiting, ask, link);
	redis->nwaiting--;
	ask->waiting = false;
}

static void refuse_waiting(struct redis *redis, const char *why)
{
	struct redis_ask *ask;
	while ((ask = TAILQ_FIRST(&redis->waiting))) {
		stop_waiting(redis, ask);
		finish_why(redis, ask, REDIS_UNREACHABLE, why);
	}
	deliver(redis);
}

/* ---- flights ---- */

static struct redis_flight *flight_new(struct redis *redis)
{
	struct redis_flight *flight = TAILQ_FIRST(&redis->spare);
	if (flight) {
		TAILQ_REMOVE(&redis->spare, flight, link);
		redis->nspare--;
	} else {
		flight = memory_new(sizeof(*flight));
	}
	TAILQ_INSERT_TAIL(&redis->flights, flight, link);
	redis->nflights++;
	return flight;
}

static void flight_end(struct redis *redis, struct redis_flight *flight)
{
	TAILQ_REMOVE(&redis->flights, flight, link);
	redis->nflights--;
	if (redis->nspare >= KEEP_FLIGHTS) {
		free(flight);
		return;
	}
	TAILQ_INSERT_HEAD(&redis->spare, flight, link);
	redis->nspare++;
}

static void free_flights(struct flight_list *list)
{
	struct redis_flight *next;
	for (struct redis_flight *flight = TAILQ_FIRST(list); flight; flight = next) {
		next = TAILQ_NEXT(flight, link);
		free(flight);
	}
	TAILQ_INIT(list);
}

/* ---- the time that may pass ---- */

static void set_timer(struct redis *redis, int64_t ms)
{
	struct timeval in = {(time_t)(ms / 1000), (suseconds_t)(ms % 1000 * 1000)};
	redis->timed = true;
	evtimer_add(&redis->timer, &in);
}

static void drop_timer(struct redis *redis)
{
	if (redis->timed)
		evtimer_del(&redis->timer);
	redis->timed = false;
}

/* ---- the end of a connection ---- */

static void hang_up(struct redis *redis)
{
	if (redis->names)
		names_cancel(redis->names);
	redis->names = NULL;
	if (redis->fd >= 0) {
		event_del(&redis->readable);
		event_del(&redis->writable);
		close(redis->fd);
	}
	redis->fd = -1;
	redis->writing = redis->stale = false;
	if (redis->reader)
		redisReaderFree(redis->reader);
	redis->reader = NULL;
	arena_clear(&redis->scratch);
	drop_timer(redis);
	redis->state = STATE_IDLE;
	buf_free(&redis->out);
	redis->out_at = 0;
}

static void forget_addresses(struct redis *redis)
{
	if (redis->found)
		freeaddrinfo(redis->found);
	redis->found = redis->next = NULL;
}

/* No connection came to be. The next address, or an end for those who wait. */
static void fail_connection(struct redis *redis, const char *why)
{
	hang_up(redis);
	snprintf(redis->why, sizeof(redis->why), "%s", why);
	if (redis->next) {
		connect_next(redis);
		return;
	}
	forget_addresses(redis);
	redis->backoff_ms = redis->backoff_ms ? redis->backoff_ms * 2 : BACKOFF_MIN_MS;
	if (redis->backoff_ms > BACKOFF_MAX_MS)
		redis->backoff_ms = BACKOFF_MAX_MS;
	redis->not_before_ms = redis->turn->now_ms + redis->backoff_ms;
	refuse_waiting(redis, redis->why);
}

/* A connection that had worked is lost, and the replies with it. */
static void lose_connection(struct redis *redis, const char *why)
{
	struct redis_flight *flight;
	TAILQ_FOREACH (flight, &redis->flights, link) {
		bool sent = flight->begins < redis->written;
		if (flight->ask)
			finish_why(
				redis, flight->ask, sent ? REDIS_BROKEN : REDIS_UNREACHABLE, why);
	}
	free_flights(&redis->flights);
	redis->nflights = 0;
	hang_up(redis);
	deliver(redis);
	if (!TAILQ_EMPTY(&redis->waiting))
		connect_now(redis);
}

static void fail(struct redis *redis, const char *why)
{
	if (redis->state == STATE_READY)
		lose_connection(redis, why);
	else
		fail_connection(redis, why);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct redis *redis = arg;
	(void)fd;
	(void)what;
	turn_enter(redis->turn);
	redis->timed = false;
	uint64_t silent = redis->turn->now_ms - redis->heard_ms,
		 limit = (uint64_t)redis->options->silence_ms;
	if (redis->state != STATE_READY)
		fail(redis, redis->state == STATE_NAMING ? "its name was not resolved in time"
							 : "no connection in time");
	else if (redis->nflights > 0 && silent >= limit)
		fail(redis, "no answer in time");
	else if (redis->nflights > 0)
		set_timer(redis, (int64_t)(limit - silent));
	turn_leave(redis->turn);
}

/* ---- writing ---- */

static size_t digits(size_t n)
{
	size_t count = 1;
	while ((n /= 10) > 0)
		count++;
	return count;
}

/* "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n": lengths before the bytes, so that no byte means anything. */
static size_t command_size(const struct redis_command *command)
{
	size_t size = 1 + digits(command->argc) + 2;
	for (size_t i = 0; i < command->argc; i++)
		size += 1 + digits(command->argv[i].len) + 2 + command->argv[i].len + 2;
	return size;
}

static void add_length(struct buf *out, char mark, size_t n)
{
	buf_add_char(out, mark);
	buf_add_u64(out, n);
	buf_add(out, STR("\r\n"));
}

static void add_command(struct buf *out, const struct redis_command *command)
{
	add_length(out, '*', command->argc);
	for (size_t i = 0; i < command->argc; i++) {
		add_length(out, '$', command->argv[i].len);
		buf_add(out, command->argv[i]);
		buf_add(out, STR("\r\n"));
	}
}

/* All commands or none. */
static bool add_commands(struct buf *out, const struct redis_command *commands, size_t n)
{
	size_t size = 0;
	for (size_t i = 0; i < n; i++)
		size += command_size(&commands[i]);
	if (!buf_reserve(out, size)) {
		out->overflow = false;
		return false;
	}
	for (size_t i = 0; i < n; i++)
		add_command(out, &commands[i]);
	return true;
}

static void send_ask(struct redis *redis, struct redis_ask *ask)
{
	uint64_t begins = redis->written + redis->out.len - redis->out_at;
	if (redis->nflights >= MAX_FLIGHTS ||
		!add_commands(&redis->out, ask->commands, ask->ncommands)) {
		finish_why(redis, ask, REDIS_UNREACHABLE, "too much is under way already");
		return;
	}
	if (redis->nflights == 0)
		redis->heard_ms = redis->turn->now_ms;
	struct redis_flight *flight = flight_new(redis);
	flight->ask = ask;
	flight->left = ask->ncommands;
	flight->begins = begins;
	ask->flight = flight;
	if (!redis->timed)
		set_timer(redis, redis->options->silence_ms);
	set_flush(redis);
}

static void flush(struct redis *redis)
{
	struct buf *out = &redis->out;
	if (redis->fd < 0 || redis->writing || out->len == 0)
		return;
	ssize_t n =
		send(redis->fd, out->ptr + redis->out_at, out->len - redis->out_at, MSG_NOSIGNAL);
	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		fail(redis, strerror(errno));
		return;
	}
	if (n > 0) {
		redis->written += (uint64_t)n;
		redis->out_at += (size_t)n;
	}
	if (redis->out_at > out->len / 2) {
		buf_consume(out, redis->out_at);
		redis->out_at = 0;
	}
	if (out->len > 0) {
		redis->writing = true;
		event_add(&redis->writable, NULL);
	} else if (out->size > KEEP_OUT) {
		buf_free(out);
	}
}

static void on_flush(evutil_socket_t fd, short what, void *arg)
{
	struct redis *redis = arg;
	(void)fd;
	(void)what;
	turn_enter(redis->turn);
	flush(redis);
	turn_leave(redis->turn);
}

/* Once the loop has gone through the sockets that are ready: what they bring goes out together. */
static void set_flush(struct redis *redis)
{
	if (!redis->writing)
		event_active(&redis->flush, EV_TIMEOUT, 0);
}

/* ---- reading: hiredis's parser builds our replies ---- */

static size_t max_reply(const struct redis *redis)
{
	size_t max = redis->options->max_reply;
	return max > 0 ? max : SIZE_MAX / 4;
}

static struct redis_reply *place(const redisReadTask *task)
{
	struct redis *redis = task->privdata;
	if (!task->parent)
		return arena_alloc(&redis->scratch, sizeof(struct redis_reply));
	const struct redis_reply *list = task->parent->obj;
	return (struct redis_reply *)&list->items[task->idx];
}

static void *make_text(const redisReadTask *task, char *text, size_t len)
{
	struct redis *redis = task->privdata;
	struct redis_reply *reply = place(task);
	reply->kind = task->type == REDIS_REPLY_ERROR ? REPLY_ERROR : REPLY_TEXT;
	reply->text = arena_str(&redis->scratch, (struct str){text, len});
	redis->scratch_used += len;
	return reply;
}

/* NULL stops the parser: a short line can promise more than there is memory for. */
static void *make_list(const redisReadTask *task, int n)
{
	struct redis *redis = task->privdata;
	size_t size = (n > 0 ? (size_t)n : 0) * sizeof(struct redis_reply);
	if (size > max_reply(redis) || redis->scratch_used > max_reply(redis) - size)
		return NULL;
	redis->scratch_used += size;
	struct redis_reply *reply = place(task);
	reply->kind = REPLY_LIST;
	reply->n = n > 0 ? (size_t)n : 0;
	reply->items = arena_alloc(&redis->scratch, size);
	return reply;
}

static void *make_number(const redisReadTask *task, long long number)
{
	struct redis_reply *reply = place(task);
	reply->kind = REPLY_NUMBER;
	reply->number = number;
	return reply;
}

static void *make_nil(const redisReadTask *task)
{
	struct redis_reply *reply = place(task);
	reply->kind = REPLY_NIL;
	return reply;
}

static void drop_reply(void *reply)
{
	(void)reply; /* it is the scratch's */
}

static redisReader *reader_new(struct redis *redis)
{
	redis->functions = (redisReplyObjectFunctions){
		make_text, make_list, make_number, make_nil, drop_reply};
	redisReader *reader = redisReaderCreateWithFunctions(&redis->functions);
	if (!reader)
		abort(); /* no memory */
	reader->privdata = redis;
	return reader;
}

static void copy_reply(struct redis_reply *to, const struct redis_reply *from, struct arena *mem)
{
	*to = *from;
	if (from->text.ptr)
		to->text = arena_str(mem, from->text);
	if (from->kind != REPLY_LIST)
		return;
	struct redis_reply *items = arena_alloc(mem, from->n * sizeof(*items));
	for (size_t i = 0; i < from->n; i++)
		copy_reply(&items[i], &from->items[i], mem);
	to->items = items;
}

struct str redis_error_code(const struct redis_reply *reply)
{
	struct str code = {"", 0};
	if (reply->kind != REPLY_ERROR)
		return code;
	code.ptr = reply->text.ptr;
	while (code.len < reply->text.len && code.len < 24 && code.ptr[code.len] >= 'A' &&
		code.ptr[code.len] <= 'Z')
		code.len++;
	return code.len > 0 ? code : STR("ERR");
}

/* The server will not serve us on this connection again, another one might: it has become a
 * replica, or its passwords were changed. */
static void notice(struct redis *redis, const struct redis_reply *reply)
{
	struct str code = redis_error_code(reply);
	if (code.len == 0 || !(str_eq(code, STR("READONLY")) || str_eq(code, STR("NOAUTH"))))
		return;
	if (redis->turn->now_ms < redis->renewed_ms + RENEW_MS)
		return;
	redis->renewed_ms = redis->turn->now_ms;
	redis->stale = true;
}

static void land(struct redis *redis, const struct redis_reply *reply)
{
	struct redis_flight *flight = TAILQ_FIRST(&redis->flights);
	struct redis_ask *ask = flight->ask;
	notice(redis, reply);
	if (ask) {
		if (!ask->replies)
			ask->replies =
				arena_alloc(ask->mem, ask->ncommands * sizeof(*ask->replies));
		copy_reply(&ask->replies[ask->ncommands - flight->left], reply, ask->mem);
	}
	if (--flight->left > 0)
		return;
	flight_end(redis, flight);
	if (ask)
		finish(redis, ask, REDIS_REPLY);
}

/* ---- greeting ---- */

static bool is_greeted(struct redis *redis, const struct redis_reply *reply, char *why, size_t size)
{
	struct str code = redis_error_code(reply);
	bool ping = redis->greetings == 1;
	bool select = redis->options->db > 0 && redis->greetings == 2;
	const char *what = ping ? "PING" : select ? "SELECT" : "AUTH";
	/* Not every user may PING, and a server that cannot save answers MISCONF. */
	bool matters = !ping || str_eq(code, STR("NOAUTH")) || str_eq(code, STR("LOADING")) ||
		       str_eq(code, STR("ERR"));
	if (code.len > 0 && matters) {
		bool full = strstr(reply->text.ptr, "max number of clients") != NULL;
		snprintf(why, size, "%s was answered by %.*s%s", what, (int)code.len, code.ptr,
			full ? ": it has its maximum of clients" : "");
		return false;
	}
	struct str good = ping ? STR("PONG") : STR("OK");
	if (code.len == 0 && (reply->kind != REPLY_TEXT || !str_eq(reply->text, good))) {
		snprintf(why, size, "it does not talk as Redis does");
		return false;
	}
	return true;
}

static void begin_service(struct redis *redis)
{
	struct redis_ask *ask;
	redis->state = STATE_READY;
	redis->backoff_ms = 0;
	forget_addresses(redis);
	drop_timer(redis);
	while ((ask = TAILQ_FIRST(&redis->waiting))) {
		stop_waiting(redis, ask);
		send_ask(redis, ask);
	}
	deliver(redis);
}

/* False when that was the end of the connection. */
static bool on_reply(struct redis *redis, const struct redis_reply *reply)
{
	char why[96];
	if (redis->state == STATE_GREETING) {
		if (!is_greeted(redis, reply, why, sizeof(why))) {
			fail(redis, why);
			return false;
		}
		if (--redis->greetings == 0)
			begin_service(redis);
		return true;
	}
	if (TAILQ_EMPTY(&redis->flights)) {
		fail(redis, "it talks unasked");
		return false;
	}
	land(redis, reply);
	return true;
}

static void greet(struct redis *redis)
{
	const struct redis_options *options = redis->options;
	struct str user = str_of(options->user), password = str_of(options->password);
	char db[16];
	struct str auth[3] = {STR("AUTH")}, select[2] = {STR("SELECT"), {db, 0}},
		   ping[1] = {STR("PING")};
	size_t n = 1;
	if (user.len > 0)
		auth[n++] = user;
	auth[n++] = password;
	select[1].len = (size_t)snprintf(db, sizeof(db), "%u", options->db);
	redis->state = STATE_GREETING;
	redis->greetings = 1;
	if (password.len > 0) {
		add_command(&redis->out, &(struct redis_command){n, auth});
		redis->greetings++;
	}
	if (options->db > 0) {
		add_command(&redis->out, &(struct redis_command){2, select});
		redis->greetings++;
	}
	add_command(&redis->out, &(struct redis_command){1, ping});
	flush(redis);
}

/* ---- sockets ---- */

/* All replies that have come; false when that was the end of the connection. */
static bool read_replies(struct redis *redis)
{
	void *got = NULL;
	for (;;) {
		if (redisReaderGetReply(redis->reader, &got) != REDIS_OK) {
			fail(redis, "it does not talk as Redis does, or says too much");
			return false;
		}
		if (!got)
			break;
		if (!on_reply(redis, got))
			return false;
		arena_clear(&redis->scratch);
		redis->scratch_used = 0;
	}
	if (redis->reader->len - redis->reader->pos <= max_reply(redis))
		return true;
	fail(redis, "a reply is too large");
	return false;
}

static void hear(struct redis *redis)
{
	char bytes[READ_SIZE];
	ssize_t n = recv(redis->fd, bytes, sizeof(bytes), 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		fail(redis, n < 0 ? strerror(errno) : "it has closed the connection");
		return;
	}
	redis->heard_ms = redis->turn->now_ms;
	if (redisReaderFeed(redis->reader, bytes, (size_t)n) != REDIS_OK) {
		fail(redis, "it does not talk as Redis does");
		return;
	}
	if (!read_replies(redis))
		return;
	deliver(redis);
	if (redis->stale && redis->nflights == 0)
		lose_connection(redis, "it asked for another connection");
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct redis *redis = arg;
	(void)fd;
	(void)what;
	turn_enter(redis->turn);
	hear(redis);
	turn_leave(redis->turn);
}

static void connected(struct redis *redis)
{
	int code = 0;
	socklen_t len = sizeof(code);
	if (getsockopt(redis->fd, SOL_SOCKET, SO_ERROR, &code, &len) < 0)
		code = errno;
	if (code != 0) {
		fail(redis, strerror(code));
		return;
	}
	redis->reader = reader_new(redis);
	event_add(&redis->readable, NULL);
	greet(redis);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct redis *redis = arg;
	(void)fd;
	(void)what;
	turn_enter(redis->turn);
	redis->writing = false;
	if (redis->state == STATE_CONNECTING)
		connected(redis);
	else
		flush(redis);
	turn_leave(redis->turn);
}

/* ---- connecting ---- */

/* A peer that is gone without a word is found while nobody asks. */
static void set_socket_options(const struct redis *redis)
{
	int on = 1, idle = 30, interval = 10, count = 3;
	unsigned unheard = (unsigned)redis->options->silence_ms;
	if (redis->options->path)
		return;
	setsockopt(redis->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(redis->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(redis->fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(redis->fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	setsockopt(redis->fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
	setsockopt(redis->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unheard, sizeof(unheard));
}

static void connect_to(struct redis *redis, const struct sockaddr *address, socklen_t len)
{
	redis->fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (redis->fd < 0) {
		fail_connection(redis, strerror(errno));
		return;
	}
	set_socket_options(redis);
	event_assign(
		&redis->readable, redis->base, redis->fd, EV_READ | EV_PERSIST, on_readable, redis);
	event_assign(&redis->writable, redis->base, redis->fd, EV_WRITE, on_writable, redis);
	redis->state = STATE_CONNECTING;
	set_timer(redis, redis->options->connect_timeout_ms);
	if (connect(redis->fd, address, len) < 0 && errno != EINPROGRESS) {
		/* EAGAIN on a unix socket: the server does not accept as fast as we come. */
		fail_connection(redis, strerror(errno));
		return;
	}
	redis->writing = true;
	event_add(&redis->writable, NULL);
}

static void connect_unix(struct redis *redis)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", redis->options->path);
	connect_to(redis, (const struct sockaddr *)&address, sizeof(address));
}

static void connect_next(struct redis *redis)
{
	const struct addrinfo *to = redis->next;
	redis->next = to->ai_next;
	connect_to(redis, to->ai_addr, to->ai_addrlen);
}

static void on_named(void *arg, struct addrinfo *found, const char *why)
{
	struct redis *redis = arg;
	turn_enter(redis->turn);
	redis->names = NULL;
	redis->found = redis->next = found;
	if (found)
		connect_next(redis);
	else
		fail_connection(redis, why);
	turn_leave(redis->turn);
}

static void connect_now(struct redis *redis)
{
	const struct redis_options *options = redis->options;
	const struct addrinfo number = {
		.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
	forget_addresses(redis);
	if (options->path) {
		connect_unix(redis);
	} else if (getaddrinfo(options->host, options->port, &number, &redis->found) == 0) {
		redis->next = redis->found;
		connect_next(redis);
	} else {
		redis->found = NULL;
		redis->state = STATE_NAMING;
		set_timer(redis, options->connect_timeout_ms);
		redis->names =
			names_start(redis->base, options->host, options->port, on_named, redis);
	}
}

/* ---- the public part ---- */

struct redis *redis_new(
	struct event_base *base, struct turn *turn, const struct redis_options *options)
{
	struct redis *redis = memory_new(sizeof(*redis));
	redis->base = base;
	redis->turn = turn;
	redis->options = options;
	redis->fd = -1;
	redis->out.max = MAX_OUT;
	redis->scratch_first = memory_new(SCRATCH);
	arena_init(&redis->scratch, redis->scratch_first, SCRATCH);
	TAILQ_INIT(&redis->flights);
	TAILQ_INIT(&redis->spare);
	TAILQ_INIT(&redis->waiting);
	TAILQ_INIT(&redis->finished);
	evtimer_assign(&redis->timer, base, on_timer, redis);
	evtimer_assign(&redis->soon, base, on_soon, redis);
	event_assign(&redis->flush, base, -1, 0, on_flush, redis);
	return redis;
}

void redis_free(struct redis *redis)
{
	assert(TAILQ_EMPTY(&redis->waiting) && TAILQ_EMPTY(&redis->finished));
	hang_up(redis);
	forget_addresses(redis);
	free_flights(&redis->flights);
	free_flights(&redis->spare);
	event_del(&redis->flush);
	evtimer_del(&redis->soon);
	turn_drop_job(&redis->deliver);
	free(redis->scratch_first);
	free(redis);
}

/* From redis_start(): nobody may hear of it before the loop has gone on. */
static void finish_soon(struct redis *redis)
{
	struct timeval now = {0, 0};
	if (redis->nfinished > 0)
		evtimer_add(&redis->soon, &now);
}

/* Command and key: what follows may be a value. */
static void tell_request(const struct redis *redis, const struct redis_ask *ask)
{
	const struct redis_command *first = &ask->commands[0];
	struct str key = first->argc > 1 ? first->argv[1] : STR("");
	query_note(ask->asker, "request", "%.*s %.*s%s, %s", (int)first->argv[0].len,
		first->argv[0].ptr, (int)key.len, key.ptr, ask->ncommands > 1 ? " and more" : "",
		redis->state == STATE_READY ? "kept connection" : "no connection yet");
}

void redis_start(struct redis *redis, struct redis_ask *ask)
{
	assert(!ask->redis && ask->ncommands > 0);
	if (ask->asker)
		tell_request(redis, ask);
	ask->redis = redis;
	ask->flight = NULL;
	ask->replies = NULL;
	if (redis->state == STATE_READY && !redis->stale) {
		send_ask(redis, ask);
	} else if (redis->state == STATE_IDLE && redis->turn->now_ms < redis->not_before_ms) {
		finish_why(redis, ask, REDIS_UNREACHABLE, redis->why);
	} else if (redis->nwaiting >= MAX_WAITING) {
		finish_why(redis, ask, REDIS_UNREACHABLE, "too many wait for a connection");
	} else {
		TAILQ_INSERT_TAIL(&redis->waiting, ask, link);
		redis->nwaiting++;
		ask->waiting = true;
		if (redis->state == STATE_IDLE)
			connect_now(redis);
	}
	finish_soon(redis);
}

void redis_cancel(struct redis_ask *ask)
{
	struct redis *redis = ask->redis;
	if (!redis)
		return;
	if (ask->flight) {
		ask->flight->ask = NULL;
	} else {
		TAILQ_REMOVE(ask->waiting ? &redis->waiting : &redis->finished, ask, link);
		*(ask->waiting ? &redis->nwaiting : &redis->nfinished) -= 1;
	}
	ask->waiting = false;
	ask->flight = NULL;
	ask->redis = NULL;
}
