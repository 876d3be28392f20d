#include "checkpoint/serialize.h"

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

static void add_parameter(eqs_bytes *to, const eqs_checkpoint_parameter *parameter)
{
  add_text(to, parameter->name);
  add_number(to, parameter->ndim);
  for (int d = 0; d < parameter->ndim; d++) add_number(to, parameter->shape[d]);
  add_text(to, eqs_dtype_name(parameter->trainer_dtype));
  add_number(to, parameter->attributes);
  for (int a = 0; a < parameter->attributes; a++) add_attribute(to, &parameter->attribute[a]);
  add_number(to, parameter->tensors);
  for (int t = 0; t < parameter->tensors; t++) add_text(to, parameter->tensor[t].name);
}

/* What the checksum is of. */
static void add_metadata(eqs_bytes *to, const eqs_checkpoint_contents *contents)
{
  add_number(to, contents->version);
  add_number(to, contents->step);
  add_number(to, contents->skipped);
  add_text(to, contents->equishard_version);
  add_text(to, contents->config);
  add_number(to, contents->parameters);
  for (int64_t p = 0; p < contents->parameters; p++) add_parameter(to, &contents->parameter[p]);
  add_number(to, contents->items);
  for (int i = 0; i < contents->items; i++) {
    add_text(to, contents->item[i].key);
    add_bytes(to, contents->item[i].bytes, contents->item[i].size);
  }
}

eqs_status eqs_contents_checksum(const eqs_checkpoint_contents *contents, uint64_t *checksum)
{
  eqs_bytes to = {0};
  add_metadata(&to, contents);
  *checksum = to.status == EQS_OK ? XXH3_64bits(to.bytes, (size_t)to.size) : 0;
  free(to.bytes);
  return to.status;
}

eqs_status eqs_contents_serialize(const eqs_checkpoint_contents *contents, char **bytes, int64_t *size)
{
  eqs_status status = EQS_OK;
  eqs_bytes to = {0};
  eqs_catalogue catalogue = {0};
  *bytes = NULL;
  *size = 0;
  EQS_TRY(eqs_catalogue_make(contents, &catalogue));
  eqs_index_add(&to, contents, &catalogue);
  for (int i = 0; i < contents->items; i++)
    eqs_bytes_add(&to, contents->item[i].bytes, (int64_t)contents->item[i].size);
  eqs_bytes_add_text(&to, contents->created);
  for (int64_t p = 0; p < contents->parameters; p++)
    for (int t = 0; t < contents->parameter[p].tensors; t++) {
      eqs_bytes_add_count(&to, contents->parameter[p].tensor[t].offset);
      eqs_bytes_add_count(&to, contents->parameter[p].tensor[t].checksums);
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

static eqs_status take_rest(eqs_bytes_left *from, eqs_checkpoint_contents *contents)
{
  eqs_status status = EQS_OK;
  char *created = NULL;
  for (int i = 0; i < contents->items; i++)
    EQS_TRY(eqs_bytes_take(from, (void *)contents->item[i].bytes, (int64_t)contents->item[i].size));
  status = eqs_bytes_take_text(from, &created);
  if (status != EQS_OK) free(created);
  EQS_TRY(status);
  EQS_TRY(eqs_contents_own(contents, created));
  contents->created = created;
  for (int64_t p = 0; p < contents->parameters; p++)
    for (int t = 0; t < contents->parameter[p].tensors; t++) {
      EQS_TRY(eqs_bytes_take_count(from, 0, INT64_MAX, &contents->parameter[p].tensor[t].offset));
      EQS_TRY(eqs_bytes_take_count(from, 0, INT64_MAX, &contents->parameter[p].tensor[t].checksums));
    }
cleanup:
  return status;
}

eqs_status eqs_contents_deserialize(const char *bytes, int64_t size, eqs_checkpoint_contents *contents)
{
  eqs_status status = EQS_OK;
  eqs_bytes_left from = eqs_bytes_reader(bytes, size);
  uint64_t *checksum = NULL;
  EQS_TRY(eqs_index_take(&from, INT64_MAX, contents, &checksum));
  status = take_rest(&from, contents);
  if (status != EQS_OK) eqs_contents_free(contents);
cleanup:
  free(checksum);
  return status;
}
