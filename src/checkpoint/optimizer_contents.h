/* An optimizer's weights and state as the contents of a checkpoint. */
#ifndef EQS_CHECKPOINT_OPTIMIZER_CONTENTS_H
#define EQS_CHECKPOINT_OPTIMIZER_CONTENTS_H

#include "checkpoint/contents.h"
#include "optimizer/optimizer.h"

enum { EQS_OPTIMIZER_ATTRIBUTES = 32 }; /* of a parameter, at most */

/*
 * Contents with the optimizer's parameters in the plan's order, without items. Names and shards are borrowed from the
 * optimizer. Free with eqs_contents_free. EQS_FAILED.
 */
eqs_status eqs_optimizer_contents(const eqs_optimizer *optimizer, eqs_checkpoint_contents *contents);

/* The tensors that a parameter has in a checkpoint, the weight first: their names, and their index for eqs_owned_state.
 */
typedef struct {
  int count, index[EQS_MAX_TENSORS];
  const char *name[EQS_MAX_TENSORS];
} eqs_optimizer_tensors;

eqs_optimizer_tensors eqs_optimizer_list_tensors(const eqs_optimizer *optimizer, int64_t p);

#endif
