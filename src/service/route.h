/*
 * Routes: which pieces of which parameters go between trainers and owners, in which messages, in which order.
 * Computed alike on every rank from the plan; a rank keeps only the pieces that it sends or receives.
 *
 * A *piece* is one fragment (dist/fragment.h) of at most one message's size: a range of a tensor's rows within one
 * shard. A *bucket* is the content of one message between an owner and a trainer: consecutive pieces of that owner, so
 * that many small parameters travel in few messages. Buckets do not depend on the trainer; what a trainer has of a
 * bucket does, if it holds a tensor as Shard(0). A trainer handles buckets in the order in which they fill up, an owner
 * in the same order, bucket by bucket and within it trainer by trainer: so nobody waits in a circle.
 */
#ifndef EQS_SERVICE_ROUTE_H
#define EQS_SERVICE_ROUTE_H

#include "optimizer/plan.h"

typedef struct {
  int64_t parameter, matrix;
  int row, col; /* of the shard in the matrix's grid */
  int64_t first_row, end_row;
  int64_t bucket;
} eqs_piece;

typedef struct {
  int owner;
  int64_t pieces;
  int64_t *piece; /* indices into the route's pieces */
  int64_t bytes;  /* of a message of full tensors, the header included */
} eqs_bucket;

/* What travels: gradients and initial values from trainers to owners, weights from owners to trainers. */
typedef enum {
  EQS_ROUTE_GRADIENT,
  EQS_ROUTE_INITIAL,
  EQS_ROUTE_WEIGHT, /* of trained parameters, after every step */
  EQS_ROUTE_FROZEN, /* of frozen ones, after the start */
} eqs_route_kind;

typedef struct {
  const eqs_plan *plan;
  eqs_route_kind kind;
  int trainers;
  int64_t settings; /* numbers at the front of every message */
  int64_t pieces, buckets;
  eqs_piece *piece;     /* in the route's order of parameters */
  int64_t *first_piece; /* of every parameter, by its index in the plan; pieces of one follow each other */
  int64_t *piece_count;
  eqs_bucket *bucket;
} eqs_route;

/* Whether parameters like this travel on routes of a kind. */
bool eqs_route_is_for(eqs_route_kind kind, const eqs_parameter_info *info);

/*
 * Make a route: to the owners in the order of backward, parameters from the last to the first; to the trainers in the
 * order of forward.
 *
 * settings  [in] of gradients: how many numbers, of 8 bytes each, go before every message's header
 * owner     [in] keep only this owner's pieces; -1: all
 * travels   [in] of every parameter, whether it does; NULL: all that the kind of route is for
 *
 * Not collective.
 */
eqs_status eqs_route_make(const eqs_plan *plan, eqs_route_kind kind, int trainers, int64_t settings, int owner,
                          const bool *travels, eqs_route *route);
void eqs_route_free(eqs_route *route);

/* The part of a piece that a trainer sends or receives: its rows that the trainer holds; empty if it has none. */
eqs_fragment eqs_route_fragment(const eqs_route *route, const eqs_piece *piece, int trainer);

/* Where in a trainer's tensor its part of a piece begins, in bytes. */
int64_t eqs_route_offset(const eqs_route *route, const eqs_piece *piece, int trainer);

/* Bytes of a bucket's message for one trainer, without header; 0: no message. */
int64_t eqs_route_payload(const eqs_route *route, const eqs_bucket *bucket, int trainer);

/*
 * Bytes of a bucket's header: the step's settings, as owners may need them before the trainers announce the step, and a
 * byte per piece that says whether the trainer pushed the parameter, padded to 16; 0 for weights from owners.
 */
int64_t eqs_route_header(const eqs_route *route, const eqs_bucket *bucket);

/*
 * For every bucket of an owner in one route its index in another of the same kind; *index is allocated. Not collective.
 */
eqs_status eqs_route_match(const eqs_route *from, const eqs_route *to, int owner, int64_t **index);

/* Bytes of the largest message. */
int64_t eqs_route_largest(const eqs_route *route);

/* Whether all trainers get the same bytes of a bucket. */
bool eqs_route_uniform(const eqs_route *route, const eqs_bucket *bucket);

#endif
