#include "checkpoint/transfer.h"

#include <stdlib.h>

#include "base/memory.h"
#include "dist/communicator.h"

enum { send_buffers = 4, tag = 0x4551 };

typedef struct {
  float *message; /* room for a whole tile */
  int requests;
  MPI_Request *request; /* room for one per rank */
} send_buffer;

struct eqs_transfer {
  MPI_Comm comm;
  int rank, ranks;
  const eqs_tile_table *table;
  send_buffer buffer[send_buffers];
  int next_buffer;
  float *rows;          /* of one tile */
  float *message;       /* fragments of one tile, rank by rank */
  MPI_Request *request; /* of receives, one per rank */
  int peers;            /* ranks with elements of the tile at hand */
  int *peer;
  int64_t *count, *start; /* by rank: elements of the tile, and where they begin in a message buffer */
};

eqs_status eqs_transfer_create(MPI_Comm comm, const eqs_tile_table *table, eqs_transfer **transfer)
{
  eqs_status status = EQS_OK;
  eqs_transfer *x = NULL;
  int64_t elements = eqs_tile_largest(table);
  EQS_TRY(eqs_allocate(&x, 1, sizeof *x));
  x->comm = comm;
  x->table = table;
  EQS_TRY(eqs_check_mpi(MPI_Comm_rank(comm, &x->rank), "MPI_Comm_rank"));
  EQS_TRY(eqs_check_mpi(MPI_Comm_size(comm, &x->ranks), "MPI_Comm_size"));
  for (int b = 0; b < send_buffers; b++) {
    EQS_TRY(eqs_allocate_raw(&x->buffer[b].message, elements, sizeof(float)));
    EQS_TRY(eqs_allocate_raw(&x->buffer[b].request, x->ranks, sizeof(MPI_Request)));
  }
  EQS_TRY(eqs_allocate_raw(&x->rows, elements, sizeof(float)));
  EQS_TRY(eqs_allocate_raw(&x->message, elements, sizeof(float)));
  EQS_TRY(eqs_allocate_raw(&x->request, x->ranks, sizeof(MPI_Request)));
  EQS_TRY(eqs_allocate(&x->peer, x->ranks, sizeof *x->peer));
  EQS_TRY(eqs_allocate(&x->count, x->ranks, sizeof *x->count));
  EQS_TRY(eqs_allocate(&x->start, x->ranks, sizeof *x->start));
  for (int r = 0; r < x->ranks; r++) x->request[r] = MPI_REQUEST_NULL;
  *transfer = x;
  x = NULL;
cleanup:
  eqs_transfer_destroy(&x);
  return status;
}

void eqs_transfer_destroy(eqs_transfer **transfer)
{
  eqs_transfer *x = *transfer;
  if (x == NULL) return;
  for (int b = 0; b < send_buffers; b++) {
    if (x->buffer[b].requests > 0) continue;
    free(x->buffer[b].message);
    free(x->buffer[b].request);
  }
  bool receiving = false;
  for (int r = 0; x->request && r < x->ranks; r++) receiving = receiving || x->request[r] != MPI_REQUEST_NULL;
  if (!receiving) {
    free(x->message);
    free(x->request);
  }
  free(x->rows);
  free(x->peer);
  free(x->count);
  free(x->start);
  free(x);
  *transfer = NULL;
}

static eqs_fragment fragment_at(const eqs_tile *tile, const eqs_tensor_matrix *matrix, int position)
{
  return (eqs_fragment){.view = matrix->view,
                        .distribution = &matrix->distribution,
                        .row = position / matrix->distribution.grid_cols,
                        .col = position % matrix->distribution.grid_cols,
                        .first_row = tile->first_row,
                        .end_row = tile->end_row};
}

static int grid_size(const eqs_tensor_matrix *matrix)
{
  return matrix->distribution.grid_rows * matrix->distribution.grid_cols;
}

static bool grid_has(const eqs_tensor_matrix *matrix, int rank)
{
  return rank >= matrix->first_owner && rank - matrix->first_owner < grid_size(matrix);
}

/* How many elements of a tile the shards of this rank have. */
static int64_t own_elements(const eqs_transfer *x, const eqs_tile *tile)
{
  const eqs_checkpoint_tensor *tensor = &tile->tensor->stored;
  int64_t elements = 0;
  for (int64_t m = 0; m < tensor->matrices; m++) {
    const eqs_tensor_matrix *matrix = &tensor->matrix[m];
    if (!grid_has(matrix, x->rank)) continue;
    eqs_fragment fragment = fragment_at(tile, matrix, x->rank - matrix->first_owner);
    elements += eqs_fragment_count(&fragment);
  }
  return elements;
}

typedef enum { SHARDS_TO_MESSAGE, MESSAGE_TO_SHARDS } shard_direction;

/* Between the shards of this rank and a message: fragments in the order of the tensor's matrices. */
static void move_shards(const eqs_transfer *x, const eqs_tile *tile, shard_direction direction, float *message)
{
  const eqs_checkpoint_tensor *tensor = &tile->tensor->stored;
  for (int64_t m = 0; m < tensor->matrices; m++) {
    const eqs_tensor_matrix *matrix = &tensor->matrix[m];
    if (!grid_has(matrix, x->rank)) continue;
    eqs_fragment fragment = fragment_at(tile, matrix, x->rank - matrix->first_owner);
    int64_t elements = eqs_fragment_count(&fragment);
    if (elements == 0) continue;
    if (direction == SHARDS_TO_MESSAGE)
      eqs_fragment_read_shard(&fragment, EQS_FLOAT32, matrix->shard, message);
    else
      eqs_fragment_write_shard(&fragment, EQS_FLOAT32, message, matrix->shard);
    message += elements;
  }
}

/* Find the ranks that have elements of a tile, and where their messages begin in a buffer. */
static void find_peers(eqs_transfer *x, const eqs_tile *tile)
{
  const eqs_checkpoint_tensor *tensor = &tile->tensor->stored;
  for (int p = 0; p < x->peers; p++) x->count[x->peer[p]] = 0;
  x->peers = 0;
  for (int64_t m = 0; m < tensor->matrices; m++) {
    const eqs_tensor_matrix *matrix = &tensor->matrix[m];
    for (int position = 0; position < grid_size(matrix); position++) {
      eqs_fragment fragment = fragment_at(tile, matrix, position);
      int64_t elements = eqs_fragment_count(&fragment);
      int rank = matrix->first_owner + position;
      if (elements > 0 && x->count[rank] == 0) x->peer[x->peers++] = rank;
      x->count[rank] += elements;
    }
  }
  int64_t start = 0;
  for (int p = 0; p < x->peers; p++) {
    x->start[x->peer[p]] = start;
    start += x->count[x->peer[p]];
  }
}

typedef enum { ROWS_TO_MESSAGES, MESSAGES_TO_ROWS } rows_direction;

/* Between the rows of a tile and the messages of all its ranks, which follow each other in a buffer. */
static void move_rows(eqs_transfer *x, const eqs_tile *tile, rows_direction direction, float *messages)
{
  const eqs_checkpoint_tensor *tensor = &tile->tensor->stored;
  for (int64_t m = 0; m < tensor->matrices; m++) {
    const eqs_tensor_matrix *matrix = &tensor->matrix[m];
    for (int position = 0; position < grid_size(matrix); position++) {
      eqs_fragment fragment = fragment_at(tile, matrix, position);
      int64_t elements = eqs_fragment_count(&fragment);
      if (elements == 0) continue;
      float *message = messages + x->start[matrix->first_owner + position];
      if (direction == ROWS_TO_MESSAGES)
        eqs_fragment_gather(&fragment, sizeof(float), x->rows, message);
      else
        eqs_fragment_scatter(&fragment, sizeof(float), message, x->rows);
      x->start[matrix->first_owner + position] += elements;
    }
  }
}

static eqs_status wait_for_sends(MPI_Comm comm, send_buffer *buffer)
{
  eqs_status status = EQS_OK;
  for (; buffer->requests > 0; buffer->requests--)
    EQS_TRY(eqs_wait(comm, &buffer->request[buffer->requests - 1], "an owner of a checkpoint's tile"));
cleanup:
  return status;
}

/* Whether the next send buffer can be used without waiting. */
static eqs_status send_buffer_free(eqs_transfer *x, bool *is_free)
{
  eqs_status status = EQS_OK;
  send_buffer *buffer = &x->buffer[x->next_buffer];
  int done = true;
  if (buffer->requests > 0)
    EQS_TRY(eqs_check_mpi(MPI_Testall(buffer->requests, buffer->request, &done, MPI_STATUSES_IGNORE), "MPI_Testall"));
  if (done) buffer->requests = 0;
  *is_free = done;
cleanup:
  return status;
}

static eqs_status take_send_buffer(eqs_transfer *x, send_buffer **buffer)
{
  *buffer = &x->buffer[x->next_buffer];
  x->next_buffer = (x->next_buffer + 1) % send_buffers;
  return wait_for_sends(x->comm, *buffer);
}

static eqs_status send(eqs_transfer *x, send_buffer *buffer, const float *message, int64_t elements, int to)
{
  eqs_status status = EQS_OK;
  EQS_TRY(
      eqs_check_mpi(MPI_Issend(message, (int)elements, MPI_FLOAT, to, tag, x->comm, &buffer->request[buffer->requests]),
                    "MPI_Issend"));
  buffer->requests++;
cleanup:
  return status;
}

static eqs_status receive(eqs_transfer *x, float *message, int64_t elements, int from)
{
  return eqs_check_mpi(MPI_Irecv(message, (int)elements, MPI_FLOAT, from, tag, x->comm, &x->request[from]),
                       "MPI_Irecv");
}

static eqs_status wait_for_receive(eqs_transfer *x, int from)
{
  return eqs_wait(x->comm, &x->request[from], "a piece of a checkpoint's tile");
}

typedef struct {
  eqs_transfer *transfer;
  eqs_tile_action action;
  void *job;
} tile_context;

static eqs_status send_shards(const tile_context *context, const eqs_tile *tile)
{
  eqs_status status = EQS_OK;
  eqs_transfer *x = context->transfer;
  send_buffer *buffer;
  if (tile->rank == x->rank) return EQS_OK;
  int64_t elements = own_elements(x, tile);
  if (elements == 0) return EQS_OK;
  EQS_TRY(take_send_buffer(x, &buffer));
  move_shards(x, tile, SHARDS_TO_MESSAGE, buffer->message);
  EQS_TRY(send(x, buffer, buffer->message, elements, tile->rank));
cleanup:
  return status;
}

/* If a shard of this rank has a tile as it is in the tensor, do what there is to do with it there. */
static bool act_in_shard(const tile_context *context, const eqs_tile *tile)
{
  eqs_tile_shard shard = eqs_tile_find_shard(tile);
  bool here = shard.rank == context->transfer->rank;
  if (here) context->action(context->job, tile, shard.matrix->shard + shard.element);
  return here;
}

static eqs_status receive_rows(const tile_context *context, const eqs_tile *tile)
{
  eqs_status status = EQS_OK;
  eqs_transfer *x = context->transfer;
  if (tile->rank != x->rank || act_in_shard(context, tile)) return EQS_OK;
  find_peers(x, tile);
  for (int p = 0; p < x->peers; p++) {
    int from = x->peer[p];
    if (from != x->rank) EQS_TRY(receive(x, x->message + x->start[from], x->count[from], from));
  }
  if (x->count[x->rank] > 0) move_shards(x, tile, SHARDS_TO_MESSAGE, x->message + x->start[x->rank]);
  for (int p = 0; p < x->peers; p++)
    if (x->peer[p] != x->rank) EQS_TRY(wait_for_receive(x, x->peer[p]));
  move_rows(x, tile, MESSAGES_TO_ROWS, x->message);
  context->action(context->job, tile, x->rows);
cleanup:
  return status;
}

static eqs_status send_rows(const tile_context *context, const eqs_tile *tile)
{
  eqs_status status = EQS_OK;
  eqs_transfer *x = context->transfer;
  send_buffer *buffer;
  if (tile->rank != x->rank || act_in_shard(context, tile)) return EQS_OK;
  EQS_TRY(take_send_buffer(x, &buffer));
  context->action(context->job, tile, x->rows);
  find_peers(x, tile);
  move_rows(x, tile, ROWS_TO_MESSAGES, buffer->message);
  for (int p = 0; p < x->peers; p++) {
    int to = x->peer[p];
    float *message = buffer->message + x->start[to] - x->count[to]; /* start has moved to the end */
    if (to == x->rank)
      move_shards(x, tile, MESSAGE_TO_SHARDS, message);
    else
      EQS_TRY(send(x, buffer, message, x->count[to], to));
  }
cleanup:
  return status;
}

static eqs_status receive_shards(const tile_context *context, const eqs_tile *tile)
{
  eqs_status status = EQS_OK;
  eqs_transfer *x = context->transfer;
  if (tile->rank == x->rank) return EQS_OK;
  int64_t elements = own_elements(x, tile);
  if (elements == 0) return EQS_OK;
  EQS_TRY(receive(x, x->message, elements, tile->rank));
  EQS_TRY(wait_for_receive(x, tile->rank));
  move_shards(x, tile, MESSAGE_TO_SHARDS, x->message);
cleanup:
  return status;
}

typedef eqs_status (*tile_step)(const tile_context *context, const eqs_tile *tile);

static eqs_status walk_tiles(const tile_context *context, tile_step produce, tile_step consume)
{
  eqs_status status = EQS_OK;
  eqs_transfer *x = context->transfer;
  eqs_tile_walk producing = {.table = x->table}, consuming = producing;
  eqs_tile ahead, tile;
  bool more = eqs_tile_next(&producing, &ahead);
  while (eqs_tile_next(&consuming, &tile)) {
    while (more) {
      bool ready = true;
      if (ahead.number > tile.number) EQS_TRY(send_buffer_free(x, &ready));
      if (!ready) break;
      EQS_TRY(produce(context, &ahead));
      more = eqs_tile_next(&producing, &ahead);
    }
    EQS_TRY(consume(context, &tile));
  }
  for (int b = 0; b < send_buffers; b++) EQS_TRY(wait_for_sends(x->comm, &x->buffer[b]));
cleanup:
  return status;
}

eqs_status eqs_transfer_gather(eqs_transfer *transfer, eqs_tile_action action, void *job)
{
  tile_context context = {.transfer = transfer, .action = action, .job = job};
  return walk_tiles(&context, send_shards, receive_rows);
}

eqs_status eqs_transfer_scatter(eqs_transfer *transfer, eqs_tile_action action, void *job)
{
  tile_context context = {.transfer = transfer, .action = action, .job = job};
  return walk_tiles(&context, send_rows, receive_shards);
}
