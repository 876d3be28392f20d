#include "model/role.h"

#include <string.h>

const char *const eqs_role_names[EQS_ROLES] = {"embedding",   "position", "lm_head", "router",         "attention",
                                               "mlp_gate_up", "mlp_down", "mlp",     "expert_gate_up", "expert_down",
                                               "convolution", "matrix",   "other"};

eqs_role eqs_role_find(const char *name)
{
  int role = 0;
  while (role < EQS_ROLES && strcmp(eqs_role_names[role], name) != 0) role++;
  return (eqs_role)role;
}

bool eqs_role_is_centered(eqs_role role)
{
  return role == EQS_ROLE_LM_HEAD || role == EQS_ROLE_ROUTER;
}

eqs_tensor_layout eqs_role_unit_layout(eqs_role role, eqs_storage storage, int ndim)
{
  bool down = role == EQS_ROLE_MLP_DOWN || role == EQS_ROLE_EXPERT_DOWN;
  bool up = role == EQS_ROLE_MLP_GATE_UP || role == EQS_ROLE_EXPERT_GATE_UP;
  if (ndim < 2) return EQS_LAYOUT_ROW;
  switch (storage) {
  case EQS_STORED_BY_INPUTS: return down ? EQS_LAYOUT_ROW : EQS_LAYOUT_COL;
  case EQS_STORED_AS_GPT_OSS: return up ? EQS_LAYOUT_GATE_UP_INTERLEAVED_PAIR : EQS_LAYOUT_ROW;
  default: return down ? EQS_LAYOUT_COL : EQS_LAYOUT_ROW;
  }
}

/* But for the experts of gpt-oss, which the paper's runs take as stored. */
eqs_tensor_layout eqs_role_matrix_layout(eqs_role role, eqs_storage storage, int ndim)
{
  if (ndim < 2) return EQS_LAYOUT_ROW;
  if (storage == EQS_STORED_BY_INPUTS) return EQS_LAYOUT_COL;
  bool interleaved = eqs_role_unit_layout(role, storage, ndim) == EQS_LAYOUT_GATE_UP_INTERLEAVED_PAIR;
  return interleaved ? EQS_LAYOUT_GATE_UP_INTERLEAVED_SPLIT : EQS_LAYOUT_ROW;
}
