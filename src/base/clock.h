/* Time, and waiting without keeping a core busy. */
#ifndef EQS_BASE_CLOCK_H
#define EQS_BASE_CLOCK_H

/* Seconds of a clock that never goes back. */
double eqs_clock(void);

/*
 * Wait a moment between two looks at something that another rank will do. The first looks follow each
 * other at once, then the processor is offered to others, then it sleeps 20 µs to 1 ms at a time.
 *
 * looks  [in, out] how often it was looked; 0 at first
 */
void eqs_backoff(int *looks);

#endif
