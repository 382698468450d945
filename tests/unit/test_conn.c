/* Connections of one group on a socket pair, in a worker whose loop the test turns by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <event2/event.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conn/conn.h"
#include "model/query.h"

static uint64_t now_ms = 1000;

static uint64_t fixed_clock(void)
{
	return now_ms;
}

/* All of socketmap's settings. */
struct limits {
	int64_t max_request;
	bool any_name;
};

/* A worker, and a socketmap listener's group in it. */
struct stand {
	struct worker *worker;
	struct conn_group group;
	struct listen_conf conf;
	struct limits limits;
};

/* A table that answers when the test says so. */
static struct query *asked;

static void slow_start(struct query *query)
{
	asked = query;
}

static void slow_cancel(struct query *query)
{
	assert_ptr_equal(query, asked);
	asked = NULL;
}

static const struct backend slow = {
	.name = "slow", .ops = CAN(OP_LOOKUP), .start = slow_start, .cancel = slow_cancel};

static void stand_open(struct stand *stand, int64_t idle_timeout)
{
	static struct table_conf table = {
		.name = "slow",
		.backend = &slow,
		.ops = CAN(OP_LOOKUP),
		.options.timeout = 60000,
	};
	static const struct config config = {.threads = 1, .ntables = 1, .tables = &table};
	struct error error;
	*stand = (struct stand){.limits.max_request = 100000};
	stand->conf = (struct listen_conf){
		.codec = codec_find(STR("socketmap")),
		.options = {.idle_timeout = idle_timeout},
		.conf = &stand->limits,
	};
	stand->worker = worker_new(&config, &error);
	assert_non_null(stand->worker);
	worker_turn(stand->worker)->clock = fixed_clock;
	conn_group_open(&stand->group, stand->worker, &stand->conf, "test");
}

static void stand_close(struct stand *stand)
{
	conn_group_close(&stand->group);
	worker_free(stand->worker);
}

/* The client's end of a new connection. */
static int stand_connect(struct stand *stand)
{
	int ends[2];
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
	turn_enter(worker_turn(stand->worker));
	worker_count(stand->worker, 1);
	conn_new(&stand->group, ends[0], false);
	turn_leave(worker_turn(stand->worker));
	return ends[1];
}

/* Until nothing happens any more but time. */
static void stand_run(struct stand *stand)
{
	for (int i = 0; i < 10; i++)
		event_base_loop(worker_base(stand->worker), EVLOOP_NONBLOCK);
}

static void let_pass(struct stand *stand, uint64_t ms)
{
	now_ms += ms;
	event_active(stand->group.idle, EV_TIMEOUT, 1);
	stand_run(stand);
}

/* A connection that was on its way between two workers when the drain began. */
static void test_late_for_the_drain(void **state)
{
	struct stand stand;
	char byte;
	(void)state;
	stand_open(&stand, 0);
	turn_enter(worker_turn(stand.worker));
	conn_group_drain(&stand.group);
	turn_leave(worker_turn(stand.worker));
	int client = stand_connect(&stand);
	stand_run(&stand);
	assert_int_equal(read(client, &byte, 1), 0);
	assert_int_equal(stand.group.open, 0);
	assert_int_equal(worker_load(stand.worker), 0);
	close(client);
	stand_close(&stand);
}

/* Asks until no more is taken: tables that do not exist are refused at once. */
static void ask_without_reading(struct stand *stand, int client)
{
	int idle = 0;
	while (idle < 3) {
		idle = write(client, "3:t k,", 6) == 6 ? 0 : idle + 1;
		if (idle > 0)
			stand_run(stand);
	}
}

static void read_some(int client)
{
	static char bytes[1 << 20];
	assert_true(read(client, bytes, sizeof(bytes)) > 0);
}

static void test_idle_reader(void **state)
{
	struct stand stand;
	(void)state;
	stand_open(&stand, 1000);
	int client = stand_connect(&stand);
	ask_without_reading(&stand, client);
	let_pass(&stand, 900); /* he reads, if slowly: he stays */
	read_some(client);
	stand_run(&stand);
	let_pass(&stand, 900);
	assert_int_equal(stand.group.open, 1);
	let_pass(&stand, 1100); /* he does not: he goes, with all that waits for him */
	assert_int_equal(stand.group.open, 0);
	close(client);
	stand_close(&stand);
}

static void reload(struct stand *stand, const struct listen_conf *conf)
{
	turn_enter(worker_turn(stand->worker));
	conn_group_reload(&stand->group, conf);
	turn_leave(worker_turn(stand->worker));
}

static void test_another_idle_timeout(void **state)
{
	struct stand stand;
	(void)state;
	stand_open(&stand, 0);
	struct listen_conf timed = stand.conf;
	timed.options.idle_timeout = 1000;
	int client = stand_connect(&stand);
	stand_run(&stand);
	now_ms += 600;
	reload(&stand, &timed);
	let_pass(&stand, 300);
	assert_int_equal(stand.group.open, 1);
	reload(&stand, &stand.conf); /* never, again */
	let_pass(&stand, 10000);
	assert_int_equal(stand.group.open, 1);
	reload(&stand, &timed); /* he has been silent since long before */
	let_pass(&stand, 0);
	assert_int_equal(stand.group.open, 0);
	close(client);
	stand_close(&stand);
}

/* Who waited long for his answer has all of his time from then on. */
static void test_idle_since_the_answer(void **state)
{
	struct stand stand;
	(void)state;
	stand_open(&stand, 1000);
	int client = stand_connect(&stand);
	assert_int_equal(write(client, "6:slow k,", 9), 9);
	stand_run(&stand);
	let_pass(&stand, 1900);
	let_pass(&stand, 900);
	turn_enter(worker_turn(stand.worker));
	query_notfound(asked);
	turn_leave(worker_turn(stand.worker));
	stand_run(&stand);
	read_some(client);
	let_pass(&stand, 200);
	let_pass(&stand, 700);
	assert_int_equal(stand.group.open, 1);
	let_pass(&stand, 200);
	assert_int_equal(stand.group.open, 0);
	close(client);
	stand_close(&stand);
}

/* Where the idle may stay, the middle of a request is no place to stay in, nor is it before answers that
 * nobody reads. */
static void test_unfinished(void **state)
{
	struct stand stand;
	(void)state;
	stand_open(&stand, 0);
	int half = stand_connect(&stand), idle = stand_connect(&stand),
	    deaf = stand_connect(&stand);
	assert_int_equal(write(half, "3:t", 3), 3);
	ask_without_reading(&stand, deaf);
	let_pass(&stand, 90000);
	assert_int_equal(write(half, " ", 1), 1); /* they go on: they stay */
	read_some(deaf);
	stand_run(&stand);
	let_pass(&stand, 90000);
	assert_int_equal(stand.group.open, 3);
	let_pass(&stand, 20000);
	assert_int_equal(stand.group.open, 1);
	let_pass(&stand, 1000000);
	assert_int_equal(stand.group.open, 1);
	assert_int_equal(write(idle, "3:t k,", 6), 6);
	stand_run(&stand);
	read_some(idle);
	close(half);
	close(idle);
	close(deaf);
	stand_close(&stand);
}

static size_t refill(int client)
{
	static char requests[4096];
	size_t sent = 0;
	ssize_t n;
	for (size_t i = 0; i < sizeof(requests); i += 4)
		memcpy(requests + i, "1: ,", 4);
	while ((n = write(client, requests, sizeof(requests))) > 0)
		sent += (size_t)n;
	return sent;
}

static size_t read_all(int client)
{
	static char bytes[1 << 16];
	size_t got = 0;
	ssize_t n;
	while ((n = read(client, bytes, sizeof(bytes))) > 0)
		got += (size_t)n;
	return got;
}

/* Who sends without a pause, and reads, has no more in the daemon's memory than was read at once. */
static void test_flood(void **state)
{
	const size_t request = 4, reply = strlen("18:PERM unknown table,"), most = 96 * 1024;
	struct stand stand;
	size_t sent = 0, answers = 0;
	(void)state;
	stand_open(&stand, 0);
	int client = stand_connect(&stand), queued = 0;
	for (int i = 0; i < 300; i++) {
		sent += refill(client) / request;
		event_base_loop(worker_base(stand.worker), EVLOOP_NONBLOCK);
		answers += read_all(client);
		assert_int_equal(ioctl(client, SIOCOUTQ, &queued), 0);
		/* `queued` counts what the kernel has around the bytes as well: no less than these */
		assert_true((sent - answers / reply) * request < (size_t)queued + most);
	}
	close(client);
	stand_close(&stand);
}

/* In the middle of a request that the old limit allowed. */
static void test_a_smaller_limit(void **state)
{
	struct stand stand;
	char reply[64];
	(void)state;
	stand_open(&stand, 0);
	struct limits limits = {.max_request = 100};
	struct listen_conf small = stand.conf;
	small.conf = &limits;
	int client = stand_connect(&stand), other = stand_connect(&stand);
	assert_int_equal(write(client, "200:t k", 7), 7);
	assert_int_equal(write(other, "3:t", 3), 3);
	stand_run(&stand);
	reload(&stand, &small);
	assert_int_equal(write(client, "k", 1), 1);
	assert_int_equal(write(other, " k,", 3), 3);
	stand_run(&stand);
	assert_int_equal(stand.group.open, 1);
	assert_int_equal(read(other, reply, sizeof(reply)), 22);
	assert_memory_equal(reply, "18:PERM unknown table,", 22);
	close(client);
	close(other);
	stand_close(&stand);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_late_for_the_drain),
		cmocka_unit_test(test_idle_reader),
		cmocka_unit_test(test_idle_since_the_answer),
		cmocka_unit_test(test_another_idle_timeout),
		cmocka_unit_test(test_unfinished),
		cmocka_unit_test(test_flood),
		cmocka_unit_test(test_a_smaller_limit),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
