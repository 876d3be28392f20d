/* Writing an optimizer's weights and state as a checkpoint. Collective over the owners. */
#ifndef EQS_CHECKPOINT_SAVE_OPTIMIZER_H
#define EQS_CHECKPOINT_SAVE_OPTIMIZER_H

#include "checkpoint/directory.h"
#include "checkpoint/saver.h"
#include "optimizer/optimizer.h"

/*
 * Write the optimizer as step-<step>.h5 into a directory, and wait for it (eqs_checkpoint_save), or begin to write it
 * in the background (eqs_saver_begin). Items count on the first owner. EQS_IO.
 *
 * saver  [in] NULL: wait
 */
eqs_status eqs_checkpoint_save_optimizer(const eqs_optimizer *optimizer, const eqs_checkpoint_directory *to,
                                         eqs_saver *saver, const eqs_checkpoint_item *items, int count);

/* Write it to one file, and wait for it (eqs_checkpoint_write). EQS_IO. */
eqs_status eqs_checkpoint_write_optimizer(const eqs_optimizer *optimizer, const char *file);

#endif
