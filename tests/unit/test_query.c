/* Tests of the five rules of query.h, with a table that answers late, alone and through chains. */
#include "late.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../backends/list.h"

/* late; chain -> (other, late); outer -> chain */
static int set_up(void **state)
{
	struct stand *stand = memory_new(sizeof(*stand));
	stand_init(stand);
	if (!stand_add(stand, "late", &backend_late, NULL) ||
		!stand_add(stand, "other", &backend_late, NULL) ||
		!stand_add(stand, "chain", &backend_chain, "param", "other late", NULL) ||
		!stand_add(stand, "outer", &backend_chain, "param", "chain", NULL) ||
		!stand_add(stand, "now", &backend_static, "param", "key=value empty=", NULL))
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

/* Walks a question as far as the table `late`, through whatever stands before it. */
static struct query *reach_late(struct stand *stand)
{
	struct query *before = late_take(stand, "other");
	if (before) {
		query_notfound(before);
		stand_run(stand);
	}
	return late_take(stand, "late");
}

static const char *const ways[] = {"late", "chain", "outer"};
enum { WAYS = sizeof(ways) / sizeof(*ways) };

/* Rules 1 and 2: once, at the end of a turn, and idle again by then. */
static void done_is_called_once_in_a_turn(void **state)
{
	struct stand *stand = *state;
	for (size_t i = 0; i < WAYS; i++) {
		struct asked *asked = ask_start(stand, ways[i], lookup_of("key"));
		assert_int_equal(asked->query.phase, Q_RUNNING);
		struct query *query = reach_late(stand);
		assert_int_equal(asked->dones, 0);
		query_ok(query, STR("value"));
		assert_int_equal(asked->dones, 0);
		assert_true(stand->woken); /* finished outside of a turn: it asks for one */
		stand_run(stand);
		assert_int_equal(asked->dones, 1);
		assert_int_equal(asked->query.phase, Q_IDLE);
		assert_str(asked->query.answer.rows[0].value, "value");
		stand_run(stand);
		assert_int_equal(asked->dones, 1);
		ask_free(asked);
	}
}

/* Rule 2 holds for a table that answers within start(), and within a turn. */
static void an_answer_at_once_waits_for_the_turn(void **state)
{
	struct stand *stand = *state;
	turn_enter(&stand->turn);
	struct asked *asked = ask_start(stand, "now", lookup_of("key"));
	assert_int_equal(asked->query.phase, Q_FINISHED);
	assert_int_equal(asked->dones, 0);
	turn_leave(&stand->turn);
	assert_int_equal(asked->dones, 1);
	ask_free(asked);
}

/* Rule 1: a second end is the programmer's mistake and ends the process. */
static void finishing_twice_aborts(void **state)
{
	struct stand *stand = *state;
	struct asked *asked = ask_start(stand, "late", lookup_of("key"));
	struct query *query = late_take(stand, "late");
	query_notfound(query);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		signal(SIGABRT, SIG_DFL); /* cmocka catches it */
		close(STDERR_FILENO);
		query_notfound(query);
		_exit(0);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	stand_run(stand);
	assert_int_equal(asked->dones, 1);
	ask_free(asked);
}

/* Rule 3: in each phase, and its memory goes at once (the sanitizer watches). */
static void cancel_idle(void **state)
{
	struct stand *stand = *state;
	struct asked *asked = memory_new(sizeof(*asked));
	ask_free(asked); /* never started */
	asked = ask(stand, "now", lookup_of("key"));
	ask_free(asked); /* done */
	stand_run(stand);
}

static void cancel_running(void **state)
{
	struct stand *stand = *state;
	for (size_t i = 0; i < WAYS; i++) {
		unsigned before = late_of(stand, "other")->cancelled;
		ask_free(ask_start(stand, ways[i], lookup_of("key"))); /* waits in the first */
		assert_int_equal(late_of(stand, "other")->cancelled, before + (i > 0));
		stand_run(stand);
		assert_false(late_waits(stand, "late") || late_waits(stand, "other"));
	}
	assert_int_equal(late_of(stand, "late")->cancelled, 1);
}

/* The member has finished, but its answer has not been taken up the chain. */
static void cancel_between_member_and_chain(void **state)
{
	struct stand *stand = *state;
	for (size_t i = 1; i < WAYS; i++) {
		struct asked *asked = ask_start(stand, ways[i], lookup_of("key"));
		query_notfound(late_take(stand, "other"));
		ask_free(asked);
		stand_run(stand);
		assert_false(late_waits(stand, "late"));
		asked = ask_start(stand, ways[i], lookup_of("key"));
		query_ok(reach_late(stand), STR("value"));
		ask_free(asked);
		stand_run(stand);
	}
	assert_int_equal(late_of(stand, "other")->cancelled, 0);
}

static void cancel_finished(void **state)
{
	struct stand *stand = *state;
	ask_free(ask_start(stand, "now", lookup_of("key")));
	struct asked *asked = ask_start(stand, "late", lookup_of("key"));
	query_temp(late_take(stand, "late"), "down");
	assert_int_equal(asked->query.phase, Q_FINISHED);
	ask_free(asked);
	assert_int_equal(late_of(stand, "late")->cancelled, 0);
	stand_run(stand);
}

/* Two that know one another. */
struct couple {
	struct query query;
	struct question ask;
	struct arena mem;
	struct couple *other;
	unsigned dones;
};

static void on_couple(struct query *query)
{
	struct couple *mine =
		(struct couple *)(void *)((char *)query - offsetof(struct couple, query));
	mine->dones++;
	query_cancel(&mine->other->query);
}

static void couple_start(struct stand *stand, struct couple *couple, const char *table)
{
	couple->ask = lookup_of("key");
	couple->query.mem = &couple->mem;
	query_start(&couple->query, stand_table(stand, table), &couple->ask, on_couple);
}

/* A done() cancels another query: finished and next in the queue, running, or itself idle. */
static void cancel_from_within_done(void **state)
{
	struct stand *stand = *state;
	static const char *const tables[] = {"now", "late", "chain", "outer"};
	for (size_t i = 0; i < 4; i++) {
		struct couple a = {.other = &a}, b = {.other = &a};
		a.other = &b;
		couple_start(stand, &a, "now");
		couple_start(stand, &b, tables[i]);
		stand_run(stand);
		assert_int_equal(a.dones, 1);
		assert_int_equal(b.dones, 0);
		assert_int_equal(b.query.phase, Q_IDLE);
		assert_false(late_waits(stand, "late") || late_waits(stand, "other"));
		arena_clear(&a.mem);
		arena_clear(&b.mem);
	}
}

/* Its own, which is idle when done() is called. */
static void cancel_itself_in_done(void **state)
{
	struct stand *stand = *state;
	struct couple a = {.other = &a};
	couple_start(stand, &a, "now");
	stand_run(stand);
	assert_int_equal(a.dones, 1);
	arena_clear(&a.mem);
}

/* A query asks again from its done(), for ever: others get their turn. */
struct chatter {
	struct query query;
	struct question ask;
	struct arena mem;
	unsigned left, answers;
};

static void on_chatter(struct query *query)
{
	struct chatter *chatter =
		(struct chatter *)(void *)((char *)query - offsetof(struct chatter, query));
	chatter->answers++;
	arena_clear(&chatter->mem);
	if (chatter->left-- > 0)
		query_start(query, query->table, &chatter->ask, on_chatter);
}

static void asking_again_from_done_shares_the_turn(void **state)
{
	struct stand *stand = *state;
	struct chatter chatter = {.ask = lookup_of("key"), .left = 5000};
	chatter.query.mem = &chatter.mem;
	turn_enter(&stand->turn);
	query_start(&chatter.query, stand_table(stand, "now"), &chatter.ask, on_chatter);
	turn_leave(&stand->turn);
	assert_true(chatter.answers > 0 && chatter.answers < 5000);
	assert_true(stand->woken);
	stand_run(stand);
	assert_int_equal(chatter.answers, 5001);
}

/* Answers come in the order in which they were finished, whatever their number. */
static void many_queries_all_end(void **state)
{
	struct stand *stand = *state;
	enum { N = 2000 };
	struct asked **asked = memory_new(N * sizeof(*asked));
	for (size_t i = 0; i < N; i++)
		asked[i] = ask_start(stand, ways[i % WAYS], lookup_of("key"));
	for (size_t i = 0; i < N; i += 7) {
		ask_free(asked[i]);
		asked[i] = NULL;
	}
	struct query *query;
	while ((query = reach_late(stand)))
		query_ok(query, STR("value"));
	stand_run(stand);
	for (size_t i = 0; i < N; i++) {
		if (!asked[i])
			continue;
		assert_int_equal(asked[i]->dones, 1);
		ask_free(asked[i]);
	}
	free(asked);
}

/* Rule 4, seen from above: what was asked has not changed. */
static void questions_do_not_change(void **state)
{
	struct stand *stand = *state;
	struct question before = lookup_of("key");
	for (size_t i = 0; i < WAYS; i++) {
		struct asked *asked = ask_start(stand, ways[i], before);
		struct query *query = reach_late(stand);
		assert_ptr_equal(query->ask, &asked->ask);
		query_ok(query, STR("value"));
		stand_run(stand);
		assert_memory_equal(&asked->ask, &before, sizeof(before));
		ask_free(asked);
	}
}

/* Rule 5. */
static void errors_stay_errors(void **state)
{
	struct stand *stand = *state;
	for (size_t i = 0; i < WAYS; i++) {
		struct asked *asked = ask_start(stand, ways[i], lookup_of("key"));
		query_temp(reach_late(stand), "down");
		stand_run(stand);
		assert_int_equal(asked->query.answer.status, ST_TEMP);
		assert_str(asked->query.answer.why, "down");
		ask_free(asked);
		asked = ask_start(stand, ways[i], lookup_of("key"));
		query_perm(reach_late(stand), "wrong");
		stand_run(stand);
		assert_int_equal(asked->query.answer.status, ST_PERM);
		assert_str(asked->query.answer.why, "wrong");
		ask_free(asked);
	}
}

static void what_is_not_offered_is_refused(void **state)
{
	struct stand *stand = *state;
	struct asked *asked = ask(stand, "now", (struct question){.op = OP_CHANGE});
	assert_int_equal(asked->query.answer.status, ST_PERM);
	assert_non_null(strstr(asked->query.answer.why.ptr, "now"));
	ask_free(asked);
	asked = ask(stand, "late", (struct question){.op = OP_CHANGE, .expire_secs = 1});
	assert_int_equal(asked->query.answer.status, ST_PERM);
	ask_free(asked);
	assert_int_equal(late_of(stand, "late")->started, 0);
}

static void an_empty_value_means_what_is_configured(void **state)
{
	(void)state;
	static const struct {
		const char *option, *text, *json;
	} cases[] = {{"auto", "(notfound)", ""}, {"ok", "", ""},
		{"notfound", "(notfound)", "(notfound)"}};
	for (size_t i = 0; i < 3; i++) {
		struct stand stand;
		stand_init(&stand);
		assert_true(stand_add(&stand, "t", &backend_static, "param", "empty= x=y", "empty",
			cases[i].option, NULL));
		stand_open(&stand);
		struct question question = lookup_of("empty");
		assert_answer(&stand, "t", question, cases[i].text);
		question.form = FORM_JSON;
		assert_answer(&stand, "t", question, cases[i].json);
		stand_close(&stand);
	}
}

static void results_are_counted(void **state)
{
	struct stand *stand = *state;
	const struct table_stats *stats = &stand_table(stand, "now")->stats;
	ask_free(ask(stand, "now", lookup_of("key")));
	ask_free(ask(stand, "now", lookup_of("key")));
	ask_free(ask(stand, "now", lookup_of("nokey")));
	ask_free(ask(stand, "now", lookup_of("empty")));
	ask_free(ask(stand, "now", (struct question){.op = OP_AUTH}));
	assert_int_equal(stats->results[ST_OK], 2);
	assert_int_equal(stats->results[ST_NOTFOUND], 2);
	assert_int_equal(stats->results[ST_PERM], 1);
	assert_int_equal(stats->results[ST_TEMP], 0);
}

static void copies_are_deep(void **state)
{
	(void)state;
	struct arena mem = {0}, gone = {0};
	struct change change = {.kind = CH_SET,
		.key = arena_str(&gone, STR("k")),
		.value = arena_str(&gone, STR("v"))};
	struct pair pair = {arena_str(&gone, STR("name")), arena_str(&gone, STR("value"))};
	struct question question = {.op = OP_CHANGE,
		.key = arena_str(&gone, STR("key")),
		.user = arena_str(&gone, STR("user")),
		.nattrs = 1,
		.attrs = &pair,
		.nchanges = 1,
		.changes = &change,
		.max_rows = 3};
	struct answer answer = {.status = ST_TEMP,
		.why = arena_str(&gone, STR("why")),
		.nrows = 1,
		.rows = &pair,
		.ttl = 4,
		.uncertain = true};
	struct question question_too;
	struct answer answer_too;
	question_copy(&question_too, &question, &mem);
	answer_copy(&answer_too, &answer, &mem);
	arena_clear(&gone);
	pair = (struct pair){0};
	change = (struct change){0};
	assert_str(question_too.key, "key");
	assert_str(question_too.user, "user");
	assert_str(question_too.attrs[0].value, "value");
	assert_str(question_too.changes[0].key, "k");
	assert_str(question_too.changes[0].value, "v");
	assert_int_equal(question_too.max_rows, 3);
	assert_str(answer_too.why, "why");
	assert_str(answer_too.rows[0].name, "name");
	assert_int_equal(answer_too.ttl, 4);
	assert_true(answer_too.uncertain);
	arena_clear(&mem);
}

/* Time passes, and the worker looks at the deadlines. */
static void pass_ms(struct stand *stand, uint64_t ms)
{
	stand_now += ms;
	turn_enter(&stand->turn);
	for (size_t i = 0; i < stand->set.n; i++)
		query_expire(&stand->set.tables[i]);
	turn_leave(&stand->turn);
	stand_run(stand);
}

/* As TEMP, once, and whoever was working on it is told. */
static void a_deadline_ends_the_query(void **state)
{
	struct stand *stand = *state;
	struct asked *asked = ask_start(stand, "late", lookup_of("key"));
	pass_ms(stand, 9999);
	assert_int_equal(asked->dones, 0);
	pass_ms(stand, 1);
	assert_int_equal(asked->dones, 1);
	assert_int_equal(asked->query.answer.status, ST_TEMP);
	assert_false(asked->query.answer.uncertain);
	assert_int_equal(late_of(stand, "late")->cancelled, 1);
	assert_int_equal(stand->turn.running, 0);
	ask_free(asked);
}

static void a_deadline_leaves_a_change_uncertain(void **state)
{
	struct stand *stand = *state;
	const struct change change = {.kind = CH_UNSET, .key = STR("key")};
	struct asked *asked = ask_start(stand, "late",
		(struct question){.op = OP_CHANGE, .nchanges = 1, .changes = &change});
	pass_ms(stand, 10000);
	assert_int_equal(asked->query.answer.status, ST_TEMP);
	assert_true(asked->query.answer.uncertain);
	ask_free(asked);
}

/* A table says "not found" to these changes. */
static void only_an_increment_misses_its_key(void **state)
{
	struct stand *stand = *state;
	static const struct change changes[] = {{.kind = CH_ADD, .key = {"k", 1}},
		{.kind = CH_UNSET, .key = {"k", 1}}, {.kind = CH_SET, .key = {"k", 1}},
		{.kind = CH_ADD, .key = {"k", 1}}};
	static const struct {
		size_t first, n;
		enum status status;
	} cases[] = {{0, 1, ST_NOTFOUND}, {0, 2, ST_NOTFOUND}, {1, 1, ST_OK}, {2, 1, ST_PERM},
		{1, 2, ST_PERM}, {2, 2, ST_NOTFOUND}};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct asked *asked = ask_start(stand, "late",
			(struct question){.op = OP_CHANGE,
				.nchanges = cases[i].n,
				.changes = changes + cases[i].first});
		query_notfound(late_take(stand, "late"));
		stand_run(stand);
		assert_int_equal(asked->query.answer.status, cases[i].status);
		assert_int_equal(asked->query.answer.why.len > 0, cases[i].status == ST_PERM);
		ask_free(asked);
	}
}

/* A member's own timeout counts when it is the shorter one, and is an error to the chain. */
static void a_member_has_a_deadline_of_its_own(void **state)
{
	struct stand *stand = *state;
	stand->confs[stand_table(stand, "late")->conf->index].options.timeout = 1000;
	struct asked *asked = ask_start(stand, "chain", lookup_of("key"));
	query_notfound(late_take(stand, "other"));
	stand_run(stand);
	pass_ms(stand, 1000);
	assert_int_equal(asked->dones, 1);
	assert_int_equal(asked->query.answer.status, ST_TEMP);
	assert_int_equal(late_of(stand, "late")->cancelled, 1);
	ask_free(asked);
}

/* And does not count for the member behind it. */
static void a_members_deadline_ends_with_it(void **state)
{
	struct stand *stand = *state;
	stand->confs[stand_table(stand, "other")->conf->index].options.timeout = 1000;
	struct asked *asked = ask_start(stand, "chain", lookup_of("key"));
	pass_ms(stand, 900);
	query_notfound(late_take(stand, "other"));
	stand_run(stand);
	pass_ms(stand, 200);
	assert_int_equal(asked->dones, 0);
	query_ok(late_take(stand, "late"), STR("value"));
	stand_run(stand);
	assert_int_equal(asked->query.answer.status, ST_OK);
	ask_free(asked);
}

/* And the chain's counts when it is the shorter one. */
static void a_chain_ends_its_member(void **state)
{
	struct stand *stand = *state;
	stand->confs[stand_table(stand, "outer")->conf->index].options.timeout = 1000;
	struct asked *asked = ask_start(stand, "outer", lookup_of("key"));
	pass_ms(stand, 1000);
	assert_int_equal(asked->dones, 1);
	assert_int_equal(asked->query.answer.status, ST_TEMP);
	assert_int_equal(stand->turn.running, 0);
	ask_free(asked);
}

/* The steps of a trace as "depth table event detail" lines. */
static void assert_trace(const struct trace *trace, const char *expected)
{
	const struct trace_step *step;
	struct arena mem = {0};
	struct str text = STR("");
	uint64_t before = 0;
	STAILQ_FOREACH (step, &trace->steps, link) {
		assert_true(step->us >= before);
		before = step->us;
		text = arena_printf(&mem, "%.*s%u %s %s %.*s\n", (int)text.len, text.ptr,
			step->depth, step->table, step->event, (int)step->detail.len,
			step->detail.ptr);
	}
	assert_str(text, expected);
	arena_clear(&mem);
}

static struct asked *ask_traced(struct stand *stand, const char *table, struct trace *trace)
{
	struct asked *asked = memory_new(sizeof(*asked));
	asked->ask = lookup_of("key");
	asked->query.mem = &asked->mem;
	asked->query.trace = trace;
	query_start(&asked->query, stand_table(stand, table), &asked->ask, on_asked);
	return asked;
}

static void a_trace_tells_each_step(void **state)
{
	struct stand *stand = *state;
	struct trace *trace = trace_new();
	struct asked *asked = ask_traced(stand, "outer", trace);
	query_notfound(late_take(stand, "other"));
	stand_run(stand);
	query_temp(late_take(stand, "late"), "down");
	stand_run(stand);
	assert_int_equal(asked->dones, 1);
	assert_trace(trace, "0 outer asked lookup key\n"
			    "1 chain asked lookup key\n"
			    "2 other asked lookup key\n"
			    "2 other notfound \n"
			    "2 late asked lookup key\n"
			    "2 late temp down\n"
			    "1 chain temp down\n"
			    "0 outer temp down\n");
	assert_int_equal(trace->refs, 1);
	trace_leave(trace);
	ask_free(asked);
}

/* Its steps are told as long as somebody runs, and it goes with the last (the sanitizer watches). */
static void a_trace_lives_as_long_as_its_queries(void **state)
{
	struct stand *stand = *state;
	struct trace *trace = trace_new();
	struct asked *asked = ask_traced(stand, "now", trace);
	trace_leave(trace);
	stand_run(stand);
	ask_free(asked);

	trace = trace_new();
	asked = ask_traced(stand, "chain", trace);
	trace_keep(trace);
	trace_leave(trace);
	ask_free(asked);
	assert_int_equal(trace->refs, 1);
	assert_trace(trace, "0 chain asked lookup key\n"
			    "1 other asked lookup key\n"
			    "1 other cancelled nobody waits for it any more\n"
			    "0 chain cancelled nobody waits for it any more\n");
	trace_leave(trace);
}

__attribute__((format(printf, 2, 3))) static void add_step(
	struct trace *trace, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	trace_add(trace, &(struct trace_step){.table = "t", .event = "e"}, fmt, ap);
	va_end(ap);
}

/* In the number of steps and in their length; a character is not cut in two. */
static void a_trace_is_bounded(void **state)
{
	struct trace *trace = trace_new();
	struct arena mem = {0};
	struct str odd = STR("x");
	(void)state;
	for (unsigned i = 0; i < 1000; i++)
		odd = arena_printf(&mem, "%s\xc3\xbc", odd.ptr);
	add_step(trace, "%s", odd.ptr);
	struct str told = STAILQ_FIRST(&trace->steps)->detail;
	assert_int_equal(told.len, 999);
	assert_memory_equal(told.ptr + 997, "\xc3\xbc", 2);
	for (unsigned i = 0; i < 2000; i++)
		add_step(trace, "%u", i);
	assert_int_equal(trace->nsteps + trace->nlost, 2001);
	assert_true(trace->nlost > 0);
	arena_clear(&mem);
	trace_leave(trace);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(done_is_called_once_in_a_turn),
		TEST(an_answer_at_once_waits_for_the_turn),
		TEST(finishing_twice_aborts),
		TEST(cancel_idle),
		TEST(cancel_running),
		TEST(cancel_between_member_and_chain),
		TEST(cancel_finished),
		TEST(cancel_from_within_done),
		TEST(cancel_itself_in_done),
		TEST(asking_again_from_done_shares_the_turn),
		TEST(many_queries_all_end),
		TEST(questions_do_not_change),
		TEST(errors_stay_errors),
		TEST(what_is_not_offered_is_refused),
		cmocka_unit_test(an_empty_value_means_what_is_configured),
		TEST(results_are_counted),
		TEST(a_deadline_ends_the_query),
		TEST(a_deadline_leaves_a_change_uncertain),
		TEST(only_an_increment_misses_its_key),
		TEST(a_member_has_a_deadline_of_its_own),
		TEST(a_members_deadline_ends_with_it),
		TEST(a_chain_ends_its_member),
		cmocka_unit_test(copies_are_deep),
		TEST(a_trace_tells_each_step),
		TEST(a_trace_lives_as_long_as_its_queries),
		cmocka_unit_test(a_trace_is_bounded),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
