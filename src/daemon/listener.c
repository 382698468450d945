/* Listening sockets: unix, TCP and inherited; accept, and hand over to the least loaded worker. */
#include "daemon/listener.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pwd.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "conn/conn.h"
#include "web/web.h"

enum {
	BACKLOG = 1024,   /* Dovecot opens a connection for each operation, in bursts */
	MAX_SOCKETS = 8,  /* addresses of one name */
	ACCEPTS = 64,     /* at a time, before others get their turn */
	MAX_CROWDED = 64, /* clients too many that wait to be told so */
	PAUSE_MS = 100,   /* when the process has no descriptor left */
	COMPLAINT_MS = 1000,
	FIRST_INHERITED = 3, /* sd_listen_fds(3) */
};

/* One listening descriptor and its event on the home worker. */
struct door {
	struct listener *listener;
	int fd;
	struct event *event, *resume;
};

struct listener {
	const struct listen_conf
		*conf;     /* the home worker writes it, while the control thread waits */
	struct crew *crew; /* NULL: not started */
	struct arena mem;
	const char *name; /* protocol and address, for the log */
	const char *path; /* of a unix socket */
	size_t ndoors, ngroups, home;
	struct door doors[MAX_SOCKETS];
	struct conn_group *groups; /* one for each worker; none: */
	struct web *web;           /* it is the home worker's, who accepts by evhttp; or NULL */
	bool owns_file;
	int pin; /* keeps the file's inode number from being given to a successor's file; or -1 */
	struct stat born;         /* the file, as bind() made it */
	struct windows *failures; /* of authentications; NULL: its protocol has none */
	struct log_limit complaints;
};

/* ---- opening ---- */

static bool add_door(struct listener *listener, int fd)
{
	if (listener->ndoors == MAX_SOCKETS) {
		close(fd);
		return false;
	}
	listener->doors[listener->ndoors++] = (struct door){.listener = listener, .fd = fd};
	return true;
}

static int new_socket(int family)
{
	return socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

/* A file without a listener behind it is left over from a process that died. */
static bool remove_stale(const struct sockaddr_un *address, struct error *error)
{
	struct stat st;
	if (lstat(address->sun_path, &st) != 0)
		return true;
	if (!S_ISSOCK(st.st_mode))
		return error_set(error, "the file exists and is no socket");
	int fd = new_socket(AF_UNIX);
	int failed = connect(fd, (const struct sockaddr *)address, sizeof(*address)) ? errno : 0;
	close(fd);
	if (failed != ECONNREFUSED)
		return error_set(error,
			failed && failed != EAGAIN ? "cannot ask whether it is in use: %s"
						   : "in use by another process",
			strerror(failed));
	if (unlink(address->sun_path) != 0)
		return error_set(error, "cannot remove the stale socket: %s", strerror(errno));
	return true;
}

/* Who shall have the file. user and group were found to exist when the configuration was loaded. */
static void owner_of(
	const struct listener *listener, const struct listen_conf *conf, uid_t *uid, gid_t *gid)
{
	struct passwd *user = *conf->options.user ? getpwnam(conf->options.user) : NULL;
	struct group *group = *conf->options.group ? getgrnam(conf->options.group) : NULL;
	*uid = user ? user->pw_uid : listener->born.st_uid;
	*gid = group ? group->gr_gid : listener->born.st_gid;
}

/* Takes and gives in such an order that the file is never open to more users than before and after. */
static bool change_file(const struct listener *listener, const struct stat *from,
	const struct listen_conf *to, struct error *error)
{
	uid_t uid;
	gid_t gid;
	owner_of(listener, to, &uid, &gid);
	if (chmod(listener->path, from->st_mode & to->mode) != 0)
		return error_set(error, "cannot set its mode: %s", strerror(errno));
	if ((uid != from->st_uid || gid != from->st_gid) && chown(listener->path, uid, gid) != 0)
		return error_set(error, "cannot give it to %s:%s: %s", to->options.user,
			to->options.group, strerror(errno));
	if (chmod(listener->path, to->mode) != 0)
		return error_set(error, "cannot set its mode: %s", strerror(errno));
	return true;
}

/* The name may belong to a successor by now. */
static bool is_own_file(const struct listener *listener, struct stat *st)
{
	return lstat(listener->path, st) == 0 && st->st_dev == listener->born.st_dev &&
	       st->st_ino == listener->born.st_ino;
}

/* At no moment is the file open to more users than it shall be: it is born closed (on Linux with the
 * socket's own mode; umask(2) would be that of all threads), gets its owner, then its mode. */
static bool bind_unix(struct listener *listener, struct error *error)
{
	const struct listen_conf *conf = listener->conf;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	memcpy(address.sun_path, conf->address.path,
		strlen(conf->address.path)); /* length was checked */
	if (!remove_stale(&address, error))
		return false;
	int fd = new_socket(AF_UNIX);
	add_door(listener, fd);
	if (fchmod(fd, 0) != 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
		return error_set(error, "cannot bind: %s",
			errno == ENOENT ? "there is no such directory; make it first"
					: strerror(errno));
	listener->path = arena_str(&listener->mem, str_of(conf->address.path)).ptr;
	if (lstat(listener->path, &listener->born) != 0)
		return error_set(error, "cannot look at the new socket: %s", strerror(errno));
	listener->owns_file = true;
	listener->pin = open(listener->path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	return change_file(listener, &listener->born, conf, error);
}

/* 0, or errno. */
static int bind_one(struct listener *listener, const struct addrinfo *info, bool any)
{
	int on = 1, off = 0, fd = new_socket(info->ai_family);
	if (fd < 0)
		return errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (info->ai_family ==
		AF_INET6) /* ":PORT" is both; an address written out is itself alone */
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, any ? &off : &on, sizeof(on));
	if (bind(fd, info->ai_addr, info->ai_addrlen) != 0) {
		int why = errno;
		close(fd);
		return why;
	}
	add_door(listener, fd);
	return 0;
}

/* This machine has no such address, or no IPv6 at all. */
static bool is_absent(int why)
{
	return why == EADDRNOTAVAIL || why == EAFNOSUPPORT;
}

static bool is_repeated(const struct addrinfo *first, const struct addrinfo *info)
{
	for (; first != info; first = first->ai_next)
		if (first->ai_addrlen == info->ai_addrlen &&
			memcmp(first->ai_addr, info->ai_addr, info->ai_addrlen) == 0)
			return true;
	return false;
}

/* Of a name's addresses those that are here; but where one of them is taken, some clients would reach somebody
 * else. 0, or errno. */
static int bind_all(struct listener *listener, const struct addrinfo *found, bool any)
{
	int failed = 0;
	for (const struct addrinfo *info = found; info; info = info->ai_next) {
		int why = is_repeated(found, info) ? 0 : bind_one(listener, info, any);
		if (why != 0 && !is_absent(why))
			return why;
		failed = why != 0 ? why : failed;
	}
	return listener->ndoors > 0 ? 0 : failed;
}

static bool bind_inet(struct listener *listener, struct error *error)
{
	const struct address *address = &listener->conf->address;
	bool any = !*address->host;
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
				.ai_family = any ? AF_INET6 : AF_UNSPEC,
				.ai_flags = AI_PASSIVE | AI_NUMERICSERV},
			*found;
	int code = getaddrinfo(any ? "::" : address->host, address->port, &hints, &found);
	if (code != 0)
		return error_set(error, "cannot find %s: %s", address->host, gai_strerror(code));
	int why = bind_all(listener, found, any);
	freeaddrinfo(found);
	if (any && is_absent(why)) {
		struct sockaddr_in v4 = {
			.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(address->port))};
		struct addrinfo info = {.ai_family = AF_INET,
			.ai_addr = (struct sockaddr *)&v4,
			.ai_addrlen = sizeof(v4)};
		why = bind_one(listener, &info, any);
	}
	return why == 0 || error_set(error, "cannot bind: %s", strerror(why));
}

/* Sockets that systemd passed, by name: sd_listen_fds_with_names(3). We listen on copies: a name that
 * a reload takes away may come back with the next. */
static bool inherit(struct listener *listener, struct error *error)
{
	const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
	uint64_t owner = 0, n = 0;
	if (!str_u64(str_of(pid), &owner) || owner != (uint64_t)getpid() ||
		!str_u64(str_of(count), &n))
		return error_set(error, "systemd passed no sockets");
	struct str names = str_of(getenv("LISTEN_FDNAMES")), name;
	for (int fd = FIRST_INHERITED; fd < FIRST_INHERITED + (int)n; fd++) {
		str_cut(&names, ':', &name);
		if (!str_eq(name, str_of(listener->conf->address.path)))
			continue;
		fcntl(fd, F_SETFD, FD_CLOEXEC);
		fcntl(fd, F_SETFL, O_NONBLOCK);
		add_door(listener, fcntl(fd, F_DUPFD_CLOEXEC, FIRST_INHERITED));
	}
	return listener->ndoors > 0 ||
	       error_set(error, "systemd passed no socket named %s", listener->conf->address.path);
}

static bool open_doors(struct listener *listener, struct error *error)
{
	bool bound = listener->conf->address.kind == ADDRESS_UNIX   ? bind_unix(listener, error)
		     : listener->conf->address.kind == ADDRESS_INET ? bind_inet(listener, error)
								    : inherit(listener, error);
	for (size_t i = 0; bound && i < listener->ndoors; i++)
		if (listen(listener->doors[i].fd, BACKLOG) != 0)
			bound = error_set(error, "cannot listen: %s", strerror(errno));
	return bound;
}

static struct listener *listener_new(const struct listen_conf *conf)
{
	struct listener *listener = memory_new(sizeof(*listener));
	listener->conf = conf;
	listener->pin = -1;
	listener->name =
		arena_printf(&listener->mem, "%s:%s", conf->codec->name, conf->address_text).ptr;
	if (conf->codec->attempts)
		listener->failures = windows_new(ATTEMPT_NAMES);
	return listener;
}

struct listener *listener_open(const struct listen_conf *conf, struct error *error)
{
	struct listener *listener = listener_new(conf);
	if (open_doors(listener, error))
		return listener;
	error_prefix(error, "%s: %s", conf->where, listener->name);
	listener_close(listener);
	return NULL;
}

/* ---- reloading ---- */

static int copy_of(int fd)
{
	return fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, FIRST_INHERITED);
}

struct listener *listener_succeed(const struct listener *old, const struct listen_conf *conf)
{
	struct listener *listener = listener_new(conf);
	for (size_t i = 0; i < old->ndoors; i++)
		add_door(listener, copy_of(old->doors[i].fd));
	if (old->path)
		listener->path = arena_str(&listener->mem, str_of(old->path)).ptr;
	listener->pin = copy_of(old->pin);
	listener->born = old->born;
	return listener;
}

void listener_take_file(struct listener *listener, struct listener *old)
{
	listener->owns_file = old->owns_file;
	old->owns_file = false;
}

const struct listen_conf *listener_conf(const struct listener *listener)
{
	return listener->conf;
}

/* What cannot be looked at is not lost: after `user:` its directory may be closed to us. */
bool listener_is_lost(const struct listener *listener)
{
	struct stat st;
	errno = 0;
	return listener->path && !is_own_file(listener, &st) && (errno == 0 || errno == ENOENT);
}

bool listener_change_file(const struct listener *listener, const struct listen_conf *from,
	const struct listen_conf *to, struct error *error)
{
	struct stat st;
	struct error ignored;
	if (!listener->path ||
		(from->mode == to->mode && strcmp(from->options.user, to->options.user) == 0 &&
			strcmp(from->options.group, to->options.group) == 0))
		return true;
	if (!is_own_file(listener, &st))
		error_set(error, "its file is gone, or another's");
	else if (change_file(listener, &st, to, error))
		return true;
	else if (lstat(listener->path, &st) == 0)
		change_file(listener, &st, from, &ignored);
	return error_prefix(error, "%s: %s", to->where, listener->name);
}

void listener_reload(struct listener *listener, size_t index, const struct listen_conf *conf)
{
	if (index < listener->ngroups)
		conn_group_reload(&listener->groups[index], conf);
	if (index != listener->home)
		return;
	if (listener->web)
		web_reload(listener->web, conf);
	listener->conf = conf;
}

/* ---- accepting ---- */

struct handover {
	struct letter letter;
	struct conn_group *group;
	int fd;
	bool crowded;
};

static void open_handover(struct worker *worker, struct letter *letter)
{
	struct handover *handover = (struct handover *)(void *)letter;
	(void)worker;
	conn_new(handover->group, handover->fd, handover->crowded);
	free(handover);
}

/* The home worker keeps the connection unless another has fewer. */
static void give_away(struct listener *listener, int fd, bool crowded)
{
	size_t least = listener->home;
	for (size_t i = 0; i < listener->ngroups; i++)
		if (worker_load(listener->groups[i].worker) <
			worker_load(listener->groups[least].worker))
			least = i;
	struct conn_group *group = &listener->groups[least];
	worker_count(group->worker, 1);
	if (least == listener->home) {
		conn_new(group, fd, crowded);
		return;
	}
	struct handover *handover = memory_new(sizeof(*handover));
	*handover = (struct handover){
		.letter.open = open_handover, .group = group, .fd = fd, .crowded = crowded};
	worker_post(group->worker, &handover->letter);
}

/* Out of descriptors: the connection stays in the backlog, and we do not spin on it. */
static void pause_door(struct door *door, int why)
{
	struct timeval in = {0, PAUSE_MS * 1000L};
	unsigned held;
	event_del(door->event);
	event_add(door->resume, &in);
	if (log_allowed(&door->listener->complaints, COMPLAINT_MS, &held))
		log_error("%s: cannot accept: %s", door->listener->name, strerror(why));
}

static void on_resume(evutil_socket_t fd, short what, void *arg)
{
	struct door *door = arg;
	(void)fd;
	(void)what;
	event_add(door->event, NULL);
}

/* Clients too many are still admitted, some of them, to be told so when they ask. */
enum admission { ADMIT, ADMIT_CROWDED, REFUSE };

static enum admission judge(const struct listener *listener)
{
	uint64_t max = (uint64_t)listener->conf->options.max_connections, open = 0, too_many = 0;
	if (max == 0)
		return ADMIT;
	for (size_t i = 0; i < listener->ngroups; i++) {
		const struct conn_group *group = &listener->groups[i];
		open += atomic_load_explicit(&group->open, memory_order_relaxed);
		too_many += atomic_load_explicit(&group->too_many, memory_order_relaxed);
	}
	/* Who leaves may be counted in one of them alone for an instant. */
	if (open < max + too_many)
		return ADMIT;
	return too_many < MAX_CROWDED ? ADMIT_CROWDED : REFUSE;
}

static void admit(struct listener *listener, int fd, bool inet)
{
	enum admission admission = judge(listener);
	int on = 1;
	unsigned held;
	if (admission != ADMIT && log_allowed(&listener->complaints, COMPLAINT_MS, &held))
		log_warn("%s: more than max_connections (%" PRIi64 "): clients are turned away",
			listener->name, listener->conf->options.max_connections);
	if (admission == REFUSE) {
		close(fd);
		return;
	}
	if (inet) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	}
	give_away(listener, fd, admission == ADMIT_CROWDED);
}

static void on_accept(evutil_socket_t fd, short what, void *arg)
{
	struct door *door = arg;
	struct listener *listener = door->listener;
	struct turn *turn = worker_turn(listener->groups[listener->home].worker);
	(void)what;
	turn_enter(turn);
	for (int i = 0; i < ACCEPTS; i++) {
		struct sockaddr_storage peer = {0};
		socklen_t length = sizeof(peer);
		int client = accept4(
			fd, (struct sockaddr *)&peer, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (client >= 0) {
			admit(listener, client, peer.ss_family != AF_UNIX);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
			pause_door(door, errno);
		if (errno != ECONNABORTED && errno != EINTR)
			break;
	}
	turn_leave(turn);
}

static void open_group(struct worker *worker, size_t index, void *arg)
{
	struct listener *listener = arg;
	conn_group_open(&listener->groups[index], worker, listener->conf, listener->name);
	listener->groups[index].home.failures = listener->failures;
}

static void open_web(struct worker *worker, size_t index, void *arg)
{
	struct listener *listener = arg;
	if (index != listener->home)
		return;
	listener->web = web_open(
		listener->crew, worker, listener->conf, listener->name, listener->failures);
	for (size_t i = 0; i < listener->ndoors; i++)
		web_listen(listener->web, listener->doors[i].fd);
}

static void watch_doors(struct worker *worker, size_t index, void *arg)
{
	struct listener *listener = arg;
	struct event_base *base = worker_base(worker);
	for (size_t i = 0; index == listener->home && i < listener->ndoors; i++) {
		struct door *door = &listener->doors[i];
		door->event = event_new(base, door->fd, EV_READ | EV_PERSIST, on_accept, door);
		door->resume = evtimer_new(base, on_resume, door);
		event_add(door->event, NULL);
	}
}

void listener_start(struct listener *listener, struct crew *crew, size_t home)
{
	listener->crew = crew;
	listener->home = home;
	if (listener->conf->codec->decode) {
		listener->ngroups = crew->n;
		listener->groups = memory_new(crew->n * sizeof(*listener->groups));
		crew_do(crew, open_group, listener);
		crew_do(crew, watch_doors, listener);
	} else {
		crew_do(crew, open_web, listener);
	}
	log_info("listening on %s", listener->name);
}

/* ---- the end ---- */

/* A unix socket's file stays until the end: "refused" makes Dovecot try again for a second, "no such
 * file" does not. */
static void close_door(struct door *door)
{
	if (door->event)
		event_free(door->event);
	if (door->resume)
		event_free(door->resume);
	if (door->fd >= 0)
		close(door->fd);
	*door = (struct door){.fd = -1};
}

static void close_doors(struct worker *worker, size_t index, void *arg)
{
	struct listener *listener = arg;
	(void)worker;
	if (index == listener->home && listener->web)
		web_deafen(listener->web);
	for (size_t i = 0; index == listener->home && i < listener->ndoors; i++)
		close_door(&listener->doors[i]);
}

static void drain_group(struct worker *worker, size_t index, void *arg)
{
	struct listener *listener = arg;
	(void)worker;
	if (index < listener->ngroups)
		conn_group_drain(&listener->groups[index]);
	if (index == listener->home && listener->web)
		web_drain(listener->web);
}

/* Connections that the home worker gave away came by letters that were posted before ours. */
void listener_drain(struct listener *listener)
{
	crew_do(listener->crew, close_doors, listener);
	crew_do(listener->crew, drain_group, listener);
}

static void remove_file(struct listener *listener)
{
	struct stat st;
	if (listener->owns_file && is_own_file(listener, &st))
		unlink(listener->path);
	listener->owns_file = false;
}

void listener_retire(struct listener *listener)
{
	log_info("listening no more on %s", listener->name);
	remove_file(listener);
	listener_drain(listener);
}

static void close_group(struct worker *worker, size_t index, void *arg)
{
	struct listener *listener = arg;
	(void)worker;
	if (index < listener->ngroups)
		conn_group_close(&listener->groups[index]);
	if (index == listener->home && listener->web)
		web_close(listener->web);
}

void listener_stop(struct listener *listener)
{
	unsigned busy = listener_connections(listener);
	if (busy > 0)
		log_warn("%s: %u connections were still busy after shutdown_timeout",
			listener->name, busy);
	crew_do(listener->crew, close_group, listener);
	listener->ngroups = 0;
	listener->web = NULL;
}

unsigned listener_connections(const struct listener *listener)
{
	unsigned n = listener->web ? web_connections(listener->web) : 0;
	for (size_t i = 0; i < listener->ngroups; i++)
		n += atomic_load_explicit(&listener->groups[i].open, memory_order_relaxed);
	return n;
}

struct str listener_summary(const struct listener *listener, struct arena *mem)
{
	uint64_t accepted = 0, refused = 0, broken = 0;
	if (listener->web)
		return web_summary(listener->web, mem);
	for (size_t i = 0; i < listener->ngroups; i++) {
		accepted +=
			atomic_load_explicit(&listener->groups[i].accepted, memory_order_relaxed);
		refused += atomic_load_explicit(
			&listener->groups[i].home.refused, memory_order_relaxed);
		broken += atomic_load_explicit(
			&listener->groups[i].home.broken, memory_order_relaxed);
	}
	return arena_printf(mem,
		"%s: connections %u, accepted %" PRIu64 ", requests refused %" PRIu64
		", streams broken %" PRIu64,
		listener->name, listener_connections(listener), accepted, refused, broken);
}

void listener_close(struct listener *listener)
{
	remove_file(listener);
	if (listener->pin >= 0)
		close(listener->pin);
	if (listener->web)
		web_close(listener->web);
	for (size_t i = 0; i < listener->ndoors; i++)
		close_door(&listener->doors[i]);
	for (size_t i = 0; i < listener->ngroups; i++)
		conn_group_close(&listener->groups[i]);
	free(listener->groups);
	windows_release(listener->failures);
	arena_clear(&listener->mem);
	free(listener);
}
