/* The url table: how long a reply may be kept, by its Cache-Control (RFC 9111). We serve many users, so
 * we are a shared cache. */
#include "url.h"

#include <strings.h>

enum { TTL_MAX = 365 * 24 * 3600 };

static bool is_word(struct str s, const char *word)
{
	return s.len == strlen(word) && strncasecmp(s.ptr, word, s.len) == 0;
}

/* What Cache-Control and Age say, all lines together. */
struct directives {
	bool no_store, has_max_age, has_s_maxage;
	uint64_t max_age, s_maxage, age;
};

/* A number of seconds, perhaps in quotes; what is none counts as 0, the cautious reading. */
static uint64_t seconds(struct str s)
{
	uint64_t n = 0;
	if (s.len >= 2 && s.ptr[0] == '"' && s.ptr[s.len - 1] == '"')
		s = (struct str){s.ptr + 1, s.len - 2};
	if (!str_u64(s, &n))
		return 0;
	return n < TTL_MAX ? n : TTL_MAX;
}

static void read_directive(struct directives *say, struct str directive)
{
	struct str value = str_trim(directive), name;
	str_cut(&value, '=', &name);
	name = str_trim(name);
	value = str_trim(value);
	if (is_word(name, "no-store") || is_word(name, "no-cache") || is_word(name, "private"))
		say->no_store = true;
	if (is_word(name, "max-age")) {
		say->has_max_age = true;
		say->max_age = seconds(value);
	}
	if (is_word(name, "s-maxage")) {
		say->has_s_maxage = true;
		say->s_maxage = seconds(value);
	}
}

static void read_line(struct directives *say, struct str line)
{
	struct str value = line, name, directive;
	if (!str_cut(&value, ':', &name))
		return;
	if (is_word(name, "Age"))
		say->age = seconds(str_trim(value));
	while (is_word(name, "Cache-Control") && value.len > 0) {
		str_cut(&value, ',', &directive);
		read_directive(say, directive);
	}
}

struct url_fresh url_fresh_of(const struct url_ask *ask)
{
	struct directives say = {0};
	struct str rest = ask->fetch.head, line;
	if (!ask->fetch.want_head || ask->fetch.result != HTTP_REPLY)
		return (struct url_fresh){0};
	while (rest.len > 0) {
		str_cut(&rest, '\n', &line);
		read_line(&say, line);
	}
	if (!say.has_max_age && !say.has_s_maxage)
		return (struct url_fresh){.no_store = say.no_store};
	uint64_t life = say.has_s_maxage ? say.s_maxage : say.max_age;
	bool over = say.age >= life;
	return (struct url_fresh){
		.no_store = say.no_store || over, .ttl = over ? 0 : (unsigned)(life - say.age)};
}

struct url_fresh url_fresh_both(struct url_fresh a, struct url_fresh b)
{
	return (struct url_fresh){
		.no_store = a.no_store || b.no_store, .ttl = a.ttl < b.ttl ? a.ttl : b.ttl};
}
