/* Values and rows out of JSON text (RFC 8259), and JSON text out of values.
 *
 * No tree is built: the text is checked once from end to end, and what is wanted is cut out of it.
 * So numbers keep their digits and objects their order, and the common `"string"` costs one pass. */
#include "json.h"

#include "buf.h"

enum { MAX_DEPTH = 128 };

/* Where the reader stands. Behind a check that has passed, the text is known to be JSON. */
struct scan {
	const char *at, *end;
	unsigned depth;
};

/* ---- reading ---- */

static bool skip_value(struct scan *scan);

static bool peek(const struct scan *scan, char c)
{
	return scan->at < scan->end && *scan->at == c;
}

static void skip_blanks(struct scan *scan)
{
	while (peek(scan, ' ') || peek(scan, '\t') || peek(scan, '\n') || peek(scan, '\r'))
		scan->at++;
}

/* The character is eaten when it is there, with the blanks around it. */
static bool take(struct scan *scan, char c)
{
	skip_blanks(scan);
	if (!peek(scan, c))
		return false;
	scan->at++;
	skip_blanks(scan);
	return true;
}

/* The length of the UTF-8 sequence here, of more than one byte; 0: none (RFC 3629). */
static size_t utf8_length(const char *s, const char *end)
{
	const unsigned char *p = (const unsigned char *)s;
	size_t n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
	if (p[0] < 0xc2 || p[0] > 0xf4 || (size_t)(end - s) < n)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || /* surrogates */
		(p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return n;
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

/* Four hexadecimal digits; -1: something else. */
static long hex_word(const char *s, const char *end)
{
	long word = 0;
	if (end - s < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		int digit = hex_digit(s[i]);
		if (digit < 0)
			return -1;
		word = word * 16 + digit;
	}
	return word;
}

static bool skip_escape(struct scan *scan)
{
	const char *at = scan->at + 1;
	if (at == scan->end || !strchr("\"\\/bfnrtu", *at) || !*at)
		return false;
	if (*at == 'u' && hex_word(at + 1, scan->end) < 0)
		return false;
	scan->at = at + (*at == 'u' ? 5 : 1);
	return true;
}

static bool skip_string(struct scan *scan)
{
	if (!peek(scan, '"'))
		return false;
	scan->at++;
	while (scan->at < scan->end) {
		unsigned char c = (unsigned char)*scan->at;
		if (c == '"') {
			scan->at++;
			return true;
		}
		if (c == '\\') {
			if (!skip_escape(scan))
				return false;
		} else if (c < 0x20) {
			return false;
		} else if (c < 0x80) {
			scan->at++;
		} else {
			size_t n = utf8_length(scan->at, scan->end);
			if (n == 0)
				return false;
			scan->at += n;
		}
	}
	return false;
}

static size_t skip_digits(struct scan *scan)
{
	const char *start = scan->at;
	while (scan->at < scan->end && *scan->at >= '0' && *scan->at <= '9')
		scan->at++;
	return (size_t)(scan->at - start);
}

static bool skip_number(struct scan *scan)
{
	if (peek(scan, '-'))
		scan->at++;
	bool zero = peek(scan, '0');
	size_t n = skip_digits(scan);
	if (n == 0 || (zero && n > 1))
		return false;
	if (peek(scan, '.')) {
		scan->at++;
		if (skip_digits(scan) == 0)
			return false;
	}
	if (peek(scan, 'e') || peek(scan, 'E')) {
		scan->at++;
		if (peek(scan, '+') || peek(scan, '-'))
			scan->at++;
		if (skip_digits(scan) == 0)
			return false;
	}
	return true;
}

static bool skip_word(struct scan *scan, struct str word)
{
	if (!str_starts((struct str){scan->at, (size_t)(scan->end - scan->at)}, word))
		return false;
	scan->at += word.len;
	return true;
}

/* An object or a list. */
static bool skip_members(struct scan *scan, bool named, char close)
{
	if (++scan->depth > MAX_DEPTH)
		return false;
	scan->at++;
	if (!take(scan, close)) {
		do {
			if (named && !(skip_string(scan) && take(scan, ':')))
				return false;
			if (!skip_value(scan))
				return false;
		} while (take(scan, ','));
		if (!peek(scan, close))
			return false;
		scan->at++;
	}
	scan->depth--;
	return true;
}

static bool skip_value(struct scan *scan)
{
	if (scan->at == scan->end)
		return false;
	switch (*scan->at) {
	case '"':
		return skip_string(scan);
	case '{':
		return skip_members(scan, true, '}');
	case '[':
		return skip_members(scan, false, ']');
	case 't':
		return skip_word(scan, STR("true"));
	case 'f':
		return skip_word(scan, STR("false"));
	case 'n':
		return skip_word(scan, STR("null"));
	default:
		return skip_number(scan);
	}
}

/* The one value that the text is, without blanks around it. */
static bool read_document(struct str text, struct str *document)
{
	struct str trimmed = str_trim(text);
	struct scan scan = {.at = trimmed.ptr, .end = trimmed.ptr + trimmed.len};
	*document = trimmed;
	return trimmed.len > 0 && skip_value(&scan) && scan.at == scan.end;
}

bool json_valid(struct str text)
{
	struct str document;
	return read_document(text, &document);
}

/* ---- walking: the text was checked ---- */

/* Steps into an object or list; next_member() then gives its members. */
static struct scan enter(struct str container)
{
	return (struct scan){.at = container.ptr + 1, .end = container.ptr + container.len - 1};
}

/* False behind the last. Names (of objects only) and values are JSON text. */
static bool next_member(struct scan *scan, bool named, struct str *name, struct str *value)
{
	skip_blanks(scan);
	if (scan->at == scan->end)
		return false;
	if (named) {
		name->ptr = scan->at;
		skip_string(scan);
		name->len = (size_t)(scan->at - name->ptr);
		take(scan, ':');
	}
	value->ptr = scan->at;
	skip_value(scan);
	value->len = (size_t)(scan->at - value->ptr);
	take(scan, ',');
	return true;
}

bool json_part(struct str *rest, struct str *part)
{
	struct scan scan = {.at = rest->ptr, .end = rest->ptr + rest->len};
	skip_blanks(&scan);
	while (take(&scan, ',') || take(&scan, ':'))
		;
	const char *from = scan.at;
	if (from < scan.end && strchr("{}[]", *from))
		scan.at++;
	else if (from < scan.end)
		skip_value(&scan);
	*part = (struct str){from, (size_t)(scan.at - from)};
	*rest = (struct str){scan.at, (size_t)(scan.end - scan.at)};
	return part->len > 0;
}

static char *put_utf8(char *to, unsigned long c)
{
	if (c < 0x80) {
		*to++ = (char)c;
	} else if (c < 0x800) {
		*to++ = (char)(0xc0 | c >> 6);
		*to++ = (char)(0x80 | (c & 0x3f));
	} else if (c < 0x10000) {
		*to++ = (char)(0xe0 | c >> 12);
		*to++ = (char)(0x80 | (c >> 6 & 0x3f));
		*to++ = (char)(0x80 | (c & 0x3f));
	} else {
		*to++ = (char)(0xf0 | c >> 18);
		*to++ = (char)(0x80 | (c >> 12 & 0x3f));
		*to++ = (char)(0x80 | (c >> 6 & 0x3f));
		*to++ = (char)(0x80 | (c & 0x3f));
	}
	return to;
}

/* The character of a \u escape, or of two that make a pair; 0 for what no text can hold. */
static unsigned long read_unicode(const char **at, const char *end)
{
	long high = hex_word(*at, end);
	*at += 4;
	if (high < 0xd800 || high > 0xdfff)
		return (unsigned long)high;
	if (high > 0xdbff || end - *at < 6 || (*at)[0] != '\\' || (*at)[1] != 'u')
		return 0;
	long low = hex_word(*at + 2, end);
	if (low < 0xdc00 || low > 0xdfff)
		return 0;
	*at += 6;
	return 0x10000 + ((unsigned long)(high - 0xd800) << 10) + (unsigned long)(low - 0xdc00);
}

static char unescape(char c)
{
	switch (c) {
	case 'b':
		return '\b';
	case 'f':
		return '\f';
	case 'n':
		return '\n';
	case 'r':
		return '\r';
	case 't':
		return '\t';
	default:
		return c;
	}
}

bool json_text(struct str json, struct arena *mem, struct str *text)
{
	struct str inner = {json.ptr + 1, json.len - 2};
	*text = inner;
	if (!str_has(inner, '\\'))
		return true;
	char *start = (char *)arena_str(mem, inner).ptr, *to = start; /* escapes only shrink */
	const char *at = inner.ptr, *end = inner.ptr + inner.len;
	while (at < end) {
		if (*at != '\\') {
			*to++ = *at++;
		} else if (at[1] == 'u') {
			at += 2;
			unsigned long c = read_unicode(&at, end);
			if (c == 0)
				return false;
			to = put_utf8(to, c);
		} else {
			*to++ = unescape(at[1]);
			at += 2;
		}
	}
	*text = (struct str){start, (size_t)(to - start)};
	return true;
}

/* ---- numbers ---- */

/* A number as digits and where its point stands: 0.digits * 10^point. */
struct decimal {
	char *digits;
	size_t n;
	long point;
	bool negative;
};

/* False when the exponent is beyond all reason. */
static bool read_decimal(struct str json, struct arena *mem, struct decimal *decimal)
{
	struct scan scan = {.at = json.ptr, .end = json.ptr + json.len};
	int64_t exponent = 0;
	*decimal = (struct decimal){.digits = arena_alloc(mem, json.len)};
	decimal->negative = peek(&scan, '-');
	bool fraction = false;
	for (scan.at += decimal->negative; scan.at < scan.end; scan.at++) {
		if (*scan.at == '.') {
			fraction = true;
			continue;
		}
		if (*scan.at == 'e' || *scan.at == 'E')
			break;
		decimal->point += !fraction;
		if (decimal->n == 0 && *scan.at == '0')
			decimal->point--; /* a leading zero */
		else
			decimal->digits[decimal->n++] = *scan.at;
	}
	if (decimal->n > 0 && scan.at < scan.end) {
		scan.at += 1 + (scan.at[1] == '+');
		if (!str_i64((struct str){scan.at, (size_t)(scan.end - scan.at)}, &exponent) ||
			exponent > 1000000 || exponent < -1000000)
			return false;
	}
	decimal->point += (long)exponent;
	while (decimal->n > 0 && decimal->digits[decimal->n - 1] == '0')
		decimal->n--;
	return true;
}

/* The shortest text of exactly this number: 1.50 is 1.5, 1e2 is 100. Integers keep their digits,
 * however many; very large and small numbers have an exponent where JavaScript prints one. */
static struct str number_text(struct str json, struct arena *mem)
{
	struct decimal d;
	bool integer = !str_has(json, '.') && !str_has(json, 'e') && !str_has(json, 'E');
	if (integer)
		return str_eq(json, STR("-0")) ? STR("0") : json;
	if (!read_decimal(json, mem, &d))
		return json;
	const char *sign = d.negative ? "-" : "";
	int n = (int)d.n, point = (int)d.point;
	if (n == 0)
		return STR("0");
	if (point >= n && point <= 21)
		return arena_printf(
			mem, "%s%.*s%.*s", sign, n, d.digits, point - n, "000000000000000000000");
	if (point > 0 && point < n)
		return arena_printf(
			mem, "%s%.*s.%.*s", sign, point, d.digits, n - point, d.digits + point);
	if (point <= 0 && point > -6)
		return arena_printf(mem, "%s0.%.*s%.*s", sign, -point, "00000", n, d.digits);
	return arena_printf(mem, "%s%c%s%.*se%d", sign, d.digits[0], n > 1 ? "." : "", n - 1,
		d.digits + 1, point - 1);
}

/* ---- values ---- */

/* The same JSON without the blanks between its parts. */
static struct str compact(struct str json, struct arena *mem)
{
	char *start = (char *)arena_str(mem, json).ptr, *to = start;
	struct scan scan = {.at = json.ptr, .end = json.ptr + json.len};
	for (skip_blanks(&scan); scan.at < scan.end; skip_blanks(&scan)) {
		const char *from = scan.at;
		if (!skip_string(&scan))
			scan.at++;
		memcpy(to, from, (size_t)(scan.at - from));
		to += scan.at - from;
	}
	return (struct str){start, (size_t)(to - start)};
}

static enum status scalar_value(
	struct str json, enum form form, struct arena *mem, struct str *value, const char **why)
{
	switch (json.ptr[0]) {
	case '"':
		if (json_text(json, mem, value))
			return ST_OK;
		*why = "a string of the answer holds a NUL or half a surrogate pair";
		return ST_TEMP;
	case 't':
		*value = form == FORM_TEXT ? STR("1") : STR("true");
		return ST_OK;
	case 'f':
		*value = STR("false");
		return form == FORM_TEXT ? ST_NOTFOUND : ST_OK;
	case 'n':
		return ST_NOTFOUND;
	default:
		*value = number_text(json, mem);
		return ST_OK;
	}
}

/* Null and false are no items, as they are no values. */
static enum status list_value(struct str json, const struct json_rules *rules, struct arena *mem,
	struct str *value, const char **why)
{
	struct scan scan = enter(json);
	struct buf joined = {.max = SIZE_MAX / 2};
	struct str item, text, none;
	enum status status = ST_NOTFOUND;
	while (next_member(&scan, false, &none, &item)) {
		enum status one = ST_TEMP;
		if (item.ptr[0] == '{' || item.ptr[0] == '[')
			*why = "the answer's list holds objects or lists: see the option `value`";
		else
			one = scalar_value(item, FORM_TEXT, mem, &text, why);
		if (one == ST_TEMP) {
			status = ST_TEMP;
			break;
		}
		if (one == ST_NOTFOUND)
			continue;
		if (status == ST_OK)
			buf_add(&joined, rules->list_separator);
		buf_add(&joined, text);
		status = ST_OK;
	}
	*value = arena_str(mem, buf_str(&joined));
	buf_free(&joined);
	return status;
}

static enum status any_value(struct str json, const struct json_rules *rules, struct arena *mem,
	struct str *value, const char **why)
{
	bool list = json.ptr[0] == '[', object = json.ptr[0] == '{';
	if (!list && !object)
		return scalar_value(json, rules->form, mem, value, why);
	if (rules->form == FORM_JSON) {
		*value = compact(json, mem);
		return ST_OK;
	}
	if (list)
		return list_value(json, rules, mem, value, why);
	*why = "the answer is a JSON object: the option `value` picks one of its members";
	return ST_TEMP;
}

/* ---- pointers (RFC 6901) ---- */

/* ~1 is '/', ~0 is '~'. */
static bool is_token(struct str name, struct str token)
{
	size_t i = 0;
	while (token.len > 0) {
		char c = token.ptr[0];
		size_t n = 1;
		if (c == '~' && token.len > 1 && (token.ptr[1] == '0' || token.ptr[1] == '1')) {
			c = token.ptr[1] == '0' ? '~' : '/';
			n = 2;
		}
		if (i == name.len || name.ptr[i] != c)
			return false;
		i++;
		token = str_skip(token, n);
	}
	return i == name.len;
}

/* Of members with the same name the last one counts, as in most readers. */
static bool find_named(struct str object, struct str token, struct arena *mem, struct str *found)
{
	struct scan scan = enter(object);
	struct str name, value, text;
	bool any = false;
	while (next_member(&scan, true, &name, &value)) {
		if (json_text(name, mem, &text) && is_token(text, token)) {
			*found = value;
			any = true;
		}
	}
	return any;
}

static bool find_nth(struct str list, struct str token, struct str *found)
{
	struct scan scan = enter(list);
	struct str none;
	uint64_t n;
	if (!str_u64(token, &n) || (token.len > 1 && token.ptr[0] == '0'))
		return false;
	while (next_member(&scan, false, &none, found))
		if (n-- == 0)
			return true;
	return false;
}

/* ST_NOTFOUND where there is none, as for null; ST_TEMP where there could be none. */
static enum status follow_pointer(
	struct str *json, const char *pointer, struct arena *mem, const char **why)
{
	struct str rest = str_of(pointer), token;
	if (rest.len > 0)
		rest = str_skip(rest, 1); /* the '/' before the first */
	else
		return ST_OK;
	bool more = true;
	while (more) {
		more = str_cut(&rest, '/', &token);
		char first = json->ptr[0];
		if (first == '{' ? find_named(*json, token, mem, json)
				 : first == '[' && find_nth(*json, token, json))
			continue;
		if (first == '{' || first == '[' || first == 'n')
			return ST_NOTFOUND;
		*why = "the option `value` points into something that is no object and no list";
		return ST_TEMP;
	}
	return ST_OK;
}

bool json_pointer_valid(struct str pointer)
{
	for (size_t i = 0; i < pointer.len; i++)
		if (pointer.ptr[i] == '~' &&
			(i + 1 == pointer.len ||
				(pointer.ptr[i + 1] != '0' && pointer.ptr[i + 1] != '1')))
			return false;
	return pointer.len == 0 || pointer.ptr[0] == '/';
}

enum status json_value(struct str text, const struct json_rules *rules, struct arena *mem,
	struct str *value, const char **why)
{
	struct str json;
	*value = (struct str){"", 0};
	*why = "the answer is not JSON";
	if (!read_document(text, &json))
		return ST_TEMP;
	enum status status = follow_pointer(&json, rules->pointer, mem, why);
	return status == ST_OK ? any_value(json, rules, mem, value, why) : status;
}

/* ---- rows ---- */

static size_t count_members(struct str json, bool named)
{
	struct scan scan = enter(json);
	struct str name, value;
	size_t n = 0;
	while (next_member(&scan, named, &name, &value))
		n++;
	return n;
}

/* One row; *n is not stepped when it has no value. */
static bool read_row(struct str name, struct str value, const struct json_rules *rules,
	struct arena *mem, struct pair *row, size_t *n, const char **why)
{
	*why = "a name in the answer holds a NUL or half a surrogate pair";
	if (!json_text(name, mem, &row->name))
		return false;
	row->value = (struct str){"", 0};
	enum status status = ST_OK;
	if (value.len > 0)
		status = any_value(value, rules, mem, &row->value, why);
	*n += status == ST_OK;
	return status != ST_TEMP;
}

/* A list is taken as it stands: `value` points at what holds the values in single answers. */
static bool find_rows(struct str text, const struct json_rules *rules, struct arena *mem,
	struct str *json, const char **why)
{
	*why = "the answer is not JSON";
	if (!read_document(text, json))
		return false;
	if (json->ptr[0] != '[' && follow_pointer(json, rules->pointer, mem, why) != ST_OK) {
		*why = "the answer has nothing where the option `value` points";
		return false;
	}
	*why = "the answer is neither a list of names nor an object";
	return json->ptr[0] == '[' || json->ptr[0] == '{';
}

bool json_rows(struct str text, const struct json_rules *rules, struct arena *mem,
	struct pair **rows, size_t *nrows, bool *only_names, const char **why)
{
	struct str json, name, value = {"", 0};
	*nrows = 0;
	if (!find_rows(text, rules, mem, &json, why))
		return false;
	bool named = json.ptr[0] == '{';
	*only_names = !named;
	*rows = arena_alloc(mem, (count_members(json, named) + 1) * sizeof(**rows));
	struct scan scan = enter(json);
	while (next_member(&scan, named, &name, &value)) {
		if (!named) {
			name = value;
			value = (struct str){"", 0};
			*why = "the answer's list holds something that is no name";
			if (name.ptr[0] != '"')
				return false;
		}
		if (!read_row(name, value, rules, mem, *rows + *nrows, nrows, why))
			return false;
	}
	return true;
}

/* ---- writing ---- */

/* The length of a valid character at `s`, one byte or more; 0: none. */
static size_t character(struct str s)
{
	return (unsigned char)s.ptr[0] < 0x80 ? 1 : utf8_length(s.ptr, s.ptr + s.len);
}

static void add_character(struct buf *to, struct str one)
{
	static const char plain[] = "\b\f\n\r\t", letters[] = "bfnrt";
	unsigned char c = (unsigned char)one.ptr[0];
	const char *special = c > 0 ? strchr(plain, c) : NULL;
	if (special)
		buf_add(to, (struct str){(char[]){'\\', letters[special - plain]}, 2});
	else if (c < 0x20 || c == 0x7f)
		buf_printf(to, "\\u%04x", c);
	else if (c == '"' || c == '\\')
		buf_add(to, (struct str){(char[]){'\\', (char)c}, 2});
	else
		buf_add(to, one);
}

bool json_add(struct buf *to, struct str text)
{
	bool valid = true;
	buf_add_char(to, '"');
	while (text.len > 0) {
		size_t n = character(text);
		if (n > 0) {
			add_character(to, (struct str){text.ptr, n});
		} else {
			buf_add(to, STR("\xef\xbf\xbd"));
			valid = false;
		}
		text = str_skip(text, n > 0 ? n : 1);
	}
	buf_add_char(to, '"');
	return valid;
}

static struct str keep(struct buf *text, struct arena *mem)
{
	struct str kept = arena_str(mem, buf_str(text));
	buf_free(text);
	return kept;
}

bool json_quote(struct str text, struct arena *mem, struct str *quoted)
{
	struct buf out = {.max = SIZE_MAX / 2};
	bool valid = json_add(&out, text);
	*quoted = keep(&out, mem);
	return valid;
}

struct str json_object(const struct pair *pairs, size_t n, struct arena *mem)
{
	struct buf out = {.max = SIZE_MAX / 2};
	buf_add_char(&out, '{');
	for (size_t i = 0; i < n; i++) {
		if (i > 0)
			buf_add_char(&out, ',');
		json_add(&out, pairs[i].name);
		buf_add_char(&out, ':');
		json_add(&out, pairs[i].value);
	}
	buf_add_char(&out, '}');
	return keep(&out, mem);
}
