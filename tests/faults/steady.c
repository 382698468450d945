/*
 * A steady load that checks every answer: so many questions a second over so many connections, for
 * keys that exist and keys that do not, whatever the server does. What came of each is counted in a
 * timeline, which the tests of faults compare with the moments at which they did their harm.
 *
 * Each existing key has a value of its own, so that an answer which reached the wrong question shows.
 * A question that is due while all connections wait for answers is not asked later (`held`): a mail
 * server's processes wait as well, and a burst behind the fault would be another test.
 */
#include "bench_net.h"

#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <unistd.h>

enum {
	MAX_CONNS = 1000,
	MAX_DEPTH = 64,
	MAX_LINE = 512,     /* a question, framed */
	BUFFER = 64 * 1024, /* answers on one connection that are not taken yet */
	MAX_EVENTS = 256,
	SLOT_MS = 100,
	MAX_SLOTS = 6000,
	MAX_SAMPLES = 8, /* of each kind, on stderr: what to look at first when a test fails */
};

#define SLOT_NS (SLOT_MS * (NS_PER_S / 1000))

enum protocol {
	SOCKETMAP,
	DICT,
};

enum outcome {
	OK,
	NOTFOUND, /* said of a key that does not exist */
	TEMP,
	PERM,
	ABSENT, /* "not found" of a key that exists: what bounces mail */
	WRONG,  /* another value, a value of a key that does not exist, or no answer at all */
	LOST,   /* the connection closed, or the time was up */
	OUTCOMES,
};

static const char *const outcome_names[OUTCOMES] = {
	"ok", "notfound", "temp", "perm", "absent", "wrong", "lost"};

/* What happened in a tenth of a second. */
struct slot {
	unsigned asked, held;
	unsigned refused;            /* due, but nobody took the connection */
	unsigned outcomes[OUTCOMES]; /* of answers, by the time they came */
	unsigned temp_asked;         /* TEMP by the time of the question */
	unsigned slowest_ms;         /* of the answers that came */
};

struct asked {
	uint64_t when;
	unsigned number;
	bool exists;
	uint64_t id; /* dict: the server's name for it; 0: none yet */
};

struct conn {
	int fd;                        /* -1: closed */
	struct asked asked[MAX_DEPTH]; /* the oldest first */
	unsigned nasked;
	size_t len;
	char buffer[BUFFER];
};

static struct {
	enum protocol protocol;
	struct bench_addr addr;
	const char *table, *found, *value, *missing;
	unsigned connections, depth, keys, every;
	double rate, seconds, patience;
} opt = {
	.table = "t",
	.found = "k#",
	.value = "v#",
	.missing = "x#",
	.connections = 50,
	.depth = 1,
	.keys = 1000,
	.every = 10,
	.rate = 2000,
	.seconds = (double)MAX_SLOTS * SLOT_MS / 2000,
	.patience = 15,
};

static struct slot slots[MAX_SLOTS];
static unsigned samples[OUTCOMES];
static struct conn *conns;
static unsigned next_conn;
static uint64_t start, questions, connects;
static int epfd;
static volatile sig_atomic_t stopped;

/* ---- the books ---- */

static struct slot *slot_of(uint64_t when)
{
	uint64_t n = (when - start) / SLOT_NS;

	return &slots[n < MAX_SLOTS ? n : MAX_SLOTS - 1];
}

static void sample(
	const struct asked *asked, enum outcome outcome, uint64_t now, const char *text, size_t len)
{
	if (samples[outcome]++ >= MAX_SAMPLES)
		return;
	fprintf(stderr, "%.3f s: %s: %s %u, asked %.3f s before: %.*s\n",
		(double)(now - start) / 1e9, outcome_names[outcome],
		asked->exists ? "existing key" : "missing key", asked->number,
		(double)(now - asked->when) / 1e9, (int)(len < 200 ? len : 200), text);
}

static void book(
	const struct asked *asked, enum outcome outcome, uint64_t now, const char *text, size_t len)
{
	struct slot *slot = slot_of(now);
	unsigned took_ms = (unsigned)((now - asked->when) / (NS_PER_S / 1000));

	slot->outcomes[outcome]++;
	if (outcome == TEMP)
		slot_of(asked->when)->temp_asked++;
	if (outcome != LOST && took_ms > slot->slowest_ms)
		slot->slowest_ms = took_ms;
	if (outcome != OK && outcome != NOTFOUND)
		sample(asked, outcome, now, text, len);
}

static void print_timeline(void)
{
	size_t n = (size_t)((now_ns() - start) / SLOT_NS) + 1;

	printf("{\"start\":%.6f,\"slot\":%.3f,\"connects\":%llu,\"columns\":[\"asked\",\"held\","
	       "\"refused\"",
		(double)start / 1e9, SLOT_MS / 1e3, (unsigned long long)connects);
	for (int i = 0; i < OUTCOMES; i++)
		printf(",\"%s\"", outcome_names[i]);
	printf(",\"temp_asked\",\"slowest_ms\"],\"slots\":[");
	for (size_t i = 0; i < n && i < MAX_SLOTS; i++) {
		const struct slot *slot = &slots[i];

		printf("%s[%u,%u,%u", i ? ",\n" : "\n", slot->asked, slot->held, slot->refused);
		for (int j = 0; j < OUTCOMES; j++)
			printf(",%u", slot->outcomes[j]);
		printf(",%u,%u]", slot->temp_asked, slot->slowest_ms);
	}
	printf("]}\n");
}

/* ---- questions ---- */

/* The pattern with the number in place of its first '#'. */
static int fill(char *to, size_t room, const char *pattern, unsigned number)
{
	const char *mark = strchr(pattern, '#');
	int n = mark ? snprintf(to, room, "%.*s%u%s", (int)(mark - pattern), pattern, number,
			       mark + 1)
		     : snprintf(to, room, "%s", pattern);

	if (n < 0 || (size_t)n >= room)
		fail("%s: too long", pattern);
	return n;
}

static int frame_question(char *to, size_t room, const struct asked *asked)
{
	char key[MAX_LINE / 2];
	char line[MAX_LINE];
	int n;

	fill(key, sizeof(key), asked->exists ? opt.found : opt.missing, asked->number);
	if (opt.protocol == DICT)
		return snprintf(to, room, "Lshared/%s\t\n", key);
	n = snprintf(line, sizeof(line), "%s %s", opt.table, key);
	return snprintf(to, room, "%d:%s,", n, line);
}

static void drop(struct conn *conn, const char *why)
{
	for (unsigned i = 0; i < conn->nasked; i++)
		book(&conn->asked[i], LOST, now_ns(), why, strlen(why));
	close(conn->fd);
	conn->fd = -1;
	conn->nasked = 0;
	conn->len = 0;
}

static bool write_all(struct conn *conn, const char *data, int len)
{
	if (send(conn->fd, data, (size_t)len, MSG_NOSIGNAL) == len)
		return true;
	drop(conn, "the connection took no question");
	return false;
}

static bool open_conn(struct conn *conn)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = conn};
	char hello[MAX_LINE];
	int n;

	conn->fd = socket(opt.addr.ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (conn->fd < 0)
		fail("socket: %s", strerror(errno));
	if (connect(conn->fd, (struct sockaddr *)&opt.addr.ss, opt.addr.len) < 0) {
		close(conn->fd);
		conn->fd = -1;
		return false;
	}
	connects++;
	if (epoll_ctl(epfd, EPOLL_CTL_ADD, conn->fd, &event) < 0)
		fail("epoll_ctl: %s", strerror(errno));
	if (opt.protocol != DICT)
		return true;
	n = snprintf(hello, sizeof(hello), "H3\t2\t0\t\t%s\n", opt.table);
	return write_all(conn, hello, n);
}

/* The next in turn that has room; NULL: all wait for answers. */
static struct conn *free_conn(void)
{
	for (unsigned i = 0; i < opt.connections; i++) {
		struct conn *conn = &conns[next_conn];

		if (++next_conn == opt.connections)
			next_conn = 0;
		if (conn->nasked < opt.depth)
			return conn;
	}
	return NULL;
}

static void ask(uint64_t now)
{
	struct conn *conn = free_conn();
	struct asked *asked;
	char line[MAX_LINE];
	int n;

	if (!conn) {
		slot_of(now)->held++;
		return;
	}
	if (conn->fd < 0 && !open_conn(conn)) {
		slot_of(now)->refused++;
		return;
	}
	asked = &conn->asked[conn->nasked++];
	*asked = (struct asked){
		.when = now,
		.number = (unsigned)(questions % opt.keys),
		.exists = opt.every == 0 || questions % opt.every != 0,
	};
	questions++;
	slot_of(now)->asked++;
	n = frame_question(line, sizeof(line), asked);
	write_all(conn, line, n);
}

/* ---- answers ---- */

static bool is(const char *text, size_t len, const char *word)
{
	return len == strlen(word) && memcmp(text, word, len) == 0;
}

static bool begins(const char *text, size_t len, const char *word)
{
	return len >= strlen(word) && memcmp(text, word, strlen(word)) == 0;
}

static enum outcome judge_value(const struct asked *asked, const char *value, size_t len)
{
	char right[MAX_LINE];

	fill(right, sizeof(right), opt.value, asked->number);
	return asked->exists && is(value, len, right) ? OK : WRONG;
}

static enum outcome judge_absence(const struct asked *asked)
{
	return asked->exists ? ABSENT : NOTFOUND;
}

static enum outcome judge_socketmap(const struct asked *asked, const char *text, size_t len)
{
	if (begins(text, len, "OK "))
		return judge_value(asked, text + 3, len - 3);
	if (is(text, len, "NOTFOUND "))
		return judge_absence(asked);
	if (begins(text, len, "TEMP "))
		return TEMP;
	return begins(text, len, "PERM ") ? PERM : WRONG;
}

static enum outcome judge_dict(const struct asked *asked, const char *text, size_t len)
{
	const char *tab = memchr(text, '\t', len);

	switch (len > 0 ? text[0] : '\0') {
	case 'O':
		return judge_value(asked, text + 1, (tab ? (size_t)(tab - text) : len) - 1);
	case 'N':
		return judge_absence(asked);
	case 'F':
		return TEMP;
	default:
		return WRONG;
	}
}

/* This answers the question at that place. */
static void settle(struct conn *conn, unsigned at, const char *text, size_t len)
{
	struct asked asked = conn->asked[at];
	enum outcome outcome = opt.protocol == DICT ? judge_dict(&asked, text, len)
						    : judge_socketmap(&asked, text, len);

	conn->nasked--;
	memmove(&conn->asked[at], &conn->asked[at + 1], (conn->nasked - at) * sizeof(asked));
	book(&asked, outcome, now_ns(), text, len);
}

/* The place of the question that goes by this name; 0 finds the oldest that has none. */
static bool find_asked(const struct conn *conn, uint64_t id, unsigned *at)
{
	for (*at = 0; *at < conn->nasked; ++*at)
		if (conn->asked[*at].id == id)
			return true;
	return false;
}

/* The bytes of a whole answer at the start of text; 0: its end has not come; -1: it is none. */
static ssize_t take_socketmap(struct conn *conn, const char *text, size_t len)
{
	size_t n = 0;
	size_t at = 0;

	for (; at < len && text[at] >= '0' && text[at] <= '9'; at++) {
		n = n * 10 + (size_t)(text[at] - '0');
		if (n >= BUFFER - 16)
			return -1;
	}
	if (at == len)
		return 0;
	if (at == 0 || text[at] != ':')
		return -1;
	if (at + 1 + n >= len)
		return 0;
	if (text[at + 1 + n] != ',' || conn->nasked == 0)
		return -1;
	settle(conn, 0, text + at + 1, n);
	return (ssize_t)(at + 1 + n + 1);
}

static ssize_t take_dict(struct conn *conn, const char *text, size_t len)
{
	const char *end = memchr(text, '\n', len);
	const char *body = text;
	char *id_end;
	uint64_t id = 0;
	unsigned at;

	if (!end)
		return 0;
	if (text[0] == '*' || text[0] == '+') {
		id = strtoull(text + 1, &id_end, 10);
		if (id == 0 || (*id_end != '\t' && *id_end != '\n'))
			return -1;
		body = id_end + 1;
	}
	if (text[0] == '*') {
		if (find_asked(conn, id, &at) || !find_asked(conn, 0, &at))
			return -1;
		conn->asked[at].id = id;
	} else {
		if (body > end || !find_asked(conn, id, &at))
			return -1;
		settle(conn, at, body, (size_t)(end - body));
	}
	return end + 1 - text;
}

static void read_answers(struct conn *conn)
{
	size_t used = 0;
	ssize_t n = read(conn->fd, conn->buffer + conn->len, sizeof(conn->buffer) - conn->len);

	if (n <= 0) {
		drop(conn, "the server closed the connection");
		return;
	}
	conn->len += (size_t)n;
	while (used < conn->len) {
		const char *text = conn->buffer + used;
		size_t left = conn->len - used;

		n = opt.protocol == DICT ? take_dict(conn, text, left)
					 : take_socketmap(conn, text, left);
		if (n == 0 && left < sizeof(conn->buffer))
			break;
		if (n <= 0) {
			/* Nothing behind it can be trusted. */
			book(&conn->asked[0], WRONG, now_ns(), text, left);
			drop(conn, "nonsense came before the answer");
			return;
		}
		used += (size_t)n;
	}
	conn->len -= used;
	memmove(conn->buffer, conn->buffer + used, conn->len);
}

static void wait_until(uint64_t when)
{
	struct epoll_event events[MAX_EVENTS];
	uint64_t now = now_ns();
	uint64_t ns = when > now ? when - now : 0;
	struct timespec pause = {
		.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
	int n = epoll_pwait2(epfd, events, MAX_EVENTS, &pause, NULL);

	if (n < 0 && errno != EINTR)
		fail("epoll_pwait2: %s", strerror(errno));
	for (int i = 0; i < n; i++) {
		struct conn *conn = events[i].data.ptr;

		if (conn->fd >= 0)
			read_answers(conn);
	}
}

static bool waiting(void)
{
	for (unsigned i = 0; i < opt.connections; i++)
		if (conns[i].nasked > 0)
			return true;
	return false;
}

static void run(void)
{
	uint64_t due, end, asked = 0;

	start = due = now_ns();
	end = start + (uint64_t)(opt.seconds * 1e9);
	while (!stopped && due < end) {
		while (due <= now_ns() && !stopped) {
			ask(now_ns());
			due = start + (uint64_t)((double)++asked * 1e9 / opt.rate);
		}
		wait_until(due);
	}
	end = now_ns() + (uint64_t)(opt.patience * 1e9);
	while (waiting() && now_ns() < end)
		wait_until(end);
	for (unsigned i = 0; i < opt.connections; i++)
		if (conns[i].fd >= 0)
			drop(&conns[i], "no answer within the patience");
}

/* ---- options ---- */

static const char usage[] =
	"usage: steady socketmap|dict ENDPOINT [OPTIONS]\n"
	"  --table T         the table, or the dict's name (t)\n"
	"  --rate R          questions a second (2000)\n"
	"  --connections N   over so many connections (50)\n"
	"  --depth D         questions in flight on each (1)\n"
	"  --keys N          so many keys exist, and as many do not (1000)\n"
	"  --every M         each Mth question is for a key that does not exist; 0: none (10)\n"
	"  --found P         the keys that exist, # is their number (k#)\n"
	"  --value P         their values (v#)\n"
	"  --missing P       the keys that do not exist (x#)\n"
	"  --seconds S       so long, or until SIGTERM\n"
	"  --patience S      then what is not answered so long after is lost (15)\n"
	"Prints one JSON object: what came of the questions in each tenth of a second.\n";

static void parse_options(int argc, char **argv)
{
	enum {
		RATE,
		CONNECTIONS,
		DEPTH,
		KEYS,
		EVERY,
		SECONDS,
		PATIENCE,
		TABLE,
		FOUND,
		VALUE,
		MISSING
	};
	static const struct option options[] = {
		{"rate", required_argument, NULL, RATE},
		{"connections", required_argument, NULL, CONNECTIONS},
		{"depth", required_argument, NULL, DEPTH},
		{"keys", required_argument, NULL, KEYS},
		{"every", required_argument, NULL, EVERY},
		{"seconds", required_argument, NULL, SECONDS},
		{"patience", required_argument, NULL, PATIENCE},
		{"table", required_argument, NULL, TABLE},
		{"found", required_argument, NULL, FOUND},
		{"value", required_argument, NULL, VALUE},
		{"missing", required_argument, NULL, MISSING},
		{NULL, 0, NULL, 0},
	};
	static const double limits[][2] = {{0.1, 1e6}, {1, MAX_CONNS}, {1, MAX_DEPTH}, {1, 1e6},
		{0, 1e6}, {0.1, (double)MAX_SLOTS * SLOT_MS / 2000}, {0, 60}};
	const char **texts[] = {&opt.table, &opt.found, &opt.value, &opt.missing};
	double numbers[] = {opt.rate, opt.connections, opt.depth, opt.keys, opt.every, opt.seconds,
		opt.patience};
	int o;

	while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (o == '?')
			fail("%s", usage);
		if (o >= TABLE)
			*texts[o - TABLE] = optarg;
		else
			numbers[o] =
				parse_number(options[o].name, optarg, limits[o][0], limits[o][1]);
	}
	opt.rate = numbers[RATE];
	opt.connections = (unsigned)numbers[CONNECTIONS];
	opt.depth = (unsigned)numbers[DEPTH];
	opt.keys = (unsigned)numbers[KEYS];
	opt.every = (unsigned)numbers[EVERY];
	opt.seconds = numbers[SECONDS];
	opt.patience = numbers[PATIENCE];
	if (argc - optind != 2)
		fail("%s", usage);
	if (strcmp(argv[optind], "dict") == 0)
		opt.protocol = DICT;
	else if (strcmp(argv[optind], "socketmap") != 0)
		fail("%s", usage);
	parse_addr(argv[optind + 1], &opt.addr);
}

static void stop(int number)
{
	(void)number;
	stopped = 1;
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = stop};

	parse_options(argc, argv);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	/* Sleeps end when they should, not up to 50 us later. */
	prctl(PR_SET_TIMERSLACK, 1);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	raise_fd_limit(opt.connections + 16);
	epfd = epoll_create1(EPOLL_CLOEXEC);
	if (epfd < 0)
		fail("epoll_create1: %s", strerror(errno));
	conns = alloc_zeroed(opt.connections, sizeof(*conns));
	for (unsigned i = 0; i < opt.connections; i++)
		conns[i].fd = -1;
	run();
	print_timeline();
	return 0;
}
