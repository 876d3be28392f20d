#include "matrices.h"

#include <math.h>
#include <stdlib.h>

int test_grids(test_grid_shape shapes[test_max_grids])
{
  int size = test_size(), count = 0;
  shapes[count++] = (test_grid_shape){0, 1, 1};
  if (size == 1) return count;
  shapes[count++] = (test_grid_shape){size - 1, 1, 1};
  shapes[count++] = (test_grid_shape){0, size, 1};
  shapes[count++] = (test_grid_shape){0, 1, size};
  if (size > 2) shapes[count++] = (test_grid_shape){1, size - 1, 1};
  if (size >= 4) {
    shapes[count++] = (test_grid_shape){0, 2, size / 2};
    shapes[count++] = (test_grid_shape){0, size / 2, 2};
  }
  return count;
}

double *test_numbers(int64_t rows, int64_t cols)
{
  double *numbers = calloc((size_t)(rows * cols + 1), sizeof *numbers);
  ck_assert_ptr_nonnull(numbers);
  return numbers;
}

static void set(eqs_matrix *matrix, int64_t place, double value)
{
  if (matrix->element == EQS_ELEMENT_FLOAT)
    eqs_floats(matrix)[place] = (float)value;
  else
    eqs_doubles(matrix)[place] = value;
}

static double get(const eqs_matrix *matrix, int64_t place)
{
  return matrix->element == EQS_ELEMENT_FLOAT ? (double)eqs_floats(matrix)[place] : eqs_doubles(matrix)[place];
}

static int64_t global_row(const eqs_matrix *matrix, int64_t i)
{
  return eqs_global_index(i, matrix->distribution.row_block, matrix->grid->row, matrix->grid->rows);
}

static int64_t global_col(const eqs_matrix *matrix, int64_t j)
{
  return eqs_global_index(j, matrix->distribution.col_block, matrix->grid->col, matrix->grid->cols);
}

const eqs_counts *test_counts(void)
{
  static eqs_counts counts;
  static const eqs_context context = {.counts = &counts};
  if (eqs_context_of(MPI_COMM_WORLD) != &context) ck_assert_ok(eqs_context_attach(MPI_COMM_WORLD, &context));
  return &counts;
}

void test_fill(eqs_matrix *matrix, test_element *element)
{
  for (int64_t i = 0; i < matrix->local_rows; i++)
    for (int64_t j = 0; j < matrix->local_cols; j++)
      set(matrix, i * matrix->local_cols + j, element(global_row(matrix, i), global_col(matrix, j)));
}

void test_spread(const double *whole, eqs_matrix *matrix)
{
  for (int64_t i = 0; i < matrix->local_rows; i++)
    for (int64_t j = 0; j < matrix->local_cols; j++)
      set(matrix, i * matrix->local_cols + j,
          whole[global_row(matrix, i) * matrix->distribution.cols + global_col(matrix, j)]);
}

double *test_collect(const eqs_matrix *matrix)
{
  int64_t rows = matrix->distribution.rows, cols = matrix->distribution.cols;
  double *whole = test_numbers(rows, cols);
  for (int64_t i = 0; i < matrix->local_rows; i++)
    for (int64_t j = 0; j < matrix->local_cols; j++)
      whole[global_row(matrix, i) * cols + global_col(matrix, j)] = get(matrix, i * matrix->local_cols + j);
  if (matrix->grid->comm != MPI_COMM_NULL)
    MPI_Allreduce(MPI_IN_PLACE, whole, (int)(rows * cols), MPI_DOUBLE, MPI_SUM, matrix->grid->comm);
  return whole;
}

double *test_multiply(const double *a, const double *b, int64_t m, int64_t k, int64_t n)
{
  double *c = test_numbers(m, n);
  for (int64_t i = 0; i < m; i++)
    for (int64_t l = 0; l < k; l++)
      for (int64_t j = 0; j < n; j++) c[i * n + j] += a[i * k + l] * b[l * n + j];
  return c;
}

double *test_transpose(const double *a, int64_t m, int64_t n)
{
  double *t = test_numbers(n, m);
  for (int64_t i = 0; i < m; i++)
    for (int64_t j = 0; j < n; j++) t[j * m + i] = a[i * n + j];
  return t;
}

double test_largest_difference(const double *a, const double *b, int64_t count)
{
  double largest = 0;
  for (int64_t i = 0; i < count; i++) {
    ck_assert_msg(isfinite(a[i]) && isfinite(b[i]), "element %lld is not finite", (long long)i);
    largest = fmax(largest, fabs(a[i] - b[i]));
  }
  return largest;
}

double test_distance(const double *a, const double *b, int64_t count)
{
  double sum = 0;
  for (int64_t i = 0; i < count; i++) {
    ck_assert_msg(isfinite(a[i]) && isfinite(b[i]), "element %lld is not finite", (long long)i);
    sum += (a[i] - b[i]) * (a[i] - b[i]);
  }
  return sqrt(sum);
}
