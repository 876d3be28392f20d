#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/memory.h"
#include "checkpoint/file.h"
#include "checkpoint/hdf5_file.h"
#include "checkpoint/memory_file.h"
#include "checkpoint/packed.h"
#include "checkpoint/tiles.h"

typedef struct {
  const char *path;
  hid_t file, group_properties, tensor_properties, link_properties;
} file_maker;

/* Evaluate an HDF5 call; on failure jump to the exit label. */
#define HDF5_TRY(path, call)                                                                                           \
  do {                                                                                                                 \
    if ((call) < 0) {                                                                                                  \
      status = eqs_fail(EQS_FAILED, "%s: cannot be made: %s", path, eqs_hdf5_error());                                 \
      goto cleanup;                                                                                                    \
    }                                                                                                                  \
  } while (0)

static eqs_status add_attribute(const file_maker *maker, hid_t object, const eqs_attribute *attribute)
{
  eqs_status status = EQS_OK;
  hid_t type = -1, space = -1, made = -1;
  const void *value = attribute->kind == EQS_ATTRIBUTE_INTEGER ? (const void *)&attribute->integer : &attribute->number;
  switch (attribute->kind) {
  case EQS_ATTRIBUTE_INTEGER: type = H5Tcopy(H5T_STD_I64LE); break;
  case EQS_ATTRIBUTE_NUMBER: type = H5Tcopy(H5T_IEEE_F64LE); break;
  case EQS_ATTRIBUTE_TEXT:
    value = attribute->text ? attribute->text : "";
    type = H5Tcopy(H5T_C_S1);
    HDF5_TRY(maker->path, H5Tset_size(type, strlen(value) > 0 ? strlen(value) : 1)); /* HDF5 has no text of length 0 */
    HDF5_TRY(maker->path, H5Tset_strpad(type, H5T_STR_NULLPAD));
    HDF5_TRY(maker->path, H5Tset_cset(type, H5T_CSET_UTF8));
    break;
  }
  HDF5_TRY(maker->path, type);
  HDF5_TRY(maker->path, space = H5Screate(H5S_SCALAR));
  HDF5_TRY(maker->path, made = H5Acreate2(object, attribute->name, type, space, H5P_DEFAULT, H5P_DEFAULT));
  HDF5_TRY(maker->path, H5Awrite(made, type, value));
cleanup:
  eqs_hdf5_close(made);
  eqs_hdf5_close(space);
  eqs_hdf5_close(type);
  return status;
}

static eqs_status add_text(const file_maker *maker, hid_t object, const char *name, const char *text)
{
  return add_attribute(maker, object, &(eqs_attribute){.name = name, .kind = EQS_ATTRIBUTE_TEXT, .text = text});
}

static eqs_status add_integer(const file_maker *maker, hid_t object, const char *name, int64_t value)
{
  return add_attribute(maker, object, &(eqs_attribute){.name = name, .kind = EQS_ATTRIBUTE_INTEGER, .integer = value});
}

static eqs_status add_group(const file_maker *maker, hid_t parent, const char *name, hid_t *group)
{
  eqs_status status = EQS_OK;
  HDF5_TRY(maker->path,
           *group = H5Gcreate2(parent, name, maker->link_properties, maker->group_properties, H5P_DEFAULT));
cleanup:
  return status;
}

/* A dataset with its space; offset 0 if it has no elements. The caller closes it. */
static eqs_status add_dataset(const file_maker *maker, hid_t parent, const char *name, hid_t type, int ndim,
                              const int64_t *shape, hid_t *dataset, int64_t *offset)
{
  eqs_status status = EQS_OK;
  hsize_t extent[EQS_MAX_DIMS];
  hid_t space = -1;
  bool empty = false;
  for (int d = 0; d < ndim; d++) {
    extent[d] = (hsize_t)shape[d];
    empty = empty || shape[d] == 0;
  }
  HDF5_TRY(maker->path, space = ndim == 0 ? H5Screate(H5S_SCALAR) : H5Screate_simple(ndim, extent, NULL));
  HDF5_TRY(maker->path, *dataset = H5Dcreate2(parent, name, type, space, maker->link_properties,
                                              maker->tensor_properties, H5P_DEFAULT));
  haddr_t address = empty ? 0 : H5Dget_offset(*dataset);
  HDF5_TRY(maker->path, address == HADDR_UNDEF ? -1 : 0);
  *offset = (int64_t)address;
cleanup:
  eqs_hdf5_close(space);
  return status;
}

static eqs_status add_root_attributes(const file_maker *maker, const eqs_checkpoint_summary *summary)
{
  eqs_status status = EQS_OK;
  char created[32];
  time_t now = time(NULL);
  struct tm utc;
  strftime(created, sizeof created, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));

  EQS_TRY(add_text(maker, maker->file, "format", EQS_CHECKPOINT_FORMAT));
  EQS_TRY(add_integer(maker, maker->file, "format_version", summary->version));
  EQS_TRY(add_integer(maker, maker->file, "step", summary->step));
  EQS_TRY(add_integer(maker, maker->file, "skipped", summary->skipped));
  EQS_TRY(add_text(maker, maker->file, "created", created));
  EQS_TRY(add_text(maker, maker->file, "equishard_version", summary->equishard_version));
  EQS_TRY(add_text(maker, maker->file, "config", summary->config));
  EQS_TRY(add_integer(maker, maker->file, "complete", 1));
cleanup:
  return status;
}

static eqs_status add_parameter(const file_maker *maker, hid_t parameters, hid_t integrity, eqs_checkpoint_entry *entry)
{
  eqs_status status = EQS_OK;
  hid_t group = -1, checksums = -1, dataset = -1;
  int64_t rows, cols;
  eqs_tensor_rows_cols(entry->ndim, entry->shape, &rows, &cols);
  int64_t tiles = eqs_tile_count(rows, cols);
  EQS_TRY(add_group(maker, parameters, entry->name, &group));
  EQS_TRY(add_group(maker, integrity, entry->name, &checksums));
  for (int a = 0; a < entry->attributes; a++) EQS_TRY(add_attribute(maker, group, &entry->attribute[a]));
  for (int t = 0; t < entry->tensors; t++) {
    EQS_TRY(add_dataset(maker, group, entry->tensor_name[t], H5T_IEEE_F32LE, entry->ndim, entry->shape, &dataset,
                        &entry->offset[t]));
    if (strcmp(entry->tensor_name[t], "weight") == 0)
      EQS_TRY(add_text(maker, dataset, "trainer_dtype", eqs_dtype_name(entry->trainer_dtype)));
    eqs_hdf5_close(dataset);
    dataset = -1;
    EQS_TRY(
        add_dataset(maker, checksums, entry->tensor_name[t], H5T_STD_U64LE, 1, &tiles, &dataset, &entry->checksums[t]));
    eqs_hdf5_close(dataset);
    dataset = -1;
  }
cleanup:
  eqs_hdf5_close(dataset);
  eqs_hdf5_close(checksums);
  eqs_hdf5_close(group);
  return status;
}

static eqs_status add_trainer_item(const file_maker *maker, hid_t trainer, const eqs_checkpoint_item *item)
{
  eqs_status status = EQS_OK;
  hid_t dataset = -1;
  int64_t size = (int64_t)item->size, offset;
  EQS_TRY(add_dataset(maker, trainer, item->key, H5T_STD_U8LE, 1, &size, &dataset, &offset));
  if (size > 0) HDF5_TRY(maker->path, H5Dwrite(dataset, H5T_STD_U8LE, H5S_ALL, H5S_ALL, H5P_DEFAULT, item->bytes));
cleanup:
  eqs_hdf5_close(dataset);
  return status;
}

static eqs_status add_everything(const file_maker *maker, eqs_checkpoint_summary *summary)
{
  eqs_status status = EQS_OK;
  hid_t parameters = -1, integrity = -1, trainer = -1;
  uint64_t checksum;
  EQS_TRY(eqs_metadata_checksum(summary, &checksum));
  EQS_TRY(add_root_attributes(maker, summary));
  EQS_TRY(add_group(maker, maker->file, "parameters", &parameters));
  EQS_TRY(add_group(maker, maker->file, "integrity", &integrity));
  EQS_TRY(add_group(maker, maker->file, "trainer", &trainer));
  EQS_TRY(add_integer(maker, integrity, "metadata", (int64_t)checksum));
  for (int i = 0; i < summary->items; i++) EQS_TRY(add_trainer_item(maker, trainer, &summary->item[i]));
  for (int64_t e = 0; e < summary->entries; e++)
    EQS_TRY(add_parameter(maker, parameters, integrity, &summary->entry[e]));
cleanup:
  eqs_hdf5_close(trainer);
  eqs_hdf5_close(integrity);
  eqs_hdf5_close(parameters);
  return status;
}

/* Creation properties of groups and tensors: no times, so that equal contents are equal bytes; attributes in the
 * header. */
static eqs_status make_properties(file_maker *maker)
{
  eqs_status status = EQS_OK;
  HDF5_TRY(maker->path, maker->group_properties = H5Pcreate(H5P_GROUP_CREATE));
  HDF5_TRY(maker->path, H5Pset_obj_track_times(maker->group_properties, false));
  HDF5_TRY(maker->path, H5Pset_attr_phase_change(maker->group_properties, 64, 32));
  HDF5_TRY(maker->path, maker->tensor_properties = H5Pcreate(H5P_DATASET_CREATE));
  HDF5_TRY(maker->path, H5Pset_obj_track_times(maker->tensor_properties, false));
  HDF5_TRY(maker->path, H5Pset_layout(maker->tensor_properties, H5D_CONTIGUOUS));
  HDF5_TRY(maker->path, H5Pset_alloc_time(maker->tensor_properties, H5D_ALLOC_TIME_EARLY));
  HDF5_TRY(maker->path, H5Pset_fill_time(maker->tensor_properties, H5D_FILL_TIME_NEVER));
  HDF5_TRY(maker->path, maker->link_properties = H5Pcreate(H5P_LINK_CREATE));
  HDF5_TRY(maker->path, H5Pset_char_encoding(maker->link_properties, H5T_CSET_UTF8));
cleanup:
  return status;
}

/* Make the file in memory. */
static eqs_status make_image(const char *path, eqs_checkpoint_summary *summary, eqs_memory_file *image)
{
  eqs_status status = EQS_OK;
  file_maker maker = {.path = path, .file = -1, .group_properties = -1, .tensor_properties = -1, .link_properties = -1};
  hid_t access = -1, creation = -1, driver = -1;
  EQS_TRY(make_properties(&maker));
  HDF5_TRY(path, access = eqs_hdf5_access());
  HDF5_TRY(path, eqs_memory_file_use(access, image, &driver));
  HDF5_TRY(path, creation = H5Pcreate(H5P_FILE_CREATE));
  HDF5_TRY(path, H5Pset_obj_track_times(creation, false));
  HDF5_TRY(path, maker.file = H5Fcreate(path, H5F_ACC_TRUNC, creation, access));
  EQS_TRY(add_everything(&maker, summary));
  hid_t closing = maker.file;
  maker.file = -1;
  HDF5_TRY(path, H5Fclose(closing));
cleanup:
  if (maker.file >= 0) H5Fclose(maker.file);
  eqs_hdf5_close(creation);
  eqs_hdf5_close(access);
  eqs_hdf5_close(driver);
  eqs_hdf5_close(maker.link_properties);
  eqs_hdf5_close(maker.tensor_properties);
  eqs_hdf5_close(maker.group_properties);
  return status;
}

/* Without its first bytes a file is no HDF5 file to anybody. */
static const char signature[] = {'\211', 'H', 'D', 'F', '\r', '\n', '\032', '\n'};

/* Write the image to an own file, all but the signature, with space for the tensors. */
static eqs_status write_image(const char *path, const eqs_memory_file *image)
{
  eqs_status status = EQS_OK;
  int file = -1;
  EQS_TRY(eqs_file_open(path, O_WRONLY | O_CREAT | O_EXCL, &file));
  EQS_TRY(eqs_file_resize(file, path, image->size));
  EQS_TRY(eqs_file_reserve(file, path, image->size));
  for (int64_t i = 0; i < image->pages; i++) {
    const eqs_memory_page *page = &image->page[i];
    int64_t skipped = page->number == 0 ? (int64_t)sizeof signature : 0;
    int64_t begin = page->number * EQS_PAGE_SIZE, left = image->size - begin;
    EQS_TRY(eqs_file_write(file, path, page->bytes + skipped, (left < EQS_PAGE_SIZE ? left : EQS_PAGE_SIZE) - skipped,
                           begin + skipped));
  }
  EQS_TRY(eqs_file_finish(&file, path));
cleanup:
  eqs_file_close(file);
  return status;
}

eqs_status eqs_hdf5_create(const char *path, eqs_checkpoint_summary *summary)
{
  eqs_status status = EQS_OK;
  eqs_memory_file image = {0};
  eqs_hdf5_silence();
  EQS_TRY(make_image(path, summary, &image));
  EQS_TRY(write_image(path, &image));
cleanup:
  eqs_memory_file_free(&image);
  return status;
}

eqs_status eqs_hdf5_complete(const char *path)
{
  eqs_status status = EQS_OK;
  int file = -1;
  EQS_TRY(eqs_file_open(path, O_WRONLY, &file));
  EQS_TRY(eqs_file_sync(file, path)); /* what the first owner wrote before the tiles */
  EQS_TRY(eqs_file_write(file, path, signature, sizeof signature, 0));
  EQS_TRY(eqs_file_sync(file, path));
cleanup:
  eqs_file_close(file);
  return status;
}
