/* An immutable map of keys to ready answers: built once, then read by any thread without a lock. */
#ifndef MAPMUX_STATIC_MAP_H
#define MAPMUX_STATIC_MAP_H

#include "model/setting.h"
#include "text/json.h"

/* One key; its answer for each enum form. */
struct map_entry {
	const char *key, *value[2]; /* ST_OK: the value; ST_TEMP: why */
	uint32_t key_len, value_len[2];
	uint8_t status[2];
	bool quoted; /* the file has the key in quotes; they are not part of `key` */
};

struct map_slot;

struct map {
	_Atomic unsigned refs;
	struct arena mem;
	char *text;                /* of the file; keys and values point into it */
	struct map_entry *entries; /* by key, once map_seal() was called */
	size_t n, room;
	struct map_slot *slots;       /* open addressing, linear, at most half full */
	size_t nslots;                /* a power of two */
	size_t duplicates;            /* keys that came again; the first one stays */
	unsigned long duplicate_line; /* of the first such key */
};

/* One reference each; the last map_release() frees. Any thread. */
struct map *map_new(void);
struct map *map_keep(struct map *map);
void map_release(struct map *map);

/* Adds a key with a plain string as its value; both are borrowed. False when the key is there. */
bool map_add(struct map *map, struct str key, struct str value);

/* Why a value is not one that is wanted; NULL: it is. */
typedef const char *map_fault(struct str value);

/* Reads a whole file that `map` takes over: a JSON object, or lines of text. The error says
 * PATH:LINE. `fault`: NULL takes all values. */
bool map_parse(struct map *map, const char *path, char *text, size_t len,
	const struct json_rules *rules, map_fault *fault, struct error *error);

/* No more keys: sorts them. */
void map_seal(struct map *map);

/* NULL when there is none. */
const struct map_entry *map_find(const struct map *map, struct str key);

/* The first entry, in key order, whose key does not stand before `key`. */
size_t map_seek(const struct map *map, struct str key);

static inline struct str entry_key(const struct map_entry *entry)
{
	return (struct str){entry->key, entry->key_len};
}

static inline struct str entry_value(const struct map_entry *entry, enum form form)
{
	return (struct str){entry->value[form], entry->value_len[form]};
}

#endif
