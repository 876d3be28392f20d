/* Names that a parameter can have. */
#ifndef EQS_MODEL_PARAMETER_NAME_H
#define EQS_MODEL_PARAMETER_NAME_H

#include "base/status.h"

/*
 * Whether a checkpoint can have a parameter of this name. EQS_USAGE: it is NULL or empty, ".", or has a '/', which
 * separates groups in HDF5; the message says what to call it.
 */
eqs_status eqs_check_parameter_name(const char *name);

#endif
