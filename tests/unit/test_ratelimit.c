/* Tests of the ratelimit table in memory: who is counted, what, until when, and what is refused. */
#include "tables.h"

#include "../../backends/limits.h"
#include "../../backends/list.h"

static void open_with(struct stand *stand, const char *key, const char *value)
{
	stand_now = 1000;
	stand_init(stand);
	assert_true(stand_add(stand, "r", &backend_ratelimit, "param", "2/10s 3/m",
		"recipient_delimiter", "+-", key, value, NULL));
	stand_open(stand);
}

static struct asked *policy(struct stand *stand, const char *table, const char *state,
	const char *sasl, const char *sender)
{
	const struct pair attrs[] = {{STR("request"), STR("smtpd_access_policy")},
		{STR("protocol_state"), str_of(state)}, {STR("sender"), str_of(sender)},
		{STR("recipient_count"), STR("2")}, {STR("sasl_username"), str_of(sasl)}};
	return ask(stand, table,
		(struct question){.op = OP_POLICY, .form = FORM_TEXT, .attrs = attrs, .nattrs = 5});
}

#define REJECTED "REJECT Rate limit exceeded, please try again later"

/* An action, or NULL for no opinion. */
static void says(struct stand *stand, const char *sasl, const char *sender, const char *action)
{
	struct asked *asked = policy(stand, "r", "END-OF-MESSAGE", sasl, sender);
	const struct answer *answer = &asked->query.answer;
	if (answer->status != (action ? ST_OK : ST_NOTFOUND))
		fail_msg("%s, %s: %s", sasl, sender, status_name(answer->status));
	if (action)
		assert_str(answer->rows[0].value, action);
	ask_free(asked);
}

static void test_windows_slide(void **state)
{
	struct stand stand;
	(void)state;
	open_with(&stand, "weight", "messages");
	says(&stand, "bob", "x@y", NULL);
	says(&stand, "bob", "x@y", NULL);
	says(&stand, "bob", "x@y", REJECTED);
	says(&stand, "eve", "x@y", NULL);
	stand_pass(&stand, 10101);
	says(&stand, "bob", "x@y", NULL);
	says(&stand, "bob", "x@y", REJECTED); /* three a minute */
	stand_pass(&stand, 40000);
	says(&stand, "bob", "x@y", REJECTED);
	stand_pass(&stand, 10000);
	says(&stand, "bob", "x@y", NULL);
	assert_int_equal(stand_table(&stand, "r")->stats.counters[0], 5);
	assert_int_equal(stand_table(&stand, "r")->stats.counters[1], 3);
	stand_close(&stand);
}

/* Neither capitals nor extensions nor a second sender make another identity. */
static void test_identities(void **state)
{
	struct stand stand;
	(void)state;
	open_with(&stand, "weight", "messages");
	says(&stand, "Bob@Example.org", "a@y", NULL);
	says(&stand, "bob+x@example.org", "b@y", NULL);
	says(&stand, " BOB-y+z@EXAMPLE.ORG ", "c@y", REJECTED);
	says(&stand, "", "bob@example.org", REJECTED);
	/* nor one that is longer than what is remembered of a name */
	char longer[1024];
	snprintf(longer, sizeof(longer), "bob+%0600d@example.org", 1);
	says(&stand, longer, "d@y", REJECTED);
	says(&stand, "", "", NULL);
	says(&stand, "", "", NULL);
	says(&stand, "", "", NULL);
	stand_close(&stand);
	open_with(&stand, "identity", "sender_domain");
	says(&stand, "bob", "a@y.test", NULL);
	says(&stand, "eve", "b@Y.test", NULL);
	says(&stand, "kim", "c@y.test", REJECTED);
	says(&stand, "kim", "no domain", NULL);
	stand_close(&stand);
}

static void test_states_and_weight(void **state)
{
	struct stand stand;
	(void)state;
	open_with(&stand, "weight", "recipients");
	for (int i = 0; i < 5; i++) {
		struct asked *asked = policy(&stand, "r", "RCPT", "bob", "x@y");
		assert_int_equal(asked->query.answer.status, ST_NOTFOUND);
		ask_free(asked);
	}
	says(&stand, "bob", "x@y", NULL);
	says(&stand, "bob", "x@y", REJECTED);
	stand_close(&stand);
}

static void test_rejected_ones_count_if_told(void **state)
{
	struct stand stand;
	(void)state;
	open_with(&stand, "count_rejected", "yes");
	for (int i = 0; i < 12; i++) {
		says(&stand, "bob", "x@y", i < 2 ? NULL : REJECTED);
		stand_pass(&stand, 4000);
	}
	stand_pass(&stand, 61000);
	says(&stand, "bob", "x@y", NULL);
	stand_close(&stand);
}

static void test_view_and_reset(void **state)
{
	struct stand stand;
	(void)state;
	open_with(&stand, "weight", "messages");
	says(&stand, "bob@x", "x@y", NULL);
	stand_pass(&stand, 1000);
	assert_answer(&stand, "r", lookup_of("Bob+a@X"),
		"{\"identity\":\"bob@x\",\"limits\":[{\"most\":2,\"seconds\":10,\"used\":1,"
		"\"left\":1,"
		"\"next_free\":10},{\"most\":3,\"seconds\":60,\"used\":1,\"left\":2,\"next_free\":"
		"60}]}");
	says(&stand, "bob@x", "x@y", NULL);
	says(&stand, "bob@x", "x@y", REJECTED);
	struct change change = {.kind = CH_UNSET, .key = STR("BOB@x")};
	struct question reset = {.op = OP_CHANGE, .changes = &change, .nchanges = 1};
	ask_free(ask(&stand, "r", reset));
	says(&stand, "bob@x", "x@y", NULL);
	change.kind = CH_SET;
	struct asked *asked = ask(&stand, "r", reset);
	assert_int_equal(asked->query.answer.status, ST_PERM);
	ask_free(asked);
	stand_close(&stand);
}

static void test_limits_from_a_table(void **state)
{
	static const struct {
		const char *limits;
		bool passes;
	} cases[] = {{"1/h", true}, {"0/h 0/d", false}, {"{\"per_hour\":1,\"per_day\":0}", true},
		{"{\"per_hour\":0,\"per_day\":0}", false}, {"", false}};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct stand stand;
		stand_now = 1000;
		stand_init(&stand);
		assert_true(stand_add(&stand, "limits", &backend_static, "entries.bob",
			cases[i].limits, "entries.bad", "many", NULL));
		assert_true(stand_add(&stand, "r", &backend_ratelimit, "param", "limits",
			"on_error", "DEFER later", NULL));
		stand_open(&stand);
		says(&stand, "bob", "", NULL);
		says(&stand, "bob", "", cases[i].passes ? REJECTED : NULL);
		says(&stand, "nobody", "", NULL);
		says(&stand, "nobody", "", NULL);
		says(&stand, "bad", "", "DEFER later");
		assert_int_equal(stand_table(&stand, "r")->stats.counters[2], 1);
		stand_close(&stand);
	}
}

static void reads(const char *text, const char *expected)
{
	struct window_rules rules;
	struct error error = {{0}};
	char out[256] = "";
	if (!limits_parse(str_of(text), &rules, &error)) {
		assert_string_equal(error.text, expected);
		return;
	}
	for (size_t i = 0; i < rules.n; i++)
		snprintf(out + strlen(out), sizeof(out) - strlen(out), "%llu/%llu ",
			(unsigned long long)rules.limits[i].most,
			(unsigned long long)rules.limits[i].ms);
	assert_string_equal(out, expected);
}

static void test_limits_as_text(void **state)
{
	(void)state;
	reads("100/h 1000/d", "100/3600000 1000/86400000 ");
	reads("1/s,2/m, 3/5m\t4/30s", "1/1000 2/60000 3/300000 4/30000 ");
	reads("0/h 5/d", "5/86400000 ");
	reads("", "");
	static const char *const bad[] = {"5", "/h", "5/", "-1/h", "5/0m", "5/w", "5/h/d", "x/h",
		"5/99999999999d", "9999999999/h"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		char expected[256];
		snprintf(expected, sizeof(expected),
			"\"%s\" is no limit; allowed: a number and a time, as in 100/h 1000/d "
			"10/5m",
			bad[i]);
		reads(bad[i], expected);
	}
	reads("1/s 2/s 3/s 4/s 5/s 6/s 7/s 8/s 9/s", "more than 8 limits");
}

static void refused(const char *key, const char *value, const char *expected)
{
	struct stand stand;
	stand_init(&stand);
	assert_false(stand_add(&stand, "r", &backend_ratelimit, "param", "1/h", key, value, NULL));
	assert_string_equal(stand.error.text, expected);
	stand_close(&stand);
}

static void test_settings(void **state)
{
	(void)state;
	refused("param", "",
		"param: holds no limit; allowed: such as 100/h 1000/d, or the name of a table");
	refused("param", "1/x",
		"param: \"1/x\" is no limit; allowed: a number and a time, as in 100/h 1000/d "
		"10/5m");
	refused("on_exceed", "",
		"on_exceed: the action is empty, which Postfix takes for OK; allowed: an action as "
		"in "
		"access(5), on one line");
	refused("on_error", "OK\nDUNNO",
		"on_error: the action has a line break or a NUL byte; allowed: an action as in "
		"access(5), on one line");
	refused("on_exceed", "550",
		"on_exceed: the action is a code without a text, which Postfix takes for OK; "
		"allowed: an action as in access(5), on one line");
	refused("store", "redis://localhost/0?prefix=x",
		"store: an unknown parameter stands behind '?'; allowed: db");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_windows_slide),
		cmocka_unit_test(test_identities),
		cmocka_unit_test(test_states_and_weight),
		cmocka_unit_test(test_rejected_ones_count_if_told),
		cmocka_unit_test(test_view_and_reset),
		cmocka_unit_test(test_limits_from_a_table),
		cmocka_unit_test(test_limits_as_text),
		cmocka_unit_test(test_settings),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
