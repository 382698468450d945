/* Engine: HTTP requests by curl's multi interface on a worker's loop. */
#ifndef MAPMUX_HTTP_H
#define MAPMUX_HTTP_H

#include "arena.h"
#include "setting.h"
#include "turn.h"

struct event_base;
struct http;      /* one for each worker: the multi handle and the connections it keeps */
struct http_pool; /* one for each table and worker: handles prepared with the table's options */

/* How a table's requests are made; const, shared by the workers. NULL or 0: curl's default. */
struct http_options {
	const char *const *headers; /* "Name: value", NULL-terminated */
	const char *user_agent, *basic_auth, *ca_file, *client_cert, *client_key, *unix_socket,
		*proxy;
	bool tls_verify, http2, follow_redirects;
	long connect_timeout_ms, max_connections;
	size_t max_body; /* bytes of a reply */
};

enum http_result {
	HTTP_REPLY,       /* a whole reply: status, body */
	HTTP_UNREACHABLE, /* nothing was sent: no connection, no name, TLS refused */
	HTTP_BROKEN,      /* sent, or perhaps sent, but no whole reply */
};

/* Embedded in the backend's work. */
struct http_fetch {
	struct arena *mem; /* for body and why */
	void (*done)(struct http_fetch
			*);       /* in a turn, never from a curl callback nor from http_start() */
	const char *method;       /* "GET", "POST", "DELETE", ... */
	const char *url;          /* percent-encoded; copied */
	const char *content_type; /* NULL: no body */
	struct str send;          /* the request's body; lives until done() */

	enum http_result result;
	int status;      /* of HTTP_REPLY */
	struct str body; /* of HTTP_REPLY */
	struct str why;  /* of the others: for people, without secrets */

	struct http_pool *pool; /* the engine's own, from here on */
	struct http_transfer *transfer;
};

struct http *http_new(struct event_base *base, struct turn *turn);
void http_free(struct http *http);

struct http_pool *http_pool_new(struct http *http, const struct http_options *options);
void http_pool_free(struct http_pool *pool);

/* One done() follows, unless http_cancel() comes first. `deadline_ms` is on the turn's clock. */
void http_start(struct http_pool *pool, struct http_fetch *fetch, uint64_t deadline_ms);

/* At any time, done or not. */
void http_cancel(struct http_fetch *fetch);

#endif
