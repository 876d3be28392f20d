#include "bench/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "bench/pseudo_random.h"
#include "dist/communicator.h"
#include "model/assign.h"
#include "model/calibration.h"
#include "optimizer/step.h"

eqs_status eqs_bench_model_read(const char *config, const char *manifest, int owners, eqs_bench_model *model)
{
  eqs_status status = EQS_OK;
  eqs_sources sources = {0};
  EQS_TRY(eqs_sources_read(config, &sources));
  EQS_TRY(eqs_config_parse(&sources, &model->config));
  EQS_TRY(eqs_config_calibrate(model->config));
  EQS_TRY(eqs_manifest_read(manifest, &model->manifest));
  EQS_TRY(eqs_manifest_parameters(&model->manifest, &model->info, &model->parameters));
  EQS_TRY(eqs_plan_make(model->config, &model->manifest.model, owners, model->parameters, model->info, &model->plan));
cleanup:
  eqs_sources_free(&sources);
  return status;
}

/* The configuration's text. A key that the rule does not use is left out of `defaults`. */
static eqs_status configure(const eqs_bench_matrices *matrices, eqs_config **config)
{
  char text[512], path[] = "the benchmark's configuration";
  int length = snprintf(text, sizeof text, "defaults: {lr: 0.001, layout: row, steps: %d, form: %s, center: %s",
                        matrices->steps, matrices->form, matrices->center ? "true" : "false");
  if (matrices->solver != NULL)
    length += snprintf(text + length, sizeof text - (size_t)length, ", solver: %s", matrices->solver);
  if (matrices->grid[0] > 0)
    length += snprintf(text + length, sizeof text - (size_t)length, ", grid: %lldx%lld", (long long)matrices->grid[0],
                       (long long)matrices->grid[1]);
  snprintf(text + length, sizeof text - (size_t)length, "}\ngroups: [{match: {}, rule: %s}]\n", matrices->rule);
  eqs_source source = {.path = path, .text = text};
  return eqs_config_parse(&(eqs_sources){.count = 1, .sources = &source}, config);
}

static eqs_status list_matrices(const eqs_bench_matrices *matrices, eqs_bench_model *model)
{
  enum { name_size = 32 };
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_allocate(&model->names, matrices->count * name_size, 1));
  EQS_TRY(eqs_allocate(&model->info, matrices->count, sizeof *model->info));
  for (int64_t p = 0; p < matrices->count; p++) {
    char *name = model->names + p * name_size;
    snprintf(name, name_size, "matrix.%lld", (long long)p);
    model->info[p] = (eqs_parameter_info){
        .name = name, .ndim = 2, .shape = {matrices->rows, matrices->cols}, .gradient_placement = EQS_PARTIAL};
  }
  model->parameters = matrices->count;
cleanup:
  return status;
}

eqs_status eqs_bench_model_make(const eqs_bench_matrices *matrices, int owners, eqs_bench_model *model)
{
  eqs_status status = EQS_OK;
  EQS_TRY(configure(matrices, &model->config));
  EQS_TRY(list_matrices(matrices, model));
  EQS_TRY(eqs_plan_make(model->config, &model->manifest.model, owners, model->parameters, model->info, &model->plan));
  /* the plan would spread matrices with a grid of their own over all ranks */
  for (int64_t p = 0; matrices->grid[0] > 0 && p < model->parameters; p++)
    model->plan->parameter[p].matrix[0].first_owner = 0;
cleanup:
  return status;
}

void eqs_bench_model_free(eqs_bench_model *model)
{
  eqs_plan_free(&model->plan);
  eqs_config_free(&model->config);
  eqs_manifest_free(&model->manifest);
  free(model->info);
  free(model->names);
  *model = (eqs_bench_model){0};
}

static eqs_least_cost parameter_minimum(const eqs_assignment *assignment)
{
  eqs_least_cost sum = {0};
  for (int64_t i = 0; i < assignment->count; i++) {
    eqs_least_cost one = eqs_minimal_update(&assignment->options, assignment->views[i].rows, assignment->views[i].cols);
    sum.flops += one.flops;
    sum.bytes += one.bytes;
  }
  return sum;
}

eqs_least_cost eqs_bench_model_minimum(const eqs_bench_model *model)
{
  eqs_least_cost sum = {0};
  for (int64_t p = 0; p < model->plan->parameters; p++) {
    eqs_least_cost one = parameter_minimum(&model->plan->parameter[p].assignment);
    sum.flops += one.flops;
    sum.bytes += one.bytes;
  }
  return sum;
}

static void add_number(json_t *object, const char *key, double value)
{
  json_object_set_new(object, key, json_real(json_number_value(json_object_get(object, key)) + value));
}

/* Rule -> its part of the least cost. */
static json_t *costs_by_rule(const eqs_plan *plan)
{
  json_t *rules = json_object();
  for (int64_t p = 0; p < plan->parameters; p++) {
    const eqs_assignment *assignment = &plan->parameter[p].assignment;
    const char *name = assignment->options.rule->name;
    eqs_least_cost cost = parameter_minimum(assignment);
    if (json_object_get(rules, name) == NULL) json_object_set_new(rules, name, json_object());
    add_number(json_object_get(rules, name), "flops", cost.flops);
    add_number(json_object_get(rules, name), "bytes", cost.bytes);
  }
  return rules;
}

void eqs_bench_model_describe(const eqs_bench_model *model, const char *name, eqs_bench_case *made)
{
  int64_t matrices = 0, elements = 0;
  for (int64_t p = 0; p < model->plan->parameters; p++) {
    matrices += model->plan->parameter[p].assignment.count;
    elements += eqs_planned_elements(&model->plan->parameter[p]);
  }
  snprintf(made->name, sizeof made->name, "%s", name);
  snprintf(made->size, sizeof made->size, "%lld", (long long)elements);
  strcpy(made->grid, "planned");
  made->minimum = eqs_bench_model_minimum(model);
  made->rules = costs_by_rule(model->plan);
  if (made->more == NULL) made->more = json_object();
  json_object_set_new(made->more, "parameters", json_integer(model->plan->parameters));
  json_object_set_new(made->more, "matrices", json_integer(matrices));
  json_object_set_new(made->more, "bytes_held", json_integer(eqs_bench_model_held(model)));
  json_object_set_new(made->more, "predicted", json_real(eqs_bench_model_predicted(model)));
}

double eqs_bench_model_predicted(const eqs_bench_model *model)
{
  double seconds = 0;
  for (int o = 0; o < model->plan->owners; o++) seconds = fmax(seconds, model->plan->owner_seconds[o]);
  return seconds;
}

int64_t eqs_bench_model_held(const eqs_bench_model *model)
{
  int64_t bytes = 0;
  for (int64_t p = 0; p < model->plan->parameters; p++) bytes += eqs_planned_bytes(&model->plan->parameter[p]);
  return bytes;
}

/* One of the two matrices of every owned matrix. */
static eqs_status fill(uint32_t seed, eqs_optimizer *optimizer, bool gradients)
{
  eqs_status status = EQS_OK;
  for (int64_t p = 0; p < optimizer->plan->parameters; p++) {
    eqs_owned_parameter *parameter = &optimizer->parameter[p];
    if (gradients) parameter->present = true;
    for (int64_t i = 0; i < optimizer->plan->parameter[p].assignment.count; i++) {
      eqs_owned_matrix *matrix = &parameter->matrix[i];
      if (matrix->grid == NULL) continue;
      EQS_TRY(eqs_fill_random(eqs_derive_seed(eqs_derive_seed(seed, p), i),
                              gradients ? &matrix->gradient : &matrix->weight));
    }
  }
cleanup:
  return status;
}

static eqs_status fill_weights(uint32_t seed, eqs_optimizer *optimizer)
{
  return fill(~seed, optimizer, false);
}

static eqs_status fill_gradients(uint32_t seed, eqs_optimizer *optimizer)
{
  return fill(seed, optimizer, true);
}

typedef struct {
  uint32_t seed;
  eqs_optimizer *optimizer;
} step_case;

static eqs_status renew_gradients(void *context)
{
  step_case *work = context;
  return fill_gradients(work->seed, work->optimizer);
}

static eqs_status take_step(void *context)
{
  step_case *work = context;
  return eqs_optimizer_step(work->optimizer, 1);
}

eqs_status eqs_bench_model_measure(eqs_bench *bench, const eqs_bench_model *model, eqs_timing *timing)
{
  eqs_status status = EQS_OK;
  step_case work = {.seed = bench->options->seed};
  EQS_TRY(eqs_optimizer_create(model->config, model->plan, bench->comm, &work.optimizer));
  EQS_TRY(eqs_agree(bench->comm, fill_weights(work.seed, work.optimizer)));
  EQS_TRY(eqs_measure(bench->comm, (int)bench->options->warmup, (int)bench->options->repeat, renew_gradients, take_step,
                      &work, timing));
cleanup:
  eqs_optimizer_destroy(&work.optimizer);
  return status;
}
