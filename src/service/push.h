/*
 * The push: gradients (and, once, initial weights) from trainers to owners. The owner adds the trainers'
 * contributions in the order of the trainers, so that the same ranks give the same bits. All that other code
 * knows of the reduction is in this header.
 */
#ifndef EQS_SERVICE_PUSH_H
#define EQS_SERVICE_PUSH_H

#include "optimizer/optimizer.h"
#include "service/ring.h"
#include "service/roster.h"
#include "service/route.h"

/* A trainer's side. */
typedef struct {
  const eqs_roster *roster;
  eqs_route route;
  eqs_ring ring;
  const void *settings; /* of the step, borrowed: as many doubles as the route says */
  const void **source;  /* of every parameter: its tensor, as the trainer holds it; NULL if not pushed */
  int64_t *missing;     /* of every bucket: pieces whose parameter was not pushed yet */
  int64_t next;         /* bucket */
  bool flushed;         /* nothing more will be pushed */
  bool held;            /* nothing is sent, until new weights have been moved */
} eqs_push_sender;

/*
 * settings, count  [in] what goes before every gradient message; the first trainer's count
 * travels          [in] of every parameter, whether it does; NULL: all do
 */
eqs_status eqs_push_sender_create(const eqs_roster *roster, const eqs_plan *plan, eqs_route_kind kind,
                                  const bool *travels, const void *settings, int64_t count, eqs_push_sender *sender);
void eqs_push_sender_destroy(eqs_push_sender *sender);

/* Begin again: nothing is pushed. */
void eqs_push_sender_reset(eqs_push_sender *sender);

/* A parameter's tensor is there; it must stay until eqs_push_sender_done. */
void eqs_push_sender_add(eqs_push_sender *sender, int64_t parameter, const void *source);

/* Send what can be sent without waiting; *moved is set if anything happened. */
eqs_status eqs_push_sender_advance(eqs_push_sender *sender, eqs_traffic *traffic, bool *moved);

/* Whether all has left. */
bool eqs_push_sender_done(const eqs_push_sender *sender);

/* An owner's side. */
typedef struct {
  const eqs_roster *roster;
  eqs_optimizer *optimizer;
  eqs_route route;
  eqs_ring ring;
  int64_t next_bucket; /* the message to post next: bucket and trainer */
  int next_trainer;
  bool all_posted;
  int64_t *messages; /* of every parameter: how many pieces of it come, from all trainers */
  int64_t *left;     /* of every parameter: how many are still to come */
  int64_t *complete; /* parameters of which all is there, in the order in which that came about */
  int64_t completes;
  const eqs_push_sender *own; /* of this rank, if it trains too: its part is copied, not sent */
  int64_t *own_bucket;        /* of every bucket, its index in the sender's route */
} eqs_push_receiver;

/* own  [in] this rank's sender, or NULL; it sends nothing to its own rank. travels is as the senders' */
eqs_status eqs_push_receiver_create(const eqs_roster *roster, const eqs_plan *plan, eqs_route_kind kind,
                                    const bool *travels, eqs_optimizer *optimizer, const eqs_push_sender *own,
                                    eqs_push_receiver *receiver);
void eqs_push_receiver_destroy(eqs_push_receiver *receiver);

/* Begin again: all parameters are absent until a trainer's message says otherwise. */
void eqs_push_receiver_reset(eqs_push_receiver *receiver);
eqs_status eqs_push_receiver_advance(eqs_push_receiver *receiver, eqs_traffic *traffic, bool *moved);
bool eqs_push_receiver_done(const eqs_push_receiver *receiver);

#endif
