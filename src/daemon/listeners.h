/* All listeners: those of the configuration in use, and those that a reload took out of it and that
 * still have clients. Control thread only, but for what is said. */
#ifndef MAPMUX_LISTENERS_H
#define MAPMUX_LISTENERS_H

#include "daemon/listener.h"

struct planned;
struct retired;

/* Zeroed memory is empty. */
struct listeners {
	struct listener **all; /* in the order of the configuration */
	size_t n;
	size_t homes; /* given to workers in turn */
	SLIST_HEAD(, retired) retired;
};

/* What a configuration makes of them: for each that it names one in use, or a new one. */
struct listeners_plan {
	const struct config *config;
	struct planned *items;
};

/* Opens what is new, and gives socket files the owners and modes they shall have. On false nothing is
 * changed. */
bool listeners_prepare(const struct listeners *listeners, const struct config *config,
	struct listeners_plan *plan, struct error *error);
void listeners_abandon(struct listeners_plan *plan);

/* In each worker, in a turn: those that stay get their settings. */
void listeners_reload(const struct listeners_plan *plan, size_t index);

/* Workers running: starts the new ones, retires those that are in the plan no more. */
void listeners_commit(struct listeners *listeners, struct listeners_plan *plan, struct crew *crew);

/* Closes retired ones that have no clients left, or had shutdown_timeout to lose them. Does not wait. */
void listeners_tidy(struct listeners *listeners);

/* Workers running: see listener_drain(). */
void listeners_drain(struct listeners *listeners);

/* No worker runs any more. */
void listeners_close(struct listeners *listeners);

#endif
