/* How the keys of a redis table are named in the server: a prefix with {user}, {scope}, {table}. */
#ifndef MAPMUX_REDIS_KEY_H
#define MAPMUX_REDIS_KEY_H

#include "model/question.h"
#include "model/setting.h"

struct key_prefix {
	const char *text; /* borrowed */
	struct str table;
	bool has_user, has_scope;
};

/* {{ and }} are braces. What follows {user} must be a byte that cannot be of a user's name as it is
 * written, or keys of two users could meet. */
bool key_prefix_parse(
	const char *text, const char *table, struct key_prefix *prefix, struct error *error);

enum key_result {
	KEY_OK,
	KEY_NO_USER,  /* a private key without a user */
	KEY_RESERVED, /* a shared key where private ones live */
};

/* The whole name in `mem`; what stands before the key itself is *space long.
 *
 * {user} is the user of a private key, with everything percent-encoded but letters, digits and
 * "-_.~@+"; of other keys it is empty. {scope} is "priv" or "shared". Where the prefix has no
 * {user}, a private key is PREFIX [priv/] USER/KEY; without {scope} as well, shared keys that begin
 * with "priv/" do not exist. */
enum key_result key_name(const struct key_prefix *prefix, enum scope scope, struct str user,
	struct str key, struct arena *mem, struct str *name, size_t *space);

/* Is this shared key where private ones live? */
bool key_is_reserved(const struct key_prefix *prefix, enum scope scope, struct str key);

/* A pattern of SCAN for all names that begin so. */
struct str key_pattern(struct str name, struct arena *mem);

#endif
