/* URLs for libcurl, taken apart. */
#include "engine/http_url.h"

#include <curl/curl.h>
#include <string.h>
#include <strings.h>

/* Scheme, userinfo, host and port; empty when there is no host. */
static struct str origin_of(const char *text)
{
	const char *host = strstr(text, "://");
	size_t len = host ? (size_t)(host - text) + 3 + strcspn(host + 3, "/?#") : 0;
	return (struct str){text, len};
}

static bool is_upper_hex(char c)
{
	return c >= 'A' && c <= 'F';
}

/* Would libcurl take them as they are? As parts of a URL it looks at them less closely than in one, and
 * some versions write %2F as %2f. */
static bool is_plain(const char *path)
{
	for (const char *c = path; *c; c++) {
		if (*c <= ' ' || *c > '~' || *c == '#')
			return false;
		if (*c == '%' && (is_upper_hex(c[1]) || (c[1] && is_upper_hex(c[2]))))
			return false;
	}
	return true;
}

static bool set_part(struct http_url *url, CURLUPart part, const char *value)
{
	return curl_url_set(url->parts, part, value, CURLU_PATH_AS_IS) == CURLUE_OK;
}

/* The path and the query behind the origin that is set already. */
static bool set_path(struct http_url *url, const char *path)
{
	const char *query = strchr(path, '?');
	if (!query)
		return set_part(url, CURLUPART_PATH, path) && set_part(url, CURLUPART_QUERY, NULL);
	buf_reset(&url->path);
	buf_add(&url->path, (struct str){path, (size_t)(query - path)});
	buf_add_char(&url->path, '\0');
	return set_part(url, CURLUPART_PATH, url->path.ptr) &&
	       set_part(url, CURLUPART_QUERY, query + 1);
}

static bool set_all(struct http_url *url, const char *text, struct str origin)
{
	buf_reset(&url->origin);
	set_part(url, CURLUPART_URL, NULL); /* or a bad one might be relative to it */
	if (!set_part(url, CURLUPART_URL, text))
		return false;
	buf_add(&url->origin, origin);
	buf_add_char(&url->origin, '\0');
	return true;
}

static bool take_apart(struct http_url *url, const char *text)
{
	struct str origin = origin_of(text);
	const char *path = text + origin.len;
	bool same =
		origin.len + 1 == url->origin.len && memcmp(text, url->origin.ptr, origin.len) == 0;
	if (same && *path == '/' && is_plain(path))
		return set_path(url, path);
	return set_all(url, text, origin);
}

void http_url_set(struct http_url *url, void *easy, const char *text)
{
	if (!url->parts) {
		url->parts = curl_url();
		url->origin.max = url->path.max = CURL_MAX_READ_SIZE;
	}
	bool known = url->parts && take_apart(url, text);
	curl_easy_setopt(easy, CURLOPT_CURLU, known ? url->parts : NULL);
	if (!known) /* libcurl says what is wrong with it */
		curl_easy_setopt(easy, CURLOPT_URL, text);
}

void http_url_free(struct http_url *url)
{
	curl_url_cleanup(url->parts);
	buf_free(&url->origin);
	buf_free(&url->path);
}

static bool same_part(CURLU *a, CURLU *b, CURLUPart part)
{
	char *left = NULL, *right = NULL;
	bool same = curl_url_get(a, part, &left, CURLU_DEFAULT_PORT) == CURLUE_OK &&
		    curl_url_get(b, part, &right, CURLU_DEFAULT_PORT) == CURLUE_OK &&
		    strcasecmp(left, right) == 0;
	curl_free(left);
	curl_free(right);
	return same;
}

struct str http_url_public(const char *text, struct arena *mem)
{
	struct str origin = origin_of(text);
	if (origin.len == 0)
		return STR("...");
	const char *host = strstr(text, "://") + 3, *path = text + origin.len;
	const char *user = memrchr(host, '@', (size_t)(path - host));
	const char *shown = user ? user + 1 : host;
	int len = (int)strcspn(path, "?#");
	return arena_printf(mem, "%.*s%.*s%.*s%s", (int)(host - text), text, (int)(path - shown),
		shown, len, path, path[len] ? "?..." : "");
}

bool http_url_is_near(const struct http_url *url, const char *text)
{
	CURLU *left = curl_url(), *right = curl_url();
	bool same = url->origin.len > 0 &&
		    curl_url_set(left, CURLUPART_URL, url->origin.ptr, 0) == CURLUE_OK &&
		    curl_url_set(right, CURLUPART_URL, text, 0) == CURLUE_OK &&
		    same_part(left, right, CURLUPART_SCHEME) &&
		    same_part(left, right, CURLUPART_HOST) &&
		    same_part(left, right, CURLUPART_PORT);
	curl_url_cleanup(left);
	curl_url_cleanup(right);
	return same;
}
