#include "model/model_shape.h"

#include <stddef.h>

const eqs_model_shape_key eqs_model_shape_keys[] = {
    {"num_attention_heads", offsetof(eqs_model_shape, attention_heads)},
    {"num_heads", offsetof(eqs_model_shape, attention_heads)},
    {"n_heads", offsetof(eqs_model_shape, attention_heads)},
    {"n_head", offsetof(eqs_model_shape, attention_heads)},
    {"num_key_value_heads", offsetof(eqs_model_shape, key_value_heads)},
    {"num_kv_heads", offsetof(eqs_model_shape, key_value_heads)},
    {"n_kv_heads", offsetof(eqs_model_shape, key_value_heads)},
    {"head_dim", offsetof(eqs_model_shape, head_dim)},
    {"d_kv", offsetof(eqs_model_shape, head_dim)}, /* T5 */
    {"qk_nope_head_dim", offsetof(eqs_model_shape, nope_head_dim)},
    {"qk_rope_head_dim", offsetof(eqs_model_shape, rope_head_dim)},
    {"v_head_dim", offsetof(eqs_model_shape, v_head_dim)},
    {"hidden_size", offsetof(eqs_model_shape, hidden)},
    {"d_model", offsetof(eqs_model_shape, hidden)},
    {"n_embd", offsetof(eqs_model_shape, hidden)},
};
const int eqs_model_shape_key_count = sizeof eqs_model_shape_keys / sizeof *eqs_model_shape_keys;
