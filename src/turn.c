/* What is left to do before a worker's loop sleeps again: finished queries, jobs, the clock. */
#include "turn.h"

#include <assert.h>
#include <stddef.h>
#include <time.h>

#include "query.h"

/* Tables that answer at once can keep a turn going for ever; after so many answers the sockets are
 * looked at again. */
enum { ANSWERS_IN_A_TURN = 256 };

static uint64_t steady_clock(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

void turn_init(struct turn *turn, void (*wake)(struct turn *))
{
	*turn = (struct turn){.clock = steady_clock, .wake = wake};
	TAILQ_INIT(&turn->finished);
	TAILQ_INIT(&turn->jobs);
	turn->now_ms = turn->clock();
}

void turn_enter(struct turn *turn)
{
	assert(!turn->entered);
	turn->entered = true;
	turn->woken = false;
	turn->now_ms = turn->clock();
}

/* What was added outside of a turn, or is too much for this one, needs another. */
static void want_turn(struct turn *turn)
{
	if (!turn->entered && !turn->woken) {
		turn->woken = true;
		turn->wake(turn);
	}
}

static unsigned finish_queries(struct turn *turn, unsigned budget)
{
	struct query *query;
	while (budget > 0 && (query = TAILQ_FIRST(&turn->finished))) {
		turn_drop_finished(turn, query);
		query->phase = Q_IDLE;
		query->done(query);
		budget--;
	}
	return budget;
}

static void run_jobs(struct turn *turn)
{
	/* Those that jobs add wait for the next round: a job may add itself. */
	struct job *last = TAILQ_LAST(&turn->jobs, job_list), *job;
	while (last && (job = TAILQ_FIRST(&turn->jobs))) {
		bool was_last = job == last;
		turn_drop_job(turn, job);
		job->run(job);
		if (was_last)
			break;
	}
}

void turn_leave(struct turn *turn)
{
	assert(turn->entered);
	unsigned budget = ANSWERS_IN_A_TURN;
	while (budget > 0 && !(TAILQ_EMPTY(&turn->finished) && TAILQ_EMPTY(&turn->jobs))) {
		budget = finish_queries(turn, budget);
		run_jobs(turn);
	}
	turn->entered = false;
	if (!TAILQ_EMPTY(&turn->finished) || !TAILQ_EMPTY(&turn->jobs))
		want_turn(turn);
}

void turn_add_job(struct turn *turn, struct job *job, void (*run)(struct job *))
{
	if (job->queued)
		return;
	job->run = run;
	job->queued = true;
	TAILQ_INSERT_TAIL(&turn->jobs, job, link);
	want_turn(turn);
}

void turn_drop_job(struct turn *turn, struct job *job)
{
	if (!job->queued)
		return;
	job->queued = false;
	TAILQ_REMOVE(&turn->jobs, job, link);
}

void turn_add_finished(struct turn *turn, struct query *query)
{
	TAILQ_INSERT_TAIL(&turn->finished, query, link);
	want_turn(turn);
}

void turn_drop_finished(struct turn *turn, struct query *query)
{
	TAILQ_REMOVE(&turn->finished, query, link);
}
