/* The table type whose answers a script gives. */
#include "scripted.h"

#include <inttypes.h>

#include "text.h"

/* ---- questions in words ---- */

static struct str show_key(enum scope scope, struct str key, struct arena *mem)
{
	static const char *const prefixes[] = {
		[SCOPE_NONE] = "", [SCOPE_SHARED] = "shared/", [SCOPE_PRIV] = "priv/"};
	if (key.len == 0 && scope == SCOPE_NONE)
		return STR("(empty)");
	return arena_printf(mem, "%s%s", prefixes[scope], text_show(key, mem).ptr);
}

static struct str show_change(const struct change *change, struct arena *mem)
{
	struct str key = show_key(change->scope, change->key, mem);
	switch (change->kind) {
	case CH_SET:
		return arena_printf(mem, "set %s=%s", key.ptr, text_show(change->value, mem).ptr);
	case CH_UNSET:
		return arena_printf(mem, "unset %s", key.ptr);
	default:
		return arena_printf(mem, "add %s %" PRIi64, key.ptr, change->diff);
	}
}

static struct str show_changes(const struct question *ask, struct arena *mem)
{
	struct str text = {0};
	for (size_t i = 0; i < ask->nchanges; i++)
		text = arena_printf(mem, "%s%s%s", i ? text.ptr : "", i ? ", " : "",
			show_change(&ask->changes[i], mem).ptr);
	if (ask->expire_secs > 0)
		text = arena_printf(mem, "%s for %" PRIu64 " s", text.ptr, ask->expire_secs);
	return text;
}

static struct str show_flags(const struct question *ask, struct arena *mem)
{
	static const char *const names[] = {
		" recurse", " by key", " by value", " without values", " exact key"};
	struct str text = STR("");
	if (ask->max_rows > 0)
		text = arena_printf(mem, " at most %" PRIu64, ask->max_rows);
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (ask->flags & 1u << i)
			text = arena_printf(mem, "%s%s", text.ptr, names[i]);
	return text;
}

static struct str show_attrs(const struct question *ask, struct arena *mem)
{
	struct str text = STR("");
	for (size_t i = 0; i < ask->nattrs; i++)
		text = arena_printf(mem, "%s %s=%s", text.ptr,
			text_show(ask->attrs[i].name, mem).ptr,
			text_show(ask->attrs[i].value, mem).ptr);
	return text;
}

static struct str show_question(const struct question *ask, struct arena *mem)
{
	struct str text = show_key(ask->scope, ask->key, mem);
	if (ask->op == OP_CHANGE)
		text = show_changes(ask, mem);
	else if (ask->op == OP_ITERATE)
		text = arena_printf(mem, "iterate %s%s", text.ptr, show_flags(ask, mem).ptr);
	else if (ask->op == OP_AUTH)
		text = arena_printf(mem, "auth %s%s", text.ptr, show_attrs(ask, mem).ptr);
	if (ask->user.len > 0)
		text = arena_printf(mem, "%s of %s", text.ptr, text_show(ask->user, mem).ptr);
	return text;
}

/* ---- a table ---- */

static void tell(const struct asked *asked, const char *verb)
{
	const struct worker *worker = asked->worker;
	const char *name = asked->query->table->conf->name;
	if (worker->number == 1)
		world_tell(worker->world, "%s %s %s", name, verb, asked->what.ptr);
	else
		world_tell(worker->world, "%s %s %s in worker %u", name, verb, asked->what.ptr,
			worker->number);
}

static void start(struct query *query)
{
	struct asked *asked = arena_alloc(query->mem, sizeof(*asked));
	asked->query = query;
	asked->worker = query->table->worker;
	asked->what = show_question(query->ask, query->mem);
	query->work = asked;
	TAILQ_INSERT_TAIL(&asked->worker->world->waiting, asked, link);
	tell(asked, "asked");
}

static void cancel(struct query *query)
{
	struct asked *asked = query->work;
	TAILQ_REMOVE(&asked->worker->world->waiting, asked, link);
	tell(asked, "cancelled");
}

static const struct setting settings[] = {{.name = NULL}};

const struct backend backend_scripted = {
	.name = "scripted",
	.help = "answers as the script says",
	.ops = CAN(OP_LOOKUP) | CAN(OP_ITERATE) | CAN(OP_CHANGE) | CAN(OP_AUTH),
	.can_expire = true,
	.can_break = true,
	.settings = settings,
	.conf_size = 1,
	.start = start,
	.cancel = cancel,
};

/* ---- answers ---- */

struct asked *scripted_find(struct world *world, struct str table, struct str what)
{
	struct asked *asked;
	TAILQ_FOREACH (asked, &world->waiting, link)
		if (str_eq(str_of(asked->query->table->conf->name), table) &&
			(what.len == 0 || str_eq(asked->what, what)))
			return asked;
	return NULL;
}

/* `ok VALUE`: one row, unless it is a change, which has none. */
static bool ok_answer(struct query *query, struct str text, struct answer *answer)
{
	struct pair *row = arena_alloc(query->mem, sizeof(*row));
	answer->rows = row;
	answer->nrows = query->ask->op == OP_CHANGE ? 0 : 1;
	return text_bytes(text, false, query->mem, &row->value);
}

/* `rows NAME=VALUE ...` and `rows VALUE ...`, with quotes around those that hold blanks. */
static bool rows_answer(struct query *query, struct str text, struct answer *answer)
{
	enum { MAX_ROWS = 16 };
	struct pair *rows = arena_alloc(query->mem, MAX_ROWS * sizeof(*rows));
	struct str fields;
	answer->rows = rows;
	if (!text_bytes(text, true, query->mem, &fields))
		return false;
	for (bool more = fields.len > 0; more && answer->nrows < MAX_ROWS; answer->nrows++) {
		struct str field;
		more = str_cut(&fields, '\t', &field);
		if (query->ask->op == OP_ITERATE)
			str_cut(&field, '=', &rows[answer->nrows].name);
		rows[answer->nrows].value = field;
	}
	return true;
}

static const struct kind {
	const char *name;
	enum status status;
	bool uncertain, broken;
	bool (*read)(struct query *query, struct str text, struct answer *answer);
} kinds[] = {
	{"ok", ST_OK, false, false, ok_answer},
	{"rows", ST_OK, false, false, rows_answer},
	{"notfound", ST_NOTFOUND, false, false, NULL},
	{"temp", ST_TEMP, false, false, NULL},
	{"perm", ST_PERM, false, false, NULL},
	{"broken", ST_TEMP, false, true, NULL},
	{"uncertain", ST_TEMP, true, false, NULL},
};

static bool read_kind(struct query *query, struct str word, struct str rest, struct answer *answer)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		const struct kind *kind = &kinds[i];
		if (!str_eq(str_of(kind->name), word))
			continue;
		answer->status = kind->status;
		answer->uncertain = kind->uncertain;
		answer->broken = kind->broken;
		if (kind->read)
			return kind->read(query, rest, answer);
		return text_bytes(rest, false, query->mem, &answer->why);
	}
	return false;
}

static bool read_answer(struct query *query, struct str text, struct answer *answer)
{
	struct str word, number;
	uint64_t ttl;
	while (text_word(&text, &word)) {
		if (str_eq(word, STR("no_store"))) {
			answer->no_store = true;
		} else if (str_eq(word, STR("ttl"))) {
			if (!text_word(&text, &number) || !str_u64(number, &ttl))
				return false;
			answer->ttl = (unsigned)ttl;
		} else {
			return read_kind(query, word, text, answer);
		}
	}
	return false;
}

bool scripted_answer(struct asked *asked, struct str text, struct error *error)
{
	struct answer answer = {0};
	if (!read_answer(asked->query, text, &answer))
		return error_set(error,
			"no answer; write [ttl SECONDS] [no_store], and then one of ok VALUE, rows "
			"NAME=VALUE ..., notfound, temp WHY, broken WHY, perm WHY, uncertain WHY");
	TAILQ_REMOVE(&asked->worker->world->waiting, asked, link);
	worker_enter(asked->worker);
	query_finish(asked->query, &answer);
	worker_leave(asked->worker);
	return true;
}
