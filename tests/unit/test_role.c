/* Roles and their default layouts: every parameter of four published models, and the names of other families. */
#include <jansson.h>
#include <string.h>

#include "harness.h"
#include "model/role.h"

static void check(const char *name, const char *module_type, int ndim, const char *role, const char *layout)
{
  eqs_role inferred = eqs_role_infer(name, module_type, ndim);
  ck_assert_msg(strcmp(eqs_role_names[inferred], role) == 0, "%s (%s): %s instead of %s", name,
                module_type ? module_type : "no type", eqs_role_names[inferred], role);
  if (layout == NULL) return;
  const char *found = eqs_layout_names[eqs_role_unit_layout(inferred, module_type, ndim)];
  ck_assert_msg(strcmp(found, layout) == 0, "%s: layout %s instead of %s", name, found, layout);
}

START_TEST(published_models)
{
  static const struct {
    const char *path;
    size_t parameters;
  } models[] = {{"tests/manifests/qwen3-0.6b.json", 311},
                {"tests/manifests/gemma3-1b.json", 341},
                {"tests/manifests/olmoe-1b-7b.json", 179},
                {"tests/manifests/gpt-oss-20b.json", 411}};
  json_error_t error;
  json_t *root = json_load_file(models[_i].path, 0, &error);
  ck_assert_msg(root != NULL, "%s: %s", models[_i].path, error.text);
  json_t *parameters = json_object_get(root, "parameters"), *entry;
  size_t index;
  ck_assert_uint_eq(json_array_size(parameters), models[_i].parameters);
  json_array_foreach(parameters, index, entry)
  {
    check(json_string_value(json_object_get(entry, "name")), json_string_value(json_object_get(entry, "module_type")),
          (int)json_array_size(json_object_get(entry, "shape")), json_string_value(json_object_get(entry, "role")),
          json_string_value(json_object_get(entry, "layout")));
  }
  json_decref(root);
}
END_TEST

START_TEST(other_families)
{
  static const struct {
    const char *name, *module_type;
    int ndim;
    const char *role, *layout;
  } cases[] = {
      /* experts as modules: OLMoE before fusion, Mixtral */
      {"model.layers.0.mlp.experts.7.gate_proj.weight", "Linear", 2, "expert_gate_up", "row"},
      {"model.layers.0.mlp.experts.7.up_proj.weight", NULL, 2, "expert_gate_up", "row"},
      {"model.layers.0.mlp.experts.63.down_proj.weight", "Linear", 2, "expert_down", "col"},
      {"model.layers.0.mlp.gate.weight", "Linear", 2, "router", "row"},
      {"model.layers.3.block_sparse_moe.experts.3.w1.weight", "Linear", 2, "expert_gate_up", "row"},
      {"model.layers.3.block_sparse_moe.experts.3.w3.weight", "Linear", 2, "expert_gate_up", "row"},
      {"model.layers.3.block_sparse_moe.experts.3.w2.weight", "Linear", 2, "expert_down", "col"},
      {"model.layers.3.block_sparse_moe.gate.weight", "Linear", 2, "router", "row"},
      /* stacks without a module type: as OLMoE's */
      {"model.layers.0.mlp.experts.gate_up_proj", NULL, 3, "expert_gate_up", "row"},
      {"model.layers.0.mlp.experts.down_proj", NULL, 3, "expert_down", "col"},
      /* Llama, Mistral, Phi */
      {"model.layers.0.self_attn.q_proj.weight", "Linear", 2, "attention", "row"},
      {"model.layers.0.self_attn.qkv_proj.weight", NULL, 2, "attention", "row"},
      {"model.layers.0.mlp.gate_up_proj.weight", "Linear", 2, "mlp_gate_up", "row"},
      {"model.layers.0.mlp.down_proj.weight", "Linear", 2, "mlp_down", "col"},
      {"model.layers.0.post_attention_layernorm.weight", "LlamaRMSNorm", 1, "other", "row"},
      {"layers.0.attention.wq.weight", "Linear", 2, "attention", "row"},
      {"layers.0.feed_forward.w1.weight", "Linear", 2, "mlp_gate_up", "row"},
      {"layers.0.feed_forward.w2.weight", "Linear", 2, "mlp_down", "col"},
      {"tok_embeddings.weight", NULL, 2, "embedding", "row"},
      {"output.weight", NULL, 2, "lm_head", "row"},
      /* GPT-2, whose Conv1D is inputs × outputs */
      {"transformer.wte.weight", "Embedding", 2, "embedding", "row"},
      {"transformer.wpe.weight", NULL, 2, "embedding", "row"},
      {"transformer.h.0.attn.c_attn.weight", "Conv1D", 2, "attention", "col"},
      {"transformer.h.0.attn.c_proj.weight", "Conv1D", 2, "attention", "col"},
      {"transformer.h.0.mlp.c_fc.weight", "Conv1D", 2, "mlp_gate_up", "col"},
      {"transformer.h.0.mlp.c_proj.weight", "Conv1D", 2, "mlp_down", "row"},
      {"transformer.h.0.mlp.c_fc.weight", "Linear", 2, "mlp_gate_up", "row"},
      {"transformer.h.0.mlp.c_proj.weight", "Linear", 2, "mlp_down", "col"},
      {"transformer.h.0.ln_1.weight", "LayerNorm", 1, "other", "row"},
      {"transformer.h.0.attn.c_attn.bias", "Conv1D", 1, "other", "row"},
      /* DeepSeek */
      {"model.layers.3.self_attn.kv_a_proj_with_mqa.weight", "Linear", 2, "attention", "row"},
      {"model.layers.3.self_attn.q_b_proj.weight", "Linear", 2, "attention", "row"},
      {"model.layers.3.mlp.shared_experts.gate_proj.weight", "Linear", 2, "mlp_gate_up", "row"},
      {"model.layers.3.mlp.shared_experts.down_proj.weight", "Linear", 2, "mlp_down", "col"},
      {"model.layers.3.mlp.gate.weight", "DeepseekV3TopkRouter", 2, "router", "row"},
      {"model.layers.3.mlp.gate.e_score_correction_bias", "DeepseekV3TopkRouter", 1, "other", "row"},
      {"model.layers.3.mlp.experts.255.down_proj.weight", "Linear", 2, "expert_down", "col"},
      {"model.layers.3.self_attn.q_a_proj.weight", "Linear", 2, "attention", "row"},
      {"model.layers.3.self_attn.kv_b_proj.weight", NULL, 2, "attention", "row"},
      {"model.layers.3.self_attn.q_a_layernorm.weight", NULL, 1, "other", "row"},
      {"model.layers.3.mlp.gate.weight", NULL, 2, "router", "row"},
      {"model.layers.3.mlp.experts.0.up_proj.weight", NULL, 2, "expert_gate_up", "row"},
      {"model.layers.61.eh_proj.weight", "Linear", 2, "matrix", "row"},
      {"model.layers.61.shared_head.head.weight", "Linear", 2, "lm_head", "row"},
      {"layers.3.attn.wkv_b.weight", NULL, 2, "attention", "row"},
      {"layers.3.ffn.gate.weight", NULL, 2, "router", "row"},
      {"layers.3.ffn.shared_experts.w1.weight", NULL, 2, "mlp_gate_up", "row"},
      {"layers.3.ffn.experts.17.w2.weight", NULL, 2, "expert_down", "col"},
      {"embed.weight", NULL, 2, "embedding", "row"},
      {"head.weight", NULL, 2, "lm_head", "row"},
      /* Qwen2-MoE, Qwen3-MoE: the shared expert's gate is one sigmoid, which centering would make zero */
      {"model.layers.3.mlp.gate.weight", "Linear", 2, "router", "row"},
      {"model.layers.3.mlp.experts.59.gate_proj.weight", "Linear", 2, "expert_gate_up", "row"},
      {"model.layers.3.mlp.shared_expert.up_proj.weight", "Linear", 2, "mlp_gate_up", "row"},
      {"model.layers.3.mlp.shared_expert.down_proj.weight", NULL, 2, "mlp_down", "col"},
      {"model.layers.3.mlp.shared_expert_gate.weight", "Linear", 2, "mlp", "row"},
      /* OLMo 2 */
      {"model.layers.0.self_attn.q_norm.weight", "Olmo2RMSNorm", 1, "other", "row"},
      {"model.layers.0.post_feedforward_layernorm.weight", NULL, 1, "other", "row"},
      /* GPT-NeoX, Pythia */
      {"gpt_neox.embed_in.weight", NULL, 2, "embedding", "row"},
      {"gpt_neox.layers.0.attention.query_key_value.weight", "Linear", 2, "attention", "row"},
      {"gpt_neox.layers.0.attention.dense.weight", "Linear", 2, "attention", "row"},
      {"gpt_neox.layers.0.mlp.dense_h_to_4h.weight", "Linear", 2, "mlp_gate_up", "row"},
      {"gpt_neox.layers.0.mlp.dense_4h_to_h.weight", "Linear", 2, "mlp_down", "col"},
      {"gpt_neox.layers.0.mlp.dense_4h_to_h.bias", "Linear", 1, "other", "row"},
      {"embed_out.weight", "Linear", 2, "lm_head", "row"},
      /* Falcon, BLOOM */
      {"transformer.word_embeddings.weight", NULL, 2, "embedding", "row"},
      {"transformer.h.0.self_attention.query_key_value.weight", NULL, 2, "attention", "row"},
      {"transformer.h.0.self_attention.dense.weight", NULL, 2, "attention", "row"},
      {"transformer.h.0.mlp.dense_h_to_4h.weight", NULL, 2, "mlp_gate_up", "row"},
      {"transformer.word_embeddings_layernorm.weight", "LayerNorm", 1, "other", "row"},
      /* GPT-2 without its first name, GPT-J, Phi-2, OPT, MPT */
      {"wte.weight", NULL, 2, "embedding", "row"},
      {"h.0.attn.c_attn.weight", NULL, 2, "attention", "row"},
      {"transformer.h.0.mlp.fc_in.weight", "Linear", 2, "mlp_gate_up", "row"},
      {"transformer.h.0.mlp.fc_out.weight", "Linear", 2, "mlp_down", "col"},
      {"model.layers.0.self_attn.dense.weight", "Linear", 2, "attention", "row"},
      {"model.layers.0.mlp.fc1.weight", "Linear", 2, "mlp_gate_up", "row"},
      {"model.decoder.layers.0.fc2.weight", "Linear", 2, "mlp_down", "col"},
      {"model.decoder.embed_positions.weight", "OPTLearnedPositionalEmbedding", 2, "embedding", "row"},
      {"transformer.blocks.0.attn.Wqkv.weight", "Linear", 2, "attention", "row"},
      /* BERT, RoBERTa, T5 */
      {"bert.embeddings.token_type_embeddings.weight", NULL, 2, "embedding", "row"},
      {"bert.embeddings.LayerNorm.weight", "LayerNorm", 1, "other", "row"},
      {"bert.encoder.layer.0.attention.self.query.weight", "Linear", 2, "attention", "row"},
      {"bert.encoder.layer.0.attention.output.dense.weight", "Linear", 2, "attention", "row"},
      {"bert.encoder.layer.0.intermediate.dense.weight", "Linear", 2, "mlp_gate_up", "row"},
      {"bert.encoder.layer.0.output.dense.weight", "Linear", 2, "mlp_down", "col"},
      {"bert.pooler.dense.weight", "Linear", 2, "matrix", "row"},
      {"cls.predictions.transform.dense.weight", "Linear", 2, "matrix", "row"},
      {"cls.predictions.decoder.weight", "Linear", 2, "lm_head", "row"},
      {"lm_head.dense.weight", "Linear", 2, "matrix", "row"},
      {"encoder.block.0.layer.0.SelfAttention.o.weight", "Linear", 2, "attention", "row"},
      {"encoder.block.0.layer.1.DenseReluDense.wi_0.weight", "Linear", 2, "mlp_gate_up", "row"},
      {"encoder.block.0.layer.1.DenseReluDense.wo.weight", "Linear", 2, "mlp_down", "col"},
      {"encoder.block.1.layer.1.mlp.router.classifier.weight", "Linear", 2, "router", "row"},
      {"encoder.block.1.layer.1.mlp.experts.expert_0.wo.weight", "Linear", 2, "expert_down", "col"},
      /* Llama 4, whose experts are stored as inputs × outputs */
      {"language_model.model.layers.0.feed_forward.experts.gate_up_proj", "Llama4TextExperts", 3, "expert_gate_up",
       "col"},
      {"language_model.model.layers.0.feed_forward.experts.down_proj", "Llama4TextExperts", 3, "expert_down", "row"},
      {"language_model.model.layers.0.feed_forward.router.weight", "Llama4Router", 2, "router", "row"},
      /* wrapped */
      {"module._orig_mod.output.weight", "Linear", 2, "lm_head", "row"},
      {"_orig_mod.model.layers.0.mlp.gate.weight", "Linear", 2, "router", "row"},
      /* neither: a convolution, a scalar, a bias of two dimensions, a gate inside attention, an unknown matrix */
      {"vision.patch.weight", "Conv2d", 4, "other", "row"},
      {"mixer.conv1d.weight", "Conv1d", 3, "other", "row"},
      {"temperature", NULL, 0, "other", "row"},
      {"model.layers.0.mlp.experts.gate_up_proj_bias", NULL, 2, "other", "row"},
      {"model.layers.0.self_attn.gate.weight", "Linear", 2, "attention", "row"},
      {"projection.weight", "Linear", 2, "matrix", "row"},
      {"model.layers.0.mlp.mixer.weight", "Linear", 2, "mlp", "row"},
      {"lm_head.weight", NULL, 2, "lm_head", "row"},
      {"model.embed_tokens.weight", NULL, 2, "embedding", "row"},
      {"anything.weight", "Gemma3TextScaledWordEmbedding", 2, "embedding", "row"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
    check(cases[i].name, cases[i].module_type, cases[i].ndim, cases[i].role, cases[i].layout);
}
END_TEST

Suite *make_suite(void)
{
  Suite *suite = suite_create("role");
  TCase *tests = tcase_create("role");
  tcase_add_loop_test(tests, published_models, 0, 4);
  tcase_add_test(tests, other_families);
  suite_add_tcase(suite, tests);
  return suite;
}
