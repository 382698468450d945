/* A growing byte buffer with a maximum from birth. */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"

enum { FIRST_SIZE = 512 };

/* To a larger place, leaving nothing behind. */
static char *move(struct buf *buf, size_t size)
{
	char *to = memory_grow(NULL, size);
	if (buf->len > 0)
		memcpy(to, buf->ptr, buf->len);
	if (buf->ptr)
		explicit_bzero(buf->ptr, buf->size);
	free(buf->ptr);
	return to;
}

char *buf_reserve(struct buf *buf, size_t n)
{
	if (n > buf->max - buf->len || buf->len > buf->max) {
		buf->overflow = true;
		return NULL;
	}
	if (buf->size - buf->len < n) {
		size_t size = buf->size ? buf->size : FIRST_SIZE;
		while (size < buf->len + n)
			size *= 2;
		buf->ptr = buf->wipe ? move(buf, size) : memory_grow(buf->ptr, size);
		buf->size = size;
	}
	return buf->ptr + buf->len;
}

void buf_add(struct buf *buf, struct str s)
{
	char *to = s.len > 0 ? buf_reserve(buf, s.len) : NULL;
	if (to) {
		memcpy(to, s.ptr, s.len);
		buf->len += s.len;
	}
}

void buf_add_char(struct buf *buf, char c)
{
	buf_add(buf, (struct str){&c, 1});
}

void buf_add_u64(struct buf *buf, uint64_t n)
{
	char digits[20];
	size_t at = sizeof(digits);
	do
		digits[--at] = (char)('0' + n % 10);
	while ((n /= 10) > 0);
	buf_add(buf, (struct str){digits + at, sizeof(digits) - at});
}

void buf_printf(struct buf *buf, const char *fmt, ...)
{
	va_list ap, again;
	va_start(ap, fmt);
	va_copy(again, ap);
	int n = vsnprintf(NULL, 0, fmt, ap);
	char *to = n > 0 ? buf_reserve(buf, (size_t)n + 1) : NULL; /* vsnprintf() writes a NUL */
	if (to) {
		vsnprintf(to, (size_t)n + 1, fmt, again);
		buf->len += (size_t)n;
	}
	va_end(again);
	va_end(ap);
}

void buf_consume(struct buf *buf, size_t n)
{
	buf->len -= n;
	if (n > 0 && buf->len > 0)
		memmove(buf->ptr, buf->ptr + n, buf->len);
	if (buf->wipe && n > 0)
		explicit_bzero(buf->ptr + buf->len, n);
}

void buf_reset(struct buf *buf)
{
	buf->len = 0;
	buf->overflow = false;
}

void buf_free(struct buf *buf)
{
	if (buf->wipe && buf->ptr)
		explicit_bzero(buf->ptr, buf->size);
	free(buf->ptr);
	buf->ptr = NULL;
	buf->size = 0;
	buf_reset(buf);
}
