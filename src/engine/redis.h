/* Engine: pipelines of commands to a Redis server, by hiredis's reader on a worker's loop. */
#ifndef MAPMUX_REDIS_H
#define MAPMUX_REDIS_H

#include "model/query.h"
#include "model/setting.h"

struct event_base;
struct redis; /* one for each table and worker: one connection, made when somebody asks */

/* Where the server is; const, outliving the engines made with it. */
struct redis_options {
	const char *path;        /* of a unix socket; NULL: host and port */
	const char *host, *port; /* a name is resolved without blocking, anew for each connection */
	const char *user;        /* "": the default one */
	const char *password;    /* "": no AUTH */
	unsigned db;             /* SELECTed when it is not 0 */
	int64_t connect_timeout_ms; /* for name, connection and greeting */
	int64_t silence_ms; /* commands are out and nothing comes in: the connection is dead */
	size_t max_reply;   /* bytes of one command's reply */
};

/* Reads redis://[[user]:password@]host[:port][/db][?name=value&...] and
 * redis+unix:[//[[user]:password@]]PATH[?...]. Fills path, host, port, user, password and db (also
 * from a parameter `db`); the parameters left over are in *rest. %XX is decoded everywhere but in
 * the host. The error never shows the password. All text is copied to `mem`. */
bool redis_parse_url(const char *text, struct arena *mem, struct redis_options *options,
	struct setting_map *rest, struct error *error);

/* The URL with "(secret)" in the place of its password, for people. */
struct str redis_url_public(const char *text, struct arena *mem);

/* "127.0.0.1:6379" or "unix:PATH", for people. */
struct str redis_where(const struct redis_options *options, struct arena *mem);

/* What Redis says; lives in the asker's arena. */
struct redis_reply {
	enum {
		REPLY_NIL,    /* no such key; a transaction that WATCH has stopped */
		REPLY_TEXT,   /* a string or a status such as OK: text */
		REPLY_NUMBER, /* number */
		REPLY_LIST,   /* n items */
		REPLY_ERROR,  /* text, such as "WRONGTYPE Operation against ..."; may hold values */
	} kind;
	struct str text;
	int64_t number;
	size_t n;
	const struct redis_reply *items;
};

/* The first word of an error: "WRONGTYPE", "LOADING", "ERR"; fit for people. Empty for what is no
 * error. */
struct str redis_error_code(const struct redis_reply *reply);

/* One command; its words may hold any byte and each stays one word. */
struct redis_command {
	size_t argc;
	const struct str *argv;
};

enum redis_result {
	REDIS_REPLY,       /* one reply for each command; each may be a REPLY_ERROR */
	REDIS_UNREACHABLE, /* nothing was sent: no connection, wrong password, server still loading */
	REDIS_BROKEN,      /* sent, or perhaps sent, but not all replies have come */
};

struct redis_flight;

/* Embedded in whoever asks; zeroed memory is idle. Its commands go out one behind the other with
 * nothing in between, all or none. There is no deadline but that of the connection and its silence:
 * the asker's redis_cancel() is the other. */
struct redis_ask {
	struct arena *mem;                    /* for replies and why */
	void (*done)(struct redis_ask *);     /* in a turn; never from redis_start() */
	const struct redis_command *commands; /* live until done() */
	size_t ncommands;                     /* at least one */
	const struct query *asker;            /* whose trace is told; NULL: nobody's */

	enum redis_result result;
	struct redis_reply *replies; /* of REDIS_REPLY: ncommands of them */
	struct str why;              /* of the others: for people, without secrets */

	struct redis *redis; /* the engine's own, from here on; NULL: idle */
	struct redis_flight *flight;
	bool waiting; /* for a connection */
	TAILQ_ENTRY(redis_ask) link;
};

struct redis *redis_new(
	struct event_base *base, struct turn *turn, const struct redis_options *options);
void redis_free(struct redis *redis); /* nothing is under way */

/* One done() follows, unless redis_cancel() comes first. What is asked in a turn goes out in one
 * write. No commands that change the connection for those behind: SUBSCRIBE, MONITOR, SELECT, and
 * MULTI or WATCH without their end in the same ask. */
void redis_start(struct redis *redis, struct redis_ask *ask);

/* At any time: idle, waiting, sent or done. A reply that comes late finds nobody; what was sent may
 * happen all the same. */
void redis_cancel(struct redis_ask *ask);

#endif
