/* userli-postfix-adapter's environment as YAML: 3.x, and 1.x with its port for each map. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "config/config_convert.h"
#include "config/config_parts.h"

/* The adapter took an empty variable for one that is not set. */
static const char *env(const char *name, const char *fallback)
{
	const char *value = getenv(name);
	return value && *value ? value : fallback;
}

static bool is_path(const char *address)
{
	size_t n = strlen(address);
	return address[0] == '/' || (n > 5 && strcmp(address + n - 5, ".sock") == 0);
}

static void write_listener(FILE *out, const char *protocol, const char *address)
{
	struct arena mem = {0};
	fprintf(out, "  - protocol: %s\n", protocol);
	convert_put(out, "    address",
		is_path(address) ? arena_printf(&mem, "unix:%s", address).ptr : address);
	if (is_path(address))
		fputs("    mode: \"0666\"\n", out);
	arena_clear(&mem);
}

static const struct {
	const char *table, *variable, *fallback;
} maps[] = {
	{"alias", "ALIAS_LISTEN_ADDR", ":10001"},
	{"domain", "DOMAIN_LISTEN_ADDR", ":10002"},
	{"mailbox", "MAILBOX_LISTEN_ADDR", ":10003"},
	{"senders", "SENDERS_LISTEN_ADDR", ":10004"},
};
enum { MAPS = sizeof(maps) / sizeof(maps[0]) };

/* Variables of 1.x, and none that it did not know: later releases came with an example that still
 * had the former. */
static bool is_old(void)
{
	static const char *const later[] = {"SOCKETMAP_LISTEN_ADDR", "POLICY_LISTEN_ADDR",
		"SASL_LISTEN_ADDR", "RATE_LIMIT_MESSAGE", "REDIS_URL", "LOOKUP_CACHE_TTL",
		"POSTFIX_RECIPIENT_DELIMITER"};
	bool old = false;
	for (int i = 0; i < MAPS; i++)
		old = old || *env(maps[i].variable, "");
	for (size_t i = 0; i < sizeof(later) / sizeof(later[0]); i++)
		old = old && !*env(later[i], "");
	return old;
}

/* It served metrics to everybody; here the same port also shows the tables. */
static void write_metrics(FILE *out, const char *fallback)
{
	struct arena mem = {0};
	const char *address = env("METRICS_LISTEN_ADDR", fallback);
	bool token = *env("METRICS_TOKEN", "");
	if (address[0] == ':' && !token) {
		fputs("  # on all addresses only with METRICS_TOKEN\n", out);
		address = arena_printf(&mem, "127.0.0.1%s", address).ptr;
	}
	write_listener(out, "http", address);
	if (token)
		fputs("    token: \"${METRICS_TOKEN}\"\n", out);
	arena_clear(&mem);
}

static bool has_sasl(bool old)
{
	return !old && *env("SASL_LISTEN_ADDR", "");
}

static void write_listeners(FILE *out, bool old)
{
	fputs("listeners:\n", out);
	for (int i = 0; old && i < MAPS; i++) {
		write_listener(out, "tcp", env(maps[i].variable, maps[i].fallback));
		fprintf(out, "    table: %s\n", maps[i].table);
	}
	if (!old) {
		write_listener(out, "socketmap", env("SOCKETMAP_LISTEN_ADDR", ":10001"));
		write_listener(out, "policy", env("POLICY_LISTEN_ADDR", ":10003"));
		fputs("    table: ratelimit\n    fail_action: DUNNO\n", out);
	}
	if (has_sasl(old)) {
		write_listener(out, "sasl", env("SASL_LISTEN_ADDR", ""));
		/* An outage closes: the adapter's FAIL made clients ask for another password. */
		fputs("    table: auth\n    on_outage: close\n", out);
	}
	write_metrics(out, old ? ":10005" : ":10002");
}

/* A duration as Go writes them ("1m30s", "0") in milliseconds; false when it is none. */
static bool read_duration(const char *text, long long *msec)
{
	static const struct {
		const char *unit;
		double msec;
	} units[] = {{"ms", 1}, {"h", 3600e3}, {"m", 60e3}, {"s", 1e3}};
	double all = 0;
	if (strcmp(text, "0") == 0)
		text++;
	while (*text) {
		char *end;
		size_t i = 0;
		if (strspn(text, "0123456789.") == 0)
			return false;
		double value = strtod(text, &end);
		while (i < 4 && strncmp(end, units[i].unit, strlen(units[i].unit)) != 0)
			i++;
		if (i == 4)
			return false;
		all += value * units[i].msec;
		text = end + strlen(units[i].unit);
	}
	*msec = all < 1e12 ? (long long)all : -1;
	return *msec >= 0;
}

/* The adapter's levels, in any letters; what was above an error is one here. */
static const char *log_level(void)
{
	static const struct {
		const char *theirs, *ours;
	} levels[] = {{"debug", "debug"}, {"info", "info"}, {"warn", "warn"}, {"error", "error"},
		{"dpanic", "error"}, {"panic", "error"}, {"fatal", "error"}};
	const char *level = env("LOG_LEVEL", "info");
	for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
		if (strcasecmp(level, levels[i].theirs) == 0)
			return levels[i].ours;
	return level; /* to be refused by its name */
}

static void write_table(FILE *out, const char *name, long long ttl)
{
	const char *delimiter = env("POSTFIX_RECIPIENT_DELIMITER", "");
	fprintf(out, "  - name: %s\n    type: userli\n", name);
	convert_put(out, "    param", env("USERLI_BASE_URL", "http://localhost:8000"));
	fputs("    token: \"${USERLI_TOKEN}\"\n    timeout: 5s\n    connect_timeout: 5s\n", out);
	if (*delimiter && strcmp(name, "domain") != 0)
		convert_put(out, "    recipient_delimiter", delimiter);
	if (ttl > 0)
		fprintf(out, "    cache: {ttl: %lldms%s}\n", ttl,
			*env("REDIS_URL", "") ? ", shared: \"${REDIS_URL}\"" : "");
}

static void write_ratelimit(FILE *out)
{
	struct arena mem = {0};
	const char *message =
		env("RATE_LIMIT_MESSAGE", "Rate limit exceeded, please try again later");
	write_table(out, "quota", 0);
	fputs("  - name: ratelimit\n    type: ratelimit\n    param: quota\n"
	      "    # half of it is for userli, which had 5s\n    timeout: 10s\n"
	      "    count_rejected: yes\n",
		out);
	convert_put(out, "    on_exceed", arena_printf(&mem, "REJECT %s", message).ptr);
	if (*env("POSTFIX_RECIPIENT_DELIMITER", ""))
		convert_put(out, "    recipient_delimiter", env("POSTFIX_RECIPIENT_DELIMITER", ""));
	if (*env("REDIS_URL", ""))
		fputs("    store: \"${REDIS_URL}\"\n", out);
	arena_clear(&mem);
}

bool convert_userli(FILE *out, struct error *error)
{
	bool old = is_old();
	long long ttl = 0;
	if (!*env("USERLI_TOKEN", ""))
		return error_set(error, "the environment variable USERLI_TOKEN is not set; it must "
					"hold the token for userli's API");
	if (!old && !read_duration(env("LOOKUP_CACHE_TTL", "300s"), &ttl))
		return error_set(error,
			"the environment variable LOOKUP_CACHE_TTL is \"%s\"; allowed: 0, or a "
			"time like 300s or 1m30s",
			getenv("LOOKUP_CACHE_TTL"));
	fprintf(out,
		"# In place of userli-postfix-adapter %s, from its environment. What differs on\n"
		"# purpose: docs/migrate.md\n",
		old ? "1.x" : "3.x");
	convert_put(out, "log:\n  level", log_level());
	write_listeners(out, old);
	fputs("tables:\n", out);
	for (int i = 0; i < MAPS; i++)
		write_table(out, maps[i].table, ttl);
	if (!old)
		write_ratelimit(out);
	if (has_sasl(old))
		write_table(out, "auth", 0);
	return true;
}
