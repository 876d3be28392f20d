/*
 * The steps of writing one file, for those who write at once (write.c) and those who write in the background (saver.c):
 * begin, tiles, commit.
 */
#ifndef EQS_CHECKPOINT_WRITE_H
#define EQS_CHECKPOINT_WRITE_H

#include "checkpoint/exchange.h"

/* A file that is not one yet: <path>.partial. */
typedef struct {
  char *path, *partial;
  eqs_tensor_table table; /* names and tensors as in the contents */
  eqs_exchange *exchange; /* that collects the tiles */
} eqs_unfinished_file;

/*
 * The first owner makes the file: metadata, space, all but HDF5's signature. Collective over owners; after a failure
 * too, eqs_unfinished_end. EQS_USAGE, EQS_IO.
 */
eqs_status eqs_unfinished_begin(MPI_Comm owners, const char *path, const eqs_checkpoint_contents *contents,
                                eqs_unfinished_file *unfinished);

/* Write the rows of a tile and its checksum; `file` is open for writing. Neither MPI nor HDF5 is called. EQS_IO. */
eqs_status eqs_unfinished_write(int file, const eqs_unfinished_file *unfinished, const eqs_tile *tile,
                                const float *rows);

/*
 * Once everybody's tiles are on the disk: the signature, to the disk, the name. Of the first owner; neither MPI nor
 * HDF5 is called. EQS_IO.
 */
eqs_status eqs_unfinished_commit(const eqs_unfinished_file *unfinished);

/* Forget the file; `remove`: what was not committed is removed. Not collective. */
void eqs_unfinished_end(eqs_unfinished_file *unfinished, bool remove);

#endif
