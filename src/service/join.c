#include "service/join.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "dist/communicator.h"
#include "model/calibration.h"
#include "service/progress.h"

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

static eqs_status read_sources(const eqs_config_source *source, eqs_sources *sources)
{
  if (source->text != NULL)
    return eqs_sources_read_text(source->text, source->path != NULL ? source->path : "configuration", sources);
  if (source->path != NULL) return eqs_sources_read(source->path, sources);
  return eqs_fail(EQS_USAGE, "no configuration is given");
}

/* The first trainer reads the files; everybody parses the same text. */
static eqs_status share_config(eqs_session *session, MPI_Comm comm, int first_trainer, const eqs_config_source *source)
{
  eqs_status status = EQS_OK;
  eqs_sources sources = {0};
  char *bytes = NULL;
  int64_t size = 0;
  int rank;
  MPI_Comm_rank(comm, &rank);
  if (rank == first_trainer) {
    status = read_sources(source, &sources);
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

static eqs_status create_session(eqs_rendezvous *rendezvous, MPI_Comm comm, eqs_counts *counts, eqs_session **session)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_allocate(session, 1, sizeof **session));
  (*session)->rendezvous = rendezvous;
  (*session)->notices_request = MPI_REQUEST_NULL;
  (*session)->roster = (eqs_roster){.comm = MPI_COMM_NULL, .trainer_comm = MPI_COMM_NULL, .owner_comm = MPI_COMM_NULL};
  EQS_TRY(eqs_session_attach_context(*session, comm, counts));
  EQS_TRY(eqs_session_register(*session));
cleanup:
  return status;
}

/* The ranks have met: a session of theirs, whose work is counted where that of their communicator is. Collective. */
static eqs_status open_session(eqs_rendezvous *rendezvous, eqs_counts *counts, const eqs_config_source *source,
                               bool trains, eqs_session **result)
{
  eqs_status status = EQS_OK;
  eqs_session *session = NULL;
  MPI_Comm comm = MPI_COMM_NULL;
  int ranks;
  EQS_TRY(eqs_check_mpi(MPI_Comm_dup(rendezvous->comm, &comm), "MPI_Comm_dup"));
  MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
  MPI_Comm_size(comm, &ranks);
  EQS_TRY(eqs_agree(comm, create_session(rendezvous, comm, counts, &session)));
  EQS_TRY(share_config(session, comm, rendezvous->first_trainer, source));
  EQS_TRY(eqs_agree(comm, check_mode(session->config, rendezvous->trainers, ranks)));
  eqs_set_job_deadline(session->config->deadline);
  session->context.deadline = session->config->deadline;
  EQS_TRY(eqs_agree(comm, eqs_roster_make(comm, trains, session->config->mode == EQS_MODE_EMBEDDED, &session->roster)));
cleanup:
  if (status != EQS_OK) {
    if (session != NULL && session->roster.comm != MPI_COMM_NULL) comm = MPI_COMM_NULL; /* the roster frees it */
    if (session != NULL) eqs_session_unregister(session);
    eqs_session_free(&session);
    if (comm != MPI_COMM_NULL) MPI_Comm_free(&comm);
    eqs_rendezvous_leave(rendezvous, status);
  }
  *result = session;
  return status;
}

/*
 * How long to wait for the others is in the configuration, which only the first trainer needs to have: what this rank
 * can read of it holds until they have met.
 */
static void expect_deadline(const eqs_config_source *source)
{
  eqs_sources sources = {0};
  eqs_config *config = NULL;
  if (read_sources(source, &sources) == EQS_OK && eqs_config_parse(&sources, &config) == EQS_OK)
    eqs_set_job_deadline(config->deadline);
  eqs_config_free(&config);
  eqs_sources_free(&sources);
}

eqs_status eqs_session_join(MPI_Comm comm, const eqs_config_source *source, bool trains, bool stays,
                            eqs_session **session)
{
  eqs_status status = EQS_OK;
  eqs_rendezvous *rendezvous;
  bool ended;
  *session = NULL;
  if (trains) expect_deadline(source);
  EQS_TRY(eqs_rendezvous_find(comm, &rendezvous));
  EQS_TRY(eqs_rendezvous_meet(
      rendezvous, trains ? EQS_COMES_TO_TRAIN : (stays ? EQS_COMES_TO_SERVE_ALWAYS : EQS_COMES_TO_SERVE_ONCE), &ended));
  if (!ended) EQS_TRY(open_session(rendezvous, eqs_context_of(comm)->counts, source, trains, session));
cleanup:
  return status;
}

void eqs_session_leave(eqs_session **session, eqs_status status)
{
  if (*session == NULL) return;
  (*session)->context.advance = NULL;
  eqs_policy_end(&(*session)->policy);
  eqs_session_unregister(*session);
  eqs_rendezvous_leave((*session)->rendezvous, status);
  if (status == EQS_PEER_LOST) {
    eqs_handles_close(&(*session)->handles);
    *session = NULL;
  } else {
    eqs_session_free(session);
  }
}
