/* Settings as data: finds a key in a schema, reads its text into the typed member, prints it. */
#include "model/setting.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <strings.h>
#include <unistd.h>

#include "base/buf.h"

enum { SECRET_MAX = 65536 };

/* Values that are quoted in messages come from files: a message stays one line on a terminal. */
static void error_clean(struct error *error)
{
	for (char *c = error->text; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7F)
			*c = '?';
}

bool error_set(struct error *error, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(error->text, sizeof(error->text), fmt, ap);
	va_end(ap);
	error_clean(error);
	return false;
}

bool error_prefix(struct error *error, const char *fmt, ...)
{
	struct error old = *error;
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(error->text, sizeof(error->text), fmt, ap);
	va_end(ap);
	size_t n = strlen(error->text);
	snprintf(error->text + n, sizeof(error->text) - n, ": %s", old.text);
	error_clean(error);
	return false;
}

/* So much of a value as a message should show: whole UTF-8 characters. */
static int shown(struct str s)
{
	size_t n = s.len < 80 ? s.len : 80;
	while (n > 0 && n < s.len && (s.ptr[n] & 0xC0) == 0x80)
		n--;
	return (int)n;
}

/* -- finding -- */

const struct setting *setting_find(
	const struct setting *settings, struct str key, struct str *sub, bool *from_file)
{
	*sub = (struct str){0};
	*from_file = false;
	for (const struct setting *s = settings; s->name; s++)
		if (str_eq(key, str_of(s->name)))
			return s;
	for (const struct setting *s = settings; s->name; s++) {
		struct str name = str_of(s->name);
		if (!str_starts(key, name))
			continue;
		struct str rest = str_skip(key, name.len);
		if (s->kind == SET_SECRET && str_eq(rest, STR("_file"))) {
			*from_file = true;
			return s;
		}
		if (s->kind == SET_MAP && rest.len > 1 && rest.ptr[0] == '.') {
			*sub = str_skip(rest, 1);
			return s;
		}
	}
	return NULL;
}

/* -- reading -- */

struct unit {
	const char *name;
	int64_t factor;
};

static const struct unit durations[] = {
	{"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}, {NULL, 0}};
static const struct unit sizes[] = {{"g", 1 << 30}, {"m", 1 << 20}, {"k", 1 << 10}, {NULL, 0}};

static bool read_unit(struct str text, const struct unit *units, int64_t *n)
{
	size_t digits = 0;
	while (digits < text.len && text.ptr[digits] >= '0' && text.ptr[digits] <= '9')
		digits++;
	struct str name = str_skip(text, digits);
	int64_t number;
	if (!str_i64((struct str){text.ptr, digits}, &number))
		return false;
	for (const struct unit *unit = units; unit->name; unit++)
		if (name.len == strlen(unit->name) &&
			strncasecmp(name.ptr, unit->name, name.len) == 0)
			return !__builtin_mul_overflow(number, unit->factor, n);
	*n = number;
	return name.len == 0;
}

bool setting_msec(struct str text, int64_t *msec)
{
	bool bare = text.len > 0 && text.ptr[text.len - 1] >= '0' && text.ptr[text.len - 1] <= '9';
	/* A number without a unit would be read as seconds by some and as milliseconds by others;
	 * nothing is nothing in any unit. */
	return read_unit(text, durations, msec) && (!bare || *msec == 0);
}

bool setting_bytes(struct str text, int64_t *bytes)
{
	return read_unit(text, sizes, bytes);
}

static bool read_bool(struct str text, bool *yes)
{
	static const char *const words[] = {"no", "yes", "false", "true", "off", "on"};
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (text.len == strlen(words[i]) &&
			strncasecmp(text.ptr, words[i], text.len) == 0) {
			*yes = i % 2 == 1;
			return true;
		}
	return false;
}

static struct str print_unit(struct arena *mem, int64_t n, const struct unit *units)
{
	for (const struct unit *unit = units; unit->name; unit++)
		if (n != 0 && n % unit->factor == 0)
			return arena_printf(mem, "%" PRId64 "%s", n / unit->factor, unit->name);
	return arena_printf(mem, "%" PRId64, n);
}

static struct str print_number(struct arena *mem, const struct setting *setting, int64_t n)
{
	if (setting->kind == SET_MSEC)
		return print_unit(mem, n, durations);
	if (setting->kind == SET_BYTES)
		return print_unit(mem, n, sizes);
	return arena_printf(mem, "%" PRId64, n);
}

/* No bound at the upper end is given as 0. */
static bool in_range(const struct setting *setting, int64_t n)
{
	return n >= setting->min && (setting->max == 0 || n <= setting->max);
}

static bool put_number(const struct setting *setting, struct arena *mem, struct str text,
	int64_t *n, struct error *error)
{
	bool readable = setting->kind == SET_MSEC    ? setting_msec(text, n)
			: setting->kind == SET_BYTES ? setting_bytes(text, n)
						     : str_i64(text, n);
	if (readable && in_range(setting, *n))
		return true;
	if (!readable && setting->kind == SET_MSEC)
		return error_set(error,
			"\"%.*s\" is no duration; write it like 500ms, 5s, 2m or 1h", shown(text),
			text.ptr);
	if (!readable && setting->kind == SET_BYTES)
		return error_set(error, "\"%.*s\" is no size; write it like 512, 64k, 10m or 1g",
			shown(text), text.ptr);
	const char *wrong = readable ? "is out of range" : "is no whole number";
	struct str min = print_number(mem, setting, setting->min);
	if (setting->max == 0)
		return error_set(error, "\"%.*s\" %s; allowed: %s or more", shown(text), text.ptr,
			wrong, min.ptr);
	return error_set(error, "\"%.*s\" %s; allowed: %s to %s", shown(text), text.ptr, wrong,
		min.ptr, print_number(mem, setting, setting->max).ptr);
}

static bool put_choice(
	const struct setting *setting, struct str text, int *choice, struct error *error)
{
	char all[256];
	size_t n = 0;
	for (int i = 0; setting->choices[i]; i++) {
		if (str_eq(text, str_of(setting->choices[i]))) {
			*choice = i;
			return true;
		}
		n += (size_t)snprintf(
			all + n, sizeof(all) - n, "%s%s", i ? ", " : "", setting->choices[i]);
		assert(n < sizeof(all));
	}
	return error_set(error, "\"%.*s\" is not known; allowed: %s", shown(text), text.ptr, all);
}

/* An array that has room for one item more: its size is the power of two at or above `n`. */
static void *grown(struct arena *mem, void *items, size_t n, size_t size)
{
	if (n > 0 && (n & (n - 1)) != 0)
		return items;
	void *larger = arena_alloc(mem, (n > 0 ? 2 * n : 1) * size);
	if (n > 0)
		memcpy(larger, items, n * size);
	return larger;
}

static void map_add(struct setting_map *map, struct arena *mem, struct str name, struct str value)
{
	map->pairs = grown(mem, map->pairs, map->n, sizeof(map->pairs[0]));
	map->pairs[map->n++] = (struct pair){name, value};
}

static bool put_map_entry(struct setting_map *map, struct arena *mem, struct str name,
	struct str value, struct error *error)
{
	for (size_t i = 0; i < map->n; i++)
		if (str_eq(map->pairs[i].name, name))
			return error_set(error, "\"%.*s\" is given twice; once is allowed",
				shown(name), name.ptr);
	map_add(map, mem, arena_str(mem, name), arena_str(mem, value));
	return true;
}

static bool put_map(struct setting_map *map, struct arena *mem, struct str sub, struct str text,
	struct error *error)
{
	struct setting_map more = {0};
	if (sub.len > 0)
		return put_map_entry(map, mem, sub, text, error);
	if (!setting_pairs(text, mem, &more, error))
		return false;
	for (size_t i = 0; i < more.n; i++)
		if (!put_map_entry(map, mem, more.pairs[i].name, more.pairs[i].value, error))
			return false;
	return true;
}

static void *member(const struct setting *setting, void *conf)
{
	return (char *)conf + setting->offset;
}

bool setting_put(const struct setting *setting, void *conf, struct arena *mem, struct str sub,
	struct str text, struct error *error)
{
	void *to = member(setting, conf);
	struct str word;
	switch (setting->kind) {
	case SET_SECRET:
		if (text.len == 0)
			return error_set(error, "is empty; leave the key out to have none");
		/* fall through */
	case SET_STR:
		*(const char **)to = arena_str(mem, text).ptr;
		return true;
	case SET_INT:
	case SET_MSEC:
	case SET_BYTES:
		return put_number(setting, mem, text, to, error);
	case SET_BOOL:
		return read_bool(text, to) ||
		       error_set(error,
			       "\"%.*s\" is neither yes nor no; allowed: yes, no, true, "
			       "false, on, off",
			       shown(text), text.ptr);
	case SET_CHOICE:
		return put_choice(setting, text, to, error);
	case SET_MAP:
		return put_map(to, mem, sub, text, error);
	case SET_LIST:
		while (str_word(&text, &word))
			setting_add(setting, conf, mem, word);
		return true;
	case SET_TABLES:
		break;
	}
	return error_set(error, "names tables, which only the loader knows");
}

void setting_add(const struct setting *setting, void *conf, struct arena *mem, struct str item)
{
	struct setting_list *list = member(setting, conf);
	assert(setting->kind == SET_LIST);
	list->items = grown(mem, list->items, list->n, sizeof(list->items[0]));
	list->items[list->n++] = arena_str(mem, item);
}

void setting_fill(const struct setting *settings, void *conf, struct arena *mem)
{
	struct error error;
	for (const struct setting *s = settings; s->name; s++) {
		const char *text = s->fallback ? s->fallback : "";
		void *to = member(s, conf);
		bool number = s->kind == SET_INT || s->kind == SET_MSEC || s->kind == SET_BYTES;
		if (s->kind == SET_STR || s->kind == SET_SECRET)
			*(const char **)to = text;
		else if (number && *text == '\0')
			*(int64_t *)to = -1;
		else if (*text != '\0' &&
			 !setting_put(s, conf, mem, (struct str){0}, str_of(text), &error))
			assert(!"a fallback must be a value that is allowed");
	}
}

/* -- files -- */

bool setting_check_file(const char *name, const char *path, struct error *error)
{
	if (path[0] && access(path, R_OK) != 0)
		return error_set(error, "%s: cannot read %s: %s", name, path, strerror(errno));
	return true;
}

static bool read_all(int fd, char *to, size_t size, size_t *len)
{
	*len = 0;
	while (*len < size) {
		ssize_t n = read(fd, to + *len, size - *len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		if (n == 0)
			break;
		*len += (size_t)n;
	}
	return true;
}

bool setting_read_secret(
	const char *path, struct arena *mem, struct str *secret, struct error *error)
{
	char *text = arena_alloc(mem, SECRET_MAX + 2);
	size_t len = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return error_set(error, "cannot read %s: %s", path, strerror(errno));
	bool good = read_all(fd, text, SECRET_MAX + 1, &len);
	int why = errno;
	close(fd);
	if (!good)
		return error_set(error, "cannot read %s: %s", path, strerror(why));
	if (len > SECRET_MAX)
		return error_set(error, "%s is too large for a secret; allowed: 64k", path);
	while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r'))
		text[--len] = '\0';
	*secret = (struct str){text, len};
	if (len == 0)
		return error_set(error, "%s is empty; it must hold the secret", path);
	if (str_has(*secret, '\0'))
		return error_set(error, "%s holds a NUL byte; a secret is text", path);
	return true;
}

/* -- key=value lists -- */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* The text between double quotes that *rest begins with, without its escapes. */
static bool pairs_quoted(struct str *rest, struct arena *mem, struct str *text, struct error *error)
{
	char *to = arena_alloc(mem, rest->len);
	size_t n = 0;
	for (size_t i = 1; i < rest->len; i++) {
		char c = rest->ptr[i];
		if (c == '"') {
			*text = (struct str){to, n};
			*rest = str_skip(*rest, i + 1);
			return true;
		}
		if (c == '\\' && i + 1 < rest->len) {
			c = rest->ptr[++i];
			if (c == 'n' || c == 't')
				c = c == 'n' ? '\n' : '\t';
		}
		to[n++] = c;
	}
	return error_set(error, "a double quote is not closed: %.*s", shown(*rest), rest->ptr);
}

/* Does *rest, which begins with a comma, go on with another key=value? */
static bool comma_separates(struct str rest)
{
	size_t i = 1;
	while (i < rest.len && is_blank(rest.ptr[i]))
		i++;
	if (i < rest.len && rest.ptr[i] == '"') {
		for (i++; i < rest.len && rest.ptr[i] != '"'; i++)
			i += rest.ptr[i] == '\\';
		return i + 1 < rest.len && rest.ptr[i + 1] == '=';
	}
	while (i < rest.len && !is_blank(rest.ptr[i]) && rest.ptr[i] != ',' && rest.ptr[i] != '=')
		i++;
	return i < rest.len && rest.ptr[i] == '=';
}

static bool pairs_key(struct str *rest, struct arena *mem, struct str *key, struct error *error)
{
	if (rest->ptr[0] == '"') {
		if (!pairs_quoted(rest, mem, key, error))
			return false;
	} else {
		size_t n = 0;
		while (n < rest->len && !is_blank(rest->ptr[n]) && rest->ptr[n] != '=')
			n++;
		*key = (struct str){rest->ptr, n};
		*rest = str_skip(*rest, n);
	}
	if (rest->len == 0 || rest->ptr[0] != '=')
		return error_set(
			error, "\"%.*s\" has no value; write key=value", shown(*key), key->ptr);
	if (key->len == 0)
		return error_set(error, "a key is empty; write key=value");
	*rest = str_skip(*rest, 1);
	return true;
}

static bool pairs_value(struct str *rest, struct arena *mem, struct str *value, struct error *error)
{
	size_t n = 0;
	if (rest->len > 0 && rest->ptr[0] == '"') {
		if (!pairs_quoted(rest, mem, value, error))
			return false;
		if (rest->len > 0 && !is_blank(rest->ptr[0]) && rest->ptr[0] != ',')
			return error_set(error,
				"white space or a comma must follow a closing quote: %.*s",
				shown(*rest), rest->ptr);
		return true;
	}
	while (n < rest->len && !is_blank(rest->ptr[n]) &&
		!(rest->ptr[n] == ',' && comma_separates(str_skip(*rest, n))))
		n++;
	*value = (struct str){rest->ptr, n};
	*rest = str_skip(*rest, n);
	return true;
}

bool setting_pairs(struct str text, struct arena *mem, struct setting_map *map, struct error *error)
{
	struct str rest = text, key, value;
	*map = (struct setting_map){0};
	for (;;) {
		while (rest.len > 0 && is_blank(rest.ptr[0]))
			rest = str_skip(rest, 1);
		if (rest.len == 0)
			return true;
		if (map->n > 0 && rest.ptr[0] == ',') {
			rest = str_skip(rest, 1);
			continue;
		}
		if (!pairs_key(&rest, mem, &key, error) || !pairs_value(&rest, mem, &value, error))
			return false;
		map_add(map, mem, arena_str(mem, key), arena_str(mem, value));
	}
}

/* -- printing -- */

/* The text outlives its buffer, which grows with it: maps may hold many thousands. */
static struct str keep_printed(struct arena *mem, struct buf *buf)
{
	struct str text = arena_str(mem, buf_str(buf));
	buf_free(buf);
	return text;
}

static struct str print_words(struct arena *mem, const struct setting_list *list)
{
	struct buf all = {.max = SIZE_MAX / 2};
	for (size_t i = 0; i < list->n; i++) {
		if (i > 0)
			buf_add_char(&all, ' ');
		buf_add(&all, list->items[i]);
	}
	return keep_printed(mem, &all);
}

/* As setting_pairs() reads it: quoted, so that no blank, comma or quote ends it. */
static void add_pair_part(struct buf *to, struct str s)
{
	buf_add_char(to, '"');
	for (size_t i = 0; i < s.len; i++) {
		char c = s.ptr[i];
		if (c == '"' || c == '\\' || c == '\n' || c == '\t')
			buf_add_char(to, '\\');
		buf_add_char(to, c == '\n' ? 'n' : c == '\t' ? 't' : c);
	}
	buf_add_char(to, '"');
}

static struct str print_pairs(struct arena *mem, const struct setting_map *map)
{
	struct buf all = {.max = SIZE_MAX / 2};
	for (size_t i = 0; i < map->n; i++) {
		if (i > 0)
			buf_add_char(&all, ' ');
		add_pair_part(&all, map->pairs[i].name);
		buf_add_char(&all, '=');
		add_pair_part(&all, map->pairs[i].value);
	}
	return keep_printed(mem, &all);
}

void setting_print(
	const struct setting *setting, const void *conf, struct arena *mem, struct str *text)
{
	const void *from = (const char *)conf + setting->offset;
	switch (setting->kind) {
	case SET_STR:
		*text = str_of(*(const char *const *)from);
		return;
	case SET_SECRET:
		*text = str_of(**(const char *const *)from ? "(secret)" : "");
		return;
	case SET_INT:
	case SET_MSEC:
	case SET_BYTES:
		*text = print_number(mem, setting, *(const int64_t *)from);
		return;
	case SET_BOOL:
		*text = *(const bool *)from ? STR("yes") : STR("no");
		return;
	case SET_CHOICE:
		*text = str_of(setting->choices[*(const int *)from]);
		return;
	case SET_MAP:
		*text = print_pairs(mem, from);
		return;
	case SET_LIST:
		*text = print_words(mem, from);
		return;
	case SET_TABLES:
		*text = (struct str){"", 0};
		return;
	}
}
