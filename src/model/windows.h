/* Sliding windows: how often something happened to a name in the last while, against limits. */
#ifndef MAPMUX_WINDOWS_H
#define MAPMUX_WINDOWS_H

#include "base/str.h"

/* So much within so many milliseconds, at any time. */
struct window_limit {
	uint64_t most;
	uint64_t ms;
};

enum { WINDOW_LIMITS = 8 }; /* for one name */

struct window_rules {
	struct window_limit limits[WINDOW_LIMITS];
	size_t n;
};

/* What all limits together reach; of no limits nothing is to be had. */
struct window_span {
	uint64_t shortest_ms, longest_ms;
	uint64_t most;
};

struct window_span window_rules_span(const struct window_rules *rules);

/* Any thread may use it: it has a lock, held for memory accesses only. */
struct windows;

/* At most `max` names are remembered: the one that has had nothing for longest is forgotten for a new
 * one. Starts with one holder. */
struct windows *windows_new(size_t max);
struct windows *windows_keep(struct windows *windows); /* one holder more; the same */
void windows_release(struct windows *windows);         /* NULL is none */

/* For each limit, in order: how much was used, and when something of it becomes free (ms on the clock of
 * `now_ms`; 0: nothing is used). */
struct window_use {
	uint64_t used, free_ms;
};

/* Counts `n` more for the name if that passes no limit, or in any case if `always`. The number of the first
 * limit that it passes; -1: none. The rules of a name should stay the same; what other rules have counted
 * is seen as far as it was worth remembering to them.
 *
 * What happens within a hundredth of the shortest window is counted together: each thing counts for its whole
 * window, and that much longer at most; of a name with thousands of such hundredths, the old ones a little
 * longer still. */
int windows_count(struct windows *windows, struct str name, const struct window_rules *rules,
	uint64_t n, bool always, uint64_t now_ms);

/* The same without counting anything. */
void windows_look(struct windows *windows, struct str name, const struct window_rules *rules,
	uint64_t now_ms, struct window_use *uses);

/* Forgets the name; false: it was not known. */
bool windows_forget(struct windows *windows, struct str name);

/* Names remembered; without the lock. */
size_t windows_size(const struct windows *windows);

#endif
