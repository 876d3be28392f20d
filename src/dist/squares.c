#include "dist/squares.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "dist/half_product.h"
#include "dist/squares_kind.h"

/* Built-in figures of one rank, where the plan's calibration is not at hand: float32 operations and message bytes. */
static const double rank_flops = 1e11, rank_bandwidth = 5e9;

double eqs_squares_seconds(bool replicated, int ranks, int64_t k, int64_t l, double flops, double bandwidth)
{
  double square = (double)k * (double)k, bytes = sizeof(float);
  if (ranks == 1) return square * (double)k / flops;
  if (replicated) /* half the work, shared; the triangle goes to all, and is mirrored by all */
    return square * (double)k / ranks / flops + bytes * square / 2 / bandwidth;
  (void)l;
  double root = sqrt((double)ranks); /* whole products; panels along rows and columns of the grid */
  return 2 * square * (double)k / ranks / flops + 2 * bytes * square / root / bandwidth;
}

static eqs_squares_choice chosen;

void eqs_squares_choose(eqs_squares_choice choice)
{
  chosen = choice;
}

bool eqs_squares_replicated(const eqs_grid *grid, eqs_operation op, int64_t k, int64_t l)
{
  int ranks = grid->rows * grid->cols;
  if (chosen != EQS_SQUARES_AS_PREDICTED && ranks > 1) return chosen == EQS_SQUARES_REPLICATED;
  if (op == EQS_AS_IS ? grid->rows == 1 : grid->cols == 1) return true;
  /* X is moved to slabs and back: two of its elements per element and rank */
  double moving = 2 * sizeof(float) * (double)k * (double)l / ranks / rank_bandwidth;
  enum { products = 16 }; /* of five steps */
  return products * eqs_squares_seconds(true, ranks, k, l, rank_flops, rank_bandwidth) + moving <
         products * eqs_squares_seconds(false, ranks, k, l, rank_flops, rank_bandwidth);
}

eqs_status eqs_squares_open(eqs_matrix *x, eqs_operation op, int count, eqs_squares **result)
{
  eqs_status status = EQS_OK;
  eqs_squares *squares = NULL;
  int64_t m = x->layout.rows, n = x->layout.cols;
  *result = NULL;
  EQS_TRY(eqs_allocate(&squares, 1, sizeof *squares));
  *squares =
      (eqs_squares){.x = x, .op = op, .k = op == EQS_AS_IS ? m : n, .l = op == EQS_AS_IS ? n : m, .count = count};
  squares->kind =
      eqs_squares_replicated(x->grid, op, squares->k, squares->l) ? &eqs_replicated_squares : &eqs_distributed_squares;
  EQS_TRY(squares->kind->open(squares));
cleanup:
  if (status != EQS_OK) free(squares);
  if (status == EQS_OK) *result = squares;
  return status;
}

eqs_status eqs_squares_close(eqs_squares **result)
{
  if (*result == NULL) return EQS_OK;
  eqs_status status = (*result)->kind->close(*result);
  free(*result);
  *result = NULL;
  return status;
}

eqs_status eqs_squares_gram(eqs_squares *squares, double alpha, double shift, int to)
{
  return squares->kind->gram(squares, alpha, shift, to);
}

eqs_status eqs_squares_multiply(eqs_squares *squares, double alpha, int a, int b, double beta, int addend, double shift,
                                int to)
{
  return squares->kind->multiply(squares, alpha, a, b, beta, addend, shift, to);
}

eqs_status eqs_squares_multiply_whole(eqs_squares *squares, int a, int b, int to)
{
  return squares->kind->multiply_whole(squares, a, b, to);
}

eqs_status eqs_squares_combine(eqs_squares *squares, double beta, int from, double shift, int to)
{
  return squares->kind->combine(squares, beta, from, shift, to);
}

eqs_status eqs_squares_norm(eqs_squares *squares, int i, double *norm)
{
  return squares->kind->norm(squares, i, norm);
}

eqs_status eqs_squares_apply(eqs_squares *squares, double alpha, int q, double *dot)
{
  return squares->kind->apply(squares, alpha, q, dot);
}

int64_t eqs_squares_workspace(bool replicated, int ranks, int64_t k, int64_t l, int count)
{
  int64_t stride = eqs_square_stride(k), square = stride * (stride > k ? stride : k);
  (void)l;
  if (!replicated) return (int64_t)(count + 1) * k * k / ranks;
  int copies = count > ranks + 1 ? count : ranks + 1;
  return (ranks == 1 ? count : copies) * square / ranks;
}
