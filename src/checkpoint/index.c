#include "checkpoint/index.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/memory.h"
#include "base/numbers.h"
#include "checkpoint/summary.h"
#include "checkpoint/tiles.h"

/* ----- making ----- */

static void add_attribute(eqs_bytes *to, const eqs_attribute *attribute)
{
  eqs_bytes_add_text(to, attribute->name);
  eqs_bytes_add_little(to, (uint64_t)attribute->kind, 1);
  switch (attribute->kind) {
  case EQS_ATTRIBUTE_INTEGER: eqs_bytes_add(to, &attribute->integer, sizeof attribute->integer); break;
  case EQS_ATTRIBUTE_NUMBER: eqs_bytes_add(to, &attribute->number, sizeof attribute->number); break;
  case EQS_ATTRIBUTE_TEXT: eqs_bytes_add_text(to, attribute->text); break;
  }
}

/* The number of an attribute; `scratch` is emptied. */
static eqs_status number_attribute(eqs_catalogue *catalogue, const eqs_attribute *attribute, eqs_bytes *scratch,
                                   int64_t *number)
{
  eqs_status status = EQS_OK;
  int64_t known = catalogue->attribute.count;
  scratch->size = 0;
  add_attribute(scratch, attribute);
  EQS_TRY(scratch->status);
  EQS_TRY(eqs_unique_add(&catalogue->attribute, scratch->bytes, scratch->size, number));
  if (*number < known) return EQS_OK;
  EQS_TRY(eqs_grow(&catalogue->attribute_value, known, sizeof *catalogue->attribute_value));
  catalogue->attribute_value[known] = attribute;
cleanup:
  return status;
}

/* The attributes' numbers of an entry behind those of the kinds: they stay there if the kind is new. */
static eqs_status add_numbers(eqs_catalogue *catalogue, const eqs_checkpoint_entry *entry, eqs_bytes *scratch)
{
  eqs_status status = EQS_OK;
  for (int a = 0; a < entry->attributes; a++) {
    EQS_TRY(eqs_grow(&catalogue->number, catalogue->numbers + a, sizeof *catalogue->number));
    EQS_TRY(number_attribute(catalogue, &entry->attribute[a], scratch, &catalogue->number[catalogue->numbers + a]));
  }
cleanup:
  return status;
}

static eqs_status add_kind(eqs_bytes *to, eqs_catalogue *catalogue, const eqs_checkpoint_entry *entry)
{
  eqs_status status = EQS_OK;
  to->size = 0;
  eqs_bytes_add_count(to, entry->ndim);
  for (int d = 0; d < entry->ndim; d++) eqs_bytes_add_count(to, entry->shape[d]);
  eqs_bytes_add_little(to, (uint64_t)(entry->trainer_dtype - EQS_FLOAT32), 1);
  eqs_bytes_add_count(to, entry->attributes);
  for (int a = 0; a < entry->attributes; a++) eqs_bytes_add_count(to, catalogue->number[catalogue->numbers + a]);
  eqs_bytes_add_count(to, entry->tensors);
  for (int t = 0; t < entry->tensors; t++) {
    const char *name = entry->tensor_name[t];
    int64_t number;
    EQS_TRY(eqs_unique_add(&catalogue->tensor, name, (int64_t)strlen(name), &number));
    eqs_bytes_add_count(to, number);
  }
  status = to->status;
cleanup:
  return status;
}

static eqs_status number_kind(eqs_catalogue *catalogue, const eqs_checkpoint_summary *summary, int64_t e,
                              const eqs_bytes *kind)
{
  eqs_status status = EQS_OK;
  int64_t known = catalogue->kind.count, *number = &catalogue->kind_of[e];
  EQS_TRY(eqs_unique_add(&catalogue->kind, kind->bytes, kind->size, number));
  if (*number == known) {
    EQS_TRY(eqs_grow(&catalogue->entry_of, known, sizeof *catalogue->entry_of));
    EQS_TRY(eqs_grow(&catalogue->entries, known, sizeof *catalogue->entries));
    EQS_TRY(eqs_grow(&catalogue->first_number, known, sizeof *catalogue->first_number));
    catalogue->entry_of[known] = e;
    catalogue->first_number[known] = catalogue->numbers;
    catalogue->numbers += summary->entry[e].attributes;
  }
  catalogue->entries[*number]++;
cleanup:
  return status;
}

eqs_status eqs_catalogue_make(const eqs_checkpoint_summary *summary, eqs_catalogue *catalogue)
{
  eqs_status status = EQS_OK;
  eqs_bytes scratch = {0}, kind = {0};
  *catalogue = (eqs_catalogue){0};
  EQS_TRY(eqs_allocate(&catalogue->kind_of, summary->entries, sizeof *catalogue->kind_of));
  for (int64_t e = 0; e < summary->entries; e++) {
    const eqs_checkpoint_entry *entry = &summary->entry[e];
    EQS_TRY(add_numbers(catalogue, entry, &scratch));
    EQS_TRY(add_kind(&kind, catalogue, entry));
    EQS_TRY(number_kind(catalogue, summary, e, &kind));
  }
cleanup:
  eqs_bytes_free(&kind);
  eqs_bytes_free(&scratch);
  return status;
}

void eqs_catalogue_free(eqs_catalogue *catalogue)
{
  eqs_unique_free(&catalogue->attribute);
  eqs_unique_free(&catalogue->tensor);
  eqs_unique_free(&catalogue->kind);
  free(catalogue->attribute_value);
  free(catalogue->kind_of);
  free(catalogue->entry_of);
  free(catalogue->entries);
  free(catalogue->number);
  free(catalogue->first_number);
  *catalogue = (eqs_catalogue){0};
}

static void add_entries(eqs_bytes *to, const eqs_checkpoint_summary *summary, const eqs_catalogue *catalogue)
{
  const char *before = "";
  eqs_bytes_add_count(to, summary->entries);
  for (int64_t e = 0; e < summary->entries; e++) {
    const char *name = summary->entry[e].name;
    int64_t common = 0;
    while (name[common] != '\0' && name[common] == before[common]) common++;
    eqs_bytes_add_count(to, common);
    eqs_bytes_add_text(to, name + common);
    eqs_bytes_add_count(to, catalogue->kind_of[e]);
    before = name;
  }
}

void eqs_index_add(eqs_bytes *to, const eqs_checkpoint_summary *summary, const eqs_catalogue *catalogue)
{
  eqs_bytes_add_count(to, summary->version);
  eqs_bytes_add(to, &summary->step, sizeof summary->step);
  eqs_bytes_add(to, &summary->skipped, sizeof summary->skipped);
  eqs_bytes_add_text(to, summary->equishard_version);
  eqs_bytes_add_text(to, summary->config);
  eqs_bytes_add_count(to, catalogue->attribute.count);
  eqs_bytes_add(to, catalogue->attribute.bytes.bytes, catalogue->attribute.bytes.size);
  eqs_bytes_add_count(to, catalogue->tensor.count);
  for (int64_t t = 0; t < catalogue->tensor.count; t++) {
    int64_t size;
    const char *name = eqs_unique_get(&catalogue->tensor, t, &size);
    eqs_bytes_add_block(to, name, size);
  }
  eqs_bytes_add_count(to, catalogue->kind.count);
  eqs_bytes_add(to, catalogue->kind.bytes.bytes, catalogue->kind.bytes.size);
  add_entries(to, summary, catalogue);
  eqs_bytes_add_count(to, summary->items);
  for (int i = 0; i < summary->items; i++) {
    uint64_t checksum = XXH3_64bits(summary->item[i].bytes, summary->item[i].size);
    eqs_bytes_add_text(to, summary->item[i].key);
    eqs_bytes_add_count(to, (int64_t)summary->item[i].size);
    eqs_bytes_add(to, &checksum, sizeof checksum);
  }
}

/* ----- taking apart ----- */

/* A kind of parameters: an entry without a name. */
typedef struct {
  int64_t kinds, tensors, attributes;
  eqs_checkpoint_entry *kind;
  char **tensor; /* names */
  eqs_attribute *attribute;
  int64_t left; /* bytes of the file that parameters can still be in */
} index_tables;

static void free_tables(index_tables *tables)
{
  for (int64_t t = 0; t < tables->tensors; t++) free(tables->tensor[t]);
  free(tables->tensor);
  free(tables->attribute);
  free(tables->kind);
}

static eqs_status spend(index_tables *tables, int64_t bytes)
{
  tables->left -= bytes;
  return tables->left < 0 ? eqs_bytes_garbled() : EQS_OK;
}

/* A text that is the summary's. */
static eqs_status take_kept_text(eqs_bytes_left *from, eqs_checkpoint_summary *summary, const char **text)
{
  eqs_status status = EQS_OK;
  char *taken = NULL;
  EQS_TRY(eqs_bytes_take_text(from, &taken));
  EQS_TRY(eqs_summary_keep_text(summary, taken));
  *text = taken;
  taken = NULL;
cleanup:
  free(taken);
  return status;
}

static eqs_status take_attribute(eqs_bytes_left *from, eqs_checkpoint_summary *summary, eqs_attribute *attribute)
{
  eqs_status status = EQS_OK;
  char kind;
  EQS_TRY(take_kept_text(from, summary, &attribute->name));
  EQS_TRY(eqs_check_name("attribute", attribute->name));
  EQS_TRY(eqs_bytes_take(from, &kind, 1));
  attribute->kind = (eqs_attribute_kind)kind;
  switch (attribute->kind) {
  case EQS_ATTRIBUTE_INTEGER: return eqs_bytes_take(from, &attribute->integer, sizeof attribute->integer);
  case EQS_ATTRIBUTE_NUMBER: return eqs_bytes_take(from, &attribute->number, sizeof attribute->number);
  case EQS_ATTRIBUTE_TEXT: return take_kept_text(from, summary, &attribute->text);
  }
  status = eqs_bytes_garbled();
cleanup:
  return status;
}

static eqs_status take_attributes(eqs_bytes_left *from, eqs_checkpoint_summary *summary, index_tables *tables)
{
  enum { least = 3 };
  eqs_status status = EQS_OK;
  int64_t count;
  EQS_TRY(eqs_bytes_take_count(from, least, INT_MAX, &count));
  EQS_TRY(eqs_allocate(&tables->attribute, count, sizeof *tables->attribute));
  for (; tables->attributes < count; tables->attributes++)
    EQS_TRY(take_attribute(from, summary, &tables->attribute[tables->attributes]));
cleanup:
  return status;
}

static eqs_status take_tensor_names(eqs_bytes_left *from, index_tables *tables)
{
  eqs_status status = EQS_OK;
  int64_t count;
  EQS_TRY(eqs_bytes_take_count(from, 1, INT_MAX, &count));
  EQS_TRY(eqs_allocate(&tables->tensor, count, sizeof *tables->tensor));
  while (tables->tensors < count) {
    char **name = &tables->tensor[tables->tensors++];
    EQS_TRY(eqs_bytes_take_text(from, name));
    EQS_TRY(eqs_check_name("tensor", *name));
  }
cleanup:
  return status;
}

static eqs_status take_shape(eqs_bytes_left *from, eqs_checkpoint_entry *kind)
{
  eqs_status status = EQS_OK;
  int64_t count, rows, cols;
  EQS_TRY(eqs_bytes_take_count(from, 1, EQS_MAX_DIMS, &count));
  kind->ndim = (int)count;
  for (int d = 0; d < kind->ndim; d++) EQS_TRY(eqs_bytes_take_count(from, 0, INT64_MAX, &kind->shape[d]));
  if (!eqs_tensor_rows_cols(kind->ndim, kind->shape, &rows, &cols) || cols > INT_MAX) status = eqs_bytes_garbled();
cleanup:
  return status;
}

/* The attributes of a kind, in alphabetical order, one array for all its parameters. */
static eqs_status take_kind_attributes(eqs_bytes_left *from, eqs_checkpoint_summary *summary,
                                       const index_tables *tables, eqs_checkpoint_entry *kind)
{
  eqs_status status = EQS_OK;
  int64_t count, number;
  eqs_attribute *attribute;
  EQS_TRY(eqs_bytes_take_count(from, 1, INT_MAX, &count));
  EQS_TRY(eqs_summary_add_attributes(summary, count, &attribute));
  kind->attribute = attribute;
  for (; kind->attributes < count; kind->attributes++) {
    EQS_TRY(eqs_bytes_take_count(from, 0, tables->attributes - 1, &number));
    attribute[kind->attributes] = tables->attribute[number];
    if (kind->attributes > 0 && strcmp(attribute[kind->attributes - 1].name, attribute[kind->attributes].name) >= 0)
      return eqs_bytes_garbled();
  }
  kind->step = eqs_step_of(kind);
cleanup:
  return status;
}

/* Its tensors: their names stay in the tables. */
static eqs_status take_kind_tensors(eqs_bytes_left *from, const index_tables *tables, eqs_checkpoint_entry *kind)
{
  eqs_status status = EQS_OK;
  int64_t count, number;
  EQS_TRY(eqs_bytes_take_count(from, 1, EQS_MAX_TENSORS, &count));
  for (; kind->tensors < count; kind->tensors++) {
    EQS_TRY(eqs_bytes_take_count(from, 0, tables->tensors - 1, &number));
    kind->tensor_name[kind->tensors] = tables->tensor[number];
    if (kind->tensors > 0 && strcmp(kind->tensor_name[kind->tensors - 1], kind->tensor_name[kind->tensors]) >= 0)
      return eqs_bytes_garbled();
  }
  if (eqs_checkpoint_tensor_find(kind, "weight") < 0) status = eqs_bytes_garbled();
cleanup:
  return status;
}

static eqs_status take_kinds(eqs_bytes_left *from, eqs_checkpoint_summary *summary, index_tables *tables)
{
  enum { least = 5 };
  eqs_status status = EQS_OK;
  int64_t count;
  EQS_TRY(eqs_bytes_take_count(from, least, INT_MAX, &count));
  EQS_TRY(eqs_allocate(&tables->kind, count, sizeof *tables->kind));
  for (; tables->kinds < count; tables->kinds++) {
    eqs_checkpoint_entry *kind = &tables->kind[tables->kinds];
    char dtype;
    EQS_TRY(take_shape(from, kind));
    EQS_TRY(eqs_bytes_take(from, &dtype, 1));
    if (dtype < 0 || dtype > EQS_FLOAT16 - EQS_FLOAT32) EQS_TRY(eqs_bytes_garbled());
    kind->trainer_dtype = (eqs_dtype)(EQS_FLOAT32 + dtype);
    EQS_TRY(take_kind_attributes(from, summary, tables, kind));
    EQS_TRY(take_kind_tensors(from, tables, kind));
  }
cleanup:
  return status;
}

static eqs_status take_name(eqs_bytes_left *from, index_tables *tables, const char *before, char **name)
{
  eqs_status status = EQS_OK;
  int64_t common, rest;
  EQS_TRY(eqs_bytes_take_count(from, 0, (int64_t)strlen(before), &common));
  EQS_TRY(eqs_bytes_take_count(from, 1, INT_MAX, &rest));
  EQS_TRY(spend(tables, common));
  EQS_TRY(eqs_allocate(name, common + rest + 1, 1));
  memcpy(*name, before, (size_t)common);
  EQS_TRY(eqs_bytes_take(from, *name + common, rest));
  if ((int64_t)strlen(*name) != common + rest || strcmp(before, *name) >= 0) EQS_TRY(eqs_bytes_garbled());
  EQS_TRY(eqs_check_name("parameter", *name));
cleanup:
  return status;
}

static eqs_status take_entry(eqs_bytes_left *from, index_tables *tables, const char *before,
                             eqs_checkpoint_entry *entry)
{
  enum { group = 32, dataset = 64, attribute = 12 }; /* bytes of the file for each, and more */
  eqs_status status = EQS_OK;
  char *name = NULL;
  int64_t number;
  EQS_TRY(take_name(from, tables, before, &name));
  EQS_TRY(eqs_bytes_take_count(from, 0, tables->kinds - 1, &number));
  const eqs_checkpoint_entry *kind = &tables->kind[number];
  EQS_TRY(spend(tables, group + kind->tensors * dataset + (int64_t)kind->attributes * attribute));
  *entry = *kind;
  entry->name = name;
  name = NULL;
  for (int t = 0; t < EQS_MAX_TENSORS; t++) entry->tensor_name[t] = NULL;
  for (int t = 0; t < kind->tensors; t++) EQS_TRY(eqs_copy_text(&entry->tensor_name[t], kind->tensor_name[t]));
cleanup:
  free(name);
  return status;
}

static eqs_status take_entries(eqs_bytes_left *from, index_tables *tables, eqs_checkpoint_summary *summary)
{
  enum { least = 3 };
  eqs_status status = EQS_OK;
  int64_t count;
  EQS_TRY(eqs_bytes_take_count(from, least, INT64_MAX, &count));
  EQS_TRY(eqs_allocate(&summary->entry, count, sizeof *summary->entry));
  for (const char *before = ""; summary->entries < count; before = summary->entry[summary->entries - 1].name)
    EQS_TRY(take_entry(from, tables, before, &summary->entry[summary->entries++]));
cleanup:
  return status;
}

static eqs_status take_items(eqs_bytes_left *from, index_tables *tables, eqs_checkpoint_summary *summary,
                             uint64_t **checksum)
{
  enum { least = 10 };
  eqs_status status = EQS_OK;
  int64_t count;
  EQS_TRY(eqs_bytes_take_count(from, least, INT_MAX, &count));
  EQS_TRY(eqs_allocate(&summary->item, count, sizeof *summary->item));
  EQS_TRY(eqs_allocate(checksum, count, sizeof **checksum));
  for (int64_t i = 0; i < count; i++) {
    eqs_checkpoint_item *item = &summary->item[summary->items++];
    int64_t size;
    char *key = NULL, *bytes = NULL;
    status = eqs_bytes_take_text(from, &key);
    item->key = key;
    EQS_TRY(status);
    EQS_TRY(eqs_check_name("trainer item", key));
    if (i > 0 && strcmp(summary->item[i - 1].key, key) >= 0) EQS_TRY(eqs_bytes_garbled());
    EQS_TRY(eqs_bytes_take_count(from, 0, INT64_MAX, &size));
    EQS_TRY(spend(tables, size > tables->left ? tables->left + 1 : size));
    EQS_TRY(eqs_allocate_raw(&bytes, size, 1));
    item->bytes = bytes;
    item->size = (size_t)size;
    EQS_TRY(eqs_bytes_take(from, *checksum + i, sizeof **checksum));
  }
cleanup:
  return status;
}

eqs_status eqs_index_take(eqs_bytes_left *from, int64_t bound, eqs_checkpoint_summary *summary, uint64_t **checksum)
{
  eqs_status status = EQS_OK;
  index_tables tables = {.left = bound};
  *summary = (eqs_checkpoint_summary){0};
  *checksum = NULL;
  EQS_TRY(eqs_bytes_take_count(from, 0, INT_MAX, &summary->version));
  EQS_TRY(eqs_bytes_take_number(from, &summary->step));
  EQS_TRY(eqs_bytes_take_number(from, &summary->skipped));
  EQS_TRY(eqs_bytes_take_text(from, &summary->equishard_version));
  EQS_TRY(eqs_bytes_take_text(from, &summary->config));
  EQS_TRY(take_attributes(from, summary, &tables));
  EQS_TRY(take_tensor_names(from, &tables));
  EQS_TRY(take_kinds(from, summary, &tables));
  EQS_TRY(take_entries(from, &tables, summary));
  EQS_TRY(take_items(from, &tables, summary, checksum));
cleanup:
  free_tables(&tables);
  if (status == EQS_OK) return EQS_OK;
  if (status == EQS_USAGE) status = eqs_bytes_garbled(); /* a name that none can have */
  eqs_checkpoint_summary_free(summary);
  free(*checksum);
  *checksum = NULL;
  return status;
}
