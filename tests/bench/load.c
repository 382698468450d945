/*
 * The load generator: one thread, one epoll loop, requests built before the clock starts, no
 * allocation while it runs. Against the floor it costs about as much as the floor itself, so it
 * prints its own CPU time: when that nears the wall time, it is the load that limits the rate.
 *
 * Every answer is read and judged. A server that is fast because it answers TEMP, or answers the
 * wrong number of times, must not look good here: one unexpected answer makes exit code 1.
 */
#include "bench_net.h"

#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <unistd.h>

#define READ_SIZE 65536
/* Postfix's own limit is 100,000 bytes; what is longer is a broken server. */
#define MAX_ANSWER 131072
/* What one connection may have in flight. It fits any socket buffer, so send() never waits for a
 * server that in turn waits for us to read. */
#define MAX_IN_FLIGHT_BYTES 65536
#define MAX_EVENTS 1024
#define DRAIN_NS (5 * NS_PER_S)
#define MAX_CONNS 1000000
/* --zipf: so many draws, then the same again; more than a minute asks. */
#define DRAWS (1 << 24)

/*
 * Latencies in nanoseconds: exact below 64, above it 64 buckets for each power of two, that is
 * within 1.6 %.
 */
#define SUB_BITS 6
#define SUB_COUNT (1 << SUB_BITS)
#define BUCKETS ((64 - SUB_BITS + 1) * SUB_COUNT)

enum protocol {
	SOCKETMAP,
	DICT,
	TCP,
	POLICY,
	SASL,
	PROTOCOLS,
};

static const char *const protocol_names[PROTOCOLS] = {"socketmap", "dict", "tcp", "policy", "sasl"};

enum status {
	ST_OK,
	ST_NOTFOUND,
	ST_TEMP,
	ST_PERM,
	ST_WRONG, /* bytes that are no answer, or an answer to nothing */
	ST_COUNT,
};

static const char *const status_names[ST_COUNT] = {"ok", "notfound", "temp", "perm", "wrong"};

struct request {
	const char *data;
	size_t len;
};

struct named_request {
	uint64_t sent;
	uint64_t id;
};

struct conn {
	int fd; /* -1: closed */
	/* Requests in the order sent, a ring of depth entries: the time each was sent at. */
	uint64_t *sent;
	unsigned head, queued;
	/* dict only: requests the server gave an id, whose answers come in any order. */
	struct named_request *named;
	unsigned named_len;
	char *partial; /* the start of an answer whose rest has not come */
	size_t partial_len;
};

static struct {
	enum protocol protocol;
	enum status expect;
	struct bench_addr addr;
	const char *table;
	const char *key;
	const char *prefix;
	size_t connections;
	size_t keys;
	unsigned depth;
	uint64_t run_ns, warmup_ns, settle_ns, hold_ns;
	double rate; /* 0: closed loop */
	bool churn, sync, set, json, idle, zipf;
} opt = {
	.table = "t",
	.connections = 1,
	.keys = 1000,
	.depth = 1,
	.run_ns = 2 * NS_PER_S,
	.warmup_ns = NS_PER_S / 10,
	.hold_ns = 10 * NS_PER_S,
};

static struct {
	uint64_t buckets[BUCKETS];
	uint64_t measured, sum_ns, max_ns; /* answers within the measured time */
	uint64_t answers[ST_COUNT];        /* all answers, warm-up included */
	uint64_t lost;                     /* asked, never answered */
	uint64_t unsent;                   /* open loop: due, but no connection was free */
	uint64_t connects, connect_errors, closed;
} stats;

static int epfd;
static struct conn *conns;
static struct request *requests;
static size_t next_request;
static uint32_t *draws; /* --zipf: requests in the order they are sent; NULL: one after the other */
static const char *hello; /* dict: the H line; sasl: VERSION and CPID */
static size_t hello_len;
static char inbuf[MAX_ANSWER + READ_SIZE];
static char outbuf[MAX_IN_FLIGHT_BYTES];
static uint64_t in_flight;
static size_t live_conns;
static uint64_t measure_from, deadline;
static bool stopping;
static volatile sig_atomic_t hold_ended;

static void record_latency(uint64_t ns)
{
	size_t i = ns;

	if (ns >= SUB_COUNT) {
		unsigned e = 63u - (unsigned)__builtin_clzll(ns);

		i = ((size_t)(e - SUB_BITS + 1) << SUB_BITS) +
		    ((ns >> (e - SUB_BITS)) & (SUB_COUNT - 1));
	}
	stats.buckets[i]++;
	stats.measured++;
	stats.sum_ns += ns;
	if (ns > stats.max_ns)
		stats.max_ns = ns;
}

/* The middle of the bucket that holds the quantile, in microseconds. */
static double latency_quantile(double q)
{
	uint64_t rank = (uint64_t)(q * (double)stats.measured);
	uint64_t seen = 0;

	if (!stats.measured)
		return 0;
	for (size_t i = 0; i < BUCKETS; i++) {
		seen += stats.buckets[i];
		if (seen > rank) {
			unsigned shift = i < SUB_COUNT ? 0 : (unsigned)(i >> SUB_BITS) - 1;
			uint64_t low =
				i < SUB_COUNT ? i : (SUB_COUNT + (i & (SUB_COUNT - 1))) << shift;

			double middle = (double)low + (double)(1ULL << shift) / 2;

			return (middle < (double)stats.max_ns ? middle : (double)stats.max_ns) /
			       1e3;
		}
	}
	return (double)stats.max_ns / 1e3;
}

/* What Postfix sends at RCPT; the key is the recipient. */
static const char policy_format[] =
	"request=smtpd_access_policy\nprotocol_state=RCPT\nprotocol_name=ESMTP\n"
	"client_address=192.0.2.17\nclient_name=mail.example.net\nclient_port=40123\n"
	"reverse_client_name=mail.example.net\nserver_address=192.0.2.25\nserver_port=25\n"
	"helo_name=mail.example.net\nsender=somebody@example.net\nrecipient=%s%s\n"
	"recipient_count=0\nqueue_id=\ninstance=1a2b.6564a1b2.5f3c7.0\nsize=12345\n"
	"etrn_domain=\nstress=\nsasl_method=\nsasl_username=\nsasl_sender=\nccert_subject=\n"
	"ccert_issuer=\nccert_fingerprint=\nccert_pubkey_fingerprint=\n"
	"encryption_protocol=TLSv1.3\nencryption_cipher=TLS_AES_256_GCM_SHA384\n"
	"encryption_keysize=256\npolicy_context=\n\n";

static void add_base64(char *to, const char *bytes, size_t len)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t i = 0; i < len; i += 3) {
		unsigned bits = (unsigned)(unsigned char)bytes[i] << 16;

		if (i + 1 < len)
			bits |= (unsigned)(unsigned char)bytes[i + 1] << 8;
		if (i + 2 < len)
			bits |= (unsigned char)bytes[i + 2];
		*to++ = digits[bits >> 18];
		*to++ = digits[bits >> 12 & 63];
		*to++ = i + 1 < len ? digits[bits >> 6 & 63] : '=';
		*to++ = i + 2 < len ? digits[bits & 63] : '=';
	}
	*to = '\0';
}

/* The user is the key, and has a password like all others. */
static int build_auth(char *data, size_t room, const char *key, size_t nth, char *line)
{
	char *coded = line + room / 2;
	int n = snprintf(line, room / 2, "%c%s%s%csecret", 0, opt.prefix, key, 0);

	add_base64(coded, line, (size_t)n);
	return snprintf(data, room,
		"AUTH\t%zu\tPLAIN\tservice=smtp\tnologin\tlip=192.0.2.25\trip=192.0.2.17"
		"\tresp=%s\n",
		nth + 1, coded);
}

static int build_request(char *data, size_t room, const char *key, size_t nth, char *line)
{
	switch (opt.protocol) {
	case SOCKETMAP:
		return snprintf(data, room, "%d:%s,",
			snprintf(line, room, "%s %s%s", opt.table, opt.prefix, key), line);
	case DICT:
		if (opt.set)
			return snprintf(data, room, "B1%s\nS1\t%s%s\tvalue\nC1\n",
				opt.sync ? "" : "\t", opt.prefix, key);
		return snprintf(data, room, opt.sync ? "L%s%s\n" : "L%s%s\t\n", opt.prefix, key);
	case TCP:
		return snprintf(data, room, "get %s%s\n", opt.prefix, key);
	case SASL:
		return build_auth(data, room, key, nth, line);
	default:
		return snprintf(data, room, policy_format, opt.prefix, key);
	}
}

static void build_requests(void)
{
	size_t room = strlen(opt.prefix) + strlen(opt.table) + (opt.key ? strlen(opt.key) : 0) +
		      64 + (opt.protocol == POLICY ? sizeof(policy_format) : 0);
	size_t longest = 0;
	char *line;

	if (opt.protocol == SASL)
		room = room * 4 + 128;
	line = alloc_zeroed(1, room);
	requests = alloc_zeroed(opt.keys, sizeof(*requests));
	for (size_t i = 0; i < opt.keys; i++) {
		char number[32];
		const char *key = opt.key;
		char *data = alloc_zeroed(1, room);
		int n;

		if (!key) {
			snprintf(number, sizeof(number), "k%zu", i);
			key = number;
		}
		n = build_request(data, room, key, i, line);
		requests[i] = (struct request){.data = data, .len = (size_t)n};
		if (requests[i].len > longest)
			longest = requests[i].len;
	}
	free(line);
	if (opt.protocol == DICT) {
		char *h = alloc_zeroed(1, room);

		/* Major 2 minor 0 is the client that knows no async ids. */
		hello_len = (size_t)snprintf(
			h, room, "H%s\t0\t\t%s\n", opt.sync ? "2\t0" : "3\t2", opt.table);
		hello = h;
	}
	if (opt.protocol == SASL) {
		hello = "VERSION\t1\t0\nCPID\t1\n";
		hello_len = strlen(hello);
	}
	if (longest * opt.depth + hello_len > sizeof(outbuf))
		fail("--depth %u with keys this long is more than %d bytes in flight", opt.depth,
			MAX_IN_FLIGHT_BYTES);
}

/*
 * Key number n is asked for 1/n times as often as the first (Zipf's law with exponent 1). Each run has
 * draws of its own: a cache must not have seen them in the run before.
 */
static void draw_requests(void)
{
	double *sums = alloc_zeroed(opt.keys, sizeof(*sums));
	double sum = 0;

	for (size_t i = 0; i < opt.keys; i++)
		sums[i] = sum += 1 / (double)(i + 1);
	draws = alloc_zeroed(DRAWS, sizeof(*draws));
	srand48((long)now_ns());
	for (size_t i = 0; i < DRAWS; i++) {
		double at = drand48() * sum;
		size_t low = 0, high = opt.keys - 1;

		while (low < high) {
			size_t middle = (low + high) / 2;

			if (sums[middle] > at)
				high = middle;
			else
				low = middle + 1;
		}
		draws[i] = (uint32_t)low;
	}
	free(sums);
}

static const struct request *take_request(void)
{
	size_t n = next_request++;

	if (next_request == (draws ? DRAWS : opt.keys))
		next_request = 0;
	return &requests[draws ? draws[n] : n];
}

static void drop_conn(struct conn *c)
{
	unsigned open = c->queued + c->named_len;

	if (c->fd < 0)
		return;
	close(c->fd);
	c->fd = -1;
	free(c->partial);
	c->partial = NULL;
	c->partial_len = 0;
	c->queued = c->named_len = 0;
	stats.lost += open;
	in_flight -= open;
	live_conns--;
}

/* Sends count requests as one write, after the first extra bytes that outbuf already holds. */
static void send_requests(struct conn *c, unsigned count, size_t extra, uint64_t sent_at)
{
	const char *from = outbuf;
	size_t len = extra;

	for (unsigned i = 0; i < count; i++) {
		const struct request *r = take_request();
		unsigned slot = c->head + c->queued;

		if (count == 1 && !extra)
			from = r->data;
		else
			memcpy(outbuf + len, r->data, r->len);
		len += r->len;
		c->sent[slot >= opt.depth ? slot - opt.depth : slot] = sent_at;
		c->queued++;
	}
	in_flight += count;
	if (len && send(c->fd, from, len, MSG_NOSIGNAL) != (ssize_t)len) {
		stats.closed++;
		drop_conn(c);
	}
}

/* Connects; in churn mode the first request goes out with the dict's greeting in one write. */
static bool open_conn(struct conn *c, unsigned count, uint64_t sent_at)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
	int one = 1;

	/* Blocking: on a local socket connect() ends at once, or waits for the server's queue as a
	 * real client does, and no read is done before epoll promises data. */
	c->fd = socket(opt.addr.ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		fail("socket: %s", strerror(errno));
	if (connect(c->fd, (struct sockaddr *)&opt.addr.ss, opt.addr.len) < 0) {
		if (!stats.connects)
			fail("connect: %s", strerror(errno));
		stats.connect_errors++;
		close(c->fd);
		c->fd = -1;
		return false;
	}
	if (opt.addr.ss.ss_family != AF_UNIX)
		setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (epoll_ctl(epfd, EPOLL_CTL_ADD, c->fd, &ev) < 0)
		fail("epoll_ctl: %s", strerror(errno));
	stats.connects++;
	live_conns++;
	c->head = c->queued = c->named_len = 0;
	if (hello_len)
		memcpy(outbuf, hello, hello_len);
	if (hello_len || count)
		send_requests(c, count, hello_len, sent_at);
	return c->fd >= 0;
}

static void count_answer(enum status status, uint64_t sent, uint64_t now)
{
	in_flight--;
	stats.answers[status]++;
	if (now >= measure_from && now < deadline)
		record_latency(now - sent);
}

/* The answer belongs to the oldest request. False if there is none, or this is no answer. */
static bool finish_oldest(struct conn *c, enum status status, uint64_t now)
{
	if (!c->queued || status == ST_WRONG)
		return false;
	count_answer(status, c->sent[c->head], now);
	if (++c->head == opt.depth)
		c->head = 0;
	c->queued--;
	return true;
}

static bool starts_with(const char *s, size_t len, const char *word)
{
	size_t n = strlen(word);

	return len >= n && memcmp(s, word, n) == 0;
}

static enum status judge_socketmap(const char *s, size_t len)
{
	if (starts_with(s, len, "OK "))
		return ST_OK;
	if (starts_with(s, len, "NOTFOUND"))
		return ST_NOTFOUND;
	if (starts_with(s, len, "TEMP ") || starts_with(s, len, "TIMEOUT "))
		return ST_TEMP;
	return starts_with(s, len, "PERM ") ? ST_PERM : ST_WRONG;
}

static enum status judge_dict(const char *s, size_t len)
{
	switch (len ? s[0] : '\0') {
	case 'O':
	case 'M':
		return ST_OK;
	case 'N':
		return ST_NOTFOUND;
	case 'F':
		return ST_TEMP;
	default:
		return ST_WRONG;
	}
}

/* Returns the bytes used, 0 if the answer is not complete, -1 if this is no answer. */
static ssize_t take_socketmap(struct conn *c, const char *buf, size_t len, uint64_t now)
{
	size_t pos = 0;
	size_t n = 0;

	while (pos < len && buf[pos] >= '0' && buf[pos] <= '9') {
		n = n * 10 + (size_t)(buf[pos++] - '0');
		if (n > MAX_ANSWER - 16)
			return -1;
	}
	if (pos == len)
		return 0;
	if (pos == 0 || buf[pos] != ':')
		return -1;
	if (pos + 1 + n >= len)
		return 0;
	if (buf[pos + 1 + n] != ',')
		return -1;
	if (!finish_oldest(c, judge_socketmap(buf + pos + 1, n), now))
		return -1;
	return (ssize_t)(pos + 1 + n + 1);
}

static bool parse_id(const char *s, const char *end, uint64_t *id)
{
	*id = 0;
	if (s == end || end - s > 10)
		return false;
	for (; s < end; s++) {
		if (*s < '0' || *s > '9')
			return false;
		*id = *id * 10 + (uint64_t)(*s - '0');
	}
	return *id > 0 && *id <= UINT32_MAX;
}

/* "*ID": from now on the oldest request goes by this name. */
static bool name_oldest(struct conn *c, const char *s, const char *end)
{
	uint64_t id;

	if (!c->queued || !parse_id(s, end, &id))
		return false;
	for (unsigned i = 0; i < c->named_len; i++)
		if (c->named[i].id == id)
			return false;
	c->named[c->named_len++] = (struct named_request){.sent = c->sent[c->head], .id = id};
	if (++c->head == opt.depth)
		c->head = 0;
	c->queued--;
	return true;
}

/* "+ID TAB ANSWER". */
static bool finish_named(struct conn *c, const char *s, const char *end, uint64_t now)
{
	const char *tab = memchr(s, '\t', (size_t)(end - s));
	enum status status;
	uint64_t id;

	if (!tab || !parse_id(s, tab, &id))
		return false;
	for (unsigned i = 0; i < c->named_len; i++) {
		if (c->named[i].id != id)
			continue;
		status = judge_dict(tab + 1, (size_t)(end - tab - 1));
		if (status == ST_WRONG)
			return false;
		count_answer(status, c->named[i].sent, now);
		c->named[i] = c->named[--c->named_len];
		return true;
	}
	return false;
}

static ssize_t take_dict(struct conn *c, const char *buf, size_t len, uint64_t now)
{
	const char *end = memchr(buf, '\n', len);
	bool ok;

	if (!end)
		return 0;
	if (buf[0] == '*')
		ok = name_oldest(c, buf + 1, end);
	else if (buf[0] == '+')
		ok = finish_named(c, buf + 1, end, now);
	else if (c->named_len)
		ok = false; /* Dovecot would take it as the answer of another request */
	else
		ok = finish_oldest(c, judge_dict(buf, (size_t)(end - buf)), now);
	return ok ? end - buf + 1 : -1;
}

static ssize_t take_tcp(struct conn *c, const char *buf, size_t len, uint64_t now)
{
	const char *end = memchr(buf, '\n', len);
	enum status status = ST_WRONG;

	if (!end)
		return 0;
	if (starts_with(buf, len, "200 "))
		status = ST_OK;
	else if (starts_with(buf, len, "500 "))
		status = ST_NOTFOUND;
	else if (starts_with(buf, len, "400 "))
		status = ST_TEMP;
	return finish_oldest(c, status, now) ? end - buf + 1 : -1;
}

static ssize_t take_policy(struct conn *c, const char *buf, size_t len, uint64_t now)
{
	const char *end = memchr(buf, '\n', len);
	enum status status = ST_WRONG;

	if (!end || end + 1 == buf + len)
		return 0;
	if (end[1] != '\n')
		return -1;
	if (starts_with(buf, len, "action=DUNNO\n"))
		status = ST_NOTFOUND;
	else if (starts_with(buf, len, "action=DEFER_IF_PERMIT "))
		status = ST_TEMP;
	else if (starts_with(buf, len, "action="))
		status = ST_OK;
	return finish_oldest(c, status, now) ? end - buf + 2 : -1;
}

/* The greeting comes unasked, and answers nothing. */
static ssize_t take_sasl(struct conn *c, const char *buf, size_t len, uint64_t now)
{
	const char *end = memchr(buf, '\n', len);
	enum status status = ST_WRONG;

	if (!end)
		return 0;
	if (starts_with(buf, len, "OK\t"))
		status = ST_OK;
	else if (starts_with(buf, len, "FAIL\t"))
		status = ST_NOTFOUND;
	else if (!starts_with(buf, len, "CONT\t"))
		return end - buf + 1;
	return finish_oldest(c, status, now) ? end - buf + 1 : -1;
}

typedef ssize_t take_fn(struct conn *c, const char *buf, size_t len, uint64_t now);

static take_fn *const takes[PROTOCOLS] = {
	take_socketmap, take_dict, take_tcp, take_policy, take_sasl};

static void keep_partial(struct conn *c, const char *rest, size_t len)
{
	free(c->partial);
	c->partial = NULL;
	c->partial_len = len;
	if (len) {
		c->partial = alloc_zeroed(1, len);
		memcpy(c->partial, rest, len);
	}
}

/* Reads what is there and returns the number of answers; drops a connection that went wrong. */
static unsigned read_answers(struct conn *c, uint64_t *now)
{
	size_t len = c->partial_len;
	size_t used = 0;
	unsigned before = c->queued + c->named_len;
	ssize_t n;

	if (len)
		memcpy(inbuf, c->partial, len);
	n = read(c->fd, inbuf + len, READ_SIZE);
	*now = now_ns();
	if (n <= 0) {
		stats.closed++;
		drop_conn(c);
		return 0;
	}
	if (c->partial_len)
		keep_partial(c, NULL, 0);
	len += (size_t)n;
	while (used < len) {
		ssize_t took = takes[opt.protocol](c, inbuf + used, len - used, *now);

		if (took == 0 && len - used <= MAX_ANSWER)
			break;
		if (took <= 0) {
			/* After the first wrong byte no later one can be trusted: what is in
			 * flight counts as lost. */
			stats.answers[ST_WRONG]++;
			drop_conn(c);
			return 0;
		}
		used += (size_t)took;
	}
	if (used < len)
		keep_partial(c, inbuf + used, len - used);
	return before - (c->queued + c->named_len);
}

/* Waits for the server to answer what is in flight after the clock has stopped. */
static void drain(void)
{
	struct epoll_event events[MAX_EVENTS];
	uint64_t give_up = now_ns() + DRAIN_NS;
	uint64_t now;

	while (in_flight && now_ns() < give_up) {
		int n = epoll_wait(epfd, events, MAX_EVENTS, 100);

		for (int i = 0; i < n; i++) {
			struct conn *c = events[i].data.ptr;

			if (c->fd >= 0)
				read_answers(c, &now);
		}
	}
	stats.lost += in_flight;
}

static int ms_until(uint64_t when)
{
	uint64_t now = now_ns();

	return now >= when ? 0 : (int)((when - now) / 1000000) + 1;
}

static int wait_events(struct epoll_event *events, int timeout_ms)
{
	int n = epoll_wait(epfd, events, MAX_EVENTS, timeout_ms);

	if (n < 0 && errno != EINTR)
		fail("epoll_wait: %s", strerror(errno));
	return n;
}

static void run_closed_loop(void)
{
	struct epoll_event events[MAX_EVENTS];

	for (size_t i = 0; i < opt.connections; i++)
		if (conns[i].fd >= 0)
			send_requests(&conns[i], opt.depth, 0, now_ns());
	while (!stopping && live_conns) {
		int n = wait_events(events, ms_until(deadline));

		if (n <= 0)
			stopping = now_ns() >= deadline;
		for (int i = 0; i < n; i++) {
			struct conn *c = events[i].data.ptr;
			uint64_t now;
			unsigned answered = read_answers(c, &now);

			if (now >= deadline)
				stopping = true;
			/* The moment of the answer is the moment of the next request: one look at
			 * the clock for both. */
			else if (answered)
				send_requests(c, answered, 0, now);
		}
	}
}

/* Connect, ask, read the answer, close; so many at a time. */
static void run_churn(void)
{
	struct epoll_event events[MAX_EVENTS];

	for (size_t i = 0; i < opt.connections; i++)
		open_conn(&conns[i], 1, now_ns());
	while (!stopping && live_conns) {
		int n = wait_events(events, ms_until(deadline));

		if (n <= 0)
			stopping = now_ns() >= deadline;
		for (int i = 0; i < n; i++) {
			struct conn *c = events[i].data.ptr;
			uint64_t now;

			read_answers(c, &now);
			if (c->queued + c->named_len)
				continue;
			drop_conn(c);
			if (now >= deadline)
				stopping = true;
			else
				open_conn(c, 1, now);
		}
	}
}

/*
 * Requests at fixed times, whatever the answers do: the latency counts from the time a request
 * was due, so a server that stalls pays for all that had to wait.
 */
static void run_open_loop(void)
{
	struct epoll_event events[MAX_EVENTS];
	/* Free places on connections, a ring; each connection has depth of them, so the load goes
	 * round all. */
	size_t places = opt.connections * opt.depth;
	struct conn **ring = alloc_zeroed(places, sizeof(*ring));
	size_t first = 0;
	size_t count = 0;
	uint64_t start = now_ns();
	uint64_t sent = 0;
	uint64_t due = start;

	for (unsigned d = 0; d < opt.depth; d++)
		for (size_t i = 0; i < opt.connections; i++)
			ring[count++] = &conns[i];
	/* The default slack of 50 us would be most of the latency. */
	prctl(PR_SET_TIMERSLACK, 1UL);
	while (live_conns) {
		struct timespec pause = {0};
		uint64_t now = now_ns();
		int n;

		if (now >= deadline)
			break;
		while (due <= now && count) {
			struct conn *c = ring[first];

			if (++first == places)
				first = 0;
			count--;
			if (c->fd < 0)
				continue;
			send_requests(c, 1, 0, due);
			due = start + (uint64_t)((double)++sent * 1e9 / opt.rate);
		}
		now = now_ns();
		if (!count || due > now) {
			/* With no place free only an answer can bring us on. */
			uint64_t until = count && due < deadline ? due : deadline;
			uint64_t ns = until > now ? until - now : 0;

			pause.tv_sec = (time_t)(ns / NS_PER_S);
			pause.tv_nsec = (long)(ns % NS_PER_S);
		}
		n = epoll_pwait2(epfd, events, MAX_EVENTS, &pause, NULL);
		if (n < 0 && errno != EINTR)
			fail("epoll_pwait2: %s", strerror(errno));
		for (int i = 0; i < n; i++) {
			struct conn *c = events[i].data.ptr;
			unsigned answered = read_answers(c, &now);

			while (answered--)
				ring[(first + count++) % places] = c;
		}
	}
	/* Without this figure a server too slow for the rate would look better than it is: the
	 * requests that suffered most are in no latency. */
	if (due < deadline)
		stats.unsent = (uint64_t)((double)(deadline - due) * opt.rate / 1e9);
	free(ring);
}

static void sleep_ns(uint64_t ns)
{
	struct timespec ts = {.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};

	while (nanosleep(&ts, &ts) < 0 && errno == EINTR && !hold_ended)
		;
}

static uint64_t count_unexpected(void)
{
	uint64_t n = stats.lost + stats.connect_errors + stats.closed;

	for (int i = 0; i < ST_COUNT; i++)
		if (i != (int)opt.expect)
			n += stats.answers[i];
	return n;
}

static void print_result(double seconds, double cpu, double busy)
{
	uint64_t answers = 0;
	double rate = seconds > 0 ? (double)stats.measured / seconds : 0;
	double mean = stats.measured ? (double)stats.sum_ns / (double)stats.measured / 1e3 : 0;

	for (int i = 0; i < ST_COUNT; i++)
		answers += stats.answers[i];
	if (!opt.json) {
		printf("%.0f requests/s: %llu in %.2f s, p50 %.1f us, p99 %.1f us, p99.9 %.1f us, "
		       "max %.1f us; here %.2f us of CPU per request, %.0f %% busy\n",
			rate, (unsigned long long)stats.measured, seconds, latency_quantile(0.5),
			latency_quantile(0.99), latency_quantile(0.999), (double)stats.max_ns / 1e3,
			answers ? cpu / (double)answers : 0, busy * 100);
		for (int i = 0; i < ST_COUNT; i++)
			if (stats.answers[i])
				printf("%s %llu  ", status_names[i],
					(unsigned long long)stats.answers[i]);
		printf("lost %llu  unsent %llu  closed by the server %llu  failed connects %llu\n",
			(unsigned long long)stats.lost, (unsigned long long)stats.unsent,
			(unsigned long long)stats.closed, (unsigned long long)stats.connect_errors);
		return;
	}
	printf("{\"requests\":%llu,\"seconds\":%.4f,\"rate\":%.1f,\"mean_us\":%.3f,"
	       "\"p50_us\":%.3f,\"p99_us\":%.3f,\"p999_us\":%.3f,\"max_us\":%.3f",
		(unsigned long long)stats.measured, seconds, rate, mean, latency_quantile(0.5),
		latency_quantile(0.99), latency_quantile(0.999), (double)stats.max_ns / 1e3);
	for (int i = 0; i < ST_COUNT; i++)
		printf(",\"%s\":%llu", status_names[i], (unsigned long long)stats.answers[i]);
	printf(",\"lost\":%llu,\"unsent\":%llu,\"closed\":%llu,\"connect_errors\":%llu,"
	       "\"connects\":%llu,\"answers\":%llu,\"load_cpu_us\":%.0f,\"load_busy\":%.4f,"
	       "\"errors\":%llu}\n",
		(unsigned long long)stats.lost, (unsigned long long)stats.unsent,
		(unsigned long long)stats.closed, (unsigned long long)stats.connect_errors,
		(unsigned long long)stats.connects, (unsigned long long)answers, cpu, busy,
		(unsigned long long)count_unexpected());
}

static int run_load(void)
{
	double cpu, busy;
	uint64_t start, end;

	if (!opt.churn)
		for (size_t i = 0; i < opt.connections; i++)
			open_conn(&conns[i], 0, 0);
	sleep_ns(opt.settle_ns);
	cpu = cpu_us();
	start = now_ns();
	measure_from = start + opt.warmup_ns;
	deadline = measure_from + opt.run_ns;
	if (opt.churn)
		run_churn();
	else if (opt.rate > 0)
		run_open_loop();
	else
		run_closed_loop();
	end = now_ns();
	cpu = cpu_us() - cpu;
	busy = cpu * 1e3 / (double)(end - start);
	drain();
	sleep_ns(opt.settle_ns);
	if (end > deadline)
		end = deadline;
	print_result(end > measure_from ? (double)(end - measure_from) / 1e9 : 0, cpu, busy);
	return count_unexpected() ? 1 : 0;
}

static void end_hold(int sig)
{
	(void)sig;
	hold_ended = 1;
}

/*
 * Opens connections, lets each ask once when there is a protocol (as the connections of a mail
 * server have), and holds them: what they cost the server is for the caller to measure.
 */
static int run_idle(bool ask)
{
	struct sigaction sa = {.sa_handler = end_hold};
	size_t held = 0;
	uint64_t now;

	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	measure_from = deadline = UINT64_MAX;
	for (size_t i = 0; i < opt.connections && !hold_ended; i++) {
		struct conn *c = &conns[i];

		if (!open_conn(c, ask ? 1 : 0, 0))
			continue;
		while (c->fd >= 0 && c->queued + c->named_len)
			read_answers(c, &now);
	}
	printf("{\"open\":%zu,\"errors\":%llu}\n", live_conns,
		(unsigned long long)count_unexpected());
	fflush(stdout);
	if (!hold_ended)
		sleep_ns(opt.hold_ns);
	for (size_t i = 0; i < opt.connections; i++) {
		char byte;

		if (conns[i].fd >= 0 && recv(conns[i].fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
			errno == EAGAIN)
			held++;
	}
	printf("{\"held\":%zu,\"errors\":%llu}\n", held, (unsigned long long)count_unexpected());
	return held == opt.connections && !count_unexpected() ? 0 : 1;
}

static const char usage[] =
	"usage: load socketmap|dict|tcp|policy|sasl ENDPOINT [OPTIONS]\n"
	"       load idle ENDPOINT --connections N --hold SECONDS [--protocol P] [OPTIONS]\n"
	"ENDPOINT: unix:PATH, HOST:PORT or inet:HOST:PORT\n"
	"  --table T         the table, or the dict's name (t)\n"
	"  --connections N   how many (1)\n"
	"  --depth D         requests in flight on each (1)\n"
	"  --seconds S       time to measure (2)\n"
	"  --warmup S        time before it, not measured (0.1)\n"
	"  --keys N          ask for k0 to k(N-1) in turn (1000)\n"
	"  --zipf            ask for kN 1/(N+1) times as often as for k0, at random\n"
	"  --key K           ask for K only\n"
	"  --prefix P        put before each key (nothing; dict: shared/)\n"
	"  --churn           connect, one lookup, close; N at a time\n"
	"  --rate R          R requests a second, latency from the time each was due\n"
	"  --expect STATUS   ok, notfound, temp or perm (ok): any other answer is an error\n"
	"  --sync            dict: be a client that knows no async answers (H2 0)\n"
	"  --set             dict: a transaction that sets the key, instead of a lookup\n"
	"  --settle S        wait so long between connecting and asking, and before closing\n"
	"  --hold S          idle: keep the connections so long, or until SIGTERM (10)\n"
	"  --protocol P      idle: ask once on each connection, with one of them\n"
	"  --json            print one JSON object\n"
	"Exit code: 0 all answers as expected, 1 not, 2 could not run.\n";

static uint64_t parse_seconds(const char *what, const char *text)
{
	return (uint64_t)(parse_number(what, text, 0, 86400) * 1e9);
}

static enum protocol parse_protocol(const char *text)
{
	for (int i = 0; i < PROTOCOLS; i++)
		if (strcmp(text, protocol_names[i]) == 0)
			return (enum protocol)i;
	fail("\"%s\" is not a protocol: expected socketmap, dict, tcp, policy or sasl", text);
}

static enum status parse_status(const char *text)
{
	for (int i = 0; i < ST_WRONG; i++)
		if (strcmp(text, status_names[i]) == 0)
			return (enum status)i;
	fail("--expect: \"%s\" is not ok, notfound, temp or perm", text);
}

/* The key goes to the wire as it is: it must not need escaping, or frame itself differently. */
static void check_text(const char *what, const char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ')
			fail("%s: control characters are not possible here", what);
}

/* Returns whether an idle connection is to ask. */
static bool parse_options(int argc, char **argv)
{
	enum {
		O_TABLE = 256,
		O_CONNECTIONS,
		O_DEPTH,
		O_SECONDS,
		O_WARMUP,
		O_KEYS,
		O_KEY,
		O_ZIPF,
		O_PREFIX,
		O_CHURN,
		O_RATE,
		O_EXPECT,
		O_SYNC,
		O_SET,
		O_SETTLE,
		O_HOLD,
		O_PROTOCOL,
		O_JSON,
	};
	static const struct option options[] = {
		{"table", required_argument, NULL, O_TABLE},
		{"connections", required_argument, NULL, O_CONNECTIONS},
		{"depth", required_argument, NULL, O_DEPTH},
		{"seconds", required_argument, NULL, O_SECONDS},
		{"warmup", required_argument, NULL, O_WARMUP},
		{"keys", required_argument, NULL, O_KEYS},
		{"key", required_argument, NULL, O_KEY},
		{"zipf", no_argument, NULL, O_ZIPF},
		{"prefix", required_argument, NULL, O_PREFIX},
		{"churn", no_argument, NULL, O_CHURN},
		{"rate", required_argument, NULL, O_RATE},
		{"expect", required_argument, NULL, O_EXPECT},
		{"sync", no_argument, NULL, O_SYNC},
		{"set", no_argument, NULL, O_SET},
		{"settle", required_argument, NULL, O_SETTLE},
		{"hold", required_argument, NULL, O_HOLD},
		{"protocol", required_argument, NULL, O_PROTOCOL},
		{"json", no_argument, NULL, O_JSON},
		{NULL, 0, NULL, 0},
	};
	bool ask = false;
	int o;

	while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (o) {
		case O_TABLE:
			opt.table = optarg;
			break;
		case O_CONNECTIONS:
			opt.connections =
				(size_t)parse_number("--connections", optarg, 1, MAX_CONNS);
			break;
		case O_DEPTH:
			opt.depth = (unsigned)parse_number("--depth", optarg, 1, 4096);
			break;
		case O_SECONDS:
			opt.run_ns = parse_seconds("--seconds", optarg);
			break;
		case O_WARMUP:
			opt.warmup_ns = parse_seconds("--warmup", optarg);
			break;
		case O_KEYS:
			opt.keys = (size_t)parse_number("--keys", optarg, 1, 1e7);
			break;
		case O_KEY:
			opt.key = optarg;
			break;
		case O_ZIPF:
			opt.zipf = true;
			break;
		case O_PREFIX:
			opt.prefix = optarg;
			break;
		case O_CHURN:
			opt.churn = true;
			break;
		case O_RATE:
			opt.rate = parse_number("--rate", optarg, 0.01, 1e8);
			break;
		case O_EXPECT:
			opt.expect = parse_status(optarg);
			break;
		case O_SYNC:
			opt.sync = true;
			break;
		case O_SET:
			opt.set = true;
			break;
		case O_SETTLE:
			opt.settle_ns = parse_seconds("--settle", optarg);
			break;
		case O_HOLD:
			opt.hold_ns = parse_seconds("--hold", optarg);
			break;
		case O_PROTOCOL:
			opt.protocol = parse_protocol(optarg);
			ask = true;
			break;
		case O_JSON:
			opt.json = true;
			break;
		default:
			fail("%s", usage);
		}
	}
	if (argc - optind != 2)
		fail("%s", usage);
	opt.idle = strcmp(argv[optind], "idle") == 0;
	if (!opt.idle)
		opt.protocol = parse_protocol(argv[optind]);
	parse_addr(argv[optind + 1], &opt.addr);
	if (opt.churn && (opt.depth != 1 || opt.rate > 0))
		fail("--churn takes neither --depth nor --rate");
	if (opt.set && opt.protocol != DICT)
		fail("--set is for dict");
	if (opt.key)
		opt.keys = 1;
	if (!opt.prefix)
		opt.prefix = opt.protocol == DICT ? "shared/" : "";
	check_text("--key", opt.key ? opt.key : "");
	check_text("--prefix", opt.prefix);
	check_text("--table", opt.table);
	return ask || !opt.idle;
}

int main(int argc, char **argv)
{
	bool ask;
	uint64_t *sent;
	struct named_request *named;

	ask = parse_options(argc, argv);
	if (ask)
		build_requests();
	if (opt.zipf)
		draw_requests();
	raise_fd_limit(opt.connections + 16);
	epfd = epoll_create1(EPOLL_CLOEXEC);
	if (epfd < 0)
		fail("epoll_create1: %s", strerror(errno));
	conns = alloc_zeroed(opt.connections, sizeof(*conns));
	sent = alloc_zeroed(opt.connections * opt.depth, sizeof(*sent));
	named = alloc_zeroed(opt.connections * opt.depth, sizeof(*named));
	for (size_t i = 0; i < opt.connections; i++)
		conns[i] = (struct conn){
			.fd = -1,
			.sent = sent + i * opt.depth,
			.named = named + i * opt.depth,
		};
	return opt.idle ? run_idle(ask) : run_load();
}
