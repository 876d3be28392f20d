/* The models that benchmarks work on: read from files, or made of equal matrices. */
#ifndef EQS_BENCH_MODEL_H
#define EQS_BENCH_MODEL_H

#include "bench/bench.h"
#include "bench/table.h"
#include "model/manifest.h"
#include "optimizer/optimizer.h"

typedef struct {
  eqs_config *config;
  eqs_manifest manifest; /* if read */
  char *names;           /* if made */
  int64_t parameters;
  eqs_parameter_info *info; /* names and module types borrowed */
  eqs_plan *plan;
} eqs_bench_model;

/* A configuration and a manifest. Not collective. */
eqs_status eqs_bench_model_read(const char *config, const char *manifest, int owners, eqs_bench_model *model);

/* What all of a made model's matrices have in common. */
typedef struct {
  const char *rule;
  const char *solver; /* NULL: the rule's */
  int steps;
  const char *form;
  bool center;
  int64_t count, rows, cols;
  int64_t grid[2]; /* that of the first ranks, for all of them; 0: planned over all ranks */
} eqs_bench_matrices;

/* Equal matrices. Not collective. */
eqs_status eqs_bench_model_make(const eqs_bench_matrices *matrices, int owners, eqs_bench_model *model);

void eqs_bench_model_free(eqs_bench_model *model);

/*
 * What a case says of its model: the least cost, in total and of every rule; as `more`, how many parameters and
 * matrices it has and the bytes that the owners hold. Name and size are the case's; its grid is planned.
 */
void eqs_bench_model_describe(const eqs_bench_model *model, const char *name, eqs_bench_case *made);

/* The least cost of one update of all parameters. */
eqs_least_cost eqs_bench_model_minimum(const eqs_bench_model *model);

/* Seconds of a step's updates that the plan predicts for the busiest owner. */
double eqs_bench_model_predicted(const eqs_bench_model *model);

/* Bytes that the owners hold: weights, state and gradients. */
int64_t eqs_bench_model_held(const eqs_bench_model *model);

/* Time whole steps of the optimizer over a model, with pseudo-random gradients in the shards. Collective. */
eqs_status eqs_bench_model_measure(eqs_bench *bench, const eqs_bench_model *model, eqs_timing *timing);

#endif
