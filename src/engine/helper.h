/* A thread beside a worker, for what would keep its loop: password hashes. */
#ifndef MAPMUX_HELPER_H
#define MAPMUX_HELPER_H

#include <stdbool.h>
#include <sys/queue.h>

/* Embedded in whatever it is about, which lives until done(). */
struct chore {
	void (*run)(struct chore *);  /* on the helper's thread */
	void (*done)(struct chore *); /* on its owner's; always, unless helper_drop() was in time */
	bool queued;                  /* helper.c's, from here on */
	TAILQ_ENTRY(chore) link;
};

struct helper;

/* `finished` is called on the helper's thread when a chore has run: it sees to it that its done() is called
 * on the owner's. The thread starts with the first chore. */
struct helper *helper_new(void (*finished)(void *owner, struct chore *chore), void *owner);
void helper_free(struct helper *helper); /* waits for the chore that runs; none is queued */

/* False when it has too much to do already. */
bool helper_start(struct helper *helper, struct chore *chore);

/* True: it had not begun, and is the caller's again. */
bool helper_drop(struct helper *helper, struct chore *chore);

#endif
