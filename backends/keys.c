/* The keys composite: asks a table for one form of a key after the other, until one is found. */
#include <stddef.h>
#include <stdlib.h>

#include "key_forms.h"
#include "list.h"
#include "model/mail.h"
#include "model/query.h"

struct keys_conf {
	struct setting_list try;
	const char *recipient_delimiter;
	bool lowercase;
};

/* What check() has made of `try`. */
struct keys_shared {
	enum key_form forms[KEY_FORM_COUNT];
	size_t n;
};

/* One question; lives in the asker's arena. */
struct walk {
	struct query child;
	struct query *parent;
	struct question ask; /* the child's */
	struct answer basis; /* what all answers so far let be kept */
	size_t n, next;      /* of `keys` */
	struct str keys[];
};

#define AT(member) .offset = offsetof(struct keys_conf, member)

static const struct setting settings[] = {
	{.name = "lowercase",
		.kind = SET_BOOL,
		AT(lowercase),
		.fallback = "no",
		.help = "A to Z in keys become a to z, for reading and writing"},
	{.name = "recipient_delimiter",
		.kind = SET_STR,
		AT(recipient_delimiter),
		.fallback = "",
		.help = "characters that begin an address extension; without `try` a key is looked "
			"up with its extension and then without"},
	{.name = "try",
		.kind = SET_LIST,
		AT(try),
		.fallback = "",
		.help = "forms of a key to look up in order, up to the first that is found: key, "
			"without_extension, localpart, @domain, domain, parent_domains"},
	{.name = NULL},
};

/* ---- settings ---- */

static bool wanted(const struct table_conf *inner, const void *conf_of_table)
{
	const struct keys_conf *conf = conf_of_table;
	(void)inner;
	return conf->lowercase || conf->recipient_delimiter[0] || conf->try.n > 0;
}

static bool check_delimiters(const char *delimiters, struct error *error)
{
	for (const char *c = delimiters; *c; c++)
		if (*c <= ' ' || *c > '~' || *c == '@' || *c == '"')
			return error_set(error,
				"recipient_delimiter: white space, @, \" and what is not ASCII "
				"cannot begin an extension; allowed: characters such as + and -");
	return true;
}

static bool has_form(const struct keys_shared *shared, enum key_form form)
{
	for (size_t i = 0; i < shared->n; i++)
		if (shared->forms[i] == form)
			return true;
	return false;
}

static bool add_form(struct keys_shared *shared, struct str name, struct error *error)
{
	int form = 0;
	while (form < KEY_FORM_COUNT && !str_eq(name, str_of(key_form_name(form))))
		form++;
	if (form == KEY_FORM_COUNT)
		return error_set(error,
			"try: \"%.*s\" is no form of a key; allowed: key, without_extension, "
			"localpart, @domain, domain, parent_domains",
			(int)name.len, name.ptr);
	if (has_form(shared, form))
		return error_set(error, "try: \"%.*s\" comes twice; allowed: each form once",
			(int)name.len, name.ptr);
	shared->forms[shared->n++] = form;
	return true;
}

static bool read_try(const struct keys_conf *conf, struct keys_shared *shared, struct error *error)
{
	for (size_t i = 0; i < conf->try.n; i++)
		if (!add_form(shared, conf->try.items[i], error))
			return false;
	if (conf->try.n == 0) {
		shared->forms[shared->n++] = KEY_ITSELF;
		if (conf->recipient_delimiter[0])
			shared->forms[shared->n++] = KEY_WITHOUT_EXTENSION;
	}
	return true;
}

static void warn(const struct table_conf *table, const struct keys_shared *shared)
{
	const struct keys_conf *conf = table->conf;
	bool cuts = has_form(shared, KEY_WITHOUT_EXTENSION);
	if (cuts && !conf->recipient_delimiter[0])
		log_warn("%s: table %s: try: without_extension needs recipient_delimiter",
			table->where, table->name);
	if (!cuts && !has_form(shared, KEY_LOCALPART) && conf->recipient_delimiter[0])
		log_warn("%s: table %s: recipient_delimiter: try has no form that uses it: "
			 "without_extension, localpart",
			table->where, table->name);
}

static void drop(struct table_conf *table)
{
	free(table->shared);
	table->shared = NULL;
}

static bool check(struct table_conf *table, struct error *error)
{
	const struct keys_conf *conf = table->conf;
	struct keys_shared *shared = memory_new(sizeof(*shared));
	table->shared = shared;
	if (!check_delimiters(conf->recipient_delimiter, error) || !read_try(conf, shared, error)) {
		drop(table);
		return false;
	}
	if (conf->recipient_delimiter[0])
		table->delimiters = conf->recipient_delimiter;
	warn(table, shared);
	return true;
}

/* ---- questions ---- */

/* The asker of an iteration knows its rows by the prefix as he wrote it. */
static void restore_prefix(const struct walk *walk, struct answer *answer)
{
	struct str asked = walk->parent->ask->key, folded = walk->ask.key;
	struct arena *mem = walk->parent->mem;
	if (answer->status != ST_OK || str_eq(asked, folded))
		return;
	struct pair *rows = arena_alloc(mem, answer->nrows * sizeof(*rows));
	for (size_t i = 0; i < answer->nrows; i++) {
		rows[i] = answer->rows[i];
		if (!str_starts(rows[i].name, folded))
			continue;
		rows[i].name = arena_str(mem, rows[i].name);
		memcpy((char *)rows[i].name.ptr, asked.ptr, asked.len); /* folding keeps lengths */
	}
	answer->rows = rows;
}

/* Only "not found" leads on: behind an error there might have been an answer. */
static bool goes_on(struct walk *walk)
{
	answer_rest_on(&walk->basis, &walk->child.answer);
	return walk->child.answer.status == ST_NOTFOUND && walk->next < walk->n;
}

static void finish(struct walk *walk)
{
	struct answer *answer = &walk->child.answer;
	answer_rest_on(answer, &walk->basis);
	if (walk->ask.op == OP_ITERATE)
		restore_prefix(walk, answer);
	query_finish(walk->parent, answer);
}

static void on_child(struct query *child);

/* From form to form as long as the table answers at once. */
static void ask_on(struct walk *walk)
{
	struct query *parent = walk->parent;
	do {
		walk->ask.key = walk->keys[walk->next++];
		query_follow(&walk->child, parent);
		if (!query_begin(&walk->child, table_inner(parent->table), &walk->ask, on_child))
			return;
	} while (goes_on(walk));
	finish(walk);
}

static void on_child(struct query *child)
{
	struct walk *walk = (struct walk *)(void *)((char *)child - offsetof(struct walk, child));
	if (goes_on(walk))
		ask_on(walk);
	else
		finish(walk);
}

static const struct change *lower_changes(const struct question *ask, struct arena *mem)
{
	struct change *changes = arena_alloc(mem, ask->nchanges * sizeof(*changes));
	for (size_t i = 0; i < ask->nchanges; i++) {
		changes[i] = ask->changes[i];
		changes[i].key = mail_lower(changes[i].key, mem);
	}
	return changes;
}

static void start(struct query *query)
{
	const struct keys_conf *conf = query->table->conf->conf;
	const struct keys_shared *shared = query->table->conf->shared;
	const struct question *ask = query->ask;
	struct str key = conf->lowercase ? mail_lower(ask->key, query->mem) : ask->key;
	struct str keys[KEY_MAX_FORMS] = {key};
	size_t n = 1;
	if (ask->op == OP_LOOKUP)
		n = key_forms(
			key, shared->forms, shared->n, conf->recipient_delimiter, query->mem, keys);
	if (n == 0) {
		query_notfound(query);
		return;
	}
	struct walk *walk = arena_alloc(query->mem, sizeof(*walk) + n * sizeof(walk->keys[0]));
	walk->parent = query;
	walk->ask = *ask;
	if (conf->lowercase && ask->nchanges > 0)
		walk->ask.changes = lower_changes(ask, query->mem);
	walk->n = n;
	memcpy(walk->keys, keys, n * sizeof(keys[0]));
	query->work = walk;
	ask_on(walk);
}

static void cancel(struct query *query)
{
	query_cancel_child(&((struct walk *)query->work)->child, query);
}

/* Within, each form of the key is kept by itself. */
static void forget(const struct table *table, const struct str *key)
{
	const struct keys_conf *conf = table->conf->conf;
	const struct keys_shared *shared = table->conf->shared;
	struct arena mem = {0};
	struct str keys[KEY_MAX_FORMS];
	if (!key)
		return; /* all is forgotten by those within */
	struct str folded = conf->lowercase ? mail_lower(*key, &mem) : *key;
	size_t n =
		key_forms(folded, shared->forms, shared->n, conf->recipient_delimiter, &mem, keys);
	for (size_t i = 0; i < n; i++)
		table_forget(table_inner(table), &keys[i]);
	arena_clear(&mem);
}

const struct backend backend_keys = {
	.name = "keys",
	.help = "one form of a key after the other",
	.ops = CAN(OP_LOOKUP) | CAN(OP_ITERATE) | CAN(OP_CHANGE) | CAN(OP_POLICY) | CAN(OP_AUTH),
	.can_expire = true, /* if the table within can */
	.settings = settings,
	.conf_size = sizeof(struct keys_conf),
	.wanted = wanted,
	.check = check,
	.drop = drop,
	.start = start,
	.cancel = cancel,
	.forget = forget,
};
