/* Values and rows out of JSON text (RFC 8259), and JSON text out of values.
 *
 * cJSON builds the tree, and judges how the parts of the text follow each other. The parts are
 * looked at here first (tighten()), for it reads more than JSON: 01 and 1., a byte order mark, any
 * control character, bytes that are no UTF-8, \uzzzz. Not used: cJSON_Minify() takes the end of
 * "\\" for an escaped quote; cJSON_GetErrorPtr() alone would not be thread-safe. */
#include "text/json.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>

#include "base/buf.h"

#define DIGITS "0123456789"

struct document {
	const struct json_rules *rules;
	struct arena *mem;
	const char *why; /* of the last ST_TEMP */
	struct str text; /* without blanks between its parts; NUL follows */
	bool has_nul;    /* \u0000, where the tree's strings end too early */
	cJSON *tree;     /* owned; NULL: the text was no JSON */
};

/* ---- reading ---- */

/* The length of the UTF-8 character at the start of `s`, which is not empty; 0: none (RFC 3629). */
static size_t character(struct str s)
{
	const unsigned char *p = (const unsigned char *)s.ptr;
	size_t n = p[0] < 0x80 ? 1 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
	if (s.len < n || (n > 1 && (p[0] < 0xc2 || p[0] > 0xf4)))
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	bool overlong = (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xf0 && p[1] < 0x90);
	bool no_character = (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf4 && p[1] > 0x8f);
	return overlong || no_character ? 0 : n;
}

/* The length of the string, quotes included, at the start of `s`; 0: none. NUL follows `s` if there
 * are escapes in it. Which letters may be escaped is left to cJSON. */
static size_t string_length(struct str s, bool *has_nul)
{
	size_t at = 1, n;
	for (; at < s.len && s.ptr[at] != '"'; at += n) {
		const char *c = s.ptr + at;
		n = character(str_skip(s, at));
		if (n == 0 || (unsigned char)*c < 0x20)
			return 0;
		if (*c != '\\')
			continue;
		n = 2;
		if (c[1] == 'u' && strspn(c + 2, DIGITS "abcdefABCDEF") < 4)
			return 0;
		*has_nul |= strncmp(c + 1, "u0000", 5) == 0;
	}
	return at < s.len ? at + 1 : 0;
}

/* The length of the part at the start of `s`, behind a part that ends in `before`; 0: one that is
 * not JSON, although cJSON might take it. NUL follows `s`. */
static size_t part_length(struct document *doc, struct str s, char before)
{
	const char *at = s.ptr + (s.ptr[0] == '-');
	size_t n = strspn(at, DIGITS);
	if (s.ptr[0] == '"')
		return string_length(s, &doc->has_nul);
	if (str_has(STR("{}[]:,"), s.ptr[0]))
		return 1;
	if (!str_has(STR("[:,"), before)) /* 1 2 shall not become 12 */
		return 0;
	if ((s.ptr[0] == '-' && n == 0) || (n > 1 && *at == '0') ||
		(at[n] == '.' && !strspn(at + n + 1, DIGITS)))
		return 0;
	return strspn(s.ptr, DIGITS "+-.Eaeflnrstu"); /* cJSON knows the words */
}

/* Takes out the blanks between the parts; false when a part is none of JSON's. */
static bool tighten(struct document *doc, struct str text)
{
	struct str rest = arena_str(doc->mem, text);
	char *start = (char *)rest.ptr, *to = start;
	for (size_t n; rest.len > 0; rest = str_skip(rest, n)) {
		n = 1;
		if (str_has(STR(" \t\r\n"), rest.ptr[0]))
			continue;
		n = part_length(doc, rest, to > start ? to[-1] : ',');
		if (n == 0)
			return false;
		memmove(to, rest.ptr, n);
		to += n;
	}
	if (to > start)
		*to = '\0';
	doc->text = (struct str){start, (size_t)(to - start)};
	return to > start;
}

static bool read_document(struct document *doc, struct str text)
{
	doc->why = "the answer is not JSON";
	if (tighten(doc, text))
		doc->tree = cJSON_ParseWithLengthOpts(doc->text.ptr, doc->text.len + 1, NULL, true);
	return doc->tree != NULL;
}

bool json_valid(struct str text)
{
	struct arena mem = {0};
	struct document doc = {.mem = &mem};
	bool valid = read_document(&doc, text);
	cJSON_Delete(doc.tree);
	arena_clear(&mem);
	return valid;
}

/* ---- parts ---- */

bool json_tighten(struct str text, struct arena *mem, struct str *tight)
{
	struct document doc = {.mem = mem};
	bool valid = read_document(&doc, text);
	*tight = doc.text;
	cJSON_Delete(doc.tree);
	return valid;
}

bool json_part(struct str *rest, struct str *part)
{
	struct document doc = {0};
	while (rest->len > 0 && str_has(STR(",: \t\r\n"), rest->ptr[0]))
		*rest = str_skip(*rest, 1);
	*part = (struct str){rest->ptr, rest->len > 0 ? part_length(&doc, *rest, ',') : 0};
	*rest = str_skip(*rest, part->len);
	return part->len > 0;
}

bool json_text(struct str part, struct arena *mem, struct str *text)
{
	bool has_nul = false;
	*text = (struct str){part.ptr + 1, part.len - 2};
	if (!str_has(part, '\\'))
		return true;
	cJSON *string = cJSON_ParseWithLength(part.ptr, part.len);
	if (string_length(part, &has_nul) > 0 && string)
		*text = arena_str(mem, str_of(cJSON_GetStringValue(string)));
	cJSON_Delete(string);
	return string && !has_nul;
}

/* ---- values ---- */

static enum status temp(struct document *doc, const char *why)
{
	doc->why = why;
	return ST_TEMP;
}

static bool is_container(const cJSON *item)
{
	return cJSON_IsArray(item) || cJSON_IsObject(item);
}

/* The number as a double holds it, in the fewest digits. From 2^53 on neighbours of what was
 * written look the same. */
static enum status number_value(struct document *doc, double number, struct str *value)
{
	const double limit = 9007199254740992.0;
	if (number >= limit || number <= -limit)
		return temp(doc, "a number in the answer is 2^53 or more: "
				 "exact only as an integer that is the whole answer");
	int64_t integer = (int64_t)number;
	*value = arena_printf(doc->mem, "%" PRId64, integer);
	for (int digits = 15; (double)integer != number && digits <= 17; digits++) {
		*value = arena_printf(doc->mem, "%.*g", digits, number);
		if (strtod(value->ptr, NULL) == number)
			break;
	}
	return ST_OK;
}

static enum status scalar_value(
	struct document *doc, const cJSON *item, enum form form, struct str *value)
{
	bool plain = form == FORM_TEXT;
	if (cJSON_IsNull(item) || (cJSON_IsFalse(item) && plain))
		return ST_NOTFOUND;
	if (cJSON_IsNumber(item))
		return number_value(doc, item->valuedouble, value);
	*value = cJSON_IsString(item)  ? arena_str(doc->mem, str_of(item->valuestring))
		 : cJSON_IsFalse(item) ? STR("false")
		 : plain               ? STR("1")
				       : STR("true");
	return ST_OK;
}

/* cJSON prints some numbers as their neighbours: the tree gets texts that it borrows instead. */
static enum status fix_numbers(struct document *doc, cJSON *item)
{
	struct str text;
	if (cJSON_IsNumber(item)) {
		if (number_value(doc, item->valuedouble, &text) != ST_OK)
			return ST_TEMP;
		item->valuestring = (char *)text.ptr;
		item->type = cJSON_Raw | cJSON_IsReference;
	}
	for (cJSON *child = item->child; child; child = child->next)
		if (fix_numbers(doc, child) != ST_OK)
			return ST_TEMP;
	return ST_OK;
}

static enum status printed_value(struct document *doc, cJSON *item, struct str *value)
{
	if (fix_numbers(doc, item) != ST_OK)
		return ST_TEMP;
	char *text = cJSON_PrintUnformatted(item);
	*value = arena_str(doc->mem, str_of(text));
	cJSON_free(text);
	return text ? ST_OK : temp(doc, "no memory is left for the answer");
}

/* Null and false are no items, as they are no values. */
static enum status list_value(struct document *doc, const cJSON *list, struct str *value)
{
	struct buf joined = {.max = SIZE_MAX / 2};
	struct str text;
	enum status status = ST_NOTFOUND, one;
	for (const cJSON *item = list->child; item && status != ST_TEMP; item = item->next) {
		one = is_container(item) ? temp(doc, "the answer's list holds objects or lists: "
						     "see the option `value`")
					 : scalar_value(doc, item, FORM_TEXT, &text);
		if (one == ST_NOTFOUND)
			continue;
		if (status == ST_OK)
			buf_add(&joined, doc->rules->list_separator);
		if (one == ST_OK)
			buf_add(&joined, text);
		status = one;
	}
	*value = arena_str(doc->mem, buf_str(&joined));
	buf_free(&joined);
	return status;
}

static enum status any_value(struct document *doc, cJSON *item, struct str *value)
{
	if (!is_container(item))
		return scalar_value(doc, item, doc->rules->form, value);
	if (doc->rules->form == FORM_JSON)
		return printed_value(doc, item, value);
	if (cJSON_IsArray(item))
		return list_value(doc, item, value);
	return temp(
		doc, "the answer is a JSON object: the option `value` picks one of its members");
}

/* ---- pointers (RFC 6901) ---- */

bool json_pointer_valid(struct str pointer)
{
	for (size_t i = 0; i < pointer.len; i++)
		if (pointer.ptr[i] == '~' &&
			(i + 1 == pointer.len || !str_has(STR("01"), pointer.ptr[i + 1])))
			return false;
	return pointer.len == 0 || pointer.ptr[0] == '/';
}

/* ~1 is '/', ~0 is '~'. */
static bool is_token(const char *name, struct str token)
{
	for (; token.len > 0; name++) {
		bool escaped = token.ptr[0] == '~' && token.len > 1;
		char c = !escaped ? token.ptr[0] : token.ptr[1] == '0' ? '~' : '/';
		if (*name != c)
			return false;
		token = str_skip(token, escaped ? 2 : 1);
	}
	return *name == '\0';
}

static cJSON *find_member(const cJSON *in, struct str token)
{
	cJSON *found = NULL;
	uint64_t n;
	if (cJSON_IsObject(in)) {
		for (cJSON *child = in->child; child; child = child->next)
			if (is_token(child->string, token))
				found = child; /* the last one counts, as in most readers */
	} else if (str_u64(token, &n) && n < INT_MAX && (token.len == 1 || token.ptr[0] != '0')) {
		found = cJSON_GetArrayItem(in, (int)n);
	}
	return found;
}

/* ST_NOTFOUND where there is none, as for null; ST_TEMP where there could be none. *item is NULL
 * unless it is ST_OK. */
static enum status follow_pointer(struct document *doc, cJSON **item)
{
	struct str rest = str_of(doc->rules->pointer), token;
	cJSON *at = doc->tree;
	*item = NULL;
	if (doc->has_nul)
		return temp(doc, "a string of the answer holds a NUL");
	bool more = str_cut(&rest, '/', &token); /* nothing stands before the first */
	while (more && at && !cJSON_IsNull(at)) {
		more = str_cut(&rest, '/', &token);
		if (!is_container(at))
			return temp(doc, "the option `value` points into something that is no "
					 "object and no list");
		at = find_member(at, token);
	}
	*item = more ? NULL : at;
	return *item ? ST_OK : ST_NOTFOUND;
}

/* Is the document's text the value? An integer keeps all its digits then. */
static bool is_value(const struct document *doc)
{
	if (doc->rules->pointer[0])
		return false;
	if (cJSON_IsNumber(doc->tree))
		return !strpbrk(doc->text.ptr, ".eE") && !str_eq(doc->text, STR("-0"));
	return doc->rules->form == FORM_JSON && is_container(doc->tree);
}

/* The common case, one pass and no tree: a string that says what stands between its quotes. */
static bool plain_string(struct str text, struct str *value)
{
	struct str quoted = str_trim(text);
	bool has_nul = false;
	if (!str_starts(quoted, STR("\"")) || str_has(quoted, '\\') ||
		string_length(quoted, &has_nul) != quoted.len)
		return false;
	*value = (struct str){quoted.ptr + 1, quoted.len - 2};
	return true;
}

enum status json_value(struct str text, const struct json_rules *rules, struct arena *mem,
	struct str *value, const char **why)
{
	struct document doc = {.rules = rules, .mem = mem};
	enum status status = ST_TEMP;
	cJSON *item;
	if (!rules->pointer[0] && plain_string(text, value))
		return ST_OK;
	*value = (struct str){"", 0};
	if (read_document(&doc, text)) {
		bool whole = is_value(&doc);
		status = whole ? ST_OK : follow_pointer(&doc, &item);
		if (whole)
			*value = doc.text;
		else if (status == ST_OK)
			status = any_value(&doc, item, value);
	}
	cJSON_Delete(doc.tree);
	*why = doc.why;
	return status;
}

/* ---- rows: one at a time, so that nothing but the text and the rows themselves is in memory ---- */

/* The parts of a text one after the other, blanks between them left out. */
struct walk {
	struct document *doc;
	struct str rest; /* NUL follows */
	char before;     /* what the last part ended in */
};

struct row_list {
	struct pair *rows;
	size_t n, room, bytes;
};

/* Empty: the end, or what is no part of JSON. */
static struct str next_part(struct walk *walk)
{
	struct str *rest = &walk->rest;
	while (rest->len > 0 && str_has(STR(" \t\r\n"), rest->ptr[0]))
		*rest = str_skip(*rest, 1);
	struct str part = {rest->ptr, 0};
	if (rest->len > 0)
		part.len = part_length(walk->doc, *rest, walk->before);
	*rest = str_skip(*rest, part.len);
	if (part.len > 0)
		walk->before = part.ptr[part.len - 1];
	return part;
}

/* The value that begins with `part`, brackets and all. Whether what is between the brackets fits together
 * is for cJSON to say. */
static bool take_item(struct walk *walk, struct str part, struct str *item)
{
	const char *start = part.ptr;
	size_t depth = 0;
	if (part.len == 1 && str_has(STR("]},:"), part.ptr[0]))
		return false;
	for (;; part = next_part(walk)) {
		char c = part.len == 1 ? part.ptr[0] : '\0';
		if (part.len == 0 || depth == CJSON_NESTING_LIMIT)
			return false;
		if (c == '{' || c == '[')
			depth++;
		else if (c == '}' || c == ']')
			depth--;
		if (depth == 0)
			break;
	}
	*item = (struct str){start, (size_t)(part.ptr + part.len - start)};
	return true;
}

static enum status item_value(struct document *doc, struct str item, struct str *value)
{
	enum status status = ST_TEMP;
	const char *end;
	if (item.ptr[0] == '"')
		return json_text(item, doc->mem, value) ? ST_OK : ST_TEMP;
	cJSON *tree = cJSON_ParseWithLengthOpts(item.ptr, item.len, &end, false);
	if (tree && end == item.ptr + item.len)
		status = any_value(doc, tree, value);
	cJSON_Delete(tree);
	return status;
}

/* False when they grow too many: the prefix that each name gets may be long, and comes from a client. */
static bool add_row(struct row_list *list, struct pair row)
{
	list->bytes += sizeof(row) + row.name.len + row.value.len;
	if (list->n == list->room) {
		list->room = list->room ? list->room * 2 : 16;
		list->rows = memory_grow(list->rows, list->room * sizeof(row));
	}
	list->rows[list->n++] = row;
	return list->bytes <= ROWS_MAX;
}

/* A member of a list, or of an object where `named`, that begins with `part`. A false or null in an
 * object is no row. */
static bool take_row(struct walk *walk, struct str part, bool named, struct row_list *list)
{
	struct document *doc = walk->doc;
	struct pair row = {.value = {"", 0}};
	struct str name = part, item;
	enum status status = ST_OK;
	if (named && !(part.len > 0 && part.ptr[0] == '"' && str_eq(next_part(walk), STR(":"))))
		return false;
	if (!take_item(walk, named ? next_part(walk) : part, &item))
		return false;
	if (!named && item.ptr[0] != '"')
		status = temp(doc, "the answer's list holds something that is no name");
	if (status == ST_OK && !json_text(name, doc->mem, &name))
		status = ST_TEMP;
	if (status == ST_OK && named)
		status = item_value(doc, item, &row.value);
	if (status != ST_OK)
		return status == ST_NOTFOUND;
	row.name = name;
	if (doc->rules->prefix.len > 0)
		row.name = arena_concat(doc->mem, doc->rules->prefix, name);
	if (add_row(list, row))
		return true;
	doc->why = "the rows are too large together";
	return false;
}

/* All rows of a text that is a list or an object, and nothing behind it. */
static bool take_rows(struct walk *walk, bool named, struct row_list *list)
{
	struct str close = named ? STR("}") : STR("]"), part;
	next_part(walk); /* the bracket */
	part = next_part(walk);
	bool more = !str_eq(part, close);
	while (more) {
		if (!take_row(walk, part, named, list))
			return false;
		part = next_part(walk);
		more = str_eq(part, STR(","));
		if (more)
			part = next_part(walk);
	}
	if (!str_eq(part, close) || next_part(walk).len > 0 || walk->rest.len > 0)
		return false;
	return !walk->doc->has_nul ||
	       temp(walk->doc, "a string of the answer holds a NUL") == ST_OK;
}

/* The list or the object that the pointer leads to, in the place of the whole text. */
static bool narrow(struct document *doc, struct str *text)
{
	struct arena mem = {0};
	struct document whole = {.rules = doc->rules, .mem = &mem};
	cJSON *from = NULL;
	bool ok = read_document(&whole, *text);
	if (ok && follow_pointer(&whole, &from) == ST_NOTFOUND)
		whole.why = "the answer has nothing where the option `value` points";
	*text = STR("null");
	ok = from && (!is_container(from) || printed_value(&whole, from, text) == ST_OK);
	*text = arena_str(doc->mem, *text);
	cJSON_Delete(whole.tree);
	arena_clear(&mem);
	doc->why = whole.why;
	return ok;
}

static char first_byte(struct str text)
{
	text = str_trim(text);
	return text.len > 0 ? text.ptr[0] : '\0';
}

static bool read_rows(struct document *doc, struct str text, struct row_list *list)
{
	char first = first_byte(text);
	struct walk walk = {doc, text, ','};
	doc->why = "the answer is not JSON";
	if (first == '{' || first == '[')
		return take_rows(&walk, first == '{', list);
	if (json_valid(text))
		doc->why = "the answer is neither a list of names nor an object";
	return false;
}

bool json_rows(struct str text, const struct json_rules *rules, struct arena *mem,
	struct pair **rows, size_t *nrows, bool *only_names, const char **why)
{
	struct document doc = {.rules = rules, .mem = mem};
	struct row_list list = {0};
	/* A list is taken as it stands: `value` points into single answers. */
	bool whole = !rules->pointer[0] || first_byte(text) == '[';
	bool ok = whole || narrow(&doc, &text);
	ok = ok && read_rows(&doc, text, &list);
	*only_names = first_byte(text) == '[';
	*nrows = ok ? list.n : 0;
	*rows = arena_alloc(mem, *nrows * sizeof(**rows));
	if (*nrows > 0)
		memcpy(*rows, list.rows, *nrows * sizeof(**rows));
	free(list.rows);
	*why = doc.why;
	return ok;
}

/* ---- writing: what cJSON prints ends at a NUL ---- */

bool json_add(struct buf *to, struct str text)
{
	static const char special[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
	bool valid = true;
	buf_add_char(to, '"');
	for (size_t n; text.len > 0; text = str_skip(text, n > 0 ? n : 1)) {
		unsigned char c = (unsigned char)text.ptr[0];
		n = character(text);
		valid = valid && n > 0;
		if (n == 0)
			buf_add(to, STR("\xef\xbf\xbd"));
		else if (c > 0 && strchr(special, c))
			buf_printf(to, "\\%c", letters[strchr(special, c) - special]);
		else if (c < 0x20 || c == 0x7f)
			buf_printf(to, "\\u%04x", c);
		else
			buf_add(to, (struct str){text.ptr, n});
	}
	buf_add_char(to, '"');
	return valid;
}

bool json_quote(struct str text, struct arena *mem, struct str *quoted)
{
	struct buf out = {.max = SIZE_MAX / 2, .wipe = true};
	bool valid = json_add(&out, text);
	*quoted = arena_str(mem, buf_str(&out));
	buf_free(&out);
	return valid;
}

struct str json_object(const struct pair *pairs, size_t n, struct arena *mem)
{
	struct buf out = {.max = SIZE_MAX / 2, .wipe = true};
	buf_add_char(&out, '{');
	for (size_t i = 0; i < n; i++) {
		struct str name, value;
		json_quote(pairs[i].name, mem, &name);
		json_quote(pairs[i].value, mem, &value);
		buf_printf(&out, "%s%.*s:%.*s", i > 0 ? "," : "", (int)name.len, name.ptr,
			(int)value.len, value.ptr);
	}
	buf_add_char(&out, '}');
	struct str object = arena_str(mem, buf_str(&out));
	buf_free(&out);
	return object;
}
