#include "optimizer/shards.h"

#include <stdlib.h>

#include "base/memory.h"

eqs_status eqs_shards_take(eqs_optimizer *optimizer, int64_t p, eqs_shards_kind kind, const float *tensor)
{
  eqs_status status = EQS_OK;
  const eqs_planned_parameter *planned = &optimizer->plan->parameter[p];
  for (int64_t i = 0; i < planned->assignment.count; i++) {
    eqs_owned_matrix *matrix = &optimizer->parameter[p].matrix[i];
    const eqs_view *view = &planned->assignment.views[i];
    float *message = NULL;
    if (matrix->grid == NULL) continue;
    eqs_fragment fragment = {.view = view,
                             .distribution = &planned->matrix[i].distribution,
                             .row = matrix->grid->row,
                             .col = matrix->grid->col,
                             .end_row = view->tensor_rows};
    EQS_TRY(eqs_allocate_raw(&message, eqs_fragment_count(&fragment), sizeof *message));
    eqs_fragment_gather(&fragment, sizeof *message, tensor, message);
    eqs_fragment_write_shard(&fragment, EQS_FLOAT32, message,
                             eqs_floats(kind == EQS_SHARDS_WEIGHT ? &matrix->weight : &matrix->gradient));
    free(message);
  }
cleanup:
  return status;
}
