/* What stands in the place of a rule for parameters that are not trained: no state, no update, no work. */
#include "rules/rules.h"

static double flops(const eqs_rule_options *options, int64_t m, int64_t n)
{
  (void)options, (void)m, (void)n;
  return 0;
}

const eqs_rule eqs_rule_frozen = {.name = "frozen", .row_wise = true, .element_wise = true, .flops = flops};
