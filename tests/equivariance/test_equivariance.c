/*
 * Equivariance through the sharded path: a run whose initial weights and gradients are those of another run
 * transformed, ends in the other's weights transformed, f(PXQ) = P f(X) Q and f(X + 1vᵀ) = f(X) for the group of the
 * rule, with momentum over several steps. Gradients have condition up to 10; the distance is relative to what the
 * steps changed, matrix by matrix, and the limit is that of the project's numerics, 1e-4: the float32 error of a
 * polar factor at that condition.
 *
 * And negative controls: under a group that is not the rule's, the distance is more than 1e-2, which no rounding is.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "distributed/matrices.h"
#include "equivariance/job.h"
#include "equivariance/variants.h"

/* One run and its transformed twin: parameters "case<i>.plain" and "case<i>.moved" of one job. */
typedef struct {
  const char *keys;          /* the rule and its options */
  const test_tensor *tensor; /* and its layout, but for element-wise rules */
  bool element_wise;
  bool center;
  const char *momentum;        /* NULL: the rule's */
  const char *grid;            /* NULL: the plan's */
  int block;                   /* 0: the plan's */
  int moves;                   /* 0: permutation of the elements with signs */
  const test_tensor *moved_as; /* whose matrices are moved, if not the tensor's own */
} equivariance_case;

static void append_case(test_text *text, const equivariance_case *c, int index)
{
  test_append(text, "  - {match: {name: 'case%d.*'}, lr: 0.5, weight_decay: 0.1, %s", index, c->keys);
  if (!c->element_wise) test_append_layout(text, c->tensor);
  if (c->center) test_append(text, ", center: true");
  if (c->momentum != NULL) test_append(text, ", momentum: %s", c->momentum);
  if (c->grid != NULL) test_append(text, ", grid: %s", c->grid);
  if (c->block > 0) test_append(text, ", block: %d", c->block);
  test_append(text, "}\n");
}

/* Seed of the numbers and of the transformations of a case. */
static uint64_t seed_of(int index)
{
  return 100 + (uint64_t)index;
}

static void move(const equivariance_case *c, int index, int moves, double *numbers)
{
  const test_tensor *tensor = c->moved_as != NULL ? c->moved_as : c->tensor;
  if (c->moves == 0)
    test_move_elements(test_elements(tensor), seed_of(index), numbers);
  else
    test_move_tensor(tensor, moves, seed_of(index), numbers);
}

/* Weights of the size of an update, and what a gradient may be transformed by that the update is not. */
static double *make_weight(const equivariance_case *c, int index)
{
  return test_normals(test_elements(c->tensor), seed_of(index), 0.3);
}

static int moves_of_weight(const equivariance_case *c)
{
  return c->moves & ~(TEST_SHIFT_ROWS | TEST_SCALE_ROWS);
}

/*
 * Singular values from 5 to 1, and in later steps a change of Frobenius norm 0.4 to each matrix: every average of
 * them has condition below 5.4/0.6.
 */
static double *make_gradient(const equivariance_case *c, int index, int step)
{
  int64_t count = test_elements(c->tensor);
  double *gradient = test_make_tensor(c->tensor, seed_of(index), 5, 5, INT64_MAX);
  double each = 0.4 / sqrt((double)(test_matrix_rows(c->tensor) * test_matrix_cols(c->tensor)));
  double *change = test_normals(count, 1000 * seed_of(index) + (uint64_t)step, step > 0 ? each : 0);
  for (int64_t i = 0; i < count; i++) gradient[i] += change[i];
  free(change);
  return gradient;
}

static void set_both(test_job *job, const equivariance_case *c, int index, int step)
{
  double *numbers = step < 0 ? make_weight(c, index) : make_gradient(c, index, step);
  void (*set)(test_job *, int64_t, const double *) = step < 0 ? test_job_set_weight : test_job_set_gradient;
  set(job, 2 * index, numbers);
  move(c, index, step < 0 ? moves_of_weight(c) : c->moves, numbers);
  set(job, 2 * index + 1, numbers);
  free(numbers);
}

/* Largest distance over the matrices of the moved weights from the plain ones, moved, over the plain ones' change. */
static double relative_distance(const test_job *job, const equivariance_case *c, int index)
{
  double *begin = make_weight(c, index), *plain = test_job_weight(job, 2 * index), largest = 0;
  double *moved = test_job_weight(job, 2 * index + 1), *expected = test_numbers(test_elements(c->tensor), 1);
  memcpy(expected, plain, (size_t)test_elements(c->tensor) * sizeof *expected);
  move(c, index, moves_of_weight(c), expected);
  move(c, index, moves_of_weight(c), begin);
  test_tensor whole = *c->tensor;
  if (c->element_wise) whole.layout = EQS_LAYOUT_ROW;
  int64_t size = test_matrix_rows(&whole) * test_matrix_cols(&whole);
  for (int64_t i = 0; i < test_matrix_count(&whole); i++) {
    double *before = test_take_matrix(&whole, begin, i), *after = test_take_matrix(&whole, expected, i);
    double *found = test_take_matrix(&whole, moved, i), change = test_distance(after, before, size);
    ck_assert(change > 0);
    largest = fmax(largest, test_distance(found, after, size) / change);
    free(before);
    free(after);
    free(found);
  }
  free(begin);
  free(plain);
  free(moved);
  free(expected);
  return largest;
}

/* Run the cases together, as the parameters of one job, and check that the distances are within the limits. */
static void run_cases(const equivariance_case *cases, int count, int steps, double least, double most)
{
  test_job job;
  test_text text = {0};
  eqs_parameter_info *info = calloc((size_t)count, 2 * sizeof *info);
  char(*names)[32] = calloc((size_t)count, 2 * sizeof *names);
  test_append(&text, "groups:\n");
  for (int i = 0; i < count; i++) {
    append_case(&text, &cases[i], i);
    for (int twin = 0; twin < 2; twin++) {
      snprintf(names[2 * i + twin], sizeof *names, "case%d.%s", i, twin == 0 ? "plain" : "moved");
      info[2 * i + twin] = test_info(names[2 * i + twin], cases[i].tensor);
    }
  }
  test_job_open(&job, text.text, 2 * count, info);
  for (int step = -1; step < steps; step++) {
    for (int i = 0; i < count; i++) set_both(&job, &cases[i], i, step);
    if (step >= 0) test_job_step(&job);
  }
  for (int i = 0; i < count; i++) {
    double distance = relative_distance(&job, &cases[i], i);
    test_text described = {0};
    append_case(&described, &cases[i], i);
    ck_assert_msg(distance >= least && distance <= most, "%s moves %#x: distance %g, not within %g and %g",
                  described.text, cases[i].moves, distance, least, most);
    test_text_free(&described);
  }
  test_job_close(&job);
  test_text_free(&text);
  free(info);
  free(names);
}

static const int blocks[] = {1, 3, 8, 64};
enum { block_count = 4 };

/* Cases to be run together. */
enum { cases_at_once = 100 };
static struct {
  int count;
  equivariance_case cases[cases_at_once];
} batch;

static void run_batch(int steps)
{
  if (batch.count > 0) run_cases(batch.cases, batch.count, steps, 0, 1e-4);
  batch.count = 0;
}

static void add_case(const equivariance_case *c)
{
  if (batch.count == cases_at_once) run_batch(2);
  batch.cases[batch.count++] = *c;
}

static equivariance_case make_case(const test_variant *variant, const test_tensor *tensor, bool center, int momentum)
{
  return (equivariance_case){.keys = variant->keys,
                             .tensor = tensor,
                             .element_wise = variant->family->element_wise,
                             .center = center,
                             .momentum = variant->family->element_wise ? NULL : eqs_momentum_names[momentum],
                             .moves = center ? variant->family->centered_moves : variant->family->moves};
}

/* Every rule on every layout on the plan's grids, with momentum and centering in turn. */
START_TEST(every_rule_and_layout_on_planned_grids)
{
  int turn = 0;
  for (int v = 0; v < test_variant_count; v++)
    for (int t = 0; t < test_tensor_count; t++, turn++) {
      const test_variant *variant = &test_variants[v];
      bool center = !variant->family->element_wise && (t + v) % 2 == 0;
      while (!test_has_momentum(variant, turn % EQS_MOMENTA)) turn++;
      equivariance_case c = make_case(variant, &test_tensors[t], center, turn % EQS_MOMENTA);
      add_case(&c);
    }
  run_batch(2);
}
END_TEST

/* Every rule on forced grids, with layouts, grids and blocks in turn. */
START_TEST(every_rule_on_forced_grids)
{
  char grids[test_max_forced][16];
  int grid_count = test_forced_grids(grids);
  for (int v = 0; v < test_variant_count; v++) {
    const test_variant *variant = &test_variants[v];
    int momentum = variant->family->element_wise ? EQS_MOMENTUM_NONE : v % EQS_MOMENTUM_POLAR_FIRST;
    equivariance_case c = make_case(variant, &test_tensors[v % test_tensor_count],
                                    !variant->family->element_wise && v / 2 % 2 == 0, momentum);
    c.grid = grids[v % grid_count];
    c.block = blocks[(v + v / block_count) % block_count];
    add_case(&c);
  }
  run_batch(3);
}
END_TEST

/* The complete product on every grid; of the blocks one after the other, so that each meets every rule and layout. */
START_TEST(everything_on_every_grid)
{
  char grids[test_max_forced][16];
  int grid_count = test_everything() ? test_forced_grids(grids) : 0, turn = 0;
  for (int g = 0; g < grid_count; g++, turn++)
    for (int v = 0; v < test_variant_count; v++)
      for (int t = 0; t < test_tensor_count; t++)
        for (int center = 0; center < (test_variants[v].family->element_wise ? 1 : 2); center++)
          for (int momentum = 0; momentum < EQS_MOMENTA; momentum++) {
            if (!test_has_momentum(&test_variants[v], momentum)) continue;
            equivariance_case c = make_case(&test_variants[v], &test_tensors[t], center, momentum);
            c.grid = grids[g], c.block = blocks[turn++ % block_count];
            add_case(&c);
          }
  run_batch(2);
}
END_TEST

/* Matrices large enough that the plan itself splits them. */
START_TEST(large_matrices_on_planned_grids)
{
  static const test_tensor large = {EQS_LAYOUT_ROW, 0, 480, 320, 0};
  static const char *const keys[] = {"rule: muon", "rule: right_spectral"};
  equivariance_case c = {.keys = keys[test_size() % 2], .tensor = &large, .center = true};
  c.moves = TEST_ROTATE_BESIDE_ONES | TEST_ROTATE_COLS | TEST_SHIFT_ROWS;
  eqs_parameter_info info = test_info("case0.plain", &large);
  test_text text = {0};
  test_job job;
  test_append(&text, "groups:\n");
  append_case(&text, &c, 0);
  test_job_open(&job, text.text, 1, &info);
  const eqs_distribution *distribution = &job.plan->parameter[0].matrix[0].distribution;
  ck_assert_int_eq(distribution->grid_rows * distribution->grid_cols > 1, test_size() > 1);
  test_job_close(&job);
  test_text_free(&text);
  run_cases(&c, 1, 2, 0, 1e-4);
}
END_TEST

/* Not equivariant: on the plan's grids, where it does not matter which. */
START_TEST(not_under_other_groups)
{
  static const test_tensor tall = {EQS_LAYOUT_ROW, 0, 24, 10, 0}, wide = {EQS_LAYOUT_ROW, 0, 10, 24, 0};
  static const test_tensor heads = {EQS_LAYOUT_HEADS_QKV, 0, 24, 20, 8}, no_heads = {EQS_LAYOUT_ROW, 0, 24, 20, 0};
  static const test_tensor pair = {EQS_LAYOUT_GATE_UP_CONCAT_PAIR, 2, 18, 7, 0},
                           halves = {EQS_LAYOUT_GATE_UP_CONCAT_SPLIT, 2, 18, 7, 0};
  static const equivariance_case cases[] = {
      /* norms of rows do not outlast a rotation that mixes rows, nor signs after a mean was taken out */
      {"rule: row_norm", &wide, .moves = TEST_ROTATE_ROWS},
      {"rule: row_norm, row_mode: inverse", &tall, .moves = TEST_ROTATE_BESIDE_ONES},
      {"rule: row_norm", &tall, .center = true, .moves = TEST_ROTATE_BESIDE_ONES},
      {"rule: row_norm", &tall, .center = true, .moves = TEST_FLIP_ROWS},
      {"rule: row_norm", &tall, .center = true, .moves = TEST_SCALE_ROWS},
      {"rule: hybrid", &tall, .moves = TEST_ROTATE_ROWS},
      {"rule: hybrid, side: left", &wide, .moves = TEST_ROTATE_ROWS},
      {"rule: hybrid", &tall, .center = true, .moves = TEST_ROTATE_BESIDE_ONES},
      {"rule: hybrid", &tall, .center = true, .moves = TEST_FLIP_ROWS},
      /* tall: the rows of a wide polar factor have norm 1 already */
      {"rule: hybrid, order: polar_then_row", &tall, .moves = TEST_ROTATE_ROWS},
      {"rule: hybrid, order: polar_then_row, side: left", &tall, .moves = TEST_ROTATE_ROWS},
      {"rule: hybrid, order: polar_then_row", &tall, .moves = TEST_SCALE_ROWS},
      /* elements of their own */
      {"rule: adamw", &tall, .element_wise = true, .moves = TEST_ROTATE_ROWS},
      {"rule: adamw", &tall, .element_wise = true, .moves = TEST_ROTATE_COLS},
      {"rule: muon", &tall, .moves = 0},
      {"rule: row_norm", &tall, .moves = 0},
      /* a shift, without centering */
      {"rule: muon", &tall, .moves = TEST_SHIFT_ROWS},
      {"rule: polar", &tall, .moves = TEST_SHIFT_ROWS},
      {"rule: right_spectral", &tall, .moves = TEST_SHIFT_ROWS},
      {"rule: left_spectral", &wide, .moves = TEST_SHIFT_ROWS},
      {"rule: row_norm", &tall, .moves = TEST_SHIFT_ROWS},
      {"rule: hybrid", &tall, .moves = TEST_SHIFT_ROWS},
      {"rule: hybrid, order: polar_then_row", &tall, .moves = TEST_SHIFT_ROWS},
      {"rule: adamw", &tall, .element_wise = true, .moves = TEST_SHIFT_ROWS},
      /* a rotation that moves the mean, with centering; scales of rows, without norms */
      {"rule: muon", &tall, .center = true, .moves = TEST_ROTATE_ROWS},
      {"rule: right_spectral", &wide, .center = true, .moves = TEST_ROTATE_ROWS},
      {"rule: left_spectral", &tall, .center = true, .moves = TEST_ROTATE_ROWS},
      {"rule: polar, alpha: 0", &wide, .moves = TEST_SCALE_ROWS},
      {"rule: right_spectral, alpha: 0", &tall, .moves = TEST_SCALE_ROWS},
      /* rotations that mix heads; rows that leave their neuron's other half, and a mixture of the halves */
      {"rule: muon", &heads, .moves = TEST_ROTATE_ROWS, .moved_as = &no_heads},
      {"rule: row_norm", &pair, .moves = TEST_PERMUTE_ROWS, .moved_as = &halves},
      {"rule: polar, nu_scope: matrix", &halves, .moves = TEST_ROTATE_COLS, .moved_as = &pair},
  };
  run_cases(cases, sizeof cases / sizeof cases[0], 2, 1e-2, INFINITY);
}
END_TEST

Suite *make_suite(void)
{
  Suite *suite = suite_create("equivariance");
  TCase *tests = tcase_create("equivariance");
  tcase_set_timeout(tests, 0);
  tcase_add_test(tests, every_rule_and_layout_on_planned_grids);
  tcase_add_test(tests, every_rule_on_forced_grids);
  tcase_add_test(tests, everything_on_every_grid);
  tcase_add_test(tests, large_matrices_on_planned_grids);
  tcase_add_test(tests, not_under_other_groups);
  suite_add_tcase(suite, tests);
  return suite;
}
