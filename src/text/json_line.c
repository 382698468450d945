/* In which line of a JSON text something stands: cJSON does not tell, and messages about files should. */
#include "text/json.h"

static bool opens(struct str part)
{
	return part.ptr[0] == '{' || part.ptr[0] == '[';
}

static bool closes(struct str part)
{
	return part.ptr[0] == '}' || part.ptr[0] == ']';
}

/* Moves *rest behind the next value: a part, or all up to the bracket that closes. */
static void skip_value(struct str *rest)
{
	struct str part;
	size_t depth = 0;
	do {
		if (!json_part(rest, &part))
			return;
		if (opens(part))
			depth++;
		else if (closes(part))
			depth--;
	} while (depth > 0);
}

/* Finds the member of that name, or the item of that number, in the object or list at *value. Then
 * *where is its first part and *value its value. */
static bool enter(struct str *value, struct str step, const char **where)
{
	struct str rest = *value, bracket, part;
	uint64_t wanted = 0;
	if (!json_part(&rest, &bracket) || !opens(bracket))
		return false;
	bool is_list = bracket.ptr[0] == '[';
	if (is_list && !str_u64(step, &wanted))
		return false;
	for (uint64_t i = 0;; i++) {
		struct str at = rest;
		if (!json_part(&rest, &part) || closes(part))
			return false;
		if (is_list)
			rest = at;
		bool found = is_list ? i == wanted
				     : str_eq((struct str){part.ptr + 1, part.len - 2}, step);
		if (found) {
			*value = rest;
			*where = part.ptr;
			return true;
		}
		skip_value(&rest);
	}
}

size_t json_line(struct str text, const char *pointer)
{
	struct str value = text, steps = str_of(pointer), step;
	struct str rest = text, first;
	const char *where = json_part(&rest, &first) ? first.ptr : text.ptr;
	size_t line = 1;
	if (str_starts(steps, STR("/")))
		steps = str_skip(steps, 1);
	while (steps.len > 0) {
		str_cut(&steps, '/', &step);
		if (!enter(&value, step, &where))
			break;
	}
	for (const char *c = text.ptr; c < where; c++)
		line += *c == '\n';
	return line;
}
