/*
 * What a checkpoint's file is but for the tensors' values and the tiles' checksums, as bytes:
 *
 *     superblock, index, trainer's data     from the beginning on
 *     (tiles' checksums, tensors)
 *     HDF5's objects                        to the end
 *
 * All of it follows from a contents, so that a file is whole if its bytes are those that the index in it leads to.
 * Whatever would change a byte of it is a new format version, beside this one: else readers would take older files for
 * changed by another program.
 */
#ifndef EQS_CHECKPOINT_IMAGE_H
#define EQS_CHECKPOINT_IMAGE_H

#include "checkpoint/hdf5_encode.h"

typedef struct {
  eqs_bytes head;
  eqs_hdf5_piece tail;
  uint64_t parameters, integrity, trainer, extension; /* addresses of what root and superblock lead to */
  int64_t root;                                       /* of the tail, that is root's */
} eqs_image;

enum { EQS_CREATED_SIZE = 20 }; /* "2026-11-26T22:00:00Z" */

/*
 * All but the root, which has the time in it.
 *
 * contents  [in, out] of format version EQS_CHECKPOINT_VERSION; on return with offsets
 * most     [in]      bytes that the file may have
 * image    [out]     free with eqs_image_free, after a failure too
 *
 * EQS_DAMAGED: it would be larger. EQS_USAGE: names that are too long for HDF5. EQS_FAILED.
 */
eqs_status eqs_image_make(eqs_checkpoint_contents *contents, int64_t most, eqs_image *image);

/* The rest; it can be done again with another time. */
eqs_status eqs_image_finish(const eqs_checkpoint_contents *contents, const char created[EQS_CREATED_SIZE + 1],
                            eqs_image *image);

/* Size of the file. */
int64_t eqs_image_size(const eqs_image *image);

void eqs_image_free(eqs_image *image);

/*
 * Make a file with all but the values of tensors and checksums of tiles; and without HDF5's signature, so that nobody
 * takes it for a file yet. `path` must not exist. The bytes depend on the contents (and the clock) alone.
 *
 * contents  [in, out] on return with offsets
 *
 * EQS_IO, EQS_USAGE.
 */
eqs_status eqs_image_create(const char *path, eqs_checkpoint_contents *contents);

/* Write the signature and bring the file to the disk. EQS_IO. */
eqs_status eqs_image_complete(const char *path);

/* What /integrity/index is for a contents: allocated in `block`. EQS_FAILED. */
eqs_status eqs_image_index(const eqs_checkpoint_contents *contents, eqs_bytes *block);

/*
 * What is in a file that has every byte as we write it; *as_we_write tells. Nothing in it is trusted, and HDF5 is not
 * called.
 *
 * EQS_IO, EQS_FAILED.
 */
eqs_status eqs_image_contents(const char *path, eqs_checkpoint_contents *contents, bool *as_we_write);

#endif
