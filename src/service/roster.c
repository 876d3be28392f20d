#include "service/roster.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/memory.h"
#include "dist/communicator.h"
#include "dist/context.h"

/* The members' communicator, and the rank in comm of each of them. */
static eqs_status make_side(MPI_Comm comm, int member, MPI_Comm *side, int *count, int **rank_of, int *index)
{
  eqs_status status = EQS_OK;
  int size, rank;
  int *members = NULL;
  MPI_Comm_size(comm, &size);
  MPI_Comm_rank(comm, &rank);
  *count = 0, *index = -1;
  EQS_TRY(eqs_comm_split(comm, member ? 0 : MPI_UNDEFINED, rank, side));
  EQS_TRY(eqs_allocate(&members, size, sizeof *members));
  EQS_TRY(eqs_check_mpi(MPI_Allgather(&member, 1, MPI_INT, members, 1, MPI_INT, comm), "MPI_Allgather"));
  EQS_TRY(eqs_allocate(rank_of, size, sizeof **rank_of));
  for (int r = 0; r < size; r++) {
    if (!members[r]) continue;
    if (r == rank) *index = *count;
    (*rank_of)[(*count)++] = r;
  }
cleanup:
  free(members);
  return status;
}

static eqs_status share_hosts(eqs_roster *roster)
{
  eqs_status status = EQS_OK;
  char host[EQS_HOST_SIZE] = "";
  int size;
  MPI_Comm_size(roster->comm, &size);
  if (gethostname(host, sizeof host - 1) != 0) snprintf(host, sizeof host, "unknown");
  EQS_TRY(eqs_allocate(&roster->host, size, sizeof *roster->host));
  EQS_TRY(eqs_check_mpi(MPI_Allgather(host, sizeof host, MPI_CHAR, roster->host, sizeof host, MPI_CHAR, roster->comm),
                        "MPI_Allgather"));
cleanup:
  return status;
}

eqs_status eqs_roster_make(MPI_Comm comm, int is_trainer, int embedded, eqs_roster *roster)
{
  eqs_status status = EQS_OK;
  *roster = (eqs_roster){.comm = comm, .trainer_comm = MPI_COMM_NULL, .owner_comm = MPI_COMM_NULL};
  EQS_TRY(
      make_side(comm, is_trainer, &roster->trainer_comm, &roster->trainers, &roster->trainer_rank, &roster->trainer));
  EQS_TRY(make_side(comm, embedded || !is_trainer, &roster->owner_comm, &roster->owners, &roster->owner_rank,
                    &roster->owner));
  EQS_TRY(share_hosts(roster));
cleanup:
  return status;
}

void eqs_roster_name_owner(const eqs_roster *roster, int owner, char name[EQS_OWNER_NAME_SIZE])
{
  snprintf(name, EQS_OWNER_NAME_SIZE, "owner %d (host %s)", owner, roster->host[roster->owner_rank[owner]]);
}

void eqs_roster_free(eqs_roster *roster)
{
  if (roster->trainer_comm != MPI_COMM_NULL) MPI_Comm_free(&roster->trainer_comm);
  if (roster->owner_comm != MPI_COMM_NULL) MPI_Comm_free(&roster->owner_comm);
  if (roster->comm != MPI_COMM_NULL) MPI_Comm_free(&roster->comm);
  free(roster->trainer_rank);
  free(roster->owner_rank);
  free(roster->host);
}
