/* Squares on X's own grid, by PBLAS. */
#include <stdlib.h>

#include "base/memory.h"
#include "dist/symmetric_set_kind.h"

typedef struct {
  eqs_matrix matrix[eqs_symmetric_set_max];
  eqs_matrix product;  /* before it is made symmetric */
  eqs_matrix original; /* X before a product */
} holder;

static eqs_status close_set(eqs_symmetric_set *set)
{
  holder *held = set->holder;
  for (int i = 0; i < eqs_symmetric_set_max; i++) eqs_matrix_destroy(&held->matrix[i]);
  eqs_matrix_destroy(&held->product);
  eqs_matrix_destroy(&held->original);
  free(held);
  return EQS_OK;
}

static eqs_status open_set(eqs_symmetric_set *set)
{
  eqs_status status = EQS_OK;
  holder *held = NULL;
  EQS_TRY(eqs_allocate(&held, 1, sizeof *held));
  set->holder = held;
  for (int i = 0; i < set->count; i++) EQS_TRY(eqs_create_square(set->x, set->k, EQS_ELEMENT_FLOAT, &held->matrix[i]));
  EQS_TRY(eqs_create_square(set->x, set->k, EQS_ELEMENT_FLOAT, &held->product));
  EQS_TRY(eqs_matrix_create_like(set->x, EQS_ELEMENT_FLOAT, &held->original));
cleanup:
  if (status != EQS_OK && held != NULL) close_set(set);
  return status;
}

static eqs_matrix *square_of(eqs_symmetric_set *set, int i)
{
  return &((holder *)set->holder)->matrix[i];
}

static eqs_status gram(eqs_symmetric_set *set, double alpha, double shift, int to)
{
  eqs_status status = eqs_gram(alpha, set->op, set->x, square_of(set, to));
  if (shift != 0) eqs_matrix_add_identity(square_of(set, to), shift);
  return status;
}

/* The product is symmetric but for rounding; what follows relies on it: the mean of it and its transpose. */
static eqs_status multiply(eqs_symmetric_set *set, double alpha, int a, int b, double beta, int addend, double shift,
                           int to)
{
  eqs_status status = EQS_OK;
  eqs_matrix *result = square_of(set, to), *product = &((holder *)set->holder)->product;
  if (addend >= 0) eqs_matrix_copy(square_of(set, addend), product);
  EQS_TRY(eqs_multiply(alpha, EQS_TRANSPOSED, square_of(set, a), EQS_AS_IS, square_of(set, b), addend >= 0 ? beta : 0,
                       product));
  eqs_matrix_copy(product, result);
  EQS_TRY(eqs_add_transpose(0.5, product, 0.5, result));
  if (shift != 0) eqs_matrix_add_identity(result, shift);
cleanup:
  return status;
}

static eqs_status multiply_whole(eqs_symmetric_set *set, int a, int b, int to)
{
  return eqs_multiply(1, EQS_AS_IS, square_of(set, a), EQS_AS_IS, square_of(set, b), 0, square_of(set, to));
}

static eqs_status combine(eqs_symmetric_set *set, double beta, int from, int addend, double shift, int to)
{
  eqs_matrix *result = square_of(set, to), *product = &((holder *)set->holder)->product;
  if (addend >= 0) eqs_matrix_copy(square_of(set, addend), product);
  eqs_matrix_combine(beta, square_of(set, from), 0, result);
  if (addend >= 0) eqs_matrix_combine(1, product, 1, result);
  if (shift != 0) eqs_matrix_add_identity(result, shift);
  return EQS_OK;
}

static eqs_status norm_of(eqs_symmetric_set *set, int i, double *norm)
{
  return eqs_matrix_norm(square_of(set, i), norm);
}

static eqs_status apply(eqs_symmetric_set *set, double alpha, int q, double *dot)
{
  eqs_status status = EQS_OK;
  eqs_matrix *x = set->x, *original = &((holder *)set->holder)->original, *square = square_of(set, q);
  eqs_matrix_copy(x, original);
  if (set->op == EQS_AS_IS)
    EQS_TRY(eqs_multiply(alpha, EQS_AS_IS, square, EQS_AS_IS, original, 0, x));
  else
    EQS_TRY(eqs_multiply(alpha, EQS_AS_IS, original, EQS_AS_IS, square, 0, x));
  if (dot != NULL) EQS_TRY(eqs_matrix_dot(original, x, dot));
cleanup:
  return status;
}

const eqs_symmetric_set_kind eqs_symmetric_set_distributed_kind = {
    .open = open_set,
    .close = close_set,
    .gram = gram,
    .multiply = multiply,
    .multiply_whole = multiply_whole,
    .combine = combine,
    .norm = norm_of,
    .apply = apply,
};
