/* The gradient of a step as the rules see it, and the direction that momentum makes of it. */
#ifndef EQS_OPTIMIZER_GRADIENT_H
#define EQS_OPTIMIZER_GRADIENT_H

#include "optimizer/optimizer.h"

/*
 * What multiplies the sum of the trainers' contributions: their scale divided out, their mean taken, and the clip
 * factor of the step.
 */
double eqs_gradient_multiplier(const eqs_optimizer *optimizer, int64_t p);

/* What the options' momentum makes of f G: M and D. Not for polar_first, whose M is of factors, f = 1. */
eqs_momentum_coefficients eqs_momentum_coefficients_of(const eqs_rule_options *options, double f);

#endif
