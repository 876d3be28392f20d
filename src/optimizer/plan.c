#include "optimizer/plan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/*
 * Built-in speeds of one owner (one core of a current server): what the plan's predictions are made of.
 */
static const double flops_per_second = 5e10, bytes_per_second = 8e9;

/* Matrices that take less than this are never split: messages would cost more. */
static const double seconds_worth_splitting = 2e-3;

/* Part of an owner's ideal share of the work above which a matrix is split over several owners. */
static const double share_to_split = 0.5;

enum { square_block = 64 };

int eqs_state_count(const eqs_rule_options *options)
{
  return 1 + (options->momentum != EQS_MOMENTUM_NONE) + options->rule->states;
}

static int64_t element_count(const eqs_view *view)
{
  return view->rows * view->cols;
}

int64_t eqs_planned_elements(const eqs_planned_parameter *parameter)
{
  int64_t elements = 0;
  for (int64_t i = 0; i < parameter->assignment.count; i++) elements += element_count(&parameter->assignment.views[i]);
  return elements;
}

int64_t eqs_planned_bytes(const eqs_planned_parameter *parameter)
{
  return eqs_planned_elements(parameter) * (int64_t)sizeof(float) *
         (1 + eqs_state_count(&parameter->assignment.options));
}

/* Seconds of one step on one owner: arithmetic, and every state read and written once. */
static double predict_seconds(const eqs_rule_options *options, double flops, int64_t elements)
{
  double bytes = (double)elements * sizeof(float) * (1 + 2 * eqs_state_count(options));
  return flops / flops_per_second + bytes / bytes_per_second;
}

/* A matrix while the plan is made. */
typedef struct {
  eqs_planned_parameter *parameter;
  int64_t index;
  double seconds; /* on one owner */
} candidate;

/* Descending cost; the order of the model where costs are equal. */
static int compare_candidates(const void *a, const void *b)
{
  const candidate *first = a, *second = b;
  if (first->seconds != second->seconds) return first->seconds > second->seconds ? -1 : 1;
  if (first->parameter != second->parameter) return first->parameter < second->parameter ? -1 : 1;
  return first->index < second->index ? -1 : first->index > second->index;
}

/* How many owners share a matrix: 1, 2, 4, ... or all of them. */
static int choose_ranks(double seconds, double share, int owners)
{
  int ranks = 1;
  if (seconds < seconds_worth_splitting) return 1;
  while (ranks < owners && seconds / ranks > share_to_split * share) ranks = 2 * ranks < owners ? 2 * ranks : owners;
  return ranks;
}

/* Rules that work on rows want whole rows on a rank; others shards as square as can be. */
static void choose_grid(const eqs_rule_options *options, const eqs_view *view, int ranks, int *rows, int *cols)
{
  bool row_wise = options->rule->element_wise || (options->rule->keys & EQS_KEY_ROW_MODE) != 0;
  double best = INFINITY;
  *rows = ranks, *cols = 1;
  for (int p = ranks; p >= 1 && !row_wise; p--) {
    if (ranks % p != 0) continue;
    double aspect = fabs(log((double)view->rows / p) - log((double)view->cols / (ranks / p)));
    if (aspect < best - 1e-9) best = aspect, *rows = p, *cols = ranks / p;
  }
}

static int64_t divide_up(int64_t a, int64_t b)
{
  return (a + b - 1) / b;
}

/* One slab per rank along an undistributed direction's partner; square blocks on two-dimensional grids. */
static void choose_blocks(const eqs_view *view, eqs_layout *layout)
{
  bool two_dimensional = layout->grid_rows > 1 && layout->grid_cols > 1;
  int64_t row_slab = divide_up(view->rows, layout->grid_rows), col_slab = divide_up(view->cols, layout->grid_cols);
  layout->row_block = two_dimensional && row_slab > square_block ? square_block : row_slab;
  layout->col_block = two_dimensional && col_slab > square_block ? square_block : col_slab;
  if (layout->row_block < 1) layout->row_block = 1;
  if (layout->col_block < 1) layout->col_block = 1;
}

/*
 * The range of `ranks` owners whose busiest member has least to do, then that has least to do together. Where the
 * number of owners allows it, ranges begin at multiples of `ranks`, so that there are few different grids.
 */
static int least_loaded(const double *load, int owners, int ranks)
{
  int best = 0, step = owners % ranks == 0 ? ranks : 1;
  double least = INFINITY, least_total = INFINITY;
  for (int first = 0; first + ranks <= owners; first += step) {
    double busiest = 0, total = 0;
    for (int i = 0; i < ranks; i++) {
      busiest = fmax(busiest, load[first + i]);
      total += load[first + i];
    }
    if (busiest < least || (busiest == least && total < least_total))
      least = busiest, least_total = total, best = first;
  }
  return best;
}

static void place(const eqs_config *config, eqs_plan *plan, const candidate *next, double share)
{
  const eqs_assignment *assignment = &next->parameter->assignment;
  const eqs_group_config *group = &config->group[assignment->group];
  const eqs_view *view = &assignment->views[next->index];
  eqs_planned_matrix *matrix = &next->parameter->matrix[next->index];
  eqs_layout *layout = &matrix->layout;

  layout->rows = view->rows, layout->cols = view->cols;
  layout->grid_rows = group->grid_rows, layout->grid_cols = group->grid_cols;
  if (layout->grid_rows == 0)
    choose_grid(&assignment->options, view, choose_ranks(next->seconds, share, plan->owners), &layout->grid_rows,
                &layout->grid_cols);
  choose_blocks(view, layout);
  if (group->row_block > 0) layout->row_block = group->row_block, layout->col_block = group->col_block;

  int ranks = layout->grid_rows * layout->grid_cols;
  matrix->first_owner = least_loaded(plan->owner_seconds, plan->owners, ranks);
  for (int row = 0; row < layout->grid_rows; row++) {
    for (int col = 0; col < layout->grid_cols; col++) {
      int owner = matrix->first_owner + row * layout->grid_cols + col;
      int64_t shard = eqs_local_count(layout->rows, layout->row_block, row, layout->grid_rows) *
                      eqs_local_count(layout->cols, layout->col_block, col, layout->grid_cols);
      plan->owner_seconds[owner] += next->seconds / ranks;
      plan->owner_bytes[owner] += shard * (int64_t)sizeof(float) * (1 + eqs_state_count(&assignment->options));
    }
  }
}

static eqs_status check_forced_grid(const eqs_config *config, const eqs_planned_parameter *parameter, int owners)
{
  const eqs_group_config *group = &config->group[parameter->assignment.group];
  if ((int64_t)group->grid_rows * group->grid_cols <= owners) return EQS_OK;
  return eqs_fail(EQS_USAGE, "%s:%d: parameter '%s' is to lie on a grid of %dx%d owners, but there are only %d",
                  group->file, group->line, parameter->info.name, group->grid_rows, group->grid_cols, owners);
}

static eqs_status describe(const eqs_config *config, const eqs_parameter_info *info, eqs_planned_parameter *parameter)
{
  eqs_status status = EQS_OK;
  char *name = NULL, *module_type = NULL;
  parameter->info = *info;
  parameter->info.name = parameter->info.module_type = NULL;
  EQS_TRY(eqs_copy_text(&name, info->name));
  parameter->info.name = name;
  EQS_TRY(eqs_copy_text(&module_type, info->module_type));
  parameter->info.module_type = module_type;
  EQS_TRY(eqs_config_assign(config, name, module_type, info->ndim, info->shape, &parameter->assignment));
  EQS_TRY(eqs_allocate(&parameter->matrix, parameter->assignment.count, sizeof *parameter->matrix));
cleanup:
  return status;
}

eqs_status eqs_plan_make(const eqs_config *config, int owners, int64_t parameters, const eqs_parameter_info *info,
                         eqs_plan **result)
{
  eqs_status status = EQS_OK;
  eqs_plan *plan = NULL;
  candidate *candidates = NULL;
  int64_t count = 0;
  double total = 0;

  EQS_TRY(eqs_allocate(&plan, 1, sizeof *plan));
  plan->owners = owners;
  EQS_TRY(eqs_allocate(&plan->owner_seconds, owners, sizeof *plan->owner_seconds));
  EQS_TRY(eqs_allocate(&plan->owner_bytes, owners, sizeof *plan->owner_bytes));
  EQS_TRY(eqs_allocate(&plan->parameter, parameters, sizeof *plan->parameter));
  for (; plan->parameters < parameters; plan->parameters++) {
    eqs_planned_parameter *parameter = &plan->parameter[plan->parameters];
    status = describe(config, &info[plan->parameters], parameter);
    count += parameter->assignment.count;
    if (status == EQS_OK) status = check_forced_grid(config, parameter, owners);
    if (status != EQS_OK) {
      plan->parameters++; /* to be freed */
      goto cleanup;
    }
  }

  EQS_TRY(eqs_allocate(&candidates, count, sizeof *candidates));
  count = 0;
  for (int64_t p = 0; p < parameters; p++) {
    eqs_planned_parameter *parameter = &plan->parameter[p];
    const eqs_rule_options *options = &parameter->assignment.options;
    for (int64_t i = 0; i < parameter->assignment.count; i++) {
      const eqs_view *view = &parameter->assignment.views[i];
      parameter->matrix[i].flops = options->rule->flops(options, view->rows, view->cols);
      double seconds = predict_seconds(options, parameter->matrix[i].flops, element_count(view));
      candidates[count++] = (candidate){.parameter = parameter, .index = i, .seconds = seconds};
      total += seconds;
    }
  }
  if (count > 0) qsort(candidates, (size_t)count, sizeof *candidates, compare_candidates);
  for (int64_t i = 0; i < count; i++) place(config, plan, &candidates[i], total / owners);

cleanup:
  free(candidates);
  if (status != EQS_OK) eqs_plan_free(&plan);
  *result = plan;
  return status;
}

void eqs_plan_free(eqs_plan **plan)
{
  if (*plan == NULL) return;
  for (int64_t p = 0; p < (*plan)->parameters; p++) {
    eqs_planned_parameter *parameter = &(*plan)->parameter[p];
    free((char *)parameter->info.name);
    free((char *)parameter->info.module_type);
    eqs_assignment_free(&parameter->assignment);
    free(parameter->matrix);
  }
  free((*plan)->parameter);
  free((*plan)->owner_seconds);
  free((*plan)->owner_bytes);
  free(*plan);
  *plan = NULL;
}
