#include "dist/fragment.h"

#include <stdbool.h>
#include <string.h>

eqs_view_part eqs_view_part_at(const eqs_view *view, int64_t index)
{
  if (index < 2) return view->part[index];
  eqs_view_part part = view->part[0];
  part.offset += index * (view->part[1].offset - part.offset);
  part.first_col += index * (view->part[1].first_col - part.first_col);
  return part;
}

/* Half-open. */
typedef struct {
  int64_t begin, end;
} range;

static int64_t length(range r)
{
  return r.end > r.begin ? r.end - r.begin : 0;
}

/*
 * What a fragment has of one part of its view: a rectangle of the shard, because the tensor's row follows from
 * the matrix's row alone, or from its column alone (transposed views).
 */
typedef struct {
  range rows, cols; /* local indices of the shard */
  int64_t shard_cols;
} rectangle;

/* The local indices of the global ones in `wanted`. */
static range local_range(range wanted, int64_t block, int coord, int procs)
{
  return (range){eqs_local_count(wanted.begin, block, coord, procs), eqs_local_count(wanted.end, block, coord, procs)};
}

/* The indices i in 0 ... count-1 with first <= start + i * step < end. */
static range indices_within(int64_t start, int64_t step, int64_t count, int64_t first, int64_t end)
{
  range found = {0, count};
  if (step < 1) step = 1; /* of a single index */
  if (first > start) found.begin = (first - start + step - 1) / step;
  if (end <= start)
    found.end = 0;
  else if ((end - start + step - 1) / step < count)
    found.end = (end - start + step - 1) / step;
  if (found.begin > found.end) found.begin = found.end;
  return found;
}

/* Whether going down the matrix's rows goes down the tensor's; else going along its columns does. */
static bool rows_follow_tensor_rows(const eqs_view_part *part, int64_t tensor_cols)
{
  return part->row_stride % tensor_cols == 0 &&
         part->offset % tensor_cols + (part->cols - 1) * part->col_stride < tensor_cols;
}

static rectangle rectangle_of_part(const eqs_fragment *fragment, const eqs_view_part *part)
{
  const eqs_view *view = fragment->view;
  const eqs_distribution *distribution = fragment->distribution;
  int64_t tensor_cols = view->tensor_cols, start = part->offset / tensor_cols;
  range rows = {0, view->rows}, cols = {0, part->cols};
  if (rows_follow_tensor_rows(part, tensor_cols))
    rows = indices_within(start, part->row_stride / tensor_cols, view->rows, fragment->first_row, fragment->end_row);
  else
    cols = indices_within(start, part->col_stride / tensor_cols, part->cols, fragment->first_row, fragment->end_row);
  cols.begin += part->first_col;
  cols.end += part->first_col;
  return (rectangle){
      .rows = local_range(rows, distribution->row_block, fragment->row, distribution->grid_rows),
      .cols = local_range(cols, distribution->col_block, fragment->col, distribution->grid_cols),
      .shard_cols =
          eqs_local_count(distribution->cols, distribution->col_block, fragment->col, distribution->grid_cols),
  };
}

static int64_t rectangle_size(const rectangle *part)
{
  return length(part->rows) * length(part->cols);
}

int64_t eqs_fragment_count(const eqs_fragment *fragment)
{
  int64_t count = 0;
  if (fragment->view->tensor_cols == 0) return 0;
  for (int64_t index = 0; index < fragment->view->parts; index++) {
    eqs_view_part part = eqs_view_part_at(fragment->view, index);
    rectangle local = rectangle_of_part(fragment, &part);
    count += rectangle_size(&local);
  }
  return count;
}

/* A block of elements in two buffers, where row i, column j is at i * row_stride + j * col_stride; message columns
 * are adjacent. */
typedef struct {
  char *tensor, *message;
  int64_t rows, cols;
  int64_t tensor_row_stride, tensor_col_stride, message_row_stride;
} block_pair;

typedef enum { TO_MESSAGE, TO_TENSOR } direction;

static inline void copy_elements(const block_pair *block, int64_t i, int64_t j, size_t element_size, direction way)
{
  char *tensor = block->tensor + (i * block->tensor_row_stride + j * block->tensor_col_stride) * (int64_t)element_size;
  char *message = block->message + (i * block->message_row_stride + j) * (int64_t)element_size;
  if (way == TO_MESSAGE)
    memcpy(message, tensor, element_size);
  else
    memcpy(tensor, message, element_size);
}

/* In tiles, because the buffers are far from being in the same order when the view is transposed. */
static inline void copy_tiles(const block_pair *block, size_t element_size, direction way)
{
  enum { tile = 16 };
  for (int64_t row = 0; row < block->rows; row += tile) {
    int64_t end = row + tile < block->rows ? row + tile : block->rows;
    for (int64_t j = 0; j < block->cols; j++)
      for (int64_t i = row; i < end; i++) copy_elements(block, i, j, element_size, way);
  }
}

static void copy_rows(const block_pair *block, size_t element_size, direction way)
{
  size_t bytes = (size_t)block->cols * element_size;
  for (int64_t i = 0; i < block->rows; i++) {
    char *tensor = block->tensor + i * block->tensor_row_stride * (int64_t)element_size;
    char *message = block->message + i * block->message_row_stride * (int64_t)element_size;
    if (way == TO_MESSAGE)
      memcpy(message, tensor, bytes);
    else
      memcpy(tensor, message, bytes);
  }
}

static void copy_block(const block_pair *block, size_t element_size, direction way)
{
  if (block->tensor_col_stride == 1)
    copy_rows(block, element_size, way);
  else if (element_size == 4)
    copy_tiles(block, 4, way); /* constant sizes, so that the copies are single moves */
  else
    copy_tiles(block, 2, way);
}

/* The end of the run of local indices from `local` on whose global indices are consecutive. */
static int64_t end_of_run(int64_t local, int64_t end, int64_t block, int procs)
{
  int64_t next = procs == 1 ? end : (local / block + 1) * block;
  return next < end ? next : end;
}

static void copy_part(const eqs_fragment *fragment, const eqs_view_part *part, size_t element_size, char *tensor_rows,
                      char *message, direction way)
{
  const eqs_distribution *distribution = fragment->distribution;
  rectangle local = rectangle_of_part(fragment, part);
  int64_t start = part->offset - fragment->first_row * fragment->view->tensor_cols, width = length(local.cols);
  int64_t next_row, next_col;
  for (int64_t row = local.rows.begin; row < local.rows.end; row = next_row) {
    next_row = end_of_run(row, local.rows.end, distribution->row_block, distribution->grid_rows);
    int64_t i = eqs_global_index(row, distribution->row_block, fragment->row, distribution->grid_rows);
    for (int64_t col = local.cols.begin; col < local.cols.end; col = next_col) {
      next_col = end_of_run(col, local.cols.end, distribution->col_block, distribution->grid_cols);
      int64_t j =
          eqs_global_index(col, distribution->col_block, fragment->col, distribution->grid_cols) - part->first_col;
      int64_t tensor_place = start + i * part->row_stride + j * part->col_stride;
      int64_t message_place = (row - local.rows.begin) * width + col - local.cols.begin;
      block_pair block = {
          .tensor = tensor_rows + tensor_place * (int64_t)element_size,
          .message = message + message_place * (int64_t)element_size,
          .rows = next_row - row,
          .cols = next_col - col,
          .tensor_row_stride = part->row_stride,
          .tensor_col_stride = part->col_stride,
          .message_row_stride = width,
      };
      copy_block(&block, element_size, way);
    }
  }
}

static void copy_fragment(const eqs_fragment *fragment, size_t element_size, char *rows, char *message, direction way)
{
  if (fragment->view->tensor_cols == 0) return;
  for (int64_t index = 0; index < fragment->view->parts; index++) {
    eqs_view_part part = eqs_view_part_at(fragment->view, index);
    rectangle local = rectangle_of_part(fragment, &part);
    copy_part(fragment, &part, element_size, rows, message, way);
    message += rectangle_size(&local) * (int64_t)element_size;
  }
}

void eqs_fragment_gather(const eqs_fragment *fragment, size_t element_size, const void *rows, void *message)
{
  copy_fragment(fragment, element_size, (char *)(uintptr_t)rows, message, TO_MESSAGE); /* only read */
}

void eqs_fragment_scatter(const eqs_fragment *fragment, size_t element_size, const void *message, void *rows)
{
  copy_fragment(fragment, element_size, rows, (char *)(uintptr_t)message, TO_TENSOR); /* message is only read */
}

/* Some adjacent elements of a message and of the shard. */
typedef void convert_row(eqs_dtype dtype, char *message, float *shard, int64_t count);

static void row_to_message(eqs_dtype dtype, char *message, float *shard, int64_t count)
{
  eqs_from_float(dtype, shard, message, count);
}

static void row_to_shard(eqs_dtype dtype, char *message, float *shard, int64_t count)
{
  eqs_to_float(dtype, message, shard, count);
}

static void add_row_to_shard(eqs_dtype dtype, char *message, float *shard, int64_t count)
{
  enum { piece = 256 };
  float values[piece];
  for (int64_t begin = 0; begin < count; begin += piece) {
    int64_t some = count - begin < piece ? count - begin : piece;
    eqs_to_float(dtype, message + begin * (int64_t)eqs_dtype_size(dtype), values, some);
    for (int64_t j = 0; j < some; j++) shard[begin + j] += values[j];
  }
}

/* Where the shard already is what the trainer's narrower type can say of it, it stays: float32 knows more. */
static void renew_row(eqs_dtype dtype, char *message, float *shard, int64_t count)
{
  enum { piece = 256 };
  float values[piece], known[piece], narrowed[piece];
  for (int64_t begin = 0; begin < count; begin += piece) {
    int64_t some = count - begin < piece ? count - begin : piece;
    eqs_to_float(dtype, message + begin * (int64_t)eqs_dtype_size(dtype), values, some);
    eqs_from_float(dtype, shard + begin, narrowed, some);
    eqs_to_float(dtype, narrowed, known, some);
    for (int64_t j = 0; j < some; j++)
      if (memcmp(&values[j], &known[j], sizeof values[j]) != 0) shard[begin + j] = values[j];
  }
}

static void convert_fragment(const eqs_fragment *fragment, eqs_dtype dtype, char *message, float *shard,
                             convert_row *convert)
{
  if (fragment->view->tensor_cols == 0) return;
  for (int64_t index = 0; index < fragment->view->parts; index++) {
    eqs_view_part seen = eqs_view_part_at(fragment->view, index);
    rectangle part = rectangle_of_part(fragment, &seen);
    int64_t width = length(part.cols);
    if (width == 0) continue;
    for (int64_t row = part.rows.begin; row < part.rows.end; row++) {
      convert(dtype, message, shard + row * part.shard_cols + part.cols.begin, width);
      message += width * (int64_t)eqs_dtype_size(dtype);
    }
  }
}

void eqs_fragment_read_shard(const eqs_fragment *fragment, eqs_dtype dtype, const float *shard, void *message)
{
  convert_fragment(fragment, dtype, message, (float *)(uintptr_t)shard, row_to_message); /* shard is only read */
}

void eqs_fragment_write_shard(const eqs_fragment *fragment, eqs_dtype dtype, const void *message, float *shard)
{
  convert_fragment(fragment, dtype, (char *)(uintptr_t)message, shard, row_to_shard); /* message is only read */
}

void eqs_fragment_renew_shard(const eqs_fragment *fragment, eqs_dtype dtype, const void *message, float *shard)
{
  convert_fragment(fragment, dtype, (char *)(uintptr_t)message, shard, renew_row); /* message is only read */
}

void eqs_fragment_add_to_shard(const eqs_fragment *fragment, eqs_dtype dtype, const void *message, float *shard)
{
  convert_fragment(fragment, dtype, (char *)(uintptr_t)message, shard, add_row_to_shard); /* message is only read */
}
