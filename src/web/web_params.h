/* Percent-encoding of a request's path and parameters. Pure. */
#ifndef MAPMUX_WEB_PARAMS_H
#define MAPMUX_WEB_PARAMS_H

#include "base/arena.h"

/* Decodes "%XX", and in a parameter "+" to a blank. False: a '%' without two digits, or a NUL. */
bool web_decode(struct str raw, bool is_param, struct arena *mem, struct str *text);

enum web_found { WEB_ABSENT, WEB_FOUND, WEB_MALFORMED };

/* The parameter of that name, decoded. One that comes twice is malformed: no one knows which is meant. */
enum web_found web_param(struct str params, const char *name, struct arena *mem, struct str *value);

#endif
