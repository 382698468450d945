/* Puts another configuration into the running daemon: all of it or nothing, and no request meets half
 * of it. */
#ifndef MAPMUX_RELOAD_H
#define MAPMUX_RELOAD_H

#include "daemon/daemon.h"

/* Loading writes over secrets in its arguments, so that ps(1) does not show them: a copy is for the
 * next time. */
char **args_copy(int argc, char *const *argv, struct arena *mem);

/* Reads the configuration that the arguments name. NULL with an error. */
struct edition *edition_load(int argc, char **argv, struct error *error);
void edition_free(struct edition *edition);

/* Control thread, workers running: loads anew and exchanges, or says in the log why not. May block,
 * but not for requests that are under way. */
void reload(struct daemon *daemon);

/* Frees what no request under way needs any more. Does not wait. */
void reload_tidy(struct daemon *daemon);

#endif
