/* Engine: HTTP requests by curl's multi interface on a worker's loop. */
#ifndef MAPMUX_HTTP_H
#define MAPMUX_HTTP_H

#include "model/query.h"

struct event_base;
struct http;      /* one for each worker: the multi handle and the connections it keeps */
struct http_pool; /* one for each table and worker: handles prepared with the table's options */

/* How a table's requests are made; const, shared by the workers, outliving its pools. NULL or 0:
 * curl's default, but no proxy, no limit of connections and no body. */
struct http_options {
	const char *const *headers; /* "Name: value", NULL-terminated */
	const char *user_agent, *basic_auth, *ca_file, *client_cert, *client_key, *unix_socket,
		*proxy;
	bool skip_tls_verify, http2, follow_redirects;
	long connect_timeout_ms;
	long max_connections; /* in this worker; further fetches wait for their turn */
	size_t max_body;      /* bytes of a reply */
};

enum http_result {
	HTTP_REPLY,       /* a whole reply: status, body */
	HTTP_TOO_LARGE,   /* a reply whose body is over max_body; status is set */
	HTTP_UNREACHABLE, /* nothing was sent: no connection, no name, TLS refused */
	HTTP_BROKEN,      /* sent, or perhaps sent, but no whole reply */
};

/* Embedded in whoever fetches; zeroed memory is idle. The engine has no deadlines but that of the
 * connection: the asker's http_cancel() is the other. */
struct http_fetch {
	struct arena *mem;                 /* for body and why */
	void (*done)(struct http_fetch *); /* in a turn; never from http_start() */
	const char *method;                /* "GET", "POST", "DELETE", ... */
	const char *url;                   /* percent-encoded; copied */
	const char
		*content_type; /* of `send`, one of few unless there are headers; NULL: no body */
	struct str send;       /* the request's body; lives until done() */
	const char *const
		*headers; /* further ones, "Name: value", NULL-terminated; they go before the
				     * pool's of that name; NULL: none */
	bool once;        /* never sent a second time, as is done when a kept connection has died */
	bool secret;      /* `send` holds a password: nothing of it stays in memory; HTTP/1.1 */
	bool no_body;     /* the reply's body is not wanted and may have any size */
	bool want_head;   /* the lines of the reply's headers are wanted */
	const struct query *asker; /* whose trace is told; NULL: nobody's */
	const char *shown; /* to a trace: the URL without secrets; NULL: without user and query */

	enum http_result result;
	int status;      /* of HTTP_REPLY and HTTP_TOO_LARGE */
	struct str body; /* of HTTP_REPLY */
	struct str head; /* of HTTP_REPLY, if wanted: lines as they came, without the first */
	struct str why;  /* of the others: for people, without secrets */

	struct http_pool *pool; /* the engine's own, from here on; NULL: idle */
	struct http_transfer *transfer;
	TAILQ_ENTRY(http_fetch) link;
};

struct http *http_new(struct event_base *base, struct turn *turn);
void http_free(struct http *http); /* its pools are gone */

struct http_pool *http_pool_new(struct http *http, const struct http_options *options);
void http_pool_free(struct http_pool *pool); /* nothing is under way */

/* One done() follows, unless http_cancel() comes first. */
void http_start(struct http_pool *pool, struct http_fetch *fetch);

/* Whether this libcurl can use an HTTP/2 connection without TLS more than once. If not, each request
 * makes one. */
bool http_can_keep_h2c(void);

/* At any time: idle, waiting, under way or done; not from a callback of curl. */
void http_cancel(struct http_fetch *fetch);

#endif
