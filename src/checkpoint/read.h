/* Reading a checkpoint's tensors into a model. */
#ifndef EQS_CHECKPOINT_READ_H
#define EQS_CHECKPOINT_READ_H

#include <mpi.h>

#include "checkpoint/contents.h"

/*
 * Read tensors into the shards of a model, any ranks and grids; every tile's checksum is verified. Tensors of the model
 * that the file does not have are left alone. After a failure the shards' values are undefined.
 *
 * stored  [in] what is in the file, sorted; the first owner's counts
 * model   [in] the parameters to be read
 *
 * Collective over owners. EQS_IO, EQS_DAMAGED; EQS_USAGE: a parameter has another shape in the file.
 */
eqs_status eqs_checkpoint_read(MPI_Comm owners, const char *file, const eqs_checkpoint_contents *stored,
                               const eqs_checkpoint_contents *model);

#endif
