/*
 * An owner's part of a step: it updates its matrices one by one, while gradients of others still come in and weights of
 * others leave already.
 *
 *              first gradient         eqs_step or             owners            no matrix
 *              is complete            eqs_clip_grad_norm      agree             is left
 *      IDLE ----------> RECEIVING ----------> WANTED ----------> UPDATING ----------> DONE
 *       | \                                   ^   |                                  |   |
 *       |  `--- eqs_step or clip (embedded) --'   |                                  |   |
 *       |<------------- the step is skipped ------'                                  |   |
 *       |<------------------------- the step has ended ------------------------------'   |
 *       FAILED <---------- an update failed after the trainers had left eqs_step --------'
 *
 * A failure that the owners find when they agree goes through UPDATING, too: its matrices are counted but not changed.
 *
 * A parameter may be updated *early*, before all gradients are in, where nothing of the step depends on the others
 * (no clipping, no skipping of steps) and all its owners know whether it has a gradient. Others wait until the
 * owners have agreed on the step.
 *
 * Matrices on several owners are taken in one order that is the same on all owners, so that members of different
 * grids do not wait for one another in a circle. Before one is taken its members wait for each other in a nonblocking
 * collective, which is tested now and then while this owner goes on with gradients and with matrices of its own: once
 * all have come, the blocking products depend on no trainer any more.
 */
#ifndef EQS_SERVICE_OWNER_STEP_H
#define EQS_SERVICE_OWNER_STEP_H

#include "base/index_set.h"
#include "optimizer/optimizer.h"
#include "service/push.h"

/* What is known of a parameter; matrices of this owner alone are taken in order. */
typedef struct {
  bool early;
  bool measured; /* its gradient is complete and looked at */
  int64_t alone; /* matrices that this owner alone holds */
  int64_t left;  /* of these, in the step under way */
  int64_t next;  /* no matrix before this one is left */
} eqs_parameter_updates;

/* A matrix on several owners, this one among them. */
typedef struct {
  int64_t parameter, matrix;
} eqs_shared_matrix;

typedef enum {
  EQS_STEP_IDLE,      /* no step is under way */
  EQS_STEP_RECEIVING, /* the trainers compute; gradients come in, and early parameters are updated */
  EQS_STEP_WANTED,    /* the trainers are in eqs_step: weights are wanted, the first parameter's first */
  EQS_STEP_UPDATING,  /* the owners have agreed on the step: no parameter has to wait any more */
  EQS_STEP_DONE,      /* every matrix is updated, or left as it is */
  EQS_STEP_FAILED,    /* the next collective call returns deferred_status; there are no steps any more */
} eqs_step_state;

typedef struct {
  const eqs_plan *plan;
  eqs_optimizer *optimizer;
  const eqs_push_receiver *receiver;
  eqs_parameter_updates *parameter;
  int64_t *undone;           /* of every parameter: matrices here whose new weight is not there yet */
  int64_t shares;            /* matrices on several owners */
  eqs_shared_matrix *shared; /* in the order in which they are taken */

  eqs_step_state state;
  bool in_matrix;          /* in the middle of an update, which waits for other ranks: no other is begun */
  bool held;               /* nothing is updated before the owners agree: the gradient is clipped, or weights are put */
  int64_t measured;        /* of the receiver's complete parameters, how many are measured */
  eqs_index_set startable; /* parameters with matrices of this owner alone that can be taken now */
  int64_t next_shared;
  MPI_Request rendezvous; /* of the members of the next shared matrix; MPI_REQUEST_NULL before it */
  int64_t all_finite;     /* its result: no member has a reason to leave the matrix as it is */
  eqs_status status;      /* the first failure of an update: nothing is updated after it */

  eqs_status deferred_status; /* the owners', of a step that failed after eqs_step had returned */
  char deferred_message[1024];

  int64_t updates;             /* in the step under way: matrices updated */
  int64_t updates_before_step; /* since the start: matrices updated before the trainers were in eqs_step */
} eqs_owner_step;

/* The receiver may be made later. Not collective. */
eqs_status eqs_owner_step_create(const eqs_plan *plan, eqs_optimizer *optimizer, const eqs_push_receiver *receiver,
                                 eqs_owner_step *step);
void eqs_owner_step_destroy(eqs_owner_step *step);

static inline bool eqs_owner_step_under_way(const eqs_owner_step *step)
{
  return step->state == EQS_STEP_RECEIVING || step->state == EQS_STEP_WANTED || step->state == EQS_STEP_UPDATING;
}

/* Whether the trainers are in eqs_step, or were not given all its weights yet. */
static inline bool eqs_owner_step_wanted(const eqs_owner_step *step)
{
  return step->state == EQS_STEP_WANTED || step->state == EQS_STEP_UPDATING || step->state == EQS_STEP_DONE;
}

/* IDLE to RECEIVING: the weights of the last step are no longer needed. */
void eqs_owner_step_receive(eqs_owner_step *step, int trainers);

/*
 * IDLE or RECEIVING to WANTED; stays FAILED.
 *
 * held  [in] nothing is updated before the owners agree
 */
void eqs_owner_step_want(eqs_owner_step *step, int trainers, bool held);

/* Update the next matrix if that needs no waiting; *moved is set if anything happened. UPDATING to DONE. EQS_PEER_LOST.
 */
eqs_status eqs_owner_step_advance(eqs_owner_step *step, bool *moved);

/* Measure all gradients, once they are there; nothing is updated before the owners agree. Not collective. */
eqs_status eqs_owner_step_measure(eqs_owner_step *step);

/*
 * WANTED to UPDATING, unless the step is skipped: the owners agree on it, once all gradients are in; returns their
 * common status. Updates go on meanwhile. After a failure the matrices that are left are not changed, only counted, so
 * that no member of a grid waits for another. Collective over the owners.
 *
 * other  [in] another reason of this owner for the step to fail
 */
eqs_status eqs_owner_step_agree(eqs_owner_step *step, eqs_status other);

/* The end of a step that is DONE; returns the owners' common status. Collective over the owners. */
eqs_status eqs_owner_step_end(eqs_owner_step *step);

/*
 * To IDLE; or, with a failure, to FAILED, keeping its message. Weights that are not there yet will not come: they leave
 * as they are.
 */
void eqs_owner_step_leave(eqs_owner_step *step, eqs_status status);

/* deferred_status, with its message as this rank's failure. */
eqs_status eqs_owner_step_deferred(const eqs_owner_step *step);

#endif
