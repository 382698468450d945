/* Tests of the policy codec: lists of attributes, actions, limits, rules between its settings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "model/table.h"
#include "stream_check.h"

#define FAILED "action=DEFER_IF_PERMIT 4.3.0 Service temporarily unavailable\n\n"

/* As the codec has it. */
struct conf {
	int64_t max_request;
	const char *fail_action, *perm_action, *key;
};

static struct conf *conf;

static int set_up(void **state)
{
	(void)state;
	check_set_up(&codec_policy);
	conf = check_conf;
	assert_int_equal(codec_policy.conf_size, sizeof(*conf));
	return 0;
}

static void requests(void **state)
{
	(void)state;
	check("request=smtpd_access_policy\nsay=OK\n\n",
		"policy table= key = name=request value=smtpd_access_policy name=say value=OK "
		"in_order\n",
		"action=OK\n\n");
	check("say=DUNNO\n\nsay=REJECT no\n\n",
		"policy table= key = name=say value=DUNNO in_order\n"
		"policy table= key = name=say value=REJECT no in_order\n",
		"action=DUNNO\n\naction=REJECT no\n\n");
	/* a value may be empty, or hold what looks like an attribute, or any byte but LF and NUL */
	check("sender=\nhelo_name=c=x=\nsay=\303\274\377 \t\r.\n\n",
		"policy table= key = name=sender value= name=helo_name value=c=x= name=say "
		"value=\\c3\\bc\\ff \\09\\0d. in_order\n",
		NULL);
	check("a=1\n", "", "");
	check("a=1\n\nb=2\n", "policy table= key = name=a value=1 in_order\n", NULL);
	check("", "", "");
}

/* A person at a terminal; the answers have LF all the same. */
static void line_ends_may_have_a_cr(void **state)
{
	(void)state;
	check("say=OK\r\nsender=x\r\r\n\r\n",
		"policy table= key = name=say value=OK name=sender value=x\\0d in_order\n",
		"action=OK\n\n");
}

static void answers(void **state)
{
	(void)state;
	check("say=none\n\n", NULL, "action=DUNNO\n\n");
	check("say=temp secret reason\n\n", NULL, FAILED);
	check("say=perm secret reason\n\n", NULL, FAILED);
	check("say=550 5.7.1 No thanks\n\n", NULL, "action=550 5.7.1 No thanks\n\n");
	check("say=  REJECT foo\n\n", NULL, "action=REJECT foo\n\n");
	check("say=PREPEND X-A: b\n\n", NULL, "action=PREPEND X-A: b\n\n");
	check("say=1\n\n", NULL, "action=1\n\n");
}

/* Postfix would do something else, and never what was meant. */
static void actions_that_postfix_would_not_do(void **state)
{
	(void)state;
	check("say=empty\n\n", NULL, FAILED);
	check("say= \t \n\n", NULL, FAILED);
	check("say=nul\n\n", NULL, FAILED);
	check("say=lines\n\n", NULL, FAILED);
	check("say=REJECT a\rb\n\n", NULL, FAILED);
	check("say=550\n\n", NULL, FAILED);
	check("say= 450 \n\n", NULL, FAILED);
	check("say=250\n\n", NULL, "action=250\n\n");
	check("say=5500\n\n", NULL, "action=5500\n\n");
	check("say=repeat 100001\n\n", NULL, FAILED);
	struct stream stream;
	struct stream_run run;
	check_play(STR("say=repeat 100000\n\n"), 0, &stream, &run);
	assert_int_equal(run.out.len, 7 + 100000 + 2);
	stream_run_free(&run);
}

static void other_actions_on_failure(void **state)
{
	(void)state;
	struct conf before = *conf;
	conf->fail_action = "DUNNO";
	check("say=temp\n\nsay=perm\n\nx\n\n", NULL,
		"action=DUNNO\n\naction=DUNNO\n\naction=DUNNO\n\n");
	conf->perm_action = "554 5.3.5 Misconfigured";
	check("say=temp\n\nsay=perm\n\nx\n\n", NULL,
		"action=DUNNO\n\naction=554 5.3.5 Misconfigured\n\naction=DUNNO\n\n");
	*conf = before;
}

/* With `key` the attribute of that name is looked up. */
static void one_attribute_is_the_key(void **state)
{
	(void)state;
	struct conf before = *conf;
	conf->key = "recipient";
	check("sender=s\nrecipient=REJECT r\n\n", "lookup table= key =REJECT r in_order\n",
		"action=REJECT r\n\n");
	check("sender=s\nrecipient=none\n\n", "lookup table= key =none in_order\n",
		"action=DUNNO\n\n");
	check("sender=s\nrecipients=x\n\nrecipient=\n\n",
		"lookup table= key = in_order\nlookup table= key = in_order\n", NULL);
	*conf = before;
}

static void refused(struct str request, const char *why)
{
	struct buf in = {.max = 1 << 20}, event = {.max = 100};
	struct stream stream;
	struct stream_run run;
	buf_add(&in, STR("say=OK\n\n"));
	buf_add(&in, request);
	buf_add(&in, STR("\nsay=HOLD\n\n"));
	buf_printf(&event, "in_order\nrefused %s\npolicy%c", why, 0);
	check_play(buf_str(&in), 5, &stream, &run);
	if (!strstr(run.events.ptr, event.ptr))
		fail_msg("%s: %.300s", why, run.events.ptr);
	assert_int_equal(run.messages, 2);
	assert_string_equal(run.out.ptr, "action=OK\n\n" FAILED "action=HOLD\n\n");
	assert_true(stream_same_cut_anywhere(&stream, &run));
	stream_run_free(&run);
	buf_free(&in);
	buf_free(&event);
}

static void bad_requests_are_refused(void **state)
{
	(void)state;
	refused(STR(""), "empty");
	refused(STR("noequals\n"), "bad_attribute");
	refused(STR("a=1\nnoequals\nb=2\n"), "bad_attribute");
	refused(STR("=value\n"), "bad_attribute");
	refused(STR("GET / HTTP/1.1\r\nHost: a\r\n"), "bad_attribute");
	refused(STR("say=a\0b\n"), "nul");
	refused(STR("say\0=a\n"), "nul");
	refused(STR("\0\n"), "bad_attribute");
	/* whose is it? one of the two would be believed by somebody else */
	refused(STR("sasl_username=a\nsay=OK\nsasl_username=b\n"), "attribute_twice");
	refused(STR("a=\na=\n"), "attribute_twice");
}

static void add_attributes(struct buf *in, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		buf_printf(in, "name%u=v\n", i);
}

static void attributes_are_counted(void **state)
{
	(void)state;
	static const size_t sizes[] = {997, 4093};
	struct conf before = *conf;
	struct buf in = {.max = 1 << 20};
	conf->max_request = 1 << 20;
	add_attributes(&in, 257);
	refused(buf_str(&in), "too_many_attributes");
	buf_reset(&in);
	add_attributes(&in, 10000);
	buf_add_char(&in, '\n');
	struct stream stream;
	struct stream_run run;
	check_play(buf_str(&in), 0, &stream, &run);
	assert_string_equal(run.events.ptr, "refused too_many_attributes\n");
	for (size_t i = 0; i < 2; i++)
		assert_true(stream_same(&stream, &run, &sizes[i], 1));
	stream_run_free(&run);

	buf_reset(&in);
	add_attributes(&in, 256);
	buf_add_char(&in, '\n');
	check_play(buf_str(&in), 0, &stream, &run);
	assert_int_equal(run.messages, 1);
	assert_true(stream_same_cut_anywhere(&stream, &run));
	stream_run_free(&run);
	buf_free(&in);
	*conf = before;
}

/* 64k with the empty line. */
static void requests_have_an_end(void **state)
{
	(void)state;
	static const size_t sizes[] = {997, 4093, 65535};
	for (int over = 0; over <= 1; over++) {
		struct buf in = {.max = 200000};
		struct stream stream;
		struct stream_run run;
		buf_printf(&in, "say=OK\na=%0*d\n\nsay=OK\n\n", 65536 - 11 + over, 0);
		check_play(buf_str(&in), 0, &stream, &run);
		assert_int_equal(run.broken, over);
		assert_int_equal(run.messages, over ? 0 : 2);
		assert_string_equal(run.out.ptr, over ? FAILED : "action=OK\n\naction=OK\n\n");
		for (size_t i = 0; i < 3; i++)
			assert_true(stream_same(&stream, &run, &sizes[i], 1));
		stream_run_free(&run);
		buf_free(&in);
	}
}

static void endless_requests_break(void **state)
{
	(void)state;
	struct conf before = *conf;
	struct buf in = {.max = 10000};
	conf->max_request = 1024;
	for (unsigned i = 0; i < 1200; i++)
		buf_add(&in, STR("a=\n"));
	check_late(buf_str(&in), 0, "broken too_long\n", FAILED);
	*conf = before;
	buf_free(&in);
}

/* A reload may set the limit below what has been looked at. */
static void limit_may_shrink(void **state)
{
	(void)state;
	struct conf small = *conf;
	char in[3001];
	size_t used;
	struct message message;
	struct buf out = {.max = 1000};
	const char *why = NULL;
	void *session = memory_new(codec_policy.session_size);
	memset(in, 'a', sizeof(in));
	small.max_request = 1024;
	struct str some = {in, 3000}, more = {in, 3001};
	assert_int_equal(
		codec_policy.decode(session, conf, some, &used, &message, &out, &why), DECODE_MORE);
	assert_int_equal(codec_policy.decode(session, &small, more, &used, &message, &out, &why),
		DECODE_BROKEN);
	codec_policy.end(session);
	free(session);
	buf_free(&out);
}

/* What Postfix 3.7 sends. */
static void request_of_postfix(void **state)
{
	(void)state;
	struct stream stream;
	struct stream_run run;
	check_play(
		STR("request=smtpd_access_policy\nprotocol_state=RCPT\nprotocol_name=ESMTP\n"
		    "client_address=127.0.0.1\nclient_name=localhost\nclient_port=40000\n"
		    "reverse_client_name=localhost\nserver_address=127.0.0.1\nserver_port=25\n"
		    "helo_name=c.test\nsender=\nrecipient=a@b.test\nrecipient_count=0\nqueue_id=\n"
		    "instance=1a2b.5f3c.1.0\nsize=0\netrn_domain=\nstress=\nsasl_method=PLAIN\n"
		    "sasl_username=u\nsasl_sender=\nccert_subject=\nccert_issuer=\n"
		    "ccert_fingerprint=\nccert_pubkey_fingerprint=\nencryption_protocol=\n"
		    "encryption_cipher=\nencryption_keysize=0\npolicy_context=\n\n"),
		0, &stream, &run);
	assert_int_equal(run.messages, 1);
	assert_non_null(
		strstr(run.events.ptr, " name=sender value= name=recipient value=a@b.test "));
	assert_non_null(strstr(run.events.ptr, " name=policy_context value= in_order\n"));
	assert_true(stream_same_cut_anywhere(&stream, &run));
	stream_run_free(&run);
}

static void order_is_kept(void **state)
{
	(void)state;
	struct buf in = {.max = 1 << 20}, want = {.max = 1 << 20};
	for (unsigned i = 0; i < 200; i++) {
		buf_printf(&in, i % 5 ? "n=%u\nsay=4%02u x\n\n" : "%u\nsay=\n\n", i, i % 100);
		if (i % 5)
			buf_printf(&want, "action=4%02u x\n\n", i % 100);
		else
			buf_add(&want, STR(FAILED));
	}
	buf_add_char(&want, '\0');
	check_late(buf_str(&in), codec_policy.max_inflight - 1, NULL, want.ptr);
	buf_free(&in);
	buf_free(&want);
}

static void bad_setting(struct conf bad, unsigned ops, const char *text)
{
	struct error error = {""};
	struct table_conf table = {.name = "t", .ops = ops};
	bool good = (codec_policy.check)(&bad, &table, &error);
	assert_int_equal(good, text == NULL);
	if (text && !strstr(error.text, text))
		fail_msg("%s", error.text);
}

static void settings_are_checked(void **state)
{
	(void)state;
	struct conf with = *conf;
	unsigned policy = CAN(OP_POLICY), lookup = CAN(OP_LOOKUP);
	bad_setting(with, policy, NULL);
	bad_setting(with, lookup, "table: \"t\" takes no policy requests");
	with.key = "recipient";
	bad_setting(with, lookup, NULL);
	bad_setting(with, policy, "table: \"t\" answers no lookups");
	with = *conf;
	with.perm_action = "554 5.3.5 Misconfigured";
	bad_setting(with, policy, NULL);
	with.perm_action = "554";
	bad_setting(with, policy, "perm_action: ");
	with = *conf;
	with.fail_action = "";
	bad_setting(with, policy, "fail_action: ");
	with.fail_action = "DEFER a\nb";
	bad_setting(with, policy, "fail_action: ");
	with.fail_action = "450";
	bad_setting(with, policy, "fail_action: ");
	with.fail_action = "450 4.3.0 Later";
	bad_setting(with, policy, NULL);
}

static void codec_says_what_it_wants(void **state)
{
	(void)state;
	assert_string_equal(codec_policy.name, "policy");
	assert_true(codec_policy.ordered);
	assert_int_equal(codec_policy.idle_timeout, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests),
		cmocka_unit_test(line_ends_may_have_a_cr),
		cmocka_unit_test(answers),
		cmocka_unit_test(actions_that_postfix_would_not_do),
		cmocka_unit_test(other_actions_on_failure),
		cmocka_unit_test(one_attribute_is_the_key),
		cmocka_unit_test(bad_requests_are_refused),
		cmocka_unit_test(attributes_are_counted),
		cmocka_unit_test(requests_have_an_end),
		cmocka_unit_test(endless_requests_break),
		cmocka_unit_test(limit_may_shrink),
		cmocka_unit_test(request_of_postfix),
		cmocka_unit_test(order_is_kept),
		cmocka_unit_test(settings_are_checked),
		cmocka_unit_test(codec_says_what_it_wants),
	};
	return cmocka_run_group_tests(tests, set_up, check_tear_down);
}
