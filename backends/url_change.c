/* The url table: transactions, as POST and DELETE in order, up to the first that fails. */
#include "url.h"

#include <inttypes.h>

struct transaction {
	struct url_ask ask;
	size_t at; /* the change under way */
};

static void next_change(struct transaction *transaction);

/* What was written stays written: the transaction is neither done nor undone then. */
static void fail_change(struct transaction *transaction, enum status status, const char *why)
{
	struct url_ask *ask = &transaction->ask;
	bool gateway =
		ask->fetch.result == HTTP_REPLY &&
		(ask->fetch.status == 502 || ask->fetch.status == 504); /* knows no more than we */
	bool unknown =
		gateway || ask->fetch.result == HTTP_BROKEN || ask->fetch.result == HTTP_TOO_LARGE;
	bool uncertain = unknown || transaction->at > 0;
	query_finish(ask->query, &(struct answer){
					 .status = uncertain ? ST_TEMP : status,
					 .uncertain = uncertain,
					 .why = str_of(why),
				 });
}

static void on_changed(struct url_ask *ask)
{
	struct transaction *transaction = (struct transaction *)(void *)ask;
	const struct change *change = &ask->query->ask->changes[transaction->at];
	int http = ask->fetch.status;
	bool reply = ask->fetch.result == HTTP_REPLY;
	const char *why = NULL;
	enum status status = reply && http / 100 == 2 ? ST_OK : url_judge(ask, &why);
	/* Unless the administrator does not take these for the word of the service: `404: temp`. */
	bool absent = reply && (http == 404 || http == 410) && status == ST_NOTFOUND;
	if (reply && (http / 100 == 2 || (absent && change->kind == CH_UNSET))) {
		transaction->at++;
		next_change(transaction);
		return;
	}
	if (absent && change->kind == CH_ADD && transaction->at == 0) {
		query_notfound(ask->query);
		return;
	}
	if (!why)
		why = arena_printf(ask->fetch.mem, "%s: HTTP status %d", url_origin_of(ask), http)
			      .ptr;
	fail_change(transaction, status == ST_PERM ? ST_PERM : ST_TEMP, why);
}

/* The request that makes a change. False when its value is no text, which JSON cannot carry. */
static bool describe_change(struct url_ask *ask, const struct change *change)
{
	struct http_fetch *fetch = &ask->fetch;
	ask->key = change->key;
	ask->scope = change->scope;
	ask->upstream = 0;
	fetch->result = HTTP_REPLY;
	fetch->once = fetch->no_body = true;
	fetch->method = "POST";
	switch (change->kind) {
	case CH_UNSET:
		fetch->method = "DELETE";
		fetch->content_type = NULL;
		return true;
	case CH_ADD:
		fetch->content_type = "application/vnd.mapmux.increment+json";
		fetch->send =
			arena_printf(fetch->mem, "{\"increment\": %" PRIi64 "}", change->diff);
		return true;
	default:
		fetch->content_type = "application/json";
		fetch->send = change->value;
		return json_valid(change->value) ||
		       json_quote(change->value, fetch->mem, &fetch->send);
	}
}

static void next_change(struct transaction *transaction)
{
	struct url_ask *ask = &transaction->ask;
	const struct question *question = ask->query->ask;
	if (transaction->at == question->nchanges) {
		query_finish(ask->query, &(struct answer){.status = ST_OK});
		return;
	}
	describe_change(ask, &question->changes[transaction->at]);
	if (!url_ask_start(ask)) /* the templates of the upstreams differ */
		fail_change(transaction, ST_PERM, "a key that cannot stand in the URL");
}

/* What can be refused is refused before anything is written. */
void url_start_change(struct query *query)
{
	struct transaction *transaction = arena_alloc(query->mem, sizeof(*transaction));
	struct url_ask *ask = &transaction->ask;
	struct url_state *state = query->table->state;
	url_ask_init(ask, query, on_changed);
	query->work = ask;
	for (size_t i = 0; i < query->ask->nchanges; i++) {
		if (!describe_change(ask, &query->ask->changes[i])) {
			query_perm(query, "a value that is no UTF-8 text cannot be sent as JSON");
			return;
		}
		if (!url_fill(ask, &state->url)) {
			url_refuse_query(ask);
			return;
		}
	}
	next_change(transaction);
}
