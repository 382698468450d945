/* Base64, RFC 4648 section 4. */
#include "base/base64.h"

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
static unsigned digit(char c, bool both_alphabets)
{
	if (c >= 'A' && c <= 'Z')
		return (unsigned)(c - 'A');
	if (c >= 'a' && c <= 'z')
		return (unsigned)(c - 'a') + 26;
	if (c >= '0' && c <= '9')
		return (unsigned)(c - '0') + 52;
	if (c == '+' || (both_alphabets && c == '-'))
		return 62;
	return c == '/' || (both_alphabets && c == '_') ? 63 : 64;
}

/* Of a text of whole fours. */
static struct str without_padding(struct str text)
{
	for (int i = 0; i < 2 && text.len > 0 && text.ptr[text.len - 1] == '='; i++)
		text.len--;
	return text;
}

static bool decode(struct str digits_only, bool both_alphabets, char *to, size_t *len)
{
	unsigned bits = 0;
	*len = 0;
	for (size_t i = 0; i < digits_only.len; i++) {
		unsigned value = digit(digits_only.ptr[i], both_alphabets);
		if (value > 63)
			return false;
		bits = (bits << 6 | value) & 0xffffff;
		if (i % 4 != 0)
			to[(*len)++] = (char)(bits >> (6 - i % 4 * 2) & 0xff);
	}
	return digits_only.len % 4 != 1;
}

bool base64_decode(struct str text, char *to, size_t *len)
{
	*len = 0;
	return text.len % 4 == 0 && decode(without_padding(text), false, to, len);
}

bool base64_decode_any(struct str text, char *to, size_t *len)
{
	return decode(text.len % 4 == 0 ? without_padding(text) : text, true, to, len);
}
