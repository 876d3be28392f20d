/*
 * Where the ranks of a job meet before every session, on a communicator of the library's own: trainers when they open
 * one, owners when they are ready to serve. Whoever waits sleeps.
 */
#ifndef EQS_SERVICE_RENDEZVOUS_H
#define EQS_SERVICE_RENDEZVOUS_H

#include <mpi.h>
#include <stdbool.h>

#include "base/status.h"

typedef struct {
  MPI_Comm comm;         /* of the job's ranks */
  int first_trainer;     /* rank in comm */
  int trainers;          /* how many */
  int sessions;          /* that are open here */
  bool stay;             /* owners come again after a session, until the trainers end */
  MPI_Comm trainer_comm; /* of the trainers alone, once the ranks have met; MPI_COMM_NULL at owners */
  bool met;
} eqs_rendezvous;

/*
 * The rendezvous of a communicator; made when it is asked for first. Valid until MPI_Finalize.
 * Collective over comm, the first time.
 */
eqs_status eqs_rendezvous_find(MPI_Comm comm, eqs_rendezvous **rendezvous);

/* The deadline of a session that is opened, which is the job's (eqs_job_deadline) until another one is opened. */
void eqs_set_job_deadline(double seconds);

/* What a rank comes to the rendezvous for. */
typedef enum {
  EQS_COMES_TO_ASK,         /* a trainer: only to learn who is who; the others then wait on for what they came for */
  EQS_COMES_TO_TRAIN,       /* to open a session */
  EQS_COMES_TO_SERVE_ONCE,  /* an owner of one session */
  EQS_COMES_TO_SERVE_ALWAYS /* an owner that comes again after the session: it waits without limit, and trainers tell it
                               in MPI_Finalize that there are no more */
} eqs_purpose;

/*
 * Wait for all ranks, and learn who is who.
 *
 * ended   [out] the trainers have called MPI_Finalize: there is no session
 *
 * Collective. EQS_USAGE: a job without trainers; a second session of trainers whose owners serve the first one.
 * EQS_PEER_LOST.
 */
eqs_status eqs_rendezvous_meet(eqs_rendezvous *rendezvous, eqs_purpose purpose, bool *ended);

/* A session that was opened here is over; owners do not come again after one that failed. Not collective. */
void eqs_rendezvous_leave(eqs_rendezvous *rendezvous, eqs_status status);

/* The trainers end: owners that wait for another session hear that there is none. Collective over the trainers. */
void eqs_rendezvous_end(void);

#endif
