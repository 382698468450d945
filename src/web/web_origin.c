/* Whether a browser asks on behalf of a page from elsewhere. */
#include "web/web_origin.h"

#include <arpa/inet.h>
#include <strings.h>

static bool is_v4(struct str name)
{
	char text[INET_ADDRSTRLEN];
	struct in_addr v4;
	if (name.len >= sizeof(text))
		return false;
	memcpy(text, name.ptr, name.len);
	text[name.len] = '\0';
	return inet_pton(AF_INET, text, &v4) == 1;
}

bool web_is_own_host(struct str host)
{
	struct str port = host, name;
	if (host.len == 0 || host.ptr[0] == '[')
		return true;
	str_cut(&port, ':', &name);
	return !str_has(name, '.') || is_v4(name);
}

bool web_is_own_page(struct str origin, struct str host)
{
	if (origin.len == 0)
		return true;
	if (str_starts(origin, STR("http://")))
		origin = str_skip(origin, strlen("http://"));
	else if (str_starts(origin, STR("https://")))
		origin = str_skip(origin, strlen("https://"));
	return origin.len == host.len && strncasecmp(origin.ptr, host.ptr, host.len) == 0;
}
