/* The optimizer's weights and state as the contents of a checkpoint, and back. */
#ifndef EQS_CHECKPOINT_OPTIMIZER_STATE_H
#define EQS_CHECKPOINT_OPTIMIZER_STATE_H

#include "checkpoint/checkpoint.h"
#include "optimizer/optimizer.h"

/*
 * Write the optimizer as step-<step>.h5 in a directory (eqs_checkpoint_save), or to one file
 * (eqs_checkpoint_write). Items count on the first owner. Collective over the owners. EQS_IO.
 */
eqs_status eqs_optimizer_save(const eqs_optimizer *optimizer, const char *directory, int64_t keep,
                              const eqs_trainer_item *items, int count);
eqs_status eqs_optimizer_write(const eqs_optimizer *optimizer, const char *file);

/*
 * Restore weights, state and step counts.
 *
 * path     [in]  a file, or a directory; the first owner's counts
 * summary  [out] what the file says, on every owner; free with eqs_checkpoint_summary_free
 *
 * Of a directory a damaged checkpoint is passed over for the next older whole one, with a warning.
 * State that the checkpoint does not have (another rule) starts at zero, with a warning; with one message if it has
 * weights alone (`equishard import`).
 * Collective over the owners. EQS_USAGE: the checkpoint is of another model. EQS_IO, EQS_DAMAGED.
 */
eqs_status eqs_optimizer_restore(eqs_optimizer *optimizer, const char *path, eqs_checkpoint_summary *summary);

#endif
