/* Tables over HTTP: templates for GET, POST and DELETE; status and JSON to answers. */
#include <inttypes.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

#include "http.h"
#include "json.h"
#include "list.h"
#include "query.h"
#include "table.h"
#include "template.h"
#include "worker.h"

enum {
	MAX_UPSTREAMS = 32,   /* bits of ask.tried */
	MAX_URL = 256 * 1024, /* bytes */
	DOWN_MS = 5000,       /* an upstream that failed is asked last for so long */
	PARALLEL = 8,         /* lookups of one iteration under way */
	MAX_ROWS = 64 << 20,  /* bytes that the answers to these may have together */
	WARN_MS = 60000,
};

enum { METHOD_GET, METHOD_POST };
enum { BODY_FORM, BODY_JSON };
enum { BALANCE_FIRST, BALANCE_ROUND_ROBIN };

/* What an HTTP status means to a reader. */
enum verdict { VERDICT_OK, VERDICT_NOTFOUND, VERDICT_TEMP, VERDICT_PERM };

enum { STATUS_MAX = 600 };

struct url_conf {
	const char *param;
	struct setting_map status, headers;
	const char *auth_token, *auth_header, *basic_auth, *user_agent;
	const char *ca_file, *client_cert, *client_key, *unix_socket, *proxy, *priv_suffix;
	int64_t connect_timeout, max_connections, max_body;
	bool tls_verify, http2, follow_redirects;
	int method, body, balance;
};

/* What check() has prepared for all workers. */
struct url_shared {
	struct arena mem;
	struct template *upstreams[MAX_UPSTREAMS];
	unsigned nupstreams;
	struct template *suffix; /* of private keys */
	struct http_options http;
	unsigned char verdicts[STATUS_MAX];
	struct log_limit refused; /* 401 and 403 taken as not found */
	struct log_limit bad_keys;
	struct log_limit advice; /* on the option `value` */
};

/* A table in a worker. */
struct url_state {
	struct http_pool *pool;
	uint64_t down_until[MAX_UPSTREAMS]; /* ms on the turn's clock */
	unsigned next;                      /* upstream, when they take turns */
	struct buf url;                     /* to fill templates in */
};

/* One request of a query, and its way through the upstreams. */
struct ask {
	struct http_fetch fetch;
	struct query *query;
	void (*answered)(struct ask *); /* fetch holds a result, after the last upstream tried */
	struct ask *next;               /* of the same query */
	struct str key;
	enum scope scope;
	bool is_prefix;
	unsigned upstream, tried; /* tried: a bit for each */
	size_t row;               /* of an iteration */
};

struct iteration {
	struct ask list; /* for the names; first, so that query->work points to it */
	struct pair *rows;
	bool *found;
	size_t nrows, next, nfound, bytes;
	unsigned running;
	struct ask *lookups; /* PARALLEL of them */
};

struct transaction {
	struct ask ask;
	size_t at; /* the change under way */
};

/* ---- settings ---- */

static const char *const method_choices[] = {"GET", "POST", NULL};
static const char *const body_choices[] = {"form", "json", NULL};
static const char *const balance_choices[] = {"first", "round-robin", NULL};

#define AT(member) .offset = offsetof(struct url_conf, member)

static const struct setting settings[] = {
	{.name = "param",
		.kind = SET_STR,
		AT(param),
		.help = "URL template, or several (upstreams) separated by white space; {} is the "
			"key, also {key} {user} {table} {scope} {localpart} {domain}"},
	{.name = "status",
		.kind = SET_MAP,
		AT(status),
		.fallback = "",
		.help = "what an HTTP status means: 401, 4xx or default = ok, notfound, temp, "
			"perm"},
	{.name = "headers",
		.kind = SET_MAP,
		AT(headers),
		.fallback = "",
		.help = "request headers: NAME = value"},
	{.name = "auth_token",
		.kind = SET_SECRET,
		AT(auth_token),
		.fallback = "",
		.help = "sent behind auth_header"},
	{.name = "auth_header",
		.kind = SET_STR,
		AT(auth_header),
		.fallback = "Authorization: Bearer",
		.help = "header for auth_token, with what stands before the token"},
	{.name = "basic_auth",
		.kind = SET_SECRET,
		AT(basic_auth),
		.fallback = "",
		.help = "user:password"},
	{.name = "user_agent",
		.kind = SET_STR,
		AT(user_agent),
		.fallback = "mapmux/" MAPMUX_VERSION,
		.help = "the User-Agent header"},
	{.name = "connect_timeout",
		.kind = SET_MSEC,
		AT(connect_timeout),
		.fallback = "2s",
		.min = 1,
		.max = 600000,
		.help = "for name, connection and TLS; then the next upstream is tried"},
	{.name = "ca_file",
		.kind = SET_STR,
		AT(ca_file),
		.fallback = "",
		.help = "PEM file of the authorities to trust instead of the system's"},
	{.name = "client_cert",
		.kind = SET_STR,
		AT(client_cert),
		.fallback = "",
		.help = "PEM file of our certificate"},
	{.name = "client_key",
		.kind = SET_STR,
		AT(client_key),
		.fallback = "",
		.help = "PEM file of its key, unless client_cert holds it"},
	{.name = "tls_verify",
		.kind = SET_BOOL,
		AT(tls_verify),
		.fallback = "yes",
		.help = "whether the server's certificate is verified"},
	{.name = "http2",
		.kind = SET_BOOL,
		AT(http2),
		.fallback = "no",
		.help = "HTTP/2: negotiated with https, presumed with http"},
	{.name = "unix_socket",
		.kind = SET_STR,
		AT(unix_socket),
		.fallback = "",
		.help = "connect to this path; the URL's host is only a name then"},
	{.name = "proxy",
		.kind = SET_STR,
		AT(proxy),
		.fallback = "",
		.help = "URL of a proxy; none is taken from the environment"},
	{.name = "max_connections",
		.kind = SET_INT,
		AT(max_connections),
		.fallback = "100",
		.min = 1,
		.max = 65535,
		.help = "to the upstreams, in each worker; what is more waits"},
	{.name = "max_body",
		.kind = SET_BYTES,
		AT(max_body),
		.fallback = "1m",
		.min = 1,
		.max = 1 << 30,
		.help = "the longest answer"},
	{.name = "follow_redirects",
		.kind = SET_BOOL,
		AT(follow_redirects),
		.fallback = "no",
		.help = "follow redirects to the same scheme, host and port"},
	{.name = "priv_suffix",
		.kind = SET_STR,
		AT(priv_suffix),
		.fallback = "/{user}",
		.help = "follows the key of a private dict key"},
	{.name = "method",
		.kind = SET_CHOICE,
		AT(method),
		.fallback = "GET",
		.choices = method_choices,
		.help = "POST: policy requests can be asked"},
	{.name = "body",
		.kind = SET_CHOICE,
		AT(body),
		.fallback = "form",
		.choices = body_choices,
		.help = "how policy attributes are posted"},
	{.name = "balance",
		.kind = SET_CHOICE,
		AT(balance),
		.fallback = "first",
		.choices = balance_choices,
		.help = "which upstream is asked: the first that works, or each in turn"},
	{.name = NULL},
};

/* ---- checking ---- */

static bool find_verdict(struct str name, unsigned char *verdict, struct error *error)
{
	static const char *const names[] = {"ok", "notfound", "temp", "perm"};
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if (str_eq(name, str_of(names[i]))) {
			*verdict = (unsigned char)i;
			return true;
		}
	}
	return error_set(error, "status: \"%.*s\"; allowed: ok, notfound, temp, perm",
		(int)name.len, name.ptr);
}

/* Which statuses a rule is about; exactness 0 is `default`, 1 a class, 2 a single one. */
static bool find_range(
	struct str key, unsigned *first, unsigned *last, unsigned *exact, struct error *error)
{
	uint64_t n;
	*first = 0;
	*last = STATUS_MAX - 1;
	*exact = 0;
	if (str_eq(key, STR("default")))
		return true;
	if (key.len == 3 && strncasecmp(key.ptr + 1, "xx", 2) == 0 && key.ptr[0] >= '1' &&
		key.ptr[0] <= '5') {
		*first = (unsigned)(key.ptr[0] - '0') * 100;
		*last = *first + 99;
		*exact = 1;
		return true;
	}
	if (key.len == 3 && str_u64(key, &n) && n >= 100 && n < STATUS_MAX) {
		*first = *last = (unsigned)n;
		*exact = 2;
		return true;
	}
	return error_set(error, "status: \"%.*s\"; allowed: a status (401), a class (4xx), default",
		(int)key.len, key.ptr);
}

/* The administrator's rules of one exactness. */
static bool apply_rules(const struct setting_map *rules, unsigned exactness,
	unsigned char *verdicts, struct error *error)
{
	for (size_t i = 0; i < rules->n; i++) {
		unsigned first, last, exact;
		unsigned char verdict = VERDICT_TEMP;
		if (!find_range(rules->pairs[i].name, &first, &last, &exact, error) ||
			!find_verdict(rules->pairs[i].value, &verdict, error))
			return false;
		if (exact == exactness)
			memset(verdicts + first, verdict, last - first + 1);
	}
	return true;
}

/* His and the built-in ones, the more exact over the less exact: `4xx: perm` leaves 404 alone. */
static bool make_verdicts(
	const struct setting_map *rules, unsigned char *verdicts, struct error *error)
{
	memset(verdicts, VERDICT_TEMP, STATUS_MAX);
	if (!apply_rules(rules, 0, verdicts, error))
		return false;
	memset(verdicts + 400, VERDICT_NOTFOUND, 100);
	memset(verdicts + 500, VERDICT_TEMP, 100);
	if (!apply_rules(rules, 1, verdicts, error))
		return false;
	verdicts[200] = VERDICT_OK;
	verdicts[404] = verdicts[410] = VERDICT_NOTFOUND;
	verdicts[408] = verdicts[425] = verdicts[429] = VERDICT_TEMP;
	return apply_rules(rules, 2, verdicts, error);
}

static bool is_header_name(struct str name)
{
	for (size_t i = 0; i < name.len; i++) {
		char c = name.ptr[i];
		bool letter =
			(c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
		if (!letter && !(c && strchr("!#$%&'*+-.^_`|~", c)))
			return false;
	}
	return name.len > 0;
}

static bool is_name(struct str name, const char *other)
{
	return name.len == strlen(other) && strncasecmp(name.ptr, other, name.len) == 0;
}

static bool is_one_line(struct str text)
{
	for (size_t i = 0; i < text.len; i++)
		if ((unsigned char)text.ptr[i] < 0x20 && text.ptr[i] != '\t')
			return false;
	return true;
}

struct headers {
	struct arena *mem;
	const char **lines;
	size_t n;
	bool accept, authorization;
};

static bool add_header(
	struct headers *headers, struct str name, struct str value, struct error *error)
{
	if (!is_header_name(name))
		return error_set(error, "\"%.*s\" is no name of a header", (int)name.len, name.ptr);
	if (is_name(name, "Content-Length") || is_name(name, "Transfer-Encoding"))
		return error_set(error, "%.*s is set by mapmux alone", (int)name.len, name.ptr);
	if (!is_one_line(value))
		return error_set(error, "the value of %.*s has a control character", (int)name.len,
			name.ptr);
	headers->accept |= is_name(name, "Accept");
	headers->authorization |= is_name(name, "Authorization");
	headers->lines[headers->n++] =
		value.len > 0 ? arena_printf(headers->mem, "%.*s: %.*s", (int)name.len, name.ptr,
					(int)value.len, value.ptr)
					.ptr
			      : arena_printf(headers->mem, "%.*s;", (int)name.len, name.ptr).ptr;
	return true;
}

/* auth_header is "Name", "Name:" or "Name: scheme"; the token follows. */
static bool add_token(struct headers *headers, const struct url_conf *conf, struct error *error)
{
	struct str scheme = str_of(conf->auth_header), name;
	str_cut(&scheme, ':', &name);
	scheme = str_trim(scheme);
	struct str value = arena_printf(headers->mem, "%.*s%s%s", (int)scheme.len, scheme.ptr,
		scheme.len > 0 ? " " : "", conf->auth_token);
	if (!is_one_line(value))
		return error_set(error, "auth_token has a control character");
	return add_header(headers, str_trim(name), value, error) ||
	       error_prefix(error, "auth_header");
}

static bool make_headers(
	const struct url_conf *conf, struct url_shared *shared, struct error *error)
{
	struct headers headers = {
		.mem = &shared->mem,
		.lines = arena_alloc(&shared->mem, (conf->headers.n + 3) * sizeof(char *)),
	};
	for (size_t i = 0; i < conf->headers.n; i++)
		if (!add_header(&headers, conf->headers.pairs[i].name, conf->headers.pairs[i].value,
			    error))
			return error_prefix(error, "headers");
	if (conf->auth_token[0] && conf->basic_auth[0])
		return error_set(error, "auth_token and basic_auth: only one of them");
	if (headers.authorization && (conf->auth_token[0] || conf->basic_auth[0]))
		return error_set(error, "headers: Authorization is set by another option already");
	if (conf->auth_token[0] && !add_token(&headers, conf, error))
		return false;
	if (conf->basic_auth[0] && !strchr(conf->basic_auth, ':'))
		return error_set(error, "basic_auth: it is written user:password");
	if (!headers.accept)
		headers.lines[headers.n++] = "Accept: application/json, */*;q=0.1";
	shared->http.headers = headers.lines;
	return true;
}

static const char *or_null(const char *text)
{
	return text[0] ? text : NULL;
}

static bool check_file(const char *option, const char *path, struct error *error)
{
	if (path[0] && access(path, R_OK) != 0)
		return error_set(error, "%s: cannot read %s", option, path);
	return true;
}

static bool make_http_options(
	const struct url_conf *conf, struct url_shared *shared, struct error *error)
{
	shared->http = (struct http_options){
		.user_agent = or_null(conf->user_agent),
		.basic_auth = or_null(conf->basic_auth),
		.ca_file = or_null(conf->ca_file),
		.client_cert = or_null(conf->client_cert),
		.client_key = or_null(conf->client_key),
		.unix_socket = or_null(conf->unix_socket),
		.proxy = or_null(conf->proxy),
		.skip_tls_verify = !conf->tls_verify,
		.http2 = conf->http2,
		.follow_redirects = conf->follow_redirects,
		.connect_timeout_ms = (long)conf->connect_timeout,
		.max_connections = (long)conf->max_connections,
		.max_body = (size_t)conf->max_body,
	};
	if (!is_one_line(str_of(conf->user_agent)))
		return error_set(error, "user_agent: it has a control character");
	return check_file("ca_file", conf->ca_file, error) &&
	       check_file("client_cert", conf->client_cert, error) &&
	       check_file("client_key", conf->client_key, error) &&
	       make_headers(conf, shared, error);
}

static bool compile_templates(
	const struct url_conf *conf, struct url_shared *shared, struct error *error)
{
	struct str rest = str_of(conf->param), word;
	while (str_word(&rest, &word)) {
		if (shared->nupstreams == MAX_UPSTREAMS)
			return error_set(error, "param: more than %d URLs", MAX_UPSTREAMS);
		const char *text = arena_str(&shared->mem, word).ptr;
		if (!template_compile(
			    text, &shared->mem, &shared->upstreams[shared->nupstreams++], error))
			return error_prefix(error, "param");
	}
	if (shared->nupstreams == 0)
		return error_set(error, "param: a URL template is needed");
	if (!template_compile_suffix(conf->priv_suffix, &shared->mem, &shared->suffix, error))
		return error_prefix(error, "priv_suffix");
	return true;
}

static void warn_of_http2(const struct table_conf *table)
{
	const struct url_conf *conf = table->conf;
	const struct url_shared *shared = table->shared;
	for (unsigned i = 0; conf->http2 && i < shared->nupstreams; i++)
		if (str_starts(str_of(template_origin(shared->upstreams[i])), STR("http://")) &&
			!http_can_keep_h2c())
			log_warn("table %s: http2: this libcurl cannot keep HTTP/2 connections "
				 "without TLS: each request to %s makes one",
				table->name, template_origin(shared->upstreams[i]));
}

static void drop(struct table_conf *table)
{
	struct url_shared *shared = table->shared;
	if (shared)
		arena_clear(&shared->mem);
	free(shared);
	table->shared = NULL;
}

static bool check(struct table_conf *table, struct error *error)
{
	const struct url_conf *conf = table->conf;
	struct url_shared *shared = memory_new(sizeof(*shared));
	table->shared = shared;
	if (conf->method != METHOD_POST)
		table->ops &= ~CAN(OP_POLICY);
	bool ok = json_pointer_valid(str_of(table->options.value)) ||
		  error_set(error, "value: a JSON pointer begins with '/', and ~ is written ~0");
	ok = ok && compile_templates(conf, shared, error) &&
	     make_verdicts(&conf->status, shared->verdicts, error) &&
	     make_http_options(conf, shared, error);
	if (ok)
		warn_of_http2(table);
	else
		drop(table);
	return ok;
}

static bool open_table(struct table *table, struct error *error)
{
	struct url_shared *shared = table->conf->shared;
	struct url_state *state = memory_new(sizeof(*state));
	(void)error;
	state->pool = http_pool_new(worker_http(table->worker), &shared->http);
	state->url.max = MAX_URL;
	table->state = state;
	return true;
}

static void close_table(struct table *table)
{
	struct url_state *state = table->state;
	http_pool_free(state->pool);
	buf_free(&state->url);
	free(state);
}

/* ---- upstreams ---- */

static struct url_shared *shared_of(const struct query *query)
{
	return query->table->conf->shared;
}

static const char *origin_of(const struct ask *ask)
{
	return template_origin(shared_of(ask->query)->upstreams[ask->upstream]);
}

/* The first that is not known to be down, else the one that was found so first. */
static unsigned pick_upstream(struct url_state *state, unsigned n, unsigned tried, uint64_t now)
{
	unsigned best = n;
	for (unsigned i = 0; i < n; i++) {
		unsigned at = (state->next + i) % n;
		if (tried & 1u << at)
			continue;
		if (state->down_until[at] <= now)
			return at;
		if (best == n || state->down_until[at] < state->down_until[best])
			best = at;
	}
	return best;
}

static void mark_down(const struct ask *ask, const char *why)
{
	struct table *table = ask->query->table;
	struct url_state *state = table->state;
	uint64_t *until = &state->down_until[ask->upstream], now = table->turn->now_ms;
	if (*until <= now && shared_of(ask->query)->nupstreams > 1)
		log_warn("table %s: upstream %s: %s", table->conf->name, origin_of(ask), why);
	*until = now + DOWN_MS;
}

/* ---- asking ---- */

static bool fill_url(const struct ask *ask, struct buf *url)
{
	const struct query *query = ask->query;
	const struct url_shared *shared = shared_of(query);
	bool priv = ask->scope == SCOPE_PRIV;
	const struct template_values values = {
		.key = ask->key,
		.user = query->ask->user,
		.table = str_of(query->table->conf->name),
		.scope = priv ? STR("priv") : STR("shared"),
		.suffix = priv ? shared->suffix : NULL,
		.is_prefix = ask->is_prefix,
	};
	buf_reset(url);
	if (priv && query->ask->user.len == 0)
		return false;
	if (template_fill(shared->upstreams[ask->upstream], &values, url) != TEMPLATE_OK)
		return false;
	buf_add_char(url, '\0');
	return !url->overflow;
}

static void on_fetched(struct http_fetch *fetch);

/* To the next upstream. False when the key cannot go out. */
static bool ask_next(struct ask *ask)
{
	struct table *table = ask->query->table;
	struct url_state *state = table->state;
	unsigned n = shared_of(ask->query)->nupstreams;
	ask->upstream = pick_upstream(state, n, ask->tried, table->turn->now_ms);
	ask->tried |= 1u << ask->upstream;
	if (!fill_url(ask, &state->url))
		return false;
	ask->fetch.url = state->url.ptr;
	http_start(state->pool, &ask->fetch);
	return true;
}

static bool ask_start(struct ask *ask)
{
	const struct url_conf *conf = ask->query->table->conf->conf;
	struct url_state *state = ask->query->table->state;
	if (conf->balance == BALANCE_ROUND_ROBIN)
		state->next++;
	ask->tried = 0;
	return ask_next(ask);
}

static void ask_init(struct ask *ask, struct query *query, void (*answered)(struct ask *))
{
	ask->fetch.mem = query->mem;
	ask->fetch.done = on_fetched;
	ask->fetch.method = "GET";
	ask->query = query;
	ask->answered = answered;
	ask->key = query->ask->key;
	ask->scope = query->ask->scope;
}

static void on_fetched(struct http_fetch *fetch)
{
	struct ask *ask = (struct ask *)(void *)((char *)fetch - offsetof(struct ask, fetch));
	struct url_state *state = ask->query->table->state;
	unsigned n = shared_of(ask->query)->nupstreams;
	if (fetch->result == HTTP_REPLY || fetch->result == HTTP_TOO_LARGE) {
		state->down_until[ask->upstream] = 0;
		ask->answered(ask);
		return;
	}
	mark_down(ask, fetch->why.ptr);
	bool again = fetch->result == HTTP_UNREACHABLE || !fetch->once;
	if (again && ask->tried != (unsigned)((UINT64_C(1) << n) - 1) && ask_next(ask))
		return;
	ask->answered(ask);
}

static void cancel(struct query *query)
{
	for (struct ask *ask = query->work; ask; ask = ask->next) {
		if (!ask->fetch.pool)
			continue;
		if (query->table->turn->now_ms >= query->deadline)
			mark_down(ask, "no answer in time");
		http_cancel(&ask->fetch);
	}
}

/* ---- replies ---- */

/* A rejected token makes all mail bounce, when that reads as not found. */
static void warn_refused(const struct ask *ask)
{
	unsigned held;
	if (log_allowed(&shared_of(ask->query)->refused, WARN_MS, &held))
		log_warn(
			"table %s: HTTP status %d of %s is taken as not found; is the token valid? "
			"The option status: {%d: temp} would keep the mail",
			ask->query->table->conf->name, ask->fetch.status, origin_of(ask),
			ask->fetch.status);
}

/* What the status says of the key. On ST_OK there is a body to read; otherwise *why. */
static enum status judge(const struct ask *ask, const char **why)
{
	const struct http_fetch *fetch = &ask->fetch;
	bool known = fetch->status >= 0 && fetch->status < STATUS_MAX;
	*why = NULL;
	if (fetch->result != HTTP_REPLY) {
		*why = arena_printf(fetch->mem, "%s: %s", origin_of(ask), fetch->why.ptr).ptr;
		return ST_TEMP;
	}
	unsigned verdict = known ? shared_of(ask->query)->verdicts[fetch->status] : VERDICT_TEMP;
	if (verdict == VERDICT_OK)
		return ST_OK;
	if (verdict == VERDICT_NOTFOUND) {
		if (fetch->status == 401 || fetch->status == 403)
			warn_refused(ask);
		return ST_NOTFOUND;
	}
	*why = arena_printf(fetch->mem, "%s: HTTP status %d", origin_of(ask), fetch->status).ptr;
	return verdict == VERDICT_PERM ? ST_PERM : ST_TEMP;
}

static struct json_rules rules_of(const struct query *query)
{
	const struct table_options *options = &query->table->conf->options;
	return (struct json_rules){
		.form = query->ask->form,
		.list_separator = str_of(options->list_separator),
		.pointer = options->value,
	};
}

/* What only the administrator can mend is told apart from the failures of the day. */
static void advise(const struct ask *ask, const char *why)
{
	unsigned held;
	if (log_allowed(&shared_of(ask->query)->advice, WARN_MS, &held))
		log_warn("table %s: %s: %s", ask->query->table->conf->name, origin_of(ask), why);
}

/* The value in the reply to a lookup. */
static enum status read_value(const struct ask *ask, struct str *value, const char **why)
{
	enum status status = judge(ask, why);
	if (status != ST_OK)
		return status;
	struct json_rules rules = rules_of(ask->query);
	status = json_value(ask->fetch.body, &rules, ask->fetch.mem, value, why);
	if (status == ST_TEMP && strstr(*why, "`value`"))
		advise(ask, *why);
	if (status == ST_TEMP)
		*why = arena_printf(ask->fetch.mem, "%s: %s", origin_of(ask), *why).ptr;
	return status;
}

static void finish(struct query *query, enum status status, struct str value, const char *why)
{
	if (status == ST_OK)
		query_ok(query, value);
	else if (status == ST_NOTFOUND)
		query_notfound(query);
	else
		query_finish(query, &(struct answer){.status = status, .why = str_of(why)});
}

/* A key that does not go out: a reader is told that there is no such key, a writer that it is wrong.
 * Without a user there is no private key to speak of. The key itself is shown at debug only. */
static void refuse(const struct ask *ask)
{
	struct query *query = ask->query;
	const struct table_conf *conf = query->table->conf;
	unsigned held;
	if (log_wants(LOG_LEVEL_DEBUG))
		log_event(LOG_LEVEL_DEBUG, "bad key",
			(struct pair[]){{STR("table"), str_of(conf->name)}, {STR("key"), ask->key}},
			2);
	else if (log_allowed(&shared_of(query)->bad_keys, WARN_MS, &held))
		log_info("table %s: a key that cannot stand in its URL was not asked for (%u lines "
			 "like this held back)",
			conf->name, held);
}

static void refuse_query(const struct ask *ask)
{
	refuse(ask);
	if (ask->scope == SCOPE_PRIV && ask->query->ask->user.len == 0)
		query_perm(ask->query, "a private key without a user");
	else if (ask->query->ask->op == OP_CHANGE)
		query_perm(ask->query, "a key that cannot stand in its URL");
	else
		query_notfound(ask->query);
}

/* ---- lookup ---- */

static void on_lookup(struct ask *ask)
{
	struct str value;
	const char *why;
	enum status status = read_value(ask, &value, &why);
	finish(ask->query, status, value, why);
}

static void start_lookup(struct query *query)
{
	struct ask *ask = arena_alloc(query->mem, sizeof(*ask));
	ask_init(ask, query, on_lookup);
	query->work = ask;
	if (!ask_start(ask))
		refuse_query(ask);
}

/* ---- iterate ---- */

static int by_name(const void *a, const void *b)
{
	return str_cmp(((const struct pair *)a)->name, ((const struct pair *)b)->name);
}

static int by_value(const void *a, const void *b)
{
	return str_cmp(((const struct pair *)a)->value, ((const struct pair *)b)->value);
}

static void finish_rows(struct query *query, struct pair *rows, size_t n)
{
	const struct question *question = query->ask;
	if (n > 1 && (question->flags & ITER_SORT_KEY))
		qsort(rows, n, sizeof(*rows), by_name);
	else if (n > 1 && (question->flags & ITER_SORT_VALUE))
		qsort(rows, n, sizeof(*rows), by_value);
	if (question->max_rows > 0 && n > question->max_rows)
		n = (size_t)question->max_rows;
	if (n == 0) {
		query_notfound(query);
		return;
	}
	query_finish(query, &(struct answer){.status = ST_OK, .nrows = n, .rows = rows});
}

static void finish_iteration(struct iteration *iteration)
{
	size_t n = 0;
	for (size_t i = 0; i < iteration->next; i++)
		if (iteration->found[i])
			iteration->rows[n++] = iteration->rows[i];
	finish_rows(iteration->list.query, iteration->rows, n);
}

/* How many rows are needed at all; by value, all have to be seen first. */
static size_t wanted_rows(const struct iteration *iteration)
{
	const struct question *question = iteration->list.query->ask;
	if (question->max_rows == 0 || question->max_rows > iteration->nrows ||
		(question->flags & ITER_SORT_VALUE))
		return iteration->nrows;
	return (size_t)question->max_rows;
}

/* Starts lookups with the asks that are free. */
static void look_up_rows(struct iteration *iteration)
{
	size_t wanted = wanted_rows(iteration);
	for (unsigned i = 0; i < PARALLEL; i++) {
		struct ask *ask = &iteration->lookups[i];
		while (!ask->fetch.pool && iteration->next < iteration->nrows &&
			iteration->nfound + iteration->running < wanted) {
			ask->row = iteration->next++;
			ask->key = iteration->rows[ask->row].name;
			if (ask_start(ask))
				iteration->running++;
			else
				refuse(ask);
		}
	}
	if (iteration->running == 0)
		finish_iteration(iteration);
}

static void on_row(struct ask *ask)
{
	struct iteration *iteration = ask->query->work;
	struct str value;
	const char *why;
	iteration->running--;
	enum status status = read_value(ask, &value, &why);
	iteration->bytes += ask->fetch.body.len;
	if (iteration->bytes > MAX_ROWS) {
		status = ST_TEMP;
		why = "the values of the iteration are too large together";
	}
	if (status == ST_TEMP || status == ST_PERM) {
		for (unsigned i = 0; i < PARALLEL; i++)
			http_cancel(&iteration->lookups[i].fetch);
		finish(ask->query, ST_TEMP, value, why);
		return;
	}
	if (status == ST_OK) {
		iteration->rows[ask->row].value = value;
		iteration->found[ask->row] = true;
		iteration->nfound++;
	}
	look_up_rows(iteration);
}

static void start_rows(struct iteration *iteration)
{
	struct query *query = iteration->list.query;
	iteration->found = arena_alloc(query->mem, iteration->nrows + 1);
	iteration->lookups = arena_alloc(query->mem, PARALLEL * sizeof(*iteration->lookups));
	struct ask **tail = &iteration->list.next;
	for (unsigned i = 0; i < PARALLEL; i++) {
		ask_init(&iteration->lookups[i], query, on_row);
		*tail = &iteration->lookups[i];
		tail = &iteration->lookups[i].next;
	}
	if (query->ask->flags & ITER_SORT_KEY)
		qsort(iteration->rows, iteration->nrows, sizeof(*iteration->rows), by_name);
	look_up_rows(iteration);
}

/* Names are made whole; unless it is recursive, those of deeper levels are left out. */
static void name_rows(struct iteration *iteration)
{
	const struct question *question = iteration->list.query->ask;
	size_t n = 0;
	for (size_t i = 0; i < iteration->nrows; i++) {
		struct pair row = iteration->rows[i];
		if (!(question->flags & ITER_RECURSE) && str_has(row.name, '/'))
			continue;
		row.name = arena_printf(iteration->list.query->mem, "%.*s%.*s",
			(int)question->key.len, question->key.ptr, (int)row.name.len, row.name.ptr);
		iteration->rows[n++] = row;
	}
	iteration->nrows = n;
}

static void on_list(struct ask *ask)
{
	struct iteration *iteration = (struct iteration *)(void *)ask;
	struct query *query = ask->query;
	struct json_rules rules = rules_of(query);
	const char *why;
	bool only_names;
	enum status status = judge(ask, &why);
	if (status == ST_NOTFOUND) {
		finish_rows(query, NULL, 0);
		return;
	}
	if (status == ST_OK && !json_rows(ask->fetch.body, &rules, query->mem, &iteration->rows,
				       &iteration->nrows, &only_names, &why)) {
		why = arena_printf(query->mem, "%s: %s", origin_of(ask), why).ptr;
		status = ST_TEMP;
	}
	if (status != ST_OK) {
		finish(query, status, STR(""), why);
		return;
	}
	name_rows(iteration);
	if (only_names && !(query->ask->flags & ITER_NO_VALUE))
		start_rows(iteration);
	else
		finish_rows(query, iteration->rows, iteration->nrows);
}

/* An iteration over one key itself. */
static void on_exact(struct ask *ask)
{
	struct query *query = ask->query;
	struct pair *row = arena_alloc(query->mem, sizeof(*row));
	const char *why;
	enum status status = read_value(ask, &row->value, &why);
	row->name = ask->key;
	if (status == ST_OK || status == ST_NOTFOUND)
		finish_rows(query, row, status == ST_OK);
	else
		finish(query, status, STR(""), why);
}

static void start_iterate(struct query *query)
{
	struct iteration *iteration = arena_alloc(query->mem, sizeof(*iteration));
	bool exact = query->ask->flags & ITER_EXACT_KEY;
	ask_init(&iteration->list, query, exact ? on_exact : on_list);
	iteration->list.is_prefix = !exact;
	query->work = &iteration->list;
	if (!ask_start(&iteration->list))
		refuse_query(&iteration->list);
}

/* ---- change ---- */

static void next_change(struct transaction *transaction);

/* What was written stays written: the transaction is neither done nor undone then. */
static void fail_change(struct transaction *transaction, enum status status, const char *why)
{
	struct ask *ask = &transaction->ask;
	bool unknown = ask->fetch.result == HTTP_BROKEN || ask->fetch.result == HTTP_TOO_LARGE;
	bool uncertain = unknown || transaction->at > 0;
	query_finish(ask->query, &(struct answer){
					 .status = uncertain ? ST_TEMP : status,
					 .uncertain = uncertain,
					 .why = str_of(why),
				 });
}

static void on_changed(struct ask *ask)
{
	struct transaction *transaction = (struct transaction *)(void *)ask;
	const struct change *change = &ask->query->ask->changes[transaction->at];
	int http = ask->fetch.status;
	bool reply = ask->fetch.result == HTTP_REPLY;
	const char *why = NULL;
	enum status status = reply && http / 100 == 2 ? ST_OK : judge(ask, &why);
	/* Unless the administrator does not take these for the word of the service: `404: temp`. */
	bool absent = reply && (http == 404 || http == 410) && status == ST_NOTFOUND;
	if (reply && (http / 100 == 2 || (absent && change->kind == CH_UNSET))) {
		transaction->at++;
		next_change(transaction);
		return;
	}
	if (absent && change->kind == CH_ADD && transaction->at == 0) {
		query_notfound(ask->query);
		return;
	}
	if (!why)
		why = arena_printf(ask->fetch.mem, "%s: HTTP status %d", origin_of(ask), http).ptr;
	fail_change(transaction, status == ST_PERM ? ST_PERM : ST_TEMP, why);
}

/* The request that makes a change. False when its value is no text, which JSON cannot carry. */
static bool describe_change(struct ask *ask, const struct change *change)
{
	struct http_fetch *fetch = &ask->fetch;
	ask->key = change->key;
	ask->scope = change->scope;
	ask->upstream = 0;
	fetch->result = HTTP_REPLY;
	fetch->once = fetch->no_body = true;
	fetch->method = "POST";
	switch (change->kind) {
	case CH_UNSET:
		fetch->method = "DELETE";
		fetch->content_type = NULL;
		return true;
	case CH_ADD:
		fetch->content_type = "application/vnd.mapmux.increment+json";
		fetch->send =
			arena_printf(fetch->mem, "{\"increment\": %" PRIi64 "}", change->diff);
		return true;
	default:
		fetch->content_type = "application/json";
		fetch->send = change->value;
		return json_valid(change->value) ||
		       json_quote(change->value, fetch->mem, &fetch->send);
	}
}

static void next_change(struct transaction *transaction)
{
	struct ask *ask = &transaction->ask;
	const struct question *question = ask->query->ask;
	if (transaction->at == question->nchanges) {
		query_finish(ask->query, &(struct answer){.status = ST_OK});
		return;
	}
	describe_change(ask, &question->changes[transaction->at]);
	if (!ask_start(ask)) /* the templates of the upstreams differ */
		fail_change(transaction, ST_PERM, "a key that cannot stand in the URL");
}

/* What can be refused is refused before anything is written. */
static void start_change(struct query *query)
{
	struct transaction *transaction = arena_alloc(query->mem, sizeof(*transaction));
	struct ask *ask = &transaction->ask;
	struct url_state *state = query->table->state;
	ask_init(ask, query, on_changed);
	query->work = ask;
	for (size_t i = 0; i < query->ask->nchanges; i++) {
		if (!describe_change(ask, &query->ask->changes[i])) {
			query_perm(query, "a value that is no UTF-8 text cannot be sent as JSON");
			return;
		}
		if (!fill_url(ask, &state->url)) {
			refuse_query(ask);
			return;
		}
	}
	next_change(transaction);
}

/* ---- policy ---- */

static struct str form_body(const struct pair *pairs, size_t n, struct arena *mem)
{
	struct buf form = {.max = SIZE_MAX / 2};
	for (size_t i = 0; i < n; i++) {
		if (i > 0)
			buf_add_char(&form, '&');
		template_encode(pairs[i].name, &form);
		buf_add_char(&form, '=');
		template_encode(pairs[i].value, &form);
	}
	struct str body = arena_str(mem, buf_str(&form));
	buf_free(&form);
	return body;
}

/* A text that is no JSON is the action itself, unless it looks like a page or like broken JSON. */
static enum status read_action(const struct ask *ask, struct str *action, const char **why)
{
	struct str text = str_trim(ask->fetch.body);
	if (ask->query->table->conf->options.value[0] || json_valid(text))
		return read_value(ask, action, why);
	enum status status = judge(ask, why);
	if (status != ST_OK)
		return status;
	*action = text;
	if (text.len > 0 && !strchr("{[\"<", text.ptr[0]) && is_one_line(text))
		return ST_OK;
	*why = arena_printf(ask->fetch.mem, "%s: the answer is no action", origin_of(ask)).ptr;
	return ST_TEMP;
}

static void on_action(struct ask *ask)
{
	struct str action;
	const char *why;
	enum status status = read_action(ask, &action, &why);
	finish(ask->query, status, action, why);
}

static void start_policy(struct query *query)
{
	const struct url_conf *conf = query->table->conf->conf;
	const struct question *question = query->ask;
	struct ask *ask = arena_alloc(query->mem, sizeof(*ask));
	bool json = conf->body == BODY_JSON;
	ask_init(ask, query, on_action);
	ask->is_prefix = true; /* there is no key */
	ask->fetch.method = "POST";
	ask->fetch.content_type = json ? "application/json" : "application/x-www-form-urlencoded";
	ask->fetch.send = json ? json_object(question->attrs, question->nattrs, query->mem)
			       : form_body(question->attrs, question->nattrs, query->mem);
	query->work = ask;
	if (!ask_start(ask))
		query_perm(query, "the URL template needs a key");
}

static void start(struct query *query)
{
	switch (query->ask->op) {
	case OP_LOOKUP:
		start_lookup(query);
		break;
	case OP_ITERATE:
		start_iterate(query);
		break;
	case OP_CHANGE:
		start_change(query);
		break;
	default:
		start_policy(query);
		break;
	}
}

const struct backend backend_url = {
	.name = "url",
	.help = "asks an HTTP service: GET to read, POST and DELETE to write",
	.ops = CAN(OP_LOOKUP) | CAN(OP_ITERATE) | CAN(OP_CHANGE) | CAN(OP_POLICY),
	.settings = settings,
	.conf_size = sizeof(struct url_conf),
	.check = check,
	.drop = drop,
	.open = open_table,
	.close = close_table,
	.start = start,
	.cancel = cancel,
};
