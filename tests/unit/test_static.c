/* Tests of the static table: its formats, its answers, its iterations, and files that change. */
#include "tables.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../backends/list.h"

static char dir[] = "/tmp/mapmux-static-XXXXXX";
static char path[64], json_path[64], param[80], json_param[80];

static int set_up(void **state)
{
	(void)state;
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/map", dir);
	snprintf(json_path, sizeof(json_path), "%s/map.json", dir);
	snprintf(param, sizeof(param), "file:%s", path);
	snprintf(json_param, sizeof(json_param), "file:%s", json_path);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	unlink(path);
	unlink(json_path);
	return rmdir(dir);
}

static void write_bytes(const char *to, const char *text, size_t len)
{
	FILE *file = fopen(to, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(text, 1, len, file), len);
	assert_int_equal(fclose(file), 0);
}

static void write_text(const char *to, const char *text)
{
	write_bytes(to, text, strlen(text));
}

/* As if it had been written so many seconds ago. */
static void age_file(const char *of, time_t seconds)
{
	struct timespec times[2];
	clock_gettime(CLOCK_REALTIME, &times[0]);
	times[0].tv_sec -= seconds;
	times[1] = times[0];
	assert_int_equal(utimensat(AT_FDCWD, of, times, 0), 0);
}

static void open_static(struct stand *stand, const char *value)
{
	stand_init(stand);
	if (!stand_add(stand, "t", &backend_static, "param", value, NULL))
		fail_msg("%s", stand->error.text);
	stand_open(stand);
}

static void open_text(struct stand *stand, const char *text)
{
	write_text(path, text);
	open_static(stand, param);
}

static void open_json(struct stand *stand, const char *text)
{
	write_text(json_path, text);
	open_static(stand, json_param);
}

/* The error says where, and this. */
static void assert_refused(const char *value, const char *where, const char *what)
{
	struct stand stand;
	stand_init(&stand);
	assert_false(stand_add(&stand, "t", &backend_static, "param", value, NULL));
	if (!strstr(stand.error.text, where) || !strstr(stand.error.text, what))
		fail_msg("%s", stand.error.text);
	stand_close(&stand);
}

static void assert_bad_text(const char *text, size_t len, const char *where, const char *what)
{
	write_bytes(path, text, len);
	assert_refused(param, where, what);
}

static void assert_bad_json(const char *text, const char *where, const char *what)
{
	write_text(json_path, text);
	assert_refused(json_param, where, what);
}

static struct question json_lookup(const char *key)
{
	struct question question = lookup_of(key);
	question.form = FORM_JSON;
	question.scope = SCOPE_SHARED;
	return question;
}

static struct question priv_lookup(const char *key, const char *user)
{
	struct question question = json_lookup(key);
	question.scope = SCOPE_PRIV;
	question.user = str_of(user);
	return question;
}

static struct question listing(const char *prefix, unsigned flags)
{
	return (struct question){.op = OP_ITERATE,
		.form = FORM_JSON,
		.scope = SCOPE_SHARED,
		.key = str_of(prefix),
		.flags = flags};
}

static void inline_pairs_answer(void **state)
{
	(void)state;
	struct stand stand;
	open_static(&stand, "alice=one bob=two none=");
	assert_answer(&stand, "t", lookup_of("alice"), "one");
	assert_answer(&stand, "t", lookup_of("bob"), "two");
	assert_answer(&stand, "t", lookup_of("carol"), "(notfound)");
	assert_answer(&stand, "t", lookup_of(""), "(notfound)");
	assert_answer(&stand, "t", lookup_of("ALICE"), "(notfound)");
	assert_answer(&stand, "t", lookup_of("none"), "(notfound)");
	assert_answer(&stand, "t", json_lookup("none"), "");
	stand_close(&stand);
}

static void entries_answer(void **state)
{
	(void)state;
	struct stand stand;
	stand_init(&stand);
	assert_true(stand_add(&stand, "t", &backend_static, "entries.a@b.test", "c d, e",
		"entries.x", "y", NULL));
	stand_open(&stand);
	assert_answer(&stand, "t", lookup_of("a@b.test"), "c d, e");
	assert_answer(&stand, "t", lookup_of("x"), "y");
	stand_close(&stand);
}

static void bad_settings_are_refused(void **state)
{
	(void)state;
	struct stand stand;
	stand_init(&stand);
	assert_false(stand_add(&stand, "t", &backend_static, NULL));
	assert_non_null(strstr(stand.error.text, "param"));
	assert_false(
		stand_add(&stand, "t", &backend_static, "param", "a=b", "entries.c", "d", NULL));
	assert_non_null(strstr(stand.error.text, "entries"));
	assert_false(stand_add(&stand, "t", &backend_static, "param", "a=b c=d a=e", NULL));
	assert_non_null(strstr(stand.error.text, "a"));
	assert_false(stand_add(&stand, "t", &backend_static, "param", "a", NULL));
	stand_close(&stand);
	assert_refused("file:/nowhere/at/all", "/nowhere/at/all", "No such file");
	assert_refused("file:/", "/", "regular file");
}

static void text_is_read_as_postmap_does(void **state)
{
	(void)state;
	struct stand stand;
	open_text(&stand, "# comment\n\n   # indented comment\nkey1 value one  \nkey2 first\n"
			  "   second\n# in between\n\n\tthird\n\"a b\"@x.test v4\nab\\ c v6\n"
			  "[127.0.0.1]:25 u:p\ncr\tv7\r\nunterminated last");
	assert_answer(&stand, "t", lookup_of("key1"), "value one");
	assert_answer(&stand, "t", lookup_of("key2"), "first   second\tthird");
	assert_answer(&stand, "t", lookup_of("\"a b\"@x.test"), "v4");
	assert_answer(&stand, "t", lookup_of("a b@x.test"), "(notfound)");
	assert_answer(&stand, "t", lookup_of("ab\\ c"), "v6");
	assert_answer(&stand, "t", lookup_of("[127.0.0.1]:25"), "u:p");
	assert_answer(&stand, "t", lookup_of("cr"), "v7");
	assert_answer(&stand, "t", lookup_of("unterminated"), "last");
	assert_answer(&stand, "t", lookup_of("#"), "(notfound)");
	stand_close(&stand);
}

static void quoted_keys_answer_to_both_forms(void **state)
{
	(void)state;
	struct stand stand;
	open_text(&stand, "\"two words\" v1\n\"q\\\"uo\\\\te\" v2\n\"\" v3\nplain v4\n");
	assert_answer(&stand, "t", lookup_of("two words"), "v1");
	assert_answer(&stand, "t", lookup_of("\"two words\""), "v1");
	assert_answer(&stand, "t", lookup_of("q\"uo\\te"), "v2");
	assert_answer(&stand, "t", lookup_of("\"q\\\"uo\\\\te\""), "v2");
	assert_answer(&stand, "t", lookup_of("\"\""), "v3");
	assert_answer(&stand, "t", lookup_of("plain"), "v4");
	assert_answer(&stand, "t", lookup_of("\"plain\""), "(notfound)");
	assert_answer(&stand, "t", lookup_of("\""), "(notfound)");
	assert_answer(&stand, "t", lookup_of("\"plain\\\""), "(notfound)");
	stand_close(&stand);
}

static void the_first_of_two_lines_counts(void **state)
{
	(void)state;
	struct stand stand;
	open_text(&stand, "a one\nb two\na three\n");
	assert_answer(&stand, "t", lookup_of("a"), "one");
	assert_answer(&stand, "t", lookup_of("b"), "two");
	stand_close(&stand);
	open_json(&stand, "{\"a\": \"one\", \"a\": {\"bad\": 1}}");
	assert_answer(&stand, "t", lookup_of("a"), "one");
	stand_close(&stand);
}

static void bad_lines_are_named(void **state)
{
	(void)state;
	char place[80];
#define BAD(text, line, what)                                                                      \
	snprintf(place, sizeof(place), "%s:%d: ", path, line);                                     \
	assert_bad_text(text, sizeof(text) - 1, place, what)
	BAD("a b\nnovalue\nc d\n", 2, "no value");
	BAD("a b\n\n#\nc   \n", 4, "no value");
	BAD("  lead value\nk v\n", 1, "continues");
	BAD("k v\n\"open q v\n", 2, "not closed");
	BAD("k v\nx a\0b\n", 2, "NUL");
	BAD("k v\n a\n\n\nnovalue\n more\n\"q", 7, "not closed");
#undef BAD
}

static void odd_files_are_read(void **state)
{
	(void)state;
	struct stand stand;
	open_text(&stand, "");
	assert_answer(&stand, "t", lookup_of("a"), "(notfound)");
	assert_rows(&stand, "t", listing("", ITER_RECURSE), "notfound");
	stand_close(&stand);
	open_text(&stand, "\xef\xbb\xbfkey value\n");
	assert_answer(&stand, "t", lookup_of("key"), "value");
	stand_close(&stand);
	open_text(&stand, " \n { \"a\" : \"b\" } \n"); /* JSON whatever its name */
	assert_answer(&stand, "t", lookup_of("a"), "b");
	stand_close(&stand);
	open_json(&stand, "{}");
	assert_answer(&stand, "t", lookup_of("a"), "(notfound)");
	stand_close(&stand);
}

static void json_values_follow_the_forms(void **state)
{
	(void)state;
	struct stand stand;
	open_json(&stand, "{\"s\": \"text\", \"n\": 12, \"t\": true, \"f\": false, \"z\": null,\n"
			  "\"l\": [\"a\", 1], \"e\": [], \"o\": {\"x\": [1,2]}, \"esc\\u0041\\n\": "
			  "\"q\\\"\\u00fc\", \"m\\u00fc\": \"m\"}");
	assert_answer(&stand, "t", lookup_of("s"), "text");
	assert_answer(&stand, "t", json_lookup("s"), "text");
	assert_answer(&stand, "t", lookup_of("n"), "12");
	assert_answer(&stand, "t", json_lookup("n"), "12");
	assert_answer(&stand, "t", lookup_of("t"), "1");
	assert_answer(&stand, "t", json_lookup("t"), "true");
	assert_answer(&stand, "t", lookup_of("f"), "(notfound)");
	assert_answer(&stand, "t", json_lookup("f"), "false");
	assert_answer(&stand, "t", lookup_of("z"), "(notfound)");
	assert_answer(&stand, "t", json_lookup("z"), "(notfound)");
	assert_answer(&stand, "t", lookup_of("l"), "a,1");
	assert_answer(&stand, "t", json_lookup("l"), "[\"a\",1]");
	assert_answer(&stand, "t", lookup_of("e"), "(notfound)");
	assert_answer(&stand, "t", json_lookup("e"), "[]");
	assert_answer(&stand, "t", lookup_of("o"), "(temp)");
	assert_answer(&stand, "t", json_lookup("o"), "{\"x\":[1,2]}");
	assert_answer(&stand, "t", lookup_of("escA\n"), "q\"\u00fc");
	assert_answer(&stand, "t", lookup_of("m\u00fc"), "m");
	assert_rows(&stand, "t", listing("z", 0), "notfound");
	stand_close(&stand);
}

static void json_options_choose_the_value(void **state)
{
	(void)state;
	struct stand stand;
	write_text(json_path, "{\"a\": {\"mail\": [\"x\", \"y\"]}, \"b\": {\"mail\": null}}");
	stand_init(&stand);
	assert_true(stand_add(&stand, "t", &backend_static, "param", json_param, "value", "/mail",
		"list_separator", " ", NULL));
	stand_open(&stand);
	assert_answer(&stand, "t", lookup_of("a"), "x y");
	assert_answer(&stand, "t", lookup_of("b"), "(notfound)");
	stand_close(&stand);
	write_text(path, "key value\n");
	stand_init(&stand);
	assert_false(
		stand_add(&stand, "t", &backend_static, "param", param, "value", "/mail", NULL));
	stand_close(&stand);
}

static void bad_json_is_named(void **state)
{
	(void)state;
	assert_bad_json("[1]", "map.json:1: ", "object");
	assert_bad_json("", "map.json:1: ", "object");
	assert_bad_json("{\n\"a\": 1,\n\"b\": nonsense\n}", "map.json:3: ", "not a JSON value");
	assert_bad_json("{\n\"a\": 1\n\"b\": 2}", "map.json:3: ", "','");
	assert_bad_json("{\n\"a\" 1}", "map.json:2: ", "':'");
	assert_bad_json("{\na: 1}", "map.json:2: ", "name in quotes");
	assert_bad_json("{\"a\\u0000b\": 1}", "map.json:1: ", "NUL");
	assert_bad_json("{\"a\": 1,}", "map.json:1: ", "name in quotes");
	assert_bad_json("{\"a\": 1} {}", "map.json:1: ", "follows");
	assert_bad_json("{\"a\": \"open", "map.json:1: ", "not a JSON value");
	assert_bad_json("{\"a\": [1, {]}", "map.json:1: ", "not a JSON value");
	assert_bad_json("{\"a\":", "map.json:1: ", "not a JSON value");
	assert_bad_json("{\"a\": }", "map.json:1: ", "not a JSON value");
	assert_bad_json("{\"open", "map.json:1: ", "name in quotes");
	assert_bad_json("{\"a\\", "map.json:1: ", "name in quotes");
	assert_bad_json("{", "map.json:1: ", "name in quotes");
}

static void private_keys_belong_to_users(void **state)
{
	(void)state;
	struct stand stand;
	open_text(&stand, "k/alice 1\nk/bob 2\nk 3\nd/x/alice 4\nd/y/alice 5\nd/x/bob 6\n"
			  "d/e/f/alice 7\nd!/alice 8\n");
	assert_answer(&stand, "t", priv_lookup("k", "alice"), "1");
	assert_answer(&stand, "t", priv_lookup("k", "bob"), "2");
	assert_answer(&stand, "t", priv_lookup("k", "carol"), "(notfound)");
	assert_answer(&stand, "t", priv_lookup("k", ""), "(perm)");
	assert_answer(&stand, "t", json_lookup("k"), "3");
	struct question question = listing("d/", 0);
	question.scope = SCOPE_PRIV;
	assert_rows(&stand, "t", question, "perm");
	question.user = STR("alice");
	assert_rows(&stand, "t", question, "d/x=4 d/y=5");
	question.flags = ITER_RECURSE;
	assert_rows(&stand, "t", question, "d/e/f=7 d/x=4 d/y=5");
	question.max_rows = 2;
	assert_rows(&stand, "t", question, "d/e/f=7 d/x=4");
	question = (struct question){.op = OP_ITERATE, .scope = SCOPE_PRIV, .user = STR("alice")};
	assert_rows(&stand, "t", question, "d!=8 k=1");
	question.key = STR("k");
	question.flags = ITER_EXACT_KEY;
	assert_rows(&stand, "t", question, "k=1");
	stand_close(&stand);
}

static void iterations_follow_the_flags(void **state)
{
	(void)state;
	struct stand stand;
	open_static(&stand, "d/c=1 d/a=3 d/b=2 d/a/x=0 d=9 e/a=8 c=7");
	assert_rows(&stand, "t", listing("d/", 0), "d/a=3 d/b=2 d/c=1");
	assert_rows(&stand, "t", listing("d/", ITER_RECURSE), "d/a=3 d/a/x=0 d/b=2 d/c=1");
	assert_rows(&stand, "t", listing("d/", ITER_SORT_KEY), "d/a=3 d/b=2 d/c=1");
	assert_rows(&stand, "t", listing("d/", ITER_SORT_VALUE), "d/c=1 d/b=2 d/a=3");
	assert_rows(&stand, "t", listing("d/", ITER_NO_VALUE), "d/a= d/b= d/c=");
	assert_rows(&stand, "t", listing("d/a", ITER_EXACT_KEY), "d/a=3");
	assert_rows(&stand, "t", listing("d/", ITER_EXACT_KEY), "notfound");
	assert_rows(&stand, "t", listing("nothing/", 0), "notfound");
	assert_rows(&stand, "t", listing("", 0), "c=7 d=9");
	assert_rows(&stand, "t", listing("z", ITER_RECURSE), "notfound");
	struct question question = listing("d/", 0);
	question.max_rows = 2;
	assert_rows(&stand, "t", question, "d/a=3 d/b=2");
	question.flags = ITER_SORT_VALUE;
	assert_rows(&stand, "t", question, "d/c=1 d/b=2");
	stand_close(&stand);
}

static void changed_files_are_read_again(void **state)
{
	(void)state;
	struct stand stand;
	write_text(path, "a 1\n");
	age_file(path, 60);
	open_static(&stand, param);
	struct table_conf *conf = &stand.confs[0];
	conf->backend->refresh(conf);
	assert_answer(&stand, "t", lookup_of("a"), "1");

	write_text(path, "a 2\nb 3\n"); /* just written: perhaps not whole yet */
	conf->backend->refresh(conf);
	assert_answer(&stand, "t", lookup_of("a"), "1");
	conf->backend->refresh(conf); /* a second later it is the same */
	assert_answer(&stand, "t", lookup_of("a"), "2");
	assert_answer(&stand, "t", lookup_of("b"), "3");

	write_text(path, "a 4\nnonsense\n");
	age_file(path, 30);
	conf->backend->refresh(conf);
	conf->backend->refresh(conf);
	assert_answer(&stand, "t", lookup_of("a"), "2");

	assert_int_equal(unlink(path), 0);
	conf->backend->refresh(conf);
	assert_answer(&stand, "t", lookup_of("a"), "2");

	write_text(path, "a 5\n");
	age_file(path, 20);
	conf->backend->refresh(conf);
	assert_answer(&stand, "t", lookup_of("a"), "5");
	assert_answer(&stand, "t", lookup_of("b"), "(notfound)");
	stand_close(&stand);
}

/* What is read while it is written must be read again, even if the clock has not ticked. */
static void fresh_files_are_read_again(void **state)
{
	(void)state;
	struct stand stand;
	struct stat before;
	write_text(path, "a 1\n");
	open_static(&stand, param);
	assert_int_equal(stat(path, &before), 0);
	write_text(path, "a 2\n");
	struct timespec times[2] = {before.st_atim, before.st_mtim};
	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
	struct table_conf *conf = &stand.confs[0];
	conf->backend->refresh(conf);
	conf->backend->refresh(conf);
	assert_answer(&stand, "t", lookup_of("a"), "2");
	stand_close(&stand);
}

/* The answer outlives the map it came from. */
static void answers_survive_a_change(void **state)
{
	(void)state;
	struct stand stand;
	write_text(path, "a 1\nb 2\n");
	age_file(path, 60);
	open_static(&stand, param);
	struct asked *value = ask_start(&stand, "t", lookup_of("a"));
	struct asked *rows = ask_start(&stand, "t", listing("", 0));
	write_text(path, "a 9\n");
	age_file(path, 30);
	stand.confs[0].backend->refresh(&stand.confs[0]);
	assert_answer(&stand, "t", lookup_of("a"), "9");
	assert_str(value->query.answer.rows[0].value, "1");
	assert_str(rows->query.answer.rows[1].name, "b");
	assert_str(rows->query.answer.rows[1].value, "2");
	ask_free(value);
	ask_free(rows);
	stand_close(&stand);
}

struct swapper {
	struct table_conf *conf;
	_Atomic bool ready;
};

/* A control thread that publishes again and again. */
static void *swap(void *arg)
{
	struct swapper *swapper = arg;
	for (int i = 0; i < 40; i++) {
		write_text(path, i % 2 ? "a 1\n" : "a 22\n");
		age_file(path, 100 - i);
		swapper->conf->backend->refresh(swapper->conf);
	}
	swapper->ready = true;
	return NULL;
}

static void workers_read_while_it_changes(void **state)
{
	(void)state;
	struct stand stand;
	write_text(path, "a 1\n");
	age_file(path, 200);
	open_static(&stand, param);
	struct swapper swapper = {.conf = &stand.confs[0]};
	pthread_t thread;
	assert_int_equal(pthread_create(&thread, NULL, swap, &swapper), 0);
	while (!swapper.ready) {
		struct asked *asked = ask(&stand, "t", lookup_of("a"));
		assert_int_equal(asked->query.answer.status, ST_OK);
		struct str value = asked->query.answer.rows[0].value;
		assert_true(str_eq(value, STR("1")) || str_eq(value, STR("22")));
		ask_free(asked);
	}
	pthread_join(thread, NULL);
	assert_answer(&stand, "t", lookup_of("a"), "1");
	stand_close(&stand);
}

static void many_lines_are_all_found(void **state)
{
	(void)state;
	enum { N = 200000 };
	struct stand stand;
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	for (int i = 0; i < N; i++)
		fprintf(file, "user%d@example.org value-%d\n", i, i);
	assert_int_equal(fclose(file), 0);
	open_static(&stand, param);
	for (int i = 0; i < N; i += 997) {
		char key[64], value[64];
		snprintf(key, sizeof(key), "user%d@example.org", i);
		snprintf(value, sizeof(value), "value-%d", i);
		assert_answer(&stand, "t", lookup_of(key), value);
	}
	assert_answer(&stand, "t", lookup_of("user200000@example.org"), "(notfound)");
	struct asked *asked = ask(&stand, "t", listing("", ITER_NO_VALUE));
	assert_int_equal(asked->query.answer.nrows, N);
	ask_free(asked);
	stand_close(&stand);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(inline_pairs_answer),
		cmocka_unit_test(entries_answer),
		cmocka_unit_test(bad_settings_are_refused),
		cmocka_unit_test(text_is_read_as_postmap_does),
		cmocka_unit_test(quoted_keys_answer_to_both_forms),
		cmocka_unit_test(the_first_of_two_lines_counts),
		cmocka_unit_test(bad_lines_are_named),
		cmocka_unit_test(odd_files_are_read),
		cmocka_unit_test(json_values_follow_the_forms),
		cmocka_unit_test(json_options_choose_the_value),
		cmocka_unit_test(bad_json_is_named),
		cmocka_unit_test(private_keys_belong_to_users),
		cmocka_unit_test(iterations_follow_the_flags),
		cmocka_unit_test(changed_files_are_read_again),
		cmocka_unit_test(fresh_files_are_read_again),
		cmocka_unit_test(answers_survive_a_change),
		cmocka_unit_test(workers_read_while_it_changes),
		cmocka_unit_test(many_lines_are_all_found),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
