/*
 * Writes checkpoints in the background, one at a time: the owners wait for one copy of the shards in memory; a thread
 * of each writes its tiles, and when all have done so, one of the first owner gives the file its name. The threads call
 * neither MPI nor HDF5, which allow only one thread here; the owners agree through eqs_saver_advance.
 */
#ifndef EQS_CHECKPOINT_SAVER_H
#define EQS_CHECKPOINT_SAVER_H

#include <stdbool.h>

#include "checkpoint/directory.h"

typedef struct eqs_saver eqs_saver;

/* Collective over owners. */
eqs_status eqs_saver_create(MPI_Comm owners, eqs_saver **saver);

/*
 * Waits for this owner's thread; a save whose agreement is still on its way is given up, and what MPI needs for it
 * stays allocated. Sets *saver to NULL. Collective over owners.
 */
void eqs_saver_destroy(eqs_saver **saver);

/*
 * Begin to write step-<step>.h5, as eqs_checkpoint_save does: on return the contents may change. The saver is idle on
 * all owners. The memory of the copy is kept for the next. Collective over owners. EQS_IO, EQS_USAGE.
 */
eqs_status eqs_saver_begin(eqs_saver *saver, const eqs_checkpoint_directory *to,
                           const eqs_checkpoint_contents *contents);

/* Go on without waiting; *moved is set if anything happened. Not collective. */
eqs_status eqs_saver_advance(eqs_saver *saver, bool *moved);

/* Whether this owner has nothing left to do. */
bool eqs_saver_idle(const eqs_saver *saver);

/*
 * How the save that ended last on this owner has failed, with its message, until the next begins: of those owners that
 * failed; EQS_OK on the others. Not collective.
 */
eqs_status eqs_saver_result(const eqs_saver *saver);

#endif
