/* Roles: what a parameter is in the model, what it consists of, and which matrices follow. */
#ifndef EQS_MODEL_ROLE_H
#define EQS_MODEL_ROLE_H

#include "equishard.h"
#include "model/layout.h"

typedef enum {
  EQS_ROLE_EMBEDDING,
  EQS_ROLE_POSITION, /* tables of positions, absolute or relative */
  EQS_ROLE_LM_HEAD,  /* rows are what a softmax chooses from: of classifiers too */
  EQS_ROLE_ROUTER,
  EQS_ROLE_ATTENTION,
  EQS_ROLE_MLP_GATE_UP, /* rows are the hidden neurons; gated or not */
  EQS_ROLE_MLP_DOWN,    /* columns are */
  EQS_ROLE_MLP,         /* anything else in an MLP */
  EQS_ROLE_EXPERT_GATE_UP,
  EQS_ROLE_EXPERT_DOWN,
  EQS_ROLE_CONVOLUTION,
  EQS_ROLE_MATRIX, /* any other two-dimensional weight */
  EQS_ROLE_OTHER,  /* norms, biases, everything else */
  EQS_ROLES
} eqs_role;

/* Names as in the configuration, indexed by the enum. */
extern const char *const eqs_role_names[EQS_ROLES];

/* The role of a name, or EQS_ROLES. */
eqs_role eqs_role_find(const char *name);

/* Whether rules that center matrices do so by default in this role, whose rows a softmax compares. */
bool eqs_role_is_centered(eqs_role role);

/* What a tensor consists of: for H heads, K key/value heads, heads of h rows. */
typedef enum {
  EQS_INSIDE_NOTHING,    /* or nothing that is known */
  EQS_INSIDE_Q,          /* H heads in its outputs */
  EQS_INSIDE_KV,         /* K heads in its outputs: k or v */
  EQS_INSIDE_O,          /* H heads in its inputs */
  EQS_INSIDE_QKV,        /* q, k and v, one after the other: H·h, K·h and K·h outputs */
  EQS_INSIDE_QKV_GROUPS, /* for every key/value head: its H/K heads of q, k, v */
  EQS_INSIDE_K_AND_V,    /* k and v, one after the other */
  EQS_INSIDE_KV_B,       /* for every head: the rows of k without position, those of v (DeepSeek) */
  EQS_INSIDE_GATE_UP,    /* gate and up, one after the other */
  EQS_INSIDE_PARTS,      /* several matrices whose sizes nothing here tells */
} eqs_inside;

/* How a module stores a weight. */
typedef enum {
  EQS_STORED_BY_OUTPUTS, /* outputs × inputs: torch's Linear */
  EQS_STORED_BY_INPUTS,  /* inputs × outputs: GPT-2's Conv1D, Llama 4's experts, JAX's kernels */
  EQS_STORED_AS_GPT_OSS, /* the same, and columns of gate and up alternate */
} eqs_storage;

/*
 * The layout in which a role's rows are its units (hidden neurons, vocabulary items, experts): what row norms and
 * hybrids use by default.
 */
eqs_tensor_layout eqs_role_unit_layout(eqs_role role, eqs_storage storage, int ndim);

/*
 * The layout of the matrices as they act in the model, outputs × inputs: what rules without units use by default.
 * A tensor in whose columns gate and up alternate (gpt-oss) is two matrices.
 */
eqs_tensor_layout eqs_role_matrix_layout(eqs_role role, eqs_storage storage, int ndim);

#endif
