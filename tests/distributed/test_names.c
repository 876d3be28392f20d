/*
 * Names of parameters: what wraps a model is no part of them, a tied tensor has several, and a restart finds them all.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint/write.h"
#include "folder.h"
#include "harness.h"
#include "model/layout.h"
#include "weights/export.h"

enum { rows = 6, cols = 4, elements = rows * cols };

/* A configuration with checkpoints in the folder; `more` are keys of `checkpoint`. */
static const char *write_config(int trainers, const char *more)
{
  static char path[96];
  snprintf(path, sizeof path, "%s/config.yaml", folder);
  MPI_Barrier(MPI_COMM_WORLD);
  if (test_rank() == 0) {
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    fprintf(file, "mode: %s\ndeadline: 30\ncheckpoint: {directory: %s/checkpoints%s}\n",
            trainers == test_size() ? "embedded" : "service", folder, more);
    fprintf(file, "groups:\n  - {match: {name: 'module.head.*'}, rule: row_norm, lr: 0.5}\n"
                  "  - {match: {}, rule: adamw, lr: 0.1}\n");
    fclose(file);
  }
  MPI_Barrier(MPI_COMM_WORLD);
  return path;
}

/* Run `body` on the trainers of all arrangements, the last of which is embedded; owners serve so many sessions. */
static void in_all_arrangements(eqs_status (*body)(const char *config_path), int sessions, const char *more)
{
  for (int trainers = 1; trainers <= test_size(); trainers++) {
    const char *path = write_config(trainers, more);
    int expected, status = EQS_OK;
    if (test_rank() < trainers)
      status = body(path);
    else
      for (int session = 0; session < sessions; session++) status = eqs_serve(MPI_COMM_WORLD);
    expected = status;
    MPI_Bcast(&expected, 1, MPI_INT, 0, MPI_COMM_WORLD);
    ck_assert_int_eq(status, expected);
  }
}

static void assert_message_has(const char *part)
{
  ck_assert_msg(strstr(eqs_error_message(), part) != NULL, "\"%s\" is not in \"%s\"", part, eqs_error_message());
}

static eqs_parameter_info tensor(const char *name)
{
  return (eqs_parameter_info){.struct_size = sizeof(eqs_parameter_info),
                              .name = name,
                              .ndim = 2,
                              .shape = {rows, cols},
                              .gradient_placement = EQS_PARTIAL};
}

static float value(int p, int index)
{
  return (float)test_uniform(100 + (uint64_t)p, (uint64_t)index);
}

/* A file as an earlier version wrote it, which knew of no wrappers: weights alone, by the first rank. */
static const char *write_old_file(int count, const char *const *names)
{
  static char path[96];
  static float weight[4][elements];
  eqs_checkpoint_parameter parameter[4];
  eqs_tensor_matrix matrix[4];
  eqs_view *view[4];
  int64_t views;
  const eqs_distribution distribution = {
      .rows = rows, .cols = cols, .row_block = rows, .col_block = cols, .grid_rows = 1, .grid_cols = 1};
  static const eqs_attribute step = {.name = "step", .kind = EQS_ATTRIBUTE_INTEGER};
  snprintf(path, sizeof path, "%s/old.h5", folder);
  for (int p = 0; p < count; p++) {
    for (int i = 0; i < elements; i++) weight[p][i] = value(p, i);
    ck_assert_ok(eqs_layout_whole(2, (int64_t[]){rows, cols}, &views, &view[p]));
    matrix[p] = (eqs_tensor_matrix){.view = view[p], .distribution = distribution, .shard = weight[p]};
    parameter[p] = (eqs_checkpoint_parameter){.name = names[p],
                                              .ndim = 2,
                                              .shape = {rows, cols},
                                              .attributes = 1,
                                              .attribute = &step,
                                              .tensors = 1,
                                              .tensor = {{.name = "weight", .matrices = 1, .matrix = &matrix[p]}}};
  }
  eqs_checkpoint_contents contents = {.config = "", .parameters = count, .parameter = parameter};
  if (test_rank() == 0) ck_assert_ok(eqs_checkpoint_write(MPI_COMM_SELF, path, &contents));
  MPI_Barrier(MPI_COMM_WORLD);
  for (int p = 0; p < count; p++) free(view[p]);
  return path;
}

/* ----- wrappers ----- */

static eqs_status wrapped(const char *config_path)
{
  eqs_session *session;
  eqs_parameter *handle[3], *other;
  float weight[3][elements] = {{0}};
  eqs_parameter_info info = tensor("module.layers._orig_mod.a.weight");
  eqs_parameter_description description = {.struct_size = sizeof description};
  ck_assert_ok(eqs_session_open(MPI_COMM_WORLD, config_path, &session));
  ck_assert_ok(eqs_parameter_add(session, &info, weight[0], &handle[0]));

  info.name = "layers.a.weight";
  ck_assert_int_eq(eqs_parameter_add(session, &info, weight[1], &other), EQS_USAGE);
  assert_message_has("'module.layers._orig_mod.a.weight' and 'layers.a.weight' have one name");
  info.name = "module.layers._orig_mod.a.weight";
  ck_assert_int_eq(eqs_parameter_add(session, &info, weight[1], &other), EQS_USAGE);
  assert_message_has("'module.layers._orig_mod.a.weight' is added twice");

  info.name = "head._forward_module.weight";
  ck_assert_ok(eqs_parameter_add(session, &info, weight[1], &handle[1]));
  info.name = "b.weight";
  info.tied_to = "module.head.weight";
  ck_assert_ok(eqs_parameter_add(session, &info, NULL, &other));
  ck_assert_ptr_eq(other, handle[1]);

  ck_assert_ok(eqs_session_start(session));
  ck_assert_ok(eqs_parameter_describe(handle[0], &description));
  ck_assert_str_eq(description.name, "layers.a.weight");
  ck_assert_ok(eqs_parameter_describe(handle[1], &description));
  ck_assert_str_eq(description.name, "head.weight");
  ck_assert_int_eq(description.group, 0);
  ck_assert_ok(eqs_session_close(&session));
  return EQS_OK;
}

START_TEST(test_wrappers)
{
  make_folder();
  in_all_arrangements(wrapped, 1, "");
  remove_folder();
}
END_TEST

static const char *old_file;

static eqs_status resume_old(const char *config_path)
{
  static const char *const names[] = {"a.weight", "module.b.c.weight"};
  eqs_session *session;
  eqs_parameter *handle[2];
  float weight[2][elements] = {{0}};
  ck_assert_ok(eqs_session_open(MPI_COMM_WORLD, config_path, &session));
  for (int p = 0; p < 2; p++) {
    eqs_parameter_info info = tensor(names[p]);
    ck_assert_ok(eqs_parameter_add(session, &info, weight[p], &handle[p]));
  }
  ck_assert_ok(eqs_session_resume(session, old_file));
  ck_assert_ok(eqs_session_start(session));
  for (int p = 0; p < 2; p++) {
    ck_assert_ok(eqs_pull(handle[p], weight[p]));
    for (int i = 0; i < elements; i++) ck_assert_float_eq(weight[p][i], value(p, i));
  }
  ck_assert_ok(eqs_session_close(&session));
  return EQS_OK;
}

START_TEST(test_names_of_old_files)
{
  static const char *const names[] = {"module.a.weight", "b._orig_mod.c.weight"};
  char exported[96];
  eqs_weights_moved moved;
  const char *wanted[] = {"b.c.*"};
  make_folder();
  old_file = write_old_file(2, names);
  in_all_arrangements(resume_old, 1, "");

  if (test_rank() == 0) { /* only the second, by its name without wrappers; the header of safetensors is JSON */
    snprintf(exported, sizeof exported, "%s/out.safetensors", folder);
    eqs_name_choice choice = {.matches = 1, .match = wanted};
    ck_assert_ok(eqs_weights_export(old_file, exported, EQS_FLOAT32, &choice, false, &moved));
    ck_assert_int_eq(moved.tensors, 1);
    char head[400] = "";
    FILE *file = fopen(exported, "r");
    ck_assert(file != NULL && fseek(file, 8, SEEK_SET) == 0 && fread(head, 1, sizeof head - 1, file) > 0);
    fclose(file);
    ck_assert_ptr_nonnull(strstr(head, "\"b.c.weight\""));
  }
  remove_folder();
}
END_TEST

/* ----- ties ----- */

enum { tie_steps = 2 };

/* A session with one tensor of several names, and another; a restart if there is something to restart from. */
static eqs_session *open_tied(const char *config_path, int count, const char *const *names, eqs_parameter *handle[2])
{
  static float weight[2][elements];
  eqs_session *session;
  eqs_parameter_info info = tensor("other.weight");
  for (int p = 0; p < 2; p++)
    for (int i = 0; i < elements; i++) weight[p][i] = value(p, i);
  ck_assert_ok(eqs_session_open(MPI_COMM_WORLD, config_path, &session));
  ck_assert_ok(eqs_parameter_add(session, &info, weight[1], &handle[1]));
  for (int n = 0; n < count; n++) { /* the second by the same memory, the third declared, as one of an alias */
    info.name = names[n];
    info.tied_to = n == 2 ? names[1] : NULL;
    ck_assert_ok(eqs_parameter_add(session, &info, n == 2 ? NULL : weight[0], &handle[0]));
  }
  info.name = names[count - 1]; /* an alias is a name, too */
  info.tied_to = NULL;
  eqs_parameter *again;
  ck_assert_int_eq(eqs_parameter_add(session, &info, NULL, &again), EQS_USAGE);
  return session;
}

static void step_tied(eqs_session *session, eqs_parameter *const handle[2], int step, float weight[elements])
{
  float gradient[2][elements];
  for (int p = 1; p >= 0; p--) {
    for (int i = 0; i < elements; i++) gradient[p][i] = value(10 * step + p + 2, i);
    ck_assert_ok(eqs_push(handle[p], gradient[p]));
  }
  ck_assert_ok(eqs_step(session));
  ck_assert_ok(eqs_pull(handle[0], weight));
}

/* Names of a tied tensor in another order: weights and state come back without being asked for. */
static eqs_status tied(const char *config_path)
{
  static const char *const first[] = {"embed.weight", "lm_head.weight", "third.weight"};
  static const char *const second[] = {"third.weight", "module.embed.weight", "lm_head.weight"};
  eqs_session *session;
  eqs_parameter *handle[2];
  eqs_parameter_description description = {.struct_size = sizeof description};
  float straight[elements], resumed[elements];

  session = open_tied(config_path, 3, first, handle);
  ck_assert_ok(eqs_session_start(session));
  for (int t = 0; t < tie_steps; t++) step_tied(session, handle, t, straight);
  ck_assert_ok(eqs_checkpoint(session, NULL, 0));
  step_tied(session, handle, tie_steps, straight);
  ck_assert_ok(eqs_session_close(&session));

  for (int count = 2; count <= 3; count++) {
    session = open_tied(config_path, count, second, handle);
    ck_assert_ok(eqs_session_resume(session, NULL));
    ck_assert_ok(eqs_session_start(session));
    ck_assert_ok(eqs_parameter_describe(handle[0], &description));
    ck_assert_str_eq(description.name, "third.weight");
    step_tied(session, handle, tie_steps, resumed);
    ck_assert_mem_eq(straight, resumed, sizeof straight);
    ck_assert_ok(eqs_session_close(&session));
  }
  return EQS_OK;
}

START_TEST(test_ties)
{
  make_folder();
  in_all_arrangements(tied, 3, "");
  remove_folder();
}
END_TEST

/* ----- the proposed rename ----- */

static const char *const old_names[] = {"net.layers.0.attn.w", "net.layers.1.attn.w", "net.out.w"};
static const char *const new_names[] = {"layers.0.self_attn.w", "layers.1.self_attn.w", "out.w"};
static char pasted[400]; /* what goes into `checkpoint`, as the error has it; broadcast to all ranks */

static eqs_status resume_renamed(const char *config_path)
{
  static float weight[3][elements];
  eqs_session *session;
  eqs_parameter *handle[3];
  ck_assert_ok(eqs_session_open(MPI_COMM_WORLD, config_path, &session));
  for (int p = 0; p < 3; p++) {
    eqs_parameter_info info = tensor(new_names[p]);
    ck_assert_ok(eqs_parameter_add(session, &info, weight[p], &handle[p]));
  }
  ck_assert_ok(eqs_session_resume(session, old_file));
  eqs_status status = eqs_session_start(session);
  if (status == EQS_OK) {
    for (int p = 0; p < 3; p++) {
      ck_assert_ok(eqs_pull(handle[p], weight[p]));
      for (int i = 0; i < elements; i++) ck_assert_float_eq(weight[p][i], value(p, i));
    }
  } else {
    const char *begin = strstr(eqs_error_message(), "`checkpoint: {rename: ");
    ck_assert_msg(begin != NULL, "no rename in \"%s\"", eqs_error_message());
    snprintf(pasted, sizeof pasted, ", %s", begin + strlen("`checkpoint: {"));
    char *end = strstr(pasted, "}`");
    ck_assert_ptr_nonnull(end);
    *end = '\0';
  }
  eqs_session_close(&session);
  return status;
}

/* The error says what to paste; with it the restart is made. */
START_TEST(test_proposed_rename)
{
  make_folder();
  old_file = write_old_file(3, old_names);
  pasted[0] = '\0';
  in_all_arrangements(resume_renamed, 1, "");
  MPI_Bcast(pasted, sizeof pasted, MPI_CHAR, 0, MPI_COMM_WORLD);
  ck_assert_str_eq(pasted, ", rename: {\"net.out.*\": \"out.*\", \"net.layers.*.attn.*\": \"layers.*.self_attn.*\"}");
  in_all_arrangements(resume_renamed, 1, pasted);
  remove_folder();
}
END_TEST

Suite *make_suite(void)
{
  Suite *suite = suite_create("names");
  TCase *cases = tcase_create("names");
  tcase_set_timeout(cases, 0);
  tcase_add_test(cases, test_wrappers);
  tcase_add_test(cases, test_names_of_old_files);
  tcase_add_test(cases, test_ties);
  tcase_add_test(cases, test_proposed_rename);
  suite_add_tcase(suite, cases);
  return suite;
}
