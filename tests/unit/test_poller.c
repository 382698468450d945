/* Descriptors that are ready together: each is told once, and none after its end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <event2/event.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/poller.h"

enum { PAIRS = 3 };

struct stand {
	struct event_base *base;
	struct turn turn;
	struct poller *poller;
};

struct end {
	struct watch watch;
	struct stand *stand;
	int peer;
	unsigned told, what;
	unsigned again;     /* the peer writes so often when this one is told */
	struct end *victim; /* is closed when this one is told */
};

static void wake(struct turn *turn)
{
	(void)turn;
}

static void stand_open(struct stand *stand)
{
	stand->base = event_base_new();
	turn_init(&stand->turn, wake);
	stand->poller = poller_new(stand->base, &stand->turn);
	assert_non_null(stand->poller);
}

static void stand_close(struct stand *stand)
{
	poller_free(stand->poller);
	event_base_free(stand->base);
}

static void on_ready(struct watch *watch, unsigned what)
{
	struct end *end = (struct end *)(void *)watch;
	char byte;
	assert_true(end->stand->turn.entered);
	end->told++;
	end->what = what;
	if (what == WATCH_READ)
		assert_int_equal(read(watch->fd, &byte, 1), 1);
	if (end->again > 0) {
		end->again--;
		assert_int_equal(write(end->peer, "x", 1), 1);
	}
	if (end->victim && end->victim->watch.fd >= 0)
		poller_close(end->stand->poller, &end->victim->watch);
}

static void end_open(struct end *end, struct stand *stand, unsigned what)
{
	int fds[2];
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
	*end = (struct end){
		.watch = {.fd = fds[0], .ready = on_ready}, .stand = stand, .peer = fds[1]};
	poller_watch(stand->poller, &end->watch, what);
}

static void end_close(struct end *end)
{
	if (end->watch.fd >= 0)
		poller_close(end->stand->poller, &end->watch);
	close(end->peer);
}

static void look(struct stand *stand)
{
	event_base_loop(stand->base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
}

static void test_what_is_ready(void **state)
{
	struct stand stand = {0};
	struct end end;
	(void)state;
	stand_open(&stand);
	end_open(&end, &stand, WATCH_READ);
	look(&stand);
	assert_int_equal(end.told, 0);
	assert_int_equal(write(end.peer, "x", 1), 1);
	look(&stand);
	look(&stand);
	assert_int_equal(end.told, 1);
	assert_int_equal(end.what, WATCH_READ);
	poller_watch(stand.poller, &end.watch, WATCH_WRITE);
	look(&stand);
	unsigned told = end.told;
	assert_true(told > 1);
	assert_int_equal(end.what, WATCH_WRITE);
	poller_watch(stand.poller, &end.watch, 0);
	look(&stand);
	assert_int_equal(end.told, told);
	end_close(&end);
	stand_close(&stand);
}

/* Until nobody asks, but for no longer than a batch takes. */
static void test_who_asks_again(void **state)
{
	struct stand stand = {0};
	struct end end;
	(void)state;
	stand_open(&stand);
	end_open(&end, &stand, WATCH_READ);
	end.again = 2;
	assert_int_equal(write(end.peer, "x", 1), 1);
	look(&stand);
	assert_int_equal(end.told, 3);
	end.again = 1000;
	assert_int_equal(write(end.peer, "x", 1), 1);
	look(&stand);
	assert_true(end.told > 3 && end.told < 1000);
	end_close(&end);
	stand_close(&stand);
}

static void test_the_peer_is_gone(void **state)
{
	struct stand stand = {0};
	struct end end;
	(void)state;
	stand_open(&stand);
	end_open(&end, &stand, WATCH_WRITE);
	close(end.peer);
	end.peer = -1;
	look(&stand);
	assert_int_equal(end.what, WATCH_READ | WATCH_WRITE);
	end_close(&end);
	stand_close(&stand);
}

/* All are ready in one batch; whichever is told first ends the others. */
static void test_one_ends_the_others(void **state)
{
	struct stand stand = {0};
	struct end ends[PAIRS];
	unsigned told = 0;
	(void)state;
	stand_open(&stand);
	for (int i = 0; i < PAIRS; i++)
		end_open(&ends[i], &stand, WATCH_READ);
	for (int i = 0; i < PAIRS; i++) {
		ends[i].victim = &ends[(i + 1) % PAIRS];
		assert_int_equal(write(ends[i].peer, "x", 1), 1);
	}
	look(&stand);
	for (int i = 0; i < PAIRS; i++)
		told += ends[i].told;
	assert_int_equal(told, 2); /* the first ends the second, the third ends the first */
	for (int i = 0; i < PAIRS; i++)
		end_close(&ends[i]);
	stand_close(&stand);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_ready),
		cmocka_unit_test(test_who_asks_again),
		cmocka_unit_test(test_the_peer_is_gone),
		cmocka_unit_test(test_one_ends_the_others),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
