/* The subcommands of `equishard`, one file each. Each parses its own arguments with argp and returns an exit status. */
#ifndef EQS_CLI_COMMAND_H
#define EQS_CLI_COMMAND_H

#include "equishard.h"

/* argv[0] is "equishard <name>". MPI is initialised; every rank of MPI_COMM_WORLD calls it. */
eqs_status eqs_command_serve(int argc, char **argv);
eqs_status eqs_command_plan(int argc, char **argv);
eqs_status eqs_command_rules(int argc, char **argv);
eqs_status eqs_command_replay(int argc, char **argv);
eqs_status eqs_command_inspect(int argc, char **argv);
eqs_status eqs_command_verify(int argc, char **argv);
eqs_status eqs_command_export(int argc, char **argv);
eqs_status eqs_command_import(int argc, char **argv);

#endif
