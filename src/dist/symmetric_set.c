#include "dist/symmetric_set.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "dist/context.h"
#include "dist/half_product.h"
#include "dist/symmetric_set_kind.h"

double eqs_symmetric_set_seconds(const eqs_speeds *speeds, bool replicated, int ranks, int64_t k)
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

static eqs_symmetric_set_choice chosen;

void eqs_symmetric_set_choose(eqs_symmetric_set_choice choice)
{
  chosen = choice;
}

bool eqs_symmetric_set_replicated(const eqs_grid *grid, eqs_operation op, int64_t k, int64_t l)
{
  int ranks = grid->rows * grid->cols;
  if (chosen != EQS_SYMMETRIC_SET_AS_PREDICTED && ranks > 1) return chosen == EQS_SYMMETRIC_SET_REPLICATED;
  if (op == EQS_AS_IS ? grid->rows == 1 : grid->cols == 1) return true;
  enum { products = 16 }; /* of five steps */
  const eqs_speeds *speeds = &eqs_built_in_speeds;
  return products * eqs_symmetric_set_seconds(speeds, true, ranks, k) + eqs_slab_seconds(speeds, ranks, k, l) <
         products * eqs_symmetric_set_seconds(speeds, false, ranks, k);
}

eqs_status eqs_symmetric_set_open(eqs_matrix *x, eqs_operation op, int count, eqs_symmetric_set **result)
{
  eqs_status status = EQS_OK;
  eqs_symmetric_set *set = NULL;
  int64_t m = x->distribution.rows, n = x->distribution.cols;
  *result = NULL;
  EQS_TRY(eqs_allocate(&set, 1, sizeof *set));
  *set =
      (eqs_symmetric_set){.x = x, .op = op, .k = op == EQS_AS_IS ? m : n, .l = op == EQS_AS_IS ? n : m, .count = count};
  set->kind = eqs_symmetric_set_replicated(x->grid, op, set->k, set->l) ? &eqs_symmetric_set_replicated_kind
                                                                        : &eqs_symmetric_set_distributed_kind;
  EQS_TRY(set->kind->open(set));
cleanup:
  if (status != EQS_OK) free(set);
  if (status == EQS_OK) *result = set;
  return status;
}

eqs_status eqs_symmetric_set_close(eqs_symmetric_set **result)
{
  if (*result == NULL) return EQS_OK;
  eqs_status status = (*result)->kind->close(*result);
  free(*result);
  *result = NULL;
  return status;
}

eqs_status eqs_symmetric_set_gram(eqs_symmetric_set *set, double alpha, double shift, int to)
{
  return set->kind->gram(set, alpha, shift, to);
}

eqs_status eqs_symmetric_set_multiply(eqs_symmetric_set *set, double alpha, int a, int b, double beta, int addend,
                                      double shift, int to)
{
  enum { long_work = 512 }; /* orders from which a product takes about a millisecond */
  eqs_status status = set->kind->multiply(set, alpha, a, b, beta, addend, shift, to);
  return status == EQS_OK && set->k >= long_work ? eqs_progress(set->x->grid->owners) : status;
}

eqs_status eqs_symmetric_set_multiply_whole(eqs_symmetric_set *set, int a, int b, int to)
{
  return set->kind->multiply_whole(set, a, b, to);
}

eqs_status eqs_symmetric_set_combine(eqs_symmetric_set *set, double beta, int from, int addend, double shift, int to)
{
  return set->kind->combine(set, beta, from, addend, shift, to);
}

eqs_status eqs_symmetric_set_norm(eqs_symmetric_set *set, int i, double *norm)
{
  return set->kind->norm(set, i, norm);
}

eqs_status eqs_symmetric_set_apply(eqs_symmetric_set *set, double alpha, int q, double *dot)
{
  return set->kind->apply(set, alpha, q, dot);
}

void eqs_symmetric_set_workspace(const eqs_grid *grid, eqs_operation op, int64_t k, int64_t l, int count, int64_t *kept,
                                 int64_t *freed)
{
  const int64_t size = sizeof(float);
  int ranks = grid->rows * grid->cols;
  *kept = *freed = 0;
  if (k == 0) return;
  if (!eqs_symmetric_set_replicated(grid, op, k, l)) {
    *freed = ((count + 1) * k * k + k * l) / ranks * size;
    return;
  }
  bool moves = !(op == EQS_AS_IS ? grid->rows == 1 : grid->cols == 1);
  int set = count + (ranks > 1 ? ranks : 0);
  *kept = set * eqs_square_floats(k) / ranks * size;
  *freed = eqs_symmetric_set_block(k, l / ranks) * k * size + (moves ? 3 * (k * l / ranks) * size : 0);
}
