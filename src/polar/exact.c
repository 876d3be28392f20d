#include "polar/exact.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "dist/eigen.h"
#include "dist/product.h"

/*
 * f(λ)^(1/2) with f(λ) = (λ+ε)^(-1/2), in place of the ascending eigenvalues of a Gram matrix. What is lost in
 * rounding, ε included, is a null direction, where the pseudo-inverse has zero: ε^(-1/2) would only amplify what
 * rounding left of X there. A centered X has such a direction in the ones, with a component of the size of float32's
 * rounding.
 */
static void half_of_inverse_roots(const eqs_polar_options *options, double *values, int64_t count)
{
  double rounding = (double)count * DBL_EPSILON * 4; /* of the largest: what eigenvalue 0 may come out as */
  if (options->centered) rounding = fmax(rounding, 16.0 * FLT_EPSILON * FLT_EPSILON);
  rounding *= values[count - 1];
  for (int64_t i = 0; i < count; i++) {
    double damped = fmax(values[i], 0) + options->eps;
    values[i] = damped > rounding ? pow(damped, -0.25) : 0;
  }
}

static void scale_columns(eqs_matrix *x, const double *factors)
{
  const eqs_distribution *distribution = &x->distribution;
  for (int64_t j = 0; j < x->local_cols; j++) {
    double factor = factors[eqs_global_index(j, distribution->col_block, x->grid->col, distribution->grid_cols)];
    for (int64_t i = 0; i < x->local_rows; i++) eqs_doubles(x)[i * x->local_cols + j] *= factor;
  }
}

/* F = V f(Λ) Vᵀ of the Gram matrix VΛVᵀ, which is used up. */
static eqs_status inverse_root(const eqs_polar_options *options, eqs_matrix *gram, eqs_matrix *F)
{
  eqs_status status = EQS_OK;
  int64_t k = gram->distribution.rows;
  double *values = NULL;
  eqs_matrix V = {0};
  EQS_TRY(eqs_allocate(&values, k, sizeof *values));
  EQS_TRY(eqs_matrix_create_like(gram, EQS_ELEMENT_DOUBLE, &V));
  EQS_TRY(eqs_symmetric_eigen(gram, values, &V));
  half_of_inverse_roots(options, values, k);
  scale_columns(&V, values);
  EQS_TRY(eqs_gram(1, EQS_AS_IS, &V, F));
cleanup:
  eqs_matrix_destroy(&V);
  free(values);
  return status;
}

/*
 * In float64: the squares of float32 numbers neither overflow nor vanish, and the rounding of the Gram matrix stays
 * below that of float32 up to condition 1e4.
 */
eqs_status eqs_exact_polar(const eqs_polar_options *options, eqs_matrix *x, double *nu)
{
  eqs_status status = EQS_OK;
  int64_t m = x->distribution.rows, n = x->distribution.cols, k = m < n ? m : n;
  eqs_operation op = eqs_smaller_gram(m, n, eqs_nominal_gram(options->side));
  eqs_matrix X = {0}, U = {0}, gram = {0}, F = {0};
  EQS_TRY(eqs_matrix_create_like(x, EQS_ELEMENT_DOUBLE, &X));
  EQS_TRY(eqs_matrix_create_like(x, EQS_ELEMENT_DOUBLE, &U));
  EQS_TRY(eqs_create_square(x, k, EQS_ELEMENT_DOUBLE, &gram));
  EQS_TRY(eqs_create_square(x, k, EQS_ELEMENT_DOUBLE, &F));
  eqs_matrix_copy(x, &X);
  EQS_TRY(eqs_gram(1, op, &X, &gram));
  EQS_TRY(inverse_root(options, &gram, &F));
  if (op == EQS_AS_IS)
    EQS_TRY(eqs_multiply(1, EQS_AS_IS, &F, EQS_AS_IS, &X, 0, &U));
  else
    EQS_TRY(eqs_multiply(1, EQS_AS_IS, &X, EQS_AS_IS, &F, 0, &U));
  if (nu != NULL) EQS_TRY(eqs_matrix_dot(&X, &U, nu));
  eqs_matrix_copy(&U, x);
cleanup:
  eqs_matrix_destroy(&X);
  eqs_matrix_destroy(&U);
  eqs_matrix_destroy(&gram);
  eqs_matrix_destroy(&F);
  return status;
}
