/* Configurations that are wrong: every one an EQS_USAGE whose message begins with file and line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"
#include "model/assign.h"
#include "model/config.h"

static eqs_status parse(const char *text, eqs_config **config)
{
  eqs_source source = {"c.yaml", (char *)text};
  eqs_sources sources = {1, &source};
  return eqs_config_parse(&sources, config);
}

#define GROUP "groups: [{rule: adamw, lr: 1}]\n"
#define IN_GROUP(rule, keys) "groups:\n- rule: " rule "\n  lr: 1\n  " keys "\n"

/* Text, and how the message begins. */
static const struct {
  const char *text, *message;
} cases[] = {
    /* the whole */
    {"", "c.yaml:1: the configuration is empty"},
    {"# nothing\n", "c.yaml:1: the configuration is empty"},
    {"- a\n", "c.yaml:1: a configuration must be a mapping, not a list"},
    {"just words", "c.yaml:1: a configuration must be a mapping, not just words"},
    {"mode: service\n", "c.yaml:1: the configuration has no groups"},
    {"mode: service\n\ngroups: []\n", "c.yaml:3: the configuration has no groups"},
    {"groups: {rule: adamw}\n", "c.yaml:1: groups must be a list"},
    {"\ngroup: []\n", "c.yaml:2: unknown key \"group\" in a configuration (did you mean groups?); there are mode, "},
    {GROUP "xyzzy: 1\n",
     "c.yaml:2: unknown key \"xyzzy\" in a configuration; there are mode, include, defaults, roles"},
    {GROUP "mode: servce\n", "c.yaml:2: unknown mode \"servce\" (did you mean service?); there are service, embedded"},
    {GROUP "reduce: max\n", "c.yaml:2: unknown reduce \"max\""},
    {GROUP "on_nonfinite: abort\n", "c.yaml:2: unknown on_nonfinite \"abort\"; there are error, skip"},
    {GROUP "clip_grad_norm: -1\n", "c.yaml:2: clip_grad_norm must be a finite number above 0, not -1"},
    {GROUP "clip_grad_norm: inf\n", "c.yaml:2: clip_grad_norm must be a finite number above 0, not inf"},
    {GROUP "deadline: 0\n", "c.yaml:2: deadline must be a finite number above 0, not 0"},
    {GROUP "calibration: [a]\n", "c.yaml:2: calibration must be a text, not a list"},
    {GROUP "calibration:\n", "c.yaml:2: calibration must be a text, not nothing"},
    {GROUP "mode: service\nmode: embedded\n", "c.yaml:3: mode is given twice, first in line 2"},
    {GROUP "checkpoint: here\n", "c.yaml:2: checkpoint must be a mapping, not here"},
    {GROUP "checkpoint:\n  evry: 5\n", "c.yaml:3: unknown key \"evry\" in checkpoint (did you mean every?)"},
    {GROUP "checkpoint: {every: -5}\n", "c.yaml:2: every must be a whole number of at least 0, not -5"},
    {GROUP "checkpoint: {keep: 1.5}\n", "c.yaml:2: keep must be a whole number of at least 0, not 1.5"},
    {GROUP "checkpoint: {directory: \"\"}\n", "c.yaml:2: directory is empty"},
    {GROUP "checkpoint: {minutes: 0}\n", "c.yaml:2: minutes must be a finite number above 0, not 0"},
    {GROUP "checkpoint: {async: 3}\n", "c.yaml:2: async must be true or false, not 3"},
    {GROUP "checkpoint: {partial: 1}\n", "c.yaml:2: partial must be true or false, not 1"},
    {GROUP "checkpoint: {rename: [a]}\n", "c.yaml:2: rename must be a mapping, not a list"},
    {GROUP "checkpoint:\n  rename:\n    a: [b]\n", "c.yaml:4: the replacement must be a text, not a list"},
    {GROUP "checkpoint:\n  rename:\n    a: \"\"\n", "c.yaml:4: rename: the replacement is empty"},
    {GROUP "checkpoint:\n  rename:\n    \"\": a\n", "c.yaml:4: rename: the pattern is empty"},
    {GROUP "checkpoint:\n  rename:\n    a.*: b.*\n    \"x.*\":\n      y.*.*\n",
     "c.yaml:6: rename: \"y.*.*\" has more * than its pattern \"x.*\""},
    {GROUP "checkpoint: {rename: {\"a[*]\\\\*\": \"*\"}}\n", "c.yaml:2: rename: \"*\" has more * than its pattern"},
    {GROUP "checkpoint: {rename: {a: b, a: c}}\n", "c.yaml:2: a is given twice"},
    {GROUP "metrics: {every: 0}\n", "c.yaml:2: every must be a whole number of at least 1, not 0"},
    {GROUP "metrics: {keep: 2}\n", "c.yaml:2: unknown key \"keep\" in metrics"},
    {GROUP "roles:\n  \"*.x\": heads\n", "c.yaml:3: unknown role \"heads\"; there are embedding, position, lm_head"},
    {GROUP "roles: [a]\n", "c.yaml:2: roles must be a mapping, not a list"},
    {GROUP "roles: {a: [b]}\n", "c.yaml:2: role must be a text, not a list"},
    {GROUP "roles:\n  a: {type: b}\n", "c.yaml:3: an entry of roles needs role, or stacked: true"},
    {GROUP "roles:\n  a: {roll: b}\n", "c.yaml:3: unknown key \"roll\" in an entry of roles (did you mean role?)"},
    {GROUP "roles:\n  a: {role: b}\n", "c.yaml:3: unknown role \"b\""},
    {GROUP "roles:\n  a: {stacked: 1}\n", "c.yaml:3: stacked must be true or false, not 1"},
    {GROUP "include: {a: b}\n", NULL}, /* the sources are read before; see files() */
    /* schedules */
    {GROUP "schedule: cosine\n", "c.yaml:2: schedule must be a mapping, not cosine"},
    {GROUP "schedule: {kind: cosin, steps: 5}\n", "c.yaml:2: unknown schedule kind \"cosin\" (did you mean cosine?)"},
    {GROUP "schedule: {steps: 5}\n", "c.yaml:2: schedule needs a kind"},
    {GROUP "schedule: {kind: linear}\n", "c.yaml:2: schedule linear needs steps, the length of the run"},
    {GROUP "schedule: {kind: wsd, steps: 5}\n", "c.yaml:2: schedule wsd needs decay"},
    {GROUP "schedule: {kind: cosine, steps: 5, decay: 2}\n", "c.yaml:2: schedule cosine does not use decay"},
    {GROUP "schedule: {kind: wsd, steps: 5, warmup: 3, decay: 3}\n", "c.yaml:2: schedule: warmup and decay are longer"},
    {GROUP "schedule: {kind: cosine, steps: 0}\n", "c.yaml:2: steps must be a whole number of at least 1, not 0"},
    {GROUP "schedule: {kind: constant, final: 0.5}\n", "c.yaml:2: schedule constant does not use final"},
    {GROUP "schedule: {kind: linear, steps: 5, final: -1}\n", "c.yaml:2: final must be a finite number of at least 0"},
    /* groups */
    {"groups:\n- muon\n", "c.yaml:2: a group must be a mapping, not muon"},
    {"groups:\n- {rule: adamw, lr: 1}\n- {lr: 1}\n", "c.yaml:3: the group has no rule"},
    {"groups:\n- {rule: muon}\n", "c.yaml:2: the group has no lr"},
    {"groups:\n- {rule: muno, lr: 1}\n",
     "c.yaml:2: unknown rule \"muno\" (did you mean muon?); there are muon, polar, right_spectral, left_spectral, "
     "row_norm, hybrid, adamw"},
    {IN_GROUP("muon", "weigth_decay: 1"),
     "c.yaml:4: unknown key \"weigth_decay\" in a group (did you mean weight_decay?)"},
    {IN_GROUP("muon", "lr: 2"), "c.yaml:4: lr is given twice, first in line 3"},
    {IN_GROUP("adamw", "steps: 5"), "c.yaml:4: rule adamw does not use steps"},
    {IN_GROUP("adamw", "layout: row"), "c.yaml:4: rule adamw does not use layout"},
    {IN_GROUP("adamw", "head_dim: 4"), "c.yaml:4: rule adamw does not use head_dim"},
    {IN_GROUP("muon", "alpha: 1"), "c.yaml:4: rule muon does not use alpha"},
    {IN_GROUP("row_norm", "solver: exact"), "c.yaml:4: rule row_norm does not use solver"},
    {"groups:\n- {rule: adamw, lr: -1}\n", "c.yaml:2: lr must be a finite number of at least 0, not -1"},
    {"groups:\n- {rule: adamw, lr: nan}\n", "c.yaml:2: lr must be a finite number of at least 0, not nan"},
    {"groups:\n- {rule: adamw, lr: .inf}\n", "c.yaml:2: lr must be a finite number of at least 0, not .inf"},
    {"groups:\n- {rule: adamw, lr: 1e999}\n", "c.yaml:2: lr must be a finite number of at least 0, not 1e999"},
    {"groups:\n- {rule: adamw, lr: 1e39}\n",
     "c.yaml:2: lr must be at most 3.4e38, the largest number of float32, not 1e39"},
    {"\xef\xbb\xbfgroups:\n- {rule: adamw,\n   lr: 1e300}\n", "c.yaml:3: lr must be at most 3.4e38"},
    {"groups:\n- {rule: adamw, lr: 1e-46}\n",
     "c.yaml:2: lr must be 0 or at least 1e-45, the smallest number of float32, not 1e-46"},
    {IN_GROUP("adamw", "eps: 1e-50"), "c.yaml:4: eps must be at least 1e-45"},
    {IN_GROUP("adamw", "weight_decay: 4e38"), "c.yaml:4: weight_decay must be at most 3.4e38"},
    {IN_GROUP("muon", "beta: 0.99999999"),
     "c.yaml:4: beta must be below 1 in float32, at most 0.9999999, not 0.99999999"},
    {GROUP "clip_grad_norm: 1e40\n", "c.yaml:2: clip_grad_norm must be at most 3.4e38"},
    {GROUP "schedule: {kind: linear, steps: 5, final: 1e40}\n", "c.yaml:2: final must be at most 3.4e38"},
    {"groups:\n- {rule: adamw, lr: 0x10}\n", "c.yaml:2: lr must be a finite number of at least 0, not 0x10"},
    {"groups:\n- {rule: adamw, lr: 1 2}\n", "c.yaml:2: lr must be a finite number of at least 0, not 1 2"},
    {"groups:\n- {rule: adamw, lr: \"1\"}\n", "c.yaml:2: lr must be a finite number of at least 0, not \"1\""},
    {"groups:\n- {rule: adamw, lr: }\n", "c.yaml:2: lr must be a finite number of at least 0, not nothing"},
    {"groups:\n- {rule: adamw, lr: [1]}\n", "c.yaml:2: lr must be a finite number of at least 0, not a list"},
    {IN_GROUP("muon", "weight_decay: -0.1"), "c.yaml:4: weight_decay must be a finite number of at least 0, not -0.1"},
    {IN_GROUP("muon", "beta: 1"), "c.yaml:4: beta must be a number of at least 0 and below 1, not 1"},
    {IN_GROUP("muon", "beta: -0.1"), "c.yaml:4: beta must be a number of at least 0 and below 1, not -0.1"},
    {IN_GROUP("adamw", "betas: [0.9]"), "c.yaml:4: betas must be two numbers"},
    {IN_GROUP("adamw", "betas: 0.9"), "c.yaml:4: betas must be two numbers"},
    {IN_GROUP("adamw", "betas: [0.9, 1.0]"), "c.yaml:4: betas must be a number of at least 0 and below 1, not 1.0"},
    {IN_GROUP("polar", "alpha: -1"), "c.yaml:4: alpha must be a finite number of at least 0, not -1"},
    {IN_GROUP("adamw", "eps: 0"), "c.yaml:4: eps must be a finite number above 0, not 0"},
    {IN_GROUP("muon", "steps: 0"), "c.yaml:4: steps must be a whole number from 1 to 100, not 0"},
    {IN_GROUP("muon", "steps: 101"), "c.yaml:4: steps must be a whole number from 1 to 100, not 101"},
    {IN_GROUP("muon", "steps: 5.0"), "c.yaml:4: steps must be a whole number from 1 to 100, not 5.0"},
    {IN_GROUP("muon", "steps: 99999999999999999999999"), "c.yaml:4: steps must be a whole number"},
    {IN_GROUP("muon", "momentum: 0.9"), "c.yaml:4: unknown momentum \"0.9\"; there are none, ema, nesterov"},
    {IN_GROUP("muon", "solver: jordn"),
     "c.yaml:4: unknown solver \"jordn\" (did you mean jordan?); there are newton_schulz"},
    {IN_GROUP("muon", "form: fast"), "c.yaml:4: unknown form \"fast\"; there are auto, direct, gram, gram_restart"},
    {IN_GROUP("muon", "layout: rows"),
     "c.yaml:4: unknown layout \"rows\" (did you mean row?); there are row, col, heads"},
    {IN_GROUP("muon", "scale: 2"), "c.yaml:4: unknown scale \"2\"; there are none"},
    {IN_GROUP("hybrid", "order: row"), "c.yaml:4: unknown order \"row\"; there are row_then_polar, polar_then_row"},
    {IN_GROUP("hybrid", "side: top"), "c.yaml:4: unknown side \"top\"; there are right, left"},
    {IN_GROUP("hybrid", "row_mode: eps"), "c.yaml:4: unknown row_mode \"eps\"; there are inverse_eps, inverse"},
    {IN_GROUP("hybrid", "nu_scope: head"), "c.yaml:4: unknown nu_scope \"head\"; there are tensor, matrix"},
    {IN_GROUP("hybrid", "center: yes"), "c.yaml:4: center must be true or false, not yes"},
    {IN_GROUP("hybrid", "center: \"true\""), "c.yaml:4: center must be true or false, not \"true\""},
    {IN_GROUP("muon", "head_dim: 64"),
     "c.yaml:4: head_dim is used with layout auto and those of heads (heads_qkv, heads_o) only"},
    {IN_GROUP("muon", "{layout: heads_o, head_dim: 0}"), NULL}, /* YAML syntax: a mapping where a key is due */
    {IN_GROUP("muon", "layout: heads_o\n  head_dim: 0"),
     "c.yaml:5: head_dim must be a whole number of at least 1, not 0"},
    {IN_GROUP("muon", "split: 5"), "c.yaml:4: split must be a list of sizes"},
    {IN_GROUP("muon", "split: []"), "c.yaml:4: split is an empty list"},
    {IN_GROUP("muon", "split: {repeat: 2}"), "c.yaml:4: split needs pieces, like {repeat: 8, pieces: [256, 128, 128]}"},
    {IN_GROUP("muon", "split: {repeat: 0, pieces: [1]}"),
     "c.yaml:4: repeat must be a whole number of at least 1, not 0"},
    {IN_GROUP("muon", "split: {pieces: 5}"), "c.yaml:4: pieces must be a list of sizes, like [2048, 1024, 1024]"},
    {IN_GROUP("muon", "split: {peices: [5]}"), "c.yaml:4: unknown key \"peices\" in split (did you mean pieces?)"},
    {IN_GROUP("muon", "split: [4, 0]"), "c.yaml:4: split must be a whole number of at least 1, not 0"},
    {IN_GROUP("muon", "grid: 2"), "c.yaml:4: grid must be rows by columns, like 2x1, not 2"},
    {IN_GROUP("muon", "grid: 0x2"), "c.yaml:4: grid must be rows by columns, like 2x1, not 0x2"},
    {IN_GROUP("muon", "grid: 2x"), "c.yaml:4: grid must be rows by columns, like 2x1, not 2x"},
    {IN_GROUP("muon", "grid: -1x2"), "c.yaml:4: grid must be rows by columns, like 2x1, not -1x2"},
    {IN_GROUP("muon", "grid: 2x1x1"), "c.yaml:4: grid must be rows by columns, like 2x1, not 2x1x1"},
    {IN_GROUP("muon", "grid: [2, 1]"), "c.yaml:4: grid must be rows by columns, like 2x1, not a list"},
    {IN_GROUP("muon", "grid: 100000x100000"), "c.yaml:4: grid has more ranks than there can be"},
    {IN_GROUP("muon", "block: 0"), "c.yaml:4: block must be a whole number of at least 1, not 0"},
    {IN_GROUP("muon", "block: [1, 2, 3]"), "c.yaml:4: block has more than 2 items"},
    {IN_GROUP("polar", "eps_mode: rel"), "c.yaml:4: unknown eps_mode \"rel\"; there are absolute, relative"},
    {IN_GROUP("adamw", "eps_mode: relative"), "c.yaml:4: rule adamw does not use eps_mode"},
    {IN_GROUP("row_norm", "restarts: 2"), "c.yaml:4: rule row_norm does not use restarts"},
    {IN_GROUP("muon", "restarts: []"), "c.yaml:4: restarts is an empty list"},
    {IN_GROUP("muon", "restarts: [0]"), "c.yaml:4: restarts must be a whole number from 1 to 99, not 0"},
    {IN_GROUP("muon", "restarts: [5, 2]"), "c.yaml:4: restarts must ascend: 2 follows 5"},
    {IN_GROUP("muon", "restarts: [2]\n  form: direct"), "c.yaml:2: rule muon: restarts are of the Gram form"},
    {IN_GROUP("muon", "solver: custom"), "c.yaml:2: rule muon: solver custom needs coefficients"},
    {IN_GROUP("muon", "coefficients: [[1, 2, 3]]"), "c.yaml:4: coefficients is used with solver custom only"},
    {IN_GROUP("muon", "normalisation: gram"), "c.yaml:4: normalisation is used with solver custom only"},
    {IN_GROUP("muon", "solver: custom\n  coefficients: [1.5, -0.5, 0]"),
     "c.yaml:5: coefficients must be a list of triples"},
    {IN_GROUP("muon", "solver: custom\n  coefficients: [[1.5, -0.5]]"),
     "c.yaml:5: coefficients must be a list of triples"},
    {IN_GROUP("muon", "solver: custom\n  coefficients: [[1.5, -0.5, nan]]"),
     "c.yaml:5: coefficients must be a finite number, not nan"},
    {IN_GROUP("muon", "solver: custom\n  coefficients: []"), "c.yaml:5: coefficients must be a list of triples"},
    {IN_GROUP("row_norm", "momentum: polar_first"), "c.yaml:2: rule row_norm: momentum polar_first needs"},
    {IN_GROUP("hybrid", "form: direct"), "c.yaml:2: rule hybrid: form direct has no place for the damping"},
    {IN_GROUP("muon", "form: direct\n  solver: polar_express"), "c.yaml:2: rule muon: form direct has no place"},
    /* match */
    {IN_GROUP("muon", "match: [a]"), "c.yaml:4: match must be a mapping, not a list"},
    {IN_GROUP("muon", "match:"), "c.yaml:4: match must be a mapping, not nothing"},
    {IN_GROUP("muon", "match: {nam: x}"),
     "c.yaml:4: unknown key \"nam\" in match (did you mean name?); there are name"},
    {IN_GROUP("muon", "match: {role: head}"), "c.yaml:4: unknown role \"head\""},
    {IN_GROUP("muon", "match: {role: []}"), "c.yaml:4: role is an empty list"},
    {IN_GROUP("muon", "match: {name: []}"), "c.yaml:4: name is an empty list"},
    {IN_GROUP("muon", "match: {name: {a: b}}"), "c.yaml:4: name must be a text, not a mapping"},
    {IN_GROUP("muon", "match: {ndim: 9}"), "c.yaml:4: ndim must be a whole number from 0 to 8, not 9"},
    {IN_GROUP("muon", "match: {shape: 5}"), "c.yaml:4: shape must be a list"},
    {IN_GROUP("muon", "match: {shape: [\"=5\"]}"), "c.yaml:4: shape: \"=5\" is not a size"},
    {IN_GROUP("muon", "match: {shape: [\">=\"]}"), "c.yaml:4: shape: \">=\" is not a size"},
    {IN_GROUP("muon", "match: {shape: [5], ndim: 2}"), "c.yaml:4: match: ndim is 2, but shape has 1 entries"},
    {IN_GROUP("muon", "match: {shape: [1,1,1,1,1,1,1,1,1]}"), "c.yaml:4: shape has more than 8 items"},
    /* defaults */
    {GROUP "defaults: {match: {}}\n", "c.yaml:2: defaults apply to all groups: they have no match"},
    {GROUP "defaults: {bta: 1}\n", "c.yaml:2: unknown key \"bta\" in defaults (did you mean beta?)"},
    {GROUP "defaults: {steps: 0}\n", "c.yaml:2: steps must be a whole number from 1 to 100, not 0"},
    {GROUP "defaults: {rule: x}\n", "c.yaml:2: unknown rule \"x\""},
    /* YAML */
    {"groups: [\n", "c.yaml:2: YAML: while parsing a flow node, did not find expected node content"},
    {"groups:\n\t- a\n", "c.yaml:2: YAML: while scanning for the next token, found character that cannot start"},
    {"a: b: c\n", "c.yaml:1: YAML: mapping values are not allowed in this context"},
    {"groups:\n- {match: {name: *x}}\n", "c.yaml:2: YAML: found undefined alias"},
    {"groups:\n- {match: {name: *.x}}\n",
     "c.yaml:2: YAML: while scanning an alias, did not find expected alphabetic or "
     "numeric character (a text that begins with * needs quotes)"},
    {"a: \xff\n", "c.yaml:1: YAML: "},
    {GROUP "---\n" GROUP, "c.yaml:2: a second YAML document"},
    {"[a]: b\n", "c.yaml:1: a key must be a text, not a list"},
    {"groups:\n- {<<: 5, rule: adamw, lr: 1}\n", "c.yaml:2: what << merges must be a mapping, not 5"},
    {"groups:\n- &a {<<: *a, rule: adamw, lr: 1}\n", "c.yaml:2: merge keys nest too deeply"},
    {"groups: &a [*a]\n", "c.yaml:1: a group must be a mapping, not a list"},
};

START_TEST(wrong_texts)
{
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    eqs_config *config = NULL;
    eqs_status status = parse(cases[i].text, &config);
    if (cases[i].message == NULL) {
      eqs_config_free(&config);
      continue;
    }
    ck_assert_msg(status == EQS_USAGE, "accepted: %s", cases[i].text);
    ck_assert_msg(strncmp(eqs_error_message(), cases[i].message, strlen(cases[i].message)) == 0,
                  "\"%s\" gives\n  %s\ninstead of\n  %s", cases[i].text, eqs_error_message(), cases[i].message);
    ck_assert(config == NULL);
  }
}
END_TEST

/* A parameter that cannot be had as its group says: the message names group, rule and parameter. */
START_TEST(wrong_parameters)
{
  static const struct {
    const char *text;
    int ndim;
    int64_t shape[4];
    const char *message;
  } misfits[] = {
      {"# the groups\ngroups:\n- {match: {role: router}, rule: muon, lr: 1}\n",
       2,
       {4, 4},
       "c.yaml:2: no group matches parameter layers.0.w (role matrix, shape [4, 4], type Linear)"},
      {"groups:\n\n- {rule: muon, lr: 1}\n",
       1,
       {4},
       "c.yaml:3: rule muon: parameter layers.0.w: rule muon needs a matrix or a stack of matrices, and the shape is "
       "[4]"},
      {"roles: {\"*.w\": convolution}\ngroups:\n- {rule: row_norm, lr: 1}\n",
       4,
       {4, 4, 2, 2},
       "c.yaml:3: rule row_norm: parameter layers.0.w: rule row_norm needs matrices, and it is a convolution of shape "
       "[4, 4, 2, 2]: write `layout: flatten` in the group"},
      {"groups:\n- {rule: muon, lr: 1, layout: heads_o}\n",
       2,
       {4, 4},
       "c.yaml:2: rule muon: parameter layers.0.w: layout heads_o needs head_dim: write it in the group, or "
       "num_attention_heads and head_dim at the top of the manifest"},
      {"groups:\n- {rule: muon, lr: 1, split: {repeat: 3, pieces: [2, 3]}}\n",
       2,
       {4, 4},
       "c.yaml:2: rule muon: parameter layers.0.w: split: the pieces have 3 times 5 rows together, the tensor 4"},
      {"groups:\n- {rule: muon, lr: 1, layout: heads_qkv, head_dim: 128}\n",
       2,
       {1000, 4},
       "c.yaml:2: rule muon: parameter layers.0.w: heads_qkv: 1000 rows are not a multiple of head_dim 128"},
      {"groups:\n- {rule: muon, lr: 1, split: [2, 3]}\n",
       2,
       {4, 4},
       "c.yaml:2: rule muon: parameter layers.0.w: split: the pieces have 5 rows together, the tensor 4"},
      {"groups:\n- {rule: muon, lr: 1, split: [1, 3], layout: heads_o, head_dim: 2}\n",
       2,
       {4, 4},
       "c.yaml:2: rule muon: parameter layers.0.w: heads_o: the pieces of split give heads of different shapes"},
  };
  for (size_t i = 0; i < sizeof misfits / sizeof misfits[0]; i++) {
    eqs_config *config;
    eqs_assignment assignment;
    ck_assert_ok(parse(misfits[i].text, &config));
    eqs_parameter_info info = {.name = "layers.0.w", .module_type = "Linear", .ndim = misfits[i].ndim};
    memcpy(info.shape, misfits[i].shape, sizeof misfits[i].shape);
    ck_assert_int_eq(eqs_config_assign(config, NULL, &info, &assignment), EQS_USAGE);
    ck_assert_msg(strncmp(eqs_error_message(), misfits[i].message, strlen(misfits[i].message)) == 0, "case %zu: %s", i,
                  eqs_error_message());
    ck_assert(assignment.views == NULL);
    eqs_config_free(&config);
  }
}
END_TEST

static void write_file(const char *folder, const char *name, const char *text)
{
  char path[200];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "w");
  ck_assert(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0);
}

START_TEST(wrong_files)
{
  char folder[] = "/tmp/equishard-test-XXXXXX", path[200], command[200];
  static const struct {
    const char *name, *text;
    eqs_status status;
    const char *message;
  } files[] = {
      {"missing.yaml", "mode: service\ninclude:\n- none.yaml\n", EQS_IO, "missing.yaml:3: include: "},
      {"self.yaml", "include: self.yaml\n", EQS_USAGE, "self.yaml:1: include: "},
      {"a.yaml", "include: b.yaml\n", EQS_USAGE, "b.yaml:1: include: "},
      {"b.yaml", "include: a.yaml\n", EQS_USAGE, "a.yaml:1: include: "},
      {"again.yaml", "include: ././again.yaml\n", EQS_USAGE, "again.yaml:1: include: "},
      {"deep0.yaml", "include: deep1.yaml\n", EQS_USAGE, "deep8.yaml:1: include: more than 8 files deep"},
      {"type.yaml", "include: {a: b}\n", EQS_USAGE, "type.yaml:1: include must be a text, not a mapping"},
      {"syntax.yaml", "include: [\n", EQS_USAGE, "syntax.yaml:2: YAML: "},
      {"folder.yaml", "include: .\n", EQS_IO, "folder.yaml:1: include: "},
  };
  enum { count = sizeof files / sizeof files[0] };
  ck_assert(mkdtemp(folder) != NULL);
  for (int i = 0; i < count; i++) write_file(folder, files[i].name, files[i].text);
  for (int i = 1; i < 10; i++) {
    char name[40], text[80];
    snprintf(name, sizeof name, "deep%d.yaml", i);
    snprintf(text, sizeof text, i < 9 ? "include: deep%d.yaml\n" : GROUP, i + 1);
    write_file(folder, name, text);
  }
  for (int i = 0; i < count; i++) {
    eqs_sources sources;
    snprintf(path, sizeof path, "%s/%s", folder, files[i].name);
    ck_assert_int_eq(eqs_sources_read(path, &sources), files[i].status);
    ck_assert_msg(strstr(eqs_error_message(), files[i].message) != NULL, "%s: %s", files[i].name, eqs_error_message());
    ck_assert(sources.count == 0 && sources.sources == NULL);
  }
  eqs_sources sources;
  snprintf(path, sizeof path, "%s/none.yaml", folder);
  ck_assert_int_eq(eqs_sources_read(path, &sources), EQS_IO);
  snprintf(path, sizeof path, "%s/fifo", folder); /* must not block */
  ck_assert_int_eq(mkfifo(path, 0600), 0);
  ck_assert_int_eq(eqs_sources_read(path, &sources), EQS_IO);
  snprintf(path, sizeof path, "%s/large", folder);
  write_file(folder, "large", GROUP);
  ck_assert_int_eq(truncate(path, (1 << 20) + 1), 0);
  ck_assert_int_eq(eqs_sources_read(path, &sources), EQS_USAGE);
  ck_assert_int_eq(truncate(path, 1000), 0);
  ck_assert_int_eq(eqs_sources_read(path, &sources), EQS_USAGE);
  ck_assert(strstr(eqs_error_message(), "zero byte") != NULL);
  snprintf(command, sizeof command, "rm -r %s", folder);
  ck_assert_int_eq(system(command), 0);
}
END_TEST

/* 1 MiB of what would take time or memory that grows faster than the text: refused at once. The limit of 10 s
 * leaves room for AddressSanitizer; time that grows with the square would be minutes. */
START_TEST(hostile_texts)
{
  static const struct {
    const char *first, *repeated;
  } hostile[] = {{"", "["},
                 {"", "{a: "},
                 {"", "- "},
                 {"a: ", "&a x\n"},
                 {"groups: [", "&a{},"},
                 {"", "? "},
                 {"groups: [&a {rule: adamw, lr: 1}", ", *a"},
                 {"", "a: 1\n"},
                 {"groups:\n- ", "<<: {lr: 1}\n  "},
                 {"groups:\n- &a {rule: adamw, lr: 1}\n- <<: [*a", ", *a"},
                 {"\"", "x"},
                 {"", "%TAG !a! b\n"}};
  enum { size = 1 << 20 };
  char *text = malloc(size + 1);
  for (size_t i = 0; i < sizeof hostile / sizeof hostile[0]; i++) {
    size_t length = (size_t)(stpcpy(text, hostile[i].first) - text), step = strlen(hostile[i].repeated);
    for (; length + step <= size; length += step) memcpy(text + length, hostile[i].repeated, step);
    text[length] = '\0';
    eqs_config *config;
    clock_t start = clock();
    ck_assert_msg(parse(text, &config) == EQS_USAGE, "accepted: %.40s", text);
    double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    ck_assert_msg(seconds < 10, "%.40s: %g seconds", text, seconds);
  }
  /* patterns that take fnmatch a time that grows with the square */
  for (int i = 0; i < 2; i++) {
    char *end = stpcpy(text, i == 0 ? "groups:\n- {rule: adamw, lr: 1, match: {name: \"" : GROUP "roles: {\"");
    for (int k = 0; k < 501; k++) end = stpcpy(end, "*[");
    stpcpy(end, i == 0 ? "\"}}\n" : "\": matrix}\n");
    eqs_config *config;
    ck_assert_int_eq(parse(text, &config), EQS_USAGE);
    ck_assert_ptr_nonnull(strstr(eqs_error_message(), "a pattern of more than 1000 characters"));
  }
  free(text);
  /* "billion laughs" of merge keys: every level merges the one before ten times */
  char *laughs = NULL;
  size_t laughs_size;
  FILE *stream = open_memstream(&laughs, &laughs_size);
  fputs("groups:\n- &a0 {rule: adamw, lr: 1}\n", stream);
  for (int i = 1; i < 20; i++) {
    fprintf(stream, "- &a%d\n  <<: [", i);
    for (int k = 0; k < 10; k++) fprintf(stream, "%s*a%d", k > 0 ? ", " : "", i - 1);
    fputs("]\n", stream);
  }
  fclose(stream);
  eqs_config *config;
  ck_assert_int_eq(parse(laughs, &config), EQS_USAGE);
  ck_assert_msg(strstr(eqs_error_message(), "too many keys") != NULL, "%s", eqs_error_message());
  free(laughs);
}
END_TEST

/* Any prefix of a configuration and any byte of it changed: an answer, not a crash. */
START_TEST(mutilated_texts)
{
  static const char text[] =
      "defaults: &d {weight_decay: 0.1}\nroles: {\"*.x\": router}\nmode: service\n"
      "schedule: {kind: wsd, steps: 9, decay: 3}\ncheckpoint: {directory: c, every: 2}\n"
      "groups:\n- {match: {role: [router], shape: [\"*\", \">=4\"]}, rule: muon, lr: 1, grid: 2x1}\n"
      "- {<<: *d, rule: adamw, lr: 1e-3, betas: [0.9, 0.95], block: [8, 8]}\n";
  static const char bytes[] = "\x01\xff:{}[]&*-?#\"'\n ,|>%@x0";
  char copy[sizeof text];
  eqs_config *config;
  ck_assert_ok(parse(text, &config));
  eqs_config_free(&config);
  for (size_t i = 0; i < sizeof text - 1; i++) {
    memcpy(copy, text, sizeof text);
    copy[i] = '\0';
    if (parse(copy, &config) == EQS_OK) eqs_config_free(&config);
    for (size_t b = 0; b < sizeof bytes - 1; b++) {
      memcpy(copy, text, sizeof text);
      copy[i] = bytes[b];
      if (parse(copy, &config) == EQS_OK) eqs_config_free(&config);
    }
  }
}
END_TEST

Suite *make_suite(void)
{
  Suite *suite = suite_create("config errors");
  TCase *tests = tcase_create("config errors");
  tcase_add_test(tests, wrong_texts);
  tcase_add_test(tests, wrong_parameters);
  tcase_add_test(tests, wrong_files);
  tcase_add_test(tests, hostile_texts);
  tcase_add_test(tests, mutilated_texts);
  suite_add_tcase(suite, tests);
  return suite;
}
