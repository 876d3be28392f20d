#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "bench/bench.h"
#include "bench/model.h"
#include "bench/pseudo_random.h"
#include "dist/communicator.h"

static const char documentation[] =
    "Time polar factors of pseudo-random float32 matrices: of one on a process grid, or of many laid out by the plan. "
    "Every size on every grid with every solver is a case.\v"
    "On a forced grid all matrices lie on the first ranks, one after the other. Bytes are those of the matrices, read "
    "and written once.\n\n"
    "Example:\n"
    "  mpirun -np 2 equishard bench polar --size 2048x2048 --grid 2x1,1x2 --format json\n"
    "  mpirun -np 2 equishard bench polar --size 128x1024 --count 128 --grid planned";

enum {
  option_size = 's',
  option_grid = 'g',
  option_count = 'n',
  option_solver = 'S',
  option_steps = 'k',
  option_form = 'F'
};

static const struct argp_option options[] = {
    {"size", option_size, "MxN,...", 0, "rows and columns (default 2048x2048)", 0},
    {"grid", option_grid, "RxC,...", 0, "rows and columns of ranks, or planned (the default)", 0},
    {"count", option_count, "N", 0, "that many matrices of each size (default 1)", 0},
    {"solver", option_solver, "NAME", 0, "may be repeated (default polar_express_5)", 0},
    {"steps", option_steps, "K", 0, "of the iterative solvers (default 5)", 0},
    {"form", option_form, "FORM", 0, "auto (the default), direct, gram or gram_restart", 0},
    {0},
};

typedef struct {
  eqs_bench_options common;
  eqs_pair_list sizes, grids;
  int64_t count, steps;
  int solvers, solver[EQS_SOLVERS];
  int form;
} arguments;

static error_t add_solver(struct argp_state *state, const char *value, arguments *given)
{
  if (given->solvers == EQS_SOLVERS) {
    argp_error(state, "--solver: more than there are");
    return E2BIG;
  }
  return eqs_parse_choice(state, "solver", value, eqs_solver_names, EQS_CUSTOM, &given->solver[given->solvers++]);
}

static void set_defaults(arguments *given)
{
  if (given->sizes.count == 0) given->sizes = (eqs_pair_list){1, {{2048, 2048}}};
  if (given->grids.count == 0) given->grids.count = 1;
  if (given->solvers == 0) given->solver[given->solvers++] = EQS_POLAR_EXPRESS_5;
}

static error_t parse(int key, char *value, struct argp_state *state)
{
  arguments *given = state->input;
  switch (key) {
  case ARGP_KEY_INIT: state->child_inputs[0] = &given->common; return 0;
  case option_size: return eqs_parse_pairs(state, "size", value, false, &given->sizes);
  case option_grid: return eqs_parse_pairs(state, "grid", value, true, &given->grids);
  case option_count: return eqs_parse_integer(state, "count", value, 1, 1 << 20, &given->count);
  case option_solver: return add_solver(state, value, given);
  case option_steps: return eqs_parse_integer(state, "steps", value, 1, 100, &given->steps);
  case option_form: return eqs_parse_choice(state, "form", value, eqs_form_names, EQS_FORMS, &given->form);
  case ARGP_KEY_END: set_defaults(given); return 0;
  default: return ARGP_ERR_UNKNOWN;
  }
}

/* The matrices of a case on this rank; grid NULL where it has no shard. */
typedef struct {
  uint32_t seed;
  eqs_polar_options options;
  eqs_grid_cache *grids;
  int64_t count;
  eqs_matrix *matrix;
} polar_case;

static eqs_status create_matrices(const eqs_plan *plan, MPI_Comm comm, polar_case *work)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_grid_cache_create(comm, &work->grids));
  EQS_TRY(eqs_allocate(&work->matrix, plan->parameters, sizeof *work->matrix));
  for (work->count = 0; work->count < plan->parameters; work->count++) {
    const eqs_planned_matrix *planned = plan->parameter[work->count].matrix;
    const eqs_distribution *distribution = &planned->distribution;
    const eqs_grid *grid;
    EQS_TRY(eqs_grid_get(work->grids, planned->first_owner, distribution->grid_rows, distribution->grid_cols, &grid));
    if (eqs_grid_member(grid))
      EQS_TRY(eqs_matrix_create(grid, distribution->rows, distribution->cols, distribution->row_block,
                                distribution->col_block, EQS_ELEMENT_FLOAT, &work->matrix[work->count]));
  }
cleanup:
  return status;
}

static void destroy_matrices(polar_case *work)
{
  for (int64_t i = 0; i < work->count; i++) eqs_matrix_destroy(&work->matrix[i]);
  free(work->matrix);
  eqs_grid_cache_destroy(&work->grids);
}

static eqs_status fill(void *context)
{
  polar_case *work = context;
  eqs_status status = EQS_OK;
  for (int64_t i = 0; i < work->count && status == EQS_OK; i++)
    if (work->matrix[i].grid != NULL) status = eqs_fill_random(eqs_derive_seed(work->seed, i), &work->matrix[i]);
  return status;
}

static eqs_status make_factors(void *context)
{
  polar_case *work = context;
  eqs_status status = EQS_OK;
  for (int64_t i = 0; i < work->count && status == EQS_OK; i++)
    if (work->matrix[i].grid != NULL) status = eqs_polar(&work->options, &work->matrix[i], NULL);
  return status;
}

static eqs_bench_case describe(const eqs_bench_matrices *matrices, const polar_case *work)
{
  double elements = (double)matrices->count * (double)matrices->rows * (double)matrices->cols;
  eqs_bench_case made = {
      .name = "polar",
      .minimum = {.flops =
                      (double)matrices->count * eqs_minimal_polar_flops(&work->options, matrices->rows, matrices->cols),
                  .bytes = 2 * sizeof(float) * elements},
      .efficiency = EQS_BY_WORK,
      .more = json_pack("{s:I, s:s, s:i, s:s}", "count", (json_int_t)matrices->count, "solver", matrices->solver,
                        "steps", matrices->steps, "form", matrices->form),
  };
  snprintf(made.size, sizeof made.size, "%lldx%lld", (long long)matrices->rows, (long long)matrices->cols);
  eqs_grid_text(matrices->grid, made.grid, sizeof made.grid);
  return made;
}

/* The rule muon stands for the layouts that the plan gives to matrices with polar factors. */
static eqs_status measure_case(eqs_bench *bench, const eqs_bench_matrices *matrices, const eqs_polar_options *polar)
{
  eqs_status status = EQS_OK;
  eqs_bench_model model = {0};
  polar_case work = {.seed = bench->options->seed, .options = *polar};
  eqs_bench_case made = describe(matrices, &work);
  status = eqs_bench_model_make(matrices, bench->ranks, &model);
  if (status == EQS_OK) status = create_matrices(model.plan, bench->comm, &work);
  EQS_TRY(eqs_agree(bench->comm, status));
  EQS_TRY(eqs_measure(bench->comm, (int)bench->options->warmup, (int)bench->options->repeat, fill, make_factors, &work,
                      &made.timing));
  EQS_TRY(eqs_agree(bench->comm, eqs_bench_table_add(&bench->table, &made)));
cleanup:
  eqs_bench_case_free(&made);
  destroy_matrices(&work);
  eqs_bench_model_free(&model);
  return status;
}

static eqs_status measure_cases(eqs_bench *bench, const void *context)
{
  const arguments *given = context;
  const double eps = 1e-8; /* of the damped solvers, as the rules have it by default */
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_agree(bench->comm, eqs_check_grids(bench, &given->grids)));
  for (int size = 0; size < given->sizes.count; size++) {
    for (int grid = 0; grid < given->grids.count; grid++) {
      for (int s = 0; s < given->solvers; s++) {
        eqs_solver solver = (eqs_solver)given->solver[s];
        eqs_bench_matrices matrices = {.rule = "muon",
                                       .solver = eqs_solver_names[solver],
                                       .steps = (int)given->steps,
                                       .form = eqs_form_names[given->form],
                                       .count = given->count,
                                       .rows = given->sizes.pair[size][0],
                                       .cols = given->sizes.pair[size][1]};
        memcpy(matrices.grid, given->grids.pair[grid], sizeof matrices.grid);
        eqs_polar_options polar = {.solver = solver,
                                   .steps = matrices.steps,
                                   .form = (eqs_form)given->form,
                                   .eps = eqs_solver_damped(solver, EQS_NORM_FROBENIUS) ? eps : 0};
        EQS_TRY(measure_case(bench, &matrices, &polar));
      }
    }
  }
cleanup:
  return status;
}

eqs_status eqs_bench_polar(int argc, char **argv)
{
  const struct argp_child children[] = {{&eqs_bench_argp, 0, NULL, 0}, {0}};
  const struct argp argp = {.options = options, .parser = parse, .doc = documentation, .children = children};
  arguments given = {.common = eqs_bench_defaults(), .count = 1, .steps = 5, .form = EQS_FORM_AUTO};
  bool done = false;
  eqs_status status = eqs_parse_arguments(&argp, argc, argv, eqs_world_rank() == 0, &given, &done);
  if (status != EQS_OK || done) return status;
  return eqs_bench_run(&given.common, measure_cases, &given);
}
