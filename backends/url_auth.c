/* The url table: a user and a password go out as JSON, and the status says whether they belong together. */
#include "url.h"

/* A string member of the reply's object; empty: there is none. */
static struct str member(const struct url_ask *ask, const char *pointer)
{
	const struct json_rules rules = {
		.form = FORM_TEXT, .list_separator = STR(","), .pointer = pointer};
	struct str value, body = str_trim(ask->fetch.body);
	const char *why;
	if (body.len == 0 || body.ptr[0] != '{' ||
		json_value(body, &rules, ask->fetch.mem, &value, &why) != ST_OK)
		return STR("");
	return value;
}

static void on_judged(struct url_ask *ask)
{
	struct query *query = ask->query;
	const char *why = NULL;
	enum status status = url_judge(ask, &why);
	if (status == ST_OK) {
		struct str user = member(ask, "/user");
		query_ok(query, user.len > 0 ? user : query->ask->key);
	} else if (status == ST_NOTFOUND) {
		query_finish(query,
			&(struct answer){.status = ST_NOTFOUND, .why = member(ask, "/reason")});
	} else {
		url_finish(ask, status, STR(""), why);
	}
}

/* JSON has no way to say what is no text; and no user has such a name or password. */
static bool is_text(const struct question *question, struct arena *mem)
{
	struct str quoted;
	bool valid = json_quote(question->key, mem, &quoted);
	for (size_t i = 0; i < question->nattrs; i++)
		valid = valid && json_quote(question->attrs[i].value, mem, &quoted);
	return valid;
}

void url_start_auth(struct query *query)
{
	const struct question *question = query->ask;
	struct url_ask *ask = arena_alloc(query->mem, sizeof(*ask));
	struct pair *members = arena_alloc(query->mem, (question->nattrs + 1) * sizeof(*members));
	if (!is_text(question, query->mem)) {
		query_notfound(query);
		return;
	}
	members[0] = (struct pair){STR("user"), question->key};
	if (question->nattrs > 0)
		memcpy(members + 1, question->attrs, question->nattrs * sizeof(*members));
	url_ask_init(ask, query, on_judged);
	ask->is_prefix = true; /* there is no key */
	ask->fetch.method = "POST";
	ask->fetch.secret = true;
	ask->fetch.content_type = "application/json";
	ask->fetch.send = json_object(members, question->nattrs + 1, query->mem);
	query->work = ask;
	if (!url_ask_start(ask))
		query_perm(query, "the URL template needs a key");
}
