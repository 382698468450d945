/* Buffers: what fits, what does not, and that the one never harms the other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/buf.h"

static void assert_holds(const struct buf *buf, const char *want)
{
	assert_int_equal(buf->len, strlen(want));
	assert_memory_equal(buf->ptr, want, buf->len);
}

static void adds(void **state)
{
	struct buf buf = {.max = 1000};
	(void)state;
	buf_add(&buf, STR("ab"));
	buf_add(&buf, (struct str){0});
	buf_add_char(&buf, 'c');
	buf_add_u64(&buf, 0);
	buf_add_u64(&buf, UINT64_MAX);
	buf_printf(&buf, "-%s-%d", "x", 7);
	assert_holds(&buf, "abc018446744073709551615-x-7");
	assert_false(buf.overflow);
	assert_ptr_equal(buf_str(&buf).ptr, buf.ptr);
	buf_free(&buf);
	assert_null(buf.ptr);
	buf_add(&buf, STR("again"));
	assert_holds(&buf, "again");
	buf_free(&buf);
}

static void leaves_out_whole_what_passes_max(void **state)
{
	struct buf buf = {.max = 5};
	(void)state;
	buf_add(&buf, STR("abc"));
	buf_add(&buf, STR("def"));
	assert_true(buf.overflow);
	assert_holds(&buf, "abc");
	buf_add(&buf, STR("de")); /* the writer goes on */
	assert_holds(&buf, "abcde");
	buf_add_char(&buf, 'f');
	assert_holds(&buf, "abcde");
	assert_true(buf.overflow);
	buf_reset(&buf);
	assert_false(buf.overflow);
	assert_int_equal(buf.len, 0);
	assert_null(buf_reserve(&buf, SIZE_MAX));
	assert_true(buf.overflow);
	buf_free(&buf);
}

static void consumes(void **state)
{
	struct buf buf = {.max = 100};
	(void)state;
	buf_consume(&buf, 0);
	buf_add(&buf, STR("abcdef"));
	buf_consume(&buf, 2);
	assert_holds(&buf, "cdef");
	buf_consume(&buf, 0);
	buf_consume(&buf, 4);
	assert_holds(&buf, "");
	buf_free(&buf);
}

static void grows(void **state)
{
	struct buf buf = {.max = 1 << 20};
	(void)state;
	for (int i = 0; i < 100000; i++)
		buf_add_char(&buf, (char)('a' + i % 26));
	assert_int_equal(buf.len, 100000);
	for (int i = 0; i < 100000; i++)
		assert_int_equal(buf.ptr[i], 'a' + i % 26);
	char *room = buf_reserve(&buf, 1000);
	memset(room, 'x', 1000);
	assert_int_equal(buf.len, 100000); /* reserving alone adds nothing */
	buf_free(&buf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(adds),
		cmocka_unit_test(leaves_out_whole_what_passes_max),
		cmocka_unit_test(consumes),
		cmocka_unit_test(grows),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
