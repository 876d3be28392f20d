#include "optimizer/plan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "model/assign.h"
#include "model/complete_shape.h"

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

/* Bytes of the owners for an element of a parameter: weight, state and, unless it is frozen, gradient. */
static int64_t element_bytes(const eqs_planned_parameter *parameter)
{
  return (int64_t)sizeof(float) * (eqs_state_count(&parameter->assignment.options) + !parameter->info.frozen);
}

int64_t eqs_planned_bytes(const eqs_planned_parameter *parameter)
{
  return eqs_planned_elements(parameter) * element_bytes(parameter);
}

/* A matrix while the plan is made. */
typedef struct {
  eqs_planned_parameter *parameter;
  int64_t index;
  double seconds; /* on one owner */
  int64_t bytes;
} candidate;

/* More than this many matrices, or elements, are a mistake, not a model; nothing is to overflow before it is seen. */
static eqs_status check_size(const eqs_planned_parameter *parameter, int64_t *matrices, int64_t *elements)
{
  enum { most_matrices = 1 << 20 };
  *matrices += parameter->assignment.count;
  *elements += eqs_planned_elements(parameter);
  if (*matrices > most_matrices)
    return eqs_fail(EQS_USAGE, "parameter %.500s: with those before it more than 2^20 matrices", parameter->info.name);
  if (*elements > EQS_MAX_ELEMENTS)
    return eqs_fail(EQS_USAGE, "parameter %.500s: with those before it more than 2^48 elements", parameter->info.name);
  return EQS_OK;
}

/* What an owner has of everything, if all have the same. */
typedef struct {
  double seconds, bytes;
} ideal_share;

/* Descending cost; the order of the model where costs are equal. */
static int compare_candidates(const void *a, const void *b)
{
  const candidate *first = a, *second = b;
  if (first->seconds != second->seconds) return first->seconds > second->seconds ? -1 : 1;
  if (first->parameter != second->parameter) return first->parameter < second->parameter ? -1 : 1;
  return first->index < second->index ? -1 : first->index > second->index;
}

/*
 * The grid of `ranks` owners. Rows stay whole for rules that go by rows. Around polar factors slabs along the long
 * side, where the symmetric set is replicated, or a rectangle as square as can be, where it is distributed: what is
 * faster.
 */
static void choose_grid(const eqs_config *config, const eqs_rule_options *options, const eqs_view *view, int ranks,
                        eqs_grid *grid)
{
  bool row_wise = options->rule->element_wise || (options->rule->keys & EQS_KEY_ROW_MODE) != 0;
  *grid = (eqs_grid){.rows = ranks, .cols = 1};
  if (row_wise || ranks == 1) return;
  eqs_grid square = {.rows = ranks, .cols = 1};
  double best = INFINITY;
  for (int p = ranks; p >= 1; p--) {
    if (ranks % p != 0) continue;
    double aspect = fabs(log((double)view->rows / p) - log((double)view->cols / (ranks / p)));
    if (aspect < best - 1e-9) best = aspect, square = (eqs_grid){.rows = p, .cols = ranks / p};
  }
  if (view->rows < view->cols) *grid = (eqs_grid){.rows = 1, .cols = ranks};
  if (eqs_rule_seconds(options, &config->speeds, &square, view->rows, view->cols) <
      eqs_rule_seconds(options, &config->speeds, grid, view->rows, view->cols))
    *grid = square;
}

/*
 * How many owners share a matrix: 1, 2, 4, ... or all of them, as long as it is more than part of an owner's share, of
 * the work, or, where splitting costs nothing, of the memory, and is done sooner for it.
 */
static void choose_split(const eqs_config *config, const eqs_rule_options *options, const eqs_view *view,
                         const candidate *next, ideal_share share, int owners, eqs_grid *grid)
{
  double seconds = next->seconds;
  *grid = (eqs_grid){.rows = 1, .cols = 1};
  for (int ranks = 1; ranks < owners;) {
    bool heavy = seconds > share_to_split * share.seconds && next->seconds > seconds_worth_splitting;
    /* row by row splitting costs nothing, but for sums of columns */
    bool large = options->rule->row_wise && (double)next->bytes / ranks > share_to_split * share.bytes &&
                 next->seconds > seconds_worth_splitting;
    if (!heavy && !large) return;
    ranks = 2 * ranks < owners ? 2 * ranks : owners;
    eqs_grid wider;
    choose_grid(config, options, view, ranks, &wider);
    double sooner = eqs_rule_seconds(options, &config->speeds, &wider, view->rows, view->cols);
    if (sooner >= seconds) return;
    seconds = sooner;
    *grid = wider;
  }
}

static int64_t divide_up(int64_t a, int64_t b)
{
  return (a + b - 1) / b;
}

/* One slab per rank along an undistributed direction's partner; square blocks on two-dimensional grids. */
static void choose_blocks(const eqs_view *view, eqs_distribution *distribution)
{
  bool two_dimensional = distribution->grid_rows > 1 && distribution->grid_cols > 1;
  int64_t row_slab = divide_up(view->rows, distribution->grid_rows),
          col_slab = divide_up(view->cols, distribution->grid_cols);
  distribution->row_block = two_dimensional && row_slab > square_block ? square_block : row_slab;
  distribution->col_block = two_dimensional && col_slab > square_block ? square_block : col_slab;
  if (distribution->row_block < 1) distribution->row_block = 1;
  if (distribution->col_block < 1) distribution->col_block = 1;
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

/* Workspaces while the plan is made: what a grid of some owners keeps is kept once, for the largest matrix. */
typedef struct {
  int first, rows, cols;
  int64_t bytes;
} kept_workspace;

typedef struct {
  int64_t grids;
  kept_workspace *grid;
  int64_t *freed; /* of every owner: the largest */
  double *held;   /* of every owner, bytes of parameters so far */
} workspaces;

static eqs_status add_workspace(workspaces *space, const eqs_planned_matrix *matrix, int64_t kept, int64_t freed)
{
  eqs_status status = EQS_OK;
  int64_t g = 0;
  kept_workspace wanted = {matrix->first_owner, matrix->distribution.grid_rows, matrix->distribution.grid_cols, kept};
  int ranks = wanted.rows * wanted.cols;
  for (int o = wanted.first; o < wanted.first + ranks; o++)
    if (freed > space->freed[o]) space->freed[o] = freed;
  while (g < space->grids && (space->grid[g].first != wanted.first || space->grid[g].rows != wanted.rows ||
                              space->grid[g].cols != wanted.cols))
    g++;
  if (g == space->grids) {
    EQS_TRY(eqs_grow(&space->grid, space->grids, sizeof *space->grid));
    space->grid[space->grids++] = wanted;
  } else if (kept > space->grid[g].bytes) {
    space->grid[g].bytes = kept;
  }
cleanup:
  return status;
}

/*
 * What a process has besides, as measured: program and libraries, and some 32 messages of its shards (in flight and
 * packed, at both ends of the transports, MPI's own), each up to 1 MiB.
 */
static int64_t process_bytes(int64_t held)
{
  const int64_t program = INT64_C(28) << 20, message = 1 << 20, messages = 32;
  return program + messages * (held < message ? held : message);
}

/*
 * What writing a checkpoint takes of every owner: buffers, which are freed, for six tiles; the copy for writing in the
 * background, which stays. Whoever holds its tiles, none copies more than its share, to a tile.
 */
static const int64_t checkpoint_buffers = 6 * (INT64_C(4) << 20);

static int64_t checkpoint_copy(const eqs_config *config, const eqs_plan *plan)
{
  int64_t elements = 0;
  if (config->checkpoint.directory == NULL || !config->checkpoint.async) return 0;
  for (int64_t p = 0; p < plan->parameters; p++)
    elements += eqs_planned_elements(&plan->parameter[p]) * eqs_state_count(&plan->parameter[p].assignment.options);
  return elements * (int64_t)sizeof(float) / plan->owners;
}

static void add_peaks(const eqs_config *config, const workspaces *space, eqs_plan *plan)
{
  int64_t copy = checkpoint_copy(config, plan), buffers = config->checkpoint.directory ? checkpoint_buffers : 0;
  for (int o = 0; o < plan->owners; o++) {
    int64_t freed = space->freed[o] > buffers ? space->freed[o] : buffers;
    plan->owner_peak[o] = plan->owner_bytes[o] + copy + freed + process_bytes(plan->owner_bytes[o]);
  }
  for (int64_t g = 0; g < space->grids; g++)
    for (int o = 0; o < space->grid[g].rows * space->grid[g].cols; o++)
      plan->owner_peak[space->grid[g].first + o] += space->grid[g].bytes;
}

/* A frozen matrix lies on as many owners as its size asks for. */
static void choose_split_by_size(const candidate *next, ideal_share share, int owners, eqs_grid *grid)
{
  const double worth_splitting = 1 << 20;
  *grid = (eqs_grid){.rows = 1, .cols = 1};
  while (grid->rows < owners && (double)next->bytes / grid->rows > share_to_split * share.bytes &&
         (double)next->bytes / grid->rows > worth_splitting)
    grid->rows = 2 * grid->rows < owners ? 2 * grid->rows : owners;
}

static void choose_distribution(const eqs_config *config, const eqs_plan *plan, const candidate *next,
                                ideal_share share, eqs_distribution *distribution)
{
  static const eqs_group_config no_group;
  const eqs_assignment *assignment = &next->parameter->assignment;
  const eqs_group_config *group = assignment->group >= 0 ? &config->group[assignment->group] : &no_group;
  const eqs_view *view = &assignment->views[next->index];
  eqs_grid grid = {.rows = group->grid_rows, .cols = group->grid_cols};
  if (next->parameter->info.frozen)
    choose_split_by_size(next, share, plan->owners, &grid);
  else if (grid.rows == 0)
    choose_split(config, &assignment->options, view, next, share, plan->owners, &grid);
  distribution->rows = view->rows, distribution->cols = view->cols;
  distribution->grid_rows = grid.rows, distribution->grid_cols = grid.cols;
  choose_blocks(view, distribution);
  if (group->row_block > 0) distribution->row_block = group->row_block, distribution->col_block = group->col_block;
}

static eqs_status place_matrix(const eqs_config *config, eqs_plan *plan, const candidate *next, ideal_share share,
                               workspaces *space)
{
  const eqs_rule_options *options = &next->parameter->assignment.options;
  eqs_planned_matrix *matrix = &next->parameter->matrix[next->index];
  eqs_distribution *distribution = &matrix->distribution;
  int64_t kept, freed;
  choose_distribution(config, plan, next, share, distribution);
  eqs_grid grid = {.rows = distribution->grid_rows, .cols = distribution->grid_cols};
  bool frozen = next->parameter->info.frozen != 0;
  double seconds =
      frozen ? 0 : eqs_rule_seconds(options, &config->speeds, &grid, distribution->rows, distribution->cols);
  matrix->first_owner = least_loaded(frozen ? space->held : plan->owner_seconds, plan->owners, grid.rows * grid.cols);
  for (int row = 0; row < grid.rows; row++) {
    for (int col = 0; col < grid.cols; col++) {
      int owner = matrix->first_owner + row * grid.cols + col;
      int64_t shard = eqs_local_count(distribution->rows, distribution->row_block, row, grid.rows) *
                      eqs_local_count(distribution->cols, distribution->col_block, col, grid.cols);
      plan->owner_seconds[owner] += seconds;
      plan->owner_bytes[owner] += shard * element_bytes(next->parameter);
      space->held[owner] = (double)plan->owner_bytes[owner];
    }
  }
  eqs_rule_workspace(options, &grid, distribution->rows, distribution->cols, &kept, &freed);
  return add_workspace(space, matrix, kept, freed);
}

static eqs_status check_forced_grid(const eqs_config *config, const eqs_planned_parameter *parameter, int owners)
{
  if (parameter->assignment.group < 0) return EQS_OK;
  const eqs_group_config *group = &config->group[parameter->assignment.group];
  if ((int64_t)group->grid_rows * group->grid_cols <= owners) return EQS_OK;
  return eqs_fail(EQS_USAGE, "%s:%d: parameter '%s' is to lie on a grid of %dx%d owners, but there are only %d",
                  group->file, group->line, parameter->info.name, group->grid_rows, group->grid_cols, owners);
}

static eqs_status describe(const eqs_config *config, const eqs_model_shape *model, const eqs_parameter_info *info,
                           eqs_planned_parameter *parameter)
{
  eqs_status status = EQS_OK;
  char *name = NULL, *module_type = NULL;
  parameter->info = *info;
  parameter->info.name = parameter->info.module_type = NULL;
  EQS_TRY(eqs_copy_text(&name, info->name));
  parameter->info.name = name;
  EQS_TRY(eqs_copy_text(&module_type, info->module_type));
  parameter->info.module_type = module_type;
  EQS_TRY(eqs_config_assign(config, model, &parameter->info, &parameter->assignment));
  if (info->role != NULL) parameter->info.role = eqs_role_names[parameter->assignment.role]; /* which lives on */
  EQS_TRY(eqs_allocate(&parameter->matrix, parameter->assignment.count, sizeof *parameter->matrix));
cleanup:
  return status;
}

/* All parameters as the configuration assigns them, and how many matrices they are together. */
static eqs_status add_parameters(const eqs_config *config, int64_t parameters, const eqs_parameter_info *info,
                                 eqs_plan *plan, int64_t *matrices)
{
  eqs_status status = EQS_OK;
  int64_t elements = 0;
  *matrices = 0;
  EQS_TRY(eqs_allocate(&plan->parameter, parameters, sizeof *plan->parameter));
  while (plan->parameters < parameters) {
    eqs_planned_parameter *parameter = &plan->parameter[plan->parameters++];
    EQS_TRY(describe(config, &plan->model, &info[plan->parameters - 1], parameter));
    EQS_TRY(check_size(parameter, matrices, &elements));
    EQS_TRY(check_forced_grid(config, parameter, plan->owners));
  }
cleanup:
  return status;
}

static candidate describe_candidate(const eqs_config *config, eqs_planned_parameter *parameter, int64_t i)
{
  const eqs_rule_options *options = &parameter->assignment.options;
  const eqs_view *view = &parameter->assignment.views[i];
  const eqs_grid alone = {.rows = 1, .cols = 1};
  candidate made = {.parameter = parameter, .index = i, .bytes = element_count(view) * element_bytes(parameter)};
  parameter->matrix[i].flops = options->rule->flops(options, view->rows, view->cols);
  if (!parameter->info.frozen)
    made.seconds = eqs_rule_seconds(options, &config->speeds, &alone, view->rows, view->cols);
  return made;
}

/* Every matrix finds its owners, the most expensive first. */
static eqs_status place_matrices(const eqs_config *config, int64_t matrices, eqs_plan *plan, workspaces *space)
{
  eqs_status status = EQS_OK;
  candidate *candidates = NULL;
  ideal_share share = {0};
  int64_t count = 0;
  EQS_TRY(eqs_allocate(&candidates, matrices, sizeof *candidates));
  for (int64_t p = 0; p < plan->parameters; p++) {
    for (int64_t i = 0; i < plan->parameter[p].assignment.count; i++) {
      candidates[count] = describe_candidate(config, &plan->parameter[p], i);
      share.seconds += candidates[count].seconds / plan->owners;
      share.bytes += (double)candidates[count++].bytes / plan->owners;
    }
  }
  if (count > 0) qsort(candidates, (size_t)count, sizeof *candidates, compare_candidates);
  for (int64_t i = 0; i < count; i++) EQS_TRY(place_matrix(config, plan, &candidates[i], share, space));
cleanup:
  free(candidates);
  return status;
}

static eqs_status create_workspaces(int owners, workspaces *space)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_allocate(&space->freed, owners, sizeof *space->freed));
  EQS_TRY(eqs_allocate(&space->held, owners, sizeof *space->held));
cleanup:
  return status;
}

static void free_workspaces(workspaces *space)
{
  free(space->grid);
  free(space->freed);
  free(space->held);
}

eqs_status eqs_plan_make(const eqs_config *config, const eqs_model_shape *model, int owners, int64_t parameters,
                         const eqs_parameter_info *info, eqs_plan **result)
{
  eqs_status status = EQS_OK;
  eqs_plan *plan = NULL;
  workspaces space = {0};
  int64_t matrices;
  EQS_TRY(eqs_allocate(&plan, 1, sizeof *plan));
  plan->owners = owners;
  eqs_complete_model_shape(config, model, parameters, info, &plan->model);
  EQS_TRY(eqs_allocate(&plan->owner_seconds, owners, sizeof *plan->owner_seconds));
  EQS_TRY(eqs_allocate(&plan->owner_bytes, owners, sizeof *plan->owner_bytes));
  EQS_TRY(eqs_allocate(&plan->owner_peak, owners, sizeof *plan->owner_peak));
  EQS_TRY(create_workspaces(owners, &space));
  EQS_TRY(add_parameters(config, parameters, info, plan, &matrices));
  EQS_TRY(place_matrices(config, matrices, plan, &space));
  add_peaks(config, &space, plan);
cleanup:
  free_workspaces(&space);
  if (status != EQS_OK) eqs_plan_free(&plan);
  *result = plan;
  return status;
}

eqs_status eqs_plan_add_alias(eqs_plan *plan, int64_t p, const char *name)
{
  eqs_status status = EQS_OK;
  eqs_planned_parameter *parameter = &plan->parameter[p];
  EQS_TRY(eqs_grow(&parameter->alias, parameter->aliases, sizeof *parameter->alias));
  EQS_TRY(eqs_copy_text(&parameter->alias[parameter->aliases], name));
  parameter->aliases++;
cleanup:
  return status;
}

void eqs_plan_free(eqs_plan **plan)
{
  if (*plan == NULL) return;
  for (int64_t p = 0; p < (*plan)->parameters; p++) {
    eqs_planned_parameter *parameter = &(*plan)->parameter[p];
    free((char *)parameter->info.name);
    free((char *)parameter->info.module_type);
    for (int64_t a = 0; a < parameter->aliases; a++) free(parameter->alias[a]);
    free(parameter->alias);
    eqs_assignment_free(&parameter->assignment);
    free(parameter->matrix);
  }
  free((*plan)->parameter);
  free((*plan)->owner_seconds);
  free((*plan)->owner_bytes);
  free((*plan)->owner_peak);
  free(*plan);
  *plan = NULL;
}

double eqs_plan_message_seconds(const eqs_config *config, const eqs_plan *plan, int trainers)
{
  double most = 0, total = 0, held = 0;
  for (int64_t p = 0; p < plan->parameters; p++) {
    const eqs_planned_parameter *parameter = &plan->parameter[p];
    if (parameter->info.frozen) continue;
    total += (double)eqs_planned_elements(parameter) * (double)eqs_dtype_size(parameter->info.dtype);
    held += (double)eqs_planned_bytes(parameter);
  }
  for (int o = 0; o < plan->owners; o++) most = fmax(most, (double)plan->owner_bytes[o]);
  /* in and out, of what the busiest owner holds of the whole */
  return held > 0 ? 2 * trainers * total * most / held / config->speeds.message_bandwidth : 0;
}
