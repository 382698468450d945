/* Other programs' configurations as this one's YAML: what `mapmux convert` prints and `--as` runs. */
#ifndef MAPMUX_CONFIG_CONVERT_H
#define MAPMUX_CONFIG_CONVERT_H

#include <stdio.h>

#include "model/setting.h"

/* `mapmux convert`: prints the YAML on stdout; the exit code. */
int convert_main(int argc, char **argv);

/* Writes what takes the place of userli-postfix-adapter with the environment that we have. */
bool convert_userli(FILE *out, struct error *error);

/* Writes what takes the place of postfix-rest-connector with this JSON file, tokens included. */
bool convert_connector(const char *path, FILE *out, struct error *error);

/* Writes what takes the place of podop with this command line. */
bool convert_podop(int argc, char **argv, FILE *out, struct error *error);

/* "KEY: value" in quotes where YAML needs them. Dollars are kept plain: a value from elsewhere names no
 * variable of the environment. */
void convert_put(FILE *out, const char *key, const char *value);

#endif
