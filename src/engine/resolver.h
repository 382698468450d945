/* Engine: DNS questions by c-ares on a worker's loop. Caches nothing. */
#ifndef MAPMUX_RESOLVER_H
#define MAPMUX_RESOLVER_H

#include "model/query.h"
#include "model/setting.h"

struct event_base;
struct resolver; /* one for each worker and list of servers */

enum dns_type { DNS_A, DNS_AAAA, DNS_MX, DNS_TXT, DNS_PTR, DNS_TLSA };

/* "MX" and so on. */
const char *dns_type_name(enum dns_type type);

enum dns_result {
	DNS_OK,     /* there are records */
	DNS_NONE,   /* there are none: no such name, or none of this type */
	DNS_FAILED, /* nobody knows: no answer, SERVFAIL, garbage, a truncated answer */
};

/* Strings that stand for names are as in the message but for letters, which are small; without a
 * dot at the end, so that the root is "". Bytes that no host name has are escaped as \DDD. */
struct dns_record {
	struct str data;     /* A, AAAA: 4 or 16 bytes; MX, PTR: a name; TXT: its strings joined;
	                      * TLSA: the certificate association data */
	unsigned preference; /* MX */
	unsigned char usage, selector, matching; /* TLSA */
};

/* Embedded in whoever asks; zeroed memory is idle. The engine gives up after some seconds by itself;
 * the asker's resolver_cancel() may come before. */
struct dns_query {
	struct arena *mem;                /* for records and why */
	void (*done)(struct dns_query *); /* in a turn; never from resolver_start() */
	const struct query *asker;        /* whose trace is told; NULL: nobody's */

	enum dns_result result;
	bool nxdomain; /* of DNS_NONE: there is no such name at all */
	size_t n;      /* of DNS_OK: at least one */
	const struct dns_record *records;
	size_t naliases; /* the names that CNAMEs led to, in order; the last one has the records */
	const struct str *aliases;
	unsigned ttl;   /* seconds, of DNS_OK and DNS_NONE; 0: not to be kept */
	struct str why; /* of DNS_FAILED: for people */

	struct resolver *resolver; /* the engine's own, from here on; NULL: idle */
	struct dns_token *token;
	struct job delivery;
};

/* `servers` are addresses, with :PORT if need be ([::1]:5353), separated by blanks or commas; "" are
 * the system's. */
bool resolver_check(const char *servers, struct error *error);
struct resolver *resolver_new(
	struct event_base *base, struct turn *turn, const char *servers, struct error *error);
void resolver_free(struct resolver *resolver); /* nobody asks any more */

/* One done() follows, unless resolver_cancel() comes first. The name is a full one (no search
 * domains) and is copied. One that breaks the rules of domain.h is DNS_NONE, and nobody is asked. */
void resolver_start(
	struct resolver *resolver, struct dns_query *query, struct str name, enum dns_type type);

/* At any time: idle, under way or done. */
void resolver_cancel(struct dns_query *query);

/* The name whose PTR records belong to an address (text, IPv4 or IPv6); false when it is none. */
bool resolver_reverse(struct str address, struct arena *mem, struct str *name);

#endif
