/* What is left to do before a worker's loop sleeps again: answers, jobs, the clock. */
#ifndef MAPMUX_TURN_H
#define MAPMUX_TURN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

/* Work put off to the end of this turn, embedded in its owner: deliver an answer, flush a
 * connection, start the transfers that were added. Zeroed memory is idle. */
struct job {
	void (*run)(struct job *);
	struct job_list *list; /* it waits in; NULL: none */
	TAILQ_ENTRY(job) link;
};

TAILQ_HEAD(job_list, job);

struct timers;

/* One for each worker (or test), used by its thread alone. */
struct turn {
	struct job_list answers; /* go first, so many in a turn */
	struct job_list jobs;
	uint64_t now_ms;         /* steady clock, read when a turn begins */
	uint64_t now_us;         /* turn_now_us()'s; 0: not read in this turn */
	uint64_t (*clock)(void); /* ms; NULL: CLOCK_MONOTONIC_COARSE */
	void (*wake)(
		struct turn *); /* asks the loop for a turn soon; never calls turn_leave() itself */
	unsigned running;       /* query.c's: queries not yet answered */
	void (*tick)(struct turn
			*);    /* asks for query_expire() before long, while queries run; or NULL */
	struct timers *timers; /* on its clock: timer.h */
	bool entered, woken, ticking;
};

/* Any thread: ms, the clock of every turn whose owner sets no other. */
uint64_t turn_clock_ms(void);

void turn_init(struct turn *turn, void (*wake)(struct turn *));

/* Every callback of the loop stands between these two. turn_leave() runs the
 * answers and then the jobs, until nothing is left or enough was done for one turn; the rest waits
 * for wake(). Not nested. */
void turn_enter(struct turn *turn);
void turn_leave(struct turn *turn);

/* The steady clock to the microsecond, for measuring; read once in a turn, and only if somebody asks.
 * Never 0. */
uint64_t turn_now_us(struct turn *turn);

/* Queues a job once, however often it is asked for, until it runs. */
void turn_add_job(struct turn *turn, struct job *job, void (*run)(struct job *));
void turn_add_answer(struct turn *turn, struct job *job, void (*run)(struct job *)); /* query.c */
void turn_drop_job(struct job *job);

#endif
