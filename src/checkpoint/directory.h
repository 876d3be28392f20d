/* The parts of eqs_checkpoint_save around the writing of the file. Of the first owner; not collective. */
#ifndef EQS_CHECKPOINT_DIRECTORY_H
#define EQS_CHECKPOINT_DIRECTORY_H

#include "checkpoint/checkpoint.h"

/* Make a directory and those above it that are missing, on the disk too. EQS_IO. */
eqs_status eqs_directory_make(const char *directory);

/* Make the directory and remove what writes that were cut off have left. EQS_IO, EQS_USAGE. */
eqs_status eqs_directory_prepare(const char *directory, int64_t step);

/* The name of a step's checkpoint. `path` is allocated. */
eqs_status eqs_directory_path(const char *directory, int64_t step, char **path);

/* Move `latest` to a file that is committed, and remove what need not be kept. EQS_IO. */
eqs_status eqs_directory_publish(const eqs_checkpoint_place *place, const char *path);

#endif
