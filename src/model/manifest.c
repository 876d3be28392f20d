#include "model/manifest.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text_file.h"
#include "model/layout.h"
#include "model/parameter_name.h"
#include "model/recognize.h"
#include "model/role.h"
#include "model/wrappers.h"

enum { largest_file = 64 << 20, longest_name = 1000 };

static eqs_status read_shape(const json_t *shape, eqs_manifest_entry *entry)
{
  eqs_status status = EQS_OK;
  int64_t elements;
  if (!json_is_array(shape)) return eqs_fail(EQS_USAGE, "shape must be a list");
  if (json_array_size(shape) > EQS_MAX_DIMS)
    return eqs_fail(EQS_USAGE, "shape has %zu dimensions, but %d are possible", json_array_size(shape), EQS_MAX_DIMS);
  entry->ndim = (int)json_array_size(shape);
  for (int i = 0; i < entry->ndim; i++) {
    const json_t *size = json_array_get(shape, (size_t)i);
    if (!json_is_integer(size) || json_integer_value(size) < 0)
      return eqs_fail(EQS_USAGE, "shape must be a list of whole numbers of at least 0");
    entry->shape[i] = json_integer_value(size);
  }
  EQS_TRY(eqs_shape_elements(entry->ndim, entry->shape, &elements));
cleanup:
  return status;
}

static eqs_status read_flag(const json_t *value, const char *what, int *flag)
{
  *flag = json_is_true(value);
  if (value == NULL || json_is_boolean(value) || json_is_null(value)) return EQS_OK;
  return eqs_fail(EQS_USAGE, "%s must be true or false", what);
}

static eqs_status read_entry(const json_t *value, eqs_manifest_entry *entry)
{
  eqs_status status = EQS_OK;
  if (!json_is_object(value)) return eqs_fail(EQS_USAGE, "must be an object");
  const char *name = json_string_value(json_object_get(value, "name"));
  const json_t *type = json_object_get(value, "module_type");
  if (name == NULL || *name == '\0') return eqs_fail(EQS_USAGE, "name must be a text");
  if (strlen(name) > longest_name) return eqs_fail(EQS_USAGE, "name has more than %d characters", longest_name);
  if (type != NULL && !json_is_string(type) && !json_is_null(type))
    return eqs_fail(EQS_USAGE, "module_type must be a text");
  EQS_TRY(eqs_check_parameter_name(name));
  EQS_TRY(read_shape(json_object_get(value, "shape"), entry));
  EQS_TRY(read_flag(json_object_get(value, "stacked"), "stacked", &entry->stacked));
  EQS_TRY(eqs_copy_canonical_name(&entry->name, name));
  EQS_TRY(eqs_copy_text(&entry->module_type, json_string_value(type)));
cleanup:
  return status;
}

static int compare_names(const void *a, const void *b)
{
  const eqs_manifest_entry *const *left = a, *const *right = b;
  return strcmp((*left)->name, (*right)->name);
}

/* An entry's name as the file has it. */
static const char *given_name(const json_t *list, const eqs_manifest *manifest, const eqs_manifest_entry *entry)
{
  return json_string_value(json_object_get(json_array_get(list, (size_t)(entry - manifest->entries)), "name"));
}

static eqs_status sort_by_name(const json_t *list, eqs_manifest *manifest)
{
  eqs_status status = eqs_allocate(&manifest->by_name, manifest->count, sizeof *manifest->by_name);
  if (status != EQS_OK || manifest->count == 0) return status;
  for (int64_t i = 0; i < manifest->count; i++) manifest->by_name[i] = &manifest->entries[i];
  qsort(manifest->by_name, (size_t)manifest->count, sizeof *manifest->by_name, compare_names);
  for (int64_t i = 1; i < manifest->count; i++)
    if (strcmp(manifest->by_name[i - 1]->name, manifest->by_name[i]->name) == 0)
      return eqs_fail_same_name(given_name(list, manifest, manifest->by_name[i - 1]),
                                given_name(list, manifest, manifest->by_name[i]));
  return EQS_OK;
}

static eqs_status tie(const eqs_manifest *manifest, eqs_manifest_entry *entry, const char *name)
{
  char *canonical;
  eqs_status status = eqs_copy_canonical_name(&canonical, name);
  if (status != EQS_OK) return status;
  const eqs_manifest_entry *target = eqs_manifest_find(manifest, canonical);
  free(canonical);
  if (target == NULL) return eqs_fail(EQS_USAGE, "%.500s: tied to %.500s, which is not there", entry->name, name);
  if (target == entry) return eqs_fail(EQS_USAGE, "%.500s: tied to itself", entry->name);
  if (entry->ndim != target->ndim || memcmp(entry->shape, target->shape, sizeof entry->shape) != 0)
    return eqs_fail(EQS_USAGE, "%.500s: tied to %.500s, which has another shape", entry->name, name);
  entry->tied_to = target;
  return EQS_OK;
}

/* "tied_to" of the entries. Whether a target is tied itself can be told only in the end. */
static eqs_status read_ties(const json_t *list, eqs_manifest *manifest)
{
  for (int64_t i = 0; i < manifest->count; i++) {
    const json_t *target = json_object_get(json_array_get(list, (size_t)i), "tied_to");
    eqs_status status = EQS_OK;
    if (target == NULL || json_is_null(target)) continue;
    if (json_is_string(target))
      status = tie(manifest, &manifest->entries[i], json_string_value(target));
    else
      status = eqs_fail(EQS_USAGE, "tied_to must be the name of another entry");
    if (status != EQS_OK) return eqs_fail_in(status, "parameters[%lld]", (long long)i);
  }
  for (int64_t i = 0; i < manifest->count; i++) {
    const eqs_manifest_entry *entry = &manifest->entries[i];
    if (entry->tied_to != NULL && entry->tied_to->tied_to != NULL)
      return eqs_fail(EQS_USAGE, "parameters[%lld]: %.500s: tied to %.500s, which is itself tied", (long long)i,
                      entry->name, entry->tied_to->name);
  }
  return EQS_OK;
}

/* "tie_word_embeddings", where the entries do not say it themselves. */
static eqs_status tie_word_embeddings(const json_t *root, eqs_manifest *manifest)
{
  static const char head_name[] = "lm_head.weight", embedding_name[] = "model.embed_tokens.weight";
  const json_t *wanted = json_object_get(root, "tie_word_embeddings");
  if (wanted == NULL || json_is_null(wanted) || json_is_false(wanted)) return EQS_OK;
  if (!json_is_true(wanted)) return eqs_fail(EQS_USAGE, "tie_word_embeddings must be true or false");
  const eqs_manifest_entry *head = eqs_manifest_find(manifest, head_name);
  const eqs_manifest_entry *embedding = eqs_manifest_find(manifest, embedding_name);
  if (head == NULL || embedding == NULL || head->tied_to != NULL || embedding->tied_to != NULL) return EQS_OK;
  return tie(manifest, &manifest->entries[head - manifest->entries], embedding_name);
}

static bool is_embedding(const eqs_manifest_entry *entry)
{
  return eqs_recognize(entry->name, entry->module_type, entry->stacked, entry->ndim, entry->shape).role ==
         EQS_ROLE_EMBEDDING;
}

/* An embedding that is tied to a head counts as the parameter, and the head as its other name. */
static void put_embeddings_first(eqs_manifest *manifest)
{
  for (int64_t i = 0; i < manifest->count; i++) {
    eqs_manifest_entry *entry = &manifest->entries[i];
    if (entry->tied_to == NULL || !is_embedding(entry) || is_embedding(entry->tied_to)) continue;
    eqs_manifest_entry *head = &manifest->entries[entry->tied_to - manifest->entries];
    if (head->tied_to != NULL) continue; /* to an embedding before this one */
    head->tied_to = entry;
    entry->tied_to = NULL;
  }
  for (int64_t i = 0; i < manifest->count; i++) {
    eqs_manifest_entry *entry = &manifest->entries[i];
    if (entry->tied_to != NULL && entry->tied_to->tied_to != NULL) entry->tied_to = entry->tied_to->tied_to;
  }
}

/* What the model's configuration says of its heads. */
static eqs_status read_model(const json_t *root, eqs_model_shape *model)
{
  const int64_t most = 1 << 30; /* so that products of two are far from overflow */
  for (int i = 0; i < eqs_model_shape_key_count; i++) {
    const eqs_model_shape_key *key = &eqs_model_shape_keys[i];
    const json_t *value = json_object_get(root, key->name);
    if (value == NULL || json_is_null(value)) continue;
    if (!json_is_integer(value) || json_integer_value(value) < 1 || json_integer_value(value) > most)
      return eqs_fail(EQS_USAGE, "%s must be a whole number from 1 to %lld", key->name, (long long)most);
    *(int64_t *)(void *)((char *)model + key->offset) = json_integer_value(value);
  }
  return EQS_OK;
}

static eqs_status read_entries(const json_t *root, eqs_manifest *manifest)
{
  eqs_status status = EQS_OK;
  const json_t *list = json_object_get(root, "parameters");
  if (!json_is_array(list)) return eqs_fail(EQS_USAGE, "no manifest: a list \"parameters\" is missing");
  manifest->count = (int64_t)json_array_size(list);
  EQS_TRY(eqs_allocate(&manifest->entries, manifest->count, sizeof *manifest->entries));
  for (int64_t i = 0; i < manifest->count; i++) {
    status = read_entry(json_array_get(list, (size_t)i), &manifest->entries[i]);
    if (status != EQS_OK) return eqs_fail_in(status, "parameters[%lld]", (long long)i);
  }
  EQS_TRY(read_model(root, &manifest->model));
  EQS_TRY(sort_by_name(list, manifest));
  EQS_TRY(read_ties(list, manifest));
  EQS_TRY(tie_word_embeddings(root, manifest));
  put_embeddings_first(manifest);
cleanup:
  return status;
}

eqs_status eqs_manifest_parse(const char *path, const char *text, eqs_manifest *manifest)
{
  eqs_status status = EQS_OK;
  json_error_t error;
  *manifest = (eqs_manifest){0};
  json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &error);
  if (root == NULL) return eqs_fail(EQS_USAGE, "%s:%d: JSON: %s", path, error.line, error.text);
  status = read_entries(root, manifest);
  if (status != EQS_OK) status = eqs_fail_in(status, "%s", path);
  json_decref(root);
  if (status != EQS_OK) eqs_manifest_free(manifest);
  return status;
}

eqs_status eqs_manifest_read(const char *path, eqs_manifest *manifest)
{
  eqs_status status = EQS_OK;
  char *text = NULL;
  *manifest = (eqs_manifest){0};
  EQS_TRY(eqs_text_file_read(path, largest_file, &text));
  EQS_TRY(eqs_manifest_parse(path, text, manifest));
cleanup:
  free(text);
  return status;
}

void eqs_manifest_free(eqs_manifest *manifest)
{
  for (int64_t i = 0; i < manifest->count && manifest->entries != NULL; i++) {
    free(manifest->entries[i].name);
    free(manifest->entries[i].module_type);
  }
  free(manifest->entries);
  free(manifest->by_name);
  *manifest = (eqs_manifest){0};
}

const eqs_manifest_entry *eqs_manifest_find(const eqs_manifest *manifest, const char *name)
{
  eqs_manifest_entry key = {.name = (char *)name}, *pointer = &key;
  if (manifest->count == 0) return NULL;
  const eqs_manifest_entry **found =
      bsearch(&pointer, manifest->by_name, (size_t)manifest->count, sizeof *manifest->by_name, compare_names);
  return found != NULL ? *found : NULL;
}

eqs_status eqs_manifest_parameters(const eqs_manifest *manifest, eqs_parameter_info **info, int64_t *count)
{
  eqs_status status = eqs_allocate(info, manifest->count, sizeof **info);
  *count = 0;
  for (int64_t i = 0; status == EQS_OK && i < manifest->count; i++) {
    const eqs_manifest_entry *entry = &manifest->entries[i];
    if (entry->tied_to != NULL) continue;
    eqs_parameter_info *next = &(*info)[(*count)++];
    *next = (eqs_parameter_info){.name = entry->name,
                                 .module_type = entry->module_type,
                                 .ndim = entry->ndim,
                                 .stacked = entry->stacked,
                                 .gradient_placement = EQS_PARTIAL};
    memcpy(next->shape, entry->shape, sizeof entry->shape);
  }
  return status;
}
