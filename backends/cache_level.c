/* The second level of a cache: a Redis server that several processes share.
 *
 * PREFIX:HASH     an answer, behind the question it belongs to; gone when its time is over
 * PREFIX:w:HASH   a mark: the key was changed, or is about to be
 * PREFIX:w        the same for iterations: some key was
 *
 * A mark outlives every answer that was asked for before it was set, so that nobody needs to find and
 * delete these. It is set before the change begins. Where that fails, this process stops using the level
 * for the key for as long as the mark would have lived. */
#include "cache_level.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/worker.h"

enum {
	WAIT_MS = 200,        /* for a read or a mark: then it is as if the server were down */
	PAUSE_MS = 1000,      /* without asking, after a failure */
	LONGEST_MS = 3600000, /* that an answer stays there */
	SLACK_MS = 30000,     /* a command may lie in a socket for a while before it counts */
	MAX_VALUE = 1 << 20,  /* bytes; larger answers are not for the level */
	MAX_FILLS = 256,      /* under way */
	CONNECT_MS = 2000,
	SILENCE_MS = 1000,
	VERSION = 1,
	COMPLAINT_MS = 60000,
};

struct level {
	struct table *table;
	const struct level_options *options;
	struct cache_common *common;
	struct redis *redis;
	uint64_t paused_until_ms;
	int64_t longest_ms, mark_ms;
	unsigned nfills;
	LIST_HEAD(, fill) fills;
	struct log_limit complaints;
};

/* An answer on its way to the server. */
struct fill {
	struct redis_ask ask;
	struct redis_command command;
	struct str words[5];
	struct level *level;
	struct timer slow;
	LIST_ENTRY(fill) link;
	struct arena mem;
};

/* ---- the option ---- */

bool level_parse(const char *url, const char *table, struct arena *mem,
	struct level_options *options, struct error *error)
{
	struct setting_map parameters;
	const char *prefix = "mapmux:cache:";
	if (!redis_parse_url(url, mem, &options->redis, &parameters, error))
		return false;
	for (size_t i = 0; i < parameters.n; i++) {
		if (!str_eq(parameters.pairs[i].name, STR("prefix")))
			return error_set(error,
				"an unknown parameter stands behind '?'; allowed: prefix, db");
		prefix = parameters.pairs[i].value.ptr;
	}
	if (options->redis.user[0] && !options->redis.password[0])
		return error_set(error, "a user needs a password");
	options->prefix = arena_printf(mem, "%s%s:", prefix, table).ptr;
	options->redis.connect_timeout_ms = CONNECT_MS;
	options->redis.silence_ms = SILENCE_MS;
	options->redis.max_reply = (size_t)2 * MAX_VALUE;
	return true;
}

struct level *level_new(struct table *table, const struct level_options *options,
	struct cache_common *common, int64_t longest_ms)
{
	struct level *level = memory_new(sizeof(*level));
	level->table = table;
	level->options = options;
	level->common = common;
	level->redis = redis_new(worker_base(table->worker), table->turn, &options->redis);
	level->longest_ms = longest_ms < LONGEST_MS ? longest_ms : LONGEST_MS;
	level->mark_ms = level->longest_ms + 2 * table->conf->options.timeout + SLACK_MS;
	LIST_INIT(&level->fills);
	return level;
}

/* ---- names ---- */

/* The same in every process; who finds two texts of one hash finds a miss. */
static struct str hashed(
	const struct level *level, const char *kind, struct str text, struct arena *mem)
{
	static const struct siphash_key one = {0x6d61706d75780001u, 0x63616368650001u};
	static const struct siphash_key two = {0x6d61706d75780002u, 0x63616368650002u};
	return arena_printf(mem, "%s%s%016" PRIx64 "%016" PRIx64, level->options->prefix, kind,
		siphash(&one, text), siphash(&two, text));
}

static struct str name_of_mark(const struct level *level, struct str key, struct arena *mem)
{
	return hashed(level, "w:", key, mem);
}

static struct str name_of_any_mark(const struct level *level, struct arena *mem)
{
	return arena_printf(mem, "%sw", level->options->prefix);
}

/* ---- trouble ---- */

static uint64_t now_of(const struct level *level)
{
	return level->table->turn->now_ms;
}

static struct timers *timers_of(const struct level *level)
{
	return level->table->turn->timers;
}

static void pause_for_a_while(struct level *level, const char *why)
{
	unsigned held;
	level->paused_until_ms = now_of(level) + PAUSE_MS;
	if (log_allowed(&level->complaints, COMPLAINT_MS, &held))
		log_warn("table %s: cache.shared is of no use now: %s", level->table->conf->name,
			why);
}

/* Did the server do it? An error of its own (out of memory, read only) is a failure too. */
static bool succeeded(struct level *level, const struct redis_ask *ask)
{
	if (ask->result != REDIS_REPLY) {
		pause_for_a_while(level, ask->why.ptr);
		return false;
	}
	for (size_t i = 0; i < ask->ncommands; i++)
		if (ask->replies[i].kind == REPLY_ERROR) {
			struct str code = redis_error_code(&ask->replies[i]);
			char text[64];
			snprintf(text, sizeof(text), "answered by %.*s",
				(int)(code.len < 32 ? code.len : 32), code.ptr);
			pause_for_a_while(level, text);
			return false;
		}
	return true;
}

static void distrust_slot(const struct level *level, unsigned slot)
{
	atomic_store(&level->common->distrusted[slot], turn_clock_ms() + (uint64_t)level->mark_ms);
}

void level_distrust(const struct level *level, const struct str *key)
{
	distrust_slot(level, CACHE_ITERATIONS);
	if (key)
		distrust_slot(level, cache_slot(*key));
	for (unsigned slot = 0; !key && slot < CACHE_SLOTS; slot++)
		distrust_slot(level, slot);
}

static bool may_ask(const struct level *level, unsigned slot)
{
	return level->paused_until_ms <= now_of(level) &&
	       atomic_load(&level->common->distrusted[slot]) <= now_of(level);
}

/* ---- reading ---- */

/* An answer behind its question; anything else is a miss. */
static bool read_value(struct level_read *read, struct str value)
{
	struct str name = read->place->name;
	uint32_t len;
	if (value.len < 1 + sizeof(len) || value.ptr[0] != VERSION)
		return false;
	memcpy(&len, value.ptr + 1, sizeof(len));
	value = str_skip(value, 1 + sizeof(len));
	if (len != name.len || !str_starts(value, name))
		return false;
	return answer_unpack(str_skip(value, name.len), &read->answer, read->mem);
}

static void read_replies(struct level_read *read)
{
	const struct redis_reply *both = &read->ask.replies[0], *left = &read->ask.replies[1];
	if (both->kind != REPLY_LIST || both->n != 2 || left->kind != REPLY_NUMBER)
		return;
	if (both->items[1].kind != REPLY_NIL)
		return; /* marked */
	read->may_fill = true;
	read->left_ms = left->number;
	read->found = both->items[0].kind == REPLY_TEXT && left->number > 0 &&
		      read_value(read, both->items[0].text);
	if (read->found)
		read->answer.ttl = (unsigned)((left->number + 999) / 1000);
}

static void end_read(struct level_read *read)
{
	timer_clear(&read->slow);
	read->level = NULL;
	read->done(read);
}

static void on_read(struct redis_ask *ask)
{
	struct level_read *read =
		(struct level_read *)(void *)((char *)ask - offsetof(struct level_read, ask));
	if (succeeded(read->level, ask))
		read_replies(read);
	end_read(read);
}

static void on_slow_read(struct timer *timer)
{
	struct level_read *read =
		(struct level_read *)(void *)((char *)timer - offsetof(struct level_read, slow));
	pause_for_a_while(read->level, "no answer in time");
	redis_cancel(&read->ask);
	end_read(read);
}

bool level_read_start(struct level *level, struct level_read *read, const struct cache_place *place,
	struct arena *mem, void (*done)(struct level_read *))
{
	if (!may_ask(level, place->slot))
		return false;
	*read = (struct level_read){.done = done, .level = level, .place = place, .mem = mem};
	read->words[0] = STR("MGET");
	read->words[1] = hashed(level, "", place->name, mem);
	read->words[2] = place->slot == CACHE_ITERATIONS ? name_of_any_mark(level, mem)
							 : name_of_mark(level, place->key, mem);
	read->words[3] = STR("PTTL");
	read->words[4] = read->words[1];
	read->commands[0] = (struct redis_command){3, read->words};
	read->commands[1] = (struct redis_command){2, read->words + 3};
	read->ask = (struct redis_ask){
		.mem = mem, .done = on_read, .commands = read->commands, .ncommands = 2};
	timer_set(timers_of(level), &read->slow, now_of(level) + WAIT_MS, on_slow_read);
	redis_start(level->redis, &read->ask);
	return true;
}

void level_read_cancel(struct level_read *read)
{
	if (!read->level)
		return;
	timer_clear(&read->slow);
	redis_cancel(&read->ask);
	read->level = NULL;
}

/* ---- filling ---- */

static void fill_free(struct fill *fill)
{
	timer_clear(&fill->slow);
	redis_cancel(&fill->ask);
	LIST_REMOVE(fill, link);
	fill->level->nfills--;
	arena_clear(&fill->mem);
	free(fill);
}

static void on_filled(struct redis_ask *ask)
{
	struct fill *fill = (struct fill *)(void *)((char *)ask - offsetof(struct fill, ask));
	succeeded(fill->level, ask);
	fill_free(fill);
}

static void on_slow_fill(struct timer *timer)
{
	struct fill *fill = (struct fill *)(void *)((char *)timer - offsetof(struct fill, slow));
	pause_for_a_while(fill->level, "no answer in time");
	fill_free(fill);
}

static struct str value_of(
	const struct cache_place *place, const struct answer *answer, struct arena *mem)
{
	uint32_t len = (uint32_t)place->name.len;
	size_t size = 1 + sizeof(len) + len + answer_packed_size(answer);
	char *value = arena_alloc(mem, size);
	value[0] = VERSION;
	memcpy(value + 1, &len, sizeof(len));
	memcpy(value + 1 + sizeof(len), place->name.ptr, len);
	answer_pack(answer, value + 1 + sizeof(len) + len);
	return (struct str){value, size};
}

void level_fill(struct level *level, const struct cache_place *place, const struct answer *answer,
	int64_t ttl_ms)
{
	if (!may_ask(level, place->slot) || level->nfills >= MAX_FILLS ||
		place->name.len + answer_packed_size(answer) > MAX_VALUE)
		return;
	struct fill *fill = memory_new(sizeof(*fill));
	fill->level = level;
	fill->words[0] = STR("SET");
	fill->words[1] = hashed(level, "", place->name, &fill->mem);
	fill->words[2] = value_of(place, answer, &fill->mem);
	fill->words[3] = STR("PX");
	fill->words[4] = arena_printf(
		&fill->mem, "%" PRIi64, ttl_ms < level->longest_ms ? ttl_ms : level->longest_ms);
	fill->command = (struct redis_command){5, fill->words};
	fill->ask = (struct redis_ask){
		.mem = &fill->mem, .done = on_filled, .commands = &fill->command, .ncommands = 1};
	LIST_INSERT_HEAD(&level->fills, fill, link);
	level->nfills++;
	timer_set(timers_of(level), &fill->slow, now_of(level) + WAIT_MS, on_slow_fill);
	redis_start(level->redis, &fill->ask);
}

void level_free(struct level *level)
{
	struct fill *fill, *next;
	for (fill = LIST_FIRST(&level->fills); fill; fill = next) {
		next = LIST_NEXT(fill, link);
		fill_free(fill);
	}
	redis_free(level->redis);
	free(level);
}

/* ---- marking ---- */

static void distrust_changes(const struct level *level, const struct question *change)
{
	for (size_t i = 0; i < change->nchanges; i++)
		level_distrust(level, &change->changes[i].key);
}

static void end_mark(struct level_mark *mark, bool marked)
{
	struct level *level = mark->level;
	timer_clear(&mark->slow);
	mark->level = NULL;
	if (!marked)
		distrust_changes(level, mark->change);
	mark->done(mark);
}

static void on_marked(struct redis_ask *ask)
{
	struct level_mark *mark =
		(struct level_mark *)(void *)((char *)ask - offsetof(struct level_mark, ask));
	end_mark(mark, succeeded(mark->level, ask));
}

static void on_slow_mark(struct timer *timer)
{
	struct level_mark *mark =
		(struct level_mark *)(void *)((char *)timer - offsetof(struct level_mark, slow));
	pause_for_a_while(mark->level, "no answer in time");
	redis_cancel(&mark->ask);
	end_mark(mark, false);
}

static struct redis_command set_mark(struct str name, struct str life, struct arena *mem)
{
	struct str *words = arena_alloc(mem, 5 * sizeof(*words));
	words[0] = STR("SET");
	words[1] = name;
	words[2] = STR("");
	words[3] = STR("PX");
	words[4] = life;
	return (struct redis_command){5, words};
}

bool level_mark_start(struct level *level, struct level_mark *mark, const struct question *change,
	struct arena *mem, void (*done)(struct level_mark *))
{
	size_t n = 0;
	if (level->paused_until_ms > now_of(level)) {
		distrust_changes(level, change);
		return false;
	}
	struct redis_command *commands =
		arena_alloc(mem, (change->nchanges + 1) * sizeof(*commands));
	struct str life = arena_printf(mem, "%" PRIi64, level->mark_ms);
	for (size_t i = 0; i < change->nchanges; i++)
		commands[n++] =
			set_mark(name_of_mark(level, change->changes[i].key, mem), life, mem);
	commands[n++] = set_mark(name_of_any_mark(level, mem), life, mem);
	*mark = (struct level_mark){.done = done, .level = level, .change = change};
	mark->ask = (struct redis_ask){
		.mem = mem, .done = on_marked, .commands = commands, .ncommands = n};
	timer_set(timers_of(level), &mark->slow, now_of(level) + WAIT_MS, on_slow_mark);
	redis_start(level->redis, &mark->ask);
	return true;
}

void level_mark_cancel(struct level_mark *mark)
{
	if (!mark->level)
		return;
	timer_clear(&mark->slow);
	redis_cancel(&mark->ask);
	mark->level = NULL;
}
