/* The two kinds of symmetric sets (dist/symmetric_set.h) behind one interface. Arguments as there. */
#ifndef EQS_DIST_SYMMETRIC_SET_KIND_H
#define EQS_DIST_SYMMETRIC_SET_KIND_H

#include "dist/symmetric_set.h"

typedef struct {
  eqs_status (*open)(eqs_symmetric_set *set);
  eqs_status (*close)(eqs_symmetric_set *set); /* frees what `holder` has */
  eqs_status (*gram)(eqs_symmetric_set *set, double alpha, double shift, int to);
  eqs_status (*multiply)(eqs_symmetric_set *set, double alpha, int a, int b, double beta, int addend, double shift,
                         int to);
  eqs_status (*multiply_whole)(eqs_symmetric_set *set, int a, int b, int to);
  eqs_status (*combine)(eqs_symmetric_set *set, double beta, int from, int addend, double shift, int to);
  eqs_status (*norm)(eqs_symmetric_set *set, int i, double *norm);
  eqs_status (*apply)(eqs_symmetric_set *set, double alpha, int q, double *dot);
} eqs_symmetric_set_kind;

struct eqs_symmetric_set {
  const eqs_symmetric_set_kind *kind;
  eqs_matrix *x;
  eqs_operation op;
  int64_t k, l; /* order of the set; X's long side */
  int count;
  void *holder; /* of the kind */
};

/* How many of X's `length` pieces along its long side are moved aside at a time while a product takes their place. */
int64_t eqs_symmetric_set_block(int64_t k, int64_t length);

extern const eqs_symmetric_set_kind eqs_symmetric_set_replicated_kind, eqs_symmetric_set_distributed_kind;

#endif
