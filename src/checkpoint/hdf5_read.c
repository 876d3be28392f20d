#include "checkpoint/hdf5_read.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/memory.h"

/* Deflate, the best of HDF5's own filters, makes 1032 bytes of one. */
enum { best_compression = 1032 };

/* HDF5 asks for metadata in pieces of some dozen bytes: a file up to this size is mapped, and no call is made for each.
 */
static const int64_t most_mapped = 256 << 20;

/* The mapped file is HDF5's own image of it: what it would allocate, fill and free. */
static void *give_image(size_t size, H5FD_file_image_op_t use, void *image)
{
  (void)size, (void)use;
  return image;
}

static void *fill_image(void *to, const void *from, size_t size, H5FD_file_image_op_t use, void *image)
{
  (void)from, (void)size, (void)use, (void)image;
  return to;
}

static herr_t leave_image(void *memory, H5FD_file_image_op_t use, void *image)
{
  (void)memory, (void)use, (void)image;
  return 0;
}

static void *same_image(void *image)
{
  return image;
}

static herr_t keep_image(void *image)
{
  (void)image;
  return 0;
}

static herr_t open_image(eqs_hdf5_reader *reader, int file, hid_t access)
{
  char *name = NULL;
  H5FD_file_image_callbacks_t callbacks = {.image_malloc = give_image,
                                           .image_memcpy = fill_image,
                                           .image_free = leave_image,
                                           .udata_copy = same_image,
                                           .udata_free = keep_image};
  void *image = mmap(NULL, (size_t)reader->bytes, PROT_READ, MAP_SHARED, file, 0);
  if (image == MAP_FAILED) return -1;
  reader->image = callbacks.udata = image;
  /* An image must not have the name of a file, and nothing can be below one. */
  if (H5Pset_fapl_core(access, 1 << 20, false) >= 0 && H5Pset_file_image_callbacks(access, &callbacks) >= 0 &&
      H5Pset_file_image(access, image, (size_t)reader->bytes) >= 0 &&
      eqs_format(&name, "%s/image", reader->path) == EQS_OK)
    reader->file = H5Fopen(name, H5F_ACC_RDONLY, access);
  free(name);
  return reader->file < 0 ? -1 : 0;
}

eqs_status eqs_hdf5_open(const char *path, eqs_hdf5_reader *reader)
{
  eqs_status status = EQS_OK;
  hid_t access = -1;
  int file = -1;
  eqs_hdf5_silence();
  *reader = (eqs_hdf5_reader){.path = path, .file = -1};
  EQS_TRY(eqs_file_open_input(path, &file, &reader->bytes));
  reader->left = reader->bytes;
  if (H5Fis_hdf5(path) == 0) {
    status = eqs_fail(EQS_DAMAGED, "%s: damaged or foreign: not an HDF5 file", path);
    goto cleanup;
  }
  EQS_HDF5_TRY(reader, "cannot be opened", H5PLset_loading_state(0)); /* filters that a file names are not loaded */
  EQS_HDF5_TRY(reader, "cannot be opened", access = eqs_hdf5_access());
  if (reader->bytes <= most_mapped)
    EQS_HDF5_TRY(reader, "cannot be opened", open_image(reader, file, access));
  else
    EQS_HDF5_TRY(reader, "cannot be opened", reader->file = H5Fopen(path, H5F_ACC_RDONLY, access));
cleanup:
  eqs_hdf5_close(access);
  eqs_file_close(file);
  return status;
}

void eqs_hdf5_end(eqs_hdf5_reader *reader)
{
  if (reader->file >= 0) H5Fclose(reader->file);
  if (reader->image != NULL) munmap(reader->image, (size_t)reader->bytes);
  reader->file = -1;
  reader->image = NULL;
}

eqs_sandbox_limits eqs_hdf5_limits(const char *path, int64_t data)
{
  const int64_t mib = 1 << 20, most_metadata = 10240 * mib;
  struct stat about;
  int64_t bytes = stat(path, &about) == 0 ? about.st_size : 0;
  int64_t work = (bytes < most_metadata ? bytes : most_metadata) + data;
  return (eqs_sandbox_limits){
      .path = path, .memory = 1024 * mib + 4 * work, .seconds = 20 + work / (10 * mib), .largest = mib + 8 * work};
}

eqs_status eqs_hdf5_damaged(const eqs_hdf5_reader *reader, const char *what)
{
  const char *detail = eqs_hdf5_error();
  return eqs_fail(EQS_DAMAGED, "%s: damaged: %s%s%s%s", reader->path, what, detail[0] ? " (" : "", detail,
                  detail[0] ? ")" : "");
}

eqs_status eqs_hdf5_spend(eqs_hdf5_reader *reader, int64_t bytes)
{
  if (bytes < 0 || bytes > reader->left)
    return eqs_fail(EQS_DAMAGED, "%s: damaged: its parts are larger than the whole", reader->path);
  reader->left -= bytes;
  return EQS_OK;
}

/* Listing of names. */
typedef struct {
  eqs_hdf5_reader *reader;
  eqs_names *names;
  eqs_status status;
  bool only_hard;
} listing;

static herr_t keep_name(listing *list, const char *name)
{
  eqs_status status = EQS_OK;
  eqs_names *names = list->names;
  EQS_TRY(eqs_hdf5_spend(list->reader, (int64_t)strlen(name)));
  EQS_TRY(eqs_grow(&names->name, names->count, sizeof *names->name));
  EQS_TRY(eqs_copy_text(&names->name[names->count], name));
  names->count++;
cleanup:
  list->status = status;
  return status == EQS_OK ? 0 : 1;
}

static herr_t take_link(hid_t group, const char *name, const H5L_info_t *info, void *list)
{
  (void)group;
  if (info->type != H5L_TYPE_HARD) ((listing *)list)->only_hard = false;
  return keep_name(list, name);
}

static herr_t take_attribute(hid_t object, const char *name, const H5A_info_t *info, void *list)
{
  (void)object, (void)info;
  return keep_name(list, name);
}

static int by_text(const void *a, const void *b)
{
  return strcmp(*(char *const *)a, *(char *const *)b);
}

static void sort_names(eqs_names *names)
{
  if (names->count > 0) qsort(names->name, (size_t)names->count, sizeof *names->name, by_text);
}

void eqs_names_free(eqs_names *names)
{
  for (int64_t i = 0; i < names->count; i++) free(names->name[i]);
  free(names->name);
  *names = (eqs_names){0};
}

eqs_status eqs_hdf5_list_links(eqs_hdf5_reader *reader, hid_t group, eqs_names *names)
{
  eqs_status status = EQS_OK;
  listing list = {.reader = reader, .names = names, .only_hard = true};
  hsize_t position = 0;
  EQS_HDF5_TRY(reader, "a group", H5Literate(group, H5_INDEX_NAME, H5_ITER_NATIVE, &position, take_link, &list));
  EQS_TRY(list.status);
  EQS_HDF5_CHECK(reader, "a link to another file or name", list.only_hard);
  sort_names(names);
cleanup:
  return status;
}

eqs_status eqs_hdf5_list_attributes(eqs_hdf5_reader *reader, hid_t object, eqs_names *names)
{
  eqs_status status = EQS_OK;
  listing list = {.reader = reader, .names = names};
  hsize_t position = 0;
  EQS_HDF5_TRY(reader, "attributes",
               H5Aiterate2(object, H5_INDEX_NAME, H5_ITER_NATIVE, &position, take_attribute, &list));
  EQS_TRY(list.status);
  sort_names(names);
cleanup:
  return status;
}

/* Open what a hard link leads to, if it is of a kind. */
static eqs_status open_object(const eqs_hdf5_reader *reader, hid_t parent, const char *name, H5I_type_t kind,
                              const char *wanted, hid_t *object)
{
  eqs_status status = EQS_OK;
  H5L_info_t link;
  if (H5Lget_info(parent, name, &link, H5P_DEFAULT) < 0) {
    EQS_HDF5_TRY(reader, name, H5Lexists(parent, name, H5P_DEFAULT) > 0 ? -1 : 0);
    status = eqs_fail(EQS_DAMAGED, "%s: damaged or foreign: there is no %s \"%.200s\"", reader->path, wanted, name);
    goto cleanup;
  }
  EQS_HDF5_CHECK(reader, "a link to another file or name", link.type == H5L_TYPE_HARD);
  EQS_HDF5_TRY(reader, name, *object = H5Oopen(parent, name, H5P_DEFAULT));
  if (H5Iget_type(*object) != kind)
    status = eqs_fail(EQS_DAMAGED, "%s: damaged or foreign: \"%.200s\" is no %s", reader->path, name, wanted);
cleanup:
  return status;
}

eqs_status eqs_hdf5_open_group(const eqs_hdf5_reader *reader, hid_t parent, const char *name, hid_t *group)
{
  return open_object(reader, parent, name, H5I_GROUP, "group", group);
}

/* Where and how a dataset's data is stored: asked before its extent, since that of a virtual one is in other files. */
static eqs_status check_storage(const eqs_hdf5_reader *reader, hid_t dataset, eqs_hdf5_place *extent)
{
  eqs_status status = EQS_OK;
  hid_t properties = -1;
  extent->one_piece = H5Dget_offset(dataset) != HADDR_UNDEF; /* only then: it is in this file */
  if (extent->one_piece) return EQS_OK;                      /* a list of properties is a costly copy */
  EQS_HDF5_TRY(reader, "a dataset", properties = H5Dget_create_plist(dataset));
  H5D_layout_t layout = H5Pget_layout(properties);
  extent->one_piece = layout == H5D_CONTIGUOUS;
  EQS_HDF5_CHECK(reader, "a dataset whose data is in other files",
                 layout != H5D_VIRTUAL && H5Pget_external_count(properties) == 0);
cleanup:
  eqs_hdf5_close(properties);
  return status;
}

static eqs_status read_extent(const eqs_hdf5_reader *reader, hid_t dataset, eqs_hdf5_place *extent)
{
  eqs_status status = EQS_OK;
  hsize_t size[H5S_MAX_RANK] = {0};
  hid_t space = -1;
  EQS_HDF5_TRY(reader, "a dataset", space = H5Dget_space(dataset));
  EQS_HDF5_CHECK(reader, "a dataset without values", H5Sget_simple_extent_type(space) != H5S_NULL);
  EQS_HDF5_TRY(reader, "a dataset", extent->ndim = H5Sget_simple_extent_ndims(space));
  EQS_HDF5_CHECK(reader, "a dataset of too many dimensions", extent->ndim <= EQS_MAX_DIMS);
  EQS_HDF5_TRY(reader, "a dataset", H5Sget_simple_extent_dims(space, size, NULL));
  for (int d = 0; d < extent->ndim; d++) {
    EQS_HDF5_CHECK(reader, "a dataset that is too large", size[d] <= INT64_MAX);
    extent->shape[d] = (int64_t)size[d];
    EQS_HDF5_CHECK(reader, "a dataset that is too large",
                   eqs_multiply_sizes(extent->bytes, extent->shape[d], &extent->bytes));
  }
cleanup:
  eqs_hdf5_close(space);
  return status;
}

/* Whether a dataset's data can be in the file; where it is, if it is in one piece. */
static eqs_status check_data(const eqs_hdf5_reader *reader, hid_t dataset, eqs_hdf5_place *extent)
{
  eqs_status status = EQS_OK;
  if (extent->bytes == 0) return EQS_OK;
  hsize_t stored = H5Dget_storage_size(dataset);
  if (!extent->one_piece) {
    EQS_HDF5_CHECK(reader, "a dataset that is larger than what is stored of it",
                   stored <= (hsize_t)reader->bytes && (hsize_t)(extent->bytes / best_compression) <= stored);
    return EQS_OK;
  }
  haddr_t address = H5Dget_offset(dataset);
  EQS_HDF5_CHECK(reader, "a dataset without space", address != HADDR_UNDEF && stored == (hsize_t)extent->bytes);
  EQS_HDF5_CHECK(reader, "a dataset that ends after the file",
                 extent->bytes <= reader->bytes && address <= (haddr_t)(reader->bytes - extent->bytes));
  extent->offset = (int64_t)address;
cleanup:
  return status;
}

eqs_status eqs_hdf5_open_dataset(const eqs_hdf5_reader *reader, hid_t parent, const char *name, hid_t *dataset,
                                 hid_t *type, eqs_hdf5_place *extent)
{
  eqs_status status = EQS_OK;
  *extent = (eqs_hdf5_place){0};
  EQS_TRY(open_object(reader, parent, name, H5I_DATASET, "dataset", dataset));
  EQS_TRY(check_storage(reader, *dataset, extent));
  EQS_HDF5_TRY(reader, name, *type = H5Dget_type(*dataset));
  extent->bytes = (int64_t)H5Tget_size(*type);
  EQS_TRY(read_extent(reader, *dataset, extent));
  EQS_TRY(check_data(reader, *dataset, extent));
cleanup:
  return status;
}
