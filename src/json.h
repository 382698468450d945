/* Values and rows out of JSON text (RFC 8259), and JSON text out of values. */
#ifndef MAPMUX_JSON_H
#define MAPMUX_JSON_H

#include "question.h"

/* How a JSON document becomes an answer: product contract, Values. */
struct json_rules {
	enum form form;
	struct str list_separator;
	const char *pointer; /* RFC 6901; "" is the whole document */
};

/* The document as the answer to a lookup: ST_OK with *value, ST_NOTFOUND, or ST_TEMP with *why.
 * Text goes to `mem`, or points into `text`. */
enum status json_value(struct str text, const struct json_rules *rules, struct arena *mem,
	struct str *value, const char **why);

/* The document as the answer to an iteration: a list of names (values are left empty and
 * *only_names is set), or an object of names and values (values as FORM_JSON shows them, unless
 * `form` says otherwise). False with *why when it is neither. */
bool json_rows(struct str text, const struct json_rules *rules, struct arena *mem,
	struct pair **rows, size_t *nrows, bool *only_names, const char **why);

/* Is it one whole JSON document? */
bool json_valid(struct str text);

/* As a JSON string, quotes included; bytes that are no UTF-8 make it fail. */
bool json_quote(struct str text, struct arena *mem, struct str *quoted);

/* A flat object of strings from pairs, for logs and requests. */
struct str json_object(const struct pair *pairs, size_t n, struct arena *mem);

#endif
