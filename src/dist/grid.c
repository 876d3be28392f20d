#include "dist/grid.h"

#include <stdlib.h>

#include "base/memory.h"
#include "dist/communicator.h"
#include "dist/context.h"
#include "dist/scalapack.h"

struct eqs_grid_cache {
  MPI_Comm owners;
  int rank, size;   /* of this process among the owners */
  eqs_grid **grids; /* in the order of creation, which is acyclic over ranks; so is that of destruction */
  int64_t count;
};

eqs_status eqs_grid_cache_create(MPI_Comm owners, eqs_grid_cache **cache)
{
  eqs_status status = EQS_OK;
  eqs_grid_cache *new = NULL;
  EQS_TRY(eqs_allocate(&new, 1, sizeof *new));
  new->owners = owners;
  EQS_TRY(eqs_check_mpi(MPI_Comm_rank(owners, &new->rank), "MPI_Comm_rank"));
  EQS_TRY(eqs_check_mpi(MPI_Comm_size(owners, &new->size), "MPI_Comm_size"));
  *cache = new;
  new = NULL;
cleanup:
  free(new);
  return status;
}

int eqs_grid_cache_rank(const eqs_grid_cache *cache)
{
  return cache->rank;
}

static void free_communicator(MPI_Comm *comm)
{
  if (*comm != MPI_COMM_NULL) MPI_Comm_free(comm);
}

static void destroy_grid(eqs_grid *grid)
{
  if (grid->team != NULL) eqs_team_destroy(grid->team);
  free(grid->team);
  if (grid->context >= 0) Cblacs_gridexit(grid->context);
  free_communicator(&grid->col_comm);
  free_communicator(&grid->row_comm);
  free_communicator(&grid->comm);
  free(grid);
}

void eqs_grid_cache_destroy(eqs_grid_cache **cache)
{
  if (*cache == NULL) return;
  for (int64_t i = 0; i < (*cache)->count; i++) destroy_grid((*cache)->grids[i]);
  free((*cache)->grids);
  free(*cache);
  *cache = NULL;
}

static eqs_status create_member_communicator(MPI_Comm owners, eqs_grid *grid)
{
  eqs_status status = EQS_OK;
  MPI_Group all = MPI_GROUP_NULL, members = MPI_GROUP_NULL;
  int range[1][3] = {{grid->first, grid->first + grid->rows * grid->cols - 1, 1}};
  EQS_TRY(eqs_check_mpi(MPI_Comm_group(owners, &all), "MPI_Comm_group"));
  EQS_TRY(eqs_check_mpi(MPI_Group_range_incl(all, 1, range, &members), "MPI_Group_range_incl"));
  EQS_TRY(eqs_check_mpi(MPI_Comm_create_group(owners, members, 0, &grid->comm), "MPI_Comm_create_group"));
  EQS_TRY(eqs_context_share(owners, grid->comm));
cleanup:
  if (members != MPI_GROUP_NULL) MPI_Group_free(&members);
  if (all != MPI_GROUP_NULL) MPI_Group_free(&all);
  return status;
}

/*
 * BLACS's own communicators of the transposed grid. Creating them is collective over the system context, hence
 * the grid's own. In column-major order rank r is at BLACS's (r % cols, r / cols), our (r / cols, r % cols).
 * The system handle is needed during creation only.
 */
static void create_blacs_context(eqs_grid *grid)
{
  int handle = Csys2blacs_handle(grid->comm);
  grid->context = handle;
  Cblacs_gridinit(&grid->context, "Column", grid->cols, grid->rows);
  Cfree_blacs_system_handle(handle);
}

static eqs_status connect_members(MPI_Comm owners, eqs_grid *grid)
{
  eqs_status status = EQS_OK;
  EQS_TRY(create_member_communicator(owners, grid));
  EQS_TRY(eqs_comm_split(grid->comm, grid->row, grid->col, &grid->row_comm));
  EQS_TRY(eqs_comm_split(grid->comm, grid->col, grid->row, &grid->col_comm));
  create_blacs_context(grid);
cleanup:
  return status;
}

static eqs_status create_grid(const eqs_grid_cache *cache, int first, int rows, int cols, eqs_grid **grid)
{
  eqs_status status = EQS_OK;
  eqs_grid *new = NULL;
  EQS_TRY(eqs_allocate(&new, 1, sizeof *new));
  *new = (eqs_grid){.owners = cache->owners,
                    .first = first,
                    .rows = rows,
                    .cols = cols,
                    .row = -1,
                    .col = -1,
                    .comm = MPI_COMM_NULL,
                    .row_comm = MPI_COMM_NULL,
                    .col_comm = MPI_COMM_NULL,
                    .context = -1};
  int position = cache->rank - first;
  if (position >= 0 && position < rows * cols) {
    new->row = position / cols;
    new->col = position % cols;
    if (rows * cols > 1) EQS_TRY(connect_members(cache->owners, new));
    EQS_TRY(eqs_allocate(&new->team, 1, sizeof *new->team));
    EQS_TRY(eqs_team_create(new->comm, new->team));
  }
  *grid = new;
  new = NULL;
cleanup:
  if (new) destroy_grid(new);
  return status;
}

eqs_status eqs_grid_get(eqs_grid_cache *cache, int first, int rows, int cols, const eqs_grid **grid)
{
  for (int64_t i = 0; i < cache->count; i++) {
    const eqs_grid *known = cache->grids[i];
    if (known->first == first && known->rows == rows && known->cols == cols) {
      *grid = known;
      return EQS_OK;
    }
  }
  if (first < 0 || rows < 1 || cols < 1 || (int64_t)first + (int64_t)rows * cols > cache->size)
    return eqs_fail(EQS_USAGE, "a %dx%d process grid from rank %d on does not fit %d owners", rows, cols, first,
                    cache->size);

  eqs_status status = EQS_OK;
  EQS_TRY(eqs_grow(&cache->grids, cache->count, sizeof *cache->grids));
  EQS_TRY(create_grid(cache, first, rows, cols, &cache->grids[cache->count]));
  *grid = cache->grids[cache->count++];
cleanup:
  return status;
}

bool eqs_grid_member(const eqs_grid *grid)
{
  return grid->row >= 0;
}

void eqs_count_grid_flops(const eqs_grid *grid, double flops)
{
  eqs_count_flops(grid->owners, flops / ((double)grid->rows * grid->cols));
}
