/* Tests of base64.c: the vectors of RFC 4648, every length, and what is none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/base64.h"

static const struct {
	const char *plain, *coded;
} vectors[] = {{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foob", "Zm9vYg=="},
	{"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"}};

static void decodes(
	bool (*decode)(struct str, char *, size_t *), const char *coded, const char *plain)
{
	char to[64];
	size_t len;
	assert_true(base64_room(strlen(coded)) <= sizeof(to));
	assert_true(decode(str_of(coded), to, &len));
	assert_true(len <= base64_room(strlen(coded)));
	assert_true(str_eq((struct str){to, len}, str_of(plain)));
}

static void test_vectors(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(vectors) / sizeof(*vectors); i++) {
		struct buf out = {.max = 100};
		base64_encode(str_of(vectors[i].plain), &out);
		assert_true(str_eq(buf_str(&out), str_of(vectors[i].coded)));
		buf_free(&out);
		decodes(base64_decode, vectors[i].coded, vectors[i].plain);
		decodes(base64_decode_any, vectors[i].coded, vectors[i].plain);
	}
}

static void test_all_bytes(void **state)
{
	char bytes[256], back[256];
	size_t len;
	(void)state;
	for (int i = 0; i < 256; i++)
		bytes[i] = (char)(255 - i);
	for (size_t n = 0; n <= 256; n++) {
		struct buf out = {.max = 1000};
		base64_encode((struct str){bytes, n}, &out);
		assert_true(base64_decode(buf_str(&out), back, &len));
		assert_int_equal(len, n);
		assert_int_equal(memcmp(bytes, back, n), 0);
		buf_free(&out);
	}
}

static void test_what_is_none(void **state)
{
	static const char *const strict[] = {"Zg", "Zg=", "Zm8", "-_-_",
		"====", "Z===", "Z=g=", "=", "Zg==Zg==", "Zm 9", "Zm9v\n", "Zm9\x80"};
	static const char *const any[] = {"Z", "====", "Z===", "Z=g=", "Zg=", "Zm9v\n", "Zm9vY"};
	char to[64];
	size_t len;
	(void)state;
	for (size_t i = 0; i < sizeof(strict) / sizeof(*strict); i++)
		if (base64_decode(str_of(strict[i]), to, &len))
			fail_msg("%s", strict[i]);
	for (size_t i = 0; i < sizeof(any) / sizeof(*any); i++)
		if (base64_decode_any(str_of(any[i]), to, &len))
			fail_msg("%s", any[i]);
	decodes(base64_decode_any, "-_-_", "\xfb\xff\xbf");
	decodes(base64_decode_any, "Zg", "f");
	decodes(base64_decode_any, "Zm8", "fo");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_all_bytes),
		cmocka_unit_test(test_what_is_none),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
