/* What the parts of the url table share. Private to url*.c. */
#ifndef MAPMUX_BACKENDS_URL_H
#define MAPMUX_BACKENDS_URL_H

#include "engine/http.h"
#include "model/breaker.h"
#include "model/query.h"
#include "model/table.h"
#include "text/json.h"
#include "text/template.h"

enum {
	MAX_UPSTREAMS = 32,   /* bits of ask.tried */
	MAX_URL = 256 * 1024, /* bytes */
	DOWN_MS = 5000,       /* an upstream that failed is avoided for so long */
	PARALLEL = 8,         /* lookups of one iteration under way */
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
	unsigned char policy_verdicts[STATUS_MAX]; /* no key: a 404 is a mistake */
	unsigned char auth_verdicts[STATUS_MAX];
	struct log_limit refused; /* 401 and 403 taken as not found */
	struct log_limit bad_keys;
	struct log_limit advice; /* on the option `value` */
};

/* A table in a worker. */
struct url_state {
	struct http_pool *pool;
	struct breaker breakers[MAX_UPSTREAMS]; /* idle while there is but one */
	unsigned next;                          /* upstream, when they take turns */
	struct buf url;                         /* to fill templates in */
};

/* What the service says of keeping its reply: answer.ttl and answer.no_store. */
struct url_fresh {
	unsigned ttl;
	bool no_store;
};

/* One request of a query, and its way through the upstreams. */
struct url_ask {
	struct http_fetch fetch;
	struct query *query;
	void (*answered)(
		struct url_ask *); /* fetch holds a result, after the last upstream tried */
	struct url_ask *next;      /* of the same query */
	struct str key;
	enum scope scope;
	bool is_prefix;
	unsigned upstream, tried; /* tried: a bit for each */
	enum breaker_pass pass;   /* of the upstream that is asked */
};

static inline struct url_shared *url_shared_of(const struct query *query)
{
	return query->table->conf->shared;
}

/* Of the upstream that was asked, for people. */
static inline const char *url_origin_of(const struct url_ask *ask)
{
	return template_origin(url_shared_of(ask->query)->upstreams[ask->upstream]);
}

/* What may stand in a header or an action. */
static inline bool url_is_one_line(struct str text)
{
	for (size_t i = 0; i < text.len; i++)
		if ((unsigned char)text.ptr[i] < 0x20 && text.ptr[i] != '\t')
			return false;
	return true;
}

/* url_conf.c: the settings, and what can be prepared from them. */
extern const struct setting url_settings[];
bool url_check(struct table_conf *table, struct error *error);
void url_drop(struct table_conf *table);

/* url_ask.c: one request. `answered` comes once, in a turn, unless url_cancel() comes first. A request
 * that its key forbids is not sent: url_ask_start() is false. */
void url_ask_init(struct url_ask *ask, struct query *query, void (*answered)(struct url_ask *));
bool url_ask_start(struct url_ask *ask);
bool url_fill(const struct url_ask *ask, struct buf *url); /* false: what its key forbids */
void url_ask_cancel(struct url_ask *ask);                  /* at any time */
void url_cancel(struct query *query); /* all requests that hang on query->work */

/* What the reply means to a reader, with a reason; ST_OK: there is a body to read. */
enum status url_judge(const struct url_ask *ask, const char **why);
enum status url_read_value(const struct url_ask *ask, struct str *value, const char **why);
struct json_rules url_rules(const struct query *query);

/* The end of a query: by a value, or by what url_judge() said of this request; or by a key that cannot
 * be asked for. */
void url_finish(const struct url_ask *ask, enum status status, struct str value, const char *why);
void url_refuse(const struct url_ask *ask);
void url_refuse_query(const struct url_ask *ask);

/* url_fresh.c: how long the reply may be kept, where a cache asks; and what rests on two of them. */
struct url_fresh url_fresh_of(const struct url_ask *ask);
struct url_fresh url_fresh_both(struct url_fresh a, struct url_fresh b);

/* url_iterate.c, url_change.c, url_auth.c */
void url_start_iterate(struct query *query);
void url_drop_iteration(
	struct query *query); /* once, behind its end: replies that it still holds */
void url_start_change(struct query *query);
void url_start_auth(struct query *query);

#endif
