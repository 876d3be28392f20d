/* Reading what is in a file, which may be damaged or hostile: every size is checked against the file's before it
 * counts. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "checkpoint/hdf5_read.h"
#include "checkpoint/image.h"
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

/* An attribute; what it consists of is the summary's. */
static eqs_status read_attribute(eqs_hdf5_reader *reader, hid_t group, char **name, eqs_checkpoint_summary *summary,
                                 eqs_attribute *attribute)
{
  eqs_status status = EQS_OK;
  EQS_TRY(read_value(reader, group, *name, attribute));
  if (attribute->kind == EQS_ATTRIBUTE_TEXT) {
    status = eqs_summary_keep_text(summary, (char *)attribute->text);
    if (status != EQS_OK) free((char *)attribute->text);
    EQS_TRY(status);
  }
  EQS_TRY(eqs_summary_keep_text(summary, *name));
  attribute->name = *name;
  *name = NULL;
cleanup:
  return status;
}

static eqs_status read_attributes(eqs_hdf5_reader *reader, hid_t group, eqs_checkpoint_summary *summary,
                                  eqs_checkpoint_entry *entry)
{
  eqs_status status = EQS_OK;
  eqs_names names = {0};
  eqs_attribute *attribute;
  EQS_TRY(eqs_hdf5_list_attributes(reader, group, &names));
  EQS_TRY(eqs_summary_add_attributes(summary, names.count, &attribute));
  entry->attribute = attribute;
  for (; entry->attributes < names.count; entry->attributes++)
    EQS_TRY(read_attribute(reader, group, &names.name[entry->attributes], summary, &attribute[entry->attributes]));
  entry->step = eqs_step_of(entry);
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

/* The checksums of a file's tiles. */
typedef struct {
  hid_t integrity;
  bool in_groups;       /* version 1: those of every tensor are a dataset */
  eqs_hdf5_place tiles; /* of all tensors, in order */
  int64_t next;         /* the next one's number */
} checksum_place;

static eqs_status open_checksums(const eqs_hdf5_reader *reader, int64_t version, checksum_place *place)
{
  eqs_status status = EQS_OK;
  hid_t dataset = -1;
  place->in_groups = version == 1;
  if (place->in_groups) return EQS_OK;
  EQS_TRY(open_dataset(reader, place->integrity, "tiles", H5T_STD_U64LE, &dataset, &place->tiles));
  READ_CHECK("a wrong number of checksums", place->tiles.ndim == 1);
cleanup:
  eqs_hdf5_close(dataset);
  return status;
}

/* Where the checksums of a tensor are; `group` is its parameter's in version 1. */
static eqs_status find_checksums(const eqs_hdf5_reader *reader, checksum_place *place, hid_t group, const char *name,
                                 int64_t tiles, int64_t *offset)
{
  eqs_status status = EQS_OK;
  hid_t dataset = -1;
  eqs_hdf5_place own;
  if (place->in_groups) {
    EQS_TRY(open_dataset(reader, group, name, H5T_STD_U64LE, &dataset, &own));
    READ_CHECK("a wrong number of checksums", own.ndim == 1 && own.shape[0] == tiles);
    *offset = own.offset;
  } else {
    READ_CHECK("a wrong number of checksums", tiles <= place->tiles.shape[0] - place->next);
    *offset = tiles > 0 ? place->tiles.offset + place->next * (int64_t)sizeof(uint64_t) : 0;
    place->next += tiles;
  }
cleanup:
  eqs_hdf5_close(dataset);
  return status;
}

static eqs_status read_tensor(eqs_hdf5_reader *reader, hid_t group, checksum_place *checksums, hid_t checksum_group,
                              eqs_checkpoint_entry *entry, const char *name)
{
  eqs_status status = EQS_OK;
  hid_t dataset = -1;
  eqs_hdf5_place place;
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
  EQS_TRY(find_checksums(reader, checksums, checksum_group, name, eqs_tile_count(rows, cols), &entry->checksums[t]));
  if (strcmp(name, "weight") == 0) EQS_TRY(read_trainer_dtype(reader, dataset, &entry->trainer_dtype));
  entry->offset[t] = place.offset;
  EQS_TRY(eqs_copy_text(&entry->tensor_name[t], name));
  entry->tensors++;
cleanup:
  eqs_hdf5_close(dataset);
  return status;
}

static eqs_status read_entry(eqs_hdf5_reader *reader, hid_t parameters, checksum_place *checksums, const char *name,
                             eqs_checkpoint_summary *summary, eqs_checkpoint_entry *entry)
{
  eqs_status status = EQS_OK;
  hid_t group = -1, checksum_group = -1;
  eqs_names tensors = {0};
  bool weight = false;
  EQS_TRY(eqs_copy_text(&entry->name, name));
  EQS_TRY(eqs_hdf5_open_group(reader, parameters, name, &group));
  if (checksums->in_groups) EQS_TRY(eqs_hdf5_open_group(reader, checksums->integrity, name, &checksum_group));
  EQS_TRY(read_attributes(reader, group, summary, entry));
  EQS_TRY(eqs_hdf5_list_links(reader, group, &tensors));
  READ_CHECK("a parameter with too many tensors", tensors.count <= EQS_MAX_TENSORS);
  for (int64_t t = 0; t < tensors.count; t++) {
    EQS_TRY(read_tensor(reader, group, checksums, checksum_group, entry, tensors.name[t]));
    weight = weight || strcmp(tensors.name[t], "weight") == 0;
  }
  READ_CHECK("a parameter without a weight", weight);
cleanup:
  eqs_names_free(&tensors);
  eqs_hdf5_close(checksum_group);
  eqs_hdf5_close(group);
  if (status == EQS_DAMAGED) status = eqs_fail(status, "%s (parameter %s)", eqs_error_message(), name);
  return status;
}

static eqs_status read_entries(eqs_hdf5_reader *reader, hid_t integrity, eqs_checkpoint_summary *summary)
{
  eqs_status status = EQS_OK;
  hid_t parameters = -1;
  eqs_names names = {0};
  checksum_place checksums = {.integrity = integrity};
  EQS_TRY(open_checksums(reader, summary->version, &checksums));
  EQS_TRY(eqs_hdf5_open_group(reader, reader->file, "parameters", &parameters));
  EQS_TRY(eqs_hdf5_list_links(reader, parameters, &names));
  EQS_TRY(eqs_allocate(&summary->entry, names.count, sizeof *summary->entry));
  while (summary->entries < names.count) {
    int64_t e = summary->entries++;
    EQS_TRY(read_entry(reader, parameters, &checksums, names.name[e], summary, &summary->entry[e]));
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

/* Whether the index, which HDF5 has no use for, says the same. */
static eqs_status check_index(eqs_hdf5_reader *reader, hid_t integrity, const eqs_checkpoint_summary *summary)
{
  eqs_status status = EQS_OK;
  hid_t dataset = -1;
  eqs_hdf5_place place;
  eqs_bytes expected = {0};
  char *index = NULL;
  if (summary->version == 1) return EQS_OK;
  EQS_TRY(eqs_image_index(summary, &expected));
  EQS_TRY(open_dataset(reader, integrity, "index", H5T_STD_U8LE, &dataset, &place));
  READ_CHECK("its index does not say what is in it", place.ndim == 1 && place.bytes == expected.size);
  EQS_TRY(eqs_allocate_raw(&index, place.bytes, 1));
  READ_TRY("its index", H5Dread(dataset, H5T_STD_U8LE, H5S_ALL, H5S_ALL, H5P_DEFAULT, index));
  READ_CHECK("its index does not say what is in it", memcmp(index, expected.bytes, (size_t)expected.size) == 0);
cleanup:
  free(index);
  eqs_bytes_free(&expected);
  eqs_hdf5_close(dataset);
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
  EQS_TRY(check_index(reader, integrity, summary));
cleanup:
  eqs_hdf5_close(integrity);
  return status;
}

eqs_status eqs_hdf5_summarize(const char *path, eqs_checkpoint_summary *summary)
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

/* What is done in the sandbox: HDF5's summary of a file, packed. */
static eqs_status summarize_in_sandbox(void *path, char **bytes, int64_t *size)
{
  eqs_status status = EQS_OK;
  eqs_checkpoint_summary summary;
  EQS_TRY(eqs_hdf5_summarize(path, &summary));
  status = eqs_summary_pack(&summary, bytes, size);
  eqs_checkpoint_summary_free(&summary);
cleanup:
  return status;
}

static eqs_status hdf5_summarize_in_sandbox(const char *path, eqs_checkpoint_summary *summary)
{
  eqs_status status = EQS_OK;
  eqs_sandbox_limits limits = eqs_hdf5_limits(path, 0);
  char *bytes;
  int64_t size;
  *summary = (eqs_checkpoint_summary){0};
  EQS_TRY(eqs_sandbox_run(&limits, summarize_in_sandbox, (void *)path, &bytes, &size));
  EQS_TRY(eqs_summary_unpack(bytes, size, summary));
cleanup:
  free(bytes);
  return status;
}

typedef eqs_status (*hdf5_summarizer)(const char *path, eqs_checkpoint_summary *summary);

/* HDF5 reads what is not as we write it: files of version 1, those that another program has changed, or damage. */
static eqs_status summarize(const char *path, hdf5_summarizer by_hdf5, eqs_checkpoint_summary *summary)
{
  bool as_we_write;
  eqs_status status = eqs_image_summarize(path, summary, &as_we_write);
  if (status != EQS_OK || as_we_write) return status;
  status = by_hdf5(path, summary);
  summary->changed = status == EQS_OK && summary->version != 1;
  return status;
}

void eqs_checkpoint_warn_if_changed(const char *file, const eqs_checkpoint_summary *summary)
{
  if (summary->changed)
    eqs_log(EQS_LOG_WARNING, "%s: another program has changed this file; what Equishard wrote into it is whole", file);
}

eqs_status eqs_checkpoint_summarize(const char *path, eqs_checkpoint_summary *summary)
{
  return summarize(path, hdf5_summarize_in_sandbox, summary);
}

eqs_status eqs_checkpoint_summarize_here(const char *path, eqs_checkpoint_summary *summary)
{
  return summarize(path, eqs_hdf5_summarize, summary);
}

eqs_status eqs_checkpoint_pack(const char *path, char **bytes, int64_t *size)
{
  eqs_status status = EQS_OK;
  eqs_checkpoint_summary summary;
  *bytes = NULL;
  *size = 0;
  EQS_TRY(eqs_checkpoint_summarize(path, &summary));
  eqs_checkpoint_warn_if_changed(path, &summary);
  status = eqs_summary_pack(&summary, bytes, size);
  eqs_checkpoint_summary_free(&summary);
cleanup:
  return status;
}
