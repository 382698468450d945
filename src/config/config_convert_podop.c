/* podop's command line as YAML. It is read as `serve` reads it; what podop did otherwise is added. */
#include "config/config_convert.h"
#include "config/config_parts.h"

/* podop knew tables of one type. */
static bool check_types(struct draft *draft, struct error *error)
{
	struct section *section;
	STAILQ_FOREACH (section, &draft->tables, link) {
		static const char *const parts[] = {"name", "type", "param"};
		for (int i = 0; i < 3; i++)
			if (!section_find(section, parts[i]))
				return fail_at(error, section_place(draft, section, parts[i]),
					"is missing: each table needs --name, --type and --param");
		if (!str_eq(section_find(section, "type")->text, STR("url")))
			return fail_at(error, section_place(draft, section, "type"),
				"is no type of podop's; allowed: url");
	}
	return true;
}

static void write_entries(const struct section *section, FILE *out)
{
	const struct entry *entry;
	const char *indent = "  - ";
	STAILQ_FOREACH (entry, &section->entries, link) {
		fprintf(out, "%s%s: ", indent, entry->key.ptr);
		config_write_scalar(out, entry->text, true);
		fputc('\n', out);
		indent = "    ";
	}
}

static void write_table(const struct section *section, FILE *out)
{
	write_entries(section, out);
	fputs("    # only a 404 was an absence; Python's client followed redirects and waited "
	      "300s\n"
	      "    status: {4xx: temp, 410: temp}\n"
	      "    follow_redirects: yes\n"
	      "    timeout: 25s\n"
	      "    connect_timeout: 25s\n"
	      "    # each question was asked, once: leave this out where asking changes nothing\n"
	      "    side_effects: yes\n",
		out);
}

bool convert_podop(int argc, char **argv, FILE *out, struct error *error)
{
	struct draft draft;
	struct section *section;
	draft_init(&draft);
	bool good = config_read_podop(&draft, argc, argv, error) && check_types(&draft, error);
	if (good && STAILQ_EMPTY(&draft.listeners))
		good = error_set(error, "command line: --socket: is missing, and --mode");
	if (good) {
		fputs("# In place of podop. What differs on purpose: docs/migrate.md\n", out);
		STAILQ_FOREACH (section, &draft.globals, link)
			if (section_find(section, "log.level"))
				fputs("log: {level: debug}\n", out);
		fputs("listeners:\n", out);
		STAILQ_FOREACH (section, &draft.listeners, link)
			write_entries(section, out);
		if (!STAILQ_EMPTY(&draft.tables))
			fputs("tables:\n", out);
		STAILQ_FOREACH (section, &draft.tables, link)
			write_table(section, out);
	}
	arena_clear(&draft.mem);
	return good;
}
