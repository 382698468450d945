/* An http listener: evhttp's connections and requests.
 *
 * evhttp accepts, reads and writes; it does not read while a request waits for its answer. So that a
 * client who leaves meanwhile is noticed, such a request watches its descriptor itself. Everything evhttp
 * calls stands in a turn, like every other callback of the loop. */
#include "web/web.h"

#include <assert.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "front/front_http.h"
#include "web/web_request.h"

enum {
	MAX_DOORS = 8,           /* as many as a listener has */
	MAX_HEADERS = 16 * 1024, /* bytes of a request's head */
	LOOK_MS = 1000,          /* until a door is tried again that had no descriptor left */
	COMPLAINT_MS = 1000,
};

/* A client. */
struct guest {
	struct web *web;
	struct bufferevent *io;
	struct event *greet;
	LIST_ENTRY(guest) link;
};

struct web {
	struct crew *crew;
	struct worker *home;
	const struct listen_conf *conf;
	struct table_set *tables; /* kept: the settings live as long as they do */
	const char *name;
	struct windows *failures;
	unsigned protocol;

	struct evhttp *http;
	struct evconnlistener *doors[MAX_DOORS];
	size_t ndoors;
	struct event *look;
	bool draining, deaf, full;
	LIST_HEAD(, guest) guests;
	LIST_HEAD(, web_request) requests;

	struct listener_stats stats;
	_Atomic unsigned open;
	_Atomic uint64_t accepted, answered;
	struct log_limit complaints;
};

/* ---- for the routes ---- */

struct worker *web_worker(const struct web_request *request)
{
	return request->web->home;
}

struct crew *web_crew(const struct web_request *request)
{
	return request->web->crew;
}

struct table_set *web_tables(const struct web_request *request)
{
	return request->web->tables;
}

const struct listen_conf *web_conf(const struct web_request *request)
{
	return request->web->conf;
}

const char *web_name(const struct web_request *request)
{
	return request->web->name;
}

struct windows *web_failures(const struct web_request *request)
{
	return request->web->failures;
}

unsigned web_protocol(const struct web_request *request)
{
	return request->web->protocol;
}

/* ---- connections ---- */

static void open_doors(struct web *web)
{
	for (size_t i = 0; i < web->ndoors; i++)
		evconnlistener_enable(web->doors[i]);
}

static void shut_doors(struct web *web)
{
	for (size_t i = 0; i < web->ndoors; i++)
		evconnlistener_disable(web->doors[i]);
}

/* Clients too many wait in the backlog, until one leaves or was silent too long. */
static void judge(struct web *web)
{
	uint64_t max = (uint64_t)web->conf->options.max_connections;
	bool full = max > 0 && atomic_load_explicit(&web->open, memory_order_relaxed) >= max;
	unsigned held;
	if (web->deaf || full == web->full)
		return;
	web->full = full;
	if (!full) {
		open_doors(web);
		return;
	}
	shut_doors(web);
	if (log_allowed(&web->complaints, COMPLAINT_MS, &held))
		log_warn(
			"%s: max_connections (%" PRIu64 ") are there: others wait", web->name, max);
}

/* Out of descriptors: the connection stays in the backlog, and we do not spin on it. evhttp has taken
 * the callback's argument for itself, so that the door is all we know. */
static void on_accept_error(struct evconnlistener *door, void *arg)
{
	int why = errno;
	(void)arg;
	if (why != EMFILE && why != ENFILE && why != ENOBUFS && why != ENOMEM)
		return;
	evconnlistener_disable(door);
	log_error("http: cannot accept: %s", strerror(why));
}

static void on_look(evutil_socket_t fd, short what, void *arg)
{
	struct web *web = arg;
	(void)fd;
	(void)what;
	if (!web->full)
		open_doors(web);
}

static void guest_free(struct guest *guest)
{
	struct web *web = guest->web;
	LIST_REMOVE(guest, link);
	if (guest->greet) {
		event_free(guest->greet);
		bufferevent_decref(guest->io);
	}
	worker_count(web->home, -1);
	atomic_fetch_sub_explicit(&web->open, 1, memory_order_relaxed);
	judge(web);
	free(guest);
}

static void on_close(struct evhttp_connection *connection, void *arg)
{
	(void)connection;
	guest_free(arg);
}

/* Learns when the client goes. evhttp gives its connection away with a request only; but it is what the
 * bufferevent's callbacks are called with. */
static void on_greet(evutil_socket_t fd, short what, void *arg)
{
	struct guest *guest = arg;
	void *connection = NULL;
	int on = 1;
	(void)fd;
	(void)what;
	bufferevent_getcb(guest->io, NULL, NULL, NULL, &connection);
	if (!connection) { /* gone already */
		guest_free(guest);
		return;
	}
	evhttp_connection_set_closecb(connection, on_close, guest);
	fd = bufferevent_getfd(guest->io);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (guest->web->draining)
		shutdown(fd, SHUT_RD);
	event_free(guest->greet);
	guest->greet = NULL;
	bufferevent_decref(guest->io);
}

/* evhttp has accepted somebody, and asks for what to read him with. */
static struct bufferevent *on_guest(struct event_base *base, void *arg)
{
	struct web *web = arg;
	struct guest *guest = memory_new(sizeof(*guest));
	guest->web = web;
	guest->io = bufferevent_socket_new(base, -1, 0); /* evhttp closes the descriptor */
	guest->greet = event_new(base, -1, 0, on_greet, guest);
	bufferevent_incref(guest->io);
	event_active(guest->greet, EV_TIMEOUT, 1);
	LIST_INSERT_HEAD(&web->guests, guest, link);
	worker_count(web->home, 1);
	stats_count(&web->accepted);
	atomic_fetch_add_explicit(&web->open, 1, memory_order_relaxed);
	judge(web);
	return guest->io;
}

/* ---- requests ---- */

static int descriptor_of(const struct web_request *request)
{
	struct evhttp_connection *connection = evhttp_request_get_connection(request->http);
	return bufferevent_getfd(evhttp_connection_get_bufferevent(connection));
}

static void unwatch(struct web_request *request)
{
	if (request->left)
		event_free(request->left);
	request->left = NULL;
}

static void request_free(struct web_request *request)
{
	unwatch(request);
	turn_drop_job(&request->watch);
	LIST_REMOVE(request, link);
	if (request->trace)
		trace_leave(request->trace);
	arena_clear(&request->mem);
	free(request);
}

static const char *phrase(int code)
{
	switch (code) {
	case 200:
		return "OK";
	case 400:
		return "Bad Request";
	case 401:
		return "Unauthorized";
	case 403:
		return "Forbidden";
	case 404:
		return "Not Found";
	case 405:
		return "Method Not Allowed";
	case 503:
		return "Service Unavailable";
	default:
		return "Internal Server Error";
	}
}

/* Only of what length the body would be: evhttp sends what it is given, and the client would take that for
 * the beginning of the next answer. */
static void leave_out(struct evkeyvalq *headers, struct evbuffer *body)
{
	char length[24];
	snprintf(length, sizeof(length), "%zu", evbuffer_get_length(body));
	evhttp_add_header(headers, "Content-Length", length);
	evbuffer_drain(body, evbuffer_get_length(body));
}

/* Takes `bytes`, the body. */
static void answer(struct web_request *request, int code, const char *type, struct evbuffer *bytes)
{
	struct evhttp_request *http = request->http;
	stats_count(&request->web->answered);
	if (!http) {
		evbuffer_free(bytes);
		request_free(request);
		return;
	}
	struct evkeyvalq *headers = evhttp_request_get_output_headers(http);
	evhttp_add_header(headers, "Content-Type", type);
	evhttp_add_header(headers, "Cache-Control", "no-store");
	evhttp_add_header(headers, "X-Content-Type-Options", "nosniff");
	if (code == 401)
		evhttp_add_header(headers, "WWW-Authenticate", "Bearer");
	if (request->allow)
		evhttp_add_header(headers, "Allow", request->allow);
	if (request->web->draining)
		evhttp_add_header(headers, "Connection", "close");
	if (evhttp_request_get_command(http) == EVHTTP_REQ_HEAD)
		leave_out(headers, bytes);
	unwatch(request); /* evhttp may be done with the connection before it returns */
	evhttp_send_reply(http, code, phrase(code), bytes);
	evbuffer_free(bytes);
	request_free(request);
}

void web_answer(struct web_request *request, int code, const char *type, struct str body)
{
	struct evbuffer *bytes = evbuffer_new();
	evbuffer_add(bytes, body.ptr, body.len);
	answer(request, code, type, bytes);
}

static void free_sent(const void *bytes, size_t n, void *arg)
{
	(void)n;
	(void)arg;
	free((void *)bytes);
}

/* A listing may be long: it is not copied. */
void web_answer_buf(struct web_request *request, int code, const char *type, struct buf *out)
{
	struct evbuffer *bytes = evbuffer_new();
	if (evbuffer_add_reference(bytes, out->ptr, out->len, free_sent, NULL) != 0)
		abort();
	*out = (struct buf){0};
	answer(request, code, type, bytes);
}

/* The client's end while a table lets him wait. Who only closes his own side has left too: that looks the
 * same. */
static void on_left(evutil_socket_t fd, short what, void *arg)
{
	struct web_request *request = arg;
	struct turn *turn = worker_turn(request->web->home);
	struct evhttp_connection *connection = evhttp_request_get_connection(request->http);
	(void)fd;
	(void)what;
	turn_enter(turn);
	unwatch(request);
	request->http = NULL;
	if (!web_abandon(request))
		request_free(request);
	evhttp_connection_free(connection);
	turn_leave(turn);
}

static enum web_method method_of(struct evhttp_request *http)
{
	switch (evhttp_request_get_command(http)) {
	case EVHTTP_REQ_GET:
	case EVHTTP_REQ_HEAD:
		return WEB_GET;
	case EVHTTP_REQ_PUT:
		return WEB_PUT;
	case EVHTTP_REQ_DELETE:
		return WEB_DELETE;
	case EVHTTP_REQ_POST:
		return WEB_POST;
	default:
		return WEB_OTHER;
	}
}

static struct str header(struct evhttp_request *http, const char *name)
{
	return str_of(evhttp_find_header(evhttp_request_get_input_headers(http), name));
}

static struct str token_of(struct evhttp_request *http)
{
	struct str text = header(http, "Authorization"), scheme;
	if (!str_cut(&text, ' ', &scheme) || scheme.len != 6 ||
		strncasecmp(scheme.ptr, "Bearer", 6) != 0)
		return STR("");
	return str_trim(text);
}

static void read_request(struct web_request *request, struct evhttp_request *http)
{
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(http);
	struct evbuffer *in = evhttp_request_get_input_buffer(http);
	size_t n = evbuffer_get_length(in);
	char *body = arena_alloc(&request->mem, n + 1);
	request->method = method_of(http);
	if (uri) {
		request->path = str_of(evhttp_uri_get_path(uri));
		request->params = str_of(evhttp_uri_get_query(uri));
	}
	request->token = token_of(http);
	request->host = header(http, "Host");
	request->origin = header(http, "Origin");
	evbuffer_copyout(in, body, n);
	request->body = (struct str){body, n};
}

/* At the end of the turn, when a table lets him wait. Figures come before long, and who pipes his request into
 * nc(1) closes his side with it: he is answered. While we drain, the client's end could not be told from
 * ours. */
static void watch(struct job *job)
{
	struct web_request *request =
		(struct web_request *)(void *)((char *)job - offsetof(struct web_request, watch));
	if (request->web->draining || request->query.phase == Q_IDLE)
		return;
	request->left = event_new(worker_base(request->web->home), descriptor_of(request),
		EV_CLOSED, on_left, request);
	event_add(request->left, NULL);
}

static void on_request(struct evhttp_request *http, void *arg)
{
	struct web *web = arg;
	struct turn *turn = worker_turn(web->home);
	struct web_request *request = memory_new(sizeof(*request));
	turn_enter(turn);
	request->web = web;
	request->http = http;
	LIST_INSERT_HEAD(&web->requests, request, link);
	read_request(request, http);
	turn_add_job(turn, &request->watch, watch);
	web_route(request);
	turn_leave(turn);
}

/* ---- life ---- */

static void configure(struct web *web)
{
	const struct listen_conf *conf = web->conf;
	const struct http_conf *http = conf->conf;
	int64_t idle = listen_idle_timeout(conf);
	struct timeval timeout = {(time_t)(idle / 1000), (suseconds_t)(idle % 1000 * 1000)};
	evhttp_set_timeout_tv(web->http, &timeout);
	evhttp_set_max_body_size(web->http, (ev_ssize_t)http->max_body);
	web->stats.address = conf->address_text;
}

struct web *web_open(struct crew *crew, struct worker *home, const struct listen_conf *conf,
	const char *name, struct windows *failures)
{
	struct web *web = memory_new(sizeof(*web));
	web->crew = crew;
	web->home = home;
	web->conf = conf;
	web->tables = worker_tables(home);
	table_set_keep(web->tables);
	web->name = name;
	web->failures = failures;
	web->protocol = codec_index(conf->codec);
	web->http = evhttp_new(worker_base(home));
	web->look = event_new(worker_base(home), -1, EV_PERSIST, on_look, web);
	event_add(web->look, &(struct timeval){LOOK_MS / 1000, LOOK_MS % 1000 * 1000L});
	web->stats = (struct listener_stats){.protocol = conf->codec->name, .open = &web->open};
	LIST_INSERT_HEAD(&worker_stats(home)->listeners, &web->stats, link);
	configure(web);
	evhttp_set_max_headers_size(web->http, MAX_HEADERS);
	evhttp_set_default_content_type(web->http, NULL);
	evhttp_set_allowed_methods(web->http,
		EVHTTP_REQ_GET | EVHTTP_REQ_HEAD | EVHTTP_REQ_PUT | EVHTTP_REQ_DELETE |
			EVHTTP_REQ_POST | EVHTTP_REQ_OPTIONS | EVHTTP_REQ_PATCH |
			EVHTTP_REQ_TRACE); /* the last three are told what else there is */
	evhttp_set_bevcb(web->http, on_guest, web);
	evhttp_set_gencb(web->http, on_request, web);
	return web;
}

void web_listen(struct web *web, int fd)
{
	assert(web->ndoors < MAX_DOORS);
	struct evconnlistener *door = evconnlistener_new(
		worker_base(web->home), NULL, NULL, LEV_OPT_CLOSE_ON_EXEC, 0, fd);
	evconnlistener_set_error_cb(door, on_accept_error);
	evhttp_bind_listener(web->http, door);
	web->doors[web->ndoors++] = door;
}

void web_reload(struct web *web, const struct listen_conf *conf)
{
	struct table_set *old = web->tables;
	web->conf = conf;
	web->tables = worker_tables(web->home);
	table_set_keep(web->tables);
	table_set_leave(old);
	configure(web);
	judge(web);
}

/* evhttp ends a listener with its descriptor, which is not ours to close: that is for the end. */
void web_deafen(struct web *web)
{
	event_del(web->look);
	shut_doors(web);
	web->deaf = true;
}

static bool is_busy(const struct web *web, int fd)
{
	const struct web_request *request;
	LIST_FOREACH (request, &web->requests, link)
		if (request->http && descriptor_of(request) == fd)
			return true;
	return false;
}

void web_drain(struct web *web)
{
	struct guest *guest;
	web->draining = true;
	LIST_FOREACH (guest, &web->guests, link) {
		int fd = bufferevent_getfd(guest->io);
		if (fd >= 0 && !is_busy(web, fd))
			shutdown(fd, SHUT_RD);
	}
}

void web_close(struct web *web)
{
	struct web_request *request, *next;
	struct guest *guest;
	for (request = LIST_FIRST(&web->requests); request; request = next) {
		next = LIST_NEXT(request, link);
		web_cancel(request);
		request_free(request);
	}
	web->deaf = true; /* nobody is let in for those that go now */
	evhttp_free(web->http);
	while ((guest = LIST_FIRST(&web->guests)))
		guest_free(guest); /* NOLINT(clang-analyzer-unix.Malloc): it unlinks itself */
	event_free(web->look);
	LIST_REMOVE(&web->stats, link);
	table_set_leave(web->tables);
	free(web);
}

unsigned web_connections(const struct web *web)
{
	return atomic_load_explicit(&web->open, memory_order_relaxed);
}

struct str web_summary(const struct web *web, struct arena *mem)
{
	return arena_printf(mem,
		"%s: connections %u, accepted %" PRIu64 ", requests answered %" PRIu64, web->name,
		web_connections(web), atomic_load_explicit(&web->accepted, memory_order_relaxed),
		atomic_load_explicit(&web->answered, memory_order_relaxed));
}
