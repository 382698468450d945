/* The cache: its options, and what can be prepared from them for all workers. */
#include <stdlib.h>

#include "cache.h"

#define DAY_MS INT64_C(86400000)
#define YEAR_MS (365 * DAY_MS)

#define AT(member) .offset = offsetof(struct cache_conf, member)

const struct setting cache_settings[] = {
	{.name = "cache.ttl",
		.kind = SET_STR,
		AT(ttl_text),
		.fallback = "",
		.help = "keep answers for so long; source: for as long as DNS or Cache-Control "
			"says, and what they say nothing of not at all"},
	{.name = "cache.negative_ttl",
		.kind = SET_MSEC,
		AT(negative_ttl),
		.fallback = "",
		.max = YEAR_MS,
		.help = "keep for so long that a key was not found"},
	{.name = "cache.stale",
		.kind = SET_MSEC,
		AT(stale),
		.fallback = "0",
		.max = YEAR_MS,
		.help = "use an expired answer for so long when the table fails or is slow"},
	{.name = "cache.stale_timeout",
		.kind = SET_MSEC,
		AT(stale_timeout),
		.fallback = "1800ms",
		.min = 1,
		.max = 3600000,
		.help = "slow is what takes longer than this"},
	{.name = "cache.max_ttl",
		.kind = SET_MSEC,
		AT(max_ttl),
		.fallback = "",
		.min = 1000,
		.max = YEAR_MS,
		.help = "with ttl: source, nothing is kept longer; 24h unless given"},
	{.name = "cache.max_entries",
		.kind = SET_INT,
		AT(max_entries),
		.fallback = "1000000",
		.min = 1,
		.max = 1 << 30,
		.help = "answers kept, by all workers together; the least recently used go first"},
	{.name = "cache.max_bytes",
		.kind = SET_BYTES,
		AT(max_bytes),
		.fallback = "64m",
		.min = 64 << 10,
		.max = INT64_C(1) << 40,
		.help = "memory for them"},
	{.name = "cache.shared",
		.kind = SET_SECRET,
		AT(shared),
		.fallback = "",
		.help = "redis://[:password@]host:port/db?prefix=... or redis+unix:PATH: a second "
			"level that several mapmux share"},
	{.name = "cache.vary",
		.kind = SET_LIST,
		AT(vary_list),
		.fallback = "",
		.help = "what an answer depends on beside the key: user, names of attributes, or "
			"key for nothing else; everything unless given"},
	{.name = NULL},
};

/* Equal questions share a request wherever it takes time: not where the answer is there at once, nor
 * where tables are asked that do so themselves. */
bool cache_wanted(const struct table_conf *inner, const void *conf_of_table)
{
	const struct cache_conf *conf = conf_of_table;
	bool slow = inner->backend->cancel && !inner->backend->asks_tables &&
		    !inner->backend->asks_nobody;
	if (inner->options.side_effects)
		return false;
	return slow || conf->ttl_text[0] || conf->negative_ttl >= 0 || conf->stale > 0 ||
	       conf->shared[0] || conf->max_ttl >= 0 || conf->vary_list.n > 0;
}

static bool read_ttl(struct cache_conf *conf, struct error *error)
{
	struct str text = str_of(conf->ttl_text);
	conf->by_source = str_eq(text, STR("source"));
	conf->ttl = 0;
	if (conf->by_source || text.len == 0)
		return true;
	if (!setting_msec(text, &conf->ttl))
		return error_set(error,
			"cache.ttl: \"%.80s\" is no duration; write it like 500ms, 5s, 2m or 1h, "
			"or source",
			text.ptr);
	if (conf->ttl > YEAR_MS)
		return error_set(error,
			"cache.ttl: \"%.80s\" is out of range; allowed: 0 to 8760h, or source",
			text.ptr);
	return true;
}

/* What has no effect is taken for a mistake. */
static bool check_company(const struct cache_conf *conf, struct error *error)
{
	if (conf->stale > 0 && !conf->keeps)
		return error_set(error,
			"cache.stale: nothing is kept that could be stale; allowed: together with "
			"cache.ttl or cache.negative_ttl");
	if (conf->shared[0] && !conf->keeps)
		return error_set(error, "cache.shared: nothing is kept that could be shared; "
					"allowed: together with "
					"cache.ttl or cache.negative_ttl");
	if (conf->max_ttl >= 0 && !conf->by_source)
		return error_set(
			error, "cache.max_ttl: bounds nothing; allowed: with cache.ttl: source");
	return true;
}

static void read_vary(struct cache_conf *conf, struct arena *mem)
{
	const struct setting_list *list = &conf->vary_list;
	struct str *attrs = arena_alloc(mem, list->n * sizeof(*attrs));
	conf->vary = (struct vary){.narrowed = list->n > 0, .attrs = attrs};
	for (size_t i = 0; i < list->n; i++) {
		if (str_eq(list->items[i], STR("user")))
			conf->vary.user = true;
		else if (!str_eq(list->items[i], STR("key")))
			attrs[conf->vary.nattrs++] = list->items[i];
	}
	/* Who asks twice may have to be counted twice: only where somebody has said what counts. */
	conf->policy = conf->vary.nattrs > 0;
}

static bool read_level(struct table_conf *table, const struct cache_conf *conf, struct error *error)
{
	struct cache_prepared *prepared = table->shared;
	if (!conf->shared[0])
		return true;
	prepared->level = arena_alloc(&prepared->mem, sizeof(*prepared->level));
	return level_parse(conf->shared, table->name, &prepared->mem, prepared->level, error) ||
	       error_prefix(error, "cache.shared");
}

bool cache_check(struct table_conf *table, struct error *error)
{
	struct cache_conf *conf = table->conf;
	if (!read_ttl(conf, error))
		return false;
	conf->keeps = conf->by_source || conf->ttl > 0 || conf->negative_ttl > 0;
	if (!check_company(conf, error))
		return false;
	conf->longest = conf->max_ttl > 0 ? conf->max_ttl : DAY_MS;
	if (!conf->by_source)
		conf->longest = conf->ttl > conf->negative_ttl ? conf->ttl : conf->negative_ttl;
	for (struct table_conf *inner = table->inner; inner; inner = inner->inner)
		inner->wants_ttl = conf->by_source;
	struct cache_prepared *prepared = memory_new(sizeof(*prepared));
	table->shared = prepared;
	prepared->common = cache_common_new();
	read_vary(conf, &prepared->mem);
	if (read_level(table, conf, error))
		return true;
	cache_drop(table);
	return false;
}

void cache_drop(struct table_conf *table)
{
	struct cache_prepared *prepared = table->shared;
	if (!prepared)
		return;
	cache_common_release(prepared->common);
	arena_clear(&prepared->mem);
	free(prepared);
	table->shared = NULL;
}

void cache_inherit(struct table_conf *now, const struct table_conf *before)
{
	const struct cache_prepared *from = before->shared;
	struct cache_prepared *to = now->shared;
	cache_common_release(to->common);
	to->common = cache_common_keep(from->common);
}

static int64_t least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

int64_t cache_lifetime(const struct cache_conf *conf, const struct answer *answer)
{
	bool found = answer->status == ST_OK;
	if (answer->no_store || (!found && answer->status != ST_NOTFOUND))
		return 0;
	if (!found && conf->negative_ttl == 0)
		return 0;
	if (conf->by_source && answer->ttl > 0)
		return least((int64_t)answer->ttl * 1000, conf->longest);
	if (found)
		return conf->ttl;
	return conf->negative_ttl > 0 ? conf->negative_ttl : 0;
}
