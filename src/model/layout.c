#include "model/layout.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"

const char *const eqs_layout_names[EQS_LAYOUTS] = {"row",
                                                   "col",
                                                   "heads_qkv",
                                                   "heads_o",
                                                   "gate_up_concat_pair",
                                                   "gate_up_interleaved_pair",
                                                   "gate_up_concat_split",
                                                   "gate_up_interleaved_split"};

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
  return layout == EQS_LAYOUT_HEADS_QKV || layout == EQS_LAYOUT_HEADS_O;
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

/* Whether a layout fits a piece, and how many matrices it makes of it. */
static eqs_status count_matrices(eqs_tensor_layout layout, int64_t head_dim, const piece *in, int64_t *count)
{
  const char *name = eqs_layout_names[layout];
  int64_t rows = in->rows, cols = in->cols;
  *count = 1;
  switch (layout) {
  case EQS_LAYOUT_HEADS_QKV:
    *count = rows / head_dim;
    if (rows % head_dim != 0)
      return eqs_fail(EQS_USAGE, "%s: %lld rows are not a multiple of head_dim %lld", name, (long long)rows,
                      (long long)head_dim);
    break;
  case EQS_LAYOUT_HEADS_O:
    *count = cols / head_dim;
    if (cols % head_dim != 0)
      return eqs_fail(EQS_USAGE, "%s: %lld columns are not a multiple of head_dim %lld", name, (long long)cols,
                      (long long)head_dim);
    break;
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
  if (ndim != 2 && ndim != 3)
    return eqs_fail(EQS_USAGE, "%s: %d dimensions, but a matrix or a stack of matrices is needed", name, ndim);
  if (eqs_layout_has_heads(layout) && ndim != 2)
    return eqs_fail(EQS_USAGE, "%s: %d dimensions, but heads are inside a matrix", name, ndim);
  if (eqs_layout_has_heads(layout) && head_dim < 1) return eqs_fail(EQS_USAGE, "%s: head_dim is missing", name);
  return EQS_OK;
}

static eqs_status check_split(int splits, const int64_t *split, int64_t size, const char *lines)
{
  int64_t sum = 0;
  for (int i = 0; i < splits; i++)
    if (split[i] < 1 || __builtin_add_overflow(sum, split[i], &sum))
      return eqs_fail(EQS_USAGE, "split: every piece needs at least one of the %s", lines);
  if (splits > 0 && sum != size)
    return eqs_fail(EQS_USAGE, "split: the pieces have %lld %s together, the tensor %lld", (long long)sum, lines,
                    (long long)size);
  return EQS_OK;
}

/* Cut a matrix of the stack, `whole`, into pieces: its columns for col, whose units they are, else its rows. */
static eqs_status cut(eqs_tensor_layout layout, int splits, const int64_t *split, const piece *whole, piece *pieces)
{
  bool columns = layout == EQS_LAYOUT_COL;
  int64_t begin = 0;
  eqs_status status = check_split(splits, split, columns ? whole->cols : whole->rows, columns ? "columns" : "rows");
  if (status != EQS_OK) return status;
  pieces[0] = *whole;
  for (int p = 0; p < splits; p++) {
    pieces[p] = *whole;
    pieces[p].offset += columns ? begin : begin * whole->stride;
    *(columns ? &pieces[p].cols : &pieces[p].rows) = split[p];
    begin += split[p];
  }
  return EQS_OK;
}

eqs_status eqs_layout_views(eqs_tensor_layout layout, int64_t head_dim, int splits, const int64_t *split, int ndim,
                            const int64_t *shape, int64_t *count, eqs_view **views)
{
  eqs_status status = EQS_OK;
  int64_t elements, matrices, per_stack = 0;
  int count_pieces = splits > 0 ? splits : 1;
  piece *pieces = NULL;
  *count = 0;
  *views = NULL;
  EQS_TRY(check_form(layout, head_dim, ndim));
  EQS_TRY(eqs_shape_elements(ndim, shape, &elements));
  int64_t stack = ndim == 3 ? shape[0] : 1, rows = shape[ndim - 2], cols = shape[ndim - 1];
  EQS_TRY(eqs_allocate(&pieces, count_pieces, sizeof *pieces));
  EQS_TRY(cut(layout, splits, split, &(piece){0, rows, cols, cols}, pieces));
  for (int p = 0; p < count_pieces; p++) {
    EQS_TRY(count_matrices(layout, head_dim, &pieces[p], &matrices));
    per_stack += matrices;
  }
  if (elements == 0) goto cleanup;
  if (per_stack > max_matrices || stack > max_matrices / per_stack)
    EQS_TRY(eqs_fail(EQS_USAGE, "%s: more than %d matrices in one tensor", eqs_layout_names[layout], max_matrices));

  EQS_TRY(eqs_allocate(views, stack * per_stack, sizeof **views));
  for (int64_t e = 0; e < stack; e++) {
    for (int p = 0; p < count_pieces; p++) {
      piece in = pieces[p];
      in.offset += e * rows * cols;
      EQS_TRY(count_matrices(layout, head_dim, &in, &matrices));
      for (int64_t i = 0; i < matrices; i++) {
        eqs_view *view = &(*views)[(*count)++];
        *view = view_of(layout, head_dim, &in, i);
        view->tensor_rows = stack * rows;
        view->tensor_cols = cols;
      }
    }
  }
cleanup:
  free(pieces);
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
