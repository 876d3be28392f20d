#include <errno.h>
#include <string.h>

#include "bench/bench.h"
#include "bench/model.h"
#include "dist/communicator.h"
#include "rules/rules.h"

static const char documentation[] =
    "Time whole optimizer steps of matrices under one rule: momentum, rule and decay of pseudo-random gradients. Every "
    "rule with every size on every grid is a case.\v"
    "Efficiency is by work for rules with a polar factor, by bytes for the others. On a forced grid all matrices lie "
    "on "
    "the first ranks.\n\n"
    "Example:\n"
    "  mpirun -np 2 equishard bench rules --rule row_norm,right_spectral --size 151936x1024 --grid 2x1";

enum {
  option_rule = 'r',
  option_size = 's',
  option_grid = 'g',
  option_count = 'n',
  option_solver = 'S',
  option_steps = 'k',
  option_form = 'F',
  option_center = 'c'
};

static const struct argp_option options[] = {
    {"rule", option_rule, "NAME,...", 0, "the rules (default: all)", 0},
    {"size", option_size, "MxN,...", 0, "rows and columns (default 1024x1024)", 0},
    {"grid", option_grid, "RxC,...", 0, "rows and columns of ranks, or planned (the default)", 0},
    {"count", option_count, "N", 0, "that many matrices of each size (default 1)", 0},
    {"solver", option_solver, "NAME", 0, "of the rules that have one (default: the rule's)", 0},
    {"steps", option_steps, "K", 0, "of the iterative solvers (default 5)", 0},
    {"form", option_form, "FORM", 0, "auto (the default), direct, gram or gram_restart", 0},
    {"center", option_center, NULL, 0, "subtract the mean row, as for lm_head and router", 0},
    {0},
};

enum { max_rules = 32 };

typedef struct {
  eqs_bench_options common;
  int rules;
  const eqs_rule *rule[max_rules];
  eqs_pair_list sizes, grids;
  int64_t count, steps;
  int solver; /* -1: the rule's */
  int form;
  bool center;
} arguments;

/* Names of all rules; how many there are. */
static int rule_names(const char *names[max_rules])
{
  int count = 0;
  for (const eqs_rule *rule; count < max_rules && (rule = eqs_rule_at(count)) != NULL; count++)
    names[count] = rule->name;
  return count;
}

/* The list is cut at its commas. */
static error_t add_rules(struct argp_state *state, char *list, arguments *given)
{
  const char *names[max_rules];
  int count = rule_names(names), choice;
  for (char *rest = list, *name; (name = strsep(&rest, ",")) != NULL;) {
    error_t error = eqs_parse_choice(state, "rule", name, names, count, &choice);
    if (error != 0) return error;
    if (given->rules == max_rules) {
      argp_error(state, "--rule: more than %d at a time", max_rules);
      return E2BIG;
    }
    given->rule[given->rules++] = eqs_rule_at(choice);
  }
  return 0;
}

static void set_defaults(arguments *given)
{
  if (given->sizes.count == 0) given->sizes = (eqs_pair_list){1, {{1024, 1024}}};
  if (given->grids.count == 0) given->grids.count = 1;
  if (given->rules > 0) return;
  for (const eqs_rule *rule; given->rules < max_rules && (rule = eqs_rule_at(given->rules)) != NULL;)
    given->rule[given->rules++] = rule;
}

static error_t parse(int key, char *value, struct argp_state *state)
{
  arguments *given = state->input;
  switch (key) {
  case ARGP_KEY_INIT: state->child_inputs[0] = &given->common; return 0;
  case option_rule: return add_rules(state, value, given);
  case option_size: return eqs_parse_pairs(state, "size", value, false, &given->sizes);
  case option_grid: return eqs_parse_pairs(state, "grid", value, true, &given->grids);
  case option_count: return eqs_parse_integer(state, "count", value, 1, 1 << 20, &given->count);
  case option_solver: return eqs_parse_choice(state, "solver", value, eqs_solver_names, EQS_CUSTOM, &given->solver);
  case option_steps: return eqs_parse_integer(state, "steps", value, 1, 100, &given->steps);
  case option_form: return eqs_parse_choice(state, "form", value, eqs_form_names, EQS_FORMS, &given->form);
  case option_center: given->center = true; return 0;
  case ARGP_KEY_END: set_defaults(given); return 0;
  default: return ARGP_ERR_UNKNOWN;
  }
}

static eqs_bench_case describe(const eqs_bench_model *model, const eqs_bench_matrices *matrices)
{
  const eqs_rule_options *rule = &model->plan->parameter[0].assignment.options;
  bool polar = eqs_rule_has_polar(rule->rule);
  eqs_bench_case made = {
      .minimum = eqs_bench_model_minimum(model),
      .efficiency = polar ? EQS_BY_WORK : EQS_BY_BYTES,
      .more = json_pack("{s:I, s:I, s:f}", "count", (json_int_t)matrices->count, "bytes_held",
                        (json_int_t)eqs_bench_model_held(model), "predicted", eqs_bench_model_predicted(model)),
  };
  if (polar) {
    json_object_set_new(made.more, "solver", json_string(eqs_solver_names[rule->solver]));
    json_object_set_new(made.more, "steps", json_integer(rule->steps));
    json_object_set_new(made.more, "form", json_string(eqs_form_names[rule->form]));
  }
  snprintf(made.name, sizeof made.name, "%s", matrices->rule);
  snprintf(made.size, sizeof made.size, "%lldx%lld", (long long)matrices->rows, (long long)matrices->cols);
  eqs_grid_text(matrices->grid, made.grid, sizeof made.grid);
  return made;
}

static eqs_status measure_case(eqs_bench *bench, const eqs_bench_matrices *matrices)
{
  eqs_status status = EQS_OK;
  eqs_bench_model model = {0};
  eqs_bench_case made = {0};
  EQS_TRY(eqs_agree(bench->comm, eqs_bench_model_make(matrices, bench->ranks, &model)));
  made = describe(&model, matrices);
  EQS_TRY(eqs_bench_model_measure(bench, &model, &made.timing));
  EQS_TRY(eqs_agree(bench->comm, eqs_bench_table_add(&bench->table, &made)));
cleanup:
  eqs_bench_case_free(&made);
  eqs_bench_model_free(&model);
  return status;
}

static eqs_status measure_cases(eqs_bench *bench, const void *context)
{
  const arguments *given = context;
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_agree(bench->comm, eqs_check_grids(bench, &given->grids)));
  for (int r = 0; r < given->rules; r++) {
    for (int size = 0; size < given->sizes.count; size++) {
      for (int grid = 0; grid < given->grids.count; grid++) {
        eqs_bench_matrices matrices = {.rule = given->rule[r]->name,
                                       .solver = given->solver < 0 ? NULL : eqs_solver_names[given->solver],
                                       .steps = (int)given->steps,
                                       .form = eqs_form_names[given->form],
                                       .center = given->center,
                                       .count = given->count,
                                       .rows = given->sizes.pair[size][0],
                                       .cols = given->sizes.pair[size][1]};
        memcpy(matrices.grid, given->grids.pair[grid], sizeof matrices.grid);
        EQS_TRY(measure_case(bench, &matrices));
      }
    }
  }
cleanup:
  return status;
}

eqs_status eqs_bench_rules(int argc, char **argv)
{
  const struct argp_child children[] = {{&eqs_bench_argp, 0, NULL, 0}, {0}};
  const struct argp argp = {.options = options, .parser = parse, .doc = documentation, .children = children};
  arguments given = {.common = eqs_bench_defaults(), .count = 1, .steps = 5, .solver = -1, .form = EQS_FORM_AUTO};
  bool done = false;
  eqs_status status = eqs_parse_arguments(&argp, argc, argv, eqs_world_rank() == 0, &given, &done);
  if (status != EQS_OK || done) return status;
  return eqs_bench_run(&given.common, measure_cases, &given);
}
