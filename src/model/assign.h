/* What a parameter gets: role, group, options and matrices. */
#ifndef EQS_MODEL_ASSIGN_H
#define EQS_MODEL_ASSIGN_H

#include "model/config.h"
#include "model/inside.h"
#include "model/model_shape.h"

/* What a parameter gets. */
typedef struct {
  eqs_role role;
  int group;                /* index into config->group; -1: none, of a frozen parameter */
  eqs_rule_options options; /* with the role's default of `center` */
  eqs_tensor_layout layout; /* row for element-wise rules, which see the whole tensor as one matrix */
  eqs_inside inside;        /* what the tensor consists of, by its name */
  unsigned doubts;          /* EQS_DOUBT_... */
  int64_t count;            /* matrices */
  eqs_view *views;          /* allocated; free with eqs_assignment_free. Of one shape, but for `split` */
} eqs_assignment;

/*
 * What a parameter is: by info->role, the configuration's `roles`, or name, class and shape (eqs_recognize). A matrix
 * that nothing else is known of is a head if it has as many rows as the embedding.
 *
 * info     [in]  name, without the prefixes of wrappers; module_type, ndim, shape, role, stacked
 * model    [in]  completed by eqs_complete_model_shape; NULL: nothing is known
 * stacked  [out] whether the first dimension counts layers
 * doubts   [out] EQS_DOUBT_SHAPE_ALONE or EQS_DOUBT_ROWS_ALONE; or 0
 */
eqs_recognition eqs_config_recognize(const eqs_config *config, const eqs_model_shape *model,
                                     const eqs_parameter_info *info, bool *stacked, unsigned *doubts);

/*
 * Role, group, options and matrices of a parameter. The layout of a group that gives none:
 * - row_norm and hybrid, whose rows are units: eqs_role_unit_layout;
 * - muon, polar, right_spectral and left_spectral: eqs_role_matrix_layout. A polar factor has no units, so nothing is
 *   transposed but what a module stores as inputs × outputs (Conv1D), for the shape factors;
 * - rules with a polar factor: q, k and v that are fused in one tensor are apart, where the model's heads are known or
 *   q, k and v are as large as its input; so are gate and up of a dense MLP under rules without units. Fused experts
 *   (OLMoE) stay whole, and so do heads;
 * - element-wise rules (adamw): none.
 * `layout: unfused` is the same with gate and up apart everywhere, `layout: auto` with heads apart and convolutions
 * flattened, too.
 *
 * info, model  [in] as eqs_config_recognize
 *
 * EQS_USAGE: no group matches; the rule cannot apply to the shape; the layout does not fit; info->role is none. The
 * message names the parameter, and the group's file and line.
 */
eqs_status eqs_config_assign(const eqs_config *config, const eqs_model_shape *model, const eqs_parameter_info *info,
                             eqs_assignment *assignment);
void eqs_assignment_free(eqs_assignment *assignment);

#endif
