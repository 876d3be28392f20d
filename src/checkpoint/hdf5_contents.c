#include "checkpoint/hdf5_contents.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/numbers.h"
#include "checkpoint/hdf5_read.h"
#include "checkpoint/image.h"
#include "checkpoint/serialize.h"
#include "checkpoint/tiles.h"

#define READ_TRY(what, call) EQS_HDF5_TRY(reader, what, call)
#define READ_CHECK(what, condition) EQS_HDF5_CHECK(reader, what, condition)

static eqs_status read_text_value(eqs_hdf5_reader *reader, hid_t opened, hid_t type, eqs_checkpoint_contents *contents,
                                  const char **text)
{
  eqs_status status = EQS_OK;
  hid_t memory_type = -1;
  char *value;
  size_t size = H5Tget_size(type);
  READ_CHECK("a text of no size", size > 0);
  EQS_TRY(eqs_hdf5_spend(reader, (int64_t)size));
  EQS_TRY(eqs_contents_allocate(contents, &value, (int64_t)size + 1, 1));
  READ_TRY("a text", memory_type = H5Tcopy(type));
  READ_TRY("a text", H5Aread(opened, memory_type, value));
  *text = value;
cleanup:
  eqs_hdf5_close(memory_type);
  return status;
}

/* The value of an attribute; its text belongs to the contents; the attribute's name is left alone. */
static eqs_status read_value(eqs_hdf5_reader *reader, hid_t object, const char *name, eqs_checkpoint_contents *contents,
                             eqs_attribute *attribute)
{
  eqs_status status = EQS_OK;
  hid_t opened = -1, type = -1, space = -1;
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
    EQS_TRY(read_text_value(reader, opened, type, contents, &attribute->text));
  }
cleanup:
  eqs_hdf5_close(space);
  eqs_hdf5_close(type);
  eqs_hdf5_close(opened);
  return status;
}

static eqs_status read_integer(eqs_hdf5_reader *reader, hid_t object, const char *name,
                               eqs_checkpoint_contents *contents, int64_t *integer)
{
  eqs_attribute attribute = {0};
  eqs_status status = read_value(reader, object, name, contents, &attribute);
  if (status == EQS_OK && attribute.kind != EQS_ATTRIBUTE_INTEGER)
    status = eqs_fail(EQS_DAMAGED, "%s: damaged: attribute %s is not an integer", reader->path, name);
  *integer = attribute.integer;
  return status;
}

static eqs_status read_text(eqs_hdf5_reader *reader, hid_t object, const char *name, eqs_checkpoint_contents *contents,
                            const char **text)
{
  eqs_attribute attribute = {0};
  eqs_status status = read_value(reader, object, name, contents, &attribute);
  if (status == EQS_OK && attribute.kind != EQS_ATTRIBUTE_TEXT)
    status = eqs_fail(EQS_DAMAGED, "%s: damaged: attribute %s is not a text", reader->path, name);
  *text = attribute.text;
  return status;
}

/* Open a dataset of one of our forms: of a type, in one piece. The caller closes it. */
static eqs_status open_dataset(const eqs_hdf5_reader *reader, hid_t parent, const char *name, hid_t type,
                               hid_t *dataset, eqs_hdf5_place *extent)
{
  eqs_status status = EQS_OK;
  hid_t stored_type = -1;
  EQS_TRY(eqs_hdf5_open_dataset(reader, parent, name, dataset, &stored_type, extent));
  READ_CHECK("a dataset of another type", H5Tequal(stored_type, type) > 0);
  READ_CHECK("a dataset that is not stored in one piece", extent->one_piece);
cleanup:
  eqs_hdf5_close(stored_type);
  return status;
}

/* A name out of a list becomes the contents'. */
static eqs_status own_name(eqs_names *names, int64_t i, eqs_checkpoint_contents *contents, const char **name)
{
  char *taken = names->name[i];
  names->name[i] = NULL;
  *name = taken;
  return eqs_contents_own(contents, taken);
}

static eqs_status read_attributes(eqs_hdf5_reader *reader, hid_t group, eqs_checkpoint_contents *contents,
                                  eqs_checkpoint_parameter *parameter)
{
  eqs_status status = EQS_OK;
  eqs_names names = {0};
  eqs_attribute *attribute;
  EQS_TRY(eqs_hdf5_list_attributes(reader, group, &names));
  EQS_TRY(eqs_contents_allocate(contents, &attribute, names.count, sizeof *attribute));
  parameter->attribute = attribute;
  for (int64_t a = 0; a < names.count; a++) {
    EQS_TRY(read_value(reader, group, names.name[a], contents, &attribute[a]));
    EQS_TRY(own_name(&names, a, contents, &attribute[a].name));
    parameter->attributes++;
  }
cleanup:
  eqs_names_free(&names);
  return status;
}

static eqs_status read_trainer_dtype(eqs_hdf5_reader *reader, hid_t weight, eqs_checkpoint_contents *contents,
                                     eqs_dtype *dtype)
{
  eqs_status status = EQS_OK;
  const char *name;
  int found = EQS_FLOAT32;
  EQS_TRY(read_text(reader, weight, "trainer_dtype", contents, &name));
  while (found <= EQS_FLOAT16 && strcmp(name, eqs_dtype_name((eqs_dtype)found)) != 0) found++;
  READ_CHECK("an unknown trainer_dtype", found <= EQS_FLOAT16);
  *dtype = (eqs_dtype)found;
cleanup:
  return status;
}

/* The checksums of a file's tiles. */
typedef struct {
  hid_t integrity;
  bool in_groups;       /* version 1: those of every tensor are a dataset */
  eqs_hdf5_place tiles; /* of all tensors, in order */
  int64_t next;         /* the next one's number */
} checksum_list;

static eqs_status open_checksums(const eqs_hdf5_reader *reader, int64_t version, checksum_list *list)
{
  eqs_status status = EQS_OK;
  hid_t dataset = -1;
  list->in_groups = version == 1;
  if (list->in_groups) return EQS_OK;
  EQS_TRY(open_dataset(reader, list->integrity, "tiles", H5T_STD_U64LE, &dataset, &list->tiles));
  READ_CHECK("a wrong number of checksums", list->tiles.ndim == 1);
cleanup:
  eqs_hdf5_close(dataset);
  return status;
}

/* Where the checksums of a tensor are; `group` is its parameter's in version 1. */
static eqs_status find_checksums(const eqs_hdf5_reader *reader, checksum_list *list, hid_t group, const char *name,
                                 int64_t tiles, int64_t *offset)
{
  eqs_status status = EQS_OK;
  hid_t dataset = -1;
  eqs_hdf5_place own;
  if (list->in_groups) {
    EQS_TRY(open_dataset(reader, group, name, H5T_STD_U64LE, &dataset, &own));
    READ_CHECK("a wrong number of checksums", own.ndim == 1 && own.shape[0] == tiles);
    *offset = own.offset;
  } else {
    READ_CHECK("a wrong number of checksums", tiles <= list->tiles.shape[0] - list->next);
    *offset = tiles > 0 ? list->tiles.offset + list->next * (int64_t)sizeof(uint64_t) : 0;
    list->next += tiles;
  }
cleanup:
  eqs_hdf5_close(dataset);
  return status;
}

/* A tensor of a parameter, whose shape is that of the first; the name stays borrowed. */
static eqs_status read_tensor(eqs_hdf5_reader *reader, hid_t group, checksum_list *checksums, hid_t checksum_group,
                              const char *name, eqs_checkpoint_contents *contents, eqs_checkpoint_parameter *parameter)
{
  eqs_status status = EQS_OK;
  hid_t dataset = -1;
  eqs_hdf5_place extent;
  int64_t rows, cols;
  eqs_checkpoint_tensor *tensor = &parameter->tensor[parameter->tensors];
  EQS_TRY(open_dataset(reader, group, name, H5T_IEEE_F32LE, &dataset, &extent));
  if (parameter->tensors == 0) {
    parameter->ndim = extent.ndim;
    memcpy(parameter->shape, extent.shape, sizeof parameter->shape);
  }
  READ_CHECK("tensors of one parameter have different shapes",
             eqs_parameter_has_shape(parameter, extent.ndim, extent.shape));
  READ_CHECK("a tensor that is too large", eqs_tensor_rows_cols(extent.ndim, extent.shape, &rows, &cols));
  EQS_TRY(find_checksums(reader, checksums, checksum_group, name, eqs_tile_count(rows, cols), &tensor->checksums));
  if (strcmp(name, "weight") == 0) EQS_TRY(read_trainer_dtype(reader, dataset, contents, &parameter->trainer_dtype));
  tensor->offset = extent.offset;
  tensor->name = name;
  parameter->tensors++;
cleanup:
  eqs_hdf5_close(dataset);
  return status;
}

static eqs_status read_parameter(eqs_hdf5_reader *reader, hid_t parameters, checksum_list *checksums, const char *name,
                                 eqs_checkpoint_contents *contents, eqs_checkpoint_parameter *parameter)
{
  eqs_status status = EQS_OK;
  hid_t group = -1, checksum_group = -1;
  eqs_names tensors = {0};
  parameter->name = name;
  EQS_TRY(eqs_hdf5_open_group(reader, parameters, name, &group));
  if (checksums->in_groups) EQS_TRY(eqs_hdf5_open_group(reader, checksums->integrity, name, &checksum_group));
  EQS_TRY(read_attributes(reader, group, contents, parameter));
  EQS_TRY(eqs_hdf5_list_links(reader, group, &tensors));
  READ_CHECK("a parameter with too many tensors", tensors.count <= EQS_MAX_TENSORS);
  for (int64_t t = 0; t < tensors.count; t++) {
    const char *tensor;
    EQS_TRY(own_name(&tensors, t, contents, &tensor));
    EQS_TRY(read_tensor(reader, group, checksums, checksum_group, tensor, contents, parameter));
  }
  READ_CHECK("a parameter without a weight", eqs_parameter_find_tensor(parameter, "weight") != NULL);
cleanup:
  eqs_names_free(&tensors);
  eqs_hdf5_close(checksum_group);
  eqs_hdf5_close(group);
  if (status == EQS_DAMAGED) status = eqs_fail(status, "%s (parameter %s)", eqs_error_message(), name);
  return status;
}

static eqs_status read_parameters(eqs_hdf5_reader *reader, hid_t integrity, eqs_checkpoint_contents *contents)
{
  eqs_status status = EQS_OK;
  hid_t parameters = -1;
  eqs_names names = {0};
  checksum_list checksums = {.integrity = integrity};
  EQS_TRY(open_checksums(reader, contents->version, &checksums));
  EQS_TRY(eqs_hdf5_open_group(reader, reader->file, "parameters", &parameters));
  EQS_TRY(eqs_hdf5_list_links(reader, parameters, &names));
  EQS_TRY(eqs_contents_allocate(contents, &contents->parameter, names.count, sizeof *contents->parameter));
  while (contents->parameters < names.count) {
    int64_t p = contents->parameters++;
    const char *name;
    EQS_TRY(own_name(&names, p, contents, &name));
    EQS_TRY(read_parameter(reader, parameters, &checksums, name, contents, &contents->parameter[p]));
  }
cleanup:
  eqs_names_free(&names);
  eqs_hdf5_close(parameters);
  return status;
}

static eqs_status read_item(eqs_hdf5_reader *reader, hid_t trainer, eqs_checkpoint_contents *contents,
                            eqs_checkpoint_item *item)
{
  eqs_status status = EQS_OK;
  hid_t dataset = -1;
  eqs_hdf5_place extent;
  char *bytes;
  EQS_TRY(open_dataset(reader, trainer, item->key, H5T_STD_U8LE, &dataset, &extent));
  READ_CHECK("trainer data of a wrong shape", extent.ndim == 1);
  EQS_TRY(eqs_hdf5_spend(reader, extent.bytes));
  EQS_TRY(eqs_contents_allocate(contents, &bytes, extent.bytes, 1));
  if (extent.bytes > 0) READ_TRY("trainer data", H5Dread(dataset, H5T_STD_U8LE, H5S_ALL, H5S_ALL, H5P_DEFAULT, bytes));
  item->bytes = bytes;
  item->size = (size_t)extent.bytes;
cleanup:
  eqs_hdf5_close(dataset);
  return status;
}

static eqs_status read_items(eqs_hdf5_reader *reader, eqs_checkpoint_contents *contents)
{
  eqs_status status = EQS_OK;
  hid_t trainer = -1;
  eqs_names keys = {0};
  eqs_checkpoint_item *item;
  EQS_TRY(eqs_hdf5_open_group(reader, reader->file, "trainer", &trainer));
  EQS_TRY(eqs_hdf5_list_links(reader, trainer, &keys));
  EQS_TRY(eqs_contents_allocate(contents, &item, keys.count, sizeof *item));
  contents->item = item;
  for (int64_t i = 0; i < keys.count; i++) {
    EQS_TRY(own_name(&keys, i, contents, &item[i].key));
    EQS_TRY(read_item(reader, trainer, contents, &item[i]));
    contents->items++;
  }
cleanup:
  eqs_names_free(&keys);
  eqs_hdf5_close(trainer);
  return status;
}

/* Is it ours, of a version that we read, and was its writing finished? */
static eqs_status read_identity(eqs_hdf5_reader *reader, eqs_checkpoint_contents *contents)
{
  eqs_status status = EQS_OK;
  const char *format;
  int64_t complete;
  htri_t exists = H5Aexists(reader->file, "format");
  READ_TRY("its attributes", exists);
  if (exists == 0)
    return eqs_fail(EQS_DAMAGED, "%s: not an Equishard checkpoint (an HDF5 file of another program)", reader->path);
  EQS_TRY(read_text(reader, reader->file, "format", contents, &format));
  if (strcmp(format, EQS_CHECKPOINT_FORMAT) != 0) {
    status = eqs_fail(EQS_DAMAGED, "%s: not an Equishard checkpoint (its format is \"%.80s\")", reader->path, format);
    goto cleanup;
  }
  EQS_TRY(read_integer(reader, reader->file, "format_version", contents, &contents->version));
  if (contents->version > EQS_CHECKPOINT_VERSION) {
    status = eqs_fail(EQS_DAMAGED, "%s: written by a newer Equishard: format version %lld, this one reads up to %d",
                      reader->path, (long long)contents->version, EQS_CHECKPOINT_VERSION);
    goto cleanup;
  }
  READ_CHECK("an impossible format version", contents->version >= 1);
  EQS_TRY(read_integer(reader, reader->file, "complete", contents, &complete));
  if (complete != 1) status = eqs_fail(EQS_DAMAGED, "%s: incomplete: its writing was cut off", reader->path);
cleanup:
  return status;
}

/* Whether the index, which HDF5 has no use for, says the same. */
static eqs_status check_index(eqs_hdf5_reader *reader, hid_t integrity, const eqs_checkpoint_contents *contents)
{
  eqs_status status = EQS_OK;
  hid_t dataset = -1;
  eqs_hdf5_place extent;
  eqs_bytes expected = {0};
  char *index = NULL;
  if (contents->version == 1) return EQS_OK;
  EQS_TRY(eqs_image_index(contents, &expected));
  EQS_TRY(open_dataset(reader, integrity, "index", H5T_STD_U8LE, &dataset, &extent));
  READ_CHECK("its index does not say what is in it", extent.ndim == 1 && extent.bytes == expected.size);
  EQS_TRY(eqs_allocate_raw(&index, extent.bytes, 1));
  READ_TRY("its index", H5Dread(dataset, H5T_STD_U8LE, H5S_ALL, H5S_ALL, H5P_DEFAULT, index));
  READ_CHECK("its index does not say what is in it", memcmp(index, expected.bytes, (size_t)expected.size) == 0);
cleanup:
  free(index);
  eqs_bytes_free(&expected);
  eqs_hdf5_close(dataset);
  return status;
}

static eqs_status read_contents(eqs_hdf5_reader *reader, eqs_checkpoint_contents *contents)
{
  eqs_status status = EQS_OK;
  hid_t integrity = -1;
  int64_t checksum;
  uint64_t computed;
  EQS_TRY(read_identity(reader, contents));
  EQS_TRY(read_integer(reader, reader->file, "step", contents, &contents->step));
  EQS_TRY(read_integer(reader, reader->file, "skipped", contents, &contents->skipped));
  EQS_TRY(read_text(reader, reader->file, "created", contents, &contents->created));
  EQS_TRY(read_text(reader, reader->file, "equishard_version", contents, &contents->equishard_version));
  EQS_TRY(read_text(reader, reader->file, "config", contents, &contents->config));
  EQS_TRY(eqs_hdf5_open_group(reader, reader->file, "integrity", &integrity));
  EQS_TRY(read_integer(reader, integrity, "metadata", contents, &checksum));
  EQS_TRY(read_parameters(reader, integrity, contents));
  EQS_TRY(read_items(reader, contents));
  EQS_TRY(eqs_contents_checksum(contents, &computed));
  READ_CHECK("the checksum of attributes, shapes and trainer data does not match", (uint64_t)checksum == computed);
  EQS_TRY(check_index(reader, integrity, contents));
cleanup:
  eqs_hdf5_close(integrity);
  return status;
}

eqs_status eqs_hdf5_contents(const char *path, eqs_checkpoint_contents *contents)
{
  eqs_status status = EQS_OK;
  eqs_hdf5_reader reader = {.file = -1};
  *contents = (eqs_checkpoint_contents){0};
  EQS_TRY(eqs_hdf5_open(path, &reader));
  EQS_TRY(read_contents(&reader, contents));
cleanup:
  if (status != EQS_OK) eqs_contents_free(contents);
  eqs_hdf5_end(&reader);
  return status;
}
