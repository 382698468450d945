/* How scripts write bytes, and how messages show them. */
#ifndef TESTS_REPLAY_TEXT_H
#define TESTS_REPLAY_TEXT_H

#include "base/arena.h"
#include "base/buf.h"

/* Cuts the first word off *rest, and the blanks around it; false when there is none. */
bool text_word(struct str *rest, struct str *word);

/* The bytes that `text` stands for: \t \n \r \0 \s (a blank) \" \\ \xHH, and \*N*C for N times the byte
 * C, and \[...] for what is between the brackets in base64. With `fields`, each run of blanks outside of double quotes is one TAB, and the quotes go. False: an
 * escape that nobody knows. */
bool text_bytes(struct str text, bool fields, struct arena *mem, struct str *bytes);

/* For people: what is not printable as an escape, what is long cut short. */
struct str text_show(struct str bytes, struct arena *mem);

#endif
