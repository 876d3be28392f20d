#include "model/group_key.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "model/role.h"

enum { max_pieces = 64, max_steps = 100 };

/* ----- values of one number or name ----- */

static void *at(eqs_group_config *group, const eqs_group_key *key)
{
  return (char *)group + key->offset;
}

static const void *stored(const eqs_group_config *group, const eqs_group_key *key)
{
  return (const char *)group + key->offset;
}

static eqs_status read_choice(const eqs_group_key *key, eqs_yaml_value value, eqs_group_config *group)
{
  int choice;
  eqs_status status = eqs_yaml_read_choice(value, key->name, key->choice, key->choices, &choice);
  if (status == EQS_OK) memcpy(at(group, key), &choice, sizeof choice);
  return status;
}

static void write_choice(const eqs_group_key *key, const eqs_group_config *group, char *text, size_t size)
{
  int choice;
  memcpy(&choice, stored(group, key), sizeof choice);
  snprintf(text, size, "%s", key->choice[choice]);
}

static eqs_status read_number(const eqs_group_key *key, eqs_yaml_value value, eqs_group_config *group)
{
  return eqs_yaml_read_number(value, key->name, key->range, at(group, key));
}

static void write_number(const eqs_group_key *key, const eqs_group_config *group, char *text, size_t size)
{
  double number;
  memcpy(&number, stored(group, key), sizeof number);
  snprintf(text, size, "%g", number);
}

static eqs_status read_integer(const eqs_group_key *key, eqs_yaml_value value, eqs_group_config *group)
{
  return eqs_yaml_read_integer(value, key->name, key->minimum, key->maximum, at(group, key));
}

/* ----- values of a form of their own ----- */

static eqs_status read_steps(const eqs_group_key *key, eqs_yaml_value value, eqs_group_config *group)
{
  int64_t steps;
  eqs_status status = eqs_yaml_read_integer(value, key->name, 1, max_steps, &steps);
  if (status == EQS_OK) group->options.steps = (int)steps;
  return status;
}

static void write_steps(const eqs_group_key *key, const eqs_group_config *group, char *text, size_t size)
{
  (void)key;
  snprintf(text, size, "%d", group->options.steps);
}

static eqs_status read_center(const eqs_group_key *key, eqs_yaml_value value, eqs_group_config *group)
{
  group->center_given = true;
  return eqs_yaml_read_boolean(value, key->name, &group->options.center);
}

/* By default it depends on the role: a list of those that are centered. */
static void write_center(const eqs_group_key *key, const eqs_group_config *group, char *text, size_t size)
{
  (void)key;
  size_t length = 0;
  for (int role = 0; role < EQS_ROLES && length < size; role++)
    if (group->options.rule->center && eqs_role_is_centered((eqs_role)role))
      length +=
          (size_t)snprintf(text + length, size - length, length == 0 ? "[\"%s\"" : ", \"%s\"", eqs_role_names[role]);
  snprintf(text + (length < size ? length : size), length < size ? size - length : 0, length == 0 ? "false" : "]");
}

static void write_betas(const eqs_group_key *key, const eqs_group_config *group, char *text, size_t size)
{
  (void)key;
  snprintf(text, size, "[%g, %g]", group->options.betas[0], group->options.betas[1]);
}

static eqs_status read_schedule(const eqs_group_key *key, eqs_yaml_value value, eqs_group_config *group)
{
  (void)key;
  return eqs_schedule_read(value, &group->schedule);
}

static eqs_status read_betas(const eqs_group_key *key, eqs_yaml_value value, eqs_group_config *group)
{
  eqs_status status = EQS_OK;
  int length;
  double *betas = group->options.betas;
  EQS_TRY(eqs_yaml_list_length(value, key->name, 2, &length));
  if (!eqs_yaml_is_list(value) || length != 2)
    return eqs_yaml_fail(value, "%s must be two numbers, like [0.9, 0.95]", key->name);
  for (int i = 0; i < 2; i++)
    EQS_TRY(eqs_yaml_read_number(eqs_yaml_item(value, i), key->name, EQS_RANGE_BELOW_ONE, &betas[i]));
cleanup:
  return status;
}

static eqs_status create_lists(eqs_group_config *group)
{
  if (group->lists != NULL) return EQS_OK;
  eqs_status status = eqs_allocate(&group->lists, 1, sizeof *group->lists);
  group->options.lists = group->lists;
  return status;
}

/* A number of steps, or several, ascending. */
static eqs_status read_restarts(const eqs_group_key *key, eqs_yaml_value value, eqs_group_config *group)
{
  eqs_status status = EQS_OK;
  int length;
  int64_t step, last = 0;
  EQS_TRY(eqs_yaml_list_length(value, key->name, max_steps, &length));
  if (length == 0)
    return eqs_yaml_fail(value, "restarts is an empty list: leave it out, and restarts are where needed");
  EQS_TRY(create_lists(group));
  EQS_TRY(eqs_allocate(&group->lists->restart, length, sizeof *group->lists->restart));
  group->lists->restarts = length;
  for (int i = 0; i < length; i++, last = step) {
    eqs_yaml_value item = eqs_yaml_item(value, i);
    EQS_TRY(eqs_yaml_read_integer(item, key->name, 1, max_steps - 1, &step));
    if (step <= last) return eqs_yaml_fail(item, "restarts must ascend: %d follows %d", (int)step, (int)last);
    group->lists->restart[i] = (int)step;
  }
cleanup:
  return status;
}

/* [[a, b, c], ...], a triple for every step. */
static eqs_status read_coefficients(const eqs_group_key *key, eqs_yaml_value value, eqs_group_config *group)
{
  static const char wanted[] =
      "coefficients must be a list of triples, like [[3.4445, -4.775, 2.0315], [2, -1.5, 0.5]]";
  eqs_status status = EQS_OK;
  int length, numbers;
  EQS_TRY(eqs_yaml_list_length(value, key->name, max_steps, &length));
  if (!eqs_yaml_is_list(value) || length == 0) return eqs_yaml_fail(value, wanted);
  EQS_TRY(create_lists(group));
  EQS_TRY(eqs_allocate(&group->lists->polynomial, length, sizeof *group->lists->polynomial));
  group->lists->polynomials = length;
  for (int i = 0; i < length; i++) {
    eqs_yaml_value triple = eqs_yaml_item(value, i);
    if (!eqs_yaml_is_list(triple)) return eqs_yaml_fail(triple, wanted);
    EQS_TRY(eqs_yaml_list_length(triple, "a triple of coefficients", 3, &numbers));
    if (numbers != 3) return eqs_yaml_fail(triple, wanted);
    for (int k = 0; k < 3; k++)
      EQS_TRY(
          eqs_yaml_read_number(eqs_yaml_item(triple, k), key->name, EQS_RANGE_ANY, &group->lists->polynomial[i][k]));
  }
cleanup:
  return status;
}

static eqs_status read_pieces(eqs_yaml_value value, const char *what, eqs_split *split)
{
  eqs_status status = EQS_OK;
  int length;
  if (!eqs_yaml_is_list(value))
    return eqs_yaml_fail(value, "%s must be a list of sizes, like [2048, 1024, 1024]", what);
  EQS_TRY(eqs_yaml_list_length(value, what, max_pieces, &length));
  if (length == 0) return eqs_yaml_fail(value, "%s is an empty list", what);
  EQS_TRY(eqs_allocate(&split->size, length, sizeof *split->size));
  split->pieces = length;
  for (int i = 0; i < length; i++)
    EQS_TRY(eqs_yaml_read_integer(eqs_yaml_item(value, i), what, 1, INT64_MAX, &split->size[i]));
cleanup:
  return status;
}

const char *const eqs_split_keys[EQS_SPLIT_KEYS] = {"repeat", "pieces"};

/* [2048, 1024, 1024], or {repeat: 8, pieces: [256, 128, 128]}. */
static eqs_status read_split(const eqs_group_key *key, eqs_yaml_value value, eqs_group_config *group)
{
  eqs_status status = EQS_OK;
  eqs_yaml_mapping mapping = {0};
  eqs_split *split = &group->split;
  split->repeat = 1;
  if (!eqs_yaml_is_mapping(value)) return read_pieces(value, key->name, split);
  EQS_TRY(eqs_yaml_read_mapping(value, key->name, &mapping));
  for (int i = 0; i < mapping.count; i++) {
    int member;
    EQS_TRY(eqs_yaml_key(&mapping.pairs[i], key->name, eqs_split_keys, EQS_SPLIT_KEYS, &member));
    if (member == 0)
      EQS_TRY(eqs_yaml_read_integer(mapping.pairs[i].value, eqs_split_keys[0], 1, INT64_MAX, &split->repeat));
    else
      EQS_TRY(read_pieces(mapping.pairs[i].value, eqs_split_keys[1], split));
  }
  if (split->pieces == 0)
    status = eqs_yaml_fail(value, "split needs pieces, like {repeat: 8, pieces: [256, 128, 128]}");
cleanup:
  eqs_yaml_mapping_free(&mapping);
  return status;
}

/* A layout, or which matrices of the role's layout are split. */
enum { UNFUSED = EQS_LAYOUTS, AUTO, LAYOUT_CHOICES };
static const char *const layout_choices[LAYOUT_CHOICES] = {EQS_LAYOUT_NAMES, [UNFUSED] = "unfused", [AUTO] = "auto"};

static eqs_status read_layout(const eqs_group_key *key, eqs_yaml_value value, eqs_group_config *group)
{
  int choice;
  eqs_status status = eqs_yaml_read_choice(value, key->name, layout_choices, LAYOUT_CHOICES, &choice);
  if (status != EQS_OK) return status;
  group->layout_unfused = choice == UNFUSED;
  group->layout_auto = choice == AUTO;
  group->layout_given = choice < EQS_LAYOUTS;
  if (group->layout_given) group->layout = (eqs_tensor_layout)choice;
  return EQS_OK;
}

static eqs_status read_grid(const eqs_group_key *key, eqs_yaml_value value, eqs_group_config *group)
{
  int64_t pair[2];
  eqs_status status = eqs_yaml_read_pair(value, key->name, INT_MAX, pair);
  if (status != EQS_OK) return status;
  if (pair[0] > INT_MAX / pair[1]) return eqs_yaml_fail(value, "grid has more ranks than there can be");
  group->grid_rows = (int)pair[0];
  group->grid_cols = (int)pair[1];
  return EQS_OK;
}

/* 64, [64, 32] or 64x32. */
static eqs_status read_block(const eqs_group_key *key, eqs_yaml_value value, eqs_group_config *group)
{
  eqs_status status = EQS_OK;
  int64_t pair[2];
  const char *text;
  if (!eqs_yaml_is_list(value) && eqs_yaml_read_text(value, key->name, &text) == EQS_OK && strchr(text, 'x') != NULL) {
    EQS_TRY(eqs_yaml_read_pair(value, key->name, INT_MAX, pair));
  } else {
    int length;
    EQS_TRY(eqs_yaml_list_length(value, key->name, 2, &length));
    if (length == 0) return eqs_yaml_fail(value, "block is an empty list");
    for (int i = 0; i < 2; i++)
      EQS_TRY(eqs_yaml_read_integer(eqs_yaml_item(value, i < length ? i : 0), key->name, 1, INT_MAX, &pair[i]));
  }
  group->row_block = pair[0];
  group->col_block = pair[1];
cleanup:
  return status;
}

/* ----- the table ----- */

#define CHOICE(member, names, count)                                                                                   \
  .form = "name", .read = read_choice, .write = write_choice, .offset = offsetof(eqs_group_config, member),            \
  .choice = (names), .choices = (count)
#define NUMBER(member, numbers, from)                                                                                  \
  .form = (numbers), .read = read_number, .write = write_number, .offset = offsetof(eqs_group_config, member),         \
  .range = (from)

const eqs_group_key eqs_group_keys[EQS_GROUP_KEYS] = {
    [EQS_GROUP_MOMENTUM] = {"momentum", "how the direction D follows from gradients", .needs = EQS_KEY_MOMENTUM,
                            CHOICE(options.momentum, eqs_momentum_names, EQS_MOMENTA)},
    [EQS_GROUP_BETA] = {"beta", "factor on the momentum in a step", .needs = EQS_KEY_BETA,
                        NUMBER(options.beta, "0 <= number < 1", EQS_RANGE_BELOW_ONE)},
    [EQS_GROUP_BETAS] = {"betas", "factors on the averages of gradients and of their squares in a step",
                         "[number, number], each >= 0 and < 1", EQS_KEY_BETAS, read_betas, write_betas},
    [EQS_GROUP_ALPHA] = {"alpha", "power of the nuclear norm that multiplies the update; 0: none",
                         .needs = EQS_KEY_ALPHA, NUMBER(options.alpha, "number >= 0", EQS_RANGE_NOT_NEGATIVE)},
    [EQS_GROUP_EPS] = {"eps", "damping of Gram matrices, row norms and nuclear norms", .needs = EQS_KEY_EPS,
                       NUMBER(options.eps, "number > 0", EQS_RANGE_POSITIVE)},
    [EQS_GROUP_SOLVER] = {"solver", "approximation of the polar factor", .needs = EQS_KEY_SOLVER,
                          CHOICE(options.solver, eqs_solver_names, EQS_SOLVERS)},
    [EQS_GROUP_STEPS] = {"steps", "polynomials of the solver; of solver custom as many as there are coefficients",
                         "1 ... 100", EQS_KEY_STEPS, read_steps, write_steps},
    [EQS_GROUP_FORM] = {"form", "whether the solver's polynomials are of the matrix or of its Gram matrix",
                        .needs = EQS_KEY_FORM, CHOICE(options.form, eqs_form_names, EQS_FORMS)},
    [EQS_GROUP_ROW_MODE] = {"row_mode", "what a row is divided by: norm + eps, or the larger of both",
                            .needs = EQS_KEY_ROW_MODE, CHOICE(options.row_mode, eqs_row_mode_names, EQS_ROW_MODES)},
    [EQS_GROUP_ORDER] = {"order", "whether row norms come before the polar factor", .needs = EQS_KEY_ORDER,
                         CHOICE(options.order, eqs_order_names, EQS_ORDERS)},
    [EQS_GROUP_SIDE] = {"side", "which Gram matrix is damped", .needs = EQS_KEY_SIDE,
                        CHOICE(options.side, eqs_side_names, EQS_SIDES)},
    [EQS_GROUP_CENTER] = {"center",
                          "whether the mean of the rows is taken out of direction and update; by default of "
                          "the roles listed",
                          "boolean", EQS_KEY_CENTER, read_center, write_center},
    [EQS_GROUP_SCALE] = {"scale", "factor on the update that follows from the matrix's shape", .needs = EQS_KEY_SCALE,
                         CHOICE(options.scale, eqs_scale_names, EQS_SCALES)},
    [EQS_GROUP_NU_SCOPE] = {"nu_scope", "whether the nuclear norm is the tensor's or each matrix's",
                            .needs = EQS_KEY_NU_SCOPE, CHOICE(options.nu_scope, eqs_nu_scope_names, EQS_NU_SCOPES)},
    [EQS_GROUP_LAYOUT] = {"layout", "which matrices are inside a tensor; by default the role's", "name", EQS_KEY_LAYOUT,
                          read_layout, .choice = layout_choices, .choices = LAYOUT_CHOICES},
    [EQS_GROUP_EPS_MODE] = {"eps_mode", "whether eps is a number or relative to the direction",
                            .needs = EQS_KEY_EPS_MODE, CHOICE(options.eps_mode, eqs_eps_mode_names, EQS_EPS_MODES)},
    [EQS_GROUP_RESTARTS] = {"restarts", "steps after which the Gram form restarts; by default where it needs to",
                            "number or ascending list, each 1 ... 99", EQS_KEY_RESTARTS, read_restarts},
    [EQS_GROUP_COEFFICIENTS] = {"coefficients", "polynomials of solver custom; the last one repeats",
                                "[[a, b, c], ...]", EQS_KEY_COEFFICIENTS, read_coefficients},
    [EQS_GROUP_NORMALISATION] = {"normalisation", "norm that solver custom divides by", .needs = EQS_KEY_NORMALISATION,
                                 CHOICE(options.normalisation, eqs_normalisation_names, EQS_NORMALISATIONS)},
    [EQS_GROUP_MATCH] = {"match", "which parameters the group takes; by default all that are left", "mapping"},
    [EQS_GROUP_RULE] = {"rule", "update rule; required, here or in defaults", "name"},
    [EQS_GROUP_LR] = {"lr", "learning rate; required, here or in defaults", "number >= 0", .read = read_number,
                      .offset = offsetof(eqs_group_config, lr), .range = EQS_RANGE_NOT_NEGATIVE},
    [EQS_GROUP_WEIGHT_DECAY] = {"weight_decay", "decoupled: the weight is multiplied by 1 - lr weight_decay",
                                NUMBER(options.weight_decay, "number >= 0", EQS_RANGE_NOT_NEGATIVE)},
    [EQS_GROUP_HEAD_DIM] = {"head_dim", "rows of a head, for layouts of heads; by default the model's",
                            "whole number >= 1", EQS_KEY_LAYOUT, read_integer,
                            .offset = offsetof(eqs_group_config, head_dim), .minimum = 1, .maximum = INT64_MAX},
    [EQS_GROUP_SPLIT] = {"split", "sizes of the matrices that are fused in a tensor",
                         "[size, ...] or {repeat: number, pieces: [size, ...]}", EQS_KEY_LAYOUT, read_split},
    [EQS_GROUP_GRID] = {"grid", "process grid of each matrix; by default the plan's choice", "RxC", .read = read_grid},
    [EQS_GROUP_BLOCK] = {"block", "rows and columns of a block; by default the plan's choice",
                         "number, [rows, columns] or RxC", .read = read_block},
    [EQS_GROUP_SCHEDULE] = {"schedule", "learning-rate schedule; by default the configuration's",
                            "mapping, or constant", .read = read_schedule},
};

bool eqs_group_key_used(const eqs_rule *rule, eqs_group_key_index key)
{
  unsigned needs = eqs_group_keys[key].needs;
  return needs == 0 || (rule->keys & needs) != 0;
}

bool eqs_group_key_default(const eqs_rule *rule, eqs_group_key_index key, char *text, size_t size)
{
  const eqs_group_config group = {.options = eqs_rule_defaults(rule)};
  if (eqs_group_keys[key].write == NULL) return false;
  eqs_group_keys[key].write(&eqs_group_keys[key], &group, text, size);
  return true;
}
