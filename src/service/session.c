#include "service/session.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "dist/communicator.h"
#include "model/calibration.h"

static void free_session(eqs_session **result)
{
  eqs_session *session = *result;
  if (session == NULL) return;
  eqs_saver_destroy(&session->saver);
  eqs_work_destroy(&session->work);
  eqs_push_sender_destroy(&session->push_sender);
  eqs_push_receiver_destroy(&session->push_receiver);
  eqs_pull_sender_destroy(&session->pull_sender);
  eqs_pull_receiver_destroy(&session->pull_receiver);
  eqs_optimizer_destroy(&session->optimizer);
  eqs_plan_free(&session->plan);
  eqs_config_free(&session->config);
  for (int64_t p = 0; p < session->parameters; p++) {
    free((char *)session->parameter[p]->info.name);
    free((char *)session->parameter[p]->info.module_type);
    free(session->parameter[p]);
  }
  free(session->parameter);
  free(session->resume_path);
  free(session->settings);
  eqs_wire_free(&session->trainer_data);
  eqs_roster_free(&session->roster);
  free(session);
  *result = NULL;
}

/* The speeds that the plan is made from: the first trainer reads the file, everybody parses the same text. */
static eqs_status share_calibration(eqs_config *config, MPI_Comm comm, int first_trainer)
{
  eqs_status status = EQS_OK;
  char *text = NULL;
  int64_t size = 0;
  int rank;
  MPI_Comm_rank(comm, &rank);
  if (config->calibration == NULL) return EQS_OK;
  if (rank == first_trainer) status = eqs_calibration_read(config->calibration, &text);
  EQS_TRY(eqs_agree(comm, status));
  if (rank == first_trainer) size = (int64_t)strlen(text) + 1;
  EQS_TRY(eqs_broadcast_block(comm, &text, &size, first_trainer, "the calibration"));
  EQS_TRY(eqs_agree(comm, eqs_calibration_parse(config->calibration, text, &config->speeds)));
cleanup:
  free(text);
  return status;
}

/* The first trainer reads the files; everybody parses the same text. */
static eqs_status share_config(eqs_session *session, MPI_Comm comm, int first_trainer, const char *path)
{
  eqs_status status = EQS_OK;
  eqs_sources sources = {0};
  void *bytes = NULL;
  int64_t size = 0;
  int rank;
  MPI_Comm_rank(comm, &rank);
  if (rank == first_trainer) {
    status = path != NULL ? eqs_sources_read(path, &sources) : eqs_fail(EQS_USAGE, "no configuration is given");
    if (status == EQS_OK) status = eqs_sources_pack(&sources, &bytes, &size);
    eqs_sources_free(&sources);
  }
  EQS_TRY(eqs_agree(comm, status));
  EQS_TRY(eqs_broadcast_block(comm, &bytes, &size, first_trainer, "the configuration"));
  status = eqs_sources_unpack(bytes, size, &sources);
  if (status == EQS_OK) status = eqs_config_parse(&sources, &session->config);
  EQS_TRY(eqs_agree(comm, status));
  EQS_TRY(share_calibration(session->config, comm, first_trainer));
cleanup:
  eqs_sources_free(&sources);
  free(bytes);
  return status;
}

/* The first rank that trains; how many do. */
static eqs_status find_trainers(MPI_Comm comm, bool trains, int *first, int *count)
{
  int size, rank, local[2], most[2];
  MPI_Comm_size(comm, &size);
  MPI_Comm_rank(comm, &rank);
  local[0] = trains ? size - rank : 0; /* the greatest is the first's */
  eqs_status status = eqs_check_mpi(MPI_Allreduce(local, most, 1, MPI_INT, MPI_MAX, comm), "MPI_Allreduce");
  if (status != EQS_OK) return status;
  *first = size - most[0];
  local[0] = trains;
  status = eqs_check_mpi(MPI_Allreduce(local, count, 1, MPI_INT, MPI_SUM, comm), "MPI_Allreduce");
  if (status == EQS_OK && *count == 0) status = eqs_fail(EQS_USAGE, "the job has owners but no trainer");
  return status;
}

static eqs_status check_mode(const eqs_config *config, int trainers, int ranks)
{
  if (config->mode == EQS_MODE_SERVICE && trainers == ranks)
    return eqs_fail(EQS_USAGE, "mode is service, but the job has no owner: add `: -np N equishard serve` to mpirun, or "
                               "configure `mode: embedded`");
  if (config->mode == EQS_MODE_EMBEDDED && trainers < ranks)
    return eqs_fail(EQS_USAGE,
                    "mode is embedded, but %d ranks run `equishard serve`: start trainers only, or "
                    "configure `mode: service`",
                    ranks - trainers);
  return EQS_OK;
}

eqs_status eqs_session_join(MPI_Comm user_comm, const char *config_path, bool trains, eqs_session **result)
{
  eqs_status status = EQS_OK;
  eqs_session *session = NULL;
  MPI_Comm comm = MPI_COMM_NULL;
  int first_trainer = 0, trainers = 0, ranks;
  *result = NULL;
  EQS_TRY(eqs_check_mpi(MPI_Comm_dup(user_comm, &comm), "MPI_Comm_dup"));
  MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
  MPI_Comm_size(comm, &ranks);
  EQS_TRY(eqs_agree(comm, eqs_allocate(&session, 1, sizeof *session)));
  session->roster = (eqs_roster){.comm = MPI_COMM_NULL, .trainer_comm = MPI_COMM_NULL, .owner_comm = MPI_COMM_NULL};
  EQS_TRY(eqs_agree(comm, find_trainers(comm, trains, &first_trainer, &trainers)));
  EQS_TRY(share_config(session, comm, first_trainer, config_path));
  EQS_TRY(eqs_agree(comm, check_mode(session->config, trainers, ranks)));
  eqs_set_deadline(session->config->deadline);
  EQS_TRY(eqs_agree(comm, eqs_roster_make(comm, trains, session->config->mode == EQS_MODE_EMBEDDED, &session->roster)));
cleanup:
  if (status != EQS_OK) {
    if (session != NULL && session->roster.comm != MPI_COMM_NULL) comm = MPI_COMM_NULL; /* the roster frees it */
    free_session(&session);
    if (comm != MPI_COMM_NULL) MPI_Comm_free(&comm);
  }
  *result = session;
  return status;
}

eqs_status eqs_session_run(eqs_session *session, eqs_command command, eqs_wire *payload)
{
  switch (command) {
  case EQS_COMMAND_START: return eqs_run_start(session, payload);
  case EQS_COMMAND_STEP: return eqs_run_step(session, payload);
  case EQS_COMMAND_CHECKPOINT: return eqs_run_checkpoint(session, payload);
  case EQS_COMMAND_PHASES: return eqs_run_phases(session, NULL, 0, NULL);
  default: return eqs_run_close(session);
  }
}

void eqs_session_leave(eqs_session **session, eqs_status status)
{
  if (*session != NULL) eqs_session_clear_progress(*session);
  eqs_policy_end();
  if (status == EQS_PEER_LOST)
    *session = NULL;
  else
    free_session(session);
}

eqs_status eqs_serve(MPI_Comm comm)
{
  eqs_session *session;
  eqs_wire payload = {0};
  eqs_command command = EQS_COMMAND_START;
  eqs_status status = eqs_session_join(comm, NULL, false, &session);
  while (status == EQS_OK && command != EQS_COMMAND_CLOSE) {
    status = eqs_session_listen(session, &command, &payload);
    if (status == EQS_OK) status = eqs_session_run(session, command, &payload);
  }
  eqs_wire_free(&payload);
  eqs_session_leave(&session, status);
  return status;
}
