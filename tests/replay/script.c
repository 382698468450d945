/* Reads scripts. What stands before the first scenario is a scenario without title and steps, of which
 * the others inherit. */
#include "script.h"

#include <stdio.h>
#include <stdlib.h>

#include "text.h"

/* The lines that are left, and the number of the last one taken. */
struct reader {
	struct script *script;
	struct str rest;
	unsigned line;
	struct error *error;
};

static bool fail(const struct reader *reader, const char *what)
{
	return error_set(reader->error, "%s:%u: %s", reader->script->path, reader->line, what);
}

static bool read_file(const char *path, struct arena *mem, struct str *text)
{
	struct buf bytes = {.max = 16 << 20};
	FILE *file = fopen(path, "r");
	if (!file)
		return false;
	char piece[4096];
	for (size_t n; (n = fread(piece, 1, sizeof(piece), file)) > 0;)
		buf_add(&bytes, (struct str){piece, n});
	bool good = !ferror(file) && !bytes.overflow;
	fclose(file);
	*text = arena_str(mem, buf_str(&bytes));
	buf_free(&bytes);
	return good;
}

static bool next_line(struct reader *reader, struct str *text)
{
	if (reader->rest.len == 0)
		return false;
	str_cut(&reader->rest, '\n', text);
	reader->line++;
	return true;
}

/* All that is indented behind `config:`, blank lines among it. */
static struct yaml read_yaml(struct reader *reader)
{
	struct yaml yaml = {.line = reader->line + 1, .text = {reader->rest.ptr, 0}};
	while (reader->rest.len > 0) {
		char first = reader->rest.ptr[0];
		struct str text;
		if (first != ' ' && first != '\n')
			break;
		next_line(reader, &text);
		yaml.text.len = (size_t)(reader->rest.ptr - yaml.text.ptr);
	}
	return yaml;
}

static bool read_workers(struct reader *reader, struct scenario *scenario, struct str text)
{
	uint64_t n;
	if (!str_u64(text, &n) || n < 1 || n > MAX_WORKERS)
		return fail(reader, "workers: allowed: 1 to 4");
	scenario->workers = (unsigned)n;
	return true;
}

static struct scenario *begin(struct reader *reader, struct str line)
{
	struct script *script = reader->script;
	script->scenarios =
		memory_grow(script->scenarios, (script->n + 1) * sizeof(script->scenarios[0]));
	struct scenario *scenario = &script->scenarios[script->n++];
	*scenario = script->scenarios[0];
	scenario->line = reader->line;
	scenario->title = str_trim(str_skip(line, 2));
	scenario->steps = NULL;
	scenario->n = 0;
	return scenario;
}

static bool add_step(struct reader *reader, struct scenario *scenario, struct str line)
{
	if (scenario->title.len == 0)
		return fail(reader, "a step stands in a scenario, behind its \"== sentence\"");
	scenario->steps =
		memory_grow(scenario->steps, (scenario->n + 1) * sizeof(scenario->steps[0]));
	scenario->steps[scenario->n++] = (struct step){reader->line, line};
	return true;
}

static bool read_line(struct reader *reader, struct scenario **scenario, struct str line)
{
	struct str rest = line, word;
	if (line.len == 0 || line.ptr[0] == '#')
		return true;
	if (str_starts(line, STR("=="))) {
		*scenario = begin(reader, line);
		return (*scenario)->title.len > 0 || fail(reader, "a scenario has a title");
	}
	if (str_eq(line, STR("config:"))) {
		(*scenario)->yaml = read_yaml(reader);
		return true;
	}
	text_word(&rest, &word);
	if (str_eq(word, STR("workers")))
		return read_workers(reader, *scenario, rest);
	return add_step(reader, *scenario, line);
}

bool script_read(struct script *script, const char *path, struct error *error)
{
	*script = (struct script){.path = path};
	struct reader reader = {.script = script, .error = error};
	struct str line;
	if (!read_file(path, &script->mem, &reader.rest))
		return error_set(error, "%s: cannot be read", path);
	script->scenarios = memory_new(sizeof(script->scenarios[0]));
	script->scenarios[0].workers = 1;
	script->n = 1;
	struct scenario *scenario = &script->scenarios[0];
	while (next_line(&reader, &line))
		if (!read_line(&reader, &scenario, str_trim(line)))
			return false;
	return script->n > 1 || fail(&reader, "there is no scenario");
}

void script_free(struct script *script)
{
	for (size_t i = 0; i < script->n; i++)
		free(script->scenarios[i].steps);
	free(script->scenarios);
	arena_clear(&script->mem);
}
