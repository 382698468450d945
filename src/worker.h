/* One thread: its loop, its turn, its tables, its engines and its mailbox. */
#ifndef MAPMUX_WORKER_H
#define MAPMUX_WORKER_H

#include <sys/queue.h>

#include "setting.h"
#include "table.h"
#include "turn.h"

struct config;
struct event_base;
struct http;
struct worker;

/* The worker's own thread only. */
struct event_base *worker_base(struct worker *worker);
struct turn *worker_turn(struct worker *worker);
struct table_set *worker_tables(struct worker *worker);
struct http *worker_http(struct worker *worker); /* made when the first table asks */

/* 64 KiB that belong to whoever runs, until he returns to the loop. */
enum { WORKER_SCRATCH = 65536 };
char *worker_scratch(struct worker *worker);

/* Allocated by the sender, freed by open(), which runs on the receiver's thread in a turn. */
struct letter {
	STAILQ_ENTRY(letter) link;
	void (*open)(struct worker *, struct letter *);
};

/* Any thread; the only door. */
void worker_post(struct worker *to, struct letter *letter);

#endif
