#include <errno.h>

#include "bench/bench.h"
#include "bench/model.h"
#include "bench/training.h"
#include "dist/communicator.h"

static const char documentation[] =
    "Time an optimizer step over all parameters of a model, every rank an owner, with pseudo-random gradients that are "
    "in the shards already; or, with --transport, as trainers that are owners too see it: push, step and pull of every "
    "parameter.\v"
    "Efficiency is by work and bytes: the sum over all matrices of minimal work / peak and minimal bytes / triad, "
    "against the time.\n\n"
    "Example:\n"
    "  mpirun -np 2 equishard bench step --manifest tests/manifests/qwen3-0.6b.json --config configs/qwen3.yaml";

enum { option_config = 'c', option_manifest = 'm', option_transport = 't' };

static const struct argp_option options[] = {
    {"config", option_config, "FILE", 0, "configuration (YAML)", 0},
    {"manifest", option_manifest, "FILE", 0, "the model's parameters (JSON)", 0},
    {"transport", option_transport, NULL, 0, "with the transport of gradients and weights", 0},
    {0},
};

typedef struct {
  eqs_bench_options common;
  const char *config, *manifest;
  bool transport;
} arguments;

static error_t parse(int key, char *value, struct argp_state *state)
{
  arguments *given = state->input;
  switch (key) {
  case ARGP_KEY_INIT: state->child_inputs[0] = &given->common; return 0;
  case option_config: given->config = value; return 0;
  case option_manifest: given->manifest = value; return 0;
  case option_transport: given->transport = true; return 0;
  case ARGP_KEY_END:
    if (given->config != NULL && given->manifest != NULL) return 0;
    argp_error(state, "--config and --manifest are required");
    return EINVAL;
  default: return ARGP_ERR_UNKNOWN;
  }
}

static eqs_status measure_shards(eqs_bench *bench, const arguments *given)
{
  eqs_status status = EQS_OK;
  eqs_bench_model model = {0};
  eqs_bench_case made = {.efficiency = EQS_BY_BOTH};
  EQS_TRY(eqs_agree(bench->comm, eqs_bench_model_read(given->config, given->manifest, bench->ranks, &model)));
  EQS_TRY(eqs_bench_model_measure(bench, &model, &made.timing));
  eqs_bench_model_describe(&model, "step", &made);
  EQS_TRY(eqs_agree(bench->comm, eqs_bench_table_add(&bench->table, &made)));
cleanup:
  eqs_bench_case_free(&made);
  eqs_bench_model_free(&model);
  return status;
}

static eqs_status measure_cases(eqs_bench *bench, const void *context)
{
  const arguments *given = context;
  if (!given->transport) return measure_shards(bench, given);
  return eqs_bench_training_measure(
      bench, &(eqs_bench_training){
                 .name = "transport", .config = given->config, .manifest = given->manifest, .trainers = bench->ranks});
}

eqs_status eqs_bench_step(int argc, char **argv)
{
  const struct argp_child children[] = {{&eqs_bench_argp, 0, NULL, 0}, {0}};
  const struct argp argp = {.options = options, .parser = parse, .doc = documentation, .children = children};
  arguments given = {.common = eqs_bench_defaults()};
  bool done = false;
  eqs_status status = eqs_parse_arguments(&argp, argc, argv, eqs_world_rank() == 0, &given, &done);
  if (status != EQS_OK || done) return status;
  return eqs_bench_run(&given.common, measure_cases, &given);
}
