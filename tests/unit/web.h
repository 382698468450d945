/* A scripted HTTP/1.1 server for tests, on loopback in a thread of its own: keeps connections, hands
 * each request to the test's function, remembers what was asked. Includes cmocka. */
#ifndef TESTS_WEB_H
#define TESTS_WEB_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/str.h"

enum { WEB_CLIENTS = 32, WEB_REQUEST = 4096, WEB_LOG = 256 };

struct web_client {
	int fd;
	unsigned served; /* requests on this connection */
	size_t len;
	char in[WEB_REQUEST];
};

struct web {
	int listener;
	unsigned port;
	/* What to answer: the whole reply, "" to hang up, NULL to say nothing (yet). `nth` counts the
	 * requests of the connection from 0. */
	const char *(*answer)(const char *request, unsigned nth);
	pthread_t thread;
	_Atomic bool stop;
	_Atomic unsigned connections, nlog;
	char log[WEB_LOG][WEB_REQUEST]; /* requests as they came; read below nlog */
	struct web_client clients[WEB_CLIENTS];
};

/* The length of the whole request at the start of `in`; 0: not all there. */
static inline size_t web_request_length(const char *in)
{
	const char *end = strstr(in, "\r\n\r\n");
	const char *length = strcasestr(in, "\r\nContent-Length:");
	size_t body = 0;
	if (!end)
		return 0;
	if (length && length < end)
		body = (size_t)atol(length + 17);
	size_t whole = (size_t)(end + 4 - in) + body;
	return strlen(in) >= whole ? whole : 0;
}

static inline void web_hang_up(struct web_client *client)
{
	close(client->fd);
	client->fd = -1;
	client->len = 0;
	client->served = 0;
}

static inline void web_serve(struct web *web, struct web_client *client)
{
	ssize_t n = read(client->fd, client->in + client->len, WEB_REQUEST - 1 - client->len);
	if (n <= 0) {
		web_hang_up(client);
		return;
	}
	client->len += (size_t)n;
	client->in[client->len] = '\0';
	if (web_request_length(client->in) == 0)
		return;
	unsigned at = atomic_load(&web->nlog) % WEB_LOG;
	memcpy(web->log[at], client->in, client->len + 1);
	atomic_fetch_add(&web->nlog, 1);
	client->len = 0;
	const char *reply = web->answer(client->in, client->served++);
	if (reply && (reply[0] == '\0' || write(client->fd, reply, strlen(reply)) < 0))
		web_hang_up(client);
}

static inline void web_accept(struct web *web)
{
	int fd = accept(web->listener, NULL, NULL);
	for (int i = 0; fd >= 0 && i < WEB_CLIENTS; i++) {
		if (web->clients[i].fd < 0) {
			web->clients[i].fd = fd;
			atomic_fetch_add(&web->connections, 1);
			return;
		}
	}
	close(fd);
}

static inline void *web_run(void *arg)
{
	struct web *web = arg;
	while (!atomic_load(&web->stop)) {
		struct pollfd fds[WEB_CLIENTS + 1];
		fds[WEB_CLIENTS] = (struct pollfd){.fd = web->listener, .events = POLLIN};
		for (int i = 0; i < WEB_CLIENTS; i++)
			fds[i] = (struct pollfd){.fd = web->clients[i].fd, .events = POLLIN};
		if (poll(fds, WEB_CLIENTS + 1, 10) <= 0)
			continue;
		for (int i = 0; i < WEB_CLIENTS; i++)
			if (fds[i].revents)
				web_serve(web, &web->clients[i]);
		if (fds[WEB_CLIENTS].revents)
			web_accept(web);
	}
	return NULL;
}

static inline struct web *web_new(const char *(*answer)(const char *request, unsigned nth))
{
	struct web *web = calloc(1, sizeof(*web));
	struct sockaddr_in at = {.sin_family = AF_INET};
	socklen_t len = sizeof(at);
	assert_non_null(web);
	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	web->answer = answer;
	web->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(web->listener, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(web->listener, 64), 0);
	assert_int_equal(getsockname(web->listener, (struct sockaddr *)&at, &len), 0);
	web->port = ntohs(at.sin_port);
	for (int i = 0; i < WEB_CLIENTS; i++)
		web->clients[i].fd = -1;
	assert_int_equal(pthread_create(&web->thread, NULL, web_run, web), 0);
	return web;
}

static inline void web_free(struct web *web)
{
	atomic_store(&web->stop, true);
	pthread_join(web->thread, NULL);
	for (int i = 0; i < WEB_CLIENTS; i++)
		if (web->clients[i].fd >= 0)
			close(web->clients[i].fd);
	close(web->listener);
	free(web);
}

/* A port nobody listens on. */
static inline unsigned web_dead_port(void)
{
	struct web *web = web_new(NULL);
	unsigned port = web->port;
	web_free(web);
	return port;
}

#define WEB_REPLY(status, length, body)                                                            \
	"HTTP/1.1 " status " x\r\nContent-Type: application/json\r\nContent-Length: " length       \
	"\r\n\r\n" body

#endif
