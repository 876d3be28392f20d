/*
 * Fragments: the elements that one shard of a matrix and one range of a tensor's rows have in common.
 * They are what moves between trainers and owners, and between owners and a checkpoint.
 *
 * A tensor is row-major, tensor_rows × tensor_cols (the last dimension; all others flattened into rows;
 * a one-dimensional tensor of n elements is n × 1). A matrix inside it is described by a view.
 */
#ifndef EQS_DIST_FRAGMENT_H
#define EQS_DIST_FRAGMENT_H

#include "base/numbers.h"
#include "dist/block_cyclic.h"

/*
 * Columns first_col ... first_col + cols - 1 of a matrix: element (i, first_col + j) is the tensor's
 * element offset + i * row_stride + j * col_stride. One of the two strides is a multiple of tensor_cols, the
 * other stays within one tensor row.
 */
typedef struct {
  int64_t offset, row_stride, col_stride;
  int64_t first_col, cols;
} eqs_view_part;

typedef struct {
  int64_t rows, cols; /* of the matrix */
  int64_t tensor_rows, tensor_cols;
  /*
   * 1; 2 for a pair (gate and up) side by side; for a convolution as many as kernel rows of all inputs. Of more than
   * two, every part is as far from the one before it as part[1] is from part[0], in offset and first_col.
   */
  int64_t parts;
  eqs_view_part part[2];
} eqs_view;

/* Part `index` of a view. */
eqs_view_part eqs_view_part_at(const eqs_view *view, int64_t index);

/* One fragment: the shard at (row, col) of the distribution's grid; tensor rows first_row ... end_row - 1. */
typedef struct {
  const eqs_view *view;
  const eqs_distribution *distribution; /* of the matrix, distribution->rows == view->rows ... */
  int row, col;
  int64_t first_row, end_row;
} eqs_fragment;

/* How many elements it has; 0 if none. */
int64_t eqs_fragment_count(const eqs_fragment *fragment);

/*
 * Between the tensor's rows first_row ... end_row - 1 (`rows` points at the first of them) and a message
 * of eqs_fragment_count elements, of element_size bytes each (2 or 4). The order in the message is part by
 * part, row by row of the shard.
 */
void eqs_fragment_gather(const eqs_fragment *fragment, size_t element_size, const void *rows, void *message);
void eqs_fragment_scatter(const eqs_fragment *fragment, size_t element_size, const void *message, void *rows);

/* Between a message in the trainer's dtype and the shard (local rows × local columns, row-major, float32). */
void eqs_fragment_read_shard(const eqs_fragment *fragment, eqs_dtype dtype, const float *shard, void *message);
void eqs_fragment_write_shard(const eqs_fragment *fragment, eqs_dtype dtype, const void *message, float *shard);
void eqs_fragment_add_to_shard(const eqs_fragment *fragment, eqs_dtype dtype, const void *message, float *shard);

/* As write_shard, but elements of the shard stay that are the message's when they are rounded to the trainer's dtype.
 */
void eqs_fragment_renew_shard(const eqs_fragment *fragment, eqs_dtype dtype, const void *message, float *shard);

#endif
