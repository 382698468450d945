/* The daemon without threads, sockets and a real clock. */
#include "world.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
	MAX_STANDSTILL = 10000
}; /* timers that fire without time passing: none does that for ever */

static uint64_t now_ms; /* turn->clock() has no other way to learn it */

static uint64_t fake_clock(void)
{
	return now_ms;
}

static struct stage *stage_of_turn(struct turn *turn)
{
	return (struct stage *)(void *)((char *)turn - offsetof(struct stage, turn));
}

struct stage *stage_of(const struct table *table)
{
	return stage_of_turn(table->turn);
}

/* ---- turns and time ---- */

static void on_wake(struct turn *turn)
{
	stage_of_turn(turn)->woken = true;
}

static void on_arm(struct timers *timers, uint64_t in_ms)
{
	(void)timers; /* world_pass() looks for itself */
	(void)in_ms;
}

void stage_enter(struct stage *stage)
{
	turn_enter(&stage->turn);
}

void stage_leave(struct stage *stage)
{
	turn_leave(&stage->turn);
	while (stage->woken) {
		stage->woken = false;
		turn_enter(&stage->turn);
		turn_leave(&stage->turn);
	}
}

static void look_at_clock(struct stage *stage)
{
	stage_enter(stage);
	timers_run(&stage->timers);
	for (size_t i = 0; i < stage->tables.n; i++)
		query_expire(&stage->tables.tables[i]);
	stage_leave(stage);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* When something is due in this worker; at the latest at `until`. */
static uint64_t next_moment(const struct stage *stage, uint64_t until)
{
	if (stage->timers.armed_ms > 0)
		until = earlier(until, stage->timers.armed_ms);
	for (size_t i = 0; i < stage->tables.n; i++) {
		const struct query *first = TAILQ_FIRST(&stage->tables.tables[i].running);
		if (first)
			until = earlier(until, first->deadline);
	}
	return until;
}

static void step_to(struct world *world, uint64_t ms)
{
	if (ms > now_ms)
		now_ms = ms;
	for (unsigned i = 0; i < world->workers; i++)
		look_at_clock(&world->stages[i]);
}

void world_pass(struct world *world, uint64_t ms)
{
	uint64_t until = now_ms + ms;
	unsigned standstill = 0;
	while (now_ms < until) {
		uint64_t next = until, before = now_ms;
		for (unsigned i = 0; i < world->workers; i++)
			next = next_moment(&world->stages[i], next);
		step_to(world, next);
		standstill = now_ms == before ? standstill + 1 : 0;
		assert(standstill < MAX_STANDSTILL);
	}
}

/* ---- life and death ---- */

/* The loader reads files; this one has no name, and its lines have the script's numbers. */
static int yaml_file(const struct yaml *yaml)
{
	int fd = memfd_create("yaml", 0);
	FILE *out = fd >= 0 ? fdopen(dup(fd), "w") : NULL;
	if (!out) {
		perror("replay: memfd_create");
		exit(2);
	}
	for (unsigned i = 1; i < yaml->line; i++)
		fputc('\n', out);
	fwrite(yaml->text.ptr, 1, yaml->text.len, out);
	fclose(out);
	return fd;
}

static bool has_listeners(struct str yaml)
{
	struct str line;
	while (yaml.len > 0) {
		str_cut(&yaml, '\n', &line);
		if (str_starts(str_trim(line), STR("listeners:")))
			return true;
	}
	return false;
}

static bool load(struct world *world, const struct yaml *yaml, struct error *error)
{
	enum { MOST = 16 };
	char file[64], from[] = "-c", at[] = "--listen", listeners[MOST][64];
	char *argv[2 + 2 * MOST] = {from, file};
	int fd = yaml_file(yaml), argc = 2;
	snprintf(file, sizeof(file), "/proc/self/fd/%d", fd);
	for (int i = 0; !has_listeners(yaml->text) && codecs[i] && i < MOST; i++) {
		const char *name = codecs[i]->name;
		snprintf(listeners[i], sizeof(listeners[i]), "%s:unix:%s", name, name);
		argv[argc++] = at;
		argv[argc++] = listeners[i];
	}
	bool good = config_load(&world->config, argc, argv, error);
	close(fd);
	if (good)
		return true;
	struct error inner = *error;
	size_t n = str_starts(str_of(inner.text), str_of(file)) ? strlen(file) : 0;
	return error_set(error, "config%s%s", n ? "" : ": ", inner.text + n);
}

static bool stage_open(struct world *world, unsigned number, struct error *error)
{
	struct stage *stage = &world->stages[number - 1];
	*stage = (struct stage){.world = world, .number = number};
	turn_init(&stage->turn, on_wake);
	stage->turn.clock = fake_clock;
	stage->turn.now_ms = now_ms;
	timers_init(&stage->timers, &stage->turn, on_arm);
	const struct config *config = &world->config;
	if (!table_set_open(
		    &stage->tables, config->tables, config->ntables, NULL, &stage->turn, error)) {
		timers_free(&stage->timers);
		return false;
	}
	stage->homes = memory_new(config->nlistens * sizeof(stage->homes[0]));
	for (size_t i = 0; i < config->nlistens; i++)
		dialog_home_open(&stage->homes[i], &config->listens[i], &stage->turn,
			&stage->tables, config->listens[i].address_text);
	return true;
}

static void stage_close(struct stage *stage)
{
	for (size_t i = 0; i < stage->world->config.nlistens; i++)
		dialog_home_close(&stage->homes[i]);
	free(stage->homes);
	table_set_close(&stage->tables);
	timers_free(&stage->timers);
}

bool world_open(struct world *world, const struct yaml *yaml, unsigned workers, struct error *error)
{
	*world = (struct world){0};
	now_ms = 1000;
	STAILQ_INIT(&world->events);
	TAILQ_INIT(&world->waiting);
	if (!load(world, yaml, error)) {
		arena_clear(&world->mem);
		return false;
	}
	for (; world->workers < workers; world->workers++)
		if (!stage_open(world, world->workers + 1, error)) {
			world_close(world);
			return false;
		}
	return true;
}

void world_close(struct world *world)
{
	while (world->workers > 0)
		stage_close(&world->stages[--world->workers]);
	config_free(&world->config);
	arena_clear(&world->mem);
}

void world_tell(struct world *world, const char *fmt, ...)
{
	struct event *event = arena_alloc(&world->mem, sizeof(*event));
	va_list ap;
	va_start(ap, fmt);
	event->text = arena_vprintf(&world->mem, fmt, ap);
	va_end(ap);
	STAILQ_INSERT_TAIL(&world->events, event, link);
}
