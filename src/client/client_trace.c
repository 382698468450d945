/* What `mapmux query --trace` shows: the steps of docs/http.md's trace as lines for people. */
#include <stdio.h>

#include "client/client_wire.h"
#include "text/json.h"

enum { US, DEPTH, TABLE, PART, EVENT, DETAIL, MEMBERS };

/* A step's members, as text. */
struct step {
	struct str texts[MEMBERS];
};

static void take_member(struct step *step, struct str name, struct str value, struct arena *mem)
{
	static const char *const names[MEMBERS] = {
		"us", "depth", "table", "part", "event", "detail"};
	struct str text = value, bare;
	if (!json_text(name, mem, &bare))
		return;
	if (value.ptr[0] == '"' && !json_text(value, mem, &text))
		text = STR("?");
	for (size_t i = 0; i < MEMBERS; i++)
		if (str_eq(bare, str_of(names[i])))
			step->texts[i] = text;
}

/* A key may hold what moves a terminal's cursor. */
static void print_plain(struct str text)
{
	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.ptr[i];
		putchar(c < 0x20 || c == 0x7f ? '?' : c);
	}
}

static void print_step(const struct step *step)
{
	const struct str *texts = step->texts;
	uint64_t us = 0, depth = 0;
	str_u64(texts[US], &us);
	str_u64(texts[DEPTH], &depth);
	printf("%9.3f ms  %*s", (double)us / 1000, depth < 40 ? (int)depth * 2 : 80, "");
	print_plain(texts[TABLE]);
	printf(" (");
	print_plain(texts[PART]);
	printf("): ");
	print_plain(texts[EVENT]);
	if (texts[DETAIL].len > 0)
		putchar(' ');
	print_plain(texts[DETAIL]);
	putchar('\n');
}

void client_print_trace(struct str trace)
{
	struct step step = {0};
	struct arena mem = {0};
	struct str part, value;
	while (trace.len > 0 && json_part(&trace, &part)) {
		if (part.ptr[0] == '}') {
			print_step(&step);
			step = (struct step){0};
		} else if (part.ptr[0] == '"' && json_part(&trace, &value)) {
			take_member(&step, part, value, &mem);
		}
	}
	arena_clear(&mem);
}
