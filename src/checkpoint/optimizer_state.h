/* The optimizer's weights and state as the contents of a checkpoint, and back. */
#ifndef EQS_CHECKPOINT_OPTIMIZER_STATE_H
#define EQS_CHECKPOINT_OPTIMIZER_STATE_H

#include "checkpoint/saver.h"
#include "optimizer/optimizer.h"

/*
 * Write the optimizer as step-<step>.h5 into a directory: at once (eqs_checkpoint_save), or with a saver in the
 * background (eqs_saver_begin); or to one file (eqs_checkpoint_write). Items count on the first owner. Collective over
 * the owners. EQS_IO.
 */
eqs_status eqs_optimizer_save(const eqs_optimizer *optimizer, const eqs_checkpoint_place *place, eqs_saver *saver,
                              const eqs_checkpoint_item *items, int count);
eqs_status eqs_optimizer_write(const eqs_optimizer *optimizer, const char *file);

/*
 * Restore weights, state and step counts, as the configuration's `checkpoint` has it.
 *
 * path     [in]  a file, or a directory; the first owner's counts
 * summary  [out] what the file says, under the names of the model, on every owner; free with
 *                eqs_checkpoint_summary_free
 * absent   [out] of every parameter of the plan, whether the file does not have it (`partial`): its weight is undefined
 *                until the caller gives it its initial value, its state is zero
 *
 * Of a directory a damaged checkpoint is passed over for the next older whole one, with a warning.
 * What begins anew, and what stays in the file, is said by the first owner (checkpoint/compare.h).
 * Collective over the owners. EQS_USAGE: the checkpoint is of another model. EQS_IO, EQS_DAMAGED.
 */
eqs_status eqs_optimizer_restore(eqs_optimizer *optimizer, const char *path, eqs_checkpoint_summary *summary,
                                 bool *absent);

#endif
