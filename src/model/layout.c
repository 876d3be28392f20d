#include "model/layout.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"

const char *const eqs_layout_names[EQS_LAYOUTS] = {EQS_LAYOUT_NAMES};

/* More matrices in one tensor than this are a mistake (a stack of single numbers), not a model. */
enum { max_matrices = 1 << 20 };

/* Consecutive rows, or columns, of one matrix of the stack: what a layout is applied to. */
typedef struct {
  int64_t offset; /* of its first element in the tensor */
  int64_t rows, cols;
  int64_t stride; /* elements from row to row: the tensor's columns */
} piece;

bool eqs_layout_has_heads(eqs_tensor_layout layout)
{
  return layout == EQS_LAYOUT_HEADS_QKV || layout == EQS_LAYOUT_HEADS_O || layout == EQS_LAYOUT_HEADS_QKV_COL ||
         layout == EQS_LAYOUT_HEADS_O_COL;
}

/* Whether the tensor is stored as inputs × outputs, so that its columns are what pieces consist of. */
static bool cuts_columns(eqs_tensor_layout layout)
{
  return layout == EQS_LAYOUT_COL || layout == EQS_LAYOUT_HEADS_QKV_COL || layout == EQS_LAYOUT_HEADS_O_COL;
}

void eqs_shape_text(int ndim, const int64_t *shape, char *text, size_t size)
{
  size_t length = (size_t)snprintf(text, size, "[");
  for (int i = 0; i < ndim && length < size; i++)
    length += (size_t)snprintf(text + length, size - length, i == 0 ? "%lld" : ", %lld", (long long)shape[i]);
  if (length < size) snprintf(text + length, size - length, "]");
}

void eqs_shape_brief(int ndim, const int64_t *shape, char *text, size_t size)
{
  size_t length = 0;
  snprintf(text, size, "scalar");
  for (int i = 0; i < ndim && length < size; i++)
    length += (size_t)snprintf(text + length, size - length, i == 0 ? "%lld" : "x%lld", (long long)shape[i]);
}

eqs_status eqs_shape_elements(int ndim, const int64_t *shape, int64_t *elements)
{
  if (ndim < 0 || ndim > EQS_MAX_DIMS)
    return eqs_fail(EQS_USAGE, "%d dimensions, but 0 to %d are possible", ndim, EQS_MAX_DIMS);
  bool empty = false;
  int64_t size = 1; /* of what is left without the dimensions of 0, whose products are computed too */
  for (int i = 0; i < ndim; i++) {
    if (shape[i] < 0) return eqs_fail(EQS_USAGE, "dimension %d has the negative size %lld", i, (long long)shape[i]);
    empty = empty || shape[i] == 0;
    if (shape[i] > 0 && (!eqs_multiply_sizes(size, shape[i], &size) || size > EQS_MAX_ELEMENTS))
      return eqs_fail(EQS_USAGE, "the tensor has more than 2^48 elements");
  }
  *elements = empty ? 0 : size;
  return EQS_OK;
}

static eqs_status count_heads(eqs_tensor_layout layout, int64_t size, const char *lines, int64_t head_dim,
                              int64_t *count)
{
  *count = size / head_dim;
  if (size % head_dim == 0) return EQS_OK;
  return eqs_fail(EQS_USAGE, "%s: %lld %s are not a multiple of head_dim %lld", eqs_layout_names[layout],
                  (long long)size, lines, (long long)head_dim);
}

/* Whether a layout fits a piece, and how many matrices it makes of it. */
static eqs_status count_matrices(eqs_tensor_layout layout, int64_t head_dim, const piece *in, int64_t *count)
{
  const char *name = eqs_layout_names[layout];
  int64_t rows = in->rows, cols = in->cols;
  *count = 1;
  switch (layout) {
  case EQS_LAYOUT_HEADS_QKV:
  case EQS_LAYOUT_HEADS_O_COL: return count_heads(layout, rows, "rows", head_dim, count);
  case EQS_LAYOUT_HEADS_O:
  case EQS_LAYOUT_HEADS_QKV_COL: return count_heads(layout, cols, "columns", head_dim, count);
  case EQS_LAYOUT_GATE_UP_CONCAT_SPLIT: *count = 2; /* fall through */
  case EQS_LAYOUT_GATE_UP_CONCAT_PAIR:
    if (rows % 2 != 0)
      return eqs_fail(EQS_USAGE, "%s: %lld rows are not two halves, gate and up", name, (long long)rows);
    break;
  case EQS_LAYOUT_GATE_UP_INTERLEAVED_SPLIT: *count = 2; /* fall through */
  case EQS_LAYOUT_GATE_UP_INTERLEAVED_PAIR:
    if (cols % 2 != 0)
      return eqs_fail(EQS_USAGE, "%s: %lld columns are not pairs of gate and up", name, (long long)cols);
    break;
  default: break;
  }
  return EQS_OK;
}

static eqs_view one_part(int64_t rows, int64_t cols, int64_t offset, int64_t row_stride, int64_t col_stride)
{
  return (eqs_view){.rows = rows, .cols = cols, .parts = 1, .part = {{offset, row_stride, col_stride, 0, cols}}};
}

/* The index-th matrix that a layout makes of a piece. */
static eqs_view view_of(eqs_tensor_layout layout, int64_t head_dim, const piece *in, int64_t index)
{
  int64_t offset = in->offset, rows = in->rows, cols = in->cols, stride = in->stride;
  switch (layout) {
  case EQS_LAYOUT_COL: return one_part(cols, rows, offset, 1, stride);
  case EQS_LAYOUT_HEADS_QKV: return one_part(head_dim, cols, offset + index * head_dim * stride, stride, 1);
  case EQS_LAYOUT_HEADS_O: return one_part(rows, head_dim, offset + index * head_dim, stride, 1);
  case EQS_LAYOUT_HEADS_QKV_COL: return one_part(head_dim, rows, offset + index * head_dim, 1, stride);
  case EQS_LAYOUT_HEADS_O_COL: return one_part(cols, head_dim, offset + index * head_dim * stride, 1, stride);
  case EQS_LAYOUT_GATE_UP_CONCAT_SPLIT:
    return one_part(rows / 2, cols, offset + index * (rows / 2) * stride, stride, 1);
  case EQS_LAYOUT_GATE_UP_INTERLEAVED_SPLIT: return one_part(rows, cols / 2, offset + index, stride, 2);
  case EQS_LAYOUT_GATE_UP_CONCAT_PAIR:
    return (eqs_view){.rows = rows / 2,
                      .cols = 2 * cols,
                      .parts = 2,
                      .part = {{offset, stride, 1, 0, cols}, {offset + rows / 2 * stride, stride, 1, cols, cols}}};
  case EQS_LAYOUT_GATE_UP_INTERLEAVED_PAIR: /* neuron j: columns 2j (gate) and 2j + 1 (up) of every tensor row */
    return (eqs_view){.rows = cols / 2,
                      .cols = 2 * rows,
                      .parts = 2,
                      .part = {{offset, 2, stride, 0, rows}, {offset + 1, 2, stride, rows, rows}}};
  default: return one_part(rows, cols, offset, stride, 1);
  }
}

static eqs_status check_form(eqs_tensor_layout layout, int64_t head_dim, int ndim)
{
  const char *name = eqs_layout_names[layout];
  if (ndim < 2)
    return eqs_fail(EQS_USAGE, "%s: %d dimensions, but a matrix or a stack of matrices is needed", name, ndim);
  if (eqs_layout_has_heads(layout) && head_dim < 1) return eqs_fail(EQS_USAGE, "%s: head_dim is missing", name);
  return EQS_OK;
}

static eqs_status check_split(const eqs_split *split, int64_t size, const char *lines)
{
  int64_t sum = 0, all;
  for (int i = 0; i < split->pieces; i++)
    if (split->size[i] < 1 || __builtin_add_overflow(sum, split->size[i], &sum))
      return eqs_fail(EQS_USAGE, "split: every piece needs at least one of the %s", lines);
  if (split->pieces == 0 || (eqs_multiply_sizes(sum, split->repeat, &all) && all == size)) return EQS_OK;
  if (split->repeat == 1)
    return eqs_fail(EQS_USAGE, "split: the pieces have %lld %s together, the tensor %lld", (long long)sum, lines,
                    (long long)size);
  return eqs_fail(EQS_USAGE, "split: the pieces have %lld times %lld %s together, the tensor %lld",
                  (long long)split->repeat, (long long)sum, lines, (long long)size);
}

/* Piece `index` of a matrix of the stack, `whole`, which begins at its row, or column, `begin`. */
static piece cut(eqs_tensor_layout layout, const eqs_split *split, int index, int64_t begin, const piece *whole)
{
  piece cut = *whole;
  if (split->pieces == 0) return cut;
  cut.offset += cuts_columns(layout) ? begin : begin * whole->stride;
  *(cuts_columns(layout) ? &cut.cols : &cut.rows) = split->size[index];
  return cut;
}

/* How many matrices the layout makes of a matrix of the stack. */
static eqs_status count_in_whole(eqs_tensor_layout layout, int64_t head_dim, const eqs_split *split, const piece *whole,
                                 int64_t *count)
{
  eqs_status status = EQS_OK;
  int64_t matrices, sum = 0;
  EQS_TRY(
      check_split(split, cuts_columns(layout) ? whole->cols : whole->rows, cuts_columns(layout) ? "columns" : "rows"));
  for (int p = 0; p < (split->pieces > 0 ? split->pieces : 1); p++) {
    piece in = cut(layout, split, p, 0, whole);
    EQS_TRY(count_matrices(layout, head_dim, &in, &matrices));
    sum += matrices;
  }
  if (!eqs_multiply_sizes(sum, split->repeat, count)) *count = INT64_MAX;
cleanup:
  return status;
}

/* The views of a matrix of the stack, of which `first` is the first. */
static void fill_views(eqs_tensor_layout layout, int64_t head_dim, const eqs_split *split, const piece *whole,
                       eqs_view *first)
{
  int64_t begin = 0;
  for (int64_t group = 0; group < split->repeat; group++) {
    for (int p = 0; p < (split->pieces > 0 ? split->pieces : 1); p++) {
      piece in = cut(layout, split, p, begin, whole);
      int64_t matrices = 1;
      count_matrices(layout, head_dim, &in, &matrices); /* has succeeded before */
      for (int64_t i = 0; i < matrices; i++) *first++ = view_of(layout, head_dim, &in, i);
      if (split->pieces > 0) begin += split->size[p];
    }
  }
}

/* Rows of out, columns of all that follows. A part is what of a matrix's row is in one row of the tensor. */
static eqs_view flat_view(int64_t offset, int64_t rows, int64_t cols, int64_t last)
{
  eqs_view view = one_part(rows, last, offset, cols, 1);
  view.cols = cols;
  view.parts = cols / last;
  view.part[1] = view.part[0];
  view.part[1].offset += last;
  view.part[1].first_col += last;
  return view;
}

eqs_status eqs_layout_views(eqs_tensor_layout layout, int64_t head_dim, const eqs_split *split, bool stacked, int ndim,
                            const int64_t *shape, int64_t *count, eqs_view **views)
{
  static const eqs_split one_piece = {.repeat = 1};
  eqs_status status = EQS_OK;
  int64_t elements, per_stack = 1, stack = 1;
  bool flat = layout == EQS_LAYOUT_FLATTEN;
  if (split == NULL || split->pieces == 0) split = &one_piece;
  *count = 0;
  *views = NULL;
  EQS_TRY(check_form(layout, head_dim, flat ? ndim - stacked : ndim));
  EQS_TRY(eqs_shape_elements(ndim, shape, &elements));
  if (flat && split->pieces > 0) EQS_TRY(eqs_fail(EQS_USAGE, "flatten: a convolution has no pieces to split"));
  int first = flat ? stacked : ndim - 2; /* dimension of a matrix's rows; those before it count the stack */
  int64_t rows = shape[first], cols = 1, last = shape[ndim - 1];
  for (int d = 0; d < first; d++) stack *= shape[d];
  for (int d = first + 1; d < ndim; d++) cols *= shape[d];
  piece whole = {0, rows, cols, cols};
  if (!flat) EQS_TRY(count_in_whole(layout, head_dim, split, &whole, &per_stack));
  if (elements == 0) goto cleanup;
  if (per_stack > max_matrices || stack > max_matrices / per_stack)
    EQS_TRY(eqs_fail(EQS_USAGE, "%s: more than %d matrices in one tensor", eqs_layout_names[layout], max_matrices));

  EQS_TRY(eqs_allocate(views, stack * per_stack, sizeof **views));
  for (; *count < stack * per_stack; *count += per_stack) {
    if (flat)
      (*views)[*count] = flat_view(whole.offset, rows, cols, last);
    else
      fill_views(layout, head_dim, split, &whole, &(*views)[*count]);
    whole.offset += rows * cols;
  }
  for (int64_t i = 0; i < *count; i++) (*views)[i].tensor_rows = elements / last, (*views)[i].tensor_cols = last;
cleanup:
  return status;
}

eqs_status eqs_layout_whole(int ndim, const int64_t *shape, int64_t *count, eqs_view **views)
{
  eqs_status status = EQS_OK;
  int64_t elements;
  *count = 0;
  *views = NULL;
  EQS_TRY(eqs_shape_elements(ndim, shape, &elements));
  if (elements == 0) return EQS_OK;
  int64_t cols = ndim < 2 ? 1 : shape[ndim - 1], rows = elements / cols;
  EQS_TRY(eqs_allocate(views, 1, sizeof **views));
  **views = one_part(rows, cols, 0, cols, 1);
  (*views)->tensor_rows = rows;
  (*views)->tensor_cols = cols;
  *count = 1;
cleanup:
  return status;
}
