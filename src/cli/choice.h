/* --match and --exclude: which tensors a subcommand takes. */
#ifndef EQS_CLI_CHOICE_H
#define EQS_CLI_CHOICE_H

#include <argp.h>

#include "weights/weights.h"

/*
 * The two options, as a child of a subcommand's argp; its input is an eqs_name_choice, zeroed at first, to which the
 * subcommand's own parser points at ARGP_KEY_INIT.
 */
extern const struct argp eqs_choice_argp;

void eqs_choice_free(eqs_name_choice *choice);

#endif
