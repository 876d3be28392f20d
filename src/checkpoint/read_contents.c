#include "checkpoint/read_contents.h"

#include <stdlib.h>

#include "base/log.h"
#include "checkpoint/hdf5_contents.h"
#include "checkpoint/hdf5_read.h"
#include "checkpoint/image.h"
#include "checkpoint/serialize.h"

static eqs_status hdf5_in_sandbox(void *path, char **bytes, int64_t *size)
{
  eqs_status status = EQS_OK;
  eqs_checkpoint_contents contents;
  EQS_TRY(eqs_hdf5_contents(path, &contents));
  status = eqs_contents_serialize(&contents, bytes, size);
  eqs_contents_free(&contents);
cleanup:
  return status;
}

static eqs_status read_by_sandbox(const char *path, eqs_checkpoint_contents *contents)
{
  eqs_status status = EQS_OK;
  eqs_sandbox_limits limits = eqs_hdf5_limits(path, 0);
  char *bytes;
  int64_t size;
  *contents = (eqs_checkpoint_contents){0};
  EQS_TRY(eqs_sandbox_run(&limits, hdf5_in_sandbox, (void *)path, &bytes, &size));
  EQS_TRY(eqs_contents_deserialize(bytes, size, contents));
cleanup:
  free(bytes);
  return status;
}

typedef eqs_status (*contents_reader)(const char *path, eqs_checkpoint_contents *contents);

/* HDF5 reads what is not as we write it: files of version 1, those that another program has changed, damaged ones. */
static eqs_status read_with(const char *path, contents_reader by_hdf5, eqs_checkpoint_contents *contents)
{
  bool as_we_write;
  eqs_status status = eqs_image_contents(path, contents, &as_we_write);
  if (status != EQS_OK || as_we_write) return status;
  status = by_hdf5(path, contents);
  contents->changed = status == EQS_OK && contents->version != 1;
  return status;
}

eqs_status eqs_contents_read(const char *path, eqs_checkpoint_contents *contents)
{
  return read_with(path, read_by_sandbox, contents);
}

eqs_status eqs_contents_read_unprotected(const char *path, eqs_checkpoint_contents *contents)
{
  return read_with(path, eqs_hdf5_contents, contents);
}

void eqs_contents_warn_if_changed(const char *file, const eqs_checkpoint_contents *contents)
{
  if (contents->changed)
    eqs_log(EQS_LOG_WARNING, "%s: another program has changed this file; what Equishard wrote into it is whole", file);
}
