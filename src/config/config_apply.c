/* Entries of a section into typed members, by the schemas that know their keys. */
#include "config/config_parts.h"

#include "base/buf.h"

/* One section on its way into its targets. */
struct apply {
	struct draft *draft;
	const struct section *section;
	const struct target *targets;
	size_t ntargets;
	const char *extra;
	struct arena *mem;
	struct error *error;
};

bool section_text(struct draft *draft, const struct section *section, const char *key,
	struct str *text, struct error *error)
{
	const struct entry *entry = section_find(section, key);
	if (!entry || entry->kind != ENTRY_TEXT)
		return fail_at(error, section_place(draft, section, key),
			"is a list or a map; allowed: a single value");
	*text = entry->text;
	return true;
}

/* -- keys that nobody knows -- */

static const char *twin_name(struct arena *mem, const struct setting *setting)
{
	return arena_printf(mem, "%s_file", setting->name).ptr;
}

static void add_names(const struct target *target, struct choices *choices)
{
	for (const struct setting *s = target->settings; s && s->name; s++) {
		choices_add(choices, s->name);
		if (s->kind == SET_SECRET)
			choices_add(choices, twin_name(choices->mem, s));
	}
}

/* The parts of a map in the schema, as "log" has "log.level", for messages; NULL: it is none. */
static const char *parts_of(const struct apply *apply, struct str key)
{
	struct choices parts = {.mem = &apply->draft->mem};
	for (size_t i = 0; i < apply->ntargets; i++)
		for (const struct setting *s = apply->targets[i].settings; s && s->name; s++)
			if (str_starts(str_of(s->name), key) && s->name[key.len] == '.')
				choices_add(&parts, s->name + key.len + 1);
	return parts.text.len ? parts.text.ptr : NULL;
}

static bool unknown_key(const struct apply *apply, const struct entry *entry)
{
	struct choices choices = {.mem = &apply->draft->mem, .wanted = entry->key};
	struct str rest = entry->key, head;
	for (size_t i = 0; i < apply->ntargets; i++)
		add_names(&apply->targets[i], &choices);
	if (apply->extra) {
		struct str words = str_of(apply->extra), word;
		while (str_word(&words, &word))
			choices_add(&choices, arena_str(choices.mem, word).ptr);
	}
	bool dotted = str_cut(&rest, '.', &head);
	const char *parts = dotted ? parts_of(apply, head) : NULL;
	if (parts)
		return fail_at(apply->error, entry->place, "unknown key; allowed in \"%.*s\": %s",
			(int)head.len, head.ptr, parts);
	return fail_at(apply->error, entry->place, "unknown key; %s", choices_print(&choices));
}

/* -- one entry -- */

static const struct setting *find(const struct apply *apply, struct str key,
	const struct target **target, struct str *sub, bool *from_file)
{
	for (size_t i = 0; i < apply->ntargets; i++) {
		*target = &apply->targets[i];
		const struct setting *setting =
			(*target)->settings ? setting_find((*target)->settings, key, sub, from_file)
					    : NULL;
		if (setting)
			return setting;
	}
	return NULL;
}

static bool put_secret_file(const struct apply *apply, const struct setting *setting,
	const struct target *target, const struct entry *entry)
{
	const struct entry *plain = section_find(apply->section, setting->name);
	struct str secret;
	if (plain)
		return fail_at(apply->error, entry->place,
			"cannot go with %s, which is given at %s; allowed: one of the two",
			setting->name, plain->place);
	if (entry->kind != ENTRY_TEXT || entry->text.len == 0)
		return fail_at(apply->error, entry->place, "is no path; allowed: a file's name");
	if (!setting_read_secret(entry->text.ptr, &apply->draft->mem, &secret, apply->error) ||
		!setting_put(
			setting, target->conf, apply->mem, (struct str){0}, secret, apply->error))
		return error_prefix(apply->error, "%s", entry->place);
	return true;
}

/* A list for a setting that takes words in a text: several upstreams in param, say. */
static bool put_joined(const struct apply *apply, const struct setting *setting,
	const struct target *target, const struct entry *entry)
{
	struct str all = {"", 0};
	for (size_t i = 0; i < entry->nitems; i++)
		all = arena_printf(
			&apply->draft->mem, "%s%s%s", all.ptr, i ? " " : "", entry->items[i].ptr);
	return setting_put(setting, target->conf, apply->mem, (struct str){0}, all, apply->error) ||
	       error_prefix(apply->error, "%s", entry->place);
}

static bool put_list(const struct apply *apply, const struct setting *setting,
	const struct target *target, const struct entry *entry)
{
	if (setting->kind == SET_TABLES)
		return true;
	if (setting->kind == SET_STR && strcmp(setting->name, "param") == 0)
		return put_joined(apply, setting, target, entry);
	bool map = setting->kind == SET_MAP && str_eq(entry->key, str_of(setting->name));
	if (setting->kind != SET_LIST)
		return fail_at(apply->error, entry->place, "is a list; allowed: a single value%s",
			map ? " or a map" : "");
	for (size_t i = 0; i < entry->nitems; i++)
		setting_add(setting, target->conf, apply->mem, entry->items[i]);
	return true;
}

static bool put_entry(const struct apply *apply, const struct entry *entry)
{
	const struct target *target;
	struct str sub;
	bool from_file;
	const struct setting *setting = find(apply, entry->key, &target, &sub, &from_file);
	const char *parts = setting ? NULL : parts_of(apply, entry->key);
	if (parts &&
		(entry->kind == ENTRY_MAP || (entry->kind == ENTRY_TEXT && entry->text.len == 0)))
		return true; /* its keys follow, if there are any */
	if (parts)
		return fail_at(apply->error, entry->place,
			"is no map; allowed: a map with any of %s", parts);
	if (!setting)
		return unknown_key(apply, entry);
	if (from_file)
		return put_secret_file(apply, setting, target, entry);
	if (entry->kind == ENTRY_LIST)
		return put_list(apply, setting, target, entry);
	if (entry->kind == ENTRY_MAP)
		return setting->kind == SET_MAP ||
		       fail_at(apply->error, entry->place, "is a map; allowed: a single value%s",
			       setting->kind == SET_LIST || setting->kind == SET_TABLES
				       ? " or a list"
				       : "");
	if (setting->kind == SET_TABLES)
		return true;
	return setting_put(setting, target->conf, apply->mem, sub, entry->text, apply->error) ||
	       error_prefix(apply->error, "%s", entry->place);
}

/* -- all of them -- */

static bool was_given(const struct apply *apply, const struct setting *setting)
{
	const struct entry *entry;
	struct str name = str_of(setting->name);
	STAILQ_FOREACH (entry, &apply->section->entries, link)
		if (str_eq(entry->key, name) ||
			(setting->kind == SET_MAP && str_starts(entry->key, name) &&
				entry->key.ptr[name.len] == '.'))
			return true;
	return setting->kind == SET_SECRET &&
	       section_find(apply->section, twin_name(&apply->draft->mem, setting));
}

static bool check_required(const struct apply *apply, const struct target *target)
{
	for (const struct setting *s = target->settings; s && s->name; s++)
		if (!s->fallback && !was_given(apply, s))
			return fail_at(apply->error,
				section_place(apply->draft, apply->section, s->name),
				"is missing; it must be given: %s", s->help);
	return true;
}

bool section_apply(struct draft *draft, const struct section *section, const struct target *targets,
	size_t ntargets, const char *extra, struct arena *mem, struct error *error)
{
	struct apply apply = {.draft = draft,
		.section = section,
		.targets = targets,
		.ntargets = ntargets,
		.extra = extra,
		.mem = mem,
		.error = error};
	const struct entry *entry;
	STAILQ_FOREACH (entry, &section->entries, link)
		if (!put_entry(&apply, entry))
			return false;
	for (size_t i = 0; i < ntargets; i++)
		if (!check_required(&apply, &targets[i]))
			return false;
	return true;
}
