/*
 * The end of a trainer's process: sessions that are open are closed, and owners hear of it. Where a language does not
 * tell the library how the process ends (nobody knows Python's exit status), eqs_end_job_at_exit does too.
 */
#ifndef EQS_SERVICE_ENDING_H
#define EQS_SERVICE_ENDING_H

#include "base/status.h"

/* Have MPI_Finalize close open sessions, whoever calls it. Not collective. */
eqs_status eqs_watch_finalize(void);

#endif
