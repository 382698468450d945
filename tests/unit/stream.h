/* Drives a codec as a connection does, without one: bytes come in pieces, answers come late, and
 * what the codec said and made of the bytes is recorded, to be compared with the same stream cut
 * elsewhere. For the tests of codecs and for their fuzzing. */
#ifndef STREAM_H
#define STREAM_H

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "model/codec.h"

struct stream {
	const struct codec *codec;
	const void *conf;
	struct str in;
	const size_t *pieces; /* how many bytes come at a time, over and over; NULL: all at once */
	size_t npieces;
	size_t late;       /* so many questions wait for answers before the first gets one */
	bool newest_first; /* the newest is answered first, where the protocol allows that */
	const void *script;
	void (*answer)(const void *script, const struct message *message, size_t nth,
		struct arena *mem, struct answer *answer);
};

/* What happened, as text: an event a line; and the bytes for the client. */
struct stream_run {
	struct buf events, out;
	bool broken;
	size_t messages, refused, left; /* bytes not used */
};

enum { STREAM_MAX = 1 << 28, STREAM_WAITING = 128 };

/* A question that waits for its answer, or words of the codec that wait for their place. */
struct stream_wait {
	uint64_t tag;
	bool in_order, words;
	struct answer answer;
	struct buf text;
	struct arena mem;
};

struct stream_state {
	const struct stream *stream;
	struct stream_run *run;
	void *session;
	struct stream_wait *waits[STREAM_WAITING * 2];
	size_t nwaits, nquestions;
};

static inline void stream_print(struct buf *events, const char *name, struct str s)
{
	buf_printf(events, " %s=", name);
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.ptr[i];
		if (c < ' ' || c == '\\' || c >= 0x7f)
			buf_printf(events, "\\%02x", c);
		else
			buf_add_char(events, (char)c);
	}
}

static inline const char *stream_scope(enum scope scope)
{
	static const char *const names[] = {"", "shared/", "priv/"};
	return names[scope];
}

static inline void stream_print_change(struct buf *events, const struct change *change)
{
	static const char *const names[] = {"set", "unset", "add"};
	buf_printf(events, " %s", names[change->kind]);
	stream_print(events, stream_scope(change->scope), change->key);
	if (change->kind == CH_SET)
		stream_print(events, "value", change->value);
	if (change->kind == CH_ADD)
		buf_printf(events, " diff=%lld", (long long)change->diff);
}

static inline void stream_print_message(struct buf *events, const struct message *message)
{
	static const char *const ops[] = {"lookup", "iterate", "change", "policy", "auth"};
	const struct question *ask = &message->ask;
	buf_printf(events, "%s", ops[ask->op]);
	stream_print(events, "table", message->table);
	if (ask->op != OP_CHANGE) {
		buf_add(events, STR(" key"));
		stream_print(events, stream_scope(ask->scope), ask->key);
	}
	if (ask->user.len > 0)
		stream_print(events, "user", ask->user);
	if (ask->op == OP_ITERATE)
		buf_printf(events, " flags=%u max_rows=%llu", ask->flags,
			(unsigned long long)ask->max_rows);
	if (ask->expire_secs > 0)
		buf_printf(events, " expire=%llu", (unsigned long long)ask->expire_secs);
	for (size_t i = 0; i < ask->nattrs; i++) {
		stream_print(events, "name", ask->attrs[i].name);
		stream_print(events, "value", ask->attrs[i].value);
	}
	for (size_t i = 0; i < ask->nchanges; i++)
		stream_print_change(events, &ask->changes[i]);
	buf_printf(events, "%s%s\n", ask->form == FORM_JSON ? " json" : "",
		message->in_order ? " in_order" : "");
}

/* Where the bytes come in pieces, long answers go out in pieces: as small as can be. */
static inline void stream_encode(struct stream_state *state, const struct stream_wait *wait)
{
	const struct stream *stream = state->stream;
	const struct codec *codec = stream->codec;
	struct buf *out = &state->run->out;
	size_t row = 0, said = 0;
	if (!codec->encode_rows || wait->answer.nrows <= 1 || stream->npieces == 0) {
		codec->encode(state->session, stream->conf, wait->tag, &wait->answer, out);
		return;
	}
	while (!codec->encode_rows(
		state->session, stream->conf, wait->tag, &wait->answer, &row, out->len + 1, out))
		assert(row == ++said);
}

static inline void stream_say(struct stream_state *state, size_t at)
{
	struct stream_wait *wait = state->waits[at];
	struct buf *out = &state->run->out;
	if (wait->words) {
		buf_add(out, buf_str(&wait->text));
	} else {
		stream_encode(state, wait);
		state->nquestions--;
	}
	buf_free(&wait->text);
	arena_clear(&wait->mem);
	free(wait);
	state->nwaits--;
	memmove(state->waits + at, state->waits + at + 1,
		(state->nwaits - at) * sizeof(state->waits[0]));
}

/* Answers one question, and says what then is at the head of the line. */
static inline void stream_answer_one(struct stream_state *state)
{
	size_t at = 0;
	if (state->stream->newest_first && !state->waits[state->nwaits - 1]->in_order)
		at = state->nwaits - 1;
	stream_say(state, at);
	while (state->nwaits > 0 && state->waits[0]->words)
		stream_say(state, 0);
}

static inline struct stream_wait *stream_add_wait(struct stream_state *state)
{
	struct stream_wait *wait = memory_new(sizeof(*wait));
	assert(state->nwaits < STREAM_WAITING * 2);
	state->waits[state->nwaits++] = wait;
	return wait;
}

static inline void stream_ask(struct stream_state *state, const struct message *message)
{
	const struct stream *stream = state->stream;
	struct stream_run *run = state->run;
	assert(message->ask.key.len == 0 || !memchr(message->ask.key.ptr, 0, message->ask.key.len));
	stream_print_message(&run->events, message);
	struct stream_wait *wait = stream_add_wait(state);
	wait->tag = message->tag;
	wait->in_order = message->in_order;
	stream->answer(stream->script, message, run->messages++, &wait->mem, &wait->answer);
	codec_fit(stream->codec, state->session, wait->tag, &wait->answer);
	state->nquestions++;
	while (state->nquestions > stream->late)
		stream_answer_one(state);
}

/* What the codec wrote by itself goes out at once, unless its protocol keeps the order. */
static inline void stream_keep_words(struct stream_state *state, struct buf *words)
{
	if (words->len > 0 && state->stream->codec->ordered && state->nwaits > 0) {
		struct stream_wait *wait = stream_add_wait(state);
		wait->words = wait->in_order = true;
		wait->text = (struct buf){.max = STREAM_MAX};
		buf_add(&wait->text, buf_str(words));
		if (state->nwaits >= STREAM_WAITING)
			stream_answer_one(state);
	} else {
		buf_add(&state->run->out, buf_str(words));
	}
	buf_free(words);
}

/* Decodes `in` from a block of just its size, until the codec wants more; returns what was used. */
static inline size_t stream_decode(struct stream_state *state, struct str in)
{
	const struct stream *stream = state->stream;
	struct stream_run *run = state->run;
	size_t total = 0;
	for (;;) {
		struct message message = {0};
		struct buf words = {.max = STREAM_MAX};
		const char *why = NULL;
		size_t n = in.len - total, used = 0;
		char *block = malloc(n);
		if (n > 0)
			memcpy(block, in.ptr + total, n);
		enum decoded decoded = stream->codec->decode(state->session, stream->conf,
			(struct str){block, n}, &used, &message, &words, &why);
		assert(used <= n);
		assert(!words.overflow);
		total += used;
		stream_keep_words(state, &words);
		if (decoded == DECODE_MESSAGE)
			stream_ask(state, &message);
		free(block);
		if (decoded == DECODE_MORE)
			return total;
		if (decoded == DECODE_TABLE) /* who is asked is seen in the question */
			continue;
		assert(decoded == DECODE_MESSAGE || (why && why[0]));
		if (decoded == DECODE_REFUSED) {
			buf_printf(&run->events, "refused %s\n", why);
			run->refused++;
		}
		if (decoded == DECODE_BROKEN) {
			buf_printf(&run->events, "broken %s\n", why);
			run->broken = true;
			return total;
		}
	}
}

/* Free the run with stream_run_free(). */
static inline void stream_play(const struct stream *stream, struct stream_run *run)
{
	struct stream_state state = {.stream = stream, .run = run};
	const size_t all = SIZE_MAX;
	const size_t *pieces = stream->npieces > 0 ? stream->pieces : &all;
	size_t npieces = stream->npieces > 0 ? stream->npieces : 1;
	size_t got = 0, used = 0;
	*run = (struct stream_run){.events.max = STREAM_MAX, .out.max = STREAM_MAX};
	assert(stream->late < STREAM_WAITING);
	state.session = memory_new(stream->codec->session_size);
	for (size_t i = 0; got < stream->in.len && !run->broken; i++) {
		size_t piece = pieces[i % npieces], rest = stream->in.len - got;
		got += piece < rest ? piece : rest;
		used += stream_decode(&state, (struct str){stream->in.ptr + used, got - used});
	}
	run->left = stream->in.len - used;
	while (state.nwaits > 0)
		stream_answer_one(&state);
	if (stream->codec->end)
		stream->codec->end(state.session);
	free(state.session);
	assert(!run->out.overflow && !run->events.overflow);
}

static inline void stream_run_free(struct stream_run *run)
{
	buf_free(&run->events);
	buf_free(&run->out);
}

/* Plays the stream in these pieces and compares; says what differs on stderr. */
static inline bool stream_same(const struct stream *stream, const struct stream_run *whole,
	const size_t *pieces, size_t npieces)
{
	struct stream cut = *stream;
	struct stream_run run;
	cut.pieces = pieces;
	cut.npieces = npieces;
	stream_play(&cut, &run);
	bool same = str_eq(buf_str(&run.events), buf_str(&whole->events)) &&
		    str_eq(buf_str(&run.out), buf_str(&whole->out)) &&
		    run.broken == whole->broken && run.messages == whole->messages;
	if (!same)
		fprintf(stderr,
			"%s: in pieces of %zu, ... bytes it means something else\n"
			"whole:\n%.*s%.*s\ncut:\n%.*s%.*s\n",
			stream->codec->name, pieces[0], (int)whole->events.len, whole->events.ptr,
			(int)whole->out.len, whole->out.ptr, (int)run.events.len, run.events.ptr,
			(int)run.out.len, run.out.ptr);
	stream_run_free(&run);
	return same;
}

/* Cut once at every position (long streams: at some), and into pieces of a few small sizes. */
static inline bool stream_same_cut_anywhere(
	const struct stream *stream, const struct stream_run *whole)
{
	static const size_t sizes[] = {1, 2, 3, 7, 64};
	size_t step = stream->in.len / 2000 + 1;
	for (size_t at = 1; at < stream->in.len; at += step)
		if (!stream_same(stream, whole, (const size_t[]){at, SIZE_MAX}, 2))
			return false;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		if (stream->in.len / sizes[i] < 20000 && !stream_same(stream, whole, &sizes[i], 1))
			return false;
	return true;
}

/* The codec's settings as they are when nobody says otherwise; free() it. Only for settings that
 * own no memory. */
static inline void *stream_default_conf(const struct codec *codec)
{
	void *conf = memory_new(codec->conf_size);
	struct arena mem = {0};
	if (codec->settings)
		setting_fill(codec->settings, conf, &mem);
	arena_clear(&mem);
	return conf;
}

#endif
