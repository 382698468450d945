/* Values that Dovecot 2.3 would take for the leave to log in without a password: its passdb looks
 * whether a field `nopassword` is there, and not at what it says. */
#include "front/front_dict.h"

#include <string.h>

/* A field of a passdb's answer; strings still have their escapes. */
struct field {
	struct str name, value;
	bool is_string;
};

static struct str without_blanks(struct str s)
{
	while (s.len > 0 && memchr(" \t\r\n", s.ptr[0], 4))
		s = str_skip(s, 1);
	return s;
}

/* *rest begins behind the opening quote, and moves behind the closing one. */
static bool cut_string(struct str *rest, struct str *text)
{
	for (size_t i = 0; i < rest->len; i++) {
		if (rest->ptr[i] == '\\') {
			i++;
		} else if (rest->ptr[i] == '"') {
			*text = (struct str){rest->ptr, i};
			*rest = str_skip(*rest, i + 1);
			return true;
		}
	}
	return false;
}

/* The next field of an object; false at its end and at what Dovecot would not read: that lookup
 * fails without our help. */
static bool next_field(struct str *rest, struct field *field)
{
	*rest = without_blanks(*rest);
	if (str_starts(*rest, STR(",")))
		*rest = without_blanks(str_skip(*rest, 1));
	if (!str_starts(*rest, STR("\"")))
		return false;
	*rest = str_skip(*rest, 1);
	if (!cut_string(rest, &field->name))
		return false;
	*rest = without_blanks(*rest);
	if (!str_starts(*rest, STR(":")))
		return false;
	*rest = without_blanks(str_skip(*rest, 1));
	field->is_string = str_starts(*rest, STR("\""));
	if (field->is_string) {
		*rest = str_skip(*rest, 1);
		return cut_string(rest, &field->value);
	}
	size_t n = 0;
	while (n < rest->len && !memchr(",} \t\r\n", rest->ptr[n], 6))
		n++;
	field->value = (struct str){rest->ptr, n};
	*rest = str_skip(*rest, n);
	return n > 0 && field->value.ptr[0] != '{' && field->value.ptr[0] != '[';
}

/* The next character, of those up to 0xff; all others are -1, which no word here holds. */
static int next_char(struct str *rest)
{
	char c = rest->ptr[0];
	*rest = str_skip(*rest, 1);
	if (c != '\\' || rest->len == 0)
		return (unsigned char)c;
	c = rest->ptr[0];
	*rest = str_skip(*rest, 1);
	if (c != 'u')
		return (unsigned char)c;
	int code = 0;
	for (int i = 0; i < 4 && rest->len > 0; i++, *rest = str_skip(*rest, 1)) {
		static const char digits[] = "00112233445566778899aAbBcCdDeEfF";
		const char *digit = memchr(digits, rest->ptr[0], sizeof(digits) - 1);
		if (!digit)
			return -1;
		code = code * 16 + (int)(digit - digits) / 2;
	}
	return code < 0x100 ? code : -1;
}

/* Whether a string, its escapes read, is this word of small letters; of any case when `any_case`. */
static bool is_word(struct str s, const char *word, bool any_case)
{
	for (; *word && s.len > 0; word++) {
		int c = next_char(&s);
		if (any_case && c >= 'A' && c <= 'Z')
			c += 'a' - 'A';
		if (c != *word)
			return false;
	}
	return !*word && s.len == 0;
}

/* A name may carry the mark of a field that must not be replaced. */
static bool is_named(struct str name, const char *plain, const char *protected)
{
	return is_word(name, plain, false) || is_word(name, protected, false);
}

static bool says_yes(struct str value)
{
	return is_word(value, "true", true) || is_word(value, "yes", true) ||
	       is_word(value, "y", true) || is_word(value, "1", true);
}

/* Nothing, or a scheme and nothing behind it. */
static bool is_empty_password(struct str value)
{
	return value.len == 0 || (value.ptr[0] == '{' && memchr(value.ptr, '}', value.len) ==
								 value.ptr + value.len - 1);
}

const char *dict_open_login(struct str value)
{
	bool free_for_all = false, empty = false, some = false;
	struct field field;
	struct str rest = without_blanks(value);
	if (!str_starts(rest, STR("{")))
		return NULL;
	if (!memmem(rest.ptr, rest.len, "password", 8) && !memmem(rest.ptr, rest.len, "\\u", 2))
		return NULL;
	rest = str_skip(rest, 1);
	while (next_field(&rest, &field)) {
		if (!field.is_string && str_eq(field.value, STR("null")))
			continue; /* Dovecot leaves it out */
		if (is_named(field.name, "nopassword", "nopassword:protected")) {
			if (!says_yes(field.value))
				return "`nopassword` lets everybody in, whatever its value";
			free_for_all = true;
		} else if (is_named(field.name, "password", "password:protected") ||
			   is_named(field.name, "password_noscheme",
				   "password_noscheme:protected")) {
			if (is_empty_password(field.value))
				empty = true;
			else
				some = true;
		}
	}
	if (free_for_all && some)
		return "`nopassword` beside a password lets everybody in";
	if (empty && !free_for_all)
		return "the password is empty";
	return NULL;
}
