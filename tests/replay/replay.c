/* replay [--wrong] SCRIPT...: plays every scenario of the scripts, whatever way the clients' bytes come.
 * With --wrong each scenario has to fail, at its last line: so the player itself is tested. */
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "player.h"

enum { MAX_CUTS = 500 }; /* of one scenario */

static void print(
	const struct script *script, const struct scenario *scenario, const struct failure *failure)
{
	const char *path = script->path;
	unsigned line = failure->line;
	if (failure->what.text[0])
		printf("%s:%u: %s\n", path, line, failure->what.text);
	else
		printf("%s:%u: expected: %s\n%s:%u: got:      %s\n", path, line,
			failure->expected.text, path, line, failure->got.text);
	printf("\tin: %.*s\n", (int)scenario->title.len, scenario->title.ptr);
}

static bool play_as(const struct script *script, const struct scenario *scenario,
	const struct delivery *delivery, size_t *sent)
{
	static const char *const names[] = {
		"as written", "in joined pieces", "byte by byte", "with a cut behind byte"};
	struct failure failure;
	if (play(scenario, delivery, sent, &failure))
		return true;
	print(script, scenario, &failure);
	printf("\tclients' bytes came %s", names[delivery->how]);
	if (delivery->how == CUT_AT)
		printf(" %zu", delivery->at);
	printf("\n");
	return false;
}

static bool play_well(const struct script *script, const struct scenario *scenario)
{
	size_t total, sent;
	if (!play_as(script, scenario, &(struct delivery){.how = AS_WRITTEN}, &total) ||
		!play_as(script, scenario, &(struct delivery){.how = JOINED}, &sent) ||
		!play_as(script, scenario, &(struct delivery){.how = BYTEWISE}, &sent))
		return false;
	for (size_t at = 1; at < total; at += total / MAX_CUTS + 1)
		if (!play_as(script, scenario, &(struct delivery){CUT_AT, at}, &sent))
			return false;
	return true;
}

static bool play_wrong(const struct script *script, const struct scenario *scenario)
{
	const struct delivery delivery = {.how = AS_WRITTEN};
	struct failure failure;
	unsigned last = scenario->n ? scenario->steps[scenario->n - 1].line : scenario->line;
	size_t sent;
	if (play(scenario, &delivery, &sent, &failure)) {
		printf("%s:%u: has not failed: %.*s\n", script->path, scenario->line,
			(int)scenario->title.len, scenario->title.ptr);
		return false;
	}
	if (failure.line != last) {
		print(script, scenario, &failure);
		printf("\tfailed before its last line, %u\n", last);
	}
	return failure.line == last;
}

static unsigned play_script(const char *path, bool wrong)
{
	struct script script;
	struct error error;
	unsigned failed = 0;
	if (!script_read(&script, path, &error)) {
		printf("%s\n", error.text);
		failed = 1;
	} else {
		for (size_t i = 1; i < script.n; i++)
			failed += !(wrong ? play_wrong : play_well)(&script, &script.scenarios[i]);
		printf("%s: %zu scenarios, %u failed\n", path, script.n - 1, failed);
	}
	script_free(&script);
	return failed;
}

int main(int argc, char **argv)
{
	bool wrong = argc > 1 && strcmp(argv[1], "--wrong") == 0;
	unsigned failed = 0;
	if (argc < (wrong ? 3 : 2)) {
		fprintf(stderr, "usage: replay [--wrong] SCRIPT...\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0); /* what was said before an assertion failed */
	log_open(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT, LOG_TO_STDERR);
	for (int i = wrong ? 2 : 1; i < argc; i++)
		failed += play_script(argv[i], wrong);
	return failed ? 1 : 0;
}
