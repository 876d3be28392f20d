/* Restoring an optimizer's weights and state from a checkpoint. */
#ifndef EQS_CHECKPOINT_RESTORE_OPTIMIZER_H
#define EQS_CHECKPOINT_RESTORE_OPTIMIZER_H

#include "checkpoint/contents.h"
#include "optimizer/optimizer.h"

/*
 * Restore weights, state and step counts, as the configuration's `checkpoint` says.
 *
 * path    [in]  a file, or a directory; the first owner's counts
 * stored  [out] what is in the file, under the names of the model, on every owner; free with eqs_contents_free
 * absent  [out] of every parameter of the plan, whether the file does not have it (`partial`): its weight is undefined
 *               until the caller gives it its initial value, its state is zero
 *
 * In a directory a damaged checkpoint is passed over for the next older whole one, with a warning. The first owner logs
 * what starts afresh, and what stays in the file (checkpoint/match_model.h).
 *
 * Collective over the owners. EQS_USAGE: the checkpoint is of another model. EQS_IO, EQS_DAMAGED.
 */
eqs_status eqs_checkpoint_restore_optimizer(eqs_optimizer *optimizer, const char *path, eqs_checkpoint_contents *stored,
                                            bool *absent);

#endif
