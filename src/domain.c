/* Domain names as DNS wants them asked: checked, lower-cased, A-labels. */
#include "domain.h"

#include <idn2.h>

enum {
	MAX_NAME = 253,
	MAX_LABEL = 63,
	MAX_UNICODE = 4 * MAX_NAME, /* bytes that can become a valid name */
};

static bool is_inner(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_';
}

static bool is_label(struct str label)
{
	if (label.len == 0 || label.len > MAX_LABEL)
		return false;
	for (size_t i = 0; i < label.len; i++) {
		bool edge = i == 0 || i == label.len - 1;
		if (!is_inner(label.ptr[i]) && (edge || label.ptr[i] != '-'))
			return false;
	}
	return true;
}

static struct str without_dot(struct str name)
{
	if (name.len > 0 && name.ptr[name.len - 1] == '.')
		name.len--;
	return name;
}

bool domain_valid(struct str name)
{
	struct str rest = without_dot(name), label;
	if (rest.len == 0 || rest.len > MAX_NAME || rest.ptr[rest.len - 1] == '.')
		return false;
	while (rest.len > 0) {
		str_cut(&rest, '.', &label);
		if (!is_label(label))
			return false;
	}
	return true;
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
	if (!is_ascii(name)) {
		if (!to_a_labels(name, mem, &name))
			return false;
	}
	if (!domain_valid(name))
		return false;
	*ascii = arena_str(mem, without_dot(name));
	for (char *p = (char *)ascii->ptr; *p; p++)
		if (*p >= 'A' && *p <= 'Z')
			*p = (char)(*p - 'A' + 'a');
	return true;
}
