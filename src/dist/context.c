#include "dist/context.h"

#include <math.h>
#include <stdlib.h>

#include "base/log.h"
#include "dist/communicator.h"

static int keyval = MPI_KEYVAL_INVALID;

eqs_status eqs_context_attach(MPI_Comm comm, const eqs_context *context)
{
  eqs_status status = EQS_OK;
  if (keyval == MPI_KEYVAL_INVALID)
    EQS_TRY(eqs_check_mpi(MPI_Comm_create_keyval(MPI_COMM_NULL_COPY_FN, MPI_COMM_NULL_DELETE_FN, &keyval, NULL),
                          "MPI_Comm_create_keyval"));
  EQS_TRY(eqs_check_mpi(MPI_Comm_set_attr(comm, keyval, (void *)context), "MPI_Comm_set_attr"));
cleanup:
  return status;
}

const eqs_context *eqs_context_of(MPI_Comm comm)
{
  static const eqs_context defaults;
  void *context = NULL;
  int attached = 0;
  if (comm == MPI_COMM_NULL || keyval == MPI_KEYVAL_INVALID) return &defaults;
  if (MPI_Comm_get_attr(comm, keyval, &context, &attached) != MPI_SUCCESS || !attached) return &defaults;
  return context;
}

eqs_status eqs_context_share(MPI_Comm from, MPI_Comm to)
{
  void *context = NULL;
  int attached = 0;
  if (to == MPI_COMM_NULL || keyval == MPI_KEYVAL_INVALID) return EQS_OK;
  MPI_Comm_get_attr(from, keyval, &context, &attached);
  return attached ? eqs_context_attach(to, context) : EQS_OK;
}

eqs_status eqs_comm_split(MPI_Comm comm, int color, int key, MPI_Comm *part)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_check_mpi(MPI_Comm_split(comm, color, key, part), "MPI_Comm_split"));
  EQS_TRY(eqs_context_share(comm, *part));
cleanup:
  return status;
}

double eqs_default_deadline(void)
{
  static double deadline;
  if (deadline > 0) return deadline;
  deadline = 1800;
  const char *given = getenv("EQUISHARD_DEADLINE");
  if (given == NULL) return deadline;
  char *end;
  double seconds = strtod(given, &end);
  if (end != given && *end == '\0' && seconds > 0 && isfinite(seconds))
    deadline = seconds;
  else
    eqs_log(EQS_LOG_WARNING, "EQUISHARD_DEADLINE must be a positive number of seconds, is '%s': it is ignored", given);
  return deadline;
}

double eqs_deadline(MPI_Comm comm)
{
  const eqs_context *context = eqs_context_of(comm);
  return context->deadline > 0 ? context->deadline : eqs_default_deadline();
}

eqs_status eqs_progress(MPI_Comm comm)
{
  const eqs_context *context = eqs_context_of(comm);
  bool advanced = false;
  return context->advance != NULL ? context->advance(context->owner, &advanced) : EQS_OK;
}

void eqs_count_flops(MPI_Comm comm, double flops)
{
  eqs_counts *counts = eqs_context_of(comm)->counts;
  if (counts != NULL) counts->flops += flops;
}

void eqs_count_messages(MPI_Comm comm, int64_t messages, int64_t bytes)
{
  eqs_counts *counts = eqs_context_of(comm)->counts;
  if (counts == NULL) return;
  counts->messages += messages;
  counts->bytes += bytes;
}
