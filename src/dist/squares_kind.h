/* The two kinds of squares (dist/squares.h) behind one interface. Arguments as there. */
#ifndef EQS_DIST_SQUARES_KIND_H
#define EQS_DIST_SQUARES_KIND_H

#include "dist/squares.h"

typedef struct {
  eqs_status (*open)(eqs_squares *squares);
  eqs_status (*close)(eqs_squares *squares); /* frees what `holder` has */
  eqs_status (*gram)(eqs_squares *squares, double alpha, double shift, int to);
  eqs_status (*multiply)(eqs_squares *squares, double alpha, int a, int b, double beta, int addend, double shift,
                         int to);
  eqs_status (*multiply_whole)(eqs_squares *squares, int a, int b, int to);
  eqs_status (*combine)(eqs_squares *squares, double beta, int from, int addend, double shift, int to);
  eqs_status (*norm)(eqs_squares *squares, int i, double *norm);
  eqs_status (*apply)(eqs_squares *squares, double alpha, int q, double *dot);
} eqs_squares_kind;

struct eqs_squares {
  const eqs_squares_kind *kind;
  eqs_matrix *x;
  eqs_operation op;
  int64_t k, l; /* order of the squares; X's long side */
  int count;
  void *holder; /* of the kind */
};

/* How many of X's `length` pieces along its long side are moved aside at a time while a product takes their place. */
int64_t eqs_squares_block(int64_t k, int64_t length);

extern const eqs_squares_kind eqs_replicated_squares, eqs_distributed_squares;

#endif
