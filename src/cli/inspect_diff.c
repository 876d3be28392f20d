/* `equishard inspect --diff`. */
#include "cli/inspect_diff.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/difference.h"
#include "cli/description.h"
#include "model/layout.h"

enum { shown = 20 }; /* of a list */
static const char file_name[EQS_COMPARED] = {'A', 'B'};

static void print_line_of(char name, const char *text, int64_t line)
{
  for (int64_t i = 1; i < line && (text = strchr(text, '\n')) != NULL; i++) text++;
  printf("  %c  %.*s\n", name, text ? (int)strcspn(text, "\n") : 0, text ? text : "");
}

static void print_more(int64_t count)
{
  if (count > shown) printf("  ... and %" PRId64 " more: --format json has all\n", count - shown);
}

static void print_head(const eqs_checkpoint_difference *found)
{
  const eqs_checkpoint_contents *a = &found->contents[0], *b = &found->contents[1];
  printf("A           %s\nB           %s\n", found->file[0], found->file[1]);
  if (a->step == b->step && a->skipped == b->skipped)
    printf("step        %" PRId64 " (%" PRId64 " skipped) in both\n", a->step, a->skipped);
  else
    printf("step        A: %" PRId64 " (%" PRId64 " skipped), B: %" PRId64 " (%" PRId64 " skipped)\n", a->step,
           a->skipped, b->step, b->skipped);
  if (found->config_line > 0) {
    printf("config      differs from line %" PRId64 " on:\n", found->config_line);
    print_line_of('A', a->config, found->config_line);
    print_line_of('B', b->config, found->config_line);
  }
  if (found->items > 0) printf("trainer     data differs:");
  for (int64_t i = 0; i < found->items; i++) printf(" %s", found->item[i]);
  if (found->items > 0) printf("\n");
}

static void print_forms(const eqs_checkpoint_difference *found)
{
  for (int file = 0; file < EQS_COMPARED; file++) {
    if (found->only_count[file] > 0) printf("only in %c   %" PRId64 ":\n", file_name[file], found->only_count[file]);
    for (int64_t i = 0; i < found->only_count[file] && i < shown; i++) {
      const eqs_only_difference *only = &found->only[file][i];
      printf("  %s%s%s\n", only->parameter, only->tensor ? "/" : "", only->tensor ? only->tensor : "");
    }
    print_more(found->only_count[file]);
  }
  if (found->shapes > 0) printf("reshaped    %" PRId64 ":\n", found->shapes);
  for (int64_t i = 0; i < found->shapes && i < shown; i++) {
    const eqs_checkpoint_parameter *a = found->shape[i].in[0], *b = found->shape[i].in[1];
    char shape_a[192], shape_b[192];
    eqs_shape_brief(a->ndim, a->shape, shape_a, sizeof shape_a);
    eqs_shape_brief(b->ndim, b->shape, shape_b, sizeof shape_b);
    printf("  %s  A: %s, B: %s\n", a->name, shape_a, shape_b);
  }
  print_more(found->shapes);
}

static void describe_pair(const eqs_attribute_difference *pair, char *text, size_t size)
{
  char a[80], b[80];
  eqs_describe_attribute(pair->in[0], a, sizeof a);
  eqs_describe_attribute(pair->in[1], b, sizeof b);
  snprintf(text, size, "%s  A: %s, B: %s", pair->name, a, b);
}

static int by_description(const void *a, const void *b)
{
  const eqs_attribute_difference *left = a, *right = b;
  char left_text[256], right_text[256];
  describe_pair(left, left_text, sizeof left_text);
  describe_pair(right, right_text, sizeof right_text);
  int order = strcmp(left_text, right_text);
  return order != 0 ? order : strcmp(left->parameter, right->parameter);
}

/* One line for all parameters in which an attribute differs in the same way. */
static void print_attributes(eqs_checkpoint_difference *found)
{
  if (found->attributes == 0) return;
  qsort(found->attribute, (size_t)found->attributes, sizeof *found->attribute, by_description);
  printf("attributes\n");
  for (int64_t first = 0, end; first < found->attributes; first = end) {
    char text[256], other[256];
    describe_pair(&found->attribute[first], text, sizeof text);
    for (end = first + 1; end < found->attributes; end++) {
      describe_pair(&found->attribute[end], other, sizeof other);
      if (strcmp(text, other) != 0) break;
    }
    printf("  %s  in ", text);
    if (end - first > 1) printf("%" PRId64 " parameters: ", end - first);
    printf("%s%s\n", found->attribute[first].parameter, end - first > 1 ? ", ..." : "");
  }
}

static void print_values(const eqs_checkpoint_difference *found)
{
  int width = (int)strlen("tensor");
  int64_t differing = 0;
  for (int64_t i = 0; i < found->values; i++) {
    const eqs_tensor_difference *value = &found->value[i];
    int length = (int)(strlen(value->parameter) + 1 + strlen(value->tensor));
    if (value->differing > 0 && length > width) width = length;
    differing += value->differing > 0;
  }
  if (differing > 0)
    printf("\n%-*s  %12s %12s %12s %12s %14s\n", width, "tensor", "elements", "differing", "not finite", "max |a-b|",
           "||a-b||/||b||");
  for (int64_t i = 0; i < found->values; i++) {
    const eqs_tensor_difference *value = &found->value[i];
    if (value->differing == 0) continue;
    printf("%s/%-*s  %12" PRId64 " %12" PRId64 " %12" PRId64 " %12.4g %14.4g\n", value->parameter,
           width - (int)strlen(value->parameter) - 1, value->tensor, value->elements, value->differing,
           value->not_finite, value->largest, value->relative);
  }
  printf("\n%" PRId64 " tensors are equal in both\n", found->values - differing);
}

static void print_table(eqs_checkpoint_difference *found)
{
  print_head(found);
  print_forms(found);
  print_attributes(found);
  print_values(found);
  if (eqs_difference_none(found))
    printf("the same\n");
  else
    printf("%" PRId64 " of %" PRId64 " tensors differ\n", found->differing, found->tensors);
}

static json_t *json_only(const eqs_checkpoint_difference *found, int file)
{
  json_t *array = json_array();
  for (int64_t i = 0; i < found->only_count[file]; i++) {
    const eqs_only_difference *only = &found->only[file][i];
    json_t *object = json_object();
    json_object_set_new(object, "parameter", eqs_json_text(only->parameter));
    json_object_set_new(object, "tensor", only->tensor ? eqs_json_text(only->tensor) : json_null());
    json_array_append_new(array, object);
  }
  return array;
}

static json_t *json_reshaped(const eqs_checkpoint_difference *found)
{
  json_t *array = json_array();
  for (int64_t i = 0; i < found->shapes; i++) {
    json_t *object = json_object();
    json_object_set_new(object, "parameter", eqs_json_text(found->shape[i].in[0]->name));
    json_object_set_new(object, "a", eqs_json_shape(found->shape[i].in[0]));
    json_object_set_new(object, "b", eqs_json_shape(found->shape[i].in[1]));
    json_array_append_new(array, object);
  }
  return array;
}

static json_t *json_attributes(const eqs_checkpoint_difference *found)
{
  json_t *array = json_array();
  for (int64_t i = 0; i < found->attributes; i++) {
    const eqs_attribute_difference *pair = &found->attribute[i];
    json_t *object = json_object();
    json_object_set_new(object, "parameter", eqs_json_text(pair->parameter));
    json_object_set_new(object, "attribute", eqs_json_text(pair->name));
    json_object_set_new(object, "a", eqs_json_attribute(pair->in[0]));
    json_object_set_new(object, "b", eqs_json_attribute(pair->in[1]));
    json_array_append_new(array, object);
  }
  return array;
}

static json_t *json_values(const eqs_checkpoint_difference *found)
{
  json_t *array = json_array();
  for (int64_t i = 0; i < found->values; i++) {
    const eqs_tensor_difference *value = &found->value[i];
    if (value->differing == 0) continue;
    json_t *object = json_object();
    json_object_set_new(object, "parameter", eqs_json_text(value->parameter));
    json_object_set_new(object, "tensor", eqs_json_text(value->tensor));
    json_object_set_new(object, "elements", json_integer(value->elements));
    json_object_set_new(object, "differing", json_integer(value->differing));
    json_object_set_new(object, "not_finite", json_integer(value->not_finite));
    json_object_set_new(object, "max", json_real(value->largest));
    json_object_set_new(object, "relative", json_real(value->relative) ?: json_null());
    json_array_append_new(array, object);
  }
  return array;
}

static json_t *json_file(const eqs_checkpoint_difference *found, int file)
{
  json_t *object = json_object();
  json_object_set_new(object, "file", eqs_json_text(found->file[file]));
  json_object_set_new(object, "step", json_integer(found->contents[file].step));
  json_object_set_new(object, "skipped", json_integer(found->contents[file].skipped));
  json_object_set_new(object, "only", json_only(found, file));
  return object;
}

static void print_json(eqs_checkpoint_difference *found)
{
  json_t *object = json_object(), *items = json_array();
  for (int64_t i = 0; i < found->items; i++) json_array_append_new(items, eqs_json_text(found->item[i]));
  json_object_set_new(object, "same", json_boolean(eqs_difference_none(found)));
  json_object_set_new(object, "tensors", json_integer(found->tensors));
  json_object_set_new(object, "tensors_differing", json_integer(found->differing));
  json_object_set_new(object, "a", json_file(found, 0));
  json_object_set_new(object, "b", json_file(found, 1));
  json_object_set_new(object, "config_line", found->config_line > 0 ? json_integer(found->config_line) : json_null());
  json_object_set_new(object, "trainer", items);
  json_object_set_new(object, "reshaped", json_reshaped(found));
  json_object_set_new(object, "attributes", json_attributes(found));
  json_object_set_new(object, "values", json_values(found));
  json_dumpf(object, stdout, JSON_INDENT(2));
  printf("\n");
  json_decref(object);
}

eqs_status eqs_inspect_difference(const char *path_a, const char *path_b, bool json)
{
  eqs_checkpoint_difference found = {0};
  eqs_status status = eqs_difference_find(path_a, path_b, &found);
  if (status == EQS_OK) (json ? print_json : print_table)(&found);
  eqs_difference_free(&found);
  return status;
}
