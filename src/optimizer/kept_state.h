/* What a frozen parameter keeps of the checkpoint that was restored. */
#ifndef EQS_OPTIMIZER_KEPT_STATE_H
#define EQS_OPTIMIZER_KEPT_STATE_H

#include "base/attribute.h"

enum { EQS_MAX_STATES = 2, EQS_MAX_KEPT = EQS_MAX_STATES + 1 };

/* What a frozen parameter keeps of the checkpoint that was restored, to be written again: momentum, states, facts. */
typedef struct {
  int states;
  char *state_name[EQS_MAX_KEPT]; /* of eqs_owned_state 1, 2, ... */
  int attributes;
  eqs_attribute *attribute; /* names and texts allocated */
} eqs_kept_state;

void eqs_kept_state_free(eqs_kept_state *kept);

#endif
