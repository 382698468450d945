/* A client and its connection, without a socket: what conn.c does around a dialog, done by hand. */
#ifndef TESTS_REPLAY_PEER_H
#define TESTS_REPLAY_PEER_H

#include "world.h"

/* How a protocol cuts its messages; scripts write what is inside. */
struct framing {
	const char *protocol;
	bool fields; /* blanks stand for what is between fields: see text_bytes() */
	struct str (*wrap)(struct str payload, struct arena *mem);
	/* The first message in `heard`; false: there is no whole and exact one. */
	bool (*unwrap)(struct str heard, struct str *payload, size_t *size);
};

struct peer {
	struct str name;
	const struct framing *framing;
	struct worker *worker;
	struct dialog dialog;
	struct job settle;
	struct buf in;    /* sent by the client, not yet decoded */
	struct buf heard; /* sent to the client, not yet expected by a step */
	size_t greeting;  /* so many bytes were said before the client said anything */
	bool open;        /* there is a dialog */
	bool told;        /* a step has said that it is closed, or made it so */
	bool over;        /* the client sends no more */
	bool deaf;        /* and does not read */
	STAILQ_ENTRY(peer) link;
	_Alignas(16) char session[];
};

/* A connection to a listener, called by its protocol or address, of one worker. NULL: no listener of that
 * name; empty: the first one. */
struct peer *peer_new(struct worker *worker, struct str name, struct str listener, bool crowded);
void peer_free(struct peer *peer);

/* One read(2) of what the client sent. */
void peer_send(struct peer *peer, struct str bytes);

/* It sends no more; gone: it reads no more either. */
void peer_end(struct peer *peer, bool gone);

/* Whether it takes what is sent to it. */
void peer_read(struct peer *peer, bool reads);

#endif
