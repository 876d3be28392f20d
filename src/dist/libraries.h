/* Which libraries answer: BLIS must be the BLAS that ScaLAPACK calls. */
#ifndef EQS_DIST_LIBRARIES_H
#define EQS_DIST_LIBRARIES_H

#include "base/status.h"

/*
 * File of the shared library that a BLAS call ("sgemm_", "dgemm_") of `caller` ends in; caller is part of a
 * loaded library's file name ("libscalapack", "libequishard"), and the answer is read from its
 * relocation table, not from a new symbol search. NULL if it is not loaded or has no such call.
 */
const char *eqs_library_answering(const char *caller, const char *symbol);

#endif
