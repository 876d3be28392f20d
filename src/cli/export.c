#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/arguments.h"
#include "base/log.h"
#include "base/numbers.h"
#include "cli/choice.h"
#include "cli/command.h"
#include "dist/communicator.h"
#include "weights/export.h"

static const char documentation[] =
    "Write the weights of a checkpoint (or of the one that `latest' names in a directory) as a safetensors file, which "
    "PyTorch and Hugging Face programs load. Every checksum is verified on the way; memory is a few MiB."
    "\vThe optimizer's state stays behind. float32 is exact; bfloat16 and float16 are rounded to nearest, ties to "
    "even. "
    "Under mpirun the first rank works alone. Exit status 4 if the checkpoint is damaged: then there is no output.\n\n"
    "Example:\n"
    "  equishard export runs/first/checkpoints --output model.safetensors \\\n"
    "    --dtype bfloat16 --exclude 'lm_head.*'\n";

static const struct argp_option options[] = {
    {"output", 'o', "FILE", 0, "safetensors file to write", 0},
    {"dtype", 'd', "DTYPE", 0, "float32 (the default), bfloat16 or float16", 0},
    {"saturate", 's', NULL, 0, "numbers too large for DTYPE become its largest; else they are an error", 0},
    {0},
};

typedef struct {
  const char *checkpoint, *output;
  eqs_dtype dtype;
  bool saturate;
  eqs_name_choice choice;
} arguments;

static error_t parse_dtype(const char *name, struct argp_state *state, eqs_dtype *dtype)
{
  for (*dtype = EQS_FLOAT32; *dtype <= EQS_FLOAT16; ++*dtype)
    if (strcmp(name, eqs_dtype_name(*dtype)) == 0) return 0;
  argp_error(state, "--dtype is float32, bfloat16 or float16, not %s", name);
  return EINVAL;
}

static error_t parse(int key, char *value, struct argp_state *state)
{
  arguments *given = state->input;
  switch (key) {
  case ARGP_KEY_INIT: state->child_inputs[0] = &given->choice; return 0;
  case 'o': given->output = value; return 0;
  case 's': given->saturate = true; return 0;
  case 'd': return parse_dtype(value, state, &given->dtype);
  case ARGP_KEY_ARG:
    if (given->checkpoint) {
      argp_error(state, "one checkpoint at a time");
      return EINVAL;
    }
    given->checkpoint = value;
    return 0;
  case ARGP_KEY_END:
    if (given->checkpoint && given->output) return 0;
    argp_error(state, "a CHECKPOINT and --output are required");
    return EINVAL;
  default: return ARGP_ERR_UNKNOWN;
  }
}

static eqs_status export(const arguments *given)
{
  eqs_weights_moved moved;
  eqs_status status =
      eqs_weights_export(given->checkpoint, given->output, given->dtype, &given->choice, given->saturate, &moved);
  if (status == EQS_OK)
    printf("%s: %lld tensors of step %lld, %lld elements, %s, %.1f MiB\n", given->output, (long long)moved.tensors,
           (long long)moved.step, (long long)moved.elements, eqs_dtype_name(given->dtype),
           (double)moved.bytes / (1 << 20));
  if (status == EQS_OK && moved.saturated > 0)
    eqs_log(EQS_LOG_WARNING, "%lld elements were beyond %s and became its largest number", (long long)moved.saturated,
            eqs_dtype_name(given->dtype));
  return status;
}

eqs_status eqs_command_export(int argc, char **argv)
{
  static const struct argp_child children[] = {{&eqs_choice_argp, 0, NULL, 0}, {0}};
  static const struct argp argp = {
      .options = options, .parser = parse, .args_doc = "CHECKPOINT", .doc = documentation, .children = children};
  arguments given = {0};
  bool done;
  eqs_status status = eqs_parse_arguments(&argp, argc, argv, eqs_world_rank() == 0, &given, &done);
  if (status == EQS_OK && !done) status = eqs_share_status(eqs_world_rank() == 0 ? export(&given) : EQS_OK);
  eqs_choice_free(&given.choice);
  return status;
}
