/* Tests of the dialog without a socket: what it has to say, taken in pieces. */
#include "late.h"

#include "conn/dialog.h"
#include "front/fronts.h"
#include "stream.h"

enum { LARGE = 8 << 20, PIECE = 4096 };

static void on_answers(struct dialog *dialog)
{
	(void)dialog;
}

static void say(struct stand *stand, struct dialog *dialog, const char *text)
{
	turn_enter(&stand->turn);
	assert_int_equal(dialog_read(dialog, str_of(text)), strlen(text));
	turn_leave(&stand->turn);
}

static void answer_large(struct stand *stand)
{
	struct query *query = late_take(stand, "late");
	char *value = arena_alloc(query->mem, LARGE);
	for (size_t i = 0; i < LARGE; i++)
		value[i] = (char)('a' + i % 26);
	query_ok(query, (struct str){value, LARGE});
	stand_run(stand);
}

/* Else a slow reader of a large answer would cost the others as much time as the square of its length. */
static void the_rest_of_a_large_answer_is_hardly_moved(void **state)
{
	(void)state;
	struct stand stand;
	struct dialog_home home;
	struct dialog dialog;
	stand_init(&stand);
	assert_true(stand_add(&stand, "late", &backend_late, NULL));
	stand_open(&stand);
	struct listen_conf conf = {.codec = &codec_dict,
		.address_text = "test",
		.conf = stream_default_conf(&codec_dict)};
	void *session = memory_new(codec_dict.session_size);
	dialog_home_open(&home, &conf, &stand.turn, &stand.set, "test");
	dialog_open(&dialog, &home, session, on_answers);
	say(&stand, &dialog, "H2\t0\t0\t\tlate\nLshared/large\n");
	answer_large(&stand);

	unsigned moved = 0;
	size_t total = 0;
	const char *expected = dialog_unsent(&dialog).ptr;
	while (dialog.out.len > 0) {
		struct str unsent = dialog_unsent(&dialog);
		size_t n = unsent.len < PIECE ? unsent.len : PIECE;
		moved += unsent.ptr != expected;
		assert_int_equal(unsent.ptr[0], total == 0 ? 'O' : 'a' + (total - 1) % 26);
		expected = unsent.ptr + n;
		total += n;
		dialog_sent(&dialog, n);
	}
	assert_int_equal(total, LARGE + 2);
	assert_true(moved < 30);

	dialog_close(&dialog);
	dialog_home_close(&home);
	free(session);
	free(conf.conf);
	stand_close(&stand);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_rest_of_a_large_answer_is_hardly_moved),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
