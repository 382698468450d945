/* URLs for libcurl, taken apart. Private to http.c. */
#ifndef MAPMUX_HTTP_URL_H
#define MAPMUX_HTTP_URL_H

#include "base/arena.h"
#include "base/buf.h"

/* The URL that an easy handle has now. Most requests of a handle go to one server, so that only the path is
 * new: libcurl need not parse the rest again and again. Zeroed memory is none. */
struct http_url {
	void *parts;       /* a CURLU */
	struct buf origin; /* scheme, userinfo, host and port as they were written, and a NUL */
	struct buf path;
};

/* The handle's next request goes to `text`, which is copied. */
void http_url_set(struct http_url *url, void *easy, const char *text);

/* After the handle's end. */
void http_url_free(struct http_url *url);

/* Has `text` the scheme, host and port of the URL that was set last? */
bool http_url_is_near(const struct http_url *url, const char *text);

/* For people: without user and password, and with "..." in the place of the query. In `mem`. */
struct str http_url_public(const char *text, struct arena *mem);

#endif
