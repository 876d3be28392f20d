/* What an owner (one core) does per second: what predictions of time are made of. Never measured in the job itself. */
#ifndef EQS_DIST_SPEEDS_H
#define EQS_DIST_SPEEDS_H

#include <stdint.h>

/* A speed that depends on the order of the matrices: points in ascending order, in between by the order's logarithm. */
enum { eqs_speed_points = 16 };
typedef struct {
  int count;
  double order[eqs_speed_points], speed[eqs_speed_points];
} eqs_speed_curve;

/* All per rank, with all ranks of a host at work. */
typedef struct {
  eqs_speed_curve gemm;      /* whole float32 products, flop/s */
  eqs_speed_curve symmetric; /* products with a symmetric result, n²k operations each, flop/s */
  double eigen;              /* eigenvalues and vectors in float64, flop/s by eqs_symmetric_eigen_flops */
  double triad;              /* memory, bytes/s */
  double message_latency;    /* s */
  double message_bandwidth;  /* bytes/s, of messages of 1 MiB */
} eqs_speeds;

/* Figures of a server core with AVX-512 (AMD EPYC 9005, two ranks on two cores), for jobs without a calibration. */
extern const eqs_speeds eqs_built_in_speeds;

double eqs_speed_at(const eqs_speed_curve *curve, int64_t order);

#endif
