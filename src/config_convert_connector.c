/* postfix-rest-connector's JSON file as YAML. */
#include <assert.h>
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config_parts.h"
#include "config_convert.h"

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

/* Keys are those the program knew: like it, we refuse all others. */
static bool check_keys(
	const char *place, const cJSON *object, const char *const *known, struct error *error)
{
	struct arena mem = {0};
	bool good = cJSON_IsObject(object) || fail_at(error, place, "is no JSON object");
	for (const cJSON *item = good ? object->child : NULL; item && good; item = item->next) {
		struct choices choices = {.mem = &mem, .wanted = str_of(item->string)};
		bool found = false;
		for (int i = 0; known[i]; i++) {
			choices_add(&choices, known[i]);
			found = found || strcmp(known[i], item->string) == 0;
		}
		if (!found)
			good = fail_at(error, place, "unknown key %s; %s", item->string,
				choices_print(&choices));
	}
	arena_clear(&mem);
	return good;
}

static bool get_text(const char *place, const cJSON *object, const char *key, const char *fallback,
	const char **text, struct error *error)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
	*text = item ? cJSON_GetStringValue(item) : fallback;
	return *text || fail_at(error, place, "%s: %s", key,
				item ? "must be a string" : "is missing; it must be given");
}

static bool get_number(const char *place, const cJSON *object, const char *key, int fallback,
	int min, int max, int *number, struct error *error)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
	if (!item && fallback < 0)
		return fail_at(error, place, "%s: is missing; it must be given", key);
	double value = item ? item->valuedouble : fallback;
	if (item && (!cJSON_IsNumber(item) || !(value >= min && value <= max) ||
			    value != (double)(int)value))
		return fail_at(
			error, place, "%s: allowed: whole numbers from %d to %d", key, min, max);
	*number = (int)value;
	return true;
}

struct endpoint {
	const char *name, *mode, *target, *address, *token, *separator;
	int port, timeout;
	const char *protocol;
};

static bool read_endpoint(
	const char *place, const cJSON *json, struct endpoint *endpoint, struct error *error)
{
	static const char *const keys[] = {"name", "mode", "target", "bind-address", "bind-port",
		"auth-token", "request-timeout", "list-separator", NULL};
	static const char *const modes[][2] = {
		{"tcp-lookup", "tcp"}, {"socketmap-lookup", "socketmap"}, {"policy", "policy"}};
	if (!check_keys(place, json, keys, error) ||
		!get_text(place, json, "name", NULL, &endpoint->name, error) ||
		!get_text(place, json, "mode", NULL, &endpoint->mode, error) ||
		!get_text(place, json, "target", NULL, &endpoint->target, error) ||
		!get_text(place, json, "bind-address", NULL, &endpoint->address, error) ||
		!get_text(place, json, "auth-token", "", &endpoint->token, error) ||
		!get_text(place, json, "list-separator", ",", &endpoint->separator, error) ||
		!get_number(place, json, "bind-port", -1, 1, 65535, &endpoint->port, error) ||
		!get_number(
			place, json, "request-timeout", 2000, 1, 99000, &endpoint->timeout, error))
		return false;
	/* These have no fallback; the analyzer does not see that. */
	assert(endpoint->mode && endpoint->address);
	endpoint->protocol = NULL;
	for (int i = 0; i < 3; i++)
		if (strcmp(endpoint->mode, modes[i][0]) == 0)
			endpoint->protocol = modes[i][1];
	if (endpoint->protocol)
		return true;
	fail_at(error, place,
		"mode: \"%s\" is not known; allowed: tcp-lookup, socketmap-lookup, policy",
		endpoint->mode);
	return false;
}

static void write_listener(const struct endpoint *endpoint, FILE *out)
{
	struct arena mem = {0};
	bool v6 = strchr(endpoint->address, ':') && endpoint->address[0] != '[';
	struct str address =
		arena_printf(&mem, v6 ? "[%s]:%d" : "%s:%d", endpoint->address, endpoint->port);
	convert_put(out, "  - protocol", endpoint->protocol);
	convert_put(out, "    address", address.ptr);
	convert_put(out, "    table", endpoint->name);
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
	convert_put(out, "  - name", endpoint->name);
	fputs("    type: url\n", out);
	convert_put(out, "    param", template_of(endpoint, &mem).ptr);
	if (policy)
		fputs("    method: POST\n", out);
	else
		fputs("    status: {4xx: perm, 410: perm}\n    follow_redirects: yes\n", out);
	if (!policy && strcmp(endpoint->separator, ",") != 0)
		convert_put(out, "    list_separator", endpoint->separator);
	convert_put(out, "    user_agent", agent);
	fprintf(out, "    timeout: %dms\n", endpoint->timeout);
	if (*endpoint->token) {
		fputs("    auth_header: \"X-Auth-Token:\"\n"
		      "    # a secret; auth_token_file takes it from a file\n",
			out);
		convert_put(out, "    auth_token", endpoint->token);
	}
	arena_clear(&mem);
}

static bool write_all(const char *path, const cJSON *json, FILE *out, struct error *error)
{
	static const char *const keys[] = {"user-agent", "endpoints", NULL};
	const cJSON *endpoints = cJSON_GetObjectItemCaseSensitive(json, "endpoints"), *item;
	const char *agent;
	struct endpoint endpoint;
	if (!check_keys(path, json, keys, error) ||
		!get_text(path, json, "user-agent", "Postfix REST Connector", &agent, error))
		return false;
	if (!cJSON_IsArray(endpoints) || !endpoints->child)
		return fail_at(error, path, "endpoints: must be a list of at least one object");
	fputs("# In place of postfix-rest-connector. What differs on purpose: docs/migrate.md\n",
		out);
	for (int pass = 0; pass < 2; pass++) {
		int n = 0;
		fputs(pass == 0 ? "listeners:\n" : "tables:\n", out);
		cJSON_ArrayForEach(item, endpoints)
		{
			struct arena mem = {0};
			struct str place = arena_printf(&mem, "%s: endpoints[%d]", path, n++);
			bool good = read_endpoint(place.ptr, item, &endpoint, error);
			arena_clear(&mem);
			if (!good)
				return false;
			if (pass == 0)
				write_listener(&endpoint, out);
			else
				write_table(&endpoint, agent, out);
		}
	}
	return true;
}

bool convert_connector(const char *path, FILE *out, struct error *error)
{
	char *text = NULL;
	const char *end = NULL;
	if (!read_json(path, &text, error)) {
		free(text);
		return false;
	}
	assert(text);
	cJSON *json = cJSON_ParseWithOpts(text, &end, true);
	bool good;
	if (json) {
		good = write_all(path, json, out, error);
	} else {
		size_t line = 1;
		for (const char *p = text; p < end; p++)
			line += *p == '\n';
		good = error_set(error, "%s:%zu: is not JSON", path, line);
	}
	cJSON_Delete(json);
	free(text);
	return good;
}
