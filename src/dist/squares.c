#include "dist/squares.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "dist/context.h"
#include "dist/half_product.h"
#include "dist/squares_kind.h"

double eqs_squares_seconds(const eqs_speeds *speeds, bool replicated, int ranks, int64_t k)
{
  double square = (double)k * (double)k, bytes = sizeof(float), root = sqrt((double)ranks);
  if (ranks == 1) return square * (double)k / eqs_speed_at(&speeds->symmetric, k);
  if (replicated) /* the triangle goes to all hosts, of which each rank is taken for one */
    return square * (double)k / ranks / eqs_speed_at(&speeds->symmetric, k) +
           bytes * square / 2 / speeds->message_bandwidth + ranks * speeds->message_latency;
  /* panels along the rows and the columns of the grid */
  return 2 * square * (double)k / ranks / eqs_speed_at(&speeds->gemm, k) +
         2 * bytes * square / root / speeds->message_bandwidth + 2 * root * speeds->message_latency;
}

double eqs_slab_seconds(const eqs_speeds *speeds, int ranks, int64_t k, int64_t l)
{
  return 2 * sizeof(float) * (double)k * (double)l / ranks / speeds->message_bandwidth;
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
  enum { products = 16 }; /* of five steps */
  const eqs_speeds *speeds = &eqs_built_in_speeds;
  return products * eqs_squares_seconds(speeds, true, ranks, k) + eqs_slab_seconds(speeds, ranks, k, l) <
         products * eqs_squares_seconds(speeds, false, ranks, k);
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
  enum { long_work = 512 }; /* orders from which a product takes about a millisecond */
  eqs_status status = squares->kind->multiply(squares, alpha, a, b, beta, addend, shift, to);
  return status == EQS_OK && squares->k >= long_work ? eqs_progress(squares->x->grid->owners) : status;
}

eqs_status eqs_squares_multiply_whole(eqs_squares *squares, int a, int b, int to)
{
  return squares->kind->multiply_whole(squares, a, b, to);
}

eqs_status eqs_squares_combine(eqs_squares *squares, double beta, int from, int addend, double shift, int to)
{
  return squares->kind->combine(squares, beta, from, addend, shift, to);
}

eqs_status eqs_squares_norm(eqs_squares *squares, int i, double *norm)
{
  return squares->kind->norm(squares, i, norm);
}

eqs_status eqs_squares_apply(eqs_squares *squares, double alpha, int q, double *dot)
{
  return squares->kind->apply(squares, alpha, q, dot);
}

void eqs_squares_workspace(const eqs_grid *grid, eqs_operation op, int64_t k, int64_t l, int count, int64_t *kept,
                           int64_t *freed)
{
  const int64_t size = sizeof(float);
  int ranks = grid->rows * grid->cols;
  *kept = *freed = 0;
  if (k == 0) return;
  if (!eqs_squares_replicated(grid, op, k, l)) {
    *freed = ((count + 1) * k * k + k * l) / ranks * size;
    return;
  }
  bool moves = !(op == EQS_AS_IS ? grid->rows == 1 : grid->cols == 1);
  int squares = count + (ranks > 1 ? ranks : 0);
  *kept = squares * eqs_square_floats(k) / ranks * size;
  *freed = eqs_squares_block(k, l / ranks) * k * size + (moves ? 3 * (k * l / ranks) * size : 0);
}
