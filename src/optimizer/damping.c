#include "optimizer/damping.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "dist/communicator.h"

/* Of a parameter, over its matrices. */
enum { MATRICES, DAMPED_MATRICES, ROWS, DAMPED_ROWS, COUNTS };

static bool outweighed(const double counts[COUNTS])
{
  return 2 * counts[DAMPED_MATRICES] > counts[MATRICES] || 2 * counts[DAMPED_ROWS] > counts[ROWS];
}

/* A matrix and its rows are counted once, by ranks of the first column of its grid. */
static void count_here(const eqs_optimizer *optimizer, int64_t p, double counts[COUNTS])
{
  const eqs_owned_parameter *parameter = &optimizer->parameter[p];
  for (int k = 0; k < COUNTS; k++) counts[k] = 0;
  if (!parameter->present || parameter->damping_reported) return;
  for (int64_t i = 0; i < optimizer->plan->parameter[p].assignment.count; i++) {
    const eqs_owned_matrix *matrix = &parameter->matrix[i];
    if (matrix->grid == NULL || matrix->grid->col != 0) continue;
    counts[ROWS] += (double)matrix->findings.rows;
    counts[DAMPED_ROWS] += (double)matrix->findings.damped_rows;
    if (matrix->grid->row != 0) continue;
    counts[MATRICES] += 1;
    counts[DAMPED_MATRICES] += matrix->findings.damping > 0.5;
  }
}

static void warn(const eqs_optimizer *optimizer, int64_t p, const double counts[COUNTS])
{
  double eps = optimizer->parameter[p].options.eps;
  const char *name = optimizer->plan->parameter[p].info.name,
             *mode = optimizer->parameter[p].options.eps_mode == EQS_EPS_RELATIVE ? "" : ", or give eps_mode: relative";
  if (2 * counts[DAMPED_MATRICES] > counts[MATRICES])
    eqs_log(
        EQS_LOG_WARNING,
        "step %lld: parameter '%s': eps %g is above the mean eigenvalue of the direction's Gram matrix, so that the "
        "update shrinks with the direction: lower eps%s",
        (long long)optimizer->step + 1, name, eps, mode);
  else
    eqs_log(EQS_LOG_WARNING,
            "step %lld: parameter '%s': eps %g is above the norms of %.0f of %.0f rows of the direction, so that their "
            "updates shrink with them: lower eps%s",
            (long long)optimizer->step + 1, name, eps, counts[DAMPED_ROWS], counts[ROWS], mode);
}

bool eqs_damping_unreported(const eqs_optimizer *optimizer)
{
  double counts[COUNTS];
  for (int64_t p = 0; p < optimizer->plan->parameters; p++) {
    count_here(optimizer, p, counts);
    if (outweighed(counts)) return true;
  }
  return false;
}

eqs_status eqs_report_damping(eqs_optimizer *optimizer)
{
  eqs_status status = EQS_OK;
  int64_t parameters = optimizer->plan->parameters;
  double(*counts)[COUNTS] = NULL;
  bool first = eqs_grid_cache_rank(optimizer->grids) == 0;
  EQS_TRY(eqs_allocate(&counts, parameters, sizeof *counts));
  for (int64_t p = 0; p < parameters; p++) count_here(optimizer, p, counts[p]);
  EQS_TRY(eqs_sum(optimizer->owners, counts[0], (int)parameters * COUNTS, "the owners' counts of damped rows"));
  for (int64_t p = 0; p < parameters; p++) {
    if (!outweighed(counts[p])) continue;
    optimizer->parameter[p].damping_reported = true;
    if (first) warn(optimizer, p, counts[p]);
  }
cleanup:
  free(counts);
  return status;
}
