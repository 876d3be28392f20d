#include "optimizer/overflow.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "dist/communicator.h"
#include "model/assign.h"
#include "optimizer/gradient.h"
#include "optimizer/update_parameter.h"

/* ----- bounds ----- */

static const double safe = 1e37; /* a sum of three such numbers is within float32's 3.4e38 */

/* The largest elements of state, if the last update has not left them. */
static void find_largest(const eqs_rule *rule, eqs_owned_matrix *matrix)
{
  eqs_largest *largest = &matrix->largest;
  if (largest->known) return;
  *largest = (eqs_largest){.known = true, .weight = eqs_matrix_largest(&matrix->weight)};
  if (matrix->momentum.data != NULL) largest->momentum = eqs_matrix_largest(&matrix->momentum);
  for (int s = 0; s < rule->states; s++) largest->state[s] = eqs_matrix_largest(&matrix->states[s]);
}

static bool matrix_may_overflow(eqs_optimizer *optimizer, int64_t p, int64_t i)
{
  const eqs_assignment *assignment = &optimizer->plan->parameter[p].assignment;
  const eqs_rule_options *options = &optimizer->parameter[p].options;
  eqs_owned_matrix *matrix = &optimizer->parameter[p].matrix[i];
  find_largest(options->rule, matrix);
  /* The measure has not clipped yet. */
  double g = sqrt(optimizer->parameter[p].squares) * optimizer->clip_coefficient;
  double d = g, m = eqs_magnitude_value(matrix->largest.momentum), states[EQS_MAX_STATES];
  bool factor_first = options->momentum == EQS_MOMENTUM_POLAR_FIRST;
  if (options->momentum != EQS_MOMENTUM_NONE && !factor_first) {
    eqs_momentum_coefficients factors = eqs_momentum_coefficients_of(options, 1);
    m = factors.keep * m + factors.take * g;
    d = factors.of_g * g + factors.of_m * m;
  }
  for (int s = 0; s < EQS_MAX_STATES; s++) states[s] = eqs_magnitude_value(matrix->largest.state[s]);
  double u = eqs_rule_largest(options, optimizer->parameter[p].step + 1, assignment->views[i].rows,
                              assignment->views[i].cols, assignment->count, d, states);
  if (factor_first) u *= fmax(1, options->beta * m + u); /* ν^α M */
  double lr = eqs_learning_rate(optimizer, assignment->group);
  double w = fabs(1 - lr * options->weight_decay) * eqs_magnitude_value(matrix->largest.weight) + lr * u;
  return !(m < safe && d < safe && u < safe && w < safe && states[0] < safe && states[1] < safe);
}

bool eqs_may_overflow(eqs_optimizer *optimizer, int64_t p)
{
  for (int64_t i = 0; i < optimizer->plan->parameter[p].assignment.count; i++)
    if (optimizer->parameter[p].matrix[i].grid != NULL && matrix_may_overflow(optimizer, p, i)) return true;
  return false;
}

/* ----- updates on copies ----- */

enum { GRADIENT, WEIGHT, MOMENTUM, STATES, KEPT = STATES + EQS_MAX_STATES };

/* What an update writes, as it was. */
typedef struct {
  eqs_matrix kept[KEPT];
  eqs_largest largest;
} copies;

static eqs_matrix *written(eqs_owned_matrix *matrix, int k)
{
  switch (k) {
  case GRADIENT: return &matrix->gradient;
  case WEIGHT: return &matrix->weight;
  case MOMENTUM: return &matrix->momentum;
  default: return &matrix->states[k - STATES];
  }
}

static eqs_status keep(eqs_optimizer *optimizer, int64_t p, copies **result)
{
  eqs_status status = EQS_OK;
  int64_t count = optimizer->plan->parameter[p].assignment.count;
  copies *all = NULL;
  EQS_TRY(eqs_allocate(&all, count, sizeof *all));
  *result = all;
  for (int64_t i = 0; i < count; i++) {
    eqs_owned_matrix *matrix = &optimizer->parameter[p].matrix[i];
    all[i].largest = matrix->largest;
    for (int k = 0; matrix->grid != NULL && k < KEPT; k++) {
      if (written(matrix, k)->data == NULL) continue;
      EQS_TRY(eqs_matrix_create_like(written(matrix, k), EQS_ELEMENT_FLOAT, &all[i].kept[k]));
      eqs_matrix_copy(written(matrix, k), &all[i].kept[k]);
    }
  }
cleanup:
  return status;
}

static void take_back(eqs_optimizer *optimizer, int64_t p, copies *all)
{
  for (int64_t i = 0; all != NULL && i < optimizer->plan->parameter[p].assignment.count; i++) {
    eqs_owned_matrix *matrix = &optimizer->parameter[p].matrix[i];
    matrix->largest = all[i].largest;
    for (int k = 0; k < KEPT; k++) {
      if (all[i].kept[k].data != NULL) eqs_matrix_copy(&all[i].kept[k], written(matrix, k));
      eqs_matrix_destroy(&all[i].kept[k]);
    }
  }
  free(all);
}

/* Whether all owners have found the parameter finite so far. */
static eqs_status agree_on_finite(eqs_optimizer *optimizer, eqs_status status, bool *finite)
{
  EQS_TRY(eqs_agree(optimizer->owners, status));
  EQS_TRY(eqs_minimum(optimizer->owners, &optimizer->nonfinite, 1, "the owners' word on a parameter"));
  *finite = optimizer->nonfinite == INT64_MAX;
cleanup:
  return status;
}

/* optimizer->nonfinite becomes what the parameter's update would leave, on all owners. */
static eqs_status try_update(eqs_optimizer *optimizer, int64_t p)
{
  eqs_status status = EQS_OK, updated = EQS_OK;
  bool finite;
  copies *before = NULL;
  EQS_TRY(eqs_agree(optimizer->owners, keep(optimizer, p, &before)));
  for (int64_t i = 0; i < optimizer->plan->parameter[p].assignment.count && updated == EQS_OK; i++)
    if (optimizer->parameter[p].matrix[i].grid != NULL) updated = eqs_optimizer_update(optimizer, p, i);
  EQS_TRY(agree_on_finite(optimizer, updated, &finite));
  if (finite && eqs_waits_for_nu(optimizer, p)) {
    EQS_TRY(eqs_update_waiting(optimizer, p));
    EQS_TRY(agree_on_finite(optimizer, EQS_OK, &finite));
  }
cleanup:
  take_back(optimizer, p, before);
  return status;
}

eqs_status eqs_try_updates(eqs_optimizer *optimizer, int64_t *code)
{
  eqs_status status = EQS_OK;
  int64_t parameters = optimizer->plan->parameters, *certain = NULL;
  bool measured = optimizer->diagnostics.active;
  EQS_TRY(eqs_allocate(&certain, parameters, sizeof *certain));
  for (int64_t p = 0; p < parameters; p++)
    certain[p] = !optimizer->parameter[p].present || !eqs_may_overflow(optimizer, p);
  EQS_TRY(eqs_minimum(optimizer->owners, certain, (int)parameters, "the owners' doubts"));
  optimizer->diagnostics.active = false;
  for (int64_t p = 0; p < parameters && optimizer->nonfinite == INT64_MAX; p++)
    if (!certain[p]) EQS_TRY(try_update(optimizer, p));
  *code = optimizer->nonfinite;
  optimizer->nonfinite = INT64_MAX;
cleanup:
  optimizer->diagnostics.active = measured;
  free(certain);
  return status;
}
