/* Codec sasl: the mechanisms: what a response means, and what is asked then. */
#include "front/front_sasl.h"

#include <strings.h>

#include "base/base64.h"

static const char *const names[MECHS] = {"PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER"};

/* What a response holds. */
struct claim {
	struct str user, secret;
	const char *wrong; /* a word for the counters, and why not; NULL: it may be asked */
	const char *reason;
};

const char *sasl_mech_name(enum mech mech)
{
	return names[mech];
}

bool sasl_mech_find(struct str name, enum mech *mech)
{
	for (enum mech each = MECH_PLAIN; each < MECHS; each++) {
		if (name.len != strlen(names[each]) ||
			strncasecmp(name.ptr, names[each], name.len) != 0)
			continue;
		*mech = each;
		return true;
	}
	return false;
}

bool sasl_offers(const struct sasl_conf *conf, enum mech mech)
{
	enum mech each;
	for (size_t i = 0; i < conf->mechanisms.n; i++)
		if (sasl_mech_find(conf->mechanisms.items[i], &each) && each == mech)
			return true;
	return conf->mechanisms.n == 0 && mech <= MECH_LOGIN;
}

static enum decoded refuse(
	struct sasl_step *step, struct exchange *exchange, const char *why, const char *reason)
{
	sasl_say_fail(step->out, exchange->id, sasl_user(exchange), NULL, str_of(reason));
	sasl_forget(step->session, exchange);
	*step->why = why;
	return DECODE_REFUSED;
}

/* ---- responses ---- */

static struct claim wrong_claim(const char *wrong, const char *reason)
{
	return (struct claim){.wrong = wrong, .reason = reason};
}

/* Nobody acts for somebody else here. */
static struct claim claim_of(struct str acts_for, struct str user, struct str secret)
{
	if (acts_for.len > 0 && !str_eq(acts_for, user))
		return wrong_claim("authzid", "Acting for another user is not allowed");
	return (struct claim){.user = user, .secret = secret};
}

/* RFC 4616: authzid NUL authcid NUL password. */
static struct claim read_plain(struct str response)
{
	struct str acts_for, user;
	if (!str_cut(&response, '\0', &acts_for) || !str_cut(&response, '\0', &user))
		return wrong_claim("bad_response", "Invalid response");
	return claim_of(acts_for, user, response);
}

/* What stands behind "Bearer ", in any case of letters. */
static bool read_bearer(struct str field, struct str *token)
{
	struct str scheme;
	if (!str_cut(&field, ' ', &scheme) || scheme.len != 6 ||
		strncasecmp(scheme.ptr, "Bearer", 6) != 0)
		return false;
	*token = str_trim(field);
	return true;
}

/* Fields that end in a byte 1; of the first, XOAUTH2 says user=U and OAUTHBEARER (RFC 7628) n,a=U, */
static struct claim read_token(struct str response, bool is_xoauth2)
{
	struct str user = STR(""), token = STR(""), field;
	if (!is_xoauth2) {
		struct str binding;
		str_cut(&response, '\1', &field);
		str_cut(&field, ',', &binding);
		if (!str_eq(binding, STR("n")) && !str_eq(binding, STR("y")))
			return wrong_claim("bad_response", "Invalid response");
		str_cut(&field, ',', &user);
		user = str_starts(user, STR("a=")) ? str_skip(user, 2) : STR("");
	}
	while (str_cut(&response, '\1', &field)) {
		if (is_xoauth2 && str_starts(field, STR("user=")))
			user = str_skip(field, strlen("user="));
		if (str_starts(field, STR("auth=")) &&
			!read_bearer(str_skip(field, strlen("auth=")), &token))
			return wrong_claim("bad_response", "Not a bearer token");
	}
	return claim_of(STR(""), user, token);
}

static struct claim read_claim(const struct exchange *exchange, struct str response)
{
	switch (exchange->mech) {
	case MECH_PLAIN:
		return read_plain(response);
	case MECH_LOGIN:
		return claim_of(STR(""), sasl_user(exchange), response);
	default:
		return read_token(response, exchange->mech == MECH_XOAUTH2);
	}
}

/* ---- the question ---- */

static bool keep_user(struct exchange *exchange, struct str user)
{
	if (user.len == 0 || user.len > SASL_USER || str_has_control(user))
		return false;
	memmove(exchange->user, user.ptr, user.len);
	exchange->nuser = user.len;
	return true;
}

/* The password goes first: whoever looks for it has not to look far. */
static enum decoded ask(struct sasl_step *step, struct exchange *exchange, struct str secret)
{
	struct sasl_session *session = step->session;
	bool token = exchange->mech >= MECH_XOAUTH2;
	struct pair *attrs = exchange->attrs;
	memmove(attrs + 2, attrs, exchange->nattrs * sizeof(*attrs));
	attrs[0] = (struct pair){token ? STR("token") : STR("password"), secret};
	attrs[1] = (struct pair){STR("mechanism"), str_of(names[exchange->mech])};
	exchange->nattrs += 2;
	const struct pair *rip = pair_find(attrs, exchange->nattrs, STR("rip"));
	session->attempt = (struct attempt){.user = sasl_user(exchange)};
	if (rip)
		session->attempt.address = rip->value;
	exchange->stage = STAGE_ASKED;
	*step->message = (struct message){
		.ask = {.op = OP_AUTH,
			.form = FORM_TEXT,
			.key = sasl_user(exchange),
			.attrs = attrs,
			.nattrs = exchange->nattrs},
		.tag = exchange->id,
		.attempt = &session->attempt,
	};
	return DECODE_MESSAGE;
}

static enum decoded take_claim(
	struct sasl_step *step, struct exchange *exchange, struct str response)
{
	struct claim claim = read_claim(exchange, response);
	if (claim.wrong)
		return refuse(step, exchange, claim.wrong, claim.reason);
	if (!keep_user(exchange, claim.user))
		return refuse(step, exchange, "bad_user", "Invalid user name");
	if (claim.secret.len == 0)
		return refuse(step, exchange, "empty_password", "Empty password");
	if (str_has(claim.secret, '\0'))
		return refuse(step, exchange, "bad_response", "Invalid response");
	return ask(step, exchange, claim.secret);
}

/* ---- steps ---- */

enum decoded sasl_challenge(struct sasl_step *step, struct exchange *exchange)
{
	struct str challenge = STR("");
	if (exchange->mech == MECH_LOGIN)
		challenge = exchange->stage == STAGE_FIRST ? STR("Username:") : STR("Password:");
	sasl_say_cont(step->out, exchange->id, challenge);
	return DECODE_MORE;
}

/* LOGIN's first one. */
static enum decoded take_user(
	struct sasl_step *step, struct exchange *exchange, struct str response)
{
	if (!keep_user(exchange, response))
		return refuse(step, exchange, "bad_user", "Invalid user name");
	exchange->stage = STAGE_PASSWORD;
	return sasl_challenge(step, exchange);
}

/* Of the client's word to an error nothing is expected. */
static enum decoded end_refused(struct sasl_step *step, struct exchange *exchange)
{
	sasl_say_fail(step->out, exchange->id, sasl_user(exchange), NULL, exchange->reason);
	sasl_forget(step->session, exchange);
	return DECODE_MORE;
}

enum decoded sasl_respond(struct sasl_step *step, struct exchange *exchange, struct str coded)
{
	struct sasl_session *session = step->session;
	struct str response = {NULL, 0};
	if (exchange->stage == STAGE_REFUSED)
		return end_refused(step, exchange);
	session->response_size = base64_room(coded.len) + 1;
	session->response = memory_grow(session->response, session->response_size);
	response.ptr = session->response;
	if (!base64_decode(coded, session->response, &response.len)) {
		sasl_say_fail(step->out, exchange->id, sasl_user(exchange), "code=invalid_base64",
			STR("Invalid base64 data"));
		sasl_forget(session, exchange);
		*step->why = "bad_base64";
		return DECODE_REFUSED;
	}
	if (exchange->mech == MECH_LOGIN && exchange->stage == STAGE_FIRST)
		return take_user(step, exchange, response);
	return take_claim(step, exchange, response);
}
