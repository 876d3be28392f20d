/* The diagnostics of a step as lines of the configuration's `metrics`. */
#ifndef EQS_OPTIMIZER_METRICS_H
#define EQS_OPTIMIZER_METRICS_H

#include "optimizer/optimizer.h"

/*
 * End a step: the first owner appends a line per present parameter to the file:
 *
 *     step, parameter, role, rule, lr     lr as in force, the schedule included
 *     gradient_norm, direction_norm       ||G|| over all trainers, before clipping; ||D||
 *     nu                                  ν(D), where the rule has it
 *     update_rms                          root of the mean square of U
 *     update_to_weight                    ||lr U|| / ||W||; null for W = 0
 *     orthogonality                       ||UᵀU - I||_F / √min(m, n) of the polar factor, root mean square over the
 *                                         parameter's matrices; where the rule's factor is a polar factor
 *     damping_share                       ε / (ε + mean eigenvalue of the smaller Gram matrix), or ε / (ε + median norm
 * of the rows that are not zero), the larger where a rule has both; mean over the parameter's matrices; where the rule
 * has such an ε. Above 1/2 ε decides row_norm_spread                     standard deviation over mean of the norms of
 * the rows of U skipped                             steps skipped so far
 *
 * Collective over the owners. EQS_IO: the file cannot be written.
 */
eqs_status eqs_metrics_write(eqs_optimizer *optimizer);

#endif
