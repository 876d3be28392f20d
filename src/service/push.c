#include "service/push.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* Messages in flight per rank: bounds the buffers to this many megabytes. */
enum { window = 8 };

static int tag_of(const eqs_route *route)
{
  return route->kind == EQS_ROUTE_GRADIENT ? 1 : 2;
}

eqs_status eqs_push_sender_create(const eqs_roster *roster, const eqs_plan *plan, eqs_route_kind kind,
                                  const bool *travels, const void *settings, int64_t count, eqs_push_sender *sender)
{
  eqs_status status = EQS_OK;
  *sender = (eqs_push_sender){.roster = roster, .settings = settings};
  EQS_TRY(eqs_route_make(plan, kind, roster->trainers, count, -1, travels, &sender->route));
  EQS_TRY(eqs_ring_create(window, eqs_route_largest(&sender->route), &sender->ring));
  EQS_TRY(eqs_allocate(&sender->source, plan->parameters, sizeof *sender->source));
  EQS_TRY(eqs_allocate(&sender->missing, sender->route.buckets, sizeof *sender->missing));
  eqs_push_sender_reset(sender);
cleanup:
  return status;
}

void eqs_push_sender_destroy(eqs_push_sender *sender)
{
  eqs_ring_destroy(&sender->ring);
  eqs_route_free(&sender->route);
  free(sender->source);
  free(sender->missing);
  *sender = (eqs_push_sender){0};
}

void eqs_push_sender_reset(eqs_push_sender *sender)
{
  for (int64_t p = 0; p < sender->route.plan->parameters; p++) sender->source[p] = NULL;
  for (int64_t b = 0; b < sender->route.buckets; b++) sender->missing[b] = sender->route.bucket[b].pieces;
  sender->next = 0;
  sender->flushed = false;
}

void eqs_push_sender_add(eqs_push_sender *sender, int64_t parameter, const void *source)
{
  const eqs_route *route = &sender->route;
  sender->source[parameter] = source;
  for (int64_t i = 0; i < route->piece_count[parameter]; i++)
    sender->missing[route->piece[route->first_piece[parameter] + i].bucket]--;
}

/* Fill a message; a parameter that was not pushed counts as zero. */
static void pack(const eqs_push_sender *sender, const eqs_bucket *bucket, char *message)
{
  const eqs_route *route = &sender->route;
  int trainer = sender->roster->trainer;
  int64_t header = eqs_route_header(route, bucket), settings = route->settings * (int64_t)sizeof(double);
  char *payload = message + header, *pushed = message + settings;
  memset(message, 0, (size_t)header);
  if (settings > 0) memcpy(message, sender->settings, (size_t)settings);
  for (int64_t i = 0; i < bucket->pieces; i++) {
    const eqs_piece *piece = &route->piece[bucket->piece[i]];
    const eqs_planned_parameter *parameter = &route->plan->parameter[piece->parameter];
    size_t size = eqs_dtype_size(parameter->info.dtype);
    eqs_fragment fragment = eqs_route_fragment(route, piece, trainer);
    int64_t bytes = eqs_fragment_count(&fragment) * (int64_t)size;
    const char *source = sender->source[piece->parameter];
    if (source != NULL && header > 0) pushed[i] = 1;
    if (bytes == 0) continue;
    if (source != NULL) {
      eqs_fragment_gather(&fragment, size, source + eqs_route_offset(route, piece, trainer), payload);
    } else {
      memset(payload, 0, (size_t)bytes);
    }
    payload += bytes;
  }
}

/* Whether all that a bucket will have is there. */
static bool is_full(const eqs_push_sender *sender, int64_t b)
{
  return !sender->held && (sender->flushed || sender->missing[b] == 0);
}

static eqs_status send_bucket(eqs_push_sender *sender, int64_t b, eqs_traffic *traffic)
{
  eqs_status status = EQS_OK;
  const eqs_bucket *bucket = &sender->route.bucket[b];
  int64_t payload = eqs_route_payload(&sender->route, bucket, sender->roster->trainer);
  int64_t bytes = payload + eqs_route_header(&sender->route, bucket);
  char *buffer;
  if (payload == 0 || bucket->owner == sender->roster->owner) return EQS_OK;
  EQS_TRY(eqs_ring_take_buffer(&sender->ring, &buffer));
  pack(sender, bucket, buffer);
  eqs_flight flight = {.bucket = b, .buffer = buffer, .bytes = bytes, .releases = true};
  EQS_TRY(eqs_ring_send(&sender->ring, flight, sender->roster->owner_rank[bucket->owner], tag_of(&sender->route),
                        sender->roster->comm));
  traffic->gradient_sent += bytes;
  traffic->messages_sent++;
cleanup:
  return status;
}

eqs_status eqs_push_sender_advance(eqs_push_sender *sender, eqs_traffic *traffic, bool *moved)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_ring_retire_done(&sender->ring, moved));
  while (sender->next < sender->route.buckets && !eqs_ring_full(&sender->ring) && is_full(sender, sender->next)) {
    EQS_TRY(send_bucket(sender, sender->next++, traffic));
    *moved = true;
  }
cleanup:
  return status;
}

bool eqs_push_sender_done(const eqs_push_sender *sender)
{
  return sender->next == sender->route.buckets && sender->ring.count == 0;
}

static void count_messages(eqs_push_receiver *receiver)
{
  const eqs_route *route = &receiver->route;
  for (int64_t b = 0; b < route->buckets; b++) {
    const eqs_bucket *bucket = &route->bucket[b];
    int messages = 0;
    for (int t = 0; t < route->trainers; t++) messages += eqs_route_payload(route, bucket, t) > 0;
    for (int64_t i = 0; i < bucket->pieces; i++)
      receiver->messages[route->piece[bucket->piece[i]].parameter] += messages;
  }
}

eqs_status eqs_push_receiver_create(const eqs_roster *roster, const eqs_plan *plan, eqs_route_kind kind,
                                    const bool *travels, eqs_optimizer *optimizer, const eqs_push_sender *own,
                                    eqs_push_receiver *receiver)
{
  eqs_status status = EQS_OK;
  int64_t settings =
      kind == EQS_ROUTE_GRADIENT ? eqs_settings_bytes(optimizer->config->groups) / (int64_t)sizeof(double) : 0;
  *receiver = (eqs_push_receiver){.roster = roster, .optimizer = optimizer, .own = own};
  EQS_TRY(eqs_route_make(plan, kind, roster->trainers, settings, roster->owner, travels, &receiver->route));
  EQS_TRY(eqs_ring_create(window, eqs_route_largest(&receiver->route), &receiver->ring));
  EQS_TRY(eqs_allocate(&receiver->messages, plan->parameters, sizeof *receiver->messages));
  EQS_TRY(eqs_allocate(&receiver->left, plan->parameters, sizeof *receiver->left));
  EQS_TRY(eqs_allocate(&receiver->complete, plan->parameters, sizeof *receiver->complete));
  if (own != NULL) EQS_TRY(eqs_route_match(&receiver->route, &own->route, roster->owner, &receiver->own_bucket));
  count_messages(receiver);
  eqs_push_receiver_reset(receiver);
cleanup:
  return status;
}

void eqs_push_receiver_destroy(eqs_push_receiver *receiver)
{
  eqs_ring_destroy(&receiver->ring);
  eqs_route_free(&receiver->route);
  free(receiver->messages);
  free(receiver->left);
  free(receiver->complete);
  free(receiver->own_bucket);
  *receiver = (eqs_push_receiver){0};
}

void eqs_push_receiver_reset(eqs_push_receiver *receiver)
{
  for (int64_t p = 0; p < receiver->route.plan->parameters; p++) {
    if (receiver->route.kind == EQS_ROUTE_GRADIENT) receiver->optimizer->parameter[p].present = false;
    receiver->left[p] = receiver->messages[p];
  }
  receiver->completes = 0;
  receiver->next_bucket = 0;
  receiver->next_trainer = 0;
  receiver->all_posted = receiver->route.buckets == 0;
}

/* Whether a contribution is added to those before it; the first one replaces what was in the shard. */
static bool adds(const eqs_route *route, int64_t parameter, int trainer)
{
  return route->kind == EQS_ROUTE_GRADIENT &&
         route->plan->parameter[parameter].info.gradient_placement == EQS_PARTIAL && trainer > 0;
}

/* The first trainer's settings are the step's. */
static void take_settings(eqs_push_receiver *receiver, const eqs_flight *flight)
{
  const eqs_route *route = &receiver->route;
  if (route->kind == EQS_ROUTE_GRADIENT && flight->trainer == 0) eqs_optimizer_set(receiver->optimizer, flight->buffer);
}

static void reduce(eqs_push_receiver *receiver, const eqs_flight *flight)
{
  const eqs_route *route = &receiver->route;
  const eqs_bucket *bucket = &route->bucket[flight->bucket];
  int64_t header = eqs_route_header(route, bucket);
  const char *payload = flight->buffer + header;
  const char *pushed = flight->buffer + route->settings * (int64_t)sizeof(double);
  for (int64_t i = 0; i < bucket->pieces; i++) {
    const eqs_piece *piece = &route->piece[bucket->piece[i]];
    eqs_owned_parameter *parameter = &receiver->optimizer->parameter[piece->parameter];
    eqs_owned_matrix *matrix = &parameter->matrix[piece->matrix];
    eqs_dtype dtype = route->plan->parameter[piece->parameter].info.dtype;
    eqs_fragment fragment = eqs_route_fragment(route, piece, flight->trainer);
    float *shard = eqs_floats(route->kind == EQS_ROUTE_GRADIENT ? &matrix->gradient : &matrix->weight);
    if (route->kind == EQS_ROUTE_GRADIENT && pushed[i]) parameter->present = true;
    if (--receiver->left[piece->parameter] == 0) receiver->complete[receiver->completes++] = piece->parameter;
    if (eqs_fragment_count(&fragment) == 0) continue;
    if (adds(route, piece->parameter, flight->trainer))
      eqs_fragment_add_to_shard(&fragment, dtype, payload, shard);
    else if (route->kind == EQS_ROUTE_GRADIENT)
      eqs_fragment_write_shard(&fragment, dtype, payload, shard);
    else if (pushed[i]) /* a weight that was not put stays */
      eqs_fragment_renew_shard(&fragment, dtype, payload, shard);
    payload += eqs_fragment_count(&fragment) * (int64_t)eqs_dtype_size(dtype);
  }
}

/* Post the next message's receive, and go on to the one after it. */
static eqs_status post(eqs_push_receiver *receiver)
{
  eqs_status status = EQS_OK;
  const eqs_roster *roster = receiver->roster;
  int64_t b = receiver->next_bucket;
  int trainer = receiver->next_trainer;
  const eqs_bucket *bucket = &receiver->route.bucket[b];
  int64_t payload = eqs_route_payload(&receiver->route, bucket, trainer);
  if (++receiver->next_trainer == roster->trainers) {
    receiver->next_trainer = 0;
    receiver->all_posted = ++receiver->next_bucket == receiver->route.buckets;
  }
  if (payload > 0) {
    int64_t bytes = payload + eqs_route_header(&receiver->route, bucket);
    char *buffer;
    EQS_TRY(eqs_ring_take_buffer(&receiver->ring, &buffer));
    eqs_flight flight = {.bucket = b, .trainer = trainer, .buffer = buffer, .bytes = bytes, .releases = true};
    if (receiver->own != NULL && trainer == roster->trainer)
      eqs_ring_hold(&receiver->ring, flight);
    else
      EQS_TRY(eqs_ring_receive(&receiver->ring, flight, roster->trainer_rank[trainer], tag_of(&receiver->route),
                               roster->comm));
  }
cleanup:
  return status;
}

/* Fill the place of this rank's own part, if it is there by now. */
static bool take_own(const eqs_push_receiver *receiver, const eqs_flight *flight, eqs_traffic *traffic)
{
  int64_t b = receiver->own_bucket[flight->bucket];
  if (!is_full(receiver->own, b)) return false;
  pack(receiver->own, &receiver->own->route.bucket[b], flight->buffer);
  traffic->gradient_sent += flight->bytes;
  traffic->messages_sent++;
  return true;
}

eqs_status eqs_push_receiver_advance(eqs_push_receiver *receiver, eqs_traffic *traffic, bool *moved)
{
  eqs_status status = EQS_OK;
  eqs_flight *flight;
  do {
    while (!receiver->all_posted && !eqs_ring_full(&receiver->ring)) EQS_TRY(post(receiver));
    EQS_TRY(eqs_ring_done(&receiver->ring, &flight));
    if (flight != NULL && flight->held && !take_own(receiver, flight, traffic)) break;
    if (flight != NULL) {
      take_settings(receiver, flight);
      reduce(receiver, flight);
      traffic->gradient_received += flight->bytes;
      traffic->messages_received++;
      EQS_TRY(eqs_ring_retire(&receiver->ring));
      *moved = true;
    }
  } while (flight != NULL);
cleanup:
  return status;
}

bool eqs_push_receiver_done(const eqs_push_receiver *receiver)
{
  return receiver->all_posted && receiver->ring.count == 0;
}
