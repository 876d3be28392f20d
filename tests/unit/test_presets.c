/* The files in configs/: all of them fit the published models, and assign what they say. */
#define _XOPEN_SOURCE 700
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "model/config.h"
#include "model/manifest.h"
#include "optimizer/warnings.h"

static eqs_config *read_file(const char *path)
{
  eqs_sources sources;
  eqs_config *config;
  ck_assert_ok(eqs_sources_read(path, &sources));
  ck_assert_ok(eqs_config_parse(&sources, &config));
  eqs_sources_free(&sources);
  return config;
}

static const char *const models[] = {"qwen3-0.6b", "gemma3-1b", "olmoe-1b-7b", "gpt-oss-20b"};
enum { model_count = sizeof models / sizeof models[0] };
static eqs_manifest manifests[model_count];
static int files_checked;

static void read_manifests(void)
{
  for (int m = 0; m < model_count; m++) {
    char path[80];
    snprintf(path, sizeof path, "tests/manifests/%s.json", models[m]);
    ck_assert_ok(eqs_manifest_read(path, &manifests[m]));
  }
}

static void free_manifests(void)
{
  for (int m = 0; m < model_count; m++) eqs_manifest_free(&manifests[m]);
}

static eqs_parameter_info info_of(const eqs_manifest_entry *entry)
{
  eqs_parameter_info info = {.name = entry->name, .module_type = entry->module_type, .ndim = entry->ndim};
  memcpy(info.shape, entry->shape, sizeof info.shape);
  return info;
}

/* Every parameter has a group, and matrices cover its tensor. */
static void check_model(const eqs_config *config, const char *path, const eqs_manifest *manifest)
{
  for (int64_t i = 0; i < manifest->count; i++) {
    const eqs_manifest_entry *entry = &manifest->entries[i];
    eqs_assignment got;
    int64_t elements = 1, covered = 0;
    eqs_parameter_info info = info_of(entry);
    ck_assert_msg(eqs_config_assign(config, &manifest->model, &info, &got) == EQS_OK, "%s: %s", path,
                  eqs_error_message());
    for (int d = 0; d < entry->ndim; d++) elements *= entry->shape[d];
    for (int64_t v = 0; v < got.count; v++) covered += got.views[v].rows * got.views[v].cols;
    ck_assert_int_eq(covered, elements);
    eqs_assignment_free(&got);
  }
}

/* Nothing to warn of, on the models that a file is for. */
static void check_warnings(const eqs_config *config, const char *path, const eqs_manifest *manifest)
{
  eqs_parameter_info *info;
  eqs_plan *plan;
  eqs_warnings warnings;
  int64_t count;
  ck_assert_ok(eqs_manifest_parameters(manifest, &info, &count));
  ck_assert_ok(eqs_plan_make(config, &manifest->model, 2, count, info, &plan));
  ck_assert_ok(eqs_plan_warnings(config, plan, INT64_MAX, &warnings));
  ck_assert_msg(warnings.count == 0, "%s: %s", path, warnings.count > 0 ? warnings.text[0] : "");
  eqs_warnings_free(&warnings);
  eqs_plan_free(&plan);
  free(info);
}

/* Matrices that only their shapes tell of, each a warning: so many are said, and how many are not. */
START_TEST(warnings_of_one_kind_are_limited)
{
  enum { parameters = 13, most = 10 };
  eqs_config *config = read_file("configs/rules/muon.yaml");
  eqs_model_shape model = {0};
  eqs_parameter_info info[parameters];
  char names[parameters][16];
  eqs_plan *plan;
  eqs_warnings warnings;
  for (int p = 0; p < parameters; p++) {
    snprintf(names[p], sizeof names[p], "thing_%c.weight", 'a' + p);
    info[p] = (eqs_parameter_info){.name = names[p], .ndim = 2, .shape = {8, 8}};
  }
  ck_assert_ok(eqs_plan_make(config, &model, 1, parameters, info, &plan));
  ck_assert_ok(eqs_plan_warnings(config, plan, INT64_MAX, &warnings));
  ck_assert_int_eq(warnings.count, parameters);
  eqs_warnings_free(&warnings);
  ck_assert_ok(eqs_plan_warnings(config, plan, parameters, &warnings));
  ck_assert_int_eq(warnings.count, parameters);
  eqs_warnings_free(&warnings);
  ck_assert_ok(eqs_plan_warnings(config, plan, most, &warnings));
  ck_assert_int_eq(warnings.count, most + 1);
  ck_assert_ptr_nonnull(strstr(warnings.text[most - 1], "thing_j.weight"));
  ck_assert_ptr_nonnull(strstr(warnings.text[most], "3 more of this kind"));
  eqs_warnings_free(&warnings);
  eqs_plan_free(&plan);
  eqs_config_free(&config);
}
END_TEST

static bool is_for(const char *path, const char *model)
{
  const char *file = path + strlen("configs/");
  size_t family = strcspn(file, "./");
  return strncmp(file, "rules/", 6) == 0 || strncmp(file, model, family) == 0;
}

static int check_file(const char *path, const struct stat *about, int type, struct FTW *place)
{
  (void)about, (void)place;
  if (type != FTW_F || strcmp(path, "configs/README.md") == 0) return 0;
  ck_assert_msg(strcmp(path + strlen(path) - 5, ".yaml") == 0, "%s: no configuration", path);
  eqs_config *config = read_file(path);
  for (int m = 0; m < model_count; m++) {
    check_model(config, path, &manifests[m]);
    if (is_for(path, models[m])) check_warnings(config, path, &manifests[m]);
  }
  eqs_config_free(&config);
  files_checked++;
  return 0;
}

START_TEST(all_files_fit_all_models)
{
  files_checked = 0;
  read_manifests();
  ck_assert_int_eq(nftw("configs", check_file, 16, FTW_PHYS), 0);
  ck_assert_int_ge(files_checked, 10 + 4 * 7 + 2 * 6);
  free_manifests();
}
END_TEST

/* What a choice of a variant means: the rule of a role. */
static const struct {
  const char *choice;
  eqs_role role;
  const char *rule;
} choices[] = {
    {"embedding-row", EQS_ROLE_EMBEDDING, "row_norm"},
    {"embedding-row", EQS_ROLE_LM_HEAD, "row_norm"},
    {"embedding-hybrid", EQS_ROLE_EMBEDDING, "hybrid"},
    {"embedding-hybrid", EQS_ROLE_LM_HEAD, "hybrid"},
    {"embedding-right", EQS_ROLE_EMBEDDING, "right_spectral"},
    {"embedding-right", EQS_ROLE_LM_HEAD, "right_spectral"},
    {"embedding-adamw", EQS_ROLE_EMBEDDING, "adamw"},
    {"embedding-adamw", EQS_ROLE_LM_HEAD, "adamw"},
    {"mlp-matrix", EQS_ROLE_MLP_GATE_UP, "muon"},
    {"mlp-matrix", EQS_ROLE_MLP_DOWN, "muon"},
    {"mlp-matrix", EQS_ROLE_EXPERT_GATE_UP, "muon"},
    {"mlp-matrix", EQS_ROLE_EXPERT_DOWN, "muon"},
    {"mlp-hybrid", EQS_ROLE_MLP_GATE_UP, "hybrid"},
    {"mlp-hybrid", EQS_ROLE_MLP_DOWN, "hybrid"},
    {"mlp-hybrid", EQS_ROLE_EXPERT_GATE_UP, "hybrid"},
    {"mlp-hybrid", EQS_ROLE_EXPERT_DOWN, "hybrid"},
    {"mlp-row", EQS_ROLE_MLP_GATE_UP, "row_norm"},
    {"mlp-row", EQS_ROLE_MLP_DOWN, "row_norm"},
    {"mlp-row", EQS_ROLE_EXPERT_GATE_UP, "row_norm"},
    {"mlp-row", EQS_ROLE_EXPERT_DOWN, "row_norm"},
    {"router-row", EQS_ROLE_ROUTER, "row_norm"},
    {"router-adamw", EQS_ROLE_ROUTER, "adamw"},
    {"router-left", EQS_ROLE_ROUTER, "left_spectral"},
    {"router-left-uncentered", EQS_ROLE_ROUTER, "left_spectral"},
    {"router-hybrid", EQS_ROLE_ROUTER, "hybrid"},
    {"embedding-and-router-adamw", EQS_ROLE_EMBEDDING, "adamw"},
    {"embedding-and-router-adamw", EQS_ROLE_LM_HEAD, "adamw"},
    {"embedding-and-router-adamw", EQS_ROLE_ROUTER, "adamw"},
};
enum { choice_count = sizeof choices / sizeof choices[0] };

static bool concerns(const char *choice, eqs_role role)
{
  for (int c = 0; c < choice_count; c++)
    if (choices[c].role == role && strcmp(choices[c].choice, choice) == 0) return true;
  return false;
}

static eqs_assignment assign(const eqs_config *config, const eqs_manifest *manifest, int64_t i)
{
  eqs_assignment got;
  eqs_parameter_info info = info_of(&manifest->entries[i]);
  ck_assert_ok(eqs_config_assign(config, &manifest->model, &info, &got));
  return got;
}

static void check_unchanged(const eqs_config *config, const eqs_assignment *got, const eqs_config *base,
                            const eqs_assignment *before)
{
  ck_assert(got->options.rule == before->options.rule && got->options.center == before->options.center);
  ck_assert(got->options.weight_decay == before->options.weight_decay && got->layout == before->layout);
  ck_assert(config->group[got->group].lr == base->group[before->group].lr && got->count == before->count);
}

/* A variant gives the roles that it is about their rule, and nothing to others. */
START_TEST(variants_are_what_their_names_say)
{
  static const char *const families[model_count] = {"qwen3", "gemma3", "olmoe", "gpt-oss"};
  read_manifests();
  for (int f = 0; f < model_count; f++) {
    char path[120];
    snprintf(path, sizeof path, "configs/%s.yaml", families[f]);
    eqs_config *base = read_file(path);
    for (int c = 0; c < choice_count; c++) {
      const char *choice = choices[c].choice;
      if (f < 2 && strstr(choice, "router") != NULL) continue; /* Qwen3 and Gemma 3 have none */
      snprintf(path, sizeof path, "configs/%s/%s.yaml", families[f], choice);
      eqs_config *config = read_file(path);
      for (int64_t i = 0; i < manifests[f].count; i++) {
        eqs_assignment got = assign(config, &manifests[f], i), before = assign(base, &manifests[f], i);
        const char *rule = got.options.rule->name;
        if (got.role == choices[c].role)
          ck_assert_msg(strcmp(rule, choices[c].rule) == 0, "%s: %s by %s", path, manifests[f].entries[i].name, rule);
        if (!concerns(choice, got.role) && strcmp(path, "configs/gemma3/mlp-matrix.yaml") != 0) /* lr of others too */
          check_unchanged(config, &got, base, &before);
        eqs_assignment_free(&got);
        eqs_assignment_free(&before);
      }
      eqs_config_free(&config);
    }
    eqs_config_free(&base);
  }
  free_manifests();
}
END_TEST

#define HEADS(all, key_value, rows)                                                                                    \
  {                                                                                                                    \
    .attention_heads = all, .key_value_heads = key_value, .head_dim = rows                                             \
  }

/* Heads of the published models: attention, key/value, rows of one. */
static const eqs_model_shape *model_of(const char *config)
{
  static const eqs_model_shape qwen3 = HEADS(16, 8, 128), gemma3 = HEADS(4, 1, 256), olmoe = HEADS(16, 16, 128),
                               gpt_oss = HEADS(64, 8, 64);
  if (strncmp(config, "qwen3", 5) == 0) return &qwen3;
  if (strncmp(config, "gemma3", 6) == 0) return &gemma3;
  return strncmp(config, "olmoe", 5) == 0 ? &olmoe : &gpt_oss;
}

/* The paper's assignments, on the published shapes. */
START_TEST(numbers)
{
  enum { row = EQS_LAYOUT_ROW, col = EQS_LAYOUT_COL };
  static const struct {
    const char *config, *name, *type;
    int64_t stack, m, n;
    const char *rule;
    double lr, weight_decay;
    int64_t count;
    bool center;
  } cases[] = {
      {"qwen3", "model.embed_tokens.weight", "Embedding", 0, 151936, 1024, "row_norm", 0.5, 0, 1, false},
      {"qwen3", "lm_head.weight", "Linear", 0, 151936, 1024, "row_norm", 5e-3, 0, 1, true},
      {"qwen3", "l.0.self_attn.q_proj.weight", "Linear", 0, 2048, 1024, "muon", 2e-2, 1e-3, 16, false},
      {"qwen3", "l.0.self_attn.v_proj.weight", "Linear", 0, 1024, 1024, "muon", 2e-2, 1e-3, 8, false},
      {"qwen3", "l.0.self_attn.o_proj.weight", "Linear", 0, 1024, 2048, "muon", 2e-2, 1e-3, 16, false},
      {"qwen3", "l.0.mlp.down_proj.weight", "Linear", 0, 1024, 3072, "muon", 2e-2, 1e-3, 1, false},
      {"qwen3", "l.0.self_attn.q_norm.weight", "Qwen3RMSNorm", 0, 128, 0, "adamw", 5e-2, 1e-3, 1, false},
      {"gemma3", "l.0.self_attn.q_proj.weight", "Linear", 0, 1024, 1152, "muon", 2e-2, 1e-3, 4, false},
      {"gemma3", "l.0.self_attn.k_proj.weight", "Linear", 0, 256, 1152, "muon", 2e-2, 1e-3, 1, false},
      {"gemma3", "l.0.mlp.down_proj.weight", "Linear", 0, 1152, 6912, "hybrid", 2e-2, 0, 1, false},
      {"gemma3", "lm_head.weight", "Linear", 0, 262144, 1152, "row_norm", 5e-3, 0, 1, true},
      {"olmoe", "l.0.mlp.gate.weight", "OlmoeTopKRouter", 0, 64, 2048, "row_norm", 7.5e-4, 0, 1, true},
      {"olmoe", "l.0.mlp.experts.gate_up_proj", "OlmoeExperts", 64, 2048, 2048, "muon", 5e-3, 1e-3, 64, false},
      {"olmoe", "l.0.self_attn.o_proj.weight", "Linear", 0, 2048, 2048, "muon", 5e-3, 1e-3, 16, false},
      {"gpt-oss", "l.0.mlp.experts.gate_up_proj", "GptOssExperts", 32, 2880, 5760, "muon", 1e-3, 1e-3, 64, false},
      {"gpt-oss", "l.0.mlp.experts.down_proj", "GptOssExperts", 32, 2880, 2880, "muon", 1e-3, 1e-3, 32, false},
      {"gpt-oss", "l.0.self_attn.k_proj.weight", "Linear", 0, 512, 2880, "muon", 1e-3, 1e-3, 8, false},
      {"gpt-oss", "l.0.self_attn.o_proj.weight", "Linear", 0, 2880, 4096, "muon", 1e-3, 1e-3, 64, false},
      {"gpt-oss", "l.0.mlp.router.weight", "GptOssTopKRouter", 0, 32, 2880, "row_norm", 7.5e-4, 0, 1, true},
      {"gpt-oss", "l.0.self_attn.sinks", "GptOssAttention", 0, 64, 0, "adamw", 5e-3, 1e-3, 1, false},
      {"qwen3/embedding-row", "model.embed_tokens.weight", NULL, 0, 151936, 1024, "row_norm", 0.5, 0, 1, false},
      {"qwen3/embedding-hybrid", "model.embed_tokens.weight", NULL, 0, 151936, 1024, "hybrid", 1, 0, 1, false},
      {"qwen3/embedding-hybrid", "lm_head.weight", NULL, 0, 151936, 1024, "hybrid", 1e-2, 0, 1, true},
      {"qwen3/embedding-right", "lm_head.weight", NULL, 0, 151936, 1024, "right_spectral", 5e-3, 0, 1, true},
      {"qwen3/embedding-adamw", "model.embed_tokens.weight", NULL, 0, 151936, 1024, "adamw", 1e-1, 0, 1, false},
      {"qwen3/embedding-adamw", "lm_head.weight", NULL, 0, 151936, 1024, "adamw", 1e-3, 0, 1, false},
      {"qwen3/embedding-adamw", "l.0.self_attn.q_proj.weight", NULL, 0, 2048, 1024, "muon", 2e-2, 1e-3, 16, false},
      {"qwen3/mlp-hybrid", "l.0.mlp.up_proj.weight", NULL, 0, 3072, 1024, "hybrid", 2e-2, 0, 1, false},
      {"qwen3/mlp-matrix", "l.0.mlp.up_proj.weight", NULL, 0, 3072, 1024, "muon", 2e-2, 1e-3, 1, false},
      {"gemma3/embedding-hybrid", "lm_head.weight", NULL, 0, 262144, 1152, "hybrid", 1e-2, 0, 1, true},
      {"gemma3/embedding-adamw", "lm_head.weight", NULL, 0, 262144, 1152, "adamw", 5e-4, 0, 1, false},
      {"gemma3/mlp-matrix", "lm_head.weight", NULL, 0, 262144, 1152, "row_norm", 2.5e-3, 0, 1, true},
      {"gemma3/mlp-matrix", "model.embed_tokens.weight", NULL, 0, 262144, 1152, "row_norm", 2.5e-3, 0, 1, false},
      {"gemma3/mlp-matrix", "l.0.mlp.down_proj.weight", NULL, 0, 1152, 6912, "muon", 2e-2, 1e-3, 1, false},
      {"gemma3/mlp-row", "l.0.mlp.down_proj.weight", NULL, 0, 1152, 6912, "row_norm", 2e-2, 0, 1, false},
      {"olmoe/router-adamw", "l.0.mlp.gate.weight", NULL, 0, 64, 2048, "adamw", 7.5e-4, 0, 1, false},
      {"olmoe/router-left", "l.0.mlp.gate.weight", NULL, 0, 64, 2048, "left_spectral", 7.5e-4, 0, 1, true},
      {"olmoe/router-left-uncentered", "l.0.mlp.gate.weight", NULL, 0, 64, 2048, "left_spectral", 7.5e-4, 0, 1, false},
      {"olmoe/router-hybrid", "l.0.mlp.gate.weight", NULL, 0, 64, 2048, "hybrid", 7.5e-4, 0, 1, true},
      {"olmoe/embedding-and-router-adamw", "lm_head.weight", NULL, 0, 50304, 2048, "adamw", 5e-4, 0, 1, false},
      {"olmoe/embedding-and-router-adamw", "l.0.mlp.gate.weight", NULL, 0, 64, 2048, "adamw", 7.5e-4, 0, 1, false},
      {"olmoe/mlp-row", "l.0.mlp.experts.down_proj", "OlmoeExperts", 64, 2048, 1024, "row_norm", 5e-3, 0, 64, false},
      {"olmoe/mlp-hybrid", "l.0.mlp.experts.7.up_proj.weight", "Linear", 0, 1024, 2048, "hybrid", 5e-3, 0, 1, false},
      {"gpt-oss/mlp-hybrid", "l.0.mlp.experts.gate_up_proj", "GptOssExperts", 32, 2880, 5760, "hybrid", 1e-3, 0, 32,
       false},
      {"gpt-oss/router-hybrid", "l.0.mlp.router.weight", NULL, 0, 32, 2880, "hybrid", 7.5e-4, 0, 1, true},
      {"gpt-oss/embedding-adamw", "lm_head.weight", NULL, 0, 201088, 2880, "adamw", 5e-4, 0, 1, false},
      {"gpt-oss/embedding-right", "model.embed_tokens.weight", NULL, 0, 201088, 2880, "right_spectral", 0.1, 0, 1,
       false},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    char path[80];
    int64_t shape[] = {cases[i].stack, cases[i].m, cases[i].n};
    int first = cases[i].stack == 0, dimensions = cases[i].n == 0 ? 1 : 3 - first;
    snprintf(path, sizeof path, "configs/%s.yaml", cases[i].config);
    eqs_config *config = read_file(path);
    eqs_assignment got;
    eqs_parameter_info info = {.name = cases[i].name, .module_type = cases[i].type, .ndim = dimensions};
    memcpy(info.shape, shape + first, (size_t)dimensions * sizeof *shape);
    ck_assert_ok(eqs_config_assign(config, model_of(cases[i].config), &info, &got));
    ck_assert_str_eq(got.options.rule->name, cases[i].rule);
    ck_assert_msg(got.count == cases[i].count, "%s %s: %lld matrices", cases[i].config, cases[i].name,
                  (long long)got.count);
    ck_assert(config->group[got.group].lr == cases[i].lr && got.options.weight_decay == cases[i].weight_decay);
    ck_assert(got.options.center == cases[i].center);
    eqs_assignment_free(&got);
    eqs_config_free(&config);
  }
}
END_TEST

/* Models of the four families that are as large as one likes: attention is head by head by the same files. */
START_TEST(any_size)
{
  static const struct {
    const char *config;
    int64_t heads, key_value_heads, head_dim, hidden;
  } sizes[] = {{"qwen3", 4, 2, 24, 80},  {"qwen3", 16, 8, 64, 1024}, {"gemma3", 3, 1, 40, 96},
               {"olmoe", 8, 8, 16, 128}, {"gpt-oss", 6, 2, 10, 72},  {"gpt-oss", 32, 4, 64, 2048}};
  static const char *const names[] = {"q_proj", "k_proj", "v_proj", "o_proj"};
  for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
    char path[80], name[80];
    eqs_model_shape model = HEADS(sizes[s].heads, sizes[s].key_value_heads, sizes[s].head_dim);
    snprintf(path, sizeof path, "configs/%s.yaml", sizes[s].config);
    eqs_config *config = read_file(path);
    for (int i = 0; i < 4; i++) {
      int64_t heads = i == 1 || i == 2 ? sizes[s].key_value_heads : sizes[s].heads, outer = heads * sizes[s].head_dim;
      eqs_parameter_info info = {.name = name, .module_type = "Linear", .ndim = 2};
      info.shape[i == 3] = outer, info.shape[i != 3] = sizes[s].hidden;
      snprintf(name, sizeof name, "model.layers.3.self_attn.%s.weight", names[i]);
      eqs_assignment got;
      ck_assert_ok(eqs_config_assign(config, &model, &info, &got));
      ck_assert(got.count == heads && got.doubts == 0);
      ck_assert_str_eq(got.options.rule->name, "muon");
      ck_assert_int_eq(got.views[0].rows, i == 3 ? sizes[s].hidden : sizes[s].head_dim);
      ck_assert_int_eq(got.views[0].cols, i == 3 ? sizes[s].head_dim : sizes[s].hidden);
      eqs_assignment_free(&got);
      /* not known: whole, and said; another model's: an error */
      ck_assert_ok(eqs_config_assign(config, NULL, &info, &got));
      ck_assert(got.count == 1 && got.doubts == EQS_DOUBT_HEADS);
      eqs_assignment_free(&got);
      info.shape[i == 3] += sizes[s].head_dim;
      ck_assert_int_eq(eqs_config_assign(config, &model, &info, &got), EQS_USAGE);
      ck_assert(strstr(eqs_error_message(), "layout auto: it has") && strstr(eqs_error_message(), name));
    }
    eqs_config_free(&config);
  }
}
END_TEST

/* The rows of row norms and hybrids are hidden neurons. */
START_TEST(layouts)
{
  static const struct {
    const char *config, *name, *type;
    int64_t shape[3];
    eqs_tensor_layout layout;
    int64_t rows, cols;
  } cases[] = {
      {"qwen3/mlp-hybrid", "l.0.mlp.up_proj.weight", "Linear", {3072, 1024}, EQS_LAYOUT_ROW, 3072, 1024},
      {"qwen3/mlp-hybrid", "l.0.mlp.down_proj.weight", "Linear", {1024, 3072}, EQS_LAYOUT_COL, 3072, 1024},
      {"qwen3/mlp-matrix", "l.0.mlp.down_proj.weight", "Linear", {1024, 3072}, EQS_LAYOUT_ROW, 1024, 3072},
      {"gemma3/mlp-row", "l.0.mlp.down_proj.weight", "Linear", {1152, 6912}, EQS_LAYOUT_COL, 6912, 1152},
      {"olmoe/mlp-hybrid", "l.0.experts.gate_up_proj", NULL, {4, 128, 32}, EQS_LAYOUT_ROW, 128, 32},
      {"olmoe/mlp-row", "l.0.experts.down_proj", NULL, {4, 32, 64}, EQS_LAYOUT_COL, 64, 32},
      {"gpt-oss/mlp-row",
       "l.0.experts.gate_up_proj",
       "GptOssExperts",
       {4, 32, 128},
       EQS_LAYOUT_GATE_UP_INTERLEAVED_PAIR,
       64,
       64},
      {"gpt-oss/mlp-hybrid", "l.0.experts.down_proj", "GptOssExperts", {4, 64, 32}, EQS_LAYOUT_ROW, 64, 32},
      {"gpt-oss/mlp-matrix",
       "l.0.experts.gate_up_proj",
       "GptOssExperts",
       {4, 32, 128},
       EQS_LAYOUT_GATE_UP_INTERLEAVED_SPLIT,
       32,
       64},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    char path[80];
    snprintf(path, sizeof path, "configs/%s.yaml", cases[i].config);
    eqs_config *config = read_file(path);
    eqs_assignment got;
    eqs_parameter_info info = {
        .name = cases[i].name, .module_type = cases[i].type, .ndim = cases[i].shape[2] > 0 ? 3 : 2};
    memcpy(info.shape, cases[i].shape, sizeof cases[i].shape);
    ck_assert_ok(eqs_config_assign(config, NULL, &info, &got));
    ck_assert_msg(got.layout == cases[i].layout, "%s: %s", path, eqs_layout_names[got.layout]);
    ck_assert(got.views[0].rows == cases[i].rows && got.views[0].cols == cases[i].cols);
    eqs_assignment_free(&got);
    eqs_config_free(&config);
  }
}
END_TEST

Suite *make_suite(void)
{
  Suite *suite = suite_create("presets");
  TCase *tests = tcase_create("presets");
  tcase_add_test(tests, all_files_fit_all_models);
  tcase_add_test(tests, warnings_of_one_kind_are_limited);
  tcase_add_test(tests, variants_are_what_their_names_say);
  tcase_add_test(tests, numbers);
  tcase_add_test(tests, any_size);
  tcase_add_test(tests, layouts);
  suite_add_tcase(suite, tests);
  return suite;
}
