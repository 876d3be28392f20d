/* Settings of parameter groups and of the step, as trainers set them. */
#include <string.h>

#include "service/session.h"

static eqs_status check_group(const eqs_session *session, int group, const char *call)
{
  eqs_status status = eqs_check_session(session, call);
  if (status == EQS_OK) status = eqs_check_started(session, call);
  if (status == EQS_OK && (group < 0 || group >= session->config->groups))
    status = eqs_fail(EQS_USAGE, "%s: there is no parameter group %d; the configuration has %d", call, group,
                      session->config->groups);
  return status;
}

eqs_status eqs_group_count(const eqs_session *session, int *count)
{
  eqs_status status = eqs_check_session(session, "eqs_group_count");
  if (status == EQS_OK) status = eqs_check_pointer(count, "eqs_group_count", "count");
  if (status == EQS_OK) *count = session->config->groups;
  return status;
}

/* The settings that rules with these options have, as a list that lives as long as the process. */
static const char *const *list_settings(const eqs_rule_options *options)
{
  static const char *lists[1 << EQS_GROUP_SETTINGS][EQS_GROUP_SETTINGS + 1];
  int set = 0, count = 0;
  for (int s = 0; s < EQS_GROUP_SETTINGS; s++) set |= eqs_setting_used(options, (eqs_setting)s) << s;
  for (int s = 0; s < EQS_GROUP_SETTINGS; s++)
    if (set >> s & 1) lists[set][count++] = eqs_setting_names[s];
  return lists[set];
}

eqs_status eqs_group_describe(const eqs_session *session, int group, eqs_group_info *info)
{
  eqs_status status = EQS_OK;
  EQS_TRY(check_group(session, group, "eqs_group_describe"));
  const eqs_group_config *config = &session->config->group[group];
  eqs_group_info full = {.rule = config->options.rule->name,
                         .lr = session->settings->group[group].lr,
                         .schedule = eqs_schedule_names[config->schedule.kind],
                         .restored_from = session->restored_group != NULL ? session->restored_group[group] : -1,
                         .scheduled = config->schedule.kind != EQS_SCHEDULE_CONSTANT || config->schedule.warmup > 0,
                         .settings = list_settings(&config->options)};
  if (config->options.rule->keys & EQS_KEY_MOMENTUM) full.momentum = eqs_momentum_names[config->options.momentum];
  for (int64_t p = 0; p < session->plan->parameters; p++)
    full.parameters += session->plan->parameter[p].assignment.group == group;
  EQS_TRY(eqs_give_struct(&full, sizeof full, "eqs_group_info", info));
cleanup:
  return status;
}

static eqs_status find_setting(int group, const char *name, const char *call, eqs_setting *setting)
{
  for (int s = 0; name != NULL && s < EQS_GROUP_SETTINGS; s++) {
    if (strcmp(name, eqs_setting_names[s]) != 0) continue;
    *setting = (eqs_setting)s;
    return EQS_OK;
  }
  return eqs_fail(EQS_USAGE, "%s: parameter group %d has no setting '%s' that can change", call, group,
                  name != NULL ? name : "(NULL)");
}

/* The first push has told the owners the step's settings: some parameter may have been updated with them. */
static eqs_status check_change(const eqs_session *session, double before, double after, const char *what)
{
  if (after == before || session->pushes == 0) return EQS_OK;
  return eqs_fail(EQS_USAGE, "%s is changed from %g to %g after the first push of the step; change it before", what,
                  before, after);
}

eqs_status eqs_group_set(eqs_session *session, int group, const char *name, double value)
{
  eqs_status status = EQS_OK;
  eqs_setting setting = EQS_SETTING_LR;
  EQS_TRY(check_group(session, group, "eqs_group_set"));
  EQS_TRY(find_setting(group, name, "eqs_group_set", &setting));
  const eqs_rule_options *options = &session->config->group[group].options;
  eqs_group_settings settings = session->settings->group[group];
  double before = eqs_setting_get(&settings, setting);
  status = eqs_setting_set(options, &settings, setting, value);
  if (status == EQS_OK) status = check_change(session, before, value, name);
  if (status == EQS_OK) session->settings->group[group] = settings;
  if (status != EQS_OK) eqs_fail_in(status, "parameter group %d (rule %s)", group, options->rule->name);
cleanup:
  return status;
}

eqs_status eqs_group_get(const eqs_session *session, int group, const char *name, double *value)
{
  eqs_status status = EQS_OK;
  eqs_setting setting = EQS_SETTING_LR;
  EQS_TRY(check_group(session, group, "eqs_group_get"));
  EQS_TRY(eqs_check_pointer(value, "eqs_group_get", "value"));
  EQS_TRY(find_setting(group, name, "eqs_group_get", &setting));
  const eqs_rule_options *options = &session->config->group[group].options;
  if (!eqs_setting_used(options, setting))
    EQS_TRY(eqs_fail(EQS_USAGE, "parameter group %d: %s is not used by rule %s", group, name, options->rule->name));
  *value = eqs_setting_get(&session->settings->group[group], setting);
cleanup:
  return status;
}

eqs_status eqs_group_set_lr(eqs_session *session, int group, double lr)
{
  return eqs_group_set(session, group, eqs_setting_names[EQS_SETTING_LR], lr);
}

/* One of the whole step. */
static eqs_status set_of_step(eqs_session *session, double *setting, double value, const char *what)
{
  eqs_status status = check_change(session, *setting, value, what);
  if (status == EQS_OK) *setting = value;
  return status;
}

eqs_status eqs_session_set_gradient_scale(eqs_session *session, double scale)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_check_session(session, "eqs_session_set_gradient_scale"));
  EQS_TRY(eqs_check_started(session, "eqs_session_set_gradient_scale"));
  if (!(scale > 0 && scale < 1e30))
    EQS_TRY(eqs_fail(EQS_USAGE, "the gradient scale must be positive and below 1e30, is %g", scale));
  EQS_TRY(set_of_step(session, &session->settings->gradient_scale, scale, "the gradient scale"));
cleanup:
  return status;
}

eqs_status eqs_session_defer_updates(eqs_session *session, int defer)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_check_session(session, "eqs_session_defer_updates"));
  EQS_TRY(eqs_check_started(session, "eqs_session_defer_updates"));
  EQS_TRY(set_of_step(session, &session->settings->defer_updates, defer != 0, "the deferral of updates"));
cleanup:
  return status;
}
