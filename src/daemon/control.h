/* The control thread: opens everything, waits for signals, ends everything. */
#ifndef MAPMUX_CONTROL_H
#define MAPMUX_CONTROL_H

/* Loads the configuration that the arguments name and runs the daemon until SIGTERM or SIGINT; returns
 * the exit code. */
int control_run(int argc, char **argv);

#endif
