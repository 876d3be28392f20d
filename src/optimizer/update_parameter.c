#include "optimizer/update_parameter.h"

#include <stdlib.h>

#include "base/memory.h"
#include "dist/communicator.h"
#include "optimizer/update.h"

bool eqs_waits_for_nu(const eqs_optimizer *optimizer, int64_t p)
{
  return eqs_shares_nu(&optimizer->plan->parameter[p].assignment);
}

eqs_status eqs_optimizer_update(eqs_optimizer *optimizer, int64_t p, int64_t i)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_waits_for_nu(optimizer, p) ? eqs_make_factor(optimizer, p, i) : eqs_update_matrix(optimizer, p, i));
cleanup:
  return status == EQS_OK ? status : eqs_fail_in(status, "parameter '%s'", optimizer->plan->parameter[p].info.name);
}

/* The parts of a tensor's matrices in ν and ||D||², each counted by the first owner of its grid. */
static void add_nu(const eqs_optimizer *optimizer, int64_t p, double sums[2])
{
  for (int64_t i = 0; i < optimizer->plan->parameter[p].assignment.count; i++) {
    const eqs_owned_matrix *matrix = &optimizer->parameter[p].matrix[i];
    if (matrix->grid == NULL || matrix->grid->row != 0 || matrix->grid->col != 0) continue;
    sums[0] += matrix->findings.nu;
    sums[1] += matrix->findings.squares;
  }
}

static eqs_status update_by_sums(eqs_optimizer *optimizer, int64_t p, const double sums[2])
{
  eqs_status status = EQS_OK;
  for (int64_t i = 0; i < optimizer->plan->parameter[p].assignment.count; i++) {
    eqs_owned_matrix *matrix = &optimizer->parameter[p].matrix[i];
    matrix->findings.nu = sums[0];
    matrix->findings.squares = sums[1];
    if (matrix->grid != NULL) EQS_TRY(eqs_update_weight(optimizer, p, i));
  }
  return EQS_OK;
cleanup:
  return eqs_fail_in(status, "parameter '%s'", optimizer->plan->parameter[p].info.name);
}

static const char waits_for_sums[] = "the sums of nuclear norms";

eqs_status eqs_update_waiting(eqs_optimizer *optimizer, int64_t p)
{
  eqs_status status = EQS_OK;
  double sums[2] = {0};
  add_nu(optimizer, p, sums);
  EQS_TRY(eqs_sum(optimizer->owners, sums, 2, waits_for_sums));
  EQS_TRY(update_by_sums(optimizer, p, sums));
cleanup:
  return status;
}

eqs_status eqs_update_all_waiting(eqs_optimizer *optimizer)
{
  eqs_status status = EQS_OK;
  int64_t parameters = optimizer->plan->parameters, count = 0;
  double(*sums)[2] = NULL;
  for (int64_t p = 0; p < parameters; p++) count += eqs_waits_for_nu(optimizer, p);
  if (count == 0) goto cleanup;
  EQS_TRY(eqs_allocate(&sums, count, sizeof *sums));
  count = 0;
  for (int64_t p = 0; p < parameters; p++)
    if (eqs_waits_for_nu(optimizer, p)) add_nu(optimizer, p, sums[count++]);
  EQS_TRY(eqs_sum(optimizer->owners, sums[0], 2 * (int)count, waits_for_sums));
  count = 0;
  for (int64_t p = 0; p < parameters; p++) {
    if (!eqs_waits_for_nu(optimizer, p)) continue;
    if (optimizer->parameter[p].present) EQS_TRY(update_by_sums(optimizer, p, sums[count]));
    count++;
  }
cleanup:
  free(sums);
  return status;
}
