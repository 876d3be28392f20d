/* Eigenvalues and eigenvectors: LAPACK on a 1×1 grid, ScaLAPACK elsewhere. Collective over the grid's members. */
#ifndef EQS_DIST_EIGEN_H
#define EQS_DIST_EIGEN_H

#include "dist/matrix.h"

/*
 * Eigenvalues (ascending, all of them on every member) and orthonormal eigenvectors of a symmetric float64
 * matrix with square blocks. On return the columns of `vectors` belong to `values`; a is destroyed.
 */
eqs_status eqs_symmetric_eigen(eqs_matrix *a, double *values, eqs_matrix *vectors);

/*
 * Floating-point operations of eqs_symmetric_eigen, about (LAPACK Users' Guide: 4/3 n³ to reduce, the rest for
 * vectors).
 */
double eqs_symmetric_eigen_flops(int64_t n);

#endif
