/*
 * Equishard: a sharded optimizer service for training jobs that run under mpirun.
 *
 * A job has trainers, which compute gradients, and owners, which hold the weights and the optimizer
 * state as block-cyclic shards. In service mode owners are ranks of their own (`equishard serve`); in
 * embedded mode every rank is both. One training step of a trainer is
 *
 *     eqs_push(p, gradient of p)  for every parameter p
 *     eqs_step(session)
 *     eqs_pull(p, weight of p)    for every parameter p
 *
 * Functions return an eqs_status, but for those that answer a question with 1 or 0 (eqs_session_resumed,
 * eqs_session_failed, eqs_checkpoint_due, eqs_stop_requested) or with a number or a text (eqs_job_deadline,
 * eqs_error_message, eqs_libraries), and for eqs_exit_status. They are called by trainers unless their comment says
 * otherwise. *Collective* functions are called by every trainer, in the same order, with the same
 * arguments where the comment says so, and fail on all ranks together with the same status.
 * The library prints the message of a failed collective call once, on the rank where it arose; the
 * caller only ends the program with the status. eqs_error_message() has the text of the last failure.
 * NULL where something is needed, a session that was closed, and a parameter of such a session are EQS_USAGE.
 *
 * Every struct begins with struct_size: the caller sets it to the sizeof of its struct (in an array, of every element),
 * so that structs can grow without breaking programs that were compiled before. `{.struct_size = sizeof info, ...}`
 * sets what is not named to 0, the default of every member.
 *
 * The library is not thread-safe: one thread per process calls it.
 */
#ifndef EQUISHARD_H
#define EQUISHARD_H

#include <mpi.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define EQS_VERSION "0.1.0"
#define EQS_MAX_DIMS 8

/* Results of calls; also the exit status of every program of the project. */
typedef enum {
  EQS_OK = 0,
  EQS_FAILED = 1,    /* failed, a non-finite gradient included */
  EQS_USAGE = 2,     /* wrong usage, configuration, model or shapes */
  EQS_IO = 3,        /* input or output failed: disk full, not writable, missing */
  EQS_DAMAGED = 4,   /* a checkpoint or an input file is damaged or foreign */
  EQS_PEER_LOST = 5, /* a peer was lost or a deadline passed */
} eqs_status;

/* Element type of a tensor at the trainer. Owners hold float32. */
typedef enum { EQS_FLOAT32, EQS_BFLOAT16, EQS_FLOAT16 } eqs_dtype;

/* How the trainers hold a tensor, in the words of PyTorch's DTensor. */
typedef enum {
  EQS_REPLICATE, /* every trainer has the same full tensor */
  EQS_SHARD,     /* split along dimension 0 into chunks of ceil(shape[0] / trainers), as torch.chunk */
  EQS_PARTIAL,   /* every trainer has a full-size contribution; they are reduced (gradients only) */
} eqs_placement;

typedef struct eqs_session eqs_session;
typedef struct eqs_parameter eqs_parameter;

/* A parameter as the trainer holds it. Row-major, contiguous. */
typedef struct {
  size_t struct_size;
  const char *name;                 /* "model.layers.0.self_attn.q_proj.weight" */
  const char *module_type;          /* class of the module that holds it, "Linear"; may be NULL */
  eqs_dtype dtype;                  /* of weights and gradients */
  int ndim;                         /* 0 ... EQS_MAX_DIMS */
  int64_t shape[EQS_MAX_DIMS];      /* the full tensor's, whatever the placement */
  eqs_placement gradient_placement; /* EQS_PARTIAL: the push is the reduction over trainers */
  eqs_placement weight_placement;   /* EQS_REPLICATE or EQS_SHARD */
  const char *tied_to;              /* name of the parameter added before that this is another name of; or NULL */
  const char *role; /* as in the configuration's `match: {role: ...}`; NULL: by the configuration's `roles`, by name,
                       module type and shape */
  int stacked;      /* the first dimension counts layers: [L, m, n] is L matrices m×n of the role that its name says */
  int frozen; /* not trained: it has no gradient; its weight, and the state that a restored checkpoint has of it, stay
                 in checkpoints */
} eqs_parameter_info;

/* What a parameter got. Texts are valid while the session is open. */
typedef struct {
  size_t struct_size;
  const char *name; /* as in checkpoints and messages: without the prefixes of wrappers such as `module.` */
  const char *role;
  int group;         /* -1: none, of a frozen parameter */
  int64_t matrices;  /* how many the tensor is, to its rule */
  int in_checkpoint; /* whether the checkpoint that was restored had it */
  int64_t step;      /* steps it had taken in that checkpoint */
} eqs_parameter_description;

/* A parameter group: what one entry of the configuration's `groups` matched. Texts are valid while the session is open.
 */
typedef struct {
  size_t struct_size;
  const char *rule; /* "muon" */
  double lr;        /* as in force for the next step, before the configuration's schedule */
  int64_t parameters;
  const char *momentum;        /* kind: "ema", "nesterov", ...; NULL if the rule has none */
  const char *schedule;        /* kind of the configuration's schedule: "constant", "cosine", ... */
  const char *const *settings; /* names of what eqs_group_set can set, NULL after the last */
  int scheduled; /* whether the configuration's schedule changes the rate: its kind is not "constant", or it warms up */
  int restored_from; /* number that the group had in the restored checkpoint, found by its parameters; -1: none */
} eqs_group_info;

/* The state after the last completed step. */
typedef struct {
  size_t struct_size;
  int64_t step;         /* steps taken since the beginning of training, restarts included */
  int64_t skipped;      /* steps skipped for values that are not finite */
  int skipped_last;     /* whether the last one was */
  double gradient_norm; /* 2-norm of the whole reduced gradient, before clipping */
} eqs_step_info;

/* Seconds spent in a phase since eqs_session_start, over the ranks that have the phase. */
typedef struct {
  size_t struct_size;
  char name[32]; /* "trainer push", "owner update" */
  double minimum, mean, maximum;
  int slowest; /* rank in the session's communicator of the maximum */
} eqs_phase;

/* Bytes this rank moved between trainers and owners since eqs_session_start. */
typedef struct {
  size_t struct_size;
  int64_t gradient_sent, gradient_received, weight_sent, weight_received; /* payload, headers included */
  int64_t messages_sent, messages_received;
} eqs_traffic;

/* A piece of the trainers' own data that rides in a checkpoint, at /trainer/<key>. */
typedef struct {
  size_t struct_size;
  const char *key; /* without '/' and '@' */
  const void *bytes;
  size_t size;
  int per_trainer; /* every trainer has its own, at /trainer/<key>@<trainer>; else the first trainer's counts */
} eqs_trainer_item;

/*
 * Open a session.
 *
 * comm         [in]  the trainers and the owners of the job; duplicated
 * config_path  [in]  configuration (YAML); read by the first trainer only, its text is broadcast
 * session      [out] the session
 *
 * Collective over comm, together with eqs_serve on the owners of a service job.
 * EQS_USAGE: wrong configuration; a service job without owner, or an embedded one with owners.
 */
eqs_status eqs_session_open(MPI_Comm comm, const char *config_path, eqs_session **session);

/*
 * The same with the configuration as a text.
 *
 * config  [in] YAML; the first trainer's counts. `include: FILE` in it reads a file, whose keys count less
 * name    [in] what messages call it, and as seen from whose folder it includes; NULL: "configuration", in the working
 *              directory
 *
 * Collective, as eqs_session_open.
 */
eqs_status eqs_session_open_text(MPI_Comm comm, const char *config, const char *name, eqs_session **session);

/*
 * Be an owner until the trainers close the session or it fails. The owners' counterpart of all
 * collective calls of the trainers. Waiting does not keep a core busy.
 *
 * comm  [in] as in eqs_session_open
 *
 * Returns the status with which the session ended. Collective.
 */
eqs_status eqs_serve(MPI_Comm comm);

/*
 * Be an owner of one session after another, until the first trainer calls MPI_Finalize or a session fails: what
 * `equishard serve` does. Between sessions trainers may take any time.
 *
 * Returns the status with which the last session ended. Collective.
 */
eqs_status eqs_serve_all(MPI_Comm comm);

/*
 * The trainers' own communicator before there is a session, for what a program does before it has a model: seeds, its
 * part of the data. Owners answer while they wait for a session.
 *
 * comm      [in]  of the session to come
 * trainers  [out] valid until MPI_Finalize; not to be freed
 *
 * Collective over the trainers, the first time; not after that, and not once a session was opened.
 */
eqs_status eqs_job_trainers(MPI_Comm comm, MPI_Comm *trainers);

/*
 * The trainers' own communicator of a session.
 *
 * session   [in]
 * trainers  [out] valid until eqs_session_close; not to be freed
 *
 * Not collective.
 */
eqs_status eqs_session_trainers(const eqs_session *session, MPI_Comm *trainers);

/*
 * Tell a number of the model's configuration, before eqs_session_start: heads and fused tensors follow from it
 * (`layout: auto`), where shapes alone do not tell.
 *
 * session  [in]
 * key      [in] as Hugging Face, torchtitan and nanoGPT call it: "num_attention_heads", "num_key_value_heads",
 * "head_dim", "hidden_size", "n_head", "n_embd", ...; one that is not used is ignored, so that a program can tell all
 * value    [in] at least 0; 0: not known
 *
 * Logically collective: the first trainer's numbers count. EQS_USAGE.
 */
eqs_status eqs_session_tell_model(eqs_session *session, const char *key, int64_t value);

/*
 * Add a parameter, before eqs_session_start; the same ones in the same order on every trainer.
 * Gradients are moved in reverse order of addition, weights in order.
 *
 * session    [in]
 * info       [in]  copied
 * weight     [in]  initial value, as info->weight_placement places it; must stay valid until
 *                  eqs_session_start returns. With EQS_REPLICATE the first trainer's values count.
 * parameter  [out] valid until eqs_session_close. A tied parameter (info->tied_to, or the weight of one added before)
 *                  is that one, with one owner and one update: the same handle, to be pushed and pulled once
 *
 * Not collective. EQS_USAGE: a name twice, a wrong shape or placement, a tie to a parameter of another shape.
 */
eqs_status eqs_parameter_add(eqs_session *session, const eqs_parameter_info *info, const void *weight,
                             eqs_parameter **parameter);

/*
 * Add a tensor that stacks the same parameter of several layers, [L, ...], as L parameters, each with a name, an owner
 * and a checkpoint entry of its own. (As one parameter of L matrices: eqs_parameter_add with info->stacked.)
 *
 * session     [in]
 * info        [in]  of the stack; the '*' in its name is the layer's number: "transformer.h.*.attn.c_attn.weight".
 *                   Placements are EQS_PARTIAL or EQS_REPLICATE
 * weight      [in]  the stack; layer l begins at l times the elements of a layer
 * parameters  [out] info->shape[0] handles, in the order of the layers
 *
 * Not collective. EQS_USAGE: as eqs_parameter_add; no '*', or several; a sharded placement.
 */
eqs_status eqs_parameter_add_layers(eqs_session *session, const eqs_parameter_info *info, const void *weight,
                                    eqs_parameter **parameters);

/*
 * Ask for a restart: eqs_session_start will restore weights and state from a checkpoint, whatever ranks wrote it.
 *
 * Its parameters are taken under the names that the configuration's `checkpoint: {rename: ...}` gives them, without
 * what wraps a model; a tied one under any of its names. Those that the session does not have are left in the file,
 * with a warning. Those that only the session has are an error, unless they are frozen or `checkpoint: {partial:
 * true}`: then they begin with the initial value of eqs_parameter_add and with zero state. If only names seem to have
 * changed, the error proposes the `rename`. A frozen parameter keeps, for later checkpoints, all state that the file
 * has of it. State that the parameter's rule does not share with the one in the file starts at zero, with a warning. A
 * checkpoint that has weights alone (`equishard import`) serves as well.
 *
 * session  [in]
 * path     [in] a checkpoint file, or a directory whose `latest` is taken (damaged: the next older one); NULL: the
 *               configuration's checkpoint directory
 *
 * Logically collective: the first trainer's path counts.
 */
eqs_status eqs_session_resume(eqs_session *session, const char *path);

/*
 * The same if there is a checkpoint; else the session begins with the weights of eqs_parameter_add. A directory of
 * which nothing but damaged checkpoints is left is an error all the same.
 */
eqs_status eqs_session_resume_if_any(eqs_session *session, const char *path);

/* Whether eqs_session_start has restored a checkpoint; 0 before. Not collective, the same answer on all trainers. */
int eqs_session_resumed(const eqs_session *session);

/*
 * Whether a collective call of the session has failed, which it has on all ranks: every further one fails, and
 * eqs_session_close waits for nobody. Not collective.
 */
int eqs_session_failed(const eqs_session *session);

/*
 * Seconds after which a rank that is waited for counts as lost: `deadline` of the session that was opened last; before
 * there is one the environment's EQUISHARD_DEADLINE, or 1800.
 */
double eqs_job_deadline(void);

/*
 * Give every parameter its role, rule and owners; allocate; take the initial weights or restore.
 * Weights can be pulled afterwards.
 *
 * Collective. EQS_USAGE: trainers disagree on a parameter, no group matches one, a rule cannot apply
 * to a shape, the checkpoint is of another model (see eqs_session_resume; a parameter of another shape, and nothing in
 * common, always), another job or another session writes into the configuration's checkpoint directory, which this one
 * has to itself until it is closed. EQS_IO, EQS_DAMAGED: the checkpoint.
 */
eqs_status eqs_session_start(eqs_session *session);

/*
 * Parameter groups, after eqs_session_start: how many, what is in one, which one a parameter is in.
 * Not collective.
 */
eqs_status eqs_group_count(const eqs_session *session, int *count);
eqs_status eqs_group_describe(const eqs_session *session, int group, eqs_group_info *info);
eqs_status eqs_parameter_describe(const eqs_parameter *parameter, eqs_parameter_description *description);

/*
 * Set a setting of a group for the steps that follow: "lr", "weight_decay", "beta", "beta1", "beta2", "alpha" or "eps",
 * as far as the group's rule has it (eqs_group_info.settings); or read what is in force. The configuration's values are
 * in force at first, and in a restart those that were in force when the checkpoint was written, unless the
 * configuration has changed since (a warning says which).
 *
 * Logically collective: the first trainer's value counts. EQS_USAGE: no such setting, a value that the configuration
 * would refuse; another value than before, after the first push of a step: the settings of a step travel with its
 * gradients.
 */
eqs_status eqs_group_set(eqs_session *session, int group, const char *setting, double value);
eqs_status eqs_group_get(const eqs_session *session, int group, const char *setting, double *value);

/* eqs_group_set of "lr". */
eqs_status eqs_group_set_lr(eqs_session *session, int group, double lr);

/*
 * Say that gradients come multiplied by a factor (loss scaling, as of torch's GradScaler), for the steps that follow:
 * it is divided out first, before clipping.
 *
 * session  [in]
 * scale    [in] positive and finite; 1 at first
 *
 * Logically collective: the first trainer's value counts. EQS_USAGE: as eqs_group_set_lr.
 */
eqs_status eqs_session_set_gradient_scale(eqs_session *session, double scale);

/*
 * Start moving a gradient to the owners of its parameter, which reduce it over the trainers
 * in a fixed order (`reduce: mean | sum`, EQS_PARTIAL only). The cheapest order is that of backward, the last parameter
 * first. In service mode owners may update a parameter as soon as its last gradient has arrived, while others are still
 * to be pushed; not with `clip_grad_norm` or `on_nonfinite: skip`, which need all of them first.
 *
 * parameter  [in]
 * gradient   [in] as info.gradient places it; must stay unchanged until eqs_step returns.
 *                 A parameter that no trainer pushes keeps its weight and state in this step;
 *                 where only some push it, the others count as zero.
 *
 * Not collective. EQS_USAGE: pushed twice in a step; frozen.
 */
eqs_status eqs_push(eqs_parameter *parameter, const void *gradient);

/* eqs_push of several, in the order of the arrays; at a fraction of the cost of a call each. */
eqs_status eqs_push_many(int64_t count, eqs_parameter *const *parameters, const void *const *gradients);

/*
 * Give a parameter a new weight, the counterpart of eqs_pull: what the program has written into its tensor. It becomes
 * the owners' master weight in the next eqs_step, before that step's gradient is applied to it; momentum and other
 * state stay. An element of a narrower dtype that is the master weight, rounded, leaves that as it is.
 *
 * parameter  [in]
 * weight     [in] as info.weight_placement places it, in the trainer's dtype; must stay unchanged until eqs_step
 *                 returns
 *
 * Not collective, but with EQS_REPLICATE every trainer puts the same values before the same step, else that eqs_step is
 * EQS_USAGE on all and names the parameter; with EQS_SHARD the rows of trainers that put nothing stay as they are.
 * EQS_USAGE: after the first push of a step; put twice before a step.
 */
eqs_status eqs_put(eqs_parameter *parameter, const void *weight);

/*
 * Clip the step under way by the 2-norm of its whole gradient, as it is after the reduction over trainers: it is
 * multiplied by min(1, max_norm / (norm + 1e-6)), as torch.nn.utils.clip_grad_norm_ does in one process. After the
 * step's last push, before eqs_step.
 *
 * session   [in]
 * max_norm  [in]  positive; INFINITY: only tell the norm
 * norm      [out] may be infinite or not a number
 *
 * Collective. EQS_USAGE: norm is over max_norm, and owners have updated parameters of this step already, which
 * eqs_session_defer_updates avoids.
 */
eqs_status eqs_clip_grad_norm(eqs_session *session, double max_norm, double *norm);

/*
 * Whether owners update nothing before they have all gradients of a step (1), or may begin with those that are complete
 * (0, at first), for the steps that follow. Logically collective: the first trainer's word counts. EQS_USAGE: as
 * eqs_group_set.
 */
eqs_status eqs_session_defer_updates(eqs_session *session, int defer);

/*
 * Take one step: reduce, check for non-finite values, clip, momentum, decay, update.
 *
 * In service mode it returns when the owners have all gradients and agree on the step; they go on with it, and eqs_pull
 * waits for each weight. What fails after that is reported by the next collective call.
 *
 * Collective. EQS_FAILED: a non-finite gradient with `on_nonfinite: error`; weights of other parameters may have been
 * updated by then, checkpoints are untouched.
 */
eqs_status eqs_step(eqs_session *session);

/*
 * Receive a weight as it is after the last step (or start); waits until it is there.
 *
 * parameter  [in]
 * weight     [out] as info.weight places it, in the trainer's dtype
 *
 * Not collective; but trainers that pull nothing hold up the owners until their next collective call.
 * The cheapest order is that of addition. A frozen parameter can be pulled once, before the first step. EQS_USAGE:
 * nothing new to pull (pulled before, or the last step was skipped).
 */
eqs_status eqs_pull(eqs_parameter *parameter, void *weight);

/* eqs_pull of several, in the order of the arrays. */
eqs_status eqs_pull_many(int64_t count, eqs_parameter *const *parameters, void *const *weights);

/* What the last step did. Not collective. */
eqs_status eqs_session_step_info(const eqs_session *session, eqs_step_info *info);

/*
 * Whether a checkpoint is to be written now, by the configuration's `checkpoint: {every: STEPS, minutes: T}`, at the
 * end of its `schedule`, or because the job is to stop (eqs_stop_requested). A run whose length only the trainer knows
 * asks for the last one itself. Not collective; the same answer on all trainers.
 */
int eqs_checkpoint_due(const eqs_session *session);

/*
 * Whether SIGTERM or SIGUSR1 has come to any rank of the job, by the last step: the trainer writes a checkpoint
 * (eqs_checkpoint_due says so), closes the session and ends. While a session with a checkpoint directory runs, these
 * signals do nothing else, unless the program handles them itself.
 * Not collective; the same answer on all trainers.
 */
int eqs_stop_requested(const eqs_session *session);

/*
 * Write a checkpoint, step-<step>.h5, into the configuration's checkpoint directory, then move `latest` to it and
 * remove those that are not to be kept. A checkpoint exists whole or not at all.
 *
 * The call returns when the owners have copied weights and state; they write while the training goes on. If that fails,
 * the next eqs_step, eqs_checkpoint or eqs_session_close does, with the reason; what is not whole by then never counts.
 * The next eqs_checkpoint and eqs_session_close wait for it. `checkpoint: {async: false}` writes before the call
 * returns, and saves the memory of the copy.
 *
 * session  [in]
 * items    [in] the trainer's own data; the first trainer's count
 * count    [in]
 *
 * Collective. EQS_IO: could not be written; earlier checkpoints are as they were. EQS_USAGE: called after the first
 * push of a step.
 */
eqs_status eqs_checkpoint(eqs_session *session, const eqs_trainer_item *items, int count);

/*
 * Bytes that the trainers handed over when the restored checkpoint was written.
 *
 * session  [in]
 * key      [in] of an item with per_trainer: "<key>@<trainer>", for as many trainers as there were then
 * bytes    [out] valid until eqs_session_close; NULL if there is no such key or nothing was restored
 * size     [out]
 *
 * Not collective.
 */
eqs_status eqs_trainer_data(const eqs_session *session, const char *key, const void **bytes, size_t *size);

/*
 * Seconds per phase, over ranks. "owner hidden" is the part of "owner receive", "owner update" and "owner send" that
 * was done while no trainer waited for it: before the trainers' eqs_step.
 *
 * session  [in]
 * phases   [out] `capacity` elements
 * count    [out] how many there are
 *
 * Collective.
 */
eqs_status eqs_session_phases(eqs_session *session, eqs_phase *phases, int capacity, int *count);

/* Bytes moved by this rank. Not collective. */
eqs_status eqs_session_traffic(const eqs_session *session, eqs_traffic *traffic);

/*
 * End the session; the owners' eqs_serve returns. Sets *session to NULL. After a failed collective
 * call nothing is exchanged any more. MPI_Finalize closes sessions that are still open.
 *
 * Collective.
 */
eqs_status eqs_session_close(eqs_session **session);

/*
 * Fingerprints of memory, to see whether somebody has written to it: of all bytes up to 16 KiB, of 16 KiB spread evenly
 * over what is larger: a contiguous part of 1/256 or more is met. Not collective.
 *
 * count         [in]
 * pointers      [in]  `count` of them; NULL has the fingerprint 0
 * sizes         [in]  bytes
 * fingerprints  [out]
 */
eqs_status eqs_fingerprints(int64_t count, const void *const *pointers, const size_t *sizes, uint64_t *fingerprints);

/*
 * For programs in languages that do not tell the library how they end: when the process exits with status 0, close the
 * sessions that are still open and, if `finalize`, call MPI_Finalize; with another status, end the whole job with it:
 * at once if a session is open here, else as mpirun does, when the other ranks have come to MPI_Finalize or after 20 s.
 * eqs_exit_status sets the status that counts instead of the process's. Not collective.
 */
eqs_status eqs_end_job_at_exit(MPI_Comm comm, int finalize);
void eqs_exit_status(int status);

/* Text of the last failure on this rank; "" if none. Valid until the next failure. */
const char *eqs_error_message(void);

/* Versions and paths of the libraries in use, one per line. Valid for the life of the process. */
const char *eqs_libraries(void);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
