/* The types of tables that scripts can name, in place of backends/list.c. */
#include "list.h"
#include "scripted.h"

const struct backend *const backends[] = {
	&backend_scripted,
	&backend_static,
	&backend_memory,
	&backend_chain,
	&backend_ratelimit,
	NULL,
};
