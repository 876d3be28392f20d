#include "base/clock.h"

#include <sched.h>
#include <time.h>

double eqs_clock(void)
{
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void eqs_backoff(int *looks)
{
  enum { at_once = 16, yielding = 64, per_doubling = 16 };
  int look = *looks;
  if (look < 1 << 20) *looks = look + 1;
  if (look < at_once) return;
  if (look < yielding) {
    sched_yield();
    return;
  }
  long nanoseconds = 20000;
  for (int past = look - yielding; past >= per_doubling && nanoseconds < 1000000; past -= per_doubling)
    nanoseconds *= 2;
  if (nanoseconds > 1000000) nanoseconds = 1000000;
  nanosleep(&(struct timespec){.tv_nsec = nanoseconds}, NULL);
}
