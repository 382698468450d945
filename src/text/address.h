/* Addresses of listeners and servers as text: unix:PATH, HOST:PORT, [V6]:PORT, :PORT, systemd:NAME. */
#ifndef MAPMUX_ADDRESS_H
#define MAPMUX_ADDRESS_H

#include "model/setting.h"

struct address {
	enum { ADDRESS_UNIX, ADDRESS_INET, ADDRESS_SYSTEMD } kind;
	const char *path; /* unix: the path; systemd: the name */
	const char *host; /* inet: a name or number without brackets; "" is any address */
	const char *port; /* inet: digits, 1 to 65535 */
};

/* Syntax only; asks no name service. A unix path fits into sun_path. Text is copied to `mem`. */
bool address_parse(
	const char *text, struct arena *mem, struct address *address, struct error *error);

/* "unix:/run/x" or "127.0.0.1:10001" or "[::1]:10001", for messages and as a table's where. */
struct str address_print(const struct address *address, struct arena *mem);

/* Can only this machine reach it? Of a name only "localhost" is known to be so, and of a systemd
 * socket nothing. */
bool address_is_local(const struct address *address);

#endif
