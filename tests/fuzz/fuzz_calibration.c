/* Fuzzing of calibrations, and of a plan with their speeds. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "model/calibration.h"
#include "optimizer/plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char configuration[] = "groups: [{match: {ndim: 2}, rule: polar, lr: 1}, {match: {}, rule: adamw, lr: 1}]\n";

static const eqs_parameter_info model[] = {
    {.name = "a", .ndim = 2, .shape = {96, 24}},
    {.name = "b", .ndim = 2, .shape = {4096, 1024}},
    {.name = "c", .ndim = 1, .shape = {24}},
};
enum { parameters = sizeof model / sizeof model[0], owners = 6 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  eqs_source source = {"config.yaml", configuration};
  eqs_sources sources = {1, &source};
  eqs_config *config = NULL;
  eqs_plan *plan = NULL;
  char *text = malloc(size + 1);
  if (text == NULL) return 0;
  memcpy(text, data, size);
  text[size] = '\0';
  if (eqs_config_parse(&sources, &config) == EQS_OK &&
      eqs_calibration_parse("calibration.json", text, &config->speeds) == EQS_OK &&
      eqs_plan_make(config, NULL, owners, parameters, model, &plan) == EQS_OK) {
    eqs_plan_message_seconds(config, plan, 3);
    eqs_plan_free(&plan);
  }
  eqs_config_free(&config);
  free(text);
  return 0;
}
