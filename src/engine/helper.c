/* A thread beside a worker, for what would keep its loop. */
#include "engine/helper.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/arena.h"

enum { MAX_CHORES = 64 }; /* queued; hashes of 100 ms each fill the time that clients wait */

struct helper {
	void (*finished)(void *owner, struct chore *chore);
	void *owner;
	pthread_t thread;
	bool running;

	pthread_mutex_t lock; /* of: */
	pthread_cond_t changed;
	TAILQ_HEAD(, chore) queue;
	unsigned n;
	bool over;
};

struct helper *helper_new(void (*finished)(void *owner, struct chore *chore), void *owner)
{
	struct helper *helper = memory_new(sizeof(*helper));
	helper->finished = finished;
	helper->owner = owner;
	pthread_mutex_init(&helper->lock, NULL);
	pthread_cond_init(&helper->changed, NULL);
	TAILQ_INIT(&helper->queue);
	return helper;
}

/* Under the lock. */
static void dequeue(struct helper *helper, struct chore *chore)
{
	TAILQ_REMOVE(&helper->queue, chore, link);
	chore->queued = false;
	helper->n--;
}

static struct chore *take(struct helper *helper)
{
	struct chore *chore;
	pthread_mutex_lock(&helper->lock);
	while (!(chore = TAILQ_FIRST(&helper->queue)) && !helper->over)
		pthread_cond_wait(&helper->changed, &helper->lock);
	if (chore)
		dequeue(helper, chore);
	pthread_mutex_unlock(&helper->lock);
	return chore;
}

static void *work(void *arg)
{
	struct helper *helper = arg;
	struct chore *chore;
	while ((chore = take(helper))) {
		chore->run(chore);
		helper->finished(helper->owner, chore);
	}
	return NULL;
}

void helper_free(struct helper *helper)
{
	pthread_mutex_lock(&helper->lock);
	helper->over = true;
	pthread_cond_signal(&helper->changed);
	pthread_mutex_unlock(&helper->lock);
	if (helper->running)
		pthread_join(helper->thread, NULL);
	pthread_cond_destroy(&helper->changed);
	pthread_mutex_destroy(&helper->lock);
	free(helper);
}

bool helper_start(struct helper *helper, struct chore *chore)
{
	if (!helper->running)
		helper->running = pthread_create(&helper->thread, NULL, work, helper) == 0;
	if (!helper->running)
		return false;
	pthread_mutex_lock(&helper->lock);
	chore->queued = helper->n < MAX_CHORES;
	bool taken = chore->queued;
	if (taken) {
		TAILQ_INSERT_TAIL(&helper->queue, chore, link);
		helper->n++;
		pthread_cond_signal(&helper->changed);
	}
	pthread_mutex_unlock(&helper->lock);
	return taken;
}

bool helper_drop(struct helper *helper, struct chore *chore)
{
	pthread_mutex_lock(&helper->lock);
	bool queued = chore->queued;
	if (queued)
		dequeue(helper, chore);
	pthread_mutex_unlock(&helper->lock);
	return queued;
}
