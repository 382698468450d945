/* What the routes of an http listener say and read alike. */
#include "web/web_routes.h"

#include "text/json.h"
#include "web/web_params.h"

void web_refuse(struct web_request *request, int code, const char *counted, const char *why)
{
	struct str quoted;
	json_quote(str_of(why), &request->mem, &quoted);
	errors_add(&worker_stats(web_worker(request))->errors, "http", counted, 1);
	web_answer(request, code, JSON,
		arena_printf(&request->mem, "{\"status\":\"error\",\"reason\":%s}\n", quoted.ptr));
}

bool web_take_param(struct web_request *request, const char *name, bool needed, struct str *value)
{
	enum web_found found = web_param(request->params, name, &request->mem, value);
	if (found == WEB_FOUND || (found == WEB_ABSENT && !needed))
		return true;
	const char *what = found == WEB_ABSENT ? "is missing"
					       : "is malformed: a bad %XX, a NUL, or given twice";
	web_refuse(request, 400, "bad_parameter",
		arena_printf(&request->mem, "the parameter %s %s", name, what).ptr);
	return false;
}

struct table *web_find_table(struct web_request *request, struct str name)
{
	struct table *table = table_set_find(web_tables(request), name);
	if (table && listen_serves(web_conf(request), table->conf))
		return table;
	web_refuse(request, 404, "unknown_table", "unknown table");
	return NULL;
}
