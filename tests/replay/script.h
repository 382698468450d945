/* A script: the scenarios of a file, each a configuration and steps, one in a line. */
#ifndef TESTS_REPLAY_SCRIPT_H
#define TESTS_REPLAY_SCRIPT_H

#include "base/arena.h"
#include "model/setting.h"

struct step {
	unsigned line;
	struct str text; /* without blanks at its ends */
};

/* Lines of YAML, and where they stand. */
struct yaml {
	unsigned line; /* of the first */
	struct str text;
};

struct scenario {
	unsigned line;
	struct str title; /* the sentence behind "==" */
	struct yaml yaml; /* its own, or what stands before the first scenario */
	unsigned workers; /* 1 unless a line says `workers N` */
	struct step *steps;
	size_t n;
};

enum { MAX_WORKERS = 4 };

struct script {
	const char *path;
	struct arena mem;           /* of all that is read */
	struct scenario *scenarios; /* the first is what stands before them */
	size_t n;
};

/* The error names file and line. Free it in both cases. */
bool script_read(struct script *script, const char *path, struct error *error);
void script_free(struct script *script);

#endif
