#include "service/rendezvous.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "dist/communicator.h"
#include "dist/context.h"

/* Of every communicator that sessions were opened on. */
typedef struct entry {
  struct entry *next;
  bool stale; /* the program has freed its communicator */
  eqs_rendezvous rendezvous;
} entry;

static entry *entries;
static int comm_keyval = MPI_KEYVAL_INVALID;
static double job_deadline; /* 0: no session has been opened */

/* What the ranks tell one another, by its maximum. */
typedef struct {
  int first_trainer; /* size - rank: the greatest is the first's */
  int ended;
  int stays;
  int asks; /* only to learn who is who */
} words;
enum { word_count = sizeof(words) / sizeof(int) };

void eqs_set_job_deadline(double seconds)
{
  job_deadline = seconds;
}

double eqs_job_deadline(void)
{
  return job_deadline > 0 ? job_deadline : eqs_default_deadline();
}

/* Wait for a request, asleep most of the time; not longer than the deadline, if `limited`. */
static eqs_status wait_asleep(MPI_Request *request, bool limited, const char *what)
{
  eqs_status status = EQS_OK;
  double begin = eqs_clock();
  int looks = 0, done = 0;
  for (;;) {
    EQS_TRY(eqs_check_mpi(MPI_Test(request, &done, MPI_STATUS_IGNORE), "MPI_Test"));
    if (done) return EQS_OK;
    if (limited && eqs_clock() - begin > eqs_job_deadline()) return eqs_fail_waiting(eqs_job_deadline(), what);
    eqs_backoff(&looks);
  }
cleanup:
  return status;
}

static eqs_status exchange(eqs_rendezvous *rendezvous, words *mine, bool limited, const char *what)
{
  eqs_status status = EQS_OK;
  words all;
  MPI_Request request;
  EQS_TRY(eqs_check_mpi(MPI_Iallreduce(mine, &all, word_count, MPI_INT, MPI_MAX, rendezvous->comm, &request),
                        "MPI_Iallreduce"));
  EQS_TRY(wait_asleep(&request, limited, what));
  *mine = all;
cleanup:
  return status;
}

void eqs_rendezvous_end(void)
{
  for (entry *e = entries; e != NULL; e = e->next) {
    words mine = {.ended = 1};
    if (e->rendezvous.stay && !e->stale) exchange(&e->rendezvous, &mine, true, "the owners' end");
    e->rendezvous.stay = false;
  }
}

static int forget_communicator(MPI_Comm comm, int keyval, void *value, void *extra)
{
  (void)comm, (void)keyval, (void)extra;
  ((entry *)value)->stale = true;
  return MPI_SUCCESS;
}

static eqs_status create(MPI_Comm comm, entry **result)
{
  eqs_status status = EQS_OK;
  entry *made = NULL;
  MPI_Request request;
  if (comm_keyval == MPI_KEYVAL_INVALID)
    EQS_TRY(eqs_check_mpi(MPI_Comm_create_keyval(MPI_COMM_NULL_COPY_FN, forget_communicator, &comm_keyval, NULL),
                          "MPI_Comm_create_keyval"));
  EQS_TRY(eqs_allocate(&made, 1, sizeof *made));
  made->rendezvous.trainer_comm = MPI_COMM_NULL;
  EQS_TRY(eqs_check_mpi(MPI_Comm_idup(comm, &made->rendezvous.comm, &request), "MPI_Comm_idup"));
  EQS_TRY(wait_asleep(&request, false, "the other ranks"));
  MPI_Comm_set_errhandler(made->rendezvous.comm, MPI_ERRORS_RETURN);
  EQS_TRY(eqs_check_mpi(MPI_Comm_set_attr(comm, comm_keyval, made), "MPI_Comm_set_attr"));
  made->next = entries;
  entries = *result = made;
  made = NULL;
cleanup:
  free(made);
  return status;
}

eqs_status eqs_rendezvous_find(MPI_Comm comm, eqs_rendezvous **rendezvous)
{
  eqs_status status = EQS_OK;
  entry *found = NULL;
  int exists = 0;
  *rendezvous = NULL;
  if (comm_keyval != MPI_KEYVAL_INVALID)
    EQS_TRY(eqs_check_mpi(MPI_Comm_get_attr(comm, comm_keyval, &found, &exists), "MPI_Comm_get_attr"));
  if (!exists) EQS_TRY(create(comm, &found));
  *rendezvous = &found->rendezvous;
cleanup:
  return status;
}

/* Owners serve one session at a time; they would not hear of a second one. All trainers find this alike. */
static eqs_status refuse_second(const eqs_rendezvous *rendezvous)
{
  int rank, size;
  MPI_Comm_rank(rendezvous->comm, &rank);
  MPI_Comm_size(rendezvous->comm, &size);
  if (rendezvous->sessions == 0 || rendezvous->trainers == size) return EQS_OK;
  eqs_status status =
      eqs_fail(EQS_USAGE, "a session is open: the owners of a service job serve one at a time; close it "
                          "first, or configure `mode: embedded`");
  if (rank == rendezvous->first_trainer) eqs_log(EQS_LOG_ERROR, "%s", eqs_error_message());
  return status;
}

/* Count the trainers, and give them a communicator of their own. */
static eqs_status learn_roles(eqs_rendezvous *rendezvous, bool trains)
{
  eqs_status status = EQS_OK;
  int rank, one = trains;
  MPI_Request request;
  MPI_Comm_rank(rendezvous->comm, &rank);
  EQS_TRY(eqs_check_mpi(MPI_Iallreduce(&one, &rendezvous->trainers, 1, MPI_INT, MPI_SUM, rendezvous->comm, &request),
                        "MPI_Iallreduce"));
  EQS_TRY(wait_asleep(&request, true, "the other ranks' roles"));
  if (rendezvous->trainers == 0) {
    status = eqs_fail(EQS_USAGE, "the job has owners but no trainer");
    if (rank == 0) eqs_log(EQS_LOG_ERROR, "%s", eqs_error_message()); /* all ranks find it */
    goto cleanup;
  }
  if (!rendezvous->met)
    EQS_TRY(eqs_check_mpi(MPI_Comm_split(rendezvous->comm, trains ? 0 : MPI_UNDEFINED, rank, &rendezvous->trainer_comm),
                          "MPI_Comm_split"));
  rendezvous->met = true;
cleanup:
  return status;
}

eqs_status eqs_rendezvous_meet(eqs_rendezvous *rendezvous, eqs_purpose purpose, bool *ended)
{
  eqs_status status = EQS_OK;
  bool asks = purpose == EQS_COMES_TO_ASK, trains = asks || purpose == EQS_COMES_TO_TRAIN;
  bool stays = purpose == EQS_COMES_TO_SERVE_ALWAYS;
  int size, rank;
  words all;
  MPI_Comm_rank(rendezvous->comm, &rank);
  MPI_Comm_size(rendezvous->comm, &size);
  *ended = false;
  if (trains) EQS_TRY(refuse_second(rendezvous));
  do {
    all = (words){.first_trainer = trains ? size - rank : 0, .stays = stays, .asks = asks};
    EQS_TRY(exchange(rendezvous, &all, !stays && rendezvous->trainers > 0, "the other ranks' next session"));
    *ended = all.ended;
    if (all.ended && trains)
      EQS_TRY(eqs_fail(EQS_PEER_LOST, "a session is opened, but another trainer has called MPI_Finalize"));
    if (all.ended) goto cleanup;
    rendezvous->first_trainer = size - all.first_trainer;
    rendezvous->stay = trains && all.stays;
    EQS_TRY(learn_roles(rendezvous, trains));
  } while (all.asks && !asks);
  if (!asks) rendezvous->sessions++;
cleanup:
  return status;
}

void eqs_rendezvous_leave(eqs_rendezvous *rendezvous, eqs_status status)
{
  if (rendezvous->sessions > 0) rendezvous->sessions--;
  if (status != EQS_OK) rendezvous->stay = false;
}
