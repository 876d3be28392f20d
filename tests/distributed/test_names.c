/*
 * Names of parameters: what wraps a model is no part of them, a tied tensor has several, and a restart finds them all.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness.h"

enum { rows = 6, cols = 4, elements = rows * cols };

static char folder[64];

static void make_folder(void)
{
  strcpy(folder, "/tmp/equishard-test-XXXXXX");
  if (test_rank() == 0) ck_assert_ptr_nonnull(mkdtemp(folder));
  MPI_Bcast(folder, sizeof folder, MPI_CHAR, 0, MPI_COMM_WORLD);
}

static void remove_folder(void)
{
  MPI_Barrier(MPI_COMM_WORLD);
  char command[128];
  snprintf(command, sizeof command, "rm -rf %s", folder);
  if (test_rank() == 0) ck_assert_int_eq(system(command), 0);
}

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

/* Run `body` on the trainers of all arrangements, the last of which is embedded; owners end with its status. */
static void in_all_arrangements(eqs_status (*body)(const char *config_path), const char *more)
{
  for (int trainers = 1; trainers <= test_size(); trainers++) {
    const char *path = write_config(trainers, more);
    int expected, status;
    if (test_rank() < trainers)
      status = body(path);
    else
      status = eqs_serve(MPI_COMM_WORLD);
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
  in_all_arrangements(wrapped, "");
  remove_folder();
}
END_TEST

Suite *make_suite(void)
{
  Suite *suite = suite_create("names");
  TCase *cases = tcase_create("names");
  tcase_set_timeout(cases, 0);
  tcase_add_test(cases, test_wrappers);
  suite_add_tcase(suite, cases);
  return suite;
}
