#include "model/complete_shape.h"

#include <string.h>

#include "model/assign.h"

/* What single parameters tell. */
typedef struct {
  int64_t vocabulary, width;     /* of the embedding with the most rows */
  int64_t q_rows, k_rows;        /* of the first q_proj and k_proj */
  int64_t q_norm, k_norm, sinks; /* sizes of the first */
} evidence;

static bool has_part(const char *name, const char *part)
{
  return strstr(name, part) != NULL;
}

static void take(int64_t *first, int64_t value)
{
  if (*first == 0) *first = value;
}

static void look_at(const eqs_config *config, const eqs_parameter_info *info, evidence *seen)
{
  const char *name = info->name;
  bool stacked;
  unsigned doubts;
  if (info->ndim == 1 && has_part(name, "attn")) {
    if (has_part(name, ".q_norm.")) take(&seen->q_norm, info->shape[0]);
    if (has_part(name, ".k_norm.")) take(&seen->k_norm, info->shape[0]);
    if (has_part(name, ".sinks")) take(&seen->sinks, info->shape[0]);
  }
  if (info->ndim != 2) return;
  if (has_part(name, ".q_proj.")) take(&seen->q_rows, info->shape[0]);
  if (has_part(name, ".k_proj.")) take(&seen->k_rows, info->shape[0]);
  if (info->shape[0] <= seen->vocabulary) return;
  if (eqs_config_recognize(config, NULL, info, &stacked, &doubts).role != EQS_ROLE_EMBEDDING) return;
  seen->vocabulary = info->shape[0];
  seen->width = info->shape[1];
}

/* Norms of q and k of one size, of which q has several; OLMoE norms all heads together, which tells nothing. */
static int64_t head_of(const evidence *seen)
{
  if (seen->q_norm > 0 && seen->q_norm == seen->k_norm && seen->q_rows > seen->q_norm &&
      seen->q_rows % seen->q_norm == 0)
    return seen->q_norm;
  return seen->sinks > 0 && seen->q_rows % seen->sinks == 0 ? seen->q_rows / seen->sinks : 0;
}

/* Numbers that no model has, so that products of two do not overflow. */
static void drop_impossible(eqs_model_shape *model)
{
  const int64_t most = INT64_C(1) << 30;
  for (int k = 0; k < eqs_model_shape_key_count; k++) {
    int64_t *number = (int64_t *)(void *)((char *)model + eqs_model_shape_keys[k].offset);
    if (*number < 0 || *number > most) *number = 0;
  }
}

static bool divides(int64_t a, int64_t b)
{
  return a > 0 && b > 0 && b % a == 0;
}

void eqs_complete_model_shape(const eqs_config *config, const eqs_model_shape *given, int64_t parameters,
                              const eqs_parameter_info *info, eqs_model_shape *completed)
{
  eqs_model_shape *model = completed;
  evidence seen = {0};
  *model = given != NULL ? *given : (eqs_model_shape){0};
  drop_impossible(model);
  for (int64_t p = 0; p < parameters; p++) look_at(config, &info[p], &seen);
  model->vocabulary = seen.vocabulary;
  if (model->attention_heads == 0 && model->head_dim == 0) {
    int64_t head = head_of(&seen);
    if (divides(head, seen.q_rows) && divides(head, seen.k_rows)) {
      model->head_dim = head;
      model->attention_heads = seen.q_rows / head;
      model->key_value_heads = seen.k_rows / head;
    }
  }
  if (model->hidden == 0) model->hidden = seen.width;
  if (model->key_value_heads == 0) model->key_value_heads = model->attention_heads;
  if (model->head_dim == 0 && divides(model->attention_heads, model->hidden))
    model->head_dim = model->hidden / model->attention_heads;
}
