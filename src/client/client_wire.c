/* The client side of socketmap, tcp_table and Dovecot's dict: one blocking connection, one question at a
 * time. Prints nothing. */
#include "client/client_wire.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* Far above what any client of ours would take. */
enum { REPLY_MAX = 64 << 20, REQUEST_MAX = 64 << 20, READ_SIZE = 65536 };

/* Endpoints. */

static bool parse_place(
	struct str place, struct arena *mem, struct address *address, struct error *error)
{
	struct str inet = STR("inet:");
	if (!str_starts(place, inet) && !str_starts(place, STR("unix:")))
		return error_set(error, "is not known");
	if (str_starts(place, inet))
		place = str_skip(place, inet.len);
	return address_parse(arena_str(mem, place).ptr, mem, address, error) &&
	       (address->kind != ADDRESS_SYSTEMD || error_set(error, "is not known"));
}

static bool parse_tcp(
	struct str place, struct arena *mem, struct address *address, struct error *error)
{
	return address_parse(arena_str(mem, place).ptr, mem, address, error) &&
	       (address->kind == ADDRESS_INET || error_set(error, "is not known"));
}

/* As in Postfix what follows the last colon is the table. */
static bool parse_map(
	struct str rest, struct arena *mem, struct endpoint *endpoint, struct error *error)
{
	size_t n = rest.len;
	while (n > 0 && rest.ptr[n - 1] != ':')
		n--;
	endpoint->table = str_skip(rest, n);
	if (n == 0)
		return error_set(error, "is not known");
	return parse_place((struct str){rest.ptr, n - 1}, mem, &endpoint->address, error);
}

bool endpoint_parse(
	const char *text, struct arena *mem, struct endpoint *endpoint, struct error *error)
{
	static const char *const names[] = {"socketmap", "dict", "http", "tcp"};
	struct str rest = str_of(text), protocol;
	struct error why = {"is not known"};
	size_t n = 0;
	str_cut(&rest, ':', &protocol);
	while (n <= ASK_TCP && !str_eq(protocol, str_of(names[n])))
		n++;
	*endpoint = (struct endpoint){.protocol = n, .table = STR("")};
	if (n == ASK_TCP && parse_tcp(rest, mem, &endpoint->address, &why))
		return true;
	if (n < ASK_TCP && parse_map(rest, mem, endpoint, &why))
		return true;
	/* What it says to be allowed is so of an address, and would mislead here. */
	struct str words = str_of(why.text), problem;
	str_cut(&words, ';', &problem);
	return error_set(error,
		"endpoint '%s': %.*s; allowed: socketmap:unix:PATH:TABLE, "
		"socketmap:inet:HOST:PORT:TABLE, the same with dict or http, tcp:HOST:PORT",
		text, (int)problem.len, problem.ptr);
}

/* The connection. */

static int64_t clock_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* The system's word for what has failed. */
static bool failed(struct peer *peer, const char *doing)
{
	return error_set(&peer->error, "%s: %s", doing, strerror(errno));
}

static bool wait_for(struct peer *peer, int fd, short what)
{
	for (;;) {
		int64_t left = peer->deadline - clock_ms();
		if (left <= 0)
			return error_set(&peer->error, "no answer within %lld ms",
				(long long)peer->timeout_ms);
		struct pollfd ready = {.fd = fd, .events = what};
		int n = poll(&ready, 1, left < 60000 ? (int)left : 60000);
		if (n > 0)
			return true;
		if (n < 0 && errno != EINTR)
			return failed(peer, "poll");
	}
}

/* A unix socket whose backlog is full says EAGAIN: it is asked again until the time is over. */
static bool try_connect(struct peer *peer, int fd, const struct sockaddr *address, socklen_t len)
{
	int code = 0;
	socklen_t size = sizeof(code);
	while (connect(fd, address, len) != 0) {
		if (errno == EAGAIN && clock_ms() < peer->deadline) {
			poll(NULL, 0, 10);
			continue;
		}
		if (errno != EINPROGRESS)
			return failed(peer, "connect");
		if (!wait_for(peer, fd, POLLOUT))
			return false;
		getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &size);
		errno = code;
		return code == 0 || failed(peer, "connect");
	}
	return true;
}

/* Takes the socket. */
static bool connect_socket(struct peer *peer, int fd, const struct sockaddr *address, socklen_t len)
{
	if (fd < 0)
		return failed(peer, "socket");
	peer->fd = fd;
	if (try_connect(peer, fd, address, len))
		return true;
	close(fd);
	return false;
}

static bool connect_unix(struct peer *peer, const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	size_t len = strlen(path);
	if (len >= sizeof(address.sun_path))
		return error_set(&peer->error, "the socket's path is too long");
	memcpy(address.sun_path, path, len + 1);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return connect_socket(peer, fd, (struct sockaddr *)&address, sizeof(address));
}

static bool connect_inet(struct peer *peer, const struct address *address)
{
	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
	struct addrinfo *found;
	const char *host = address->host[0] ? address->host : "localhost";
	int code = getaddrinfo(host, address->port, &hints, &found);
	if (code != 0)
		return error_set(&peer->error, "%s: %s", host, gai_strerror(code));
	bool ok = false;
	for (struct addrinfo *at = found; at && !ok; at = at->ai_next) {
		int fd = socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
			at->ai_protocol);
		ok = connect_socket(peer, fd, at->ai_addr, at->ai_addrlen);
	}
	freeaddrinfo(found);
	return ok;
}

/* What stands for a byte behind \1; 0: it stands for itself. */
static char escape_of(char c)
{
	switch (c) {
	case '\0':
		return '0';
	case '\1':
		return '1';
	case '\t':
		return 't';
	case '\r':
		return 'r';
	case '\n':
		return 'n';
	default:
		return '\0';
	}
}

static void add_field(struct buf *out, struct str field)
{
	for (size_t i = 0; i < field.len; i++) {
		char code = escape_of(field.ptr[i]);
		if (code == '\0') {
			buf_add_char(out, field.ptr[i]);
		} else {
			buf_add_char(out, '\1');
			buf_add_char(out, code);
		}
	}
}

/* Versions 2 name the user and the dict as they are. */
static void add_hello(struct peer *peer)
{
	struct buf *out = &peer->out;
	if (peer->version == 2) {
		buf_add(out, STR("H2\t2\t0\t"));
		buf_add(out, peer->user);
		buf_add_char(out, '\t');
		buf_add(out, peer->endpoint->table);
	} else {
		buf_add(out, peer->version == 3 ? STR("H3\t2\t0\t\t") : STR("H4\t0\t0\t\t"));
		add_field(out, peer->endpoint->table);
	}
	buf_add_char(out, '\n');
}

/* Connects if need be, and begins a request in `out`. */
static bool begin(struct peer *peer)
{
	const struct address *address = &peer->endpoint->address;
	peer->deadline = clock_ms() + peer->timeout_ms;
	peer->in.max = REPLY_MAX;
	peer->out.max = REQUEST_MAX;
	peer->lost = false;
	peer->reply_id = 0;
	buf_reset(&peer->out);
	if (peer->connected)
		return peer->at == peer->in.len ||
		       error_set(&peer->error, "bad reply: more than was asked for");
	buf_reset(&peer->in);
	peer->at = 0;
	peer->asked = 0;
	peer->connected = address->kind == ADDRESS_UNIX ? connect_unix(peer, address->path)
							: connect_inet(peer, address);
	if (peer->connected && peer->endpoint->protocol == ASK_DICT)
		add_hello(peer);
	return peer->connected;
}

static bool is_gone(int code)
{
	return code == EPIPE || code == ECONNRESET;
}

static bool send_request(struct peer *peer)
{
	struct str rest = buf_str(&peer->out);
	if (peer->out.overflow)
		return error_set(&peer->error, "the request is too long");
	peer->asked++;
	while (rest.len > 0) {
		ssize_t n = send(peer->fd, rest.ptr, rest.len, MSG_NOSIGNAL);
		if (n >= 0) {
			rest = str_skip(rest, (size_t)n);
		} else if (errno == EAGAIN) {
			if (!wait_for(peer, peer->fd, POLLOUT))
				return false;
		} else if (errno != EINTR) {
			peer->lost = is_gone(errno);
			return failed(peer, "write");
		}
	}
	return true;
}

/* More bytes of the reply. */
static bool read_more(struct peer *peer)
{
	buf_consume(&peer->in, peer->at);
	peer->at = 0;
	char *to = buf_reserve(&peer->in, READ_SIZE);
	if (!to)
		return error_set(&peer->error, "bad reply: longer than %d MiB", REPLY_MAX >> 20);
	for (;;) {
		ssize_t n = read(peer->fd, to, READ_SIZE);
		if (n > 0) {
			peer->in.len += (size_t)n;
			return true;
		}
		if (n == 0 || is_gone(errno)) {
			peer->lost = peer->in.len == 0 && peer->reply_id == 0;
			return error_set(&peer->error, "the server has closed the connection");
		}
		if (errno == EAGAIN) {
			if (!wait_for(peer, peer->fd, POLLIN))
				return false;
		} else if (errno != EINTR) {
			return failed(peer, "read");
		}
	}
}

void peer_close(struct peer *peer)
{
	if (peer->connected)
		close(peer->fd);
	peer->connected = false;
	client_http_close(peer);
	buf_free(&peer->in);
	buf_free(&peer->out);
}

/* The conversation has failed. */
static void break_off(struct peer *peer, struct arena *mem, struct reply *reply)
{
	*reply = (struct reply){.outcome = GOT_TEMP, .broken = true};
	reply->why = arena_str(mem, str_of(peer->error.text));
	peer_close(peer);
}

static bool bad_reply(struct peer *peer)
{
	return error_set(&peer->error, "bad reply");
}

static void put_value(struct reply *reply, struct arena *mem, struct str value)
{
	struct str *values = arena_alloc(mem, sizeof(*values));
	*values = arena_str(mem, value);
	reply->values = values;
	reply->nvalues = 1;
}

/* socketmap. */

bool socketmap_reply(struct str payload, struct arena *mem, struct reply *reply)
{
	static const struct {
		const char *word;
		enum outcome outcome;
	} words[] = {{"OK", GOT_OK}, {"NOTFOUND", GOT_NOTFOUND}, {"TEMP", GOT_TEMP},
		{"TIMEOUT", GOT_TEMP}, {"PERM", GOT_PERM}};
	struct str word;
	str_cut(&payload, ' ', &word);
	*reply = (struct reply){0};
	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
		if (!str_eq(word, str_of(words[i].word)))
			continue;
		reply->outcome = words[i].outcome;
		if (reply->outcome == GOT_OK)
			put_value(reply, mem, payload);
		else if (reply->outcome != GOT_NOTFOUND)
			reply->why = arena_str(mem, payload);
		return true;
	}
	return false;
}

/* Reads LENGTH:PAYLOAD, ; the payload stays in `in` until the next reading. */
static bool read_netstring(struct peer *peer, struct str *payload)
{
	for (;;) {
		struct str rest = str_skip(buf_str(&peer->in), peer->at), digits;
		uint64_t len = 0;
		bool colon = str_cut(&rest, ':', &digits);
		if (digits.len > 0 && (!str_u64(digits, &len) || len > REPLY_MAX))
			return bad_reply(peer);
		if (colon && digits.len == 0)
			return bad_reply(peer);
		if (colon && rest.len > len) {
			peer->at = peer->in.len - rest.len + (size_t)len + 1;
			*payload = (struct str){rest.ptr, (size_t)len};
			return rest.ptr[len] == ',' || bad_reply(peer);
		}
		if (!read_more(peer))
			return false;
	}
}

static bool ask_socketmap(struct peer *peer, struct str key, struct arena *mem, struct reply *reply)
{
	struct str table = peer->endpoint->table, payload;
	if (!begin(peer))
		return false;
	buf_add_u64(&peer->out, table.len + 1 + key.len);
	buf_add_char(&peer->out, ':');
	buf_add(&peer->out, table);
	buf_add_char(&peer->out, ' ');
	buf_add(&peer->out, key);
	buf_add_char(&peer->out, ',');
	return send_request(peer) && read_netstring(peer, &payload) &&
	       (socketmap_reply(payload, mem, reply) || bad_reply(peer));
}

/* Lines. */

/* A line without its end; it stays in `in` until the next reading. */
static bool read_line(struct peer *peer, struct str *line)
{
	size_t seen = 0;
	for (;;) {
		struct str rest = str_skip(buf_str(&peer->in), peer->at),
			   unseen = str_skip(rest, seen);
		struct str more = unseen;
		if (str_cut(&more, '\n', line)) {
			*line = (struct str){rest.ptr, seen + line->len};
			peer->at += line->len + 1;
			if (line->len > 0 && line->ptr[line->len - 1] == '\r')
				line->len--;
			return true;
		}
		seen = rest.len;
		if (!read_more(peer))
			return false;
	}
}

/* tcp_table. */

/* %XX both ways; what cannot stand in a line, and '%', are coded. */
static void add_coded(struct buf *out, struct str text)
{
	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.ptr[i];
		if (c <= ' ' || c == '%' || c >= 0x7f)
			buf_printf(out, "%%%02X", c);
		else
			buf_add_char(out, (char)c);
	}
}

/* As Postfix: three digits of which the first one counts, a blank, a text. */
bool tcp_reply(struct str line, struct arena *mem, struct reply *reply)
{
	struct str rest = line, code, text;
	*reply = (struct reply){0};
	if (!str_cut(&rest, ' ', &code) || code.len != 3 ||
		!str_percent_decode(rest, arena_alloc(mem, rest.len + 1), &text))
		return false;
	for (size_t i = 0; i < code.len; i++)
		if (code.ptr[i] < '0' || code.ptr[i] > '9')
			return false;
	switch (code.ptr[0]) {
	case '2':
		put_value(reply, mem, text);
		return true;
	case '4':
		reply->outcome = GOT_TEMP;
		reply->why = text;
		return true;
	case '5':
		reply->outcome = GOT_NOTFOUND;
		return true;
	default:
		return false;
	}
}

static bool ask_tcp(struct peer *peer, struct str key, struct arena *mem, struct reply *reply)
{
	struct str line;
	if (!begin(peer))
		return false;
	buf_add(&peer->out, STR("get "));
	add_coded(&peer->out, key);
	buf_add_char(&peer->out, '\n');
	return send_request(peer) && read_line(peer, &line) &&
	       (tcp_reply(line, mem, reply) || bad_reply(peer));
}

/* dict. */

/* The body of the next reply line: servers may number their replies (*ID, then +ID TAB body). */
static bool read_reply(struct peer *peer, struct str *body)
{
	struct str id;
	uint64_t n;
	for (;;) {
		if (!read_line(peer, body))
			return false;
		if (!str_starts(*body, STR("*")))
			break;
		if (peer->reply_id != 0 || !str_u64(str_skip(*body, 1), &peer->reply_id) ||
			peer->reply_id == 0)
			return bad_reply(peer);
	}
	if (!str_starts(*body, STR("+")))
		return true;
	*body = str_skip(*body, 1);
	str_cut(body, '\t', &id);
	return (peer->reply_id != 0 && str_u64(id, &n) && n == peer->reply_id) || bad_reply(peer);
}

static struct str unescape(struct str field, struct arena *mem)
{
	static const char plain[256] = {['1'] = '\1', ['t'] = '\t', ['r'] = '\r', ['n'] = '\n'};
	char *to = arena_alloc(mem, field.len + 1);
	size_t n = 0;
	for (size_t i = 0; i < field.len; i++) {
		unsigned char c = (unsigned char)field.ptr[i];
		if (c == '\1') {
			if (++i == field.len)
				break;
			c = (unsigned char)field.ptr[i];
			if (c == '0')
				c = '\0';
			else if (plain[c])
				c = (unsigned char)plain[c];
		}
		to[n++] = (char)c;
	}
	return (struct str){to, n};
}

/* The values of M: escaped, joined by TAB, escaped again. */
static void put_values(struct reply *reply, struct arena *mem, struct str joined)
{
	size_t n = 1;
	for (size_t i = 0; i < joined.len; i++)
		n += joined.ptr[i] == '\t';
	struct str *values = arena_alloc(mem, n * sizeof(*values)), value;
	for (size_t i = 0; i < n; i++) {
		str_cut(&joined, '\t', &value);
		values[i] = unescape(value, mem);
	}
	reply->values = values;
	reply->nvalues = n;
}

bool dict_lookup_reply(struct str line, struct arena *mem, struct reply *reply)
{
	struct str field;
	*reply = (struct reply){0};
	if (line.len == 0)
		return false;
	struct str rest = str_skip(line, 1);
	str_cut(&rest, '\t', &field); /* what follows are times */
	field = unescape(field, mem);
	switch (line.ptr[0]) {
	case 'O':
		put_value(reply, mem, field);
		return true;
	case 'M':
		put_values(reply, mem, field);
		return field.len > 0; /* no value at all crashes Dovecot */
	case 'N':
		reply->outcome = GOT_NOTFOUND;
		return true;
	case 'F':
		reply->outcome = GOT_TEMP;
		reply->why = field;
		return true;
	default:
		return false;
	}
}

/* A transaction's reason is the second field; four times may follow, with or without one. */
static struct str commit_reason(struct str line, struct arena *mem)
{
	struct str fields[6] = {0};
	size_t n = 0;
	while (n < 6 && str_cut(&line, '\t', &fields[n]))
		n++;
	n++;
	return n >= 2 && n != 5 ? unescape(fields[1], mem) : (struct str){"", 0};
}

bool dict_commit_reply(struct str line, struct arena *mem, struct reply *reply)
{
	*reply = (struct reply){0};
	switch (line.len > 0 ? line.ptr[0] : '\0') {
	case 'O':
		return true;
	case 'N':
		reply->outcome = GOT_NOTFOUND;
		return true;
	case 'F':
	case 'W':
		reply->outcome = line.ptr[0] == 'F' ? GOT_TEMP : GOT_UNCERTAIN;
		reply->why = commit_reason(line, mem);
		return true;
	default:
		return false;
	}
}

static void add_user(struct peer *peer)
{
	if (peer->version == 2)
		return; /* it stands in the first line */
	buf_add_char(&peer->out, '\t');
	add_field(&peer->out, peer->user);
}

static bool ask_dict(struct peer *peer, struct str key, struct arena *mem, struct reply *reply)
{
	struct str line;
	if (!begin(peer))
		return false;
	buf_add_char(&peer->out, 'L');
	add_field(&peer->out, key);
	add_user(peer);
	buf_add_char(&peer->out, '\n');
	return send_request(peer) && read_reply(peer, &line) &&
	       (dict_lookup_reply(line, mem, reply) || bad_reply(peer));
}

void peer_lookup(struct peer *peer, struct str key, struct arena *mem, struct reply *reply)
{
	static bool (*const asks[])(struct peer *, struct str, struct arena *, struct reply *) = {
		[ASK_SOCKETMAP] = ask_socketmap,
		[ASK_DICT] = ask_dict,
		[ASK_HTTP] = client_http_ask,
		[ASK_TCP] = ask_tcp};
	bool ok;
	do {
		ok = asks[peer->endpoint->protocol](peer, key, mem, reply);
		if (!ok)
			break_off(peer, mem, reply);
		/* As Postfix does: an idle connection may have been closed meanwhile. */
	} while (!ok && peer->lost && peer->asked > 1);
}

/* A row, or the end: empty, or an F. */
static bool read_rows(struct peer *peer, void (*row)(void *arg, struct str name, struct str value),
	void *arg, struct arena *mem, struct reply *reply)
{
	struct str line, name, value;
	*reply = (struct reply){.outcome = GOT_NOTFOUND};
	for (;;) {
		struct arena row_mem = {0};
		if (!read_reply(peer, &line))
			return false;
		if (line.len == 0 || line.ptr[0] == '\t')
			return true;
		if (line.ptr[0] == 'F')
			return dict_lookup_reply(line, mem, reply);
		struct str rest = str_skip(line, 1);
		if (line.ptr[0] != 'O' || !str_cut(&rest, '\t', &name))
			return bad_reply(peer);
		str_cut(&rest, '\t', &value);
		row(arg, unescape(name, &row_mem), unescape(value, &row_mem));
		arena_clear(&row_mem);
		reply->outcome = GOT_OK;
	}
}

void peer_iterate(struct peer *peer, struct str prefix, unsigned flags, uint64_t max_rows,
	void (*row)(void *arg, struct str name, struct str value), void *arg, struct arena *mem,
	struct reply *reply)
{
	bool ok = begin(peer);
	if (ok) {
		buf_printf(&peer->out, "I%u\t%llu\t", flags, (unsigned long long)max_rows);
		add_field(&peer->out, prefix);
		add_user(peer);
		buf_add_char(&peer->out, '\n');
		ok = send_request(peer) && read_rows(peer, row, arg, mem, reply);
	}
	if (!ok)
		break_off(peer, mem, reply);
}

static void add_change(struct buf *out, const struct change *change)
{
	static const char letters[] = {[CH_SET] = 'S', [CH_UNSET] = 'U', [CH_ADD] = 'A'};
	buf_add_char(out, letters[change->kind]);
	buf_add(out, STR("1\t"));
	add_field(out, change->key);
	if (change->kind == CH_ADD)
		buf_printf(out, "\t%lld", (long long)change->diff);
	if (change->kind == CH_SET) {
		buf_add_char(out, '\t');
		add_field(out, change->value);
	}
	buf_add_char(out, '\n');
}

void peer_commit(struct peer *peer, const struct change *changes, size_t n, struct arena *mem,
	struct reply *reply)
{
	struct str line;
	bool sent = false;
	bool ok = begin(peer);
	if (ok) {
		buf_add(&peer->out, STR("B1"));
		add_user(peer);
		buf_add(&peer->out, peer->version == 4 ? STR("\t0\n") : STR("\n"));
		for (size_t i = 0; i < n; i++)
			add_change(&peer->out, &changes[i]);
		buf_add(&peer->out, STR("C1\n"));
		sent = !peer->out.overflow;
		ok = send_request(peer) && read_reply(peer, &line) &&
		     (dict_commit_reply(line, mem, reply) || bad_reply(peer));
	}
	if (ok)
		return;
	break_off(peer, mem, reply);
	if (sent)
		reply->outcome = GOT_UNCERTAIN;
}
