#include "dist/half_product.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "dist/scalapack.h"
#include "dist/tile.h"
#include "dist/whole_product.h"

/*
 * The order of the largest block that the kernel takes: with AVX-512 it is faster than BLIS's gemm (Zen 5: 1.05 to 1.2
 * times at 256 to 2048).
 */
#if defined(__AVX512F__)
enum { leaf = 2048 };
#else
enum { leaf = 256 };
#endif
enum { inner_block = 256 }; /* of a tile's columns, a part that stays in the first cache */

static int64_t round_up(int64_t n, int64_t multiple)
{
  return (n + multiple - 1) / multiple * multiple;
}

int64_t eqs_square_stride(int64_t n)
{
  int64_t stride = round_up(n, eqs_square_padding);
  return stride % 128 == 0 && stride > 0 ? stride + eqs_square_padding : stride;
}

int64_t eqs_square_rows(int64_t n)
{
  return round_up(n, eqs_square_padding);
}

int64_t eqs_square_floats(int64_t n)
{
  return eqs_square_stride(n) * eqs_square_rows(n);
}

/* The lower triangle of n×n, n a multiple of eqs_lanes, in tiles; a(t, i), b(t, j) by rows of t. */
static void multiply_triangle(int64_t n, int64_t inner, const float *a, int64_t a_stride, const float *b,
                              int64_t b_stride, bool adds, float *c, int64_t c_stride)
{
  for (int64_t j = 0; j < n; j += 2 * eqs_lanes) {
    for (int64_t i = j; i < n; i += eqs_tile_rows) {
      bool one_vector = i + eqs_tile_rows <= j + eqs_lanes || j + eqs_lanes >= n;
      if (one_vector)
        eqs_multiply_tile(1, inner, a + i, a_stride, 1, b + j, b_stride, adds, 1, c + i * c_stride + j, c_stride);
      else
        eqs_multiply_tile(2, inner, a + i, a_stride, 1, b + j, b_stride, adds, 1, c + i * c_stride + j, c_stride);
    }
  }
}

/* to(t, i) <- rows first ... first + n - 1 of x, `inner` elements from t on, padded with zeros to `stride`. */
static void pack_block(eqs_rows x, int64_t first, int64_t n, int64_t t, int64_t inner, float *to, int64_t stride)
{
  if (x.transposed) {
    for (int64_t k = 0; k < inner; k++) {
      memcpy(to + k * stride, x.data + (t + k) * x.stride + first, (size_t)n * sizeof *to);
      memset(to + k * stride + n, 0, (size_t)(stride - n) * sizeof *to);
    }
    return;
  }
  for (int64_t i = 0; i < stride; i += eqs_lanes) {
    for (int64_t k = 0; k < inner; k += eqs_lanes) {
      eqs_vector rows[eqs_lanes];
      bool whole = i + eqs_lanes <= n && k + eqs_lanes <= inner;
      for (int r = 0; r < eqs_lanes; r++) {
        const float *from = x.data + (first + i + r) * x.stride + t + k;
        rows[r] = (eqs_vector){0};
        if (whole)
          rows[r] = eqs_load(from);
        else if (i + r < n)
          memcpy(&rows[r], from, (size_t)(inner - k < eqs_lanes ? inner - k : eqs_lanes) * sizeof *from);
      }
      eqs_transpose_lanes(rows);
      for (int r = 0; r < eqs_lanes && k + r < inner; r++) eqs_store(rows[r], to + (k + r) * stride + i);
    }
  }
}

/* A block on the diagonal, of rows first ... first + n - 1. */
static eqs_status multiply_leaf(int64_t first, int64_t n, int64_t inner, eqs_rows a, eqs_rows b, bool padded, float *c,
                                int64_t stride)
{
  eqs_status status = EQS_OK;
  float *block = c + first * stride + first, *packed_a = NULL, *packed_b = NULL;
  int64_t order = round_up(n, eqs_lanes);
  bool same = a.data == b.data && a.transposed == b.transposed;
  if (!padded) {
    EQS_TRY(eqs_allocate_raw(&packed_a, order * inner_block, sizeof *packed_a));
    if (!same) EQS_TRY(eqs_allocate_raw(&packed_b, order * inner_block, sizeof *packed_b));
  }
  for (int64_t t = 0; t < inner; t += inner_block) {
    int64_t depth = inner - t < inner_block ? inner - t : inner_block;
    if (padded) { /* symmetric: row t is column t */
      multiply_triangle(order, depth, a.data + t * a.stride + first, a.stride, b.data + t * b.stride + first, b.stride,
                        t > 0, block, stride);
      continue;
    }
    pack_block(a, first, n, t, depth, packed_a, order);
    if (!same) pack_block(b, first, n, t, depth, packed_b, order);
    multiply_triangle(order, depth, packed_a, order, same ? packed_a : packed_b, order, t > 0, block, stride);
  }
cleanup:
  free(packed_a);
  free(packed_b);
  return status;
}

/* Rows first ... end - 1, columns cols_first ... cols_end - 1, a whole product: its b is the transpose of ours. */
static eqs_status multiply_rectangle(int64_t first, int64_t end, int64_t cols_first, int64_t cols_end, int64_t inner,
                                     eqs_rows a, eqs_rows b, float *c, int64_t stride)
{
  static const float one = 1, zero = 0;
  eqs_status status = EQS_OK;
  int rows, cols, depth, lda, ldb, ldc;
  float *corner = c + first * stride + cols_first;
  if (first == end || cols_first == cols_end) return EQS_OK;
  a.data += first * (a.transposed ? 1 : a.stride);
  b.data += cols_first * (b.transposed ? 1 : b.stride);
  if (b.transposed)
    return eqs_whole_product(end - first, cols_end - cols_first, inner, 1, a, b.data, b.stride, corner, stride);
  EQS_TRY(eqs_to_int(end - first, &rows));
  EQS_TRY(eqs_to_int(cols_end - cols_first, &cols));
  EQS_TRY(eqs_to_int(inner, &depth));
  EQS_TRY(eqs_to_int(a.stride, &lda));
  EQS_TRY(eqs_to_int(b.stride, &ldb));
  EQS_TRY(eqs_to_int(stride, &ldc));
  sgemm_("T", a.transposed ? "T" : "N", &cols, &rows, &depth, &one, b.data, &ldb, a.data, &lda, &zero, corner, &ldc);
cleanup:
  return status;
}

/* The lower triangle of rows and columns first ... end - 1. */
static eqs_status multiply_diagonal(int64_t first, int64_t end, int64_t inner, eqs_rows a, eqs_rows b, bool padded,
                                    float *c, int64_t stride)
{
  eqs_status status = EQS_OK;
  if (end - first <= leaf) return multiply_leaf(first, end - first, inner, a, b, padded, c, stride);
  int64_t middle = first + round_up((end - first) / 2, leaf / 2);
  EQS_TRY(multiply_rectangle(middle, end, first, middle, inner, a, b, c, stride));
  EQS_TRY(multiply_diagonal(first, middle, inner, a, b, padded, c, stride));
  EQS_TRY(multiply_diagonal(middle, end, inner, a, b, padded, c, stride));
cleanup:
  return status;
}

eqs_status eqs_half_product(int64_t first, int64_t end, int64_t inner, eqs_rows a, eqs_rows b, bool padded, float *c,
                            int64_t stride)
{
  eqs_status status = EQS_OK;
  if (first == end) return EQS_OK;
  EQS_TRY(multiply_rectangle(first, end, 0, first, inner, a, b, c, stride));
  EQS_TRY(multiply_diagonal(first, end, inner, a, b, padded, c, stride));
cleanup:
  return status;
}

double eqs_half_product_work(int64_t n, int64_t inner)
{
  const int64_t lanes = 16;
  int64_t order = round_up(n, lanes), elements = 0;
  for (int64_t j = 0; j < order; j += 2 * lanes) {
    int64_t rows = order - j;
    elements += rows == lanes ? lanes * lanes : lanes * lanes + 2 * lanes * (rows - lanes);
  }
  return 2.0 * (double)elements * (double)inner;
}

double eqs_half_product_flops(int64_t first, int64_t end, int64_t inner)
{
  double rows = (double)(end - first);
  return (2.0 * (double)first * rows + rows * rows) * (double)inner;
}

/* One square of lanes × lanes at (i, j), i >= j, and its mirror image. */
static inline void sum_square(const eqs_symmetric_sum *sum, int64_t i, int64_t j)
{
  eqs_vector rows[eqs_lanes];
  float alpha = (float)sum->alpha, beta = (float)sum->beta;
  int64_t place = i * sum->stride + j;
  for (int r = 0; r < eqs_lanes; r++) {
    int64_t at = place + r * sum->stride;
    eqs_vector value = eqs_load(sum->term[0] + at);
    for (int k = 1; k < sum->terms; k++) value += eqs_load(sum->term[k] + at);
    value *= alpha;
    if (sum->addend != NULL) value += beta * eqs_load(sum->addend + at);
    rows[r] = value;
  }
  if (i == j) { /* above the diagonal there is nothing to be read: take it from below */
    eqs_vector mirrored[eqs_lanes];
    memcpy(mirrored, rows, sizeof rows);
    eqs_transpose_lanes(mirrored);
    for (int r = 0; r < eqs_lanes; r++) {
      for (int l = r + 1; l < eqs_lanes; l++) rows[r][l] = mirrored[r][l];
      if (i + r < sum->n) rows[r][r] += (float)sum->shift;
    }
  }
  for (int r = 0; r < eqs_lanes; r++) eqs_store(rows[r], sum->to + place + r * sum->stride);
  if (i == j) return;
  eqs_transpose_lanes(rows);
  for (int r = 0; r < eqs_lanes; r++) eqs_store(rows[r], sum->to + (j + r) * sum->stride + i);
}

void eqs_symmetric_sum_rows(const eqs_symmetric_sum *sum, int64_t first, int64_t end)
{
  for (int64_t i = first; i < end; i += eqs_lanes)
    for (int64_t j = 0; j <= i; j += eqs_lanes) sum_square(sum, i, j);
}
