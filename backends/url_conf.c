/* The url table: its settings, and what can be prepared from them for all workers. */
#include "url.h"

#include "http_settings.h"
#include "model/digest.h"

#include <stdlib.h>
#include <strings.h>

#include "engine/worker.h"

static const char *const method_choices[] = {"GET", "POST", NULL};
static const char *const body_choices[] = {"form", "json", NULL};
static const char *const balance_choices[] = {"first", "round-robin", NULL};

#define AT(member) .offset = offsetof(struct url_conf, member)

const struct setting url_settings[] = {
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
	HTTP_SETTINGS,
	HTTP_URL_SETTINGS,
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
		.help = "POST: policy requests can be asked, with body: json passwords too"},
	{.name = "body",
		.kind = SET_CHOICE,
		AT(body),
		.fallback = "form",
		.choices = body_choices,
		.help = "how attributes are posted"},
	{.name = "balance",
		.kind = SET_CHOICE,
		AT(balance),
		.fallback = "first",
		.choices = balance_choices,
		.help = "which upstream is asked: the first that works, or each in turn"},
	{.name = NULL},
};

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

/* His and the built-in ones, the more exact over the less exact: `4xx: perm` leaves 404 alone. `absent`
 * is what a 4xx means of itself. */
static bool make_verdicts(const struct setting_map *rules, enum verdict absent,
	unsigned char *verdicts, struct error *error)
{
	memset(verdicts, VERDICT_TEMP, STATUS_MAX);
	if (!apply_rules(rules, 0, verdicts, error))
		return false;
	memset(verdicts + 400, (int)absent, 100);
	memset(verdicts + 500, VERDICT_TEMP, 100);
	if (!apply_rules(rules, 1, verdicts, error))
		return false;
	verdicts[200] = VERDICT_OK;
	verdicts[404] = verdicts[410] = (unsigned char)absent;
	verdicts[408] = verdicts[425] = verdicts[429] = VERDICT_TEMP;
	return apply_rules(rules, 2, verdicts, error);
}

/* Of a password only these statuses tell; a service that is misconfigured shall refuse nobody. */
static bool make_auth_verdicts(
	const struct setting_map *rules, unsigned char *verdicts, struct error *error)
{
	memset(verdicts, VERDICT_TEMP, STATUS_MAX);
	if (!apply_rules(rules, 0, verdicts, error) || !apply_rules(rules, 1, verdicts, error))
		return false;
	verdicts[200] = verdicts[204] = VERDICT_OK;
	verdicts[401] = verdicts[403] = verdicts[404] = VERDICT_NOTFOUND;
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
	if (!url_is_one_line(value))
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
	if (!url_is_one_line(value))
		return error_set(error, "auth_token: holds a control character; allowed: one line");
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
		return error_set(
			error, "basic_auth: cannot go with auth_token; allowed: one of the two");
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

static bool make_http_options(
	const struct url_conf *conf, struct url_shared *shared, struct error *error)
{
	shared->http = (struct http_options){
		.user_agent = setting_or_null(conf->user_agent),
		.basic_auth = setting_or_null(conf->basic_auth),
		.ca_file = setting_or_null(conf->ca_file),
		.client_cert = setting_or_null(conf->client_cert),
		.client_key = setting_or_null(conf->client_key),
		.unix_socket = setting_or_null(conf->unix_socket),
		.proxy = setting_or_null(conf->proxy),
		.skip_tls_verify = !conf->tls_verify,
		.http2 = conf->http2,
		.follow_redirects = conf->follow_redirects,
		.connect_timeout_ms = (long)conf->connect_timeout,
		.max_connections = (long)conf->max_connections,
		.max_body = (size_t)conf->max_body,
	};
	if (!url_is_one_line(str_of(conf->user_agent)))
		return error_set(error, "user_agent: it has a control character");
	return setting_check_file("ca_file", conf->ca_file, error) &&
	       setting_check_file("client_cert", conf->client_cert, error) &&
	       setting_check_file("client_key", conf->client_key, error) &&
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

/* "http://host/alias/" asks the same for every key, and what it finds holds for all of them. */
static void warn_of_fixed_urls(const struct table_conf *table)
{
	const struct url_conf *conf = table->conf;
	const struct url_shared *shared = table->shared;
	for (unsigned i = 0; conf->method == METHOD_GET && i < shared->nupstreams; i++)
		if (!template_varies(shared->upstreams[i]))
			log_warn("%s: param: the URL at %s has no placeholder, so that all keys "
				 "have one answer; {} is the key",
				table->where, template_origin(shared->upstreams[i]));
}

void url_drop(struct table_conf *table)
{
	struct url_shared *shared = table->shared;
	if (shared)
		arena_clear(&shared->mem);
	free(shared);
	table->shared = NULL;
}

bool url_check(struct table_conf *table, struct error *error)
{
	const struct url_conf *conf = table->conf;
	struct url_shared *shared = memory_new(sizeof(*shared));
	table->shared = shared;
	if (conf->method != METHOD_POST)
		table->ops &= ~CAN(OP_POLICY);
	if (conf->method != METHOD_POST || conf->body != BODY_JSON)
		table->ops &= ~CAN(OP_AUTH);
	bool ok = json_pointer_valid(str_of(table->options.value)) ||
		  error_set(error, "value: a JSON pointer begins with '/', and ~ is written ~0");
	ok = ok && compile_templates(conf, shared, error) &&
	     make_verdicts(&conf->status, VERDICT_NOTFOUND, shared->verdicts, error) &&
	     make_verdicts(&conf->status, VERDICT_PERM, shared->policy_verdicts, error) &&
	     make_auth_verdicts(&conf->status, shared->auth_verdicts, error) &&
	     make_http_options(conf, shared, error);
	if (!ok) {
		url_drop(table);
		return false;
	}
	warn_of_http2(table);
	warn_of_fixed_urls(table);
	digest_add_file(&table->digest, conf->ca_file);
	digest_add_file(&table->digest, conf->client_cert);
	digest_add_file(&table->digest, conf->client_key);
	return true;
}
