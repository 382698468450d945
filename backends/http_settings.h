/* The settings of HTTP that the types of tables share. Their conf structs have members of these names, and
 * AT(member) is their offset. */
#ifndef MAPMUX_BACKENDS_HTTP_SETTINGS_H
#define MAPMUX_BACKENDS_HTTP_SETTINGS_H

#include "model/setting.h"

/* Whom to connect to, and whom to trust. */
#define HTTP_SETTINGS                                                                              \
	{.name = "ca_file",                                                                        \
		.kind = SET_STR,                                                                   \
		AT(ca_file),                                                                       \
		.fallback = "",                                                                    \
		.help = "PEM file of the authorities to trust instead of the system's"},           \
		{.name = "tls_verify",                                                             \
			.kind = SET_BOOL,                                                          \
			AT(tls_verify),                                                            \
			.fallback = "yes",                                                         \
			.help = "whether the server's certificate is verified"},                   \
	{                                                                                          \
		.name = "unix_socket", .kind = SET_STR, AT(unix_socket), .fallback = "",           \
		.help = "connect to this path; the URL's host is only a name then"                 \
	}

/* For tables that may ask any HTTP service. */
#define HTTP_URL_SETTINGS                                                                          \
	{.name = "client_cert",                                                                    \
		.kind = SET_STR,                                                                   \
		AT(client_cert),                                                                   \
		.fallback = "",                                                                    \
		.help = "PEM file of our certificate"},                                            \
		{.name = "client_key",                                                             \
			.kind = SET_STR,                                                           \
			AT(client_key),                                                            \
			.fallback = "",                                                            \
			.help = "PEM file of its key, unless client_cert holds it"},               \
		{.name = "http2",                                                                  \
			.kind = SET_BOOL,                                                          \
			AT(http2),                                                                 \
			.fallback = "no",                                                          \
			.help = "HTTP/2: negotiated with https, presumed with http"},              \
		{.name = "proxy",                                                                  \
			.kind = SET_STR,                                                           \
			AT(proxy),                                                                 \
			.fallback = "",                                                            \
			.help = "URL of a proxy; none is taken from the environment"},             \
	{                                                                                          \
		.name = "follow_redirects", .kind = SET_BOOL, AT(follow_redirects),                \
		.fallback = "no", .help = "follow redirects to the same scheme, host and port"     \
	}

#endif
