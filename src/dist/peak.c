#include "dist/peak.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/memory.h"
#include "dist/scalapack.h"

static void fill(float *x, int64_t count, float value)
{
  for (int64_t i = 0; i < count; i++) x[i] = value;
}

/* Arrays a, b and c; b and c are filled, a is written by what is measured. */
typedef struct {
  float *a, *b, *c;
} operands;

static eqs_status create_operands(int64_t count, operands *x)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_allocate(&x->a, count, sizeof *x->a));
  EQS_TRY(eqs_allocate_raw(&x->b, count, sizeof *x->b));
  EQS_TRY(eqs_allocate_raw(&x->c, count, sizeof *x->c));
  fill(x->b, count, 0.5F);
  fill(x->c, count, 0.25F);
cleanup:
  return status;
}

static void destroy_operands(operands *x)
{
  free(x->a);
  free(x->b);
  free(x->c);
}

eqs_status eqs_measure_sgemm(int64_t n, int repeats, double *seconds)
{
  static const float one = 1, zero = 0;
  eqs_status status = EQS_OK;
  operands x = {0};
  int order;
  EQS_TRY(eqs_to_int(n, &order));
  EQS_TRY(create_operands(n * n, &x));
  for (int r = -1; r < repeats; r++) {
    double begin = eqs_clock();
    sgemm_("N", "N", &order, &order, &order, &one, x.b, &order, x.c, &order, &zero, x.a, &order);
    if (r >= 0) seconds[r] = eqs_clock() - begin;
  }
cleanup:
  destroy_operands(&x);
  return status;
}

static void triad(int64_t n, float s, const float *restrict b, const float *restrict c, float *restrict a)
{
  for (int64_t i = 0; i < n; i++) a[i] = b[i] + s * c[i];
}

eqs_status eqs_measure_triad(int64_t n, int repeats, double *seconds)
{
  eqs_status status = EQS_OK;
  operands x = {0};
  EQS_TRY(create_operands(n, &x));
  for (int r = -1; r < repeats; r++) {
    double begin = eqs_clock();
    triad(n, 3, x.b, x.c, x.a);
    if (r >= 0) seconds[r] = eqs_clock() - begin;
  }
cleanup:
  destroy_operands(&x);
  return status;
}
