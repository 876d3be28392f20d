#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arguments.h"
#include "base/log.h"
#include "base/memory.h"
#include "cli/command.h"
#include "dist/communicator.h"
#include "model/assign.h"
#include "model/calibration.h"
#include "model/layout.h"
#include "model/manifest.h"
#include "optimizer/plan.h"
#include "optimizer/warnings.h"

static const char documentation[] =
    "Show what every parameter of a model would get: role, rule, layout, process grid, owners, work and memory. Runs "
    "alone, without MPI.\v"
    "The manifest is JSON: {\"parameters\": [{\"name\": ..., \"shape\": [...], \"module_type\": ...}, ...]}. Beside "
    "\"parameters\" may stand what the model's configuration says of its heads: \"num_attention_heads\", "
    "\"num_key_value_heads\", \"head_dim\" (or \"hidden_size\"), and for DeepSeek \"qk_nope_head_dim\", "
    "\"qk_rope_head_dim\", \"v_head_dim\": they tell what is fused in a tensor, and `layout: auto' what the heads are. "
    "\"stacked\": true in an entry: its first dimension counts layers. An entry "
    "with \"tied_to\": NAME is the same tensor as entry NAME, as lm_head.weight and model.embed_tokens.weight are with "
    "\"tie_word_embeddings\": true beside \"parameters\": one parameter, which has one owner and one update, under the "
    "embedding's name and role. The other name is shown as tied in the table, and left out of the array.\n\n"
    "Gflop are 1e9 floating-point operations per step, MiB what is held: weights, state and gradients; peak MiB "
    "counts the program and the largest workspace too. Times are predicted from built-in speeds or the "
    "configuration's `calibration' (see `equishard bench calibrate').\n\n"
    "Warnings say what may not be meant: roles that are guesses, groups that get nothing, fused tensors that are one "
    "matrix, matrices that only the last group takes; and the line to write.\n\n"
    "Several numbers of owners are compared: seconds per step of the busiest owner's updates and messages (one "
    "gradient in, one weight out for each of T trainers), what of it is longer than the trainers' forward and backward "
    "of SECONDS, and the largest owner's memory. As many owners are enough as bring the waiting to 0.\n\n"
    "Example:\n"
    "  equishard plan --config configs/qwen3.yaml --manifest tests/manifests/qwen3-0.6b.json --owners 8\n"
    "  equishard plan --config configs/qwen3.yaml --manifest tests/manifests/qwen3-0.6b.json --owners 1,2,4,8,16 "
    "--trainers 8 --backward 0.5";

enum {
  option_config = 'c',
  option_manifest = 'm',
  option_owners = 'n',
  option_format = 'f',
  option_strict = 's',
  option_trainers = 't',
  option_backward = 'b'
};

static const struct argp_option options[] = {
    {"config", option_config, "FILE", 0, "configuration (YAML)", 0},
    {"manifest", option_manifest, "FILE", 0, "the model's parameters (JSON)", 0},
    {"owners", option_owners, "N[,N...]", 0, "number of owners (default 1); of several: compare them", 0},
    {"trainers", option_trainers, "T", 0, "number of trainers, for the predicted messages (default 1)", 0},
    {"backward", option_backward, "SECONDS", 0, "time of forward and backward, for the comparison (default 0)", 0},
    {"format", option_format, "table|json", 0, "a table, or an array with one object per parameter (or per owners)", 0},
    {"strict", option_strict, NULL, 0, "warnings are errors: status 2, and no plan", 0},
    {0},
};

enum { most_counts = 64 };

typedef struct {
  const char *config, *manifest;
  int counts, owners[most_counts]; /* to compare, if several */
  int trainers;
  double backward;
  bool json, strict;
} arguments;

/* A whole number from 1 to a million, up to `end`. */
static bool read_count(const char *text, int *count, const char **rest)
{
  char *end;
  long value = strtol(text, &end, 10);
  if (end == text || value < 1 || value > 1000000) return false;
  *count = (int)value, *rest = end;
  return true;
}

static bool read_owners(const char *text, arguments *given)
{
  given->counts = 0;
  while (given->counts < most_counts && read_count(text, &given->owners[given->counts], &text)) {
    given->counts++;
    if (*text == '\0') return true;
    if (*text++ != ',') return false;
  }
  return false;
}

static error_t parse(int key, char *value, struct argp_state *state)
{
  arguments *given = state->input;
  const char *rest;
  char *end;
  switch (key) {
  case option_config: given->config = value; break;
  case option_manifest: given->manifest = value; break;
  case option_owners:
    if (!read_owners(value, given)) {
      argp_error(state, "--owners takes a whole number from 1, or several with commas between");
      return EINVAL;
    }
    break;
  case option_trainers:
    if (!read_count(value, &given->trainers, &rest) || *rest != '\0') {
      argp_error(state, "--trainers takes a whole number from 1");
      return EINVAL;
    }
    break;
  case option_backward:
    given->backward = strtod(value, &end);
    if (end == value || *end != '\0' || !(given->backward >= 0 && given->backward < 1e9)) {
      argp_error(state, "--backward takes a number of seconds");
      return EINVAL;
    }
    break;
  case option_format:
    if (strcmp(value, "json") != 0 && strcmp(value, "table") != 0) {
      argp_error(state, "--format is table or json");
      return EINVAL;
    }
    given->json = strcmp(value, "json") == 0;
    break;
  case option_strict: given->strict = true; break;
  case ARGP_KEY_END:
    if (given->config == NULL || given->manifest == NULL) {
      argp_error(state, "--config and --manifest are required");
      return EINVAL;
    }
    break;
  default: return ARGP_ERR_UNKNOWN;
  }
  return 0;
}

/* A manifest and its plan; ties make the plan shorter than the manifest. */
typedef struct {
  eqs_manifest manifest;
  eqs_plan *plan;
} model;

static int64_t rank_count(const eqs_planned_matrix *matrix)
{
  return (int64_t)matrix->distribution.grid_rows * matrix->distribution.grid_cols;
}

/* Which owners have a shard of one of the parameter's matrices. */
static void find_holders(const eqs_plan *plan, const eqs_planned_parameter *parameter, bool *holds)
{
  memset(holds, 0, (size_t)plan->owners * sizeof *holds);
  for (int64_t i = 0; i < parameter->assignment.count; i++) {
    const eqs_planned_matrix *matrix = &parameter->matrix[i];
    for (int64_t rank = 0; rank < rank_count(matrix); rank++) holds[matrix->first_owner + rank] = true;
  }
}

static void grid_text(const eqs_planned_parameter *parameter, char *text, size_t size)
{
  bool empty = parameter->assignment.count == 0;
  snprintf(text, size, "%dx%d", empty ? 1 : parameter->matrix[0].distribution.grid_rows,
           empty ? 1 : parameter->matrix[0].distribution.grid_cols);
}

static double parameter_flops(const eqs_planned_parameter *parameter)
{
  double flops = 0;
  for (int64_t i = 0; i < parameter->assignment.count; i++) flops += parameter->matrix[i].flops;
  return flops;
}

static json_t *describe(const eqs_plan *plan, const eqs_planned_parameter *parameter, bool *holds)
{
  const eqs_assignment *assignment = &parameter->assignment;
  char grid[32];
  json_t *shape = json_array(), *owners = json_array();
  for (int d = 0; d < parameter->info.ndim; d++) json_array_append_new(shape, json_integer(parameter->info.shape[d]));
  find_holders(plan, parameter, holds);
  for (int o = 0; o < plan->owners; o++)
    if (holds[o]) json_array_append_new(owners, json_integer(o));
  grid_text(parameter, grid, sizeof grid);
  return json_pack("{s:s, s:o, s:s, s:s, s:s, s:I, s:s, s:o, s:f, s:I}", "name", parameter->info.name, "shape", shape,
                   "role", eqs_role_names[assignment->role], "rule", assignment->options.rule->name, "layout",
                   eqs_layout_names[assignment->layout], "matrices", (json_int_t)assignment->count, "grid", grid,
                   "owners", owners, "flops", parameter_flops(parameter), "bytes",
                   (json_int_t)eqs_planned_bytes(parameter));
}

static eqs_status finish_output(bool failed)
{
  failed = fflush(stdout) != 0 || ferror(stdout) || failed;
  return failed ? eqs_fail(EQS_IO, "the plan could not be written: %s", strerror(errno)) : EQS_OK;
}

static eqs_status print_json(const eqs_plan *plan)
{
  eqs_status status = EQS_OK;
  bool *holds = NULL;
  json_t *array = json_array();
  EQS_TRY(eqs_allocate(&holds, plan->owners, sizeof *holds));
  for (int64_t p = 0; p < plan->parameters; p++)
    if (json_array_append_new(array, describe(plan, &plan->parameter[p], holds)) != 0)
      EQS_TRY(eqs_fail(EQS_FAILED, "out of memory"));
  bool failed = json_dumpf(array, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(15)) != 0;
  puts("");
  status = finish_output(failed);
cleanup:
  json_decref(array);
  free(holds);
  return status;
}

/* "0", "0-3", or "0,2,5" cut to the column. */
static void owners_text(const bool *holds, int owners, char *text, size_t size)
{
  size_t length = 0;
  text[0] = '\0';
  for (int o = 0; o < owners; o++) {
    if (!holds[o]) continue;
    int last = o;
    while (last + 1 < owners && holds[last + 1]) last++;
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

static void print_row(const eqs_plan *plan, const eqs_planned_parameter *parameter, int width, bool *holds)
{
  const eqs_assignment *assignment = &parameter->assignment;
  char shape[64], grid[32], owners[16];
  eqs_shape_brief(parameter->info.ndim, parameter->info.shape, shape, sizeof shape);
  grid_text(parameter, grid, sizeof grid);
  find_holders(plan, parameter, holds);
  owners_text(holds, plan->owners, owners, sizeof owners);
  printf("%-*s %-20s %-14s %-14s %-24s %8lld %-6s %-12s %10.3f %10.2f\n", width, parameter->info.name, shape,
         eqs_role_names[assignment->role], assignment->options.rule->name, eqs_layout_names[assignment->layout],
         (long long)assignment->count, grid, owners, 1e-9 * parameter_flops(parameter),
         (double)eqs_planned_bytes(parameter) / 0x1p20);
}

/* In the manifest's order. */
static void print_parameters(const model *shown, bool *holds)
{
  int width = (int)strlen("parameter");
  const eqs_planned_parameter *next = shown->plan->parameter;
  for (int64_t i = 0; i < shown->manifest.count; i++) {
    int length = (int)strlen(shown->manifest.entries[i].name);
    if (length > width) width = length;
  }
  printf("%-*s %-20s %-14s %-14s %-24s %8s %-6s %-12s %10s %10s\n", width, "parameter", "shape", "role", "rule",
         "layout", "matrices", "grid", "owners", "Gflop", "MiB");
  for (int64_t i = 0; i < shown->manifest.count; i++) {
    const eqs_manifest_entry *entry = &shown->manifest.entries[i];
    if (entry->tied_to != NULL)
      printf("%-*s tied to %s\n", width, entry->name, entry->tied_to->name);
    else
      print_row(shown->plan, next++, width, holds);
  }
}

/* What an owner has of all parameters. A matrix counts with every owner that has a shard of it. */
typedef struct {
  int64_t matrices;
  double flops;
} share;

static void add_shares(const eqs_planned_parameter *parameter, share *shares)
{
  for (int64_t i = 0; i < parameter->assignment.count; i++) {
    const eqs_planned_matrix *matrix = &parameter->matrix[i];
    for (int64_t rank = 0; rank < rank_count(matrix); rank++) {
      share *owner = &shares[matrix->first_owner + rank];
      owner->matrices++;
      owner->flops += matrix->flops / (double)rank_count(matrix);
    }
  }
}

static void print_totals(const model *shown, share *shares)
{
  const eqs_plan *plan = shown->plan;
  double flops = 0;
  int64_t bytes = 0, matrices = 0;
  for (int64_t p = 0; p < plan->parameters; p++) {
    add_shares(&plan->parameter[p], shares);
    flops += parameter_flops(&plan->parameter[p]);
    bytes += eqs_planned_bytes(&plan->parameter[p]);
    matrices += plan->parameter[p].assignment.count;
  }
  int64_t tied = shown->manifest.count - plan->parameters;
  printf("\n%lld parameters, ", (long long)plan->parameters);
  if (tied > 0) printf("%lld more names tied to them, ", (long long)tied);
  printf("%lld matrices, %.3f Gflop per step, %.2f MiB\n", (long long)matrices, 1e-9 * flops, (double)bytes / 0x1p20);
  printf("\n%-6s %14s %12s %14s %9s %12s\n", "owner", "predicted s", "MiB", "Gflop", "matrices", "peak MiB");
  for (int o = 0; o < plan->owners; o++)
    printf("%-6d %14.4f %12.2f %14.3f %9lld %12.2f\n", o, plan->owner_seconds[o], (double)plan->owner_bytes[o] / 0x1p20,
           1e-9 * shares[o].flops, (long long)shares[o].matrices, (double)plan->owner_peak[o] / 0x1p20);
}

static eqs_status print_table(const model *shown)
{
  eqs_status status = EQS_OK;
  bool *holds = NULL;
  share *shares = NULL;
  EQS_TRY(eqs_allocate(&holds, shown->plan->owners, sizeof *holds));
  EQS_TRY(eqs_allocate(&shares, shown->plan->owners, sizeof *shares));
  print_parameters(shown, holds);
  print_totals(shown, shares);
  status = finish_output(false);
cleanup:
  free(holds);
  free(shares);
  return status;
}

static eqs_status make_plan(const eqs_config *config, int owners, model *shown)
{
  eqs_status status = EQS_OK;
  eqs_parameter_info *info = NULL;
  int64_t parameters = 0;
  EQS_TRY(eqs_manifest_parameters(&shown->manifest, &info, &parameters));
  EQS_TRY(eqs_plan_make(config, &shown->manifest.model, owners, parameters, info, &shown->plan));
cleanup:
  free(info);
  return status;
}

/* What a number of owners comes to, predicted. */
typedef struct {
  int owners;
  double update, messages; /* seconds per step, of the busiest owner */
  double waiting;          /* of it, what forward and backward do not hide */
  int64_t peak;            /* bytes, of the largest owner */
} prediction;

static eqs_status predict(const eqs_config *config, const arguments *given, int owners, model *shown,
                          prediction *predicted)
{
  eqs_status status = EQS_OK;
  eqs_plan_free(&shown->plan);
  EQS_TRY(make_plan(config, owners, shown));
  *predicted =
      (prediction){.owners = owners, .messages = eqs_plan_message_seconds(config, shown->plan, given->trainers)};
  for (int o = 0; o < owners; o++) {
    predicted->update = fmax(predicted->update, shown->plan->owner_seconds[o]);
    if (shown->plan->owner_peak[o] > predicted->peak) predicted->peak = shown->plan->owner_peak[o];
  }
  predicted->waiting = fmax(0, predicted->update + predicted->messages - given->backward);
cleanup:
  return status;
}

static eqs_status compare(const eqs_config *config, const arguments *given, model *shown)
{
  eqs_status status = EQS_OK;
  prediction predicted;
  json_t *array = json_array();
  if (!given->json) printf("%-8s %12s %12s %12s %12s\n", "owners", "update s", "messages s", "waiting s", "peak MiB");
  for (int i = 0; i < given->counts; i++) {
    EQS_TRY(predict(config, given, given->owners[i], shown, &predicted));
    if (given->json)
      json_array_append_new(array, json_pack("{s:i, s:f, s:f, s:f, s:I}", "owners", predicted.owners, "update",
                                             predicted.update, "messages", predicted.messages, "waiting",
                                             predicted.waiting, "peak_bytes", (json_int_t)predicted.peak));
    else
      printf("%-8d %12.4f %12.4f %12.4f %12.2f\n", predicted.owners, predicted.update, predicted.messages,
             predicted.waiting, (double)predicted.peak / 0x1p20);
  }
  bool failed = given->json && json_dumpf(array, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(15)) != 0;
  if (given->json) puts("");
  status = finish_output(failed);
cleanup:
  json_decref(array);
  return status;
}

/* Say what may not be meant; the plan of any number of owners tells it. */
static eqs_status say_warnings(const eqs_config *config, const eqs_plan *plan, bool strict)
{
  eqs_status status = EQS_OK;
  eqs_warnings warnings = {0};
  EQS_TRY(eqs_plan_warnings(config, plan, INT64_MAX, &warnings));
  for (int i = 0; i < warnings.count; i++) eqs_log(strict ? EQS_LOG_ERROR : EQS_LOG_WARNING, "%s", warnings.text[i]);
  if (strict && warnings.count > 0)
    status = eqs_fail(EQS_USAGE, "--strict: %d warning%s", warnings.count, warnings.count > 1 ? "s" : "");
cleanup:
  eqs_warnings_free(&warnings);
  return status;
}

eqs_status eqs_command_plan(int argc, char **argv)
{
  const struct argp argp = {.options = options, .parser = parse, .doc = documentation};
  arguments given = {.counts = 1, .owners = {1}, .trainers = 1};
  eqs_sources sources = {0};
  eqs_config *config = NULL;
  model shown = {0};
  bool done = false;
  eqs_status status =
      eqs_parse_arguments(&argp, argc, argv, eqs_world_rank() == 0, &given, &done); /* prints what is wrong */
  if (status != EQS_OK || done) return status;
  if (eqs_world_rank() != 0) return eqs_share_status(EQS_OK);

  EQS_TRY(eqs_sources_read(given.config, &sources));
  EQS_TRY(eqs_config_parse(&sources, &config));
  EQS_TRY(eqs_config_calibrate(config));
  EQS_TRY(eqs_manifest_read(given.manifest, &shown.manifest));
  EQS_TRY(make_plan(config, given.owners[0], &shown));
  EQS_TRY(say_warnings(config, shown.plan, given.strict));
  if (given.counts > 1) {
    status = compare(config, &given, &shown);
    goto cleanup;
  }
  status = given.json ? print_json(shown.plan) : print_table(&shown);
cleanup:
  status = eqs_share_status(status);
  eqs_plan_free(&shown.plan);
  eqs_manifest_free(&shown.manifest);
  eqs_config_free(&config);
  eqs_sources_free(&sources);
  return status;
}
