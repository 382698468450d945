/* Tests of the chain table: who is asked, whose answer counts, what is passed over. */
#include "late.h"

#include "../../backends/list.h"

/* A table of one operation, that answers late. */
static const struct setting no_settings[] = {{.name = NULL}};
static const struct backend backend_reader = {
	.name = "reader",
	.ops = CAN(OP_LOOKUP),
	.settings = no_settings,
	.conf_size = 1,
	.open = late_open,
	.close = late_close,
	.start = late_start,
	.cancel = late_cancel,
};
static const struct backend backend_writer = {
	.name = "writer",
	.ops = CAN(OP_CHANGE) | CAN(OP_ITERATE),
	.can_expire = true,
	.settings = no_settings,
	.conf_size = 1,
	.open = late_open,
	.close = late_close,
	.start = late_start,
	.cancel = late_cancel,
};

/* chain: one two three */
static int set_up(void **state)
{
	struct stand *stand = memory_new(sizeof(*stand));
	stand_init(stand);
	if (!stand_add(stand, "one", &backend_late, NULL) ||
		!stand_add(stand, "two", &backend_late, NULL) ||
		!stand_add(stand, "three", &backend_late, NULL) ||
		!stand_add(stand, "reader", &backend_reader, NULL) ||
		!stand_add(stand, "writer", &backend_writer, NULL) ||
		!stand_add(stand, "chain", &backend_chain, "param", "one two three", NULL) ||
		!stand_add(stand, "mixed", &backend_chain, "param", "reader writer one", NULL) ||
		!stand_add(stand, "readers", &backend_chain, "param", "reader", NULL))
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

static void no_table_is_refused(void **state)
{
	(void)state;
	struct stand stand;
	stand_init(&stand);
	assert_false(stand_add(&stand, "chain", &backend_chain, "param", " ", NULL));
	assert_non_null(strstr(stand.error.text, "param"));
	stand_close(&stand);
}

static void operations_are_the_members(void **state)
{
	struct stand *stand = *state;
	assert_int_equal(stand_conf(stand, STR("chain"))->ops,
		CAN(OP_LOOKUP) | CAN(OP_ITERATE) | CAN(OP_CHANGE));
	assert_int_equal(stand_conf(stand, STR("mixed"))->ops,
		CAN(OP_LOOKUP) | CAN(OP_ITERATE) | CAN(OP_CHANGE));
	assert_int_equal(stand_conf(stand, STR("readers"))->ops, CAN(OP_LOOKUP));
	struct asked *asked = ask(stand, "readers", (struct question){.op = OP_CHANGE});
	assert_int_equal(asked->query.answer.status, ST_PERM);
	ask_free(asked);
}

/* The same question and the same answer, not copies. */
static void the_first_that_knows_answers(void **state)
{
	struct stand *stand = *state;
	static const struct pair row = {.value = {"value", 5}};
	const struct answer answer = {.status = ST_OK, .nrows = 1, .rows = &row, .ttl = 7};
	struct asked *asked = ask_start(stand, "chain", lookup_of("key"));
	struct query *child = late_take(stand, "one");
	assert_ptr_equal(child->ask, &asked->ask);
	assert_ptr_equal(child->mem, &asked->mem);
	assert_int_equal(child->deadline, asked->query.deadline);
	assert_false(late_waits(stand, "two"));
	query_notfound(child);
	assert_false(late_waits(stand, "two")); /* only in a turn */
	stand_run(stand);
	child = late_take(stand, "two");
	assert_ptr_equal(child->ask, &asked->ask);
	query_finish(child, &answer);
	assert_int_equal(asked->dones, 0);
	stand_run(stand);
	assert_int_equal(asked->dones, 1);
	assert_int_equal(asked->query.answer.status, ST_OK);
	assert_ptr_equal(asked->query.answer.rows, &row);
	assert_int_equal(asked->query.answer.ttl, 7);
	assert_int_equal(late_of(stand, "three")->started, 0);
	ask_free(asked);
}

static void nobody_knows(void **state)
{
	struct stand *stand = *state;
	static const char *const names[] = {"one", "two", "three"};
	struct asked *asked = ask_start(stand, "chain", lookup_of("key"));
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(asked->dones, 0);
		query_notfound(late_take(stand, names[i]));
		stand_run(stand);
	}
	assert_int_equal(asked->dones, 1);
	assert_int_equal(asked->query.answer.status, ST_NOTFOUND);
	ask_free(asked);
}

/* Rule 5, and Postfix's own: behind a failure there is no asking on. */
static void failures_end_the_walk(void **state)
{
	struct stand *stand = *state;
	for (int perm = 0; perm < 2; perm++) {
		unsigned before = late_of(stand, "three")->started;
		struct asked *asked = ask_start(stand, "chain", lookup_of("key"));
		query_notfound(late_take(stand, "one"));
		stand_run(stand);
		if (perm)
			query_perm(late_take(stand, "two"), "wrong %d", 1);
		else
			query_temp(late_take(stand, "two"), "down %d", 1);
		stand_run(stand);
		assert_int_equal(asked->dones, 1);
		assert_int_equal(asked->query.answer.status, perm ? ST_PERM : ST_TEMP);
		assert_str(asked->query.answer.why, perm ? "wrong 1" : "down 1");
		assert_int_equal(late_of(stand, "three")->started, before);
		ask_free(asked);
	}
}

static void an_answer_lives_as_short_as_what_it_rests_on(void **state)
{
	struct stand *stand = *state;
	static const struct {
		unsigned one, two, whole;
	} cases[] = {{5, 60, 5}, {60, 5, 5}, {0, 60, 60}, {60, 0, 60}, {0, 0, 0}};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct asked *asked = ask_start(stand, "chain", lookup_of("key"));
		query_finish(late_take(stand, "one"),
			&(struct answer){.status = ST_NOTFOUND, .ttl = cases[i].one});
		stand_run(stand);
		struct pair row = {.value = STR("x")};
		query_finish(late_take(stand, "two"),
			&(struct answer){
				.status = ST_OK, .nrows = 1, .rows = &row, .ttl = cases[i].two});
		stand_run(stand);
		assert_int_equal(asked->query.answer.ttl, cases[i].whole);
		ask_free(asked);
	}
}

static void tables_without_the_operation_are_passed_over(void **state)
{
	struct stand *stand = *state;
	struct asked *asked = ask_start(stand, "mixed", lookup_of("key"));
	query_notfound(late_take(stand, "reader"));
	stand_run(stand);
	assert_false(late_waits(stand, "writer"));
	query_notfound(late_take(stand, "one"));
	stand_run(stand);
	assert_int_equal(asked->query.answer.status, ST_NOTFOUND);
	ask_free(asked);

	asked = ask_start(stand, "mixed", (struct question){.op = OP_ITERATE});
	query_notfound(late_take(stand, "writer"));
	stand_run(stand);
	static const struct pair rows[] = {{{"a", 1}, {"b", 1}}};
	query_finish(late_take(stand, "one"),
		&(struct answer){.status = ST_OK, .nrows = 1, .rows = rows});
	stand_run(stand);
	assert_int_equal(asked->query.answer.status, ST_OK);
	assert_ptr_equal(asked->query.answer.rows, rows);
	ask_free(asked);
}

static void a_change_goes_to_one_table(void **state)
{
	struct stand *stand = *state;
	struct change change = {.kind = CH_ADD, .key = STR("k"), .diff = 1};
	struct question question = {
		.op = OP_CHANGE, .nchanges = 1, .changes = &change, .expire_secs = 9};
	struct asked *asked = ask_start(stand, "mixed", question);
	query_notfound(late_take(stand, "writer")); /* increment of a missing key */
	stand_run(stand);
	assert_int_equal(asked->dones, 1);
	assert_int_equal(asked->query.answer.status, ST_NOTFOUND);
	ask_free(asked);

	asked = ask_start(stand, "mixed", question);
	query_finish(late_take(stand, "writer"),
		&(struct answer){.status = ST_TEMP, .why = STR("lost"), .uncertain = true});
	stand_run(stand);
	assert_true(asked->query.answer.uncertain);
	ask_free(asked);
	assert_int_equal(late_of(stand, "one")->started, 0);

	asked = ask(stand, "chain", question); /* its first table cannot expire */
	assert_int_equal(asked->query.answer.status, ST_PERM);
	ask_free(asked);
}

static void cancel_reaches_the_member(void **state)
{
	struct stand *stand = *state;
	struct asked *asked = ask_start(stand, "chain", lookup_of("key"));
	ask_free(asked);
	assert_int_equal(late_of(stand, "one")->cancelled, 1);
	asked = ask_start(stand, "chain", lookup_of("key"));
	query_notfound(late_take(stand, "one"));
	stand_run(stand);
	ask_free(asked);
	assert_int_equal(late_of(stand, "two")->cancelled, 1);
	stand_run(stand);
	assert_false(late_waits(stand, "one") || late_waits(stand, "two"));
}

/* A chain of chains, and real tables at its end. */
static void chains_nest(void **state)
{
	(void)state;
	struct stand stand;
	stand_init(&stand);
	assert_true(stand_add(&stand, "a", &backend_static, "param", "x=1 empty=", NULL));
	assert_true(stand_add(&stand, "b", &backend_static, "param", "y=2 x=3", NULL));
	assert_true(stand_add(&stand, "m", &backend_memory, NULL));
	assert_true(stand_add(&stand, "ab", &backend_chain, "param", "a b", NULL));
	assert_true(stand_add(&stand, "abm", &backend_chain, "param", "ab m", NULL));
	stand_open(&stand);
	assert_answer(&stand, "abm", lookup_of("x"), "1");
	assert_answer(&stand, "abm", lookup_of("y"), "2");
	assert_answer(&stand, "abm", lookup_of("z"), "(notfound)");
	assert_answer(&stand, "abm", lookup_of("empty"), "(notfound)");
	struct change change = {.kind = CH_SET, .key = STR("z"), .value = STR("3")};
	struct asked *asked = ask(&stand, "abm",
		(struct question){.op = OP_CHANGE, .nchanges = 1, .changes = &change});
	assert_int_equal(asked->query.answer.status, ST_OK);
	ask_free(asked);
	assert_answer(&stand, "abm", lookup_of("z"), "3");
	assert_rows(&stand, "abm", ((struct question){.op = OP_ITERATE, .key = STR("z")}), "z=3");
	assert_rows(&stand, "abm", ((struct question){.op = OP_ITERATE, .key = STR("y")}), "y=2");
	stand_close(&stand);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_table_is_refused),
		TEST(operations_are_the_members),
		TEST(the_first_that_knows_answers),
		TEST(nobody_knows),
		TEST(failures_end_the_walk),
		TEST(an_answer_lives_as_short_as_what_it_rests_on),
		TEST(tables_without_the_operation_are_passed_over),
		TEST(a_change_goes_to_one_table),
		TEST(cancel_reaches_the_member),
		cmocka_unit_test(chains_nest),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
