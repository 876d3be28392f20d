#include "checkpoint/contents.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

enum { longest_name = 4000 };

void eqs_contents_free(eqs_checkpoint_contents *contents)
{
  for (int64_t i = 0; i < contents->allocations; i++) free(contents->allocation[i]);
  free(contents->allocation);
  *contents = (eqs_checkpoint_contents){0};
}

eqs_status eqs_contents_own(eqs_checkpoint_contents *contents, void *memory)
{
  eqs_status status = eqs_grow(&contents->allocation, contents->allocations, sizeof *contents->allocation);
  if (status == EQS_OK)
    contents->allocation[contents->allocations++] = memory;
  else
    free(memory);
  return status;
}

eqs_status eqs_contents_allocate(eqs_checkpoint_contents *contents, void *pointer, int64_t count, size_t size)
{
  eqs_status status = EQS_OK;
  void *memory = NULL;
  EQS_TRY(eqs_allocate(&memory, count, size));
  EQS_TRY(eqs_contents_own(contents, memory));
  memcpy(pointer, &memory, sizeof memory);
cleanup:
  return status;
}

bool eqs_tensor_rows_cols(int ndim, const int64_t *shape, int64_t *rows, int64_t *cols)
{
  *rows = 1;
  *cols = ndim > 1 ? shape[ndim - 1] : 1;
  for (int d = 0; d < (ndim > 1 ? ndim - 1 : ndim); d++)
    if (!eqs_multiply_sizes(*rows, shape[d], rows)) return false;
  int64_t bytes;
  return eqs_multiply_sizes(*rows, *cols, &bytes) && eqs_multiply_sizes(bytes, (int64_t)sizeof(float), &bytes);
}

/* ----- finding ----- */

static int name_order(const void *name, const void *parameter)
{
  return strcmp(name, ((const eqs_checkpoint_parameter *)parameter)->name);
}

const eqs_checkpoint_parameter *eqs_contents_find(const eqs_checkpoint_contents *contents, const char *name)
{
  if (contents->parameters == 0) return NULL;
  return bsearch(name, contents->parameter, (size_t)contents->parameters, sizeof *contents->parameter, name_order);
}

bool eqs_parameter_has_shape(const eqs_checkpoint_parameter *parameter, int ndim, const int64_t *shape)
{
  return parameter->ndim == ndim && memcmp(parameter->shape, shape, (size_t)ndim * sizeof *shape) == 0;
}

const eqs_checkpoint_tensor *eqs_parameter_find_tensor(const eqs_checkpoint_parameter *parameter, const char *name)
{
  for (int t = 0; t < parameter->tensors; t++)
    if (strcmp(parameter->tensor[t].name, name) == 0) return &parameter->tensor[t];
  return NULL;
}

int64_t eqs_parameter_step(const eqs_checkpoint_parameter *parameter)
{
  for (int a = 0; a < parameter->attributes; a++)
    if (parameter->attribute[a].kind == EQS_ATTRIBUTE_INTEGER && strcmp(parameter->attribute[a].name, "step") == 0)
      return parameter->attribute[a].integer;
  return 0;
}

/* ----- sorting ----- */

eqs_status eqs_check_name(const char *what, const char *name)
{
  if (name == NULL || name[0] == '\0' || strcmp(name, ".") == 0 || strchr(name, '/'))
    return eqs_fail(EQS_USAGE, "%s \"%s\": a checkpoint cannot have this name (empty, \".\", or with a '/')", what,
                    name ? name : "");
  if (strlen(name) > longest_name)
    return eqs_fail(EQS_USAGE, "%s \"%.80s...\": a checkpoint cannot have names of more than %d bytes, is %zu", what,
                    name, longest_name, strlen(name));
  return EQS_OK;
}

static int by_parameter_name(const void *a, const void *b)
{
  return strcmp(((const eqs_checkpoint_parameter *)a)->name, ((const eqs_checkpoint_parameter *)b)->name);
}

static int by_tensor_name(const void *a, const void *b)
{
  return strcmp(((const eqs_checkpoint_tensor *)a)->name, ((const eqs_checkpoint_tensor *)b)->name);
}

static int by_attribute_name(const void *a, const void *b)
{
  return strcmp(((const eqs_attribute *)a)->name, ((const eqs_attribute *)b)->name);
}

static int by_key(const void *a, const void *b)
{
  return strcmp(((const eqs_checkpoint_item *)a)->key, ((const eqs_checkpoint_item *)b)->key);
}

static void sort(void *list, int64_t count, size_t size, int (*order)(const void *a, const void *b))
{
  if (count > 0) qsort(list, (size_t)count, size, order);
}

static eqs_status check_shape(const eqs_checkpoint_parameter *parameter)
{
  int64_t rows, cols;
  if (parameter->ndim < 0 || parameter->ndim > EQS_MAX_DIMS)
    return eqs_fail(EQS_USAGE, "parameter '%s': a checkpoint takes at most %d dimensions, has %d", parameter->name,
                    EQS_MAX_DIMS, parameter->ndim);
  if (!eqs_tensor_rows_cols(parameter->ndim, parameter->shape, &rows, &cols) || cols > INT_MAX)
    return eqs_fail(EQS_USAGE, "parameter '%s': too large for a checkpoint", parameter->name);
  for (int t = 0; t < parameter->tensors; t++) {
    const eqs_checkpoint_tensor *tensor = &parameter->tensor[t];
    for (int64_t m = 0; m < tensor->matrices; m++) {
      const eqs_view *view = tensor->matrix[m].view;
      if (view->tensor_rows != rows || view->tensor_cols != cols)
        return eqs_fail(EQS_USAGE, "parameter '%s': %s has matrices of a tensor of %lldx%lld, must be %lldx%lld",
                        parameter->name, tensor->name, (long long)view->tensor_rows, (long long)view->tensor_cols,
                        (long long)rows, (long long)cols);
    }
  }
  return EQS_OK;
}

static eqs_status sort_attributes(eqs_checkpoint_contents *sorted, eqs_checkpoint_parameter *parameter)
{
  eqs_status status = EQS_OK;
  eqs_attribute *attribute;
  EQS_TRY(eqs_contents_allocate(sorted, &attribute, parameter->attributes, sizeof *attribute));
  for (int a = 0; a < parameter->attributes; a++) {
    EQS_TRY(eqs_check_name("attribute", parameter->attribute[a].name));
    attribute[a] = parameter->attribute[a];
    if (attribute[a].kind != EQS_ATTRIBUTE_TEXT)
      attribute[a].text = NULL;
    else if (attribute[a].text == NULL)
      attribute[a].text = "";
  }
  sort(attribute, parameter->attributes, sizeof *attribute, by_attribute_name);
  for (int a = 1; a < parameter->attributes; a++)
    if (strcmp(attribute[a - 1].name, attribute[a].name) == 0)
      return eqs_fail(EQS_USAGE, "parameter '%s': two attributes are named %s", parameter->name, attribute[a].name);
  parameter->attribute = attribute;
cleanup:
  return status;
}

static eqs_status sort_tensors(eqs_checkpoint_parameter *parameter)
{
  eqs_status status = EQS_OK;
  if (parameter->tensors < 1 || parameter->tensors > EQS_MAX_TENSORS)
    return eqs_fail(EQS_USAGE, "parameter '%s': must have 1 to %d tensors, has %d", parameter->name, EQS_MAX_TENSORS,
                    parameter->tensors);
  for (int t = 0; t < parameter->tensors; t++) EQS_TRY(eqs_check_name("tensor", parameter->tensor[t].name));
  sort(parameter->tensor, parameter->tensors, sizeof *parameter->tensor, by_tensor_name);
  for (int t = 1; t < parameter->tensors; t++)
    if (strcmp(parameter->tensor[t - 1].name, parameter->tensor[t].name) == 0)
      return eqs_fail(EQS_USAGE, "parameter '%s': two tensors are named %s", parameter->name,
                      parameter->tensor[t].name);
  if (eqs_parameter_find_tensor(parameter, "weight") == NULL)
    return eqs_fail(EQS_USAGE, "parameter '%s': has no tensor named weight", parameter->name);
cleanup:
  return status;
}

static eqs_status sort_parameters(const eqs_checkpoint_contents *given, eqs_checkpoint_contents *sorted)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_contents_allocate(sorted, &sorted->parameter, given->parameters, sizeof *sorted->parameter));
  for (; sorted->parameters < given->parameters; sorted->parameters++) {
    eqs_checkpoint_parameter *parameter = &sorted->parameter[sorted->parameters];
    *parameter = given->parameter[sorted->parameters];
    EQS_TRY(eqs_check_name("parameter", parameter->name));
    EQS_TRY(sort_tensors(parameter));
    EQS_TRY(check_shape(parameter));
    EQS_TRY(sort_attributes(sorted, parameter));
  }
  sort(sorted->parameter, sorted->parameters, sizeof *sorted->parameter, by_parameter_name);
  for (int64_t p = 1; p < sorted->parameters; p++)
    if (by_parameter_name(&sorted->parameter[p - 1], &sorted->parameter[p]) == 0)
      return eqs_fail(EQS_USAGE, "two parameters are named %s", sorted->parameter[p].name);
cleanup:
  return status;
}

static eqs_status sort_items(const eqs_checkpoint_contents *given, eqs_checkpoint_contents *sorted)
{
  eqs_status status = EQS_OK;
  eqs_checkpoint_item *item;
  for (int i = 0; i < given->items; i++) EQS_TRY(eqs_check_name("trainer item", given->item[i].key));
  EQS_TRY(eqs_contents_allocate(sorted, &item, given->items, sizeof *item));
  sorted->item = item;
  sorted->items = given->items;
  if (given->items > 0) memcpy(item, given->item, (size_t)given->items * sizeof *item);
  sort(item, given->items, sizeof *item, by_key);
  for (int i = 1; i < given->items; i++)
    if (by_key(&item[i - 1], &item[i]) == 0) return eqs_fail(EQS_USAGE, "two trainer items are named %s", item[i].key);
cleanup:
  return status;
}

eqs_status eqs_contents_sort(const eqs_checkpoint_contents *given, eqs_checkpoint_contents *sorted)
{
  eqs_status status = EQS_OK;
  *sorted = (eqs_checkpoint_contents){.step = given->step,
                                      .skipped = given->skipped,
                                      .config = given->config ? given->config : "",
                                      .version = EQS_CHECKPOINT_VERSION,
                                      .equishard_version = EQS_VERSION};
  EQS_TRY(sort_parameters(given, sorted));
  EQS_TRY(sort_items(given, sorted));
cleanup:
  if (status != EQS_OK) eqs_contents_free(sorted);
  return status;
}
