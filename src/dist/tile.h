/*
 * The inner kernel of products on one rank: a tile of c in registers. Row-major float32. Private to this room; files
 * that include it are compiled with fused multiply-adds.
 */
#ifndef EQS_DIST_TILE_H
#define EQS_DIST_TILE_H

#include <stdbool.h>

#include "dist/vector.h"

/* A tile is eqs_tile_rows × 2 vectors of columns, as many sums as there are registers for. */
#if defined(__AVX512F__)
enum { eqs_tile_rows = 8 };
#else
enum { eqs_tile_rows = 4 };
#endif
enum { eqs_tile_cols = 2 * eqs_lanes };

/*
 * c <- factor (Σ over t of a(t, i) b(t, j) + c), without c if it does not `add`: `vectors` (1 or 2) vectors of columns.
 *
 * a  [in] a(t, i) at t * a_inner + i * a_row; one of the two strides is 1, as a constant
 * b  [in] b(t, j) at t * b_inner + j
 */
static inline __attribute__((always_inline)) void eqs_multiply_tile(int vectors, int64_t inner, const float *a,
                                                                    int64_t a_inner, int64_t a_row, const float *b,
                                                                    int64_t b_inner, bool adds, float factor, float *c,
                                                                    int64_t c_stride)
{
  eqs_vector sum[eqs_tile_rows][2];
  for (int i = 0; i < eqs_tile_rows; i++)
    for (int v = 0; v < vectors; v++) sum[i][v] = adds ? eqs_load(c + i * c_stride + v * eqs_lanes) : (eqs_vector){0};
  for (int64_t t = 0; t < inner; t++) {
    eqs_vector column[2];
    for (int v = 0; v < vectors; v++) column[v] = eqs_load(b + t * b_inner + v * eqs_lanes);
    for (int i = 0; i < eqs_tile_rows; i++)
      for (int v = 0; v < vectors; v++) sum[i][v] += a[t * a_inner + i * a_row] * column[v];
  }
  for (int i = 0; i < eqs_tile_rows; i++)
    for (int v = 0; v < vectors; v++) eqs_store(factor * sum[i][v], c + i * c_stride + v * eqs_lanes);
}

#endif
