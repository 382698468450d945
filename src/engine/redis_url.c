/* Where a Redis server is, as a URL: redis://:password@host:port/db?name=value, redis+unix:PATH. No
 * error shows a part of it: what is in the wrong place may be the password. */
#include "engine/redis.h"

#include <sys/un.h>

#define FORMS "allowed: redis://[:password@]host:port/db?prefix=... and redis+unix:PATH?prefix=..."

static const size_t path_max = sizeof(((struct sockaddr_un *)0)->sun_path) - 1;

/* %XX is the byte XX; NUL and a lone '%' are refused. The text may be secret: it is not shown. */
static bool decode(const char *what, struct str text, struct arena *mem, const char **decoded,
	struct error *error)
{
	char *to = arena_alloc(mem, text.len + 1); /* zeroed: a C string */
	struct str plain;
	if (!str_percent_decode(text, to, &plain))
		return error_set(error,
			"%s: '%%' is followed by two hex digits; itself it is written %%25", what);
	if (str_has(plain, '\0'))
		return error_set(error, "%s: a NUL byte is not allowed", what);
	*decoded = to;
	return true;
}

static bool parse_db(struct str text, unsigned *db, struct error *error)
{
	uint64_t n = 0;
	if (text.len > 0 && (!str_u64(text, &n) || n > 65535))
		return error_set(error, "the database is no number; allowed: 0 to 65535");
	*db = (unsigned)n;
	return true;
}

/* "user:password", ":password" or "user". */
static bool parse_login(
	struct str login, struct arena *mem, struct redis_options *options, struct error *error)
{
	struct str user;
	str_cut(&login, ':', &user);
	return decode("user", user, mem, &options->user, error) &&
	       decode("password", login, mem, &options->password, error);
}

/* Cuts the login off, which ends at the last '@': a password may hold that, against the rules. */
static bool cut_login(
	struct str *rest, struct arena *mem, struct redis_options *options, struct error *error)
{
	size_t at = rest->len;
	while (at > 0 && rest->ptr[at - 1] != '@')
		at--;
	if (at == 0)
		return true;
	struct str login = {rest->ptr, at - 1};
	*rest = str_skip(*rest, at);
	return parse_login(login, mem, options, error);
}

static bool is_host(struct str host)
{
	for (size_t i = 0; i < host.len; i++) {
		char c = host.ptr[i], small = (char)(c | 0x20);
		bool good = (c >= '0' && c <= '9') || (small >= 'a' && small <= 'z') ||
			    strchr("-._:%", c);
		if (!good || c == '\0')
			return false;
	}
	return host.len > 0 && host.len < 256;
}

static bool parse_host(
	struct str text, struct arena *mem, struct redis_options *options, struct error *error)
{
	struct str host, port = text;
	uint64_t n = 6379;
	if (text.len > 0 && text.ptr[0] == '[') {
		port = str_skip(text, 1);
		if (!str_cut(&port, ']', &host) || (port.len > 0 && port.ptr[0] != ':'))
			return error_set(error, "an IPv6 address is written [::1]:6379");
		port = str_skip(port, port.len > 0 ? 1 : 0);
	} else {
		str_cut(&port, ':', &host);
		if (str_has(port, ':') || str_has(host, '%'))
			return error_set(error, "the host is none; an IPv6 address is written "
						"[::1]:6379");
	}
	if (!is_host(host))
		return error_set(error, "it has no host name and no address; " FORMS);
	if (port.len > 0 && (!str_u64(port, &n) || n < 1 || n > 65535))
		return error_set(error, "the port is none; allowed: 1 to 65535");
	options->host = arena_str(mem, host).ptr;
	options->port = arena_printf(mem, "%u", (unsigned)n).ptr;
	return true;
}

/* [//[login@]]PATH; of "//login@/run/x" the path begins at the third slash. */
static bool parse_unix(
	struct str rest, struct arena *mem, struct redis_options *options, struct error *error)
{
	if (str_starts(rest, STR("//"))) {
		struct str head, path = str_skip(rest, 2);
		str_cut(&path, '/', &head);
		rest = (struct str){head.ptr + head.len, rest.len - 2 - head.len};
		if (!cut_login(&head, mem, options, error))
			return false;
		if (head.len > 0)
			return error_set(error, "a path has no host; write redis+unix:/run/redis");
	}
	if (!decode("path", rest, mem, &options->path, error))
		return false;
	size_t len = strlen(options->path);
	if (len == 0 || len > path_max)
		return error_set(error,
			len ? "the path is over %zu bytes; the system has no room for more"
			    : "redis+unix: has no path; write redis+unix:/run/redis.sock",
			path_max);
	return true;
}

static bool parse_inet(
	struct str rest, struct arena *mem, struct redis_options *options, struct error *error)
{
	/* The password may hold a '/', against the rules too; no host and no database has a '@'. */
	if (!cut_login(&rest, mem, options, error))
		return false;
	struct str host, db = rest;
	str_cut(&db, '/', &host);
	return parse_db(db, &options->db, error) && parse_host(host, mem, options, error);
}

/* One "name=value"; `db` is an option, the others are the caller's. */
static bool parse_parameter(struct str item, struct arena *mem, struct redis_options *options,
	struct setting_map *rest, struct error *error)
{
	struct str name;
	const char *key = "", *value = "";
	str_cut(&item, '=', &name);
	if (!decode("parameter", name, mem, &key, error) || !decode(key, item, mem, &value, error))
		return false;
	if (strcmp(key, "db") == 0)
		return parse_db(str_of(value), &options->db, error);
	rest->pairs[rest->n++] = (struct pair){str_of(key), str_of(value)};
	return true;
}

static bool parse_parameters(struct str text, struct arena *mem, struct redis_options *options,
	struct setting_map *rest, struct error *error)
{
	size_t n = 1;
	for (size_t i = 0; i < text.len; i++)
		n += text.ptr[i] == '&';
	rest->pairs = arena_alloc(mem, n * sizeof(*rest->pairs));
	while (text.len > 0) {
		struct str item;
		str_cut(&text, '&', &item);
		if (item.len > 0 && !parse_parameter(item, mem, options, rest, error))
			return false;
	}
	return true;
}

bool redis_parse_url(const char *text, struct arena *mem, struct redis_options *options,
	struct setting_map *rest, struct error *error)
{
	struct str parameters = str_of(text), place;
	options->path = options->host = options->port = NULL;
	options->user = options->password = "";
	options->db = 0;
	*rest = (struct setting_map){0};
	str_cut(&parameters, '?', &place);
	bool inet = str_starts(place, STR("redis://")),
	     local = str_starts(place, STR("redis+unix:"));
	if (!inet && !local)
		return error_set(error, "it is no URL of a Redis server; " FORMS);
	if (!(inet ? parse_inet(str_skip(place, 8), mem, options, error)
		   : parse_unix(str_skip(place, 11), mem, options, error)))
		return false;
	return parse_parameters(parameters, mem, options, rest, error);
}

struct str redis_url_public(const char *text, struct arena *mem)
{
	struct str rest = str_of(text), place, head;
	str_cut(&rest, '?', &place);
	bool local = str_starts(place, STR("redis+unix:"));
	size_t begins = local ? 11 + 2 : 8;
	if (!str_starts(place, STR("redis://")) && !str_starts(place, STR("redis+unix://")))
		return arena_str(mem, str_of(text));
	head = str_skip(place, begins);
	if (local)
		str_cut(&(struct str){head.ptr, head.len}, '/', &head);
	size_t at = head.len, colon = 0;
	while (at > 0 && head.ptr[at - 1] != '@')
		at--;
	while (colon < at && head.ptr[colon] != ':')
		colon++;
	if (colon == at)
		return arena_str(mem, str_of(text));
	begins += colon + 1;
	return arena_printf(mem, "%.*s(secret)%s", (int)begins, text, head.ptr + at - 1);
}

struct str redis_where(const struct redis_options *options, struct arena *mem)
{
	if (options->path)
		return arena_printf(mem, "unix:%s", options->path);
	if (strchr(options->host, ':'))
		return arena_printf(mem, "[%s]:%s", options->host, options->port);
	return arena_printf(mem, "%s:%s", options->host, options->port);
}
