/*
 * Products with a symmetric result on one rank: only the lower triangle is computed. Row-major float32.
 *
 * Half of a product costs BLIS's gemmt more than half its time below n = 512. So blocks off the diagonal are whole
 * products, and blocks on it come from a kernel of our own, which also takes the small matrices (heads).
 */
#ifndef EQS_DIST_HALF_PRODUCT_H
#define EQS_DIST_HALF_PRODUCT_H

#include <stdbool.h>

#include "base/status.h"

/* n rows of `inner` elements: element (i, t) at i * stride + t, or at t * stride + i if it lies transposed. */
typedef struct {
  const float *data;
  int64_t stride;
  bool transposed;
} eqs_rows;

enum { eqs_square_padding = 16 }; /* strides of square matrices are multiples of this, their padding is zero */

/* Stride of an n×n work matrix: no power of two, so that columns do not fall into the same lines of a cache. */
int64_t eqs_square_stride(int64_t n);

/* Rows of an n×n work matrix, and its floats, padding included. */
int64_t eqs_square_rows(int64_t n);
int64_t eqs_square_floats(int64_t n);

/*
 * Rows first ... end - 1 of the lower triangle of c <- a bᵀ, which is symmetric; columns after the diagonal are changed
 * up to the end of a block. c has the stride and room for eqs_square_stride's padding in both directions.
 *
 * padded  [in] a and b are square work matrices with zeros in their padding: the kernel may read it
 *
 * EQS_FAILED: out of memory, or a size beyond BLAS's 32 bits. Not collective.
 */
eqs_status eqs_half_product(int64_t first, int64_t end, int64_t inner, eqs_rows a, eqs_rows b, bool padded, float *c,
                            int64_t stride);

/* What eqs_half_product computes counts as this many floating-point operations: those of the triangle. */
double eqs_half_product_flops(int64_t first, int64_t end, int64_t inner);

/* What it takes on one rank to make a triangle of order n, counted in whole tiles of 16 columns. */
double eqs_half_product_work(int64_t n, int64_t inner);

/*
 * Finish rows first ... end - 1 of a symmetric n×n matrix, both triangles, from the lower triangles of `terms`:
 * to <- alpha (terms[0] + terms[1] + ...) + beta addend + shift I, and the mirror image. addend may be NULL. All have
 * the stride; `to` may be one of them.
 */
typedef struct {
  int64_t n, stride;
  double alpha, beta, shift;
  int terms;
  const float *const *term;
  const float *addend;
  float *to;
} eqs_symmetric_sum;

void eqs_symmetric_sum_rows(const eqs_symmetric_sum *sum, int64_t first, int64_t end);

#endif
