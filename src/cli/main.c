/* `equishard`: dispatch to the subcommands, and the exit status of the job. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bench/bench.h"
#include "cli/command.h"
#include "dist/communicator.h"

typedef struct {
  const char *name, *about;
  eqs_status (*run)(int argc, char **argv);
} subcommand;

static const subcommand subcommands[] = {
    {"serve", "be an owner of a training job (under mpirun, beside the trainers)", eqs_command_serve},
    {"plan", "parameters -> role, rule, grid, owner, memory, FLOPs, bytes", eqs_command_plan},
    {"rules", "what a configuration can say: rules, keys, defaults, names", eqs_command_rules},
    {"replay", "apply a configuration to recorded gradients, write a checkpoint", eqs_command_replay},
    {"bench", "time polar factors, rules, whole steps, the service and checkpoints", eqs_command_bench},
    {"inspect", "what is in a checkpoint; what differs between two", eqs_command_inspect},
    {"verify", "is this checkpoint whole", eqs_command_verify},
    {"export", "weights of a checkpoint -> safetensors", eqs_command_export},
    {"import", "safetensors -> a checkpoint to start from", eqs_command_import},
};
enum { subcommand_count = sizeof subcommands / sizeof *subcommands };

static void print_help(FILE *stream)
{
  fprintf(stream, "Usage: equishard SUBCOMMAND [OPTION...]\n"
                  "  or:  equishard --version | --help\n"
                  "A sharded optimizer service for training jobs that run under mpirun.\n\n");
  for (int i = 0; i < subcommand_count; i++) fprintf(stream, "  %-10s %s\n", subcommands[i].name, subcommands[i].about);
  fprintf(stream, "\n`equishard SUBCOMMAND --help` tells more.\n"
                  "Exit status: 0 done; 1 failed; 2 wrong usage, configuration or model; 3 input or output failed;\n"
                  "4 a checkpoint or input file is damaged or foreign; 5 a peer was lost or a deadline passed.\n");
}

static eqs_status wrong_usage(const char *problem, const char *word)
{
  if (eqs_world_rank() == 0) {
    fprintf(stderr, "equishard: %s%s\n", problem, word);
    fprintf(stderr, "Try `equishard --help'.\n");
  }
  return EQS_USAGE;
}

static eqs_status run(int argc, char **argv)
{
  bool first = eqs_world_rank() == 0;
  if (argc < 2) return wrong_usage("a subcommand is missing", "");
  if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-?") == 0 || strcmp(argv[1], "-h") == 0) {
    if (first) print_help(stdout);
    return EQS_OK;
  }
  if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
    if (first) printf("equishard %s\n%s\n", EQS_VERSION, eqs_libraries());
    return EQS_OK;
  }
  for (int i = 0; i < subcommand_count; i++) {
    if (strcmp(argv[1], subcommands[i].name) != 0) continue;
    char name[32];
    snprintf(name, sizeof name, "equishard %s", subcommands[i].name);
    argv[1] = name;
    return subcommands[i].run(argc - 1, argv + 1);
  }
  return wrong_usage(argv[1][0] == '-' ? "unknown option " : "unknown subcommand ", argv[1]);
}

/*
 * End the job with a status. Other ranks of it may be waiting for this one (another program of the job, too), so an
 * orderly end is not possible after a failure; but the first rank is given the time to say what concerns all.
 */
static int finish(eqs_status status)
{
  const unsigned patience = 2; /* seconds */
  int size;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  fflush(stdout);
  if (status != EQS_OK && size > 1) {
    if (eqs_world_rank() != 0) sleep(patience);
    MPI_Abort(MPI_COMM_WORLD, (int)status);
  }
  MPI_Finalize();
  return (int)status;
}

int main(int argc, char **argv)
{
  int provided;
  if (MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS) return EQS_FAILED;
  return finish(run(argc, argv));
}
