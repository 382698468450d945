/* Limits as people and services write them. */
#ifndef MAPMUX_BACKENDS_LIMITS_H
#define MAPMUX_BACKENDS_LIMITS_H

#include "model/setting.h"
#include "model/windows.h"

/* "100/h 1000/d": how many within s, m, h, d or a number of these, as in 10/5m; separated by blanks or
 * commas. 0 is no limit and is left out. An error says what is wrong, without the name of a setting. */
bool limits_parse(struct str text, struct window_rules *rules, struct error *error);

/* Has it the form of limits, rather than that of a table's name? */
bool limits_are(struct str text);

/* What a table answers: such a text, or a JSON object with any of per_second, per_minute, per_hour and
 * per_day, as userli's quota is. */
bool limits_read(
	struct str value, struct window_rules *rules, struct arena *mem, struct error *error);

#endif
