/* What a table was configured with, in 64 bits: FNV-1a over the typed members. */
#include "model/digest.h"

#include <stdio.h>

enum { PIECE = 16 * 1024 };

static void add_bytes(uint64_t *digest, const void *bytes, size_t n)
{
	const unsigned char *byte = bytes;
	for (size_t i = 0; i < n; i++)
		*digest = (*digest ^ byte[i]) * UINT64_C(0x100000001b3);
}

static void add_number(uint64_t *digest, uint64_t n)
{
	add_bytes(digest, &n, sizeof(n));
}

void digest_add(uint64_t *digest, struct str bytes)
{
	add_number(digest, bytes.len);
	add_bytes(digest, bytes.ptr, bytes.len);
}

void digest_add_file(uint64_t *digest, const char *path)
{
	char piece[PIECE];
	size_t n, total = 0;
	FILE *file = *path ? fopen(path, "re") : NULL;
	if (!file)
		return;
	while ((n = fread(piece, 1, sizeof(piece), file)) > 0) {
		add_bytes(digest, piece, n);
		total += n;
	}
	add_number(digest, total);
	fclose(file);
}

static void add_map(uint64_t *digest, const struct setting_map *map)
{
	add_number(digest, map->n);
	for (size_t i = 0; i < map->n; i++) {
		digest_add(digest, map->pairs[i].name);
		digest_add(digest, map->pairs[i].value);
	}
}

static void add_list(uint64_t *digest, const struct setting_list *list)
{
	add_number(digest, list->n);
	for (size_t i = 0; i < list->n; i++)
		digest_add(digest, list->items[i]);
}

static void add_tables(uint64_t *digest, const struct table_list *list)
{
	add_number(digest, list->n);
	for (size_t i = 0; i < list->n; i++)
		add_number(digest, list->tables[i]->digest);
}

static void add_member(uint64_t *digest, enum setting_kind kind, const void *member)
{
	switch (kind) {
	case SET_STR:
	case SET_SECRET:
		digest_add(digest, str_of(*(const char *const *)member));
		break;
	case SET_INT:
	case SET_MSEC:
	case SET_BYTES:
		add_number(digest, (uint64_t) * (const int64_t *)member);
		break;
	case SET_BOOL:
		add_number(digest, *(const bool *)member);
		break;
	case SET_CHOICE:
		add_number(digest, (uint64_t) * (const int *)member);
		break;
	case SET_MAP:
		add_map(digest, member);
		break;
	case SET_LIST:
		add_list(digest, member);
		break;
	case SET_TABLES:
		add_tables(digest, member);
		break;
	}
}

static void add_settings(uint64_t *digest, const struct setting *settings, const void *conf)
{
	for (const struct setting *s = settings; s && s->name; s++)
		add_member(digest, s->kind, (const char *)conf + s->offset);
}

uint64_t digest_of(const struct table_conf *table)
{
	uint64_t digest = UINT64_C(0xcbf29ce484222325);
	digest_add(&digest, str_of(table->name));
	digest_add(&digest, str_of(table->backend->name));
	add_settings(&digest, table_settings, &table->options);
	add_settings(&digest, table->backend->settings, table->conf);
	if (table->inner)
		add_number(&digest, table->inner->digest);
	return digest;
}
