/* The subcommands of `equishard`, one file each. Each parses its own arguments with argp and returns an exit status. */
#ifndef EQS_CLI_COMMAND_H
#define EQS_CLI_COMMAND_H

#include <argp.h>
#include <mpi.h>

#include "equishard.h"

/* argv[0] is "equishard <name>". MPI is initialised; every rank of MPI_COMM_WORLD calls it. */
eqs_status eqs_command_serve(int argc, char **argv);
eqs_status eqs_command_plan(int argc, char **argv);
eqs_status eqs_command_replay(int argc, char **argv);
eqs_status eqs_command_bench(int argc, char **argv);
eqs_status eqs_command_inspect(int argc, char **argv);
eqs_status eqs_command_verify(int argc, char **argv);
eqs_status eqs_command_export(int argc, char **argv);
eqs_status eqs_command_import(int argc, char **argv);

/*
 * Parse a subcommand's arguments. Usage errors are printed by the first rank only.
 *
 * done  [out] true if the command has nothing more to do (--help); the status is then EQS_OK
 *
 * EQS_USAGE: wrong usage, already reported. Collective over MPI_COMM_WORLD only in that all ranks
 * have the same arguments.
 */
eqs_status eqs_parse_arguments(const struct argp *argp, int argc, char **argv, void *input, int *done);

/*
 * End of a command that the first rank carries out alone: all ranks wait for it, however long it takes, and return its
 * status; its message is printed. So no rank is in MPI_Finalize while another ends the job, which can leave mpirun
 * hanging.
 *
 * status  [in] the first rank's counts; the others give EQS_OK
 *
 * Collective over MPI_COMM_WORLD.
 */
eqs_status eqs_share_status(eqs_status status);

/* Rank in MPI_COMM_WORLD. */
int eqs_world_rank(void);

#endif
