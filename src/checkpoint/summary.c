#include "checkpoint/summary.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "checkpoint/tiles.h"

static int by_attribute_name(const void *a, const void *b)
{
  return strcmp(((const eqs_attribute *)a)->name, ((const eqs_attribute *)b)->name);
}

void eqs_sort_attributes(int count, eqs_attribute *attribute)
{
  if (count > 0) qsort(attribute, (size_t)count, sizeof *attribute, by_attribute_name);
}

static int by_key(const void *a, const void *b)
{
  return strcmp(((const eqs_checkpoint_item *)a)->key, ((const eqs_checkpoint_item *)b)->key);
}

void eqs_sort_items(int count, eqs_checkpoint_item *item)
{
  if (count > 0) qsort(item, (size_t)count, sizeof *item, by_key);
}

eqs_status eqs_summary_add_attributes(eqs_checkpoint_summary *summary, int64_t count, eqs_attribute **attribute)
{
  eqs_status status = EQS_OK;
  *attribute = NULL;
  EQS_TRY(eqs_grow(&summary->attribute_list, summary->attribute_lists, sizeof *summary->attribute_list));
  EQS_TRY(eqs_allocate(attribute, count, sizeof **attribute));
  summary->attribute_list[summary->attribute_lists++] = *attribute;
cleanup:
  return status;
}

eqs_status eqs_summary_keep_text(eqs_checkpoint_summary *summary, char *text)
{
  eqs_status status = eqs_grow(&summary->text, summary->texts, sizeof *summary->text);
  if (status == EQS_OK) summary->text[summary->texts++] = text;
  return status;
}

int64_t eqs_step_of(const eqs_checkpoint_entry *entry)
{
  for (int a = 0; a < entry->attributes; a++)
    if (entry->attribute[a].kind == EQS_ATTRIBUTE_INTEGER && strcmp(entry->attribute[a].name, "step") == 0)
      return entry->attribute[a].integer;
  return 0;
}

static eqs_status describe_attributes(const eqs_checkpoint_parameter *parameter, eqs_checkpoint_summary *summary,
                                      eqs_checkpoint_entry *entry)
{
  eqs_status status = EQS_OK;
  eqs_attribute *attribute;
  EQS_TRY(eqs_summary_add_attributes(summary, parameter->attributes, &attribute));
  for (int a = 0; a < parameter->attributes; a++) {
    EQS_TRY(eqs_check_name("attribute", parameter->attribute[a].name));
    attribute[a] = parameter->attribute[a];
    if (attribute[a].kind != EQS_ATTRIBUTE_TEXT)
      attribute[a].text = NULL;
    else if (attribute[a].text == NULL)
      attribute[a].text = "";
  }
  eqs_sort_attributes(parameter->attributes, attribute);
  for (int a = 1; a < parameter->attributes; a++)
    if (strcmp(attribute[a - 1].name, attribute[a].name) == 0)
      return eqs_fail(EQS_USAGE, "%s: two attributes are named %s", parameter->name, attribute[a].name);
  entry->attribute = attribute;
  entry->attributes = parameter->attributes;
cleanup:
  return status;
}

static eqs_status describe_parameter(const eqs_checkpoint_parameter *parameter, eqs_checkpoint_summary *summary,
                                     eqs_checkpoint_entry *entry)
{
  eqs_status status = EQS_OK;
  int order[EQS_MAX_TENSORS];
  EQS_TRY(eqs_copy_text(&entry->name, parameter->name));
  entry->trainer_dtype = parameter->trainer_dtype;
  entry->ndim = parameter->ndim;
  memcpy(entry->shape, parameter->shape, sizeof entry->shape);

  EQS_TRY(describe_attributes(parameter, summary, entry));
  entry->step = eqs_step_of(entry);

  eqs_tensor_order(parameter, order);
  bool weight = false;
  for (; entry->tensors < parameter->tensors; entry->tensors++) {
    const char *name = parameter->tensor_name[order[entry->tensors]];
    EQS_TRY(eqs_copy_text(&entry->tensor_name[entry->tensors], name));
    weight = weight || strcmp(name, "weight") == 0;
    if (entry->tensors > 0 && strcmp(entry->tensor_name[entry->tensors - 1], name) == 0)
      EQS_TRY(eqs_fail(EQS_USAGE, "%s: two tensors are named %s", parameter->name, name));
  }
  if (!weight) status = eqs_fail(EQS_USAGE, "%s: no tensor is its weight", parameter->name);
cleanup:
  return status;
}

static eqs_status describe_items(int items, const eqs_checkpoint_item *item, eqs_checkpoint_summary *summary)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_allocate(&summary->item, items, sizeof *summary->item));
  for (int i = 0; i < items; i++) {
    eqs_checkpoint_item *copy = &summary->item[summary->items];
    char *key = NULL, *bytes = NULL;
    EQS_TRY(eqs_check_name("trainer item", item[i].key));
    EQS_TRY(eqs_copy_text(&key, item[i].key));
    copy->key = key;
    summary->items++;
    EQS_TRY(eqs_allocate_raw(&bytes, (int64_t)item[i].size, 1));
    if (item[i].size > 0) memcpy(bytes, item[i].bytes, item[i].size);
    copy->bytes = bytes;
    copy->size = item[i].size;
  }
  eqs_sort_items(summary->items, summary->item);
  for (int i = 1; i < summary->items; i++)
    if (strcmp(summary->item[i - 1].key, summary->item[i].key) == 0)
      return eqs_fail(EQS_USAGE, "two trainer items are named %s", summary->item[i].key);
cleanup:
  return status;
}

eqs_status eqs_checkpoint_describe(const eqs_checkpoint_contents *contents, eqs_checkpoint_summary *summary)
{
  eqs_status status = EQS_OK;
  const eqs_checkpoint_parameter **order = NULL;
  *summary =
      (eqs_checkpoint_summary){.version = EQS_CHECKPOINT_VERSION, .step = contents->step, .skipped = contents->skipped};
  EQS_TRY(eqs_copy_text(&summary->equishard_version, EQS_VERSION));
  EQS_TRY(eqs_copy_text(&summary->config, contents->config ? contents->config : ""));
  EQS_TRY(eqs_parameter_order(contents->parameters, contents->parameter, &order));
  EQS_TRY(eqs_allocate(&summary->entry, contents->parameters, sizeof *summary->entry));
  while (summary->entries < contents->parameters) {
    int64_t e = summary->entries++;
    EQS_TRY(describe_parameter(order[e], summary, &summary->entry[e]));
  }
  EQS_TRY(describe_items(contents->items, contents->item, summary));
cleanup:
  free(order);
  if (status != EQS_OK) eqs_checkpoint_summary_free(summary);
  return status;
}

void eqs_checkpoint_summary_free(eqs_checkpoint_summary *summary)
{
  for (int64_t e = 0; e < summary->entries; e++) {
    eqs_checkpoint_entry *entry = &summary->entry[e];
    for (int t = 0; t < EQS_MAX_TENSORS; t++) free(entry->tensor_name[t]);
    free(entry->name);
  }
  for (int i = 0; i < summary->items; i++) {
    free((void *)summary->item[i].key);
    free((void *)summary->item[i].bytes);
  }
  for (int64_t i = 0; i < summary->attribute_lists; i++) free(summary->attribute_list[i]);
  for (int64_t i = 0; i < summary->texts; i++) free(summary->text[i]);
  free(summary->attribute_list);
  free(summary->text);
  free(summary->entry);
  free(summary->item);
  free(summary->created);
  free(summary->equishard_version);
  free(summary->config);
  *summary = (eqs_checkpoint_summary){0};
}

static int by_entry_name(const void *name, const void *entry)
{
  return strcmp(name, ((const eqs_checkpoint_entry *)entry)->name);
}

const eqs_checkpoint_entry *eqs_checkpoint_entry_find(const eqs_checkpoint_summary *summary, const char *name)
{
  if (summary->entries == 0) return NULL;
  return bsearch(name, summary->entry, (size_t)summary->entries, sizeof *summary->entry, by_entry_name);
}

bool eqs_checkpoint_entry_has_shape(const eqs_checkpoint_entry *entry, int ndim, const int64_t *shape)
{
  return entry->ndim == ndim && memcmp(entry->shape, shape, (size_t)ndim * sizeof *shape) == 0;
}

int eqs_checkpoint_tensor_find(const eqs_checkpoint_entry *entry, const char *name)
{
  int t = entry->tensors - 1;
  while (t >= 0 && strcmp(entry->tensor_name[t], name) != 0) t--;
  return t;
}
