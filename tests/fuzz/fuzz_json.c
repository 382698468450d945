/* Fuzzes the reader of JSON: a value that is said to be one is text without NUL out of a document
 * that is one, what was compacted reads the same again, what is quoted comes back, and what is looked
 * for stands in a line of the text.
 *
 * Input: the form, and which pointer; the document. */
#include <stdint.h>
#include <stdlib.h>

#include "text/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
	if (!holds)
		abort();
}

static bool is_container(struct str text)
{
	struct str trimmed = str_trim(text);
	return str_starts(trimmed, STR("{")) || str_starts(trimmed, STR("["));
}

static void check_value(struct str text, const struct json_rules *rules, struct arena *mem)
{
	struct str value = {NULL, 0}, again = {NULL, 0};
	const char *why = NULL;
	enum status status = json_value(text, rules, mem, &value, &why);
	bool whole = rules->pointer[0] == '\0';
	must(status == ST_OK || status == ST_NOTFOUND || (status == ST_TEMP && why));
	must(status == ST_TEMP || json_valid(text));
	if (status != ST_OK)
		return;
	must(!str_has(value, '\0'));
	if (whole && rules->form == FORM_JSON && is_container(text)) {
		must(json_valid(value));
		must(json_value(value, rules, mem, &again, &why) == ST_OK);
		must(str_eq(value, again));
	} else {
		const struct json_rules plain = {FORM_TEXT, STR(","), "", STR("")};
		struct str quoted;
		must(json_quote(value, mem, &quoted)); /* what is valid is UTF-8 */
		must(json_valid(quoted));
		must(json_value(quoted, &plain, mem, &again, &why) == ST_OK);
		must(str_eq(value, again));
	}
}

static void check_rows(struct str text, const struct json_rules *rules, struct arena *mem)
{
	struct pair *rows;
	size_t n;
	bool only_names;
	const char *why = NULL;
	if (!json_rows(arena_str(mem, text), rules, mem, &rows, &n, &only_names, &why)) {
		must(why != NULL);
		return;
	}
	must(json_valid(text));
	for (size_t i = 0; i < n; i++)
		must(!str_has(rows[i].name, '\0') && !str_has(rows[i].value, '\0'));
	must(json_valid(json_object(rows, n, mem)));
}

/* A line of the text, whatever it is: files may hold what only cJSON takes for JSON. */
static void check_line(struct str text, const char *pointer, struct arena *mem)
{
	size_t lines = 1, line = json_line(arena_str(mem, text), pointer);
	for (size_t i = 0; i < text.len; i++)
		lines += text.ptr[i] == '\n';
	must(line >= 1 && line <= lines);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const pointers[] = {"", "/a", "/0", "/a/0", "/", "/a~1b/~0"};
	if (size < 1)
		return 0;
	struct json_rules rules = {.form = data[0] & 1 ? FORM_JSON : FORM_TEXT,
		.list_separator = STR(","),
		.pointer = pointers[data[0] / 2 % (sizeof(pointers) / sizeof(*pointers))]};
	struct str text = {(const char *)data + 1, size - 1}, quoted;
	struct arena mem = {0};
	check_value(text, &rules, &mem);
	check_rows(text, &rules, &mem);
	check_line(text, rules.pointer, &mem);
	json_quote(text, &mem, &quoted);
	must(json_valid(quoted));
	arena_clear(&mem);
	return 0;
}
