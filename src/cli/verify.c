#include <errno.h>
#include <stdio.h>

#include "base/arguments.h"
#include "checkpoint/verify.h"
#include "cli/command.h"
#include "dist/communicator.h"

static error_t parse(int key, char *argument, struct argp_state *state)
{
  const char **file = state->input;
  switch (key) {
  case ARGP_KEY_ARG:
    if (*file) {
      argp_error(state, "one file at a time");
      return EINVAL;
    }
    *file = argument;
    return 0;
  case ARGP_KEY_NO_ARGS: argp_error(state, "a FILE is missing"); return EINVAL;
  default: return ARGP_ERR_UNKNOWN;
  }
}

static void print_damage(const char *parameter, const char *tensor, int64_t first_row, int64_t end_row)
{
  printf("damaged: %s/%s, rows %lld to %lld\n", parameter, tensor, (long long)first_row, (long long)end_row - 1);
}

eqs_status eqs_command_verify(int argc, char **argv)
{
  static const struct argp argp = {
      .parser = parse,
      .args_doc = "FILE",
      .doc = "Check whether a checkpoint is whole: its form, the checksum of its attributes and of every tile of its "
             "tensors. FILE may be a directory: then the checkpoint that `latest' names is checked. Under mpirun the "
             "ranks share the work.\vExit status 4 if it is damaged; the damaged parameters and rows are printed.\n\n"
             "Example:\n  mpirun -np 4 equishard verify runs/example/checkpoints/step-00000100.h5\n"};
  const char *file = NULL;
  bool done;
  int64_t tiles, bytes;
  eqs_status status = eqs_parse_arguments(&argp, argc, argv, eqs_world_rank() == 0, &file, &done);
  if (status != EQS_OK || done) return status;
  status = eqs_checkpoint_verify(MPI_COMM_WORLD, file, print_damage, &tiles, &bytes);
  if (status == EQS_OK && eqs_world_rank() == 0)
    printf("whole: %lld tiles, %.1f MiB\n", (long long)tiles, (double)bytes / (1 << 20));
  return status;
}
