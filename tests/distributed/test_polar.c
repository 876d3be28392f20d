/*
 * Polar factors on every grid against the same polynomial in float64 by naive loops, and the exact ones against
 * matrices whose factor is known. Accuracies are those of the project's numerics: ||U - U₆₄||₂ up to 1e-4 for any form
 * at condition 10; for any condition direct 1e-4, Gram with a restart 1e-3, Gram 1e-2.
 *
 * That of the Gram form is a level to expect, not a bound: an error of one unit roundoff in R grows by the product of
 * a² over all steps but the last, 1.8e5 for polar_express_5, to 1e-2; the order of the sums, which differs between
 * grids and compilers, moves it. So it is the 2-norm that is compared, not the Frobenius norm, which bounds it and
 * is about 1.2 to 1.4 times as large here.
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
  case EQS_CUSTOM: s = options->normalisation == EQS_NORM_GRAM ? gram_norm : norm; break;
  case EQS_POLAR_EXPRESS_5: s = 1.02 * norm; break;
  default: s = norm; break;
  }
  bool damped = eqs_solver_damped(options->solver, options->normalisation);
  for (int64_t i = 0; i < d->k; i++) {
    double x = damped ? sqrt((d->sigma[i] * d->sigma[i] + options->eps) / s) : d->sigma[i] / s, start = x;
    for (int step = 0; step < options->steps; step++) {
      double p[3];
      eqs_solver_coefficients(options, step, p);
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

/* At least ||A - B||₂, and hardly more: with E = A - B the root of order 8 of ||(EᵀE)⁴||_F. */
static double spectral_distance(const double *a, const double *b, int64_t m, int64_t n)
{
  double *E = test_numbers(m, n), sum = 0;
  for (int64_t i = 0; i < m * n; i++) E[i] = a[i] - b[i];
  double *Et = test_transpose(E, m, n), *power = test_multiply(Et, E, n, m, n);
  for (int squaring = 0; squaring < 2; squaring++) {
    double *squared = test_multiply(power, power, n, n, n);
    free(power);
    power = squared;
  }
  for (int64_t i = 0; i < n * n; i++) sum += power[i] * power[i];
  free(E);
  free(Et);
  free(power);
  return pow(sum, 1.0 / 16);
}

static void check_solver(const eqs_grid *grid, const eqs_polar_options *options, const decomposition *d, double limit)
{
  double *whole = compose(d, d->sigma), *values = expected_values(d, options), *expected = compose(d, values);
  double *found = polar_on_grid(grid, options, whole, d->m, d->n);
  double distance = spectral_distance(found, expected, d->m, d->n);
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
        if (form == EQS_FORM_DIRECT && eqs_solver_damped(options.solver, options.normalisation)) continue;
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

/* ||U||_2 by power iterations on UᵀU. */
static double spectral_norm(const double *U, int64_t m, int64_t n)
{
  double *v = test_numbers(n, 1), *w = test_numbers(m, 1), norm = 0;
  for (int64_t j = 0; j < n; j++) v[j] = test_normal(5, (uint64_t)j);
  for (int iteration = 0; iteration < 60; iteration++) {
    double squares = 0;
    for (int64_t j = 0; j < n; j++) squares += v[j] * v[j];
    memset(w, 0, (size_t)m * sizeof *w);
    for (int64_t i = 0; i < m; i++)
      for (int64_t j = 0; j < n; j++) w[i] += U[i * n + j] * v[j] / sqrt(squares);
    memset(v, 0, (size_t)n * sizeof *v);
    norm = 0;
    for (int64_t i = 0; i < m; i++) {
      norm += w[i] * w[i];
      for (int64_t j = 0; j < n; j++) v[j] += U[i * n + j] * w[i];
    }
    if (norm == 0) break;
  }
  free(v);
  free(w);
  return sqrt(norm);
}

/* The largest value of a solver's polynomial on [0, 1]: first polynomials of few steps go up to 2. */
static double largest_value(const eqs_polar_options *options)
{
  double largest = 0;
  for (int i = 1; i <= 10000; i++) {
    double x = i / 10000.0;
    for (int step = 0; step < options->steps; step++) {
      double p[3];
      eqs_solver_coefficients(options, step, p);
      x = p[0] * x + p[1] * x * x * x + p[2] * pow(x, 5);
    }
    largest = fmax(largest, x);
  }
  return largest;
}

static void check_bounded(const eqs_grid *grid, const eqs_polar_options *options, const double *whole, int64_t m,
                          int64_t n, int64_t rank, double condition)
{
  double *U = polar_on_grid(grid, options, whole, m, n), norm = spectral_norm(U, m, n);
  double limit = options->steps < 5 && options->solver != EQS_EXACT ? largest_value(options) + 1e-2 : 1.3;
  ck_assert_msg(norm <= limit, "%s, form %s, %d steps, %s%lldx%lld of rank %lld and condition %g on %dx%d: norm %g",
                eqs_solver_names[options->solver], eqs_form_names[options->form], options->steps,
                options->centered ? "centered " : "", (long long)m, (long long)n, (long long)rank, condition,
                grid->rows, grid->cols, norm);
  free(U);
}

static void center_rows(double *whole, int64_t m, int64_t n)
{
  for (int64_t j = 0; j < n; j++) {
    double mean = 0;
    for (int64_t i = 0; i < m; i++) mean += whole[i * n + j] / (double)m;
    for (int64_t i = 0; i < m; i++) whole[i * n + j] -= mean;
  }
}

/*
 * The polynomials of all solvers stay below 1.3 on [0, 1], and so does the factor: of any rank and condition, after any
 * number of steps, in every form. Without restarts after 7 or 8 steps it was 1e20 and more.
 */
static void check_bounds(const eqs_grid *grid)
{
  static const int64_t ranks[] = {1, 2, 8, 32, 64};
  static const double conditions[] = {1, 1e3, 1e4, 1e12};
  static const int steps[] = {1, 5, 7, 10, 20, 100};
  bool all = all_cases(grid);
  for (int rank = 0; rank < 5; rank += all ? 1 : 3)
    for (int condition = 0; condition < (rank > 0 ? 4 : 1); condition += all ? 1 : 3)
      for (int centered = 0; centered < 2; centered++) {
        int64_t m = rank % 2 ? 128 : 64, n = 192 - m;
        decomposition d = decompose(m, n, ranks[rank], conditions[condition], 1);
        double *whole = compose(&d, d.sigma);
        if (centered) center_rows(whole, m, n);
        for (int solver = 0; solver <= EQS_EXACT; solver++)
          for (int form = EQS_FORM_AUTO; form < EQS_FORMS; form++)
            for (int s = all ? 0 : 3; s < (all ? 6 : 4); s++) {
              eqs_polar_options options = {.solver = (eqs_solver)solver,
                                           .steps = steps[s],
                                           .form = (eqs_form)form,
                                           .centered = centered > 0,
                                           .side = solver % 2 ? EQS_LEFT : EQS_RIGHT};
              if (solver == EQS_EXACT && (form > 0 || s != 3)) continue;
              if (!typical(solver) && (!all || form > 0)) continue;
              if (!all && (form > 0 || centered == rank % 2)) continue;
              if (eqs_solver_damped(options.solver, options.normalisation)) {
                if (form == EQS_FORM_DIRECT) continue;
                options.eps = 1e-8;
              }
              check_bounded(grid, &options, whole, m, n, ranks[rank], conditions[condition]);
            }
        free(whole);
        free_decomposition(&d);
      }
}

START_TEST(bounded_for_any_rank_condition_and_number_of_steps)
{
  for_some_grids(check_bounds);
}
END_TEST

/* 32 rows of tokens of one batch, as gradients of layers have them: the steps of every default, and twice as many. */
static void check_low_rank(const eqs_grid *grid)
{
  decomposition d = decompose(128, 512, 32, 30, 1);
  double *whole = compose(&d, d.sigma);
  for (int solver = EQS_POLAR_EXPRESS; solver <= EQS_POLAR_EXPRESS_5; solver++)
    for (int steps = all_cases(grid) ? 5 : 10; steps <= 10; steps += 5)
      check_bounded(grid, &(eqs_polar_options){.solver = (eqs_solver)solver, .steps = steps, .eps = 1e-8}, whole, 128,
                    512, 32, 30);
  free(whole);
  free_decomposition(&d);
}

START_TEST(bounded_for_low_rank_on_every_grid)
{
  for_each_grid(check_low_rank);
}
END_TEST

/* Restarts where the options list them change nothing but rounding, with damping and without. */
static void check_listed_restarts(const eqs_grid *grid)
{
  static int at[] = {2, 5}, at_every_step[] = {1, 2, 3, 4, 5, 6, 7};
  static const eqs_polar_lists lists[] = {{.restarts = 2, .restart = at}, {.restarts = 7, .restart = at_every_step}};
  decomposition d = decompose(24, 40, 24, 100, 1);
  for (int solver = EQS_POLAR_EXPRESS; solver <= EQS_GRAM_POLAR_EXPRESS; solver++)
    for (int form = EQS_FORM_GRAM; form <= EQS_FORM_GRAM_RESTART; form++)
      for (int list = 0; list < 2; list++)
        check_solver(grid,
                     &(eqs_polar_options){.solver = (eqs_solver)solver,
                                          .steps = 8,
                                          .form = (eqs_form)form,
                                          .eps = solver == EQS_POLAR_EXPRESS ? 1e-3 : 0,
                                          .lists = &lists[list]},
                     &d, 1e-4);
  free_decomposition(&d);
}

START_TEST(restarts_where_they_are_listed)
{
  for_some_grids(check_listed_restarts);
}
END_TEST

/* 16 steps of polar_express converge: ||UUᵀ - I||_F <= 1e-5, as other implementations' tests ask. */
static void check_converged(const eqs_grid *grid)
{
  static const double conditions[] = {10, 1e3};
  for (int c = 0; c < 2; c++)
    for (int solver = EQS_POLAR_EXPRESS; solver <= EQS_GRAM_POLAR_EXPRESS; solver += 2) {
      eqs_polar_options options = {
          .solver = (eqs_solver)solver, .steps = 16, .eps = solver == EQS_POLAR_EXPRESS ? 1e-12 : 0};
      decomposition d = decompose(64, 128, 64, conditions[c], 1);
      double *whole = compose(&d, d.sigma), *U = polar_on_grid(grid, &options, whole, 64, 128);
      double *Ut = test_transpose(U, 64, 128), *UUt = test_multiply(U, Ut, 64, 128, 64), *I = test_numbers(64, 64);
      for (int i = 0; i < 64; i++) I[i * 64 + i] = 1;
      double distance = test_distance(UUt, I, 64 * 64);
      ck_assert_msg(distance <= 1e-5, "%s at condition %g: %g", eqs_solver_names[solver], conditions[c], distance);
      double *used[] = {whole, U, Ut, UUt, I};
      for (size_t i = 0; i < sizeof used / sizeof used[0]; i++) free(used[i]);
      free_decomposition(&d);
    }
}

START_TEST(sixteen_steps_converge)
{
  for_some_grids(check_converged);
}
END_TEST

/* Ten steps in two stages, as DeepSeek-V4 has them; and with the Gram matrix's norm and damping. */
static void check_custom(const eqs_grid *grid)
{
  static double stages[10][3] = {{3.4445, -4.7750, 2.0315},
                                 {3.4445, -4.7750, 2.0315},
                                 {3.4445, -4.7750, 2.0315},
                                 {3.4445, -4.7750, 2.0315},
                                 {3.4445, -4.7750, 2.0315},
                                 {3.4445, -4.7750, 2.0315},
                                 {3.4445, -4.7750, 2.0315},
                                 {3.4445, -4.7750, 2.0315},
                                 {2, -1.5, 0.5},
                                 {2, -1.5, 0.5}};
  static const eqs_polar_lists lists = {.polynomials = 10, .polynomial = stages};
  for (int i = 0; i < 3; i++) {
    decomposition d = decompose(shapes[i][0], shapes[i][1], 40, 100, 3);
    for (int form = EQS_FORM_AUTO; form < EQS_FORMS; form++)
      for (int damped = 0; damped < (form == EQS_FORM_DIRECT ? 1 : 2); damped++) {
        eqs_polar_options options = {.solver = EQS_CUSTOM, .steps = 10, .form = (eqs_form)form, .lists = &lists};
        options.eps = damped ? 1e-2 : 0;
        options.normalisation = damped ? EQS_NORM_GRAM : EQS_NORM_FROBENIUS;
        /* Jordan's polynomials do not converge, so that they multiply errors by up to 1.6 a step at the end. */
        check_solver(grid, &options, &d, 1e-3);
      }
    free_decomposition(&d);
  }
}

START_TEST(custom_polynomials)
{
  for_some_grids(check_custom);
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

/*
 * Undamped factors do not depend on the size of D, from 1e-30 to 1e30: relative 1e-5, to which every form evaluates the
 * polynomial at condition 2. (c D has other roundings than D: what a form makes of these is its accuracy.)
 */
static void check_scale_free(const eqs_grid *grid)
{
  static double triples[][3] = {{3.4445, -4.7750, 2.0315}, {2, -1.5, 0.5}};
  static const eqs_polar_lists lists = {.polynomials = 2, .polynomial = triples};
  for (int i = 0; i < 3; i++) {
    int64_t m = shapes[i][0], n = shapes[i][1];
    decomposition d = decompose(m, n, 40, 2, 1);
    double *whole = compose(&d, d.sigma), *scaled = test_numbers(m, n);
    for (int solver = EQS_POLAR_EXPRESS_5; solver < EQS_SOLVERS; solver++)
      for (int form = EQS_FORM_AUTO; form < (solver == EQS_EXACT ? EQS_FORM_AUTO + 1 : EQS_FORMS); form++) {
        eqs_polar_options options = {.solver = (eqs_solver)solver, .steps = 5, .form = (eqs_form)form, .lists = &lists};
        if (!all_cases(grid) && (!typical(solver) || form > 0 || i > 0)) continue;
        double *one = polar_on_grid(grid, &options, whole, m, n), norm = 0;
        for (int64_t j = 0; j < m * n; j++) norm += one[j] * one[j];
        for (double c = 1e-30; c < 2e30; c *= all_cases(grid) ? 1e6 : 1e20) {
          for (int64_t j = 0; j < m * n; j++) scaled[j] = c * whole[j];
          double *other = polar_on_grid(grid, &options, scaled, m, n);
          double distance = test_distance(one, other, m * n) / sqrt(norm);
          ck_assert_msg(distance <= 1e-5, "%s, form %s: D and %g D differ by %g", eqs_solver_names[solver],
                        eqs_form_names[form], c, distance);
          free(other);
        }
        free(one);
      }
    free(whole);
    free(scaled);
    free_decomposition(&d);
  }
}

START_TEST(undamped_factors_do_not_depend_on_the_size)
{
  for_each_grid(check_scale_free);
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

/*
 * A singular value of 1e-9 beside 1: its square is lost in the rounding of float64, so it counts as zero, with a
 * damping that is lost there too; with one that is not, 1e-10, it is x/sqrt(x² + ε) = 1e-4.
 */
static void check_lost_singular_value(const eqs_grid *grid)
{
  const double whole[] = {1, 0, 0, 1e-9};
  double *U = polar_on_grid(grid, &(eqs_polar_options){.solver = EQS_EXACT}, whole, 2, 2);
  ck_assert(fabs(U[0] - 1) < 1e-6 && fabs(U[3]) < 1e-6);
  free(U);
  U = polar_on_grid(grid, &(eqs_polar_options){.solver = EQS_EXACT, .eps = 1e-18}, whole, 2, 2);
  ck_assert(fabs(U[0] - 1) < 1e-6 && fabs(U[3]) < 1e-6);
  free(U);
  U = polar_on_grid(grid, &(eqs_polar_options){.solver = EQS_EXACT, .eps = 1e-10}, whole, 2, 2);
  ck_assert(fabs(U[0] - 1) < 1e-6 && fabs(U[3] - 1e-4) < 1e-8);
  free(U);
}

/*
 * A centered matrix is singular but for rounding, which ε^(-1/2) = 1e4 must not amplify: the factor does not depend on
 * the order of the rows, and has norm 1, with ε and without.
 */
static void check_exact_centered(const eqs_grid *grid)
{
  static const int64_t sizes[][2] = {{16, 256}, {3, 40}, {24, 24}, {40, 16}};
  for (int size = 0; size < 4; size++)
    for (double scale = 1; scale < 1e11; scale *= all_cases(grid) ? 1e3 : 1e9)
      for (int damped = 0; damped < 2; damped++) {
        int64_t m = sizes[size][0], n = sizes[size][1];
        double *whole = test_numbers(m, n), *turned = test_numbers(m, n);
        for (int64_t i = 0; i < m * n; i++) whole[i] = scale * test_normal(8, (uint64_t)i);
        center_rows(whole, m, n);
        for (int64_t i = 0; i < m; i++) memcpy(turned + i * n, whole + (i + 1) % m * n, (size_t)n * sizeof *turned);
        eqs_polar_options options = {.solver = EQS_EXACT, .eps = damped ? 1e-8 : 0, .centered = true};
        options.side = m < n ? EQS_LEFT : EQS_RIGHT;
        double *U = polar_on_grid(grid, &options, whole, m, n), *V = polar_on_grid(grid, &options, turned, m, n);
        for (int64_t i = 0; i < m; i++)
          for (int64_t j = 0; j < n; j++)
            ck_assert_msg(fabs(V[i * n + j] - U[(i + 1) % m * n + j]) <= 1e-5,
                          "centered %lldx%lld, entries %g, eps %g: another order of rows gives another factor: %g, %g",
                          (long long)m, (long long)n, scale, options.eps, V[i * n + j], U[(i + 1) % m * n + j]);
        ck_assert_at_most(spectral_norm(U, m, n), 1 + 1e-5);
        double *used[] = {whole, turned, U, V};
        for (size_t i = 0; i < sizeof used / sizeof used[0]; i++) free(used[i]);
      }
}

START_TEST(exact_factors_of_centered_matrices)
{
  for_some_grids(check_exact_centered);
}
END_TEST

START_TEST(exact_factors_of_rank_deficient_matrices)
{
  for_each_grid(check_exact_rank_deficient);
  for_some_grids(check_lost_singular_value);
}
END_TEST

static void check_zero(const eqs_grid *grid)
{
  double *whole = test_numbers(6, 10);
  for (int solver = 0; solver <= EQS_EXACT; solver++)
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
  for (int solver = 0; solver <= EQS_EXACT; solver++) {
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
    for (int solver = 0; solver <= EQS_EXACT; solver++)
      for (int form = EQS_FORM_AUTO; form < EQS_FORMS; form++) {
        eqs_polar_options options = {
            .solver = (eqs_solver)solver, .steps = s % 2 ? 4 : 12, .form = (eqs_form)form, .eps = 1e-8};
        if (form == EQS_FORM_DIRECT && eqs_solver_damped(options.solver, options.normalisation)) continue;
        double *whole = test_numbers(sizes[s][0], sizes[s][1]), before = test_counts()->flops;
        for (int64_t i = 0; i < sizes[s][0] * sizes[s][1]; i++) whole[i] = test_uniform(3, (uint64_t)i);
        free(polar_on_grid(grid, &options, whole, sizes[s][0], sizes[s][1]));
        double asked = test_counts()->flops - before, expected = eqs_polar_flops(&options, sizes[s][0], sizes[s][1]);
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
  tcase_add_test(tests, bounded_for_any_rank_condition_and_number_of_steps);
  tcase_add_test(tests, bounded_for_low_rank_on_every_grid);
  tcase_add_test(tests, restarts_where_they_are_listed);
  tcase_add_test(tests, sixteen_steps_converge);
  tcase_add_test(tests, custom_polynomials);
  tcase_add_test(tests, damping_of_the_nominal_side);
  tcase_add_test(tests, extreme_scales);
  tcase_add_test(tests, undamped_factors_do_not_depend_on_the_size);
  tcase_add_test(tests, exact_factors_of_known_matrices);
  tcase_add_test(tests, exact_factors_have_orthonormal_rows);
  tcase_add_test(tests, exact_factors_of_rank_deficient_matrices);
  tcase_add_test(tests, exact_factors_of_centered_matrices);
  tcase_add_test(tests, zero_stays_zero);
  tcase_add_test(tests, same_input_same_bits);
  tcase_add_test(tests, what_a_solver_cannot_do_is_refused);
  tcase_add_test(tests, flops_are_those_asked_for);
  tcase_set_timeout(tests, 0);
  suite_add_tcase(suite, tests);
  return suite;
}
