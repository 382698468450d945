/* All workers together: started, told, ended by the control thread. */
#include "engine/crew.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

bool crew_open(struct crew *crew, size_t n, const struct config *config, struct error *error)
{
	*crew = (struct crew){.workers = memory_new(n * sizeof(struct worker *))};
	for (; crew->n < n; crew->n++)
		if (!(crew->workers[crew->n] = worker_new(config, error)))
			return false;
	return true;
}

bool crew_run(struct crew *crew, struct error *error)
{
	for (; crew->running < crew->n; crew->running++)
		if (!worker_run(crew->workers[crew->running]))
			return error_set(error, "cannot start a thread");
	return true;
}

/* ---- tasks ---- */

struct errand {
	void (*task)(struct worker *, size_t index, void *);
	void *arg;
	pthread_mutex_t lock;
	pthread_cond_t done;
	size_t left; /* workers that have not done it yet */
};

struct order {
	struct letter letter;
	struct errand *errand;
	size_t index;
};

static void open_order(struct worker *worker, struct letter *letter)
{
	struct order *order = (struct order *)(void *)letter;
	struct errand *errand = order->errand;
	errand->task(worker, order->index, errand->arg);
	free(order);
	pthread_mutex_lock(&errand->lock);
	if (--errand->left == 0)
		pthread_cond_signal(&errand->done);
	pthread_mutex_unlock(&errand->lock);
}

void crew_do(struct crew *crew, void (*task)(struct worker *, size_t index, void *), void *arg)
{
	struct errand errand = {.task = task, .arg = arg, .left = crew->n};
	assert(crew->running == crew->n);
	pthread_mutex_init(&errand.lock, NULL);
	pthread_cond_init(&errand.done, NULL);
	for (size_t i = 0; i < crew->n; i++) {
		struct order *order = memory_new(sizeof(*order));
		*order = (struct order){.letter.open = open_order, .errand = &errand, .index = i};
		worker_post(crew->workers[i], &order->letter);
	}
	pthread_mutex_lock(&errand.lock);
	while (errand.left > 0)
		pthread_cond_wait(&errand.done, &errand.lock);
	pthread_mutex_unlock(&errand.lock);
	pthread_cond_destroy(&errand.done);
	pthread_mutex_destroy(&errand.lock);
}

unsigned crew_load(const struct crew *crew)
{
	unsigned n = 0;
	for (size_t i = 0; i < crew->n; i++)
		n += worker_load(crew->workers[i]);
	return n;
}

/* ---- the end ---- */

void crew_stop(struct crew *crew)
{
	while (crew->running > 0)
		worker_stop(crew->workers[--crew->running]);
	bool any = true; /* what is opened may post again */
	while (any) {
		any = false;
		for (size_t i = 0; i < crew->n; i++)
			any = worker_read_mail(crew->workers[i]) || any;
	}
}

void crew_close(struct crew *crew)
{
	while (crew->n > 0)
		worker_free(crew->workers[--crew->n]);
	free(crew->workers);
}
