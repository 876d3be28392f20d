/* The states that frozen parameters keep. */
#ifndef EQS_OPTIMIZER_FROZEN_H
#define EQS_OPTIMIZER_FROZEN_H

#include "optimizer/optimizer.h"

/*
 * Have a frozen parameter keep states of these names, zeros for now, and these attributes, instead of what it keeps.
 * At most EQS_MAX_KEPT states. Not collective. Forget: keep nothing.
 */
eqs_status eqs_optimizer_keep(eqs_optimizer *optimizer, int64_t p, int states, const char *const *name, int attributes,
                              const eqs_attribute *attribute);
void eqs_optimizer_forget_kept(eqs_optimizer *optimizer, int64_t p);

#endif
