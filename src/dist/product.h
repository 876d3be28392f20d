/*
 * Products of distributed matrices: BLIS on a 1×1 grid, PBLAS elsewhere. All matrices of a call are on
 * one grid and of one element type; block sizes may differ. Collective over the grid's members.
 */
#ifndef EQS_DIST_PRODUCT_H
#define EQS_DIST_PRODUCT_H

#include "dist/matrix.h"

typedef enum { EQS_AS_IS, EQS_TRANSPOSED } eqs_operation;

/*
 * Make a k×k work matrix for x on x's grid: square blocks, small enough that no rank goes without where k allows
 * it. Not collective.
 */
eqs_status eqs_create_square(const eqs_matrix *x, int64_t k, eqs_element element, eqs_matrix *square);

/* c <- alpha op(a) op(b) + beta c; beta = 0 does not read c. */
eqs_status eqs_multiply(double alpha, eqs_operation op_a, const eqs_matrix *a, eqs_operation op_b, const eqs_matrix *b,
                        double beta, eqs_matrix *c);

/* c <- alpha aᵀ + beta c, float32, square with square blocks. */
eqs_status eqs_add_transpose(double alpha, const eqs_matrix *a, double beta, eqs_matrix *c);

/*
 * The Gram matrix, whole (both triangles), symmetric to rounding:
 * c <- alpha op(a) op(a)ᵀ: of the rows (EQS_AS_IS: a aᵀ) or of the columns (EQS_TRANSPOSED: aᵀ a).
 */
eqs_status eqs_gram(double alpha, eqs_operation op, const eqs_matrix *a, eqs_matrix *c);

/* The Gram matrix of an m×n matrix that has the smaller order, min(m, n); of a square one that of `if_square`. */
eqs_operation eqs_smaller_gram(int64_t m, int64_t n, eqs_operation if_square);

/* Floating-point operations of eqs_gram on a 1×1 grid: an n×n result, inner dimension k. */
double eqs_symmetric_product_flops(int64_t n, int64_t k);

#endif
