/* A step of the optimizer, whole or in pieces. */
#ifndef EQS_OPTIMIZER_STEP_H
#define EQS_OPTIMIZER_STEP_H

#include "optimizer/optimizer.h"

/*
 * A step in pieces, so that parameters can be updated while gradients of others are still on their way:
 *
 *     begin            settings are set before a parameter is measured
 *     measure           every present parameter, when this owner's part of its gradient is complete
 *     agree            after all measurements: presence of gradients, their norm, non-finite values
 *     update           every matrix of a present parameter that this owner has a shard of: after agree; or after the
 *                      measure, where neither clipping nor `on_nonfinite: skip` needs the other gradients, and all
 *                      members of the matrix's grid know that the parameter is present
 *     end              after all updates, unless the step is skipped
 *
 * The bits of the result do not depend on the order of measurements and updates.
 *
 * trainers  [in] how many contributions EQS_PARTIAL gradients are the sum of (`reduce: mean`)
 */
void eqs_optimizer_begin(eqs_optimizer *optimizer, int trainers);

/* Not collective. */
void eqs_optimizer_measure_gradient(eqs_optimizer *optimizer, int64_t p);

/*
 * Set gradient_norm alone, after all measurements: for who wants to know it before the step is agreed on. Collective.
 */
eqs_status eqs_optimizer_norm(eqs_optimizer *optimizer);

/* What a program's max_norm multiplies a gradient of a norm by: torch.nn.utils.clip_grad_norm_'s formula. */
double eqs_clip_coefficient(double norm, double max_norm);

/*
 * Collective. With `on_nonfinite: skip` the step is skipped, too, where its updates would overflow.
 * Sets gradient_norm, clip_coefficient, skipped_last, and `present` alike on all owners.
 * EQS_FAILED: a non-finite gradient and `on_nonfinite: error`.
 */
eqs_status eqs_optimizer_agree(eqs_optimizer *optimizer);

/*
 * The updates that waited for ν, diagnostics, counts. Collective. EQS_FAILED: state or a weight has overflown, with
 * step, parameter and which.
 */
eqs_status eqs_optimizer_end(eqs_optimizer *optimizer);

/*
 * All of it at once, with the gradients in `gradient` of the parameters that are `present` (of this owner's
 * matrices; owners need not agree on it before).
 *
 * Collective. EQS_FAILED: a non-finite gradient and `on_nonfinite: error`; nothing was changed but gradients.
 */
eqs_status eqs_optimizer_step(eqs_optimizer *optimizer, int trainers);

#endif
