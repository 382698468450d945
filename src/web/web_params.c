/* Percent-encoding of a request's path and parameters. */
#include "web/web_params.h"

bool web_decode(struct str raw, bool is_param, struct arena *mem, struct str *text)
{
	char *to = arena_alloc(mem, raw.len + 1);
	for (size_t i = 0; i < raw.len; i++)
		to[i] = raw.ptr[i] == '+' && is_param ? ' ' : raw.ptr[i];
	return str_percent_decode((struct str){to, raw.len}, to, text) && !str_has(*text, '\0');
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
