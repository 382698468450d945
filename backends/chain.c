/* The chain backend: the first of several tables that knows. */
#include <limits.h>
#include <stddef.h>

#include "list.h"
#include "model/query.h"

struct chain_conf {
	struct table_list tables;
	char delimiters[UCHAR_MAX + 1]; /* of all of them, each once */
};

static const struct setting settings[] = {
	{.name = "param",
		.kind = SET_TABLES,
		.offset = offsetof(struct chain_conf, tables),
		.fallback = NULL,
		.help = "names of the tables to ask, in order"},
	{.name = NULL},
};

/* One question on its way along the chain; lives in the asker's arena. */
struct hop {
	struct query child;
	struct query *parent;
	size_t next;         /* table to ask when this one does not know */
	struct answer basis; /* what all answers so far let be kept */
};

static struct hop *hop_of(struct query *child)
{
	return (struct hop *)(void *)((char *)child - offsetof(struct hop, child));
}

static void add_delimiters(struct chain_conf *conf, const char *more)
{
	size_t n = strlen(conf->delimiters);
	for (; more && *more; more++)
		if (!strchr(conf->delimiters, *more))
			conf->delimiters[n++] = *more;
}

static bool check(struct table_conf *table, struct error *error)
{
	struct chain_conf *conf = table->conf;
	unsigned ops = 0;
	if (conf->tables.n == 0)
		return error_set(
			error, "param: names no table; allowed: names of tables, in order");
	for (size_t i = 0; i < conf->tables.n; i++) {
		ops |= conf->tables.tables[i]->ops;
		add_delimiters(conf, conf->tables.tables[i]->delimiters);
	}
	table->ops &= ops;
	table->delimiters = conf->delimiters;
	return true;
}

/* The next table of the chain that has the operation; NULL: none is left. */
static struct table *next_table(struct hop *hop)
{
	const struct query *parent = hop->parent;
	const struct chain_conf *conf = parent->table->conf->conf;
	while (hop->next < conf->tables.n) {
		const struct table_conf *member = conf->tables.tables[hop->next++];
		if (member->ops & CAN(parent->ask->op))
			return table_of(parent->table, member);
	}
	return NULL;
}

static void finish(struct hop *hop)
{
	answer_rest_on(&hop->child.answer, &hop->basis);
	query_finish(hop->parent, &hop->child.answer);
}

/* The member that is asked after that answer; NULL: the chain ends with it. A transaction is the affair of
 * one table: NOTFOUND tells that it changed nothing. */
static struct table *after(struct hop *hop)
{
	const struct query *child = &hop->child;
	answer_rest_on(&hop->basis, &child->answer);
	if (child->answer.status != ST_NOTFOUND || child->ask->op == OP_CHANGE)
		return NULL;
	return next_table(hop);
}

static void on_child(struct query *child);

/* From member to member as long as they answer at once. */
static void ask_on(struct hop *hop, struct table *member)
{
	struct query *child = &hop->child;
	do {
		query_follow(child, hop->parent);
		if (!query_begin(child, member, hop->parent->ask, on_child))
			return;
		member = after(hop);
	} while (member);
	finish(hop);
}

static void on_child(struct query *child)
{
	struct hop *hop = hop_of(child);
	struct table *member = after(hop);
	if (member)
		ask_on(hop, member);
	else
		finish(hop);
}

static void start(struct query *query)
{
	struct hop *hop = arena_alloc(query->mem, sizeof(*hop));
	hop->parent = query;
	query->work = hop;
	/* check() has left only operations that one of the tables has. */
	ask_on(hop, next_table(hop));
}

static void cancel(struct query *query)
{
	struct hop *hop = query->work;
	query_cancel_child(&hop->child, query);
}

const struct backend backend_chain = {
	.name = "chain",
	.help = "the first of several tables that does not say not found",
	.ops = CAN(OP_LOOKUP) | CAN(OP_ITERATE) | CAN(OP_CHANGE) | CAN(OP_POLICY) | CAN(OP_AUTH),
	.can_expire = true, /* if the table that is to change can */
	.asks_tables = true,
	.settings = settings,
	.conf_size = sizeof(struct chain_conf),
	.check = check,
	.start = start,
	.cancel = cancel,
};
