/* Names and values in order, with expiry and a bound; transactions that happen whole or not at all.
 * Knows no clock and no lock. */
#include "store.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

/* What malloc() needs for itself. */
enum { OVERHEAD = 16 };

static size_t item_bytes(const struct item *item)
{
	return sizeof(*item) + item->height * sizeof(item->next[0]) + item->name_len +
	       item->value_len;
}

static struct item *item_new(struct str name, struct str value, uint64_t expires, unsigned height)
{
	struct item shape = {.expires = expires,
		.height = height,
		.name_len = (uint32_t)name.len,
		.value_len = (uint32_t)value.len};
	struct item *item = memory_new(item_bytes(&shape));
	*item = shape;
	char *text = (char *)(item->next + height);
	memcpy(text, name.ptr, name.len);
	if (value.len > 0)
		memcpy(text + name.len, value.ptr, value.len);
	return item;
}

/* The heap. */

static void heap_set(struct store *store, size_t at, struct item *item)
{
	store->heap[at] = item;
	item->heap_at = at;
}

/* Puts `item` at the free place `at`, or where it belongs above. */
static void heap_rise(struct store *store, size_t at, struct item *item)
{
	while (at > 0 && store->heap[(at - 1) / 2]->expires > item->expires) {
		heap_set(store, at, store->heap[(at - 1) / 2]);
		at = (at - 1) / 2;
	}
	heap_set(store, at, item);
}

/* Lets the free place `at` sink to where `item` can stand below its parent. */
static void heap_sink(struct store *store, size_t at, struct item *item)
{
	for (size_t child; (child = 2 * at + 1) < store->nheap; at = child) {
		if (child + 1 < store->nheap &&
			store->heap[child + 1]->expires < store->heap[child]->expires)
			child++;
		if (store->heap[child]->expires >= item->expires)
			break;
		heap_set(store, at, store->heap[child]);
	}
	heap_rise(store, at, item);
}

static void heap_add(struct store *store, struct item *item)
{
	if (store->nheap == store->heap_room) {
		store->heap_room = store->heap_room ? store->heap_room * 2 : 64;
		store->heap = memory_grow(store->heap, store->heap_room * sizeof(*store->heap));
	}
	heap_rise(store, store->nheap++, item);
}

static void heap_remove(struct store *store, const struct item *item)
{
	struct item *last = store->heap[--store->nheap];
	if (last != item)
		heap_sink(store, item->heap_at, last);
}

/* The list. */

/* For each level the link that leads to the first item whose name does not stand before `name`. */
static void find_links(struct store *store, struct str name, struct item **links[STORE_HEIGHT])
{
	struct item *before = NULL;
	for (int level = STORE_HEIGHT - 1; level >= 0; level--) {
		struct item **link = before ? &before->next[level] : &store->first[level];
		while (*link && str_cmp(item_name(*link), name) < 0) {
			before = *link;
			link = &before->next[level];
		}
		links[level] = link;
	}
}

const struct item *store_seek(const struct store *store, struct str name)
{
	const struct item *before = NULL, *next = NULL;
	for (int level = STORE_HEIGHT - 1; level >= 0; level--) {
		next = before ? before->next[level] : store->first[level];
		while (next && str_cmp(item_name(next), name) < 0) {
			before = next;
			next = next->next[level];
		}
	}
	return next;
}

const struct item *store_find(const struct store *store, struct str name, uint64_t now)
{
	const struct item *item = store_seek(store, name);
	return item && str_eq(item_name(item), name) && item_lives(item, now) ? item : NULL;
}

/* Levels for a new item: each further one with a quarter of the chance. */
static unsigned throw_height(struct store *store)
{
	uint64_t bits = atomic_fetch_add(&store->dice, 0x9e3779b97f4a7c15u); /* splitmix64 */
	bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9u;
	bits = (bits ^ (bits >> 27)) * 0x94d049bb133111ebu;
	bits ^= bits >> 31;
	unsigned height = 1;
	for (; height < STORE_HEIGHT && (bits & 3) == 0; bits >>= 2)
		height++;
	return height;
}

/* Its name is not in the store. */
static void store_put(struct store *store, struct item *item)
{
	struct item **links[STORE_HEIGHT];
	find_links(store, item_name(item), links);
	for (unsigned level = 0; level < item->height; level++) {
		item->next[level] = *links[level];
		*links[level] = item;
	}
	if (item->expires > 0)
		heap_add(store, item);
	store->used += item_bytes(item) + OVERHEAD;
}

/* Takes the item out for the caller to free; NULL when there is none. */
static struct item *store_take(struct store *store, struct str name)
{
	struct item **links[STORE_HEIGHT];
	find_links(store, name, links);
	struct item *item = *links[0];
	if (!item || !str_eq(item_name(item), name))
		return NULL;
	for (unsigned level = 0; level < item->height; level++)
		*links[level] = item->next[level];
	if (item->expires > 0)
		heap_remove(store, item);
	store->used -= item_bytes(item) + OVERHEAD;
	return item;
}

void store_init(struct store *store)
{
	memset(store, 0, sizeof(*store));
}

void store_clear(struct store *store)
{
	while (store->first[0]) {
		struct item *next = store->first[0]->next[0];
		free(store->first[0]);
		store->first[0] = next;
	}
	free(store->heap);
	store_init(store);
}

void store_expire(struct store *store, uint64_t now, size_t chores)
{
	while (chores-- > 0 && store->nheap > 0 && !item_lives(store->heap[0], now))
		free(store_take(store, item_name(store->heap[0])));
}

/* Transactions. */

void commit_prepare(struct commit *commit, struct store *store)
{
	for (size_t i = 0; i < commit->n; i++) {
		struct step *step = &commit->steps[i];
		if (step->change->kind == CH_SET)
			step->now = item_new(step->name, step->change->value, commit->expires,
				throw_height(store));
	}
}

/* The item that takes the place of `old`, or NULL with *status. */
static struct item *increment(
	struct commit *commit, struct store *store, const struct step *step, enum status *status)
{
	int64_t n;
	char digits[24];
	*status = ST_NOTFOUND;
	if (!step->old || !item_lives(step->old, commit->now))
		return NULL;
	*status = ST_PERM;
	if (!str_i64(item_value(step->old), &n)) {
		commit->why = "the value to increment is not a number";
		return NULL;
	}
	if (__builtin_add_overflow(n, step->change->diff, &n)) {
		commit->why = "the number would pass 64 bits";
		return NULL;
	}
	*status = ST_OK;
	struct str value = {digits, (size_t)snprintf(digits, sizeof(digits), "%lld", (long long)n)};
	/* As in Redis an increment does not make a key immortal. */
	return item_new(step->name, value, commit->expires ? commit->expires : step->old->expires,
		throw_height(store));
}

static enum status apply_step(struct commit *commit, struct store *store, struct step *step)
{
	enum status status = ST_OK;
	step->done = true;
	step->old = store_take(store, step->name);
	if (step->change->kind == CH_ADD)
		step->now = increment(commit, store, step, &status);
	if (step->now)
		store_put(store, step->now);
	return status;
}

/* Backwards: a key that was changed twice gets its first value back. */
static void undo(struct commit *commit, struct store *store)
{
	for (size_t i = commit->n; i-- > 0;) {
		struct step *step = &commit->steps[i];
		if (!step->done)
			continue;
		if (step->now)
			store_take(store, step->name);
		if (step->old)
			store_put(store, step->old);
	}
}

enum status commit_apply(struct commit *commit, struct store *store)
{
	enum status status = ST_OK;
	size_t before = store->used;
	for (size_t i = 0; i < commit->n && status == ST_OK; i++)
		status = apply_step(commit, store, &commit->steps[i]);
	while (status == ST_OK && store->used > commit->max && store->nheap > 0 &&
		!item_lives(store->heap[0], commit->now))
		store_expire(store, commit->now, 1);
	/* The bound may have been lowered: what makes the store smaller is never refused. */
	if (status == ST_OK && store->used > commit->max && store->used > before) {
		commit->why = "the table is full";
		status = ST_TEMP;
	}
	commit->applied = status == ST_OK;
	if (!commit->applied)
		undo(commit, store);
	return status;
}

void commit_free(struct commit *commit)
{
	for (size_t i = 0; i < commit->n; i++)
		free(commit->applied ? commit->steps[i].old : commit->steps[i].now);
}
