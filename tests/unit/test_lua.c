/* Tests of the lua table: what scripts may do and what they may not, limits, and leaving at any time. */
#include "late.h"
#include "web.h"

#include <event2/event.h>
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <time.h>

#include "../../backends/list.h"
#include "config/config.h"
#include "engine/worker.h"
#include "model/timer.h"

struct fixture {
	struct stand stand;
	struct config config;
	struct worker *worker;
	struct web *web;
	int silent; /* a TCP and UDP port that says nothing */
	int silent_udp;
	unsigned silent_port;
	char script[64], url[64];
};

static void write_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static const char *answer(const char *request, unsigned nth)
{
	(void)nth;
	if (strstr(request, " /silent "))
		return NULL;
	if (strstr(request, " /hangup "))
		return "";
	if (strstr(request, " /404 "))
		return WEB_REPLY("404", "0", "");
	if (strstr(request, " /500 "))
		return WEB_REPLY("500", "0", "");
	if (strstr(request, " /large "))
		return WEB_REPLY("200", "1048577", "x");
	return WEB_REPLY("200", "7", "\"value\"");
}

/* Bound, perhaps listened on, and never answered. */
static void open_silent(struct fixture *f)
{
	struct sockaddr_in at = {.sin_family = AF_INET};
	socklen_t len = sizeof(at);
	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	f->silent = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(f->silent, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(f->silent, 64), 0);
	assert_int_equal(getsockname(f->silent, (struct sockaddr *)&at, &len), 0);
	f->silent_port = ntohs(at.sin_port);
	f->silent_udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(f->silent_udp, (struct sockaddr *)&at, sizeof(at)), 0);
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	assert_non_null(f);
	stand_init(&f->stand);
	snprintf(f->script, sizeof(f->script), "/tmp/test_lua.XXXXXX");
	close(mkstemp(f->script));
	f->web = web_new(answer);
	snprintf(f->url, sizeof(f->url), "http://127.0.0.1:%u", f->web->port);
	open_silent(f);
	assert_true(stand_add(&f->stand, "late", &backend_late, NULL));
	assert_true(stand_add(
		&f->stand, "data", &backend_static, "param", "k=v list=a,b empty= joe=j@x", NULL));
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	if (f->worker)
		worker_free(f->worker);
	f->stand.set = (struct table_set){0};
	stand_close(&f->stand);
	web_free(f->web);
	close(f->silent);
	close(f->silent_udp);
	unlink(f->script);
	free(f);
	return 0;
}

/* A table `t` with that script; the other tables are in its `uses`. */
static bool add_script(struct fixture *f, const char *text, const char *key, const char *value)
{
	char redis[64], servers[64];
	snprintf(redis, sizeof(redis), "redis://127.0.0.1:%u", f->silent_port);
	snprintf(servers, sizeof(servers), "127.0.0.1:%u", f->silent_port);
	write_file(f->script, text);
	return stand_add(&f->stand, "t", &backend_lua, "param", f->script, "uses", "late data",
		"redis", redis, "servers", servers, "config", f->url[0] ? "a=1" : "", "memory",
		"4m", "config.url", f->url, key, value, NULL);
}

static bool open_worker(struct fixture *f)
{
	f->config = (struct config){.tables = f->stand.confs, .ntables = f->stand.n};
	f->worker = worker_new(&f->config, &f->stand.error);
	if (f->worker)
		f->stand.set = *worker_tables(f->worker);
	return f->worker;
}

static void open_script_with(
	struct fixture *f, const char *text, const char *key, const char *value)
{
	if (!add_script(f, text, key, value) || !open_worker(f))
		fail_msg("%s", f->stand.error.text);
}

static void open_script(struct fixture *f, const char *text)
{
	open_script_with(f, text, NULL, NULL);
}

static void turn_loop(struct fixture *f)
{
	struct timeval most = {0, 20000};
	event_base_loopexit(worker_base(f->worker), &most);
	event_base_dispatch(worker_base(f->worker));
}

static struct asked *begin(struct fixture *f, struct question question)
{
	struct asked *asked = memory_new(sizeof(*asked));
	struct turn *turn = worker_turn(f->worker);
	asked->ask = question;
	asked->query.mem = &asked->mem;
	turn_enter(turn);
	asked->query.deadline = turn->now_ms + 10000;
	query_start(&asked->query, stand_table(&f->stand, "t"), &asked->ask, on_asked);
	assert_int_equal(asked->dones, 0);
	turn_leave(turn);
	return asked;
}

static void finish(struct fixture *f, struct asked *asked)
{
	time_t end = time(NULL) + 20;
	while (!asked->dones && time(NULL) < end)
		turn_loop(f);
	assert_int_equal(asked->dones, 1);
}

static struct asked *ask_lua(struct fixture *f, struct question question)
{
	struct asked *asked = begin(f, question);
	finish(f, asked);
	return asked;
}

/* In a turn, as a connection that has gone. */
static void leave(struct fixture *f, struct asked *asked)
{
	struct turn *turn = worker_turn(f->worker);
	turn_enter(turn);
	ask_free(asked);
	turn_leave(turn);
}

#define assert_result(f, question, expected)                                                       \
	check_result((f), (question), (expected), __FILE__, __LINE__)

/* "value", or "(status) reason"; "(status)" alone does not look at the reason. */
static void check_result(struct fixture *f, struct question question, const char *expected,
	const char *file, int line)
{
	struct asked *asked = ask_lua(f, question);
	const struct answer *answer = &asked->query.answer;
	struct str text = answer->nrows > 0 ? answer->rows[0].value : STR("");
	const char *close = strchr(expected, ')');
	bool bare = !close || strcmp(close, ")") == 0 || strcmp(close, ")?") == 0;
	if (answer->status != ST_OK)
		text = arena_printf(&asked->mem, "(%s)%s%.*s", status_name(answer->status),
			answer->uncertain ? "?" : "", bare ? 0 : (int)answer->why.len,
			answer->why.ptr);
	for (size_t i = 0;
		answer->status == ST_OK && question.op == OP_ITERATE && i < answer->nrows; i++) {
		const struct pair *row = &answer->rows[i];
		text = arena_printf(&asked->mem, "%.*s%s%.*s=%.*s", i ? (int)text.len : 0, text.ptr,
			i ? " " : "", (int)row->name.len, row->name.ptr, (int)row->value.len,
			row->value.len ? row->value.ptr : "");
	}
	assert_text(text, expected, file, line);
	ask_free(asked);
}

static struct question text_lookup(const char *key)
{
	return (struct question){.op = OP_LOOKUP, .form = FORM_TEXT, .key = str_of(key)};
}

static struct question json_lookup(const char *key)
{
	return (struct question){.op = OP_LOOKUP,
		.form = FORM_JSON,
		.scope = SCOPE_PRIV,
		.user = STR("joe"),
		.key = str_of(key)};
}

/* ---- values ---- */

/* The key is an expression. */
static const char evaluate[] = "function lookup(key, request) local f = assert(load('local request "
			       "= ... return ' .. key)) "
			       "return f(request) end";

static void values_in_both_forms(void **state)
{
	struct fixture *f = *state;
	static const struct {
		const char *expression, *text, *json;
	} cases[] = {
		{"'text'", "text", "text"},
		{"''", "(notfound)", ""},
		{"'\\0'", "", ""},
		{"17", "17", "17"},
		{"math.mininteger", "-9223372036854775808", "-9223372036854775808"},
		{"1.5", "1.5", "1.5"},
		{"2.0", "2", "2"},
		{"0.1", "0.1", "0.1"},
		{"0.1+0.2", "0.30000000000000004", "0.30000000000000004"},
		{"1e25", "1e+25", "1e+25"},
		{"1/0", "(temp)", "(temp)"},
		{"0/0", "(temp)", "(temp)"},
		{"true", "1", "true"},
		{"false", "(notfound)", "false"},
		{"nil", "(notfound)", "(notfound)"},
		{"mapmux.null", "(notfound)", "(notfound)"},
		{"{}", "(notfound)", "[]"},
		{"mapmux.json.object()", "(temp)", "{}"},
		{"{'a', 'b', 3}", "a,b,3", "[\"a\",\"b\",3]"},
		{"{'a', mapmux.null, 'b'}", "a,b", "[\"a\",null,\"b\"]"},
		{"{b = 1, a = {true, {}}}", "(temp)", "{\"a\":[true,[]],\"b\":1}"},
		{"{1, a = 2}", "(temp)", "(temp)"},
		{"{1, nil, 3}", "(temp)", "(temp)"},
		{"{[2] = 1}", "(temp)", "(temp)"},
		{"print", "(temp)", "(temp)"},
		{"{print}", "(temp)", "(temp)"},
		{"{'\\xff'}", "(temp)", "(temp)"},
		{"(function() local t = {} t.t = t return t end)()", "(temp)", "(temp)"},
		{"mapmux.temp('later')", "(temp)later", "(temp)later"},
		{"mapmux.perm('a\\nb')", "(perm)a b", "(perm)a b"},
		{"mapmux.temp()", "(temp)the script gives no reason", "(temp)"},
		{"error(mapmux.perm('never'))", "(perm)never", "(perm)never"},
	};
	open_script(f, evaluate);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		if (strcmp(cases[i].expression, "'\\0'") == 0)
			continue;
		print_message("%s\n", cases[i].expression);
		assert_result(f, text_lookup(cases[i].expression), cases[i].text);
		assert_result(f, json_lookup(cases[i].expression), cases[i].json);
	}
}

static void the_pointer_is_for_tables(void **state)
{
	struct fixture *f = *state;
	open_script_with(f, evaluate, "value", "/a/1");
	assert_result(f, text_lookup("{a = {1, 2}}"), "2");
	assert_result(f, text_lookup("{a = {1}}"), "(notfound)");
	assert_result(f, text_lookup("'plain'"), "plain");
	assert_result(f, text_lookup("1.5"), "1.5");
}

static void texts_of_scripts(void **state)
{
	struct fixture *f = *state;
	static const char *const cases[][2] = {
		{"mapmux.json.encode({a={1,2.5,'x\"y'},b=mapmux.null,c=false})",
			"{\"a\":[1,2.5,\"x\\\"y\"],\"b\":null,\"c\":false}"},
		{"mapmux.json.decode('{\"a\":[1,2.50,-0.5e1],\"b\":null}').a[1]", "1"},
		{"math.type(mapmux.json.decode('[12345678901]')[1])", "integer"},
		{"math.type(mapmux.json.decode('[1.0]')[1])", "float"},
		{"math.type(mapmux.json.decode('123456789012345678901'))", "float"},
		{"tostring(mapmux.json.decode('[null]')[1] == mapmux.null)", "true"},
		{"mapmux.json.decode('\"\\\\u00fc\\\\n\"')", "\xc3\xbc\n"},
		{"mapmux.json.encode(mapmux.json.decode(' { \"x\" : [ ] , \"y\" : { } } '))",
			"{\"x\":[],\"y\":{}}"},
		{"mapmux.json.encode(mapmux.json.object {[1] = 'a'})", "{\"1\":\"a\"}"},
		{"mapmux.json.decode('[1')", "(temp)"},
		{"mapmux.json.decode('\"\\\\u0000\"')", "(temp)"},
		{"mapmux.json.encode(print)", "(temp)"},
		{"mapmux.base64.encode('')", "(notfound)"},
		{"mapmux.base64.encode('a') .. mapmux.base64.encode('ab') .. "
		 "mapmux.base64.encode('abc\\0')",
			"YQ==YWI=YWJjAA=="},
		{"mapmux.base64.decode('YQ==') .. mapmux.base64.decode('YWI') .. "
		 "mapmux.base64.decode('YWJj')",
			"aababc"},
		{"mapmux.base64.decode('-_-_') == mapmux.base64.decode('+/+/')", "1"},
		{"mapmux.base64.decode('Y')", "(temp)"},
		{"mapmux.base64.decode('Y=Q=')", "(temp)"},
		{"mapmux.base64.decode('YQ= ')", "(temp)"},
		{"mapmux.urlencode('a b/\\xc3\\xbc-._~')", "a%20b%2F%C3%BC-._~"},
		{"mapmux.urlencode('')", "(notfound)"},
		{"mapmux.table .. mapmux.config.a", "t1"},
		{"mapmux.log('to the log')", "(notfound)"},
		{"mapmux.log('warn', {})", "(notfound)"},
		{"mapmux.log('loud', 'x')", "(temp)"},
		{"print('a', 1, nil)", "(notfound)"},
		{"math.type(mapmux.time()) .. tostring(mapmux.time() > 1e9)", "floattrue"},
		{"table.concat({mapmux.address.split('a@b@c')}, '|')", "a@b|c"},
		{"table.concat({mapmux.address.split('ab')}, '|')", "ab"},
		{"table.concat({mapmux.address.strip('a+b-c@d', '-+')}, '|')", "a@d|b-c"},
		{"table.concat({mapmux.address.strip('+b@d')}, '|')", "+b@d"},
		{"mapmux.dns.reverse('192.0.2.1')", "1.2.0.192.in-addr.arpa"},
		{"mapmux.dns.reverse('x')", "(notfound)"},
		{"tostring(mapmux.temp('x')) .. tostring(mapmux.perm())",
			"temp: xperm: no reason given"},
		{"request.table .. request.form .. tostring(request.user)", "ttextnil"},
		{"tostring(request.deadline_ms > 5000)", "true"},
	};
	open_script(f, evaluate);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		print_message("%s\n", cases[i][0]);
		assert_result(f, text_lookup(cases[i][0]), cases[i][1]);
	}
	assert_result(
		f, json_lookup("request.scope .. request.user .. request.form"), "privjoejson");
}

/* ---- the sandbox ---- */

static void what_scripts_may_not(void **state)
{
	struct fixture *f = *state;
	static const char *const cases[][2] = {
		{"tostring(os) .. tostring(io) .. tostring(debug) .. tostring(dofile)",
			"nilnilnilnil"},
		{"tostring(loadfile) .. tostring(string.dump) .. tostring(package.cpath)",
			"nilnilnil"},
		{"tostring(package.loadlib) .. tostring(package.searchers)", "nilnil"},
		{"select(2, load('\\27Lua', 'x', 'b'))",
			"attempt to load a binary chunk (mode is 't')"},
		{"load('return x', 'x', 'bt', {x = 5})()", "5"},
		{"load(function() return nil end) ~= nil", "1"},
		{"setmetatable({}, {__gc = function() while true do end end})", "(temp)"},
		{"#setmetatable({}, {__len = function() return 7 end})", "7"},
		{"collectgarbage('stop')", "0"},
		{"collectgarbage('count') > 1", "1"},
		{"table.move({1, 2, 3}, 2, 3, 1)[1]", "2"},
		{"#table.move({1, 2}, 1, 2, 1, {})", "2"},
		{"table.move({}, 1, 1 << 40, 2)", "(temp)"},
		{"table.insert(setmetatable({}, {__len = function() return 1 << 60 end}), 1, 'x')",
			"(temp)"},
		{"table.remove(setmetatable({}, {__len = function() return 1 << 60 end}), 1)",
			"(temp)"},
		{"table.sort(setmetatable({}, {__len = function() return (1 << 31) - 2 end,"
		 " __index = rawlen, __newindex = rawequal}))",
			"(temp)"},
		{"(function() local s = '{1, 2, 3, 4, [5] = 0'"
		 " for i = 3, 61 do s = s .. ',[' .. (1 << i) .. ']=0' end"
		 " table.insert(load('return ' .. s .. '}')(), 1, 'x') end)()",
			"(temp)"},
		{"(function() local t = {1, 2} table.insert(t, 3) table.insert(t, 1, 0)"
		 " table.remove(t, 2) table.remove(t) table.sort(t, function(a, b) return a > b "
		 "end)"
		 " return table.concat(t, ' ') end)()",
			"2 0"},
		{"table.remove({1, 2, 3}, nil)", "3"},
		{"(function() local t = {} for i = 1, 90 do t = {t, t} end return t end)()",
			"(temp)the JSON text is too long"},
		{"('ab'):rep(3, '-')", "ab-ab-ab"},
		{"('').rep('', 1 << 60)", "(notfound)"},
		{"('x'):rep(1 << 60)", "(temp)"},
		{"coroutine.wrap(function() mapmux.sleep(0) end)()", "(temp)"},
		{"table.sort({1, 2}, function() mapmux.sleep(0) end)", "(temp)"},
		{"coroutine.yield(1)", "(temp)the script yields"},
		{"select(2, pcall(require, 'none')):match('^[^\\n]+')", "module 'none' not found:"},
	};
	open_script(f, evaluate);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		print_message("%s\n", cases[i][0]);
		assert_result(f, text_lookup(cases[i][0]), cases[i][1]);
	}
}

static void unsafe_opens_all(void **state)
{
	struct fixture *f = *state;
	open_script_with(f, evaluate, "unsafe", "yes");
	assert_result(f, text_lookup("type(os.time) .. type(io.open) .. type(debug.traceback)"),
		"functionfunctionfunction");
	assert_result(f, text_lookup("load(string.dump(function() return 3 end))()"), "3");
	assert_result(f, text_lookup("type(package.cpath)"), "string");
	assert_result(f, text_lookup("(function() while true do end end)()"), "(temp)");
}

/* Ours and Lua's own say the same. */
static void patterns_are_those_of_lua(void **state)
{
	struct fixture *f = *state;
	static const char *const cases[] = {
		"('hello world'):find('o w')",
		"('hello'):find('l', 4)",
		"('hello'):find('l', -2)",
		"('hello'):find('', 10)",
		"('hello'):find('', 6)",
		"('a.b'):find('.', 1, true)",
		"('a+b'):find('+', 1, true)",
		"('key = value'):match('^(%w+)%s*=%s*(%w+)$')",
		"('  trim  '):match('^%s*(.-)%s*$')",
		"('f(a(b)c)d'):match('%b()')",
		"('THE (quick) fox'):find('%((%a+)%)')",
		"('hello'):match('()ll()')",
		"('abcabc'):match('(abc)%1')",
		"('x'):match('y')",
		"('[]]'):match('[]]+')",
		"('a-z'):match('[a%-z]+')",
		"('a-z]'):match('[%a-]+')",
		"('^x'):match('[%^x]+')",
		"('abc'):match('[^b]+')",
		"#('\\0a\\0'):match('%z*a%z')",
		"('THE END'):gsub('%f[%a]%a', '<%0>')",
		"('abc'):gsub('', '-')",
		"('abc'):gsub('b*', 'x')",
		"('hello world'):gsub('o', '0', 1)",
		"('hello'):gsub('l', {l = 'L'})",
		"('hello'):gsub('l', function(c) return nil end)",
		"('hello'):gsub('(h)(e)', '%2%1%%')",
		"('abc'):gsub('%w', '%0%0')",
		"('abc'):gsub('^a', 'x')",
		"('aaa'):gsub('^a', 'x')",
		"('x'):gsub('.', '%2')",
		"('x'):gsub('.', '%')",
		"('x'):gsub('.', true)",
		"('x'):gsub('.', {x = true})",
		"('x'):match('[a')",
		"('x'):match('%')",
		"('x'):match('(')",
		"('x'):match(')')",
		"('x'):match('%1')",
		"('x'):match('%f')",
		"('x'):match('%b')",
		"('x'):match('[%')",
		"('x'):match('[^')",
		"('a b c'):gsub(' ', '')",
		"('a1b22'):gsub('%d+', function(d) return d * 2 end)",
		"('aXb'):find('%u')",
		"('a$'):match('a$$')",
		"('a$b'):match('a$b')",
		"('ab'):match('a?b?c?')",
		"('aaab'):match('a-b')",
		"('aaab'):match('^a-$')",
		"('x'):rep(300):match(('x?'):rep(300))",
		"(function() local t = {} for k, v in ('a=1, b=2'):gmatch('(%w+)=(%w+)') do t[#t + "
		"1] = k .. v end return table.concat(t, ';') end)()",
		"(function() local t = {} for w in ('one two'):gmatch('%a*') do t[#t + 1] = '<' .. "
		"w .. '>' end return table.concat(t) end)()",
		"(function() local t = {} for w in ('abc'):gmatch('', 2) do t[#t + 1] = 'x' end "
		"return table.concat(t) end)()",
		"(function() local t = {} for p in ('abcd'):gmatch('()', -2) do t[#t + 1] = p end "
		"return table.concat(t, ',') end)()",
		"('abc'):gmatch('b', 9)()",
		"('%d'):gsub('%%d', '%%s')",
		"('x'):gsub('x', '%1')",
		"('äö'):match('[\\xc3]')",
	};
	lua_State *L = luaL_newstate();
	luaL_openlibs(L);
	open_script(f,
		"function lookup(key) local t = table.pack(pcall(load('return ' .. key, '=x'))) "
		"for i = 1, t.n do t[i] = tostring(t[i]) end return table.concat(t, ' ') end");
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct str code = arena_printf(&f->stand.mem,
			"local t = table.pack(pcall(load([==[return %s]==], '=x'))) "
			"for i = 1, t.n do t[i] = tostring(t[i]) end return table.concat(t, ' ')",
			cases[i]);
		assert_int_equal(luaL_dostring(L, code.ptr), LUA_OK);
		print_message("%s: %s\n", cases[i], lua_tostring(L, -1));
		assert_result(f, text_lookup(cases[i]), lua_tostring(L, -1));
		lua_pop(L, 1);
	}
	lua_close(L);
}

/* ---- other operations ---- */

static void policy_and_authentication(void **state)
{
	struct fixture *f = *state;
	const struct pair attrs[] = {
		{STR("password"), STR("secret")}, {STR("client_address"), STR("::1")}};
	struct question policy = {.op = OP_POLICY, .nattrs = 2, .attrs = attrs};
	struct question auth = {
		.op = OP_AUTH, .form = FORM_JSON, .key = STR("joe"), .nattrs = 2, .attrs = attrs};
	open_script(f,
		"function policy(a, request) return 'PREPEND X: ' .. a.client_address .. "
		"request.table end "
		"function authenticate(user, password, request) "
		"if user == 'joe' then return password == 'secret' and not request.password and "
		"request.client_address == '::1' end "
		"if user == 'gone' then return end return {home = '/' .. user} end");
	assert_result(f, policy, "PREPEND X: ::1t");
	assert_result(f, auth, "true");
	auth.nattrs = 0;
	assert_result(f, auth, "(notfound)");
	auth.key = STR("ann");
	assert_result(f, auth, "{\"home\":\"/ann\"}");
	auth.key = STR("gone");
	assert_result(f, auth, "(notfound)");
	assert_result(f, text_lookup("x"), "(perm)the script defines no lookup()");
}

static struct question iterate_of(const char *prefix, unsigned flags)
{
	return (struct question){.op = OP_ITERATE,
		.form = FORM_JSON,
		.scope = SCOPE_SHARED,
		.key = str_of(prefix),
		.flags = flags};
}

static void iterations(void **state)
{
	struct fixture *f = *state;
	open_script(f, "function lookup(key) if key:find('bad') then return mapmux.temp('bad') end "
		       "return key ~= 'list/none' and 'V' .. key or nil end "
		       "function iterate(prefix, request) "
		       "if prefix == 'list/' then return {'b', 'a', 'none', 'sub/x'} end "
		       "if prefix == 'pairs/' then return {z = 1, y = {2}, no = mapmux.null, "
		       "['s/t'] = 'u'} end "
		       "if prefix == 'fail/' then return {'ok', 'bad'} end "
		       "if prefix == 'text/' then return 'x' end "
		       "if prefix == 'number/' then return {1, 2} end "
		       "if prefix == 'empty/' then return {} end "
		       "if prefix == 'temp/' then return mapmux.temp('later') end end");
	assert_result(f, iterate_of("list/", 0), "list/a=Vlist/a list/b=Vlist/b");
	assert_result(f, iterate_of("list/", ITER_RECURSE),
		"list/a=Vlist/a list/b=Vlist/b list/sub/x=Vlist/sub/x");
	assert_result(f, iterate_of("list/", ITER_NO_VALUE), "list/a= list/b= list/none=");
	assert_result(f, iterate_of("list/", ITER_EXACT_KEY), "list/=Vlist/");
	assert_result(f, iterate_of("list/none", ITER_EXACT_KEY), "(notfound)");
	assert_result(f, iterate_of("pairs/", 0), "pairs/y=[2] pairs/z=1");
	assert_result(f, iterate_of("pairs/", ITER_RECURSE | ITER_SORT_VALUE),
		"pairs/z=1 pairs/y=[2] pairs/s/t=u");
	assert_result(f, iterate_of("fail/", 0), "(temp)bad");
	assert_result(f, iterate_of("text/", 0), "(temp)");
	assert_result(f, iterate_of("number/", 0), "(temp)");
	assert_result(f, iterate_of("empty/", 0), "(notfound)");
	assert_result(f, iterate_of("nil/", 0), "(notfound)");
	assert_result(f, iterate_of("temp/", 0), "(temp)later");
	struct question few = iterate_of("list/", 0);
	few.max_rows = 1;
	assert_result(f, few, "list/a=Vlist/a");
}

/* SET k v, UNSET k, ADD k n; the keys say what the functions do. */
static struct question change_of(struct arena *mem, const char *words)
{
	struct question ask = {.op = OP_CHANGE, .form = FORM_JSON};
	struct change *changes = arena_alloc(mem, 8 * sizeof(*changes));
	struct str rest = str_of(words), key;
	ask.changes = changes;
	while (str_word(&rest, &key)) {
		struct change *change = &changes[ask.nchanges++];
		change->kind = key.ptr[0] == '+' ? CH_ADD : key.ptr[0] == '-' ? CH_UNSET : CH_SET;
		change->key = key;
		change->scope = SCOPE_SHARED;
		change->value = STR("v");
		change->diff = -7;
	}
	return ask;
}

static void changes_one_by_one(void **state)
{
	struct fixture *f = *state;
	struct arena *mem = &f->stand.mem;
	open_script(f,
		"local log = {} "
		"local function act(key) if key:find('nil') then return nil end "
		"if key:find('false') then return false end "
		"if key:find('temp') then return mapmux.temp('later') end "
		"if key:find('perm') then return mapmux.perm('never') end "
		"if key:find('raise') then error(mapmux.perm('raised')) end "
		"if key:find('error') then error('oops') end end "
		"function set(key, value, request) log[#log + 1] = key .. value .. request.scope "
		"return act(key) end "
		"function increment(key, diff) log[#log + 1] = key .. diff if key:find('nil') then "
		"return nil end "
		"end "
		"function lookup() local all = table.concat(log, ' ') log = {} return all end");
	static const char *const cases[][2] = {
		{"a b +c", ""},
		{"a nil", "(temp)?"},
		{"nil a", "(perm)set() says that there is no such key"},
		{"nil +a", "(perm)set() says that there is no such key"},
		{"false", "(temp)the script says that it failed"},
		{"temp", "(temp)later"},
		{"perm", "(perm)never"},
		{"a perm", "(temp)?never"},
		{"raise", "(perm)raised"},
		{"a raise", "(temp)?raised"},
		{"error", "(temp)"},
		{"a error", "(temp)?"},
		{"+nil", "(notfound)"},
		{"a -b", "(perm)the script defines no unset()"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		print_message("%s\n", cases[i][0]);
		assert_result(f, change_of(mem, cases[i][0]), cases[i][1]);
	}
	assert_result(f, text_lookup("log"),
		"avshared bvshared +c-7 avshared nilvshared nilvshared nilvshared falsevshared "
		"tempvshared "
		"permvshared avshared permvshared raisevshared avshared raisevshared errorvshared "
		"avshared errorvshared +nil-7");
	struct question expiring = change_of(mem, "a");
	expiring.expire_secs = 5;
	assert_result(f, expiring, "(perm)the script does not set expires = true");
}

/* An increment alone misses a key that is not there. */
static void nil_of_a_change(void **state)
{
	struct fixture *f = *state;
	struct arena *mem = &f->stand.mem;
	static const char *const cases[][2] = {
		{"+a", "(notfound)"},
		{"-a", ""},
		{"-a -b", ""},
		{"-a +b", "(temp)?a later change was refused"},
		{"a", "(perm)set() says that there is no such key"},
	};
	open_script(f, "function set() return nil end function unset() return nil end "
		       "function increment() return nil end");
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		assert_result(f, change_of(mem, cases[i][0]), cases[i][1]);
}

static void changes_as_a_whole(void **state)
{
	struct fixture *f = *state;
	open_script(f,
		"expires = true local seen "
		"function commit(operations, request) seen = mapmux.json.encode(operations) .. "
		"tostring(request.expire) "
		"if #operations == 1 then return mapmux.uncertain('who knows') end return true end "
		"function lookup() return seen end");
	struct question ask = change_of(&f->stand.mem, "a -b +c");
	ask.expire_secs = 9;
	assert_result(f, ask, "");
	assert_result(f, text_lookup("x"),
		"[{\"key\":\"a\",\"op\":\"set\",\"scope\":\"shared\",\"value\":\"v\"},"
		"{\"key\":\"-b\",\"op\":\"unset\",\"scope\":\"shared\"},"
		"{\"diff\":-7,\"key\":\"+c\",\"op\":\"increment\",\"scope\":\"shared\"}]9");
	assert_result(f, change_of(&f->stand.mem, "a"), "(temp)?who knows");
}

/* ---- waiting ---- */

static const char waiting[] =
	"function lookup(key, request) "
	"if key == 'sleep' then mapmux.sleep(0.05) return 'slept' "
	"elseif key == 'long' then mapmux.sleep(100) "
	"elseif key == 'late' then return mapmux.lookup('late', 'asked') "
	"elseif key == 'json' then return mapmux.lookup('late', 'asked', {form = 'json', user = "
	"'ann', "
	"scope = 'priv'}) "
	"elseif key == 'data' then return mapmux.lookup('data', 'k') .. "
	"tostring(mapmux.lookup('data', 'no')) "
	"elseif key == 'list' then return mapmux.lookup('data', 'list') "
	"elseif key == 'unknown' then return mapmux.lookup('t', 'k') "
	"elseif key == 'nul' then return mapmux.lookup('data', 'a\\0b') "
	"elseif key == 'pcall' then local ok, why = pcall(mapmux.lookup, 'late', 'x') "
	"return tostring(ok) .. ' ' .. why.status .. ' ' .. why.reason "
	"elseif key == 'closing' then local x <close> = setmetatable({}, {__close = function() "
	"closed = (closed or 0) + 1 while key do end end}) mapmux.sleep(100) "
	"elseif key == 'closed' then return closed "
	"elseif key == 'dns' then return mapmux.dns.a('example.org') "
	"elseif key == 'redis' then return mapmux.redis('GET', 'k') "
	"elseif key == 'multi' then return mapmux.redis {{'SET', 'a', 1}, {'GET', 2.5}} "
	"elseif key:find('^redis ') then return mapmux.redis(key:sub(7)) "
	"elseif key == 'post' then return mapmux.http.post(mapmux.config.url .. '/hangup', "
	"'x').body "
	"elseif key == 'timeout' then return mapmux.http.get(mapmux.config.url .. '/silent', "
	"{timeout = "
	"0.05}).body "
	"elseif key == 'dead' then return mapmux.http.get('http://127.0.0.1:1/').body "
	"elseif key == 'status' then return mapmux.http.get(mapmux.config.url .. '/500').status "
	"elseif key == 'reply' then return mapmux.http.get(mapmux.config.url .. "
	"'/').headers['content-type'] "
	"end return mapmux.http.json(mapmux.config.url .. '/' .. key) end "
	"function set(key) lookup(key) end ";

static void sleep_and_http(void **state)
{
	struct fixture *f = *state;
	open_script(f, waiting);
	assert_result(f, text_lookup("sleep"), "slept");
	assert_result(f, text_lookup("anything"), "value");
	assert_result(f, text_lookup("404"), "(notfound)");
	assert_result(f, text_lookup("500"), "(temp)HTTP status 500");
	assert_result(f, text_lookup("hangup"), "(temp)");
	assert_result(f, text_lookup("large"), "(temp)HTTP: the reply is over 1048576 bytes");
	assert_result(
		f, text_lookup("timeout"), "(temp)no HTTP reply within the request's timeout");
	assert_result(f, text_lookup("dead"), "(temp)");
	assert_result(f, text_lookup("status"), "500");
	assert_result(f, text_lookup("reply"), "application/json");
	assert_result(f, change_of(&f->stand.mem, "post"), "(temp)?");
	assert_result(f, change_of(&f->stand.mem, "hangup"), "(temp)");
	assert_result(f, change_of(&f->stand.mem, "dead"), "(temp)");
}

static void other_tables(void **state)
{
	struct fixture *f = *state;
	open_script(f, waiting);
	assert_result(f, text_lookup("data"), "vnil");
	assert_result(f, text_lookup("list"), "a,b");
	assert_result(f, text_lookup("unknown"), "(temp)");
	assert_result(f, text_lookup("nul"), "(temp)");
	for (int status = ST_OK; status <= ST_PERM; status++) {
		static const char *const results[] = {"late value", "(notfound)",
			"(temp)table late: reason", "(perm)table late: reason"};
		struct asked *asked = begin(f, json_lookup("late"));
		struct query *child = late_take(&f->stand, "late");
		assert_str(child->ask->key, "asked");
		assert_str(child->ask->user, "joe");
		assert_int_equal(child->ask->scope, SCOPE_PRIV);
		assert_int_equal(child->ask->form, FORM_JSON);
		assert_int_equal(child->deadline, asked->query.deadline);
		struct pair row = {.value = STR("late value")};
		query_finish(child, &(struct answer){.status = (enum status)status,
					    .nrows = 1,
					    .rows = &row,
					    .why = STR("reason")});
		finish(f, asked);
		assert_int_equal(asked->query.answer.status, status);
		if (status == ST_OK)
			assert_str(asked->query.answer.rows[0].value, results[status]);
		else if (status != ST_NOTFOUND)
			assert_non_null(strstr(results[status], asked->query.answer.why.ptr));
		ask_free(asked);
	}
	struct asked *asked = begin(f, text_lookup("json"));
	struct query *child = late_take(&f->stand, "late");
	assert_str(child->ask->user, "ann");
	assert_int_equal(child->ask->scope, SCOPE_PRIV);
	assert_int_equal(child->ask->form, FORM_JSON);
	query_notfound(child);
	finish(f, asked);
	ask_free(asked);
	asked = begin(f, text_lookup("pcall"));
	query_temp(late_take(&f->stand, "late"), "down");
	finish(f, asked);
	assert_str(asked->query.answer.rows[0].value, "false temp table late: down");
	ask_free(asked);
}

/* From each state: not begun to wait, waiting for each kind of thing, finished. */
static void leaving_at_any_time(void **state)
{
	struct fixture *f = *state;
	static const char *const keys[] = {"sleep", "long", "late", "silent", "timeout", "dns",
		"redis", "multi", "closing", "data", "anything", "unknown"};
	open_script(f, waiting);
	for (int after = 0; after < 3; after++) {
		for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
			struct asked *asked = begin(f, text_lookup(keys[i]));
			for (int turns = 0; turns < after; turns++)
				turn_loop(f);
			leave(f, asked);
		}
	}
	assert_int_equal(late_of(&f->stand, "late")->cancelled, 3);
	assert_result(f, text_lookup("closed"), "3");
	assert_result(f, text_lookup("anything"), "value");
}

static void what_redis_may_not_be_asked(void **state)
{
	struct fixture *f = *state;
	open_script(f, waiting);
	for (const char *const *word = (const char *const[]){"redis subscribe", "redis MULTI",
		     "redis Select", NULL};
		*word; word++)
		assert_result(f, text_lookup(*word), "(temp)");
}

static void many_at_once(void **state)
{
	enum { N = 1000 };
	struct fixture *f = *state;
	struct asked *asked[N];
	open_script_with(f, waiting, "memory", "32m");
	for (int i = 0; i < N; i++)
		asked[i] = begin(f, text_lookup(i % 3 ? "sleep" : "long"));
	for (int i = 0; i < N; i++) {
		if (i % 3 == 0) {
			leave(f, asked[i]);
			continue;
		}
		finish(f, asked[i]);
		assert_str(asked[i]->query.answer.rows[0].value, "slept");
		ask_free(asked[i]);
	}
}

/* ---- limits ---- */

static const char limits[] =
	"local kept = {} "
	"function lookup(key) "
	"if key == 'loop' then while true do end "
	"elseif key == 'caught' then while true do pcall(function() while true do end end) end "
	"elseif key == 'closing' then local x <close> = setmetatable({}, {__close = function() "
	"while true do "
	"end end}) error('x') "
	"elseif key == 'load' then while true do load(function() while true do end end) end "
	"elseif key == 'nested' then local function f(n) while true do "
	"pcall(coroutine.wrap(function() if n > 0 then f(n - 1) end while true do end end)) end "
	"end f(3) "
	"elseif key == 'pattern' then return ('a'):rep(5000):find(('a-'):rep(9) .. 'b') "
	"elseif key == 'bomb' then local t = {} while true do t[#t + 1] = ('x'):rep(50000) .. #t "
	"end "
	"elseif key == 'leak' then while true do kept[#kept + 1] = ('x'):rep(50000) .. #kept end "
	"elseif key == 'sleep' then mapmux.sleep(0.1) return 'slept' .. #('x'):rep(1000) "
	"elseif key == 'error' then error('boom', 0) elseif key == 'table' then error({}) "
	"elseif key == 'place' then error('secret') end return #kept end";

static void endless_loops_end(void **state)
{
	struct fixture *f = *state;
	open_script(f, limits);
	for (int round = 0; round < 3; round++) {
		for (const char *const *key = (const char *const[]){"loop", "caught", "load",
			     "nested", "pattern", NULL};
			*key; key++) {
			print_message("%s\n", *key);
			assert_result(f, text_lookup(*key),
				"(temp)the script was stopped: it takes too long");
		}
		assert_result(f, text_lookup("closing"), "(temp)");
		assert_result(f, text_lookup("k"), "0");
	}
}

static void memory_is_limited(void **state)
{
	struct fixture *f = *state;
	open_script(f, limits);
	for (int round = 0; round < 3; round++) {
		struct asked *slow = begin(f, text_lookup("sleep"));
		assert_result(f, text_lookup(round ? "leak" : "bomb"),
			"(temp)the script needs more memory than 4194304 bytes");
		assert_result(f, text_lookup("k"), "0");
		struct asked *left = begin(f, text_lookup("sleep"));
		assert_result(f, text_lookup("leak"), "(temp)");
		finish(f, slow);
		assert_str(slow->query.answer.rows[0].value, "slept1000");
		ask_free(slow);
		leave(f, left);
	}
	assert_result(f, text_lookup("k"), "0");
}

/* The script on the disk was spoilt meanwhile: it is tried again. */
static void renewal_may_fail(void **state)
{
	struct fixture *f = *state;
	open_script(f, limits);
	write_file(f->script, "function lookup() return 'new' end error('not yet')");
	assert_result(f, text_lookup("bomb"), "(temp)");
	assert_result(f, text_lookup("k"), "(temp)the script cannot be loaded");
	write_file(f->script, "function lookup() return 'new' end");
	assert_result(f, text_lookup("k"), "(temp)the script cannot be loaded");
	for (int i = 0; i < 60; i++)
		turn_loop(f);
	assert_result(f, text_lookup("k"), "new");
}

static void reasons_say_where_and_no_more(void **state)
{
	struct fixture *f = *state;
	open_script(f, limits);
	struct str place =
		arena_printf(&f->stand.mem, "(temp)error in the script at %s:1", f->script);
	assert_result(f, text_lookup("place"), place.ptr);
	assert_result(f, text_lookup("error"), "(temp)error in the script");
	assert_result(f, text_lookup("table"), "(temp)error in the script");
}

/* ---- loading ---- */

static void scripts_that_do_not_load(void **state)
{
	struct fixture *f = *state;
	assert_false(add_script(f, "function lookup(", NULL, NULL));
	assert_non_null(strstr(f->stand.error.text, ":1:"));
	assert_false(add_script(f, "\x1bLua", NULL, NULL));
	assert_false(add_script(f, "x = 1", "functions", "lookup nosuch"));
	assert_non_null(strstr(f->stand.error.text, "functions: there is no \"nosuch\""));
	unlink(f->script);
	assert_false(stand_add(&f->stand, "t", &backend_lua, "param", "/nonexistent.lua", NULL));
	assert_non_null(strstr(f->stand.error.text, "param: cannot open /nonexistent.lua"));
	static const char *const cases[][2] = {
		{"x = 1", "defines none of"},
		{"error('at start')", "at start"},
		{"error(mapmux.temp('at start'))", "at start"},
		{"error({})", "no text"},
		{"while true do end", "stopped after"},
		{"local t = {} while true do t[#t+1] = ('x'):rep(99999) .. #t end", "memory"},
		{"mapmux.http.get('http://x/')", "only while a question"},
		{"require('no.such')", "not found"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		assert_true(add_script(f, cases[i][0], NULL, NULL));
		assert_false(open_worker(f));
		print_message("%s\n", f->stand.error.text);
		assert_non_null(strstr(f->stand.error.text, cases[i][1]));
		f->stand.n--;
		f->stand.confs[f->stand.n].backend->drop(&f->stand.confs[f->stand.n]);
	}
}

static void operations_by_functions(void **state)
{
	struct fixture *f = *state;
	assert_true(add_script(f, "function lookup() end", "functions", "lookup commit policy"));
	assert_int_equal(stand_conf(&f->stand, STR("t"))->ops,
		CAN(OP_LOOKUP) | CAN(OP_CHANGE) | CAN(OP_POLICY));
	assert_false(open_worker(f));
	assert_non_null(strstr(f->stand.error.text, "defines no function commit"));
}

static void how_long_an_answer_lives(void **state)
{
	struct fixture *f = *state;
	open_script(f, "function lookup(key) return key, {ttl = tonumber(key)} end");
	static const struct {
		const char *key;
		unsigned ttl;
	} cases[] = {{"60", 60}, {"-1", 0}, {"x", 0}, {"99999999999", INT32_MAX}};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct asked *asked = ask_lua(f, text_lookup(cases[i].key));
		assert_int_equal(asked->query.answer.ttl, cases[i].ttl);
		ask_free(asked);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(values_in_both_forms),
		TEST(the_pointer_is_for_tables),
		TEST(texts_of_scripts),
		TEST(what_scripts_may_not),
		TEST(unsafe_opens_all),
		TEST(patterns_are_those_of_lua),
		TEST(policy_and_authentication),
		TEST(iterations),
		TEST(changes_one_by_one),
		TEST(nil_of_a_change),
		TEST(changes_as_a_whole),
		TEST(sleep_and_http),
		TEST(other_tables),
		TEST(leaving_at_any_time),
		TEST(what_redis_may_not_be_asked),
		TEST(many_at_once),
		TEST(endless_loops_end),
		TEST(memory_is_limited),
		TEST(renewal_may_fail),
		TEST(reasons_say_where_and_no_more),
		TEST(scripts_that_do_not_load),
		TEST(operations_by_functions),
		TEST(how_long_an_answer_lives),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
