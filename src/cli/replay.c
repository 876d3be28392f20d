#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/arguments.h"
#include "base/memory.h"
#include "checkpoint/save_optimizer.h"
#include "cli/command.h"
#include "cli/recording.h"
#include "dist/communicator.h"
#include "model/calibration.h"
#include "model/manifest.h"
#include "optimizer/optimizer.h"
#include "optimizer/shards.h"
#include "optimizer/step.h"

static const char documentation[] =
    "Apply a configuration to recorded gradients and write a checkpoint. The recording is HDF5: "
    "/parameters/<name>/weight "
    "are the initial weights, /gradients/<t>/<name> the gradients of step t = 0, 1, ... Runs on any number of ranks, "
    "all "
    "of them owners.\v"
    "Roles follow from the names; a manifest (JSON) beside the gradients may give the modules' types.\n\n"
    "Example:\n"
    "  mpirun -np 2 equishard replay --config configs/rules/muon.yaml --gradients G.h5 --output OUT.h5";

enum { option_config = 'c', option_gradients = 'g', option_output = 'o', option_manifest = 'm' };

static const struct argp_option options[] = {
    {"config", option_config, "FILE", 0, "configuration (YAML)", 0},
    {"gradients", option_gradients, "FILE", 0, "recorded weights and gradients (HDF5)", 0},
    {"output", option_output, "FILE", 0, "checkpoint to write (HDF5)", 0},
    {"manifest", option_manifest, "FILE", 0, "module types of the parameters (JSON)", 0},
    {0},
};

typedef struct {
  const char *config, *gradients, *output, *manifest;
} arguments;

static error_t parse(int key, char *value, struct argp_state *state)
{
  arguments *given = state->input;
  switch (key) {
  case option_config: given->config = value; break;
  case option_gradients: given->gradients = value; break;
  case option_output: given->output = value; break;
  case option_manifest: given->manifest = value; break;
  case ARGP_KEY_END:
    if (given->config == NULL || given->gradients == NULL || given->output == NULL) {
      argp_error(state, "--config, --gradients and --output are required");
      return EINVAL;
    }
    break;
  default: return ARGP_ERR_UNKNOWN;
  }
  return 0;
}

static eqs_status read_config(const char *path, eqs_config **config)
{
  eqs_sources sources = {0};
  eqs_status status = eqs_sources_read(path, &sources);
  if (status == EQS_OK) status = eqs_config_parse(&sources, config);
  if (status == EQS_OK) status = eqs_config_calibrate(*config);
  eqs_sources_free(&sources);
  return status;
}

/* Parameters as the recording lists them; module types from the manifest, if there is one. */
static eqs_status list_parameters(const eqs_recording *recording, const eqs_manifest *manifest,
                                  eqs_parameter_info **info)
{
  eqs_status status = eqs_allocate(info, recording->parameters, sizeof **info);
  for (int64_t p = 0; status == EQS_OK && p < recording->parameters; p++) {
    const eqs_recorded *recorded = &recording->parameter[p];
    const eqs_manifest_entry *entry = eqs_manifest_find(manifest, recorded->name);
    (*info)[p] = (eqs_parameter_info){.name = recorded->name,
                                      .module_type = entry != NULL ? entry->module_type : NULL,
                                      .ndim = recorded->ndim,
                                      .stacked = entry != NULL && entry->stacked,
                                      .gradient_placement = EQS_REPLICATE};
    memcpy((*info)[p].shape, recorded->shape, sizeof recorded->shape);
  }
  return status;
}

/* Reading of the weights, or of the gradients of a step. */
typedef struct {
  eqs_optimizer *optimizer;
  bool gradients;
} loading;

/* A whole tensor into this rank's shards of a parameter. */
static eqs_status load(void *context, int64_t p, bool present, const float *tensor)
{
  const loading *load = context;
  if (load->gradients) load->optimizer->parameter[p].present = present;
  if (tensor == NULL) return EQS_OK;
  return eqs_shards_take(load->optimizer, p, load->gradients ? EQS_SHARDS_GRADIENT : EQS_SHARDS_WEIGHT, tensor);
}

/* Whether this rank has a part of a parameter. */
static bool has_part(const eqs_optimizer *optimizer, int64_t p)
{
  for (int64_t i = 0; i < optimizer->plan->parameter[p].assignment.count; i++)
    if (optimizer->parameter[p].matrix[i].grid != NULL) return true;
  return false;
}

/* The weights (t = -1) or the gradients of step t. */
static eqs_status load_all(const eqs_recording *recording, eqs_optimizer *optimizer, int64_t t)
{
  eqs_status status = EQS_OK;
  bool *wanted = NULL;
  loading job = {.optimizer = optimizer, .gradients = t >= 0};
  EQS_TRY(eqs_allocate(&wanted, recording->parameters, sizeof *wanted));
  for (int64_t p = 0; p < recording->parameters; p++) wanted[p] = has_part(optimizer, p);
  EQS_TRY(eqs_recording_read(recording, t, wanted, load, &job));
cleanup:
  free(wanted);
  return eqs_agree(optimizer->owners, status);
}

static eqs_status take_steps(const eqs_recording *recording, eqs_optimizer *optimizer)
{
  eqs_status status = EQS_OK;
  EQS_TRY(load_all(recording, optimizer, -1));
  for (int64_t t = 0; t < recording->steps; t++) {
    EQS_TRY(load_all(recording, optimizer, t));
    EQS_TRY(eqs_agree(optimizer->owners, eqs_optimizer_step(optimizer, 1)));
  }
cleanup:
  return status;
}

eqs_status eqs_command_replay(int argc, char **argv)
{
  const struct argp argp = {.options = options, .parser = parse, .doc = documentation};
  arguments given = {0};
  eqs_status status = EQS_OK;
  eqs_config *config = NULL;
  eqs_manifest manifest = {0};
  eqs_recording recording = {0};
  eqs_parameter_info *info = NULL;
  eqs_plan *plan = NULL;
  eqs_optimizer *optimizer = NULL;
  bool done = false;
  int ranks;
  MPI_Comm owners = MPI_COMM_WORLD;

  EQS_TRY(eqs_parse_arguments(&argp, argc, argv, eqs_world_rank() == 0, &given, &done));
  if (done) goto cleanup;
  MPI_Comm_size(owners, &ranks);
  status = read_config(given.config, &config);
  if (status == EQS_OK && given.manifest != NULL) status = eqs_manifest_read(given.manifest, &manifest);
  if (status == EQS_OK) status = eqs_recording_open(given.gradients, &recording);
  if (status == EQS_OK) status = list_parameters(&recording, &manifest, &info);
  if (status == EQS_OK) status = eqs_plan_make(config, &manifest.model, ranks, recording.parameters, info, &plan);
  EQS_TRY(eqs_agree(owners, status));
  EQS_TRY(eqs_optimizer_create(config, plan, owners, &optimizer));
  EQS_TRY(take_steps(&recording, optimizer));
  EQS_TRY(eqs_checkpoint_write_optimizer(optimizer, given.output));
cleanup:
  eqs_optimizer_destroy(&optimizer);
  eqs_plan_free(&plan);
  free(info);
  eqs_recording_close(&recording);
  eqs_manifest_free(&manifest);
  eqs_config_free(&config);
  return status;
}
