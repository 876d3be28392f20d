#include "service/policy.h"

#include <signal.h>
#include <unistd.h>

#include "base/clock.h"

enum { WISH_TIME = 1, WISH_STOP = 2 };
_Static_assert(WISH_STOP < 1 << EQS_POLICY_BITS, "wishes need more bits");

static const int signals[] = {SIGUSR1, SIGTERM};
enum { signal_count = sizeof signals / sizeof *signals };

static volatile sig_atomic_t signalled;
static int sessions;                /* that catch signals */
static volatile pid_t rank_process; /* whose handler it is: a process forked from it inherits the handler */

/*
 * A child that its parent terminates (a worker of multiprocessing) is to end. SIGUSR1 it only gets because mpirun sends
 * it to the rank's whole process group.
 */
static void note_signal(int number)
{
  if (getpid() == rank_process) {
    signalled = 1;
  } else if (number == SIGTERM) {
    signal(number, SIG_DFL);
    raise(number); /* as soon as this returns */
  }
}

static bool handler_is(int number, void (*handler)(int))
{
  struct sigaction now;
  return sigaction(number, NULL, &now) == 0 && !(now.sa_flags & SA_SIGINFO) && now.sa_handler == handler;
}

void eqs_policy_begin(const eqs_config *config, eqs_policy *policy)
{
  struct sigaction action = {.sa_handler = note_signal, .sa_flags = SA_RESTART};
  *policy = (eqs_policy){.last = eqs_clock(), .saved = true, .catches = config->checkpoint.directory != NULL};
  if (!policy->catches || sessions++ > 0) return;
  rank_process = getpid();
  for (int s = 0; s < signal_count; s++)
    if (handler_is(signals[s], SIG_DFL)) sigaction(signals[s], &action, NULL);
}

void eqs_policy_end(eqs_policy *policy)
{
  bool last = policy->catches && --sessions == 0;
  policy->catches = false;
  if (!last) return;
  for (int s = 0; s < signal_count; s++)
    if (handler_is(signals[s], note_signal)) signal(signals[s], SIG_DFL);
  signalled = 0;
}

int64_t eqs_policy_wish(const eqs_config *config, eqs_policy *policy, bool keeps_time)
{
  double seconds = 60 * config->checkpoint.minutes;
  policy->saved = false;
  if (config->checkpoint.directory == NULL) return 0;
  int64_t wishes = signalled ? WISH_STOP : 0;
  if (keeps_time && seconds > 0 && eqs_clock() - policy->last >= seconds) wishes |= WISH_TIME;
  return wishes;
}

void eqs_policy_hear(eqs_policy *policy, int64_t wishes)
{
  policy->wishes = wishes;
}

void eqs_policy_saved(eqs_policy *policy)
{
  policy->last = eqs_clock();
  policy->saved = true;
}

bool eqs_policy_due(const eqs_config *config, const eqs_policy *policy, const eqs_step_info *info)
{
  int64_t every = config->checkpoint.every, end = config->schedule.steps;
  if (policy->saved) return false;
  if (every > 0 && info->step > 0 && !info->skipped_last && info->step % every == 0) return true;
  if (config->checkpoint.directory == NULL) return false;
  return policy->wishes != 0 || (end > 0 && info->step + info->skipped == end);
}

bool eqs_policy_stops(const eqs_policy *policy)
{
  return (policy->wishes & WISH_STOP) != 0;
}
