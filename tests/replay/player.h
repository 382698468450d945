/* Plays a scenario: runs its steps one after the other against a world of its own. */
#ifndef TESTS_REPLAY_PLAYER_H
#define TESTS_REPLAY_PLAYER_H

#include "script.h"

/* How the bytes of clients come: a stream cut anywhere means the same. */
struct delivery {
	enum {
		AS_WRITTEN, /* each line by itself */
		JOINED,     /* lines of one client that follow each other in one piece */
		BYTEWISE,
		CUT_AT, /* as written, and cut at one place */
	} how;
	size_t at; /* bytes into what all clients send */
};

struct failure {
	unsigned line;
	struct error what;          /* what is wrong; or empty: */
	struct error expected, got; /* as messages show bytes */
};

/* True when everything that the steps tell happened, and nothing else. *sent is how many bytes the clients
 * sent. */
bool play(const struct scenario *scenario, const struct delivery *delivery, size_t *sent,
	struct failure *failure);

#endif
