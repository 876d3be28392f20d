/* Process grids: who is where, caching, and that communicators are given back. */
#include "dist/grid.h"
#include "matrices.h"

static eqs_grid_cache *cache;

static void open_cache(void)
{
  ck_assert_ok(eqs_grid_cache_create(MPI_COMM_WORLD, &cache));
}

static void close_cache(void)
{
  eqs_grid_cache_destroy(&cache);
  ck_assert_ptr_null(cache);
}

static int rank_in(MPI_Comm comm)
{
  int rank;
  MPI_Comm_rank(comm, &rank);
  return rank;
}

static int size_of(MPI_Comm comm)
{
  int size;
  MPI_Comm_size(comm, &size);
  return size;
}

void Cblacs_gridinfo(int context, int *rows, int *cols, int *row, int *col);

static void check_members(const eqs_grid *grid)
{
  int rows, cols, row, col;
  ck_assert_int_eq(rank_in(grid->comm), grid->row * grid->cols + grid->col);
  ck_assert_int_eq(size_of(grid->comm), grid->rows * grid->cols);
  ck_assert_int_eq(rank_in(grid->row_comm), grid->col);
  ck_assert_int_eq(size_of(grid->row_comm), grid->cols);
  ck_assert_int_eq(rank_in(grid->col_comm), grid->row);
  ck_assert_int_eq(size_of(grid->col_comm), grid->rows);
  Cblacs_gridinfo(grid->context, &rows, &cols, &row, &col);
  ck_assert(rows == grid->cols && cols == grid->rows && row == grid->col && col == grid->row);
}

START_TEST(every_rank_has_its_place)
{
  test_grid_shape shapes[test_max_grids];
  int count = test_grids(shapes);
  for (int g = 0; g < count; g++) {
    const test_grid_shape *shape = &shapes[g];
    int position = test_rank() - shape->first, members = shape->rows * shape->cols;
    bool member = position >= 0 && position < members;
    const eqs_grid *grid;
    ck_assert_ok(eqs_grid_get(cache, shape->first, shape->rows, shape->cols, &grid));
    ck_assert(eqs_grid_member(grid) == member);
    ck_assert_int_eq(grid->row, member ? position / shape->cols : -1);
    ck_assert_int_eq(grid->col, member ? position % shape->cols : -1);
    if (member && members > 1) {
      check_members(grid);
    } else {
      ck_assert(grid->comm == MPI_COMM_NULL && grid->row_comm == MPI_COMM_NULL && grid->col_comm == MPI_COMM_NULL);
      ck_assert_int_eq(grid->context, -1);
    }
  }
}
END_TEST

START_TEST(the_same_grid_is_made_once)
{
  const eqs_grid *first, *again, *other;
  ck_assert_ok(eqs_grid_get(cache, 0, test_size(), 1, &first));
  ck_assert_ok(eqs_grid_get(cache, 0, 1, 1, &other));
  ck_assert_ok(eqs_grid_get(cache, 0, test_size(), 1, &again));
  ck_assert_ptr_eq(first, again);
  if (test_size() > 1) ck_assert_ptr_ne(first, other);
}
END_TEST

/* Overlapping grids, each made by its members only: 0-1, 1-2, 2-3, ... */
START_TEST(only_members_need_to_call)
{
  for (int first = 0; first + 1 < test_size(); first++) {
    if (test_rank() != first && test_rank() != first + 1) continue;
    const eqs_grid *grid;
    ck_assert_ok(eqs_grid_get(cache, first, 1, 2, &grid));
    check_members(grid);
  }
}
END_TEST

START_TEST(grids_that_do_not_fit_are_refused)
{
  const eqs_grid *grid;
  ck_assert_int_eq(eqs_grid_get(cache, 1, 1, test_size(), &grid), EQS_USAGE);
  ck_assert_int_eq(eqs_grid_get(cache, -1, 1, 1, &grid), EQS_USAGE);
  ck_assert_int_eq(eqs_grid_get(cache, 0, 0, 1, &grid), EQS_USAGE);
  ck_assert_int_eq(eqs_grid_get(cache, 0, 1 << 20, 1 << 20, &grid), EQS_USAGE);
}
END_TEST

int Csys2blacs_handle(MPI_Comm comm);
void Cfree_blacs_system_handle(int handle);

/*
 * What is taken of the tables of communicators (Open MPI's, where a new one takes the lowest free place: the last of
 * many copies is after all places that are not free) and of BLACS's system contexts.
 */
typedef struct {
  MPI_Fint communicators;
  int system_contexts;
} tables;

static tables measure_tables(void)
{
  enum { many = 64 };
  MPI_Comm copies[many];
  for (int i = 0; i < many; i++) MPI_Comm_dup(MPI_COMM_SELF, &copies[i]);
  tables taken = {MPI_Comm_c2f(copies[many - 1]), Csys2blacs_handle(copies[0])};
  Cfree_blacs_system_handle(taken.system_contexts);
  for (int i = 0; i < many; i++) MPI_Comm_free(&copies[i]);
  return taken;
}

START_TEST(communicators_are_given_back)
{
  tables before = {0}, after;
  int context = -1;
  for (int round = 0; round < 30; round++) {
    eqs_grid_cache *some;
    const eqs_grid *tall, *wide;
    ck_assert_ok(eqs_grid_cache_create(MPI_COMM_WORLD, &some));
    ck_assert_ok(eqs_grid_get(some, 0, test_size(), 1, &tall));
    ck_assert_ok(eqs_grid_get(some, 0, 1, test_size(), &wide));
    if (round == 0) context = wide->context;
    ck_assert_int_eq(wide->context, context);
    eqs_grid_cache_destroy(&some);
    if (round == 0) before = measure_tables(); /* what BLACS keeps from its first use on is not counted */
  }
  after = measure_tables();
  ck_assert_int_eq(after.communicators, before.communicators);
  ck_assert_int_eq(after.system_contexts, before.system_contexts);
}
END_TEST

Suite *make_suite(void)
{
  Suite *suite = suite_create("grid");
  TCase *tests = tcase_create("grid");
  tcase_add_checked_fixture(tests, open_cache, close_cache);
  tcase_add_test(tests, every_rank_has_its_place);
  tcase_add_test(tests, the_same_grid_is_made_once);
  tcase_add_test(tests, only_members_need_to_call);
  tcase_add_test(tests, grids_that_do_not_fit_are_refused);
  tcase_add_test(tests, communicators_are_given_back);
  tcase_set_timeout(tests, 0);
  suite_add_tcase(suite, tests);
  return suite;
}
