/* When to stop asking somebody who does not answer, and when to try again. */
#include "model/breaker.h"

bool breaker_refuses(const struct breaker *breaker, uint64_t now_ms)
{
	return breaker_is_open(breaker) && (breaker->probing || now_ms < breaker->until_ms);
}

enum breaker_pass breaker_enter(struct breaker *breaker, uint64_t now_ms)
{
	if (!breaker_is_open(breaker))
		return BREAKER_FREE;
	if (breaker_refuses(breaker, now_ms))
		return BREAKER_REFUSED;
	breaker->probing = true;
	return BREAKER_PROBE;
}

bool breaker_failed(struct breaker *breaker, const struct breaker_rules *rules,
	enum breaker_pass pass, uint64_t now_ms)
{
	bool was_open = breaker_is_open(breaker);
	if (was_open && pass != BREAKER_PROBE)
		return false;
	if (!was_open && ++breaker->failures < rules->failures)
		return false;
	*breaker = (struct breaker){.until_ms = now_ms + rules->cooldown_ms};
	return !was_open;
}

bool breaker_succeeded(struct breaker *breaker)
{
	bool was_open = breaker_is_open(breaker);
	*breaker = (struct breaker){0};
	return was_open;
}

void breaker_left(struct breaker *breaker, enum breaker_pass pass)
{
	if (pass == BREAKER_PROBE)
		breaker->probing = false;
}
