/* Tests of mail.c: the parts of addresses, extensions, small letters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "model/mail.h"

static void assert_str(struct str s, const char *expected)
{
	if (!str_eq(s, str_of(expected)))
		fail_msg("\"%.*s\" instead of \"%s\"", (int)s.len, s.len ? s.ptr : "", expected);
}

static void the_last_at_splits(void **state)
{
	static const char *const table[][3] = {
		{"user@example.org", "user", "example.org"},
		{"\"a@b\"@c", "\"a@b\"", "c"},
		{"@example.org", "", "example.org"},
		{"user@", "user", ""},
		{"@", "", ""},
		{"user@[192.0.2.1]", "user", "[192.0.2.1]"},
	};
	struct str local, domain;
	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		assert_true(mail_split(str_of(table[i][0]), &local, &domain));
		assert_str(local, table[i][1]);
		assert_str(domain, table[i][2]);
	}
	assert_false(mail_split(STR("example.org"), &local, &domain));
	assert_false(mail_split((struct str){0}, &local, &domain));
}

static void extensions_are_cut_as_by_postfix(void **state)
{
	static const char *const table[][3] = {
		/* local part, delimiters, what is left */
		{"user+ext", "+", "user"},
		{"user+a+b", "+", "user"},
		{"user-a+b", "+-", "user"},
		{"user-a+b", "+", "user-a"},
		{"user", "+", "user"},
		{"+ext", "+", "+ext"},
		{"-a+ext", "+-", "-a+ext"}, /* the first one that is found stands first */
		{"user+", "+", "user"},
		{"user+ext", "", "user+ext"},
		{"", "+", ""},
		{"owner-list", "-", "owner-list"},
		{"Owner-list+x", "+-", "Owner-list+x"},
		{"owner-list+x", "+", "owner-list"},
		{"list-request", "-", "list-request"},
		{"list-REQUEST", "+-", "list-REQUEST"},
		{"-request", "-", "-request"},
		{"list-request-x", "-", "list"},
		{"mailer-daemon", "-", "mailer-daemon"},
		{"MAILER-DAEMON", "-", "MAILER-DAEMON"},
		{"double-bounce", "-", "double-bounce"},
		{"postmaster", "m", "postmaster"},
		{"double-bounces", "-", "double"},
		{"\"a+b\"", "+", "\"a+b\""},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++)
		assert_str(mail_without_extension(str_of(table[i][0]), table[i][1]), table[i][2]);
}

static void letters_of_ascii_become_small(void **state)
{
	struct arena mem = {0};
	struct str small = STR("user@example.org");
	(void)state;
	assert_str(mail_lower(STR("Bob@Example.ORG"), &mem), "bob@example.org");
	assert_str(mail_lower(STR("[AZ@`{]"), &mem), "[az@`{]");
	assert_str(mail_lower(STR("M\xc3\x9cLLER\xff@X"), &mem), "m\xc3\x9cller\xff@x");
	assert_ptr_equal(mail_lower(small, &mem).ptr, small.ptr); /* no copy */
	assert_str(mail_lower((struct str){0}, &mem), "");
	arena_clear(&mem);
}

/* Names that mean the same person. */
static void identities(void **state)
{
	static const char *const table[][3] = {
		/* as it is written, delimiters, who it is */
		{"Alice@Example.ORG", "", "alice@example.org"},
		{"alice+1@example.org", "+", "alice@example.org"},
		{" \t Alice+a-b@example.org\r\n", "+-", "alice@example.org"},
		{"\xe2\x80\x8b\x01"
		 "alice@example.org\xef\xbb\xbf ",
			"", "alice@example.org"},
		{"alice+1@example.org", "-", "alice+1@example.org"},
		{"+1@example.org", "+", "+1@example.org"},
		{"a@EX\xc3\x84MPLE.org", "", "a@ex\xc3\xa4mple.org"},
		{"a+b@EX\xc3\x84MPLE.org", "+", "a@ex\xc3\xa4mple.org"},
		{"a@\xef\xbd\x85xample.org", "", "a@example.org"}, /* a wide e */
		{"a@No Domain", "", "a@no domain"},
		{"Alice+1", "+", "alice+1"},
		{"2001:DB8::1", ":", "2001:db8::1"},
		{" \xe2\x80\x8d ", "+", ""},
		{"", "+", ""},
	};
	struct arena mem = {0};
	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++)
		assert_str(mail_identity(str_of(table[i][0]), table[i][1], &mem), table[i][2]);
	arena_clear(&mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_last_at_splits),
		cmocka_unit_test(extensions_are_cut_as_by_postfix),
		cmocka_unit_test(letters_of_ascii_become_small),
		cmocka_unit_test(identities),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
