/* The steps of a question as JSON. */
#include "text/json.h"
#include "web/web_routes.h"

static void add_step(struct buf *out, const struct trace_step *step)
{
	const struct {
		const char *name;
		struct str text;
	} texts[] = {
		{"table", str_of(step->table)},
		{"part", str_of(step->part)},
		{"event", str_of(step->event)},
		{"detail", step->detail},
	};
	buf_printf(out, "{\"us\":%llu,\"depth\":%u", (unsigned long long)step->us, step->depth);
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		if (texts[i].text.len == 0)
			continue;
		buf_printf(out, ",\"%s\":", texts[i].name);
		json_add(out, texts[i].text);
	}
	buf_add_char(out, '}');
}

void web_trace(const struct trace *trace, struct buf *out)
{
	const struct trace_step *step;
	buf_add(out, STR(",\"trace\":["));
	STAILQ_FOREACH (step, &trace->steps, link) {
		if (step != STAILQ_FIRST(&trace->steps))
			buf_add_char(out, ',');
		add_step(out, step);
	}
	buf_add_char(out, ']');
	if (trace->nlost > 0)
		buf_printf(out, ",\"steps_left_out\":%zu", trace->nlost);
}
