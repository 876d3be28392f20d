/* Configurations that are right: what they mean, and what parameters get. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness.h"
#include "model/assign.h"
#include "model/config.h"

static eqs_config *parse(const char *text)
{
  eqs_source source = {"c.yaml", (char *)text};
  eqs_sources sources = {1, &source};
  eqs_config *config;
  ck_assert_ok(eqs_config_parse(&sources, &config));
  return config;
}

static eqs_config *read_file(const char *path)
{
  eqs_sources sources;
  eqs_config *config;
  ck_assert_ok(eqs_sources_read(path, &sources));
  ck_assert_ok(eqs_config_parse(&sources, &config));
  eqs_sources_free(&sources);
  return config;
}

/* Assign a parameter of a two-dimensional shape, or of one or three where n or stack are 0. */
static eqs_assignment assign(const eqs_config *config, const char *name, const char *type, int64_t stack, int64_t m,
                             int64_t n)
{
  int64_t shape[3] = {stack, m, n};
  eqs_assignment assignment;
  int first = stack == 0, dimensions = n == 0 ? 1 : 3 - first;
  eqs_parameter_info info = {.name = name, .module_type = type, .ndim = dimensions};
  memcpy(info.shape, shape + first, (size_t)dimensions * sizeof *shape);
  ck_assert_ok(eqs_config_assign(config, NULL, &info, &assignment));
  return assignment;
}

static int group_of(const eqs_config *config, const char *name, const char *type, int64_t stack, int64_t m, int64_t n)
{
  eqs_assignment assignment = assign(config, name, type, stack, m, n);
  eqs_assignment_free(&assignment);
  return assignment.group;
}

/* A byte-order mark before the text, of the file and of one that it includes, and numbers as large as float32 has. */
START_TEST(marks_and_large_numbers)
{
  eqs_config *config = parse("\xef\xbb\xbfgroups:\n- {rule: adamw, lr: 3.4028234e38, eps: 1.0e-45}\n");
  ck_assert(config->group[0].lr == 3.4028234e38 && config->group[0].options.eps == 1e-45 && config->group[0].line == 2);
  eqs_config_free(&config);
  char path[] = "/tmp/equishard-test-XXXXXX";
  int file = mkstemp(path);
  ck_assert(file >= 0 && write(file, "\xef\xbb\xbfgroups: [{rule: adamw, lr: 1}]", 33) == 33 && close(file) == 0);
  config = read_file(path);
  ck_assert_str_eq(config->text, "groups: [{rule: adamw, lr: 1}]");
  eqs_config_free(&config);
  unlink(path);
}
END_TEST

START_TEST(defaults_of_the_whole)
{
  eqs_config *config = parse("groups:\n- {rule: adamw, lr: 1e-3}\n");
  ck_assert(!config->mode_given && config->mode == EQS_MODE_SERVICE);
  ck_assert(!config->reduce_sum && !config->skip_nonfinite && config->clip_grad_norm == 0);
  ck_assert(config->deadline == 1800 && config->checkpoint.keep == 3 && config->checkpoint.every == 0);
  ck_assert(config->checkpoint.minutes == 0 && config->checkpoint.keep_every == 0 && config->checkpoint.async);
  ck_assert(!config->checkpoint.partial && config->checkpoint.rename == NULL);
  ck_assert(config->checkpoint.directory == NULL && config->metrics.path == NULL && config->metrics.every == 1);
  ck_assert(config->calibration == NULL && config->schedule.kind == EQS_SCHEDULE_CONSTANT);
  ck_assert(config->groups == 1 && config->group[0].lr == 1e-3 && config->group[0].line == 2);
  ck_assert_str_eq(config->text, "groups:\n- {rule: adamw, lr: 1e-3}\n");
  eqs_config_free(&config);
  ck_assert(config == NULL);
}
END_TEST

START_TEST(all_keys_of_the_whole)
{
  eqs_config *config = parse(
      "mode: embedded\nreduce: sum\nclip_grad_norm: 1.5\non_nonfinite: skip\n"
      "schedule: {kind: wsd, warmup: 10, steps: 100, decay: 40, final: 0.1}\n"
      "checkpoint: {directory: /tmp/c, every: 5, minutes: 0.5, keep: 0, keep_every: 100, async: false, partial: true,"
      " rename: {a: b}}\n"
      "metrics: {path: m.csv, every: 2}\ncalibration: speeds.json\ndeadline: 30\n"
      "roles: {\"*.special\": lm_head}\n"
      "groups: [{rule: muon, lr: 0.02}, {rule: adamw, lr: 0, schedule: constant}]\n");
  ck_assert(config->mode_given && config->mode == EQS_MODE_EMBEDDED && config->reduce_sum && config->skip_nonfinite);
  ck_assert(config->clip_grad_norm == 1.5 && config->deadline == 30);
  ck_assert(config->schedule.kind == EQS_SCHEDULE_WSD && config->schedule.warmup == 10);
  ck_assert(config->schedule.steps == 100 && config->schedule.decay == 40 && config->schedule.final == 0.1);
  ck_assert(config->checkpoint.every == 5 && config->checkpoint.keep == 0 && config->metrics.every == 2);
  ck_assert(config->checkpoint.minutes == 0.5 && config->checkpoint.keep_every == 100 && !config->checkpoint.async);
  ck_assert(config->checkpoint.partial && config->checkpoint.rename != NULL);
  ck_assert_str_eq(config->checkpoint.directory, "/tmp/c");
  ck_assert_str_eq(config->metrics.path, "m.csv");
  ck_assert_str_eq(config->calibration, "speeds.json");
  ck_assert_int_eq(config->role_patterns, 1);
  ck_assert(config->group[0].schedule.kind == EQS_SCHEDULE_WSD);
  ck_assert(config->group[1].schedule.kind == EQS_SCHEDULE_CONSTANT && config->group[1].lr == 0);
  eqs_config_free(&config);
}
END_TEST

START_TEST(defaults_of_a_group_are_its_rules)
{
  eqs_config *config = parse("groups: [{rule: muon, lr: 1}, {rule: polar, lr: 1}, {rule: hybrid, lr: 1}, "
                             "{rule: left_spectral, lr: 1}]\n");
  const eqs_rule_options *muon = &config->group[0].options, *polar = &config->group[1].options;
  const eqs_rule_options *hybrid = &config->group[2].options, *left = &config->group[3].options;
  ck_assert(muon->momentum == EQS_MOMENTUM_NESTEROV && muon->beta == 0.95 && muon->solver == EQS_POLAR_EXPRESS_5);
  ck_assert(muon->scale == EQS_SCALE_SQRT_MAX_1_ROWS_OVER_COLS && muon->steps == 5 && muon->weight_decay == 0);
  ck_assert(polar->momentum == EQS_MOMENTUM_EMA && polar->solver == EQS_EXACT && polar->alpha == 1);
  ck_assert(polar->scale == EQS_SCALE_NONE && polar->eps == 1e-8 && polar->nu_scope == EQS_NU_TENSOR);
  ck_assert(hybrid->solver == EQS_POLAR_EXPRESS && hybrid->order == EQS_ROW_THEN_POLAR && hybrid->side == EQS_RIGHT);
  ck_assert(hybrid->row_mode == EQS_ROW_INVERSE_EPS && hybrid->form == EQS_FORM_AUTO && left->side == EQS_LEFT);
  eqs_config_free(&config);
}
END_TEST

START_TEST(all_keys_of_a_group)
{
  eqs_config *config =
      parse("groups:\n"
            "- {match: {}, rule: hybrid, lr: 0.5, weight_decay: 0.01, momentum: heavy_ball, beta: 0.9, alpha: 0.5,\n"
            "   eps: 1e-6, solver: newton_schulz, steps: 8, form: gram_restart, row_mode: inverse, side: left,\n"
            "   order: polar_then_row, center: true, layout: heads_qkv, head_dim: 16, split: [32, 16], grid: 2x3,\n"
            "   scale: 0.2_sqrt_max_dim, nu_scope: matrix, block: [64, 32]}\n"
            "- {rule: adamw, lr: 1, betas: [0.8, 0.99], eps: 1e-5, block: 128}\n"
            "- {rule: adamw, lr: 1, block: 16x8}\n"
            "- {rule: polar, lr: 1, eps_mode: relative, solver: custom, normalisation: gram, restarts: [2, 5],\n"
            "   coefficients: [[3.4445, -4.7750, 2.0315], [2, -1.5, 0.5]]}\n");
  const eqs_group_config *group = &config->group[0];
  const eqs_rule_options *options = &group->options;
  ck_assert(group->lr == 0.5 && options->weight_decay == 0.01 && options->momentum == EQS_MOMENTUM_HEAVY_BALL);
  ck_assert(options->beta == 0.9 && options->alpha == 0.5 && options->eps == 1e-6 && options->steps == 8);
  ck_assert(options->solver == EQS_NEWTON_SCHULZ && options->form == EQS_FORM_GRAM_RESTART);
  ck_assert(options->row_mode == EQS_ROW_INVERSE && options->side == EQS_LEFT && options->order == EQS_POLAR_THEN_ROW);
  ck_assert(group->center_given && options->center && group->layout_given && group->layout == EQS_LAYOUT_HEADS_QKV);
  ck_assert(group->head_dim == 16 && group->split.pieces == 2 && group->split.size[0] == 32 &&
            group->split.size[1] == 16);
  ck_assert(group->grid_rows == 2 && group->grid_cols == 3 && group->row_block == 64 && group->col_block == 32);
  ck_assert(options->scale == EQS_SCALE_02_SQRT_MAX_DIM && options->nu_scope == EQS_NU_MATRIX);
  ck_assert(config->group[1].options.betas[0] == 0.8 && config->group[1].options.betas[1] == 0.99);
  ck_assert(config->group[1].row_block == 128 && config->group[1].col_block == 128);
  ck_assert(config->group[2].row_block == 16 && config->group[2].col_block == 8);
  const eqs_rule_options *custom = &config->group[3].options;
  ck_assert(options->eps_mode == EQS_EPS_ABSOLUTE && custom->eps_mode == EQS_EPS_RELATIVE);
  ck_assert(custom->solver == EQS_CUSTOM && custom->normalisation == EQS_NORM_GRAM && custom->steps == 2);
  ck_assert(custom->lists->restarts == 2 && custom->lists->restart[0] == 2 && custom->lists->restart[1] == 5);
  ck_assert(custom->lists->polynomials == 2 && custom->lists->polynomial[0][1] == -4.7750);
  eqs_config_free(&config);
}
END_TEST

/* A default counts where the group gives nothing and its rule uses it. */
START_TEST(defaults_reach_the_rules_that_use_them)
{
  eqs_config *config =
      parse("defaults: {weight_decay: 0.1, beta: 0.5, steps: 7, lr: 3, betas: [0.1, 0.2], head_dim: 4,\n"
            "  coefficients: [[1.5, -0.5, 0]], eps_mode: relative}\n"
            "groups:\n"
            "- {rule: muon, beta: 0.6}\n"
            "- {rule: adamw, lr: 2}\n"
            "- {rule: row_norm, weight_decay: 0}\n"
            "- {rule: muon, layout: heads_o}\n");
  const eqs_group_config *group = config->group;
  ck_assert(group[0].lr == 3 && group[0].options.beta == 0.6 && group[0].options.steps == 7 && group[0].head_dim == 0);
  ck_assert(group[0].options.weight_decay == 0.1 && group[0].options.betas[0] == 0.9);
  ck_assert(group[0].options.lists == NULL && group[0].options.eps_mode == EQS_EPS_RELATIVE);
  ck_assert(group[1].lr == 2 && group[1].options.betas[0] == 0.1 && group[1].options.beta == 0.95);
  ck_assert(group[2].options.weight_decay == 0 && group[2].options.beta == 0.5 && group[2].options.steps == 5);
  ck_assert(group[3].head_dim == 4);
  eqs_config_free(&config);
}
END_TEST

START_TEST(anchors_and_merge_keys)
{
  eqs_config *config = parse("groups:\n"
                             "- &base {match: {role: router}, rule: muon, lr: 0.5, steps: 3}\n"
                             "- {<<: *base, match: {}, lr: 0.25}\n"
                             "- *base\n");
  ck_assert_int_eq(config->groups, 3);
  ck_assert(config->group[1].lr == 0.25 && config->group[1].options.steps == 3);
  ck_assert_int_eq(group_of(config, "x.weight", NULL, 0, 4, 4), 1);
  eqs_config_free(&config);
}
END_TEST

START_TEST(first_match_wins)
{
  eqs_config *config = parse("groups:\n"
                             "- {match: {role: embedding, shape: [\">=100\", \"*\"]}, rule: row_norm, lr: 0}\n"
                             "- {match: {name: \"*.self_attn.*\", shape: [\"*\", \">=1024\"]}, rule: muon, lr: 1}\n"
                             "- {match: {type: Conv*, ndim: 3}, rule: adamw, lr: 2}\n"
                             "- {match: {shape: [\"<8\", \"<=4\"]}, rule: adamw, lr: 3}\n"
                             "- {match: {shape: [\">8\", 5]}, rule: adamw, lr: 4}\n"
                             "- {match: {name: [\"*.a\", \"*.b\"], role: [matrix, other]}, rule: adamw, lr: 5}\n"
                             "- {match: {ndim: 1}, rule: adamw, lr: 6}\n"
                             "- {match: {}, rule: adamw, lr: 7}\n");
  ck_assert_int_eq(group_of(config, "embed_tokens.weight", NULL, 0, 100, 8), 0);
  ck_assert_int_eq(group_of(config, "embed_tokens.weight", NULL, 0, 99, 8), 7);
  ck_assert_int_eq(group_of(config, "l.0.self_attn.q_proj.weight", "Linear", 0, 4, 1024), 1);
  ck_assert_int_eq(group_of(config, "l.0.self_attn.q_proj.weight", "Linear", 0, 4, 1023), 7);
  ck_assert_int_eq(group_of(config, "l.0.self_attn.q_norm.weight", "Norm", 0, 1024, 0), 6);
  ck_assert_int_eq(group_of(config, "c.weight", "Conv1d", 3, 4, 4), 2);
  ck_assert_int_eq(group_of(config, "c.weight", NULL, 3, 4, 4), 7);
  ck_assert_int_eq(group_of(config, "x.weight", NULL, 0, 7, 4), 3);
  ck_assert_int_eq(group_of(config, "x.weight", NULL, 0, 8, 4), 7);
  ck_assert_int_eq(group_of(config, "x.weight", NULL, 0, 7, 5), 7);
  ck_assert_int_eq(group_of(config, "x.weight", NULL, 0, 9, 5), 4);
  ck_assert_int_eq(group_of(config, "x.b", NULL, 0, 9, 6), 5);
  ck_assert_int_eq(group_of(config, "x.c", NULL, 0, 9, 6), 7);
  eqs_config_free(&config);
}
END_TEST

/* `center` is on for lm_head and router under rules other than muon, polar, adamw; the user's word counts more. */
START_TEST(centering_by_role)
{
  eqs_config *config = parse("roles: {\"*.heads.*\": lm_head}\n"
                             "groups:\n"
                             "- {match: {name: \"*.p\"}, rule: polar, lr: 1}\n"
                             "- {match: {name: \"*.off\"}, rule: row_norm, lr: 1, center: false}\n"
                             "- {match: {name: \"*.on\"}, rule: row_norm, lr: 1, center: true}\n"
                             "- {rule: row_norm, lr: 1}\n");
  static const struct {
    const char *name;
    bool center;
  } cases[] = {{"lm_head.weight", true},        {"mlp.router.weight", true}, {"embed_tokens.weight", false},
               {"a.heads.x.weight", true},      {"a.heads.p", false},        {"a.heads.off", false},
               {"embed_tokens.weight.on", true}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    eqs_assignment assignment = assign(config, cases[i].name, NULL, 0, 6, 4);
    ck_assert_msg(assignment.options.center == cases[i].center, "%s", cases[i].name);
    eqs_assignment_free(&assignment);
  }
  eqs_config_free(&config);
}
END_TEST

/* What a group without `layout` does with every kind of tensor. */
START_TEST(layouts_by_role_and_rule)
{
  static const struct {
    const char *rule, *name, *type;
    int64_t stack, m, n;
    eqs_tensor_layout layout;
    int64_t count, rows, cols;
  } cases[] = {
      {"row_norm", "mlp.down_proj.weight", "Linear", 0, 4, 6, EQS_LAYOUT_COL, 1, 6, 4},
      {"muon", "mlp.down_proj.weight", "Linear", 0, 4, 6, EQS_LAYOUT_ROW, 1, 4, 6},
      {"hybrid", "mlp.experts.gate_up_proj", "GptOssExperts", 3, 4, 6, EQS_LAYOUT_GATE_UP_INTERLEAVED_PAIR, 3, 3, 8},
      {"muon", "mlp.experts.gate_up_proj", "GptOssExperts", 3, 4, 6, EQS_LAYOUT_GATE_UP_INTERLEAVED_SPLIT, 6, 4, 3},
      {"polar", "mlp.experts.gate_up_proj", "OlmoeExperts", 3, 4, 6, EQS_LAYOUT_ROW, 3, 4, 6},
      {"hybrid", "mlp.experts.down_proj", "OlmoeExperts", 3, 4, 6, EQS_LAYOUT_COL, 3, 6, 4},
      {"right_spectral", "mlp.experts.down_proj", "OlmoeExperts", 3, 4, 6, EQS_LAYOUT_ROW, 3, 4, 6},
      {"muon", "h.0.mlp.c_fc.weight", "Conv1D", 0, 4, 6, EQS_LAYOUT_COL, 1, 6, 4},
      {"muon", "h.0.mlp.c_proj.weight", "Conv1D", 0, 6, 4, EQS_LAYOUT_COL, 1, 4, 6},
      {"hybrid", "h.0.mlp.c_proj.weight", "Conv1D", 0, 6, 4, EQS_LAYOUT_ROW, 1, 6, 4},
      {"muon", "mlp.experts.down_proj", "GptOssExperts", 3, 4, 6, EQS_LAYOUT_ROW, 3, 4, 6},
      {"adamw", "mlp.experts.down_proj", "OlmoeExperts", 3, 4, 6, EQS_LAYOUT_ROW, 1, 12, 6},
      {"adamw", "norm.weight", "Norm", 0, 5, 0, EQS_LAYOUT_ROW, 1, 5, 1},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    char text[80];
    snprintf(text, sizeof text, "groups: [{rule: %s, lr: 1}]", cases[i].rule);
    eqs_config *config = parse(text);
    eqs_assignment got = assign(config, cases[i].name, cases[i].type, cases[i].stack, cases[i].m, cases[i].n);
    ck_assert_msg(got.layout == cases[i].layout && got.count == cases[i].count, "case %zu: %s, %lld matrices", i,
                  eqs_layout_names[got.layout], (long long)got.count);
    ck_assert_int_eq(got.views[0].rows, cases[i].rows);
    ck_assert_int_eq(got.views[0].cols, cases[i].cols);
    eqs_assignment_free(&got);
    eqs_config_free(&config);
  }
}
END_TEST

/* Every kind, with the keys that it has and their defaults; a group's own counts more than the configuration's. */
START_TEST(schedules)
{
  static const struct {
    const char *text;
    eqs_schedule expected;
  } cases[] = {
      {"constant", {EQS_SCHEDULE_CONSTANT, 0, 0, 0, 0}},
      {"{kind: constant}", {EQS_SCHEDULE_CONSTANT, 0, 0, 0, 0}},
      {"{kind: constant, warmup: 100}", {EQS_SCHEDULE_CONSTANT, 100, 0, 0, 0}},
      {"{kind: linear, steps: 30}", {EQS_SCHEDULE_LINEAR, 0, 30, 0, 0}},
      {"{kind: linear, steps: 30, warmup: 30, final: 0.5}", {EQS_SCHEDULE_LINEAR, 30, 30, 0, 0.5}},
      {"{kind: cosine, warmup: 100, steps: 30000}", {EQS_SCHEDULE_COSINE, 100, 30000, 0, 0}},
      {"{kind: cosine, steps: 7, final: 2}", {EQS_SCHEDULE_COSINE, 0, 7, 0, 2}},
      {"{kind: wsd, steps: 30000, decay: 12000}", {EQS_SCHEDULE_WSD, 0, 30000, 12000, 0}},
      {"{kind: wsd, steps: 5, warmup: 2, decay: 3, final: 1e-1}", {EQS_SCHEDULE_WSD, 2, 5, 3, 0.1}},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    char text[300];
    const eqs_schedule *expected = &cases[i].expected;
    snprintf(text, sizeof text,
             "schedule: {kind: linear, steps: 11}\n"
             "groups: [{match: {name: a}, rule: adamw, lr: 1, schedule: %s}, {rule: adamw, lr: 1}]\n",
             cases[i].text);
    eqs_config *config = parse(text);
    const eqs_schedule *own = &config->group[0].schedule, *shared = &config->group[1].schedule;
    ck_assert_msg(own->kind == expected->kind && own->warmup == expected->warmup && own->steps == expected->steps &&
                      own->decay == expected->decay && own->final == expected->final,
                  "%s", cases[i].text);
    ck_assert(shared->kind == EQS_SCHEDULE_LINEAR && shared->steps == 11);
    eqs_config_free(&config);
  }
  eqs_config *config = parse("defaults: {schedule: {kind: cosine, steps: 9}}\n"
                             "groups: [{rule: adamw, lr: 1}, {rule: adamw, lr: 1, schedule: constant}]\n");
  ck_assert(config->group[0].schedule.kind == EQS_SCHEDULE_COSINE && config->group[0].schedule.steps == 9);
  ck_assert(config->group[1].schedule.kind == EQS_SCHEDULE_CONSTANT && config->group[1].schedule.steps == 0);
  eqs_config_free(&config);
}
END_TEST

/* The example in configs/rules/muon.yaml: q, k and v of Phi-3 are rows, of GPT-2 columns of the stored tensor. */
START_TEST(fused_attention)
{
  eqs_config *config = parse("groups:\n"
                             "- {match: {name: \"*.qkv_proj.weight\", shape: [9216, 3072]}, rule: muon, lr: 0.02,\n"
                             "   split: [3072, 3072, 3072]}\n"
                             "- {match: {name: \"*.c_attn.weight\", type: Conv1D, shape: [768, 2304]}, rule: muon,\n"
                             "   lr: 0.02, layout: col, split: [768, 768, 768]}\n");
  eqs_assignment rows = assign(config, "model.layers.0.self_attn.qkv_proj.weight", "Linear", 0, 9216, 3072);
  eqs_assignment columns = assign(config, "transformer.h.0.attn.c_attn.weight", "Conv1D", 0, 768, 2304);
  ck_assert(rows.role == EQS_ROLE_ATTENTION && columns.role == EQS_ROLE_ATTENTION);
  ck_assert(rows.count == 3 && columns.count == 3);
  for (int i = 0; i < 3; i++) { /* square pieces side by side: together they cover the tensor */
    const eqs_view *row = &rows.views[i], *column = &columns.views[i];
    ck_assert(row->rows == 3072 && row->cols == 3072 && column->rows == 768 && column->cols == 768);
    ck_assert(row->part[0].offset == i * 3072 * 3072 && row->part[0].row_stride == 3072);
    ck_assert(column->part[0].offset == i * 768 && column->part[0].row_stride == 1);
    ck_assert(column->part[0].col_stride == 2304);
  }
  eqs_assignment_free(&rows);
  eqs_assignment_free(&columns);
  eqs_config_free(&config);
}
END_TEST

static void write_text(const char *folder, const char *name, const char *text)
{
  char path[200];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "w");
  ck_assert(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0);
}

/* main.yaml includes sub/a.yaml, which includes sub/b.yaml; groups follow in this order, the first setting counts. */
START_TEST(includes)
{
  char folder[] = "/tmp/equishard-test-XXXXXX", path[200], command[200];
  ck_assert(mkdtemp(folder) != NULL);
  snprintf(path, sizeof path, "%s/sub", folder);
  ck_assert_int_eq(mkdir(path, 0700), 0);
  write_text(folder, "main.yaml",
             "include: [sub/a.yaml, sub/b.yaml]\nreduce: sum\ndefaults: {steps: 3}\n"
             "groups: [{match: {name: m}, rule: adamw, lr: 1}]\n");
  write_text(folder, "sub/a.yaml",
             "groups: [{match: {name: a}, rule: muon, lr: 2}]\ninclude: b.yaml\nreduce: mean\n"
             "defaults: {steps: 4, beta: 0.25}\n");
  write_text(folder, "sub/b.yaml", "groups:\n- {rule: adamw, lr: 3}\nmode: embedded\n");
  snprintf(path, sizeof path, "%s/main.yaml", folder);

  eqs_sources sources, copy;
  char *bytes;
  int64_t size;
  ck_assert_ok(eqs_sources_read(path, &sources));
  ck_assert_int_eq(sources.count, 3);
  ck_assert_ok(eqs_sources_pack(&sources, &bytes, &size));
  ck_assert_ok(eqs_sources_unpack(bytes, size, &copy));
  eqs_sources_free(&sources);
  ck_assert_int_eq(eqs_sources_unpack(bytes, size - 1, &sources), EQS_FAILED);
  free(bytes);
  ck_assert_int_eq(copy.count, 3);

  eqs_config *config;
  ck_assert_ok(eqs_config_parse(&copy, &config));
  eqs_sources_free(&copy);
  ck_assert_int_eq(config->groups, 3);
  ck_assert(config->group[0].lr == 1 && config->group[1].lr == 2 && config->group[2].lr == 3);
  ck_assert(config->reduce_sum && config->mode == EQS_MODE_EMBEDDED);
  ck_assert(config->group[1].options.steps == 3 && config->group[1].options.beta == 0.25);
  ck_assert(strstr(config->group[2].file, "/sub/b.yaml") != NULL && config->group[2].line == 2);
  ck_assert(strstr(config->text, "sub/a.yaml\ngroups:") != NULL && strstr(config->text, "mode: embedded") != NULL);
  eqs_config_free(&config);
  snprintf(command, sizeof command, "rm -r %s", folder);
  ck_assert_int_eq(system(command), 0);
}
END_TEST

/* Two files that both include a third are heard before it, by whatever paths they name it. */
START_TEST(shared_includes)
{
  static const char group[] = "groups: [{match: {name: %s}, rule: adamw, lr: 1}]\n%s";
  static const char *const files[][3] = {{"main.yaml", "m", "include: [a.yaml, b.yaml]\n"},
                                         {"a.yaml", "a", "include: c.yaml\n"},
                                         {"b.yaml", "b", "include: ././c.yaml\n"},
                                         {"c.yaml", "c", ""}};
  char folder[] = "/tmp/equishard-test-XXXXXX", path[200], command[200];
  ck_assert(mkdtemp(folder) != NULL);
  for (int i = 0; i < 4; i++) {
    char text[200];
    snprintf(text, sizeof text, group, files[i][1], files[i][2]);
    write_text(folder, files[i][0], text);
  }
  snprintf(path, sizeof path, "%s/main.yaml", folder);
  eqs_config *config = read_file(path);
  ck_assert_int_eq(config->groups, 4);
  for (int i = 0; i < 4; i++) ck_assert(strstr(config->group[i].file, files[i][0]) != NULL);
  eqs_config_free(&config);
  snprintf(command, sizeof command, "rm -r %s", folder);
  ck_assert_int_eq(system(command), 0);
}
END_TEST

Suite *make_suite(void)
{
  Suite *suite = suite_create("config");
  TCase *tests = tcase_create("config");
  tcase_add_test(tests, marks_and_large_numbers);
  tcase_add_test(tests, defaults_of_the_whole);
  tcase_add_test(tests, all_keys_of_the_whole);
  tcase_add_test(tests, defaults_of_a_group_are_its_rules);
  tcase_add_test(tests, all_keys_of_a_group);
  tcase_add_test(tests, defaults_reach_the_rules_that_use_them);
  tcase_add_test(tests, anchors_and_merge_keys);
  tcase_add_test(tests, first_match_wins);
  tcase_add_test(tests, centering_by_role);
  tcase_add_test(tests, layouts_by_role_and_rule);
  tcase_add_test(tests, schedules);
  tcase_add_test(tests, fused_attention);
  tcase_add_test(tests, includes);
  tcase_add_test(tests, shared_includes);
  suite_add_tcase(suite, tests);
  return suite;
}
