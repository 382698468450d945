/* Tests of the guard composite: the limit, the second try, the breaker, and letting go in every phase.
 * At the end of each test no timer is set and nothing is in flight. */
#include "late.h"

#include "../../backends/guard.h"
#include "../../backends/list.h"

/* Late, and its answers may be broken. */
static const struct backend backend_remote = {
	.name = "remote",
	.ops = CAN(OP_LOOKUP) | CAN(OP_ITERATE) | CAN(OP_CHANGE) | CAN(OP_POLICY) | CAN(OP_AUTH),
	.can_break = true,
	.settings = late_settings,
	.conf_size = 1,
	.open = late_open,
	.close = late_close,
	.start = late_start,
	.cancel = late_cancel,
};

/* A table of that type with these options of its guard; keys and values alternate, up to three. */
static struct stand *stand_of(const struct backend *backend, const char *const *o)
{
	struct stand *stand = memory_new(sizeof(*stand));
	stand_init(stand);
	assert_true(stand_add(stand, "t", backend, NULL));
	assert_true(stand_wrap(stand, &backend_guard, o[0], o[1], o[2], o[3], o[4], o[5], NULL));
	stand_open(stand);
	return stand;
}

#define STAND(...) stand_of(&backend_remote, (const char *const[6]){__VA_ARGS__})

static void end(struct stand *stand)
{
	assert_int_equal(guard_inflight(&stand->confs[1]), 0);
	stand_close(stand); /* where a timer that is set is an assert */
	free(stand);
}

static struct late *inner(struct stand *stand)
{
	return stand->set.tables[0].state;
}

static uint64_t counter(struct stand *stand, enum guard_counter which)
{
	return atomic_load(&stand_table(stand, "t")->stats.counters[which]);
}

static struct query *take(struct stand *stand)
{
	struct wait *wait = TAILQ_FIRST(&inner(stand)->waiting);
	assert_non_null(wait);
	TAILQ_REMOVE(&inner(stand)->waiting, wait, link);
	return wait->query;
}

static bool waits(struct stand *stand)
{
	return !TAILQ_EMPTY(&inner(stand)->waiting);
}

static struct asked *start(struct stand *stand)
{
	return ask_start(stand, "t", lookup_of("key"));
}

/* The table answers its oldest question so. */
static void answer(struct stand *stand, enum status status, bool broken)
{
	static const struct pair row = {.value = {"value", 5}};
	struct answer given = {.status = status, .broken = broken};
	if (status == ST_OK) {
		given.nrows = 1;
		given.rows = &row;
	} else if (status != ST_NOTFOUND) {
		given.why = broken ? STR("lost") : STR("bad");
	}
	query_finish(take(stand), &given);
	stand_run(stand);
}

/* A question that the table answers so; how the asker sees it. */
static enum status one(struct stand *stand, enum status status)
{
	struct asked *asked = start(stand);
	answer(stand, status, false);
	assert_int_equal(asked->dones, 1);
	enum status seen = asked->query.answer.status;
	ask_free(asked);
	return seen;
}

/* A question that the table is not asked. */
static void assert_refused(struct stand *stand, const char *why)
{
	unsigned before = inner(stand)->started;
	struct asked *asked = ask(stand, "t", lookup_of("key"));
	assert_int_equal(asked->query.answer.status, ST_TEMP);
	assert_false(asked->query.answer.uncertain);
	assert_str(asked->query.answer.why, why);
	assert_int_equal(inner(stand)->started, before);
	ask_free(asked);
}

#define SHUNNED "breaker open"
#define CROWDED "too many questions in flight"

/* ---- whether there is one ---- */

struct options {
	int64_t max_inflight, retries, failures, cooldown; /* as struct guard_conf */
};

static bool is_wanted(const struct backend *backend, bool side_effects, struct options options)
{
	const struct table_conf conf = {
		.backend = backend, .options = {.side_effects = side_effects}};
	return backend_guard.wanted(&conf, &options);
}

/* Not where it would have nothing to do: each layer costs a question something. */
static void stands_only_where_it_is_of_use(void **state)
{
	const struct options by_default = {.retries = -1}, none = {0}, two = {.retries = 2},
			     limit = {.max_inflight = 1}, breaker = {.failures = 1};
	(void)state;
	assert_true(is_wanted(&backend_remote, false, by_default));
	assert_false(is_wanted(&backend_remote, true, by_default));
	assert_false(is_wanted(&backend_remote, false, none));
	assert_false(is_wanted(&backend_remote, true, two));
	assert_true(is_wanted(&backend_remote, true, limit));
	assert_true(is_wanted(&backend_remote, true, breaker));
	assert_false(is_wanted(&backend_late, false, by_default));
	assert_false(is_wanted(&backend_late, false, two));
	assert_true(is_wanted(&backend_late, false, limit));
	assert_false(is_wanted(&backend_static, false, limit));
	assert_false(is_wanted(&backend_memory, false, breaker));
	assert_true(is_wanted(&backend_url, false, by_default));
	assert_true(is_wanted(&backend_redis, false, by_default));
	assert_true(is_wanted(&backend_userli, false, by_default));
	assert_false(is_wanted(&backend_chain, false, by_default)); /* its members have theirs */
}

static void answers_pass_as_they_are(void **state)
{
	struct stand *stand = STAND("max_inflight", "5", "breaker.failures", "9");
	static const struct pair rows[] = {{.value = {"a", 1}}, {.value = {"b", 1}}};
	const struct answer given = {
		.status = ST_OK, .nrows = 2, .rows = rows, .ttl = 9, .no_store = true};
	(void)state;
	struct asked *asked = start(stand);
	struct query *child = take(stand);
	assert_ptr_equal(child->ask, &asked->ask);
	assert_ptr_equal(child->mem, &asked->mem);
	assert_int_equal(child->deadline, asked->query.deadline);
	query_finish(child, &given);
	stand_run(stand);
	assert_memory_equal(&asked->query.answer, &given, sizeof(given));
	ask_free(asked);
	struct change change = {.kind = CH_SET};
	asked = ask_start(
		stand, "t", (struct question){.op = OP_CHANGE, .nchanges = 1, .changes = &change});
	query_finish(take(stand),
		&(struct answer){.status = ST_TEMP, .why = STR("lost"), .uncertain = true});
	stand_run(stand);
	assert_true(asked->query.answer.uncertain);
	ask_free(asked);
	end(stand);
}

/* ---- max_inflight ---- */

static void what_is_too_much_is_refused_at_once(void **state)
{
	struct stand *stand = STAND("max_inflight", "2");
	(void)state;
	struct asked *first = start(stand), *second = start(stand);
	assert_int_equal(guard_inflight(&stand->confs[1]), 2);
	assert_refused(stand, CROWDED);
	assert_refused(stand, CROWDED);
	assert_int_equal(counter(stand, GUARD_REFUSED), 2);
	ask_free(second); /* one leaves */
	assert_int_equal(guard_inflight(&stand->confs[1]), 1);
	second = start(stand);
	assert_refused(stand, CROWDED);
	answer(stand, ST_NOTFOUND, false); /* one is answered */
	assert_int_equal(first->dones, 1);
	struct asked *third = start(stand);
	assert_refused(stand, CROWDED);
	ask_free(first);
	ask_free(second);
	ask_free(third);
	end(stand);
}

/* Two workers have the same configuration, and its counter. */
static void the_limit_is_that_of_all_workers(void **state)
{
	struct stand *stand = STAND("max_inflight", "2");
	struct stand other = {0};
	(void)state;
	stand_init(&other);
	if (!table_set_open(
		    &other.set, stand->confs, stand->n, NULL, &other.turn, NULL, &other.error))
		fail_msg("%s", other.error.text);
	struct asked *here = start(stand), *there = start(&other);
	assert_refused(stand, CROWDED);
	assert_refused(&other, CROWDED);
	assert_int_equal(counter(stand, GUARD_REFUSED), 1);
	assert_int_equal(counter(&other, GUARD_REFUSED), 1);
	ask_free(there);
	there = start(stand);
	ask_free(here);
	ask_free(there);
	stand_close(&other);
	end(stand);
}

/* ---- retries ---- */

static void a_broken_read_is_asked_again(void **state)
{
	struct stand *stand = STAND(NULL);
	(void)state;
	struct asked *asked = start(stand);
	answer(stand, ST_TEMP, true);
	assert_int_equal(asked->dones, 0);
	stand_pass(stand, 24);
	assert_false(waits(stand)); /* not at once */
	stand_pass(stand, 51);
	assert_true(waits(stand));
	assert_int_equal(counter(stand, GUARD_RETRIES), 1);
	answer(stand, ST_OK, false);
	assert_int_equal(asked->query.answer.status, ST_OK);
	ask_free(asked);

	asked = start(stand);
	answer(stand, ST_TEMP, true);
	stand_pass(stand, 75);
	answer(stand, ST_TEMP, true); /* by default once */
	assert_int_equal(asked->dones, 1);
	assert_int_equal(asked->query.answer.status, ST_TEMP);
	assert_str(asked->query.answer.why, "lost");
	assert_false(asked->query.answer.broken); /* asking again has been tried */
	ask_free(asked);
	end(stand);
}

/* Longer and longer, and not all at the same time. */
static void retries_keep_apart(void **state)
{
	struct stand *stand = STAND("retries", "3");
	unsigned least = 1000, most = 0;
	(void)state;
	for (unsigned i = 0; i < 50; i++) {
		struct asked *asked = start(stand);
		for (unsigned try = 0; try < 3; try++) {
			unsigned ms = 0;
			answer(stand, ST_TEMP, true);
			for (; !waits(stand); ms++)
				stand_pass(stand, 1);
			assert_in_range(ms, 25 << try, 75 << try);
			least = try == 0 && ms < least ? ms : least;
			most = try == 0 && ms > most ? ms : most;
		}
		answer(stand, ST_TEMP, true);
		assert_int_equal(asked->dones, 1);
		ask_free(asked);
	}
	assert_true(most - least > 20);
	assert_int_equal(inner(stand)->started, 200);
	end(stand);
}

static void other_failures_are_not_asked_again(void **state)
{
	static const enum status statuses[] = {ST_TEMP, ST_PERM, ST_NOTFOUND, ST_OK};
	struct stand *stand = STAND("retries", "5");
	(void)state;
	for (size_t i = 0; i < sizeof(statuses) / sizeof(*statuses); i++)
		assert_int_equal(one(stand, statuses[i]), statuses[i]);
	assert_int_equal(inner(stand)->started, 4);
	assert_int_equal(counter(stand, GUARD_RETRIES), 0);
	end(stand);
}

static void only_reads_are_asked_again(void **state)
{
	struct stand *stand = STAND("retries", "5");
	(void)state;
	for (enum op op = 0; op < OP_COUNT; op++) {
		struct asked *asked = ask_start(stand, "t", (struct question){.op = op});
		answer(stand, ST_TEMP, true);
		assert_int_equal(asked->dones, op != OP_LOOKUP && op != OP_ITERATE);
		ask_free(asked);
	}
	end(stand);
}

static void no_retry(struct stand *stand)
{
	struct asked *asked = start(stand);
	answer(stand, ST_TEMP, true);
	assert_int_equal(asked->dones, 1);
	ask_free(asked);
	end(stand);
}

static void retries_can_be_off(void **state)
{
	(void)state;
	no_retry(STAND("retries", "0", "max_inflight", "5"));
	no_retry(STAND("retries", "5", "side_effects", "yes"));
	no_retry(STAND("max_inflight", "5", "side_effects", "yes"));
	no_retry(stand_of(&backend_late, (const char *const[6]){"retries", "5"}));
}

/* No time left for another try: the answer is not held back. */
static void retries_stay_within_the_deadline(void **state)
{
	struct stand *stand = STAND("retries", "1", "timeout", "100ms");
	(void)state;
	for (unsigned i = 0; i < 50; i++) {
		struct asked *asked = start(stand);
		uint64_t end_ms = stand_now + 100;
		stand_pass(stand, 40 + i);
		answer(stand, ST_TEMP, true);
		if (asked->dones == 0) {
			for (unsigned ms = 0; ms < 100 && !waits(stand); ms++)
				stand_pass(stand, 1);
			assert_true(waits(stand));
			assert_true(stand_now < end_ms);
			assert_int_equal(asked->query.deadline, end_ms);
			assert_int_equal(
				TAILQ_FIRST(&inner(stand)->waiting)->query->deadline, end_ms);
			stand_pass(stand, (unsigned)(end_ms - stand_now));
			assert_int_equal(asked->dones, 1);
		}
		assert_int_equal(asked->query.answer.status, ST_TEMP);
		assert_true(i < 35 || stand_now < end_ms);
		ask_free(asked);
	}
	end(stand);
}

/* ---- the breaker ---- */

static void failures_open_it(void **state)
{
	struct stand *stand =
		STAND("breaker.failures", "3", "breaker.cooldown", "1s", "retries", "0");
	(void)state;
	for (unsigned i = 0; i < 5; i++) { /* what is an answer breaks the row */
		one(stand, ST_TEMP);
		one(stand, ST_TEMP);
		one(stand, i % 3 == 0 ? ST_OK : i % 3 == 1 ? ST_NOTFOUND : ST_PERM);
	}
	one(stand, ST_TEMP);
	one(stand, ST_TEMP);
	assert_false(counter(stand, GUARD_OPEN));
	one(stand, ST_TEMP);
	assert_true(counter(stand, GUARD_OPEN));
	assert_int_equal(counter(stand, GUARD_OPENED), 1);
	assert_refused(stand, SHUNNED);
	stand_pass(stand, 999);
	assert_refused(stand, SHUNNED);
	assert_int_equal(counter(stand, GUARD_SHUNNED), 2);
	stand_pass(stand, 1);
	struct asked *probe = start(stand);
	assert_true(waits(stand));
	assert_refused(stand, SHUNNED); /* one at a time */
	answer(stand, ST_NOTFOUND, false);
	assert_int_equal(probe->query.answer.status, ST_NOTFOUND);
	ask_free(probe);
	assert_false(counter(stand, GUARD_OPEN));
	assert_int_equal(one(stand, ST_OK), ST_OK);
	end(stand);
}

static void a_probe_that_fails_leaves_it_open(void **state)
{
	struct stand *stand =
		STAND("breaker.failures", "1", "breaker.cooldown", "1s", "retries", "5");
	(void)state;
	one(stand, ST_TEMP);
	for (unsigned i = 0; i < 3; i++) {
		stand_pass(stand, 1000);
		struct asked *probe = start(stand);
		answer(stand, ST_TEMP, true); /* is not asked again */
		assert_int_equal(probe->dones, 1);
		ask_free(probe);
		assert_refused(stand, SHUNNED);
	}
	assert_int_equal(counter(stand, GUARD_OPENED), 1);
	assert_int_equal(counter(stand, GUARD_RETRIES), 0);
	end(stand);
}

/* Nor is one asked again whose own failure opened it, or that finds it open when its time comes. */
static void an_open_breaker_ends_retries(void **state)
{
	struct stand *stand =
		STAND("breaker.failures", "2", "breaker.cooldown", "1s", "retries", "5");
	(void)state;
	struct asked *first = start(stand), *second = start(stand);
	answer(stand, ST_TEMP, true);
	assert_int_equal(first->dones, 0);
	answer(stand, ST_TEMP, true);
	assert_int_equal(second->dones, 1);
	assert_str(second->query.answer.why, "lost");
	stand_pass(stand, 75);
	assert_int_equal(first->dones, 1);
	assert_int_equal(first->query.answer.status, ST_TEMP);
	assert_str(first->query.answer.why, SHUNNED);
	assert_int_equal(inner(stand)->started, 2);
	ask_free(first);
	ask_free(second);
	end(stand);
}

/* The deadline is the table's failure, whoever looks first; a client that leaves is not. */
static void silence_counts_and_leaving_does_not(void **state)
{
	struct stand *stand = STAND("breaker.failures", "2", "breaker.cooldown", "1s");
	(void)state;
	for (unsigned i = 0; i < 10; i++) {
		struct asked *asked = start(stand);
		stand_pass(stand, 10);
		ask_free(asked);
	}
	assert_false(counter(stand, GUARD_OPEN));
	for (unsigned i = 0; i < 2; i++) {
		struct asked *asked = start(stand);
		stand_pass(stand, 10000);
		assert_int_equal(asked->dones, 1);
		assert_int_equal(asked->query.answer.status, ST_TEMP);
		assert_int_equal(counter(stand, GUARD_OPEN), i == 1);
		ask_free(asked);
	}
	assert_refused(stand, SHUNNED);
	end(stand);
}

/* An asker with less time, a chain say, that cancels when its own deadline has passed. */
static void an_askers_deadline_counts_too(void **state)
{
	struct stand *stand = STAND("breaker.failures", "1", "breaker.cooldown", "1s");
	(void)state;
	struct asked *asked = memory_new(sizeof(*asked));
	asked->ask = lookup_of("key");
	asked->query.mem = &asked->mem;
	asked->query.deadline = stand_now + 50;
	stand->turn.now_ms = stand_now;
	query_start(&asked->query, stand_table(stand, "t"), &asked->ask, on_asked);
	stand_now += 50;
	stand->turn.now_ms = stand_now;
	ask_free(asked); /* cancels */
	assert_refused(stand, SHUNNED);
	end(stand);
}

static void a_probe_that_leaves_makes_room_for_the_next(void **state)
{
	struct stand *stand = STAND("breaker.failures", "1", "breaker.cooldown", "1s");
	(void)state;
	one(stand, ST_TEMP);
	stand_pass(stand, 1000);
	struct asked *probe = start(stand);
	assert_refused(stand, SHUNNED);
	ask_free(probe);
	assert_int_equal(one(stand, ST_OK), ST_OK);
	assert_false(counter(stand, GUARD_OPEN));
	end(stand);
}

/* A bad key of url, say: nobody was asked, so nothing is learnt of whom was to be asked. */
static void start_at_once(struct query *query)
{
	late_start(query);
	if (!str_eq(query->ask->key, STR("bad")))
		return;
	struct late *late = query->table->state;
	TAILQ_REMOVE(&late->waiting, (struct wait *)query->work, link);
	query_notfound(query);
}

static void answers_of_nobody_say_nothing(void **state)
{
	struct backend backend = backend_remote;
	backend.start = start_at_once;
	struct stand *stand = stand_of(&backend,
		(const char *const[6]){"breaker.failures", "2", "breaker.cooldown", "1s"});
	(void)state;
	one(stand, ST_TEMP);
	assert_answer(stand, "t", lookup_of("bad"), "(notfound)");
	one(stand, ST_TEMP);
	assert_true(counter(stand, GUARD_OPEN));
	stand_pass(stand, 1000);
	assert_answer(stand, "t", lookup_of("bad"), "(notfound)"); /* no probe */
	assert_true(counter(stand, GUARD_OPEN));
	assert_int_equal(one(stand, ST_OK), ST_OK);
	assert_false(counter(stand, GUARD_OPEN));
	end(stand);
}

/* ---- letting go ---- */

static void cancel_in_every_phase(void **state)
{
	struct stand *stand = STAND("max_inflight", "1", "retries", "1", "breaker.failures", "9");
	(void)state;
	ask_free(start(stand)); /* asked */
	assert_int_equal(inner(stand)->cancelled, 1);

	struct asked *asked = start(stand); /* answered, and the guard not yet told */
	query_notfound(take(stand));
	ask_free(asked);
	stand_run(stand);

	asked = start(stand); /* between two tries */
	answer(stand, ST_TEMP, true);
	assert_int_equal(guard_inflight(&stand->confs[1]), 1);
	ask_free(asked);
	stand_pass(stand, 200);
	assert_false(waits(stand));

	asked = start(stand); /* in the second try */
	answer(stand, ST_TEMP, true);
	stand_pass(stand, 75);
	assert_true(waits(stand));
	ask_free(asked);
	assert_int_equal(inner(stand)->cancelled, 2);

	asked = start(stand); /* answered, and the asker not yet told */
	query_notfound(take(stand));
	turn_enter(&stand->turn);
	turn_leave(&stand->turn);
	ask_free(asked);

	asked = start(stand);
	struct asked *refused = start(stand); /* refused, and not yet told */
	ask_free(refused);
	ask_free(asked);
	stand_run(stand);
	assert_int_equal(guard_inflight(&stand->confs[1]), 0);
	end(stand);
}

/* The asker's deadline is that of the last try: nothing goes on behind it. */
static void nothing_outlives_the_deadline(void **state)
{
	struct stand *stand = STAND("retries", "5", "timeout", "200ms", "max_inflight", "9");
	(void)state;
	for (unsigned i = 0; i < 30; i++) {
		struct asked *asked = start(stand);
		for (unsigned ms = 0; ms < 200; ms++) {
			if (waits(stand) && ms < 100 + i)
				answer(stand, ST_TEMP, true);
			stand_pass(stand, 1);
		}
		assert_int_equal(asked->dones, 1);
		assert_false(waits(stand));
		assert_int_equal(stand->timers.n, 0);
		assert_int_equal(guard_inflight(&stand->confs[1]), 0);
		ask_free(asked);
	}
	end(stand);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stands_only_where_it_is_of_use),
		cmocka_unit_test(answers_pass_as_they_are),
		cmocka_unit_test(what_is_too_much_is_refused_at_once),
		cmocka_unit_test(the_limit_is_that_of_all_workers),
		cmocka_unit_test(a_broken_read_is_asked_again),
		cmocka_unit_test(retries_keep_apart),
		cmocka_unit_test(other_failures_are_not_asked_again),
		cmocka_unit_test(only_reads_are_asked_again),
		cmocka_unit_test(retries_can_be_off),
		cmocka_unit_test(retries_stay_within_the_deadline),
		cmocka_unit_test(failures_open_it),
		cmocka_unit_test(a_probe_that_fails_leaves_it_open),
		cmocka_unit_test(an_open_breaker_ends_retries),
		cmocka_unit_test(silence_counts_and_leaving_does_not),
		cmocka_unit_test(an_askers_deadline_counts_too),
		cmocka_unit_test(a_probe_that_leaves_makes_room_for_the_next),
		cmocka_unit_test(answers_of_nobody_say_nothing),
		cmocka_unit_test(cancel_in_every_phase),
		cmocka_unit_test(nothing_outlives_the_deadline),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
