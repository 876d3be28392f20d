/*
 * Polar factors of all solvers against the exact factor. In the basis of the singular vectors a solver's factor is
 * diag(p(σ_i/s)) for the composed polynomial p, so its distance from the exact factor is max |1 - p(x)| over the
 * interval from σ_min/s to σ_max/s, which theory gives: computed here in float64 on a fine mesh, to which comes the
 * float32 error, 1e-4 (NUMERICS: up to condition 10). Here ‖QᵀUV - I‖₂ is bounded by its largest diagonal element and
 * the Frobenius norm of the rest.
 */
#include <math.h>
#include <stdlib.h>

#include "distributed/matrices.h"
#include "equivariance/tensors.h"
#include "polar/polar.h"

static const double largest = 3, float32_error = 1e-4;

/* x <- p_K(...p_1(x)) */
static double apply_polynomials(eqs_solver solver, int steps, double x)
{
  const eqs_polar_options options = {.solver = solver};
  for (int step = 0; step < steps; step++) {
    double p[3];
    eqs_solver_coefficients(&options, step, p);
    x = p[0] * x + p[1] * x * x * x + p[2] * pow(x, 5);
  }
  return x;
}

/* By the project's table of solvers, for the singular values of the test; ε is nothing beside them. */
static double normalisation(eqs_solver solver, int64_t k, double condition)
{
  double squares = 0, fourth_powers = 0;
  for (int64_t i = 0; i < k; i++) {
    double value = largest * pow(condition, -(double)i / (double)(k - 1));
    squares += value * value;
    fourth_powers += pow(value, 4);
  }
  switch (solver) {
  case EQS_NEWTON_SCHULZ: return sqrt(sqrt(fourth_powers));
  case EQS_POLAR_EXPRESS: return sqrt(1.02 * sqrt(fourth_powers) + 1e-8);
  case EQS_POLAR_EXPRESS_5: return 1.02 * sqrt(squares);
  default: return sqrt(squares);
  }
}

/* max |1 - p(x)| for σ_min/s <= x <= σ_max/s. */
static double deviation(eqs_solver solver, int steps, double s, double condition)
{
  enum { mesh = 20000 };
  double most = 0;
  for (int i = 0; i <= mesh; i++)
    most = fmax(most, fabs(1 - apply_polynomials(solver, steps, largest / s * pow(condition, -(double)i / mesh))));
  return most;
}

/* The factor of rotate(diag(σ)) by a solver on a grid, rotated back: it is near the identity. To be freed. */
static double *factor_in_basis(const eqs_grid *grid, const eqs_polar_options *options, int64_t m, int64_t n,
                               double condition)
{
  test_tensor tensor = {EQS_LAYOUT_ROW, 0, m, n, 0};
  eqs_matrix x;
  double *whole = test_make_tensor(&tensor, 3, largest, condition, INT64_MAX);
  ck_assert_ok(eqs_matrix_create(grid, m, n, 5, 3, EQS_ELEMENT_FLOAT, &x));
  test_spread(whole, &x);
  ck_assert_ok(eqs_polar(options, &x, NULL));
  double *factor = test_collect(&x);
  eqs_matrix_destroy(&x);

  /* PI, Q: what the identity is rotated to on either side alone, transposed, takes the rotations back. */
  double *P = test_numbers(m, m), *Q = test_numbers(n, n);
  for (int64_t i = 0; i < m; i++) P[i * m + i] = 1;
  for (int64_t i = 0; i < n; i++) Q[i * n + i] = 1;
  test_move_matrix(TEST_ROTATE_ROWS, 3000, m, m, P);
  test_move_matrix(TEST_ROTATE_COLS, 3000, n, n, Q);
  double *Pt = test_transpose(P, m, m), *Qt = test_transpose(Q, n, n);
  double *half = test_multiply(Pt, factor, m, m, n), *back = test_multiply(half, Qt, m, n, n);
  double *used[] = {whole, factor, P, Q, Pt, Qt, half};
  for (size_t i = 0; i < sizeof used / sizeof used[0]; i++) free(used[i]);
  return back;
}

/* ‖factor - I‖₂, bounded from above. */
static double distance_from_identity(const double *factor, int64_t m, int64_t n)
{
  double diagonal = 0, squares = 0;
  for (int64_t i = 0; i < m; i++)
    for (int64_t j = 0; j < n; j++) {
      if (i == j)
        diagonal = fmax(diagonal, fabs(factor[i * n + j] - 1));
      else
        squares += factor[i * n + j] * factor[i * n + j];
    }
  return diagonal + sqrt(squares);
}

static void check(const eqs_grid *grid, eqs_solver solver, int steps, int64_t m, int64_t n, double condition,
                  double limit)
{
  eqs_polar_options options = {.solver = solver, .steps = steps, .eps = solver == EQS_EXACT ? 0 : 1e-8};
  double *factor = factor_in_basis(grid, &options, m, n, condition);
  double distance = distance_from_identity(factor, m, n);
  ck_assert_msg(distance <= limit + float32_error,
                "%s, %d steps, %lldx%lld on %dx%d, condition %g: %g from the exact "
                "factor, more than %g",
                eqs_solver_names[solver], steps, (long long)m, (long long)n, grid->rows, grid->cols, condition,
                distance, limit + float32_error);
  free(factor);
}

static const int64_t shapes[][2] = {{24, 15}, {15, 24}, {18, 18}};
enum { shape_count = 3 };

/* Every case on one rank, and on larger grids on request; else some there. */
static bool all_cases(const eqs_grid *grid)
{
  return grid->comm == MPI_COMM_NULL || getenv("EQUISHARD_TEST_ALL") != NULL;
}

static void check_theory(const eqs_grid *grid)
{
  for (int shape = 0; shape < shape_count; shape++) {
    int64_t m = shapes[shape][0], n = shapes[shape][1], k = m < n ? m : n;
    if (shape > 0 && !all_cases(grid)) continue;
    for (int solver = 0; solver < EQS_EXACT; solver++)
      for (double condition = all_cases(grid) ? 2 : 10; condition <= 10; condition *= 5) {
        double s = normalisation((eqs_solver)solver, k, condition);
        check(grid, (eqs_solver)solver, 5, m, n, condition, deviation((eqs_solver)solver, 5, s, condition));
      }
    check(grid, EQS_EXACT, 0, m, n, 10, 0);
  }
}

/* Steps enough that theory gives less than 1e-5: then the approximation is the factor. */
static void check_convergence(const eqs_grid *grid)
{
  static const struct {
    eqs_solver solver;
    int steps;
  } enough[] = {{EQS_POLAR_EXPRESS, 9}, {EQS_GRAM_POLAR_EXPRESS, 9}, {EQS_NEWTON_SCHULZ, 16}};
  for (int i = 0; i < (all_cases(grid) ? 3 : 1); i++)
    for (int shape = 0; shape < (all_cases(grid) ? shape_count : 1); shape++) {
      int64_t m = shapes[shape][0], n = shapes[shape][1], k = m < n ? m : n;
      double s = normalisation(enough[i].solver, k, 10);
      ck_assert_at_most(deviation(enough[i].solver, enough[i].steps, s, 10), 1e-5);
      check(grid, enough[i].solver, enough[i].steps, m, n, 10, 1e-5);
    }
}

static void on_every_grid(void (*body)(const eqs_grid *))
{
  test_grid_shape grids[test_max_grids];
  eqs_grid_cache *cache;
  int count = test_grids(grids);
  ck_assert_ok(eqs_grid_cache_create(MPI_COMM_WORLD, &cache));
  for (int g = 0; g < count; g++) {
    const eqs_grid *grid;
    ck_assert_ok(eqs_grid_get(cache, grids[g].first, grids[g].rows, grids[g].cols, &grid));
    if (eqs_grid_member(grid)) body(grid);
  }
  eqs_grid_cache_destroy(&cache);
}

START_TEST(as_near_to_the_exact_factor_as_theory_gives)
{
  on_every_grid(check_theory);
}
END_TEST

START_TEST(the_exact_factor_after_enough_steps)
{
  on_every_grid(check_convergence);
}
END_TEST

Suite *make_suite(void)
{
  Suite *suite = suite_create("factors");
  TCase *tests = tcase_create("factors");
  tcase_set_timeout(tests, 0);
  tcase_add_test(tests, as_near_to_the_exact_factor_as_theory_gives);
  tcase_add_test(tests, the_exact_factor_after_enough_steps);
  suite_add_tcase(suite, tests);
  return suite;
}
