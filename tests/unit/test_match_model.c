/* A checkpoint beside another model: what a restart accepts, what it takes, under which names. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "checkpoint/match_model.h"
#include "checkpoint/suggest.h"
#include "harness.h"
#include "model/config.h"

enum { most = 8 };

/* Parameters described by "name tensor tensor ...", all of shape 2x3; `momentum=KIND` is an attribute. */
typedef struct {
  int64_t count;
  char text[most][128];
  eqs_attribute attribute[most];
  eqs_checkpoint_parameter parameter[most];
  eqs_checkpoint_contents contents;
} model;

static void make_model(model *made, int count, const char *const *described)
{
  *made = (model){.count = count};
  made->contents = (eqs_checkpoint_contents){.parameters = count, .parameter = made->parameter};
  for (int p = 0; p < count; p++) {
    eqs_checkpoint_parameter *parameter = &made->parameter[p];
    char *rest;
    snprintf(made->text[p], sizeof made->text[p], "%s", described[p]);
    *parameter = (eqs_checkpoint_parameter){.name = strtok_r(made->text[p], " ", &rest),
                                            .ndim = 2,
                                            .shape = {2, 3},
                                            .attribute = &made->attribute[p],
                                            .tensors = 1,
                                            .tensor = {{.name = "weight"}}};
    for (const char *word = strtok_r(NULL, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
      if (strncmp(word, "momentum=", 9) == 0) {
        made->attribute[p] = (eqs_attribute){.name = "momentum", .kind = EQS_ATTRIBUTE_TEXT, .text = word + 9};
        parameter->attributes = 1;
        word = "momentum";
      }
      parameter->tensor[parameter->tensors++].name = word;
    }
  }
}

#define MAKE_MODEL(made, ...)                                                                                          \
  do {                                                                                                                 \
    const char *const described[] = {__VA_ARGS__};                                                                     \
    make_model((made), sizeof described / sizeof *described, described);                                               \
  } while (0)

/* What a checkpoint of a model has in it. */
static eqs_checkpoint_contents checkpoint_of(const model *made)
{
  eqs_checkpoint_contents stored;
  ck_assert_ok(eqs_contents_sort(&made->contents, &stored));
  return stored;
}

static void assert_compared(const eqs_checkpoint_contents *stored, const model *other, bool partial,
                            const char *message)
{
  eqs_status status = eqs_match_check(stored, partial, false, &other->contents);
  ck_assert_int_eq(status, message ? EQS_USAGE : EQS_OK);
  if (message != NULL) ck_assert_str_eq(eqs_error_message(), message);
}

START_TEST(parts_of_a_model)
{
  model all, some, none = {0};
  MAKE_MODEL(&all, "f", "e", "d", "c", "b", "a");
  eqs_checkpoint_contents stored = checkpoint_of(&all);
  assert_compared(&stored, &all, false, NULL);
  MAKE_MODEL(&some, "c", "b");
  assert_compared(&stored, &some, false, NULL); /* four stay in the file */
  assert_compared(&stored, &none, true,
                  "the checkpoint is of another model, with nothing in common: "
                  "6 parameters not in the model (a, b, c, d, ...)");
  MAKE_MODEL(&some, "b", "x");
  assert_compared(&stored, &some, true, NULL);
  assert_compared(&stored, &some, false,
                  "the checkpoint is of another model: 1 parameter not in it (x), which `checkpoint: {partial: true}` "
                  "initializes afresh; 5 parameters not in the model (a, c, d, e, ...)");
  MAKE_MODEL(&some, "x");
  assert_compared(&stored, &some, true,
                  "the checkpoint is of another model, with nothing in common: 1 parameter not in it (x); "
                  "6 parameters not in the model (a, b, c, d, ...)");
  MAKE_MODEL(&some, "a", "b", "c", "d", "e", "f");
  some.parameter[4].ndim = 1;
  some.parameter[4].shape[0] = 6;
  assert_compared(&stored, &some, true,
                  "the checkpoint is of another model: 1 parameter of another shape (e: 2x3, in the model 6)");
  eqs_contents_free(&stored);
  stored = checkpoint_of(&none);
  assert_compared(&stored, &none, false, NULL);
  eqs_contents_free(&stored);
}
END_TEST

/* What is in a file, what the model has, and which of its tensors are taken: a letter for each. */
static const struct {
  const char *file, *model, *taken;
} states[] = {
    {"x momentum=ema", "x momentum=ema", "yy"},
    {"x momentum=nesterov", "x momentum=heavy_ball", "yy"},
    {"x momentum=heavy_ball", "x momentum=nesterov", "yy"},
    {"x momentum=ema", "x momentum=nesterov", "yn"},
    {"x momentum=heavy_ball", "x momentum=ema", "yn"},
    {"x momentum=polar_first", "x momentum=ema", "yn"},
    {"x momentum=heavy_ball", "x momentum=polar_first", "yn"},
    {"x momentum", "x momentum=ema", "yn"}, /* of a kind that the file does not tell */
    {"x", "x momentum=ema", "yn"},
    {"x momentum=ema", "x", "y"},
    {"x exp_avg exp_avg_sq", "x exp_avg exp_avg_sq", "yyy"},
    {"x exp_avg", "x exp_avg exp_avg_sq", "ynn"}, /* one average of two, with one count of steps for both */
    {"x momentum=ema exp_avg exp_avg_sq", "x exp_avg_sq exp_avg", "yyy"},
    {"x exp_avg exp_avg_sq", "x momentum=ema exp_avg exp_avg_sq", "ynyy"},
    {"x momentum=ema exp_avg", "x momentum=ema exp_avg exp_avg_sq", "yynn"},
};

START_TEST(state_is_taken_where_it_means_the_same)
{
  for (size_t i = 0; i < sizeof states / sizeof *states; i++) {
    model before, after;
    MAKE_MODEL(&before, states[i].file);
    MAKE_MODEL(&after, states[i].model);
    eqs_checkpoint_contents stored = checkpoint_of(&before);
    const eqs_checkpoint_parameter *parameter = &after.parameter[0];
    ck_assert_int_eq(parameter->tensors, strlen(states[i].taken));
    for (int t = 0; t < parameter->tensors; t++) {
      ck_assert_msg(eqs_match_takes(&stored.parameter[0], parameter, t) == (states[i].taken[t] == 'y'), "%s: %s: %s",
                    states[i].file, states[i].model, parameter->tensor[t].name);
      ck_assert(!eqs_match_takes(NULL, parameter, t));
    }
    eqs_contents_free(&stored);
  }
}
END_TEST

static void assert_message_has(const char *part)
{
  ck_assert_msg(strstr(eqs_error_message(), part) != NULL, "\"%s\" is not in \"%s\"", part, eqs_error_message());
}

static eqs_status rename_in(eqs_checkpoint_contents *stored, const char *renames)
{
  char text[256];
  snprintf(text, sizeof text, "groups: [{rule: adamw, lr: 1}]\ncheckpoint: {rename: {%s}}\n", renames);
  eqs_source source = {"c.yaml", text};
  eqs_config *config;
  ck_assert_ok(eqs_config_parse(&(eqs_sources){1, &source}, &config));
  eqs_status status = eqs_match_rename(config->checkpoint.rename, stored);
  eqs_config_free(&config);
  return status;
}

/* Entries are in order under their new names, each with what is its own; or all as they were. */
START_TEST(wrappers_are_no_part_of_names)
{
  model made;
  MAKE_MODEL(&made, "module.a", "module.b._orig_mod.c s", "z");
  eqs_checkpoint_contents stored = checkpoint_of(&made);
  ck_assert_ok(eqs_match_rename(NULL, &stored));
  const char *const names[] = {"a", "b.c", "z"};
  for (int p = 0; p < 3; p++) ck_assert_str_eq(stored.parameter[p].name, names[p]);
  ck_assert_int_eq(stored.parameter[1].tensors, 2);
  eqs_contents_free(&stored);

  MAKE_MODEL(&made, "a", "module.a");
  stored = checkpoint_of(&made);
  ck_assert_int_eq(eqs_match_rename(NULL, &stored), EQS_USAGE);
  assert_message_has("parameters 'a' and 'module.a' of the checkpoint are both taken as 'a'");
  ck_assert_ok(rename_in(&stored, "'module.*': 'b.*'"));
  ck_assert_str_eq(stored.parameter[1].name, "b.a");
  eqs_contents_free(&stored);
}
END_TEST

START_TEST(entries_are_renamed)
{
  model made;
  MAKE_MODEL(&made, "a", "b s", "c t", "m.d u");
  eqs_checkpoint_contents stored = checkpoint_of(&made);
  ck_assert_ok(rename_in(&stored, "a: z, 'm.*': '*', b: c, c: b"));
  const char *const names[] = {"b", "c", "d", "z"}, *const states_of[] = {"t", "s", "u", NULL};
  for (int p = 0; p < 4; p++) {
    ck_assert_str_eq(stored.parameter[p].name, names[p]);
    ck_assert_int_eq(stored.parameter[p].tensors, states_of[p] ? 2 : 1);
    if (states_of[p] != NULL) ck_assert_str_eq(stored.parameter[p].tensor[0].name, states_of[p]);
    ck_assert_ptr_eq(eqs_contents_find(&stored, names[p]), &stored.parameter[p]);
  }
  ck_assert_int_eq(rename_in(&stored, "'[bz]': same"), EQS_USAGE);
  assert_message_has(
      "parameters 'b' and 'z' of the checkpoint are both taken as 'same': give one of them another name");
  ck_assert_int_eq(rename_in(&stored, "b: c"), EQS_USAGE);
  assert_message_has("parameters 'b' and 'c' of the checkpoint are both taken as 'c'");
  for (int p = 0; p < 4; p++) ck_assert_str_eq(stored.parameter[p].name, names[p]);
  eqs_contents_free(&stored);
}
END_TEST

/* Names in a file, names in the model, all of one shape; and what is proposed. */
static const struct {
  const char *file[9], *model[9], *proposed;
} proposals[] = {
    {{"base.a.w", "base.b.w"}, {"a.w", "b.w"}, "{\"base.*\": \"*\"}"},
    {{"a.w", "b.w"}, {"base.a.w", "base.b.w"}, "{\"*\": \"base.*\"}"},
    {{"base.a.w", "base.b.w"}, {"model.core.a.w", "model.core.b.w"}, "{\"base.*\": \"model.core.*\"}"},
    {{"h.0.attn.q.w", "h.0.mlp.w", "h.1.attn.q.w", "h.1.mlp.w", "h.10.attn.k.w"},
     {"h.0.self_attn.q.w", "h.0.mlp.w", "h.1.self_attn.q.w", "h.1.mlp.w", "h.10.self_attn.k.w"},
     "{\"*.attn.*\": \"*.self_attn.*\"}"},
    /* a prefix and a segment: the rule for few goes before the one for the rest */
    {{"base.h.0.attn.q.w", "base.h.0.mlp.w", "base.h.0.norm.w", "base.h.1.attn.q.w", "base.h.1.mlp.w",
      "base.h.1.norm.w"},
     {"h.0.self_attn.q.w", "h.0.mlp.w", "h.0.norm.w", "h.1.self_attn.q.w", "h.1.mlp.w", "h.1.norm.w"},
     "{\"base.h.*.attn.*\": \"h.*.self_attn.*\", \"base.*\": \"*\"}"},
    /* numbers: as segments, and inside of them */
    {{"layers.0.w", "layers.1.w", "layers.2.w"},
     {"blocks.0.w", "blocks.1.w", "blocks.2.w"},
     "{\"layers.*\": \"blocks.*\"}"},
    {{"layer0.w", "layer1.w", "layer12.w"},
     {"layers.0.w", "layers.1.w", "layers.12.w"},
     "{\"layer*.*\": \"layers.*.*\"}"},
    /* the last segment; what the model has under another name as well stays as it is */
    {{"a.gamma", "b.gamma", "c.w"}, {"a.weight", "b.weight", "c.w"}, "{\"*.gamma\": \"*.weight\"}"},
    {{"head.w", "h.0.w", "h.1.w"}, {"h.0.w", "h.1.w", "lm_head.w"}, "{\"head.*\": \"lm_head.*\"}"},
    /* a part that is in neither: what the rest is called is proposed */
    {{"base.a.w", "base.b.w", "base.gone.w"}, {"a.w", "b.w"}, "{\"base.*\": \"*\"}"},
    {{"base.a.w", "base.b.w", "base.c.w"}, {"a.w", "b.w", "c.w", "new.x"}, "{\"base.*\": \"*\"}"},
    /* in doubt nothing: any of three could be any of three; one that is missing, of two; nothing alike; too little */
    {{"h.0.q.w", "h.0.k.w", "h.0.v.w"}, {"h.0.wq.w", "h.0.wk.w", "h.0.wv.w"}, ""},
    {{"h.q.w", "h.k.w"}, {"h.wq.w"}, ""},
    {{"a", "b"}, {"x", "y"}, ""},
    {{"base.a.w"}, {"a.w", "x.1", "x.2", "x.3"}, ""},
    {{"a*.w", "b*.w"}, {"x.a*.w", "x.b*.w"}, ""},
};

static int name_model(model *made, const char *const names[9])
{
  int count = 0;
  while (names[count] != NULL) count++;
  make_model(made, count, names);
  return count;
}

START_TEST(renames_are_proposed)
{
  for (size_t i = 0; i < sizeof proposals / sizeof *proposals; i++) {
    model file, other;
    char text[400];
    name_model(&file, proposals[i].file);
    name_model(&other, proposals[i].model);
    eqs_checkpoint_contents stored = checkpoint_of(&file);
    ck_assert_ok(eqs_suggest_renames(&stored, &other.contents, text, sizeof text));
    ck_assert_msg(strcmp(text, proposals[i].proposed) == 0, "%s ...: %s, not %s", proposals[i].file[0], text,
                  proposals[i].proposed);
    ck_assert_ok(eqs_suggest_renames(&stored, &other.contents, text, 8));
    ck_assert_str_eq(text, ""); /* no room */
    eqs_contents_free(&stored);
  }
}
END_TEST

/* Shapes tell apart what names leave open. */
START_TEST(shapes_decide_between_names)
{
  model file, other;
  char text[400];
  MAKE_MODEL(&file, "h.0.q.w", "h.0.k.w", "h.1.q.w", "h.1.k.w");
  MAKE_MODEL(&other, "h.0.wq.w", "h.0.wk.w", "h.1.wq.w", "h.1.wk.w");
  for (int p = 0; p < 4; p += 2) file.parameter[p].shape[0] = other.parameter[p].shape[0] = 4;
  eqs_checkpoint_contents stored = checkpoint_of(&file);
  ck_assert_ok(eqs_suggest_renames(&stored, &other.contents, text, sizeof text));
  ck_assert_str_eq(text, "{\"*.q.*\": \"*.wq.*\", \"*.k.*\": \"*.wk.*\"}");
  eqs_contents_free(&stored);
}
END_TEST

/* Names of a large model are compared in a few seconds at most: 4,000 parameters, of which no two are alike but for
 * numbers. */
START_TEST(large_models_take_seconds)
{
  enum { count = 4000 };
  eqs_checkpoint_parameter *file, *other;
  char(*names)[2][48], text[400];
  ck_assert_ok(eqs_allocate(&file, count, sizeof *file));
  ck_assert_ok(eqs_allocate(&other, count, sizeof *other));
  ck_assert_ok(eqs_allocate(&names, count, sizeof *names));
  for (int p = 0; p < count; p++) {
    snprintf(names[p][0], sizeof names[p][0], "model.layers.%d.part%d.weight", p / 8, p % 8);
    snprintf(names[p][1], sizeof names[p][1], "net.blocks.%d.piece.%d.kernel", p / 8, p % 8 + p % 3);
    const eqs_checkpoint_parameter one = {.ndim = 2, .shape = {2, 3}, .tensors = 1, .tensor = {{.name = "weight"}}};
    file[p] = other[p] = one;
    file[p].name = names[p][0];
    other[p].name = names[p][1];
  }
  eqs_checkpoint_contents stored;
  ck_assert_ok(eqs_contents_sort(&(eqs_checkpoint_contents){.parameters = count, .parameter = file}, &stored));
  const eqs_checkpoint_contents half = {.parameters = count / 2, .parameter = other};
  double began = eqs_clock();
  ck_assert_ok(eqs_suggest_renames(&stored, &half, text, sizeof text));
  ck_assert_at_most(eqs_clock() - began, 20); /* one of the processor's; others may want it too */
  eqs_contents_free(&stored);
  free(names);
  free(other);
  free(file);
}
END_TEST

Suite *make_suite(void)
{
  Suite *suite = suite_create("match_model");
  TCase *cases = tcase_create("match_model");
  tcase_add_test(cases, parts_of_a_model);
  tcase_add_test(cases, state_is_taken_where_it_means_the_same);
  tcase_add_test(cases, wrappers_are_no_part_of_names);
  tcase_add_test(cases, entries_are_renamed);
  tcase_add_test(cases, renames_are_proposed);
  tcase_add_test(cases, shapes_decide_between_names);
  tcase_add_test(cases, large_models_take_seconds);
  suite_add_tcase(suite, cases);
  return suite;
}
