/* The control thread: opens everything, waits for signals, ends everything. */
#include "daemon/control.h"

#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/trim.h"
#include "daemon/reload.h"

enum {
	REFRESH_MS = 1000, /* between two looks at changed files */
	DRAIN_LOOK_MS = 10,
};

/* systemd's readiness protocol: sd_notify(3). */
static void notify(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	if (!path || !*path || strlen(path) >= sizeof(address.sun_path))
		return;
	size_t length = strlen(path);
	memcpy(address.sun_path, path, length);
	if (path[0] == '@')
		address.sun_path[0] = '\0';
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&address,
		(socklen_t)(offsetof(struct sockaddr_un, sun_path) + length));
	close(fd);
}

/* Does systemd want to hear that we live (WatchdogSec=)? sd_watchdog_enabled(3). */
static bool is_watched(void)
{
	const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	uint64_t number;
	return str_u64(str_of(usec), &number) && number > 0 &&
	       (!pid || (str_u64(str_of(pid), &number) && number == (uint64_t)getpid()));
}

static void raise_limits(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

/* Both names were found to exist when the configuration was loaded. */
static bool drop_privileges(const struct config *config, struct error *error)
{
	struct passwd *user = *config->user ? getpwnam(config->user) : NULL;
	struct group *group = *config->group ? getgrnam(config->group) : NULL;
	if (!user && !group)
		return true;
	gid_t gid = group ? group->gr_gid : user->pw_gid;
	if ((user ? initgroups(user->pw_name, gid) : setgroups(1, &gid)) != 0 || setgid(gid) != 0)
		return error_set(error, "cannot take the groups of %s: %s; only root can",
			group ? config->group : config->user, strerror(errno));
	if (user && setuid(user->pw_uid) != 0)
		return error_set(error, "cannot become user %s: %s; only root can", config->user,
			strerror(errno));
	return true;
}

static bool open_all(struct daemon *daemon, struct error *error)
{
	const struct config *config = &daemon->current->config;
	struct listeners_plan plan;
	if (!listeners_prepare(&daemon->listeners, config, &plan, error))
		return false;
	if (drop_privileges(config, error) &&
		crew_open(&daemon->crew, (size_t)config->threads, config, error) &&
		crew_run(&daemon->crew, error)) {
		listeners_commit(&daemon->listeners, &plan, &daemon->crew);
		return true;
	}
	listeners_abandon(&plan);
	return false;
}

static void close_all(struct daemon *daemon)
{
	struct edition *edition;
	crew_stop(&daemon->crew);
	listeners_close(&daemon->listeners);
	crew_close(&daemon->crew);
	SLIST_INSERT_HEAD(&daemon->old, daemon->current, link);
	while ((edition = SLIST_FIRST(&daemon->old))) {
		SLIST_REMOVE_HEAD(&daemon->old, link);
		edition_free(edition);
	}
}

static void refresh_tables(const struct config *config)
{
	for (size_t i = 0; i < config->ntables; i++)
		if (config->tables[i].backend->refresh)
			config->tables[i].backend->refresh(&config->tables[i]);
}

/* Of a table, over all workers. */
struct sums {
	uint64_t results[ST_COUNT], counters[MAX_COUNTERS];
};

static void sum_up(const struct daemon *daemon, size_t index, struct sums *sums)
{
	for (size_t w = 0; w < daemon->crew.n; w++) {
		const struct table_stats *stats =
			&worker_tables(daemon->crew.workers[w])->tables[index].stats;
		for (size_t i = 0; i < ST_COUNT; i++)
			sums->results[i] +=
				atomic_load_explicit(&stats->results[i], memory_order_relaxed);
		for (size_t i = 0; i < MAX_COUNTERS; i++)
			sums->counters[i] +=
				atomic_load_explicit(&stats->counters[i], memory_order_relaxed);
	}
	table_measure(&daemon->current->config.tables[index], sums->counters);
}

static void log_table(const struct daemon *daemon, size_t index)
{
	const struct table_conf *table = &daemon->current->config.tables[index];
	const char *const *names = table->backend->counters;
	struct sums sums = {0};
	struct arena mem = {0};
	struct str more = {"", 0};
	sum_up(daemon, index, &sums);
	for (size_t i = 0; names && names[i]; i++)
		more = arena_printf(&mem, "%s, %s %" PRIu64, more.ptr, names[i], sums.counters[i]);
	log_info("table %s (%s): ok %" PRIu64 ", notfound %" PRIu64 ", temp %" PRIu64
		 ", perm %" PRIu64 "%s",
		table->name, table->backend->name, sums.results[ST_OK], sums.results[ST_NOTFOUND],
		sums.results[ST_TEMP], sums.results[ST_PERM], more.ptr);
	arena_clear(&mem);
}

static void log_summary(const struct daemon *daemon)
{
	for (size_t i = 0; i < daemon->listeners.n; i++) {
		struct arena mem = {0};
		log_info("%s", listener_summary(daemon->listeners.all[i], &mem).ptr);
		arena_clear(&mem);
	}
	for (size_t i = 0; i < daemon->current->config.ntables; i++)
		log_table(daemon, i);
}

/* Lets what is under way end, within the configured time. */
static void drain(struct daemon *daemon)
{
	struct timespec pause = {0, DRAIN_LOOK_MS * 1000000L};
	uint64_t until = turn_clock_ms() + (uint64_t)daemon->current->config.shutdown_timeout;
	unsigned open;
	listeners_drain(&daemon->listeners);
	do {
		open = crew_load(&daemon->crew);
		if (open > 0)
			nanosleep(&pause, NULL);
	} while (open > 0 && turn_clock_ms() < until);
	if (open > 0)
		log_warn("%u connections were still busy after shutdown_timeout", open);
}

/* systemd waits for the second word; it tells by the time that it belongs to this signal. */
static void on_hangup(struct daemon *daemon)
{
	struct timespec now;
	char state[64];
	clock_gettime(CLOCK_MONOTONIC, &now);
	snprintf(state, sizeof(state), "RELOADING=1\nMONOTONIC_USEC=%" PRId64,
		(int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000);
	notify(state);
	reload(daemon);
	notify("READY=1");
}

static void turn_once(struct worker *worker, size_t index, void *arg)
{
	(void)worker;
	(void)index;
	(void)arg;
}

/* Of a worker that does not turn any more nothing comes back: then nothing is said. */
static void prove_life(struct daemon *daemon)
{
	crew_do(&daemon->crew, turn_once, NULL);
	notify("WATCHDOG=1");
}

static void serve(struct daemon *daemon, const sigset_t *signals)
{
	bool watched = is_watched();
	struct timespec second = {REFRESH_MS / 1000, REFRESH_MS % 1000 * 1000000L};
	for (;;) {
		switch (sigtimedwait(signals, NULL, &second)) {
		case SIGTERM:
		case SIGINT:
			log_info("stopping");
			notify("STOPPING=1");
			drain(daemon);
			return;
		case SIGHUP:
			on_hangup(daemon);
			break;
		case SIGUSR1:
			log_summary(daemon);
			break;
		default:
			refresh_tables(&daemon->current->config);
			reload_tidy(daemon);
		}
		if (watched)
			prove_life(daemon);
	}
}

/* Threads inherit the mask: signals come to the control thread alone. */
static void catch_signals(sigset_t *signals)
{
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(signals);
	sigaddset(signals, SIGTERM);
	sigaddset(signals, SIGINT);
	sigaddset(signals, SIGHUP);
	sigaddset(signals, SIGUSR1);
	sigprocmask(SIG_BLOCK, signals, NULL);
}

static bool load(struct daemon *daemon, int argc, char **argv)
{
	struct error error;
	daemon->argc = argc;
	daemon->argv = args_copy(argc, argv, &daemon->mem);
	daemon->current = edition_load(argc, argv, &error);
	if (!daemon->current)
		fprintf(stderr, "%s\n", error.text);
	return daemon->current;
}

static bool run(struct daemon *daemon)
{
	const struct config *config = &daemon->current->config;
	struct error error;
	sigset_t signals;
	catch_signals(&signals);
	raise_limits();
	log_open(config->log_level, config->log_format, config->log_to);
	bool opened = open_all(daemon, &error);
	if (opened) {
		log_info("mapmux " MAPMUX_VERSION
			 " is ready: %zu listeners, %zu tables, %zu workers",
			daemon->listeners.n, worker_tables(daemon->crew.workers[0])->nnames,
			daemon->crew.n);
		notify("READY=1");
		trim_memory();
		serve(daemon, &signals);
	} else {
		log_error("%s", error.text);
	}
	close_all(daemon);
	return opened;
}

int control_run(int argc, char **argv)
{
	struct daemon daemon = {0};
	bool good = load(&daemon, argc, argv) && run(&daemon);
	arena_clear(&daemon.mem);
	return good ? 0 : 1;
}
