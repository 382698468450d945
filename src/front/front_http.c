/* The settings of an http listener. Its bytes are evhttp's matter: web.c. */
#include "front/front_http.h"

#include "front/fronts.h"

#define AT(member) .offset = offsetof(struct http_conf, member)

static const struct setting settings[] = {
	{.name = "token",
		.kind = SET_SECRET,
		AT(token),
		.fallback = "",
		.help = "what a client has to show as Authorization: Bearer TOKEN; must be given "
			"where others than this machine can connect"},
	{.name = "max_body",
		.kind = SET_BYTES,
		AT(max_body),
		.fallback = "1m",
		.min = 1,
		.max = 64L << 20,
		.help = "longest body of a request: a value to be written"},
	ATTEMPT_SETTINGS,
	{.name = NULL},
};

static bool asks_proof(const void *conf)
{
	const struct http_conf *http = conf;
	return *http->token;
}

static const struct attempt_rules *attempts(const void *conf)
{
	const struct http_conf *http = conf;
	return &http->attempts;
}

const struct codec codec_http = {
	.name = "http",
	.idle_timeout = 60 * 1000L,
	.settings = settings,
	.conf_size = sizeof(struct http_conf),
	.asks_proof = asks_proof,
	.attempts = attempts,
};
