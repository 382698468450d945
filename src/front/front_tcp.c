/* Codec: Postfix tcp_table requests and replies, a line each, after tcp_table(5). */
#include <stdlib.h>

#include "front/fronts.h"
#include "model/table.h"

enum {
	MAX_LINE = 4096,  /* bytes of a request or a reply with its LF: Postfix reads no more */
	MAX_REASON = 200, /* bytes, before they are coded */
	CODE = 4,         /* bytes of "200 " */
};

struct tcp_session {
	char *key; /* MAX_LINE bytes, once a key came coded; else NULL */
};

/* ---- %XX ---- */

static bool must_be_coded(unsigned char c)
{
	return c <= ' ' || c == '%' || c >= 0x7f;
}

static size_t coded_length(struct str text)
{
	size_t n = text.len;
	for (size_t i = 0; i < text.len; i++)
		n += must_be_coded((unsigned char)text.ptr[i]) ? 2 : 0;
	return n;
}

/* ---- replies ---- */

static void add_reply(struct buf *out, const char code[static CODE], struct str text)
{
	static const char digits[] = "0123456789ABCDEF";
	char *at = buf_reserve(out, CODE + coded_length(text) + 1);
	if (!at)
		return;
	at = mempcpy(at, code, CODE);
	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.ptr[i];
		if (must_be_coded(c)) {
			*at++ = '%';
			*at++ = digits[c >> 4];
			*at++ = digits[c & 15];
		} else {
			*at++ = (char)c;
		}
	}
	*at++ = '\n';
	out->len = (size_t)(at - out->ptr);
}

static void add_failure(struct buf *out, struct str why)
{
	if (why.len > MAX_REASON)
		why.len = MAX_REASON;
	add_reply(out, "400 ", why);
}

static const char *unfit(const void *session, uint64_t tag, const struct answer *answer)
{
	(void)session;
	(void)tag;
	struct str value = answer->rows[0].value;
	if (str_has(value, '\0'))
		return "tcp_table cannot carry a value with a NUL byte";
	if (value.len > MAX_LINE || CODE + coded_length(value) + 1 > MAX_LINE)
		return "the value does not fit into the 4,096 bytes of a tcp_table reply";
	return NULL;
}

static void encode(
	void *session, const void *conf, uint64_t tag, const struct answer *answer, struct buf *out)
{
	(void)session;
	(void)conf;
	(void)tag;
	if (answer->status == ST_OK)
		add_reply(out, "200 ", answer->rows[0].value);
	else if (answer->status == ST_NOTFOUND)
		buf_add(out, STR("500 not found\n"));
	else
		add_failure(out, answer->why);
}

/* ---- requests ---- */

static enum decoded refuse(
	struct buf *out, const char *code, const char *word, const char *text, const char **why)
{
	*why = word;
	add_reply(out, code, str_of(text));
	return DECODE_REFUSED;
}

/* The key without its coding: a part of the line when it has none, else in the session. */
static bool read_key(struct tcp_session *session, struct str coded, struct str *key)
{
	*key = coded;
	if (!str_has(coded, '%'))
		return true;
	if (!session->key)
		session->key = memory_grow(NULL, MAX_LINE);
	return str_percent_decode(coded, session->key, key);
}

/* get SPACE key; put SPACE key SPACE value, which tcp_table(5) describes and nobody sends. */
static enum decoded read_request(struct tcp_session *session, struct str line,
	struct message *message, struct buf *out, const char **why)
{
	struct str key = line, verb;
	bool blank = str_cut(&key, ' ', &verb);
	if (str_eq(verb, STR("put")))
		return refuse(out, "500 ", "put", "the table is read only", why);
	if (!str_eq(verb, STR("get")) || !blank)
		return refuse(out, "400 ", "bad_request", "the request is not: get KEY", why);
	if (!read_key(session, key, &key))
		return refuse(
			out, "400 ", "bad_code", "a % is not followed by two hex digits", why);
	if (str_has(key, '\0'))
		return refuse(out, "400 ", "nul", "the key contains a NUL byte", why);
	*message = (struct message){
		.ask = {.op = OP_LOOKUP, .form = FORM_TEXT, .key = key},
		.in_order = true,
	};
	return DECODE_MESSAGE;
}

/* A line is short: it is looked at from its start each time. */
static enum decoded decode(void *session, const void *conf, struct str in, size_t *used,
	struct message *message, struct buf *out, const char **why)
{
	size_t within = in.len < MAX_LINE ? in.len : MAX_LINE;
	const char *lf = within > 0 ? memchr(in.ptr, '\n', within) : NULL;
	(void)conf;
	*used = 0;
	if (!lf && within < MAX_LINE)
		return DECODE_MORE;
	if (!lf) {
		*why = "too_long";
		add_failure(out, STR("the request is longer than 4,096 bytes"));
		return DECODE_BROKEN;
	}
	struct str line = {in.ptr, (size_t)(lf - in.ptr)};
	*used = line.len + 1;
	if (line.len > 0 && line.ptr[line.len - 1] == '\r')
		line.len--;
	return read_request(session, line, message, out, why);
}

static bool check(const void *conf, const struct table_conf *table, struct error *error)
{
	(void)conf;
	return (table->ops & CAN(OP_LOOKUP)) ||
	       error_set(error, "table: \"%s\" answers no lookups", table->name);
}

static void end(void *session)
{
	struct tcp_session *state = session;
	free(state->key);
}

const struct codec codec_tcp = {
	.name = "tcp",
	.max_inflight = 16,
	.ordered = true,
	.needs_table = true,
	.session_size = sizeof(struct tcp_session),
	.check = check,
	.decode = decode,
	.unfit = unfit,
	.encode = encode,
	.end = end,
};
