/* Base64, RFC 4648 section 4. */
#ifndef MAPMUX_BASE64_H
#define MAPMUX_BASE64_H

#include "base/buf.h"

void base64_encode(struct str bytes, struct buf *out);

/* The most bytes that a text of so many characters can mean. */
static inline size_t base64_room(size_t len)
{
	return (len + 3) / 4 * 3;
}

/* Into `to`, which has base64_room(text.len) bytes; *len of them are used. False: the text is no base64
 * with its padding. */
bool base64_decode(struct str text, char *to, size_t *len);

/* The same in either alphabet of RFC 4648, with its padding or without. */
bool base64_decode_any(struct str text, char *to, size_t *len);

#endif
