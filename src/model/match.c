#include "model/match.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "model/wrappers.h"

enum { max_alternatives = 1024 };

enum { NAME, ROLE, TYPE, NDIM, SHAPE };
const char *const eqs_match_keys[EQS_MATCH_KEYS] = {"name", "role", "type", "ndim", "shape"};

/* Globs of which one has to match; none: everything does. */
typedef struct {
  int count;
  char **globs;
} alternatives;

typedef enum { ANY_SIZE, EQUAL, AT_LEAST, AT_MOST, MORE, LESS } comparison;

typedef struct {
  comparison is;
  int64_t than;
} size_pattern;

struct eqs_match {
  alternatives names, types;
  bool roles_given, roles[EQS_ROLES];
  int64_t ndim; /* -1: any */
  int sizes;    /* -1: any shape */
  size_pattern size[EQS_MAX_DIMS];
};

static eqs_status read_alternatives(eqs_yaml_value value, const char *what, alternatives *list)
{
  eqs_status status = EQS_OK;
  int length;
  EQS_TRY(eqs_yaml_list_length(value, what, max_alternatives, &length));
  if (length == 0) return eqs_yaml_fail(value, "%s is an empty list: nothing matches", what);
  EQS_TRY(eqs_allocate(&list->globs, length, sizeof *list->globs));
  for (; list->count < length; list->count++) {
    const char *text;
    EQS_TRY(eqs_yaml_read_text(eqs_yaml_item(value, list->count), what, &text));
    if (strlen(text) > EQS_LONGEST_GLOB)
      return eqs_yaml_fail(value, "%s: a pattern of more than %d characters", what, EQS_LONGEST_GLOB);
    EQS_TRY(eqs_copy_text(&list->globs[list->count], text));
  }
cleanup:
  return status;
}

static eqs_status read_names(eqs_yaml_value value, eqs_match *match)
{
  eqs_status status = read_alternatives(value, "name", &match->names);
  for (int i = 0; i < match->names.count; i++) eqs_canonical_name(match->names.globs[i]);
  return status;
}

static eqs_status read_roles(eqs_yaml_value value, eqs_match *match)
{
  eqs_status status = EQS_OK;
  int length, role;
  EQS_TRY(eqs_yaml_list_length(value, "role", max_alternatives, &length));
  if (length == 0) return eqs_yaml_fail(value, "role is an empty list: nothing matches");
  match->roles_given = true;
  for (int i = 0; i < length; i++) {
    EQS_TRY(eqs_yaml_read_choice(eqs_yaml_item(value, i), "role", eqs_role_names, EQS_ROLES, &role));
    match->roles[role] = true;
  }
cleanup:
  return status;
}

/* "*", "1024", ">=1024", "<=1024", ">1024", "<1024". */
static eqs_status read_size(eqs_yaml_value value, size_pattern *pattern)
{
  static const struct {
    const char *sign;
    comparison is;
  } signs[] = {{">=", AT_LEAST}, {"<=", AT_MOST}, {">", MORE}, {"<", LESS}, {"", EQUAL}};
  const char *text;
  eqs_status status = eqs_yaml_read_text(value, "an entry of shape", &text);
  if (status != EQS_OK) return status;
  if (strcmp(text, "*") == 0) {
    pattern->is = ANY_SIZE;
    return EQS_OK;
  }
  size_t i = 0;
  while (strncmp(text, signs[i].sign, strlen(signs[i].sign)) != 0) i++;
  const char *digits = text + strlen(signs[i].sign);
  digits += strspn(digits, " ");
  size_t length = strspn(digits, "0123456789");
  if (length == 0 || length > 18 || digits[length] != '\0')
    return eqs_yaml_fail(value, "shape: \"%.40s\" is not a size, as *, 1024, >=1024, <=1024, >1024 or <1024", text);
  *pattern = (size_pattern){signs[i].is, strtoll(digits, NULL, 10)};
  return EQS_OK;
}

static eqs_status read_shape(eqs_yaml_value value, eqs_match *match)
{
  eqs_status status = EQS_OK;
  if (!eqs_yaml_is_list(value)) return eqs_yaml_fail(value, "shape must be a list, like [\"*\", \">=1024\"]");
  EQS_TRY(eqs_yaml_list_length(value, "shape", EQS_MAX_DIMS, &match->sizes));
  for (int i = 0; i < match->sizes; i++) EQS_TRY(read_size(eqs_yaml_item(value, i), &match->size[i]));
cleanup:
  return status;
}

static eqs_status read_pattern(const eqs_yaml_pair *pair, eqs_match *match)
{
  int key;
  eqs_status status = eqs_yaml_key(pair, "match", eqs_match_keys, EQS_MATCH_KEYS, &key);
  if (status != EQS_OK) return status;
  switch (key) {
  case NAME: return read_names(pair->value, match);
  case ROLE: return read_roles(pair->value, match);
  case TYPE: return read_alternatives(pair->value, "type", &match->types);
  case NDIM: return eqs_yaml_read_integer(pair->value, "ndim", 0, EQS_MAX_DIMS, &match->ndim);
  default: return read_shape(pair->value, match);
  }
}

eqs_status eqs_match_read(eqs_yaml_value value, eqs_match **match)
{
  eqs_status status = EQS_OK;
  eqs_yaml_mapping mapping = {0};
  *match = NULL;
  EQS_TRY(eqs_allocate(match, 1, sizeof **match));
  (*match)->ndim = -1;
  (*match)->sizes = -1;
  if (value.node == NULL) return EQS_OK;
  EQS_TRY(eqs_yaml_read_mapping(value, "match", &mapping));
  for (int i = 0; i < mapping.count; i++) EQS_TRY(read_pattern(&mapping.pairs[i], *match));
  if ((*match)->ndim >= 0 && (*match)->sizes >= 0 && (*match)->ndim != (*match)->sizes)
    status = eqs_yaml_fail(value, "match: ndim is %d, but shape has %d entries: nothing matches", (int)(*match)->ndim,
                           (*match)->sizes);
cleanup:
  eqs_yaml_mapping_free(&mapping);
  if (status != EQS_OK) eqs_match_free(match);
  return status;
}

static void free_alternatives(alternatives *list)
{
  for (int i = 0; i < list->count; i++) free(list->globs[i]);
  free(list->globs);
}

void eqs_match_free(eqs_match **match)
{
  if (*match == NULL) return;
  free_alternatives(&(*match)->names);
  free_alternatives(&(*match)->types);
  free(*match);
  *match = NULL;
}

static bool accepts_text(const alternatives *list, const char *text)
{
  if (list->count == 0) return true;
  for (int i = 0; i < list->count && text != NULL; i++)
    if (fnmatch(list->globs[i], text, 0) == 0) return true;
  return false;
}

static bool accepts_size(const size_pattern *pattern, int64_t size)
{
  switch (pattern->is) {
  case EQUAL: return size == pattern->than;
  case AT_LEAST: return size >= pattern->than;
  case AT_MOST: return size <= pattern->than;
  case MORE: return size > pattern->than;
  case LESS: return size < pattern->than;
  default: return true;
  }
}

bool eqs_match_accepts(const eqs_match *match, const char *name, eqs_role role, const char *module_type, int ndim,
                       const int64_t *shape)
{
  if (!accepts_text(&match->names, name) || !accepts_text(&match->types, module_type)) return false;
  if (match->roles_given && !match->roles[role]) return false;
  if (match->ndim >= 0 && match->ndim != ndim) return false;
  if (match->sizes >= 0 && match->sizes != ndim) return false;
  for (int i = 0; i < match->sizes; i++)
    if (!accepts_size(&match->size[i], shape[i])) return false;
  return true;
}

bool eqs_match_tells_what(const eqs_match *match)
{
  return match->names.count > 0 || match->types.count > 0 || match->roles_given;
}

bool eqs_match_accepts_all(const eqs_match *match)
{
  return match->names.count == 0 && match->types.count == 0 && !match->roles_given && match->ndim < 0 &&
         match->sizes < 0;
}
