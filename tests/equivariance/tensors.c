#include "equivariance/tensors.h"

#include <math.h>
#include <stdlib.h>

#include "distributed/matrices.h"

const test_tensor test_tensors[test_tensor_count] = {
    {EQS_LAYOUT_ROW, 0, 36, 14, 0},
    {EQS_LAYOUT_COL, 0, 10, 26, 0},
    {EQS_LAYOUT_HEADS_QKV, 0, 24, 20, 8},
    {EQS_LAYOUT_HEADS_O, 0, 20, 24, 8},
    {EQS_LAYOUT_GATE_UP_CONCAT_PAIR, 2, 18, 7, 0},
    {EQS_LAYOUT_GATE_UP_INTERLEAVED_PAIR, 2, 7, 18, 0},
    {EQS_LAYOUT_GATE_UP_CONCAT_SPLIT, 2, 48, 10, 0},
    {EQS_LAYOUT_GATE_UP_INTERLEAVED_SPLIT, 2, 10, 48, 0},
    {EQS_LAYOUT_ROW, 3, 15, 15, 0},
    {EQS_LAYOUT_COL, 3, 8, 20, 0},
};

static int64_t stack_size(const test_tensor *tensor)
{
  return tensor->stack > 0 ? tensor->stack : 1;
}

int64_t test_elements(const test_tensor *tensor)
{
  return stack_size(tensor) * tensor->rows * tensor->cols;
}

int64_t test_matrix_count(const test_tensor *tensor)
{
  switch (tensor->layout) {
  case EQS_LAYOUT_HEADS_QKV: return tensor->rows / tensor->head_dim;
  case EQS_LAYOUT_HEADS_O: return tensor->cols / tensor->head_dim;
  case EQS_LAYOUT_GATE_UP_CONCAT_SPLIT:
  case EQS_LAYOUT_GATE_UP_INTERLEAVED_SPLIT: return 2 * stack_size(tensor);
  default: return stack_size(tensor);
  }
}

int64_t test_matrix_rows(const test_tensor *tensor)
{
  switch (tensor->layout) {
  case EQS_LAYOUT_COL: return tensor->cols;
  case EQS_LAYOUT_HEADS_QKV: return tensor->head_dim;
  case EQS_LAYOUT_GATE_UP_CONCAT_SPLIT:
  case EQS_LAYOUT_GATE_UP_CONCAT_PAIR: return tensor->rows / 2;
  case EQS_LAYOUT_GATE_UP_INTERLEAVED_PAIR: return tensor->cols / 2;
  default: return tensor->rows;
  }
}

int64_t test_matrix_cols(const test_tensor *tensor)
{
  switch (tensor->layout) {
  case EQS_LAYOUT_COL: return tensor->rows;
  case EQS_LAYOUT_HEADS_O: return tensor->head_dim;
  case EQS_LAYOUT_GATE_UP_INTERLEAVED_SPLIT: return tensor->cols / 2;
  case EQS_LAYOUT_GATE_UP_CONCAT_PAIR: return 2 * tensor->cols;
  case EQS_LAYOUT_GATE_UP_INTERLEAVED_PAIR: return 2 * tensor->rows;
  default: return tensor->cols;
  }
}

/* Where element (i, j) of a matrix is in the tensor [e][row][col]. */
static int64_t place_of(const test_tensor *tensor, int64_t index, int64_t i, int64_t j)
{
  int64_t m = test_matrix_rows(tensor), n = test_matrix_cols(tensor), e = index, row = i, col = j;
  switch (tensor->layout) {
  case EQS_LAYOUT_COL: row = j, col = i; break;
  case EQS_LAYOUT_HEADS_QKV: e = 0, row = index * m + i; break;
  case EQS_LAYOUT_HEADS_O: e = 0, col = index * n + j; break;
  case EQS_LAYOUT_GATE_UP_CONCAT_SPLIT: e = index / 2, row = index % 2 * m + i; break;
  case EQS_LAYOUT_GATE_UP_INTERLEAVED_SPLIT: e = index / 2, col = 2 * j + index % 2; break;
  case EQS_LAYOUT_GATE_UP_CONCAT_PAIR: row = j / (n / 2) * m + i, col = j % (n / 2); break;
  case EQS_LAYOUT_GATE_UP_INTERLEAVED_PAIR: row = j % (n / 2), col = 2 * i + j / (n / 2); break;
  default: break;
  }
  return (e * tensor->rows + row) * tensor->cols + col;
}

double *test_take_matrix(const test_tensor *tensor, const double *numbers, int64_t index)
{
  int64_t m = test_matrix_rows(tensor), n = test_matrix_cols(tensor);
  double *matrix = test_numbers(m, n);
  for (int64_t i = 0; i < m; i++)
    for (int64_t j = 0; j < n; j++) matrix[i * n + j] = numbers[place_of(tensor, index, i, j)];
  return matrix;
}

void test_put_matrix(const test_tensor *tensor, double *numbers, int64_t index, const double *matrix)
{
  int64_t m = test_matrix_rows(tensor), n = test_matrix_cols(tensor);
  for (int64_t i = 0; i < m; i++)
    for (int64_t j = 0; j < n; j++) numbers[place_of(tensor, index, i, j)] = matrix[i * n + j];
}

double *test_make_tensor(const test_tensor *tensor, uint64_t seed, double largest, double condition, int64_t k)
{
  int64_t m = test_matrix_rows(tensor), n = test_matrix_cols(tensor);
  double *numbers = test_numbers(test_elements(tensor), 1);
  if (k > m) k = m;
  if (k > n) k = n;
  for (int64_t index = 0; index < test_matrix_count(tensor); index++) {
    double *matrix = test_numbers(m, n);
    for (int64_t i = 0; i < k; i++)
      matrix[i * n + i] = largest * pow(condition, k > 1 ? -(double)i / (double)(k - 1) : 0);
    test_move_matrix(TEST_ROTATE_ROWS | TEST_ROTATE_COLS, seed * 1000 + (uint64_t)index, m, n, matrix);
    test_put_matrix(tensor, numbers, index, matrix);
    free(matrix);
  }
  return numbers;
}

double *test_normals(int64_t count, uint64_t seed, double factor)
{
  double *numbers = test_numbers(count, 1);
  for (int64_t i = 0; i < count; i++) numbers[i] = factor * test_normal(seed, (uint64_t)i);
  return numbers;
}

static double dot(const double *a, const double *b, int64_t count)
{
  double sum = 0;
  for (int64_t i = 0; i < count; i++) sum += a[i] * b[i];
  return sum;
}

/* X <- (I - 2vvᵀ/vᵀv) X for m random v, orthogonal to the vector of ones if that is to stay. */
static void rotate_rows(bool beside_ones, uint64_t seed, int64_t m, int64_t n, double *X)
{
  for (int64_t reflection = 0; reflection < m; reflection++) {
    double *v = test_normals(m, seed * 4096 + (uint64_t)reflection, 1), mean = 0;
    for (int64_t i = 0; i < m; i++) mean += v[i] / (double)m;
    for (int64_t i = 0; i < m && beside_ones; i++) v[i] -= mean;
    double square = dot(v, v, m), *product = test_multiply(v, X, 1, m, n);
    for (int64_t i = 0; i < m && square > 1e-20; i++)
      for (int64_t j = 0; j < n; j++) X[i * n + j] -= 2 / square * v[i] * product[j];
    free(v);
    free(product);
  }
}

/* X <- X (I - 2vvᵀ/vᵀv) for n random v. */
static void rotate_cols(uint64_t seed, int64_t m, int64_t n, double *X)
{
  for (int64_t reflection = 0; reflection < n; reflection++) {
    double *v = test_normals(n, seed * 4096 + (uint64_t)reflection, 1), square = dot(v, v, n);
    for (int64_t i = 0; i < m; i++) {
      double product = dot(X + i * n, v, n);
      for (int64_t j = 0; j < n; j++) X[i * n + j] -= 2 / square * product * v[j];
    }
    free(v);
  }
}

/* Rows of `width` numbers, in another order (Fisher and Yates). */
static void permute(uint64_t seed, int64_t count, int64_t width, double *numbers)
{
  for (int64_t i = count - 1; i > 0; i--) {
    int64_t other = (int64_t)((test_uniform(seed, (uint64_t)i) + 1) / 2 * (double)(i + 1));
    for (int64_t j = 0; j < width; j++) {
      double kept = numbers[i * width + j];
      numbers[i * width + j] = numbers[other * width + j];
      numbers[other * width + j] = kept;
    }
  }
}

static void flip(uint64_t seed, int64_t count, int64_t width, double *numbers)
{
  for (int64_t i = 0; i < count; i++)
    for (int64_t j = 0; j < width && test_uniform(seed, (uint64_t)i) < 0; j++) numbers[i * width + j] *= -1;
}

void test_move_matrix(int moves, uint64_t seed, int64_t m, int64_t n, double *X)
{
  seed *= 8;
  for (int64_t i = 0; i < m && moves & TEST_SCALE_ROWS; i++)
    for (int64_t j = 0; j < n; j++) X[i * n + j] *= 2.5 + 1.5 * test_uniform(seed, (uint64_t)i);
  if (moves & TEST_ROTATE_ROWS) rotate_rows(false, seed + 1, m, n, X);
  if (moves & TEST_ROTATE_BESIDE_ONES) rotate_rows(true, seed + 2, m, n, X);
  if (moves & TEST_PERMUTE_ROWS) permute(seed + 3, m, n, X);
  if (moves & TEST_FLIP_ROWS) flip(seed + 4, m, n, X);
  if (moves & TEST_ROTATE_COLS) rotate_cols(seed + 5, m, n, X);
  for (int64_t i = 0; i < m && moves & TEST_SHIFT_ROWS; i++)
    for (int64_t j = 0; j < n; j++) X[i * n + j] += test_normal(seed + 6, (uint64_t)j);
}

void test_move_tensor(const test_tensor *tensor, int moves, uint64_t seed, double *numbers)
{
  for (int64_t index = 0; index < test_matrix_count(tensor); index++) {
    double *matrix = test_take_matrix(tensor, numbers, index);
    test_move_matrix(moves, seed * 1000 + (uint64_t)index, test_matrix_rows(tensor), test_matrix_cols(tensor), matrix);
    test_put_matrix(tensor, numbers, index, matrix);
    free(matrix);
  }
}

void test_move_elements(int64_t count, uint64_t seed, double *numbers)
{
  permute(8 * seed + 3, count, 1, numbers);
  flip(8 * seed + 4, count, 1, numbers);
}
