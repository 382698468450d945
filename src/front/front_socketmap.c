/* Codec: Postfix socketmap requests and replies as netstrings, after socketmap_table(5). */
#include "front/fronts.h"

enum {
	MAX_REPLY = 100000, /* bytes of payload that Postfix reads (socketmap_max_reply_size) */
	MAX_REASON = 200,   /* bytes: more than that Postfix does not log */
	MAX_DIGITS = 9,     /* of a length */
};

struct socketmap_conf {
	int64_t max_request;
	bool any_name;
};

static const struct setting settings[] = {
	{.name = "max_request",
		.kind = SET_BYTES,
		.offset = offsetof(struct socketmap_conf, max_request),
		.fallback = "100000",
		.min = 16,
		.max = 100000000,
		.help = "longest request: table name, blank and key"},
	{.name = "any_name",
		.kind = SET_BOOL,
		.offset = offsetof(struct socketmap_conf, any_name),
		.fallback = "no",
		.help = "ask the listener's table, whatever name a request has; the name is its "
			"{user}"},
	{.name = NULL},
};

/* Whatever name comes is asked of the listener's table, so there must be one. */
static bool check(const void *conf, const struct table_conf *table, struct error *error)
{
	const struct socketmap_conf *limits = conf;
	return !limits->any_name || table ||
	       error_set(error, "any_name: needs table, the one that is asked");
}

/* One reservation for the whole reply: this is the hottest writer there is. */
static void add_reply(struct buf *out, struct str word, struct str text)
{
	size_t length = word.len + text.len;
	char digits[20], *first = digits + sizeof(digits);
	*--first = ':';
	do
		*--first = (char)('0' + length % 10);
	while ((length /= 10) > 0);
	size_t header = (size_t)(digits + sizeof(digits) - first);
	char *at = buf_reserve(out, header + word.len + text.len + 1);
	if (!at)
		return;
	at = mempcpy(at, first, header);
	at = mempcpy(at, word.ptr, word.len);
	if (text.len > 0)
		at = mempcpy(at, text.ptr, text.len);
	*at++ = ',';
	out->len = (size_t)(at - out->ptr);
}

static bool is_clean(struct str text)
{
	for (size_t i = 0; i < text.len; i++)
		if ((unsigned char)text.ptr[i] < ' ')
			return false;
	return true;
}

/* Reasons are for Postfix's log: one line, not too long. */
static void add_failure(struct buf *out, struct str word, struct str why)
{
	char line[MAX_REASON];
	struct str text = {why.ptr, why.len < sizeof(line) ? why.len : sizeof(line)};
	if (is_clean(text)) {
		add_reply(out, word, text);
		return;
	}
	for (size_t i = 0; i < text.len; i++)
		line[i] = (unsigned char)why.ptr[i] < ' ' ? ' ' : why.ptr[i];
	add_reply(out, word, (struct str){line, text.len});
}

/* The header of a netstring: DECODE_MESSAGE when it is whole and within the limit. */
static enum decoded read_header(
	struct str in, uint64_t max, size_t *header, size_t *length, const char **why)
{
	size_t i = 0;
	uint64_t n = 0;
	while (i < in.len && in.ptr[i] >= '0' && in.ptr[i] <= '9' && i <= MAX_DIGITS)
		n = n * 10 + (uint64_t)(in.ptr[i++] - '0');
	*why = "bad_length";
	if (i > MAX_DIGITS)
		return DECODE_BROKEN;
	if (i == in.len)
		return DECODE_MORE;
	if (i == 0 || in.ptr[i] != ':')
		return DECODE_BROKEN;
	*why = "too_long";
	if (n > max)
		return DECODE_BROKEN;
	*header = i + 1;
	*length = (size_t)n;
	return DECODE_MESSAGE;
}

/* NAME, a blank, the key. A name may be empty; a key may hold anything but NUL. */
static enum decoded read_request(struct str payload, bool any_name, struct message *message,
	struct buf *out, const char **why)
{
	struct str key = payload, table;
	if (!str_cut(&key, ' ', &table)) {
		*why = "no_key";
		add_reply(
			out, STR("PERM "), STR("request has no blank between table name and key"));
		return DECODE_REFUSED;
	}
	if (str_has(payload, '\0')) {
		*why = "nul";
		add_reply(out, STR("PERM "), STR("request contains a NUL byte"));
		return DECODE_REFUSED;
	}
	*message = (struct message){
		.table = table,
		.ask = {.op = OP_LOOKUP, .form = FORM_TEXT, .key = key},
		.in_order = true,
	};
	if (any_name) {
		message->ask.user = table;
		message->table = (struct str){0};
	}
	return DECODE_MESSAGE;
}

static enum decoded decode(void *session, const void *conf, struct str in, size_t *used,
	struct message *message, struct buf *out, const char **why)
{
	const struct socketmap_conf *limits = conf;
	size_t header, length;
	(void)session;
	*used = 0;
	enum decoded found = read_header(in, (uint64_t)limits->max_request, &header, &length, why);
	if (found == DECODE_BROKEN)
		add_reply(out, STR("PERM "), STR("malformed or too long netstring"));
	if (found != DECODE_MESSAGE)
		return found;
	if (in.len - header < length + 1)
		return DECODE_MORE;
	if (in.ptr[header + length] != ',') {
		*why = "no_comma";
		add_reply(out, STR("PERM "), STR("netstring does not end in a comma"));
		return DECODE_BROKEN;
	}
	*used = header + length + 1;
	return read_request(
		(struct str){in.ptr + header, length}, limits->any_name, message, out, why);
}

static const char *unfit(const void *session, uint64_t tag, const struct answer *answer)
{
	(void)session;
	(void)tag;
	struct str value = answer->rows[0].value;
	return value.len <= MAX_REPLY - 3 && str_is_line(value)
		       ? NULL
		       : "socketmap cannot carry the value";
}

static void encode(
	void *session, const void *conf, uint64_t tag, const struct answer *answer, struct buf *out)
{
	(void)session;
	(void)conf;
	(void)tag;
	switch (answer->status) {
	case ST_OK:
		add_reply(out, STR("OK "), answer->rows[0].value);
		break;
	case ST_NOTFOUND:
		add_reply(out, STR("NOTFOUND "), STR(""));
		break;
	case ST_PERM:
		add_failure(out, STR("PERM "), answer->why);
		break;
	default:
		add_failure(out, STR("TEMP "), answer->why);
	}
}

const struct codec codec_socketmap = {
	.name = "socketmap",
	.max_inflight = 16,
	.ordered = true,
	.idle_timeout = 180 * 1000L,
	.settings = settings,
	.conf_size = sizeof(struct socketmap_conf),
	.check = check,
	.decode = decode,
	.unfit = unfit,
	.encode = encode,
};
