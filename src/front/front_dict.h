/* What the parts of the dict codec share. Private to front_dict*.c. */
#ifndef MAPMUX_FRONT_DICT_H
#define MAPMUX_FRONT_DICT_H

#include <sys/queue.h>

#include "front/fronts.h"

enum {
	DICT_MAX_GATHERED = 16 << 20, /* bytes of all open transactions of a connection */
};

/* Why something cannot be asked: a word for the counters, a sentence for the client. */
struct dict_refusal {
	const char *why, *reason;
};

struct dict_transaction {
	uint32_t id;
	const struct dict_refusal *poison; /* its commit fails; nothing is gathered any more */
	struct str user;
	uint64_t expire_secs;
	size_t bytes; /* counted against DICT_MAX_GATHERED */
	size_t n, size;
	struct change *changes;
	struct arena mem; /* of the user and the changes */
};

/* A command that wants a reply. */
struct dict_command {
	LIST_ENTRY(dict_command) link; /* the newest first */
	enum { LOOKUP, ITERATE, COMMIT, COMMIT_ASYNC } kind;
	uint64_t number;      /* counts the commands that want replies, from 1 */
	uint32_t transaction; /* commits: the client's number */
	enum scope scope; /* of lookups and iterations: what the names of rows begin with, ... */
	unsigned flags;
	struct buf held; /* replies not numbered: what must follow this one's */
	size_t path_len;
	char path[]; /* and go on with */
};

struct dict_session {
	unsigned major; /* 0: no hello yet */
	bool async;     /* every reply carries a number */
	bool named;     /* the dialog knows of `dict` */
	bool many;      /* the client understands several values */
	bool escape_cr; /* and an escaped CR */
	char *names;    /* the bytes of: */
	struct str dict, user;
	size_t looked; /* so many bytes of the unfinished line hold no LF */
	uint64_t given, announced;
	LIST_HEAD(, dict_command) commands; /* asked, not yet answered */
	struct dict_transaction **open;     /* by id */
	size_t nopen, size, gathered;
	struct dict_transaction *committed; /* the last message points into it */
	struct arena scratch;               /* unescaped fields of the line at hand */
};

/* front_dict_reply.c */

/* Why this answer cannot be told the client; NULL: it can. */
const char *dict_unfit(const void *session, uint64_t tag, const struct answer *answer);

/* The reply to `command`, with the announcements of ids that are due before it. */
void dict_reply(struct dict_session *session, const struct dict_command *command,
	const struct answer *answer, struct buf *out);

/* Rows of an iteration from `row` on, until `out` has grown to `enough` bytes; returns which is next. */
size_t dict_reply_rows(struct dict_session *session, const struct dict_command *command,
	const struct answer *answer, size_t row, size_t enough, struct buf *out);

/* What stands behind the rows: the end of the iteration, or why there is none. */
void dict_reply_end(struct dict_session *session, const struct dict_command *command,
	const struct answer *answer, struct buf *out);

/* front_dict_login.c: why Dovecot's passdb must not see this value: it would let in whoever gives any
 * password, or none, and nothing says that this is meant. NULL: it may. */
const char *dict_open_login(struct str value);

/* front_dict_transaction.c: the open ones, sorted by id. */

/* Where `id` stands in session->open, or would stand. */
size_t dict_transaction_place(const struct dict_session *session, uint32_t id);

/* Counts `bytes` against the bound; false when they are too many. */
bool dict_transaction_count(
	struct dict_session *session, struct dict_transaction *transaction, size_t bytes);
extern const struct dict_refusal dict_too_many_bytes;

/* Gathers a copy of the change; else why not. */
const struct dict_refusal *dict_transaction_add(struct dict_session *session,
	struct dict_transaction *transaction, const struct change *change);

/* Its commit will fail: gives back what was gathered and gathers no more. */
void dict_transaction_poison(struct dict_session *session, struct dict_transaction *transaction,
	const struct dict_refusal *refusal);

/* Not open any more, and not yet freed. */
void dict_transaction_close(struct dict_session *session, size_t place);
void dict_transaction_free(struct dict_transaction *transaction);

#endif
