/* One client's conversation: bytes in, questions to tables, answers in their order, bytes out. Knows
 * no socket and no loop; conn.h gives it both. */
#ifndef MAPMUX_DIALOG_H
#define MAPMUX_DIALOG_H

#include <stdatomic.h>
#include <sys/queue.h>

#include "config/config.h"

struct slot;

/* What the conversations of one listener in one worker share. Used by the worker's thread; the counters
 * are read by any. */
struct dialog_home {
	const struct listen_conf *conf;
	struct turn *turn;
	struct table_set *tables;
	const char *name;            /* protocol and address, for the log */
	unsigned protocol;           /* codec_index() */
	struct error_counts *errors; /* the worker's; or NULL */
	/* The listener's: authentications that failed. NULL: they are not counted. */
	struct windows *failures;

	SLIST_HEAD(, slot) spare; /* question slots to use again */
	unsigned nspare;
	struct buf spare_out;     /* output memory to use again */
	_Atomic uint64_t refused; /* requests that were answered with the protocol's error */
	_Atomic uint64_t broken;  /* conversations ended for what was sent */
	struct log_limit complaints;
};

void dialog_home_open(struct dialog_home *home, const struct listen_conf *conf, struct turn *turn,
	struct table_set *tables, const char *name);

/* From now on requests meet these settings (of the same codec) and tables; those under way keep theirs. In
 * a turn. */
void dialog_home_reload(
	struct dialog_home *home, const struct listen_conf *conf, struct table_set *tables);
void dialog_home_close(struct dialog_home *home); /* its dialogs are gone */

struct dialog {
	struct dialog_home *home;
	void *session;                     /* the codec's: zeroed memory of its session_size */
	void (*answered)(struct dialog *); /* `out` has grown, or more may be decoded; not called
						 from within dialog_read() */
	TAILQ_HEAD(slot_list, slot) slots; /* in the order of the questions */
	struct slot *barrier; /* a change, which runs alone: under way, or waiting for the others */
	struct buf out; /* to be sent: dialog_unsent(); its memory goes back by dialog_sent() */
	size_t sent;    /* bytes of `out` that are */
	unsigned inflight;
	unsigned saying; /* of these: said in part, and the rest as the client takes it */
	size_t unsaid;   /* bytes of their rows */
	bool ended;      /* nothing more is asked; what is under way is answered */
	bool gone;       /* nobody is there to be answered */
	bool crowded;    /* a client too many: his first question is TEMP, and the end */
	bool unfinished; /* the last dialog_read() stopped so that others get their turn */
	bool reading;
};

void dialog_open(struct dialog *dialog, struct dialog_home *home, void *session,
	void (*answered)(struct dialog *));

/* First of all, where the protocol begins with the server's words. */
void dialog_greet(struct dialog *dialog, const struct greeting *greeting);

/* Questions are cancelled; changes as well. */
void dialog_close(struct dialog *dialog);

/* Asks what `in` holds, and returns how many bytes were used; the rest is to come again, with what
 * follows it. Tables that answer at once have done so before it returns. In a turn. */
size_t dialog_read(struct dialog *dialog, struct str in);

/* Whether dialog_read() would decode: not after the end, nor while a change runs, nor with too much
 * under way or unsent. */
bool dialog_may_read(const struct dialog *dialog);

/* What is to be sent; out.len is 0 when there is nothing. */
static inline struct str dialog_unsent(const struct dialog *dialog)
{
	return str_skip(buf_str(&dialog->out), dialog->sent);
}

/* The first n bytes of that were sent. A large answer goes in many pieces, and its rest is not moved for
 * each; what comes next of long answers takes their place. When all is sent, the memory is lent to
 * others. */
void dialog_sent(struct dialog *dialog, size_t n);

/* out.overflow: an answer found no room behind those that the client has not read. He must not wait for it, so
 * he is closed as after a bad request. */
void dialog_give_up(struct dialog *dialog);

/* The client is gone. Nobody waits for his lookups any more; a change that he has committed goes on: only
 * its deadline ends it, or the daemon's end. */
void dialog_abandon(struct dialog *dialog);

/* Whether a table, or a refusal that is held back, lets the client wait. What waits for him to read does not
 * count. */
bool dialog_is_awaited(const struct dialog *dialog);

static inline bool dialog_is_idle(const struct dialog *dialog)
{
	return dialog->inflight == 0;
}

#endif
