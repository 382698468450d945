/* Byte slices: compare, cut, read numbers. Owns no memory. */
#ifndef MAPMUX_STR_H
#define MAPMUX_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A view of bytes; not NUL-terminated unless the maker says so. Borrowed, unless it says otherwise. */
struct str {
	const char *ptr;
	size_t len;
};

/* A name and a value: an attribute, a row of an answer, an entry of a map. */
struct pair {
	struct str name, value;
};

#define STR(literal) ((struct str){(literal), sizeof(literal) - 1})

/* A view of a C string; NULL gives the empty slice. */
static inline struct str str_of(const char *s)
{
	return (struct str){s, s ? strlen(s) : 0};
}

static inline bool str_eq(struct str a, struct str b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static inline bool str_starts(struct str s, struct str prefix)
{
	return s.len >= prefix.len &&
	       (prefix.len == 0 || memcmp(s.ptr, prefix.ptr, prefix.len) == 0);
}

static inline bool str_has(struct str s, char c)
{
	return s.len > 0 && memchr(s.ptr, c, s.len) != NULL;
}

/* Whether it holds no NUL, CR or LF: what line-based protocols can carry. */
bool str_is_line(struct str s);

/* "%XX" is the byte XX, all else is itself. Into `to`, which has room for coded.len bytes and may be
 * coded.ptr; *text is what stands there then. False: a '%' without two hex digits behind it. */
bool str_percent_decode(struct str coded, char *to, struct str *text);

/* What is left of `s` after its first `n` bytes; n <= s.len. */
static inline struct str str_skip(struct str s, size_t n)
{
	return (struct str){n > 0 ? s.ptr + n : s.ptr, s.len - n}; /* NULL + 0 is undefined */
}

/* The first of that name; NULL: there is none. */
const struct pair *pair_find(const struct pair *pairs, size_t n, struct str name);

/* Whether it holds a control character, which a line for people must not. */
bool str_has_control(struct str s);

/* For secrets: the time tells nothing of where they differ. */
bool str_eq_secret(struct str secret, struct str given);

/* As memcmp() over both, the shorter first when one begins the other. */
int str_cmp(struct str a, struct str b);

/* Cuts *rest at its first `at`: *head is what stands before it, *rest what follows. Without one,
 * *head is all of it, *rest is empty, and false is returned. */
bool str_cut(struct str *rest, char at, struct str *head);

/* The next run of bytes that are no white space; false when there is none. *rest moves behind it. */
bool str_word(struct str *rest, struct str *word);

/* Is it one of these words, which blanks separate? */
bool str_is_among(struct str word, struct str words);

/* Without white space (space, TAB, CR, LF) at either end. */
struct str str_trim(struct str s);

/* Plain decimal digits, no blanks; false when empty, malformed or out of range. */
bool str_u64(struct str s, uint64_t *n);
bool str_i64(struct str s, int64_t *n);

/* For hash tables that hold data of the administrator or bounded data of clients. */
uint32_t str_hash(struct str s);

#endif
