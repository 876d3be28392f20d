/* The plan: every matrix on the ranks it says, work and memory balanced, the same on every call. And schedules. */
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dist/whole_product.h"
#include "harness.h"
#include "model/calibration.h"
#include "optimizer/plan.h"
#include "optimizer/schedule.h"

static eqs_config *parse(const char *text)
{
  eqs_source source = {.path = (char *)"plan.yaml", .text = (char *)text};
  eqs_sources sources = {.count = 1, .sources = &source};
  eqs_config *config;
  ck_assert_ok(eqs_config_parse(&sources, &config));
  return config;
}

static const char rules[] = "groups:\n"
                            "  - {match: {role: embedding}, rule: row_norm, lr: 1}\n"
                            "  - {match: {ndim: 2}, rule: muon, lr: 1, layout: row}\n"
                            "  - {match: {}, rule: adamw, lr: 1}\n";

enum { layers = 12, parameters = 2 * layers + 1 };

static void make_model(eqs_parameter_info *info, char names[parameters][64])
{
  for (int l = 0; l < layers; l++) {
    snprintf(names[2 * l], 64, "layers.%d.mlp.up_proj.weight", l);
    info[2 * l] = (eqs_parameter_info){.name = names[2 * l], .ndim = 2, .shape = {1024, 512}};
    snprintf(names[2 * l + 1], 64, "layers.%d.norm.weight", l);
    info[2 * l + 1] = (eqs_parameter_info){.name = names[2 * l + 1], .ndim = 1, .shape = {512}};
  }
  strcpy(names[2 * layers], "model.embed_tokens.weight");
  info[2 * layers] = (eqs_parameter_info){.name = names[2 * layers], .ndim = 2, .shape = {50000, 512}};
}

/* A large row-wise matrix is split by rows; the rest is spread so that no owner has twice another's work. */
START_TEST(test_balance)
{
  eqs_parameter_info info[parameters];
  char names[parameters][64];
  eqs_config *config = parse(rules);
  make_model(info, names);
  for (int owners = 1; owners <= 8; owners++) {
    eqs_plan *plan;
    ck_assert_ok(eqs_plan_make(config, NULL, owners, parameters, info, &plan));
    double least = INFINITY, most = 0, total = 0;
    int64_t bytes = 0, expected = 0;
    for (int o = 0; o < owners; o++) {
      least = fmin(least, plan->owner_seconds[o]);
      most = fmax(most, plan->owner_seconds[o]);
      total += plan->owner_seconds[o];
      bytes += plan->owner_bytes[o];
    }
    for (int p = 0; p < parameters; p++) expected += eqs_planned_bytes(&plan->parameter[p]);
    ck_assert_int_eq(bytes, expected);
    ck_assert_at_most(most, 2 * least);
    const eqs_distribution *embedding = &plan->parameter[2 * layers].matrix[0].distribution;
    ck_assert_int_eq(embedding->grid_cols, 1);
    /* splitting by rows costs nothing: it is done where the embedding is more than half an owner's share of the memory
     */
    double held = 4.0 * 3 * 50000 * 512;
    ck_assert_int_eq(embedding->grid_rows > 1, held > 0.5 * (double)expected / owners && owners > 1);
    for (int p = 0; p < parameters; p++) {
      const eqs_planned_matrix *matrix = &plan->parameter[p].matrix[0];
      ck_assert_int_ge(matrix->first_owner, 0);
      ck_assert_int_le(matrix->first_owner + matrix->distribution.grid_rows * matrix->distribution.grid_cols, owners);
    }
    eqs_plan_free(&plan);
  }
  eqs_config_free(&config);
}
END_TEST

/* weight, gradient and momentum of muon; weight, gradient and two averages of adamw: 4 bytes each. */
START_TEST(test_bytes)
{
  eqs_parameter_info info[parameters];
  char names[parameters][64];
  eqs_config *config = parse(rules);
  eqs_plan *plan;
  make_model(info, names);
  ck_assert_ok(eqs_plan_make(config, NULL, 3, parameters, info, &plan));
  ck_assert_int_eq(eqs_planned_bytes(&plan->parameter[0]), 1024 * 512 * 4 * 3);
  ck_assert_int_eq(eqs_planned_bytes(&plan->parameter[1]), 512 * 4 * 4);
  eqs_plan_free(&plan);
  eqs_config_free(&config);
}
END_TEST

/* The peak: what is held; of the largest matrix in work four squares and a block of it aside; program and messages. */
START_TEST(test_peak)
{
  eqs_parameter_info info[parameters];
  char names[parameters][64];
  eqs_config *config = parse(rules);
  eqs_plan *plan;
  make_model(info, names);
  ck_assert_ok(eqs_plan_make(config, NULL, 1, parameters, info, &plan));
  int64_t squares = 4 * 512 * 528 * 4, block = eqs_whole_product_rows(512) * 512 * 4, process = (28 + 32) << 20;
  ck_assert_int_eq(plan->owner_peak[0] - plan->owner_bytes[0], squares + block + process);
  eqs_plan_free(&plan);
  eqs_config_free(&config);
}
END_TEST

/* One large matrix on many owners: slabs along its long side while they are few, a rectangle when they are many. */
START_TEST(test_grid_by_cost)
{
  eqs_config *config = parse("groups: [{match: {}, rule: muon, lr: 1, layout: row}]");
  eqs_parameter_info tall = {.name = "x.weight", .ndim = 2, .shape = {16384, 8192}};
  eqs_plan *plan;
  ck_assert_ok(eqs_plan_make(config, NULL, 4, 1, &tall, &plan));
  ck_assert_int_eq(plan->parameter[0].matrix[0].distribution.grid_rows, 4);
  ck_assert_int_eq(plan->parameter[0].matrix[0].distribution.grid_cols, 1);
  eqs_plan_free(&plan);
  ck_assert_ok(eqs_plan_make(config, NULL, 4096, 1, &tall, &plan));
  ck_assert_int_gt(plan->parameter[0].matrix[0].distribution.grid_rows, 1);
  ck_assert_int_gt(plan->parameter[0].matrix[0].distribution.grid_cols, 1);
  eqs_plan_free(&plan);
  eqs_config_free(&config);
}
END_TEST

/* Figures of a calibration replace the built-in ones; others are refused. */
START_TEST(test_calibration)
{
  eqs_speeds speeds;
  const char *head = "{\"format\": \"equishard-calibration\", \"version\": 1";
  char text[256];
  snprintf(text, sizeof text, "%s, \"triad\": 2e9, \"eigen\": null, \"symmetric\": [[100, 1e9], [10000, 3e9]]}", head);
  ck_assert_ok(eqs_calibration_parse("c.json", text, &speeds));
  ck_assert(speeds.triad == 2e9 && speeds.eigen == eqs_built_in_speeds.eigen);
  ck_assert_double_eq_tol(eqs_speed_at(&speeds.symmetric, 1000), 2e9, 1);
  ck_assert_double_eq_tol(eqs_speed_at(&speeds.symmetric, 50), 0.5e9, 1);
  ck_assert_double_eq_tol(eqs_speed_at(&speeds.symmetric, 99999), 3e9, 1);
  static const char *const wrong[] = {", \"triad\": -1}", ", \"gemm\": [[2, 1], [1, 1]]}", ", \"gemm\": []}",
                                      ", \"x\": }"};
  for (int i = 0; i < 4; i++) {
    snprintf(text, sizeof text, "%s%s", head, wrong[i]);
    ck_assert_int_eq(eqs_calibration_parse("c.json", text, &speeds), EQS_USAGE);
    ck_assert_ptr_nonnull(strstr(eqs_error_message(), "c.json"));
  }
  ck_assert_int_eq(eqs_calibration_parse("c.json", "{}", &speeds), EQS_USAGE);
}
END_TEST

/* A pipe that nobody writes into must not block, and what is larger than any calibration is not read. */
START_TEST(test_calibration_file)
{
  char path[] = "/tmp/equishard-test-XXXXXX", *text;
  ck_assert(mkdtemp(path) != NULL && rmdir(path) == 0 && mkfifo(path, 0600) == 0);
  ck_assert_int_eq(eqs_calibration_read(path, &text), EQS_IO);
  ck_assert(unlink(path) == 0 && close(creat(path, 0600)) == 0 && truncate(path, (1 << 20) + 1) == 0);
  ck_assert_int_eq(eqs_calibration_read(path, &text), EQS_USAGE);
  ck_assert_ptr_null(text);
  unlink(path);
}
END_TEST

/* Models beyond what 64 bits can count the bytes of: refused before anything is computed from their sizes. */
/* Frozen parameters, one of them large, fill up the owners' memory evenly, with their weights alone, and take no time.
 */
START_TEST(test_frozen)
{
  enum { owners = 4, count = parameters + 9 };
  eqs_config *config =
      parse("groups:\n  - {match: {role: mlp_gate_up}, rule: muon, lr: 1}\n  - {match: {name: '*norm*'}, "
            "rule: adamw, lr: 1}\n  - {match: {role: embedding}, rule: row_norm, lr: 1}\n");
  eqs_parameter_info info[count];
  char names[parameters][64], frozen_names[9][24];
  eqs_plan *trained, *plan;
  int64_t added[owners], total = 0, most = 0;
  make_model(info, names);
  for (int p = 0; p < 9; p++) { /* no group matches them */
    snprintf(frozen_names[p], sizeof frozen_names[p], "base.%d", p);
    info[parameters + p] =
        (eqs_parameter_info){.name = frozen_names[p], .ndim = 2, .shape = {p == 0 ? 8192 : 1024, 1024}, .frozen = 1};
  }
  ck_assert_ok(eqs_plan_make(config, NULL, owners, parameters, info, &trained));
  ck_assert_ok(eqs_plan_make(config, NULL, owners, count, info, &plan));
  for (int p = parameters; p < count; p++) {
    ck_assert_int_eq(plan->parameter[p].assignment.group, -1);
    ck_assert_int_eq(eqs_planned_bytes(&plan->parameter[p]), 4 * eqs_planned_elements(&plan->parameter[p]));
  }
  for (int o = 0; o < owners; o++) {
    added[o] = plan->owner_bytes[o] - trained->owner_bytes[o];
    ck_assert_double_eq(plan->owner_seconds[o], trained->owner_seconds[o]);
    total += added[o];
    if (plan->owner_bytes[o] > most) most = plan->owner_bytes[o];
  }
  ck_assert_int_eq(total, INT64_C(4) * (8192 + 8 * 1024) * 1024);
  int64_t all = 0;
  for (int o = 0; o < owners; o++) all += plan->owner_bytes[o];
  ck_assert_at_most((double)most, 1.15 * (double)all / owners); /* the last one placed is 4 MiB, a share 28 */
  eqs_plan_free(&trained);
  eqs_plan_free(&plan);
  info[0].name = "nothing"; /* one that is trained still needs a group */
  ck_assert_int_eq(eqs_plan_make(config, NULL, owners, count, info, &plan), EQS_USAGE);
  eqs_config_free(&config);
}
END_TEST

START_TEST(test_impossible_models)
{
  eqs_config *config = parse("groups: [{match: {ndim: 3}, rule: muon, lr: 1}, {match: {}, rule: adamw, lr: 1}]");
  const int64_t side = INT64_C(1) << 24;
  eqs_parameter_info info[3];
  eqs_plan *plan;
  for (int i = 0; i < 3; i++) info[i] = (eqs_parameter_info){.name = "x", .ndim = 2, .shape = {side, side}};
  ck_assert_ok(eqs_plan_make(config, NULL, 2, 1, info, &plan)); /* 2^48 elements, 16 bytes each */
  ck_assert_int_eq(eqs_planned_bytes(&plan->parameter[0]), INT64_C(1) << 52);
  eqs_plan_free(&plan);
  ck_assert_int_eq(eqs_plan_make(config, NULL, 2, 2, info, &plan), EQS_USAGE);
  ck_assert_ptr_nonnull(strstr(eqs_error_message(), "parameter x: with those before it more than 2^48 elements"));
  info[0].shape[0]++;
  ck_assert_int_eq(eqs_plan_make(config, NULL, 2, 1, info, &plan), EQS_USAGE);
  ck_assert_ptr_nonnull(strstr(eqs_error_message(), "the tensor has more than 2^48 elements"));
  info[0] = (eqs_parameter_info){.name = "x", .ndim = 3, .shape = {0, INT64_C(1) << 40, INT64_C(1) << 40}};
  ck_assert_int_eq(eqs_plan_make(config, NULL, 2, 1, info, &plan), EQS_USAGE);
  for (int i = 0; i < 3; i++) info[i] = (eqs_parameter_info){.name = "x", .ndim = 3, .shape = {1 << 19, 1, 1}};
  ck_assert_int_eq(eqs_plan_make(config, NULL, 2, 3, info, &plan), EQS_USAGE);
  ck_assert_ptr_nonnull(strstr(eqs_error_message(), "more than 2^20 matrices"));
  eqs_config_free(&config);
}
END_TEST

START_TEST(test_forced_grid)
{
  eqs_config *config = parse("groups: [{match: {}, rule: muon, lr: 1, grid: 2x3, block: [5, 7], layout: row}]");
  eqs_parameter_info info = {.name = "x.weight", .ndim = 2, .shape = {40, 30}};
  eqs_plan *plan;
  ck_assert_ok(eqs_plan_make(config, NULL, 6, 1, &info, &plan));
  const eqs_distribution *distribution = &plan->parameter[0].matrix[0].distribution;
  ck_assert_int_eq(distribution->grid_rows, 2);
  ck_assert_int_eq(distribution->grid_cols, 3);
  ck_assert_int_eq(distribution->row_block, 5);
  ck_assert_int_eq(distribution->col_block, 7);
  eqs_plan_free(&plan);
  ck_assert_int_eq(eqs_plan_make(config, NULL, 5, 1, &info, &plan), EQS_USAGE);
  ck_assert_ptr_nonnull(strstr(eqs_error_message(), "plan.yaml:1: parameter 'x.weight'"));
  ck_assert_ptr_null(plan);
  eqs_config_free(&config);
}
END_TEST

START_TEST(test_same_plan)
{
  eqs_parameter_info info[parameters];
  char names[parameters][64];
  eqs_config *config = parse(rules);
  eqs_plan *first, *second;
  make_model(info, names);
  ck_assert_ok(eqs_plan_make(config, NULL, 5, parameters, info, &first));
  ck_assert_ok(eqs_plan_make(config, NULL, 5, parameters, info, &second));
  for (int p = 0; p < parameters; p++)
    ck_assert_mem_eq(first->parameter[p].matrix, second->parameter[p].matrix, sizeof *first->parameter[p].matrix);
  eqs_plan_free(&first);
  eqs_plan_free(&second);
  eqs_config_free(&config);
}
END_TEST

static double at(const eqs_schedule *schedule, int64_t step)
{
  return eqs_schedule_multiple(schedule, step);
}

START_TEST(test_schedules)
{
  const double exact = 1e-15;
  eqs_schedule constant = {.kind = EQS_SCHEDULE_CONSTANT, .warmup = 4};
  ck_assert_double_eq_tol(at(&constant, 1), 0.25, exact);
  ck_assert_double_eq_tol(at(&constant, 4), 1, exact);
  ck_assert_double_eq_tol(at(&constant, 1000), 1, exact);

  eqs_schedule linear = {.kind = EQS_SCHEDULE_LINEAR, .warmup = 10, .steps = 110, .final = 0.1};
  ck_assert_double_eq_tol(at(&linear, 5), 0.5, exact);
  ck_assert_double_eq_tol(at(&linear, 60), 0.55, exact);
  ck_assert_double_eq_tol(at(&linear, 110), 0.1, exact);
  ck_assert_double_eq_tol(at(&linear, 500), 0.1, exact);

  eqs_schedule cosine = {.kind = EQS_SCHEDULE_COSINE, .steps = 100};
  ck_assert_double_eq_tol(at(&cosine, 25), (1 + sqrt(0.5)) / 2, exact);
  ck_assert_double_eq_tol(at(&cosine, 50), 0.5, exact);
  ck_assert_double_eq_tol(at(&cosine, 100), 0, exact);

  eqs_schedule wsd = {.kind = EQS_SCHEDULE_WSD, .warmup = 2, .steps = 100, .decay = 40};
  ck_assert_double_eq_tol(at(&wsd, 1), 0.5, exact);
  ck_assert_double_eq_tol(at(&wsd, 60), 1, exact);
  ck_assert_double_eq_tol(at(&wsd, 80), 0.5, exact);
  ck_assert_double_eq_tol(at(&wsd, 100), 0, exact);
}
END_TEST

Suite *make_suite(void)
{
  Suite *suite = suite_create("plan");
  TCase *tests = tcase_create("plan");
  tcase_add_test(tests, test_balance);
  tcase_add_test(tests, test_bytes);
  tcase_add_test(tests, test_peak);
  tcase_add_test(tests, test_grid_by_cost);
  tcase_add_test(tests, test_calibration);
  tcase_add_test(tests, test_calibration_file);
  tcase_add_test(tests, test_frozen);
  tcase_add_test(tests, test_impossible_models);
  tcase_add_test(tests, test_forced_grid);
  tcase_add_test(tests, test_same_plan);
  tcase_add_test(tests, test_schedules);
  suite_add_tcase(suite, tests);
  return suite;
}
