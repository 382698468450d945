/* Codec sasl: what the client is told: the greeting, challenges, and how it ended. */
#include "front/front_sasl.h"

#include <inttypes.h>

#include "base/base64.h"

void sasl_greet(void *session, const void *conf, const struct greeting *greeting, struct buf *out)
{
	const unsigned char *random = greeting->random;
	(void)session;
	buf_add(out, STR("VERSION\t1\t2\n"));
	/* Before SPID: Postfix would take this for another socket of Dovecot's. */
	for (enum mech mech = MECH_PLAIN; mech < MECHS; mech++)
		if (sasl_offers(conf, mech))
			buf_printf(out, "MECH\t%s\tplaintext\n", sasl_mech_name(mech));
	buf_printf(out, "SPID\t%u\nCUID\t%" PRIu32 "\nCOOKIE\t", greeting->pid, greeting->number);
	for (size_t i = 0; i < sizeof(greeting->random); i++)
		buf_printf(out, "%02x", random[i]);
	buf_add(out, STR("\nDONE\n"));
}

void sasl_say_cont(struct buf *out, uint32_t id, struct str challenge)
{
	buf_printf(out, "CONT\t%" PRIu32 "\t", id);
	base64_encode(challenge, out);
	buf_add_char(out, '\n');
}

static void begin(struct buf *out, const char *word, uint32_t id, struct str user)
{
	buf_add(out, str_of(word));
	buf_add_char(out, '\t');
	buf_add_u64(out, id);
	if (user.len == 0)
		return;
	buf_add(out, STR("\tuser="));
	buf_add(out, user);
}

/* Postfix shows it to the user: on one line, and not too long. */
static struct str clean_reason(struct str reason, char *to)
{
	size_t n = reason.len < SASL_REASON ? reason.len : SASL_REASON;
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)reason.ptr[i];
		to[i] = c < 0x20 || c == 0x7f ? ' ' : (char)c;
	}
	return (struct str){to, n};
}

void sasl_say_fail(
	struct buf *out, uint32_t id, struct str user, const char *flags, struct str reason)
{
	char text[SASL_REASON];
	begin(out, "FAIL", id, user);
	if (flags) {
		buf_add_char(out, '\t');
		buf_add(out, str_of(flags));
	}
	if (reason.len > 0) {
		buf_add(out, STR("\treason="));
		buf_add(out, clean_reason(reason, text));
	}
	buf_add_char(out, '\n');
}

const char *sasl_unfit(const void *session, uint64_t tag, const struct answer *answer)
{
	struct str user = answer->nrows > 0 ? answer->rows[0].value : STR("");
	(void)session;
	(void)tag;
	if (str_has_control(user))
		return "the user's name has a control character";
	return user.len > SASL_USER ? "the user's name is too long" : NULL;
}

bool sasl_hangs_up(const void *conf_of_listener, const struct answer *answer)
{
	const struct sasl_conf *conf = conf_of_listener;
	return answer->status == ST_TEMP && conf->on_outage == OUTAGE_CLOSE;
}

static void say_ok(struct buf *out, const struct exchange *exchange, const struct answer *answer)
{
	struct str user = answer->nrows > 0 ? answer->rows[0].value : STR("");
	begin(out, "OK", exchange->id, user.len > 0 ? user : sasl_user(exchange));
	buf_add_char(out, '\n');
}

/* A token's client is told in a challenge what it may try instead; it says something to that, and then it
 * has failed. */
static void say_error(
	struct buf *out, struct sasl_session *session, struct exchange *exchange, struct str reason)
{
	sasl_make_room(session);
	exchange->stage = STAGE_REFUSED;
	exchange->reason = clean_reason(reason, exchange->text);
	sasl_say_cont(out, exchange->id,
		exchange->mech == MECH_XOAUTH2
			? STR("{\"status\":\"401\",\"schemes\":\"bearer\",\"scope\":\"mail\"}")
			: STR("{\"status\":\"invalid_token\"}"));
}

void sasl_encode(void *session_of_conn, const void *conf, uint64_t tag, const struct answer *answer,
	struct buf *out)
{
	struct sasl_session *session = session_of_conn;
	struct exchange *exchange = sasl_find(session, tag);
	struct str user = sasl_user(exchange);
	if (exchange->stage == STAGE_CANCELLED || sasl_hangs_up(conf, answer)) {
		sasl_forget(session, exchange);
		return;
	}
	if (answer->status == ST_NOTFOUND && exchange->mech >= MECH_XOAUTH2) {
		say_error(out, session, exchange, answer->why);
		return;
	}
	if (answer->status == ST_OK)
		say_ok(out, exchange, answer);
	else if (answer->status == ST_NOTFOUND)
		sasl_say_fail(out, exchange->id, user, NULL, answer->why);
	else if (answer->status == ST_TEMP)
		sasl_say_fail(
			out, exchange->id, user, "temp", STR("Temporary authentication failure"));
	else
		sasl_say_fail(out, exchange->id, user, "code=temp_fail",
			STR("Authentication is not available"));
	sasl_forget(session, exchange);
}
