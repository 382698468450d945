/* One thread: its loop, its turn, its tables, its engines and its mailbox. */
#include "engine/worker.h"

#include <event2/event.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "config/config.h"
#include "engine/helper.h"
#include "engine/http.h"
#include "engine/poller.h"
#include "engine/resolver.h"
#include "model/query.h"
#include "model/timer.h"

enum { TICK_MS = 20 };

/* The tables of one configuration. */
struct generation {
	struct table_set set;
	struct worker *worker;
	struct http *http;      /* theirs; or NULL */
	_Atomic unsigned *sets; /* the configuration's counter, or NULL */
	LIST_ENTRY(generation) link;
};

struct worker {
	struct event_base *base;
	struct turn turn;
	struct poller *poller;
	struct event *wake; /* the turn wants another */
	struct event *tick; /* pending while queries run */
	struct event *reap; /* pending when there are tables that nobody uses */
	LIST_HEAD(, generation) generations;
	struct table_set *tables; /* of the one in use */
	struct http *http;        /* of the one that is being opened */
	struct resolver *resolver;
	struct helper *helper; /* or NULL */
	struct stats stats;
	struct timers timers;
	struct event *alarm; /* for the earliest of the timers */
	pthread_t thread;
	_Atomic unsigned load;

	pthread_mutex_t lock; /* of `mail` */
	STAILQ_HEAD(, letter) mail;
	int bell; /* eventfd: there is mail */
	struct event *rung;

	char scratch[WORKER_SCRATCH];
};

static struct worker *worker_of(struct turn *turn)
{
	return (struct worker *)(void *)((char *)turn - offsetof(struct worker, turn));
}

/* Deadlines: looked at often enough for people, and not at all while every table answers at once. */
static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct worker *worker = arg;
	struct generation *generation;
	(void)fd;
	(void)what;
	turn_enter(&worker->turn);
	worker->turn.ticking = false;
	LIST_FOREACH (generation, &worker->generations, link)
		for (size_t i = 0; i < generation->set.n; i++)
			query_expire(&generation->set.tables[i]);
	turn_leave(&worker->turn);
}

static void want_tick(struct turn *turn)
{
	struct timeval in = {0, TICK_MS * 1000L};
	event_add(worker_of(turn)->tick, &in);
}

static void on_alarm(evutil_socket_t fd, short what, void *arg)
{
	struct worker *worker = arg;
	(void)fd;
	(void)what;
	turn_enter(&worker->turn);
	timers_run(&worker->timers);
	turn_leave(&worker->turn);
}

static void set_alarm(struct timers *timers, uint64_t in_ms)
{
	struct timeval in = {(time_t)(in_ms / 1000), (suseconds_t)(in_ms % 1000 * 1000)};
	event_add(worker_of(timers->turn)->alarm, &in);
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
	struct worker *worker = arg;
	(void)fd;
	(void)what;
	turn_enter(&worker->turn);
	turn_leave(&worker->turn);
}

/* By a timer and not by event_active(): the sockets get their chance in between. */
static void wake(struct turn *turn)
{
	struct timeval now = {0, 0};
	event_add(worker_of(turn)->wake, &now);
}

bool worker_read_mail(struct worker *worker)
{
	STAILQ_HEAD(, letter) mail = STAILQ_HEAD_INITIALIZER(mail);
	pthread_mutex_lock(&worker->lock);
	STAILQ_CONCAT(&mail, &worker->mail);
	pthread_mutex_unlock(&worker->lock);
	bool any = !STAILQ_EMPTY(&mail);

	turn_enter(&worker->turn);
	while (!STAILQ_EMPTY(&mail)) {
		struct letter *letter = STAILQ_FIRST(&mail);
		STAILQ_REMOVE_HEAD(&mail, link);
		letter->open(worker, letter);
	}
	turn_leave(&worker->turn);
	return any;
}

static void on_mail(evutil_socket_t fd, short what, void *arg)
{
	uint64_t rings;
	(void)what;
	if (read(fd, &rings, sizeof(rings)) > 0) /* else somebody's ring was answered already */
		worker_read_mail(arg);
}

/* ---- tables ---- */

static struct generation *generation_of(struct table_set *set)
{
	return (struct generation *)(void *)((char *)set - offsetof(struct generation, set));
}

static void generation_close(struct generation *generation)
{
	LIST_REMOVE(generation, link);
	table_set_close(&generation->set);
	if (generation->http)
		http_free(generation->http);
	if (generation->sets)
		atomic_fetch_sub(generation->sets, 1);
	free(generation);
}

/* By an event of its own: no library is in the middle of a call to an engine then. */
static void on_reap(evutil_socket_t fd, short what, void *arg)
{
	struct worker *worker = arg;
	struct generation *generation = LIST_FIRST(&worker->generations);
	(void)fd;
	(void)what;
	turn_enter(&worker->turn);
	while (generation) {
		struct generation *next = LIST_NEXT(generation, link);
		if (generation->set.users == 0) {
			table_set_take_stats(worker->tables, &generation->set);
			generation_close(generation);
		}
		generation = next;
	}
	turn_leave(&worker->turn);
}

static void on_unused(struct table_set *set)
{
	struct timeval now = {0, 0};
	event_add(generation_of(set)->worker->reap, &now);
}

struct table_set *worker_open_tables(
	struct worker *worker, const struct config *config, struct error *error)
{
	struct generation *generation = memory_new(sizeof(*generation));
	bool opened = table_set_open(&generation->set, config->tables, config->ntables, worker,
		&worker->turn, worker->tables, error);
	generation->worker = worker;
	generation->http = worker->http;
	worker->http = NULL;
	LIST_INSERT_HEAD(&worker->generations, generation, link);
	if (!opened) {
		generation_close(generation);
		return NULL;
	}
	generation->set.unused = on_unused;
	generation->sets = config->sets;
	if (config->sets)
		atomic_fetch_add(config->sets, 1);
	table_set_keep(&generation->set);
	return &generation->set;
}

void worker_use_tables(struct worker *worker, struct table_set *set)
{
	struct table_set *old = worker->tables;
	worker->tables = set;
	if (!old)
		return;
	table_set_take_stats(set, old);
	table_set_leave(old);
}

void worker_drop_tables(struct worker *worker, struct table_set *set)
{
	(void)worker;
	table_set_leave(set);
}

/* ---- life ---- */

static struct event_base *base_new(void)
{
	struct event_config *config = event_config_new();
	event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
	struct event_base *base = event_base_new_with_config(config);
	event_config_free(config);
	return base;
}

/* Mail is for all of the loop's life: a base without events would end. */
static bool open_loop(struct worker *worker, struct error *error)
{
	worker->base = base_new();
	worker->bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	worker->poller = worker->base ? poller_new(worker->base, &worker->turn) : NULL;
	if (!worker->poller || worker->bell < 0)
		return error_set(error, "cannot make an event loop");
	worker->wake = evtimer_new(worker->base, on_wake, worker);
	worker->tick = evtimer_new(worker->base, on_tick, worker);
	worker->reap = evtimer_new(worker->base, on_reap, worker);
	worker->alarm = evtimer_new(worker->base, on_alarm, worker);
	worker->rung = event_new(worker->base, worker->bell, EV_READ | EV_PERSIST, on_mail, worker);
	event_add(worker->rung, NULL);
	return true;
}

struct worker *worker_new(const struct config *config, struct error *error)
{
	struct worker *worker = memory_new(sizeof(*worker));
	turn_init(&worker->turn, wake);
	worker->turn.tick = want_tick;
	timers_init(&worker->timers, &worker->turn, set_alarm);
	pthread_mutex_init(&worker->lock, NULL);
	STAILQ_INIT(&worker->mail);
	LIST_INIT(&worker->generations);
	worker->bell = -1;
	struct table_set *tables =
		open_loop(worker, error) ? worker_open_tables(worker, config, error) : NULL;
	if (!tables) {
		worker_free(worker);
		return NULL;
	}
	worker_use_tables(worker, tables);
	return worker;
}

void worker_free(struct worker *worker)
{
	struct generation *generation = LIST_FIRST(&worker->generations), *next;
	for (; generation; generation = next) {
		next = LIST_NEXT(generation, link);
		generation_close(generation);
	}
	if (worker->helper)
		helper_free(worker->helper);
	worker_read_mail(worker); /* of workers that were freed before, and of the helper */
	if (worker->http)
		http_free(worker->http);
	if (worker->resolver)
		resolver_free(worker->resolver);
	timers_free(&worker->timers);
	if (worker->poller)
		poller_free(worker->poller);
	if (worker->rung)
		event_free(worker->rung);
	if (worker->wake)
		event_free(worker->wake);
	if (worker->tick)
		event_free(worker->tick);
	if (worker->reap)
		event_free(worker->reap);
	if (worker->alarm)
		event_free(worker->alarm);
	if (worker->base)
		event_base_free(worker->base);
	if (worker->bell >= 0)
		close(worker->bell);
	pthread_mutex_destroy(&worker->lock);
	free(worker);
}

static void *run(void *arg)
{
	struct worker *worker = arg;
	int old;
	/* Nobody cancels a worker. With this said, read(2) and write(2) need not make themselves ready for
	 * it, which costs each of them two locked instructions. */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old);
	event_base_dispatch(worker->base);
	return NULL;
}

bool worker_run(struct worker *worker)
{
	return pthread_create(&worker->thread, NULL, run, worker) == 0;
}

static void open_stop(struct worker *worker, struct letter *letter)
{
	free(letter);
	event_base_loopbreak(worker->base);
}

void worker_stop(struct worker *worker)
{
	struct letter *letter = memory_new(sizeof(*letter));
	letter->open = open_stop;
	worker_post(worker, letter);
	pthread_join(worker->thread, NULL);
}

void worker_post(struct worker *to, struct letter *letter)
{
	uint64_t one = 1;
	pthread_mutex_lock(&to->lock);
	bool first = STAILQ_EMPTY(&to->mail);
	STAILQ_INSERT_TAIL(&to->mail, letter, link);
	pthread_mutex_unlock(&to->lock);
	if (first && write(to->bell, &one, sizeof(one)) < 0) {
		/* The counter is full: the bell rings already. */
	}
}

struct event_base *worker_base(struct worker *worker)
{
	return worker->base;
}

struct turn *worker_turn(struct worker *worker)
{
	return &worker->turn;
}

struct poller *worker_poller(struct worker *worker)
{
	return worker->poller;
}

struct stats *worker_stats(struct worker *worker)
{
	return &worker->stats;
}

struct table_set *worker_tables(struct worker *worker)
{
	return worker->tables;
}

struct http *worker_http(struct worker *worker)
{
	if (!worker->http)
		worker->http = http_new(worker->base, &worker->turn);
	return worker->http;
}

/* What the helper has done comes home as mail. */
struct finished {
	struct letter letter;
	struct chore *chore;
};

static void open_finished(struct worker *worker, struct letter *letter)
{
	struct chore *chore = ((struct finished *)(void *)letter)->chore;
	(void)worker;
	free(letter);
	chore->done(chore);
}

static void post_finished(void *worker, struct chore *chore)
{
	struct finished *finished = memory_new(sizeof(*finished));
	finished->letter.open = open_finished;
	finished->chore = chore;
	worker_post(worker, &finished->letter);
}

struct helper *worker_helper(struct worker *worker)
{
	if (!worker->helper)
		worker->helper = helper_new(post_finished, worker);
	return worker->helper;
}

struct resolver *worker_resolver(struct worker *worker)
{
	struct error error;
	if (!worker->resolver)
		worker->resolver = resolver_new(worker->base, &worker->turn, "", &error);
	return worker->resolver;
}

char *worker_scratch(struct worker *worker)
{
	return worker->scratch;
}

void worker_count(struct worker *worker, int change)
{
	atomic_fetch_add_explicit(&worker->load, (unsigned)change, memory_order_relaxed);
}

unsigned worker_load(const struct worker *worker)
{
	return atomic_load_explicit(&worker->load, memory_order_relaxed);
}
