/*
 * Settings: the numbers of a step that a program may change between steps. They travel with the step's gradients, so
 * that owners can update a parameter before the trainers announce the step. All members are doubles: the block is sent
 * as it lies in memory.
 */
#ifndef EQS_OPTIMIZER_SETTINGS_H
#define EQS_OPTIMIZER_SETTINGS_H

#include "model/config.h"

/* Of a parameter group; what its rule does not have stays as it is. */
typedef struct {
  double lr, weight_decay, beta, beta1, beta2, alpha, eps;
} eqs_group_settings;

typedef struct {
  double gradient_scale; /* gradients come multiplied by this; 1 at first */
  double max_norm;       /* of this step's gradient, besides `clip_grad_norm`; 0: no limit */
  double defer_updates;  /* 1: nothing is updated before all gradients of the step are there */
  eqs_group_settings group[];
} eqs_settings;

/* Bytes of the settings of so many groups; a multiple of sizeof(double). */
static inline int64_t eqs_settings_bytes(int groups)
{
  return (int64_t)sizeof(eqs_settings) + groups * (int64_t)sizeof(eqs_group_settings);
}

/* The configuration's; `settings` is allocated, free with free(). */
eqs_status eqs_settings_create(const eqs_config *config, eqs_settings **settings);

typedef enum {
  EQS_SETTING_LR,
  EQS_SETTING_WEIGHT_DECAY,
  EQS_SETTING_BETA,  /* β or μ of the momentum */
  EQS_SETTING_BETA1, /* adamw */
  EQS_SETTING_BETA2,
  EQS_SETTING_ALPHA,
  EQS_SETTING_EPS,
  EQS_GROUP_SETTINGS
} eqs_setting;

/* Names, indexed by the enum: "lr", "weight_decay", ... */
extern const char *const eqs_setting_names[EQS_GROUP_SETTINGS];

/* Whether a rule with these options has the setting. */
bool eqs_setting_used(const eqs_rule_options *options, eqs_setting setting);

double eqs_setting_get(const eqs_group_settings *group, eqs_setting setting);

/*
 * Set one. options are the group's as configured. EQS_USAGE: the rule does not have it, or not with this value; the
 * message begins with the setting's name. alpha does not change between 0 and other values: whether ν is needed is part
 * of the plan.
 */
eqs_status eqs_setting_set(const eqs_rule_options *options, eqs_group_settings *group, eqs_setting setting,
                           double value);

/*
 * Settings in force beside those configured, as the text of a checkpoint's item (JSON), and back. What the
 * configuration still says as it did takes the value that was in force; what it says otherwise stays, and is a warning
 * (`speaks`) where the value in force had been another than the one configured. A text that cannot be read is
 * EQS_DAMAGED. restored_group: the number in
 * the text of every group; -1: none.
 */
eqs_status eqs_settings_write(const eqs_config *config, const eqs_settings *settings, char **text);
eqs_status eqs_settings_read(const eqs_config *config, const char *text, size_t size, const int *restored_group,
                             bool speaks, eqs_settings *settings);

/* Options with the group's settings in the place of those configured. */
void eqs_settings_apply(const eqs_group_settings *group, eqs_rule_options *options);

#endif
