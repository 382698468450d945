/* The figures of a survey, and the tables, as JSON. */
#include <inttypes.h>

#include "model/codec.h"
#include "text/json.h"
#include "web/web_text.h"

static void add_name(struct buf *out, const char *name)
{
	json_add(out, str_of(name));
	buf_add_char(out, ':');
}

static void add_number(struct buf *out, const char *name, uint64_t n)
{
	add_name(out, name);
	buf_add_u64(out, n);
}

static void add_string(struct buf *out, const char *name, const char *value)
{
	add_name(out, name);
	json_add(out, str_of(value));
}

/* In front of every item of a list or an object but its first. */
static void add_comma(struct buf *out, bool *more)
{
	if (*more)
		buf_add_char(out, ',');
	*more = true;
}

/* How many of each result, and how many answers in each of "bucket_ends_us". */
static void add_figures(
	struct buf *out, const uint64_t *results, unsigned nresults, const struct histogram *all)
{
	buf_add(out, STR("{\"results\":{"));
	for (unsigned r = 0; r < nresults; r++) {
		buf_printf(out, "%s", r ? "," : "");
		add_number(out, result_name(r), results[r]);
	}
	buf_add(out, STR("},"));
	add_number(out, "sum_us", all->sum_us);
	buf_add(out, STR(",\"buckets\":["));
	for (unsigned i = 0; i <= HISTOGRAM_BUCKETS; i++)
		buf_printf(out, "%s%" PRIu64, i ? "," : "", all->buckets[i]);
	buf_add(out, STR("]}"));
}

static void add_protocols(struct buf *out, const struct table_sum *sum)
{
	bool more = false;
	buf_add(out, STR("\"protocols\":{"));
	for (unsigned p = 0; codecs[p]; p++) {
		struct histogram all;
		if (!sum->traffic[p])
			continue;
		traffic_durations(sum->traffic[p], &all);
		add_comma(out, &more);
		add_name(out, codecs[p]->name);
		add_figures(out, sum->traffic[p]->results, RESULT_COUNT, &all);
	}
	buf_add_char(out, '}');
}

/* What a composite or the backend itself saw. */
static void add_layer(struct buf *out, const struct table_sum *sum)
{
	const char *const *counters = sum->conf->backend->counters;
	struct histogram all;
	table_sum_durations(sum, &all);
	buf_add_char(out, '{');
	add_string(out, "type", sum->conf->backend->name);
	buf_add(out, STR(",\"answers\":"));
	add_figures(out, sum->results, ST_COUNT, &all);
	buf_add(out, STR(",\"counters\":{"));
	for (unsigned c = 0; counters && counters[c]; c++) {
		buf_printf(out, "%s", c ? "," : "");
		add_number(out, counters[c], sum->counters[c]);
	}
	buf_add(out, STR("}}"));
}

static void add_table(struct buf *out, const struct survey *survey, const struct table_conf *table)
{
	const struct table_sum *sum = &survey->tables[table->index];
	bool more = false;
	buf_add_char(out, '{');
	add_string(out, "name", table->name);
	buf_add_char(out, ',');
	add_string(out, "type", table_core(table)->backend->name);
	buf_add_char(out, ',');
	add_number(out, "inflight", sum->inflight);
	buf_printf(out, ",\"failing\":%s,\"breaker_open\":%s,",
		survey_fails(survey, table) ? "true" : "false",
		survey_breaker_open(survey, table) ? "true" : "false");
	add_protocols(out, sum);
	buf_add(out, STR(",\"layers\":["));
	for (; table; table = table->inner) {
		add_comma(out, &more);
		add_layer(out, &survey->tables[table->index]);
	}
	buf_add(out, STR("]}"));
}

static void add_listeners(struct buf *out, const struct survey *survey)
{
	const struct listener_sum *sum;
	bool more = false;
	buf_add(out, STR("\"listeners\":["));
	STAILQ_FOREACH (sum, &survey->listeners, link) {
		add_comma(out, &more);
		buf_add_char(out, '{');
		add_string(out, "protocol", sum->protocol);
		buf_add_char(out, ',');
		add_string(out, "address", sum->address);
		buf_add_char(out, ',');
		add_number(out, "connections", sum->open);
		buf_add_char(out, '}');
	}
	buf_add_char(out, ']');
}

static void add_errors(struct buf *out, const struct survey *survey)
{
	buf_add(out, STR("\"errors\":["));
	for (size_t i = 0; i < survey->errors.n; i++) {
		const struct error_count *error = &survey->errors.errors[i];
		buf_printf(out, "%s{", i ? "," : "");
		add_string(out, "protocol", error->protocol);
		buf_add_char(out, ',');
		add_string(out, "reason", error->reason);
		buf_add_char(out, ',');
		add_number(out, "count", error->n);
		buf_add_char(out, '}');
	}
	buf_add_char(out, ']');
}

void web_stats(const struct survey *survey, struct buf *out)
{
	bool more = false;
	buf_add_char(out, '{');
	add_string(out, "version", MAPMUX_VERSION);
	buf_add_char(out, ',');
	add_number(out, "workers", survey->crew->n);
	buf_add(out, STR(",\"bucket_ends_us\":["));
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		buf_printf(out, "%s%" PRIu32, i ? "," : "", bucket_ends_us[i]);
	buf_add(out, STR("],"));
	add_listeners(out, survey);
	buf_add_char(out, ',');
	add_errors(out, survey);
	buf_add(out, STR(",\"tables\":["));
	for (size_t i = 0; i < survey->ntables; i++) {
		if (survey->tables[i].conf->hidden)
			continue;
		add_comma(out, &more);
		add_table(out, survey, survey->tables[i].conf);
	}
	buf_add(out, STR("]}\n"));
}

void web_tables_list(const struct table_set *set, const struct listen_conf *listen, struct buf *out)
{
	bool others = false;
	buf_add(out, STR("{\"tables\":["));
	for (size_t i = 0; i < set->nnames; i++) {
		const struct table_conf *table = set->by_name[i]->conf;
		bool more = false;
		if (!listen_serves(listen, table))
			continue;
		add_comma(out, &others);
		buf_add_char(out, '{');
		add_string(out, "name", table->name);
		buf_add_char(out, ',');
		add_string(out, "type", table_core(table)->backend->name);
		buf_add(out, STR(",\"operations\":["));
		for (int op = 0; op < OP_COUNT; op++) {
			if (!(table->ops & CAN(op)))
				continue;
			add_comma(out, &more);
			json_add(out, str_of(op_name((enum op)op)));
		}
		buf_add(out, STR("]}"));
	}
	buf_add(out, STR("]}\n"));
}

bool web_failing(const struct survey *survey, struct buf *out)
{
	bool more = false;
	buf_add(out, STR("\"tables\":["));
	for (size_t i = 0; i < survey->ntables; i++) {
		const struct table_conf *table = survey->tables[i].conf;
		if (table->hidden || !survey_fails(survey, table))
			continue;
		add_comma(out, &more);
		json_add(out, str_of(table->name));
	}
	buf_add_char(out, ']');
	return more;
}
