/*
 * Matrices in block-cyclic distribution. A rank's shard is local_rows × local_cols, row-major, without gaps.
 * All functions are called by the members of the grid only, and are collective over them unless
 * they say otherwise. Sums accumulate in float64 and have the same bits on all members.
 */
#ifndef EQS_DIST_MATRIX_H
#define EQS_DIST_MATRIX_H

#include <string.h>

#include "dist/block_cyclic.h"
#include "dist/grid.h"

typedef enum { EQS_ELEMENT_FLOAT, EQS_ELEMENT_DOUBLE } eqs_element;

typedef struct {
  const eqs_grid *grid; /* borrowed */
  eqs_distribution distribution;
  eqs_element element;
  int64_t local_rows, local_cols;
  void *data;
  bool owns_data;
} eqs_matrix;

/* Bytes of one element. */
size_t eqs_element_size(eqs_element element);

/*
 * Make a matrix of zeros. Blocks are at least 1; grid_rows and grid_cols of the distribution are those of grid.
 * Not collective.
 */
eqs_status eqs_matrix_create(const eqs_grid *grid, int64_t rows, int64_t cols, int64_t row_block, int64_t col_block,
                             eqs_element element, eqs_matrix *matrix);

/* A matrix of the same distribution and grid, not initialised. Not collective. */
eqs_status eqs_matrix_create_like(const eqs_matrix *model, eqs_element element, eqs_matrix *matrix);

/* Free the shard. Safe on a zeroed struct and twice. Not collective. */
void eqs_matrix_destroy(eqs_matrix *matrix);

/* The shard, as what it is. */
static inline float *eqs_floats(const eqs_matrix *matrix)
{
  return matrix->data;
}
static inline double *eqs_doubles(const eqs_matrix *matrix)
{
  return matrix->data;
}

/* Element-wise, float or double, on matrices of one distribution. Not collective. */
void eqs_matrix_copy(const eqs_matrix *from, eqs_matrix *to); /* converts the element type */
void eqs_matrix_scale(eqs_matrix *x, double factor);
void eqs_matrix_combine(double a, const eqs_matrix *x, double b,
                        eqs_matrix *y); /* y <- a x + b y; b = 0 does not read y */

/*
 * Magnitudes of float32 numbers as integers, which are in the same order: those of numbers that are not finite come
 * last. So a pass over memory can find the largest on the way, and with it whether all are finite.
 */
static inline uint32_t eqs_magnitude(float number)
{
  uint32_t bits;
  memcpy(&bits, &number, sizeof bits);
  return bits & 0x7fffffff;
}
static inline bool eqs_magnitude_finite(uint32_t magnitude)
{
  return magnitude < 0x7f800000;
}
/* The number itself; infinity for those that are not finite. */
double eqs_magnitude_value(uint32_t magnitude);

/* The largest magnitude of this rank's shard, float32. Not collective. */
uint32_t eqs_matrix_largest(const eqs_matrix *x);

/* y <- a x + b y, float32; *largest becomes the largest magnitude of y if that is larger. Not collective. */
void eqs_matrix_update(double a, const eqs_matrix *x, double b, eqs_matrix *y, uint32_t *largest);

/*
 * m <- keep m + take g;  d <- of_g g + of_m m. In one pass, float32 matrices and arithmetic; d may be g. *largest as
 * above, of m.
 */
typedef struct {
  double keep, take, of_g, of_m;
} eqs_momentum_coefficients;
void eqs_matrix_momentum(eqs_momentum_coefficients factors, const eqs_matrix *g, eqs_matrix *m, eqs_matrix *d,
                         uint32_t *largest);

void eqs_matrix_add_identity(eqs_matrix *x, double a); /* x <- x + a I, square or not */

/* <x, y>, the sum of products; and ||x||_F. Collective. */
eqs_status eqs_matrix_dot(const eqs_matrix *x, const eqs_matrix *y, double *dot);
eqs_status eqs_matrix_norm(const eqs_matrix *x, double *norm);

/* Sum of products of two arrays, in float64. Not collective. */
double eqs_dot_floats(const float *x, const float *y, int64_t size);

/* Sum of squares of this rank's shard; not finite if an element is not. Not collective. */
double eqs_matrix_local_squares(const eqs_matrix *x);

/* Sum of squares of every local row over the whole row; `sums` has local_rows elements. Collective. */
eqs_status eqs_matrix_row_squares(const eqs_matrix *x, double *sums);

/* x <- diag(factors) x, `factors` for the local rows. Not collective. */
void eqs_matrix_scale_rows(eqs_matrix *x, const double *factors);

/* x <- x - 1 * mean over the rows, for every column: float64 sums. Collective. */
eqs_status eqs_matrix_center(eqs_matrix *x);

/*
 * The same in parts, for a matrix in blocks of rows: add the sums of the local columns of a block; make means of the
 * sums of all blocks (collective over the grid of x, of which only grid and distribution are read); subtract them from
 * a block's rows.
 */
void eqs_matrix_add_column_sums(const eqs_matrix *block, double *sums);
eqs_status eqs_matrix_finish_means(const eqs_matrix *x, double *sums);
void eqs_matrix_subtract_means(eqs_matrix *block, const double *means);

/* Local rows first ... end - 1 of a shard, borrowed, as a matrix for the element-wise and row-wise functions above. */
eqs_matrix eqs_matrix_rows(const eqs_matrix *x, int64_t first, int64_t end);

#endif
