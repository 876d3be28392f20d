#include "service/ring.h"

#include <stdlib.h>

#include "base/memory.h"
#include "dist/communicator.h"

eqs_status eqs_ring_create(int capacity, int64_t buffer_bytes, eqs_ring *ring)
{
  *ring = (eqs_ring){.capacity = capacity, .buffer_bytes = buffer_bytes};
  return eqs_allocate(&ring->flight, capacity, sizeof *ring->flight);
}

void eqs_ring_destroy(eqs_ring *ring)
{
  for (; ring->count > 0; ring->count--) {
    eqs_flight *flight = &ring->flight[ring->oldest];
    if (flight->receives) {
      MPI_Cancel(&flight->request);
      MPI_Wait(&flight->request, MPI_STATUS_IGNORE);
      free(flight->buffer);
    } else if (flight->held) {
      free(flight->buffer);
    }
    ring->oldest = (ring->oldest + 1) % ring->capacity;
  }
  for (int64_t i = 0; i < ring->spares; i++) free(ring->spare[i]);
  free(ring->spare);
  free(ring->flight);
  *ring = (eqs_ring){0};
}

eqs_status eqs_ring_take_buffer(eqs_ring *ring, char **buffer)
{
  if (ring->spares == 0) return eqs_allocate_raw(buffer, ring->buffer_bytes, 1);
  *buffer = ring->spare[--ring->spares];
  return EQS_OK;
}

eqs_status eqs_ring_return_buffer(eqs_ring *ring, char *buffer)
{
  eqs_status status = eqs_grow(&ring->spare, ring->spares, sizeof *ring->spare);
  if (status == EQS_OK) ring->spare[ring->spares++] = buffer;
  return status;
}

static eqs_flight *add(eqs_ring *ring, eqs_flight flight)
{
  eqs_flight *place = &ring->flight[(ring->oldest + ring->count++) % ring->capacity];
  *place = flight;
  place->request = MPI_REQUEST_NULL;
  return place;
}

eqs_status eqs_ring_send(eqs_ring *ring, eqs_flight flight, int peer, int tag, MPI_Comm comm)
{
  eqs_flight *place = add(ring, flight);
  return eqs_check_mpi(MPI_Isend(flight.buffer, (int)flight.bytes, MPI_BYTE, peer, tag, comm, &place->request),
                       "MPI_Isend");
}

eqs_status eqs_ring_receive(eqs_ring *ring, eqs_flight flight, int peer, int tag, MPI_Comm comm)
{
  eqs_flight *place = add(ring, flight);
  place->receives = true;
  return eqs_check_mpi(MPI_Irecv(flight.buffer, (int)flight.bytes, MPI_BYTE, peer, tag, comm, &place->request),
                       "MPI_Irecv");
}

void eqs_ring_hold(eqs_ring *ring, eqs_flight flight)
{
  add(ring, flight)->held = true;
}

eqs_status eqs_ring_done(eqs_ring *ring, eqs_flight **flight)
{
  int done = 0;
  *flight = NULL;
  if (ring->count == 0) return EQS_OK;
  eqs_flight *oldest = &ring->flight[ring->oldest];
  eqs_status status = eqs_check_mpi(MPI_Test(&oldest->request, &done, MPI_STATUS_IGNORE), "MPI_Test");
  if (status == EQS_OK && done) *flight = oldest;
  return status;
}

eqs_status eqs_ring_retire(eqs_ring *ring)
{
  eqs_flight *flight = &ring->flight[ring->oldest];
  ring->oldest = (ring->oldest + 1) % ring->capacity;
  ring->count--;
  return flight->releases ? eqs_ring_return_buffer(ring, flight->buffer) : EQS_OK;
}

eqs_status eqs_ring_retire_done(eqs_ring *ring, bool *moved)
{
  eqs_status status = EQS_OK;
  eqs_flight *done;
  for (;;) {
    EQS_TRY(eqs_ring_done(ring, &done));
    if (done == NULL) break;
    EQS_TRY(eqs_ring_retire(ring));
    *moved = true;
  }
cleanup:
  return status;
}
