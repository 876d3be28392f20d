/*
 * Checkpoints in the background: what is written is what was there when the save began, also where everything changes
 * right after; a failure of any owner's thread is known afterwards, on that owner, and nothing has changed.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "checkpoint/restore_optimizer.h"
#include "checkpoint/save_optimizer.h"
#include "dist/communicator.h"
#include "harness.h"

/* Several tiles (4 MiB) for every owner, matrices on one owner and on all, state of two kinds, a tensor of one element.
 */
static eqs_parameter_info model[] = {
    {.name = "model.embed_tokens.weight", .module_type = "Embedding", .ndim = 2, .shape = {0, 700}},
    {.name = "layers.0.self_attn.q_proj.weight", .ndim = 2, .shape = {300, 700}},
    {.name = "norm.weight", .ndim = 1, .shape = {700}},
    {.name = "scale", .ndim = 1, .shape = {1}},
};
enum { parameters = sizeof model / sizeof *model };

static bool no_more_threads;

/* Stands in for the system's, which it calls. */
int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *context)
{
  int (*create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
  void *found = dlsym(RTLD_NEXT, "pthread_create");
  memcpy(&create, &found, sizeof create);
  return no_more_threads ? EAGAIN : create(thread, attributes, run, context);
}

typedef struct {
  eqs_config *config;
  eqs_plan *plan;
  eqs_optimizer *optimizer;
} job;

static char directory[256];

static void open_job(job *made)
{
  char path[] = "job.yaml";
  char text[512];
  model[0].shape[0] = 3000 * test_size();
  snprintf(text, sizeof text,
           "groups:\n- {match: {type: Embedding}, rule: row_norm, lr: 1, grid: %dx1}\n"
           "- {match: {ndim: 2}, rule: muon, lr: 1, grid: 1x1}\n- {rule: adamw, lr: 1}\n",
           test_size());
  eqs_source source = {.path = path, .text = text};
  eqs_sources sources = {1, &source};
  ck_assert_ok(eqs_config_parse(&sources, &made->config));
  ck_assert_ok(eqs_plan_make(made->config, NULL, test_size(), parameters, model, &made->plan));
  ck_assert_ok(eqs_optimizer_create(made->config, made->plan, MPI_COMM_WORLD, &made->optimizer));
}

static void close_job(job *made)
{
  eqs_optimizer_destroy(&made->optimizer);
  eqs_plan_free(&made->plan);
  eqs_config_free(&made->config);
}

/* Set all of this owner's weights and states by a seed, or compare them with what that sets; how many are wrong. */
static int64_t visit(job *made, uint64_t seed, bool set)
{
  int64_t wrong = 0;
  for (int64_t p = 0; p < parameters; p++) {
    const eqs_owned_matrix *matrix = &made->optimizer->parameter[p].matrix[0];
    const eqs_matrix *all[] = {&matrix->weight, &matrix->momentum, &matrix->states[0], &matrix->states[1]};
    for (uint64_t s = 0; s < 4; s++)
      for (int64_t i = 0; all[s]->data != NULL && i < all[s]->local_rows * all[s]->local_cols; i++) {
        float value = (float)test_uniform(seed * 1000 + (uint64_t)p * 10 + s, (uint64_t)i), *element;
        element = (float *)all[s]->data + i;
        if (set) *element = value;
        wrong += memcmp(element, &value, sizeof value) != 0;
      }
  }
  return wrong;
}

static void finish(eqs_saver *saver)
{
  bool moved = false;
  for (int looks = 0; !eqs_saver_idle(saver); looks++) {
    ck_assert_int_lt(looks, 60000); /* ms */
    ck_assert_ok(eqs_saver_advance(saver, &moved));
    usleep(1000);
  }
}

static eqs_status save(job *made, eqs_saver *saver, int64_t step)
{
  made->optimizer->step = step;
  return eqs_checkpoint_save_optimizer(made->optimizer, &(eqs_checkpoint_directory){.path = directory, .keep = 2},
                                       saver, NULL, 0);
}

static int count_files(void)
{
  int count = 0;
  MPI_Barrier(MPI_COMM_WORLD);
  DIR *opened = opendir(directory);
  ck_assert_ptr_nonnull(opened);
  for (struct dirent *entry = readdir(opened); entry; entry = readdir(opened)) count += entry->d_name[0] != '.';
  closedir(opened);
  MPI_Barrier(MPI_COMM_WORLD);
  return count;
}

/* The directory has the state that a seed sets, as of a step. */
static void expect(int64_t step, uint64_t seed)
{
  job read;
  eqs_checkpoint_contents contents;
  bool absent[parameters];
  open_job(&read);
  ck_assert_ok(eqs_checkpoint_restore_optimizer(read.optimizer, directory, &contents, absent));
  ck_assert_int_eq(contents.step, step);
  ck_assert_int_eq(visit(&read, seed, false), 0);
  eqs_contents_free(&contents);
  close_job(&read);
}

START_TEST(what_was_there_is_written)
{
  job made;
  eqs_saver *saver;
  open_job(&made);
  ck_assert_ok(eqs_saver_create(MPI_COMM_WORLD, &saver));
  ck_assert(eqs_saver_idle(saver));
  for (int64_t step = 1; step <= 4; step++) {
    visit(&made, (uint64_t)step, true);
    ck_assert_ok(save(&made, saver, step));
    visit(&made, 99, true);
    finish(saver);
    ck_assert_ok(eqs_saver_result(saver));
    expect(step, (uint64_t)step);
  }
  ck_assert_int_eq(count_files(), 3); /* two and `latest` */
  eqs_saver_destroy(&saver);
  close_job(&made);
}
END_TEST

/* A limit on the size of files lets the thread fail as a full disk would; the signal that comes with it is ignored. */
START_TEST(failures_are_known_afterwards)
{
  job made;
  eqs_saver *saver;
  struct rlimit whole, limited;
  open_job(&made);
  ck_assert_ok(eqs_saver_create(MPI_COMM_WORLD, &saver));
  visit(&made, 7, true);
  ck_assert_ok(save(&made, saver, 7));
  finish(saver);
  ck_assert_ok(eqs_saver_result(saver));
  int files = count_files();

  signal(SIGXFSZ, SIG_IGN);
  getrlimit(RLIMIT_FSIZE, &whole);
  limited = (struct rlimit){.rlim_cur = 0, .rlim_max = whole.rlim_max};
  for (int failing = 0; failing < test_size(); failing++) {
    visit(&made, 8, true);
    if (test_rank() == failing) setrlimit(RLIMIT_FSIZE, &limited);
    eqs_status begun = save(&made, saver, 8);
    ck_assert_int_eq(begun, failing == 0 ? EQS_IO : EQS_OK); /* the first owner reserves the space before all else */
    finish(saver);
    setrlimit(RLIMIT_FSIZE, &whole);
    if (failing > 0 && test_rank() == failing) {
      ck_assert_int_eq(eqs_saver_result(saver), EQS_IO);
      ck_assert_ptr_nonnull(strstr(eqs_error_message(), "step-00000008.h5.partial: cannot write: File too large"));
    } else {
      ck_assert_ok(eqs_saver_result(saver));
    }
    ck_assert_int_eq(count_files(), files);
    expect(7, 7);
  }

  ck_assert_ok(save(&made, saver, 8)); /* the next one is as good as any */
  finish(saver);
  ck_assert_ok(eqs_saver_result(saver));
  expect(8, 8);
  eqs_saver_destroy(&saver);
  close_job(&made);
}
END_TEST

/* The save fails on all owners at once, and none is left waiting for the others' parts of it. */
START_TEST(an_owner_without_a_thread)
{
  job made;
  eqs_saver *saver;
  open_job(&made);
  ck_assert_ok(eqs_saver_create(MPI_COMM_WORLD, &saver));
  visit(&made, 5, true);
  ck_assert_ok(save(&made, saver, 5));
  finish(saver);
  for (int failing = 0; failing < test_size(); failing++) {
    no_more_threads = test_rank() == failing;
    ck_assert_int_eq(save(&made, saver, 6), EQS_FAILED);
    no_more_threads = false;
    ck_assert_ptr_nonnull(strstr(eqs_error_message(), "cannot start a thread"));
    ck_assert(eqs_saver_idle(saver));
    ck_assert_int_eq(count_files(), 2);
    expect(5, 5);
  }
  ck_assert_ok(save(&made, saver, 6));
  finish(saver);
  ck_assert_ok(eqs_saver_result(saver));
  expect(6, 5);
  eqs_saver_destroy(&saver);
  close_job(&made);
}
END_TEST

static void go_on(eqs_saver *saver)
{
  bool moved = false;
  for (int looks = 0; looks < 300; looks++) {
    ck_assert_ok(eqs_saver_advance(saver, &moved));
    usleep(1000);
  }
}

/* The others agree when the first owner has left: nothing of it is touched any more, and the save does not count. */
START_TEST(an_owner_that_leaves)
{
  job made;
  eqs_saver *saver;
  open_job(&made);
  visit(&made, 5, true);
  test_leaks_count(false);
  ck_assert_ok(eqs_saver_create(MPI_COMM_WORLD, &saver));
  ck_assert_ok(save(&made, saver, 5));
  if (test_rank() == 0) {
    go_on(saver);
    ck_assert(!eqs_saver_idle(saver));
    eqs_saver_destroy(&saver);
  }
  MPI_Barrier(MPI_COMM_WORLD);
  if (test_rank() > 0) go_on(saver);
  ck_assert_int_eq(count_files(), 0);
  eqs_saver_destroy(&saver);
  test_leaks_count(true);
  close_job(&made);
}
END_TEST

static void make_directory(void)
{
  const char *parent = getenv("TMPDIR");
  snprintf(directory, sizeof directory, "%s/equishard-XXXXXX", parent ? parent : "/tmp");
  if (test_rank() == 0) ck_assert_ptr_nonnull(mkdtemp(directory));
  MPI_Bcast(directory, sizeof directory, MPI_BYTE, 0, MPI_COMM_WORLD);
}

static void remove_directory(void)
{
  DIR *opened;
  MPI_Barrier(MPI_COMM_WORLD);
  if (test_rank() != 0 || (opened = opendir(directory)) == NULL) return;
  for (struct dirent *entry = readdir(opened); entry; entry = readdir(opened)) {
    char path[600];
    snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
    unlink(path);
  }
  closedir(opened);
  rmdir(directory);
}

Suite *make_suite(void)
{
  Suite *suite = suite_create("saver");
  TCase *cases = tcase_create("saver");
  tcase_add_checked_fixture(cases, make_directory, remove_directory);
  tcase_add_test(cases, what_was_there_is_written);
  tcase_add_test(cases, failures_are_known_afterwards);
  tcase_add_test(cases, an_owner_without_a_thread);
  tcase_add_test_from(cases, 2, an_owner_that_leaves);
  suite_add_tcase(suite, cases);
  return suite;
}
