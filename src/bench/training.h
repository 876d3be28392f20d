/* Training steps of synthetic trainers over a whole model, as a case of a benchmark. */
#ifndef EQS_BENCH_TRAINING_H
#define EQS_BENCH_TRAINING_H

#include "bench/bench.h"

typedef struct {
  const char *name; /* of the case */
  const char *config, *manifest;
  int trainers; /* the first ranks; the others are owners. All ranks: embedded */
  double backward;
  bool computes; /* see eqs_synthetic_trainers */
} eqs_bench_training;

/*
 * Measure the steps and add the case. Beside what every case has:
 *
 *     trainers, owners        how many ranks are which
 *     bytes_out, bytes_in     gradients sent and weights received per trainer and step
 *     bytes_ratio             their sum against one gradient and one weight of the model in float32
 *     waited                  seconds in push, step and pull of the trainer that waited most
 *     owners_busy             seconds in receive, update and send of the busiest owner
 *     hidden                  part of the owners' work that no trainer waited for: 1 - waited / owners_busy, at least 0
 *     backward                seconds of the trainers' own work
 *
 * and the phases over the timed steps, per step. Collective over the benchmark's ranks.
 */
eqs_status eqs_bench_training_measure(eqs_bench *bench, const eqs_bench_training *training);

#endif
