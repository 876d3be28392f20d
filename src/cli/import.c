#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arguments.h"
#include "base/log.h"
#include "base/memory.h"
#include "cli/choice.h"
#include "cli/command.h"
#include "dist/communicator.h"
#include "weights/import.h"

static const char documentation[] =
    "Make a checkpoint of step 0 from the weights in safetensors files (several are parts of one model). A job that "
    "resumes from it starts training with them, its optimizer's state at zero."
    "\vF32, BF16 and F16 are taken exactly, F64 rounded to float32; tensors of integers and of 8 bits are left out "
    "with a "
    "warning. Names and shapes must be the model's: leave out with --exclude what it does not have (often "
    "lm_head.weight, "
    "where that is the embedding). Under mpirun the ranks share the work; together they hold the model in float32 "
    "once.\n\n"
    "Files of torch.save: python3 -m equishard.convert MODEL.pt MODEL.safetensors first.\n\n"
    "Example:\n"
    "  equishard import model-0000*.safetensors --output initial.h5\n"
    "and in the training program\n"
    "  equishard.Optimizer(model, config, resume=\"initial.h5\")\n";

static const struct argp_option options[] = {
    {"output", 'o', "FILE", 0, "checkpoint to write (HDF5)", 0},
    {"saturate", 's', NULL, 0, "numbers of F64 too large for float32 become its largest; else they are an error", 0},
    {0},
};

typedef struct {
  int files;
  char **file;
  const char *output;
  bool saturate;
  eqs_name_choice choice;
} arguments;

static error_t parse(int key, char *value, struct argp_state *state)
{
  arguments *given = state->input;
  switch (key) {
  case ARGP_KEY_INIT: state->child_inputs[0] = &given->choice; return 0;
  case 'o': given->output = value; return 0;
  case 's': given->saturate = true; return 0;
  case ARGP_KEY_ARG:
    if (eqs_grow(&given->file, given->files, sizeof *given->file) != EQS_OK) return ENOMEM;
    given->file[given->files++] = value;
    return 0;
  case ARGP_KEY_END:
    if (given->files > 0 && given->output) return 0;
    argp_error(state, "a FILE and --output are required");
    return EINVAL;
  default: return ARGP_ERR_UNKNOWN;
  }
}

eqs_status eqs_command_import(int argc, char **argv)
{
  static const struct argp_child children[] = {{&eqs_choice_argp, 0, NULL, 0}, {0}};
  static const struct argp argp = {
      .options = options, .parser = parse, .args_doc = "FILE...", .doc = documentation, .children = children};
  arguments given = {0};
  eqs_weights_moved moved;
  bool done;
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_parse_arguments(&argp, argc, argv, eqs_world_rank() == 0, &given, &done));
  if (done) goto cleanup;
  EQS_TRY(
      eqs_weights_import(MPI_COMM_WORLD, given.files, given.file, given.output, &given.choice, given.saturate, &moved));
  if (eqs_world_rank() == 0)
    printf("%s: %lld tensors, %lld elements\n", given.output, (long long)moved.tensors, (long long)moved.elements);
  if (eqs_world_rank() == 0 && moved.saturated > 0)
    eqs_log(EQS_LOG_WARNING, "%lld elements were beyond float32 and became its largest number",
            (long long)moved.saturated);
cleanup:
  free(given.file);
  eqs_choice_free(&given.choice);
  return status;
}
