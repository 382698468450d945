/* Every backend, and every composite: one line for each. */
#include "list.h"

const struct backend *const backends[] = {
	&backend_url,
	&backend_static,
	&backend_redis,
	&backend_memory,
	&backend_lua,
	&backend_chain,
	&backend_dns_mx,
	&backend_userli,
	NULL,
};

const struct backend *const composites[] = {
	&backend_guard,
	&backend_keys,
	NULL,
};
