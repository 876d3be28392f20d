/* Reading what is in a file, which may be damaged or hostile: every size is checked against the file's before it
 * counts. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "checkpoint/file.h"
#include "checkpoint/hdf5_file.h"
#include "checkpoint/summary.h"
#include "checkpoint/tiles.h"

typedef struct {
  const char *path;
  int64_t bytes; /* size of the file */
  hid_t hdf5;
} file_reader;

static eqs_status damaged(const file_reader *reader, const char *what)
{
  const char *detail = eqs_hdf5_error();
  return eqs_fail(EQS_DAMAGED, "%s: damaged: %s%s%s%s", reader->path, what, detail[0] ? " (" : "", detail,
                  detail[0] ? ")" : "");
}

/* Evaluate an HDF5 call; on failure jump to the exit label. */
#define READ_TRY(what, call)                                                                                           \
  do {                                                                                                                 \
    if ((call) < 0) {                                                                                                  \
      status = damaged(reader, what);                                                                                  \
      goto cleanup;                                                                                                    \
    }                                                                                                                  \
  } while (0)

/* Fail unless a condition holds. */
#define READ_CHECK(what, condition)                                                                                    \
  do {                                                                                                                 \
    H5Eclear2(H5E_DEFAULT);                                                                                            \
    READ_TRY(what, (condition) ? 0 : -1);                                                                              \
  } while (0)

static eqs_status read_text_value(const file_reader *reader, hid_t opened, hid_t type, char **text)
{
  eqs_status status = EQS_OK;
  hid_t memory_type = -1;
  char *value = NULL;
  size_t size = H5Tget_size(type);
  READ_CHECK("a text that is larger than the file", size > 0 && (int64_t)size <= reader->bytes);
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
static eqs_status read_value(const file_reader *reader, hid_t object, const char *name, eqs_attribute *attribute)
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

static eqs_status read_integer(const file_reader *reader, hid_t object, const char *name, int64_t *integer)
{
  eqs_attribute attribute = {0};
  eqs_status status = read_value(reader, object, name, &attribute);
  if (status == EQS_OK && attribute.kind != EQS_ATTRIBUTE_INTEGER)
    status = eqs_fail(EQS_DAMAGED, "%s: damaged: attribute %s is not an integer", reader->path, name);
  free((void *)attribute.text);
  *integer = attribute.integer;
  return status;
}

static eqs_status read_text(const file_reader *reader, hid_t object, const char *name, char **text)
{
  eqs_attribute attribute = {0};
  eqs_status status = read_value(reader, object, name, &attribute);
  if (status == EQS_OK && attribute.kind != EQS_ATTRIBUTE_TEXT)
    status = eqs_fail(EQS_DAMAGED, "%s: damaged: attribute %s is not a text", reader->path, name);
  *text = (char *)attribute.text;
  return status;
}

/* Names of links or attributes, in alphabetical order. */
typedef struct {
  int64_t count;
  char **name;
  eqs_status status;
  bool only_hard;
} name_array;

static herr_t keep_name(name_array *names, const char *name)
{
  names->status = eqs_grow(&names->name, names->count, sizeof *names->name);
  if (names->status == EQS_OK) names->status = eqs_copy_text(&names->name[names->count], name);
  if (names->status == EQS_OK) names->count++;
  return names->status == EQS_OK ? 0 : 1;
}

static herr_t take_link(hid_t group, const char *name, const H5L_info_t *info, void *names)
{
  (void)group;
  if (info->type != H5L_TYPE_HARD) ((name_array *)names)->only_hard = false;
  return keep_name(names, name);
}

static herr_t take_attribute(hid_t object, const char *name, const H5A_info_t *info, void *names)
{
  (void)object, (void)info;
  return keep_name(names, name);
}

static int by_text(const void *a, const void *b)
{
  return strcmp(*(char *const *)a, *(char *const *)b);
}

static void free_names(name_array *names)
{
  for (int64_t i = 0; i < names->count; i++) free(names->name[i]);
  free(names->name);
}

static eqs_status sort_names(name_array *names)
{
  if (names->count > 0) qsort(names->name, (size_t)names->count, sizeof *names->name, by_text);
  return names->status;
}

/* Links that lead out of the group's file, or nowhere, are not followed. */
static eqs_status list_links(const file_reader *reader, hid_t group, name_array *names)
{
  eqs_status status = EQS_OK;
  hsize_t position = 0;
  *names = (name_array){.only_hard = true};
  READ_TRY("a group", H5Literate(group, H5_INDEX_NAME, H5_ITER_NATIVE, &position, take_link, names));
  READ_CHECK("a link to another file or name", names->only_hard);
  EQS_TRY(sort_names(names));
cleanup:
  return status;
}

static eqs_status open_group(const file_reader *reader, hid_t parent, const char *name, hid_t *group)
{
  eqs_status status = EQS_OK;
  H5L_info_t link;
  READ_TRY(name, H5Lget_info(parent, name, &link, H5P_DEFAULT));
  READ_CHECK("a link to another file or name", link.type == H5L_TYPE_HARD);
  READ_TRY(name, *group = H5Oopen(parent, name, H5P_DEFAULT));
  READ_CHECK("a group that is none", H5Iget_type(*group) == H5I_GROUP);
cleanup:
  return status;
}

typedef struct {
  int ndim;
  int64_t shape[EQS_MAX_DIMS];
  int64_t bytes, offset; /* in the file; 0 if it has no elements */
} dataset_place;

/*
 * Open a dataset of one of our forms: `type`, contiguous, inside this file. The caller closes it.
 */
static eqs_status open_dataset(const file_reader *reader, hid_t parent, const char *name, hid_t type, hid_t *dataset,
                               dataset_place *place)
{
  eqs_status status = EQS_OK;
  hid_t stored_type = -1, space = -1, properties = -1;
  hsize_t extent[EQS_MAX_DIMS] = {0};
  H5L_info_t link;
  *place = (dataset_place){0};
  READ_TRY(name, H5Lget_info(parent, name, &link, H5P_DEFAULT));
  READ_CHECK("a link to another file or name", link.type == H5L_TYPE_HARD);
  READ_TRY(name, *dataset = H5Oopen(parent, name, H5P_DEFAULT));
  READ_CHECK("a dataset that is none", H5Iget_type(*dataset) == H5I_DATASET);
  READ_TRY(name, stored_type = H5Dget_type(*dataset));
  READ_CHECK("a dataset of another type", H5Tequal(stored_type, type) > 0);
  READ_TRY(name, properties = H5Dget_create_plist(*dataset));
  READ_CHECK("a dataset that is not stored in one piece",
             H5Pget_layout(properties) == H5D_CONTIGUOUS && H5Pget_external_count(properties) == 0);
  READ_TRY(name, space = H5Dget_space(*dataset));
  READ_CHECK("a dataset without values", H5Sget_simple_extent_type(space) != H5S_NULL);
  READ_TRY(name, place->ndim = H5Sget_simple_extent_ndims(space));
  READ_CHECK("a dataset of too many dimensions", place->ndim <= EQS_MAX_DIMS);
  READ_TRY(name, H5Sget_simple_extent_dims(space, extent, NULL));
  place->bytes = (int64_t)H5Tget_size(stored_type);
  for (int d = 0; d < place->ndim; d++) {
    READ_CHECK("a dataset that is too large", extent[d] <= INT64_MAX);
    place->shape[d] = (int64_t)extent[d];
    READ_CHECK("a dataset that is too large", eqs_multiply_sizes(place->bytes, place->shape[d], &place->bytes));
  }
  if (place->bytes > 0) {
    haddr_t address = H5Dget_offset(*dataset);
    READ_CHECK("a dataset without space",
               address != HADDR_UNDEF && H5Dget_storage_size(*dataset) == (hsize_t)place->bytes);
    READ_CHECK("a dataset that ends after the file",
               place->bytes <= reader->bytes && address <= (haddr_t)(reader->bytes - place->bytes));
    place->offset = (int64_t)address;
  }
cleanup:
  eqs_hdf5_close(properties);
  eqs_hdf5_close(space);
  eqs_hdf5_close(stored_type);
  return status;
}

static eqs_status read_attributes(const file_reader *reader, hid_t group, eqs_checkpoint_entry *entry)
{
  eqs_status status = EQS_OK;
  name_array names = {0};
  hsize_t position = 0;
  READ_TRY("attributes", H5Aiterate2(group, H5_INDEX_NAME, H5_ITER_NATIVE, &position, take_attribute, &names));
  EQS_TRY(sort_names(&names));
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
  free_names(&names);
  return status;
}

static eqs_status read_trainer_dtype(const file_reader *reader, hid_t weight, eqs_dtype *dtype)
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

static eqs_status read_tensor(const file_reader *reader, hid_t group, hid_t checksums, eqs_checkpoint_entry *entry,
                              const char *name)
{
  eqs_status status = EQS_OK;
  hid_t dataset = -1, tiles_dataset = -1;
  dataset_place place, tiles;
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

static eqs_status read_entry(const file_reader *reader, hid_t parameters, hid_t integrity, const char *name,
                             eqs_checkpoint_entry *entry)
{
  eqs_status status = EQS_OK;
  hid_t group = -1, checksums = -1;
  name_array tensors = {0};
  bool weight = false;
  EQS_TRY(eqs_copy_text(&entry->name, name));
  EQS_TRY(open_group(reader, parameters, name, &group));
  EQS_TRY(open_group(reader, integrity, name, &checksums));
  EQS_TRY(read_attributes(reader, group, entry));
  EQS_TRY(list_links(reader, group, &tensors));
  READ_CHECK("a parameter with too many tensors", tensors.count <= EQS_MAX_TENSORS);
  for (int64_t t = 0; t < tensors.count; t++) {
    EQS_TRY(read_tensor(reader, group, checksums, entry, tensors.name[t]));
    weight = weight || strcmp(tensors.name[t], "weight") == 0;
  }
  READ_CHECK("a parameter without a weight", weight);
cleanup:
  free_names(&tensors);
  eqs_hdf5_close(checksums);
  eqs_hdf5_close(group);
  if (status == EQS_DAMAGED) status = eqs_fail(status, "%s (parameter %s)", eqs_error_message(), name);
  return status;
}

static eqs_status read_entries(const file_reader *reader, hid_t integrity, eqs_checkpoint_summary *summary)
{
  eqs_status status = EQS_OK;
  hid_t parameters = -1;
  name_array names = {0};
  EQS_TRY(open_group(reader, reader->hdf5, "parameters", &parameters));
  EQS_TRY(list_links(reader, parameters, &names));
  EQS_TRY(eqs_allocate(&summary->entry, names.count, sizeof *summary->entry));
  while (summary->entries < names.count) {
    int64_t e = summary->entries++;
    EQS_TRY(read_entry(reader, parameters, integrity, names.name[e], &summary->entry[e]));
  }
cleanup:
  free_names(&names);
  eqs_hdf5_close(parameters);
  return status;
}

static eqs_status read_item(const file_reader *reader, hid_t trainer, eqs_trainer_item *item)
{
  eqs_status status = EQS_OK;
  hid_t dataset = -1;
  dataset_place place;
  char *bytes = NULL;
  EQS_TRY(open_dataset(reader, trainer, item->key, H5T_STD_U8LE, &dataset, &place));
  READ_CHECK("trainer data of a wrong shape", place.ndim == 1);
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

static eqs_status read_items(const file_reader *reader, eqs_checkpoint_summary *summary)
{
  eqs_status status = EQS_OK;
  hid_t trainer = -1;
  name_array keys = {0};
  EQS_TRY(open_group(reader, reader->hdf5, "trainer", &trainer));
  EQS_TRY(list_links(reader, trainer, &keys));
  EQS_TRY(eqs_allocate(&summary->item, keys.count, sizeof *summary->item));
  for (int64_t i = 0; i < keys.count; i++) {
    eqs_trainer_item *item = &summary->item[summary->items++];
    item->key = keys.name[i];
    keys.name[i] = NULL;
    EQS_TRY(read_item(reader, trainer, item));
  }
cleanup:
  free_names(&keys);
  eqs_hdf5_close(trainer);
  return status;
}

/* Is it ours, of a version that we read, and was its writing finished? */
static eqs_status read_identity(const file_reader *reader, eqs_checkpoint_summary *summary)
{
  eqs_status status = EQS_OK;
  char *format = NULL;
  int64_t complete;
  if (H5Aexists(reader->hdf5, "format") <= 0)
    return eqs_fail(EQS_DAMAGED, "%s: not an Equishard checkpoint (an HDF5 file of another program)", reader->path);
  EQS_TRY(read_text(reader, reader->hdf5, "format", &format));
  if (strcmp(format, EQS_CHECKPOINT_FORMAT) != 0) {
    status = eqs_fail(EQS_DAMAGED, "%s: not an Equishard checkpoint (its format is \"%.80s\")", reader->path, format);
    goto cleanup;
  }
  EQS_TRY(read_integer(reader, reader->hdf5, "format_version", &summary->version));
  if (summary->version > EQS_CHECKPOINT_VERSION) {
    status = eqs_fail(EQS_DAMAGED, "%s: written by a newer Equishard: format version %lld, this one reads up to %d",
                      reader->path, (long long)summary->version, EQS_CHECKPOINT_VERSION);
    goto cleanup;
  }
  READ_CHECK("an impossible format version", summary->version >= 1);
  EQS_TRY(read_integer(reader, reader->hdf5, "complete", &complete));
  if (complete != 1) status = eqs_fail(EQS_DAMAGED, "%s: incomplete: its writing was cut off", reader->path);
cleanup:
  free(format);
  return status;
}

static eqs_status read_summary(const file_reader *reader, eqs_checkpoint_summary *summary)
{
  eqs_status status = EQS_OK;
  hid_t integrity = -1;
  int64_t checksum;
  EQS_TRY(read_identity(reader, summary));
  EQS_TRY(read_integer(reader, reader->hdf5, "step", &summary->step));
  EQS_TRY(read_integer(reader, reader->hdf5, "skipped", &summary->skipped));
  EQS_TRY(read_text(reader, reader->hdf5, "created", &summary->created));
  EQS_TRY(read_text(reader, reader->hdf5, "equishard_version", &summary->equishard_version));
  EQS_TRY(read_text(reader, reader->hdf5, "config", &summary->config));
  EQS_TRY(open_group(reader, reader->hdf5, "integrity", &integrity));
  EQS_TRY(read_integer(reader, integrity, "metadata", &checksum));
  EQS_TRY(read_entries(reader, integrity, summary));
  EQS_TRY(read_items(reader, summary));
  READ_CHECK("the checksum of attributes, shapes and trainer data does not match",
             (uint64_t)checksum == eqs_metadata_checksum(summary));
cleanup:
  eqs_hdf5_close(integrity);
  return status;
}

eqs_status eqs_checkpoint_summarize(const char *path, eqs_checkpoint_summary *summary)
{
  eqs_status status = EQS_OK;
  file_reader opened = {.path = path, .hdf5 = -1};
  const file_reader *reader = &opened;
  hid_t access = -1;
  int file = -1;
  eqs_hdf5_silence();
  *summary = (eqs_checkpoint_summary){0};

  EQS_TRY(eqs_file_open_input(path, &file, &opened.bytes));
  if (H5Fis_hdf5(path) == 0) {
    status = eqs_fail(EQS_DAMAGED, "%s: not an Equishard checkpoint (not an HDF5 file)", path);
    goto cleanup;
  }
  READ_TRY("cannot be opened", access = eqs_hdf5_access());
  READ_TRY("cannot be opened", opened.hdf5 = H5Fopen(path, H5F_ACC_RDONLY, access));
  EQS_TRY(read_summary(reader, summary));
cleanup:
  if (status != EQS_OK) eqs_checkpoint_summary_free(summary);
  if (opened.hdf5 >= 0) H5Fclose(opened.hdf5);
  eqs_hdf5_close(access);
  eqs_file_close(file);
  return status;
}
