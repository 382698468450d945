/* Tests of the sasl codec: handshake, mechanisms, exchanges, limits, replies; greeting; guessing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/base64.h"
#include "front/front_sasl.h"
#include "model/table.h"
#include "stream_check.h"

#define HELLO "VERSION\t1\t0\nCPID\t7\n"
#define SMTP "\tservice=smtp\tnologin\tlip=192.0.2.1\trip=192.0.2.2"
#define ASKED(user, secret, mech)                                                                  \
	"auth table= key =" user " name=password value=" secret " name=mechanism value=" mech      \
	" name=service value=smtp name=lip value=192.0.2.1 name=rip value=192.0.2.2\n"

static struct sasl_conf *conf;

static int set_up(void **state)
{
	(void)state;
	check_set_up(&codec_sasl);
	conf = check_conf;
	return 0;
}

/* A stream to be, with the handshake in front. Text is added as it is; what stands between braces
 * goes in base64, where a '|' is a NUL and a '^' a byte 1. */
static void script(const char *text, const char *events, const char *out)
{
	struct buf in = {.max = 1 << 20}, bytes = {.max = 1 << 20};
	bool coded = false;
	buf_add(&in, STR(HELLO));
	for (const char *p = text; *p; p++) {
		if (*p == '{' || *p == '}') {
			coded = *p == '{';
			base64_encode(buf_str(&bytes), &in);
			buf_reset(&bytes);
		} else if (coded) {
			buf_add_char(&bytes, *p == '|' ? '\0' : *p == '^' ? '\1' : *p);
		} else {
			buf_add_char(&in, *p);
		}
	}
	check_late(buf_str(&in), 0, events, out);
	buf_free(&in);
	buf_free(&bytes);
}

static void plain(void **state)
{
	(void)state;
	script("AUTH\t1\tPLAIN" SMTP "\tresp={|alice|secret}\n", ASKED("alice", "secret", "PLAIN"),
		"OK\t1\tuser=alice\n");
	script("AUTH\t1\tplain" SMTP "\tresp={alice|alice|secret}\n",
		ASKED("alice", "secret", "PLAIN"), "OK\t1\tuser=alice\n");
	/* no initial response, and an empty one */
	script("AUTH\t4294967295\tPLAIN" SMTP "\nCONT\t4294967295\t{|alice|s}\n",
		ASKED("alice", "s", "PLAIN"), "CONT\t4294967295\t\nOK\t4294967295\tuser=alice\n");
	script("AUTH\t1\tPLAIN" SMTP "\tresp==\nAUTH\t2\tPLAIN" SMTP "\tresp={|b|x}\n",
		"refused bad_response\n" ASKED("b", "x", "PLAIN"),
		"FAIL\t1\treason=Invalid response\nOK\t2\tuser=b\n");
	/* any byte but NUL is in order in a password, and a name may be no ASCII */
	script("AUTH\t1\tPLAIN" SMTP "\tresp={|m\303\274ller|a\tb\xff}\n",
		ASKED("m\\c3\\bcller", "a\\09b\\ff", "PLAIN"), "OK\t1\tuser=m\303\274ller\n");
}

static void nobody_acts_for_another(void **state)
{
	(void)state;
	script("AUTH\t1\tPLAIN" SMTP "\tresp={root|alice|secret}\n", "refused authzid\n",
		"FAIL\t1\treason=Acting for another user is not allowed\n");
}

static void login(void **state)
{
	(void)state;
	script("AUTH\t1\tLOGIN" SMTP "\nCONT\t1\t{alice}\nCONT\t1\t{secret}\n",
		ASKED("alice", "secret", "LOGIN"),
		"CONT\t1\tVXNlcm5hbWU6\nCONT\t1\tUGFzc3dvcmQ6\nOK\t1\tuser=alice\n");
	script("AUTH\t1\tLOGIN" SMTP "\tresp={alice}\nCONT\t1\t{a|b}\n", "refused bad_response\n",
		"CONT\t1\tUGFzc3dvcmQ6\nFAIL\t1\tuser=alice\treason=Invalid response\n");
	script("AUTH\t1\tLOGIN" SMTP "\tresp={alice}\nCONT\t1\t{s}\n", ASKED("alice", "s", "LOGIN"),
		"CONT\t1\tUGFzc3dvcmQ6\nOK\t1\tuser=alice\n");
	script("AUTH\t1\tLOGIN" SMTP "\tresp==\n", "refused bad_user\n",
		"FAIL\t1\treason=Invalid user name\n");
}

static void bad_responses(void **state)
{
	(void)state;
	script("AUTH\t1\tPLAIN" SMTP "\tresp=AA!A\n", "refused bad_base64\n",
		"FAIL\t1\tcode=invalid_base64\treason=Invalid base64 data\n");
	script("AUTH\t1\tPLAIN" SMTP "\tresp=AGE\n", "refused bad_base64\n", NULL);
	script("AUTH\t1\tPLAIN" SMTP "\tresp=A===\n", "refused bad_base64\n", NULL);
	script("AUTH\t1\tPLAIN" SMTP "\tresp=AA==AAAA\n", "refused bad_base64\n", NULL);
	script("AUTH\t1\tPLAIN" SMTP "\tresp={|alice|}\n", "refused empty_password\n",
		"FAIL\t1\tuser=alice\treason=Empty password\n");
	script("AUTH\t1\tPLAIN" SMTP "\tresp={||x}\n", "refused bad_user\n", NULL);
	script("AUTH\t1\tPLAIN" SMTP "\tresp={|a\tb|x}\n", "refused bad_user\n", NULL);
	script("AUTH\t1\tPLAIN" SMTP "\tresp={|a|b|c}\n", "refused bad_response\n", NULL);
	script("AUTH\t1\tPLAIN" SMTP "\tresp={alice}\n", "refused bad_response\n", NULL);
	script("AUTH\t1\tNTLM" SMTP "\nAUTH\t2\tXOAUTH2" SMTP "\n",
		"refused unknown_mechanism\nrefused unknown_mechanism\n",
		"FAIL\t1\treason=Unsupported authentication mechanism\n"
		"FAIL\t2\treason=Unsupported authentication mechanism\n");
}

static void names_are_bounded(void **state)
{
	(void)state;
	char text[600], name[300];
	memset(name, 'n', sizeof(name));
	snprintf(text, sizeof(text), "AUTH\t1\tPLAIN" SMTP "\tresp={|%.*s|x}\n", 255, name);
	script(text, NULL, NULL);
	snprintf(text, sizeof(text), "AUTH\t1\tPLAIN" SMTP "\tresp={|%.*s|x}\n", 256, name);
	script(text, "refused bad_user\n", "FAIL\t1\treason=Invalid user name\n");
}

static void answers(void **state)
{
	(void)state;
	script("AUTH\t1\tPLAIN" SMTP "\tresp={|none|x}\n", NULL, "FAIL\t1\tuser=none\n");
	script("AUTH\t1\tPLAIN" SMTP "\tresp={|temp why|x}\n", NULL, "");
	script("AUTH\t1\tPLAIN" SMTP "\tresp={|perm why|x}\n", NULL,
		"FAIL\t1\tuser=perm why\tcode=temp_fail\treason=Authentication is not available\n");
	script("AUTH\t1\tPLAIN" SMTP "\tresp={|empty|x}\n", NULL, "OK\t1\tuser=empty\n");
	conf->on_outage = OUTAGE_FAIL;
	script("AUTH\t1\tPLAIN" SMTP "\tresp={|temp why|x}\n", NULL,
		"FAIL\t1\tuser=temp why\ttemp\treason=Temporary authentication failure\n");
	script("AUTH\t1\tPLAIN" SMTP "\tresp={|lines|x}\n", NULL,
		"FAIL\t1\tuser=lines\ttemp\treason=Temporary authentication failure\n");
	script("AUTH\t1\tPLAIN" SMTP "\tresp={|repeat 256|x}\n", NULL,
		"FAIL\t1\tuser=repeat 256\ttemp\treason=Temporary authentication failure\n");
	conf->on_outage = OUTAGE_CLOSE;
	assert_true(codec_sasl.hangs_up(conf, &(struct answer){.status = ST_TEMP}));
	assert_false(codec_sasl.hangs_up(conf, &(struct answer){.status = ST_PERM}));
}

static void reasons_stay_on_their_line(void **state)
{
	(void)state;
	struct buf out = {.max = 1000};
	sasl_say_fail(&out, 7, STR("a"), NULL, STR("no\tsuch\r\nuser\x7f"));
	buf_add_char(&out, '\0');
	assert_string_equal(out.ptr, "FAIL\t7\tuser=a\treason=no such  user \n");
	buf_free(&out);
}

static void tokens(void **state)
{
	(void)state;
	struct str offered[] = {STR("XOAUTH2"), STR("oauthbearer")};
	conf->mechanisms = (struct setting_list){offered, 2};
	script("AUTH\t1\tXOAUTH2\tservice=smtp\tresp={user=alice^auth=Bearer to.ken^^}\n",
		"auth table= key =alice name=token value=to.ken name=mechanism value=XOAUTH2 "
		"name=service value=smtp\n",
		"OK\t1\tuser=alice\n");
	script("AUTH\t1\tOAUTHBEARER\tservice=smtp\tsecured\n"
	       "CONT\t1\t{n,a=alice,^host=x^auth=bearer t^^}\n",
		"auth table= key =alice name=token value=t name=mechanism value=OAUTHBEARER "
		"name=service value=smtp name=secured value=yes\n",
		"CONT\t1\t\nOK\t1\tuser=alice\n");
	/* a refusal is told by an error that the client has to answer */
	script("AUTH\t1\tXOAUTH2\tservice=smtp\tresp={user=none^auth=Bearer t^^}\nCONT\t1\t\n",
		NULL,
		"CONT\t1\teyJzdGF0dXMiOiI0MDEiLCJzY2hlbWVzIjoiYmVhcmVyIiwic2NvcGUiOiJtYWlsIn0=\n"
		"FAIL\t1\tuser=none\n");
	script("AUTH\t1\tOAUTHBEARER\tservice=smtp\tresp={n,a=none,^auth=Bearer t^^}\n"
	       "CONT\t1\tAQ==\n",
		NULL, "CONT\t1\teyJzdGF0dXMiOiJpbnZhbGlkX3Rva2VuIn0=\nFAIL\t1\tuser=none\n");
	script("AUTH\t1\tXOAUTH2\tservice=smtp\tresp={user=a^auth=Basic t^^}\n",
		"refused bad_response\n", NULL);
	script("AUTH\t1\tOAUTHBEARER\tservice=smtp\tresp={p=tls,a=a,^auth=Bearer t^^}\n",
		"refused bad_response\n", NULL);
	script("AUTH\t1\tOAUTHBEARER\tservice=smtp\tresp={n,,^auth=Bearer t^^}\n",
		"refused bad_user\n", NULL);
	script("AUTH\t1\tXOAUTH2\tservice=smtp\tresp={user=a^^}\n", "refused empty_password\n",
		NULL);
	script("AUTH\t1\tPLAIN\tservice=smtp\tresp={|a|b}\n", "refused unknown_mechanism\n", NULL);
	conf->mechanisms = (struct setting_list){0};
}

static void exchanges(void **state)
{
	(void)state;
	/* given up silently, as Postfix does; cancelled; unknown */
	script("AUTH\t1\tLOGIN" SMTP "\nAUTH\t2\tPLAIN" SMTP "\tresp={|a|b}\nCANCEL\t1\n"
	       "CONT\t1\t{a}\nCANCEL\t9\n",
		ASKED("a", "b", "PLAIN") "refused unknown_id\n",
		"CONT\t1\tVXNlcm5hbWU6\nOK\t2\tuser=a\n"
		"FAIL\t1\treason=Authentication request timed out\n");
	script("AUTH\t1\tPLAIN" SMTP "\nAUTH\t1\tPLAIN" SMTP "\n", "broken id_reused\n",
		"CONT\t1\t\n");
	/* an id that was answered may come again */
	script("AUTH\t1\tPLAIN" SMTP "\tresp={|a|b}\nAUTH\t1\tPLAIN" SMTP "\tresp={|a|b}\n",
		ASKED("a", "b", "PLAIN") ASKED("a", "b", "PLAIN"),
		"OK\t1\tuser=a\nOK\t1\tuser=a\n");
}

static void what_comes_while_the_table_is_asked(void **state)
{
	(void)state;
	check_late(STR(HELLO "AUTH\t1\tPLAIN\tservice=x\tresp=AGEAYg==\nCONT\t1\tAAAA\n"
			     "AUTH\t2\tPLAIN\tservice=x\tresp=AGEAYg==\nCANCEL\t2\n"
			     "AUTH\t3\tPLAIN\tservice=x\tresp=AGEAYg==\n"),
		5, NULL, "FAIL\t1\treason=Unexpected continuation\nOK\t3\tuser=a\n");
	check_late(STR(HELLO "AUTH\t1\tPLAIN\tservice=x\tresp=AGEAYg==\n"
			     "AUTH\t1\tPLAIN\tservice=x\tresp=AGEAYg==\n"),
		5, NULL, "OK\t1\tuser=a\n");
}

/* The oldest of more than 16 that nobody goes on with is forgotten. */
static void open_exchanges_are_bounded(void **state)
{
	(void)state;
	struct buf text = {.max = 1 << 20};
	for (int i = 1; i <= 1000; i++)
		buf_printf(&text, "AUTH\t%d\tPLAIN\tservice=smtp\n", i);
	buf_add(&text, STR("CONT\t984\t{|a|b}\nCONT\t985\t{|a|b}\n"));
	buf_add_char(&text, '\0');
	script(text.ptr,
		"refused unknown_id\nauth table= key =a name=password value=b name=mechanism "
		"value=PLAIN name=service value=smtp\n",
		NULL);
	buf_free(&text);
}

static void broken(const char *in, const char *why)
{
	char events[100];
	snprintf(events, sizeof(events), "broken %s\n", why);
	check_late(str_of(in), 0, events, "");
}

static void streams_that_end(void **state)
{
	(void)state;
	broken("AUTH\t1\tPLAIN" SMTP "\n", "no_handshake");
	broken("VERSION\t1\t0\nAUTH\t1\tPLAIN" SMTP "\n", "no_handshake");
	broken("CONT\t1\t\n", "no_handshake");
	broken("CPID\t1\n", "bad_handshake");
	broken("VERSION\t1\t0\nVERSION\t1\t0\n", "bad_handshake");
	broken("VERSION\n", "bad_handshake");
	broken("VERSION\t1\t0\nCPID\tx\n", "bad_handshake");
	broken("VERSION\t2\t0\n", "unknown_version");
	broken(HELLO "FOO\tbar\n", "unknown_command");
	broken(HELLO "\n", "unknown_command");
	broken("GET / HTTP/1.1\r\n", "unknown_command");
	broken(HELLO "AUTH\t1\tPLAIN\tresp=AGEAYg==\n", "bad_auth");
	broken(HELLO "AUTH\tx\tPLAIN" SMTP "\n", "bad_auth");
	broken(HELLO "AUTH\t4294967296\tPLAIN" SMTP "\n", "bad_auth");
	broken(HELLO "AUTH\t1\n", "bad_auth");
	broken(HELLO "CONT\tx\t\n", "bad_cont");
	broken(HELLO "CANCEL\tx\n", "bad_cancel");
	check("", "", "");
	check("VERSION\t1\t2\r\nCPID\t1\r\n", "", "");
}

static void lines_are_bounded(void **state)
{
	(void)state;
	struct buf in = {.max = 1 << 20};
	buf_add(&in, STR(HELLO "AUTH\t1\tPLAIN\tservice=smtp\tx="));
	while (in.len < strlen(HELLO) + SASL_LINE - 1)
		buf_add_char(&in, 'x');
	buf_add_char(&in, '\n');
	check_late(buf_str(&in), 0, "", "CONT\t1\t\n");
	in.len--;
	buf_add(&in, STR("x\n"));
	check_late(buf_str(&in), 0, "broken too_long\n", "");
	buf_free(&in);
}

/* A client may say what it likes of itself, but not in the place of what we say. */
static void attributes(void **state)
{
	(void)state;
	script("AUTH\t1\tPLAIN\tservice=s\tservice=t\tpassword=x\tmechanism=y\ttoken=z\t=\trip="
	       "a\001b\t"
	       "rport=25\tresp={|a|b}\n",
		"auth table= key =a name=password value=b name=mechanism value=PLAIN name=service "
		"value=s name=rport value=25\n",
		NULL);
}

static void greeting(void **state)
{
	(void)state;
	struct buf out = {.max = 1000};
	struct greeting who = {.pid = 42, .number = 7, .random = {0xab, 1}};
	codec_sasl.greet(NULL, conf, &who, &out);
	buf_add_char(&out, '\0');
	assert_string_equal(out.ptr,
		"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tLOGIN\tplaintext\nSPID\t42\nCUID\t7\n"
		"COOKIE\tab010000000000000000000000000000\nDONE\n");
	buf_free(&out);
}

static void rules_between_settings(void **state)
{
	(void)state;
	struct error error;
	struct str names[] = {STR("PLAIN"), STR("CRAM-MD5")};
	const struct table_conf lookups = {.name = "x", .ops = CAN(OP_LOOKUP)},
				auth = {.name = "x", .ops = CAN(OP_AUTH)};
	struct sasl_conf before = *conf;
	assert_true((codec_sasl.check)(conf, &auth, &error));
	assert_false((codec_sasl.check)(conf, &lookups, &error));
	assert_true(starts(error.text, "table: \"x\" does not authenticate"));
	conf->mechanisms = (struct setting_list){names, 2};
	assert_false((codec_sasl.check)(conf, &auth, &error));
	assert_true(starts(error.text, "mechanisms: \"CRAM-MD5\""));
	*conf = before;
	conf->attempts.delay = conf->attempts.within;
	assert_false((codec_sasl.check)(conf, &auth, &error));
	assert_true(starts(error.text, "failure_delay: "));
	*conf = before;
}

static void guessing(void **state)
{
	(void)state;
	struct windows *failures = windows_new(100);
	const struct attempt_rules rules = {
		.delay = 2000, .window = 60000, .per_user = 3, .per_address = 5};
	struct attempt alice = {STR("Alice@example.org"), STR("2001:db8::1"), NULL},
		       again = {STR("alice@EXAMPLE.org"), STR("192.0.2.1"), NULL},
		       bob = {STR("bob"), STR("2001:db8::ffff:2"), NULL},
		       carol = {STR("carol"), STR("2001:db8:0:1::1"), NULL},
		       dan = {STR("dan"), bob.address, NULL}, nowhere = {STR("dan"), STR(""), NULL};
	assert_int_equal(attempts_failed(failures, &rules, &alice, 1000), 2000);
	assert_int_equal(attempts_failed(failures, &rules, &alice, 2000), 4000);
	assert_false(attempts_exceeded(failures, &rules, &alice, 3000));
	assert_int_equal(attempts_failed(failures, &rules, &again, 3000), 8000);
	assert_true(attempts_exceeded(failures, &rules, &alice, 4000));
	assert_true(attempts_exceeded(failures, &rules, &again, 4000));
	/* the same network, where two of its five have failed */
	assert_int_equal(attempts_failed(failures, &rules, &bob, 4000), 8000);
	attempts_failed(failures, &rules, &bob, 4000);
	assert_false(attempts_exceeded(failures, &rules, &dan, 5000));
	attempts_failed(failures, &rules, &bob, 4000);
	assert_true(attempts_exceeded(failures, &rules, &dan, 5000));
	assert_false(attempts_exceeded(failures, &rules, &carol, 5000));
	assert_false(attempts_exceeded(failures, &rules, &nowhere, 5000));
	/* once that is long ago */
	assert_false(attempts_exceeded(failures, &rules, &alice, 70000));
	windows_release(failures);
	assert_false(attempts_exceeded(NULL, &rules, &alice, 0));
	assert_int_equal(attempts_failed(NULL, &rules, &alice, 0), 2000);
}

/* A guesser who writes the name in another way each time has no more tries for it. */
static void a_user_is_one_however_written(void **state)
{
	static const char *const same[] = {"alice@x.test", "ALICE@x.Test", "alice+1@x.test",
		"Alice+2+3@X.TEST", " alice@x.test",
		"\xe2\x80\x8b"
		"alice@x.test ",
		"alice-4+5@x.test", "alice@\xef\xbd\x98.test", "alice@\xef\xbc\xb8.test",
		NULL}; /* with a wide x and X */
	(void)state;
	for (size_t i = 0; same[i]; i++) {
		struct windows *failures = windows_new(100);
		const struct attempt_rules rules = {
			.window = 60000, .per_user = 1, .delimiters = "-"};
		attempts_failed(failures, &rules,
			&(struct attempt){.user = str_of(same[i]), .delimiters = "+"}, 1000);
		assert_int_equal(windows_size(failures), 1);
		for (size_t j = 0; same[j]; j++)
			if (!attempts_exceeded(failures, &rules,
				    &(struct attempt){.user = str_of(same[j]), .delimiters = "+"},
				    1000))
				fail_msg("\"%s\" has failed, and \"%s\" is let in", same[i],
					same[j]);
		windows_release(failures);
	}
}

/* Without an '@' an extension may begin as well; and nobody else is meant by these. */
static void users_who_are_not_the_same(void **state)
{
	struct windows *failures = windows_new(100);
	const struct attempt_rules rules = {.window = 60000, .per_user = 1, .delimiters = "+"},
				   none = {.window = 60000, .per_user = 1};
	(void)state;
	attempts_failed(failures, &rules, &(struct attempt){.user = STR("bob+1")}, 1000);
	assert_true(
		attempts_exceeded(failures, &rules, &(struct attempt){.user = STR("Bob+2")}, 1000));
	assert_false(
		attempts_exceeded(failures, &none, &(struct attempt){.user = STR("bob+2")}, 1000));
	assert_false(attempts_exceeded(
		failures, &rules, &(struct attempt){.user = STR("bob@x.test")}, 1000));
	assert_false(
		attempts_exceeded(failures, &rules, &(struct attempt){.user = STR("bobby")}, 1000));
	windows_release(failures);
}

/* Of a name that is longer than any user's the beginning counts. */
static void long_names(void **state)
{
	struct windows *failures = windows_new(100);
	const struct attempt_rules rules = {.window = 60000, .per_user = 1, .delimiters = "+"};
	struct buf name = {.max = 1 << 20};
	(void)state;
	for (int i = 0; i < 3; i++) {
		buf_reset(&name);
		buf_add(&name, STR("Alice+"));
		for (int n = 0; n < 10000; n++)
			buf_add_char(&name, (char)('a' + i));
		buf_add(&name, STR("@x.test"));
		attempts_failed(failures, &rules, &(struct attempt){.user = buf_str(&name)}, 1000);
	}
	buf_free(&name);
	assert_int_equal(windows_size(failures), 1);
	assert_true(attempts_exceeded(
		failures, &rules, &(struct attempt){.user = STR("alice@x.test")}, 1000));
	windows_release(failures);
}

static void no_limits(void **state)
{
	(void)state;
	struct windows *failures = windows_new(100);
	const struct attempt_rules rules = {.window = 60000};
	struct attempt alice = {STR("alice"), STR("192.0.2.1"), NULL};
	for (int i = 0; i < 1000; i++)
		assert_int_equal(attempts_failed(failures, &rules, &alice, 1000), 0);
	assert_false(attempts_exceeded(failures, &rules, &alice, 1000));
	windows_release(failures);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain),
		cmocka_unit_test(nobody_acts_for_another),
		cmocka_unit_test(login),
		cmocka_unit_test(bad_responses),
		cmocka_unit_test(names_are_bounded),
		cmocka_unit_test(answers),
		cmocka_unit_test(reasons_stay_on_their_line),
		cmocka_unit_test(tokens),
		cmocka_unit_test(exchanges),
		cmocka_unit_test(what_comes_while_the_table_is_asked),
		cmocka_unit_test(open_exchanges_are_bounded),
		cmocka_unit_test(streams_that_end),
		cmocka_unit_test(lines_are_bounded),
		cmocka_unit_test(attributes),
		cmocka_unit_test(greeting),
		cmocka_unit_test(rules_between_settings),
		cmocka_unit_test(guessing),
		cmocka_unit_test(a_user_is_one_however_written),
		cmocka_unit_test(users_who_are_not_the_same),
		cmocka_unit_test(long_names),
		cmocka_unit_test(no_limits),
	};
	return cmocka_run_group_tests(tests, set_up, check_tear_down);
}
