/*
 * Messages on standard error, each line prefixed with "equishard: ". `eqs_log` speaks for this rank
 * alone; what concerns the job is said by one rank, and the caller sees to that.
 */
#ifndef EQS_BASE_LOG_H
#define EQS_BASE_LOG_H

/* EQS_LOG_DEBUG: printed only where the environment has EQUISHARD_LOG=debug. */
typedef enum { EQS_LOG_DEBUG, EQS_LOG_INFO, EQS_LOG_WARNING, EQS_LOG_ERROR } eqs_log_level;

/* One write(2) per message, so that lines of several ranks do not mix. */
void eqs_log(eqs_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
