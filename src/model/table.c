/* Backends, the tables configured with them, and the same tables as one worker lives them. */
#include "model/table.h"

#include <stdlib.h>

static const char *const empty_choices[] = {"auto", "notfound", "ok", NULL};

const struct setting table_settings[] = {
	{.name = "timeout",
		.kind = SET_MSEC,
		.offset = offsetof(struct table_options, timeout),
		.fallback = "10s",
		.min = 1,
		.max = 24L * 3600 * 1000,
		.help = "answer TEMP after so long; below the 30 s of Dovecot and 100 s of "
			"Postfix"},
	{.name = "empty",
		.kind = SET_CHOICE,
		.offset = offsetof(struct table_options, empty),
		.fallback = "auto",
		.choices = empty_choices,
		.help = "what an empty value means; auto: notfound to Postfix, ok to Dovecot"},
	{.name = "list_separator",
		.kind = SET_STR,
		.offset = offsetof(struct table_options, list_separator),
		.fallback = ",",
		.help = "between the items of a JSON list"},
	{.name = "value",
		.kind = SET_STR,
		.offset = offsetof(struct table_options, value),
		.fallback = "",
		.help = "JSON pointer (RFC 6901) to the value in the answer, /data/0/mail say"},
	{.name = "side_effects",
		.kind = SET_BOOL,
		.offset = offsetof(struct table_options, side_effects),
		.fallback = "no",
		.help = "asking changes something: never cached, retried, or shared by askers"},
	{.name = NULL},
};

const struct backend *backend_find(struct str name)
{
	for (size_t i = 0; backends[i]; i++)
		if (str_eq(str_of(backends[i]->name), name))
			return backends[i];
	return NULL;
}

static int by_name(const void *a, const void *b)
{
	const struct table *const *left = a, *const *right = b;
	return strcmp((*left)->conf->name, (*right)->conf->name);
}

static bool open_one(struct table *table, struct error *error)
{
	const struct backend *backend = table->conf->backend;
	if (!backend->open || backend->open(table, error))
		return true;
	return error_prefix(error, "table %s", table->conf->name);
}

struct table *table_set_find_same(const struct table_set *set, const struct table_conf *conf)
{
	for (size_t i = 0; i < set->n; i++) {
		const struct table_conf *other = set->tables[i].conf;
		if (other->backend == conf->backend && strcmp(other->name, conf->name) == 0)
			return &set->tables[i];
	}
	return NULL;
}

static const struct table *find_unchanged(
	const struct table_set *set, const struct table_conf *conf)
{
	const struct table *same = set ? table_set_find_same(set, conf) : NULL;
	return same && same->conf->digest == conf->digest ? same : NULL;
}

bool table_set_open(struct table_set *set, const struct table_conf *confs, size_t n,
	struct worker *worker, struct turn *turn, const struct table_set *before,
	struct error *error)
{
	*set = (struct table_set){
		.tables = memory_new(n * sizeof(*set->tables)),
		.by_name = memory_new(n * sizeof(*set->by_name)),
	};
	for (size_t i = 0; i < n; i++) {
		struct table *table = &set->tables[i];
		table->conf = &confs[i];
		table->worker = worker;
		table->turn = turn;
		table->set = set;
		table->before = find_unchanged(before, table->conf);
		TAILQ_INIT(&table->running);
		if (!open_one(table, error)) {
			table_set_close(set);
			return false;
		}
		table->before = NULL;
		if (!table->conf->hidden)
			set->by_name[set->nnames++] = table;
		set->n++;
	}
	qsort(set->by_name, set->nnames, sizeof(*set->by_name), by_name);
	return true;
}

void table_set_close(struct table_set *set)
{
	while (set->n > 0) { /* users before what they use */
		struct table *table = &set->tables[--set->n];
		if (table->conf->backend->close)
			table->conf->backend->close(table);
		for (size_t i = 0; i < MAX_PROTOCOLS; i++)
			free(table->traffic[i]);
	}
	free(set->tables);
	free(set->by_name);
	*set = (struct table_set){0};
}

void table_measure(const struct table_conf *table, uint64_t *counters)
{
	const struct backend *backend = table->backend;
	for (unsigned i = 0; backend->measure && i < MAX_COUNTERS; i++)
		if (backend->gauges & 1u << i)
			counters[i] = backend->measure(table, i);
}

static void take_counts(_Atomic uint64_t *to, _Atomic uint64_t *from, size_t n, unsigned gauges)
{
	for (size_t i = 0; i < n; i++) {
		if (gauges & 1u << i)
			continue;
		uint64_t part = atomic_load_explicit(&from[i], memory_order_relaxed);
		uint64_t sum = atomic_load_explicit(&to[i], memory_order_relaxed) + part;
		atomic_store_explicit(&to[i], sum, memory_order_relaxed);
		atomic_store_explicit(&from[i], 0, memory_order_relaxed);
	}
}

static void take_traffic(struct table *to, struct table *from)
{
	for (unsigned i = 0; i < MAX_PROTOCOLS; i++) {
		if (!from->traffic[i])
			continue;
		traffic_merge(table_traffic(to, i), from->traffic[i]);
		*from->traffic[i] = (struct traffic){0};
	}
	histogram_merge(&to->took, &from->took);
	from->took = (struct histogram){0};
}

void table_set_take_stats(struct table_set *to, struct table_set *from)
{
	for (size_t i = 0; i < from->n; i++) {
		struct table_stats *part = &from->tables[i].stats;
		struct table *heir = table_set_find_same(to, from->tables[i].conf);
		if (!heir)
			continue;
		take_counts(heir->stats.results, part->results, ST_COUNT, 0);
		take_counts(heir->stats.counters, part->counters, MAX_COUNTERS,
			heir->conf->backend->gauges);
		take_traffic(heir, &from->tables[i]);
	}
}

struct table *table_set_find(const struct table_set *set, struct str name)
{
	size_t low = 0, high = set->nnames;
	while (low < high) {
		size_t middle = (low + high) / 2;
		struct table *table = set->by_name[middle];
		int order = str_cmp(name, str_of(table->conf->name));
		if (order == 0)
			return table;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

void table_forget(const struct table *table, const struct str *key)
{
	for (;; table = table_inner(table)) {
		if (table->conf->backend->forget)
			table->conf->backend->forget(table, key);
		if (!table->conf->inner)
			return;
	}
}
