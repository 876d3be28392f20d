/*
 * Golden assignments: the parameters of many families, as they are called and shaped, with the class of their module;
 * the role, and the layout and number of matrices that Muon gets, by default and with `layout: auto`.
 */
#include <stdio.h>
#include <string.h>

#include "harness.h"
#include "model/assign.h"
#include "model/complete_shape.h"
#include "model/config.h"

#define ROLES "[attention, mlp, mlp_gate_up, mlp_down, expert_gate_up, expert_down, matrix]"

typedef struct {
  const char *name, *type;
  int64_t shape[4];
  const char *role;
  /* of matrices: by default, and with layout: auto */
  const char *layout;
  int64_t count;
  const char *auto_layout;
  int64_t auto_count;
} expected_parameter;

typedef struct {
  const char *family;
  eqs_model_shape model;
  expected_parameter parameter[24];
} family;

/* What an element-wise rule gets, and a matrix that is the same either way. */
#define WHOLE NULL, 0, NULL, 0
#define SAME(layout, count) layout, count, layout, count
#define ONE SAME("row", 1)

/* What the model's configuration says: heads, key/value heads, rows of a head; or, for DeepSeek, of k and of v. */
#define HEADS(all, key_value, rows)                                                                                    \
  {                                                                                                                    \
    .attention_heads = all, .key_value_heads = key_value, .head_dim = rows                                             \
  }
#define LATENT_HEADS(all, nope, rope, v)                                                                               \
  {                                                                                                                    \
    .attention_heads = all, .nope_head_dim = nope, .rope_head_dim = rope, .v_head_dim = v                              \
  }

static const family families[] = {
    {"Llama 3.1 8B, Mistral",
     HEADS(32, 8, 128),
     {{"model.embed_tokens.weight", "Embedding", {128256, 4096}, "embedding", WHOLE},
      {"model.layers.0.self_attn.q_proj.weight", "Linear", {4096, 4096}, "attention", "row", 1, "heads_qkv", 32},
      {"model.layers.0.self_attn.k_proj.weight", "Linear", {1024, 4096}, "attention", "row", 1, "heads_qkv", 8},
      {"model.layers.0.self_attn.v_proj.weight", NULL, {1024, 4096}, "attention", "row", 1, "heads_qkv", 8},
      {"model.layers.0.self_attn.o_proj.weight", "Linear", {4096, 4096}, "attention", "row", 1, "heads_o", 32},
      {"model.layers.0.mlp.gate_proj.weight", "Linear", {14336, 4096}, "mlp_gate_up", ONE},
      {"model.layers.0.mlp.up_proj.weight", "Linear", {14336, 4096}, "mlp_gate_up", ONE},
      {"model.layers.0.mlp.down_proj.weight", "Linear", {4096, 14336}, "mlp_down", ONE},
      {"model.layers.0.input_layernorm.weight", "LlamaRMSNorm", {4096}, "other", WHOLE},
      {"model.norm.weight", "LlamaRMSNorm", {4096}, "other", WHOLE},
      {"lm_head.weight", "Linear", {128256, 4096}, "lm_head", WHOLE}}},
    {"Llama as Meta and torchtitan call it",
     HEADS(32, 8, 128),
     {{"tok_embeddings.weight", "Embedding", {128256, 4096}, "embedding", WHOLE},
      {"layers.0.attention.wq.weight", "Linear", {4096, 4096}, "attention", "row", 1, "heads_qkv", 32},
      {"layers.0.attention.wk.weight", NULL, {1024, 4096}, "attention", "row", 1, "heads_qkv", 8},
      {"layers.0.attention.wv.weight", NULL, {1024, 4096}, "attention", "row", 1, "heads_qkv", 8},
      {"layers.0.attention.wo.weight", NULL, {4096, 4096}, "attention", "row", 1, "heads_o", 32},
      {"layers.0.feed_forward.w1.weight", "Linear", {14336, 4096}, "mlp_gate_up", ONE},
      {"layers.0.feed_forward.w2.weight", "Linear", {4096, 14336}, "mlp_down", ONE},
      {"layers.0.feed_forward.w3.weight", NULL, {14336, 4096}, "mlp_gate_up", ONE},
      {"layers.0.attention_norm.weight", "RMSNorm", {4096}, "other", WHOLE},
      {"layers.0.moe.router.gate.weight", "Linear", {8, 4096}, "router", WHOLE},
      {"layers.0.moe.experts.w1", "GroupedExperts", {8, 1024, 4096}, "expert_gate_up", SAME("row", 8)},
      {"layers.0.moe.experts.w2", "GroupedExperts", {8, 4096, 1024}, "expert_down", SAME("row", 8)},
      {"layers.0.moe.shared_experts.w3.weight", NULL, {1024, 4096}, "mlp_gate_up", ONE},
      {"output.weight", "Linear", {128256, 4096}, "lm_head", WHOLE}}},
    {"Llama 4 Scout",
     HEADS(40, 8, 128),
     {{"language_model.model.layers.0.feed_forward.experts.gate_up_proj",
       "Llama4TextExperts",
       {16, 5120, 16384},
       "expert_gate_up",
       "col",
       16,
       "col",
       32},
      {"language_model.model.layers.0.feed_forward.experts.down_proj",
       "Llama4TextExperts",
       {16, 8192, 5120},
       "expert_down",
       SAME("col", 16)},
      {"language_model.model.layers.0.feed_forward.router.weight", "Llama4Router", {16, 5120}, "router", WHOLE},
      {"language_model.model.layers.0.feed_forward.shared_expert.gate_proj.weight",
       "Linear",
       {8192, 5120},
       "mlp_gate_up",
       ONE},
      {"language_model.model.layers.0.self_attn.q_proj.weight",
       "Linear",
       {5120, 5120},
       "attention",
       "row",
       1,
       "heads_qkv",
       40},
      {"vision_model.positional_embedding_vlm", "Llama4VisionModel", {577, 1408}, "position", WHOLE},
      {"multi_modal_projector.linear_1.weight", "Linear", {5120, 4096}, "matrix", ONE}}},
    {"Mixtral 8x7B",
     HEADS(32, 8, 128),
     {{"model.layers.3.block_sparse_moe.gate.weight", "Linear", {8, 4096}, "router", WHOLE},
      {"model.layers.3.block_sparse_moe.experts.3.w1.weight", "Linear", {14336, 4096}, "expert_gate_up", ONE},
      {"model.layers.3.block_sparse_moe.experts.3.w3.weight", NULL, {14336, 4096}, "expert_gate_up", ONE},
      {"model.layers.3.block_sparse_moe.experts.3.w2.weight", "Linear", {4096, 14336}, "expert_down", ONE}}},
    {"Qwen3 30B-A3B, Qwen2-MoE",
     HEADS(32, 4, 128),
     {{"model.layers.0.self_attn.q_proj.weight", "Linear", {4096, 2048}, "attention", "row", 1, "heads_qkv", 32},
      {"model.layers.0.self_attn.q_proj.bias", "Linear", {4096}, "other", WHOLE},
      {"model.layers.0.self_attn.o_proj.weight", "Linear", {2048, 4096}, "attention", "row", 1, "heads_o", 32},
      {"model.layers.0.self_attn.q_norm.weight", "Qwen3MoeRMSNorm", {128}, "other", WHOLE},
      {"model.layers.0.mlp.gate.weight", "Linear", {128, 2048}, "router", WHOLE},
      {"model.layers.0.mlp.experts.17.gate_proj.weight", "Linear", {768, 2048}, "expert_gate_up", ONE},
      {"model.layers.0.mlp.experts.17.down_proj.weight", "Linear", {2048, 768}, "expert_down", ONE},
      {"model.layers.0.mlp.experts.gate_up_proj",
       "Qwen3MoeExperts",
       {128, 1536, 2048},
       "expert_gate_up",
       "row",
       128,
       "gate_up_concat_split",
       256},
      {"model.layers.0.mlp.shared_expert_gate.weight", "Linear", {1, 2048}, "mlp", ONE},
      {"model.layers.0.mlp.shared_expert.up_proj.weight", "Linear", {5632, 2048}, "mlp_gate_up", ONE}}},
    {"Qwen3-Next: a gate beside every head of q",
     HEADS(16, 2, 256),
     {{"model.layers.3.self_attn.q_proj.weight", "Linear", {8192, 2048}, "attention", "row", 1, "heads_qkv", 32},
      {"model.layers.3.self_attn.o_proj.weight", "Linear", {2048, 4096}, "attention", "row", 1, "heads_o", 16}}},
    {"Qwen 1",
     HEADS(32, 32, 128),
     {{"transformer.h.0.attn.c_attn.weight", "Linear", {12288, 4096}, "attention", "row", 3, "heads_qkv", 96},
      {"transformer.h.0.attn.c_proj.weight", "Linear", {4096, 4096}, "attention", "row", 1, "heads_o", 32},
      {"transformer.h.0.mlp.w1.weight", "Linear", {11008, 4096}, "mlp_gate_up", ONE},
      {"transformer.h.0.mlp.w2.weight", "Linear", {11008, 4096}, "mlp_gate_up", ONE},
      {"transformer.h.0.mlp.c_proj.weight", "Linear", {4096, 11008}, "mlp_down", ONE}}},
    {"Gemma 3, Gemma 3n",
     HEADS(4, 1, 256),
     {{"model.embed_tokens.weight", "Gemma3TextScaledWordEmbedding", {262144, 1152}, "embedding", WHOLE},
      {"model.embed_tokens_per_layer.weight", NULL, {262144, 7680}, "embedding", WHOLE},
      {"model.layers.0.self_attn.k_proj.weight", "Linear", {256, 1152}, "attention", "row", 1, "heads_qkv", 1},
      {"model.layers.0.self_attn.o_proj.weight", "Linear", {1152, 1024}, "attention", "row", 1, "heads_o", 4},
      {"model.layers.0.pre_feedforward_layernorm.weight", "Gemma3RMSNorm", {1152}, "other", WHOLE},
      {"model.layers.0.altup.correction_coefs.weight", "Linear", {4, 4}, "other", WHOLE},
      {"vision_tower.vision_model.embeddings.patch_embedding.weight", NULL, {1152, 3, 14, 14}, "convolution", WHOLE},
      {"vision_tower.vision_model.embeddings.position_embedding.weight",
       "Embedding",
       {4096, 1152},
       "position",
       WHOLE}}},
    {"OLMo, OLMo 2, OLMoE",
     HEADS(16, 16, 128),
     {{"model.transformer.wte.weight", "Embedding", {50304, 2048}, "embedding", WHOLE},
      {"model.transformer.blocks.0.att_proj.weight", "Linear", {6144, 2048}, "attention", "row", 3, "heads_qkv", 48},
      {"model.transformer.blocks.0.attn_out.weight", "Linear", {2048, 2048}, "attention", "row", 1, "heads_o", 16},
      {"model.transformer.blocks.0.ff_proj.weight",
       "Linear",
       {16384, 2048},
       "mlp_gate_up",
       SAME("gate_up_concat_split", 2)},
      {"model.transformer.blocks.0.ff_out.weight", "Linear", {2048, 8192}, "mlp_down", ONE},
      {"model.transformer.ff_out.weight", "Linear", {50304, 2048}, "lm_head", WHOLE},
      {"model.layers.0.self_attn.q_norm.weight", "Olmo2RMSNorm", {2048}, "other", WHOLE},
      {"model.layers.0.post_feedforward_layernorm.weight", NULL, {2048}, "other", WHOLE},
      {"model.layers.0.mlp.gate.weight", "OlmoeTopKRouter", {64, 2048}, "router", WHOLE},
      {"model.layers.0.mlp.experts.gate_up_proj",
       NULL,
       {64, 2048, 2048},
       "expert_gate_up",
       "row",
       64,
       "gate_up_concat_split",
       128},
      {"model.layers.0.mlp.experts.down_proj", NULL, {64, 2048, 1024}, "expert_down", SAME("row", 64)}}},
    {"gpt-oss 20B",
     HEADS(64, 8, 64),
     {{"model.layers.0.self_attn.sinks", "GptOssAttention", {64}, "other", WHOLE},
      {"model.layers.0.self_attn.k_proj.weight", "Linear", {512, 2880}, "attention", "row", 1, "heads_qkv", 8},
      {"model.layers.0.self_attn.o_proj.weight", "Linear", {2880, 4096}, "attention", "row", 1, "heads_o", 64},
      {"model.layers.0.mlp.router.weight", "GptOssTopKRouter", {32, 2880}, "router", WHOLE},
      {"model.layers.0.mlp.experts.gate_up_proj",
       "GptOssExperts",
       {32, 2880, 5760},
       "expert_gate_up",
       SAME("gate_up_interleaved_split", 64)},
      {"model.layers.0.mlp.experts.gate_up_proj_bias", "GptOssExperts", {32, 5760}, "other", WHOLE},
      {"model.layers.0.mlp.experts.down_proj", "GptOssExperts", {32, 2880, 2880}, "expert_down", SAME("row", 32)}}},
    {"GPT-2",
     HEADS(12, 12, 64),
     {{"transformer.wte.weight", "Embedding", {50257, 768}, "embedding", WHOLE},
      {"transformer.wpe.weight", "Embedding", {1024, 768}, "position", WHOLE},
      {"wpe.weight", NULL, {1024, 768}, "position", WHOLE},
      {"transformer.h.0.ln_1.weight", "LayerNorm", {768}, "other", WHOLE},
      {"transformer.h.0.attn.c_attn.weight", "Conv1D", {768, 2304}, "attention", "col", 3, "heads_qkv_col", 36},
      {"transformer.h.0.attn.c_attn.bias", "Conv1D", {2304}, "other", WHOLE},
      {"transformer.h.0.attn.c_proj.weight", "Conv1D", {768, 768}, "attention", "col", 1, "heads_o_col", 12},
      {"transformer.h.0.mlp.c_fc.weight", "Conv1D", {768, 3072}, "mlp_gate_up", SAME("col", 1)},
      {"transformer.h.0.mlp.c_proj.weight", "Conv1D", {3072, 768}, "mlp_down", SAME("col", 1)},
      {"lm_head.weight", "Linear", {50257, 768}, "lm_head", WHOLE}}},
    {"nanoGPT, modded-nanogpt",
     HEADS(12, 12, 64),
     {{"transformer.h.0.attn.c_attn.weight", "Linear", {2304, 768}, "attention", "row", 3, "heads_qkv", 36},
      {"transformer.h.0.attn.c_proj.weight", "Linear", {768, 768}, "attention", "row", 1, "heads_o", 12},
      {"transformer.h.0.mlp.c_fc.weight", "Linear", {3072, 768}, "mlp_gate_up", ONE},
      {"transformer.h.0.mlp.c_proj.weight", "Linear", {768, 3072}, "mlp_down", ONE},
      {"transformer.h.0.attn.c_q.weight", "CastedLinear", {768, 768}, "attention", "row", 1, "heads_qkv", 12},
      {"blocks.0.attn.qkv_w", "CausalSelfAttention", {3, 768, 768}, "attention", SAME("row", 3)},
      {"value_embeds.2.weight", NULL, {50304, 768}, "embedding", WHOLE},
      {"embed.weight", NULL, {50304, 768}, "embedding", WHOLE}}},
    {"llm.c: every tensor a stack over the layers",
     HEADS(12, 12, 64),
     {{"wte", NULL, {50257, 768}, "embedding", WHOLE},
      {"wpe", NULL, {1024, 768}, "position", WHOLE},
      {"ln1w", NULL, {12, 768}, "other", WHOLE},
      {"ln1b", NULL, {12, 768}, "other", WHOLE},
      {"qkvw", NULL, {12, 2304, 768}, "attention", "row", 36, "heads_qkv", 432},
      {"qkvb", NULL, {12, 2304}, "other", WHOLE},
      {"attprojw", NULL, {12, 768, 768}, "attention", "row", 12, "heads_o", 144},
      {"attprojb", NULL, {12, 768}, "other", WHOLE},
      {"fcw", NULL, {12, 3072, 768}, "mlp_gate_up", SAME("row", 12)},
      {"fcb", NULL, {12, 3072}, "other", WHOLE},
      {"fcprojw", NULL, {12, 768, 3072}, "mlp_down", SAME("row", 12)},
      {"fcprojb", NULL, {12, 768}, "other", WHOLE},
      {"lnfw", NULL, {768}, "other", WHOLE}}},
    {"llama2.c",
     HEADS(6, 6, 48),
     {{"token_embedding_table", NULL, {32000, 288}, "embedding", WHOLE},
      {"rms_att_weight", NULL, {6, 288}, "other", WHOLE},
      {"wq", NULL, {6, 288, 288}, "attention", "row", 6, "heads_qkv", 36},
      {"w1", NULL, {6, 768, 288}, "mlp_gate_up", SAME("row", 6)},
      {"w2", NULL, {6, 288, 768}, "mlp_down", SAME("row", 6)},
      {"wcls", NULL, {32000, 288}, "lm_head", WHOLE}}},
    {"stacks of other programs, JAX's stored as inputs x outputs",
     HEADS(4, 4, 32),
     {
         {"h.ln_1.weight", "LayerNorm", {4, 128}, "other", WHOLE},
         {"h.ln_1.weight", NULL, {4, 128}, "other", WHOLE},
         {"h.anything.weight", "LayerNorm", {4, 128}, "other", WHOLE},
         {"h.attn.c_attn.weight", NULL, {4, 384, 128}, "attention", "row", 12, "heads_qkv", 48},
         {"h.mlp.c_proj.weight", NULL, {4, 128, 512}, "mlp_down", SAME("row", 4)},
         {"h.anything.weight", "Linear", {4, 512, 128}, "matrix", SAME("row", 4)},
         {"params.layers.self_attn.q_proj.kernel", NULL, {4, 128, 128}, "attention", "col", 4, "heads_qkv_col", 16},
         {"params.layers.mlp.up_proj.kernel", NULL, {4, 128, 512}, "mlp_gate_up", SAME("col", 4)},
         {"params.layers.ln_1.scale", NULL, {4, 128}, "other", WHOLE},
         {"params.layers.attention.query.kernel", NULL, {128, 4, 32}, "other", WHOLE}, /* inputs x heads x rows of a
                                                                                        * head
                                                                                        */
         {"params.lm_head.kernel", NULL, {128, 1000}, "lm_head", WHOLE},
         {"params.embed.embedding", NULL, {1000, 128}, "embedding", WHOLE},
         {"layers.experts.down_proj", NULL, {4, 8, 128, 512}, "expert_down", SAME("row", 32)},
     }},
    {"GPT-NeoX 20B, Pythia",
     HEADS(64, 0, 96),
     {{"gpt_neox.embed_in.weight", NULL, {50432, 6144}, "embedding", WHOLE},
      {"gpt_neox.layers.0.attention.query_key_value.weight",
       "Linear",
       {18432, 6144},
       "attention",
       "row",
       192,
       "heads_qkv",
       192},
      {"gpt_neox.layers.0.attention.dense.weight", "Linear", {6144, 6144}, "attention", "row", 1, "heads_o", 64},
      {"gpt_neox.layers.0.mlp.dense_h_to_4h.weight", "Linear", {24576, 6144}, "mlp_gate_up", ONE},
      {"gpt_neox.layers.0.mlp.dense_4h_to_h.weight", "Linear", {6144, 24576}, "mlp_down", ONE},
      {"embed_out.weight", "Linear", {50432, 6144}, "lm_head", WHOLE}}},
    {"Falcon 7B: one key/value head",
     HEADS(71, 1, 64),
     {{"transformer.word_embeddings.weight", NULL, {65024, 4544}, "embedding", WHOLE},
      {"transformer.h.0.self_attention.query_key_value.weight",
       "FalconLinear",
       {4672, 4544},
       "attention",
       "row",
       3,
       "heads_qkv",
       73},
      {"transformer.h.0.self_attention.dense.weight", NULL, {4544, 4544}, "attention", "row", 1, "heads_o", 71},
      {"transformer.h.0.ln_attn.weight", "LayerNorm", {4544}, "other", WHOLE}}},
    {"Falcon 7B as its configuration has it",
     HEADS(71, 71, 64),
     {{"transformer.h.0.self_attention.query_key_value.weight",
       "FalconLinear",
       {4672, 4544},
       "attention",
       "row",
       3,
       "heads_qkv",
       73}}},
    {"Falcon 40B: groups of heads",
     HEADS(128, 8, 64),
     {{"transformer.h.0.self_attention.query_key_value.weight",
       NULL,
       {9216, 8192},
       "attention",
       "row",
       24,
       "heads_qkv",
       144}}},
    {"BLOOM",
     HEADS(112, 0, 128),
     {{"transformer.word_embeddings_layernorm.weight", "LayerNorm", {14336}, "other", WHOLE},
      {"transformer.h.0.self_attention.query_key_value.weight",
       "Linear",
       {43008, 14336},
       "attention",
       "row",
       336,
       "heads_qkv",
       336}}},
    {"ChatGLM: q, k and v one after the other",
     HEADS(32, 2, 128),
     {{"transformer.encoder.layers.0.self_attention.query_key_value.weight",
       "Linear",
       {4608, 4096},
       "attention",
       "row",
       3,
       "heads_qkv",
       36},
      {"transformer.encoder.layers.0.mlp.dense_h_to_4h.weight",
       NULL,
       {27392, 4096},
       "mlp_gate_up",
       SAME("gate_up_concat_split", 2)}}},
    {"InternLM 2",
     HEADS(32, 8, 128),
     {{"model.layers.0.attention.wqkv.weight", "Linear", {6144, 4096}, "attention", "row", 24, "heads_qkv", 48}}},
    {"Phi-2",
     HEADS(32, 32, 80),
     {{"model.layers.0.self_attn.q_proj.weight", "Linear", {2560, 2560}, "attention", "row", 1, "heads_qkv", 32},
      {"model.layers.0.self_attn.dense.weight", "Linear", {2560, 2560}, "attention", "row", 1, "heads_o", 32},
      {"model.layers.0.mlp.fc1.weight", "Linear", {10240, 2560}, "mlp_gate_up", ONE},
      {"model.layers.0.mlp.fc2.weight", "Linear", {2560, 10240}, "mlp_down", ONE}}},
    {"Phi-3 mini",
     HEADS(32, 32, 96),
     {{"model.layers.0.self_attn.qkv_proj.weight", "Linear", {9216, 3072}, "attention", "row", 3, "heads_qkv", 96},
      {"model.layers.0.mlp.gate_up_proj.weight",
       "Linear",
       {16384, 3072},
       "mlp_gate_up",
       SAME("gate_up_concat_split", 2)}}},
    {"Phi-3 medium",
     HEADS(40, 10, 128),
     {{"model.layers.0.self_attn.qkv_proj.weight", "Linear", {7680, 5120}, "attention", "row", 3, "heads_qkv", 60}}},
    {"DeepSeek V3",
     LATENT_HEADS(128, 128, 64, 128),
     {{"model.layers.3.self_attn.q_a_proj.weight", "Linear", {1536, 7168}, "attention", ONE},
      {"model.layers.3.self_attn.q_b_proj.weight", "Linear", {24576, 1536}, "attention", "row", 1, "heads_qkv", 128},
      {"model.layers.3.self_attn.kv_a_proj_with_mqa.weight", "Linear", {576, 7168}, "attention", ONE},
      {"model.layers.3.self_attn.kv_b_proj.weight", "Linear", {32768, 512}, "attention", SAME("row", 256)},
      {"model.layers.3.self_attn.o_proj.weight", "Linear", {7168, 16384}, "attention", "row", 1, "heads_o", 128},
      {"model.layers.3.self_attn.q_a_layernorm.weight", "DeepseekV3RMSNorm", {1536}, "other", WHOLE},
      {"model.layers.3.mlp.gate.weight", "DeepseekV3TopkRouter", {256, 7168}, "router", WHOLE},
      {"model.layers.3.mlp.gate.weight", NULL, {256, 7168}, "router", WHOLE},
      {"model.layers.3.mlp.gate.e_score_correction_bias", NULL, {256}, "other", WHOLE},
      {"model.layers.3.mlp.experts.255.up_proj.weight", "Linear", {2048, 7168}, "expert_gate_up", ONE},
      {"model.layers.3.mlp.experts.255.down_proj.weight", "Linear", {7168, 2048}, "expert_down", ONE},
      {"model.layers.3.mlp.shared_experts.gate_proj.weight", "Linear", {2048, 7168}, "mlp_gate_up", ONE},
      {"model.layers.3.mlp.shared_experts.down_proj.weight", "Linear", {7168, 2048}, "mlp_down", ONE},
      {"model.layers.61.eh_proj.weight", "Linear", {7168, 14336}, "matrix", ONE},
      {"model.layers.61.shared_head.head.weight", "Linear", {129280, 7168}, "lm_head", WHOLE}}},
    {"DeepSeek V3 as DeepSeek and torchtitan call it; V2 Lite",
     LATENT_HEADS(16, 128, 64, 128),
     {{"layers.3.attn.wq_b.weight", NULL, {3072, 1536}, "attention", "row", 1, "heads_qkv", 16},
      {"layers.3.attn.wkv_b.weight", NULL, {4096, 512}, "attention", SAME("row", 32)},
      {"layers.3.attn.wkv_a.weight", NULL, {576, 2048}, "attention", ONE},
      {"layers.3.attn.wo.weight", NULL, {2048, 2048}, "attention", "row", 1, "heads_o", 16},
      {"model.layers.3.self_attn.q_proj.weight", "Linear", {3072, 2048}, "attention", "row", 1, "heads_qkv", 16},
      {"layers.3.ffn.gate.weight", "Gate", {64, 2048}, "router", WHOLE},
      {"layers.3.ffn.experts.17.w2.weight", NULL, {2048, 1408}, "expert_down", ONE},
      {"layers.3.ffn.shared_experts.w1.weight", NULL, {2816, 2048}, "mlp_gate_up", ONE},
      {"embed.weight", NULL, {102400, 2048}, "embedding", WHOLE},
      {"head.weight", NULL, {102400, 2048}, "lm_head", WHOLE}}},
    {"T5 base",
     HEADS(12, 12, 64),
     {{"shared.weight", "Embedding", {32128, 768}, "embedding", WHOLE},
      {"shared.weight", NULL, {32128, 768}, "embedding", WHOLE},
      {"encoder.block.0.layer.0.SelfAttention.q.weight", "Linear", {768, 768}, "attention", "row", 1, "heads_qkv", 12},
      {"encoder.block.0.layer.0.SelfAttention.o.weight", "Linear", {768, 768}, "attention", "row", 1, "heads_o", 12},
      {"encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
       "Embedding",
       {32, 12},
       "position",
       WHOLE},
      {"decoder.block.0.layer.1.EncDecAttention.v.weight", NULL, {768, 768}, "attention", "row", 1, "heads_qkv", 12},
      {"encoder.block.0.layer.1.DenseReluDense.wi_0.weight", "Linear", {2048, 768}, "mlp_gate_up", ONE},
      {"encoder.block.0.layer.1.DenseReluDense.wo.weight", "Linear", {768, 2048}, "mlp_down", ONE},
      {"encoder.block.0.layer.1.layer_norm.weight", "T5LayerNorm", {768}, "other", WHOLE},
      {"encoder.block.1.layer.1.mlp.router.classifier.weight", "Linear", {8, 768}, "router", WHOLE},
      {"encoder.block.1.layer.1.mlp.experts.expert_0.wo.weight", "Linear", {768, 2048}, "expert_down", ONE},
      {"lm_head.weight", "Linear", {32128, 768}, "lm_head", WHOLE}}},
    {"BERT base",
     HEADS(12, 0, 64),
     {{"bert.embeddings.word_embeddings.weight", "Embedding", {30522, 768}, "embedding", WHOLE},
      {"bert.embeddings.position_embeddings.weight", "Embedding", {512, 768}, "position", WHOLE},
      {"bert.embeddings.token_type_embeddings.weight", NULL, {2, 768}, "embedding", WHOLE},
      {"bert.embeddings.LayerNorm.weight", "LayerNorm", {768}, "other", WHOLE},
      {"bert.encoder.layer.0.attention.self.query.weight",
       "Linear",
       {768, 768},
       "attention",
       "row",
       1,
       "heads_qkv",
       12},
      {"bert.encoder.layer.0.attention.output.dense.weight",
       "Linear",
       {768, 768},
       "attention",
       "row",
       1,
       "heads_o",
       12},
      {"bert.encoder.layer.0.intermediate.dense.weight", "Linear", {3072, 768}, "mlp_gate_up", ONE},
      {"bert.encoder.layer.0.output.dense.weight", "Linear", {768, 3072}, "mlp_down", ONE},
      {"bert.pooler.dense.weight", "Linear", {768, 768}, "matrix", ONE},
      {"cls.predictions.transform.dense.weight", "Linear", {768, 768}, "matrix", ONE},
      {"cls.predictions.decoder.weight", "Linear", {30522, 768}, "lm_head", WHOLE},
      {"cls.seq_relationship.weight", "Linear", {2, 768}, "lm_head", WHOLE},
      {"lm_head.dense.weight", "Linear", {768, 768}, "matrix", ONE},
      {"lm_head.decoder.weight", "Linear", {50265, 768}, "lm_head", WHOLE},
      {"score.weight", "Linear", {3, 768}, "lm_head", WHOLE}}},
    {"ViT base of transformers, timm and torchvision",
     HEADS(12, 12, 64),
     {{"vit.embeddings.cls_token", "ViTEmbeddings", {1, 1, 768}, "other", WHOLE},
      {"vit.embeddings.position_embeddings", "ViTEmbeddings", {1, 197, 768}, "position", WHOLE},
      {"vit.embeddings.patch_embeddings.projection.weight", "Conv2d", {768, 3, 16, 16}, "convolution", WHOLE},
      {"patch_embed.proj.weight", NULL, {768, 3, 16, 16}, "convolution", WHOLE},
      {"pos_embed", NULL, {1, 197, 768}, "position", WHOLE},
      {"blocks.0.attn.rel_pos_h", NULL, {27, 64}, "position", WHOLE},
      {"layers.0.blocks.0.attn.relative_position_bias_table", "WindowAttention", {169, 3}, "position", WHOLE},
      {"vit.encoder.layer.0.attention.attention.key.weight",
       "Linear",
       {768, 768},
       "attention",
       "row",
       1,
       "heads_qkv",
       12},
      {"vit.encoder.layer.0.layernorm_before.weight", "LayerNorm", {768}, "other", WHOLE},
      {"blocks.0.attn.qkv.weight", "Linear", {2304, 768}, "attention", "row", 3, "heads_qkv", 36},
      {"blocks.0.attn.proj.weight", "Linear", {768, 768}, "attention", "row", 1, "heads_o", 12},
      {"blocks.0.mlp.fc1.weight", "Linear", {3072, 768}, "mlp_gate_up", ONE},
      {"blocks.0.mlp.w12.weight", "Linear", {4096, 768}, "mlp_gate_up", SAME("gate_up_concat_split", 2)},
      {"blocks.0.mlp.w3.weight", "Linear", {768, 2048}, "mlp_down", ONE},
      {"encoder.layers.encoder_layer_0.self_attention.in_proj_weight",
       "MultiheadAttention",
       {2304, 768},
       "attention",
       "row",
       3,
       "heads_qkv",
       36},
      {"conv_proj.weight", "Conv2d", {768, 3, 16, 16}, "convolution", WHOLE},
      {"heads.head.weight", "Linear", {1000, 768}, "lm_head", WHOLE},
      {"classifier.weight", "Linear", {1000, 768}, "lm_head", WHOLE},
      {"fc.weight", "Linear", {1000, 512}, "lm_head", WHOLE},
      {"layer1.0.conv2.weight", NULL, {64, 64, 3, 3}, "convolution", WHOLE}}},
    {"Mamba",
     HEADS(0, 0, 0),
     {{"backbone.embeddings.weight", "Embedding", {50280, 4096}, "embedding", WHOLE},
      {"backbone.layers.0.mixer.A_log", "MambaMixer", {8192, 16}, "other", WHOLE},
      {"backbone.layers.0.mixer.D", "MambaMixer", {8192}, "other", WHOLE},
      {"backbone.layers.0.mixer.conv1d.weight", "Conv1d", {8192, 1, 4}, "convolution", WHOLE},
      {"backbone.layers.0.mixer.conv1d.weight", NULL, {8192, 1, 4}, "convolution", WHOLE},
      {"backbone.layers.0.mixer.in_proj.weight", "Linear", {16384, 4096}, "matrix", ONE},
      {"backbone.layers.0.mixer.x_proj.weight", "Linear", {288, 8192}, "matrix", ONE},
      {"backbone.layers.0.mixer.dt_proj.weight", "Linear", {8192, 256}, "matrix", ONE},
      {"backbone.layers.0.mixer.out_proj.weight", NULL, {4096, 8192}, "matrix", ONE},
      {"backbone.norm_f.weight", "MambaRMSNorm", {4096}, "other", WHOLE},
      {"backbone.layers.0.rwkv.time_mix_key", NULL, {1, 1, 4096}, "other", WHOLE},
      {"rwkv.blocks.0.attention.receptance.weight", "Linear", {4096, 4096}, "attention", ONE}}},
    {"other decoders: GPT-J, OPT, MPT, DBRX, Granite, Baichuan, Megatron",
     HEADS(32, 8, 128),
     {{"transformer.h.0.mlp.fc_in.weight", "Linear", {16384, 4096}, "mlp_gate_up", ONE},
      {"transformer.h.0.mlp.fc_out.weight", "Linear", {4096, 16384}, "mlp_down", ONE},
      {"model.decoder.embed_positions.weight", "OPTLearnedPositionalEmbedding", {2050, 4096}, "position", WHOLE},
      {"model.decoder.layers.0.fc2.weight", "Linear", {4096, 16384}, "mlp_down", ONE},
      {"model.decoder.layers.0.self_attn.out_proj.weight", NULL, {4096, 4096}, "attention", "row", 1, "heads_o", 32},
      {"transformer.blocks.0.norm_attn_norm.attn.Wqkv.weight",
       "Linear",
       {6144, 4096},
       "attention",
       "row",
       3,
       "heads_qkv",
       48},
      {"transformer.blocks.0.norm_attn_norm.norm_1.weight", "LayerNorm", {4096}, "other", WHOLE},
      {"transformer.blocks.0.ffn.router.layer.weight", "Linear", {16, 4096}, "router", WHOLE},
      {"model.layers.0.block_sparse_moe.input_linear.weight",
       "GraniteMoeParallelExperts",
       {32, 1024, 1536},
       "expert_gate_up",
       "row",
       32,
       "gate_up_concat_split",
       64},
      {"model.layers.0.block_sparse_moe.router.layer.weight", "Linear", {32, 1536}, "router", WHOLE},
      {"decoder.layers.0.self_attention.linear_qkv.weight",
       NULL,
       {6144, 4096},
       "attention",
       "row",
       24,
       "heads_qkv",
       48},
      {"decoder.layers.0.self_attention.linear_proj.weight", NULL, {4096, 4096}, "attention", "row", 1, "heads_o", 32},
      {"decoder.layers.0.mlp.linear_fc1.weight", NULL, {28672, 4096}, "mlp_gate_up", ONE},
      {"model.layers.0.ffn.gate.weight", NULL, {11008, 4096}, "mlp_gate_up", ONE},
      {"model.layers.0.ffn.gate.weight", NULL, {64, 32}, "router", WHOLE},
      {"layers.0.self_attention.linear_qkv.weight",
       "TELayerNormColumnParallelLinear",
       {6144, 4096},
       "attention",
       "row",
       24,
       "heads_qkv",
       48},
      {"layers.0.self_attn.bias_k", "MultiheadAttention", {1, 1, 256}, "other", WHOLE},
      {"layers.0.blocks.0.attn.logit_scale", "WindowAttentionV2", {8, 1, 1}, "other", WHOLE},
      {"stages.0.attn.attention_biases", NULL, {4, 196}, "position", WHOLE},
      {"model.layers.0.self_attn.gate.weight", "Linear", {32, 4096}, "attention", ONE}}},
    {"heads by other names, wrappers, adapters",
     HEADS(0, 0, 0),
     {{"model.output.weight", "Linear", {1000, 64}, "lm_head", WHOLE},
      {"transformer.head.weight", NULL, {1000, 64}, "lm_head", WHOLE},
      {"unembed.weight", NULL, {1000, 64}, "lm_head", WHOLE},
      {"model.score.weight", "Linear", {7, 64}, "lm_head", WHOLE},
      {"_orig_mod.lm_head.weight", NULL, {1000, 64}, "lm_head", WHOLE},
      {"model._fsdp_wrapped_module.output._checkpoint_wrapped_module.weight", NULL, {1000, 64}, "lm_head", WHOLE},
      {"base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight", "Linear", {8, 64}, "other", WHOLE},
      {"base_model.model.model.layers.0.self_attn.q_proj.lora_B.default.weight", "Linear", {64, 8}, "other", WHOLE},
      {"base_model.model.model.layers.0.mlp.up_proj.base_layer.weight", "Linear", {256, 64}, "mlp_gate_up", ONE},
      {"blocks.3.output.weight", "Linear", {64, 64}, "matrix", ONE},
      {"anything.weight", "Linear", {64, 64}, "matrix", ONE},
      {"anything.weight", NULL, {64, 64}, "matrix", ONE},
      {"anything.weight", NULL, {64, 64, 3}, "other", WHOLE},
      {"anything.weight", NULL, {64, 64, 3, 3}, "convolution", WHOLE},
      {"attn.q.weight", NULL, {64, 64, 1, 1}, "convolution", WHOLE},
      {"attn.q_proj.weight", NULL, {64, 64, 3}, "convolution", WHOLE},
      {"temperature", NULL, {0}, "other", WHOLE}}},
};
enum { family_count = sizeof families / sizeof families[0] };

static eqs_config *parse(const char *text)
{
  eqs_source source = {"c.yaml", (char *)text};
  eqs_sources sources = {1, &source};
  eqs_config *config;
  ck_assert_ok(eqs_config_parse(&sources, &config));
  return config;
}

static eqs_parameter_info info_of(const expected_parameter *expected)
{
  eqs_parameter_info info = {.name = expected->name, .module_type = expected->type};
  while (info.ndim < 4 && expected->shape[info.ndim] > 0) info.ndim++;
  memcpy(info.shape, expected->shape, sizeof expected->shape);
  return info;
}

static void check(const eqs_config *config, const family *of, const expected_parameter *expected, const char *layout,
                  int64_t count)
{
  eqs_parameter_info info = info_of(expected);
  eqs_model_shape model;
  eqs_assignment got;
  eqs_complete_model_shape(config, &of->model, 0, NULL, &model);
  ck_assert_msg(eqs_config_assign(config, &model, &info, &got) == EQS_OK, "%s: %s", of->family, eqs_error_message());
  const char *found = got.options.rule->element_wise ? NULL : eqs_layout_names[got.layout];
  ck_assert_msg(strcmp(eqs_role_names[got.role], expected->role) == 0, "%s: %s: role %s", of->family, expected->name,
                eqs_role_names[got.role]);
  ck_assert_msg((found == NULL) == (layout == NULL) && (layout == NULL || strcmp(found, layout) == 0),
                "%s: %s: layout %s", of->family, expected->name, found ? found : "none");
  ck_assert_msg(layout == NULL || got.count == count, "%s: %s: %lld matrices", of->family, expected->name,
                (long long)got.count);
  int64_t elements = 1, covered = 0;
  for (int d = 0; d < info.ndim; d++) elements *= info.shape[d];
  for (int64_t v = 0; v < got.count; v++) covered += got.views[v].rows * got.views[v].cols;
  ck_assert_int_eq(covered, elements);
  eqs_assignment_free(&got);
}

START_TEST(golden_assignments)
{
  const family *of = &families[_i];
  eqs_config *whole = parse("groups: [{match: {role: " ROLES "}, rule: muon, lr: 1}, {rule: adamw, lr: 1}]");
  eqs_config *apart = parse("groups:\n- {match: {role: " ROLES "}, rule: muon, lr: 1, layout: auto}\n"
                            "- {rule: adamw, lr: 1}\n");
  for (const expected_parameter *next = of->parameter; next->name != NULL; next++) {
    check(whole, of, next, next->layout, next->count);
    check(apart, of, next, next->auto_layout, next->auto_count);
  }
  eqs_config_free(&whole);
  eqs_config_free(&apart);
}
END_TEST

/* Roles and doubts of a whole model, whose parameters tell of each other. */
static void check_model(const char *text, const eqs_model_shape *given, int64_t count,
                        const expected_parameter *expected, const unsigned *doubts)
{
  eqs_config *config = parse(text);
  eqs_parameter_info info[8];
  eqs_model_shape model;
  for (int64_t i = 0; i < count; i++) info[i] = info_of(&expected[i]);
  eqs_complete_model_shape(config, given, count, info, &model);
  for (int64_t i = 0; i < count; i++) {
    eqs_assignment got;
    ck_assert_ok(eqs_config_assign(config, &model, &info[i], &got));
    ck_assert_msg(strcmp(eqs_role_names[got.role], expected[i].role) == 0, "%s: %s", info[i].name,
                  eqs_role_names[got.role]);
    ck_assert_msg(got.doubts == doubts[i], "%s: doubts %u", info[i].name, got.doubts);
    if (expected[i].layout != NULL) ck_assert_str_eq(eqs_layout_names[got.layout], expected[i].layout);
    if (expected[i].layout != NULL) ck_assert_int_eq(got.count, expected[i].count);
    eqs_assignment_free(&got);
  }
  eqs_config_free(&config);
}

/* What nothing else is known of is a head if it has as many rows as the largest embedding, until told otherwise. */
START_TEST(as_many_rows_as_the_embedding)
{
  static const expected_parameter parameters[] = {
      {"embedder.readin.weight", "Embedding", {500, 16}, "embedding", WHOLE},
      {"types.weight", "Embedding", {32, 16}, "embedding", WHOLE},
      {"readout.weight", "Linear", {500, 16}, "lm_head", WHOLE},
      {"readout_2.weight", NULL, {500, 16}, "lm_head", WHOLE},
      {"told.weight", NULL, {500, 16}, "matrix", WHOLE},
      {"layers.0.mlp.up_proj.weight", "Linear", {500, 16}, "mlp_gate_up", WHOLE},
      {"square.weight", "Linear", {32, 16}, "matrix", WHOLE},
      {"unknown.weight", NULL, {32, 16}, "matrix", WHOLE},
  };
  static const unsigned doubts[] = {0, 0, EQS_DOUBT_ROWS_ALONE, EQS_DOUBT_ROWS_ALONE, 0, 0, 0, EQS_DOUBT_SHAPE_ALONE};
  check_model("roles: {told.weight: matrix}\ngroups: [{rule: muon, lr: 1}]\n", NULL, 8, parameters, doubts);
}
END_TEST

/* Heads whose number nobody says: by the norms of q and k, by a sink for each head, by the hidden size; or not at all.
 */
START_TEST(heads_from_other_parameters)
{
  static const char text[] = "groups: [{match: {ndim: 1}, rule: adamw, lr: 1}, {rule: muon, lr: 1, layout: auto}]\n";
  static const expected_parameter qwen3[] = {
      {"l.0.self_attn.q_proj.weight", NULL, {96, 40}, "attention", "heads_qkv", 4, NULL, 0},
      {"l.0.self_attn.k_proj.weight", NULL, {48, 40}, "attention", "heads_qkv", 2, NULL, 0},
      {"l.0.self_attn.o_proj.weight", NULL, {40, 96}, "attention", "heads_o", 4, NULL, 0},
      {"l.0.self_attn.q_norm.weight", NULL, {24}, "other", WHOLE},
      {"l.0.self_attn.k_norm.weight", NULL, {24}, "other", WHOLE},
  };
  static const expected_parameter gpt_oss[] = {
      {"l.0.self_attn.sinks", NULL, {8}, "other", WHOLE},
      {"l.0.self_attn.q_proj.weight", NULL, {96, 40}, "attention", "heads_qkv", 8, NULL, 0},
      {"l.0.self_attn.v_proj.weight", NULL, {24, 40}, "attention", "heads_qkv", 2, NULL, 0},
      {"l.0.self_attn.k_proj.weight", NULL, {24, 40}, "attention", "heads_qkv", 2, NULL, 0},
  };
  static const expected_parameter olmoe[] = {
      {"l.0.self_attn.q_proj.weight", NULL, {96, 96}, "attention", "row", 1, NULL, 0},
      {"l.0.self_attn.q_norm.weight", NULL, {96}, "other", WHOLE},
      {"l.0.self_attn.k_norm.weight", NULL, {96}, "other", WHOLE},
  };
  static const expected_parameter gpt2[] = {
      {"wte.weight", NULL, {500, 96}, "embedding", WHOLE},
      {"h.0.attn.c_attn.weight", "Conv1D", {96, 288}, "attention", "heads_qkv_col", 12, NULL, 0},
      {"h.0.attn.c_proj.weight", "Conv1D", {96, 96}, "attention", "heads_o_col", 4, NULL, 0},
  };
  static const unsigned none[8] = {0}, lacks[] = {EQS_DOUBT_HEADS, 0, 0};
  check_model(text, NULL, 5, qwen3, none);
  check_model(text, NULL, 4, gpt_oss, none);
  check_model(text, NULL, 3, olmoe, lacks);
  check_model(text, &(eqs_model_shape){.attention_heads = 4}, 3, gpt2, none);
}
END_TEST

/* A fused tensor of which nothing tells the pieces stays one matrix, and is said to be. */
START_TEST(fused_tensors_that_stay_whole)
{
  static const expected_parameter parameters[] = {
      {"l.0.self_attn.qkv_proj.weight", NULL, {80, 40}, "attention", "row", 1, NULL, 0},
      {"h.0.attention.query_key_value.weight", NULL, {120, 40}, "attention", "row", 1, NULL, 0},
      {"l.0.self_attn.kv_b_proj.weight", NULL, {80, 40}, "attention", "row", 1, NULL, 0},
      {"l.0.mlp.gate_up_proj.weight", NULL, {81, 40}, "mlp_gate_up", "row", 1, NULL, 0},
      {"l.0.mlp.experts.gate_up_proj", NULL, {4, 80, 40}, "expert_gate_up", "row", 4, NULL, 0},
      {"l.0.self_attn.q_proj.weight", NULL, {80, 40}, "attention", "row", 1, NULL, 0},
  };
  static const unsigned fused[] = {EQS_DOUBT_FUSED, EQS_DOUBT_FUSED, EQS_DOUBT_FUSED,
                                   EQS_DOUBT_FUSED, EQS_DOUBT_FUSED, 0};
  static const unsigned told[6] = {0};
  check_model("groups: [{rule: muon, lr: 1}]\n", NULL, 6, parameters, fused);
  check_model("groups: [{rule: muon, lr: 1, layout: row}]\n", NULL, 6, parameters, told);
  check_model("groups: [{rule: row_norm, lr: 1, layout: row}]\n", NULL, 6, parameters, told);
}
END_TEST

/* The first dimension counts layers: two are left of three, one of two, and a convolution stays one. */
START_TEST(declared_stacks)
{
  static const struct {
    const char *name, *type;
    int ndim;
    int64_t shape[4];
    const char *role;
    int64_t count;
  } cases[] = {{"layers.anything", NULL, 3, {4, 128, 64}, "matrix", 4},
               {"layers.anything", NULL, 4, {4, 2, 128, 64}, "other", 1},
               {"layers.experts.w1", NULL, 4, {4, 2, 128, 64}, "expert_gate_up", 8},
               {"layers.attn.q.weight", NULL, 3, {40, 8, 8}, "attention", 40},
               {"layers.gate", NULL, 3, {40, 8, 16}, "router", 1},
               {"layers.conv.weight", "Conv1d", 4, {4, 512, 1, 4}, "convolution", 1},
               {"layers.anything", NULL, 2, {4, 128}, "other", 1}};
  eqs_config *config = parse("groups: [{match: {role: " ROLES "}, rule: muon, lr: 1}, {rule: adamw, lr: 1}]");
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    eqs_parameter_info info = {
        .name = cases[i].name, .module_type = cases[i].type, .stacked = 1, .ndim = cases[i].ndim};
    memcpy(info.shape, cases[i].shape, sizeof cases[i].shape);
    eqs_assignment got;
    ck_assert_ok(eqs_config_assign(config, NULL, &info, &got));
    ck_assert_msg(strcmp(eqs_role_names[got.role], cases[i].role) == 0 && got.count == cases[i].count, "%s: %s, %lld",
                  info.name, eqs_role_names[got.role], (long long)got.count);
    eqs_assignment_free(&got);
  }
  eqs_config_free(&config);
}
END_TEST

/* info->role counts before `roles`, `roles` before the table; a class may be asked for, and stacks declared. */
START_TEST(told_otherwise)
{
  eqs_config *config = parse("roles:\n  \"*.gate.weight\": {role: mlp_gate_up, type: MyGate}\n"
                             "  \"*.w\": {stacked: true}\n  \"*.wte\": router\n"
                             "groups: [{match: {ndim: 1}, rule: adamw, lr: 1}, {rule: muon, lr: 1}]\n");
  static const struct {
    const char *name, *type, *told;
    int64_t shape[4];
    const char *role;
    int64_t count;
  } cases[] = {{"l.0.mlp.gate.weight", "MyGate", NULL, {4, 8}, "mlp_gate_up", 1},
               {"l.0.mlp.gate.weight", "Linear", NULL, {4, 8}, "router", 1},
               {"l.0.mlp.gate.weight", "MyGate", "matrix", {4, 8}, "matrix", 1},
               {"a.w", NULL, NULL, {4, 8, 16}, "matrix", 4},
               {"a.wte", NULL, NULL, {40, 8}, "router", 1},
               {"a.wte", NULL, "embedding", {40, 8}, "embedding", 1}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    eqs_parameter_info info = {
        .name = cases[i].name, .module_type = cases[i].type, .role = cases[i].told, .ndim = cases[i].shape[2] ? 3 : 2};
    memcpy(info.shape, cases[i].shape, sizeof cases[i].shape);
    eqs_assignment got;
    ck_assert_ok(eqs_config_assign(config, NULL, &info, &got));
    ck_assert_str_eq(eqs_role_names[got.role], cases[i].role);
    ck_assert_int_eq(got.count, cases[i].count);
    eqs_assignment_free(&got);
  }
  eqs_parameter_info wrong = {.name = "a", .role = "heads", .ndim = 2, .shape = {2, 2}};
  eqs_assignment got;
  ck_assert_int_eq(eqs_config_assign(config, NULL, &wrong, &got), EQS_USAGE);
  ck_assert_str_eq(eqs_error_message(), "parameter 'a': there is no role 'heads'");
  eqs_config_free(&config);
}
END_TEST

/* A head of one row (a reward) is not centered: nothing would be left of its update. */
START_TEST(centering_needs_rows)
{
  eqs_config *config = parse("groups: [{rule: row_norm, lr: 1}]\n");
  for (int rows = 1; rows <= 2; rows++) {
    eqs_parameter_info info = {.name = "score.weight", .module_type = "Linear", .ndim = 2, .shape = {rows, 8}};
    eqs_assignment got;
    ck_assert_ok(eqs_config_assign(config, NULL, &info, &got));
    ck_assert(got.role == EQS_ROLE_LM_HEAD && got.options.center == (rows > 1));
    eqs_assignment_free(&got);
  }
  eqs_config_free(&config);
}
END_TEST

/* What a program says of its model may be anything: nothing overflows, and what is impossible is not known. */
START_TEST(impossible_models)
{
  static const int64_t numbers[] = {INT64_MAX, -1, (INT64_C(1) << 30) + 1, INT64_C(1) << 30, 3};
  eqs_config *config = parse("groups: [{rule: muon, lr: 1, layout: auto}]\n");
  for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
    int64_t n = numbers[i];
    eqs_model_shape given = {n, n, n, n, n, n, n, n}, model;
    eqs_parameter_info info = {.name = "l.0.attn.qkv_proj.weight", .ndim = 2, .shape = {81, 27}};
    eqs_assignment got;
    eqs_complete_model_shape(config, &given, 0, NULL, &model);
    ck_assert(model.attention_heads == (i < 3 ? 0 : n) && model.vocabulary == 0);
    eqs_status status = eqs_config_assign(config, &model, &info, &got);
    ck_assert_int_eq(status, i < 3 ? EQS_OK : EQS_USAGE);
    if (status == EQS_OK) ck_assert(got.count == 3 && got.doubts == EQS_DOUBT_HEADS);
    eqs_assignment_free(&got);
  }
  eqs_config_free(&config);
}
END_TEST

/* Convolutions: not without `layout: flatten`, with it out x (in·k...). */
START_TEST(convolutions)
{
  eqs_config *plain = parse("groups: [{rule: muon, lr: 1}]\n"), *flat = parse("groups: [{rule: muon, lr: 1, layout: "
                                                                              "flatten}]\n");
  eqs_parameter_info info = {.name = "c.weight", .module_type = "Conv2d", .ndim = 4, .shape = {8, 3, 2, 5}};
  eqs_assignment got;
  ck_assert_int_eq(eqs_config_assign(plain, NULL, &info, &got), EQS_USAGE);
  ck_assert_msg(strstr(eqs_error_message(),
                       "c.yaml:1: rule muon: parameter c.weight: rule muon needs matrices, and it is "
                       "a convolution of shape [8, 3, 2, 5]: write `layout: flatten`"),
                "%s", eqs_error_message());
  ck_assert_ok(eqs_config_assign(flat, NULL, &info, &got));
  ck_assert(got.count == 1 && got.views[0].rows == 8 && got.views[0].cols == 30);
  eqs_assignment_free(&got);
  eqs_config_free(&plain);
  eqs_config_free(&flat);
}
END_TEST

Suite *make_suite(void)
{
  Suite *suite = suite_create("families");
  TCase *tests = tcase_create("families");
  tcase_add_loop_test(tests, golden_assignments, 0, family_count);
  tcase_add_test(tests, as_many_rows_as_the_embedding);
  tcase_add_test(tests, heads_from_other_parameters);
  tcase_add_test(tests, fused_tensors_that_stay_whole);
  tcase_add_test(tests, declared_stacks);
  tcase_add_test(tests, told_otherwise);
  tcase_add_test(tests, centering_needs_rows);
  tcase_add_test(tests, impossible_models);
  tcase_add_test(tests, convolutions);
  suite_add_tcase(suite, tests);
  return suite;
}
