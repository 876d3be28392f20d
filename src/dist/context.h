/*
 * What belongs to a communicator: how long waits on it last, what goes on meanwhile, and where work is counted.
 *
 * It is attached to the communicator as an MPI attribute. So every wait finds it where it is used, and sessions with
 * communicators of their own do not disturb each other. Communicators made by eqs_comm_split share it. MPI_Comm_dup
 * does not pass it on: a program may duplicate a session's communicator and keep the duplicate for longer than the
 * session.
 */
#ifndef EQS_DIST_CONTEXT_H
#define EQS_DIST_CONTEXT_H

#include <mpi.h>
#include <stdbool.h>

#include "base/status.h"

/* Work of this rank, counted from the shapes. */
typedef struct {
  double flops;            /* floating-point operations of products and eigenvalues */
  int64_t messages, bytes; /* of matrices, sent to other ranks; neither memory that a host's ranks share nor PBLAS's */
} eqs_counts;

typedef struct {
  double deadline; /* seconds without progress after which a wait fails with EQS_PEER_LOST; 0: eqs_default_deadline */
  /*
   * Called while this process waits, or between the products of a long computation; NULL: nothing goes on. *advanced is
   * set if anything happened: then the wait has its whole deadline again, because a peer that is heard of is not lost.
   */
  eqs_status (*advance)(void *owner, bool *advanced);
  void *owner;
  eqs_counts *counts; /* NULL: nothing is counted */
} eqs_context;

/* Attach a context, which has to live as long as waits on comm and its parts. Not collective. EQS_FAILED. */
eqs_status eqs_context_attach(MPI_Comm comm, const eqs_context *context);

/* The context of a communicator; one with defaults if it has none. Not collective. */
const eqs_context *eqs_context_of(MPI_Comm comm);

/* Give `to` the context of `from`, if it has one; `to` may be MPI_COMM_NULL. Not collective. */
eqs_status eqs_context_share(MPI_Comm from, MPI_Comm to);

/* MPI_Comm_split; the part has the context of comm. Collective over comm. */
eqs_status eqs_comm_split(MPI_Comm comm, int color, int key, MPI_Comm *part);

/* The environment's EQUISHARD_DEADLINE, or 1800 s. */
double eqs_default_deadline(void);

/* The deadline of waits on comm. */
double eqs_deadline(MPI_Comm comm);

/* Let go on what has to, once: for long computations, between their products. Not collective. */
eqs_status eqs_progress(MPI_Comm comm);

/* Count work of this rank. Not collective. */
void eqs_count_flops(MPI_Comm comm, double flops);
void eqs_count_messages(MPI_Comm comm, int64_t messages, int64_t bytes);

#endif
