/* Who is who in a session. */
#ifndef EQS_SERVICE_ROSTER_H
#define EQS_SERVICE_ROSTER_H

#include <mpi.h>

#include "base/status.h"

enum { EQS_HOST_SIZE = 64 }; /* longer names are cut */

typedef struct {
  MPI_Comm comm;               /* all ranks of the session; a duplicate */
  int trainers, owners;        /* how many */
  int *trainer_rank;           /* rank in comm of every trainer */
  int *owner_rank;             /* rank in comm of every owner */
  int trainer, owner;          /* index of this rank among them; -1 if it is none */
  char (*host)[EQS_HOST_SIZE]; /* of every rank in comm */
  MPI_Comm trainer_comm;       /* MPI_COMM_NULL if this rank is no trainer */
  MPI_Comm owner_comm;         /* MPI_COMM_NULL if this rank is no owner */
} eqs_roster;

/*
 * Make the communicators and tables. Ranks that do not train are owners; embedded: all ranks are.
 * Collective over comm, with the same `embedded` everywhere.
 */
eqs_status eqs_roster_make(MPI_Comm comm, int is_trainer, int embedded, eqs_roster *roster);

/* A failure of an owner, or one of waiting for it, in words: "owner 3 (host b)". */
enum { EQS_OWNER_NAME_SIZE = EQS_HOST_SIZE + 32 };
void eqs_roster_name_owner(const eqs_roster *roster, int owner, char name[EQS_OWNER_NAME_SIZE]);

/* Collective over the session's ranks. */
void eqs_roster_free(eqs_roster *roster);

#endif
