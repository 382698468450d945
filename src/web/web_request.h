/* One request over HTTP, between evhttp (web.c) and what is answered (web_routes.c). */
#ifndef MAPMUX_WEB_REQUEST_H
#define MAPMUX_WEB_REQUEST_H

#include <sys/queue.h>

#include "base/buf.h"
#include "model/attempts.h"
#include "model/query.h"
#include "model/timer.h"
#include "web/survey.h"
#include "web/web.h"

struct event;
struct evhttp_request;
struct web_request;

enum web_method {
	WEB_GET = 1, /* HEAD as well: web.c leaves the body out */
	WEB_PUT = 2,
	WEB_DELETE = 4,
	WEB_POST = 8,
	WEB_OTHER = 16,
};

struct web_request {
	struct web *web;
	struct evhttp_request *http; /* NULL: the client has left */
	struct job watch;            /* for whether he leaves, if he has to wait */
	struct event *left;          /* he does; or NULL */
	LIST_ENTRY(web_request) link;

	enum web_method method;
	struct str path;   /* as it was sent, up to the '?' */
	struct str params; /* as they were sent, behind it */
	struct str body;
	struct str token;        /* what he showed as a Bearer */
	struct str host, origin; /* the headers of these names; empty: none */
	const char *allow;       /* of a 405: the methods that the path takes */

	struct query query;
	struct question ask;
	struct change change;
	struct attempt attempt; /* of an authentication */
	struct trace *trace;    /* of the query, held; NULL: none is wanted */
	struct survey *survey;  /* under way, or NULL */
	void (*surveyed)(
		struct web_request *, const struct survey *); /* NULL: none came home in time */
	struct timer timer;                                   /* of the survey */
	struct arena mem;
};

/* web.c: the worker, the tables and the settings that the request meets. */
struct worker *web_worker(const struct web_request *request);
struct crew *web_crew(const struct web_request *request);
struct table_set *web_tables(const struct web_request *request);
const struct listen_conf *web_conf(const struct web_request *request);
const char *web_name(const struct web_request *request); /* the listener's, for the log */
struct windows *web_failures(const struct web_request *request);
unsigned web_protocol(const struct web_request *request);

/* web.c: the answer; the request is gone when it returns. */
void web_answer(struct web_request *request, int code, const char *type, struct str body);

/* The same of the text of `out`, which is taken and not copied. */
void web_answer_buf(struct web_request *request, int code, const char *type, struct buf *out);

/* web_routes.c: leads to one web_answer(), now or later. In a turn. */
void web_route(struct web_request *request);

/* web_routes.c: the client has left. Ends what he waited for; true: a change goes on without him, and
 * leads to web_answer() still. */
bool web_abandon(struct web_request *request);

/* web_routes.c: ends everything, changes too. */
void web_cancel(struct web_request *request);

#endif
