/* What a table was configured with, in 64 bits: equal before and after a reload, it is the same
 * table, and what it has learnt still holds. Never printed: secrets went into it. */
#ifndef MAPMUX_DIGEST_H
#define MAPMUX_DIGEST_H

#include "model/table.h"

/* Adds bytes and their number. */
void digest_add(uint64_t *digest, struct str bytes);

/* Adds what the file holds, for check() of a backend; "" and a file that cannot be read add
 * nothing. May block. */
void digest_add_file(uint64_t *digest, const char *path);

/* Name, type, options and settings with the content of secrets, and the digests of the tables it
 * uses or stands around. */
uint64_t digest_of(const struct table_conf *table);

#endif
