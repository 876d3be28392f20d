/* What the tests of distributed matrices share: grids of every shape, and replicated copies of matrices. */
#ifndef EQS_TESTS_MATRICES_H
#define EQS_TESTS_MATRICES_H

#include "dist/context.h"
#include "dist/matrix.h"
#include "harness.h"

typedef struct {
  int first, rows, cols;
} test_grid_shape;

/*
 * Grids on the ranks of MPI_COMM_WORLD: 1×1 on the first and the last rank, P×1, 1×P, P×Q both ways, one
 * that leaves ranks idle. Returns how many; at most test_max_grids.
 */
enum { test_max_grids = 8 };
int test_grids(test_grid_shape shapes[test_max_grids]);

/* What is counted on MPI_COMM_WORLD, and what is made of it, from the first call on. */
const eqs_counts *test_counts(void);

/* The element (i, j) of a test matrix. */
typedef double test_element(int64_t i, int64_t j);

/* Set a matrix, or the members' part of it, to a function of the global indices; to a replicated row-major one. */
void test_fill(eqs_matrix *matrix, test_element *element);
void test_spread(const double *whole, eqs_matrix *matrix);

/* The whole matrix, row-major, on all members. Collective over the grid. To be freed. */
double *test_collect(const eqs_matrix *matrix);

/* rows × cols of doubles, zeroed. */
double *test_numbers(int64_t rows, int64_t cols);

/* Naive product of replicated matrices: m×k by k×n, a aᵀ of m×k. To be freed. */
double *test_multiply(const double *a, const double *b, int64_t m, int64_t k, int64_t n);
double *test_transpose(const double *a, int64_t m, int64_t n);

/* max |a - b|, and sqrt of the sum of squares of a - b, an upper bound of the 2-norm. */
double test_largest_difference(const double *a, const double *b, int64_t count);
double test_distance(const double *a, const double *b, int64_t count);

#endif
