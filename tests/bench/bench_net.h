/*
 * What floor, load and curlloop share: addresses, the clock, fatal errors. Header only, so that
 * each tool stays one file and nothing of it can leak into the daemon.
 */
#ifndef BENCH_NET_H
#define BENCH_NET_H

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#define NS_PER_S 1000000000ULL

struct bench_addr {
	struct sockaddr_storage ss;
	socklen_t len;
};

__attribute__((format(printf, 1, 2), noreturn)) static inline void fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(2);
}

static inline void *alloc_zeroed(size_t count, size_t size)
{
	void *p = calloc(count, size);

	if (!p)
		fail("out of memory");
	return p;
}

static inline uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* User and system time of this process in microseconds. */
static inline double cpu_us(void)
{
	struct rusage ru;

	getrusage(RUSAGE_SELF, &ru);
	return (double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) * 1e6 +
	       (double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec);
}

/* The whole text must be a number in range: "10x" or "-1" silently taken would spoil a figure. */
static inline double parse_number(const char *what, const char *text, double min, double max)
{
	char *end;
	double v;

	errno = 0;
	v = strtod(text, &end);
	if (errno || end == text || *end || !(v >= min && v <= max))
		fail("%s: \"%s\" is not a number from %g to %g", what, text, min, max);
	return v;
}

/* As many descriptors as we may have: 10,000 connections do not fit the usual soft limit. */
static inline void raise_fd_limit(size_t wanted)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) < 0)
		fail("getrlimit: %s", strerror(errno));
	if (rl.rlim_cur >= wanted)
		return;
	if (rl.rlim_max < wanted) {
		struct rlimit more = {.rlim_cur = wanted, .rlim_max = wanted};

		/* Only a privileged process may raise its hard limit; others take what they have. */
		if (setrlimit(RLIMIT_NOFILE, &more) == 0)
			return;
	}
	rl.rlim_cur = rl.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &rl) < 0)
		fail("setrlimit: %s", strerror(errno));
}

/* unix:PATH, HOST:PORT, [V6]:PORT, and Postfix's inet:HOST:PORT. */
static inline void parse_addr(const char *text, struct bench_addr *addr)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *res;
	char host[256];
	const char *colon;
	size_t n;
	int err;

	memset(addr, 0, sizeof(*addr));
	if (strncmp(text, "unix:", 5) == 0) {
		struct sockaddr_un *sun = (struct sockaddr_un *)&addr->ss;

		text += 5;
		if (!*text || strlen(text) >= sizeof(sun->sun_path))
			fail("unix:%s: the path is empty or too long for a socket", text);
		sun->sun_family = AF_UNIX;
		strcpy(sun->sun_path, text);
		addr->len = sizeof(*sun);
		return;
	}
	if (strncmp(text, "inet:", 5) == 0)
		text += 5;
	colon = strrchr(text, ':');
	if (!colon || !colon[1])
		fail("%s: expected unix:PATH or HOST:PORT", text);
	n = (size_t)(colon - text);
	if (n >= 2 && text[0] == '[' && text[n - 1] == ']') {
		text++;
		n -= 2;
	}
	if (n >= sizeof(host))
		fail("%s: the host name is too long", text);
	memcpy(host, text, n);
	host[n] = '\0';
	err = getaddrinfo(n ? host : "localhost", colon + 1, &hints, &res);
	if (err)
		fail("%s: %s", text, gai_strerror(err));
	memcpy(&addr->ss, res->ai_addr, res->ai_addrlen);
	addr->len = res->ai_addrlen;
	freeaddrinfo(res);
}

#endif
