/* Passwords as tables store them: {SCHEME}value, or what crypt(3) makes. */
#ifndef MAPMUX_PASSWORD_H
#define MAPMUX_PASSWORD_H

#include "base/str.h"

/* A stored one, without its scheme. */
struct password {
	bool plain; /* else for crypt(3), which takes its time */
	struct str text;
};

/* Takes a stored value apart. NULL: done; else what is wrong with it. */
const char *password_read(struct str value, struct password *password);

/* Any thread, and slow: is it the password of that hash? Both are C strings. */
bool password_is_crypt(const char *stored, const char *given);

#endif
