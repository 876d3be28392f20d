/* Vectors of the compiler's own kind (GCC), as wide as the processor that it compiles for has. */
#ifndef EQS_DIST_VECTOR_H
#define EQS_DIST_VECTOR_H

#include <stdint.h>

#if defined(__AVX512F__)
enum { eqs_lanes = 16 };
#else
enum { eqs_lanes = 8 };
#endif

/* Loaded from and stored to any address of a float. */
typedef float eqs_vector __attribute__((vector_size(4 * eqs_lanes), aligned(4), may_alias));
typedef int32_t eqs_lane_numbers __attribute__((vector_size(4 * eqs_lanes)));

static inline eqs_vector eqs_load(const float *from)
{
  return *(const eqs_vector *)(const void *)from;
}

static inline void eqs_store(eqs_vector value, float *to)
{
  *(eqs_vector *)(void *)to = value;
}

/* Of the square that the rows form: swap the d×d blocks off the diagonal of every 2d×2d block. */
#define EQS_LOW(l, d) ((l) & (d) ? eqs_lanes + (l) - (d) : (l))
#define EQS_HIGH(l, d) ((l) & (d) ? eqs_lanes + (l) : (l) + (d))
#define EQS_EIGHT(of, l, d)                                                                                            \
  of(l, d), of(l + 1, d), of(l + 2, d), of(l + 3, d), of(l + 4, d), of(l + 5, d), of(l + 6, d), of(l + 7, d)
#if defined(__AVX512F__)
#define EQS_LANE_NUMBERS(of, d)                                                                                        \
  (eqs_lane_numbers)                                                                                                   \
  {                                                                                                                    \
    EQS_EIGHT(of, 0, d), EQS_EIGHT(of, 8, d)                                                                           \
  }
#else
#define EQS_LANE_NUMBERS(of, d)                                                                                        \
  (eqs_lane_numbers)                                                                                                   \
  {                                                                                                                    \
    EQS_EIGHT(of, 0, d)                                                                                                \
  }
#endif
#define EQS_SWAP_BLOCKS(rows, d)                                                                                       \
  for (int row = 0; row < eqs_lanes; row++) {                                                                          \
    if (row & (d)) continue;                                                                                           \
    eqs_vector upper = (rows)[row], lower = (rows)[row + (d)];                                                         \
    (rows)[row] = __builtin_shuffle(upper, lower, EQS_LANE_NUMBERS(EQS_LOW, d));                                       \
    (rows)[row + (d)] = __builtin_shuffle(upper, lower, EQS_LANE_NUMBERS(EQS_HIGH, d));                                \
  }

/* eqs_lanes rows <- the transpose of the square that they form. */
static inline void eqs_transpose_lanes(eqs_vector rows[eqs_lanes])
{
#if defined(__AVX512F__)
  EQS_SWAP_BLOCKS(rows, 8)
#endif
  EQS_SWAP_BLOCKS(rows, 4)
  EQS_SWAP_BLOCKS(rows, 2)
  EQS_SWAP_BLOCKS(rows, 1)
}

#endif
