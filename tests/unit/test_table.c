/* Tests of table sets: who uses them, what the next one finds of the one before, their counters. */
#include "late.h"

#include "model/digest.h"

/* A table that notes what it finds when it is opened. */
static bool seen_open(struct table *table, struct error *error)
{
	(void)error;
	table->state = (void *)table->before;
	return true;
}

enum { SEEN_COUNT, SEEN_GAUGE };

static void seen_start(struct query *query)
{
	table_count(query->table, SEEN_COUNT);
	table_set_counter(query->table, SEEN_GAUGE, 7);
	query_notfound(query);
}

static const struct setting seen_settings[] = {
	{.name = "param", .kind = SET_SECRET, .fallback = ""}, {.name = NULL}};

static const struct backend backend_seen = {
	.name = "seen",
	.ops = CAN(OP_LOOKUP),
	.settings = seen_settings,
	.conf_size = sizeof(const char *),
	.open = seen_open,
	.gauges = 1u << SEEN_GAUGE,
	.start = seen_start,
};

static unsigned unused;

static void on_unused(struct table_set *set)
{
	(void)set;
	unused++;
}

static void add(struct stand *stand, const char *name, const struct backend *backend)
{
	if (!stand_add(stand, name, backend, NULL))
		fail_msg("%s", stand->error.text);
	stand->confs[stand->n - 1].digest = digest_of(&stand->confs[stand->n - 1]);
}

static void open_after(struct stand *stand, const struct stand *before)
{
	assert_true(table_set_open(&stand->set, stand->confs, stand->n, NULL, &stand->turn,
		&before->set, &stand->error));
}

/* ---- who uses it ---- */

static void queries_use_their_set(void **state)
{
	struct stand stand;
	(void)state;
	stand_init(&stand);
	add(&stand, "late", &backend_late);
	add(&stand, "now", &backend_seen);
	stand_open(&stand);
	stand.set.unused = on_unused;
	unused = 0;
	table_set_keep(&stand.set);
	struct asked *one = ask_start(&stand, "late", lookup_of("key"));
	struct asked *two = ask_start(&stand, "late", lookup_of("key"));
	struct asked *three = ask_start(&stand, "now", lookup_of("key"));
	assert_int_equal(stand.set.users, 4);
	table_set_leave(&stand.set);
	query_notfound(late_take(&stand, "late"));
	assert_int_equal(stand.set.users, 3); /* finished, and not yet delivered */
	query_cancel(&two->query);
	query_cancel(&two->query);
	assert_int_equal(stand.set.users, 2);
	query_cancel(&three->query); /* which was finished as well */
	assert_int_equal(unused, 0);
	stand_run(&stand);
	assert_int_equal(one->dones, 1);
	assert_int_equal(unused, 1);
	ask_free(one);
	ask_free(two);
	ask_free(three);
	assert_int_equal(unused, 1);
	stand_close(&stand);
}

static void on_done_free(struct query *query)
{
	struct asked *asked =
		(struct asked *)(void *)((char *)query - offsetof(struct asked, query));
	assert_int_equal(query->table->set->users, 1); /* still, while done() runs */
	arena_clear(&asked->mem);
	free(asked);
}

static void an_asker_may_vanish_in_done(void **state)
{
	struct stand stand;
	(void)state;
	stand_init(&stand);
	add(&stand, "late", &backend_late);
	stand_open(&stand);
	stand.set.unused = on_unused;
	unused = 0;
	struct asked *asked = ask_start(&stand, "late", lookup_of("key"));
	asked->query.done = on_done_free;
	query_notfound(late_take(&stand, "late"));
	stand_run(&stand);
	assert_int_equal(unused, 1);
	stand_close(&stand);
}

/* ---- before ---- */

static void finds_itself_unchanged(void **state)
{
	struct stand before, now;
	(void)state;
	stand_init(&before);
	stand_init(&now);
	add(&before, "same", &backend_seen);
	add(&before, "changed", &backend_seen);
	add(&before, "retyped", &backend_late);
	add(&before, "renamed", &backend_seen);
	stand_open(&before);
	add(&now, "new name", &backend_seen);
	add(&now, "retyped", &backend_seen);
	assert_true(stand_add(&now, "changed", &backend_seen, "param", "other", NULL));
	now.confs[2].digest = digest_of(&now.confs[2]);
	add(&now, "same", &backend_seen);
	open_after(&now, &before);
	assert_ptr_equal(stand_table(&now, "same")->state, stand_table(&before, "same"));
	assert_null(stand_table(&now, "same")->before); /* for open() only */
	assert_null(stand_table(&now, "changed")->state);
	assert_null(stand_table(&now, "retyped")->state);
	assert_null(stand_table(&now, "new name")->state);
	assert_null(stand_table(&before, "same")->state);
	stand_close(&now);
	stand_close(&before);
}

/* Layers of one name are told apart by their type. */
static void finds_each_layer(void **state)
{
	struct stand stands[2];
	(void)state;
	for (int i = 0; i < 2; i++) {
		stand_init(&stands[i]);
		add(&stands[i], "t", &backend_late);
		assert_true(stand_wrap(&stands[i], &backend_seen, NULL));
		stands[i].confs[1].digest = digest_of(&stands[i].confs[1]);
	}
	stand_open(&stands[0]);
	open_after(&stands[1], &stands[0]);
	assert_ptr_equal(stands[1].set.tables[1].state, &stands[0].set.tables[1]);
	stand_close(&stands[1]);
	stand_close(&stands[0]);
}

/* ---- counters ---- */

static uint64_t notfound(struct stand *stand, const char *name)
{
	return stand_table(stand, name)->stats.results[ST_NOTFOUND];
}

static void counters_go_on(void **state)
{
	struct stand before, now;
	(void)state;
	stand_init(&before);
	stand_init(&now);
	add(&before, "a", &backend_seen);
	add(&before, "b", &backend_seen);
	add(&now, "b", &backend_seen);
	stand_open(&before);
	open_after(&now, &before);
	ask_free(ask(&before, "b", lookup_of("key")));
	ask_free(ask(&before, "a", lookup_of("key")));
	table_set_take_stats(&now.set, &before.set);
	assert_int_equal(stand_table(&now, "b")->stats.counters[SEEN_COUNT], 1);
	assert_int_equal(stand_table(&now, "b")->stats.counters[SEEN_GAUGE], 0);
	ask_free(ask(&now, "b", lookup_of("key")));
	assert_int_equal(notfound(&now, "b"), 2);
	ask_free(ask(&before, "b", lookup_of("key"))); /* it was under way */
	table_set_take_stats(&now.set, &before.set);
	assert_int_equal(notfound(&now, "b"), 3);
	assert_int_equal(notfound(&before, "b"), 0);
	stand_close(&now);
	stand_close(&before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(queries_use_their_set),
		cmocka_unit_test(an_asker_may_vanish_in_done),
		cmocka_unit_test(finds_itself_unchanged),
		cmocka_unit_test(finds_each_layer),
		cmocka_unit_test(counters_go_on),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
