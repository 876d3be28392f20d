/*
 * Squares of which every host has one copy. Rank p computes rows first ... end - 1 of every lower triangle, together
 * with their mirror image; X lies in slabs, each rank works on its own.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "dist/communicator.h"
#include "dist/context.h"
#include "dist/redistribute.h"
#include "dist/symmetric_set_kind.h"
#include "dist/whole_product.h"

int64_t eqs_symmetric_set_block(int64_t k, int64_t length)
{
  int64_t step = eqs_whole_product_rows(k);
  return step < length ? step : length;
}

typedef struct {
  eqs_team *team; /* the grid's */
  int64_t stride, elements;
  int64_t first, end;                   /* rows of this rank */
  float *matrix[eqs_symmetric_set_max]; /* shared by the host, as are the next two */
  float *partial;                       /* of every rank of the host: its slab's Gram matrix */
  float *packed;                        /* panels of all ranks, between hosts */
  const float **term;                   /* partial Gram matrices of the host's ranks */
  float *block;                         /* a part of X */
  eqs_grid here, slabs;                 /* X's grid and that of the slabs, as ranks of X's grid */
  eqs_matrix slab;                      /* X; its own memory only where X lies otherwise */
} holder;

static int64_t first_row(const eqs_symmetric_set *set, int number)
{
  const holder *held = set->holder;
  return eqs_team_first_row(held->team, set->k, eqs_square_padding, number);
}

/* Rows that a rank computes, and how many columns of them: of the lower triangle, or of the whole matrix. */
typedef struct {
  int64_t first, end, cols;
} panel;

static panel panel_of(const eqs_symmetric_set *set, bool whole, int number)
{
  const holder *held = set->holder;
  if (!whole) return (panel){first_row(set, number), first_row(set, number + 1), first_row(set, number + 1)};
  return (panel){set->k * number / held->team->ranks, set->k * (number + 1) / held->team->ranks, set->k};
}

/* Where the panel of a rank begins in `packed`. */
static int64_t packed_place(const eqs_symmetric_set *set, bool whole, int number)
{
  int64_t place = 0;
  for (int p = 0; p < number; p++) {
    panel part = panel_of(set, whole, p);
    place += (part.end - part.first) * part.cols;
  }
  return place;
}

/* ----- X in slabs ----- */

/* A copy of X's matrix on a grid of X's ranks, numbered from 0, as eqs_matrix_redistribute wants it. */
static eqs_matrix as_seen_from(const eqs_grid *grid, const eqs_matrix *x)
{
  eqs_matrix seen = *x;
  seen.grid = grid;
  seen.owns_data = false;
  return seen;
}

static eqs_status take_slab(eqs_symmetric_set *set)
{
  eqs_status status = EQS_OK;
  holder *held = set->holder;
  eqs_matrix *x = set->x;
  const eqs_grid *grid = x->grid;
  int ranks = grid->rows * grid->cols, rank = grid->row * grid->cols + grid->col;
  bool by_columns = set->op == EQS_AS_IS;
  held->here = *grid;
  held->here.first = 0;
  held->slab = as_seen_from(&held->here, x);
  if (by_columns ? grid->rows == 1 : grid->cols == 1) return EQS_OK;
  held->slabs = held->here;
  held->slabs.rows = by_columns ? 1 : ranks, held->slabs.cols = by_columns ? ranks : 1;
  held->slabs.row = by_columns ? 0 : rank, held->slabs.col = by_columns ? rank : 0;
  int64_t width = (set->l + ranks - 1) / ranks;
  if (width < 1) width = 1;
  eqs_matrix from = held->slab;
  EQS_TRY(eqs_matrix_create(&held->slabs, x->distribution.rows, x->distribution.cols,
                            by_columns ? x->distribution.rows : width, by_columns ? width : x->distribution.cols,
                            EQS_ELEMENT_FLOAT, &held->slab));
  EQS_TRY(eqs_matrix_redistribute(grid->comm, &from, &held->slab));
cleanup:
  return status;
}

static eqs_status return_slab(eqs_symmetric_set *set)
{
  holder *held = set->holder;
  if (!held->slab.owns_data) return EQS_OK;
  eqs_matrix to = as_seen_from(&held->here, set->x);
  return eqs_matrix_redistribute(set->x->grid->comm, &held->slab, &to);
}

/* ----- memory ----- */

static eqs_status share_memory(eqs_symmetric_set *set)
{
  eqs_status status = EQS_OK;
  holder *held = set->holder;
  float *memory;
  int partials;
  int64_t packed;
  do { /* where memory cannot be shared the team becomes one of many hosts, which takes another distribution */
    partials = held->team->ranks > 1 ? held->team->host_ranks : 0;
    packed = held->team->hosts > 1 ? set->k * set->k : 0;
    EQS_TRY(eqs_team_reserve(held->team, (set->count + partials) * held->elements + packed, &memory));
  } while (partials != (held->team->ranks > 1 ? held->team->host_ranks : 0));
  for (int i = 0; i < set->count; i++) held->matrix[i] = memory + i * held->elements;
  held->partial = memory + set->count * held->elements;
  held->packed = held->partial + partials * held->elements;
  EQS_TRY(eqs_allocate(&held->term, partials > 0 ? partials : 1, sizeof *held->term));
  for (int r = 0; r < partials; r++) held->term[r] = held->partial + r * held->elements;
  held->first = first_row(set, held->team->number);
  held->end = first_row(set, held->team->number + 1);
cleanup:
  return status;
}

/* The kernels compute whole vectors: what is beside a matrix must be zero. */
static void clear_padding(const eqs_symmetric_set *set, float *square)
{
  const holder *held = set->holder;
  int64_t k = set->k, padded = eqs_square_rows(k);
  for (int64_t i = 0; i < k; i++)
    for (int64_t j = k; j < padded; j++) square[i * held->stride + j] = 0;
  memset(square + k * held->stride, 0, (size_t)((padded - k) * held->stride) * sizeof *square);
}

static eqs_status clear_all_padding(eqs_symmetric_set *set)
{
  holder *held = set->holder;
  int partials = held->team->ranks > 1 ? held->team->host_ranks : 0;
  if (set->k % eqs_square_padding != 0 && held->team->host_rank == 0)
    for (int i = 0; i < set->count + partials; i++) clear_padding(set, held->matrix[0] + i * held->elements);
  return eqs_team_wait(held->team);
}

static void free_holder(holder *held)
{
  eqs_matrix_destroy(&held->slab);
  free(held->term);
  free(held->block);
  free(held);
}

static eqs_status close_set(eqs_symmetric_set *set)
{
  eqs_status status = return_slab(set);
  free_holder(set->holder);
  return status;
}

static eqs_status open_set(eqs_symmetric_set *set)
{
  eqs_status status = EQS_OK;
  holder *held = NULL;
  EQS_TRY(eqs_allocate(&held, 1, sizeof *held));
  set->holder = held;
  held->team = set->x->grid->team;
  held->stride = eqs_square_stride(set->k);
  held->elements = eqs_square_floats(set->k);
  EQS_TRY(take_slab(set));
  EQS_TRY(share_memory(set));
  EQS_TRY(clear_all_padding(set));
cleanup:
  if (status != EQS_OK && held != NULL) free_holder(held);
  return status;
}

/* ----- panels between hosts ----- */

static void pack_panel(const eqs_symmetric_set *set, bool whole, int number, const float *from)
{
  const holder *held = set->holder;
  panel part = panel_of(set, whole, number);
  float *to = held->packed + packed_place(set, whole, number);
  for (int64_t i = part.first; i < part.end; i++, to += part.cols)
    memcpy(to, from + i * held->stride, (size_t)part.cols * sizeof *to);
}

static void unpack_panel(const eqs_symmetric_set *set, bool whole, int number, float *to)
{
  const holder *held = set->holder;
  panel part = panel_of(set, whole, number);
  const float *from = held->packed + packed_place(set, whole, number);
  for (int64_t i = part.first; i < part.end; i++, from += part.cols)
    memcpy(to + i * held->stride, from, (size_t)part.cols * sizeof *to);
}

typedef eqs_status (*leaders_call)(const eqs_team *team, const int64_t *first, float *packed);

/* Between hosts, by their leaders, when all ranks of the host are ready; all wait for it. */
static eqs_status among_hosts(eqs_symmetric_set *set, bool whole, leaders_call call)
{
  eqs_status status = EQS_OK;
  holder *held = set->holder;
  int64_t *first = NULL; /* where the parts of the hosts begin */
  EQS_TRY(eqs_team_wait(held->team));
  if (held->team->host_rank == 0) {
    EQS_TRY(eqs_allocate(&first, (int64_t)held->team->hosts + 1, sizeof *first));
    for (int h = 0; h <= held->team->hosts; h++) first[h] = packed_place(set, whole, held->team->first[h]);
    EQS_TRY(call(held->team, first, held->packed));
  }
  EQS_TRY(eqs_team_wait(held->team));
cleanup:
  free(first);
  return status;
}

/* Rows first ... end - 1 of the upper triangle's columns <- the lower triangle. */
static void mirror_rows(const eqs_symmetric_set *set, int64_t first, int64_t end, float *square)
{
  const float *term = square;
  eqs_symmetric_sum copy = {
      .n = set->k, .stride = ((holder *)set->holder)->stride, .alpha = 1, .terms = 1, .term = &term, .to = square};
  eqs_symmetric_sum_rows(&copy, first, end);
}

/* This rank's panel of matrix[to] is complete: all ranks get all panels. */
static eqs_status complete(eqs_symmetric_set *set, bool whole, int to)
{
  eqs_status status = EQS_OK;
  holder *held = set->holder;
  eqs_team *team = held->team;
  if (team->hosts > 1) {
    pack_panel(set, whole, team->number, held->matrix[to]);
    EQS_TRY(among_hosts(set, whole, eqs_team_exchange));
    for (int p = 0; p < team->ranks; p++) {
      bool elsewhere = p < team->first[team->host] || p >= team->first[team->host + 1];
      if (!elsewhere || p % team->host_ranks != team->host_rank) continue;
      panel part = panel_of(set, whole, p);
      unpack_panel(set, whole, p, held->matrix[to]);
      if (!whole) mirror_rows(set, part.first, part.end, held->matrix[to]);
    }
  }
  EQS_TRY(eqs_team_wait(team));
cleanup:
  return status;
}

/* ----- the operations ----- */

static eqs_rows rows_of_slab(const eqs_symmetric_set *set)
{
  const eqs_matrix *slab = &((holder *)set->holder)->slab;
  return (eqs_rows){eqs_floats(slab), slab->local_cols, set->op == EQS_TRANSPOSED};
}

static int64_t slab_length(const eqs_symmetric_set *set)
{
  const eqs_matrix *slab = &((holder *)set->holder)->slab;
  return set->op == EQS_AS_IS ? slab->local_cols : slab->local_rows;
}

static eqs_rows rows_of_square(const holder *held, int i)
{
  return (eqs_rows){held->matrix[i], held->stride, true}; /* its rows are its columns */
}

/* The host's sum of the slabs' Gram matrices, for the panels that this rank takes, then that of all hosts. */
static eqs_status sum_between_hosts(eqs_symmetric_set *set, float *to)
{
  eqs_status status = EQS_OK;
  holder *held = set->holder;
  eqs_team *team = held->team;
  for (int p = team->host_rank; p < team->ranks; p += team->host_ranks) {
    int64_t first = first_row(set, p), end = first_row(set, p + 1);
    float *sum = held->packed + packed_place(set, false, p);
    for (int64_t i = first; i < end; i++, sum += end) {
      memcpy(sum, held->term[0] + i * held->stride, (size_t)end * sizeof *sum);
      for (int r = 1; r < team->host_ranks; r++)
        for (int64_t j = 0; j < end; j++) sum[j] += held->term[r][i * held->stride + j];
    }
  }
  EQS_TRY(among_hosts(set, false, eqs_team_reduce));
  unpack_panel(set, false, team->number, to);
cleanup:
  return status;
}

static eqs_status gram(eqs_symmetric_set *set, double alpha, double shift, int to)
{
  eqs_status status = EQS_OK;
  holder *held = set->holder;
  eqs_team *team = held->team;
  int64_t k = set->k, length = slab_length(set);
  eqs_rows rows = rows_of_slab(set);
  float *own = team->ranks > 1 ? held->partial + team->host_rank * held->elements : held->matrix[to];
  const float *term = own;
  eqs_symmetric_sum sum = {.n = k,
                           .stride = held->stride,
                           .alpha = alpha,
                           .shift = shift,
                           .terms = 1,
                           .term = &term,
                           .to = held->matrix[to]};
  if (length > 0)
    EQS_TRY(eqs_half_product(0, k, length, rows, rows, false, own, held->stride));
  else
    memset(own, 0, (size_t)held->elements * sizeof *own);
  eqs_count_flops(set->x->grid->owners, eqs_half_product_flops(0, k, length));
  EQS_TRY(eqs_team_wait(team));
  if (team->hosts > 1) {
    EQS_TRY(sum_between_hosts(set, held->matrix[to]));
    term = held->matrix[to];
  } else if (team->ranks > 1) {
    sum.terms = team->host_ranks;
    sum.term = held->term;
  }
  eqs_symmetric_sum_rows(&sum, held->first, held->end);
  EQS_TRY(complete(set, false, to));
cleanup:
  return status;
}

static eqs_status multiply(eqs_symmetric_set *set, double alpha, int a, int b, double beta, int addend, double shift,
                           int to)
{
  eqs_status status = EQS_OK;
  holder *held = set->holder;
  const float *term = held->matrix[to];
  eqs_symmetric_sum sum = {.n = set->k,
                           .stride = held->stride,
                           .alpha = alpha,
                           .beta = beta,
                           .shift = shift,
                           .terms = 1,
                           .term = &term,
                           .addend = addend >= 0 ? held->matrix[addend] : NULL,
                           .to = held->matrix[to]};
  EQS_TRY(eqs_half_product(held->first, held->end, set->k, rows_of_square(held, a), rows_of_square(held, b), true,
                           held->matrix[to], held->stride));
  eqs_count_flops(set->x->grid->owners, eqs_half_product_flops(held->first, held->end, set->k));
  eqs_symmetric_sum_rows(&sum, held->first, held->end);
  EQS_TRY(complete(set, false, to));
cleanup:
  return status;
}

static eqs_status multiply_whole(eqs_symmetric_set *set, int a, int b, int to)
{
  eqs_status status = EQS_OK;
  holder *held = set->holder;
  panel part = panel_of(set, true, held->team->number);
  int64_t rows = part.end - part.first, begin = part.first * held->stride;
  eqs_rows rows_of_a = {held->matrix[a] + begin, held->stride, false};
  EQS_TRY(eqs_whole_product(rows, set->k, set->k, 1, rows_of_a, held->matrix[b], held->stride, held->matrix[to] + begin,
                            held->stride));
  eqs_count_flops(set->x->grid->owners, 2.0 * (double)rows * (double)set->k * (double)set->k);
  EQS_TRY(complete(set, true, to));
cleanup:
  return status;
}

static eqs_status combine(eqs_symmetric_set *set, double beta, int from, int addend, double shift, int to)
{
  eqs_status status = EQS_OK;
  holder *held = set->holder;
  const float *term = held->matrix[from];
  eqs_symmetric_sum sum = {.n = set->k,
                           .stride = held->stride,
                           .alpha = beta,
                           .beta = 1,
                           .shift = shift,
                           .terms = 1,
                           .term = &term,
                           .addend = addend >= 0 ? held->matrix[addend] : NULL,
                           .to = held->matrix[to]};
  eqs_symmetric_sum_rows(&sum, held->first, held->end);
  EQS_TRY(complete(set, false, to));
cleanup:
  return status;
}

static eqs_status norm_of(eqs_symmetric_set *set, int i, double *norm)
{
  eqs_status status = EQS_OK;
  holder *held = set->holder;
  double sum_of_squares = 0;
  for (int64_t row = held->first; row < held->end; row++) {
    const float *values = held->matrix[i] + row * held->stride;
    sum_of_squares += eqs_dot_floats(values, values, set->k);
  }
  if (held->team->ranks > 1)
    EQS_TRY(eqs_sum(set->x->grid->comm, &sum_of_squares, 1, "the norm of a matrix of other ranks"));
  *norm = sqrt(sum_of_squares);
cleanup:
  return status;
}

/* A part of the slab along its long side: `rows` pieces of `width` elements, `stride` apart. */
typedef struct {
  float *x;
  int64_t rows, width, stride;
} slab_part;

static slab_part part_of_slab(const eqs_symmetric_set *set, int64_t begin, int64_t end)
{
  const eqs_matrix *slab = &((holder *)set->holder)->slab;
  if (set->op == EQS_AS_IS) return (slab_part){eqs_floats(slab) + begin, set->k, end - begin, slab->local_cols};
  return (slab_part){eqs_floats(slab) + begin * set->k, end - begin, set->k, set->k};
}

static eqs_status apply_to_part(const eqs_symmetric_set *set, double alpha, int q, const slab_part *part, double *dot)
{
  eqs_status status = EQS_OK;
  const holder *held = set->holder;
  int64_t k = set->k, width = part->width;
  for (int64_t i = 0; i < part->rows; i++)
    memcpy(held->block + i * width, part->x + i * part->stride, (size_t)width * sizeof *part->x);
  if (set->op == EQS_AS_IS)
    EQS_TRY(eqs_whole_product(k, width, k, alpha, rows_of_square(held, q), held->block, width, part->x, part->stride));
  else
    EQS_TRY(eqs_whole_product(part->rows, k, k, alpha, (eqs_rows){held->block, k, false}, held->matrix[q], held->stride,
                              part->x, part->stride));
  eqs_count_flops(set->x->grid->owners, 2.0 * (double)part->rows * (double)width * (double)k);
  for (int64_t i = 0; dot != NULL && i < part->rows; i++)
    *dot += eqs_dot_floats(held->block + i * width, part->x + i * part->stride, width);
cleanup:
  return status;
}

static eqs_status apply(eqs_symmetric_set *set, double alpha, int q, double *dot)
{
  eqs_status status = EQS_OK;
  holder *held = set->holder;
  int64_t length = slab_length(set), step = eqs_symmetric_set_block(set->k, length);
  if (held->block == NULL) EQS_TRY(eqs_allocate_raw(&held->block, step * set->k, sizeof *held->block));
  if (dot != NULL) *dot = 0;
  for (int64_t begin = 0; begin < length; begin += step) {
    slab_part part = part_of_slab(set, begin, begin + step < length ? begin + step : length);
    EQS_TRY(apply_to_part(set, alpha, q, &part, dot));
  }
  if (dot != NULL && held->team->ranks > 1)
    EQS_TRY(eqs_sum(set->x->grid->comm, dot, 1, "the nuclear norm's parts on other ranks"));
cleanup:
  return status;
}

const eqs_symmetric_set_kind eqs_symmetric_set_replicated_kind = {
    .open = open_set,
    .close = close_set,
    .gram = gram,
    .multiply = multiply,
    .multiply_whole = multiply_whole,
    .combine = combine,
    .norm = norm_of,
    .apply = apply,
};
