#include "dist/product.h"

#include "dist/scalapack.h"

/*
 * BLAS and PBLAS are column-major: a row-major matrix is the transpose there. So c = op(a) op(b) is asked for as
 * cᵀ = op(b)ᵀ op(a)ᵀ, and an operation keeps its letter.
 */

eqs_status eqs_create_square(const eqs_matrix *x, int64_t k, eqs_element element, eqs_matrix *square)
{
  const int64_t largest_block = 64;
  int side = x->grid->rows > x->grid->cols ? x->grid->rows : x->grid->cols;
  int64_t block = (k + side - 1) / side;
  if (block > largest_block) block = largest_block;
  if (block < 1) block = 1;
  return eqs_matrix_create(x->grid, k, k, block, block, element, square);
}

/* Below this order half of a symmetric product takes longer than the whole (BLIS 0.9: gemmt at 64). */
enum { smallest_half = 128 };

double eqs_symmetric_product_flops(int64_t n, int64_t k)
{
  return (n < smallest_half ? 2.0 : 1.0) * (double)n * (double)n * (double)k;
}

/* m×n = (m×k)(k×n), all in 32 bits, with leading dimensions. */
typedef struct {
  int m, n, k;
  int lda, ldb, ldc;
} product_shape;

static eqs_status leading_dimension(const eqs_matrix *matrix, int *value)
{
  return eqs_to_int(matrix->local_cols > 0 ? matrix->local_cols : 1, value);
}

static eqs_status shape_of_product(eqs_operation op_a, const eqs_matrix *a, eqs_operation op_b, const eqs_matrix *b,
                                   const eqs_matrix *c, product_shape *shape)
{
  eqs_status status = EQS_OK;
  int64_t m = op_a == EQS_AS_IS ? a->distribution.rows : a->distribution.cols,
          k = op_a == EQS_AS_IS ? a->distribution.cols : a->distribution.rows;
  int64_t n = op_b == EQS_AS_IS ? b->distribution.cols : b->distribution.rows,
          l = op_b == EQS_AS_IS ? b->distribution.rows : b->distribution.cols;
  if (k != l || c->distribution.rows != m || c->distribution.cols != n || a->grid != b->grid || a->grid != c->grid ||
      a->element != b->element || a->element != c->element)
    return eqs_fail(EQS_FAILED, "the matrices of a product do not fit: %lldx%lld by %lldx%lld into %lldx%lld",
                    (long long)m, (long long)k, (long long)l, (long long)n, (long long)c->distribution.rows,
                    (long long)c->distribution.cols);
  EQS_TRY(eqs_to_int(m, &shape->m));
  EQS_TRY(eqs_to_int(n, &shape->n));
  EQS_TRY(eqs_to_int(k, &shape->k));
  EQS_TRY(leading_dimension(a, &shape->lda));
  EQS_TRY(leading_dimension(b, &shape->ldb));
  EQS_TRY(leading_dimension(c, &shape->ldc));
cleanup:
  return status;
}

static const char *letter(eqs_operation op)
{
  return op == EQS_AS_IS ? "N" : "T";
}

static void multiply_here(const product_shape *shape, double alpha, eqs_operation op_a, const eqs_matrix *a,
                          eqs_operation op_b, const eqs_matrix *b, double beta, eqs_matrix *c)
{
  if (c->element == EQS_ELEMENT_FLOAT) {
    float alpha_float = (float)alpha, beta_float = (float)beta;
    sgemm_(letter(op_b), letter(op_a), &shape->n, &shape->m, &shape->k, &alpha_float, eqs_floats(b), &shape->ldb,
           eqs_floats(a), &shape->lda, &beta_float, eqs_floats(c), &shape->ldc);
  } else {
    dgemm_(letter(op_b), letter(op_a), &shape->n, &shape->m, &shape->k, &alpha, eqs_doubles(b), &shape->ldb,
           eqs_doubles(a), &shape->lda, &beta, eqs_doubles(c), &shape->ldc);
  }
}

static eqs_status multiply_on_grid(const product_shape *shape, double alpha, eqs_operation op_a, const eqs_matrix *a,
                                   eqs_operation op_b, const eqs_matrix *b, double beta, eqs_matrix *c)
{
  static const int one = 1;
  eqs_status status = EQS_OK;
  eqs_descriptor of_a, of_b, of_c;
  EQS_TRY(eqs_describe_transpose(a, &of_a));
  EQS_TRY(eqs_describe_transpose(b, &of_b));
  EQS_TRY(eqs_describe_transpose(c, &of_c));
  if (c->element == EQS_ELEMENT_FLOAT) {
    float alpha_float = (float)alpha, beta_float = (float)beta;
    psgemm_(letter(op_b), letter(op_a), &shape->n, &shape->m, &shape->k, &alpha_float, eqs_floats(b), &one, &one, &of_b,
            eqs_floats(a), &one, &one, &of_a, &beta_float, eqs_floats(c), &one, &one, &of_c);
  } else {
    pdgemm_(letter(op_b), letter(op_a), &shape->n, &shape->m, &shape->k, &alpha, eqs_doubles(b), &one, &one, &of_b,
            eqs_doubles(a), &one, &one, &of_a, &beta, eqs_doubles(c), &one, &one, &of_c);
  }
cleanup:
  return status;
}

eqs_status eqs_multiply(double alpha, eqs_operation op_a, const eqs_matrix *a, eqs_operation op_b, const eqs_matrix *b,
                        double beta, eqs_matrix *c)
{
  eqs_status status = EQS_OK;
  product_shape shape;
  EQS_TRY(shape_of_product(op_a, a, op_b, b, c, &shape));
  if (shape.m == 0 || shape.n == 0) return EQS_OK;
  eqs_count_grid_flops(c->grid, 2.0 * shape.m * shape.n * shape.k);
  if (c->grid->context < 0)
    multiply_here(&shape, alpha, op_a, a, op_b, b, beta, c);
  else
    EQS_TRY(multiply_on_grid(&shape, alpha, op_a, a, op_b, b, beta, c));
cleanup:
  return status;
}

eqs_status eqs_add_transpose(double alpha, const eqs_matrix *a, double beta, eqs_matrix *c)
{
  static const int one = 1;
  eqs_status status = EQS_OK;
  eqs_descriptor of_a, of_c;
  int n;
  float alpha_float = (float)alpha, beta_float = (float)beta;
  if (a->distribution.rows == 0) return EQS_OK;
  EQS_TRY(eqs_to_int(a->distribution.rows, &n));
  EQS_TRY(eqs_describe_transpose(a, &of_a));
  EQS_TRY(eqs_describe_transpose(c, &of_c));
  pstran_(&n, &n, &alpha_float, eqs_floats(a), &one, &one, &of_a, &beta_float, eqs_floats(c), &one, &one, &of_c);
cleanup:
  return status;
}

/* Copy the upper triangle to the lower one, in tiles that stay in the cache. */
static void mirror(eqs_matrix *c)
{
  enum { tile = 32 };
  int64_t n = c->local_rows;
  for (int64_t first = 0; first < n; first += tile) {
    for (int64_t second = 0; second <= first; second += tile) {
      for (int64_t i = first; i < n && i < first + tile; i++) {
        for (int64_t j = second; j < i && j < second + tile; j++) {
          if (c->element == EQS_ELEMENT_FLOAT)
            eqs_floats(c)[i * n + j] = eqs_floats(c)[j * n + i];
          else
            eqs_doubles(c)[i * n + j] = eqs_doubles(c)[j * n + i];
        }
      }
    }
  }
}

/* On one rank: the row-major upper triangle is the column-major lower one. */
static void gram_here(const product_shape *shape, double alpha, eqs_operation op, const eqs_matrix *a, eqs_matrix *c)
{
  eqs_operation opposite = op == EQS_AS_IS ? EQS_TRANSPOSED : EQS_AS_IS;
  static const double zero = 0;
  if (shape->n < smallest_half) {
    multiply_here(shape, alpha, op, a, opposite, a, 0, c);
    return;
  }
  if (c->element == EQS_ELEMENT_FLOAT) {
    float alpha_float = (float)alpha, zero_float = 0;
    sgemmt_("L", letter(opposite), letter(op), &shape->n, &shape->k, &alpha_float, eqs_floats(a), &shape->lda,
            eqs_floats(a), &shape->lda, &zero_float, eqs_floats(c), &shape->ldc);
  } else {
    dgemmt_("L", letter(opposite), letter(op), &shape->n, &shape->k, &alpha, eqs_doubles(a), &shape->lda,
            eqs_doubles(a), &shape->lda, &zero, eqs_doubles(c), &shape->ldc);
  }
  mirror(c);
}

eqs_status eqs_gram(double alpha, eqs_operation op, const eqs_matrix *a, eqs_matrix *c)
{
  eqs_status status = EQS_OK;
  eqs_operation opposite = op == EQS_AS_IS ? EQS_TRANSPOSED : EQS_AS_IS;
  product_shape shape;
  if (c->grid->context >= 0) return eqs_multiply(alpha, op, a, opposite, a, 0, c); /* pssyrk takes longer */
  EQS_TRY(shape_of_product(op, a, opposite, a, c, &shape));
  if (shape.n == 0) return EQS_OK;
  eqs_count_grid_flops(c->grid, eqs_symmetric_product_flops(shape.n, shape.k));
  gram_here(&shape, alpha, op, a, c);
cleanup:
  return status;
}

eqs_operation eqs_smaller_gram(int64_t m, int64_t n, eqs_operation if_square)
{
  if (m == n) return if_square;
  return m < n ? EQS_AS_IS : EQS_TRANSPOSED;
}
