/* The table type whose answers a script gives. */
#ifndef TESTS_REPLAY_SCRIPTED_H
#define TESTS_REPLAY_SCRIPTED_H

#include "world.h"

extern const struct backend backend_scripted;

/* The question of that table that has waited longest: the one called `what`, or any (empty). NULL: none
 * waits. */
struct asked *scripted_find(struct world *world, struct str table, struct str what);

/* Ends it with what `text` says: `[ttl N] [no_store] STATUS ...`. False: `error` says what is wrong
 * with the text. */
bool scripted_answer(struct asked *asked, struct str text, struct error *error);

#endif
