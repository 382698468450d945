/* The daemon without threads, sockets and a real clock. */
#include "world.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MAX_STANDSTILL = 10000 }; /* turns without time passing: nothing takes more */

static uint64_t now_ms; /* turn->clock() has no other way to learn it */

static uint64_t fake_clock(void)
{
	return now_ms;
}

static struct worker *worker_of(struct turn *turn)
{
	return (struct worker *)(void *)((char *)turn - offsetof(struct worker, turn));
}

/* ---- turns and time ---- */

static void on_wake(struct turn *turn)
{
	worker_of(turn)->woken = true;
}

static void on_arm(struct timers *timers, uint64_t in_ms)
{
	(void)timers; /* world_pass() looks for itself */
	(void)in_ms;
}

void worker_enter(struct worker *worker)
{
	turn_enter(&worker->turn);
}

static struct worker *find_busy(struct world *world)
{
	for (unsigned i = 0; i < world->workers; i++)
		if (world->crew[i].woken || !STAILQ_EMPTY(&world->crew[i].mail))
			return &world->crew[i];
	return NULL;
}

static void read_mail(struct worker *worker)
{
	struct letter *letter;
	while ((letter = STAILQ_FIRST(&worker->mail))) {
		STAILQ_REMOVE_HEAD(&worker->mail, link);
		letter->open(worker, letter);
	}
}

void worker_leave(struct worker *worker)
{
	struct world *world = worker->world;
	turn_leave(&worker->turn);
	while ((worker = find_busy(world))) {
		worker->woken = false;
		turn_enter(&worker->turn);
		read_mail(worker);
		turn_leave(&worker->turn);
	}
}

static void look_at_clock(struct worker *worker)
{
	worker_enter(worker);
	timers_run(&worker->timers);
	for (size_t i = 0; i < worker->tables.n; i++)
		query_expire(&worker->tables.tables[i]);
	worker_leave(worker);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* When something is due in this worker; at the latest at `until`. */
static uint64_t next_moment(const struct worker *worker, uint64_t until)
{
	if (worker->timers.armed_ms > 0)
		until = earlier(until, worker->timers.armed_ms);
	for (size_t i = 0; i < worker->tables.n; i++) {
		const struct query *first = TAILQ_FIRST(&worker->tables.tables[i].running);
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
		look_at_clock(&world->crew[i]);
}

void world_pass(struct world *world, uint64_t ms)
{
	uint64_t until = now_ms + ms;
	unsigned standstill = 0;
	while (now_ms < until) {
		uint64_t next = until, before = now_ms;
		for (unsigned i = 0; i < world->workers; i++)
			next = next_moment(&world->crew[i], next);
		step_to(world, next);
		standstill = now_ms == before ? standstill + 1 : 0;
		assert(standstill < MAX_STANDSTILL);
	}
}

/* ---- worker.h, as far as the tables of scripts need it ---- */

void worker_post(struct worker *to, struct letter *letter)
{
	STAILQ_INSERT_TAIL(&to->mail, letter, link);
}

struct event_base *worker_base(struct worker *worker)
{
	(void)worker;
	assert(!"a table of a script has no use for a loop");
	return NULL;
}

struct helper *worker_helper(struct worker *worker)
{
	(void)worker;
	assert(!"a table of a script has nothing that takes so long");
	return NULL;
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
	/* Those whose requests name a table. */
	char file[64], from[] = "-c", at[] = "--listen", socketmap[] = "socketmap:unix:socketmap",
		       dict[] = "dict:unix:dict";
	char *argv[] = {from, file, at, socketmap, at, dict};
	int fd = yaml_file(yaml), argc = has_listeners(yaml->text) ? 2 : 6;
	snprintf(file, sizeof(file), "/proc/self/fd/%d", fd);
	bool good = config_load(&world->config, argc, argv, error);
	close(fd);
	if (good)
		return true;
	struct error inner = *error;
	size_t n = str_starts(str_of(inner.text), str_of(file)) ? strlen(file) : 0;
	return error_set(error, "config%s%s", n ? "" : ": ", inner.text + n);
}

static bool open_worker(struct world *world, unsigned number, struct error *error)
{
	struct worker *worker = &world->crew[number - 1];
	*worker = (struct worker){.world = world, .number = number};
	STAILQ_INIT(&worker->mail);
	turn_init(&worker->turn, on_wake);
	worker->turn.clock = fake_clock;
	worker->turn.now_ms = now_ms;
	timers_init(&worker->timers, &worker->turn, on_arm);
	const struct config *config = &world->config;
	if (!table_set_open(&worker->tables, config->tables, config->ntables, worker, &worker->turn,
		    NULL, error)) {
		timers_free(&worker->timers);
		return false;
	}
	worker->homes = memory_new(config->nlistens * sizeof(worker->homes[0]));
	for (size_t i = 0; i < config->nlistens; i++) {
		dialog_home_open(&worker->homes[i], &config->listens[i], &worker->turn,
			&worker->tables, config->listens[i].address_text);
		worker->homes[i].failures = world->failures[i];
	}
	return true;
}

static void close_worker(struct worker *worker)
{
	for (size_t i = 0; i < worker->world->config.nlistens; i++)
		dialog_home_close(&worker->homes[i]);
	free(worker->homes);
	table_set_close(&worker->tables);
	timers_free(&worker->timers);
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
	world->failures =
		arena_alloc(&world->mem, world->config.nlistens * sizeof(world->failures[0]));
	for (size_t i = 0; i < world->config.nlistens; i++)
		if (world->config.listens[i].codec->attempts)
			world->failures[i] = windows_new(ATTEMPT_NAMES);
	for (; world->workers < workers; world->workers++)
		if (!open_worker(world, world->workers + 1, error)) {
			world_close(world);
			return false;
		}
	return true;
}

void world_close(struct world *world)
{
	for (unsigned i = 0; i < world->workers; i++)
		close_worker(&world->crew[i]);
	for (unsigned i = 0; i < world->workers; i++) /* nothing in them is lost */
		read_mail(&world->crew[i]);
	for (size_t i = 0; i < world->config.nlistens; i++)
		windows_release(world->failures[i]);
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
