/* Codec: Dovecot's dict protocol, majors 2, 3 and 4. Gathers a transaction's changes and asks for
 * them once, at its commit; numbers its replies where the client's version understands that. */
#include "front/front_dict.h"

#include <stdlib.h>

enum {
	MAX_FIELDS = 5,           /* of a line that are looked at */
	MAX_OPEN = 1000,          /* transactions of a connection that gather changes, ... */
	MAX_KNOWN = 2 * MAX_OPEN, /* and with those that only wait for their refusal */
	MAX_HELD = 64 << 10,      /* bytes of refusals behind one unanswered question */
	ITER_KNOWN =
		ITER_RECURSE | ITER_SORT_KEY | ITER_SORT_VALUE | ITER_NO_VALUE | ITER_EXACT_KEY,
};

struct dict_conf {
	int64_t max_line;
};

static const struct setting settings[] = {
	{.name = "max_line",
		.kind = SET_BYTES,
		.offset = offsetof(struct dict_conf, max_line),
		.fallback = "1m",
		.min = 1024,
		.max = DICT_MAX_GATHERED,
		.help = "longest line of a client: key, value and their escapes"},
	{.name = NULL},
};

static const struct dict_refusal bad_key = {"bad_key", "key is not below shared/ or priv/"};
static const struct dict_refusal nul_key = {"bad_key", "key contains a NUL byte"};
static const struct dict_refusal nul_value = {"bad_value", "value contains a NUL byte"};
static const struct dict_refusal nul_user = {"bad_user", "user name contains a NUL byte"};
static const struct dict_refusal no_user = {"no_user", "priv/ key without a user name"};
static const struct dict_refusal no_append = {"append", "appending is not supported"};
static const struct dict_refusal many_paths = {"many_paths", "iteration of several paths"};
static const struct dict_refusal many_open = {
	"too_many_transactions", "too many open transactions"};

/* A line at hand, and where its outcome goes. */
struct line {
	struct dict_session *session;
	char letter;
	size_t n; /* fields; no more than MAX_FIELDS are kept */
	struct str fields[MAX_FIELDS];
	struct message *message;
	struct buf *out;
	const char **why;
};

/* Its reply is written. */
static void close_command(struct dict_command *command, struct buf *out)
{
	buf_add(out, buf_str(&command->held));
	buf_free(&command->held);
	LIST_REMOVE(command, link);
	free(command);
}

static void encode(
	void *session, const void *conf, uint64_t tag, const struct answer *answer, struct buf *out)
{
	struct dict_command *command = (struct dict_command *)(uintptr_t)tag;
	(void)conf;
	dict_reply(session, command, answer, out);
	close_command(command, out);
}

/* Several values of a lookup are one line. */
static bool encode_rows(void *session, const void *conf, uint64_t tag, const struct answer *answer,
	size_t *row, size_t enough, struct buf *out)
{
	struct dict_command *command = (struct dict_command *)(uintptr_t)tag;
	if (command->kind != ITERATE) {
		encode(session, conf, tag, answer, out);
		return true;
	}
	*row = dict_reply_rows(session, command, answer, *row, enough, out);
	if (*row < answer->nrows)
		return false;
	dict_reply_end(session, command, answer, out);
	close_command(command, out);
	return true;
}

/* ---- outcomes of a line ---- */

static enum decoded broken(struct line *line, const char *why)
{
	*line->why = why;
	return DECODE_BROKEN;
}

/* The command's number is the next one; with `path` behind it, it is kept until its answer. */
static enum decoded ask(struct line *line, struct dict_command like, struct str path,
	const struct question *question)
{
	struct dict_session *session = line->session;
	struct dict_command *command = memory_new(sizeof(*command) + path.len);
	*command = like;
	command->number = ++session->given;
	command->held.max = MAX_HELD;
	command->path_len = path.len;
	if (path.len > 0)
		memcpy(command->path, path.ptr, path.len);
	LIST_INSERT_HEAD(&session->commands, command, link);
	*line->message = (struct message){
		.table = session->dict,
		.ask = *question,
		.tag = (uint64_t)(uintptr_t)command,
		.in_order = !session->async,
	};
	return DECODE_MESSAGE;
}

/* Answers a command without asking a table. A reply without a number may not overtake those to the
 * questions before it. */
static enum decoded answer_now(
	struct line *line, struct dict_command command, const struct answer *answer)
{
	struct dict_session *session = line->session;
	struct dict_command *newest = LIST_FIRST(&session->commands);
	command.number = ++session->given;
	if (session->async || !newest) {
		dict_reply(session, &command, answer, line->out);
		return DECODE_MORE;
	}
	size_t before = newest->held.len;
	dict_reply(session, &command, answer, &newest->held);
	if (!newest->held.overflow)
		return DECODE_MORE;
	newest->held.len = before; /* no half of a reply */
	return broken(line, "too_many_pending");
}

static enum decoded refuse(
	struct line *line, struct dict_command command, const struct dict_refusal *refusal)
{
	struct answer answer = {.status = ST_PERM, .why = str_of(refusal->reason)};
	*line->why = refusal->why;
	if (answer_now(line, command, &answer) == DECODE_BROKEN)
		return DECODE_BROKEN;
	return DECODE_REFUSED;
}

/* ---- fields ---- */

static char escaped_byte(char code)
{
	switch (code) {
	case '0':
		return '\0';
	case 't':
		return '\t';
	case 'n':
		return '\n';
	case 'r':
		return '\r';
	case '1':
		return '\1';
	default:
		return code;
	}
}

/* Without its escapes: the field itself when it has none, else a copy in the session's scratch. */
static struct str unescape(struct dict_session *session, struct str field)
{
	if (!str_has(field, '\1'))
		return field;
	char *to = arena_alloc(&session->scratch, field.len);
	size_t n = 0;
	for (size_t i = 0; i < field.len; i++) {
		if (field.ptr[i] != '\1')
			to[n++] = field.ptr[i];
		else if (++i < field.len)
			to[n++] = escaped_byte(field.ptr[i]);
	}
	return (struct str){to, n};
}

/* Cuts the scope's prefix off `key`; NULL: it may be asked on behalf of `user`. */
static const struct dict_refusal *cut_scope(struct str *key, struct str user, enum scope *scope)
{
	if (str_has(*key, '\0'))
		return &nul_key;
	if (str_has(user, '\0'))
		return &nul_user;
	if (str_starts(*key, STR("shared/"))) {
		*scope = SCOPE_SHARED;
		*key = str_skip(*key, STR("shared/").len);
		return NULL;
	}
	if (!str_starts(*key, STR("priv/")))
		return &bad_key;
	*scope = SCOPE_PRIV;
	*key = str_skip(*key, STR("priv/").len);
	return user.len == 0 ? &no_user : NULL;
}

/* Major 2 names the user once, in its hello; the others with each command, perhaps. */
static struct str user_of(struct line *line, size_t field)
{
	struct dict_session *session = line->session;
	if (session->major == 2)
		return session->user;
	return line->n > field ? unescape(session, line->fields[field]) : STR("");
}

static bool field_u32(struct str field, uint32_t *n)
{
	uint64_t value;
	if (!str_u64(field, &value) || value > UINT32_MAX)
		return false;
	*n = (uint32_t)value;
	return true;
}

/* ---- transactions ---- */

/* The one that the line's first field names; NULL: there is none, and *why says so. */
static struct dict_transaction *transaction_of(struct line *line, size_t *place)
{
	struct dict_session *session = line->session;
	uint32_t id;
	if (!field_u32(line->fields[0], &id)) {
		*line->why = "bad_fields";
		return NULL;
	}
	*place = dict_transaction_place(session, id);
	if (*place == session->nopen || session->open[*place]->id != id) {
		*line->why = "unknown_transaction";
		return NULL;
	}
	return session->open[*place];
}

/* ---- commands ---- */

static enum decoded run_lookup(struct line *line)
{
	struct question question = {.op = OP_LOOKUP, .form = FORM_JSON};
	question.key = unescape(line->session, line->fields[0]);
	question.user = user_of(line, 1);
	const struct dict_refusal *refusal =
		cut_scope(&question.key, question.user, &question.scope);
	if (refusal)
		return refuse(line, (struct dict_command){.kind = LOOKUP}, refusal);
	return ask(line, (struct dict_command){.kind = LOOKUP, .scope = question.scope}, STR(""),
		&question);
}

static enum decoded run_iterate(struct line *line)
{
	struct question question = {.op = OP_ITERATE, .form = FORM_JSON};
	uint32_t flags;
	if (!field_u32(line->fields[0], &flags) || !str_u64(line->fields[1], &question.max_rows))
		return broken(line, "bad_fields");
	question.flags = flags & ITER_KNOWN;
	question.key = unescape(line->session, line->fields[2]);
	question.user = user_of(line, 3);
	const struct dict_refusal *refusal =
		cut_scope(&question.key, question.user, &question.scope);
	if (line->session->major == 2 && line->n > 3) /* where later versions have the user */
		refusal = &many_paths;
	struct dict_command command = {
		.kind = ITERATE, .scope = question.scope, .flags = question.flags};
	if (refusal)
		return refuse(line, command, refusal);
	return ask(line, command, question.key, &question);
}

static enum decoded run_begin(struct line *line)
{
	struct dict_session *session = line->session;
	struct dict_transaction begun = {0};
	if (!field_u32(line->fields[0], &begun.id))
		return broken(line, "bad_fields");
	if (session->major >= 4 && line->n > 2 && !str_u64(line->fields[2], &begun.expire_secs))
		return broken(line, "bad_fields");
	size_t place = dict_transaction_place(session, begun.id);
	if (place < session->nopen && session->open[place]->id == begun.id)
		return broken(line, "duplicate_transaction");
	if (session->nopen == MAX_KNOWN)
		return broken(line, "too_many_transactions");
	if (session->nopen == session->size) {
		session->size = session->size ? session->size * 2 : 4;
		session->open =
			memory_grow(session->open, session->size * sizeof(session->open[0]));
	}
	struct dict_transaction *transaction = memory_new(sizeof(*transaction));
	*transaction = begun;
	memmove(session->open + place + 1, session->open + place,
		(session->nopen - place) * sizeof(session->open[0]));
	session->open[place] = transaction;
	session->nopen++;

	struct str user = user_of(line, 1);
	if (session->nopen > MAX_OPEN)
		transaction->poison = &many_open;
	else if (!dict_transaction_count(session, transaction, sizeof(*transaction) + user.len))
		transaction->poison = &dict_too_many_bytes;
	else if (user.len > 0)
		transaction->user = arena_str(&transaction->mem, user);
	return DECODE_MORE;
}

/* S, U, A and P: a change that cannot be asked for makes the whole transaction fail, later. */
static enum decoded run_change(struct line *line)
{
	struct dict_session *session = line->session;
	size_t place;
	struct dict_transaction *transaction = transaction_of(line, &place);
	if (!transaction)
		return DECODE_BROKEN;
	struct change change = {.kind = CH_UNSET};
	if (line->letter == 'A') {
		change.kind = CH_ADD;
		if (!str_i64(line->fields[2], &change.diff))
			return broken(line, "bad_fields");
	}
	if (transaction->poison)
		return DECODE_MORE;
	if (line->letter == 'S') {
		change.kind = CH_SET;
		change.value = unescape(session, line->fields[2]);
	}
	change.key = unescape(session, line->fields[1]);
	const struct dict_refusal *refusal =
		cut_scope(&change.key, transaction->user, &change.scope);
	if (!refusal && str_has(change.value, '\0'))
		refusal = &nul_value;
	if (!refusal && line->letter == 'P')
		refusal = &no_append;
	if (!refusal)
		refusal = dict_transaction_add(session, transaction, &change);
	if (refusal)
		dict_transaction_poison(session, transaction, refusal);
	return DECODE_MORE;
}

/* T and V: a table has its own clock, and values are never logged. */
static enum decoded run_ignored(struct line *line)
{
	size_t place;
	return transaction_of(line, &place) ? DECODE_MORE : DECODE_BROKEN;
}

static enum decoded run_rollback(struct line *line)
{
	size_t place;
	struct dict_transaction *transaction = transaction_of(line, &place);
	if (!transaction)
		return DECODE_BROKEN;
	dict_transaction_close(line->session, place);
	dict_transaction_free(transaction);
	return DECODE_MORE;
}

static enum decoded run_commit(struct line *line)
{
	struct dict_session *session = line->session;
	size_t place;
	struct dict_transaction *transaction = transaction_of(line, &place);
	if (!transaction)
		return DECODE_BROKEN;
	dict_transaction_close(session, place);
	session->committed = transaction;

	struct dict_command command = {
		.kind = line->letter == 'D' ? COMMIT_ASYNC : COMMIT,
		.transaction = transaction->id,
	};
	if (transaction->poison)
		return refuse(line, command, transaction->poison);
	if (transaction->n == 0)
		return answer_now(line, command, &(struct answer){.status = ST_OK});
	return ask(line, command, STR(""),
		&(struct question){
			.op = OP_CHANGE,
			.form = FORM_JSON,
			.user = transaction->user,
			.nchanges = transaction->n,
			.changes = transaction->changes,
			.expire_secs = transaction->expire_secs,
		});
}

/* ---- lines ---- */

static const struct verb {
	char letter;
	unsigned first, last; /* majors that have it */
	size_t least, most;   /* fields */
	enum decoded (*run)(struct line *);
} verbs[] = {
	{'L', 2, 4, 1, SIZE_MAX, run_lookup},
	{'I', 2, 4, 3, SIZE_MAX, run_iterate},
	{'B', 2, 4, 1, SIZE_MAX, run_begin},
	{'S', 2, 4, 3, 3, run_change},
	{'U', 2, 4, 2, 2, run_change},
	{'A', 2, 4, 3, 3, run_change},
	{'P', 2, 2, 3, 3, run_change},
	{'T', 2, 4, 3, 3, run_ignored},
	{'V', 3, 4, 2, 2, run_ignored},
	{'R', 2, 4, 1, SIZE_MAX, run_rollback},
	{'C', 2, 4, 1, SIZE_MAX, run_commit},
	{'D', 2, 3, 1, SIZE_MAX, run_commit},
};

/* The first line: majors and minors, value type, user, name of the dict. Never answered. */
static enum decoded run_hello(struct line *line)
{
	struct dict_session *session = line->session;
	uint32_t major, minor, type;
	if (line->letter != 'H' || line->n < 5 || !field_u32(line->fields[0], &major) ||
		!field_u32(line->fields[1], &minor) || !field_u32(line->fields[2], &type))
		return broken(line, "bad_hello");
	if (major < 2 || major > 4)
		return broken(line, "bad_version");
	if (type > (major == 2)) /* 1, a number: the old expire plugin's, and shown the same */
		return broken(line, "bad_value_type");
	struct str user = line->fields[3], dict = line->fields[4];
	if (major > 2) {
		user = STR("");
		dict = unescape(session, dict);
	}
	if (str_has(user, '\0') || str_has(dict, '\0'))
		return broken(line, "bad_hello");
	session->major = major;
	session->async = major > 2 || minor >= 1;
	session->escape_cr = session->async;
	session->many = major > 2 || minor >= 2;
	session->names = memory_new(user.len + dict.len);
	session->user = (struct str){session->names, user.len};
	session->dict = (struct str){session->names + user.len, dict.len};
	memcpy(session->names, user.ptr, user.len);
	memcpy(session->names + user.len, dict.ptr, dict.len);
	return DECODE_MORE;
}

static enum decoded run_line(struct line *line, struct str text)
{
	if (text.len > 0) {
		struct str rest = str_skip(text, 1), field;
		line->letter = text.ptr[0];
		for (bool more = true; more; line->n++) {
			more = str_cut(&rest, '\t', &field);
			if (line->n < MAX_FIELDS)
				line->fields[line->n] = field;
		}
	}
	if (line->session->major == 0)
		return run_hello(line);
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		const struct verb *verb = &verbs[i];
		if (verb->letter != line->letter || line->session->major < verb->first ||
			line->session->major > verb->last)
			continue;
		if (line->n < verb->least || line->n > verb->most)
			return broken(line, "bad_fields");
		return verb->run(line);
	}
	return broken(line, "unknown_command");
}

/* What the last message pointed to. */
static void forget_line(struct dict_session *session)
{
	if (session->committed)
		dict_transaction_free(session->committed);
	session->committed = NULL;
	arena_clear(&session->scratch);
}

static enum decoded decode(void *session, const void *conf, struct str in, size_t *used,
	struct message *message, struct buf *out, const char **why)
{
	struct dict_session *state = session;
	size_t max = (size_t)((const struct dict_conf *)conf)->max_line;
	enum decoded outcome = DECODE_MORE;
	*used = 0;
	while (outcome == DECODE_MORE) {
		forget_line(state);
		if (*used == in.len)
			return DECODE_MORE;
		struct str rest = str_skip(in, *used);
		size_t within = rest.len <= max ? rest.len : max + 1;
		size_t looked = state->looked < within ? state->looked
						       : within; /* max may be less than it was */
		const char *lf = memchr(rest.ptr + looked, '\n', within - looked);
		if (!lf) {
			state->looked = within;
			if (within <= max)
				return DECODE_MORE;
			*why = "line_too_long";
			return DECODE_BROKEN;
		}
		if (state->major > 0 && !state->named) { /* the line comes again */
			state->named = true;
			*message = (struct message){.table = state->dict};
			return DECODE_TABLE;
		}
		struct str text = {rest.ptr, (size_t)(lf - rest.ptr)};
		*used += text.len + 1;
		state->looked = 0;
		if (text.len > 0 && text.ptr[text.len - 1] == '\r')
			text.len--;
		struct line line = {.session = state, .message = message, .out = out, .why = why};
		outcome = run_line(&line, text);
	}
	return outcome;
}

static void end(void *session)
{
	struct dict_session *state = session;
	forget_line(state);
	for (size_t i = 0; i < state->nopen; i++)
		dict_transaction_free(state->open[i]);
	free(state->open);
	while (!LIST_EMPTY(&state->commands)) {
		struct dict_command *command = LIST_FIRST(&state->commands);
		LIST_REMOVE(command, link);
		buf_free(&command->held);
		free(command);
	}
	free(state->names);
}

const struct codec codec_dict = {
	.name = "dict",
	.max_inflight = 64,
	.closes_on_unknown_table = true,
	.settings = settings,
	.conf_size = sizeof(struct dict_conf),
	.session_size = sizeof(struct dict_session),
	.decode = decode,
	.unfit = dict_unfit,
	.encode = encode,
	.encode_rows = encode_rows,
	.end = end,
};
