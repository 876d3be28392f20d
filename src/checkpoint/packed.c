#include "checkpoint/packed.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/bytes.h"
#include "base/memory.h"
#include "base/numbers.h"
#include "checkpoint/index.h"

static void add_number(eqs_bytes *to, int64_t number)
{
  eqs_bytes_add(to, &number, sizeof number);
}

static void add_bytes(eqs_bytes *to, const void *bytes, size_t size)
{
  add_number(to, (int64_t)size);
  eqs_bytes_add(to, bytes, (int64_t)size);
}

static void add_text(eqs_bytes *to, const char *text)
{
  add_bytes(to, text, strlen(text));
}

static void add_attribute(eqs_bytes *to, const eqs_attribute *attribute)
{
  add_text(to, attribute->name);
  add_number(to, (int64_t)attribute->kind);
  switch (attribute->kind) {
  case EQS_ATTRIBUTE_INTEGER: add_number(to, attribute->integer); break;
  case EQS_ATTRIBUTE_NUMBER: eqs_bytes_add(to, &attribute->number, sizeof attribute->number); break;
  case EQS_ATTRIBUTE_TEXT: add_text(to, attribute->text); break;
  }
}

static void add_entry(eqs_bytes *to, const eqs_checkpoint_entry *entry)
{
  add_text(to, entry->name);
  add_number(to, entry->ndim);
  for (int d = 0; d < entry->ndim; d++) add_number(to, entry->shape[d]);
  add_text(to, eqs_dtype_name(entry->trainer_dtype));
  add_number(to, entry->attributes);
  for (int a = 0; a < entry->attributes; a++) add_attribute(to, &entry->attribute[a]);
  add_number(to, entry->tensors);
  for (int t = 0; t < entry->tensors; t++) add_text(to, entry->tensor_name[t]);
}

/* What the checksum is of. */
static void add_metadata(eqs_bytes *to, const eqs_checkpoint_summary *summary)
{
  add_number(to, summary->version);
  add_number(to, summary->step);
  add_number(to, summary->skipped);
  add_text(to, summary->equishard_version);
  add_text(to, summary->config);
  add_number(to, summary->entries);
  for (int64_t e = 0; e < summary->entries; e++) add_entry(to, &summary->entry[e]);
  add_number(to, summary->items);
  for (int i = 0; i < summary->items; i++) {
    add_text(to, summary->item[i].key);
    add_bytes(to, summary->item[i].bytes, summary->item[i].size);
  }
}

eqs_status eqs_metadata_checksum(const eqs_checkpoint_summary *summary, uint64_t *checksum)
{
  eqs_bytes to = {0};
  add_metadata(&to, summary);
  *checksum = to.status == EQS_OK ? XXH3_64bits(to.bytes, (size_t)to.size) : 0;
  free(to.bytes);
  return to.status;
}

eqs_status eqs_summary_pack(const eqs_checkpoint_summary *summary, char **bytes, int64_t *size)
{
  eqs_status status = EQS_OK;
  eqs_bytes to = {0};
  eqs_catalogue catalogue = {0};
  *bytes = NULL;
  *size = 0;
  EQS_TRY(eqs_catalogue_make(summary, &catalogue));
  eqs_index_add(&to, summary, &catalogue);
  for (int i = 0; i < summary->items; i++) eqs_bytes_add(&to, summary->item[i].bytes, (int64_t)summary->item[i].size);
  eqs_bytes_add_text(&to, summary->created);
  for (int64_t e = 0; e < summary->entries; e++)
    for (int t = 0; t < summary->entry[e].tensors; t++) {
      eqs_bytes_add_count(&to, summary->entry[e].offset[t]);
      eqs_bytes_add_count(&to, summary->entry[e].checksums[t]);
    }
  EQS_TRY(to.status);
  *bytes = to.bytes;
  *size = to.size;
  to = (eqs_bytes){0};
cleanup:
  eqs_bytes_free(&to);
  eqs_catalogue_free(&catalogue);
  return status;
}

static eqs_status take_rest(eqs_bytes_left *from, eqs_checkpoint_summary *summary)
{
  eqs_status status = EQS_OK;
  for (int i = 0; i < summary->items; i++)
    EQS_TRY(eqs_bytes_take(from, (void *)summary->item[i].bytes, (int64_t)summary->item[i].size));
  EQS_TRY(eqs_bytes_take_text(from, &summary->created));
  for (int64_t e = 0; e < summary->entries; e++)
    for (int t = 0; t < summary->entry[e].tensors; t++) {
      EQS_TRY(eqs_bytes_take_count(from, 0, INT64_MAX, &summary->entry[e].offset[t]));
      EQS_TRY(eqs_bytes_take_count(from, 0, INT64_MAX, &summary->entry[e].checksums[t]));
    }
cleanup:
  return status;
}

eqs_status eqs_summary_unpack(const char *bytes, int64_t size, eqs_checkpoint_summary *summary)
{
  eqs_status status = EQS_OK;
  eqs_bytes_left from = {bytes, bytes + size};
  uint64_t *checksum = NULL;
  EQS_TRY(eqs_index_take(&from, INT64_MAX, summary, &checksum));
  status = take_rest(&from, summary);
  if (status != EQS_OK) eqs_checkpoint_summary_free(summary);
cleanup:
  free(checksum);
  return status;
}
