/* Tests of the dict front end as Dovecot hears it: random mixtures of operations, of all versions of the
 * protocol, over tables that answer everything, late, never or at once; a strict client reads each line. */
#include "late.h"

#include "../../backends/list.h"
#include "base/log.h"
#include "conn/dialog.h"
#include "dict_model.h"
#include "front/fronts.h"
#include "stream.h"

enum {
	CLIENTS = 3,
	ROUNDS = 150, /* of each version */
	STEPS = 450,  /* of a round */
	MAX_OPEN = 4, /* transactions of a client */
	ROWS = 5,
	MARK = sizeof(((struct model_command *)0)->mark),
	TIMEOUT_MS = 40,
};

static const struct version {
	unsigned major, minor;
} versions[] = {{2, 0}, {2, 1}, {2, 2}, {3, 2}, {4, 0}};

/* ---- chance that is always the same ---- */

static uint64_t seed, dice;

static unsigned pick(unsigned n)
{
	dice = dice * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(dice >> 33) % n;
}

static bool one_in(unsigned n)
{
	return pick(n) == 0;
}

/* ---- clients ---- */

struct open_transaction {
	unsigned number;
	bool adds;
	char word[MARK]; /* of its first change, with which its table answers */
};

struct client {
	struct dialog dialog;
	void *session;
	struct model model;
	struct buf in;   /* not yet read by the server */
	struct buf line; /* of its words, unfinished */
	bool late;       /* its table answers when the test says so */
	bool broken;     /* it has sent what is not the protocol: no more replies follow */
	bool left;
	struct open_transaction open[MAX_OPEN];
	size_t nopen;
	unsigned number, words;
};

struct scene {
	struct stand stand;
	struct listen_conf conf;
	struct dialog_home home;
	struct client clients[CLIENTS];
};

static void on_answers(struct dialog *dialog)
{
	(void)dialog; /* move() looks after each step */
}

static void client_open(struct scene *scene, struct client *client, const struct version *version)
{
	*client = (struct client){.model = {.major = version->major, .minor = version->minor},
		.in.max = 1 << 20,
		.line.max = 1 << 20,
		.late = pick(3) > 0};
	client->session = memory_new(codec_dict.session_size);
	dialog_open(&client->dialog, &scene->home, client->session, on_answers);
	buf_printf(&client->in, "H%u\t%u\t0\t%s\t%s\n", version->major, version->minor,
		version->major == 2 ? "alice" : "", client->late ? "late" : "store");
}

static void client_close(struct client *client)
{
	dialog_close(&client->dialog);
	free(client->session);
	buf_free(&client->in);
	buf_free(&client->line);
	arena_clear(&client->model.mem);
}

static void hear(struct client *client, struct str bytes)
{
	for (size_t i = 0; i < bytes.len; i++) {
		if (bytes.ptr[i] != '\n') {
			buf_add_char(&client->line, bytes.ptr[i]);
			continue;
		}
		const char *fault = model_line(&client->model, buf_str(&client->line));
		if (fault)
			fail_msg("version %u.%u, seed %u: %s: %.*s", client->model.major,
				client->model.minor, (unsigned)seed, fault, (int)client->line.len,
				client->line.ptr);
		buf_reset(&client->line);
	}
}

/* What conn.c does between a socket and a dialog, `piece` bytes at a time. */
static void move(struct scene *scene, struct client *client, size_t piece)
{
	struct dialog *dialog = &client->dialog;
	turn_enter(&scene->stand.turn);
	if (dialog_may_read(dialog) && client->in.len > 0 && !client->left) {
		size_t n = piece < client->in.len ? piece : client->in.len;
		buf_consume(&client->in, dialog_read(dialog, (struct str){client->in.ptr, n}));
	}
	turn_leave(&scene->stand.turn);
	stand_run(&scene->stand);
	struct str unsent = dialog_unsent(dialog);
	if (unsent.len > 0 && one_in(3)) /* the socket is full */
		unsent.len = pick((unsigned)unsent.len);
	if (!client->left)
		hear(client, unsent);
	if (dialog->out.ptr)
		dialog_sent(dialog, unsent.len);
}

/* ---- what a client says ---- */

/* The part of a key that is the question's own. Those of the store are few, so that they are found. */
static void pick_word(struct client *client, char word[MARK])
{
	if (client->late)
		snprintf(word, MARK, "k%u", client->words++);
	else
		snprintf(word, MARK, "s%u", pick(6));
}

/* Nearly always a good one. */
static const char *pick_scope(void)
{
	static const char *const bad[] = {"nonsense/", "", "shared/a\0010"};
	if (one_in(7))
		return bad[pick(3)];
	return one_in(2) ? "shared/" : "priv/";
}

static void say_user(struct client *client)
{
	if (client->model.major > 2 && !one_in(12))
		buf_add(&client->in, one_in(12) ? STR("\t") : STR("\talice"));
}

static void end_line(struct client *client)
{
	buf_add(&client->in, one_in(20) ? STR("\r\n") : STR("\n"));
}

static void expect(struct client *client, struct model_command *command, const char word[MARK])
{
	if (client->late) /* who tells the word in what it answers */
		memcpy(command->mark, word, MARK);
	model_expect(&client->model, command);
}

static void look_up(struct client *client)
{
	struct model_command command = {.kind = MODEL_LOOKUP};
	char word[MARK];
	pick_word(client, word);
	buf_printf(&client->in, "L%s%s", pick_scope(), word);
	say_user(client);
	end_line(client);
	expect(client, &command, word);
}

static void iterate(struct client *client)
{
	struct model_command command = {
		.kind = MODEL_ITERATE, .flags = pick(64), .max_rows = one_in(2) ? 0 : pick(4)};
	bool exact = command.flags & ITER_EXACT_KEY;
	char word[MARK];
	pick_word(client, word);
	snprintf(command.path, sizeof(command.path), "%s%s%s", pick_scope(),
		exact || client->late ? word : "", !exact && client->late ? "/" : "");
	buf_printf(&client->in, "I%u\t%u\t%s", command.flags, (unsigned)command.max_rows,
		command.path);
	say_user(client);
	end_line(client);
	expect(client, &command, word);
}

static void begin(struct client *client)
{
	struct open_transaction *open = &client->open[client->nopen++];
	*open = (struct open_transaction){.number = ++client->number};
	buf_printf(&client->in, "B%u", open->number);
	if (client->model.major == 4 && one_in(6))
		buf_add(&client->in, STR("\talice\t60"));
	else
		say_user(client);
	end_line(client);
}

static void change(struct client *client, struct open_transaction *open)
{
	char word[MARK], letter = "SSUAAATVP"[pick(9)];
	if ((letter == 'V' && client->model.major == 2) ||
		(letter == 'P' && client->model.major > 2))
		letter = 'S';
	buf_printf(&client->in, "%c%u\t", letter, open->number);
	if (letter == 'T' || letter == 'V') {
		buf_add(&client->in, letter == 'T' ? STR("1700000000\t1") : STR("yes"));
	} else {
		open->adds |= letter == 'A';
		pick_word(client, word);
		buf_printf(&client->in, "%s%s", pick_scope(), word);
		if (open->word[0] == '\0')
			memcpy(open->word, word, MARK);
		if (letter == 'A')
			buf_printf(&client->in, "\t%d", (int)pick(9) - 4);
		else if (letter != 'U')
			buf_printf(&client->in, "\t%s", one_in(2) ? "7" : "a\001tb\001n\0011");
	}
	end_line(client);
}

static void finish_transaction(struct client *client, size_t at)
{
	struct open_transaction open = client->open[at];
	struct model_command command = {.kind = MODEL_COMMIT, .adds = open.adds};
	client->open[at] = client->open[--client->nopen];
	command.old_letter = client->model.major < 4 && one_in(8);
	char letter = one_in(8) ? 'R' : command.old_letter ? 'D' : 'C';
	buf_printf(&client->in, "%c%u", letter, open.number);
	end_line(client);
	if (letter == 'R')
		return;
	snprintf(command.transaction, sizeof(command.transaction), "%u", open.number);
	expect(client, &command, open.word);
}

static void say_nonsense(struct client *client)
{
	static const char *const lines[] = {"", "Zwhat", "S99999\tshared/a\tv", "C0", "I0\t0", "Bx",
		"H3\t2\t0\t\tlate", "\001"};
	buf_printf(&client->in, "%s\n", lines[pick(8)]);
	client->broken = true;
}

static void say(struct client *client)
{
	if (client->broken || client->left || client->model.npending > MODEL_PENDING / 2)
		return;
	unsigned what = pick(100);
	if (what < 30)
		look_up(client);
	else if (what < 50)
		iterate(client);
	else if (what < 65 && client->nopen < MAX_OPEN)
		begin(client);
	else if (what < 85 && client->nopen > 0)
		change(client, &client->open[pick((unsigned)client->nopen)]);
	else if (what < 99 && client->nopen > 0)
		finish_transaction(client, pick((unsigned)client->nopen));
	else if (what == 99 && one_in(3))
		say_nonsense(client);
}

/* ---- what the late table says ---- */

/* It begins with the word of the question. */
static struct str text_of(const struct query *query, const char *rest)
{
	const struct question *ask = query->ask;
	struct str key = ask->op == OP_CHANGE ? ask->changes[0].key : ask->key, word;
	str_cut(&key, '/', &word);
	return arena_printf(query->mem, "%.*s:%s", (int)word.len, word.ptr, rest);
}

static struct str value_of(const struct query *query)
{
	static const char *const odd[] = {
		"v", "", "two\nlines", "a\tTAB", "\1", "cr\rin it", "cr\r"};
	struct str value = text_of(query, odd[pick(7)]);
	if (one_in(30))
		value.len = 0;
	else if (one_in(30))
		value = STR("a\0b");
	else if (one_in(30))
		value = STR("{\"nopassword\":false}");
	return value;
}

static struct str name_of(const struct query *query, size_t at)
{
	const struct question *ask = query->ask;
	const char *deeper = ask->flags & ITER_RECURSE && one_in(3) ? "deeper/" : "";
	if (one_in(40))
		return one_in(2) ? STR("stray") : STR("\0");
	if (ask->flags & ITER_EXACT_KEY)
		return ask->key;
	return arena_printf(query->mem, "%.*s%s%zu\t", (int)ask->key.len,
		ask->key.len ? ask->key.ptr : "", deeper, at);
}

static void answer_ok(struct query *query)
{
	const struct question *ask = query->ask;
	struct pair *rows = arena_alloc(query->mem, ROWS * sizeof(*rows));
	struct answer answer = {.status = ST_OK, .rows = rows};
	if (ask->op == OP_LOOKUP)
		answer.nrows = one_in(4) ? pick(ROWS) : 1;
	else if (ask->op == OP_ITERATE)
		answer.nrows = pick(ROWS);
	if (ask->max_rows > 0 && answer.nrows > ask->max_rows)
		answer.nrows = (size_t)ask->max_rows;
	for (size_t i = 0; i < answer.nrows; i++) {
		rows[i].value = value_of(query);
		if (ask->op == OP_ITERATE)
			rows[i].name = name_of(query, i);
	}
	query_finish(query, &answer);
}

static void answer_late(struct query *query)
{
	bool change = query->ask->op == OP_CHANGE;
	struct answer answer = {.status = ST_TEMP, .why = text_of(query, "a\treason\nwith\1all")};
	switch (pick(8)) {
	case 0:
		query_notfound(query);
		return;
	case 1:
		answer.status = ST_PERM;
		break;
	case 2:
		answer.uncertain = change;
		break;
	case 3:
		answer.broken = true;
		break;
	case 4:
		answer.why = STR("");
		break;
	default:
		answer_ok(query);
		return;
	}
	query_finish(query, &answer);
}

/* One of those that wait, in any order. */
static void answer_some(struct stand *stand)
{
	struct late *late = late_of(stand, "late");
	struct wait *wait = TAILQ_FIRST(&late->waiting);
	for (unsigned skip = pick(4); skip > 0 && wait && TAILQ_NEXT(wait, link); skip--)
		wait = TAILQ_NEXT(wait, link);
	if (!wait)
		return;
	TAILQ_REMOVE(&late->waiting, wait, link);
	answer_late(wait->query);
	stand_run(stand);
}

/* ---- rounds ---- */

static void scene_open(struct scene *scene)
{
	stand_init(&scene->stand);
	assert_true(stand_add(&scene->stand, "late", &backend_late, "timeout", "40ms", NULL));
	assert_true(stand_add(&scene->stand, "store", &backend_memory, NULL));
	stand_open(&scene->stand);
	scene->conf = (struct listen_conf){.codec = &codec_dict,
		.address_text = "test",
		.conf = stream_default_conf(&codec_dict)};
	dialog_home_open(&scene->home, &scene->conf, &scene->stand.turn, &scene->stand.set, "test");
}

static void scene_close(struct scene *scene)
{
	for (size_t i = 0; i < CLIENTS; i++)
		client_close(&scene->clients[i]);
	dialog_home_close(&scene->home);
	free(scene->conf.conf);
	stand_close(&scene->stand);
}

static void leave(struct client *client)
{
	client->left = true;
	dialog_abandon(&client->dialog);
}

static void step(struct scene *scene)
{
	struct client *client = &scene->clients[pick(CLIENTS)];
	say(client);
	if (one_in(2))
		answer_some(&scene->stand);
	if (one_in(400))
		stand_pass(&scene->stand, TIMEOUT_MS);
	if (one_in(500) && !client->left)
		leave(client);
	move(scene, client, 1 + pick(120));
}

static bool is_quiet(struct scene *scene)
{
	size_t n = 0;
	for (size_t i = 0; i < CLIENTS; i++)
		n += scene->clients[i].model.npending;
	return n == 0 && !late_waits(&scene->stand, "late");
}

/* All that was asked is answered, or runs out of time. */
static void settle(struct scene *scene)
{
	for (unsigned i = 0; i < 30 * STEPS; i++) {
		struct client *client = &scene->clients[i % CLIENTS];
		if (!one_in(50))
			answer_some(&scene->stand);
		else if (one_in(5))
			stand_pass(&scene->stand, TIMEOUT_MS);
		move(scene, client, 4096);
		if (i % CLIENTS == 0 && is_quiet(scene))
			return;
	}
}

static void play(const struct version *version, unsigned heard[MODEL_KINDS][128])
{
	struct scene scene = {0};
	dice = seed;
	scene_open(&scene);
	for (size_t i = 0; i < CLIENTS; i++)
		client_open(&scene, &scene.clients[i], version);
	for (unsigned i = 0; i < STEPS; i++)
		step(&scene);
	settle(&scene);
	for (size_t i = 0; i < CLIENTS; i++) {
		const struct client *client = &scene.clients[i];
		for (size_t at = 0; at < MODEL_KINDS * 128; at++)
			heard[at / 128][at % 128] += client->model.heard[at / 128][at % 128];
		if (client->left)
			continue;
		assert_int_equal(client->model.npending, 0);
		assert_int_equal(client->line.len, 0);
		assert_int_equal(client->dialog.ended, client->broken);
	}
	scene_close(&scene);
}

/* And each reply that there is came up. */
static void no_mixture_is_told_what_dovecot_must_not_get(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
		unsigned heard[MODEL_KINDS][128] = {0};
		for (seed = 1; seed <= ROUNDS; seed++)
			play(&versions[i], heard);
		static const char *const all[] = {"ONF", "OF", "ONFW"};
		for (unsigned kind = 0; kind < MODEL_KINDS; kind++)
			for (const char *letter = all[kind]; *letter; letter++)
				assert_true(heard[kind][(unsigned char)*letter] > 10);
		assert_true(heard[MODEL_ITERATE][0] > 10);
		bool many = versions[i].major > 2 || versions[i].minor >= 2;
		assert_int_equal(heard[MODEL_LOOKUP]['M'] > 10, many);
	}
}

/* ---- the client itself ---- */

static const struct {
	const char *command; /* L, I, U or A (a commit of an unset, an increment), D, or several */
	const char *lines;   /* what the server says */
	const char *fault;   /* NULL: it may */
} said[] = {
	{"L", "*1\n+1\tO\n", NULL},
	{"L", "*1\n+1\tOk:v\n", NULL},
	{"L", "*1\n+1\tMone\001ttwo\n", NULL},
	{"L", "*1\n+1\tFk:why\n", NULL},
	{"I", "*1\n+1\tOshared/p/a\tv\n+1\t\n", NULL},
	{"I", "*1\n+1\tFaway\n", NULL},
	{"A", "*1\n+1\tN1\n", NULL},
	{"U", "*1\n+1\tW1\twho knows\n", NULL},
	{"LL", "*7\n*3\n+3\tN\n+7\tN\n", NULL},

	{"L", "*1\n+1\tW\n", "no reply to a lookup: ends a process of 2.3"},
	{"L", "*1\n+1\t\n", "no reply to a lookup: ends a process of 2.3"},
	{"L", "*1\n+1\tX\n", "no reply to a lookup: ends a process of 2.3"},
	{"L", "*1\n+1\tM\n", "no values: ends an auth-worker of 2.3"},
	{"L", "*1\n+1\tMone\ttwo\n", "more than one field to a lookup"},
	{"L", "*1\n+1\tOv\t1\t2\t3\t4\n", "more fields than any reply has"},
	{"L", "*1\n+1\tOv\t1\n", "more than one field to a lookup"},
	{"L", "*1\n+1\tF\n", "a failure without a reason"},
	{"L", "*1\n+1\tOa\0010b\n", "an escape or a byte that this version does not know"},
	{"L", "*1\n+1\tOkother:v\n", "the value of another lookup"},
	{"L", "*1\n+1\tN\n+1\tN\n", "a reply that nobody waits for"},
	{"LL", "*1\n+1\tN\n+1\tN\n", "an id that was not announced"},
	{"LL", "*1\n*1\n", "an id twice"},
	{"L", "*1\n*2\n", "an id for nothing"},
	{"L", "*0\n", "an id that is none"},
	{"L", "+1\tN\n", "an id that was not announced"},
	{"L", "N\n", "a reply without a number among those with numbers"},
	{"LL", "*1\n+1\tN\nN\n", "a reply without a number among those with numbers"},
	{"I", "*1\n+1\tN\n", "no reply to an iteration: ends a process of 2.3"},
	{"I", "*1\n+1\tO\n", "a row without a TAB: ends a process of 2.3"},
	{"I", "*1\n+1\tOshared/p/a\n", "a row without a TAB: ends a process of 2.3"},
	{"I", "*1\n+1\tOa\tv\n", "a row outside of the path: ends a process of 2.3"},
	{"I", "*1\n+1\tOshared/p/a/b\tv\n", "a row from deeper than was asked for"},
	{"I", "*1\n+1\tOshared/p/a\tv\t1\n", "a row with more than a name and a value"},
	{"I", "*1\n+1\tOshared/p/a\tv\n+1\tOshared/p/b\tv\n+1\tOshared/p/c\tv\n",
		"more rows than were asked for"},
	{"I", "*1\n+1\t\n+1\t\n", "a reply that nobody waits for"},
	{"I", "*1\n+1\t\t1\n", "more than one field at the end of an iteration"},
	{"U", "*1\n+1\tN1\n", "not found, where nothing was to be incremented"},
	{"U", "*1\n+1\tO2\n", "the number of another transaction"},
	{"U", "*1\n+1\tX1\n", "no reply to a commit: ends a process of 2.3"},
	{"U", "*1\n+1\tAO1\n", "no reply to a commit: ends a process of 2.3"},
	{"U", "*1\n+1\tF1\n", "a failure's reason is the second field"},
	{"U", "*1\n+1\tF1why\n", "the number of another transaction"},
	{"D", "*1\n+1\tO1\n", "a reply to D without its A"},
};

static const char *say_all(struct model *model, const char *lines)
{
	struct str rest = str_of(lines), line;
	const char *fault = NULL;
	while (!fault && rest.len > 0) {
		str_cut(&rest, '\n', &line);
		fault = model_line(model, line);
	}
	return fault;
}

static void the_client_is_strict(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(said) / sizeof(said[0]); i++) {
		struct model model = {.major = 3, .minor = 2};
		for (const char *letter = said[i].command; *letter; letter++) {
			struct model_command command = {.kind = *letter == 'L'   ? MODEL_LOOKUP
								: *letter == 'I' ? MODEL_ITERATE
										 : MODEL_COMMIT,
				.old_letter = *letter == 'D',
				.adds = *letter == 'A',
				.max_rows = 2,
				.transaction = "1",
				.path = "shared/p/",
				.mark = "k"};
			model_expect(&model, &command);
		}
		const char *fault = say_all(&model, said[i].lines);
		if (strcmp(fault ? fault : "", said[i].fault ? said[i].fault : "") != 0)
			fail_msg("%s: %s", said[i].lines, fault ? fault : "good");
		arena_clear(&model.mem);
	}
}

/* 2.0 knows no numbers, and no escape of a CR. */
static void the_old_client_is_strict(void **state)
{
	(void)state;
	static const char *const lines[][2] = {
		{"Ov\n", NULL},
		{"*1\n", "no reply to a lookup: ends a process of 2.3"},
		{"Mone\001ttwo\n", "several values for who knows of one only"},
		{"Ov\001r\n", "an escape or a byte that this version does not know"},
		{"Ov\r\n", "a CR that is lost before the line's end"},
	};
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		struct model model = {.major = 2, .minor = 0};
		model_expect(&model, &(struct model_command){.kind = MODEL_LOOKUP});
		const char *fault = say_all(&model, lines[i][0]);
		assert_string_equal(fault ? fault : "-", lines[i][1] ? lines[i][1] : "-");
		arena_clear(&model.mem);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_client_is_strict),
		cmocka_unit_test(the_old_client_is_strict),
		cmocka_unit_test(no_mixture_is_told_what_dovecot_must_not_get),
	};
	log_open(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT, LOG_TO_STDERR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
