/* How the keys of a redis table are named in the server: a prefix with {user}, {scope}, {table}. */
#include "redis_key.h"

/* Counts, and writes when there is a place for it. */
struct writer {
	char *to;
	size_t n;
};

static void put(struct writer *writer, struct str s)
{
	if (writer->to && s.len > 0)
		memcpy(writer->to + writer->n, s.ptr, s.len);
	writer->n += s.len;
}

static bool is_plain(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c != '\0' && strchr("-_.~@+", c));
}

static void put_user(struct writer *writer, struct str user)
{
	static const char hex[] = "0123456789ABCDEF";
	for (size_t i = 0; i < user.len; i++) {
		unsigned char c = (unsigned char)user.ptr[i];
		char coded[3] = {'%', hex[c >> 4], hex[c & 15]};
		if (is_plain((char)c))
			put(writer, (struct str){user.ptr + i, 1});
		else
			put(writer, (struct str){coded, 3});
	}
}

enum piece { PIECE_END, PIECE_TEXT, PIECE_USER, PIECE_SCOPE, PIECE_TABLE, PIECE_BAD };

/* The next piece of a prefix; *text is what it says, for PIECE_TEXT. */
static enum piece next_piece(struct str *rest, struct str *text)
{
	static const struct {
		const char *name;
		enum piece piece;
	} names[] = {{"{user}", PIECE_USER}, {"{scope}", PIECE_SCOPE}, {"{table}", PIECE_TABLE}};
	*text = (struct str){rest->ptr, 0};
	if (rest->len == 0)
		return PIECE_END;
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if (str_starts(*rest, str_of(names[i].name))) {
			*rest = str_skip(*rest, strlen(names[i].name));
			return names[i].piece;
		}
	}
	if (rest->ptr[0] == '{' || rest->ptr[0] == '}') {
		if (rest->len < 2 || rest->ptr[1] != rest->ptr[0])
			return PIECE_BAD;
		*rest = str_skip(*rest, 2);
		text->len = 1;
		return PIECE_TEXT;
	}
	while (text->len < rest->len && rest->ptr[text->len] != '{' && rest->ptr[text->len] != '}')
		text->len++;
	*rest = str_skip(*rest, text->len);
	return PIECE_TEXT;
}

bool key_prefix_parse(
	const char *text, const char *table, struct key_prefix *prefix, struct error *error)
{
	struct str rest = str_of(text), piece_text;
	enum piece piece, before = PIECE_END;
	*prefix = (struct key_prefix){.text = text, .table = str_of(table)};
	do {
		piece = next_piece(&rest, &piece_text);
		if (piece == PIECE_BAD)
			return error_set(error,
				"prefix: allowed in braces: {user} {scope} {table}; braces "
				"themselves are written {{ and }}");
		bool apart = piece == PIECE_TEXT && !is_plain(piece_text.ptr[0]);
		if (before == PIECE_USER && !apart)
			return error_set(error, "prefix: {user} must be followed by a separator "
						"such as '/' or ':'");
		prefix->has_user |= piece == PIECE_USER;
		prefix->has_scope |= piece == PIECE_SCOPE;
		before = piece;
	} while (piece != PIECE_END);
	return true;
}

static void put_prefix(
	struct writer *writer, const struct key_prefix *prefix, enum scope scope, struct str user)
{
	bool priv = scope == SCOPE_PRIV;
	struct str rest = str_of(prefix->text), text;
	for (enum piece piece; (piece = next_piece(&rest, &text)) != PIECE_END;) {
		if (piece == PIECE_TEXT)
			put(writer, text);
		else if (piece == PIECE_TABLE)
			put(writer, prefix->table);
		else if (piece == PIECE_SCOPE)
			put(writer, priv ? STR("priv") : STR("shared"));
		else if (priv)
			put_user(writer, user);
	}
	if (!priv || prefix->has_user)
		return;
	if (!prefix->has_scope)
		put(writer, STR("priv/"));
	put_user(writer, user);
	put(writer, STR("/"));
}

bool key_is_reserved(const struct key_prefix *prefix, enum scope scope, struct str key)
{
	return scope != SCOPE_PRIV && !prefix->has_user && !prefix->has_scope &&
	       str_starts(key, STR("priv/"));
}

enum key_result key_name(const struct key_prefix *prefix, enum scope scope, struct str user,
	struct str key, struct arena *mem, struct str *name, size_t *space)
{
	if (scope == SCOPE_PRIV && user.len == 0)
		return KEY_NO_USER;
	if (key_is_reserved(prefix, scope, key))
		return KEY_RESERVED;
	struct writer count = {0};
	put_prefix(&count, prefix, scope, user);
	*space = count.n;
	struct writer writer = {.to = arena_alloc(mem, count.n + key.len)};
	put_prefix(&writer, prefix, scope, user);
	put(&writer, key);
	*name = (struct str){writer.to, writer.n};
	return KEY_OK;
}

struct str key_pattern(struct str name, struct arena *mem)
{
	char *to = arena_alloc(mem, 2 * name.len + 1);
	size_t n = 0;
	for (size_t i = 0; i < name.len; i++) {
		char c = name.ptr[i];
		if (c != '\0' && strchr("*?[]\\", c))
			to[n++] = '\\';
		to[n++] = c;
	}
	to[n++] = '*';
	return (struct str){to, n};
}
