#include "harness.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

_Noreturn void test_failed(const char *file, int line, const char *expression, const char *format, ...)
{
  va_list arguments;
  va_start(arguments, format);
  printf("%s:%d: rank %d of %d: ", file, line, test_rank(), test_size());
  if (format != NULL)
    vprintf(format, arguments);
  else
    printf("%s", expression);
  printf("\n");
  va_end(arguments);
  fflush(stdout);
  MPI_Abort(MPI_COMM_WORLD, EXIT_FAILURE);
  abort();
}

int test_rank(void)
{
  int rank;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  return rank;
}

int test_size(void)
{
  int size;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  return size;
}

/* Of the sanitizers' runtime, where the program is built with it. */
extern void __lsan_do_leak_check(void) __attribute__((weak));
extern void __lsan_disable(void) __attribute__((weak));
extern void __lsan_enable(void) __attribute__((weak));

void test_leaks_count(bool count)
{
  if (count && __lsan_enable != NULL) __lsan_enable();
  if (!count && __lsan_disable != NULL) __lsan_disable();
}

/* What MPI_Init leaves behind in plugins that it only tries is not ours to tell. */
static void initialize_mpi(void)
{
  test_leaks_count(false);
  MPI_Init(NULL, NULL);
  test_leaks_count(true);
}

static int left_out;

void test_leave_out(void)
{
  left_out++;
}

static uint64_t mix(uint64_t x)
{
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

double test_uniform(uint64_t seed, uint64_t index)
{
  return (double)(mix(mix(seed) ^ index) >> 11) * 0x1p-52 - 1;
}

double test_normal(uint64_t seed, uint64_t index)
{
  double u = 0.5 * (test_uniform(seed, 2 * index) + 1) + 0x1p-54, v = test_uniform(seed, 2 * index + 1);
  return sqrt(-2 * log(u)) * cos(M_PI * v);
}

int main(int argc, char **argv)
{
  (void)argc;
  initialize_mpi();
  SRunner *runner = srunner_create(make_suite());
  srunner_set_fork_status(runner, CK_NOFORK);
  srunner_run_all(runner, CK_SILENT);
  if (test_rank() == 0) {
    printf("%s on %d: %d tests passed", argv[0], test_size(), srunner_ntests_run(runner));
    printf(left_out > 0 ? ", %d need more ranks\n" : "\n", left_out);
  }
  srunner_free(runner);
  /* Now, while MPI's plugins are loaded: what they leave behind is told by their names (tests/leaks.txt). */
  if (__lsan_do_leak_check != NULL) __lsan_do_leak_check();
  MPI_Finalize();
  return EXIT_SUCCESS;
}
