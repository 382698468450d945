/* Arenas: alignment, zeroes, a first piece of one's own, large pieces, use after clear. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/arena.h"

static void gives_zeroed_aligned_memory(void **state)
{
	struct arena mem = {0};
	(void)state;
	for (size_t n = 0; n < 9000; n = n * 2 + 1) {
		char *p = arena_alloc(&mem, n);
		assert_non_null(p);
		assert_int_equal((uintptr_t)p % _Alignof(max_align_t), 0);
		for (size_t i = 0; i < n; i++)
			assert_int_equal(p[i], 0);
		memset(p, 0xAA, n); /* what comes next must be zeroed all the same */
	}
	arena_clear(&mem);
	arena_clear(&mem);
	assert_int_equal(*(char *)arena_alloc(&mem, 1), 0);
	arena_clear(&mem);
}

static void pieces_do_not_overlap(void **state)
{
	enum { N = 1000 };
	struct arena mem = {0};
	unsigned char *p[N];
	(void)state;
	for (size_t i = 0; i < N; i++)
		memset(p[i] = arena_alloc(&mem, i + 1), (int)(i & 0xFF), i + 1);
	for (size_t i = 0; i < N; i++)
		for (size_t j = 0; j <= i; j++)
			assert_int_equal(p[i][j], i & 0xFF);
	arena_clear(&mem);
}

static void what_joins_another_stays_where_it_is(void **state)
{
	_Alignas(max_align_t) char first[64];
	struct arena to, from = {0};
	(void)state;
	arena_init(&to, first, sizeof(first));
	struct str a = arena_str(&from, STR("small"));
	char *b = memset(arena_alloc(&from, 100000), 'b', 100000);
	arena_join(&to, &from);
	arena_join(&to, &from); /* nothing */
	assert_null(from.chunks);
	assert_ptr_equal(arena_alloc(&to, 16), first); /* what was free is still so */
	memset(arena_alloc(&to, 100), 'c', 100);
	memset(arena_alloc(&from, 100), 'd', 100);
	arena_join(&to, &from);
	assert_string_equal(a.ptr, "small");
	for (size_t i = 0; i < 100000; i++)
		assert_int_equal(b[i], 'b');
	arena_clear(&to); /* all of it, or the sanitizer says so */
	assert_null(to.chunks);
}

static void uses_the_first_piece(void **state)
{
	_Alignas(max_align_t) char first[256];
	struct arena mem;
	(void)state;
	memset(first, 0xFF, sizeof(first));
	arena_init(&mem, first, sizeof(first));
	char *a = arena_alloc(&mem, 100);
	assert_ptr_equal(a, first);
	assert_int_equal(a[99], 0);
	char *b = arena_alloc(&mem, 200); /* no room left there */
	assert_true(b < first || b >= first + sizeof(first));
	arena_clear(&mem);
	assert_ptr_equal(arena_alloc(&mem, 100), first);
	assert_null(mem.chunks);
	arena_clear(&mem);
}

static void copies_and_prints_text(void **state)
{
	struct arena mem = {0};
	(void)state;
	struct str s = arena_str(&mem, (struct str){"abcdef", 3});
	assert_string_equal(s.ptr, "abc");
	assert_int_equal(s.len, 3);
	s = arena_str(&mem, (struct str){0});
	assert_string_equal(s.ptr, "");
	s = arena_printf(&mem, "%s-%d", "x", 42);
	assert_string_equal(s.ptr, "x-42");
	assert_int_equal(s.len, 4);
	s = arena_printf(&mem, "%5000d", 1);
	assert_int_equal(s.len, 5000);
	assert_int_equal(strlen(s.ptr), 5000);
	arena_clear(&mem);
}

static void memory_outside_is_never_null(void **state)
{
	(void)state;
	char *p = memory_new(0);
	assert_non_null(p);
	p = memory_grow(p, 0);
	assert_non_null(p);
	p = memory_grow(p, 10);
	memset(p, 1, 10);
	p = memory_grow(p, 100000);
	assert_int_equal(p[9], 1);
	free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gives_zeroed_aligned_memory),
		cmocka_unit_test(pieces_do_not_overlap),
		cmocka_unit_test(what_joins_another_stays_where_it_is),
		cmocka_unit_test(uses_the_first_piece),
		cmocka_unit_test(copies_and_prints_text),
		cmocka_unit_test(memory_outside_is_never_null),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
