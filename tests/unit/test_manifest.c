/* Manifests: what is read, and what is refused. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness.h"
#include "model/manifest.h"
#include "model/recognize.h"
#include "model/role.h"

START_TEST(a_published_model)
{
  eqs_manifest manifest;
  ck_assert_ok(eqs_manifest_read("tests/manifests/gpt-oss-20b.json", &manifest));
  ck_assert_int_eq(manifest.count, 411);
  ck_assert_str_eq(manifest.entries[0].name, "model.embed_tokens.weight");
  const eqs_manifest_entry *entry = eqs_manifest_find(&manifest, "model.layers.23.mlp.experts.gate_up_proj");
  ck_assert(entry != NULL && entry->ndim == 3 && entry->shape[0] == 32 && entry->shape[2] == 5760);
  ck_assert_str_eq(entry->module_type, "GptOssExperts");
  for (int64_t i = 0; i < manifest.count; i++)
    ck_assert(eqs_manifest_find(&manifest, manifest.entries[i].name) == &manifest.entries[i]);
  ck_assert(eqs_manifest_find(&manifest, "model.layers.24.mlp.experts.gate_up_proj") == NULL);
  eqs_manifest_free(&manifest);
  ck_assert(manifest.count == 0 && eqs_manifest_find(&manifest, "x") == NULL);
}
END_TEST

static eqs_status read_text(const char *text, eqs_manifest *manifest)
{
  char path[] = "/tmp/equishard-test-XXXXXX";
  int file = mkstemp(path);
  ck_assert(file >= 0 && write(file, text, strlen(text)) == (ssize_t)strlen(text));
  close(file);
  eqs_status status = eqs_manifest_read(path, manifest);
  unlink(path);
  return status;
}

START_TEST(forms)
{
  eqs_manifest manifest;
  ck_assert_ok(read_text("{\"parameters\": [{\"name\": \"s\", \"shape\": []}, {\"name\": \"e\", \"shape\": [0, 3], "
                         "\"module_type\": null, \"note\": 1}], \"more\": {}}",
                         &manifest));
  ck_assert(manifest.count == 2 && manifest.entries[0].ndim == 0 && manifest.entries[1].module_type == NULL);
  eqs_manifest_free(&manifest);
  ck_assert_ok(read_text("{\"parameters\": []}", &manifest));
  ck_assert(manifest.count == 0 && eqs_manifest_find(&manifest, "x") == NULL);
  eqs_manifest_free(&manifest);
}
END_TEST

/* One parameter under several names: the entry that the others are tied to, or the embedding among them. */
START_TEST(ties)
{
#define EMBEDDING "{\"name\": \"model.embed_tokens.weight\", \"shape\": [9, 2]"
#define HEAD "{\"name\": \"lm_head.weight\", \"shape\": [9, 2]"
#define THIRD "{\"name\": \"third.weight\", \"shape\": [9, 2]"
#define TO_EMBEDDING ", \"tied_to\": \"model.embed_tokens.weight\"}"
#define TO_HEAD ", \"tied_to\": \"lm_head.weight\"}"
#define LIST(...) "{\"parameters\": [" __VA_ARGS__ "]"
  static const struct {
    const char *text;
    int count, parameter; /* index of the entry that is the parameter; -1: none is tied */
  } cases[] = {
      {LIST(EMBEDDING "}," HEAD TO_EMBEDDING) "}", 2, 0},
      {LIST(HEAD TO_EMBEDDING "," EMBEDDING "}") "}", 2, 1},
      {LIST(EMBEDDING TO_HEAD "," HEAD "}") "}", 2, 0},
      {LIST(EMBEDDING TO_HEAD "," HEAD "}") ", \"tie_word_embeddings\": true}", 2, 0},
      {LIST(HEAD "}," THIRD TO_HEAD "," EMBEDDING TO_HEAD) "}", 3, 2},
      {LIST(HEAD "}," EMBEDDING "}") ", \"tie_word_embeddings\": true}", 2, 1},
      {LIST(HEAD "}," EMBEDDING ", \"tied_to\": null}") ", \"tie_word_embeddings\": false}", 2, -1},
      {LIST(HEAD "}," THIRD "}") ", \"tie_word_embeddings\": true}", 2, -1},
  };
  for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
    eqs_manifest manifest;
    ck_assert_ok(read_text(cases[c].text, &manifest));
    ck_assert_int_eq(manifest.count, cases[c].count);
    for (int i = 0; i < cases[c].count; i++) {
      bool itself = i == cases[c].parameter || cases[c].parameter < 0;
      ck_assert_msg(manifest.entries[i].tied_to == (itself ? NULL : &manifest.entries[cases[c].parameter]),
                    "case %zu, entry %d", c, i);
    }
    eqs_manifest_free(&manifest);
  }
}
END_TEST

/* What the model's configuration says, by the names of several programs; a byte-order mark is no part of the text. */
START_TEST(model_and_stacks)
{
  static const struct {
    const char *text;
    int64_t heads, key_value_heads, head_dim, nope_head_dim;
  } cases[] = {
      {LIST() ", \"num_attention_heads\": 16, \"num_key_value_heads\": 8, \"head_dim\": 128}", 16, 8, 128, 0},
      {"\xef\xbb\xbf" LIST() ", \"n_head\": 12, \"n_embd\": 768}", 12, 0, 0, 0},
      {LIST() ", \"n_heads\": 32, \"n_kv_heads\": 4, \"head_dim\": null}", 32, 4, 0, 0},
      {LIST() ", \"num_attention_heads\": 128, \"qk_nope_head_dim\": 96, \"v_head_dim\": 64}", 128, 0, 0, 96},
      {LIST() "}", 0, 0, 0, 0},
  };
  for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
    eqs_manifest manifest;
    ck_assert_ok(read_text(cases[c].text, &manifest));
    ck_assert(manifest.model.attention_heads == cases[c].heads &&
              manifest.model.key_value_heads == cases[c].key_value_heads &&
              manifest.model.head_dim == cases[c].head_dim && manifest.model.nope_head_dim == cases[c].nope_head_dim);
    eqs_manifest_free(&manifest);
  }
  eqs_manifest manifest;
  eqs_parameter_info *info;
  int64_t count;
  ck_assert_ok(read_text(LIST("{\"name\": \"a\", \"shape\": [4, 2, 3], \"stacked\": true},"
                              "{\"name\": \"b\", \"shape\": [4, 2, 3]}") "}",
                         &manifest));
  ck_assert_ok(eqs_manifest_parameters(&manifest, &info, &count));
  ck_assert(count == 2 && info[0].stacked == 1 && info[1].stacked == 0);
  free(info);
  eqs_manifest_free(&manifest);
}
END_TEST

#define ENTRY(fields) "{\"parameters\": [{\"name\": \"a\", \"shape\": [1]}, {" fields "}]}"

START_TEST(refused)
{
  static const struct {
    const char *text, *message;
  } cases[] = {
      {"", ":1: JSON: "},
      {"{\"parameters\": [\n{\"name\": \"a\",\n", ":3: JSON: "},
      {"{\"parameters\": [], \"parameters\": []}", "duplicate"},
      {"[]", "a list \"parameters\" is missing"},
      {"{\"parameters\": {}}", "a list \"parameters\" is missing"},
      {"{\"parameters\": [5]}", "parameters[0]: must be an object"},
      {ENTRY("\"shape\": [1]"), "parameters[1]: name must be a text"},
      {ENTRY("\"name\": \"\", \"shape\": [1]"), "parameters[1]: name must be a text"},
      {ENTRY("\"name\": 3, \"shape\": [1]"), "parameters[1]: name must be a text"},
      {ENTRY("\"name\": \"b\""), "parameters[1]: shape must be a list"},
      {ENTRY("\"name\": \"b\", \"shape\": [1.5]"), "parameters[1]: shape must be a list of whole numbers"},
      {ENTRY("\"name\": \"b\", \"shape\": [-1]"), "parameters[1]: shape must be a list of whole numbers"},
      {ENTRY("\"name\": \"b\", \"shape\": [1,1,1,1,1,1,1,1,1]"), "parameters[1]: shape has 9 dimensions"},
      {ENTRY("\"name\": \"b\", \"shape\": [4294967296, 4294967296]"),
       "parameters[1]: the tensor has more than 2^48 elements"},
      {ENTRY("\"name\": \"b\", \"shape\": [99999999999999999999]"), "JSON: "},
      {ENTRY("\"name\": \"b\", \"shape\": [1], \"module_type\": 5"), "parameters[1]: module_type must be a text"},
      {ENTRY("\"name\": \"a\", \"shape\": [1]"), "parameter 'a' is added twice"},
      {ENTRY("\"name\": \"module.a\", \"shape\": [1]"), "parameters 'a' and 'module.a' have one name"},
      {ENTRY("\"name\": \"b\", \"shape\": [1], \"tied_to\": \"c\""), "parameters[1]: b: tied to c, which is not there"},
      {ENTRY("\"name\": \"b\", \"shape\": [1], \"tied_to\": 0"), "parameters[1]: tied_to must be the name of"},
      {ENTRY("\"name\": \"b\", \"shape\": [1], \"tied_to\": \"b\""), "parameters[1]: b: tied to itself"},
      {ENTRY("\"name\": \"b\", \"shape\": [2], \"tied_to\": \"a\""), "parameters[1]: b: tied to a, which has another"},
      {ENTRY("\"name\": \"b\", \"shape\": [1, 1], \"tied_to\": \"a\""),
       "parameters[1]: b: tied to a, which has another"},
      {LIST("{\"name\": \"a\", \"shape\": [1], \"tied_to\": \"b\"}, {\"name\": \"b\", \"shape\": [1], \"tied_to\": "
            "\"a\"}") "}",
       "parameters[0]: a: tied to b, which is itself tied"},
      {ENTRY("\"name\": \"b/c\", \"shape\": [1]"),
       "parameters[1]: parameter 'b/c': a checkpoint cannot have a name with '/': call it 'b.c'"},
      {ENTRY("\"name\": \".\", \"shape\": [1]"), "parameters[1]: parameter '.': a checkpoint cannot have this name"},
      {ENTRY("\"name\": \"b\", \"shape\": [1], \"stacked\": 1"), "parameters[1]: stacked must be true or false"},
      {LIST() ", \"num_attention_heads\": 0}", "num_attention_heads must be a whole number from 1 to 1073741824"},
      {LIST() ", \"head_dim\": \"64\"}", "head_dim must be a whole number from 1 to 1073741824"},
      {LIST() ", \"tie_word_embeddings\": 1}", "tie_word_embeddings must be true or false"},
      {LIST(EMBEDDING "}, {\"name\": \"lm_head.weight\", \"shape\": [8, 2]}") ", \"tie_word_embeddings\": true}",
       "lm_head.weight: tied to model.embed_tokens.weight, which has another shape"},
      {ENTRY("\"name\": \"a\\u0000b\", \"shape\": [1]"), "JSON: "},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    eqs_manifest manifest;
    ck_assert_msg(read_text(cases[i].text, &manifest) == EQS_USAGE, "accepted: %s", cases[i].text);
    ck_assert_msg(strstr(eqs_error_message(), cases[i].message) != NULL, "%s: %s", cases[i].text, eqs_error_message());
    ck_assert(manifest.count == 0 && manifest.entries == NULL);
  }
}
END_TEST

START_TEST(hostile)
{
  enum { size = 1 << 20 };
  eqs_manifest manifest;
  char *text = malloc(size + 1);
  memset(text, '[', size);
  text[size] = '\0';
  ck_assert_int_eq(read_text(text, &manifest), EQS_USAGE);
  /* names as long as that: not read; and of what is stripped word by word, no matter */
  char *end = stpcpy(text, "{\"parameters\": [{\"shape\": [2, 3], \"name\": \"");
  const char *name = end;
  while (end - text < size - 100) end = stpcpy(end, "module.");
  stpcpy(end, "x\"}]}");
  ck_assert_int_eq(read_text(text, &manifest), EQS_USAGE);
  ck_assert_ptr_nonnull(strstr(eqs_error_message(), "parameters[0]: name has more than 1000 characters"));
  ck_assert_int_eq(eqs_recognize(name, NULL, false, 2, (int64_t[]){2, 3}).role, EQS_ROLE_MATRIX);
  free(text);
  ck_assert_int_eq(eqs_manifest_read("/nonexistent/m.json", &manifest), EQS_IO);
  ck_assert_int_eq(eqs_manifest_read("/tmp", &manifest), EQS_IO);
  char path[] = "/tmp/equishard-test-XXXXXX";
  ck_assert(mkdtemp(path) != NULL && rmdir(path) == 0 && mkfifo(path, 0600) == 0);
  ck_assert_int_eq(eqs_manifest_read(path, &manifest), EQS_IO);
  unlink(path);
}
END_TEST

Suite *make_suite(void)
{
  Suite *suite = suite_create("manifest");
  TCase *tests = tcase_create("manifest");
  tcase_add_test(tests, a_published_model);
  tcase_add_test(tests, forms);
  tcase_add_test(tests, ties);
  tcase_add_test(tests, model_and_stacks);
  tcase_add_test(tests, refused);
  tcase_add_test(tests, hostile);
  suite_add_tcase(suite, tests);
  return suite;
}
