/* The front-end interface: bytes into questions, answers into bytes. Pure: no socket, loop, clock,
 * log or global. */
#ifndef MAPMUX_CODEC_H
#define MAPMUX_CODEC_H

#include "base/buf.h"
#include "model/attempts.h"
#include "model/question.h"
#include "model/setting.h"

/* One question, as it stood on the wire. */
struct message {
	struct str table; /* empty: the listener's default */
	struct question
		ask;   /* points into the input or the session: valid until the next decode() */
	uint64_t tag;  /* the codec's own; comes back in encode() */
	bool in_order; /* its answer must wait for the answers before it */
	/* An authentication, whose failures count; lives as long as `ask`. What the table makes of names is
	 * not its affair. Or NULL. */
	const struct attempt *attempt;
};

enum decoded {
	DECODE_MORE,    /* all of the input that makes sense was used; wait for bytes */
	DECODE_MESSAGE, /* one message; there may be more in the rest */
	DECODE_TABLE,   /* message->table, and no more of it: whom the client is about to ask */
	DECODE_REFUSED, /* a bad request was answered in `out`; the stream is still in step */
	DECODE_BROKEN,  /* send `out`, then close */
};

/* What a server says of itself. */
struct greeting {
	unsigned pid;
	uint32_t number; /* no other connection is likely to have it */
	unsigned char random[16];
};

struct table_conf;

struct codec {
	const char *name;
	unsigned max_inflight;        /* questions under way on one connection; more are not read */
	bool ordered;                 /* what decode() writes waits for the answers before it */
	bool closes_on_unknown_table; /* else encode() is given ST_PERM */
	bool needs_table;             /* its requests name none: the listener must */
	bool secret;          /* its requests hold passwords: memory they were in is wiped */
	int64_t idle_timeout; /* ms, the listener's default; 0: never */
	const struct setting *settings; /* the listener's keys beyond the common ones */
	size_t conf_size, session_size; /* session: zeroed memory for each connection */

	/* Once, by the loader: rules between the settings, and whether the listener's table offers what
	 * will be asked of it. An error begins with the name of a setting and ": ". NULL: no rules. */
	bool (*check)(const void *conf, const struct table_conf *table, struct error *error);

	/* Of a protocol that shows all tables to whoever comes: do these settings make him prove who he is?
	 * Where they do not, it is served to this machine only. NULL: it may be served to anybody. */
	bool (*asks_proof)(const void *conf);

	/* For messages with an `attempt`: what their failures lead to. NULL: it has none. */
	const struct attempt_rules *(*attempts)(const void *conf);

	/* What is said before the client has said anything. NULL: nothing. */
	void (*greet)(
		void *session, const void *conf, const struct greeting *greeting, struct buf *out);

	/* Starts at the first byte not yet used and keeps no pointer into `in`; *used <= in.len. It may
	 * use bytes and write to `out` without a message. A stream cut anywhere means the same. When
	 * a request is refused or the stream is broken, *why says so in one word for the counters, a
	 * literal. NULL, with encode(): a library reads and writes its bytes (web.h). */
	enum decoded (*decode)(void *session, const void *conf, struct str in, size_t *used,
		struct message *message, struct buf *out, const char **why);

	/* Why what an ST_OK says to the message that carried `tag` cannot be told the client; NULL: it
	 * can. As a function NULL: it can always. Ask by codec_fit(). */
	const char *(*unfit)(const void *session, uint64_t tag, const struct answer *answer);

	/* Such an answer is told by the end of the connection. NULL: none is. */
	bool (*hangs_up)(const void *conf, const struct answer *answer);

	/* The answer to the message that carried `tag`; codec_fit() has seen it. */
	void (*encode)(void *session, const void *conf, uint64_t tag, const struct answer *answer,
		struct buf *out);

	/* The same in pieces, for an answer of several rows: says rows from *row on, steps *row, and stops
	 * when `out` has grown to `enough` bytes. True: all is said, as if by encode(); false: there is
	 * more, and no other piece of it has been written. NULL: encode() says them. */
	bool (*encode_rows)(void *session, const void *conf, uint64_t tag,
		const struct answer *answer, size_t *row, size_t enough, struct buf *out);

	void (*end)(void *session); /* NULL: nothing to free */
};

/* Every codec; NULL ends it. Defined in fronts.c. */
extern const struct codec *const codecs[];

/* Before encode(): a value that the protocol cannot carry makes the answer ST_TEMP, and is not cut. */
static inline void codec_fit(
	const struct codec *codec, const void *session, uint64_t tag, struct answer *answer)
{
	const char *why =
		answer->status == ST_OK && codec->unfit ? codec->unfit(session, tag, answer) : NULL;
	if (why)
		*answer = (struct answer){.status = ST_TEMP, .why = str_of(why)};
}

/* Its place in that list, below MAX_PROTOCOLS. */
unsigned codec_index(const struct codec *codec);

/* NULL when there is none of that name. */
const struct codec *codec_find(struct str name);

#endif
