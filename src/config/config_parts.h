/* What the parts of config*.c share: the readers gather sections of entries, each with its place;
 * the loader turns these into the structure. Private to config*.c. */
#ifndef MAPMUX_CONFIG_PARTS_H
#define MAPMUX_CONFIG_PARTS_H

#include <stdio.h>
#include <sys/queue.h>

#include "config/config.h"

/* One key as it was given, with "${NAME}" already replaced. */
struct entry {
	struct str key; /* dotted: "status.401" */
	enum {
		ENTRY_TEXT,
		ENTRY_LIST,
		ENTRY_MAP, /* a map begins; its keys follow as entries of their own */
	} kind;
	struct str text; /* of ENTRY_TEXT */
	struct str *items;
	size_t nitems;
	const char *place; /* what a message begins with: "FILE:LINE: key" */
	STAILQ_ENTRY(entry) link;
};

/* A listener, a table, or what one source says of the daemon itself. */
struct section {
	const char *where;  /* FILE:LINE or "command line" */
	const char *option; /* that its further keys belong to; NULL: it stands in a file */
	bool last_wins;     /* a key given again replaces the one before; else it is an error */
	STAILQ_HEAD(, entry) entries;
	STAILQ_ENTRY(section) link;
};

STAILQ_HEAD(section_list, section);

/* Everything that was read, before anything is made of it. */
struct draft {
	struct arena mem;
	struct section_list globals, listeners, tables;
};

void draft_init(struct draft *draft);

/* A new section at the end of `list`; `where` and `option` are kept. */
struct section *draft_section(
	struct draft *draft, struct section_list *list, const char *where, const char *option);

/* The one way in, for files and command line alike: `key` is `text`. Copies both, replaces
 * "${NAME}". */
bool draft_set(struct draft *draft, struct section *section, struct str key, struct str text,
	const char *place, struct error *error);

/* The same for a key that begins a list or a map; NULL when it is refused. */
struct entry *draft_begin(struct draft *draft, struct section *section, struct str key, int kind,
	const char *place, struct error *error);
bool draft_add_item(struct draft *draft, struct entry *list, struct str text, struct error *error);

/* NULL when the key was not given. */
struct entry *section_find(const struct section *section, const char *key);

/* What a message about a key begins with that may not have been given. */
const char *section_place(struct draft *draft, const struct section *section, const char *key);

/* The text of a key that was given; false when it is a list or a map. */
bool section_text(struct draft *draft, const struct section *section, const char *key,
	struct str *text, struct error *error);

/* A schema and the structure that it fills; `settings` may be NULL. */
struct target {
	const struct setting *settings;
	void *conf;
};

/* Puts every entry of a section into the first target that knows its key. An unknown key, a value
 * that its setting refuses and a required key that is missing are errors; `extra` are further keys
 * for their messages, with blanks between them, or NULL. SET_TABLES are checked for their kind and left to tables_load(). */
bool section_apply(struct draft *draft, const struct section *section, const struct target *targets,
	size_t ntargets, const char *extra, struct arena *mem, struct error *error);

/* Every table of the draft: settings, references, order, and each backend's check(). On false
 * config->tables are those that were checked and have to be dropped. */
bool tables_load(struct config *config, struct draft *draft, struct error *error);

/* Sets the error to "PLACE: text"; always false. */
bool fail_at(struct error *error, const char *place, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Names to choose from, for a message: gathered in `text`, the nearest to `wanted` kept. */
struct choices {
	struct arena *mem;
	struct str wanted;
	struct str text;     /* "a, b, c" */
	const char *nearest; /* NULL: none is close */
	size_t distance;
};

void choices_add(struct choices *choices, const char *name);

/* "did you mean X? allowed: a, b, c" or "allowed: none" */
const char *choices_print(struct choices *choices);

/* The readers; both end in draft_set(). */
bool config_read_yaml(struct draft *draft, const char *path, struct error *error);
/* The same with text that we have; `name` stands for the file in messages. */
bool config_read_text(struct draft *draft, const char *name, struct str text, struct error *error);
bool config_read_args(struct draft *draft, int argc, char **argv, struct error *error);
/* The same, and an option that podop did not have is an error. */
bool config_read_podop(struct draft *draft, int argc, char **argv, struct error *error);

/* A command-line option; NULL name ends the list. */
struct arg_option {
	const char *name;       /* with its dashes */
	const char *short_name; /* as the help shows it: "-c, "; or NULL */
	const char *value;      /* what stands for it in the help; NULL: takes none */
	const char *help;
	const char *key; /* of a global setting; NULL: config_args.c knows it by its action */
	enum {
		ARG_GLOBAL,
		ARG_VERBOSE,
		ARG_CONFIG,
		ARG_LISTEN,
		ARG_PART,
		ARG_OPTION,
		ARG_SOCKET,
		ARG_MODE,
		ARG_AS,
	} action;
};

extern const struct arg_option arg_options[];

/* The top-level keys, for struct config. */
extern const struct setting global_settings[];

/* A key as it is, or a value, whose dollars before a brace are doubled: they would name a variable
 * of the environment. In quotes where YAML needs them. */
void config_write_scalar(FILE *out, struct str s, bool is_value);

/* config_print() to any stream. */
void config_write(const struct config *config, FILE *out);

#endif
