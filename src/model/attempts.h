/* Guessing: failed authentications slow down those that follow, and too many of one user or from one
 * address end them for a while. */
#ifndef MAPMUX_ATTEMPTS_H
#define MAPMUX_ATTEMPTS_H

#include "model/setting.h"
#include "model/windows.h"

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

/* The settings of these rules that each listener has; AT(attempts) is where its conf struct has them. */
#define ATTEMPT_SETTINGS                                                                           \
	{.name = "failure_window",                                                                 \
		.kind = SET_MSEC,                                                                  \
		AT(attempts.window),                                                               \
		.fallback = "10m",                                                                 \
		.min = 1000,                                                                       \
		.max = 604800000, /* a week */                                                     \
		.help = "for so long a failure counts"},                                           \
		{.name = "max_failures_per_user",                                                  \
			.kind = SET_INT,                                                           \
			AT(attempts.per_user),                                                     \
			.fallback = "10",                                                          \
			.max = 1000000,                                                            \
			.help = "with so many in the window a user is refused unasked; 0: no "     \
				"limit"},                                                          \
		{.name = "max_failures_per_address",                                               \
			.kind = SET_INT,                                                           \
			AT(attempts.per_address),                                                  \
			.fallback = "50",                                                          \
			.max = 1000000,                                                            \
			.help = "the same for a client's address, of IPv6 its /64; 0: no limit"},  \
	{                                                                                          \
		.name = "recipient_delimiter", .kind = SET_STR, AT(attempts.delimiters),           \
		.fallback = "",                                                                    \
		.help = "characters that begin an extension: with it a user fails as he does "     \
			"without; the table's do so anyway"                                        \
	}

enum { ATTEMPT_NAMES = 200000 }; /* users and addresses that are remembered */

/* Had the user or the address as many failures as are allowed? `failures`: NULL is none. */
bool attempts_exceeded(struct windows *failures, const struct attempt_rules *rules,
	const struct attempt *attempt, uint64_t now_ms);

/* Counts a failure; returns for how many ms its answer is to be held back. */
uint64_t attempts_failed(struct windows *failures, const struct attempt_rules *rules,
	const struct attempt *attempt, uint64_t now_ms);

/* Why who had too many is refused, in his words. It is no TEMP: whoever guesses has no reason to come again. */
#define ATTEMPTS_EXCEEDED "too many failed attempts; try later"

/* What became of it, for fail2ban and such: at level info. */
void attempt_log(const struct attempt *attempt, bool refused, const char *listener);

#endif
