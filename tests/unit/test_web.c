/* Tests of the http listener's parts: parameters, the survey of all workers, and its texts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "config/config.h"
#include "model/codec.h"
#include "text/address.h"
#include "text/json.h"
#include "web/survey.h"
#include "web/web_origin.h"
#include "web/web_params.h"
#include "web/web_text.h"

enum { WORKERS = 3 };

/* ---- parameters ---- */

static void decodes(const char *raw, bool is_param, const char *wanted)
{
	struct arena mem = {0};
	struct str text = {0};
	bool good = web_decode(str_of(raw), is_param, &mem, &text);
	assert_int_equal(good, wanted != NULL);
	if (wanted && !str_eq(text, str_of(wanted)))
		fail_msg("%s became %.*s", raw, (int)text.len, text.ptr);
	arena_clear(&mem);
}

static void percents_are_decoded(void **state)
{
	(void)state;
	decodes("", true, "");
	decodes("a%40b.c", true, "a@b.c");
	decodes("%c3%A4%2b", true, "\xc3\xa4+");
	decodes("a+b", true, "a b");
	decodes("a+b", false, "a+b");
	decodes("%", true, NULL);
	decodes("%4", true, NULL);
	decodes("ab%4", true, NULL);
	decodes("%4g", true, NULL);
	decodes("%g4", true, NULL);
	decodes("%00", true, NULL);
	decodes("%2500", true, "%00");
}

static void finds(const char *params, enum web_found wanted, const char *value)
{
	struct arena mem = {0};
	struct str text = {0};
	assert_int_equal(web_param(str_of(params), "key", &mem, &text), wanted);
	if (value)
		assert_true(str_eq(text, str_of(value)));
	arena_clear(&mem);
}

static void parameters_are_found(void **state)
{
	(void)state;
	finds("", WEB_ABSENT, NULL);
	finds("keys=1&xkey=2", WEB_ABSENT, NULL);
	finds("key=a", WEB_FOUND, "a");
	finds("key", WEB_FOUND, "");
	finds("user=u&key=a%26b=c", WEB_FOUND, "a&b=c");
	finds("%6bey=a", WEB_FOUND, "a");
	finds("&&key=&", WEB_FOUND, "");
	finds("key=a&key=a", WEB_MALFORMED, NULL);
	finds("key=%zz", WEB_MALFORMED, NULL);
	finds("user=%zz&key=1", WEB_FOUND, "1");
}

/* ---- browsers ---- */

static void hosts_that_nobody_else_owns(void **state)
{
	(void)state;
	assert_true(web_is_own_host(STR("")));
	assert_true(web_is_own_host(STR("127.0.0.1:10002")));
	assert_true(web_is_own_host(STR("192.0.2.255")));
	assert_true(web_is_own_host(STR("[::1]:10002")));
	assert_true(web_is_own_host(STR("localhost:10002")));
	assert_true(web_is_own_host(STR("mapmux")));
	assert_false(web_is_own_host(STR("evil.example:10002")));
	assert_false(web_is_own_host(STR("127.0.0.1.evil.example")));
	assert_false(web_is_own_host(STR("127.0.0.256")));
	assert_false(web_is_own_host(STR("localhost.")));
	assert_false(web_is_own_host(STR("127.0.0.1@evil.example")));
}

static void pages_of_the_same_host(void **state)
{
	const struct str host = STR("127.0.0.1:10002");
	(void)state;
	assert_true(web_is_own_page(STR(""), host));
	assert_true(web_is_own_page(STR("http://127.0.0.1:10002"), host));
	assert_true(web_is_own_page(STR("https://LOCALHOST:1"), STR("localhost:1")));
	assert_false(web_is_own_page(STR("null"), host));
	assert_false(web_is_own_page(STR("http://127.0.0.1:80"), host));
	assert_false(web_is_own_page(STR("http://evil.example"), host));
	assert_false(web_is_own_page(STR("http://evil.example"), STR("")));
}

/* ---- where no token is needed ---- */

static void local_addresses(void **state)
{
	static const struct {
		const char *text;
		bool local;
	} cases[] = {
		{"127.0.0.1:80", true},
		{"127.9.9.9:80", true},
		{"[::1]:80", true},
		{"localhost:80", true},
		{"unix:/run/x", true},
		{":80", false},
		{"0.0.0.0:80", false},
		{"[::]:80", false},
		{"[::ffff:127.0.0.1]:80", false},
		{"192.0.2.1:80", false},
		{"localhost.example.org:80", false},
		{"systemd:http", false},
	};
	struct arena mem = {0};
	struct address address;
	struct error error;
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		assert_true(address_parse(cases[i].text, &mem, &address, &error));
		if (address_is_local(&address) != cases[i].local)
			fail_msg("%s", cases[i].text);
	}
	arena_clear(&mem);
}

/* ---- the survey ---- */

static bool open_table(struct table *table, struct error *error)
{
	(void)table;
	(void)error;
	return true;
}

static const struct setting no_settings[] = {{.name = NULL}};
static const char *const counters[] = {"open", "hits", NULL};
static const struct backend plain = {
	.name = "plain",
	.ops = CAN(OP_LOOKUP),
	.settings = no_settings,
	.open = open_table,
};
static const struct backend guarding = {
	.name = "guarding",
	.ops = CAN(OP_LOOKUP),
	.settings = no_settings,
	.open = open_table,
	.counters = counters,
	.gauges = 1,
	.alarms = 1,
};

/* Three workers with a table `a "b\` of two layers, and `c`. */
struct stand {
	struct config config;
	struct table_conf tables[3];
	_Atomic unsigned sets;
	_Atomic unsigned open;
	struct listener_stats listeners[WORKERS];
	struct crew crew;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool blocked, came;
	struct buf metrics, stats, failing;
	struct survey *survey;
};

static int set_up(void **state)
{
	struct stand *stand = memory_new(sizeof(*stand));
	struct error error;
	stand->tables[0] = (struct table_conf){.name = "a\"b\\", .backend = &plain, .hidden = true};
	stand->tables[1] = (struct table_conf){
		.name = "a\"b\\", .backend = &guarding, .index = 1, .inner = &stand->tables[0]};
	stand->tables[2] = (struct table_conf){.name = "c", .backend = &plain, .index = 2};
	stand->config.tables = stand->tables;
	stand->config.ntables = 3;
	stand->config.sets = &stand->sets;
	stand->metrics.max = stand->stats.max = stand->failing.max = 1 << 20;
	pthread_mutex_init(&stand->lock, NULL);
	pthread_cond_init(&stand->changed, NULL);
	if (!crew_open(&stand->crew, WORKERS, &stand->config, &error) ||
		!crew_run(&stand->crew, &error))
		return -1;
	*state = stand;
	return 0;
}

static int tear_down(void **state)
{
	struct stand *stand = *state;
	crew_stop(&stand->crew);
	crew_close(&stand->crew);
	assert_int_equal(stand->sets, 0);
	buf_free(&stand->metrics);
	buf_free(&stand->stats);
	buf_free(&stand->failing);
	free(stand);
	return 0;
}

static void fill(struct worker *worker, size_t index, void *arg)
{
	struct stand *stand = arg;
	struct table *tables = worker_tables(worker)->tables;
	struct traffic *traffic = table_traffic(&tables[1], 0);
	traffic->results[ST_OK] = 10;
	traffic->results[ST_TEMP] = index;
	histogram_add(&traffic->took, 200 + index);
	tables[0].stats.results[ST_OK] = 5;
	histogram_add(&tables[0].took, 2000);
	tables[1].inflight = (unsigned)index;
	tables[2].failures = index == 1 ? FAILING_AFTER : 1;
	tables[2].failed_ms = tables[2].turn->now_ms;
	table_set_counter(&tables[1], 1, 7);
	errors_add(&worker_stats(worker)->errors, "dict", "nul", 1 + index);
	stand->open = 4;
	stand->listeners[index] = (struct listener_stats){
		.protocol = "dict", .address = "unix:/x", .open = &stand->open};
	LIST_INSERT_HEAD(&worker_stats(worker)->listeners, &stand->listeners[index], link);
}

static void on_survey(struct survey *survey)
{
	struct stand *stand = survey->arg;
	web_metrics(survey, &stand->metrics);
	web_stats(survey, &stand->stats);
	web_failing(survey, &stand->failing);
	pthread_mutex_lock(&stand->lock);
	stand->came = true;
	pthread_cond_broadcast(&stand->changed);
	pthread_mutex_unlock(&stand->lock);
}

static void start_survey(struct worker *worker, size_t index, void *arg)
{
	struct stand *stand = arg;
	if (index == 1)
		stand->survey = survey_start(&stand->crew, worker, on_survey, stand);
}

static void wait_for_survey(struct stand *stand)
{
	crew_do(&stand->crew, start_survey, stand);
	pthread_mutex_lock(&stand->lock);
	while (!stand->came)
		pthread_cond_wait(&stand->changed, &stand->lock);
	pthread_mutex_unlock(&stand->lock);
	buf_add_char(&stand->metrics, '\0');
	buf_add_char(&stand->failing, '\0');
}

static void has_line(const struct stand *stand, const char *line)
{
	if (!strstr(stand->metrics.ptr, line))
		fail_msg("%s is missing in\n%s", line, stand->metrics.ptr);
}

static void all_workers_are_added_up(void **state)
{
	struct stand *stand = *state;
	crew_do(&stand->crew, fill, stand);
	wait_for_survey(stand);
#define T "table=\"a\\\"b\\\\\""
	has_line(stand, "\nmapmux_requests_total{protocol=\"socketmap\"," T ",result=\"ok\"} 30\n");
	has_line(
		stand, "\nmapmux_requests_total{protocol=\"socketmap\"," T ",result=\"temp\"} 3\n");
#define TOOK "\nmapmux_request_duration_seconds_"
	has_line(stand, TOOK "bucket{protocol=\"socketmap\"," T ",le=\"0.0001\"} 30\n");
	has_line(stand, TOOK "bucket{protocol=\"socketmap\"," T ",le=\"0.00025\"} 33\n");
	has_line(stand, TOOK "bucket{protocol=\"socketmap\"," T ",le=\"30\"} 33\n");
	has_line(stand, TOOK "bucket{protocol=\"socketmap\"," T ",le=\"+Inf\"} 33\n");
	has_line(stand, TOOK "sum{protocol=\"socketmap\"," T "} 0.000603\n");
	has_line(stand, TOOK "count{protocol=\"socketmap\"," T "} 33\n");
	has_line(stand, "\nmapmux_backend_requests_total{" T ",result=\"ok\"} 15\n");
	has_line(stand, "\nmapmux_backend_duration_seconds_sum{" T "} 0.006\n");
	has_line(stand, "\nmapmux_backend_duration_seconds_count{" T "} 15\n");
	has_line(stand, "\nmapmux_inflight{" T "} 3\n");
	has_line(stand, "\nmapmux_connections{protocol=\"dict\",listener=\"unix:/x\"} 12\n");
	has_line(stand, "\nmapmux_protocol_errors_total{protocol=\"dict\",reason=\"nul\"} 6\n");
	has_line(stand, "\nmapmux_breaker_open{" T "} 0\n");
	assert_string_equal(stand->failing.ptr, "\"tables\":[\"c\"]");
	assert_true(json_valid(buf_str(&stand->stats)));
}

static void open_breaker(struct worker *worker, size_t index, void *arg)
{
	struct table *guard = &worker_tables(worker)->tables[1];
	(void)arg;
	if (index != 2)
		return;
	table_set_counter(guard, 0, 1);
	guard->failures = 1;
	guard->failed_ms = guard->turn->now_ms;
}

/* One worker is enough; the gauge is 1, whatever their number. */
static void an_open_breaker_fails(void **state)
{
	struct stand *stand = *state;
	crew_do(&stand->crew, open_breaker, stand);
	wait_for_survey(stand);
	has_line(stand, "\nmapmux_breaker_open{" T "} 1\n");
	assert_string_equal(stand->failing.ptr, "\"tables\":[\"a\\\"b\\\\\"]");
}

static void fail_long_ago(struct worker *worker, size_t index, void *arg)
{
	struct table *tables = worker_tables(worker)->tables;
	(void)index;
	(void)arg;
	table_set_counter(&tables[1], 0, 1);
	tables[1].failures = tables[2].failures = FAILING_AFTER;
	tables[1].failed_ms = tables[2].failed_ms = tables[1].turn->now_ms - FAILING_FOR_MS;
}

/* Or nobody would ever ask them again who asks only what is ready. */
static void old_failures_count_no_more(void **state)
{
	struct stand *stand = *state;
	crew_do(&stand->crew, fail_long_ago, stand);
	wait_for_survey(stand);
	assert_string_equal(stand->failing.ptr, "\"tables\":[]");
}

static void block(struct worker *worker, struct letter *letter)
{
	struct stand *stand = *(struct stand **)(void *)(letter + 1);
	(void)worker;
	free(letter);
	pthread_mutex_lock(&stand->lock);
	while (stand->blocked)
		pthread_cond_wait(&stand->changed, &stand->lock);
	pthread_mutex_unlock(&stand->lock);
}

static void start_and_forget(struct worker *worker, struct letter *letter)
{
	struct stand *stand = *(struct stand **)(void *)(letter + 1);
	free(letter);
	survey_forget(survey_start(&stand->crew, worker, on_survey, stand));
	pthread_mutex_lock(&stand->lock);
	stand->blocked = false;
	pthread_cond_broadcast(&stand->changed);
	pthread_mutex_unlock(&stand->lock);
}

static void post(struct stand *stand, size_t to, void (*open)(struct worker *, struct letter *))
{
	struct letter *letter = memory_new(sizeof(*letter) + sizeof(stand));
	letter->open = open;
	memcpy(letter + 1, &stand, sizeof(stand));
	worker_post(stand->crew.workers[to], letter);
}

/* It still travels, and comes home while the crew stops, or before; nobody hears of it. */
static void a_forgotten_survey_ends_in_silence(void **state)
{
	struct stand *stand = *state;
	stand->blocked = true;
	post(stand, 0, block);
	post(stand, 2, start_and_forget);
	crew_stop(&stand->crew);
	assert_false(stand->came);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(percents_are_decoded),
		cmocka_unit_test(parameters_are_found),
		cmocka_unit_test(hosts_that_nobody_else_owns),
		cmocka_unit_test(pages_of_the_same_host),
		cmocka_unit_test(local_addresses),
		cmocka_unit_test_setup_teardown(all_workers_are_added_up, set_up, tear_down),
		cmocka_unit_test_setup_teardown(an_open_breaker_fails, set_up, tear_down),
		cmocka_unit_test_setup_teardown(old_failures_count_no_more, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			a_forgotten_survey_ends_in_silence, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
