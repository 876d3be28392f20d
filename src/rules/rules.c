#include "rules/rules.h"

#include <stddef.h>

static const eqs_rule *const rules[] = {
    &eqs_rule_muon,     &eqs_rule_polar,  &eqs_rule_right_spectral, &eqs_rule_left_spectral,
    &eqs_rule_row_norm, &eqs_rule_hybrid, &eqs_rule_adamw,
};

enum { rule_count = sizeof rules / sizeof rules[0] };

const eqs_rule *eqs_rule_at(int index)
{
  return index < rule_count ? rules[index] : NULL;
}
