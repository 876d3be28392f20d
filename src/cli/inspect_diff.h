/* `equishard inspect --diff`. */
#ifndef EQS_CLI_INSPECT_DIFF_H
#define EQS_CLI_INSPECT_DIFF_H

#include <stdbool.h>

#include "base/status.h"

/* Print what differs between two checkpoints, a path as eqs_checkpoint_find takes it each. */
eqs_status eqs_inspect_difference(const char *path_a, const char *path_b, bool json);

#endif
