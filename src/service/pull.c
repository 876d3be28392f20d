#include "service/pull.h"

#include <stdlib.h>

#include "base/memory.h"

static int tag_of(const eqs_route *route)
{
  return route->kind == EQS_ROUTE_WEIGHT ? 3 : 4;
}

/* Buckets that an owner has under way, and that a trainer asks for ahead of those it takes. */
enum { window = 8 };

eqs_status eqs_pull_sender_create(const eqs_roster *roster, const eqs_plan *plan, eqs_route_kind kind,
                                  const eqs_optimizer *optimizer, const eqs_owner_step *step, eqs_pull_sender *sender)
{
  eqs_status status = EQS_OK;
  *sender = (eqs_pull_sender){.roster = roster, .optimizer = optimizer, .step = step};
  EQS_TRY(eqs_route_make(plan, kind, roster->trainers, 0, roster->owner, NULL, &sender->route));
  EQS_TRY(eqs_ring_create(window * roster->trainers, eqs_route_largest(&sender->route), &sender->ring));
  sender->next_bucket = sender->route.buckets;
cleanup:
  return status;
}

void eqs_pull_sender_destroy(eqs_pull_sender *sender)
{
  eqs_ring_destroy(&sender->ring);
  eqs_route_free(&sender->route);
  *sender = (eqs_pull_sender){0};
}

void eqs_pull_sender_start(eqs_pull_sender *sender)
{
  sender->next_bucket = 0;
  sender->next_trainer = 0;
}

static void pack(const eqs_pull_sender *sender, const eqs_bucket *bucket, int trainer, char *message)
{
  const eqs_route *route = &sender->route;
  for (int64_t i = 0; i < bucket->pieces; i++) {
    const eqs_piece *piece = &route->piece[bucket->piece[i]];
    eqs_dtype dtype = route->plan->parameter[piece->parameter].info.dtype;
    eqs_fragment fragment = eqs_route_fragment(route, piece, trainer);
    const eqs_owned_matrix *matrix = &sender->optimizer->parameter[piece->parameter].matrix[piece->matrix];
    eqs_fragment_read_shard(&fragment, dtype, eqs_floats(&matrix->weight), message);
    message += eqs_fragment_count(&fragment) * (int64_t)eqs_dtype_size(dtype);
  }
}

/* The trainer that is sent a bucket last: not this rank itself. */
static int last_trainer(const eqs_roster *roster)
{
  return roster->trainer == roster->trainers - 1 ? roster->trainers - 2 : roster->trainers - 1;
}

static eqs_status send(eqs_pull_sender *sender, int64_t b, int trainer, eqs_traffic *traffic)
{
  eqs_status status = EQS_OK;
  const eqs_roster *roster = sender->roster;
  const eqs_bucket *bucket = &sender->route.bucket[b];
  bool uniform = eqs_route_uniform(&sender->route, bucket), last = trainer == last_trainer(roster);
  int64_t bytes = eqs_route_payload(&sender->route, bucket, trainer);
  char *buffer = sender->shared;
  if (bytes == 0) goto cleanup;
  if (buffer == NULL) {
    EQS_TRY(eqs_ring_take_buffer(&sender->ring, &buffer));
    pack(sender, bucket, trainer, buffer);
  }
  sender->shared = uniform && !last ? buffer : NULL;
  eqs_flight flight = {.bucket = b, .buffer = buffer, .bytes = bytes, .releases = !uniform || last};
  EQS_TRY(eqs_ring_send(&sender->ring, flight, roster->trainer_rank[trainer], tag_of(&sender->route), roster->comm));
  traffic->weight_sent += bytes;
  traffic->messages_sent++;
cleanup:
  return status;
}

/* Send the next message, and go on to the one after it. This rank's own part is taken by its receiver. */
static eqs_status send_next(eqs_pull_sender *sender, eqs_traffic *traffic)
{
  eqs_status status = EQS_OK;
  int64_t b = sender->next_bucket;
  int trainer = sender->next_trainer;
  bool through = trainer == sender->roster->trainers - 1;
  if (trainer != sender->roster->trainer) EQS_TRY(send(sender, b, trainer, traffic));
  sender->ahead += eqs_owner_step_under_way(sender->step);
  sender->next_trainer = through ? 0 : trainer + 1;
  sender->next_bucket += through;
cleanup:
  return status;
}

static bool may_leave(const eqs_pull_sender *sender)
{
  if (sender->next_bucket == sender->route.buckets || eqs_ring_full(&sender->ring)) return false;
  const eqs_bucket *bucket = &sender->route.bucket[sender->next_bucket];
  for (int64_t i = 0; i < bucket->pieces; i++)
    if (sender->step->undone[sender->route.piece[bucket->piece[i]].parameter] > 0) return false;
  return true;
}

eqs_status eqs_pull_sender_advance(eqs_pull_sender *sender, eqs_traffic *traffic, bool *moved)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_ring_retire_done(&sender->ring, moved));
  while (may_leave(sender)) {
    EQS_TRY(send_next(sender, traffic));
    *moved = true;
  }
cleanup:
  return status;
}

bool eqs_pull_sender_done(const eqs_pull_sender *sender)
{
  return sender->next_bucket == sender->route.buckets && sender->ring.count == 0;
}

eqs_status eqs_pull_receiver_create(const eqs_roster *roster, const eqs_plan *plan, eqs_route_kind kind,
                                    const eqs_pull_sender *own, eqs_pull_receiver *receiver)
{
  eqs_status status = EQS_OK;
  eqs_route *route = &receiver->route;
  *receiver = (eqs_pull_receiver){.roster = roster, .own = own};
  EQS_TRY(eqs_route_make(plan, kind, roster->trainers, 0, -1, NULL, route));
  EQS_TRY(eqs_ring_create(window, eqs_route_largest(route), &receiver->ring));
  if (own != NULL) EQS_TRY(eqs_route_match(route, &own->route, roster->owner, &receiver->own_bucket));
  EQS_TRY(eqs_allocate(&receiver->offset, route->pieces, sizeof *receiver->offset));
  EQS_TRY(eqs_allocate(&receiver->arrived, route->buckets, sizeof *receiver->arrived));
  EQS_TRY(eqs_allocate(&receiver->left, route->buckets, sizeof *receiver->left));
  EQS_TRY(eqs_allocate(&receiver->available, plan->parameters, sizeof *receiver->available));
  for (int64_t b = 0; b < route->buckets; b++) {
    int64_t offset = 0;
    for (int64_t i = 0; i < route->bucket[b].pieces; i++) {
      int64_t index = route->bucket[b].piece[i];
      eqs_fragment fragment = eqs_route_fragment(route, &route->piece[index], roster->trainer);
      receiver->offset[index] = offset;
      offset += eqs_fragment_count(&fragment) *
                (int64_t)eqs_dtype_size(plan->parameter[route->piece[index].parameter].info.dtype);
    }
  }
  receiver->next = receiver->taken = route->buckets;
cleanup:
  return status;
}

void eqs_pull_receiver_destroy(eqs_pull_receiver *receiver)
{
  for (int64_t b = 0; receiver->arrived != NULL && b < receiver->route.buckets; b++) free(receiver->arrived[b]);
  eqs_ring_destroy(&receiver->ring);
  eqs_route_free(&receiver->route);
  free(receiver->own_bucket);
  free(receiver->offset);
  free(receiver->arrived);
  free(receiver->left);
  free(receiver->available);
  *receiver = (eqs_pull_receiver){0};
}

void eqs_pull_receiver_start(eqs_pull_receiver *receiver)
{
  const eqs_route *route = &receiver->route;
  for (int64_t b = 0; b < route->buckets; b++) receiver->left[b] = route->bucket[b].pieces;
  for (int64_t p = 0; p < route->plan->parameters; p++)
    receiver->available[p] = eqs_route_is_for(route->kind, &route->plan->parameter[p].info);
  receiver->next = receiver->taken = receiver->wanted = 0;
  receiver->discards = false;
}

static eqs_status use_up(eqs_pull_receiver *receiver, int64_t b)
{
  char *buffer = receiver->arrived[b];
  receiver->arrived[b] = NULL;
  receiver->left[b] = 0;
  receiver->taken++;
  return buffer != NULL ? eqs_ring_return_buffer(&receiver->ring, buffer) : EQS_OK;
}

eqs_status eqs_pull_receiver_discard(eqs_pull_receiver *receiver)
{
  eqs_status status = EQS_OK;
  receiver->discards = true;
  for (int64_t p = 0; p < receiver->route.plan->parameters; p++) receiver->available[p] = false;
  for (int64_t b = 0; b < receiver->route.buckets; b++)
    if (receiver->arrived[b] != NULL) EQS_TRY(use_up(receiver, b));
cleanup:
  return status;
}

/* Buckets may be asked for up to here: a window ahead of those in use, further where one is wanted. */
static bool may_post(const eqs_pull_receiver *receiver)
{
  if (receiver->next == receiver->route.buckets || eqs_ring_full(&receiver->ring)) return false;
  return receiver->discards || receiver->next < receiver->wanted || receiver->next < receiver->taken + window;
}

static eqs_status post(eqs_pull_receiver *receiver)
{
  eqs_status status = EQS_OK;
  const eqs_roster *roster = receiver->roster;
  int64_t b = receiver->next++;
  const eqs_bucket *bucket = &receiver->route.bucket[b];
  int64_t bytes = eqs_route_payload(&receiver->route, bucket, roster->trainer);
  char *buffer;
  if (bytes == 0) return use_up(receiver, b);
  EQS_TRY(eqs_ring_take_buffer(&receiver->ring, &buffer));
  eqs_flight flight = {.bucket = b, .buffer = buffer, .bytes = bytes};
  if (receiver->own != NULL && bucket->owner == roster->owner)
    eqs_ring_hold(&receiver->ring, flight);
  else
    EQS_TRY(eqs_ring_receive(&receiver->ring, flight, roster->owner_rank[bucket->owner], tag_of(&receiver->route),
                             roster->comm));
cleanup:
  return status;
}

/* Fill the place of this rank's own part, if its sender has come to it. */
static bool take_own(const eqs_pull_receiver *receiver, const eqs_flight *flight, eqs_traffic *traffic)
{
  const eqs_pull_sender *own = receiver->own;
  int64_t b = receiver->own_bucket[flight->bucket];
  int trainer = receiver->roster->trainer;
  if (own->next_bucket < b || (own->next_bucket == b && own->next_trainer <= trainer)) return false;
  pack(own, &own->route.bucket[b], trainer, flight->buffer);
  traffic->weight_sent += flight->bytes;
  traffic->messages_sent++;
  return true;
}

eqs_status eqs_pull_receiver_advance(eqs_pull_receiver *receiver, eqs_traffic *traffic, bool *moved)
{
  eqs_status status = EQS_OK;
  eqs_flight *flight;
  do {
    while (may_post(receiver)) EQS_TRY(post(receiver));
    EQS_TRY(eqs_ring_done(&receiver->ring, &flight));
    if (flight != NULL && flight->held && !take_own(receiver, flight, traffic)) break;
    if (flight != NULL) {
      int64_t b = flight->bucket;
      traffic->weight_received += flight->bytes;
      traffic->messages_received++;
      receiver->arrived[b] = flight->buffer;
      EQS_TRY(eqs_ring_retire(&receiver->ring));
      if (receiver->discards) EQS_TRY(use_up(receiver, b));
      *moved = true;
    }
  } while (flight != NULL);
cleanup:
  return status;
}

bool eqs_pull_receiver_done(const eqs_pull_receiver *receiver)
{
  return receiver->taken == receiver->route.buckets;
}

/* Bytes of a piece for this trainer, and its fragment. */
static int64_t piece_bytes(const eqs_pull_receiver *receiver, int64_t index, eqs_fragment *fragment)
{
  const eqs_piece *piece = &receiver->route.piece[index];
  *fragment = eqs_route_fragment(&receiver->route, piece, receiver->roster->trainer);
  return eqs_fragment_count(fragment) *
         (int64_t)eqs_dtype_size(receiver->route.plan->parameter[piece->parameter].info.dtype);
}

bool eqs_pull_receiver_has(eqs_pull_receiver *receiver, int64_t parameter, int *owner)
{
  const eqs_route *route = &receiver->route;
  *owner = -1;
  for (int64_t i = 0; i < route->piece_count[parameter]; i++) {
    int64_t index = route->first_piece[parameter] + i, b = route->piece[index].bucket;
    eqs_fragment fragment;
    if (receiver->arrived[b] != NULL || piece_bytes(receiver, index, &fragment) == 0) continue;
    if (b >= receiver->wanted) receiver->wanted = b + 1;
    if (*owner < 0) *owner = route->bucket[b].owner;
  }
  return *owner < 0;
}

eqs_status eqs_pull_receiver_take(eqs_pull_receiver *receiver, int64_t parameter, void *weight)
{
  eqs_status status = EQS_OK;
  const eqs_route *route = &receiver->route;
  size_t size = eqs_dtype_size(route->plan->parameter[parameter].info.dtype);
  receiver->available[parameter] = false;
  for (int64_t i = 0; i < route->piece_count[parameter]; i++) {
    int64_t index = route->first_piece[parameter] + i, b = route->piece[index].bucket;
    eqs_fragment fragment;
    if (piece_bytes(receiver, index, &fragment) > 0) {
      char *rows = (char *)weight + eqs_route_offset(route, &route->piece[index], receiver->roster->trainer);
      eqs_fragment_scatter(&fragment, size, receiver->arrived[b] + receiver->offset[index], rows);
    }
    if (receiver->left[b] > 0 && --receiver->left[b] == 0 && receiver->arrived[b] != NULL) EQS_TRY(use_up(receiver, b));
  }
cleanup:
  return status;
}
