/* What everybody needs who calls HDF5. */
#ifndef EQS_CHECKPOINT_HDF5_FILE_H
#define EQS_CHECKPOINT_HDF5_FILE_H

#include <hdf5.h>

#include "checkpoint/contents.h"

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

/* The version of the HDF5 library: "1.10.8". */
const char *eqs_hdf5_version(void);

#endif
