/* `mapmux help`: the options, and what a table type or a protocol can be told. All of it comes from
 * the lists and schemas that the loader reads by. */
#include <inttypes.h>
#include <stdio.h>

#include "config/config_parts.h"

enum { COLUMNS = 80 };

/* The words of `text` behind `indent` blanks, in lines that fit a terminal. */
static void print_wrapped(const char *text, int indent)
{
	struct str rest = str_of(text), word;
	size_t column = 0;
	while (str_word(&rest, &word)) {
		if (column > 0 && column + 1 + word.len > COLUMNS) {
			putchar('\n');
			column = 0;
		}
		if (column == 0)
			column = (size_t)printf("%*s%.*s", indent, "", (int)word.len, word.ptr);
		else
			column += (size_t)printf(" %.*s", (int)word.len, word.ptr);
	}
	putchar('\n');
}

/* "  NAME" and its line beside it, or below when the name is long. */
static void print_item(const char *name, const char *text)
{
	enum { TEXT_AT = 16 };
	if (strlen(name) + 3 < TEXT_AT && TEXT_AT + strlen(text) <= COLUMNS) {
		printf("  %-*s%s\n", TEXT_AT - 2, name, text);
		return;
	}
	printf("  %s\n", name);
	print_wrapped(text, 8);
}

/* -- settings -- */

static struct str kind_text(const struct setting *setting, struct arena *mem)
{
	static const char *const words[] = {
		[SET_STR] = "TEXT",
		[SET_SECRET] = "SECRET",
		[SET_INT] = "NUMBER",
		[SET_BOOL] = "yes|no",
		[SET_MSEC] = "TIME",
		[SET_BYTES] = "SIZE",
		[SET_MAP] = "MAP",
		[SET_LIST] = "WORDS",
		[SET_TABLES] = "TABLES",
	};
	struct str all = {"", 0};
	if (setting->kind != SET_CHOICE)
		return str_of(words[setting->kind]);
	for (int i = 0; setting->choices[i]; i++)
		all = arena_printf(mem, "%s%s%s", all.ptr, i ? "|" : "", setting->choices[i]);
	return all;
}

static void print_setting(const struct setting *setting)
{
	struct arena mem = {0};
	bool has_default = setting->fallback && *setting->fallback;
	struct str kind = kind_text(setting, &mem);
	printf("  %s: %s", setting->name, kind.ptr);
	if (!setting->fallback)
		printf(" (must be given)");
	else if (has_default)
		printf(" (default %s)", setting->fallback);
	if (setting->kind == SET_SECRET)
		printf(", or %s_file: FILE", setting->name);
	putchar('\n');
	if (setting->help)
		print_wrapped(setting->help, 8);
	arena_clear(&mem);
}

static void print_settings(const struct setting *settings)
{
	for (const struct setting *s = settings; s && s->name; s++)
		print_setting(s);
}

static void print_kinds(void)
{
	putchar('\n');
	print_wrapped("TIME is written like 500ms, 5s, 2m or 1h; SIZE like 512, 64k, 10m or 1g. "
		      "MAP is a YAML map, or NAME.KEY=VALUE on the command line. WORDS and TABLES "
		      "are a YAML list, or words with blanks between them. ${NAME} in any value is "
		      "taken from the environment; $${ stands for a plain ${.",
		0);
}

/* -- one type, one protocol -- */

static void print_operations(const struct backend *backend)
{
	const char *before = "Answers:";
	for (int op = 0; op < OP_COUNT; op++)
		if (backend->ops & CAN(op)) {
			printf("%s %s", before, op_name(op));
			before = ",";
		}
	putchar('\n');
}

static void help_type(const struct backend *backend)
{
	printf("%s, a type of table: %s\n\n", backend->name, backend->help);
	print_operations(backend);
	puts("\nSettings (\"param\" by --param, the others by --option KEY=VALUE, or as YAML "
	     "keys):");
	print_settings(backend->settings);
	puts("\nSettings of every table:");
	print_settings(table_settings);
	for (const struct backend *const *composite = composites; *composite; composite++)
		print_settings((*composite)->settings);
	print_kinds();
}

static const char *protocol_help(const char *name)
{
	static const struct {
		const char *name, *help;
	} lines[] = {
		{"socketmap", "Postfix's socketmap tables (netstrings)"},
		{"dict", "Dovecot's dict protocol, majors 2 to 4"},
		{"tcp", "Postfix's tcp_table: needs a table"},
		{"policy", "Postfix's policy delegation: needs a table"},
		{"sasl", "Dovecot's auth protocol, as Postfix speaks it: needs a table"},
		{"http", "metrics, health, lookups and writes over HTTP"},
	};
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		if (strcmp(lines[i].name, name) == 0)
			return lines[i].help;
	return "";
}

static void help_protocol(const struct codec *codec)
{
	printf("%s, a protocol: %s\n\n", codec->name, protocol_help(codec->name));
	printf("  --listen %s:ADDRESS[,key=value]...\n\n", codec->name);
	print_wrapped("ADDRESS is unix:PATH, HOST:PORT, [V6]:PORT, :PORT (every address of the "
		      "machine) or systemd:NAME (a socket that systemd hands over). In YAML it is "
		      "the key \"address\", beside \"protocol\".",
		0);
	puts("\nKeys:");
	print_settings(codec->settings);
	print_settings(listen_settings);
	if (codec->idle_timeout > 0)
		printf("        default: %" PRId64 "s\n", codec->idle_timeout / 1000);
	else
		puts("        default: 0");
	print_kinds();
}

/* -- everything -- */

static void print_options(void)
{
	for (const struct arg_option *option = arg_options; option->name; option++) {
		printf("  %s%s%s%s\n", option->short_name ? option->short_name : "", option->name,
			option->value ? " " : "", option->value ? option->value : "");
		print_wrapped(option->help, 8);
	}
}

static void help_all(void)
{
	puts("mapmux " MAPMUX_VERSION ": answers Postfix and Dovecot from named tables\n\n"
	     "  mapmux [serve] [OPTIONS]    run the daemon in the foreground\n"
	     "  mapmux check [OPTIONS]      check the configuration, print what would run\n"
	     "  mapmux query ENDPOINT KEY...\n"
	     "                              ask a running server; see mapmux query --help\n"
	     "  mapmux convert podop ARGS | userli | rest-connector FILE\n"
	     "                              print the YAML that replaces that program\n"
	     "  mapmux help [TYPE|PROTOCOL] this text, or what a type or protocol can be told\n"
	     "  mapmux version\n\n"
	     "Options of serve and check:");
	print_options();
	puts("\nProtocols (mapmux help PROTOCOL):");
	for (const struct codec *const *codec = codecs; *codec; codec++)
		print_item((*codec)->name, protocol_help((*codec)->name));
	puts("\nTypes of tables (mapmux help TYPE):");
	for (const struct backend *const *backend = backends; *backend; backend++)
		print_item((*backend)->name, (*backend)->help);
	putchar('\n');
	print_wrapped("The same can be written in YAML files; conf/mapmux.yaml shows every key. "
		      "${NAME} in any value, here and there, is taken from the environment.",
		0);
}

bool config_help(const char *type)
{
	if (!type) {
		help_all();
		return true;
	}
	const struct backend *backend = backend_find(str_of(type));
	const struct codec *codec = codec_find(str_of(type));
	if (backend)
		help_type(backend);
	if (backend && codec)
		putchar('\n');
	if (codec)
		help_protocol(codec);
	return backend || codec;
}
