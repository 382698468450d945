/* Byte slices: compare, cut, read numbers. Owns no memory. */
#include "base/str.h"

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

int str_cmp(struct str a, struct str b)
{
	size_t n = a.len < b.len ? a.len : b.len;
	int order = n ? memcmp(a.ptr, b.ptr, n) : 0;
	if (order != 0)
		return order;
	return a.len < b.len ? -1 : a.len > b.len;
}

const struct pair *pair_find(const struct pair *pairs, size_t n, struct str name)
{
	for (size_t i = 0; i < n; i++)
		if (str_eq(pairs[i].name, name))
			return &pairs[i];
	return NULL;
}

bool str_has_control(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		if ((unsigned char)s.ptr[i] < 0x20 || s.ptr[i] == 0x7f)
			return true;
	return false;
}

/* Each byte that was given is looked at, wherever the first difference is. */
bool str_eq_secret(struct str secret, struct str given)
{
	volatile unsigned char differs = secret.len != given.len;
	for (size_t i = 0; i < given.len; i++)
		differs |= (unsigned char)(given.ptr[i] ^
					   (secret.len > 0 ? secret.ptr[i % secret.len] : 0));
	return !differs;
}

/* Nearly all bytes are above CR: one comparison for each. Long texts are left to the library. */
bool str_is_line(struct str s)
{
	enum { LONG = 64 };
	if (s.len > LONG)
		return !str_has(s, '\0') && !str_has(s, '\n') && !str_has(s, '\r');
	for (size_t i = 0; i < s.len; i++)
		if ((unsigned char)s.ptr[i] <= '\r' &&
			(s.ptr[i] == '\0' || s.ptr[i] == '\n' || s.ptr[i] == '\r'))
			return false;
	return true;
}

bool str_cut(struct str *rest, char at, struct str *head)
{
	const char *found = rest->len ? memchr(rest->ptr, at, rest->len) : NULL;
	if (!found) {
		*head = *rest;
		*rest = str_skip(*rest, rest->len);
		return false;
	}
	*head = (struct str){rest->ptr, (size_t)(found - rest->ptr)};
	*rest = str_skip(*rest, head->len + 1);
	return true;
}

bool str_word(struct str *rest, struct str *word)
{
	while (rest->len > 0 && is_blank(rest->ptr[0]))
		*rest = str_skip(*rest, 1);
	size_t n = 0;
	while (n < rest->len && !is_blank(rest->ptr[n]))
		n++;
	*word = (struct str){rest->ptr, n};
	*rest = str_skip(*rest, n);
	return n > 0;
}

bool str_is_among(struct str word, struct str words)
{
	struct str each;
	while (str_word(&words, &each))
		if (str_eq(each, word))
			return true;
	return false;
}

struct str str_trim(struct str s)
{
	while (s.len > 0 && is_blank(s.ptr[0]))
		s = str_skip(s, 1);
	while (s.len > 0 && is_blank(s.ptr[s.len - 1]))
		s.len--;
	return s;
}

bool str_u64(struct str s, uint64_t *n)
{
	uint64_t value = 0;
	if (s.len == 0)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		unsigned digit = (unsigned char)s.ptr[i] - (unsigned)'0';
		if (digit > 9 || value > (UINT64_MAX - digit) / 10)
			return false;
		value = value * 10 + digit;
	}
	*n = value;
	return true;
}

bool str_i64(struct str s, int64_t *n)
{
	uint64_t value;
	bool negative = s.len > 0 && s.ptr[0] == '-';
	if (!str_u64(negative ? str_skip(s, 1) : s, &value))
		return false;
	if (value > (uint64_t)INT64_MAX + negative)
		return false;
	*n = negative ? (int64_t)(0 - value) : (int64_t)value;
	return true;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool str_percent_decode(struct str coded, char *to, struct str *text)
{
	size_t n = 0;
	for (size_t i = 0; i < coded.len; i++) {
		char c = coded.ptr[i];
		if (c == '%') {
			int high = coded.len - i > 2 ? hex_digit(coded.ptr[i + 1]) : -1;
			int low = high >= 0 ? hex_digit(coded.ptr[i + 2]) : -1;
			if (low < 0)
				return false;
			c = (char)(high << 4 | low);
			i += 2;
		}
		to[n++] = c;
	}
	*text = (struct str){to, n};
	return true;
}

uint32_t str_hash(struct str s)
{
	uint32_t h = 2166136261u; /* FNV-1a */
	for (size_t i = 0; i < s.len; i++)
		h = (h ^ (unsigned char)s.ptr[i]) * 16777619u;
	return h;
}
