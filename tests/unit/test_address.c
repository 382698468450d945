/* Addresses: what is one, what is none, and that it prints as it was read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "text/address.h"

static void reads_and_prints(void **state)
{
	static const struct {
		const char *text;
		int kind;
		const char *path, *host, *port, *printed;
	} cases[] = {
		{"unix:/run/mapmux/x", ADDRESS_UNIX, "/run/mapmux/x", "", "", "unix:/run/mapmux/x"},
		{"unix:relative", ADDRESS_UNIX, "relative", "", "", "unix:relative"},
		{"unix:/a:b", ADDRESS_UNIX, "/a:b", "", "", "unix:/a:b"},
		{"127.0.0.1:10001", ADDRESS_INET, "", "127.0.0.1", "10001", "127.0.0.1:10001"},
		{"mail-1.example.org:1", ADDRESS_INET, "", "mail-1.example.org", "1",
			"mail-1.example.org:1"},
		{"[::1]:65535", ADDRESS_INET, "", "::1", "65535", "[::1]:65535"},
		{"[::]:1", ADDRESS_INET, "", "::", "1", "[::]:1"},
		{"[fe80::1%eth0]:25", ADDRESS_INET, "", "fe80::1%eth0", "25", "[fe80::1%eth0]:25"},
		{":10001", ADDRESS_INET, "", "", "10001", ":10001"},
		{":00025", ADDRESS_INET, "", "", "25", ":25"},
		{"systemd:mapmux.socket", ADDRESS_SYSTEMD, "mapmux.socket", "", "",
			"systemd:mapmux.socket"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct arena mem = {0};
		struct address address;
		struct error error = {""};
		if (!address_parse(cases[i].text, &mem, &address, &error))
			fail_msg("%s: %s", cases[i].text, error.text);
		assert_int_equal(address.kind, cases[i].kind);
		assert_string_equal(address.path, cases[i].path);
		assert_string_equal(address.host, cases[i].host);
		assert_string_equal(address.port, cases[i].port);
		assert_string_equal(address_print(&address, &mem).ptr, cases[i].printed);
		arena_clear(&mem);
	}
}

static void refuses(void **state)
{
	static const char *const cases[][2] = {
		{"", "no address"},
		{"localhost", "allowed: unix:PATH"},
		{"10001", "allowed: unix:PATH"},
		{"/run/x", "write unix:/run/x"},
		{"unix:", "no path"},
		{"unix:/run/\n", "control character"},
		{"unix:/0123456789012345678901234567890123456789012345678901234567890123456789"
		 "01234567890123456789012345678901234567",
			"allowed: 107"},
		{"localhost:", "1 to 65535"},
		{"localhost:0", "1 to 65535"},
		{"localhost:65536", "1 to 65535"},
		{"localhost:-1", "1 to 65535"},
		{"localhost:http", "1 to 65535"},
		{"localhost: 1", "1 to 65535"},
		{"::1:10001", "several colons"},
		{"inet:127.0.0.1:10001", "several colons"},
		{"[::1]", "no port"},
		{"[::1]10001", "no port"},
		{"[::1:10001", "no IPv6 address"},
		{"[127.0.0.1]:1", "no IPv6 address"},
		{"[]:1", "no IPv6 address"},
		{"[::1%]:1", "no IPv6 address"},
		{"[::1%a/b]:1", "unix:"},
		{"a b:1", "no host name"},
		{"*:1", "no host name"},
		{"systemd:", "systemd:mapmux.socket"},
		{"systemd:a:b", "systemd:mapmux.socket"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct arena mem = {0};
		struct address address;
		struct error error = {""};
		if (address_parse(cases[i][0], &mem, &address, &error))
			fail_msg("%s was taken", cases[i][0]);
		if (!strstr(error.text, cases[i][1]))
			fail_msg("%s: %s", cases[i][0], error.text);
		arena_clear(&mem);
	}
}

static void the_longest_path_fits(void **state)
{
	char text[5 + 107 + 2] = "unix:";
	struct arena mem = {0};
	struct address address;
	struct error error;
	(void)state;
	memset(text + 5, 'x', 107);
	assert_true(address_parse(text, &mem, &address, &error));
	text[5 + 107] = 'x';
	assert_false(address_parse(text, &mem, &address, &error));
	arena_clear(&mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_and_prints),
		cmocka_unit_test(refuses),
		cmocka_unit_test(the_longest_path_fits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
