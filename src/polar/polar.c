#include "polar/polar.h"

#include <math.h>

#include "dist/eigen.h"
#include "dist/half_product.h"
#include "dist/product.h"
#include "dist/symmetric_set.h"
#include "polar/exact.h"
#include "polar/restarts.h"

enum { direct_matrices = 2, gram_matrices = 4, damped_matrices = 5 /* with several restarts */ };

static bool damped(const eqs_polar_options *options)
{
  return eqs_solver_damped(options->solver, options->normalisation);
}

/* One evaluation: X = scale · D is iterated upon, where D is what lies in the matrix. */
typedef struct {
  const eqs_polar_options *options;
  eqs_symmetric_set *set;
  eqs_operation op;
  double scale;   /* still to be multiplied into X */
  double damping; /* δ of R = XXᵀ + δI */
} iteration;

/* X <- scale · M[q] X. */
static eqs_status apply(iteration *it, int q, double *dot)
{
  eqs_status status = eqs_symmetric_set_apply(it->set, it->scale, q, dot);
  it->scale = 1;
  return status;
}

/* X <- (aI + bA + cA²)X with A = XXᵀ, or mirrored with A = XᵀX. */
static eqs_status iterate_direct(iteration *it)
{
  enum { A, B };
  eqs_status status = EQS_OK;
  for (int step = 0; step < it->options->steps; step++) {
    double p[3];
    eqs_solver_coefficients(it->options, step, p);
    EQS_TRY(eqs_symmetric_set_gram(it->set, it->scale * it->scale, 0, A));
    EQS_TRY(eqs_symmetric_set_multiply(it->set, p[2], A, A, p[1], A, p[0], B));
    EQS_TRY(apply(it, B, NULL));
  }
cleanup:
  return status;
}

/* Which matrix of the set holds what in the Gram form; they are exchanged instead of copied. */
typedef struct {
  int R, Z, Q, spare;
  int E; /* the damping as it is after restarts; -1: there is but one, for which the spare one serves */
  bool q_is_identity, restarted;
} gram_state;

static void exchange(int *a, int *b)
{
  int other = *a;
  *a = *b;
  *b = other;
}

/* Z <- aI + bR + cR² */
static eqs_status form_z(iteration *it, const double p[3], const gram_state *s)
{
  if (p[2] == 0) return eqs_symmetric_set_combine(it->set, p[1], s->R, -1, p[0], s->Z);
  return eqs_symmetric_set_multiply(it->set, p[2], s->R, s->R, p[1], s->R, p[0], s->Z);
}

/*
 * Of products of commuting matrices one triangle is enough in exact arithmetic. Mirrored, it brings their commutator
 * into the result, which is of the size of Z's rounding. With whole products instead Q and R stay what this very Z
 * makes of them, however it was rounded. That matters to singular Gram matrices (of centered rows) with a small
 * damping: the reference trajectories of `hybrid` come to 12 times what is allowed with halves, to 0.8 of it with whole
 * products.
 */
static bool takes_whole_products(const eqs_polar_options *options)
{
  return damped(options) || options->centered;
}

static eqs_status multiply(iteration *it, int a, int b, int to)
{
  if (takes_whole_products(it->options)) return eqs_symmetric_set_multiply_whole(it->set, a, b, to);
  return eqs_symmetric_set_multiply(it->set, 1, a, b, 0, -1, 0, to);
}

/* Q <- ZQ where it multiplies X from the left, QZ from the right: the last Z is the last to meet X */
static eqs_status advance_q(iteration *it, gram_state *s)
{
  bool left = it->op == EQS_AS_IS;
  eqs_status status = multiply(it, left ? s->Z : s->Q, left ? s->Q : s->Z, s->spare);
  exchange(&s->Q, &s->spare);
  return status;
}

/* R <- ZRZ, by (RZ)ᵀZ */
static eqs_status advance_r(iteration *it, int z, gram_state *s)
{
  eqs_status status = EQS_OK;
  EQS_TRY(multiply(it, s->R, z, s->spare));
  EQS_TRY(eqs_symmetric_set_multiply(it->set, 1, s->spare, z, 0, -1, 0, s->R));
cleanup:
  return status;
}

static int matrices_of_gram_form(const eqs_polar_options *options)
{
  return damped(options) && eqs_restart_count(options) > 1 ? damped_matrices : gram_matrices;
}

/* X <- QX, R <- XXᵀ + E, Q <- I. The damping E, δI at first, does not pass through X: E <- QEQ by itself. */
static eqs_status restart(iteration *it, gram_state *s)
{
  eqs_status status = EQS_OK;
  int E = s->E >= 0 ? s->E : s->spare;
  EQS_TRY(apply(it, s->Q, NULL));
  EQS_TRY(eqs_symmetric_set_gram(it->set, 1, 0, s->R));
  if (it->damping > 0) {
    if (!s->restarted) {
      EQS_TRY(eqs_symmetric_set_multiply(it->set, it->damping, s->Q, s->Q, 0, -1, 0, E));
    } else {
      EQS_TRY(eqs_symmetric_set_multiply(it->set, 1, E, s->Q, 0, -1, 0, s->spare));
      EQS_TRY(eqs_symmetric_set_multiply(it->set, 1, s->spare, s->Q, 0, -1, 0, E));
    }
    EQS_TRY(eqs_symmetric_set_combine(it->set, 1, s->R, E, 0, s->R));
  }
  s->q_is_identity = s->restarted = true;
cleanup:
  return status;
}

/* From R = XXᵀ + δI in M[0] to X <- QX. */
static eqs_status iterate_gram(iteration *it, double *dot)
{
  eqs_status status = EQS_OK;
  gram_state s = {.R = 0,
                  .Z = 1,
                  .Q = 2,
                  .spare = 3,
                  .E = matrices_of_gram_form(it->options) > gram_matrices ? gram_matrices : -1,
                  .q_is_identity = true};
  eqs_restarts restarts = eqs_restarts_begin(it->options);
  for (int step = 0; step < it->options->steps; step++) {
    double p[3];
    eqs_solver_coefficients(it->options, step, p);
    if (eqs_restarts_before(&restarts, step)) EQS_TRY(restart(it, &s));
    EQS_TRY(form_z(it, p, &s));
    int z = s.Z;
    if (s.q_is_identity)
      exchange(&s.Q, &s.Z); /* Q = Z, until the next step makes another Z */
    else
      EQS_TRY(advance_q(it, &s));
    s.q_is_identity = false;
    if (step + 1 < it->options->steps) EQS_TRY(advance_r(it, z, &s));
  }
  EQS_TRY(apply(it, s.Q, dot));
cleanup:
  return status;
}

/* ||G + εI||_F of the nominal Gram matrix of order n, which has the norm and the trace of the smaller one. */
static double damped_norm(double gram_norm, double trace, double eps, double n)
{
  return sqrt(gram_norm * gram_norm + 2 * eps * trace + n * eps * eps);
}

/* Undamped: X = D/s, R = XXᵀ. */
static eqs_status begin_undamped(iteration *it, double norm)
{
  it->scale /= eqs_undamped_normalisation(it->options, norm);
  return EQS_OK;
}

/*
 * Damped: R = (DDᵀ + εI)/s, on the smaller side, and X = D/√s. D is scaled by a power of two t near its norm
 * before it is squared, so that float32 suffices.
 */
static eqs_status begin_damped(iteration *it, double norm, double nominal)
{
  enum { R };
  eqs_status status = EQS_OK;
  double t = ldexp(1, ilogb(norm)), eps = it->options->eps, gram_norm;
  EQS_TRY(eqs_symmetric_set_gram(it->set, (it->scale / t) * (it->scale / t), 0, R));
  EQS_TRY(eqs_symmetric_set_norm(it->set, R, &gram_norm));
  double s = eqs_damped_normalisation(it->options, damped_norm(t * t * gram_norm, norm * norm, eps, nominal));
  EQS_TRY(eqs_symmetric_set_combine(it->set, t * t / s, R, -1, eps / s, R));
  it->damping = eps / s;
  it->scale /= sqrt(s);
cleanup:
  return status;
}

static eqs_status check_options(const eqs_polar_options *options)
{
  if (damped(options) && options->form == EQS_FORM_DIRECT)
    return eqs_fail(EQS_USAGE, "solver %s has no direct form: it has no place for the damping",
                    eqs_solver_names[options->solver]);
  if (options->solver != EQS_EXACT && options->steps < 1)
    return eqs_fail(EQS_USAGE, "solver %s needs at least one step", eqs_solver_names[options->solver]);
  if (options->solver == EQS_CUSTOM && (options->lists == NULL || options->lists->polynomials < 1))
    return eqs_fail(EQS_USAGE, "solver custom needs coefficients");
  if (options->eps < 0) return eqs_fail(EQS_USAGE, "eps = %g is negative", options->eps);
  return EQS_OK;
}

/* Work of the products on an m×n matrix: the Gram matrix, those of its order, and a polynomial of it with X. */
typedef struct {
  double gram, square, whole_square, whole;
} product_work;

/* As asked for: triangles count half. */
static product_work flops_of_products(int64_t m, int64_t n)
{
  int64_t k = m < n ? m : n, l = m < n ? n : m;
  return (product_work){.gram = eqs_half_product_flops(0, k, l),
                        .square = eqs_half_product_flops(0, k, k),
                        .whole_square = 2.0 * (double)k * (double)k * (double)k,
                        .whole = 2.0 * (double)k * (double)k * (double)l};
}

/* As done: triangles in whole tiles. */
static product_work work_of_products(int64_t m, int64_t n)
{
  int64_t k = m < n ? m : n, l = m < n ? n : m;
  product_work work = flops_of_products(m, n);
  work.gram = eqs_half_product_work(k, l);
  work.square = eqs_half_product_work(k, k);
  return work;
}

static double direct_flops(const eqs_polar_options *options, product_work work)
{
  return options->steps * (work.gram + work.square + work.whole);
}

static double gram_flops(const eqs_polar_options *options, product_work work)
{
  double flops = work.gram + work.whole;
  double commuting = takes_whole_products(options) ? work.whole_square : work.square;
  bool q_is_identity = true, restarted = false;
  eqs_restarts restarts = eqs_restarts_begin(options);
  for (int step = 0; step < options->steps; step++) {
    double p[3];
    eqs_solver_coefficients(options, step, p);
    if (eqs_restarts_before(&restarts, step)) {
      flops += work.whole + work.gram;
      if (damped(options) && options->eps > 0) flops += restarted ? 2 * work.square : work.square;
      q_is_identity = restarted = true;
    }
    if (p[2] != 0) flops += work.square;
    if (!q_is_identity) flops += commuting;
    q_is_identity = false;
    if (step + 1 < options->steps) flops += commuting + work.square;
  }
  return flops;
}

/* Direct where it costs no more, as the products are done: for square matrices, and small ones that are nearly so. */
static bool takes_direct_form(const eqs_polar_options *options, int64_t m, int64_t n)
{
  product_work work = work_of_products(m, n);
  if (options->form != EQS_FORM_AUTO) return options->form == EQS_FORM_DIRECT;
  return !damped(options) && direct_flops(options, work) <= gram_flops(options, work);
}

/* The Gram matrix to work with: of a square matrix where nothing is damped, the one along whose other side X lies. */
static eqs_operation choose_gram(const eqs_polar_options *options, const eqs_grid *grid, int64_t m, int64_t n)
{
  eqs_operation along = grid->rows < grid->cols ? EQS_AS_IS : EQS_TRANSPOSED;
  return eqs_smaller_gram(m, n, damped(options) ? eqs_nominal_gram(options->side) : along);
}

static eqs_status evaluate(const eqs_polar_options *options, double norm, double scale, eqs_matrix *x, double *dot)
{
  eqs_status status = EQS_OK;
  bool direct = takes_direct_form(options, x->distribution.rows, x->distribution.cols);
  double nominal = (double)(options->side == EQS_RIGHT ? x->distribution.cols : x->distribution.rows);
  eqs_operation op = choose_gram(options, x->grid, x->distribution.rows, x->distribution.cols);
  iteration it = {.options = options, .op = op, .scale = scale};
  EQS_TRY(eqs_symmetric_set_open(x, op, direct ? direct_matrices : matrices_of_gram_form(options), &it.set));
  if (damped(options))
    EQS_TRY(begin_damped(&it, norm, nominal));
  else
    EQS_TRY(begin_undamped(&it, norm));
  if (direct) {
    EQS_TRY(iterate_direct(&it));
  } else {
    if (!damped(options)) EQS_TRY(eqs_symmetric_set_gram(it.set, it.scale * it.scale, 0, 0));
    EQS_TRY(iterate_gram(&it, dot));
  }
cleanup:
  if (status == EQS_OK)
    status = eqs_symmetric_set_close(&it.set);
  else
    eqs_symmetric_set_close(&it.set);
  return status;
}

/* Where the evaluation ends with one product of the original X, ν comes with it; else X is kept. */
static eqs_status evaluate_with_nu(const eqs_polar_options *options, double norm, double scale, eqs_matrix *x,
                                   double *nu)
{
  eqs_status status = EQS_OK;
  eqs_matrix original = {0};
  bool direct = takes_direct_form(options, x->distribution.rows, x->distribution.cols);
  if (!direct && eqs_restart_count(options) == 0) return evaluate(options, norm, scale, x, nu);
  EQS_TRY(eqs_matrix_create_like(x, EQS_ELEMENT_FLOAT, &original));
  eqs_matrix_copy(x, &original);
  EQS_TRY(evaluate(options, norm, scale, x, NULL));
  EQS_TRY(eqs_matrix_dot(&original, x, nu));
cleanup:
  eqs_matrix_destroy(&original);
  return status;
}

/* ε as a number, and its share beside the mean eigenvalue. */
static eqs_polar_options measure_damping(const eqs_polar_options *options, const eqs_matrix *x,
                                         eqs_polar_findings *findings)
{
  eqs_polar_options absolute = *options;
  int64_t m = x->distribution.rows, n = x->distribution.cols;
  double mean = findings->squares / (double)(m < n ? m : n);
  if (options->relative) absolute.eps *= mean;
  absolute.relative = false;
  if (damped(options) || options->solver == EQS_EXACT) findings->damping = absolute.eps / (absolute.eps + mean);
  return absolute;
}

eqs_status eqs_polar_measured(const eqs_polar_options *options, eqs_matrix *x, bool with_nu,
                              eqs_polar_findings *findings)
{
  static const double small = 1e-10, large = 1e10; /* norms beyond these leave the range of float32 when squared */
  eqs_status status = EQS_OK;
  double norm, scale = 1, *nu = with_nu ? &findings->nu : NULL;
  *findings = (eqs_polar_findings){0};
  EQS_TRY(check_options(options));
  EQS_TRY(eqs_matrix_norm(x, &norm));
  findings->squares = norm * norm;
  findings->nonfinite = !isfinite(norm);
  if (findings->nonfinite)
    return eqs_fail(EQS_FAILED, "the polar factor cannot be computed: the matrix has elements that are not finite");
  if (norm == 0) return EQS_OK;
  eqs_polar_options absolute = measure_damping(options, x, findings);
  if (options->solver == EQS_EXACT) return eqs_exact_polar(&absolute, x, nu);
  if (norm < small || norm > large) {
    scale = ldexp(1, ilogb(norm));
    eqs_matrix_scale(x, 1 / scale);
  }
  EQS_TRY(with_nu ? evaluate_with_nu(&absolute, norm, scale, x, nu) : evaluate(&absolute, norm, scale, x, NULL));
  findings->nu *= scale;
cleanup:
  return status;
}

eqs_status eqs_polar(const eqs_polar_options *options, eqs_matrix *x, double *nu)
{
  eqs_polar_findings findings;
  eqs_status status = eqs_polar_measured(options, x, nu != NULL, &findings);
  if (nu != NULL) *nu = findings.nu;
  return status;
}

double eqs_polar_flops(const eqs_polar_options *options, int64_t m, int64_t n)
{
  int64_t k = m < n ? m : n, l = m < n ? n : m;
  product_work work = flops_of_products(m, n);
  if (options->solver == EQS_EXACT)
    return eqs_symmetric_product_flops(k, l) + eqs_symmetric_eigen_flops(k) + eqs_symmetric_product_flops(k, k) +
           work.whole;
  return takes_direct_form(options, m, n) ? direct_flops(options, work) : gram_flops(options, work);
}

/* Operations at the speed of symmetric products, which whole ones come near, shared by the ranks. */
double eqs_polar_seconds(const eqs_polar_options *options, const eqs_speeds *speeds, const eqs_grid *grid, int64_t m,
                         int64_t n)
{
  int ranks = grid->rows * grid->cols;
  int64_t k = m < n ? m : n, l = m < n ? n : m;
  if (k == 0) return 0;
  if (options->solver == EQS_EXACT) /* in float64 */
    return (eqs_symmetric_eigen_flops(k) / speeds->eigen +
            2 * (eqs_polar_flops(options, m, n) - eqs_symmetric_eigen_flops(k)) / eqs_speed_at(&speeds->gemm, k)) /
           ranks;
  eqs_operation op = choose_gram(options, grid, m, n);
  bool along = op == EQS_AS_IS ? grid->rows == 1 : grid->cols == 1, direct = takes_direct_form(options, m, n);
  bool replicated = eqs_symmetric_set_replicated(grid, op, k, l);
  double once = (double)k * (double)k * (double)k / ranks / eqs_speed_at(&speeds->symmetric, k);
  double products = direct ? 2.0 * options->steps : 4.0 * options->steps; /* those that go to all ranks */
  double seconds = eqs_polar_flops(options, m, n) / ranks / eqs_speed_at(&speeds->symmetric, k);
  if (ranks > 1) seconds += products * (eqs_symmetric_set_seconds(speeds, replicated, ranks, k) - once);
  return seconds + (replicated && !along ? eqs_slab_seconds(speeds, ranks, k, l) : 0);
}

void eqs_polar_workspace(const eqs_polar_options *options, const eqs_grid *grid, int64_t m, int64_t n, int64_t *kept,
                         int64_t *freed)
{
  int ranks = grid->rows * grid->cols;
  int64_t k = m < n ? m : n, l = m < n ? n : m;
  *kept = *freed = 0;
  if (options->solver == EQS_EXACT) /* two of X, three of the Gram matrix and LAPACK's own, in float64 */
    *freed = (2 * k * l + 6 * k * k) / ranks * (int64_t)sizeof(double);
  else
    eqs_symmetric_set_workspace(grid, choose_gram(options, grid, m, n), k, l,
                                takes_direct_form(options, m, n) ? direct_matrices : matrices_of_gram_form(options),
                                kept, freed);
}
