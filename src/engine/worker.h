/* One thread: its loop, its turn, its tables, its engines and its mailbox. */
#ifndef MAPMUX_WORKER_H
#define MAPMUX_WORKER_H

#include <sys/queue.h>

#include "model/setting.h"
#include "model/table.h"
#include "model/turn.h"

struct config;
struct event_base;
struct helper;
struct http;
struct poller;
struct resolver;
struct worker;

/* Before its thread starts: the loop and the tables. NULL with an error when a table does not open. */
struct worker *worker_new(const struct config *config, struct error *error);

/* A reload, on the worker's thread. First the tables of the new configuration are opened beside those in
 * use; NULL with an error when one does not open. Then they are used, or dropped. */
struct table_set *worker_open_tables(
	struct worker *worker, const struct config *config, struct error *error);
void worker_use_tables(struct worker *worker, struct table_set *set); /* the old ones finish */
void worker_drop_tables(struct worker *worker, struct table_set *set);

/* Starts the thread; false when the system has none. */
bool worker_run(struct worker *worker);

/* Any thread: ends the loop after the letters posted so far, and waits for the thread. */
void worker_stop(struct worker *worker);

/* All workers stopped: opens the letters that came after the end, so that nothing in them is lost.
 * False: there was none. */
bool worker_read_mail(struct worker *worker);
void worker_free(struct worker *worker); /* stopped, or never run; its connections are gone */

/* The worker's own thread only, or any before it runs. */
struct event_base *worker_base(struct worker *worker);
struct turn *worker_turn(struct worker *worker);
struct poller *worker_poller(struct worker *worker);
struct stats *worker_stats(struct worker *worker);
struct table_set *worker_tables(struct worker *worker);  /* those in use */
struct resolver *worker_resolver(struct worker *worker); /* made when the first table asks; of the
							  * system's servers */

/* For open() of a table: the engine of its set, made when the first table asks. A reload begins with
 * new connections, because those that libcurl keeps, and what it knows of authorities, were made with
 * the old certificates. */
struct http *worker_http(struct worker *worker);

/* Made when somebody first asks. Its own thread. */
struct helper *worker_helper(struct worker *worker);

/* Memory that belongs to whoever runs, until he returns to the loop. */
enum { WORKER_SCRATCH = 65536 };
char *worker_scratch(struct worker *worker);

/* Connections it has or is about to get. Any thread: who gives one away counts it at once, so that
 * a burst is spread evenly. */
void worker_count(struct worker *worker, int change);
unsigned worker_load(const struct worker *worker);

/* Allocated by the sender, freed by open(), which runs on the receiver's thread in a turn. */
struct letter {
	STAILQ_ENTRY(letter) link;
	void (*open)(struct worker *, struct letter *);
};

/* Any thread; the only door. */
void worker_post(struct worker *to, struct letter *letter);

#endif
