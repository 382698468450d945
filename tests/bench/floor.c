/*
 * The floor: a single-threaded server that does nothing but read, frame and write a constant. It
 * shows what the kernel charges for a request, so that mapmux can be judged by a ratio instead of
 * by a rate, which differs by a factor of two between machines and hours.
 *
 * It is honest, not a trick: requests are framed and may come in fragments or pipelined, answers
 * that the client does not take are kept, clients come and go. It is also as cheap as that
 * allows: level-triggered epoll, so one read and one write a request and no epoll_ctl while
 * nothing is stuck; input and output buffers are shared, and a connection has memory of its own
 * only while a fragment or an unsent answer waits.
 */
#include "bench_net.h"

#include <signal.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_SIZE 65536
/* A longer request is an error, as in any server: else a client could make us buffer for ever. */
#define MAX_REQUEST 16384
/* The shortest request is "0:," or "L\n" or "x\n\n"; the longest answer is below 16 bytes. */
#define WRITE_SIZE ((MAX_REQUEST + READ_SIZE) / 2 * 16)
#define MAX_EVENTS 256

static const char socketmap_answer[] = "8:OK value,";
static const char dict_answer[] = "Ovalue\n";
static const char tcp_answer[] = "200 value\n";
static const char policy_answer[] = "action=value\n\n";
static const char sasl_answer[] = "OK\t1\tuser=k1\n";

struct conn {
	char *in; /* the start of a request whose rest has not come */
	size_t in_len;
	char *out; /* answers the socket did not take */
	size_t out_len;
};

/*
 * Frames what is in buf: returns the bytes used by complete requests and adds the number of
 * answers they want, or returns -1 when the client does not speak the protocol.
 */
typedef ssize_t frame_fn(const char *buf, size_t len, size_t *answers);

static frame_fn *frame;
static const char *answer;
static size_t answer_len;
static struct conn *conns; /* by descriptor */
static size_t conns_len;
static int epfd;
/* Static: a process with one thread needs no more than one of each. */
static char inbuf[MAX_REQUEST + READ_SIZE];
static char outbuf[WRITE_SIZE];

static ssize_t frame_socketmap(const char *buf, size_t len, size_t *answers)
{
	size_t used = 0;

	while (used < len) {
		size_t pos = used;
		size_t n = 0;

		while (pos < len && buf[pos] >= '0' && buf[pos] <= '9') {
			n = n * 10 + (size_t)(buf[pos++] - '0');
			if (n > MAX_REQUEST - 8)
				return -1;
		}
		if (pos == len)
			break;
		if (pos == used || buf[pos] != ':')
			return -1;
		pos += 1 + n;
		if (pos >= len)
			break;
		if (buf[pos] != ',')
			return -1;
		used = pos + 1;
		++*answers;
	}
	return (ssize_t)used;
}

/* Lines that begin with `asked` want an answer, those with a letter of `silent` none. */
static inline ssize_t frame_lines(
	const char *buf, size_t len, size_t *answers, char asked, const char *silent)
{
	size_t used = 0;

	while (used < len) {
		const char *nl = memchr(buf + used, '\n', len - used);

		if (!nl)
			break;
		if (buf[used] == asked)
			++*answers;
		else if (buf[used] == '\0' || !strchr(silent, buf[used]))
			return -1;
		used = (size_t)(nl - buf) + 1;
	}
	return (ssize_t)used;
}

static ssize_t frame_dict(const char *buf, size_t len, size_t *answers)
{
	return frame_lines(buf, len, answers, 'L', "H");
}

static ssize_t frame_tcp(const char *buf, size_t len, size_t *answers)
{
	size_t used = 0;

	while (used < len) {
		const char *nl = memchr(buf + used, '\n', len - used);

		if (!nl)
			break;
		if (nl - (buf + used) < 4 || memcmp(buf + used, "get ", 4) != 0)
			return -1;
		used = (size_t)(nl - buf) + 1;
		++*answers;
	}
	return (ssize_t)used;
}

/* A request ends in an empty line, and is not empty itself. */
static ssize_t frame_policy(const char *buf, size_t len, size_t *answers)
{
	size_t used = 0;
	size_t line = 0;

	while (line < len) {
		const char *nl = memchr(buf + line, '\n', len - line);

		if (!nl)
			break;
		if (nl == buf + line) {
			if (line == used)
				return -1;
			used = line + 1;
			++*answers;
		}
		line = (size_t)(nl - buf) + 1;
	}
	return (ssize_t)used;
}

/* Only AUTH wants an answer, and what is before it is the client's greeting. It gets none: the client waits for
 * nothing. */
static ssize_t frame_sasl(const char *buf, size_t len, size_t *answers)
{
	return frame_lines(buf, len, answers, 'A', "VC");
}

static void close_conn(int fd)
{
	free(conns[fd].in);
	free(conns[fd].out);
	conns[fd] = (struct conn){0};
	close(fd);
}

static void watch(int fd, int op, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.fd = fd};

	if (epoll_ctl(epfd, op, fd, &ev) < 0)
		fail("epoll_ctl: %s", strerror(errno));
}

/* Replaces *keep by a copy of the rest; the rest may lie inside of *keep. */
static void keep_rest(char **keep, size_t *keep_len, const char *rest, size_t len)
{
	char *copy = NULL;

	if (len) {
		copy = alloc_zeroed(1, len);
		memcpy(copy, rest, len);
	}
	free(*keep);
	*keep = copy;
	*keep_len = len;
}

static bool send_answers(int fd, size_t answers)
{
	size_t total = answers * answer_len;
	const char *from = answer;
	ssize_t n;

	if (answers > 1) {
		for (size_t i = 0; i < answers; i++)
			memcpy(outbuf + i * answer_len, answer, answer_len);
		from = outbuf;
	}
	n = write(fd, from, total);
	if (n == (ssize_t)total)
		return true;
	if (n < 0) {
		if (errno != EAGAIN)
			return false;
		n = 0;
	}
	/* The client sends but does not read: read no more of it until it has taken this. */
	keep_rest(&conns[fd].out, &conns[fd].out_len, from + n, total - (size_t)n);
	watch(fd, EPOLL_CTL_MOD, EPOLLOUT);
	return true;
}

static bool send_kept(int fd)
{
	struct conn *c = &conns[fd];
	ssize_t n = write(fd, c->out, c->out_len);

	if (n < 0)
		return errno == EAGAIN;
	keep_rest(&c->out, &c->out_len, c->out + n, c->out_len - (size_t)n);
	if (!c->out)
		watch(fd, EPOLL_CTL_MOD, EPOLLIN);
	return true;
}

static bool answer_requests(int fd)
{
	struct conn *c = &conns[fd];
	size_t had = c->in_len;
	size_t answers = 0;
	size_t len;
	ssize_t n, used;

	if (had)
		memcpy(inbuf, c->in, had);
	n = read(fd, inbuf + had, READ_SIZE);
	if (n <= 0)
		return n < 0 && errno == EAGAIN;
	len = had + (size_t)n;
	used = frame(inbuf, len, &answers);
	if (used < 0 || len - (size_t)used > MAX_REQUEST)
		return false;
	if (had || (size_t)used < len)
		keep_rest(&c->in, &c->in_len, inbuf + used, len - (size_t)used);
	return answers == 0 || send_answers(fd, answers);
}

static void accept_conns(int listener)
{
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0) {
			if (errno == ECONNABORTED || errno == EINTR)
				continue;
			if (errno != EAGAIN)
				fail("accept4: %s", strerror(errno));
			return;
		}
		if ((size_t)fd >= conns_len) {
			size_t len = (size_t)fd * 2;

			conns = realloc(conns, len * sizeof(*conns));
			if (!conns)
				fail("out of memory");
			memset(conns + conns_len, 0, (len - conns_len) * sizeof(*conns));
			conns_len = len;
		}
		watch(fd, EPOLL_CTL_ADD, EPOLLIN);
	}
}

static int open_listener(const char *text)
{
	struct bench_addr addr;
	int one = 1;
	int fd;

	parse_addr(text, &addr);
	fd = socket(addr.ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		fail("socket: %s", strerror(errno));
	if (addr.ss.ss_family == AF_UNIX) {
		const char *path = ((struct sockaddr_un *)&addr.ss)->sun_path;
		struct stat st;

		/* The socket of an earlier run is in the way; any other file is not ours. */
		if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
			unlink(path);
	} else {
		/* Accepted sockets inherit TCP_NODELAY: not one system call more for each. */
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	}
	if (bind(fd, (struct sockaddr *)&addr.ss, addr.len) < 0 || listen(fd, 4096) < 0)
		fail("%s: %s", text, strerror(errno));
	return fd;
}

static const struct {
	const char *name;
	frame_fn *frame;
	const char *answer;
} protocols[] = {
	{"socketmap", frame_socketmap, socketmap_answer},
	{"dict", frame_dict, dict_answer},
	{"tcp", frame_tcp, tcp_answer},
	{"policy", frame_policy, policy_answer},
	{"sasl", frame_sasl, sasl_answer},
};

int main(int argc, char **argv)
{
	struct epoll_event events[MAX_EVENTS];
	int listener;

	for (size_t i = 0; argc == 3 && i < sizeof(protocols) / sizeof(protocols[0]); i++) {
		if (strcmp(argv[1], protocols[i].name) == 0) {
			frame = protocols[i].frame;
			answer = protocols[i].answer;
		}
	}
	if (!frame)
		fail("usage: floor socketmap|dict|tcp|policy|sasl unix:PATH|HOST:PORT");
	answer_len = strlen(answer);
	signal(SIGPIPE, SIG_IGN);
	raise_fd_limit(16384);
	conns_len = 64;
	conns = alloc_zeroed(conns_len, sizeof(*conns));
	epfd = epoll_create1(EPOLL_CLOEXEC);
	if (epfd < 0)
		fail("epoll_create1: %s", strerror(errno));
	listener = open_listener(argv[2]);
	watch(listener, EPOLL_CTL_ADD, EPOLLIN);
	for (;;) {
		int n = epoll_wait(epfd, events, MAX_EVENTS, -1);

		if (n < 0 && errno != EINTR)
			fail("epoll_wait: %s", strerror(errno));
		for (int i = 0; i < n; i++) {
			int fd = events[i].data.fd;
			bool ok;

			if (fd == listener) {
				accept_conns(listener);
				continue;
			}
			if (events[i].events & (EPOLLHUP | EPOLLERR))
				ok = false; /* gone in both directions: nobody to answer */
			else if (events[i].events & EPOLLOUT)
				ok = send_kept(fd);
			else
				ok = answer_requests(fd);
			if (!ok)
				close_conn(fd);
		}
	}
}
