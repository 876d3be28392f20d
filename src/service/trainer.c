/* The trainers' calls. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "service/session.h"

eqs_status eqs_session_open(MPI_Comm comm, const char *config_path, eqs_session **session)
{
  return eqs_session_join(comm, config_path, true, session);
}

/* Announce a collective call and run it. */
static eqs_status call_together(eqs_session *session, eqs_command command, eqs_wire *payload)
{
  if (session->failed != EQS_OK)
    return eqs_fail(session->failed, "the session has failed before: %s", eqs_error_message());
  eqs_status status = eqs_session_announce(session, command, payload);
  if (status == EQS_OK) status = eqs_session_run(session, command, payload);
  session->failed = status;
  return status;
}

eqs_status eqs_session_trainers(const eqs_session *session, MPI_Comm *trainers)
{
  *trainers = session->roster.trainer_comm;
  return EQS_OK;
}

static eqs_status check_info(const eqs_session *session, const eqs_parameter_info *info)
{
  if (info->name == NULL || info->name[0] == '\0') return eqs_fail(EQS_USAGE, "a parameter has no name");
  if (session->started) return eqs_fail(EQS_USAGE, "parameter '%s' is added after the session started", info->name);
  if (info->ndim < 0 || info->ndim > EQS_MAX_DIMS)
    return eqs_fail(EQS_USAGE, "parameter '%s': %d dimensions; 0 to %d are possible", info->name, info->ndim,
                    EQS_MAX_DIMS);
  int64_t elements = 1;
  for (int d = 0; d < info->ndim; d++)
    if (!eqs_multiply_sizes(elements, info->shape[d], &elements) || elements > INT64_MAX / 64)
      return eqs_fail(EQS_USAGE, "parameter '%s': dimension %d is %lld", info->name, d, (long long)info->shape[d]);
  if (info->weight_placement == EQS_PARTIAL)
    return eqs_fail(EQS_USAGE, "parameter '%s': a weight cannot be Partial", info->name);
  if (info->ndim == 0 && (info->gradient_placement == EQS_SHARD || info->weight_placement == EQS_SHARD))
    return eqs_fail(EQS_USAGE, "parameter '%s': a scalar cannot be Shard(0)", info->name);
  for (int64_t p = 0; p < session->parameters; p++)
    if (strcmp(session->parameter[p]->info.name, info->name) == 0)
      return eqs_fail(EQS_USAGE, "parameter '%s' is added twice", info->name);
  return EQS_OK;
}

static bool same_tensor(const eqs_parameter_info *a, const eqs_parameter_info *b)
{
  return a->dtype == b->dtype && a->ndim == b->ndim &&
         memcmp(a->shape, b->shape, (size_t)a->ndim * sizeof *a->shape) == 0;
}

/* The parameter added before that this one is another name of; NULL if there is none. */
static eqs_status find_tie(const eqs_session *session, const eqs_parameter_info *info, const void *weight,
                           eqs_parameter **tie)
{
  *tie = NULL;
  for (int64_t p = 0; p < session->parameters && *tie == NULL; p++) {
    eqs_parameter *other = session->parameter[p];
    bool declared = info->tied_to != NULL && strcmp(other->info.name, info->tied_to) == 0;
    bool shared = weight != NULL && other->initial == weight && same_tensor(&other->info, info);
    if (declared || shared) *tie = other;
  }
  if (info->tied_to != NULL && *tie == NULL)
    return eqs_fail(EQS_USAGE, "parameter '%s' is tied to '%s', which was not added before", info->name, info->tied_to);
  if (*tie != NULL && !same_tensor(&(*tie)->info, info))
    return eqs_fail(EQS_USAGE, "parameter '%s' is tied to '%s' of another shape or dtype", info->name, info->tied_to);
  return EQS_OK;
}

eqs_status eqs_parameter_add(eqs_session *session, const eqs_parameter_info *info, const void *weight,
                             eqs_parameter **result)
{
  eqs_status status = EQS_OK;
  eqs_parameter *parameter = NULL;
  char *name = NULL, *module_type = NULL;
  *result = NULL;
  EQS_TRY(check_info(session, info));
  EQS_TRY(find_tie(session, info, weight, result));
  if (*result != NULL) goto cleanup;
  EQS_TRY(eqs_copy_text(&name, info->name));
  EQS_TRY(eqs_copy_text(&module_type, info->module_type));
  EQS_TRY(eqs_grow(&session->parameter, session->parameters, sizeof *session->parameter));
  EQS_TRY(eqs_allocate(&parameter, 1, sizeof *parameter));
  *parameter = (eqs_parameter){.session = session, .index = session->parameters, .info = *info, .initial = weight};
  parameter->info.name = name;
  parameter->info.module_type = module_type;
  parameter->info.tied_to = NULL;
  session->parameter[session->parameters++] = parameter;
  *result = parameter;
cleanup:
  if (status != EQS_OK) {
    free(name);
    free(module_type);
  }
  return status;
}

eqs_status eqs_session_resume(eqs_session *session, const char *path)
{
  if (session->started) return eqs_fail(EQS_USAGE, "eqs_session_resume is called after eqs_session_start");
  free(session->resume_path);
  session->resumes = true;
  return eqs_copy_text(&session->resume_path, path);
}

eqs_status eqs_session_start(eqs_session *session)
{
  eqs_wire payload = {0};
  eqs_status status = session->started ? eqs_fail(EQS_USAGE, "the session is started twice") : EQS_OK;
  if (status == EQS_OK) status = eqs_pack_start(session, &payload);
  if (status == EQS_OK) status = call_together(session, EQS_COMMAND_START, &payload);
  eqs_wire_free(&payload);
  return status;
}

/* What may be called only while the session runs. */
static eqs_status check_running(const eqs_session *session, const char *call)
{
  return session->started ? EQS_OK : eqs_fail(EQS_USAGE, "%s is called before eqs_session_start", call);
}

eqs_status eqs_group_count(const eqs_session *session, int *count)
{
  *count = session->config->groups;
  return EQS_OK;
}

eqs_status eqs_group_describe(const eqs_session *session, int group, eqs_group_info *info)
{
  eqs_status status = check_running(session, "eqs_group_describe");
  if (status != EQS_OK) return status;
  if (group < 0 || group >= session->config->groups)
    return eqs_fail(EQS_USAGE, "there is no parameter group %d", group);
  *info =
      (eqs_group_info){.rule = session->config->group[group].options.rule->name, .lr = session->settings[1 + group]};
  for (int64_t p = 0; p < session->plan->parameters; p++)
    info->parameters += session->plan->parameter[p].assignment.group == group;
  return EQS_OK;
}

eqs_status eqs_parameter_describe(const eqs_parameter *parameter, eqs_parameter_description *description)
{
  eqs_status status = check_running(parameter->session, "eqs_parameter_describe");
  if (status != EQS_OK) return status;
  const eqs_planned_parameter *planned = &parameter->session->plan->parameter[parameter->index];
  *description = (eqs_parameter_description){.struct_size = description->struct_size,
                                             .name = parameter->info.name,
                                             .role = eqs_role_names[planned->assignment.role],
                                             .group = planned->assignment.group,
                                             .matrices = planned->assignment.count};
  return status;
}

/* The first push has told the owners the step's settings: some parameter may have been updated with them. */
static eqs_status change_setting(eqs_session *session, int index, double value, const char *what)
{
  double before = session->settings[index];
  if (value != before && session->pushes > 0)
    return eqs_fail(EQS_USAGE, "%s is changed from %g to %g after the first push of the step", what, before, value);
  session->settings[index] = value;
  return EQS_OK;
}

eqs_status eqs_group_set_lr(eqs_session *session, int group, double lr)
{
  eqs_status status = check_running(session, "eqs_group_set_lr");
  if (status != EQS_OK) return status;
  if (group < 0 || group >= session->config->groups)
    return eqs_fail(EQS_USAGE, "there is no parameter group %d", group);
  if (!(lr >= 0 && lr < 1e30)) return eqs_fail(EQS_USAGE, "parameter group %d: a learning rate of %g", group, lr);
  char what[64];
  snprintf(what, sizeof what, "the learning rate of parameter group %d", group);
  return change_setting(session, 1 + group, lr, what);
}

eqs_status eqs_session_set_gradient_scale(eqs_session *session, double scale)
{
  eqs_status status = check_running(session, "eqs_session_set_gradient_scale");
  if (status != EQS_OK) return status;
  if (!(scale > 0 && scale < 1e30)) return eqs_fail(EQS_USAGE, "a gradient scale of %g", scale);
  return change_setting(session, 0, scale, "the gradient scale");
}

eqs_status eqs_push(eqs_parameter *parameter, const void *gradient)
{
  eqs_session *session = parameter->session;
  double begin = eqs_clock();
  bool moved = false;
  eqs_status status = check_running(session, "eqs_push");
  if (status != EQS_OK) return status;
  if (parameter->pushed) return eqs_fail(EQS_USAGE, "parameter '%s' is pushed twice in a step", parameter->info.name);
  parameter->pushed = true;
  session->pushes++;
  eqs_push_sender_add(&session->push_sender, parameter->index, gradient);
  status = eqs_session_advance(session, &moved);
  session->seconds[EQS_PHASE_PUSH] += eqs_clock() - begin;
  return status;
}

eqs_status eqs_step(eqs_session *session)
{
  eqs_wire payload = {0};
  double begin = eqs_clock();
  eqs_status status = check_running(session, "eqs_step");
  if (status == EQS_OK)
    status = eqs_wire_put(&payload, session->settings, eqs_setting_count(session) * (int64_t)sizeof *session->settings);
  if (status == EQS_OK) status = call_together(session, EQS_COMMAND_STEP, &payload);
  eqs_wire_free(&payload);
  session->seconds[EQS_PHASE_STEP] += eqs_clock() - begin;
  return status;
}

typedef struct {
  int64_t parameter;
} pull_wait;

static bool weight_arrived(eqs_session *session, void *context)
{
  const pull_wait *wait = context;
  return eqs_pull_receiver_has(&session->pull_receiver, wait->parameter);
}

/* An embedded rank's own sends need it: after its last pull it stays until the others have theirs. */
static bool nothing_to_send(eqs_session *session, void *context)
{
  (void)context;
  return !eqs_owns(session) || eqs_pull_sender_done(&session->pull_sender);
}

eqs_status eqs_pull(eqs_parameter *parameter, void *weight)
{
  eqs_session *session = parameter->session;
  pull_wait wait = {parameter->index};
  double begin = eqs_clock();
  eqs_status status = EQS_OK;
  EQS_TRY(check_running(session, "eqs_pull"));
  if (!session->pull_receiver.available[parameter->index])
    EQS_TRY(eqs_fail(EQS_USAGE, "parameter '%s': there is no new weight to pull", parameter->info.name));
  EQS_TRY(eqs_session_wait_until(session, weight_arrived, &wait, "weights from the owners"));
  EQS_TRY(eqs_pull_receiver_take(&session->pull_receiver, parameter->index, weight));
  if (eqs_pull_receiver_done(&session->pull_receiver))
    EQS_TRY(eqs_session_wait_until(session, nothing_to_send, NULL, "the trainers to take this owner's weights"));
cleanup:
  session->seconds[EQS_PHASE_PULL] += eqs_clock() - begin;
  return status;
}

eqs_status eqs_session_step_info(const eqs_session *session, eqs_step_info *info)
{
  *info = session->info;
  return EQS_OK;
}

int eqs_checkpoint_due(const eqs_session *session)
{
  return session->started && eqs_policy_due(session->config, &session->policy, &session->info);
}

int eqs_stop_requested(const eqs_session *session)
{
  return session->started && eqs_policy_stops(&session->policy);
}

eqs_status eqs_checkpoint(eqs_session *session, const eqs_trainer_item *items, int count)
{
  eqs_wire payload = {0};
  eqs_status status = EQS_OK;
  EQS_TRY(check_running(session, "eqs_checkpoint"));
  if (session->config->checkpoint.directory == NULL)
    EQS_TRY(eqs_fail(EQS_USAGE, "a checkpoint is to be written, but the configuration has no `checkpoint: {directory: "
                                "...}`"));
  EQS_TRY(eqs_wire_put_integer(&payload, session->pushes));
  EQS_TRY(eqs_wire_put_integer(&payload, count));
  for (int i = 0; i < count; i++) {
    EQS_TRY(eqs_wire_put_text(&payload, items[i].key));
    EQS_TRY(eqs_wire_put_integer(&payload, (int64_t)items[i].size));
    EQS_TRY(eqs_wire_put(&payload, items[i].bytes, (int64_t)items[i].size));
  }
  EQS_TRY(call_together(session, EQS_COMMAND_CHECKPOINT, &payload));
cleanup:
  eqs_wire_free(&payload);
  return status;
}

eqs_status eqs_trainer_data(const eqs_session *session, const char *key, const void **bytes, size_t *size)
{
  eqs_wire reader = session->trainer_data;
  *bytes = NULL, *size = 0;
  reader.position = 0;
  while (reader.position < reader.size) {
    const char *name;
    const void *data;
    int64_t length;
    eqs_status status = eqs_wire_get_text(&reader, &name);
    if (status == EQS_OK) status = eqs_wire_get_integer(&reader, &length);
    if (status == EQS_OK) status = eqs_wire_get(&reader, length, &data);
    if (status != EQS_OK) return status;
    if (strcmp(name, key) == 0) {
      *bytes = data, *size = (size_t)length;
      break;
    }
  }
  return EQS_OK;
}

eqs_status eqs_session_phases(eqs_session *session, eqs_phase *phases, int capacity, int *count)
{
  eqs_wire payload = {0};
  *count = 0;
  eqs_status status = check_running(session, "eqs_session_phases");
  if (status == EQS_OK && session->failed == EQS_OK) {
    status = eqs_session_announce(session, EQS_COMMAND_PHASES, &payload);
    if (status == EQS_OK) status = eqs_run_phases(session, phases, capacity, count);
    session->failed = status;
  }
  eqs_wire_free(&payload);
  return status;
}

eqs_status eqs_session_traffic(const eqs_session *session, eqs_traffic *traffic)
{
  *traffic = session->traffic;
  return EQS_OK;
}

eqs_status eqs_session_close(eqs_session **session)
{
  eqs_status status = EQS_OK;
  eqs_wire payload = {0};
  if (*session == NULL) return EQS_OK;
  if ((*session)->failed == EQS_OK) status = call_together(*session, EQS_COMMAND_CLOSE, &payload);
  eqs_wire_free(&payload);
  eqs_session_leave(session, (*session)->failed);
  return status;
}
