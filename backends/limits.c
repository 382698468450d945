/* Limits as people and services write them. */
#include "limits.h"

#include "text/json.h"

static const uint64_t max_ms = UINT64_C(366) * 24 * 3600 * 1000, max_most = UINT64_C(1000000000);

static uint64_t unit_ms(char unit)
{
	switch (unit) {
	case 's':
		return 1000;
	case 'm':
		return UINT64_C(60) * 1000;
	case 'h':
		return UINT64_C(3600) * 1000;
	case 'd':
		return UINT64_C(24) * 3600 * 1000;
	default:
		return 0;
	}
}

/* "h", "5m" */
static bool read_window(struct str text, uint64_t *ms)
{
	uint64_t unit = text.len > 0 ? unit_ms(text.ptr[text.len - 1]) : 0, n = 1;
	struct str number = {text.ptr, text.len > 0 ? text.len - 1 : 0};
	if (unit == 0 || (number.len > 0 && (!str_u64(number, &n) || n == 0 || n > max_ms / unit)))
		return false;
	*ms = n * unit;
	return true;
}

static bool add(struct window_rules *rules, uint64_t most, uint64_t ms)
{
	if (most == 0)
		return true;
	if (rules->n == WINDOW_LIMITS)
		return false;
	rules->limits[rules->n++] = (struct window_limit){most, ms};
	return true;
}

static bool read_limit(struct str word, struct window_rules *rules, struct error *error)
{
	struct str rest = word, number;
	uint64_t most, ms;
	if (!str_cut(&rest, '/', &number) || !str_u64(number, &most) || most > max_most ||
		!read_window(rest, &ms))
		return error_set(error,
			"\"%.*s\" is no limit; allowed: a number and a time, as in 100/h 1000/d "
			"10/5m",
			(int)word.len, word.ptr);
	return add(rules, most, ms) || error_set(error, "more than %d limits", (int)WINDOW_LIMITS);
}

bool limits_parse(struct str text, struct window_rules *rules, struct error *error)
{
	struct str word, limit;
	bool more;
	*rules = (struct window_rules){.n = 0};
	while (str_word(&text, &word))
		do {
			more = str_cut(&word, ',', &limit);
			if (limit.len > 0 && !read_limit(limit, rules, error))
				return false;
		} while (more);
	return true;
}

bool limits_are(struct str text)
{
	uint64_t number; /* its unit was forgotten */
	return text.len == 0 || str_has(text, '/') || str_u64(text, &number);
}

static bool read_object(
	struct str value, struct window_rules *rules, struct arena *mem, struct error *error)
{
	static const struct {
		const char *pointer;
		uint64_t ms;
	} members[] = {{"/per_second", 1000}, {"/per_minute", 60000}, {"/per_hour", 3600000},
		{"/per_day", 86400000}};
	bool found = false;
	for (size_t i = 0; i < sizeof(members) / sizeof(*members); i++) {
		const struct json_rules wanted = {.form = FORM_JSON,
			.list_separator = STR(","),
			.pointer = members[i].pointer};
		const char *why;
		struct str text;
		uint64_t most;
		enum status status = json_value(value, &wanted, mem, &text, &why);
		if (status == ST_NOTFOUND)
			continue;
		if (status != ST_OK || !str_u64(text, &most) || most > max_most)
			return error_set(error, "%s is no limit", members[i].pointer + 1);
		found = true;
		add(rules, most, members[i].ms);
	}
	return found || error_set(error, "the object holds no limits");
}

bool limits_read(
	struct str value, struct window_rules *rules, struct arena *mem, struct error *error)
{
	value = str_trim(value);
	if (value.len == 0 || value.ptr[0] != '{')
		return limits_parse(value, rules, error);
	*rules = (struct window_rules){.n = 0};
	return read_object(value, rules, mem, error);
}
