/* One request for all workers. The lock is held for a look at a short list; the answer goes by letter, each
 * follower its own copy. */
#include "cache_meet.h"

#include <stdlib.h>

struct meet_letter {
	struct letter letter;
	struct meet_door *door;
	uint64_t hash, id;
	struct meet_news news;
	struct arena mem;
};

struct meet_door *meet_door_new(struct worker *worker, struct cache *cache)
{
	struct meet_door *door = memory_new(sizeof(*door));
	door->refs = 1;
	door->worker = worker;
	door->cache = cache;
	return door;
}

static void door_release(struct meet_door *door)
{
	if (atomic_fetch_sub(&door->refs, 1) == 1)
		free(door);
}

void meet_door_close(struct meet_door *door)
{
	door->cache = NULL;
	door_release(door);
}

static struct meet_chain *chain_of(const struct meet *meet)
{
	return &meet->common->leaders[meet->place->hash % MEET_CHAINS];
}

/* Under the lock. */
static struct meet *find_leader(const struct meet *meet)
{
	const struct cache_place *mine = meet->place;
	struct meet *leader;
	LIST_FOREACH (leader, chain_of(meet), link)
		if (leader->digest == meet->digest && leader->place->hash == mine->hash &&
			leader->place->stamp == mine->stamp &&
			str_eq(leader->place->name, mine->name))
			return leader;
	return NULL;
}

bool meet_begin(struct meet *meet)
{
	LIST_INIT(&meet->followers);
	pthread_mutex_lock(&meet->common->lock);
	struct meet *leader = find_leader(meet);
	meet->role = leader ? MEET_FOLLOWS : MEET_LEADS;
	meet->leader = leader;
	if (leader)
		LIST_INSERT_HEAD(&leader->followers, meet, link);
	else
		LIST_INSERT_HEAD(chain_of(meet), meet, link);
	pthread_mutex_unlock(&meet->common->lock);
	return !leader;
}

bool meet_is_followed(struct meet *meet)
{
	if (!meet->common)
		return false;
	pthread_mutex_lock(&meet->common->lock);
	bool followed = meet->role == MEET_LEADS && !LIST_EMPTY(&meet->followers);
	pthread_mutex_unlock(&meet->common->lock);
	return followed;
}

static void open_news(struct worker *worker, struct letter *letter)
{
	struct meet_letter *news = (struct meet_letter *)(void *)letter;
	(void)worker;
	if (news->door->cache)
		cache_told(news->door->cache, news->hash, news->id, &news->news);
	door_release(news->door);
	arena_clear(&news->mem);
	free(news);
}

/* Under the lock: the other, another thread's, cannot go meanwhile. */
static void tell(const struct meet *other, const struct meet_news *news)
{
	struct meet_letter *letter = memory_new(sizeof(*letter));
	letter->letter.open = open_news;
	letter->door = other->door;
	letter->hash = other->place->hash;
	letter->id = other->id;
	letter->news = *news;
	answer_copy(&letter->news.answer, &news->answer, &letter->mem);
	atomic_fetch_add(&other->door->refs, 1);
	worker_post(other->door->worker, &letter->letter);
}

void meet_end(struct meet *meet, const struct meet_news *news)
{
	struct meet *follower;
	if (!meet->common)
		return;
	pthread_mutex_lock(&meet->common->lock);
	if (meet->role != MEET_IDLE)
		LIST_REMOVE(meet, link);
	if (meet->role == MEET_FOLLOWS && LIST_EMPTY(&meet->leader->followers))
		tell(meet->leader, &(struct meet_news){.alone = true, .in_vain = news->in_vain});
	while (meet->role == MEET_LEADS && (follower = LIST_FIRST(&meet->followers))) {
		LIST_REMOVE(follower, link);
		follower->role = MEET_IDLE;
		tell(follower, news);
	}
	meet->role = MEET_IDLE;
	pthread_mutex_unlock(&meet->common->lock);
}
