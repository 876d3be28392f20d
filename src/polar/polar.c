#include "polar/polar.h"

#include <math.h>

#include "dist/product.h"
#include "polar/solver.h"

enum { restart_after = 2 }; /* steps */

int64_t eqs_smaller_side(eqs_side nominal, const eqs_matrix *x, eqs_operation *op)
{
  int64_t m = x->layout.rows, n = x->layout.cols;
  bool of_rows = m != n ? m < n : nominal == EQS_LEFT;
  *op = of_rows ? EQS_AS_IS : EQS_TRANSPOSED;
  return of_rows ? m : n;
}

eqs_status eqs_create_square(const eqs_matrix *x, int64_t k, eqs_element element, eqs_matrix *square)
{
  const int64_t largest_block = 64;
  int side = x->grid->rows > x->grid->cols ? x->grid->rows : x->grid->cols;
  int64_t block = (k + side - 1) / side;
  if (block > largest_block) block = largest_block;
  if (block < 1) block = 1;
  return eqs_matrix_create(x->grid, k, k, block, block, element, square);
}

/* The smaller Gram matrix commutes with the odd polynomial: y <- alpha q x + beta y, or alpha x q + beta y. */
static eqs_status apply(eqs_operation op, double alpha, const eqs_matrix *q, const eqs_matrix *x, double beta,
                        eqs_matrix *y)
{
  if (op == EQS_AS_IS) return eqs_multiply(alpha, EQS_AS_IS, q, EQS_AS_IS, x, beta, y);
  return eqs_multiply(alpha, EQS_AS_IS, x, EQS_AS_IS, q, beta, y);
}

static void swap(eqs_matrix *a, eqs_matrix *b)
{
  void *data = a->data;
  a->data = b->data;
  b->data = data;
}

/* X <- aX + (bA + cA²)X with A = XXᵀ, or mirrored with A = XᵀX. */
static eqs_status iterate_direct(const eqs_polar_options *options, eqs_matrix *x)
{
  eqs_status status = EQS_OK;
  eqs_operation op;
  int64_t k = eqs_smaller_side(options->side, x, &op);
  eqs_matrix A = {0}, B = {0}, original = {0};
  EQS_TRY(eqs_create_square(x, k, x->element, &A));
  EQS_TRY(eqs_matrix_create_like(&A, x->element, &B));
  EQS_TRY(eqs_matrix_create_like(x, x->element, &original));
  for (int step = 0; step < options->steps; step++) {
    double p[3];
    eqs_solver_coefficients(options->solver, step, p);
    EQS_TRY(eqs_gram(1, op, x, &A));
    eqs_matrix_copy(&A, &B);
    EQS_TRY(eqs_multiply_commuting(p[2], &A, &A, p[1], &B));
    eqs_matrix_copy(x, &original);
    EQS_TRY(apply(op, 1, &B, &original, p[0], x));
  }
cleanup:
  eqs_matrix_destroy(&A);
  eqs_matrix_destroy(&B);
  eqs_matrix_destroy(&original);
  return status;
}

/* Work matrices of the Gram form, k×k, all polynomials of one symmetric matrix: they commute. */
typedef struct {
  eqs_matrix R, Z, Q, work;
} gram_state;

static eqs_status create_gram_state(const eqs_matrix *x, int64_t k, gram_state *state)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_create_square(x, k, x->element, &state->R));
  EQS_TRY(eqs_matrix_create_like(&state->R, x->element, &state->Z));
  EQS_TRY(eqs_matrix_create_like(&state->R, x->element, &state->Q));
  EQS_TRY(eqs_matrix_create_like(&state->R, x->element, &state->work));
cleanup:
  return status;
}

static void destroy_gram_state(gram_state *state)
{
  eqs_matrix_destroy(&state->R);
  eqs_matrix_destroy(&state->Z);
  eqs_matrix_destroy(&state->Q);
  eqs_matrix_destroy(&state->work);
}

/* Z <- bR + cR² */
static eqs_status form_z(const double p[3], gram_state *s)
{
  if (p[2] == 0) {
    eqs_matrix_combine(p[1], &s->R, 0, &s->Z);
    return EQS_OK;
  }
  eqs_matrix_copy(&s->R, &s->Z);
  return eqs_multiply_commuting(p[2], &s->R, &s->R, p[1], &s->Z);
}

/* Q <- Q(aI + Z); Q = I at first. */
static eqs_status advance_q(const double p[3], bool first, gram_state *s)
{
  if (first) {
    eqs_matrix_copy(&s->Z, &s->Q);
    eqs_matrix_add_identity(&s->Q, p[0]);
    return EQS_OK;
  }
  eqs_matrix_copy(&s->Q, &s->work);
  eqs_status status = eqs_multiply_commuting(1, &s->Q, &s->Z, p[0], &s->work);
  swap(&s->Q, &s->work);
  return status;
}

/* R <- (aI + Z)R(aI + Z); Z is used up. */
static eqs_status advance_r(const double p[3], gram_state *s)
{
  eqs_status status = EQS_OK;
  eqs_matrix_add_identity(&s->Z, p[0]);
  EQS_TRY(eqs_multiply_commuting(1, &s->Z, &s->R, 0, &s->work));
  EQS_TRY(eqs_multiply_commuting(1, &s->work, &s->Z, 0, &s->R));
cleanup:
  return status;
}

/* X <- QX, or mirrored XQ. */
static eqs_status apply_q(eqs_operation op, const eqs_matrix *Q, eqs_matrix *original, eqs_matrix *x)
{
  eqs_matrix_copy(x, original);
  return apply(op, 1, Q, original, 0, x);
}

/*
 * X <- QX, R <- XXᵀ + δQ², Q <- I. The damping δ = ε/s does not pass through X: it is carried along by itself.
 */
static eqs_status restart(eqs_operation op, double damping, eqs_matrix *original, eqs_matrix *x, gram_state *s)
{
  eqs_status status = EQS_OK;
  EQS_TRY(apply_q(op, &s->Q, original, x));
  EQS_TRY(eqs_gram(1, op, x, &s->R));
  if (damping > 0) EQS_TRY(eqs_multiply_commuting(damping, &s->Q, &s->Q, 1, &s->R));
cleanup:
  return status;
}

/* From R = XXᵀ + δI, with the normalised X, to X <- QX. */
static eqs_status iterate_gram(const eqs_polar_options *options, eqs_operation op, double damping, gram_state *s,
                               eqs_matrix *x)
{
  eqs_status status = EQS_OK;
  eqs_matrix original = {0};
  bool q_is_identity = true;
  EQS_TRY(eqs_matrix_create_like(x, x->element, &original));
  for (int step = 0; step < options->steps; step++) {
    double p[3];
    eqs_solver_coefficients(options->solver, step, p);
    if (step == restart_after && options->form == EQS_FORM_GRAM_RESTART) {
      EQS_TRY(restart(op, damping, &original, x, s));
      q_is_identity = true;
    }
    EQS_TRY(form_z(p, s));
    EQS_TRY(advance_q(p, q_is_identity, s));
    q_is_identity = false;
    if (step + 1 < options->steps) EQS_TRY(advance_r(p, s));
  }
  if (!q_is_identity) EQS_TRY(apply_q(op, &s->Q, &original, x));
cleanup:
  eqs_matrix_destroy(&original);
  return status;
}

/* Undamped: R₀ = XXᵀ of X = D/s. */
static eqs_status gram_polar(const eqs_polar_options *options, eqs_matrix *x)
{
  eqs_status status = EQS_OK;
  eqs_operation op;
  int64_t k = eqs_smaller_side(options->side, x, &op);
  gram_state state = {0};
  EQS_TRY(create_gram_state(x, k, &state));
  EQS_TRY(eqs_gram(1, op, x, &state.R));
  EQS_TRY(iterate_gram(options, op, 0, &state, x));
cleanup:
  destroy_gram_state(&state);
  return status;
}

/* ||G + εI||_F of the nominal Gram matrix of order n, which has the norm and the trace of the smaller one. */
static double damped_norm(double gram_norm, double trace, double eps, double n)
{
  return sqrt(gram_norm * gram_norm + 2 * eps * trace + n * eps * eps);
}

/*
 * Damped: R₀ = (DᵀD + εI)/s and U = D·Q/√s, on the smaller side. D is scaled by a power of two t near its norm
 * before it is squared, so that float32 suffices; G is the Gram matrix of D/t.
 */
static eqs_status damped_polar(const eqs_polar_options *options, double norm, eqs_matrix *x)
{
  eqs_status status = EQS_OK;
  eqs_operation op;
  int64_t k = eqs_smaller_side(options->side, x, &op);
  double t = ldexp(1, ilogb(norm)), gram_norm, eps = options->eps;
  double nominal = (double)(options->side == EQS_RIGHT ? x->layout.cols : x->layout.rows);
  gram_state state = {0};
  EQS_TRY(create_gram_state(x, k, &state));
  eqs_matrix_scale(x, 1 / t);
  EQS_TRY(eqs_gram(1, op, x, &state.R));
  EQS_TRY(eqs_matrix_norm(&state.R, &gram_norm));
  double s = eqs_solver_normalisation(options->solver, damped_norm(t * t * gram_norm, norm * norm, eps, nominal), eps);
  eqs_matrix_scale(x, t / sqrt(s));
  eqs_matrix_scale(&state.R, t * t / s);
  eqs_matrix_add_identity(&state.R, eps / s);
  EQS_TRY(iterate_gram(options, op, eps / s, &state, x));
cleanup:
  destroy_gram_state(&state);
  return status;
}

static eqs_status check_options(const eqs_polar_options *options)
{
  if (eqs_solver_damped(options->solver) && options->form == EQS_FORM_DIRECT)
    return eqs_fail(EQS_USAGE, "solver %s has no direct form: it has no place for the damping",
                    eqs_solver_names[options->solver]);
  if (options->solver != EQS_EXACT && options->steps < 1)
    return eqs_fail(EQS_USAGE, "solver %s needs at least one step", eqs_solver_names[options->solver]);
  if (options->eps < 0) return eqs_fail(EQS_USAGE, "eps = %g is negative", options->eps);
  return EQS_OK;
}

static double direct_flops(const eqs_polar_options *options, double gram, double square, double whole)
{
  return options->steps * (gram + square + whole);
}

static double gram_flops(const eqs_polar_options *options, double gram, double square, double whole)
{
  double flops = gram + whole;
  bool q_is_identity = true;
  for (int step = 0; step < options->steps; step++) {
    double p[3];
    eqs_solver_coefficients(options->solver, step, p);
    if (step == restart_after && options->form == EQS_FORM_GRAM_RESTART) {
      flops += whole + gram + (eqs_solver_damped(options->solver) && options->eps > 0 ? square : 0);
      q_is_identity = true;
    }
    if (p[2] != 0) flops += square;
    if (!q_is_identity) flops += square;
    q_is_identity = false;
    if (step + 1 < options->steps) flops += 2 * square;
  }
  return flops;
}

/*
 * Direct where it costs no more, as the products of dist/product.h are done on one rank: for square matrices, and
 * where whole products are faster than halves up to an aspect of about 3:2.
 */
static bool takes_direct_form(const eqs_polar_options *options, double gram, double square, double whole)
{
  if (options->form != EQS_FORM_AUTO) return options->form == EQS_FORM_DIRECT;
  return !eqs_solver_damped(options->solver) &&
         direct_flops(options, gram, square, whole) <= gram_flops(options, gram, square, whole);
}

/* Work of the three products on an m×n matrix: the Gram matrix, one of its order, and a polynomial of it with X. */
static void product_flops(int64_t m, int64_t n, double *gram, double *square, double *whole)
{
  int64_t k = m < n ? m : n, l = m < n ? n : m;
  *gram = eqs_symmetric_product_flops(k, l);
  *square = eqs_symmetric_product_flops(k, k);
  *whole = 2.0 * (double)k * (double)k * (double)l;
}

eqs_status eqs_polar(const eqs_polar_options *options, eqs_matrix *x)
{
  eqs_status status = EQS_OK;
  double norm, gram, square, whole;
  EQS_TRY(check_options(options));
  EQS_TRY(eqs_matrix_norm(x, &norm));
  if (!isfinite(norm)) return eqs_fail(EQS_FAILED, "the polar factor of a matrix with elements that are not finite");
  if (norm == 0) return EQS_OK;

  if (options->solver == EQS_EXACT) return eqs_exact_polar(options, x);
  if (eqs_solver_damped(options->solver)) return damped_polar(options, norm, x);
  eqs_matrix_scale(x, 1 / eqs_solver_normalisation(options->solver, norm, 0));
  product_flops(x->layout.rows, x->layout.cols, &gram, &square, &whole);
  if (takes_direct_form(options, gram, square, whole)) return iterate_direct(options, x);
  return gram_polar(options, x);
cleanup:
  return status;
}

double eqs_polar_flops(const eqs_polar_options *options, int64_t m, int64_t n)
{
  double gram, square, whole;
  product_flops(m, n, &gram, &square, &whole);
  if (options->solver == EQS_EXACT) return gram + eqs_symmetric_eigen_flops(m < n ? m : n) + square + whole;
  if (takes_direct_form(options, gram, square, whole)) return direct_flops(options, gram, square, whole);
  return gram_flops(options, gram, square, whole);
}
