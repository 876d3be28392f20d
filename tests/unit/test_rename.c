/* Renaming of a checkpoint's parameters: what patterns match, what their stars capture. */
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "model/config.h"
#include "model/rename.h"

static eqs_config *parse(const char *renames)
{
  char text[4096];
  snprintf(text, sizeof text, "groups: [{rule: adamw, lr: 1}]\ncheckpoint: {rename: {%s}}\n", renames);
  eqs_source source = {"c.yaml", text};
  eqs_config *config;
  ck_assert_ok(eqs_config_parse(&(eqs_sources){1, &source}, &config));
  return config;
}

/* Patterns, a name, and how it is taken. */
static const struct {
  const char *renames, *name, *taken;
} cases[] = {
    {"", "a.b", "a.b"},
    {"'module.*': '*'", "module.lm_head.weight", "lm_head.weight"},
    {"'module.*': '*'", "model.module.x", "model.x"},
    {"'model.layers.*.attn.*': 'model.layers.*.self_attn.*'", "model.layers.11.attn.q_proj.weight",
     "model.layers.11.self_attn.q_proj.weight"},
    {"'model.layers.*.attn.*': 'model.layers.*.self_attn.*'", "model.layers.0.self_attn.q",
     "model.layers.0.self_attn.q"},
    /* the first that matches, once: what it gives is not renamed again */
    {"'a.*': 'b.*', 'b.*': 'c.*', 'a.x': 'd'", "a.x", "b.x"},
    {"'a': 'b', 'b': 'a'", "b", "a"},
    /* a star captures as little as it can, the last one the rest */
    {"'*.attn.*': '<*|*>'", "a.attn.b.attn.c", "<a|b.attn.c>"},
    {"'*a*b*': '[*|*|*]'", "aabab", "[|a|ab]"},
    {"'**': '*-*'", "ab", "-ab"},
    {"'*': 'x.*'", "", "x."},
    {"'a*': '*'", "a", ""},
    /* fewer stars than the pattern; none */
    {"'h.*.attn.*': 'block.*'", "h.3.attn.bias", "block.3"},
    {"'wte.*': 'embed'", "wte.weight", "embed"},
    /* one character: any, of a set, a star itself */
    {"'h.?.*': 'l.*'", "h.7.w", "l.w"},
    {"'h.?.*': 'l.*'", "h.17.w", "h.17.w"},
    {"'h.[0-4].*': 'low.*', 'h.[!0-4].*': 'high.*'", "h.5.w", "high.w"},
    {"'h.[[:digit:]][]x].*': 'l.*'", "h.7].w", "l.w"},
    {"'a\\**': 'b*'", "a*c", "bc"},
    {"'a\\**': 'b*'", "abc", "abc"},
    {"'a[*]*': 'b*'", "a*c", "bc"},
    {"'a[b': 'c'", "a[b", "c"},
};

START_TEST(names_are_taken)
{
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    eqs_config *config = parse(cases[i].renames);
    char *taken;
    ck_assert_ok(eqs_renames_apply(config->checkpoint.rename, cases[i].name, &taken));
    ck_assert_msg(strcmp(taken, cases[i].taken) == 0, "%s: %s -> %s, not %s", cases[i].renames, cases[i].name, taken,
                  cases[i].taken);
    free(taken);
    eqs_config_free(&config);
  }
}
END_TEST

START_TEST(nothing_is_renamed_unless_asked)
{
  char *taken;
  ck_assert_ok(eqs_renames_apply(NULL, "a.b", &taken));
  ck_assert_str_eq(taken, "a.b");
  free(taken);
}
END_TEST

/* A pattern may have been written for the names with wrappers or for those without: the first that matches either. */
START_TEST(wrappers_are_left_out)
{
  static const struct {
    const char *renames, *name, *taken;
  } wrapped[] = {
      {"", "module.a._orig_mod.b", "a.b"},
      {"'module.*': '*'", "module.lm_head.weight", "lm_head.weight"},
      {"'layers.*': 'blocks.*', '*': 'x.*'", "module.layers.0.w", "blocks.0.w"},
      {"'module.a.*': 'b.*', '*': 'x.*'", "module.a.w", "b.w"},
      {"'*': 'module.*'", "a.w", "a.w"},
  };
  for (size_t i = 0; i < sizeof wrapped / sizeof *wrapped; i++) {
    eqs_config *config = parse(wrapped[i].renames);
    char *taken;
    ck_assert_ok(eqs_renames_apply(config->checkpoint.rename, wrapped[i].name, &taken));
    ck_assert_str_eq(taken, wrapped[i].taken);
    free(taken);
    eqs_config_free(&config);
  }
}
END_TEST

/* Texts of some letters, chosen by a seed. */
static void choose_text(const char *letters, uint64_t seed, int longest, char *text)
{
  int length = (int)((test_uniform(seed, 0) + 1) / 2 * (longest + 1)), i = 0;
  for (; i < length; i++)
    text[i] = letters[(int)((test_uniform(seed, (uint64_t)i + 1) + 1) / 2 * (double)strlen(letters))];
  text[i] = '\0';
}

/*
 * Identities: a pattern matches when fnmatch says so, as in `match`; and a pattern of letters and stars, as its own
 * replacement, gives the name back, since its captures are what the stars stand for.
 */
START_TEST(patterns_match_as_in_groups)
{
  int matched = 0, restored = 0;
  for (uint64_t seed = 0; seed < 20000; seed++) {
    char pattern[16], name[16], renames[64], *taken;
    bool plain = seed % 2;
    choose_text(plain ? "ab*" : "ab*?[]!^-\\", 2 * seed, plain ? 9 : 6, pattern);
    choose_text(plain ? "ab" : "aab[]-*", 2 * seed + 1, plain ? 9 : 4, name);
    if (pattern[0] == '\0') continue;
    snprintf(renames, sizeof renames, "'%s': '%s'", pattern, plain ? pattern : "+");
    eqs_config *config = parse(renames);
    ck_assert_ok(eqs_renames_apply(config->checkpoint.rename, name, &taken));
    bool expected = fnmatch(pattern, name, 0) == 0;
    if (plain) {
      ck_assert_msg(strcmp(taken, name) == 0, "%s: %s -> %s", pattern, name, taken);
      restored += expected && strchr(pattern, '*') != NULL;
    } else {
      ck_assert_msg((strcmp(taken, "+") == 0) == expected, "%s: %s -> %s", pattern, name, taken);
      matched += expected;
    }
    free(taken);
    eqs_config_free(&config);
  }
  ck_assert_int_ge(matched, 250);
  ck_assert_int_ge(restored, 500);
}
END_TEST

/* Would take for ever if every star tried every length: 64 stars, a name of 65,536 letters that nearly matches. */
START_TEST(many_stars_end)
{
  enum { stars = 64, length = 65536 };
  char renames[2 * stars + 16] = "'", *name = malloc(length + 1), *taken;
  for (int i = 0; i < stars; i++) strcat(renames, "*a");
  strcat(renames, "*b': c");
  memset(name, 'a', length);
  name[length] = '\0';
  eqs_config *config = parse(renames);
  ck_assert_ok(eqs_renames_apply(config->checkpoint.rename, name, &taken));
  ck_assert_str_eq(taken, name);
  free(taken);
  name[length - 1] = 'b';
  ck_assert_ok(eqs_renames_apply(config->checkpoint.rename, name, &taken));
  ck_assert_str_eq(taken, "c");
  free(taken);
  free(name);
  eqs_config_free(&config);
}
END_TEST

Suite *make_suite(void)
{
  Suite *suite = suite_create("rename");
  TCase *cases_of_all = tcase_create("rename");
  tcase_add_test(cases_of_all, names_are_taken);
  tcase_add_test(cases_of_all, nothing_is_renamed_unless_asked);
  tcase_add_test(cases_of_all, wrappers_are_left_out);
  tcase_add_test(cases_of_all, patterns_match_as_in_groups);
  tcase_add_test(cases_of_all, many_stars_end);
  suite_add_tcase(suite, cases_of_all);
  return suite;
}
