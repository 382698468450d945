/* Codec: Postfix policy delegation: a list of attributes comes, an action goes back. */
#include <stdlib.h>

#include "front/fronts.h"
#include "model/policy_action.h"
#include "model/table.h"

enum {
	MAX_ATTRS = 256, /* of a request; Postfix sends 32 */
	BUCKETS = 64,
};

struct policy_conf {
	int64_t max_request;
	const char *fail_action, *perm_action, *key;
};

#define AT(member) .offset = offsetof(struct policy_conf, member)

static const struct setting settings[] = {
	{.name = "key",
		.kind = SET_STR,
		AT(key),
		.fallback = "",
		.help = "look this attribute up (recipient, sasl_username, ...), for tables that "
			"take no policy requests; default: the table gets all attributes"},
	{.name = "fail_action",
		.kind = SET_STR,
		AT(fail_action),
		.fallback = "DEFER_IF_PERMIT 4.3.0 Service temporarily unavailable",
		.help = "the action when the table fails, or the request is bad"},
	{.name = "perm_action",
		.kind = SET_STR,
		AT(perm_action),
		.fallback = "",
		.help = "the action when the table is misconfigured; default: fail_action"},
	{.name = "max_request",
		.kind = SET_BYTES,
		AT(max_request),
		.fallback = "64k",
		.min = 1024,
		.max = 16 << 20,
		.help = "longest request: all attributes together"},
	{.name = NULL},
};

struct policy_session {
	size_t looked;      /* of an unfinished request: so many bytes hold no end of it, */
	size_t line;        /* and its last line begins here */
	struct pair *attrs; /* of the last request */
	size_t room;
};

/* ---- actions ---- */

static const char *unfit(const void *session, uint64_t tag, const struct answer *answer)
{
	(void)session;
	(void)tag;
	return policy_action_fault(answer->rows[0].value);
}

static void add_action(struct buf *out, struct str action)
{
	struct str name = STR("action="), end = STR("\n\n");
	action = policy_action_trim(action);
	char *at = buf_reserve(out, name.len + action.len + end.len);
	if (!at)
		return;
	at = mempcpy(at, name.ptr, name.len);
	at = mempcpy(at, action.ptr, action.len);
	at = mempcpy(at, end.ptr, end.len);
	out->len = (size_t)(at - out->ptr);
}

static void encode(void *session, const void *conf_of_listener, uint64_t tag,
	const struct answer *answer, struct buf *out)
{
	const struct policy_conf *conf = conf_of_listener;
	(void)session;
	(void)tag;
	if (answer->status == ST_OK)
		add_action(out, answer->rows[0].value);
	else if (answer->status == ST_NOTFOUND)
		add_action(out, STR("DUNNO"));
	else if (answer->status == ST_PERM && conf->perm_action[0])
		add_action(out, str_of(conf->perm_action));
	else
		add_action(out, str_of(conf->fail_action));
}

/* ---- requests ---- */

/* The length of the request with its empty line; 0: that has not come. */
static size_t find_end(struct policy_session *session, struct str in)
{
	while (session->looked < in.len) {
		const char *from = in.ptr + session->looked;
		const char *lf = memchr(from, '\n', in.len - session->looked);
		session->looked = lf ? (size_t)(lf - in.ptr) + 1 : in.len;
		if (!lf)
			return 0;
		const char *line = in.ptr + session->line;
		size_t len = (size_t)(lf - line);
		if (len == 0 || (len == 1 && line[0] == '\r'))
			return session->looked;
		session->line = session->looked;
	}
	return 0;
}

/* The attributes so far, by a few bytes of their names; numbers are indexes and 1, 0 ends a chain. */
struct names {
	uint16_t first[BUCKETS], next[MAX_ATTRS];
};

/* The attribute that the line holds; false: it holds none. */
static bool split_line(const char *line, const char *end, struct pair *attr)
{
	const char *equals = memchr(line, '=', (size_t)(end - line));
	if (!equals || equals == line)
		return false;
	attr->name = (struct str){line, (size_t)(equals - line)};
	attr->value = (struct str){equals + 1, (size_t)(end - equals) - 1};
	return true;
}

/* The attribute number `n`, from 0, is new; false: one of that name is there already. */
static bool note_name(struct names *names, const struct pair *attrs, size_t n)
{
	struct str name = attrs[n].name;
	unsigned hash = (unsigned)name.len * 7 + (unsigned char)name.ptr[0] * 5 +
			(unsigned char)name.ptr[name.len - 1];
	uint16_t *first = &names->first[hash % BUCKETS];
	for (unsigned i = *first; i > 0; i = names->next[i - 1])
		if (str_eq(attrs[i - 1].name, name))
			return false;
	names->next[n] = *first;
	*first = (uint16_t)(n + 1);
	return true;
}

/* Room for one more than `n`; false: there are as many as may be. */
static bool make_room(struct policy_session *session, size_t n)
{
	if (n < session->room)
		return true;
	if (n == MAX_ATTRS)
		return false;
	session->room = n == 0 ? 32 : n * 2;
	session->attrs = memory_grow(session->attrs, session->room * sizeof(session->attrs[0]));
	return true;
}

/* Why the lines, `n` attributes and an empty one, are no request; NULL: they are. */
static const char *fault_of_request(struct str lines, size_t n)
{
	if (n == 0)
		return "empty";
	return str_has(lines, '\0') ? "nul" : NULL;
}

/* Reads attributes up to the empty line: returns the length with it. On 0 it stopped at session->line,
 * for a reason or because that is not whole. */
static size_t read_attrs(
	struct policy_session *session, struct str in, size_t *count, const char **wrong)
{
	struct names names;
	const char *line = in.ptr, *end = in.ptr + in.len, *lf;
	memset(names.first, 0, sizeof(names.first));
	*wrong = NULL;
	for (size_t n = 0; line < end && (lf = memchr(line, '\n', (size_t)(end - line))); n++) {
		const char *stop = lf > line && lf[-1] == '\r' ? lf - 1 : lf;
		if (stop == line) {
			struct str lines = {in.ptr, (size_t)(lf - in.ptr) + 1};
			*wrong = fault_of_request(lines, n);
			*count = n;
			return lines.len;
		}
		if (!make_room(session, n))
			*wrong = "too_many_attributes";
		else if (!split_line(line, stop, &session->attrs[n]))
			*wrong = "bad_attribute";
		else if (!note_name(&names, session->attrs, n))
			*wrong = "attribute_twice";
		if (*wrong)
			break;
		line = lf + 1;
	}
	session->line = (size_t)(line - in.ptr);
	return 0;
}

/* The request's length, the number of its attributes and what is wrong with it; 0: its end has not come.
 * One that comes whole is read once; of another only the end is looked for until that is there. */
static size_t read_request(
	struct policy_session *session, struct str in, size_t *n, const char **wrong)
{
	if (session->looked > 0 && find_end(session, in) == 0)
		return 0;
	size_t end = read_attrs(session, in, n, wrong);
	if (end == 0) {
		session->looked = session->line;
		end = find_end(session, in);
	}
	return end;
}

static struct question question_of(
	const struct policy_conf *conf, const struct pair *attrs, size_t n)
{
	if (conf->key[0] == '\0')
		return (struct question){
			.op = OP_POLICY, .form = FORM_TEXT, .attrs = attrs, .nattrs = n};
	const struct pair *attr = pair_find(attrs, n, str_of(conf->key));
	return (struct question){
		.op = OP_LOOKUP, .form = FORM_TEXT, .key = attr ? attr->value : STR("")};
}

static enum decoded decode(void *session, const void *conf_of_listener, struct str in, size_t *used,
	struct message *message, struct buf *out, const char **why)
{
	const struct policy_conf *conf = conf_of_listener;
	struct policy_session *state = session;
	size_t max = (size_t)conf->max_request, n = 0;
	const char *wrong = NULL;
	*used = read_request(state, (struct str){in.ptr, in.len < max ? in.len : max}, &n, &wrong);
	if (*used == 0 && in.len <= max)
		return DECODE_MORE;
	if (*used == 0)
		wrong = "too_long";
	state->line = state->looked = 0;
	if (wrong) {
		*why = wrong;
		add_action(out, str_of(conf->fail_action));
		return *used == 0 ? DECODE_BROKEN : DECODE_REFUSED;
	}
	*message = (struct message){.ask = question_of(conf, state->attrs, n), .in_order = true};
	return DECODE_MESSAGE;
}

/* ---- settings, the end ---- */

static bool check(const void *conf_of_listener, const struct table_conf *table, struct error *error)
{
	const struct policy_conf *conf = conf_of_listener;
	if (!policy_action_check("fail_action", conf->fail_action, error))
		return false;
	if (conf->perm_action[0] && !policy_action_check("perm_action", conf->perm_action, error))
		return false;
	if (conf->key[0] && !policy_sends(str_of(conf->key)))
		log_warn("key: Postfix sends no attribute \"%s\"; without it the answer is DUNNO",
			conf->key);
	if (conf->key[0])
		return (table->ops & CAN(OP_LOOKUP)) ||
		       error_set(error, "table: \"%s\" answers no lookups, as `key` asks for",
			       table->name);
	return (table->ops & CAN(OP_POLICY)) ||
	       error_set(error,
		       "table: \"%s\" takes no policy requests; allowed: a table that does (url "
		       "with method: POST, lua with policy()), or any other with the key of the "
		       "listener that says which attribute is looked up, like key: recipient",
		       table->name);
}

static void end(void *session)
{
	struct policy_session *state = session;
	free(state->attrs);
}

const struct codec codec_policy = {
	.name = "policy",
	.max_inflight = 16,
	.ordered = true,
	.needs_table = true,
	.settings = settings,
	.conf_size = sizeof(struct policy_conf),
	.session_size = sizeof(struct policy_session),
	.check = check,
	.decode = decode,
	.unfit = unfit,
	.encode = encode,
	.end = end,
};
