/* Tests of the keys composite: which forms of a key are asked for, in which order, and what ends the
 * walk. */
#include "late.h"

#include "../../backends/key_forms.h"
#include "../../backends/list.h"

static const char *const all_forms =
	"key without_extension localpart @domain domain parent_domains";

/* The forms of a key as "<one> <two>". */
static void assert_forms(
	const char *key, const char *names, const char *delimiters, const char *expected)
{
	struct arena mem = {0};
	enum key_form forms[KEY_FORM_COUNT];
	struct str rest = str_of(names), name, to[KEY_MAX_FORMS], text = {"", 0};
	size_t n = 0;
	while (str_word(&rest, &name)) {
		int form = 0;
		while (!str_eq(name, str_of(key_form_name(form))))
			form++;
		forms[n++] = form;
	}
	n = key_forms(str_of(key), forms, n, delimiters, &mem, to);
	for (size_t i = 0; i < n; i++)
		text = arena_printf(&mem, "%s%s%.*s", text.ptr, i ? " | " : "", (int)to[i].len,
			to[i].len ? to[i].ptr : "");
	if (strcmp(text.ptr, expected) != 0)
		fail_msg("%s, %s: \"%s\" instead of \"%s\"", key, names, text.ptr, expected);
	arena_clear(&mem);
}

static void forms_of_an_address(void **state)
{
	static const char key[] = "user+x@a.b.c";
	(void)state;
	assert_forms(key, "key", "+", "user+x@a.b.c");
	assert_forms(key, "without_extension", "+", "user@a.b.c");
	assert_forms(key, "localpart", "+", "user+x | user");
	assert_forms(key, "localpart", "", "user+x");
	assert_forms(key, "@domain", "+", "@a.b.c");
	assert_forms(key, "domain", "+", "a.b.c");
	assert_forms(key, "parent_domains", "+", ".b.c | b.c | .c | c");
	assert_forms(key, all_forms, "+-",
		"user+x@a.b.c | user@a.b.c | user+x | user | @a.b.c | a.b.c | .b.c | b.c | .c | c");
	assert_forms(key, "domain key", "+", "a.b.c | user+x@a.b.c"); /* in the order given */
	assert_forms(key, "without_extension", "", "");
	assert_forms("user@a.b.c", all_forms, "+",
		"user@a.b.c | user | @a.b.c | a.b.c | .b.c | b.c | .c | c");
	assert_forms("User@A.B", all_forms, "+", "User@A.B | User | @A.B | A.B | .B | B");
	assert_forms("x@\xc3\xbc.test", "parent_domains", "+", ".test | test");
}

/* None is mangled, and none becomes a key that means something else. */
static void odd_keys_are_only_themselves(void **state)
{
	static const char *const keys[] = {"\"\"", "<>", "\"<>\"", "*", "[1.2.3.4]", "1.2.3.4",
		"2001:db8::1", "[2001:db8::1]:25", ".example.org", ".", "a..b", "example.org.",
		"first last", "/etc/x.y", "user+x", "user@", "@", "mail.example.org:25"};
	(void)state;
	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++)
		assert_forms(keys[i], all_forms, "+-", keys[i]);
	assert_forms("", all_forms, "+-", "");
	assert_forms("alice", all_forms, "+", "alice");
	assert_forms("unknown", "localpart @domain without_extension", "+", "");
}

/* A catch-all must not make its domain one of aliases: @domain is not tried for domain. */
static void domains_and_catch_alls(void **state)
{
	(void)state;
	assert_forms("my-host.example.org", all_forms, "-",
		"my-host.example.org | .example.org | example.org | .org | org");
	assert_forms("@example.org", "key @domain localpart", "+", "@example.org");
	assert_forms("@example.org", "@domain domain", "+", "@example.org | example.org");
	assert_forms("u@[1.2.3.4]", all_forms, "+", "u@[1.2.3.4] | u | @[1.2.3.4] | [1.2.3.4]");
	assert_forms("u@1.2.3.4", "parent_domains", "+", "");
	assert_forms(
		"\"a@b+c\"@d.e", all_forms, "+", "\"a@b+c\"@d.e | \"a@b+c\" | @d.e | d.e | .e | e");
	assert_forms("owner-list@x", "without_extension", "-", "");
	assert_forms("+x@y", "without_extension localpart", "+", "+x");
}

/* 127 labels are 16 questions: of the parents that may well have entries. */
static void parents_are_bounded(void **state)
{
	char key[300] = "u@", wanted[200] = "";
	(void)state;
	for (size_t i = 0; i < 127; i++)
		snprintf(key + strlen(key), sizeof(key) - strlen(key), "%s%c", i ? "." : "",
			"abcdefghi"[i % 9]);
	assert_int_equal(strlen(key), 2 + 253);
	static const char eight[] = "c.d.e.f.g.h.i.a";
	for (const char *p = eight; p; p = strchr(p, '.') ? strchr(p, '.') + 1 : NULL)
		snprintf(wanted + strlen(wanted), sizeof(wanted) - strlen(wanted), "%s.%s | %s",
			*wanted ? " | " : "", p, p);
	assert_forms(key, "parent_domains", "", wanted);
}

/* ---- the walk ---- */

/* A late table with these options; keys and values alternate, up to three. */
static struct stand *stand_of(const char *const *o)
{
	struct stand *stand = memory_new(sizeof(*stand));
	stand_init(stand);
	assert_true(stand_add(stand, "t", &backend_late, NULL));
	assert_true(stand_wrap(stand, &backend_keys, o[0], o[1], o[2], o[3], o[4], o[5], NULL));
	stand_open(stand);
	return stand;
}

#define STAND(...) stand_of((const char *const[6]){__VA_ARGS__})

static void end(struct stand *stand)
{
	stand_close(stand);
	free(stand);
}

static struct late *inner(struct stand *stand)
{
	return stand->set.tables[0].state;
}

static struct query *take(struct stand *stand, const char *key)
{
	struct wait *wait = TAILQ_FIRST(&inner(stand)->waiting);
	assert_non_null(wait);
	TAILQ_REMOVE(&inner(stand)->waiting, wait, link);
	assert_str(wait->query->ask->key, key);
	return wait->query;
}

static void found(struct query *query, const char *value, unsigned ttl)
{
	struct pair *row = arena_alloc(query->mem, sizeof(*row));
	row->value = str_of(value);
	query_finish(query, &(struct answer){.status = ST_OK, .nrows = 1, .rows = row, .ttl = ttl});
}

static void the_first_that_is_found_answers(void **state)
{
	struct stand *stand =
		STAND("try", all_forms, "recipient_delimiter", "+", "lowercase", "yes");
	static const char *const walk[] = {
		"user+x@example.org", "user@example.org", "user+x", "user", "@example.org"};
	(void)state;
	struct asked *asked = ask_start(stand, "t", lookup_of("User+X@Example.org"));
	for (size_t i = 0; i < 5; i++) {
		struct query *child = take(stand, walk[i]);
		assert_int_equal(child->deadline, asked->query.deadline);
		assert_ptr_equal(child->mem, &asked->mem);
		if (i < 4)
			query_notfound(child);
		else
			found(child, "catch-all", 0);
		assert_int_equal(asked->dones, 0);
		stand_run(stand);
	}
	assert_int_equal(asked->dones, 1);
	assert_str(asked->query.answer.rows[0].value, "catch-all");
	assert_int_equal(inner(stand)->started, 5);
	ask_free(asked);
	end(stand);
}

static void nothing_is_found(void **state)
{
	struct stand *stand = STAND("try", "key domain");
	(void)state;
	struct asked *asked = ask_start(stand, "t", lookup_of("U@d"));
	query_notfound(take(stand, "U@d"));
	stand_run(stand);
	query_notfound(take(stand, "d"));
	stand_run(stand);
	assert_int_equal(asked->query.answer.status, ST_NOTFOUND);
	ask_free(asked);
	end(stand);
}

/* Rule 5: behind an error there might have been an answer. */
static void errors_stop_the_walk(void **state)
{
	struct stand *stand = STAND("try", "key domain");
	(void)state;
	for (int perm = 0; perm < 2; perm++) {
		struct asked *asked = ask_start(stand, "t", lookup_of("u@d"));
		if (perm)
			query_perm(take(stand, "u@d"), "wrong");
		else
			query_finish(take(stand, "u@d"),
				&(struct answer){
					.status = ST_TEMP, .why = STR("down"), .broken = true});
		stand_run(stand);
		assert_int_equal(asked->dones, 1);
		assert_int_equal(asked->query.answer.status, perm ? ST_PERM : ST_TEMP);
		assert_str(asked->query.answer.why, perm ? "wrong" : "down");
		assert_int_equal(asked->query.answer.broken, !perm);
		ask_free(asked);
	}
	assert_int_equal(inner(stand)->started, 2);
	end(stand);
}

static void no_form_applies(void **state)
{
	struct stand *stand = STAND("try", "localpart @domain");
	(void)state;
	assert_answer(stand, "t", lookup_of("<>"), "(notfound)");
	assert_answer(stand, "t", lookup_of("example.org"), "(notfound)");
	assert_int_equal(inner(stand)->started, 0);
	end(stand);
}

/* Also an empty value, which is not found to Postfix, leads on. */
static void the_answer_rests_on_the_whole_walk(void **state)
{
	struct stand *stand = STAND("try", "key domain");
	(void)state;
	struct asked *asked = ask_start(stand, "t", lookup_of("u@d"));
	query_finish(take(stand, "u@d"),
		&(struct answer){.status = ST_NOTFOUND, .ttl = 5, .no_store = true});
	stand_run(stand);
	found(take(stand, "d"), "v", 60);
	stand_run(stand);
	assert_int_equal(asked->query.answer.ttl, 5);
	assert_true(asked->query.answer.no_store);
	ask_free(asked);

	asked = ask_start(stand, "t", lookup_of("u@d"));
	found(take(stand, "u@d"), "", 7);
	stand_run(stand);
	found(take(stand, "d"), "v", 0);
	stand_run(stand);
	assert_int_equal(asked->query.answer.ttl, 7);
	assert_false(asked->query.answer.no_store);
	ask_free(asked);
	end(stand);
}

/* What is written must be found again. */
static void other_operations_are_only_folded(void **state)
{
	struct stand *stand =
		STAND("try", all_forms, "recipient_delimiter", "+", "lowercase", "yes");
	struct change changes[] = {{.kind = CH_SET, .key = STR("A+B@C"), .value = STR("V")},
		{.kind = CH_UNSET, .key = STR("d")}};
	(void)state;
	struct asked *asked = ask_start(
		stand, "t", (struct question){.op = OP_CHANGE, .nchanges = 2, .changes = changes});
	struct query *child = take(stand, "");
	assert_str(child->ask->changes[0].key, "a+b@c");
	assert_str(child->ask->changes[0].value, "V");
	assert_str(child->ask->changes[1].key, "d");
	assert_str(changes[0].key, "A+B@C"); /* rule 4 */
	query_notfound(child);               /* the end, not the next form */
	stand_run(stand);
	assert_int_equal(asked->dones, 1);
	ask_free(asked);

	asked = ask_start(stand, "t", (struct question){.op = OP_ITERATE, .key = STR("A+B@C/")});
	static const struct pair rows[] = {{{"a+b@c/Dd", 8}, {"1", 1}}, {{"odd", 3}, {"2", 1}}};
	query_finish(
		take(stand, "a+b@c/"), &(struct answer){.status = ST_OK, .nrows = 2, .rows = rows});
	stand_run(stand);
	assert_int_equal(asked->dones, 1);
	assert_str(asked->query.answer.rows[0].name, "A+B@C/Dd"); /* as the asker knows it */
	assert_str(asked->query.answer.rows[0].value, "1");
	assert_str(asked->query.answer.rows[1].name, "odd");
	ask_free(asked);
	end(stand);
}

static void keys_keep_their_case_unless_told(void **state)
{
	struct stand *stand = STAND("recipient_delimiter", "+");
	(void)state;
	struct asked *asked = ask_start(stand, "t", lookup_of("A+B@C")); /* key without_extension */
	query_notfound(take(stand, "A+B@C"));
	stand_run(stand);
	query_notfound(take(stand, "A@C"));
	stand_run(stand);
	assert_int_equal(asked->dones, 1);
	ask_free(asked);
	struct change change = {.kind = CH_SET, .key = STR("A")};
	asked = ask_start(
		stand, "t", (struct question){.op = OP_CHANGE, .nchanges = 1, .changes = &change});
	struct query *child = take(stand, "");
	assert_str(child->ask->changes[0].key, "A");
	query_notfound(child);
	stand_run(stand);
	ask_free(asked);
	end(stand);
}

static void cancel_and_deadline_reach_the_table(void **state)
{
	struct stand *stand = STAND("try", "key domain");
	(void)state;
	ask_free(ask_start(stand, "t", lookup_of("u@d")));
	assert_int_equal(inner(stand)->cancelled, 1);
	struct asked *asked = ask_start(stand, "t", lookup_of("u@d"));
	query_notfound(take(stand, "u@d"));
	ask_free(asked); /* answered, and not yet told */
	stand_run(stand);
	assert_int_equal(inner(stand)->started, 2);

	asked = ask_start(stand, "t", lookup_of("u@d"));
	stand_pass(stand, 6000);
	query_notfound(take(stand, "u@d"));
	stand_run(stand);
	stand_pass(stand, 3999); /* ten seconds for all forms together */
	assert_int_equal(asked->dones, 0);
	stand_pass(stand, 1);
	assert_int_equal(asked->dones, 1);
	assert_int_equal(asked->query.answer.status, ST_TEMP);
	assert_true(TAILQ_EMPTY(&inner(stand)->waiting));
	ask_free(asked);
	end(stand);
}

/* ---- settings ---- */

static void settings_are_checked(void **state)
{
	static const char *const table[][3] = {
		{"try", "key nonsense", "try: \"nonsense\""},
		{"try", "key key", "try: \"key\" comes twice"},
		{"try", "@Domain", "allowed: key, without_extension"},
		{"recipient_delimiter", "+ -", "recipient_delimiter: white space"},
		{"recipient_delimiter", "\t", "recipient_delimiter"},
		{"recipient_delimiter", "@", "recipient_delimiter"},
		{"recipient_delimiter", "\xc3\xbc", "recipient_delimiter"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		struct stand stand;
		stand_init(&stand);
		assert_true(stand_add(&stand, "t", &backend_memory, NULL));
		assert_false(stand_wrap(&stand, &backend_keys, table[i][0], table[i][1], NULL));
		if (!strstr(stand.error.text, table[i][2]))
			fail_msg("%s: %s", table[i][1], stand.error.text);
		stand_close(&stand);
	}
}

static void a_static_table(void **state)
{
	struct stand stand;
	(void)state;
	stand_init(&stand);
	assert_true(stand_add(&stand, "t", &backend_static, "param",
		"bob@example.org=1 \"@example.org\"=2 .example.net=3 *=4", NULL));
	assert_true(stand_wrap(&stand, &backend_keys, "lowercase", "yes", "recipient_delimiter",
		"+", "try", all_forms, NULL));
	stand_open(&stand);
	assert_answer(&stand, "t", lookup_of("Bob+News@Example.ORG"), "1");
	assert_answer(&stand, "t", lookup_of("eve@example.org"), "2");
	assert_answer(&stand, "t", lookup_of("eve@mail.example.net"), "3");
	assert_answer(&stand, "t", lookup_of("eve@example.net"), "(notfound)");
	assert_answer(&stand, "t", lookup_of("*"), "4");
	assert_answer(&stand, "t", lookup_of("example.org"), "(notfound)");
	stand_close(&stand);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(forms_of_an_address),
		cmocka_unit_test(odd_keys_are_only_themselves),
		cmocka_unit_test(domains_and_catch_alls),
		cmocka_unit_test(parents_are_bounded),
		cmocka_unit_test(the_first_that_is_found_answers),
		cmocka_unit_test(nothing_is_found),
		cmocka_unit_test(errors_stop_the_walk),
		cmocka_unit_test(no_form_applies),
		cmocka_unit_test(the_answer_rests_on_the_whole_walk),
		cmocka_unit_test(other_operations_are_only_folded),
		cmocka_unit_test(keys_keep_their_case_unless_told),
		cmocka_unit_test(cancel_and_deadline_reach_the_table),
		cmocka_unit_test(settings_are_checked),
		cmocka_unit_test(a_static_table),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
