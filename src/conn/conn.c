/* One client's connection: a descriptor and its events around a dialog.
 *
 * Whatever happens to a connection in a turn (bytes, answers) ends in settle(), at the end of it: it
 * decodes what is left, writes all answers in one system call, and is the one place where a
 * connection dies. So nothing else needs to ask whether it is still alive. */
#include "conn/conn.h"

#include <errno.h>
#include <event2/event.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/poller.h"

enum {
	IN_MAX = 256 * 1024 * 1024, /* bytes: no codec lets a request grow so long */
	READ_MORE = 16 * 1024,      /* bytes at a time, once a request does not come whole */
	CROWDED_MS = 5000,          /* a client too many may wait so long before he asks */
	/* Silence within a request, or before the answers that he has are read, where the idle may stay for
	 * ever. Postfix and Dovecot have given up by then. */
	UNFINISHED_MS = 100 * 1000,
	IDLE_GRAIN = 16, /* idle_timeout is kept to a 16th of itself */
};

struct conn {
	struct dialog dialog;
	struct conn_group *group;
	TAILQ_ENTRY(conn) link;
	struct job settle;
	struct buf in;
	uint64_t used_ms;   /* last sign of life */
	uint64_t listed_ms; /* the same when it was put at the end of the group's list */
	struct watch io;
	bool input_over; /* the client sends no more; what came before is still to be decoded */
	_Alignas(16) char session[];
};

static void on_settle(struct job *job);
static void settle(struct conn *conn);
static void wait_for_idle(struct conn_group *group, uint64_t ms);

static void touch(struct conn *conn)
{
	turn_add_job(worker_turn(conn->group->worker), &conn->settle, on_settle);
}

static void on_answers(struct dialog *dialog)
{
	touch((struct conn *)(void *)((char *)dialog - offsetof(struct conn, dialog)));
}

/* ---- bytes ---- */

static struct conn_list *list_of(const struct conn *conn)
{
	return conn->dialog.crowded ? &conn->group->crowded : &conn->group->conns;
}

/* How long a client may be silent; without an idle timeout only in the middle of something. */
static uint64_t silence_of(const struct conn_group *group)
{
	return group->idle_timeout > 0 ? (uint64_t)group->idle_timeout : UNFINISHED_MS;
}

/* A sign of life. The list is in order to a grain of the timeout: a busy client need not be moved with
 * each request, past neighbours that are in nobody's cache. */
static void used(struct conn *conn)
{
	struct conn_group *group = conn->group;
	conn->used_ms = worker_turn(group->worker)->now_ms;
	if (conn->used_ms - conn->listed_ms <= silence_of(group) / IDLE_GRAIN ||
		conn->dialog.crowded)
		return;
	conn->listed_ms = conn->used_ms;
	TAILQ_REMOVE(&group->conns, conn, link);
	TAILQ_INSERT_TAIL(&group->conns, conn, link);
}

/* The client's end: what is under way is still answered, unless nobody is there to read it. */
static void end_of_input(struct conn *conn)
{
	struct pollfd peer = {.fd = conn->io.fd};
	conn->input_over = true;
	if (!dialog_is_idle(&conn->dialog) && poll(&peer, 1, 0) > 0 &&
		(peer.revents & (POLLHUP | POLLERR)))
		conn->dialog.gone = true;
}

/* Reads once; what is not used now is kept. Nothing is allocated for a client whose requests come
 * whole. */
static void receive(struct conn *conn)
{
	bool kept = conn->in.len > 0;
	char *to = kept ? buf_reserve(&conn->in, READ_MORE) : worker_scratch(conn->group->worker);
	ssize_t n = recv(conn->io.fd, to, kept ? READ_MORE : WORKER_SCRATCH, 0);
	if (n <= 0) {
		if (n == 0)
			end_of_input(conn);
		else if (errno != EAGAIN && errno != EINTR)
			conn->dialog.gone = true;
		return;
	}
	used(conn);
	if (kept) {
		conn->in.len += (size_t)n;
		buf_consume(&conn->in, dialog_read(&conn->dialog, buf_str(&conn->in)));
	} else {
		struct str in = {to, (size_t)n};
		buf_add(&conn->in, str_skip(in, dialog_read(&conn->dialog, in)));
		if (conn->in.wipe)
			explicit_bzero(to, (size_t)n);
	}
}

/* Writes what there is; what the client does not take now waits for his socket. */
static void flush(struct conn *conn)
{
	struct dialog *dialog = &conn->dialog;
	struct str unsent = dialog_unsent(dialog);
	ssize_t n = send(conn->io.fd, unsent.ptr, unsent.len, MSG_NOSIGNAL);
	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		dialog->gone = true;
		return;
	}
	dialog_sent(dialog, n > 0 ? (size_t)n : 0);
	if (n > 0)
		used(conn); /* he reads; and who was answered just now is not idle since he asked */
}

/* Requests were read, and are decoded as soon as others had their turn. */
static bool has_requests(const struct conn *conn)
{
	return conn->in.len > 0 && conn->dialog.unfinished && dialog_may_read(&conn->dialog);
}

/* Nothing is read on top of requests that wait: who sends faster than he is served would have more and more
 * of them here, and each would be moved for all before it. */
static void on_ready(struct watch *io, unsigned what)
{
	struct conn *conn = (struct conn *)(void *)((char *)io - offsetof(struct conn, io));
	if ((what & WATCH_READ) && !has_requests(conn))
		receive(conn);
	settle(conn);
}

/* ---- life and death ---- */

static void hang_up(struct conn *conn)
{
	if (conn->io.fd >= 0)
		poller_close(worker_poller(conn->group->worker), &conn->io);
}

static void conn_free(struct conn *conn)
{
	struct conn_group *group = conn->group;
	hang_up(conn);
	dialog_close(&conn->dialog);
	turn_drop_job(&conn->settle);
	buf_free(&conn->in);
	TAILQ_REMOVE(list_of(conn), conn, link);
	worker_count(group->worker, -1);
	atomic_fetch_sub_explicit(&group->open, 1, memory_order_relaxed);
	if (conn->dialog.crowded)
		atomic_fetch_sub_explicit(&group->too_many, 1, memory_order_relaxed);
	free(conn);
}

static unsigned wanted(const struct conn *conn)
{
	unsigned what = conn->dialog.out.len > 0 ? WATCH_WRITE : 0;
	if (!conn->input_over && dialog_may_read(&conn->dialog))
		what |= WATCH_READ;
	return what;
}

/* Requests were read that could not be decoded for all that waited to be written. */
static bool held_back(const struct conn *conn)
{
	return conn->in.len > 0 && !conn->dialog.gone && !dialog_may_read(&conn->dialog);
}

/* Decodes what was read before; false: there is more, after others had their turn. */
static bool read_rest(struct conn *conn)
{
	struct dialog *dialog = &conn->dialog;
	if (conn->in.len == 0 || dialog->gone || !dialog_may_read(dialog))
		return true;
	buf_consume(&conn->in, dialog_read(dialog, buf_str(&conn->in)));
	return !has_requests(conn);
}

/* Sends what can be sent; false: that makes room for requests that nothing else would wake up. */
static bool send_answers(struct conn *conn)
{
	struct dialog *dialog = &conn->dialog;
	if (dialog->out.overflow && !dialog->gone)
		dialog_give_up(dialog);
	bool held = held_back(conn);
	if (!dialog->gone && dialog->out.len > 0)
		flush(conn);
	return !(held && !held_back(conn));
}

/* The end of each turn that touched the connection. */
static void settle(struct conn *conn)
{
	struct dialog *dialog = &conn->dialog;
	if (!read_rest(conn) || !send_answers(conn)) {
		touch(conn);
		return;
	}
	if (dialog->gone) {
		hang_up(conn);
		dialog_abandon(dialog);
	}
	bool over = dialog->gone || ((dialog->ended || conn->input_over) && dialog->out.len == 0);
	if (over && dialog_is_idle(dialog)) {
		conn_free(conn);
		return;
	}
	if (conn->in.len == 0 && conn->in.ptr)
		buf_free(&conn->in);
	if (!dialog->gone)
		poller_watch(worker_poller(conn->group->worker), &conn->io, wanted(conn));
}

static void on_settle(struct job *job)
{
	settle((struct conn *)(void *)((char *)job - offsetof(struct conn, settle)));
}

/* Of Dovecot's own clients one could name the connection to another by its number; here nobody does. */
static void greet(struct conn *conn)
{
	struct greeting greeting = {.pid = (unsigned)getpid()};
	if (getrandom(&greeting.number, sizeof(greeting.number), 0) < 0 ||
		getrandom(greeting.random, sizeof(greeting.random), 0) < 0)
		abort();
	greeting.number >>= 1;
	dialog_greet(&conn->dialog, &greeting);
}

void conn_new(struct conn_group *group, int fd, bool crowded)
{
	struct conn *conn = memory_new(sizeof(*conn) + group->home.conf->codec->session_size);
	conn->group = group;
	conn->io = (struct watch){.fd = fd, .ready = on_ready};
	conn->in.max = IN_MAX;
	conn->in.wipe = group->home.conf->codec->secret;
	conn->used_ms = conn->listed_ms = worker_turn(group->worker)->now_ms;
	dialog_open(&conn->dialog, &group->home, conn->session, on_answers);
	conn->dialog.crowded = crowded;
	TAILQ_INSERT_TAIL(list_of(conn), conn, link);
	stats_count(&group->accepted);
	atomic_fetch_add_explicit(&group->open, 1, memory_order_relaxed);
	if (crowded)
		atomic_fetch_add_explicit(&group->too_many, 1, memory_order_relaxed);
	if (group->draining) /* it was under way between workers when the drain began */
		shutdown(fd, SHUT_RD);
	if (group->home.conf->codec->greet)
		greet(conn);
	receive(conn); /* most clients have asked before we look */
	touch(conn);
	if (crowded && TAILQ_FIRST(&group->crowded) == conn)
		wait_for_idle(group, CROWDED_MS); /* sooner than the others need it, perhaps */
	else if (!evtimer_pending(group->idle, NULL))
		wait_for_idle(group, silence_of(group));
}

/* ---- groups ---- */

static void wait_for_idle(struct conn_group *group, uint64_t ms)
{
	struct timeval in = {(time_t)(ms / 1000), (suseconds_t)(ms % 1000 * 1000)};
	evtimer_add(group->idle, &in);
}

/* He waits for an answer, or nobody minds that he is silent. Whoever has one and does not read it waits
 * for nothing. */
static bool may_be_silent(const struct conn *conn)
{
	const struct dialog *dialog = &conn->dialog;
	if (dialog_is_awaited(dialog))
		return true;
	bool unfinished = conn->in.len > 0 || dialog->out.len > 0;
	return conn->group->idle_timeout == 0 && !dialog->crowded && !unfinished;
}

/* Ends those of the list that were last heard of `limit` ms ago or longer; returns in how many ms the
 * next one has to be looked at, 0: there is none. */
static uint64_t close_silent(struct conn_group *group, struct conn_list *list, uint64_t limit)
{
	struct conn *conn;
	uint64_t now = worker_turn(group->worker)->now_ms;
	while ((conn = TAILQ_FIRST(list)) && conn->listed_ms + limit <= now) {
		if (conn->used_ms + limit > now && !conn->dialog.crowded) {
			conn->listed_ms = conn->used_ms; /* at most a grain later */
			continue;
		}
		TAILQ_REMOVE(list, conn, link);
		TAILQ_INSERT_TAIL(list, conn, link);
		conn->listed_ms = now;
		if (may_be_silent(conn))
			continue;
		if (conn->dialog.out.len > 0) /* nobody takes what was written long ago */
			conn->dialog.gone = true;
		conn->dialog.ended = true;
		touch(conn);
	}
	return conn ? conn->listed_ms + limit - now : 0;
}

/* The first of a list is the longest idle: no timer for each connection. */
static void on_idle(evutil_socket_t fd, short what, void *arg)
{
	struct conn_group *group = arg;
	struct turn *turn = worker_turn(group->worker);
	uint64_t next, soon;
	(void)fd;
	(void)what;
	turn_enter(turn);
	next = close_silent(group, &group->conns, silence_of(group));
	soon = close_silent(group, &group->crowded, CROWDED_MS);
	next = next == 0 || (soon > 0 && soon < next) ? soon : next;
	if (next > 0)
		wait_for_idle(group, next);
	turn_leave(turn);
}

void conn_group_open(struct conn_group *group, struct worker *worker,
	const struct listen_conf *conf, const char *name)
{
	*group = (struct conn_group){.worker = worker};
	dialog_home_open(&group->home, conf, worker_turn(worker), worker_tables(worker), name);
	TAILQ_INIT(&group->conns);
	TAILQ_INIT(&group->crowded);
	group->home.errors = &worker_stats(worker)->errors;
	group->stats = (struct listener_stats){
		.protocol = conf->codec->name, .address = conf->address_text, .open = &group->open};
	LIST_INSERT_HEAD(&worker_stats(worker)->listeners, &group->stats, link);
	group->idle_timeout = listen_idle_timeout(conf);
	group->idle = evtimer_new(worker_base(worker), on_idle, group);
}

/* The timer finds out at once when it has to come again. */
void conn_group_reload(struct conn_group *group, const struct listen_conf *conf)
{
	dialog_home_reload(&group->home, conf, worker_tables(group->worker));
	group->stats.address = conf->address_text;
	group->idle_timeout = listen_idle_timeout(conf);
	wait_for_idle(group, 0);
}

static void free_all(struct conn_list *list)
{
	struct conn *conn;
	while ((conn = TAILQ_FIRST(list)))
		conn_free(conn); /* NOLINT(clang-analyzer-unix.Malloc): it unlinks itself */
}

void conn_group_close(struct conn_group *group)
{
	free_all(&group->conns);
	free_all(&group->crowded);
	LIST_REMOVE(&group->stats, link);
	dialog_home_close(&group->home);
	event_free(group->idle);
}

static void drain(struct conn_list *list)
{
	struct conn *conn;
	TAILQ_FOREACH (conn, list, link)
		if (conn->io.fd >= 0)
			shutdown(conn->io.fd, SHUT_RD);
}

/* The client learns at once that nobody reads on; the end of input then takes its usual way, so
 * that what he had sent before is still answered. */
void conn_group_drain(struct conn_group *group)
{
	group->draining = true;
	drain(&group->conns);
	drain(&group->crowded);
}
