/* Domain names as DNS wants them asked: checked, lower-cased, A-labels. */
#ifndef MAPMUX_DOMAIN_H
#define MAPMUX_DOMAIN_H

#include "arena.h"

/* Letters, digits, hyphens (not at a label's ends) and underscores; labels of 1 to 63 bytes, 253 in
 * all; a dot at the end is fine. */
bool domain_valid(struct str name);

/* The same name in small letters, without a dot at its end, labels beyond ASCII as A-labels
 * (IDNA2008, as UTS 46 maps them). False when that is no valid name. */
bool domain_ascii(struct str name, struct arena *mem, struct str *ascii);

#endif
