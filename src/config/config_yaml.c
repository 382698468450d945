/* A YAML file into a draft, by libyaml's events. Knows the shape of the file, not what keys mean. */
#include "config/config_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <yaml.h>

#include "base/buf.h"

enum { FILE_MAX = 16 << 20 };

struct reader {
	struct draft *draft;
	const char *path;
	struct str file;
	yaml_parser_t parser;
	yaml_event_t event; /* the one that was read last */
	struct error *error;
};

static const char *const what_is[] = {
	[YAML_SCALAR_EVENT] = "a single value",
	[YAML_SEQUENCE_START_EVENT] = "a list",
	[YAML_MAPPING_START_EVENT] = "a map",
};

static size_t event_line(const struct reader *reader)
{
	return reader->event.start_mark.line + 1;
}

static const char *where_of(struct reader *reader, size_t line)
{
	return arena_printf(&reader->draft->mem, "%s:%zu", reader->path, line).ptr;
}

static const char *place_of(struct reader *reader, size_t line, struct str key)
{
	return arena_printf(
		&reader->draft->mem, "%s:%zu: %.*s", reader->path, line, (int)key.len, key.ptr)
		.ptr;
}

/* -- events -- */

/* The byte that libyaml stumbled over when a value or a key began; 0: it did not. */
static char bad_start(const struct reader *reader)
{
	const yaml_mark_t *mark = &reader->parser.context_mark;
	struct str rest = reader->file, line = {"", 0};
	if (reader->parser.error != YAML_SCANNER_ERROR)
		return '\0';
	for (size_t i = 0; i <= mark->line; i++)
		str_cut(&rest, '\n', &line);
	for (size_t i = 0; i < mark->column && line.len > 0; i++) /* in characters */
		do
			line = str_skip(line, 1);
		while (line.len > 0 && ((unsigned char)line.ptr[0] & 0xC0) == 0x80);
	return line.len > 0 ? line.ptr[0] : '\0';
}

static bool syntax_error(struct reader *reader)
{
	const yaml_parser_t *parser = &reader->parser;
	const char *problem = parser->problem ? parser->problem : "cannot be read";
	size_t line = parser->problem_mark.line + 1;
	if (parser->error == YAML_READER_ERROR) { /* these have an offset, but no mark */
		line = 1;
		for (size_t i = 0; i < parser->problem_offset && i < reader->file.len; i++)
			line += reader->file.ptr[i] == '\n';
	}
	const char *place = place_of(reader, line, STR("YAML"));
	char start = bad_start(reader);
	if (start == '\t')
		return fail_at(
			reader->error, place, "the line is indented with a tab; allowed: blanks");
	if (start != '\0' && strchr("@`%*&", start))
		return fail_at(reader->error, place,
			"a text that begins with %c must be in quotes, like \"%c...\"", start,
			start);
	if (!parser->context)
		return fail_at(reader->error, place, "%s", problem);
	return fail_at(reader->error, place, "%s (%s that begins in line %zu)", problem,
		parser->context, parser->context_mark.line + 1);
}

/* What YAML has and this configuration has no use for. */
static const char *refused_extra(const yaml_event_t *event)
{
	const yaml_char_t *anchor = NULL, *tag = NULL;
	if (event->type == YAML_ALIAS_EVENT)
		return "aliases (*name) are not supported; write the value out";
	if (event->type == YAML_SCALAR_EVENT) {
		anchor = event->data.scalar.anchor;
		tag = event->data.scalar.tag;
	} else if (event->type == YAML_SEQUENCE_START_EVENT) {
		anchor = event->data.sequence_start.anchor;
		tag = event->data.sequence_start.tag;
	} else if (event->type == YAML_MAPPING_START_EVENT) {
		anchor = event->data.mapping_start.anchor;
		tag = event->data.mapping_start.tag;
	}
	if (anchor)
		return "anchors (&name) are not supported; put the value in quotes if it begins "
		       "with &";
	if (tag)
		return "tags (!name) are not supported; put the value in quotes if it begins with "
		       "!";
	return NULL;
}

static bool next(struct reader *reader)
{
	yaml_event_delete(&reader->event);
	if (!yaml_parser_parse(&reader->parser, &reader->event))
		return syntax_error(reader);
	const char *refused = refused_extra(&reader->event);
	if (refused)
		return fail_at(reader->error, place_of(reader, event_line(reader), STR("YAML")),
			"%s", refused);
	return true;
}

static struct str scalar_of(const struct reader *reader)
{
	return (struct str){
		(const char *)reader->event.data.scalar.value, reader->event.data.scalar.length};
}

/* "key:" with nothing behind it. */
static bool is_nothing(const struct reader *reader)
{
	return reader->event.type == YAML_SCALAR_EVENT && reader->event.data.scalar.length == 0 &&
	       reader->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

/* -- maps -- */

/* The next key of a map, behind `prefix` and a dot, and the line it stands in. NULL in key->ptr is
 * the end of the map. */
static bool next_key(struct reader *reader, struct str prefix, struct str *key, size_t *line)
{
	struct arena *mem = &reader->draft->mem;
	*key = (struct str){0};
	if (!next(reader))
		return false;
	*line = event_line(reader);
	if (reader->event.type == YAML_MAPPING_END_EVENT)
		return true;
	if (reader->event.type != YAML_SCALAR_EVENT)
		return fail_at(reader->error, place_of(reader, *line, STR("YAML")),
			"a key is %s; allowed: a word", what_is[reader->event.type]);
	struct str name = scalar_of(reader);
	if (name.len == 0 || str_has(name, '\0'))
		return fail_at(reader->error, place_of(reader, *line, STR("YAML")),
			"a key is empty or holds a NUL byte; allowed: a word");
	*key = prefix.len ? arena_printf(mem, "%s.%s", prefix.ptr, (const char *)name.ptr)
			  : arena_str(mem, name);
	return true;
}

static bool read_list(struct reader *reader, struct entry *list)
{
	for (;;) {
		if (!next(reader))
			return false;
		if (reader->event.type == YAML_SEQUENCE_END_EVENT)
			return true;
		if (reader->event.type != YAML_SCALAR_EVENT)
			return fail_at(reader->error,
				place_of(reader, event_line(reader), list->key),
				"an item of the list is %s; allowed: words",
				what_is[reader->event.type]);
		if (!draft_add_item(reader->draft, list, scalar_of(reader), reader->error))
			return false;
	}
}

static bool read_map(struct reader *reader, struct section *section, struct str prefix);

/* The value of `key`, whatever its kind. Maps go one level deep. */
static bool read_value(
	struct reader *reader, struct section *section, struct str key, size_t line, bool nested)
{
	const char *place = place_of(reader, line, key);
	struct draft *draft = reader->draft;
	if (!next(reader))
		return false;
	if (reader->event.type == YAML_SCALAR_EVENT)
		return draft_set(draft, section, key, scalar_of(reader), place, reader->error);
	if (reader->event.type == YAML_SEQUENCE_START_EVENT) {
		struct entry *list =
			draft_begin(draft, section, key, ENTRY_LIST, place, reader->error);
		return list && read_list(reader, list);
	}
	if (nested)
		return fail_at(reader->error, place, "is a map; allowed: a single value");
	return draft_begin(draft, section, key, ENTRY_MAP, place, reader->error) &&
	       read_map(reader, section, key);
}

static bool read_map(struct reader *reader, struct section *section, struct str prefix)
{
	struct str key;
	size_t line;
	for (;;) {
		if (!next_key(reader, prefix, &key, &line))
			return false;
		if (!key.ptr)
			return true;
		if (!read_value(reader, section, key, line, prefix.len > 0))
			return false;
	}
}

/* -- the file -- */

/* The items of `listeners` or `tables`: each a section. */
static bool read_sections(
	struct reader *reader, struct section_list *list, const char *key, const char *example)
{
	if (!next(reader))
		return false;
	if (is_nothing(reader))
		return true;
	if (reader->event.type != YAML_SEQUENCE_START_EVENT)
		return fail_at(reader->error, place_of(reader, event_line(reader), str_of(key)),
			"is %s; allowed: a list of maps, like [%s]", what_is[reader->event.type],
			example);
	for (;;) {
		if (!next(reader))
			return false;
		if (reader->event.type == YAML_SEQUENCE_END_EVENT)
			return true;
		size_t line = event_line(reader);
		if (reader->event.type != YAML_MAPPING_START_EVENT)
			return fail_at(reader->error, place_of(reader, line, str_of(key)),
				"an item of the list is %s; allowed: a map, like %s",
				what_is[reader->event.type], example);
		struct section *section =
			draft_section(reader->draft, list, where_of(reader, line), NULL);
		if (!read_map(reader, section, (struct str){0}))
			return false;
	}
}

static bool is_global(struct str key)
{
	struct str rest = key, head, name;
	str_cut(&rest, '.', &head);
	for (const struct setting *s = global_settings; s->name; s++) {
		struct str left = str_of(s->name);
		str_cut(&left, '.', &name);
		if (str_eq(name, head))
			return true;
	}
	return false;
}

/* The next value, however deep it is. */
static bool skip_value(struct reader *reader)
{
	int depth = 0;
	do {
		if (!next(reader))
			return false;
		yaml_event_type_t type = reader->event.type;
		depth += type == YAML_MAPPING_START_EVENT || type == YAML_SEQUENCE_START_EVENT;
		depth -= type == YAML_MAPPING_END_EVENT || type == YAML_SEQUENCE_END_EVENT;
	} while (depth > 0);
	return true;
}

static bool read_top_key(
	struct reader *reader, struct section *globals, struct str key, size_t line, size_t seen[2])
{
	static const char *const names[] = {"listeners", "tables"};
	static const char *const examples[] = {
		"{protocol: socketmap, address: \"unix:/run/mapmux/socketmap\"}",
		"{name: alias, type: url, param: \"http://127.0.0.1:8080/alias/{}\"}"};
	for (int i = 0; i < 2; i++) {
		if (!str_eq(key, str_of(names[i])))
			continue;
		if (seen[i])
			return fail_at(reader->error, place_of(reader, line, key),
				"is given twice, first in line %zu; allowed: once", seen[i]);
		seen[i] = line;
		return read_sections(reader, i ? &reader->draft->tables : &reader->draft->listeners,
			names[i], examples[i]);
	}
	if (is_global(key))
		return read_value(reader, globals, key, line, false);
	/* The key is refused when it is applied; its value, a list of tables say, is no matter. */
	return draft_set(reader->draft, globals, key, STR(""), place_of(reader, line, key),
		       reader->error) &&
	       skip_value(reader);
}

static bool read_top(struct reader *reader)
{
	struct section *globals =
		draft_section(reader->draft, &reader->draft->globals, where_of(reader, 1), NULL);
	struct str key;
	size_t line, seen[2] = {0, 0};
	if (is_nothing(reader))
		return true;
	if (reader->event.type != YAML_MAPPING_START_EVENT)
		return fail_at(reader->error, place_of(reader, event_line(reader), STR("YAML")),
			"the file is %s; allowed: a map of listeners, tables, threads and so on",
			what_is[reader->event.type]);
	for (;;) {
		if (!next_key(reader, (struct str){0}, &key, &line))
			return false;
		if (!key.ptr)
			return true;
		if (!read_top_key(reader, globals, key, line, seen))
			return false;
	}
}

static bool next_but_one(struct reader *reader)
{
	if (!next(reader))
		return false;
	return next(reader);
}

static bool read_stream(struct reader *reader)
{
	if (!next_but_one(reader)) /* the stream's start, the document's start */
		return false;
	if (reader->event.type == YAML_STREAM_END_EVENT)
		return true;
	if (!next(reader) || !read_top(reader))
		return false;
	if (!next_but_one(reader)) /* the document's end, the stream's end */
		return false;
	if (reader->event.type != YAML_STREAM_END_EVENT)
		return fail_at(reader->error, place_of(reader, event_line(reader), STR("YAML")),
			"a second document begins; allowed: one in a file (use --config for each "
			"of several files)");
	return true;
}

static bool read_file(const char *path, struct buf *file, struct error *error)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : 1;
	while (n > 0 || (n < 0 && fd >= 0 && errno == EINTR)) {
		char *to = buf_reserve(file, 4096);
		if (!to)
			break;
		n = read(fd, to, 4096);
		file->len += n > 0 ? (size_t)n : 0;
	}
	int why = errno;
	if (fd >= 0)
		close(fd);
	if (file->overflow)
		return error_set(
			error, "command line: --config: %s is too large; allowed: 16m", path);
	if (n < 0)
		return error_set(
			error, "command line: --config: cannot read %s: %s", path, strerror(why));
	return true;
}

bool config_read_text(struct draft *draft, const char *name, struct str text, struct error *error)
{
	struct reader reader = {.draft = draft,
		.path = arena_str(&draft->mem, str_of(name)).ptr,
		.file = text,
		.error = error};
	if (!yaml_parser_initialize(&reader.parser))
		return error_set(error, "%s: out of memory", name);
	yaml_parser_set_input_string(&reader.parser, (const unsigned char *)text.ptr, text.len);
	bool good = read_stream(&reader);
	yaml_event_delete(&reader.event);
	yaml_parser_delete(&reader.parser);
	return good;
}

bool config_read_yaml(struct draft *draft, const char *path, struct error *error)
{
	struct buf file = {.max = FILE_MAX};
	bool good = read_file(path, &file, error) &&
		    config_read_text(draft, path, buf_str(&file), error);
	buf_free(&file);
	return good;
}
