/*
 * Looking into HDF5 files that may be damaged or hostile. No link to another file or name is followed, no data outside
 * of the file is touched, and no size counts before it is checked against the file's. HDF5's own parser is no part of
 * that promise: call all of this in eqs_sandbox_run.
 */
#ifndef EQS_CHECKPOINT_HDF5_READ_H
#define EQS_CHECKPOINT_HDF5_READ_H

#include <hdf5.h>
#include <stdbool.h>

#include "base/sandbox.h"
#include "checkpoint/hdf5_file.h"

typedef struct {
  const char *path;
  int64_t bytes; /* size of the file */
  int64_t left;  /* of names, texts and data that may be taken out of it yet: not more than is in it, however often */
  hid_t file;
  void *image; /* the file in memory, unless it is large */
} eqs_hdf5_reader;

/* EQS_IO: cannot be read, or no regular file; EQS_DAMAGED: not HDF5; the message begins with the path. */
eqs_status eqs_hdf5_open(const char *path, eqs_hdf5_reader *reader);
void eqs_hdf5_end(eqs_hdf5_reader *reader);

/* Limits for eqs_sandbox_run of reading what is in a file, and besides some bytes of its data. */
eqs_sandbox_limits eqs_hdf5_limits(const char *path, int64_t data);

/* EQS_DAMAGED with what is wrong, and with HDF5's reason. */
eqs_status eqs_hdf5_damaged(const eqs_hdf5_reader *reader, const char *what);

/* Evaluate an HDF5 call, or check a condition; on failure jump to the exit label. */
#define EQS_HDF5_TRY(reader, what, call)                                                                               \
  do {                                                                                                                 \
    if ((call) < 0) {                                                                                                  \
      status = eqs_hdf5_damaged(reader, what);                                                                         \
      goto cleanup;                                                                                                    \
    }                                                                                                                  \
  } while (0)
#define EQS_HDF5_CHECK(reader, what, condition)                                                                        \
  do {                                                                                                                 \
    H5Eclear2(H5E_DEFAULT);                                                                                            \
    EQS_HDF5_TRY(reader, what, (condition) ? 0 : -1);                                                                  \
  } while (0)

/* Take that many bytes out of the file; EQS_DAMAGED: more than can be in it. */
eqs_status eqs_hdf5_spend(eqs_hdf5_reader *reader, int64_t bytes);

/* Names of links or attributes, in alphabetical order. Zeroed at first; to be freed whatever the status is. */
typedef struct {
  int64_t count;
  char **name;
} eqs_names;
void eqs_names_free(eqs_names *names);

/* EQS_DAMAGED: one of the links leads to another file or name. */
eqs_status eqs_hdf5_list_links(eqs_hdf5_reader *reader, hid_t group, eqs_names *names);
eqs_status eqs_hdf5_list_attributes(eqs_hdf5_reader *reader, hid_t object, eqs_names *names);

/* Open a group, or a dataset whose data is in this file. EQS_DAMAGED: there is none. Close with eqs_hdf5_close. */
eqs_status eqs_hdf5_open_group(const eqs_hdf5_reader *reader, hid_t parent, const char *name, hid_t *group);

typedef struct {
  int ndim;
  int64_t shape[EQS_MAX_DIMS];
  int64_t bytes; /* of all elements, as stored without compression */
  bool one_piece;
  int64_t offset; /* in the file, of data in one piece; 0 if it has no elements */
} eqs_hdf5_place;

/*
 * type       [out] of the elements; close it with eqs_hdf5_close
 * one piece  the data is all there, between offset and the end of the file. Else it is in chunks, compressed perhaps,
 *            which have a thousandth of its size at least
 */
eqs_status eqs_hdf5_open_dataset(const eqs_hdf5_reader *reader, hid_t parent, const char *name, hid_t *dataset,
                                 hid_t *type, eqs_hdf5_place *extent);

#endif
