/* What an http listener can be told; web.h serves it. */
#ifndef MAPMUX_FRONT_HTTP_H
#define MAPMUX_FRONT_HTTP_H

#include "model/attempts.h"

struct http_conf {
	const char *token; /* "": nobody is asked for one */
	int64_t max_body;  /* bytes of a request */
	struct attempt_rules attempts;
};

#endif
