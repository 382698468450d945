/* When to stop asking somebody who does not answer, and when to try again. Pure: the time comes from
 * whoever holds it. */
#ifndef MAPMUX_BREAKER_H
#define MAPMUX_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

struct breaker_rules {
	unsigned failures;    /* in a row open it; at least 1 */
	uint64_t cooldown_ms; /* for so long it lets nobody through, and then one: the probe */
};

/* Zeroed memory is closed. */
struct breaker {
	unsigned failures; /* in a row, while it is closed */
	uint64_t until_ms; /* open: no probe before; 0: closed */
	bool probing;      /* the probe is under way */
};

enum breaker_pass {
	BREAKER_REFUSED,
	BREAKER_FREE,
	BREAKER_PROBE, /* the one question that finds out; all others are refused meanwhile */
};

static inline bool breaker_is_open(const struct breaker *breaker)
{
	return breaker->until_ms > 0;
}

/* What one has learnt, for another who goes on in his place; the probe, if there is one, stays the first one's. */
static inline struct breaker breaker_succeed(const struct breaker *breaker)
{
	return (struct breaker){.failures = breaker->failures, .until_ms = breaker->until_ms};
}

/* Would breaker_enter() refuse? */
bool breaker_refuses(const struct breaker *breaker, uint64_t now_ms);

/* A question wants to be asked. What was let through ends with one of the three below; what was
 * refused and is asked nevertheless, because there is nobody else, may as well. */
enum breaker_pass breaker_enter(struct breaker *breaker, uint64_t now_ms);

/* No answer, or one that says so. True: it has opened by this. A probe that fails leaves it open for
 * another cooldown; failures of questions that were asked before it opened say nothing new. */
bool breaker_failed(struct breaker *breaker, const struct breaker_rules *rules,
	enum breaker_pass pass, uint64_t now_ms);

/* An answer, to whichever question. True: it has closed by this. */
bool breaker_succeeded(struct breaker *breaker);

/* The asker left, and nobody knows: the next question may be the probe. */
void breaker_left(struct breaker *breaker, enum breaker_pass pass);

#endif
