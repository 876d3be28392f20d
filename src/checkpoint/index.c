#include "checkpoint/index.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/memory.h"
#include "base/numbers.h"
#include "checkpoint/contents.h"
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

/* The attributes' numbers of an parameter behind those of the kinds: they stay there if the kind is new. */
static eqs_status add_numbers(eqs_catalogue *catalogue, const eqs_checkpoint_parameter *parameter, eqs_bytes *scratch)
{
  eqs_status status = EQS_OK;
  for (int a = 0; a < parameter->attributes; a++) {
    EQS_TRY(eqs_grow(&catalogue->number, catalogue->numbers + a, sizeof *catalogue->number));
    EQS_TRY(number_attribute(catalogue, &parameter->attribute[a], scratch, &catalogue->number[catalogue->numbers + a]));
  }
cleanup:
  return status;
}

static eqs_status add_kind(eqs_bytes *to, eqs_catalogue *catalogue, const eqs_checkpoint_parameter *parameter)
{
  eqs_status status = EQS_OK;
  to->size = 0;
  eqs_bytes_add_count(to, parameter->ndim);
  for (int d = 0; d < parameter->ndim; d++) eqs_bytes_add_count(to, parameter->shape[d]);
  eqs_bytes_add_little(to, (uint64_t)(parameter->trainer_dtype - EQS_FLOAT32), 1);
  eqs_bytes_add_count(to, parameter->attributes);
  for (int a = 0; a < parameter->attributes; a++) eqs_bytes_add_count(to, catalogue->number[catalogue->numbers + a]);
  eqs_bytes_add_count(to, parameter->tensors);
  for (int t = 0; t < parameter->tensors; t++) {
    const char *name = parameter->tensor[t].name;
    int64_t number;
    EQS_TRY(eqs_unique_add(&catalogue->tensor, name, (int64_t)strlen(name), &number));
    eqs_bytes_add_count(to, number);
  }
  status = to->status;
cleanup:
  return status;
}

static eqs_status number_kind(eqs_catalogue *catalogue, const eqs_checkpoint_contents *contents, int64_t p,
                              const eqs_bytes *kind)
{
  eqs_status status = EQS_OK;
  int64_t known = catalogue->kind.count, *number = &catalogue->kind_of[p];
  EQS_TRY(eqs_unique_add(&catalogue->kind, kind->bytes, kind->size, number));
  if (*number == known) {
    EQS_TRY(eqs_grow(&catalogue->first, known, sizeof *catalogue->first));
    EQS_TRY(eqs_grow(&catalogue->members, known, sizeof *catalogue->members));
    EQS_TRY(eqs_grow(&catalogue->first_number, known, sizeof *catalogue->first_number));
    catalogue->first[known] = p;
    catalogue->first_number[known] = catalogue->numbers;
    catalogue->numbers += contents->parameter[p].attributes;
  }
  catalogue->members[*number]++;
cleanup:
  return status;
}

eqs_status eqs_catalogue_make(const eqs_checkpoint_contents *contents, eqs_catalogue *catalogue)
{
  eqs_status status = EQS_OK;
  eqs_bytes scratch = {0}, kind = {0};
  *catalogue = (eqs_catalogue){0};
  EQS_TRY(eqs_allocate(&catalogue->kind_of, contents->parameters, sizeof *catalogue->kind_of));
  for (int64_t p = 0; p < contents->parameters; p++) {
    const eqs_checkpoint_parameter *parameter = &contents->parameter[p];
    EQS_TRY(add_numbers(catalogue, parameter, &scratch));
    EQS_TRY(add_kind(&kind, catalogue, parameter));
    EQS_TRY(number_kind(catalogue, contents, p, &kind));
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
  free(catalogue->first);
  free(catalogue->members);
  free(catalogue->number);
  free(catalogue->first_number);
  *catalogue = (eqs_catalogue){0};
}

static void add_parameters(eqs_bytes *to, const eqs_checkpoint_contents *contents, const eqs_catalogue *catalogue)
{
  const char *before = "";
  eqs_bytes_add_count(to, contents->parameters);
  for (int64_t p = 0; p < contents->parameters; p++) {
    const char *name = contents->parameter[p].name;
    int64_t common = 0;
    while (name[common] != '\0' && name[common] == before[common]) common++;
    eqs_bytes_add_count(to, common);
    eqs_bytes_add_text(to, name + common);
    eqs_bytes_add_count(to, catalogue->kind_of[p]);
    before = name;
  }
}

void eqs_index_add(eqs_bytes *to, const eqs_checkpoint_contents *contents, const eqs_catalogue *catalogue)
{
  eqs_bytes_add_count(to, contents->version);
  eqs_bytes_add(to, &contents->step, sizeof contents->step);
  eqs_bytes_add(to, &contents->skipped, sizeof contents->skipped);
  eqs_bytes_add_text(to, contents->equishard_version);
  eqs_bytes_add_text(to, contents->config);
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
  add_parameters(to, contents, catalogue);
  eqs_bytes_add_count(to, contents->items);
  for (int i = 0; i < contents->items; i++) {
    uint64_t checksum = XXH3_64bits(contents->item[i].bytes, contents->item[i].size);
    eqs_bytes_add_text(to, contents->item[i].key);
    eqs_bytes_add_count(to, (int64_t)contents->item[i].size);
    eqs_bytes_add(to, &checksum, sizeof checksum);
  }
}

/* ----- taking apart ----- */

/* A kind of parameters: one without a name. */
typedef struct {
  int64_t kinds, tensors, attributes;
  eqs_checkpoint_parameter *kind;
  const char **tensor; /* names; the contents' */
  eqs_attribute *attribute;
  int64_t left; /* bytes of the file that parameters can still be in */
} index_tables;

static void free_tables(index_tables *tables)
{
  free(tables->tensor);
  free(tables->attribute);
  free(tables->kind);
}

static eqs_status spend(index_tables *tables, int64_t bytes)
{
  tables->left -= bytes;
  return tables->left < 0 ? eqs_bytes_garbled() : EQS_OK;
}

/* A text that belongs to the contents. */
static eqs_status take_text(eqs_bytes_left *from, eqs_checkpoint_contents *contents, const char **text)
{
  eqs_status status = EQS_OK;
  char *taken = NULL;
  *text = NULL;
  status = eqs_bytes_take_text(from, &taken);
  if (status != EQS_OK) free(taken);
  EQS_TRY(status);
  EQS_TRY(eqs_contents_own(contents, taken));
  *text = taken;
cleanup:
  return status;
}

static eqs_status take_attribute(eqs_bytes_left *from, eqs_checkpoint_contents *contents, eqs_attribute *attribute)
{
  eqs_status status = EQS_OK;
  char kind;
  EQS_TRY(take_text(from, contents, &attribute->name));
  EQS_TRY(eqs_check_name("attribute", attribute->name));
  EQS_TRY(eqs_bytes_take(from, &kind, 1));
  attribute->kind = (eqs_attribute_kind)kind;
  switch (attribute->kind) {
  case EQS_ATTRIBUTE_INTEGER: return eqs_bytes_take(from, &attribute->integer, sizeof attribute->integer);
  case EQS_ATTRIBUTE_NUMBER: return eqs_bytes_take(from, &attribute->number, sizeof attribute->number);
  case EQS_ATTRIBUTE_TEXT: return take_text(from, contents, &attribute->text);
  }
  status = eqs_bytes_garbled();
cleanup:
  return status;
}

static eqs_status take_attributes(eqs_bytes_left *from, eqs_checkpoint_contents *contents, index_tables *tables)
{
  enum { least = 3 };
  eqs_status status = EQS_OK;
  int64_t count;
  EQS_TRY(eqs_bytes_take_count(from, least, INT_MAX, &count));
  EQS_TRY(eqs_allocate(&tables->attribute, count, sizeof *tables->attribute));
  for (; tables->attributes < count; tables->attributes++)
    EQS_TRY(take_attribute(from, contents, &tables->attribute[tables->attributes]));
cleanup:
  return status;
}

static eqs_status take_tensor_names(eqs_bytes_left *from, eqs_checkpoint_contents *contents, index_tables *tables)
{
  eqs_status status = EQS_OK;
  int64_t count;
  EQS_TRY(eqs_bytes_take_count(from, 1, INT_MAX, &count));
  EQS_TRY(eqs_allocate(&tables->tensor, count, sizeof *tables->tensor));
  while (tables->tensors < count) {
    const char **name = &tables->tensor[tables->tensors++];
    EQS_TRY(take_text(from, contents, name));
    EQS_TRY(eqs_check_name("tensor", *name));
  }
cleanup:
  return status;
}

static eqs_status take_shape(eqs_bytes_left *from, eqs_checkpoint_parameter *kind)
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
static eqs_status take_kind_attributes(eqs_bytes_left *from, eqs_checkpoint_contents *contents,
                                       const index_tables *tables, eqs_checkpoint_parameter *kind)
{
  eqs_status status = EQS_OK;
  int64_t count, number;
  eqs_attribute *attribute;
  EQS_TRY(eqs_bytes_take_count(from, 1, INT_MAX, &count));
  EQS_TRY(eqs_contents_allocate(contents, &attribute, count, sizeof *attribute));
  kind->attribute = attribute;
  for (; kind->attributes < count; kind->attributes++) {
    EQS_TRY(eqs_bytes_take_count(from, 0, tables->attributes - 1, &number));
    attribute[kind->attributes] = tables->attribute[number];
    if (kind->attributes > 0 && strcmp(attribute[kind->attributes - 1].name, attribute[kind->attributes].name) >= 0)
      return eqs_bytes_garbled();
  }
cleanup:
  return status;
}

static eqs_status take_kind_tensors(eqs_bytes_left *from, const index_tables *tables, eqs_checkpoint_parameter *kind)
{
  eqs_status status = EQS_OK;
  int64_t count, number;
  EQS_TRY(eqs_bytes_take_count(from, 1, EQS_MAX_TENSORS, &count));
  for (; kind->tensors < count; kind->tensors++) {
    EQS_TRY(eqs_bytes_take_count(from, 0, tables->tensors - 1, &number));
    kind->tensor[kind->tensors].name = tables->tensor[number];
    if (kind->tensors > 0 && strcmp(kind->tensor[kind->tensors - 1].name, kind->tensor[kind->tensors].name) >= 0)
      return eqs_bytes_garbled();
  }
  if (eqs_parameter_find_tensor(kind, "weight") == NULL) status = eqs_bytes_garbled();
cleanup:
  return status;
}

static eqs_status take_kinds(eqs_bytes_left *from, eqs_checkpoint_contents *contents, index_tables *tables)
{
  enum { least = 5 };
  eqs_status status = EQS_OK;
  int64_t count;
  EQS_TRY(eqs_bytes_take_count(from, least, INT_MAX, &count));
  EQS_TRY(eqs_allocate(&tables->kind, count, sizeof *tables->kind));
  for (; tables->kinds < count; tables->kinds++) {
    eqs_checkpoint_parameter *kind = &tables->kind[tables->kinds];
    char dtype;
    EQS_TRY(take_shape(from, kind));
    EQS_TRY(eqs_bytes_take(from, &dtype, 1));
    if (dtype < 0 || dtype > EQS_FLOAT16 - EQS_FLOAT32) EQS_TRY(eqs_bytes_garbled());
    kind->trainer_dtype = (eqs_dtype)(EQS_FLOAT32 + dtype);
    EQS_TRY(take_kind_attributes(from, contents, tables, kind));
    EQS_TRY(take_kind_tensors(from, tables, kind));
  }
cleanup:
  return status;
}

static eqs_status take_name(eqs_bytes_left *from, eqs_checkpoint_contents *contents, index_tables *tables,
                            const char *before, const char **result)
{
  eqs_status status = EQS_OK;
  int64_t common, rest;
  char *name;
  EQS_TRY(eqs_bytes_take_count(from, 0, (int64_t)strlen(before), &common));
  EQS_TRY(eqs_bytes_take_count(from, 1, INT_MAX, &rest));
  EQS_TRY(spend(tables, common));
  EQS_TRY(eqs_contents_allocate(contents, &name, common + rest + 1, 1));
  memcpy(name, before, (size_t)common);
  EQS_TRY(eqs_bytes_take(from, name + common, rest));
  if ((int64_t)strlen(name) != common + rest || strcmp(before, name) >= 0) EQS_TRY(eqs_bytes_garbled());
  EQS_TRY(eqs_check_name("parameter", name));
  *result = name;
cleanup:
  return status;
}

/* Bytes of the file for each, and more. */
enum { group_bytes = 32, dataset_bytes = 64, attribute_bytes = 12 };

static eqs_status take_parameter(eqs_bytes_left *from, eqs_checkpoint_contents *contents, index_tables *tables,
                                 const char *before, eqs_checkpoint_parameter *parameter)
{
  eqs_status status = EQS_OK;
  const char *name;
  int64_t number;
  EQS_TRY(take_name(from, contents, tables, before, &name));
  EQS_TRY(eqs_bytes_take_count(from, 0, tables->kinds - 1, &number));
  *parameter = tables->kind[number];
  parameter->name = name;
  EQS_TRY(spend(tables,
                group_bytes + parameter->tensors * dataset_bytes + (int64_t)parameter->attributes * attribute_bytes));
cleanup:
  return status;
}

static eqs_status take_parameters(eqs_bytes_left *from, index_tables *tables, eqs_checkpoint_contents *contents)
{
  enum { least = 3 };
  eqs_status status = EQS_OK;
  int64_t count;
  EQS_TRY(eqs_bytes_take_count(from, least, tables->left / (group_bytes + dataset_bytes), &count));
  EQS_TRY(eqs_contents_allocate(contents, &contents->parameter, count, sizeof *contents->parameter));
  for (const char *before = ""; contents->parameters < count; contents->parameters++) {
    eqs_checkpoint_parameter *parameter = &contents->parameter[contents->parameters];
    EQS_TRY(take_parameter(from, contents, tables, before, parameter));
    before = parameter->name;
  }
cleanup:
  return status;
}

static eqs_status take_item(eqs_bytes_left *from, eqs_checkpoint_contents *contents, index_tables *tables,
                            eqs_checkpoint_item *item)
{
  eqs_status status = EQS_OK;
  int64_t size;
  char *bytes;
  EQS_TRY(take_text(from, contents, &item->key));
  EQS_TRY(eqs_check_name("trainer item", item->key));
  EQS_TRY(eqs_bytes_take_count(from, 0, INT64_MAX, &size));
  EQS_TRY(spend(tables, size > tables->left ? tables->left + 1 : size));
  EQS_TRY(eqs_allocate_raw(&bytes, size, 1));
  EQS_TRY(eqs_contents_own(contents, bytes));
  item->bytes = bytes;
  item->size = (size_t)size;
cleanup:
  return status;
}

static eqs_status take_items(eqs_bytes_left *from, index_tables *tables, eqs_checkpoint_contents *contents,
                             uint64_t **checksum)
{
  enum { least = 10 };
  eqs_status status = EQS_OK;
  int64_t count;
  eqs_checkpoint_item *item;
  EQS_TRY(eqs_bytes_take_count(from, least, INT_MAX, &count));
  EQS_TRY(eqs_contents_allocate(contents, &item, count, sizeof *item));
  contents->item = item;
  EQS_TRY(eqs_allocate(checksum, count, sizeof **checksum));
  for (; contents->items < count; contents->items++) {
    int i = contents->items;
    EQS_TRY(take_item(from, contents, tables, &item[i]));
    if (i > 0 && strcmp(item[i - 1].key, item[i].key) >= 0) EQS_TRY(eqs_bytes_garbled());
    EQS_TRY(eqs_bytes_take(from, *checksum + i, sizeof **checksum));
  }
cleanup:
  return status;
}

eqs_status eqs_index_take(eqs_bytes_left *from, int64_t bound, eqs_checkpoint_contents *contents, uint64_t **checksum)
{
  eqs_status status = EQS_OK;
  index_tables tables = {.left = bound};
  *contents = (eqs_checkpoint_contents){0};
  *checksum = NULL;
  EQS_TRY(eqs_bytes_take_count(from, 0, INT_MAX, &contents->version));
  EQS_TRY(eqs_bytes_take_number(from, &contents->step));
  EQS_TRY(eqs_bytes_take_number(from, &contents->skipped));
  EQS_TRY(take_text(from, contents, &contents->equishard_version));
  EQS_TRY(take_text(from, contents, &contents->config));
  EQS_TRY(take_attributes(from, contents, &tables));
  EQS_TRY(take_tensor_names(from, contents, &tables));
  EQS_TRY(take_kinds(from, contents, &tables));
  EQS_TRY(take_parameters(from, &tables, contents));
  EQS_TRY(take_items(from, &tables, contents, checksum));
cleanup:
  free_tables(&tables);
  if (status == EQS_OK) return EQS_OK;
  if (status == EQS_USAGE) status = eqs_bytes_garbled(); /* a name that none can have */
  eqs_contents_free(contents);
  free(*checksum);
  *checksum = NULL;
  return status;
}
