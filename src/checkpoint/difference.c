#include "checkpoint/difference.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "checkpoint/directory.h"
#include "checkpoint/match_model.h"
#include "checkpoint/read_contents.h"

static eqs_status add_only(eqs_checkpoint_difference *found, int side, const char *parameter, const char *tensor,
                           int tensors)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_grow(&found->only[side], found->only_count[side], sizeof *found->only[side]));
  found->only[side][found->only_count[side]++] = (eqs_only_difference){parameter, tensor};
  found->tensors += tensors;
  found->differing += tensors;
cleanup:
  return status;
}

static eqs_status add_attribute(eqs_checkpoint_difference *found, const char *parameter, const eqs_attribute *a,
                                const eqs_attribute *b)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_grow(&found->attribute, found->attributes, sizeof *found->attribute));
  found->attribute[found->attributes++] =
      (eqs_attribute_difference){.parameter = parameter, .name = a ? a->name : b->name, .in = {a, b}};
cleanup:
  return status;
}

static eqs_status add_item(eqs_checkpoint_difference *found, const char *key)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_grow(&found->item, found->items, sizeof *found->item));
  found->item[found->items++] = key;
cleanup:
  return status;
}

static bool same_value(const eqs_attribute *a, const eqs_attribute *b)
{
  if (a->kind != b->kind) return false;
  switch (a->kind) {
  case EQS_ATTRIBUTE_INTEGER: return a->integer == b->integer;
  case EQS_ATTRIBUTE_NUMBER: return memcmp(&a->number, &b->number, sizeof a->number) == 0;
  case EQS_ATTRIBUTE_TEXT: return strcmp(a->text, b->text) == 0;
  }
  return false;
}

/* Which of two sorted lists has the next name: below 0 the first, above 0 the second, 0 both. NULL: the end of one. */
static int which_is_next(const char *a, const char *b)
{
  return a == NULL ? 1 : b == NULL ? -1 : strcmp(a, b);
}

static eqs_status compare_dtypes(const eqs_checkpoint_parameter *a, const eqs_checkpoint_parameter *b,
                                 eqs_checkpoint_difference *found)
{
  static const eqs_attribute dtype[] = {
      [EQS_FLOAT32] = {.name = "trainer_dtype", .kind = EQS_ATTRIBUTE_TEXT, .text = "float32"},
      [EQS_BFLOAT16] = {.name = "trainer_dtype", .kind = EQS_ATTRIBUTE_TEXT, .text = "bfloat16"},
      [EQS_FLOAT16] = {.name = "trainer_dtype", .kind = EQS_ATTRIBUTE_TEXT, .text = "float16"}};
  if (a->trainer_dtype == b->trainer_dtype) return EQS_OK;
  return add_attribute(found, a->name, &dtype[a->trainer_dtype], &dtype[b->trainer_dtype]);
}

static eqs_status compare_attributes(const eqs_checkpoint_parameter *a, const eqs_checkpoint_parameter *b,
                                     eqs_checkpoint_difference *found)
{
  eqs_status status = EQS_OK;
  int i = 0, j = 0;
  while (i < a->attributes || j < b->attributes) {
    const eqs_attribute *left = i < a->attributes ? &a->attribute[i] : NULL;
    const eqs_attribute *right = j < b->attributes ? &b->attribute[j] : NULL;
    int next = which_is_next(left ? left->name : NULL, right ? right->name : NULL);
    if (next != 0 || !same_value(left, right))
      EQS_TRY(add_attribute(found, a->name, next <= 0 ? left : NULL, next >= 0 ? right : NULL));
    i += next <= 0;
    j += next >= 0;
  }
  EQS_TRY(compare_dtypes(a, b, found));
cleanup:
  return status;
}

/* Tensors of one parameter: those that one of them lacks; all, if the shapes differ. */
static eqs_status compare_tensors(const eqs_checkpoint_parameter *a, const eqs_checkpoint_parameter *b,
                                  eqs_checkpoint_difference *found)
{
  eqs_status status = EQS_OK;
  bool reshaped = !eqs_parameter_has_shape(a, b->ndim, b->shape);
  int i = 0, j = 0;
  if (reshaped) {
    EQS_TRY(eqs_grow(&found->shape, found->shapes, sizeof *found->shape));
    found->shape[found->shapes++] = (eqs_shape_difference){{a, b}};
  }
  while (i < a->tensors || j < b->tensors) {
    const char *left = i < a->tensors ? a->tensor[i].name : NULL, *right = j < b->tensors ? b->tensor[j].name : NULL;
    int next = which_is_next(left, right);
    if (next != 0) EQS_TRY(add_only(found, next > 0, a->name, next < 0 ? left : right, 1));
    if (next == 0) found->tensors++;
    if (next == 0 && reshaped) found->differing++;
    i += next <= 0;
    j += next >= 0;
  }
cleanup:
  return status;
}

static eqs_status compare_parameters(eqs_checkpoint_difference *found)
{
  eqs_status status = EQS_OK;
  const eqs_checkpoint_contents *a = &found->contents[0], *b = &found->contents[1];
  int64_t i = 0, j = 0;
  while (i < a->parameters || j < b->parameters) {
    const eqs_checkpoint_parameter *left = i < a->parameters ? &a->parameter[i] : NULL;
    const eqs_checkpoint_parameter *right = j < b->parameters ? &b->parameter[j] : NULL;
    int next = which_is_next(left ? left->name : NULL, right ? right->name : NULL);
    if (next < 0) EQS_TRY(add_only(found, 0, left->name, NULL, left->tensors));
    if (next > 0) EQS_TRY(add_only(found, 1, right->name, NULL, right->tensors));
    if (next == 0) {
      EQS_TRY(compare_attributes(left, right, found));
      EQS_TRY(compare_tensors(left, right, found));
    }
    i += next <= 0;
    j += next >= 0;
  }
cleanup:
  return status;
}

static eqs_status compare_items(eqs_checkpoint_difference *found)
{
  eqs_status status = EQS_OK;
  const eqs_checkpoint_contents *a = &found->contents[0], *b = &found->contents[1];
  int i = 0, j = 0;
  while (i < a->items || j < b->items) {
    const eqs_checkpoint_item *left = i < a->items ? &a->item[i] : NULL, *right = j < b->items ? &b->item[j] : NULL;
    int next = which_is_next(left ? left->key : NULL, right ? right->key : NULL);
    if (next != 0)
      EQS_TRY(add_item(found, next < 0 ? left->key : right->key));
    else if (left->size != right->size || (left->size > 0 && memcmp(left->bytes, right->bytes, left->size) != 0))
      EQS_TRY(add_item(found, left->key));
    i += next <= 0;
    j += next >= 0;
  }
cleanup:
  return status;
}

static int64_t first_differing_line(const char *a, const char *b)
{
  int64_t line = 1;
  for (; *a == *b; a++, b++) {
    if (*a == '\0') return 0;
    line += *a == '\n';
  }
  return line;
}

static int by_size(const void *a, const void *b)
{
  const eqs_tensor_difference *left = a, *right = b;
  if ((left->not_finite > 0) != (right->not_finite > 0)) return left->not_finite > 0 ? -1 : 1;
  if (left->relative != right->relative) return left->relative > right->relative ? -1 : 1;
  int order = strcmp(left->parameter, right->parameter);
  return order != 0 ? order : strcmp(left->tensor, right->tensor);
}

static eqs_status compare_values(eqs_checkpoint_difference *found)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_tensor_differences(found->file[0], &found->contents[0], found->file[1], &found->contents[1],
                                 &found->values, &found->value));
  if (found->values > 0) qsort(found->value, (size_t)found->values, sizeof *found->value, by_size);
  for (int64_t i = 0; i < found->values; i++) found->differing += found->value[i].differing > 0;
cleanup:
  return status;
}

bool eqs_difference_none(const eqs_checkpoint_difference *found)
{
  const eqs_checkpoint_contents *a = &found->contents[0], *b = &found->contents[1];
  return found->differing == 0 && found->attributes == 0 && found->items == 0 && found->config_line == 0 &&
         a->step == b->step && a->skipped == b->skipped && found->only_count[0] + found->only_count[1] == 0;
}

eqs_status eqs_difference_find(const char *path_a, const char *path_b, eqs_checkpoint_difference *found)
{
  eqs_status status = EQS_OK;
  const char *const path[EQS_COMPARED] = {path_a, path_b};
  for (int side = 0; side < EQS_COMPARED; side++) {
    EQS_TRY(eqs_checkpoint_find(path[side], &found->file[side]));
    EQS_TRY(eqs_contents_read(found->file[side], &found->contents[side]));
    EQS_TRY(eqs_match_rename(NULL, &found->contents[side]));
  }
  found->config_line = first_differing_line(found->contents[0].config, found->contents[1].config);
  EQS_TRY(compare_items(found));
  EQS_TRY(compare_parameters(found));
  EQS_TRY(compare_values(found));
cleanup:
  return status;
}

void eqs_difference_free(eqs_checkpoint_difference *found)
{
  for (int side = 0; side < EQS_COMPARED; side++) {
    free(found->only[side]);
    eqs_contents_free(&found->contents[side]);
    free(found->file[side]);
  }
  free(found->shape);
  free(found->attribute);
  free(found->item);
  free(found->value);
  *found = (eqs_checkpoint_difference){0};
}
