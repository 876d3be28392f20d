/*
 * Layouts. A tensor's element at flat index k is the number k, so an element of a matrix says where it came from.
 * Identities: every element of the tensor is in exactly one matrix, and is where NUMERICS' definition puts it.
 */
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "model/layout.h"

enum { stack = 3, rows = 6, cols = 8, head = 2 };
static const int64_t matrix[] = {rows, cols}, stacked[] = {stack, rows, cols};

/* Flat index in the tensor of a view's element (i, j). */
static int64_t element(const eqs_view *view, int64_t i, int64_t j)
{
  for (int64_t p = 0; p < view->parts; p++) {
    eqs_view_part part = eqs_view_part_at(view, p);
    if (j >= part.first_col && j < part.first_col + part.cols)
      return part.offset + i * part.row_stride + (j - part.first_col) * part.col_stride;
  }
  ck_abort_msg("column %lld is in no part", (long long)j);
  return -1;
}

static void check_covers(const eqs_view *views, int64_t count, int64_t elements)
{
  unsigned char *seen = calloc((size_t)elements, 1);
  for (int64_t v = 0; v < count; v++) {
    ck_assert_int_eq(views[v].tensor_rows * views[v].tensor_cols, elements);
    for (int64_t i = 0; i < views[v].rows; i++)
      for (int64_t j = 0; j < views[v].cols; j++) {
        int64_t k = element(&views[v], i, j);
        ck_assert(k >= 0 && k < elements);
        ck_assert_msg(seen[k]++ == 0, "element %lld twice", (long long)k);
      }
    for (int64_t p = 0; p < views[v].parts; p++) { /* what dist/fragment.h asks of strides */
      eqs_view_part part = eqs_view_part_at(&views[v], p);
      int64_t across = views[v].tensor_cols;
      ck_assert((part.row_stride % across == 0 && part.col_stride * (part.cols - 1) < across) ||
                (part.col_stride % across == 0 && part.row_stride * (views[v].rows - 1) < across));
    }
  }
  for (int64_t k = 0; k < elements; k++) ck_assert_msg(seen[k] == 1, "element %lld is in no matrix", (long long)k);
  free(seen);
}

/* Make views, check their number and shape and that they cover the tensor. */
static eqs_view *make(eqs_tensor_layout layout, int64_t head_dim, int ndim, const int64_t *shape,
                      int64_t expected_count, int64_t expected_rows, int64_t expected_cols)
{
  int64_t count, elements = 1;
  eqs_view *views;
  for (int i = 0; i < ndim; i++) elements *= shape[i];
  ck_assert_ok(eqs_layout_views(layout, head_dim, NULL, false, ndim, shape, &count, &views));
  ck_assert_int_eq(count, expected_count);
  for (int64_t v = 0; v < count; v++) {
    ck_assert_int_eq(views[v].rows, expected_rows);
    ck_assert_int_eq(views[v].cols, expected_cols);
  }
  check_covers(views, count, elements);
  return views;
}

/* Check view v of `views` element by element against an expression of i and j. */
#define CHECK_ELEMENTS(views, v, expression)                                                                           \
  for (int64_t i = 0; i < (views)[v].rows; i++)                                                                        \
    for (int64_t j = 0; j < (views)[v].cols; j++) ck_assert_int_eq(element(&(views)[v], i, j), (expression))

static int64_t at(int64_t e, int64_t i, int64_t j)
{
  return (e * rows + i) * cols + j;
}

START_TEST(rows_and_columns)
{
  eqs_view *views = make(EQS_LAYOUT_ROW, 0, 2, matrix, 1, rows, cols);
  CHECK_ELEMENTS(views, 0, at(0, i, j));
  free(views);
  views = make(EQS_LAYOUT_ROW, 0, 3, stacked, stack, rows, cols);
  for (int e = 0; e < stack; e++) CHECK_ELEMENTS(views, e, at(e, i, j));
  free(views);
  views = make(EQS_LAYOUT_COL, 0, 2, matrix, 1, cols, rows);
  CHECK_ELEMENTS(views, 0, at(0, j, i));
  free(views);
  views = make(EQS_LAYOUT_COL, 0, 3, stacked, stack, cols, rows);
  for (int e = 0; e < stack; e++) CHECK_ELEMENTS(views, e, at(e, j, i));
  free(views);
}
END_TEST

START_TEST(heads)
{
  eqs_view *views = make(EQS_LAYOUT_HEADS_QKV, head, 2, matrix, rows / head, head, cols);
  for (int h = 0; h < rows / head; h++) CHECK_ELEMENTS(views, h, at(0, h * head + i, j));
  free(views);
  views = make(EQS_LAYOUT_HEADS_O, head, 2, matrix, cols / head, rows, head);
  for (int h = 0; h < cols / head; h++) CHECK_ELEMENTS(views, h, at(0, i, h * head + j));
  free(views);
}
END_TEST

/* Neuron j of expert e: gate is row j and up is row r + j, or columns 2j and 2j + 1. Gate's columns come first. */
START_TEST(pairs)
{
  enum { half_rows = rows / 2, half_cols = cols / 2 };
  eqs_view *views = make(EQS_LAYOUT_GATE_UP_CONCAT_PAIR, 0, 3, stacked, stack, half_rows, 2 * cols);
  for (int e = 0; e < stack; e++) CHECK_ELEMENTS(views, e, j < cols ? at(e, i, j) : at(e, half_rows + i, j - cols));
  free(views);
  views = make(EQS_LAYOUT_GATE_UP_INTERLEAVED_PAIR, 0, 3, stacked, stack, half_cols, 2 * rows);
  for (int e = 0; e < stack; e++) CHECK_ELEMENTS(views, e, j < rows ? at(e, j, 2 * i) : at(e, j - rows, 2 * i + 1));
  free(views);
  free(make(EQS_LAYOUT_GATE_UP_CONCAT_PAIR, 0, 2, matrix, 1, half_rows, 2 * cols));
}
END_TEST

START_TEST(gate_and_up_apart)
{
  enum { half_rows = rows / 2, half_cols = cols / 2 };
  eqs_view *views = make(EQS_LAYOUT_GATE_UP_CONCAT_SPLIT, 0, 3, stacked, 2 * stack, half_rows, cols);
  for (int v = 0; v < 2 * stack; v++) CHECK_ELEMENTS(views, v, at(v / 2, v % 2 * half_rows + i, j));
  free(views);
  views = make(EQS_LAYOUT_GATE_UP_INTERLEAVED_SPLIT, 0, 3, stacked, 2 * stack, rows, half_cols);
  for (int v = 0; v < 2 * stack; v++) CHECK_ELEMENTS(views, v, at(v / 2, i, 2 * j + v % 2));
  free(views);
}
END_TEST

/* Fused q, k and v of grouped-query attention: pieces of 4, 1 and 1 heads, or of 8, 2 and 2 rows. */
START_TEST(pieces_of_a_fused_tensor)
{
  static const int64_t fused[] = {12, cols}, expected[] = {8, 2, 2}, first[] = {0, 8, 10};
  const eqs_split split = {1, 3, (int64_t[]){8, 2, 2}};
  int64_t count;
  eqs_view *views;
  ck_assert_ok(eqs_layout_views(EQS_LAYOUT_ROW, 0, &split, false, 2, fused, &count, &views));
  ck_assert_int_eq(count, 3);
  check_covers(views, count, 12 * cols);
  for (int v = 0; v < 3; v++) {
    ck_assert_int_eq(views[v].rows, expected[v]);
    CHECK_ELEMENTS(views, v, at(0, first[v] + i, j));
  }
  free(views);
  ck_assert_ok(eqs_layout_views(EQS_LAYOUT_HEADS_QKV, head, &split, false, 2, fused, &count, &views));
  ck_assert_int_eq(count, 6);
  check_covers(views, count, 12 * cols);
  free(views);
  static const int64_t experts[] = {stack, 12, cols};
  ck_assert_ok(eqs_layout_views(EQS_LAYOUT_ROW, 0, &split, false, 3, experts, &count, &views));
  ck_assert_int_eq(count, 3 * stack);
  check_covers(views, count, stack * 12 * cols);
  for (int v = 0; v < 3 * stack; v++) CHECK_ELEMENTS(views, v, (v / 3 * 12 + first[v % 3] + i) * cols + j);
  free(views);
}
END_TEST

/* Stored as inputs × outputs, as GPT-2's c_attn: columns are cut, and row i of a piece is one of them. */
START_TEST(pieces_of_a_transposed_tensor)
{
  static const int64_t first[] = {0, 4, 7};
  const eqs_split split = {1, 3, (int64_t[]){4, 3, 1}};
  for (int dimensions = 2; dimensions <= 3; dimensions++) {
    int64_t count, stacks = dimensions == 3 ? stack : 1;
    eqs_view *views;
    ck_assert_ok(eqs_layout_views(EQS_LAYOUT_COL, 0, &split, false, dimensions, dimensions == 3 ? stacked : matrix,
                                  &count, &views));
    ck_assert_int_eq(count, 3 * stacks);
    check_covers(views, count, stacks * rows * cols);
    for (int v = 0; v < count; v++) {
      ck_assert(views[v].rows == split.size[v % 3] && views[v].cols == rows);
      CHECK_ELEMENTS(views, v, at(v / 3, j, first[v % 3] + i));
    }
    free(views);
  }
}
END_TEST

/* Per-group q, k and v (2 groups of 2 + 1 + 1 heads): the groups follow one another, and so do their pieces. */
START_TEST(repeated_pieces)
{
  static const int64_t fused[] = {2, 16, cols}, first[] = {0, 4, 6}, expected[] = {4, 2, 2};
  const eqs_split split = {2, 3, (int64_t[]){4, 2, 2}};
  int64_t count;
  eqs_view *views;
  ck_assert_ok(eqs_layout_views(EQS_LAYOUT_ROW, 0, &split, false, 3, fused, &count, &views));
  ck_assert_int_eq(count, 2 * 2 * 3);
  check_covers(views, count, 2 * 16 * cols);
  for (int v = 0; v < count; v++) {
    ck_assert(views[v].rows == expected[v % 3] && views[v].cols == cols);
    CHECK_ELEMENTS(views, v, (v / 3 * 8 + first[v % 3] + i) * cols + j);
  }
  free(views);
  ck_assert_ok(eqs_layout_views(EQS_LAYOUT_HEADS_QKV, head, &split, false, 3, fused, &count, &views));
  ck_assert_int_eq(count, 2 * 2 * 4);
  check_covers(views, count, 2 * 16 * cols);
  for (int v = 0; v < count; v++) CHECK_ELEMENTS(views, v, (v * head + i) * cols + j);
  free(views);
}
END_TEST

/* Stored as inputs × outputs: q, k or v is cols wide, o is rows high; also as a stack of layers, also 2×3 of them. */
START_TEST(heads_of_transposed_tensors)
{
  static const int64_t layers[] = {2, 3, rows, cols};
  eqs_view *views = make(EQS_LAYOUT_HEADS_QKV_COL, head, 2, matrix, cols / head, head, rows);
  for (int h = 0; h < cols / head; h++) CHECK_ELEMENTS(views, h, at(0, j, h * head + i));
  free(views);
  views = make(EQS_LAYOUT_HEADS_O_COL, head, 2, matrix, rows / head, cols, head);
  for (int h = 0; h < rows / head; h++) CHECK_ELEMENTS(views, h, at(0, h * head + j, i));
  free(views);
  views = make(EQS_LAYOUT_HEADS_QKV, head, 4, layers, 6 * rows / head, head, cols);
  for (int h = 0; h < 6 * rows / head; h++) CHECK_ELEMENTS(views, h, at(0, h * head + i, j));
  free(views);
}
END_TEST

/* A convolution is out × (in·k...) in the tensor's own order; a stack of them is as many. */
START_TEST(flattened_convolutions)
{
  static const int64_t kernels[] = {4, 3, 2, 5}, line[] = {4, 6, 3}, one[] = {4, 6, 1, 1};
  free(make(EQS_LAYOUT_FLATTEN, 0, 4, kernels, 1, 4, 30));
  free(make(EQS_LAYOUT_FLATTEN, 0, 3, line, 1, 4, 18));
  free(make(EQS_LAYOUT_FLATTEN, 0, 4, one, 1, 4, 6));
  free(make(EQS_LAYOUT_FLATTEN, 0, 2, matrix, 1, rows, cols));
  eqs_view *views = make(EQS_LAYOUT_FLATTEN, 0, 4, kernels, 1, 4, 30);
  CHECK_ELEMENTS(views, 0, i * 30 + j);
  free(views);
  int64_t count;
  ck_assert_ok(eqs_layout_views(EQS_LAYOUT_FLATTEN, 0, NULL, true, 4, kernels, &count, &views));
  ck_assert(count == 4 && views[0].rows == 3 && views[0].cols == 10);
  check_covers(views, count, 120);
  for (int v = 0; v < 4; v++) CHECK_ELEMENTS(views, v, v * 30 + i * 10 + j);
  free(views);
}
END_TEST

START_TEST(whole_tensors)
{
  static const struct {
    int ndim;
    int64_t shape[4], rows, cols;
  } cases[] = {{0, {0}, 1, 1}, {1, {7}, 7, 1}, {2, {3, 5}, 3, 5}, {4, {2, 3, 4, 5}, 24, 5}, {1, {1}, 1, 1}};
  for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
    int64_t count;
    eqs_view *views;
    ck_assert_ok(eqs_layout_whole(cases[c].ndim, cases[c].shape, &count, &views));
    ck_assert_int_eq(count, 1);
    ck_assert_int_eq(views->rows, cases[c].rows);
    ck_assert_int_eq(views->cols, cases[c].cols);
    check_covers(views, 1, cases[c].rows * cases[c].cols);
    free(views);
  }
}
END_TEST

START_TEST(tensors_without_elements)
{
  static const int64_t no_experts[] = {0, 6, 8}, no_columns[] = {6, 0}, huge[] = {0, EQS_MAX_ELEMENTS};
  int64_t count = 1;
  eqs_view *views;
  for (int layout = 0; layout < EQS_LAYOUTS; layout++) {
    if (eqs_layout_has_heads((eqs_tensor_layout)layout)) continue;
    ck_assert_ok(eqs_layout_views((eqs_tensor_layout)layout, 0, NULL, false, 3, no_experts, &count, &views));
    ck_assert(count == 0 && views == NULL);
  }
  ck_assert_ok(eqs_layout_views(EQS_LAYOUT_HEADS_QKV, 2, NULL, false, 2, no_columns, &count, &views));
  ck_assert(count == 0 && views == NULL);
  ck_assert_ok(eqs_layout_whole(2, huge, &count, &views));
  ck_assert(count == 0 && views == NULL);
}
END_TEST

START_TEST(misfits)
{
  static const struct {
    eqs_tensor_layout layout;
    int64_t head_dim;
    int splits, ndim;
    int64_t shape[3];
    const char *message;
    int64_t repeat;
  } cases[] = {
      {EQS_LAYOUT_HEADS_QKV, 128, 0, 2, {1000, 64}, "heads_qkv: 1000 rows are not a multiple of head_dim 128", 1},
      {EQS_LAYOUT_HEADS_O, 7, 0, 2, {64, 20}, "heads_o: 20 columns are not a multiple of head_dim 7", 1},
      {EQS_LAYOUT_HEADS_QKV, 0, 0, 2, {64, 20}, "heads_qkv: head_dim is missing", 1},
      {EQS_LAYOUT_HEADS_QKV_COL, 7, 0, 2, {64, 20}, "heads_qkv_col: 20 columns are not a multiple of head_dim 7", 1},
      {EQS_LAYOUT_HEADS_O_COL, 7, 0, 2, {64, 21}, "heads_o_col: 64 rows are not a multiple of head_dim 7", 1},
      {EQS_LAYOUT_GATE_UP_CONCAT_PAIR,
       0,
       0,
       3,
       {2, 5, 4},
       "gate_up_concat_pair: 5 rows are not two halves, gate and up",
       1},
      {EQS_LAYOUT_GATE_UP_CONCAT_SPLIT, 0, 0, 3, {2, 5, 4}, "gate_up_concat_split: 5 rows", 1},
      {EQS_LAYOUT_GATE_UP_INTERLEAVED_PAIR, 0, 0, 3, {2, 4, 5}, "gate_up_interleaved_pair: 5 columns are not pairs", 1},
      {EQS_LAYOUT_GATE_UP_INTERLEAVED_SPLIT, 0, 0, 3, {2, 4, 5}, "gate_up_interleaved_split: 5 columns", 1},
      {EQS_LAYOUT_ROW, 0, 0, 1, {4}, "row: 1 dimensions, but a matrix or a stack of matrices is needed", 1},
      {EQS_LAYOUT_ROW, 0, 2, 2, {9, 4}, "split: the pieces have 10 rows together, the tensor 9", 1},
      {EQS_LAYOUT_ROW, 0, 2, 2, {10, 4}, "split: the pieces have 3 times 10 rows together, the tensor 10", 3},
      {EQS_LAYOUT_ROW, 0, 2, 2, {10, 4}, "split: the pieces have 9223372036854775807 times 10 rows", INT64_MAX},
      {EQS_LAYOUT_FLATTEN, 0, 2, 3, {10, 4, 3}, "flatten: a convolution has no pieces to split", 1},
      {EQS_LAYOUT_COL, 0, 2, 2, {10, 4}, "split: the pieces have 10 columns together, the tensor 4", 1},
      {EQS_LAYOUT_ROW, 0, 0, 3, {1 << 21, 1, 1}, "row: more than 1048576 matrices in one tensor", 1},
      {EQS_LAYOUT_HEADS_O, 1, 0, 2, {1, INT64_C(1) << 40}, "heads_o: more than 1048576 matrices in one tensor", 1},
      {EQS_LAYOUT_ROW, 0, 0, 2, {INT64_MAX, 4}, "the tensor has more than 2^48 elements", 1},
      {EQS_LAYOUT_ROW, 0, 0, 2, {-1, 4}, "dimension 0 has the negative size -1", 1},
  };
  int64_t fives[] = {5, 5};
  for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
    int64_t count;
    eqs_view *views;
    eqs_split split = {cases[c].repeat, cases[c].splits, fives};
    eqs_status status = eqs_layout_views(cases[c].layout, cases[c].head_dim, &split, false, cases[c].ndim,
                                         cases[c].shape, &count, &views);
    ck_assert_int_eq(status, EQS_USAGE);
    ck_assert_msg(strncmp(eqs_error_message(), cases[c].message, strlen(cases[c].message)) == 0, "case %zu: %s", c,
                  eqs_error_message());
    ck_assert(views == NULL);
  }
}
END_TEST

Suite *make_suite(void)
{
  Suite *suite = suite_create("layout");
  TCase *tests = tcase_create("layout");
  tcase_add_test(tests, rows_and_columns);
  tcase_add_test(tests, heads);
  tcase_add_test(tests, pairs);
  tcase_add_test(tests, gate_and_up_apart);
  tcase_add_test(tests, pieces_of_a_fused_tensor);
  tcase_add_test(tests, pieces_of_a_transposed_tensor);
  tcase_add_test(tests, repeated_pieces);
  tcase_add_test(tests, heads_of_transposed_tensors);
  tcase_add_test(tests, flattened_convolutions);
  tcase_add_test(tests, whole_tensors);
  tcase_add_test(tests, tensors_without_elements);
  tcase_add_test(tests, misfits);
  suite_add_tcase(suite, tests);
  return suite;
}
