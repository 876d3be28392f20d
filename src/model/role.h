/* Roles: what a parameter is in the model, from its name, module type and shape. */
#ifndef EQS_MODEL_ROLE_H
#define EQS_MODEL_ROLE_H

#include "equishard.h"
#include "model/layout.h"

typedef enum {
  EQS_ROLE_EMBEDDING,
  EQS_ROLE_LM_HEAD,
  EQS_ROLE_ROUTER,
  EQS_ROLE_ATTENTION,
  EQS_ROLE_MLP_GATE_UP, /* rows are the hidden neurons; gated or not */
  EQS_ROLE_MLP_DOWN,    /* columns are */
  EQS_ROLE_MLP,         /* anything else in an MLP */
  EQS_ROLE_EXPERT_GATE_UP,
  EQS_ROLE_EXPERT_DOWN,
  EQS_ROLE_MATRIX, /* any other two-dimensional weight */
  EQS_ROLE_OTHER,  /* norms, biases, everything else */
  EQS_ROLES
} eqs_role;

/* Names as in the configuration, indexed by the enum. */
extern const char *const eqs_role_names[EQS_ROLES];

/* The role by name patterns, module type and number of dimensions alone; module_type may be NULL. */
eqs_role eqs_role_infer(const char *name, const char *module_type, int ndim);

/*
 * The layout in which a role's rows are its units (hidden neurons, vocabulary items, experts): what row norms and
 * hybrids use by default.
 */
eqs_tensor_layout eqs_role_unit_layout(eqs_role role, const char *module_type, int ndim);

/*
 * The layout of the matrices as they act in the model, outputs × inputs: what rules without units use by default.
 * A tensor in whose columns gate and up alternate (gpt-oss) is two matrices.
 */
eqs_tensor_layout eqs_role_matrix_layout(eqs_role role, const char *module_type, int ndim);

#endif
