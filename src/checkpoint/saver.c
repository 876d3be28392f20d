#include "checkpoint/saver.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "checkpoint/directory.h"
#include "checkpoint/write.h"
#include "dist/communicator.h"
#include "dist/context.h"

/* What this owner does. */
typedef enum {
  IDLE,
  WRITING,   /* its thread writes tiles */
  AGREEING,  /* its tiles are written, or have failed to be; how the others fare is not known yet */
  COMMITTING /* first owner: its thread gives the file its name */
} saver_stage;

typedef struct {
  eqs_tile tile;
  float *rows;
} kept_tile;

struct eqs_saver {
  MPI_Comm owners; /* its own: the agreement goes on beside other collectives */
  int rank;
  saver_stage stage;
  eqs_status status; /* of this owner in the save under way, or the last one */
  char *message;     /* if it failed */

  eqs_checkpoint_directory to;
  char *directory; /* its path */
  eqs_partial_file partial;
  int64_t tiles;
  kept_tile *tile;
  int64_t capacity, copied; /* floats that `copy` has room for, and has */
  float *copy;              /* the tiles' rows, one after the other */

  int64_t failed; /* how many owners have; valid after the agreement */
  MPI_Request agreement;

  pthread_t thread;
  eqs_status (*work)(eqs_saver *saver); /* of the thread */
  eqs_status thread_status;
  char *thread_message;
  atomic_llong written; /* tiles so far */
  atomic_bool ended;    /* the thread's results are there */
  long long seen;       /* tiles written when last looked at */
};

eqs_status eqs_saver_create(MPI_Comm owners, eqs_saver **result)
{
  eqs_status status = EQS_OK;
  eqs_saver *saver = NULL;
  EQS_TRY(eqs_agree(owners, eqs_allocate(&saver, 1, sizeof *saver)));
  saver->owners = MPI_COMM_NULL;
  saver->agreement = MPI_REQUEST_NULL;
  EQS_TRY(eqs_check_mpi(MPI_Comm_dup(owners, &saver->owners), "MPI_Comm_dup"));
  EQS_TRY(eqs_context_share(owners, saver->owners));
  EQS_TRY(eqs_check_mpi(MPI_Comm_rank(owners, &saver->rank), "MPI_Comm_rank"));
  *result = saver;
  saver = NULL;
cleanup:
  free(saver);
  return status;
}

/* What belongs to one save; the copy's memory stays. */
static void forget_save(eqs_saver *saver, bool remove)
{
  eqs_partial_end(&saver->partial, remove && saver->rank == 0);
  free(saver->tile);
  free(saver->directory);
  saver->tile = NULL;
  saver->directory = NULL;
  saver->tiles = saver->copied = 0;
}

void eqs_saver_destroy(eqs_saver **result)
{
  eqs_saver *saver = *result;
  if (saver == NULL) return;
  if (saver->stage == WRITING || saver->stage == COMMITTING) pthread_join(saver->thread, NULL);
  forget_save(saver, saver->stage == WRITING || saver->stage == AGREEING);
  free(saver->copy);
  free(saver->message);
  free(saver->thread_message);
  *result = NULL;
  if (saver->stage == AGREEING) return; /* what MPI still uses stays */
  MPI_Comm_free(&saver->owners);
  free(saver);
}

/* ----- the thread ----- */

static eqs_status write_tiles(eqs_saver *saver)
{
  eqs_status status = EQS_OK;
  int file = -1;
  const eqs_partial_file *partial = &saver->partial;
  if (saver->tiles == 0) return EQS_OK;
  EQS_TRY(eqs_file_open(partial->partial, O_WRONLY, &file));
  for (int64_t i = 0; i < saver->tiles; i++) {
    EQS_TRY(eqs_tile_write(file, partial->partial, &saver->tile[i].tile, saver->tile[i].rows));
    atomic_fetch_add(&saver->written, 1);
  }
  EQS_TRY(eqs_file_sync(file, partial->partial));
cleanup:
  eqs_file_close(file);
  return status;
}

static eqs_status commit(eqs_saver *saver)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_partial_commit(&saver->partial));
  EQS_TRY(eqs_directory_publish(&saver->to, saver->partial.path));
cleanup:
  return status;
}

static void *run_thread(void *context)
{
  eqs_saver *saver = context;
  saver->thread_status = saver->work(saver);
  if (saver->thread_status != EQS_OK) saver->thread_message = strdup(eqs_error_message());
  atomic_store(&saver->ended, true);
  return NULL;
}

/* Signals are for the other threads. */
static eqs_status start_thread(eqs_saver *saver, eqs_status (*work)(eqs_saver *saver))
{
  sigset_t all, before;
  saver->work = work;
  atomic_store(&saver->ended, false);
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int code = pthread_create(&saver->thread, NULL, run_thread, saver);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return code == 0 ? EQS_OK : eqs_fail(EQS_FAILED, "cannot start a thread to write a checkpoint: %s", strerror(code));
}

/* Keep this owner's failure, which is told later. */
static void fail_save(eqs_saver *saver, eqs_status status, const char *message)
{
  saver->status = status;
  free(saver->message);
  saver->message = NULL;
  char *text;
  if (eqs_format(&text, "a checkpoint could not be written in the background: %s", message) == EQS_OK)
    saver->message = text;
}

/* Whether the thread has ended; then its result is the saver's. */
static bool take_thread(eqs_saver *saver)
{
  if (!atomic_load(&saver->ended)) return false;
  pthread_join(saver->thread, NULL);
  if (saver->thread_status != EQS_OK)
    fail_save(saver, saver->thread_status, saver->thread_message ? saver->thread_message : "out of memory");
  free(saver->thread_message);
  saver->thread_message = NULL;
  return true;
}

/* ----- the owner ----- */

static void keep_tile(void *context, const eqs_tile *tile, float *rows)
{
  eqs_saver *saver = context;
  int64_t elements = eqs_tile_elements(tile);
  float *kept = saver->copy + saver->copied;
  memcpy(kept, rows, (size_t)elements * sizeof *rows);
  saver->tile[saver->tiles++] = (kept_tile){.tile = *tile, .rows = kept};
  saver->copied += elements;
}

/* Room for this owner's tiles. */
static eqs_status make_room(eqs_saver *saver)
{
  eqs_status status = EQS_OK;
  int64_t tiles = 0, elements = 0;
  eqs_tile_walk walk = {.table = &saver->partial.table};
  for (eqs_tile tile; eqs_tile_next(&walk, &tile);) {
    if (tile.rank != saver->rank) continue;
    tiles++;
    elements += eqs_tile_elements(&tile);
  }
  EQS_TRY(eqs_allocate_raw(&saver->tile, tiles, sizeof *saver->tile));
  if (elements > saver->capacity) {
    free(saver->copy);
    saver->copy = NULL;
    saver->capacity = 0;
    EQS_TRY(eqs_allocate_raw(&saver->copy, elements, sizeof *saver->copy));
    saver->capacity = elements;
  }
cleanup:
  return status;
}

static eqs_status prepare(eqs_saver *saver, const eqs_checkpoint_directory *to, int64_t step)
{
  eqs_status status = EQS_OK;
  saver->to = *to;
  EQS_TRY(eqs_copy_text(&saver->directory, to->path));
  saver->to.path = saver->directory;
  if (saver->rank == 0) EQS_TRY(eqs_directory_prepare(saver->directory, step));
cleanup:
  return status;
}

eqs_status eqs_saver_begin(eqs_saver *saver, const eqs_checkpoint_directory *to,
                           const eqs_checkpoint_contents *contents)
{
  eqs_status status = EQS_OK;
  char *path = NULL;
  bool started = false;
  saver->status = EQS_OK;
  EQS_TRY(eqs_agree(saver->owners, prepare(saver, to, contents->step)));
  EQS_TRY(eqs_agree(saver->owners, eqs_directory_file(saver->directory, contents->step, &path)));
  EQS_TRY(eqs_partial_begin(saver->owners, path, contents, &saver->partial));
  EQS_TRY(eqs_agree(saver->owners, make_room(saver)));
  EQS_TRY(eqs_agree(saver->owners, eqs_transfer_gather(saver->partial.transfer, keep_tile, saver)));
  eqs_transfer_destroy(&saver->partial.transfer);
  atomic_store(&saver->written, 0);
  saver->seen = 0;
  status = start_thread(saver, write_tiles);
  started = status == EQS_OK;
  EQS_TRY(eqs_agree(saver->owners, status));
cleanup:
  free(path);
  if (started && (status == EQS_OK || status == EQS_PEER_LOST)) {
    saver->stage = WRITING; /* not before all are known to: nobody agrees with an owner that has no thread */
    return status;
  }
  if (started) pthread_join(saver->thread, NULL);
  forget_save(saver, true);
  return status;
}

static eqs_status begin_agreement(eqs_saver *saver)
{
  saver->failed = saver->status != EQS_OK;
  saver->stage = AGREEING;
  return eqs_check_mpi(
      MPI_Iallreduce(MPI_IN_PLACE, &saver->failed, 1, MPI_INT64_T, MPI_SUM, saver->owners, &saver->agreement),
      "MPI_Iallreduce");
}

static void end_save(eqs_saver *saver, bool committed)
{
  saver->stage = IDLE;
  forget_save(saver, !committed);
}

/* All know now whether all have written. */
static void end_agreement(eqs_saver *saver)
{
  if (saver->failed > 0 || saver->rank != 0) {
    end_save(saver, saver->failed == 0);
    return;
  }
  saver->stage = COMMITTING;
  if (start_thread(saver, commit) == EQS_OK) return;
  fail_save(saver, EQS_FAILED, eqs_error_message());
  end_save(saver, false);
}

eqs_status eqs_saver_advance(eqs_saver *saver, bool *moved)
{
  eqs_status status = EQS_OK;
  saver_stage before = saver->stage;
  int agreed = false;
  switch (saver->stage) {
  case IDLE: return EQS_OK;
  case WRITING:
    if (atomic_load(&saver->written) != saver->seen) *moved = true;
    saver->seen = atomic_load(&saver->written);
    if (take_thread(saver)) EQS_TRY(begin_agreement(saver));
    break;
  case AGREEING:
    EQS_TRY(eqs_check_mpi(MPI_Test(&saver->agreement, &agreed, MPI_STATUS_IGNORE), "MPI_Test"));
    if (agreed) end_agreement(saver);
    break;
  case COMMITTING:
    if (take_thread(saver)) end_save(saver, saver->status == EQS_OK);
    break;
  }
  *moved = *moved || saver->stage != before;
cleanup:
  return status;
}

bool eqs_saver_idle(const eqs_saver *saver)
{
  return saver->stage == IDLE;
}

eqs_status eqs_saver_result(const eqs_saver *saver)
{
  if (saver->status == EQS_OK) return EQS_OK;
  return eqs_fail(saver->status, "%s", saver->message ? saver->message : "a checkpoint could not be written");
}
