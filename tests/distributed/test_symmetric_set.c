/*
 * The symmetric sets of a matrix against naive products in float64, on every grid, held in both ways, with hosts as
 * they are and hosts of few ranks. A float32 sum of k products of numbers below 1 is within k² ε of the exact one, and
 * here well below.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "dist/symmetric_set.h"
#include "matrices.h"

typedef struct {
  eqs_symmetric_set_choice choice;
  int host_ranks; /* 0: as they are */
} arrangement;

static const arrangement arrangements[] = {
    {EQS_SYMMETRIC_SET_AS_PREDICTED, 0}, {EQS_SYMMETRIC_SET_REPLICATED, 0},  {EQS_SYMMETRIC_SET_REPLICATED, 1},
    {EQS_SYMMETRIC_SET_REPLICATED, 2},   {EQS_SYMMETRIC_SET_DISTRIBUTED, 0},
};

static double element(int64_t i, int64_t j)
{
  return test_uniform(7, (uint64_t)(i * 100003 + j)) - 0.5;
}

/* Everything in float64: X (m×n) with its Gram matrix of order k. */
typedef struct {
  int64_t m, n, k, l;
  eqs_operation op;
  double *x, *gram;
} reference;

static reference make_reference(int64_t m, int64_t n, eqs_operation op)
{
  reference r = {m, n, op == EQS_AS_IS ? m : n, op == EQS_AS_IS ? n : m, op, test_numbers(m, n), NULL};
  for (int64_t i = 0; i < m; i++)
    for (int64_t j = 0; j < n; j++) r.x[i * n + j] = (float)element(i, j);
  double *transposed = test_transpose(r.x, m, n);
  r.gram = op == EQS_AS_IS ? test_multiply(r.x, transposed, m, n, m) : test_multiply(transposed, r.x, n, m, n);
  free(transposed);
  return r;
}

static void free_reference(reference *r)
{
  free(r->x);
  free(r->gram);
}

/* X <- X square or square X, through the interface and in float64, must agree to `limit` of the largest element. */
static void check_applied(const reference *r, eqs_symmetric_set *set, eqs_matrix *x, int q, const double *square,
                          double limit, const char *what)
{
  double dot, expected_dot = 0, largest = 0;
  double *expected = r->op == EQS_AS_IS ? test_multiply(square, r->x, r->k, r->k, r->n)
                                        : test_multiply(r->x, square, r->m, r->k, r->k);
  ck_assert_ok(eqs_symmetric_set_apply(set, 2, q, &dot));
  ck_assert_ok(eqs_symmetric_set_close(&set));
  double *found = test_collect(x);
  for (int64_t i = 0; i < r->m * r->n; i++) {
    expected[i] *= 2;
    expected_dot += expected[i] * r->x[i];
    largest = fmax(largest, fabs(expected[i]));
  }
  double difference = test_largest_difference(found, expected, r->m * r->n);
  ck_assert_msg(difference <= limit * largest, "%s: %lldx%lld on %dx%d: off by %g of %g", what, (long long)r->m,
                (long long)r->n, x->grid->rows, x->grid->cols, difference, largest);
  ck_assert_double_eq_tol(dot, expected_dot, limit * largest * (double)(r->m * r->n));
  free(found);
  free(expected);
}

static eqs_symmetric_set *open_set(const reference *r, const eqs_grid *grid, eqs_matrix *x)
{
  eqs_symmetric_set *set;
  ck_assert_ok(eqs_matrix_create(grid, r->m, r->n, 5, 3, EQS_ELEMENT_FLOAT, x));
  test_spread(r->x, x);
  ck_assert_ok(eqs_symmetric_set_open(x, r->op, 4, &set));
  return set;
}

/* G/2 + 3I; its norm. */
static void check_gram(const reference *r, const eqs_grid *grid)
{
  eqs_matrix x;
  eqs_symmetric_set *set = open_set(r, grid, &x);
  double *expected = test_numbers(r->k, r->k), norm, expected_norm = 0;
  for (int64_t i = 0; i < r->k * r->k; i++) {
    expected[i] = r->gram[i] / 2 + (i % (r->k + 1) == 0 ? 3 : 0);
    expected_norm += expected[i] * expected[i];
  }
  ck_assert_ok(eqs_symmetric_set_gram(set, 0.5, 3, 1));
  ck_assert_ok(eqs_symmetric_set_norm(set, 1, &norm));
  ck_assert_double_eq_tol(norm, sqrt(expected_norm), 1e-6 * sqrt(expected_norm));
  check_applied(r, set, &x, 1, expected, 2e-6, "Gram matrix");
  free(expected);
  eqs_matrix_destroy(&x);
}

/* With S = G/l: T = 2 S S - S + 4I by halves; R = S T whole; U = Rᵀ T = T S T by halves; -U/2 + T + I. */
static void check_products(const reference *r, const eqs_grid *grid)
{
  enum { S, T, R, U };
  eqs_matrix x;
  eqs_symmetric_set *set = open_set(r, grid, &x);
  int64_t k = r->k, count = k * k;
  double *s = test_numbers(k, k);
  for (int64_t i = 0; i < count; i++) s[i] = r->gram[i] / (double)r->l;
  double *t = test_multiply(s, s, k, k, k);
  for (int64_t i = 0; i < count; i++) t[i] = 2 * t[i] - s[i] + (i % (k + 1) == 0 ? 4 : 0);
  double *product = test_multiply(s, t, k, k, k), *u = test_multiply(t, product, k, k, k);
  for (int64_t i = 0; i < count; i++) u[i] = -u[i] / 2 + t[i] + (i % (k + 1) == 0 ? 1 : 0);
  ck_assert_ok(eqs_symmetric_set_gram(set, 1 / (double)r->l, 0, S));
  ck_assert_ok(eqs_symmetric_set_multiply(set, 2, S, S, -1, S, 4, T));
  ck_assert_ok(eqs_symmetric_set_multiply_whole(set, S, T, R));
  ck_assert_ok(eqs_symmetric_set_multiply(set, 1, R, T, 0, -1, 0, U));
  ck_assert_ok(eqs_symmetric_set_combine(set, -0.5, U, T, 1, U));
  check_applied(r, set, &x, U, u, 1e-5, "products");
  free(s);
  free(t);
  free(product);
  free(u);
  eqs_matrix_destroy(&x);
}

static void check_shapes(const eqs_grid *grid)
{
  static const int64_t shapes[][2] = {{1, 1}, {1, 6}, {7, 30}, {33, 33}, {48, 70}, {100, 130}};
  for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
    for (int way = 0; way < 2; way++) {
      int64_t m = shapes[i][way], n = shapes[i][1 - way];
      if (m == n && way == 1) continue;
      reference r = make_reference(m, n, m < n ? EQS_AS_IS : EQS_TRANSPOSED);
      check_gram(&r, grid);
      check_products(&r, grid);
      free_reference(&r);
    }
  }
}

START_TEST(products_on_every_grid)
{
  const arrangement *how = &arrangements[_i];
  eqs_grid_cache *cache;
  test_grid_shape shapes[test_max_grids];
  int count = test_grids(shapes);
  eqs_symmetric_set_choose(how->choice);
  eqs_team_set_host_ranks(how->host_ranks);
  ck_assert_ok(eqs_grid_cache_create(MPI_COMM_WORLD, &cache));
  for (int g = 0; g < count; g++) {
    const eqs_grid *grid;
    ck_assert_ok(eqs_grid_get(cache, shapes[g].first, shapes[g].rows, shapes[g].cols, &grid));
    if (eqs_grid_member(grid)) check_shapes(grid);
  }
  eqs_grid_cache_destroy(&cache);
  eqs_symmetric_set_choose(EQS_SYMMETRIC_SET_AS_PREDICTED);
  eqs_team_set_host_ranks(0);
}
END_TEST

/* Few ranks share the work by halves; many, with matrices that are large beside it, spread the set too. */
START_TEST(predicted_choice)
{
  eqs_grid few = {.rows = 2, .cols = 2}, many = {.rows = 64, .cols = 64}, along = {.rows = 4096, .cols = 1};
  ck_assert(eqs_symmetric_set_replicated(&few, EQS_AS_IS, 4096, 4096));
  ck_assert(!eqs_symmetric_set_replicated(&many, EQS_AS_IS, 4096, 4096));
  ck_assert(eqs_symmetric_set_replicated(&along, EQS_TRANSPOSED, 1024, 1 << 20));
  ck_assert_double_lt(eqs_symmetric_set_seconds(&eqs_built_in_speeds, false, 4096, 8192),
                      eqs_symmetric_set_seconds(&eqs_built_in_speeds, true, 4096, 8192));
  ck_assert_double_lt(eqs_symmetric_set_seconds(&eqs_built_in_speeds, true, 4, 1024),
                      eqs_symmetric_set_seconds(&eqs_built_in_speeds, false, 4, 1024));
}
END_TEST

/* Shares of the lower triangle: rows up to n √(p/P), so that each has the same area to a step of rows. */
START_TEST(panels_have_equal_areas)
{
  eqs_team team = {.ranks = 7};
  for (int64_t n = 1; n < 5000; n = n * 3 + 1) {
    ck_assert_int_eq(eqs_team_first_row(&team, n, 16, 0), 0);
    ck_assert_int_eq(eqs_team_first_row(&team, n, 16, 7), n);
    for (int p = 0; p < 7; p++) {
      int64_t first = eqs_team_first_row(&team, n, 16, p), end = eqs_team_first_row(&team, n, 16, p + 1);
      double area = 0.5 * ((double)end * (double)end - (double)first * (double)first);
      ck_assert_int_le(first, end);
      ck_assert_double_le(fabs(area - 0.5 * (double)n * (double)n / 7), 16.0 * (double)n + 256);
    }
  }
}
END_TEST

Suite *make_suite(void)
{
  Suite *suite = suite_create("symmetric_set");
  TCase *tests = tcase_create("symmetric_set");
  tcase_add_loop_test(tests, products_on_every_grid, 0, sizeof arrangements / sizeof arrangements[0]);
  tcase_add_test(tests, predicted_choice);
  tcase_add_test(tests, panels_have_equal_areas);
  tcase_set_timeout(tests, 0);
  suite_add_tcase(suite, tests);
  return suite;
}
