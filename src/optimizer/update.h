/*
 * One matrix in a step: gradient -> direction -> factor -> update -> weight (NUMERICS of a step, 4 to 6). Called for
 * matrices that this owner has a shard of; collective over the matrix's grid.
 */
#ifndef EQS_OPTIMIZER_UPDATE_H
#define EQS_OPTIMIZER_UPDATE_H

#include "optimizer/optimizer.h"

/* Whether ν of a parameter is the sum over several matrices, so that all factors come before the first update. */
bool eqs_shares_nu(const eqs_assignment *assignment);

/*
 * The whole step of a matrix that shares no ν. Rules that work row by row go through memory in blocks that a cache
 * holds: G is read, M and W are read and written, once (arithmetic on the way is cheap beside that).
 */
eqs_status eqs_update_matrix(eqs_optimizer *optimizer, int64_t p, int64_t i);

/*
 * Whether eqs_update_matrix of all matrices of a parameter goes row by row, so that it can measure the gradient on the
 * way (optimizer->measures_in_update): one pass over memory less.
 */
bool eqs_measures_in_update(const eqs_optimizer *optimizer, int64_t p);

/*
 * The same in two halves, between which ν is summed:
 * G -> D -> factor, in `gradient`, and the matrix's part of ν; the momentum and the rule's states are updated;
 * factor -> U, with matrix->findings as they count for the tensor;  W <- (1 - lr · weight_decay) W - lr U.
 */
eqs_status eqs_make_factor(eqs_optimizer *optimizer, int64_t p, int64_t i);
eqs_status eqs_update_weight(eqs_optimizer *optimizer, int64_t p, int64_t i);

#endif
