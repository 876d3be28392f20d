/* Which matrices are inside of a tensor: the layout and the pieces, from the group, the role and the model's heads. */
#ifndef EQS_MODEL_INSIDE_H
#define EQS_MODEL_INSIDE_H

#include "model/config.h"

typedef struct {
  eqs_tensor_layout layout;
  int64_t head_dim; /* with layouts of heads */
  eqs_split split;  /* its sizes are the group's or `size` */
  int64_t size[3];
  unsigned doubts; /* EQS_DOUBT_FUSED, EQS_DOUBT_HEADS, EQS_DOUBT_STORAGE; or 0 */
} eqs_matrices;

/*
 * See eqs_config_assign. The group's rule takes matrices. `matrices` is not to be copied: split points into it.
 *
 * EQS_USAGE: the group asks for heads whose size is not known, or does not fit the tensor.
 */
eqs_status eqs_find_matrices(const eqs_group_config *group, const eqs_model_shape *model, const eqs_recognition *found,
                             bool stacked, const eqs_parameter_info *info, eqs_matrices *matrices);

#endif
