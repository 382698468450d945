/* Tests of the cache: what is kept and for how long, who shares a request, what changes make forget, what
 * stands in while the source fails, and the bounds of it all. */
#include "late.h"

#include <malloc.h>
#include <pthread.h>

#include "../../backends/cache_store.h"
#include "../../backends/list.h"

/* Answers late, all operations. */
static const struct backend backend_source = {
	.name = "source",
	.ops = CAN(OP_LOOKUP) | CAN(OP_ITERATE) | CAN(OP_CHANGE) | CAN(OP_POLICY) | CAN(OP_AUTH),
	.can_expire = true,
	.settings = late_settings,
	.conf_size = 1,
	.open = late_open,
	.close = late_close,
	.start = late_start,
	.cancel = late_cancel,
};

/* ---- the stand: "t", a cache around a late table, and other workers' of the same ---- */

#define SET_UP(stand, ...)                                                                         \
	stand_init(&(stand));                                                                      \
	assert_true(stand_add(&(stand), "t", &backend_source, "timeout", "10s", NULL));            \
	if (!stand_wrap(&(stand), &backend_cache, __VA_ARGS__, NULL))                              \
		fail_msg("%s", (stand).error.text);                                                \
	stand_open(&(stand))

/* The table inside; "t" is found by its cache. */
static struct late *source_of(struct stand *stand)
{
	return stand->set.tables[0].state;
}

static struct query *take(struct stand *stand)
{
	struct wait *wait = TAILQ_FIRST(&source_of(stand)->waiting);
	if (!wait)
		fail_msg("the source was not asked");
	TAILQ_REMOVE(&source_of(stand)->waiting, wait, link);
	return wait->query;
}

static uint64_t counter(const struct stand *stand, const char *name)
{
	const struct table *table = &stand->set.tables[1];
	for (size_t i = 0; table->conf->backend->counters[i]; i++)
		if (strcmp(table->conf->backend->counters[i], name) == 0)
			return table->stats.counters[i];
	fail_msg("no counter %s", name);
	return 0;
}

/* The source's answer to the question that has waited longest. */
static void say(struct stand *stand, const struct answer *answer)
{
	query_finish(take(stand), answer);
	stand_run(stand);
}

static void say_ok(struct stand *stand, const char *value)
{
	struct query *query = take(stand);
	query_ok(query, arena_str(query->mem, str_of(value)));
	stand_run(stand);
}

static void say_temp(struct stand *stand)
{
	query_temp(take(stand), "down");
	stand_run(stand);
}

/* What came to one who asked; he is gone then. */
static void got(struct asked *asked, const char *expected)
{
	struct answer *answer = &asked->query.answer;
	assert_int_equal(asked->dones, 1);
	struct str text = answer->status == ST_OK ? answer->rows[0].value
						  : str_of(status_name(answer->status));
	assert_str(text, expected);
	ask_free(asked);
}

/* Asked and answered without the source. */
#define assert_kept(stand, question, expected)                                                     \
	do {                                                                                       \
		unsigned started_ = source_of(stand)->started;                                     \
		struct asked *asked_ = ask_start((stand), "t", (question));                        \
		stand_run(stand);                                                                  \
		got(asked_, (expected));                                                           \
		assert_int_equal(source_of(stand)->started, started_);                             \
	} while (0)

/* Asked of the source, which says this. */
static void fetched(struct stand *stand, struct question question, const char *value)
{
	struct asked *asked = ask_start(stand, "t", question);
	stand_run(stand);
	say_ok(stand, value);
	got(asked, value);
}

static void change(
	struct stand *stand, const char *key, enum scope scope, const struct answer *answer)
{
	const struct change step = {
		.kind = CH_SET, .scope = scope, .key = str_of(key), .value = STR("new")};
	struct asked *asked = ask_start(stand, "t",
		(struct question){
			.op = OP_CHANGE, .nchanges = 1, .changes = &step, .user = STR("u")});
	stand_run(stand);
	say(stand, answer);
	assert_int_equal(asked->dones, 1);
	assert_int_equal(asked->query.answer.status, answer->status);
	ask_free(asked);
}

static const struct answer done = {.status = ST_OK};

/* ---- what is kept ---- */

static void kept_for_its_time(void **state)
{
	struct stand stand;
	(void)state;
	SET_UP(stand, "cache.ttl", "60s");
	fetched(&stand, lookup_of("a"), "1");
	assert_kept(&stand, lookup_of("a"), "1");
	stand_pass(&stand, 58500);
	struct asked *asked = ask(&stand, "t", lookup_of("a"));
	assert_int_equal(asked->query.answer.ttl, 2); /* what is left of it */
	got(asked, "1");
	stand_pass(&stand, 1500);
	fetched(&stand, lookup_of("a"), "2");
	assert_kept(&stand, lookup_of("a"), "2");
	assert_int_equal(counter(&stand, "hit"), 3);
	assert_int_equal(counter(&stand, "miss"), 2);
	assert_int_equal(counter(&stand, "entries"), 1);
	stand_close(&stand);
}

static void failures_are_not_kept(void **state)
{
	struct stand stand;
	(void)state;
	SET_UP(stand, "cache.ttl", "60s", "cache.negative_ttl", "60s");
	struct asked *asked = ask_start(&stand, "t", lookup_of("a"));
	say_temp(&stand);
	got(asked, "temp");
	asked = ask_start(&stand, "t", lookup_of("a"));
	query_perm(take(&stand), "wrong");
	stand_run(&stand);
	got(asked, "perm");
	fetched(&stand, lookup_of("a"), "1");
	assert_int_equal(counter(&stand, "entries"), 1);
	stand_close(&stand);
}

static void absence_has_its_own_time(void **state)
{
	struct stand stand;
	(void)state;
	SET_UP(stand, "cache.ttl", "60s", "cache.negative_ttl", "5s");
	struct asked *asked = ask_start(&stand, "t", lookup_of("a"));
	say(&stand, &(struct answer){.status = ST_NOTFOUND});
	got(asked, "notfound");
	stand_pass(&stand, 4999);
	assert_kept(&stand, lookup_of("a"), "notfound");
	stand_pass(&stand, 1);
	fetched(&stand, lookup_of("a"), "1");
	stand_close(&stand);
	/* Without the option it is not kept, and takes the place of what was known. */
	SET_UP(stand, "cache.ttl", "1s", "cache.stale", "1h");
	fetched(&stand, lookup_of("a"), "1");
	stand_pass(&stand, 1000);
	asked = ask_start(&stand, "t", lookup_of("a"));
	say(&stand, &(struct answer){.status = ST_NOTFOUND});
	got(asked, "notfound");
	asked = ask_start(&stand, "t", lookup_of("a"));
	say_temp(&stand);
	got(asked, "temp"); /* not "1" */
	stand_close(&stand);
}

static void the_source_says_how_long(void **state)
{
	static const struct pair row = {.value = {"1", 1}};
	struct answer answer = {.status = ST_OK, .nrows = 1, .rows = &row, .ttl = 7};
	struct stand stand;
	(void)state;
	SET_UP(stand, "cache.ttl", "source", "cache.max_ttl", "100s");
	assert_true(stand.confs[0].wants_ttl);
	struct asked *asked = ask_start(&stand, "t", lookup_of("seven"));
	say(&stand, &answer);
	got(asked, "1");
	stand_pass(&stand, 6999);
	assert_kept(&stand, lookup_of("seven"), "1");
	stand_pass(&stand, 1);
	fetched(&stand, lookup_of("seven"), "2"); /* this time it says nothing: not kept */
	fetched(&stand, lookup_of("seven"), "3");
	answer.no_store = true;
	asked = ask_start(&stand, "t", lookup_of("never"));
	say(&stand, &answer);
	got(asked, "1");
	fetched(&stand, lookup_of("never"), "2");
	answer = (struct answer){.status = ST_NOTFOUND, .ttl = 1000000};
	asked = ask_start(&stand, "t", lookup_of("absent"));
	say(&stand, &answer);
	got(asked, "notfound");
	stand_pass(&stand, 99999);
	assert_kept(&stand, lookup_of("absent"), "notfound");
	stand_pass(&stand, 1);
	fetched(&stand, lookup_of("absent"), "1");
	stand_close(&stand);
}

static void every_part_of_the_question_counts(void **state)
{
	static const struct pair one[] = {{{"a", 1}, {"bc", 2}}}, other[] = {{{"ab", 2}, {"c", 1}}};
	const struct question questions[] = {
		{.op = OP_LOOKUP, .key = STR("k")},
		{.op = OP_LOOKUP, .key = STR("k"), .form = FORM_JSON},
		{.op = OP_LOOKUP, .key = STR("k"), .scope = SCOPE_SHARED},
		{.op = OP_LOOKUP, .key = STR("k"), .scope = SCOPE_PRIV},
		{.op = OP_LOOKUP, .key = STR("k"), .user = STR("u")},
		{.op = OP_LOOKUP, .key = STR("ku")},
		{.op = OP_LOOKUP, .key = STR("K")},
		{.op = OP_LOOKUP, .key = STR("k"), .nattrs = 1, .attrs = one},
		{.op = OP_LOOKUP, .key = STR("k"), .nattrs = 1, .attrs = other},
		{.op = OP_ITERATE, .key = STR("k")},
		{.op = OP_ITERATE, .key = STR("k"), .flags = ITER_RECURSE},
		{.op = OP_ITERATE, .key = STR("k"), .max_rows = 1},
	};
	enum { N = sizeof(questions) / sizeof(*questions) };
	struct stand stand;
	char value[8];
	(void)state;
	SET_UP(stand, "cache.ttl", "60s");
	for (unsigned i = 0; i < N; i++) {
		snprintf(value, sizeof(value), "v%u", i);
		fetched(&stand, questions[i], value);
	}
	for (unsigned i = 0; i < N; i++) {
		snprintf(value, sizeof(value), "v%u", i);
		assert_kept(&stand, questions[i], value);
	}
	stand_close(&stand);
}

static void vary_narrows(void **state)
{
	static const struct pair a[] = {{STR("sender"), STR("x")}, {STR("instance"), STR("1")}};
	static const struct pair b[] = {{STR("sender"), STR("x")}, {STR("instance"), STR("2")}};
	static const struct pair c[] = {{STR("sender"), STR("y")}, {STR("instance"), STR("1")}};
	struct question lookup = {.op = OP_LOOKUP, .key = STR("k"), .user = STR("u")};
	struct question policy = {.op = OP_POLICY, .nattrs = 2, .attrs = a};
	struct stand stand;
	(void)state;
	SET_UP(stand, "cache.ttl", "60s", "cache.vary", "sender");
	fetched(&stand, lookup, "1");
	lookup.user = STR("other");
	assert_kept(&stand, lookup, "1");
	lookup.scope = SCOPE_PRIV; /* the user is a part of the name */
	fetched(&stand, lookup, "2");
	lookup.user = STR("u");
	fetched(&stand, lookup, "3");
	fetched(&stand, policy, "DUNNO");
	policy.attrs = b;
	assert_kept(&stand, policy, "DUNNO");
	policy.attrs = c;
	fetched(&stand, policy, "REJECT");
	stand_close(&stand);

	SET_UP(stand, "cache.ttl", "60s", "cache.vary", "user");
	lookup = (struct question){
		.op = OP_LOOKUP, .key = STR("k"), .user = STR("u"), .nattrs = 2, .attrs = a};
	fetched(&stand, lookup, "1");
	lookup.attrs = c;
	assert_kept(&stand, lookup, "1");
	lookup.user = STR("other");
	fetched(&stand, lookup, "2");
	stand_close(&stand);

	SET_UP(stand, "cache.ttl", "60s", "cache.vary", "key");
	fetched(&stand, lookup, "1");
	lookup.user = STR("third");
	assert_kept(&stand, lookup, "1");
	stand_close(&stand);
}

/* A password and what may count the askers are the source's affair, each by itself. */
static void neither_passwords_nor_policy(void **state)
{
	static const enum op ops[] = {OP_AUTH, OP_POLICY};
	struct stand stand;
	(void)state;
	SET_UP(stand, "cache.ttl", "60s");
	for (unsigned i = 0; i < 2; i++) {
		struct question question = {.op = ops[i], .key = STR("k")};
		unsigned before = source_of(&stand)->started;
		struct asked *one = ask_start(&stand, "t", question);
		struct asked *two = ask_start(&stand, "t", question);
		assert_int_equal(source_of(&stand)->started, before + 2);
		say_ok(&stand, "1");
		say_ok(&stand, "2");
		got(one, "1");
		got(two, "2");
		fetched(&stand, question, "3");
	}
	assert_int_equal(counter(&stand, "entries"), 0);
	stand_close(&stand);
}

/* ---- who shares ---- */

static void equal_questions_are_one_request(void **state)
{
	struct stand stand;
	struct asked *asked[100];
	(void)state;
	SET_UP(stand, "timeout", "10s");
	for (unsigned i = 0; i < 100; i++)
		asked[i] = ask_start(&stand, "t", lookup_of("a"));
	struct asked *other = ask_start(&stand, "t", lookup_of("b"));
	assert_int_equal(source_of(&stand)->started, 2);
	assert_int_equal(counter(&stand, "joined"), 99);
	say_ok(&stand, "1");
	for (unsigned i = 0; i < 100; i++) {
		for (unsigned j = 0; j < i; j++) /* each has his own copy */
			assert_true(i % 7 ||
				    asked[j]->query.answer.rows != asked[i]->query.answer.rows);
	}
	for (unsigned i = 0; i < 100; i++)
		got(asked[i], "1");
	say_ok(&stand, "2");
	got(other, "2");
	fetched(&stand, lookup_of("a"), "3"); /* nothing was kept */
	stand_close(&stand);
}

static void who_leaves_takes_nothing(void **state)
{
	struct stand stand;
	(void)state;
	SET_UP(stand, "timeout", "10s");
	struct asked *first = ask_start(&stand, "t", lookup_of("a"));
	struct asked *second = ask_start(&stand, "t", lookup_of("a"));
	struct asked *third = ask_start(&stand, "t", lookup_of("a"));
	ask_free(first);
	ask_free(third);
	assert_int_equal(source_of(&stand)->cancelled, 0);
	say_ok(&stand, "1");
	got(second, "1");
	first = ask_start(&stand, "t", lookup_of("a"));
	second = ask_start(&stand, "t", lookup_of("a"));
	ask_free(second);
	ask_free(first); /* the last */
	assert_int_equal(source_of(&stand)->cancelled, 1);
	first = ask_start(
		&stand, "t", lookup_of("a")); /* leaves when the answer is there already */
	query_ok(take(&stand), STR("late"));
	ask_free(first);
	stand_run(&stand);
	fetched(&stand, lookup_of("a"), "2");
	stand_close(&stand);
}

/* The first asker's time is short, but the request is everybody's. */
static void each_has_his_own_deadline(void **state)
{
	struct stand stand;
	(void)state;
	SET_UP(stand, "timeout", "10s");
	struct asked *first = memory_new(sizeof(*first));
	first->ask = lookup_of("a");
	first->query.mem = &first->mem;
	first->query.deadline = stand_now + 100;
	query_start(&first->query, stand_table(&stand, "t"), &first->ask, on_asked);
	stand_pass(&stand, 50);
	struct asked *second = ask_start(&stand, "t", lookup_of("a"));
	stand_pass(&stand, 100);
	got(first, "temp");
	assert_int_equal(second->dones, 0);
	stand_pass(&stand, 5000);
	say_ok(&stand, "1");
	got(second, "1");
	stand_close(&stand);
}

/* The request hangs; who joined late asks again, with all the time he has left. */
static void late_joiners_ask_again(void **state)
{
	struct stand stand;
	(void)state;
	SET_UP(stand, "timeout", "10s");
	struct asked *first = ask_start(&stand, "t", lookup_of("a"));
	stand_pass(&stand, 100);
	struct asked *soon = ask_start(&stand, "t", lookup_of("a"));
	stand_pass(&stand, 8900);
	struct asked *late = ask_start(&stand, "t", lookup_of("a"));
	struct asked *later = ask_start(&stand, "t", lookup_of("a"));
	assert_int_equal(source_of(&stand)->started, 1);
	stand_pass(&stand, 1000);
	got(first, "temp");
	got(soon, "temp"); /* with him it was all but tried */
	assert_int_equal(late->dones, 0);
	assert_int_equal(source_of(&stand)->started, 2);
	ask_free(later);
	say_ok(&stand, "1");
	got(late, "1");
	stand_close(&stand);
}

/* ---- changes ---- */

static void a_change_forgets(void **state)
{
	static const struct answer uncertain = {
		.status = ST_TEMP, .why = STR("lost"), .uncertain = true};
	struct question priv = {
		.op = OP_LOOKUP, .key = STR("a"), .scope = SCOPE_PRIV, .user = STR("u")};
	struct question list = {.op = OP_ITERATE, .key = STR("")};
	struct stand stand;
	(void)state;
	SET_UP(stand, "cache.ttl", "60s");
	fetched(&stand, priv, "1");
	fetched(&stand, lookup_of("a"), "1");
	fetched(&stand, lookup_of("b"), "1");
	fetched(&stand, list, "1");
	change(&stand, "a", SCOPE_PRIV, &done);
	fetched(&stand, priv, "2");
	fetched(&stand, lookup_of("a"), "2"); /* tables may give both one name */
	fetched(&stand, list, "2");
	assert_kept(&stand, lookup_of("b"), "1");
	change(&stand, "a", SCOPE_SHARED, &uncertain);
	fetched(&stand, priv, "3");
	assert_true(counter(&stand, "forgotten") >= 4);
	stand_close(&stand);
}

static void a_read_under_way_puts_nothing_back(void **state)
{
	struct stand stand;
	(void)state;
	SET_UP(stand, "cache.ttl", "60s", "cache.stale", "1h");
	/* Began before, ends behind. */
	struct asked *old = ask_start(&stand, "t", lookup_of("a"));
	struct query *slow = take(&stand);
	change(&stand, "a", SCOPE_SHARED, &done);
	struct asked *new = ask_start(&stand, "t", lookup_of("a")); /* must not join */
	assert_int_equal(old->dones, 0);
	query_ok(slow, STR("old"));
	stand_run(&stand);
	got(old, "old"); /* was asked before */
	assert_int_equal(new->dones, 0);
	say_ok(&stand, "new");
	got(new, "new");
	assert_kept(&stand, lookup_of("a"), "new");

	/* Began and ended while the change was under way. */
	const struct change step = {.kind = CH_SET, .key = STR("b"), .value = STR("new")};
	struct asked *write = ask_start(
		&stand, "t", (struct question){.op = OP_CHANGE, .nchanges = 1, .changes = &step});
	struct query *writing = take(&stand);
	fetched(&stand, lookup_of("b"), "old");
	query_finish(writing, &done);
	stand_run(&stand);
	ask_free(write);
	fetched(&stand, lookup_of("b"), "new");

	/* A change whose asker gave up may have happened. */
	fetched(&stand, lookup_of("c"), "old");
	const struct change other = {.kind = CH_SET, .key = STR("c"), .value = STR("new")};
	write = ask_start(
		&stand, "t", (struct question){.op = OP_CHANGE, .nchanges = 1, .changes = &other});
	struct asked *read = ask_start(&stand, "t", lookup_of("c"));
	writing = take(&stand);
	say_ok(&stand, "old");
	got(read, "old");
	TAILQ_INSERT_TAIL(&source_of(&stand)->waiting, (struct wait *)writing->work, link);
	ask_free(write);
	fetched(&stand, lookup_of("c"), "new");
	stand_close(&stand);
}

/* Several workers are several sets of the same configuration. */
static void every_worker_forgets(void **state)
{
	struct stand stand;
	struct table_set mine, other;
	(void)state;
	SET_UP(stand, "cache.ttl", "60s");
	assert_true(table_set_open(
		&other, stand.confs, stand.n, NULL, &stand.turn, NULL, &stand.error));
	mine = stand.set;
	fetched(&stand, lookup_of("a"), "old");
	stand.set = other;
	fetched(&stand, lookup_of("a"), "old");
	change(&stand, "a", SCOPE_NONE, &done);
	stand.set = mine;
	fetched(&stand, lookup_of("a"), "new");
	assert_kept(&stand, lookup_of("a"), "new");
	table_forget(&other.tables[1], &STR("a"));
	fetched(&stand, lookup_of("a"), "newer");
	fetched(&stand, lookup_of("b"), "1");
	table_forget(&other.tables[1], &STR("a"));
	assert_kept(&stand, lookup_of("b"), "1");
	table_forget(&other.tables[1], NULL);
	fetched(&stand, lookup_of("b"), "2");
	table_set_close(&other);
	stand_close(&stand);
}

/* A reload: the same table of another set goes on with what this one knew, and a change that is under way
 * in the old one makes the new one forget. A table that has become another only does the latter. */
static void a_reload_keeps_what_has_not_changed(void **state)
{
	static const struct change step = {.kind = CH_SET, .key = {"b", 1}};
	struct stand stand;
	struct table_set old, new;
	(void)state;
	for (int changed = 0; changed < 2; changed++) {
		SET_UP(stand, "cache.ttl", "60s");
		fetched(&stand, lookup_of("a"), "1");
		assert_kept(&stand, lookup_of("a"), "1");
		struct asked *write = ask_start(&stand, "t",
			(struct question){.op = OP_CHANGE, .nchanges = 1, .changes = &step});
		struct table_conf next[2] = {stand.confs[0], stand.confs[1]};
		next[1].inner = &next[0];
		next[1].digest += (unsigned)changed;
		assert_true(backend_cache.check(&next[1], &stand.error));
		backend_cache.inherit(&next[1], &stand.confs[1]);
		assert_true(
			table_set_open(&new, next, 2, NULL, &stand.turn, &stand.set, &stand.error));
		table_set_take_stats(&new, &stand.set);
		old = stand.set;
		stand.set = new;
		assert_int_equal(counter(&stand, "entries"), changed ? 0 : 1);
		if (changed)
			fetched(&stand, lookup_of("a"), "2");
		else
			assert_kept(&stand, lookup_of("a"), "1");
		assert_int_equal(counter(&stand, "hit"), changed ? 1 : 2);
		fetched(&stand, lookup_of("b"), "old");
		assert_kept(&stand, lookup_of("b"), "old");
		stand.set = old;
		say(&stand, &done);
		ask_free(write);
		stand.set = new;
		fetched(&stand, lookup_of("b"), "new");
		table_set_close(&new);
		backend_cache.drop(&next[1]);
		stand.set = old;
		stand_close(&stand);
	}
}

/* ---- stale ---- */

/* "a" is known to be "old", and has just expired. */
static void set_up_stale(struct stand *stand)
{
	SET_UP(*stand, "cache.ttl", "60s", "cache.stale", "1h", "cache.stale_timeout", "2s");
	fetched(stand, lookup_of("a"), "old");
	stand_pass(stand, 60000);
}

static void stale_when_the_source_fails(void **state)
{
	struct stand stand;
	(void)state;
	set_up_stale(&stand);
	struct asked *asked = ask_start(&stand, "t", lookup_of("a"));
	stand_run(&stand);
	assert_int_equal(asked->dones, 0); /* the source goes first */
	say_temp(&stand);
	assert_int_equal(asked->query.answer.ttl, 1);
	got(asked, "old");

	/* For a while nobody waits for it; one request goes on behind. */
	unsigned before = source_of(&stand)->started;
	for (unsigned i = 0; i < 5; i++)
		got(ask(&stand, "t", lookup_of("a")), "old");
	assert_int_equal(source_of(&stand)->started, before + 1);
	say_ok(&stand, "new");
	assert_kept(&stand, lookup_of("a"), "new");
	assert_int_equal(counter(&stand, "stale"), 6);

	asked = ask_start(&stand, "t", lookup_of("unknown"));
	say_temp(&stand);
	got(asked, "temp"); /* nothing stands in for what was never known */
	stand_close(&stand);
}

static void stale_when_the_source_is_slow(void **state)
{
	struct stand stand;
	(void)state;
	set_up_stale(&stand);
	struct asked *first = ask_start(&stand, "t", lookup_of("a"));
	stand_pass(&stand, 1000);
	struct asked *second = ask_start(&stand, "t", lookup_of("a"));
	stand_pass(&stand, 999);
	assert_int_equal(first->dones, 0);
	stand_pass(&stand, 1);
	got(first, "old");
	assert_int_equal(second->dones, 0);           /* has his own two seconds */
	got(ask(&stand, "t", lookup_of("a")), "old"); /* who comes now need not wait */
	stand_pass(&stand, 1000);
	got(second, "old");
	assert_int_equal(source_of(&stand)->started, 2);
	assert_int_equal(source_of(&stand)->cancelled, 0);
	say_ok(&stand, "new"); /* refreshed behind their backs */
	assert_kept(&stand, lookup_of("a"), "new");
	stand_close(&stand);
}

/* The trouble is over after a while, or when an answer comes in time. */
static void the_source_is_tried_again(void **state)
{
	struct stand stand;
	(void)state;
	set_up_stale(&stand);
	struct asked *asked = ask_start(&stand, "t", lookup_of("a"));
	say_temp(&stand);
	got(asked, "old");
	stand_pass(&stand, 5000);
	asked = ask_start(&stand, "t", lookup_of("a"));
	stand_run(&stand);
	assert_int_equal(asked->dones, 0);
	say_temp(&stand);
	got(asked, "old");
	fetched(&stand, lookup_of("b"), "1");
	asked = ask_start(&stand, "t", lookup_of("a"));
	stand_run(&stand);
	assert_int_equal(asked->dones, 0);
	say_ok(&stand, "new");
	got(asked, "new");
	stand_close(&stand);
}

static void stale_within_the_askers_time(void **state)
{
	struct stand stand;
	(void)state;
	set_up_stale(&stand);
	struct asked *asked = memory_new(sizeof(*asked));
	asked->ask = lookup_of("a");
	asked->query.mem = &asked->mem;
	asked->query.deadline = stand_now + 800;
	query_start(&asked->query, stand_table(&stand, "t"), &asked->ask, on_asked);
	stand_pass(&stand, 750);
	got(asked, "old");
	say_ok(&stand, "new");
	stand_close(&stand);
}

static void stale_has_an_end(void **state)
{
	struct stand stand;
	(void)state;
	SET_UP(stand, "cache.ttl", "1s", "cache.stale", "10s");
	fetched(&stand, lookup_of("a"), "old");
	stand_pass(&stand, 10999);
	struct asked *asked = ask_start(&stand, "t", lookup_of("a"));
	say_temp(&stand);
	got(asked, "old");
	stand_pass(&stand, 1);
	asked = ask_start(&stand, "t", lookup_of("a"));
	say_temp(&stand);
	got(asked, "temp");
	stand_close(&stand);
}

static void no_stale_for_perm_nor_what_was_changed(void **state)
{
	static const struct answer lost = {
		.status = ST_TEMP, .why = STR("lost"), .uncertain = true};
	struct stand stand;
	(void)state;
	set_up_stale(&stand);
	struct asked *asked = ask_start(&stand, "t", lookup_of("a"));
	query_perm(take(&stand), "wrong");
	stand_run(&stand);
	got(asked, "perm");

	asked = ask_start(&stand, "t", lookup_of("a"));
	struct query *reading = take(&stand);
	change(&stand, "a", SCOPE_NONE, &lost);
	query_temp(reading, "down");
	stand_run(&stand);
	got(asked, "temp"); /* it has become wrong meanwhile */
	asked = ask_start(&stand, "t", lookup_of("a"));
	say_temp(&stand);
	got(asked, "temp");
	stand_close(&stand);

	set_up_stale(&stand); /* the same for him who waits for a slow source */
	asked = ask_start(&stand, "t", lookup_of("a"));
	reading = take(&stand);
	change(&stand, "a", SCOPE_NONE, &lost);
	stand_pass(&stand, 3000);
	assert_int_equal(asked->dones, 0);
	query_ok(reading, STR("new"));
	stand_run(&stand);
	got(asked, "new");
	stand_close(&stand);
}

/* A source that hangs is not asked for everything at once behind the clients' backs. */
static void few_go_on_behind(void **state)
{
	struct stand stand;
	char key[16];
	(void)state;
	SET_UP(stand, "cache.ttl", "1s", "cache.stale", "1h");
	for (unsigned i = 0; i < 200; i++) {
		snprintf(key, sizeof(key), "k%u", i);
		fetched(&stand, lookup_of(key), key);
	}
	stand_pass(&stand, 1000);
	struct asked *asked = ask_start(&stand, "t", lookup_of("unknown"));
	say_temp(&stand);
	got(asked, "temp");
	unsigned before = source_of(&stand)->started;
	for (unsigned round = 0; round < 2; round++)
		for (unsigned i = 0; i < 200; i++) {
			snprintf(key, sizeof(key), "k%u", i);
			got(ask(&stand, "t", lookup_of(key)), key);
		}
	assert_int_equal(source_of(&stand)->started, before + 64);
	stand_pass(&stand, 10000); /* they run out of time */
	got(ask(&stand, "t", lookup_of("k199")), "k199");
	assert_int_equal(source_of(&stand)->started, before + 65);
	stand_close(&stand); /* with one under way */
}

/* Nor are all those gone on with whose clients have been given old answers. */
static void few_are_gone_on_with(void **state)
{
	struct stand stand;
	struct asked *asked[100];
	char key[16];
	(void)state;
	SET_UP(stand, "cache.ttl", "1s", "cache.stale", "1h");
	for (unsigned i = 0; i < 100; i++) {
		snprintf(key, sizeof(key), "k%u", i);
		fetched(&stand, lookup_of(key), key);
	}
	stand_pass(&stand, 1000);
	for (unsigned i = 0; i < 100; i++) {
		snprintf(key, sizeof(key), "k%u", i);
		asked[i] = ask_start(&stand, "t", lookup_of(key));
	}
	stand_pass(&stand, 1800);
	for (unsigned i = 0; i < 100; i++) {
		snprintf(key, sizeof(key), "k%u", i);
		got(asked[i], key);
	}
	assert_int_equal(source_of(&stand)->cancelled, 100 - 64);
	stand_close(&stand);
}

/* ---- bounds ---- */

static void the_least_recently_used_goes(void **state)
{
	struct stand stand;
	(void)state;
	SET_UP(stand, "cache.ttl", "60s", "cache.max_entries", "3");
	fetched(&stand, lookup_of("a"), "1");
	fetched(&stand, lookup_of("b"), "2");
	fetched(&stand, lookup_of("c"), "3");
	assert_kept(&stand, lookup_of("a"), "1");
	fetched(&stand, lookup_of("d"), "4");
	assert_kept(&stand, lookup_of("a"), "1");
	assert_kept(&stand, lookup_of("c"), "3");
	assert_kept(&stand, lookup_of("d"), "4");
	assert_int_equal(counter(&stand, "evicted"), 1);
	assert_int_equal(counter(&stand, "entries"), 3);
	fetched(&stand, lookup_of("b"), "5");
	stand_close(&stand);
}

static void bytes_are_bounded(void **state)
{
	struct stand stand;
	char key[16], value[1000], huge[9000];
	(void)state;
	memset(value, 'v', sizeof(value));
	memset(huge, 'h', sizeof(huge));
	value[sizeof(value) - 1] = huge[sizeof(huge) - 1] = '\0';
	SET_UP(stand, "cache.ttl", "60s", "cache.max_bytes", "64k");
	for (unsigned i = 0; i < 200; i++) {
		snprintf(key, sizeof(key), "k%u", i);
		fetched(&stand, lookup_of(key), value);
		assert_true(counter(&stand, "bytes") <= 64 << 10);
	}
	assert_in_range(counter(&stand, "entries"), 55, 64);
	uint64_t before = counter(&stand, "entries");
	fetched(&stand, lookup_of("huge"), huge); /* over an eighth */
	fetched(&stand, lookup_of("huge"), huge);
	assert_int_equal(counter(&stand, "entries"), before);
	assert_kept(&stand, lookup_of("k199"), value);
	stand_close(&stand);
}

/* Two workers have half of it each. */
static void bounds_are_those_of_all_workers(void **state)
{
	const struct cache_limits limits = {.max_entries = 1000, .max_bytes = 1 << 20};
	struct cache_common *common = cache_common_new();
	struct cache_store *one = cache_store_new(common, &limits),
			   *two = cache_store_new(common, &limits);
	const struct pair row = {.value = STR("value")};
	const struct answer answer = {.status = ST_OK, .nrows = 1, .rows = &row};
	char name[16];
	(void)state;
	cache_common_release(common);
	for (unsigned i = 0; i < 2000; i++) {
		struct cache_place place = {.until_ms = 1000};
		place.name = (struct str){name, (size_t)snprintf(name, sizeof(name), "k%u", i)};
		place.hash = cache_store_hash(one, place.name);
		cache_store_put(one, &place, &answer, 0);
	}
	assert_int_equal(one->n, 500);
	assert_int_equal(one->evicted, 1500);
	cache_store_release(two);
	cache_store_keep(one);
	cache_store_release(one);
	cache_store_release(one);
}

static size_t heap_used(void)
{
	struct mallinfo2 info = mallinfo2();
	return info.uordblks + info.hblkhd;
}

/* All are found again while the table grows, and weigh what is promised. */
static void a_million_entries(void **state)
{
	enum { N = 1000000, VALUE = 64 };
	const struct cache_limits limits = {.max_entries = N, .max_bytes = (size_t)1 << 40};
	struct cache_common *common = cache_common_new();
	struct cache_store *store = cache_store_new(common, &limits);
	static char value[VALUE];
	const struct pair row = {.value = {value, VALUE}};
	const struct answer answer = {.status = ST_OK, .nrows = 1, .rows = &row};
	size_t before = heap_used(), names = 0;
	char name[32];
	(void)state;
	cache_common_release(common);
	for (unsigned i = 0; i < N; i++) {
		struct cache_place place = {.until_ms = 1000};
		place.name = (struct str){
			name, (size_t)snprintf(name, sizeof(name), "user%u@example.org", i)};
		place.hash = cache_store_hash(store, place.name);
		cache_store_put(store, &place, &answer, 0);
		names += place.name.len;
		unsigned old = i / 2;
		struct str again = {
			name, (size_t)snprintf(name, sizeof(name), "user%u@example.org", old)};
		if (!cache_store_find(store, again, cache_store_hash(store, again), 0))
			fail_msg("%s is lost", name);
	}
	assert_int_equal(store->n, N);
	if (heap_used() > 0) { /* the malloc() of a sanitizer does not tell */
		double each = (double)(heap_used() - before - names) / N - VALUE;
		print_message("an entry takes %.0f bytes beside its key and value\n", each);
		assert_true(each > 0 && each <= 200);
	}
	cache_store_release(store);
}

static void packed_answers_are_checked(void **state)
{
	static const struct pair rows[] = {
		{STR("n"), STR("v")}, {STR(""), STR("")}, {STR("x"), STR("y")}};
	const struct answer answer = {.status = ST_OK, .nrows = 3, .rows = rows};
	struct arena mem = {0};
	struct answer back;
	char bytes[32], exact[32];
	(void)state;
	size_t size = answer_packed_size(&answer);
	answer_pack(&answer, bytes);
	assert_true(answer_unpack((struct str){bytes, size}, &back, &mem));
	assert_int_equal(back.nrows, 3);
	assert_str(back.rows[2].value, "y");
	for (size_t n = 0; n < size; n++) {
		char *cut = memory_new(n);
		memcpy(cut, bytes, n);
		assert_false(answer_unpack((struct str){cut, n}, &back, &mem));
		free(cut);
	}
	memcpy(exact, bytes, size);
	exact[0] = ST_TEMP;
	assert_false(answer_unpack((struct str){exact, size}, &back, &mem));
	exact[0] = ST_NOTFOUND;
	assert_false(answer_unpack((struct str){exact, size}, &back, &mem));
	exact[0] = ST_OK;
	exact[1] = 100; /* rows that are not there */
	assert_false(answer_unpack((struct str){exact, size}, &back, &mem));
	bytes[size] = 'x';
	assert_false(answer_unpack((struct str){bytes, size + 1}, &back, &mem));
	assert_false(
		answer_unpack(STR("\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), &back, &mem));
	arena_clear(&mem);
}

/* ---- threads: what was said to be written is what all read ---- */

static _Atomic uint64_t stored, published;

static void oracle_start(struct query *query)
{
	if (query->ask->op == OP_CHANGE) {
		atomic_fetch_add(&stored, 1);
		query_finish(query, &done);
		return;
	}
	uint64_t now = atomic_load(&stored);
	query_ok(query, arena_printf(query->mem, "%llu", (unsigned long long)now));
}

static const struct backend backend_oracle = {
	.name = "oracle",
	.ops = CAN(OP_LOOKUP) | CAN(OP_CHANGE),
	.settings = late_settings,
	.conf_size = 1,
	.start = oracle_start,
};

static void ask_in(struct stand *mine, struct asked *asked, struct question question)
{
	*asked = (struct asked){.ask = question};
	asked->query.mem = &asked->mem;
	query_start(&asked->query, &mine->set.tables[1], &asked->ask, on_asked);
	stand_run(mine);
	assert_int_equal(asked->dones, 1);
}

static void *read_and_write(void *arg)
{
	struct stand *mine = arg;
	static const struct change step = {.kind = CH_ADD, .key = {"a", 1}, .diff = 1};
	for (unsigned i = 0; i < 20000; i++) {
		struct asked asked;
		uint64_t value = 0, known = atomic_load(&published);
		ask_in(mine, &asked, lookup_of("a"));
		assert_true(str_u64(asked.query.answer.rows[0].value, &value));
		assert_true(value >= known);
		arena_clear(&asked.mem);
		if (i % 10)
			continue;
		ask_in(mine, &asked,
			(struct question){.op = OP_CHANGE, .nchanges = 1, .changes = &step});
		arena_clear(&asked.mem);
		atomic_fetch_add(&published, 1); /* never more than were stored */
	}
	return NULL;
}

static void threads_see_what_was_written(void **state)
{
	enum { N = 4 };
	struct stand stand, workers[N];
	pthread_t threads[N];
	(void)state;
	stand_init(&stand);
	assert_true(stand_add(&stand, "t", &backend_oracle, NULL));
	assert_true(stand_wrap(&stand, &backend_cache, "cache.ttl", "60s", NULL));
	for (unsigned i = 0; i < N; i++) {
		stand_init(&workers[i]);
		assert_true(table_set_open(&workers[i].set, stand.confs, stand.n, NULL,
			&workers[i].turn, NULL, &stand.error));
	}
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, read_and_write, &workers[i]), 0);
	for (unsigned i = 0; i < N; i++) {
		pthread_join(threads[i], NULL);
		assert_true(workers[i].set.tables[1].stats.counters[0] > 0); /* hits */
		stand_close(&workers[i]);
	}
	stand_close(&stand);
}

/* ---- options ---- */

static void refused(const char *key, const char *value, const char *text)
{
	struct stand stand;
	stand_init(&stand);
	assert_true(stand_add(&stand, "t", &backend_source, NULL));
	if (stand_wrap(&stand, &backend_cache, key, value, NULL))
		fail_msg("%s: %s was taken", key, value);
	assert_non_null(strstr(stand.error.text, text));
	stand_close(&stand);
}

static void options_that_contradict(void **state)
{
	(void)state;
	refused("cache.ttl", "soon", "cache.ttl: \"soon\" is no duration");
	refused("cache.ttl", "5", "cache.ttl: \"5\" is no duration");
	refused("cache.stale", "1h", "cache.stale: nothing is kept");
	refused("cache.max_ttl", "1h", "cache.max_ttl: bounds nothing");
}

static void wanted_where_answers_take_time(void **state)
{
	struct table_conf table = {.backend = &backend_late};
	struct cache_conf_probe {
		char bytes[512];
	} conf = {{0}};
	struct arena mem = {0};
	(void)state;
	assert_true(backend_cache.conf_size <= sizeof(conf));
	setting_fill(backend_cache.settings, &conf, &mem);
	assert_true(backend_cache.wanted(&table, &conf));
	table.options.side_effects = true;
	assert_false(backend_cache.wanted(&table, &conf));
	table = (struct table_conf){.backend = &backend_static};
	assert_false(backend_cache.wanted(&table, &conf));
	struct str sub;
	bool file;
	struct error error;
	const struct setting *ttl =
		setting_find(backend_cache.settings, STR("cache.ttl"), &sub, &file);
	assert_true(setting_put(ttl, &conf, &mem, sub, STR("1s"), &error));
	assert_true(backend_cache.wanted(&table, &conf));
	arena_clear(&mem);
}

/* A table that knows one key by itself, and has to ask for all others. */
static bool knowing_recall(struct table *table, struct query *query)
{
	(void)table;
	if (!str_eq(query->ask->key, STR("known")))
		return false;
	query_ok(query, STR("by heart"));
	return true;
}

static const struct backend backend_knowing = {
	.name = "knowing",
	.ops = CAN(OP_LOOKUP),
	.settings = late_settings,
	.conf_size = 1,
	.open = late_open,
	.close = late_close,
	.start = late_start,
	.cancel = late_cancel,
	.recall = knowing_recall,
};

/* No request is prepared for what needs none; where answers are kept, they go before. */
static void what_is_known_by_heart(void **state)
{
	struct stand stand = {0};
	(void)state;
	stand_init(&stand);
	assert_true(stand_add(&stand, "t", &backend_knowing, NULL));
	assert_true(stand_wrap(&stand, &backend_cache, NULL));
	stand_open(&stand);
	assert_kept(&stand, lookup_of("known"), "by heart");
	assert_int_equal(counter(&stand, "miss"), 0);
	struct asked *asked = ask_start(&stand, "t", lookup_of("other"));
	stand_run(&stand);
	assert_kept(&stand, lookup_of("known"), "by heart");
	say_ok(&stand, "asked for");
	got(asked, "asked for");
	assert_int_equal(counter(&stand, "miss"), 1);
	stand_close(&stand);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kept_for_its_time),
		cmocka_unit_test(failures_are_not_kept),
		cmocka_unit_test(absence_has_its_own_time),
		cmocka_unit_test(the_source_says_how_long),
		cmocka_unit_test(every_part_of_the_question_counts),
		cmocka_unit_test(vary_narrows),
		cmocka_unit_test(neither_passwords_nor_policy),
		cmocka_unit_test(equal_questions_are_one_request),
		cmocka_unit_test(who_leaves_takes_nothing),
		cmocka_unit_test(each_has_his_own_deadline),
		cmocka_unit_test(late_joiners_ask_again),
		cmocka_unit_test(a_change_forgets),
		cmocka_unit_test(a_read_under_way_puts_nothing_back),
		cmocka_unit_test(every_worker_forgets),
		cmocka_unit_test(what_is_known_by_heart),
		cmocka_unit_test(a_reload_keeps_what_has_not_changed),
		cmocka_unit_test(stale_when_the_source_fails),
		cmocka_unit_test(stale_when_the_source_is_slow),
		cmocka_unit_test(the_source_is_tried_again),
		cmocka_unit_test(stale_within_the_askers_time),
		cmocka_unit_test(stale_has_an_end),
		cmocka_unit_test(no_stale_for_perm_nor_what_was_changed),
		cmocka_unit_test(few_go_on_behind),
		cmocka_unit_test(few_are_gone_on_with),
		cmocka_unit_test(the_least_recently_used_goes),
		cmocka_unit_test(bytes_are_bounded),
		cmocka_unit_test(bounds_are_those_of_all_workers),
		cmocka_unit_test(a_million_entries),
		cmocka_unit_test(packed_answers_are_checked),
		cmocka_unit_test(threads_see_what_was_written),
		cmocka_unit_test(options_that_contradict),
		cmocka_unit_test(wanted_where_answers_take_time),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
