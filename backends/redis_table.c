/* Tables in a Redis server: strings by GET, SCAN and MGET; transactions whole or not at all. */
#include <stdio.h>
#include <stdlib.h>

#include "engine/redis.h"
#include "engine/worker.h"
#include "list.h"
#include "model/query.h"
#include "model/table.h"
#include "redis_key.h"
#include "rows.h"

enum {
	MAX_REPLY = 64 << 20,
	MAX_COUNTED = 100000, /* changes of a transaction with increments: words of one command */
	SCAN_COUNT = 1000,    /* keys that the server looks at before it serves others */
	MGET_KEYS = 50,       /* of the largest values that come through a dict */
	MGET_COMMANDS = 4,    /* sent at once */
	MGET_MAX = MGET_KEYS * MGET_COMMANDS,
};

/* For ever, to a server that adds it to the clock in milliseconds and must not overflow. */
static const uint64_t max_expiry = UINT64_C(1000000000000);

struct redis_conf {
	const char *param, *password;
	int64_t connect_timeout;
};

/* What check() has prepared for all workers. */
struct redis_shared {
	struct arena mem;
	struct redis_options options;
	struct key_prefix prefix;
	const char *where;
};

/* One pipeline of a query. */
struct call {
	struct redis_ask ask;
	struct query *query;
	void (*answered)(struct call *); /* ask holds replies, one for each command */
	bool writes;                     /* must not be sent twice */
	bool again;                      /* was sent twice */
};

struct lookup {
	struct call call;
	struct redis_command command;
	struct str words[2];
	struct str key; /* as it was asked for: the name of a row */
};

struct iteration {
	struct call call;        /* first, so that query->work points to it */
	struct redis_iter *iter; /* freed with the query's end */
};

/* What an iteration holds besides the query's own memory. */
struct redis_iter {
	struct arena mem, round; /* of all of it; of the round under way */
	struct str *keys;        /* whole, as the server has them; their text is the asker's */
	size_t nkeys, room, next, bytes, space;
	struct rows rows;
	struct arena *rows_mem; /* the asker's: names and values are copied once */
	struct str pattern, cursor;
	struct redis_command commands[MGET_COMMANDS];
	struct str scan[6];
};

struct transaction {
	struct call call;
	bool script; /* else SET and DEL, between MULTI and EXEC if there are several */
};

#define AT(member) .offset = offsetof(struct redis_conf, member)

static const struct setting settings[] = {
	{.name = "param",
		.kind = SET_STR,
		AT(param),
		.help = "redis://[[user]:password@]host:port/db?prefix=... or "
			"redis+unix:PATH?prefix=...&db=...; %XX is decoded; in the prefix: {user} "
			"{scope} {table}"},
	{.name = "password",
		.kind = SET_SECRET,
		AT(password),
		.fallback = "",
		.help = "instead of one in the URL"},
	{.name = "connect_timeout",
		.kind = SET_MSEC,
		AT(connect_timeout),
		.fallback = "2s",
		.min = 1,
		.max = 600000,
		.help = "for name, connection, AUTH and SELECT; at most half of timeout"},
	{.name = NULL},
};

/* ---- checking ---- */

static bool take_parameters(
	struct table_conf *table, const struct setting_map *parameters, struct error *error)
{
	struct redis_shared *shared = table->shared;
	const char *prefix = "";
	for (size_t i = 0; i < parameters->n; i++) {
		if (!str_eq(parameters->pairs[i].name, STR("prefix")))
			return error_set(error,
				"an unknown parameter stands behind '?'; allowed: prefix, db");
		prefix = parameters->pairs[i].value.ptr;
	}
	return key_prefix_parse(prefix, table->name, &shared->prefix, error);
}

/* From here on nobody finds the password in param. */
static bool take_url(struct table_conf *table, struct error *error)
{
	struct redis_conf *conf = table->conf;
	struct redis_shared *shared = table->shared;
	struct setting_map parameters;
	if (!redis_parse_url(conf->param, &shared->mem, &shared->options, &parameters, error) ||
		!take_parameters(table, &parameters, error))
		return error_prefix(error, "param");
	conf->param = redis_url_public(conf->param, &shared->mem).ptr;
	if (conf->password[0] && shared->options.password[0])
		return error_set(error, "password: there is one in param already");
	if (conf->password[0])
		shared->options.password = conf->password;
	if (shared->options.user[0] && !shared->options.password[0])
		return error_set(error, "param: a user needs a password");
	return true;
}

static void drop(struct table_conf *table)
{
	struct redis_shared *shared = table->shared;
	if (shared)
		arena_clear(&shared->mem);
	free(shared);
	table->shared = NULL;
}

static bool check(struct table_conf *table, struct error *error)
{
	const struct redis_conf *conf = table->conf;
	struct redis_shared *shared = memory_new(sizeof(*shared));
	table->shared = shared;
	if (!take_url(table, error)) {
		drop(table);
		return false;
	}
	/* Half of the time: a question can still learn why, or be asked again. */
	int64_t half = (table->options.timeout + 1) / 2;
	shared->options.connect_timeout_ms =
		conf->connect_timeout < half ? conf->connect_timeout : half;
	shared->options.silence_ms = half;
	shared->options.max_reply = MAX_REPLY;
	shared->where = redis_where(&shared->options, &shared->mem).ptr;
	return true;
}

static bool open_table(struct table *table, struct error *error)
{
	const struct redis_shared *shared = table->conf->shared;
	(void)error;
	table->state = redis_new(worker_base(table->worker), table->turn, &shared->options);
	return true;
}

static void close_table(struct table *table)
{
	redis_free(table->state);
}

/* ---- asking ---- */

static const struct redis_shared *shared_of(const struct query *query)
{
	return query->table->conf->shared;
}

/* A server that was restarted closes a connection that seemed to live: what only reads is asked
 * once more. */
static void on_asked(struct redis_ask *ask)
{
	struct call *call = (struct call *)(void *)((char *)ask - offsetof(struct call, ask));
	if (ask->result == REDIS_BROKEN && !call->writes && !call->again) {
		call->again = true;
		redis_start(call->query->table->state, ask);
		return;
	}
	call->answered(call);
}

static void call_init(struct call *call, struct query *query, void (*answered)(struct call *))
{
	call->ask.mem = query->mem;
	call->ask.done = on_asked;
	call->ask.asker = query;
	call->query = query;
	call->answered = answered;
	query->work = call;
}

static void call_start(struct call *call, const struct redis_command *commands, size_t n)
{
	call->ask.commands = commands;
	call->ask.ncommands = n;
	redis_start(call->query->table->state, &call->ask);
}

static bool says(const struct redis_reply *reply, const char *words)
{
	return strstr(reply->text.ptr, words) != NULL;
}

/* An error of the server. Its own words may hold a key or a value: only their first is shown. */
static enum status explain(
	const struct query *query, const struct redis_reply *reply, struct str *why)
{
	struct str code = redis_error_code(reply);
	const char *where = shared_of(query)->where;
	if (str_eq(code, STR("WRONGTYPE"))) {
		*why = arena_printf(query->mem, "%s: the key holds no string", where);
		return ST_PERM;
	}
	if (reply->kind == REPLY_ERROR)
		*why = arena_printf(
			query->mem, "%s: answered by %.*s", where, (int)code.len, code.ptr);
	else
		*why = arena_printf(query->mem, "%s: an answer of the wrong kind", where);
	return ST_TEMP;
}

static void fail(struct query *query, const struct redis_reply *reply)
{
	struct answer answer = {0};
	answer.status = explain(query, reply, &answer.why);
	query_finish(query, &answer);
}

/* Names a key, or ends the query. */
static bool name_key(
	struct query *query, enum scope scope, struct str key, struct str *name, size_t *space)
{
	const struct question *question = query->ask;
	switch (key_name(
		&shared_of(query)->prefix, scope, question->user, key, query->mem, name, space)) {
	case KEY_NO_USER:
		query_perm(query, "a priv/ key needs a user");
		return false;
	case KEY_RESERVED:
		if (question->op == OP_CHANGE)
			query_perm(query, "shared keys that begin with priv/ are not allowed here");
		else
			query_notfound(query);
		return false;
	default:
		return true;
	}
}

/* ---- lookup, and iteration over one key ---- */

static void on_value(struct call *call)
{
	const struct lookup *lookup = (struct lookup *)(void *)call;
	struct query *query = call->query;
	if (call->ask.result != REDIS_REPLY) {
		query_finish(query,
			&(struct answer){.status = ST_TEMP, .why = call->ask.why, .broken = true});
		return;
	}
	const struct redis_reply *reply = &call->ask.replies[0];
	if (reply->kind == REPLY_NIL) {
		query_notfound(query);
		return;
	}
	if (reply->kind != REPLY_TEXT) {
		fail(query, reply);
		return;
	}
	struct pair *row = arena_alloc(query->mem, sizeof(*row));
	row->value = reply->text;
	if (query->ask->op == OP_ITERATE)
		row->name = lookup->key;
	if (query->ask->op == OP_ITERATE && (query->ask->flags & ITER_NO_VALUE))
		row->value.len = 0;
	query_finish(query, &(struct answer){.status = ST_OK, .nrows = 1, .rows = row});
}

static void start_lookup(struct query *query)
{
	struct lookup *lookup = arena_alloc(query->mem, sizeof(*lookup));
	size_t space;
	lookup->key = query->ask->key;
	lookup->words[0] = STR("GET");
	if (!name_key(query, query->ask->scope, lookup->key, &lookup->words[1], &space))
		return;
	lookup->command = (struct redis_command){2, lookup->words};
	call_init(&lookup->call, query, on_value);
	call_start(&lookup->call, &lookup->command, 1);
}

/* ---- iterate ---- */

static struct redis_iter *iter_of(const struct call *call)
{
	return ((const struct iteration *)(const void *)call)->iter;
}

static void iter_free(struct redis_iter *iter)
{
	rows_drop(&iter->rows);
	arena_clear(&iter->round);
	arena_clear(&iter->mem);
	free(iter->keys);
	free(iter);
}

/* Nothing of the iteration may be touched afterwards; `why` lives elsewhere. */
static void end_iteration(struct call *call, enum status status, struct str why)
{
	struct iteration *iteration = (struct iteration *)(void *)call;
	struct query *query = call->query;
	why = arena_str(query->mem, why);
	iter_free(iteration->iter);
	iteration->iter = NULL;
	query_finish(query, &(struct answer){
				    .status = status,
				    .why = why,
				    .broken = call->ask.result != REDIS_REPLY,
			    });
}

static void end_too_large(struct call *call)
{
	end_iteration(call, ST_TEMP,
		arena_printf(call->query->mem, "the answer is larger than %d MiB", ROWS_MAX >> 20));
}

/* Ends the iteration when the replies are of no use. */
static bool have_replies(struct call *call)
{
	if (call->ask.result == REDIS_REPLY)
		return true;
	end_iteration(call, ST_TEMP, call->ask.why);
	return false;
}

static void end_wrong(struct call *call, const struct redis_reply *reply)
{
	struct str why;
	enum status status = explain(call->query, reply, &why);
	end_iteration(call, status, why);
}

static void finish_rows(struct call *call)
{
	struct iteration *iteration = (struct iteration *)(void *)call;
	struct redis_iter *iter = iteration->iter;
	struct rows rows;
	rows_keep(&iter->rows, call->query->mem);
	rows = iter->rows;
	iteration->iter = NULL;
	iter_free(iter);
	rows_finish(&rows, call->query);
}

static void start_values(struct call *call);

/* False when there are enough rows. */
static bool add_values(struct redis_iter *iter, const struct redis_reply *list, size_t first)
{
	for (size_t i = 0; i < list->n; i++) {
		const struct redis_reply *value = &list->items[i];
		if (value->kind != REPLY_TEXT)
			continue; /* gone in the meantime, or no string */
		struct str text = arena_str(iter->rows_mem, value->text);
		iter->bytes += text.len;
		if (!rows_add(&iter->rows, str_skip(iter->keys[first + i], iter->space), text))
			return false;
	}
	return true;
}

static void on_values(struct call *call)
{
	struct redis_iter *iter = iter_of(call);
	bool more = true;
	if (!have_replies(call))
		return;
	for (size_t i = 0; i < call->ask.ncommands && more; i++) {
		const struct redis_reply *list = &call->ask.replies[i];
		size_t n = iter->commands[i].argc - 1;
		if (list->kind != REPLY_LIST || list->n != n) {
			end_wrong(call, list);
			return;
		}
		more = add_values(iter, list, iter->next);
		iter->next += n;
	}
	if (iter->bytes > ROWS_MAX)
		end_too_large(call);
	else if (more && iter->next < iter->nkeys)
		start_values(call);
	else
		finish_rows(call);
}

/* How many of the keys left are worth asking for now. */
static size_t wanted_keys(const struct redis_iter *iter, const struct question *question)
{
	size_t n = iter->nkeys - iter->next;
	bool all = question->max_rows == 0 || (question->flags & ITER_SORT_VALUE);
	if (!all && n > question->max_rows - iter->rows.n)
		n = (size_t)question->max_rows - iter->rows.n;
	return n < MGET_MAX ? n : MGET_MAX;
}

static void start_values(struct call *call)
{
	struct redis_iter *iter = iter_of(call);
	size_t left = wanted_keys(iter, call->query->ask), at = iter->next, commands = 0;
	arena_clear(&iter->round);
	while (left > 0) {
		size_t n = left < MGET_KEYS ? left : MGET_KEYS;
		struct str *words = arena_alloc(&iter->round, (n + 1) * sizeof(*words));
		words[0] = STR("MGET");
		memcpy(words + 1, iter->keys + at, n * sizeof(*words));
		iter->commands[commands++] = (struct redis_command){n + 1, words};
		at += n;
		left -= n;
	}
	call->again = false;
	call->answered = on_values;
	call_start(call, iter->commands, commands);
}

static int by_name(const void *a, const void *b)
{
	return str_cmp(*(const struct str *)a, *(const struct str *)b);
}

/* A key may come several times while the server's own table grows or shrinks. */
static void sort_keys(struct redis_iter *iter)
{
	size_t n = 0;
	if (iter->nkeys > 0)
		qsort(iter->keys, iter->nkeys, sizeof(*iter->keys), by_name);
	for (size_t i = 0; i < iter->nkeys; i++)
		if (n == 0 || !str_eq(iter->keys[i], iter->keys[n - 1]))
			iter->keys[n++] = iter->keys[i];
	iter->nkeys = n;
}

static void end_scan(struct call *call)
{
	struct redis_iter *iter = iter_of(call);
	sort_keys(iter);
	if (iter->nkeys > 0 && !(call->query->ask->flags & ITER_NO_VALUE)) {
		start_values(call);
		return;
	}
	for (size_t i = 0; i < iter->nkeys; i++)
		if (!rows_add(
			    &iter->rows, str_skip(iter->keys[i], iter->space), (struct str){"", 0}))
			break;
	finish_rows(call);
}

static void add_key(const struct call *call, struct str key)
{
	struct redis_iter *iter = iter_of(call);
	const struct question *question = call->query->ask;
	struct str name = str_skip(key, key.len < iter->space ? key.len : iter->space);
	if (!rows_want(question, name) ||
		key_is_reserved(&shared_of(call->query)->prefix, question->scope, name))
		return;
	if (iter->nkeys == iter->room) {
		iter->room = iter->room ? iter->room * 2 : 64;
		iter->keys = memory_grow(iter->keys, iter->room * sizeof(*iter->keys));
	}
	iter->keys[iter->nkeys++] = arena_str(iter->rows_mem, key);
	iter->bytes += key.len + sizeof(key);
}

static void start_scan(struct call *call);

static void on_scanned(struct call *call)
{
	struct redis_iter *iter = iter_of(call);
	if (!have_replies(call))
		return;
	const struct redis_reply *reply = &call->ask.replies[0], *parts = reply->items;
	if (reply->kind != REPLY_LIST || reply->n != 2 || parts[0].kind != REPLY_TEXT ||
		parts[1].kind != REPLY_LIST) {
		end_wrong(call, reply);
		return;
	}
	for (size_t i = 0; i < parts[1].n; i++)
		if (parts[1].items[i].kind == REPLY_TEXT)
			add_key(call, parts[1].items[i].text);
	if (iter->bytes > ROWS_MAX) {
		end_too_large(call);
	} else if (str_eq(parts[0].text, STR("0"))) {
		end_scan(call);
	} else {
		iter->cursor = arena_str(&iter->mem, parts[0].text);
		start_scan(call);
	}
}

static void start_scan(struct call *call)
{
	struct redis_iter *iter = iter_of(call);
	arena_clear(&iter->round);
	iter->scan[0] = STR("SCAN");
	iter->scan[1] = iter->cursor;
	iter->scan[2] = STR("MATCH");
	iter->scan[3] = iter->pattern;
	iter->scan[4] = STR("COUNT");
	iter->scan[5] = arena_printf(&iter->round, "%d", SCAN_COUNT);
	iter->commands[0] = (struct redis_command){6, iter->scan};
	call->again = false;
	call_start(call, iter->commands, 1);
}

static void start_iterate(struct query *query)
{
	struct str name;
	size_t space;
	if (query->ask->flags & ITER_EXACT_KEY) {
		start_lookup(query);
		return;
	}
	if (!name_key(query, query->ask->scope, query->ask->key, &name, &space))
		return;
	struct iteration *iteration = arena_alloc(query->mem, sizeof(*iteration));
	struct redis_iter *iter = memory_new(sizeof(*iter));
	iteration->iter = iter;
	iter->rows = (struct rows){.ask = query->ask, .lasting = true};
	iter->rows_mem = query->mem;
	iter->space = space;
	iter->pattern = key_pattern(name, &iter->mem);
	iter->cursor = STR("0");
	call_init(&iteration->call, query, on_scanned);
	iteration->call.ask.mem = &iter->round;
	start_scan(&iteration->call);
}

static void cancel(struct query *query)
{
	struct call *call = query->work;
	redis_cancel(&call->ask);
	if (query->ask->op == OP_ITERATE && !(query->ask->flags & ITER_EXACT_KEY)) {
		iter_free(iter_of(call));
		((struct iteration *)(void *)call)->iter = NULL;
	}
}

/* ---- change ---- */

/* A transaction with increments: what was there is kept first and put back when a step fails, so
 * that it happens whole or not at all, in one moment to everybody else.
 * ARGV: seconds to live or 0; then for each key what to do (S, U, A) and the value or the
 * difference. */
static const char script[] =
	"local expire, saved, done = ARGV[1], {}, 0\n"
	"local function failed(reply)\n"
	"  return type(reply) == 'table' and reply.err ~= nil\n"
	"end\n"
	"local function undo(reply)\n"
	"  for i = 1, done do\n"
	"    local key, back = KEYS[i], nil\n"
	"    local old = saved[key]\n"
	"    saved[key] = nil\n"
	"    if old and old.dump then\n"
	"      local ttl = old.ttl < 0 and 0 or math.max(old.ttl, 1)\n"
	"      back = redis.pcall('RESTORE', key, ttl, old.dump, 'REPLACE')\n"
	"    elseif old then\n"
	"      back = redis.pcall('DEL', key)\n"
	"    end\n"
	"    if failed(back) then return redis.error_reply('UNDO failed') end\n"
	"  end\n"
	"  return reply\n"
	"end\n"
	"if #KEYS > 1 or expire ~= '0' then\n"
	"  for _, key in ipairs(KEYS) do\n"
	"    saved[key] = saved[key] or\n"
	"      {ttl = redis.call('PTTL', key), dump = redis.call('DUMP', key)}\n"
	"  end\n"
	"end\n"
	"for i, key in ipairs(KEYS) do\n"
	"  local kind, value, reply = ARGV[2 * i], ARGV[2 * i + 1], nil\n"
	"  if kind == 'S' and expire == '0' then\n"
	"    reply = redis.pcall('SET', key, value)\n"
	"  elseif kind == 'S' then\n"
	"    reply = redis.pcall('SET', key, value, 'EX', expire)\n"
	"  elseif kind == 'U' then\n"
	"    reply = redis.pcall('DEL', key)\n"
	"  elseif redis.pcall('EXISTS', key) == 0 then\n"
	"    return undo(false)\n"
	"  else\n"
	"    reply = redis.pcall('INCRBY', key, value)\n"
	"    if expire ~= '0' and not failed(reply) then\n"
	"      done = i\n"
	"      reply = redis.pcall('EXPIRE', key, expire)\n"
	"    end\n"
	"  end\n"
	"  if failed(reply) then return undo(reply) end\n"
	"  done = i\n"
	"end\n"
	"return redis.status_reply('OK')\n";

static void finish_change(struct query *query, enum status status, bool uncertain, struct str why)
{
	query_finish(query, &(struct answer){.status = status, .uncertain = uncertain, .why = why});
}

static void on_counted(struct call *call)
{
	struct query *query = call->query;
	const struct redis_reply *reply = &call->ask.replies[0];
	struct str why;
	if (reply->kind == REPLY_NIL) {
		query_notfound(query);
	} else if (reply->kind == REPLY_TEXT) {
		finish_change(query, ST_OK, false, STR(""));
	} else if (reply->kind == REPLY_ERROR && says(reply, "not an integer")) {
		query_perm(query, "the value to increment is not a number");
	} else if (reply->kind == REPLY_ERROR && says(reply, "would overflow")) {
		query_perm(query, "the number would pass 64 bits");
	} else {
		enum status status = explain(query, reply, &why);
		/* An answer of the wrong kind is not Redis's; UNDO: it is half done. */
		bool uncertain =
			reply->kind != REPLY_ERROR || str_eq(redis_error_code(reply), STR("UNDO"));
		finish_change(query, status, uncertain, why);
	}
}

/* The first error among these, else NULL. */
static const struct redis_reply *first_error(const struct redis_reply *replies, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (replies[i].kind == REPLY_ERROR)
			return &replies[i];
	return NULL;
}

/* MULTI, the changes, EXEC. */
static void on_executed(struct call *call)
{
	struct query *query = call->query;
	size_t n = call->ask.ncommands;
	const struct redis_reply *replies = call->ask.replies, *exec = &replies[n - 1], *error;
	struct str why;
	if (exec->kind == REPLY_LIST) {
		error = first_error(exec->items, exec->n);
		if (!error && exec->n == n - 2) {
			finish_change(query, ST_OK, false, STR(""));
			return;
		}
		explain(query, error ? error : exec, &why);
		finish_change(query, ST_TEMP, true, why);
		return;
	}
	/* Without MULTI each of them was done for itself, or refused for itself. */
	bool alone = replies[0].kind == REPLY_ERROR;
	bool uncertain = exec->kind != REPLY_ERROR;
	for (size_t i = 1; alone && i < n - 1; i++)
		uncertain = uncertain || replies[i].kind != REPLY_ERROR;
	error = first_error(replies, n);
	explain(query, error ? error : exec, &why);
	finish_change(query, ST_TEMP, uncertain, why);
}

static void on_changed(struct call *call)
{
	const struct transaction *transaction = (struct transaction *)(void *)call;
	const struct redis_ask *ask = &call->ask;
	struct str why;
	if (ask->result != REDIS_REPLY) {
		finish_change(call->query, ST_TEMP, ask->result == REDIS_BROKEN, ask->why);
		return;
	}
	const struct redis_reply *reply = &ask->replies[0];
	if (transaction->script) {
		on_counted(call);
	} else if (ask->ncommands > 1) {
		on_executed(call);
	} else if (reply->kind == REPLY_ERROR) {
		enum status status = explain(call->query, reply, &why);
		finish_change(call->query, status, false, why);
	} else {
		finish_change(call->query, ST_OK, false, STR(""));
	}
}

static struct str print_expiry(const struct query *query)
{
	uint64_t secs = query->ask->expire_secs;
	return arena_printf(
		query->mem, "%llu", (unsigned long long)(secs < max_expiry ? secs : max_expiry));
}

static void start_script(struct transaction *transaction, const struct str *keys)
{
	struct query *query = transaction->call.query;
	const struct question *question = query->ask;
	size_t n = question->nchanges, at = 0;
	struct redis_command *command = arena_alloc(query->mem, sizeof(*command));
	struct str *words = arena_alloc(query->mem, (4 + 3 * n) * sizeof(*words));
	static const char *const kinds[] = {[CH_SET] = "S", [CH_UNSET] = "U", [CH_ADD] = "A"};
	words[at++] = STR("EVAL");
	words[at++] = STR(script);
	words[at++] = arena_printf(query->mem, "%zu", n);
	memcpy(words + at, keys, n * sizeof(*keys));
	at += n;
	words[at++] = print_expiry(query);
	for (size_t i = 0; i < n; i++) {
		const struct change *change = &question->changes[i];
		words[at++] = str_of(kinds[change->kind]);
		words[at++] = change->kind == CH_ADD
				      ? arena_printf(query->mem, "%lld", (long long)change->diff)
				      : change->value;
	}
	*command = (struct redis_command){at, words};
	transaction->script = true;
	call_start(&transaction->call, command, 1);
}

static struct redis_command make_command(
	const struct query *query, const struct change *change, struct str key)
{
	struct str *words = arena_alloc(query->mem, 5 * sizeof(*words));
	bool set = change->kind == CH_SET, expires = set && query->ask->expire_secs > 0;
	words[0] = set ? STR("SET") : STR("DEL");
	words[1] = key;
	words[2] = change->value;
	if (expires) {
		words[3] = STR("EX");
		words[4] = print_expiry(query);
	}
	return (struct redis_command){expires ? 5 : set ? 3 : 2, words};
}

static void start_multi(struct transaction *transaction, const struct str *keys)
{
	static const struct str multi[] = {{"MULTI", 5}}, exec[] = {{"EXEC", 4}};
	struct query *query = transaction->call.query;
	size_t n = query->ask->nchanges, at = 0;
	struct redis_command *commands = arena_alloc(query->mem, (n + 2) * sizeof(*commands));
	if (n > 1)
		commands[at++] = (struct redis_command){1, multi};
	for (size_t i = 0; i < n; i++)
		commands[at++] = make_command(query, &query->ask->changes[i], keys[i]);
	if (n > 1)
		commands[at++] = (struct redis_command){1, exec};
	call_start(&transaction->call, commands, at);
}

static void start_change(struct query *query)
{
	const struct question *question = query->ask;
	size_t n = question->nchanges, space;
	bool counts = false;
	struct str *keys = arena_alloc(query->mem, n * sizeof(*keys));
	struct transaction *transaction = arena_alloc(query->mem, sizeof(*transaction));
	for (size_t i = 0; i < n; i++) {
		const struct change *change = &question->changes[i];
		if (!name_key(query, change->scope, change->key, &keys[i], &space))
			return;
		counts = counts || change->kind == CH_ADD;
	}
	if (n == 0) {
		query_finish(query, &(struct answer){.status = ST_OK});
		return;
	}
	if (counts && n > MAX_COUNTED) {
		query_perm(
			query, "more than %d changes, with an increment among them", MAX_COUNTED);
		return;
	}
	call_init(&transaction->call, query, on_changed);
	transaction->call.writes = true;
	if (counts)
		start_script(transaction, keys);
	else
		start_multi(transaction, keys);
}

static void start(struct query *query)
{
	switch (query->ask->op) {
	case OP_LOOKUP:
		start_lookup(query);
		break;
	case OP_ITERATE:
		start_iterate(query);
		break;
	default:
		start_change(query);
		break;
	}
}

const struct backend backend_redis = {
	.name = "redis",
	.help = "strings in a Redis server: a dict that lasts and is shared",
	.ops = CAN(OP_LOOKUP) | CAN(OP_ITERATE) | CAN(OP_CHANGE),
	.can_expire = true,
	.can_break = true,
	.settings = settings,
	.conf_size = sizeof(struct redis_conf),
	.check = check,
	.drop = drop,
	.open = open_table,
	.close = close_table,
	.start = start,
	.cancel = cancel,
};
