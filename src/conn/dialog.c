/* One client's conversation: bytes in, questions to tables, answers in their order, bytes out. */
#include "conn/dialog.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "model/query.h"
#include "model/timer.h"

enum {
	SLOT_MEM = 2048,       /* bytes of a slot's own first piece of memory */
	SPARE_OUT = 16 * 1024, /* bytes of the spare output buffer, at most */
	SPARE_SLOTS = 256,     /* kept by a home */
	OUT_PAUSE =
		256 * 1024, /* bytes waiting for a slow reader: decode no more until they drain */
	OUT_MAX = 64 * 1024 * 1024, /* bytes */
	MESSAGES_AT_A_TIME = 64,    /* before others get their turn */
	COMPLAINT_MS = 1000,        /* one log line in this time for each cause */
};

/* What an authentication has besides; in its slot's memory. */
struct trial {
	struct slot *slot;
	struct attempt attempt;
	struct timer timer; /* for the table to answer, or until a refusal may be said */
};

/* One question on its way, or words of the codec that wait for their place in the order. */
struct slot {
	struct query query;
	struct question ask;
	struct dialog *dialog;
	uint64_t tag;
	uint64_t asked_ms;
	struct str words;    /* of the codec; no query then */
	struct trial *trial; /* of an authentication; or NULL */
	bool in_order, waiting, finished;
	bool saying; /* finished, and `row` is what comes next of the answer's rows */
	size_t row;
	TAILQ_ENTRY(slot) link;
	SLIST_ENTRY(slot) next_spare;
	struct arena mem;
	_Alignas(16) char first[SLOT_MEM];
};

static void count_error(const struct dialog_home *home, const char *reason)
{
	if (home->errors)
		errors_add(home->errors, home->conf->codec->name, *reason ? reason : "other", 1);
}

/* ---- memory that goes round ---- */

/* Before anything is written to `out`: the memory of the last one that was sent. */
static void lend_out(struct dialog *dialog)
{
	if (dialog->out.ptr)
		return;
	dialog->out = dialog->home->spare_out;
	dialog->home->spare_out = (struct buf){.max = OUT_MAX};
}

/* What a vanished client did not take goes with him: it is nobody else's answer. */
static void return_out(struct dialog *dialog)
{
	buf_reset(&dialog->out);
	if (dialog->out.size > SPARE_OUT || dialog->home->spare_out.ptr)
		buf_free(&dialog->out);
	else
		dialog->home->spare_out = dialog->out;
	dialog->out = (struct buf){.max = OUT_MAX};
	dialog->sent = 0;
}

static struct slot *slot_new(struct dialog *dialog, const struct message *message)
{
	struct dialog_home *home = dialog->home;
	struct slot *slot = SLIST_FIRST(&home->spare);
	if (slot) {
		SLIST_REMOVE_HEAD(&home->spare, next_spare);
		home->nspare--;
	} else {
		slot = memory_grow(NULL, sizeof(*slot));
		arena_init(&slot->mem, slot->first, sizeof(slot->first));
		slot->mem.wipe = home->conf->codec->secret;
	}
	slot->query = (struct query){.mem = &slot->mem};
	slot->dialog = dialog;
	slot->tag = message->tag;
	slot->in_order = message->in_order;
	slot->words = STR("");
	slot->trial = NULL;
	slot->waiting = slot->finished = slot->saying = false;
	TAILQ_INSERT_TAIL(&dialog->slots, slot, link);
	dialog->inflight++;
	return slot;
}

/* The query is idle. */
static void slot_free(struct slot *slot)
{
	struct dialog *dialog = slot->dialog;
	struct dialog_home *home = dialog->home;
	TAILQ_REMOVE(&dialog->slots, slot, link);
	dialog->inflight--;
	if (dialog->barrier == slot)
		dialog->barrier = NULL;
	if (slot->trial)
		timer_clear(&slot->trial->timer);
	if (slot->query.table)
		table_set_leave(slot->query.table->set);
	arena_clear(&slot->mem);
	if (home->nspare < SPARE_SLOTS) {
		SLIST_INSERT_HEAD(&home->spare, slot, next_spare);
		home->nspare++;
	} else {
		free(slot);
	}
}

/* ---- answers ---- */

static void complain(const struct slot *slot, const struct answer *answer)
{
	const struct dialog_home *home = slot->dialog->home;
	struct table *table = slot->query.table;
	unsigned held;
	if (!log_allowed(&table->complaints, COMPLAINT_MS, &held))
		return;
	char ms[24], more[24];
	snprintf(ms, sizeof(ms), "%" PRIu64, home->turn->now_ms - slot->asked_ms);
	snprintf(more, sizeof(more), "%u", held);
	const struct pair fields[] = {
		{STR("table"), str_of(table->conf->name)},
		{STR("op"), str_of(op_name(slot->ask.op))},
		{STR("status"), str_of(status_name(answer->status))},
		{STR("ms"), str_of(ms)},
		{STR("why"), answer->why},
		{STR("listener"), str_of(home->name)},
		{STR("not_shown"), str_of(more)},
	};
	log_event(LOG_LEVEL_WARN, "question failed", fields,
		sizeof(fields) / sizeof(*fields) - !held);
}

static void encode(struct slot *slot, const struct listen_conf *conf)
{
	struct dialog *dialog = slot->dialog;
	const struct answer *answer = &slot->query.answer;
	conf->codec->encode(dialog->session, conf->conf, slot->tag, answer, &dialog->out);
	if (conf->codec->hangs_up && conf->codec->hangs_up(conf->conf, answer))
		dialog->ended = true;
}

/* In memory. */
static size_t size_of_rows(const struct answer *answer)
{
	size_t size = answer->nrows * sizeof(*answer->rows);
	for (size_t i = 0; i < answer->nrows; i++)
		size += answer->rows[i].name.len + answer->rows[i].value.len;
	return size;
}

/* The rows stay where the table has put them until the client takes them: `out` never holds more of
 * them than keeps his socket busy. False: there are more, and he is not read from. */
static bool say_rows(struct slot *slot)
{
	struct dialog *dialog = slot->dialog;
	const struct listen_conf *conf = dialog->home->conf;
	return conf->codec->encode_rows(dialog->session, conf->conf, slot->tag, &slot->query.answer,
		&slot->row, OUT_PAUSE, &dialog->out);
}

/* False: the rest waits for the client. */
static bool begin_rows(struct slot *slot)
{
	struct dialog *dialog = slot->dialog;
	slot->row = 0;
	if (say_rows(slot))
		return true;
	slot->saying = true;
	dialog->saying++;
	dialog->unsaid += size_of_rows(&slot->query.answer);
	/* One client has no more rows wait for him than one answer may have. */
	if (dialog->unsaid > ROWS_MAX && dialog->saying > 1)
		dialog->out.overflow = true;
	return false;
}

/* All of it, unless the rest has to wait for the client. */
static void say(struct slot *slot)
{
	struct dialog *dialog = slot->dialog;
	const struct listen_conf *conf = dialog->home->conf;
	if (!dialog->gone) {
		lend_out(dialog);
		if (slot->words.len > 0)
			buf_add(&dialog->out, slot->words);
		else if (slot->query.answer.nrows <= 1 || !conf->codec->encode_rows)
			encode(slot, conf);
		else if (!begin_rows(slot))
			return;
	}
	slot_free(slot);
}

static void say_finished(struct dialog *dialog)
{
	struct slot *slot;
	while ((slot = TAILQ_FIRST(&dialog->slots)) && slot->finished && !slot->saying)
		say(slot);
}

static void start(struct slot *slot);

/* A waiting change goes when all before it are answered. */
static void start_barrier(struct dialog *dialog)
{
	if (dialog->barrier && dialog->barrier->waiting &&
		dialog->barrier == TAILQ_FIRST(&dialog->slots))
		start(dialog->barrier);
}

/* Says what can be said now. */
static void finish(struct slot *slot)
{
	struct dialog *dialog = slot->dialog;
	slot->finished = true;
	if (!slot->in_order)
		say(slot);
	say_finished(dialog);
	start_barrier(dialog);
	if (!dialog->reading)
		dialog->answered(dialog);
}

/* Goes on with what was said in part: the oldest first. */
static void say_more(struct dialog *dialog)
{
	struct slot *slot = TAILQ_FIRST(&dialog->slots);
	while (slot && dialog->out.len < OUT_PAUSE) {
		struct slot *next = TAILQ_NEXT(slot, link);
		if (slot->saying && say_rows(slot)) {
			dialog->saying--;
			dialog->unsaid -= size_of_rows(&slot->query.answer);
			slot_free(slot);
		}
		slot = next;
	}
	say_finished(dialog);
	start_barrier(dialog);
}

/* ---- authentications ---- */

static const struct attempt_rules *rules_of(const struct slot *slot)
{
	const struct listen_conf *conf = slot->dialog->home->conf;
	return conf->codec->attempts(conf->conf);
}

static void trial_new(struct slot *slot, const struct attempt *attempt)
{
	struct trial *trial = arena_alloc(&slot->mem, sizeof(*trial));
	trial->slot = slot;
	trial->attempt.user = arena_str(&slot->mem, attempt->user);
	trial->attempt.address = arena_str(&slot->mem, attempt->address);
	trial->attempt.delimiters = slot->query.table->conf->delimiters;
	slot->trial = trial;
}

static void set_timer(struct slot *slot, uint64_t due_ms, void (*fired)(struct timer *))
{
	timer_set(slot->dialog->home->turn->timers, &slot->trial->timer, due_ms, fired);
}

static struct slot *slot_of(struct timer *timer)
{
	return ((struct trial *)(void *)((char *)timer - offsetof(struct trial, timer)))->slot;
}

static void on_held_back(struct timer *timer)
{
	finish(slot_of(timer));
}

/* Says it in `ms`, but within the time that the client waits. False: at once. */
static bool hold_back(struct slot *slot, uint64_t ms)
{
	uint64_t now = slot->dialog->home->turn->now_ms;
	uint64_t last = slot->asked_ms + (uint64_t)rules_of(slot)->within;
	uint64_t due = now + ms < last ? now + ms : last;
	if (due <= now)
		return false;
	set_timer(slot, due, on_held_back);
	return true;
}

static bool is_guessing(const struct slot *slot)
{
	const struct dialog_home *home = slot->dialog->home;
	return attempts_exceeded(
		home->failures, rules_of(slot), &slot->trial->attempt, home->turn->now_ms);
}

static void refuse_guess(struct slot *slot)
{
	slot->query.answer = (struct answer){.status = ST_NOTFOUND, .why = STR(ATTEMPTS_EXCEEDED)};
	stats_count(&slot->dialog->home->refused);
	count_error(slot->dialog->home, "too_many_failures");
	attempt_log(&slot->trial->attempt, true, slot->dialog->home->name);
}

/* Whoever asks a hundred times at once learns no more than one who waits for each answer. True: the
 * answer is said later. */
static bool judge_trial(struct slot *slot)
{
	const struct dialog_home *home = slot->dialog->home;
	const struct attempt_rules *rules = rules_of(slot);
	timer_clear(&slot->trial->timer);
	if (slot->query.answer.status > ST_NOTFOUND)
		return false;
	bool took_time = slot->query.began_us > 0; /* else it was looked at just now */
	if (took_time && is_guessing(slot)) {
		refuse_guess(slot);
		return hold_back(slot, (uint64_t)rules->delay);
	}
	if (slot->query.answer.status == ST_OK)
		return false;
	attempt_log(&slot->trial->attempt, false, home->name);
	return hold_back(slot,
		attempts_failed(home->failures, rules, &slot->trial->attempt, home->turn->now_ms));
}

static void answered(struct slot *slot)
{
	const struct dialog_home *home = slot->dialog->home;
	if (!slot->dialog->gone) /* else its session has ended */
		codec_fit(home->conf->codec, slot->dialog->session, slot->tag, &slot->query.answer);
	query_count(&slot->query, home->protocol);
	if (slot->query.answer.status >= ST_TEMP)
		complain(slot, &slot->query.answer);
	if (!slot->trial || !judge_trial(slot))
		finish(slot);
}

static void on_answer(struct query *query)
{
	answered((struct slot *)(void *)((char *)query - offsetof(struct slot, query)));
}

/* ---- questions ---- */

/* The client waits no longer. Deadlines of a table's queries are kept in the order they began, so one
 * that comes earlier is its asker's affair. */
static void on_too_late(struct timer *timer)
{
	struct slot *slot = slot_of(timer);
	query_cancel(&slot->query);
	slot->query.answer = (struct answer){
		.status = ST_TEMP, .why = STR("no answer within the listener's timeout")};
	answered(slot);
}

static void start(struct slot *slot)
{
	slot->waiting = false;
	uint64_t last = slot->trial ? slot->asked_ms + (uint64_t)rules_of(slot)->within : 0;
	slot->query.deadline = last;
	if (query_begin(&slot->query, slot->query.table, &slot->ask, on_answer))
		answered(slot);
	else if (slot->trial)
		set_timer(slot, last, on_too_late);
}

/* Without asking anybody, where there were too many failures. */
static void start_trial(struct slot *slot)
{
	if (!is_guessing(slot)) {
		start(slot);
		return;
	}
	refuse_guess(slot);
	if (!hold_back(slot, (uint64_t)rules_of(slot)->delay))
		finish(slot);
}

/* A name that nobody has is not answered from another table: that would be a wrong answer. */
static struct table *find_table(struct dialog *dialog, struct str name)
{
	struct table_set *tables = dialog->home->tables;
	const struct listen_conf *conf = dialog->home->conf;
	if (name.len == 0)
		return conf->table ? &tables->tables[conf->table->index] : NULL;
	struct table *table = table_set_find(tables, name);
	return table && listen_serves(conf, table->conf) ? table : NULL;
}

/* An answer that no table gave. */
static void answer_with(
	struct dialog *dialog, const struct message *message, enum status status, struct str why)
{
	struct slot *slot = slot_new(dialog, message);
	slot->query.answer = (struct answer){.status = status, .why = why};
	finish(slot);
}

/* The protocol's own way: an error to the question, or the end of the conversation. */
static void refuse_table(struct dialog *dialog, const struct message *message)
{
	struct dialog_home *home = dialog->home;
	const struct pair fields[] = {
		{STR("table"), message->table}, {STR("listener"), str_of(home->name)}};
	unsigned held;
	stats_count(&home->refused);
	count_error(home, "unknown_table");
	if (log_allowed(&home->complaints, COMPLAINT_MS, &held))
		log_event(LOG_LEVEL_WARN, "unknown table", fields, 2);
	if (home->conf->codec->closes_on_unknown_table)
		dialog->ended = true;
	else
		answer_with(dialog, message, ST_PERM, STR("unknown table"));
}

/* Of a protocol whose clients say once whom they will ask: nobody opens a transaction, nor is told that an
 * empty one is done, in a table that does not exist. */
static void meet_table(struct dialog *dialog, const struct message *message)
{
	assert(dialog->home->conf->codec->closes_on_unknown_table);
	if (!find_table(dialog, message->table))
		refuse_table(dialog, message);
}

/* A table that answers at once is done with the question before the next one is decoded, and needs
 * no copy of it; nor does one that makes its own where it has to. */
static void keep_question(struct slot *slot, const struct question *ask)
{
	const struct backend *backend = slot->query.table->conf->backend;
	if (slot->waiting || (backend->cancel && !backend->copies_question))
		question_copy(&slot->ask, ask, &slot->mem);
	else
		slot->ask = *ask;
}

/* A change runs alone: what its client asked before is answered before, and what he asks behind it
 * sees it. */
static void ask(struct dialog *dialog, const struct message *message)
{
	struct table *table = find_table(dialog, message->table);
	if (!table) {
		refuse_table(dialog, message);
		return;
	}
	struct slot *slot = slot_new(dialog, message);
	slot->asked_ms = dialog->home->turn->now_ms;
	slot->query.table = table;
	table_set_keep(table->set); /* it may wait for its turn, and its answer for those before */
	if (message->ask.op == OP_CHANGE)
		dialog->barrier = slot;
	slot->waiting = dialog->barrier == slot && dialog->inflight > 1;
	keep_question(slot, &message->ask);
	if (message->attempt) {
		trial_new(slot, message->attempt);
		start_trial(slot);
	} else if (!slot->waiting) {
		start(slot);
	}
}

/* What the codec said itself keeps its place behind the answers that are still to come. */
static void keep_words(struct dialog *dialog, struct buf *words)
{
	if (words->len == 0)
		return;
	struct slot *slot = slot_new(dialog, &(struct message){.in_order = true});
	slot->words = arena_str(&slot->mem, buf_str(words));
	slot->finished = true;
	buf_free(words);
}

static void bad_request(struct dialog *dialog, enum decoded decoded, const char *why)
{
	struct dialog_home *home = dialog->home;
	unsigned held;
	stats_count(decoded == DECODE_BROKEN ? &home->broken : &home->refused);
	count_error(home, why);
	if (log_allowed(&home->complaints, COMPLAINT_MS, &held))
		log_event(LOG_LEVEL_WARN, "bad request",
			(struct pair[]){{STR("listener"), str_of(home->name)},
				{STR("why"), str_of(why)},
				{STR("closed"), decoded == DECODE_BROKEN ? STR("yes") : STR("no")}},
			3);
	if (decoded == DECODE_BROKEN)
		dialog->ended = true;
}

void dialog_give_up(struct dialog *dialog)
{
	bad_request(dialog, DECODE_BROKEN, "too_much_unread");
	dialog->gone = true;
}

static void turn_away(struct dialog *dialog, const struct message *message)
{
	stats_count(&dialog->home->refused);
	count_error(dialog->home, "too_many_connections");
	dialog->ended = true;
	answer_with(dialog, message, ST_TEMP, STR("too many connections"));
}

bool dialog_may_read(const struct dialog *dialog)
{
	return !dialog->ended && !dialog->barrier && dialog->out.len - dialog->sent < OUT_PAUSE &&
	       dialog->inflight < dialog->home->conf->codec->max_inflight;
}

/* One message, or what the codec makes of it; false: bytes are missing. */
static bool read_message(struct dialog *dialog, struct str in, size_t *total)
{
	const struct listen_conf *conf = dialog->home->conf;
	struct buf words = {.max = OUT_MAX};
	struct buf *out = conf->codec->ordered && dialog->inflight > 0 ? &words : &dialog->out;
	struct message message;
	const char *why = "";
	size_t used = 0;
	enum decoded decoded =
		conf->codec->decode(dialog->session, conf->conf, in, &used, &message, out, &why);
	*total += used;
	keep_words(dialog, &words);
	if (decoded == DECODE_MORE)
		return false;
	if (decoded == DECODE_TABLE)
		meet_table(dialog, &message);
	else if (decoded != DECODE_MESSAGE)
		bad_request(dialog, decoded, why);
	else if (dialog->crowded)
		turn_away(dialog, &message);
	else
		ask(dialog, &message);
	return true;
}

size_t dialog_read(struct dialog *dialog, struct str in)
{
	size_t total = 0;
	unsigned left = MESSAGES_AT_A_TIME;
	dialog->reading = true;
	while (left > 0 && dialog_may_read(dialog)) {
		lend_out(dialog);
		if (!read_message(dialog, str_skip(in, total), &total))
			break;
		left--;
	}
	dialog->unfinished = left == 0;
	dialog->reading = false;
	return total;
}

void dialog_sent(struct dialog *dialog, size_t n)
{
	dialog->sent += n;
	if (dialog->sent < dialog->out.len - dialog->sent) /* more is left than was sent */
		return;
	buf_consume(&dialog->out, dialog->sent);
	dialog->sent = 0;
	if (dialog->saying > 0)
		say_more(dialog);
	if (dialog->out.len == 0 && dialog->out.ptr)
		return_out(dialog);
}

bool dialog_is_awaited(const struct dialog *dialog)
{
	const struct slot *slot;
	TAILQ_FOREACH (slot, &dialog->slots, link)
		if (!slot->finished && !slot->waiting)
			return true;
	return false;
}

void dialog_greet(struct dialog *dialog, const struct greeting *greeting)
{
	const struct listen_conf *conf = dialog->home->conf;
	lend_out(dialog);
	conf->codec->greet(dialog->session, conf->conf, greeting, &dialog->out);
}

/* ---- life and death ---- */

static void forget(struct dialog *dialog, bool changes_too)
{
	struct slot *slot = TAILQ_FIRST(&dialog->slots);
	while (slot) {
		struct slot *next = TAILQ_NEXT(slot, link);
		if (changes_too || slot->finished || slot->ask.op != OP_CHANGE) {
			query_cancel(&slot->query);
			slot_free(slot);
		}
		slot = next;
	}
	dialog->saying = 0;
	start_barrier(dialog);
}

void dialog_abandon(struct dialog *dialog)
{
	dialog->gone = true;
	forget(dialog, false);
}

void dialog_open(struct dialog *dialog, struct dialog_home *home, void *session,
	void (*on_answers)(struct dialog *))
{
	*dialog = (struct dialog){.home = home, .session = session, .answered = on_answers};
	dialog->out.max = OUT_MAX;
	TAILQ_INIT(&dialog->slots);
}

void dialog_close(struct dialog *dialog)
{
	const struct codec *codec = dialog->home->conf->codec;
	dialog->gone = true;
	forget(dialog, true);
	if (codec->end)
		codec->end(dialog->session);
	if (dialog->out.ptr)
		return_out(dialog);
}

void dialog_home_open(struct dialog_home *home, const struct listen_conf *conf, struct turn *turn,
	struct table_set *tables, const char *name)
{
	*home = (struct dialog_home){.conf = conf, .turn = turn, .tables = tables, .name = name};
	home->protocol = codec_index(conf->codec);
	home->spare_out.max = OUT_MAX;
	SLIST_INIT(&home->spare);
	table_set_keep(tables);
}

void dialog_home_reload(
	struct dialog_home *home, const struct listen_conf *conf, struct table_set *tables)
{
	struct table_set *old = home->tables;
	table_set_keep(tables);
	home->conf = conf;
	home->tables = tables;
	table_set_leave(old);
}

void dialog_home_close(struct dialog_home *home)
{
	struct slot *slot;
	while ((slot = SLIST_FIRST(&home->spare))) {
		SLIST_REMOVE_HEAD(&home->spare, next_spare);
		free(slot);
	}
	buf_free(&home->spare_out);
	table_set_leave(home->tables);
}
