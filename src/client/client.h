/* `mapmux query`: the client side of every protocol, one blocking connection. */
#ifndef MAPMUX_CLIENT_H
#define MAPMUX_CLIENT_H

/* argv[0] is the first argument behind "query". Prints answers to stdout, complaints to stderr.
 * Returns the exit code: 0 found, 1 not found, 2 error. */
int client_main(int argc, char **argv);

#endif
