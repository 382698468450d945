/* Memory that dies together. */
#include "base/arena.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

enum { ALIGN = 16, CHUNK = 4096 };

struct arena_chunk {
	struct arena_chunk *next;
	size_t size; /* of bytes */
	_Alignas(ALIGN) char bytes[];
};

static void *or_die(void *p)
{
	if (!p) {
		fputs("mapmux: out of memory\n", stderr);
		abort();
	}
	return p;
}

void *memory_new(size_t n)
{
	return or_die(calloc(1, n ? n : 1));
}

void *memory_grow(void *old, size_t n)
{
	return or_die(realloc(old, n ? n : 1));
}

void arena_init(struct arena *arena, void *first, size_t size)
{
	*arena = (struct arena){.first = first, .first_size = size};
	arena->at = arena->first;
	arena->end = arena->at + size;
}

/* Room for `n` bytes in a chunk of its own; large requests get just what they need. */
static void add_chunk(struct arena *arena, size_t n)
{
	size_t size = n > CHUNK / 2 ? n : CHUNK - sizeof(struct arena_chunk);
	struct arena_chunk *chunk = or_die(malloc(sizeof(*chunk) + size));
	chunk->next = arena->chunks;
	chunk->size = size;
	arena->chunks = chunk;
	arena->at = chunk->bytes;
	arena->end = chunk->bytes + size;
}

static char *take(struct arena *arena, size_t n)
{
	if (n > SIZE_MAX / 2)
		or_die(NULL);
	if (n == 0)
		n = 1; /* an address of its own, never NULL */
	n = (n + ALIGN - 1) & ~(size_t)(ALIGN - 1);
	if ((size_t)(arena->end - arena->at) < n)
		add_chunk(arena, n);
	char *p = arena->at;
	arena->at += n;
	return p;
}

void *arena_alloc(struct arena *arena, size_t n)
{
	return memset(take(arena, n), 0, n);
}

struct str arena_str(struct arena *arena, struct str s)
{
	if (s.len == 0)
		return STR("");
	char *p = take(arena, s.len + 1);
	memcpy(p, s.ptr, s.len);
	p[s.len] = '\0';
	return (struct str){p, s.len};
}

struct str arena_concat(struct arena *arena, struct str a, struct str b)
{
	char *p = take(arena, a.len + b.len + 1);
	if (a.len > 0)
		memcpy(p, a.ptr, a.len);
	if (b.len > 0)
		memcpy(p + a.len, b.ptr, b.len);
	p[a.len + b.len] = '\0';
	return (struct str){p, a.len + b.len};
}

struct str arena_vprintf(struct arena *arena, const char *fmt, va_list ap)
{
	va_list again;
	va_copy(again, ap);
	int n = vsnprintf(NULL, 0, fmt, ap);
	size_t len = n > 0 ? (size_t)n : 0;
	char *p = take(arena, len + 1);
	vsnprintf(p, len + 1, fmt, again);
	va_end(again);
	return (struct str){p, len};
}

struct str arena_printf(struct arena *arena, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	struct str s = arena_vprintf(arena, fmt, ap);
	va_end(ap);
	return s;
}

void arena_join(struct arena *to, struct arena *from)
{
	struct arena_chunk **end = &from->chunks;
	assert(!from->first);
	while (*end)
		end = &(*end)->next;
	*end = to->chunks;
	to->chunks = from->chunks;
	*from = (struct arena){.wipe = from->wipe};
}

/* What was used of the first piece: all of it, once there are others. */
static void wipe_first(struct arena *arena)
{
	if (arena->first)
		explicit_bzero(arena->first,
			arena->chunks ? arena->first_size : (size_t)(arena->at - arena->first));
}

void arena_clear(struct arena *arena)
{
	if (arena->wipe)
		wipe_first(arena);
	while (arena->chunks) {
		struct arena_chunk *next = arena->chunks->next;
		if (arena->wipe)
			explicit_bzero(arena->chunks->bytes, arena->chunks->size);
		free(arena->chunks);
		arena->chunks = next;
	}
	arena->at = arena->first;
	arena->end = arena->first ? arena->first + arena->first_size : NULL;
}
