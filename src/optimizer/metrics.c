#include "optimizer/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dist/communicator.h"
#include "model/assign.h"

/* Numbers that are not finite have no place in JSON. */
static json_t *number(double value)
{
  return isfinite(value) ? json_real(value) : json_null();
}

/* Standard deviation over mean, from the sums of squares, of values, and their number. */
static double spread(double squares, double values, double count)
{
  double mean = values / count;
  return sqrt(fmax(squares / count - mean * mean, 0)) / mean;
}

static json_t *describe(const eqs_planned_parameter *parameter, const double *sums, double lr, int64_t step,
                        int64_t skipped)
{
  const eqs_assignment *assignment = &parameter->assignment;
  const eqs_rule *rule = assignment->options.rule;
  double elements = (double)eqs_planned_elements(parameter);
  json_t *line = json_object();
  json_object_set_new(line, "step", json_integer(step));
  json_object_set_new(line, "parameter", json_string(parameter->info.name));
  json_object_set_new(line, "role", json_string(eqs_role_names[assignment->role]));
  json_object_set_new(line, "rule", json_string(rule->name));
  json_object_set_new(line, "lr", number(lr));
  json_object_set_new(line, "gradient_norm", number(sqrt(sums[EQS_SUM_GRADIENT])));
  json_object_set_new(line, "direction_norm", number(sqrt(sums[EQS_SUM_DIRECTION])));
  if (rule->uses_nu) json_object_set_new(line, "nu", number(sums[EQS_SUM_NU]));
  json_object_set_new(line, "update_rms", number(sqrt(sums[EQS_SUM_UPDATE] / elements)));
  json_object_set_new(line, "update_to_weight", number(lr * sqrt(sums[EQS_SUM_UPDATE] / sums[EQS_SUM_WEIGHT])));
  if (rule->polar_first)
    json_object_set_new(line, "orthogonality", number(sqrt(sums[EQS_SUM_RESIDUAL] / sums[EQS_SUM_RESIDUALS])));
  if (sums[EQS_SUM_DAMPINGS] > 0)
    json_object_set_new(line, "damping_share", number(sums[EQS_SUM_DAMPING] / sums[EQS_SUM_DAMPINGS]));
  json_object_set_new(line, "row_norm_spread",
                      number(spread(sums[EQS_SUM_UPDATE], sums[EQS_SUM_ROW_NORMS], sums[EQS_SUM_ROWS])));
  json_object_set_new(line, "skipped", json_integer(skipped));
  return line;
}

static eqs_status append(int file, const char *path, json_t *line)
{
  char *text = json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(9));
  if (text == NULL) return eqs_fail(EQS_FAILED, "out of memory: a line of %s", path);
  size_t length = strlen(text);
  text[length] = '\n'; /* in the place of the zero: one write, so that lines of several writers do not mix */
  bool written = write(file, text, length + 1) == (ssize_t)(length + 1);
  free(text);
  return written ? EQS_OK : eqs_fail(EQS_IO, "%s: %s", path, strerror(errno));
}

static eqs_status write_lines(const eqs_optimizer *optimizer, const char *path)
{
  eqs_status status = EQS_OK;
  const eqs_plan *plan = optimizer->plan;
  int file = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
  if (file < 0) return eqs_fail(EQS_IO, "%s: %s", path, strerror(errno));
  for (int64_t p = 0; p < plan->parameters && status == EQS_OK; p++) {
    const eqs_planned_parameter *parameter = &plan->parameter[p];
    if (!optimizer->parameter[p].present || parameter->assignment.count == 0) continue;
    json_t *line =
        describe(parameter, optimizer->diagnostics.sums[p], eqs_learning_rate(optimizer, parameter->assignment.group),
                 optimizer->step + 1, optimizer->skipped);
    status = append(file, path, line);
    json_decref(line);
  }
  close(file);
  return status;
}

eqs_status eqs_metrics_write(eqs_optimizer *optimizer)
{
  eqs_status status = EQS_OK;
  eqs_diagnostics *diagnostics = &optimizer->diagnostics;
  if (!diagnostics->active) return EQS_OK;
  diagnostics->active = false;
  EQS_TRY(
      eqs_sum(optimizer->owners, diagnostics->sums[0], (int)optimizer->plan->parameters * EQS_SUMS, "the diagnostics"));
  if (eqs_grid_cache_rank(optimizer->grids) == 0) status = write_lines(optimizer, optimizer->config->metrics.path);
cleanup:
  return status;
}
