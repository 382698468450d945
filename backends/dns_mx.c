/* The dns-mx backend: is this domain's mail ours? By its MX records, and by their addresses. */
#include <arpa/inet.h>
#include <stdlib.h>

#include "engine/resolver.h"
#include "engine/worker.h"
#include "list.h"
#include "model/domain.h"
#include "model/query.h"
#include "model/table.h"
#include "mx_cache.h"

enum { MATCH_ANY, MATCH_BEST, MATCH_ALL };

enum {
	PARALLEL = 8,    /* questions for addresses, of one domain */
	MAX_HOSTS = 100, /* whose addresses are asked for, of one domain */
	IPV6_LEN = 16,
};

struct mx_conf {
	struct setting_list ours;
	const char *servers;
	int match;
	bool implicit;
	int64_t cache_entries, max_ttl;
};

/* What check() has prepared for all workers. */
struct mx_shared {
	struct arena mem;
	struct str *names;     /* as DNS has them */
	struct str *addresses; /* 4 or 16 bytes */
	size_t nnames, naddresses;
	enum dns_type types[2]; /* what is asked of a host; its CNAMEs come with either */
	size_t ntypes;
};

struct mx_state {
	struct resolver *resolver, *own; /* own: of the option `servers` */
	struct mx_cache *cache;
};

/* A host that takes the domain's mail. */
struct host {
	struct str name;
	unsigned preference;
	unsigned left; /* answers that are still to come */
	bool ours, failed;
};

/* A question about a host's addresses; one of PARALLEL of a search. */
struct probe {
	struct dns_query dns;
	struct search *search;
	struct host *host;
};

/* One lookup; lives in the asker's arena. */
struct search {
	struct dns_query mx;
	struct query *query;
	struct str domain;
	struct host *hosts; /* the most preferred first */
	size_t nhosts;
	size_t next, nquestions; /* for addresses: ntypes of each host */
	unsigned running;
	unsigned ttl;    /* the shortest of all answers so far */
	const char *why; /* the first failure; NULL: none */
	struct probe probes[PARALLEL];
};

/* ---- settings ---- */

static const char *const match_choices[] = {"any", "best", "all", NULL};

#define AT(member) .offset = offsetof(struct mx_conf, member)

static const struct setting settings[] = {
	{.name = "param",
		.kind = SET_LIST,
		AT(ours),
		.help = "our MX hosts: names, IPv4 and IPv6 addresses"},
	{.name = "match",
		.kind = SET_CHOICE,
		AT(match),
		.fallback = "any",
		.choices = match_choices,
		.help = "which of a domain's MX hosts must be ours: any, one of the best "
			"preference, all"},
	{.name = "implicit",
		.kind = SET_BOOL,
		AT(implicit),
		.fallback = "no",
		.help = "a domain without MX is its own MX host"},
	{.name = "servers",
		.kind = SET_STR,
		AT(servers),
		.fallback = "",
		.help = "addresses of DNS servers to ask, with :PORT if need be; the system's if "
			"none"},
	{.name = "cache_entries",
		.kind = SET_INT,
		AT(cache_entries),
		.fallback = "10000",
		.max = 10000000,
		.help = "domains that each worker remembers; 0: none"},
	{.name = "max_ttl",
		.kind = SET_MSEC,
		AT(max_ttl),
		.fallback = "1h",
		.min = 1000,
		.max = 604800000, /* a week */
		.help = "the longest time an answer is kept, whatever its TTL"},
	{.name = NULL},
};

/* ---- checking ---- */

static bool read_address(const char *text, struct arena *mem, struct str *address)
{
	char bytes[IPV6_LEN];
	size_t len = 4;
	if (inet_pton(AF_INET, text, bytes) != 1) {
		len = sizeof(bytes);
		if (inet_pton(AF_INET6, text, bytes) != 1)
			return false;
	}
	*address = arena_str(mem, (struct str){bytes, len});
	return true;
}

/* 192.0.2.300 is a valid name of DNS, but nobody means it. */
static bool ends_in_number(struct str name)
{
	size_t digits = 0;
	while (digits < name.len && name.ptr[name.len - 1 - digits] >= '0' &&
		name.ptr[name.len - 1 - digits] <= '9')
		digits++;
	return digits > 0 && (digits == name.len || name.ptr[name.len - 1 - digits] == '.');
}

static bool read_ours(
	const struct setting_list *words, struct mx_shared *shared, struct error *error)
{
	shared->names = arena_alloc(&shared->mem, (words->n + 1) * sizeof(*shared->names));
	shared->addresses = arena_alloc(&shared->mem, (words->n + 1) * sizeof(*shared->addresses));
	for (size_t i = 0; i < words->n; i++) {
		struct str word = arena_str(&shared->mem, words->items[i]);
		struct str *name = &shared->names[shared->nnames];
		if (read_address(word.ptr, &shared->mem, &shared->addresses[shared->naddresses])) {
			shared->naddresses++;
			continue;
		}
		if (!domain_ascii(word, &shared->mem, name) || ends_in_number(*name))
			return error_set(error,
				"param: \"%s\" is neither a host name nor an address", word.ptr);
		shared->nnames++;
	}
	if (words->n == 0)
		return error_set(
			error, "param: our MX hosts are needed: names, IPv4 and IPv6 addresses");
	return true;
}

static void choose_types(struct mx_shared *shared)
{
	bool v4 = false, v6 = false;
	for (size_t i = 0; i < shared->naddresses; i++)
		*(shared->addresses[i].len == IPV6_LEN ? &v6 : &v4) = true;
	if (v4 || !v6)
		shared->types[shared->ntypes++] = DNS_A;
	if (v6)
		shared->types[shared->ntypes++] = DNS_AAAA;
}

static void drop(struct table_conf *table)
{
	struct mx_shared *shared = table->shared;
	if (shared)
		arena_clear(&shared->mem);
	free(shared);
	table->shared = NULL;
}

static bool check(struct table_conf *table, struct error *error)
{
	const struct mx_conf *conf = table->conf;
	struct mx_shared *shared = memory_new(sizeof(*shared));
	table->shared = shared;
	if (!read_ours(&conf->ours, shared, error)) {
		drop(table);
		return false;
	}
	if (!resolver_check(conf->servers, error)) {
		drop(table);
		return error_prefix(error, "servers");
	}
	choose_types(shared);
	return true;
}

static bool open_table(struct table *table, struct error *error)
{
	const struct mx_conf *conf = table->conf->conf;
	struct mx_state *state = memory_new(sizeof(*state));
	if (conf->servers[0]) {
		state->own =
			resolver_new(worker_base(table->worker), table->turn, conf->servers, error);
		if (!state->own) {
			free(state);
			return false;
		}
	}
	state->resolver = state->own ? state->own : worker_resolver(table->worker);
	state->cache = mx_cache_new((size_t)conf->cache_entries);
	table->state = state;
	return true;
}

static void close_table(struct table *table)
{
	struct mx_state *state = table->state;
	if (state->own)
		resolver_free(state->own);
	mx_cache_free(state->cache);
	free(state);
}

/* ---- the end of a search ---- */

static const struct mx_conf *conf_of(const struct search *search)
{
	return search->query->table->conf->conf;
}

static const struct mx_shared *shared_of(const struct search *search)
{
	return search->query->table->conf->shared;
}

static void let_go(struct search *search)
{
	resolver_cancel(&search->mx);
	for (size_t i = 0; i < PARALLEL; i++)
		resolver_cancel(&search->probes[i].dns);
}

static void answer(struct query *query, struct str domain, bool ours, unsigned ttl)
{
	struct pair *row = arena_alloc(query->mem, sizeof(*row));
	row->value = domain;
	query_finish(query, &(struct answer){.status = ours ? ST_OK : ST_NOTFOUND,
				    .nrows = ours,
				    .rows = row,
				    .ttl = ttl});
}

static void finish(struct search *search, bool ours)
{
	struct query *query = search->query;
	const struct table *table = query->table;
	unsigned max = (unsigned)(conf_of(search)->max_ttl / 1000), ttl = search->ttl;
	if (ttl > max)
		ttl = max;
	let_go(search);
	mx_cache_put(((struct mx_state *)table->state)->cache, search->domain, ours, ttl,
		table->turn->now_ms);
	answer(query, search->domain, ours, ttl > 0 ? ttl : 1); /* an answer's 0 is "unknown" */
}

static void finish_failed(struct search *search)
{
	let_go(search);
	query_temp(search->query, "DNS: %s", search->why);
}

static void lower_ttl(struct search *search, const struct dns_query *dns)
{
	if (dns->ttl < search->ttl)
		search->ttl = dns->ttl;
}

/* ---- hosts ---- */

static bool is_our_name(const struct mx_shared *shared, struct str name)
{
	for (size_t i = 0; i < shared->nnames; i++)
		if (str_eq(shared->names[i], name))
			return true;
	return false;
}

static bool is_our_address(const struct mx_shared *shared, struct str address)
{
	for (size_t i = 0; i < shared->naddresses; i++)
		if (str_eq(shared->addresses[i], address))
			return true;
	return false;
}

/* Does what DNS says of a host make it ours? */
static bool leads_to_us(const struct mx_shared *shared, const struct dns_query *dns)
{
	for (size_t i = 0; i < dns->naliases; i++)
		if (is_our_name(shared, dns->aliases[i]))
			return true;
	for (size_t i = 0; dns->result == DNS_OK && i < dns->n; i++)
		if (is_our_address(shared, dns->records[i].data))
			return true;
	return false;
}

/* Can the search end, before all is known? Says so and ends it. */
static bool decide(struct search *search)
{
	bool all = conf_of(search)->match == MATCH_ALL, every = true;
	for (size_t i = 0; i < search->nhosts; i++) {
		const struct host *host = &search->hosts[i];
		every &= host->ours;
		if (host->ours && !all) {
			finish(search, true);
			return true;
		}
		if (all && !host->ours && !host->failed && host->left == 0) {
			finish(search, false);
			return true;
		}
	}
	if (all && every) {
		finish(search, true);
		return true;
	}
	return false;
}

static void on_addresses(struct dns_query *dns);

/* Puts further questions while there are free probes; with none left to answer, the search ends. */
static void probe_hosts(struct search *search)
{
	const struct mx_shared *shared = shared_of(search);
	struct mx_state *state = search->query->table->state;
	for (size_t i = 0; i < PARALLEL; i++) {
		struct probe *probe = &search->probes[i];
		while (!probe->dns.resolver && search->next < search->nquestions) {
			size_t at = search->next++;
			probe->host = &search->hosts[at / shared->ntypes];
			if (probe->host->ours)
				continue;
			search->running++;
			resolver_start(state->resolver, &probe->dns, probe->host->name,
				shared->types[at % shared->ntypes]);
		}
	}
	if (search->running > 0)
		return;
	if (search->why)
		finish_failed(search);
	else
		finish(search, false);
}

static void on_addresses(struct dns_query *dns)
{
	struct probe *probe = (struct probe *)(void *)((char *)dns - offsetof(struct probe, dns));
	struct search *search = probe->search;
	struct host *host = probe->host;
	search->running--;
	host->left--;
	if (dns->result == DNS_FAILED) {
		host->failed = true;
		if (!search->why)
			search->why = arena_printf(search->query->mem,
				"addresses of the MX host %.*s: %.*s", (int)host->name.len,
				host->name.ptr, (int)dns->why.len, dns->why.ptr)
					      .ptr;
	} else {
		lower_ttl(search, dns);
		bool ours = leads_to_us(shared_of(search), dns);
		host->ours |= ours;
		query_note(search->query, "host", "%.*s: %s", (int)host->name.len, host->name.ptr,
			ours ? "an address is ours" : "none of these addresses is ours");
	}
	if (!decide(search))
		probe_hosts(search);
}

/* All MX hosts are known, and ours by name are marked. */
static void start_probes(struct search *search)
{
	size_t n = search->nhosts;
	if (decide(search))
		return;
	if (n > MAX_HOSTS) {
		search->why = arena_printf(search->query->mem, "over %d MX hosts", MAX_HOSTS).ptr;
		n = MAX_HOSTS;
	}
	search->nquestions = n * shared_of(search)->ntypes;
	for (size_t i = 0; i < PARALLEL; i++) {
		struct probe *probe = &search->probes[i];
		probe->search = search;
		probe->dns.mem = search->query->mem;
		probe->dns.done = on_addresses;
		probe->dns.asker = search->query;
	}
	probe_hosts(search);
}

/* ---- MX ---- */

static int by_preference(const void *a, const void *b)
{
	const struct host *left = a, *right = b;
	if (left->preference != right->preference)
		return left->preference < right->preference ? -1 : 1;
	return str_cmp(left->name, right->name);
}

static void add_host(struct search *search, struct str name, unsigned preference)
{
	const struct mx_shared *shared = shared_of(search);
	bool ours = is_our_name(shared, name);
	search->hosts[search->nhosts++] = (struct host){
		.name = name,
		.preference = preference,
		.left = (unsigned)shared->ntypes,
		.ours = ours,
	};
	query_note(search->query, "host", "%.*s, preference %u, %s", (int)name.len, name.ptr,
		preference, ours ? "ours by name" : "not ours by name");
}

/* The root is no host: alone it says that the domain takes no mail (RFC 7505), and beside others it
 * is nothing. */
static void take_hosts(struct search *search)
{
	const struct dns_query *mx = &search->mx;
	search->hosts = arena_alloc(search->query->mem, (mx->n + 1) * sizeof(*search->hosts));
	for (size_t i = 0; i < mx->n; i++)
		if (mx->records[i].data.len > 0)
			add_host(search, mx->records[i].data, mx->records[i].preference);
	if (search->nhosts == 0)
		return;
	qsort(search->hosts, search->nhosts, sizeof(*search->hosts), by_preference);
	if (conf_of(search)->match != MATCH_BEST)
		return;
	size_t best = 1;
	while (best < search->nhosts &&
		search->hosts[best].preference == search->hosts[0].preference)
		best++;
	search->nhosts = best;
}

static void on_mx(struct dns_query *dns)
{
	struct search *search =
		(struct search *)(void *)((char *)dns - offsetof(struct search, mx));
	if (dns->result == DNS_FAILED) {
		search->why = arena_printf(search->query->mem, "MX of the domain: %.*s",
			(int)dns->why.len, dns->why.ptr)
				      .ptr;
		finish_failed(search);
		return;
	}
	lower_ttl(search, dns);
	if (dns->result == DNS_OK) {
		take_hosts(search);
	} else if (conf_of(search)->implicit && !dns->nxdomain) {
		search->hosts = arena_alloc(search->query->mem, sizeof(*search->hosts));
		add_host(search, search->domain, 0);
	}
	if (search->nhosts == 0)
		finish(search, false);
	else
		start_probes(search);
}

/* ---- lookup ---- */

/* What follows the last '@', or all of it. */
static struct str domain_part(struct str key)
{
	const char *at = key.len > 0 ? memrchr(key.ptr, '@', key.len) : NULL;
	return at ? str_skip(key, (size_t)(at + 1 - key.ptr)) : key;
}

/* What is no domain name, and what is kept, asks nobody. Else *domain is what to ask for. */
static bool answer_now(const struct table *table, struct query *query, struct str *domain)
{
	struct mx_state *state = table->state;
	bool ours;
	unsigned ttl;
	if (!domain_ascii(domain_part(query->ask->key), query->mem, domain)) {
		query_notfound(query);
		return true;
	}
	if (!mx_cache_find(state->cache, *domain, table->turn->now_ms, &ours, &ttl))
		return false;
	query_note(query, "known", "for %u s more", ttl);
	answer(query, *domain, ours, ttl);
	return true;
}

static bool recall(struct table *table, struct query *query)
{
	struct str domain;
	return query->ask->op == OP_LOOKUP && answer_now(table, query, &domain);
}

static void start(struct query *query)
{
	struct mx_state *state = query->table->state;
	struct str domain;
	if (answer_now(query->table, query, &domain))
		return;
	struct search *search = arena_alloc(query->mem, sizeof(*search));
	search->query = query;
	search->domain = domain;
	search->ttl = UINT32_MAX;
	search->mx.mem = query->mem;
	search->mx.done = on_mx;
	search->mx.asker = query;
	query->work = search;
	resolver_start(state->resolver, &search->mx, domain, DNS_MX);
}

static void cancel(struct query *query)
{
	let_go(query->work);
}

const struct backend backend_dns_mx = {
	.name = "dns-mx",
	.help = "asks DNS whether a domain's mail is ours",
	.ops = CAN(OP_LOOKUP),
	.settings = settings,
	.conf_size = sizeof(struct mx_conf),
	.check = check,
	.drop = drop,
	.open = open_table,
	.close = close_table,
	.start = start,
	.cancel = cancel,
	.recall = recall,
};
