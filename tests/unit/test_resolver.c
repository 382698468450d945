/* DNS messages as they come, also broken ones; the engine where nobody answers. */
#include "tables.h"

#include <event2/event.h>

#include "engine/resolver.h"
#include "engine/resolver_reply.h"

/* A message that is being written. */
struct message {
	unsigned char bytes[4096];
	size_t len;
	unsigned counts[3]; /* answers, authority, additional */
};

static void put(struct message *message, const void *bytes, size_t n)
{
	assert_true(message->len + n <= sizeof(message->bytes));
	memcpy(message->bytes + message->len, bytes, n);
	message->len += n;
}

static void put16(struct message *message, unsigned n)
{
	put(message, (unsigned char[]){(unsigned char)(n >> 8), (unsigned char)n}, 2);
}

static void put_name(struct message *message, const char *name)
{
	struct str rest = str_of(name), label;
	while (rest.len > 0) {
		str_cut(&rest, '.', &label);
		put(message, (unsigned char[]){(unsigned char)label.len}, 1);
		put(message, label.ptr, label.len);
	}
	put(message, "", 1);
}

/* The header and a question for `name`; a pointer to offset 12 stands for it later. */
static void begin(struct message *message, const char *name, unsigned flags)
{
	*message = (struct message){0};
	put16(message, 1);
	put16(message, 0x8000 | flags);
	put16(message, 1);
	put(message, "\0\0\0\0\0\0", 6);
	put_name(message, name);
	put16(message, 15);
	put16(message, 1);
}

static void put_rr(struct message *message, size_t section, const char *owner, unsigned type,
	unsigned ttl, const void *data, size_t len)
{
	put_name(message, owner);
	put16(message, type);
	put16(message, 1);
	put16(message, ttl >> 16);
	put16(message, ttl & 0xffff);
	put16(message, (unsigned)len);
	put(message, data, len);
	message->bytes[7 + 2 * section] = (unsigned char)++message->counts[section];
}

/* Reads a copy of exactly that size, so that a byte beyond is found by the sanitizer. */
static void read_message(
	struct dns_query *query, enum dns_type type, const struct message *message, size_t len)
{
	unsigned char *copy = memory_new(len ? len : 1);
	memcpy(copy, message->bytes, len);
	*query = (struct dns_query){.mem = query->mem};
	reply_read(query, type, copy, len);
	free(copy);
	if (query->result == DNS_FAILED)
		assert_true(query->why.len > 0);
}

#define MX_DATA "\0\012\3MX1\4ours\4test"

static void make_mx(struct message *message)
{
	begin(message, "a.test", 0);
	put_rr(message, 0, "b.test", 15, 300, MX_DATA, sizeof(MX_DATA));
	put_rr(message, 0, "c.test", 15, 5, MX_DATA, sizeof(MX_DATA)); /* of another name */
	put_rr(message, 0, "A.test", 5, 200, "\1B\4test", 8);
	put_rr(message, 2, "mx1.ours.test", 1, 1, "\300\0\2\1", 4);
}

static void test_mx_behind_a_cname(void **state)
{
	struct arena mem = {0};
	struct dns_query query = {.mem = &mem};
	struct message message;
	(void)state;
	make_mx(&message);
	read_message(&query, DNS_MX, &message, message.len);
	assert_int_equal(query.result, DNS_OK);
	assert_int_equal(query.n, 1);
	assert_str(query.records[0].data, "mx1.ours.test");
	assert_int_equal(query.records[0].preference, 10);
	assert_int_equal(query.naliases, 1);
	assert_str(query.aliases[0], "b.test");
	assert_int_equal(query.ttl, 200);
	arena_clear(&mem);
}

static void test_other_types(void **state)
{
	struct arena mem = {0};
	struct dns_query query = {.mem = &mem};
	struct message message;
	(void)state;
	begin(&message, "a.test", 0x0080);
	put_rr(&message, 0, "a.test", 1, 10, "\300\0\2\1", 4);
	put_rr(&message, 0, "a.test", 16, 0xffffffff, "\3abc\0\2de", 8);
	put_rr(&message, 0, "a.test", 12, 10, "\1p\4test", 8);
	put_rr(&message, 0, "a.test", 52, 10, "\3\1\2\xab\xcd", 5);
	read_message(&query, DNS_A, &message, message.len);
	assert_true(query.n == 1 && query.records[0].data.len == 4 && query.ttl == 10);
	read_message(&query, DNS_AAAA, &message, message.len);
	assert_true(query.result == DNS_NONE && !query.nxdomain && query.ttl == 0);
	read_message(&query, DNS_TXT, &message, message.len);
	assert_str(query.records[0].data, "abcde");
	assert_int_equal(query.ttl, 0);
	read_message(&query, DNS_PTR, &message, message.len);
	assert_str(query.records[0].data, "p.test");
	read_message(&query, DNS_TLSA, &message, message.len);
	assert_true(query.records[0].usage == 3 && query.records[0].selector == 1 &&
		    query.records[0].matching == 2);
	assert_str(query.records[0].data, "\xab\xcd");
	arena_clear(&mem);
}

static void test_absence(void **state)
{
	static const char soa[] = "\0\0\0\0\0\1\0\0\0\1\0\0\0\1\0\0\0\1\0\0\0\74"; /* minimum 60 */
	struct arena mem = {0};
	struct dns_query query = {.mem = &mem};
	struct message message;
	(void)state;
	begin(&message, "a.test", 3);
	put_rr(&message, 1, "test", 6, 3600, soa, 22);
	read_message(&query, DNS_MX, &message, message.len);
	assert_true(query.result == DNS_NONE && query.nxdomain && query.ttl == 60);
	begin(&message, "a.test", 0);
	put_rr(&message, 1, "test", 6, 30, soa, 22);
	read_message(&query, DNS_MX, &message, message.len);
	assert_true(query.result == DNS_NONE && !query.nxdomain && query.ttl == 30);
	begin(&message, "a.test", 0x0200);
	read_message(&query, DNS_MX, &message, message.len);
	assert_int_equal(query.result, DNS_FAILED);
	arena_clear(&mem);
}

static void assert_malformed(const struct message *message, enum dns_type type)
{
	struct arena mem = {0};
	struct dns_query query = {.mem = &mem};
	read_message(&query, type, message, message->len);
	assert_int_equal(query.result, DNS_FAILED);
	arena_clear(&mem);
}

/* What is neither a record nor said to be absent is no absence. */
static void test_referral(void **state)
{
	struct arena mem = {0};
	struct dns_query query = {.mem = &mem};
	struct message message;
	(void)state;
	begin(&message, "a.test", 0x0080); /* NS alone, even of one that resolves */
	put_rr(&message, 1, "test", 2, 3600, "\2ns\4test", 9);
	assert_malformed(&message, DNS_MX);
	begin(&message, "a.test", 0x0400); /* the target of the alias is elsewhere */
	put_rr(&message, 0, "a.test", 5, 300, "\1b\5other", 9);
	assert_malformed(&message, DNS_MX);
	begin(&message, "a.test", 0); /* nobody knows, and nobody has looked */
	assert_malformed(&message, DNS_MX);
	begin(&message, "a.test", 0x0400);
	read_message(&query, DNS_MX, &message, message.len);
	assert_int_equal(query.result, DNS_NONE);
	begin(&message, "a.test", 0x0080); /* many forwarders keep the SOA to themselves */
	put_rr(&message, 0, "a.test", 5, 300, "\1b\5other", 9);
	read_message(&query, DNS_MX, &message, message.len);
	assert_true(query.result == DNS_NONE && query.naliases == 1);
	arena_clear(&mem);
}

static void test_errors_and_strays(void **state)
{
	struct message message;
	(void)state;
	for (unsigned rcode = 1; rcode < 16; rcode++) {
		begin(&message, "a.test", 0x0080 | rcode);
		if (rcode != 3)
			assert_malformed(&message, DNS_MX);
	}
	begin(&message, "a.test", 0x0080);
	put_rr(&message, 0, "b.test", 15, 300, MX_DATA, sizeof(MX_DATA)); /* of another name */
	assert_malformed(&message, DNS_MX);
	begin(&message, "a.test", 0x0180);
	message.bytes[2] &= 0x7f; /* our own question comes back */
	assert_malformed(&message, DNS_MX);
}

static void test_malformed(void **state)
{
	struct message message;
	(void)state;
	begin(&message, "a.test", 0);
	put_rr(&message, 0, "a.test", 1, 10, "\300\0\2\1x", 5); /* no address */
	assert_malformed(&message, DNS_A);
	begin(&message, "a.test", 0);
	put_rr(&message, 0, "a.test", 15, 10, MX_DATA "x", sizeof(MX_DATA) + 1);
	assert_malformed(&message, DNS_MX);
	begin(&message, "a.test", 0);
	put_rr(&message, 0, "a.test", 15, 10, "\0\012", 2);
	assert_malformed(&message, DNS_MX);
	begin(&message, "a.test", 0);
	put_rr(&message, 0, "a.test", 15, 10, "\0\012\300\377", 4); /* points out of it */
	assert_malformed(&message, DNS_MX);
	begin(&message, "a.test", 0);
	put_rr(&message, 0, "a.test", 16, 10, "\5abc", 4);
	assert_malformed(&message, DNS_TXT);
	begin(&message, "a.test", 0);
	put_rr(&message, 0, "a.test", 5, 10, "\1a\4test", 8); /* an alias of itself */
	assert_malformed(&message, DNS_MX);
	begin(&message, "a.test", 0);
	message.bytes[5] = 0; /* no question */
	assert_malformed(&message, DNS_MX);
	begin(&message, "a.test", 0);
	message.bytes[6] = 0xff; /* thousands of answers that are not there */
	assert_malformed(&message, DNS_MX);
}

/* Cut anywhere, and with any byte changed: no byte beyond the message is read. */
static void test_cut_and_bent(void **state)
{
	struct arena mem = {0};
	struct dns_query query = {.mem = &mem};
	struct message message;
	uint32_t random = 1;
	(void)state;
	make_mx(&message);
	for (size_t len = 0; len < message.len; len++)
		for (enum dns_type type = DNS_A; type <= DNS_TLSA; type++)
			read_message(&query, type, &message, len);
	for (unsigned round = 0; round < 20000; round++) {
		struct message bent = message;
		for (unsigned i = 0; i <= round % 4; i++) {
			random = random * 1664525 + 1013904223;
			bent.bytes[(random >> 8) % bent.len] = (unsigned char)(random >> 24);
		}
		read_message(&query, DNS_MX, &bent, bent.len);
		read_message(&query, DNS_TXT, &bent, bent.len);
		arena_clear(&mem);
	}
}

static void test_servers(void **state)
{
	static const char *const good[] = {
		"", "127.0.0.1", "127.0.0.1:5353 [::1]:53,2001:db8::1", " 192.0.2.1 , 192.0.2.2 "};
	static const char *const bad[] = {"localhost", "127.0.0.1:0", "127.0.0.1:70000", ":53",
		"unix:/x", "1.2.3", "[::1", "systemd:x"};
	struct error error;
	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
		if (!resolver_check(good[i], &error))
			fail_msg("\"%s\": %s", good[i], error.text);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		if (resolver_check(bad[i], &error))
			fail_msg("\"%s\" is taken for a server", bad[i]);
}

static void test_reverse(void **state)
{
	struct arena mem = {0};
	struct str name;
	(void)state;
	assert_true(resolver_reverse(STR("192.0.2.1"), &mem, &name));
	assert_str(name, "1.2.0.192.in-addr.arpa");
	assert_true(resolver_reverse(STR("2001:db8::1"), &mem, &name));
	assert_str(
		name, "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa");
	assert_false(resolver_reverse(STR("example.org"), &mem, &name));
	assert_false(resolver_reverse(STR(""), &mem, &name));
	arena_clear(&mem);
}

/* ---- the engine ---- */

struct bench {
	struct stand stand;
	struct event_base *base;
	struct resolver *resolver;
	struct arena mem;
};

static unsigned dones;

static void on_done(struct dns_query *query)
{
	assert_null(query->resolver);
	dones++;
}

static void bench_open(struct bench *bench)
{
	*bench = (struct bench){0};
	stand_init(&bench->stand);
	bench->base = event_base_new();
	/* Port 9 of loopback: nobody is there. */
	bench->resolver =
		resolver_new(bench->base, &bench->stand.turn, "127.0.0.1:9", &bench->stand.error);
	assert_non_null(bench->resolver);
	dones = 0;
}

static void bench_close(struct bench *bench)
{
	resolver_free(bench->resolver);
	event_base_free(bench->base);
	arena_clear(&bench->mem);
}

static void test_name_that_is_none(void **state)
{
	struct bench bench;
	(void)state;
	bench_open(&bench);
	struct dns_query query = {.mem = &bench.mem, .done = on_done};
	resolver_start(bench.resolver, &query, STR("a b"), DNS_A);
	assert_int_equal(dones, 0); /* never from resolver_start() */
	stand_run(&bench.stand);
	assert_int_equal(dones, 1);
	assert_int_equal(query.result, DNS_NONE);
	bench_close(&bench);
}

static void test_nobody_there(void **state)
{
	struct bench bench;
	(void)state;
	bench_open(&bench);
	struct dns_query query = {.mem = &bench.mem, .done = on_done};
	resolver_start(bench.resolver, &query, STR("a.test"), DNS_A);
	for (unsigned i = 0; dones == 0 && i < 500; i++) {
		event_base_loop(bench.base, EVLOOP_ONCE);
		stand_run(&bench.stand);
	}
	assert_int_equal(dones, 1);
	assert_int_equal(query.result, DNS_FAILED);
	assert_true(query.why.len > 0);
	bench_close(&bench);
}

/* Each way to be cancelled: done() is never called, and nothing leaks. */
static void test_cancel(void **state)
{
	struct bench bench;
	(void)state;
	bench_open(&bench);
	struct dns_query queries[3] = {0};
	for (size_t i = 0; i < 3; i++) {
		queries[i].mem = &bench.mem;
		queries[i].done = on_done;
	}
	resolver_cancel(&queries[0]); /* idle */
	resolver_start(bench.resolver, &queries[0], STR("a.test"), DNS_A);
	resolver_start(bench.resolver, &queries[1], STR("a b"), DNS_A);
	resolver_cancel(&queries[0]); /* under way */
	resolver_cancel(&queries[1]); /* about to be delivered */
	stand_run(&bench.stand);
	resolver_start(bench.resolver, &queries[1], STR("b.test"), DNS_MX); /* and used again */
	resolver_cancel(&queries[1]);
	assert_int_equal(dones, 0);
	bench_close(&bench);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mx_behind_a_cname),
		cmocka_unit_test(test_other_types),
		cmocka_unit_test(test_absence),
		cmocka_unit_test(test_referral),
		cmocka_unit_test(test_errors_and_strays),
		cmocka_unit_test(test_malformed),
		cmocka_unit_test(test_cut_and_bent),
		cmocka_unit_test(test_servers),
		cmocka_unit_test(test_reverse),
		cmocka_unit_test(test_name_that_is_none),
		cmocka_unit_test(test_nobody_there),
		cmocka_unit_test(test_cancel),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
