/* Domain names as DNS wants them asked: checked, lower-cased, A-labels. */
#ifndef MAPMUX_DOMAIN_H
#define MAPMUX_DOMAIN_H

#include "base/arena.h"

/* Letters, digits, hyphens (not at a label's ends) and underscores; labels of 1 to 63 bytes, 253 in
 * all; a dot at the end is fine. */
bool domain_valid(struct str name);

/* The same name in small letters, without a dot at its end, labels beyond ASCII as A-labels
 * (IDNA2008, as UTS 46 maps them). False when that is no valid name. */
bool domain_ascii(struct str name, struct arena *mem, struct str *ascii);

/* The same name in small letters, those of any alphabet: U-labels as the ones that its A-labels stand for.
 * A name in ASCII stays what it is otherwise, A-labels and dot included. False when that is no valid
 * name. Text goes to `mem`, or is the name's own. */
bool domain_small(struct str name, struct arena *mem, struct str *small_name);

#endif
