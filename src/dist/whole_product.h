/* Whole products on one rank, row-major float32: with AVX-512 by a kernel of our own, else by BLIS. */
#ifndef EQS_DIST_WHOLE_PRODUCT_H
#define EQS_DIST_WHOLE_PRODUCT_H

#include "dist/half_product.h"

/*
 * c <- alpha a b, rows × cols, a of `inner` columns. c is apart from a and b.
 *
 * EQS_FAILED: a size beyond BLAS's 32 bits. Not collective.
 */
eqs_status eqs_whole_product(int64_t rows, int64_t cols, int64_t inner, double alpha, eqs_rows a, const float *b,
                             int64_t b_stride, float *c, int64_t c_stride);

/*
 * How many rows of a product c = a b are best done in one call, where a has `inner` columns: what the caches hold of c
 * and a while b passes by.
 */
int64_t eqs_whole_product_rows(int64_t inner);

#endif
