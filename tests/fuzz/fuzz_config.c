/* Fuzzing of configurations: the text of one file, and what it makes of some parameters. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "optimizer/plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const eqs_parameter_info model[] = {
    {.name = "model.embed_tokens.weight", .module_type = "Embedding", .ndim = 2, .shape = {96, 24}},
    {.name = "model.layers.0.self_attn.q_proj.weight", .module_type = "Linear", .ndim = 2, .shape = {24, 24}},
    {.name = "model.layers.0.self_attn.qkv_proj.weight", .module_type = "Linear", .ndim = 2, .shape = {72, 24}},
    {.name = "model.layers.0.mlp.gate.weight", .module_type = "Router", .ndim = 2, .shape = {4, 24}},
    {.name = "model.layers.0.mlp.experts.gate_up_proj",
     .module_type = "GptOssExperts",
     .ndim = 3,
     .shape = {4, 24, 64}},
    {.name = "model.layers.0.mlp.experts.down_proj", .module_type = "GptOssExperts", .ndim = 3, .shape = {4, 32, 24}},
    {.name = "model.norm.weight", .module_type = NULL, .ndim = 1, .shape = {24}},
    {.name = "scale", .module_type = "Scale", .ndim = 0},
    {.name = "empty", .module_type = "Linear", .ndim = 2, .shape = {0, 24}},
    /* large, and of primes: not a million heads, whose plan takes seconds */
    {.name = "lm_head.weight", .module_type = "Linear", .ndim = 2, .shape = {67108859, 1048583}},
};
enum { parameters = sizeof model / sizeof model[0], owners = 6 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  char *text = malloc(size + 1);
  eqs_config *config = NULL;
  eqs_plan *plan = NULL;
  if (text == NULL) return 0;
  memcpy(text, data, size);
  text[size] = '\0';
  eqs_source source = {"config.yaml", text};
  eqs_sources sources = {1, &source};
  if (eqs_config_parse(&sources, &config) == EQS_OK) {
    /* one by one too: the plan ends at the first parameter that does not fit */
    for (int p = 0; p < parameters; p++)
      if (eqs_plan_make(config, NULL, owners, 1, &model[p], &plan) == EQS_OK) eqs_plan_free(&plan);
    if (eqs_plan_make(config, NULL, owners, parameters, model, &plan) == EQS_OK) eqs_plan_free(&plan);
  }
  eqs_config_free(&config);
  free(text);
  return 0;
}
