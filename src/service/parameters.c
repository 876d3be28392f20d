/* Parameters as trainers add them, before the session starts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "model/parameter_name.h"
#include "model/wrappers.h"
#include "service/session.h"

eqs_status eqs_session_tell_model(eqs_session *session, const char *key, int64_t value)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_check_session(session, "eqs_session_tell_model"));
  EQS_TRY(eqs_check_pointer(key, "eqs_session_tell_model", "key"));
  if (session->started) EQS_TRY(eqs_fail(EQS_USAGE, "eqs_session_tell_model is called after eqs_session_start"));
  if (value < 0) EQS_TRY(eqs_fail(EQS_USAGE, "the model's %s must be at least 0, is %lld", key, (long long)value));
  for (int k = 0; k < eqs_model_shape_key_count; k++)
    if (strcmp(eqs_model_shape_keys[k].name, key) == 0)
      memcpy((char *)&session->model + eqs_model_shape_keys[k].offset, &value, sizeof value);
cleanup:
  return status;
}

static eqs_status check_role(const eqs_parameter_info *info)
{
  if (info->role == NULL || eqs_role_find(info->role) != EQS_ROLES) return EQS_OK;
  return eqs_fail(EQS_USAGE, "parameter '%s': there is no role '%s' (embedding, lm_head, router, ...)", info->name,
                  info->role);
}

static eqs_status check_info(const eqs_session *session, const eqs_parameter_info *info, const char *given_name)
{
  eqs_status named = eqs_check_parameter_name(info->name);
  if (named != EQS_OK) return named;
  if (session->started) return eqs_fail(EQS_USAGE, "parameter '%s' is added after the session started", info->name);
  if ((unsigned)info->dtype > EQS_FLOAT16)
    return eqs_fail(EQS_USAGE, "parameter '%s': there is no dtype %d", info->name, (int)info->dtype);
  if ((unsigned)info->gradient_placement > EQS_PARTIAL || (unsigned)info->weight_placement > EQS_PARTIAL)
    return eqs_fail(EQS_USAGE, "parameter '%s': there are no placements %d of gradients and %d of weights", info->name,
                    (int)info->gradient_placement, (int)info->weight_placement);
  if (info->ndim < 0 || info->ndim > EQS_MAX_DIMS)
    return eqs_fail(EQS_USAGE, "parameter '%s': ndim must be 0 to %d, is %d", info->name, EQS_MAX_DIMS, info->ndim);
  int64_t elements = 1;
  for (int d = 0; d < info->ndim; d++)
    if (!eqs_multiply_sizes(elements, info->shape[d], &elements) || elements > INT64_MAX / 64)
      return eqs_fail(EQS_USAGE, "parameter '%s': dimension %d is %lld", info->name, d, (long long)info->shape[d]);
  if (info->weight_placement == EQS_PARTIAL)
    return eqs_fail(EQS_USAGE, "parameter '%s': a weight cannot be Partial", info->name);
  if (info->ndim == 0 && (info->gradient_placement == EQS_SHARD || info->weight_placement == EQS_SHARD))
    return eqs_fail(EQS_USAGE, "parameter '%s': a scalar cannot be Shard(0)", info->name);
  if (info->stacked && info->ndim < 2)
    return eqs_fail(EQS_USAGE, "parameter '%s': stacked needs at least 2 dimensions, has %d", info->name, info->ndim);
  int64_t other;
  if (eqs_lookup_find_text(session->names, info->name, &other))
    return eqs_fail_same_name(session->parameter[other].given_name, given_name);
  return check_role(info);
}

static bool same_tensor(const eqs_parameter_info *a, const eqs_parameter_info *b)
{
  return a->dtype == b->dtype && a->ndim == b->ndim &&
         memcmp(a->shape, b->shape, (size_t)a->ndim * sizeof *a->shape) == 0;
}

static bool same_use(const eqs_parameter_info *a, const eqs_parameter_info *b)
{
  return a->gradient_placement == b->gradient_placement && a->weight_placement == b->weight_placement &&
         !a->frozen == !b->frozen && !a->stacked == !b->stacked;
}

/* Whether this trainer holds any of a weight: where it holds nothing, its address says nothing. */
static bool holds_some(const eqs_session *session, const eqs_parameter_info *info)
{
  int64_t trainers = session->roster.trainers;
  for (int d = 0; d < info->ndim; d++)
    if (info->shape[d] == 0) return false;
  if (info->weight_placement != EQS_SHARD) return true;
  return (info->shape[0] + trainers - 1) / trainers * session->roster.trainer < info->shape[0];
}

/* The index of the last parameter that was added with an initial weight; -1: none was. */
static int64_t last_with_address(const eqs_session *session, const void *weight)
{
  int64_t p = -1;
  return eqs_lookup_find(session->addresses, &weight, sizeof weight, &p) ? p : -1;
}

/* The one added before whose memory it shares. */
static eqs_added_parameter *find_shared(const eqs_session *session, const eqs_parameter_info *info, const void *weight)
{
  if (weight == NULL || !holds_some(session, info)) return NULL;
  for (int64_t p = last_with_address(session, weight); p >= 0; p = session->parameter[p].same_address) {
    eqs_added_parameter *other = &session->parameter[p];
    if (same_tensor(&other->info, info) && holds_some(session, &other->info)) return other;
  }
  return NULL;
}

/* The parameter added before that this one is another name of; NULL if there is none. */
static eqs_status find_tie(const eqs_session *session, const eqs_parameter_info *info, const void *weight,
                           eqs_added_parameter **tie)
{
  int64_t declared;
  if (info->tied_to == NULL) {
    *tie = find_shared(session, info, weight);
    if (*tie != NULL && !same_use(&(*tie)->info, info))
      return eqs_fail(EQS_USAGE, "parameter '%s' has the memory of '%s', but not its placements, frozen and stacked",
                      info->name, (*tie)->info.name);
    if (*tie == NULL && weight == NULL && holds_some(session, info))
      return eqs_fail(EQS_USAGE, "parameter '%s': the initial weight is NULL", info->name);
    return EQS_OK;
  }
  if (!eqs_lookup_find_text(session->names, info->tied_to, &declared))
    return eqs_fail(EQS_USAGE, "parameter '%s' is tied to '%s', which was not added before", info->name, info->tied_to);
  *tie = &session->parameter[declared];
  if (!same_tensor(&(*tie)->info, info))
    return eqs_fail(EQS_USAGE, "parameter '%s' is tied to '%s' of another shape or dtype", info->name, info->tied_to);
  return EQS_OK;
}

/* What find_tie and check_info look for: number `index` has this name; and it was added last with this weight. */
static eqs_status remember(eqs_session *session, const char *name, const void *weight, int64_t index)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_lookup_add_text(&session->names, name, index));
  if (weight != NULL) EQS_TRY(eqs_lookup_set(&session->addresses, &weight, sizeof weight, index));
cleanup:
  return status;
}

/* One that is not tied; info is the library's copy. */
static eqs_status add(eqs_session *session, const eqs_parameter_info *info, const char *given_name, const void *weight,
                      eqs_parameter **handle)
{
  eqs_status status = EQS_OK;
  char *given = NULL, *name = NULL, *module_type = NULL, *role = NULL;
  EQS_TRY(eqs_copy_text(&given, given_name));
  EQS_TRY(eqs_copy_text(&name, info->name));
  EQS_TRY(eqs_copy_text(&module_type, info->module_type));
  EQS_TRY(eqs_copy_text(&role, info->role));
  EQS_TRY(eqs_grow(&session->parameter, session->parameters, sizeof *session->parameter));
  EQS_TRY(eqs_handle_create(session, session->parameters, &session->handles, handle));
  int64_t before = last_with_address(session, weight);
  EQS_TRY(remember(session, name, weight, session->parameters));
  eqs_added_parameter *added = &session->parameter[session->parameters++];
  *added = (eqs_added_parameter){
      .handle = *handle, .given_name = given, .info = *info, .initial = weight, .same_address = before};
  added->info.name = name;
  added->info.module_type = module_type;
  added->info.role = role;
  added->info.tied_to = NULL;
cleanup:
  if (status != EQS_OK) {
    free(given);
    free(name);
    free(module_type);
    free(role);
  }
  return status;
}

static eqs_status add_alias(eqs_session *session, eqs_added_parameter *parameter, const char *name)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_lookup_add_text(&session->names, name, parameter->handle->index));
  EQS_TRY(eqs_grow(&parameter->alias, parameter->aliases, sizeof *parameter->alias));
  EQS_TRY(eqs_copy_text(&parameter->alias[parameter->aliases], name));
  parameter->aliases++;
cleanup:
  return status;
}

eqs_status eqs_parameter_add(eqs_session *session, const eqs_parameter_info *given, const void *weight,
                             eqs_parameter **parameter)
{
  eqs_status status = EQS_OK;
  eqs_parameter_info info;
  eqs_added_parameter *tie = NULL;
  char *name = NULL, *tied_to = NULL; /* without the segments of wrappers */
  EQS_TRY(eqs_check_session(session, "eqs_parameter_add"));
  EQS_TRY(eqs_check_pointer(parameter, "eqs_parameter_add", "parameter"));
  *parameter = NULL;
  EQS_TRY(eqs_read_struct(given, sizeof info, "eqs_parameter_info", &info));
  EQS_TRY(eqs_copy_canonical_name(&name, info.name));
  EQS_TRY(eqs_copy_canonical_name(&tied_to, info.tied_to));
  const char *given_name = info.name;
  info.name = name, info.tied_to = tied_to;
  EQS_TRY(check_info(session, &info, given_name));
  EQS_TRY(find_tie(session, &info, weight, &tie));
  if (tie != NULL) EQS_TRY(add_alias(session, tie, info.name));
  if (tie != NULL)
    *parameter = tie->handle;
  else
    EQS_TRY(add(session, &info, given_name, weight, parameter));
cleanup:
  free(name);
  free(tied_to);
  return status;
}

/* The '*' of a stack's name. */
static eqs_status find_star(const eqs_parameter_info *info, const char **star)
{
  *star = info->name != NULL ? strchr(info->name, '*') : NULL;
  if (*star == NULL || strchr(*star + 1, '*') != NULL)
    return eqs_fail(EQS_USAGE, "eqs_parameter_add_layers: the name '%s' must have one '*', for the layer's number",
                    info->name != NULL ? info->name : "");
  if (info->ndim < 1 || info->ndim > EQS_MAX_DIMS || info->shape[0] < 0)
    return eqs_fail(EQS_USAGE, "parameter '%s': a stack of layers needs a first dimension that counts them",
                    info->name);
  if (info->gradient_placement == EQS_SHARD || info->weight_placement == EQS_SHARD)
    return eqs_fail(EQS_USAGE, "parameter '%s': a stack of layers cannot be Shard(0); add the layers by themselves",
                    info->name);
  return EQS_OK;
}

eqs_status eqs_parameter_add_layers(eqs_session *session, const eqs_parameter_info *given, const void *weight,
                                    eqs_parameter **parameters)
{
  eqs_status status = EQS_OK;
  eqs_parameter_info stack, info;
  const char *star;
  char *name = NULL;
  EQS_TRY(eqs_check_session(session, "eqs_parameter_add_layers"));
  EQS_TRY(eqs_check_pointer(parameters, "eqs_parameter_add_layers", "parameters"));
  EQS_TRY(eqs_read_struct(given, sizeof stack, "eqs_parameter_info", &stack));
  EQS_TRY(find_star(&stack, &star));
  info = stack;
  info.ndim = stack.ndim - 1;
  info.stacked = 0;
  memmove(info.shape, stack.shape + 1, (size_t)info.ndim * sizeof *info.shape);
  int64_t elements = 1;
  for (int d = 0; d < info.ndim; d++)
    if (!eqs_multiply_sizes(elements, info.shape[d], &elements) || elements > INT64_MAX / 64)
      EQS_TRY(eqs_fail(EQS_USAGE, "parameter '%s': dimension %d is %lld", stack.name, d + 1, (long long)info.shape[d]));
  int64_t bytes = elements * (int64_t)eqs_dtype_size(info.dtype);
  for (int64_t l = 0; l < stack.shape[0]; l++) {
    EQS_TRY(eqs_format(&name, "%.*s%lld%s", (int)(star - stack.name), stack.name, (long long)l, star + 1));
    info.name = name;
    EQS_TRY(
        eqs_parameter_add(session, &info, weight != NULL ? (const char *)weight + l * bytes : NULL, &parameters[l]));
    free(name);
    name = NULL;
  }
cleanup:
  free(name);
  return status;
}

eqs_status eqs_parameter_describe(const eqs_parameter *parameter, eqs_parameter_description *description)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_check_parameter(parameter, "eqs_parameter_describe"));
  EQS_TRY(eqs_check_started(parameter->session, "eqs_parameter_describe"));
  const eqs_planned_parameter *planned = &parameter->session->plan->parameter[parameter->index];
  eqs_parameter_description full = {.name = parameter->session->parameter[parameter->index].info.name,
                                    .role = eqs_role_names[planned->assignment.role],
                                    .group = planned->assignment.group,
                                    .matrices = planned->assignment.count};
  const int64_t *restored = parameter->session->restored_step;
  full.in_checkpoint = restored != NULL && restored[parameter->index] >= 0;
  full.step = full.in_checkpoint ? restored[parameter->index] : 0;
  EQS_TRY(eqs_give_struct(&full, sizeof full, "eqs_parameter_description", description));
cleanup:
  return status;
}
