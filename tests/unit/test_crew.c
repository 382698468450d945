/* Tests of the crew: tasks run everywhere, one after the other; tables are exchanged under way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <time.h>

#include "config/config.h"
#include "engine/crew.h"

enum { WORKERS = 3 };

/* A configuration of one table, made by hand. */
struct edition {
	struct config config;
	struct table_conf table;
	_Atomic unsigned sets;
};

static const struct setting no_settings[] = {{.name = NULL}};

static bool open_well(struct table *table, struct error *error)
{
	(void)table;
	(void)error;
	return true;
}

static bool open_badly(struct table *table, struct error *error)
{
	(void)table;
	return error_set(error, "not today");
}

static const struct backend good = {.name = "good", .settings = no_settings, .open = open_well};
static const struct backend bad = {.name = "bad", .settings = no_settings, .open = open_badly};

static void edition_make(struct edition *edition, const struct backend *backend)
{
	*edition = (struct edition){.table = {.name = "t", .backend = backend}};
	edition->config.tables = &edition->table;
	edition->config.ntables = 1;
	edition->config.sets = &edition->sets;
}

static void crew_start(struct crew *crew, struct edition *edition)
{
	struct error error;
	edition_make(edition, &good);
	assert_true(crew_open(crew, WORKERS, &edition->config, &error));
	assert_true(crew_run(crew, &error));
	assert_int_equal(edition->sets, WORKERS);
}

static void crew_end(struct crew *crew)
{
	crew_stop(crew);
	crew_close(crew);
}

/* ---- tasks ---- */

struct visits {
	pthread_t threads[WORKERS];
	unsigned n[WORKERS]; /* plain: what a task writes is seen when crew_do() returns */
};

static void visit(struct worker *worker, size_t index, void *arg)
{
	struct visits *visits = arg;
	assert_true(worker_turn(worker)->entered);
	visits->threads[index] = pthread_self();
	visits->n[index]++;
}

static void tasks_run_everywhere(void **state)
{
	struct crew crew;
	struct edition edition;
	struct visits visits = {0};
	(void)state;
	crew_start(&crew, &edition);
	for (unsigned round = 1; round <= 1000; round++) {
		crew_do(&crew, visit, &visits);
		for (size_t i = 0; i < WORKERS; i++)
			assert_int_equal(visits.n[i], round);
	}
	for (size_t i = 0; i < WORKERS; i++)
		for (size_t j = 0; j <= i; j++)
			assert_int_equal(
				!!pthread_equal(visits.threads[i], visits.threads[j]), i == j);
	crew_end(&crew);
	assert_int_equal(edition.sets, 0);
}

/* ---- tables ---- */

struct exchange {
	const struct config *config;
	struct table_set *sets[WORKERS];
	struct error errors[WORKERS];
};

static void open_tables(struct worker *worker, size_t index, void *arg)
{
	struct exchange *exchange = arg;
	exchange->sets[index] =
		worker_open_tables(worker, exchange->config, &exchange->errors[index]);
}

static void use_tables(struct worker *worker, size_t index, void *arg)
{
	worker_use_tables(worker, ((struct exchange *)arg)->sets[index]);
}

static void drop_tables(struct worker *worker, size_t index, void *arg)
{
	worker_drop_tables(worker, ((struct exchange *)arg)->sets[index]);
}

/* As a connection does. */
static void keep_tables(struct worker *worker, size_t index, void *arg)
{
	struct exchange *exchange = arg;
	exchange->sets[index] = worker_tables(worker);
	table_set_keep(exchange->sets[index]);
}

static void leave_tables(struct worker *worker, size_t index, void *arg)
{
	(void)worker;
	table_set_leave(((struct exchange *)arg)->sets[index]);
}

/* Workers close tables after the turn. */
static void wait_for(_Atomic unsigned *sets, unsigned n)
{
	struct timespec ms = {0, 1000000};
	for (int i = 0; i < 10000 && *sets != n; i++)
		nanosleep(&ms, NULL);
	assert_int_equal(*sets, n);
}

static void old_tables_go_when_nobody_uses_them(void **state)
{
	struct crew crew;
	struct edition one, two;
	struct exchange user, exchange = {.config = &two.config};
	(void)state;
	crew_start(&crew, &one);
	edition_make(&two, &good);
	crew_do(&crew, keep_tables, &user);
	crew_do(&crew, open_tables, &exchange);
	assert_int_equal(two.sets, WORKERS);
	crew_do(&crew, use_tables, &exchange);
	for (size_t i = 0; i < WORKERS; i++)
		assert_ptr_equal(worker_tables(crew.workers[i])->tables[0].conf, &two.table);
	struct timespec moment = {0, 20000000};
	nanosleep(&moment, NULL);
	assert_int_equal(one.sets, WORKERS);
	crew_do(&crew, leave_tables, &user);
	wait_for(&one.sets, 0);
	assert_int_equal(two.sets, WORKERS);
	crew_end(&crew);
	assert_int_equal(two.sets, 0);
}

static void new_tables_can_be_dropped(void **state)
{
	struct crew crew;
	struct edition one, two, broken;
	struct exchange exchange = {.config = &two.config}, failing = {.config = &broken.config};
	(void)state;
	crew_start(&crew, &one);
	edition_make(&two, &good);
	edition_make(&broken, &bad);
	crew_do(&crew, open_tables, &exchange);
	crew_do(&crew, drop_tables, &exchange);
	wait_for(&two.sets, 0);
	crew_do(&crew, open_tables, &failing);
	for (size_t i = 0; i < WORKERS; i++) {
		assert_null(failing.sets[i]);
		assert_string_equal(failing.errors[i].text, "table t: not today");
	}
	assert_int_equal(broken.sets, 0);
	assert_int_equal(one.sets, WORKERS);
	crew_end(&crew);
}

/* What is still used when all ends goes with the workers. */
static void the_end_takes_all(void **state)
{
	struct crew crew;
	struct edition one, two;
	struct exchange user, exchange = {.config = &two.config};
	(void)state;
	crew_start(&crew, &one);
	edition_make(&two, &good);
	crew_do(&crew, keep_tables, &user);
	crew_do(&crew, open_tables, &exchange);
	crew_do(&crew, use_tables, &exchange);
	crew_end(&crew);
	assert_int_equal(one.sets, 0);
	assert_int_equal(two.sets, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tasks_run_everywhere),
		cmocka_unit_test(old_tables_go_when_nobody_uses_them),
		cmocka_unit_test(new_tables_can_be_dropped),
		cmocka_unit_test(the_end_takes_all),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
