/* Squares on X's own grid, by PBLAS. */
#include <stdlib.h>

#include "base/memory.h"
#include "dist/squares_kind.h"

typedef struct {
  eqs_matrix square[eqs_max_squares];
  eqs_matrix product;  /* before it is made symmetric */
  eqs_matrix original; /* X before a product */
} holder;

static eqs_status close_squares(eqs_squares *squares)
{
  holder *held = squares->holder;
  for (int i = 0; i < eqs_max_squares; i++) eqs_matrix_destroy(&held->square[i]);
  eqs_matrix_destroy(&held->product);
  eqs_matrix_destroy(&held->original);
  free(held);
  return EQS_OK;
}

static eqs_status open_squares(eqs_squares *squares)
{
  eqs_status status = EQS_OK;
  holder *held = NULL;
  EQS_TRY(eqs_allocate(&held, 1, sizeof *held));
  squares->holder = held;
  for (int i = 0; i < squares->count; i++)
    EQS_TRY(eqs_create_square(squares->x, squares->k, EQS_ELEMENT_FLOAT, &held->square[i]));
  EQS_TRY(eqs_create_square(squares->x, squares->k, EQS_ELEMENT_FLOAT, &held->product));
  EQS_TRY(eqs_matrix_create_like(squares->x, EQS_ELEMENT_FLOAT, &held->original));
cleanup:
  if (status != EQS_OK && held != NULL) close_squares(squares);
  return status;
}

static eqs_matrix *square_of(eqs_squares *squares, int i)
{
  return &((holder *)squares->holder)->square[i];
}

static eqs_status gram(eqs_squares *squares, double alpha, double shift, int to)
{
  eqs_status status = eqs_gram(alpha, squares->op, squares->x, square_of(squares, to));
  if (shift != 0) eqs_matrix_add_identity(square_of(squares, to), shift);
  return status;
}

/* The product is symmetric but for rounding; what follows relies on it: the mean of it and its transpose. */
static eqs_status multiply(eqs_squares *squares, double alpha, int a, int b, double beta, int addend, double shift,
                           int to)
{
  eqs_status status = EQS_OK;
  eqs_matrix *result = square_of(squares, to), *product = &((holder *)squares->holder)->product;
  if (addend >= 0) eqs_matrix_copy(square_of(squares, addend), product);
  EQS_TRY(eqs_multiply(alpha, EQS_TRANSPOSED, square_of(squares, a), EQS_AS_IS, square_of(squares, b),
                       addend >= 0 ? beta : 0, product));
  eqs_matrix_copy(product, result);
  EQS_TRY(eqs_add_transpose(0.5, product, 0.5, result));
  if (shift != 0) eqs_matrix_add_identity(result, shift);
cleanup:
  return status;
}

static eqs_status multiply_whole(eqs_squares *squares, int a, int b, int to)
{
  return eqs_multiply(1, EQS_AS_IS, square_of(squares, a), EQS_AS_IS, square_of(squares, b), 0, square_of(squares, to));
}

static eqs_status combine(eqs_squares *squares, double beta, int from, int addend, double shift, int to)
{
  eqs_matrix *result = square_of(squares, to), *product = &((holder *)squares->holder)->product;
  if (addend >= 0) eqs_matrix_copy(square_of(squares, addend), product);
  eqs_matrix_combine(beta, square_of(squares, from), 0, result);
  if (addend >= 0) eqs_matrix_combine(1, product, 1, result);
  if (shift != 0) eqs_matrix_add_identity(result, shift);
  return EQS_OK;
}

static eqs_status norm_of(eqs_squares *squares, int i, double *norm)
{
  return eqs_matrix_norm(square_of(squares, i), norm);
}

static eqs_status apply(eqs_squares *squares, double alpha, int q, double *dot)
{
  eqs_status status = EQS_OK;
  eqs_matrix *x = squares->x, *original = &((holder *)squares->holder)->original, *square = square_of(squares, q);
  eqs_matrix_copy(x, original);
  if (squares->op == EQS_AS_IS)
    EQS_TRY(eqs_multiply(alpha, EQS_AS_IS, square, EQS_AS_IS, original, 0, x));
  else
    EQS_TRY(eqs_multiply(alpha, EQS_AS_IS, original, EQS_AS_IS, square, 0, x));
  if (dot != NULL) EQS_TRY(eqs_matrix_dot(original, x, dot));
cleanup:
  return status;
}

const eqs_squares_kind eqs_distributed_squares = {
    .open = open_squares,
    .close = close_squares,
    .gram = gram,
    .multiply = multiply,
    .multiply_whole = multiply_whole,
    .combine = combine,
    .norm = norm_of,
    .apply = apply,
};
