/* The forms of a key that a table is asked for, one after the other. */
#ifndef MAPMUX_BACKENDS_KEY_FORMS_H
#define MAPMUX_BACKENDS_KEY_FORMS_H

#include "base/arena.h"

enum key_form {
	KEY_ITSELF,
	KEY_WITHOUT_EXTENSION,
	KEY_LOCALPART,
	KEY_AT_DOMAIN,
	KEY_DOMAIN,
	KEY_PARENT_DOMAINS,
	KEY_FORM_COUNT,
};

/* NULL: none of that number. */
const char *key_form_name(enum key_form form);

/* Parents of a domain with more labels than this are left out: nobody has entries for them, and each
 * costs a question. */
enum { KEY_MAX_PARENT_LABELS = 8 };

/* One each, the local part twice, parents with and without a dot before them. */
enum { KEY_MAX_FORMS = 6 + 2 * KEY_MAX_PARENT_LABELS };

/* All that the key has of these forms, in their order, each once; at most KEY_MAX_FORMS. A form that
 * makes no sense for the key gives nothing. The texts are in the key itself or in `mem`. */
size_t key_forms(struct str key, const enum key_form *forms, size_t n, const char *delimiters,
	struct arena *mem, struct str *to);

#endif
