/* Domain names as DNS wants them asked: checked, lower-cased, A-labels. */
#include "model/domain.h"

#include <idn2.h>

enum {
	MAX_NAME = 253,
	MAX_LABEL = 63,
	MAX_UNICODE = 4 * MAX_NAME, /* bytes that can become a valid name */
};

/* The byte as a small one; 0: no name has it. */
static char small(char c)
{
	if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.')
		return c;
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : '\0';
}

static struct str without_dot(struct str name)
{
	if (name.len > 0 && name.ptr[name.len - 1] == '.')
		name.len--;
	return name;
}

/* Is it a name (of no more than MAX_NAME bytes)? In small letters to `to`. In one pass: it is done
 * for each question that the cache answers. */
static bool scan(struct str name, char *to)
{
	size_t label = 0;
	char before = '.';
	for (size_t i = 0; i < name.len; i++) {
		char c = to[i] = small(name.ptr[i]);
		bool starts = before == '.', ends = c == '.';
		if (!c || (starts && (ends || c == '-')) || (ends && before == '-'))
			return false;
		label = ends ? 0 : label + 1;
		if (label > MAX_LABEL)
			return false;
		before = c;
	}
	return before != '.' && before != '-';
}

bool domain_valid(struct str name)
{
	char text[MAX_NAME];
	name = without_dot(name);
	return name.len <= MAX_NAME && scan(name, text);
}

static bool is_ascii(struct str name)
{
	for (size_t i = 0; i < name.len; i++)
		if ((unsigned char)name.ptr[i] >= 0x80)
			return false;
	return true;
}

/* Mail and browsers agree on the non-transitional mapping: the German sharp s stays what it is. */
static bool to_a_labels(struct str name, struct arena *mem, struct str *ascii)
{
	char *found = NULL;
	struct str text = arena_str(mem, name);
	if (name.len > MAX_UNICODE || memchr(name.ptr, '\0', name.len))
		return false;
	int rc = idn2_lookup_u8((const uint8_t *)text.ptr, (uint8_t **)&found,
		IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL);
	if (rc == IDN2_OK)
		*ascii = arena_str(mem, str_of(found));
	idn2_free(found);
	return rc == IDN2_OK;
}

bool domain_ascii(struct str name, struct arena *mem, struct str *ascii)
{
	if (!is_ascii(name) && !to_a_labels(name, mem, &name))
		return false;
	name = without_dot(name);
	if (name.len > MAX_NAME)
		return false;
	char *text = arena_alloc(mem, name.len + 1);
	*ascii = (struct str){text, name.len};
	return scan(name, text);
}

bool domain_small(struct str name, struct arena *mem, struct str *small_name)
{
	char *found = NULL;
	struct str ascii;
	if (!domain_ascii(name, mem, &ascii))
		return false;
	if (is_ascii(name)) {
		char *text = arena_alloc(mem, name.len + 1);
		for (size_t i = 0; i < name.len; i++)
			text[i] = small(name.ptr[i]);
		*small_name = (struct str){text, name.len};
		return true;
	}
	int rc = idn2_to_unicode_8z8z(arena_str(mem, ascii).ptr, &found, 0);
	if (rc == IDN2_OK)
		*small_name = arena_str(mem, str_of(found));
	idn2_free(found);
	return rc == IDN2_OK;
}
