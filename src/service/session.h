/*
 * A session on one rank: who is who, the model, and what is under way. Private to the service.
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
#include "service/owner_step.h"
#include "service/policy.h"
#include "service/pull.h"
#include "service/push.h"
#include "service/rendezvous.h"
#include "service/roster.h"
#include "service/wire.h"

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

/* What is broadcast first: small payloads travel with it. */
typedef struct {
  int64_t size;
  char bytes[1016];
} eqs_envelope;

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
  eqs_owner_step step; /* owners */
  eqs_pull_sender pull_sender;
  eqs_pull_receiver pull_receiver;
  eqs_pull_sender frozen_sender; /* of frozen parameters, whose weights leave once */
  eqs_pull_receiver frozen_receiver;

  eqs_step_info info;
  eqs_envelope envelope; /* here, because MPI may still write to it after a deadline: a lost session is not freed */
  int64_t notices;       /* of all ranks, before a step, a clipping or a checkpoint: EQS_NOTICE_... */
  MPI_Request notices_request;
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

/* This owner's failure, with its number and host; EQS_OK stays. */
static inline eqs_status eqs_fail_of_owner(const eqs_session *session, eqs_status status)
{
  char name[EQS_OWNER_NAME_SIZE];
  if (status == EQS_OK) return EQS_OK;
  eqs_roster_name_owner(&session->roster, session->roster.owner, name);
  return eqs_fail_in(status, "%s", name);
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

/* Free a session that nobody uses any more: collective over its ranks. Sets *session to NULL. */
void eqs_session_free(eqs_session **session);

#endif
