#include "service/start.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "checkpoint/restore_optimizer.h"
#include "dist/communicator.h"
#include "optimizer/warnings.h"
#include "service/outcome.h"
#include "service/progress.h"
#include "service/trainer_data.h"
#include "service/weights.h"

static eqs_status pack_parameter(const eqs_parameter_info *info, eqs_wire *wire)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_wire_put_text(wire, info->name));
  EQS_TRY(eqs_wire_put_text(wire, info->module_type));
  EQS_TRY(eqs_wire_put_text(wire, info->role));
  EQS_TRY(eqs_wire_put_integer(wire, info->dtype));
  EQS_TRY(eqs_wire_put_integer(wire, info->gradient_placement));
  EQS_TRY(eqs_wire_put_integer(wire, info->weight_placement));
  EQS_TRY(eqs_wire_put_integer(wire, info->stacked));
  EQS_TRY(eqs_wire_put_integer(wire, info->frozen));
  EQS_TRY(eqs_wire_put_integer(wire, info->ndim));
  for (int d = 0; d < info->ndim; d++) EQS_TRY(eqs_wire_put_integer(wire, info->shape[d]));
cleanup:
  return status;
}

/* Texts point into the wire. */
static eqs_status unpack_parameter(eqs_wire *wire, eqs_parameter_info *info)
{
  eqs_status status = EQS_OK;
  int64_t dtype, gradient, weight, stacked, frozen, ndim;
  *info = (eqs_parameter_info){.struct_size = sizeof *info};
  EQS_TRY(eqs_wire_get_text(wire, &info->name));
  EQS_TRY(eqs_wire_get_text(wire, &info->module_type));
  EQS_TRY(eqs_wire_get_text(wire, &info->role));
  EQS_TRY(eqs_wire_get_integer(wire, &dtype));
  EQS_TRY(eqs_wire_get_integer(wire, &gradient));
  EQS_TRY(eqs_wire_get_integer(wire, &weight));
  EQS_TRY(eqs_wire_get_integer(wire, &stacked));
  EQS_TRY(eqs_wire_get_integer(wire, &frozen));
  EQS_TRY(eqs_wire_get_integer(wire, &ndim));
  info->dtype = (eqs_dtype)dtype;
  info->gradient_placement = (eqs_placement)gradient;
  info->weight_placement = (eqs_placement)weight;
  info->stacked = (int)stacked;
  info->frozen = (int)frozen;
  info->ndim = (int)ndim;
  for (int d = 0; d < info->ndim; d++) EQS_TRY(eqs_wire_get_integer(wire, &info->shape[d]));
cleanup:
  return status;
}

eqs_status eqs_pack_start(const eqs_session *session, eqs_wire *payload)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_wire_put_integer(payload, session->resumes));
  EQS_TRY(eqs_wire_put_integer(payload, session->if_any));
  EQS_TRY(eqs_wire_put_text(payload, session->resume_path));
  EQS_TRY(eqs_wire_put(payload, &session->model, sizeof session->model));
  EQS_TRY(eqs_wire_put_integer(payload, session->parameters));
  for (int64_t p = 0; p < session->parameters; p++) EQS_TRY(pack_parameter(&session->parameter[p].info, payload));
  for (int64_t p = 0; p < session->parameters; p++) {
    const eqs_added_parameter *parameter = &session->parameter[p];
    EQS_TRY(eqs_wire_put_integer(payload, parameter->aliases));
    for (int64_t a = 0; a < parameter->aliases; a++) EQS_TRY(eqs_wire_put_text(payload, parameter->alias[a]));
  }
cleanup:
  return status;
}

static bool same_text(const char *a, const char *b)
{
  return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

/* What differs between two descriptions of a parameter: "shape [4, 2]". */
static void differing_part(const eqs_parameter_info *a, const eqs_parameter_info *b, char *text, size_t size)
{
  if (a->ndim != b->ndim || memcmp(a->shape, b->shape, (size_t)a->ndim * sizeof *a->shape) != 0) {
    size_t length = (size_t)snprintf(text, size, "shape [");
    for (int d = 0; d < a->ndim && length < size; d++)
      length += (size_t)snprintf(text + length, size - length, "%s%lld", d ? ", " : "", (long long)a->shape[d]);
    if (length < size) snprintf(text + length, size - length, "]");
  } else if (a->dtype != b->dtype) {
    snprintf(text, size, "dtype %s", eqs_dtype_name(a->dtype));
  } else if (a->gradient_placement != b->gradient_placement || a->weight_placement != b->weight_placement) {
    static const char *const names[] = {"Replicate", "Shard(0)", "Partial"};
    snprintf(text, size, "gradient %s, weight %s", names[a->gradient_placement], names[a->weight_placement]);
  } else if (!same_text(a->module_type, b->module_type)) {
    snprintf(text, size, "module type %s", a->module_type ? a->module_type : "unknown");
  } else if (!same_text(a->role, b->role)) {
    snprintf(text, size, "role %s", a->role ? a->role : "not given");
  } else {
    snprintf(text, size, "%s, %s", a->stacked ? "stacked" : "not stacked", a->frozen ? "frozen" : "trained");
  }
}

static bool same_info(const eqs_parameter_info *a, const eqs_parameter_info *b)
{
  return a->ndim == b->ndim && memcmp(a->shape, b->shape, (size_t)a->ndim * sizeof *a->shape) == 0 &&
         a->dtype == b->dtype && a->gradient_placement == b->gradient_placement &&
         a->weight_placement == b->weight_placement && same_text(a->module_type, b->module_type) &&
         same_text(a->role, b->role) && !a->stacked == !b->stacked && !a->frozen == !b->frozen;
}

/* Every trainer compares its parameters with the first trainer's. */
static eqs_status compare_parameters(const eqs_session *session, const eqs_parameter_info *info, int64_t count)
{
  int trainer = session->roster.trainer;
  if (count != session->parameters)
    return eqs_fail(EQS_USAGE, "trainers disagree: trainer %d has %lld parameters, trainer 0 has %lld", trainer,
                    (long long)session->parameters, (long long)count);
  for (int64_t p = 0; p < count; p++) {
    const eqs_parameter_info *mine = &session->parameter[p].info;
    if (strcmp(mine->name, info[p].name) != 0)
      return eqs_fail(EQS_USAGE, "trainers disagree: parameter %lld is '%s' on trainer %d and '%s' on trainer 0",
                      (long long)p, mine->name, trainer, info[p].name);
    if (!same_info(mine, &info[p])) {
      char here[128], there[128];
      differing_part(mine, &info[p], here, sizeof here);
      differing_part(&info[p], mine, there, sizeof there);
      return eqs_fail(EQS_USAGE, "trainers disagree on parameter '%s': %s on trainer %d, %s on trainer 0", mine->name,
                      here, trainer, there);
    }
  }
  return EQS_OK;
}

/* The other names of tied parameters. */
static eqs_status unpack_aliases(eqs_wire *payload, eqs_plan *plan)
{
  eqs_status status = EQS_OK;
  for (int64_t p = 0; p < plan->parameters; p++) {
    int64_t aliases;
    const char *name;
    EQS_TRY(eqs_wire_get_integer(payload, &aliases));
    for (int64_t a = 0; a < aliases; a++) {
      EQS_TRY(eqs_wire_get_text(payload, &name));
      EQS_TRY(eqs_plan_add_alias(plan, p, name));
    }
  }
cleanup:
  return status;
}

/* The first trainer's parameters become everybody's; the plan follows from them. */
static eqs_status make_plan(eqs_session *session, eqs_wire *payload)
{
  eqs_status status = EQS_OK;
  eqs_parameter_info *info = NULL;
  int64_t resumes, if_any, count;
  const char *path;
  const void *model;
  EQS_TRY(eqs_wire_get_integer(payload, &resumes));
  EQS_TRY(eqs_wire_get_integer(payload, &if_any));
  EQS_TRY(eqs_wire_get_text(payload, &path));
  EQS_TRY(eqs_wire_get(payload, sizeof session->model, &model));
  memcpy(&session->model, model, sizeof session->model);
  EQS_TRY(eqs_wire_get_integer(payload, &count));
  session->resumes = resumes != 0;
  session->if_any = if_any != 0;
  if (session->resumes) {
    char *copy;
    const char *wanted = path ? path : session->config->checkpoint.directory;
    if (wanted == NULL)
      EQS_TRY(eqs_fail(EQS_USAGE, "cannot resume: no path is given and the configuration has no checkpoint directory"));
    EQS_TRY(eqs_copy_text(&copy, wanted));
    free(session->resume_path);
    session->resume_path = copy;
  }
  EQS_TRY(eqs_allocate(&info, count, sizeof *info));
  for (int64_t p = 0; p < count; p++) EQS_TRY(unpack_parameter(payload, &info[p]));
  if (eqs_trains(session)) EQS_TRY(compare_parameters(session, info, count));
  EQS_TRY(eqs_plan_make(session->config, &session->model, session->roster.owners, count, info, &session->plan));
  EQS_TRY(unpack_aliases(payload, session->plan));
  EQS_TRY(eqs_settings_create(session->config, &session->settings));
cleanup:
  free(info);
  return status;
}

/* What the plan shows that the user may not have meant, once, by the first owner. Not collective. */
static eqs_status warn_of_plan(const eqs_session *session)
{
  const int64_t most = 10;
  eqs_status status = EQS_OK;
  eqs_warnings warnings = {0};
  if (session->roster.owner != 0) return EQS_OK;
  EQS_TRY(eqs_plan_warnings(session->config, session->plan, most, &warnings));
  for (int w = 0; w < warnings.count; w++) eqs_log(EQS_LOG_WARNING, "%s", warnings.text[w]);
cleanup:
  eqs_warnings_free(&warnings);
  return status;
}

static eqs_status make_transports(eqs_session *session)
{
  eqs_status status = EQS_OK;
  const eqs_roster *roster = &session->roster;
  bool trains = eqs_trains(session);
  if (trains)
    EQS_TRY(eqs_push_sender_create(roster, session->plan, EQS_ROUTE_GRADIENT, NULL, session->settings,
                                   eqs_settings_bytes(session->config->groups) / (int64_t)sizeof(double),
                                   &session->push_sender));
  if (eqs_owns(session)) {
    EQS_TRY(eqs_push_receiver_create(roster, session->plan, EQS_ROUTE_GRADIENT, NULL, session->optimizer,
                                     trains ? &session->push_sender : NULL, &session->push_receiver));
    EQS_TRY(eqs_owner_step_create(session->plan, session->optimizer, &session->push_receiver, &session->step));
    EQS_TRY(eqs_pull_sender_create(roster, session->plan, EQS_ROUTE_WEIGHT, session->optimizer, &session->step,
                                   &session->pull_sender));
    EQS_TRY(eqs_pull_sender_create(roster, session->plan, EQS_ROUTE_FROZEN, session->optimizer, &session->step,
                                   &session->frozen_sender));
  }
  if (trains) {
    EQS_TRY(eqs_pull_receiver_create(roster, session->plan, EQS_ROUTE_WEIGHT,
                                     eqs_owns(session) ? &session->pull_sender : NULL, &session->pull_receiver));
    EQS_TRY(eqs_pull_receiver_create(roster, session->plan, EQS_ROUTE_FROZEN,
                                     eqs_owns(session) ? &session->frozen_sender : NULL, &session->frozen_receiver));
  }
cleanup:
  return status;
}

/* The weights that trainers gave when they added their parameters: of all, or of those that travel. */
static eqs_status move_initial_weights(eqs_session *session, const bool *travels)
{
  eqs_status status = EQS_OK;
  const void **weight = NULL;
  bool *all = NULL;
  int64_t parameters = session->plan->parameters;
  EQS_TRY(eqs_agree(session->roster.comm, eqs_allocate(&weight, parameters, sizeof *weight)));
  EQS_TRY(eqs_agree(session->roster.comm, eqs_allocate(&all, parameters, sizeof *all)));
  for (int64_t p = 0; p < parameters; p++) all[p] = true;
  for (int64_t p = 0; p < session->parameters; p++) weight[p] = session->parameter[p].initial;
  EQS_TRY(eqs_move_weights(session, travels != NULL ? travels : all, weight));
cleanup:
  free(weight);
  free(all);
  return status;
}

/* What the first owner knows of every parameter in the checkpoint, to all ranks: steps taken, or that it is not there.
 */
static eqs_status share_restored_steps(eqs_session *session, const bool *absent)
{
  eqs_status status = EQS_OK;
  eqs_wire list = {0};
  const void *bytes;
  int64_t count = session->plan->parameters, size = count * (int64_t)sizeof *session->restored_step;
  EQS_TRY(eqs_allocate(&session->restored_step, count, sizeof *session->restored_step));
  if (session->roster.owner == 0) {
    for (int64_t p = 0; p < count; p++)
      session->restored_step[p] = absent[p] ? -1 : session->optimizer->parameter[p].step;
    EQS_TRY(eqs_wire_put(&list, session->restored_step, size));
  }
  EQS_TRY(eqs_session_broadcast(session, session->roster.owner_rank[0], &list, "the list of restored parameters"));
  EQS_TRY(eqs_wire_get(&list, size, &bytes));
  if (count > 0) memcpy(session->restored_step, bytes, (size_t)size);
cleanup:
  eqs_wire_free(&list);
  return status;
}

/* The initial weights of parameters that the checkpoint does not have are wanted. */
static eqs_status move_absent_weights(eqs_session *session)
{
  eqs_status status = EQS_OK;
  int64_t count = session->plan->parameters;
  bool *travels = NULL, any = false;
  EQS_TRY(eqs_agree(session->roster.comm, eqs_allocate(&travels, count, sizeof *travels)));
  for (int64_t p = 0; p < count; p++) {
    travels[p] = session->restored_step[p] < 0;
    any = any || travels[p];
  }
  if (any) EQS_TRY(move_initial_weights(session, travels));
cleanup:
  free(travels);
  return status;
}

/* The number of a parameter's group in the file; -1: it is not in it, or was in none. */
static int group_in_file(const eqs_checkpoint_contents *contents, const char *name, const char *rule)
{
  const eqs_checkpoint_parameter *parameter = eqs_contents_find(contents, name);
  int64_t group = -1;
  bool same_rule = false;
  for (int a = 0; parameter != NULL && a < parameter->attributes; a++) {
    const eqs_attribute *attribute = &parameter->attribute[a];
    if (attribute->kind == EQS_ATTRIBUTE_INTEGER && strcmp(attribute->name, "group") == 0) group = attribute->integer;
    if (attribute->kind == EQS_ATTRIBUTE_TEXT && strcmp(attribute->name, "rule") == 0)
      same_rule = attribute->text != NULL && strcmp(attribute->text, rule) == 0;
  }
  return same_rule && group >= 0 && group < INT32_MAX ? (int)group : -1;
}

/*
 * Which group of the file every group is: that of all its parameters which the file has. A file of an older version
 * does not tell: then the number decides. Every rank has restored_group afterwards. Collective over the session.
 */
static eqs_status find_restored_groups(eqs_session *session, const eqs_checkpoint_contents *contents)
{
  enum { unseen = -2, none = -1 };
  eqs_status status = EQS_OK;
  eqs_wire list = {0};
  const eqs_plan *plan = session->plan;
  const void *bytes;
  int groups = session->config->groups;
  int64_t size = groups * (int64_t)sizeof *session->restored_group;
  bool recorded = false;
  EQS_TRY(eqs_agree(session->roster.comm, eqs_allocate(&session->restored_group, groups, sizeof(int))));
  for (int g = 0; g < groups; g++) session->restored_group[g] = unseen;
  for (int64_t p = 0; session->roster.owner == 0 && p < plan->parameters; p++) {
    int group = plan->parameter[p].assignment.group;
    if (group < 0) continue;
    int before =
        group_in_file(contents, plan->parameter[p].info.name, session->config->group[group].options.rule->name);
    int *known = &session->restored_group[group];
    if (before < 0) continue;
    recorded = true;
    *known = *known == unseen || *known == before ? before : none;
  }
  for (int g = 0; g < groups; g++)
    if (session->restored_group[g] == unseen) session->restored_group[g] = recorded ? none : g;
  if (session->roster.owner == 0) EQS_TRY(eqs_wire_put(&list, session->restored_group, size));
  EQS_TRY(eqs_session_broadcast(session, session->roster.owner_rank[0], &list, "the groups of the checkpoint"));
  EQS_TRY(eqs_wire_get(&list, size, &bytes));
  memcpy(session->restored_group, bytes, (size_t)size);
cleanup:
  eqs_wire_free(&list);
  return status;
}

/* Owners restore; the trainer's own data goes to all trainers. */
static eqs_status restore(eqs_session *session)
{
  eqs_status status = EQS_OK;
  eqs_checkpoint_contents contents = {0};
  bool *absent = NULL;
  EQS_TRY(eqs_allocate(&absent, session->plan->parameters, sizeof *absent));
  if (eqs_owns(session))
    status = eqs_checkpoint_restore_optimizer(session->optimizer, session->resume_path, &contents, absent);
  EQS_TRY(eqs_share_outcome(session, status));
  EQS_TRY(share_restored_steps(session, absent));
  EQS_TRY(move_absent_weights(session));
  if (session->roster.owner == 0) {
    EQS_TRY(eqs_keep_restored_items(session, &contents));
    eqs_log(EQS_LOG_INFO, "restored step %lld from %s", (long long)contents.step, session->resume_path);
  }
  EQS_TRY(eqs_session_broadcast(session, session->roster.owner_rank[0], &session->trainer_data, "the trainer's data"));
  EQS_TRY(find_restored_groups(session, &contents));
  EQS_TRY(eqs_agree(session->roster.comm, eqs_restore_settings(session)));
  if (eqs_owns(session)) eqs_optimizer_set(session->optimizer, session->settings);
  session->resumed = true;
cleanup:
  eqs_contents_free(&contents);
  free(absent);
  return status;
}

/* Whether there is a checkpoint to restore, as the first owner sees it; where there need not be, none is asked for. */
static eqs_status look_for_checkpoint(eqs_session *session)
{
  eqs_status status = EQS_OK;
  eqs_wire answer = {0};
  int64_t any = 1;
  if (!session->if_any) return EQS_OK;
  if (session->roster.owner == 0) EQS_TRY(eqs_wire_put_integer(&answer, eqs_checkpoint_exists(session->resume_path)));
  EQS_TRY(eqs_session_broadcast(session, session->roster.owner_rank[0], &answer, "whether there is a checkpoint"));
  EQS_TRY(eqs_wire_get_integer(&answer, &any));
  session->resumes = any != 0;
cleanup:
  eqs_wire_free(&answer);
  return status;
}

/*
 * The first owner locks the directory that checkpoints are written to, so that no other job does too: before a restart
 * reads what is in it, if it is there, and else when nothing stands in the way of the start any more.
 */
static eqs_status lock_directory(eqs_session *session, bool make)
{
  eqs_status status = EQS_OK;
  const char *directory = session->config->checkpoint.directory;
  if (directory == NULL) return EQS_OK;
  if (session->roster.owner == 0 && session->lock == NULL)
    status = eqs_fail_of_owner(session, eqs_directory_lock_take(directory, make, &session->lock));
  if (eqs_owns(session)) status = eqs_agree(session->roster.owner_comm, status);
  return eqs_share_outcome(session, status);
}

static eqs_status make_saver(eqs_session *session)
{
  if (session->config->checkpoint.directory == NULL || !session->config->checkpoint.async) return EQS_OK;
  return eqs_saver_create(session->roster.owner_comm, &session->saver);
}

eqs_status eqs_run_start(eqs_session *session, eqs_wire *payload)
{
  eqs_status status = EQS_OK;
  MPI_Comm comm = session->roster.comm;
  EQS_TRY(eqs_agree(comm, make_plan(session, payload)));
  EQS_TRY(eqs_agree(comm, warn_of_plan(session)));
  if (eqs_owns(session))
    status = eqs_optimizer_create(session->config, session->plan, session->roster.owner_comm, &session->optimizer);
  EQS_TRY(eqs_share_outcome(session, status));
  EQS_TRY(eqs_agree(comm, make_transports(session)));
  EQS_TRY(lock_directory(session, false));
  if (session->resumes) EQS_TRY(look_for_checkpoint(session));
  if (session->resumes)
    EQS_TRY(restore(session));
  else
    EQS_TRY(move_initial_weights(session, NULL));
  EQS_TRY(lock_directory(session, true));
  if (eqs_owns(session)) status = make_saver(session);
  EQS_TRY(eqs_share_outcome(session, status));

  eqs_policy_begin(session->config, &session->policy);
  session->started = true;
  memset(session->seconds, 0, sizeof session->seconds);
  session->traffic = (eqs_traffic){0};
  if (eqs_owns(session)) {
    eqs_push_receiver_reset(&session->push_receiver);
    eqs_pull_sender_start(&session->pull_sender);
    eqs_pull_sender_start(&session->frozen_sender);
  }
  if (eqs_trains(session)) eqs_pull_receiver_start(&session->pull_receiver);
  if (eqs_trains(session)) eqs_pull_receiver_start(&session->frozen_receiver);
cleanup:
  return status;
}
