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
      {"transformer.h.0.attn.c_attn.weight", "Conv1D", 2, "attention", "row"},
      {"transformer.h.0.attn.c_proj.weight", "Conv1D", 2, "attention", "row"},
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
