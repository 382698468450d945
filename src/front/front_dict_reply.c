/* The dict codec's replies: letters, escapes and ids. */
#include "front/front_dict.h"

#include <assert.h>

enum {
	MAX_REASON = 200,      /* bytes: it becomes part of one line in Dovecot's log */
	MAX_ANSWER = 63 << 20, /* bytes of one answer, which a connection has room for */
	MAX_FRAME = 24,        /* bytes of a line around name and value */
};

/* The letter behind the escape byte; 0: the byte stands for itself. NUL never comes so far. */
static char escape_code(char c, bool escape_cr)
{
	switch (c) {
	case '\1':
		return '1';
	case '\t':
		return 't';
	case '\n':
		return 'n';
	case '\r':
		return escape_cr ? 'r' : '\0';
	default:
		return '\0';
	}
}

/* `lead` stands for the escape byte: itself, or its own escape in what is escaped twice. */
static void add_escaped(struct buf *out, struct str s, struct str lead, bool escape_cr)
{
	size_t done = 0;
	for (size_t i = 0; i < s.len; i++) {
		char code = escape_code(s.ptr[i], escape_cr);
		if (code == '\0')
			continue;
		buf_add(out, (struct str){s.ptr + done, i - done});
		buf_add(out, lead);
		buf_add_char(out, code);
		done = i + 1;
	}
	if (done < s.len)
		buf_add(out, str_skip(s, done));
}

static void add_text(const struct dict_session *session, struct buf *out, struct str s)
{
	add_escaped(out, s, STR("\1"), session->escape_cr);
}

/* For people: up to a NUL, which no reply may hold, and not too long; UTF-8 is not cut within a
 * character. */
static void add_reason(const struct dict_session *session, struct buf *out, struct str why)
{
	size_t n = why.len > 0 ? strnlen(why.ptr, why.len) : 0;
	if (n > MAX_REASON) {
		n = MAX_REASON;
		while (n > 0 && ((unsigned char)why.ptr[n] & 0xc0) == 0x80)
			n--;
	}
	add_text(session, out, n > 0 ? (struct str){why.ptr, n} : STR("failed"));
}

/* Ids are 32 bits and never 0 on the wire. */
static void add_id(struct buf *out, uint64_t number)
{
	buf_add_u64(out, (number - 1) % UINT32_MAX + 1);
}

/* Begins a line of the reply to `command`. Ids are announced in the order of the commands. */
static void add_start(
	struct dict_session *session, const struct dict_command *command, struct buf *out)
{
	if (!session->async)
		return;
	while (session->announced < command->number) {
		buf_add_char(out, '*');
		add_id(out, ++session->announced);
		buf_add_char(out, '\n');
	}
	buf_add_char(out, '+');
	add_id(out, command->number);
	buf_add_char(out, '\t');
}

static bool is_failure(const struct answer *answer)
{
	return answer->status != ST_OK && answer->status != ST_NOTFOUND;
}

/* Each value is escaped, joined by TAB, and the whole is escaped again: one field of the line. */
static void add_values(struct buf *out, const struct answer *answer)
{
	const struct str escaped_escape = STR("\0011");
	for (size_t i = 0; i < answer->nrows; i++) {
		if (i > 0)
			buf_add(out, STR("\1t"));
		add_escaped(out, answer->rows[i].value, escaped_escape, true);
	}
}

static void reply_lookup(struct dict_session *session, const struct dict_command *command,
	const struct answer *answer, struct buf *out)
{
	add_start(session, command, out);
	if (is_failure(answer)) {
		buf_add_char(out, 'F');
		add_reason(session, out, answer->why);
	} else if (answer->status == ST_NOTFOUND) {
		buf_add_char(out, 'N');
	} else if (answer->nrows == 1 || !session->many) {
		assert(answer->rows); /* dict_unfit() saw to it */
		buf_add_char(out, 'O');
		add_text(session, out, answer->rows[0].value);
	} else {
		buf_add_char(out, 'M');
		add_values(out, answer);
	}
	buf_add_char(out, '\n');
}

static void add_row(struct dict_session *session, const struct dict_command *command,
	const struct pair *row, struct buf *out)
{
	add_start(session, command, out);
	buf_add_char(out, 'O');
	buf_add(out, command->scope == SCOPE_PRIV ? STR("priv/") : STR("shared/"));
	add_text(session, out, row->name);
	buf_add_char(out, '\t');
	if (!(command->flags & ITER_NO_VALUE))
		add_text(session, out, row->value);
	buf_add_char(out, '\n');
}

size_t dict_reply_rows(struct dict_session *session, const struct dict_command *command,
	const struct answer *answer, size_t row, size_t enough, struct buf *out)
{
	while (row < answer->nrows && out->len < enough)
		add_row(session, command, &answer->rows[row++], out);
	return row;
}

/* An iteration of nothing is just its end: a reply of `N` would end Dovecot 2.3. */
void dict_reply_end(struct dict_session *session, const struct dict_command *command,
	const struct answer *answer, struct buf *out)
{
	add_start(session, command, out);
	if (is_failure(answer)) {
		buf_add_char(out, 'F');
		add_reason(session, out, answer->why);
	}
	buf_add_char(out, '\n');
}

static void reply_iterate(struct dict_session *session, const struct dict_command *command,
	const struct answer *answer, struct buf *out)
{
	if (answer->status == ST_OK)
		dict_reply_rows(session, command, answer, 0, SIZE_MAX, out);
	dict_reply_end(session, command, answer, out);
}

static void reply_commit(struct dict_session *session, const struct dict_command *command,
	const struct answer *answer, struct buf *out)
{
	add_start(session, command, out);
	if (command->kind == COMMIT_ASYNC)
		buf_add_char(out, 'A');
	if (is_failure(answer))
		buf_add_char(out, answer->uncertain ? 'W' : 'F');
	else
		buf_add_char(out, answer->status == ST_OK ? 'O' : 'N');
	buf_add_u64(out, command->transaction);
	if (is_failure(answer)) {
		buf_add_char(out, '\t');
		add_reason(session, out, answer->why);
	}
	buf_add_char(out, '\n');
}

/* NUL has no place in Dovecot's strings. Minor 0 cannot escape a CR, which is lost before an LF. */
static bool can_carry(const struct dict_session *session, struct str value)
{
	if (str_has(value, '\0'))
		return false;
	return session->escape_cr || value.len == 0 || value.ptr[value.len - 1] != '\r';
}

static size_t count_escapes(struct str s)
{
	size_t n = 0;
	for (size_t i = 0; i < s.len; i++)
		n += escape_code(s.ptr[i], true) != '\0';
	return n;
}

/* Bytes of the row's line; `times`: an escape may be escaped again. */
static size_t line_size(const struct pair *row, size_t times)
{
	size_t bytes = MAX_FRAME + row->name.len + row->value.len;
	if (bytes <= MAX_ANSWER / 3 && times == 1)
		return bytes;
	return bytes + times * (count_escapes(row->name) + count_escapes(row->value));
}

/* Else the connection would end for it, and Dovecot's log would not say why. The rows of an iteration go
 * out one by one, the values of a lookup in one line. */
static bool is_too_large(const struct dict_command *command, const struct answer *answer)
{
	size_t times = command->kind == LOOKUP && answer->nrows > 1 ? 2 : 1, all = 0;
	for (size_t i = 0; i < answer->nrows; i++) {
		size_t size = line_size(&answer->rows[i], times);
		all = command->kind == LOOKUP ? all + size : size;
		if (all > MAX_ANSWER)
			return true;
	}
	return false;
}

/* Several of these would end a Dovecot 2.3 process: a found lookup of nothing, a row outside of the path that
 * was asked for. */
const char *dict_unfit(const void *dict_session, uint64_t tag, const struct answer *answer)
{
	const struct dict_session *session = dict_session;
	const struct dict_command *command = (const struct dict_command *)(uintptr_t)tag;
	struct str path = {command->path, command->path_len};
	if (command->kind == COMMIT || command->kind == COMMIT_ASYNC)
		return NULL;
	if (command->kind == LOOKUP && answer->nrows == 0)
		return "found, but without a value";
	for (size_t i = 0; i < answer->nrows; i++) {
		const struct pair *row = &answer->rows[i];
		if (!can_carry(session, row->value))
			return "value contains a byte that dict cannot carry";
		if (command->kind == ITERATE && str_has(row->name, '\0'))
			return "name contains a NUL byte";
		if (command->kind == ITERATE && !str_starts(row->name, path))
			return "name outside of the path asked for";
	}
	if (is_too_large(command, answer))
		return "the answer is larger than 63 MiB";
	/* Dovecot reads logins by shared keys only, and the first value of several. */
	if (command->kind == LOOKUP && command->scope == SCOPE_SHARED)
		return dict_open_login(answer->rows[0].value);
	return NULL;
}

void dict_reply(struct dict_session *session, const struct dict_command *command,
	const struct answer *answer, struct buf *out)
{
	if (command->kind == LOOKUP)
		reply_lookup(session, command, answer, out);
	else if (command->kind == ITERATE)
		reply_iterate(session, command, answer, out);
	else
		reply_commit(session, command, answer, out);
}
