/* The update of a parameter, whose matrices may have to wait for their common ν. */
#ifndef EQS_OPTIMIZER_UPDATE_PARAMETER_H
#define EQS_OPTIMIZER_UPDATE_PARAMETER_H

#include "optimizer/optimizer.h"

/* Update a matrix's weight; or only make its factor, where eqs_waits_for_nu. Collective over the matrix's grid. */
eqs_status eqs_optimizer_update(eqs_optimizer *optimizer, int64_t p, int64_t i);

/* Whether the parameter's weight is updated by eqs_update_waiting, because ν is a sum over several matrices. */
bool eqs_waits_for_nu(const eqs_optimizer *optimizer, int64_t p);

/* The updates of a parameter that waits for ν, after all factors: the matrices' sum, then weights. Collective. */
eqs_status eqs_update_waiting(eqs_optimizer *optimizer, int64_t p);

/* The same of all such parameters that are present, with one reduction. Collective over the owners. */
eqs_status eqs_update_all_waiting(eqs_optimizer *optimizer);

#endif
