/* Tests of a worker's figures: buckets, sums, results, errors; what a query leaves in them. */
#include "late.h"
#include "tables.h"

#include "../../backends/list.h"
#include "model/codec.h"
#include "model/stats.h"

/* Each end belongs to its bucket, and what is beyond all of them to the last. */
static void buckets_include_their_end(void **state)
{
	(void)state;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		struct histogram histogram = {0};
		histogram_add(&histogram, bucket_ends_us[i]);
		assert_int_equal(histogram.buckets[i], 1);
		histogram_add(&histogram, bucket_ends_us[i] + 1);
		assert_int_equal(histogram.buckets[i + 1], 1);
		assert_int_equal(histogram.sum_us, 2 * (uint64_t)bucket_ends_us[i] + 1);
		assert_int_equal(histogram_count(&histogram), 2);
	}
	assert_int_equal(bucket_ends_us[0], 100);
	assert_int_equal(bucket_ends_us[HISTOGRAM_BUCKETS - 1], 30000000);
}

static void histograms_add_up(void **state)
{
	struct histogram one = {0}, two = {0};
	(void)state;
	histogram_add(&one, 0);
	histogram_add(&one, 200);
	histogram_add(&two, 200);
	histogram_add(&two, 1000000000);
	histogram_merge(&one, &two);
	assert_int_equal(one.buckets[0], 1);
	assert_int_equal(one.buckets[1], 2);
	assert_int_equal(one.buckets[HISTOGRAM_BUCKETS], 1);
	assert_int_equal(one.sum_us, 1000000400);
	assert_int_equal(histogram_count(&one), 4);
}

/* Who was not measured was answered at once. */
static void all_answers_have_a_duration(void **state)
{
	struct traffic traffic = {.results = {[ST_OK] = 5, [RESULT_UNCERTAIN] = 2}};
	struct histogram all;
	(void)state;
	histogram_add(&traffic.took, 3000);
	traffic_durations(&traffic, &all);
	assert_int_equal(histogram_count(&all), 7);
	assert_int_equal(all.buckets[0], 6);
	assert_int_equal(all.sum_us, 3000);
	struct traffic sum = {.results = {[ST_OK] = 1}};
	traffic_merge(&sum, &traffic);
	assert_int_equal(sum.results[ST_OK], 6);
	assert_int_equal(sum.results[RESULT_UNCERTAIN], 2);
	assert_int_equal(histogram_count(&sum.took), 1);
}

static void results_have_names(void **state)
{
	const struct answer lost = {.status = ST_TEMP, .uncertain = true},
			    temp = {.status = ST_TEMP};
	(void)state;
	assert_string_equal(result_name(result_of(&lost)), "uncertain");
	assert_string_equal(result_name(result_of(&temp)), "temp");
}

/* The same words from different places are one error. */
static void errors_are_counted_by_their_words(void **state)
{
	struct error_counts counts = {0}, sum = {0};
	char word[] = "too_long";
	(void)state;
	errors_add(&counts, "dict", "too_long", 1);
	errors_add(&counts, "dict", word, 2);
	errors_add(&counts, "socketmap", "too_long", 1);
	errors_add(&counts, "dict", "nul", 1);
	assert_int_equal(counts.n, 3);
	assert_int_equal(counts.errors[0].n, 3);
	for (size_t i = 0; i < counts.n; i++)
		errors_add(&sum, counts.errors[i].protocol, counts.errors[i].reason,
			counts.errors[i].n);
	assert_memory_equal(&counts, &sum, sizeof(sum));
}

static void protocols_have_numbers(void **state)
{
	(void)state;
	for (unsigned i = 0; codecs[i]; i++)
		assert_int_equal(codec_index(codecs[i]), i);
}

/* ---- what a query leaves ---- */

static int set_up(void **state)
{
	struct stand *stand = memory_new(sizeof(*stand));
	stand_init(stand);
	if (!stand_add(stand, "late", &backend_late, NULL) ||
		!stand_add(stand, "now", &backend_static, "param", "key=value", NULL))
		return -1;
	stand_open(stand);
	*state = stand;
	return 0;
}

static int tear_down(void **state)
{
	struct stand *stand = *state;
	stand_close(stand);
	free(stand);
	return 0;
}

/* Asks the late table and lets so many milliseconds pass before it answers. */
static void answer_late(struct stand *stand, unsigned ms, enum status status)
{
	stand_run(stand); /* a new turn: the clock is read again */
	struct asked *asked = ask_start(stand, "late", lookup_of("key"));
	assert_int_equal(stand_table(stand, "late")->inflight, 1);
	stand_pass(stand, ms);
	turn_enter(&stand->turn);
	if (status == ST_TEMP)
		query_temp(late_take(stand, "late"), "no");
	else
		query_notfound(late_take(stand, "late"));
	turn_leave(&stand->turn);
	assert_int_equal(asked->dones, 1);
	assert_int_equal(stand_table(stand, "late")->inflight, 0);
	ask_free(asked);
}

static void a_late_answer_is_measured(void **state)
{
	struct stand *stand = *state;
	struct table *table = stand_table(stand, "late");
	answer_late(stand, 7, ST_NOTFOUND);
	answer_late(stand, 20, ST_NOTFOUND);
	assert_int_equal(table->took.sum_us, 27000);
	assert_int_equal(table->took.buckets[6], 1); /* up to 10 ms */
	assert_int_equal(table->took.buckets[7], 1); /* up to 25 ms */
}

static void an_answer_at_once_is_not(void **state)
{
	struct stand *stand = *state;
	struct asked *asked = ask_start(stand, "now", lookup_of("key"));
	stand_run(stand);
	assert_int_equal(asked->query.answer.status, ST_OK);
	assert_int_equal(asked->query.began_us, 0);
	assert_int_equal(histogram_count(&stand_table(stand, "now")->took), 0);
	ask_free(asked);
}

static void failures_in_a_row_are_counted(void **state)
{
	struct stand *stand = *state;
	const struct table *table = stand_table(stand, "late");
	answer_late(stand, 1, ST_TEMP);
	answer_late(stand, 1, ST_TEMP);
	assert_int_equal(table->failures, 2);
	assert_int_equal(table->failed_ms, stand_now);
	answer_late(stand, 1, ST_NOTFOUND);
	assert_int_equal(table->failures, 0);
}

/* A reload: what was counted goes to the heir. */
static void traffic_goes_to_the_heir(void **state)
{
	struct stand *stand = *state;
	struct table_set heir;
	answer_late(stand, 7, ST_NOTFOUND);
	table_traffic(stand_table(stand, "late"), 1)->results[ST_OK] = 3;
	assert_true(table_set_open(
		&heir, stand->confs, stand->n, NULL, &stand->turn, &stand->set, &stand->error));
	table_set_take_stats(&heir, &stand->set);
	table_set_take_stats(&heir, &stand->set);
	const struct table *late = table_set_find(&heir, STR("late"));
	assert_int_equal(late->traffic[1]->results[ST_OK], 3);
	assert_null(late->traffic[0]);
	assert_int_equal(histogram_count(&late->took), 1);
	assert_int_equal(late->took.sum_us, 7000);
	table_set_close(&heir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(buckets_include_their_end),
		cmocka_unit_test(histograms_add_up),
		cmocka_unit_test(all_answers_have_a_duration),
		cmocka_unit_test(results_have_names),
		cmocka_unit_test(errors_are_counted_by_their_words),
		cmocka_unit_test(protocols_have_numbers),
		cmocka_unit_test_setup_teardown(a_late_answer_is_measured, set_up, tear_down),
		cmocka_unit_test_setup_teardown(an_answer_at_once_is_not, set_up, tear_down),
		cmocka_unit_test_setup_teardown(failures_in_a_row_are_counted, set_up, tear_down),
		cmocka_unit_test_setup_teardown(traffic_goes_to_the_heir, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
