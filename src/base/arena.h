/* Memory that dies together. */
#ifndef MAPMUX_ARENA_H
#define MAPMUX_ARENA_H

#include <stdarg.h>

#include "base/str.h"

/* Zeroed memory is an empty arena. Never fails: what comes from outside is bounded before it is
 * stored, so that running out of memory is the machine's fault and ends the process. */
struct arena {
	struct arena_chunk *chunks; /* all of them */
	char *at, *end;             /* what is free of the newest, or of the first piece below */
	char *first;                /* the owner's own first piece; NULL: none */
	size_t first_size;
	bool wipe; /* it may hold secrets: what is given back is overwritten */
};

/* An arena that uses `first` (owned by the caller, living as long) before it allocates. */
void arena_init(struct arena *arena, void *first, size_t size);

/* Zeroed, aligned for any type. */
void *arena_alloc(struct arena *arena, size_t n);

/* A copy; NUL follows its end, so that it is a C string too. */
struct str arena_str(struct arena *arena, struct str s);

/* The two behind one another; NUL follows as well. */
struct str arena_concat(struct arena *arena, struct str a, struct str b);

/* Printed text, with a NUL behind it. */
struct str arena_printf(struct arena *arena, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
struct str arena_vprintf(struct arena *arena, const char *fmt, va_list ap)
	__attribute__((format(printf, 2, 0)));

/* What is in `from`, which has no first piece, belongs to `to` from now on and stays where it is; `from`
 * is empty. */
void arena_join(struct arena *to, struct arena *from);

/* Gives all memory back; the arena is empty and usable again. */
void arena_clear(struct arena *arena);

/* For memory outside of arenas, under the same rule: never NULL; zeroed. */
void *memory_new(size_t n);
void *memory_grow(void *old, size_t n); /* as realloc(); new bytes are not zeroed */

#endif
