#include "cli/recording.h"

#include <errno.h>
#include <hdf5.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"

static eqs_status read_shape(hid_t dataset, eqs_recorded *recorded, int64_t *elements)
{
  eqs_status status = EQS_OK;
  hsize_t dims[H5S_MAX_RANK];
  hid_t space = H5Dget_space(dataset);
  int ndim = H5Sget_simple_extent_ndims(space);
  *elements = 1;
  if (ndim < 0 || ndim > EQS_MAX_DIMS || H5Sget_simple_extent_dims(space, dims, NULL) < 0) {
    status = eqs_fail(EQS_DAMAGED, "a tensor has %d dimensions; up to %d are possible", ndim, EQS_MAX_DIMS);
  } else {
    recorded->ndim = ndim;
    for (int d = 0; d < ndim && status == EQS_OK; d++) {
      recorded->shape[d] = (int64_t)dims[d];
      if (!eqs_multiply_sizes(*elements, recorded->shape[d], elements))
        status = eqs_fail(EQS_DAMAGED, "a tensor is too large");
    }
  }
  H5Sclose(space);
  return status;
}

static eqs_status open_dataset(const eqs_recording *recording, const char *path, hid_t *dataset)
{
  *dataset = H5Dopen2(recording->file, path, H5P_DEFAULT);
  return *dataset >= 0 ? EQS_OK : eqs_fail(EQS_DAMAGED, "%s: there is no dataset %s", recording->path, path);
}

static eqs_status add_parameter(eqs_recording *recording, const char *name)
{
  eqs_status status = EQS_OK;
  char path[1024];
  hid_t dataset = -1;
  int64_t elements;
  EQS_TRY(eqs_grow(&recording->parameter, recording->parameters, sizeof *recording->parameter));
  eqs_recorded *recorded = &recording->parameter[recording->parameters];
  *recorded = (eqs_recorded){0};
  EQS_TRY(eqs_copy_text(&recorded->name, name));
  recording->parameters++;
  snprintf(path, sizeof path, "/parameters/%s/weight", name);
  EQS_TRY(open_dataset(recording, path, &dataset));
  EQS_TRY(read_shape(dataset, recorded, &elements));
cleanup:
  if (dataset >= 0) H5Dclose(dataset);
  return status;
}

typedef struct {
  eqs_recording *recording;
  eqs_status status;
} visit;

static herr_t visit_parameter(hid_t group, const char *name, const H5L_info_t *info, void *context)
{
  visit *state = context;
  (void)group;
  if (info->type == H5L_TYPE_HARD) state->status = add_parameter(state->recording, name);
  return state->status != EQS_OK;
}

static eqs_status list_parameters(eqs_recording *recording)
{
  visit state = {.recording = recording};
  if (H5Lexists(recording->file, "parameters", H5P_DEFAULT) <= 0 ||
      H5Literate_by_name(recording->file, "parameters", H5_INDEX_NAME, H5_ITER_INC, NULL, visit_parameter, &state,
                         H5P_DEFAULT) < 0)
    return eqs_fail(EQS_DAMAGED, "%s: not a recording of gradients: there is no group /parameters", recording->path);
  return state.status;
}

static eqs_status count_steps(eqs_recording *recording)
{
  char path[64];
  if (H5Lexists(recording->file, "gradients", H5P_DEFAULT) <= 0)
    return eqs_fail(EQS_DAMAGED, "%s: not a recording of gradients: there is no group /gradients", recording->path);
  do {
    snprintf(path, sizeof path, "gradients/%lld", (long long)recording->steps);
  } while (H5Lexists(recording->file, path, H5P_DEFAULT) > 0 && ++recording->steps);
  return EQS_OK;
}

eqs_status eqs_recording_open(const char *path, eqs_recording *recording)
{
  eqs_status status = EQS_OK;
  *recording = (eqs_recording){0};
  H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
  EQS_TRY(eqs_copy_text(&recording->path, path));
  if (access(path, R_OK) != 0) EQS_TRY(eqs_fail(EQS_IO, "%s: %s", path, strerror(errno)));
  hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
  if (file < 0) EQS_TRY(eqs_fail(EQS_DAMAGED, "%s: not an HDF5 file, or damaged", path));
  recording->file = file;
  EQS_TRY(list_parameters(recording));
  EQS_TRY(count_steps(recording));
cleanup:
  if (status != EQS_OK) eqs_recording_close(recording);
  return status;
}

void eqs_recording_close(eqs_recording *recording)
{
  for (int64_t p = 0; p < recording->parameters; p++) free(recording->parameter[p].name);
  free(recording->parameter);
  if (recording->file > 0) H5Fclose(recording->file);
  free(recording->path);
  *recording = (eqs_recording){0};
}

eqs_status eqs_recording_read(const eqs_recording *recording, int64_t p, int64_t t, float **tensor, bool *present)
{
  eqs_status status = EQS_OK;
  const eqs_recorded *parameter = &recording->parameter[p];
  eqs_recorded found = {0};
  char path[1024];
  hid_t dataset = -1;
  int64_t elements;
  *tensor = NULL;
  *present = true;
  if (t < 0)
    snprintf(path, sizeof path, "/parameters/%s/weight", parameter->name);
  else
    snprintf(path, sizeof path, "/gradients/%lld/%s", (long long)t, parameter->name);
  if (t >= 0 && H5Lexists(recording->file, path, H5P_DEFAULT) <= 0) {
    *present = false;
    goto cleanup;
  }
  EQS_TRY(open_dataset(recording, path, &dataset));
  EQS_TRY(read_shape(dataset, &found, &elements));
  if (found.ndim != parameter->ndim || memcmp(found.shape, parameter->shape, (size_t)found.ndim * sizeof *found.shape))
    EQS_TRY(eqs_fail(EQS_USAGE, "%s: the gradient %s has another shape than the weight", recording->path, path));
  EQS_TRY(eqs_allocate_raw(tensor, elements, sizeof **tensor));
  if (elements > 0 && H5Dread(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, *tensor) < 0)
    EQS_TRY(eqs_fail(EQS_DAMAGED, "%s: %s cannot be read", recording->path, path));
cleanup:
  if (dataset >= 0) H5Dclose(dataset);
  if (status != EQS_OK) {
    free(*tensor);
    *tensor = NULL;
  }
  return status;
}
