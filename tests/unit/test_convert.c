/* Other programs' configurations as YAML: what is printed for each, what is refused, and that it loads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "config/config.h"
#include "config/config_convert.h"

#define SIGN "\xc2\xa7" /* podop's placeholder */

static char directory[] = "/tmp/mapmux-convert-XXXXXX";
static struct error error;
static char *printed;

static const char *const variables[] = {"USERLI_TOKEN", "USERLI_BASE_URL",
	"POSTFIX_RECIPIENT_DELIMITER", "SOCKETMAP_LISTEN_ADDR", "POLICY_LISTEN_ADDR",
	"SASL_LISTEN_ADDR", "METRICS_LISTEN_ADDR", "METRICS_TOKEN", "RATE_LIMIT_MESSAGE",
	"REDIS_URL", "LOOKUP_CACHE_TTL", "LOG_LEVEL", "ALIAS_LISTEN_ADDR", "DOMAIN_LISTEN_ADDR",
	"MAILBOX_LISTEN_ADDR", "SENDERS_LISTEN_ADDR"};

static int enter_directory(void **state)
{
	(void)state;
	return !mkdtemp(directory) || chdir(directory) != 0;
}

static int leave_directory(void **state)
{
	(void)state;
	unlink("x.json");
	unlink("x.yaml");
	free(printed);
	return chdir("/") != 0 || rmdir(directory) != 0;
}

static int clear_environment(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++)
		unsetenv(variables[i]);
	return 0;
}

static void write_file(const char *name, const void *content, size_t len)
{
	FILE *file = fopen(name, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(content, 1, len, file), len);
	fclose(file);
}

/* ---- running a converter: into `printed`, or `error` ---- */

static FILE *begin(void)
{
	static size_t len;
	free(printed);
	printed = NULL;
	error.text[0] = '\0';
	FILE *out = open_memstream(&printed, &len);
	assert_non_null(out);
	return out;
}

static bool podop(const char *const *words)
{
	char *argv[64];
	int argc = 0;
	for (; words[argc]; argc++)
		argv[argc] = strdup(words[argc]);
	FILE *out = begin();
	bool good = convert_podop(argc, argv, out, &error);
	fclose(out);
	while (argc > 0)
		free(argv[--argc]);
	return good;
}

#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

static bool userli(void)
{
	FILE *out = begin();
	bool good = convert_userli(out, &error);
	fclose(out);
	return good;
}

static bool connector(const char *json)
{
	write_file("x.json", json, strlen(json));
	FILE *out = begin();
	bool good = convert_connector("x.json", out, &error);
	fclose(out);
	return good;
}

/* ---- judging it ---- */

static void must(bool good)
{
	if (!good)
		fail_msg("%s", error.text);
}

/* What was printed is this text, and a configuration. */
static void check_printed(const char *wanted)
{
	struct config config;
	assert_string_equal(printed, wanted);
	write_file("x.yaml", printed, strlen(printed));
	char *argv[] = {(char[]){"-c"}, (char[]){"x.yaml"}};
	must(config_load(&config, 2, argv, &error));
	config_free(&config);
}

static void check_loads(void)
{
	char *wanted = strdup(printed);
	check_printed(wanted);
	free(wanted);
}

static void check_holds(const char *text)
{
	if (!strstr(printed, text))
		fail_msg("without: %s\n%s", text, printed);
}

static void check_refused(bool good, const char *why)
{
	if (good)
		fail_msg("was taken; wanted: %s", why);
	assert_string_equal(error.text, why);
}

/* ---- podop ---- */

#define PODOP "# In place of podop. What differs on purpose: docs/migrate.md\n"
#define PODOP_TABLE                                                                                \
	"    # only a 404 was an absence; Python's client followed redirects and waited 300s\n"    \
	"    status: {4xx: temp, 410: temp}\n"                                                     \
	"    follow_redirects: yes\n"                                                              \
	"    timeout: 25s\n"                                                                       \
	"    connect_timeout: 25s\n"                                                               \
	"    # each question was asked, once: leave this out where asking changes nothing\n"       \
	"    side_effects: yes\n"

static void prints_podop(void **state)
{
	(void)state;
	must(podop(ARGS("--socket", "/tmp/podop.socket", "--mode", "postfix", "--name", "alias",
		"--type", "url", "--param", "http://admin/alias/" SIGN, "--name", "odd one's",
		"--type", "url", "--param", "http://admin/odd/{}", "-v")));
	assert_string_equal(printed, PODOP "log: {level: debug}\n"
					   "listeners:\n"
					   "  - protocol: socketmap\n"
					   "    address: \"unix:/tmp/podop.socket\"\n"
					   "tables:\n"
					   "  - name: alias\n"
					   "    type: url\n"
					   "    param: \"http://admin/alias/" SIGN
					   "\"\n" PODOP_TABLE "  - name: \"odd one's\"\n"
					   "    type: url\n"
					   "    param: \"http://admin/odd/{}\"\n" PODOP_TABLE);
	must(podop(ARGS("--socket=/s", "--mode=dovecot", "--type=url", "--param=http://a/{}",
		"--name=quota")));
	check_printed(PODOP "listeners:\n"
			    "  - protocol: dict\n"
			    "    address: \"unix:/s\"\n"
			    "tables:\n"
			    "  - type: url\n"
			    "    param: \"http://a/{}\"\n"
			    "    name: quota\n" PODOP_TABLE);
	must(podop(ARGS("--mode", "postfix", "--socket", "/s")));
	check_printed(PODOP "listeners:\n"
			    "  - protocol: socketmap\n"
			    "    address: \"unix:/s\"\n");
}

#define SOCKET "--socket", "/s", "--mode", "postfix"

static void refuses_podop(void **state)
{
	(void)state;
	check_refused(podop(ARGS("-v")), "command line: --socket: is missing, and --mode");
	check_refused(podop(ARGS("--socket", "/s")),
		"command line: --socket: needs --mode postfix or --mode dovecot");
	check_refused(
		podop(ARGS("--mode", "postfix")), "command line: --mode: needs --socket PATH");
	check_refused(podop(ARGS("--socket", "/s", "--mode", "exim")),
		"command line: --mode: \"exim\" is not known; allowed: postfix, dovecot");
	check_refused(podop(ARGS("--socket", "/s", "--mode")),
		"command line: --mode: has no value; write --mode postfix|dovecot");
	check_refused(podop(ARGS("--socket", "/s", SOCKET)),
		"command line: --socket: is given twice; allowed: once (--listen takes any "
		"number)");
	check_refused(podop(ARGS(SOCKET, "--name", "a", "--type", "url")),
		"command line: --param: is missing: each table needs --name, --type and --param");
	check_refused(podop(ARGS(SOCKET, "--name", "a", "--name", "b", "--type", "url", "--param",
			      "http://a/{}")),
		"command line: --type: is missing: each table needs --name, --type and --param");
	check_refused(podop(ARGS(SOCKET, "--type", "url", "--param", "http://a/{}")),
		"command line: --name: is missing: each table needs --name, --type and --param");
	check_refused(podop(ARGS(SOCKET, "--name", "a", "--type", "static", "--param", "x=1")),
		"command line: --type: is no type of podop's; allowed: url");
	check_refused(podop(ARGS(SOCKET, "--threads", "2")),
		"command line: --threads: is no option of podop's; allowed: --socket, --mode, "
		"--name, --type, --param, -v");
	assert_false(podop(ARGS(SOCKET, "--nonsense")));
	assert_non_null(strstr(error.text, "command line: --nonsense: unknown option; "));
	assert_false(podop(ARGS("socket")));
	assert_non_null(strstr(error.text, "command line: socket: is no option; "));
}

/* ---- userli-postfix-adapter ---- */

#define USERLI(version)                                                                            \
	"# In place of userli-postfix-adapter " version                                            \
	", from its environment. What differs on\n"                                                \
	"# purpose: docs/migrate.md\n"
#define USERLI_TABLE(name, rest)                                                                   \
	"  - name: " name "\n"                                                                     \
	"    type: userli\n"                                                                       \
	"    param: \"http://localhost:8000\"\n"                                                   \
	"    token: \"${USERLI_TOKEN}\"\n"                                                         \
	"    timeout: 5s\n"                                                                        \
	"    connect_timeout: 5s\n" rest

#define CACHED(name) USERLI_TABLE(name, "    cache: {ttl: 300000ms}\n")
#define LISTENERS                                                                                  \
	"log:\n"                                                                                   \
	"  level: info\n"                                                                          \
	"listeners:\n"                                                                             \
	"  - protocol: socketmap\n"                                                                \
	"    address: \":10001\"\n"                                                                \
	"  - protocol: policy\n"                                                                   \
	"    address: \":10003\"\n"                                                                \
	"    table: ratelimit\n"                                                                   \
	"    fail_action: DUNNO\n"                                                                 \
	"  # on all addresses only with METRICS_TOKEN\n"                                           \
	"  - protocol: http\n"                                                                     \
	"    address: \"127.0.0.1:10002\"\n"                                                       \
	"tables:\n"
#define RATELIMIT                                                                                  \
	"  - name: ratelimit\n"                                                                    \
	"    type: ratelimit\n"                                                                    \
	"    param: quota\n"                                                                       \
	"    # half of it is for userli, which had 5s\n"                                           \
	"    timeout: 10s\n"                                                                       \
	"    count_rejected: yes\n"                                                                \
	"    on_exceed: \"REJECT Rate limit exceeded, please try again later\"\n"

static void prints_userli(void **state)
{
	(void)state;
	setenv("USERLI_TOKEN", "hidden", 1);
	setenv("REDIS_URL", "", 1); /* as if it were not set */
	must(userli());
	check_printed(USERLI("3.x") LISTENERS CACHED("alias") CACHED("domain") CACHED("mailbox")
			CACHED("senders") USERLI_TABLE("quota", "") RATELIMIT);
}

static void prints_all_of_userli(void **state)
{
	(void)state;
	setenv("USERLI_TOKEN", "hidden", 1);
	setenv("USERLI_BASE_URL", "https://users.example.org", 1);
	setenv("POSTFIX_RECIPIENT_DELIMITER", "+", 1);
	setenv("SOCKETMAP_LISTEN_ADDR", "/run/maps.sock", 1);
	setenv("POLICY_LISTEN_ADDR", "policy.sock", 1);
	setenv("SASL_LISTEN_ADDR", "127.0.0.1:10004", 1);
	setenv("METRICS_LISTEN_ADDR", ":9090", 1);
	setenv("METRICS_TOKEN", "also hidden", 1);
	setenv("RATE_LIMIT_MESSAGE", "Slow: down", 1);
	setenv("REDIS_URL", "redis://:pass@127.0.0.1:6379/0", 1);
	setenv("LOOKUP_CACHE_TTL", "1m30.5s", 1);
	setenv("LOG_LEVEL", "debug", 1);
	must(userli());
	check_loads();
	check_holds("log:\n  level: debug\n");
	check_holds("  - protocol: socketmap\n    address: \"unix:/run/maps.sock\"\n"
		    "    mode: \"0666\"\n");
	check_holds(
		"    address: \"unix:policy.sock\"\n    mode: \"0666\"\n    table: ratelimit\n");
	check_holds("  - protocol: sasl\n    address: \"127.0.0.1:10004\"\n    table: auth\n"
		    "    on_outage: close\n");
	check_holds(
		"  - protocol: http\n    address: \":9090\"\n    token: \"${METRICS_TOKEN}\"\n");
	check_holds("    param: \"https://users.example.org\"\n");
	check_holds("  - name: auth\n    type: userli\n");
	check_holds("    recipient_delimiter: \"+\"\n    cache: {ttl: 90500ms, shared: "
		    "\"${REDIS_URL}\"}\n");
	check_holds("    on_exceed: \"REJECT Slow: down\"\n    recipient_delimiter: \"+\"\n"
		    "    store: \"${REDIS_URL}\"\n");
	assert_null(strstr(printed, "hidden"));
	assert_null(strstr(printed, "pass@"));
}

static void prints_old_userli(void **state)
{
	(void)state;
	setenv("USERLI_TOKEN", "hidden", 1);
	setenv("ALIAS_LISTEN_ADDR", "127.0.0.1:1", 1);
	must(userli());
	check_printed(
		USERLI("1.x") "log:\n"
			      "  level: info\n"
			      "listeners:\n"
			      "  - protocol: tcp\n"
			      "    address: \"127.0.0.1:1\"\n"
			      "    table: alias\n"
			      "  - protocol: tcp\n"
			      "    address: \":10002\"\n"
			      "    table: domain\n"
			      "  - protocol: tcp\n"
			      "    address: \":10003\"\n"
			      "    table: mailbox\n"
			      "  - protocol: tcp\n"
			      "    address: \":10004\"\n"
			      "    table: senders\n"
			      "  # on all addresses only with METRICS_TOKEN\n"
			      "  - protocol: http\n"
			      "    address: \"127.0.0.1:10005\"\n"
			      "tables:\n" USERLI_TABLE("alias", "") USERLI_TABLE("domain", "")
				      USERLI_TABLE("mailbox", "") USERLI_TABLE("senders", ""));
}

/* Later releases came with an example that still had a variable of 1.x. */
static void tells_the_release(void **state)
{
	static const char *const later[][2] = {{"SOCKETMAP_LISTEN_ADDR", ":1"},
		{"POLICY_LISTEN_ADDR", ":1"}, {"SASL_LISTEN_ADDR", ":1"},
		{"RATE_LIMIT_MESSAGE", "x"}, {"REDIS_URL", "redis://h:1/0"},
		{"LOOKUP_CACHE_TTL", "0"}, {"POSTFIX_RECIPIENT_DELIMITER", "+"}};
	(void)state;
	setenv("USERLI_TOKEN", "hidden", 1);
	setenv("ALIAS_LISTEN_ADDR", ":2", 1);
	for (size_t i = 0; i < sizeof(later) / sizeof(later[0]); i++) {
		setenv(later[i][0], later[i][1], 1);
		must(userli());
		check_loads();
		check_holds("userli-postfix-adapter 3.x");
		assert_null(strstr(printed, "protocol: tcp"));
		assert_int_equal(strstr(printed, "cache:") == NULL,
			strcmp(later[i][0], "LOOKUP_CACHE_TTL") == 0);
		unsetenv(later[i][0]);
	}
}

static void prints_log_levels(void **state)
{
	static const char *const levels[][2] = {{"WARN", "warn"}, {"Error", "error"},
		{"fatal", "error"}, {"DPanic", "error"}, {"loud", "loud"}};
	(void)state;
	setenv("USERLI_TOKEN", "hidden", 1);
	for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		char wanted[64];
		setenv("LOG_LEVEL", levels[i][0], 1);
		must(userli());
		snprintf(wanted, sizeof(wanted), "log:\n  level: %s\n", levels[i][1]);
		check_holds(wanted);
	}
}

static void refuses_userli(void **state)
{
	static const char *const times[] = {"soon", "5", "-5s", "5x", "5s later", "1e30h", "."};
	(void)state;
	check_refused(userli(),
		"the environment variable USERLI_TOKEN is not set; it must hold the token for "
		"userli's API");
	setenv("USERLI_TOKEN", "", 1);
	assert_false(userli());
	setenv("USERLI_TOKEN", "t", 1);
	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		setenv("LOOKUP_CACHE_TTL", times[i], 1);
		if (userli())
			fail_msg("was taken: %s", times[i]);
		if (!strstr(error.text, times[i]) ||
			!strstr(error.text, "allowed: 0, or a time like 300s or 1m30s"))
			fail_msg("%s", error.text);
	}
}

/* ---- postfix-rest-connector ---- */

#define CONNECTOR "# In place of postfix-rest-connector. What differs on purpose: docs/migrate.md\n"
#define ENDPOINT(mode, rest)                                                                       \
	"{\"name\": \"domain-lookup\", \"mode\": \"" mode                                          \
	"\", \"target\": \"https://somehost/" mode                                                 \
	"\", \"bind-address\": \"0.0.0.0\", \"auth-token\": \"test123\", " rest "}"
#define POLICY_COMMENT                                                                             \
	"    fail_action: \"451 4.3.0 REST server had an internal error!\"\n"                      \
	"    # it said this when the service answered 4xx, an expired token's 401 too:\n"          \
	"    # perm_action: \"554 5.3.5 REST server signaled a user error\"\n"
#define TOKEN                                                                                      \
	"    auth_header: \"X-Auth-Token:\"\n"                                                     \
	"    # a secret; auth_token_file takes it from a file\n"                                   \
	"    auth_token: test123\n"
#define LOOKUP "    status: {4xx: perm, 410: perm}\n    follow_redirects: yes\n"
#define AGENT "    user_agent: \"Postfix REST Connector\"\n"

/* Its documented endpoints all have one name. */
static void prints_connector(void **state)
{
	(void)state;
	must(connector("{\"endpoints\": [" ENDPOINT("tcp-lookup",
		"\"bind-port\": 9001, \"request-timeout\": 2000") "," ENDPOINT("socketmap-lookup",
		"\"bind-port\": 9002") "," ENDPOINT("policy", "\"bind-port\": 9003") "]}"));
	check_printed(CONNECTOR
		"listeners:\n"
		"  - protocol: tcp\n"
		"    address: \"0.0.0.0:9001\"\n"
		"    table: domain-lookup\n"
		"  - protocol: socketmap\n"
		"    address: \"0.0.0.0:9002\"\n"
		"    table: domain-lookup-2\n"
		"    any_name: yes # the name went to the service, as {user} does now\n"
		"  - protocol: policy\n"
		"    address: \"0.0.0.0:9003\"\n"
		"    table: domain-lookup-3\n" POLICY_COMMENT "tables:\n"
		"  - name: domain-lookup\n"
		"    type: url\n"
		"    param: \"https://somehost/tcp-lookup?key={}\"\n" LOOKUP AGENT
		"    timeout: 2000ms\n    connect_timeout: 2000ms\n" TOKEN
		"  - name: domain-lookup-2\n"
		"    type: url\n"
		"    param: \"https://somehost/socketmap-lookup?name={user}&key={}\"\n" LOOKUP AGENT
		"    timeout: 2000ms\n    connect_timeout: 2000ms\n" TOKEN
		"  - name: domain-lookup-3\n"
		"    type: url\n"
		"    param: \"https://somehost/policy\"\n"
		"    method: POST\n" AGENT
		"    timeout: 2000ms\n    connect_timeout: 2000ms\n" TOKEN);
}

static void prints_odd_endpoints(void **state)
{
	(void)state;
	must(connector("{\"user-agent\": \"a\\\"b\", \"endpoints\": ["
		       "{\"name\": \"two words\\t\", \"mode\": \"tcp-lookup\","
		       " \"target\": \"http://h/{x}?own=${1}\", \"bind-address\": \"::1\","
		       " \"bind-port\": 1, \"request-timeout\": 99000, \"list-separator\": \"; \"},"
		       "{\"name\": \"two-words-\", \"mode\": \"policy\", \"target\": \"http://h\","
		       " \"bind-address\": \"[::1]\", \"bind-port\": 65535,"
		       " \"auth-token\": \"${x}\\\\\"},"
		       "{\"name\": \"\", \"mode\": \"policy\", \"target\": \"http://h\","
		       " \"bind-address\": \"localhost\", \"bind-port\": 2, \"request-timeout\": 1}"
		       "]}"));
	check_loads();
	check_holds("    address: \"[::1]:1\"\n    table: two-words-\n");
	check_holds("    address: \"[::1]:65535\"\n    table: two-words--2\n");
	check_holds("    address: \"localhost:2\"\n    table: endpoint\n");
	check_holds("    param: \"http://h/{{x}}?own=$${{1}}&key={}\"\n");
	check_holds("    list_separator: \"; \"\n    user_agent: \"a\\\"b\"\n"
		    "    timeout: 99000ms\n    connect_timeout: 99000ms\n  - name");
	check_holds("    auth_token: \"$${x}\\\\\"\n");
	check_holds("    timeout: 1ms\n");
}

#define GIVEN(members)                                                                             \
	"{\n\"endpoints\": [\n" ENDPOINT("policy", "\"bind-port\": 1") ",\n{" members "}]}"
#define ALMOST                                                                                     \
	"\"name\": \"n\",\n\"mode\": \"policy\",\n\"target\": \"http://h\",\n\"bind-address\": "   \
	"\"h\",\n"

static void refuses_connector(void **state)
{
	static const struct {
		const char *json, *error;
	} cases[] = {
		{"", "x.json:1: is not JSON"},
		{"{\n\n]", "x.json:3: is not JSON"},
		{"{} x", "x.json:1: is not JSON"},
		{"\n[]", "x.json:2: is no JSON object; allowed: one"},
		{"{\"user-agent\": \"x\",\n\"endpoint\": []}",
			"x.json:2: endpoint: unknown key; did you mean endpoints? allowed: "
			"user-agent, endpoints"},
		{"{\n\"user-agent\": 1}", "x.json:2: user-agent: must be a string"},
		{"\n{}", "x.json:2: endpoints: must be a list of at least one object"},
		{"{\n\"endpoints\": {}}",
			"x.json:2: endpoints: must be a list of at least one object"},
		{"{\n\"endpoints\": []}",
			"x.json:2: endpoints: must be a list of at least one object"},
		{"{\n\"endpoints\": [\n1]}", "x.json:3: endpoints[0]: must be an object"},
		{GIVEN(""), "x.json:4: endpoints[1].name: is missing; it must be given"},
		{GIVEN("\n\"name\": null"), "x.json:5: endpoints[1].name: must be a string"},
		{GIVEN("\"name\": \"n\""),
			"x.json:4: endpoints[1].mode: is missing; it must be given"},
		{GIVEN("\"name\": \"n\", \"mode\": \"m\""),
			"x.json:4: endpoints[1].target: is missing; it must be given"},
		{GIVEN("\"name\": \"n\", \"mode\": \"m\", \"target\": \"t\""),
			"x.json:4: endpoints[1].bind-address: is missing; it must be given"},
		{GIVEN(ALMOST "\"auth-token\": 7"),
			"x.json:8: endpoints[1].auth-token: must be a string"},
		{GIVEN(ALMOST "\"list-separator\": [\n]"),
			"x.json:8: endpoints[1].list-separator: must be a string"},
		{GIVEN(ALMOST "\"request-timeout\": 5"),
			"x.json:4: endpoints[1].bind-port: is missing; it must be given"},
		{GIVEN(ALMOST "\"bind-port\": 65536"),
			"x.json:8: endpoints[1].bind-port: allowed: whole numbers from 1 to 65535"},
		{GIVEN(ALMOST "\"bind-port\": 0"),
			"x.json:8: endpoints[1].bind-port: allowed: whole numbers from 1 to 65535"},
		{GIVEN(ALMOST "\"bind-port\": 1.5"),
			"x.json:8: endpoints[1].bind-port: allowed: whole numbers from 1 to 65535"},
		{GIVEN(ALMOST "\"bind-port\": \"9001\""),
			"x.json:8: endpoints[1].bind-port: allowed: whole numbers from 1 to 65535"},
		{GIVEN(ALMOST "\"bind-port\": 1, \"request-timeout\": 0"),
			"x.json:8: endpoints[1].request-timeout: allowed: whole numbers from 1 to "
			"99000"},
		{GIVEN(ALMOST "\"bind-port\": 1, \"request-timeout\": 100000"),
			"x.json:8: endpoints[1].request-timeout: allowed: whole numbers from 1 to "
			"99000"},
		{GIVEN("\"name\": \"n\", \"target\": \"t\", \"bind-address\": \"h\", "
		       "\"bind-port\": 1,\n\"mode\": \"milter\""),
			"x.json:5: endpoints[1].mode: \"milter\" is not known; allowed: "
			"tcp-lookup, socketmap-lookup, policy"},
		{GIVEN("\"bind\": 1"),
			"x.json:4: endpoints[1].bind: unknown key; allowed: name, mode, target, "
			"bind-address, bind-port, auth-token, request-timeout, list-separator"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		check_refused(connector(cases[i].json), cases[i].error);
}

static void refuses_files(void **state)
{
	static char large[(1 << 20) + 1];
	(void)state;
	check_refused(convert_connector("nowhere", stdout, &error),
		"cannot read nowhere: No such file or directory");
	memset(large, ' ', sizeof(large));
	write_file("x.json", large, sizeof(large));
	check_refused(convert_connector("x.json", stdout, &error),
		"cannot read x.json; allowed: JSON text of up to 1m");
	write_file("x.json", "{}\0{}", 5);
	check_refused(convert_connector("x.json", stdout, &error),
		"cannot read x.json; allowed: JSON text of up to 1m");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(prints_podop),
		cmocka_unit_test(refuses_podop),
		cmocka_unit_test_setup(prints_userli, clear_environment),
		cmocka_unit_test_setup(prints_all_of_userli, clear_environment),
		cmocka_unit_test_setup(prints_old_userli, clear_environment),
		cmocka_unit_test_setup(tells_the_release, clear_environment),
		cmocka_unit_test_setup(prints_log_levels, clear_environment),
		cmocka_unit_test_setup(refuses_userli, clear_environment),
		cmocka_unit_test(prints_connector),
		cmocka_unit_test(prints_odd_endpoints),
		cmocka_unit_test(refuses_connector),
		cmocka_unit_test(refuses_files),
	};
	return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
