/*
 * The bare libcurl loop: GET requests through a multi handle driven by epoll, with no front end.
 * What it reaches is the price of libcurl; what mapmux costs above it is mapmux's own.
 *
 * It is written as libcurl's manual asks for it: socket and timer callbacks,
 * curl_multi_socket_action for each event, easy handles and connections kept, nothing allocated
 * for each request. It neither skips what a server would need (status and body are looked at)
 * nor plays tricks on libcurl.
 */
#include "bench_net.h"

#include <curl/curl.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <unistd.h>

#define MAX_EVENTS 256
#define MAX_BODY 4096
#define MAX_URL 2048

struct transfer {
	CURL *easy;
	size_t body_len;
	char body[MAX_BODY];
};

static struct {
	const char *head, *tail; /* the template before and after the key's place */
	size_t head_len;
	size_t in_flight;
	size_t keys;
	uint64_t run_ns, warmup_ns;
} opt = {
	.in_flight = 10,
	.keys = 1000,
	.run_ns = 2 * NS_PER_S,
	.warmup_ns = NS_PER_S / 10,
};

static int epfd;
static CURLM *multi;
static uint64_t timer_at; /* when libcurl wants to be called; 0: not */
static size_t next_key;
static uint64_t measure_from, deadline;
static uint64_t done, errors, connects;      /* of the whole run */
static uint64_t measured, measured_connects; /* of the measured time */
static size_t active;

static void check_multi(CURLMcode code, const char *what)
{
	if (code != CURLM_OK)
		fail("%s: %s", what, curl_multi_strerror(code));
}

static void check_easy(CURLcode code, const char *what)
{
	if (code != CURLE_OK)
		fail("%s: %s", what, curl_easy_strerror(code));
}

/* libcurl tells which events of a socket it waits for; the socket's data remembers that epoll
 * knows it already. */
static int on_socket(CURL *easy, curl_socket_t fd, int what, void *userp, void *known)
{
	static char yes;
	struct epoll_event ev = {.data.fd = fd};

	(void)easy;
	(void)userp;
	if (what == CURL_POLL_REMOVE) {
		if (known && epoll_ctl(epfd, EPOLL_CTL_DEL, fd, NULL) < 0 && errno != EBADF)
			fail("epoll_ctl: %s", strerror(errno));
		return 0;
	}
	if (what & CURL_POLL_IN)
		ev.events |= EPOLLIN;
	if (what & CURL_POLL_OUT)
		ev.events |= EPOLLOUT;
	if (epoll_ctl(epfd, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &ev) < 0)
		fail("epoll_ctl: %s", strerror(errno));
	if (!known)
		curl_multi_assign(multi, fd, &yes);
	return 0;
}

static int on_timer(CURLM *m, long timeout_ms, void *userp)
{
	(void)m;
	(void)userp;
	timer_at = timeout_ms < 0 ? 0 : now_ns() + (uint64_t)timeout_ms * 1000000;
	return 0;
}

static size_t on_body(char *data, size_t size, size_t n, void *userp)
{
	struct transfer *t = userp;

	n *= size;
	if (n > MAX_BODY - t->body_len)
		return 0;
	memcpy(t->body + t->body_len, data, n);
	t->body_len += n;
	return n;
}

static void start_transfer(struct transfer *t)
{
	char url[MAX_URL];

	snprintf(url, sizeof(url), "%.*sk%zu%s", (int)opt.head_len, opt.head, next_key, opt.tail);
	if (++next_key == opt.keys)
		next_key = 0;
	t->body_len = 0;
	check_easy(curl_easy_setopt(t->easy, CURLOPT_URL, url), "CURLOPT_URL");
	check_multi(curl_multi_add_handle(multi, t->easy), "curl_multi_add_handle");
	active++;
}

static void finish_transfer(CURL *easy, CURLcode result)
{
	struct transfer *t;
	char *private;
	long status = 0;
	long opened = 0;
	uint64_t now = now_ns();

	check_easy(curl_easy_getinfo(easy, CURLINFO_PRIVATE, &private), "CURLINFO_PRIVATE");
	t = (struct transfer *)private;
	curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(easy, CURLINFO_NUM_CONNECTS, &opened);
	check_multi(curl_multi_remove_handle(multi, easy), "curl_multi_remove_handle");
	active--;
	done++;
	connects += (uint64_t)opened;
	if (result != CURLE_OK || status != 200 || t->body_len == 0) {
		if (!errors++)
			fprintf(stderr, "curlloop: %s, status %ld\n", curl_easy_strerror(result),
				status);
		/* A server that is gone would be asked in a tight loop. */
		if (errors > 1000)
			fail("curlloop: too many errors");
	} else if (now >= measure_from && now < deadline) {
		measured++;
		measured_connects += (uint64_t)opened;
	}
	if (now < deadline)
		start_transfer(t);
}

static void take_finished(void)
{
	CURLMsg *msg;
	int left;

	while ((msg = curl_multi_info_read(multi, &left)))
		if (msg->msg == CURLMSG_DONE)
			finish_transfer(msg->easy_handle, msg->data.result);
}

static int wait_ms(void)
{
	uint64_t now;

	if (!timer_at)
		return 1000;
	now = now_ns();
	return now >= timer_at ? 0 : (int)((timer_at - now + 999999) / 1000000);
}

static void run_loop(void)
{
	struct epoll_event events[MAX_EVENTS];
	int running;

	while (active) {
		int n = epoll_wait(epfd, events, MAX_EVENTS, wait_ms());

		if (n < 0 && errno != EINTR)
			fail("epoll_wait: %s", strerror(errno));
		for (int i = 0; i < n; i++) {
			int what = 0;

			if (events[i].events & EPOLLIN)
				what |= CURL_CSELECT_IN;
			if (events[i].events & EPOLLOUT)
				what |= CURL_CSELECT_OUT;
			if (events[i].events & (EPOLLERR | EPOLLHUP))
				what |= CURL_CSELECT_ERR;
			check_multi(
				curl_multi_socket_action(multi, events[i].data.fd, what, &running),
				"curl_multi_socket_action");
		}
		take_finished();
		if (timer_at && now_ns() >= timer_at) {
			timer_at = 0;
			check_multi(
				curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running),
				"curl_multi_socket_action");
			take_finished();
		}
	}
}

static void open_transfer(struct transfer *t)
{
	t->easy = curl_easy_init();
	if (!t->easy)
		fail("curl_easy_init failed");
	check_easy(curl_easy_setopt(t->easy, CURLOPT_PRIVATE, (void *)t), "CURLOPT_PRIVATE");
	curl_easy_setopt(t->easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(t->easy, CURLOPT_WRITEDATA, (void *)t);
	curl_easy_setopt(t->easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(t->easy, CURLOPT_TIMEOUT_MS, 10000L);
	curl_easy_setopt(t->easy, CURLOPT_PROXY, "");
	curl_easy_setopt(t->easy, CURLOPT_USERAGENT, "curlloop");
	curl_easy_setopt(t->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
}

static void parse_template(const char *text)
{
	const char *place = strstr(text, "{}");

	opt.head = text;
	opt.head_len = place ? (size_t)(place - text) : strlen(text);
	opt.tail = place ? place + 2 : NULL;
	if (!place)
		fail("%s: the template needs a {} for the key", text);
	if (strlen(text) + 32 > MAX_URL)
		fail("the template is too long");
}

static void parse_options(int argc, char **argv)
{
	static const struct option options[] = {
		{"in-flight", required_argument, NULL, 'n'},
		{"seconds", required_argument, NULL, 's'},
		{"warmup", required_argument, NULL, 'w'},
		{"keys", required_argument, NULL, 'k'},
		{NULL, 0, NULL, 0},
	};
	static const char usage[] = "usage: curlloop URL_TEMPLATE [--in-flight N] [--seconds S] "
				    "[--warmup S] [--keys N]";
	int o;

	while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (o) {
		case 'n':
			opt.in_flight = (size_t)parse_number("--in-flight", optarg, 1, 10000);
			break;
		case 's':
			opt.run_ns = (uint64_t)(parse_number("--seconds", optarg, 0, 86400) * 1e9);
			break;
		case 'w':
			opt.warmup_ns = (uint64_t)(parse_number("--warmup", optarg, 0, 3600) * 1e9);
			break;
		case 'k':
			opt.keys = (size_t)parse_number("--keys", optarg, 1, 1e9);
			break;
		default:
			fail("%s", usage);
		}
	}
	if (argc - optind != 1)
		fail("%s", usage);
	parse_template(argv[optind]);
}

int main(int argc, char **argv)
{
	struct transfer *transfers;
	double cpu, seconds;

	parse_options(argc, argv);
	raise_fd_limit(opt.in_flight + 32);
	signal(SIGPIPE, SIG_IGN);
	epfd = epoll_create1(EPOLL_CLOEXEC);
	if (epfd < 0)
		fail("epoll_create1: %s", strerror(errno));
	check_easy(curl_global_init(CURL_GLOBAL_ALL), "curl_global_init");
	multi = curl_multi_init();
	if (!multi)
		fail("curl_multi_init failed");
	curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer);
	/* Room for every connection: a smaller cache would close some between two transfers. */
	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long)opt.in_flight);
	transfers = alloc_zeroed(opt.in_flight, sizeof(*transfers));
	for (size_t i = 0; i < opt.in_flight; i++)
		open_transfer(&transfers[i]);
	measure_from = now_ns() + opt.warmup_ns;
	deadline = measure_from + opt.run_ns;
	cpu = cpu_us();
	for (size_t i = 0; i < opt.in_flight; i++)
		start_transfer(&transfers[i]);
	run_loop();
	cpu = cpu_us() - cpu;
	seconds = (double)opt.run_ns / 1e9;
	printf("{\"requests\":%llu,\"seconds\":%.4f,\"rate\":%.1f,\"cpu_us_per_request\":%.3f,"
	       "\"connects\":%llu,\"connects_measured\":%llu,\"answers\":%llu,\"errors\":%llu}\n",
		(unsigned long long)measured, seconds, seconds > 0 ? (double)measured / seconds : 0,
		done ? cpu / (double)done : 0, (unsigned long long)connects,
		(unsigned long long)measured_connects, (unsigned long long)done,
		(unsigned long long)errors);
	for (size_t i = 0; i < opt.in_flight; i++)
		curl_easy_cleanup(transfers[i].easy);
	curl_multi_cleanup(multi);
	curl_global_cleanup();
	free(transfers);
	return errors ? 1 : 0;
}
