/* Tests of the dict codec: requests of all majors, replies, transactions, bad lines, bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "dict_captures.h"
#include "front/fronts.h"
#include "stream.h"

#define H2_0 "H2\t0\t0\talice\tnames\n"
#define H2_1 "H2\t1\t0\talice\tnames\n"
#define H2_2 "H2\t2\t0\talice\tnames\n"
#define H3 "H3\t2\t0\t\tnames\n"
#define H4 "H4\t0\t0\t\tnames\n"

enum { MAX_ROWS = 64 }; /* of a scripted answer */

static void *conf;

static int set_up(void **state)
{
	(void)state;
	conf = stream_default_conf(&codec_dict);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	free(conf);
	return 0;
}

/* ---- answers ---- */

static void add_row(struct arena *mem, struct answer *answer, struct pair **rows, struct str name,
	struct str value)
{
	if (answer->nrows == 0)
		*rows = arena_alloc(mem, MAX_ROWS * sizeof(**rows));
	assert_true(answer->nrows < MAX_ROWS);
	(*rows)[answer->nrows].name = arena_str(mem, name);
	(*rows)[answer->nrows++].value = arena_str(mem, value);
	answer->rows = *rows;
}

static bool fails(struct str word, struct arena *mem, struct answer *answer)
{
	if (str_eq(word, STR("none")))
		*answer = (struct answer){.status = ST_NOTFOUND};
	else if (str_eq(word, STR("temp")))
		*answer = (struct answer){
			.status = ST_TEMP, .why = arena_str(mem, STR("no backend"))};
	else if (str_eq(word, STR("perm")))
		*answer =
			(struct answer){.status = ST_PERM, .why = arena_str(mem, STR("bad setup"))};
	else if (str_eq(word, STR("mute")))
		*answer = (struct answer){.status = ST_TEMP};
	else if (str_eq(word, STR("odd")))
		*answer = (struct answer){
			.status = ST_TEMP, .why = arena_str(mem, STR("a\tb\nc\1d\0hidden"))};
	else if (str_eq(word, STR("unsure")))
		*answer = (struct answer){.status = ST_TEMP,
			.why = arena_str(mem, STR("connection lost")),
			.uncertain = true};
	else
		return false;
	return true;
}

/* The key says how it is answered. */
static void answer_by_key(const void *script, const struct message *message, size_t nth,
	struct arena *mem, struct answer *answer)
{
	const struct question *ask = &message->ask;
	struct str key = ask->op == OP_CHANGE ? ask->changes[0].key : ask->key;
	struct pair *rows;
	(void)script;
	(void)nth;
	struct str word = key;
	str_cut(&key, '/', &word);
	*answer = (struct answer){.status = ST_OK};
	if (fails(word, mem, answer) || ask->op == OP_CHANGE || str_eq(word, STR("norows")))
		return;
	if (ask->op == OP_ITERATE) {
		struct str name = arena_printf(mem, "%.*sa", (int)ask->key.len, ask->key.ptr);
		add_row(mem, answer, &rows, name, STR("1"));
		if (str_eq(word, STR("nul")))
			add_row(mem, answer, &rows, name, STR("a\0b"));
		else if (str_eq(word, STR("nulname")))
			add_row(mem, answer, &rows, STR("nulname/\0"), STR("1"));
		else if (str_eq(word, STR("stray")))
			add_row(mem, answer, &rows, STR("elsewhere/b"), STR("1"));
		else
			add_row(mem, answer, &rows,
				arena_printf(mem, "%.*sb\tc", (int)ask->key.len, ask->key.ptr),
				STR("x\1y\tz\r\n"));
	} else if (str_eq(word, STR("many"))) {
		add_row(mem, answer, &rows, STR(""), STR("one"));
		add_row(mem, answer, &rows, STR(""), STR("tw\to"));
		add_row(mem, answer, &rows, STR(""), STR("th\1r\ne\re"));
	} else if (str_eq(word, STR("blanks"))) {
		add_row(mem, answer, &rows, STR(""), STR(""));
		add_row(mem, answer, &rows, STR(""), STR(""));
	} else if (str_eq(word, STR("nul"))) {
		add_row(mem, answer, &rows, STR(""), STR("a\0b"));
	} else if (str_eq(word, STR("cr"))) {
		add_row(mem, answer, &rows, STR(""), STR("a\rb"));
	} else if (str_eq(word, STR("lastcr"))) {
		add_row(mem, answer, &rows, STR(""), STR("ab\r"));
	} else if (str_eq(word, STR("odd8"))) {
		add_row(mem, answer, &rows, STR(""), STR("\1\t\n\x7f\xff \\"));
	} else if (str_eq(word, STR("empty"))) {
		answer->nrows = 1;
		answer->rows = arena_alloc(mem, sizeof(struct pair)); /* a value without bytes */
	} else {
		add_row(mem, answer, &rows, STR(""), key.len ? key : STR("v"));
	}
}

/* ---- checks ---- */

/* The stream, whole and cut anywhere: these events, this output. NULL: whatever. */
static void check_late(
	struct str in, size_t late, bool newest_first, const char *events, const char *out)
{
	struct stream stream = {
		.codec = &codec_dict,
		.conf = conf,
		.in = in,
		.late = late,
		.newest_first = newest_first,
		.answer = answer_by_key,
	};
	struct stream_run run;
	stream_play(&stream, &run);
	buf_add_char(&run.events, '\0');
	buf_add_char(&run.out, '\0');
	if (events)
		assert_string_equal(run.events.ptr, events);
	if (out)
		assert_string_equal(run.out.ptr, out);
	run.events.len--;
	run.out.len--;
	assert_true(stream_same_cut_anywhere(&stream, &run));
	stream_run_free(&run);
}

#define check(in, events, out) check_late(STR(in), 0, false, events, out)

/* One lookup of `key`, or other command, behind the hello: only its output counts. */
#define check_out(in, out) check(in, NULL, out)

/* The stream breaks, for that reason; before that it said `out`. */
#define check_broken(in, why, out) check(in, "broken " why "\n", out)

static struct buf long_stream(const char *start)
{
	struct buf in = {.max = (size_t)1 << 28};
	buf_add(&in, str_of(start));
	return in;
}

/* ---- requests ---- */

static void lookup_names_table_scope_key_and_user(void **state)
{
	(void)state;
	check(H3 "Lshared/a/b\talice\n", "lookup table=names key shared/=a/b user=alice json\n",
		"*1\n+1\tOb\n");
	check(H3 "Lpriv/a\tbob@example.org\n",
		"lookup table=names key priv/=a user=bob@example.org json\n", "*1\n+1\tOv\n");
	check(H3 "Lshared/a\t\n", "lookup table=names key shared/=a json\n", "*1\n+1\tOv\n");
	check(H3 "Lshared/a\n", "lookup table=names key shared/=a json\n", "*1\n+1\tOv\n");
	check(H4 "Lshared/a\tu\tmore\tand more\t\t\t\n",
		"lookup table=names key shared/=a user=u json\n", "*1\n+1\tOv\n");
	check(H3 "Lshared/\t\n", "lookup table=names key shared/= json\n", "*1\n+1\tOv\n");
	check(H3 "Lshared/shared/priv/x\t\n", "lookup table=names key shared/=shared/priv/x json\n",
		"*1\n+1\tOpriv/x\n");
}

static void hello_differs_between_majors(void **state)
{
	(void)state;
	check("H2\t0\t0\talice\tna\001tmes\nLpriv/a\tbob\n",
		"lookup table=na\\01tmes key priv/=a user=alice json in_order\n", "Ov\n");
	check("H2\t1\t1\t\tn\nLshared/a\n", "lookup table=n key shared/=a json\n", "*1\n+1\tOv\n");
	check("H2\t2\t0\tal\001ice\tn\nLshared/a\n",
		"lookup table=n key shared/=a user=al\\01ice json\n", "*1\n+1\tOv\n");
	check("H3\t0\t0\tcarol\tna\001tm:e/s\nLshared/a\t\n",
		"lookup table=na\\09m:e/s key shared/=a json\n", "*1\n+1\tOv\n");
	check("H4\t9\t0\t\tn\textra\nLshared/a\t\n", "lookup table=n key shared/=a json\n",
		"*1\n+1\tOv\n");
	check("H3\t2\t0\t\t\nLshared/a\t\n", "lookup table= key shared/=a json\n", "*1\n+1\tOv\n");
	check("H4\t0\t0\t\tn\n", "", "");
	check("", "", "");
}

static void fields_are_unescaped(void **state)
{
	(void)state;
	check(H3 "Lshared/x\001t\001n\001r\0011\001zq\001\tus\001ter\n",
		"lookup table=names key shared/=x\\09\\0a\\0d\\01zq user=us\\09er json\n", NULL);
	check(H3 "Lshared/a\t\r\n", "lookup table=names key shared/=a json\n", "*1\n+1\tOv\n");
	check(H3 "Lshared/a\t\r\r\n", "lookup table=names key shared/=a user=\\0d json\n", NULL);
	check(H3 "Ls\001hared/\303\244\377\t\n",
		"lookup table=names key shared/=\\c3\\a4\\ff json\n", NULL);
}

static void iterations(void **state)
{
	(void)state;
	check(H3 "I0\t0\tshared/p/\talice\n",
		"iterate table=names key shared/=p/ user=alice flags=0 max_rows=0 json\n",
		"*1\n+1\tOshared/p/a\t1\n+1\tOshared/p/b\001tc\tx\0011y\001tz\001r\001n\n+1\t\n");
	check(H4 "I9\t18446744073709551615\tpriv/p/\talice\n",
		"iterate table=names key priv/=p/ user=alice flags=9 max_rows=18446744073709551615 "
		"json\n",
		"*1\n+1\tOpriv/p/a\t\n+1\tOpriv/p/b\001tc\t\n+1\t\n");
	check(H3 "I4294967295\t5\tshared/\n",
		"iterate table=names key shared/= flags=31 max_rows=5 json\n", NULL);
	check(H3 "I33\t5\tshared/x/\tbob\n",
		"iterate table=names key shared/=x/ user=bob flags=1 max_rows=5 json\n", NULL);
	check(H2_0 "I1\t0\tshared/p/\n",
		"iterate table=names key shared/=p/ user=alice flags=1 max_rows=0 json in_order\n",
		"Oshared/p/a\t1\nOshared/p/b\001tc\tx\0011y\001tz\r\001n\n\n");
	check(H2_2 "I1\t0\tshared/p/\tshared/q/\nLshared/a\n",
		"refused many_paths\nlookup table=names key shared/=a user=alice json\n",
		"*1\n+1\tFiteration of several paths\n*2\n+2\tOv\n");
}

static void transactions_are_asked_whole_at_commit(void **state)
{
	(void)state;
	check(H3 "B7\talice\nS7\tpriv/k\tv\001t1\nU7\tshared/x\nA7\tpriv/n\t-5\nS7\tpriv/n\t\nC7\n",
		"change table=names user=alice set priv/=k value=v\\091 unset shared/=x"
		" add priv/=n diff=-5 set priv/=n value= json\n",
		"*1\n+1\tO7\n");
	check(H4 "B1\t\t3600\nT1\t1700000000\t123456789\nV1\tyes\nS1\tshared/k\tv\nC1\n",
		"change table=names expire=3600 set shared/=k value=v json\n", "*1\n+1\tO1\n");
	check(H4 "B1\nS1\tshared/k\tv\nC1\n", "change table=names set shared/=k value=v json\n",
		NULL);
	check(H3 "B1\t\t3600\nS1\tshared/k\tv\nC1\n",
		"change table=names set shared/=k value=v json\n", NULL);
	check(H2_0 "B4294967295\nA4294967295\tpriv/n\t9223372036854775807\nC4294967295\n",
		"change table=names user=alice add priv/=n diff=9223372036854775807 json "
		"in_order\n",
		"O4294967295\n");
	/* several open, other commands between, ids used again, the order of begins is free */
	check(H3 "B9\tu\nB3\t\nS9\tpriv/a\t1\nLshared/q\t\nS3\tshared/b\t2\nC9\nB9\t\nS9\tshared/"
		 "c\t3\n"
		 "C3\nC9\n",
		"lookup table=names key shared/=q json\n"
		"change table=names user=u set priv/=a value=1 json\n"
		"change table=names set shared/=b value=2 json\n"
		"change table=names set shared/=c value=3 json\n",
		"*1\n+1\tOv\n*2\n+2\tO9\n*3\n+3\tO3\n*4\n+4\tO9\n");
	/* nothing comes of a rollback, nor of the end */
	check(H3 "B1\t\nS1\tshared/a\t1\nR1\nB1\t\nS1\tshared/b\t1\n", "", "");
}

static void empty_transactions_are_answered_in_order(void **state)
{
	(void)state;
	check(H3 "B5\t\nC5\nB6\t\nT6\t1\t1\nC6\n", "", "*1\n+1\tO5\n*2\n+2\tO6\n");
	check(H2_0 "B5\nC5\n", "", "O5\n");
	check_late(STR(H2_0 "Lshared/a/1\nB5\nC5\nLshared/a/2\nB6\nC6\nB7\nC7\n"), 5, false, NULL,
		"O1\nO5\nO2\nO6\nO7\n");
	check_late(STR(H3 "Lshared/a/1\t\nB5\t\nC5\nLshared/a/2\t\n"), 5, false, NULL,
		"*1\n*2\n+2\tO5\n+1\tO1\n*3\n+3\tO2\n");
}

static void commits_of_old_clients(void **state)
{
	(void)state;
	check_out(H2_0 "B1\nS1\tshared/k\tv\nD1\n", "AO1\n");
	check_out(H3 "B1\t\nS1\tshared/none\tv\nD1\n", "*1\n+1\tAN1\n");
	check_out(H2_2 "B1\nS1\tshared/temp\tv\nD1\n", "*1\n+1\tAF1\tno backend\n");
	check_out(H2_0 "B1\nD1\n", "AO1\n");
	check(H2_0 "B1\nP1\tshared/k\tv\nC1\n", "refused append\n",
		"F1\tappending is not supported\n");
}

/* ---- replies ---- */

static void lookup_replies(void **state)
{
	(void)state;
	check_out(H3 "Lshared/empty\t\n", "*1\n+1\tO\n");
	check_out(H3 "Lshared/none\t\n", "*1\n+1\tN\n");
	check_out(H3 "Lshared/temp\t\n", "*1\n+1\tFno backend\n");
	check_out(H3 "Lshared/unsure\t\n", "*1\n+1\tFconnection lost\n");
	check_out(H3 "Lshared/perm\t\n", "*1\n+1\tFbad setup\n");
	check_out(H3 "Lshared/mute\t\n", "*1\n+1\tFfailed\n");
	check_out(H3 "Lshared/odd\t\n", "*1\n+1\tFa\001tb\001nc\0011d\n");
	check_out(H3 "Lshared/odd8\t\n", "*1\n+1\tO\0011\001t\001n\177\377 \\\n");
	check_out(H3 "Lshared/cr\t\n", "*1\n+1\tOa\001rb\n");
	check_out(H3 "Lshared/lastcr\t\n", "*1\n+1\tOab\001r\n");
	check_out(
		H3 "Lshared/many\t\n", "*1\n+1\tMone\001ttw\0011to\001tth\00111r\0011ne\0011re\n");
	check_out(H3 "Lshared/blanks\t\n", "*1\n+1\tM\001t\n");
	check_out(H3 "Lshared/nul\t\n", "*1\n+1\tFvalue contains a byte that dict cannot carry\n");
	check_out(H3 "Lshared/norows\t\n", "*1\n+1\tFfound, but without a value\n");
}

static void old_clients_get_what_they_understand(void **state)
{
	(void)state;
	check_out(H2_0 "Lshared/many\n", "Oone\n");
	check_out(H2_1 "Lshared/many\n", "*1\n+1\tOone\n");
	check_out(H2_2 "Lshared/blanks\n", "*1\n+1\tM\001t\n");
	check_out(H2_0 "Lshared/odd8\n", "O\0011\001t\001n\177\377 \\\n");
	check_out(H2_0 "Lshared/cr\n", "Oa\rb\n");
	check_out(H2_0 "Lshared/lastcr\n", "Fvalue contains a byte that dict cannot carry\n");
	check_out(H2_1 "Lshared/lastcr\n", "*1\n+1\tOab\001r\n");
	check_out(H2_0 "Lshared/none\n", "N\n");
	check_out(H2_0 "Lshared/temp\n", "Fno backend\n");
	check_out(H2_0 "I0\t0\tshared/none/\n", "\n");
	check_out(H2_0 "I0\t0\tshared/temp/\n", "Fno backend\n");
}

static void iterate_replies(void **state)
{
	(void)state;
	check_out(H3 "I0\t0\tshared/none/\t\n", "*1\n+1\t\n");
	check_out(H3 "I0\t0\tshared/norows/\t\n", "*1\n+1\t\n");
	check_out(H3 "I0\t0\tshared/temp/\t\n", "*1\n+1\tFno backend\n");
	check_out(H3 "I0\t0\tshared/perm/\t\n", "*1\n+1\tFbad setup\n");
	check_out(H3 "I0\t0\tshared/nul/\t\n",
		"*1\n+1\tFvalue contains a byte that dict cannot carry\n");
	check_out(H3 "I0\t0\tshared/nulname/\t\n", "*1\n+1\tFname contains a NUL byte\n");
	check_out(H3 "I0\t0\tshared/stray/\t\n", "*1\n+1\tFname outside of the path asked for\n");
}

static void commit_replies(void **state)
{
	(void)state;
	check_out(H3 "B3\t\nA3\tshared/none\t1\nC3\n", "*1\n+1\tN3\n");
	check_out(H3 "B3\t\nA3\tshared/temp\t1\nC3\n", "*1\n+1\tF3\tno backend\n");
	check_out(H3 "B3\t\nA3\tshared/perm\t1\nC3\n", "*1\n+1\tF3\tbad setup\n");
	check_out(H3 "B3\t\nA3\tshared/unsure\t1\nC3\n", "*1\n+1\tW3\tconnection lost\n");
	check_out(H3 "B3\t\nA3\tshared/mute\t1\nC3\n", "*1\n+1\tF3\tfailed\n");
	check_out(H2_0 "B3\nA3\tshared/unsure\t1\nC3\n", "W3\tconnection lost\n");
}

struct large {
	size_t rows, bytes; /* so many, of so many bytes */
	char byte;
};

static void answer_large(const void *script, const struct message *message, size_t nth,
	struct arena *mem, struct answer *answer)
{
	const struct large *large = script;
	char *value = arena_alloc(mem, large->bytes);
	struct pair *rows = arena_alloc(mem, large->rows * sizeof(*rows));
	(void)nth;
	memset(value, large->byte, large->bytes);
	for (size_t i = 0; i < large->rows; i++)
		rows[i] = (struct pair){message->ask.key, {value, large->bytes}};
	*answer = (struct answer){.status = ST_OK, .nrows = large->rows, .rows = rows};
}

/* What a connection has room for, escapes included. */
static void answers_that_are_too_large_fail(void **state)
{
	(void)state;
	static const struct {
		const char *command;
		struct large large;
		bool good;
	} cases[] = {
		{"Lshared/a\t\n", {1, 60 << 20, 'x'}, true},
		{"Lshared/a\t\n", {1, 63 << 20, 'x'}, false},
		{"Lshared/a\t\n", {1, 31 << 20, '\t'}, true},
		{"Lshared/a\t\n", {1, 32 << 20, '\t'}, false},
		{"Lshared/a\t\n", {2, 10 << 20, '\1'}, true},
		{"Lshared/a\t\n", {2, 11 << 20, '\1'}, false},
		/* Row by row. */
		{"I0\t0\tshared/a\t\n", {1, 31 << 20, '\n'}, true},
		{"I0\t0\tshared/a\t\n", {1, 32 << 20, '\n'}, false},
		{"I0\t0\tshared/a\t\n", {2, 32 << 20, '\n'}, false},
		{"I0\t0\tshared/a\t\n", {3 << 20, 1, 'x'}, true},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buf in = long_stream(H3);
		buf_add(&in, str_of(cases[i].command));
		struct stream stream = {.codec = &codec_dict,
			.conf = conf,
			.in = buf_str(&in),
			.script = &cases[i].large,
			.answer = answer_large};
		struct stream_run run;
		stream_play(&stream, &run);
		const char *refusal = "*1\n+1\tFthe answer is larger than 63 MiB\n";
		assert_int_equal(!str_eq(buf_str(&run.out), str_of(refusal)), cases[i].good);
		assert_true(run.out.len < 64 << 20);
		stream_run_free(&run);
		buf_free(&in);
	}
}

static void answer_with_long_reason(const void *script, const struct message *message, size_t nth,
	struct arena *mem, struct answer *answer)
{
	(void)message;
	(void)nth;
	*answer = (struct answer){
		.status = ST_TEMP, .why = arena_str(mem, *(const struct str *)script)};
}

static void reasons_are_cut_between_characters(void **state)
{
	(void)state;
	char text[1000];
	struct str why = {text, sizeof(text)};
	struct stream stream = {.codec = &codec_dict,
		.conf = conf,
		.in = STR(H2_0 "Lshared/a\n"),
		.script = &why,
		.answer = answer_with_long_reason};
	for (size_t shift = 0; shift < 3; shift++) {
		struct stream_run run;
		for (size_t i = 0; i < sizeof(text); i++)
			text[i] = i < shift ? 'x' : "\xe2\x82\xac"[(i - shift) % 3];
		stream_play(&stream, &run);
		assert_true(run.out.len > 190 && run.out.len <= 202);
		assert_int_equal((run.out.len - 2 - shift) % 3, 0);
		stream_run_free(&run);
	}
}

static void answers_come_in_any_order(void **state)
{
	(void)state;
	check_late(STR(H3 "Lshared/a/1\t\nLshared/a/2\t\nI0\t0\tshared/none/\t\n"
			  "B9\t\nS9\tshared/k\tv\nC9\n"),
		10, true, NULL, "*1\n*2\n*3\n*4\n+4\tO9\n+3\t\n+2\tO2\n+1\tO1\n");
	check_late(STR(H3 "Lshared/a/1\t\nLshared/a/2\t\nLshared/a/3\t\nLshared/a/4\t\n"), 2, true,
		NULL, "*1\n*2\n*3\n+3\tO3\n*4\n+4\tO4\n+2\tO2\n+1\tO1\n");
	check_late(
		STR(H2_0 "Lshared/a/1\nLshared/a/2\nLshared/a/3\n"), 2, true, NULL, "O1\nO2\nO3\n");
}

/* ---- bad requests ---- */

static void refusals_keep_the_stream(void **state)
{
	(void)state;
	check(H3 "Lnonsense\t\nLshared/a\t\n",
		"refused bad_key\nlookup table=names key shared/=a json\n",
		"*1\n+1\tFkey is not below shared/ or priv/\n*2\n+2\tOv\n");
	check(H3 "Lpriv/x\t\n", "refused no_user\n", "*1\n+1\tFpriv/ key without a user name\n");
	check(H3 "Lpriv/x\n", "refused no_user\n", NULL);
	check("H2\t2\t0\t\tn\nLpriv/x\tbob\n", "refused no_user\n", NULL);
	check(H3 "L\n", "refused bad_key\n", NULL);
	check(H3 "L\t\n", "refused bad_key\n", NULL);
	check(H3 "Lshared\t\n", "refused bad_key\n", NULL);
	check(H3 "LShared/x\t\n", "refused bad_key\n", NULL);
	check(H3 "Lshared/a\0010b\t\n", "refused bad_key\n", "*1\n+1\tFkey contains a NUL byte\n");
	check(H3 "Lshared/a\0b\t\n", "refused bad_key\n", "*1\n+1\tFkey contains a NUL byte\n");
	check(H3 "Lshared/a\tu\0010\n", "refused bad_user\n",
		"*1\n+1\tFuser name contains a NUL byte\n");
	check(H3 "I0\t0\tnonsense/\t\n", "refused bad_key\n",
		"*1\n+1\tFkey is not below shared/ or priv/\n");
	check(H3 "I0\t0\tpriv/\t\n", "refused no_user\n",
		"*1\n+1\tFpriv/ key without a user name\n");
	check(H3 "I0\t0\t\t\n", "refused bad_key\n", NULL);
}

static void refusals_keep_the_order(void **state)
{
	(void)state;
	check_late(STR(H2_0 "Lx\nLshared/a/1\nLx\nI0\t0\tx\nLshared/a/2\nLx\n"), 5, false, NULL,
		"Fkey is not below shared/ or priv/\n"
		"O1\n"
		"Fkey is not below shared/ or priv/\n"
		"Fkey is not below shared/ or priv/\n"
		"O2\n"
		"Fkey is not below shared/ or priv/\n");
	check_late(STR(H3 "Lshared/a/1\t\nLx\t\nLshared/a/2\t\nLx\t\n"), 5, false, NULL,
		"*1\n*2\n+2\tFkey is not below shared/ or priv/\n"
		"*3\n*4\n+4\tFkey is not below shared/ or priv/\n"
		"+1\tO1\n+3\tO2\n");
}

static void bad_changes_fail_the_commit(void **state)
{
	(void)state;
	check(H3 "B1\t\nS1\tshared/a\t1\nS1\tnonsense\t2\nS1\tshared/b\t3\nC1\nLshared/a\t\n",
		"refused bad_key\nlookup table=names key shared/=a json\n",
		"*1\n+1\tF1\tkey is not below shared/ or priv/\n*2\n+2\tOv\n");
	check(H3 "B1\t\nU1\tpriv/a\nC1\n", "refused no_user\n",
		"*1\n+1\tF1\tpriv/ key without a user name\n");
	check(H3 "B1\tu\0010\nU1\tpriv/a\nC1\n", "refused bad_user\n", NULL);
	check(H3 "B1\t\nS1\tshared/a\0010\t1\nC1\n", "refused bad_key\n", NULL);
	check(H3 "B1\t\nS1\tshared/a\tb\0010c\nC1\n", "refused bad_value\n",
		"*1\n+1\tF1\tvalue contains a NUL byte\n");
	check(H3 "B1\t\nS1\tshared/a\tb\0c\nC1\n", "refused bad_value\n", NULL);
	check(H3 "B1\t\nA1\tnonsense\t1\nR1\nB1\t\nU1\tshared/a\nC1\n",
		"change table=names unset shared/=a json\n", "*1\n+1\tO1\n");
	check(H2_0 "B1\nU1\tx\nC1\n", "refused bad_key\n",
		"F1\tkey is not below shared/ or priv/\n");
}

static void bad_hello_is_not_answered(void **state)
{
	(void)state;
	check_broken("Lshared/a\t\n", "bad_hello", "");
	check_broken("\n", "bad_hello", "");
	check_broken("GET / HTTP/1.0\r\n", "bad_hello", "");
	check_broken("H\n", "bad_hello", "");
	check_broken("H3\n", "bad_hello", "");
	check_broken("H3\t2\t0\tname\n", "bad_hello", "");
	check_broken("Hx\t2\t0\t\tname\n", "bad_hello", "");
	check_broken("H3\tx\t0\t\tname\n", "bad_hello", "");
	check_broken("H3\t\t0\t\tname\n", "bad_hello", "");
	check_broken("H3\t2\tx\t\tname\n", "bad_hello", "");
	check_broken("H-3\t2\t0\t\tname\n", "bad_hello", "");
	check_broken("H4294967299\t2\t0\t\tname\n", "bad_hello", "");
	check_broken("h3\t2\t0\t\tname\n", "bad_hello", "");
	check_broken("H3\t2\t0\t\tna\0me\n", "bad_hello", "");
	check_broken("H3\t2\t0\t\tna\0010me\n", "bad_hello", "");
	check_broken("H2\t2\t0\tus\0er\tname\n", "bad_hello", "");
	check_broken("H1\t2\t0\t\tname\n", "bad_version", "");
	check_broken("H5\t0\t0\t\tname\n", "bad_version", "");
	check_broken("H0\t0\t0\t\tname\n", "bad_version", "");
	check_broken("H9\t2\t0\t\tname\n", "bad_version", "");
	check_broken("H2\t2\t2\t\tname\n", "bad_value_type", "");
	check_broken("H3\t2\t1\t\tname\n", "bad_value_type", "");
	check_broken("H4\t0\t1\t\tname\n", "bad_value_type", "");
	check_broken(H3 H3, "unknown_command", "");
}

static void malformed_lines_break(void **state)
{
	(void)state;
	check_broken(H3 "\n", "unknown_command", "");
	check_broken(H3 "\r\n", "unknown_command", "");
	check_broken(H3 "Zfoo\n", "unknown_command", "");
	check_broken(H3 "lshared/a\t\n", "unknown_command", "");
	check_broken(H3 "\0\n", "unknown_command", "");
	check_broken(H3 "P1\tshared/a\tb\n", "unknown_command", "");
	check_broken(H2_2 "V1\tyes\n", "unknown_command", "");
	check_broken(H4 "B1\nD1\n", "unknown_command", "");
	check_broken(H3 "I0\tshared/\n", "bad_fields", "");
	check_broken(H3 "I\t0\tshared/\t\n", "bad_fields", "");
	check_broken(H3 "Ix\t0\tshared/\t\n", "bad_fields", "");
	check_broken(H3 "I0\t-1\tshared/\t\n", "bad_fields", "");
	check_broken(H3 "I0\t18446744073709551616\tshared/\t\n", "bad_fields", "");
	check_broken(H3 "B\n", "bad_fields", "");
	check_broken(H3 "Bx\t\n", "bad_fields", "");
	check_broken(H3 "B4294967296\t\n", "bad_fields", "");
	check_broken(H3 "B-1\t\n", "bad_fields", "");
	check_broken(H4 "B1\t\tx\n", "bad_fields", "");
	check_broken(H4 "B1\t\t\n", "bad_fields", "");
	check_broken(H3 "B1\t\nB1\t\n", "duplicate_transaction", "");
	check_broken(H3 "S1\tshared/a\tv\n", "unknown_transaction", "");
	check_broken(H3 "B1\t\nS2\tshared/a\tv\n", "unknown_transaction", "");
	check_broken(H3 "B2\t\nS1\tshared/a\tv\n", "unknown_transaction", "");
	check_broken(H3 "U1\tshared/a\n", "unknown_transaction", "");
	check_broken(H3 "A1\tshared/a\t1\n", "unknown_transaction", "");
	check_broken(H3 "T1\t1\t1\n", "unknown_transaction", "");
	check_broken(H3 "V1\tyes\n", "unknown_transaction", "");
	check_broken(H3 "R1\n", "unknown_transaction", "");
	check_broken(H3 "C1\n", "unknown_transaction", "");
	check_broken(H3 "B1\t\nC1\nC1\n", "unknown_transaction", "*1\n+1\tO1\n");
	check_broken(H3 "B1\t\nR1\nC1\n", "unknown_transaction", "");
	check_broken(H3 "C\n", "bad_fields", "");
	check_broken(H3 "B1\t\nS1\tshared/a\n", "bad_fields", "");
	check_broken(H3 "B1\t\nS1\tshared/a\tb\tc\n", "bad_fields", "");
	check_broken(H3 "B1\t\nU1\n", "bad_fields", "");
	check_broken(H3 "B1\t\nU1\tshared/a\tb\n", "bad_fields", "");
	check_broken(H3 "B1\t\nA1\tshared/a\n", "bad_fields", "");
	check_broken(H3 "B1\t\nA1\tshared/a\tx\n", "bad_fields", "");
	check_broken(H3 "B1\t\nA1\tshared/a\t\n", "bad_fields", "");
	check_broken(H3 "B1\t\nA1\tshared/a\t9223372036854775808\n", "bad_fields", "");
	check_broken(H3 "B1\t\nA1\tnonsense\t1\nA1\tshared/a\tx\n", "bad_fields", "");
	check_broken(H3 "B1\t\nT1\t1\n", "bad_fields", "");
	check_broken(H3 "B1\t\nV1\n", "bad_fields", "");
}

/* The line behind a hello of that major and an open transaction 7: its last event. */
static void check_line(unsigned major, struct str line, const char *event)
{
	static const char *const hellos[] = {H2_2, H3, H4};
	struct buf in = {.max = 1000};
	buf_printf(&in, "%sB7\tu\n", hellos[major - 2]);
	buf_add(&in, line);
	buf_add_char(&in, '\n');
	struct stream stream = {
		.codec = &codec_dict, .conf = conf, .in = buf_str(&in), .answer = answer_by_key};
	struct stream_run run;
	stream_play(&stream, &run);
	buf_add_char(&run.events, '\0');
	run.events.len--;
	if (strcmp(run.events.ptr, event) != 0)
		fail_msg("major %u: %.*s: %s not %s", major, (int)line.len, line.ptr,
			run.events.ptr, event);
	assert_true(stream_same_cut_anywhere(&stream, &run));
	stream_run_free(&run);
	buf_free(&in);
}

static bool is_command(unsigned major, int letter)
{
	static const char *const letters[] = {"LIBSUAPTRCD", "LIBSUATVRCD", "LIBSUATVRC"};
	return letter != '\0' && strchr(letters[major - 2], letter);
}

static void letters_that_are_no_command(void **state)
{
	(void)state;
	for (unsigned major = 2; major <= 4; major++)
		for (int letter = 0; letter < 256; letter++) {
			const char line[] = {(char)letter, '7', '\t', 'x', '\t', 'y'};
			if (letter != '\n' && !is_command(major, letter))
				check_line(major, (struct str){line, sizeof(line)},
					"broken unknown_command\n");
		}
}

enum { MOST_FIELDS = 6 };

/* Fields 1 to MOST_FIELDS are sent; `event` comes of as many as there may be. */
static const struct fielded {
	char letter;
	unsigned least, most;
	const char *fields[MOST_FIELDS], *event;
} fielded[] = {
	{'L', 1, MOST_FIELDS, {"key", "u", "x", "x", "x", "x"}, "refused bad_key\n"},
	{'I', 3, MOST_FIELDS, {"0", "0", "path", "u", "x", "x"}, "refused bad_key\n"},
	{'B', 1, MOST_FIELDS, {"1", "u", "0", "x", "x", "x"}, ""},
	{'S', 3, 3, {"7", "shared/a", "v", "x", "x", "x"}, ""},
	{'U', 2, 2, {"7", "shared/a", "x", "x", "x", "x"}, ""},
	{'A', 3, 3, {"7", "shared/a", "1", "x", "x", "x"}, ""},
	{'P', 3, 3, {"7", "shared/a", "v", "x", "x", "x"}, ""},
	{'T', 3, 3, {"7", "1", "1", "x", "x", "x"}, ""},
	{'V', 2, 2, {"7", "yes", "x", "x", "x", "x"}, ""},
	{'R', 1, MOST_FIELDS, {"7", "x", "x", "x", "x", "x"}, ""},
	{'C', 1, MOST_FIELDS, {"7", "x", "x", "x", "x", "x"}, ""},
	{'D', 1, MOST_FIELDS, {"7", "x", "x", "x", "x", "x"}, ""},
};

static const char *event_of(const struct fielded *command, unsigned major, unsigned n)
{
	if (!is_command(major, command->letter))
		return "broken unknown_command\n";
	if (n < command->least || n > command->most)
		return "broken bad_fields\n";
	if (command->letter == 'I' && major == 2 && n > 3)
		return "refused many_paths\n";
	return command->event;
}

static void numbers_of_fields(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(fielded) / sizeof(fielded[0]); i++) {
		struct buf line = {.max = 100};
		buf_add_char(&line, fielded[i].letter);
		for (unsigned n = 1; n <= MOST_FIELDS; n++) {
			buf_printf(&line, "%s%s", n > 1 ? "\t" : "", fielded[i].fields[n - 1]);
			for (unsigned major = 2; major <= 4; major++)
				check_line(major, buf_str(&line), event_of(&fielded[i], major, n));
		}
		buf_free(&line);
	}
}

static void numbers_that_are_none(void **state)
{
	(void)state;
	static const char *const numbers[] = {"", "x", "7x", "x7", " 7", "7 ", "+7", "-7", "0x7",
		"7.0", "\0017", "7\001", "18446744073709551616",
		"99999999999999999999999999999999999999"};
	static const struct {
		unsigned first; /* major that has it */
		const char *before, *behind;
		bool is_signed;
	} places[] = {
		{2, "I", "\t0\tshared/a/", false},
		{2, "I0\t", "\tshared/a/", false},
		{2, "B", "\tu", false},
		{4, "B1\tu\t", "", false},
		{2, "S", "\tshared/a\tv", false},
		{2, "U", "\tshared/a", false},
		{2, "A", "\tshared/a\t1", false},
		{2, "A7\tshared/a\t", "", true},
		{2, "T", "\t1\t1", false},
		{3, "V", "\tyes", false},
		{2, "R", "", false},
		{2, "C", "", false},
	};
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
		for (size_t at = 0; at < sizeof(numbers) / sizeof(numbers[0]); at++) {
			struct buf line = {.max = 100};
			bool good = places[i].is_signed && strcmp(numbers[at], "-7") == 0;
			buf_printf(
				&line, "%s%s%s", places[i].before, numbers[at], places[i].behind);
			for (unsigned major = places[i].first; major <= 4; major++)
				check_line(
					major, buf_str(&line), good ? "" : "broken bad_fields\n");
			buf_free(&line);
		}
}

/* What stands behind an escape byte that nobody writes is itself, as Dovecot reads it. */
static void odd_escapes_and_line_ends(void **state)
{
	(void)state;
	static const char *const cases[][2] = {
		{"Lshared/a\001", "a"},
		{"Lshared/a\001\tu", "a user=u"},
		{"Lshared/\001\001a", "\\01a"},
		{"Lshared/\001a\0012", "a2"},
		{"Lshared/a\001\r", "a"},
		{"Lshared/a\r", "a"},
		{"Lshared/a\r\r", "a\\0d"},
		{"Lshared/a\rb", "a\\0db"},
		{"Lshared/a\001r", "a\\0d"},
		{"Lshared/a\001n\001t", "a\\0a\\09"},
		{"Lsh\001ared/a", "a"},
		{"Lshared\001/a//b/../\\|c", "a//b/../\\5c|c"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buf event = {.max = 200};
		buf_printf(&event, "lookup table=names key shared/=%s json\n", cases[i][1]);
		buf_add_char(&event, '\0');
		check_line(3, str_of(cases[i][0]), event.ptr);
		check_line(4, str_of(cases[i][0]), event.ptr);
		buf_free(&event);
	}
}

static void lines_end_in_lf_alone(void **state)
{
	(void)state;
	check(H3 "Lshared/a\t", "", "");
	check("H3", "", "");
}

/* What came before a broken line is answered. */
static void questions_before_a_broken_line_are_asked(void **state)
{
	(void)state;
	check(H3 "Lshared/a\t\nZ\nLshared/b\t\n",
		"lookup table=names key shared/=a json\nbroken unknown_command\n", "*1\n+1\tOv\n");
}

/* ---- captures ---- */

static struct str unescape(struct arena *mem, struct str s)
{
	struct str copy = arena_str(mem, s);
	char *to = (char *)(uintptr_t)copy.ptr;
	copy.len = 0;
	for (size_t i = 0; i < s.len; i++) {
		char c = s.ptr[i];
		if (c == '\1')
			switch (s.ptr[++i]) {
			case '1':
				c = '\1';
				break;
			case 't':
				c = '\t';
				break;
			case 'r':
				c = '\r';
				break;
			case 'n':
				c = '\n';
				break;
			default:
				fail_msg("unknown escape in a capture");
			}
		to[copy.len++] = c;
	}
	return copy;
}

/* A captured reply as the answer that it must have come from. */
static void answer_line(
	struct arena *mem, enum op op, struct str body, struct answer *answer, struct pair **rows)
{
	struct str rest = body, field = STR("");
	char letter = body.len > 0 ? body.ptr[0] : '\0';
	if (letter == 'N')
		answer->status = ST_NOTFOUND;
	if (letter == 'F' || letter == 'W') {
		answer->status = ST_TEMP;
		answer->uncertain = letter == 'W';
		if (op == OP_CHANGE)
			str_cut(&rest, '\t', &field);
		else
			rest = str_skip(rest, 1);
		answer->why = unescape(mem, rest);
	}
	if (op == OP_ITERATE && letter == 'O') {
		str_cut(&rest, '/', &field);
		str_cut(&rest, '\t', &field);
		add_row(mem, answer, rows, unescape(mem, field), unescape(mem, rest));
	}
	if (op == OP_LOOKUP && letter == 'O')
		add_row(mem, answer, rows, STR(""), unescape(mem, str_skip(rest, 1)));
	if (op == OP_LOOKUP && letter == 'M') {
		rest = unescape(mem, str_skip(rest, 1));
		for (bool more = true; more;) {
			more = str_cut(&rest, '\t', &field);
			add_row(mem, answer, rows, STR(""), unescape(mem, field));
		}
	}
}

static void answer_as_captured(const void *script, const struct message *message, size_t nth,
	struct arena *mem, struct answer *answer)
{
	const struct capture *capture = script;
	struct str rest = str_of(capture->server), line;
	struct str start = arena_printf(mem, "+%zu\t", nth + 1);
	struct pair *rows = NULL;
	*answer = (struct answer){.status = ST_OK};
	while (str_cut(&rest, '\n', &line))
		if (str_starts(line, start))
			answer_line(mem, message->ask.op, str_skip(line, start.len), answer, &rows);
}

static void captured_sessions(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(captures) / sizeof(captures[0]); i++) {
		struct stream stream = {
			.codec = &codec_dict,
			.conf = conf,
			.in = str_of(captures[i].client),
			.script = &captures[i],
			.answer = answer_as_captured,
		};
		struct stream_run run;
		stream_play(&stream, &run);
		if (!str_eq(buf_str(&run.out), str_of(captures[i].server)))
			fail_msg("%s\n%.*s\nnot\n%s", captures[i].source, (int)run.out.len,
				run.out.ptr, captures[i].server);
		assert_false(run.broken);
		assert_int_equal(run.refused, 0);
		assert_int_equal(run.left, 0);
		assert_true(stream_same_cut_anywhere(&stream, &run));
		stream_run_free(&run);
	}
}

/* ---- bounds ---- */

static void fill(struct buf *in, char c, size_t n)
{
	char *to = buf_reserve(in, n);
	memset(to, c, n);
	in->len += n;
}

/* Whole and in a few sizes of pieces; the run is the caller's to look at. */
static void play_long(struct buf *in, size_t late, struct stream_run *run)
{
	static const size_t sizes[] = {65536, 4093};
	struct stream stream = {
		.codec = &codec_dict,
		.conf = conf,
		.in = buf_str(in),
		.late = late,
		.answer = answer_by_key,
	};
	stream_play(&stream, run);
	for (size_t i = 0; i < (in->len < 4 << 20 ? 2 : 1); i++)
		assert_true(stream_same(&stream, run, &sizes[i], 1));
	buf_free(in);
	buf_add_char(&run->events, '\0');
	buf_add_char(&run->out, '\0');
}

static void lines_may_be_as_long_as_configured(void **state)
{
	(void)state;
	const size_t max = 1 << 20;
	for (size_t over = 0; over <= 1; over++) {
		struct buf in = long_stream(H3);
		struct stream_run run;
		buf_add(&in, STR("Lshared/long/"));
		fill(&in, 'x', max + over - strlen("Lshared/long/\t"));
		buf_add(&in, STR("\t\n"));
		play_long(&in, 0, &run);
		assert_int_equal(run.broken, over == 1);
		assert_int_equal(run.messages, 1 - over);
		if (over)
			assert_string_equal(run.events.ptr, "broken line_too_long\n");
		stream_run_free(&run);
	}
	/* an unfinished line is not waited for any longer than needed */
	struct buf in = long_stream("");
	struct stream_run run;
	fill(&in, 'H', max + 1);
	play_long(&in, 0, &run);
	assert_true(run.broken);
	stream_run_free(&run);
	/* nor refused any sooner */
	in = long_stream("");
	fill(&in, 'H', max);
	play_long(&in, 0, &run);
	assert_false(run.broken);
	stream_run_free(&run);
}

static void long_values(void **state)
{
	(void)state;
	struct buf in = long_stream(H3 "B1\t\nS1\tshared/temp/v\t");
	struct stream_run run;
	fill(&in, '\1', 400000);
	buf_add(&in, STR("\nC1\nLshared/a\t\n"));
	play_long(&in, 0, &run);
	assert_int_equal(run.messages, 2);
	assert_string_equal(run.out.ptr, "*1\n+1\tF1\tno backend\n*2\n+2\tOv\n");
	stream_run_free(&run);
}

static void deep_pipelines(void **state)
{
	(void)state;
	struct buf in = long_stream(H3);
	struct stream_run run;
	for (unsigned i = 0; i < 2000; i++)
		buf_printf(&in, "Lshared/a/%u\t\n", i);
	play_long(&in, 63, &run);
	assert_int_equal(run.messages, 2000);
	assert_non_null(strstr(run.out.ptr, "*2000\n+2000\tO1999\n"));
	stream_run_free(&run);

	in = long_stream(H2_0);
	for (unsigned i = 0; i < 2000; i++)
		buf_printf(&in, i % 3 ? "Lshared/a/%u\n" : "Lx%u\n", i);
	play_long(&in, 63, &run);
	assert_int_equal(run.messages + run.refused, 2000);
	char *at = run.out.ptr;
	for (unsigned i = 0; i < 2000; i++) {
		char want[64];
		snprintf(want, sizeof(want),
			i % 3 ? "O%u\n" : "Fkey is not below shared/ or priv/\n", i);
		assert_int_equal(strncmp(at, want, strlen(want)), 0);
		at += strlen(want);
	}
	stream_run_free(&run);
}

static void too_many_refusals_behind_a_question_break(void **state)
{
	(void)state;
	struct buf in = long_stream(H2_0 "Lshared/a\n");
	struct stream_run run;
	for (unsigned i = 0; i < 10000; i++)
		buf_add(&in, STR("Lx\n"));
	play_long(&in, 63, &run);
	assert_true(run.broken);
	assert_non_null(strstr(run.events.ptr, "broken too_many_pending\n"));
	assert_true(run.out.len <= 65536 + 10);
	/* no half of a reply: the last one is as long as the others */
	const char *refusal = "Fkey is not below shared/ or priv/\n";
	assert_int_equal((run.out.len - 1 - strlen("Ov\n")) % strlen(refusal), 0);
	assert_string_equal(run.out.ptr + run.out.len - 1 - strlen(refusal), refusal);
	stream_run_free(&run);
}

static void many_open_transactions(void **state)
{
	(void)state;
	struct buf in = long_stream(H3);
	struct stream_run run;
	for (unsigned i = 1; i <= 1001; i++)
		buf_printf(&in, "B%u\t\nS%u\tshared/k\t%u\n", i, i, i);
	for (unsigned i = 1001; i >= 1; i--)
		buf_printf(&in, "C%u\n", i);
	play_long(&in, 0, &run);
	assert_int_equal(run.messages, 1000);
	assert_int_equal(run.refused, 1);
	assert_non_null(
		strstr(run.out.ptr, "*1\n+1\tF1001\ttoo many open transactions\n*2\n+2\tO1000"));
	assert_non_null(strstr(run.events.ptr, "refused too_many_transactions\n"));
	stream_run_free(&run);

	in = long_stream(H3);
	for (unsigned i = 0; i < 2001; i++)
		buf_printf(&in, "B%u\t\n", i);
	play_long(&in, 0, &run);
	assert_string_equal(run.events.ptr, "broken too_many_transactions\n");
	stream_run_free(&run);
}

static void many_changes(void **state)
{
	(void)state;
	for (unsigned over = 0; over <= 1; over++) {
		struct buf in = long_stream(H3 "B1\t\nB2\t\nS2\tshared/k\tv\n");
		struct stream_run run;
		for (unsigned i = 0; i < 100000 + over; i++)
			buf_printf(&in, "A1\tshared/%u\t1\n", i);
		buf_add(&in, STR("C1\nC2\n"));
		play_long(&in, 0, &run);
		assert_int_equal(run.messages, 2 - over);
		assert_string_equal(run.out.ptr,
			over ? "*1\n+1\tF1\ttoo many changes in one transaction\n*2\n+2\tO2\n"
			     : "*1\n+1\tO1\n*2\n+2\tO2\n");
		stream_run_free(&run);
	}
}

static void many_bytes(void **state)
{
	(void)state;
	struct buf in = long_stream(H3 "B1\t\nB2\t\nS2\tshared/k\tv\n");
	struct stream_run run;
	for (unsigned i = 0; i < 17; i++) {
		buf_add(&in, STR("S1\tshared/k\t"));
		fill(&in, 'v', 1000000);
		buf_add(&in, STR("\n"));
	}
	/* what the first one held is free again for the second */
	for (unsigned i = 0; i < 16; i++) {
		buf_add(&in, STR("S2\tshared/k\t"));
		fill(&in, 'w', 1000000);
		buf_add(&in, STR("\n"));
	}
	buf_add(&in, STR("C1\nC2\nB3\t"));
	/* users count as well */
	fill(&in, 'u', 1000000);
	buf_add(&in, STR("\nS3\tpriv/k\tv\nC3\n"));
	play_long(&in, 0, &run);
	assert_int_equal(run.refused, 1);
	assert_int_equal(run.messages, 2);
	assert_string_equal(run.out.ptr,
		"*1\n+1\tF1\topen transactions hold too many bytes\n*2\n+2\tO2\n*3\n+3\tO3\n");
	stream_run_free(&run);

	in = long_stream(H3);
	for (unsigned i = 0; i < 17; i++) {
		buf_printf(&in, "B%u\t", i);
		fill(&in, 'u', 1000000);
		buf_add(&in, STR("\n"));
	}
	buf_add(&in, STR("S16\tpriv/k\tv\nC16\nS15\tpriv/k\tv\nC15\n"));
	play_long(&in, 0, &run);
	assert_int_equal(run.refused, 1);
	assert_int_equal(run.messages, 1);
	stream_run_free(&run);
}

/* A connection may die with everything under way: end() gives all back (the sanitizer looks). */
static void the_end_frees_everything(void **state)
{
	(void)state;
	const struct str in =
		STR(H2_0 "Lshared/a\nLx\nI0\t0\tshared/a/\nB1\nS1\tshared/\0011\tv\nB2\n"
			 "S2\tshared/k\tv\nC2\nB3\n");
	void *session = memory_new(codec_dict.session_size);
	struct buf out = {.max = 1000};
	size_t total = 0;
	enum decoded decoded;
	do {
		struct message message;
		const char *why;
		size_t used;
		decoded = codec_dict.decode(
			session, conf, str_skip(in, total), &used, &message, &out, &why);
		total += used;
	} while (decoded == DECODE_TABLE || decoded == DECODE_MESSAGE || decoded == DECODE_REFUSED);
	assert_int_equal(decoded, DECODE_MORE);
	assert_int_equal(out.len, 0);
	codec_dict.end(session);
	free(session);
	buf_free(&out);

	session = memory_new(codec_dict.session_size);
	codec_dict.end(session);
	free(session);
}

static void codec_says_what_it_wants(void **state)
{
	(void)state;
	assert_string_equal(codec_dict.name, "dict");
	assert_int_equal(codec_dict.max_inflight, 64);
	assert_true(codec_dict.closes_on_unknown_table);
	assert_int_equal(codec_dict.idle_timeout, 0);
	assert_true(codec_dict.session_size <= 256); /* of an idle connection's memory */
}

/* A reload may lower the limit while a line is on its way. */
static void the_limit_shrinks_within_a_line(void **state)
{
	static char line[3000];
	struct arena mem = {0};
	struct message message;
	struct buf out = {.max = 1000};
	struct str sub;
	bool file;
	const char *why = "";
	size_t used;
	(void)state;
	void *session = memory_new(codec_dict.session_size);
	memset(line, 'k', sizeof(line));
	memcpy(line, H3 "Lshared/", strlen(H3 "Lshared/"));
	const size_t hello = strlen(H3);
	assert_int_equal(codec_dict.decode(session, conf, (struct str){line, sizeof(line)}, &used,
				 &message, &out, &why),
		DECODE_MORE);
	assert_int_equal(used, hello);
	assert_true(setting_put(setting_find(codec_dict.settings, STR("max_line"), &sub, &file),
		conf, &mem, sub, STR("1k"), &(struct error){0}));
	assert_int_equal(
		codec_dict.decode(session, conf, (struct str){line + hello, sizeof(line) - hello},
			&used, &message, &out, &why),
		DECODE_BROKEN);
	assert_string_equal(why, "line_too_long");
	codec_dict.end(session);
	free(session);
	buf_free(&out);
	arena_clear(&mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lookup_names_table_scope_key_and_user),
		cmocka_unit_test(hello_differs_between_majors),
		cmocka_unit_test(fields_are_unescaped), cmocka_unit_test(iterations),
		cmocka_unit_test(transactions_are_asked_whole_at_commit),
		cmocka_unit_test(empty_transactions_are_answered_in_order),
		cmocka_unit_test(commits_of_old_clients), cmocka_unit_test(lookup_replies),
		cmocka_unit_test(old_clients_get_what_they_understand),
		cmocka_unit_test(iterate_replies), cmocka_unit_test(commit_replies),
		cmocka_unit_test(answers_that_are_too_large_fail),
		cmocka_unit_test(reasons_are_cut_between_characters),
		cmocka_unit_test(answers_come_in_any_order),
		cmocka_unit_test(refusals_keep_the_stream),
		cmocka_unit_test(refusals_keep_the_order),
		cmocka_unit_test(bad_changes_fail_the_commit),
		cmocka_unit_test(bad_hello_is_not_answered),
		cmocka_unit_test(malformed_lines_break),
		cmocka_unit_test(letters_that_are_no_command), cmocka_unit_test(numbers_of_fields),
		cmocka_unit_test(numbers_that_are_none),
		cmocka_unit_test(odd_escapes_and_line_ends),
		cmocka_unit_test(lines_end_in_lf_alone),
		cmocka_unit_test(questions_before_a_broken_line_are_asked),
		cmocka_unit_test(captured_sessions),
		cmocka_unit_test(lines_may_be_as_long_as_configured), cmocka_unit_test(long_values),
		cmocka_unit_test(deep_pipelines),
		cmocka_unit_test(too_many_refusals_behind_a_question_break),
		cmocka_unit_test(many_open_transactions), cmocka_unit_test(many_changes),
		cmocka_unit_test(many_bytes), cmocka_unit_test(the_end_frees_everything),
		cmocka_unit_test(codec_says_what_it_wants),
		cmocka_unit_test(the_limit_shrinks_within_a_line), /* changes `conf` */
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
