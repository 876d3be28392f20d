/* `schedule`: the learning rate as a multiple of `lr`, for jobs without a scheduler of their own. */
#ifndef EQS_MODEL_SCHEDULE_H
#define EQS_MODEL_SCHEDULE_H

#include "model/yaml.h"

typedef enum {
  EQS_SCHEDULE_CONSTANT,
  EQS_SCHEDULE_LINEAR,
  EQS_SCHEDULE_COSINE,
  EQS_SCHEDULE_WSD,
  EQS_SCHEDULES
} eqs_schedule_kind;

/* Names as in the configuration, indexed by the enum. */
extern const char *const eqs_schedule_names[EQS_SCHEDULES];

/* YAML: `schedule: {kind: cosine, warmup: 100, steps: 30000, decay: 12000, final: 0.1}` */
typedef struct {
  eqs_schedule_kind kind;
  int64_t warmup; /* steps from 0 to 1, linear */
  int64_t steps;  /* length of the run; required unless constant */
  int64_t decay;  /* wsd: length of the linear decay at the end */
  double final;   /* multiple at the end of the run; 0 */
} eqs_schedule;

/* Its keys. */
enum { EQS_SCHEDULE_KEYS = 5 };
extern const char *const eqs_schedule_keys[EQS_SCHEDULE_KEYS];

/* Read a mapping, or the word constant. */
eqs_status eqs_schedule_read(eqs_yaml_value value, eqs_schedule *schedule);

#endif
