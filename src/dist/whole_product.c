#include "dist/whole_product.h"

#include <string.h>

#include "dist/scalapack.h"
#include "dist/tile.h"

/*
 * With AVX-512 the kernel is faster than BLIS's gemm here (Zen 5, 75776×1024 by 1024×1024 in place on both cores: 192
 * against 168 Gflop/s), because b comes in rows of a few kilobytes that need no packing.
 */
#if defined(__AVX512F__)
static const bool own_kernel = true;
#else
static const bool own_kernel = false;
#endif

enum {
  row_block = 64,    /* of c and a: in the second cache, while b passes by */
  inner_block = 512, /* of a tile's columns of b */
};

/* What BLIS takes longer to set up than to compute (Zen 5, 8×8×8: 5 µs against less than 0.5). */
enum { small_work = 1 << 14, small_inner = 256 };

int64_t eqs_whole_product_rows(int64_t inner)
{
  int64_t elements = own_kernel && inner <= 1024 ? 1 << 17 : 1 << 21, rows = elements / (inner > 0 ? inner : 1);
  return rows < row_block ? row_block : rows / row_block * row_block;
}

static eqs_status multiply_by_blas(int64_t rows, int64_t cols, int64_t inner, double alpha, eqs_rows a, const float *b,
                                   int64_t b_stride, float *c, int64_t c_stride)
{
  static const float zero = 0;
  eqs_status status = EQS_OK;
  float factor = (float)alpha;
  int m, n, k, lda, ldb, ldc;
  if (rows == 0 || cols == 0) return EQS_OK;
  EQS_TRY(eqs_to_int(rows, &m));
  EQS_TRY(eqs_to_int(cols, &n));
  EQS_TRY(eqs_to_int(inner, &k));
  EQS_TRY(eqs_to_int(a.stride, &lda));
  EQS_TRY(eqs_to_int(b_stride, &ldb));
  EQS_TRY(eqs_to_int(c_stride, &ldc));
  sgemm_("N", a.transposed ? "T" : "N", &n, &m, &k, &factor, b, &ldb, a.data, &lda, &zero, c, &ldc); /* cᵀ = bᵀ aᵀ */
cleanup:
  return status;
}

/* Vectors of columns, each in turn: b's part of it lies padded in a panel. */
static void multiply_small(int64_t rows, int64_t cols, int64_t inner, float factor, eqs_rows a, const float *b,
                           int64_t b_stride, float *c, int64_t c_stride)
{
  eqs_vector panel[small_inner];
  int64_t a_inner = a.transposed ? a.stride : 1, a_row = a.transposed ? 1 : a.stride;
  for (int64_t j = 0; j < cols; j += eqs_lanes) {
    size_t bytes = sizeof *b * (size_t)(cols - j < eqs_lanes ? cols - j : eqs_lanes);
    for (int64_t t = 0; t < inner; t++) {
      panel[t] = (eqs_vector){0};
      memcpy(&panel[t], b + t * b_stride + j, bytes);
    }
    for (int64_t i = 0; i < rows; i++) {
      eqs_vector sum = {0};
      for (int64_t t = 0; t < inner; t++) sum += a.data[t * a_inner + i * a_row] * panel[t];
      sum *= factor;
      memcpy(c + i * c_stride + j, &sum, bytes);
    }
  }
}

/* What whole tiles leave. */
static eqs_status multiply_rest(int64_t rows, int64_t cols, int64_t inner, double alpha, eqs_rows a, const float *b,
                                int64_t b_stride, float *c, int64_t c_stride)
{
  if (inner > small_inner || rows * cols > small_work / (inner > 0 ? inner : 1))
    return multiply_by_blas(rows, cols, inner, alpha, a, b, b_stride, c, c_stride);
  multiply_small(rows, cols, inner, (float)alpha, a, b, b_stride, c, c_stride);
  return EQS_OK;
}

/* Whole tiles of rows first ... end - 1, a part of the inner dimension. */
static void multiply_tiles(int64_t first, int64_t end, int64_t cols, int64_t t, int64_t depth, float factor, eqs_rows a,
                           const float *b, int64_t b_stride, float *c, int64_t c_stride)
{
  for (int64_t j = 0; j < cols; j += eqs_tile_cols) {
    const float *columns = b + t * b_stride + j;
    for (int64_t i = first; i < end; i += eqs_tile_rows) {
      float *tile = c + i * c_stride + j;
      if (a.transposed)
        eqs_multiply_tile(2, depth, a.data + t * a.stride + i, a.stride, 1, columns, b_stride, t > 0, factor, tile,
                          c_stride);
      else
        eqs_multiply_tile(2, depth, a.data + i * a.stride + t, 1, a.stride, columns, b_stride, t > 0, factor, tile,
                          c_stride);
    }
  }
}

eqs_status eqs_whole_product(int64_t rows, int64_t cols, int64_t inner, double alpha, eqs_rows a, const float *b,
                             int64_t b_stride, float *c, int64_t c_stride)
{
  eqs_status status = EQS_OK;
  int64_t tiled_rows = own_kernel && inner > 0 && inner <= 1024 ? rows / eqs_tile_rows * eqs_tile_rows : 0;
  int64_t tiled_cols = tiled_rows > 0 ? cols / eqs_tile_cols * eqs_tile_cols : 0;
  if (tiled_cols == 0) tiled_rows = 0;
  for (int64_t first = 0; first < tiled_rows; first += row_block) {
    int64_t end = first + row_block < tiled_rows ? first + row_block : tiled_rows;
    for (int64_t t = 0; t < inner; t += inner_block) {
      int64_t depth = inner - t < inner_block ? inner - t : inner_block;
      float factor = t + depth == inner ? (float)alpha : 1;
      multiply_tiles(first, end, tiled_cols, t, depth, factor, a, b, b_stride, c, c_stride);
    }
  }
  eqs_rows rest = a;
  rest.data += tiled_rows * (a.transposed ? 1 : a.stride);
  EQS_TRY(multiply_rest(tiled_rows, cols - tiled_cols, inner, alpha, a, b + tiled_cols, b_stride, c + tiled_cols,
                        c_stride));
  EQS_TRY(multiply_rest(rows - tiled_rows, cols, inner, alpha, rest, b, b_stride, c + tiled_rows * c_stride, c_stride));
cleanup:
  return status;
}
