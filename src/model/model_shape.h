/* What is known of a model as a whole, and tells its parameters' roles and matrices. */
#ifndef EQS_MODEL_MODEL_SHAPE_H
#define EQS_MODEL_MODEL_SHAPE_H

#include "base/status.h"

/* 0: not known. All are int64_t, so that they can be sent as an array. */
typedef struct {
  int64_t attention_heads;                          /* H: num_attention_heads */
  int64_t key_value_heads;                          /* K: num_key_value_heads; H where it is not given */
  int64_t head_dim;                                 /* h: rows of a head of q, k and v */
  int64_t nope_head_dim, rope_head_dim, v_head_dim; /* DeepSeek: qk_nope_head_dim, qk_rope_head_dim, v_head_dim */
  int64_t hidden;                                   /* hidden_size: what h follows from where it is not given */
  int64_t vocabulary;                               /* rows of the embedding; of the largest, if there are several */
} eqs_model_shape;

/* Names of these numbers in a model's configuration, as Hugging Face, torchtitan and nanoGPT have them. */
typedef struct {
  const char *name;
  size_t offset; /* of the member of eqs_model_shape */
} eqs_model_shape_key;
extern const eqs_model_shape_key eqs_model_shape_keys[];
extern const int eqs_model_shape_key_count;

#endif
