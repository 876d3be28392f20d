#include "base/arguments.h"
#include "cli/command.h"
#include "dist/communicator.h"

static const char documentation[] =
    "Be an owner: hold shards of the weights and of the optimizer's state for the trainers of the same MPI job, until "
    "they close the session. The configuration comes from the trainers. Waiting owners do not keep a core busy.\v"
    "Example:\n"
    "  mpirun -np 4 python3 pretrain.py : -np 2 equishard serve";

eqs_status eqs_command_serve(int argc, char **argv)
{
  const struct argp argp = {.doc = documentation};
  bool done = false;
  eqs_status status = eqs_parse_arguments(&argp, argc, argv, eqs_world_rank() == 0, NULL, &done);
  if (status != EQS_OK || done) return status;
  return eqs_serve_all(MPI_COMM_WORLD);
}
