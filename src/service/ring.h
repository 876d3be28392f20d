/* Messages in flight, oldest first, in a ring of fixed size, with their buffers. */
#ifndef EQS_SERVICE_RING_H
#define EQS_SERVICE_RING_H

#include <mpi.h>
#include <stdbool.h>

#include "base/status.h"

typedef struct {
  MPI_Request request;
  char *buffer;
  bool releases; /* whether the buffer goes back to the pool when the message is done */
  bool receives;
  bool held; /* no message: the holder fills the buffer when its turn has come */
  int64_t bucket, bytes;
  int trainer;
} eqs_flight;

typedef struct {
  int capacity, oldest, count;
  eqs_flight *flight;
  int64_t buffer_bytes; /* size of every buffer */
  int64_t spares;       /* buffers not in use */
  char **spare;
} eqs_ring;

eqs_status eqs_ring_create(int capacity, int64_t buffer_bytes, eqs_ring *ring);

/*
 * Free everything; receives that are still posted are cancelled, sends that never ended keep their buffers.
 * Safe on a zeroed ring.
 */
void eqs_ring_destroy(eqs_ring *ring);

static inline bool eqs_ring_full(const eqs_ring *ring)
{
  return ring->count == ring->capacity;
}

/* A buffer from the pool, and back. */
eqs_status eqs_ring_take_buffer(eqs_ring *ring, char **buffer);
eqs_status eqs_ring_return_buffer(eqs_ring *ring, char *buffer);

/*
 * Start a message, the youngest of the ring, which must not be full.
 *
 * flight  [in] bucket, trainer, buffer, bytes and releases are set; the request is made here
 * peer    [in] rank in comm
 */
eqs_status eqs_ring_send(eqs_ring *ring, eqs_flight flight, int peer, int tag, MPI_Comm comm);
eqs_status eqs_ring_receive(eqs_ring *ring, eqs_flight flight, int peer, int tag, MPI_Comm comm);

/* Keep a place among the messages for what needs none: at once done, as far as the ring knows. */
void eqs_ring_hold(eqs_ring *ring, eqs_flight flight);

/*
 * The oldest message if it is done, else NULL; it stays in the ring until eqs_ring_retire, which gives its buffer
 * back if it is to be released.
 */
eqs_status eqs_ring_done(eqs_ring *ring, eqs_flight **flight);
eqs_status eqs_ring_retire(eqs_ring *ring);

/* Retire all messages that are done, oldest first; *moved is set if there was one. For sends. */
eqs_status eqs_ring_retire_done(eqs_ring *ring, bool *moved);

#endif
