/* U = every row of D over its norm, equivariant under permutations of the rows (arXiv 2605.18106). */
#include "rules/rules.h"
#include "rules/shared.h"

static eqs_status factor(const eqs_rule_options *options, int64_t step, eqs_matrix *states, eqs_matrix *d,
                         eqs_rule_findings *findings)
{
  (void)step, (void)states;
  return eqs_normalize_rows(options, d, findings);
}

static double flops(const eqs_rule_options *options, int64_t m, int64_t n)
{
  (void)options;
  return 3 * (double)m * (double)n;
}

const eqs_rule eqs_rule_row_norm = {
    .name = "row_norm",
    .about = "every row over its norm, for embeddings, routers and matrices whose rows are units",
    .keys = EQS_KEY_MOMENTUM | EQS_KEY_BETA | EQS_KEY_EPS | EQS_KEY_EPS_MODE | EQS_KEY_ROW_MODE | EQS_KEY_CENTER |
            EQS_KEY_SCALE | EQS_KEY_LAYOUT,
    .momentum = EQS_MOMENTUM_EMA,
    .center = true,
    .row_wise = true,
    .factor = factor,
    .update = eqs_update_by_nu,
    .flops = flops,
};
