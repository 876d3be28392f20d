/*
 * The small side of a matrix X (m×n on a grid, float32): its smaller Gram matrix and polynomials of that, k×k symmetric
 * matrices that commute, and their products with X. They are M[0] ... M[count - 1].
 *
 * Two ways to hold them:
 * - replicated: every host of the grid has one copy of each, and each rank computes an equal part of the triangle; X
 * lies in slabs along its long side (P×1 with XᵀX, 1×P with XXᵀ, 1×1), to which it is moved from another grid and back;
 * - distributed: block-cyclic on X's own grid, by PBLAS. Takes whole products where the other takes halves, but neither
 *   memory nor messages of order k² per rank: for grids of many ranks.
 *
 * All functions are collective over X's grid. The same input on the same grid gives the same bits.
 */
#ifndef EQS_DIST_SYMMETRIC_SET_H
#define EQS_DIST_SYMMETRIC_SET_H

#include "dist/product.h"
#include "dist/speeds.h"

typedef struct eqs_symmetric_set eqs_symmetric_set;

enum { eqs_symmetric_set_max = 5 };

/*
 * Begin work on X; it must not be touched until eqs_symmetric_set_close.
 *
 * op     [in] EQS_AS_IS: XXᵀ, k = m; EQS_TRANSPOSED: XᵀX, k = n. The Gram matrix of the smaller side is meant
 * count  [in] how many matrices, 1 ... eqs_symmetric_set_max; not initialised
 */
eqs_status eqs_symmetric_set_open(eqs_matrix *x, eqs_operation op, int count, eqs_symmetric_set **set);

/* X is what eqs_symmetric_set_apply made of it, unless a call failed. Sets *set to NULL. */
eqs_status eqs_symmetric_set_close(eqs_symmetric_set **set);

/* M[to] <- alpha G + shift I, G the Gram matrix of X as it is now. */
eqs_status eqs_symmetric_set_gram(eqs_symmetric_set *set, double alpha, double shift, int to);

/*
 * M[to] <- alpha M[a]ᵀ M[b] + beta M[addend] + shift I, which is symmetric but for rounding: one
 * triangle is computed and mirrored.
 *
 * addend  [in] may be -1: none
 * to      [in] another than a, b and addend
 */
eqs_status eqs_symmetric_set_multiply(eqs_symmetric_set *set, double alpha, int a, int b, double beta, int addend,
                                      double shift, int to);

/* M[to] <- M[a] M[b], all of it: it need not be symmetric. to is another than a and b. */
eqs_status eqs_symmetric_set_multiply_whole(eqs_symmetric_set *set, int a, int b, int to);

/* M[to] <- beta M[from] + M[addend] + shift I; to may be from or addend, addend -1: none. */
eqs_status eqs_symmetric_set_combine(eqs_symmetric_set *set, double beta, int from, int addend, double shift, int to);

/* ||M[i]||_F */
eqs_status eqs_symmetric_set_norm(eqs_symmetric_set *set, int i, double *norm);

/*
 * X <- alpha M[q] X (EQS_AS_IS) or alpha X M[q].
 *
 * dot  [out] <X before, X after>, summed in float64; may be NULL
 */
eqs_status eqs_symmetric_set_apply(eqs_symmetric_set *set, double alpha, int q, double *dot);

/*
 * Whether the set of a k×k Gram matrix is replicated: always on grids that lie along the long side, else (and for
 * the plan's choice of a grid) where that is predicted to be faster for `ranks` ranks, `l` the long side.
 */
bool eqs_symmetric_set_replicated(const eqs_grid *grid, eqs_operation op, int64_t k, int64_t l);

/* For tests and benchmarks: hold sets in one way from now on, whatever is predicted. The same on all ranks. */
typedef enum {
  EQS_SYMMETRIC_SET_AS_PREDICTED,
  EQS_SYMMETRIC_SET_REPLICATED,
  EQS_SYMMETRIC_SET_DISTRIBUTED
} eqs_symmetric_set_choice;
void eqs_symmetric_set_choose(eqs_symmetric_set_choice choice);

/*
 * Predicted seconds of one product in a set on `ranks` ranks, half of which is computed where it is replicated,
 * the exchange of the parts included.
 */
double eqs_symmetric_set_seconds(const eqs_speeds *speeds, bool replicated, int ranks, int64_t k);

/* Predicted seconds of moving a k×l matrix to slabs and back. */
double eqs_slab_seconds(const eqs_speeds *speeds, int ranks, int64_t k, int64_t l);

/*
 * Bytes of workspace that a rank needs for a set of `count` matrices of order k beside its X: what is kept from call to
 * call (of memory that a host's ranks share, its share where all are on one host), and what is freed.
 */
void eqs_symmetric_set_workspace(const eqs_grid *grid, eqs_operation op, int64_t k, int64_t l, int count, int64_t *kept,
                                 int64_t *freed);

#endif
