/* Engine: HTTP requests by curl's multi interface on a worker's loop.
 *
 * What is dear is done once: easy handles are prepared for their table and used again, sockets stay
 * with the loop while curl keeps their connection, the loop's timer is set when it must fire earlier
 * and not when curl changes its mind, and what was started in a turn is set off together at its
 * end. */
#include "engine/http.h"

#include <assert.h>
#include <curl/curl.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "engine/http_url.h"

enum {
	KEEP_BODY = 64 * 1024, /* bytes of body buffer that an idle handle may keep */
	KEEP_IDLE = 256,       /* idle handles of a pool */
	MAX_REDIRECTS = 5,
	MAX_HEAD = 64 * 1024, /* bytes of a reply's header lines that are kept */
	STREAMS = 100,        /* requests a connection carries with HTTP/2 */
};

/* A descriptor that curl uses, or has used and keeps open. */
struct sock {
	struct http *http;
	struct event event;
	short watched; /* by the loop: EV_READ, EV_WRITE */
	bool used;     /* curl waits for it */
	bool talks;    /* HTTP/2: the peer may speak unasked */
	bool ours;     /* opened and closed through us: may stay watched while curl keeps it */
};

struct http {
	struct event_base *base;
	struct turn *turn;
	CURLM *multi;
	struct job kick; /* curl has something to do now */
	struct event timer;
	uint64_t due_ms;     /* when curl wants to be called; 0: never */
	uint64_t armed_ms;   /* when the timer fires; 0: it does not */
	struct sock **socks; /* by descriptor */
	size_t nsocks;
	long max_kept; /* connections */
};

TAILQ_HEAD(http_queue, http_fetch);

struct http_pool {
	struct http *http;
	const struct http_options *options;
	struct curl_slist *headers;
	SLIST_HEAD(, typed) typed;
	SLIST_HEAD(, http_transfer) idle;
	unsigned nidle, nbusy;
	unsigned limit;            /* of nbusy; 0: none */
	struct http_queue waiting; /* for nbusy to fall below the limit */
};

/* The headers of requests with a body. */
struct typed {
	const char *content_type;
	struct curl_slist *headers;
	SLIST_ENTRY(typed) link;
};

/* An easy handle with the options of its pool, and the request it carries. */
struct http_transfer {
	CURL *easy;
	struct http_pool *pool;
	struct http_fetch *fetch;
	struct http_url url;
	struct buf body;
	struct str unsent;      /* of fetch->send */
	unsigned hops;          /* redirects followed */
	bool plain;             /* set up for GET */
	struct curl_slist *own; /* headers of this request alone */
	bool alone;             /* on a connection of its own */
	bool head_ended;        /* of the reply: the blank line was seen */
	bool has_length;        /* its head says how long the body is: */
	bool unclear;           /* nothing that can be true, or several things */
	uint64_t length;
	struct buf head; /* its lines, if wanted */
	SLIST_ENTRY(http_transfer) link;
	char error[CURL_ERROR_SIZE];
};

static void collect(struct http *http);

/* ---- secrets ---- */

/* Requests under way in this thread whose bodies hold passwords. Curl copies bodies to where it likes: while
 * there are any, all memory that it gives back is overwritten. */
static _Thread_local unsigned secrets;

static void curl_free_block(void *block)
{
	if (secrets > 0 && block)
		explicit_bzero(block, malloc_usable_size(block));
	free(block);
}

static void *curl_grow_block(void *block, size_t size)
{
	if (secrets == 0 || !block)
		return realloc(block, size);
	size_t had = malloc_usable_size(block);
	void *to = malloc(size);
	if (to) {
		memcpy(to, block, had < size ? had : size);
		curl_free_block(block);
	}
	return to;
}

/* ---- sockets ---- */

/* What a peer says unasked (a second reply, "408 Request Timeout") curl would take for the answer to
 * its next request. An end without a byte before it makes curl open another connection instead. */
static void make_dead(int fd)
{
	char words[4096];
	shutdown(fd, SHUT_RDWR);
	for (int i = 0; i < 64 && recv(fd, words, sizeof(words), MSG_DONTWAIT) > 0; i++)
		;
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
	struct sock *sock = arg;
	struct http *http = sock->http;
	if (!sock->used) { /* curl keeps the connection, and the peer has closed it or talks */
		event_del(&sock->event);
		sock->watched = 0;
		if (!sock->talks)
			make_dead(fd);
		return;
	}
	int bits =
		(what & EV_READ ? CURL_CSELECT_IN : 0) | (what & EV_WRITE ? CURL_CSELECT_OUT : 0);
	int running;
	turn_enter(http->turn);
	curl_multi_socket_action(http->multi, fd, bits, &running);
	collect(http);
	turn_leave(http->turn);
}

static void watch(struct sock *sock, int fd, short what)
{
	if (sock->watched == what)
		return;
	if (sock->watched)
		event_del(&sock->event);
	sock->watched = what;
	if (!what)
		return;
	event_assign(
		&sock->event, sock->http->base, fd, (short)(what | EV_PERSIST), on_event, sock);
	event_add(&sock->event, NULL);
}

static struct sock *sock_of(struct http *http, int fd)
{
	size_t at = (size_t)fd;
	if (at >= http->nsocks) {
		size_t n = at + 64;
		http->socks = memory_grow(http->socks, n * sizeof(*http->socks));
		memset(http->socks + http->nsocks, 0, (n - http->nsocks) * sizeof(*http->socks));
		http->nsocks = n;
	}
	if (!http->socks[at]) {
		http->socks[at] = memory_new(sizeof(struct sock));
		http->socks[at]->http = http;
	}
	return http->socks[at];
}

/* Curl tells what it waits for. A kept connection stays with the loop: its next request finds it
 * there. */
static int on_interest(CURL *easy, curl_socket_t fd, int what, void *arg, void *mine)
{
	struct sock *sock = sock_of(arg, fd);
	short events = (short)((what & CURL_POLL_IN ? EV_READ : 0) |
			       (what & CURL_POLL_OUT ? EV_WRITE : 0));
	(void)easy;
	(void)mine;
	if (what == CURL_POLL_REMOVE) {
		sock->used = false;
		if (!sock->ours || sock->watched != EV_READ)
			watch(sock, fd, 0);
		return 0;
	}
	sock->used = true;
	watch(sock, fd, events);
	return 0;
}

static void sock_forget(struct sock *sock, int fd)
{
	watch(sock, fd, 0);
	sock->used = sock->ours = false;
}

/* A socket that never connected is closed without a word to us. When the attempt at the next address
 * gets the same number, curl believes it is watched already. */
static curl_socket_t on_open(void *arg, curlsocktype type, struct curl_sockaddr *address)
{
	struct http_pool *pool = arg;
	int fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
	(void)type;
	if (fd < 0)
		return CURL_SOCKET_BAD;
	struct sock *sock = sock_of(pool->http, fd);
	short still = sock->used ? sock->watched : 0;
	sock_forget(sock, fd);
	sock->ours = true;
	sock->talks = pool->options->http2;
	sock->used = still != 0;
	watch(sock, fd, still);
	return fd;
}

static int on_close(void *arg, curl_socket_t fd)
{
	sock_forget(sock_of(arg, fd), fd);
	return close(fd);
}

/* ---- the loop ---- */

static void on_kick(struct job *job)
{
	struct http *http = (struct http *)(void *)((char *)job - offsetof(struct http, kick));
	int running;
	curl_multi_socket_action(http->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	collect(http);
}

static void arm(struct http *http)
{
	uint64_t now = http->turn->now_ms;
	uint64_t left = http->due_ms > now ? http->due_ms - now : 0;
	struct timeval in = {(time_t)(left / 1000), (suseconds_t)(left % 1000 * 1000)};
	http->armed_ms = http->due_ms;
	evtimer_add(&http->timer, &in);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct http *http = arg;
	(void)fd;
	(void)what;
	turn_enter(http->turn);
	http->armed_ms = 0;
	if (http->due_ms > http->turn->now_ms) {
		arm(http);
	} else if (http->due_ms > 0) {
		http->due_ms = 0;
		on_kick(&http->kick);
	}
	turn_leave(http->turn);
}

/* Curl tells when it wants to be called. It does so for each request; the timer that is set stays
 * as it is, unless it would be late. */
static int on_timeout(CURLM *multi, long timeout_ms, void *arg)
{
	struct http *http = arg;
	(void)multi;
	http->due_ms = 0;
	if (timeout_ms == 0) {
		turn_add_job(http->turn, &http->kick, on_kick);
	} else if (timeout_ms > 0) {
		http->due_ms = http->turn->now_ms + (uint64_t)timeout_ms;
		if (http->armed_ms == 0 || http->due_ms < http->armed_ms)
			arm(http);
	}
	return 0;
}

static void init_curl(void)
{
	/* OpenSSL writes without MSG_NOSIGNAL, and CURLOPT_NOSIGNAL leaves the signal to us. */
	signal(SIGPIPE, SIG_IGN);
	if (curl_global_init_mem(CURL_GLOBAL_DEFAULT, malloc, curl_free_block, curl_grow_block,
		    strdup, calloc) != CURLE_OK)
		abort();
}

struct http *http_new(struct event_base *base, struct turn *turn)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, init_curl);
	struct http *http = memory_new(sizeof(*http));
	http->base = base;
	http->turn = turn;
	evtimer_assign(&http->timer, base, on_timer, http);
	http->multi = curl_multi_init();
	if (!http->multi)
		abort();
	curl_multi_setopt(http->multi, CURLMOPT_SOCKETFUNCTION, on_interest);
	curl_multi_setopt(http->multi, CURLMOPT_SOCKETDATA, http);
	curl_multi_setopt(http->multi, CURLMOPT_TIMERFUNCTION, on_timeout);
	curl_multi_setopt(http->multi, CURLMOPT_TIMERDATA, http);
	return http;
}

void http_free(struct http *http)
{
	curl_multi_cleanup(http->multi);
	turn_drop_job(&http->kick);
	evtimer_del(&http->timer);
	for (size_t i = 0; i < http->nsocks; i++) {
		if (http->socks[i])
			watch(http->socks[i], (int)i, 0);
		free(http->socks[i]);
	}
	free(http->socks);
	free(http);
}

/* ---- handles ---- */

static size_t on_body(char *data, size_t one, size_t n, void *arg)
{
	struct http_transfer *transfer = arg;
	struct buf *body = &transfer->body;
	(void)one;
	if (transfer->fetch->no_body)
		return n;
	if (body->len == 0) {
		curl_off_t whole = -1;
		curl_easy_getinfo(transfer->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &whole);
		if (whole > 0)
			buf_reserve(body, (size_t)whole);
	}
	if (!body->overflow)
		buf_add(body, (struct str){data, n});
	return body->overflow ? 0 : n;
}

/* Of several lengths curl takes the last, of "1, 3" or "1x" what it can read: a value would be cut and nobody
 * told (RFC 9112, 6.3). */
static void note_length(struct http_transfer *transfer, struct str line)
{
	static const struct str name = STR("Content-Length:");
	struct str rest = str_skip(line, name.len), each;
	bool more = line.len > name.len && strncasecmp(line.ptr, name.ptr, name.len) == 0;
	while (more) {
		uint64_t n = 0;
		more = str_cut(&rest, ',', &each);
		if (!str_u64(str_trim(each), &n) || (transfer->has_length && n != transfer->length))
			transfer->unclear = true;
		transfer->has_length = true;
		transfer->length = n;
	}
}

/* Curl takes a head that was cut for a whole reply, and then 404 or 200 for a word that stands. */
static size_t on_header(char *line, size_t one, size_t n, void *arg)
{
	struct http_transfer *transfer = arg;
	(void)one;
	if (str_starts((struct str){line, n}, STR("HTTP/"))) { /* perhaps behind a 100 Continue */
		transfer->head_ended = transfer->has_length = transfer->unclear = false;
		buf_reset(&transfer->head);
	} else if (n > 0 && (line[0] == '\r' || line[0] == '\n')) {
		transfer->head_ended = true;
	} else if (!transfer->head_ended) {
		if (n > 0 && (line[0] | 0x20) == 'c')
			note_length(transfer, (struct str){line, n});
		if (transfer->fetch->want_head)
			buf_add(&transfer->head, (struct str){line, n});
	}
	return n;
}

static size_t on_send(char *to, size_t one, size_t n, void *arg)
{
	struct http_transfer *transfer = arg;
	size_t some = transfer->unsent.len < one * n ? transfer->unsent.len : one * n;
	if (some > 0)
		memcpy(to, transfer->unsent.ptr, some);
	transfer->unsent = str_skip(transfer->unsent, some);
	return some;
}

/* Curl sends a request again, whatever its method, when a kept connection dies before it answers.
 * It must read the body again for that. */
static int on_rewind(void *arg, curl_off_t offset, int origin)
{
	struct http_transfer *transfer = arg;
	if (transfer->fetch->once || origin != SEEK_SET || offset != 0)
		return CURL_SEEKFUNC_FAIL;
	transfer->unsent = transfer->fetch->send;
	return CURL_SEEKFUNC_OK;
}

static void prepare_tls(CURL *easy, const struct http_options *options)
{
	if (options->skip_tls_verify) {
		curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
		curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
	}
	if (options->ca_file) { /* instead of the system's, not besides */
		curl_easy_setopt(easy, CURLOPT_CAINFO, options->ca_file);
		curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
	}
	if (options->client_cert)
		curl_easy_setopt(easy, CURLOPT_SSLCERT, options->client_cert);
	if (options->client_key)
		curl_easy_setopt(easy, CURLOPT_SSLKEY, options->client_key);
	curl_easy_setopt(easy, CURLOPT_CA_CACHE_TIMEOUT, 60L);
}

static void prepare_road(CURL *easy, struct http_pool *pool, const struct http_options *options)
{
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, pool);
	curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, on_close);
	curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, pool->http); /* it outlives the pool */
	/* Neither of these from the environment. */
	curl_easy_setopt(easy, CURLOPT_PROXY, options->proxy ? options->proxy : "");
	curl_easy_setopt(easy, CURLOPT_NOPROXY, "");
	if (options->unix_socket)
		curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, options->unix_socket);
	if (options->connect_timeout_ms > 0)
		curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, options->connect_timeout_ms);
	/* One burst of new connections asks the name service once. */
	curl_easy_setopt(easy, CURLOPT_DNS_CACHE_TIMEOUT, 1L);
	/* A cancelled transfer does not wait for its resolver thread. */
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
}

static void prepare(struct http_transfer *transfer)
{
	struct http_pool *pool = transfer->pool;
	const struct http_options *options = pool->options;
	CURL *easy = transfer->easy;
	curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->error);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_send);
	curl_easy_setopt(easy, CURLOPT_READDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, on_rewind);
	curl_easy_setopt(easy, CURLOPT_SEEKDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, pool->headers);
	if (options->basic_auth)
		curl_easy_setopt(easy, CURLOPT_USERPWD, options->basic_auth);
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(easy, CURLOPT_PIPEWAIT, options->http2 ? 1L : 0L);
	prepare_road(easy, pool, options);
	prepare_tls(easy, options);
}

static struct http_transfer *transfer_new(struct http_pool *pool)
{
	struct http_transfer *transfer = SLIST_FIRST(&pool->idle);
	if (transfer) {
		SLIST_REMOVE_HEAD(&pool->idle, link);
		pool->nidle--;
		return transfer;
	}
	transfer = memory_new(sizeof(*transfer));
	transfer->pool = pool;
	transfer->plain = true;
	transfer->body.max = pool->options->max_body;
	transfer->head.max = MAX_HEAD;
	transfer->easy = curl_easy_init();
	if (!transfer->easy)
		abort();
	prepare(transfer);
	return transfer;
}

static void transfer_free(struct http_transfer *transfer)
{
	curl_easy_cleanup(transfer->easy);
	http_url_free(&transfer->url);
	buf_free(&transfer->body);
	buf_free(&transfer->head);
	free(transfer);
}

/* The next user of the handle sets his own. */
static void drop_headers(struct http_transfer *transfer)
{
	curl_easy_setopt(transfer->easy, CURLOPT_HTTPHEADER, transfer->pool->headers);
	curl_slist_free_all(transfer->own);
	transfer->own = NULL;
	transfer->plain = false;
}

/* Back to its pool; it is not with the multi handle any more. */
static void transfer_release(struct http_transfer *transfer)
{
	struct http_pool *pool = transfer->pool;
	bool secret = transfer->fetch->secret;
	transfer->fetch->pool = NULL;
	transfer->fetch->transfer = NULL;
	transfer->fetch = NULL;
	transfer->hops = 0;
	if (transfer->own)
		drop_headers(transfer);
	pool->nbusy--;
	if (secret || pool->nidle >= KEEP_IDLE) {
		transfer_free(transfer);
		secrets -= secret;
		return;
	}
	if (transfer->body.size > KEEP_BODY)
		buf_free(&transfer->body);
	buf_reset(&transfer->body);
	buf_reset(&transfer->head);
	SLIST_INSERT_HEAD(&pool->idle, transfer, link);
	pool->nidle++;
}

/* ---- pools ---- */

static struct curl_slist *header_add(struct curl_slist *headers, const char *header)
{
	headers = curl_slist_append(headers, header);
	if (!headers)
		abort();
	return headers;
}

static bool names_same(const char *a, const char *b)
{
	size_t n = strcspn(a, ":;");
	return n == strcspn(b, ":;") && strncasecmp(a, b, n) == 0;
}

/* As one of the headers, which libcurl formats once less than what it is told as user agent. */
static void add_user_agent(struct http_pool *pool, const char *name)
{
	struct arena mem = {0};
	for (struct curl_slist *each = pool->headers; each; each = each->next)
		if (names_same(each->data, "User-Agent"))
			return;
	pool->headers = header_add(pool->headers, arena_printf(&mem, "User-Agent: %s", name).ptr);
	arena_clear(&mem);
}

struct http_pool *http_pool_new(struct http *http, const struct http_options *options)
{
	struct http_pool *pool = memory_new(sizeof(*pool));
	pool->http = http;
	pool->options = options;
	SLIST_INIT(&pool->typed);
	SLIST_INIT(&pool->idle);
	TAILQ_INIT(&pool->waiting);
	pool->limit = (unsigned)options->max_connections * (options->http2 ? STREAMS : 1);
	for (size_t i = 0; options->headers && options->headers[i]; i++)
		pool->headers = header_add(pool->headers, options->headers[i]);
	if (options->user_agent)
		add_user_agent(pool, options->user_agent);
	http->max_kept += options->max_connections > 0 ? options->max_connections : 1024;
	curl_multi_setopt(http->multi, CURLMOPT_MAXCONNECTS, http->max_kept);
	return pool;
}

void http_pool_free(struct http_pool *pool)
{
	struct http_transfer *transfer;
	struct typed *typed;
	assert(pool->nbusy == 0 && TAILQ_EMPTY(&pool->waiting));
	while ((transfer = SLIST_FIRST(&pool->idle))) {
		SLIST_REMOVE_HEAD(&pool->idle, link);
		transfer_free(transfer);
	}
	while ((typed = SLIST_FIRST(&pool->typed))) {
		SLIST_REMOVE_HEAD(&pool->typed, link);
		curl_slist_free_all(typed->headers);
		free(typed);
	}
	curl_slist_free_all(pool->headers);
	free(pool);
}

/* The pool's headers and those of a body; made once for each type. */
static struct curl_slist *headers_with_body(struct http_pool *pool, const char *content_type)
{
	struct typed *typed;
	SLIST_FOREACH (typed, &pool->typed, link)
		if (strcmp(typed->content_type, content_type) == 0)
			return typed->headers;
	struct arena mem = {0};
	typed = memory_new(sizeof(*typed));
	typed->content_type = content_type;
	for (struct curl_slist *each = pool->headers; each; each = each->next)
		typed->headers = header_add(typed->headers, each->data);
	typed->headers = header_add(
		typed->headers, arena_printf(&mem, "Content-Type: %s", content_type).ptr);
	typed->headers = header_add(typed->headers, "Expect:"); /* no pause for a 100 Continue */
	arena_clear(&mem);
	SLIST_INSERT_HEAD(&pool->typed, typed, link);
	return typed->headers;
}

/* ---- fetches ---- */

/* One of the same name in the request's own goes before the pool's. */
static bool is_replaced(const char *header, const struct http_fetch *fetch)
{
	for (size_t i = 0; fetch->headers[i]; i++)
		if (names_same(fetch->headers[i], header))
			return true;
	return false;
}

static struct curl_slist *own_headers(const struct http_pool *pool, const struct http_fetch *fetch)
{
	struct curl_slist *headers = NULL;
	for (struct curl_slist *each = pool->headers; each; each = each->next)
		if (!is_replaced(each->data, fetch))
			headers = header_add(headers, each->data);
	if (fetch->content_type) {
		struct arena mem = {0};
		const char *type = arena_printf(&mem, "Content-Type: %s", fetch->content_type).ptr;
		if (!is_replaced(type, fetch))
			headers = header_add(headers, type);
		headers = header_add(headers, "Expect:");
		arena_clear(&mem);
	}
	for (size_t i = 0; fetch->headers[i]; i++)
		headers = header_add(headers, fetch->headers[i]);
	return headers;
}

static bool is_plain(const struct http_fetch *fetch)
{
	return !fetch->content_type && !fetch->once && !fetch->headers &&
	       strcmp(fetch->method, "GET") == 0;
}

static void set_method(struct http_transfer *transfer, const struct http_fetch *fetch)
{
	CURL *easy = transfer->easy;
	bool body = fetch->content_type != NULL, plain = is_plain(fetch);
	if (plain && transfer->plain)
		return;
	transfer->plain = plain;
	if (body) {
		transfer->unsent = fetch->send;
		curl_easy_setopt(easy, CURLOPT_POST, 1L);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDS, fetch->once ? NULL : fetch->send.ptr);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)fetch->send.len);
	} else {
		curl_easy_setopt(easy, CURLOPT_POSTFIELDS, NULL);
		curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
	}
	curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, plain ? NULL : fetch->method);
	if (fetch->headers)
		transfer->own = own_headers(transfer->pool, fetch);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER,
		fetch->headers ? transfer->own
		: body         ? headers_with_body(transfer->pool, fetch->content_type)
			       : transfer->pool->headers);
}

/* libcurl 7.88 begins HTTP/2 anew in each request of a connection without TLS; the server hangs up.
 * https://github.com/curl/curl/issues/10634 */
bool http_can_keep_h2c(void)
{
	unsigned version = curl_version_info(CURLVERSION_NOW)->version_num;
	return version < 0x075800 || version >= 0x080000;
}

static void set_url(struct http_transfer *transfer, const char *url)
{
	const struct http_fetch *fetch = transfer->fetch;
	bool http2 = transfer->pool->options->http2 && !fetch->secret; /* nghttp2 keeps bodies */
	bool tls = http2 && strncasecmp(url, "https:", 6) == 0;
	/* Without a body, or with an empty one, nothing else stops curl from sending a second time. */
	bool bare = !fetch->content_type || fetch->send.len == 0;
	bool alone = (fetch->once && bare) || (http2 && !tls && !http_can_keep_h2c());
	http_url_set(&transfer->url, transfer->easy, url);
	if (http2)
		curl_easy_setopt(transfer->easy, CURLOPT_HTTP_VERSION,
			(long)(tls ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE));
	else if (fetch->secret)
		curl_easy_setopt(transfer->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	if (alone == transfer->alone)
		return;
	transfer->alone = alone;
	curl_easy_setopt(transfer->easy, CURLOPT_FRESH_CONNECT, alone ? 1L : 0L);
	curl_easy_setopt(transfer->easy, CURLOPT_FORBID_REUSE, alone ? 1L : 0L);
}

static void begin(struct http_pool *pool, struct http_fetch *fetch)
{
	struct http_transfer *transfer = transfer_new(pool);
	pool->nbusy++;
	transfer->fetch = fetch;
	transfer->head_ended = false;
	transfer->body.wipe = fetch->secret;
	secrets += fetch->secret;
	fetch->transfer = transfer;
	set_url(transfer, fetch->url);
	set_method(transfer, fetch);
	if (curl_multi_add_handle(pool->http->multi, transfer->easy) != CURLM_OK)
		abort(); /* no memory */
}

static void tell_request(const struct http_fetch *fetch)
{
	query_note(fetch->asker, "request", "%s %s", fetch->method,
		fetch->shown ? fetch->shown : http_url_public(fetch->url, fetch->mem).ptr);
}

static bool is_told(const struct http_fetch *fetch)
{
	return fetch->asker && fetch->asker->trace;
}

void http_start(struct http_pool *pool, struct http_fetch *fetch)
{
	assert(!fetch->pool);
	fetch->pool = pool;
	fetch->transfer = NULL;
	if (is_told(fetch))
		tell_request(fetch);
	if (pool->limit == 0 || pool->nbusy < pool->limit) {
		begin(pool, fetch);
		return;
	}
	fetch->url = arena_str(fetch->mem, str_of(fetch->url)).ptr;
	if (is_told(fetch))
		query_note(fetch->asker, "waits", "%u requests are under way", pool->nbusy);
	TAILQ_INSERT_TAIL(&pool->waiting, fetch, link);
}

static void begin_waiting(struct http_pool *pool)
{
	struct http_fetch *next = TAILQ_FIRST(&pool->waiting);
	if (!next || pool->nbusy >= pool->limit)
		return;
	TAILQ_REMOVE(&pool->waiting, next, link);
	begin(pool, next);
}

void http_cancel(struct http_fetch *fetch)
{
	struct http_pool *pool = fetch->pool;
	if (!pool)
		return;
	if (!fetch->transfer) {
		TAILQ_REMOVE(&pool->waiting, fetch, link);
		fetch->pool = NULL;
		return;
	}
	curl_multi_remove_handle(pool->http->multi, fetch->transfer->easy);
	transfer_release(fetch->transfer);
	begin_waiting(pool);
}

/* ---- replies ---- */

/* Asks where a redirect points to, when it is no other host and does not change the method. */
static bool follow(struct http_transfer *transfer, long status)
{
	bool keeps_method = status == 307 || status == 308;
	bool get = strcmp(transfer->fetch->method, "GET") == 0;
	char *to = NULL;
	if (!transfer->pool->options->follow_redirects || transfer->hops >= MAX_REDIRECTS)
		return false;
	if (!keeps_method && !(get && (status == 301 || status == 302 || status == 303)))
		return false;
	curl_easy_getinfo(transfer->easy, CURLINFO_REDIRECT_URL, &to);
	if (!to || !http_url_is_near(&transfer->url, to))
		return false;
	if (is_told(transfer->fetch))
		query_note(transfer->fetch->asker, "redirect", "HTTP status %ld to %s", status,
			http_url_public(to, transfer->fetch->mem).ptr);
	struct arena mem = {0};
	transfer->hops++;
	transfer->head_ended = false;
	transfer->unsent = transfer->fetch->send;
	buf_reset(&transfer->body);
	set_url(transfer, arena_str(&mem, str_of(to)).ptr);
	arena_clear(&mem);
	if (curl_multi_add_handle(transfer->pool->http->multi, transfer->easy) != CURLM_OK)
		abort();
	return true;
}

/* Curl's words, fit for one line of a log. */
static struct str explain(struct http_transfer *transfer, CURLcode code)
{
	const char *words = transfer->error[0] ? transfer->error : curl_easy_strerror(code);
	struct str why = arena_str(transfer->fetch->mem, str_of(words));
	for (char *p = (char *)why.ptr; *p; p++)
		if (*p < 0x20 || *p > 0x7e)
			*p = '?';
	return why;
}

static void tell_reply(struct http_transfer *transfer, long status)
{
	char *peer = NULL;
	long port = 0, fresh = 0;
	curl_easy_getinfo(transfer->easy, CURLINFO_PRIMARY_IP, &peer);
	curl_easy_getinfo(transfer->easy, CURLINFO_PRIMARY_PORT, &port);
	curl_easy_getinfo(transfer->easy, CURLINFO_NUM_CONNECTS, &fresh);
	if (status == 0)
		query_note(transfer->fetch->asker, "no reply", "%s",
			transfer->error[0] ? transfer->error : "");
	else
		query_note(transfer->fetch->asker, "reply",
			"HTTP status %ld, %zu bytes, %s connection to %s port %ld", status,
			transfer->body.len, fresh > 0 ? "new" : "kept", peer ? peer : "", port);
}

static void set_result(struct http_transfer *transfer, CURLcode code)
{
	struct http_fetch *fetch = transfer->fetch;
	long status = 0, sent = 0;
	curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
	fetch->status = (int)status;
	if (is_told(fetch))
		tell_reply(transfer, status);
	if (code == CURLE_OK && (!transfer->head_ended || status < 200)) {
		fetch->result = HTTP_BROKEN;
		fetch->why = STR("the reply ended within its head");
		return;
	}
	if (code == CURLE_OK && transfer->unclear) {
		fetch->result = HTTP_BROKEN;
		fetch->why = STR("the reply does not say clearly how long it is");
		return;
	}
	if (code == CURLE_OK) {
		fetch->result = HTTP_REPLY;
		fetch->body = arena_str(fetch->mem, buf_str(&transfer->body));
		fetch->head = arena_str(fetch->mem, buf_str(&transfer->head));
		return;
	}
	if (transfer->body.overflow) {
		fetch->result = HTTP_TOO_LARGE;
		fetch->why =
			arena_printf(fetch->mem, "the reply is over %zu bytes", transfer->body.max);
		return;
	}
	curl_easy_getinfo(transfer->easy, CURLINFO_REQUEST_SIZE, &sent);
	fetch->result = sent > 0 ? HTTP_BROKEN : HTTP_UNREACHABLE;
	fetch->why = explain(transfer, code);
}

static void finish(struct http_transfer *transfer, CURLcode code)
{
	struct http_pool *pool = transfer->pool;
	struct http_fetch *fetch = transfer->fetch;
	long status = 0;
	if (code == CURLE_OK && pool->options->follow_redirects) {
		curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
		if (status / 100 == 3 && transfer->head_ended && follow(transfer, status))
			return;
	}
	set_result(transfer, code);
	transfer_release(transfer);
	begin_waiting(pool);
	fetch->done(fetch);
}

/* done() is called here and nowhere else. It may start and cancel fetches. */
static void collect(struct http *http)
{
	CURLMsg *message;
	int left;
	while ((message = curl_multi_info_read(http->multi, &left))) {
		struct http_transfer *transfer = NULL;
		CURL *easy = message->easy_handle;
		CURLcode code = message->data.result; /* gone with the handle */
		curl_easy_getinfo(easy, CURLINFO_PRIVATE, &transfer);
		curl_multi_remove_handle(http->multi, easy);
		finish(transfer, code);
	}
}
