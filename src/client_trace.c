/* What `mapmux query --trace` shows: the steps of docs/http.md's trace as lines for people. */
#include <stdio.h>

#include "client_wire.h"
#include "json.h"

/* A member of a step, as text. */
struct member {
	const char *name;
	struct str text;
};

enum { US, DEPTH, TABLE, PART, EVENT, DETAIL, MEMBERS };

static void take_member(
	struct member *members, struct str name, struct str value, struct arena *mem)
{
	struct str text = value, bare;
	if (!json_text(name, mem, &bare))
		return;
	if (value.ptr[0] == '"' && !json_text(value, mem, &text))
		text = STR("?");
	for (size_t i = 0; i < MEMBERS; i++)
		if (str_eq(bare, str_of(members[i].name)))
			members[i].text = text;
}

/* A key may hold what moves a terminal's cursor. */
static void print_plain(struct str text)
{
	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.ptr[i];
		putchar(c < 0x20 || c == 0x7f ? '?' : c);
	}
}

static void print_step(const struct member *members)
{
	uint64_t us = 0, depth = 0;
	str_u64(members[US].text, &us);
	str_u64(members[DEPTH].text, &depth);
	printf("%9.3f ms  %*s", (double)us / 1000, depth < 40 ? (int)depth * 2 : 80, "");
	print_plain(members[TABLE].text);
	printf(" (");
	print_plain(members[PART].text);
	printf("): ");
	print_plain(members[EVENT].text);
	if (members[DETAIL].text.len > 0)
		putchar(' ');
	print_plain(members[DETAIL].text);
	putchar('\n');
}

void client_print_trace(struct str trace)
{
	static const struct member none[MEMBERS] = {[US] = {"us", {0}},
		[DEPTH] = {"depth", {0}},
		[TABLE] = {"table", {0}},
		[PART] = {"part", {0}},
		[EVENT] = {"event", {0}},
		[DETAIL] = {"detail", {0}}};
	struct member members[MEMBERS];
	struct arena mem = {0};
	struct str rest, part, value;
	if (trace.len == 0 || !json_tighten(trace, &mem, &rest))
		return;
	memcpy(members, none, sizeof(members));
	while (json_part(&rest, &part)) {
		if (part.ptr[0] == '{')
			memcpy(members, none, sizeof(members));
		else if (part.ptr[0] == '}')
			print_step(members);
		else if (part.ptr[0] == '"' && json_part(&rest, &value))
			take_member(members, part, value, &mem);
	}
	arena_clear(&mem);
}
