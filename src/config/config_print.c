/* What would run, as YAML that loads again; secrets are left out. */
#include "config/config_parts.h"

#include <strings.h>

enum { COLUMNS = 80 };

/* -- characters -- */

/* Takes one UTF-8 character off *rest; a byte that begins none is -1. */
static int32_t next_char(struct str *rest)
{
	const unsigned char *p = (const unsigned char *)rest->ptr;
	size_t n = p[0] < 0x80 ? 1 : p[0] < 0xC2 ? 0 : p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;
	int32_t c = n == 1 ? p[0] : n == 2 ? p[0] & 0x1F : n == 3 ? p[0] & 0x0F : p[0] & 0x07;
	bool good = n > 0 && n <= rest->len && p[0] < 0xF5;
	for (size_t i = 1; good && i < n; i++) {
		good = (p[i] & 0xC0) == 0x80;
		c = c << 6 | (p[i] & 0x3F);
	}
	good = good && c <= 0x10FFFF && !(n == 3 && c < 0x800) && !(n == 4 && c < 0x10000) &&
	       !(c >= 0xD800 && c < 0xE000);
	*rest = str_skip(*rest, good ? n : 1);
	return good ? c : -1;
}

/* May it stand in a quoted scalar? Line breaks of any script and what YAML calls unprintable may
 * not. */
static bool is_printable(int32_t c)
{
	bool break_or_mark =
		c == 0x2028 || c == 0x2029 || c == 0xFEFF || c == 0xFFFE || c == 0xFFFF;
	return c >= 0x20 && !(c >= 0x7F && c < 0xA0) && !break_or_mark;
}

static void write_escaped(FILE *out, int32_t c, unsigned char byte)
{
	if (c == '\n' || c == '\t' || c == '\r')
		fprintf(out, "\\%c", c == '\n' ? 'n' : c == '\t' ? 't' : 'r');
	else if (c < 0x100)
		fprintf(out, "\\x%02x", c < 0 ? byte : (unsigned)c);
	else
		fprintf(out, "\\u%04x", (unsigned)c);
}

static bool is_plain(struct str s)
{
	if (s.len == 0 || s.ptr[0] == '-' || s.ptr[0] == '.' || (s.ptr[0] == '0' && s.len > 1))
		return false;
	for (size_t i = 0; i < s.len; i++) {
		char c = s.ptr[i];
		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
			    strchr("-_./", c)) ||
			c == '\0')
			return false;
	}
	return true;
}

/* A key as it is, or a value, whose dollars before a brace are doubled: they would name a variable
 * of the environment. */
void config_write_scalar(FILE *out, struct str s, bool is_value)
{
	if (is_plain(s)) {
		fwrite(s.ptr, 1, s.len, out);
		return;
	}
	fputc('"', out);
	while (s.len > 0) {
		size_t dollars = 0;
		while (dollars < s.len && s.ptr[dollars] == '$')
			dollars++;
		bool brace = is_value && dollars < s.len && s.ptr[dollars] == '{';
		for (size_t i = 0; i < dollars; i++)
			fputs(brace ? "$$" : "$", out);
		s = str_skip(s, dollars);
		if (s.len == 0)
			break;
		const char *at = s.ptr;
		int32_t c = next_char(&s);
		if (c == '"' || c == '\\')
			fprintf(out, "\\%c", (char)c);
		else if (is_printable(c))
			fwrite(at, 1, (size_t)(s.ptr - at), out);
		else
			write_escaped(out, c, (unsigned char)*at);
	}
	fputc('"', out);
}

/* -- secrets in plain sight -- */

/* Without the password of any URL in it: https://user:(secret)@host/. */
static struct str masked_urls(struct arena *mem, struct str text)
{
	struct str all = {"", 0}, rest = text;
	const char *at;
	while (rest.len > 0 && (at = memmem(rest.ptr, rest.len, "://", 3))) {
		struct str authority = str_skip(rest, (size_t)(at + 3 - rest.ptr));
		size_t n = 0;
		while (n < authority.len && !strchr("/?# \t\r\n", authority.ptr[n]))
			n++;
		authority.len = n;
		const char *host = memrchr(authority.ptr, '@', n);
		const char *colon =
			host ? memchr(authority.ptr, ':', (size_t)(host - authority.ptr)) : NULL;
		const char *stop = colon ? colon + 1 : authority.ptr + n;
		all = arena_printf(mem, "%s%.*s%s", all.ptr, (int)(stop - rest.ptr), rest.ptr,
			colon ? "(secret)" : "");
		const char *next = colon ? host : stop;
		rest = str_skip(rest, (size_t)(next - rest.ptr));
	}
	return arena_printf(mem, "%s%.*s", all.ptr, (int)rest.len, rest.ptr);
}

/* `user:password@proxy:3128` is a proxy as well. */
static struct str masked_proxy(struct arena *mem, struct str text)
{
	return str_skip(masked_urls(mem, arena_printf(mem, "://%s", text.ptr)), strlen("://"));
}

/* Headers and the like whose name says what they hold. */
static bool names_secret(const char *name)
{
	static const char *const words[] = {"authorization", "x-auth", "token", "secret",
		"password", "cookie", "api-key", "apikey"};
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strcasestr(name, words[i]))
			return true;
	return false;
}

/* -- settings -- */

/* Where the settings of one structure go, and what they are compared with. */
struct printer {
	FILE *out;
	struct arena *mem;
	const char *indent;
	struct str defaults; /* "key: value, key: value" */
};

static void write_value(struct printer *printer, struct str value)
{
	config_write_scalar(printer->out, masked_urls(printer->mem, value), true);
}

static void print_map(struct printer *printer, const struct setting_map *map)
{
	for (size_t i = 0; i < map->n; i++) {
		fprintf(printer->out, "\n%s  ", printer->indent);
		config_write_scalar(printer->out, map->pairs[i].name, false);
		fputs(": ", printer->out);
		write_value(printer, names_secret(map->pairs[i].name.ptr) ? STR("(secret)")
									  : map->pairs[i].value);
	}
	fputs("\n", printer->out);
}

static void print_words(struct printer *printer, const struct str *items, size_t n)
{
	fputs(" [", printer->out);
	for (size_t i = 0; i < n; i++) {
		fputs(i ? ", " : "", printer->out);
		write_value(printer, items[i]);
	}
	fputs("]\n", printer->out);
}

static void print_tables(struct printer *printer, const struct table_list *list)
{
	struct str *names = arena_alloc(printer->mem, list->n * sizeof(*names));
	for (size_t i = 0; i < list->n; i++)
		names[i] = str_of(list->tables[i]->name);
	print_words(printer, names, list->n);
}

static void print_setting(struct printer *printer, const struct setting *setting, const void *conf)
{
	const void *member = (const char *)conf + setting->offset;
	const struct setting_list *list = member;
	struct str text;
	fprintf(printer->out, "%s%s:", printer->indent, setting->name);
	switch (setting->kind) {
	case SET_MAP:
		print_map(printer, member);
		return;
	case SET_LIST:
		print_words(printer, list->items, list->n);
		return;
	case SET_TABLES:
		print_tables(printer, member);
		return;
	default:
		break;
	}
	setting_print(setting, conf, printer->mem, &text);
	if (strcmp(setting->name, "proxy") == 0)
		text = masked_proxy(printer->mem, text);
	fputc(' ', printer->out);
	if (setting->kind == SET_SECRET)
		fputs("(secret)", printer->out);
	else
		write_value(printer, text);
	fputc('\n', printer->out);
}

static bool is_default(struct printer *printer, const struct setting *setting, const void *conf,
	const void *fallbacks)
{
	struct str now, before;
	if (!setting->fallback)
		return false;
	if (setting->kind == SET_TABLES)
		return ((const struct table_list *)((const char *)conf + setting->offset))->n == 0;
	setting_print(setting, conf, printer->mem, &now);
	setting_print(setting, fallbacks, printer->mem, &before);
	return str_eq(now, before);
}

static void add_default(struct printer *printer, const char *name, const char *value)
{
	printer->defaults = arena_printf(printer->mem, "%s%s%s: %s",
		printer->defaults.len ? printer->defaults.ptr : "",
		printer->defaults.len ? ", " : "", name, *value ? value : "\"\"");
}

/* Those that differ from their fallbacks; the others are kept for the comment. */
static void print_settings(
	struct printer *printer, const struct setting *settings, const void *conf, size_t size)
{
	void *fallbacks = arena_alloc(printer->mem, size);
	if (!settings)
		return;
	setting_fill(settings, fallbacks, printer->mem);
	for (const struct setting *s = settings; s->name; s++) {
		struct str text;
		if (!is_default(printer, s, conf, fallbacks)) {
			print_setting(printer, s, conf);
			continue;
		}
		setting_print(s, conf, printer->mem, &text);
		bool unset = *s->fallback == '\0';
		if (!unset)
			add_default(printer, s->name, text.ptr);
	}
}

/* Comment lines no wider than a terminal; a break only where a blank is. */
static void print_defaults(struct printer *printer)
{
	struct str rest = printer->defaults, word;
	size_t column = 0, margin = strlen(printer->indent);
	const char *intro = "# default: ";
	while (str_word(&rest, &word)) {
		bool fits = column + 1 + word.len <= COLUMNS;
		if (column == 0 || !fits) {
			fprintf(printer->out, "%s%s%s", column ? "\n" : "", printer->indent,
				column ? "#   " : intro);
			column = margin + strlen(column ? "#   " : intro);
		} else {
			fputc(' ', printer->out);
			column++;
		}
		fwrite(word.ptr, 1, word.len, printer->out);
		column += word.len;
	}
	if (column > 0)
		fputc('\n', printer->out);
	printer->defaults = (struct str){0};
}

/* -- the parts -- */

static void print_key(struct printer *printer, const char *key, const char *value)
{
	fprintf(printer->out, "%s: ", key);
	write_value(printer, str_of(value));
	fputc('\n', printer->out);
}

static void print_globals(struct printer *printer, const struct config *config)
{
	struct str text;
	const char *map = "";
	for (const struct setting *s = global_settings; s->name; s++) {
		setting_print(s, config, printer->mem, &text);
		if (text.len == 0)
			continue;
		const char *dot = strchr(s->name, '.');
		if (!dot) {
			print_key(printer, s->name, text.ptr);
			continue;
		}
		struct str head = {s->name, (size_t)(dot - s->name)};
		if (!str_eq(head, str_of(map)))
			fprintf(printer->out, "%s:\n", map = arena_str(printer->mem, head).ptr);
		fputs("  ", printer->out);
		print_key(printer, dot + 1, text.ptr);
	}
}

static void print_listener(struct printer *printer, const struct listen_conf *listen)
{
	struct str idle = {"", 0};
	fprintf(printer->out, "  # %s\n", listen->where);
	print_key(printer, "  - protocol", listen->codec->name);
	print_key(printer, "    address", listen->address_text);
	print_settings(printer, listen_settings, &listen->options, sizeof(listen->options));
	print_settings(printer, listen->codec->settings, listen->conf, listen->codec->conf_size);
	if (listen->options.idle_timeout < 0) {
		const struct setting as = {.name = "idle_timeout", .kind = SET_MSEC};
		int64_t msec = listen_idle_timeout(listen);
		setting_print(&as, &msec, printer->mem, &idle);
		add_default(printer, as.name, idle.ptr);
	}
	print_defaults(printer);
}

static void print_table(struct printer *printer, const struct table_conf *table)
{
	const struct table_conf *core = table_core(table);
	const struct backend *backend = core->backend;
	fprintf(printer->out, "  # %s\n", table->where);
	print_key(printer, "  - name", table->name);
	print_key(printer, "    type", backend->name);
	print_settings(printer, backend->settings, core->conf, backend->conf_size);
	print_settings(printer, table_settings, &table->options, sizeof(table->options));
	for (size_t i = 0; composites[i]; i++)
		print_settings(printer, composites[i]->settings, table->composite_confs[i],
			composites[i]->conf_size);
	print_defaults(printer);
	if (table->options.side_effects)
		fprintf(printer->out, "%s# side_effects: nothing is cached, retried or shared\n",
			printer->indent);
}

void config_write(const struct config *config, FILE *out)
{
	struct arena mem = {0};
	struct printer printer = {.out = out, .mem = &mem, .indent = "    "};
	print_globals(&printer, config);
	fputs("\nlisteners:\n", out);
	for (size_t i = 0; i < config->nlistens; i++)
		print_listener(&printer, &config->listens[i]);
	if (config->ntables > 0)
		fputs("\ntables:\n", out);
	for (size_t i = 0; i < config->ntables; i++)
		if (!config->tables[i].hidden)
			print_table(&printer, &config->tables[i]);
	arena_clear(&mem);
}

void config_print(const struct config *config)
{
	config_write(config, stdout);
	fflush(stdout);
}
