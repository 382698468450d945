/* The running daemon: what control.c starts and ends, and reload.c exchanges. */
#ifndef MAPMUX_DAEMON_H
#define MAPMUX_DAEMON_H

#include "daemon/listeners.h"

/* A configuration, and how much of it is still used. */
struct edition {
	struct config config;
	_Atomic unsigned sets; /* config.sets */
	SLIST_ENTRY(edition) link;
};

struct daemon {
	struct arena mem; /* of the arguments */
	int argc;
	char **argv;             /* as they were before loading hid the secrets in them */
	struct edition *current; /* NULL: nothing is loaded yet */
	SLIST_HEAD(, edition) old;
	struct crew crew;
	struct listeners listeners;
};

#endif
