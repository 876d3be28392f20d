/* Which matrices are inside of a tensor: the layout and the pieces, from the group, the role and the model's heads. */
#ifndef EQS_MODEL_INSIDE_H
#define EQS_MODEL_INSIDE_H

#include "model/group_key.h"
#include "model/model_shape.h"
#include "model/recognize.h"

/* What is not sure about what a parameter gets, and worth a warning: bits. */
enum {
  EQS_DOUBT_SHAPE_ALONE = 1 << 0, /* nothing but two dimensions says that it is a matrix */
  EQS_DOUBT_ROWS_ALONE = 1 << 1,  /* nothing but as many rows as the embedding has says that it is a head */
  EQS_DOUBT_FUSED = 1 << 2,       /* it is fused of several matrices and treated as one */
  EQS_DOUBT_HEADS = 1 << 3,       /* its heads are to be apart, and their size is not known */
  EQS_DOUBT_STORAGE = 1 << 4,     /* its shape says that it is stored as inputs × outputs, its class is not known */
};

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
