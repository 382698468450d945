/* Mail addresses as keys: their parts, small letters, extensions. */
#include "model/mail.h"

#include "model/domain.h"

#include <strings.h>

bool mail_split(struct str key, struct str *local, struct str *domain)
{
	const char *at = key.len > 0 ? memrchr(key.ptr, '@', key.len) : NULL;
	if (!at)
		return false;
	*local = (struct str){key.ptr, (size_t)(at - key.ptr)};
	*domain = str_skip(key, local->len + 1);
	return true;
}

static bool is_word(struct str s, struct str word)
{
	return s.len == word.len && strncasecmp(s.ptr, word.ptr, word.len) == 0;
}

/* Addresses that the mail system itself relies on. */
static bool is_reserved(struct str local)
{
	return is_word(local, STR("postmaster")) || is_word(local, STR("mailer-daemon")) ||
	       is_word(local, STR("double-bounce"));
}

static bool is_of_list(struct str local)
{
	const struct str owner = STR("owner-"), request = STR("-request");
	return (local.len >= owner.len && is_word((struct str){local.ptr, owner.len}, owner)) ||
	       (local.len > request.len &&
		       is_word(str_skip(local, local.len - request.len), request));
}

struct str mail_without_extension(struct str local, const char *delimiters)
{
	if (local.len == 0 || local.ptr[0] == '"' || is_reserved(local) ||
		(strchr(delimiters, '-') && is_of_list(local)))
		return local;
	for (size_t i = 0; i < local.len; i++)
		if (local.ptr[i] && strchr(delimiters, local.ptr[i]))
			return i > 0 ? (struct str){local.ptr, i} : local;
	return local;
}

static bool is_capital(char c)
{
	return c >= 'A' && c <= 'Z';
}

struct str mail_lower(struct str key, struct arena *mem)
{
	size_t n = 0;
	while (n < key.len && !is_capital(key.ptr[n]))
		n++;
	if (n == key.len)
		return key;
	char *copy = (char *)arena_str(mem, key).ptr;
	for (; n < key.len; n++)
		if (is_capital(copy[n]))
			copy[n] = (char)(copy[n] - 'A' + 'a');
	return (struct str){copy, key.len};
}

/* Is it one character that nobody sees: a blank of Unicode's, a control, or U+200B to U+200D and U+FEFF?
 * They come along when names are copied into mail programs. */
static bool is_invisible(struct str c)
{
	static const char *const others[] = {"\xc2\x85", "\xc2\xa0", "\xe1\x9a\x80", "\xe2\x80\xa8",
		"\xe2\x80\xa9", "\xe2\x80\xaf", "\xe2\x81\x9f", "\xe3\x80\x80", "\xef\xbb\xbf"};
	if (c.len == 1)
		return (unsigned char)c.ptr[0] <= 0x20 || c.ptr[0] == 0x7f;
	if ((unsigned char)c.ptr[0] < 0x80)
		return false; /* more than one character */
	if (str_starts(c, STR("\xe2\x80")) && c.len == 3 && (unsigned char)c.ptr[2] <= 0x8d)
		return true; /* U+2000 to U+200D */
	for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
		if (str_eq(c, str_of(others[i])))
			return true;
	return false;
}

/* The length of an invisible character at the start (or end) of a key; 0: there is none. */
static size_t invisible(struct str key, bool at_end)
{
	for (size_t n = 1; n <= 3 && n <= key.len; n++)
		if (is_invisible((struct str){key.ptr + (at_end ? key.len - n : 0), n}))
			return n;
	return 0;
}

struct str mail_trim(struct str key)
{
	size_t n;
	while ((n = invisible(key, false)) > 0)
		key = str_skip(key, n);
	while ((n = invisible(key, true)) > 0)
		key.len -= n;
	return key;
}

struct str mail_identity(struct str who, const char *delimiters, struct arena *mem)
{
	struct str local, domain;
	who = mail_lower(mail_trim(who), mem);
	if (!mail_split(who, &local, &domain))
		return who;
	struct str base = mail_without_extension(local, delimiters), small = domain;
	if (!str_has(domain, '\0'))
		domain_small(domain, mem, &small); /* or it is no domain, and stays as it is */
	if (base.len == local.len && str_eq(small, domain))
		return who;
	return arena_printf(mem, "%.*s@%.*s", (int)base.len, base.ptr, (int)small.len, small.ptr);
}
