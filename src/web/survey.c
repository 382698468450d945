/* The figures of all workers, added up by a letter that visits them. */
#include "web/survey.h"

#include <stdlib.h>

static struct table *find_in(const struct table_set *set, const struct table_conf *conf)
{
	if (conf->index < set->n && set->tables[conf->index].conf == conf)
		return &set->tables[conf->index];
	return table_set_find_same(set, conf); /* a reload is under way */
}

static void add_traffic(struct survey *survey, struct table_sum *sum, const struct table *table)
{
	for (unsigned i = 0; i < MAX_PROTOCOLS; i++) {
		if (!table->traffic[i])
			continue;
		if (!sum->traffic[i])
			sum->traffic[i] = arena_alloc(&survey->mem, sizeof(struct traffic));
		traffic_merge(sum->traffic[i], table->traffic[i]);
	}
}

static void add_table(struct survey *survey, struct table_sum *sum, struct table *table)
{
	const struct table_stats *stats = &table->stats;
	bool lately = table->turn->now_ms - table->failed_ms < FAILING_FOR_MS;
	add_traffic(survey, sum, table);
	for (size_t i = 0; i < ST_COUNT; i++)
		sum->results[i] += atomic_load_explicit(&stats->results[i], memory_order_relaxed);
	for (size_t i = 0; i < MAX_COUNTERS; i++)
		sum->counters[i] += atomic_load_explicit(&stats->counters[i], memory_order_relaxed);
	histogram_merge(&sum->took, &table->took);
	sum->inflight += table->inflight;
	if (lately && table->failures > sum->failures)
		sum->failures = table->failures;
}

/* Listeners come and go with a reload: their words are copied. */
static void add_listener(struct survey *survey, const struct listener_stats *stats)
{
	struct listener_sum *sum;
	STAILQ_FOREACH (sum, &survey->listeners, link)
		if (strcmp(sum->address, stats->address) == 0 &&
			strcmp(sum->protocol, stats->protocol) == 0)
			break;
	if (!sum) {
		sum = arena_alloc(&survey->mem, sizeof(*sum));
		sum->protocol = stats->protocol;
		sum->address = arena_str(&survey->mem, str_of(stats->address)).ptr;
		STAILQ_INSERT_TAIL(&survey->listeners, sum, link);
	}
	sum->open += atomic_load_explicit(stats->open, memory_order_relaxed);
}

static void add_worker(struct survey *survey, struct worker *worker)
{
	const struct stats *stats = worker_stats(worker);
	const struct table_set *set = worker_tables(worker);
	const struct listener_stats *listener;
	for (size_t i = 0; i < survey->ntables; i++) {
		struct table *table = find_in(set, survey->tables[i].conf);
		if (table)
			add_table(survey, &survey->tables[i], table);
	}
	LIST_FOREACH (listener, &stats->listeners, link)
		add_listener(survey, listener);
	for (size_t i = 0; i < stats->errors.n; i++) {
		const struct error_count *error = &stats->errors.errors[i];
		errors_add(&survey->errors, error->protocol, error->reason, error->n);
	}
}

static void come_home(struct worker *worker, struct letter *letter)
{
	struct survey *survey = (struct survey *)(void *)letter;
	(void)worker;
	for (size_t i = 0; i < survey->ntables; i++)
		table_measure(survey->tables[i].conf, survey->tables[i].counters);
	if (survey->done)
		survey->done(survey);
	table_set_leave(survey->set);
	arena_clear(&survey->mem);
	free(survey);
}

static void send_on(struct survey *survey);

static void visit(struct worker *worker, struct letter *letter)
{
	struct survey *survey = (struct survey *)(void *)letter;
	add_worker(survey, worker);
	survey->next++;
	send_on(survey);
}

static void send_on(struct survey *survey)
{
	bool over = survey->next == survey->crew->n;
	survey->letter.open = over ? come_home : visit;
	worker_post(over ? survey->home : survey->crew->workers[survey->next], &survey->letter);
}

struct survey *survey_start(
	struct crew *crew, struct worker *home, void (*done)(struct survey *), void *arg)
{
	struct survey *survey = memory_new(sizeof(*survey));
	struct table_set *set = worker_tables(home);
	survey->crew = crew;
	survey->home = home;
	survey->set = set;
	survey->ntables = set->n;
	survey->tables = arena_alloc(&survey->mem, set->n * sizeof(*survey->tables));
	STAILQ_INIT(&survey->listeners);
	survey->done = done;
	survey->arg = arg;
	for (size_t i = 0; i < set->n; i++)
		survey->tables[i].conf = set->tables[i].conf;
	table_set_keep(set);
	send_on(survey);
	return survey;
}

void survey_forget(struct survey *survey)
{
	survey->done = NULL;
}

void table_sum_durations(const struct table_sum *sum, struct histogram *all)
{
	struct traffic traffic = {.took = sum->took};
	for (size_t i = 0; i < ST_COUNT; i++)
		traffic.results[i] = sum->results[i];
	traffic_durations(&traffic, all);
}

static bool is_open(const struct table_sum *sum)
{
	for (unsigned i = 0; i < MAX_COUNTERS; i++)
		if (sum->conf->backend->alarms & 1u << i && sum->counters[i] > 0)
			return true;
	return false;
}

bool survey_breaker_open(const struct survey *survey, const struct table_conf *table)
{
	for (; table; table = table->inner)
		if (is_open(&survey->tables[table->index]))
			return true;
	return false;
}

static bool has_failed(const struct survey *survey, const struct table_conf *table)
{
	for (; table; table = table->inner)
		if (survey->tables[table->index].failures > 0)
			return true;
	return false;
}

/* A breaker that is open and that nobody has met for a while says nothing of now. */
bool survey_fails(const struct survey *survey, const struct table_conf *table)
{
	return survey->tables[table->index].failures >= FAILING_AFTER ||
	       (survey_breaker_open(survey, table) && has_failed(survey, table));
}
