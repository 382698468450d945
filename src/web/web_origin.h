/* Whether a browser asks on behalf of a page from elsewhere. Where no token is asked for, all that keeps strangers
 * out is that they cannot connect; a browser on this machine can, and does what any page says. */
#ifndef MAPMUX_WEB_ORIGIN_H
#define MAPMUX_WEB_ORIGIN_H

#include "base/str.h"

/* Of a request's Host: an address, or a name without a dot, which nobody elsewhere can own and lead here.
 * Empty: no browser's. */
bool web_is_own_host(struct str host);

/* Of its Origin: a page of that Host. Empty: no page's. */
bool web_is_own_page(struct str origin, struct str host);

#endif
