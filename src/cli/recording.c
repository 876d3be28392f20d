#include "cli/recording.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "checkpoint/hdf5_read.h"
#include "model/layout.h"
#include "model/parameter_name.h"
#include "model/wrappers.h"

/* What a recording's tensors may be stored as. Other types, and those that a file defines itself, are not converted. */
static eqs_status check_type(const eqs_hdf5_reader *reader, hid_t type)
{
  eqs_status status = EQS_OK;
  H5T_class_t kind = H5Tget_class(type);
  EQS_HDF5_CHECK(reader, "a tensor that is not of numbers, of at most 8 bytes each",
                 (kind == H5T_FLOAT || kind == H5T_INTEGER) && H5Tget_size(type) <= 8);
cleanup:
  return status;
}

/* A tensor that can be read as it says. The caller closes it. plain  [out] unless NULL: float32 of this machine */
static eqs_status open_tensor(const eqs_hdf5_reader *reader, hid_t parent, const char *name, hid_t *dataset,
                              eqs_hdf5_place *place, bool *plain)
{
  eqs_status status = EQS_OK;
  hid_t type = -1;
  int64_t elements;
  EQS_TRY(eqs_hdf5_open_dataset(reader, parent, name, dataset, &type, place));
  EQS_TRY(check_type(reader, type));
  if (plain != NULL) *plain = place->one_piece && H5Tequal(type, H5T_NATIVE_FLOAT) > 0;
  if (eqs_shape_elements(place->ndim, place->shape, &elements) != EQS_OK)
    EQS_TRY(eqs_fail(EQS_DAMAGED, "%s: damaged: \"%.200s\": %s", reader->path, name, eqs_error_message()));
cleanup:
  eqs_hdf5_close(type);
  return status;
}

static eqs_status open_weight(const eqs_hdf5_reader *reader, hid_t parameters, const char *name, hid_t *dataset,
                              eqs_hdf5_place *place, bool *plain)
{
  eqs_status status = EQS_OK;
  hid_t group = -1;
  EQS_TRY(eqs_hdf5_open_group(reader, parameters, name, &group));
  EQS_TRY(open_tensor(reader, group, "weight", dataset, place, plain));
cleanup:
  eqs_hdf5_close(group);
  if (status == EQS_DAMAGED) status = eqs_fail(status, "%s (parameter %.200s)", eqs_error_message(), name);
  return status;
}

/* Steps 0, 1, ... for which there is a group of gradients. */
static eqs_status count_steps(const eqs_hdf5_reader *reader, int64_t *steps)
{
  eqs_status status = EQS_OK;
  hid_t gradients = -1;
  char step[24];
  EQS_TRY(eqs_hdf5_open_group(reader, reader->file, "gradients", &gradients));
  do {
    snprintf(step, sizeof step, "%lld", (long long)*steps);
  } while (H5Lexists(gradients, step, H5P_DEFAULT) > 0 && ++*steps);
cleanup:
  eqs_hdf5_close(gradients);
  return status;
}

/*
 * The form in which a list of what is in a recording comes back: the number of steps, then a parameter each, with its
 * name behind.
 */
typedef struct {
  int64_t ndim, shape[EQS_MAX_DIMS], name_size;
  int64_t offset; /* of the weight in the file, if it is plain; else -1 */
} listed;

/* A group without a weight, but with groups: "a/b" was written as the name of a parameter. Else EQS_OK. */
static eqs_status check_not_nested(eqs_hdf5_reader *reader, hid_t parameters, const char *name)
{
  eqs_status status = EQS_OK;
  hid_t group = -1;
  eqs_names inside = {0};
  char *whole = NULL;
  EQS_TRY(eqs_hdf5_open_group(reader, parameters, name, &group));
  if (H5Lexists(group, "weight", H5P_DEFAULT) > 0) goto cleanup;
  EQS_TRY(eqs_hdf5_list_links(reader, group, &inside));
  if (inside.count > 0) EQS_TRY(eqs_format(&whole, "%.500s/%.500s", name, inside.name[0]));
  if (whole != NULL) status = eqs_check_parameter_name(whole);
  if (status != EQS_OK) status = eqs_fail_in(status, "%s", reader->path);
cleanup:
  free(whole);
  eqs_names_free(&inside);
  eqs_hdf5_close(group);
  return status;
}

/* The place of a parameter's weight, or why there is none. */
static eqs_status look_at_weight(eqs_hdf5_reader *reader, hid_t parameters, const char *name, eqs_hdf5_place *place,
                                 bool *plain)
{
  eqs_status status = EQS_OK;
  hid_t dataset = -1;
  char *damage = NULL;
  status = open_weight(reader, parameters, name, &dataset, place, plain);
  if (status != EQS_DAMAGED) goto cleanup;
  EQS_TRY(eqs_copy_text(&damage, eqs_error_message()));
  status = check_not_nested(reader, parameters, name);
  if (status == EQS_OK || status == EQS_DAMAGED) status = eqs_fail(EQS_DAMAGED, "%s", damage);
cleanup:
  free(damage);
  eqs_hdf5_close(dataset);
  return status;
}

static eqs_status list_parameters(eqs_hdf5_reader *reader, FILE *list)
{
  eqs_status status = EQS_OK;
  hid_t parameters = -1;
  eqs_names names = {0};
  EQS_TRY(eqs_hdf5_open_group(reader, reader->file, "parameters", &parameters));
  EQS_TRY(eqs_hdf5_list_links(reader, parameters, &names));
  for (int64_t p = 0; p < names.count; p++) {
    eqs_hdf5_place place;
    bool plain;
    EQS_TRY(look_at_weight(reader, parameters, names.name[p], &place, &plain));
    listed next = {
        .ndim = place.ndim, .name_size = (int64_t)strlen(names.name[p]), .offset = plain ? place.offset : -1};
    memcpy(next.shape, place.shape, sizeof next.shape);
    fwrite(&next, sizeof next, 1, list);
    fwrite(names.name[p], 1, (size_t)next.name_size, list);
  }
cleanup:
  eqs_names_free(&names);
  eqs_hdf5_close(parameters);
  return status;
}

/* What is done in the sandbox, first: a list of what is in a recording. */
static eqs_status list_in_sandbox(void *path, char **bytes, int64_t *size)
{
  eqs_status status = EQS_OK;
  eqs_hdf5_reader reader = {.file = -1};
  int64_t steps = 0;
  size_t length = 0;
  FILE *list = open_memstream(bytes, &length);
  if (list == NULL) return eqs_fail(EQS_FAILED, "out of memory");
  EQS_TRY(eqs_hdf5_open(path, &reader));
  EQS_TRY(count_steps(&reader, &steps));
  fwrite(&steps, sizeof steps, 1, list);
  EQS_TRY(list_parameters(&reader, list));
cleanup:
  eqs_hdf5_end(&reader);
  if (fclose(list) != 0 && status == EQS_OK) status = eqs_fail(EQS_FAILED, "out of memory");
  *size = (int64_t)length;
  return status;
}

static eqs_status take_list(const char *bytes, int64_t size, eqs_recording *recording)
{
  eqs_status status = EQS_OK;
  const char *next = bytes + sizeof recording->steps, *end = bytes + size;
  if (size < (int64_t)sizeof recording->steps) return eqs_fail(EQS_DAMAGED, "%s: damaged", recording->path);
  memcpy(&recording->steps, bytes, sizeof recording->steps);
  recording->weights_are_plain = true;
  while (next < end) {
    listed head;
    if (end - next < (int64_t)sizeof head) return eqs_fail(EQS_DAMAGED, "%s: damaged", recording->path);
    memcpy(&head, next, sizeof head);
    next += sizeof head;
    if (head.ndim < 0 || head.ndim > EQS_MAX_DIMS || head.name_size < 0 || head.name_size > end - next)
      return eqs_fail(EQS_DAMAGED, "%s: damaged", recording->path);
    EQS_TRY(eqs_grow(&recording->parameter, recording->parameters, sizeof *recording->parameter));
    eqs_recorded *parameter = &recording->parameter[recording->parameters];
    *parameter = (eqs_recorded){.ndim = (int)head.ndim, .offset = head.offset};
    if (head.offset < 0) recording->weights_are_plain = false;
    memcpy(parameter->shape, head.shape, sizeof head.shape);
    recording->parameters++;
    EQS_TRY(eqs_allocate(&parameter->stored, head.name_size + 1, 1));
    memcpy(parameter->stored, next, (size_t)head.name_size);
    EQS_TRY(eqs_copy_canonical_name(&parameter->name, parameter->stored));
    next += head.name_size;
  }
cleanup:
  return status;
}

static int by_name(const void *a, const void *b)
{
  const eqs_recorded *left = a, *right = b;
  return strcmp(left->name, right->name);
}

static eqs_status sort_by_name(eqs_recording *recording)
{
  if (recording->parameters > 0)
    qsort(recording->parameter, (size_t)recording->parameters, sizeof *recording->parameter, by_name);
  for (int64_t p = 1; p < recording->parameters; p++) {
    const eqs_recorded *a = &recording->parameter[p - 1], *b = &recording->parameter[p];
    if (by_name(a, b) == 0) return eqs_fail_in(eqs_fail_same_name(a->stored, b->stored), "%s", recording->path);
  }
  return EQS_OK;
}

eqs_status eqs_recording_open(const char *path, eqs_recording *recording)
{
  eqs_status status = EQS_OK;
  eqs_sandbox_limits limits = eqs_hdf5_limits(path, 0);
  char *bytes = NULL;
  int64_t size;
  *recording = (eqs_recording){0};
  EQS_TRY(eqs_copy_text(&recording->path, path));
  EQS_TRY(eqs_sandbox_run(&limits, list_in_sandbox, recording->path, &bytes, &size));
  EQS_TRY(take_list(bytes, size, recording));
  EQS_TRY(sort_by_name(recording));
cleanup:
  free(bytes);
  if (status != EQS_OK) eqs_recording_close(recording);
  return status;
}

void eqs_recording_close(eqs_recording *recording)
{
  for (int64_t p = 0; p < recording->parameters; p++) {
    free(recording->parameter[p].name);
    free(recording->parameter[p].stored);
  }
  free(recording->parameter);
  free(recording->path);
  *recording = (eqs_recording){0};
}

/* Parameters whose weights (t = -1) or gradients are read in one sandbox, one after the other. */
typedef struct {
  const eqs_recording *recording;
  int64_t t, first, end;
  const bool *wanted; /* by parameter of the recording */
} wanted_tensors;

/* Elements of a parameter, which was found to have an allowed shape. */
static int64_t elements_of(const eqs_recorded *parameter)
{
  int64_t elements = 0;
  eqs_shape_elements(parameter->ndim, parameter->shape, &elements);
  return elements;
}

/* The group with the wanted tensors. */
static eqs_status open_all(const eqs_hdf5_reader *reader, int64_t t, hid_t *group)
{
  eqs_status status = EQS_OK;
  hid_t gradients = -1;
  char number[24];
  if (t < 0) return eqs_hdf5_open_group(reader, reader->file, "parameters", group);
  snprintf(number, sizeof number, "%lld", (long long)t);
  EQS_TRY(eqs_hdf5_open_group(reader, reader->file, "gradients", &gradients));
  EQS_TRY(eqs_hdf5_open_group(reader, gradients, number, group));
cleanup:
  eqs_hdf5_close(gradients);
  return status;
}

/* One tensor as float32. */
static eqs_status read_tensor(const eqs_hdf5_reader *reader, hid_t all, int64_t t, const eqs_recorded *parameter,
                              float *values)
{
  eqs_status status = EQS_OK;
  eqs_hdf5_place place;
  hid_t dataset = -1;
  EQS_TRY(t < 0 ? open_weight(reader, all, parameter->stored, &dataset, &place, NULL)
                : open_tensor(reader, all, parameter->stored, &dataset, &place, NULL));
  if (place.ndim != parameter->ndim || memcmp(place.shape, parameter->shape, sizeof place.shape) != 0)
    EQS_TRY(eqs_fail(EQS_USAGE, "%s: the gradient /gradients/%lld/%.200s has another shape than the weight",
                     reader->path, (long long)t, parameter->stored));
  if (elements_of(parameter) > 0)
    EQS_HDF5_TRY(reader, parameter->name, H5Dread(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values));
cleanup:
  eqs_hdf5_close(dataset);
  return status;
}

/* Bytes that say which tensors are present, before the elements of those that are wanted. */
static int64_t size_of_presence(const wanted_tensors *wanted)
{
  int64_t count = wanted->end - wanted->first, word = (int64_t)sizeof(float);
  return (count + word - 1) / word * word;
}

/* Bytes of the elements, if all are present. */
static int64_t size_of_elements(const wanted_tensors *wanted)
{
  int64_t bytes = 0;
  for (int64_t p = wanted->first; p < wanted->end; p++)
    if (wanted->wanted[p]) bytes += elements_of(&wanted->recording->parameter[p]) * (int64_t)sizeof(float);
  return bytes;
}

/* What is done in the sandbox for some tensors: which are present, then the elements of those that are wanted as
 * float32. */
static eqs_status read_in_sandbox(void *job, char **bytes, int64_t *size)
{
  eqs_status status = EQS_OK;
  const wanted_tensors *wanted = job;
  eqs_hdf5_reader reader = {.file = -1};
  hid_t all = -1;
  char *reply = NULL;
  int64_t used = size_of_presence(wanted);
  EQS_TRY(eqs_hdf5_open(wanted->recording->path, &reader));
  EQS_TRY(open_all(&reader, wanted->t, &all));
  EQS_TRY(eqs_allocate_raw(&reply, used + size_of_elements(wanted), 1));
  memset(reply, 0, (size_t)used);
  for (int64_t p = wanted->first; p < wanted->end; p++) {
    const eqs_recorded *parameter = &wanted->recording->parameter[p];
    bool present = wanted->t < 0 || H5Lexists(all, parameter->stored, H5P_DEFAULT) > 0;
    reply[p - wanted->first] = present;
    if (!present || !wanted->wanted[p]) continue;
    EQS_TRY(read_tensor(&reader, all, wanted->t, parameter, (float *)(void *)(reply + used)));
    used += elements_of(parameter) * (int64_t)sizeof(float);
  }
  *bytes = reply;
  *size = used;
  reply = NULL;
cleanup:
  free(reply);
  eqs_hdf5_close(all);
  eqs_hdf5_end(&reader);
  return status;
}

static eqs_status use_reply(const wanted_tensors *wanted, const char *bytes, int64_t size, eqs_recording_use use,
                            void *context)
{
  eqs_status status = EQS_OK;
  int64_t used = size_of_presence(wanted);
  for (int64_t p = wanted->first; p < wanted->end; p++) {
    const eqs_recorded *parameter = &wanted->recording->parameter[p];
    bool present = size >= used && bytes[p - wanted->first] != 0, values = present && wanted->wanted[p];
    int64_t taken = values ? elements_of(parameter) * (int64_t)sizeof(float) : 0;
    if (size < used || taken > size - used)
      EQS_TRY(
          eqs_fail(EQS_DAMAGED, "%s: damaged: %.200s arrived incomplete", wanted->recording->path, parameter->name));
    EQS_TRY(use(context, p, present, values ? (const float *)(const void *)(bytes + used) : NULL));
    used += taken;
  }
cleanup:
  return status;
}

/* Tensors from `first` on for one process: some MiB, or one tensor. */
static int64_t end_of_batch(const eqs_recording *recording, const bool *wanted, int64_t first)
{
  const int64_t most = 64 << 20;
  int64_t end = first, bytes = 0;
  do {
    if (wanted[end]) bytes += elements_of(&recording->parameter[end]) * (int64_t)sizeof(float);
    end++;
  } while (end < recording->parameters &&
           (!wanted[end] || bytes + elements_of(&recording->parameter[end]) * (int64_t)sizeof(float) <= most));
  return end;
}

/* Weights that are plain, without HDF5. Where they lie came from a sandbox, and is not believed either. */
static eqs_status read_plain_weights(const eqs_recording *recording, const bool *wanted, eqs_recording_use use,
                                     void *context)
{
  eqs_status status = EQS_OK;
  int file = -1;
  int64_t size;
  float *values = NULL;
  EQS_TRY(eqs_file_open_input(recording->path, &file, &size));
  for (int64_t p = 0; p < recording->parameters; p++) {
    const eqs_recorded *parameter = &recording->parameter[p];
    int64_t elements = elements_of(parameter), word = (int64_t)sizeof *values;
    free(values);
    values = NULL;
    if (wanted[p]) {
      if (elements > size / word || parameter->offset > size - elements * word)
        EQS_TRY(eqs_fail(EQS_DAMAGED, "%s: damaged: %.200s ends after the file", recording->path, parameter->name));
      EQS_TRY(eqs_allocate_raw(&values, elements, word));
      EQS_TRY(eqs_file_read(file, recording->path, values, elements * word, parameter->offset));
    }
    EQS_TRY(use(context, p, true, values));
  }
cleanup:
  free(values);
  eqs_file_close(file);
  return status;
}

eqs_status eqs_recording_read(const eqs_recording *recording, int64_t t, const bool *wanted, eqs_recording_use use,
                              void *context)
{
  eqs_status status = EQS_OK;
  char *bytes = NULL;
  if (t < 0 && recording->weights_are_plain) return read_plain_weights(recording, wanted, use, context);
  for (int64_t first = 0; first < recording->parameters;) {
    wanted_tensors batch = {.recording = recording, .t = t, .first = first, .wanted = wanted};
    int64_t size;
    first = batch.end = end_of_batch(recording, wanted, first);
    eqs_sandbox_limits limits = eqs_hdf5_limits(recording->path, size_of_presence(&batch) + size_of_elements(&batch));
    EQS_TRY(eqs_sandbox_run(&limits, read_in_sandbox, &batch, &bytes, &size));
    EQS_TRY(use_reply(&batch, bytes, size, use, context));
    free(bytes);
    bytes = NULL;
  }
cleanup:
  free(bytes);
  return status;
}
