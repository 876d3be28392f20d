#include "equivariance/reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "distributed/matrices.h"

/* Eigenvalues in place of the diagonal of A, symmetric n×n, and eigenvectors as the columns of V: Jacobi rotations. */
static void jacobi(int64_t n, double *A, double *V)
{
  for (int64_t i = 0; i < n; i++) V[i * n + i] = 1;
  for (int sweep = 0; sweep < 30; sweep++)
    for (int64_t p = 0; p < n; p++)
      for (int64_t q = p + 1; q < n; q++) {
        if (fabs(A[p * n + q]) <= 1e-18 * sqrt(fabs(A[p * n + p]) * fabs(A[q * n + q])) || A[p * n + q] == 0) continue;
        double theta = (A[q * n + q] - A[p * n + p]) / (2 * A[p * n + q]);
        double t = (theta < 0 ? -1 : 1) / (fabs(theta) + hypot(theta, 1)), c = 1 / hypot(t, 1), s = t * c;
        for (int64_t k = 0; k < n; k++) {
          double left = A[k * n + p], right = A[k * n + q];
          A[k * n + p] = c * left - s * right, A[k * n + q] = s * left + c * right;
          left = V[k * n + p], right = V[k * n + q];
          V[k * n + p] = c * left - s * right, V[k * n + q] = s * left + c * right;
        }
        for (int64_t k = 0; k < n; k++) {
          double upper = A[p * n + k], lower = A[q * n + k];
          A[p * n + k] = c * upper - s * lower, A[q * n + k] = s * upper + c * lower;
        }
      }
}

/* The constant that undamped solvers add to ||D||_F for one of several matrices. */
static double guard(const eqs_rule_options *options, double constant, double trace)
{
  return options->several ? fmin(constant, 2e-4 * sqrt(trace)) : 0;
}

/* g with U = D g(DᵀD), of the n eigenvalues of the Gram matrix that the options name, in place. */
static void apply_solver(const eqs_rule_options *options, int64_t n, double *eigenvalues)
{
  bool damped = options->rule->damped || eqs_solver_damped(options->solver, options->normalisation);
  double eps = damped ? options->eps : 0, largest = 0, squares = 0, trace = 0, s = 1;
  for (int64_t i = 0; i < n; i++) {
    double value = eigenvalues[i] = fmax(eigenvalues[i], 0);
    largest = fmax(largest, value);
    trace += value;
    squares += (value + eps) * (value + eps);
  }
  switch (options->solver) {
  case EQS_NEWTON_SCHULZ: s = sqrt(squares); break;
  case EQS_POLAR_EXPRESS: s = 1.02 * sqrt(squares) + eps; break;
  case EQS_POLAR_EXPRESS_5: s = pow(1.02 * sqrt(trace) + guard(options, 1e-6, trace), 2); break;
  default: s = pow(sqrt(trace) + guard(options, 1e-7, trace), 2); break;
  }
  if (s == 0) s = 1; /* a zero matrix stays zero */
  const eqs_polar_options polar = {.solver = options->solver, .lists = options->lists};
  for (int64_t i = 0; i < n; i++) {
    double x = (eigenvalues[i] + (eqs_solver_damped(options->solver, options->normalisation) ? eps : 0)) / s,
           g = 1 / sqrt(s);
    if (options->solver == EQS_EXACT) {
      g = eigenvalues[i] + eps > 1e-13 * largest ? 1 / sqrt(eigenvalues[i] + eps) : 0;
    } else {
      for (int step = 0; step < options->steps; step++) {
        double p[3];
        eqs_solver_coefficients(&polar, step, p);
        double slope = p[0] + p[1] * x + p[2] * x * x; /* p(√x)/√x */
        g *= slope;
        x *= slope * slope;
      }
    }
    eigenvalues[i] = g;
  }
}

static double *polar_factor(const eqs_rule_options *options, int64_t m, int64_t n, const double *D)
{
  bool right = options->side == EQS_RIGHT;
  int64_t order = right ? n : m;
  double *Dt = test_transpose(D, m, n), *V = test_numbers(order, order), *values = test_numbers(order, 1);
  double *gram = right ? test_multiply(Dt, D, n, m, n) : test_multiply(D, Dt, m, n, m);
  jacobi(order, gram, V);
  for (int64_t i = 0; i < order; i++) values[i] = gram[i * order + i];
  apply_solver(options, order, values);
  double *Vt = test_transpose(V, order, order);
  for (int64_t i = 0; i < order; i++)
    for (int64_t j = 0; j < order; j++) V[i * order + j] *= values[j];
  double *F = test_multiply(V, Vt, order, order, order);
  double *U = right ? test_multiply(D, F, m, n, n) : test_multiply(F, D, m, m, n);
  double *used[] = {Dt, V, values, gram, Vt, F};
  for (size_t i = 0; i < sizeof used / sizeof used[0]; i++) free(used[i]);
  return U;
}

/* The mean as its distance from the first row: none, exactly, where all rows are alike. */
static void center(int64_t m, int64_t n, double *X)
{
  for (int64_t j = 0; j < n; j++) {
    double mean = X[j];
    for (int64_t i = 1; i < m; i++) mean += (X[i * n + j] - X[j]) / (double)m;
    for (int64_t i = 0; i < m; i++) X[i * n + j] -= mean;
  }
}

static void normalize_rows(const eqs_rule_options *options, int64_t m, int64_t n, double *X)
{
  for (int64_t i = 0; i < m; i++) {
    double square = 0;
    for (int64_t j = 0; j < n; j++) square += X[i * n + j] * X[i * n + j];
    double norm = sqrt(square),
           divisor = options->row_mode == EQS_ROW_INVERSE ? fmax(norm, options->eps) : norm + options->eps;
    for (int64_t j = 0; j < n; j++) X[i * n + j] /= divisor;
  }
}

static bool is_rule(const eqs_rule_options *options, const char *name)
{
  return strcmp(options->rule->name, name) == 0;
}

/* D -> factor, before ν; returns ν. */
static double make_factor(const eqs_rule_options *options, int64_t m, int64_t n, double *D)
{
  double nu = 0;
  if (options->center) center(m, n, D);
  if (is_rule(options, "row_norm") || (is_rule(options, "hybrid") && options->order == EQS_ROW_THEN_POLAR))
    normalize_rows(options, m, n, D);
  if (is_rule(options, "row_norm")) return 0;
  if (options->center) center(m, n, D);
  double *U = polar_factor(options, m, n, D);
  for (int64_t i = 0; i < m * n; i++) nu += D[i] * U[i];
  memcpy(D, U, (size_t)(m * n) * sizeof *D);
  free(U);
  return nu;
}

static double shape_factor(eqs_scale scale, double m, double n)
{
  switch (scale) {
  case EQS_SCALE_SQRT_MAX_1_ROWS_OVER_COLS: return sqrt(fmax(1, m / n));
  case EQS_SCALE_SQRT_ROWS_OVER_COLS: return sqrt(m / n);
  case EQS_SCALE_02_SQRT_MAX_DIM: return 0.2 * sqrt(fmax(m, n));
  default: return 1;
  }
}

/* Factor -> U. */
static void make_update(const eqs_rule_options *options, double nu, int64_t m, int64_t n, double *U)
{
  bool has_nu = !is_rule(options, "muon") && !is_rule(options, "row_norm");
  double factor = has_nu ? pow(fmax(nu, options->eps), options->alpha) : 1;
  if (is_rule(options, "hybrid") && options->order == EQS_POLAR_THEN_ROW) {
    for (int64_t i = 0; i < m * n; i++) U[i] *= factor;
    normalize_rows(options, m, n, U);
    factor = 1;
  }
  factor *= shape_factor(options->scale, (double)m, (double)n);
  for (int64_t i = 0; i < m * n; i++) U[i] *= factor;
  if (options->center) center(m, n, U);
}

/* G, or what stands for it -> D. */
static void apply_momentum(const eqs_rule_options *options, int64_t count, double *momentum, double *G)
{
  double beta = options->beta;
  for (int64_t i = 0; i < count; i++) {
    switch (options->momentum) {
    case EQS_MOMENTUM_EMA:
    case EQS_MOMENTUM_POLAR_FIRST: G[i] = momentum[i] = beta * momentum[i] + (1 - beta) * G[i]; break;
    case EQS_MOMENTUM_NESTEROV:
      momentum[i] = beta * momentum[i] + G[i];
      G[i] += beta * momentum[i];
      break;
    case EQS_MOMENTUM_HEAVY_BALL: G[i] = momentum[i] = beta * momentum[i] + G[i]; break;
    default: break;
    }
  }
}

static void adamw_update(test_reference *reference, int64_t count, double *G)
{
  const double *betas = reference->options->betas, step = (double)reference->step;
  for (int64_t i = 0; i < count; i++) {
    double *average = &reference->states[0][i], *square = &reference->states[1][i];
    *average = betas[0] * *average + (1 - betas[0]) * G[i];
    *square = betas[1] * *square + (1 - betas[1]) * G[i] * G[i];
    G[i] = *average / (1 - pow(betas[0], step)) / (sqrt(*square / (1 - pow(betas[1], step))) + reference->options->eps);
  }
}

static void matrices_update(test_reference *reference, int64_t count, double *G)
{
  const eqs_rule_options *options = reference->options;
  const test_tensor *tensor = reference->tensor;
  int64_t m = test_matrix_rows(tensor), n = test_matrix_cols(tensor), matrices = test_matrix_count(tensor);
  double *nu = test_numbers(matrices, 1), total = 0;
  bool factor_first = options->momentum == EQS_MOMENTUM_POLAR_FIRST;
  if (!factor_first) apply_momentum(options, count, reference->states[0], G);
  for (int64_t i = 0; i < matrices; i++) {
    double *matrix = test_take_matrix(tensor, G, i);
    total += nu[i] = make_factor(options, m, n, matrix);
    test_put_matrix(tensor, G, i, matrix);
    free(matrix);
  }
  if (factor_first) apply_momentum(options, count, reference->states[0], G);
  for (int64_t i = 0; i < matrices; i++) {
    double *matrix = test_take_matrix(tensor, G, i);
    make_update(options, options->nu_scope == EQS_NU_TENSOR ? total : nu[i], m, n, matrix);
    test_put_matrix(tensor, G, i, matrix);
    free(matrix);
  }
  free(nu);
}

test_reference test_reference_begin(const test_tensor *tensor, const eqs_rule_options *options, double lr,
                                    const double *weight)
{
  int64_t count = test_elements(tensor);
  test_reference reference = {.tensor = tensor, .options = options, .lr = lr, .weight = test_numbers(count, 1)};
  for (int s = 0; s < 2; s++) reference.states[s] = test_numbers(count, 1);
  memcpy(reference.weight, weight, (size_t)count * sizeof *weight);
  return reference;
}

void test_reference_step(test_reference *reference, const double *gradient)
{
  int64_t count = test_elements(reference->tensor);
  double *U = test_numbers(count, 1), decay = 1 - reference->lr * reference->options->weight_decay;
  memcpy(U, gradient, (size_t)count * sizeof *U);
  reference->step++;
  if (reference->options->rule->element_wise)
    adamw_update(reference, count, U);
  else
    matrices_update(reference, count, U);
  for (int64_t i = 0; i < count; i++) reference->weight[i] = decay * reference->weight[i] - reference->lr * U[i];
  free(U);
}

void test_reference_end(test_reference *reference)
{
  free(reference->weight);
  for (int s = 0; s < 2; s++) free(reference->states[s]);
}
