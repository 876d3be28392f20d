/* The HDF5 side of a checkpoint: metadata and space. Only the first owner, or a reader, of a file calls this. */
#ifndef EQS_CHECKPOINT_HDF5_FILE_H
#define EQS_CHECKPOINT_HDF5_FILE_H

#include <hdf5.h>

#include "checkpoint/checkpoint.h"

/*
 * Keep HDF5 from printing its errors, for good: at the end of the process it would complain about what its own error
 * paths have left behind after a damaged file.
 */
void eqs_hdf5_silence(void);

/* Access properties of all our files: checksummed metadata (format 1.10), serial driver. Negative on failure. */
hid_t eqs_hdf5_access(void);

/* Give back any kind of id; negative ones are ignored. */
void eqs_hdf5_close(hid_t id);

/* The innermost description of HDF5's error stack, or "". Valid until the next call. */
const char *eqs_hdf5_error(void);

/*
 * Make a file with all groups, attributes, trainer items, and with space for tensors and checksums, but not their
 * values; and without HDF5's signature, so that nobody takes it for a file yet. The bytes depend on the summary (and
 * the clock) alone.
 *
 * path     [in] must not exist
 * summary  [in, out] what is in it; on return with offsets
 *
 * EQS_IO.
 */
eqs_status eqs_hdf5_create(const char *path, eqs_checkpoint_summary *summary);

/* Write the signature and bring the file to the disk. EQS_IO. */
eqs_status eqs_hdf5_complete(const char *path);

#endif
