/* One line an event, as text or JSON, to stderr or syslog. Keeps no lock: a line is one write(2). */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

static struct {
	/* log_change() writes these while others read. */
	_Atomic enum log_level level;
	_Atomic enum log_format format;
	_Atomic enum log_target target;
	/* Written by log_open() alone, before there are threads. */
	bool opened, journal;
	bool socket; /* stderr is one: the journal's, say */
	int fd;      /* stderr, or our own way to the pipe behind it */
} sink = {.level = LOG_LEVEL_INFO, .fd = STDERR_FILENO};

enum {
	MESSAGE_MAX = 4096, /* bytes of a message before it is escaped */
	LINE_MAX_BYTES = 8192,
	LINE_TAIL = 16, /* kept for what ends a line that was cut */
};

/* What does not fit is left out in whole characters, and the line ends in "...". */
struct line {
	char bytes[LINE_MAX_BYTES];
	size_t len;
	bool cut;
	enum log_format format; /* from its first byte to its last */
	enum log_target target;
};

static const char *level_word(enum log_level level)
{
	static const char *const words[] = {"error", "warn", "info", "debug"};
	return words[level];
}

static int level_priority(enum log_level level)
{
	static const int priorities[] = {LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG};
	return priorities[level];
}

static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	return stream && *stream && !isatty(STDERR_FILENO);
}

/* Who reads our log may stop to read it; the daemon does not wait for him. A pipe is opened anew,
 * because O_NONBLOCK on stderr itself would be everybody's who has it. */
static void open_stderr(void)
{
	struct stat st = {0};
	if (sink.fd != STDERR_FILENO)
		close(sink.fd);
	sink.fd = STDERR_FILENO;
	fstat(STDERR_FILENO, &st);
	sink.socket = S_ISSOCK(st.st_mode);
	int fd = S_ISFIFO(st.st_mode) ? open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_CLOEXEC)
				      : -1;
	if (fd >= 0)
		sink.fd = fd;
}

void log_open(enum log_level level, enum log_format format, enum log_target target)
{
	sink.journal = stderr_is_journal();
	sink.opened = true;
	open_stderr();
	log_change(level, format, target);
}

void log_change(enum log_level level, enum log_format format, enum log_target target)
{
	if (target == LOG_TO_SYSLOG)
		openlog("mapmux", LOG_PID, LOG_MAIL);
	sink.level = level;
	sink.format = format;
	sink.target = target;
}

bool log_wants(enum log_level level)
{
	return level <= atomic_load_explicit(&sink.level, memory_order_relaxed);
}

static bool line_add(struct line *line, const char *bytes, size_t n)
{
	if (line->cut || n > sizeof(line->bytes) - LINE_TAIL - line->len) {
		line->cut = true;
		return false;
	}
	memcpy(line->bytes + line->len, bytes, n);
	line->len += n;
	return true;
}

static void line_text(struct line *line, const char *text)
{
	line_add(line, text, strlen(text));
}

/* For the last bytes of a line, which have their place even when it was cut. */
static void line_end(struct line *line, const char *text)
{
	size_t n = strlen(text);
	memcpy(line->bytes + line->len, text, n);
	line->len += n;
}

/* Bytes of the UTF-8 character that `s` begins with; 0 when it is none that a line should show: a
 * control character (C1 among them: terminals obey these too) or no UTF-8. */
static size_t char_len(struct str s)
{
	const unsigned char *p = (const unsigned char *)s.ptr;
	size_t n = p[0] < 0x80 ? 1 : p[0] < 0xC2 ? 0 : p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;
	if (n == 1)
		return p[0] >= 0x20 && p[0] != 0x7F;
	if (n == 0 || p[0] > 0xF4 || s.len < n)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((p[i] & 0xC0) != 0x80)
			return 0;
	bool overlong = (p[0] == 0xE0 && p[1] < 0xA0) || (p[0] == 0xF0 && p[1] < 0x90);
	bool surrogate = p[0] == 0xED && p[1] > 0x9F;
	bool beyond = p[0] == 0xF4 && p[1] > 0x8F;
	bool control = p[0] == 0xC2 && p[1] < 0xA0;
	bool separator = p[0] == 0xE2 && p[1] == 0x80 && (p[2] == 0xA8 || p[2] == 0xA9);
	return overlong || surrogate || beyond || control || separator ? 0 : n;
}

/* How `c` is written where it cannot stand as it is. JSON has no escape for a byte that is no UTF-8:
 * its reader sees the four characters \xNN. */
static void escape_byte(struct line *line, unsigned char c, bool json)
{
	char text[8];
	const char *word = c == '\n' ? "\\n" : c == '\r' ? "\\r" : c == '\t' ? "\\t" : NULL;
	if (word)
		line_text(line, word);
	else
		line_add(line, text,
			(size_t)snprintf(text, sizeof(text),
				!json      ? "\\x%02x"
				: c < 0x20 ? "\\u%04x"
					   : "\\\\x%02x",
				c));
}

/* Within double quotes of text or JSON, or (not `quoted`) as a person's words in text. */
static void line_escaped(struct line *line, struct str s, bool quoted)
{
	bool json = line->format == LOG_FORMAT_JSON;
	while (s.len > 0 && !line->cut) {
		size_t n = char_len(s);
		if (n == 0) {
			escape_byte(line, (unsigned char)s.ptr[0], json);
			n = 1;
		} else if (quoted && (s.ptr[0] == '"' || s.ptr[0] == '\\')) {
			char text[2] = {'\\', s.ptr[0]};
			line_add(line, text, 2);
		} else {
			line_add(line, s.ptr, n);
		}
		s = str_skip(s, n);
	}
}

static bool is_plain(struct str s)
{
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.ptr[i];
		if (c <= ' ' || c == '"' || c == '\\' || c == '=' || c == 0x7F)
			return false;
	}
	for (struct str rest = s; rest.len > 0;) {
		size_t n = char_len(rest);
		if (n == 0)
			return false;
		rest = str_skip(rest, n);
	}
	return s.len > 0;
}

static void line_time(struct line *line)
{
	struct timespec now;
	struct tm tm;
	char text[64];
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	size_t n = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	n += (size_t)snprintf(text + n, sizeof(text) - n, ".%03ldZ", now.tv_nsec / 1000000);
	line_add(line, text, n);
}

static void line_begin(struct line *line, enum log_level level, struct str message)
{
	line->len = 0;
	line->cut = false;
	line->format = sink.format;
	line->target = sink.target;
	if (line->format == LOG_FORMAT_JSON) {
		line_text(line, "{\"time\":\"");
		line_time(line);
		line_text(line, "\",\"level\":\"");
		line_text(line, level_word(level));
		line_text(line, "\",\"msg\":\"");
		line_escaped(line, message, true);
		line_end(line, line->cut ? "...\"" : "\"");
		return;
	}
	if (line->target == LOG_TO_STDERR && sink.journal) {
		char priority[8];
		snprintf(priority, sizeof(priority), "<%d>", level_priority(level));
		line_text(line, priority);
	} else if (line->target == LOG_TO_STDERR) {
		line_time(line);
		line_text(line, " ");
		line_text(line, level_word(level));
		line_text(line, " ");
	}
	line_escaped(line, message, false);
	if (line->cut)
		line_end(line, "...");
}

/* A field is written from its first byte on or not at all. */
static void line_field(struct line *line, const struct pair *field)
{
	bool json = line->format == LOG_FORMAT_JSON;
	bool quoted = json || !is_plain(field->value);
	size_t before = line->len;
	if (line->cut)
		return;
	line_text(line, json ? ",\"" : " ");
	line_escaped(line, field->name, json);
	line_text(line, json ? "\":\"" : quoted ? "=\"" : "=");
	if (line->cut) {
		line->len = before;
		return;
	}
	line_escaped(line, field->value, quoted);
	if (line->cut)
		line_end(line, "...");
	if (quoted)
		line_end(line, "\"");
}

/* A line that finds no room is lost. */
static void write_line(const struct line *line)
{
	ssize_t n;
	do
		n = sink.socket ? send(sink.fd, line->bytes, line->len, MSG_DONTWAIT)
				: write(sink.fd, line->bytes, line->len);
	while (n < 0 && errno == EINTR);
}

static void line_write(struct line *line, enum log_level level)
{
	bool json = line->format == LOG_FORMAT_JSON;
	if (json)
		line_end(line, "}");
	if (line->target == LOG_TO_SYSLOG) {
		syslog(level_priority(level), "%.*s", (int)line->len, line->bytes);
		return;
	}
	line_end(line, "\n");
	write_line(line);
}

static void open_early(void)
{
	/* Whoever speaks before log_open() is the one thread there is. */
	if (!sink.opened)
		log_open(sink.level, sink.format, sink.target);
}

void log_say(enum log_level level, const char *fmt, ...)
{
	char message[MESSAGE_MAX];
	struct line line;
	va_list ap;
	if (!log_wants(level))
		return;
	open_early();
	va_start(ap, fmt);
	int n = vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	size_t len = (size_t)n < sizeof(message) ? (size_t)n : sizeof(message) - 1;
	if (len < (size_t)n)
		memset(message + len - 3, '.', 3);
	line_begin(&line, level, (struct str){message, len});
	line_write(&line, level);
}

void log_event(enum log_level level, const char *event, const struct pair *fields, size_t n)
{
	struct line line;
	if (!log_wants(level))
		return;
	open_early();
	line_begin(&line, level, str_of(event));
	for (size_t i = 0; i < n; i++)
		line_field(&line, &fields[i]);
	line_write(&line, level);
}

bool log_allowed(struct log_limit *limit, unsigned interval_ms, unsigned *held)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	uint64_t now_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
	uint64_t next_ms = atomic_load(&limit->next_ms);
	if (now_ms < next_ms ||
		!atomic_compare_exchange_strong(&limit->next_ms, &next_ms, now_ms + interval_ms)) {
		atomic_fetch_add(&limit->held, 1);
		return false;
	}
	*held = atomic_exchange(&limit->held, 0);
	return true;
}
