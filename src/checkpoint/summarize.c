/* Reading what is in a file, which may be damaged or hostile: every size is checked against the file's before it
 * counts. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "checkpoint/hdf5_read.h"
#include "checkpoint/packed.h"
#include "checkpoint/summary.h"
#include "checkpoint/tiles.h"

#define READ_TRY(what, call) EQS_HDF5_TRY(reader, what, call)
#define READ_CHECK(what, condition) EQS_HDF5_CHECK(reader, what, condition)

static eqs_status read_text_value(eqs_hdf5_reader *reader, hid_t opened, hid_t type, char **text)
{
  eqs_status status = EQS_OK;
  hid_t memory_type = -1;
  char *value = NULL;
  size_t size = H5Tget_size(type);
  READ_CHECK("a text of no size", size > 0);
  EQS_TRY(eqs_hdf5_spend(reader, (int64_t)size));
  EQS_TRY(eqs_allocate(&value, (int64_t)size + 1, 1));
  READ_TRY("a text", memory_type = H5Tcopy(type));
  READ_TRY("a text", H5Aread(opened, memory_type, value));
  *text = value;
  value = NULL;
cleanup:
  free(value);
  eqs_hdf5_close(memory_type);
  return status;
}

/* The value of an attribute; its text is allocated; name is left alone. */
static eqs_status read_value(eqs_hdf5_reader *reader, hid_t object, const char *name, eqs_attribute *attribute)
{
  eqs_status status = EQS_OK;
  hid_t opened = -1, type = -1, space = -1;
  char *text = NULL;
  READ_TRY(name, opened = H5Aopen(object, name, H5P_DEFAULT));
  READ_TRY(name, type = H5Aget_type(opened));
  READ_TRY(name, space = H5Aget_space(opened));
  READ_CHECK("an attribute that is not one value", H5Sget_simple_extent_type(space) == H5S_SCALAR);
  if (H5Tequal(type, H5T_STD_I64LE) > 0) {
    attribute->kind = EQS_ATTRIBUTE_INTEGER;
    READ_TRY(name, H5Aread(opened, H5T_NATIVE_INT64, &attribute->integer));
  } else if (H5Tequal(type, H5T_IEEE_F64LE) > 0) {
    attribute->kind = EQS_ATTRIBUTE_NUMBER;
    READ_TRY(name, H5Aread(opened, H5T_NATIVE_DOUBLE, &attribute->number));
  } else {
    READ_CHECK("an attribute of an unknown type", H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0);
    attribute->kind = EQS_ATTRIBUTE_TEXT;
    EQS_TRY(read_text_value(reader, opened, type, &text));
    attribute->text = text;
  }
cleanup:
  eqs_hdf5_close(space);
  eqs_hdf5_close(type);
  eqs_hdf5_close(opened);
  return status;
}

static eqs_status read_integer(eqs_hdf5_reader *reader, hid_t object, const char *name, int64_t *integer)
{
  eqs_attribute attribute = {0};
  eqs_status status = read_value(reader, object, name, &attribute);
  if (status == EQS_OK && attribute.kind != EQS_ATTRIBUTE_INTEGER)
    status = eqs_fail(EQS_DAMAGED, "%s: damaged: attribute %s is not an integer", reader->path, name);
  free((void *)attribute.text);
  *integer = attribute.integer;
  return status;
}

static eqs_status read_text(eqs_hdf5_reader *reader, hid_t object, const char *name, char **text)
{
  eqs_attribute attribute = {0};
  eqs_status status = read_value(reader, object, name, &attribute);
  if (status == EQS_OK && attribute.kind != EQS_ATTRIBUTE_TEXT)
    status = eqs_fail(EQS_DAMAGED, "%s: damaged: attribute %s is not a text", reader->path, name);
  *text = (char *)attribute.text;
  return status;
}

/* Open a dataset of one of our forms: of a type, in one piece. The caller closes it. */
static eqs_status open_dataset(const eqs_hdf5_reader *reader, hid_t parent, const char *name, hid_t type,
                               hid_t *dataset, eqs_hdf5_place *place)
{
  eqs_status status = EQS_OK;
  hid_t stored_type = -1;
  EQS_TRY(eqs_hdf5_open_dataset(reader, parent, name, dataset, &stored_type, place));
  READ_CHECK("a dataset of another type", H5Tequal(stored_type, type) > 0);
  READ_CHECK("a dataset that is not stored in one piece", place->one_piece);
cleanup:
  eqs_hdf5_close(stored_type);
  return status;
}

static eqs_status read_attributes(eqs_hdf5_reader *reader, hid_t group, eqs_checkpoint_entry *entry)
{
  eqs_status status = EQS_OK;
  eqs_names names = {0};
  EQS_TRY(eqs_hdf5_list_attributes(reader, group, &names));
  EQS_TRY(eqs_allocate(&entry->attribute, names.count, sizeof *entry->attribute));
  for (int64_t a = 0; a < names.count; a++) {
    eqs_attribute *attribute = &entry->attribute[entry->attributes++];
    EQS_TRY(read_value(reader, group, names.name[a], attribute));
    attribute->name = names.name[a];
    names.name[a] = NULL;
    if (strcmp(attribute->name, "step") == 0 && attribute->kind == EQS_ATTRIBUTE_INTEGER)
      entry->step = attribute->integer;
  }
cleanup:
  eqs_names_free(&names);
  return status;
}

static eqs_status read_trainer_dtype(eqs_hdf5_reader *reader, hid_t weight, eqs_dtype *dtype)
{
  eqs_status status = EQS_OK;
  char *name = NULL;
  bool found = false;
  EQS_TRY(read_text(reader, weight, "trainer_dtype", &name));
  for (int d = EQS_FLOAT32; d <= EQS_FLOAT16; d++)
    if (strcmp(name, eqs_dtype_name((eqs_dtype)d)) == 0) {
      *dtype = (eqs_dtype)d;
      found = true;
    }
  READ_CHECK("an unknown trainer_dtype", found);
cleanup:
  free(name);
  return status;
}

static eqs_status read_tensor(eqs_hdf5_reader *reader, hid_t group, hid_t checksums, eqs_checkpoint_entry *entry,
                              const char *name)
{
  eqs_status status = EQS_OK;
  hid_t dataset = -1, tiles_dataset = -1;
  eqs_hdf5_place place, tiles;
  int64_t rows, cols;
  int t = entry->tensors;
  EQS_TRY(open_dataset(reader, group, name, H5T_IEEE_F32LE, &dataset, &place));
  if (t == 0) {
    entry->ndim = place.ndim;
    memcpy(entry->shape, place.shape, sizeof entry->shape);
  }
  READ_CHECK("tensors of one parameter have different shapes",
             entry->ndim == place.ndim &&
                 memcmp(entry->shape, place.shape, (size_t)place.ndim * sizeof *place.shape) == 0);
  READ_CHECK("a tensor that is too large", eqs_tensor_rows_cols(place.ndim, place.shape, &rows, &cols));
  EQS_TRY(open_dataset(reader, checksums, name, H5T_STD_U64LE, &tiles_dataset, &tiles));
  READ_CHECK("a wrong number of checksums", tiles.ndim == 1 && tiles.shape[0] == eqs_tile_count(rows, cols));
  if (strcmp(name, "weight") == 0) EQS_TRY(read_trainer_dtype(reader, dataset, &entry->trainer_dtype));
  entry->offset[t] = place.offset;
  entry->checksums[t] = tiles.offset;
  EQS_TRY(eqs_copy_text(&entry->tensor_name[t], name));
  entry->tensors++;
cleanup:
  eqs_hdf5_close(tiles_dataset);
  eqs_hdf5_close(dataset);
  return status;
}

static eqs_status read_entry(eqs_hdf5_reader *reader, hid_t parameters, hid_t integrity, const char *name,
                             eqs_checkpoint_entry *entry)
{
  eqs_status status = EQS_OK;
  hid_t group = -1, checksums = -1;
  eqs_names tensors = {0};
  bool weight = false;
  EQS_TRY(eqs_copy_text(&entry->name, name));
  EQS_TRY(eqs_hdf5_open_group(reader, parameters, name, &group));
  EQS_TRY(eqs_hdf5_open_group(reader, integrity, name, &checksums));
  EQS_TRY(read_attributes(reader, group, entry));
  EQS_TRY(eqs_hdf5_list_links(reader, group, &tensors));
  READ_CHECK("a parameter with too many tensors", tensors.count <= EQS_MAX_TENSORS);
  for (int64_t t = 0; t < tensors.count; t++) {
    EQS_TRY(read_tensor(reader, group, checksums, entry, tensors.name[t]));
    weight = weight || strcmp(tensors.name[t], "weight") == 0;
  }
  READ_CHECK("a parameter without a weight", weight);
cleanup:
  eqs_names_free(&tensors);
  eqs_hdf5_close(checksums);
  eqs_hdf5_close(group);
  if (status == EQS_DAMAGED) status = eqs_fail(status, "%s (parameter %s)", eqs_error_message(), name);
  return status;
}

static eqs_status read_entries(eqs_hdf5_reader *reader, hid_t integrity, eqs_checkpoint_summary *summary)
{
  eqs_status status = EQS_OK;
  hid_t parameters = -1;
  eqs_names names = {0};
  EQS_TRY(eqs_hdf5_open_group(reader, reader->file, "parameters", &parameters));
  EQS_TRY(eqs_hdf5_list_links(reader, parameters, &names));
  EQS_TRY(eqs_allocate(&summary->entry, names.count, sizeof *summary->entry));
  while (summary->entries < names.count) {
    int64_t e = summary->entries++;
    EQS_TRY(read_entry(reader, parameters, integrity, names.name[e], &summary->entry[e]));
  }
cleanup:
  eqs_names_free(&names);
  eqs_hdf5_close(parameters);
  return status;
}

static eqs_status read_item(eqs_hdf5_reader *reader, hid_t trainer, eqs_checkpoint_item *item)
{
  eqs_status status = EQS_OK;
  hid_t dataset = -1;
  eqs_hdf5_place place;
  char *bytes = NULL;
  EQS_TRY(open_dataset(reader, trainer, item->key, H5T_STD_U8LE, &dataset, &place));
  READ_CHECK("trainer data of a wrong shape", place.ndim == 1);
  EQS_TRY(eqs_hdf5_spend(reader, place.bytes));
  EQS_TRY(eqs_allocate_raw(&bytes, place.bytes, 1));
  if (place.bytes > 0) READ_TRY("trainer data", H5Dread(dataset, H5T_STD_U8LE, H5S_ALL, H5S_ALL, H5P_DEFAULT, bytes));
  item->bytes = bytes;
  item->size = (size_t)place.bytes;
  bytes = NULL;
cleanup:
  free(bytes);
  eqs_hdf5_close(dataset);
  return status;
}

static eqs_status read_items(eqs_hdf5_reader *reader, eqs_checkpoint_summary *summary)
{
  eqs_status status = EQS_OK;
  hid_t trainer = -1;
  eqs_names keys = {0};
  EQS_TRY(eqs_hdf5_open_group(reader, reader->file, "trainer", &trainer));
  EQS_TRY(eqs_hdf5_list_links(reader, trainer, &keys));
  EQS_TRY(eqs_allocate(&summary->item, keys.count, sizeof *summary->item));
  for (int64_t i = 0; i < keys.count; i++) {
    eqs_checkpoint_item *item = &summary->item[summary->items++];
    item->key = keys.name[i];
    keys.name[i] = NULL;
    EQS_TRY(read_item(reader, trainer, item));
  }
cleanup:
  eqs_names_free(&keys);
  eqs_hdf5_close(trainer);
  return status;
}

/* Is it ours, of a version that we read, and was its writing finished? */
static eqs_status read_identity(eqs_hdf5_reader *reader, eqs_checkpoint_summary *summary)
{
  eqs_status status = EQS_OK;
  char *format = NULL;
  int64_t complete;
  htri_t exists = H5Aexists(reader->file, "format");
  READ_TRY("its attributes", exists);
  if (exists == 0)
    return eqs_fail(EQS_DAMAGED, "%s: not an Equishard checkpoint (an HDF5 file of another program)", reader->path);
  EQS_TRY(read_text(reader, reader->file, "format", &format));
  if (strcmp(format, EQS_CHECKPOINT_FORMAT) != 0) {
    status = eqs_fail(EQS_DAMAGED, "%s: not an Equishard checkpoint (its format is \"%.80s\")", reader->path, format);
    goto cleanup;
  }
  EQS_TRY(read_integer(reader, reader->file, "format_version", &summary->version));
  if (summary->version > EQS_CHECKPOINT_VERSION) {
    status = eqs_fail(EQS_DAMAGED, "%s: written by a newer Equishard: format version %lld, this one reads up to %d",
                      reader->path, (long long)summary->version, EQS_CHECKPOINT_VERSION);
    goto cleanup;
  }
  READ_CHECK("an impossible format version", summary->version >= 1);
  EQS_TRY(read_integer(reader, reader->file, "complete", &complete));
  if (complete != 1) status = eqs_fail(EQS_DAMAGED, "%s: incomplete: its writing was cut off", reader->path);
cleanup:
  free(format);
  return status;
}

static eqs_status read_summary(eqs_hdf5_reader *reader, eqs_checkpoint_summary *summary)
{
  eqs_status status = EQS_OK;
  hid_t integrity = -1;
  int64_t checksum;
  uint64_t computed;
  EQS_TRY(read_identity(reader, summary));
  EQS_TRY(read_integer(reader, reader->file, "step", &summary->step));
  EQS_TRY(read_integer(reader, reader->file, "skipped", &summary->skipped));
  EQS_TRY(read_text(reader, reader->file, "created", &summary->created));
  EQS_TRY(read_text(reader, reader->file, "equishard_version", &summary->equishard_version));
  EQS_TRY(read_text(reader, reader->file, "config", &summary->config));
  EQS_TRY(eqs_hdf5_open_group(reader, reader->file, "integrity", &integrity));
  EQS_TRY(read_integer(reader, integrity, "metadata", &checksum));
  EQS_TRY(read_entries(reader, integrity, summary));
  EQS_TRY(read_items(reader, summary));
  EQS_TRY(eqs_metadata_checksum(summary, &computed));
  READ_CHECK("the checksum of attributes, shapes and trainer data does not match", (uint64_t)checksum == computed);
cleanup:
  eqs_hdf5_close(integrity);
  return status;
}

eqs_status eqs_checkpoint_summarize_here(const char *path, eqs_checkpoint_summary *summary)
{
  eqs_status status = EQS_OK;
  eqs_hdf5_reader reader = {.file = -1};
  *summary = (eqs_checkpoint_summary){0};
  EQS_TRY(eqs_hdf5_open(path, &reader));
  EQS_TRY(read_summary(&reader, summary));
cleanup:
  if (status != EQS_OK) eqs_checkpoint_summary_free(summary);
  eqs_hdf5_end(&reader);
  return status;
}

/* What is done apart: the summary of a file, packed. */
static eqs_status summarize_apart(void *path, char **bytes, int64_t *size)
{
  eqs_status status = EQS_OK;
  eqs_checkpoint_summary summary;
  EQS_TRY(eqs_checkpoint_summarize_here(path, &summary));
  status = eqs_summary_pack(&summary, bytes, size);
  eqs_checkpoint_summary_free(&summary);
cleanup:
  return status;
}

eqs_status eqs_checkpoint_pack(const char *path, char **bytes, int64_t *size)
{
  eqs_apart_limits limits = eqs_hdf5_limits(path, 0);
  return eqs_apart(&limits, summarize_apart, (void *)path, bytes, size);
}

eqs_status eqs_checkpoint_summarize(const char *path, eqs_checkpoint_summary *summary)
{
  eqs_status status = EQS_OK;
  char *bytes;
  int64_t size;
  *summary = (eqs_checkpoint_summary){0};
  EQS_TRY(eqs_checkpoint_pack(path, &bytes, &size));
  EQS_TRY(eqs_summary_unpack(bytes, size, summary));
cleanup:
  free(bytes);
  return status;
}
