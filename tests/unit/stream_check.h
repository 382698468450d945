/* Checks of a codec on a stream of bytes: what it makes of them, and that it makes the same of them
 * however they are cut. Answers follow from what is asked. Include it behind cmocka.h. */
#ifndef STREAM_CHECK_H
#define STREAM_CHECK_H

#include "front/fronts.h"
#include "stream.h"

/* Of the file's tests; made by check_set_up(). */
static const struct codec *check_codec;
static void *check_conf;

static inline int check_set_up(const struct codec *codec)
{
	check_codec = codec;
	check_conf = stream_default_conf(codec);
	return 0;
}

static inline int check_tear_down(void **state)
{
	(void)state;
	free(check_conf);
	return 0;
}

/* The key, or of a policy request the attribute `say`. */
static inline struct str check_words(const struct question *ask)
{
	for (size_t i = 0; i < ask->nattrs; i++)
		if (str_eq(ask->attrs[i].name, STR("say")))
			return ask->attrs[i].value;
	return ask->key;
}

/* The words say how they are answered: a status and a text, or the text itself. */
static inline void check_answer(const void *script, const struct message *message, size_t nth,
	struct arena *mem, struct answer *answer)
{
	struct str words = check_words(&message->ask), rest = words, word;
	(void)script;
	(void)nth;
	str_cut(&rest, ' ', &word);
	*answer = (struct answer){.status = ST_OK};
	if (str_eq(word, STR("none")))
		answer->status = ST_NOTFOUND;
	else if (str_eq(word, STR("temp")))
		answer->status = ST_TEMP;
	else if (str_eq(word, STR("perm")))
		answer->status = ST_PERM;
	if (answer->status == ST_TEMP || answer->status == ST_PERM)
		answer->why = arena_str(mem, rest);
	if (answer->status != ST_OK)
		return;
	struct pair *row = arena_alloc(mem, sizeof(*row));
	answer->nrows = 1;
	answer->rows = row;
	if (str_eq(word, STR("nul"))) {
		row->value = arena_str(mem, STR("a\0b"));
	} else if (str_eq(word, STR("lines"))) {
		row->value = arena_str(mem, STR("a\nb"));
	} else if (str_eq(word, STR("repeat"))) {
		uint64_t n;
		assert_true(str_u64(rest, &n));
		char *to = arena_alloc(mem, n);
		row->value = (struct str){memset(to, 'x', n), n};
	} else if (!str_eq(word, STR("empty"))) {
		row->value = arena_str(mem, words);
	}
}

/* Both texts of the run end in a NUL. */
static inline void check_play(
	struct str in, size_t late, struct stream *stream, struct stream_run *run)
{
	*stream = (struct stream){
		.codec = check_codec,
		.conf = check_conf,
		.in = in,
		.late = late,
		.answer = check_answer,
	};
	stream_play(stream, run);
	buf_add_char(&run->events, '\0');
	buf_add_char(&run->out, '\0');
	run->events.len--;
	run->out.len--;
}

/* NULL: anything. */
static inline void check_late(struct str in, size_t late, const char *events, const char *out)
{
	struct stream stream;
	struct stream_run run;
	check_play(in, late, &stream, &run);
	if (events)
		assert_string_equal(run.events.ptr, events);
	if (out)
		assert_string_equal(run.out.ptr, out);
	assert_true(stream_same_cut_anywhere(&stream, &run));
	stream_run_free(&run);
}

#define check(in, events, out) check_late(STR(in), 0, events, out)

static inline bool starts(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

#endif
