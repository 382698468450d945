/* The static table as a list of passwords. Hashes are worked out beside the loop. */
#include "static_auth.h"

#include <stdlib.h>

#include "engine/helper.h"
#include "engine/worker.h"
#include "password.h"

/* On its way through the helper; it outlives its query when that is cancelled. */
struct check {
	struct chore chore;
	struct query *query; /* NULL: nobody waits */
	struct str user;     /* in the query's memory */
	bool known;          /* whose password it is, is the user's; else it only takes the time */
	bool right;
	size_t size;  /* of: */
	char given[]; /* and behind it the hash; both C strings */
};

static const char *hash_of(const struct check *check)
{
	return check->given + strlen(check->given) + 1;
}

static void answer(struct query *query, struct str user, bool right)
{
	if (right)
		query_ok(query, user);
	else
		query_notfound(query);
}

/* On the helper's thread. */
static void run(struct chore *chore)
{
	struct check *check = (struct check *)(void *)chore;
	check->right = password_is_crypt(hash_of(check), check->given);
}

static void check_free(struct check *check)
{
	explicit_bzero(check->given, check->size);
	free(check);
}

static void done(struct chore *chore)
{
	struct check *check = (struct check *)(void *)chore;
	if (check->query)
		answer(check->query, check->user, check->right && check->known);
	check_free(check);
}

static void start_crypt(struct query *query, struct str hash, struct str given, bool known)
{
	size_t size = given.len + 1 + hash.len + 1;
	struct check *check = memory_new(sizeof(*check) + size);
	*check = (struct check){.chore.run = run,
		.chore.done = done,
		.query = query,
		.user = arena_str(query->mem, query->ask->key), /* the question may go */
		.known = known,
		.size = size};
	memcpy(check->given, given.ptr, given.len);
	memcpy(check->given + given.len + 1, hash.ptr, hash.len);
	query->work = check;
	if (helper_start(worker_helper(query->table->worker), &check->chore))
		return;
	check_free(check);
	query_temp(query, "too many passwords to check");
}

/* So that time does not tell whether there is such a user, one that is unknown has somebody's password,
 * and fails whatever comes. */
static const struct map_entry *entry_for(const struct map *map, struct str user, bool *known)
{
	const struct map_entry *entry = map_find(map, user);
	*known = entry && entry->status[FORM_TEXT] == ST_OK;
	if (*known || map->n == 0)
		return *known ? entry : NULL;
	entry = &map->entries[str_hash(user) % map->n];
	return entry->status[FORM_TEXT] == ST_OK ? entry : NULL;
}

void static_auth_start(struct query *query, const struct map *map)
{
	const struct pair *given =
		pair_find(query->ask->attrs, query->ask->nattrs, STR("password"));
	struct password stored;
	bool known;
	if (!given) {
		query_perm(query, "static knows passwords and no tokens");
		return;
	}
	const struct map_entry *entry = entry_for(map, query->ask->key, &known);
	if (!entry || password_read(entry_value(entry, FORM_TEXT), &stored))
		query_notfound(query); /* each was read when the map was */
	else if (stored.plain)
		answer(query, arena_str(query->mem, query->ask->key),
			str_eq_secret(stored.text, given->value) && known);
	else
		start_crypt(query, stored.text, given->value, known);
}

void static_auth_cancel(struct query *query)
{
	struct check *check = query->work;
	check->query = NULL;
	if (helper_drop(worker_helper(query->table->worker), &check->chore))
		check_free(check);
}
