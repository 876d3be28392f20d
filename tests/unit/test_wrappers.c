/* Names of parameters without what wraps a model. */
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "model/assign.h"
#include "model/config.h"
#include "model/wrappers.h"

START_TEST(segments_of_wrappers_are_left_out)
{
  static const char *const names[][2] = {
      {"a.b", "a.b"},
      {"module.a", "a"},
      {"a.module.b.weight", "a.b.weight"},
      {"module._orig_mod.module.a", "a"},
      {"_fsdp_wrapped_module.layers.0._fsdp_wrapped_module._checkpoint_wrapped_module.mlp.up.weight",
       "layers.0.mlp.up.weight"},
      {"_forward_module.a._fpw_module.b._dmp_wrapped_module.c", "a.b.c"},
      {"a.module", "a.module"}, /* a parameter's own name */
      {"module", "module"},
      {"module.module", "module"},
      {"a._orig_mod", "a._orig_mod"},
      {"modules.a_module.module_.b", "modules.a_module.module_.b"},
      {"submodule.x", "submodule.x"},
      {"", ""},
      {".", "."},
      {"module.", ""},
      {"a..b", "a..b"},
      {"*.module.mlp.*", "*.mlp.*"}, /* globs */
      {"module.*", "*"},
  };
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    char *copy;
    ck_assert_ok(eqs_copy_canonical_name(&copy, names[i][0]));
    ck_assert_str_eq(copy, names[i][1]);
    free(copy);
  }
}
END_TEST

/* Patterns of `match` and `roles` may have been written with wrappers: they mean the same without. */
START_TEST(patterns_are_without_them)
{
  static char text[] = "roles: {\"module.top.*\": lm_head}\n"
                       "groups:\n"
                       "  - {match: {name: \"module.a.*\"}, rule: adamw, lr: 1}\n"
                       "  - {match: {name: [\"x\", \"*._orig_mod.b.*\"]}, rule: adamw, lr: 2}\n"
                       "  - {match: {}, rule: adamw, lr: 3}\n";
  static const struct {
    const char *name;
    int group;
    eqs_role role;
  } expected[] = {{"a.w", 0, EQS_ROLE_MATRIX}, {"c.b.w", 1, EQS_ROLE_MATRIX}, {"top.w", 2, EQS_ROLE_LM_HEAD}};
  eqs_source source = {"c.yaml", text};
  eqs_config *config;
  ck_assert_ok(eqs_config_parse(&(eqs_sources){1, &source}, &config));
  for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
    eqs_assignment assignment;
    eqs_parameter_info info = {.name = expected[i].name, .ndim = 2, .shape = {4, 4}};
    ck_assert_ok(eqs_config_assign(config, NULL, &info, &assignment));
    ck_assert_int_eq(assignment.group, expected[i].group);
    ck_assert_int_eq(assignment.role, expected[i].role);
    eqs_assignment_free(&assignment);
  }
  eqs_config_free(&config);
}
END_TEST

Suite *make_suite(void)
{
  Suite *suite = suite_create("wrappers");
  TCase *cases = tcase_create("wrappers");
  tcase_add_test(cases, segments_of_wrappers_are_left_out);
  tcase_add_test(cases, patterns_are_without_them);
  suite_add_tcase(suite, cases);
  return suite;
}
