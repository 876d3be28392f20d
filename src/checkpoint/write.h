/*
 * Writing one checkpoint file: begin, tiles, commit. eqs_checkpoint_write does it all and waits; saver.c writes the
 * tiles in the background.
 */
#ifndef EQS_CHECKPOINT_WRITE_H
#define EQS_CHECKPOINT_WRITE_H

#include "checkpoint/transfer.h"

/*
 * Write a checkpoint to a file: to <path>.partial first, flushed to the disk, then renamed.
 *
 * Collective over owners, with the same contents, but for shards and items. EQS_IO: nothing has changed under `path`,
 * and what was written beside it is removed; or, if it is the flush of the directory that failed, the new file is
 * there, whole. EQS_USAGE: as eqs_contents_sort.
 */
eqs_status eqs_checkpoint_write(MPI_Comm owners, const char *path, const eqs_checkpoint_contents *contents);

/* A file that is being written: <path>.partial. */
typedef struct {
  char *path, *partial;
  eqs_checkpoint_contents contents; /* sorted; shards and texts are borrowed until eqs_partial_begin returns */
  eqs_tile_table table;
  eqs_transfer *transfer; /* that gathers the tiles */
} eqs_partial_file;

/*
 * The first owner makes the file: metadata, space, all but HDF5's signature. Collective over owners; after a failure
 * too, eqs_partial_end. EQS_USAGE, EQS_IO.
 */
eqs_status eqs_partial_begin(MPI_Comm owners, const char *path, const eqs_checkpoint_contents *contents,
                             eqs_partial_file *partial);

/*
 * Once everybody's tiles are on the disk: the signature, to the disk, the name. Of the first owner; neither MPI nor
 * HDF5 is called. EQS_IO.
 */
eqs_status eqs_partial_commit(const eqs_partial_file *partial);

/* Forget the file; `remove`: what was not committed is removed. Not collective. */
void eqs_partial_end(eqs_partial_file *partial, bool remove);

#endif
