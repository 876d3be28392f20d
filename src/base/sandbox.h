/*
 * Work in a process of its own, for files that nobody has to trust: HDF5 1.10 crashes on metadata whose contents are
 * wrong and whose checksums are right, or loops. There it does so without harm, and this process gets nothing but the
 * result.
 */
#ifndef EQS_BASE_SANDBOX_H
#define EQS_BASE_SANDBOX_H

#include "base/status.h"

/* What is done in the sandbox: it must not communicate. bytes  [out] the result, allocated with its size. */
typedef eqs_status (*eqs_sandbox_work)(void *job, char **bytes, int64_t *size);

typedef struct {
  const char *path; /* what is looked at, for messages */
  int64_t memory;   /* bytes that the work may allocate */
  int64_t seconds;  /* of the processor that it may use */
  int64_t largest;  /* bytes that its result may have */
} eqs_sandbox_limits;

/*
 * Have work(job) done in a child of this process.
 *
 * bytes, size  [out] the result, allocated
 *
 * The status and message of the work; EQS_DAMAGED: it crashed or exceeded a limit. Where no process can be made the
 * work is done in this one. Not collective.
 */
eqs_status eqs_sandbox_run(const eqs_sandbox_limits *limits, eqs_sandbox_work work, void *job, char **bytes,
                           int64_t *size);

#endif
