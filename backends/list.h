/* The backends by name, for list.c and for tests. */
#ifndef MAPMUX_LIST_H
#define MAPMUX_LIST_H

#include "model/table.h"

extern const struct backend backend_url, backend_static, backend_memory, backend_chain,
	backend_redis, backend_dns_mx, backend_userli, backend_lua, backend_ratelimit;

/* composites */
extern const struct backend backend_guard, backend_cache, backend_keys;

#endif
