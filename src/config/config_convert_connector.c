/* postfix-rest-connector's JSON file as YAML. */
#include <assert.h>
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/config_convert.h"
#include "config/config_parts.h"
#include "text/json.h"

enum { FILE_MAX = 1 << 20 };

static bool read_json(const char *path, char **text, struct error *error)
{
	FILE *file = fopen(path, "re");
	if (!file)
		return error_set(error, "cannot read %s: %s", path, strerror(errno));
	*text = calloc(1, FILE_MAX + 1);
	size_t n = *text ? fread(*text, 1, FILE_MAX, file) : 0;
	bool good = *text && !ferror(file) && n < FILE_MAX && strlen(*text) == n;
	fclose(file);
	return good || error_set(error, "cannot read %s; allowed: JSON text of up to 1m", path);
}

/* An object of the file. */
struct source {
	const char *path;
	struct str text;     /* of the whole file */
	const char *pointer; /* to the object: "", or "/endpoints/2" */
	const char *prefix;  /* of its keys in messages: "", or "endpoints[2]" */
	const cJSON *object;
	struct arena *mem;
	struct error *error;
};

/* What a message about a key begins with: "FILE:LINE: endpoints[2].mode". */
static const char *place_of(const struct source *source, const char *key)
{
	const char *pointer = arena_printf(source->mem, "%s/%s", source->pointer, key).ptr;
	return arena_printf(source->mem, "%s:%zu: %s%s%s", source->path,
		json_line(source->text, pointer), source->prefix,
		*source->prefix && *key ? "." : "", key)
		.ptr;
}

/* Keys are those the program knew: like it, we refuse all others. */
static bool check_keys(const struct source *source, const char *const *known)
{
	for (const cJSON *item = source->object->child; item; item = item->next) {
		struct choices choices = {.mem = source->mem, .wanted = str_of(item->string)};
		bool found = false;
		for (int i = 0; known[i]; i++) {
			choices_add(&choices, known[i]);
			found = found || strcmp(known[i], item->string) == 0;
		}
		if (!found)
			return fail_at(source->error, place_of(source, item->string),
				"unknown key; %s", choices_print(&choices));
	}
	return true;
}

static bool get_text(
	const struct source *source, const char *key, const char *fallback, const char **text)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(source->object, key);
	*text = item ? cJSON_GetStringValue(item) : fallback;
	return *text || fail_at(source->error, place_of(source, key), "%s",
				item ? "must be a string" : "is missing; it must be given");
}

static bool get_number(
	const struct source *source, const char *key, int fallback, int min, int max, int *number)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(source->object, key);
	if (!item && fallback < 0)
		return fail_at(
			source->error, place_of(source, key), "is missing; it must be given");
	double value = item ? item->valuedouble : fallback;
	if (item && (!cJSON_IsNumber(item) || !(value >= min && value <= max) ||
			    value != (double)(int)value))
		return fail_at(source->error, place_of(source, key),
			"allowed: whole numbers from %d to %d", min, max);
	*number = (int)value;
	return true;
}

struct endpoint {
	const char *name, *mode, *target, *address, *token, *separator;
	int port, timeout;
	const char *protocol, *table; /* here */
};

static bool find_protocol(const struct source *source, struct endpoint *endpoint)
{
	static const char *const modes[][2] = {
		{"tcp-lookup", "tcp"}, {"socketmap-lookup", "socketmap"}, {"policy", "policy"}};
	assert(endpoint->mode); /* has no fallback; the analyzer does not see that */
	for (int i = 0; i < 3; i++)
		if (strcmp(endpoint->mode, modes[i][0]) == 0)
			endpoint->protocol = modes[i][1];
	return endpoint->protocol ||
	       fail_at(source->error, place_of(source, "mode"),
		       "\"%s\" is not known; allowed: tcp-lookup, socketmap-lookup, policy",
		       endpoint->mode);
}

static bool read_endpoint(const struct source *source, struct endpoint *endpoint)
{
	static const char *const keys[] = {"name", "mode", "target", "bind-address", "bind-port",
		"auth-token", "request-timeout", "list-separator", NULL};
	if (!cJSON_IsObject(source->object))
		return fail_at(source->error, place_of(source, ""), "must be an object");
	return check_keys(source, keys) && get_text(source, "name", NULL, &endpoint->name) &&
	       get_text(source, "mode", NULL, &endpoint->mode) &&
	       get_text(source, "target", NULL, &endpoint->target) &&
	       get_text(source, "bind-address", NULL, &endpoint->address) &&
	       get_text(source, "auth-token", "", &endpoint->token) &&
	       get_text(source, "list-separator", ",", &endpoint->separator) &&
	       get_number(source, "bind-port", -1, 1, 65535, &endpoint->port) &&
	       get_number(source, "request-timeout", 2000, 1, 99000, &endpoint->timeout) &&
	       find_protocol(source, endpoint);
}

static void write_listener(const struct endpoint *endpoint, FILE *out)
{
	struct arena mem = {0};
	bool v6 = strchr(endpoint->address, ':') && endpoint->address[0] != '[';
	struct str address =
		arena_printf(&mem, v6 ? "[%s]:%d" : "%s:%d", endpoint->address, endpoint->port);
	convert_put(out, "  - protocol", endpoint->protocol);
	convert_put(out, "    address", address.ptr);
	convert_put(out, "    table", endpoint->table);
	if (strcmp(endpoint->protocol, "socketmap") == 0)
		fputs("    any_name: yes # the name went to the service, as {user} does now\n",
			out);
	if (strcmp(endpoint->protocol, "policy") == 0)
		fputs("    fail_action: \"451 4.3.0 REST server had an internal error!\"\n"
		      "    # it said this when the service answered 4xx, an expired token's 401 "
		      "too:\n"
		      "    # perm_action: \"554 5.3.5 REST server signaled a user error\"\n",
			out);
	arena_clear(&mem);
}

/* The target as a template: its braces doubled, the query behind its own. */
static struct str template_of(const struct endpoint *endpoint, struct arena *mem)
{
	struct str all = {"", 0};
	const char *query = "";
	for (const char *p = endpoint->target; *p; p++)
		all = arena_printf(
			mem, *p == '{' || *p == '}' ? "%s%c%c" : "%s%c", all.ptr, *p, *p);
	if (strcmp(endpoint->protocol, "socketmap") == 0)
		query = "name={user}&key={}";
	else if (strcmp(endpoint->protocol, "tcp") == 0)
		query = "key={}";
	if (*query == '\0')
		return all;
	return arena_printf(
		mem, "%s%s%s", all.ptr, strchr(endpoint->target, '?') ? "&" : "?", query);
}

static void write_table(const struct endpoint *endpoint, const char *agent, FILE *out)
{
	struct arena mem = {0};
	bool policy = strcmp(endpoint->protocol, "policy") == 0;
	convert_put(out, "  - name", endpoint->table);
	fputs("    type: url\n", out);
	convert_put(out, "    param", template_of(endpoint, &mem).ptr);
	if (policy)
		fputs("    method: POST\n", out);
	else
		fputs("    status: {4xx: perm, 410: perm}\n    follow_redirects: yes\n", out);
	if (!policy && strcmp(endpoint->separator, ",") != 0)
		convert_put(out, "    list_separator", endpoint->separator);
	convert_put(out, "    user_agent", agent);
	fprintf(out, "    timeout: %dms\n    connect_timeout: %dms\n", endpoint->timeout,
		endpoint->timeout);
	if (*endpoint->token) {
		fputs("    auth_header: \"X-Auth-Token:\"\n"
		      "    # a secret; auth_token_file takes it from a file\n",
			out);
		convert_put(out, "    auth_token", endpoint->token);
	}
	arena_clear(&mem);
}

/* The name was for logs alone. Here it tells tables apart, and protocols end it at a blank. */
static const char *table_name(
	const struct endpoint *others, size_t n, const char *name, struct arena *mem)
{
	struct str plain = arena_str(mem, str_of(*name ? name : "endpoint"));
	for (char *c = (char *)plain.ptr; *c; c++)
		*c = (unsigned char)*c <= ' ' || *c == 0x7f ? '-' : *c;
	const char *unique = plain.ptr;
	int times = 1;
	for (size_t i = 0; i < n; i++)
		if (strcmp(others[i].table, unique) == 0) {
			unique = arena_printf(mem, "%s-%d", plain.ptr, ++times).ptr;
			i = (size_t)-1; /* from the first again */
		}
	return unique;
}

static bool read_endpoints(const struct source *source, struct endpoint **endpoints, size_t *count)
{
	const cJSON *list = cJSON_GetObjectItemCaseSensitive(source->object, "endpoints");
	size_t n = 0;
	if (!cJSON_IsArray(list) || !list->child)
		return fail_at(source->error, place_of(source, "endpoints"),
			"must be a list of at least one object");
	*endpoints =
		arena_alloc(source->mem, (size_t)cJSON_GetArraySize(list) * sizeof(**endpoints));
	for (const cJSON *item = list->child; item; item = item->next) {
		struct source part = *source;
		struct endpoint *endpoint = *endpoints + n;
		part.object = item;
		part.pointer = arena_printf(source->mem, "/endpoints/%zu", n).ptr;
		part.prefix = arena_printf(source->mem, "endpoints[%zu]", n).ptr;
		if (!read_endpoint(&part, endpoint))
			return false;
		endpoint->table = table_name(*endpoints, n++, endpoint->name, source->mem);
	}
	*count = n;
	return true;
}

static bool write_all(const struct source *source, FILE *out)
{
	static const char *const keys[] = {"user-agent", "endpoints", NULL};
	const char *agent;
	struct endpoint *endpoints = NULL;
	size_t n = 0;
	if (!cJSON_IsObject(source->object))
		return error_set(source->error, "%s:%zu: is no JSON object; allowed: one",
			source->path, json_line(source->text, ""));
	if (!check_keys(source, keys) ||
		!get_text(source, "user-agent", "Postfix REST Connector", &agent) ||
		!read_endpoints(source, &endpoints, &n))
		return false;
	fputs("# In place of postfix-rest-connector. What differs on purpose: docs/migrate.md\n"
	      "listeners:\n",
		out);
	for (size_t i = 0; i < n; i++)
		write_listener(endpoints + i, out);
	fputs("tables:\n", out);
	for (size_t i = 0; i < n; i++)
		write_table(endpoints + i, agent, out);
	return true;
}

static bool convert_text(const char *path, struct str text, FILE *out, struct error *error)
{
	struct arena mem = {0};
	const char *end = NULL;
	cJSON *json = cJSON_ParseWithOpts(text.ptr, &end, true);
	struct source source = {.path = path,
		.text = text,
		.pointer = "",
		.prefix = "",
		.object = json,
		.mem = &mem,
		.error = error};
	size_t line = 1;
	assert(text.ptr); /* read_json() has said yes; the analyzer does not see that */
	for (const char *p = text.ptr; !json && p < end; p++)
		line += *p == '\n';
	bool good = json ? write_all(&source, out)
			 : error_set(error, "%s:%zu: is not JSON", path, line);
	cJSON_Delete(json);
	arena_clear(&mem);
	return good;
}

bool convert_connector(const char *path, FILE *out, struct error *error)
{
	char *text = NULL;
	bool good = read_json(path, &text, error) && convert_text(path, str_of(text), out, error);
	free(text);
	return good;
}
