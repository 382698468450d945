/* What the parts of the routes share. Private to web_routes.c and what is named here. */
#ifndef MAPMUX_WEB_ROUTES_H
#define MAPMUX_WEB_ROUTES_H

#include "web/web_request.h"

#define JSON "application/json"

/* Paths behind which a table's name stands. */
#define LOOKUP "/v1/lookup/"
#define ITERATE "/v1/iterate/"
#define AUTH "/v1/auth/"
#define RATELIMIT "/v1/ratelimit/"

enum { PAGE_MAX = 256 << 20 }; /* bytes: beyond all tables that one may have */

/* web_words.c. What answers ends the request. */

/* {"status":"error","reason":WHY}: it was the client's mistake, and is counted by that word. */
void web_refuse(struct web_request *request, int code, const char *counted, const char *why);

/* A parameter of the request; false: it is not as it has to be, and that was answered. */
bool web_take_param(struct web_request *request, const char *name, bool needed, struct str *value);

/* NULL: there is none, and that was answered. */
struct table *web_find_table(struct web_request *request, struct str name);

/* web_ask.c. */

/* The table's name is all that stands behind the prefix; NULL: it has been answered. */
struct table *web_read_table(struct web_request *request, const char *prefix);

/* Asks request->ask; leads to web_say(). */
void web_ask(struct web_request *request, struct table *table);

/* The query's answer, which ends the request. */
void web_say(struct web_request *request);

/* web_auth.c: the table has answered whether a password is right: what he is told may be another thing. */
void web_judge(struct web_request *request);

/* web_auth.c: the route. */
void web_post_auth(struct web_request *request);

/* web_trace.c: adds `,"trace":[...]`, a member for each step. */
void web_trace(const struct trace *trace, struct buf *out);

/* web_ask.c: the routes of these paths, and of /v1/cache/purge. Each leads to one answer, now or later. */
void web_get_lookup(struct web_request *request);
void web_put_lookup(struct web_request *request);
void web_delete_lookup(struct web_request *request);
void web_get_iterate(struct web_request *request);
void web_get_ratelimit(struct web_request *request);
void web_delete_ratelimit(struct web_request *request);
void web_post_purge(struct web_request *request);

#endif
