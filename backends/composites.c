/* Every composite, the innermost first. */
#include "list.h"

const struct backend *const composites[] = {
	&backend_guard,
	&backend_cache,
	&backend_keys,
	NULL,
};
