/* URL templates: compiled once, filled for each key so that no key can leave its place. */
#ifndef MAPMUX_TEMPLATE_H
#define MAPMUX_TEMPLATE_H

#include "buf.h"
#include "question.h"
#include "setting.h"

struct template;

/* What fills the placeholders. */
struct template_values {
	struct str key; /* with the private suffix already appended */
	struct str user, table, scope;
};

/* Placeholders: {} § {key} {user} {table} {scope} {localpart} {domain}; {{ and }} are braces.
 * Lives in `mem`. */
bool template_compile(
	const char *text, struct arena *mem, struct template **compiled, struct error *error);

enum template_result {
	TEMPLATE_OK,
	TEMPLATE_BAD_KEY, /* a dot segment, an empty first segment or a control character */
};

/* Adds the URL to `url`. In the path everything but RFC 3986 unreserved characters and '/' is
 * percent-encoded; from the first '?' on '/' is encoded as well. */
enum template_result template_fill(
	const struct template *compiled, const struct template_values *values, struct buf *url);

#endif
