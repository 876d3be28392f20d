/*
 * Edges through the sharded path, on every rule: single rows, columns and elements, fewer rows than ranks; gradients
 * that are zero, of rank one, of condition 1e4, near 1e-20 and 1e20, of identical rows, or without tokens for one
 * expert. Everything is held against the rule in float64; the limits are relative to the change of the weights, matrix
 * by matrix, so that where the reference does not move, nothing may.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "distributed/matrices.h"
#include "equivariance/job.h"
#include "equivariance/reference.h"
#include "equivariance/variants.h"
#include "optimizer/step.h"

typedef enum { SINGULAR_VALUES, INTEGERS_OF_RANK_ONE, IDENTICAL_ROWS, MATRIX_WITHOUT_TOKENS } gradient_kind;

typedef struct {
  const char *name;
  test_tensor tensor;
  gradient_kind kind;
  double largest, condition; /* singular values */
  double weight;             /* size of the initial weights; 0 where the updates are as small as nothing beside them */
  double limit;
} edge;

/* Accuracies of the project's numerics: up to condition 10 1e-4, beyond and where singular 1e-2 (Gram form). */
enum { edge_count = 20 };
static const edge edges[edge_count] = {
    {"one row", {EQS_LAYOUT_ROW, 0, 1, 9, 0}, SINGULAR_VALUES, 3, 3, 0.3, 1e-4},
    {"one column", {EQS_LAYOUT_ROW, 0, 9, 1, 0}, SINGULAR_VALUES, 3, 3, 0.3, 1e-4},
    {"one element", {EQS_LAYOUT_ROW, 0, 1, 1, 0}, SINGULAR_VALUES, 3, 3, 0.3, 1e-4},
    {"two rows", {EQS_LAYOUT_ROW, 0, 2, 5, 0}, SINGULAR_VALUES, 3, 3, 0.3, 1e-4},
    {"two columns", {EQS_LAYOUT_COL, 0, 2, 5, 0}, SINGULAR_VALUES, 3, 3, 0.3, 1e-4},
    {"zero", {EQS_LAYOUT_ROW, 0, 12, 7, 0}, SINGULAR_VALUES, 0, 1, 0.3, 1e-4},
    {"zero", {EQS_LAYOUT_ROW, 0, 7, 12, 0}, SINGULAR_VALUES, 0, 1, 0, 1e-4},
    {"rank one, tall", {EQS_LAYOUT_ROW, 0, 12, 7, 0}, INTEGERS_OF_RANK_ONE, 1, 1, 0.3, 1e-2},
    {"rank one, wide", {EQS_LAYOUT_ROW, 0, 7, 12, 0}, INTEGERS_OF_RANK_ONE, 1, 1, 0.3, 1e-2},
    {"rank one, square", {EQS_LAYOUT_ROW, 0, 9, 9, 0}, INTEGERS_OF_RANK_ONE, 1, 1, 0.3, 1e-2},
    {"condition 1e4, tall", {EQS_LAYOUT_ROW, 0, 12, 7, 0}, SINGULAR_VALUES, 1, 1e4, 0.3, 1e-2},
    {"condition 1e4, wide", {EQS_LAYOUT_ROW, 0, 7, 12, 0}, SINGULAR_VALUES, 1, 1e4, 0.3, 1e-2},
    {"1e-20, tall", {EQS_LAYOUT_ROW, 0, 12, 7, 0}, SINGULAR_VALUES, 1e-20, 5, 0, 1e-4},
    {"1e-20, wide", {EQS_LAYOUT_ROW, 0, 7, 12, 0}, SINGULAR_VALUES, 1e-20, 5, 0, 1e-4},
    {"1e20, tall", {EQS_LAYOUT_ROW, 0, 12, 7, 0}, SINGULAR_VALUES, 1e20, 5, 0, 1e-4},
    {"1e20, wide", {EQS_LAYOUT_ROW, 0, 7, 12, 0}, SINGULAR_VALUES, 1e20, 5, 0, 1e-4},
    {"identical rows, tall", {EQS_LAYOUT_ROW, 0, 12, 7, 0}, IDENTICAL_ROWS, 1, 1, 0, 1e-2},
    {"identical rows, wide", {EQS_LAYOUT_ROW, 0, 7, 12, 0}, IDENTICAL_ROWS, 1, 1, 0, 1e-2},
    {"an expert without tokens", {EQS_LAYOUT_ROW, 3, 12, 7, 0}, MATRIX_WITHOUT_TOKENS, 5, 5, 0, 1e-4},
    {"an expert without tokens",
     {EQS_LAYOUT_GATE_UP_CONCAT_SPLIT, 2, 14, 12, 0},
     MATRIX_WITHOUT_TOKENS,
     5,
     5,
     0.3,
     1e-4},
};

typedef struct {
  const test_variant *variant;
  const edge *edge;
  bool center;
  int momentum;
  const char *nu_scope; /* NULL: the rule has none, or its default */
  const char *grid;     /* NULL: the plan's */
  int block;
} edge_case;

static double *make_gradient(const edge_case *c, int step)
{
  const edge *e = c->edge;
  int64_t m = test_matrix_rows(&e->tensor), n = test_matrix_cols(&e->tensor), count = test_elements(&e->tensor);
  /* Adam's float32 average of squares ends at 3e38 */
  double largest = c->variant->family->element_wise && e->largest > 1e18 ? 1e18 : e->largest;
  double *gradient = test_make_tensor(&e->tensor, 7, largest, e->condition, INT64_MAX);
  for (int64_t i = 0; i < m && e->kind == INTEGERS_OF_RANK_ONE; i++)
    for (int64_t j = 0; j < n; j++) gradient[i * n + j] = (double)((i * 5 % 11 - 4) * (j * 3 % 7 - 2)) / 8;
  for (int64_t i = 0; i < m && e->kind == IDENTICAL_ROWS; i++)
    for (int64_t j = 0; j < n; j++) gradient[i * n + j] = (float)test_normal(8, (uint64_t)j);
  if (e->kind == MATRIX_WITHOUT_TOKENS) { /* the first expert: one matrix, or gate and up */
    double *zeros = test_numbers(m, n);
    for (int64_t i = 0; i < test_matrix_count(&e->tensor) / (e->tensor.stack); i++)
      test_put_matrix(&e->tensor, gradient, i, zeros);
    free(zeros);
  }
  for (int64_t i = 0; i < count; i++) gradient[i] *= step + 1;
  return gradient;
}

static double *make_weight(const edge *e)
{
  double *weight = test_normals(test_elements(&e->tensor), 9, e->weight);
  for (int64_t i = 0; i < test_elements(&e->tensor); i++) weight[i] = (float)weight[i];
  return weight;
}

static const double lr = 0.5;

static void append_case(test_text *text, const edge_case *c, int index)
{
  test_append(text, "  - {match: {name: 'case%d.*'}, lr: %g, weight_decay: 0.1, %s", index, lr, c->variant->keys);
  if (!c->variant->family->element_wise) {
    test_append_layout(text, &c->edge->tensor);
    test_append(text, ", center: %s, momentum: %s", c->center ? "true" : "false", eqs_momentum_names[c->momentum]);
  }
  if (c->nu_scope != NULL) test_append(text, ", nu_scope: %s", c->nu_scope);
  if (c->grid != NULL) test_append(text, ", grid: %s, block: %d", c->grid, c->block);
  test_append(text, "}\n");
}

/* Largest distance over the matrices from the reference, over its change; infinite if that is 0 and the other not. */
static double relative_distance(const edge_case *c, const double *begin, const double *expected, const double *found)
{
  test_tensor tensor = c->edge->tensor;
  double largest = 0;
  if (c->variant->family->element_wise) tensor.layout = EQS_LAYOUT_ROW;
  int64_t size = test_matrix_rows(&tensor) * test_matrix_cols(&tensor);
  for (int64_t i = 0; i < test_matrix_count(&tensor); i++) {
    double *before = test_take_matrix(&tensor, begin, i), *after = test_take_matrix(&tensor, expected, i);
    double *here = test_take_matrix(&tensor, found, i);
    double distance = test_distance(here, after, size), change = test_distance(after, before, size);
    if (distance > 0) largest = fmax(largest, change > 0 ? distance / change : INFINITY);
    free(before);
    free(after);
    free(here);
  }
  return largest;
}

/*
 * Centering makes the Gram matrix of rows that are no more than the columns singular, and the Gram form then has 1e-2
 * to keep. It is held to 1e-3: two rows, whose difference is all that is left, come to 1.1e-4.
 */
static double limit_of(const edge_case *c)
{
  bool singular = c->center && test_matrix_rows(&c->edge->tensor) <= test_matrix_cols(&c->edge->tensor);
  return singular ? fmax(c->edge->limit, 1e-3) : c->edge->limit;
}

static void check_case(const test_job *job, const edge_case *c, int index, int steps)
{
  double *begin = make_weight(c->edge), *found = test_job_weight(job, index);
  test_reference reference = test_reference_begin(&c->edge->tensor, test_job_options(job, index), lr, begin);
  for (int step = 0; step < steps; step++) {
    double *gradient = make_gradient(c, step);
    test_reference_step(&reference, gradient);
    free(gradient);
  }
  double distance = relative_distance(c, begin, reference.weight, found);
  test_text text = {0};
  append_case(&text, c, index);
  ck_assert_msg(distance <= limit_of(c), "%s: %s distance %g from float64, more than %g", c->edge->name, text.text,
                distance, limit_of(c));
  test_text_free(&text);
  test_reference_end(&reference);
  free(begin);
  free(found);
}

/* Cases to be run together, as the parameters of one job. */
enum { cases_at_once = 128 };
static struct {
  int count;
  edge_case cases[cases_at_once];
} batch;

static void run_batch(int steps)
{
  test_job job;
  test_text text = {0};
  eqs_parameter_info info[cases_at_once];
  char names[cases_at_once][32];
  test_append(&text, "groups:\n");
  for (int i = 0; i < batch.count; i++) {
    append_case(&text, &batch.cases[i], i);
    snprintf(names[i], sizeof names[i], "case%d.weight", i);
    info[i] = test_info(names[i], &batch.cases[i].edge->tensor);
  }
  test_job_open(&job, text.text, batch.count, info);
  for (int i = 0; i < batch.count; i++) {
    double *weight = make_weight(batch.cases[i].edge);
    test_job_set_weight(&job, i, weight);
    free(weight);
  }
  for (int step = 0; step < steps; step++) {
    for (int i = 0; i < batch.count; i++) {
      double *gradient = make_gradient(&batch.cases[i], step);
      test_job_set_gradient(&job, i, gradient);
      free(gradient);
    }
    test_job_step(&job);
  }
  for (int i = 0; i < batch.count; i++) check_case(&job, &batch.cases[i], i, steps);
  test_job_close(&job);
  test_text_free(&text);
  batch.count = 0;
}

static void add_case(const edge_case *c)
{
  if (batch.count == cases_at_once) run_batch(2);
  batch.cases[batch.count++] = *c;
}

/* ν is one number for all experts, or one for each. */
static const char *choose_nu_scope(const test_variant *variant, int turn)
{
  if (variant->family->element_wise || !variant->family->has_nu) return NULL;
  return eqs_nu_scope_names[turn % EQS_NU_SCOPES];
}

START_TEST(every_rule_at_every_edge_on_planned_grids)
{
  int turn = 0;
  for (int v = 0; v < test_variant_count; v++)
    for (int e = 0; e < edge_count; e++, turn++) {
      const test_variant *variant = &test_variants[v];
      while (!test_has_momentum(variant, turn % EQS_MOMENTA)) turn++;
      add_case(&(edge_case){.variant = variant,
                            .edge = &edges[e],
                            .center = !variant->family->element_wise && (e + v) % 2 == 0,
                            .momentum = turn % EQS_MOMENTA,
                            .nu_scope = choose_nu_scope(variant, e)});
    }
  run_batch(2);
}
END_TEST

/* Every edge twice, with rules, grids and blocks in turn. */
START_TEST(every_edge_on_forced_grids)
{
  static const int blocks[] = {1, 3, 8, 64};
  char grids[test_max_forced][16];
  int grid_count = test_forced_grids(grids);
  for (int e = 0; e < 2 * edge_count; e++) {
    const test_variant *variant = &test_variants[(e + e / edge_count) % test_variant_count];
    add_case(&(edge_case){.variant = variant,
                          .edge = &edges[e % edge_count],
                          .center = !variant->family->element_wise && e / 3 % 2 == 0,
                          .momentum = variant->family->element_wise ? EQS_MOMENTUM_NONE : e % EQS_MOMENTUM_POLAR_FIRST,
                          .nu_scope = choose_nu_scope(variant, e),
                          .grid = grids[e % grid_count],
                          .block = blocks[(e + e / 4) % 4]});
  }
  run_batch(2);
}
END_TEST

/* The complete product, but for blocks and nu_scope: in turn. */
START_TEST(everything_on_every_grid)
{
  char grids[test_max_forced][16];
  int grid_count = test_everything() ? test_forced_grids(grids) : 0, turn = 0;
  for (int g = 0; g < grid_count; g++)
    for (int v = 0; v < test_variant_count; v++)
      for (int e = 0; e < edge_count; e++)
        for (int center = 0; center < (test_variants[v].family->element_wise ? 1 : 2); center++)
          for (int momentum = 0; momentum < EQS_MOMENTA; momentum++, turn++) {
            const test_variant *variant = &test_variants[v];
            if (!test_has_momentum(variant, momentum)) continue;
            add_case(&(edge_case){variant, &edges[e], center, momentum, choose_nu_scope(variant, turn), grids[g],
                                  turn % 2 == 0 ? 1 : 8});
          }
  if (batch.count > 0) run_batch(2);
}
END_TEST

/* Where Adam's average of squares leaves the range of float32, the step is an error that says so: 0.05 (1e20)²
 * > 3.4e38. */
START_TEST(adamw_beyond_its_range)
{
  static const test_tensor tensor = {EQS_LAYOUT_ROW, 0, 3, 4, 0};
  eqs_parameter_info info = test_info("weight", &tensor);
  test_job job;
  test_job_open(&job, "groups: [{match: {}, rule: adamw, lr: 1}]", 1, &info);
  double *gradient = test_normals(12, 5, 1e20);
  test_job_set_gradient(&job, 0, gradient);
  ck_assert_int_eq(eqs_optimizer_step(job.optimizer, 1), EQS_FAILED);
  ck_assert_ptr_nonnull(strstr(eqs_error_message(), "step 1: the second moment of 'weight' overflows"));
  free(gradient);
  test_job_close(&job);
}
END_TEST

Suite *make_suite(void)
{
  Suite *suite = suite_create("edges");
  TCase *tests = tcase_create("edges");
  tcase_set_timeout(tests, 0);
  tcase_add_test(tests, every_rule_at_every_edge_on_planned_grids);
  tcase_add_test(tests, every_edge_on_forced_grids);
  tcase_add_test(tests, everything_on_every_grid);
  tcase_add_test(tests, adamw_beyond_its_range);
  suite_add_tcase(suite, tests);
  return suite;
}
