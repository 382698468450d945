/* Values and rows out of JSON text (RFC 8259), and JSON text out of values. */
#ifndef MAPMUX_JSON_H
#define MAPMUX_JSON_H

#include "model/question.h"

struct buf;

/* How a JSON document becomes an answer: product contract, Values. */
struct json_rules {
	enum form form;
	struct str list_separator;
	const char *pointer; /* RFC 6901; "" is the whole document */
	struct str prefix;   /* of rows: what each name is to begin with, besides */
};

/* The document as the answer to a lookup: ST_OK with *value, ST_NOTFOUND, or ST_TEMP with *why.
 * Items of a list that are null or false are left out; where the pointer leads to nothing is the
 * same as null. Text goes to `mem`, or points into `text`.
 *
 * Of members with the same name a pointer takes the last. Objects and lists that are the whole
 * document keep their text, but for the blanks; so does an integer, with any number of digits. Any
 * other number is what a double makes of it, and ST_TEMP from 2^53 on, where that is inexact. A
 * \u0000 anywhere is ST_TEMP too, unless the text of the whole document is the value. */
enum status json_value(struct str text, const struct json_rules *rules, struct arena *mem,
	struct str *value, const char **why);

/* The document, behind which a NUL follows, as the answer to an iteration: a list of names (values are
 * left empty and *only_names is set), or an object of names and values, those without a value left out.
 * A document that is a list is taken whole, whatever the pointer. False with *why when it is neither, or has more than ROWS_MAX.
 * Names and values go to `mem`, or point into `text`; besides there is one row at a time in memory, or
 * the whole document where a pointer leads into it. */
bool json_rows(struct str text, const struct json_rules *rules, struct arena *mem,
	struct pair **rows, size_t *nrows, bool *only_names, const char **why);

/* Is it a pointer as RFC 6901 writes them? */
bool json_pointer_valid(struct str pointer);

/* Is it one whole JSON document, of at most 1000 levels and without half surrogate pairs? */
bool json_valid(struct str text);

/* The document without the blanks between its parts, in `mem`; false when it is none. */
bool json_tighten(struct str text, struct arena *mem, struct str *tight);

/* The next part of a valid document that NUL follows: a bracket, a string, a number or a word. Names are
 * strings; commas, colons and blanks are left out. False at the end. */
bool json_part(struct str *rest, struct str *part);

/* The line, from 1, in which the member or item begins that the pointer (RFC 6901, without "~") leads to;
 * of what is not there, that of the nearest around it. The text is a valid document that NUL follows. */
size_t json_line(struct str text, const char *pointer);

/* What a string among the parts says: in `mem`, or a piece of it. False when it holds a NUL. */
bool json_text(struct str part, struct arena *mem, struct str *text);

/* Adds the text as a JSON string. False when there were bytes that are no UTF-8: they became U+FFFD. */
bool json_add(struct buf *to, struct str text);

/* As a JSON string, quotes included. False when there were bytes that are no UTF-8: they became
 * U+FFFD. */
bool json_quote(struct str text, struct arena *mem, struct str *quoted);

/* A flat object of strings from pairs, for logs and requests; bytes that are no UTF-8 become
 * U+FFFD. */
struct str json_object(const struct pair *pairs, size_t n, struct arena *mem);

#endif
