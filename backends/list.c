/* Every backend: one line for each. Not in one file with the composites, so that a test can link a list of
 * its own. */
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
	&backend_ratelimit,
	NULL,
};
