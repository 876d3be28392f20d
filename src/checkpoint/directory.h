/*
 * A directory of checkpoints: step-<step>.h5, the link `latest` to the one that was written last, and which of them
 * stay.
 */
#ifndef EQS_CHECKPOINT_DIRECTORY_H
#define EQS_CHECKPOINT_DIRECTORY_H

#include <mpi.h>
#include <stdbool.h>

#include "checkpoint/contents.h"

typedef struct {
  const char *path;
  int64_t keep;       /* the newest; 0: all */
  int64_t keep_every; /* and those of steps that are multiples of it; 0: no others */
} eqs_checkpoint_directory;

/*
 * Write step-<step>.h5 in a directory (made if missing), move the link `latest` to it, remove those that need not stay
 * and leftovers of writes and removals that were cut off; what cannot be removed is a warning. Collective over owners.
 * EQS_IO, EQS_USAGE.
 */
eqs_status eqs_checkpoint_save(MPI_Comm owners, const eqs_checkpoint_directory *to,
                               const eqs_checkpoint_contents *contents);

/*
 * The checkpoint that a path means: a file itself; in a directory the one of its files that `latest` names, or the
 * newest complete one if there is no usable `latest` (with a warning). `file` is allocated. Not collective. EQS_IO:
 * there is none.
 */
eqs_status eqs_checkpoint_find(const char *path, char **file);

/* Whether a path names a file, or a directory with a file in it that is named as a checkpoint, damaged or not. */
bool eqs_checkpoint_exists(const char *path);

/*
 * The newest checkpoint of a directory that was written before `damaged`, a path as eqs_checkpoint_find gives it, and
 * whose metadata is whole. `file` is allocated. Not collective. EQS_DAMAGED: there is none. EQS_IO.
 */
eqs_status eqs_checkpoint_find_older(const char *directory, const char *damaged, char **file);

/* ----- the parts of eqs_checkpoint_save around the writing of the file: of the first owner, not collective ----- */

/* Make a directory and those above it that are missing, on the disk too. EQS_IO. */
eqs_status eqs_directory_make(const char *directory);

/* Make the directory and remove leftovers of writes that were cut off. EQS_IO, EQS_USAGE. */
eqs_status eqs_directory_prepare(const char *directory, int64_t step);

/* The file of a step: `file` is allocated. */
eqs_status eqs_directory_file(const char *directory, int64_t step, char **file);

/* Move `latest` to a file that is committed, and remove what need not be kept. EQS_IO. */
eqs_status eqs_directory_publish(const eqs_checkpoint_directory *to, const char *file);

#endif
