/* What is in a file as HDF5 reads it, which may be damaged or hostile. HDF5 can crash: call it in a sandbox. */
#ifndef EQS_CHECKPOINT_HDF5_CONTENTS_H
#define EQS_CHECKPOINT_HDF5_CONTENTS_H

#include "checkpoint/contents.h"

/*
 * Read what is in a file of any format version. Every size is checked against the file's before anything is allocated;
 * no link is followed. EQS_IO: cannot be read. EQS_DAMAGED: not a checkpoint, of a later version, incomplete, damaged.
 */
eqs_status eqs_hdf5_contents(const char *file, eqs_checkpoint_contents *contents);

#endif
