/*
 * An HDF5 file that is made in memory, where nothing can go wrong: after a failed write (a full disk) HDF5 1.10 neither
 * closes the file nor lets the process end without a crash. Only what was written takes memory; space that was merely
 * allocated, as that of the tensors, does not.
 */
#ifndef EQS_CHECKPOINT_MEMORY_FILE_H
#define EQS_CHECKPOINT_MEMORY_FILE_H

#include <hdf5.h>

#include "base/status.h"

enum { EQS_PAGE_SIZE = 4096 };

typedef struct {
  int64_t number; /* the page begins at number × EQS_PAGE_SIZE */
  char *bytes;
} eqs_memory_page;

typedef struct {
  int64_t size; /* of the whole file */
  int64_t pages;
  eqs_memory_page *page; /* in order; what lies between them is zero */
} eqs_memory_file;

/*
 * Make HDF5 create a file with these access properties in `file`, whatever its name. `driver` is to be closed after the
 * file. Negative on failure.
 */
herr_t eqs_memory_file_use(hid_t access, eqs_memory_file *file, hid_t *driver);

void eqs_memory_file_free(eqs_memory_file *file);

#endif
