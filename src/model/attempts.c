/* Guessing: failed authentications slow down those that follow, and too many end them for a while. */
#include "model/attempts.h"

#include <arpa/inet.h>

#include "base/log.h"
#include "model/mail.h"

enum {
	MAX_NAME = 512,
	MAX_DOUBLINGS = 16,
	ALWAYS = 1 << 30, /* a limit that is none, so that failures are remembered */
};

enum who { USER, ADDRESS, WHOS };

/* A host with IPv6 has a network of 64 bits to itself: another address in it is nobody else. */
static struct str network_of(struct str address, char *text)
{
	unsigned char bytes[16];
	static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};
	if (address.len >= INET6_ADDRSTRLEN)
		return address;
	memcpy(text, address.ptr, address.len);
	text[address.len] = '\0';
	if (inet_pton(AF_INET6, text, bytes) != 1 || memcmp(bytes, mapped, sizeof(mapped)) == 0)
		return address;
	memset(bytes + 8, 0, 8);
	return str_of(inet_ntop(AF_INET6, bytes, text, INET6_ADDRSTRLEN));
}

static struct str identity(struct str user, const char *delimiters, struct arena *mem)
{
	user = mail_identity(user, delimiters ? delimiters : "", mem);
	return str_has(user, '@') || !delimiters ? user : mail_without_extension(user, delimiters);
}

/* However it is written: a table may take `ALICE` and ` alice+7` for alice, and then so do we. */
static struct str user_of(
	const struct attempt_rules *rules, const struct attempt *attempt, struct arena *mem)
{
	struct str user = identity(attempt->user, attempt->delimiters, mem);
	bool more = rules->delimiters && *rules->delimiters;
	return more ? identity(user, rules->delimiters, mem) : user;
}

/* The name that it is counted under. */
static struct str name_of(
	const struct attempt_rules *rules, const struct attempt *attempt, enum who who, char *name)
{
	char text[INET6_ADDRSTRLEN], first[4 * MAX_NAME];
	struct arena mem;
	arena_init(&mem, first, sizeof(first));
	struct str of =
		who == USER ? user_of(rules, attempt, &mem) : network_of(attempt->address, text);
	size_t n = of.len < MAX_NAME - 1 ? of.len : MAX_NAME - 1;
	name[0] = who == USER ? 'u' : 'a';
	memcpy(name + 1, of.ptr, n);
	arena_clear(&mem);
	return (struct str){name, n + 1};
}

static struct window_rules limit_of(const struct attempt_rules *rules, enum who who)
{
	int64_t most = who == USER ? rules->per_user : rules->per_address;
	return (struct window_rules){
		.n = 1, .limits[0] = {most > 0 ? (uint64_t)most : ALWAYS, (uint64_t)rules->window}};
}

static bool is_known(const struct attempt *attempt, enum who who)
{
	return who == USER || attempt->address.len > 0;
}

bool attempts_exceeded(struct windows *failures, const struct attempt_rules *rules,
	const struct attempt *attempt, uint64_t now_ms)
{
	char name[MAX_NAME];
	for (enum who who = USER; failures && who < WHOS; who++) {
		struct window_rules limit = limit_of(rules, who);
		struct window_use use;
		if (!is_known(attempt, who))
			continue;
		windows_look(failures, name_of(rules, attempt, who, name), &limit, now_ms, &use);
		if (use.used >= limit.limits[0].most)
			return true;
	}
	return false;
}

/* Counts one more; returns how many there were before. */
static uint64_t count(struct windows *failures, const struct attempt_rules *rules,
	const struct attempt *attempt, enum who who, uint64_t now_ms)
{
	char name[MAX_NAME];
	struct window_rules limit = limit_of(rules, who);
	struct window_use use;
	struct str of = name_of(rules, attempt, who, name);
	windows_look(failures, of, &limit, now_ms, &use);
	windows_count(failures, of, &limit, 1, true, now_ms);
	return use.used;
}

uint64_t attempts_failed(struct windows *failures, const struct attempt_rules *rules,
	const struct attempt *attempt, uint64_t now_ms)
{
	uint64_t before = 0;
	for (enum who who = USER; failures && who < WHOS; who++) {
		uint64_t n =
			is_known(attempt, who) ? count(failures, rules, attempt, who, now_ms) : 0;
		before = n > before ? n : before;
	}
	return (uint64_t)rules->delay << (before < MAX_DOUBLINGS ? before : MAX_DOUBLINGS);
}

void attempt_log(const struct attempt *attempt, bool refused, const char *listener)
{
	if (log_wants(LOG_LEVEL_INFO))
		log_event(LOG_LEVEL_INFO,
			refused ? "authentication refused: too many failures"
				: "authentication failed",
			(struct pair[]){{STR("user"), attempt->user},
				{STR("rip"), attempt->address},
				{STR("listener"), str_of(listener)}},
			3);
}
