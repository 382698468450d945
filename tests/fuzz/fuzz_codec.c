/* Fuzzes every codec: a stream means the same however it is cut, is read within its bounds, and
 * makes no more output than it and its answers can account for.
 *
 * Input: which codec; settings, how late answers come; two sizes of pieces; a seed of the answers;
 * the stream. */
#include "../unit/stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HEADER = 5, BIG_VALUE = 120000, MAX_ROWS = 4 };

struct script {
	uint8_t seed;
	size_t given; /* bytes of all answers */
};

static struct str value_of(unsigned pick, const struct question *ask, struct arena *mem)
{
	if (pick % 31 == 30) /* rarely: it is slow */
		return (struct str){
			memset(arena_alloc(mem, BIG_VALUE), '\1', BIG_VALUE), BIG_VALUE};
	switch (pick % 5) {
	case 0:
		return arena_str(mem, ask->key);
	case 1:
		return arena_str(mem, STR("a\0b"));
	case 2:
		return arena_str(mem, STR("\1\t\n\r"));
	case 3:
		return STR("");
	default:
		return (struct str){NULL, 0};
	}
}

/* The same for the same question in the same place, however the stream is cut. */
static void answer(const void *script, const struct message *message, size_t nth, struct arena *mem,
	struct answer *answer)
{
	struct script *state = (struct script *)(uintptr_t)script;
	const struct question *ask = &message->ask;
	unsigned last = ask->key.len > 0 ? (unsigned char)ask->key.ptr[ask->key.len - 1] : 0;
	unsigned pick = state->seed + (unsigned)nth * 5 + last;
	*answer = (struct answer){.status = (enum status)(pick % ST_COUNT)};
	pick /= ST_COUNT;
	if (answer->status == ST_TEMP || answer->status == ST_PERM) {
		answer->why = value_of(pick, ask, mem);
		answer->uncertain = pick % 2 && ask->op == OP_CHANGE;
	} else if (answer->status == ST_OK && ask->op != OP_CHANGE) {
		struct pair *rows = arena_alloc(mem, MAX_ROWS * sizeof(*rows));
		answer->nrows = ask->op == OP_ITERATE ? pick % MAX_ROWS : 1 + pick % 3;
		answer->rows = rows;
		for (size_t i = 0; i < answer->nrows; i++) {
			rows[i].name = i < 3 ? arena_str(mem, ask->key) : STR("elsewhere");
			rows[i].value = value_of(pick + (unsigned)i, ask, mem);
			state->given += rows[i].name.len + rows[i].value.len;
		}
	}
	state->given += answer->why.len;
}

/* As the administrator would have it, or as small as he can make it. */
static void *conf_of(const struct codec *codec, bool small)
{
	char *conf = stream_default_conf(codec);
	for (const struct setting *s = codec->settings; small && s && s->name; s++)
		if (s->kind == SET_BYTES)
			memcpy(conf + s->offset, &s->min, sizeof(s->min));
	return conf;
}

/* A byte may become four, a line gets an id in front, and a refusal explains itself. */
static bool output_is_bounded(const struct stream *stream, const struct stream_run *run)
{
	const struct script *script = stream->script;
	return run->out.len <= 1024 + stream->in.len * 256 + script->given * 4;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t ncodecs = 0;
	while (codecs[ncodecs] && codecs[ncodecs]->decode) /* http, which has none, is the last */
		ncodecs++;
	if (size < HEADER)
		return 0;
	struct script script = {.seed = data[4]};
	struct stream stream = {
		.codec = codecs[data[0] % ncodecs],
		.in = {(const char *)data + HEADER, size - HEADER},
		.newest_first = data[1] & 0x80,
		.script = &script,
		.answer = answer,
	};
	void *conf = conf_of(stream.codec, data[1] & 0x40);
	const size_t pieces[] = {data[2] + 1U, data[3] + 1U}, one = 1;
	struct stream_run run;
	stream.conf = conf;
	stream.late = (data[1] & 0x3f) % stream.codec->max_inflight;
	stream_play(&stream, &run);
	if (!output_is_bounded(&stream, &run))
		abort();
	if (!stream_same(&stream, &run, pieces, 2))
		abort();
	if (stream.in.len <= 512 && !stream_same(&stream, &run, &one, 1))
		abort();
	stream_run_free(&run);
	free(conf);
	return 0;
}
