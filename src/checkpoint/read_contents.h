/* What is in a checkpoint file, its tensors' values aside. Not collective. */
#ifndef EQS_CHECKPOINT_READ_CONTENTS_H
#define EQS_CHECKPOINT_READ_CONTENTS_H

#include "checkpoint/contents.h"

/*
 * Look into a file, which may be damaged or hostile: check format, version, completeness, sizes, and all bytes of the
 * metadata. If they are not as we write them, or the file is of format version 1, HDF5 reads it, in a sandbox
 * (base/sandbox.h), since a damaged file can crash it; no link in the file is followed, and nothing is allocated before
 * its size is checked against the file's. Bytes behind the end of what HDF5 knows of belong to nothing, and do not
 * matter.
 *
 * EQS_IO: cannot be opened; EQS_DAMAGED: not a checkpoint, of a later version, incomplete, cut off or damaged.
 */
eqs_status eqs_contents_read(const char *file, eqs_checkpoint_contents *contents);

/* The same without the sandbox. */
eqs_status eqs_contents_read_unprotected(const char *file, eqs_checkpoint_contents *contents);

/* A warning, if another program has changed the file. */
void eqs_contents_warn_if_changed(const char *file, const eqs_checkpoint_contents *contents);

#endif
