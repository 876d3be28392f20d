/* Roles and their default layouts: every parameter of four published models; tests/unit/test_families.c has others. */
#include <jansson.h>
#include <string.h>

#include "harness.h"
#include "model/recognize.h"
#include "model/role.h"

static void check(const char *name, const char *module_type, const json_t *shape, const char *role, const char *layout)
{
  int64_t sizes[EQS_MAX_DIMS];
  int ndim = (int)json_array_size(shape);
  for (int d = 0; d < ndim; d++) sizes[d] = json_integer_value(json_array_get(shape, (size_t)d));
  for (int typed = 0; typed < 2;
       typed++) { /* the class of the module is a help, not a need, but for gpt-oss's experts */
    eqs_recognition found = eqs_recognize(name, typed ? module_type : NULL, false, ndim, sizes);
    ck_assert_msg(strcmp(eqs_role_names[found.role], role) == 0, "%s (%s): %s instead of %s", name, module_type,
                  eqs_role_names[found.role], role);
    ck_assert_msg(!found.guessed, "%s", name);
    if (layout == NULL || !typed) continue;
    const char *unit_layout = eqs_layout_names[eqs_role_unit_layout(found.role, found.storage, ndim)];
    ck_assert_msg(strcmp(unit_layout, layout) == 0, "%s: layout %s instead of %s", name, unit_layout, layout);
  }
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
          json_object_get(entry, "shape"), json_string_value(json_object_get(entry, "role")),
          json_string_value(json_object_get(entry, "layout")));
  }
  json_decref(root);
}
END_TEST

/* The layouts in which rows are units: of the modules that store a weight as inputs × outputs, the other way around. */
START_TEST(unit_layouts)
{
  static const struct {
    const char *name, *module_type;
    int ndim;
    const char *layout;
  } cases[] = {
      {"model.layers.0.mlp.experts.7.up_proj.weight", NULL, 2, "row"},
      {"model.layers.0.mlp.experts.63.down_proj.weight", "Linear", 2, "col"},
      {"model.layers.0.mlp.experts.down_proj", NULL, 3, "col"},
      {"transformer.h.0.mlp.c_fc.weight", "Conv1D", 2, "col"},
      {"transformer.h.0.mlp.c_proj.weight", "Conv1D", 2, "row"},
      {"transformer.h.0.attn.c_proj.weight", "Conv1D", 2, "col"},
      {"layers.mlp.up_proj.kernel", NULL, 2, "col"},
      {"layers.mlp.down_proj.kernel", NULL, 2, "row"},
      {"lm_head.kernel", NULL, 2, "col"},
      {"l.0.experts.gate_up_proj", "Llama4TextExperts", 3, "col"},
      {"l.0.experts.down_proj", "Llama4TextExperts", 3, "row"},
      {"l.0.experts.gate_up_proj", "GptOssExperts", 3, "gate_up_interleaved_pair"},
      {"l.0.experts.down_proj", "GptOssExperts", 3, "row"},
      {"embed.weight", NULL, 2, "row"},
      {"norm.weight", NULL, 1, "row"},
  };
  static const int64_t shape[] = {64, 64, 64};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    eqs_recognition found = eqs_recognize(cases[i].name, cases[i].module_type, false, cases[i].ndim, shape);
    ck_assert_msg(
        strcmp(eqs_layout_names[eqs_role_unit_layout(found.role, found.storage, cases[i].ndim)], cases[i].layout) == 0,
        "%s", cases[i].name);
  }
}
END_TEST

Suite *make_suite(void)
{
  Suite *suite = suite_create("role");
  TCase *tests = tcase_create("role");
  tcase_add_loop_test(tests, published_models, 0, 4);
  tcase_add_test(tests, unit_layouts);
  suite_add_tcase(suite, tests);
  return suite;
}
