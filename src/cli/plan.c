#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "cli/command.h"
#include "model/manifest.h"
#include "optimizer/plan.h"

static const char documentation[] =
    "Show what every parameter of a model would get: role, rule, layout, process grid, owners, work and memory. Runs "
    "alone, without MPI.\v"
    "The manifest is JSON: {\"parameters\": [{\"name\": ..., \"shape\": [...], \"module_type\": ...}, ...]}.\n\n"
    "Example:\n"
    "  equishard plan --config configs/qwen3.yaml --manifest tests/manifests/qwen3-0.6b.json --owners 8";

enum { option_config = 'c', option_manifest = 'm', option_owners = 'n', option_format = 'f' };

static const struct argp_option options[] = {
    {"config", option_config, "FILE", 0, "configuration (YAML)", 0},
    {"manifest", option_manifest, "FILE", 0, "the model's parameters (JSON)", 0},
    {"owners", option_owners, "N", 0, "number of owners (default 1)", 0},
    {"format", option_format, "table|json", 0, "a table, or an array with one object per parameter", 0},
    {0},
};

typedef struct {
  const char *config, *manifest;
  int owners;
  bool json;
} arguments;

static error_t parse(int key, char *value, struct argp_state *state)
{
  arguments *given = state->input;
  char *end;
  switch (key) {
  case option_config: given->config = value; break;
  case option_manifest: given->manifest = value; break;
  case option_owners: {
    long owners = strtol(value, &end, 10);
    if (*end != '\0' || owners < 1 || owners > 1000000) argp_error(state, "--owners takes a whole number from 1");
    given->owners = (int)owners;
    break;
  }
  case option_format:
    if (strcmp(value, "json") != 0 && strcmp(value, "table") != 0) argp_error(state, "--format is table or json");
    given->json = strcmp(value, "json") == 0;
    break;
  case ARGP_KEY_END:
    if (given->config == NULL || given->manifest == NULL) argp_error(state, "--config and --manifest are required");
    break;
  default: return ARGP_ERR_UNKNOWN;
  }
  return 0;
}

/* Whether owner `owner` has a shard of one of the parameter's matrices. */
static bool holds(const eqs_planned_parameter *parameter, int owner)
{
  for (int64_t i = 0; i < parameter->assignment.count; i++) {
    const eqs_planned_matrix *matrix = &parameter->matrix[i];
    int ranks = matrix->layout.grid_rows * matrix->layout.grid_cols;
    if (owner >= matrix->first_owner && owner < matrix->first_owner + ranks) return true;
  }
  return false;
}

static void grid_text(const eqs_planned_parameter *parameter, char *text, size_t size)
{
  const eqs_layout *layout = &parameter->matrix[0].layout;
  snprintf(text, size, "%dx%d", parameter->assignment.count > 0 ? layout->grid_rows : 1,
           parameter->assignment.count > 0 ? layout->grid_cols : 1);
}

static double parameter_flops(const eqs_planned_parameter *parameter)
{
  double flops = 0;
  for (int64_t i = 0; i < parameter->assignment.count; i++) flops += parameter->matrix[i].flops;
  return flops;
}

static json_t *describe(const eqs_plan *plan, const eqs_planned_parameter *parameter)
{
  const eqs_assignment *assignment = &parameter->assignment;
  char grid[32];
  json_t *shape = json_array(), *owners = json_array();
  for (int d = 0; d < parameter->info.ndim; d++) json_array_append_new(shape, json_integer(parameter->info.shape[d]));
  for (int o = 0; o < plan->owners; o++)
    if (holds(parameter, o)) json_array_append_new(owners, json_integer(o));
  grid_text(parameter, grid, sizeof grid);
  return json_pack("{s:s, s:o, s:s, s:s, s:s, s:I, s:s, s:o, s:f, s:I}", "name", parameter->info.name, "shape", shape,
                   "role", eqs_role_names[assignment->role], "rule", assignment->options.rule->name, "layout",
                   eqs_layout_names[assignment->layout], "matrices", (json_int_t)assignment->count, "grid", grid,
                   "owners", owners, "flops", parameter_flops(parameter), "bytes",
                   (json_int_t)eqs_planned_bytes(parameter));
}

static eqs_status print_json(const eqs_plan *plan)
{
  json_t *array = json_array();
  for (int64_t p = 0; p < plan->parameters; p++) json_array_append_new(array, describe(plan, &plan->parameter[p]));
  int failed = json_dumpf(array, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(15));
  json_decref(array);
  puts("");
  return failed || fflush(stdout) != 0 ? eqs_fail(EQS_IO, "the plan could not be written") : EQS_OK;
}

/* "0", "0-3", or "0,2,5" cut to the column. */
static void owners_text(const eqs_plan *plan, const eqs_planned_parameter *parameter, char *text, size_t size)
{
  size_t length = 0;
  text[0] = '\0';
  for (int o = 0; o < plan->owners; o++) {
    if (!holds(parameter, o)) continue;
    int last = o;
    while (last + 1 < plan->owners && holds(parameter, last + 1)) last++;
    char range[32];
    snprintf(range, sizeof range, last > o ? "%s%d-%d" : "%s%d", length ? "," : "", o, last);
    if (length + strlen(range) + 4 > size) {
      strcpy(text + length, ",..");
      return;
    }
    strcpy(text + length, range);
    length += strlen(range);
    o = last;
  }
}

static eqs_status print_table(const eqs_plan *plan)
{
  int width = 9;
  double flops = 0;
  int64_t bytes = 0, matrices = 0;
  for (int64_t p = 0; p < plan->parameters; p++) {
    int length = (int)strlen(plan->parameter[p].info.name);
    if (length > width) width = length;
  }
  printf("%-*s %-20s %-14s %-14s %-24s %8s %-6s %-12s %10s %10s\n", width, "parameter", "shape", "role", "rule",
         "layout", "matrices", "grid", "owners", "Gflop", "MiB");
  for (int64_t p = 0; p < plan->parameters; p++) {
    const eqs_planned_parameter *parameter = &plan->parameter[p];
    const eqs_assignment *assignment = &parameter->assignment;
    char shape[64] = "", grid[32], owners[16];
    size_t length = 0;
    for (int d = 0; d < parameter->info.ndim && length < sizeof shape; d++)
      length += (size_t)snprintf(shape + length, sizeof shape - length, "%s%lld", d ? "x" : "",
                                 (long long)parameter->info.shape[d]);
    grid_text(parameter, grid, sizeof grid);
    owners_text(plan, parameter, owners, sizeof owners);
    printf("%-*s %-20s %-14s %-14s %-24s %8lld %-6s %-12s %10.3f %10.2f\n", width, parameter->info.name, shape,
           eqs_role_names[assignment->role], assignment->options.rule->name, eqs_layout_names[assignment->layout],
           (long long)assignment->count, grid, owners, 1e-9 * parameter_flops(parameter),
           (double)eqs_planned_bytes(parameter) / 0x1p20);
    flops += parameter_flops(parameter);
    bytes += eqs_planned_bytes(parameter);
    matrices += assignment->count;
  }
  printf("\n%lld parameters, %lld matrices, %.3f Gflop per step, %.2f MiB\n", (long long)plan->parameters,
         (long long)matrices, 1e-9 * flops, (double)bytes / 0x1p20);
  printf("\n%-6s %14s %12s\n", "owner", "predicted s", "MiB");
  for (int o = 0; o < plan->owners; o++)
    printf("%-6d %14.4f %12.2f\n", o, plan->owner_seconds[o], (double)plan->owner_bytes[o] / 0x1p20);
  return fflush(stdout) != 0 ? eqs_fail(EQS_IO, "the plan could not be written") : EQS_OK;
}

eqs_status eqs_command_plan(int argc, char **argv)
{
  const struct argp argp = {.options = options, .parser = parse, .doc = documentation};
  arguments given = {.owners = 1};
  eqs_status status = EQS_OK;
  eqs_sources sources = {0};
  eqs_config *config = NULL;
  eqs_manifest manifest = {0};
  eqs_parameter_info *info = NULL;
  eqs_plan *plan = NULL;
  int done = 0;

  EQS_TRY(eqs_parse_arguments(&argp, argc, argv, &given, &done));
  if (done || eqs_world_rank() != 0) goto cleanup;
  EQS_TRY(eqs_sources_read(given.config, &sources));
  EQS_TRY(eqs_config_parse(&sources, &config));
  EQS_TRY(eqs_manifest_read(given.manifest, &manifest));
  EQS_TRY(eqs_allocate(&info, manifest.count, sizeof *info));
  for (int64_t p = 0; p < manifest.count; p++) {
    const eqs_manifest_entry *entry = &manifest.entries[p];
    info[p] = (eqs_parameter_info){
        .name = entry->name, .module_type = entry->module_type, .ndim = entry->ndim, .gradient = EQS_PARTIAL};
    memcpy(info[p].shape, entry->shape, sizeof entry->shape);
  }
  EQS_TRY(eqs_plan_make(config, given.owners, manifest.count, info, &plan));
  status = given.json ? print_json(plan) : print_table(plan);
cleanup:
  eqs_plan_free(&plan);
  free(info);
  eqs_manifest_free(&manifest);
  eqs_config_free(&config);
  eqs_sources_free(&sources);
  return status;
}
