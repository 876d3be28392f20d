/*
 * An owner's work in a step: the updates of its matrices, one by one, while gradients of others still come in and
 * weights of others leave already.
 *
 * A parameter may be updated *early*, before all gradients are in, where nothing of the step depends on the others
 * (no clipping, no skipping of steps) and all its owners know whether it has a gradient. Others wait until the
 * owners have agreed on the step.
 *
 * Matrices on several owners are taken in one order that is the same on all owners, so that members of different
 * grids do not wait for one another in a circle. Before one is taken its members meet, by a collective that is only
 * looked at now and then, while this owner goes on with gradients and with matrices of its own: once all have come,
 * the blocking products depend on no trainer any more.
 */
#ifndef EQS_SERVICE_WORK_H
#define EQS_SERVICE_WORK_H

#include "base/index_set.h"
#include "optimizer/optimizer.h"
#include "service/push.h"

/* What is known of a parameter; matrices of this owner alone are taken in order. */
typedef struct {
  bool early;
  bool surveyed;
  int64_t alone; /* matrices that this owner alone holds */
  int64_t left;  /* of these, in the step under way */
  int64_t next;  /* no matrix before this one is left */
} eqs_parameter_work;

/* A matrix on several owners, this one among them. */
typedef struct {
  int64_t parameter, matrix;
} eqs_shared_matrix;

typedef struct {
  const eqs_plan *plan;
  eqs_optimizer *optimizer;
  const eqs_push_receiver *receiver;
  eqs_parameter_work *parameter;
  int64_t *undone;           /* of every parameter: matrices here whose new weight is not there yet */
  int64_t shares;            /* matrices on several owners */
  eqs_shared_matrix *shared; /* in the order in which they are taken */

  bool begun;              /* a step is under way */
  bool announced;          /* the trainers are in eqs_step: weights are wanted, the first parameter's first */
  bool agreed;             /* the owners have agreed on the step: no parameter has to wait any more */
  bool busy;               /* in the middle of a matrix: no other is taken */
  int64_t surveys;         /* of the receiver's complete parameters, how many were surveyed */
  eqs_index_set startable; /* parameters with matrices of this owner alone that can be taken now */
  int64_t next_shared;
  MPI_Request meeting; /* of the members of the next shared matrix; MPI_REQUEST_NULL if it was not called */
  int64_t sound;       /* what the meeting finds: whether no member has a reason to leave the matrix as it is */
  eqs_status status;   /* the first failure of an update: nothing is updated after it */

  bool held;                   /* nothing is updated before the step is agreed on */
  int64_t updates;             /* in the step under way: matrices updated */
  int64_t updates_before_step; /* since the start: matrices updated before the trainers were in eqs_step */
} eqs_work;

/* The receiver may be made later. Not collective. */
eqs_status eqs_work_create(const eqs_plan *plan, eqs_optimizer *optimizer, const eqs_push_receiver *receiver,
                           eqs_work *work);
void eqs_work_destroy(eqs_work *work);

/* Begin a step: the weights of the last one are no longer needed. */
void eqs_work_begin(eqs_work *work, int trainers);

/* Do a piece of the work that can be done without waiting; *moved is set if there was one. EQS_PEER_LOST. */
eqs_status eqs_work_advance(eqs_work *work, bool *moved);

/* Look at all gradients, once they are there; nothing is updated meanwhile. Not collective. */
eqs_status eqs_work_survey(eqs_work *work);

/*
 * The owners agree on the step, once all gradients are in; returns their common status. `other` is another reason of
 * this owner for the step to fail. Updates go on meanwhile.
 * After a failure those that are left are only settled, so that no member of a grid waits for another: nothing is
 * changed. Collective over the owners.
 */
eqs_status eqs_work_agree(eqs_work *work, eqs_status other);

/* Whether nothing is left but eqs_work_end. */
bool eqs_work_done(const eqs_work *work);

/* The end of a step that was not skipped; returns the owners' common status. Collective over the owners. */
eqs_status eqs_work_end(eqs_work *work);

/* No step is under way any more; weights that are not there yet will not come: they leave as they are. */
void eqs_work_leave(eqs_work *work);

#endif
