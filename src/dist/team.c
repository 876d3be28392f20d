#include "dist/team.h"

#include <math.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "dist/communicator.h"
#include "dist/context.h"
#include "dist/scalapack.h"

/* At the beginning of a segment; the matrices follow. */
typedef struct {
  atomic_int arrived, generation;
} meeting_point;

enum { header_bytes = 4096 };

struct eqs_team_segment {
  MPI_Win window; /* MPI_WIN_NULL: memory of this rank alone */
  meeting_point *meeting;
  float *memory;
  int64_t floats;
  MPI_Comm comm; /* of the whole team; borrowed */
};

static int forced_host_ranks;

void eqs_team_set_host_ranks(int ranks)
{
  forced_host_ranks = ranks;
}

static void free_communicator(MPI_Comm *comm)
{
  if (*comm != MPI_COMM_NULL) MPI_Comm_free(comm);
}

/* Who is on which host: hosts are numbered by their lowest rank. */
static eqs_status number_ranks(MPI_Comm comm, eqs_team *team)
{
  eqs_status status = EQS_OK;
  MPI_Comm leaders = MPI_COMM_NULL;
  int rank, mine[2];
  MPI_Comm_rank(comm, &rank);
  MPI_Comm_rank(team->host_comm, &team->host_rank);
  MPI_Comm_size(team->host_comm, &team->host_ranks);
  EQS_TRY(eqs_comm_split(comm, team->host_rank == 0 ? 0 : MPI_UNDEFINED, rank, &leaders));
  if (team->host_rank == 0) {
    MPI_Comm_rank(leaders, &mine[0]);
    MPI_Comm_size(leaders, &mine[1]);
  }
  EQS_TRY(eqs_check_mpi(MPI_Bcast(mine, 2, MPI_INT, 0, team->host_comm), "MPI_Bcast"));
  team->host = mine[0], team->hosts = mine[1];
  EQS_TRY(eqs_allocate(&team->first, (int64_t)team->hosts + 1, sizeof *team->first));
  if (team->host_rank == 0)
    EQS_TRY(eqs_check_mpi(MPI_Allgather(&team->host_ranks, 1, MPI_INT, team->first + 1, 1, MPI_INT, leaders),
                          "MPI_Allgather"));
  EQS_TRY(eqs_check_mpi(MPI_Bcast(team->first + 1, team->hosts, MPI_INT, 0, team->host_comm), "MPI_Bcast"));
  for (int h = 0; h < team->hosts; h++) team->first[h + 1] += team->first[h];
  team->number = team->first[team->host] + team->host_rank;
  if (team->hosts > 1) {
    team->leaders = leaders;
    leaders = MPI_COMM_NULL;
  }
  if (team->host_ranks == 1) free_communicator(&team->host_comm);
cleanup:
  free_communicator(&leaders);
  return status;
}

/* Hosts of `ranks` ranks each, or as they are. */
static eqs_status find_hosts(MPI_Comm comm, int ranks, eqs_team *team)
{
  eqs_status status = EQS_OK;
  int rank;
  MPI_Comm_rank(comm, &rank);
  if (ranks > 0) {
    EQS_TRY(eqs_comm_split(comm, rank / ranks, rank, &team->host_comm));
  } else {
    EQS_TRY(eqs_check_mpi(MPI_Comm_split_type(comm, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &team->host_comm),
                          "MPI_Comm_split_type"));
    EQS_TRY(eqs_context_share(comm, team->host_comm));
  }
  EQS_TRY(number_ranks(comm, team));
cleanup:
  return status;
}

static void forget_hosts(eqs_team *team)
{
  free_communicator(&team->host_comm);
  free_communicator(&team->leaders);
  free(team->first);
  team->first = NULL;
}

eqs_status eqs_team_create(MPI_Comm comm, eqs_team *team)
{
  eqs_status status = EQS_OK;
  *team = (eqs_team){.ranks = 1, .hosts = 1, .host_ranks = 1, .host_comm = MPI_COMM_NULL, .leaders = MPI_COMM_NULL};
  EQS_TRY(eqs_allocate(&team->segment, 1, sizeof *team->segment));
  *team->segment = (eqs_team_segment){.window = MPI_WIN_NULL, .comm = comm};
  if (comm == MPI_COMM_NULL) {
    EQS_TRY(eqs_allocate(&team->first, 2, sizeof *team->first));
    team->first[1] = 1;
  } else {
    MPI_Comm_size(comm, &team->ranks);
    EQS_TRY(find_hosts(comm, forced_host_ranks, team));
  }
cleanup:
  return status;
}

static void release(eqs_team_segment *segment)
{
  if (segment->window != MPI_WIN_NULL) {
    MPI_Win_unlock_all(segment->window);
    MPI_Win_free(&segment->window);
  } else {
    free(segment->meeting);
  }
  segment->meeting = NULL;
  segment->memory = NULL;
  segment->floats = 0;
}

void eqs_team_destroy(eqs_team *team)
{
  if (team->segment == NULL) return;
  release(team->segment);
  free(team->segment);
  forget_hosts(team);
  *team = (eqs_team){.host_comm = MPI_COMM_NULL, .leaders = MPI_COMM_NULL};
}

/* The host's leader makes it, the others see it. Not an error if there is no room: *made says so. */
static bool share_memory(eqs_team *team, int64_t bytes)
{
  eqs_team_segment *segment = team->segment;
  void *base = NULL;
  MPI_Aint size;
  int unit;
  MPI_Comm_set_errhandler(team->host_comm, MPI_ERRORS_RETURN);
  if (MPI_Win_allocate_shared(team->host_rank == 0 ? (MPI_Aint)bytes : 0, 1, MPI_INFO_NULL, team->host_comm, &base,
                              &segment->window) != MPI_SUCCESS) {
    segment->window = MPI_WIN_NULL;
    return false;
  }
  MPI_Win_shared_query(segment->window, 0, &size, &unit, &base);
  MPI_Win_lock_all(MPI_MODE_NOCHECK, segment->window);
  segment->meeting = base;
  return true;
}

static eqs_status allocate_segment(eqs_team *team, int64_t floats)
{
  eqs_status status = EQS_OK;
  eqs_team_segment *segment = team->segment;
  int64_t bytes = floats * (int64_t)sizeof(float) + header_bytes, shared = 1;
  if (team->host_ranks > 1) shared = share_memory(team, bytes);
  if (segment->comm != MPI_COMM_NULL) EQS_TRY(eqs_minimum(segment->comm, &shared, 1, "memory of a process grid"));
  if (!shared) { /* somewhere there is no room: each rank for itself */
    if (segment->window != MPI_WIN_NULL) release(segment);
    forget_hosts(team);
    EQS_TRY(find_hosts(segment->comm, 1, team));
  }
  if (team->host_ranks == 1) EQS_TRY(eqs_allocate_raw(&segment->meeting, bytes, 1));
  if (team->host_rank == 0) {
    memset(segment->meeting, 0, header_bytes);
    atomic_init(&segment->meeting->arrived, 0);
    atomic_init(&segment->meeting->generation, 0);
    memset((char *)segment->meeting + header_bytes, 0, (size_t)(bytes - header_bytes));
  }
  if (team->host_comm != MPI_COMM_NULL) {
    MPI_Request request;
    EQS_TRY(eqs_check_mpi(MPI_Ibarrier(team->host_comm, &request), "MPI_Ibarrier"));
    EQS_TRY(eqs_wait(team->host_comm, &request, "the other ranks of a process grid"));
  }
  segment->memory = (float *)(void *)((char *)segment->meeting + header_bytes);
  segment->floats = floats;
cleanup:
  return status;
}

eqs_status eqs_team_reserve(eqs_team *team, int64_t floats, float **memory)
{
  eqs_status status = EQS_OK;
  if (team->segment->floats < floats) {
    release(team->segment);
    EQS_TRY(allocate_segment(team, floats));
  }
  *memory = team->segment->memory;
cleanup:
  return status;
}

/* Ranks arrive within microseconds of each other where each has a core: look often at first. */
static void pause_a_moment(bool a_core_each, int *looks)
{
  const int at_once = a_core_each ? 4000 : 0, yielding = at_once + (a_core_each ? 4000 : 400);
  if (*looks < at_once) {
    ++*looks;
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  } else if (*looks < yielding) {
    ++*looks;
    sched_yield();
  } else {
    int sleeping = *looks - yielding + 64; /* past the looks of eqs_backoff that do not sleep */
    eqs_backoff(&sleeping);
    *looks = yielding + sleeping - 64;
  }
}

eqs_status eqs_team_wait(eqs_team *team)
{
  meeting_point *meeting = team->segment->meeting;
  int looks = 0;
  if (team->host_ranks == 1) return EQS_OK;
  int generation = atomic_load(&meeting->generation);
  if (atomic_fetch_add(&meeting->arrived, 1) + 1 == team->host_ranks) {
    atomic_store(&meeting->arrived, 0);
    atomic_fetch_add(&meeting->generation, 1);
    return EQS_OK;
  }
  bool a_core_each = team->host_ranks <= sysconf(_SC_NPROCESSORS_ONLN);
  double begin = eqs_clock(), deadline = eqs_deadline(team->host_comm);
  while (atomic_load(&meeting->generation) == generation) {
    pause_a_moment(a_core_each, &looks);
    if (looks % 64 == 0) {
      eqs_status status = eqs_progress(team->host_comm);
      if (status != EQS_OK) return status;
    }
    bool looks_rarely = looks % 1024 == 0 || looks > 8000;
    if (looks_rarely && eqs_clock() - begin > deadline)
      return eqs_fail_waiting(deadline, "the other ranks of a process grid");
  }
  return EQS_OK;
}

int64_t eqs_team_first_row(const eqs_team *team, int64_t n, int64_t step, int number)
{
  if (number >= team->ranks) return n;
  int64_t row = (int64_t)((double)n * sqrt((double)number / team->ranks) / (double)step + 0.5) * step;
  return row < n ? row : n;
}

/* Counts and places of the hosts' parts, in the 32 bits of MPI. */
static eqs_status describe_parts(const eqs_team *team, const int64_t *first, int **counts, int **places)
{
  eqs_status status = EQS_OK;
  *counts = *places = NULL;
  EQS_TRY(eqs_allocate(counts, team->hosts, sizeof **counts));
  EQS_TRY(eqs_allocate(places, team->hosts, sizeof **places));
  for (int h = 0; h < team->hosts; h++) {
    EQS_TRY(eqs_to_int(first[h + 1] - first[h], *counts + h));
    EQS_TRY(eqs_to_int(first[h], *places + h));
  }
cleanup:
  return status;
}

eqs_status eqs_team_exchange(const eqs_team *team, const int64_t *first, float *packed)
{
  eqs_status status = EQS_OK;
  int *counts = NULL, *places = NULL;
  MPI_Request request;
  EQS_TRY(describe_parts(team, first, &counts, &places));
  EQS_TRY(eqs_check_mpi(
      MPI_Iallgatherv(MPI_IN_PLACE, 0, MPI_FLOAT, packed, counts, places, MPI_FLOAT, team->leaders, &request),
      "MPI_Iallgatherv"));
  EQS_TRY(eqs_wait(team->leaders, &request, "the other hosts of a process grid"));
  eqs_count_messages(team->leaders, team->hosts - 1, (team->hosts - 1) * (int64_t)sizeof *packed * counts[team->host]);
cleanup:
  free(counts);
  free(places);
  return status;
}

eqs_status eqs_team_reduce(const eqs_team *team, const int64_t *first, float *packed)
{
  eqs_status status = EQS_OK;
  int *counts = NULL, *places = NULL;
  float *sum = NULL;
  MPI_Request request;
  EQS_TRY(describe_parts(team, first, &counts, &places));
  EQS_TRY(eqs_allocate_raw(&sum, counts[team->host], sizeof *sum));
  EQS_TRY(eqs_check_mpi(MPI_Ireduce_scatter(packed, sum, counts, MPI_FLOAT, MPI_SUM, team->leaders, &request),
                        "MPI_Ireduce_scatter"));
  EQS_TRY(eqs_wait(team->leaders, &request, "the other hosts of a process grid"));
  eqs_count_messages(team->leaders, team->hosts - 1,
                     (first[team->hosts] - counts[team->host]) * (int64_t)sizeof *packed);
  if (counts[team->host] > 0) memcpy(packed + first[team->host], sum, (size_t)counts[team->host] * sizeof *sum);
cleanup:
  free(counts);
  free(places);
  free(sum);
  return status;
}
