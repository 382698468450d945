/* The figures of a survey in the text format of Prometheus. */
#include <inttypes.h>

#include "model/codec.h"
#include "text/json.h"
#include "web/web_text.h"

/* A page on its way. There are thousands of lines: what comes in many of them is made once. */
struct page {
	const struct survey *survey;
	struct buf *out;
	struct arena mem;
	struct str *tables;                     /* table="NAME", by table_conf.index */
	struct str ends[HISTOGRAM_BUCKETS + 1]; /* ,le="SECONDS"} and a blank */
};

static void begin(struct page *page, const char *name, const char *type, const char *help)
{
	buf_printf(page->out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* JSON escapes what a label has to escape, and our names hold nothing that it escapes otherwise. */
static struct str label(struct page *page, const char *name, const char *value)
{
	struct str quoted;
	json_quote(str_of(value), &page->mem, &quoted);
	return arena_printf(&page->mem, "%s=%s", name, quoted.ptr);
}

static struct str seconds(struct arena *mem, uint64_t us)
{
	int digits = 6;
	unsigned rest = (unsigned)(us % 1000000);
	for (; rest > 0 && rest % 10 == 0; rest /= 10)
		digits--;
	if (rest == 0)
		return arena_printf(mem, "%" PRIu64, us / 1000000);
	return arena_printf(mem, "%" PRIu64 ".%0*u", us / 1000000, digits, rest);
}

static void add_parts(struct page *page, const struct str *parts, size_t n)
{
	for (size_t i = 0; i < n; i++)
		buf_add(page->out, parts[i]);
}

#define ADD(page, ...)                                                                             \
	add_parts(page, (const struct str[]){__VA_ARGS__},                                         \
		sizeof((const struct str[]){__VA_ARGS__}) / sizeof(struct str))

static void add_value(struct page *page, uint64_t n)
{
	buf_add_u64(page->out, n);
	buf_add_char(page->out, '\n');
}

static void add_histogram(
	struct page *page, const char *name, struct str labels, const struct histogram *histogram)
{
	struct str bucket = arena_printf(&page->mem, "%s_bucket{%s", name, labels.ptr);
	uint64_t n = 0;
	for (unsigned i = 0; i <= HISTOGRAM_BUCKETS; i++) {
		n += histogram->buckets[i];
		ADD(page, bucket, page->ends[i]);
		add_value(page, n);
	}
	struct str sum = seconds(&page->mem, histogram->sum_us);
	buf_printf(page->out, "%s_sum{%s} %s\n", name, labels.ptr, sum.ptr);
	buf_printf(page->out, "%s_count{%s} %" PRIu64 "\n", name, labels.ptr, n);
}

/* ---- what clients asked ---- */

static void add_requests(struct page *page)
{
	const struct survey *survey = page->survey;
	begin(page, "mapmux_requests_total", "counter", "Questions of clients that were answered.");
	for (size_t i = 0; i < survey->ntables; i++)
		for (unsigned p = 0; codecs[p]; p++) {
			const struct traffic *traffic = survey->tables[i].traffic[p];
			for (unsigned r = 0; traffic && r < RESULT_COUNT; r++) {
				ADD(page, STR("mapmux_requests_total{protocol=\""),
					str_of(codecs[p]->name), STR("\","), page->tables[i],
					STR(",result=\""), str_of(result_name(r)), STR("\"} "));
				add_value(page, traffic->results[r]);
			}
		}
}

static void add_durations(struct page *page)
{
	static const char name[] = "mapmux_request_duration_seconds";
	const struct survey *survey = page->survey;
	begin(page, name, "histogram", "From a client's question to its answer.");
	for (size_t i = 0; i < survey->ntables; i++)
		for (unsigned p = 0; codecs[p]; p++) {
			struct histogram all;
			if (!survey->tables[i].traffic[p])
				continue;
			struct str labels = arena_printf(&page->mem, "protocol=\"%s\",%s",
				codecs[p]->name, page->tables[i].ptr);
			traffic_durations(survey->tables[i].traffic[p], &all);
			add_histogram(page, name, labels, &all);
		}
}

/* ---- what mapmux asked: the innermost layer of each table ---- */

static bool is_core(const struct table_sum *sum)
{
	return !sum->conf->inner;
}

static void add_backend_requests(struct page *page)
{
	const struct survey *survey = page->survey;
	begin(page, "mapmux_backend_requests_total", "counter",
		"Questions that reached what serves the table.");
	for (size_t i = 0; i < survey->ntables; i++)
		for (unsigned s = 0; is_core(&survey->tables[i]) && s < ST_COUNT; s++) {
			ADD(page, STR("mapmux_backend_requests_total{"), page->tables[i],
				STR(",result=\""), str_of(result_name(s)), STR("\"} "));
			add_value(page, survey->tables[i].results[s]);
		}
}

static void add_backend_durations(struct page *page)
{
	static const char name[] = "mapmux_backend_duration_seconds";
	const struct survey *survey = page->survey;
	begin(page, name, "histogram", "From a question to what serves the table to its answer.");
	for (size_t i = 0; i < survey->ntables; i++) {
		struct histogram all;
		if (!is_core(&survey->tables[i]))
			continue;
		table_sum_durations(&survey->tables[i], &all);
		add_histogram(page, name, page->tables[i], &all);
	}
}

/* ---- the table's state ---- */

static bool is_of_type(const struct table_sum *sum, const char *type)
{
	return strcmp(sum->conf->backend->name, type) == 0;
}

/* What happened in the layers of that type. Gauges are no events. */
static void add_events(struct page *page, const char *type, const char *help)
{
	const struct survey *survey = page->survey;
	const char *name = arena_printf(&page->mem, "mapmux_%s_total", type).ptr;
	begin(page, name, "counter", help);
	for (size_t i = 0; i < survey->ntables; i++) {
		const struct backend *backend = survey->tables[i].conf->backend;
		for (unsigned c = 0; is_of_type(&survey->tables[i], type) && backend->counters[c];
			c++) {
			if (backend->gauges & 1u << c)
				continue;
			ADD(page, str_of(name), STR("{"), page->tables[i], STR(",event=\""),
				str_of(backend->counters[c]), STR("\"} "));
			add_value(page, survey->tables[i].counters[c]);
		}
	}
}

/* How it is in the layers of that type. */
static void add_gauge(struct page *page, const char *type, const char *gauge, const char *help)
{
	const struct survey *survey = page->survey;
	const char *name = arena_printf(&page->mem, "mapmux_%s_%s", type, gauge).ptr;
	begin(page, name, "gauge", help);
	for (size_t i = 0; i < survey->ntables; i++) {
		const char *const *names = survey->tables[i].conf->backend->counters;
		for (unsigned c = 0; is_of_type(&survey->tables[i], type) && names[c]; c++) {
			if (strcmp(names[c], gauge) != 0)
				continue;
			ADD(page, str_of(name), STR("{"), page->tables[i], STR("} "));
			add_value(page, survey->tables[i].counters[c]);
		}
	}
}

static void add_inflight(struct page *page)
{
	const struct survey *survey = page->survey;
	begin(page, "mapmux_inflight", "gauge", "Questions to the table that run now.");
	for (size_t i = 0; i < survey->ntables; i++) {
		if (survey->tables[i].conf->hidden)
			continue;
		ADD(page, STR("mapmux_inflight{"), page->tables[i], STR("} "));
		add_value(page, survey->tables[i].inflight);
	}
}

static void add_breakers(struct page *page)
{
	const struct survey *survey = page->survey;
	begin(page, "mapmux_breaker_open", "gauge",
		"1: one worker at least does not ask the table for a while.");
	for (size_t i = 0; i < survey->ntables; i++) {
		if (survey->tables[i].conf->hidden)
			continue;
		ADD(page, STR("mapmux_breaker_open{"), page->tables[i], STR("} "));
		add_value(page, survey_breaker_open(survey, survey->tables[i].conf));
	}
}

/* ---- the protocols ---- */

static void add_connections(struct page *page)
{
	const struct listener_sum *sum;
	begin(page, "mapmux_connections", "gauge", "Clients that are connected.");
	STAILQ_FOREACH (sum, &page->survey->listeners, link) {
		ADD(page, STR("mapmux_connections{protocol=\""), str_of(sum->protocol), STR("\","),
			label(page, "listener", sum->address), STR("} "));
		add_value(page, sum->open);
	}
}

static void add_errors(struct page *page)
{
	const struct error_counts *errors = &page->survey->errors;
	begin(page, "mapmux_protocol_errors_total", "counter",
		"Requests that were refused, or ended their connection, for what they were.");
	for (size_t i = 0; i < errors->n; i++) {
		ADD(page, STR("mapmux_protocol_errors_total{protocol=\""),
			str_of(errors->errors[i].protocol), STR("\",reason=\""),
			str_of(errors->errors[i].reason), STR("\"} "));
		add_value(page, errors->errors[i].n);
	}
}

static void prepare(struct page *page)
{
	const struct survey *survey = page->survey;
	page->tables = arena_alloc(&page->mem, survey->ntables * sizeof(*page->tables));
	for (size_t i = 0; i < survey->ntables; i++)
		page->tables[i] = label(page, "table", survey->tables[i].conf->name);
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		page->ends[i] = arena_printf(
			&page->mem, ",le=\"%s\"} ", seconds(&page->mem, bucket_ends_us[i]).ptr);
	page->ends[HISTOGRAM_BUCKETS] = STR(",le=\"+Inf\"} ");
}

void web_metrics(const struct survey *survey, struct buf *out)
{
	struct page page = {.survey = survey, .out = out};
	prepare(&page);
	begin(&page, "mapmux_build_info", "gauge", "Always 1; the version is a label.");
	buf_add(out, STR("mapmux_build_info{version=\"" MAPMUX_VERSION "\"} 1\n"));
	add_requests(&page);
	add_durations(&page);
	add_connections(&page);
	add_backend_requests(&page);
	add_backend_durations(&page);
	add_events(&page, "cache", "What happened in the table's cache.");
	add_events(
		&page, "ratelimit", "What became of the messages that the table was asked about.");
	add_gauge(&page, "ratelimit", "identities", "Who is remembered in memory.");
	add_inflight(&page);
	add_breakers(&page);
	add_errors(&page);
	arena_clear(&page.mem);
}
