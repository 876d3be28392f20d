/* Arguments of the command's subcommands. */
#ifndef EQS_BASE_ARGUMENTS_H
#define EQS_BASE_ARGUMENTS_H

#include <argp.h>
#include <stdbool.h>

#include "base/status.h"

/*
 * Parse a subcommand's arguments, with --help and --usage beside its own options. Not collective.
 *
 * prints  [in]  whether this process prints help and errors
 * input   [in]  of the subcommand's parser
 * done    [out] whether the command has nothing more to do (--help); the status is then EQS_OK
 *
 * EQS_USAGE: wrong usage, already reported.
 */
eqs_status eqs_parse_arguments(const struct argp *argp, int argc, char **argv, bool prints, void *input, bool *done);

#endif
