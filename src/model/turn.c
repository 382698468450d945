/* What is left to do before a worker's loop sleeps again: answers, jobs, the clock. */
#include "model/turn.h"

#include <assert.h>
#include <stddef.h>
#include <time.h>

/* Tables that answer at once can keep a turn going for ever; after so many answers, or rounds of
 * jobs, the sockets are looked at again. */
enum { ANSWERS_IN_A_TURN = 256, ROUNDS_IN_A_TURN = 32 };

/* A few milliseconds of error are nothing to a deadline; the precise clock costs a request 1 %. */
uint64_t turn_clock_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

uint64_t turn_now_us(struct turn *turn)
{
	struct timespec ts;
	if (turn->now_us == 0 && turn->clock != turn_clock_ms)
		turn->now_us = turn->clock() * 1000 + 1;
	if (turn->now_us == 0) {
		clock_gettime(CLOCK_MONOTONIC, &ts);
		turn->now_us = (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000 + 1;
	}
	return turn->now_us;
}

void turn_init(struct turn *turn, void (*wake)(struct turn *))
{
	*turn = (struct turn){.clock = turn_clock_ms, .wake = wake};
	TAILQ_INIT(&turn->answers);
	TAILQ_INIT(&turn->jobs);
	turn->now_ms = turn->clock();
}

void turn_enter(struct turn *turn)
{
	assert(!turn->entered);
	turn->entered = true;
	turn->woken = false;
	turn->now_ms = turn->clock();
	turn->now_us = 0;
}

/* What was added outside of a turn, or is too much for this one, needs another. */
static void want_turn(struct turn *turn)
{
	if (!turn->entered && !turn->woken) {
		turn->woken = true;
		turn->wake(turn);
	}
}

static unsigned run_answers(struct turn *turn, unsigned budget)
{
	struct job *job;
	while (budget > 0 && (job = TAILQ_FIRST(&turn->answers))) {
		turn_drop_job(job);
		job->run(job);
		budget--;
	}
	return budget;
}

/* Those that jobs add wait for the next round: a job may add itself. */
static void run_jobs(struct turn *turn)
{
	struct job_list now = TAILQ_HEAD_INITIALIZER(now);
	struct job *job;
	TAILQ_CONCAT(&now, &turn->jobs, link);
	TAILQ_FOREACH (job, &now, link)
		job->list = &now;
	while ((job = TAILQ_FIRST(&now))) {
		turn_drop_job(job);
		job->run(job);
	}
}

void turn_leave(struct turn *turn)
{
	assert(turn->entered);
	unsigned budget = ANSWERS_IN_A_TURN, rounds = ROUNDS_IN_A_TURN;
	while (budget > 0 && rounds-- > 0 &&
		!(TAILQ_EMPTY(&turn->answers) && TAILQ_EMPTY(&turn->jobs))) {
		budget = run_answers(turn, budget);
		run_jobs(turn);
	}
	turn->entered = false;
	if (turn->running > 0 && turn->tick && !turn->ticking) {
		turn->ticking = true;
		turn->tick(turn);
	}
	if (!TAILQ_EMPTY(&turn->answers) || !TAILQ_EMPTY(&turn->jobs))
		want_turn(turn);
}

static void add(
	struct turn *turn, struct job_list *list, struct job *job, void (*run)(struct job *))
{
	if (job->list)
		return;
	job->run = run;
	job->list = list;
	TAILQ_INSERT_TAIL(list, job, link);
	want_turn(turn);
}

void turn_add_job(struct turn *turn, struct job *job, void (*run)(struct job *))
{
	add(turn, &turn->jobs, job, run);
}

void turn_add_answer(struct turn *turn, struct job *job, void (*run)(struct job *))
{
	add(turn, &turn->answers, job, run);
}

void turn_drop_job(struct job *job)
{
	if (!job->list)
		return;
	TAILQ_REMOVE(job->list, job, link);
	job->list = NULL;
}
