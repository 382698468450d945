/* `mapmux query http:...`: one lookup of the http listener's API. Contract: docs/http.md. */
#include <curl/curl.h>

#include "client/client_wire.h"
#include "text/json.h"
#include "text/template.h"

enum { BODY_MAX = 64 << 20 };

static void add_param(struct buf *url, const char *name, struct str value)
{
	buf_printf(url, "%c%s=", str_has(buf_str(url), '?') ? '&' : '?', name);
	template_encode(value, url);
}

/* Of a unix socket the host is a word that nobody resolves. */
static void add_origin(struct buf *url, const struct address *address)
{
	const char *host = address->host && address->host[0] ? address->host : "localhost";
	if (address->kind == ADDRESS_UNIX)
		buf_printf(url, "http://mapmux");
	else
		buf_printf(url, strchr(host, ':') ? "http://[%s]:%s" : "http://%s:%s", host,
			address->port);
}

static struct str make_url(const struct peer *peer, struct str key, struct arena *mem)
{
	struct buf url = {.max = BODY_MAX};
	add_origin(&url, &peer->endpoint->address);
	buf_add(&url, STR("/v1/lookup/"));
	template_encode(peer->endpoint->table, &url);
	add_param(&url, "key", key);
	if (peer->user.len > 0)
		add_param(&url, "user", peer->user);
	if (peer->priv)
		add_param(&url, "scope", STR("priv"));
	if (peer->text)
		add_param(&url, "form", STR("text"));
	if (peer->trace)
		add_param(&url, "trace", STR("1"));
	struct str text = arena_str(mem, buf_str(&url));
	buf_free(&url);
	return text;
}

static size_t on_body(char *data, size_t one, size_t n, void *arg)
{
	struct buf *body = arg;
	(void)one;
	buf_add(body, (struct str){data, n});
	return body->overflow ? 0 : n;
}

/* A member of the object, as text; empty if there is none. */
static struct str member(struct str body, const char *pointer, struct arena *mem)
{
	const struct json_rules rules = {
		.form = FORM_JSON, .list_separator = STR(","), .pointer = pointer};
	struct str value;
	const char *why;
	if (json_value(body, &rules, mem, &value, &why) != ST_OK)
		return STR("");
	return arena_str(mem, value);
}

bool http_reply(struct str body, struct arena *mem, struct reply *reply)
{
	static const struct {
		const char *word;
		enum outcome outcome;
	} words[] = {{"ok", GOT_OK}, {"notfound", GOT_NOTFOUND}, {"temp", GOT_TEMP},
		{"perm", GOT_PERM}, {"uncertain", GOT_UNCERTAIN}, {"error", GOT_PERM}};
	size_t i = 0, n = sizeof(words) / sizeof(*words);
	if (!json_valid(body))
		return false;
	struct str status = member(body, "/status", mem);
	while (i < n && !str_eq(status, str_of(words[i].word)))
		i++;
	if (i == n)
		return false;
	*reply = (struct reply){.outcome = words[i].outcome,
		.why = member(body, "/reason", mem),
		.trace = member(body, "/trace", mem)};
	if (reply->outcome == GOT_OK) {
		struct str *value = arena_alloc(mem, sizeof(*value));
		*value = member(body, "/value", mem);
		reply->values = value;
		reply->nvalues = 1;
	}
	return true;
}

static CURL *open_handle(struct peer *peer)
{
	if (!peer->http)
		peer->http = curl_easy_init();
	return peer->http;
}

static struct curl_slist *prepare(const struct peer *peer, CURL *easy, struct arena *mem)
{
	const struct address *address = &peer->endpoint->address;
	struct curl_slist *headers = NULL;
	if (address->kind == ADDRESS_UNIX)
		curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, address->path);
	if (peer->token.len > 0)
		headers = curl_slist_append(NULL, arena_printf(mem, "Authorization: Bearer %.*s",
							  (int)peer->token.len, peer->token.ptr)
							  .ptr);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(easy, CURLOPT_PROXY, "");
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)peer->timeout_ms);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	return headers;
}

/* Curl's words, but for the one that people wait for. */
static bool explain(struct peer *peer, CURLcode code, const char *words)
{
	if (code == CURLE_OPERATION_TIMEDOUT)
		return error_set(
			&peer->error, "no answer within %lld ms", (long long)peer->timeout_ms);
	return error_set(&peer->error, "%s", words[0] ? words : curl_easy_strerror(code));
}

bool client_http_ask(struct peer *peer, struct str key, struct arena *mem, struct reply *reply)
{
	CURL *easy = open_handle(peer);
	char words[CURL_ERROR_SIZE] = "";
	struct buf body = {.max = BODY_MAX};
	if (!easy)
		return error_set(&peer->error, "libcurl does not work");
	struct curl_slist *headers = prepare(peer, easy, mem);
	curl_easy_setopt(easy, CURLOPT_URL, make_url(peer, key, mem).ptr);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, words);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, &body);
	CURLcode code = curl_easy_perform(easy);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, NULL);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, NULL);
	curl_slist_free_all(headers);
	bool ok = code == CURLE_OK ? http_reply(buf_str(&body), mem, reply) ||
					     error_set(&peer->error, "bad reply")
				   : explain(peer, code, words);
	buf_free(&body);
	return ok;
}

void client_http_close(struct peer *peer)
{
	if (peer->http)
		curl_easy_cleanup(peer->http);
	peer->http = NULL;
}
