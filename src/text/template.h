/* URL templates: compiled once, filled for each key so that no key can leave its place. */
#ifndef MAPMUX_TEMPLATE_H
#define MAPMUX_TEMPLATE_H

#include "base/buf.h"
#include "model/setting.h"

struct template;

/* What fills the placeholders. */
struct template_values {
	struct str key, user, table, scope;
	const struct template *suffix; /* follows the key wherever it stands; NULL: nothing */
	/* The key is the beginning of keys, or there is none: it may be empty, and one '/' is between it
	 * and the suffix. */
	bool is_prefix;
};

/* Placeholders: {} § {key} {user} {table} {scope} {localpart} {domain}; {{ and }} are braces. They
 * may stand in the path and in the query. Lives in `mem`. */
bool template_compile(
	const char *text, struct arena *mem, struct template **compiled, struct error *error);

/* The same for what is appended to keys: a piece of a path, without {} § {key}. */
bool template_compile_suffix(
	const char *text, struct arena *mem, struct template **compiled, struct error *error);

/* scheme://host:port, for people: no user, password, path. */
const char *template_origin(const struct template *compiled);

/* Has it any placeholder? */
bool template_varies(const struct template *compiled);

enum template_result {
	TEMPLATE_OK,
	TEMPLATE_BAD_KEY, /* it cannot stand where the template puts it */
};

/* Adds the URL to `url`. In the path everything but RFC 3986 unreserved characters is
 * percent-encoded, and '/' too where it is not of the key; in the query '/' is encoded always.
 *
 * Bad is a key that is empty, begins with '/', has a "." or ".." segment or a control character; a
 * user or another value that has these segments or characters, or is empty in the path; whatever
 * would make a dot segment of the path; and what makes `url` overflow. */
enum template_result template_fill(
	const struct template *compiled, const struct template_values *values, struct buf *url);

/* The same for people to read: without user and password, and of what the template itself has in the query
 * the values are "...", for they may be secrets. What cannot be filled in ends it. */
void template_show(
	const struct template *compiled, const struct template_values *values, struct buf *url);

/* Adds text with everything percent-encoded but RFC 3986 unreserved characters. */
void template_encode(struct str text, struct buf *to);

#endif
