/* Counters in Redis: a sorted set for each identity, as userli-postfix-adapter keeps them. Members are
 * events, scores their times in nanoseconds since 1970. */
#include "ratelimit.h"

#include <inttypes.h>
#include <sys/random.h>

#include "list.h"

enum { MAX_REPLY = 65536 };

/* All at once, by the server's clock, so that neither workers nor hosts need agree on the time.
 * ARGV: seconds to live, how many to count, whether in any case, a name for these; then for each limit its
 * number and its milliseconds. Answers the number of the first limit that is passed (0: none), then for each
 * limit how much was used and in how many milliseconds something becomes free. */
static const char script[] =
	"local time = redis.call('TIME')\n"
	"local now = (time[1] * 1000000 + time[2]) * 1000\n"
	"local n, always = tonumber(ARGV[2]), ARGV[3] == '1'\n"
	"local reply, longest = {0}, 0\n"
	"for i = 5, #ARGV, 2 do\n"
	"  longest = math.max(longest, tonumber(ARGV[i + 1]) * 1000000)\n"
	"end\n"
	"redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - longest))\n"
	"for i = 5, #ARGV, 2 do\n"
	"  local span = ARGV[i + 1] * 1000000\n"
	"  local from = string.format('(%.0f', now - span)\n"
	"  local used, free = redis.call('ZCOUNT', KEYS[1], from, '+inf'), 0\n"
	"  if used + n > tonumber(ARGV[i]) and reply[1] == 0 then reply[1] = (i - 3) / 2 end\n"
	"  if n == 0 and used > 0 then\n"
	"    local first = redis.call('ZRANGEBYSCORE', KEYS[1], from, '+inf', 'WITHSCORES', "
	"'LIMIT', 0, 1)\n"
	"    free = math.ceil((first[2] + span - now) / 1000000)\n"
	"  end\n"
	"  reply[#reply + 1] = used\n"
	"  reply[#reply + 1] = free\n"
	"end\n"
	"if n > 0 and (reply[1] == 0 or always) then\n"
	"  local score = string.format('%.0f', now)\n"
	"  for i = 1, n do\n"
	"    redis.call('ZADD', KEYS[1], score, score .. ':' .. ARGV[4] .. ':' .. i)\n"
	"  end\n"
	"  redis.call('EXPIRE', KEYS[1], ARGV[1])\n"
	"end\n"
	"return reply\n";

/* From here on nobody finds the password in the setting. */
bool ratelimit_redis_check(struct table_conf *table, struct error *error)
{
	struct ratelimit_conf *conf = table->conf;
	struct ratelimit_shared *shared = table->shared;
	struct setting_map rest;
	if (!redis_parse_url(conf->store, &shared->mem, &shared->redis, &rest, error))
		return error_prefix(error, "store");
	conf->store = redis_url_public(conf->store, &shared->mem).ptr;
	if (rest.n > 0)
		return error_set(
			error, "store: an unknown parameter stands behind '?'; allowed: db");
	if (conf->password[0] && shared->redis.password[0])
		return error_set(error, "password: there is one in store already");
	if (conf->password[0])
		shared->redis.password = conf->password;
	/* Limits have half of the timeout: with these there is time left to answer on_error. */
	int64_t fifth = (table->options.timeout + 4) / 5;
	shared->redis.connect_timeout_ms = fifth < 2000 ? fifth : 2000;
	shared->redis.silence_ms = fifth;
	shared->redis.max_reply = MAX_REPLY;
	shared->where = redis_where(&shared->redis, &shared->mem).ptr;
	return true;
}

static const struct ratelimit_shared *shared_of(const struct count *count)
{
	return count->parent->table->conf->shared;
}

static struct str key_of(const struct count *count)
{
	const struct ratelimit_conf *conf = count->parent->table->conf->conf;
	return arena_printf(count->parent->mem, "%s%.*s", conf->key_prefix,
		(int)count->identity.len, count->identity.ptr);
}

static struct str print(const struct count *count, uint64_t n)
{
	return arena_printf(count->parent->mem, "%" PRIu64, n);
}

static void fail(struct count *count, struct str why)
{
	count->failed = arena_printf(
		count->parent->mem, "%s: %.*s", shared_of(count)->where, (int)why.len, why.ptr);
}

/* The reply, if it is one without an error. */
static const struct redis_reply *reply_of(struct count *count)
{
	const struct redis_ask *ask = &count->redis;
	if (ask->result != REDIS_REPLY) {
		fail(count, ask->why);
		return NULL;
	}
	if (ask->replies[0].kind == REPLY_ERROR) {
		fail(count, redis_error_code(&ask->replies[0]));
		return NULL;
	}
	return &ask->replies[0];
}

static bool is_numbers(const struct redis_reply *reply, size_t n)
{
	if (reply->kind != REPLY_LIST || reply->n != n)
		return false;
	for (size_t i = 0; i < n; i++)
		if (reply->items[i].kind != REPLY_NUMBER || reply->items[i].number < 0)
			return false;
	return true;
}

static void read_counts(struct count *count)
{
	const struct redis_reply *reply = reply_of(count);
	if (!reply)
		return;
	if (!is_numbers(reply, 1 + 2 * count->rules.n)) {
		fail(count, STR("an answer of the wrong kind"));
		return;
	}
	count->passed = (int)reply->items[0].number - 1;
	for (size_t i = 0; i < count->rules.n; i++) {
		uint64_t in_ms = (uint64_t)reply->items[2 + 2 * i].number;
		count->uses[i].used = (uint64_t)reply->items[1 + 2 * i].number;
		count->uses[i].free_ms = count->parent->table->turn->now_ms + in_ms;
	}
}

/* ---- asking ---- */

static struct count *count_of(struct redis_ask *ask)
{
	return (struct count *)(void *)((char *)ask - offsetof(struct count, redis));
}

static void send(struct count *count, size_t nwords, void (*answered)(struct redis_ask *))
{
	count->command = (struct redis_command){nwords, count->words};
	count->redis = (struct redis_ask){.mem = count->parent->mem,
		.done = answered,
		.asker = count->parent,
		.commands = &count->command,
		.ncommands = 1};
	redis_start(count->parent->table->state, &count->redis);
}

static void on_counted(struct redis_ask *ask)
{
	struct count *count = count_of(ask);
	read_counts(count);
	count->done(count);
}

/* Longer than the longest window, for those that look at a counter; the same as the adapter's for a day. */
static uint64_t lifetime(const struct window_rules *rules)
{
	return window_rules_span(rules).longest_ms / 1000 + 3600;
}

/* Two hosts may count in the same nanosecond. */
static struct str nonce(struct arena *mem)
{
	uint64_t random = 0;
	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0)
		random = (uint64_t)(uintptr_t)mem; /* the machine has just started */
	return arena_printf(mem, "%" PRIx64, random);
}

void ratelimit_redis_count(struct count *count, void (*done)(struct count *))
{
	const struct ratelimit_conf *conf = count->parent->table->conf->conf;
	struct arena *mem = count->parent->mem;
	struct str *words = count->words;
	size_t n = 0;
	words[n++] = STR("EVAL");
	words[n++] = STR(script);
	words[n++] = STR("1");
	words[n++] = key_of(count);
	words[n++] = print(count, lifetime(&count->rules));
	words[n++] = print(count, count->n);
	words[n++] = conf->count_rejected ? STR("1") : STR("0");
	words[n++] = nonce(mem);
	for (size_t i = 0; i < count->rules.n; i++) {
		words[n++] = print(count, count->rules.limits[i].most);
		words[n++] = print(count, count->rules.limits[i].ms);
	}
	count->done = done;
	send(count, n, on_counted);
}

static void on_forgotten(struct redis_ask *ask)
{
	struct count *count = count_of(ask);
	reply_of(count);
	count->done(count);
}

void ratelimit_redis_reset(struct count *count, void (*done)(struct count *))
{
	count->words[0] = STR("DEL");
	count->words[1] = key_of(count);
	count->done = done;
	send(count, 2, on_forgotten);
}
