#include "checkpoint/packed.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/memory.h"
#include "base/numbers.h"

/* Bytes that grow by doubling; after a failure nothing is added. */
typedef struct {
  char *bytes;
  int64_t size, room;
  eqs_status status;
} packing;

static void add(packing *to, const void *bytes, int64_t size)
{
  if (to->status != EQS_OK || size == 0) return;
  if (size > to->room - to->size) {
    int64_t room = to->room < size ? to->size + size : 2 * to->room;
    char *larger = realloc(to->bytes, (size_t)room);
    if (larger == NULL) {
      to->status = eqs_fail(EQS_FAILED, "out of memory: %lld bytes could not be allocated", (long long)room);
      return;
    }
    to->bytes = larger;
    to->room = room;
  }
  memcpy(to->bytes + to->size, bytes, (size_t)size);
  to->size += size;
}

static void add_number(packing *to, int64_t number)
{
  add(to, &number, sizeof number);
}

static void add_bytes(packing *to, const void *bytes, size_t size)
{
  add_number(to, (int64_t)size);
  add(to, bytes, (int64_t)size);
}

static void add_text(packing *to, const char *text)
{
  add_bytes(to, text, strlen(text));
}

static void add_attribute(packing *to, const eqs_attribute *attribute)
{
  add_text(to, attribute->name);
  add_number(to, (int64_t)attribute->kind);
  switch (attribute->kind) {
  case EQS_ATTRIBUTE_INTEGER: add_number(to, attribute->integer); break;
  case EQS_ATTRIBUTE_NUMBER: add(to, &attribute->number, sizeof attribute->number); break;
  case EQS_ATTRIBUTE_TEXT: add_text(to, attribute->text); break;
  }
}

static void add_entry(packing *to, const eqs_checkpoint_entry *entry)
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
static void add_metadata(packing *to, const eqs_checkpoint_summary *summary)
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
  packing to = {0};
  add_metadata(&to, summary);
  *checksum = to.status == EQS_OK ? XXH3_64bits(to.bytes, (size_t)to.size) : 0;
  free(to.bytes);
  return to.status;
}

eqs_status eqs_summary_pack(const eqs_checkpoint_summary *summary, char **bytes, int64_t *size)
{
  packing to = {0};
  add_metadata(&to, summary);
  add_text(&to, summary->created);
  for (int64_t e = 0; e < summary->entries; e++)
    for (int t = 0; t < summary->entry[e].tensors; t++) {
      add_number(&to, summary->entry[e].offset[t]);
      add_number(&to, summary->entry[e].checksums[t]);
    }
  if (to.status != EQS_OK) {
    free(to.bytes);
    to = (packing){.status = to.status};
  }
  *bytes = to.bytes;
  *size = to.size;
  return to.status;
}

/* What is left to be taken. */
typedef struct {
  const char *next, *end;
} unpacking;

static eqs_status garbled(void)
{
  return eqs_fail(EQS_DAMAGED, "what is in a checkpoint arrived garbled");
}

static eqs_status take(unpacking *from, void *to, int64_t size)
{
  if (size > from->end - from->next) return garbled();
  memcpy(to, from->next, (size_t)size);
  from->next += size;
  return EQS_OK;
}

static eqs_status take_number(unpacking *from, int64_t *number)
{
  *number = 0;
  return take(from, number, sizeof *number);
}

/* A number of things of which each takes at least `least` bytes of the rest. */
static eqs_status take_count(unpacking *from, int64_t least, int64_t most, int64_t *count)
{
  eqs_status status = take_number(from, count);
  if (status == EQS_OK && (*count < 0 || *count > most || *count > (from->end - from->next) / least))
    status = garbled();
  return status;
}

/* Allocated, with a zero byte behind. */
static eqs_status take_bytes(unpacking *from, char **bytes, int64_t *size)
{
  eqs_status status = EQS_OK;
  EQS_TRY(take_count(from, 1, INT64_MAX, size));
  EQS_TRY(eqs_allocate(bytes, *size + 1, 1));
  EQS_TRY(take(from, *bytes, *size));
cleanup:
  return status;
}

static eqs_status take_text(unpacking *from, char **text)
{
  int64_t size;
  return take_bytes(from, text, &size);
}

static eqs_status take_dtype(unpacking *from, eqs_dtype *dtype)
{
  eqs_status status = EQS_OK;
  char *name = NULL;
  int d = EQS_FLOAT32;
  EQS_TRY(take_text(from, &name));
  while (d <= EQS_FLOAT16 && strcmp(name, eqs_dtype_name((eqs_dtype)d)) != 0) d++;
  if (d > EQS_FLOAT16) EQS_TRY(garbled());
  *dtype = (eqs_dtype)d;
cleanup:
  free(name);
  return status;
}

static eqs_status take_attribute(unpacking *from, eqs_attribute *attribute)
{
  eqs_status status = EQS_OK;
  int64_t kind;
  char *name = NULL, *text = NULL;
  status = take_text(from, &name);
  attribute->name = name;
  EQS_TRY(status);
  EQS_TRY(take_number(from, &kind));
  attribute->kind = (eqs_attribute_kind)kind;
  switch (attribute->kind) {
  case EQS_ATTRIBUTE_INTEGER: EQS_TRY(take_number(from, &attribute->integer)); break;
  case EQS_ATTRIBUTE_NUMBER: EQS_TRY(take(from, &attribute->number, sizeof attribute->number)); break;
  case EQS_ATTRIBUTE_TEXT:
    status = take_text(from, &text);
    attribute->text = text;
    break;
  }
cleanup:
  return status;
}

static eqs_status take_entry(unpacking *from, eqs_checkpoint_entry *entry)
{
  eqs_status status = EQS_OK;
  int64_t count;
  EQS_TRY(take_text(from, &entry->name));
  EQS_TRY(take_count(from, sizeof(int64_t), EQS_MAX_DIMS, &count));
  entry->ndim = (int)count;
  for (int d = 0; d < entry->ndim; d++) EQS_TRY(take_number(from, &entry->shape[d]));
  EQS_TRY(take_dtype(from, &entry->trainer_dtype));
  EQS_TRY(take_count(from, 2 * sizeof(int64_t), INT_MAX, &count));
  EQS_TRY(eqs_allocate(&entry->attribute, count, sizeof *entry->attribute));
  while (entry->attributes < count) {
    eqs_attribute *attribute = &entry->attribute[entry->attributes++];
    EQS_TRY(take_attribute(from, attribute));
    if (strcmp(attribute->name, "step") == 0 && attribute->kind == EQS_ATTRIBUTE_INTEGER)
      entry->step = attribute->integer;
  }
  EQS_TRY(take_count(from, sizeof(int64_t), EQS_MAX_TENSORS, &count));
  for (; entry->tensors < count; entry->tensors++) EQS_TRY(take_text(from, &entry->tensor_name[entry->tensors]));
cleanup:
  return status;
}

static eqs_status take_items(unpacking *from, eqs_checkpoint_summary *summary)
{
  eqs_status status = EQS_OK;
  int64_t count;
  EQS_TRY(take_count(from, 2 * sizeof(int64_t), INT_MAX, &count));
  EQS_TRY(eqs_allocate(&summary->item, count, sizeof *summary->item));
  while (summary->items < count) {
    eqs_checkpoint_item *item = &summary->item[summary->items++];
    char *key = NULL, *bytes = NULL;
    int64_t size = 0;
    status = take_text(from, &key);
    if (status == EQS_OK) status = take_bytes(from, &bytes, &size);
    *item = (eqs_checkpoint_item){.key = key, .bytes = bytes, .size = (size_t)size};
    EQS_TRY(status);
  }
cleanup:
  return status;
}

eqs_status eqs_summary_unpack(const char *bytes, int64_t size, eqs_checkpoint_summary *summary)
{
  eqs_status status = EQS_OK;
  unpacking from = {bytes, bytes + size};
  int64_t entries;
  *summary = (eqs_checkpoint_summary){0};
  EQS_TRY(take_number(&from, &summary->version));
  EQS_TRY(take_number(&from, &summary->step));
  EQS_TRY(take_number(&from, &summary->skipped));
  EQS_TRY(take_text(&from, &summary->equishard_version));
  EQS_TRY(take_text(&from, &summary->config));
  EQS_TRY(take_count(&from, sizeof(int64_t), INT64_MAX, &entries));
  EQS_TRY(eqs_allocate(&summary->entry, entries, sizeof *summary->entry));
  while (summary->entries < entries) EQS_TRY(take_entry(&from, &summary->entry[summary->entries++]));
  EQS_TRY(take_items(&from, summary));
  EQS_TRY(take_text(&from, &summary->created));
  for (int64_t e = 0; e < summary->entries; e++)
    for (int t = 0; t < summary->entry[e].tensors; t++) {
      EQS_TRY(take_number(&from, &summary->entry[e].offset[t]));
      EQS_TRY(take_number(&from, &summary->entry[e].checksums[t]));
    }
cleanup:
  if (status != EQS_OK) eqs_checkpoint_summary_free(summary);
  return status;
}
