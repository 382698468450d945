/* Engine: DNS questions by c-ares on a worker's loop. Caches nothing. */
#include "engine/resolver.h"

#include <ares.h>
#include <arpa/inet.h>
#include <assert.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>

#include "base/log.h"
#include "engine/resolver_reply.h"
#include "model/domain.h"
#include "text/address.h"

enum {
	TRY_MS = 1000, /* for the first try of each server; doubled for each further one */
	TRIES = 3,
	TICK_MS = 100,    /* between looks at what is late, while anything is under way */
	UDP_SIZE = 1232,  /* passes everywhere without fragments; what is longer comes by TCP */
	MAX_BUSY = 16384, /* of 65536 identifiers, so that a free one is soon found */
	MAX_SERVERS = 16,
	DNS_PORT = 53,
};

/* A socket of c-ares that the loop watches. */
struct sock {
	struct resolver *resolver;
	int fd;
	struct event event;
	SLIST_ENTRY(sock) link;
};

/* A question that c-ares carries. It cannot be taken back (c-ares 1.18 has no cancel for one query):
 * when its asker has left, the answer is thrown away. */
struct dns_token {
	struct resolver *resolver;
	struct dns_query *asker; /* NULL: gone */
	enum dns_type type;
};

struct resolver {
	struct event_base *base;
	struct turn *turn;
	ares_channel channel; /* NULL: c-ares does not work here; all questions fail */
	struct event tick;
	bool ticking;
	unsigned nbusy; /* tokens */
	SLIST_HEAD(, sock) socks;
};

/* ---- servers ---- */

static bool read_address(const char *host, struct ares_addr_port_node *server)
{
	server->family = AF_INET;
	if (inet_pton(AF_INET, host, &server->addr.addr4) == 1)
		return true;
	server->family = AF_INET6;
	return inet_pton(AF_INET6, host, &server->addr.addr6) == 1;
}

static bool read_server(
	struct str word, struct ares_addr_port_node *server, struct arena *mem, struct error *error)
{
	const char *text = arena_str(mem, word).ptr;
	struct address address;
	if (read_address(text, server)) {
		server->udp_port = server->tcp_port = DNS_PORT;
		return true;
	}
	if (!address_parse(text, mem, &address, error) || address.kind != ADDRESS_INET ||
		!read_address(address.host, server))
		return error_set(error,
			"\"%s\" is no server; allowed: an IPv4 or IPv6 address, with a port as in "
			"192.0.2.53:5353 or [2001:db8::53]:5353",
			text);
	server->udp_port = server->tcp_port = atoi(address.port);
	return true;
}

/* The list of servers in c-ares's form; empty are the system's. */
static bool read_servers(const char *text, struct arena *mem, struct ares_addr_port_node **servers,
	struct error *error)
{
	struct str words = arena_str(mem, str_of(text)), word;
	size_t n = 0;
	for (char *p = (char *)words.ptr; *p; p++)
		if (*p == ',')
			*p = ' ';
	struct ares_addr_port_node **tail = servers;
	*servers = NULL;
	while (str_word(&words, &word)) {
		if (n++ == MAX_SERVERS)
			return error_set(error, "more than %d servers", MAX_SERVERS);
		*tail = arena_alloc(mem, sizeof(**tail));
		if (!read_server(word, *tail, mem, error))
			return false;
		tail = &(*tail)->next;
	}
	return true;
}

bool resolver_check(const char *servers, struct error *error)
{
	struct arena mem = {0};
	struct ares_addr_port_node *list;
	bool good = read_servers(servers, &mem, &list, error);
	arena_clear(&mem);
	return good;
}

/* ---- the loop ---- */

static void on_event(evutil_socket_t fd, short what, void *arg)
{
	struct resolver *resolver = ((struct sock *)arg)->resolver; /* the sock may go meanwhile */
	turn_enter(resolver->turn);
	ares_process_fd(resolver->channel, what & EV_READ ? fd : ARES_SOCKET_BAD,
		what & EV_WRITE ? fd : ARES_SOCKET_BAD);
	turn_leave(resolver->turn);
}

static void sock_free(struct sock *sock)
{
	SLIST_REMOVE(&sock->resolver->socks, sock, sock, link);
	event_del(&sock->event);
	free(sock);
}

/* C-ares tells what it waits for; nothing, before it closes a socket. */
static void on_interest(void *arg, ares_socket_t fd, int readable, int writable)
{
	struct resolver *resolver = arg;
	short what = (short)((readable ? EV_READ : 0) | (writable ? EV_WRITE : 0) | EV_PERSIST);
	struct sock *sock;
	SLIST_FOREACH (sock, &resolver->socks, link)
		if (sock->fd == fd)
			break;
	if (!readable && !writable) {
		if (sock)
			sock_free(sock);
		return;
	}
	if (sock) {
		event_del(&sock->event);
	} else {
		sock = memory_new(sizeof(*sock));
		sock->resolver = resolver;
		sock->fd = fd;
		SLIST_INSERT_HEAD(&resolver->socks, sock, link);
	}
	event_assign(&sock->event, resolver->base, fd, what, on_event, sock);
	event_add(&sock->event, NULL);
}

static void start_tick(struct resolver *resolver)
{
	struct timeval in = {0, (suseconds_t)TICK_MS * 1000};
	resolver->ticking = resolver->nbusy > 0;
	if (resolver->ticking)
		evtimer_add(&resolver->tick, &in);
}

/* Asking c-ares for the next deadline costs a walk over all questions; a tick does not. */
static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct resolver *resolver = arg;
	(void)fd;
	(void)what;
	turn_enter(resolver->turn);
	ares_process_fd(resolver->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	start_tick(resolver);
	turn_leave(resolver->turn);
}

static void init_ares(void)
{
	if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS)
		abort();
}

static void open_channel(struct resolver *resolver, struct ares_addr_port_node *servers)
{
	struct ares_options options = {
		.flags = ARES_FLAG_EDNS,
		.ednspsz = UDP_SIZE,
		.timeout = TRY_MS,
		.tries = TRIES,
		.sock_state_cb = on_interest,
		.sock_state_cb_data = resolver,
	};
	int mask = ARES_OPT_FLAGS | ARES_OPT_EDNSPSZ | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES |
		   ARES_OPT_SOCK_STATE_CB;
	int rc = ares_init_options(&resolver->channel, &options, mask);
	if (rc == ARES_SUCCESS && servers)
		rc = ares_set_servers_ports(resolver->channel, servers);
	if (rc == ARES_SUCCESS)
		return;
	log_error("DNS: c-ares does not start: %s", ares_strerror(rc));
	if (resolver->channel)
		ares_destroy(resolver->channel);
	resolver->channel = NULL;
}

struct resolver *resolver_new(
	struct event_base *base, struct turn *turn, const char *servers, struct error *error)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct arena mem = {0};
	struct ares_addr_port_node *list;
	struct resolver *resolver = NULL;
	pthread_once(&once, init_ares);
	if (read_servers(servers, &mem, &list, error)) {
		resolver = memory_new(sizeof(*resolver));
		resolver->base = base;
		resolver->turn = turn;
		SLIST_INIT(&resolver->socks);
		evtimer_assign(&resolver->tick, base, on_tick, resolver);
		open_channel(resolver, list);
	}
	arena_clear(&mem);
	return resolver;
}

void resolver_free(struct resolver *resolver)
{
	if (resolver->channel)
		ares_destroy(resolver->channel); /* frees the tokens, closes the sockets */
	assert(resolver->nbusy == 0 && SLIST_EMPTY(&resolver->socks));
	evtimer_del(&resolver->tick);
	free(resolver);
}

/* ---- questions ---- */

static void deliver(struct job *job)
{
	struct dns_query *query =
		(struct dns_query *)(void *)((char *)job - offsetof(struct dns_query, delivery));
	query->resolver = NULL;
	query->done(query);
}

const char *dns_type_name(enum dns_type type)
{
	static const char *const names[] = {[DNS_A] = "A",
		[DNS_AAAA] = "AAAA",
		[DNS_MX] = "MX",
		[DNS_TXT] = "TXT",
		[DNS_PTR] = "PTR",
		[DNS_TLSA] = "TLSA"};
	return names[type];
}

static void tell_reply(const struct dns_query *query)
{
	if (query->result == DNS_FAILED)
		query_note(query->asker, "no reply", "%.*s", (int)query->why.len, query->why.ptr);
	else if (query->result == DNS_NONE)
		query_note(query->asker, "reply", "%s, for %u s",
			query->nxdomain ? "no such name" : "none of this type", query->ttl);
	else
		query_note(query->asker, "reply", "%zu, for %u s", query->n, query->ttl);
}

static void finish(struct dns_query *query)
{
	if (query->asker)
		tell_reply(query);
	query->token = NULL;
	turn_add_job(query->resolver->turn, &query->delivery, deliver);
}

static void fail(struct dns_query *query, const char *why)
{
	query->result = DNS_FAILED;
	query->why = str_of(why);
	finish(query);
}

static const char *explain(int status)
{
	switch (status) {
	case ARES_ETIMEOUT:
		return "no answer from the servers";
	case ARES_ECONNREFUSED: /* also what c-ares says when all have answered with an error */
		return "the servers are out of reach, refuse, or answer SERVFAIL";
	default:
		return ares_strerror(status);
	}
}

/* Of c-ares, perhaps from inside ares_query(). */
static void on_reply(void *arg, int status, int timeouts, unsigned char *message, int len)
{
	struct dns_token *token = arg;
	struct dns_query *query = token->asker;
	enum dns_type type = token->type;
	(void)timeouts;
	token->resolver->nbusy--;
	free(token);
	if (!query)
		return;
	bool told = status == ARES_SUCCESS || status == ARES_ENODATA || status == ARES_ENOTFOUND;
	if (!told || !message) {
		fail(query, explain(status));
		return;
	}
	reply_read(query, type, message, (size_t)len);
	finish(query);
}

void resolver_start(
	struct resolver *resolver, struct dns_query *query, struct str name, enum dns_type type)
{
	struct str ascii;
	assert(!query->resolver && query->mem);
	*query = (struct dns_query){.mem = query->mem,
		.done = query->done,
		.asker = query->asker,
		.resolver = resolver};
	if (query->asker)
		query_note(query->asker, "request", "%s of %.*s", dns_type_name(type),
			(int)name.len, name.ptr);
	if (!domain_ascii(name, query->mem, &ascii)) {
		query->result = DNS_NONE;
		finish(query);
		return;
	}
	if (!resolver->channel || resolver->nbusy == MAX_BUSY) {
		fail(query, resolver->channel ? "too many DNS questions are under way"
					      : "c-ares does not work");
		return;
	}
	struct dns_token *token = memory_new(sizeof(*token));
	*token = (struct dns_token){.resolver = resolver, .asker = query, .type = type};
	query->token = token;
	resolver->nbusy++;
	ares_query(resolver->channel, ascii.ptr, 1, reply_type(type), on_reply, token);
	if (!resolver->ticking)
		start_tick(resolver);
}

void resolver_cancel(struct dns_query *query)
{
	if (!query->resolver)
		return;
	if (query->token)
		query->token->asker = NULL;
	turn_drop_job(&query->delivery);
	query->token = NULL;
	query->resolver = NULL;
}

bool resolver_reverse(struct str address, struct arena *mem, struct str *name)
{
	unsigned char bytes[16];
	char text[80], *p = text;
	const char *plain = arena_str(mem, address).ptr;
	if (inet_pton(AF_INET, plain, bytes) == 1) {
		*name = arena_printf(
			mem, "%u.%u.%u.%u.in-addr.arpa", bytes[3], bytes[2], bytes[1], bytes[0]);
		return true;
	}
	if (inet_pton(AF_INET6, plain, bytes) != 1)
		return false;
	for (size_t i = sizeof(bytes); i-- > 0;) {
		*p++ = "0123456789abcdef"[bytes[i] & 15];
		*p++ = '.';
		*p++ = "0123456789abcdef"[bytes[i] >> 4];
		*p++ = '.';
	}
	*name = arena_printf(mem, "%.*sip6.arpa", (int)(p - text), text);
	return true;
}
