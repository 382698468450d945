/* string.find, match, gmatch and gsub as Lua has them, but each step counts as an instruction: patterns
 * that try for ever are stopped, as loops are. All of it runs in protected mode. */
#include <ctype.h>
#include <lauxlib.h>
#include <lua.h>

#include "lua_parts.h"

enum {
	MAX_CAPTURES = 32,
	MAX_DEPTH = 200,
	CHARGE = 1000, /* steps that are put on the account together */
};

enum { OPEN = -1, POSITION = -2 }; /* instead of a capture's length */

struct match {
	lua_State *L;
	const char *from, *end; /* the subject */
	const char *pattern_end;
	unsigned depth;
	int steps;
	int ncaptures;
	struct {
		const char *at;
		ptrdiff_t len;
	} captures[MAX_CAPTURES];
};

static const char *match_here(struct match *m, const char *s, const char *p);

static void step(struct match *m)
{
	if (++m->steps < CHARGE)
		return;
	m->steps = 0;
	vm_charge(m->L, CHARGE);
}

/* ---- single characters ---- */

/* What follows the item (a character, a class or a set) at `p`. */
static const char *item_end(const struct match *m, const char *p)
{
	char first = *p++;
	if (first == '%') {
		if (p == m->pattern_end)
			luaL_error(m->L, "malformed pattern (ends with '%%')");
		return p + 1;
	}
	if (first != '[')
		return p;
	if (p < m->pattern_end && *p == '^')
		p++;
	do { /* a ']' that comes first stands for itself */
		if (p == m->pattern_end)
			luaL_error(m->L, "malformed pattern (missing ']')");
		if (*p++ == '%' && p < m->pattern_end)
			p++;
	} while (p == m->pattern_end || *p != ']');
	return p + 1;
}

static bool in_class(int c, char class)
{
	bool in;
	switch (tolower((unsigned char)class)) {
	case 'a':
		in = isalpha(c);
		break;
	case 'c':
		in = iscntrl(c);
		break;
	case 'd':
		in = isdigit(c);
		break;
	case 'g':
		in = isgraph(c);
		break;
	case 'l':
		in = islower(c);
		break;
	case 'p':
		in = ispunct(c);
		break;
	case 's':
		in = isspace(c);
		break;
	case 'u':
		in = isupper(c);
		break;
	case 'w':
		in = isalnum(c);
		break;
	case 'x':
		in = isxdigit(c);
		break;
	case 'z':
		in = c == 0;
		break;
	default:
		return (unsigned char)class == c;
	}
	return isupper((unsigned char)class) ? !in : in;
}

/* `p` is at the '[', `close` at its ']'. */
static bool in_set(int c, const char *p, const char *close)
{
	bool wanted = true;
	if (*++p == '^') {
		wanted = false;
		p++;
	}
	while (p < close) {
		if (*p == '%') {
			if (in_class(c, p[1]))
				return wanted;
			p += 2;
		} else if (p[1] == '-' && p + 2 < close) {
			if ((unsigned char)p[0] <= c && c <= (unsigned char)p[2])
				return wanted;
			p += 3;
		} else if ((unsigned char)*p++ == c) {
			return wanted;
		}
	}
	return !wanted;
}

static bool fits(struct match *m, const char *s, const char *p, const char *after)
{
	step(m);
	if (s >= m->end)
		return false;
	int c = (unsigned char)*s;
	switch (*p) {
	case '.':
		return true;
	case '%':
		return in_class(c, p[1]);
	case '[':
		return in_set(c, p, after - 1);
	default:
		return (unsigned char)*p == c;
	}
}

/* ---- repetitions, captures ---- */

/* As many as there are, then fewer. */
static const char *match_most(struct match *m, const char *s, const char *p, const char *after)
{
	ptrdiff_t n = 0;
	while (fits(m, s + n, p, after))
		n++;
	for (; n >= 0; n--) {
		const char *end = match_here(m, s + n, after + 1);
		if (end)
			return end;
	}
	return NULL;
}

static const char *match_least(struct match *m, const char *s, const char *p, const char *after)
{
	for (;;) {
		const char *end = match_here(m, s, after + 1);
		if (end)
			return end;
		if (!fits(m, s, p, after))
			return NULL;
		s++;
	}
}

static const char *open_capture(struct match *m, const char *s, const char *p, ptrdiff_t kind)
{
	if (m->ncaptures >= MAX_CAPTURES)
		luaL_error(m->L, "too many captures");
	m->captures[m->ncaptures].at = s;
	m->captures[m->ncaptures++].len = kind;
	const char *end = match_here(m, s, p);
	if (!end)
		m->ncaptures--;
	return end;
}

static const char *close_capture(struct match *m, const char *s, const char *p)
{
	int i = m->ncaptures - 1;
	while (i >= 0 && m->captures[i].len != OPEN)
		i--;
	if (i < 0)
		luaL_error(m->L, "invalid pattern capture");
	m->captures[i].len = s - m->captures[i].at;
	const char *end = match_here(m, s, p);
	if (!end)
		m->captures[i].len = OPEN;
	return end;
}

/* %1: what was captured, once more. */
static const char *match_again(struct match *m, const char *s, char digit)
{
	int i = digit - '1';
	if (i < 0 || i >= m->ncaptures || m->captures[i].len == OPEN) {
		luaL_error(m->L, "invalid capture index %%%d", i + 1);
		return NULL;
	}
	struct str text = {m->captures[i].at, 0}, rest = {s, (size_t)(m->end - s)};
	if (m->captures[i].len != POSITION)
		text.len = (size_t)m->captures[i].len;
	vm_charge(m->L, (unsigned)(text.len / 64) + 1);
	return str_starts(rest, text) ? s + text.len : NULL;
}

/* %b(): up to the ')' that belongs to the '(' here. */
static const char *match_balanced(struct match *m, const char *s, const char *p)
{
	if (m->pattern_end - p < 2)
		luaL_error(m->L, "malformed pattern (missing arguments to '%%b')");
	if (s >= m->end || *s != p[0])
		return NULL;
	for (size_t open = 1; ++s < m->end;) {
		step(m);
		if (*s == p[1]) {
			if (--open == 0)
				return s + 1;
		} else if (*s == p[0]) {
			open++;
		}
	}
	return NULL;
}

/* %f[set]: between a character that is not in the set and one that is. */
static bool is_frontier(const struct match *m, const char *s, const char *p, const char *after)
{
	int before = s == m->from ? 0 : (unsigned char)s[-1];
	int here = s == m->end ? 0 : (unsigned char)*s;
	return !in_set(before, p, after - 1) && in_set(here, p, after - 1);
}

/* ---- patterns ---- */

/* An item that begins with '%' and is no class. False: it is one. *s is NULL when it does not match. */
static bool match_special(struct match *m, const char **s, const char **p)
{
	const char *after;
	switch ((*p)[1]) {
	case 'b':
		*s = match_balanced(m, *s, *p + 2);
		*p += 4;
		return true;
	case 'f':
		*p += 2;
		if (*p >= m->pattern_end || **p != '[')
			luaL_error(m->L, "missing '[' after '%%f' in pattern");
		after = item_end(m, *p);
		if (!is_frontier(m, *s, *p, after))
			*s = NULL;
		*p = after;
		return true;
	case '0':
	case '1':
	case '2':
	case '3':
	case '4':
	case '5':
	case '6':
	case '7':
	case '8':
	case '9':
		*s = match_again(m, *s, (*p)[1]);
		*p += 2;
		return true;
	default:
		return false;
	}
}

/* Items that end the way: captures, and those repeated. False: there is one step to do in a row. */
static bool match_branch(struct match *m, const char *s, const char *p, const char **end)
{
	if (*p == '(') {
		*end = p + 1 < m->pattern_end && p[1] == ')' ? open_capture(m, s, p + 2, POSITION)
							     : open_capture(m, s, p + 1, OPEN);
		return true;
	}
	if (*p == ')') {
		*end = close_capture(m, s, p + 1);
		return true;
	}
	if (*p == '$' && p + 1 == m->pattern_end) {
		*end = s == m->end ? s : NULL;
		return true;
	}
	return false;
}

static bool match_repeated(
	struct match *m, const char *s, const char *p, const char *after, const char **end)
{
	switch (after < m->pattern_end ? *after : '\0') {
	case '*':
		*end = match_most(m, s, p, after);
		return true;
	case '+':
		*end = fits(m, s, p, after) ? match_most(m, s + 1, p, after) : NULL;
		return true;
	case '-':
		*end = match_least(m, s, p, after);
		return true;
	default:
		return false;
	}
}

/* Where the match of what is left of the pattern ends; NULL: there is none. */
static const char *match_items(struct match *m, const char *s, const char *p)
{
	const char *end;
	while (s && p < m->pattern_end) {
		if (match_branch(m, s, p, &end))
			return end;
		if (*p == '%' && match_special(m, &s, &p))
			continue;
		const char *after = item_end(m, p);
		if (match_repeated(m, s, p, after, &end))
			return end;
		bool optional = after < m->pattern_end && *after == '?', fit = fits(m, s, p, after);
		if (optional && fit && (end = match_here(m, s + 1, after + 1)))
			return end;
		p = optional ? after + 1 : after;
		if (!optional)
			s = fit ? s + 1 : NULL;
	}
	return s;
}

static const char *match_here(struct match *m, const char *s, const char *p)
{
	step(m);
	if (++m->depth > MAX_DEPTH)
		luaL_error(m->L, "pattern too complex");
	const char *end = match_items(m, s, p);
	m->depth--;
	return end;
}

static const char *match_at(struct match *m, const char *s, const char *p)
{
	m->ncaptures = 0;
	m->depth = 0;
	return match_here(m, s, p);
}

/* ---- results ---- */

static void push_capture(const struct match *m, int i, const char *s, const char *end)
{
	if (i >= m->ncaptures && i > 0)
		luaL_error(m->L, "invalid capture index %%%d", i + 1);
	else if (i >= m->ncaptures)
		lua_pushlstring(m->L, s, (size_t)(end - s));
	else if (m->captures[i].len == OPEN)
		luaL_error(m->L, "unfinished capture");
	else if (m->captures[i].len == POSITION)
		lua_pushinteger(m->L, m->captures[i].at - m->from + 1);
	else
		lua_pushlstring(m->L, m->captures[i].at, (size_t)m->captures[i].len);
}

/* All captures; the whole match when there are none and `s` is given. */
static int push_captures(const struct match *m, const char *s, const char *end)
{
	int n = m->ncaptures == 0 && s ? 1 : m->ncaptures;
	luaL_checkstack(m->L, n, "too many captures");
	for (int i = 0; i < n; i++)
		push_capture(m, i, s, end);
	return n;
}

static struct str check_text(lua_State *L, int index)
{
	struct str text;
	text.ptr = luaL_checklstring(L, index, &text.len);
	return text;
}

static struct match match_of(lua_State *L, struct str subject, struct str pattern)
{
	return (struct match){
		.L = L,
		.from = subject.ptr,
		.end = subject.ptr + subject.len,
		.pattern_end = pattern.ptr + pattern.len,
	};
}

/* Where a search begins, from 0; behind the end: nowhere. */
static size_t start_of(lua_State *L, int index, size_t len)
{
	lua_Integer init = luaL_optinteger(L, index, 1);
	if (init > 0)
		return (size_t)init - 1;
	if (init == 0 || init < -(lua_Integer)len)
		return 0;
	return len - (size_t)-init;
}

static int find_plain(lua_State *L, struct str subject, struct str text, size_t start)
{
	const char *at = text.len == 0 ? subject.ptr + start
				       : memmem(subject.ptr + start, subject.len - start, text.ptr,
						 text.len);
	if (!at) {
		lua_pushnil(L);
		return 1;
	}
	lua_pushinteger(L, at - subject.ptr + 1);
	lua_pushinteger(L, at - subject.ptr + (lua_Integer)text.len);
	return 2;
}

static bool is_plain(struct str pattern)
{
	for (size_t i = 0; i < pattern.len; i++)
		if (pattern.ptr[i] && strchr("^$*+?.([%-", pattern.ptr[i]))
			return false;
	return true;
}

static int search(lua_State *L, bool find)
{
	struct str subject = check_text(L, 1), pattern = check_text(L, 2);
	size_t start = start_of(L, 3, subject.len);
	if (start > subject.len) {
		lua_pushnil(L);
		return 1;
	}
	if (find && (lua_toboolean(L, 4) || is_plain(pattern)))
		return find_plain(L, subject, pattern, start);
	struct match m = match_of(L, subject, pattern);
	const char *s = subject.ptr + start, *p = pattern.ptr, *end;
	bool anchored = pattern.len > 0 && *p == '^';
	p += anchored;
	do {
		end = match_at(&m, s, p);
	} while (!end && s++ < m.end && !anchored);
	if (!end) {
		lua_pushnil(L);
		return 1;
	}
	if (!find)
		return push_captures(&m, s, end);
	lua_pushinteger(L, s - subject.ptr + 1);
	lua_pushinteger(L, end - subject.ptr);
	return push_captures(&m, NULL, NULL) + 2;
}

static int api_find(lua_State *L)
{
	return search(L, true);
}

static int api_match(lua_State *L)
{
	return search(L, false);
}

/* ---- gmatch ---- */

enum { SUBJECT = 1, PATTERN, NEXT, LAST }; /* upvalues; LAST: where the last match ended, or -1 */

static int next_match(lua_State *L)
{
	struct str subject = check_text(L, lua_upvalueindex(SUBJECT));
	struct str pattern = check_text(L, lua_upvalueindex(PATTERN));
	lua_Integer last = lua_tointeger(L, lua_upvalueindex(LAST));
	struct match m = match_of(L, subject, pattern);
	size_t at = (size_t)lua_tointeger(L, lua_upvalueindex(NEXT));
	for (; at <= subject.len; at++) {
		const char *s = subject.ptr + at, *end = match_at(&m, s, pattern.ptr);
		if (!end || end - subject.ptr == last)
			continue;
		lua_pushinteger(L, end - subject.ptr);
		lua_pushvalue(L, -1);
		lua_replace(L, lua_upvalueindex(NEXT));
		lua_replace(L, lua_upvalueindex(LAST));
		return push_captures(&m, s, end);
	}
	return 0;
}

static int api_gmatch(lua_State *L)
{
	struct str subject = check_text(L, 1);
	check_text(L, 2);
	size_t start = start_of(L, 3, subject.len);
	lua_settop(L, 2);
	lua_pushinteger(L, (lua_Integer)(start > subject.len ? subject.len + 1 : start));
	lua_pushinteger(L, -1);
	lua_pushcclosure(L, next_match, 4);
	return 1;
}

/* ---- gsub ---- */

/* A text with %0 to %9 and %%. */
static void add_text(const struct match *m, luaL_Buffer *out, const char *s, const char *end)
{
	struct str text;
	text.ptr = lua_tolstring(m->L, 3, &text.len);
	for (size_t i = 0; i < text.len; i++) {
		char c = text.ptr[i];
		if (c != '%') {
			luaL_addchar(out, c);
			continue;
		}
		c = text.ptr[++i]; /* behind the last is a NUL */
		if (c == '%') {
			luaL_addchar(out, c);
		} else if (c == '0') {
			luaL_addlstring(out, s, (size_t)(end - s));
		} else if (c >= '1' && c <= '9') {
			push_capture(m, c - '1', s, end);
			luaL_tolstring(m->L, -1, NULL);
			lua_remove(m->L, -2);
			luaL_addvalue(out);
		} else {
			luaL_error(m->L, "invalid use of '%%' in replacement string");
		}
	}
}

static bool add_replacement(const struct match *m, luaL_Buffer *out, const char *s, const char *end)
{
	lua_State *L = m->L;
	switch (lua_type(L, 3)) {
	case LUA_TFUNCTION:
		lua_pushvalue(L, 3);
		lua_call(L, push_captures(m, s, end), 1);
		break;
	case LUA_TTABLE:
		push_capture(m, 0, s, end);
		lua_gettable(L, 3);
		break;
	default:
		add_text(m, out, s, end);
		return true;
	}
	if (!lua_toboolean(L, -1)) {
		lua_pop(L, 1);
		luaL_addlstring(out, s, (size_t)(end - s));
		return false;
	}
	if (!lua_isstring(L, -1))
		luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
	luaL_addvalue(out);
	return true;
}

static int api_gsub(lua_State *L)
{
	struct str subject = check_text(L, 1), pattern = check_text(L, 2);
	int kind = lua_type(L, 3);
	lua_Integer most = luaL_optinteger(L, 4, (lua_Integer)subject.len + 1), n = 0;
	bool anchored = pattern.len > 0 && pattern.ptr[0] == '^';
	struct match m = match_of(L, subject, pattern);
	const char *s = subject.ptr, *last = NULL;
	luaL_Buffer out;
	luaL_argexpected(L,
		kind == LUA_TNUMBER || kind == LUA_TSTRING || kind == LUA_TTABLE ||
			kind == LUA_TFUNCTION,
		3, "string/function/table");
	lua_settop(L, 3);
	luaL_buffinit(L, &out);
	while (n < most) {
		const char *end = match_at(&m, s, pattern.ptr + anchored);
		if (end && end != last) {
			n++;
			add_replacement(&m, &out, s, end);
			s = last = end;
		} else if (s < m.end) {
			luaL_addchar(&out, *s++);
		} else {
			break;
		}
		if (anchored)
			break;
	}
	luaL_addlstring(&out, s, (size_t)(m.end - s));
	luaL_pushresult(&out);
	lua_pushinteger(L, n);
	return 2;
}

/* In protected mode; the table `string` is at the top. */
void pattern_open(struct lua_State *L)
{
	static const luaL_Reg functions[] = {{"find", api_find}, {"match", api_match},
		{"gmatch", api_gmatch}, {"gsub", api_gsub}, {NULL, NULL}};
	luaL_setfuncs(L, functions, 0);
}
