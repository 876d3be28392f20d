#include "bench/training.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/model.h"
#include "bench/synthetic_trainers.h"
#include "dist/communicator.h"

enum { max_phases = 16 };

/* A text in YAML's double quotes. */
static void print_quoted(FILE *file, const char *text)
{
  fputc('"', file);
  for (; *text != '\0'; text++) {
    if (*text == '"' || *text == '\\') fputc('\\', file);
    fputc(*text, file);
  }
  fputc('"', file);
}

/*
 * A configuration that sets the mode and includes the one given: keys of the including file win. *path is allocated,
 * and the file to be removed.
 */
static eqs_status write_config(bool embedded, const char *config, char **path)
{
  eqs_status status = EQS_OK;
  const char *folder = getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp";
  char *included = realpath(config, NULL);
  FILE *file = NULL;
  int descriptor;
  if (included == NULL) EQS_TRY(eqs_fail(EQS_IO, "%s: cannot be read: %s", config, strerror(errno)));
  if (asprintf(path, "%s/equishard-bench-XXXXXX", folder) < 0) {
    *path = NULL;
    EQS_TRY(eqs_fail(EQS_FAILED, "out of memory"));
  }
  descriptor = mkstemp(*path);
  file = descriptor >= 0 ? fdopen(descriptor, "w") : NULL;
  if (file == NULL) EQS_TRY(eqs_fail(EQS_IO, "%s: cannot be written: %s", *path, strerror(errno)));
  fprintf(file, "mode: %s\ninclude: [", embedded ? "embedded" : "service");
  print_quoted(file, included);
  fputs("]\n", file);
cleanup:
  if (file != NULL && fclose(file) != 0) status = eqs_fail(EQS_IO, "%s: %s", *path, strerror(errno));
  free(included);
  return status;
}

/* What a session has counted so far. */
typedef struct {
  int phases;
  eqs_phase phase[max_phases];
  eqs_traffic traffic; /* of this trainer */
} session_counts;

static eqs_status read_counts(eqs_session *session, session_counts *counts)
{
  eqs_status status = EQS_OK;
  counts->phase[0].struct_size = sizeof *counts->phase;
  counts->traffic.struct_size = sizeof counts->traffic;
  EQS_TRY(eqs_session_phases(session, counts->phase, max_phases, &counts->phases));
  EQS_TRY(eqs_session_traffic(session, &counts->traffic));
cleanup:
  return status;
}

/* Seconds per step of every phase between two counts; of the maximum, between the maxima. */
static json_t *describe_phases(const session_counts *before, const session_counts *after, double steps)
{
  json_t *phases = json_object();
  for (int k = 0; k < after->phases; k++) {
    const eqs_phase *first = &before->phase[k], *last = &after->phase[k];
    json_object_set_new(phases, last->name,
                        json_pack("{s:f, s:f, s:i}", "mean", (last->mean - first->mean) / steps, "max",
                                  (last->maximum - first->maximum) / steps, "slowest", last->slowest));
  }
  return phases;
}

static double phase_seconds(json_t *phases, const char *name)
{
  return json_number_value(json_object_get(json_object_get(phases, name), "max"));
}

/* Sums over the trainers, of the timed steps. */
typedef struct {
  double bytes_out, bytes_in, messages_sent, messages_received;
} traffic_sums;

static eqs_status sum_traffic(MPI_Comm trainers, const eqs_traffic *before, const eqs_traffic *after,
                              traffic_sums *sums)
{
  *sums = (traffic_sums){.bytes_out = (double)(after->gradient_sent - before->gradient_sent),
                         .bytes_in = (double)(after->weight_received - before->weight_received),
                         .messages_sent = (double)(after->messages_sent - before->messages_sent),
                         .messages_received = (double)(after->messages_received - before->messages_received)};
  return eqs_sum(trainers, &sums->bytes_out, sizeof *sums / sizeof(double), "the other trainers' traffic");
}

/* The largest of the trainers' seconds. */
static eqs_status find_longest(MPI_Comm trainers, double *seconds)
{
  int64_t negative = -llround(1e9 * *seconds);
  eqs_status status = eqs_minimum(trainers, &negative, 1, "the other trainers' waiting");
  *seconds = -1e-9 * (double)negative;
  return status;
}

/* Everything of the case but its time. */
static eqs_status describe(const eqs_bench *bench, const eqs_bench_training *training, eqs_synthetic_trainers *trainers,
                           const session_counts *before, const session_counts *after, eqs_bench_case *made)
{
  eqs_status status = EQS_OK;
  double steps = (double)bench->options->repeat, waited = trainers->waited / steps;
  double one_way = (double)trainers->elements * sizeof(float);
  bool embedded = training->trainers == bench->ranks;
  traffic_sums sums;
  EQS_TRY(find_longest(trainers->comm, &waited));
  EQS_TRY(sum_traffic(trainers->comm, &before->traffic, &after->traffic, &sums));
  made->phases = describe_phases(before, after, steps);
  made->timing.bytes = (sums.bytes_out + sums.bytes_in) / steps;
  /* an owner's messages are a trainer's too; those of ranks that are both count where they are sent */
  made->timing.messages = (sums.messages_sent + (embedded ? 0 : sums.messages_received)) / steps;
  double busy = phase_seconds(made->phases, "owner receive") + phase_seconds(made->phases, "owner update") +
                phase_seconds(made->phases, "owner send");
  double trainer_steps = steps * training->trainers;
  made->more =
      json_pack("{s:i, s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "trainers", training->trainers, "owners",
                embedded ? bench->ranks : bench->ranks - training->trainers, "bytes_out",
                sums.bytes_out / trainer_steps, "bytes_in", sums.bytes_in / trainer_steps, "bytes_ratio",
                (sums.bytes_out + sums.bytes_in) / (trainer_steps * 2 * one_way), "waited", waited, "owners_busy", busy,
                "hidden", busy > 0 ? fmax(0, 1 - waited / busy) : 0, "backward", training->backward);
cleanup:
  return status;
}

static eqs_status train(const eqs_bench *bench, const eqs_bench_training *training, const char *config,
                        const eqs_bench_model *model, eqs_bench_case *made)
{
  eqs_status status = EQS_OK;
  eqs_synthetic_trainers trainers = {.parameters = model->parameters,
                                     .info = model->info,
                                     .backward = training->backward,
                                     .computes = training->computes};
  session_counts before = {0}, after = {0};
  EQS_TRY(eqs_synthetic_trainers_open(bench->comm, config, bench->options->seed, &trainers));
  EQS_TRY(eqs_measure(trainers.comm, (int)bench->options->warmup, 0, NULL, eqs_synthetic_trainers_step, &trainers,
                      &made->timing));
  EQS_TRY(read_counts(trainers.session, &before));
  trainers.waited = 0;
  EQS_TRY(eqs_measure(trainers.comm, 0, (int)bench->options->repeat, NULL, eqs_synthetic_trainers_step, &trainers,
                      &made->timing));
  EQS_TRY(read_counts(trainers.session, &after));
  EQS_TRY(describe(bench, training, &trainers, &before, &after, made));
cleanup:
  if (status == EQS_OK)
    status = eqs_synthetic_trainers_close(&trainers);
  else
    eqs_synthetic_trainers_close(&trainers);
  return status;
}

/* Owners count what they ask for, too. */
static eqs_status sum_flops(const eqs_bench *bench, double before, double *flops)
{
  *flops = (bench->counts.flops - before) / (double)(bench->options->warmup + bench->options->repeat);
  return eqs_sum(bench->comm, flops, 1, "the other ranks' counts of work");
}

eqs_status eqs_bench_training_measure(eqs_bench *bench, const eqs_bench_training *training)
{
  eqs_status status = EQS_OK;
  bool embedded = training->trainers == bench->ranks;
  int owners = embedded ? bench->ranks : bench->ranks - training->trainers, rank;
  eqs_bench_model model = {0};
  eqs_bench_case made = {.efficiency = EQS_BY_BOTH};
  double flops = bench->counts.flops;
  char *config = NULL;
  MPI_Comm_rank(bench->comm, &rank);
  status = eqs_bench_model_read(training->config, training->manifest, owners, &model);
  if (status == EQS_OK && rank == 0) status = write_config(embedded, training->config, &config);
  EQS_TRY(eqs_agree(bench->comm, status));
  if (rank < training->trainers)
    EQS_TRY(train(bench, training, config, &model, &made));
  else
    EQS_TRY(eqs_serve(bench->comm));
  EQS_TRY(sum_flops(bench, flops, &made.timing.flops_asked));
  eqs_bench_model_describe(&model, training->name, &made);
  EQS_TRY(eqs_agree(bench->comm, eqs_bench_table_add(&bench->table, &made)));
cleanup:
  if (config != NULL) unlink(config);
  free(config);
  eqs_bench_case_free(&made);
  eqs_bench_model_free(&model);
  return status;
}
