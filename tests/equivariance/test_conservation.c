/*
 * Conservation through the sharded path: rules that center leave the mean row of every weight matrix as it was, over
 * several steps, without decay. What moves it is rounding: every element of the update is rounded once after it was
 * centered, once when it is multiplied by lr, and the weight once when it is subtracted; so in one step no mean of a
 * column moves by more than 2^-24 (2 max|ΔW| + max|W|).
 */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "distributed/matrices.h"
#include "equivariance/job.h"
#include "equivariance/variants.h"

enum { most_cases = 256 };

typedef struct {
  const test_variant *variant;
  const test_tensor *tensor;
  int momentum;
  const char *grid; /* NULL: the plan's */
  int block;
} conservation_case;

static struct {
  int count;
  conservation_case cases[most_cases];
} all;

static void add_cases(void)
{
  static const int blocks[] = {1, 3, 8, 64};
  static char grids[test_max_forced][16];
  int grid_count = test_forced_grids(grids), turn = 0;
  all.count = 0;
  for (int v = 0; v < test_variant_count; v++) {
    if (test_variants[v].family->element_wise) continue;
    for (int momentum = 0; momentum < EQS_MOMENTA; momentum++) {
      if (!test_has_momentum(&test_variants[v], momentum)) continue;
      all.cases[all.count++] =
          (conservation_case){&test_variants[v], &test_tensors[turn++ % test_tensor_count], momentum, NULL, 0};
    }
    for (int g = 0; g < (test_everything() ? grid_count : 1); g++, turn++)
      all.cases[all.count++] =
          (conservation_case){&test_variants[v], &test_tensors[(turn + v) % test_tensor_count],
                              v % EQS_MOMENTUM_POLAR_FIRST, grids[(v + g) % grid_count], blocks[(v + v / 4) % 4]};
  }
}

static void open_job(test_job *job, bool center)
{
  test_text text = {0};
  eqs_parameter_info info[most_cases];
  char names[most_cases][32];
  test_append(&text, "groups:\n");
  for (int i = 0; i < all.count; i++) {
    const conservation_case *c = &all.cases[i];
    test_append(&text, "  - {match: {name: 'case%d.*'}, lr: 0.3, %s, center: %s, momentum: %s", i, c->variant->keys,
                center ? "true" : "false", eqs_momentum_names[c->momentum]);
    test_append_layout(&text, c->tensor);
    if (c->grid != NULL) test_append(&text, ", grid: %s, block: %d", c->grid, c->block);
    test_append(&text, "}\n");
    snprintf(names[i], sizeof names[i], "case%d.weight", i);
    info[i] = test_info(names[i], c->tensor);
  }
  test_job_open(job, text.text, all.count, info);
  test_text_free(&text);
}

/* Weights whose means are not zero; gradients that would move them. */
static double *make_numbers(const conservation_case *c, int index, int step)
{
  uint64_t seed = 10 * (uint64_t)index + (uint64_t)(step + 1);
  double *numbers =
      step < 0 ? test_normals(test_elements(c->tensor), seed, 1) : test_make_tensor(c->tensor, seed, 2, 5, INT64_MAX);
  test_move_tensor(c->tensor, TEST_SHIFT_ROWS, seed, numbers);
  return numbers;
}

static void set_all(test_job *job, int step)
{
  for (int i = 0; i < all.count; i++) {
    double *numbers = make_numbers(&all.cases[i], i, step);
    if (step < 0)
      test_job_set_weight(job, i, numbers);
    else
      test_job_set_gradient(job, i, numbers);
    free(numbers);
  }
}

/* How far the means of a matrix's columns moved between two weights, at most, and how far rounding may move them. */
static void compare_means(const conservation_case *c, const double *before, const double *after, int64_t index,
                          double *moved, double *allowed)
{
  int64_t m = test_matrix_rows(c->tensor), n = test_matrix_cols(c->tensor);
  double *old = test_take_matrix(c->tensor, before, index), *new = test_take_matrix(c->tensor, after, index);
  double change = 0, size = 0;
  *moved = 0;
  for (int64_t j = 0; j < n; j++) {
    double mean = 0;
    for (int64_t i = 0; i < m; i++) {
      double difference = new[i * n + j] - old[i * n + j];
      mean += difference / (double)m;
      change = fmax(change, fabs(difference));
      size = fmax(size, fabs(new[i * n + j]));
    }
    *moved = fmax(*moved, fabs(mean));
  }
  *allowed = 0x1p-24 * (2 * change + size);
  ck_assert(change > 1e-3);
  free(old);
  free(new);
}

static void check_step(const conservation_case *c, const double *before, const double *after, bool center)
{
  for (int64_t index = 0; index < test_matrix_count(c->tensor); index++) {
    double moved, allowed;
    compare_means(c, before, after, index, &moved, &allowed);
    ck_assert_msg(center == (moved <= allowed),
                  "%s, center %d, momentum %s, layout %s, grid %s: mean moved by %g of %g", c->variant->keys, center,
                  eqs_momentum_names[c->momentum], eqs_layout_names[c->tensor->layout],
                  c->grid != NULL ? c->grid : "of the plan", moved, allowed);
  }
}

static void take_steps(int steps, bool center)
{
  test_job job;
  double *weights[most_cases];
  add_cases();
  open_job(&job, center);
  set_all(&job, -1);
  for (int i = 0; i < all.count; i++) weights[i] = test_job_weight(&job, i);
  for (int step = 0; step < steps; step++) {
    set_all(&job, step);
    test_job_step(&job);
    for (int i = 0; i < all.count; i++) {
      double *after = test_job_weight(&job, i);
      check_step(&all.cases[i], weights[i], after, center);
      free(weights[i]);
      weights[i] = after;
    }
  }
  for (int i = 0; i < all.count; i++) free(weights[i]);
  test_job_close(&job);
}

START_TEST(centered_rules_keep_the_mean_row)
{
  take_steps(3, true);
}
END_TEST

START_TEST(others_move_it)
{
  take_steps(1, false);
}
END_TEST

Suite *make_suite(void)
{
  Suite *suite = suite_create("conservation");
  TCase *tests = tcase_create("conservation");
  tcase_set_timeout(tests, 0);
  tcase_add_test(tests, centered_rules_keep_the_mean_row);
  tcase_add_test(tests, others_move_it);
  suite_add_tcase(suite, tests);
  return suite;
}
