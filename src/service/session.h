/*
 * A session on one rank: who is who, the model, and what is under way. Private to the service.
 *
 * Every collective call of the trainers has one function that all ranks run: trainers call it after they have
 * announced it, owners after they have heard the announcement.
 */
#ifndef EQS_SERVICE_SESSION_H
#define EQS_SERVICE_SESSION_H

#include "checkpoint/saver.h"
#include "optimizer/optimizer.h"
#include "service/policy.h"
#include "service/pull.h"
#include "service/push.h"
#include "service/roster.h"
#include "service/wire.h"
#include "service/work.h"

typedef enum {
  EQS_PHASE_PUSH,       /* trainer: in eqs_push */
  EQS_PHASE_STEP,       /* trainer: in eqs_step */
  EQS_PHASE_PULL,       /* trainer: in eqs_pull */
  EQS_PHASE_WAIT,       /* owner: nothing to do */
  EQS_PHASE_RECEIVE,    /* owner: receiving and reducing gradients */
  EQS_PHASE_UPDATE,     /* owner: the optimizer's step */
  EQS_PHASE_SEND,       /* owner: packing and sending weights */
  EQS_PHASE_HIDDEN,     /* owner: of receive, update and send, what was done while no trainer waited for it */
  EQS_PHASE_CHECKPOINT, /* owner: writing checkpoints */
  EQS_PHASES
} eqs_phase_index;

typedef enum {
  EQS_COMMAND_START,
  EQS_COMMAND_STEP,
  EQS_COMMAND_CHECKPOINT,
  EQS_COMMAND_PHASES,
  EQS_COMMAND_CLOSE,
} eqs_command;

struct eqs_parameter {
  eqs_session *session;
  int64_t index;
  eqs_parameter_info info; /* name and module_type allocated */
  const void *initial;     /* until the session starts */
  bool pushed;
};

struct eqs_session {
  eqs_roster roster;
  eqs_config *config;
  int64_t parameters;
  eqs_parameter **parameter;
  bool resumes;
  char *resume_path;
  double *settings; /* of the next step, as trainers set them: the gradients' scale, then the lr of every group */
  int64_t pushes;   /* parameters that this trainer has pushed in the step under way */
  bool started;
  eqs_status failed; /* of the collective call that failed, if one did */

  eqs_plan *plan;
  eqs_optimizer *optimizer; /* owners */
  eqs_saver *saver;         /* owners; NULL: checkpoints are written at once */
  eqs_policy policy;
  eqs_push_sender push_sender;
  eqs_push_receiver push_receiver;
  eqs_work work;   /* owners */
  eqs_status late; /* of the owners' work that went on after eqs_step had returned: the next collective call's */
  eqs_pull_sender pull_sender;
  eqs_pull_receiver pull_receiver;

  eqs_step_info info;
  eqs_wire trainer_data; /* key, size, bytes, ... of the restored checkpoint */
  eqs_traffic traffic;
  double seconds[EQS_PHASES];
};

/* How many settings a step has. */
static inline int64_t eqs_setting_count(const eqs_session *session)
{
  return 1 + session->config->groups;
}

/* Whether this rank trains, owns. */
static inline bool eqs_trains(const eqs_session *session)
{
  return session->roster.trainer >= 0;
}
static inline bool eqs_owns(const eqs_session *session)
{
  return session->roster.owner >= 0;
}

/* ----- progress.c: waiting, during which everything that is under way goes on ----- */

/*
 * Send and receive what can be without waiting, and do a piece of an owner's work. *moved is set if anything happened.
 */
eqs_status eqs_session_advance(eqs_session *session, bool *moved);

/* Let that go on in the waits of other rooms too (dist/communicator.h), or end it. */
void eqs_session_set_progress(eqs_session *session);
void eqs_session_clear_progress(const eqs_session *session);

/* Seconds that this owner has spent on what is not waiting. */
double eqs_session_busy(const eqs_session *session);

/* Wait until a condition holds, or for a request. EQS_PEER_LOST: the deadline passed. */
eqs_status eqs_session_wait_until(eqs_session *session, bool (*condition)(eqs_session *session, void *context),
                                  void *context, const char *what);
eqs_status eqs_session_wait(eqs_session *session, MPI_Request *request, const char *what);

/* Broadcast a wire's bytes from a rank of the session's communicator. Collective over the session. */
eqs_status eqs_session_broadcast(eqs_session *session, int root, eqs_wire *wire, const char *what);

/*
 * Tell all ranks which collective call the trainers make, with what the first trainer has to say about it.
 * On return the payload is the first trainer's. EQS_USAGE: this trainer makes another call than the first.
 */
eqs_status eqs_session_announce(eqs_session *session, eqs_command command, eqs_wire *payload);

/* The owners' counterpart: the next call. */
eqs_status eqs_session_listen(eqs_session *session, eqs_command *command, eqs_wire *payload);

/* ----- start.c ----- */

/* Pack this trainer's parameters and its wish to resume. */
eqs_status eqs_pack_start(const eqs_session *session, eqs_wire *payload);
eqs_status eqs_run_start(eqs_session *session, eqs_wire *payload);

/* ----- run.c ----- */
eqs_status eqs_run_step(eqs_session *session, eqs_wire *payload);
eqs_status eqs_run_checkpoint(eqs_session *session, eqs_wire *payload);
eqs_status eqs_run_close(eqs_session *session);
eqs_status eqs_run_phases(eqs_session *session, eqs_phase *phases, int capacity, int *count);

/*
 * The owners' result goes to everybody: all return the first owner's status and have its message and step info.
 * Collective over the session.
 */
eqs_status eqs_share_outcome(eqs_session *session, eqs_status owners_status);

/* ----- session.c ----- */
eqs_status eqs_session_join(MPI_Comm comm, const char *config_path, bool trains, eqs_session **session);

/* Run an announced call on this rank. */
eqs_status eqs_session_run(eqs_session *session, eqs_command command, eqs_wire *payload);

/*
 * Free the session, after it ended with a status. Freeing communicators and grids needs all peers: where one is
 * lost, the memory is left to the end of the process.
 */
void eqs_session_leave(eqs_session **session, eqs_status status);

#endif
