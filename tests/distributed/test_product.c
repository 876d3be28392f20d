/* Products and eigenvalues of distributed matrices against naive loops in float64. */
#include <dlfcn.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "dist/eigen.h"
#include "dist/product.h"
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

static double element_a(int64_t i, int64_t j)
{
  return test_uniform(1, (uint64_t)(i * 1000 + j));
}

static double element_b(int64_t i, int64_t j)
{
  return test_uniform(2, (uint64_t)(i * 1000 + j));
}

static double not_a_number(int64_t i, int64_t j)
{
  (void)i, (void)j;
  return NAN;
}

/* op(a) as stored: rows × cols or cols × rows. */
static void create_operand(const eqs_grid *grid, eqs_operation op, int64_t rows, int64_t cols, eqs_element type,
                           test_element *element, eqs_matrix *matrix, double **whole)
{
  int64_t stored_rows = op == EQS_AS_IS ? rows : cols, stored_cols = op == EQS_AS_IS ? cols : rows;
  ck_assert_ok(eqs_matrix_create(grid, stored_rows, stored_cols, 3, 5, type, matrix));
  test_fill(matrix, element);
  double *stored = test_collect(matrix);
  if (op == EQS_AS_IS) {
    *whole = stored;
  } else {
    *whole = test_transpose(stored, stored_rows, stored_cols);
    free(stored);
  }
}

/* |error| of a sum of k products of numbers below 1: k ε k at most, in practice far less; twice for alpha. */
static double tolerance(eqs_element type, int64_t k)
{
  return 4 * (double)(k + 1) * (type == EQS_ELEMENT_FLOAT ? FLT_EPSILON : DBL_EPSILON);
}

static void check_product(const eqs_grid *grid, eqs_operation op_a, eqs_operation op_b, int64_t m, int64_t k, int64_t n,
                          eqs_element type, double beta)
{
  eqs_matrix a, b, c;
  double *whole_a, *whole_b;
  create_operand(grid, op_a, m, k, type, element_a, &a, &whole_a);
  create_operand(grid, op_b, k, n, type, element_b, &b, &whole_b);
  ck_assert_ok(eqs_matrix_create(grid, m, n, 4, 2, type, &c));
  test_fill(&c, beta == 0 ? not_a_number : element_b);
  double *expected = test_multiply(whole_a, whole_b, m, k, n);
  for (int64_t i = 0; i < m; i++)
    for (int64_t j = 0; j < n; j++)
      expected[i * n + j] = 1.5 * expected[i * n + j] + (beta == 0 ? 0 : beta * element_b(i, j));
  double flops = test_counts()->flops;
  ck_assert_ok(eqs_multiply(1.5, op_a, &a, op_b, &b, beta, &c));
  ck_assert_double_eq_tol(test_counts()->flops - flops, 2.0 * (double)(m * n * k) / (grid->rows * grid->cols), 1e-3);
  double *found = test_collect(&c);
  ck_assert_at_most(test_largest_difference(found, expected, m * n), tolerance(type, k));
  free(whole_a);
  free(whole_b);
  free(expected);
  free(found);
  eqs_matrix_destroy(&a);
  eqs_matrix_destroy(&b);
  eqs_matrix_destroy(&c);
}

static void for_each_grid(void (*check)(const eqs_grid *))
{
  test_grid_shape shapes[test_max_grids];
  int count = test_grids(shapes);
  for (int g = 0; g < count; g++) {
    const eqs_grid *grid;
    ck_assert_ok(eqs_grid_get(cache, shapes[g].first, shapes[g].rows, shapes[g].cols, &grid));
    if (eqs_grid_member(grid)) check(grid);
  }
}

static void check_products(const eqs_grid *grid)
{
  static const int64_t sizes[][3] = {{13, 17, 11}, {1, 9, 20}, {20, 9, 1}, {1, 1, 1}, {40, 1, 24}, {3, 50, 2}};
  for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
    for (int ops = 0; ops < 4; ops++) {
      if (grid->comm != MPI_COMM_NULL && (s + (size_t)ops) % 2) continue; /* all on one rank, half of them elsewhere */
      eqs_operation op_a = ops & 1 ? EQS_TRANSPOSED : EQS_AS_IS, op_b = ops & 2 ? EQS_TRANSPOSED : EQS_AS_IS;
      eqs_element type = (s + (size_t)ops / 2) % 2 ? EQS_ELEMENT_DOUBLE : EQS_ELEMENT_FLOAT;
      check_product(grid, op_a, op_b, sizes[s][0], sizes[s][1], sizes[s][2], type, ops & 1 ? -0.5 : 0);
    }
}

START_TEST(products_of_all_shapes_and_operations)
{
  for_each_grid(check_products);
}
END_TEST

static void check_gram(const eqs_grid *grid, int64_t m, int64_t n, eqs_operation op, eqs_element type)
{
  eqs_matrix a, c;
  double *whole, *transposed;
  create_operand(grid, op, m, n, type, element_a, &a, &whole);
  transposed = test_transpose(whole, m, n);
  double *expected = test_multiply(whole, transposed, m, n, m);
  ck_assert_ok(eqs_matrix_create(grid, m, m, 4, 4, type, &c));
  test_fill(&c, not_a_number);
  ck_assert_ok(eqs_gram(1, op, &a, &c));
  double *found = test_collect(&c);
  ck_assert_at_most(test_largest_difference(found, expected, m * m), tolerance(type, n));
  bool mirrored = grid->comm == MPI_COMM_NULL && m >= 128; /* half is computed; elsewhere both halves round */
  for (int64_t i = 0; mirrored && i < m; i++)
    for (int64_t j = 0; j < i; j++) ck_assert(found[i * m + j] == found[j * m + i]);
  free(whole);
  free(transposed);
  free(expected);
  free(found);
  eqs_matrix_destroy(&a);
  eqs_matrix_destroy(&c);
}

static void check_grams(const eqs_grid *grid)
{
  static const int64_t sizes[][2] = {{13, 30}, {1, 7}, {9, 1}, {130, 20}, {129, 3}}; /* 130: half of the product */
  for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
    for (int op = EQS_AS_IS; op <= EQS_TRANSPOSED; op++)
      check_gram(grid, sizes[s][0], sizes[s][1], (eqs_operation)op, s % 2 ? EQS_ELEMENT_DOUBLE : EQS_ELEMENT_FLOAT);
}

START_TEST(gram_matrices_are_whole_and_symmetric)
{
  for_each_grid(check_grams);
}
END_TEST

/* A V = V Λ, VᵀV = I, Λ ascending; within n ε ||A||. */
static void check_eigen(const eqs_grid *grid, int64_t n, int64_t block, bool deficient)
{
  eqs_matrix a, vectors;
  double *values = test_numbers(n, 1), *random = test_numbers(n, n), norm = 1;
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < n; j++)
      random[i * n + j] = deficient ? (double)(i % 2 == j % 2) : element_a(i, j) + element_a(j, i);
  for (int64_t i = 0; i < n * n; i++) norm += random[i] * random[i];
  norm = sqrt(norm);
  ck_assert_ok(eqs_matrix_create(grid, n, n, block, block, EQS_ELEMENT_DOUBLE, &a));
  ck_assert_ok(eqs_matrix_create_like(&a, EQS_ELEMENT_DOUBLE, &vectors));
  test_spread(random, &a);
  ck_assert_ok(eqs_symmetric_eigen(&a, values, &vectors));
  double *V = test_collect(&vectors), *Vt = test_transpose(V, n, n);
  double *AV = test_multiply(random, V, n, n, n), *VtV = test_multiply(Vt, V, n, n, n);
  double *VL = test_numbers(n, n), *I = test_numbers(n, n);
  for (int64_t i = 0; i < n; i++) {
    I[i * n + i] = 1;
    for (int64_t j = 0; j < n; j++) VL[i * n + j] = V[i * n + j] * values[j];
    if (i > 0) ck_assert(values[i] >= values[i - 1]);
  }
  double limit = 10 * (double)n * DBL_EPSILON;
  ck_assert_at_most(test_largest_difference(AV, VL, n * n), limit * norm);
  ck_assert_at_most(test_largest_difference(VtV, I, n * n), limit);
  double *all[] = {values, random, V, Vt, AV, VtV, VL, I};
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) free(all[i]);
  eqs_matrix_destroy(&a);
  eqs_matrix_destroy(&vectors);
}

static void check_eigens(const eqs_grid *grid)
{
  static const int64_t sizes[][2] = {{1, 1}, {2, 1}, {3, 2}, {5, 64}, {7, 1}, {24, 4}, {70, 64}};
  for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) check_eigen(grid, sizes[s][0], sizes[s][1], s % 2);
}

START_TEST(eigenvalues_and_vectors)
{
  for_each_grid(check_eigens);
}
END_TEST

START_TEST(shapes_that_do_not_fit_are_refused)
{
  const eqs_grid *grid;
  eqs_matrix a, c;
  ck_assert_ok(eqs_grid_get(cache, 0, 1, 1, &grid));
  if (!eqs_grid_member(grid)) return;
  ck_assert_ok(eqs_matrix_create(grid, 2, 3, 1, 1, EQS_ELEMENT_FLOAT, &a));
  ck_assert_ok(eqs_matrix_create(grid, 2, 2, 1, 1, EQS_ELEMENT_FLOAT, &c));
  ck_assert_int_eq(eqs_multiply(1, EQS_AS_IS, &a, EQS_AS_IS, &a, 0, &c), EQS_FAILED);
  eqs_matrix_destroy(&a);
  eqs_matrix_destroy(&c);
}
END_TEST

/* What libscalapack's search for PBLAS's panel width finds is ours, which answers 256; its own answers 32. */
START_TEST(wide_panels)
{
  int (*width)(const int *, const char *);
  void *found = dlsym(RTLD_DEFAULT, "pilaenv_");
  int context = 0;
  ck_assert_ptr_nonnull(found);
  memcpy(&width, &found, sizeof width);
  ck_assert_int_eq(width(&context, "S"), 256);
}
END_TEST

Suite *make_suite(void)
{
  Suite *suite = suite_create("product");
  TCase *tests = tcase_create("product");
  tcase_add_checked_fixture(tests, open_cache, close_cache);
  tcase_add_test(tests, products_of_all_shapes_and_operations);
  tcase_add_test(tests, gram_matrices_are_whole_and_symmetric);
  tcase_add_test(tests, eigenvalues_and_vectors);
  tcase_add_test(tests, shapes_that_do_not_fit_are_refused);
  tcase_add_test(tests, wide_panels);
  tcase_set_timeout(tests, 0);
  suite_add_tcase(suite, tests);
  return suite;
}
