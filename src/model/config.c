#include "model/config.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "model/group.h"
#include "model/wrappers.h"

enum { max_groups = 4096 };

enum {
  MODE,
  INCLUDE,
  DEFAULTS,
  ROLES,
  GROUPS,
  REDUCE,
  CLIP_GRAD_NORM,
  ON_NONFINITE,
  SCHEDULE,
  CHECKPOINT,
  METRICS,
  CALIBRATION,
  DEADLINE,
  KEYS
};
static const char *const keys[KEYS] = {"mode",    "include",        "defaults",     "roles",    "groups",
                                       "reduce",  "clip_grad_norm", "on_nonfinite", "schedule", "checkpoint",
                                       "metrics", "calibration",    "deadline"};

enum { DIRECTORY, EVERY, MINUTES, KEEP, KEEP_EVERY, PARTIAL, RENAME, ASYNC, CHECKPOINT_KEYS };
static const char *const checkpoint_keys[CHECKPOINT_KEYS] = {"directory",  "every",   "minutes", "keep",
                                                             "keep_every", "partial", "rename",  "async"};
enum { METRICS_PATH, METRICS_EVERY, METRICS_KEYS };
static const char *const metrics_keys[METRICS_KEYS] = {"path", "every"};

enum { ROLE, ROLE_TYPE, ROLE_STACKED, ROLE_KEYS };
static const char *const role_keys[ROLE_KEYS] = {"role", "type", "stacked"};

static const char *const modes[] = {"service", "embedded"}, *const reductions[] = {"mean", "sum"},
                         *const reactions[] = {"error", "skip"};

const eqs_name_list eqs_config_choices[EQS_CONFIG_CHOICES] = {
    {"mode", modes, 2},
    {"reduce", reductions, 2},
    {"on_nonfinite", reactions, 2},
    {"role", eqs_role_names, EQS_ROLES},
    {"kind", eqs_schedule_names, EQS_SCHEDULES},
};
const eqs_name_list eqs_config_mappings[EQS_CONFIG_MAPPINGS] = {
    {"configuration", keys, KEYS},
    {"checkpoint", checkpoint_keys, CHECKPOINT_KEYS},
    {"metrics", metrics_keys, METRICS_KEYS},
    {"roles", role_keys, ROLE_KEYS},
    {"schedule", eqs_schedule_keys, EQS_SCHEDULE_KEYS},
    {"match", eqs_match_keys, EQS_MATCH_KEYS},
    {"split", eqs_split_keys, EQS_SPLIT_KEYS},
};

/* What the files give for each key of the whole; `defaults`, `roles` and `groups` add up instead. */
typedef struct {
  bool given[KEYS], checkpoint[CHECKPOINT_KEYS], metrics[METRICS_KEYS];
  eqs_group_values defaults;
} settings;

/* Whether a key is given for the first time; it is from now on. */
static bool is_first(bool *given)
{
  bool first = !*given;
  *given = true;
  return first;
}

static eqs_status read_path(eqs_yaml_value value, const char *what, char **path)
{
  const char *text;
  eqs_status status = eqs_yaml_read_text(value, what, &text);
  if (status == EQS_OK && *text == '\0') status = eqs_yaml_fail(value, "%s is empty", what);
  return status == EQS_OK ? eqs_copy_text(path, text) : status;
}

/* How many steps, checkpoints or the like there can be. */
static const int64_t most = INT64_C(1) << 40;

static eqs_status read_checkpoint(eqs_yaml_value value, bool *given, eqs_config *config)
{
  const char *const *names = checkpoint_keys;
  eqs_status status = EQS_OK;
  eqs_yaml_mapping mapping;
  EQS_TRY(eqs_yaml_read_mapping(value, keys[CHECKPOINT], &mapping));
  for (int i = 0; i < mapping.count; i++) {
    int key;
    const eqs_yaml_pair *pair = &mapping.pairs[i];
    EQS_TRY(eqs_yaml_key(pair, keys[CHECKPOINT], names, CHECKPOINT_KEYS, &key));
    if (!is_first(&given[key])) continue;
    switch (key) {
    case DIRECTORY: EQS_TRY(read_path(pair->value, names[key], &config->checkpoint.directory)); break;
    case EVERY: EQS_TRY(eqs_yaml_read_integer(pair->value, names[key], 0, most, &config->checkpoint.every)); break;
    case MINUTES:
      EQS_TRY(eqs_yaml_read_number(pair->value, names[key], EQS_RANGE_POSITIVE, &config->checkpoint.minutes));
      break;
    case KEEP: EQS_TRY(eqs_yaml_read_integer(pair->value, names[key], 0, most, &config->checkpoint.keep)); break;
    case KEEP_EVERY:
      EQS_TRY(eqs_yaml_read_integer(pair->value, names[key], 0, most, &config->checkpoint.keep_every));
      break;
    case PARTIAL: EQS_TRY(eqs_yaml_read_boolean(pair->value, names[key], &config->checkpoint.partial)); break;
    case RENAME: EQS_TRY(eqs_renames_read(pair->value, &config->checkpoint.rename)); break;
    default: EQS_TRY(eqs_yaml_read_boolean(pair->value, names[key], &config->checkpoint.async)); break;
    }
  }
cleanup:
  eqs_yaml_mapping_free(&mapping);
  return status;
}

static eqs_status read_metrics(eqs_yaml_value value, bool *given, eqs_config *config)
{
  const char *const *names = metrics_keys;
  eqs_status status = EQS_OK;
  eqs_yaml_mapping mapping;
  EQS_TRY(eqs_yaml_read_mapping(value, keys[METRICS], &mapping));
  for (int i = 0; i < mapping.count; i++) {
    int key;
    const eqs_yaml_pair *pair = &mapping.pairs[i];
    EQS_TRY(eqs_yaml_key(pair, keys[METRICS], names, METRICS_KEYS, &key));
    if (!is_first(&given[key])) continue;
    if (key == METRICS_PATH)
      EQS_TRY(read_path(pair->value, names[key], &config->metrics.path));
    else
      EQS_TRY(eqs_yaml_read_integer(pair->value, names[key], 1, most, &config->metrics.every));
  }
cleanup:
  eqs_yaml_mapping_free(&mapping);
  return status;
}

/* ROLE, or {role: ROLE, type: CLASS, stacked: true}. */
static eqs_status read_role(eqs_yaml_value value, eqs_role_pattern *pattern)
{
  eqs_status status = EQS_OK;
  eqs_yaml_mapping mapping = {0};
  int role;
  if (!eqs_yaml_is_mapping(value)) {
    EQS_TRY(eqs_yaml_read_choice(value, "role", eqs_role_names, EQS_ROLES, &role));
    pattern->role = (eqs_role)role;
    return EQS_OK;
  }
  EQS_TRY(eqs_yaml_read_mapping(value, "an entry of roles", &mapping));
  for (int i = 0; i < mapping.count; i++) {
    const eqs_yaml_pair *pair = &mapping.pairs[i];
    const char *text;
    int key;
    EQS_TRY(eqs_yaml_key(pair, "an entry of roles", role_keys, ROLE_KEYS, &key));
    switch (key) {
    case ROLE:
      EQS_TRY(eqs_yaml_read_choice(pair->value, "role", eqs_role_names, EQS_ROLES, &role));
      pattern->role = (eqs_role)role;
      break;
    case ROLE_TYPE:
      EQS_TRY(eqs_yaml_read_text(pair->value, "type", &text));
      EQS_TRY(eqs_copy_text(&pattern->module_type, text));
      break;
    default: EQS_TRY(eqs_yaml_read_boolean(pair->value, "stacked", &pattern->stacked)); break;
    }
  }
  if (pattern->role == EQS_ROLES && !pattern->stacked)
    status = eqs_yaml_fail(value, "an entry of roles needs role, or stacked: true");
cleanup:
  eqs_yaml_mapping_free(&mapping);
  return status;
}

static eqs_status read_roles(eqs_yaml_value value, eqs_config *config)
{
  eqs_status status = EQS_OK;
  eqs_yaml_mapping mapping;
  EQS_TRY(eqs_yaml_read_mapping(value, "roles", &mapping));
  for (int i = 0; i < mapping.count; i++) {
    EQS_TRY(eqs_grow(&config->role_pattern, config->role_patterns, sizeof *config->role_pattern));
    eqs_role_pattern *pattern = &config->role_pattern[config->role_patterns++];
    *pattern = (eqs_role_pattern){.role = EQS_ROLES};
    EQS_TRY(read_role(mapping.pairs[i].value, pattern));
    if (strlen(mapping.pairs[i].name) > EQS_LONGEST_GLOB ||
        (pattern->module_type != NULL && strlen(pattern->module_type) > EQS_LONGEST_GLOB))
      EQS_TRY(eqs_yaml_fail(mapping.pairs[i].key, "roles: a pattern of more than %d characters", EQS_LONGEST_GLOB));
    EQS_TRY(eqs_copy_canonical_name(&pattern->glob, mapping.pairs[i].name));
  }
cleanup:
  eqs_yaml_mapping_free(&mapping);
  return status;
}

/* Read the value of one key; `groups` have to wait for all the rest. */
static eqs_status read_setting(int key, eqs_yaml_value value, settings *all, eqs_config *config)
{
  eqs_status status = EQS_OK;
  int choice = 0;
  if (key == DEFAULTS) return eqs_group_read_defaults(value, &all->defaults);
  if (key == ROLES) return read_roles(value, config);
  if (key == CHECKPOINT) return read_checkpoint(value, all->checkpoint, config);
  if (key == METRICS) return read_metrics(value, all->metrics, config);
  if (key == INCLUDE || key == GROUPS || !is_first(&all->given[key])) return EQS_OK;
  switch (key) {
  case MODE:
    status = eqs_yaml_read_choice(value, "mode", modes, 2, &choice);
    config->mode = (eqs_mode)choice;
    config->mode_given = true;
    return status;
  case REDUCE:
    status = eqs_yaml_read_choice(value, "reduce", reductions, 2, &choice);
    config->reduce_sum = choice;
    return status;
  case ON_NONFINITE:
    status = eqs_yaml_read_choice(value, "on_nonfinite", reactions, 2, &choice);
    config->skip_nonfinite = choice;
    return status;
  case CLIP_GRAD_NORM:
    if (eqs_yaml_is_null(value)) return EQS_OK;
    return eqs_yaml_read_number(value, keys[key], EQS_RANGE_POSITIVE, &config->clip_grad_norm);
  case SCHEDULE: return eqs_schedule_read(value, &config->schedule);
  case CALIBRATION: return read_path(value, keys[key], &config->calibration);
  default: return eqs_yaml_read_number(value, keys[key], EQS_RANGE_POSITIVE, &config->deadline);
  }
}

static eqs_status read_settings(eqs_yaml_file *file, settings *all, eqs_config *config, eqs_yaml_value *groups)
{
  eqs_status status = EQS_OK;
  eqs_yaml_mapping mapping = {0};
  eqs_yaml_value root = eqs_yaml_root(file);
  if (root.node == NULL) return eqs_yaml_fail(root, "the configuration is empty");
  EQS_TRY(eqs_yaml_read_mapping(root, "a configuration", &mapping));
  for (int i = 0; i < mapping.count; i++) {
    const eqs_yaml_pair *pair = &mapping.pairs[i];
    int key;
    EQS_TRY(eqs_yaml_key(pair, "a configuration", keys, KEYS, &key));
    EQS_TRY(read_setting(key, pair->value, all, config));
    if (key != GROUPS) continue;
    if (!eqs_yaml_is_list(pair->value)) EQS_TRY(eqs_yaml_fail(pair->value, "groups must be a list"));
    *groups = pair->value;
    if (file->path == config->file[0]) config->groups_line = eqs_yaml_line(pair->key);
  }
cleanup:
  eqs_yaml_mapping_free(&mapping);
  return status;
}

static eqs_status read_groups(eqs_yaml_value list, const settings *all, eqs_config *config)
{
  eqs_status status = EQS_OK;
  int length;
  if (list.node == NULL) return EQS_OK;
  EQS_TRY(eqs_yaml_list_length(list, "groups", max_groups, &length));
  for (int i = 0; i < length; i++) {
    EQS_TRY(eqs_grow(&config->group, config->groups, sizeof *config->group));
    eqs_group_config *group = &config->group[config->groups++];
    EQS_TRY(eqs_group_read(eqs_yaml_item(list, i), &all->defaults, &config->schedule, group));
    group->file = list.file->path;
  }
cleanup:
  return status;
}

static eqs_status copy_texts(const eqs_sources *sources, eqs_config *config)
{
  static const char between[] = "\n# included: ";
  eqs_status status = EQS_OK;
  size_t length = 1;
  EQS_TRY(eqs_allocate(&config->file, sources->count, sizeof *config->file));
  for (config->files = 0; config->files < sources->count; config->files++) {
    const eqs_source *source = &sources->sources[config->files];
    EQS_TRY(eqs_copy_text(&config->file[config->files], source->path));
    length += strlen(source->text) + strlen(source->path) + sizeof between + 1;
  }
  EQS_TRY(eqs_allocate_raw(&config->text, (int64_t)length, 1));
  char *end = stpcpy(config->text, sources->sources[0].text);
  for (int i = 1; i < sources->count; i++) {
    end = stpcpy(stpcpy(stpcpy(end, between), sources->sources[i].path), "\n");
    end = stpcpy(end, sources->sources[i].text);
  }
cleanup:
  return status;
}

static eqs_status create(const eqs_sources *sources, eqs_config **config)
{
  eqs_status status = eqs_allocate(config, 1, sizeof **config);
  if (status != EQS_OK) return status;
  (*config)->deadline = 1800;
  (*config)->checkpoint.keep = 3;
  (*config)->checkpoint.async = true;
  (*config)->metrics.every = 1;
  (*config)->groups_line = 1;
  return copy_texts(sources, *config);
}

eqs_status eqs_config_parse(const eqs_sources *sources, eqs_config **config)
{
  eqs_status status = EQS_OK;
  eqs_yaml_file *files = NULL;
  eqs_yaml_value *groups = NULL;
  settings all = {0};
  *config = NULL;
  if (sources->count < 1) return eqs_fail(EQS_USAGE, "there is no configuration");
  EQS_TRY(create(sources, config));
  (*config)->speeds = eqs_built_in_speeds;
  EQS_TRY(eqs_allocate(&files, sources->count, sizeof *files));
  EQS_TRY(eqs_allocate(&groups, sources->count, sizeof *groups));
  for (int i = 0; i < sources->count; i++) {
    EQS_TRY(eqs_yaml_load((*config)->file[i], sources->sources[i].text, &files[i]));
    EQS_TRY(read_settings(&files[i], &all, *config, &groups[i]));
  }
  for (int i = 0; i < sources->count; i++) EQS_TRY(read_groups(groups[i], &all, *config));
  if ((*config)->groups == 0)
    status = eqs_fail(EQS_USAGE, "%s:%d: the configuration has no groups", (*config)->file[0], (*config)->groups_line);
cleanup:
  for (int i = 0; files != NULL && i < sources->count; i++) eqs_yaml_unload(&files[i]);
  free(files);
  free(groups);
  if (status != EQS_OK) eqs_config_free(config);
  return status;
}

void eqs_config_free(eqs_config **config)
{
  eqs_config *freed = *config;
  if (freed == NULL) return;
  for (int i = 0; i < freed->files; i++) free(freed->file[i]);
  for (int i = 0; i < freed->groups; i++) eqs_group_free(&freed->group[i]);
  for (int i = 0; i < freed->role_patterns; i++) {
    free(freed->role_pattern[i].glob);
    free(freed->role_pattern[i].module_type);
  }
  free(freed->file);
  free(freed->group);
  free(freed->role_pattern);
  free(freed->checkpoint.directory);
  eqs_renames_free(&freed->checkpoint.rename);
  free(freed->metrics.path);
  free(freed->calibration);
  free(freed->text);
  free(freed);
  *config = NULL;
}
