/* The configuration: files and command line in, one checked structure out. */
#ifndef MAPMUX_CONFIG_H
#define MAPMUX_CONFIG_H

#include "base/log.h"
#include "model/codec.h"
#include "model/table.h"
#include "text/address.h"

/* The keys of a listener that all protocols share. */
struct listen_options {
	const char *table;               /* "" : none */
	struct setting_list tables;      /* names; none: all */
	const char *mode, *user, *group; /* unix sockets; mode is octal text, "0660" unless given */
	int64_t max_connections;         /* 0: no limit but the process's own */
	int64_t idle_timeout;            /* ms; 0: never; -1: the codec's default */
};

extern const struct setting listen_settings[]; /* for struct listen_options */

struct listen_conf {
	const struct codec *codec;
	struct address address;
	const char *address_text;
	struct listen_options options;
	unsigned mode;                  /* options.mode as a number */
	const struct table_conf *table; /* the default one, or NULL */
	const bool *serves;             /* by table_conf.index; NULL: all */
	void *conf;                     /* codec->conf_size bytes */
	const char *where;              /* FILE:LINE or "command line" */
};

/* May its clients ask that table? To them others do not exist. */
static inline bool listen_serves(const struct listen_conf *listen, const struct table_conf *table)
{
	return !listen->serves || listen->serves[table->index];
}

/* ms: the listener's own idle timeout, or its codec's; 0: never. */
int64_t listen_idle_timeout(const struct listen_conf *listen);

/* Read-only once config_load() has said yes. */
struct config {
	struct arena mem;
	int64_t threads;          /* workers; 0 was replaced by the number of CPUs */
	int64_t shutdown_timeout; /* ms */
	int log_level, log_format, log_to;
	const char *user, *group; /* "" : stay who we are */
	size_t nlistens, ntables;
	struct listen_conf *listens;
	struct table_conf *tables; /* in dependency order */
	_Atomic unsigned *sets;    /* counts the workers' table sets that were made of it, and need
				    * it; NULL: nobody wants to know */
};

/* Reads the options of `serve` and `check` (argv[0] is the first option) and the files they name;
 * resolves references, orders the tables, runs each backend's check(). Opens no socket. On false
 * the error says `FILE:LINE: key: what is wrong, what is allowed`, and nothing is left to free. */
bool config_load(struct config *config, int argc, char **argv, struct error *error);
void config_free(struct config *config);

/* What would run, as YAML on stdout, without secrets, the defaults in comments: for `mapmux check`.
 * Where there is no secret it loads again to the same. */
void config_print(const struct config *config);

/* `mapmux help [TYPE]`: the options, or a table type's param and options; false: no such type. */
bool config_help(const char *type);

#endif
