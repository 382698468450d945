/* The static backend: answers from the configuration or from a file that is read again when it
 * changes. Lookups take no lock: each worker holds the newest map itself. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "list.h"
#include "model/digest.h"
#include "model/query.h"
#include "password.h"
#include "rows.h"
#include "static_auth.h"
#include "static_map.h"

enum { MAX_FILE = 1 << 30, QUIET_NS = 1000000000 };

struct static_conf {
	const char *param;
	struct setting_map entries;
	bool passwords;
};

static const struct setting settings[] = {
	{.name = "param",
		.kind = SET_STR,
		.offset = offsetof(struct static_conf, param),
		.fallback = "",
		.help = "key=value ... or file:PATH (a JSON object, or lines as postmap reads)"},
	{.name = "entries",
		.kind = SET_MAP,
		.offset = offsetof(struct static_conf, entries),
		.fallback = "",
		.help = "keys and values, in place of param"},
	{.name = "passwords",
		.kind = SET_BOOL,
		.offset = offsetof(struct static_conf, passwords),
		.fallback = "no",
		.help = "keys are users and values their passwords, as {PLAIN}x, "
			"{SHA512-CRYPT}$6$...; "
			"the table authenticates, and tells nobody any value"},
	{.name = NULL},
};

/* Is a file still the one that was seen? */
struct identity {
	struct timespec changed;
	off_t size;
	ino_t inode;
	dev_t device;
};

/* What the workers share: table_conf.shared. */
struct source {
	const char *path;             /* NULL: the configuration itself */
	struct identity loaded, seen; /* the control thread's */
	bool complained;              /* of what it sees now */
	_Atomic unsigned generation;  /* steps after `map` has changed */
	pthread_mutex_t lock;         /* for: */
	struct map *map;
};

/* A worker's: table.state. */
struct reader {
	struct map *map;
	unsigned generation; /* of `map`, or an older one */
};

static struct identity identity_of(const struct stat *st)
{
	return (struct identity){st->st_mtim, st->st_size, st->st_ino, st->st_dev};
}

static bool same_file(const struct identity *a, const struct identity *b)
{
	return a->changed.tv_sec == b->changed.tv_sec && a->changed.tv_nsec == b->changed.tv_nsec &&
	       a->size == b->size && a->inode == b->inode && a->device == b->device;
}

/* A file that was written to just now may be half of what it will be, and a second write within the
 * same tick of the clock would not show. */
static bool is_quiet(const struct identity *file)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	int64_t age = (int64_t)(now.tv_sec - file->changed.tv_sec) * 1000000000 +
		      (now.tv_nsec - file->changed.tv_nsec);
	return age >= QUIET_NS;
}

static bool read_all(int fd, char *text, size_t size, size_t *len)
{
	while (*len < size) {
		ssize_t n = read(fd, text + *len, size - *len);
		if (n == 0)
			break;
		if (n > 0)
			*len += (size_t)n;
		else if (errno != EINTR)
			return false;
	}
	return true;
}

/* The whole file, to be freed by the caller. */
static bool read_file(
	const char *path, char **text, size_t *len, struct identity *file, struct error *error)
{
	struct stat st;
	*text = NULL;
	*len = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return error_set(error, "%s: %s", path, strerror(errno));
	bool ok = fstat(fd, &st) == 0;
	if (!ok) {
		error_set(error, "%s: %s", path, strerror(errno));
	} else if (!S_ISREG(st.st_mode) || st.st_size > MAX_FILE) {
		ok = error_set(error, "%s: must be a regular file of at most %d MiB", path,
			MAX_FILE >> 20);
	} else {
		*file = identity_of(&st);
		*text = memory_new((size_t)st.st_size);
		ok = read_all(fd, *text, (size_t)st.st_size, len);
		if (!ok)
			error_set(error, "%s: %s", path, strerror(errno));
	}
	close(fd);
	if (!ok)
		free(*text);
	return ok;
}

static const char *fault_of_password(struct str value)
{
	struct password password;
	return password_read(value, &password);
}

static map_fault *fault_for(const struct table_conf *table)
{
	const struct static_conf *conf = table->conf;
	return conf->passwords ? fault_of_password : NULL;
}

/* A new map from the file, or NULL. */
static struct map *load_file(const struct table_conf *table, const char *path,
	struct identity *file, struct error *error)
{
	const struct table_options *options = &table->options;
	struct json_rules rules = {.list_separator = str_of(options->list_separator),
		.pointer = options->value ? options->value : ""};
	char *text = NULL;
	size_t len = 0;
	if (!read_file(path, &text, &len, file, error))
		return NULL;
	struct map *map = map_new();
	if (!map_parse(map, path, text, len, &rules, fault_for(table), error)) {
		map_release(map);
		return NULL;
	}
	if (map->duplicates > 0)
		log_warn("table %s: %s:%lu: the key was there before, its first value counts "
			 "(%zu such lines)",
			table->name, path, map->duplicate_line, map->duplicates);
	map_seal(map);
	return map;
}

/* Each key once: in a configuration a second one is a slip. */
static struct map *load_pairs(const struct setting_map *pairs, struct error *error)
{
	struct map *map = map_new();
	for (size_t i = 0; i < pairs->n; i++) {
		struct str key = arena_str(&map->mem, pairs->pairs[i].name);
		if (!map_add(map, key, arena_str(&map->mem, pairs->pairs[i].value))) {
			error_set(error, "the key '%s' is given twice", key.ptr);
			map_release(map);
			return NULL;
		}
	}
	map_seal(map);
	return map;
}

static struct map *load_inline(const char *text, struct error *error)
{
	struct arena mem = {0};
	struct setting_map pairs = {0};
	struct map *map = NULL;
	if (setting_pairs(str_of(text), &mem, &pairs, error))
		map = load_pairs(&pairs, error);
	arena_clear(&mem);
	return map;
}

static bool check(struct table_conf *table, struct error *error)
{
	const struct static_conf *conf = table->conf;
	bool has_param = conf->param[0] != '\0', has_entries = conf->entries.n > 0;
	if (has_param == has_entries)
		return error_set(error, "param: %s",
			has_param ? "entries are given as well, only one of them is allowed"
				  : "nothing to answer; allowed: key=value ..., file:PATH, "
				    "or entries");
	/* Neither for `ps` nor for `mapmux check` to show. */
	if (conf->passwords && !str_starts(str_of(conf->param), STR("file:")))
		return error_set(error, "param: passwords stand in a file; allowed: file:PATH");
	table->ops &= conf->passwords ? CAN(OP_AUTH) : ~CAN(OP_AUTH);
	struct source *source = memory_new(sizeof(*source));
	struct str param = str_of(conf->param), file = STR("file:");
	if (has_entries) {
		source->map = load_pairs(&conf->entries, error);
	} else if (str_starts(param, file)) {
		source->path = conf->param + file.len;
		source->map = load_file(table, source->path, &source->loaded, error);
	} else {
		source->map = load_inline(conf->param, error);
	}
	if (!source->map) {
		free(source);
		return error_prefix(error, "%s", has_entries ? "entries" : "param");
	}
	/* The same file, not written to since, holds the same. */
	if (source->path)
		digest_add(&table->digest,
			(struct str){(const char *)&source->loaded, sizeof(source->loaded)});
	/* If more is being written to it, the next refresh() shall read it again. */
	if (source->path && !is_quiet(&source->loaded))
		source->loaded = (struct identity){0};
	pthread_mutex_init(&source->lock, NULL);
	atomic_init(&source->generation, 0);
	table->shared = source;
	return true;
}

static void drop(struct table_conf *table)
{
	struct source *source = table->shared;
	if (!source)
		return;
	map_release(source->map);
	pthread_mutex_destroy(&source->lock);
	free(source);
	table->shared = NULL;
}

/* Says once why the old map stays. */
static void complain(struct source *source, const struct table_conf *table, const char *why)
{
	if (!source->complained)
		log_error("table %s: %s; what was read before stays in use", table->name, why);
	source->complained = true;
}

static void publish(struct source *source, struct map *map)
{
	pthread_mutex_lock(&source->lock);
	struct map *old = source->map;
	source->map = map;
	pthread_mutex_unlock(&source->lock);
	atomic_fetch_add(&source->generation, 1);
	map_release(old);
}

static void refresh(struct table_conf *table)
{
	struct source *source = table->shared;
	struct error error;
	struct stat st;
	if (!source->path)
		return;
	if (stat(source->path, &st) != 0) {
		error_set(&error, "%s: %s", source->path, strerror(errno));
		complain(source, table, error.text);
		source->seen = (struct identity){0};
		return;
	}
	struct identity now = identity_of(&st);
	bool known = same_file(&now, &source->seen);
	source->seen = now;
	if (!known)
		source->complained = false;
	/* One look later it will have been quiet, whatever the clocks say. */
	if (same_file(&now, &source->loaded) || (!known && !is_quiet(&now)))
		return;
	struct map *map = load_file(table, source->path, &source->loaded, &error);
	if (!map) {
		complain(source, table, error.text);
		return;
	}
	source->complained = false;
	log_info("table %s: %s: read again, %zu keys", table->name, source->path, map->n);
	publish(source, map);
}

static bool open_table(struct table *table, struct error *error)
{
	struct source *source = table->conf->shared;
	struct reader *reader = memory_new(sizeof(*reader));
	(void)error;
	reader->generation = atomic_load(&source->generation);
	pthread_mutex_lock(&source->lock);
	reader->map = map_keep(source->map);
	pthread_mutex_unlock(&source->lock);
	table->state = reader;
	return true;
}

static void close_table(struct table *table)
{
	struct reader *reader = table->state;
	map_release(reader->map);
	free(reader);
	table->state = NULL;
}

/* The newest map; the lock is only taken after a change. */
static const struct map *current_map(const struct table *table)
{
	struct source *source = table->conf->shared;
	struct reader *reader = table->state;
	unsigned generation = atomic_load_explicit(&source->generation, memory_order_relaxed);
	if (generation != reader->generation) {
		map_release(reader->map);
		pthread_mutex_lock(&source->lock);
		reader->map = map_keep(source->map);
		pthread_mutex_unlock(&source->lock);
		reader->generation = generation;
	}
	return reader->map;
}

/* A user's own key is named KEY/USER, as the url backend names it. */
static struct str full_key(const struct query *query)
{
	const struct question *ask = query->ask;
	if (ask->scope != SCOPE_PRIV)
		return ask->key;
	char *name = arena_alloc(query->mem, ask->key.len + 1 + ask->user.len);
	memcpy(name, ask->key.ptr, ask->key.len);
	name[ask->key.len] = '/';
	memcpy(name + ask->key.len + 1, ask->user.ptr, ask->user.len);
	return (struct str){name, ask->key.len + 1 + ask->user.len};
}

static void look_up(struct query *query, const struct map *map)
{
	enum form form = query->ask->form;
	const struct map_entry *entry = map_find(map, full_key(query));
	if (!entry || entry->status[form] == ST_NOTFOUND)
		query_notfound(query);
	else if (entry->status[form] == ST_OK) /* copied: the map may go before the answer does */
		query_ok(query, arena_str(query->mem, entry_value(entry, form)));
	else
		query_temp(query, "%s", entry->value[form]);
}

/* The name that `entry` has for the asker; false: it belongs to somebody else. */
static bool own_name(const struct question *ask, const struct map_entry *entry, struct str *name)
{
	*name = entry_key(entry);
	if (ask->scope != SCOPE_PRIV)
		return true;
	size_t suffix = ask->user.len + 1;
	if (name->len < suffix || name->ptr[name->len - suffix] != '/' ||
		!str_eq(str_skip(*name, name->len - ask->user.len), ask->user))
		return false;
	name->len -= suffix;
	return true;
}

static void iterate(struct query *query, const struct map *map)
{
	const struct question *ask = query->ask;
	struct rows rows = {.ask = ask, .unordered = ask->scope == SCOPE_PRIV};
	for (size_t i = map_seek(map, ask->key); i < map->n; i++) {
		const struct map_entry *entry = &map->entries[i];
		enum status status = (enum status)entry->status[ask->form];
		struct str name;
		if (!str_starts(entry_key(entry), ask->key))
			break;
		if (status == ST_NOTFOUND || !own_name(ask, entry, &name) || !rows_want(ask, name))
			continue;
		if (status != ST_OK) {
			rows_drop(&rows);
			query_temp(query, "%s", entry->value[ask->form]);
			return;
		}
		if (!rows_add(&rows, name, entry_value(entry, ask->form)))
			break;
	}
	rows_keep(&rows, query->mem);
	rows_finish(&rows, query);
}

static void start(struct query *query)
{
	const struct question *ask = query->ask;
	const struct map *map = current_map(query->table);
	if (ask->op == OP_AUTH)
		static_auth_start(query, map);
	else if (ask->scope == SCOPE_PRIV && ask->user.len == 0)
		query_perm(query, "a priv/ key needs a user");
	else if (ask->op == OP_LOOKUP)
		look_up(query, map);
	else
		iterate(query, map);
}

const struct backend backend_static = {
	.name = "static",
	.help = "pairs from the configuration or a file",
	.ops = CAN(OP_LOOKUP) | CAN(OP_ITERATE) | CAN(OP_AUTH),
	.copies_question = true,
	.asks_nobody = true,
	.settings = settings,
	.conf_size = sizeof(struct static_conf),
	.check = check,
	.drop = drop,
	.refresh = refresh,
	.open = open_table,
	.close = close_table,
	.start = start,
	.cancel = static_auth_cancel,
};
