/* The tables of a draft: types, settings, who asks whom, and the order that follows from it. */
#include "config/config_parts.h"

#include <assert.h>

#include "model/digest.h"

enum { DOVECOT_WAITS_MS = 30000 };

/* What makes a table. */
struct table_head {
	const char *name, *type;
};

static const struct setting table_head_settings[] = {
	{.name = "name",
		.offset = offsetof(struct table_head, name),
		.help = "what clients and other tables call it"},
	{.name = "type", .offset = offsetof(struct table_head, type), .help = "what serves it"},
	{0},
};

/* A table on its way into the configuration. */
struct node {
	struct section *section;
	struct table_head head;
	const struct backend *backend;
	struct table_options options;
	void *conf;
	void *composite_confs[MAX_COMPOSITES];
	struct edge *edges;    /* by setting */
	struct node *asked_by; /* while it is on the path that is walked */
	enum { NODE_NEW, NODE_ON_PATH, NODE_PLACED } state;
	struct table_conf *core;  /* its place in the configuration, when it has one */
	struct table_conf *table; /* the same, or the outermost composite around it */
};

/* One setting of a node that names tables. */
struct edge {
	const struct setting *setting;
	const struct entry *entry;
	struct node **to;
	size_t n;
	struct edge *next;
};

struct loader {
	struct config *config;
	struct draft *draft;
	struct node *nodes;
	size_t n;
	struct error *error;
};

/* -- one table -- */

/* How a message calls a table that is not whole. */
static const char *title_of(struct loader *loader, const struct section *section)
{
	const struct entry *first = STAILQ_FIRST(&section->entries);
	const struct entry *name = section_find(section, "name");
	if (name && name->kind == ENTRY_TEXT)
		return arena_printf(&loader->draft->mem, "the table \"%s\"", name->text.ptr).ptr;
	if (!first || first->kind != ENTRY_TEXT)
		return "a table without a name";
	return arena_printf(&loader->draft->mem, "the table that begins with %s \"%s\"",
		first->key.ptr, first->text.ptr)
		.ptr;
}

static bool find_backend(struct loader *loader, struct node *node)
{
	struct draft *draft = loader->draft;
	struct choices choices = {.mem = &draft->mem};
	struct str type = {0};
	bool given = section_find(node->section, "type");
	if (given && !section_text(draft, node->section, "type", &type, loader->error))
		return false;
	node->backend = given ? backend_find(type) : NULL;
	if (node->backend)
		return true;
	choices.wanted = type;
	for (const struct backend *const *b = backends; *b; b++)
		choices_add(&choices, (*b)->name);
	const char *place = section_place(draft, node->section, "type");
	if (given)
		return fail_at(loader->error, place, "there is no type \"%s\"; %s", type.ptr,
			choices_print(&choices));
	return fail_at(loader->error, place, "is missing for %s; %s",
		title_of(loader, node->section), choices_print(&choices));
}

/* Protocols end the name at a blank, a TAB or a line end. */
static bool check_name(struct loader *loader, const struct node *node)
{
	const char *place = section_place(loader->draft, node->section, "name");
	const char *name = node->head.name;
	if (*name == '\0')
		return fail_at(loader->error, place,
			"is empty; allowed: any text without white "
			"space and control characters");
	for (const char *c = name; *c; c++)
		if ((unsigned char)*c <= ' ' || *c == 0x7F)
			return fail_at(loader->error, place,
				"\"%s\" holds white space or a control character; allowed: any "
				"text without these",
				name);
	for (const struct node *other = loader->nodes; other < node; other++)
		if (strcmp(other->head.name, name) == 0)
			return fail_at(loader->error, place,
				"there is a table \"%s\" already (%s); allowed: once", name,
				other->section->where);
	return true;
}

static bool read_node(struct loader *loader, struct node *node)
{
	struct arena *mem = &loader->config->mem;
	struct draft *draft = loader->draft;
	if (!find_backend(loader, node))
		return false;
	assert(node->backend); /* the analyzer does not see that failures return false */
	node->conf = arena_alloc(mem, node->backend->conf_size);
	struct target targets[3 + MAX_COMPOSITES] = {{table_head_settings, &node->head},
		{node->backend->settings, node->conf}, {table_settings, &node->options}};
	size_t n = 3;
	for (size_t i = 0; composites[i]; i++) {
		node->composite_confs[i] = arena_alloc(mem, composites[i]->conf_size);
		targets[n++] = (struct target){composites[i]->settings, node->composite_confs[i]};
	}
	for (size_t i = 0; i < n; i++)
		if (targets[i].settings)
			setting_fill(targets[i].settings, targets[i].conf, mem);
	if (!section_apply(draft, node->section, targets, n, NULL, mem, loader->error) ||
		!check_name(loader, node))
		return false;
	node->options.side_effects = node->options.side_effects || node->backend->has_effects;
	if (node->options.timeout > DOVECOT_WAITS_MS)
		log_warn("%s: is above 30s: Dovecot gives up before the table does",
			section_place(draft, node->section, "timeout"));
	return true;
}

/* -- who asks whom -- */

static struct node *find_node(struct loader *loader, struct str name)
{
	for (size_t i = 0; i < loader->n; i++)
		if (str_eq(name, str_of(loader->nodes[i].head.name)))
			return &loader->nodes[i];
	return NULL;
}

static bool add_target(struct loader *loader, struct edge *edge, struct str name)
{
	struct choices choices = {.mem = &loader->draft->mem, .wanted = name};
	struct node *to = find_node(loader, name);
	if (to) {
		edge->to[edge->n++] = to;
		return true;
	}
	for (size_t i = 0; i < loader->n; i++)
		choices_add(&choices, loader->nodes[i].head.name);
	return fail_at(loader->error, edge->entry->place, "there is no table \"%.*s\"; %s",
		(int)name.len, name.ptr, choices_print(&choices));
}

static bool read_edge(struct loader *loader, struct edge *edge)
{
	const struct entry *entry = edge->entry;
	struct str rest = entry->text, word;
	/* Each name takes a byte at least and a blank. */
	edge->to = arena_alloc(
		&loader->draft->mem, (entry->nitems + rest.len / 2 + 1) * sizeof(*edge->to));
	for (size_t i = 0; i < entry->nitems; i++)
		if (!add_target(loader, edge, entry->items[i]))
			return false;
	while (str_word(&rest, &word))
		if (!add_target(loader, edge, word))
			return false;
	if (edge->n == 0 && !edge->setting->fallback)
		return fail_at(loader->error, entry->place, "names no table; allowed: one or more");
	return true;
}

/* Where the setting is given, and names tables; or NULL. */
static const struct entry *find_names(const struct node *node, const struct setting *setting)
{
	const struct entry *entry = section_find(node->section, setting->name);
	if (!entry || setting->kind == SET_TABLES)
		return entry;
	return entry->kind == ENTRY_TEXT && setting->names_table(entry->text) ? entry : NULL;
}

static bool read_edges(struct loader *loader, struct node *node)
{
	for (const struct setting *s = node->backend->settings; s && s->name; s++) {
		bool may_name = s->kind == SET_TABLES || s->names_table;
		const struct entry *entry = may_name ? find_names(node, s) : NULL;
		if (!entry)
			continue;
		struct edge *edge = arena_alloc(&loader->draft->mem, sizeof(*edge));
		*edge = (struct edge){.setting = s, .entry = entry, .next = node->edges};
		node->edges = edge;
		if (!read_edge(loader, edge))
			return false;
	}
	return true;
}

/* -- the order -- */

/* `from` asks `to`, which is on the path from itself to `from`. */
static bool circle(struct loader *loader, struct node *from, struct node *to, const char *place)
{
	struct str path = str_of(to->head.name);
	for (struct node *node = from; node != to; node = node->asked_by)
		path = arena_printf(&loader->draft->mem, "%s -> %s", node->head.name, path.ptr);
	return fail_at(loader->error, place,
		"tables ask one another in a circle: %s -> %s; allowed: none that leads back",
		to->head.name, path.ptr);
}

static struct table_conf *add_table(
	struct loader *loader, const struct node *node, const struct backend *backend, void *conf)
{
	struct config *config = loader->config;
	struct table_conf *table = &config->tables[config->ntables];
	table->name = node->head.name;
	table->backend = backend;
	table->ops = backend->ops;
	table->index = (unsigned)config->ntables++;
	table->options = node->options;
	table->conf = conf;
	table->where = arena_str(&config->mem, str_of(node->section->where)).ptr;
	memcpy(table->composite_confs, node->composite_confs, sizeof(table->composite_confs));
	return table;
}

/* Was it given as something else than its fallback? */
static bool is_set(struct loader *loader, const struct setting *setting, const void *conf,
	const void *fallbacks)
{
	struct str now, before;
	setting_print(setting, conf, &loader->draft->mem, &now);
	setting_print(setting, fallbacks, &loader->draft->mem, &before);
	return !str_eq(now, before);
}

/* Options of a composite that side_effects keeps away. */
static void warn_of_side_effects(
	struct loader *loader, const struct node *node, const struct backend *composite, void *conf)
{
	void *fallbacks = arena_alloc(&loader->draft->mem, composite->conf_size);
	if (!node->options.side_effects)
		return;
	setting_fill(composite->settings, fallbacks, &loader->draft->mem);
	for (const struct setting *s = composite->settings; s->name; s++)
		if (is_set(loader, s, conf, fallbacks))
			log_warn("%s: has no effect with side_effects: yes",
				section_place(loader->draft, node->section, s->name));
}

/* The node's own table, and the composites that its options want around it. */
static void add_tables(struct loader *loader, struct node *node)
{
	node->core = node->table = add_table(loader, node, node->backend, node->conf);
	for (size_t i = 0; composites[i]; i++) {
		if (!composites[i]->wanted(node->table, node->composite_confs[i])) {
			warn_of_side_effects(loader, node, composites[i], node->composite_confs[i]);
			continue;
		}
		struct table_conf *composite =
			add_table(loader, node, composites[i], node->composite_confs[i]);
		composite->inner = node->table;
		node->table->hidden = true;
		node->table = composite;
	}
}

/* Places what the node asks, then the node. */
static bool place_node(struct loader *loader, struct node *node)
{
	node->state = NODE_ON_PATH;
	for (struct edge *edge = node->edges; edge; edge = edge->next)
		for (size_t i = 0; i < edge->n; i++) {
			struct node *to = edge->to[i];
			if (to->state == NODE_ON_PATH)
				return circle(loader, node, to, edge->entry->place);
			if (to->state == NODE_PLACED)
				continue;
			to->asked_by = node;
			if (!place_node(loader, to))
				return false;
		}
	node->state = NODE_PLACED;
	add_tables(loader, node);
	return true;
}

static void fill_lists(struct config *config, struct node *node)
{
	for (struct edge *edge = node->edges; edge; edge = edge->next) {
		const struct setting *setting = edge->setting;
		size_t at = setting->kind == SET_TABLES ? setting->offset : setting->tables_offset;
		struct table_list *list = (struct table_list *)((char *)node->conf + at);
		list->tables = arena_alloc(&config->mem, edge->n * sizeof(*list->tables));
		list->n = edge->n;
		for (size_t i = 0; i < edge->n; i++)
			list->tables[i] = edge->to[i]->table;
	}
}

/* -- the backends' word -- */

/* A message that begins with a key of the table gets that key's place. */
static bool check_failed(struct loader *loader, const struct node *node)
{
	struct error plain = *loader->error;
	struct str rest = str_of(plain.text), key, sub;
	bool cut = str_cut(&rest, ':', &key), from_file;
	const struct setting *settings = node->backend->settings;
	bool known = (settings && setting_find(settings, key, &sub, &from_file)) ||
		     setting_find(table_settings, key, &sub, &from_file);
	for (size_t i = 0; composites[i]; i++)
		known = known || setting_find(composites[i]->settings, key, &sub, &from_file);
	if (!cut || !known)
		return error_prefix(
			loader->error, "%s: table %s", node->section->where, node->head.name);
	const char *name = arena_str(&loader->draft->mem, key).ptr;
	return fail_at(loader->error, section_place(loader->draft, node->section, name), "%s",
		str_trim(rest).ptr);
}

static struct node *node_of(struct loader *loader, const struct table_conf *table)
{
	struct node *node = loader->nodes;
	while (table < node->core || table > node->table)
		node++;
	return node;
}

/* config->ntables counts those that were checked: what a failure has to drop. */
static bool check_all(struct loader *loader)
{
	struct config *config = loader->config;
	size_t n = config->ntables;
	for (config->ntables = 0; config->ntables < n; config->ntables++) {
		struct table_conf *table = &config->tables[config->ntables];
		table->digest = digest_of(table);
		if (table->inner) {
			table->ops = table->inner->ops;
			table->delimiters = table->inner->delimiters;
		}
		if (table->backend->check && !table->backend->check(table, loader->error))
			return check_failed(loader, node_of(loader, table));
	}
	return true;
}

static bool load(struct loader *loader)
{
	struct config *config = loader->config;
	for (size_t i = 0; i < loader->n; i++)
		if (!read_node(loader, &loader->nodes[i]))
			return false;
	for (size_t i = 0; i < loader->n; i++)
		if (!read_edges(loader, &loader->nodes[i]))
			return false;
	config->tables = arena_alloc(
		&config->mem, loader->n * (1 + MAX_COMPOSITES) * sizeof(*config->tables));
	for (size_t i = 0; i < loader->n; i++)
		if (loader->nodes[i].state == NODE_NEW && !place_node(loader, &loader->nodes[i])) {
			config->ntables = 0; /* nothing was checked, nothing is to be dropped */
			return false;
		}
	for (size_t i = 0; i < loader->n; i++)
		fill_lists(config, &loader->nodes[i]);
	return check_all(loader);
}

bool tables_load(struct config *config, struct draft *draft, struct error *error)
{
	struct loader loader = {.config = config, .draft = draft, .error = error};
	struct section *section;
	STAILQ_FOREACH (section, &draft->tables, link)
		loader.n++;
	loader.nodes = arena_alloc(&draft->mem, loader.n * sizeof(*loader.nodes));
	size_t i = 0;
	STAILQ_FOREACH (section, &draft->tables, link)
		loader.nodes[i++].section = section;
	return load(&loader);
}
