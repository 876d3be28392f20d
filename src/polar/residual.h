/* How far a matrix is from orthogonal. */
#ifndef EQS_POLAR_RESIDUAL_H
#define EQS_POLAR_RESIDUAL_H

#include "dist/matrix.h"

/* ||UᵀU - I||_F / √min(m, n), on the smaller side: 0 for an exact polar factor of full rank. Collective. */
eqs_status eqs_orthogonality_residual(const eqs_matrix *u, double *residual);

#endif
