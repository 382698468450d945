/* The figures of a survey as text: for Prometheus, and as JSON. */
#ifndef MAPMUX_WEB_TEXT_H
#define MAPMUX_WEB_TEXT_H

#include "base/buf.h"
#include "config/config.h"
#include "web/survey.h"

/* The text format of Prometheus, version 0.0.4. */
void web_metrics(const struct survey *survey, struct buf *out);

/* /v1/stats: everything, one object. */
void web_stats(const struct survey *survey, struct buf *out);

/* /v1/tables: what there is to ask. */
void web_tables_list(
	const struct table_set *set, const struct listen_conf *listen, struct buf *out);

/* /ready: the tables that fail, by name. False: there is none. */
bool web_failing(const struct survey *survey, struct buf *out);

#endif
