/* Moving a matrix between any two grids and block sizes loses and changes nothing. */
#include <math.h>

#include "dist/redistribute.h"
#include "matrices.h"

static eqs_grid_cache *cache;

static void open_cache(void)
{
  ck_assert_ok(eqs_grid_cache_create(MPI_COMM_WORLD, &cache));
}

static void close_cache(void)
{
  eqs_grid_cache_destroy(&cache);
}

/* Its place, exact in float32. */
static double element(int64_t i, int64_t j)
{
  return (double)(i * 1000 + j);
}

static double not_a_number(int64_t i, int64_t j)
{
  (void)i, (void)j;
  return NAN;
}

static void check_elements(const eqs_matrix *matrix)
{
  const eqs_distribution *distribution = &matrix->distribution;
  for (int64_t i = 0; i < matrix->local_rows; i++)
    for (int64_t j = 0; j < matrix->local_cols; j++) {
      int64_t place = i * matrix->local_cols + j;
      double found = matrix->element == EQS_ELEMENT_FLOAT ? eqs_floats(matrix)[place] : eqs_doubles(matrix)[place];
      ck_assert(found ==
                element(eqs_global_index(i, distribution->row_block, matrix->grid->row, distribution->grid_rows),
                        eqs_global_index(j, distribution->col_block, matrix->grid->col, distribution->grid_cols)));
    }
}

static const eqs_grid *grid_of(const test_grid_shape *shape)
{
  const eqs_grid *grid;
  ck_assert_ok(eqs_grid_get(cache, shape->first, shape->rows, shape->cols, &grid));
  return grid;
}

static void check_move(const eqs_grid *from_grid, const eqs_grid *to_grid, int64_t rows, int64_t cols, int kind)
{
  eqs_element from_type = kind & 1 ? EQS_ELEMENT_DOUBLE : EQS_ELEMENT_FLOAT;
  eqs_element to_type = kind & 2 ? EQS_ELEMENT_DOUBLE : EQS_ELEMENT_FLOAT;
  eqs_matrix from, to;
  ck_assert_ok(eqs_matrix_create(from_grid, rows, cols, 2, 5, from_type, &from));
  ck_assert_ok(eqs_matrix_create(to_grid, rows, cols, kind < 2 ? 4 : rows, 3, to_type, &to));
  test_fill(&from, element);
  test_fill(&to, not_a_number);
  ck_assert_ok(eqs_matrix_redistribute(MPI_COMM_WORLD, &from, &to));
  check_elements(&to);
  check_elements(&from);
  eqs_matrix_destroy(&from);
  eqs_matrix_destroy(&to);
}

START_TEST(from_every_grid_to_every_grid)
{
  static const int64_t sizes[][2] = {{13, 21}, {1, 9}, {9, 1}, {40, 24}};
  test_grid_shape shapes[test_max_grids];
  int count = test_grids(shapes);
  for (int from = 0; from < count; from++)
    for (int to = 0; to < count; to++)
      for (int s = 0; s < 4; s++)
        check_move(grid_of(&shapes[from]), grid_of(&shapes[to]), sizes[s][0], sizes[s][1], (from + to + s) % 4);
}
END_TEST

START_TEST(another_shape_is_refused)
{
  const eqs_grid *grid = grid_of(&(test_grid_shape){0, 1, 1});
  eqs_matrix from, to;
  ck_assert_ok(eqs_matrix_create(grid, 2, 3, 1, 1, EQS_ELEMENT_FLOAT, &from));
  ck_assert_ok(eqs_matrix_create(grid, 3, 2, 1, 1, EQS_ELEMENT_FLOAT, &to));
  ck_assert_int_eq(eqs_matrix_redistribute(MPI_COMM_WORLD, &from, &to), EQS_USAGE);
  eqs_matrix_destroy(&from);
  eqs_matrix_destroy(&to);
}
END_TEST

Suite *make_suite(void)
{
  Suite *suite = suite_create("redistribute");
  TCase *tests = tcase_create("redistribute");
  tcase_add_checked_fixture(tests, open_cache, close_cache);
  tcase_add_test(tests, from_every_grid_to_every_grid);
  tcase_add_test(tests, another_shape_is_refused);
  tcase_set_timeout(tests, 0);
  suite_add_tcase(suite, tests);
  return suite;
}
