/* Tests of the memory table: spaces, iterations, whole transactions, its bound, expiry, threads. */
#include "tables.h"

#include <pthread.h>
#include <time.h>

#include "../../backends/list.h"

static int set_up(void **state)
{
	struct stand *stand = memory_new(sizeof(*stand));
	stand_now = 1000;
	stand_init(stand);
	if (!stand_add(stand, "m", &backend_memory, NULL) ||
		!stand_add(stand, "small", &backend_memory, "param", "4k", NULL))
		return -1;
	stand_open(stand);
	*state = stand;
	return 0;
}

static int tear_down(void **state)
{
	struct stand *stand = *state;
	stand_close(stand);
	free(stand);
	return 0;
}

static struct question in_space(enum op op, enum scope scope, const char *user, const char *key)
{
	return (struct question){.op = op,
		.form = FORM_JSON,
		.scope = scope,
		.user = str_of(user),
		.key = str_of(key)};
}

static struct question shared(const char *key)
{
	return in_space(OP_LOOKUP, SCOPE_SHARED, "", key);
}

static struct question listing(const char *prefix, unsigned flags)
{
	struct question question = in_space(OP_ITERATE, SCOPE_SHARED, "", prefix);
	question.flags = flags;
	return question;
}

static struct change set(const char *key, const char *value)
{
	return (struct change){
		.kind = CH_SET, .scope = SCOPE_SHARED, .key = str_of(key), .value = str_of(value)};
}

static struct change unset(const char *key)
{
	return (struct change){.kind = CH_UNSET, .scope = SCOPE_SHARED, .key = str_of(key)};
}

static struct change add(const char *key, int64_t diff)
{
	return (struct change){
		.kind = CH_ADD, .scope = SCOPE_SHARED, .key = str_of(key), .diff = diff};
}

static enum status change_for(struct stand *stand, const char *table, const char *user,
	uint64_t expire_secs, const struct change *changes, size_t n)
{
	struct asked *asked = ask(stand, table,
		(struct question){.op = OP_CHANGE,
			.form = FORM_JSON,
			.user = str_of(user),
			.changes = changes,
			.nchanges = n,
			.expire_secs = expire_secs});
	enum status status = asked->query.answer.status;
	assert_false(asked->query.answer.uncertain);
	assert_int_equal(asked->query.answer.why.len > 0, status == ST_TEMP || status == ST_PERM);
	ask_free(asked);
	return status;
}

#define CHANGE(stand, table, ...)                                                                  \
	change_for((stand), (table), "", 0, (struct change[]){__VA_ARGS__},                        \
		sizeof((struct change[]){__VA_ARGS__}) / sizeof(struct change))

static void settings_are_checked(void **state)
{
	(void)state;
	static const char *const bad[] = {"nonsense", "0", "-1", "10q"};
	struct stand stand;
	stand_init(&stand);
	for (size_t i = 0; i < 4; i++) {
		assert_false(stand_add(&stand, "m", &backend_memory, "param", bad[i], NULL));
		assert_non_null(strstr(stand.error.text, "param"));
	}
	assert_true(stand_add(&stand, "m", &backend_memory, "param", "10m", NULL));
	stand_close(&stand);
}

static void what_is_set_is_found(void **state)
{
	struct stand *stand = *state;
	assert_answer(stand, "m", shared("a"), "(notfound)");
	assert_int_equal(CHANGE(stand, "m", set("a", "1"), set("b", ""), set("", "none")), ST_OK);
	assert_answer(stand, "m", shared("a"), "1");
	assert_answer(stand, "m", shared("b"), "");
	assert_answer(stand, "m", shared(""), "none");
	assert_answer(stand, "m", lookup_of("a"), "1"); /* without scopes: the shared ones */
	assert_answer(stand, "small", shared("a"), "(notfound)");
	assert_int_equal(CHANGE(stand, "m", set("a", "2"), unset("b"), unset("c")), ST_OK);
	assert_answer(stand, "m", shared("a"), "2");
	assert_answer(stand, "m", shared("b"), "(notfound)");
	assert_int_equal(change_for(stand, "m", "", 0, NULL, 0), ST_OK);
}

static void users_have_keys_of_their_own(void **state)
{
	struct stand *stand = *state;
	struct change change = set("k", "alice's");
	change.scope = SCOPE_PRIV;
	assert_int_equal(change_for(stand, "m", "alice", 0, &change, 1), ST_OK);
	change.value = STR("bob's");
	assert_int_equal(change_for(stand, "m", "bob", 0, &change, 1), ST_OK);
	assert_int_equal(CHANGE(stand, "m", set("k", "all's")), ST_OK);
	assert_answer(stand, "m", in_space(OP_LOOKUP, SCOPE_PRIV, "alice", "k"), "alice's");
	assert_answer(stand, "m", in_space(OP_LOOKUP, SCOPE_PRIV, "bob", "k"), "bob's");
	assert_answer(stand, "m", in_space(OP_LOOKUP, SCOPE_PRIV, "bo", "bk"), "(notfound)");
	assert_answer(stand, "m", in_space(OP_LOOKUP, SCOPE_PRIV, "carol", "k"), "(notfound)");
	assert_answer(stand, "m", in_space(OP_LOOKUP, SCOPE_SHARED, "alice", "k"), "all's");
	assert_rows(stand, "m", in_space(OP_ITERATE, SCOPE_PRIV, "alice", ""), "k=alice's");
	assert_rows(stand, "m", in_space(OP_ITERATE, SCOPE_PRIV, "a", ""), "notfound");
	assert_rows(stand, "m", listing("", ITER_RECURSE), "k=all's");
}

static void private_keys_need_a_user(void **state)
{
	struct stand *stand = *state;
	struct change change = set("k", "v");
	change.scope = SCOPE_PRIV;
	assert_int_equal(change_for(stand, "m", "", 0, &change, 1), ST_PERM);
	assert_answer(stand, "m", in_space(OP_LOOKUP, SCOPE_PRIV, "", "k"), "(perm)");
	assert_rows(stand, "m", in_space(OP_ITERATE, SCOPE_PRIV, "", "k"), "perm");
	struct question odd = in_space(OP_LOOKUP, SCOPE_PRIV, "", "k");
	odd.user = STR("a\0b");
	assert_answer(stand, "m", odd, "(perm)");
}

static void iterations_follow_the_flags(void **state)
{
	struct stand *stand = *state;
	assert_int_equal(CHANGE(stand, "m", set("d/c", "1"), set("d/a", "3"), set("d/b", "2"),
				 set("d/a/x", "0"), set("d", "9"), set("e/a", "8"), set("c", "7")),
		ST_OK);
	assert_rows(stand, "m", listing("d/", 0), "d/a=3 d/b=2 d/c=1");
	assert_rows(stand, "m", listing("d/", ITER_RECURSE), "d/a=3 d/a/x=0 d/b=2 d/c=1");
	assert_rows(stand, "m", listing("d/", ITER_SORT_KEY), "d/a=3 d/b=2 d/c=1");
	assert_rows(stand, "m", listing("d/", ITER_SORT_VALUE), "d/c=1 d/b=2 d/a=3");
	assert_rows(stand, "m", listing("d/", ITER_NO_VALUE | ITER_SORT_VALUE), "d/a= d/b= d/c=");
	assert_rows(stand, "m", listing("d/a", ITER_EXACT_KEY), "d/a=3");
	assert_rows(stand, "m", listing("d/", ITER_EXACT_KEY), "notfound");
	assert_rows(stand, "m", listing("nothing/", 0), "notfound");
	assert_rows(stand, "m", listing("", 0), "c=7 d=9");
	struct question question = listing("d/", 0);
	question.max_rows = 2;
	assert_rows(stand, "m", question, "d/a=3 d/b=2");
	question.flags = ITER_SORT_VALUE;
	assert_rows(stand, "m", question, "d/c=1 d/b=2");
}

static void increments(void **state)
{
	struct stand *stand = *state;
	assert_int_equal(CHANGE(stand, "m", add("n", 1)), ST_NOTFOUND);
	assert_answer(stand, "m", shared("n"), "(notfound)");
	assert_int_equal(CHANGE(stand, "m", set("n", "5"), set("t", "five")), ST_OK);
	assert_int_equal(CHANGE(stand, "m", add("n", 7)), ST_OK);
	assert_answer(stand, "m", shared("n"), "12");
	assert_int_equal(CHANGE(stand, "m", add("n", -20)), ST_OK);
	assert_answer(stand, "m", shared("n"), "-8");
	assert_int_equal(CHANGE(stand, "m", add("t", 1)), ST_PERM);
	assert_answer(stand, "m", shared("t"), "five");

	assert_int_equal(CHANGE(stand, "m", set("n", "9223372036854775806")), ST_OK);
	assert_int_equal(CHANGE(stand, "m", add("n", 1)), ST_OK);
	assert_answer(stand, "m", shared("n"), "9223372036854775807");
	assert_int_equal(CHANGE(stand, "m", add("n", 1)), ST_PERM);
	assert_answer(stand, "m", shared("n"), "9223372036854775807");
	assert_int_equal(CHANGE(stand, "m", set("n", "-9223372036854775808")), ST_OK);
	assert_int_equal(CHANGE(stand, "m", add("n", -1)), ST_PERM);
	assert_int_equal(CHANGE(stand, "m", set("n", "9223372036854775808")), ST_OK);
	assert_int_equal(CHANGE(stand, "m", add("n", -1)), ST_PERM);
}

static void changes_are_made_in_order(void **state)
{
	struct stand *stand = *state;
	assert_int_equal(CHANGE(stand, "m", set("n", "1"), add("n", 2), set("o", "a"), unset("o"),
				 set("p", "1"), unset("p"), set("p", "2"), add("p", 1)),
		ST_OK);
	assert_answer(stand, "m", shared("n"), "3");
	assert_answer(stand, "m", shared("o"), "(notfound)");
	assert_answer(stand, "m", shared("p"), "3");
	assert_int_equal(CHANGE(stand, "m", add("n", 1), set("n", "x"), unset("p")), ST_OK);
	assert_answer(stand, "m", shared("n"), "x");
	assert_answer(stand, "m", shared("p"), "(notfound)");
	assert_int_equal(CHANGE(stand, "m", set("q", "1"), unset("q"), add("q", 1)), ST_NOTFOUND);
	assert_answer(stand, "m", shared("q"), "(notfound)");
}

/* Every kind of failure as the last of several steps, some on one key. */
static void failures_change_nothing(void **state)
{
	struct stand *stand = *state;
	assert_int_equal(CHANGE(stand, "m", set("a", "1"), set("b", "2"), set("t", "text")), ST_OK);
	struct change last[] = {add("missing", 1), add("t", 1), add("a", INT64_MAX)};
	enum status statuses[] = {ST_NOTFOUND, ST_PERM, ST_PERM};
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(
			CHANGE(stand, "m", set("a", "9"), unset("b"), set("new", "x"), add("a", 1),
				unset("new"), set("a", "10"), last[i], set("never", "made")),
			statuses[i]);
		assert_rows(stand, "m", listing("", ITER_RECURSE), "a=1 b=2 t=text");
	}
}

static void a_full_table_refuses_whole_transactions(void **state)
{
	struct stand *stand = *state;
	static char big[3000];
	memset(big, 'x', sizeof(big) - 1);
	assert_int_equal(CHANGE(stand, "small", set("a", "1"), set("big", big)), ST_OK);
	assert_int_equal(CHANGE(stand, "small", set("a", "2"), set("more", big)), ST_TEMP);
	assert_answer(stand, "small", shared("a"), "1");
	assert_answer(stand, "small", shared("more"), "(notfound)");
	assert_int_equal(CHANGE(stand, "small", set("a", "2")), ST_OK);
	/* What counts is the end, not the way. */
	assert_int_equal(CHANGE(stand, "small", set("more", big), unset("big")), ST_OK);
	assert_answer(stand, "small", shared("more"), big);
	assert_int_equal(CHANGE(stand, "small", set("more", big)), ST_OK); /* replaced */
	assert_int_equal(CHANGE(stand, "small", unset("more"), unset("a")), ST_OK);
	assert_int_equal(CHANGE(stand, "small", set("big", big)), ST_OK); /* nothing has leaked */
}

static void expired_keys_are_absent(void **state)
{
	struct stand *stand = *state;
	struct change changes[] = {set("a", "1"), set("b", "2")};
	assert_int_equal(change_for(stand, "m", "", 10, changes, 2), ST_OK);
	assert_int_equal(CHANGE(stand, "m", set("c", "3")), ST_OK);
	stand_now += 9999;
	assert_rows(stand, "m", listing("", 0), "a=1 b=2 c=3");
	assert_int_equal(CHANGE(stand, "m", set("b", "for ever"), add("a", 1)), ST_OK);
	assert_answer(stand, "m", shared("a"), "2");
	stand_now += 1;
	assert_answer(stand, "m", shared("a"), "(notfound)");
	assert_rows(stand, "m", listing("", 0), "b=for ever c=3");
	assert_int_equal(CHANGE(stand, "m", add("a", 1)), ST_NOTFOUND);
	assert_int_equal(CHANGE(stand, "m", unset("a")), ST_OK);
	struct change again = add("c", 1);
	assert_int_equal(change_for(stand, "m", "", 5, &again, 1), ST_OK);
	stand_now += 5000;
	assert_answer(stand, "m", shared("c"), "(notfound)");
	again = set("far", "away");
	assert_int_equal(change_for(stand, "m", "", UINT64_MAX, &again, 1), ST_OK);
	assert_answer(stand, "m", shared("far"), "away");
}

/* A transaction that fails leaves expiry as it was, too. */
static void undone_changes_expire_as_before(void **state)
{
	struct stand *stand = *state;
	struct change change = set("a", "1");
	assert_int_equal(change_for(stand, "m", "", 10, &change, 1), ST_OK);
	assert_int_equal(CHANGE(stand, "m", set("a", "for ever"), add("none", 1)), ST_NOTFOUND);
	assert_answer(stand, "m", shared("a"), "1");
	stand_now += 10000;
	assert_answer(stand, "m", shared("a"), "(notfound)");
}

static void expired_keys_make_room(void **state)
{
	struct stand *stand = *state;
	char key[32];
	for (int round = 0; round < 5; round++) {
		int n = 0;
		enum status status;
		do {
			snprintf(key, sizeof(key), "k%d-%d", round, n++);
			struct change change = set(key, "value");
			status = change_for(
				stand, "small", "", 1 + (uint64_t)(n * 7 % 13), &change, 1);
		} while (status == ST_OK);
		assert_int_equal(status, ST_TEMP);
		assert_true(n > 20);
		stand_now += 14000;
		assert_rows(stand, "small", listing("", ITER_RECURSE), "notfound");
	}
}

/* The store against a plain array, with whatever a generator thinks of. */
enum { NAMES = 200 };

static uint32_t next_random(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

struct model {
	bool present[NAMES];
	int64_t value[NAMES];
	uint64_t expires[NAMES];
};

static bool model_has(const struct model *model, unsigned at)
{
	return model->present[at] && (model->expires[at] == 0 || model->expires[at] > stand_now);
}

/* Applies to the model; false when the transaction must fail. */
static bool model_apply(
	struct model *model, const struct change *change, unsigned at, uint64_t secs)
{
	uint64_t expires = secs ? stand_now + secs * 1000 : 0;
	if (change->kind == CH_ADD && !model_has(model, at))
		return false;
	if (change->kind == CH_SET)
		model->expires[at] = expires;
	else if (change->kind == CH_ADD && expires)
		model->expires[at] = expires;
	if (change->kind == CH_SET)
		str_i64(change->value, &model->value[at]);
	else if (change->kind == CH_ADD)
		model->value[at] += change->diff;
	model->present[at] = change->kind != CH_UNSET;
	return true;
}

static void compare(struct stand *stand, const struct model *model)
{
	struct asked *asked = ask(stand, "m", listing("", ITER_RECURSE));
	const struct answer *answer = &asked->query.answer;
	size_t row = 0;
	for (unsigned i = 0; i < NAMES; i++) {
		char name[16], value[24];
		snprintf(name, sizeof(name), "%03u", i);
		snprintf(value, sizeof(value), "%lld", (long long)model->value[i]);
		if (!model_has(model, i))
			continue;
		assert_true(row < answer->nrows);
		assert_str(answer->rows[row].name, name);
		assert_str(answer->rows[row++].value, value);
	}
	assert_int_equal(row, answer->nrows);
	ask_free(asked);
}

static void the_store_agrees_with_a_plain_array(void **state)
{
	struct stand *stand = *state;
	static struct model model;
	uint32_t seed = 1;
	memset(&model, 0, sizeof(model));
	for (int round = 0; round < 4000; round++) {
		struct change changes[6];
		char names[6][16], values[6][16];
		size_t n = 1 + next_random(&seed) % 6;
		uint64_t secs = next_random(&seed) % 3 ? 0 : 1 + next_random(&seed) % 20;
		struct model tried = model;
		bool ok = true;
		for (size_t i = 0; i < n; i++) {
			unsigned at = next_random(&seed) % NAMES;
			snprintf(names[i], sizeof(names[i]), "%03u", at);
			snprintf(values[i], sizeof(values[i]), "%u", next_random(&seed) % 1000);
			unsigned kind = next_random(&seed) % 10;
			changes[i] = kind < 6   ? set(names[i], values[i])
				     : kind < 8 ? unset(names[i])
						: add(names[i], kind == 8 ? 3 : -3);
			ok = ok && model_apply(&tried, &changes[i], at, secs);
		}
		assert_int_equal(
			change_for(stand, "m", "", secs, changes, n), ok ? ST_OK : ST_NOTFOUND);
		if (ok)
			model = tried;
		stand_now += next_random(&seed) % 500;
		if (round % 16 == 0)
			compare(stand, &model);
	}
	compare(stand, &model);
}

static double seconds(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* An iteration of 100,000 keys must not keep the others waiting for long. */
static void large_tables_stay_quick(void **state)
{
	struct stand *stand = *state;
	enum { N = 100000 };
	char key[32];
	double begin = seconds();
	for (uint32_t i = 0; i < N; i++) {
		snprintf(key, sizeof(key), "user/%u", i * 2654435761u);
		struct change change = set(key, "some value");
		assert_int_equal(change_for(stand, "m", "", 0, &change, 1), ST_OK);
	}
	assert_true(seconds() - begin < 20);
	begin = seconds();
	struct asked *asked = ask(stand, "m", listing("user/", 0));
	assert_int_equal(asked->query.answer.nrows, N);
	ask_free(asked);
	assert_true(seconds() - begin < 2);
	struct question first = listing("user/", 0);
	first.max_rows = 3;
	begin = seconds();
	asked = ask(stand, "m", first);
	assert_int_equal(asked->query.answer.nrows, 3);
	ask_free(asked);
	assert_true(seconds() - begin < 0.5);
}

/* A second worker on its own thread. */
struct rival {
	struct stand stand;
};

enum { RIVAL_ROUNDS = 3000 };

static void *rival_run(void *arg)
{
	struct rival *rival = arg;
	struct stand *stand = &rival->stand;
	for (int i = 0; i < RIVAL_ROUNDS; i++) {
		assert_int_equal(CHANGE(stand, "m", add("n", 1), add("o", -1)), ST_OK);
		struct asked *asked = ask(stand, "m", listing("", 0));
		assert_int_equal(asked->query.answer.nrows, 2);
		int64_t n, o;
		assert_true(str_i64(asked->query.answer.rows[0].value, &n));
		assert_true(str_i64(asked->query.answer.rows[1].value, &o));
		assert_int_equal(n, -o); /* never half a transaction */
		ask_free(asked);
	}
	return NULL;
}

static void workers_share_it(void **state)
{
	struct stand *stand = *state;
	static struct rival rivals[3];
	pthread_t threads[3];
	assert_int_equal(CHANGE(stand, "m", set("n", "0"), set("o", "0")), ST_OK);
	for (size_t i = 0; i < 3; i++) {
		stand_init(&rivals[i].stand);
		if (!table_set_open(&rivals[i].stand.set, stand->confs, stand->n, NULL,
			    &rivals[i].stand.turn, NULL, &rivals[i].stand.error))
			fail();
		assert_int_equal(pthread_create(&threads[i], NULL, rival_run, &rivals[i]), 0);
	}
	for (size_t i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	for (size_t i = 0; i < 3; i++)
		table_set_close(&rivals[i].stand.set);
	assert_answer(stand, "m", shared("n"), "9000");
	assert_answer(stand, "m", shared("o"), "-9000");
}

/* As after a reload: both tables write the same data, each within its own bound. */
static void a_heir_has_the_data(void **state)
{
	struct stand *before = *state;
	struct stand now;
	assert_int_equal(CHANGE(before, "m", set("k", "v"), set("n", "1")), ST_OK);
	stand_init(&now);
	assert_true(stand_add(&now, "m", &backend_memory, "param", "1k", NULL));
	backend_memory.inherit(&now.confs[0], &before->confs[0]);
	stand_open(&now);
	assert_answer(&now, "m", shared("k"), "v");
	assert_int_equal(CHANGE(&now, "m", add("n", 1)), ST_OK);
	assert_answer(before, "m", shared("n"), "2");
	stand_close(&now);
	assert_answer(before, "m", shared("n"), "2");
}

/* The first table goes before the second. */
static void a_heir_outlives(void **state)
{
	struct stand before, now;
	(void)state;
	stand_init(&before);
	stand_init(&now);
	assert_true(stand_add(&before, "m", &backend_memory, NULL));
	assert_true(stand_add(&now, "m", &backend_memory, NULL));
	stand_open(&before);
	assert_int_equal(CHANGE(&before, "m", set("k", "v")), ST_OK);
	backend_memory.inherit(&now.confs[0], &before.confs[0]);
	stand_close(&before);
	stand_open(&now);
	assert_answer(&now, "m", shared("k"), "v");
	stand_close(&now);
}

/* What is there stays; it may be taken away or made smaller, and then there is room again. */
static void a_bound_that_was_lowered(void **state)
{
	struct stand *before = *state;
	struct stand now;
	char big[2000];
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	assert_int_equal(CHANGE(before, "m", set("a", big), set("b", big)), ST_OK);
	stand_init(&now);
	assert_true(stand_add(&now, "m", &backend_memory, "param", "1k", NULL));
	backend_memory.inherit(&now.confs[0], &before->confs[0]);
	stand_open(&now);
	assert_answer(&now, "m", shared("a"), big);
	assert_int_equal(CHANGE(&now, "m", set("c", "v")), ST_TEMP);
	assert_int_equal(CHANGE(&now, "m", set("a", "smaller")), ST_OK);
	assert_int_equal(CHANGE(&now, "m", set("c", "v")), ST_TEMP);
	assert_int_equal(CHANGE(&now, "m", unset("b"), set("c", "v")), ST_OK);
	assert_int_equal(CHANGE(before, "m", set("b", big)), ST_OK);
	stand_close(&now);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(settings_are_checked),
		TEST(what_is_set_is_found),
		TEST(users_have_keys_of_their_own),
		TEST(private_keys_need_a_user),
		TEST(iterations_follow_the_flags),
		TEST(increments),
		TEST(changes_are_made_in_order),
		TEST(failures_change_nothing),
		TEST(a_full_table_refuses_whole_transactions),
		TEST(expired_keys_are_absent),
		TEST(undone_changes_expire_as_before),
		TEST(expired_keys_make_room),
		TEST(the_store_agrees_with_a_plain_array),
		TEST(large_tables_stay_quick),
		TEST(workers_share_it),
		TEST(a_heir_has_the_data),
		cmocka_unit_test(a_heir_outlives),
		TEST(a_bound_that_was_lowered),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
