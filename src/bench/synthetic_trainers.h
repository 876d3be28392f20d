/*
 * Synthetic trainers: they hold one gradient and one weight buffer for all parameters of a model and go through the
 * public calls of a training step. "Collective" means over the trainers, and the owners' eqs_serve.
 */
#ifndef EQS_BENCH_SYNTHETIC_TRAINERS_H
#define EQS_BENCH_SYNTHETIC_TRAINERS_H

#include <stdbool.h>

#include "equishard.h"

typedef struct {
  eqs_session *session;
  MPI_Comm comm; /* the trainers' */
  int64_t parameters;
  const eqs_parameter_info *info; /* borrowed */
  eqs_parameter **parameter;
  int64_t elements; /* of all parameters */
  float *gradient, *weight;
  double backward; /* seconds over which the gradients become complete, the last parameter's first */
  bool computes;   /* products meanwhile, else it sleeps */
  double waited;   /* seconds in push, step and pull since it was last set to 0 */
} eqs_synthetic_trainers;

/*
 * Open a session, add the parameters, start, pull the initial weights.
 *
 * comm      [in] trainers and owners
 * config    [in] path; read by the first trainer
 * trainers  [out] parameters and info set by the caller, as are backward and computes; close after a failure too
 *
 * Collective.
 */
eqs_status eqs_synthetic_trainers_open(MPI_Comm comm, const char *config, uint32_t seed,
                                       eqs_synthetic_trainers *trainers);

/* One training step: backward with its pushes, step, pull of everything. An eqs_work. Collective. */
eqs_status eqs_synthetic_trainers_step(void *trainers);

/* Close the session; free. Collective unless a collective call failed. */
eqs_status eqs_synthetic_trainers_close(eqs_synthetic_trainers *trainers);

#endif
