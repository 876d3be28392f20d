#include <errno.h>

#include "bench/bench.h"
#include "bench/training.h"
#include "dist/communicator.h"

static const char documentation[] =
    "Time training steps of synthetic trainers over a model: pushes spread over a backward pass, step, pulls. The "
    "first "
    "ranks are trainers, the others owners; when all are trainers, every rank is both (mode embedded).\v"
    "The configuration's own `mode' does not matter. Efficiency is by work and bytes, of all ranks, trainers included. "
    "`waited' are the seconds that a step keeps the slowest trainer from its own work, `hidden' is the part of the "
    "owners' work that no trainer waited for.\n\n"
    "Example:\n"
    "  mpirun -np 4 equishard bench service --manifest tests/manifests/qwen3-0.6b.json \\\n"
    "    --config configs/qwen3.yaml --trainers 3 --backward 2 --steps 5";

enum {
  option_config = 'c',
  option_manifest = 'm',
  option_trainers = 't',
  option_backward = 'b',
  option_steps = 'k',
  option_compute = 'C'
};

static const struct argp_option options[] = {
    {"config", option_config, "FILE", 0, "configuration (YAML)", 0},
    {"manifest", option_manifest, "FILE", 0, "the model's parameters (JSON)", 0},
    {"trainers", option_trainers, "T", 0, "how many ranks train (default: all)", 0},
    {"backward", option_backward, "SECONDS", 0, "over which the gradients become complete (default: at once)", 0},
    {"compute", option_compute, NULL, 0, "keep the trainers' cores busy with products meanwhile; else they sleep", 0},
    {"steps", option_steps, "N", 0, "timed steps: another name of --repeat", 0},
    {0},
};

typedef struct {
  eqs_bench_options common;
  const char *config, *manifest;
  int64_t trainers; /* 0: all ranks */
  double backward;
  bool computes;
} arguments;

static error_t parse(int key, char *value, struct argp_state *state)
{
  arguments *given = state->input;
  switch (key) {
  case ARGP_KEY_INIT: state->child_inputs[0] = &given->common; return 0;
  case option_config: given->config = value; return 0;
  case option_manifest: given->manifest = value; return 0;
  case option_trainers: return eqs_parse_integer(state, "trainers", value, 1, INT32_MAX, &given->trainers);
  case option_backward: return eqs_parse_number(state, "backward", value, &given->backward);
  case option_compute: given->computes = true; return 0;
  case option_steps: return eqs_parse_integer(state, "steps", value, 1, 100000, &given->common.repeat);
  case ARGP_KEY_END:
    if (given->config != NULL && given->manifest != NULL) return 0;
    argp_error(state, "--config and --manifest are required");
    return EINVAL;
  default: return ARGP_ERR_UNKNOWN;
  }
}

static eqs_status measure_cases(eqs_bench *bench, const void *context)
{
  const arguments *given = context;
  if (given->trainers > bench->ranks)
    return eqs_agree(bench->comm, eqs_fail(EQS_USAGE, "--trainers %lld, but there are %d ranks",
                                           (long long)given->trainers, bench->ranks));
  return eqs_bench_training_measure(
      bench, &(eqs_bench_training){.name = "service",
                                   .config = given->config,
                                   .manifest = given->manifest,
                                   .trainers = given->trainers > 0 ? (int)given->trainers : bench->ranks,
                                   .backward = given->backward,
                                   .computes = given->computes});
}

eqs_status eqs_bench_service(int argc, char **argv)
{
  const struct argp_child children[] = {{&eqs_bench_argp, 0, NULL, 0}, {0}};
  const struct argp argp = {.options = options, .parser = parse, .doc = documentation, .children = children};
  arguments given = {.common = eqs_bench_defaults()};
  bool done = false;
  eqs_status status = eqs_parse_arguments(&argp, argc, argv, eqs_world_rank() == 0, &given, &done);
  if (status != EQS_OK || done) return status;
  return eqs_bench_run(&given.common, measure_cases, &given);
}
