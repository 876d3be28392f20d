#include "model/recognize.h"

#include <ctype.h>
#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

#include "model/families.h"
#include "model/wrappers.h"

static bool ends_with(const char *text, const char *end)
{
  size_t length = strlen(text), tail = strlen(end);
  return length >= tail && strcmp(text + length - tail, end) == 0;
}

/* A parameter as the table sees it. */
typedef struct {
  char path[1040];
  const char *module_type;
  bool in_layer; /* a part of the name is a number */
  bool kernel;   /* JAX's name of what is stored as inputs × outputs */
  int ndim;      /* of these the shape, without the one that counts layers */
  const int64_t *shape;
} subject;

static void strip(char *path, const char *end)
{
  if (ends_with(path, end)) path[strlen(path) - strlen(end)] = '\0';
}

static void describe(const char *name, const char *module_type, bool stacked, int ndim, const int64_t *shape,
                     subject *of)
{
  *of = (subject){.module_type = module_type, .ndim = ndim - stacked, .shape = shape + stacked};
  snprintf(of->path, sizeof of->path, ".%s", name);
  eqs_canonical_name(of->path + 1);
  for (char *c = of->path; *c != '\0'; c++) *c = (char)tolower((unsigned char)*c);
  of->kernel = ends_with(of->path, ".kernel");
  strip(of->path, ".weight");
  strip(of->path, ".kernel");
  strip(of->path, ".base_layer");                       /* PEFT */
  strip(of->path, ".parametrizations.weight.original"); /* torch.nn.utils.parametrize */
  for (const char *dot = of->path; dot != NULL && !of->in_layer; dot = strchr(dot + 1, '.')) {
    size_t digits = strspn(dot + 1, "0123456789");
    of->in_layer = digits > 0 && (dot[1 + digits] == '.' || dot[1 + digits] == '\0');
  }
}

static bool is_there(const subject *of, eqs_where where)
{
  const int64_t *shape = of->shape;
  switch (where) {
  case EQS_OUTSIDE_OF_LAYERS: return !of->in_layer;
  case EQS_THREE_DIMENSIONS: return of->ndim >= 3;
  case EQS_MANY_ROWS: return of->ndim >= 2 && shape[of->ndim - 2] / 2 > shape[of->ndim - 1];
  case EQS_MORE_COLUMNS: return of->ndim >= 2 && shape[of->ndim - 2] < shape[of->ndim - 1];
  case EQS_ONE_ROW: return of->ndim >= 2 && shape[of->ndim - 2] == 1;
  default: return true;
  }
}

/* Most patterns are "*" and an end, for which fnmatch is slow. */
static bool matches(const char *pattern, const char *text)
{
  if (pattern[0] == '*' && strpbrk(pattern + 1, "*?[") == NULL) return ends_with(text, pattern + 1);
  return fnmatch(pattern, text, 0) == 0;
}

static const eqs_family_pattern *find_pattern(const subject *of)
{
  for (int i = 0; i < eqs_family_pattern_count; i++) {
    const eqs_family_pattern *next = &eqs_family_patterns[i];
    if (next->name != NULL && !matches(next->name, of->path)) continue;
    if (next->module_type != NULL && (of->module_type == NULL || !matches(next->module_type, of->module_type)))
      continue;
    if (is_there(of, next->where)) return next;
  }
  return NULL;
}

/* Classes whose weights are matrices, whatever they are called. */
static bool is_linear(const subject *of)
{
  return of->module_type != NULL && (strstr(of->module_type, "Linear") || strcmp(of->module_type, "Conv1D") == 0);
}

/* Biases of keys, temperatures of heads: what attention has as parameters of its own, with sizes of 1. */
static bool is_thin(const subject *of)
{
  return !is_linear(of) && (of->shape[of->ndim - 1] == 1 || of->shape[of->ndim - 2] == 1);
}

static bool is_expert(eqs_role role)
{
  return role == EQS_ROLE_EXPERT_GATE_UP || role == EQS_ROLE_EXPERT_DOWN;
}

/* Whether a role is of matrices, of which a tensor of more dimensions may be a stack. */
static bool has_matrices(eqs_role role)
{
  return role != EQS_ROLE_OTHER && role != EQS_ROLE_POSITION && role != EQS_ROLE_EMBEDDING &&
         role != EQS_ROLE_CONVOLUTION;
}

/*
 * A tensor of three dimensions or more that has the name of a matrix. A stack, if its class or its experts say so or it
 * looks like one; not one whose last dimension is a convolution's (out × in × k), nor JAX's kernels that have heads as
 * a dimension (inputs × heads × rows of a head).
 */
static void check_stack(const subject *of, eqs_recognition *found)
{
  const int64_t *shape = of->shape;
  enum { widest_kernel = 11 };
  if (is_linear(of) || is_expert(found->role)) return;
  bool convolution = of->ndim > 3 || (shape[2] <= widest_kernel && shape[0] >= 2 * shape[2] && of->module_type == NULL);
  bool heads = of->kernel && shape[0] > shape[1];
  if (!convolution && !heads) return;
  *found = (eqs_recognition){.role = convolution ? EQS_ROLE_CONVOLUTION : EQS_ROLE_OTHER, .guessed = true};
}

static eqs_storage storage_of(const subject *of)
{
  const char *type = of->module_type;
  if (of->kernel) return EQS_STORED_BY_INPUTS;
  if (type == NULL) return EQS_STORED_BY_OUTPUTS;
  if (strcmp(type, "GptOssExperts") == 0) return EQS_STORED_AS_GPT_OSS;
  bool by_inputs = strcmp(type, "Llama4TextExperts") == 0 || strcmp(type, "Conv1D") == 0;
  return by_inputs ? EQS_STORED_BY_INPUTS : EQS_STORED_BY_OUTPUTS;
}

eqs_recognition eqs_recognize(const char *name, const char *module_type, bool stacked, int ndim, const int64_t *shape)
{
  subject of;
  eqs_recognition found = {.role = EQS_ROLE_OTHER, .named = true};
  stacked = stacked && ndim > 0;
  if (ndim - stacked < 2 || ends_with(name, "bias")) return found;
  describe(name, module_type, stacked, ndim, shape, &of);
  const eqs_family_pattern *pattern = find_pattern(&of);
  if (pattern != NULL) {
    found = (eqs_recognition){.role = pattern->role, .inside = pattern->inside, .named = true};
    if (of.ndim > 2 && has_matrices(found.role)) check_stack(&of, &found);
    if (found.role == EQS_ROLE_ATTENTION && is_thin(&of))
      found = (eqs_recognition){.role = EQS_ROLE_OTHER, .named = true};
  } else if (of.ndim == 2 || is_linear(&of)) {
    found = (eqs_recognition){.role = EQS_ROLE_MATRIX, .guessed = !is_linear(&of)};
  } else {
    found = (eqs_recognition){.role = of.ndim > 3 ? EQS_ROLE_CONVOLUTION : EQS_ROLE_OTHER, .guessed = true};
  }
  found.storage = storage_of(&of);
  return found;
}

eqs_recognition eqs_recognize_as(eqs_role role, const char *name, const char *module_type, bool stacked, int ndim,
                                 const int64_t *shape)
{
  eqs_recognition found = eqs_recognize(name, module_type, stacked, ndim, shape);
  if (found.role != role) found.inside = EQS_INSIDE_NOTHING;
  found.role = role;
  found.named = true;
  found.guessed = false;
  return found;
}
