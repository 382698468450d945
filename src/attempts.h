/* Guessing: failed authentications slow down those that follow, and too many of one user or from one
 * address end them for a while. */
#ifndef MAPMUX_ATTEMPTS_H
#define MAPMUX_ATTEMPTS_H

#include "windows.h"

/* All in ms, or counts; 0: no limit, no delay. */
struct attempt_rules {
	int64_t within; /* from the request to its answer, delays included */
	int64_t delay;  /* of the first failure's answer; each further one takes twice as long */
	int64_t window; /* in which failures count */
	int64_t per_user, per_address;
	const char
		*delimiters; /* begin an extension, which makes nobody else of a user; NULL: none */
};

/* An authentication: who wants to be whom. */
struct attempt {
	struct str user, address; /* the address may be empty: unknown */
	const char *delimiters;   /* as those of the rules, by the table; or NULL */
};

enum { ATTEMPT_NAMES = 200000 }; /* users and addresses that are remembered */

/* Had the user or the address as many failures as are allowed? `failures`: NULL is none. */
bool attempts_exceeded(struct windows *failures, const struct attempt_rules *rules,
	const struct attempt *attempt, uint64_t now_ms);

/* Counts a failure; returns for how many ms its answer is to be held back. */
uint64_t attempts_failed(struct windows *failures, const struct attempt_rules *rules,
	const struct attempt *attempt, uint64_t now_ms);

#endif
