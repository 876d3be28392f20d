#include "checkpoint/restore_optimizer.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "checkpoint/directory.h"
#include "checkpoint/match_model.h"
#include "checkpoint/optimizer_contents.h"
#include "checkpoint/read.h"
#include "checkpoint/read_contents.h"
#include "checkpoint/serialize.h"
#include "dist/communicator.h"
#include "optimizer/frozen.h"

/* What the first owner found, or why it found nothing, to all. *file is allocated on all. */
static eqs_status share_file(MPI_Comm owners, eqs_status found, char **file)
{
  eqs_status status = EQS_OK;
  int64_t length = 0;
  EQS_TRY(eqs_agree(owners, found));
  if (*file != NULL) length = (int64_t)strlen(*file) + 1;
  EQS_TRY(eqs_broadcast_block(owners, file, &length, 0, "the checkpoint's name"));
cleanup:
  return status;
}

/* The first owner finds the file; `in_directory`: others may lie beside it. */
static eqs_status find_together(MPI_Comm owners, const char *path, char **file, bool *in_directory)
{
  eqs_status status = EQS_OK;
  int rank;
  MPI_Comm_rank(owners, &rank);
  *file = NULL;
  EQS_TRY(share_file(owners, rank == 0 ? eqs_checkpoint_find(path, file) : EQS_OK, file));
  *in_directory = rank == 0 && strcmp(path, *file) != 0;
  EQS_TRY(eqs_broadcast(owners, in_directory, sizeof *in_directory, 0, "the kind of the checkpoint's path"));
cleanup:
  return status;
}

/* Instead of a damaged file the next older one of its directory, loudly. */
static eqs_status fall_back(MPI_Comm owners, const char *directory, char **file)
{
  eqs_status status = EQS_OK;
  char *older = NULL;
  int rank;
  MPI_Comm_rank(owners, &rank);
  EQS_TRY(share_file(owners, rank == 0 ? eqs_checkpoint_find_older(directory, *file, &older) : EQS_OK, &older));
  if (rank == 0) eqs_log(EQS_LOG_WARNING, "%s is DAMAGED; taking the older %s instead", *file, older);
  free(*file);
  *file = older;
  older = NULL;
cleanup:
  free(older);
  return status;
}

/* State back to zero: what a damaged file left there must not stay where an older one has nothing. */
static void clear_state(eqs_optimizer *optimizer)
{
  for (int64_t p = 0; p < optimizer->plan->parameters; p++) {
    eqs_optimizer_forget_kept(optimizer, p);
    eqs_optimizer_tensors list = eqs_optimizer_list_tensors(optimizer, p);
    for (int s = 1; s < list.count; s++)
      for (int64_t i = 0; i < optimizer->plan->parameter[p].assignment.count; i++) {
        const eqs_matrix *state = eqs_owned_state(&optimizer->parameter[p].matrix[i], list.index[s]);
        if (state->data == NULL) continue;
        memset(state->data, 0, (size_t)(state->local_rows * state->local_cols) * sizeof(float));
      }
  }
}

static eqs_status read_serialized(const char *file, char **bytes, int64_t *size)
{
  eqs_status status = EQS_OK;
  eqs_checkpoint_contents stored = {0};
  EQS_TRY(eqs_contents_read(file, &stored));
  eqs_contents_warn_if_changed(file, &stored);
  EQS_TRY(eqs_contents_serialize(&stored, bytes, size));
cleanup:
  eqs_contents_free(&stored);
  return status;
}

/* What is in a file, as the first owner reads it, on all. Collective. */
static eqs_status read_together(MPI_Comm owners, const char *file, eqs_checkpoint_contents *stored)
{
  eqs_status status = EQS_OK;
  char *bytes = NULL;
  int64_t size = 0;
  int rank;
  MPI_Comm_rank(owners, &rank);
  EQS_TRY(eqs_agree(owners, rank == 0 ? read_serialized(file, &bytes, &size) : EQS_OK));
  EQS_TRY(eqs_broadcast_block(owners, &bytes, &size, 0, "the contents of the checkpoint"));
  EQS_TRY(eqs_agree(owners, eqs_contents_deserialize(bytes, size, stored)));
cleanup:
  free(bytes);
  return status;
}

/* Whether a restart from a file is possible; its parameters get their new names. Not collective. */
static eqs_status match_model(const eqs_optimizer *optimizer, const char *file, const eqs_checkpoint_contents *model,
                              eqs_checkpoint_contents *stored)
{
  eqs_status status = EQS_OK;
  const eqs_renames *renames = optimizer->config->checkpoint.rename;
  EQS_TRY(eqs_match_rename(renames, stored));
  EQS_TRY(eqs_match_ties(stored, model));
  EQS_TRY(eqs_match_check(stored, optimizer->config->checkpoint.partial, renames != NULL, model));
cleanup:
  return status == EQS_OK ? EQS_OK : eqs_fail_in(status, "%s", file);
}

/* Leave in the model's parameters the tensors that are taken from the file. */
static void choose_tensors(const eqs_checkpoint_contents *stored, eqs_checkpoint_contents *model)
{
  int64_t parameters = 0;
  for (int64_t p = 0; p < model->parameters; p++) {
    const eqs_checkpoint_parameter *parameter = &model->parameter[p];
    const eqs_checkpoint_parameter *in_file = eqs_contents_find(stored, parameter->name);
    eqs_checkpoint_parameter taken = *parameter;
    if (in_file == NULL) continue;
    taken.tensors = 0;
    for (int t = 0; t < parameter->tensors; t++)
      if (eqs_match_takes(in_file, parameter, t)) taken.tensor[taken.tensors++] = parameter->tensor[t];
    model->parameter[parameters++] = taken;
  }
  model->parameters = parameters;
}

/*
 * Steps taken come back. A parameter of which any state starts afresh counts from 0, as bias corrections need it.
 *
 * absent  [out] of every parameter of the plan
 */
static void restore_counts(eqs_optimizer *optimizer, const eqs_checkpoint_contents *model,
                           const eqs_checkpoint_contents *stored, bool *absent)
{
  optimizer->step = stored->step;
  optimizer->skipped = stored->skipped;
  for (int64_t p = 0; p < model->parameters; p++) {
    const eqs_checkpoint_parameter *parameter = &model->parameter[p];
    const eqs_checkpoint_parameter *in_file = eqs_contents_find(stored, parameter->name);
    bool whole = in_file != NULL;
    for (int t = 0; t < parameter->tensors; t++) whole = whole && eqs_match_takes(in_file, parameter, t);
    optimizer->parameter[p].step = whole ? eqs_parameter_step(in_file) : 0;
    absent[p] = in_file == NULL;
  }
}

/* Frozen parameters get room for the state that the file has of them, whatever it is. Not collective. */
static eqs_status keep_state_of_frozen(eqs_optimizer *optimizer, const eqs_checkpoint_contents *stored)
{
  eqs_status status = EQS_OK;
  enum { most_attributes = EQS_OPTIMIZER_ATTRIBUTES - 3 }; /* role, step, frozen */
  for (int64_t p = 0; p < optimizer->plan->parameters; p++) {
    const eqs_planned_parameter *planned = &optimizer->plan->parameter[p];
    const eqs_checkpoint_parameter *in_file = eqs_contents_find(stored, planned->info.name);
    const char *name[EQS_MAX_KEPT];
    eqs_attribute attribute[most_attributes];
    int states = 0, attributes = 0;
    if (!planned->info.frozen || in_file == NULL) continue;
    for (int t = 0; t < in_file->tensors && states < EQS_MAX_KEPT; t++)
      if (strcmp(in_file->tensor[t].name, "weight") != 0) name[states++] = in_file->tensor[t].name;
    for (int a = 0; a < in_file->attributes && attributes < most_attributes; a++)
      if (strcmp(in_file->attribute[a].name, "frozen") != 0) attribute[attributes++] = in_file->attribute[a];
    EQS_TRY(eqs_optimizer_keep(optimizer, p, states, name, attributes, attribute));
  }
cleanup:
  return status;
}

/* Make the model and the file fit each other: `model` describes the optimizer with all that it takes from the file. */
static eqs_status prepare(eqs_optimizer *optimizer, const char *file, eqs_checkpoint_contents *model,
                          eqs_checkpoint_contents *stored)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_optimizer_contents(optimizer, model));
  EQS_TRY(match_model(optimizer, file, model, stored));
  EQS_TRY(keep_state_of_frozen(optimizer, stored));
  eqs_contents_free(model);
  EQS_TRY(eqs_optimizer_contents(optimizer, model));
cleanup:
  return status;
}

static eqs_status restore_file(eqs_optimizer *optimizer, const char *file, eqs_checkpoint_contents *stored,
                               bool *absent)
{
  eqs_status status = EQS_OK;
  eqs_checkpoint_contents model = {0}, taken = {0};
  int rank;
  MPI_Comm_rank(optimizer->owners, &rank);
  EQS_TRY(read_together(optimizer->owners, file, stored));
  EQS_TRY(eqs_agree(optimizer->owners, prepare(optimizer, file, &model, stored)));
  EQS_TRY(eqs_agree(optimizer->owners, eqs_optimizer_contents(optimizer, &taken)));
  choose_tensors(stored, &taken);
  EQS_TRY(eqs_checkpoint_read(optimizer->owners, file, stored, &taken));
  restore_counts(optimizer, &model, stored, absent);
  EQS_TRY(eqs_agree(optimizer->owners, rank == 0 ? eqs_match_report(stored, &model) : EQS_OK));
cleanup:
  eqs_contents_free(&taken);
  eqs_contents_free(&model);
  return status;
}

eqs_status eqs_checkpoint_restore_optimizer(eqs_optimizer *optimizer, const char *path, eqs_checkpoint_contents *stored,
                                            bool *absent)
{
  eqs_status status = EQS_OK;
  char *file = NULL;
  bool in_directory;
  *stored = (eqs_checkpoint_contents){0};
  EQS_TRY(find_together(optimizer->owners, path, &file, &in_directory));
  while ((status = restore_file(optimizer, file, stored, absent)) == EQS_DAMAGED && in_directory) {
    EQS_TRY(fall_back(optimizer->owners, path, &file));
    eqs_contents_free(stored);
    clear_state(optimizer);
  }
cleanup:
  free(file);
  return status;
}
