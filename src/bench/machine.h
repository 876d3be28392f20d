/* The machine in words, for reports of what was measured on it. */
#ifndef EQS_BENCH_MACHINE_H
#define EQS_BENCH_MACHINE_H

#include <stddef.h>

/* "AMD EPYC, 2 cores, Linux 6.1.0, BLIS kernels zen3" */
void eqs_machine_text(char *text, size_t size);

#endif
