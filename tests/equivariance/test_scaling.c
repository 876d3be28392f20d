/*
 * What the numbers of a configuration do, through the sharded path, as identities between runs or with known singular
 * values: α and the scaling law f(cX) = c^α f(X), nu_scope over matrices of different owners, scale, the solver's
 * steps, clipping before momentum, decoupled decay, and steps counted per parameter.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "distributed/matrices.h"
#include "equivariance/job.h"
#include "equivariance/variants.h"

/* Parameters of one tensor each, "case<i>.weight", with the keys of a group each. */
enum { most_cases = 128 };
typedef struct {
  const test_tensor *tensor;
  char keys[256];
  bool element_wise;
} scaling_case;

static struct {
  int count;
  scaling_case cases[most_cases];
} all;

/* Every third on a forced grid, these in turn. */
static void add_case(const test_tensor *tensor, bool element_wise, const char *keys)
{
  static char grids[test_max_forced][16];
  int grid_count = test_forced_grids(grids), turn = all.count;
  scaling_case *c = &all.cases[all.count++];
  ck_assert(all.count <= most_cases);
  *c = (scaling_case){.tensor = tensor, .element_wise = element_wise};
  if (turn % 3 == 0)
    snprintf(c->keys, sizeof c->keys, "%s, grid: %s, block: 3", keys, grids[turn / 3 % grid_count]);
  else
    snprintf(c->keys, sizeof c->keys, "%s", keys);
}

/* A job of all cases; `head` before the groups, `more` after every group's keys. */
static void open_job(test_job *job, const char *head, const char *more)
{
  test_text text = {0};
  eqs_parameter_info info[most_cases];
  char names[most_cases][32];
  test_append(&text, "%sgroups:\n", head);
  for (int i = 0; i < all.count; i++) {
    test_append(&text, "  - {match: {name: 'case%d.*'}, %s%s", i, all.cases[i].keys, more);
    if (!all.cases[i].element_wise) test_append_layout(&text, all.cases[i].tensor);
    test_append(&text, "}\n");
    snprintf(names[i], sizeof names[i], "case%d.weight", i);
    info[i] = test_info(names[i], all.cases[i].tensor);
  }
  test_job_open(job, text.text, all.count, info);
  test_text_free(&text);
}

static const double largest = 4, condition = 4;

/* Of step t, the same in every run; times `factor`. */
static double *make_gradient(const test_tensor *tensor, int step, double factor)
{
  return test_make_tensor(tensor, 20 + (uint64_t)step, factor * largest, condition, INT64_MAX);
}

static void set_gradients(test_job *job, int step, double factor)
{
  for (int i = 0; i < all.count; i++) {
    double *gradient = make_gradient(all.cases[i].tensor, step, factor);
    test_job_set_gradient(job, i, gradient);
    free(gradient);
  }
}

static void set_weights(test_job *job)
{
  for (int i = 0; i < all.count; i++) {
    double *weight = test_normals(test_elements(all.cases[i].tensor), 30, 1);
    test_job_set_weight(job, i, weight);
    free(weight);
  }
}

/* ‖a - factor b‖_F <= limit ‖factor b‖_F */
static void check_multiple(int index, const double *a, const double *b, double factor, double limit)
{
  int64_t count = test_elements(all.cases[index].tensor);
  double *zeros = test_numbers(count, 1), *multiple = test_numbers(count, 1);
  for (int64_t i = 0; i < count; i++) multiple[i] = factor * b[i];
  double size = test_distance(multiple, zeros, count), distance = test_distance(a, multiple, count);
  ck_assert_msg(size > 0 && distance <= limit * size, "%s: distance %g from %g, more than %g of it",
                all.cases[index].keys, distance, size, limit);
  free(zeros);
  free(multiple);
}

static const test_tensor stack = {EQS_LAYOUT_ROW, 3, 14, 9, 0}, wide = {EQS_LAYOUT_ROW, 0, 8, 18, 0};

/*
 * f(cX) = c^α f(X): α of the rules whose ν grows with X, else 0. What else depends on the size of X is below 1e-6: ε
 * beside squares of singular values from 1/80 on, and the solvers' constants; adamw's ε beside averages is 1e-6.
 */
START_TEST(updates_grow_with_a_power_of_the_gradient)
{
  static const struct {
    const char *keys;
    double exponent;
  } laws[] = {
      {"rule: muon", 0},
      {"rule: polar, alpha: 0", 0},
      {"rule: polar, alpha: 0.5", 0.5},
      {"rule: polar, alpha: 1", 1},
      {"rule: polar, alpha: 1, momentum: polar_first", 1},
      {"rule: polar, alpha: 0.5, solver: jordan", 0.5},
      {"rule: right_spectral, alpha: 0, eps: 1e-12", 0},
      {"rule: right_spectral, alpha: 0.5, eps: 1e-12", 0.5},
      {"rule: right_spectral, alpha: 1, solver: exact, eps: 1e-12", 1},
      {"rule: left_spectral, alpha: 0.5, nu_scope: matrix, eps: 1e-12", 0.5},
      {"rule: left_spectral, alpha: 1, center: true, eps: 1e-12", 1},
      {"rule: row_norm", 0},
      {"rule: hybrid, alpha: 1", 0}, /* ν of normed rows, which do not grow */
      {"rule: hybrid, alpha: 0.5, side: left", 0},
      {"rule: hybrid, order: polar_then_row, alpha: 1, eps: 1e-12", 0},
      {"rule: adamw", 0},
  };
  static const double factors[] = {0.25, 3};
  enum { law_count = sizeof laws / sizeof laws[0] };
  test_job plain, scaled;
  all.count = 0;
  for (int i = 0; i < law_count; i++)
    for (int t = 0; t < 2; t++)
      add_case(t == 0 ? &stack : &wide, strcmp(laws[i].keys, "rule: adamw") == 0, laws[i].keys);
  for (int f = 0; f < 2; f++) {
    open_job(&plain, "", ", lr: 1");
    open_job(&scaled, "", ", lr: 1");
    for (int step = 0; step < 2; step++) {
      set_gradients(&plain, step, 1);
      set_gradients(&scaled, step, factors[f]);
      test_job_step(&plain);
      test_job_step(&scaled);
    }
    for (int i = 0; i < all.count; i++) {
      double *of_plain = test_job_weight(&plain, i), *of_scaled = test_job_weight(&scaled, i);
      check_multiple(i, of_scaled, of_plain, pow(factors[f], laws[i / 2].exponent), 2e-5);
      free(of_plain);
      free(of_scaled);
    }
    test_job_close(&plain);
    test_job_close(&scaled);
  }
}
END_TEST

/* Singular values from `largest` down, as test_make_tensor has them; their sum is the nuclear norm of a matrix. */
static double nuclear_norm(int64_t k)
{
  double sum = 0;
  for (int64_t i = 0; i < k; i++) sum += largest * pow(condition, -(double)i / (double)(k - 1));
  return sum;
}

/*
 * Matrix i times i + 1: nuclear norms N, 2N, 3N. With α = 1 and the exact factor the update of the tensor is 6N times
 * the factors, that of the matrices (i + 1)N times. The factors are those of singular values of 1.
 */
START_TEST(nu_is_of_the_tensor_or_of_the_matrix)
{
  static const char *const scopes[] = {"tensor", "matrix"};
  char keys[128];
  test_job job;
  all.count = 0;
  for (int i = 0; i < 12; i++) {
    snprintf(keys, sizeof keys, "rule: polar, alpha: %s, momentum: none, nu_scope: %s", i < 6 ? "1" : "0.5",
             scopes[i % 2]);
    add_case(&stack, false, keys);
  }
  /* once more on the plan's grids: the matrices are on owners of their own, as far as there are some */
  add_case(&stack, false, "rule: polar, alpha: 1, momentum: none");
  snprintf(all.cases[12].keys, sizeof all.cases[12].keys, "rule: polar, alpha: 1, momentum: none");
  open_job(&job, "", ", lr: 1");
  const eqs_planned_matrix *planned = job.plan->parameter[12].matrix;
  ck_assert_int_eq(planned[0].first_owner != planned[1].first_owner, test_size() > 1);

  double *gradient = make_gradient(&stack, 0, 1), *factor = test_make_tensor(&stack, 20, 1, 1, INT64_MAX);
  int64_t count = test_elements(&stack), third = count / 3;
  for (int64_t i = 0; i < count; i++) gradient[i] *= (double)(i / third + 1);
  for (int i = 0; i < all.count; i++) test_job_set_gradient(&job, i, gradient);
  test_job_step(&job);
  for (int i = 0; i < all.count; i++) {
    double *weight = test_job_weight(&job, i), *expected = test_numbers(count, 1);
    double alpha = i < 6 || i == 12 ? 1 : 0.5;
    for (int64_t j = 0; j < count; j++)
      expected[j] = -pow((i % 2 == 0 ? 6 : (double)(j / third + 1)) * nuclear_norm(9), alpha) * factor[j];
    check_multiple(i, weight, expected, 1, 1e-5);
    free(weight);
    free(expected);
  }
  free(gradient);
  free(factor);
  test_job_close(&job);
}
END_TEST

/* `scale` multiplies the update by a number of the shape alone; m×n is 14×9 and 8×18. */
START_TEST(scale_follows_from_the_shape)
{
  static const char *const rules[] = {"rule: muon",
                                      "rule: polar",
                                      "rule: right_spectral",
                                      "rule: left_spectral",
                                      "rule: row_norm",
                                      "rule: hybrid",
                                      "rule: hybrid, order: polar_then_row"};
  static const struct {
    const char *name;
    double tall, wide;
  } scales[] = {{"sqrt_max_1_rows_over_cols", 1.2472191289246, 1},
                {"sqrt_rows_over_cols", 1.2472191289246, 0.66666666666667},
                {"0.2_sqrt_max_dim", 0.74833147735479, 0.84852813742386}};
  test_job plain, scaled;
  char more[64];
  all.count = 0;
  for (int i = 0; i < 14; i++) add_case(i % 2 == 0 ? &stack : &wide, false, rules[i / 2]);
  open_job(&plain, "", ", lr: 1, scale: none");
  set_gradients(&plain, 0, 1);
  test_job_step(&plain);
  for (int s = 0; s < 3; s++) {
    snprintf(more, sizeof more, ", lr: 1, scale: %s", scales[s].name);
    open_job(&scaled, "", more);
    set_gradients(&scaled, 0, 1);
    test_job_step(&scaled);
    for (int i = 0; i < all.count; i++) {
      double *of_plain = test_job_weight(&plain, i), *of_scaled = test_job_weight(&scaled, i);
      check_multiple(i, of_scaled, of_plain, i % 2 == 0 ? scales[s].tall : scales[s].wide, 1e-6);
      free(of_plain);
      free(of_scaled);
    }
    test_job_close(&scaled);
  }
  test_job_close(&plain);
}
END_TEST

/* K steps of Newton and Schulz on known singular values: x <- (3x - x³)/2, K times, beginning at σ/√‖DᵀD‖_F. */
START_TEST(as_many_steps_as_asked_for)
{
  char keys[128];
  test_job job;
  all.count = 0;
  for (int steps = 1; steps <= 8; steps++) {
    snprintf(keys, sizeof keys, "rule: muon, solver: newton_schulz, steps: %d, momentum: none, scale: none", steps);
    add_case(&wide, false, keys);
  }
  open_job(&job, "", ", lr: 1");
  set_gradients(&job, 0, 1);
  test_job_step(&job);
  double fourth_powers = 0;
  for (int i = 0; i < 8; i++) fourth_powers += pow(largest * pow(condition, -i / 7.0), 4);
  for (int steps = 1; steps <= 8; steps++) {
    double *weight = test_job_weight(&job, steps - 1), *expected = test_numbers(8, 18);
    for (int i = 0; i < 8; i++) {
      double x = largest * pow(condition, -i / 7.0) / pow(fourth_powers, 0.25);
      for (int step = 0; step < steps; step++) x = 1.5 * x - 0.5 * x * x * x;
      expected[i * 18 + i] = -x;
    }
    test_move_matrix(TEST_ROTATE_ROWS | TEST_ROTATE_COLS, 20000, 8, 18, expected);
    check_multiple(steps - 1, weight, expected, 1, 1e-5);
    free(weight);
    free(expected);
  }
  test_job_close(&job);
}
END_TEST

/* Every variant of every rule. */
static void add_variants(void)
{
  all.count = 0;
  for (int v = 0; v < test_variant_count; v++)
    add_case(v % 2 == 0 ? &stack : &wide, test_variants[v].family->element_wise, test_variants[v].keys);
}

/*
 * Clipping is of gradients, all parameters together, before momentum: a run that clips is a run whose gradients were
 * multiplied by limit/norm before. The norm of step t is that of all gradients; step 1 is below the limit.
 */
START_TEST(clipping_is_before_momentum)
{
  static const double sizes[] = {1, 0.1, 2};
  test_job clipped, shrunk, whole;
  double squares = 0;
  add_variants();
  for (int i = 0; i < all.count; i++)
    for (int64_t j = 0, k = i % 2 == 0 ? 9 : 8; j < k; j++)
      squares += (i % 2 == 0 ? 3 : 1) * pow(largest * pow(condition, -(double)j / (double)(k - 1)), 2);
  double norm = sqrt(squares), limit = norm / 2;
  char head[64];
  snprintf(head, sizeof head, "clip_grad_norm: %.17g\n", limit);
  open_job(&clipped, head, ", lr: 1");
  open_job(&shrunk, "", ", lr: 1");
  open_job(&whole, "", ", lr: 1");
  for (int step = 0; step < 3; step++) {
    set_gradients(&clipped, step, sizes[step]);
    set_gradients(&shrunk, step, fmin(sizes[step], 0.5));
    set_gradients(&whole, step, sizes[step]);
    test_job_step(&clipped);
    ck_assert_double_eq_tol(clipped.optimizer->gradient_norm, sizes[step] * norm, 1e-6 * sizes[step] * norm);
    test_job_step(&shrunk);
    test_job_step(&whole);
  }
  for (int i = 0; i < all.count; i++) {
    double *found = test_job_weight(&clipped, i), *expected = test_job_weight(&shrunk, i);
    double *unclipped = test_job_weight(&whole, i);
    check_multiple(i, found, expected, 1, 2e-5);
    ck_assert(test_distance(unclipped, expected, test_elements(all.cases[i].tensor)) > 1e-3);
    free(found);
    free(expected);
    free(unclipped);
  }
  test_job_close(&clipped);
  test_job_close(&shrunk);
  test_job_close(&whole);
}
END_TEST

/*
 * Decay is decoupled: updates are those without decay, and W <- (1 - lr·weight_decay) W - lr U. So the weights of a
 * run with decay follow from the changes of one without.
 */
START_TEST(decay_is_decoupled)
{
  static const double lr = 0.25, decay = 0.4;
  test_job with, without;
  double *expected[most_cases], *before[most_cases];
  add_variants();
  open_job(&with, "", ", lr: 0.25, weight_decay: 0.4");
  open_job(&without, "", ", lr: 0.25");
  set_weights(&with);
  set_weights(&without);
  for (int i = 0; i < all.count; i++) expected[i] = test_job_weight(&with, i), before[i] = test_job_weight(&with, i);
  for (int step = 0; step < 3; step++) {
    set_gradients(&with, step, 1);
    set_gradients(&without, step, 1);
    test_job_step(&with);
    test_job_step(&without);
    for (int i = 0; i < all.count; i++) {
      double *after = test_job_weight(&without, i), *found = test_job_weight(&with, i);
      for (int64_t j = 0; j < test_elements(all.cases[i].tensor); j++)
        expected[i][j] = (1 - lr * decay) * expected[i][j] + after[j] - before[i][j];
      check_multiple(i, found, expected[i], 1, 1e-6);
      free(found);
      free(before[i]);
      before[i] = after;
    }
  }
  for (int i = 0; i < all.count; i++) {
    free(expected[i]);
    free(before[i]);
  }
  test_job_close(&with);
  test_job_close(&without);
}
END_TEST

/*
 * A parameter without a gradient keeps weight and state and does not count the step: with gradients in steps 1 and 3
 * it ends with the bits of a run of these two steps alone.
 */
START_TEST(steps_are_counted_per_parameter)
{
  test_job straight, absent;
  add_variants();
  open_job(&straight, "", ", lr: 1, weight_decay: 0.1");
  open_job(&absent, "", ", lr: 1, weight_decay: 0.1");
  set_weights(&straight);
  set_weights(&absent);
  for (int step = 0; step < 3; step++) {
    if (step != 1) {
      set_gradients(&straight, step, 1);
      test_job_step(&straight);
      set_gradients(&absent, step, 1);
    } else { /* one parameter is there, for the step to be one */
      double *gradient = make_gradient(all.cases[0].tensor, step, 1);
      test_job_set_gradient(&absent, 0, gradient);
      free(gradient);
    }
    test_job_step(&absent);
  }
  for (int i = 0; i < all.count; i++) {
    double *found = test_job_weight(&absent, i), *expected = test_job_weight(&straight, i);
    size_t bytes = (size_t)test_elements(all.cases[i].tensor) * sizeof *found;
    ck_assert_int_eq(memcmp(found, expected, bytes) != 0, i == 0);
    ck_assert_int_eq(absent.optimizer->parameter[i].step, i == 0 ? 3 : 2);
    free(found);
    free(expected);
  }
  ck_assert_int_eq(absent.optimizer->step, 3);
  test_job_close(&straight);
  test_job_close(&absent);
}
END_TEST

Suite *make_suite(void)
{
  Suite *suite = suite_create("scaling");
  TCase *tests = tcase_create("scaling");
  tcase_set_timeout(tests, 0);
  tcase_add_test(tests, updates_grow_with_a_power_of_the_gradient);
  tcase_add_test(tests, nu_is_of_the_tensor_or_of_the_matrix);
  tcase_add_test(tests, scale_follows_from_the_shape);
  tcase_add_test(tests, as_many_steps_as_asked_for);
  tcase_add_test(tests, clipping_is_before_momentum);
  tcase_add_test(tests, decay_is_decoupled);
  tcase_add_test(tests, steps_are_counted_per_parameter);
  suite_add_tcase(suite, tests);
  return suite;
}
