#include "bench/synthetic_trainers.h"

#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/memory.h"
#include "bench/pseudo_random.h"
#include "dist/communicator.h"
#include "dist/peak.h"

static int64_t element_count(const eqs_parameter_info *info)
{
  int64_t elements = 1;
  for (int d = 0; d < info->ndim; d++) elements *= info->shape[d];
  return elements;
}

static eqs_status create_buffers(uint32_t seed, eqs_synthetic_trainers *trainers)
{
  eqs_status status = EQS_OK;
  int64_t largest = 0;
  for (int64_t p = 0; p < trainers->parameters; p++) {
    int64_t elements = element_count(&trainers->info[p]);
    trainers->elements += elements;
    if (elements > largest) largest = elements;
  }
  EQS_TRY(eqs_allocate_raw(&trainers->gradient, largest, sizeof *trainers->gradient));
  EQS_TRY(eqs_allocate_raw(&trainers->weight, largest + trainers->parameters, sizeof *trainers->weight));
  EQS_TRY(eqs_allocate(&trainers->parameter, trainers->parameters, sizeof(eqs_parameter *)));
  eqs_fill_random_row(seed, trainers->gradient, largest);
  eqs_fill_random_row(~seed, trainers->weight, largest + trainers->parameters);
cleanup:
  return status;
}

/* Initial weights that begin at one address would be one tied parameter: each begins an element later than the last. */
static eqs_status add_parameters(eqs_synthetic_trainers *trainers)
{
  eqs_status status = EQS_OK;
  for (int64_t p = 0; p < trainers->parameters; p++) {
    eqs_parameter_info info = trainers->info[p];
    info.struct_size = sizeof info;
    info.dtype = EQS_FLOAT32, info.gradient_placement = EQS_PARTIAL, info.weight_placement = EQS_REPLICATE;
    EQS_TRY(eqs_parameter_add(trainers->session, &info, trainers->weight + p, &trainers->parameter[p]));
  }
cleanup:
  return status;
}

static eqs_status pull_all(eqs_synthetic_trainers *trainers)
{
  eqs_status status = EQS_OK;
  for (int64_t p = 0; p < trainers->parameters; p++) EQS_TRY(eqs_pull(trainers->parameter[p], trainers->weight));
cleanup:
  return status;
}

eqs_status eqs_synthetic_trainers_open(MPI_Comm comm, const char *config, uint32_t seed,
                                       eqs_synthetic_trainers *trainers)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_session_open(comm, config, &trainers->session));
  EQS_TRY(eqs_session_trainers(trainers->session, &trainers->comm));
  status = create_buffers(seed, trainers);
  if (status == EQS_OK) status = add_parameters(trainers);
  EQS_TRY(eqs_agree(trainers->comm, status));
  EQS_TRY(eqs_session_start(trainers->session));
  EQS_TRY(pull_all(trainers)); /* or the first step would have to clear the initial weights away */
cleanup:
  return status;
}

/* The rest of the backward pass up to a moment of eqs_clock. */
static eqs_status work_until(double moment, bool computes)
{
  const int64_t order = 192; /* a product takes a fraction of a millisecond */
  eqs_status status = EQS_OK;
  double left, seconds;
  while (status == EQS_OK && (left = moment - eqs_clock()) > 0) {
    struct timespec pause = {.tv_sec = (time_t)left, .tv_nsec = (long)(1e9 * (left - (double)(time_t)left))};
    if (computes)
      status = eqs_measure_sgemm(order, 1, &seconds);
    else
      nanosleep(&pause, NULL);
  }
  return status;
}

/* Gradients become complete in reverse order, each after a part of the time as large as it is of the model. */
static eqs_status push_all(eqs_synthetic_trainers *trainers)
{
  eqs_status status = EQS_OK;
  double begin = eqs_clock(), complete = 0;
  for (int64_t p = trainers->parameters - 1; p >= 0; p--) {
    complete += (double)element_count(&trainers->info[p]) / (double)trainers->elements;
    if (trainers->backward > 0) EQS_TRY(work_until(begin + trainers->backward * complete, trainers->computes));
    double before = eqs_clock();
    EQS_TRY(eqs_push(trainers->parameter[p], trainers->gradient));
    trainers->waited += eqs_clock() - before;
  }
cleanup:
  return status;
}

eqs_status eqs_synthetic_trainers_step(void *context)
{
  eqs_synthetic_trainers *trainers = context;
  eqs_status status = EQS_OK;
  EQS_TRY(push_all(trainers));
  double before = eqs_clock();
  EQS_TRY(eqs_step(trainers->session));
  EQS_TRY(pull_all(trainers));
  trainers->waited += eqs_clock() - before;
cleanup:
  return status;
}

eqs_status eqs_synthetic_trainers_close(eqs_synthetic_trainers *trainers)
{
  eqs_status status = eqs_session_close(&trainers->session);
  free(trainers->parameter);
  free(trainers->gradient);
  free(trainers->weight);
  trainers->parameter = NULL;
  trainers->gradient = trainers->weight = NULL;
  return status;
}
