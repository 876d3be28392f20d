#include "optimizer/settings.h"

#include <jansson.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"

const char *const eqs_setting_names[EQS_GROUP_SETTINGS] = {"lr",    "weight_decay", "beta", "beta1",
                                                           "beta2", "alpha",        "eps"};

/* Where a setting lies, and which key of the configuration has it; 0: all rules do. */
static const struct {
  size_t offset;
  unsigned key;
} settings_table[EQS_GROUP_SETTINGS] = {
    [EQS_SETTING_LR] = {offsetof(eqs_group_settings, lr), 0},
    [EQS_SETTING_WEIGHT_DECAY] = {offsetof(eqs_group_settings, weight_decay), 0},
    [EQS_SETTING_BETA] = {offsetof(eqs_group_settings, beta), EQS_KEY_BETA},
    [EQS_SETTING_BETA1] = {offsetof(eqs_group_settings, beta1), EQS_KEY_BETAS},
    [EQS_SETTING_BETA2] = {offsetof(eqs_group_settings, beta2), EQS_KEY_BETAS},
    [EQS_SETTING_ALPHA] = {offsetof(eqs_group_settings, alpha), EQS_KEY_ALPHA},
    [EQS_SETTING_EPS] = {offsetof(eqs_group_settings, eps), EQS_KEY_EPS},
};

/* Beyond it a float32 overflows. */
static const double largest = 1e30;

eqs_status eqs_settings_create(const eqs_config *config, eqs_settings **settings)
{
  eqs_status status = eqs_allocate(settings, eqs_settings_bytes(config->groups), 1);
  if (status != EQS_OK) return status;
  (*settings)->gradient_scale = 1;
  for (int g = 0; g < config->groups; g++) {
    const eqs_rule_options *options = &config->group[g].options;
    (*settings)->group[g] = (eqs_group_settings){.lr = config->group[g].lr,
                                                 .weight_decay = options->weight_decay,
                                                 .beta = options->beta,
                                                 .beta1 = options->betas[0],
                                                 .beta2 = options->betas[1],
                                                 .alpha = options->alpha,
                                                 .eps = options->eps};
  }
  return EQS_OK;
}

bool eqs_setting_used(const eqs_rule_options *options, eqs_setting setting)
{
  if (setting == EQS_SETTING_BETA && options->momentum == EQS_MOMENTUM_NONE) return false;
  return settings_table[setting].key == 0 || (options->rule->keys & settings_table[setting].key) != 0;
}

double eqs_setting_get(const eqs_group_settings *group, eqs_setting setting)
{
  double value;
  memcpy(&value, (const char *)group + settings_table[setting].offset, sizeof value);
  return value;
}

/* What a value must be, or NULL if it is. */
static const char *range_missed(const eqs_rule_options *options, eqs_setting setting, double value)
{
  switch (setting) {
  case EQS_SETTING_BETA:
  case EQS_SETTING_BETA1:
  case EQS_SETTING_BETA2: return value >= 0 && value < 1 ? NULL : "at least 0 and below 1";
  case EQS_SETTING_EPS: return value > 0 && value < largest ? NULL : "positive and below 1e30";
  case EQS_SETTING_ALPHA:
    if ((value == 0) != (options->alpha == 0)) return options->alpha == 0 ? "0, as configured" : "positive";
    return value >= 0 && value < largest ? NULL : "at least 0 and below 1e30";
  default: return value >= 0 && value < largest ? NULL : "at least 0 and below 1e30";
  }
}

eqs_status eqs_setting_set(const eqs_rule_options *options, eqs_group_settings *group, eqs_setting setting,
                           double value)
{
  const char *name = eqs_setting_names[setting];
  if (!eqs_setting_used(options, setting)) {
    if (setting == EQS_SETTING_BETA && (options->rule->keys & EQS_KEY_BETA))
      return eqs_fail(EQS_USAGE, "%s is not used with momentum none", name);
    return eqs_fail(EQS_USAGE, "%s is not used by rule %s", name, options->rule->name);
  }
  const char *range = range_missed(options, setting, value);
  if (range != NULL) return eqs_fail(EQS_USAGE, "%s must be %s, is %g", name, range, value);
  memcpy((char *)group + settings_table[setting].offset, &value, sizeof value);
  return EQS_OK;
}

void eqs_settings_apply(const eqs_group_settings *group, eqs_rule_options *options)
{
  options->weight_decay = group->weight_decay;
  options->beta = group->beta;
  options->betas[0] = group->beta1;
  options->betas[1] = group->beta2;
  options->alpha = group->alpha;
  options->eps = group->eps;
}

/* ----- in a checkpoint: [{"rule": "muon", "lr": [configured, in force], ...}, ...], an element for every group -----
 */

static json_t *describe_group(const eqs_rule_options *options, const eqs_group_settings *configured,
                              const eqs_group_settings *in_force)
{
  json_t *group = json_pack("{s:s}", "rule", options->rule->name);
  for (int s = 0; s < EQS_GROUP_SETTINGS; s++)
    if (eqs_setting_used(options, (eqs_setting)s))
      json_object_set_new(
          group, eqs_setting_names[s],
          json_pack("[f,f]", eqs_setting_get(configured, (eqs_setting)s), eqs_setting_get(in_force, (eqs_setting)s)));
  return group;
}

eqs_status eqs_settings_write(const eqs_config *config, const eqs_settings *settings, char **text)
{
  eqs_status status = EQS_OK;
  eqs_settings *configured = NULL;
  json_t *groups = json_array();
  EQS_TRY(eqs_settings_create(config, &configured));
  for (int g = 0; g < config->groups; g++)
    json_array_append_new(groups,
                          describe_group(&config->group[g].options, &configured->group[g], &settings->group[g]));
  *text = json_dumps(groups, JSON_COMPACT);
  if (*text == NULL) status = eqs_fail(EQS_FAILED, "out of memory: the settings of the groups");
cleanup:
  json_decref(groups);
  free(configured);
  return status;
}

/* One setting of a group: as it was configured and in force when the checkpoint was written. */
static eqs_status restore_setting(const eqs_config *config, int g, eqs_setting setting, const json_t *pair, bool speaks,
                                  eqs_group_settings *settings)
{
  const eqs_rule_options *options = &config->group[g].options;
  double now = eqs_setting_get(settings, setting);
  if (!json_is_array(pair) || json_array_size(pair) != 2 || !json_is_number(json_array_get(pair, 0)) ||
      !json_is_number(json_array_get(pair, 1)))
    return eqs_fail(EQS_DAMAGED, "the checkpoint's %s of group %d is not a pair of numbers", eqs_setting_names[setting],
                    g);
  double configured = json_number_value(json_array_get(pair, 0)), in_force = json_number_value(json_array_get(pair, 1));
  if (configured == now && eqs_setting_set(options, settings, setting, in_force) != EQS_OK)
    return eqs_fail_in(EQS_DAMAGED, "the checkpoint's settings of group %d", g);
  if (configured == now) return EQS_OK;
  if (in_force != configured && speaks)
    eqs_log(EQS_LOG_WARNING,
            "%s:%d: %s was configured as %g when the checkpoint was written, and was %g then; it is %g from now on",
            config->group[g].file, config->group[g].line, eqs_setting_names[setting], configured, in_force, now);
  return EQS_OK;
}

static eqs_status restore_group(const eqs_config *config, int g, const json_t *group, bool speaks,
                                eqs_group_settings *settings)
{
  eqs_status status = EQS_OK;
  const char *rule = json_string_value(json_object_get(group, "rule"));
  if (rule == NULL || strcmp(rule, config->group[g].options.rule->name) != 0) return EQS_OK; /* another group */
  for (int s = 0; s < EQS_GROUP_SETTINGS; s++) {
    const json_t *pair = json_object_get(group, eqs_setting_names[s]);
    if (pair == NULL || !eqs_setting_used(&config->group[g].options, (eqs_setting)s)) continue;
    EQS_TRY(restore_setting(config, g, (eqs_setting)s, pair, speaks, settings));
  }
cleanup:
  return status;
}

eqs_status eqs_settings_read(const eqs_config *config, const char *text, size_t size, const int *restored_group,
                             bool speaks, eqs_settings *settings)
{
  eqs_status status = EQS_OK;
  json_t *groups = json_loadb(text, size, 0, NULL);
  if (!json_is_array(groups)) {
    status = eqs_fail(EQS_DAMAGED, "the checkpoint's settings of the groups are not a list");
    goto cleanup;
  }
  for (int g = 0; g < config->groups; g++)
    if (restored_group[g] >= 0)
      EQS_TRY(restore_group(config, g, json_array_get(groups, (size_t)restored_group[g]), speaks, &settings->group[g]));
cleanup:
  json_decref(groups);
  return status;
}
