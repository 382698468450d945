/* The dict codec's open transactions: what a client says between begin and commit, within bounds. */
#include "front/front_dict.h"

#include <stdlib.h>

enum { MAX_CHANGES = 100000 }; /* of a transaction */

static const struct dict_refusal many_changes = {"too_big", "too many changes in one transaction"};
const struct dict_refusal dict_too_many_bytes = {
	"too_big", "open transactions hold too many bytes"};

size_t dict_transaction_place(const struct dict_session *session, uint32_t id)
{
	size_t from = 0, to = session->nopen;
	while (from < to) {
		size_t middle = from + (to - from) / 2;
		if (session->open[middle]->id < id)
			from = middle + 1;
		else
			to = middle;
	}
	return from;
}

void dict_transaction_poison(struct dict_session *session, struct dict_transaction *transaction,
	const struct dict_refusal *refusal)
{
	transaction->poison = refusal;
	session->gathered -= transaction->bytes;
	transaction->bytes = 0;
	transaction->n = transaction->size = 0;
	free(transaction->changes);
	transaction->changes = NULL;
	transaction->user = STR("");
	arena_clear(&transaction->mem);
}

void dict_transaction_close(struct dict_session *session, size_t place)
{
	session->gathered -= session->open[place]->bytes;
	session->open[place]->bytes = 0;
	session->nopen--;
	memmove(session->open + place, session->open + place + 1,
		(session->nopen - place) * sizeof(session->open[0]));
}

void dict_transaction_free(struct dict_transaction *transaction)
{
	free(transaction->changes);
	arena_clear(&transaction->mem);
	free(transaction);
}

bool dict_transaction_count(
	struct dict_session *session, struct dict_transaction *transaction, size_t bytes)
{
	if (bytes > DICT_MAX_GATHERED - session->gathered)
		return false;
	session->gathered += bytes;
	transaction->bytes += bytes;
	return true;
}

const struct dict_refusal *dict_transaction_add(struct dict_session *session,
	struct dict_transaction *transaction, const struct change *change)
{
	if (transaction->n == MAX_CHANGES)
		return &many_changes;
	if (!dict_transaction_count(
		    session, transaction, sizeof(*change) + change->key.len + change->value.len))
		return &dict_too_many_bytes;
	if (transaction->n == transaction->size) {
		transaction->size = transaction->size ? transaction->size * 2 : 4;
		transaction->changes =
			memory_grow(transaction->changes, transaction->size * sizeof(*change));
	}
	struct change *to = &transaction->changes[transaction->n++];
	*to = *change;
	to->key = arena_str(&transaction->mem, change->key);
	to->value = arena_str(&transaction->mem, change->value);
	return NULL;
}
