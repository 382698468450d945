/* One line an event, as text or JSON, to stderr or syslog. */
#ifndef MAPMUX_LOG_H
#define MAPMUX_LOG_H

#include <stdatomic.h>

#include "base/str.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };
enum log_target { LOG_TO_STDERR, LOG_TO_SYSLOG };

/* Before any thread is started. Until then: info and above, text, stderr. On systemd's journal
 * (JOURNAL_STREAM is set and stderr is no terminal) text lines carry a priority in place of time and
 * level. A line has 8 KiB at most; one that was cut ends in "...". */
void log_open(enum log_level level, enum log_format format, enum log_target target);

/* Any time, any thread: the same from now on. Where stderr leads to is not looked at again. */
void log_change(enum log_level level, enum log_format format, enum log_target target);

/* Is this level written? For those who would have to build an expensive message. */
bool log_wants(enum log_level level);

/* A message of a person's words. Any thread; one write(2). */
void log_say(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_say(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_say(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_say(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_say(LOG_LEVEL_DEBUG, __VA_ARGS__)

/* An event with named fields: text `event name=value ...`, JSON members of their own. Bytes that
 * would break the line are escaped. */
void log_event(enum log_level level, const char *event, const struct pair *fields, size_t n);

/* Lets one event pass in each interval; the rest is counted. Zeroed memory is ready; shared by
 * threads. */
struct log_limit {
	_Atomic uint64_t next_ms;
	_Atomic unsigned held;
};

/* True when an event may be written now; *held is how many were held back since the last one. */
bool log_allowed(struct log_limit *limit, unsigned interval_ms, unsigned *held);

#endif
