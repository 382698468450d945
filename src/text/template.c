/* URL templates: compiled once, filled for each key so that no key can leave its place. */
#include "text/template.h"

#include <strings.h>

enum kind { TEXT, KEY, USER, TABLE, SCOPE, LOCALPART, DOMAIN };

struct piece {
	enum kind kind;
	bool in_query;
	struct str text; /* TEXT */
};

struct template
{
	const char *origin;
	struct piece *pieces;
	size_t n;
};

static const struct {
	const char *name;
	enum kind kind;
} placeholders[] = {
	{"", KEY},
	{"key", KEY},
	{"user", USER},
	{"table", TABLE},
	{"scope", SCOPE},
	{"localpart", LOCALPART},
	{"domain", DOMAIN},
};

static const char section[] = "\xc2\xa7"; /* § in UTF-8 */

/* ---- characters ---- */

static bool is_unreserved(unsigned char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '-' || c == '.' || c == '_' || c == '~';
}

static bool is_control(unsigned char c)
{
	return c < 0x20 || c == 0x7f;
}

static bool has_control(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		if (is_control((unsigned char)s.ptr[i]))
			return true;
	return false;
}

static bool is_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static char *put_escaped(char *to, unsigned char c)
{
	static const char digits[] = "0123456789ABCDEF";
	*to++ = '%';
	*to++ = digits[c >> 4];
	*to++ = digits[c & 15];
	return to;
}

static void add_escaped(struct buf *to, unsigned char c)
{
	char escaped[3];
	put_escaped(escaped, c);
	buf_add(to, (struct str){escaped, sizeof(escaped)});
}

/* `also` is one more character that stays as it is; 0: none. */
static void add_encoded(struct buf *to, struct str s, char also)
{
	char *start = buf_reserve(to, s.len * 3), *at = start;
	for (size_t i = 0; at && i < s.len; i++) {
		unsigned char c = (unsigned char)s.ptr[i];
		if (is_unreserved(c) || c == (unsigned char)also)
			*at++ = (char)c;
		else
			at = put_escaped(at, c);
	}
	to->len += (size_t)(at - start);
}

/* One or two dots, which URL libraries resolve away; in a URL, "%2e" is a dot to some. */
static bool is_dots(struct str segment, bool is_url)
{
	unsigned dots = 0;
	while (segment.len > 0) {
		if (segment.ptr[0] == '.')
			segment = str_skip(segment, 1);
		else if (is_url && segment.len >= 3 && strncasecmp(segment.ptr, "%2e", 3) == 0)
			segment = str_skip(segment, 3);
		else
			return false;
		dots++;
	}
	return dots == 1 || dots == 2;
}

static bool has_dot_segment(struct str path, bool is_url)
{
	struct str segment;
	bool more = true;
	while (more) {
		more = str_cut(&path, '/', &segment);
		if (is_dots(segment, is_url))
			return true;
	}
	return false;
}

/* ---- compiling ---- */

struct compiler {
	struct arena *mem;
	struct error *error;
	struct template *template;
	struct buf text;     /* since the last placeholder */
	struct buf skeleton; /* the path, with something harmless in place of placeholders */
	bool in_query, is_suffix;
};

static void end_text(struct compiler *compiler)
{
	struct template *template = compiler->template;
	if (compiler->text.len == 0)
		return;
	template->pieces[template->n++] = (struct piece){
		.kind = TEXT,
		.in_query = compiler->in_query,
		.text = arena_str(compiler->mem, buf_str(&compiler->text)),
	};
	buf_reset(&compiler->text);
}

static bool add_placeholder(struct compiler *compiler, struct str name)
{
	struct template *template = compiler->template;
	for (size_t i = 0; i < sizeof(placeholders) / sizeof(*placeholders); i++) {
		if (!str_eq(name, str_of(placeholders[i].name)))
			continue;
		if (compiler->is_suffix && placeholders[i].kind == KEY)
			return error_set(compiler->error, "the key cannot follow itself");
		end_text(compiler);
		template->pieces[template->n++] = (struct piece){
			.kind = placeholders[i].kind, .in_query = compiler->in_query};
		if (!compiler->in_query)
			buf_add_char(&compiler->skeleton, 'x');
		return true;
	}
	return error_set(compiler->error,
		"unknown placeholder {%.*s}; there are {} {key} {user} {table} {scope} {localpart} "
		"{domain}, and {{ }} for braces",
		(int)name.len, name.ptr);
}

/* A character of the template itself: what URLs do not allow is percent-encoded. */
static bool add_literal(struct compiler *compiler, struct str rest)
{
	unsigned char c = (unsigned char)rest.ptr[0];
	if (is_control(c) || c == ' ')
		return error_set(compiler->error, "a blank or control character");
	if (c == '#')
		return error_set(compiler->error, "a fragment (#) is never sent; write %%23");
	if (c == '?' && compiler->is_suffix)
		return error_set(compiler->error, "a '?' cannot be appended to a key");
	if (c == '%' && !(rest.len >= 3 && is_hex(rest.ptr[1]) && is_hex(rest.ptr[2])))
		return error_set(compiler->error, "'%%' without two hexadecimal digits");
	if (c == '?' && !compiler->in_query) {
		end_text(compiler);
		compiler->in_query = true;
	}
	if (c > 0x7e || strchr("\"<>\\^`{|}", c))
		add_escaped(&compiler->text, c);
	else
		buf_add_char(&compiler->text, (char)c);
	if (!compiler->in_query)
		buf_add_char(&compiler->skeleton, (char)c);
	return true;
}

/* Everything behind the authority. */
static bool compile_rest(struct compiler *compiler, struct str rest)
{
	while (rest.len > 0) {
		struct str name;
		if (str_starts(rest, str_of(section))) {
			if (!add_placeholder(compiler, STR("")))
				return false;
			rest = str_skip(rest, sizeof(section) - 1);
			continue;
		}
		bool brace = rest.ptr[0] == '{' || rest.ptr[0] == '}';
		if (brace && !(rest.len > 1 && rest.ptr[1] == rest.ptr[0])) {
			if (rest.ptr[0] == '}' || !str_has(rest, '}'))
				return error_set(compiler->error,
					"a brace without its partner; {{ and }} are braces");
			rest = str_skip(rest, 1);
			str_cut(&rest, '}', &name);
			if (!add_placeholder(compiler, name))
				return false;
			continue;
		}
		if (!add_literal(compiler, rest))
			return false;
		rest = str_skip(rest, brace ? 2 : 1);
	}
	end_text(compiler);
	if (has_dot_segment(buf_str(&compiler->skeleton), true))
		return error_set(compiler->error, "a \".\" or \"..\" segment in the path");
	return true;
}

static bool check_port(struct str port)
{
	uint64_t n;
	return port.len == 0 || (str_u64(port, &n) && n >= 1 && n <= 65535);
}

/* [user[:password]@]host[:port] */
static bool check_authority(struct str authority, struct str *host_port, struct error *error)
{
	struct str host = authority, port = {"", 0};
	for (size_t i = 0; i < authority.len; i++)
		if (authority.ptr[i] == '@')
			host = str_skip(authority, i + 1);
	*host_port = host;
	if (host.len > 0 && host.ptr[0] == '[') {
		struct str rest = str_skip(host, 1);
		if (!str_cut(&rest, ']', &host) || (rest.len > 0 && rest.ptr[0] != ':'))
			return error_set(
				error, "an IPv6 address is written [ADDRESS] or [ADDRESS]:PORT");
		port = rest.len > 0 ? str_skip(rest, 1) : rest;
	} else {
		struct str rest = host;
		if (str_cut(&rest, ':', &host))
			port = rest;
	}
	if (host.len == 0)
		return error_set(error, "no host");
	if (!check_port(port))
		return error_set(error, "a port is a number from 1 to 65535");
	return true;
}

static bool compile_origin(struct compiler *compiler, struct str text, struct str *rest)
{
	size_t scheme = str_starts(text, STR("http://"))    ? 7
			: str_starts(text, STR("https://")) ? 8
							    : 0;
	if (scheme == 0)
		return error_set(compiler->error, "a URL begins with http:// or https://");
	size_t end = scheme;
	while (end < text.len && !strchr("/?#", text.ptr[end]))
		end++;
	struct str authority = {text.ptr + scheme, end - scheme}, host_port;
	for (size_t i = 0; i < authority.len; i++) {
		unsigned char c = (unsigned char)authority.ptr[i];
		if (c == '{' || c == '}' || str_starts(str_skip(authority, i), str_of(section)))
			return error_set(compiler->error, "a placeholder before the path");
		if (c <= 0x20 || c > 0x7e || strchr("\"<>\\^`|", c))
			return error_set(compiler->error, "a character that no host or user has");
	}
	if (!check_authority(authority, &host_port, compiler->error))
		return false;
	compiler->template->origin = arena_printf(
		compiler->mem, "%.*s%.*s", (int)scheme, text.ptr, (int)host_port.len, host_port.ptr)
					     .ptr;
	buf_add(&compiler->text, (struct str){text.ptr, end});
	if (end == text.len || text.ptr[end] != '/')
		buf_add_char(&compiler->text, '/');
	*rest = str_skip(text, end);
	return true;
}

static bool compile(const char *text, bool is_suffix, struct arena *mem, struct template **compiled,
	struct error *error)
{
	struct str rest = str_of(text);
	struct compiler compiler = {
		.mem = mem,
		.error = error,
		.is_suffix = is_suffix,
		.template = arena_alloc(mem, sizeof(struct template)),
		.text.max = SIZE_MAX / 2,
		.skeleton.max = SIZE_MAX / 2,
	};
	compiler.template->origin = "";
	compiler.template->pieces = arena_alloc(mem, (rest.len + 2) * sizeof(struct piece));
	bool ok = (is_suffix || compile_origin(&compiler, rest, &rest)) &&
		  compile_rest(&compiler, rest);
	buf_free(&compiler.text);
	buf_free(&compiler.skeleton);
	*compiled = compiler.template;
	return ok;
}

bool template_compile(
	const char *text, struct arena *mem, struct template **compiled, struct error *error)
{
	return compile(text, false, mem, compiled, error);
}

bool template_compile_suffix(
	const char *text, struct arena *mem, struct template **compiled, struct error *error)
{
	return compile(text, true, mem, compiled, error);
}

bool template_varies(const struct template *compiled)
{
	for (size_t i = 0; i < compiled->n; i++)
		if (compiled->pieces[i].kind != TEXT)
			return true;
	return false;
}

const char *template_origin(const struct template *compiled)
{
	return compiled->origin;
}

/* ---- filling ---- */

static bool is_good_key(const struct template_values *values)
{
	struct str key = values->key;
	if (key.len == 0)
		return values->is_prefix;
	return key.ptr[0] != '/' && !has_control(key) && !has_dot_segment(key, false);
}

static struct str value_of(enum kind kind, const struct template_values *values)
{
	struct str key = values->key;
	size_t at = key.len;
	switch (kind) {
	case USER:
		return values->user;
	case TABLE:
		return values->table;
	case SCOPE:
		return values->scope;
	default:
		break;
	}
	while (at > 0 && key.ptr[at - 1] != '@')
		at--;
	if (kind == DOMAIN)
		return at > 0 ? str_skip(key, at) : (struct str){"", 0};
	return at > 0 ? (struct str){key.ptr, at - 1} : key;
}

/* A value that is no key: it stays within its segment, and does not make an empty one. Servers that
 * decode before they split would see its slashes; so it has no dot segments either. */
static bool add_value(const struct piece *piece, const struct template_values *values,
	bool in_query, struct buf *url)
{
	struct str value = value_of(piece->kind, values);
	if (has_control(value) || has_dot_segment(value, false))
		return false;
	if (value.len == 0 && !in_query && !values->is_prefix)
		return false;
	add_encoded(url, value, 0);
	return true;
}

static bool add_suffix(const struct template_values *values, bool in_query, struct buf *url)
{
	const struct template *suffix = values->suffix;
	struct str key = values->key;
	bool one_slash = values->is_prefix && (key.len == 0 || key.ptr[key.len - 1] == '/');
	for (size_t i = 0; suffix && i < suffix->n; i++) {
		struct str text = suffix->pieces[i].text;
		if (suffix->pieces[i].kind != TEXT) {
			if (!add_value(&suffix->pieces[i], values, in_query, url))
				return false;
			continue;
		}
		if (i == 0 && one_slash && text.ptr[0] == '/')
			text = str_skip(text, 1);
		if (in_query) /* it is encoded, but for a path */
			add_encoded(url, text, '%');
		else
			buf_add(url, text);
	}
	return true;
}

static bool add_piece(
	const struct piece *piece, const struct template_values *values, struct buf *url)
{
	if (piece->kind == TEXT) {
		buf_add(url, piece->text);
		return true;
	}
	if (piece->kind != KEY)
		return add_value(piece, values, piece->in_query, url);
	add_encoded(url, values->key, piece->in_query ? 0 : '/');
	return add_suffix(values, piece->in_query, url);
}

enum template_result template_fill(
	const struct template *compiled, const struct template_values *values, struct buf *url)
{
	size_t start = url->len;
	if (!is_good_key(values))
		return TEMPLATE_BAD_KEY;
	for (size_t i = 0; i < compiled->n; i++)
		if (!add_piece(&compiled->pieces[i], values, url))
			return TEMPLATE_BAD_KEY;
	if (url->overflow)
		return TEMPLATE_BAD_KEY;
	struct str rest = str_skip(buf_str(url), start), path;
	str_cut(&rest, '?', &path);
	return has_dot_segment(path, true) ? TEMPLATE_BAD_KEY : TEMPLATE_OK;
}

/* ---- for people ---- */

/* A piece of `name=value&...`, beginning within a value unless a name does. */
static void show_in_query(struct str text, struct buf *to)
{
	struct str each;
	bool more = true, in_value = text.ptr[0] != '?' && text.ptr[0] != '&';
	while (more) {
		more = str_cut(&text, '&', &each);
		if (!in_value && str_has(each, '=')) {
			struct str name;
			str_cut(&each, '=', &name);
			buf_add(to, name);
			buf_add_char(to, '=');
		} else if (!in_value && str_starts(each, STR("?"))) {
			buf_add_char(to, '?');
			each = str_skip(each, 1);
		}
		if (each.len > 0)
			buf_add(to, STR("..."));
		if (more)
			buf_add_char(to, '&');
		in_value = false;
	}
}

void template_show(
	const struct template *compiled, const struct template_values *values, struct buf *url)
{
	struct str text =
		compiled->pieces[0].text; /* scheme, authority and the beginning of the path */
	struct str authority = str_skip(text, strcspn(text.ptr, ":") + strlen("://"));
	buf_add(url, str_of(compiled->origin));
	buf_add(url, str_skip(authority, strcspn(authority.ptr, "/")));
	for (size_t i = 1; i < compiled->n; i++) {
		const struct piece *piece = &compiled->pieces[i];
		if (piece->kind == TEXT && piece->in_query)
			show_in_query(piece->text, url);
		else if (!add_piece(piece, values, url))
			return;
	}
}

void template_encode(struct str text, struct buf *to)
{
	add_encoded(to, text, 0);
}
