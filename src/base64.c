/* Base64, RFC 4648 section 4. */
#include "base64.h"

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(struct str bytes, struct buf *out)
{
	for (size_t i = 0; i < bytes.len; i += 3) {
		size_t left = bytes.len - i;
		unsigned bits = (unsigned)(unsigned char)bytes.ptr[i] << 16;
		if (left > 1)
			bits |= (unsigned)(unsigned char)bytes.ptr[i + 1] << 8;
		if (left > 2)
			bits |= (unsigned char)bytes.ptr[i + 2];
		buf_add_char(out, digits[bits >> 18]);
		buf_add_char(out, digits[bits >> 12 & 63]);
		buf_add_char(out, left > 1 ? digits[bits >> 6 & 63] : '=');
		buf_add_char(out, left > 2 ? digits[bits & 63] : '=');
	}
}

/* Its value; 64: it is no digit. */
static unsigned digit(char c)
{
	if (c >= 'A' && c <= 'Z')
		return (unsigned)(c - 'A');
	if (c >= 'a' && c <= 'z')
		return (unsigned)(c - 'a') + 26;
	if (c >= '0' && c <= '9')
		return (unsigned)(c - '0') + 52;
	return c == '+' ? 62 : c == '/' ? 63 : 64;
}

/* Four characters, of which the last `pad` are padding. */
static bool decode_four(const char *four, size_t pad, char *to, size_t *len)
{
	unsigned bits = 0;
	for (size_t i = 0; i < 4; i++) {
		unsigned value = i < 4 - pad ? digit(four[i]) : 0;
		if (value > 63)
			return false;
		bits = bits << 6 | value;
	}
	for (size_t i = 0; i < 3 - pad; i++)
		to[(*len)++] = (char)(bits >> (16 - 8 * i) & 0xff);
	return true;
}

bool base64_decode(struct str text, char *to, size_t *len)
{
	*len = 0;
	if (text.len % 4 != 0)
		return false;
	for (size_t i = 0; i < text.len; i += 4) {
		const char *four = text.ptr + i;
		size_t pad = 0;
		while (i + 4 == text.len && pad < 2 && four[3 - pad] == '=')
			pad++;
		if (!decode_four(four, pad, to, len))
			return false;
	}
	return true;
}
