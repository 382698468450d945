/* Questions and answers as bytes. Every text stands behind its length, so that no two questions share
 * their bytes. */
#include "cache_pack.h"

/* ---- numbers: seven bits a byte, the least first ---- */

enum { NUMBER_MAX = 10 };

static size_t number_size(uint64_t n)
{
	size_t size = 1;
	while (n >>= 7)
		size++;
	return size;
}

static char *put_number(char *to, uint64_t n)
{
	for (; n >= 0x80; n >>= 7)
		*to++ = (char)(n | 0x80);
	*to++ = (char)n;
	return to;
}

static char *put_text(char *to, struct str s)
{
	to = put_number(to, s.len);
	if (s.len > 0)
		memcpy(to, s.ptr, s.len);
	return to + s.len;
}

static bool take_number(struct str *from, uint64_t *n)
{
	*n = 0;
	for (unsigned shift = 0; shift < 64 && from->len > 0; shift += 7) {
		unsigned char byte = (unsigned char)from->ptr[0];
		*from = str_skip(*from, 1);
		*n |= (uint64_t)(byte & 0x7F) << shift;
		if (byte < 0x80)
			return true;
	}
	return false;
}

static bool take_text(struct str *from, struct str *s)
{
	uint64_t len;
	if (!take_number(from, &len) || len > from->len)
		return false;
	*s = (struct str){from->ptr, (size_t)len};
	*from = str_skip(*from, (size_t)len);
	return true;
}

/* ---- questions ---- */

static bool counts(const struct vary *vary, struct str attr)
{
	for (size_t i = 0; vary->narrowed && i < vary->nattrs; i++)
		if (str_eq(vary->attrs[i], attr))
			return true;
	return !vary->narrowed;
}

/* No question takes more, packed. */
static size_t question_size_at_most(const struct question *ask)
{
	size_t size = 1 + 4 * NUMBER_MAX + ask->key.len + ask->user.len;
	for (size_t i = 0; i < ask->nattrs; i++)
		size += NUMBER_MAX + ask->attrs[i].name.len + NUMBER_MAX + ask->attrs[i].value.len;
	return size;
}

void question_pack(const struct question *ask, const struct vary *vary, struct buf *to)
{
	bool user = !vary->narrowed || vary->user || ask->scope == SCOPE_PRIV;
	char *at = buf_reserve(to, question_size_at_most(ask));
	if (!at)
		return;
	*at++ = (char)((unsigned)ask->op << 4 | (unsigned)ask->form << 2 | (unsigned)ask->scope);
	if (ask->op == OP_ITERATE) {
		at = put_number(at, ask->flags);
		at = put_number(at, ask->max_rows);
	}
	at = put_text(at, ask->key);
	at = put_text(at, user ? ask->user : STR(""));
	for (size_t i = 0; i < ask->nattrs; i++) {
		if (!counts(vary, ask->attrs[i].name))
			continue;
		at = put_text(at, ask->attrs[i].name);
		at = put_text(at, ask->attrs[i].value);
	}
	to->len = (size_t)(at - to->ptr);
}

/* ---- answers ---- */

static size_t text_size(struct str s)
{
	return number_size(s.len) + s.len;
}

size_t answer_packed_size(const struct answer *answer)
{
	size_t size = 1 + number_size(answer->nrows);
	for (size_t i = 0; i < answer->nrows; i++)
		size += text_size(answer->rows[i].name) + text_size(answer->rows[i].value);
	return size;
}

void answer_pack(const struct answer *answer, char *to)
{
	*to++ = (char)answer->status;
	to = put_number(to, answer->nrows);
	for (size_t i = 0; i < answer->nrows; i++) {
		to = put_text(to, answer->rows[i].name);
		to = put_text(to, answer->rows[i].value);
	}
}

static bool take_rows(struct str from, struct pair *rows, size_t n, struct arena *mem)
{
	for (size_t i = 0; i < n; i++) {
		struct str name, value;
		if (!take_text(&from, &name) || !take_text(&from, &value))
			return false;
		rows[i] = (struct pair){arena_str(mem, name), arena_str(mem, value)};
	}
	return from.len == 0;
}

bool answer_unpack(struct str from, struct answer *answer, struct arena *mem)
{
	uint64_t nrows;
	*answer = (struct answer){0};
	if (from.len == 0)
		return false;
	answer->status = (unsigned char)from.ptr[0];
	from = str_skip(from, 1);
	/* A row takes two bytes at least: no number from outside makes us allocate more. */
	if (!take_number(&from, &nrows) || nrows > from.len / 2)
		return false;
	if (answer->status == ST_NOTFOUND)
		return nrows == 0 && from.len == 0;
	if (answer->status != ST_OK || nrows == 0)
		return false;
	struct pair *rows = arena_alloc(mem, (size_t)nrows * sizeof(*rows));
	answer->nrows = (size_t)nrows;
	answer->rows = rows;
	return take_rows(from, rows, answer->nrows, mem);
}
