/* Addresses of listeners and servers as text. Reads and prints; never resolves. */
#include "text/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>

#define ALLOWED "allowed: unix:PATH, HOST:PORT, [V6]:PORT, :PORT, systemd:NAME"

static const size_t path_max = sizeof(((struct sockaddr_un *)0)->sun_path) - 1;

static bool all_in(struct str s, const char *extra)
{
	for (size_t i = 0; i < s.len; i++) {
		char c = s.ptr[i];
		bool alnum =
			(c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
		if (!alnum && (c == '\0' || !strchr(extra, c)))
			return false;
	}
	return s.len > 0;
}

static bool has_control(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		if ((unsigned char)s.ptr[i] < ' ' || s.ptr[i] == 0x7F)
			return true;
	return false;
}

static bool parse_unix(
	struct str path, struct arena *mem, struct address *address, struct error *error)
{
	if (path.len == 0)
		return error_set(error, "unix: has no path; write unix:/run/mapmux/socketmap");
	if (has_control(path))
		return error_set(error, "a control character is in the path; allowed: none");
	if (path.len > path_max)
		return error_set(error,
			"the path is %zu bytes long; allowed: %zu, as the system "
			"has no room for more",
			path.len, path_max);
	*address = (struct address){.kind = ADDRESS_UNIX, .path = arena_str(mem, path).ptr};
	address->host = address->port = "";
	return true;
}

static bool parse_systemd(
	struct str name, struct arena *mem, struct address *address, struct error *error)
{
	if (name.len == 0 || has_control(name) || str_has(name, ':'))
		return error_set(error, "systemd: must be followed by the FileDescriptorName of a "
					"socket unit, like systemd:mapmux.socket");
	*address = (struct address){.kind = ADDRESS_SYSTEMD, .path = arena_str(mem, name).ptr};
	address->host = address->port = "";
	return true;
}

/* An IPv6 number, perhaps with a zone: fe80::1%eth0. */
static bool is_v6(struct str host)
{
	struct str number, zone = host;
	char text[INET6_ADDRSTRLEN];
	struct in6_addr in6;
	if (str_cut(&zone, '%', &number) && !all_in(zone, "._-"))
		return false;
	int n = snprintf(text, sizeof(text), "%.*s", (int)number.len, number.ptr);
	return (size_t)n < sizeof(text) && inet_pton(AF_INET6, text, &in6) == 1;
}

/* Cuts "[V6]:" or "HOST:" off; *rest is the port then. */
static bool cut_host(struct str *rest, struct str *host, struct error *error)
{
	struct str text = *rest;
	if (text.len > 0 && text.ptr[0] == '[') {
		*rest = str_skip(*rest, 1);
		bool closed = str_cut(rest, ']', host);
		if (!closed || !is_v6(*host))
			return error_set(error,
				"\"%.*s\" is no IPv6 address in brackets; write "
				"it like [::1]:10001",
				(int)text.len, text.ptr);
		if (rest->len == 0 || rest->ptr[0] != ':')
			return error_set(error, "\"%.*s\" has no port; write it like [::1]:10001",
				(int)text.len, text.ptr);
		*rest = str_skip(*rest, 1);
		return true;
	}
	if (!str_cut(rest, ':', host))
		return error_set(
			error, "\"%.*s\" is no address; " ALLOWED, (int)text.len, text.ptr);
	if (str_has(*rest, ':'))
		return error_set(error,
			"\"%.*s\" has several colons; write an IPv6 address as "
			"[::1]:10001, any other as 127.0.0.1:10001",
			(int)text.len, text.ptr);
	if (host->len > 0 && !all_in(*host, ".-_"))
		return error_set(error, "\"%.*s\" is no host name and no address; " ALLOWED,
			(int)host->len, host->ptr);
	return true;
}

bool address_parse(
	const char *text, struct arena *mem, struct address *address, struct error *error)
{
	struct str rest = str_of(text), host;
	uint64_t port;
	if (str_starts(rest, STR("unix:")))
		return parse_unix(str_skip(rest, 5), mem, address, error);
	if (str_starts(rest, STR("systemd:")))
		return parse_systemd(str_skip(rest, 8), mem, address, error);
	if (rest.len > 300 || has_control(rest))
		return error_set(error, "is no address; " ALLOWED);
	if (str_has(rest, '/'))
		return error_set(error, "\"%s\" looks like a path; write unix:%s", text, text);
	if (!cut_host(&rest, &host, error))
		return false;
	if (!str_u64(rest, &port) || port < 1 || port > 65535)
		return error_set(
			error, "\"%.*s\" is no port; allowed: 1 to 65535", (int)rest.len, rest.ptr);
	*address = (struct address){.kind = ADDRESS_INET, .path = ""};
	address->host = arena_str(mem, host).ptr;
	address->port = arena_printf(mem, "%u", (unsigned)port).ptr;
	return true;
}

struct str address_print(const struct address *address, struct arena *mem)
{
	if (address->kind == ADDRESS_UNIX)
		return arena_printf(mem, "unix:%s", address->path);
	if (address->kind == ADDRESS_SYSTEMD)
		return arena_printf(mem, "systemd:%s", address->path);
	if (strchr(address->host, ':'))
		return arena_printf(mem, "[%s]:%s", address->host, address->port);
	return arena_printf(mem, "%s:%s", address->host, address->port);
}

bool address_is_local(const struct address *address)
{
	struct in_addr v4;
	struct in6_addr v6;
	if (address->kind != ADDRESS_INET)
		return address->kind == ADDRESS_UNIX;
	if (inet_pton(AF_INET, address->host, &v4) == 1)
		return ntohl(v4.s_addr) >> 24 == 127;
	if (inet_pton(AF_INET6, address->host, &v6) == 1)
		return IN6_IS_ADDR_LOOPBACK(&v6);
	return strcasecmp(address->host, "localhost") == 0;
}
