/*
 * The pull: weights from owners to trainers, after every step; those of frozen parameters after the start. Owners send
 * them all, in the order of the parameters, without being asked; a trainer takes them in any order.
 */
#ifndef EQS_SERVICE_PULL_H
#define EQS_SERVICE_PULL_H

#include "optimizer/optimizer.h"
#include "service/owner_step.h"
#include "service/ring.h"
#include "service/roster.h"
#include "service/route.h"

/* An owner's side. */
typedef struct {
  const eqs_roster *roster;
  const eqs_optimizer *optimizer;
  const eqs_owner_step *step; /* knows which new weights are there */
  eqs_route route;
  eqs_ring ring;
  int64_t next_bucket; /* the message to send next: bucket and trainer */
  int next_trainer;
  char *shared;  /* buffer of a bucket that all trainers get alike, until the last has it; NULL between buckets */
  int64_t ahead; /* since the start: messages that left while other matrices of the step were not updated yet */
} eqs_pull_sender;

/* kind  [in] EQS_ROUTE_WEIGHT or EQS_ROUTE_FROZEN */
eqs_status eqs_pull_sender_create(const eqs_roster *roster, const eqs_plan *plan, eqs_route_kind kind,
                                  const eqs_optimizer *optimizer, const eqs_owner_step *step, eqs_pull_sender *sender);
void eqs_pull_sender_destroy(eqs_pull_sender *sender);

/* Begin to send all weights, each message as soon as all that it carries is there. */
void eqs_pull_sender_start(eqs_pull_sender *sender);
eqs_status eqs_pull_sender_advance(eqs_pull_sender *sender, eqs_traffic *traffic, bool *moved);
bool eqs_pull_sender_done(const eqs_pull_sender *sender);

/* A trainer's side. */
typedef struct {
  const eqs_roster *roster;
  const eqs_pull_sender *own; /* of this rank, if it owns too: its part is copied, not sent */
  int64_t *own_bucket;        /* of every bucket of this owner, its index in the sender's route */
  eqs_route route;
  eqs_ring ring;
  int64_t *offset; /* of every piece in its message */
  char **arrived;  /* of every bucket: its message, while there is something to take from it */
  int64_t *left;   /* of every bucket: pieces not yet taken */
  bool *available; /* of every parameter: there is a new value that was not taken */
  int64_t next;    /* bucket to post next */
  int64_t taken;   /* buckets received and used up */
  int64_t wanted;  /* buckets up to here are asked for, however many wait to be taken */
  bool discards;   /* nothing more will be taken */
} eqs_pull_receiver;

/* kind is as the senders'. own  [in] this rank's sender, or NULL; it sends nothing to its own rank */
eqs_status eqs_pull_receiver_create(const eqs_roster *roster, const eqs_plan *plan, eqs_route_kind kind,
                                    const eqs_pull_sender *own, eqs_pull_receiver *receiver);
void eqs_pull_receiver_destroy(eqs_pull_receiver *receiver);

/* New weights are on their way. */
void eqs_pull_receiver_start(eqs_pull_receiver *receiver);

/* Throw away what was not taken, as it comes, until eqs_pull_receiver_done. */
eqs_status eqs_pull_receiver_discard(eqs_pull_receiver *receiver);
eqs_status eqs_pull_receiver_advance(eqs_pull_receiver *receiver, eqs_traffic *traffic, bool *moved);
bool eqs_pull_receiver_done(const eqs_pull_receiver *receiver);

/*
 * Whether all of a parameter is there; asks for it if not.
 *
 * owner  [out] one whose part is not there; -1: none
 */
bool eqs_pull_receiver_has(eqs_pull_receiver *receiver, int64_t parameter, int *owner);

/* Copy a parameter that is there to where the trainer holds it. */
eqs_status eqs_pull_receiver_take(eqs_pull_receiver *receiver, int64_t parameter, void *weight);

#endif
