/* A growing byte buffer with a maximum from birth. */
#ifndef MAPMUX_BUF_H
#define MAPMUX_BUF_H

#include "base/str.h"

/* Zeroed with a `max` it is ready for use. What would pass `max` is left out whole and sets
 * `overflow`, which stays set until buf_reset(): the writer goes on, the owner looks once. */
struct buf {
	char *ptr;
	size_t len, size;
	size_t max; /* bytes */
	bool overflow;
	bool wipe; /* it may hold secrets: what is left behind or given back is overwritten */
};

static inline struct str buf_str(const struct buf *buf)
{
	return (struct str){buf->ptr, buf->len};
}

/* Room for `n` more bytes behind len, or NULL with `overflow` set. */
char *buf_reserve(struct buf *buf, size_t n);

void buf_add(struct buf *buf, struct str s);
void buf_add_char(struct buf *buf, char c);
void buf_add_u64(struct buf *buf, uint64_t n);
void buf_printf(struct buf *buf, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Forgets the first `n` bytes; n <= len. */
void buf_consume(struct buf *buf, size_t n);

/* Empty again; memory is kept (reset) or given back (free). */
void buf_reset(struct buf *buf);
void buf_free(struct buf *buf);

#endif
