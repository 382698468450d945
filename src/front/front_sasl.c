/* Codec: Dovecot's auth client protocol, as Postfix's smtpd speaks it: lines and exchanges. */
#include "front/front_sasl.h"

#include <stdlib.h>

#include "front/fronts.h"
#include "model/table.h"

static const char *const outage_choices[] = {"close", "fail", NULL};

#define AT(member) .offset = offsetof(struct sasl_conf, member)

static const struct setting settings[] = {
	{.name = "mechanisms",
		.kind = SET_LIST,
		AT(mechanisms),
		.fallback = "",
		.help = "what clients may use: PLAIN LOGIN XOAUTH2 OAUTHBEARER; default: PLAIN "
			"LOGIN"},
	{.name = "on_outage",
		.kind = SET_CHOICE,
		AT(on_outage),
		.fallback = "close",
		.choices = outage_choices,
		.help = "when the table fails: close the connection (Postfix says 454), or FAIL "
			"with `temp` (Postfix and Exim say 535; others may know it)"},
	{.name = "timeout",
		.kind = SET_MSEC,
		AT(attempts.within),
		.fallback = "8s",
		.min = 100,
		.max = 9500,
		.help = "every answer comes within it; Postfix waits 10 s"},
	{.name = "failure_delay",
		.kind = SET_MSEC,
		AT(attempts.delay),
		.fallback = "2s",
		.max = 9500,
		.help = "so late comes a refusal, and twice as late each further one, up to the "
			"timeout"},
	ATTEMPT_SETTINGS,
	{.name = NULL},
};

/* What of an AUTH line a table is told. */
static const char *const attr_names[] = {
	"service", "lip", "rip", "lport", "rport", "local_name", "session", "secured", NULL};

/* ---- exchanges ---- */

struct exchange *sasl_find(const struct sasl_session *session, uint64_t id)
{
	for (size_t i = session->nexchanges; i > 0; i--)
		if (session->exchanges[i - 1]->id == id)
			return session->exchanges[i - 1];
	return NULL;
}

void sasl_forget(struct sasl_session *session, struct exchange *exchange)
{
	size_t i = 0;
	while (session->exchanges[i] != exchange)
		i++;
	session->nexchanges--;
	memmove(session->exchanges + i, session->exchanges + i + 1,
		(session->nexchanges - i) * sizeof(exchange));
	free(exchange);
}

static bool waits_for_client(const struct exchange *exchange)
{
	return exchange->stage < STAGE_ASKED;
}

/* Postfix never says that it has given one up: the oldest goes. */
void sasl_make_room(struct sasl_session *session)
{
	struct exchange *oldest = NULL;
	size_t n = 0;
	for (size_t i = session->nexchanges; i > 0; i--) {
		if (!waits_for_client(session->exchanges[i - 1]))
			continue;
		oldest = session->exchanges[i - 1];
		n++;
	}
	if (n >= SASL_WAITING)
		sasl_forget(session, oldest);
}

/* ---- the AUTH line ---- */

struct auth_line {
	uint32_t id;
	struct str mech, resp;
	bool has_resp, has_service;
	struct pair attrs[SASL_ATTRS];
	size_t nattrs;
};

static void add_attr(struct auth_line *auth, struct str word)
{
	struct str value = word, name;
	bool has_value = str_cut(&value, '=', &name);
	for (size_t i = 0; attr_names[i]; i++) {
		if (!str_eq(name, str_of(attr_names[i])))
			continue;
		for (size_t j = 0; j < auth->nattrs; j++)
			if (auth->attrs[j].name.ptr == attr_names[i])
				return;
		if (!str_has_control(value))
			auth->attrs[auth->nattrs++] = (struct pair){
				{attr_names[i], name.len}, has_value ? value : STR("yes")};
	}
	auth->has_service |= has_value && value.len > 0 && str_eq(name, STR("service"));
}

static bool read_id(struct str word, uint32_t *id)
{
	uint64_t n;
	if (!str_u64(word, &n) || n > UINT32_MAX)
		return false;
	*id = (uint32_t)n;
	return true;
}

/* `resp=` is the last: what follows it is all of it. */
static bool read_auth(struct str rest, struct auth_line *auth)
{
	struct str word;
	*auth = (struct auth_line){0};
	str_cut(&rest, '\t', &word);
	if (!read_id(word, &auth->id))
		return false;
	str_cut(&rest, '\t', &auth->mech);
	while (rest.len > 0 && !auth->has_resp) {
		auth->has_resp = str_starts(rest, STR("resp="));
		if (auth->has_resp) {
			auth->resp = str_skip(rest, strlen("resp="));
		} else {
			str_cut(&rest, '\t', &word);
			add_attr(auth, word);
		}
	}
	return auth->mech.len > 0;
}

/* Values are copied: the line goes, and the exchange may need another one. */
static struct exchange *exchange_new(
	struct sasl_session *session, const struct auth_line *auth, enum mech mech)
{
	size_t size = SASL_REASON;
	for (size_t i = 0; i < auth->nattrs; i++)
		size += auth->attrs[i].value.len;
	sasl_make_room(session);
	struct exchange *exchange = memory_grow(NULL, sizeof(*exchange) + size);
	char *at = exchange->text + SASL_REASON;
	exchange->id = auth->id;
	exchange->mech = mech;
	exchange->stage = STAGE_FIRST;
	exchange->nuser = 0;
	exchange->nattrs = auth->nattrs;
	for (size_t i = 0; i < auth->nattrs; i++) {
		struct str value = auth->attrs[i].value;
		exchange->attrs[i] = (struct pair){auth->attrs[i].name, {at, value.len}};
		at = mempcpy(at, value.ptr, value.len);
	}
	session->exchanges[session->nexchanges++] = exchange;
	return exchange;
}

/* ---- lines ---- */

static enum decoded broken(const struct sasl_step *step, const char *why)
{
	*step->why = why;
	return DECODE_BROKEN;
}

static enum decoded take_auth(struct sasl_step *step, struct str rest)
{
	struct auth_line auth;
	enum mech mech;
	if (step->session->greeted < 2)
		return broken(step, "no_handshake");
	if (!read_auth(rest, &auth) || !auth.has_service)
		return broken(step, "bad_auth");
	if (sasl_find(step->session, auth.id))
		return broken(step, "id_reused");
	if (!sasl_mech_find(auth.mech, &mech) || !sasl_offers(step->conf, mech)) {
		sasl_say_fail(step->out, auth.id, STR(""), NULL,
			STR("Unsupported authentication mechanism"));
		*step->why = "unknown_mechanism";
		return DECODE_REFUSED;
	}
	struct exchange *exchange = exchange_new(step->session, &auth, mech);
	/* Exim always has a `resp=`: without a word behind it there is none. */
	if (auth.resp.len == 0)
		return sasl_challenge(step, exchange);
	/* RFC 4954: a single '=' is a response without a byte. */
	return sasl_respond(step, exchange, str_eq(auth.resp, STR("=")) ? STR("") : auth.resp);
}

static enum decoded unexpected(
	struct sasl_step *step, uint32_t id, const char *reason, const char *why)
{
	sasl_say_fail(step->out, id, STR(""), NULL, str_of(reason));
	*step->why = why;
	return DECODE_REFUSED;
}

static enum decoded take_cont(struct sasl_step *step, struct str rest)
{
	struct str word;
	uint32_t id;
	str_cut(&rest, '\t', &word);
	if (step->session->greeted < 2)
		return broken(step, "no_handshake");
	if (!read_id(word, &id))
		return broken(step, "bad_cont");
	struct exchange *exchange = sasl_find(step->session, id);
	if (!exchange || exchange->stage == STAGE_CANCELLED)
		return unexpected(step, id, "Authentication request timed out", "unknown_id");
	if (exchange->stage == STAGE_ASKED) {
		exchange->stage = STAGE_CANCELLED;
		return unexpected(step, id, "Unexpected continuation", "unexpected_cont");
	}
	return sasl_respond(step, exchange, rest);
}

static enum decoded take_cancel(struct sasl_step *step, struct str rest)
{
	uint32_t id;
	struct exchange *exchange;
	if (!read_id(rest, &id))
		return broken(step, "bad_cancel");
	exchange = sasl_find(step->session, id);
	if (exchange && waits_for_client(exchange))
		sasl_forget(step->session, exchange);
	else if (exchange)
		exchange->stage = STAGE_CANCELLED;
	return DECODE_MORE;
}

/* VERSION, then CPID, each once. */
static enum decoded take_hello(struct sasl_step *step, unsigned nth, struct str rest)
{
	struct str word;
	uint64_t n;
	if (step->session->greeted != nth)
		return broken(step, "bad_handshake");
	str_cut(&rest, '\t', &word);
	if (!str_u64(word, &n))
		return broken(step, "bad_handshake");
	if (nth == 0 && n != 1)
		return broken(step, "unknown_version");
	step->session->greeted++;
	return DECODE_MORE;
}

static enum decoded take_line(struct sasl_step *step, struct str line)
{
	struct str rest = line, word;
	str_cut(&rest, '\t', &word);
	if (str_eq(word, STR("AUTH")))
		return take_auth(step, rest);
	if (str_eq(word, STR("CONT")))
		return take_cont(step, rest);
	if (str_eq(word, STR("CANCEL")))
		return take_cancel(step, rest);
	if (str_eq(word, STR("VERSION")))
		return take_hello(step, 0, rest);
	if (str_eq(word, STR("CPID")))
		return take_hello(step, 1, rest);
	return broken(step, "unknown_command");
}

/* The length of the first line with its LF; 0: that has not come, or would be too long. */
static size_t find_line(struct sasl_session *session, struct str in)
{
	size_t len = in.len < SASL_LINE ? in.len : SASL_LINE;
	const char *from = in.ptr + session->looked;
	const char *lf = len > session->looked ? memchr(from, '\n', len - session->looked) : NULL;
	session->looked = lf ? 0 : len;
	return lf ? (size_t)(lf - in.ptr) + 1 : 0;
}

static void wipe_response(struct sasl_session *session)
{
	if (!session->response)
		return;
	explicit_bzero(session->response, session->response_size);
	free(session->response);
	session->response = NULL;
}

static enum decoded decode(void *session_of_conn, const void *conf, struct str in, size_t *used,
	struct message *message, struct buf *out, const char **why)
{
	struct sasl_session *session = session_of_conn;
	struct sasl_step step = {session, conf, message, out, why};
	enum decoded decoded = DECODE_MORE;
	wipe_response(session);
	*used = 0;
	while (decoded == DECODE_MORE) {
		struct str rest = str_skip(in, *used);
		size_t n = find_line(session, rest);
		if (n == 0)
			return rest.len < SASL_LINE ? DECODE_MORE : broken(&step, "too_long");
		*used += n;
		struct str line = {rest.ptr, n - 1};
		if (line.len > 0 && line.ptr[line.len - 1] == '\r')
			line.len--;
		decoded = take_line(&step, line);
	}
	return decoded;
}

/* ---- settings, the end ---- */

static bool check(const void *conf_of_listener, const struct table_conf *table, struct error *error)
{
	const struct sasl_conf *conf = conf_of_listener;
	enum mech mech;
	for (size_t i = 0; i < conf->mechanisms.n; i++) {
		struct str name = conf->mechanisms.items[i];
		if (!sasl_mech_find(name, &mech))
			return error_set(error,
				"mechanisms: \"%.*s\"; allowed: PLAIN, LOGIN, XOAUTH2, OAUTHBEARER",
				(int)name.len, name.ptr);
	}
	if (conf->attempts.delay >= conf->attempts.within)
		return error_set(error,
			"failure_delay: it must be shorter than the timeout of the listener");
	return (table->ops & CAN(OP_AUTH)) ||
	       error_set(error,
		       "table: \"%s\" does not authenticate; allowed: a table that does (static "
		       "with passwords: yes, userli, url with method: POST and body: json, lua "
		       "with "
		       "authenticate())",
		       table->name);
}

static const struct attempt_rules *attempts(const void *conf_of_listener)
{
	const struct sasl_conf *conf = conf_of_listener;
	return &conf->attempts;
}

static void end(void *session_of_conn)
{
	struct sasl_session *session = session_of_conn;
	wipe_response(session);
	while (session->nexchanges > 0)
		free(session->exchanges[--session->nexchanges]);
}

const struct codec codec_sasl = {
	.name = "sasl",
	.max_inflight = SASL_ASKED,
	.needs_table = true,
	.secret = true,
	.settings = settings,
	.conf_size = sizeof(struct sasl_conf),
	.session_size = sizeof(struct sasl_session),
	.check = check,
	.attempts = attempts,
	.greet = sasl_greet,
	.decode = decode,
	.unfit = sasl_unfit,
	.hangs_up = sasl_hangs_up,
	.encode = sasl_encode,
	.end = end,
};
