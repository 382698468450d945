/* The control thread: opens everything, waits for signals, ends everything. */
#ifndef MAPMUX_CONTROL_H
#define MAPMUX_CONTROL_H

#include "config.h"

/* Runs the daemon until SIGTERM or SIGINT; returns the exit code. */
int control_run(const struct config *config);

#endif
