/*
 * Tensors and the matrices inside them, as the project's numerics define them and apart from the library's own views,
 * and what groups of transformations do to a matrix. All in float64, replicated, row-major; arrays are to be freed.
 */
#ifndef EQS_TESTS_TENSORS_H
#define EQS_TESTS_TENSORS_H

#include "model/layout.h"

/* stack × rows × cols as the trainer holds it; stack 0: two dimensions. */
typedef struct {
  eqs_tensor_layout layout;
  int64_t stack, rows, cols, head_dim;
} test_tensor;

/* One tensor for every layout, and stacks in the layouts that have both; matrices tall, wide and square. */
enum { test_tensor_count = 10 };
extern const test_tensor test_tensors[test_tensor_count];

int64_t test_elements(const test_tensor *tensor);

/* How many matrices, and their shape. */
int64_t test_matrix_count(const test_tensor *tensor);
int64_t test_matrix_rows(const test_tensor *tensor);
int64_t test_matrix_cols(const test_tensor *tensor);

/* A matrix out of a tensor, and into it. */
double *test_take_matrix(const test_tensor *tensor, const double *numbers, int64_t index);
void test_put_matrix(const test_tensor *tensor, double *numbers, int64_t index, const double *matrix);

/*
 * A tensor whose matrices have the singular values `largest` ... `largest`/condition, geometrically, for k of them (the
 * shorter side, if k is that or more), zeros beside, with random singular vectors; of seed alone.
 */
double *test_make_tensor(const test_tensor *tensor, uint64_t seed, double largest, double condition, int64_t k);

/* count normal numbers, times `factor`. */
double *test_normals(int64_t count, uint64_t seed, double factor);

/* What is done to a matrix X, in this order. Random, of the seed. */
enum {
  TEST_SCALE_ROWS = 1 << 0,         /* every row by a number from 1 to 4 */
  TEST_ROTATE_ROWS = 1 << 1,        /* PX, P orthogonal */
  TEST_ROTATE_BESIDE_ONES = 1 << 2, /* PX, P orthogonal with P1 = 1: the mean row stays */
  TEST_PERMUTE_ROWS = 1 << 3,
  TEST_FLIP_ROWS = 1 << 4,   /* rows times ±1 */
  TEST_ROTATE_COLS = 1 << 5, /* XQ, Q orthogonal */
  TEST_SHIFT_ROWS = 1 << 6,  /* X + 1vᵀ */
};
void test_move_matrix(int moves, uint64_t seed, int64_t m, int64_t n, double *X);

/* The same to all matrices of a tensor, another transformation each. */
void test_move_tensor(const test_tensor *tensor, int moves, uint64_t seed, double *numbers);

/* Any permutation of the elements, with signs. */
void test_move_elements(int64_t count, uint64_t seed, double *numbers);

#endif
