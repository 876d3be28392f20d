/* Fuzzing of manifests: the text of one, and the plan for it. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "model/manifest.h"
#include "optimizer/plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Every rule, by role; a plan of many matrices takes its time and tells nothing new. */
static char configuration[] = "groups:\n"
                              "- {match: {role: embedding}, rule: row_norm, lr: 1}\n"
                              "- {match: {role: lm_head}, rule: hybrid, lr: 1}\n"
                              "- {match: {role: router}, rule: left_spectral, lr: 1}\n"
                              "- {match: {role: attention}, rule: polar, lr: 1}\n"
                              "- {match: {role: [expert_gate_up, expert_down], shape: [\"<64\", \"*\", \"*\"]}, rule: "
                              "right_spectral, lr: 1}\n"
                              "- {match: {role: [mlp_gate_up, mlp_down, mlp, matrix]}, rule: muon, lr: 1}\n"
                              "- {match: {}, rule: adamw, lr: 1}\n";
enum { owners = 6, most_parameters = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  eqs_source source = {"config.yaml", configuration};
  eqs_sources sources = {1, &source};
  eqs_config *config = NULL;
  eqs_manifest manifest = {0};
  eqs_parameter_info *info = NULL;
  eqs_plan *plan = NULL;
  int64_t count;
  char *text = malloc(size + 1);
  if (text == NULL) return 0;
  memcpy(text, data, size);
  text[size] = '\0';
  if (eqs_manifest_parse("manifest.json", text, &manifest) == EQS_OK &&
      eqs_manifest_parameters(&manifest, &info, &count) == EQS_OK && count <= most_parameters &&
      eqs_config_parse(&sources, &config) == EQS_OK &&
      eqs_plan_make(config, NULL, owners, count, info, &plan) == EQS_OK)
    eqs_plan_free(&plan);
  eqs_config_free(&config);
  free(info);
  eqs_manifest_free(&manifest);
  free(text);
  return 0;
}
