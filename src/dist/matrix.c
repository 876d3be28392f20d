#include "dist/matrix.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "dist/communicator.h"

static const char waiting_for[] = "the sums of the other ranks of a process grid";

size_t eqs_element_size(eqs_element element)
{
  return element == EQS_ELEMENT_FLOAT ? sizeof(float) : sizeof(double);
}

static int64_t local_size(const eqs_matrix *matrix)
{
  return matrix->local_rows * matrix->local_cols;
}

eqs_status eqs_matrix_create(const eqs_grid *grid, int64_t rows, int64_t cols, int64_t row_block, int64_t col_block,
                             eqs_element element, eqs_matrix *matrix)
{
  eqs_status status = EQS_OK;
  eqs_matrix new = {
      .grid = grid, .distribution = {rows, cols, row_block, col_block, grid->rows, grid->cols}, .element = element};
  if (rows < 0 || cols < 0 || row_block < 1 || col_block < 1)
    return eqs_fail(EQS_USAGE, "a %lldx%lld matrix in %lldx%lld blocks", (long long)rows, (long long)cols,
                    (long long)row_block, (long long)col_block);
  if (eqs_grid_member(grid)) {
    new.local_rows = eqs_local_count(rows, row_block, grid->row, grid->rows);
    new.local_cols = eqs_local_count(cols, col_block, grid->col, grid->cols);
  }
  int64_t size;
  if (!eqs_multiply_sizes(new.local_rows, new.local_cols, &size))
    return eqs_fail(EQS_USAGE, "a %lldx%lld matrix is too large", (long long)rows, (long long)cols);
  EQS_TRY(eqs_allocate(&new.data, size, eqs_element_size(element)));
  new.owns_data = true;
  *matrix = new;
cleanup:
  return status;
}

eqs_status eqs_matrix_create_like(const eqs_matrix *model, eqs_element element, eqs_matrix *matrix)
{
  eqs_status status = EQS_OK;
  eqs_matrix new = *model;
  new.element = element;
  new.data = NULL;
  EQS_TRY(eqs_allocate_raw(&new.data, local_size(model), eqs_element_size(element)));
  new.owns_data = true;
  *matrix = new;
cleanup:
  return status;
}

void eqs_matrix_destroy(eqs_matrix *matrix)
{
  if (matrix->owns_data) free(matrix->data);
  matrix->data = NULL;
  matrix->owns_data = false;
}

void eqs_matrix_copy(const eqs_matrix *from, eqs_matrix *to)
{
  int64_t size = local_size(from);
  if (from->element == to->element) {
    if (size > 0) memmove(to->data, from->data, (size_t)size * eqs_element_size(from->element));
  } else if (from->element == EQS_ELEMENT_FLOAT) {
    const float *source = eqs_floats(from);
    double *target = eqs_doubles(to);
    for (int64_t i = 0; i < size; i++) target[i] = source[i];
  } else {
    const double *source = eqs_doubles(from);
    float *target = eqs_floats(to);
    for (int64_t i = 0; i < size; i++) target[i] = (float)source[i];
  }
}

/* Within what float32 can hold without losing digits, or zero. */
static bool moderate(double factor)
{
  return factor == 0 || (fabs(factor) > 1e-30 && fabs(factor) < 1e30);
}

/* Factors stay float64 where they must: a float32 of 1e-20 may be scaled by 1e+40. */
static void scale_floats(double factor, float *values, int64_t size)
{
  if (moderate(factor)) {
    float scale = (float)factor;
    for (int64_t i = 0; i < size; i++) values[i] *= scale;
  } else {
    for (int64_t i = 0; i < size; i++) values[i] = (float)(values[i] * factor);
  }
}

void eqs_matrix_scale(eqs_matrix *x, double factor)
{
  int64_t size = local_size(x);
  if (x->element == EQS_ELEMENT_FLOAT) {
    scale_floats(factor, eqs_floats(x), size);
  } else {
    double *values = eqs_doubles(x);
    for (int64_t i = 0; i < size; i++) values[i] *= factor;
  }
}

/* Element i of all arrays depends on element i alone, so that they may be the same: `ivdep` says so. */
static void combine_floats(double a, const float *x, double b, float *y, int64_t size)
{
  if (b == 0) {
#pragma GCC ivdep
    for (int64_t i = 0; i < size; i++) y[i] = (float)(a * x[i]);
  } else if (b == 1 && moderate(a)) {
    float factor = (float)a;
#pragma GCC ivdep
    for (int64_t i = 0; i < size; i++) y[i] += factor * x[i];
  } else {
#pragma GCC ivdep
    for (int64_t i = 0; i < size; i++) y[i] = (float)(a * x[i] + b * y[i]);
  }
}

static void combine_doubles(double a, const double *x, double b, double *y, int64_t size)
{
  if (b == 0) {
    for (int64_t i = 0; i < size; i++) y[i] = a * x[i];
  } else {
    for (int64_t i = 0; i < size; i++) y[i] = a * x[i] + b * y[i];
  }
}

void eqs_matrix_combine(double a, const eqs_matrix *x, double b, eqs_matrix *y)
{
  if (x->element == EQS_ELEMENT_FLOAT)
    combine_floats(a, eqs_floats(x), b, eqs_floats(y), local_size(x));
  else
    combine_doubles(a, eqs_doubles(x), b, eqs_doubles(y), local_size(x));
}

static uint32_t larger(uint32_t a, uint32_t b)
{
  return a > b ? a : b;
}

double eqs_magnitude_value(uint32_t magnitude)
{
  float number;
  memcpy(&number, &magnitude, sizeof number);
  return eqs_magnitude_finite(magnitude) ? number : INFINITY;
}

uint32_t eqs_matrix_largest(const eqs_matrix *x)
{
  const float *values = eqs_floats(x);
  uint32_t largest = 0;
  int64_t size = local_size(x);
  for (int64_t i = 0; i < size; i++) largest = larger(largest, eqs_magnitude(values[i]));
  return largest;
}

void eqs_matrix_update(double a, const eqs_matrix *x, double b, eqs_matrix *y, uint32_t *largest)
{
  const float *from = eqs_floats(x);
  float *to = eqs_floats(y);
  uint32_t found = *largest;
  int64_t size = local_size(y);
  if (b == 1 && moderate(a)) {
    float factor = (float)a;
#pragma GCC ivdep
    for (int64_t i = 0; i < size; i++) {
      to[i] += factor * from[i];
      found = larger(found, eqs_magnitude(to[i]));
    }
  } else {
#pragma GCC ivdep
    for (int64_t i = 0; i < size; i++) {
      to[i] = (float)(a * from[i] + b * to[i]);
      found = larger(found, eqs_magnitude(to[i]));
    }
  }
  *largest = found;
}

static uint32_t momentum_floats(eqs_momentum_coefficients factors, const float *g, float *m, float *d, int64_t size)
{
  float keep = (float)factors.keep, take = (float)factors.take, of_g = (float)factors.of_g, of_m = (float)factors.of_m;
  uint32_t largest = 0;
#pragma GCC ivdep
  for (int64_t i = 0; i < size; i++) {
    float gradient = g[i], momentum = keep * m[i] + take * gradient;
    m[i] = momentum;
    d[i] = of_g * gradient + of_m * momentum;
    largest = larger(largest, eqs_magnitude(momentum));
  }
  return largest;
}

static uint32_t momentum_in_float64(eqs_momentum_coefficients factors, const float *g, float *m, float *d, int64_t size)
{
  uint32_t largest = 0;
  for (int64_t i = 0; i < size; i++) {
    double gradient = g[i], momentum = factors.keep * m[i] + factors.take * gradient;
    m[i] = (float)momentum;
    d[i] = (float)(factors.of_g * gradient + factors.of_m * momentum);
    largest = larger(largest, eqs_magnitude(m[i]));
  }
  return largest;
}

void eqs_matrix_momentum(eqs_momentum_coefficients factors, const eqs_matrix *g, eqs_matrix *m, eqs_matrix *d,
                         uint32_t *largest)
{
  bool in_float32 =
      moderate(factors.keep) && moderate(factors.take) && moderate(factors.of_g) && moderate(factors.of_m);
  *largest = larger(*largest, (in_float32 ? momentum_floats : momentum_in_float64)(
                                  factors, eqs_floats(g), eqs_floats(m), eqs_floats(d), local_size(g)));
}

void eqs_matrix_add_identity(eqs_matrix *x, double a)
{
  const eqs_distribution *distribution = &x->distribution;
  for (int64_t i = 0; i < x->local_rows; i++) {
    int64_t diagonal = eqs_global_index(i, distribution->row_block, x->grid->row, distribution->grid_rows);
    if (diagonal >= distribution->cols ||
        eqs_index_owner(diagonal, distribution->col_block, distribution->grid_cols) != x->grid->col)
      continue;
    int64_t place = i * x->local_cols + eqs_local_index(diagonal, distribution->col_block, distribution->grid_cols);
    if (x->element == EQS_ELEMENT_FLOAT)
      eqs_floats(x)[place] = (float)(eqs_floats(x)[place] + a);
    else
      eqs_doubles(x)[place] += a;
  }
}

/* In several partial sums, so that the compiler may vectorise without reordering, and additions need not wait for each
 * other. */
enum { lanes = 32 };

static double sum_of_lanes(double *sums)
{
  for (int half = lanes / 2; half > 0; half /= 2)
    for (int i = 0; i < half; i++) sums[i] += sums[i + half];
  return sums[0];
}

double eqs_dot_floats(const float *x, const float *y, int64_t size)
{
  double sums[lanes] = {0};
  int64_t whole = size / lanes * lanes;
  for (int64_t i = 0; i < whole; i += lanes)
    for (int lane = 0; lane < lanes; lane++) sums[lane] += (double)x[i + lane] * y[i + lane];
  for (int64_t i = whole; i < size; i++) sums[i - whole] += (double)x[i] * y[i];
  return sum_of_lanes(sums);
}

static double dot_doubles(const double *x, const double *y, int64_t size)
{
  double sums[lanes] = {0};
  int64_t whole = size / lanes * lanes;
  for (int64_t i = 0; i < whole; i += lanes)
    for (int lane = 0; lane < lanes; lane++) sums[lane] += x[i + lane] * y[i + lane];
  for (int64_t i = whole; i < size; i++) sums[i - whole] += x[i] * y[i];
  return sum_of_lanes(sums);
}

/* <x, y> of `size` elements from the same place of both shards on. */
static double local_dot(const eqs_matrix *x, const eqs_matrix *y, int64_t place, int64_t size)
{
  return x->element == EQS_ELEMENT_FLOAT ? eqs_dot_floats(eqs_floats(x) + place, eqs_floats(y) + place, size)
                                         : dot_doubles(eqs_doubles(x) + place, eqs_doubles(y) + place, size);
}

/* Sums over the ranks of a grid, or of its row or column; MPI_COMM_NULL on a 1×1 grid. */
static eqs_status sum_over(MPI_Comm comm, double *values, int64_t count)
{
  const int64_t piece = 1 << 27;
  eqs_status status = EQS_OK;
  if (comm == MPI_COMM_NULL) return EQS_OK;
  for (int64_t begin = 0; begin < count; begin += piece)
    EQS_TRY(eqs_sum(comm, values + begin, (int)(count - begin < piece ? count - begin : piece), waiting_for));
cleanup:
  return status;
}

eqs_status eqs_matrix_dot(const eqs_matrix *x, const eqs_matrix *y, double *dot)
{
  *dot = local_size(x) > 0 ? local_dot(x, y, 0, local_size(x)) : 0;
  return sum_over(x->grid->comm, dot, 1);
}

eqs_status eqs_matrix_norm(const eqs_matrix *x, double *norm)
{
  eqs_status status = eqs_matrix_dot(x, x, norm);
  *norm = sqrt(*norm);
  return status;
}

double eqs_matrix_local_squares(const eqs_matrix *x)
{
  return local_dot(x, x, 0, x->local_rows * x->local_cols);
}

eqs_status eqs_matrix_row_squares(const eqs_matrix *x, double *sums)
{
  for (int64_t i = 0; i < x->local_rows; i++)
    sums[i] = x->local_cols > 0 ? local_dot(x, x, i * x->local_cols, x->local_cols) : 0;
  return x->grid->cols > 1 ? sum_over(x->grid->row_comm, sums, x->local_rows) : EQS_OK;
}

void eqs_matrix_scale_rows(eqs_matrix *x, const double *factors)
{
  for (int64_t i = 0; i < x->local_rows; i++) {
    int64_t place = i * x->local_cols;
    if (x->element == EQS_ELEMENT_FLOAT)
      scale_floats(factors[i], eqs_floats(x) + place, x->local_cols);
    else
      for (int64_t j = 0; j < x->local_cols; j++) eqs_doubles(x)[place + j] *= factors[i];
  }
}

void eqs_matrix_add_column_sums(const eqs_matrix *block, double *sums)
{
  for (int64_t i = 0; i < block->local_rows; i++) {
    int64_t place = i * block->local_cols;
    if (block->element == EQS_ELEMENT_FLOAT)
      for (int64_t j = 0; j < block->local_cols; j++) sums[j] += eqs_floats(block)[place + j];
    else
      for (int64_t j = 0; j < block->local_cols; j++) sums[j] += eqs_doubles(block)[place + j];
  }
}

eqs_status eqs_matrix_finish_means(const eqs_matrix *x, double *sums)
{
  eqs_status status = EQS_OK;
  if (x->grid->rows > 1) EQS_TRY(sum_over(x->grid->col_comm, sums, x->local_cols));
  for (int64_t j = 0; j < x->local_cols; j++) sums[j] /= (double)x->distribution.rows;
cleanup:
  return status;
}

void eqs_matrix_subtract_means(eqs_matrix *block, const double *means)
{
  for (int64_t i = 0; i < block->local_rows; i++) {
    int64_t place = i * block->local_cols;
    if (block->element == EQS_ELEMENT_FLOAT)
      for (int64_t j = 0; j < block->local_cols; j++)
        eqs_floats(block)[place + j] = (float)(eqs_floats(block)[place + j] - means[j]);
    else
      for (int64_t j = 0; j < block->local_cols; j++) eqs_doubles(block)[place + j] -= means[j];
  }
}

eqs_status eqs_matrix_center(eqs_matrix *x)
{
  eqs_status status = EQS_OK;
  double *means = NULL;
  EQS_TRY(eqs_allocate(&means, x->local_cols, sizeof *means));
  eqs_matrix_add_column_sums(x, means);
  EQS_TRY(eqs_matrix_finish_means(x, means));
  eqs_matrix_subtract_means(x, means);
cleanup:
  free(means);
  return status;
}

eqs_matrix eqs_matrix_rows(const eqs_matrix *x, int64_t first, int64_t end)
{
  eqs_matrix rows = *x;
  rows.owns_data = false;
  rows.local_rows = end - first;
  if (x->data != NULL) rows.data = (char *)x->data + (size_t)(first * x->local_cols) * eqs_element_size(x->element);
  return rows;
}
