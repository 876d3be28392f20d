/* All rules, one source file each. */
#ifndef EQS_RULES_RULES_H
#define EQS_RULES_RULES_H

#include "rules/rule.h"

extern const eqs_rule eqs_rule_muon, eqs_rule_polar, eqs_rule_right_spectral, eqs_rule_left_spectral, eqs_rule_row_norm,
    eqs_rule_hybrid, eqs_rule_adamw;

/* Of parameters that are not trained: it has no state and does nothing. No group has it, and it is not in the table. */
extern const eqs_rule eqs_rule_frozen;

/* Rule 0, 1, ... of those that a configuration may name; NULL after the last. */
const eqs_rule *eqs_rule_at(int index);

#endif
