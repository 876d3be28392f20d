#include "checkpoint/verify.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "checkpoint/directory.h"
#include "checkpoint/read_contents.h"
#include "checkpoint/tiles.h"
#include "dist/communicator.h"

/* The path that the first rank means, and what is in it there; on all ranks its path. Collective. */
static eqs_status find_file(MPI_Comm comm, const char *path, char **file, eqs_checkpoint_contents *contents)
{
  eqs_status status = EQS_OK;
  int rank;
  int64_t length = 0;
  MPI_Comm_rank(comm, &rank);
  if (rank == 0) {
    status = eqs_checkpoint_find(path, file);
    if (status == EQS_OK) status = eqs_contents_read(*file, contents);
    if (status == EQS_OK) eqs_contents_warn_if_changed(*file, contents);
    if (status == EQS_OK) length = (int64_t)strlen(*file) + 1;
  }
  EQS_TRY(eqs_agree(comm, status));
  EQS_TRY(eqs_broadcast_block(comm, file, &length, 0, "the first owner's checkpoint"));
cleanup:
  return status;
}

/* Numbers of the damaged tiles among those of this rank, in order. */
typedef struct {
  int64_t count, *tile;
} damage_list;

static eqs_status check_tiles(MPI_Comm comm, const char *path, const eqs_tile_table *table, damage_list *damage,
                              int64_t *tiles, int64_t *bytes)
{
  eqs_status status = EQS_OK;
  float *rows = NULL;
  int file = -1, rank;
  MPI_Comm_rank(comm, &rank);
  *tiles = *bytes = 0;
  EQS_TRY(eqs_allocate_raw(&rows, eqs_tile_largest(table), sizeof *rows));
  EQS_TRY(eqs_file_open(path, O_RDONLY, &file));
  eqs_tile_walk walk = {.table = table};
  for (eqs_tile tile; eqs_tile_next(&walk, &tile); ++*tiles) {
    bool intact = true;
    *bytes += eqs_tile_elements(&tile) * (int64_t)sizeof *rows;
    if (tile.rank != rank) continue;
    EQS_TRY(eqs_tile_load(file, path, &tile, rows, &intact));
    if (intact) continue;
    EQS_TRY(eqs_grow(&damage->tile, damage->count, sizeof *damage->tile));
    damage->tile[damage->count++] = tile.number;
  }
cleanup:
  eqs_file_close(file);
  free(rows);
  return status;
}

/* Report the damaged tiles of all ranks on the first, in order; many in one message. Collective. */
static eqs_status report_damage(MPI_Comm comm, const eqs_tile_table *table, const damage_list *damage, int64_t tiles,
                                eqs_damage_report report, int64_t *damaged)
{
  enum { many = 4096 };
  eqs_status status = EQS_OK;
  int rank;
  MPI_Comm_rank(comm, &rank);
  eqs_tile_walk walk = {.table = table};
  for (int64_t begin = 0, next = 0; begin < tiles; begin += many) {
    int64_t intact[many];
    int count = tiles - begin < many ? (int)(tiles - begin) : many;
    for (int i = 0; i < count; i++) intact[i] = 1;
    for (; next < damage->count && damage->tile[next] < begin + count; next++) intact[damage->tile[next] - begin] = 0;
    EQS_TRY(eqs_minimum(comm, intact, count, "the other ranks' damaged tiles"));
    eqs_tile tile;
    for (int i = 0; i < count && eqs_tile_next(&walk, &tile); i++) {
      if (intact[i]) continue;
      ++*damaged;
      if (rank == 0 && report) report(tile.tensor->parameter, tile.tensor->stored.name, tile.first_row, tile.end_row);
    }
  }
cleanup:
  return status;
}

eqs_status eqs_checkpoint_verify(MPI_Comm comm, const char *path, eqs_damage_report report, int64_t *tiles,
                                 int64_t *bytes)
{
  eqs_status status = EQS_OK;
  char *file = NULL;
  eqs_checkpoint_contents contents = {0};
  eqs_tile_table table = {0};
  damage_list damage = {0};
  int64_t damaged = 0;
  int rank;
  MPI_Comm_rank(comm, &rank);

  EQS_TRY(find_file(comm, path, &file, &contents));
  EQS_TRY(eqs_agree(comm, rank == 0 ? eqs_tile_table_make(&contents, &table) : EQS_OK));
  EQS_TRY(eqs_tile_table_share(comm, &table));
  EQS_TRY(eqs_agree(comm, check_tiles(comm, file, &table, &damage, tiles, bytes)));
  EQS_TRY(report_damage(comm, &table, &damage, *tiles, report, &damaged));
  status = damaged == 0
               ? EQS_OK
               : eqs_fail(EQS_DAMAGED, "%s: damaged: %lld of %lld tiles", file, (long long)damaged, (long long)*tiles);
  EQS_TRY(eqs_agree(comm, status));
cleanup:
  eqs_contents_free(&contents);
  free(damage.tile);
  eqs_tile_table_free(&table);
  free(file);
  return status;
}
