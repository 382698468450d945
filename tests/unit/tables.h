/* A stand for tests of tables: a turn with a clock of its own, tables made from settings as the
 * loader makes them, questions asked and run to their end. Includes cmocka. */
#ifndef TESTS_TABLES_H
#define TESTS_TABLES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "model/query.h"
#include "model/table.h"
#include "model/timer.h"

enum { STAND_TABLES = 8 };

struct stand {
	struct turn turn;
	struct timers timers;
	bool woken;
	struct arena mem;
	struct table_conf confs[STAND_TABLES];
	size_t n;
	struct table_set set;
	struct error error;
};

static uint64_t stand_now = 1000; /* ms; turn->clock() has no other way to learn it */

static inline uint64_t stand_clock(void)
{
	return stand_now;
}

static inline void stand_wake(struct turn *turn)
{
	((struct stand *)(void *)((char *)turn - offsetof(struct stand, turn)))->woken = true;
}

static inline void stand_arm(struct timers *timers, uint64_t in_ms)
{
	(void)timers; /* stand_pass() looks at every millisecond */
	(void)in_ms;
}

static inline void stand_init(struct stand *stand)
{
	*stand = (struct stand){0};
	turn_init(&stand->turn, stand_wake);
	stand->turn.clock = stand_clock;
	stand->turn.now_ms = stand_now;
	timers_init(&stand->timers, &stand->turn, stand_arm);
}

static inline const struct table_conf *stand_conf(struct stand *stand, struct str name)
{
	for (size_t i = 0; i < stand->n; i++)
		if (str_eq(str_of(stand->confs[i].name), name))
			return &stand->confs[i];
	return NULL;
}

/* The names of tables that stand before it, as the loader resolves them. */
static inline void put_tables(struct stand *stand, struct table_list *list, struct str names)
{
	struct str name;
	list->tables = arena_alloc(&stand->mem, STAND_TABLES * sizeof(*list->tables));
	list->n = 0;
	while (str_word(&names, &name)) {
		list->tables[list->n] = stand_conf(stand, name);
		assert_non_null(list->tables[list->n++]);
	}
}

static inline void put_option(
	struct stand *stand, struct table_conf *conf, const char *key, const char *value)
{
	struct str sub;
	bool file;
	void *to = conf->conf;
	const struct setting *s = setting_find(conf->backend->settings, str_of(key), &sub, &file);
	if (!s) {
		to = &conf->options;
		s = setting_find(table_settings, str_of(key), &sub, &file);
	}
	assert_non_null(s);
	if (s->kind == SET_TABLES)
		put_tables(stand, (struct table_list *)(void *)((char *)to + s->offset),
			str_of(value));
	else if (s->names_table && s->names_table(str_of(value)))
		put_tables(stand, (struct table_list *)(void *)((char *)to + s->tables_offset),
			str_of(value));
	else if (!setting_put(s, to, &stand->mem, sub, str_of(value), &stand->error))
		fail_msg("%s: %s", key, stand->error.text);
}

static inline bool stand_add_with(struct stand *stand, const char *name, struct table_conf *inner,
	const struct backend *backend, va_list ap)
{
	struct table_conf *conf = &stand->confs[stand->n];
	*conf = (struct table_conf){.name = name,
		.backend = backend,
		.ops = inner ? inner->ops : backend->ops,
		.index = (unsigned)stand->n,
		.inner = inner,
		.where = "test"};
	conf->conf = arena_alloc(&stand->mem, backend->conf_size);
	setting_fill(table_settings, &conf->options, &stand->mem);
	setting_fill(backend->settings, conf->conf, &stand->mem);
	for (const char *key; (key = va_arg(ap, const char *));)
		put_option(stand, conf, key, va_arg(ap, const char *));
	if (backend->check && !backend->check(conf, &stand->error))
		return false;
	if (inner)
		inner->hidden = true;
	stand->n++;
	return true;
}

/* A table of that type; keys and values alternate, NULL ends them. False when check() refuses it,
 * with stand->error; then it does not count. */
static inline bool stand_add(
	struct stand *stand, const char *name, const struct backend *backend, ...)
{
	va_list ap;
	va_start(ap, backend);
	bool good = stand_add_with(stand, name, NULL, backend, ap);
	va_end(ap);
	return good;
}

/* The same for a composite around the table that was added last, which it hides. */
static inline bool stand_wrap(struct stand *stand, const struct backend *backend, ...)
{
	struct table_conf *inner = &stand->confs[stand->n - 1];
	va_list ap;
	va_start(ap, backend);
	bool good = stand_add_with(stand, inner->name, inner, backend, ap);
	va_end(ap);
	return good;
}

static inline void stand_open(struct stand *stand)
{
	if (!table_set_open(
		    &stand->set, stand->confs, stand->n, NULL, &stand->turn, NULL, &stand->error))
		fail_msg("%s", stand->error.text);
}

static inline void stand_close(struct stand *stand)
{
	table_set_close(&stand->set);
	timers_free(&stand->timers);
	while (stand->n > 0) {
		struct table_conf *conf = &stand->confs[--stand->n];
		if (conf->backend->drop)
			conf->backend->drop(conf);
	}
	arena_clear(&stand->mem);
}

/* Turns until there is nothing to do. */
static inline void stand_run(struct stand *stand)
{
	do {
		stand->woken = false;
		turn_enter(&stand->turn);
		turn_leave(&stand->turn);
	} while (stand->woken);
}

/* So many milliseconds, with all that timers and deadlines bring. */
static inline void stand_pass(struct stand *stand, unsigned ms)
{
	for (; ms > 0; ms--) {
		stand_now++;
		turn_enter(&stand->turn);
		timers_run(&stand->timers);
		for (size_t i = 0; i < stand->set.n; i++)
			query_expire(&stand->set.tables[i]);
		turn_leave(&stand->turn);
		stand_run(stand);
	}
}

static inline struct table *stand_table(struct stand *stand, const char *name)
{
	struct table *table = table_set_find(&stand->set, str_of(name));
	assert_non_null(table);
	return table;
}

/* A question under way, with its own arena. */
struct asked {
	struct query query;
	struct question ask;
	struct arena mem;
	unsigned dones;
};

static inline void on_asked(struct query *query)
{
	((struct asked *)(void *)((char *)query - offsetof(struct asked, query)))->dones++;
}

static inline struct asked *ask_start(
	struct stand *stand, const char *table, struct question question)
{
	struct asked *asked = memory_new(sizeof(*asked));
	asked->ask = question;
	asked->query.mem = &asked->mem;
	asked->query.deadline = stand_now + 10000;
	stand->turn.now_ms = stand_now; /* as if a turn had just begun */
	query_start(&asked->query, stand_table(stand, table), &asked->ask, on_asked);
	assert_int_equal(asked->dones, 0); /* rule 2 */
	return asked;
}

static inline void ask_free(struct asked *asked)
{
	query_cancel(&asked->query);
	arena_clear(&asked->mem);
	free(asked);
}

/* For tables that answer at once. */
static inline struct asked *ask(struct stand *stand, const char *table, struct question question)
{
	struct asked *asked = ask_start(stand, table, question);
	stand_run(stand);
	assert_int_equal(asked->dones, 1);
	assert_int_equal(asked->query.phase, Q_IDLE);
	return asked;
}

static inline struct question lookup_of(const char *key)
{
	return (struct question){.op = OP_LOOKUP, .key = str_of(key)};
}

#define assert_str(actual, expected) assert_text((actual), (expected), __FILE__, __LINE__)

static inline void assert_text(struct str s, const char *expected, const char *file, int line)
{
	if (str_eq(s, str_of(expected)))
		return;
	print_error("\"%.*s\" instead of \"%s\"\n", (int)s.len, s.len ? s.ptr : "", expected);
	_fail(file, line);
}

/* The value of a lookup: one row; "(notfound)", "(temp)", "(perm)" for what is no value. */
#define assert_answer(stand, table, question, expected)                                            \
	assert_value((stand), (table), (question), (expected), __FILE__, __LINE__)

static inline void assert_value(struct stand *stand, const char *table, struct question question,
	const char *expected, const char *file, int line)
{
	struct asked *asked = ask(stand, table, question);
	const struct answer *answer = &asked->query.answer;
	if (answer->status == ST_OK) {
		assert_int_equal(answer->nrows, 1);
		assert_text(answer->rows[0].value, expected, file, line);
	} else {
		char text[32];
		snprintf(text, sizeof(text), "(%s)", status_name(answer->status));
		assert_text(str_of(text), expected, file, line);
		assert_int_equal(answer->why.len > 0,
			answer->status == ST_TEMP || answer->status == ST_PERM);
	}
	ask_free(asked);
}

/* The rows of an iteration as "name=value name=value". */
#define assert_rows(stand, table, question, expected)                                              \
	assert_listing((stand), (table), (question), (expected), __FILE__, __LINE__)

static inline void assert_listing(struct stand *stand, const char *table, struct question question,
	const char *expected, const char *file, int line)
{
	struct asked *asked = ask(stand, table, question);
	const struct answer *answer = &asked->query.answer;
	struct str text = arena_printf(
		&asked->mem, "%s", answer->status == ST_OK ? "" : status_name(answer->status));
	for (size_t i = 0; i < answer->nrows; i++) {
		const struct pair *row = &answer->rows[i];
		text = arena_printf(&asked->mem, "%.*s%s%.*s=%.*s", (int)text.len, text.ptr,
			i ? " " : "", (int)row->name.len, row->name.ptr, (int)row->value.len,
			row->value.len ? row->value.ptr : "");
	}
	assert_text(text, expected, file, line);
	ask_free(asked);
}

#endif
