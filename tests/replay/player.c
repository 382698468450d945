/* Plays a scenario.
 *
 * A step makes something happen or expects that something has happened. Nothing may happen that no step
 * expects: before the first doing step that follows expecting ones, before time passes and at the end
 * everything must have been told. */
#include "player.h"

#include <stdlib.h>

#include "peer.h"
#include "scripted.h"
#include "text.h"

struct player {
	const struct scenario *scenario;
	const struct delivery *delivery;
	struct world world;
	STAILQ_HEAD(, peer) peers;
	size_t sent;
	size_t next;   /* step */
	bool expected; /* the last step did so */
	struct arena mem;
	struct failure *failure;
};

static bool fail(struct player *player, struct str expected, struct str got)
{
	error_set(&player->failure->expected, "%.*s", (int)expected.len, expected.ptr);
	return error_set(&player->failure->got, "%.*s", (int)got.len, got.ptr);
}

/* ---- what has happened ---- */

/* What nobody has told: the first event, or what is left of what a client heard; empty: nothing. */
static struct str untold(struct player *player)
{
	const struct event *event = STAILQ_FIRST(&player->world.events);
	const struct peer *peer;
	if (event)
		return event->text;
	STAILQ_FOREACH (peer, &player->peers, link) {
		if (peer->heard.len > 0)
			return arena_printf(&player->mem, "%s < %s", peer->name.ptr,
				text_show(buf_str(&peer->heard), &player->mem).ptr);
		if (!peer->open && !peer->told)
			return arena_printf(&player->mem, "%s is closed", peer->name.ptr);
	}
	return STR("");
}

static bool all_told(struct player *player)
{
	struct str text = untold(player);
	return text.len == 0 || fail(player, STR("nothing more"), text);
}

static bool expect_nothing(struct player *player, struct peer *peer, struct str rest)
{
	(void)peer;
	(void)rest;
	return all_told(player);
}

/* An event in the very words of the step. */
static bool expect_event(struct player *player, struct peer *peer, struct str rest)
{
	struct str step = player->scenario->steps[player->next - 1].text;
	const struct event *event = STAILQ_FIRST(&player->world.events);
	struct str got = event ? event->text : STR("nothing");
	(void)peer;
	(void)rest;
	if (!event || !str_eq(step, got))
		return fail(player, step, got);
	STAILQ_REMOVE_HEAD(&player->world.events, link);
	return true;
}

/* ---- what clients hear ---- */

static bool bad_bytes(struct player *player)
{
	return error_set(
		&player->failure->what, "an escape that is none, or a quote without its end");
}

static struct str show_heard(struct player *player, const struct peer *peer, struct str payload)
{
	if (payload.ptr)
		return text_show(payload, &player->mem);
	if (peer->heard.len > 0)
		return text_show(buf_str(&peer->heard), &player->mem);
	return peer->open ? STR("nothing") : STR("nothing, and the connection is closed");
}

/* A whole message; `...` at the end stands for any rest of it. */
static bool expect_message(struct player *player, struct peer *peer, struct str rest)
{
	static const struct str any = STR("...");
	struct str wanted = rest, heard = {0};
	size_t size = 0;
	bool begins = rest.len >= any.len && str_eq(str_skip(rest, rest.len - any.len), any);
	if (begins)
		wanted.len -= any.len;
	if (str_eq(wanted, STR("NOTFOUND"))) /* the blank at its end is the protocol's */
		wanted = STR("NOTFOUND\\s");
	if (!text_bytes(wanted, peer->framing->fields, &player->mem, &wanted))
		return bad_bytes(player);
	if (!peer->framing->unwrap(buf_str(&peer->heard), &heard, &size) ||
		!(begins ? str_starts(heard, wanted) : str_eq(heard, wanted)))
		return fail(player, rest, show_heard(player, peer, heard));
	buf_consume(&peer->heard, size);
	return true;
}

static bool expect_bytes(struct player *player, struct peer *peer, struct str rest)
{
	struct str wanted;
	if (!text_bytes(rest, false, &player->mem, &wanted))
		return bad_bytes(player);
	if (!str_starts(buf_str(&peer->heard), wanted))
		return fail(player, rest, show_heard(player, peer, (struct str){0}));
	buf_consume(&peer->heard, wanted.len);
	return true;
}

/* In the codec's words; a script that cares spells them out instead. */
static bool expect_greeting(struct player *player, struct peer *peer)
{
	if (peer->greeting == 0 || peer->heard.len < peer->greeting)
		return fail(player, STR("a greeting"), show_heard(player, peer, (struct str){0}));
	buf_consume(&peer->heard, peer->greeting);
	peer->greeting = 0;
	return true;
}

static bool expect_state(struct player *player, struct peer *peer, struct str rest)
{
	if (str_eq(rest, STR("greeted")))
		return expect_greeting(player, peer);
	if (!str_eq(rest, STR("closed")))
		return error_set(&player->failure->what,
			"a client can only be expected to be greeted or closed");
	peer->told = true;
	return !peer->open || fail(player, STR("a closed connection"), STR("an open one"));
}

/* ---- what clients do ---- */

/* `[to LISTENER] [on worker N] [as one too many]` */
static bool do_connect(struct player *player, struct peer *again, struct str rest)
{
	struct str line = player->scenario->steps[player->next - 1].text, name, word,
		   listener = {0};
	uint64_t worker = 1;
	bool crowded = false, good = !again;
	text_word(&line, &name);
	while (good && text_word(&rest, &word)) {
		if (str_eq(word, STR("to")))
			good = text_word(&rest, &listener);
		else if (str_eq(word, STR("on")))
			good = text_word(&rest, &word) && text_word(&rest, &word) &&
			       str_u64(word, &worker) && worker >= 1 &&
			       worker <= player->world.workers;
		else
			good = crowded = str_eq(word, STR("crowded"));
	}
	struct peer *peer = NULL;
	if (good)
		peer = peer_new(&player->world.crew[worker - 1], arena_str(&player->mem, name),
			listener, crowded);
	if (!peer)
		return error_set(&player->failure->what,
			"write a new client's name and `connects [to LISTENER] [on worker N] "
			"[crowded]`");
	STAILQ_INSERT_TAIL(&player->peers, peer, link);
	return true;
}

/* As the delivery wants it. */
static void deliver(struct player *player, struct peer *peer, struct str bytes)
{
	const struct delivery *delivery = player->delivery;
	size_t piece = bytes.len;
	if (delivery->how == BYTEWISE)
		piece = 1;
	else if (delivery->how == CUT_AT && delivery->at > player->sent &&
		 delivery->at < player->sent + bytes.len)
		piece = delivery->at - player->sent;
	player->sent += bytes.len;
	while (bytes.len > 0 && peer->open) {
		size_t n = piece < bytes.len ? piece : bytes.len;
		peer_send(peer, (struct str){bytes.ptr, n});
		bytes = str_skip(bytes, n);
	}
}

/* The bytes of a step that sends; empty when it does not, or for another client. */
static bool sent_by(
	struct player *player, const struct step *step, const struct peer *peer, struct str *bytes)
{
	struct str rest = step->text, name, verb;
	*bytes = STR("");
	text_word(&rest, &name);
	text_word(&rest, &verb);
	bool whole = str_eq(verb, STR(">"));
	if (!str_eq(name, peer->name) || !(whole || str_eq(verb, STR(">>"))))
		return true;
	if (!text_bytes(rest, whole && peer->framing->fields, &player->mem, bytes))
		return bad_bytes(player);
	if (whole)
		*bytes = peer->framing->wrap(*bytes, &player->mem);
	return true;
}

static bool do_send(struct player *player, struct peer *peer, struct str rest)
{
	const struct scenario *scenario = player->scenario;
	struct buf all = {.max = 64 << 20};
	struct str bytes;
	(void)rest;
	bool good = sent_by(player, &scenario->steps[player->next - 1], peer, &bytes);
	buf_add(&all, bytes);
	while (good && player->delivery->how == JOINED && player->next < scenario->n) {
		good = sent_by(player, &scenario->steps[player->next], peer, &bytes);
		if (bytes.len == 0)
			break;
		buf_add(&all, bytes);
		player->next++;
	}
	if (good && peer->open)
		deliver(player, peer, buf_str(&all));
	else if (good)
		good = fail(player, STR("an open connection"), STR("a closed one"));
	buf_free(&all);
	return good;
}

static bool do_leave(struct player *player, struct peer *peer, struct str rest)
{
	(void)player;
	(void)rest;
	peer_end(peer, true);
	return true;
}

static bool do_half_close(struct player *player, struct peer *peer, struct str rest)
{
	(void)player;
	(void)rest;
	peer_end(peer, false);
	return true;
}

static bool do_stop(struct player *player, struct peer *peer, struct str rest)
{
	if (!str_eq(rest, STR("reading")))
		return error_set(&player->failure->what, "a client can only stop reading");
	peer_read(peer, false);
	return true;
}

static bool do_read(struct player *player, struct peer *peer, struct str rest)
{
	if (!str_eq(rest, STR("again")))
		return error_set(&player->failure->what, "a client can only read again");
	peer_read(peer, true);
	return true;
}

/* ---- what tables and time do ---- */

/* `TABLE answers [to QUESTION:] ANSWER` */
static bool do_answer(struct player *player, struct peer *peer, struct str rest)
{
	struct str line = player->scenario->steps[player->next - 1].text, table, what = {0};
	(void)peer;
	text_word(&line, &table);
	if (str_starts(rest, STR("to "))) {
		rest = str_skip(rest, 3);
		str_cut(&rest, ':', &what);
		rest = str_trim(rest);
	}
	struct asked *asked = scripted_find(&player->world, table, what);
	if (!asked)
		return fail(player, what.len ? what : STR("a question that waits for its answer"),
			STR("none"));
	return scripted_answer(asked, rest, &player->failure->what);
}

static bool do_pass(struct player *player, struct peer *peer, struct str rest)
{
	int64_t ms;
	(void)peer;
	if (!setting_msec(rest, &ms))
		return error_set(
			&player->failure->what, "how long? write it like 500ms, 5s, 2m or 1h");
	if (!all_told(player))
		return false;
	world_pass(&player->world, (uint64_t)ms);
	return true;
}

/* ---- steps ---- */

static const struct verb {
	const char *word;
	bool of_client; /* the subject is one that has connected */
	bool expects;
	bool (*run)(struct player *player, struct peer *peer, struct str rest);
} verbs[] = {
	{"connects", false, false, do_connect},
	{">", true, false, do_send},
	{">>", true, false, do_send},
	{"<", true, true, expect_message},
	{"<<", true, true, expect_bytes},
	{"is", true, true, expect_state},
	{"leaves", true, false, do_leave},
	{"half-closes", true, false, do_half_close},
	{"stops", true, false, do_stop},
	{"reads", true, false, do_read},
	{"asked", false, true, expect_event},
	{"cancelled", false, true, expect_event},
	{"answers", false, false, do_answer},
	{"passes", false, false, do_pass},
	{"happens", false, true, expect_nothing},
};

static struct peer *find_peer(struct player *player, struct str name)
{
	struct peer *peer;
	STAILQ_FOREACH (peer, &player->peers, link)
		if (str_eq(peer->name, name))
			return peer;
	return NULL;
}

static const struct verb *find_verb(struct str word)
{
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (str_eq(str_of(verbs[i].word), word))
			return &verbs[i];
	return NULL;
}

static bool run_step(struct player *player, const struct step *step)
{
	struct str rest = step->text, subject, word;
	text_word(&rest, &subject);
	text_word(&rest, &word);
	if (str_eq(subject, STR("pass"))) { /* the one imperative */
		rest = word;
		word = STR("passes");
	}
	const struct verb *verb = find_verb(word);
	struct peer *peer = find_peer(player, subject);
	if (!verb)
		return error_set(&player->failure->what, "\"%.*s\" is no step that is known",
			(int)step->text.len, step->text.ptr);
	if (verb->of_client && !peer)
		return error_set(&player->failure->what, "there is no client \"%.*s\"",
			(int)subject.len, subject.ptr);
	if (!verb->expects && player->expected && !all_told(player))
		return false;
	player->expected = verb->expects;
	return verb->run(player, peer, rest);
}

static bool run_steps(struct player *player)
{
	const struct scenario *scenario = player->scenario;
	while (player->next < scenario->n) {
		const struct step *step = &scenario->steps[player->next++];
		player->failure->line = step->line;
		if (!run_step(player, step))
			return false;
	}
	return all_told(player);
}

bool play(const struct scenario *scenario, const struct delivery *delivery, size_t *sent,
	struct failure *failure)
{
	struct player player = {.scenario = scenario, .delivery = delivery, .failure = failure};
	struct peer *peer;
	*failure = (struct failure){.line = scenario->line};
	*sent = 0;
	STAILQ_INIT(&player.peers);
	if (!world_open(&player.world, &scenario->yaml, scenario->workers, &failure->what))
		return false;
	bool good = run_steps(&player);
	while ((peer = STAILQ_FIRST(&player.peers))) {
		STAILQ_REMOVE_HEAD(&player.peers, link);
		peer_free(peer);
	}
	world_close(&player.world);
	arena_clear(&player.mem);
	*sent = player.sent;
	return good;
}
