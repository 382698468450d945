/* A client and its connection, without a socket. */
#include "peer.h"

#include <stdlib.h>

enum { MAX_HEARD = 128 << 20 };

/* ---- messages ---- */

static struct str wrap_netstring(struct str payload, struct arena *mem)
{
	struct buf out = {.max = payload.len + 32};
	buf_printf(&out, "%zu:", payload.len);
	buf_add(&out, payload);
	buf_add_char(&out, ',');
	struct str bytes = arena_str(mem, buf_str(&out));
	buf_free(&out);
	return bytes;
}

static bool unwrap_netstring(struct str heard, struct str *payload, size_t *size)
{
	struct str rest = heard, digits;
	uint64_t n;
	if (!str_cut(&rest, ':', &digits) || !str_u64(digits, &n) || rest.len <= n ||
		(digits.len > 1 && digits.ptr[0] == '0') || rest.ptr[n] != ',')
		return false;
	*payload = (struct str){rest.ptr, n};
	*size = digits.len + n + 2;
	return true;
}

static struct str wrap_line(struct str payload, struct arena *mem)
{
	return arena_printf(mem, "%.*s\n", (int)payload.len, payload.len ? payload.ptr : "");
}

static bool unwrap_line(struct str heard, struct str *payload, size_t *size)
{
	bool whole = str_cut(&heard, '\n', payload);
	*size = payload->len + 1;
	return whole;
}

/* Each field is a line, and an empty one ends them. */
static struct str wrap_attributes(struct str payload, struct arena *mem)
{
	struct str bytes = arena_printf(mem, "%.*s\n\n", (int)payload.len, payload.ptr);
	for (char *c = (char *)bytes.ptr;
		(c = memchr(c, '\t', bytes.len - (size_t)(c - bytes.ptr)));)
		*c = '\n';
	return bytes;
}

static bool unwrap_attributes(struct str heard, struct str *payload, size_t *size)
{
	const char *end = memmem(heard.ptr, heard.len, "\n\n", 2);
	if (!end)
		return false;
	*payload = (struct str){heard.ptr, (size_t)(end - heard.ptr)};
	*size = payload->len + 2;
	return true;
}

static const struct framing framings[] = {
	{"socketmap", false, wrap_netstring, unwrap_netstring},
	{"dict", true, wrap_line, unwrap_line},
	{"sasl", true, wrap_line, unwrap_line},
	{"policy", true, wrap_attributes, unwrap_attributes},
};

static const struct framing *framing_of(const struct codec *codec)
{
	for (size_t i = 0; i < sizeof(framings) / sizeof(framings[0]); i++)
		if (strcmp(framings[i].protocol, codec->name) == 0)
			return &framings[i];
	return NULL;
}

/* ---- bytes ---- */

static void decode(struct peer *peer)
{
	struct dialog *dialog = &peer->dialog;
	if (peer->in.len == 0 || dialog->gone)
		return;
	/* Memory that nobody may remember. */
	char *lent = memory_grow(NULL, peer->in.len);
	memcpy(lent, peer->in.ptr, peer->in.len);
	buf_consume(&peer->in, dialog_read(dialog, (struct str){lent, peer->in.len}));
	free(lent);
}

static void take_answers(struct peer *peer)
{
	struct dialog *dialog = &peer->dialog;
	if (dialog->gone || peer->deaf)
		return;
	do {
		struct str unsent = dialog_unsent(dialog);
		buf_add(&peer->heard, unsent);
		dialog_sent(dialog, unsent.len);
	} while (dialog->out.len > 0); /* long answers come in pieces */
}

static void end(struct peer *peer)
{
	dialog_close(&peer->dialog);
	peer->open = false;
}

static void on_settle(struct job *job);

static void touch(struct peer *peer)
{
	turn_add_job(&peer->worker->turn, &peer->settle, on_settle);
}

static void on_answers(struct dialog *dialog)
{
	touch((struct peer *)(void *)((char *)dialog - offsetof(struct peer, dialog)));
}

/* At the end of each turn that touched the connection: conn.c's settle(). */
static void on_settle(struct job *job)
{
	struct peer *peer = (struct peer *)(void *)((char *)job - offsetof(struct peer, settle));
	struct dialog *dialog = &peer->dialog;
	if (dialog_may_read(dialog))
		decode(peer);
	bool held = peer->in.len > 0 && !dialog_may_read(dialog);
	take_answers(peer);
	if ((dialog->unfinished || held) && peer->in.len > 0 && dialog_may_read(dialog)) {
		touch(peer);
		return;
	}
	if (dialog->gone)
		dialog_abandon(dialog);
	bool over = dialog->gone || ((dialog->ended || peer->over) && dialog->out.len == 0);
	if (over && dialog_is_idle(dialog))
		end(peer);
}

void peer_send(struct peer *peer, struct str bytes)
{
	worker_enter(peer->worker);
	buf_add(&peer->in, bytes);
	if (dialog_may_read(&peer->dialog))
		decode(peer);
	touch(peer);
	worker_leave(peer->worker);
}

void peer_end(struct peer *peer, bool gone)
{
	worker_enter(peer->worker);
	peer->over = true;
	if (gone) {
		peer->dialog.gone = true;
		peer->told = true;
	}
	touch(peer);
	worker_leave(peer->worker);
}

void peer_read(struct peer *peer, bool reads)
{
	worker_enter(peer->worker);
	peer->deaf = !reads;
	touch(peer);
	worker_leave(peer->worker);
}

/* ---- life and death ---- */

/* The same to everybody. */
static void greet(struct peer *peer)
{
	static const struct greeting greeting = {.pid = 4711, .number = 1};
	worker_enter(peer->worker);
	dialog_greet(&peer->dialog, &greeting);
	peer->greeting = peer->dialog.out.len;
	touch(peer);
	worker_leave(peer->worker);
}

static struct dialog_home *find_home(struct worker *worker, struct str listener)
{
	for (size_t i = 0; i < worker->world->config.nlistens; i++) {
		const struct listen_conf *listen = &worker->world->config.listens[i];
		if (listener.len == 0 || str_eq(listener, str_of(listen->codec->name)) ||
			str_eq(listener, str_of(listen->address_text)))
			return &worker->homes[i];
	}
	return NULL;
}

struct peer *peer_new(struct worker *worker, struct str name, struct str listener, bool crowded)
{
	struct dialog_home *home = find_home(worker, listener);
	if (!home || !framing_of(home->conf->codec))
		return NULL;
	struct peer *peer = memory_new(sizeof(*peer) + home->conf->codec->session_size);
	peer->name = name;
	peer->framing = framing_of(home->conf->codec);
	peer->worker = worker;
	peer->open = true;
	peer->in.max = peer->heard.max = MAX_HEARD;
	dialog_open(&peer->dialog, home, peer->session, on_answers);
	peer->dialog.crowded = crowded;
	if (home->conf->codec->greet)
		greet(peer);
	return peer;
}

void peer_free(struct peer *peer)
{
	turn_drop_job(&peer->settle);
	if (peer->open)
		end(peer);
	buf_free(&peer->in);
	buf_free(&peer->heard);
	free(peer);
}
