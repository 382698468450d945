/* A DNS message into the result of a query: follows CNAMEs, keeps the TTLs, trusts no length.
 *
 * c-ares has parsers for most types, but they tell neither the TTL of an MX nor that of an absence,
 * and know no TLSA. Names are expanded by c-ares. */
#include "engine/resolver_reply.h"

#include <ares.h>

enum {
	HEADER = 12,
	MAX_RECORDS = 1000, /* of an answer; more is no honest mail domain */
	MAX_ALIASES = 16,
	TYPE_NS = 2,
	TYPE_CNAME = 5,
	TYPE_SOA = 6,
	CLASS_IN = 1,
	RCODE_NONE = 0,
	RCODE_NXDOMAIN = 3,
	FLAG_REPLY = 0x80, /* in the third byte of the header, */
	FLAG_AUTHORITATIVE = 0x04,
	FLAG_TRUNCATED = 0x02,
	FLAG_RECURSION = 0x80, /* and in the fourth */
	SOA_NUMBERS = 20,      /* bytes behind the names of a SOA */
};

struct rr {
	struct str owner;
	unsigned type, class, ttl;
	const unsigned char *data; /* in the message */
	size_t len;
};

struct reader {
	const unsigned char *message, *at, *end;
	struct arena mem; /* for names, until the result is made */
	struct rr *answers;
	size_t nanswers;
	bool referral; /* it does not say what there is, but who might know */
};

static unsigned get16(const unsigned char *p)
{
	return (unsigned)p[0] << 8 | p[1];
}

static unsigned get32(const unsigned char *p)
{
	return get16(p) << 16 | get16(p + 2);
}

int reply_type(enum dns_type type)
{
	static const int numbers[] = {[DNS_A] = 1,
		[DNS_AAAA] = 28,
		[DNS_MX] = 15,
		[DNS_TXT] = 16,
		[DNS_PTR] = 12,
		[DNS_TLSA] = 52};
	return numbers[type];
}

/* The name at `at`, and how many bytes it takes there. */
static bool get_name(const struct reader *reader, const unsigned char *at, struct arena *mem,
	struct str *name, size_t *taken)
{
	char *text = NULL;
	long n = 0;
	if (at >= reader->end ||
		ares_expand_name(at, reader->message, (int)(reader->end - reader->message), &text,
			&n) != ARES_SUCCESS)
		return false;
	*name = arena_str(mem, str_of(text));
	ares_free_string(text);
	for (char *p = (char *)name->ptr; *p; p++)
		if (*p >= 'A' && *p <= 'Z')
			*p = (char)(*p - 'A' + 'a');
	*taken = (size_t)n;
	return at + n <= reader->end;
}

static bool get_rr(struct reader *reader, struct rr *rr)
{
	size_t n;
	if (!get_name(reader, reader->at, &reader->mem, &rr->owner, &n))
		return false;
	reader->at += n;
	if (reader->end - reader->at < 10)
		return false;
	rr->type = get16(reader->at);
	rr->class = get16(reader->at + 2);
	rr->ttl = get32(reader->at + 4);
	if (rr->ttl > INT32_MAX) /* RFC 2181, 8 */
		rr->ttl = 0;
	rr->len = get16(reader->at + 8);
	rr->data = reader->at + 10;
	reader->at += 10;
	if ((size_t)(reader->end - reader->at) < rr->len)
		return false;
	reader->at += rr->len;
	return true;
}

/* The name in a record's data, from `skip` to its end. */
static bool get_target(const struct reader *reader, const struct rr *rr, size_t skip,
	struct arena *mem, struct str *name)
{
	size_t n;
	return rr->len > skip && get_name(reader, rr->data + skip, mem, name, &n) &&
	       skip + n == rr->len;
}

static bool get_text(const struct rr *rr, struct arena *mem, struct str *text)
{
	char *to = arena_alloc(mem, rr->len + 1);
	text->ptr = to;
	text->len = 0;
	for (size_t at = 0; at < rr->len;) {
		size_t n = rr->data[at++];
		if (rr->len - at < n)
			return false;
		memcpy(to + text->len, rr->data + at, n);
		text->len += n;
		at += n;
	}
	return true;
}

static struct str get_bytes(const struct rr *rr, size_t skip, struct arena *mem)
{
	return arena_str(mem, (struct str){(const char *)rr->data + skip, rr->len - skip});
}

static bool get_record(const struct reader *reader, const struct rr *rr, enum dns_type type,
	struct arena *mem, struct dns_record *record)
{
	switch (type) {
	case DNS_A:
	case DNS_AAAA:
		record->data = get_bytes(rr, 0, mem);
		return rr->len == (type == DNS_A ? 4 : 16);
	case DNS_MX:
		if (rr->len < 3)
			return false;
		record->preference = get16(rr->data);
		return get_target(reader, rr, 2, mem, &record->data);
	case DNS_PTR:
		return get_target(reader, rr, 0, mem, &record->data);
	case DNS_TXT:
		return get_text(rr, mem, &record->data);
	case DNS_TLSA:
		if (rr->len < 3)
			return false;
		record->usage = rr->data[0];
		record->selector = rr->data[1];
		record->matching = rr->data[2];
		record->data = get_bytes(rr, 3, mem);
		return true;
	}
	return false;
}

static void fail(struct dns_query *query, const char *why)
{
	query->result = DNS_FAILED;
	query->n = 0;
	query->why = str_of(why);
}

static void lower_ttl(struct dns_query *query, unsigned ttl)
{
	if (ttl < query->ttl)
		query->ttl = ttl;
}

/* From the name that was asked to the one that has the records. */
static bool follow_aliases(const struct reader *reader, struct str *owner, struct dns_query *query)
{
	struct str *aliases = arena_alloc(query->mem, MAX_ALIASES * sizeof(*aliases));
	query->aliases = aliases;
	for (size_t i = 0; i < reader->nanswers; i++) {
		const struct rr *rr = &reader->answers[i];
		if (rr->type != TYPE_CNAME || rr->class != CLASS_IN || !str_eq(rr->owner, *owner))
			continue;
		if (query->naliases == MAX_ALIASES ||
			!get_target(reader, rr, 0, query->mem, &aliases[query->naliases]))
			return false;
		*owner = aliases[query->naliases++];
		lower_ttl(query, rr->ttl);
		i = (size_t)-1; /* the next one may stand anywhere */
	}
	return true;
}

/* Records of another name alone are no answer to what was asked, and no absence either. */
static bool read_records(
	const struct reader *reader, struct str owner, enum dns_type type, struct dns_query *query)
{
	bool strays = false;
	struct dns_record *records =
		arena_alloc(query->mem, (reader->nanswers + 1) * sizeof(*records));
	query->records = records;
	for (size_t i = 0; i < reader->nanswers; i++) {
		const struct rr *rr = &reader->answers[i];
		if (rr->type != (unsigned)reply_type(type))
			continue;
		if (rr->class != CLASS_IN || !str_eq(rr->owner, owner)) {
			strays = true;
			continue;
		}
		if (!get_record(reader, rr, type, query->mem, &records[query->n++]))
			return false;
		lower_ttl(query, rr->ttl);
	}
	return query->n > 0 || !strays;
}

/* A server that does not resolve for us answers with what it knows: whom to ask, or an alias whose target is
 * elsewhere. Only a SOA makes that an absence (RFC 2308, 2.2); those who resolve may leave it out. */
static bool is_referral(const struct reader *reader, const struct dns_query *query, bool has_ns)
{
	bool resolves = reader->message[3] & FLAG_RECURSION;
	bool knows = reader->message[2] & FLAG_AUTHORITATIVE && query->naliases == 0;
	return !query->nxdomain && (has_ns || (!resolves && !knows));
}

/* How long an absence may be kept (RFC 2308): as the SOA that comes with it says; without one, not
 * at all. */
static bool read_absence(struct reader *reader, unsigned nauthority, struct dns_query *query)
{
	struct rr rr;
	unsigned ttl = 0;
	bool has_soa = false, has_ns = false;
	for (unsigned i = 0; i < nauthority; i++) {
		if (!get_rr(reader, &rr))
			return false;
		has_ns = has_ns || rr.type == TYPE_NS;
		if (rr.type == TYPE_SOA && rr.class == CLASS_IN && rr.len > SOA_NUMBERS) {
			unsigned minimum = get32(rr.data + rr.len - 4);
			ttl = minimum < rr.ttl ? minimum : rr.ttl;
			has_soa = true;
		}
	}
	reader->referral = !has_soa && is_referral(reader, query, has_ns);
	lower_ttl(query, ttl);
	return true;
}

static bool read_message(struct reader *reader, enum dns_type type, struct dns_query *query)
{
	const unsigned char *message = reader->message;
	struct str owner;
	size_t n;
	if (reader->end - reader->at < HEADER || get16(message + 4) != 1)
		return false;
	unsigned nanswers = get16(message + 6);
	reader->at += HEADER;
	if (!get_name(reader, reader->at, &reader->mem, &owner, &n) ||
		(size_t)(reader->end - reader->at) < n + 4 || nanswers > MAX_RECORDS)
		return false;
	reader->at += n + 4;
	reader->answers = arena_alloc(&reader->mem, (nanswers + 1) * sizeof(*reader->answers));
	while (reader->nanswers < nanswers)
		if (!get_rr(reader, &reader->answers[reader->nanswers++]))
			return false;
	query->nxdomain = (message[3] & 0x0f) == RCODE_NXDOMAIN;
	if (!follow_aliases(reader, &owner, query) || !read_records(reader, owner, type, query))
		return false;
	return query->n > 0 || read_absence(reader, get16(message + 8), query);
}

void reply_read(
	struct dns_query *query, enum dns_type type, const unsigned char *message, size_t len)
{
	struct reader reader = {.message = message, .at = message, .end = message + len};
	bool good = len >= HEADER && (message[2] & FLAG_REPLY);
	unsigned rcode = good ? message[3] & 0x0f : RCODE_NONE;
	query->ttl = UINT32_MAX;
	if (good && (message[2] & FLAG_TRUNCATED)) /* c-ares has tried TCP before */
		fail(query, "the answer is truncated");
	else if (rcode != RCODE_NONE && rcode != RCODE_NXDOMAIN) /* c-ares knows five of them */
		fail(query, "the servers answer with an error");
	else if (!good || !read_message(&reader, type, query))
		fail(query, "the answer is malformed");
	else if (reader.referral)
		fail(query, "the server refers to others, it does not resolve");
	else
		query->result = query->n > 0 ? DNS_OK : DNS_NONE;
	arena_clear(&reader.mem);
}
