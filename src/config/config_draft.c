/* What the readers gather: sections of entries, "${NAME}", duplicates, and choices for messages. */
#include "config/config_parts.h"

#include <assert.h>
#include <stdlib.h>

#include "base/buf.h"

enum { TEXT_MAX = 4 << 20 };

void draft_init(struct draft *draft)
{
	*draft = (struct draft){0};
	STAILQ_INIT(&draft->globals);
	STAILQ_INIT(&draft->listeners);
	STAILQ_INIT(&draft->tables);
}

struct section *draft_section(
	struct draft *draft, struct section_list *list, const char *where, const char *option)
{
	struct section *section = arena_alloc(&draft->mem, sizeof(*section));
	section->where = where;
	section->option = option;
	STAILQ_INIT(&section->entries);
	STAILQ_INSERT_TAIL(list, section, link);
	return section;
}

struct entry *section_find(const struct section *section, const char *key)
{
	struct entry *entry;
	STAILQ_FOREACH (entry, &section->entries, link)
		if (str_eq(entry->key, str_of(key)))
			return entry;
	return NULL;
}

const char *section_place(struct draft *draft, const struct section *section, const char *key)
{
	const struct entry *entry = section_find(section, key);
	if (!entry) /* a secret may have come by its twin */
		entry = section_find(section, arena_printf(&draft->mem, "%s_file", key).ptr);
	if (entry)
		return entry->place;
	if (!section->option)
		return arena_printf(&draft->mem, "%s: %s", section->where, key).ptr;
	bool part =
		strcmp(key, "name") == 0 || strcmp(key, "type") == 0 || strcmp(key, "param") == 0;
	if (part)
		return arena_printf(&draft->mem, "%s: --%s", section->where, key).ptr;
	return arena_printf(&draft->mem, "%s: %s: %s", section->where, section->option, key).ptr;
}

bool fail_at(struct error *error, const char *place, const char *fmt, ...)
{
	struct arena mem = {0};
	va_list ap;
	va_start(ap, fmt);
	error_set(error, "%s: %s", place, arena_vprintf(&mem, fmt, ap).ptr);
	va_end(ap);
	arena_clear(&mem);
	return false;
}

/* -- ${NAME} -- */

static bool is_name_char(char c, bool first)
{
	return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (!first && c >= '0' && c <= '9');
}

/* Adds the variable that *rest, which begins behind "${", names, and moves behind its "}". */
static bool expand_name(struct str *rest, struct buf *out, struct error *error)
{
	char name[256];
	size_t n = 0;
	while (n < rest->len && is_name_char(rest->ptr[n], n == 0))
		n++;
	if (n == 0 || n >= sizeof(name) || n == rest->len || rest->ptr[n] != '}')
		return error_set(error, "\"${\" must be followed by the name of an environment "
					"variable and \"}\"; write $${ for a plain ${");
	memcpy(name, rest->ptr, n);
	name[n] = '\0';
	*rest = str_skip(*rest, n + 1);
	const char *value = getenv(name);
	if (!value)
		return error_set(error,
			"the environment variable %s is not set; set it, or write "
			"$${%s} for the plain text",
			name, name);
	buf_add(out, str_of(value));
	return true;
}

/* Of the dollars in front of a brace two make one, and one left over begins a name; all others are
 * plain. What a variable holds is not looked at again. */
static bool expand_into(struct str rest, struct buf *out, struct error *error)
{
	while (rest.len > 0) {
		size_t dollars = 0;
		while (dollars < rest.len && rest.ptr[dollars] == '$')
			dollars++;
		bool brace = dollars < rest.len && rest.ptr[dollars] == '{';
		size_t plain = !brace ? dollars : dollars / 2;
		buf_add(out, (struct str){rest.ptr, plain});
		rest = str_skip(rest, dollars);
		if (brace && dollars % 2 == 1) {
			rest = str_skip(rest, 1);
			if (!expand_name(&rest, out, error))
				return false;
		} else if (rest.len > 0) {
			buf_add_char(out, rest.ptr[0]);
			rest = str_skip(rest, 1);
		}
	}
	return true;
}

static bool expand(struct draft *draft, struct str text, struct str *out, struct error *error)
{
	struct buf buf = {.max = TEXT_MAX};
	bool good = true;
	if (str_has(text, '\0'))
		return error_set(error, "holds a NUL byte; no value may");
	if (!str_has(text, '$')) {
		*out = arena_str(&draft->mem, text);
		return true;
	}
	good = expand_into(text, &buf, error);
	if (good && buf.overflow)
		good = error_set(error, "is too long; allowed: 4m");
	if (good)
		*out = arena_str(&draft->mem, buf_str(&buf));
	buf_free(&buf);
	return good;
}

/* -- entries -- */

static struct entry *entry_new(struct draft *draft, struct section *section, struct str key)
{
	struct entry *entry = arena_alloc(&draft->mem, sizeof(*entry));
	entry->key = arena_str(&draft->mem, key);
	STAILQ_INSERT_TAIL(&section->entries, entry, link);
	return entry;
}

struct entry *draft_begin(struct draft *draft, struct section *section, struct str key, int kind,
	const char *place, struct error *error)
{
	struct entry *entry = NULL;
	if (key.len == 0 || str_has(key, '\0')) {
		fail_at(error, place, "a key is empty or holds a NUL byte; allowed: names");
		return NULL;
	}
	STAILQ_FOREACH (entry, &section->entries, link)
		if (str_eq(entry->key, key))
			break;
	if (entry && !section->last_wins) {
		fail_at(error, place, "is given twice, first at %s; allowed: once", entry->place);
		return NULL;
	}
	if (!entry)
		entry = entry_new(draft, section, key);
	entry->kind = kind;
	entry->place = place;
	return entry;
}

bool draft_set(struct draft *draft, struct section *section, struct str key, struct str text,
	const char *place, struct error *error)
{
	struct entry *entry = draft_begin(draft, section, key, ENTRY_TEXT, place, error);
	if (!entry)
		return false;
	return expand(draft, text, &entry->text, error) || error_prefix(error, "%s", place);
}

bool draft_add_item(struct draft *draft, struct entry *list, struct str text, struct error *error)
{
	assert(list->kind == ENTRY_LIST);
	if ((list->nitems & (list->nitems - 1)) == 0) { /* full at each power of two */
		struct str *larger = arena_alloc(
			&draft->mem, (list->nitems ? 2 * list->nitems : 1) * sizeof(*larger));
		if (list->nitems > 0)
			memcpy(larger, list->items, list->nitems * sizeof(*larger));
		list->items = larger;
	}
	return expand(draft, text, &list->items[list->nitems++], error) ||
	       error_prefix(error, "%s", list->place);
}

/* -- choices -- */

enum { NAME_MAX_COMPARED = 40 };

static size_t min_of(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* How many letters must be added, dropped, changed or swapped with their neighbour. */
static size_t distance_of(struct str a, struct str b)
{
	size_t d[NAME_MAX_COMPARED + 1][NAME_MAX_COMPARED + 1];
	if (a.len > NAME_MAX_COMPARED || b.len > NAME_MAX_COMPARED)
		return SIZE_MAX;
	for (size_t i = 0; i <= a.len; i++)
		for (size_t j = 0; j <= b.len; j++) {
			if (i == 0 || j == 0) {
				d[i][j] = i + j;
				continue;
			}
			bool same = a.ptr[i - 1] == b.ptr[j - 1];
			d[i][j] = min_of(
				d[i - 1][j - 1] + !same, 1 + min_of(d[i - 1][j], d[i][j - 1]));
			if (i > 1 && j > 1 && a.ptr[i - 1] == b.ptr[j - 2] &&
				a.ptr[i - 2] == b.ptr[j - 1])
				d[i][j] = min_of(d[i][j], d[i - 2][j - 2] + 1);
		}
	return d[a.len][b.len];
}

void choices_add(struct choices *choices, const char *name)
{
	size_t distance = distance_of(choices->wanted, str_of(name));
	choices->text = arena_printf(choices->mem, "%s%s%s",
		choices->text.len ? choices->text.ptr : "", choices->text.len ? ", " : "", name);
	if (distance <= min_of(2, choices->wanted.len / 3 + 1) && distance < strlen(name) &&
		(!choices->nearest || distance < choices->distance)) {
		choices->nearest = name;
		choices->distance = distance;
	}
}

const char *choices_print(struct choices *choices)
{
	const char *all = choices->text.len ? choices->text.ptr : "none";
	if (!choices->nearest)
		return arena_printf(choices->mem, "allowed: %s", all).ptr;
	return arena_printf(choices->mem, "did you mean %s? allowed: %s", choices->nearest, all)
		.ptr;
}
