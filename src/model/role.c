#include "model/role.h"

#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

#include "model/wrappers.h"

const char *const eqs_role_names[EQS_ROLES] = {"embedding",   "lm_head",  "router", "attention",
                                               "mlp_gate_up", "mlp_down", "mlp",    "expert_gate_up",
                                               "expert_down", "matrix",   "other"};

/*
 * What names and module types say, first match wins. Globs ('*' spans dots, case does not matter); paths are those of
 * the module, with a dot in front and without the final ".weight": ".model.layers.0.mlp.gate". NULL: not looked at.
 */
static const struct {
  const char *path, *module_type;
  eqs_role role;
} patterns[] = {
    /* routers of Llama 4, Switch, Granite, DBRX; those called "gate" follow below */
    {NULL, "*Router", EQS_ROLE_ROUTER},
    {"*.router", NULL, EQS_ROLE_ROUTER},
    {"*.router.*", NULL, EQS_ROLE_ROUTER},

    {NULL, "*Embedding", EQS_ROLE_EMBEDDING},
    {"*.embed_tokens", NULL, EQS_ROLE_EMBEDDING},
    {"*.embed_positions", NULL, EQS_ROLE_EMBEDDING},
    {"*.embed_in", NULL, EQS_ROLE_EMBEDDING},
    {"*.embed", NULL, EQS_ROLE_EMBEDDING},
    {"*embedding", NULL, EQS_ROLE_EMBEDDING},
    {"*embeddings", NULL, EQS_ROLE_EMBEDDING},
    {"*.wte", NULL, EQS_ROLE_EMBEDDING},
    {"*.wpe", NULL, EQS_ROLE_EMBEDDING},

    {"*.lm_head", NULL, EQS_ROLE_LM_HEAD},
    {"*.lm_head.decoder", NULL, EQS_ROLE_LM_HEAD},     /* RoBERTa */
    {"*.predictions.decoder", NULL, EQS_ROLE_LM_HEAD}, /* BERT */
    {"*.shared_head.head", NULL, EQS_ROLE_LM_HEAD},    /* of DeepSeek V3's further tokens */
    {"*.embed_out", NULL, EQS_ROLE_LM_HEAD},
    {"*.output_layer", NULL, EQS_ROLE_LM_HEAD},
    {".output", NULL, EQS_ROLE_LM_HEAD},
    {".head", NULL, EQS_ROLE_LM_HEAD},

    /* experts, as stacks ("experts.gate_up_proj") or a module each ("experts.7.gate_proj", "experts.3.w1") */
    {"*.experts.*gate_up_proj", NULL, EQS_ROLE_EXPERT_GATE_UP},
    {"*.experts.*gate_proj", NULL, EQS_ROLE_EXPERT_GATE_UP},
    {"*.experts.*up_proj", NULL, EQS_ROLE_EXPERT_GATE_UP},
    {"*.experts.*linear_fc1", NULL, EQS_ROLE_EXPERT_GATE_UP},
    {"*.experts.*w[13]", NULL, EQS_ROLE_EXPERT_GATE_UP},
    {"*.experts.*.wi", NULL, EQS_ROLE_EXPERT_GATE_UP},
    {"*.experts.*down_proj", NULL, EQS_ROLE_EXPERT_DOWN},
    {"*.experts.*linear_fc2", NULL, EQS_ROLE_EXPERT_DOWN},
    {"*.experts.*w2", NULL, EQS_ROLE_EXPERT_DOWN},
    {"*.experts.*.wo", NULL, EQS_ROLE_EXPERT_DOWN},

    /* attention: q_proj, qkv_proj, c_attn, q_b_proj, kv_a_proj_with_mqa ...: whatever is inside of it */
    {"*attn*.*", NULL, EQS_ROLE_ATTENTION},
    {"*attention*.*", NULL, EQS_ROLE_ATTENTION},
    {"*.[qkvo]_proj", NULL, EQS_ROLE_ATTENTION},
    {"*.qkv_proj", NULL, EQS_ROLE_ATTENTION},
    {"*.Wqkv", NULL, EQS_ROLE_ATTENTION},
    {"*.c_attn", NULL, EQS_ROLE_ATTENTION},
    {"*.query_key_value", NULL, EQS_ROLE_ATTENTION},

    {"*.gate", NULL, EQS_ROLE_ROUTER}, /* after attention, which may have a gate too */
    {"*.gate.wg", NULL, EQS_ROLE_ROUTER},

    /* dense MLPs; shared experts ("shared_experts.gate_proj") are such: every token takes them */
    {"*.gate_up_proj", NULL, EQS_ROLE_MLP_GATE_UP},
    {"*.gate_proj", NULL, EQS_ROLE_MLP_GATE_UP},
    {"*.up_proj", NULL, EQS_ROLE_MLP_GATE_UP},
    {"*.w[13]", NULL, EQS_ROLE_MLP_GATE_UP},
    {"*.wi", NULL, EQS_ROLE_MLP_GATE_UP},
    {"*.wi_[01]", NULL, EQS_ROLE_MLP_GATE_UP},
    {"*.c_fc", NULL, EQS_ROLE_MLP_GATE_UP},
    {"*.fc1", NULL, EQS_ROLE_MLP_GATE_UP},
    {"*.fc_in", NULL, EQS_ROLE_MLP_GATE_UP},
    {"*.linear_fc1", NULL, EQS_ROLE_MLP_GATE_UP},
    {"*.dense_h_to_4h", NULL, EQS_ROLE_MLP_GATE_UP},
    {"*.intermediate.dense", NULL, EQS_ROLE_MLP_GATE_UP}, /* BERT */
    {"*.down_proj", NULL, EQS_ROLE_MLP_DOWN},
    {"*.w2", NULL, EQS_ROLE_MLP_DOWN},
    {"*.wo", NULL, EQS_ROLE_MLP_DOWN},
    {"*.mlp.c_proj", NULL, EQS_ROLE_MLP_DOWN},
    {"*.fc2", NULL, EQS_ROLE_MLP_DOWN},
    {"*.fc_out", NULL, EQS_ROLE_MLP_DOWN},
    {"*.linear_fc2", NULL, EQS_ROLE_MLP_DOWN},
    {"*.dense_4h_to_h", NULL, EQS_ROLE_MLP_DOWN},
    {"*.output.dense", NULL, EQS_ROLE_MLP_DOWN},
    {"*.mlp.*", NULL, EQS_ROLE_MLP}, /* Qwen-MoE's shared_expert_gate too: a sigmoid, which a shift does change */
    {"*.feed_forward.*", NULL, EQS_ROLE_MLP},
};

static bool ends_with(const char *text, const char *end)
{
  size_t length = strlen(text), tail = strlen(end);
  return length >= tail && strcmp(text + length - tail, end) == 0;
}

static eqs_role role_by_pattern(const char *name, const char *module_type)
{
  char path[512];
  snprintf(path, sizeof path, ".%s", name);
  eqs_canonical_name(path + 1);
  if (ends_with(path, ".weight")) path[strlen(path) - strlen(".weight")] = '\0';
  for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
    const char *by_path = patterns[i].path, *by_type = patterns[i].module_type;
    if (by_path != NULL && fnmatch(by_path, path, FNM_CASEFOLD) != 0) continue;
    if (by_type != NULL && (module_type == NULL || fnmatch(by_type, module_type, 0) != 0)) continue;
    return patterns[i].role;
  }
  return EQS_ROLE_MATRIX;
}

/* A stack of matrices is known only as experts; other three-dimensional tensors (convolutions) are not matrices. */
eqs_role eqs_role_infer(const char *name, const char *module_type, int ndim)
{
  if ((ndim != 2 && ndim != 3) || ends_with(name, "bias")) return EQS_ROLE_OTHER;
  eqs_role role = role_by_pattern(name, module_type);
  if (ndim == 3 && role != EQS_ROLE_EXPERT_GATE_UP && role != EQS_ROLE_EXPERT_DOWN) return EQS_ROLE_OTHER;
  return role;
}

/*
 * Modules that store weights as inputs × outputs. `in`, `out`: the units of weights that read from, and write to, the
 * residual stream; `whole`: outputs × inputs, but for the experts of gpt-oss, which the paper's runs take as stored.
 */
static const struct {
  const char *module_type;
  eqs_tensor_layout in, out, whole;
} transposed[] = {
    {"GptOssExperts", EQS_LAYOUT_GATE_UP_INTERLEAVED_PAIR, EQS_LAYOUT_ROW, EQS_LAYOUT_ROW},
    {"Llama4TextExperts", EQS_LAYOUT_COL, EQS_LAYOUT_ROW, EQS_LAYOUT_COL},
    {"Conv1D", EQS_LAYOUT_COL, EQS_LAYOUT_ROW, EQS_LAYOUT_COL}, /* GPT-2 */
};

/* Index into `transposed`, or -1. */
static int find_transposed(const char *module_type)
{
  int modules = sizeof transposed / sizeof transposed[0];
  for (int i = 0; i < modules && module_type != NULL; i++)
    if (strcmp(module_type, transposed[i].module_type) == 0) return i;
  return -1;
}

eqs_tensor_layout eqs_role_unit_layout(eqs_role role, const char *module_type, int ndim)
{
  bool down = role == EQS_ROLE_MLP_DOWN || role == EQS_ROLE_EXPERT_DOWN;
  bool up = role == EQS_ROLE_MLP_GATE_UP || role == EQS_ROLE_EXPERT_GATE_UP;
  int module = find_transposed(module_type);
  if (ndim < 2) return EQS_LAYOUT_ROW;
  if (module < 0) return down ? EQS_LAYOUT_COL : EQS_LAYOUT_ROW;
  if (down) return transposed[module].out;
  return up ? transposed[module].in : transposed[module].whole;
}

eqs_tensor_layout eqs_role_matrix_layout(eqs_role role, const char *module_type, int ndim)
{
  int module = find_transposed(module_type);
  if (ndim < 2 || module < 0) return EQS_LAYOUT_ROW;
  bool interleaved = eqs_role_unit_layout(role, module_type, ndim) == EQS_LAYOUT_GATE_UP_INTERLEAVED_PAIR;
  return interleaved ? EQS_LAYOUT_GATE_UP_INTERLEAVED_SPLIT : transposed[module].whole;
}
