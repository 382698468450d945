/* The client side of socketmap, tcp_table, Dovecot's dict and the http listener: one blocking connection,
 * one question at a time. */
#ifndef MAPMUX_CLIENT_WIRE_H
#define MAPMUX_CLIENT_WIRE_H

#include "base/buf.h"
#include "model/question.h"
#include "text/address.h"

enum outcome { GOT_OK, GOT_NOTFOUND, GOT_TEMP, GOT_PERM, GOT_UNCERTAIN };

/* Where to ask. */
struct endpoint {
	enum { ASK_SOCKETMAP, ASK_DICT, ASK_HTTP, ASK_TCP } protocol;
	struct address address;
	struct str table; /* tcp: none */
};

struct reply {
	enum outcome outcome;
	bool broken;              /* the connection is of no use any more */
	const struct str *values; /* GOT_OK to a lookup: at least one */
	size_t nvalues;
	struct str why;   /* of GOT_TEMP and worse */
	struct str trace; /* a JSON list, if it was wanted; else empty */
};

/* Zeroed, with what stands first filled in, it is ready for use. */
struct peer {
	const struct endpoint *endpoint;
	int64_t timeout_ms; /* for each question */
	struct str user;    /* dict, http */
	int version;        /* dict: 2, 3 or 4 */
	bool priv, text,
		trace;    /* http: the key is the user's own; as Postfix gets it; tell the way */
	struct str token; /* http; empty: none */

	void *http;           /* client_http.c's */
	bool connected, lost; /* lost: the other side has closed, and nothing of a reply came */
	unsigned asked;       /* questions on this connection */
	int fd;
	int64_t deadline;
	struct buf in, out;
	size_t at;          /* bytes of `in` already used */
	uint64_t reply_id;  /* dict: the id the server gave the question; 0: none yet */
	struct error error; /* why a reading or writing function has said false */
};

/* socketmap:unix:PATH:TABLE, socketmap:inet:HOST:PORT:TABLE, and the same with dict and http;
 * tcp:HOST:PORT. */
bool endpoint_parse(
	const char *text, struct arena *mem, struct endpoint *endpoint, struct error *error);

/* The answer's text is in `mem`. A dict's keys are whole: shared/KEY or priv/KEY. */
void peer_lookup(struct peer *peer, struct str key, struct arena *mem, struct reply *reply);

/* Calls row() for each row; names are whole keys. */
void peer_iterate(struct peer *peer, struct str prefix, unsigned flags, uint64_t max_rows,
	void (*row)(void *arg, struct str name, struct str value), void *arg, struct arena *mem,
	struct reply *reply);

/* One transaction; the changes' keys are whole. */
void peer_commit(struct peer *peer, const struct change *changes, size_t n, struct arena *mem,
	struct reply *reply);

void peer_close(struct peer *peer);

/* client_http.c: a lookup over HTTP; false with peer->error when there was no answer. */
bool client_http_ask(struct peer *peer, struct str key, struct arena *mem, struct reply *reply);
void client_http_close(struct peer *peer);

/* client_trace.c: prints a trace's steps, one a line, to standard output. */
void client_print_trace(struct str trace);

/* What the http listener says, taken apart; pure. False: not a reply of its. */
bool http_reply(struct str body, struct arena *mem, struct reply *reply);

/* Replies taken apart; pure. False: not a reply that the protocol knows. */
bool socketmap_reply(struct str payload, struct arena *mem, struct reply *reply);
bool tcp_reply(struct str line, struct arena *mem, struct reply *reply);
bool dict_lookup_reply(struct str line, struct arena *mem, struct reply *reply);
bool dict_commit_reply(struct str line, struct arena *mem, struct reply *reply);

#endif
