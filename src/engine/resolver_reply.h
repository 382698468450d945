/* A DNS message into the result of a query. */
#ifndef MAPMUX_RESOLVER_REPLY_H
#define MAPMUX_RESOLVER_REPLY_H

#include "engine/resolver.h"

/* Fills the result of `query` from a whole message whose question has been compared with ours, and
 * whose RCODE is NOERROR or NXDOMAIN. What cannot be understood is DNS_FAILED. */
void reply_read(
	struct dns_query *query, enum dns_type type, const unsigned char *message, size_t len);

/* The number of a type on the wire. */
int reply_type(enum dns_type type);

#endif
