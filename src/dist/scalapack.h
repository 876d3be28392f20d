/* The Fortran and C interfaces of BLAS, LAPACK, BLACS, PBLAS and ScaLAPACK that this room calls. */
#ifndef EQS_DIST_SCALAPACK_H
#define EQS_DIST_SCALAPACK_H

#include "dist/matrix.h"

/* A size or count as BLAS, ScaLAPACK and MPI want it. EQS_USAGE: it needs more than 31 bits. */
eqs_status eqs_to_int(int64_t size, int *value);

/*
 * ScaLAPACK's array descriptor of the transpose of a matrix: a row-major shard is the column-major shard of the
 * transpose on the grid's BLACS context, which is transposed too.
 */
typedef struct {
  int type, context, rows, cols, row_block, col_block, first_row_process, first_col_process, leading_dimension;
} eqs_descriptor;

eqs_status eqs_describe_transpose(const eqs_matrix *matrix, eqs_descriptor *descriptor);

/* Column-major everywhere. The lengths of the character arguments are left out: each is one character. */

void sgemm_(const char *transa, const char *transb, const int *m, const int *n, const int *k, const float *alpha,
            const float *a, const int *lda, const float *b, const int *ldb, const float *beta, float *c,
            const int *ldc);
void dgemm_(const char *transa, const char *transb, const int *m, const int *n, const int *k, const double *alpha,
            const double *a, const int *lda, const double *b, const int *ldb, const double *beta, double *c,
            const int *ldc);

/* One triangle of c <- alpha op(a) op(b) + beta c. */
void sgemmt_(const char *uplo, const char *transa, const char *transb, const int *n, const int *k, const float *alpha,
             const float *a, const int *lda, const float *b, const int *ldb, const float *beta, float *c,
             const int *ldc);
void dgemmt_(const char *uplo, const char *transa, const char *transb, const int *n, const int *k, const double *alpha,
             const double *a, const int *lda, const double *b, const int *ldb, const double *beta, double *c,
             const int *ldc);

void dsyevd_(const char *jobz, const char *uplo, const int *n, double *a, const int *lda, double *w, double *work,
             const int *lwork, int *iwork, const int *liwork, int *info);

int Csys2blacs_handle(MPI_Comm comm);
void Cfree_blacs_system_handle(int handle);
void Cblacs_gridinit(int *context, const char *order, int rows, int cols);
void Cblacs_gridexit(int context);

void psgemm_(const char *transa, const char *transb, const int *m, const int *n, const int *k, const float *alpha,
             const float *a, const int *ia, const int *ja, const eqs_descriptor *desca, const float *b, const int *ib,
             const int *jb, const eqs_descriptor *descb, const float *beta, float *c, const int *ic, const int *jc,
             const eqs_descriptor *descc);
void pdgemm_(const char *transa, const char *transb, const int *m, const int *n, const int *k, const double *alpha,
             const double *a, const int *ia, const int *ja, const eqs_descriptor *desca, const double *b, const int *ib,
             const int *jb, const eqs_descriptor *descb, const double *beta, double *c, const int *ic, const int *jc,
             const eqs_descriptor *descc);

/* c <- alpha aᵀ + beta c, m×n. */
void pstran_(const int *m, const int *n, const float *alpha, const float *a, const int *ia, const int *ja,
             const eqs_descriptor *desca, const float *beta, float *c, const int *ic, const int *jc,
             const eqs_descriptor *descc);
void pdtran_(const int *m, const int *n, const double *alpha, const double *a, const int *ia, const int *ja,
             const eqs_descriptor *desca, const double *beta, double *c, const int *ic, const int *jc,
             const eqs_descriptor *descc);

void pdsyevd_(const char *jobz, const char *uplo, const int *n, double *a, const int *ia, const int *ja,
              const eqs_descriptor *desca, double *w, double *z, const int *iz, const int *jz,
              const eqs_descriptor *descz, double *work, const int *lwork, int *iwork, const int *liwork, int *info);

#endif
