/* What is asked of a table, and what it answers. */
#include "model/question.h"

static const struct pair *pairs_copy(const struct pair *from, size_t n, struct arena *mem)
{
	struct pair *to = n ? arena_alloc(mem, n * sizeof(*to)) : NULL;
	for (size_t i = 0; i < n; i++)
		to[i] = (struct pair){arena_str(mem, from[i].name), arena_str(mem, from[i].value)};
	return to;
}

void question_copy(struct question *to, const struct question *from, struct arena *mem)
{
	*to = *from;
	to->key = arena_str(mem, from->key);
	to->user = arena_str(mem, from->user);
	if (from->nattrs > 0)
		to->attrs = pairs_copy(from->attrs, from->nattrs, mem);
	if (from->nchanges == 0)
		return;
	struct change *changes = arena_alloc(mem, from->nchanges * sizeof(*changes));
	for (size_t i = 0; i < from->nchanges; i++) {
		changes[i] = from->changes[i];
		changes[i].key = arena_str(mem, from->changes[i].key);
		changes[i].value = arena_str(mem, from->changes[i].value);
	}
	to->changes = changes;
}

void answer_copy(struct answer *to, const struct answer *from, struct arena *mem)
{
	*to = *from;
	to->why = arena_str(mem, from->why);
	to->rows = pairs_copy(from->rows, from->nrows, mem);
}

void answer_rest_on(struct answer *answer, const struct answer *other)
{
	if (answer->ttl == 0 || (other->ttl > 0 && other->ttl < answer->ttl))
		answer->ttl = other->ttl;
	answer->no_store |= other->no_store;
}

const char *op_name(enum op op)
{
	static const char *const names[OP_COUNT] = {
		[OP_LOOKUP] = "lookup",
		[OP_ITERATE] = "iterate",
		[OP_CHANGE] = "change",
		[OP_POLICY] = "policy",
		[OP_AUTH] = "authentication",
	};
	return names[op];
}

const char *status_name(enum status status)
{
	static const char *const names[ST_COUNT] = {
		[ST_OK] = "ok",
		[ST_NOTFOUND] = "notfound",
		[ST_TEMP] = "temp",
		[ST_PERM] = "perm",
	};
	return names[status];
}
