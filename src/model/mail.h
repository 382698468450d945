/* Mail addresses as keys: their parts, small letters, extensions. */
#ifndef MAPMUX_MAIL_H
#define MAPMUX_MAIL_H

#include "base/arena.h"

/* What stands before and behind the last '@', which a quoted local part may have within it. False
 * without one: the key is no address. */
bool mail_split(struct str key, struct str *local, struct str *domain);

/* Without its extension, as Postfix cuts it: at the first of these characters, unless that is the
 * very first; never in postmaster, mailer-daemon and double-bounce, nor, at a '-', in owner-LIST and
 * LIST-request. A quoted local part has none: its quotes would not match. */
struct str mail_without_extension(struct str local, const char *delimiters);

/* Without what nobody sees at its ends: blanks of Unicode's, controls, U+200B to U+200D, U+FEFF. */
struct str mail_trim(struct str key);

/* Whom an address means: trimmed, in small letters (those of its domain in any alphabet), and without its
 * extension. What is no address keeps what looks like one. */
struct str mail_identity(struct str who, const char *delimiters, struct arena *mem);

/* A to Z in small; all other bytes as they are. A copy, if there is anything to change. */
struct str mail_lower(struct str key, struct arena *mem);

#endif
