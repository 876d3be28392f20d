#include "optimizer/frozen.h"

#include <stdlib.h>

#include "base/memory.h"

void eqs_optimizer_forget_kept(eqs_optimizer *optimizer, int64_t p)
{
  eqs_owned_parameter *parameter = &optimizer->parameter[p];
  for (int64_t i = 0; i < optimizer->plan->parameter[p].assignment.count; i++)
    for (int s = 1; s <= parameter->kept.states; s++) eqs_matrix_destroy(eqs_owned_state(&parameter->matrix[i], s));
  eqs_kept_state_free(&parameter->kept);
}

static eqs_status add_state(eqs_optimizer *optimizer, int64_t p, const char *name)
{
  eqs_status status = EQS_OK;
  eqs_owned_parameter *parameter = &optimizer->parameter[p];
  eqs_kept_state *kept = &parameter->kept;
  EQS_TRY(eqs_copy_text(&kept->state_name[kept->states], name));
  kept->states++;
  for (int64_t i = 0; i < optimizer->plan->parameter[p].assignment.count; i++) {
    eqs_owned_matrix *matrix = &parameter->matrix[i];
    if (matrix->grid != NULL)
      EQS_TRY(eqs_matrix_create_like(&matrix->weight, EQS_ELEMENT_FLOAT, eqs_owned_state(matrix, kept->states)));
  }
cleanup:
  return status;
}

static eqs_status add_attribute(eqs_kept_state *kept, const eqs_attribute *attribute)
{
  eqs_status status = EQS_OK;
  char *name = NULL, *text = NULL;
  EQS_TRY(eqs_copy_text(&name, attribute->name));
  EQS_TRY(eqs_copy_text(&text, attribute->text));
  EQS_TRY(eqs_grow(&kept->attribute, kept->attributes, sizeof *kept->attribute));
  eqs_attribute *added = &kept->attribute[kept->attributes++];
  *added = *attribute;
  added->name = name, added->text = text;
  name = text = NULL;
cleanup:
  free(name);
  free(text);
  return status;
}

eqs_status eqs_optimizer_keep(eqs_optimizer *optimizer, int64_t p, int states, const char *const *name, int attributes,
                              const eqs_attribute *attribute)
{
  eqs_status status = EQS_OK;
  eqs_optimizer_forget_kept(optimizer, p);
  for (int s = 0; s < states; s++) EQS_TRY(add_state(optimizer, p, name[s]));
  for (int a = 0; a < attributes; a++) EQS_TRY(add_attribute(&optimizer->parameter[p].kept, &attribute[a]));
cleanup:
  return status;
}
