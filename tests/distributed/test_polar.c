/*
 * Polar factors on every grid against the same polynomial in float64 by naive loops, and the exact ones against
 * matrices whose factor is known. Accuracies are those of the project's numerics: ||U - U₆₄||₂ (bounded here by the
 * Frobenius norm) up to 1e-4 for any form at condition 10; for any condition direct 1e-4, Gram with a restart 1e-3,
 * Gram 1e-2.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "dist/product.h"
#include "matrices.h"
#include "polar/polar.h"

static eqs_grid_cache *cache;

static void open_cache(void)
{
  ck_assert_ok(eqs_grid_cache_create(MPI_COMM_WORLD, &cache));
}

static void close_cache(void)
{
  eqs_grid_cache_destroy(&cache);
}

/* rows × k with orthonormal columns, by Gram-Schmidt (twice) on normal numbers; k <= rows. */
static double *orthonormal(int64_t rows, int64_t k, uint64_t seed)
{
  double *Q = test_numbers(rows, k);
  for (int64_t i = 0; i < rows * k; i++) Q[i] = test_normal(seed, (uint64_t)i);
  for (int64_t j = 0; j < k; j++) {
    for (int64_t before = 0; before < 2 * j; before++) {
      double dot = 0;
      for (int64_t i = 0; i < rows; i++) dot += Q[i * k + j] * Q[i * k + before % j];
      for (int64_t i = 0; i < rows; i++) Q[i * k + j] -= dot * Q[i * k + before % j];
    }
    double norm = 0;
    for (int64_t i = 0; i < rows; i++) norm += Q[i * k + j] * Q[i * k + j];
    for (int64_t i = 0; i < rows; i++) Q[i * k + j] /= sqrt(norm);
  }
  return Q;
}

/* Singular vectors and values of a test matrix: values from `scale` down to scale / condition, then zeros. */
typedef struct {
  int64_t m, n, k;
  double *Q, *V, *sigma;
} decomposition;

static decomposition decompose(int64_t m, int64_t n, int64_t rank, double condition, double scale)
{
  decomposition d = {m, n, m < n ? m : n, NULL, NULL, NULL};
  d.Q = orthonormal(m, d.k, 11);
  d.V = orthonormal(n, d.k, 12);
  d.sigma = test_numbers(d.k, 1);
  for (int64_t i = 0; i < d.k && i < rank; i++)
    d.sigma[i] = scale * pow(condition, rank > 1 ? -(double)i / (double)(rank - 1) : 0);
  return d;
}

static void free_decomposition(decomposition *d)
{
  free(d->Q);
  free(d->V);
  free(d->sigma);
}

/* Q diag(values) Vᵀ */
static double *compose(const decomposition *d, const double *values)
{
  double *scaled = test_numbers(d->m, d->k), *Vt = test_transpose(d->V, d->n, d->k);
  for (int64_t i = 0; i < d->m; i++)
    for (int64_t j = 0; j < d->k; j++) scaled[i * d->k + j] = d->Q[i * d->k + j] * values[j];
  double *product = test_multiply(scaled, Vt, d->m, d->k, d->n);
  free(scaled);
  free(Vt);
  return product;
}

/* ||A||_F of the damped Gram matrix of order `order`, from singular values. */
static double damped_gram_norm(const decomposition *d, double eps, int64_t order)
{
  double squares = 0;
  for (int64_t i = 0; i < order; i++) {
    double eigenvalue = eps + (i < d->k ? d->sigma[i] * d->sigma[i] : 0);
    squares += eigenvalue * eigenvalue;
  }
  return sqrt(squares);
}

/* What a solver makes of the singular values, from the table of solvers: x p(x) ... in float64. */
static double *expected_values(const decomposition *d, const eqs_polar_options *options)
{
  double *values = test_numbers(d->k, 1), squares = 0, s = 0;
  for (int64_t i = 0; i < d->k; i++) squares += d->sigma[i] * d->sigma[i];
  double norm = sqrt(squares), gram_norm = damped_gram_norm(d, options->eps, options->side == EQS_RIGHT ? d->n : d->m);
  switch (options->solver) {
  case EQS_NEWTON_SCHULZ: s = gram_norm; break;
  case EQS_POLAR_EXPRESS: s = 1.02 * gram_norm + options->eps; break;
  case EQS_POLAR_EXPRESS_5: s = 1.02 * norm + 1e-6; break;
  default: s = norm + 1e-7; break;
  }
  bool damped = eqs_solver_damped(options->solver);
  for (int64_t i = 0; i < d->k; i++) {
    double x = damped ? sqrt((d->sigma[i] * d->sigma[i] + options->eps) / s) : d->sigma[i] / s, start = x;
    for (int step = 0; step < options->steps; step++) {
      double p[3];
      eqs_solver_coefficients(options->solver, step, p);
      x = p[0] * x + p[1] * x * x * x + p[2] * pow(x, 5);
    }
    values[i] = damped ? (start > 0 ? d->sigma[i] / sqrt(s) * x / start : 0) : x;
  }
  return values;
}

/* eqs_polar of a whole matrix on a grid. To be freed. */
static double *polar_on_grid(const eqs_grid *grid, const eqs_polar_options *options, const double *whole, int64_t m,
                             int64_t n)
{
  eqs_matrix x;
  ck_assert_ok(eqs_matrix_create(grid, m, n, 5, 3, EQS_ELEMENT_FLOAT, &x));
  test_spread(whole, &x);
  ck_assert_ok(eqs_polar(options, &x, NULL));
  double *found = test_collect(&x);
  eqs_matrix_destroy(&x);
  return found;
}

static void check_solver(const eqs_grid *grid, const eqs_polar_options *options, const decomposition *d, double limit)
{
  double *whole = compose(d, d->sigma), *values = expected_values(d, options), *expected = compose(d, values);
  double *found = polar_on_grid(grid, options, whole, d->m, d->n);
  double distance = test_distance(found, expected, d->m * d->n);
  ck_assert_msg(distance <= limit, "%s, form %s, side %s, eps %g, %lldx%lld on %dx%d: %g from float64, more than %g",
                eqs_solver_names[options->solver], eqs_form_names[options->form], eqs_side_names[options->side],
                options->eps, (long long)d->m, (long long)d->n, grid->rows, grid->cols, distance, limit);
  free(whole);
  free(values);
  free(expected);
  free(found);
}

static const eqs_grid *grid_of(const test_grid_shape *shape)
{
  const eqs_grid *grid;
  ck_assert_ok(eqs_grid_get(cache, shape->first, shape->rows, shape->cols, &grid));
  return grid;
}

static void for_each_grid(void (*check)(const eqs_grid *))
{
  test_grid_shape of_grids[test_max_grids];
  int count = test_grids(of_grids);
  for (int g = 0; g < count; g++) {
    const eqs_grid *grid = grid_of(&of_grids[g]);
    if (eqs_grid_member(grid)) check(grid);
  }
}

/* The 1×1 grids, and the last one, which is P×Q where there are ranks for that. */
static void for_some_grids(void (*check)(const eqs_grid *))
{
  test_grid_shape of_grids[test_max_grids];
  int count = test_grids(of_grids);
  for (int g = 0; g < count; g++) {
    const eqs_grid *grid = grid_of(&of_grids[g]);
    if (eqs_grid_member(grid) && (g + 1 == count || grid->comm == MPI_COMM_NULL)) check(grid);
  }
}

/* Every case on one rank; on larger grids, where a product takes long when ranks share cores, some of each kind. */
static bool all_cases(const eqs_grid *grid)
{
  return grid->comm == MPI_COMM_NULL;
}

static bool typical(int solver)
{
  return solver == EQS_POLAR_EXPRESS || solver == EQS_POLAR_EXPRESS_5 || solver == EQS_EXACT;
}

static const int64_t shapes[][2] = {{24, 40}, {40, 24}, {20, 20}, {1, 9}, {9, 1}, {1, 1}, {2, 3}};
enum { shape_count = sizeof shapes / sizeof shapes[0] };

static void check_every_solver(const eqs_grid *grid)
{
  for (int i = 0; i < shape_count; i++) {
    decomposition d = decompose(shapes[i][0], shapes[i][1], 40, 10, 3);
    for (int solver = 0; solver < EQS_EXACT; solver++) {
      eqs_polar_options options = {
          .solver = (eqs_solver)solver, .steps = 5, .eps = 1e-8, .side = i % 2 ? EQS_LEFT : EQS_RIGHT};
      for (int form = EQS_FORM_AUTO; form < EQS_FORMS; form++) {
        options.form = (eqs_form)form;
        if (form == EQS_FORM_DIRECT && eqs_solver_damped(options.solver)) continue;
        if (i > 0 && !typical(solver) && !all_cases(grid)) continue;
        if (form != EQS_FORM_AUTO && (i > 0 || !typical(solver)) && !all_cases(grid)) continue;
        check_solver(grid, &options, &d, 1e-4);
      }
    }
    free_decomposition(&d);
  }
}

START_TEST(every_solver_and_form_on_every_grid)
{
  for_each_grid(check_every_solver);
}
END_TEST

static void check_condition(const eqs_grid *grid, double condition, int64_t rank)
{
  static const double limits[EQS_FORMS] = {
      [EQS_FORM_DIRECT] = 1e-4, [EQS_FORM_GRAM] = 1e-2, [EQS_FORM_GRAM_RESTART] = 1e-3};
  for (int i = 0; i < 3; i++) {
    decomposition d = decompose(shapes[i][0], shapes[i][1], rank, condition, 1);
    for (int solver = EQS_POLAR_EXPRESS_5; solver < (all_cases(grid) ? EQS_EXACT : EQS_POLAR_EXPRESS_5 + 1); solver++)
      for (int form = EQS_FORM_DIRECT; form < EQS_FORMS; form++)
        check_solver(grid, &(eqs_polar_options){.solver = (eqs_solver)solver, .steps = 5, .form = (eqs_form)form}, &d,
                     limits[form]);
    free_decomposition(&d);
  }
}

static void check_conditions(const eqs_grid *grid)
{
  if (all_cases(grid)) check_condition(grid, 1, 40);
  if (all_cases(grid)) check_condition(grid, 100, 40);
  check_condition(grid, 1e4, 40);
  check_condition(grid, 10, 7); /* rank-deficient */
}

START_TEST(ill_conditioned_and_rank_deficient)
{
  for_some_grids(check_conditions);
}
END_TEST

/* More steps than coefficients: the last ones repeat. One and two steps: no update of R is wasted, none missing. */
static void check_step_counts(const eqs_grid *grid)
{
  decomposition d = decompose(24, 40, 24, 10, 1);
  for (int solver = 0; solver < EQS_EXACT; solver++)
    for (int steps = 1; steps <= 9; steps += steps < 3 ? 1 : 3)
      check_solver(grid, &(eqs_polar_options){.solver = (eqs_solver)solver, .steps = steps, .eps = 1e-8}, &d,
                   solver == EQS_JORDAN || solver == EQS_YOU ? 1e-3 : 1e-4);
  free_decomposition(&d);
}

START_TEST(any_number_of_steps)
{
  const eqs_grid *grid = grid_of(&(test_grid_shape){0, 1, 1});
  if (eqs_grid_member(grid)) check_step_counts(grid);
}
END_TEST

/* Damping that matters, with both nominal sides on both shapes, and restarts that must carry it along. */
static void check_damping(const eqs_grid *grid)
{
  for (int i = 0; i < 3; i++) {
    decomposition d = decompose(shapes[i][0], shapes[i][1], 40, 100, 1);
    for (int side = EQS_RIGHT; side < EQS_SIDES; side++)
      for (int solver = EQS_NEWTON_SCHULZ; solver <= EQS_POLAR_EXPRESS; solver++)
        for (double eps = 1e-3; eps < (all_cases(grid) ? 10 : 1e-2); eps *= 100)
          for (int form = EQS_FORM_GRAM; form <= EQS_FORM_GRAM_RESTART; form++)
            check_solver(grid,
                         &(eqs_polar_options){.solver = (eqs_solver)solver,
                                              .steps = 6,
                                              .form = (eqs_form)form,
                                              .side = (eqs_side)side,
                                              .eps = eps},
                         &d, 1e-4);
    free_decomposition(&d);
  }
}

START_TEST(damping_of_the_nominal_side)
{
  for_some_grids(check_damping);
}
END_TEST

/* Entries near 1e-20 and 1e+20: squares leave the range of float32. The error is relative to the result. */
static void check_scales(const eqs_grid *grid)
{
  static const double scales[] = {1e-37, 1e-20, 1e20, 1e37};
  for (int i = 0; i < 3; i++)
    for (size_t scale = 0; scale < sizeof scales / sizeof scales[0]; scale++) {
      decomposition d = decompose(shapes[i][0], shapes[i][1], 40, 10, scales[scale]);
      for (int solver = 0; solver < EQS_EXACT; solver++) {
        if (!typical(solver) && !all_cases(grid)) continue;
        eqs_polar_options options = {.solver = (eqs_solver)solver, .steps = 5, .eps = 1e-8};
        double *values = expected_values(&d, &options), largest = 0;
        for (int64_t j = 0; j < d.k; j++) largest = fmax(largest, values[j]);
        ck_assert(largest > 0);
        check_solver(grid, &options, &d, 1e-4 * largest);
        free(values);
      }
      free_decomposition(&d);
    }
}

START_TEST(extreme_scales)
{
  for_some_grids(check_scales);
}
END_TEST

/* The exact solver: sigma/sqrt(sigma² + ε), zero outside the row space. float32 stores the result to 1e-7. */
static void check_exact(const eqs_grid *grid, const decomposition *d, double eps, double limit)
{
  double *values = test_numbers(d->k, 1), *whole = compose(d, d->sigma);
  for (int64_t i = 0; i < d->k; i++)
    values[i] = d->sigma[i] > 0 ? d->sigma[i] / sqrt(d->sigma[i] * d->sigma[i] + eps) : 0;
  double *expected = compose(d, values);
  double *found = polar_on_grid(grid, &(eqs_polar_options){.solver = EQS_EXACT, .eps = eps}, whole, d->m, d->n);
  ck_assert_at_most(test_distance(found, expected, d->m * d->n), limit);
  free(values);
  free(whole);
  free(expected);
  free(found);
}

static void check_exact_factors(const eqs_grid *grid)
{
  static const double scales[] = {1, 1e-20, 1e20};
  for (int i = 0; i < shape_count; i++)
    for (int scale = 0; scale < (all_cases(grid) ? 3 : 1); scale++) {
      decomposition d = decompose(shapes[i][0], shapes[i][1], 40, 10, scales[scale]);
      check_exact(grid, &d, 0, 1e-5);
      free_decomposition(&d);
    }
  /* The float32 input is rounded by 6e-8, which the factor of a matrix of condition κ amplifies by κ. */
  decomposition bad = decompose(40, 24, 24, 1e4, 1);
  check_exact(grid, &bad, 0, 1e-2);
  check_exact(grid, &bad, 1e-2, 1e-5);
  free_decomposition(&bad);
}

START_TEST(exact_factors_of_known_matrices)
{
  for_each_grid(check_exact_factors);
}
END_TEST

/* At condition 1e4, U Uᵀ = I still. */
static void check_orthonormal_rows(const eqs_grid *grid)
{
  decomposition d = decompose(24, 40, 24, 1e4, 1);
  double *whole = compose(&d, d.sigma), *I = test_numbers(24, 24);
  double *U = polar_on_grid(grid, &(eqs_polar_options){.solver = EQS_EXACT}, whole, 24, 40);
  double *Ut = test_transpose(U, 24, 40), *UUt = test_multiply(U, Ut, 24, 40, 24);
  for (int i = 0; i < 24; i++) I[i * 24 + i] = 1;
  ck_assert_at_most(test_distance(UUt, I, 24 * 24), 1e-5);
  double *all[] = {whole, I, U, Ut, UUt};
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) free(all[i]);
  free_decomposition(&d);
}

START_TEST(exact_factors_have_orthonormal_rows)
{
  for_each_grid(check_orthonormal_rows);
}
END_TEST

/* Integers of rank 2, so that the input is deficient exactly: U Uᵀ U = U with the trace of a projection of rank 2. */
static void check_exact_rank_deficient(const eqs_grid *grid)
{
  double *whole = test_numbers(12, 8);
  for (int i = 0; i < 12; i++)
    for (int j = 0; j < 8; j++) whole[i * 8 + j] = (i - 5) * (j + 1) + (i % 3) * (j % 2);
  double *U = polar_on_grid(grid, &(eqs_polar_options){.solver = EQS_EXACT}, whole, 12, 8);
  double *Ut = test_transpose(U, 12, 8), *P = test_multiply(U, Ut, 12, 8, 12), *PU = test_multiply(P, U, 12, 12, 8);
  double trace = 0;
  for (int i = 0; i < 12; i++) trace += P[i * 12 + i];
  ck_assert_double_eq_tol(trace, 2, 1e-5);
  ck_assert_at_most(test_distance(PU, U, 12 * 8), 1e-5);
  double *all[] = {whole, U, Ut, P, PU};
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) free(all[i]);
}

/* A singular value of 1e-9 beside 1: its square is lost in the rounding of float64, so it counts as zero, and only
 * with damping it does not: x/sqrt(x² + ε). */
static void check_lost_singular_value(const eqs_grid *grid)
{
  const double whole[] = {1, 0, 0, 1e-9};
  double *U = polar_on_grid(grid, &(eqs_polar_options){.solver = EQS_EXACT}, whole, 2, 2);
  ck_assert(fabs(U[0] - 1) < 1e-6 && fabs(U[3]) < 1e-6);
  free(U);
  U = polar_on_grid(grid, &(eqs_polar_options){.solver = EQS_EXACT, .eps = 1e-18}, whole, 2, 2);
  ck_assert(fabs(U[0] - 1) < 1e-6 && fabs(U[3] - sqrt(0.5)) < 1e-6);
  free(U);
}

START_TEST(exact_factors_of_rank_deficient_matrices)
{
  for_each_grid(check_exact_rank_deficient);
  for_some_grids(check_lost_singular_value);
}
END_TEST

static void check_zero(const eqs_grid *grid)
{
  double *whole = test_numbers(6, 10);
  for (int solver = 0; solver < EQS_SOLVERS; solver++)
    for (double eps = 0; eps < 2; eps += 1) {
      double *found =
          polar_on_grid(grid, &(eqs_polar_options){.solver = (eqs_solver)solver, .steps = 5, .eps = eps}, whole, 6, 10);
      for (int i = 0; i < 60; i++) ck_assert(found[i] == 0);
      free(found);
    }
  free(whole);
}

START_TEST(zero_stays_zero)
{
  for_each_grid(check_zero);
}
END_TEST

static void check_same_bits(const eqs_grid *grid)
{
  decomposition d = decompose(40, 24, 24, 100, 1);
  double *whole = compose(&d, d.sigma);
  for (int solver = 0; solver < EQS_SOLVERS; solver++) {
    if (!typical(solver)) continue;
    eqs_polar_options options = {.solver = (eqs_solver)solver, .steps = 5, .eps = 1e-8};
    double *once = polar_on_grid(grid, &options, whole, 40, 24), *twice = polar_on_grid(grid, &options, whole, 40, 24);
    ck_assert_int_eq(memcmp(once, twice, 40 * 24 * sizeof *once), 0);
    free(once);
    free(twice);
  }
  free(whole);
  free_decomposition(&d);
}

START_TEST(same_input_same_bits)
{
  for_each_grid(check_same_bits);
}
END_TEST

START_TEST(what_a_solver_cannot_do_is_refused)
{
  const eqs_grid *grid = grid_of(&(test_grid_shape){0, 1, 1});
  if (!eqs_grid_member(grid)) return;
  eqs_matrix x;
  ck_assert_ok(eqs_matrix_create(grid, 2, 2, 1, 1, EQS_ELEMENT_FLOAT, &x));
  float *elements = eqs_floats(&x);
  elements[0] = 1;
  eqs_polar_options options = {.solver = EQS_POLAR_EXPRESS, .steps = 5, .form = EQS_FORM_DIRECT};
  ck_assert_int_eq(eqs_polar(&options, &x, NULL), EQS_USAGE);
  options = (eqs_polar_options){.solver = EQS_JORDAN, .steps = 0};
  ck_assert_int_eq(eqs_polar(&options, &x, NULL), EQS_USAGE);
  elements[1] = NAN;
  ck_assert_int_eq(eqs_polar(&(eqs_polar_options){.solver = EQS_EXACT}, &x, NULL), EQS_FAILED);
  eqs_matrix_destroy(&x);
}
END_TEST

/* eqs_polar_flops is what eqs_polar asks for on one rank, whole products and halves. */
START_TEST(flops_are_those_asked_for)
{
  const eqs_grid *grid = grid_of(&(test_grid_shape){0, 1, 1});
  static const int64_t sizes[][2] = {{30, 20}, {20, 20}, {130, 140}, {130, 130}};
  for (size_t s = 0; eqs_grid_member(grid) && s < sizeof sizes / sizeof sizes[0]; s++)
    for (int solver = 0; solver < EQS_SOLVERS; solver++)
      for (int form = EQS_FORM_AUTO; form < EQS_FORMS; form++) {
        eqs_polar_options options = {.solver = (eqs_solver)solver, .steps = 4, .form = (eqs_form)form, .eps = 1e-8};
        if (form == EQS_FORM_DIRECT && eqs_solver_damped(options.solver)) continue;
        double *whole = test_numbers(sizes[s][0], sizes[s][1]), before = eqs_flops_asked();
        for (int64_t i = 0; i < sizes[s][0] * sizes[s][1]; i++) whole[i] = test_uniform(3, (uint64_t)i);
        free(polar_on_grid(grid, &options, whole, sizes[s][0], sizes[s][1]));
        double asked = eqs_flops_asked() - before, expected = eqs_polar_flops(&options, sizes[s][0], sizes[s][1]);
        ck_assert_double_eq_tol(asked, expected, 1e-9 * expected);
        free(whole);
      }
}
END_TEST

Suite *make_suite(void)
{
  Suite *suite = suite_create("polar");
  TCase *tests = tcase_create("polar");
  tcase_add_checked_fixture(tests, open_cache, close_cache);
  tcase_add_test(tests, every_solver_and_form_on_every_grid);
  tcase_add_test(tests, ill_conditioned_and_rank_deficient);
  tcase_add_test(tests, any_number_of_steps);
  tcase_add_test(tests, damping_of_the_nominal_side);
  tcase_add_test(tests, extreme_scales);
  tcase_add_test(tests, exact_factors_of_known_matrices);
  tcase_add_test(tests, exact_factors_have_orthonormal_rows);
  tcase_add_test(tests, exact_factors_of_rank_deficient_matrices);
  tcase_add_test(tests, zero_stays_zero);
  tcase_add_test(tests, same_input_same_bits);
  tcase_add_test(tests, what_a_solver_cannot_do_is_refused);
  tcase_add_test(tests, flops_are_those_asked_for);
  tcase_set_timeout(tests, 0);
  suite_add_tcase(suite, tests);
  return suite;
}
