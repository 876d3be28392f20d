/*
 * What Llama 1 to 4, Mistral, Mixtral, Qwen 1 to 3 and their MoE, Gemma, OLMo, OLMoE, gpt-oss, GPT-2, GPT-J, NeoX, OPT,
 * MPT, Falcon, BLOOM, Phi, DBRX, Granite, ChatGLM, InternLM, DeepSeek V2 and V3, T5, BERT, ViT, CLIP, Mamba and RWKV
 * are called in Hugging Face transformers, and what torchtitan, nanoGPT, modded-nanogpt, lit-gpt, llm.c, llama2.c, timm
 * and Megatron call theirs. `roles:` in a configuration counts before this table.
 */
#include "model/families.h"

#define ROLE(role) EQS_ROLE_##role, EQS_INSIDE_NOTHING, EQS_ANYWHERE
#define ROLE_OF(role, inside) EQS_ROLE_##role, EQS_INSIDE_##inside, EQS_ANYWHERE
#define ROLE_IF(where, role) EQS_ROLE_##role, EQS_INSIDE_NOTHING, EQS_##where

const eqs_family_pattern eqs_family_patterns[] = {
    /* norms: a stack of them over layers has two dimensions */
    {NULL, "*Norm", ROLE(OTHER)},
    {NULL, "*Norm[123]d", ROLE(OTHER)},
    {NULL, "*NormGated", ROLE(OTHER)},
    {"*norm", NULL, ROLE(OTHER)},
    {"*norm[0-9]", NULL, ROLE(OTHER)},
    {"*.norm_?", NULL, ROLE(OTHER)},
    {"*.ln_*", NULL, ROLE(OTHER)},
    {"*.ln[0-9f]", NULL, ROLE(OTHER)},
    {"*.ln[0-9f][wb]", NULL, ROLE(OTHER)}, /* llm.c */
    {"*.rms_*_weight", NULL, ROLE(OTHER)}, /* llama2.c */
    {"*.scale", NULL, ROLE(OTHER)},
    {"*.gamma", NULL, ROLE(OTHER)},
    {"*.beta", NULL, ROLE(OTHER)},

    /* what has two dimensions or more and is no matrix: adapters of low rank, state-space models, tokens */
    {"*.lora_*", NULL, ROLE(OTHER)},
    {"*.ia3_*", NULL, ROLE(OTHER)},
    {"*.a_log", NULL, ROLE(OTHER)},  /* Mamba */
    {"*.time_*", NULL, ROLE(OTHER)}, /* RWKV */
    {"*.sinks", NULL, ROLE(OTHER)},
    {"*.altup.*", NULL, ROLE(OTHER)}, /* Gemma 3n */
    {"*.layer_scale*", NULL, ROLE(OTHER)},
    {"*.*_token", NULL, ROLE(OTHER)},
    {"*.*_tokens", NULL, ROLE_IF(THREE_DIMENSIONS, OTHER)},
    {"*.class_embedding", NULL, ROLE(OTHER)},
    {"*.qkvb", NULL, ROLE(OTHER)}, /* llm.c's biases */
    {"*.attprojb", NULL, ROLE(OTHER)},
    {"*.fcb", NULL, ROLE(OTHER)},
    {"*.fcprojb", NULL, ROLE(OTHER)},

    /* positions */
    {NULL, "*Position*Embedding*", ROLE(POSITION)},
    {NULL, "*RelativePosition*", ROLE(POSITION)},
    {"*.wpe", NULL, ROLE(POSITION)},
    {"*.embed_positions", NULL, ROLE(POSITION)},
    {"*position_embedding*", NULL, ROLE(POSITION)},
    {"*positional_embedding*", NULL, ROLE(POSITION)},
    {"*.pos_emb*", NULL, ROLE(POSITION)},
    {"*.relative_attention_bias", NULL, ROLE(POSITION)}, /* T5 */
    {"*relative_position_bias*", NULL, ROLE(POSITION)},  /* Swin, BEiT */
    {"*.attention_biases", NULL, ROLE(POSITION)},        /* LeViT */
    {"*.rel_pos*", NULL, ROLE(POSITION)},
    {"*.rel_embeddings", NULL, ROLE(POSITION)}, /* DeBERTa */

    /* routers of Llama 4, Switch, Granite, DBRX, torchtitan; those called "gate" follow below */
    {NULL, "*Router", ROLE(ROUTER)},
    {"*.router", NULL, ROLE(ROUTER)},
    {"*.router.*", NULL, ROLE(ROUTER)},

    {NULL, "*Conv[123]d", ROLE_IF(THREE_DIMENSIONS, CONVOLUTION)},
    {NULL, "*ConvTranspose[123]d", ROLE_IF(THREE_DIMENSIONS, CONVOLUTION)},
    {"*.conv", NULL, ROLE_IF(THREE_DIMENSIONS, CONVOLUTION)},
    {"*.conv[0-9]", NULL, ROLE_IF(THREE_DIMENSIONS, CONVOLUTION)},
    {"*.conv[123]d", NULL, ROLE_IF(THREE_DIMENSIONS, CONVOLUTION)},
    {"*_conv", NULL, ROLE_IF(THREE_DIMENSIONS, CONVOLUTION)},
    {"*.conv_*", NULL, ROLE_IF(THREE_DIMENSIONS, CONVOLUTION)},
    {"*.patch_embed*.proj*", NULL, ROLE_IF(THREE_DIMENSIONS, CONVOLUTION)}, /* ViT */
    {"*.patch_embedding", NULL, ROLE_IF(THREE_DIMENSIONS, CONVOLUTION)},    /* CLIP */
    {"*.patch_embed*.proj*", NULL, ROLE(MATRIX)},
    {"*.patch_embedding", NULL, ROLE(MATRIX)},

    {NULL, "*Embedding", ROLE(EMBEDDING)},
    {NULL, "EmbeddingBag", ROLE(EMBEDDING)},
    {"*.embed_tokens", NULL, ROLE(EMBEDDING)},
    {"*.embed_tokens_per_layer", NULL, ROLE(EMBEDDING)}, /* Gemma 3n */
    {"*.embed_in", NULL, ROLE(EMBEDDING)},
    {"*.embed", NULL, ROLE(EMBEDDING)},
    {"*.value_embeds.*", NULL, ROLE(EMBEDDING)}, /* modded-nanogpt */
    {"*embedding", NULL, ROLE(EMBEDDING)},
    {"*embeddings", NULL, ROLE(EMBEDDING)},
    {"*embedding_table", NULL, ROLE(EMBEDDING)}, /* llama2.c */
    {"*.wte", NULL, ROLE(EMBEDDING)},
    {"*.shared", NULL, ROLE_IF(OUTSIDE_OF_LAYERS, EMBEDDING)}, /* T5 */

    {"*.lm_head", NULL, ROLE(LM_HEAD)},
    {"*.lm_head.decoder", NULL, ROLE(LM_HEAD)},     /* RoBERTa */
    {"*.lm_head.linear", NULL, ROLE(LM_HEAD)},      /* Phi-1 */
    {"*.predictions.decoder", NULL, ROLE(LM_HEAD)}, /* BERT */
    {"*.shared_head.head", NULL, ROLE(LM_HEAD)},    /* of DeepSeek V3's further tokens */
    {"*.embed_out", NULL, ROLE(LM_HEAD)},
    {"*.output_layer", NULL, ROLE(LM_HEAD)},
    {"*.unembed", NULL, ROLE(LM_HEAD)},
    {"*.unembedding", NULL, ROLE(LM_HEAD)},
    {"*.wcls", NULL, ROLE(LM_HEAD)},
    {"*.to_logits", NULL, ROLE(LM_HEAD)},
    {"*.output_head", NULL, ROLE(LM_HEAD)},
    {"*.vocab_proj*", NULL, ROLE_IF(OUTSIDE_OF_LAYERS, LM_HEAD)},
    {"*.output", NULL, ROLE_IF(OUTSIDE_OF_LAYERS, LM_HEAD)},
    {"*.head", NULL, ROLE_IF(OUTSIDE_OF_LAYERS, LM_HEAD)},
    {"*.ff_out", NULL, ROLE_IF(OUTSIDE_OF_LAYERS, LM_HEAD)},   /* OLMo */
    {"*.proj_out", NULL, ROLE_IF(OUTSIDE_OF_LAYERS, LM_HEAD)}, /* Whisper */
    {"*.output_projection", NULL, ROLE_IF(OUTSIDE_OF_LAYERS, LM_HEAD)},
    {"*.score", NULL, ROLE_IF(OUTSIDE_OF_LAYERS, LM_HEAD)}, /* classifiers */
    {"*.classifier", NULL, ROLE_IF(OUTSIDE_OF_LAYERS, LM_HEAD)},
    {"*.seq_relationship", NULL, ROLE(LM_HEAD)},
    {".fc", NULL, ROLE(LM_HEAD)},
    {"*.qa_outputs", NULL, ROLE(OTHER)}, /* each row has a softmax of its own */

    /* experts, as stacks ("experts.gate_up_proj") or a module each ("experts.7.gate_proj", "experts.3.w1") */
    {"*.experts.*gate_up_proj", NULL, ROLE_OF(EXPERT_GATE_UP, GATE_UP)},
    {"*.experts.*w13*", NULL, ROLE_OF(EXPERT_GATE_UP, GATE_UP)}, /* vLLM */
    {"*.experts.*gate_proj", NULL, ROLE(EXPERT_GATE_UP)},
    {"*.experts.*up_proj", NULL, ROLE(EXPERT_GATE_UP)},
    {"*.experts.*linear_fc1", NULL, ROLE(EXPERT_GATE_UP)},
    {"*.experts.*w[13]", NULL, ROLE(EXPERT_GATE_UP)},
    {"*.experts.*v1", NULL, ROLE(EXPERT_GATE_UP)}, /* DBRX */
    {"*.experts.*.wi", NULL, ROLE(EXPERT_GATE_UP)},
    {"*.experts.*.wi_[01]", NULL, ROLE(EXPERT_GATE_UP)},
    {"*.experts.*.fc1", NULL, ROLE(EXPERT_GATE_UP)},
    {"*moe*.input_linear", NULL, ROLE_OF(EXPERT_GATE_UP, GATE_UP)}, /* Granite */
    {"*.experts.*down_proj", NULL, ROLE(EXPERT_DOWN)},
    {"*.experts.*linear_fc2", NULL, ROLE(EXPERT_DOWN)},
    {"*.experts.*w2", NULL, ROLE(EXPERT_DOWN)},
    {"*.experts.*.wo", NULL, ROLE(EXPERT_DOWN)},
    {"*.experts.*.fc2", NULL, ROLE(EXPERT_DOWN)},
    {"*moe*.output_linear", NULL, ROLE(EXPERT_DOWN)},

    /* attention, fused */
    {"*.attention.wqkv", NULL, ROLE_OF(ATTENTION, QKV_GROUPS)}, /* InternLM 2 */
    {"*.encoder.layers.*.query_key_value", NULL, ROLE_OF(ATTENTION, QKV)},
    {"*.query_key_value", NULL, ROLE_OF(ATTENTION, QKV_GROUPS)}, /* NeoX, Falcon, BLOOM; ChatGLM's before */
    {"*.linear_qkv", NULL, ROLE_OF(ATTENTION, QKV_GROUPS)},      /* Megatron */
    {"*.qkv_proj", NULL, ROLE_OF(ATTENTION, QKV)},
    {"*.c_attn", NULL, ROLE_OF(ATTENTION, QKV)},
    {"*.wqkv", NULL, ROLE_OF(ATTENTION, QKV)}, /* MPT, DBRX */
    {"*.qkv", NULL, ROLE_OF(ATTENTION, QKV)},  /* timm */
    {"*.to_qkv", NULL, ROLE_OF(ATTENTION, QKV)},
    {"*.fused_qkv", NULL, ROLE_OF(ATTENTION, QKV)},
    {"*.qkvw", NULL, ROLE_OF(ATTENTION, QKV)}, /* llm.c */
    {"*.w_pack", NULL, ROLE_OF(ATTENTION, QKV)},
    {"*.att_proj", NULL, ROLE_OF(ATTENTION, QKV)},       /* OLMo */
    {"*.in_proj_weight", NULL, ROLE_OF(ATTENTION, QKV)}, /* torch.nn.MultiheadAttention */
    {"*.in_proj_qkvz", NULL, ROLE_OF(ATTENTION, PARTS)}, /* Qwen3-Next: per key head q, k, its v and z */
    {"*.in_proj_ba", NULL, ROLE_OF(ATTENTION, PARTS)},
    {"*.kv_proj", NULL, ROLE_OF(ATTENTION, K_AND_V)},
    {"*.to_kv", NULL, ROLE_OF(ATTENTION, K_AND_V)},
    {"*.linear_kv", NULL, ROLE_OF(ATTENTION, K_AND_V)},

    /* attention, DeepSeek's latent one; the down projections stay whole */
    {"*.kv_b_proj", NULL, ROLE_OF(ATTENTION, KV_B)},
    {"*.wkv_b", NULL, ROLE_OF(ATTENTION, KV_B)},
    {"*.q_b_proj", NULL, ROLE_OF(ATTENTION, Q)},
    {"*.wq_b", NULL, ROLE_OF(ATTENTION, Q)},
    {"*.q_a_proj", NULL, ROLE(ATTENTION)},
    {"*.wq_a", NULL, ROLE(ATTENTION)},
    {"*.kv_a_proj_with_mqa", NULL, ROLE(ATTENTION)},
    {"*.wkv_a", NULL, ROLE(ATTENTION)},

    /* attention, q, k, v and o apart */
    {"*.q_proj", NULL, ROLE_OF(ATTENTION, Q)},
    {"*.[kv]_proj", NULL, ROLE_OF(ATTENTION, KV)},
    {"*.o_proj", NULL, ROLE_OF(ATTENTION, O)},
    {"*.wq", NULL, ROLE_OF(ATTENTION, Q)},
    {"*.w[kv]", NULL, ROLE_OF(ATTENTION, KV)},
    {"*att*.wo", NULL, ROLE_OF(ATTENTION, O)},
    {"*.c_q", NULL, ROLE_OF(ATTENTION, Q)}, /* modded-nanogpt */
    {"*.c_[kv]", NULL, ROLE_OF(ATTENTION, KV)},
    {"*.to_q", NULL, ROLE_OF(ATTENTION, Q)},
    {"*.to_[kv]", NULL, ROLE_OF(ATTENTION, KV)},
    {"*.to_out.0", NULL, ROLE_OF(ATTENTION, O)},
    {"*att*.query", NULL, ROLE_OF(ATTENTION, Q)}, /* BERT, ViT */
    {"*att*.key", NULL, ROLE_OF(ATTENTION, KV)},
    {"*att*.value", NULL, ROLE_OF(ATTENTION, KV)},
    {"*att*.q", NULL, ROLE_OF(ATTENTION, Q)}, /* T5 */
    {"*att*.[kv]", NULL, ROLE_OF(ATTENTION, KV)},
    {"*att*.o", NULL, ROLE_OF(ATTENTION, O)},
    {"*att*.c_proj", NULL, ROLE_OF(ATTENTION, O)},
    {"*att*.out_proj", NULL, ROLE_OF(ATTENTION, O)},
    {"*att*.dense", NULL, ROLE_OF(ATTENTION, O)},
    {"*att*.proj", NULL, ROLE_OF(ATTENTION, O)},
    {"*att*.out", NULL, ROLE_OF(ATTENTION, O)},
    {"*att*.linear_proj", NULL, ROLE_OF(ATTENTION, O)},
    {"*.attprojw", NULL, ROLE_OF(ATTENTION, O)}, /* llm.c */
    {"*.attn_out", NULL, ROLE_OF(ATTENTION, O)}, /* OLMo */
    {"*attn*.*", NULL, ROLE(ATTENTION)},         /* whatever else is inside of it, a gate too */
    {"*attention*.*", NULL, ROLE(ATTENTION)},
    {"*.att.*", NULL, ROLE(ATTENTION)},

    /* "gate": of few experts a router, of many neurons half of an MLP, of one row a switch, which a shift does change
     */
    {"*.gate", NULL, ROLE_IF(ONE_ROW, MLP)},
    {"*.gate", NULL, ROLE_IF(MANY_ROWS, MLP_GATE_UP)},
    {"*.gate", NULL, ROLE(ROUTER)},
    {"*.gate.wg", NULL, ROLE(ROUTER)},

    /* dense MLPs; shared experts ("shared_experts.gate_proj") are such: every token takes them */
    {"*.gate_up_proj", NULL, ROLE_OF(MLP_GATE_UP, GATE_UP)},
    {"*.encoder.layers.*.dense_h_to_4h", NULL, ROLE_OF(MLP_GATE_UP, GATE_UP)}, /* ChatGLM */
    {"*.gate_up", NULL, ROLE_OF(MLP_GATE_UP, GATE_UP)},
    {"*.gate_and_up", NULL, ROLE_OF(MLP_GATE_UP, GATE_UP)},
    {"*.w13", NULL, ROLE_OF(MLP_GATE_UP, GATE_UP)},
    {"*.ff_proj", NULL, ROLE_OF(MLP_GATE_UP, GATE_UP)},      /* OLMo */
    {"*.w12", NULL, ROLE_OF(MLP_GATE_UP, GATE_UP)},          /* DINO */
    {"*.h.*.mlp.w2", NULL, ROLE_IF(MANY_ROWS, MLP_GATE_UP)}, /* Qwen 1: w1 and w2 lead up, c_proj down */
    {"*.mlp.w3", NULL, ROLE_IF(MORE_COLUMNS, MLP_DOWN)},     /* DINO: w12 leads up */
    {"*.gate_proj", NULL, ROLE(MLP_GATE_UP)},
    {"*.up_proj", NULL, ROLE(MLP_GATE_UP)},
    {"*.w[13]", NULL, ROLE(MLP_GATE_UP)},
    {"*.wi", NULL, ROLE(MLP_GATE_UP)},
    {"*.wi_[01]", NULL, ROLE(MLP_GATE_UP)},
    {"*.c_fc*", NULL, ROLE(MLP_GATE_UP)},
    {"*.fcw", NULL, ROLE(MLP_GATE_UP)}, /* llm.c */
    {"*.fc1", NULL, ROLE(MLP_GATE_UP)},
    {"*.fc_[12]", NULL, ROLE(MLP_GATE_UP)}, /* lit-gpt */
    {"*.mlp.fc", NULL, ROLE(MLP_GATE_UP)},
    {"*.fc_in", NULL, ROLE(MLP_GATE_UP)},
    {"*.lin1", NULL, ROLE(MLP_GATE_UP)}, /* DistilBERT */
    {"*.linear1", NULL, ROLE(MLP_GATE_UP)},
    {"*.linear_fc1", NULL, ROLE(MLP_GATE_UP)},
    {"*.dense_h_to_4h", NULL, ROLE(MLP_GATE_UP)},
    {"*.intermediate.dense", NULL, ROLE(MLP_GATE_UP)}, /* BERT */
    {"*.mlp.up", NULL, ROLE(MLP_GATE_UP)},
    {"*.down_proj", NULL, ROLE(MLP_DOWN)},
    {"*.w2", NULL, ROLE(MLP_DOWN)},
    {"*.wo", NULL, ROLE(MLP_DOWN)},
    {"*.mlp.c_proj", NULL, ROLE(MLP_DOWN)},
    {"*.mlp.proj", NULL, ROLE(MLP_DOWN)},
    {"*.fcprojw", NULL, ROLE(MLP_DOWN)}, /* llm.c */
    {"*.fc2", NULL, ROLE(MLP_DOWN)},
    {"*.fc_out", NULL, ROLE(MLP_DOWN)},
    {"*.ff_out", NULL, ROLE(MLP_DOWN)}, /* OLMo */
    {"*.lin2", NULL, ROLE(MLP_DOWN)},
    {"*.linear2", NULL, ROLE(MLP_DOWN)},
    {"*.linear_fc2", NULL, ROLE(MLP_DOWN)},
    {"*.dense_4h_to_h", NULL, ROLE(MLP_DOWN)},
    {"*.output.dense", NULL, ROLE(MLP_DOWN)},
    {"*.mlp.down", NULL, ROLE(MLP_DOWN)},
    {"*.mlp.*", NULL, ROLE(MLP)}, /* Qwen-MoE's shared_expert_gate too: a sigmoid, which a shift does change */
    {"*.feed_forward.*", NULL, ROLE(MLP)},
    {"*.ffn.*", NULL, ROLE(MLP)},

    /* other matrices between spaces that may be rotated */
    {"*mixer.in_proj", NULL, ROLE_OF(MATRIX, PARTS)}, /* Mamba: x and z; Mamba 2: B, C and dt too */
    {"*mamba*.in_proj", NULL, ROLE_OF(MATRIX, PARTS)},
    {"*.in_proj", NULL, ROLE(MATRIX)},
    {"*.out_proj", NULL, ROLE(MATRIX)},
    {"*.x_proj", NULL, ROLE(MATRIX)},
    {"*.dt_proj", NULL, ROLE(MATRIX)},
    {"*.pooler.dense", NULL, ROLE(MATRIX)},
    {"*.transform.dense", NULL, ROLE(MATRIX)},
    {"*.lm_head.dense", NULL, ROLE(MATRIX)},
    {"*.eh_proj", NULL, ROLE(MATRIX)}, /* DeepSeek V3 */
    {"*.project_in", NULL, ROLE(MATRIX)},
    {"*.project_out", NULL, ROLE(MATRIX)},
    {"*projector.*", NULL, ROLE(MATRIX)},
};
const int eqs_family_pattern_count = sizeof eqs_family_patterns / sizeof *eqs_family_patterns;
