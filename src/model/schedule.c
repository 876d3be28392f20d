#include "model/schedule.h"

#include <string.h>

const char *const eqs_schedule_names[EQS_SCHEDULES] = {"constant", "linear", "cosine", "wsd"};

enum { KIND, WARMUP, STEPS, DECAY, FINAL };
const char *const eqs_schedule_keys[EQS_SCHEDULE_KEYS] = {"kind", "warmup", "steps", "decay", "final"};

static eqs_status read_key(const eqs_yaml_pair *pair, bool given[EQS_SCHEDULE_KEYS], eqs_schedule *schedule)
{
  int key, kind = 0;
  eqs_status status = eqs_yaml_key(pair, "schedule", eqs_schedule_keys, EQS_SCHEDULE_KEYS, &key);
  if (status != EQS_OK) return status;
  given[key] = true;
  switch (key) {
  case KIND:
    status = eqs_yaml_read_choice(pair->value, "schedule kind", eqs_schedule_names, EQS_SCHEDULES, &kind);
    schedule->kind = (eqs_schedule_kind)kind;
    return status;
  case WARMUP: return eqs_yaml_read_integer(pair->value, "warmup", 0, INT64_C(1) << 40, &schedule->warmup);
  case STEPS: return eqs_yaml_read_integer(pair->value, "steps", 1, INT64_C(1) << 40, &schedule->steps);
  case DECAY: return eqs_yaml_read_integer(pair->value, "decay", 1, INT64_C(1) << 40, &schedule->decay);
  default: return eqs_yaml_read_number(pair->value, "final", EQS_RANGE_NOT_NEGATIVE, &schedule->final);
  }
}

/* What the kind needs, what it does not use, and whether the phases fit into the run. */
static eqs_status check(eqs_yaml_value at, const bool given[EQS_SCHEDULE_KEYS], const eqs_schedule *schedule)
{
  const char *kind = eqs_schedule_names[schedule->kind];
  bool constant = schedule->kind == EQS_SCHEDULE_CONSTANT, wsd = schedule->kind == EQS_SCHEDULE_WSD;
  if (!given[KIND]) return eqs_yaml_fail(at, "schedule needs a kind");
  if (!constant && !given[STEPS]) return eqs_yaml_fail(at, "schedule %s needs steps, the length of the run", kind);
  if (wsd && !given[DECAY]) return eqs_yaml_fail(at, "schedule wsd needs decay, the length of the decay at the end");
  if (!wsd && given[DECAY]) return eqs_yaml_fail(at, "schedule %s does not use decay; wsd does", kind);
  if (constant && given[FINAL]) return eqs_yaml_fail(at, "schedule constant does not use final");
  if (given[STEPS] && schedule->warmup + schedule->decay > schedule->steps)
    return eqs_yaml_fail(at, "schedule: warmup and decay are longer than steps, the length of the run");
  return EQS_OK;
}

eqs_status eqs_schedule_read(eqs_yaml_value value, eqs_schedule *schedule)
{
  eqs_status status = EQS_OK;
  eqs_yaml_mapping mapping = {0};
  bool given[EQS_SCHEDULE_KEYS] = {false};
  const char *word;
  *schedule = (eqs_schedule){0};
  if (value.node->type == YAML_SCALAR_NODE && eqs_yaml_read_text(value, "schedule", &word) == EQS_OK &&
      strcmp(word, "constant") == 0)
    return EQS_OK;
  EQS_TRY(eqs_yaml_read_mapping(value, "schedule", &mapping));
  for (int i = 0; i < mapping.count; i++) EQS_TRY(read_key(&mapping.pairs[i], given, schedule));
  EQS_TRY(check(value, given, schedule));
cleanup:
  eqs_yaml_mapping_free(&mapping);
  return status;
}
