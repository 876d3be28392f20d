/*
 * Fragments. The identity: the fragments of all shards and all ranges of rows have every element of the tensor
 * once, and each lands where the view's definition says.
 */
#include <stdlib.h>
#include <string.h>

#include "dist/fragment.h"
#include "harness.h"

typedef struct {
  const char *name;
  eqs_view view; /* the first matrix */
  int matrices;  /* of the tensor */
  int64_t next;  /* from a matrix's offset to the next one's */
} test_view;

static const test_view views[] = {
    {"row", {13, 9, 13, 9, 1, {{0, 9, 1, 0, 9}}}, 1, 0},
    {"row of a stack", {6, 9, 24, 9, 1, {{0, 9, 1, 0, 9}}}, 4, 54},
    {"col", {9, 13, 13, 9, 1, {{0, 1, 9, 0, 13}}}, 1, 0},
    {"col of a stack", {5, 7, 21, 5, 1, {{0, 1, 5, 0, 7}}}, 3, 35},
    {"heads in rows", {4, 10, 12, 10, 1, {{0, 10, 1, 0, 10}}}, 3, 40},
    {"heads in columns", {10, 4, 10, 12, 1, {{0, 12, 1, 0, 4}}}, 3, 4},
    {"gate_up_concat_pair", {5, 14, 20, 7, 2, {{0, 7, 1, 0, 7}, {35, 7, 1, 7, 7}}}, 2, 70},
    {"gate_up_interleaved_pair", {5, 14, 14, 10, 2, {{0, 2, 10, 0, 7}, {1, 2, 10, 7, 7}}}, 2, 70},
    {"gate_up_interleaved_split", {7, 5, 14, 10, 1, {{0, 10, 2, 0, 5}}}, 2, 70}, /* gates only */
    {"every second row", {6, 7, 12, 7, 1, {{0, 14, 1, 0, 7}}}, 2, 7},
    {"every second row, transposed", {7, 6, 12, 7, 1, {{0, 1, 14, 0, 6}}}, 2, 7},
    {"flatten", {5, 24, 30, 4, 6, {{0, 24, 1, 0, 4}, {4, 24, 1, 4, 4}}}, 1, 0}, /* 5×3×2×4 */
    {"flatten of kernels of one element", {5, 3, 15, 1, 3, {{0, 3, 1, 0, 1}, {1, 3, 1, 1, 1}}}, 1, 0},
    {"flatten of a stack", {3, 8, 12, 4, 2, {{0, 8, 1, 0, 4}, {4, 8, 1, 4, 4}}}, 2, 24},
    {"one dimension", {17, 1, 17, 1, 1, {{0, 1, 1, 0, 1}}}, 1, 0},
    {"one dimension, transposed", {1, 17, 17, 1, 1, {{0, 1, 1, 0, 17}}}, 1, 0},
    {"one row", {1, 17, 1, 17, 1, {{0, 17, 1, 0, 17}}}, 1, 0},
    {"one row, transposed", {17, 1, 1, 17, 1, {{0, 1, 17, 0, 1}}}, 1, 0},
    {"one element", {1, 1, 1, 1, 1, {{0, 1, 1, 0, 1}}}, 1, 0},
};
enum { view_count = sizeof views / sizeof views[0] };

static eqs_view view_of_matrix(const test_view *test, int matrix)
{
  eqs_view view = test->view;
  for (int part = 0; part < 2; part++) view.part[part].offset += matrix * test->next;
  return view;
}

/* The tensor's element of the matrix's (i, j). */
static int64_t tensor_place(const eqs_view *view, int64_t i, int64_t j)
{
  eqs_view_part part = eqs_view_part_at(view, j / view->part[0].cols);
  return part.offset + i * part.row_stride + (j - part.first_col) * part.col_stride;
}

static void *numbers(int64_t count, size_t size)
{
  void *memory = calloc((size_t)count + 1, size);
  ck_assert_ptr_nonnull(memory);
  return memory;
}

/* Values that bfloat16 (below 256) has exactly. */
static float value_of(int64_t place)
{
  return (float)(place % 251 + 1);
}

/* The shard that the view's definition says. */
static float *expected_shard(const eqs_fragment *fragment, int64_t *count)
{
  const eqs_distribution *distribution = fragment->distribution;
  int64_t rows = eqs_local_count(distribution->rows, distribution->row_block, fragment->row, distribution->grid_rows);
  int64_t cols = eqs_local_count(distribution->cols, distribution->col_block, fragment->col, distribution->grid_cols);
  float *shard = numbers(rows * cols, sizeof *shard);
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < cols; j++)
      shard[i * cols + j] = value_of(tensor_place(
          fragment->view, eqs_global_index(i, distribution->row_block, fragment->row, distribution->grid_rows),
          eqs_global_index(j, distribution->col_block, fragment->col, distribution->grid_cols)));
  *count = rows * cols;
  return shard;
}

/* One range of rows of one shard: trainer -> shard -> trainer. */
static void check_range(const eqs_fragment *fragment, eqs_dtype dtype, const char *tensor, float *shard, char *back)
{
  size_t size = eqs_dtype_size(dtype);
  int64_t count = eqs_fragment_count(fragment), row_bytes = fragment->view->tensor_cols * (int64_t)size;
  char *message = numbers(count, size), *answer = numbers(count, size);
  eqs_fragment_gather(fragment, size, tensor + fragment->first_row * row_bytes, message);
  eqs_fragment_write_shard(fragment, dtype, message, shard);
  eqs_fragment_read_shard(fragment, dtype, shard, answer);
  ck_assert_int_eq(memcmp(message, answer, (size_t)count * size), 0);
  eqs_fragment_scatter(fragment, size, answer, back + fragment->first_row * row_bytes);
  free(message);
  free(answer);
}

/* One shard, from ranges of `step` rows of the tensor; returns how many elements came. */
static int64_t check_shard(eqs_fragment *fragment, eqs_dtype dtype, int64_t step, const char *tensor, char *back)
{
  int64_t rows = fragment->view->tensor_rows, count, moved = 0;
  float *expected = expected_shard(fragment, &count), *shard = numbers(count, sizeof *shard);
  for (int64_t row = 0; row < rows; row += step) {
    fragment->first_row = row;
    fragment->end_row = row + step < rows ? row + step : rows;
    check_range(fragment, dtype, tensor, shard, back);
    moved += eqs_fragment_count(fragment);
  }
  ck_assert_int_eq(moved, count);
  ck_assert_int_eq(memcmp(shard, expected, (size_t)count * sizeof *shard), 0);
  free(expected);
  free(shard);
  return moved;
}

static void check_view(const test_view *test, eqs_dtype dtype, int grid_rows, int grid_cols, int64_t row_block,
                       int64_t col_block, int64_t step)
{
  int64_t size = test->view.tensor_rows * test->view.tensor_cols, moved = 0;
  float *values = numbers(size, sizeof *values);
  char *tensor = numbers(size, sizeof(float)), *back = numbers(size, sizeof(float));
  for (int64_t place = 0; place < size; place++) values[place] = value_of(place);
  eqs_from_float(dtype, values, tensor, size);
  for (int matrix = 0; matrix < test->matrices; matrix++) {
    eqs_view view = view_of_matrix(test, matrix);
    eqs_distribution distribution = {view.rows, view.cols, row_block, col_block, grid_rows, grid_cols};
    for (int row = 0; row < grid_rows; row++)
      for (int col = 0; col < grid_cols; col++) {
        eqs_fragment fragment = {.view = &view, .distribution = &distribution, .row = row, .col = col};
        moved += check_shard(&fragment, dtype, step, tensor, back);
      }
  }
  if (moved == size) { /* the matrices are the whole tensor */
    ck_assert_int_eq(memcmp(tensor, back, (size_t)size * eqs_dtype_size(dtype)), 0);
  } else {
    ck_assert_str_eq(test->name, "gate_up_interleaved_split");
    ck_assert_int_eq(2 * moved, size);
  }
  free(values);
  free(tensor);
  free(back);
}

START_TEST(fragments_cover_the_tensor_once)
{
  static const int grids[][2] = {{1, 1}, {3, 1}, {1, 3}, {2, 2}, {7, 5}};
  static const int64_t blocks[][2] = {{1, 1}, {2, 3}, {4, 2}, {64, 64}}, steps[] = {1, 3, 5, 100};
  for (size_t g = 0; g < sizeof grids / sizeof grids[0]; g++)
    for (size_t b = 0; b < sizeof blocks / sizeof blocks[0]; b++)
      for (size_t s = 0; s < sizeof steps / sizeof steps[0]; s++)
        check_view(&views[_i], (eqs_dtype)((g + b + s) % 3), grids[g][0], grids[g][1], blocks[b][0], blocks[b][1],
                   steps[s]);
}
END_TEST

/* Larger than the tiles and pieces of the implementation. */
START_TEST(large_views)
{
  const test_view row = {"row", {70, 600, 70, 600, 1, {{0, 600, 1, 0, 600}}}, 1, 0};
  const test_view col = {"col", {600, 70, 70, 600, 1, {{0, 1, 600, 0, 70}}}, 1, 0};
  check_view(&row, EQS_BFLOAT16, 2, 1, 64, 600, 33);
  check_view(&col, EQS_FLOAT32, 2, 1, 64, 600, 33);
}
END_TEST

/* Adding twice to a zero shard is twice the message. */
START_TEST(adding_to_a_shard)
{
  eqs_view view = {3, 600, 3, 600, 1, {{0, 600, 1, 0, 600}}};
  eqs_distribution distribution = {3, 600, 2, 7, 1, 1};
  eqs_fragment fragment = {&view, &distribution, 0, 0, 0, 3};
  float values[3 * 600], shard[3 * 600] = {0};
  uint16_t message[3 * 600];
  for (int i = 0; i < 3 * 600; i++) values[i] = value_of(i);
  eqs_from_float(EQS_FLOAT16, values, message, 3 * 600);
  eqs_fragment_add_to_shard(&fragment, EQS_FLOAT16, message, shard);
  eqs_fragment_add_to_shard(&fragment, EQS_FLOAT16, message, shard);
  for (int i = 0; i < 3 * 600; i++) ck_assert(shard[i] == 2 * values[i]);
}
END_TEST

START_TEST(nothing_in_common)
{
  eqs_view view = view_of_matrix(&views[1], 2); /* tensor rows 12 ... 17 */
  eqs_distribution distribution = {6, 9, 2, 9, 1, 2};
  ck_assert_int_eq(eqs_fragment_count(&(eqs_fragment){&view, &distribution, 0, 0, 0, 12}), 0);
  ck_assert_int_eq(eqs_fragment_count(&(eqs_fragment){&view, &distribution, 0, 0, 18, 24}), 0);
  ck_assert_int_eq(eqs_fragment_count(&(eqs_fragment){&view, &distribution, 0, 0, 14, 14}), 0);
  ck_assert_int_eq(eqs_fragment_count(&(eqs_fragment){&view, &distribution, 0, 1, 0, 24}), 0); /* an empty shard */
  ck_assert_int_eq(eqs_fragment_count(&(eqs_fragment){&view, &distribution, 0, 0, 11, 13}), 9);
}
END_TEST

Suite *make_suite(void)
{
  Suite *suite = suite_create("fragment");
  TCase *tests = tcase_create("fragment");
  tcase_add_loop_test(tests, fragments_cover_the_tensor_once, 0, view_count);
  tcase_add_test(tests, large_views);
  tcase_add_test(tests, adding_to_a_shard);
  tcase_add_test(tests, nothing_in_common);
  suite_add_tcase(suite, tests);
  return suite;
}
