/* How scripts write bytes, and how messages show them. */
#include "text.h"

#include "base/base64.h"

enum {
	MAX_BYTES = 16 << 20, /* of one line of a script, with all that it repeats */
	MAX_SHOWN = 300,      /* bytes of a message's text */
};

bool text_word(struct str *rest, struct str *word)
{
	*rest = str_trim(*rest);
	str_cut(rest, ' ', word);
	*rest = str_trim(*rest);
	return word->len > 0;
}

static const char names[] = "tnr0s\"\\", bytes_named[] = "\t\n\r\0 \"\\";

static int hex(char c)
{
	static const char digits[] = "0123456789abcdef";
	const char *at = c ? strchr(digits, c) : NULL;
	return at ? (int)(at - digits) : -1;
}

/* What follows "\*": N*C. */
static bool add_repeated(struct str *rest, struct buf *out)
{
	struct str digits;
	uint64_t n;
	if (!str_cut(rest, '*', &digits) || !str_u64(digits, &n) || rest->len == 0)
		return false;
	char *to = n > 0 && n <= MAX_BYTES ? buf_reserve(out, n) : NULL;
	if (!to)
		return false;
	memset(to, rest->ptr[0], n);
	out->len += n;
	*rest = str_skip(*rest, 1);
	return true;
}

/* What follows "\[": bytes, their blanks as they are, up to "]". */
static bool add_coded(struct str *rest, struct buf *out)
{
	struct arena mem = {0};
	struct str text, bytes;
	bool good = str_cut(rest, ']', &text) && text_bytes(text, false, &mem, &bytes);
	if (good)
		base64_encode(bytes, out);
	arena_clear(&mem);
	return good;
}

/* What follows the backslash. */
static bool add_escaped(struct str *rest, struct buf *out)
{
	if (rest->len == 0)
		return false;
	char letter = rest->ptr[0];
	const char *name = letter ? strchr(names, letter) : NULL;
	*rest = str_skip(*rest, 1);
	if (letter == '*')
		return add_repeated(rest, out);
	if (letter == '[')
		return add_coded(rest, out);
	if (name) {
		buf_add_char(out, bytes_named[name - names]);
		return true;
	}
	if (letter != 'x' || rest->len < 2 || hex(rest->ptr[0]) < 0 || hex(rest->ptr[1]) < 0)
		return false;
	buf_add_char(out, (char)(hex(rest->ptr[0]) * 16 + hex(rest->ptr[1])));
	*rest = str_skip(*rest, 2);
	return true;
}

/* A blank between fields; those behind it are no more. */
static void add_tab(struct str *rest, struct buf *out)
{
	buf_add_char(out, '\t');
	while (rest->len > 0 && rest->ptr[0] == ' ')
		*rest = str_skip(*rest, 1);
}

bool text_bytes(struct str text, bool fields, struct arena *mem, struct str *bytes)
{
	struct buf out = {.max = MAX_BYTES};
	bool quoted = false, good = true;
	while (good && text.len > 0) {
		char c = text.ptr[0];
		text = str_skip(text, 1);
		if (c == '\\')
			good = add_escaped(&text, &out);
		else if (fields && c == '"')
			quoted = !quoted;
		else if (fields && c == ' ' && !quoted)
			add_tab(&text, &out);
		else
			buf_add_char(&out, c);
	}
	*bytes = arena_str(mem, buf_str(&out));
	good = good && !quoted && !out.overflow;
	buf_free(&out);
	return good;
}

struct str text_show(struct str bytes, struct arena *mem)
{
	struct buf out = {.max = 4 * MAX_SHOWN + 64};
	for (size_t i = 0; i < bytes.len && i < MAX_SHOWN; i++) {
		char c = bytes.ptr[i];
		const char *named = memchr(bytes_named, c, sizeof(bytes_named) - 1);
		if (c == ' ' || c == '"')
			named = NULL;
		if (named)
			buf_printf(&out, "\\%c", names[named - bytes_named]);
		else if ((unsigned char)c < ' ' || (unsigned char)c > '~')
			buf_printf(&out, "\\x%02x", (unsigned char)c);
		else
			buf_add_char(&out, c);
	}
	if (bytes.len > MAX_SHOWN)
		buf_printf(&out, "... (%zu bytes)", bytes.len);
	struct str shown = arena_str(mem, buf_str(&out));
	buf_free(&out);
	return shown;
}
