/* Settings as data: a schema beside the code that uses them, text in, typed member out. */
#ifndef MAPMUX_SETTING_H
#define MAPMUX_SETTING_H

#include "base/arena.h"

/* What went wrong, for people; the place (file, line, key) is put before it by the caller. */
struct error {
	char text[1024];
};

/* Always false, so that a failing function can end in `return error_set(...)`. */
bool error_set(struct error *error, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Puts printed text and ": " before what stands there. Always false. */
bool error_prefix(struct error *error, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

enum setting_kind {
	SET_STR,    /* const char *; never NULL */
	SET_SECRET, /* const char *; never printed; has a twin NAME_file that names a file */
	SET_INT,    /* int64_t, within min and max */
	SET_BOOL,   /* bool: yes, no, true, false, on, off */
	SET_MSEC,   /* int64_t milliseconds: 500ms 5s 2m 1h */
	SET_BYTES,  /* int64_t bytes: 512 64k 10m 1g */
	SET_CHOICE, /* int: index into `choices` */
	SET_MAP,    /* struct setting_map, in the order given: NAME.KEY=VALUE, or YAML map */
	SET_LIST,   /* struct setting_list: words of the text, or a YAML list */
	SET_TABLES, /* struct table_list: names of tables; resolved by the loader */
};

struct setting_map {
	struct pair *pairs;
	size_t n;
};

struct setting_list {
	struct str *items;
	size_t n;
};

struct setting {
	const char *name;
	enum setting_kind kind;
	size_t offset;              /* of the member in the conf struct */
	const char *fallback;       /* as text, through the same setter; NULL: must be given; "" for
	                             * a number: -1, which means not given */
	const char *help;           /* one line, for `mapmux help` and the manual */
	int64_t min, max;           /* SET_INT, SET_MSEC, SET_BYTES; max 0: no upper limit */
	const char *const *choices; /* SET_CHOICE: NULL-terminated */

	/* SET_STR that may name a table, when this says so; the loader puts it into the struct table_list
	 * at `tables_offset`, which else stays empty. */
	bool (*names_table)(struct str text);
	size_t tables_offset;
};

/* The end of a list of settings is a NULL name. Finds the setting that `key` names; *sub is what
 * follows "NAME." for a map, *from_file is true for the _file twin of a secret. A setting of
 * exactly that name goes before both. */
const struct setting *setting_find(
	const struct setting *settings, struct str key, struct str *sub, bool *from_file);

/* Writes the fallback of every setting; a required one is empty, zero or "no" until it is put. The
 * lists of SET_TABLES are left alone. */
void setting_fill(const struct setting *settings, void *conf, struct arena *mem);

/* Reads `text` into the member of `conf`. For SET_MAP, `sub` names the entry; without one the text
 * is a list of key=value items. For SET_TABLES it fails: the loader resolves these. Text is copied
 * to `mem`. */
bool setting_put(const struct setting *setting, void *conf, struct arena *mem, struct str sub,
	struct str text, struct error *error);

/* Adds one item of a YAML list to a SET_LIST. */
void setting_add(const struct setting *setting, void *conf, struct arena *mem, struct str item);

/* The setting's text; NULL when it is empty. */
static inline const char *setting_or_null(const char *text)
{
	return text[0] ? text : NULL;
}

/* Can the file that the setting `name` tells of be read? An empty path is none. */
bool setting_check_file(const char *name, const char *path, struct error *error);

/* The content of a secret's file, without line ends behind it: 1 byte to 64 KiB, no NUL. */
bool setting_read_secret(
	const char *path, struct arena *mem, struct str *secret, struct error *error);

/* Splits `key=value key="two words" ...` (see docs/static.md): separated by white space, or by a
 * comma when what follows it, up to the next comma or blank, holds a '=' of its own. Keys and
 * values may stand in double quotes, where \n and \t are line break and TAB, and a backslash
 * before anything else means that character. A key that comes twice is the caller's matter. */
bool setting_pairs(
	struct str text, struct arena *mem, struct setting_map *map, struct error *error);

/* Parses of one value, shared with the command line. A duration needs its unit, unless it is 0. */
bool setting_msec(struct str text, int64_t *msec);
bool setting_bytes(struct str text, int64_t *bytes);

/* The member as text that setting_put() would read back, for `mapmux check`; a secret is shown as
 * "(secret)", SET_TABLES as nothing: their names are the loader's. */
void setting_print(
	const struct setting *setting, const void *conf, struct arena *mem, struct str *text);

#endif
