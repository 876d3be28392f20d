#include "checkpoint/memory_file.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* The driver's view of an open file. HDF5 wants its own part first. */
typedef struct {
  H5FD_t common;
  eqs_memory_file *file;
  haddr_t allocated; /* end of the allocated space */
} open_file;

/* What the access properties carry. */
typedef struct {
  eqs_memory_file *file;
} driver_info;

/* The page of a number, or where it would be inserted. */
static int64_t find_page(const eqs_memory_file *file, int64_t number)
{
  int64_t low = 0, high = file->pages;
  while (low < high) {
    int64_t middle = low + (high - low) / 2;
    if (file->page[middle].number < number)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

static char *get_page(eqs_memory_file *file, int64_t number, bool make)
{
  int64_t at = find_page(file, number);
  if (at < file->pages && file->page[at].number == number) return file->page[at].bytes;
  eqs_memory_page added = {.number = number};
  if (!make || eqs_allocate(&added.bytes, EQS_PAGE_SIZE, 1) != EQS_OK) return NULL;
  if (eqs_grow(&file->page, file->pages, sizeof *file->page) != EQS_OK) {
    free(added.bytes);
    return NULL;
  }
  memmove(file->page + at + 1, file->page + at, (size_t)(file->pages - at) * sizeof *file->page);
  file->page[at] = added;
  file->pages++;
  return added.bytes;
}

static H5FD_t *driver_open(const char *name, unsigned flags, hid_t access, haddr_t maximum)
{
  (void)name, (void)flags, (void)maximum;
  const driver_info *info = H5Pget_driver_info(access);
  open_file *opened = calloc(1, sizeof *opened);
  if (info == NULL || opened == NULL) {
    free(opened);
    return NULL;
  }
  opened->file = info->file;
  return &opened->common;
}

static herr_t driver_close(H5FD_t *common)
{
  free(common);
  return 0;
}

static herr_t driver_query(const H5FD_t *common, unsigned long *flags)
{
  (void)common;
  *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_AGGREGATE_SMALLDATA | H5FD_FEAT_DEFAULT_VFD_COMPATIBLE;
  return 0;
}

static haddr_t driver_allocated(const H5FD_t *common, H5FD_mem_t type)
{
  (void)type;
  return ((const open_file *)common)->allocated;
}

static herr_t driver_allocate(H5FD_t *common, H5FD_mem_t type, haddr_t end)
{
  (void)type;
  ((open_file *)common)->allocated = end;
  return 0;
}

static haddr_t driver_end(const H5FD_t *common, H5FD_mem_t type)
{
  (void)type;
  return (haddr_t)((const open_file *)common)->file->size;
}

static herr_t driver_truncate(H5FD_t *common, hid_t transfer, bool closing)
{
  open_file *opened = (open_file *)common;
  (void)transfer, (void)closing;
  opened->file->size = (int64_t)opened->allocated;
  return 0;
}

/* Bytes from `address` on that are in one page, at most `size`. */
static size_t in_page(haddr_t address, size_t size)
{
  size_t left = EQS_PAGE_SIZE - (size_t)(address % EQS_PAGE_SIZE);
  return size < left ? size : left;
}

static herr_t driver_read(H5FD_t *common, H5FD_mem_t type, hid_t transfer, haddr_t address, size_t size, void *bytes)
{
  (void)type, (void)transfer;
  for (char *to = bytes; size > 0;) {
    size_t piece = in_page(address, size);
    const char *page = get_page(((open_file *)common)->file, (int64_t)(address / EQS_PAGE_SIZE), false);
    if (page)
      memcpy(to, page + address % EQS_PAGE_SIZE, piece);
    else
      memset(to, 0, piece);
    to += piece;
    address += piece;
    size -= piece;
  }
  return 0;
}

static herr_t driver_write(H5FD_t *common, H5FD_mem_t type, hid_t transfer, haddr_t address, size_t size,
                           const void *bytes)
{
  eqs_memory_file *file = ((open_file *)common)->file;
  (void)type, (void)transfer;
  for (const char *from = bytes; size > 0;) {
    size_t piece = in_page(address, size);
    char *page = get_page(file, (int64_t)(address / EQS_PAGE_SIZE), true);
    if (page == NULL) return -1;
    memcpy(page + address % EQS_PAGE_SIZE, from, piece);
    from += piece;
    address += piece;
    size -= piece;
    if ((int64_t)address > file->size) file->size = (int64_t)address;
  }
  return 0;
}

herr_t eqs_memory_file_use(hid_t access, eqs_memory_file *file, hid_t *driver)
{
  static const H5FD_class_t class = {.name = "equishard-memory",
                                     .maxaddr = INT64_MAX,
                                     .fc_degree = H5F_CLOSE_STRONG,
                                     .fapl_size = sizeof(driver_info),
                                     .open = driver_open,
                                     .close = driver_close,
                                     .query = driver_query,
                                     .get_eoa = driver_allocated,
                                     .set_eoa = driver_allocate,
                                     .get_eof = driver_end,
                                     .read = driver_read,
                                     .write = driver_write,
                                     .truncate = driver_truncate,
                                     .fl_map = H5FD_FLMAP_DICHOTOMY};
  driver_info info = {.file = file};
  *driver = H5FDregister(&class);
  return *driver < 0 ? -1 : H5Pset_driver(access, *driver, &info);
}

void eqs_memory_file_free(eqs_memory_file *file)
{
  for (int64_t i = 0; i < file->pages; i++) free(file->page[i].bytes);
  free(file->page);
  *file = (eqs_memory_file){0};
}
