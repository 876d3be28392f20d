/*
 * A session on one rank: who is who, the model, and what is under way. Private to the service.
 *
 * Every collective call of the trainers has one function that all ranks run: trainers call it after they have
 * announced it, owners after they have heard the announcement.
 */
#ifndef EQS_SERVICE_SESSION_H
#define EQS_SERVICE_SESSION_H

#include "base/lookup.h"
#include "checkpoint/lock.h"
#include "checkpoint/saver.h"
#include "dist/context.h"
#include "model/model_shape.h"
#include "optimizer/optimizer.h"
#include "service/handles.h"
#include "service/policy.h"
#include "service/pull.h"
#include "service/push.h"
#include "service/rendezvous.h"
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
  EQS_COMMAND_CLIP,
  EQS_COMMAND_STEP,
  EQS_COMMAND_CHECKPOINT,
  EQS_COMMAND_PHASES,
  EQS_COMMAND_CLOSE,
} eqs_command;

/* A parameter that this trainer has added. */
typedef struct {
  eqs_parameter *handle;
  char *given_name;        /* as it was added; info has it without the segments of wrappers */
  eqs_parameter_info info; /* texts allocated */
  int64_t aliases;
  char **alias;         /* names of those that are tied to it */
  const void *initial;  /* until the session starts */
  int64_t same_address; /* index of the one added before with the same `initial`; -1: none */
  const void *put;      /* its new weight, until the next step; NULL: none */
  bool pushed;
} eqs_added_parameter;

struct eqs_session {
  eqs_rendezvous *rendezvous;
  eqs_roster roster;
  eqs_config *config;
  eqs_context context; /* of roster.comm and what is made of it */
  int64_t parameters;
  eqs_added_parameter *parameter;
  eqs_lookup *names;     /* of parameters, to their indices */
  eqs_lookup *addresses; /* of initial weights, to the index of the last parameter with it */
  eqs_handle_block *handles;
  bool resumes, if_any; /* restore a checkpoint; if there is one */
  char *resume_path;
  bool resumed;
  int *restored_group; /* of every group, its number in the restored checkpoint; -1: none. NULL: nothing was restored */
  int64_t *restored_step; /* of every parameter: steps it had taken in the restored checkpoint; -1: not in it */
  eqs_model_shape model;  /* as the program told it */
  eqs_settings *settings; /* of the next step, as trainers set them */
  int64_t pushes;         /* parameters that this trainer has pushed in the step under way */
  int64_t puts;           /* parameters that this trainer has put before it */
  bool clipped;           /* in the step under way eqs_clip_grad_norm was called */
  bool started;
  char failure[1024]; /* why `failed` */
  eqs_status failed;  /* of the collective call that failed, if one did */

  eqs_plan *plan;
  eqs_optimizer *optimizer; /* owners */
  eqs_saver *saver;         /* owners; NULL: checkpoints are written at once */
  eqs_directory_lock *lock; /* the first owner's, on the checkpoint directory; NULL: none */
  eqs_policy policy;
  eqs_push_sender push_sender;
  eqs_push_receiver push_receiver;
  eqs_work work;   /* owners */
  eqs_status late; /* of the owners' work that went on after eqs_step had returned: the next collective call's */
  eqs_pull_sender pull_sender;
  eqs_pull_receiver pull_receiver;
  eqs_pull_sender frozen_sender; /* of frozen parameters, whose weights leave once */
  eqs_pull_receiver frozen_receiver;

  eqs_step_info info;
  int64_t told; /* to all ranks */
  MPI_Request telling;
  eqs_wire own_items;    /* of this trainer, for the checkpoint that it asks for */
  eqs_wire trainer_data; /* key, size, bytes, ... of the restored checkpoint */
  eqs_traffic traffic;
  double seconds[EQS_PHASES];
};

/* EQS_USAGE, naming the call: the session has not started. */
static inline eqs_status eqs_check_started(const eqs_session *session, const char *call)
{
  return session->started ? EQS_OK : eqs_fail(EQS_USAGE, "%s is called before eqs_session_start", call);
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

/*
 * From now on that goes on in the waits of other rooms too, on comm and what is made of it (dist/context.h), with the
 * job's deadline. Work is counted in `counts`, which may be NULL.
 */
eqs_status eqs_session_attach_context(eqs_session *session, MPI_Comm comm, eqs_counts *counts);

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

/*
 * Move weights from the trainers to the owners, as they are in `weight` of every parameter that travels; where it is
 * NULL, the rows of this trainer stay as they are. Collective over the session.
 */
eqs_status eqs_move_weights(eqs_session *session, const bool *travels, const void *const *weight);

/* ----- put.c ----- */

/*
 * Tell all ranks bits that only some may know, by their disjunction: EQS_TELL_...; begin, and wait for the answer.
 * Owners have none. Collective over the session.
 */
enum { EQS_TELL_PUTS = 1 << EQS_POLICY_BITS, EQS_TELL_ITEMS = 2 << EQS_POLICY_BITS };
eqs_status eqs_begin_telling(eqs_session *session, int64_t bits);
eqs_status eqs_finish_telling(eqs_session *session, int64_t *bits);

/* Move the weights that trainers have put. Collective over the session. EQS_USAGE: they differ. */
eqs_status eqs_run_puts(eqs_session *session);

/* ----- trainer_data.c ----- */

/*
 * Pack the items of a checkpoint: those that the first trainer's count for, with the settings of the groups, and those
 * of this trainer. Not collective. EQS_USAGE.
 */
eqs_status eqs_pack_items(const eqs_session *session, const eqs_trainer_item *items, int count, eqs_wire *shared,
                          eqs_wire *own);

/* session->own_items of all trainers, on all ranks. Collective over the session. */
eqs_status eqs_share_own_items(eqs_session *session, eqs_wire *all);

/* The items of both wires; keys and bytes point into them. `items` is allocated. */
eqs_status eqs_unpack_items(eqs_wire *shared, eqs_wire *own, eqs_checkpoint_item **items, int *count);

/* What a restored checkpoint has, into session->trainer_data; and the settings from there. Not collective. */
eqs_status eqs_keep_restored_items(eqs_session *session, const eqs_checkpoint_contents *contents);
eqs_status eqs_restore_settings(eqs_session *session);

/* ----- run.c ----- */
eqs_status eqs_run_clip(eqs_session *session, eqs_wire *payload);
eqs_status eqs_run_step(eqs_session *session, eqs_wire *payload);
eqs_status eqs_run_checkpoint(eqs_session *session, eqs_wire *payload);
eqs_status eqs_run_close(eqs_session *session);
eqs_status eqs_run_phases(eqs_session *session, eqs_phase *phases, int capacity, int *count);

/*
 * The owners' result goes to everybody: all return the first owner's status and have its message and step info.
 * Collective over the session.
 */
eqs_status eqs_share_outcome(eqs_session *session, eqs_status owners_status);

/* ----- join.c ----- */

/* Where the configuration comes from: a file, or a text. */
typedef struct {
  const char *path;
  const char *text;
} eqs_config_source;

/*
 * Meet the other ranks and open a session; NULL without an error: the trainers have ended (`stays`, see
 * eqs_rendezvous_meet). Collective over comm.
 */
eqs_status eqs_session_join(MPI_Comm comm, const eqs_config_source *source, bool trains, bool stays,
                            eqs_session **session);

/* ----- session.c ----- */
void eqs_session_free(eqs_session **session);

/* Run an announced call on this rank. */
eqs_status eqs_session_run(eqs_session *session, eqs_command command, eqs_wire *payload);

/*
 * Free the session, after it ended with a status. Freeing communicators and grids needs all peers: where one is
 * lost, the memory is left to the end of the process.
 */
void eqs_session_leave(eqs_session **session, eqs_status status);

#endif
