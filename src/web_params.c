/* Percent-encoding of a request's path and parameters. */
#include "web_params.h"

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
		return (c | 0x20) - 'a' + 10;
	return -1;
}

bool web_decode(struct str raw, bool is_param, struct arena *mem, struct str *text)
{
	char *to = arena_alloc(mem, raw.len + 1);
	size_t n = 0;
	for (size_t i = 0; i < raw.len; i++) {
		char c = raw.ptr[i];
		if (c == '+' && is_param)
			c = ' ';
		if (c == '%') {
			int high = i + 2 < raw.len ? hex(raw.ptr[i + 1]) : -1;
			int low = high >= 0 ? hex(raw.ptr[i + 2]) : -1;
			if (low < 0)
				return false;
			c = (char)(high * 16 + low);
			i += 2;
		}
		if (c == '\0')
			return false;
		to[n++] = c;
	}
	*text = (struct str){to, n};
	return true;
}

enum web_found web_param(struct str params, const char *name, struct arena *mem, struct str *value)
{
	enum web_found found = WEB_ABSENT;
	while (params.len > 0) {
		struct str part, key, word;
		str_cut(&params, '&', &part);
		str_cut(&part, '=', &key);
		if (!web_decode(key, true, mem, &word) || !str_eq(word, str_of(name)))
			continue;
		if (found == WEB_FOUND || !web_decode(part, true, mem, value))
			return WEB_MALFORMED;
		found = WEB_FOUND;
	}
	return found;
}
