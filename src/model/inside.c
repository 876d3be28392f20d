#include "model/inside.h"

#include <string.h>

/* A tensor whose matrices are looked for, and what is known of its heads. */
typedef struct {
  const eqs_group_config *group;
  const eqs_recognition *found;
  int ndim;                /* without the dimension that counts layers */
  bool by_inputs;          /* stored as inputs × outputs */
  int64_t outputs, inputs; /* of a matrix of the stack */
  int64_t heads, key_value_heads;
  int64_t q, kv, v; /* rows of a head of q, of k, of v */
} tensor;

static bool is_auto(const tensor *of)
{
  return of->group->layout_auto;
}

static tensor describe(const eqs_group_config *group, const eqs_model_shape *model, const eqs_recognition *found,
                       bool stacked, const eqs_parameter_info *info)
{
  tensor of = {.group = group, .found = found, .ndim = info->ndim - stacked};
  int64_t rows = info->shape[info->ndim - 2], cols = info->shape[info->ndim - 1];
  of.by_inputs = found->storage == EQS_STORED_BY_INPUTS;
  of.outputs = of.by_inputs ? cols : rows;
  of.inputs = of.by_inputs ? rows : cols;
  if (model != NULL) {
    of.heads = model->attention_heads;
    of.key_value_heads = model->key_value_heads;
    of.kv = model->head_dim;
    of.q = model->nope_head_dim > 0 ? model->nope_head_dim + model->rope_head_dim : model->head_dim;
    of.v = model->v_head_dim > 0 ? model->v_head_dim : model->head_dim;
  }
  if (group->head_dim > 0) of.q = of.kv = of.v = group->head_dim;
  return of;
}

/* Rows of a head of this tensor; 0 if they are not known. */
static int64_t head_of(const tensor *of)
{
  switch (of->found->inside) {
  case EQS_INSIDE_Q: return of->q;
  case EQS_INSIDE_O: return of->v;
  default: return of->kv;
  }
}

/* Rules with a row_mode are those that norm rows. */
static bool has_units(const eqs_rule *rule)
{
  return (rule->keys & EQS_KEY_ROW_MODE) != 0;
}

static eqs_tensor_layout default_layout(const tensor *of)
{
  const eqs_recognition *found = of->found;
  return has_units(of->group->options.rule) ? eqs_role_unit_layout(found->role, found->storage, of->ndim)
                                            : eqs_role_matrix_layout(found->role, found->storage, of->ndim);
}

static void take_heads(const tensor *of, int64_t head_dim, eqs_matrices *matrices)
{
  bool inputs = of->found->inside == EQS_INSIDE_O;
  matrices->head_dim = head_dim;
  if (of->by_inputs)
    matrices->layout = inputs ? EQS_LAYOUT_HEADS_O_COL : EQS_LAYOUT_HEADS_QKV_COL;
  else
    matrices->layout = inputs ? EQS_LAYOUT_HEADS_O : EQS_LAYOUT_HEADS_QKV;
}

static void take_pieces(int64_t repeat, int pieces, int64_t first, int64_t second, eqs_matrices *matrices)
{
  matrices->size[0] = first;
  matrices->size[1] = matrices->size[2] = second;
  matrices->split = (eqs_split){.repeat = repeat, .pieces = pieces, .size = matrices->size};
}

static eqs_status misfit(const tensor *of, int64_t size, int64_t heads, int64_t head_dim)
{
  return eqs_fail(
      EQS_USAGE,
      "layout auto: it has %lld %s, and the model says %lld heads of %lld (num_attention_heads, "
      "num_key_value_heads, head_dim): before this group write one for it, with its head_dim, its split, or "
      "layout: row",
      (long long)size, of->found->inside == EQS_INSIDE_O ? "inputs" : "outputs", (long long)heads, (long long)head_dim);
}

/* Heads of q, of k or v, or of o alone. */
static eqs_status find_heads(const tensor *of, eqs_matrices *matrices)
{
  int64_t head_dim = head_of(of), size = of->found->inside == EQS_INSIDE_O ? of->inputs : of->outputs;
  int64_t heads = of->found->inside == EQS_INSIDE_KV ? of->key_value_heads : of->heads;
  if (!is_auto(of)) return EQS_OK;
  if (head_dim == 0) {
    matrices->doubts = EQS_DOUBT_HEADS;
    return EQS_OK;
  }
  /* Qwen3-Next's q_proj has a gate beside every head, as large as it */
  bool gated = of->found->inside == EQS_INSIDE_Q && size == 2 * heads * head_dim;
  if (of->group->head_dim == 0 && heads > 0 && size != heads * head_dim && !gated)
    return misfit(of, size, heads, head_dim);
  take_heads(of, head_dim, matrices);
  return EQS_OK;
}

/* q, k and v: their sizes by the model's heads; or, where nothing is known of those, all as large as the input. */
static eqs_status find_qkv(const tensor *of, eqs_matrices *matrices)
{
  int64_t h = of->kv, H = of->heads;
  int64_t K = of->outputs == (H + 2) * h ? 1 : of->key_value_heads; /* Falcon 7B does not say that it has but one */
  int64_t groups = H + 2 * K;
  bool known = h > 0 && K > 0 && H > 0, grouped = of->found->inside == EQS_INSIDE_QKV_GROUPS;
  bool fits = known && of->outputs == groups * h && (!grouped || H % K == 0);
  if (known && !fits && is_auto(of)) return misfit(of, of->outputs, groups, h);
  if (fits && grouped)
    take_pieces(K, 3, H / K * h, h, matrices);
  else if (fits)
    take_pieces(1, 3, H * h, K * h, matrices);
  else if (!grouped && of->outputs == 3 * of->inputs)
    take_pieces(1, 3, of->inputs, of->inputs, matrices);
  else
    matrices->doubts = EQS_DOUBT_FUSED;
  if (!is_auto(of) || matrices->doubts != 0) return EQS_OK;
  if (h > 0)
    take_heads(of, h, matrices);
  else
    matrices->doubts = EQS_DOUBT_HEADS;
  return EQS_OK;
}

static eqs_status find_k_and_v(const tensor *of, eqs_matrices *matrices)
{
  if (of->outputs % 2 != 0)
    matrices->doubts = EQS_DOUBT_FUSED;
  else
    take_pieces(1, 2, of->outputs / 2, of->outputs / 2, matrices);
  if (!is_auto(of) || matrices->doubts != 0) return EQS_OK;
  if (of->kv == 0)
    matrices->doubts = EQS_DOUBT_HEADS;
  else
    take_heads(of, of->kv, matrices);
  return EQS_OK;
}

/* DeepSeek: for every head the rows of k that have no position, and those of v. */
static eqs_status find_kv_b(const tensor *of, const eqs_model_shape *model, eqs_matrices *matrices)
{
  int64_t nope = model != NULL ? model->nope_head_dim : 0, v = model != NULL ? model->v_head_dim : 0;
  bool known = nope > 0 && v > 0 && of->heads > 0, fits = known && of->outputs == of->heads * (nope + v);
  if (known && !fits && is_auto(of)) return misfit(of, of->outputs, of->heads, nope + v);
  if (fits)
    take_pieces(of->heads, 2, nope, v, matrices);
  else
    matrices->doubts = EQS_DOUBT_FUSED;
  return EQS_OK;
}

/* Stacks of experts, and rows that are hidden neurons, stay whole unless they are to be apart. */
static void find_gate_and_up(const tensor *of, const eqs_model_shape *model, bool typed, eqs_matrices *matrices)
{
  bool apart = is_auto(of) || of->group->layout_unfused || (of->ndim == 2 && !has_units(of->group->options.rule));
  /* without a class, experts of so many outputs as the model has hidden features are stored the other way around */
  bool turned = !typed && of->ndim > 2 && model != NULL && model->hidden > 0 && of->outputs == model->hidden &&
                of->inputs != model->hidden;
  if (of->found->storage == EQS_STORED_AS_GPT_OSS) return;
  if (turned) {
    matrices->doubts = EQS_DOUBT_STORAGE;
    return;
  }
  if (!apart || of->outputs % 2 != 0)
    matrices->doubts = EQS_DOUBT_FUSED;
  else if (of->by_inputs)
    take_pieces(1, 2, of->outputs / 2, of->outputs / 2, matrices);
  else
    matrices->layout = EQS_LAYOUT_GATE_UP_CONCAT_SPLIT;
}

/* What a layout that is given leaves open. */
static eqs_status complete_layout(const tensor *of, eqs_matrices *matrices)
{
  matrices->layout = of->group->layout;
  if (!eqs_layout_has_heads(matrices->layout)) return EQS_OK;
  matrices->head_dim = head_of(of);
  if (matrices->head_dim > 0) return EQS_OK;
  return eqs_fail(EQS_USAGE,
                  "layout %s needs head_dim: write it in the group, or num_attention_heads and head_dim at the top of "
                  "the manifest",
                  eqs_layout_names[matrices->layout]);
}

eqs_status eqs_find_matrices(const eqs_group_config *group, const eqs_model_shape *model, const eqs_recognition *found,
                             bool stacked, const eqs_parameter_info *info, eqs_matrices *matrices)
{
  tensor of = describe(group, model, found, stacked, info);
  *matrices = (eqs_matrices){.layout = default_layout(&of), .split = group->split};
  if (group->layout_given) return complete_layout(&of, matrices);
  if (found->role == EQS_ROLE_CONVOLUTION) {
    if (is_auto(&of)) matrices->layout = EQS_LAYOUT_FLATTEN;
    return EQS_OK;
  }
  if (group->split.pieces > 0) {
    if (is_auto(&of) && found->role == EQS_ROLE_ATTENTION && of.kv > 0) take_heads(&of, head_of(&of), matrices);
    return EQS_OK;
  }
  if (!is_auto(&of) && !eqs_rule_has_polar(group->options.rule)) return EQS_OK;
  switch (found->inside) {
  case EQS_INSIDE_Q:
  case EQS_INSIDE_KV:
  case EQS_INSIDE_O: return find_heads(&of, matrices);
  case EQS_INSIDE_QKV:
  case EQS_INSIDE_QKV_GROUPS: return find_qkv(&of, matrices);
  case EQS_INSIDE_K_AND_V: return find_k_and_v(&of, matrices);
  case EQS_INSIDE_KV_B: return find_kv_b(&of, model, matrices);
  case EQS_INSIDE_GATE_UP: find_gate_and_up(&of, model, info->module_type != NULL, matrices); return EQS_OK;
  case EQS_INSIDE_PARTS: matrices->doubts = EQS_DOUBT_FUSED; return EQS_OK;
  default: return EQS_OK;
  }
}
