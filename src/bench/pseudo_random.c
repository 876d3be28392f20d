#include "bench/pseudo_random.h"

#include <stdlib.h>

#include "base/memory.h"

/* Every bit of the result depends on every bit of x (Wellons, hash-prospector: lowbias32). */
static inline uint32_t mix(uint32_t x)
{
  x ^= x >> 16;
  x *= UINT32_C(0x7feb352d);
  x ^= x >> 15;
  x *= UINT32_C(0x846ca68b);
  return x ^ (x >> 16);
}

static inline float to_unit(uint32_t x)
{
  return (float)(int32_t)x * 0x1p-31F;
}

uint32_t eqs_derive_seed(uint32_t seed, int64_t index)
{
  const uint32_t golden_ratio = UINT32_C(0x9e3779b9);
  return mix(seed + golden_ratio * (uint32_t)(index + 1));
}

eqs_status eqs_fill_random(uint32_t seed, eqs_matrix *x)
{
  eqs_status status = EQS_OK;
  const eqs_distribution *distribution = &x->distribution;
  uint32_t *keys = NULL; /* of the local columns */
  EQS_TRY(eqs_allocate_raw(&keys, x->local_cols, sizeof *keys));
  for (int64_t j = 0; j < x->local_cols; j++)
    keys[j] =
        eqs_derive_seed(~seed, eqs_global_index(j, distribution->col_block, x->grid->col, distribution->grid_cols));
  for (int64_t i = 0; i < x->local_rows; i++) {
    float *row = eqs_floats(x) + i * x->local_cols;
    uint32_t key =
        eqs_derive_seed(seed, eqs_global_index(i, distribution->row_block, x->grid->row, distribution->grid_rows));
    for (int64_t j = 0; j < x->local_cols; j++) row[j] = to_unit(mix(key + keys[j]));
  }
cleanup:
  free(keys);
  return status;
}

void eqs_fill_random_row(uint32_t seed, float *row, int64_t count)
{
  for (int64_t j = 0; j < count; j++) row[j] = to_unit(eqs_derive_seed(seed, j));
}
