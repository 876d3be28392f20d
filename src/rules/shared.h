/* What several rules share. */
#ifndef EQS_RULES_SHARED_H
#define EQS_RULES_SHARED_H

#include "rules/rule.h"

/*
 * The factor of the rules around polar factors: d <- its polar factor by the options' solver and side, damped by ε
 * where the rule's formula or the solver damps; ν is <D, factor>, 0 if the rule has no ν or α = 0.
 */
eqs_status eqs_factor_polar(const eqs_rule_options *options, int64_t step, eqs_matrix *states, eqs_matrix *d,
                            eqs_rule_findings *findings);

/* Every row of x over its norm (`row_mode`); a zero row stays zero. Collective over x's grid. */
eqs_status eqs_normalize_rows(const eqs_rule_options *options, eqs_matrix *x, eqs_rule_findings *findings);

/* scale <- shape factor · max(ν, ε)^α; u stays. The update of the rules that scale a polar factor by ν. */
eqs_status eqs_update_by_nu(const eqs_rule_options *options, eqs_rule_findings *findings, eqs_matrix *u, double *scale);

/* Operations of eqs_factor_polar on an m×n matrix. */
double eqs_factor_polar_flops(const eqs_rule_options *options, int64_t m, int64_t n);

#endif
