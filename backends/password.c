/* Passwords as tables store them. */
#include "password.h"

#include <crypt.h>
#include <stdlib.h>
#include <strings.h>

#include "base/arena.h"

enum { MAX_HASH = CRYPT_OUTPUT_SIZE - 1 };

/* Dovecot's names; `prefix`: what crypt(3) has in front of such a hash. */
static const struct scheme {
	const char *name, *prefix;
	bool plain;
} schemes[] = {
	{"PLAIN", "", true},
	{"CLEARTEXT", "", true},
	{"CRYPT", "", false},
	{"SHA512-CRYPT", "$6$", false},
	{"SHA256-CRYPT", "$5$", false},
	{"MD5-CRYPT", "$1$", false},
	{"BLF-CRYPT", "$2", false},
	{"DES-CRYPT", "", false},
	{NULL, NULL, false},
};

static const struct scheme *scheme_of(struct str name)
{
	for (const struct scheme *scheme = schemes; scheme->name; scheme++)
		if (strlen(scheme->name) == name.len &&
			strncasecmp(scheme->name, name.ptr, name.len) == 0)
			return scheme;
	return NULL;
}

/* What crypt(3) would not make, it will never compare equal to. */
static const char *fault_of_hash(struct str hash, const char *prefix)
{
	char text[MAX_HASH + 1];
	if (hash.len > MAX_HASH || str_has(hash, '\0') || !str_starts(hash, str_of(prefix)))
		return "the password's hash is not what its scheme says";
	memcpy(text, hash.ptr, hash.len);
	text[hash.len] = '\0';
	int known = crypt_checksalt(text);
	return known == CRYPT_SALT_INVALID || known == CRYPT_SALT_METHOD_DISABLED
		       ? "the password's hash is none that crypt(3) knows"
		       : NULL;
}

const char *password_read(struct str value, struct password *password)
{
	struct str rest = value, name;
	const struct scheme *scheme = scheme_of(STR("CRYPT"));
	if (str_starts(value, STR("{")) && str_cut(&rest, '}', &name))
		scheme = scheme_of(str_skip(name, 1));
	else if (!str_starts(value, STR("$")))
		return "the password has no scheme; allowed: {PLAIN}password, {CRYPT}hash, a hash "
		       "that begins with $";
	if (!scheme)
		return "the password's scheme is unknown; allowed: {PLAIN}, {CRYPT}, "
		       "{SHA512-CRYPT}, {SHA256-CRYPT}, {BLF-CRYPT}, {MD5-CRYPT}, {DES-CRYPT}";
	if (rest.len == 0)
		return "the password is empty";
	*password = (struct password){scheme->plain, rest};
	return scheme->plain ? NULL : fault_of_hash(rest, scheme->prefix);
}

bool password_is_crypt(const char *stored, const char *given)
{
	struct crypt_data *data = memory_new(sizeof(*data));
	const char *hash = crypt_rn(given, stored, data, (int)sizeof(*data));
	bool same = hash && str_eq_secret(str_of(stored), str_of(hash));
	explicit_bzero(data, sizeof(*data));
	free(data);
	return same;
}
