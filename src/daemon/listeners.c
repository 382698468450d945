/* All listeners: which stay, which are new, which go. */
#include "daemon/listeners.h"

#include <stdlib.h>
#include <sys/prctl.h>

/* One of the new configuration. */
struct planned {
	const struct listen_conf *conf;
	struct listener *old; /* in use at that address; or NULL */
	struct listener *listener;
};

/* One that the configuration names no more. */
struct retired {
	struct listener *listener;
	uint64_t until_ms; /* then its clients are cut off */
	SLIST_ENTRY(retired) link;
};

static bool stays(const struct planned *item)
{
	return item->listener == item->old;
}

/* ---- preparing ---- */

/* One that nobody can connect to any more goes, and its address is bound anew. */
static struct listener *find_address(
	const struct listeners *listeners, const struct listen_conf *conf)
{
	for (size_t i = 0; i < listeners->n; i++)
		if (strcmp(listener_conf(listeners->all[i])->address_text, conf->address_text) == 0)
			return listener_is_lost(listeners->all[i]) ? NULL : listeners->all[i];
	return NULL;
}

static bool open_one(struct planned *item, struct error *error)
{
	if (!item->old)
		item->listener = listener_open(item->conf, error);
	else if (listener_conf(item->old)->codec == item->conf->codec)
		item->listener = item->old;
	else
		item->listener = listener_succeed(item->old, item->conf);
	return item->listener;
}

static bool change_file(struct planned *item, struct error *error)
{
	return !item->old ||
	       listener_change_file(item->old, listener_conf(item->old), item->conf, error);
}

static void restore_file(struct planned *item)
{
	struct error ignored;
	if (item->old)
		listener_change_file(item->old, item->conf, listener_conf(item->old), &ignored);
}

/* The first `changed` files and the first `opened` listeners are as they were. */
static void undo(struct listeners_plan *plan, size_t opened, size_t changed)
{
	while (changed > 0)
		restore_file(&plan->items[--changed]);
	while (opened-- > 0)
		if (!stays(&plan->items[opened]))
			listener_close(plan->items[opened].listener);
	free(plan->items);
}

bool listeners_prepare(const struct listeners *listeners, const struct config *config,
	struct listeners_plan *plan, struct error *error)
{
	size_t n = config->nlistens, opened = 0, changed = 0;
	struct planned *items = memory_new(n * sizeof(*items));
	*plan = (struct listeners_plan){.config = config, .items = items};
	for (size_t i = 0; i < n; i++) {
		items[i].conf = &config->listens[i];
		items[i].old = find_address(listeners, items[i].conf);
	}
	while (opened < n && open_one(&items[opened], error))
		opened++;
	while (opened == n && changed < n && change_file(&items[changed], error))
		changed++;
	if (changed == n)
		return true;
	undo(plan, opened, changed);
	return false;
}

void listeners_abandon(struct listeners_plan *plan)
{
	undo(plan, plan->config->nlistens, plan->config->nlistens);
}

/* ---- the change ---- */

void listeners_reload(const struct listeners_plan *plan, size_t index)
{
	for (size_t i = 0; i < plan->config->nlistens; i++)
		if (stays(&plan->items[i]))
			listener_reload(plan->items[i].listener, index, plan->items[i].conf);
}

static bool is_planned(const struct listeners_plan *plan, const struct listener *listener)
{
	for (size_t i = 0; i < plan->config->nlistens; i++)
		if (plan->items[i].listener == listener)
			return true;
	return false;
}

static void retire(struct listeners *listeners, struct listener *listener, int64_t timeout)
{
	struct retired *retired = memory_new(sizeof(*retired));
	*retired = (struct retired){
		.listener = listener, .until_ms = turn_clock_ms() + (uint64_t)timeout};
	SLIST_INSERT_HEAD(&listeners->retired, retired, link);
	listener_retire(listener);
}

/* Passwords shall be in no core dump, whatever the system does with these. */
static void keep_secrets(const struct config *config)
{
	for (size_t i = 0; i < config->nlistens; i++)
		if (config->listens[i].codec->secret)
			prctl(PR_SET_DUMPABLE, 0L, 0L, 0L, 0L);
}

/* What goes makes place first: of two protocols at one address, only the new one still accepts. */
void listeners_commit(struct listeners *listeners, struct listeners_plan *plan, struct crew *crew)
{
	size_t n = plan->config->nlistens;
	keep_secrets(plan->config);
	for (size_t i = 0; i < n; i++)
		if (plan->items[i].old && !stays(&plan->items[i]))
			listener_take_file(plan->items[i].listener, plan->items[i].old);
	for (size_t i = 0; i < listeners->n; i++)
		if (!is_planned(plan, listeners->all[i]))
			retire(listeners, listeners->all[i], plan->config->shutdown_timeout);
	for (size_t i = 0; i < n; i++)
		if (!stays(&plan->items[i]))
			listener_start(plan->items[i].listener, crew, listeners->homes++ % crew->n);
	listeners->all = memory_grow(listeners->all, n * sizeof(*listeners->all));
	for (listeners->n = 0; listeners->n < n; listeners->n++)
		listeners->all[listeners->n] = plan->items[listeners->n].listener;
	free(plan->items);
}

/* ---- the end ---- */

void listeners_tidy(struct listeners *listeners)
{
	struct retired *retired = SLIST_FIRST(&listeners->retired);
	while (retired) {
		struct retired *next = SLIST_NEXT(retired, link);
		if (listener_connections(retired->listener) == 0 ||
			turn_clock_ms() >= retired->until_ms) {
			SLIST_REMOVE(&listeners->retired, retired, retired, link);
			listener_stop(retired->listener);
			listener_close(retired->listener);
			free(retired);
		}
		retired = next;
	}
}

void listeners_drain(struct listeners *listeners)
{
	for (size_t i = 0; i < listeners->n; i++)
		listener_drain(listeners->all[i]);
}

void listeners_close(struct listeners *listeners)
{
	struct retired *retired;
	while ((retired = SLIST_FIRST(&listeners->retired))) {
		SLIST_REMOVE_HEAD(&listeners->retired, link);
		listener_close(retired->listener);
		free(retired);
	}
	while (listeners->n > 0)
		listener_close(listeners->all[--listeners->n]);
	free(listeners->all);
	*listeners = (struct listeners){0};
}
