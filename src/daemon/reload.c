/* Puts another configuration into the running daemon.
 *
 * What can fail comes first and changes nothing: the files are read, every worker opens the new tables
 * beside the old ones, new sockets are bound. Then each worker changes over between two turns of its
 * loop. A request under way keeps the tables it began with; these go when the last one has ended. */
#include "daemon/reload.h"

#include <stdlib.h>

/* ---- editions ---- */

char **args_copy(int argc, char *const *argv, struct arena *mem)
{
	char **copy = arena_alloc(mem, ((size_t)argc + 1) * sizeof(*copy));
	for (int i = 0; i < argc; i++)
		copy[i] = (char *)arena_str(mem, str_of(argv[i])).ptr;
	return copy;
}

struct edition *edition_load(int argc, char **argv, struct error *error)
{
	struct edition *edition = memory_new(sizeof(*edition));
	if (!config_load(&edition->config, argc, argv, error)) {
		free(edition);
		return NULL;
	}
	edition->config.sets = &edition->sets;
	return edition;
}

void edition_free(struct edition *edition)
{
	config_free(&edition->config);
	free(edition);
}

static struct edition *load_again(const struct daemon *daemon, struct error *error)
{
	struct arena mem = {0};
	char **argv = args_copy(daemon->argc, daemon->argv, &mem);
	struct edition *edition = edition_load(daemon->argc, argv, error);
	arena_clear(&mem);
	return edition;
}

/* ---- the exchange ---- */

struct opened {
	struct table_set *set; /* NULL: it has failed, and why: */
	struct error error;
};

struct exchange {
	struct edition *next;
	struct opened *opened; /* by worker */
	struct listeners_plan listeners;
};

static void open_tables(struct worker *worker, size_t index, void *arg)
{
	struct exchange *exchange = arg;
	struct opened *opened = &exchange->opened[index];
	opened->set = worker_open_tables(worker, &exchange->next->config, &opened->error);
}

static void drop_tables(struct worker *worker, size_t index, void *arg)
{
	struct exchange *exchange = arg;
	if (exchange->opened[index].set)
		worker_drop_tables(worker, exchange->opened[index].set);
}

static void change_over(struct worker *worker, size_t index, void *arg)
{
	struct exchange *exchange = arg;
	worker_use_tables(worker, exchange->opened[index].set);
	listeners_reload(&exchange->listeners, index);
}

static void inherit(const struct config *now, const struct config *before)
{
	for (size_t i = 0; i < now->ntables; i++)
		for (size_t j = 0; j < before->ntables; j++) {
			struct table_conf *heir = &now->tables[i], *from = &before->tables[j];
			if (heir->backend == from->backend && heir->backend->inherit &&
				strcmp(heir->name, from->name) == 0)
				heir->backend->inherit(heir, from);
		}
}

/* On false nothing is changed, but that tables may be open which nobody uses. */
static bool prepare(struct daemon *daemon, struct exchange *exchange, struct error *error)
{
	const struct config *config = &exchange->next->config;
	inherit(config, &daemon->current->config);
	crew_do(&daemon->crew, open_tables, exchange);
	for (size_t i = 0; i < daemon->crew.n; i++)
		if (!exchange->opened[i].set) {
			*error = exchange->opened[i].error;
			return false;
		}
	return listeners_prepare(&daemon->listeners, config, &exchange->listeners, error);
}

/* What a running process cannot change. */
static void warn_of_restart(const struct config *now, const struct config *before)
{
	if (now->threads != before->threads)
		log_warn("reload: threads has changed: that needs a restart");
	if (strcmp(now->user, before->user) != 0 || strcmp(now->group, before->group) != 0)
		log_warn("reload: user or group has changed: that needs a restart");
}

static void commit(struct daemon *daemon, struct exchange *exchange)
{
	const struct config *config = &exchange->next->config;
	warn_of_restart(config, &daemon->current->config);
	log_change(config->log_level, config->log_format, config->log_to);
	crew_do(&daemon->crew, change_over, exchange);
	listeners_commit(&daemon->listeners, &exchange->listeners, &daemon->crew);
	SLIST_INSERT_HEAD(&daemon->old, daemon->current, link);
	daemon->current = exchange->next;
	log_info("reloaded: %zu listeners, %zu tables", config->nlistens, config->ntables);
}

void reload(struct daemon *daemon)
{
	struct error error;
	struct exchange exchange = {.next = load_again(daemon, &error)};
	bool ready = false;
	if (exchange.next) {
		exchange.opened = memory_new(daemon->crew.n * sizeof(*exchange.opened));
		ready = prepare(daemon, &exchange, &error);
	}
	if (ready) {
		commit(daemon, &exchange);
	} else {
		log_error("reload: %s; nothing was changed", error.text);
		if (exchange.next) {
			crew_do(&daemon->crew, drop_tables, &exchange);
			SLIST_INSERT_HEAD(&daemon->old, exchange.next, link);
		}
	}
	free(exchange.opened);
	reload_tidy(daemon);
}

void reload_tidy(struct daemon *daemon)
{
	struct edition *edition = SLIST_FIRST(&daemon->old);
	listeners_tidy(&daemon->listeners);
	while (edition) {
		struct edition *next = SLIST_NEXT(edition, link);
		if (atomic_load(&edition->sets) == 0) {
			SLIST_REMOVE(&daemon->old, edition, edition, link);
			edition_free(edition);
		}
		edition = next;
	}
}
