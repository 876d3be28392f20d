#include "service/route.h"

#include <stdlib.h>

#include "base/memory.h"

/* Messages up to this size: large enough for the network's bandwidth, small enough to overlap packing and sending. */
static const int64_t message_bytes = 1 << 20;

static size_t element_size(const eqs_plan *plan, int64_t parameter)
{
  return eqs_dtype_size(plan->parameter[parameter].info.dtype);
}

static bool is_pull(eqs_route_kind kind)
{
  return kind == EQS_ROUTE_WEIGHT || kind == EQS_ROUTE_FROZEN;
}

bool eqs_route_is_for(eqs_route_kind kind, const eqs_parameter_info *info)
{
  return kind == EQS_ROUTE_INITIAL || (kind == EQS_ROUTE_FROZEN) == (info->frozen != 0);
}

static eqs_placement placement_of(const eqs_route *route, const eqs_parameter_info *info)
{
  return route->kind == EQS_ROUTE_GRADIENT ? info->gradient_placement : info->weight_placement;
}

static eqs_fragment whole_fragment(const eqs_plan *plan, const eqs_piece *piece)
{
  const eqs_planned_parameter *parameter = &plan->parameter[piece->parameter];
  return (eqs_fragment){
      .view = &parameter->assignment.views[piece->matrix],
      .distribution = &parameter->matrix[piece->matrix].distribution,
      .row = piece->row,
      .col = piece->col,
      .first_row = piece->first_row,
      .end_row = piece->end_row,
  };
}

/* Trainer `trainer` of a tensor split along dimension 0 as torch.chunk does. */
static void chunk_rows(const eqs_parameter_info *info, int64_t tensor_rows, int trainers, int trainer, int64_t *first,
                       int64_t *end)
{
  int64_t length = info->shape[0], slice = length > 0 ? tensor_rows / length : 0;
  int64_t chunk = (length + trainers - 1) / trainers;
  *first = chunk * trainer < length ? chunk * trainer : length;
  *end = *first + chunk < length ? *first + chunk : length;
  *first *= slice, *end *= slice;
}

/* Rows of the whole tensor that a trainer holds under the route's placement. */
static void held_rows(const eqs_route *route, int64_t parameter, int trainer, int64_t *first, int64_t *end)
{
  const eqs_planned_parameter *planned = &route->plan->parameter[parameter];
  int64_t rows = planned->assignment.count > 0 ? planned->assignment.views[0].tensor_rows : 0;
  *first = 0, *end = rows;
  if (placement_of(route, &planned->info) == EQS_SHARD)
    chunk_rows(&planned->info, rows, route->trainers, trainer, first, end);
}

eqs_fragment eqs_route_fragment(const eqs_route *route, const eqs_piece *piece, int trainer)
{
  eqs_fragment fragment = whole_fragment(route->plan, piece);
  const eqs_planned_parameter *planned = &route->plan->parameter[piece->parameter];
  int64_t first, end;
  held_rows(route, piece->parameter, trainer, &first, &end);
  if (fragment.first_row < first) fragment.first_row = first;
  if (fragment.end_row > end) fragment.end_row = end;
  /* What all trainers have alike, one of them sends: a different one for every owner. Initial values may differ: the
   * first trainer's count. */
  int sender = route->kind == EQS_ROUTE_INITIAL ? 0 : route->bucket[piece->bucket].owner % route->trainers;
  if (!is_pull(route->kind) && placement_of(route, &planned->info) == EQS_REPLICATE && trainer != sender)
    fragment.end_row = fragment.first_row;
  if (fragment.end_row < fragment.first_row) fragment.end_row = fragment.first_row;
  return fragment;
}

int64_t eqs_route_offset(const eqs_route *route, const eqs_piece *piece, int trainer)
{
  int64_t first, end;
  eqs_fragment fragment = eqs_route_fragment(route, piece, trainer);
  held_rows(route, piece->parameter, trainer, &first, &end);
  return (fragment.first_row - first) * fragment.view->tensor_cols *
         (int64_t)element_size(route->plan, piece->parameter);
}

int64_t eqs_route_payload(const eqs_route *route, const eqs_bucket *bucket, int trainer)
{
  int64_t bytes = 0;
  for (int64_t i = 0; i < bucket->pieces; i++) {
    const eqs_piece *piece = &route->piece[bucket->piece[i]];
    eqs_fragment fragment = eqs_route_fragment(route, piece, trainer);
    bytes += eqs_fragment_count(&fragment) * (int64_t)element_size(route->plan, piece->parameter);
  }
  return bytes;
}

int64_t eqs_route_header(const eqs_route *route, const eqs_bucket *bucket)
{
  int64_t settings = route->settings * (int64_t)sizeof(double);
  return route->kind != EQS_ROUTE_WEIGHT ? (settings + bucket->pieces + 15) / 16 * 16 : 0;
}

int64_t eqs_route_largest(const eqs_route *route)
{
  int64_t largest = 0;
  for (int64_t b = 0; b < route->buckets; b++)
    if (route->bucket[b].bytes > largest) largest = route->bucket[b].bytes;
  return largest;
}

bool eqs_route_uniform(const eqs_route *route, const eqs_bucket *bucket)
{
  for (int64_t i = 0; i < bucket->pieces; i++) {
    int64_t parameter = route->piece[bucket->piece[i]].parameter;
    if (placement_of(route, &route->plan->parameter[parameter].info) == EQS_SHARD) return false;
  }
  return true;
}

/* The route while it is made: every owner's bucket that is still filling up. */
typedef struct {
  eqs_route *route;
  eqs_bucket *open; /* of every owner */
} builder;

static eqs_status close_bucket(builder *build, int owner)
{
  eqs_status status = EQS_OK;
  eqs_bucket *open = &build->open[owner];
  eqs_route *route = build->route;
  if (open->pieces == 0) goto cleanup;
  EQS_TRY(eqs_grow(&route->bucket, route->buckets, sizeof *route->bucket));
  open->bytes += eqs_route_header(route, open);
  for (int64_t i = 0; i < open->pieces; i++) route->piece[open->piece[i]].bucket = route->buckets;
  route->bucket[route->buckets++] = *open;
  *open = (eqs_bucket){.owner = owner};
cleanup:
  return status;
}

static eqs_status add_piece(builder *build, int owner, eqs_piece piece, int64_t bytes)
{
  eqs_status status = EQS_OK;
  eqs_route *route = build->route;
  eqs_bucket *open = &build->open[owner];
  if (open->pieces > 0 && open->bytes + bytes > message_bytes) EQS_TRY(close_bucket(build, owner));
  EQS_TRY(eqs_grow(&route->piece, route->pieces, sizeof *route->piece));
  EQS_TRY(eqs_grow(&open->piece, open->pieces, sizeof *open->piece));
  route->piece[route->pieces] = piece;
  open->piece[open->pieces++] = route->pieces++;
  open->bytes += bytes;
cleanup:
  return status;
}

/* A shard of a matrix, cut into ranges of tensor rows that fit into a message. */
static eqs_status add_shard(builder *build, int owner, eqs_piece piece)
{
  eqs_status status = EQS_OK;
  const eqs_plan *plan = build->route->plan;
  eqs_fragment fragment = whole_fragment(plan, &piece);
  int64_t size = (int64_t)element_size(plan, piece.parameter), rows = piece.end_row - piece.first_row;
  int64_t bytes = eqs_fragment_count(&fragment) * size;
  int64_t cuts = (bytes + message_bytes - 1) / message_bytes;
  if (bytes == 0) goto cleanup;
  if (plan->parameter[piece.parameter].assignment.views[piece.matrix].tensor_cols * size > INT32_MAX / 2)
    return eqs_fail(EQS_USAGE, "parameter '%s': a row of the tensor is too large for a message",
                    plan->parameter[piece.parameter].info.name);
  int64_t step = (rows + cuts - 1) / cuts, end = piece.end_row;
  for (; piece.first_row < end; piece.first_row += step) {
    piece.end_row = piece.first_row + step < end ? piece.first_row + step : end;
    fragment = whole_fragment(plan, &piece);
    bytes = eqs_fragment_count(&fragment) * size;
    if (bytes > 0) EQS_TRY(add_piece(build, owner, piece, bytes));
  }
cleanup:
  return status;
}

static eqs_status add_parameter(builder *build, int64_t p, int only_owner)
{
  eqs_status status = EQS_OK;
  eqs_route *route = build->route;
  const eqs_planned_parameter *parameter = &route->plan->parameter[p];
  route->first_piece[p] = route->pieces;
  for (int64_t i = 0; i < parameter->assignment.count; i++) {
    const eqs_planned_matrix *matrix = &parameter->matrix[i];
    int ranks = matrix->distribution.grid_rows * matrix->distribution.grid_cols;
    for (int member = 0; member < ranks; member++) {
      int owner = matrix->first_owner + member;
      if (only_owner >= 0 && owner != only_owner) continue;
      eqs_piece piece = {
          .parameter = p,
          .matrix = i,
          .row = member / matrix->distribution.grid_cols,
          .col = member % matrix->distribution.grid_cols,
          .end_row = parameter->assignment.views[i].tensor_rows,
      };
      EQS_TRY(add_shard(build, owner, piece));
    }
  }
  route->piece_count[p] = route->pieces - route->first_piece[p];
cleanup:
  return status;
}

eqs_status eqs_route_make(const eqs_plan *plan, eqs_route_kind kind, int trainers, int64_t settings, int owner,
                          const bool *travels, eqs_route *route)
{
  eqs_status status = EQS_OK;
  builder build = {.route = route};
  bool backward = !is_pull(kind);
  *route = (eqs_route){.plan = plan, .kind = kind, .trainers = trainers, .settings = settings};
  EQS_TRY(eqs_allocate(&build.open, plan->owners, sizeof *build.open));
  for (int o = 0; o < plan->owners; o++) build.open[o].owner = o;
  EQS_TRY(eqs_allocate(&route->first_piece, plan->parameters, sizeof *route->first_piece));
  EQS_TRY(eqs_allocate(&route->piece_count, plan->parameters, sizeof *route->piece_count));
  for (int64_t k = 0; k < plan->parameters; k++) {
    int64_t p = backward ? plan->parameters - 1 - k : k;
    bool goes = travels != NULL ? travels[p] : eqs_route_is_for(kind, &plan->parameter[p].info);
    if (goes) EQS_TRY(add_parameter(&build, p, owner));
  }
  for (int o = 0; o < plan->owners; o++) EQS_TRY(close_bucket(&build, o));
cleanup:
  for (int o = 0; build.open != NULL && o < plan->owners; o++) free(build.open[o].piece);
  free(build.open);
  if (status != EQS_OK) eqs_route_free(route);
  return status;
}

eqs_status eqs_route_match(const eqs_route *from, const eqs_route *to, int owner, int64_t **index)
{
  int64_t t = 0;
  eqs_status status = eqs_allocate(index, from->buckets, sizeof **index);
  for (int64_t b = 0; status == EQS_OK && b < from->buckets; b++) {
    if (from->bucket[b].owner != owner) continue;
    while (to->bucket[t].owner != owner) t++;
    (*index)[b] = t++;
  }
  return status;
}

void eqs_route_free(eqs_route *route)
{
  for (int64_t b = 0; b < route->buckets; b++) free(route->bucket[b].piece);
  free(route->bucket);
  free(route->piece);
  free(route->first_piece);
  free(route->piece_count);
  *route = (eqs_route){0};
}
