/* An immutable map of keys to ready answers, and the two file formats it is read from. Opens no file
 * and logs nothing. */
#include "static_map.h"

#include <stdatomic.h>
#include <stdlib.h>

struct map_slot {
	uint32_t hash;
	uint32_t entry; /* index + 1; 0: free */
};

enum { FIRST_SLOTS = 16 };

struct map *map_new(void)
{
	struct map *map = memory_new(sizeof(*map));
	atomic_init(&map->refs, 1);
	map->nslots = FIRST_SLOTS;
	map->slots = memory_new(map->nslots * sizeof(*map->slots));
	return map;
}

struct map *map_keep(struct map *map)
{
	atomic_fetch_add(&map->refs, 1);
	return map;
}

void map_release(struct map *map)
{
	if (!map || atomic_fetch_sub(&map->refs, 1) > 1)
		return;
	arena_clear(&map->mem);
	free(map->text);
	free(map->entries);
	free(map->slots);
	free(map);
}

/* The slot of `key`, or the free one where it belongs. */
static struct map_slot *slot_of(const struct map *map, struct str key, uint32_t hash)
{
	size_t mask = map->nslots - 1;
	for (size_t at = hash & mask;; at = (at + 1) & mask) {
		struct map_slot *slot = &map->slots[at];
		if (slot->entry == 0)
			return slot;
		if (slot->hash == hash && str_eq(entry_key(&map->entries[slot->entry - 1]), key))
			return slot;
	}
}

/* Fills fresh slots from the entries, whose keys are all different. */
static void fill_slots(struct map *map, size_t nslots)
{
	struct map_slot *slots = memory_new(nslots * sizeof(*slots));
	for (size_t i = 0; i < map->n; i++) {
		uint32_t hash = str_hash(entry_key(&map->entries[i]));
		size_t at = hash & (nslots - 1);
		while (slots[at].entry != 0)
			at = (at + 1) & (nslots - 1);
		slots[at] = (struct map_slot){hash, (uint32_t)i + 1};
	}
	free(map->slots);
	map->slots = slots;
	map->nslots = nslots;
}

/* NULL when the key is there already. */
static struct map_entry *add_key(struct map *map, struct str key)
{
	uint32_t hash = str_hash(key);
	struct map_slot *slot = slot_of(map, key, hash);
	if (slot->entry != 0)
		return NULL;
	if (map->n == map->room) {
		map->room = map->room ? map->room * 2 : 16;
		map->entries = memory_grow(map->entries, map->room * sizeof(*map->entries));
	}
	struct map_entry *entry = &map->entries[map->n++];
	*entry = (struct map_entry){.key = key.ptr, .key_len = (uint32_t)key.len};
	*slot = (struct map_slot){hash, (uint32_t)map->n};
	if (map->n > map->nslots / 2)
		fill_slots(map, map->nslots * 2);
	return entry;
}

static void put_value(struct map_entry *entry, enum form form, enum status status, struct str value)
{
	entry->status[form] = (uint8_t)status;
	entry->value[form] = value.ptr;
	entry->value_len[form] = (uint32_t)value.len;
}

bool map_add(struct map *map, struct str key, struct str value)
{
	struct map_entry *entry = add_key(map, key);
	if (!entry)
		return false;
	put_value(entry, FORM_TEXT, ST_OK, value);
	put_value(entry, FORM_JSON, ST_OK, value);
	return true;
}

static int by_key(const void *a, const void *b)
{
	return str_cmp(entry_key(a), entry_key(b));
}

void map_seal(struct map *map)
{
	if (map->n == 0)
		return;
	map->entries = memory_grow(map->entries, map->n * sizeof(*map->entries));
	map->room = map->n;
	qsort(map->entries, map->n, sizeof(*map->entries), by_key);
	fill_slots(map, map->nslots);
}

/* Without the quotes and backslashes of a key that is quoted from end to end. */
static struct str unquote(struct str key, char *to)
{
	size_t n = 0;
	for (size_t i = 1; i + 1 < key.len; i++) {
		if (key.ptr[i] == '\\' && i + 2 < key.len)
			i++;
		to[n++] = key.ptr[i];
	}
	return (struct str){to, n};
}

/* Behind the string that begins at `at`; the end of the text when it is not closed. */
static size_t string_end(struct str text, size_t at)
{
	for (at++; at < text.len; at++) {
		if (text.ptr[at] == '\\')
			at++;
		else if (text.ptr[at] == '"')
			return at + 1;
	}
	return text.len;
}

/* One string from end to end; "a b"@example.org is none. */
static bool is_quoted(struct str key)
{
	return key.len >= 2 && key.ptr[0] == '"' && key.ptr[key.len - 1] == '"' &&
	       string_end(key, 0) == key.len;
}

/* Postfix knows such a key only with its quotes, a dict only without: it answers to both. */
static const struct map_entry *find_quoted(const struct map *map, struct str key)
{
	char *plain = memory_new(key.len);
	struct str name = unquote(key, plain);
	const struct map_slot *slot = slot_of(map, name, str_hash(name));
	free(plain);
	const struct map_entry *entry = slot->entry ? &map->entries[slot->entry - 1] : NULL;
	return entry && entry->quoted ? entry : NULL;
}

const struct map_entry *map_find(const struct map *map, struct str key)
{
	const struct map_slot *slot = slot_of(map, key, str_hash(key));
	if (slot->entry != 0)
		return &map->entries[slot->entry - 1];
	return is_quoted(key) ? find_quoted(map, key) : NULL;
}

size_t map_seek(const struct map *map, struct str key)
{
	size_t low = 0, high = map->n;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (str_cmp(entry_key(&map->entries[middle]), key) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* A file being read. */
struct reader {
	struct map *map;
	const char *path;
	struct str rest;
	const struct json_rules *rules;
	map_fault *fault;
	struct error *error;
};

/* The map's own text may be written to. */
static char *own_text(const struct reader *in, const char *at)
{
	return in->map->text + (at - in->map->text);
}

/* Lines of text, as postmap reads them. */

static bool is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* A line that holds something: not blank, no comment. */
static bool says_something(struct str line)
{
	struct str text = str_trim(line);
	return text.len > 0 && text.ptr[0] != '#';
}

/* The next logical line, put together in place: lines that begin with white space go on with the one
 * before, blank ones and comments between them do not count. *line_no is the line it began at. */
static bool logical_line(
	struct reader *in, unsigned long *at, unsigned long *line_no, struct str *line)
{
	char *begin = NULL;
	size_t len = 0;
	while (in->rest.len > 0) {
		struct str rest = in->rest, next;
		str_cut(&rest, '\n', &next);
		bool tells = says_something(next);
		if (tells && begin && !is_space(next.ptr[0]))
			break;
		in->rest = rest;
		++*at;
		if (!tells)
			continue;
		if (!begin) {
			begin = own_text(in, next.ptr);
			*line_no = *at;
		}
		memmove(begin + len, next.ptr, next.len);
		len += next.len;
	}
	*line = (struct str){begin, len};
	return begin != NULL;
}

/* How long the key is: it ends at white space that is not in quotes. 0: the quotes are not closed. */
static size_t key_length(struct str line)
{
	bool inside = false;
	size_t n = 0;
	for (; n < line.len; n++) {
		char c = line.ptr[n];
		if (c == '\\' && n + 1 < line.len)
			n++;
		else if (c == '"')
			inside = !inside;
		else if (!inside && is_space(c))
			break;
	}
	return inside ? 0 : n;
}

static bool bad_line(const struct reader *in, unsigned long line_no, const char *what)
{
	return error_set(in->error, "%s:%lu: %s", in->path, line_no, what);
}

static bool add_line(const struct reader *in, unsigned long line_no, struct str line)
{
	if (is_space(line.ptr[0]))
		return bad_line(in, line_no, "continues a line, but there is none before it");
	if (str_has(line, '\0'))
		return bad_line(in, line_no, "holds a NUL byte");
	size_t n = key_length(line);
	if (n == 0)
		return bad_line(in, line_no, "the key's '\"' is not closed");
	struct str key = {line.ptr, n}, value = str_trim(str_skip(line, n));
	if (value.len == 0)
		return bad_line(in, line_no, "has no value; a line is: key, white space, value");
	const char *fault = in->fault ? in->fault(value) : NULL;
	if (fault)
		return bad_line(in, line_no, fault);
	bool quoted = is_quoted(key);
	if (quoted) /* into its own place: it only gets shorter */
		key = unquote(key, own_text(in, key.ptr));
	if (map_add(in->map, key, value))
		in->map->entries[in->map->n - 1].quoted = quoted;
	else if (in->map->duplicates++ == 0)
		in->map->duplicate_line = line_no;
	return true;
}

static bool parse_lines(struct reader *in)
{
	unsigned long at = 0, line_no = 0;
	struct str line;
	while (logical_line(in, &at, &line_no, &line)) {
		if (!add_line(in, line_no, line))
			return false;
	}
	return true;
}

/* A JSON object. Only its outermost level is taken apart here; json.c judges the values. */

static unsigned long line_of(const struct reader *in, const char *at)
{
	unsigned long line_no = 1;
	for (const char *p = in->map->text; p < at; p++)
		line_no += *p == '\n';
	return line_no;
}

static bool bad_json(const struct reader *in, const char *what)
{
	return bad_line(in, line_of(in, in->rest.ptr), what);
}

/* The next byte that counts, 0 at the end. */
static char json_peek(struct reader *in)
{
	while (in->rest.len > 0 && is_space(in->rest.ptr[0]))
		in->rest = str_skip(in->rest, 1);
	if (in->rest.len == 0)
		return '\0';
	return in->rest.ptr[0];
}

/* Cuts off the next value, whether or not it is a good one. */
static struct str json_token(struct reader *in)
{
	size_t n = 0, depth = 0;
	for (json_peek(in); n < in->rest.len; n++) {
		char c = in->rest.ptr[n];
		if (c == '"') {
			n = string_end(in->rest, n) - 1;
		} else if (c == '{' || c == '[') {
			depth++;
		} else if (c == '}' || c == ']') {
			if (depth == 0)
				break;
			depth--;
		} else if (depth == 0 && (c == ',' || c == ':' || is_space(c))) {
			break;
		}
	}
	struct str token = {in->rest.ptr, n};
	in->rest = str_skip(in->rest, n);
	return token;
}

/* A string that says itself: nothing to decode. */
static bool json_plain(struct str token, struct str *text)
{
	if (!is_quoted(token))
		return false;
	*text = (struct str){token.ptr + 1, token.len - 2};
	for (size_t i = 0; i < text->len; i++) {
		unsigned char c = (unsigned char)text->ptr[i];
		if (c < 0x20 || c == '\\' || c == '"' || c >= 0x7f)
			return false;
	}
	return true;
}

static bool json_key(const struct reader *in, struct str token, struct str *key)
{
	const struct json_rules rules = {.form = FORM_TEXT, .pointer = ""};
	const char *why = "";
	if (json_plain(token, key))
		return true;
	return is_quoted(token) && json_value(token, &rules, &in->map->mem, key, &why) == ST_OK &&
	       !str_has(*key, '\0');
}

static bool json_entry(const struct reader *in, struct map_entry *entry, struct str token)
{
	struct arena *mem = &in->map->mem;
	struct str value;
	if (in->rules->pointer[0] == '\0' && json_plain(token, &value)) {
		put_value(entry, FORM_TEXT, ST_OK, value);
		put_value(entry, FORM_JSON, ST_OK, value);
		return true;
	}
	if (!json_valid(token))
		return false;
	for (int form = FORM_TEXT; form <= FORM_JSON; form++) {
		struct json_rules rules = *in->rules;
		const char *why = "";
		rules.form = (enum form)form;
		value = (struct str){NULL, 0};
		enum status status = json_value(token, &rules, mem, &value, &why);
		if (status == ST_TEMP)
			value = arena_str(mem, str_of(why));
		put_value(entry, (enum form)form, status, value);
	}
	return true;
}

static const char *fault_of_entry(const struct reader *in, const struct map_entry *entry)
{
	if (!in->fault || entry->status[FORM_TEXT] == ST_NOTFOUND)
		return NULL;
	if (entry->status[FORM_TEXT] != ST_OK)
		return entry->value[FORM_TEXT];
	return in->fault(entry_value(entry, FORM_TEXT));
}

static bool json_member(struct reader *in)
{
	struct str key;
	json_peek(in);
	struct str before = in->rest;
	if (!json_key(in, json_token(in), &key)) {
		in->rest = before;
		return bad_json(in, "a name in quotes is expected here, without NUL");
	}
	if (json_peek(in) != ':')
		return bad_json(in, "a ':' is expected here");
	in->rest = str_skip(in->rest, 1);
	json_peek(in);
	before = in->rest;
	struct str token = json_token(in);
	struct map_entry ignored = {0};
	struct map_entry *entry = add_key(in->map, key);
	if (!entry && in->map->duplicates++ == 0)
		in->map->duplicate_line = line_of(in, before.ptr);
	entry = entry ? entry : &ignored;
	const char *fault = "not a JSON value";
	if (json_entry(in, entry, token))
		fault = fault_of_entry(in, entry);
	if (fault)
		in->rest = before;
	return !fault || bad_json(in, fault);
}

static bool parse_object(struct reader *in)
{
	in->rest = str_skip(in->rest, 1);
	if (json_peek(in) == '}') {
		in->rest = str_skip(in->rest, 1);
	} else {
		char c;
		do {
			if (!json_member(in))
				return false;
			c = json_peek(in);
			if (c != ',' && c != '}')
				return bad_json(in, "a ',' or the object's '}' is expected here");
			in->rest = str_skip(in->rest, 1);
		} while (c == ',');
	}
	if (json_peek(in) != '\0' || in->rest.len > 0)
		return bad_json(in, "something follows the JSON object");
	return true;
}

bool map_parse(struct map *map, const char *path, char *text, size_t len,
	const struct json_rules *rules, map_fault *fault, struct error *error)
{
	struct reader in = {map, path, {text, len}, rules, fault, error};
	struct str name = str_of(path), ending = STR(".json");
	map->text = text;
	if (str_starts(in.rest, STR("\xef\xbb\xbf"))) /* a byte order mark */
		in.rest = str_skip(in.rest, 3);
	struct str whole = str_trim(in.rest);
	if (whole.len > 0 && whole.ptr[0] == '{') {
		in.rest = whole;
		return parse_object(&in);
	}
	if (name.len >= ending.len && str_eq(str_skip(name, name.len - ending.len), ending)) {
		in.rest = whole;
		return bad_json(&in, "a JSON object is expected: { ... }");
	}
	if (rules->pointer[0] != '\0')
		return error_set(error, "%s: value: needs a JSON file, this one is text", path);
	return parse_lines(&in);
}
