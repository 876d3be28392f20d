/* Fuzzing of a checkpoint's index: what it says, and HDF5's structures that are made of it. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/image.h"
#include "checkpoint/index.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { file_size = 64 << 10 }; /* of the file that the index could be in */

static void make_index(const eqs_checkpoint_contents *contents, eqs_bytes *index)
{
  eqs_catalogue catalogue;
  if (eqs_catalogue_make(contents, &catalogue) != EQS_OK) abort();
  eqs_index_add(index, contents, &catalogue);
  eqs_catalogue_free(&catalogue);
}

/* The trainer's data, which is not in the index. */
static void set_items(const eqs_checkpoint_contents *contents)
{
  for (int i = 0; i < contents->items; i++)
    if (contents->item[i].size > 0) memset((void *)contents->item[i].bytes, 0, contents->item[i].size);
}

/* The index that we make of what was read says the same. */
static void read_again(const eqs_checkpoint_contents *contents)
{
  eqs_bytes once = {0}, twice = {0};
  eqs_checkpoint_contents again;
  uint64_t *checksum;
  make_index(contents, &once);
  eqs_bytes_left left = eqs_bytes_reader(once.bytes, once.size);
  if (eqs_index_take(&left, INT64_MAX, &again, &checksum) != EQS_OK || left.next != left.end) abort();
  set_items(&again);
  make_index(&again, &twice);
  if (once.size != twice.size || memcmp(once.bytes, twice.bytes, (size_t)once.size) != 0) abort();
  eqs_contents_free(&again);
  eqs_bytes_free(&twice);
  eqs_bytes_free(&once);
  free(checksum);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  eqs_checkpoint_contents contents;
  uint64_t *checksum;
  eqs_image image = {0};
  eqs_bytes_left left = eqs_bytes_reader(data, (int64_t)size);
  if (eqs_index_take(&left, file_size, &contents, &checksum) != EQS_OK) return 0;
  set_items(&contents);
  read_again(&contents);
  if (eqs_image_make(&contents, file_size, &image) == EQS_OK &&
      eqs_image_finish(&contents, "2026-11-26T22:00:00Z", &image) != EQS_OK)
    abort();
  eqs_image_free(&image);
  eqs_contents_free(&contents);
  free(checksum);
  return 0;
}
