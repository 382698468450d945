/* The static table as a list of passwords. Private to static*.c. */
#ifndef MAPMUX_STATIC_AUTH_H
#define MAPMUX_STATIC_AUTH_H

#include "model/query.h"
#include "static_map.h"

/* OP_AUTH, in a worker. The map's values are passwords that password_read() takes. */
void static_auth_start(struct query *query, const struct map *map);
void static_auth_cancel(struct query *query);

#endif
