/* One client: reads, its codec, its questions under way, writes.
 *
 * Whatever happens to a connection in a turn (bytes, answers) ends in settle(), once, at
 * the end of the turn: it decodes what is left, writes all answers in one system call, and is the
 * one place where a connection dies. So nothing below it needs to ask whether it is still alive. */
#include "conn.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "query.h"

enum {
	SLOT_MEM = 2048,       /* bytes of a slot's own first piece of memory */
	SPARE_OUT = 16 * 1024, /* bytes of the spare output buffer, at most */
	SPARE_SLOTS = 256,     /* kept by a group */
	OUT_PAUSE =
		256 * 1024, /* bytes waiting for a slow reader: decode no more until they drain */
	OUT_MAX = 64 * 1024 * 1024, /* bytes: an iteration may be that long */
	IN_MAX = 256 * 1024 * 1024, /* bytes: no codec lets a request grow so long */
	READ_MORE = 16 * 1024,      /* bytes at a time, once a request does not come whole */
	COMPLAINT_MS = 1000,        /* one log line in this time for each cause */
};

/* One question on its way, or words of the codec that wait for their place in the order. */
struct slot {
	struct query query;
	struct question ask;
	struct conn *conn;
	uint64_t tag;
	uint64_t asked_ms;
	struct str words; /* of the codec; no query then */
	bool in_order, waiting, finished;
	TAILQ_ENTRY(slot) link;
	SLIST_ENTRY(slot) next_spare;
	struct arena mem;
	_Alignas(16) char first[SLOT_MEM];
};

struct conn {
	struct conn_group *group;
	TAILQ_ENTRY(conn) link;
	struct job settle;
	TAILQ_HEAD(slot_list, slot) slots; /* in the order of the questions */
	struct slot *barrier; /* a change, which runs alone: under way, or waiting for the others */
	struct buf in, out;
	uint64_t used_ms; /* last sign of life */
	int fd;
	unsigned inflight;
	short watched;   /* EV_READ, EV_WRITE */
	bool ended;      /* not listened to any more: what is under way is answered, no more */
	bool input_over; /* the client sends no more; what came before is still to be decoded */
	bool gone;       /* nobody is there to answer */
	struct event io;
	_Alignas(16) char session[];
};

static void settle(struct job *job);
static void wait_for_idle(struct conn_group *group, uint64_t ms);

static void touch(struct conn *conn)
{
	turn_add_job(worker_turn(conn->group->worker), &conn->settle, settle);
}

/* Before anything is written to `out`: the memory of the last one that was flushed. */
static void lend_out(struct conn *conn)
{
	if (conn->out.ptr)
		return;
	conn->out = conn->group->spare_out;
	conn->group->spare_out = (struct buf){.max = OUT_MAX};
}

/* What a vanished client did not take goes with him: it is nobody else's answer. */
static void return_out(struct conn *conn)
{
	buf_reset(&conn->out);
	if (conn->out.size > SPARE_OUT || conn->group->spare_out.ptr)
		buf_free(&conn->out);
	else
		conn->group->spare_out = conn->out;
	conn->out = (struct buf){.max = OUT_MAX};
}

static void count(_Atomic uint64_t *counter)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1,
		memory_order_relaxed);
}

/* ---- slots ---- */

static struct slot *slot_new(struct conn *conn)
{
	struct conn_group *group = conn->group;
	struct slot *slot = SLIST_FIRST(&group->spare);
	if (slot) {
		SLIST_REMOVE_HEAD(&group->spare, next_spare);
		group->nspare--;
	} else {
		slot = memory_grow(NULL, sizeof(*slot));
		arena_init(&slot->mem, slot->first, sizeof(slot->first));
	}
	slot->query = (struct query){.mem = &slot->mem};
	slot->conn = conn;
	slot->words = STR("");
	slot->in_order = slot->waiting = slot->finished = false;
	TAILQ_INSERT_TAIL(&conn->slots, slot, link);
	conn->inflight++;
	return slot;
}

/* The query is idle. */
static void slot_free(struct slot *slot)
{
	struct conn *conn = slot->conn;
	struct conn_group *group = conn->group;
	TAILQ_REMOVE(&conn->slots, slot, link);
	conn->inflight--;
	if (conn->barrier == slot)
		conn->barrier = NULL;
	if (slot->query.table)
		table_set_leave(slot->query.table->set);
	arena_clear(&slot->mem);
	if (group->nspare < SPARE_SLOTS) {
		SLIST_INSERT_HEAD(&group->spare, slot, next_spare);
		group->nspare++;
	} else {
		free(slot);
	}
}

/* ---- answers ---- */

static void complain(const struct slot *slot, const struct answer *answer)
{
	const struct conn_group *group = slot->conn->group;
	struct table *table = slot->query.table;
	unsigned held;
	if (!log_allowed(&table->failures, COMPLAINT_MS, &held))
		return;
	char ms[24], more[24];
	snprintf(ms, sizeof(ms), "%" PRIu64, worker_turn(group->worker)->now_ms - slot->asked_ms);
	snprintf(more, sizeof(more), "%u", held);
	const struct pair fields[] = {
		{STR("table"), str_of(table->conf->name)},
		{STR("op"), str_of(op_name(slot->ask.op))},
		{STR("status"), str_of(status_name(answer->status))},
		{STR("ms"), str_of(ms)},
		{STR("why"), answer->why},
		{STR("listener"), str_of(group->name)},
		{STR("not_shown"), str_of(more)},
	};
	log_event(LOG_LEVEL_WARN, "question failed", fields,
		sizeof(fields) / sizeof(*fields) - !held);
}

static void say(struct slot *slot)
{
	struct conn *conn = slot->conn;
	const struct listen_conf *conf = conn->group->conf;
	if (!conn->gone) {
		lend_out(conn);
		if (slot->words.len > 0)
			buf_add(&conn->out, slot->words);
		else
			conf->codec->encode(conn->session, conf->conf, slot->tag,
				&slot->query.answer, &conn->out);
	}
	slot_free(slot);
}

static void start(struct slot *slot);

/* A waiting change goes when all before it are answered. */
static void start_barrier(struct conn *conn)
{
	if (conn->barrier && conn->barrier->waiting && conn->barrier == TAILQ_FIRST(&conn->slots))
		start(conn->barrier);
}

/* Says what can be said now. */
static void slot_finished(struct slot *slot)
{
	struct conn *conn = slot->conn;
	slot->finished = true;
	if (!slot->in_order)
		say(slot);
	while ((slot = TAILQ_FIRST(&conn->slots)) && slot->finished)
		say(slot);
	start_barrier(conn);
	touch(conn);
}

static void on_answer(struct query *query)
{
	struct slot *slot = (struct slot *)(void *)((char *)query - offsetof(struct slot, query));
	if (query->answer.status >= ST_TEMP)
		complain(slot, &query->answer);
	slot_finished(slot);
}

/* ---- questions ---- */

static void start(struct slot *slot)
{
	slot->waiting = false;
	query_start(&slot->query, slot->query.table, &slot->ask, on_answer);
}

/* A name that nobody has is not answered from another table: that would be a wrong answer. */
static struct table *find_table(struct conn *conn, struct str name)
{
	struct table_set *tables = conn->group->tables;
	const struct table_conf *otherwise = conn->group->conf->table;
	if (name.len > 0)
		return table_set_find(tables, name);
	return otherwise ? &tables->tables[otherwise->index] : NULL;
}

/* The protocol's own way: an error to the question, or the end of the connection. */
static void refuse_table(struct conn *conn, const struct message *message)
{
	struct conn_group *group = conn->group;
	const struct pair fields[] = {
		{STR("table"), message->table}, {STR("listener"), str_of(group->name)}};
	unsigned held;
	count(&group->refused);
	if (log_allowed(&group->complaints, COMPLAINT_MS, &held))
		log_event(LOG_LEVEL_WARN, "unknown table", fields, 2);
	if (group->conf->codec->closes_on_unknown_table) {
		conn->ended = true;
		return;
	}
	struct slot *slot = slot_new(conn);
	slot->tag = message->tag;
	slot->in_order = message->in_order;
	slot->query.answer = (struct answer){.status = ST_PERM, .why = STR("unknown table")};
	slot_finished(slot);
}

/* A change runs alone on its connection: what its client asked before is answered before, and what
 * he asks behind it sees it. */
static void ask(struct conn *conn, const struct message *message)
{
	struct table *table = find_table(conn, message->table);
	if (!table) {
		refuse_table(conn, message);
		return;
	}
	struct slot *slot = slot_new(conn);
	slot->tag = message->tag;
	slot->in_order = message->in_order;
	slot->asked_ms = worker_turn(conn->group->worker)->now_ms;
	question_copy(&slot->ask, &message->ask, &slot->mem);
	slot->query.table = table;
	table_set_keep(table->set); /* it may wait for its turn, its answer for those before */
	if (slot->ask.op == OP_CHANGE)
		conn->barrier = slot;
	slot->waiting = conn->barrier == slot && conn->inflight > 1;
	if (!slot->waiting)
		start(slot);
}

/* What the codec said itself keeps its place behind the answers that are still to come. */
static void keep_words(struct conn *conn, struct buf *words)
{
	if (words->len == 0)
		return;
	struct slot *slot = slot_new(conn);
	slot->words = arena_str(&slot->mem, buf_str(words));
	slot->in_order = slot->finished = true;
	buf_free(words);
}

static void bad_request(struct conn *conn, enum decoded decoded, const char *why)
{
	struct conn_group *group = conn->group;
	unsigned held;
	count(decoded == DECODE_BROKEN ? &group->broken : &group->refused);
	if (log_allowed(&group->complaints, COMPLAINT_MS, &held))
		log_event(LOG_LEVEL_WARN, "bad request",
			(struct pair[]){{STR("listener"), str_of(group->name)},
				{STR("why"), str_of(why)},
				{STR("closed"), decoded == DECODE_BROKEN ? STR("yes") : STR("no")}},
			3);
}

static bool may_decode(const struct conn *conn)
{
	return !conn->ended && !conn->barrier && conn->out.len < OUT_PAUSE &&
	       conn->inflight < conn->group->conf->codec->max_inflight;
}

/* Decodes as much as may be; returns how many bytes were used. */
static size_t decode(struct conn *conn, struct str in)
{
	const struct listen_conf *conf = conn->group->conf;
	struct buf words = {.max = OUT_MAX};
	size_t total = 0;
	lend_out(conn);
	while (may_decode(conn)) {
		struct message message;
		const char *why = "";
		size_t used = 0;
		struct buf *out = conf->codec->ordered && conn->inflight > 0 ? &words : &conn->out;
		enum decoded decoded = conf->codec->decode(
			conn->session, conf->conf, str_skip(in, total), &used, &message, out, &why);
		total += used;
		keep_words(conn, &words);
		if (decoded == DECODE_MORE)
			break;
		if (decoded == DECODE_MESSAGE) {
			ask(conn, &message);
			continue;
		}
		bad_request(conn, decoded, why);
		if (decoded == DECODE_BROKEN)
			conn->ended = true;
	}
	return total;
}

/* ---- bytes ---- */

/* A sign of life. */
static void used(struct conn *conn)
{
	struct conn_group *group = conn->group;
	conn->used_ms = worker_turn(group->worker)->now_ms;
	TAILQ_REMOVE(&group->conns, conn, link);
	TAILQ_INSERT_TAIL(&group->conns, conn, link);
}

/* The client's end: what is under way is still answered, unless nobody is there to read it. */
static void end_of_input(struct conn *conn)
{
	struct pollfd peer = {.fd = conn->fd};
	conn->input_over = true;
	if (conn->inflight > 0 && poll(&peer, 1, 0) > 0 && (peer.revents & (POLLHUP | POLLERR)))
		conn->gone = true;
}

/* Reads once; what is not used now is kept. Nothing is allocated for a client whose requests come
 * whole. */
static void receive(struct conn *conn)
{
	struct conn_group *group = conn->group;
	bool kept = conn->in.len > 0;
	char *to = kept ? buf_reserve(&conn->in, READ_MORE) : worker_scratch(group->worker);
	ssize_t n = read(conn->fd, to, kept ? READ_MORE : WORKER_SCRATCH);
	if (n <= 0) {
		if (n == 0)
			end_of_input(conn);
		else if (errno != EAGAIN && errno != EINTR)
			conn->gone = true;
		return;
	}
	used(conn);
	if (kept) {
		conn->in.len += (size_t)n;
		buf_consume(&conn->in, decode(conn, buf_str(&conn->in)));
	} else {
		struct str in = {to, (size_t)n};
		buf_add(&conn->in, str_skip(in, decode(conn, in)));
	}
}

/* Writes what there is; what the client does not take now waits for his socket. */
static void flush(struct conn *conn)
{
	ssize_t n = write(conn->fd, conn->out.ptr, conn->out.len);
	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		conn->gone = true;
		return;
	}
	buf_consume(&conn->out, n > 0 ? (size_t)n : 0);
	if (n > 0 && conn->out.len > 0)
		used(conn); /* he reads, if slowly */
}

static void on_io(evutil_socket_t fd, short what, void *arg)
{
	struct conn *conn = arg;
	struct turn *turn = worker_turn(conn->group->worker);
	(void)fd;
	turn_enter(turn);
	if (what & EV_READ)
		receive(conn);
	touch(conn);
	turn_leave(turn);
}

static void watch(struct conn *conn, short what)
{
	if (conn->watched == what)
		return;
	if (conn->watched)
		event_del(&conn->io);
	conn->watched = what;
	if (!what)
		return;
	event_assign(&conn->io, worker_base(conn->group->worker), conn->fd,
		(short)(what | EV_PERSIST), on_io, conn);
	event_add(&conn->io, NULL);
}

/* ---- life and death ---- */

/* Nobody waits for lookups any more. A change the client has committed goes on: only its deadline
 * ends it, or the daemon's end. */
static void forget(struct conn *conn, bool changes_too)
{
	struct slot *slot = TAILQ_FIRST(&conn->slots);
	while (slot) {
		struct slot *next = TAILQ_NEXT(slot, link);
		if (changes_too || slot->finished || slot->ask.op != OP_CHANGE) {
			query_cancel(&slot->query);
			slot_free(slot);
		}
		slot = next;
	}
	start_barrier(conn);
}

static void hang_up(struct conn *conn)
{
	watch(conn, 0);
	if (conn->fd >= 0)
		close(conn->fd);
	conn->fd = -1;
}

static void conn_free(struct conn *conn)
{
	struct conn_group *group = conn->group;
	hang_up(conn);
	turn_drop_job(&conn->settle);
	if (group->conf->codec->end)
		group->conf->codec->end(conn->session);
	buf_free(&conn->in);
	if (conn->out.ptr)
		return_out(conn);
	TAILQ_REMOVE(&group->conns, conn, link);
	worker_count(group->worker, -1);
	atomic_fetch_sub_explicit(&group->open, 1, memory_order_relaxed);
	free(conn);
}

static short wanted(const struct conn *conn)
{
	short what = conn->out.len > 0 ? EV_WRITE : 0;
	if (!conn->input_over && may_decode(conn))
		what |= EV_READ;
	return what;
}

/* Requests were read that could not be decoded for all that waited to be written. */
static bool held_back(const struct conn *conn)
{
	return conn->in.len > 0 && !conn->gone && !may_decode(conn);
}

/* The end of each turn that touched the connection. */
static void settle(struct job *job)
{
	struct conn *conn = (struct conn *)(void *)((char *)job - offsetof(struct conn, settle));
	if (conn->in.len > 0 && !conn->gone && may_decode(conn)) {
		unsigned before = conn->inflight;
		buf_consume(&conn->in, decode(conn, buf_str(&conn->in)));
		if (conn->inflight >
			before) { /* tables that answer at once do so before the next round */
			touch(conn);
			return;
		}
	}
	if (conn->out.overflow)
		conn->gone = true; /* an answer is missing: the client must not wait for it */
	bool held = held_back(conn);
	if (!conn->gone && conn->out.len > 0)
		flush(conn);
	if (held && !held_back(conn)) { /* nothing else would wake them up */
		touch(conn);
		return;
	}
	if (conn->gone) {
		hang_up(conn);
		forget(conn, false);
	}
	bool over = conn->gone || ((conn->ended || conn->input_over) && conn->out.len == 0);
	if (over && TAILQ_EMPTY(&conn->slots)) {
		conn_free(conn);
		return;
	}
	if (conn->in.len == 0)
		buf_free(&conn->in);
	if (conn->out.len == 0 && conn->out.ptr)
		return_out(conn);
	if (!conn->gone)
		watch(conn, wanted(conn));
}

void conn_new(struct conn_group *group, int fd)
{
	struct conn *conn = memory_new(sizeof(*conn) + group->conf->codec->session_size);
	conn->group = group;
	conn->fd = fd;
	conn->in.max = IN_MAX;
	conn->out.max = OUT_MAX;
	conn->used_ms = worker_turn(group->worker)->now_ms;
	TAILQ_INIT(&conn->slots);
	TAILQ_INSERT_TAIL(&group->conns, conn, link);
	count(&group->accepted);
	atomic_fetch_add_explicit(&group->open, 1, memory_order_relaxed);
	if (group->draining) /* it was under way between workers when the drain began */
		shutdown(fd, SHUT_RD);
	receive(conn); /* most clients have asked before we look */
	touch(conn);
	if (group->idle_timeout > 0 && !evtimer_pending(group->idle, NULL))
		wait_for_idle(group, (uint64_t)group->idle_timeout);
}

/* ---- groups ---- */

static void wait_for_idle(struct conn_group *group, uint64_t ms)
{
	struct timeval in = {(time_t)(ms / 1000), (suseconds_t)(ms % 1000 * 1000)};
	evtimer_add(group->idle, &in);
}

/* The first of the list is the longest idle: no timer for each connection. */
static void on_idle(evutil_socket_t fd, short what, void *arg)
{
	struct conn_group *group = arg;
	struct turn *turn = worker_turn(group->worker);
	struct conn *conn;
	(void)fd;
	(void)what;
	turn_enter(turn);
	uint64_t limit = (uint64_t)group->idle_timeout, now = turn->now_ms;
	while ((conn = TAILQ_FIRST(&group->conns)) && conn->used_ms + limit <= now) {
		used(conn);
		if (TAILQ_EMPTY(&conn->slots)) {
			if (conn->out.len > 0) /* nobody takes what was written long ago */
				conn->gone = true;
			conn->ended = true;
			touch(conn);
		}
	}
	if (conn)
		wait_for_idle(group, conn->used_ms + limit - now);
	turn_leave(turn);
}

static void use_conf(struct conn_group *group, const struct listen_conf *conf)
{
	group->conf = conf;
	group->tables = worker_tables(group->worker);
	table_set_keep(group->tables);
	group->idle_timeout = conf->options.idle_timeout < 0 ? conf->codec->idle_timeout
							     : conf->options.idle_timeout;
}

void conn_group_open(
	struct conn_group *group, struct worker *worker, const struct listen_conf *conf)
{
	*group = (struct conn_group){.worker = worker};
	group->spare_out.max = OUT_MAX;
	TAILQ_INIT(&group->conns);
	SLIST_INIT(&group->spare);
	use_conf(group, conf);
	group->idle = evtimer_new(worker_base(worker), on_idle, group);
}

void conn_group_close(struct conn_group *group)
{
	struct conn *conn;
	struct slot *slot;
	while ((conn = TAILQ_FIRST(&group->conns))) {
		forget(conn, true); /* NOLINT(clang-analyzer-unix.Malloc): conn_free() unlinks */
		conn_free(conn);
	}
	while ((slot = SLIST_FIRST(&group->spare))) {
		SLIST_REMOVE_HEAD(&group->spare, next_spare);
		free(slot);
	}
	buf_free(&group->spare_out);
	event_free(group->idle);
	table_set_leave(group->tables);
}

void conn_group_reload(struct conn_group *group, const struct listen_conf *conf)
{
	struct table_set *old = group->tables;
	const struct conn *longest = TAILQ_FIRST(&group->conns);
	use_conf(group, conf);
	table_set_leave(old);
	evtimer_del(group->idle);
	if (group->idle_timeout == 0 || !longest)
		return;
	uint64_t due = longest->used_ms + (uint64_t)group->idle_timeout;
	uint64_t now = worker_turn(group->worker)->now_ms;
	wait_for_idle(group, due > now ? due - now : 0);
}

/* The client learns at once that nobody reads on; the end of input then takes its usual way, so
 * that what he had sent before is still answered. */
void conn_group_drain(struct conn_group *group)
{
	struct conn *conn;
	group->draining = true;
	TAILQ_FOREACH (conn, &group->conns, link)
		if (conn->fd >= 0)
			shutdown(conn->fd, SHUT_RD);
}
