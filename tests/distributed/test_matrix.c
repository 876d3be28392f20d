/* Element-wise work and sums on every grid, against the same on a replicated copy. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

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

static double element_x(int64_t i, int64_t j)
{
  return (float)test_uniform(1, (uint64_t)(i * 1000 + j));
}

static double element_y(int64_t i, int64_t j)
{
  return (float)test_uniform(2, (uint64_t)(i * 1000 + j));
}

typedef struct {
  eqs_matrix x, y;
  double *whole_x, *whole_y;
  int64_t rows, cols;
  double epsilon; /* of the element type */
} pair;

static pair create_pair(const eqs_grid *grid, int64_t rows, int64_t cols, eqs_element type)
{
  pair p = {.rows = rows, .cols = cols, .epsilon = type == EQS_ELEMENT_FLOAT ? FLT_EPSILON : DBL_EPSILON};
  ck_assert_ok(eqs_matrix_create(grid, rows, cols, 3, 2, type, &p.x));
  ck_assert_ok(eqs_matrix_create_like(&p.x, type, &p.y));
  test_fill(&p.x, element_x);
  test_fill(&p.y, element_y);
  p.whole_x = test_collect(&p.x);
  p.whole_y = test_collect(&p.y);
  return p;
}

static void destroy_pair(pair *p)
{
  eqs_matrix_destroy(&p->x);
  eqs_matrix_destroy(&p->x); /* twice is safe */
  eqs_matrix_destroy(&p->y);
  free(p->whole_x);
  free(p->whole_y);
}

static void for_each_case(void (*check)(pair *))
{
  static const int64_t sizes[][2] = {{13, 11}, {1, 17}, {17, 1}, {1, 1}, {2, 40}, {40, 24}};
  test_grid_shape shapes[test_max_grids];
  int count = test_grids(shapes);
  for (int g = 0; g < count; g++) {
    const eqs_grid *grid;
    ck_assert_ok(eqs_grid_get(cache, shapes[g].first, shapes[g].rows, shapes[g].cols, &grid));
    for (size_t s = 0; eqs_grid_member(grid) && s < sizeof sizes / sizeof sizes[0]; s++) {
      pair p = create_pair(grid, sizes[s][0], sizes[s][1], s % 2 ? EQS_ELEMENT_DOUBLE : EQS_ELEMENT_FLOAT);
      check(&p);
      destroy_pair(&p);
    }
  }
}

/* The matrix holds the expected numbers, rounded to its type; `expected` is freed. */
static void check_whole(const pair *p, const eqs_matrix *matrix, double *expected)
{
  double *found = test_collect(matrix);
  ck_assert_at_most(test_largest_difference(found, expected, p->rows * p->cols), 4 * p->epsilon);
  free(found);
  free(expected);
}

static void check_elementwise(pair *p)
{
  int64_t size = p->rows * p->cols;
  double *expected = test_numbers(p->rows, p->cols);
  for (int64_t i = 0; i < size; i++) expected[i] = 0.5 * p->whole_x[i] - 0.75 * p->whole_y[i];
  eqs_matrix_combine(0.5, &p->x, -0.75, &p->y);
  check_whole(p, &p->y, expected);

  for (int64_t i = 0; i < p->y.local_rows * p->y.local_cols; i++) { /* b = 0 does not read y */
    if (p->y.element == EQS_ELEMENT_FLOAT)
      eqs_floats(&p->y)[i] = NAN;
    else
      eqs_doubles(&p->y)[i] = NAN;
  }
  expected = test_numbers(p->rows, p->cols);
  for (int64_t i = 0; i < size; i++) expected[i] = 2 * p->whole_x[i];
  eqs_matrix_combine(2, &p->x, 0, &p->y);
  check_whole(p, &p->y, expected);

  expected = test_numbers(p->rows, p->cols);
  for (int64_t i = 0; i < size; i++) expected[i] = 2 * p->whole_x[i];
  for (int64_t i = 0; i < p->rows && i < p->cols; i++) expected[i * p->cols + i] += 0.25;
  eqs_matrix_scale(&p->x, 2);
  eqs_matrix_add_identity(&p->x, 0.25);
  check_whole(p, &p->x, expected);
}

START_TEST(elementwise)
{
  for_each_case(check_elementwise);
}
END_TEST

static void check_sums(pair *p)
{
  int64_t size = p->rows * p->cols;
  double dot = 0, squares = 0, found;
  for (int64_t i = 0; i < size; i++) {
    dot += p->whole_x[i] * p->whole_y[i];
    squares += p->whole_x[i] * p->whole_x[i];
  }
  ck_assert_ok(eqs_matrix_dot(&p->x, &p->y, &found));
  ck_assert_double_eq_tol(found, dot, 1e-12 * (double)size); /* float64 whatever the elements are */
  ck_assert_ok(eqs_matrix_norm(&p->x, &found));
  ck_assert_double_eq_tol(found, sqrt(squares), 1e-12 * (double)size);
}

START_TEST(sums_in_float64)
{
  for_each_case(check_sums);
}
END_TEST

static void check_rows(pair *p)
{
  double *sums = test_numbers(p->x.local_rows, 1), *expected = test_numbers(p->rows, p->cols);
  ck_assert_ok(eqs_matrix_row_squares(&p->x, sums));
  for (int64_t i = 0; i < p->x.local_rows; i++) {
    int64_t row = eqs_global_index(i, 3, p->x.grid->row, p->x.grid->rows);
    double squares = 0;
    for (int64_t j = 0; j < p->cols; j++) squares += p->whole_x[row * p->cols + j] * p->whole_x[row * p->cols + j];
    ck_assert_double_eq_tol(sums[i], squares, 1e-12 * (double)p->cols);
    sums[i] = (double)row + 1;
  }
  for (int64_t i = 0; i < p->rows; i++)
    for (int64_t j = 0; j < p->cols; j++) expected[i * p->cols + j] = (double)(i + 1) * p->whole_x[i * p->cols + j];
  eqs_matrix_scale_rows(&p->x, sums);
  double *found = test_collect(&p->x);
  ck_assert_at_most(test_largest_difference(found, expected, p->rows * p->cols), (double)p->rows * p->epsilon);
  free(found);
  free(sums);
  free(expected);
}

START_TEST(rows)
{
  for_each_case(check_rows);
}
END_TEST

static void check_center(pair *p)
{
  double *expected = test_numbers(p->rows, p->cols);
  for (int64_t j = 0; j < p->cols; j++) {
    double mean = 0;
    for (int64_t i = 0; i < p->rows; i++) mean += p->whole_x[i * p->cols + j] / (double)p->rows;
    for (int64_t i = 0; i < p->rows; i++) expected[i * p->cols + j] = p->whole_x[i * p->cols + j] - mean;
  }
  ck_assert_ok(eqs_matrix_center(&p->x));
  check_whole(p, &p->x, expected);
}

START_TEST(centering)
{
  for_each_case(check_center);
}
END_TEST

/* float -> double -> float is the identity; entries whose squares leave float32 have norms. */
static void check_conversion(pair *p)
{
  eqs_matrix other;
  eqs_element type = p->x.element == EQS_ELEMENT_FLOAT ? EQS_ELEMENT_DOUBLE : EQS_ELEMENT_FLOAT;
  ck_assert_ok(eqs_matrix_create_like(&p->x, type, &other));
  eqs_matrix_copy(&p->x, &other);
  eqs_matrix_scale(&p->x, 0);
  eqs_matrix_copy(&other, &p->x);
  double *found = test_collect(&p->x), norm, large;
  ck_assert(test_largest_difference(found, p->whole_x, p->rows * p->cols) == 0);
  ck_assert_ok(eqs_matrix_norm(&p->x, &norm));
  eqs_matrix_scale(&p->x, 1e30);
  ck_assert_ok(eqs_matrix_norm(&p->x, &large));
  ck_assert_double_eq_tol(large, 1e30 * norm, 1e24 * norm);
  free(found);
  eqs_matrix_destroy(&other);
}

START_TEST(conversion)
{
  for_each_case(check_conversion);
}
END_TEST

START_TEST(wrong_sizes_are_refused)
{
  const eqs_grid *grid;
  eqs_matrix matrix = {0};
  ck_assert_ok(eqs_grid_get(cache, 0, 1, 1, &grid));
  ck_assert_int_eq(eqs_matrix_create(grid, -1, 1, 1, 1, EQS_ELEMENT_FLOAT, &matrix), EQS_USAGE);
  ck_assert_int_eq(eqs_matrix_create(grid, 1, 1, 0, 1, EQS_ELEMENT_FLOAT, &matrix), EQS_USAGE);
  if (eqs_grid_member(grid))
    ck_assert_int_ne(eqs_matrix_create(grid, INT64_C(1) << 40, INT64_C(1) << 40, 1, 1, EQS_ELEMENT_FLOAT, &matrix),
                     EQS_OK);
  eqs_matrix_destroy(&matrix); /* zeroed: nothing to free */
}
END_TEST

Suite *make_suite(void)
{
  Suite *suite = suite_create("matrix");
  TCase *tests = tcase_create("matrix");
  tcase_add_checked_fixture(tests, open_cache, close_cache);
  tcase_add_test(tests, elementwise);
  tcase_add_test(tests, sums_in_float64);
  tcase_add_test(tests, rows);
  tcase_add_test(tests, centering);
  tcase_add_test(tests, conversion);
  tcase_add_test(tests, wrong_sizes_are_refused);
  tcase_set_timeout(tests, 0);
  suite_add_tcase(suite, tests);
  return suite;
}
