#include "dist/redistribute.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "dist/communicator.h"
#include "dist/context.h"

/*
 * A rank packs for every other rank the elements that this one will have, in the order of their global
 * indices, which is that of the local indices on both sides. Both sides compute what they exchange, and
 * only ranks that have elements in common talk.
 */

enum { tag = 30001 }; /* apart from other traffic on the owners' communicator */

/* The local indices of one side along one dimension, sorted by the process that has them on the other side. */
typedef struct {
  int64_t *indices;
  int64_t *begin; /* of a process's indices; procs + 1 elements */
  int64_t *run;   /* of every index: how many consecutive ones follow, itself included, for the same process */
} partition;

static void free_partition(partition *part)
{
  free(part->indices);
  free(part->begin);
  free(part->run);
}

static eqs_status create_partition(int64_t local_count, int64_t block, int coord, int procs, int64_t other_block,
                                   int other_procs, partition *part)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_allocate(&part->begin, (int64_t)other_procs + 1, sizeof *part->begin));
  EQS_TRY(eqs_allocate_raw(&part->indices, local_count, sizeof *part->indices));
  for (int64_t i = 0; i < local_count; i++)
    part->begin[eqs_index_owner(eqs_global_index(i, block, coord, procs), other_block, other_procs) + 1]++;
  for (int p = 0; p < other_procs; p++) part->begin[p + 1] += part->begin[p];
  for (int64_t i = 0; i < local_count; i++)
    part->indices[part->begin[eqs_index_owner(eqs_global_index(i, block, coord, procs), other_block, other_procs)]++] =
        i;
  for (int p = other_procs; p > 0; p--) part->begin[p] = part->begin[p - 1];
  part->begin[0] = 0;
  EQS_TRY(eqs_allocate_raw(&part->run, local_count, sizeof *part->run));
  for (int p = 0; p < other_procs; p++)
    for (int64_t i = part->begin[p + 1] - 1; i >= part->begin[p]; i--) {
      bool goes_on = i + 1 < part->begin[p + 1] && part->indices[i + 1] == part->indices[i] + 1;
      part->run[i] = goes_on ? part->run[i + 1] + 1 : 1;
    }
cleanup:
  return status;
}

/* One side of the exchange: this rank's shard of a matrix and the messages with the ranks of the other grid. */
typedef struct {
  const eqs_matrix *matrix;
  const eqs_grid *other;
  partition rows, cols;
  eqs_element wire; /* element type of messages */
  char *messages;   /* of all ranks, one after the other */
  MPI_Request *requests;
  int64_t request_count;
} side;

static void free_side(side *s)
{
  free_partition(&s->rows);
  free_partition(&s->cols);
  free(s->messages);
  free(s->requests);
}

static eqs_status create_side(const eqs_matrix *matrix, const eqs_matrix *other, side *s)
{
  eqs_status status = EQS_OK;
  const eqs_distribution *mine = &matrix->distribution, *theirs = &other->distribution;
  s->matrix = matrix;
  s->other = other->grid;
  /* the shorter type: rounding before the message or after it is the same */
  s->wire = matrix->element == EQS_ELEMENT_FLOAT ? matrix->element : other->element;
  if (!eqs_grid_member(matrix->grid)) return EQS_OK;
  EQS_TRY(create_partition(matrix->local_rows, mine->row_block, matrix->grid->row, mine->grid_rows, theirs->row_block,
                           theirs->grid_rows, &s->rows));
  EQS_TRY(create_partition(matrix->local_cols, mine->col_block, matrix->grid->col, mine->grid_cols, theirs->col_block,
                           theirs->grid_cols, &s->cols));
  EQS_TRY(eqs_allocate_raw(&s->messages, matrix->local_rows * matrix->local_cols, eqs_element_size(s->wire)));
cleanup:
  return status;
}

/* `count` elements between adjacent places of a shard and of a message; types convert. */
static void pack_run(const side *s, const char *shard, char *message, int64_t count)
{
  if (s->wire == s->matrix->element) {
    memcpy(message, shard, (size_t)count * eqs_element_size(s->wire));
  } else {
    const double *from = (const double *)(const void *)shard;
    float *to = (float *)(void *)message;
    for (int64_t i = 0; i < count; i++) to[i] = (float)from[i];
  }
}

static void unpack_run(const side *s, const char *message, char *shard, int64_t count)
{
  if (s->wire == s->matrix->element) {
    memcpy(shard, message, (size_t)count * eqs_element_size(s->wire));
  } else {
    const float *from = (const float *)(const void *)message;
    double *to = (double *)(void *)shard;
    for (int64_t i = 0; i < count; i++) to[i] = from[i];
  }
}

static void move_message(const side *s, int row, int col, char *message, bool packs)
{
  const eqs_matrix *matrix = s->matrix;
  int64_t size = (int64_t)eqs_element_size(matrix->element), wire = (int64_t)eqs_element_size(s->wire), count;
  for (int64_t i = s->rows.begin[row]; i < s->rows.begin[row + 1]; i++) {
    char *start = (char *)matrix->data + s->rows.indices[i] * matrix->local_cols * size;
    for (int64_t j = s->cols.begin[col]; j < s->cols.begin[col + 1]; j += count, message += count * wire) {
      char *shard = start + s->cols.indices[j] * size;
      count = s->cols.run[j];
      if (packs)
        pack_run(s, shard, message, count);
      else
        unpack_run(s, message, shard, count);
    }
  }
}

static void pack(const side *s, int row, int col, char *message)
{
  move_message(s, row, col, message, true);
}

static void unpack(const side *s, int row, int col, char *message)
{
  move_message(s, row, col, message, false);
}

typedef void visit(const side *s, int row, int col, char *message);

/* Visit the rank of every message in turn, with its place in the buffer. */
static void for_each_message(const side *s, visit *work)
{
  char *message = s->messages;
  if (!eqs_grid_member(s->matrix->grid)) return;
  for (int row = 0; row < s->other->rows; row++) {
    for (int col = 0; col < s->other->cols; col++) {
      int64_t count = (s->rows.begin[row + 1] - s->rows.begin[row]) * (s->cols.begin[col + 1] - s->cols.begin[col]);
      if (count == 0) continue;
      work(s, row, col, message);
      message += count * (int64_t)eqs_element_size(s->wire);
    }
  }
}

/* Start all sends or all receives; a message is split at 1 GiB. */
static eqs_status start(side *s, MPI_Comm owners, bool sending)
{
  const int64_t piece = 1 << 30;
  eqs_status status = EQS_OK;
  char *message = s->messages;
  int self;
  if (!eqs_grid_member(s->matrix->grid)) return EQS_OK;
  MPI_Comm_rank(owners, &self);
  for (int process = 0; process < s->other->rows * s->other->cols; process++) {
    int row = process / s->other->cols, col = process % s->other->cols, rank = s->other->first + process;
    int64_t bytes = (s->rows.begin[row + 1] - s->rows.begin[row]) * (s->cols.begin[col + 1] - s->cols.begin[col]) *
                    (int64_t)eqs_element_size(s->wire);
    for (int64_t begin = 0; begin < bytes; begin += piece, s->request_count++) {
      EQS_TRY(eqs_grow(&s->requests, s->request_count, sizeof *s->requests));
      MPI_Request *request = &s->requests[s->request_count];
      int count = (int)(bytes - begin < piece ? bytes - begin : piece);
      if (sending && rank != self) eqs_count_messages(owners, 1, count);
      if (sending)
        EQS_TRY(eqs_check_mpi(MPI_Isend(message + begin, count, MPI_BYTE, rank, tag, owners, request), "MPI_Isend"));
      else
        EQS_TRY(eqs_check_mpi(MPI_Irecv(message + begin, count, MPI_BYTE, rank, tag, owners, request), "MPI_Irecv"));
    }
    message += bytes;
  }
cleanup:
  return status;
}

static eqs_status finish(side *s, MPI_Comm owners)
{
  eqs_status status = EQS_OK;
  for (int64_t i = 0; i < s->request_count; i++)
    EQS_TRY(eqs_wait(owners, &s->requests[i], "another rank's part of a matrix"));
cleanup:
  return status;
}

eqs_status eqs_matrix_redistribute(MPI_Comm owners, const eqs_matrix *from, eqs_matrix *to)
{
  eqs_status status = EQS_OK;
  side sender = {0}, receiver = {0};
  bool pending = false;
  if (from->distribution.rows != to->distribution.rows || from->distribution.cols != to->distribution.cols)
    return eqs_fail(EQS_USAGE, "a %lldx%lld matrix cannot be moved to one of %lldx%lld",
                    (long long)from->distribution.rows, (long long)from->distribution.cols,
                    (long long)to->distribution.rows, (long long)to->distribution.cols);
  EQS_TRY(create_side(from, to, &sender));
  EQS_TRY(create_side(to, from, &receiver));
  pending = true;
  EQS_TRY(start(&receiver, owners, false));
  for_each_message(&sender, pack);
  EQS_TRY(start(&sender, owners, true));
  EQS_TRY(finish(&receiver, owners));
  for_each_message(&receiver, unpack);
  EQS_TRY(finish(&sender, owners));
  pending = false;
cleanup:
  /* after a failed wait MPI may still write to the buffers: they are left to it */
  if (!pending) {
    free_side(&sender);
    free_side(&receiver);
  }
  return status;
}
