/* The userli backend: each endpoint of userli's API as a table. */
#include <stdlib.h>

#include "engine/http.h"
#include "engine/worker.h"
#include "http_settings.h"
#include "list.h"
#include "model/digest.h"
#include "model/domain.h"
#include "model/mail.h"
#include "model/query.h"
#include "model/table.h"
#include "text/json.h"
#include "text/template.h"

enum {
	MAX_URL = 16 * 1024,
	MAX_LOCAL = 256,  /* bytes; RFC 5321 allows 64 */
	MAX_REASON = 200, /* bytes of a message of userli */
	WARN_MS = 60000,
};

struct ask;

/* What a table asks for. */
struct endpoint {
	const char *name, *path;
	void (*read)(struct ask *); /* the reply of status 200 to a lookup */
	unsigned ops;
	bool domains;    /* keys are domains, not addresses */
	bool absent_404; /* 404 says that there is no such user */
};

struct userli_conf {
	const char *param, *token, *recipient_delimiter, *ca_file, *unix_socket;
	int64_t connect_timeout, max_connections, max_body;
	int endpoint; /* 0: by the table's name, else index into `endpoints` and one more */
	bool tls_verify;
};

/* What check() has prepared for all workers. */
struct userli_shared {
	struct arena mem;
	const struct endpoint *endpoint;
	struct str base; /* without a '/' at its end */
	const char *origin;
	struct http_options http;
	const char *headers[3];
	struct log_limit refused; /* tokens */
};

/* A table in a worker. */
struct userli_state {
	struct http_pool *pool;
	struct buf url; /* to build them in */
};

/* A question on its way; lives in the asker's arena. */
struct ask {
	struct http_fetch fetch;
	struct query *query;
	struct str key; /* as it is sent */
};

/* ---- keys ---- */

/* What userli allows in the names of its users and aliases. */
static bool is_local(struct str local)
{
	for (size_t i = 0; i < local.len; i++) {
		char c = local.ptr[i];
		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
			    c == '-'))
			return false;
	}
	return local.len > 0 && local.len <= MAX_LOCAL;
}

/* A domain goes out as it came, but for capitals: userli compares it so. */
static bool clean_domain(struct str domain, struct arena *mem, struct str *clean)
{
	return !str_has(domain, '\0') && domain_small(domain, mem, clean);
}

/* The key as userli knows it; false when it can have none such. */
static bool clean_key(const struct query *query, struct str key, struct str *clean)
{
	const struct userli_conf *conf = query->table->conf->conf;
	const struct userli_shared *shared = query->table->conf->shared;
	struct str domain = mail_trim(key), local;
	if (shared->endpoint->domains)
		return clean_domain(domain, query->mem, clean);
	if (!str_cut(&domain, '@', &local))
		return false;
	local = mail_without_extension(mail_lower(local, query->mem), conf->recipient_delimiter);
	if (!is_local(local) || !clean_domain(domain, query->mem, &domain))
		return false;
	*clean = arena_printf(
		query->mem, "%.*s@%.*s", (int)local.len, local.ptr, (int)domain.len, domain.ptr);
	return true;
}

/* ---- what came back ---- */

static struct userli_shared *shared_of(const struct ask *ask)
{
	return ask->query->table->conf->shared;
}

static void fail(const struct ask *ask, const char *why)
{
	query_temp(ask->query, "userli at %s: %s", shared_of(ask)->origin, why);
}

/* There is no reply. What was posted may have arrived. */
static void fail_broken(const struct ask *ask)
{
	const struct http_fetch *fetch = &ask->fetch;
	struct answer answer = {
		.status = ST_TEMP,
		.why = arena_printf(
			fetch->mem, "userli at %s: %s", shared_of(ask)->origin, fetch->why.ptr),
		.broken = fetch->result == HTTP_UNREACHABLE ||
			  (fetch->result == HTTP_BROKEN && ask->query->ask->op == OP_LOOKUP),
	};
	query_finish(ask->query, &answer);
}

/* A member of the reply, as text. */
static bool member(const struct ask *ask, const char *pointer, struct str *text)
{
	const struct json_rules rules = {
		.form = FORM_JSON, .list_separator = STR(","), .pointer = pointer};
	const char *why;
	return json_value(ask->fetch.body, &rules, ask->fetch.mem, text, &why) == ST_OK;
}

static bool is_object(const struct ask *ask)
{
	struct str body = str_trim(ask->fetch.body);
	return body.len > 0 && body.ptr[0] == '{' && json_valid(body);
}

static bool says(const struct ask *ask, const char *pointer, const char *words)
{
	struct str text;
	return member(ask, pointer, &text) &&
	       strcasestr(arena_str(ask->fetch.mem, text).ptr, words);
}

/* "User not found", in one of its forms. What stands in front of userli has 404s of its own, which may pass. */
static bool knows_no_user(const struct ask *ask)
{
	return is_object(ask) &&
	       ((says(ask, "/message", "user") && says(ask, "/message", "not found")) ||
		       (says(ask, "/error", "user") && says(ask, "/error", "not found")));
}

/* An expired token must not look like a wrong password nor like an unknown address. */
static void refused(const struct ask *ask)
{
	unsigned held;
	if (log_allowed(&shared_of(ask)->refused, WARN_MS, &held))
		log_warn("table %s: userli at %s refuses the token (HTTP status %d): is it valid, "
			 "and "
			 "has it the scope \"%s\"?",
			ask->query->table->conf->name, shared_of(ask)->origin, ask->fetch.status,
			strstr(shared_of(ask)->endpoint->path, "dovecot") ? "dovecot" : "postfix");
	fail(ask, "the token is refused");
}

/* A reply of another status than 200, or none. */
static void read_failure(const struct ask *ask)
{
	const struct http_fetch *fetch = &ask->fetch;
	if (fetch->result != HTTP_REPLY)
		fail_broken(ask);
	else if (fetch->status == 401 || fetch->status == 403)
		refused(ask);
	else if (fetch->status == 404 && shared_of(ask)->endpoint->absent_404 && knows_no_user(ask))
		query_notfound(ask->query);
	else
		fail(ask, arena_printf(fetch->mem, "HTTP status %d", fetch->status).ptr);
}

static void read_bool(struct ask *ask)
{
	struct str body = str_trim(ask->fetch.body);
	if (str_eq(body, STR("true")))
		query_ok(ask->query, ask->query->ask->form == FORM_JSON ? STR("true") : STR("1"));
	else if (str_eq(body, STR("false")) || str_eq(body, STR("null")))
		query_notfound(ask->query);
	else
		fail(ask, "the answer is neither true nor false");
}

static void read_list(struct ask *ask)
{
	struct query *query = ask->query;
	struct json_rules rules = {.form = query->ask->form,
		.list_separator = str_of(query->table->conf->options.list_separator),
		.pointer = ""};
	struct str body = str_trim(ask->fetch.body), value;
	struct pair *rows;
	size_t n;
	bool only_names;
	const char *why = "the answer is no list";
	if (str_eq(body, STR("null"))) {
		query_notfound(query);
		return;
	}
	if (body.len == 0 || body.ptr[0] != '[' ||
		!json_rows(body, &rules, query->mem, &rows, &n, &only_names, &why) ||
		(n > 0 && json_value(body, &rules, query->mem, &value, &why) != ST_OK))
		fail(ask, why);
	else if (n == 0)
		query_notfound(query);
	else
		query_ok(query, value);
}

static bool number(const struct ask *ask, const char *pointer, uint64_t *n)
{
	struct str text;
	return member(ask, pointer, &text) && str_u64(text, n);
}

/* For dict the object as it is, else the form of the limits of a ratelimit table. */
static void read_quota(struct ask *ask)
{
	struct query *query = ask->query;
	uint64_t hour, day;
	if (!is_object(ask) || !number(ask, "/per_hour", &hour) || !number(ask, "/per_day", &day))
		fail(ask, "the answer holds no limits");
	else if (query->ask->form == FORM_JSON)
		query_ok(query, str_trim(ask->fetch.body));
	else
		query_ok(query, arena_printf(query->mem, "%llu/h %llu/d", (unsigned long long)hour,
					(unsigned long long)day));
}

/* Is the user's mail encrypted, and with which keys? False when the reply does not say. */
static bool read_crypt(const struct ask *ask, bool secret, struct pair *fields, size_t *n)
{
	static const struct str version = STR("mail_crypt_save_version"),
				public_key = STR("mail_crypt_global_public_key"),
				private_key = STR("mail_crypt_global_private_key");
	uint64_t level;
	struct str key;
	if (!number(ask, "/body/mailCrypt", &level))
		return false;
	if (level != 2)
		return level == 0;
	if (!member(ask, "/body/mailCryptPublicKey", &key))
		return false;
	fields[(*n)++] = (struct pair){version, STR("2")};
	fields[(*n)++] = (struct pair){public_key, key};
	if (!secret)
		return true;
	if (!member(ask, "/body/mailCryptPrivateKey", &key))
		return false;
	fields[(*n)++] = (struct pair){private_key, key};
	return true;
}

/* The fields of a userdb as Dovecot 2.3 names them, in JSON. */
static void read_userdb(struct ask *ask)
{
	struct query *query = ask->query;
	struct pair fields[4];
	struct str user, quota, value;
	size_t n = 0;
	const char *why = "the answer describes no user";
	if (!is_object(ask) || !member(ask, "/body/user", &user) || user.len == 0 ||
		!member(ask, "/body/quota", &quota)) {
		fail(ask, why);
		return;
	}
	fields[n++] = (struct pair){STR("user"), user};
	if (quota.len > 0)
		fields[n++] = (struct pair){STR("quota_rule"),
			arena_printf(query->mem, "*:storage=%.*s", (int)quota.len, quota.ptr)};
	if (!read_crypt(ask, false, fields, &n)) {
		fail(ask, why);
		return;
	}
	const struct json_rules rules = {.form = query->ask->form,
		.list_separator = str_of(query->table->conf->options.list_separator),
		.pointer = query->table->conf->options.value};
	enum status status =
		json_value(json_object(fields, n, query->mem), &rules, query->mem, &value, &why);
	if (status == ST_OK)
		query_ok(query, value);
	else if (status == ST_NOTFOUND)
		query_notfound(query);
	else
		fail(ask, why);
}

/* ---- authentication ---- */

/* What userli says to the user, as far as it is plain text. */
static struct str reason_of(const struct ask *ask)
{
	struct str message;
	if (!member(ask, "/message", &message) || message.len == 0)
		return (struct str){NULL, 0};
	if (message.len > MAX_REASON)
		message.len = MAX_REASON;
	message = arena_str(ask->query->mem, message);
	for (char *p = (char *)message.ptr; *p; p++)
		if (*p < 0x20 || *p > 0x7e)
			*p = '?';
	return message;
}

static void reject(struct query *query, struct str why)
{
	query_finish(query, &(struct answer){.status = ST_NOTFOUND, .why = why});
}

static void accept_user(struct ask *ask)
{
	struct query *query = ask->query;
	struct pair *rows = arena_alloc(query->mem, 4 * sizeof(*rows));
	size_t n = 0;
	rows[n++].value = ask->key;
	if (shared_of(ask)->endpoint->ops & CAN(OP_LOOKUP) && !read_crypt(ask, true, rows, &n))
		fail(ask, "the answer to a password says nothing of keys");
	else
		query_finish(query, &(struct answer){.status = ST_OK, .nrows = n, .rows = rows});
}

/* The statuses of a wrong password are those of a wrong token too, and of whoever stands in front of userli. */
static bool is_verdict(const struct ask *ask)
{
	const struct http_fetch *fetch = &ask->fetch;
	struct str error;
	if (member(ask, "/error", &error))
		return false; /* of the token */
	return (fetch->status == 401 && says(ask, "/message", "authentication failed")) ||
	       (fetch->status == 403 && says(ask, "/message", "user"));
}

static void on_auth(struct http_fetch *fetch)
{
	struct ask *ask = (struct ask *)(void *)((char *)fetch - offsetof(struct ask, fetch));
	bool judged = fetch->result == HTTP_REPLY && is_object(ask);
	struct str message = judged ? reason_of(ask) : (struct str){NULL, 0};
	if (judged && fetch->status == 200 && str_eq(message, STR("success")))
		accept_user(ask);
	else if (judged && is_verdict(ask))
		reject(ask->query, message);
	else if (fetch->result == HTTP_REPLY && fetch->status == 200)
		fail(ask, "the answer to a password makes no sense");
	else if (judged && fetch->status == 404 && shared_of(ask)->endpoint->absent_404 &&
		 knows_no_user(ask))
		reject(ask->query, STR("user not found"));
	else
		read_failure(ask);
}

/* ---- asking ---- */

static void on_lookup(struct http_fetch *fetch)
{
	struct ask *ask = (struct ask *)(void *)((char *)fetch - offsetof(struct ask, fetch));
	if (fetch->result == HTTP_REPLY && fetch->status == 200)
		shared_of(ask)->endpoint->read(ask);
	else
		read_failure(ask);
}

static struct ask *ask_new(struct query *query, void (*done)(struct http_fetch *))
{
	struct ask *ask = arena_alloc(query->mem, sizeof(*ask));
	ask->query = query;
	ask->fetch.mem = query->mem;
	ask->fetch.method = "GET";
	ask->fetch.done = done;
	ask->fetch.asker = query;
	query->work = ask;
	return ask;
}

/* Everything of the key is encoded, '/' too: it cannot leave its place. */
static void send(struct ask *ask, bool with_key)
{
	const struct userli_shared *shared = shared_of(ask);
	struct userli_state *state = ask->query->table->state;
	struct buf *url = &state->url;
	buf_reset(url);
	buf_add(url, shared->base);
	buf_add(url, str_of(shared->endpoint->path));
	if (with_key) {
		buf_add_char(url, '/');
		template_encode(ask->key, url);
	}
	buf_add_char(url, '\0');
	if (url->overflow) {
		query_notfound(ask->query);
		return;
	}
	ask->fetch.url = url->ptr;
	http_start(state->pool, &ask->fetch);
}

static void start_lookup(struct query *query)
{
	const struct userli_shared *shared = query->table->conf->shared;
	struct ask *ask = ask_new(query, on_lookup);
	struct str key = query->ask->key;
	if (query->ask->scope == SCOPE_PRIV) {
		query_perm(query, "userli has no private keys");
		return;
	}
	if (shared->endpoint->ops & CAN(OP_AUTH)) { /* the userdb of dovecot */
		if (str_starts(key, STR("passdb/"))) {
			query_perm(query, "userli verifies passwords and does not tell them");
			return;
		}
		if (str_starts(key, STR("userdb/")))
			key = str_skip(key, strlen("userdb/"));
	}
	if (clean_key(query, key, &ask->key))
		send(ask, true);
	else
		query_notfound(query);
}

static void start_auth(struct query *query)
{
	const struct userli_shared *shared = query->table->conf->shared;
	const struct pair *password =
		pair_find(query->ask->attrs, query->ask->nattrs, STR("password"));
	struct ask *ask = ask_new(query, on_auth);
	struct str quoted;
	bool in_path = shared->endpoint->ops & CAN(OP_LOOKUP);
	if (!password) {
		query_perm(query, "an authentication without a password");
		return;
	}
	/* userli has no empty passwords, and none that are no UTF-8; it need not be asked. */
	if (!clean_key(query, query->ask->key, &ask->key) || password->value.len == 0 ||
		!json_quote(password->value, query->mem, &quoted)) {
		reject(query, STR("authentication failed"));
		return;
	}
	const struct pair body[] = {{STR("email"), ask->key}, *password};
	ask->fetch.method = "POST";
	ask->fetch.secret = true;
	ask->fetch.content_type = "application/json";
	ask->fetch.send = json_object(body + in_path, 2 - in_path, query->mem);
	send(ask, in_path);
}

static void start(struct query *query)
{
	if (query->ask->op == OP_AUTH)
		start_auth(query);
	else
		start_lookup(query);
}

static void cancel(struct query *query)
{
	http_cancel(&((struct ask *)query->work)->fetch);
}

/* ---- settings ---- */

static const struct endpoint endpoints[] = {
	{"alias", "/api/postfix/alias", read_list, CAN(OP_LOOKUP), false, false},
	{"domain", "/api/postfix/domain", read_bool, CAN(OP_LOOKUP), true, false},
	{"mailbox", "/api/postfix/mailbox", read_bool, CAN(OP_LOOKUP), false, false},
	{"senders", "/api/postfix/senders", read_list, CAN(OP_LOOKUP), false, false},
	{"quota", "/api/postfix/smtp_quota", read_quota, CAN(OP_LOOKUP), false, true},
	{"auth", "/api/postfix/auth", NULL, CAN(OP_AUTH), false, false},
	{"dovecot", "/api/dovecot", read_userdb, CAN(OP_LOOKUP) | CAN(OP_AUTH), false, true},
};

enum { NENDPOINTS = sizeof(endpoints) / sizeof(*endpoints) };

static const char *const endpoint_choices[] = {
	"by-name", "alias", "domain", "mailbox", "senders", "quota", "auth", "dovecot", NULL};

#define AT(member) .offset = offsetof(struct userli_conf, member)

static const struct setting settings[] = {
	{.name = "param", .kind = SET_STR, AT(param), .help = "base URL of userli, without /api"},
	{.name = "endpoint",
		.kind = SET_CHOICE,
		AT(endpoint),
		.fallback = "by-name",
		.choices = endpoint_choices,
		.help = "what is asked; by-name: the table's name says it"},
	{.name = "token",
		.kind = SET_SECRET,
		AT(token),
		.fallback = "",
		.help = "API token with the scope postfix, or dovecot"},
	{.name = "recipient_delimiter",
		.kind = SET_STR,
		AT(recipient_delimiter),
		.fallback = "",
		.help = "characters that begin an address extension, which is cut off"},
	{.name = "connect_timeout",
		.kind = SET_MSEC,
		AT(connect_timeout),
		.fallback = "2s",
		.min = 1,
		.max = 600000,
		.help = "for name, connection and TLS"},
	HTTP_SETTINGS,
	{.name = "max_connections",
		.kind = SET_INT,
		AT(max_connections),
		.fallback = "100",
		.min = 1,
		.max = 65535,
		.help = "to userli, in each worker; what is more waits"},
	{.name = "max_body",
		.kind = SET_BYTES,
		AT(max_body),
		.fallback = "1m",
		.min = 1,
		.max = 1 << 30,
		.help = "the longest answer"},
	{.name = NULL},
};

static bool choose_endpoint(
	const struct table_conf *table, struct userli_shared *shared, struct error *error)
{
	const struct userli_conf *conf = table->conf;
	if (conf->endpoint > 0)
		shared->endpoint = &endpoints[conf->endpoint - 1];
	for (size_t i = 0; !shared->endpoint && i < NENDPOINTS; i++)
		if (strcmp(endpoints[i].name, table->name) == 0)
			shared->endpoint = &endpoints[i];
	return shared->endpoint ||
	       error_set(error, "endpoint: the name of the table does not say it; allowed: alias, "
				"domain, mailbox, senders, quota, auth, dovecot");
}

static bool read_base(
	const struct userli_conf *conf, struct userli_shared *shared, struct error *error)
{
	struct template *compiled;
	struct str base = str_trim(str_of(conf->param));
	if (strpbrk(conf->param, "?#{}"))
		return error_set(error, "param: a base URL has no query, fragment or placeholder");
	while (base.len > 0 && base.ptr[base.len - 1] == '/')
		base.len--;
	shared->base = arena_str(&shared->mem, base);
	if (!template_compile(shared->base.ptr, &shared->mem, &compiled, error))
		return error_prefix(error, "param");
	shared->origin = template_origin(compiled);
	return true;
}

static bool read_token(
	const struct userli_conf *conf, struct userli_shared *shared, struct error *error)
{
	if (!conf->token[0])
		return error_set(error, "token: the API token is needed, or token_file");
	for (const char *p = conf->token; *p; p++)
		if (*p <= ' ' || *p > '~')
			return error_set(error, "token: it has a character that no token has");
	shared->headers[0] =
		arena_printf(&shared->mem, "Authorization: Bearer %s", conf->token).ptr;
	shared->headers[1] = "Accept: application/json";
	return true;
}

static void drop(struct table_conf *table)
{
	struct userli_shared *shared = table->shared;
	if (shared)
		arena_clear(&shared->mem);
	free(shared);
	table->shared = NULL;
}

static bool check(struct table_conf *table, struct error *error)
{
	const struct userli_conf *conf = table->conf;
	struct userli_shared *shared = memory_new(sizeof(*shared));
	table->shared = shared;
	if (!choose_endpoint(table, shared, error) || !read_base(conf, shared, error) ||
		!read_token(conf, shared, error) ||
		!setting_check_file("ca_file", conf->ca_file, error)) {
		drop(table);
		return false;
	}
	table->ops &= shared->endpoint->ops;
	table->delimiters = conf->recipient_delimiter;
	shared->http = (struct http_options){
		.headers = shared->headers,
		.user_agent = "mapmux/" MAPMUX_VERSION,
		.ca_file = setting_or_null(conf->ca_file),
		.unix_socket = setting_or_null(conf->unix_socket),
		.skip_tls_verify = !conf->tls_verify,
		.connect_timeout_ms = (long)conf->connect_timeout,
		.max_connections = (long)conf->max_connections,
		.max_body = (size_t)conf->max_body,
	};
	digest_add_file(&table->digest, conf->ca_file);
	return true;
}

static bool open_table(struct table *table, struct error *error)
{
	struct userli_shared *shared = table->conf->shared;
	struct userli_state *state = memory_new(sizeof(*state));
	(void)error;
	state->pool = http_pool_new(worker_http(table->worker), &shared->http);
	state->url.max = MAX_URL;
	table->state = state;
	return true;
}

static void close_table(struct table *table)
{
	struct userli_state *state = table->state;
	http_pool_free(state->pool);
	buf_free(&state->url);
	free(state);
}

const struct backend backend_userli = {
	.name = "userli",
	.help = "asks the API of userli",
	.ops = CAN(OP_LOOKUP) | CAN(OP_AUTH),
	.can_break = true,
	.settings = settings,
	.conf_size = sizeof(struct userli_conf),
	.check = check,
	.drop = drop,
	.open = open_table,
	.close = close_table,
	.start = start,
	.cancel = cancel,
};
